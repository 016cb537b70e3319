-- The extension can be dropped as long as nothing is tracked; with CASCADE tracking goes with it.
CREATE TABLE users (id integer PRIMARY KEY);
DROP EXTENSION pg_table_export;
CREATE EXTENSION pg_table_export;
SELECT tracked FROM tx_track('users');
DROP EXTENSION pg_table_export;
DROP EXTENSION pg_table_export CASCADE;
\d users
INSERT INTO users VALUES (1);

-- In a schema of one's own, and with a search_path that does not have it.
CREATE SCHEMA tools;
CREATE EXTENSION pg_table_export SCHEMA tools;
SET search_path = '';
SELECT tracked, key FROM tools.tx_track('public.users');
SELECT table_name, kind, records FROM tools.tx_export('extension');
INSERT INTO public.users VALUES (2);
SELECT table_name, kind, ids, records FROM tools.tx_export('extension');
SELECT table_name, triggers_intact FROM tools.tx_tracked;
RESET search_path;

-- A search_path that lies does not matter.
CREATE SCHEMA liar;
CREATE FUNCTION liar.count(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 42::bigint';
CREATE TABLE liar.tracked (id integer);
CREATE TABLE liar.users (id integer);
CREATE FUNCTION liar.eq(integer, integer) RETURNS boolean LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR liar.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = liar.eq);
SET search_path = liar, tools, pg_catalog, public;
UPDATE public.users SET id = 3 WHERE id OPERATOR(pg_catalog.=) 1;
SELECT table_name, kind, ids, records FROM tools.tx_export('extension');
RESET search_path;
