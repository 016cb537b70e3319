-- Adds a tracked table, or renews its key: $1 = oid of the table, $2 = columns of the key, as numbers.
INSERT INTO table_export.tracked AS t (relation, relation_oid, key, key_names)
SELECT $1::regclass, $1, $2,
       ARRAY(SELECT a.attname::text
               FROM unnest($2) WITH ORDINALITY AS u (attnum, position)
               JOIN pg_attribute AS a ON a.attrelid = $1 AND a.attnum = u.attnum
              ORDER BY u.position)
    ON CONFLICT (relation) DO UPDATE
   SET relation_oid = excluded.relation_oid, key = excluded.key, key_names = excluded.key_names
RETURNING id
