-- The tracked tables in the order in which they are locked, and whether all their triggers are in place:
-- $1 = id of one of them, null for all. The condition is on the id, which the planner passes into the view.
SELECT t.id,
       t.relation::oid,
       t.relation_oid,
       to_json(t.key),
       to_json(t.key_names),
       t.segment,
       t.sealed_by,
       t.truncated_by,
       i.is_intact
  FROM table_export.tracked AS t
  JOIN table_export.intact AS i ON i.tracked = t.id
 WHERE $1 IS NULL OR t.id = $1
 ORDER BY t.id
