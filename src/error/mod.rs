//! Every error that the extension raises itself: its message here, its SQLSTATE, DETAIL and HINT in `facts`.
//!
//! Messages follow PostgreSQL's style: lower case, no full stop, names in double quotes. Each says what
//! happened and to which object. DETAIL says what is known about it. HINT says what to do; a statement in it
//! can be pasted.

mod facts;

use std::{fmt, io};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::quote_identifier;

use facts::Facts;

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
        facts::literal(&self.quoted)
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// An error, by the stage that raises it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Internal(String),
    #[error("\"{text}\" cannot be written as UTF-8")]
    NotUtf8 { text: String },
    #[error("\"{text}\" contains a null character")]
    NulByte { text: String },

    // Arguments
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

    // The transaction
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

    // Exporting
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

    // Restricting
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
}

/// Takes out the error that a source or a sink of COPY has carried through `std::io`.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Batch(batch::Error::from(error))
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        // Of a statement that is to end, whatever it has met on its way out is not the reason.
        pgrx::check_for_interrupts!();
        let Facts { sqlstate, detail, hint } = error.facts();
        let mut report = ErrorReport::new(sqlstate, error.to_string(), "pg_table_export");
        if let Some(detail) = detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = hint {
            report = report.set_hint(hint);
        }
        report
    }
}
