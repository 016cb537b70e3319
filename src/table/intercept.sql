-- The triggers and rules that fire when an import writes to a table, how to disable each, and whether it may
-- fire at the commit only: $1 = oid
--
-- An import writes under session_replication_role = replica. A trigger of a partition that was made with one
-- of the table is not a second one. Constraints check and never change, and the extension's own triggers only
-- record.
WITH relation AS (
    SELECT $1 AS oid
     UNION
    SELECT relid FROM pg_partition_tree($1)
), firing AS (
    SELECT t.oid, t.tgparentid, t.tgrelid, t.tgname, t.tgdeferrable
      FROM relation AS r
      JOIN pg_class AS c ON c.oid = r.oid AND c.relhastriggers
      JOIN pg_trigger AS t ON t.tgrelid = r.oid AND t.tgenabled IN ('A', 'R')
      JOIN pg_proc AS p ON p.oid = t.tgfoid
      JOIN pg_namespace AS n ON n.oid = p.pronamespace AND n.nspname <> 'table_export'
     WHERE NOT (t.tgisinternal AND t.tgconstraint <> 0)
       AND t.tgtype & 28 <> 0 -- INSERT, DELETE or UPDATE
), fires AS (
    SELECT 'trigger' AS what, f.tgrelid AS relation, f.tgname AS name, f.tgdeferrable AS is_deferrable
      FROM firing AS f
     WHERE NOT EXISTS (SELECT FROM firing AS p WHERE p.oid = f.tgparentid)
     UNION ALL
    SELECT 'rule', ev_class, rulename, false
      FROM pg_rewrite
     WHERE ev_class = $1 AND ev_type IN ('2', '3', '4') AND ev_enabled IN ('A', 'R')
)
SELECT format('%s "%s" of "%s.%s"', f.what, f.name, n.nspname, c.relname),
       format('ALTER TABLE %I.%I DISABLE %s %I', n.nspname, c.relname, upper(f.what), f.name),
       f.is_deferrable
  FROM fires AS f
  JOIN pg_class AS c ON c.oid = f.relation
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 ORDER BY n.nspname, c.relname, f.name
