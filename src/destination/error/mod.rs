//! The errors of the destination.

mod baseline;
mod value;

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::catalog::SourceTable;
use crate::error::{Facts, Report, TableName, copy_again, copy_or_reset, literal, name_store, plain};
use crate::guc::is_same_store;
use crate::table::untrusted::Untrusted;
pub use baseline::{BaselineError, OfTable};
pub use value::{GeneratedValue, MisfitValue, ValueError};

/// What keeps the batches in the store from being applied here.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("batch {expected} of target \"{target}\" is missing")]
    MissingBatch { target: String, expected: u64, found: u64, may_restart: bool },
    #[error("batch {number} of target \"{target}\" does not follow the batch that was applied here")]
    Forked { target: String, number: u64 },
    #[error("store \"{store}\" is behind this database for target \"{target}\"")]
    StoreBehind {
        target: String,
        store: String,
        applied: u64,
        /// The store that the applied batch came from.
        last: String,
        /// The last batch of the target in the store.
        newest: Option<u64>,
    },
    #[error("batch {number} of target \"{target}\" was exported by this very database")]
    OwnDatabase { target: String, number: u64 },
    #[error("batch {number} of target \"{target}\" comes from another database than the batch before it")]
    OtherSource { target: String, number: u64, publisher: String, last: String },
    #[error("unlogged table \"{table}\" {} lost what was imported into it", if *has_rows { "may have" } else { "has" })]
    Emptied { table: String, target: String, has_rows: bool },
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
            ChainError::StoreBehind { target, store, applied, last, newest } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(match newest {
                        None => format!("Batch {applied} has been applied here, but the store holds no batch."),
                        Some(newest) => format!(
                            "Batch {applied} has been applied here, but the last one in the store is batch {newest}."
                        ),
                    })
                    .hint(find_batches(target, store, last, newest.is_some()))
            }
            ChainError::OwnDatabase { target, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                "Import in another database. If this one is a copy of the source, put its name for … and run: ALTER \
                 DATABASE … SET pg_table_export.publish = off; SELECT tx_forget({});",
                literal(target)
            )),
            ChainError::OtherSource { target, publisher, last, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!(
                        "It was published by {publisher}; the batch that was applied last, by {last}."
                    ))
                    .hint(format!(
                        "If that database is the source now, run here: SELECT tx_reset({});",
                        literal(target)
                    ))
            }
            ChainError::Emptied { target, has_rows, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(if *has_rows {
                        "It was made unlogged since the last import. Or a crash of the server has emptied it, \
                         and its rows came afterwards."
                    } else {
                        "PostgreSQL empties unlogged tables after a crash; or it was made unlogged since."
                    })
                    .hint(start_again(target))
            }
        }
    }
}

