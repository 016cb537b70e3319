-- The types of users that the columns of a table, $1, are of, and the extension of each with its schema.
SELECT DISTINCT format_type(b.oid, NULL), e.extname, n.nspname
  FROM pg_attribute AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
 CROSS JOIN LATERAL (SELECT CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END) AS b (oid)
  LEFT JOIN pg_depend AS d
    ON d.classid = 'pg_type'::regclass AND d.objid = b.oid AND d.deptype = 'e'
  LEFT JOIN pg_extension AS e ON e.oid = d.refobjid
  LEFT JOIN pg_namespace AS n ON n.oid = e.extnamespace
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND b.oid >= 16384
 ORDER BY 1
