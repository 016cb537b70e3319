-- The triggers of protected copies. They are ENABLE, not ENABLE ALWAYS, so that they do not fire under
-- session_replication_role = replica, under which imports and logical replication write.

CREATE FUNCTION table_export.refuse_write()
RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE 'table "%.%" is a protected copy', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state',
              DETAIL = 'Only imports write to it.',
              HINT = format('Write at the source; or SELECT tx_unprotect(%L).',
                            COALESCE(pg_partition_root(TG_RELID), TG_RELID::regclass));
END
$$;
COMMENT ON FUNCTION table_export.refuse_write() IS
    'the trigger of protected copies: refuses what no import writes';

-- The partitions of a table must refuse writes as well. They inherit a row trigger, and later partitions do,
-- too. There are no row triggers for TRUNCATE, so each partition gets a trigger of its own.
CREATE FUNCTION table_export.create_protection(relation regclass)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    member regclass;
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.oid = relation AND c.relkind = 'p') THEN
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER pg_table_export_protect_rows
                                   BEFORE INSERT OR UPDATE OR DELETE ON %s
                                   FOR EACH ROW EXECUTE FUNCTION table_export.refuse_write()',
                                  relation);
    ELSE
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER pg_table_export_protect
                                   BEFORE INSERT OR UPDATE OR DELETE ON %s
                                   FOR EACH STATEMENT EXECUTE FUNCTION table_export.refuse_write()',
                                  relation);
    END IF;
    FOR member IN SELECT relation UNION SELECT p.relid FROM pg_catalog.pg_partition_tree(relation) AS p
    LOOP
        EXECUTE pg_catalog.format('CREATE OR REPLACE TRIGGER pg_table_export_protect_truncate
                                   BEFORE TRUNCATE ON %s
                                   FOR EACH STATEMENT EXECUTE FUNCTION table_export.refuse_write()',
                                  member);
    END LOOP;
END
$$;
COMMENT ON FUNCTION table_export.create_protection(regclass) IS 'makes the triggers that protect a copy';

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
                OR g.tgrelid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(relation) AS p))
    LOOP
        EXECUTE pg_catalog.format('DROP TRIGGER %I ON %s', name, member);
    END LOOP;
END
$$;
COMMENT ON FUNCTION table_export.drop_protection(regclass) IS 'drops the triggers that protect a copy';

REVOKE ALL ON FUNCTION table_export.refuse_write(), table_export.create_protection(regclass),
    table_export.drop_protection(regclass)
FROM PUBLIC;
