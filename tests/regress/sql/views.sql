-- What there is to see, as a person sees it. Times, sizes and identities are left out or masked.
SELECT * FROM tx_tracked;
SELECT * FROM tx_targets;
SELECT * FROM tx_batches;
SELECT * FROM tx_receipts;

CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE people (country char(2) NOT NULL, passport text NOT NULL, UNIQUE (country, passport));
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('people', 'people_country_passport_key');
INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 100) AS i;
INSERT INTO people VALUES ('de', 'C01X00T47');
SELECT table_name, key, changes, shadow_size, triggers_intact, tracked_at <= now() AS tracked_at FROM tx_tracked;

SELECT count(*) FROM tx_export('views/slow');
SELECT count(*) FROM tx_export('views/fast');
UPDATE users SET name = 'x' WHERE id <= 10;
SELECT count(*) FROM tx_export('views/fast');
UPDATE users SET name = 'y' WHERE id <= 3;

-- How far behind each target is.
SELECT target, last_batch, exported_at <= now() AS exported_at, age < interval '1 minute' AS age, pending, position IS NOT NULL AS position FROM tx_targets;
SELECT target, held_back FROM tx_targets;
SELECT table_name, freed, held_back_by FROM tx_prune();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT table_name, freed, held_back_by FROM tx_prune();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tx_reset('views/slow');
ROLLBACK;
BEGIN;
SELECT count(*) FROM tx_prune();
SELECT count(*) FROM tx_prune();
ROLLBACK;
SELECT tx_reset('views/slow');
SELECT table_name, freed > 0 AS freed, held_back_by FROM tx_prune();
SELECT target, last_batch, pending, position IS NOT NULL AS position FROM tx_targets;

-- The latest batch of each target first.
SELECT target, batch, kind, tables, ids, records, size LIKE '% bytes' AS size, id IS NOT NULL AS id, store LIKE 'file:///%/pg_table_export/%' AS store FROM tx_batches;

-- A trigger that is disabled, a table that is gone.
ALTER TABLE users DISABLE TRIGGER pg_table_export_insert;
SELECT table_name, key, triggers_intact FROM tx_tracked;
ALTER TABLE users ENABLE ALWAYS TRIGGER pg_table_export_insert;
SELECT table_name, key, triggers_intact FROM tx_tracked;
DROP TRIGGER pg_table_export_delete ON users;
SELECT table_name, key, triggers_intact FROM tx_tracked;
ALTER EVENT TRIGGER pg_table_export_drops DISABLE;
DROP TABLE people;
ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS;
SELECT table_name::text ~ '^\d+$' AS is_gone, key, triggers_intact FROM tx_tracked;

-- Receipts at the destination.
\set source :DBNAME
CREATE DATABASE views_destination;
\c views_destination
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE people (country char(2) NOT NULL, passport text NOT NULL, UNIQUE (country, passport));
SELECT count(*) FROM tx_import('views/fast');
SELECT target, batch, kind, tables, deleted, updated, inserted, size LIKE '% bytes' AS size, exported_at < applied_at AS exported_at, behind < interval '1 minute' AS behind, id IS NOT NULL AS id FROM tx_receipts;
\c :source
DROP DATABASE views_destination;
