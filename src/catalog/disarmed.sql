-- The tracked tables of which a member that the DDL command has just touched lacks some of its triggers, or has
-- them disabled. The bits of tgtype are those of the four events (pg_trigger.h).
WITH touched AS (
    SELECT COALESCE(g.tgrelid, c.objid) AS relation
      FROM pg_event_trigger_ddl_commands() AS c
      LEFT JOIN pg_trigger AS g ON c.classid = 'pg_trigger'::regclass AND g.oid = c.objid
     WHERE c.classid IN ('pg_class'::regclass, 'pg_trigger'::regclass)
), disarmed AS (
    SELECT d.relation, g.tgargs
      FROM (SELECT DISTINCT relation FROM touched) AS d
      JOIN pg_trigger AS g ON g.tgrelid = d.relation AND g.tgfoid = 'table_export.capture()'::regprocedure
     GROUP BY d.relation, g.tgargs
    HAVING COALESCE(bit_or(g.tgtype & 60) FILTER (WHERE g.tgenabled = 'A'), 0) <> 60
)
SELECT DISTINCT t.id, t.relation::oid
  FROM disarmed AS d
  JOIN table_export.tracked AS t ON d.tgargs = convert_to(t.id::text, 'UTF8') || '\x00'::bytea
 WHERE EXISTS (SELECT FROM table_export.member AS m WHERE m.tracked = t.id AND m.relation = d.relation)
