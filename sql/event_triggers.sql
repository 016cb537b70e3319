-- DDL that no trigger on a table sees: it gives rows other values, or opens a way to write around the triggers. It is
-- noted in the shadow as op F (anything may have changed), so that the next export sends the table in full.

CREATE FUNCTION table_export.note(tracked table_export.tracked)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    current_segment smallint;
BEGIN
    -- Locked, the segment stays the current one until the transaction ends.
    SELECT t.segment INTO STRICT current_segment FROM table_export.tracked AS t WHERE t.id = tracked.id FOR SHARE;
    EXECUTE pg_catalog.format('INSERT INTO table_export.%I (xid, op) VALUES (pg_catalog.pg_current_xact_id(), ''F'')',
                              pg_catalog.format('shadow_%s_%s', tracked.id, current_segment));
END
$$;
COMMENT ON FUNCTION table_export.note(table_export.tracked) IS 'notes in the shadow of a tracked table that anything may have changed';

-- ALTER TABLE … TYPE … USING and the like. VACUUM FULL and CLUSTER do not fire it: they change no value.
CREATE FUNCTION table_export.capture_rewrite()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM table_export.note(t)
       FROM table_export.tracked AS t
      WHERE t.relation = pg_catalog.pg_event_trigger_table_rewrite_oid();
END
$$;
COMMENT ON FUNCTION table_export.capture_rewrite() IS 'notes that DDL has rewritten a tracked table';

-- ATTACH PARTITION and INHERIT: a statement on the parent writes to the table, and fires the parent's triggers only.
-- While it lasts exports are refused; this is for what was written when it has ended before the next export.
CREATE FUNCTION table_export.capture_relatives()
RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM table_export.note(t)
       FROM table_export.tracked AS t
      WHERE EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE t.relation::pg_catalog.oid IN (i.inhrelid, i.inhparent));
END
$$;
COMMENT ON FUNCTION table_export.capture_relatives() IS 'notes that a tracked table has become a partition, or part of an inheritance tree';

CREATE EVENT TRIGGER pg_table_export_rewrite ON table_rewrite
    EXECUTE FUNCTION table_export.capture_rewrite();
CREATE EVENT TRIGGER pg_table_export_relatives ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE')
    EXECUTE FUNCTION table_export.capture_relatives();
ALTER EVENT TRIGGER pg_table_export_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_table_export_relatives ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER pg_table_export_rewrite IS 'notes DDL that rewrites tracked tables';
COMMENT ON EVENT TRIGGER pg_table_export_relatives IS 'notes DDL that makes tracked tables partitions or parts of inheritance trees';

REVOKE ALL ON FUNCTION table_export.note(table_export.tracked), table_export.capture_rewrite(),
    table_export.capture_relatives() FROM PUBLIC;
