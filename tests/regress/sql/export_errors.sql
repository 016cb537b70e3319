-- Nothing to export.
SELECT tx_export('export_errors');

CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE "Order ""Items""" (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('"Order ""Items"""');
INSERT INTO users VALUES (1, 'Ada');
SELECT batch, table_name, kind, ids, records FROM tx_export('export_errors');

-- A transaction that has written.
BEGIN;
INSERT INTO users VALUES (2, 'Grace');
SELECT tx_export('export_errors');
ROLLBACK;
-- An export writes, so a second one has to wait for the commit.
BEGIN;
SELECT batch, kind FROM tx_export('export_errors', even_if_unchanged => true);
SELECT tx_export('another target');
ROLLBACK;

-- A read-only transaction.
BEGIN READ ONLY;
SELECT tx_export('export_errors');
ROLLBACK;

-- A transaction that is to be prepared.
BEGIN;
SELECT batch, kind FROM tx_export('export_errors', even_if_unchanged => true);
PREPARE TRANSACTION 'export_errors';
-- Nor one that has exported nothing, but may have shadows to truncate.
SELECT count(*) FROM tx_export('export_errors');
BEGIN;
SELECT count(*) FROM tx_export('export_errors');
PREPARE TRANSACTION 'export_errors';
SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts \gexec

-- Arguments.
SELECT tx_export(NULL);
SELECT tx_export('');
SELECT tx_export(repeat('x', 256));
SELECT tx_export('export_errors', format => 'xml');
SELECT tx_export('export_errors', format => 'TEXT');
SELECT tx_export('export_errors', format => NULL);
SELECT tx_export('export_errors', compression => 'gzip');
SELECT tx_export('export_errors', compression => NULL);

-- Stores.
SELECT tx_export('export_errors', store => '/no/such/directory');
SELECT tx_export('export_errors', store => 'file:///no/such/directory');
SELECT tx_export('export_errors', store => 'relative/directory');
SELECT tx_export('export_errors', store => 'ftp://host/prefix');
SELECT tx_export('export_errors', store => 's3://key:secret@bucket/prefix');
SELECT tx_export('export_errors', store => 'not a url');
SELECT tx_export('export_errors', store => '');
SELECT tx_export('export_errors', store => '/etc/passwd');

-- Rights: the function, the tables, the store.
CREATE ROLE regress_exporter;
SET ROLE regress_exporter;
SELECT tx_export('export_errors');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tx_export(text, text, text, text, boolean, bigint, boolean) TO regress_exporter;
SET ROLE regress_exporter;
SELECT tx_export('export_errors');
RESET ROLE;
GRANT SELECT (id) ON users TO regress_exporter;
SET ROLE regress_exporter;
SELECT tx_export('export_errors');
RESET ROLE;
GRANT SELECT ON users, "Order ""Items""" TO regress_exporter;
SET ROLE regress_exporter;
SELECT tx_export('export_errors', store => '/tmp');
SELECT batch, kind FROM tx_export('export_errors', even_if_unchanged => true);
RESET ROLE;

-- Row security: a copy without the rows that a policy hides would be a wrong one.
CREATE POLICY odd ON users USING (id % 2 = 1);
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
SET ROLE regress_exporter;
SELECT tx_export('export_errors');
RESET ROLE;
SELECT batch, kind FROM tx_export('export_errors', even_if_unchanged => true);
ALTER TABLE users OWNER TO regress_exporter;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
SELECT tx_export('export_errors');
ALTER TABLE users NO FORCE ROW LEVEL SECURITY;
ALTER TABLE users DISABLE ROW LEVEL SECURITY;

-- The table has another owner by now: it is read as that owner, who needs to see the shadow.
INSERT INTO users VALUES (3, 'Linus');
SELECT tx_export('export_errors');
SELECT tracked FROM tx_track('public.users');
SELECT table_name, kind, ids, records FROM tx_export('export_errors');
ALTER TABLE users OWNER TO CURRENT_USER;
DROP OWNED BY regress_exporter;
DROP ROLE regress_exporter;

-- Triggers that are disabled, changed, or gone: changes may have been missed.
ALTER TABLE users DISABLE TRIGGER pg_table_export_update;
SELECT tx_export('export_errors');
SELECT tx_track('users');
ALTER TABLE users ENABLE TRIGGER pg_table_export_update;
SELECT tx_export('export_errors');
ALTER TABLE users ENABLE ALWAYS TRIGGER pg_table_export_update;
-- What was written meanwhile is not known.
SELECT batch, kind FROM tx_export('export_errors', even_if_unchanged => true);
DROP TRIGGER pg_table_export_truncate ON users;
SELECT tx_export('export_errors');
-- The hint works as it is, for any name.
SELECT tx_untrack('public.users');
SELECT tracked FROM tx_track('public.users');
SELECT table_name, kind, ids, records FROM tx_export('export_errors');
DROP TRIGGER pg_table_export_insert ON "Order ""Items""";
SELECT tx_export('export_errors');
SELECT tx_untrack('public."Order ""Items"""');
SELECT tracked FROM tx_track('public."Order ""Items"""');

-- The key has become another one.
ALTER TABLE users DROP CONSTRAINT users_pkey;
SELECT tx_export('export_errors');
ALTER TABLE users ADD PRIMARY KEY (name);
INSERT INTO users VALUES (4, 'Barbara');
SELECT tx_export('export_errors');
SELECT tx_track('users');
SELECT tx_untrack('public.users');
SELECT tracked, key FROM tx_track('public.users');
SELECT table_name, kind, ids, records FROM tx_export('export_errors');

-- A tracked table that is not what it was: a crash would empty it.
ALTER TABLE users SET UNLOGGED;
SELECT tx_export('export_errors');
ALTER TABLE users SET LOGGED;
SELECT table_name, kind FROM tx_export('export_errors');

-- Tables that are gone, dropped as the event trigger sees it, and unseen, keep nothing else from being exported.
CREATE TABLE unseen (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('unseen');
DROP TABLE users;
ALTER EVENT TRIGGER pg_table_export_drops DISABLE;
DROP TABLE unseen;
ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS;
SELECT table_name, kind FROM tx_export('export_errors');

-- A name that is too long for a file when it is encoded.
SELECT tx_export(repeat('ü', 50));
