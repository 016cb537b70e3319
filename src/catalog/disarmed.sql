-- The tracked tables for which a table that the DDL command has just touched lacks some of its triggers, or has
-- them disabled.
SELECT DISTINCT t.id, t.relation::oid
  FROM (SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
         UNION
        SELECT g.tgrelid
          FROM pg_event_trigger_ddl_commands() AS c JOIN pg_trigger AS g ON g.oid = c.objid
         WHERE c.classid = 'pg_trigger'::regclass) AS touched (relation)
  JOIN pg_trigger AS g ON g.tgrelid = touched.relation AND g.tgfoid = 'table_export.capture()'::regprocedure
  JOIN table_export.tracked AS t ON g.tgargs = convert_to(t.id::text, 'UTF8') || '\x00'::bytea
 GROUP BY t.id, touched.relation
HAVING COALESCE(bit_or(g.tgtype & 60) FILTER (WHERE g.tgenabled = 'A'), 0) <> 60
