-- The first export of a target is full, with every table; later ones have what changed since.
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric);
CREATE TABLE untouched (id integer PRIMARY KEY);
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 1000) AS i;
INSERT INTO orders VALUES (1, 9.99);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('orders') UNION ALL SELECT tracked FROM tx_track('untouched');
SELECT batch, table_name, kind, ids, records FROM tx_export('export');
SELECT bytes > 0 AS has_bytes, elapsed_ms > 0 AS took_time FROM tx_export('export, and its other columns');

-- Nothing has changed: nothing is published, and that is said.
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- Unless it is asked for: an empty batch, to see that the way is open.
SELECT batch, table_name, kind, ids, records FROM tx_export('export', even_if_unchanged => true);
SELECT batch, kind, tables, ids, records FROM tx_batches WHERE target = 'export';

-- Only tables that changed; deleted rows are ids without records.
INSERT INTO users VALUES (1001, 'new');
UPDATE users SET name = 'changed' WHERE id <= 10;
DELETE FROM users WHERE id > 990 AND id <= 1000;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- A row touched many times ships once.
INSERT INTO orders VALUES (2, 0);
DO $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        UPDATE orders SET amount = i WHERE id = 2;
    END LOOP;
END $$;
SELECT count(*) FROM (SELECT * FROM table_export.shadow_2_0 UNION ALL SELECT * FROM table_export.shadow_2_1) AS s WHERE k1 = 2;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- A row that came and went is an id only.
INSERT INTO orders VALUES (3, 0);
DELETE FROM orders WHERE id = 3;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- A key that changed is two ids and one record.
UPDATE orders SET id = 20 WHERE id = 2;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- A truncated table is sent in full, the others are not.
TRUNCATE orders;
INSERT INTO orders VALUES (4, 4), (5, 5);
UPDATE users SET name = 'again' WHERE id = 1;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- A table that is tracked later joins in full.
CREATE TABLE later (id integer PRIMARY KEY);
INSERT INTO later VALUES (1), (2);
SELECT tracked FROM tx_track('later');
SELECT batch, table_name, kind, ids, records FROM tx_export('export');
INSERT INTO later VALUES (3);
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- Targets have nothing to do with each other.
SELECT batch, table_name, kind, ids, records FROM tx_export('export, a second target');
SELECT batch, table_name, kind, ids, records FROM tx_export('export');

-- Formats and compression.
SELECT batch, table_name, kind, ids, records FROM tx_export('export, csv', format => 'csv', compression => 'none');
SELECT batch, table_name, kind, ids, records FROM tx_export('export, binary', format => 'binary');
SELECT pg_read_file(format('%s/export%%2C%%20csv/data/0000000001/%s/public/orders/records', substr(store, 8), id)) AS csv
  FROM tx_batches WHERE target = 'export, csv';

-- The three files of a table, and a line of each.
UPDATE users SET name = E'tab \t, newline \n, backslash \\, Zoë, \\N' WHERE id = 1;
UPDATE users SET name = NULL WHERE id = 2;
DELETE FROM users WHERE id = 3;
SELECT batch, table_name, kind, ids, records FROM tx_export('export, csv', compression => 'none');
SELECT file, pg_read_file(format('%s/export%%2C%%20csv/data/0000000002/%s/public/users/%s', substr(store, 8), id, file)) AS content
  FROM tx_batches, unnest('{columns,ids,records}'::text[]) AS file WHERE target = 'export, csv' AND batch = 2;

-- Target names may hold anything.
SELECT batch, table_name, kind FROM tx_export('../db2.example.com/réporting "x"') LIMIT 1;
SELECT folder FROM tx_batches, pg_ls_dir(substr(store, 8)) AS folder WHERE target LIKE '../%' AND folder LIKE '\%2E%';

-- One instant, and the caller's snapshot is not it: at any isolation level an export sees what is committed when it starts.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT batch, table_name, kind, ids, records FROM tx_export('export');
COMMIT;
