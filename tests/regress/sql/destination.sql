-- Destinations that differ from the source, and what protects them. One cluster, two databases: this one is the destination.
\set destination :DBNAME

CREATE DATABASE destination_source;
\c destination_source
CREATE EXTENSION pg_table_export;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE users (id integer PRIMARY KEY, name varchar(20) COLLATE "C" NOT NULL, amount numeric(10, 2));
CREATE TABLE "Order ""Items""" ("the id" integer, part text, PRIMARY KEY (part, "the id"));
INSERT INTO users SELECT i, 'user ' || i, i FROM generate_series(1, 10) AS i;
INSERT INTO "Order ""Items""" VALUES (1, 'a'), (2, 'b');
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('"Order ""Items"""');
SELECT batch, table_name, kind, records FROM tx_export('destination');

\c :destination
-- What an import would do; nothing is left of it.
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged, obstacle, hint FROM tx_plan('destination');
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged, bytes > 0 AS bytes, obstacle FROM tx_plan('destination', create_tables => true);
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged, bytes > 0 AS bytes, obstacle FROM tx_plan('destination', create_tables => true, try_rows => true);
SELECT * FROM tx_receipts;
SELECT to_regclass('users');

-- Missing tables are made, by the rights of the caller.
CREATE ROLE regress_destination;
GRANT EXECUTE ON FUNCTION tx_import, tx_plan, tx_map, tx_unmap TO regress_destination;
SET ROLE regress_destination;
SELECT tx_import('destination', create_tables => true);
RESET ROLE;
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged FROM tx_import('destination', create_tables => true);
\d users
\d+ "Order ""Items"""

-- A new column: refused with the statement that adds it, or added.
\c destination_source
ALTER TABLE users ADD COLUMN seen timestamp(3) with time zone DEFAULT '2020-02-02 00:00Z';
SELECT batch, table_name, kind, records FROM tx_export('destination');
\c :destination
SELECT tx_import('destination');
SELECT obstacle, hint FROM tx_plan('destination') WHERE obstacle IS NOT NULL;
BEGIN;
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged FROM tx_import('destination', new_columns => 'ignore');
ROLLBACK;
GRANT INSERT, UPDATE, DELETE ON users TO regress_destination;
SET ROLE regress_destination;
SELECT tx_import('destination', new_columns => 'add');
RESET ROLE;
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged FROM tx_import('destination', new_columns => 'add');
SELECT count(*), min(seen AT TIME ZONE 'UTC') FROM users;
SELECT tx_import('destination', new_columns => 'drop');

-- A type, or a collation, that does not exist here.
\c destination_source
ALTER TABLE users ADD COLUMN mood mood;
SELECT count(*) FROM tx_export('destination');
\c :destination
SELECT tx_import('destination', new_columns => 'add');
\c destination_source
ALTER TABLE users DROP COLUMN mood;
CREATE COLLATION mine FROM "C";
ALTER TABLE users ADD COLUMN mine text COLLATE mine;
SELECT tx_reset('destination');
SELECT count(*) FROM tx_export('destination');
\c :destination
SELECT tx_import('destination', new_columns => 'add');
\c destination_source
ALTER TABLE users DROP COLUMN mine;
SELECT tx_reset('destination');
SELECT batch, table_name, kind FROM tx_export('destination');
\c :destination
-- A column that is gone at the source is left alone.
ALTER TABLE users ADD COLUMN own text DEFAULT 'kept';
SELECT batch, table_name, kind, deleted, updated, inserted, unchanged FROM tx_import('destination');

-- Batches that would take too much.
\c destination_source
DELETE FROM users WHERE id <= 6;
SELECT batch, table_name, kind, ids, records FROM tx_export('destination');
\c :destination
SET pg_table_export.delete_limit = 50;
SELECT tx_import('destination');
SELECT obstacle, hint FROM tx_plan('destination', try_rows => true) WHERE obstacle IS NOT NULL;
SELECT tx_import('destination', delete_limit => 101);
SELECT tx_import('destination', delete_limit => 59);
SELECT count(*) FROM users;
SELECT batch, table_name, deleted FROM tx_import('destination', delete_limit => 60);
\c destination_source
TRUNCATE users;
SELECT batch, table_name, kind, records FROM tx_export('destination');
\c :destination
SET pg_table_export.delete_limit = 99;
SELECT tx_import('destination', mode => 'append');
SELECT batch, table_name, deleted FROM tx_import('destination', delete_limit => 100);
-- What is put back does not count.
\c destination_source
INSERT INTO users SELECT i, 'user ' || i, i FROM generate_series(1, 10) AS i;
SELECT batch, kind, records FROM tx_export('destination');
TRUNCATE users;
INSERT INTO users SELECT i, 'user ' || i, i FROM generate_series(1, 9) AS i;
SELECT batch, kind, records FROM tx_export('destination');
\c :destination
SET pg_table_export.delete_limit = 10;
SELECT batch, table_name, deleted, inserted FROM tx_import('destination', mode => 'append');

-- Another table, and other names of columns.
SELECT tx_map('destination', 'users', 'users');
SELECT tx_map('destination', 'public.users', 'users', '["name"]');
SELECT tx_map('destination', 'public.users', 'users', '{"name": "no such column"}');
CREATE TABLE people (number integer PRIMARY KEY, "Full Name" varchar(20), amount numeric(10, 2), seen timestamp(3) with time zone);
SET ROLE regress_destination;
SELECT tx_map('destination', 'public.users', 'people');
RESET ROLE;
SELECT tx_map('destination', 'public.users', 'people', '{"id": "number", "name": "Full Name"}');
\c destination_source
UPDATE users SET amount = -1 WHERE id = 1;
SELECT tx_reset('destination', 'users');
SELECT batch, kind, records FROM tx_export('destination');
UPDATE users SET amount = -2 WHERE id = 2;
DELETE FROM users WHERE id = 3;
SELECT batch, kind, records FROM tx_export('destination');
\c :destination
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('destination');
SELECT number, "Full Name", amount FROM people WHERE number <= 4 ORDER BY number;
SET ROLE regress_destination;
SELECT tx_unmap('destination', 'public.users');
RESET ROLE;
SELECT tx_unmap('destination', 'public.users');
SELECT tx_unmap('destination', 'public.users');

-- What each table shows, and what waits.
\c destination_source
UPDATE users SET amount = -2 WHERE id = 4;
SELECT tx_reset('destination', 'users');
SELECT batch, kind, records FROM tx_export('destination');
SELECT batch, kind, records FROM tx_export('destination', even_if_unchanged => true);
UPDATE users SET amount = -3 WHERE id = 4;
SELECT batch, kind, records FROM tx_export('destination');
\c :destination
SELECT table_name, target, shows <= now() AS shows, age < interval '1 minute' AS age, last_batch, last_change, pending FROM tx_freshness;

-- Batch by batch, each in a transaction of its own.
BEGIN;
CALL tx_catch_up('destination', adopt => true);
ROLLBACK;
CALL tx_catch_up('destination', max_batches => 1, adopt => true);
SELECT table_name, last_batch, last_change, pending FROM tx_freshness;
CALL tx_catch_up('destination');
SELECT table_name, last_batch, last_change, pending FROM tx_freshness;
SELECT count(DISTINCT xmin::text) FROM table_export.receipt WHERE number > 12;
SELECT tx_reset('destination');
SELECT table_name, shows, last_batch, pending FROM tx_freshness;
DROP OWNED BY regress_destination;
DROP ROLE regress_destination;
