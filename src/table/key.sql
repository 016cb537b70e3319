-- The columns of a key: $1 = oid of the table, $2 = name of a unique index, $3 = columns of one, as numbers.
-- With neither it is the primary key. With $3 the columns come in that order, else in the order of the index.
-- Equality is the one of the index's operator class (strategy 3 of a btree).
WITH RECURSIVE index AS (
    SELECT i.*
      FROM pg_catalog.pg_index AS i
      JOIN pg_catalog.pg_class AS ic ON ic.oid = i.indexrelid
      JOIN pg_catalog.pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
     WHERE i.indrelid = $1::pg_catalog.oid
       AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND CASE WHEN $3 IS NOT NULL
                THEN ARRAY(SELECT pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) ORDER BY 1)
                     = ARRAY(SELECT pg_catalog.unnest($3::pg_catalog.int2[]) ORDER BY 1)
                WHEN $2 IS NOT NULL THEN ic.relname = $2::pg_catalog.name
                ELSE i.indisprimary END
     ORDER BY i.indisprimary DESC, i.indexrelid
     LIMIT 1
), member AS (
    SELECT COALESCE(pg_catalog.array_position($3::pg_catalog.int2[], a.attnum), k.position) AS position,
           a.attnum, a.attname, a.attnotnull, a.atttypid, opc.opcintype, opc.opcfamily, k.collation_id
      FROM index AS i
     CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::pg_catalog.int2[]),
                                   pg_catalog.unnest(i.indclass::pg_catalog.oid[]),
                                   pg_catalog.unnest(i.indcollation::pg_catalog.oid[]))
                        WITH ORDINALITY AS k (attnum, opclass, collation_id, position)
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_catalog.pg_opclass AS opc ON opc.oid = k.opclass
     WHERE k.position <= i.indnkeyatts
), base AS (
    SELECT m.position, t.oid, t.typtype, t.typbasetype
      FROM member AS m JOIN pg_catalog.pg_type AS t ON t.oid = m.atttypid
    UNION ALL
    SELECT b.position, t.oid, t.typtype, t.typbasetype
      FROM base AS b JOIN pg_catalog.pg_type AS t ON t.oid = b.typbasetype
     WHERE b.typtype = 'd'
)
SELECT m.attnum,
       m.attname,
       m.attnotnull,
       pg_catalog.format_type(b.oid, -1),
       pg_catalog.format('OPERATOR(%I.%s)', opn.nspname, op.oprname),
       CASE WHEN m.collation_id <> 0 THEN pg_catalog.format(' COLLATE %I.%I', cn.nspname, co.collname) END
  FROM member AS m
  JOIN base AS b ON b.position = m.position AND b.typtype <> 'd'
  JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = m.opcfamily AND ao.amoplefttype = m.opcintype
                               AND ao.amoprighttype = m.opcintype AND ao.amopstrategy = 3
  JOIN pg_catalog.pg_operator AS op ON op.oid = ao.amopopr
  JOIN pg_catalog.pg_namespace AS opn ON opn.oid = op.oprnamespace
  LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = m.collation_id
  LEFT JOIN pg_catalog.pg_namespace AS cn ON cn.oid = co.collnamespace
 ORDER BY m.position
