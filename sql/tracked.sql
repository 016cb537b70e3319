-- The tracked tables in the order of their locks, and whether all their triggers are in place
SELECT t.id,
       t.relation::pg_catalog.oid,
       t.relation_oid,
       pg_catalog.to_json(t.key),
       pg_catalog.to_json(t.key_names),
       t.segment,
       t.sealed_by,
       (SELECT pg_catalog.bool_and(m.is_intact) FROM table_export.member AS m WHERE m.tracked = t.id)
  FROM table_export.tracked AS t
 ORDER BY t.id
