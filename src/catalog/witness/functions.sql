-- The extension's trigger functions and event triggers. An xmin is the transaction that wrote a row of the
-- catalog last: it differs after DDL that has been undone as well. VACUUM changes none of them.
SELECT string_agg(format('%s %s %s %s', p.oid, p.xmin, e.oid, e.xmin), ', ' ORDER BY p.oid, e.oid)
  FROM pg_proc AS p LEFT JOIN pg_event_trigger AS e ON e.evtfoid = p.oid
 WHERE p.pronamespace = 'table_export'::regnamespace
   AND p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype)
