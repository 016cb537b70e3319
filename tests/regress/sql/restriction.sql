-- One cluster, two databases: this one is the destination.
\set destination :DBNAME
CREATE DATABASE restriction_source;
\c restriction_source
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name text NOT NULL, email text, region text);
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric);
CREATE TABLE secrets (id integer PRIMARY KEY, secret text);
INSERT INTO users VALUES (1, 'Ada', 'ada@example.com', 'eu'), (2, 'Grace', 'grace@example.com', 'us'), (3, 'Zoë', NULL, 'eu');
INSERT INTO orders VALUES (1, 9.99);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('orders') UNION ALL SELECT tracked FROM tx_track('secrets');

-- A column is left out, another masked, and rows are chosen.
CREATE VIEW users_eu AS SELECT id, left(name, 1) AS name, region FROM users WHERE region = 'eu';
SELECT tx_restrict('restriction', 'users', 'users_eu');
SELECT tx_restrict('restriction', 'orders');
SELECT * FROM tx_restrictions;
SELECT table_name, kind, ids, records FROM tx_export('restriction');
\c :destination
SELECT table_name, kind, inserted FROM tx_import('restriction', create_tables => true);
SELECT * FROM users ORDER BY id;
\d users

-- A row leaves the view, another enters it; what the target does not get makes no batch.
\c restriction_source
UPDATE users SET region = CASE region WHEN 'eu' THEN 'us' ELSE 'eu' END WHERE id < 3;
INSERT INTO secrets VALUES (1, 'x');
SELECT table_name, kind, ids, records FROM tx_export('restriction');
INSERT INTO secrets VALUES (2, 'x');
SELECT table_name, kind, ids, records FROM tx_export('restriction');
\c :destination
SELECT table_name, kind, deleted, updated, inserted FROM tx_import('restriction');
SELECT * FROM users ORDER BY id;

-- With another definition the table is sent in full.
\c restriction_source
CREATE OR REPLACE VIEW users_eu AS SELECT id, left(name, 2) AS name, region FROM users WHERE region = 'eu';
SELECT table_name, kind, ids, records FROM tx_export('restriction');
SELECT tx_unrestrict('restriction', 'orders');
SELECT table_name, kind, ids, records FROM tx_export('restriction', even_if_unchanged => true);
SELECT tx_unrestrict('restriction', 'users');
SELECT tx_unrestrict('restriction', 'secrets');

-- Untracking, dropping and forgetting give it no more than it got.
SELECT tx_forget('restriction');
SELECT tx_untrack('users');
SELECT table_name, kind, ids, records FROM tx_export('restriction');
SELECT tracked FROM tx_track('users');
DROP VIEW users_eu;
SELECT table_name, kind, ids, records FROM tx_export('restriction');
SELECT tx_unrestrict('restriction');
SELECT tx_unrestrict('restriction');
SELECT table_name, kind, ids, records FROM tx_export('restriction');

-- What a view may be.
CREATE FUNCTION refused(definition text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
    EXECUTE 'CREATE VIEW v AS ' || definition;
    PERFORM tx_restrict('refused', 'users', 'v');
EXCEPTION WHEN invalid_table_definition THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RAISE NOTICE '%: %', SQLERRM, detail USING HINT = hint;
END
$$;
SELECT refused('SELECT name FROM users');
SELECT refused('SELECT id + 1 AS id FROM users');
SELECT refused('SELECT id AS number, name FROM users');
SELECT refused('SELECT o.id FROM users AS u, orders AS o');
SELECT refused('SELECT id FROM orders');
SELECT refused('SELECT id FROM users TABLESAMPLE system (10)');
SELECT refused('SELECT DISTINCT id FROM users');
SELECT refused('SELECT id FROM users LIMIT 1');
SELECT refused('SELECT id, count(*) AS n FROM users GROUP BY id');
SELECT refused('SELECT id, row_number() OVER () AS n FROM users');
SELECT refused('SELECT id, generate_series(1, 2) AS n FROM users');
SELECT refused('SELECT id FROM users UNION SELECT id FROM users');
SELECT refused('WITH w AS (SELECT id FROM users) SELECT id FROM w');
SELECT refused('SELECT id FROM users WHERE EXISTS (SELECT FROM orders)');
SELECT refused('SELECT id, (SELECT secret FROM secrets LIMIT 1) AS s FROM users');
SELECT refused('SELECT id FROM users WHERE now() > ''2024-01-01''');
SELECT refused('SELECT id, random() AS r FROM users');
SELECT refused('SELECT id, users::text AS r FROM users');
SELECT refused('SELECT id, tableoid AS t FROM users');
SELECT refused('SELECT id FROM users WHERE users IS NOT NULL');
SELECT tx_restrict('refused', 'users', 'orders');
SELECT tx_restrict('refused', 'users', 'pg_class');
SELECT tx_restrict('refused', 'v');
SELECT tx_restrict('refused', 'pg_class');
SELECT tx_restrict('refused', NULL);
SELECT tx_restrict('', 'users');
CREATE TABLE child () INHERITS (users);
SELECT refused('SELECT id FROM users');
CREATE VIEW v AS SELECT id FROM ONLY users;
SELECT tx_restrict('refused', 'users', 'v');

-- Whose rights it takes.
CREATE ROLE regress_restricting;
GRANT EXECUTE ON FUNCTION tx_restrict, tx_unrestrict, tx_export TO regress_restricting;
GRANT SELECT ON users TO regress_restricting;
SET ROLE regress_restricting;
SELECT tx_restrict('refused', 'users');
SELECT tx_unrestrict('refused');
SELECT table_name FROM tx_export('refused');
RESET ROLE;
REVOKE SELECT ON users FROM regress_restricting;
GRANT SELECT ON v TO regress_restricting;
SET ROLE regress_restricting;
SELECT table_name, kind, records FROM tx_export('refused');
RESET ROLE;
ALTER VIEW v OWNER TO regress_restricting;
SELECT table_name FROM tx_export('refused');
\c :destination
DROP DATABASE restriction_source;
DROP ROLE regress_restricting;
