-- Tracking says what the key is and where changes go.
CREATE TABLE users (id integer PRIMARY KEY, name text);
SELECT * FROM tx_track('users');
\d users
\dt table_export.shadow_*
\d table_export.shadow_1_0

-- Twice is a notice, with the same answer.
SELECT * FROM tx_track('users');
SELECT count(*) FROM table_export.tracked;

-- A composite key has the order of its index, not that of the columns.
CREATE TABLE lines (line smallint, amount money, invoice uuid, PRIMARY KEY (invoice, line));
SELECT tracked, key FROM tx_track('lines');

-- Any schema, any name.
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."O'Brien ""x"" Zoë" ("The Key" text PRIMARY KEY, "select" text);
SELECT tracked, key FROM tx_track('"My Schema"."O''Brien ""x"" Zoë"');

-- Instead of the primary key, or without one, a unique index over NOT NULL columns.
CREATE TABLE people (id serial PRIMARY KEY, country char(2) NOT NULL, passport text NOT NULL, UNIQUE (country, passport));
SELECT tracked, key FROM tx_track('people', key_index => 'people_country_passport_key');
SELECT tracked, key FROM tx_track('people');
CREATE TABLE log (at timestamptz NOT NULL, line text);
CREATE UNIQUE INDEX "Log At" ON log (at) INCLUDE (line);
SELECT tracked, key FROM tx_track('log', 'Log At');

-- Without a primary key, the index of the replica identity.
CREATE TABLE identified (id integer NOT NULL UNIQUE, code text NOT NULL);
CREATE UNIQUE INDEX identified_code ON identified (code);
ALTER TABLE identified REPLICA IDENTITY USING INDEX identified_code;
SELECT tracked, key FROM tx_track('identified');
CREATE TABLE two_uniques (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
ALTER TABLE two_uniques REPLICA IDENTITY USING INDEX two_uniques_code_key;
SELECT tracked, key FROM tx_track('two_uniques');

-- Domains, arrays, enums, ranges and composite types can be keys; the shadow keeps domains as what they are over.
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 10);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (a integer, b text);
CREATE TABLE odd (d small_positive, a integer[], e mood, r int4range, p pair, PRIMARY KEY (d, a, e, r, p));
SELECT tracked, key, shadow || '_0' AS segment FROM tx_track('odd') \gset
\echo :tracked :key
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute
 WHERE attrelid = :'segment'::regclass AND attnum > 0 ORDER BY attnum;

-- Tracking is undone with the transaction.
BEGIN;
CREATE TABLE undone (id integer PRIMARY KEY);
SELECT tracked FROM tx_track('undone');
ROLLBACK;
SELECT table_name, key, triggers_intact FROM tx_tracked;
