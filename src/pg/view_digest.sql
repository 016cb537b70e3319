-- A digest of the definition of a view: $1 = oid
SELECT md5(concat_ws(' ', pg_get_viewdef($1), string_agg(DISTINCT u.used, ' ' ORDER BY u.used)))
  FROM pg_rewrite AS r
  JOIN pg_depend AS d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
  LEFT JOIN pg_operator AS o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  LEFT JOIN pg_proc AS p
    ON p.oid = CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid
                                 WHEN 'pg_operator'::regclass THEN o.oprcode END
 CROSS JOIN LATERAL (
       SELECT CASE WHEN p.oid IS NOT NULL THEN format('function %s %s', p.oid, p.xmin)
                   WHEN d.refobjsubid <> 0 THEN 'column ' || d.refobjsubid END) AS u (used)
 WHERE r.ev_class = $1
