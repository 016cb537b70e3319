-- The tracked tables in the order of their locks, and whether all their triggers are in place
SELECT t.id,
       t.relation::pg_catalog.oid,
       t.relation_oid,
       pg_catalog.to_json(t.key),
       pg_catalog.to_json(t.key_names),
       t.segment,
       t.sealed_by,
       t.truncated_by,
       i.is_intact
  FROM table_export.tracked AS t
  JOIN table_export.intact AS i ON i.tracked = t.id
 ORDER BY t.id
