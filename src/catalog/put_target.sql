-- Records the position and the last batch of a target: $1 = name, $2 = position, $3 = system identifier of
-- the cluster, $4 = oid of the database, $5 = number and $6 = id of the batch, $7 = when it was exported.
INSERT INTO table_export.target AS t
       (name, position, system_identifier, database, number, batch, exported_at)
VALUES ($1, $2::pg_snapshot, $3, $4, $5, $6::uuid, $7::timestamptz)
    ON CONFLICT (name) DO UPDATE
   SET position = excluded.position, system_identifier = excluded.system_identifier,
       database = excluded.database, number = excluded.number, batch = excluded.batch,
       exported_at = excluded.exported_at
