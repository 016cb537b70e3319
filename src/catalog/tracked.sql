-- The tracked tables in the order in which they are locked: $1 = id of one of them, null for all.
SELECT t.id,
       t.relation::oid,
       t.relation_oid,
       to_json(t.key),
       to_json(t.key_names),
       t.segment,
       t.sealed_by,
       t.truncated_by
  FROM table_export.tracked AS t
 WHERE $1 IS NULL OR t.id = $1
 ORDER BY t.id
