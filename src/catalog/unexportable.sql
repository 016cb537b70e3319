-- The tracked tables that cannot be exported any more, and why: the first reason that an export would give. A
-- query "altered" comes before, with what differs in shadows.
SELECT t.id, n.nspname, c.relname, w.reason, a.difference, o.rolname
  FROM table_export.tracked AS t
  JOIN (SELECT m.tracked, bool_and(m.is_intact) AS is_intact, bool_or(k.relpersistence = 'u') AS has_unlogged
          FROM table_export.member AS m LEFT JOIN pg_class AS k ON k.oid = m.relation
         GROUP BY m.tracked) AS m ON m.tracked = t.id
  JOIN pg_class AS c ON c.oid = t.relation
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_roles AS o ON o.oid = c.relowner
  LEFT JOIN (SELECT id, min(difference) AS difference FROM altered GROUP BY id) AS a ON a.id = t.id
 CROSS JOIN LATERAL (
       SELECT to_regclass(format('table_export.shadow_%s_0', t.id)) AS first,
              to_regclass(format('table_export.shadow_%s_1', t.id)) AS second) AS s
 CROSS JOIN LATERAL (
       -- The columns of the key: by number, or by name after a restore. The shadow has them from its fourth
       -- column on, without their domains.
       SELECT count(*) = cardinality(t.key) AND bool_and(a.attnotnull AND b.oid = sa.atttypid)
              AND EXISTS (SELECT FROM pg_index AS i
                            JOIN pg_class AS ic ON ic.oid = i.indexrelid
                            JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
                           WHERE i.indrelid = t.relation AND i.indisunique AND i.indisvalid
                             AND i.indpred IS NULL AND i.indexprs IS NULL
                             AND ARRAY(SELECT unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1)
                                 = array_agg(a.attnum ORDER BY a.attnum)) AS is_valid
         FROM ROWS FROM (unnest(t.key), unnest(t.key_names))
                        WITH ORDINALITY AS u (attnum, name, position)
         JOIN pg_attribute AS a
           ON a.attrelid = t.relation AND NOT a.attisdropped
          AND CASE WHEN t.relation_oid = t.relation THEN a.attnum = u.attnum ELSE a.attname = u.name END
         JOIN pg_type AS y ON y.oid = a.atttypid
        CROSS JOIN LATERAL (
              WITH RECURSIVE base (oid, typtype, typbasetype) AS (
                  SELECT y.oid, y.typtype, y.typbasetype
                   UNION ALL
                  SELECT p.oid, p.typtype, p.typbasetype
                    FROM base AS d JOIN pg_type AS p ON p.oid = d.typbasetype
                   WHERE d.typtype = 'd'
              )
              SELECT base.oid FROM base WHERE base.typtype <> 'd') AS b
         LEFT JOIN pg_attribute AS sa ON sa.attrelid = s.first AND sa.attnum = 3 + u.position) AS k
 CROSS JOIN LATERAL (
       SELECT CASE WHEN s.first IS NULL OR s.second IS NULL THEN 'no shadow'
                   WHEN c.relpersistence <> 'p' THEN 'unlogged'
                   WHEN c.relkind = 'p' AND m.has_unlogged THEN 'unlogged partition'
                   WHEN NOT has_schema_privilege(c.relowner, n.oid, 'USAGE')
                    AND NOT EXISTS (SELECT FROM table_export.restriction AS r
                                     WHERE r.relation = t.relation AND r.view IS NOT NULL) THEN 'schema'
                   WHEN c.relrowsecurity AND c.relforcerowsecurity
                    AND NOT o.rolsuper AND NOT o.rolbypassrls THEN 'row security'
                   WHEN k.is_valid IS NOT TRUE THEN 'key'
                   WHEN NOT has_table_privilege(c.relowner, s.first, 'SELECT') THEN 'owner'
                   WHEN a.difference IS NOT NULL THEN 'altered'
                   WHEN NOT m.is_intact THEN 'triggers' END AS reason) AS w
 WHERE w.reason IS NOT NULL
 ORDER BY t.id
