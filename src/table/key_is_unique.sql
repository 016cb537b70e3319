-- Whether no two rows of a table can have one key: $1 = oid of the table, $2 = names of the key's columns. What a
-- DEFERRABLE constraint allows for a while, it allows for good under session_replication_role = replica.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index AS i
     WHERE i.indrelid = $1::pg_catalog.oid
       AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (
           SELECT FROM ROWS FROM (pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]),
                                  pg_catalog.unnest(i.indclass::pg_catalog.oid[]),
                                  pg_catalog.unnest(i.indcollation::pg_catalog.oid[]))
                       AS k (attnum, opclass, collation_id)
             JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             JOIN pg_catalog.pg_opclass AS opc ON opc.oid = k.opclass
            WHERE NOT (a.attname = ANY ($2::pg_catalog.name[])
                       AND opc.opcdefault AND k.collation_id = a.attcollation)))
