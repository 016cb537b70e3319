-- The part of a type ($1) whose owner lacks the rights of a role ($2): the type itself, what it is a domain,
-- an array or a range over, or an attribute. Values of a type run code of the owners of all of these.
WITH RECURSIVE part (oid) AS (
    SELECT $1
     UNION
    SELECT inner_type.oid
      FROM part
      JOIN pg_type AS t ON t.oid = part.oid
     CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[t.typbasetype, t.typelem])
         UNION ALL
        SELECT a.atttypid FROM pg_attribute AS a
         WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
         UNION ALL
        SELECT r.rngsubtype FROM pg_range AS r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
     ) AS inner_type (oid)
     WHERE inner_type.oid <> 0
)
SELECT format_type(t.oid, NULL), pg_get_userbyid(t.typowner)
  FROM part JOIN pg_type AS t ON t.oid = part.oid
 WHERE NOT pg_has_role(t.typowner, $2, 'USAGE')
 LIMIT 1
