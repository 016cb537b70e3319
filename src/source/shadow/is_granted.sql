-- Whether a role, $1, has been granted what it needs to read shadows, beside SELECT on them.
SELECT pg_catalog.bool_and(EXISTS (
           SELECT FROM pg_catalog.aclexplode(o.acl) AS a
            WHERE pg_catalog.pg_get_userbyid(a.grantee) = $1::pg_catalog.name))
  FROM (SELECT nspacl FROM pg_catalog.pg_namespace WHERE nspname = 'table_export'
         UNION ALL
        SELECT proacl FROM pg_catalog.pg_proc
         WHERE oid IN ('table_export.series(integer, integer)'::pg_catalog.regprocedure,
                       'table_export.series(bigint, bigint)'::pg_catalog.regprocedure)) AS o (acl)
