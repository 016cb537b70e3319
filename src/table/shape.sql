-- What a relation is: $1 = oid
SELECT n.nspname,
       c.relname,
       c.relkind,
       c.relpersistence,
       n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast', 'table_export') OR c.oid < 16384,
       c.relispartition,
       (SELECT e.extname
          FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
           AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.oid = $1
