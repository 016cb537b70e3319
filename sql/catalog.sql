-- The extension's own tables, in the schema table_export. They belong to the owner of the extension, and no
-- other role has rights on them: the tx_ functions check the rights of the caller, and then read and write
-- them as that owner.
--
-- They have no foreign keys. CREATE EXTENSION creates those before pg_restore loads any rows, and with
-- several jobs it loads the tables in any order.

CREATE SCHEMA table_export;
COMMENT ON SCHEMA table_export IS 'catalog and shadow tables of the extension pg_table_export';

CREATE TABLE table_export.tracked (
    id           integer     GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation     regclass    NOT NULL UNIQUE,
    relation_oid oid         NOT NULL,
    key          smallint[]  NOT NULL,
    key_names    text[]      NOT NULL,
    segment      smallint    NOT NULL DEFAULT 0 CHECK (segment IN (0, 1)),
    sealed_by    xid8,
    truncated_by xid8,
    tracked_at   timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE  table_export.tracked              IS 'tables whose changes are captured';
COMMENT ON COLUMN table_export.tracked.id           IS
    'names the shadow: table_export.shadow_<id>_0 and _1; survives dump and restore, as an OID '
    'would not';
COMMENT ON COLUMN table_export.tracked.relation     IS 'the tracked table';
COMMENT ON COLUMN table_export.tracked.relation_oid IS
    'the table that the column numbers of the key belong to; after a restore it is another, and '
    'names count';
COMMENT ON COLUMN table_export.tracked.key          IS
    'the columns of the key by number, which survives their renaming';
COMMENT ON COLUMN table_export.tracked.key_names    IS
    'the columns of the key by name, which survives a dump';
COMMENT ON COLUMN table_export.tracked.segment      IS
    'the segment of the shadow that changes are appended to';
COMMENT ON COLUMN table_export.tracked.sealed_by    IS
    'the transaction after which no transaction writes to the other segment; a position that sees '
    'it needs nothing from there; NULL: transactions may still write to it';
COMMENT ON COLUMN table_export.tracked.truncated_by IS
    'a position that sees this transaction misses nothing of what has been truncated; NULL: nothing '
    'has been';
COMMENT ON COLUMN table_export.tracked.tracked_at   IS 'when tracking began';

CREATE TABLE table_export.target (
    name              text    PRIMARY KEY CHECK (name <> ''),
    position          pg_snapshot,
    position_at       timestamptz,
    written_by        xid8,
    system_identifier text,
    database          oid,
    former_publishers jsonb   NOT NULL DEFAULT '[]',
    number            bigint  NOT NULL DEFAULT 0 CHECK (number >= 0),
    batch             uuid,
    tables            jsonb   NOT NULL DEFAULT '[]',
    exported_at       timestamptz
);
COMMENT ON TABLE  table_export.target                   IS 'streams of batches, each with its own position';
COMMENT ON COLUMN table_export.target.name              IS 'any name, by custom host/database';
COMMENT ON COLUMN table_export.target.position          IS
    'the snapshot up to which the target has been exported; NULL: the next batch is full and takes '
    'the target over';
COMMENT ON COLUMN table_export.target.position_at       IS
    'when that snapshot was taken; an export that finds nothing to send moves both';
COMMENT ON COLUMN table_export.target.written_by        IS
    'the transaction that has written the position; if it is not the xmin of the row, the row came with a '
    'dump, and the position means nothing';
COMMENT ON COLUMN table_export.target.system_identifier IS 'the cluster of the database that publishes it';
COMMENT ON COLUMN table_export.target.database          IS
    'the database that publishes it; if it is not this one, exports are refused';
COMMENT ON COLUMN table_export.target.former_publishers IS 'the databases that have published it before';
COMMENT ON COLUMN table_export.target.number            IS 'the number of the last batch';
COMMENT ON COLUMN table_export.target.batch             IS 'the id of the last batch';
COMMENT ON COLUMN table_export.target.tables            IS
    'the ids of the tracked tables that the last batch names';
COMMENT ON COLUMN table_export.target.exported_at       IS 'when the last batch was exported';

CREATE TABLE table_export.target_table (
    target      text    NOT NULL,
    tracked     integer NOT NULL,
    description text    NOT NULL,
    number      bigint  NOT NULL,
    witness     jsonb   NOT NULL,
    PRIMARY KEY (target, tracked)
);
COMMENT ON TABLE  table_export.target_table             IS
    'the tables that a target has received in full; any other is sent in full by its next export';
COMMENT ON COLUMN table_export.target_table.target      IS 'the target';
COMMENT ON COLUMN table_export.target_table.tracked     IS 'the tracked table';
COMMENT ON COLUMN table_export.target_table.description IS
    'the name, the columns and the key that were sent; with others the table is sent in full, '
    'because DDL changes rows without changing them';
COMMENT ON COLUMN table_export.target_table.number      IS
    'the last batch that has sent it in full, or with ranges; changes can be repeated since that one, and no '
    'earlier one';
COMMENT ON COLUMN table_export.target_table.witness     IS
    'what PostgreSQL''s catalog said of its members and triggers when it was last exported; if DDL that '
    'may have hidden a change has been run since, the table is sent in full';

CREATE TABLE table_export.batch (
    target      text        NOT NULL,
    number      bigint      NOT NULL,
    id          uuid        NOT NULL,
    previous    uuid,
    kind        text        NOT NULL,
    tables      integer     NOT NULL,
    ids         bigint      NOT NULL,
    records     bigint      NOT NULL,
    bytes       bigint      NOT NULL,
    store       text        NOT NULL,
    exported_at timestamptz NOT NULL,
    position    pg_snapshot NOT NULL,
    has_healed  boolean     NOT NULL,
    PRIMARY KEY (target, number)
);
COMMENT ON TABLE  table_export.batch             IS 'batches that this database has published';
COMMENT ON COLUMN table_export.batch.target      IS 'the target';
COMMENT ON COLUMN table_export.batch.number      IS 'position in the chain of the target''s batches';
COMMENT ON COLUMN table_export.batch.id          IS 'identity of the batch';
COMMENT ON COLUMN table_export.batch.previous    IS 'identity of the batch before it';
COMMENT ON COLUMN table_export.batch.kind        IS
    'full: stands by itself; baseline: stands by itself where the rows are already; changes: needs the batch '
    'before it';
COMMENT ON COLUMN table_export.batch.tables      IS 'tables in the batch';
COMMENT ON COLUMN table_export.batch.ids         IS 'keys that changed';
COMMENT ON COLUMN table_export.batch.records     IS 'records in the batch';
COMMENT ON COLUMN table_export.batch.bytes       IS 'size of the files';
COMMENT ON COLUMN table_export.batch.store       IS 'the store it was published in';
COMMENT ON COLUMN table_export.batch.exported_at IS 'when it was exported';
COMMENT ON COLUMN table_export.batch.position    IS
    'the snapshot up to which the target was exported with it; changes since then can be sent once '
    'more';
COMMENT ON COLUMN table_export.batch.has_healed  IS
    'it holds keys of batches that this database had not known, which are nowhere else';

CREATE TABLE table_export.receipt (
    target      text        NOT NULL,
    number      bigint      NOT NULL,
    id          uuid        NOT NULL,
    kind        text        NOT NULL,
    tables      integer     NOT NULL,
    deleted     bigint      NOT NULL,
    updated     bigint      NOT NULL,
    inserted    bigint      NOT NULL,
    bytes       bigint      NOT NULL,
    store       text        NOT NULL,
    system_identifier text  NOT NULL,
    database    oid         NOT NULL,
    exported_at timestamptz NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (target, number)
);
COMMENT ON TABLE  table_export.receipt             IS 'batches that this database has applied';
COMMENT ON COLUMN table_export.receipt.target      IS 'the target whose batch it is';
COMMENT ON COLUMN table_export.receipt.number      IS 'number of the batch';
COMMENT ON COLUMN table_export.receipt.id          IS 'identity of the batch';
COMMENT ON COLUMN table_export.receipt.kind        IS 'full, baseline or changes';
COMMENT ON COLUMN table_export.receipt.tables      IS 'tables in the batch';
COMMENT ON COLUMN table_export.receipt.deleted     IS 'rows deleted here';
COMMENT ON COLUMN table_export.receipt.updated     IS 'rows updated here';
COMMENT ON COLUMN table_export.receipt.inserted    IS 'rows inserted here';
COMMENT ON COLUMN table_export.receipt.bytes       IS 'size of the files';
COMMENT ON COLUMN table_export.receipt.store       IS 'the store that it came from';
COMMENT ON COLUMN table_export.receipt.system_identifier IS
    'the cluster of the database that has published it';
COMMENT ON COLUMN table_export.receipt.database    IS 'that database';
COMMENT ON COLUMN table_export.receipt.exported_at IS 'the instant of the source that the batch shows';
COMMENT ON COLUMN table_export.receipt.applied_at  IS 'when it was applied here';

CREATE TABLE table_export.copy (
    relation       regclass PRIMARY KEY,
    target         text     NOT NULL,
    schema         text     NOT NULL,
    name           text     NOT NULL,
    since          bigint,
    adopted        boolean  NOT NULL DEFAULT false,
    number         bigint   NOT NULL,
    unlogged       boolean  NOT NULL DEFAULT false,
    not_sent_since bigint,
    shows          timestamptz,
    columns        jsonb,
    stale_columns  text[],
    UNIQUE (target, schema, name)
);
COMMENT ON TABLE  table_export.copy                IS
    'tables here that are copies, each of one table of one target; changes are applied to no other table';
COMMENT ON COLUMN table_export.copy.relation       IS 'the table';
COMMENT ON COLUMN table_export.copy.target         IS 'the target whose batches are applied to it';
COMMENT ON COLUMN table_export.copy.schema         IS 'the schema of the source''s table';
COMMENT ON COLUMN table_export.copy.name           IS 'the name of the source''s table';
COMMENT ON COLUMN table_export.copy.since          IS
    'the batch whose full part or baseline made it the copy; null: it needs another full part';
COMMENT ON COLUMN table_export.copy.adopted        IS
    'it was adopted with the rows that it had, by a baseline, and no full part has come since';
COMMENT ON COLUMN table_export.copy.number         IS 'the last batch that held something of it';
COMMENT ON COLUMN table_export.copy.unlogged       IS 'the table was unlogged at its last import';
COMMENT ON COLUMN table_export.copy.not_sent_since IS
    'the first batch that does not name the source''s table any more; null: the target gets it';
COMMENT ON COLUMN table_export.copy.shows          IS 'the instant of the last batch before that';
COMMENT ON COLUMN table_export.copy.columns        IS
    'the columns that have received values, as the catalog described them after the last part';
COMMENT ON COLUMN table_export.copy.stale_columns  IS
    'columns that were added or altered here since a full part: unchanged rows may lack their values';

CREATE TABLE table_export.former_copy (
    relation regclass PRIMARY KEY
);
COMMENT ON TABLE  table_export.former_copy          IS
    'tables here that have been copies, and have received no full part since: no baseline adopts them';
COMMENT ON COLUMN table_export.former_copy.relation IS 'the table';

-- Unlogged, because a crash must empty it together with the tables that it names.
CREATE UNLOGGED TABLE table_export.unlogged_copy (
    target   text     NOT NULL,
    relation regclass NOT NULL,
    PRIMARY KEY (target, relation)
);
COMMENT ON TABLE  table_export.unlogged_copy          IS
    'unlogged tables that this database has imported since the last crash';
COMMENT ON COLUMN table_export.unlogged_copy.target   IS 'the target whose batches are applied to it';
COMMENT ON COLUMN table_export.unlogged_copy.relation IS 'the table';

CREATE TABLE table_export.mapping (
    target   text     NOT NULL,
    schema   text     NOT NULL,
    name     text     NOT NULL,
    relation regclass,
    columns  jsonb    NOT NULL,
    PRIMARY KEY (target, schema, name)
);
COMMENT ON TABLE  table_export.mapping          IS
    'tables that are imported into one of another name, or with other names of columns';
COMMENT ON COLUMN table_export.mapping.target   IS 'the target';
COMMENT ON COLUMN table_export.mapping.schema   IS 'the schema of the table at the source';
COMMENT ON COLUMN table_export.mapping.name     IS 'its name there';
COMMENT ON COLUMN table_export.mapping.relation IS 'the table here; null: imports leave it out';
COMMENT ON COLUMN table_export.mapping.columns  IS 'names of columns here, by those at the source';

CREATE TABLE table_export.proof (
    target      text        NOT NULL,
    relation    regclass    NOT NULL,
    number      bigint      NOT NULL,
    equal       boolean,
    complete    boolean     NOT NULL,
    missing     bigint      NOT NULL,
    extra       bigint      NOT NULL,
    different   bigint      NOT NULL,
    verified_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (target, relation)
);
COMMENT ON TABLE  table_export.proof             IS
    'what the last comparison of a table with the store has shown, at either side';
COMMENT ON COLUMN table_export.proof.target      IS 'the target';
COMMENT ON COLUMN table_export.proof.relation    IS 'the table';
COMMENT ON COLUMN table_export.proof.number      IS 'the batch that it was compared with';
COMMENT ON COLUMN table_export.proof.equal       IS
    'whether what was compared was equal; null: nothing was compared';
COMMENT ON COLUMN table_export.proof.complete    IS 'whether everything was compared';
COMMENT ON COLUMN table_export.proof.missing     IS 'rows that were missing';
COMMENT ON COLUMN table_export.proof.extra       IS 'rows that should not have been there';
COMMENT ON COLUMN table_export.proof.different   IS 'rows that had other values';
COMMENT ON COLUMN table_export.proof.verified_at IS 'when it was compared';

CREATE TABLE table_export.restriction (
    target   text     NOT NULL CHECK (target <> ''),
    relation regclass NOT NULL,
    view     regclass,
    PRIMARY KEY (target, relation)
);
COMMENT ON TABLE  table_export.restriction          IS
    'tables that a restricted target gets; it gets no others, tracked or not';
COMMENT ON COLUMN table_export.restriction.target   IS 'the target, which need not exist yet';
COMMENT ON COLUMN table_export.restriction.relation IS 'the table';
COMMENT ON COLUMN table_export.restriction.view     IS
    'the view that it is exported through; NULL: it is exported whole';

-- The tables whose rows pg_dump must include: it leaves out those of an extension's tables otherwise.
SELECT pg_catalog.pg_extension_config_dump('table_export.tracked', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.tracked_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.target', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.target_table', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.batch', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.receipt', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.copy',
    'WHERE relation::pg_catalog.oid IN (SELECT oid FROM pg_catalog.pg_class)');
SELECT pg_catalog.pg_extension_config_dump('table_export.former_copy',
    'WHERE relation::pg_catalog.oid IN (SELECT oid FROM pg_catalog.pg_class)');
-- A dump has the rows of this table and of the tables that it names, or those of neither
-- (--no-unlogged-table-data).
SELECT pg_catalog.pg_extension_config_dump('table_export.unlogged_copy', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.mapping', '');
SELECT pg_catalog.pg_extension_config_dump('table_export.proof',
    'WHERE relation::pg_catalog.oid IN (SELECT oid FROM pg_catalog.pg_class)');
SELECT pg_catalog.pg_extension_config_dump('table_export.restriction', '');