/// What keeps a table from being imported into, mapped or protected.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("schema \"{schema}\" does not exist")]
    NoSchema { schema: String },
    #[error("permission denied for schema \"{schema}\"")]
    NoSchemaPrivilege { schema: String, role: String },
    #[error("permission denied for function tx_import")]
    MayNotImport,
    #[error("\"{table}\" cannot be protected")]
    Unprotectable { table: TableName, what: &'static str },
    #[error("\"{table}\" cannot be imported into")]
    WrongDestination { table: TableName, what: &'static str },
    #[error("columns of table \"{table}\" that do not exist here cannot be ignored in format {format}")]
    CannotIgnore { target: String, table: TableName, columns: Vec<String>, format: &'static str },
    #[error("collation {collation} of column \"{column}\" of table \"{table}\" does not exist here")]
    NoCollation { table: TableName, column: String, collation: String },
    #[error("type {} of column \"{column}\" of table \"{table}\" belongs to another role", untrusted.type_name)]
    UntrustedType {
        table: TableName,
        column: String,
        untrusted: Untrusted,
        /// What whoever trusts that role does instead.
        remedy: String,
    },
    #[error("column \"{column}\" of table \"{table}\" is generated here")]
    GeneratedColumn {
        table: TableName,
        column: String,
        /// It is a partition of a table that does not generate the column.
        is_partition: bool,
    },
    #[error("table \"{table}\" of target \"{target}\" is not mapped to another one")]
    NotMapped { target: String, table: String },
}

impl ImportError {
    /// Writes the CREATE SCHEMA for a schema that does not exist.
    pub fn create_schema(schema: &str) -> String {
        format!("CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(schema))
    }
}

impl Report for ImportError {
    fn facts(&self) -> Facts {
        match self {
            ImportError::NoSchema { schema } => {
                plain(ERRCODE_INVALID_SCHEMA_NAME).run(ImportError::create_schema(schema))
            }
            ImportError::NoSchemaPrivilege { schema, role } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail("The caller needs CREATE and USAGE on it.")
                .run(format!(
                    "GRANT CREATE, USAGE ON SCHEMA {} TO {}",
                    quote_identifier(schema),
                    quote_identifier(role)
                )),
            ImportError::MayNotImport => plain(ERRCODE_INSUFFICIENT_PRIVILEGE).detail(
                "Who maps a table of a target to a table here reads its rows, as who imports it does.",
            ),
            ImportError::Unprotectable { what, .. } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(format!("It is {what}."))
            }
            ImportError::WrongDestination { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Import into an ordinary or partitioned table."),
            ImportError::CannotIgnore { target, columns, .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED)
                .detail(format!("They are {}.", columns.join(", ")))
                .hint(format!(
                    "Export in format text, or add the columns. Run: {}",
                    import_with(target, "new_columns => 'add'")
                )),
            ImportError::NoCollation { .. } | ImportError::NotMapped { .. } => {
                plain(ERRCODE_UNDEFINED_OBJECT)
            }
            ImportError::GeneratedColumn { table, column, is_partition: false } => {
                plain(ERRCODE_GENERATED_ALWAYS)
                    .detail("It is of the key, by which rows are found.")
                    .run(table.alter("ALTER", column, "DROP EXPRESSION"))
            }
            ImportError::GeneratedColumn { table, column, is_partition: true } => {
                plain(ERRCODE_GENERATED_ALWAYS)
                    .detail("The partitioned table does not generate it, and would not get what was sent.")
                    .hint(format!(
                        "Detach the partition, run: {}; and attach it again.",
                        table.alter("ALTER", column, "DROP EXPRESSION")
                    ))
            }
            ImportError::UntrustedType { untrusted, remedy, .. } => {
                let owner = &untrusted.owner;
                plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                    .detail(format!(
                        "It belongs to role \"{owner}\", whose functions, in the CHECK of a domain for example, \
                         would run with the rights of the owner of the table."
                    ))
                    .hint(format!("If role \"{owner}\" may do that, {remedy}"))
            }
        }
    }
}

/// What keeps the rows of a part from being written.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    #[error("table \"{table}\" would lose more than {limit} percent of its rows")]
    TooManyDeleted {
        /// What the caller has called.
        function: &'static str,
        target: String,
        table: TableName,
        deleted: u64,
        left: u64,
        limit: u32,
    },
    #[error("two keys of table \"{table}\" are one here{}", shown_keys(keys.as_ref()))]
    EqualKeys {
        table: TableName,
        /// None if the caller may not read the table.
        keys: Option<[String; 2]>,
        index: String,
    },
    #[error("table \"{table}\" in batch {number} has {found} {what}, but its manifest says {declared}")]
    Count { target: String, table: TableName, number: u64, what: &'static str, declared: u64, found: u64 },
}

impl Report for RowsError {
    fn facts(&self) -> Facts {
        match self {
            RowsError::TooManyDeleted { function, target, deleted, left, .. } => {
                plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
                    .detail(format!(
                        "{deleted} rows would be deleted, and {left} would stay. Nothing was changed."
                    ))
                    .hint(format!(
                        "If the deletion is intended, run: {}",
                        call_with(function, target, "delete_limit => 100")
                    ))
            }
            RowsError::EqualKeys { index, .. } => plain(ERRCODE_UNIQUE_VIOLATION)
                .detail(format!("Index {index} takes them for equal. Nothing was changed."))
                .hint("Give the index here the collation and the operator class that it has at the source."),
            RowsError::Count { target, .. } => {
                plain(ERRCODE_DATA_CORRUPTED).detail("Nothing was changed.").hint(copy_again(target))
            }
        }
    }
}

/// What keeps a table from being, or becoming, the copy of a table of a target.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    #[error("table \"{table}\" is not the copy of table \"{source_table}\" of target \"{target}\"")]
    NotACopy { table: TableName, source_table: TableName, target: String },
    #[error("table \"{table}\" has rows that no import has written")]
    HasOwnRows { table: TableName, source_table: TableName, target: String },
    #[error("\"{relative}\" is the copy of table \"{source_table}\" of target \"{target}\"")]
    CopyOfAnother {
        table: TableName,
        relative: String,
        source_table: TableName,
        target: String,
        /// Both are tables of one target.
        is_same_target: bool,
    },
    #[error("table \"{table}\" belongs to extension \"{extension}\"")]
    OfExtension { table: TableName, target: String, extension: String },
}

impl OwnershipError {
    /// Says that a table cannot become a copy of `target`, because `relative`, which is the table itself or a
    /// partition or ancestor of it, is another copy.
    pub fn copy_of_another(
        table: TableName,
        relative: String,
        other: &SourceTable,
        target: &str,
    ) -> OwnershipError {
        OwnershipError::CopyOfAnother {
            table,
            relative,
            source_table: TableName::new(&other.schema, &other.name),
            is_same_target: other.target == target,
            target: other.target.clone(),
        }
    }
}

impl Report for OwnershipError {
    fn facts(&self) -> Facts {
        let refused = plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
        match self {
            OwnershipError::NotACopy { source_table, target, .. } => refused
                .detail("The batch has changes, and the table has not received the rows that they change.")
                .hint(format!(
                    "To have all rows sent again, run at the source: SELECT tx_reset({}, {});",
                    literal(target),
                    source_table.literal()
                )),
            OwnershipError::HasOwnRows { source_table, target, .. } => refused
                .detail(format!(
                    "They would be replaced by those of table \"{source_table}\" of target \"{target}\"."
                ))
                .hint(format!(
                    "To import into another table, put its name for '…': SELECT tx_map({}, {}, '…'); \
                     To make the table the copy, and delete what the source does not have, run: {}",
                    literal(target),
                    source_table.literal(),
                    import_with(target, "adopt => true")
                )),
            OwnershipError::CopyOfAnother { table, source_table, is_same_target: true, .. } => {
                refused.detail(format!("Both would write rows of table \"{table}\".")).hint(format!(
                    "Import one of the two into another table by tx_map(). If one is not to be sent any \
                     more, run at the source: SELECT tx_untrack({});",
                    source_table.literal()
                ))
            }
            OwnershipError::CopyOfAnother { table, target, is_same_target: false, .. } => {
                refused.detail(format!("Both would write rows of table \"{table}\".")).hint(format!(
                    "To fill one table from several, give it a LIST partition for each, with a default for \
                     the column of the partition key, and import into the partitions by tx_map(). If target \
                     {0} is not imported here any more, run: SELECT tx_forget({0});",
                    literal(target)
                ))
            }
            OwnershipError::OfExtension { table, target, .. } => refused.hint(format!(
                "If a batch is to write to it, run: SELECT tx_map({}, {}, {1});",
                literal(target),
                table.literal()
            )),
        }
    }
}

/// The call of tx_import with one more argument.
fn import_with(target: &str, argument: &str) -> String {
    call_with("tx_import", target, argument)
}

fn call_with(function: &str, target: &str, argument: &str) -> String {
    format!("SELECT * FROM {function}({}, {argument});", literal(target))
}

fn shown_keys(keys: Option<&[String; 2]>) -> String {
    keys.map(|[one, other]| format!(": ({one}) and ({other})")).unwrap_or_default()
}

/// What to do about a store that lacks the batch that was applied last; that one came from the store `last`.
fn find_batches(target: &str, store: &str, last: &str, holds_any: bool) -> String {
    let elsewhere = if is_same_store(store, last) { String::new() } else { name_store(last) + " " };
    let target = literal(target);
    let begin = if holds_any {
        format!("To go back to the latest full batch in the store, run: SELECT tx_reset({target});")
    } else {
        format!(
            "If they are lost, run at the source: SELECT tx_reset({target}); SELECT * FROM tx_export({target});"
        )
    };
    format!("{elsewhere}Copy the batches that are missing to store \"{store}\". {begin}")
}

fn start_again(target: &str) -> String {
    format!(
        "To start again from the latest full batch in the store, run: SELECT tx_reset({});",
        literal(target)
    )
}
