-- Whether no two rows of a table can have one key: $1 = oid of the table, $2 = names of the key's columns.
-- A DEFERRABLE constraint does not count: under session_replication_role = replica it is never checked, so
-- duplicates that it allows until the end of the transaction would stay.
SELECT EXISTS (
    SELECT FROM pg_index AS i
     WHERE i.indrelid = $1
       AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (
           SELECT FROM ROWS FROM (unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]),
                                  unnest(i.indclass::oid[]),
                                  unnest(i.indcollation::oid[]))
                       AS k (attnum, opclass, collation_id)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             JOIN pg_opclass AS opc ON opc.oid = k.opclass
            WHERE NOT (a.attname = ANY ($2::name[])
                       AND opc.opcdefault AND k.collation_id = a.attcollation)))
