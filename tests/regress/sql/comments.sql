-- Every object of the extension has a comment. What is listed here has none.
WITH member AS (
    SELECT d.classid, d.objid
      FROM pg_depend AS d JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
     WHERE e.extname = 'pg_table_export' AND d.deptype = 'e'
), object AS (
    SELECT classid, objid, 0 AS objsubid FROM member
    UNION ALL
    SELECT m.classid, m.objid, a.attnum
      FROM member AS m JOIN pg_class AS c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid AND c.relkind IN ('r', 'v')
      JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
)
SELECT i.type, i.identity
  FROM object AS o CROSS JOIN pg_identify_object(o.classid, o.objid, o.objsubid) AS i
 WHERE NOT EXISTS (SELECT FROM pg_description AS d WHERE (d.classoid, d.objoid, d.objsubid) = (o.classid, o.objid, o.objsubid))
   AND i.type NOT IN ('type', 'view rule', 'rule')
 ORDER BY i.type, i.identity COLLATE "C";

-- What there is, for people: psql says it all.
\dx pg_table_export
\df tx_*
\dv tx_*
\dn table_export
\dt table_export.*
SELECT p.proname, obj_description(p.oid) FROM pg_proc AS p WHERE p.proname LIKE 'tx\_%' ORDER BY 1;

LOAD 'pg_table_export';
-- The settings describe themselves.
SELECT name, context, vartype, short_desc, extra_desc FROM pg_settings WHERE name LIKE 'pg\_table\_export.%' AND name <> 'pg_table_export.wait_at';
SET pg_table_export.no_such_setting = 1;
