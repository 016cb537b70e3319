-- How a collation of a user ($1) is made: its name, its schema, and the statement. The columns for the locale
-- have other names in other versions of PostgreSQL.
SELECT format('%I.%I', n.nspname, c.collname), n.nspname,
       format('CREATE COLLATION IF NOT EXISTS %I.%I (PROVIDER = %s, %s%s%s);', n.nspname, c.collname,
              CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END,
              CASE WHEN c.collprovider = 'c'
                   THEN format('LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate, c.collctype)
                   ELSE format('LOCALE = %L',
                               COALESCE(j ->> 'colllocale', j ->> 'colliculocale', c.collcollate)) END,
              CASE WHEN NOT c.collisdeterministic THEN ', DETERMINISTIC = false' END,
              ', RULES = ' || quote_literal(NULLIF(j ->> 'collicurules', '')))
  FROM pg_collation AS c
  JOIN pg_namespace AS n ON n.oid = c.collnamespace
 CROSS JOIN LATERAL to_jsonb(c) AS j
 WHERE c.oid = $1 AND n.nspname <> 'pg_catalog'
