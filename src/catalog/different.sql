-- The tables that differed from the store when they were compared last: copies, and tables of a source. One
-- that has been sent in full since counts no more.
SELECT p.relation, p.target, p.number, p.missing, p.extra, p.different,
       to_char(p.verified_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       c.schema, c.name
  FROM table_export.proof AS p
  JOIN pg_class AS k ON k.oid = p.relation
  LEFT JOIN table_export.copy AS c ON c.target = p.target AND c.relation = p.relation
  LEFT JOIN table_export.tracked AS t ON t.relation = p.relation
  LEFT JOIN table_export.target_table AS r ON r.target = p.target AND r.tracked = t.id
 WHERE NOT p.equal
   AND CASE WHEN c.relation IS NOT NULL THEN c.since <= p.number ELSE r.number <= p.number END
 ORDER BY p.target, p.relation::text
