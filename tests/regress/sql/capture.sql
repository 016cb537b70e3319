-- Each statement that writes to a tracked table leaves the keys of the changed rows in the shadow.
CREATE TABLE item (id integer PRIMARY KEY, body text);
SELECT shadow FROM tx_track('item');

-- Shows and forgets what has been captured.
\set show 'SELECT op, k1, run, count(*), count(DISTINCT xid) AS transactions FROM (SELECT * FROM table_export.shadow_1_0 UNION ALL SELECT * FROM table_export.shadow_1_1) AS s GROUP BY op, k1, run ORDER BY k1, op; TRUNCATE table_export.shadow_1_0, table_export.shadow_1_1;'

INSERT INTO item SELECT i, 'new' FROM generate_series(1, 3) AS i;
:show

UPDATE item SET body = 'changed' WHERE id <= 2;
:show

DELETE FROM item WHERE id = 3;
:show

-- A change of the key is both keys.
UPDATE item SET id = id + 10 WHERE id = 2;
:show
-- Keys that swap are each deleted and inserted.
UPDATE item SET id = CASE id WHEN 1 THEN 21 ELSE 22 END;
:show

TRUNCATE item;
:show

-- Statements that touch no row leave nothing.
INSERT INTO item SELECT 1, 'x' WHERE false;
UPDATE item SET body = 'x' WHERE false;
DELETE FROM item WHERE false;
:show

COPY item FROM stdin;
31	copied
32	copied
\.
:show

INSERT INTO item VALUES (31, 'conflict'), (33, 'no conflict') ON CONFLICT (id) DO UPDATE SET body = excluded.body;
:show
INSERT INTO item VALUES (31, 'conflict') ON CONFLICT DO NOTHING;
:show

MERGE INTO item USING (VALUES (31, 'update'), (32, 'delete'), (34, 'insert'), (33, 'leave')) AS source (id, what) ON item.id = source.id
    WHEN MATCHED AND what = 'update' THEN UPDATE SET body = 'merged'
    WHEN MATCHED AND what = 'delete' THEN DELETE
    WHEN MATCHED THEN DO NOTHING
    WHEN NOT MATCHED THEN INSERT VALUES (source.id, 'merged');
:show

WITH deleted AS (DELETE FROM item WHERE id = 31 RETURNING *),
     updated AS (UPDATE item SET body = 'with' WHERE id = 33)
INSERT INTO item SELECT id + 100, body FROM deleted;
:show

-- Writes under session_replication_role = replica are captured, too.
SET session_replication_role = replica;
INSERT INTO item VALUES (41, 'replica');
UPDATE item SET body = 'replica' WHERE id = 41;
DELETE FROM item WHERE id = 41;
RESET session_replication_role;
:show

-- Every transaction id is the top-level one, also in savepoints and exception blocks.
BEGIN;
INSERT INTO item VALUES (51, 'top');
SAVEPOINT a;
INSERT INTO item VALUES (52, 'savepoint');
SAVEPOINT b;
INSERT INTO item VALUES (53, 'savepoint in savepoint');
RELEASE b;
DO $$
BEGIN
    INSERT INTO item VALUES (54, 'exception block');
    INSERT INTO item VALUES (54, 'again');
EXCEPTION WHEN unique_violation THEN
    INSERT INTO item VALUES (55, 'handler');
END $$;
SELECT op, k1, xid = pg_current_xact_id() AS is_top_level FROM table_export.shadow_1_0 ORDER BY k1;
ROLLBACK TO a;
INSERT INTO item VALUES (56, 'after the savepoint was rolled back');
COMMIT;
:show

-- What is rolled back leaves nothing.
BEGIN;
INSERT INTO item VALUES (57, 'rolled back');
ROLLBACK;
:show

-- In a transaction all of whose writes are in a savepoint, the id is the top-level one all the same.
BEGIN;
SAVEPOINT a;
INSERT INTO item VALUES (58, 'only here');
RELEASE a;
SELECT op, k1, xid = pg_current_xact_id() AS is_top_level FROM table_export.shadow_1_0 ORDER BY k1;
COMMIT;
:show

-- Triggers of the table itself: what a BEFORE trigger makes of a row is what counts, and an AFTER trigger's writes do.
CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_WHEN = 'AFTER' THEN
        INSERT INTO item VALUES (NEW.id + 1000, 'by a trigger');
    ELSIF NEW.id = 0 THEN
        RETURN NULL;
    ELSE
        NEW.id := -NEW.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER interfere_before BEFORE INSERT ON item FOR EACH ROW WHEN (NEW.id < 100) EXECUTE FUNCTION interfere();
CREATE TRIGGER interfere_after AFTER INSERT ON item FOR EACH ROW WHEN (NEW.id = -61) EXECUTE FUNCTION interfere();
INSERT INTO item VALUES (0, 'dropped'), (61, 'negated'), (62, 'negated');
:show
DROP FUNCTION interfere CASCADE;

-- Writes through a view, and by a rule.
CREATE VIEW item_view AS SELECT * FROM item;
INSERT INTO item_view VALUES (71, 'view');
UPDATE item_view SET body = 'view' WHERE id = 71;
CREATE TABLE ruled (id integer);
CREATE RULE ruled AS ON INSERT TO ruled DO INSTEAD INSERT INTO item VALUES (NEW.id, 'rule');
INSERT INTO ruled VALUES (72);
:show

-- SELECT FOR UPDATE changes nothing.
SELECT id FROM item WHERE id = 71 FOR UPDATE;
:show
