-- What this database is, for the manifest of a batch. The first eight digits of a WAL file's name are the
-- timeline; a standby tells that of its last restartpoint.
SELECT (SELECT system_identifier FROM pg_control_system()),
       d.oid,
       d.datname,
       CASE WHEN pg_is_in_recovery() THEN (SELECT to_hex(timeline_id) FROM pg_control_checkpoint())
            ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END,
       split_part(current_setting('server_version'), ' ', 1),
       pg_encoding_to_char(d.encoding)
  FROM pg_database AS d
 WHERE d.datname = current_database()
