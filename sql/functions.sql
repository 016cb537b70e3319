-- The functions. Users call those whose names begin with tx_; those in the schema table_export are internal.
-- Only superusers may call them until GRANT EXECUTE is given.

CREATE FUNCTION tx_track(relation regclass, key_index text DEFAULT NULL,
                         OUT tracked text, OUT key text[], OUT shadow text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'tx_track_wrapper';
COMMENT ON FUNCTION tx_track(regclass, text) IS
'begins to capture the changes of a table, by its primary key or a unique index over NOT NULL '
'columns; the caller must own the table';

CREATE FUNCTION tx_untrack(relation regclass)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_untrack_wrapper';
COMMENT ON FUNCTION tx_untrack(regclass) IS
'stops capturing the changes of a table and removes its shadow and triggers; the caller must own the table';

CREATE FUNCTION tx_export(target text, format text DEFAULT 'text', compression text DEFAULT 'zstd',
                          store text DEFAULT NULL, even_if_unchanged boolean DEFAULT false,
                          since bigint DEFAULT NULL, baseline boolean DEFAULT false,
                          OUT batch bigint, OUT table_name text, OUT kind text, OUT ids bigint,
                          OUT records bigint, OUT bytes bigint, OUT elapsed_ms double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_export_wrapper';
COMMENT ON FUNCTION tx_export(text, text, text, text, boolean, bigint, boolean) IS
'publishes what has changed in all tracked tables since the last export for a target, or since the '
'batch with a number, as one batch; the first is full, or with baseline has no rows, for destinations '
'that have them already, as of then or later';

CREATE FUNCTION tx_import(target text, store text DEFAULT NULL, max_batches integer DEFAULT NULL,
                          mode text DEFAULT 'merge', new_columns text DEFAULT 'refuse',
                          create_tables boolean DEFAULT false,
                          delete_limit integer DEFAULT NULL, adopt boolean DEFAULT false,
                          OUT batch bigint, OUT table_name text, OUT kind text, OUT deleted bigint,
                          OUT updated bigint, OUT inserted bigint, OUT unchanged bigint,
                          OUT bytes bigint, OUT elapsed_ms double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_import_wrapper';
COMMENT ON FUNCTION tx_import(text, text, integer, text, text, boolean, integer, boolean) IS
'applies the batches of a target that have not been applied here, in order, each whole; mode merge '
'changes rows in place, append deletes and appends them; adopt lets a table that has rows become a '
'copy, and takes them as they are if the batch is a baseline';

CREATE FUNCTION tx_plan(target text, store text DEFAULT NULL, max_batches integer DEFAULT NULL,
                        mode text DEFAULT 'merge', new_columns text DEFAULT 'refuse',
                        create_tables boolean DEFAULT false,
                        delete_limit integer DEFAULT NULL, adopt boolean DEFAULT false,
                        try_rows boolean DEFAULT false,
                        OUT batch bigint, OUT table_name text, OUT kind text, OUT deleted bigint,
                        OUT updated bigint, OUT inserted bigint, OUT unchanged bigint, OUT bytes bigint,
                        OUT obstacle text, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_plan_wrapper';
COMMENT ON FUNCTION tx_plan(text, text, integer, text, text, boolean, integer, boolean, boolean) IS
'says what tx_import would do, and all that would stop it, each with what ends it; try_rows also runs the '
'import, and rolls it back';

-- No SET and no SECURITY DEFINER: a procedure with either cannot commit.
CREATE PROCEDURE tx_catch_up(target text, store text DEFAULT NULL, max_batches integer DEFAULT NULL,
                             mode text DEFAULT 'merge', new_columns text DEFAULT 'refuse',
                             create_tables boolean DEFAULT false,
                             delete_limit integer DEFAULT NULL, adopt boolean DEFAULT false)
LANGUAGE plpgsql
AS $$
DECLARE
    applied integer := 0;
BEGIN
    WHILE max_batches IS NULL OR applied OPERATOR(pg_catalog.<) max_batches LOOP
        PERFORM FROM @extschema@.tx_import(tx_catch_up.target, tx_catch_up.store, 1, tx_catch_up.mode,
                                           tx_catch_up.new_columns, tx_catch_up.create_tables,
                                           tx_catch_up.delete_limit, tx_catch_up.adopt);
        EXIT WHEN NOT FOUND;
        COMMIT;
        applied := applied OPERATOR(pg_catalog.+) 1;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE tx_catch_up(text, text, integer, text, text, boolean, integer, boolean) IS
'applies the batches of a target as tx_import does, and commits after each';

CREATE FUNCTION tx_map(target text, source_table text, relation regclass, columns text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_map_wrapper';
COMMENT ON FUNCTION tx_map(text, text, regclass, text) IS
'has imports write a table of the source into another one here, with other names of columns if a '
'JSON object gives them; the caller must own the table here; null leaves the table out';

CREATE FUNCTION tx_unmap(target text, source_table text)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_unmap_wrapper';
COMMENT ON FUNCTION tx_unmap(text, text) IS
'has imports write a table of the source into the one of the same name again; the caller must own '
'the table here, which is its copy no longer and keeps its rows';

CREATE FUNCTION tx_reset(target text, relation regclass DEFAULT NULL, store text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_reset_wrapper';
COMMENT ON FUNCTION tx_reset(text, regclass, text) IS
'makes a target start again, and this database the one that publishes it: its next export is full, for '
'all tables or one; at a destination, its next import starts from the latest full batch';

CREATE FUNCTION tx_forget(target text)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_forget_wrapper';
COMMENT ON FUNCTION tx_forget(text) IS
'removes a target and all that is recorded about it; its batches stay in the store';

CREATE FUNCTION tx_prune(OUT table_name text, OUT freed bigint, OUT held_back_by text[],
                         OUT in_use_by text[])
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_prune_wrapper';
COMMENT ON FUNCTION tx_prune() IS
'truncates the segments of shadows that no target needs any more, as each export does; returns the '
'bytes that were freed, the targets that still need the rest, and the processes that have it locked';

CREATE FUNCTION tx_restrict(target text, relation regclass, view regclass DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_restrict_wrapper';
COMMENT ON FUNCTION tx_restrict(text, regclass, regclass) IS
'gives a target a table, whole or as a view shows it, and none that it is not given; the caller '
'must own the table';

CREATE FUNCTION tx_unrestrict(target text, relation regclass DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_unrestrict_wrapper';
COMMENT ON FUNCTION tx_unrestrict(text, regclass) IS
'takes a table from a restricted target, or, without one, gives it all tracked tables again; the '
'caller must own the tables';

CREATE FUNCTION tx_compact(target text, store text DEFAULT NULL, first bigint DEFAULT NULL,
                           last bigint DEFAULT NULL,
                           OUT batch bigint, OUT batches bigint, OUT table_name text, OUT kind text,
                           OUT ids bigint, OUT records bigint, OUT bytes bigint,
                           OUT elapsed_ms double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_compact_wrapper';
COMMENT ON FUNCTION tx_compact(text, text, bigint, bigint) IS
'adds a batch to the store that stands for a run of others: for the latest full one and all after '
'it, or from first to last; on any database';

CREATE FUNCTION tx_expire(target text, older_than interval DEFAULT '1 day', keep_batches integer DEFAULT 1,
                          only_received boolean DEFAULT false, store text DEFAULT NULL,
                          OUT batch bigint, OUT kind text, OUT exported_at timestamptz, OUT bytes bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_expire_wrapper';
COMMENT ON FUNCTION tx_expire(text, interval, integer, boolean, text) IS
'removes batches from the store that no new destination needs, the oldest first: those that are '
'older, beyond the number to keep and, if asked, applied by all who leave receipts';

CREATE FUNCTION tx_status(target text DEFAULT NULL, store text DEFAULT NULL,
                          OUT target text, OUT last_batch bigint, OUT exported_at timestamptz,
                          OUT destination text, OUT applied bigint, OUT pending bigint,
                          OUT shows timestamptz, OUT applied_at timestamptz,
                          OUT verified_at timestamptz, OUT verified_batch bigint, OUT verified boolean)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_status_wrapper';
COMMENT ON FUNCTION tx_status(text, text) IS
'lists the destinations that have left a receipt in the store, what each has applied, how many batches it '
'has not, and what tx_verify has shown there of its tables';

CREATE FUNCTION tx_verify(target text, relation regclass DEFAULT NULL, store text DEFAULT NULL,
                          examples integer DEFAULT 0, sample double precision DEFAULT 1,
                          share integer DEFAULT NULL,
                          OUT batch bigint, OUT table_name text, OUT rows bigint, OUT equal boolean,
                          OUT complete boolean, OUT missing bigint, OUT extra bigint, OUT different bigint,
                          OUT left_out bigint, OUT note text, OUT examples text[],
                          OUT elapsed_ms double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_verify_wrapper';
COMMENT ON FUNCTION tx_verify(text, regclass, text, integer, double precision, integer) IS
'compares the tables of a target, byte by byte, with what the batches in the store say that they are: at a '
'destination as of the last batch applied here, at the source without keys that have changed since the last '
'export; with a sample, such as 0.01, only a share of the keys, by default that of the day';

CREATE FUNCTION tx_repair(target text, relation regclass DEFAULT NULL, store text DEFAULT NULL,
                          delete_limit integer DEFAULT NULL,
                          OUT batch bigint, OUT table_name text, OUT deleted bigint, OUT updated bigint,
                          OUT inserted bigint, OUT equal boolean, OUT complete boolean, OUT note text,
                          OUT elapsed_ms double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_repair_wrapper';
COMMENT ON FUNCTION tx_repair(text, regclass, text, integer) IS
'makes the copies of a target what the batches in the store say that they are: writes what differs, by the '
'rules of an import, and nothing else';

CREATE FUNCTION tx_resend(target text, relation regclass, keys text[] DEFAULT '{}')
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_resend_wrapper';
COMMENT ON FUNCTION tx_resend(text, regclass, text[]) IS
'has the next export send these keys of a table once more, each as tx_verify shows it, such as (7); without '
'keys, the whole table';

CREATE FUNCTION tx_health(read_stores boolean DEFAULT true,
                          OUT severity text, OUT object text, OUT problem text, OUT detail text,
                          OUT since timestamptz, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_health_wrapper';
COMMENT ON FUNCTION tx_health(boolean) IS
'lists what is wrong in this database, the worst first, and what to type; no row: all is well';

CREATE FUNCTION tx_protect(relation regclass)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_protect_wrapper';
COMMENT ON FUNCTION tx_protect(regclass) IS
'makes a copy read-only, except for imports; the caller must own the table';

CREATE FUNCTION tx_unprotect(relation regclass)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_unprotect_wrapper';
COMMENT ON FUNCTION tx_unprotect(regclass) IS
'makes a protected copy writable again; the caller must own the table';

-- One function: of two, with an argument regclass and with one text, PostgreSQL would choose the second for
-- tx_ddl('public.users').
CREATE FUNCTION tx_ddl(relation regclass DEFAULT NULL, target text DEFAULT NULL,
                       definitions boolean DEFAULT false)
RETURNS text
LANGUAGE c STABLE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'tx_ddl_wrapper';
COMMENT ON FUNCTION tx_ddl(regclass, text, boolean) IS
'returns the CREATE TABLE for a copy of a table: same columns, types, collations and key, no defaults; or, '
'with a target, a script that makes all that the target gets, with the types that it needs; definitions adds '
'generated columns, defaults, constraints, indexes, partitions and comments, as they are at the source';

CREATE FUNCTION table_export.capture()
RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'capture_wrapper';
COMMENT ON FUNCTION table_export.capture() IS
    'the trigger of tracked tables: appends the keys that a statement touched to the shadow';

-- generate_series with another estimate. The planner expects a thousand rows of each call of generate_series,
-- and an export of a few changes would read the whole table. Most runs of keys are short.
CREATE FUNCTION table_export.series(integer, integer)
RETURNS SETOF integer
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'generate_series_int4';
COMMENT ON FUNCTION table_export.series(integer, integer) IS 'the keys of a run';

CREATE FUNCTION table_export.series(bigint, bigint)
RETURNS SETOF bigint
LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE ROWS 5
AS 'generate_series_int8';
COMMENT ON FUNCTION table_export.series(bigint, bigint) IS 'the keys of a run';

CREATE FUNCTION table_export.shadow_size(id integer, OUT changes bigint, OUT bytes bigint)
RETURNS SETOF record
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'shadow_size_wrapper';
COMMENT ON FUNCTION table_export.shadow_size(integer) IS
    'counts the changes in the shadow of a tracked table, and its bytes';

CREATE FUNCTION table_export.pending_changes(target text, OUT changes bigint, OUT bytes bigint)
RETURNS SETOF record
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'pending_changes_wrapper';
COMMENT ON FUNCTION table_export.pending_changes(text) IS
    'counts the changes that the next export of a target finds, and the bytes of the segments that '
    'they are in; no row: it is full';

CREATE FUNCTION table_export.pending_batches(target text)
RETURNS bigint
LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'pending_batches_wrapper';
COMMENT ON FUNCTION table_export.pending_batches(text) IS
    'counts the batches in the store that have not been applied here; null: none has, or the store '
    'cannot be read';

COMMENT ON SEQUENCE table_export.tracked_id_seq IS 'numbers the shadows';

REVOKE ALL ON FUNCTION tx_track(regclass, text), tx_untrack(regclass),
    tx_export(text, text, text, text, boolean, bigint, boolean),
    tx_import(text, text, integer, text, text, boolean, integer, boolean),
    tx_plan(text, text, integer, text, text, boolean, integer, boolean, boolean),
    tx_map(text, text, regclass, text),
    tx_unmap(text, text), tx_reset(text, regclass, text), tx_forget(text), tx_prune(),
    tx_restrict(text, regclass, regclass), tx_unrestrict(text, regclass),
    tx_compact(text, text, bigint, bigint), tx_expire(text, interval, integer, boolean, text),
    tx_status(text, text), tx_verify(text, regclass, text, integer, double precision, integer),
    tx_repair(text, regclass, text, integer), tx_resend(text, regclass, text[]), tx_health(boolean),
    tx_protect(regclass), tx_unprotect(regclass), tx_ddl(regclass, text, boolean),
    table_export.capture(), table_export.shadow_size(integer), table_export.pending_changes(text),
    table_export.pending_batches(text), table_export.series(integer, integer),
    table_export.series(bigint, bigint)
FROM PUBLIC;
REVOKE ALL ON PROCEDURE tx_catch_up(text, text, integer, text, text, boolean, integer, boolean) FROM PUBLIC;
