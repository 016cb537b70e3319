-- The locks that an export or an import holds in the end: those of the tables $1, their partitions and
-- indexes, $2 more for each table, and $3 more for each that may have a TOAST table. Queries of the catalogs,
-- PostgreSQL's and ours, keep about a hundred more. Then how many the lock table has room for, and the least
-- max_locks_per_transaction that suffices. PostgreSQL reserves that many for each process and each prepared
-- transaction (lock.c, NLOCKENTS). Who else holds locks is only asked if this may matter.
WITH RECURSIVE given AS (
    SELECT oid FROM unnest($1::oid[]) AS oid
), read (oid) AS (
    SELECT oid FROM given
     UNION
    SELECT i.inhrelid
      FROM read AS r
      JOIN pg_class AS c ON c.oid = r.oid AND c.relkind = 'p'
      JOIN pg_inherits AS i ON i.inhparent = r.oid
), held AS (
    SELECT 150 + $2 * (SELECT count(*) FROM given) + (SELECT count(*) FROM read)
           + (SELECT count(*) FROM read AS r JOIN pg_index AS i ON i.indrelid = r.oid)
           + CASE WHEN $3 = 0 THEN 0
                  ELSE $3 * (SELECT count(*) FROM read AS r JOIN pg_class AS c ON c.oid = r.oid
                              WHERE c.reltoastrelid <> 0) END AS locks
), size AS (
    SELECT sum(setting::bigint) + 1 AS processes
      FROM pg_settings
     WHERE name IN ('max_connections', 'autovacuum_max_workers', 'max_worker_processes', 'max_wal_senders',
                    'max_prepared_transactions')
), room AS (
    SELECT processes * current_setting('max_locks_per_transaction')::bigint AS locks FROM size
), other AS (
    SELECT CASE WHEN 2 * held.locks > room.locks
                THEN (SELECT count(*) FROM pg_locks WHERE NOT fastpath AND pid <> pg_backend_pid())
                ELSE 0 END AS locks
      FROM held, room
)
SELECT held.locks, room.locks - other.locks, ceil((held.locks + other.locks) / size.processes)
  FROM held, room, other, size
