-- The targets that this database exports to: who publishes each, where its last batch is, and whether its
-- last export is older than usual. Usual is what nine tenths of the last twenty intervals between batches
-- stayed within, of ten at least. Twice as long is late, and nothing is within five minutes.
SELECT t.name, t.number, t.system_identifier, t.database, b.store,
       to_char(t.position_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       date_trunc('second', now() - t.position_at),
       date_trunc('second', u.usual),
       COALESCE(u.intervals >= 10 AND now() - t.position_at > greatest(2 * u.usual, '5 minutes'), false),
       (SELECT l.pid
          FROM pg_locks AS l
         WHERE l.locktype = 'object' AND l.granted AND l.classid = 'table_export.target'::regclass
           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND l.objid::int8 = h.hash & 4294967295 AND l.objsubid = (h.hash >> 32) & 32767
         LIMIT 1),
       COALESCE(b.exported_at < pg_conf_load_time(), false)
  FROM table_export.target AS t
  LEFT JOIN table_export.batch AS b ON b.target = t.name AND b.number = t.number
 CROSS JOIN LATERAL (SELECT hashtextextended('export ' || t.name, 0) AS hash) AS h
 CROSS JOIN LATERAL (
       SELECT count(i.length) AS intervals, percentile_disc(0.9) WITHIN GROUP (ORDER BY i.length) AS usual
         FROM (SELECT l.exported_at - lag(l.exported_at) OVER (ORDER BY l.number) AS length
                 FROM (SELECT number, exported_at FROM table_export.batch
                        WHERE target = t.name ORDER BY number DESC LIMIT 21) AS l) AS i) AS u
 ORDER BY t.name
