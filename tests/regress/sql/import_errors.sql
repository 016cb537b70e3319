-- One cluster, two databases: this one is the destination.
\set destination :DBNAME

-- A store without batches.
DO $$
BEGIN
    PERFORM tx_import('import_errors, never exported', store => current_setting('data_directory') || '/pg_notify');
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '%', replace(SQLERRM, current_setting('data_directory'), '');
END $$;

CREATE DATABASE import_errors_source;
\c import_errors_source
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name varchar(20), amount numeric(10, 2), doubled integer, "Odd Name" timestamp(3) with time zone);
INSERT INTO users VALUES (1, 'Ada', 9.99, 2, now()), (2, 'Grace', 1.5, 4, NULL);
SELECT tracked FROM tx_track('users');
SELECT batch, table_name, kind, ids, records FROM tx_export('import_errors');

-- A database does not import its own batches.
SELECT tx_import('import_errors');

\c :destination
-- Arguments.
SELECT tx_import(NULL);
SELECT tx_import('');
SELECT tx_import('import_errors', max_batches => -1);
SELECT tx_import('import_errors', mode => 'upsert');
SELECT tx_import('import_errors', mode => NULL);
SELECT tx_import('import_errors', store => '/no/such/directory');
SELECT tx_import('import_errors', store => 'ftp://host/prefix');
BEGIN READ ONLY;
SELECT tx_import('import_errors');
ROLLBACK;

-- A missing table.
SELECT tx_import('import_errors');

-- What is no table.
CREATE VIEW users AS SELECT 1 AS id;
SELECT tx_import('import_errors');
DROP VIEW users;

-- Missing columns, one after the other; each hint works as it is.
CREATE TABLE users (id integer PRIMARY KEY, name varchar(20), amount numeric(10, 2), doubled integer GENERATED ALWAYS AS (id * 3) STORED);
SELECT tx_import('import_errors');
ALTER TABLE public.users ADD COLUMN "Odd Name" timestamp(3) with time zone;

-- A generated column with another expression.
SELECT tx_import('import_errors');
ALTER TABLE public.users ALTER COLUMN doubled DROP EXPRESSION;

-- Values that another type would change, or refuses.
ALTER TABLE users ALTER COLUMN amount TYPE numeric(10, 1);
SELECT tx_import('import_errors');
ALTER TABLE public.users ALTER COLUMN amount TYPE numeric(10,2);
ALTER TABLE users ALTER COLUMN name TYPE varchar(4);
SELECT tx_import('import_errors');
ALTER TABLE public.users ALTER COLUMN name TYPE character varying(20);

-- A trigger and a rule that fire even then, and change rows.
CREATE FUNCTION change_user() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.amount := 0; RETURN NEW; END $$;
CREATE TRIGGER change_user BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION change_user();
CREATE RULE "No users" AS ON INSERT TO users WHERE NEW.id > 1 DO INSTEAD NOTHING;
ALTER TABLE users ENABLE ALWAYS TRIGGER change_user, ENABLE REPLICA RULE "No users";
SELECT tx_import('import_errors');
ALTER TABLE public.users DISABLE RULE "No users"; ALTER TABLE public.users DISABLE TRIGGER change_user;

-- What the destination does not accept.
ALTER TABLE users ADD CHECK (doubled < 4);
SELECT tx_import('import_errors');
ALTER TABLE users DROP CONSTRAINT users_doubled_check;
CREATE UNIQUE INDEX one_only ON users ((true));
SELECT tx_import('import_errors');
DROP INDEX one_only;

-- Rights.
CREATE ROLE regress_importer;
SET ROLE regress_importer;
SELECT tx_import('import_errors');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tx_import TO regress_importer;
GRANT INSERT, SELECT ON users TO regress_importer;
SET ROLE regress_importer;
SELECT tx_import('import_errors');
SELECT tx_import('import_errors', store => '/tmp');
RESET ROLE;
GRANT DELETE ON users TO regress_importer;
SET ROLE regress_importer;
SELECT tx_import('import_errors');
RESET ROLE;
GRANT UPDATE ON users TO regress_importer;
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
SET ROLE regress_importer;
SELECT tx_import('import_errors');
RESET ROLE;
ALTER TABLE users DISABLE ROW LEVEL SECURITY;
DROP OWNED BY regress_importer;
DROP ROLE regress_importer;

-- Nothing of all that has changed anything.
SELECT count(*) FROM users;
SELECT count(*) FROM tx_receipts;
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import_errors');

-- Another database does not export over a target that is not its own.
CREATE TABLE own (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('own');
\set VERBOSITY terse
DO $$
DECLARE
    detailed text; hinted text;
BEGIN
    PERFORM tx_export('import_errors');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detailed = PG_EXCEPTION_DETAIL, hinted = PG_EXCEPTION_HINT;
    RAISE NOTICE E'%\n%\n%', SQLERRM, regexp_replace(detailed, '\m\d{2,}', 'N', 'g'), hinted;
END $$;
\set VERBOSITY default
SELECT tx_untrack('own');

DROP DATABASE import_errors_source;
