-- Keys of many kinds: what is captured is what the row had, byte by byte.
CREATE TABLE composite (line smallint, body text, invoice text, PRIMARY KEY (invoice, line));
SELECT key, shadow FROM tx_track('composite');
INSERT INTO composite VALUES (1, 'x', 'A'), (2, 'x', 'A');
UPDATE composite SET body = 'y';
UPDATE composite SET line = 3 WHERE line = 2;
SELECT op, k1, k2 FROM table_export.shadow_1_0 ORDER BY ctid;

-- Case-insensitive collation, and numeric scale: 'a' becomes 'A', 1.0 becomes 1.00, equal to the index, two keys in the shadow.
CREATE COLLATION case_insensitive (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE loose (code text COLLATE case_insensitive, n numeric, PRIMARY KEY (code, n));
SELECT key, shadow FROM tx_track('loose');
INSERT INTO loose VALUES ('a', 1.0);
UPDATE loose SET code = 'A';
UPDATE loose SET n = 1.00;
SELECT op, k1, k2 FROM table_export.shadow_2_0 ORDER BY ctid;
-- Each is an id, and the row is one record.
SELECT table_name, kind, ids, records FROM tx_export('capture_keys');
UPDATE loose SET code = 'a';
SELECT table_name, kind, ids, records FROM tx_export('capture_keys');

-- Long keys.
CREATE TABLE long (k text PRIMARY KEY);
SELECT key, shadow FROM tx_track('long');
INSERT INTO long VALUES (repeat('x', 2000));
UPDATE long SET k = k || 'y';
SELECT op, length(k1) FROM table_export.shadow_3_0 ORDER BY ctid;

-- The key of a renamed column and of a renamed table goes on being captured.
ALTER TABLE composite RENAME COLUMN line TO position;
ALTER TABLE composite RENAME TO renamed;
INSERT INTO renamed VALUES (4, 'z', 'B');
SELECT op, k1, k2 FROM table_export.shadow_1_0 UNION ALL SELECT op, k1, k2 FROM table_export.shadow_1_1;
SELECT table_name, kind, ids, records FROM tx_export('capture_keys') WHERE table_name = 'public.renamed';
