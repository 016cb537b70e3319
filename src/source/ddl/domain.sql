-- What a domain ($1) asks of its values: where each clause may depend on other objects, and the statement.
SELECT 'pg_type', t.oid, format('ALTER DOMAIN %I.%I %s;', n.nspname, t.typname, clause.text)
  FROM pg_type AS t
  JOIN pg_namespace AS n ON n.oid = t.typnamespace
 CROSS JOIN LATERAL (VALUES ('SET DEFAULT ' || pg_get_expr(t.typdefaultbin, 0)),
                            (CASE WHEN t.typnotnull THEN 'SET NOT NULL' END)) AS clause (text)
 WHERE t.oid = $1 AND t.typtype = 'd' AND clause.text IS NOT NULL
 UNION ALL
SELECT 'pg_constraint', c.oid,
       format('ALTER DOMAIN %I.%I ADD CONSTRAINT %I %s;', n.nspname, t.typname, c.conname,
              pg_get_constraintdef(c.oid))
  FROM pg_constraint AS c
  JOIN pg_type AS t ON t.oid = c.contypid
  JOIN pg_namespace AS n ON n.oid = t.typnamespace
 WHERE c.contypid = $1 AND c.contype = 'c'
 ORDER BY 1 DESC, 3
