-- The columns of a relation: $1 = oid
SELECT a.attnum,
       a.attname,
       format_type(a.atttypid, NULL),
       a.atttypmod,
       format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> t.typcollation
            THEN format('%I.%I', cn.nspname, co.collname) END,
       a.attnotnull,
       a.attgenerated <> '',
       a.atttypid
  FROM pg_attribute AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_collation AS co ON co.oid = a.attcollation
  LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
