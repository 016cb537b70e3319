-- One cluster, two databases: this one is the destination.
\set destination :DBNAME
CREATE DATABASE import_source;
\c import_source
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric(10, 2), ordered timestamptz);
INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Zoë');
INSERT INTO orders VALUES (1, 9.99, '2024-02-29 12:00+00');
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('orders');
SELECT batch, table_name, kind, ids, records FROM tx_export('import');

-- A column more, columns in another order, rows of its own.
\c :destination
CREATE TABLE users (note text DEFAULT 'none', name text, id integer PRIMARY KEY);
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric(10, 2), ordered timestamptz);
INSERT INTO users VALUES ('will go', 'old', 99);
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import', adopt => true);
SELECT * FROM users ORDER BY id;
SELECT * FROM orders ORDER BY id;

-- Importing again changes nothing.
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');

-- Changes of several batches arrive in order.
\c import_source
UPDATE users SET name = 'Ada L.' WHERE id = 1;
DELETE FROM users WHERE id = 2;
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
INSERT INTO users VALUES (4, 'Linus');
UPDATE users SET name = 'Countess' WHERE id = 1;
SELECT batch, table_name, kind, ids, records FROM tx_export('import', format => 'binary');
UPDATE orders SET amount = NULL, ordered = 'infinity';
SELECT batch, table_name, kind, ids, records FROM tx_export('import', format => 'csv', compression => 'none');
SELECT batch, table_name, kind, ids, records FROM tx_export('import', even_if_unchanged => true);
\c :destination
-- As many batches as one asks for.
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import', max_batches => 0);
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import', max_batches => 1);
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import', max_batches => NULL);
SELECT * FROM users ORDER BY id;
SELECT * FROM orders ORDER BY id;
SELECT target, batch, kind, tables, deleted, updated, inserted FROM tx_receipts;

-- A truncated table becomes empty.
\c import_source
TRUNCATE orders;
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
\c :destination
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');
SELECT * FROM orders;

-- An import is undone with its transaction, and done again.
\c import_source
INSERT INTO orders VALUES (2, 2, now());
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
\c :destination
BEGIN;
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');
ROLLBACK;
SELECT id FROM orders;
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');
SELECT id FROM orders;

-- The destination's own triggers stay quiet unless they are ALWAYS or REPLICA, as with logical replication.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'trigger %', TG_NAME; RETURN NULL; END $$;
CREATE TRIGGER quiet AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER always AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE orders ENABLE ALWAYS TRIGGER always;
\c import_source
INSERT INTO orders VALUES (3, 3, now());
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
\c :destination
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');

-- A partitioned destination.
DROP TABLE users;
CREATE TABLE users (id integer PRIMARY KEY, name text) PARTITION BY RANGE (id);
CREATE TABLE users_low PARTITION OF users FOR VALUES FROM (MINVALUE) TO (3);
CREATE TABLE users_high PARTITION OF users DEFAULT;
\c import_source
SELECT tx_reset('import');
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
UPDATE users SET id = 5 WHERE id = 1;
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
\c :destination
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');
SELECT tableoid::regclass, * FROM users ORDER BY id;

-- By a role that may do no more than it needs.
CREATE ROLE regress_importer;
GRANT EXECUTE ON FUNCTION tx_import TO regress_importer;
GRANT INSERT, UPDATE, DELETE ON users, orders TO regress_importer;
\c import_source
INSERT INTO users VALUES (6, 'by a role');
SELECT batch, table_name, kind, ids, records FROM tx_export('import');
\c :destination
SET ROLE regress_importer;
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('import');
RESET ROLE;
DROP OWNED BY regress_importer;
DROP ROLE regress_importer;
SELECT tableoid::regclass, * FROM users WHERE id = 6;

DROP DATABASE import_source;
