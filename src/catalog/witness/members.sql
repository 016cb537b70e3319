-- The members of some tracked tables, and what says which rows a partition holds.
SELECT m.tracked, m.relation::oid, m.relation = t.relation AS is_tracked_itself, m.has_rows, c.relfilenode,
       nullif(c.reltoastrelid, 0), m.is_intact,
       -- Texts of a database in SQL_ASCII can be in any encoding.
       CASE WHEN m.has_rows AND m.relation <> t.relation AND c.relispartition
                 AND getdatabaseencoding() <> 'SQL_ASCII' THEN
           pg_get_expr(c.relpartbound, c.oid) END AS bounds,
       -- The columns that it is partitioned by: null is one that is an expression, or does not compare as its
       -- type does: a class of a user may be the default one.
       COALESCE(CASE WHEN m.has_rows THEN
           (SELECT jsonb_agg(CASE WHEN p.partstrat IN ('r', 'l') AND o.opcdefault AND o.oid < 16384
                                   AND COALESCE(l.collisdeterministic, true) THEN a.attname END
                             ORDER BY k.place)
              FROM pg_partitioned_table AS p
             CROSS JOIN LATERAL unnest(p.partattrs::int2[], p.partclass::oid[], p.partcollation::oid[])
                   WITH ORDINALITY AS k (attnum, class, coll, place)
              JOIN pg_opclass AS o ON o.oid = k.class
              LEFT JOIN pg_collation AS l ON l.oid = k.coll
              LEFT JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.attnum
             WHERE p.partrelid = m.relation) END, 'null') AS partitioned_by
  FROM table_export.member AS m
  JOIN table_export.tracked AS t ON t.id = m.tracked
  JOIN pg_class AS c ON c.oid = m.relation
 WHERE m.tracked = ANY ($1::integer[])
