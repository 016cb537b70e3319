-- The errors that PostgreSQL itself raises while an export or an import works. Each must name the table, and
-- the batch if there is one, and keep PostgreSQL's own DETAIL, HINT and CONTEXT.
\set destination :DBNAME
CREATE DATABASE errors_source;
CREATE DATABASE errors_ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0;
CREATE DATABASE errors_latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0;

\echo An export: a value that is no text in the encoding of batches.
\c errors_ascii
CREATE EXTENSION pg_table_export;
CREATE TABLE app (id integer PRIMARY KEY, note text);
INSERT INTO app VALUES (1, E'caf\xe9');
SELECT tracked FROM tx_track('app');
SELECT tx_export('errors_ascii');
-- The HINT shows that row and others like it, and none that is UTF-8.
INSERT INTO app VALUES (2, E'caf\xc3\xa9'), (3, E'\xe2\x82\xac \xf0\x9f\x98\x80'), (4, E'\xed\xa0\x80'), (5, E'\xc3\xa9\xe9');
CREATE FUNCTION hinted() RETURNS SETOF integer LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
    PERFORM tx_export('errors_ascii');
EXCEPTION WHEN character_not_in_repertoire THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN QUERY EXECUTE split_part(hint, ' run: ', 2);
END
$$;
SELECT hinted();
-- They are written anew, from the encoding that they are in.
DELETE FROM app WHERE id > 3;
UPDATE app SET note = convert_from(convert(convert_to(note, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'UTF8') WHERE id = 1;
SELECT kind, records FROM tx_export('errors_ascii');

\echo An export: the owner of the table may not use its schema.
\c errors_source
CREATE EXTENSION pg_table_export;
CREATE ROLE regress_errors_owner;
CREATE SCHEMA app;
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price numeric);
ALTER TABLE app.items OWNER TO regress_errors_owner;
INSERT INTO app.items VALUES (1, 1, 'tea', 2), (2, 2, E'\u20ac', NULL);
SELECT tracked FROM tx_track('app.items');
SELECT tx_export('errors');

\echo An export: a view that computes what it cannot.
GRANT USAGE ON SCHEMA app TO regress_errors_owner;
CREATE VIEW app.shown AS SELECT id, part, name, price / (part - 1) AS price FROM app.items;
ALTER VIEW app.shown OWNER TO regress_errors_owner;
SELECT tx_restrict('errors', 'app.items', view => 'app.shown');
SELECT tx_export('errors');
SELECT tx_unrestrict('errors');

\echo An export: a statement that takes too long.
CREATE FUNCTION slow(price numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(60); RETURN price; END $$;
CREATE VIEW app.slow AS SELECT id, part, name, public.slow(price) AS price FROM app.items;
ALTER VIEW app.slow OWNER TO regress_errors_owner;
SELECT tx_restrict('errors', 'app.items', view => 'app.slow');
SET statement_timeout = '300ms';
SELECT tx_export('errors');
RESET statement_timeout;
SELECT tx_unrestrict('errors');
SELECT batch, table_name, kind, records FROM tx_export('errors');

\echo An import: a character that the database cannot store.
\c errors_latin1
CREATE EXTENSION pg_table_export;
CREATE SCHEMA app;
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price numeric);
SELECT tx_import('errors');

\echo An import: CHECK.
\c :destination
CREATE SCHEMA app;
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price numeric CHECK (price > 5));
SELECT tx_import('errors');

\echo An import: NOT NULL.
ALTER TABLE app.items DROP CONSTRAINT items_price_check, ALTER price SET NOT NULL;
SELECT tx_import('errors');

\echo An import: another unique index.
ALTER TABLE app.items ALTER price DROP NOT NULL;
CREATE UNIQUE INDEX items_all ON app.items ((id > 0));
SELECT tx_import('errors');

\echo An import: an exclusion constraint.
DROP INDEX app.items_all;
ALTER TABLE app.items ADD EXCLUDE USING btree ((id > 0) WITH =);
SELECT tx_import('errors');

\echo An import: a generated column.
ALTER TABLE app.items DROP CONSTRAINT items_expr_excl, ADD share integer GENERATED ALWAYS AS (1 / (part - 1)) STORED;
SELECT tx_import('errors');

\echo An import: a trigger that raises an error.
ALTER TABLE app.items DROP share;
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no % here', NEW.name USING DETAIL = 'It is written.', HINT = 'Read it.';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON app.items FOR EACH ROW EXECUTE FUNCTION app.refuse();
ALTER TABLE app.items ENABLE ALWAYS TRIGGER refuse;
SELECT tx_import('errors');
SELECT tx_import('errors', mode => 'append');

\echo An import: no partition for a row.
DROP TABLE app.items;
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price numeric) PARTITION BY RANGE (id);
CREATE TABLE app.items_1 PARTITION OF app.items FOR VALUES FROM (1) TO (2);
SELECT tx_import('errors');

\echo An import: a value that the type refuses.
DROP TABLE app.items;
CREATE DOMAIN app.price AS numeric CHECK (VALUE > 5);
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price app.price);
SELECT tx_import('errors');

\echo An import: a role that may write to the table, and may not read it.
DROP TABLE app.items;
CREATE TABLE app.items (id integer PRIMARY KEY, part integer NOT NULL, name text, price numeric CHECK (price > 5));
CREATE ROLE regress_errors_importer;
GRANT EXECUTE ON FUNCTION tx_import TO regress_errors_importer;
GRANT INSERT, UPDATE, DELETE ON app.items TO regress_errors_importer;
SET ROLE regress_errors_importer;
SELECT tx_import('errors');
RESET ROLE;

\echo An import: a statement that takes too long.
ALTER TABLE app.items DROP CONSTRAINT items_price_check;
CREATE FUNCTION app.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON app.items FOR EACH ROW EXECUTE FUNCTION app.slow();
ALTER TABLE app.items ENABLE ALWAYS TRIGGER slow;
SET statement_timeout = '300ms';
SELECT tx_import('errors');
RESET statement_timeout;
DROP TRIGGER slow ON app.items;

\echo Nothing of all that has changed anything.
SELECT count(*) FROM app.items;
SELECT batch, table_name, kind, inserted FROM tx_import('errors');

DROP DATABASE errors_ascii;
DROP DATABASE errors_latin1;
DROP DATABASE errors_source;
DROP OWNED BY regress_errors_importer;
DROP ROLE regress_errors_owner, regress_errors_importer;
