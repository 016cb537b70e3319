-- The triggers of protected copies. They are ENABLE, not ENABLE ALWAYS, so that they do not fire under
-- session_replication_role = replica, under which imports and logical replication write.
--
-- A statement trigger refuses a statement that names the copy, before it writes anything. A row trigger
-- refuses what comes by way of another table: a partitioned table that the copy is or becomes a partition of,
-- or a parent that it inherits from. Partitions inherit it, later ones too. It is AFTER, because with a
-- BEFORE trigger, even one that does not fire, imports insert row by row. There are no row triggers for
-- TRUNCATE, so each partition gets a trigger of its own, later ones by the event trigger that follows DDL.

CREATE FUNCTION table_export.refuse_write()
RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    protected regclass;
BEGIN
    -- The copy that the trigger is of: the table, or one that it is a partition of. It has a statement
    -- trigger for INSERT (tgtype: 1 is for each row, 4 is INSERT, 32 is TRUNCATE).
    SELECT g.tgrelid INTO protected
      FROM pg_trigger AS own
      JOIN pg_trigger AS g ON g.tgfoid = own.tgfoid AND g.tgtype & 5 = 4
     WHERE own.tgrelid = TG_RELID AND own.tgname = TG_NAME
       AND (g.tgrelid = TG_RELID OR g.tgrelid IN (SELECT p.relid FROM pg_partition_ancestors(TG_RELID) AS p))
     ORDER BY g.tgrelid = TG_RELID DESC LIMIT 1;
    RAISE 'table "%.%" is a protected copy', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Only imports write to it.',
              HINT = format('Write at the source, or run: SELECT %stx_unprotect(%L);',
                            (SELECT quote_ident(NULLIF(n.nspname, 'public')) || '.'
                               FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                              WHERE e.extname = 'pg_table_export'),
                            COALESCE(protected, TG_RELID::regclass));
END
$$;
COMMENT ON FUNCTION table_export.refuse_write() IS
    'the trigger of protected copies: refuses what no import writes';

CREATE FUNCTION table_export.protect_partitions(relation regclass)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    member regclass;
BEGIN
    FOR member IN
        SELECT p.relid
          FROM pg_catalog.pg_partition_tree(relation) AS p
          JOIN pg_catalog.pg_class AS c ON c.oid = p.relid
         WHERE c.relkind <> 'f'
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
                            WHERE g.tgrelid = p.relid AND g.tgtype & 32 <> 0
                              AND g.tgfoid = 'table_export.refuse_write()'::pg_catalog.regprocedure)
    LOOP
        EXECUTE pg_catalog.format('CREATE TRIGGER pg_table_export_protect_truncate
                                   BEFORE TRUNCATE ON %s
                                   FOR EACH STATEMENT EXECUTE FUNCTION table_export.refuse_write()',
                                  member);
    END LOOP;
END
$$;
COMMENT ON FUNCTION table_export.protect_partitions(regclass) IS
    'makes the triggers for TRUNCATE that partitions of a protected copy lack';

-- The row trigger has a name of its own: a protected copy may become a partition of another one, which gives
-- it a trigger of the same kind.
CREATE FUNCTION table_export.create_protection(relation regclass)
RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE pg_catalog.format('CREATE %sTRIGGER pg_table_export_protect
                               BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s
                               FOR EACH STATEMENT EXECUTE FUNCTION table_export.refuse_write()',
                              CASE WHEN EXISTS (
                                  SELECT FROM pg_catalog.pg_trigger AS g
                                   WHERE g.tgrelid = relation AND g.tgname = 'pg_table_export_protect'
                                     AND g.tgfoid = 'table_export.refuse_write()'::pg_catalog.regprocedure
                              ) THEN 'OR REPLACE ' END,
                              relation);
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger AS g
                    WHERE g.tgrelid = relation AND g.tgparentid = 0 AND g.tgtype & 1 = 1
                      AND g.tgfoid = 'table_export.refuse_write()'::pg_catalog.regprocedure)
    THEN
        EXECUTE pg_catalog.format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s
                                   FOR EACH ROW EXECUTE FUNCTION table_export.refuse_write()',
                                  'pg_table_export_protect_rows_' || relation::pg_catalog.oid, relation);
    END IF;
    PERFORM table_export.protect_partitions(relation);
END
$$;
COMMENT ON FUNCTION table_export.create_protection(regclass) IS 'makes the triggers that protect a copy';

-- A partition may be protected by itself, and a copy may be a partition of a protected one: what the others
-- need is made again.
CREATE FUNCTION table_export.drop_protection(relation regclass)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    member regclass;
    name text;
BEGIN
    FOR member, name IN
        SELECT g.tgrelid, g.tgname
          FROM pg_catalog.pg_trigger AS g
         WHERE g.tgfoid = 'table_export.refuse_write()'::pg_catalog.regprocedure AND g.tgparentid = 0
           AND (g.tgrelid = relation
                OR g.tgtype & 5 = 0
                   AND g.tgrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(relation) AS p))
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', name, member);
    END LOOP;
    PERFORM table_export.protect_partitions(g.tgrelid)
       FROM pg_catalog.pg_trigger AS g
      WHERE g.tgfoid = 'table_export.refuse_write()'::pg_catalog.regprocedure AND g.tgtype & 5 = 4
        AND g.tgrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_ancestors(relation) AS p
                           UNION ALL
                          SELECT p.relid FROM pg_catalog.pg_partition_tree(relation) AS p);
END
$$;
COMMENT ON FUNCTION table_export.drop_protection(regclass) IS 'drops the triggers that protect a copy';

REVOKE ALL ON FUNCTION table_export.refuse_write(), table_export.protect_partitions(regclass),
    table_export.create_protection(regclass), table_export.drop_protection(regclass)
FROM PUBLIC;
