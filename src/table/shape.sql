-- What a relation is: $1 = oid
SELECT n.nspname,
       c.relname,
       c.relkind,
       c.relpersistence,
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'table_export') OR c.oid < 16384
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = $1
