-- Records the position and the last batch of a target: $1 = name, $2 = position, $3 = system identifier of
-- the cluster, $4 = oid of the database, $5 = number and $6 = id of the batch, $7 = when it was exported,
-- $8 = the id of this transaction, $9 = former publishers, $10 = ids of the tracked tables that it names.
INSERT INTO table_export.target AS t
       (name, position, position_at, system_identifier, database, number, batch, exported_at, written_by,
        former_publishers, tables)
VALUES ($1, $2::pg_snapshot, $7::timestamptz, $3, $4, $5, $6::uuid, $7::timestamptz, $8::xid8, $9::jsonb,
        $10::jsonb)
    ON CONFLICT (name) DO UPDATE
   SET position = excluded.position, position_at = excluded.position_at,
       system_identifier = excluded.system_identifier,
       database = excluded.database, number = excluded.number, batch = excluded.batch,
       exported_at = excluded.exported_at, written_by = excluded.written_by,
       former_publishers = excluded.former_publishers, tables = excluded.tables
