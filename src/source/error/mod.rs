//! The errors of the source.

mod restrict;

use std::fmt;

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::error::{Facts, Report, TableName, literal, name_store, plain};
pub use restrict::{RestrictError, UnfitView};

/// A partition whose rows can change without a trigger.
#[derive(Debug)]
pub struct UnfitPartition {
    pub name: TableName,
    pub what: &'static str,
}

impl fmt::Display for UnfitPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Its partition \"{}\" is {}.", self.name, self.what)
    }
}

/// What keeps a table from being tracked, or a tracked one from being exported.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    #[error("must be owner of extension pg_table_export")]
    NotExtensionOwner,
    #[error("must be owner of table \"{member}\"")]
    NotOwnerOfMember {
        member: TableName,
        owner: String,
        table: TableName,
        /// The owner of the table.
        of_table: String,
    },
    #[error("table \"{table}\" cannot be exported any more")]
    NoLongerTrackable { table: TableName, what: &'static str },
    #[error("table \"{table}\" cannot be exported any more")]
    GotUnfitPartition { table: TableName, partition: UnfitPartition },
    #[error("\"{table}\" cannot be tracked")]
    UnfitPartition { table: TableName, partition: UnfitPartition },
    #[error("\"{table}\" is not a table")]
    NotATable { table: TableName },
    #[error("table \"{table}\" has no key to track it by")]
    NoKey {
        table: TableName,
        /// The index that the caller has named.
        index: Option<String>,
        /// Those that would do.
        usable: Vec<String>,
    },
    #[error("column \"{column}\" of the key of table \"{table}\" is not NOT NULL")]
    NullableKey { table: TableName, column: String },
    #[error("table \"{table}\" is tracked by another key")]
    OtherKey { table: TableName },
    #[error("the key of table \"{table}\" has changed since it was tracked")]
    KeyChanged {
        table: TableName,
        /// The columns of the key, quoted, if the table has no primary key.
        missing_key: Option<Vec<String>>,
    },
    #[error("\"{key}\" is no key of table \"{table}\"")]
    NotAKey { table: TableName, key: String },
    #[error("the triggers that track table \"{table}\" are missing or disabled")]
    TriggersMissing { table: TableName, on_members: bool },
    #[error("the triggers that track table \"{table}\" are not ENABLE ALWAYS")]
    TriggersNotAlways {
        table: TableName,
        /// What makes them that.
        statements: Vec<String>,
    },
    #[error("the shadow of table \"{table}\" has been altered")]
    ShadowAltered { table: TableName, id: i32, difference: String },
    #[error("table \"{table}\" has another owner than when it was tracked")]
    OwnerChanged { table: TableName },
    #[error("relation {relation} is in use")]
    InUse { relation: u32 },
}

impl Report for TrackError {
    fn facts(&self) -> Facts {
        match self {
            TrackError::InUse { .. } => plain(ERRCODE_OBJECT_IN_USE),
            TrackError::NotExtensionOwner => plain(ERRCODE_INSUFFICIENT_PRIVILEGE),
            TrackError::NotOwnerOfMember { owner, table, of_table, .. } => all_owners(owner, table, of_table),
            TrackError::NotAKey { .. } => plain(ERRCODE_INVALID_PARAMETER_VALUE).hint(
                "Write a key like a row of its columns, as tx_verify() shows it: \
                 ARRAY['(7)'] or ARRAY['(7,\"a b\")'].",
            ),
            TrackError::NoLongerTrackable { table, what } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(format!("It is {what}.")).hint(undo_or_untrack(table))
            }
            TrackError::GotUnfitPartition { table, partition } => {
                plain(ERRCODE_WRONG_OBJECT_TYPE).detail(partition.to_string()).hint(undo_or_untrack(table))
            }
            TrackError::UnfitPartition { partition, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(partition.to_string())
                .hint("Track the other partitions, each by itself."),
            TrackError::NotATable { .. } => plain(ERRCODE_WRONG_OBJECT_TYPE),
            TrackError::NoKey { table, index, usable } => no_key(table, index.as_deref(), usable),
            TrackError::NullableKey { table, column } => {
                plain(ERRCODE_INVALID_TABLE_DEFINITION).run(table.alter("ALTER", column, "SET NOT NULL"))
            }
            TrackError::OtherKey { table }
            | TrackError::KeyChanged { table, missing_key: None }
            | TrackError::TriggersMissing { table, on_members: false } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(track_again(table))
            }
            TrackError::TriggersMissing { table, on_members: true } => give_triggers(table),
            TrackError::KeyChanged { table, missing_key: Some(columns) } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail("It has no primary key.")
                    .hint(add_key(table, columns))
            }
            TrackError::TriggersNotAlways { statements, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(
                        "Enabled otherwise, they miss what is written under another value of \
                         session_replication_role. They may have been disabled meanwhile.",
                    )
                    .hint(format!(
                        "The next export sends the table in full after you have run: {}",
                        statements.join(" ")
                    ))
            }
            TrackError::ShadowAltered { table, id, difference } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!("Shadow {id} {difference}."))
                    .hint(format!("Undo that. {}", track_again(table)))
            }
            TrackError::OwnerChanged { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(
                format!("To let the new owner read the shadow, run: SELECT tx_track({});", table.literal()),
            ),
        }
    }
}

