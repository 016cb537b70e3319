-- The extension that an object is part of, or those that an extension requires: $1 = oid of the object,
-- $2 = its catalog.
SELECT e.oid, e.extname, n.nspname
  FROM pg_depend AS d
  JOIN pg_extension AS e ON e.oid = d.refobjid
  JOIN pg_namespace AS n ON n.oid = e.extnamespace
 WHERE d.classid = $2::regclass AND d.objid = $1 AND d.objsubid = 0
   AND d.refclassid = 'pg_extension'::regclass
   AND d.deptype = CASE $2 WHEN 'pg_extension' THEN 'n' ELSE 'e' END
 ORDER BY e.extname
