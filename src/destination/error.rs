//! The errors of the destination.

use pgrx::PgSqlErrorCode::*;

use crate::error::{COPY_AGAIN, Facts, Report, TableName, copy_or_reset, literal, plain};

/// What keeps the batches in the store from being applied here.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("batch {expected} of target \"{target}\" is missing")]
    MissingBatch { target: String, expected: u64, found: u64, may_restart: bool },
    #[error("batch {number} of target \"{target}\" does not follow the batch that was applied here")]
    Forked { target: String, number: u64 },
    #[error("store \"{store}\" is behind this database for target \"{target}\"")]
    StoreBehind { target: String, store: String, applied: u64 },
    #[error("batch {number} of target \"{target}\" was exported by this very database")]
    OwnDatabase { target: String, number: u64 },
    #[error("unlogged table \"{table}\" has lost what was imported into it")]
    Emptied { table: String, target: String },
}

impl Report for ChainError {
    fn facts(&self) -> Facts {
        match self {
            ChainError::MissingBatch { target, found, may_restart, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!("The next batch in the store is batch {found}."))
                    .hint(if *may_restart {
                        format!(
                            "Copy the batches to the store completely. To start again from its compacted full \
                             batch, set pg_table_export.restart_when_behind to on, or run: SELECT tx_reset({});",
                            literal(target)
                        )
                    } else {
                        copy_or_reset(target)
                    })
            }
            ChainError::Forked { target, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(start_again(target))
            }
            ChainError::StoreBehind { target, applied, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail(format!(
                    "Batch {applied} has been applied here, but the store does not hold it."
                ))
                .hint(start_again(target)),
            ChainError::OwnDatabase { .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint("Import in another database.")
            }
            ChainError::Emptied { target, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail("PostgreSQL empties unlogged tables after a crash; or it was made unlogged since.")
                .hint(start_again(target)),
        }
    }
}

/// What keeps a table from being imported into, mapped or protected.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("table \"{table}\" does not exist here")]
    NoDestination { table: TableName, target: String, batch: u64, is_full: bool },
    #[error("\"{table}\" cannot be protected")]
    Unprotectable { table: TableName, what: &'static str },
    #[error("\"{table}\" cannot be imported into")]
    WrongDestination { table: TableName, what: &'static str },
    #[error("columns of table \"{table}\" that do not exist here cannot be ignored in format {format}")]
    CannotIgnore { table: TableName, columns: Vec<String>, format: &'static str },
    #[error("collation {collation} of column \"{column}\" of table \"{table}\" does not exist here")]
    NoCollation { table: TableName, column: String, collation: String },
    #[error("table \"{table}\" of target \"{target}\" is not mapped to another one")]
    NotMapped { target: String, table: String },
    #[error("table \"{table}\" would lose more than {limit} percent of its rows")]
    TooManyDeleted { table: TableName, deleted: u64, left: u64, limit: u32 },
    #[error("column \"{column}\" of table \"{table}\" is generated here")]
    GeneratedColumn { table: TableName, column: String },
    #[error("column \"{column}\" of table \"{table}\" has another type here")]
    ColumnType { table: TableName, column: String, source_type: String, own: String },
    #[error("two keys of table \"{table}\" are one here: ({}) and ({})", keys[0], keys[1])]
    EqualKeys { table: TableName, keys: [String; 2], index: String },
    #[error("table \"{table}\" in batch {number} has {found} {what}, but its manifest says {declared}")]
    Count { table: TableName, number: u64, what: &'static str, declared: u64, found: u64 },
}

impl Report for ImportError {
    fn facts(&self) -> Facts {
        match self {
            ImportError::NoDestination { table, target, batch, is_full } => {
                plain(ERRCODE_UNDEFINED_TABLE).detail(format!("It is in batch {batch}.")).hint(if *is_full {
                    "Create it with what tx_ddl() returns at the source.".to_owned()
                } else {
                    // A new table lacks the rows that came before this batch.
                    format!(
                        "Create it with what tx_ddl() returns at the source. \
                         To have all its rows sent again, run at the source: SELECT tx_reset({}, {});",
                        literal(target),
                        table.literal()
                    )
                })
            }
            ImportError::Unprotectable { what, .. } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(format!("It is {what}."))
            }
            ImportError::WrongDestination { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Import into an ordinary or partitioned table."),
            ImportError::CannotIgnore { columns, .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED)
                .detail(format!("They are {}.", columns.join(", ")))
                .hint("Import with new_columns => 'add', or export in format text."),
            ImportError::NoCollation { .. } | ImportError::NotMapped { .. } => {
                plain(ERRCODE_UNDEFINED_OBJECT)
            }
            ImportError::TooManyDeleted { deleted, left, .. } => plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
                .detail(format!(
                    "{deleted} rows would be deleted, and {left} would stay. Nothing was changed."
                ))
                .hint("If the deletion is intended, import with delete_limit => 100."),
            ImportError::GeneratedColumn { table, column } => {
                plain(ERRCODE_GENERATED_ALWAYS).run(table.alter("ALTER", column, "DROP EXPRESSION"))
            }
            ImportError::ColumnType { table, column, source_type, own } => plain(ERRCODE_DATATYPE_MISMATCH)
                .detail(format!("It is {source_type} at the source, and {own} here."))
                .run(table.alter("ALTER", column, &format!("TYPE {source_type}"))),
            ImportError::EqualKeys { index, .. } => plain(ERRCODE_UNIQUE_VIOLATION)
                .detail(format!("Index {index} takes them for equal. Nothing was changed."))
                .hint("Give the index here the collation and the operator class that it has at the source."),
            ImportError::Count { .. } => {
                plain(ERRCODE_DATA_CORRUPTED).detail("Nothing was changed.").hint(COPY_AGAIN)
            }
        }
    }
}

fn start_again(target: &str) -> String {
    format!(
        "To start again from the latest full batch in the store, run: SELECT tx_reset({});",
        literal(target)
    )
}
