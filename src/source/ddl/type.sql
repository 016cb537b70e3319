-- How a type of a user ($1) is made: its name and its schema; the statement, null if the type comes with
-- another one, or cannot be made; what must be made before, types and collations; the table whose rows its
-- values are; what of the type the statement leaves out.
WITH one AS (
    SELECT t.*, n.nspname, format('%I.%I', n.nspname, t.typname) AS name
      FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
     WHERE t.oid = $1
), collate_by (oid, name) AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.collname)
      FROM pg_collation AS c JOIN pg_namespace AS n ON n.oid = c.collnamespace
), made (statement, types, collations, relation, lacks) AS (
    SELECT format('CREATE TYPE %s AS ENUM (%s);', one.name,
                  (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                     FROM pg_enum AS e WHERE e.enumtypid = one.oid)),
           '{}'::oid[], '{}'::oid[], NULL::oid, NULL::text
      FROM one WHERE one.typtype = 'e'
     UNION ALL
    SELECT format('CREATE DOMAIN %s AS %s%s;', one.name, format_type(one.typbasetype, one.typtypmod),
                  ' COLLATE ' || c.name),
           ARRAY[one.typbasetype], ARRAY[one.typcollation], NULL, NULL
      FROM one
      JOIN pg_type AS base ON base.oid = one.typbasetype
      LEFT JOIN collate_by AS c ON c.oid = one.typcollation AND one.typcollation <> base.typcollation
     WHERE one.typtype = 'd'
     UNION ALL
    SELECT format('CREATE TYPE %s AS (%s);', one.name, a.list), a.types, a.collations,
           (SELECT c.oid FROM pg_class AS c WHERE c.oid = one.typrelid AND c.relkind <> 'c'), NULL
      FROM one
     CROSS JOIN LATERAL (
        SELECT string_agg(format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod),
                                 ' COLLATE ' || c.name), ', ' ORDER BY a.attnum),
               array_agg(a.atttypid ORDER BY a.attnum), array_agg(a.attcollation ORDER BY a.attnum)
          FROM pg_attribute AS a
          JOIN pg_type AS t ON t.oid = a.atttypid
          LEFT JOIN collate_by AS c ON c.oid = a.attcollation AND a.attcollation <> t.typcollation
         WHERE a.attrelid = one.typrelid AND a.attnum > 0 AND NOT a.attisdropped
     ) AS a (list, types, collations)
     WHERE one.typtype = 'c'
     UNION ALL
    SELECT format('CREATE TYPE %s AS RANGE (SUBTYPE = %s, SUBTYPE_OPCLASS = %I.%I%s%s, '
                  'MULTIRANGE_TYPE_NAME = %I.%I);',
                  one.name, format_type(r.rngsubtype, NULL), opn.nspname, op.opcname,
                  ', COLLATION = ' || c.name,
                  CASE WHEN r.rngsubdiff::oid BETWEEN 1 AND 16383
                       THEN format(', SUBTYPE_DIFF = %s', r.rngsubdiff) END,
                  mn.nspname, m.typname),
           ARRAY[r.rngsubtype], ARRAY[r.rngcollation], NULL,
           (SELECT 'function ' || string_agg(f::regprocedure::text, ', function ')
              FROM unnest(ARRAY[r.rngcanonical::oid, r.rngsubdiff::oid]) AS f WHERE f >= 16384)
      FROM one
      JOIN pg_range AS r ON r.rngtypid = one.oid
      JOIN pg_type AS m ON m.oid = r.rngmultitypid
      JOIN pg_namespace AS mn ON mn.oid = m.typnamespace
      JOIN pg_opclass AS op ON op.oid = r.rngsubopc
      JOIN pg_namespace AS opn ON opn.oid = op.opcnamespace
      LEFT JOIN collate_by AS c ON c.oid = r.rngcollation
     UNION ALL
    SELECT NULL, ARRAY[e.oid], '{}', NULL, NULL
      FROM one JOIN pg_type AS e ON e.oid = one.typelem AND e.typarray = one.oid
     UNION ALL
    SELECT NULL, ARRAY[r.rngtypid], '{}', NULL, NULL
      FROM one JOIN pg_range AS r ON r.rngmultitypid = one.oid
)
SELECT one.name, one.nspname, made.statement, to_json(COALESCE(made.types, '{}')::bigint[]),
       to_json(COALESCE(made.collations, '{}')::bigint[]), made.relation, made.lacks
  FROM one LEFT JOIN made ON true
