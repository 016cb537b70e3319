-- What the expressions of an object depend on, beside schemas and tables: $1 = oid of the object, $2 = its
-- catalog.
SELECT DISTINCT c.relname, d.refobjid, o.type || ' ' || o.identity
  FROM pg_depend AS d
  JOIN pg_class AS c ON c.oid = d.refclassid
 CROSS JOIN LATERAL pg_identify_object(d.refclassid, d.refobjid, 0) AS o
 WHERE d.classid = $2::regclass AND d.objid = $1 AND d.deptype = 'n' AND d.refobjid >= 16384
   AND c.relname NOT IN ('pg_namespace', 'pg_class', 'pg_constraint')
 ORDER BY 3
