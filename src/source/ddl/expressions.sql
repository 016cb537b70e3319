-- The defaults and generated columns of a table ($1): where each is, the number of its column, and its
-- clause. Left out are those that need a sequence, which their text shows if it is called by name.
SELECT 'pg_attrdef', d.oid, d.adnum,
       CASE a.attgenerated WHEN 's' THEN format('GENERATED ALWAYS AS (%s) STORED', e.text)
                           WHEN 'v' THEN format('GENERATED ALWAYS AS (%s) VIRTUAL', e.text)
                           ELSE format('DEFAULT %s', e.text) END
  FROM pg_attrdef AS d
  JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
 CROSS JOIN LATERAL pg_get_expr(d.adbin, d.adrelid) AS e (text)
 WHERE d.adrelid = $1
   AND e.text !~ '\m(nextval|currval|setval|lastval)\('
   AND NOT EXISTS (SELECT FROM pg_depend AS dep
                     JOIN pg_class AS s ON s.oid = dep.refobjid AND s.relkind = 'S'
                    WHERE dep.classid = 'pg_attrdef'::regclass AND dep.objid = d.oid
                      AND dep.refclassid = 'pg_class'::regclass)
