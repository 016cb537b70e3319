-- The copies that do not follow their target: those that are not sent any more, those that are gone, those
-- that need a full part first, and those that lack values.
SELECT c.relation, c.target, c.schema, c.name, w.reason,
       c.not_sent_since, array_to_string(c.stale_columns, ', '),
       to_char(c.shows AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  FROM table_export.copy AS c
  LEFT JOIN pg_class AS k ON k.oid = c.relation
 CROSS JOIN LATERAL (
       SELECT CASE WHEN c.not_sent_since IS NOT NULL THEN CASE WHEN k.oid IS NOT NULL THEN 'not sent' END
                   WHEN k.oid IS NULL THEN 'dropped'
                   WHEN c.since IS NULL THEN 'not filled'
                   WHEN c.stale_columns IS NOT NULL THEN 'stale columns' END AS reason) AS w
 WHERE w.reason IS NOT NULL
 ORDER BY c.target, c.relation::text
