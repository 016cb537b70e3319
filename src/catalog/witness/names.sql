-- The labels of enums, and the attributes of composite types by number, of types of users, $1, and of what
-- these are made of, down to types of PostgreSQL. Then what ALTER TYPE leaves behind even if it is undone: the
-- transaction that wrote a label last, and how many attributes there have ever been.
WITH RECURSIVE type (root, oid) AS (
    SELECT r.oid, r.oid FROM unnest($1::oid[]) AS r (oid)
     UNION
    SELECT y.root, p.oid
      FROM type AS y
      JOIN pg_type AS t ON t.oid = y.oid
     CROSS JOIN LATERAL (
           SELECT t.typbasetype UNION ALL SELECT t.typelem
            UNION ALL
           SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            UNION ALL
           SELECT a.atttypid FROM pg_attribute AS a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS p (oid)
     WHERE p.oid >= 16384
)
SELECT y.root, 'label ' || e.oid, e.enumlabel, e.xmin::text
  FROM type AS y JOIN pg_enum AS e ON e.enumtypid = y.oid
 UNION ALL
SELECT y.root, format('attribute %s of %s', a.attnum, y.oid), a.attname, k.relnatts::text
  FROM type AS y
  JOIN pg_type AS t ON t.oid = y.oid
  JOIN pg_class AS k ON k.oid = t.typrelid
  JOIN pg_attribute AS a ON a.attrelid = k.oid
 WHERE a.attnum > 0 AND NOT a.attisdropped
