-- Untracking leaves no trace.
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TRIGGER own AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
ALTER TABLE users DISABLE TRIGGER own;
SELECT tracked FROM tx_track('users');
INSERT INTO users VALUES (1, 'Ada');
SELECT kind, records FROM tx_export('untrack');
SELECT tx_untrack('users');
\d users
\dt table_export.shadow_*
SELECT count(*) FROM table_export.tracked;
SELECT count(*) FROM table_export.target_table;
SELECT * FROM tx_tracked;

-- The table is a plain one again.
UPDATE users SET name = 'Ada L.';
TRUNCATE users;

-- What the owner was given is taken back when he owns no tracked table any more.
CREATE ROLE regress_owner;
CREATE TABLE one (id integer PRIMARY KEY);
CREATE TABLE two (id integer PRIMARY KEY);
ALTER TABLE one OWNER TO regress_owner;
ALTER TABLE two OWNER TO regress_owner;
SELECT tracked FROM tx_track('one') UNION ALL SELECT tracked FROM tx_track('two');
SELECT has_schema_privilege('regress_owner', 'table_export', 'USAGE');
SELECT tx_untrack('one');
SELECT has_schema_privilege('regress_owner', 'table_export', 'USAGE');
SELECT tx_untrack('two');
SELECT has_schema_privilege('regress_owner', 'table_export', 'USAGE');
DROP TABLE one, two;
DROP ROLE regress_owner;

-- Again, and what was never tracked.
SELECT tx_untrack('users');

-- NULL is no table.
SELECT tx_untrack(NULL);

-- Tracked again, the next export sends the table in full.
INSERT INTO users VALUES (2, 'Grace');
SELECT tracked FROM tx_track('users');
SELECT table_name, kind, ids, records FROM tx_export('untrack');

-- Triggers that were dropped before are no obstacle.
DROP TRIGGER pg_table_export_insert ON users;
SELECT tx_untrack('users');
\d users

-- A table that was dropped unseen can be untracked by its OID, before an export or tx_prune does it.
CREATE TABLE dropped (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('dropped');
SELECT 'dropped'::regclass::oid AS dropped \gset
ALTER EVENT TRIGGER pg_table_export_drops DISABLE;
DROP TABLE dropped;
ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS;
SELECT tx_untrack(:dropped) = :'dropped' AS untracked;
\dt table_export.shadow_*
SELECT * FROM tx_tracked;

-- A table that is dropped is not tracked any more. The next export or tx_prune removes what is left.
CREATE TABLE seen (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('seen') UNION ALL SELECT tracked FROM tx_track('users');
SELECT table_name FROM tx_export('untrack');
DROP TABLE seen;
SELECT table_name FROM tx_prune();
\dt table_export.shadow_*
SELECT tx_untrack('users');

-- Only the owner may, and for a dropped table only the owner of the extension.
CREATE TABLE dropped (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('dropped');
SELECT 'dropped'::regclass::oid AS dropped \gset
ALTER EVENT TRIGGER pg_table_export_drops DISABLE;
DROP TABLE dropped;
ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS;
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION tx_untrack(regclass) TO regress_stranger;
SET ROLE regress_stranger;
SELECT tx_untrack('users');
SELECT tx_untrack(:dropped);
RESET ROLE;
REVOKE EXECUTE ON FUNCTION tx_untrack(regclass) FROM regress_stranger;
DROP ROLE regress_stranger;

-- A read-only transaction.
BEGIN READ ONLY;
SELECT tx_untrack('users');
ROLLBACK;
