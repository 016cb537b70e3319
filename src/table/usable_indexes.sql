-- The unique indexes of a table, $1, that can be a key: over all its rows, and over NOT NULL columns.
SELECT ic.relname
  FROM pg_index AS i
  JOIN pg_class AS ic ON ic.oid = i.indexrelid
  JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
 WHERE i.indrelid = $1
   AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
   AND NOT EXISTS (SELECT
                     FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS k (attnum)
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                    WHERE NOT a.attnotnull)
 ORDER BY ic.relname
