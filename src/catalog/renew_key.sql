-- The numbers of a key's columns survive a renaming, the names survive a restore. After either, this renews
-- the one by the other: $1 = id of the tracked table.
UPDATE table_export.tracked AS t
   SET relation_oid = k.relation, key = k.attnums, key_names = k.names
  FROM (SELECT t.id,
               t.relation,
               array_agg(a.attnum ORDER BY c.position) AS attnums,
               array_agg(a.attname::text ORDER BY c.position) AS names
          FROM table_export.tracked AS t
         CROSS JOIN ROWS FROM (unnest(t.key), unnest(t.key_names))
                         WITH ORDINALITY AS c (attnum, name, position)
          JOIN pg_attribute AS a
            ON a.attrelid = t.relation AND NOT a.attisdropped
           AND CASE WHEN t.relation_oid = t.relation THEN a.attnum = c.attnum ELSE a.attname = c.name END
         WHERE t.id = $1
         GROUP BY t.id, t.relation) AS k
 WHERE k.id = t.id
   AND cardinality(k.attnums) = cardinality(t.key)
   AND (t.relation_oid, t.key_names) IS DISTINCT FROM (k.relation::oid, k.names)
