-- What this database is, for the manifest of a batch. The first eight digits of a WAL file's name are the
-- timeline.
SELECT (SELECT system_identifier FROM pg_control_system()),
       d.oid,
       d.datname,
       substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
       split_part(current_setting('server_version'), ' ', 1),
       pg_encoding_to_char(d.encoding)
  FROM pg_database AS d
 WHERE d.datname = current_database()
