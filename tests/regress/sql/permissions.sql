-- Nothing is granted to everybody.
CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
CREATE TEMPORARY TABLE mine (id integer PRIMARY KEY);
SELECT tx_track('mine');
SELECT tx_untrack('mine');
SELECT tx_export('permissions');
SELECT tx_import('permissions');
SELECT tx_reset('permissions');
SELECT tx_ddl('mine');
SELECT tx_compact('permissions');
SELECT tx_expire('permissions');
SELECT tx_status('permissions');
SELECT * FROM tx_tracked;
SELECT * FROM tx_targets;
SELECT * FROM tx_batches;
SELECT * FROM tx_receipts;
SELECT * FROM table_export.tracked;
SELECT table_export.shadow_size(1);
SELECT table_export.pending_changes('permissions');
CREATE TABLE table_export.mine (id integer);
RESET ROLE;
SELECT objid::regprocedure AS granted_to_public
  FROM pg_depend JOIN pg_extension ON refobjid = pg_extension.oid AND refclassid = 'pg_extension'::regclass AND classid = 'pg_proc'::regclass
 WHERE extname = 'pg_table_export' AND has_function_privilege('regress_nobody', objid, 'EXECUTE');
SELECT objid::regclass AS granted_to_public
  FROM pg_depend JOIN pg_extension ON refobjid = pg_extension.oid AND refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass
  JOIN pg_class ON pg_class.oid = objid AND relkind <> 'S'
 WHERE extname = 'pg_table_export' AND has_table_privilege('regress_nobody', objid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');

-- A role that may call tx_track() tracks its own tables, and only those.
CREATE ROLE regress_owner;
GRANT EXECUTE ON FUNCTION tx_track(regclass, text), tx_untrack(regclass), tx_export(text, text, text, text, boolean, bigint, boolean) TO regress_owner;
GRANT CREATE ON SCHEMA public TO regress_owner;
CREATE TABLE foreign_table (id integer PRIMARY KEY);
SET ROLE regress_owner;
CREATE TABLE own_table (id integer PRIMARY KEY, body text);
SELECT tracked, key FROM tx_track('own_table');
SELECT tracked, key FROM tx_track('foreign_table');
INSERT INTO own_table VALUES (1, 'x');
SELECT table_name, kind, ids, records FROM tx_export('permissions');
SET pg_table_export.store = '/tmp';
-- It reads its own shadow, and writes none.
SELECT op, k1 FROM table_export.shadow_1_0;
DELETE FROM table_export.shadow_1_0;
TRUNCATE table_export.shadow_1_0;
INSERT INTO table_export.shadow_1_0 VALUES ('1', 'I', 1);
SELECT table_export.capture();
CREATE TRIGGER forged AFTER INSERT ON own_table FOR EACH STATEMENT EXECUTE FUNCTION table_export.capture('1');
RESET ROLE;

-- A role that writes to a tracked table needs nothing but the right to write to it.
CREATE ROLE regress_writer;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON own_table TO regress_writer;
SET ROLE regress_writer;
INSERT INTO own_table VALUES (2, 'x'), (3, 'x');
UPDATE own_table SET body = 'y' WHERE id = 2;
DELETE FROM own_table WHERE id = 3;
SELECT * FROM table_export.shadow_1_0;
RESET ROLE;
SELECT table_name, kind, ids, records FROM tx_export('permissions');
SET ROLE regress_writer;
TRUNCATE own_table;
RESET ROLE;
SELECT table_name, kind, ids, records FROM tx_export('permissions');

-- A role that exports needs SELECT on every tracked table.
CREATE ROLE regress_exporter;
GRANT EXECUTE ON FUNCTION tx_export(text, text, text, text, boolean, bigint, boolean) TO regress_exporter;
SET ROLE regress_exporter;
SELECT tx_export('permissions');
RESET ROLE;
GRANT SELECT ON own_table TO regress_exporter;
SET ROLE regress_exporter;
SELECT table_name, kind, ids, records FROM tx_export('permissions, exporter');
RESET ROLE;

-- A table with a partition of another role: whoever has the rights of both may track it.
CREATE ROLE regress_other;
CREATE TABLE shared (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE shared_low PARTITION OF shared FOR VALUES FROM (0) TO (10);
ALTER TABLE shared OWNER TO regress_owner;
ALTER TABLE shared_low OWNER TO regress_other;
SET ROLE regress_owner;
SELECT tx_track('shared');
RESET ROLE;
GRANT regress_other TO regress_owner;
SET ROLE regress_owner;
SELECT tracked FROM tx_track('public.shared');
-- The same when triggers are missing.
RESET ROLE;
REVOKE regress_other FROM regress_owner;
SELECT string_agg(format('DROP TRIGGER %I ON shared_low;', tgname), ' ') AS without_triggers FROM pg_trigger WHERE tgrelid = 'shared_low'::regclass AND NOT tgisinternal \gset
:without_triggers
SELECT problem, hint FROM tx_health() WHERE object = 'public.shared';
SET ROLE regress_owner;
SELECT tx_track('public.shared');
RESET ROLE;
SELECT tracked FROM tx_track('public.shared');
SELECT tx_untrack('shared');
DROP TABLE shared;
DROP ROLE regress_other;

-- pg_monitor looks at everything and touches nothing.
CREATE ROLE regress_monitor IN ROLE pg_monitor;
SET ROLE regress_monitor;
SELECT table_name, key, changes >= 0 AS changes, triggers_intact FROM tx_tracked;
SELECT target, last_batch, pending FROM tx_targets;
SELECT target, batch, kind, tables FROM tx_batches;
SELECT * FROM tx_receipts;
SELECT * FROM table_export.shadow_1_0;
SELECT tx_export('permissions');
RESET ROLE;

-- Code that the owner of a table has attached to it runs as that owner, whichever role exports.
SET ROLE regress_owner;
CREATE FUNCTION whoami(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'as %', current_user; RETURN $1; END $$;
INSERT INTO own_table VALUES (1, 'x');
CREATE POLICY who ON own_table USING (whoami(body) IS NOT NULL);
ALTER TABLE own_table ENABLE ROW LEVEL SECURITY;
RESET ROLE;
SELECT table_name, kind, ids, records FROM tx_export('permissions');

SELECT tx_untrack('own_table');
DROP OWNED BY regress_nobody, regress_owner, regress_writer, regress_exporter;
DROP ROLE regress_nobody, regress_owner, regress_writer, regress_exporter, regress_monitor;
