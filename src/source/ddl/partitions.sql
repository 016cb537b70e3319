-- The partitions of a table ($1) at all levels, parents first, each with the statement that attaches it.
SELECT c.oid,
       format('ALTER TABLE ONLY %I.%I ATTACH PARTITION %I.%I %s;', pn.nspname, parent.relname,
              n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid))
  FROM pg_partition_tree($1) AS p
  JOIN pg_class AS c ON c.oid = p.relid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_class AS parent ON parent.oid = p.parentrelid
  JOIN pg_namespace AS pn ON pn.oid = parent.relnamespace
 WHERE p.level > 0
 ORDER BY p.level, n.nspname, c.relname
