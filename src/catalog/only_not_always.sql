-- The statements that make the triggers of a tracked table, $1, ENABLE ALWAYS; none if any of them is missing
-- or disabled.
WITH trigger AS (
    SELECT m.relation, g.tgname, g.tgenabled
      FROM table_export.member AS m
      LEFT JOIN pg_trigger AS g
        ON g.tgrelid = m.relation
       AND g.tgfoid = 'table_export.capture()'::regprocedure
       AND g.tgargs = convert_to(m.tracked::text, 'UTF8') || '\x00'::bytea
     WHERE m.tracked = $1
)
SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', relation::regclass, tgname)
  FROM trigger
 WHERE tgenabled IN ('O', 'R')
   AND NOT EXISTS (SELECT FROM trigger GROUP BY relation
                   HAVING count(*) < 4 OR bool_or(tgenabled IS NULL OR tgenabled = 'D'))
 ORDER BY relation::regclass::text, tgname
