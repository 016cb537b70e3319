-- The statements that create the triggers of one member of a tracked table: $1 = id of the tracked table,
-- $2 = the member, $3 = what they capture: statements, rows or truncate. They replace none that is somebody's.
WITH member AS (
    SELECT format('%I.%I', n.nspname, c.relname) AS name,
           CASE WHEN c.oid <> t.relation THEN '_' || t.id ELSE '' END AS suffix
      FROM table_export.tracked AS t, pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE t.id = $1 AND c.oid = $2
), trigger (event, transition) AS (
    VALUES ('insert', 'REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT'),
           ('update', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT'),
           ('delete', 'REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT'),
           ('truncate', 'FOR EACH STATEMENT')
)
SELECT format('CREATE %sTRIGGER %I AFTER %s ON %s %s EXECUTE FUNCTION table_export.capture(%L)',
              CASE WHEN o.tgname IS NOT NULL THEN 'OR REPLACE ' END,
              'pg_table_export_' || g.event || m.suffix, g.event, m.name,
              CASE WHEN $3 = 'rows' AND g.event <> 'truncate' THEN 'FOR EACH ROW'
                   WHEN $3 = 'truncate' THEN 'FOR EACH STATEMENT'
                   ELSE g.transition END, $1)
  FROM member AS m
 CROSS JOIN trigger AS g
  LEFT JOIN pg_trigger AS o
    ON o.tgrelid = $2 AND o.tgname = 'pg_table_export_' || g.event || m.suffix
   AND o.tgfoid = 'table_export.capture()'::regprocedure
