-- What PostgreSQL's catalog says of each tracked table. An xmin is the transaction that wrote a row of the
-- catalog last: it differs after DDL that has been undone as well. VACUUM changes none of them.
WITH RECURSIVE type (tracked, oid) AS (
    -- What the types of the columns are made of, down to types of PostgreSQL.
    SELECT t.id, a.atttypid
      FROM table_export.tracked AS t JOIN pg_attribute AS a ON a.attrelid = t.relation
     WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
     UNION
    SELECT y.tracked, p.oid
      FROM type AS y
      JOIN pg_type AS t ON t.oid = y.oid
     CROSS JOIN LATERAL (
           SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL
           SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            UNION ALL
           SELECT a.atttypid FROM pg_attribute AS a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS p (oid)
     WHERE p.oid >= 16384
)
SELECT m.tracked,
       jsonb_build_object(
           'functions', (SELECT string_agg(format('%s %s %s %s', p.oid, p.xmin, e.oid, e.xmin), ', '
                                           ORDER BY p.oid, e.oid)
                           FROM pg_proc AS p LEFT JOIN pg_event_trigger AS e ON e.evtfoid = p.oid
                          WHERE p.pronamespace = 'table_export'::regnamespace
                            AND p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)),
           'names', (SELECT COALESCE(jsonb_object_agg(n.object, n.name), '{}')
                       FROM (SELECT 'label ' || e.oid, e.enumlabel
                               FROM type AS y JOIN pg_enum AS e ON e.enumtypid = y.oid
                              WHERE y.tracked = m.tracked
                              UNION ALL
                             SELECT format('attribute %s of %s', a.attnum, y.oid), a.attname
                               FROM type AS y
                               JOIN pg_type AS t ON t.oid = y.oid
                               JOIN pg_attribute AS a ON a.attrelid = t.typrelid
                              WHERE y.tracked = m.tracked AND a.attnum > 0 AND NOT a.attisdropped
                            ) AS n (object, name)),
           'members', jsonb_object_agg(m.relation::oid, jsonb_build_object(
               'has_rows', m.has_rows,
               'parents', CASE WHEN m.has_rows AND m.relation <> t.relation THEN
                   ARRAY(SELECT ARRAY[i.inhparent::text, i.xmin::text] FROM pg_inherits AS i
                          WHERE i.inhrelid = m.relation ORDER BY i.inhparent)
                   ELSE '{}' END,
               -- The key of a partitioned table: 'columns' is null if it is no list of columns that compare as
               -- their type does.
               'partitioned_by', CASE WHEN m.has_rows THEN
                   (SELECT jsonb_agg(CASE WHEN p.partstrat IN ('r', 'l') AND o.opcdefault
                                           AND COALESCE(l.collisdeterministic, true) THEN a.attname END
                                     ORDER BY k.place)
                      FROM pg_partitioned_table AS p
                     CROSS JOIN LATERAL unnest(p.partattrs::int2[], p.partclass::oid[], p.partcollation::oid[])
                           WITH ORDINALITY AS k (attnum, class, coll, place)
                      JOIN pg_opclass AS o ON o.oid = k.class
                      LEFT JOIN pg_collation AS l ON l.oid = k.coll
                      LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum
                     WHERE p.partrelid = m.relation) END,
               -- Texts of a database in SQL_ASCII can be in any encoding.
               'bounds', CASE WHEN m.has_rows AND m.relation <> t.relation AND c.relispartition
                               AND getdatabaseencoding() <> 'SQL_ASCII' THEN
                   pg_get_expr(c.relpartbound, c.oid) END,
               'triggers',
                   ARRAY(SELECT ARRAY[g.oid::text, g.xmin::text] FROM pg_trigger AS g
                          WHERE g.tgrelid = m.relation AND g.tgfoid = 'table_export.capture()'::regprocedure
                            AND g.tgargs = convert_to(t.id::text, 'UTF8') || '\x00'::bytea
                          ORDER BY g.oid),
               'storage', CASE WHEN m.has_rows THEN c.relfilenode::text END,
               -- A virtual generated column has its values nowhere but in its expression.
               'computed', CASE WHEN m.has_rows THEN
                   (SELECT string_agg(d.oid::text, ' ' ORDER BY a.attnum)
                      FROM pg_attribute AS a
                      JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                     WHERE a.attrelid = m.relation AND a.attgenerated = 'v') END,
               -- ALTER TABLE that gives a column other values writes the column's row, or that of its
               -- expression.
               'columns', CASE WHEN m.has_rows THEN
                   (SELECT md5(string_agg(format('%s %s %s', a.attnum, a.xmin, d.oid), ', ' ORDER BY a.attnum))
                      FROM pg_attribute AS a
                      LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                     WHERE a.attrelid = m.relation AND a.attnum > 0)
                   END)))
  FROM table_export.member AS m
  JOIN table_export.tracked AS t ON t.id = m.tracked
  JOIN pg_class AS c ON c.oid = m.relation
 GROUP BY m.tracked
