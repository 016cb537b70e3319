-- A reset target is sent everything again.
CREATE TABLE users (id integer PRIMARY KEY);
CREATE TABLE orders (id integer PRIMARY KEY);
INSERT INTO users VALUES (1), (2);
INSERT INTO orders VALUES (1);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('orders');
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');
SELECT batch, table_name, kind, ids, records FROM tx_export('reset, another');
SELECT tx_reset('reset');
SELECT target, last_batch, pending, position IS NULL AS next_is_full FROM tx_targets;
INSERT INTO users VALUES (3);
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');
-- The other target is none of its business.
SELECT batch, table_name, kind, ids, records FROM tx_export('reset, another');

-- Or one table only; the rest goes on.
INSERT INTO users VALUES (4);
SELECT tx_reset('reset', 'orders');
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');
INSERT INTO orders VALUES (2);
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');

-- Twice is once.
SELECT tx_reset('reset');
SELECT tx_reset('reset');
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');

-- Undone with the transaction.
BEGIN;
SELECT tx_reset('reset');
ROLLBACK;
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');

-- What does not exist, or is not tracked, and nothing.
SELECT tx_reset('no such target');
SELECT tx_reset('no such target', 'users');
CREATE TABLE plain (id integer PRIMARY KEY);
SELECT tx_reset('reset', 'plain');
SELECT tx_reset(NULL);
SELECT tx_reset('');
SELECT tx_reset('reset', store => '/no/such/directory');
BEGIN READ ONLY;
SELECT tx_reset('reset');
ROLLBACK;
CREATE ROLE regress_stranger;
SET ROLE regress_stranger;
SELECT tx_reset('reset');
RESET ROLE;
GRANT EXECUTE ON FUNCTION tx_reset(text, regclass, text) TO regress_stranger;
SET ROLE regress_stranger;
SELECT tx_reset('reset', store => '/tmp');
RESET ROLE;
DROP OWNED BY regress_stranger;
DROP ROLE regress_stranger;

-- At a destination: the next import starts from the latest full batch.
\set source :DBNAME
CREATE DATABASE reset_destination;
\c reset_destination
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY);
CREATE TABLE orders (id integer PRIMARY KEY);
-- The HINT lists the targets in the store, those of other tests among them.
\set VERBOSITY terse
SELECT tx_reset('no such target');
\set VERBOSITY default
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('reset');
DELETE FROM users;
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('reset');
SELECT tx_reset('reset');
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('reset');
SELECT array_agg(id ORDER BY id) FROM users;

-- After tx_forget no changes are retained for it. Its batches stay in the store, and so does the chain.
\c :source
SELECT tx_forget('reset');
SELECT target FROM tx_targets UNION ALL SELECT target FROM tx_batches WHERE target = 'reset';
SELECT tx_forget('reset');
SELECT tx_forget(NULL);
SELECT batch, table_name, kind, ids, records FROM tx_export('reset');
\c reset_destination
SELECT batch, table_name, kind, deleted, inserted FROM tx_import('reset');
SELECT tx_forget('reset');
SELECT * FROM tx_receipts;

-- A target of another database is taken over: this is the source from now on.
CREATE TABLE mine (id integer PRIMARY KEY);
INSERT INTO mine VALUES (7);
SELECT tracked FROM tx_track('mine');
SELECT tx_reset('reset, another');
SELECT batch, table_name, kind, ids, records FROM tx_export('reset, another');
\c :source
INSERT INTO users VALUES (9);
DO $$
BEGIN
    PERFORM tx_export('reset, another');
EXCEPTION WHEN OTHERS THEN
    RAISE NOTICE '%', SQLERRM;
END $$;
DROP DATABASE reset_destination;

-- A position that is still to come is one of another history: after pg_resetwal, say, or from a dump of a copy of this cluster.
CREATE TABLE still (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('still');
SELECT count(*) FROM tx_export('reset/still to come');
UPDATE table_export.target SET position = '9000000000:9000000000:' WHERE name = 'reset/still to come';
SELECT DISTINCT kind FROM tx_export('reset/still to come');
SELECT tx_untrack('still');
