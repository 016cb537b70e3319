-- What cannot be tracked is refused, with what to do instead.
CREATE TABLE base (id integer PRIMARY KEY);

CREATE VIEW a_view AS SELECT * FROM base;
SELECT tx_track('a_view');

CREATE MATERIALIZED VIEW a_materialized_view AS SELECT * FROM base;
SELECT tx_track('a_materialized_view');

CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE a_foreign_table (id integer) SERVER nowhere;
SELECT tx_track('a_foreign_table');

CREATE SEQUENCE a_sequence;
SELECT tx_track('a_sequence');

CREATE TEMPORARY TABLE a_temporary_table (id integer PRIMARY KEY);
DO $$
DECLARE
    said text; detailed text; hinted text;
BEGIN
    PERFORM tx_track('a_temporary_table');
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detailed = PG_EXCEPTION_DETAIL, hinted = PG_EXCEPTION_HINT;
    -- The schema of temporary tables has a number.
    RAISE NOTICE '%', regexp_replace(said, 'pg_temp_\d+', 'pg_temp_N') USING DETAIL = detailed, HINT = hinted;
END $$;

CREATE UNLOGGED TABLE an_unlogged_table (id integer PRIMARY KEY);
SELECT tx_track('an_unlogged_table');

SELECT tx_track('pg_catalog.pg_class');
SELECT tx_track('information_schema.sql_features');
SELECT tx_track('table_export.target');

CREATE TABLE a_partitioned_table (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE UNLOGGED TABLE an_unlogged_partition PARTITION OF a_partitioned_table FOR VALUES FROM (0) TO (10);
SELECT tx_track('a_partitioned_table');
SELECT tx_track('an_unlogged_partition');

CREATE TABLE partly_foreign (id integer) PARTITION BY RANGE (id);
CREATE FOREIGN TABLE "Far Part" PARTITION OF partly_foreign FOR VALUES FROM (0) TO (10) SERVER nowhere;
CREATE TABLE near_part PARTITION OF partly_foreign (PRIMARY KEY (id)) FOR VALUES FROM (10) TO (20);
SELECT tx_track('partly_foreign');
SELECT tracked, key FROM tx_track('near_part');
SELECT tx_untrack('near_part');

-- Without a usable key.
CREATE TABLE keyless (id integer, code text, part text NOT NULL);
SELECT tx_track('keyless');
SELECT tx_track('keyless', key_index => 'keyless_code_key');
CREATE UNIQUE INDEX keyless_code_key ON keyless (code);
SELECT tx_track('keyless', key_index => 'keyless_code_key');
CREATE UNIQUE INDEX keyless_partial ON keyless (part) WHERE id > 0;
SELECT tx_track('keyless', key_index => 'keyless_partial');
CREATE UNIQUE INDEX keyless_expression ON keyless (lower(part));
SELECT tx_track('keyless', key_index => 'keyless_expression');
CREATE INDEX keyless_plain ON keyless (part);
SELECT tx_track('keyless', key_index => 'keyless_plain');
CREATE TABLE "Key Less" ("The Code" text UNIQUE);
SELECT tx_track('"Key Less"', key_index => 'Key Less_The Code_key');
-- The hint works as it is.
ALTER TABLE public."Key Less" ALTER COLUMN "The Code" SET NOT NULL;
SELECT tracked, key FROM tx_track('"Key Less"', key_index => 'Key Less_The Code_key');
-- Without a primary key, the unique indexes that would do are named.
CREATE TABLE only_unique (id integer NOT NULL UNIQUE, code text NOT NULL UNIQUE, other integer UNIQUE);
SELECT tx_track('only_unique');

-- Tracked by another key.
CREATE TABLE two_keys (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
SELECT tracked, key FROM tx_track('two_keys');
SELECT tx_track('two_keys', key_index => 'two_keys_code_key');

-- Only the owner may.
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION tx_track(regclass, text) TO regress_stranger;
GRANT ALL ON base TO regress_stranger;
SET ROLE regress_stranger;
SELECT tx_track('base');
RESET ROLE;
REVOKE EXECUTE ON FUNCTION tx_track(regclass, text) FROM regress_stranger;
REVOKE ALL ON base FROM regress_stranger;
DROP ROLE regress_stranger;

-- Nothing, and what does not exist.
SELECT tx_track(NULL);
SELECT tx_track('no_such_table');
SELECT tx_track(4294967295);

-- A read-only transaction.
BEGIN READ ONLY;
SELECT tx_track('base');
ROLLBACK;

-- Nothing was left behind by what was refused.
SELECT table_name FROM tx_tracked;
SELECT tgrelid::regclass AS table_name, tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2;
