-- Shadows that are not as the extension has made them, and what differs. Capture appends to the heap alone: an
-- index would lack rows, rules and triggers would not run, and a policy would hide rows from exports.
SELECT t.id, d.difference
  FROM table_export.tracked AS t
 CROSS JOIN generate_series(0, 1) AS s (segment)
  JOIN pg_class AS c ON c.oid = to_regclass(format('table_export.shadow_%s_%s', t.id, s.segment))
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
