-- The constraints of a table ($1) that no other table has a part in: where each is, its clause, and whether
-- it is valid.
SELECT 'pg_constraint', c.oid, format('CONSTRAINT %I %s', c.conname, pg_get_constraintdef(c.oid)),
       c.convalidated
  FROM pg_constraint AS c
 WHERE c.conrelid = $1 AND c.contype IN ('p', 'u', 'x', 'c')
 ORDER BY array_position('{p,u,x,c}'::"char"[], c.contype), c.conname
