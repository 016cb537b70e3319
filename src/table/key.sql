-- The columns of a key: $1 = oid of the table, $2 = name of a unique index, $3 = columns of one, as numbers.
-- With neither it is the primary key, or else the replica identity's. With $3 the columns come in that order, else in the order of the index.
-- $4 is null, or has the default operator class of each column of $3, or 0: then an index counts only if it
-- checks each row at once, and without one the columns are compared by these classes.
--
-- A column is exact if values of it that are equal have the same text. Deduplication in a btree asks nearly
-- the same, by support function 4 (btequalimage, btvarstrequalimage). But values of bpchar without a length
-- can differ in their blanks, and those of a numeric with a scale have the same text when they are equal. The
-- operator class must be the default one of the type, by which queries compare the type's values.
WITH RECURSIVE index AS (
    SELECT i.*
      FROM pg_index AS i
      JOIN pg_class AS ic ON ic.oid = i.indexrelid
      JOIN pg_am AS am ON am.oid = ic.relam AND am.amname = 'btree'
     WHERE i.indrelid = $1
       AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
       AND (i.indimmediate OR $4 IS NULL)
       AND CASE WHEN $3 IS NOT NULL
                THEN ARRAY(SELECT unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1)
                     = ARRAY(SELECT unnest($3) ORDER BY 1)
                WHEN $2 IS NOT NULL THEN ic.relname = $2::name
                ELSE i.indisprimary OR i.indisreplident END
     ORDER BY $3 IS NULL AND i.indisprimary DESC, i.indimmediate DESC, i.indisprimary DESC, i.indexrelid
     LIMIT 1
), part AS (
    SELECT COALESCE(array_position($3, k.attnum), k.position) AS position,
           k.attnum, k.opclass, k.collation_id, i.indexrelid, i.indimmediate
      FROM index AS i
     CROSS JOIN LATERAL ROWS FROM (unnest(i.indkey::int2[]),
                                   unnest(i.indclass::oid[]),
                                   unnest(i.indcollation::oid[]))
                        WITH ORDINALITY AS k (attnum, opclass, collation_id, position)
     WHERE k.position <= i.indnkeyatts
     UNION ALL
    SELECT k.position, k.attnum, k.opclass, a.attcollation, NULL, NULL
      FROM ROWS FROM (unnest($3), unnest($4::oid[])) WITH ORDINALITY AS k (attnum, opclass, position)
      JOIN pg_attribute AS a ON a.attrelid = $1 AND a.attnum = k.attnum
     WHERE $4 IS NOT NULL AND NOT EXISTS (SELECT FROM index)
), base AS (
    SELECT p.position, t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace
      FROM part AS p
      JOIN pg_attribute AS a ON a.attrelid = $1 AND a.attnum = p.attnum
      JOIN pg_type AS t ON t.oid = a.atttypid
    UNION ALL
    SELECT b.position, t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace
      FROM base AS b JOIN pg_type AS t ON t.oid = b.typbasetype
     WHERE b.typtype = 'd'
)
SELECT a.attnum,
       a.attname,
       a.attnotnull,
       format_type(b.oid, -1),
       CASE WHEN opi.typtype <> 'p' AND opi.oid <> b.oid THEN format('::%I.%I', opin.nspname, opi.typname)
            WHEN opi.typtype = 'p' AND a.atttypid <> b.oid THEN format('::%I.%I', bn.nspname, b.typname) END,
       format('OPERATOR(%I.%s)', eqn.nspname, eq.oprname),
       format('OPERATOR(%I.%s)', ltn.nspname, lt.oprname),
       CASE WHEN p.collation_id <> 0 THEN format(' COLLATE %I.%I', cn.nspname, co.collname) END,
       opc.opcdefault
       AND NOT EXISTS (SELECT FROM pg_opclass AS own
                        WHERE own.opcmethod = opc.opcmethod AND own.opcdefault
                          AND own.opcintype = b.oid AND own.oid <> opc.oid)
       AND CASE opc.opcintype
           WHEN 'numeric'::regtype THEN a.atttypmod <> -1 AND opc.oid < 16384
           WHEN 'bpchar'::regtype THEN a.atttypmod <> -1 AND opc.oid < 16384 AND co.collisdeterministic
           ELSE EXISTS (SELECT FROM pg_amproc AS ap
                         WHERE ap.amprocfamily = opc.opcfamily AND ap.amproclefttype = opc.opcintype
                           AND ap.amprocrighttype = opc.opcintype AND ap.amprocnum = 4
                           AND (ap.amproc = 'btequalimage'::regproc
                                OR ap.amproc = 'btvarstrequalimage'::regproc AND co.collisdeterministic)) END,
       p.indexrelid::regclass::text,
       COALESCE(p.indimmediate, true),
       COALESCE(eq.oprcanmerge OR eq.oprcanhash, true)
  FROM part AS p
  JOIN pg_attribute AS a ON a.attrelid = $1 AND a.attnum = p.attnum
  JOIN base AS b ON b.position = p.position AND b.typtype <> 'd'
  JOIN pg_namespace AS bn ON bn.oid = b.typnamespace
  LEFT JOIN pg_opclass AS opc ON opc.oid = p.opclass
  LEFT JOIN pg_type AS opi ON opi.oid = opc.opcintype
  LEFT JOIN pg_namespace AS opin ON opin.oid = opi.typnamespace
  LEFT JOIN pg_amop AS eqo ON eqo.amopfamily = opc.opcfamily AND eqo.amoplefttype = opc.opcintype
                                     AND eqo.amoprighttype = opc.opcintype AND eqo.amopstrategy = 3
  LEFT JOIN pg_operator AS eq ON eq.oid = eqo.amopopr
  LEFT JOIN pg_namespace AS eqn ON eqn.oid = eq.oprnamespace
  LEFT JOIN pg_amop AS lto ON lto.amopfamily = opc.opcfamily AND lto.amoplefttype = opc.opcintype
                                     AND lto.amoprighttype = opc.opcintype AND lto.amopstrategy = 1
  LEFT JOIN pg_operator AS lt ON lt.oid = lto.amopopr
  LEFT JOIN pg_namespace AS ltn ON ltn.oid = lt.oprnamespace
  LEFT JOIN pg_collation AS co ON co.oid = p.collation_id
  LEFT JOIN pg_namespace AS cn ON cn.oid = co.collnamespace
 ORDER BY p.position
