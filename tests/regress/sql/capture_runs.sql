-- Consecutive keys of one statement are one row of the shadow, if the key is one column of type integer or bigint.
CREATE DOMAIN number AS bigint CHECK (value <> 0);
CREATE TABLE items (id integer PRIMARY KEY, note text);
CREATE TABLE large (id number PRIMARY KEY);
CREATE TABLE small (id smallint PRIMARY KEY);
CREATE TABLE pairs (a integer, b integer, PRIMARY KEY (a, b));
CREATE TABLE parted (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (5);
CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (5) TO (100);
SELECT t.tracked FROM (VALUES ('items'), ('large'), ('small'), ('pairs'), ('parted')) AS n (name), tx_track(n.name::regclass) AS t;
CREATE VIEW shadow AS
          SELECT 'items' AS table_name, ctid AS place, op, run, k1 FROM table_export.shadow_1_0
UNION ALL SELECT 'large', ctid, op, run, k1 FROM table_export.shadow_2_0
UNION ALL SELECT 'small', ctid, op, run, k1 FROM table_export.shadow_3_0
UNION ALL SELECT 'pairs', ctid, op, run, k1 FROM table_export.shadow_4_0
UNION ALL SELECT 'parted', ctid, op, run, k1 FROM table_export.shadow_5_0;
\set show 'SELECT table_name, op, run, k1 FROM shadow ORDER BY table_name, place; TRUNCATE table_export.shadow_1_0, table_export.shadow_2_0, table_export.shadow_3_0, table_export.shadow_4_0, table_export.shadow_5_0;'

INSERT INTO items SELECT generate_series(-3, 3);
INSERT INTO large SELECT generate_series(1, 5) + 9223372036854775802;
INSERT INTO small SELECT generate_series(1, 3);
INSERT INTO pairs SELECT 1, generate_series(1, 3);
INSERT INTO parted SELECT generate_series(3, 7);
:show

-- Gaps, another order, other kinds of changes, and statements of their own end a run.
INSERT INTO items SELECT i FROM generate_series(10, 20) AS i WHERE i <> 15;
INSERT INTO items SELECT i FROM generate_series(30, 28, -1) AS i;
INSERT INTO items VALUES (40);
INSERT INTO items VALUES (41);
MERGE INTO items AS i USING generate_series(41, 44) AS s (id) ON i.id = s.id
    WHEN MATCHED AND i.id = 41 THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (s.id);
UPDATE items SET note = 'x' WHERE id BETWEEN 10 AND 12;
UPDATE items SET id = id + 100 WHERE id BETWEEN 10 AND 11;
DELETE FROM items WHERE id <= 0;
DELETE FROM parted;
:show
INSERT INTO items VALUES (2147483646), (2147483647), (-2147483648), (-2147483647);
:show

-- All that a statement writes is recorded, also if that is many batches of a thousand.
TRUNCATE items;
SELECT kind FROM tx_export('capture_runs') WHERE table_name = 'public.items';
COPY items (id) FROM PROGRAM 'seq 1 100000';
SELECT count(*), sum(run), min(run), max(run) FROM (SELECT * FROM table_export.shadow_1_0 UNION ALL SELECT * FROM table_export.shadow_1_1) AS s WHERE op = 'I';
SELECT changes FROM tx_tracked WHERE table_name = 'items'::regclass;
SELECT pending FROM tx_targets;
SELECT kind, ids, records FROM tx_export('capture_runs');

-- A change of few keys does not read the table.
ANALYZE items;
UPDATE items SET note = 'few' WHERE id % 1000 = 0;
EXPLAIN (COSTS OFF) SELECT FROM items AS t WHERE EXISTS (SELECT FROM (
    SELECT DISTINCT * FROM (SELECT table_export.series(k1, k1 + (run - 1)) AS k1 FROM table_export.shadow_1_0 WHERE op IN ('I', 'U', 'D')) AS c ORDER BY k1) AS k WHERE t.id = k.k1);
SELECT kind, ids, records FROM tx_export('capture_runs');
