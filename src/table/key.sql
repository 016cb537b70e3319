-- The columns of a key: $1 = oid of the table, $2 = name of a unique index, $3 = columns of one, as numbers.
-- With neither it is the primary key. With $3 the columns come in that order, else in the order of the index.
-- Equality is the one of the index's operator class (strategy 3 of a btree).
WITH RECURSIVE index AS (
    SELECT i.*
      FROM pg_index AS i
      JOIN pg_class AS ic ON ic.oid = i.indexrelid
      JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
     WHERE i.indrelid = $1
       AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND CASE WHEN $3 IS NOT NULL
                THEN ARRAY(SELECT unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1)
                     = ARRAY(SELECT unnest($3) ORDER BY 1)
                WHEN $2 IS NOT NULL THEN ic.relname = $2::name
                ELSE i.indisprimary END
     ORDER BY i.indisprimary DESC, i.indexrelid
     LIMIT 1
), member AS (
    SELECT COALESCE(array_position($3, a.attnum), k.position) AS position,
           a.attnum, a.attname, a.attnotnull, a.atttypid, opc.opcintype, opc.opcfamily, k.collation_id
      FROM index AS i
     CROSS JOIN LATERAL ROWS FROM (unnest(i.indkey::int2[]),
                                   unnest(i.indclass::oid[]),
                                   unnest(i.indcollation::oid[]))
                        WITH ORDINALITY AS k (attnum, opclass, collation_id, position)
      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_opclass AS opc ON opc.oid = k.opclass
     WHERE k.position <= i.indnkeyatts
), base AS (
    SELECT m.position, t.oid, t.typtype, t.typbasetype
      FROM member AS m JOIN pg_type AS t ON t.oid = m.atttypid
    UNION ALL
    SELECT b.position, t.oid, t.typtype, t.typbasetype
      FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype
     WHERE b.typtype = 'd'
)
SELECT m.attnum,
       m.attname,
       m.attnotnull,
       format_type(b.oid, -1),
       format('OPERATOR(%I.%s)', opn.nspname, op.oprname),
       CASE WHEN m.collation_id <> 0 THEN format(' COLLATE %I.%I', cn.nspname, co.collname) END
  FROM member AS m
  JOIN base AS b ON b.position = m.position AND b.typtype <> 'd'
  JOIN pg_amop AS ao ON ao.amopfamily = m.opcfamily AND ao.amoplefttype = m.opcintype
                               AND ao.amoprighttype = m.opcintype AND ao.amopstrategy = 3
  JOIN pg_operator AS op ON op.oid = ao.amopopr
  JOIN pg_namespace AS opn ON opn.oid = op.oprnamespace
  LEFT JOIN pg_collation AS co ON co.oid = m.collation_id
  LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
 ORDER BY m.position
