-- Whether no two rows of a table can have one key: $1 = oid of the table, $2 = names of the key's columns.
-- Any operator class and collation will do, because values with the same text are equal in all of them.
-- A DEFERRABLE constraint does not count: under session_replication_role = replica it is never checked, so
-- duplicates that it allows until the end of the transaction would stay.
SELECT EXISTS (
    SELECT FROM pg_index AS i
     WHERE i.indrelid = $1
       AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND NOT EXISTS (
           SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k (attnum)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
            WHERE a.attname <> ALL ($2::name[])))
