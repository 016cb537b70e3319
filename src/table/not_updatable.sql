-- The columns that an UPDATE must not change in place; null stands for all of them.
-- $1 = oid of the table, $2 = names of the key's columns.
--
-- These are the columns of unique indexes and exclusion constraints besides the key, of the table and its
-- partitions: rows of one batch may have swapped values, and an index checks each row by itself. GENERATED
-- ALWAYS identities are among them, too, because no UPDATE may set them.
--
-- A unique index that contains all columns of the key finds no conflict that the key does not find, if it has
-- no others, because an update keeps the key, or if it takes keys for equal only if their bytes are: see
-- key.sql.
WITH relation AS (
    SELECT $1 AS oid
     UNION
    SELECT relid FROM pg_partition_tree($1)
), index AS (
    SELECT i.indexrelid, i.indrelid, n.attnums,
           i.indexprs::text ~ ':varattno 0 ' OR i.indpred::text ~ ':varattno 0 ' AS is_of_row
      FROM relation AS r
      JOIN pg_index AS i ON i.indrelid = r.oid AND (i.indisunique OR i.indisexclusion)
     CROSS JOIN LATERAL (SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] AS attnums) AS n
     CROSS JOIN LATERAL (
           SELECT array_agg(a.attname::text) AS names,
                  bool_and(k.attnum <> 0 AND a.attname = ANY ($2::name[])) AND i.indpred IS NULL AS is_of_key,
                  bool_and(EXISTS (
                      SELECT FROM pg_opclass AS opc
                        JOIN pg_amproc AS ap ON ap.amprocfamily = opc.opcfamily AND ap.amprocnum = 4
                                            AND ap.amproclefttype = opc.opcintype
                                            AND ap.amprocrighttype = opc.opcintype
                       WHERE opc.oid = k.opclass
                         AND (ap.amproc = 'btequalimage'::regproc
                              OR ap.amproc = 'btvarstrequalimage'::regproc
                                 AND (SELECT collisdeterministic FROM pg_collation
                                       WHERE oid = k.collation_id))
                  )) FILTER (WHERE a.attname = ANY ($2::name[])) AS is_by_image
             FROM ROWS FROM (unnest(n.attnums), unnest(i.indclass::oid[]), unnest(i.indcollation::oid[]))
                  AS k (attnum, opclass, collation_id)
             LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS c
     WHERE NOT (i.indisunique AND $2 <@ c.names AND (c.is_of_key OR c.is_by_image))
), used AS (
    SELECT indrelid AS relation, unnest(attnums) AS attnum FROM index
     UNION
    -- Columns of expressions and predicates.
    SELECT i.indrelid, d.refobjsubid::int2
      FROM index AS i
      JOIN pg_depend AS d ON d.classid = 'pg_class'::regclass
                                    AND d.objid = i.indexrelid
                                    AND d.refclassid = 'pg_class'::regclass
                                    AND d.refobjid = i.indrelid
     UNION
    -- A row that moves to another partition is checked by the indexes there; 0 stands for an expression.
    SELECT p.partrelid, CASE a.attnum WHEN 0 THEN -1 ELSE a.attnum END
      FROM relation AS r
      JOIN pg_partitioned_table AS p ON p.partrelid = r.oid
     CROSS JOIN LATERAL unnest(p.partattrs::int2[]) AS a (attnum)
     WHERE EXISTS (SELECT FROM index)
)
SELECT CASE WHEN a.attgenerated = '' THEN a.attname END
  FROM used AS u JOIN pg_attribute AS a ON a.attrelid = u.relation AND a.attnum = u.attnum
 WHERE u.attnum > 0
 UNION
SELECT NULL WHERE EXISTS (SELECT FROM index WHERE is_of_row) OR EXISTS (SELECT FROM used WHERE attnum = -1)
 UNION
SELECT attname FROM pg_attribute
 WHERE attrelid = $1 AND attidentity = 'a' AND NOT attisdropped
