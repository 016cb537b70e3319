-- One cluster, two databases: this one is the destination.
\set destination :DBNAME
CREATE DATABASE compaction_source;
\c compaction_source
CREATE EXTENSION pg_table_export;
CREATE TABLE users (id integer PRIMARY KEY, name text);
INSERT INTO users VALUES (1, 'Ada'), (2, 'Grace'), (3, 'Zoë');
SELECT tracked FROM tx_track('users');
SELECT batch, kind, ids, records FROM tx_export('compaction');
SELECT * FROM tx_compact('compaction');
SELECT target, last_batch, destination, applied, pending FROM tx_status('compaction');

\c :destination
CREATE TABLE users (id integer PRIMARY KEY, name text);
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('compaction');

\c compaction_source
UPDATE users SET name = 'Ada L.' WHERE id = 1;
SELECT batch, kind, ids, records FROM tx_export('compaction');
DELETE FROM users WHERE id = 2;
INSERT INTO users VALUES (4, 'Linus');
SELECT batch, kind, ids, records FROM tx_export('compaction');
UPDATE users SET id = 5 WHERE id = 4;
SELECT batch, kind, ids, records FROM tx_export('compaction');

-- Everything up to a batch, and a run of changes.
SELECT batch, batches, table_name, kind, ids, records FROM tx_compact('compaction', last => 3);
SELECT batch, batches, table_name, kind, ids, records FROM tx_compact('compaction', first => 2);
SELECT batch, batches, table_name, kind, ids, records FROM tx_compact('compaction', first => 2);
SELECT batch, batches, table_name, kind, ids, records FROM tx_compact('compaction');

-- The run of changes is the shortest way for who has applied batch 1.
\c :destination
SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import('compaction');
SELECT * FROM users ORDER BY id;

-- Nothing is removed that is not old enough, or that is to be kept.
\c compaction_source
SELECT batch, kind FROM tx_expire('compaction');
SELECT batch, kind FROM tx_expire('compaction', older_than => '0', keep_batches => 3);
SELECT batch, kind FROM tx_expire('compaction', older_than => '0', only_received => true);
SELECT batch, kind, bytes > 0 AS has_bytes, exported_at < now() AS is_past FROM tx_expire('compaction', older_than => '0');

-- Who comes too late is told so, and begins again if it may: here one that has applied another batch 1.
INSERT INTO users VALUES (6, 'Barbara');
SELECT batch, kind, ids, records FROM tx_export('compaction');
\c :destination
BEGIN;
DELETE FROM table_export.receipt WHERE number = 4;
UPDATE table_export.receipt SET id = '00000000-0000-0000-0000-000000000000';
SELECT batch, kind FROM tx_import('compaction');
ROLLBACK;
BEGIN;
DELETE FROM table_export.receipt WHERE number = 4;
UPDATE table_export.receipt SET id = '00000000-0000-0000-0000-000000000000';
SET pg_table_export.restart_when_behind = on;
SELECT batch, kind, deleted, updated, inserted, unchanged FROM tx_import('compaction');
ROLLBACK;
SELECT batch, kind, deleted, updated, inserted, unchanged FROM tx_import('compaction');

-- A receipt is left by the import after the one that it tells of.
ALTER SYSTEM SET pg_table_export.leave_receipts = on;
SELECT pg_reload_conf();
\c :destination
SELECT batch, kind FROM tx_import('compaction');
SELECT target, last_batch, split_part(destination, '/', 2) AS destination, applied, pending, applied_at > shows AS is_later
  FROM tx_status('compaction');
SELECT batch, kind FROM tx_expire('compaction', older_than => '0', only_received => true);
ALTER SYSTEM RESET pg_table_export.leave_receipts;
SELECT pg_reload_conf();

-- What makes no sense is refused.
SELECT * FROM tx_compact('compaction', first => 0);
SELECT * FROM tx_compact(NULL);
SELECT * FROM tx_expire('compaction', older_than => '-1 hour');
SELECT * FROM tx_expire('compaction', keep_batches => -1);
SELECT * FROM tx_expire('compaction', older_than => NULL);
SELECT * FROM tx_status('');
DROP DATABASE compaction_source;
