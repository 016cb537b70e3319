-- The indexes of a table ($1) that no constraint makes, and then its comments: where an index is, and the
-- statement.
SELECT 'pg_class', i.indexrelid, pg_get_indexdef(i.indexrelid) || ';', 0 AS place, c.relname AS name
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE i.indrelid = $1 AND (i.indisvalid OR c.relkind = 'I')
   AND NOT EXISTS (SELECT FROM pg_constraint AS con
                    WHERE con.conindid = i.indexrelid AND con.contype IN ('p', 'u', 'x'))
 UNION ALL
SELECT NULL, NULL,
       format('COMMENT ON %s %I.%I%s IS %s;', CASE WHEN d.objsubid = 0 THEN 'TABLE' ELSE 'COLUMN' END,
              n.nspname, c.relname, '.' || quote_ident(a.attname), quote_literal(d.description)),
       1 + d.objsubid, ''
  FROM pg_description AS d
  JOIN pg_class AS c ON c.oid = d.objoid
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
 WHERE d.classoid = 'pg_class'::regclass AND d.objoid = $1
 ORDER BY place, name