fn all_owners(owner: &str, table: &TableName, of_table: &str) -> Facts {
    plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
        .detail(format!(
            "It belongs to role \"{owner}\". Statements on it can change rows of table \"{table}\", so it needs \
             triggers as well."
        ))
        .hint(format!(
            "Call it as a superuser, or as a role that has the rights of roles \"{of_table}\" and \"{owner}\"."
        ))
}

fn no_key(table: &TableName, index: Option<&str>, usable: &[String]) -> Facts {
    let what = match index {
        None => "It has no primary key, and its replica identity names no index.".to_owned(),
        Some(index) => {
            format!("\"{index}\" is not a unique index of it, or is partial, or over expressions.")
        }
    };
    let facts = plain(ERRCODE_INVALID_TABLE_DEFINITION).detail(what);
    let track = |index: &str| format!("SELECT tx_track({}, key_index => {index});", table.literal());
    match usable {
        [] => facts.hint(format!(
            "Add a primary key, or a unique index over NOT NULL columns: ALTER TABLE {} ADD PRIMARY KEY (…);",
            table.quoted()
        )),
        usable => {
            let statements = usable.iter().map(|index| track(&literal(index))).collect::<Vec<_>>();
            facts.hint(format!("To track it by a unique index, run: {}", statements.join(" or ")))
        }
    }
}

fn add_key(table: &TableName, columns: &[String]) -> String {
    let add = format!("ALTER TABLE {} ADD PRIMARY KEY", table.quoted());
    match columns {
        [] => format!("Run first: {add} (…); {}", track_again(table)),
        columns => {
            let columns = columns.join(", ");
            format!("If these columns still have the types that they had, run: {add} ({columns});")
        }
    }
}

fn give_triggers(table: &TableName) -> Facts {
    plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
        .detail("A partition, a parent or a subscription has come, and the triggers for it could not be created then.")
        .hint(format!("To have them created, and the next export send what it brought, run: SELECT tx_track({});", table.literal()))
}

fn track_again(table: &TableName) -> String {
    format!(
        "To have the next export send the table in full, run: \
         BEGIN; SELECT tx_untrack({0}); SELECT tx_track({0}); COMMIT;",
        table.literal()
    )
}

fn undo_or_untrack(table: &TableName) -> String {
    format!(
        "Undo that, and the next export sends the table in full. \
         To stop tracking it, run: SELECT tx_untrack({});",
        table.literal()
    )
}

/// What keeps a batch from being exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("{} disabled", event_triggers(names))]
    EventTriggersDisabled {
        names: Vec<String>,
        /// Those that would miss what DDL has changed meanwhile.
        targets: Vec<String>,
    },
    #[error("table \"{table}\" has got a partition or a child while it was exported")]
    RelativeCame { table: TableName },
    #[error("table \"{table}\" has several rows with one key")]
    SeveralRows { table: TableName, key: String },
    #[error("tx_export() cannot run in a transaction that has already written")]
    HasWritten,
    #[error("{function} cannot run in a transaction that has already written")]
    NotAlone { function: &'static str },
    #[error("no table is tracked in this database")]
    NothingTracked,
    #[error("all tables that target \"{target}\" would get have been dropped")]
    AllDropped { target: String },
    #[error("target \"{target}\" cannot begin with a baseline, because it has {last} batches already")]
    BaselineNotFirst { target: String, last: u64 },
}

