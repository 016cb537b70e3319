//! What an error says beside its message: SQLSTATE, DETAIL and HINT, one arm for each error.
//!
//! The matches are exhaustive, so a new error does not compile before all three are decided. A HINT that ends
//! with a statement ends with its semicolon: it can be pasted.

use std::io;

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::spi::quote_identifier;

use super::{Error, TableName};

/// SQLSTATE, DETAIL and HINT of an error.
pub(super) struct Facts {
    pub sqlstate: PgSqlErrorCode,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Begins the facts of an error: without DETAIL and HINT.
fn plain(sqlstate: PgSqlErrorCode) -> Facts {
    Facts { sqlstate, detail: None, hint: None }
}

impl Facts {
    fn detail(self, detail: impl Into<String>) -> Facts {
        Facts { detail: Some(detail.into()), ..self }
    }

    fn hint(self, hint: impl Into<String>) -> Facts {
        Facts { hint: Some(hint.into()), ..self }
    }

    /// A HINT that is a statement.
    fn run(self, statement: String) -> Facts {
        self.hint(format!("Run: {statement};"))
    }
}

/// Returns a text as a literal of SQL.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Writes an ALTER TABLE for a column.
fn alter(table: &TableName, action: &str, column: &str, rest: &str) -> String {
    format!("ALTER TABLE {} {action} COLUMN {} {rest}", table.quoted, quote_identifier(column))
}

/// Lists the targets that there are.
fn known_targets(known: &[String]) -> String {
    if known.is_empty() {
        return "There is no target yet.".into();
    }
    let names = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
    format!("Targets: {}.", names.join(", "))
}

impl Error {
    pub(super) fn facts(&self) -> Facts {
        match self {
            Error::Internal(_) => plain(ERRCODE_INTERNAL_ERROR),
            Error::NotUtf8 { .. } => plain(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
            Error::NulByte { .. } => plain(ERRCODE_INVALID_TEXT_REPRESENTATION),
            Error::Argument { allowed, .. } => {
                plain(ERRCODE_INVALID_PARAMETER_VALUE).hint(format!("Allowed: {allowed}."))
            }
            Error::NullArgument { .. } => plain(ERRCODE_NULL_VALUE_NOT_ALLOWED),

            // Tracking
            Error::NoTable { .. } => plain(ERRCODE_UNDEFINED_TABLE),
            Error::NotExtensionOwner | Error::NotOwner { .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE),
            Error::WrongKind { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Track a logged table of this database, ordinary or partitioned."),
            Error::NoLongerTrackable { table, what } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(format!("It is {what}.")).hint(format!(
                    "Undo that, and the next export sends the table in full. \
                     To stop tracking it, run: SELECT tx_untrack({});",
                    table.literal()
                ))
            }
            Error::NotATable { .. } => plain(ERRCODE_WRONG_OBJECT_TYPE),
            Error::NoKey { index, .. } => plain(ERRCODE_INVALID_TABLE_DEFINITION)
                .detail(match index {
                    None => "It has no primary key.".to_owned(),
                    Some(index) => {
                        format!("\"{index}\" is not a unique index of it, or is partial, or over expressions.")
                    }
                })
                .hint(
                    "Add a primary key, or name a unique index over NOT NULL columns: \
                     SELECT tx_track('…', key_index => '…');",
                ),
            Error::NullableKey { table, column } => {
                plain(ERRCODE_INVALID_TABLE_DEFINITION).run(alter(table, "ALTER", column, "SET NOT NULL"))
            }
            Error::NotTracked { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .run(format!("SELECT tx_track({})", table.literal())),
            Error::OtherKey { table } | Error::KeyChanged { table } | Error::TriggersMissing { table } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "To have the next export send the table in full, run: \
                     SELECT tx_untrack({0}); SELECT tx_track({0});",
                    table.literal()
                ))
            }
            Error::OwnerChanged { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                "To let the new owner read the shadow, run: SELECT tx_track({});",
                table.literal()
            )),
            Error::TableGone { oid } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                "If the table was made again, track the new one. Run: SELECT tx_untrack({oid});"
            )),
            Error::ShadowMissing { id } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                "Track that table again after: \
                 SELECT tx_untrack(relation) FROM table_export.tracked WHERE id = {id};"
            )),
            Error::EventTriggerDisabled { name, target } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint(format!(
                    "To have what DDL has changed meanwhile sent as well, run: \
                     ALTER EVENT TRIGGER {name} ENABLE ALWAYS; SELECT tx_reset({});",
                    literal(target)
                )),
            Error::NotOurTrigger => plain(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),

            // The transaction
            Error::InRecovery { .. } => {
                plain(ERRCODE_READ_ONLY_SQL_TRANSACTION).hint("Run it on the primary.")
            }
            Error::HasWritten => plain(ERRCODE_ACTIVE_SQL_TRANSACTION).hint(
                "Commit first: what this transaction has written would be exported before it is committed.",
            ),
            Error::NotAlone { .. } => plain(ERRCODE_ACTIVE_SQL_TRANSACTION)
                .hint("Call it alone: its locks last until the transaction ends."),
            Error::Prepared => plain(ERRCODE_FEATURE_NOT_SUPPORTED).hint("Use COMMIT instead."),
            Error::OldSnapshot { .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED)
                .hint("Its snapshot would not show what has been exported since. Use READ COMMITTED."),

            // Exporting
            Error::NothingTracked => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint("For each table that is to be exported, run: SELECT tx_track('…');"),
            Error::NothingGiven { target } | Error::LastOfRestricted { target } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "To give it all tracked tables, run: SELECT tx_unrestrict({});",
                    literal(target)
                ))
            }
            Error::NoPrivilege { privilege, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!("The caller needs {privilege} on it.")),
            Error::RowSecurity { doing, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE).hint(format!(
                "{doing} as a role that row security does not apply to. \
                 It must not apply to the owner of the table either."
            )),
            Error::TargetBusy { purpose, pid, .. } => {
                let process = |pid| format!("The process with PID {pid} has an {purpose} of it under way.");
                Facts { detail: pid.map(process), ..plain(ERRCODE_LOCK_NOT_AVAILABLE) }
            }
            Error::UnknownTarget { known, .. } => {
                plain(ERRCODE_UNDEFINED_OBJECT).hint(known_targets(known))
            }
            Error::NewerTimeline { target, number, theirs, ours } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!(
                        "Batch {number} in the store was published on timeline {theirs}; \
                         this server is on timeline {ours}."
                    ))
                    .hint(format!(
                        "Export from the server that was promoted. \
                         To export from this one instead, run: SELECT tx_reset({});",
                        literal(target)
                    ))
            }
            Error::OtherDatabase { target, number, database, system_identifier } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!(
                        "Batch {number} in the store was published by database \"{database}\" \
                         of the cluster with system identifier {system_identifier}."
                    ))
                    .hint(format!(
                        "Use another name for the target. To take it over, run: SELECT tx_reset({});",
                        literal(target)
                    ))
            }
            Error::UnreadableUnknown { target, reason, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).detail(format!("{reason}.")).hint(format!(
                    "To make the next export full, run: SELECT tx_reset({});",
                    literal(target)
                ))
            }
            Error::NotPublished { target, .. } => plain(ERRCODE_UNDEFINED_OBJECT).hint(format!(
                "The view tx_batches lists them. To send everything, run: SELECT tx_reset({});",
                literal(target)
            )),
            Error::NumberTaken { .. } => plain(ERRCODE_T_R_SERIALIZATION_FAILURE).hint("Export again."),

            // Restricting
            Error::NotRestricted { table, .. } => Facts {
                detail: table
                    .as_ref()
                    .map(|table| format!("Table \"{table}\" is not one that it has been given.")),
                ..plain(ERRCODE_UNDEFINED_OBJECT)
            },
            Error::UnfitView { what, .. } => plain(ERRCODE_INVALID_TABLE_DEFINITION).detail(what),
            Error::ViewGone { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                "To give the target the table again, run: SELECT tx_restrict('…', {}, '…');",
                table.literal()
            )),

            // The store
            Error::StoreNotAllowed { role, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!(
                    "Only roles with privileges of \"{role}\" may use a store other than pg_table_export.store."
                ))
                .hint(format!("Grant {role} to the caller, or leave out the argument \"store\".")),
            Error::Store(error) => store_facts(error),
            Error::Batch(error) => batch_facts(error).detail("Nothing was changed."),
            Error::Pipe(_) => plain(ERRCODE_SYSTEM_ERROR),

            // Compacting
            Error::NotInStore { .. } => plain(ERRCODE_UNDEFINED_OBJECT),
            Error::BrokenChain { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            Error::AlreadyCompacted { .. } => plain(ERRCODE_T_R_SERIALIZATION_FAILURE),
            Error::Expire(error) => Facts { hint: None, ..batch_facts(error) }.detail(
                "Batches that were removed before stay removed. The next expiry removes the others.",
            ),
            Error::CompactionTooLong { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint("Compact fewer batches at once, with the arguments \"first\" and \"last\"."),

            // Importing
            Error::NoBatch { known, .. } => plain(ERRCODE_UNDEFINED_OBJECT).hint(known_targets(known)),
            Error::NoFullBatch { target } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(copy_or_reset(target))
            }
            Error::MissingBatch { target, found, may_restart, .. } => {
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
            Error::Forked { target, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(start_again(target))
            }
            Error::StoreBehind { target, applied, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail(format!(
                    "Batch {applied} has been applied here, but the store does not hold it."
                ))
                .hint(start_again(target)),
            Error::OwnDatabase { .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint("Import in another database.")
            }
            Error::NoDestination { table, target, batch, is_full } => plain(ERRCODE_UNDEFINED_TABLE)
                .detail(format!("It is in batch {batch}."))
                .hint(if *is_full {
                    "Create it with what tx_ddl() returns at the source.".to_owned()
                } else {
                    // A new table lacks the rows that came before this batch.
                    format!(
                        "Create it with what tx_ddl() returns at the source. \
                         To have all its rows sent again, run at the source: SELECT tx_reset({}, {});",
                        literal(target),
                        table.literal()
                    )
                }),
            Error::Unprotectable { what, .. } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(format!("It is {what}."))
            }
            Error::WrongDestination { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Import into an ordinary or partitioned table."),
            Error::NoColumn { table, column, definition } => match definition {
                None => plain(ERRCODE_UNDEFINED_COLUMN).detail("Its type does not exist here either."),
                Some(definition) => {
                    plain(ERRCODE_UNDEFINED_COLUMN).run(alter(table, "ADD", column, definition))
                }
            },
            Error::CannotIgnore { columns, .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED)
                .detail(format!("They are {}.", columns.join(", ")))
                .hint("Import with new_columns => 'add', or export in format text."),
            Error::NoCollation { .. } | Error::NotMapped { .. } => plain(ERRCODE_UNDEFINED_OBJECT),
            Error::TooManyDeleted { deleted, left, .. } => plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
                .detail(format!(
                    "{deleted} rows would be deleted, and {left} would stay. Nothing was changed."
                ))
                .hint("If the deletion is intended, import with delete_limit => 100."),
            Error::Emptied { target, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail("PostgreSQL empties unlogged tables after a crash; or it was made unlogged since.")
                .hint(start_again(target)),
            Error::GeneratedColumn { table, column } => {
                plain(ERRCODE_GENERATED_ALWAYS).run(alter(table, "ALTER", column, "DROP EXPRESSION"))
            }
            Error::ColumnType { table, column, source_type, own } => plain(ERRCODE_DATATYPE_MISMATCH)
                .detail(format!("It is {source_type} at the source, and {own} here."))
                .run(alter(table, "ALTER", column, &format!("TYPE {source_type}"))),
            Error::NoEquality { .. } => plain(ERRCODE_UNDEFINED_FUNCTION),
            Error::Count { .. } => {
                plain(ERRCODE_DATA_CORRUPTED).detail("Nothing was changed.").hint(COPY_AGAIN)
            }
        }
    }
}

const COPY_AGAIN: &str = "Copy the batch again from a store in which it is undamaged.";

fn copy_or_reset(target: &str) -> String {
    format!(
        "Copy the batches to the store completely. \
         To start again with a full batch, run at the source: SELECT tx_reset({});",
        literal(target)
    )
}

fn start_again(target: &str) -> String {
    format!(
        "To start again from the latest full batch in the store, run: SELECT tx_reset({});",
        literal(target)
    )
}

/// The SQLSTATEs are those to which errcode_for_file_access maps errno (elog.c).
fn store_facts(error: &store::Error) -> Facts {
    match error {
        store::Error::NotFound { .. } => plain(ERRCODE_UNDEFINED_FILE)
            .hint("The directory must exist and belong to the operating-system user of the server."),
        store::Error::Exists { .. } => plain(ERRCODE_DUPLICATE_FILE),
        store::Error::Name { .. } => plain(ERRCODE_INVALID_NAME),
        store::Error::Unsupported { .. } | store::Error::Replaces { .. } => {
            plain(ERRCODE_FEATURE_NOT_SUPPORTED)
        }
        store::Error::Secret => plain(ERRCODE_INVALID_PARAMETER_VALUE).hint(
            "Credentials come from the environment, or from files, of the operating-system user of the server.",
        ),
        store::Error::Profile { .. } => plain(ERRCODE_CONFIG_FILE_ERROR),
        store::Error::Interrupted { .. } => plain(ERRCODE_QUERY_CANCELED),
        store::Error::Io { source, .. } => plain(match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ERRCODE_INSUFFICIENT_PRIVILEGE
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ERRCODE_DISK_FULL,
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => ERRCODE_WRONG_OBJECT_TYPE,
            _ => ERRCODE_IO_ERROR,
        }),
    }
}

fn batch_facts(error: &batch::Error) -> Facts {
    match error {
        batch::Error::Store(error) => {
            let not_found = matches!(error, store::Error::NotFound { .. });
            let hint = not_found.then(|| "Copy the files of the batch to the store completely.".to_owned());
            Facts { hint, ..store_facts(error) }
        }
        batch::Error::Manifest { .. } | batch::Error::Damaged { .. } => {
            plain(ERRCODE_DATA_CORRUPTED).hint(COPY_AGAIN)
        }
        batch::Error::FutureFormat { .. } => {
            plain(ERRCODE_FEATURE_NOT_SUPPORTED).hint("Upgrade pg_table_export here.")
        }
        batch::Error::Unmergeable { .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED),
        batch::Error::Number { .. } => plain(ERRCODE_PROGRAM_LIMIT_EXCEEDED).hint(
            "Use another name for the target, or remove the manifest with the highest number from the store.",
        ),
        batch::Error::Stream(_) => plain(ERRCODE_IO_ERROR),
    }
}
