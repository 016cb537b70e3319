-- The tracked tables in the order of their locks, and whether all four triggers of each are in place
SELECT t.id,
       t.relation::pg_catalog.oid,
       t.relation_oid,
       pg_catalog.to_json(t.key),
       pg_catalog.to_json(t.key_names),
       (SELECT pg_catalog.count(DISTINCT g.tgtype) = 4
          FROM pg_catalog.pg_trigger AS g
          JOIN pg_catalog.pg_proc AS p ON p.oid = g.tgfoid
         WHERE g.tgrelid = t.relation
           AND p.proname = 'capture' AND p.pronamespace = 'table_export'::pg_catalog.regnamespace
           AND g.tgenabled = 'A'
           AND g.tgargs = pg_catalog.convert_to(t.id::pg_catalog.text, 'UTF8') || '\x00'::pg_catalog.bytea)
  FROM table_export.tracked AS t
 ORDER BY t.id
