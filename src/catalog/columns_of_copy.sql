-- The columns of a copy by name, and its storage, as the catalog describes them, and as they were remembered.
SELECT jsonb_build_object(
           'cluster', (SELECT system_identifier::text FROM pg_control_system()),
           'table', c.relation::oid::text,
           'storage', (SELECT string_agg(COALESCE(pg_relation_filenode(relid)::text, ''), ' ' ORDER BY relid)
                         FROM (SELECT relid FROM pg_partition_tree(c.relation)
                                UNION
                               SELECT c.relation) AS r),
           'columns', (SELECT jsonb_object_agg(attname, jsonb_build_array(attnum, xmin::text))
                         FROM pg_attribute
                        WHERE attrelid = c.relation AND attnum > 0 AND NOT attisdropped)),
       COALESCE(c.columns, 'null')
  FROM table_export.copy AS c
 WHERE c.relation = $1::regclass
