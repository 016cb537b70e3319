-- The tracked tables that the DDL command which has just ended may concern: those that have triggers on a table
-- that it touched, or on a parent or child of one. All, if it was about a subscription.
WITH command AS (
    SELECT classid, objid FROM pg_event_trigger_ddl_commands()
), touched AS (
    SELECT objid AS relation FROM command WHERE classid = 'pg_class'::regclass
), near AS (
    SELECT relation FROM touched
     UNION
    SELECT i.inhparent FROM touched AS d JOIN pg_inherits AS i ON i.inhrelid = d.relation
     UNION
    SELECT i.inhrelid FROM touched AS d JOIN pg_inherits AS i ON i.inhparent = d.relation
)
SELECT t.id
  FROM table_export.tracked AS t
 WHERE t.relation IN (SELECT relation FROM near)
    OR t.id::text IN (SELECT split_part(encode(g.tgargs, 'escape'), '\000', 1)
                        FROM near AS r JOIN pg_trigger AS g ON g.tgrelid = r.relation
                       WHERE g.tgfoid = 'table_export.capture()'::regprocedure)
    OR EXISTS (SELECT FROM command WHERE classid = 'pg_subscription'::regclass)
