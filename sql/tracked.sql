-- The tracked tables in the order of their locks, and whether all four triggers of each are in place
SELECT t.id,
       t.relation::pg_catalog.oid,
       t.relation_oid,
       pg_catalog.to_json(t.key),
       pg_catalog.to_json(t.key_names),
       t.segment,
       t.sealed_by,
       t.id IN (SELECT tracked FROM table_export.intact)
  FROM table_export.tracked AS t
 ORDER BY t.id
