-- Foreign keys write, too: cascades, SET NULL, SET DEFAULT, and TRUNCATE ... CASCADE.
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (id integer PRIMARY KEY, parent integer REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE orphan (id integer PRIMARY KEY, parent integer REFERENCES parent ON DELETE SET NULL);
SELECT tracked, shadow FROM tx_track('parent');
SELECT tracked, shadow FROM tx_track('child');
SELECT tracked, shadow FROM tx_track('orphan');
INSERT INTO parent VALUES (1), (2), (3);
INSERT INTO child VALUES (11, 1), (12, 1), (21, 2);
INSERT INTO orphan VALUES (101, 1), (201, 2);
TRUNCATE table_export.shadow_1_0, table_export.shadow_2_0, table_export.shadow_3_0;

CREATE VIEW captured AS
SELECT 'parent' AS table_name, op, k1, run FROM table_export.shadow_1_0
UNION ALL SELECT 'child', op, k1, run FROM table_export.shadow_2_0
UNION ALL SELECT 'orphan', op, k1, run FROM table_export.shadow_3_0;
\set show 'SELECT * FROM captured ORDER BY table_name DESC, k1, op; TRUNCATE table_export.shadow_1_0, table_export.shadow_2_0, table_export.shadow_3_0;'

DELETE FROM parent WHERE id = 1;
:show
UPDATE parent SET id = 22 WHERE id = 3;
:show
DELETE FROM orphan;
UPDATE parent SET id = 20 WHERE id = 2;
:show
TRUNCATE parent CASCADE;
:show
