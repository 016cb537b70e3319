-- A protected copy is read-only, except for imports.
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE events (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (MINVALUE) TO (100);
INSERT INTO users VALUES (1, 'Paul');
INSERT INTO events VALUES (1);
SELECT tracked FROM tx_track('users') UNION ALL SELECT tracked FROM tx_track('events');
SELECT batch, table_name, kind FROM tx_export('protect');
\set source :DBNAME
CREATE DATABASE protect_destination;
\c protect_destination
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name text);
CREATE TABLE events (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE events_low PARTITION OF events FOR VALUES FROM (MINVALUE) TO (100);
CREATE TABLE dependent (id integer PRIMARY KEY REFERENCES users);
SELECT tx_protect('users'), tx_protect('events');
-- Twice is once.
SELECT tx_protect('users'), tx_protect('events');
SELECT batch, table_name, kind FROM tx_import('protect');

INSERT INTO users VALUES (2);
UPDATE users SET name = 'x';
DELETE FROM users WHERE false;
TRUNCATE users CASCADE;
COPY users FROM '/dev/null';
INSERT INTO events VALUES (2);
UPDATE events_low SET id = 3;
DELETE FROM events;
TRUNCATE events;
TRUNCATE events_low;
-- Partitions that come later, too.
CREATE TABLE events_high PARTITION OF events FOR VALUES FROM (100) TO (MAXVALUE);
INSERT INTO events_high VALUES (200);

-- Imports go on.
\c :source
INSERT INTO users VALUES (2, 'Kyle');
UPDATE events SET id = 50;
SELECT batch, table_name, kind, ids, records FROM tx_export('protect');
\c protect_destination
SELECT batch, table_name, kind FROM tx_import('protect');
TABLE users;
TABLE events;

-- And back.
SELECT tx_unprotect('users'), tx_unprotect('events');
SELECT tx_unprotect('users');
INSERT INTO users VALUES (3);
TRUNCATE events_low;
INSERT INTO events VALUES (4);

-- A view, a system table, nothing, and a table of another owner.
CREATE VIEW viewed AS TABLE users;
SELECT tx_protect('viewed');
SELECT tx_protect('pg_class');
SELECT tx_protect(NULL);
SELECT tx_protect(4711);
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION tx_protect, tx_unprotect TO regress_stranger;
SET ROLE regress_stranger;
SELECT tx_protect('users');
SELECT tx_unprotect('users');
RESET ROLE;
DROP OWNED BY regress_stranger;
DROP ROLE regress_stranger;
\c :source
DROP DATABASE protect_destination;
