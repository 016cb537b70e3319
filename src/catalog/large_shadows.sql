-- The shadows that fill at least 80 percent of a limit, and who keeps them: $1 = the limit, in bytes.
--
-- An export releases the targets that need the idle segment as soon as the current one fills half of the
-- limit. So while a target needs the idle segment, twice the current one counts.
WITH shadow AS MATERIALIZED (
    SELECT t.id, t.relation, t.sealed_by < pg_snapshot_xmax(pg_current_snapshot()) AS is_sealed, t.sealed_by,
           g.idle, b.current_bytes, b.idle_bytes
      FROM table_export.tracked AS t
     CROSS JOIN LATERAL (
           SELECT to_regclass(format('table_export.shadow_%s_%s', t.id, t.segment)) AS current,
                  to_regclass(format('table_export.shadow_%s_%s', t.id, 1 - t.segment)) AS idle) AS g
     CROSS JOIN LATERAL (
           SELECT COALESCE(pg_relation_size(g.current), 0) AS current_bytes,
                  COALESCE(pg_relation_size(g.idle), 0) AS idle_bytes) AS b
     WHERE greatest(b.current_bytes + b.idle_bytes, 2 * b.current_bytes) >= 0.8 * $1
), lock AS MATERIALIZED (
    -- An export or an import under way holds a lock of its target as well, and ends by itself.
    SELECT DISTINCT l.relation, l.pid, p.gid
      FROM pg_locks AS l
      LEFT JOIN pg_locks AS x ON l.pid IS NULL AND x.pid IS NULL
                             AND x.virtualtransaction = l.virtualtransaction AND x.transactionid IS NOT NULL
      LEFT JOIN pg_prepared_xacts AS p ON p.transaction = x.transactionid
     WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.relation IN (SELECT idle FROM shadow)
       AND NOT EXISTS (SELECT FROM pg_locks AS o
                        WHERE o.pid = l.pid AND o.locktype = 'object'
                          AND o.classid = 'table_export.target'::regclass)
)
SELECT n.nspname, c.relname, floor(f.percent)::int8, to_json(h.targets),
       (SELECT p.name
          FROM table_export.target AS p
          JOIN table_export.target_table AS m ON m.target = p.name AND m.tracked = s.id
         WHERE p.xmin = p.written_by::xid
         ORDER BY pg_snapshot_xmax(p.position), p.name
         LIMIT 1),
       to_json(u.names), to_json(u.statements)
  FROM shadow AS s
  JOIN pg_class AS c ON c.oid = s.relation
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT ARRAY(SELECT p.name
                      FROM table_export.target AS p
                      JOIN table_export.target_table AS m ON m.target = p.name AND m.tracked = s.id
                     WHERE p.xmin = p.written_by::xid AND s.is_sealed
                       AND NOT pg_visible_in_snapshot(s.sealed_by, p.position)
                     ORDER BY p.name) AS targets) AS h
 CROSS JOIN LATERAL (
       SELECT 100 * CASE WHEN h.targets = '{}' THEN s.current_bytes + s.idle_bytes
                         ELSE greatest(s.current_bytes + s.idle_bytes, 2 * s.current_bytes) END
              / greatest($1, 1) AS percent) AS f
 CROSS JOIN LATERAL (
       SELECT COALESCE(array_agg(CASE WHEN l.pid IS NOT NULL THEN format('process %s', l.pid)
                                      ELSE format('prepared transaction "%s"', l.gid) END
                                 ORDER BY l.pid, l.gid), '{}') AS names,
              COALESCE(array_agg(CASE WHEN l.pid IS NOT NULL
                                      THEN format('SELECT pg_terminate_backend(%s);', l.pid)
                                      ELSE format('ROLLBACK PREPARED %L;', l.gid) END
                                 ORDER BY l.pid, l.gid), '{}') AS statements
         FROM lock AS l
        WHERE (l.pid IS NOT NULL OR l.gid IS NOT NULL)
          AND l.relation = s.idle AND s.idle_bytes > 0 AND s.is_sealed IS NOT TRUE) AS u
 WHERE f.percent >= 80
 ORDER BY f.percent DESC, s.id
