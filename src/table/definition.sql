-- What a type is made of, a row for each type that is part of it: $1 = oid, $2 = its modifier
SELECT 'domain' AS kind, 0 AS place, NULL AS name, t.typbasetype AS part,
       format_type(t.typbasetype, NULL), t.typtypmod
  FROM pg_type AS t WHERE t.oid = $1 AND t.typtype = 'd'
 UNION ALL
SELECT 'array', 0, NULL, e.oid, format_type(e.oid, NULL), $2
  FROM pg_type AS t JOIN pg_type AS e ON e.oid = t.typelem AND e.typarray = t.oid WHERE t.oid = $1
 UNION ALL
SELECT 'range', 0, NULL, r.rngsubtype, format_type(r.rngsubtype, NULL), -1
  FROM pg_range AS r WHERE r.rngtypid = $1
 UNION ALL
SELECT 'multirange', 0, NULL, r.rngtypid, format_type(r.rngtypid, NULL), -1
  FROM pg_range AS r WHERE r.rngmultitypid = $1
 UNION ALL
SELECT 'composite', a.attnum, a.attname, a.atttypid, format_type(a.atttypid, NULL), a.atttypmod
  FROM pg_type AS t JOIN pg_attribute AS a ON a.attrelid = t.typrelid
 WHERE t.oid = $1 AND t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped
 UNION ALL
SELECT 'enum', 0, NULL, t.oid, format_type(t.oid, NULL), -1
  FROM pg_type AS t WHERE t.oid = $1 AND t.typtype = 'e'
 ORDER BY place
