-- What a relation is: $1 = oid
SELECT n.nspname,
       c.relname,
       c.relkind,
       c.relpersistence,
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'table_export') OR c.oid < 16384,
       c.relispartition OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i
                                    WHERE i.inhrelid = c.oid OR i.inhparent = c.oid),
       EXISTS (SELECT FROM pg_catalog.pg_subscription_rel AS s WHERE s.srrelid = c.oid)
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = $1::pg_catalog.oid
