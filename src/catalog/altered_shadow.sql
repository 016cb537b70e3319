-- Shadows that are not as the extension has made them, and what differs. Capture appends to the heap alone: an
-- index would lack rows, rules and triggers would not run, and a policy would hide rows from exports.
-- pg_class says of each table whether it may have an index, a rule or a trigger. So only a few are looked at.
WITH suspect AS MATERIALIZED (
    SELECT c.oid, c.relname, c.relrowsecurity, c.relpersistence, c.relam
      FROM pg_class AS c
     WHERE c.relnamespace = 'table_export'::regnamespace
       AND (c.relhasindex OR c.relhasrules OR c.relhastriggers OR c.relrowsecurity OR c.relpersistence <> 'p'
            OR c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
            OR c.oid IN (SELECT polrelid FROM pg_policy))
)
SELECT t.id, d.difference
  FROM suspect AS c
  JOIN table_export.tracked AS t ON t.id::text = substring(c.relname FROM '^shadow_([0-9]+)_[01]$')
 CROSS JOIN LATERAL (
       SELECT 'has ' || pg_describe_object(o.class, o.oid, 0)
         FROM (SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid = c.oid
                UNION ALL
               SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class = c.oid
                UNION ALL
               SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid = c.oid
                UNION ALL
               SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid = c.oid) AS o (class, oid)
        UNION ALL
       SELECT 'has row security' WHERE c.relrowsecurity
        UNION ALL
       SELECT 'is unlogged' WHERE c.relpersistence <> 'p'
        UNION ALL
       SELECT 'is no heap' WHERE c.relam <> (SELECT oid FROM pg_am WHERE amname = 'heap')
       ) AS d (difference)
 ORDER BY t.id, d.difference
