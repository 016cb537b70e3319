-- The event triggers for DDL that no trigger on a table sees: it changes the values of rows, brings rows, or
-- lets statements write without firing the triggers. They are ENABLE ALWAYS, so that they fire under
-- session_replication_role = replica as well.

CREATE FUNCTION table_export.capture_rewrite()
RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'capture_rewrite_wrapper';
COMMENT ON FUNCTION table_export.capture_rewrite() IS 'records that DDL has rewritten a tracked table';

CREATE FUNCTION table_export.follow_members()
RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'follow_members_wrapper';
COMMENT ON FUNCTION table_export.follow_members() IS
    'gives triggers to new members of tracked tables, and takes them from former ones';

CREATE FUNCTION table_export.follow_drops()
RETURNS event_trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'follow_drops_wrapper';
COMMENT ON FUNCTION table_export.follow_drops() IS 'tells who drops a tracked table';

CREATE EVENT TRIGGER pg_table_export_rewrite ON table_rewrite
    EXECUTE FUNCTION table_export.capture_rewrite();
CREATE EVENT TRIGGER pg_table_export_members ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE SCHEMA', 'CREATE TRIGGER',
                 'ALTER FOREIGN TABLE', 'CREATE FOREIGN TABLE',
                 'ALTER SUBSCRIPTION', 'CREATE SUBSCRIPTION')
    EXECUTE FUNCTION table_export.follow_members();
CREATE EVENT TRIGGER pg_table_export_drops ON sql_drop
    WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'DROP TYPE')
    EXECUTE FUNCTION table_export.follow_drops();
ALTER EVENT TRIGGER pg_table_export_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_table_export_members ENABLE ALWAYS;
ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER pg_table_export_rewrite IS 'records DDL that rewrites tracked tables';
COMMENT ON EVENT TRIGGER pg_table_export_members IS
    'follows DDL that makes tables members of tracked ones, or takes them away';

COMMENT ON EVENT TRIGGER pg_table_export_drops IS 'tells who drops a tracked table';

REVOKE ALL ON FUNCTION table_export.capture_rewrite(), table_export.follow_members(),
    table_export.follow_drops() FROM PUBLIC;
