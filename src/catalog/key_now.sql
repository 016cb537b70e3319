-- The columns that are left of the key of a tracked table, $1, in its order, and whether the table has a primary
-- key. The columns are known by number, or by name after a restore.
SELECT to_json(ARRAY(SELECT a.attname
                       FROM ROWS FROM (unnest(t.key), unnest(t.key_names))
                                      WITH ORDINALITY AS u (attnum, name, position)
                       JOIN pg_attribute AS a
                         ON a.attrelid = t.relation AND NOT a.attisdropped
                        AND CASE WHEN t.relation_oid = t.relation THEN a.attnum = u.attnum
                                 ELSE a.attname = u.name END
                      ORDER BY u.position)),
       EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = t.relation AND i.indisprimary)
  FROM table_export.tracked AS t
 WHERE t.id = $1