impl Report for ExportError {
    fn facts(&self) -> Facts {
        match self {
            ExportError::SeveralRows { key, .. } => plain(ERRCODE_UNIQUE_VIOLATION)
                .detail(format!(
                    "One is ({key}). A DEFERRABLE constraint is not checked while \
                     session_replication_role is replica."
                ))
                .hint("Delete the surplus rows, and make the constraint NOT DEFERRABLE."),
            ExportError::EventTriggersDisabled { names, targets } => {
                let enable =
                    |name: &String| format!("ALTER EVENT TRIGGER {} ENABLE ALWAYS;", quote_identifier(name));
                let reset = |target: &String| format!("SELECT tx_reset({});", literal(target));
                let statements = names.iter().map(enable).chain(targets.iter().map(reset));
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "To have what DDL has changed meanwhile sent as well, run: {}",
                    statements.collect::<Vec<_>>().join(" ")
                ))
            }
            ExportError::HasWritten => plain(ERRCODE_ACTIVE_SQL_TRANSACTION).hint(
                "Commit first: what this transaction has written would be exported before it is committed.",
            ),
            ExportError::NotAlone { .. } => plain(ERRCODE_ACTIVE_SQL_TRANSACTION)
                .hint("Call it alone: its locks last until the transaction ends."),
            ExportError::NothingTracked | ExportError::AllDropped { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint("For each table that is to be exported, run: SELECT tx_track('…');"),
            ExportError::BaselineNotFirst { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail("Destinations that follow it would miss what has changed since its last batch.")
                .hint(
                    "Export under a name of its own, and put it for '…': SELECT * FROM tx_export('…', baseline \
                     => true);",
                ),
            ExportError::RelativeCame { .. } => {
                plain(ERRCODE_T_R_SERIALIZATION_FAILURE).hint("Export again.")
            }
        }
    }
}

fn event_triggers(names: &[String]) -> String {
    let quoted = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    if names.len() == 1 {
        format!("event trigger {quoted} is")
    } else {
        format!("event triggers {quoted} are")
    }
}

/// What keeps the chain of a target's batches from being continued: who has published them, and when.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error("target \"{target}\" has been taken over by a newer timeline")]
    NewerTimeline { target: String, number: u64, theirs: u32, ours: u32 },
    #[error("target \"{target}\" is in use by another database")]
    OtherDatabase { target: String, number: u64, publisher: String, here: String },
    #[error("store \"{store}\" does not hold batch {number} of target \"{target}\", its last one")]
    OtherStore { target: String, number: u64, store: String, last: String },
    #[error("batch {number} of target \"{target}\" is not known here and cannot be read")]
    UnreadableUnknown { target: String, number: u64, reason: batch::Error },
    #[error("batch {number} of target \"{target}\" is not one that this database has published")]
    NotPublished { target: String, number: u64 },
    #[error("batch {number} of target \"{target}\" has been published by another export")]
    NumberTaken { target: String, number: u64 },
}

impl Report for HistoryError {
    fn facts(&self) -> Facts {
        match self {
            HistoryError::NewerTimeline { target, number, theirs, ours } => {
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
            HistoryError::OtherDatabase { target, number, publisher, here } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!("Batch {number} was published by {publisher}."))
                    .hint(format!(
                        "If this database is a copy that must never publish, run: ALTER DATABASE {} \
                         SET pg_table_export.publish = off; To take the target over, run: SELECT tx_reset({});",
                        quote_identifier(here),
                        literal(target)
                    ))
            }
            HistoryError::OtherStore { target, last, .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail(format!(
                    "It was published to store \"{last}\". A destination cannot begin with the batch after it."
                ))
                .hint(format!(
                    "{} If this store is, copy the batches of the target to it. \
                     To begin again with a full batch, run: SELECT tx_reset({});",
                    name_store(last),
                    literal(target)
                )),
            HistoryError::UnreadableUnknown { target, reason, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!("{reason}."))
                    .hint(format!("To make the next export full, run: SELECT tx_reset({});", literal(target)))
            }
            HistoryError::NotPublished { target, .. } => plain(ERRCODE_UNDEFINED_OBJECT).hint(format!(
                "The view tx_batches lists them. To send everything, run: SELECT tx_reset({});",
                literal(target)
            )),
            HistoryError::NumberTaken { .. } => {
                plain(ERRCODE_T_R_SERIALIZATION_FAILURE).hint("Export again.")
            }
        }
    }
}
