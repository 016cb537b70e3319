-- The copies whose rows their owner cannot reach, as whom imports write: for want of USAGE on the schema, or
-- because row security applies to the owner.
SELECT n.nspname, k.relname, o.rolname, has_schema_privilege(k.relowner, n.oid, 'USAGE')
  FROM table_export.copy AS c
  JOIN pg_class AS k ON k.oid = c.relation
  JOIN pg_namespace AS n ON n.oid = k.relnamespace
  JOIN pg_roles AS o ON o.oid = k.relowner
 WHERE c.not_sent_since IS NULL
   AND (NOT has_schema_privilege(k.relowner, n.oid, 'USAGE')
        OR (k.relrowsecurity AND k.relforcerowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls))
 ORDER BY n.nspname, k.relname
