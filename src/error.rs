//! Every error that we raise ourselves: its message, SQLSTATE, DETAIL and HINT, decided here and nowhere else.
//!
//! Messages follow PostgreSQL's style: lower case, no full stop, names in double quotes. Each says what happened and to
//! which object; DETAIL says what is known about it; HINT says what to type.

use std::{fmt, io};

use pgrx::PgSqlErrorCode;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::quote_identifier;

/// A table, as messages name it and as hints have it typed.
#[derive(Clone, Debug)]
pub struct TableName {
    shown: String,
    quoted: String,
}

impl TableName {
    /// Names a table that exists, or should.
    pub fn new(schema: &str, name: &str) -> TableName {
        let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        TableName { shown: format!("{schema}.{name}"), quoted }
    }

    /// Returns the name as a literal, for an argument of type regclass.
    fn literal(&self) -> String {
        format!("'{}'", self.quoted.replace('\'', "''"))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Internal(String),
    #[error("\"{text}\" cannot be written as UTF-8")]
    NotUtf8 { text: String },
    #[error("\"{text}\" contains a null character")]
    NulByte { text: String },
    #[error("invalid value for argument \"{argument}\": \"{value}\"")]
    Argument { argument: &'static str, value: String, allowed: &'static str },

    #[error("argument \"{argument}\" must not be null")]
    NullArgument { argument: &'static str },

    // Tracking
    #[error("there is no table with OID {oid}")]
    NoTable { oid: u32 },
    #[error("must be owner of extension pg_table_export")]
    NotExtensionOwner,
    #[error("must be owner of table \"{table}\"")]
    NotOwner { table: TableName },
    #[error("\"{table}\" cannot be tracked")]
    WrongKind { table: TableName, what: &'static str },
    #[error("table \"{table}\" cannot be exported any more")]
    NoLongerTrackable { table: TableName, what: &'static str },
    #[error("\"{table}\" is not a table")]
    NotATable { table: TableName },
    #[error("table \"{table}\" has no key to track it by")]
    NoKey { table: TableName, index: Option<String> },
    #[error("column \"{column}\" of the key of table \"{table}\" is not NOT NULL")]
    NullableKey { table: TableName, column: String },
    #[error("table \"{table}\" is tracked by another key")]
    OtherKey { table: TableName },
    #[error("table \"{table}\" is not tracked")]
    NotTracked { table: TableName },
    #[error("the key of table \"{table}\" has changed since it was tracked")]
    KeyChanged { table: TableName },
    #[error("table \"{table}\" has another owner than when it was tracked")]
    OwnerChanged { table: TableName },
    #[error("the triggers that track table \"{table}\" are missing or disabled")]
    TriggersMissing { table: TableName },
    #[error("table with OID {oid} is tracked, but has been dropped")]
    TableGone { oid: u32 },
    #[error("shadow {id} does not exist")]
    ShadowMissing { id: i32 },
    #[error("event trigger \"{name}\" is disabled")]
    EventTriggerDisabled { name: String, target: String },
    #[error("function \"table_export.capture\" was not called by one of its own triggers")]
    NotOurTrigger,

    // Exporting
    #[error("cannot execute {function} during recovery")]
    InRecovery { function: &'static str },
    #[error("tx_export() cannot run in a transaction that has already written")]
    HasWritten,
    #[error("{function} cannot run in a transaction that has already written")]
    NotAlone { function: &'static str },
    #[error("cannot PREPARE a transaction that has run tx_export() or tx_prune()")]
    Prepared,
    #[error("{function} cannot run in a REPEATABLE READ or SERIALIZABLE transaction")]
    OldSnapshot { function: &'static str },
    #[error("no table is tracked in this database")]
    NothingTracked,
    #[error("none of the tables that target \"{target}\" gets is tracked")]
    NothingGiven { target: String },
    #[error("permission denied for table \"{table}\"")]
    NoPrivilege { table: TableName, privilege: &'static str },
    #[error("row security would hide rows of table \"{table}\"")]
    RowSecurity { table: TableName, doing: &'static str },
    #[error("target \"{target}\" is busy")]
    TargetBusy { target: String, purpose: String, pid: Option<i32> },
    #[error("target \"{target}\" does not exist")]
    UnknownTarget { target: String, known: Vec<String> },
    #[error("target \"{target}\" has been taken over by a newer timeline")]
    NewerTimeline { target: String, number: u64, theirs: u32, ours: u32 },
    #[error("target \"{target}\" is in use by another database")]
    OtherDatabase { target: String, number: u64, database: String, system_identifier: String },
    #[error("batch {number} of target \"{target}\" is not known here and cannot be read")]
    UnreadableUnknown { target: String, number: u64, reason: batch::Error },
    #[error("batch {number} of target \"{target}\" is not one that this database has published")]
    NotPublished { target: String, number: u64 },
    #[error("batch {number} of target \"{target}\" has been published by somebody else")]
    NumberTaken { target: String, number: u64 },

    #[error("target \"{target}\" is not restricted")]
    NotRestricted { target: String, table: Option<String> },
    #[error("it is the last table that target \"{target}\" gets")]
    LastOfRestricted { target: String },
    #[error("view \"{view}\" cannot stand for table \"{table}\"")]
    UnfitView { view: TableName, table: TableName, what: String },
    #[error("the view that table \"{table}\" is exported through does not exist any more")]
    ViewGone { table: TableName },

    // The store
    #[error("permission denied for store \"{location}\"")]
    StoreNotAllowed { location: String, role: &'static str },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Batch(#[from] batch::Error),
    #[error("could not make a pipe for COPY: {0}")]
    Pipe(io::Error),

    // Compacting
    #[error("batch {number} of target \"{target}\" is not in store \"{store}\"")]
    NotInStore { target: String, number: u64, store: String },
    #[error("batch {number} of target \"{target}\" does not follow the one before it")]
    BrokenChain { target: String, number: u64 },
    #[error("the batches of target \"{target}\" up to batch {number} have been compacted by somebody else")]
    AlreadyCompacted { target: String, number: u64 },
    #[error(transparent)]
    Expire(batch::Error),
    #[error("compacting batches of target \"{target}\" has taken more than a day")]
    CompactionTooLong { target: String },

    // Importing
    #[error("store \"{store}\" holds no batch of target \"{target}\"")]
    NoBatch { target: String, store: String, known: Vec<String> },
    #[error("target \"{target}\" has no full batch to start from")]
    NoFullBatch { target: String },
    #[error("batch {expected} of target \"{target}\" is missing")]
    MissingBatch { target: String, expected: u64, found: u64, may_restart: bool },
    #[error("batch {number} of target \"{target}\" does not follow the batch that was applied here")]
    Forked { target: String, number: u64 },
    #[error("store \"{store}\" is behind this database for target \"{target}\"")]
    StoreBehind { target: String, store: String, applied: u64 },
    #[error("batch {number} of target \"{target}\" was exported by this very database")]
    OwnDatabase { target: String, number: u64 },
    #[error("table \"{table}\" does not exist here")]
    NoDestination { table: TableName, target: String, batch: u64, is_full: bool },
    #[error("\"{table}\" cannot be protected")]
    Unprotectable { table: TableName, what: &'static str },
    #[error("\"{table}\" cannot be imported into")]
    WrongDestination { table: TableName, what: &'static str },
    #[error("column \"{column}\" of table \"{table}\" does not exist here")]
    NoColumn { table: TableName, column: String, definition: Option<String> },
    #[error("columns of table \"{table}\" that do not exist here cannot be ignored in format {format}")]
    CannotIgnore { table: TableName, columns: Vec<String>, format: &'static str },
    #[error("collation {collation} of column \"{column}\" of table \"{table}\" does not exist here")]
    NoCollation { table: TableName, column: String, collation: String },
    #[error("table \"{table}\" would lose more than {limit} percent of its rows")]
    TooManyDeleted { table: TableName, deleted: u64, left: u64, limit: u32 },
    #[error("unlogged table \"{table}\" has lost what was imported into it")]
    Emptied { table: String, target: String },
    #[error("table \"{table}\" of target \"{target}\" is not mapped to another one")]
    NotMapped { target: String, table: String },
    #[error("column \"{column}\" of table \"{table}\" is generated here")]
    GeneratedColumn { table: TableName, column: String },
    #[error("column \"{column}\" of table \"{table}\" has another type here")]
    ColumnType { table: TableName, column: String, source_type: String, own: String },
    #[error("type {type_name} of key column \"{column}\" of table \"{table}\" has no equality operator")]
    NoEquality { table: TableName, column: String, type_name: String },
    #[error("table \"{table}\" in batch {number} has {found} {what}, but its manifest says {declared}")]
    Count { table: TableName, number: u64, what: &'static str, declared: u64, found: u64 },
}

impl Error {
    /// Says that a store holds no batch of a target, and of which it does.
    pub fn no_batch(target: &str, store: &dyn store::Store) -> Error {
        let known = batch::reader::targets(store).unwrap_or_default();
        Error::NoBatch { target: target.to_owned(), store: store.url(), known }
    }

    /// Says whether a store has stopped waiting because the statement is to end.
    pub fn is_interrupt(&self) -> bool {
        let (Error::Store(error)
        | Error::Batch(batch::Error::Store(error))
        | Error::Expire(batch::Error::Store(error))) = self
        else {
            return false;
        };
        matches!(error, store::Error::Interrupted { .. })
    }

    fn sqlstate(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Error::Internal(_) => ERRCODE_INTERNAL_ERROR,
            Error::NotUtf8 { .. } => ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
            Error::NulByte { .. } => ERRCODE_INVALID_TEXT_REPRESENTATION,
            Error::Argument { .. } => ERRCODE_INVALID_PARAMETER_VALUE,
            Error::NullArgument { .. } => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::NoTable { .. } | Error::NoDestination { .. } => ERRCODE_UNDEFINED_TABLE,
            Error::NotOwner { .. }
            | Error::NotExtensionOwner
            | Error::NoPrivilege { .. }
            | Error::RowSecurity { .. }
            | Error::StoreNotAllowed { .. } => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Error::WrongKind { .. }
            | Error::NoLongerTrackable { .. }
            | Error::NotATable { .. }
            | Error::Unprotectable { .. }
            | Error::WrongDestination { .. } => ERRCODE_WRONG_OBJECT_TYPE,
            Error::NoKey { .. } | Error::NullableKey { .. } | Error::UnfitView { .. } => {
                ERRCODE_INVALID_TABLE_DEFINITION
            }
            Error::NotTracked { .. }
            | Error::OtherKey { .. }
            | Error::KeyChanged { .. }
            | Error::OwnerChanged { .. }
            | Error::TriggersMissing { .. }
            | Error::TableGone { .. }
            | Error::ShadowMissing { .. }
            | Error::EventTriggerDisabled { .. }
            | Error::NothingTracked
            | Error::NothingGiven { .. }
            | Error::LastOfRestricted { .. }
            | Error::ViewGone { .. }
            | Error::NewerTimeline { .. }
            | Error::OtherDatabase { .. }
            | Error::UnreadableUnknown { .. }
            | Error::NoFullBatch { .. }
            | Error::MissingBatch { .. }
            | Error::BrokenChain { .. }
            | Error::CompactionTooLong { .. }
            | Error::Forked { .. }
            | Error::StoreBehind { .. }
            | Error::Emptied { .. }
            | Error::OwnDatabase { .. } => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::NotOurTrigger => ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Error::InRecovery { .. } => ERRCODE_READ_ONLY_SQL_TRANSACTION,
            Error::Prepared | Error::OldSnapshot { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::HasWritten | Error::NotAlone { .. } => ERRCODE_ACTIVE_SQL_TRANSACTION,
            Error::TargetBusy { .. } => ERRCODE_LOCK_NOT_AVAILABLE,
            Error::UnknownTarget { .. }
            | Error::NoBatch { .. }
            | Error::NotInStore { .. }
            | Error::NotRestricted { .. }
            | Error::NotPublished { .. } => ERRCODE_UNDEFINED_OBJECT,
            Error::NumberTaken { .. } | Error::AlreadyCompacted { .. } => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Error::Store(error) => store_sqlstate(error),
            Error::Batch(error) | Error::Expire(error) => batch_sqlstate(error),
            Error::Pipe(_) => ERRCODE_SYSTEM_ERROR,
            Error::NoColumn { .. } => ERRCODE_UNDEFINED_COLUMN,
            Error::CannotIgnore { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::NoCollation { .. } | Error::NotMapped { .. } => ERRCODE_UNDEFINED_OBJECT,
            Error::TooManyDeleted { .. } => ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
            Error::GeneratedColumn { .. } => ERRCODE_GENERATED_ALWAYS,
            Error::ColumnType { .. } => ERRCODE_DATATYPE_MISMATCH,
            Error::NoEquality { .. } => ERRCODE_UNDEFINED_FUNCTION,
            Error::Count { .. } => ERRCODE_DATA_CORRUPTED,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Error::WrongKind { what, .. }
            | Error::NoLongerTrackable { what, .. }
            | Error::Unprotectable { what, .. }
            | Error::WrongDestination { what, .. } => Some(format!("It is {what}.")),
            Error::UnfitView { what, .. } => Some(what.clone()),
            Error::CannotIgnore { columns, .. } => Some(format!("They are {}.", columns.join(", "))),
            Error::NotRestricted { table: Some(table), .. } => {
                Some(format!("Table \"{table}\" is not one that it has been given."))
            }
            Error::NoKey { index: None, .. } => Some("It has no primary key.".into()),
            Error::NoKey { index: Some(index), .. } => {
                Some(format!("\"{index}\" is not a unique index of it, or is partial, or over expressions."))
            }
            Error::NoPrivilege { privilege, .. } => Some(format!("The caller needs {privilege} on it.")),
            Error::TargetBusy { purpose, pid: Some(pid), .. } => {
                Some(format!("The process with PID {pid} has an {purpose} of it under way."))
            }
            Error::NewerTimeline { number, theirs, ours, .. } => Some(format!(
                "Batch {number} in the store was published on timeline {theirs}; this server is on timeline {ours}."
            )),
            Error::OtherDatabase { number, database, system_identifier, .. } => Some(format!(
                "Batch {number} in the store was published by database \"{database}\" \
                 of the cluster with system identifier {system_identifier}."
            )),
            Error::UnreadableUnknown { reason, .. } => Some(format!("{reason}.")),
            Error::StoreNotAllowed { role, .. } => Some(format!(
                "Only roles with privileges of \"{role}\" may use a store other than pg_table_export.store."
            )),
            Error::Batch(_) | Error::Count { .. } => Some("Nothing was changed.".into()),
            Error::Expire(_) => Some(
                "What was removed before is gone; the rest goes with the batches that expire next.".into(),
            ),
            Error::Emptied { .. } => Some(
                "PostgreSQL empties unlogged tables after a crash; or it was made unlogged since.".into(),
            ),
            Error::TooManyDeleted { deleted, left, .. } => {
                Some(format!("{deleted} rows would go, and {left} stay. Nothing was changed."))
            }
            Error::MissingBatch { found, .. } => {
                Some(format!("The next batch in the store is batch {found}."))
            }
            Error::StoreBehind { applied, .. } => {
                Some(format!("Batch {applied} has been applied here, but the store does not hold it."))
            }
            Error::NoDestination { batch, .. } => Some(format!("It is in batch {batch}.")),
            Error::NoColumn { definition: None, .. } => Some("Its type does not exist here either.".into()),
            Error::ColumnType { source_type, own, .. } => {
                Some(format!("It is {source_type} at the source, and {own} here."))
            }
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::Argument { allowed, .. } => Some(format!("Allowed: {allowed}.")),
            Error::NoLongerTrackable { table, .. } => Some(format!(
                "Undo that, and the next export sends the table in full; or SELECT tx_untrack({}).",
                table.literal()
            )),
            Error::WrongKind { .. } => {
                Some("Track a logged table of this database, ordinary or partitioned.".into())
            }
            Error::NoKey { .. } => Some(
                "Add a primary key, or name a unique index over NOT NULL columns: \
                 SELECT tx_track('…', key_index => '…')."
                    .into(),
            ),
            Error::NullableKey { column, table } => Some(format!(
                "ALTER TABLE {} ALTER COLUMN {} SET NOT NULL.",
                table.quoted,
                quote_identifier(column)
            )),
            Error::NotTracked { table } => Some(format!("SELECT tx_track({}).", table.literal())),
            Error::OtherKey { table } | Error::KeyChanged { table } | Error::TriggersMissing { table } => {
                Some(format!(
                    "SELECT tx_untrack({0}), then tx_track({0}) again; the next export sends the table in full.",
                    table.literal()
                ))
            }
            Error::OwnerChanged { table } => Some(format!(
                "SELECT tx_track({}) again, which lets the new owner read the shadow.",
                table.literal()
            )),
            Error::TableGone { oid } => {
                Some(format!("SELECT tx_untrack({oid}); if the table was made again, tx_track that one."))
            }
            Error::ShadowMissing { id } => Some(format!(
                "SELECT tx_untrack(relation) FROM table_export.tracked WHERE id = {id}; then tx_track that table again."
            )),
            Error::EventTriggerDisabled { name, target } => Some(format!(
                "ALTER EVENT TRIGGER {name} ENABLE ALWAYS; what DDL has done meanwhile is sent after SELECT tx_reset('{target}')."
            )),
            Error::InRecovery { .. } => Some("Run it on the primary.".into()),
            Error::HasWritten => Some(
                "Commit first: what this transaction has written would be exported before it is committed."
                    .into(),
            ),
            Error::Prepared => Some("COMMIT it directly.".into()),
            Error::OldSnapshot { .. } => {
                Some("Its snapshot would not show what has been exported since: use READ COMMITTED.".into())
            }
            Error::NotAlone { .. } => {
                Some("Call it alone: its locks last until the transaction ends.".into())
            }
            Error::NothingTracked => {
                Some("SELECT tx_track('…') for each table that should be exported.".into())
            }
            Error::RowSecurity { doing, .. } => Some(format!(
                "{doing} as a role that row security does not apply to, with a table owner to whom it does not apply either."
            )),
            Error::UnknownTarget { known, .. } | Error::NoBatch { known, .. } => {
                Some(match known.as_slice() {
                    [] => "There is no target yet.".into(),
                    known => {
                        let names = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
                        format!("Targets: {}.", names.join(", "))
                    }
                })
            }
            Error::NewerTimeline { target, .. } => Some(format!(
                "Export from the server that was promoted. To export from this one instead: SELECT tx_reset('{target}')."
            )),
            Error::OtherDatabase { target, .. } => Some(format!(
                "Use another name for the target, or take it over: SELECT tx_reset('{target}')."
            )),
            Error::UnreadableUnknown { target, .. } => {
                Some(format!("SELECT tx_reset('{target}'); the next export is full."))
            }
            Error::NothingGiven { target } | Error::LastOfRestricted { target } => {
                Some(format!("To have it get all tracked tables: SELECT tx_unrestrict('{target}')."))
            }
            Error::ViewGone { table } => Some(format!(
                "Give the target the table again: SELECT tx_restrict(target, {}, view).",
                table.literal()
            )),
            Error::NotPublished { target, .. } => Some(format!(
                "The view tx_batches lists them. To send everything: SELECT tx_reset('{target}')."
            )),
            Error::NumberTaken { .. } => Some("Export again.".into()),
            Error::StoreNotAllowed { role, .. } => {
                Some(format!("GRANT {role} to the caller, or leave the argument \"store\" out."))
            }
            Error::Store(store::Error::Unsupported { .. }) => None,
            Error::Store(store::Error::Secret) => Some(
                "Credentials come from the environment, or from files, of the operating-system user of the server."
                    .into(),
            ),
            Error::Store(store::Error::NotFound { .. }) => {
                Some("The directory must exist and belong to the operating-system user of the server.".into())
            }
            Error::Batch(batch::Error::FutureFormat { .. }) => Some("Upgrade pg_table_export here.".into()),
            Error::Batch(batch::Error::Manifest { .. } | batch::Error::Damaged { .. })
            | Error::Count { .. } => Some("Carry the batch over again from where it is whole.".into()),
            Error::Batch(batch::Error::Store(store::Error::NotFound { .. })) => {
                Some("Carry the files of the batch over completely.".into())
            }
            Error::Batch(batch::Error::Number { .. }) => {
                Some("Another target name, or remove the manifest of the last number from the store.".into())
            }
            Error::MissingBatch { target, may_restart: true, .. } => Some(format!(
                "Carry the batches over completely, or begin again with the store's compacted full batch: \
                 SET pg_table_export.restart_when_behind = on, or SELECT tx_reset('{target}') here."
            )),
            Error::CompactionTooLong { .. } => {
                Some("Compact fewer batches at once, with the arguments \"first\" and \"last\".".into())
            }
            Error::NoFullBatch { target } | Error::MissingBatch { target, .. } => Some(format!(
                "Carry the batches over completely, or start again at the source: SELECT tx_reset('{target}')."
            )),
            Error::Forked { target, .. }
            | Error::StoreBehind { target, .. }
            | Error::Emptied { target, .. } => Some(format!(
                "To start again from the store's last full batch: SELECT tx_reset('{target}') here."
            )),
            Error::OwnDatabase { .. } => Some("Import in another database.".into()),
            Error::NoDestination { is_full: true, .. } => {
                Some("Create it with what tx_ddl() returns at the source.".into())
            }
            // Made anew, it lacks the rows that came before this batch.
            Error::NoDestination { table, target, is_full: false, .. } => Some(format!(
                "Create it with what tx_ddl() returns at the source, and there have all its rows sent again: \
                 SELECT tx_reset('{target}', {}).",
                table.literal()
            )),
            Error::CannotIgnore { .. } => {
                Some("Import with new_columns => 'add', or export in format text.".into())
            }
            Error::TooManyDeleted { .. } => Some(
                "If they are gone at the source for a reason, import with delete_limit => 100; else look there.".into(),
            ),
            Error::WrongDestination { .. } => Some("Import into an ordinary or partitioned table.".into()),
            Error::NoColumn { table, column, definition: Some(definition) } => {
                let column = quote_identifier(column);
                Some(format!("ALTER TABLE {} ADD COLUMN {column} {definition}.", table.quoted))
            }
            Error::GeneratedColumn { table, column } => {
                let column = quote_identifier(column);
                Some(format!("ALTER TABLE {} ALTER COLUMN {column} DROP EXPRESSION.", table.quoted))
            }
            Error::ColumnType { table, column, source_type, .. } => {
                let column = quote_identifier(column);
                Some(format!("ALTER TABLE {} ALTER COLUMN {column} TYPE {source_type}.", table.quoted))
            }
            _ => None,
        }
    }
}

/// Takes out the error that a source or a sink of COPY has carried through `std::io`.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Batch(batch::Error::from(error))
    }
}

/// As errcode_for_file_access maps errno (elog.c).
fn store_sqlstate(error: &store::Error) -> PgSqlErrorCode {
    use PgSqlErrorCode::*;
    match error {
        store::Error::NotFound { .. } => ERRCODE_UNDEFINED_FILE,
        store::Error::Exists { .. } => ERRCODE_DUPLICATE_FILE,
        store::Error::Name { .. } => ERRCODE_INVALID_NAME,
        store::Error::Unsupported { .. } | store::Error::Replaces { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
        store::Error::Secret => ERRCODE_INVALID_PARAMETER_VALUE,
        store::Error::Profile { .. } => ERRCODE_CONFIG_FILE_ERROR,
        store::Error::Interrupted { .. } => ERRCODE_QUERY_CANCELED,
        store::Error::Io { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ERRCODE_INSUFFICIENT_PRIVILEGE
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ERRCODE_DISK_FULL,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => ERRCODE_WRONG_OBJECT_TYPE,
            _ => ERRCODE_IO_ERROR,
        },
    }
}

fn batch_sqlstate(error: &batch::Error) -> PgSqlErrorCode {
    use PgSqlErrorCode::*;
    match error {
        batch::Error::Store(error) => store_sqlstate(error),
        batch::Error::Manifest { .. } | batch::Error::Damaged { .. } => ERRCODE_DATA_CORRUPTED,
        batch::Error::FutureFormat { .. } | batch::Error::Unmergeable { .. } => ERRCODE_FEATURE_NOT_SUPPORTED,
        batch::Error::Number { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        batch::Error::Stream(_) => ERRCODE_IO_ERROR,
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        // Of a statement that is to end, whatever it has met on its way out is not the reason.
        pgrx::check_for_interrupts!();
        let mut report = ErrorReport::new(error.sqlstate(), error.to_string(), "pg_table_export");
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
