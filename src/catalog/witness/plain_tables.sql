-- The tracked tables, and which of them are plain tables without parents, children and subscriptions: these
-- have no member but themselves. The columns are those of a member, whose triggers are not looked at here.
SELECT t.id,
       t.relation::oid,
       true AS is_tracked_itself,
       true AS has_rows,
       c.relfilenode,
       nullif(c.reltoastrelid, 0),
       NULL AS is_intact,
       c.relkind = 'r' AND c.relhastriggers
       AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = t.relation)
       AND NOT EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = t.relation)
       AND NOT EXISTS (SELECT FROM pg_subscription_rel AS r WHERE r.srrelid = t.relation)
  FROM table_export.tracked AS t JOIN pg_class AS c ON c.oid = t.relation
