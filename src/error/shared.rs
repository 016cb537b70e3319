//! The errors that several stages raise.

use std::borrow::Cow;

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use super::{Facts, Report, literal, plain};

#[derive(Debug, thiserror::Error)]
pub enum Shared {
    #[error("invalid value for argument \"{argument}\": \"{value}\"")]
    Argument { argument: &'static str, value: String, allowed: Cow<'static, str> },
    #[error("target \"{target}\" does not exist")]
    UnknownTarget { target: String, known: Vec<String> },
    #[error("store \"{store}\" holds no batch of target \"{target}\"")]
    NoBatch { target: String, store: String, known: Vec<String> },
    #[error("target \"{target}\" has no full batch to start from")]
    NoFullBatch { target: String },
    #[error("database \"{here}\" must not publish batches")]
    NoPublisher { here: String },
    #[error("the lock table has no room for {by} of target \"{target}\"")]
    TooManyLocks { by: &'static str, target: String, held: i64, room: i64, setting: i64 },
}

impl Shared {
    /// Says that a store holds no batch of a target, and of which it does.
    pub fn no_batch(target: &str, store: &dyn store::Store) -> Shared {
        let mut known = batch::reader::targets(store).unwrap_or_default();
        // An export that has failed leaves its folder.
        known.retain(|known| known != target);
        Shared::NoBatch { target: target.to_owned(), store: store.url(), known }
    }
}

impl Report for Shared {
    fn facts(&self) -> Facts {
        match self {
            Shared::Argument { allowed, .. } => {
                plain(ERRCODE_INVALID_PARAMETER_VALUE).hint(format!("Allowed: {allowed}."))
            }
            Shared::UnknownTarget { known, .. } | Shared::NoBatch { known, .. } => {
                plain(ERRCODE_UNDEFINED_OBJECT).hint(known_targets(known))
            }
            Shared::NoFullBatch { target } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(copy_or_reset(target))
            }
            Shared::NoPublisher { here } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .detail(
                    "The setting pg_table_export.publish is off, as in a copy of a database that publishes.",
                )
                .hint(format!(
                    "If it is no such copy, run: ALTER DATABASE {} RESET pg_table_export.publish;",
                    quote_identifier(here)
                )),
            Shared::TooManyLocks { held, room, setting, .. } => plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
                .detail(format!(
                    "It locks {held} tables and indexes, those of the catalogs among them; there is room for \
                     {room}."
                ))
                .hint(format!(
                    "Restart the server after you have run: \
                     ALTER SYSTEM SET max_locks_per_transaction = {setting};"
                )),
        }
    }
}

/// Lists the targets that there are.
fn known_targets(known: &[String]) -> String {
    if known.is_empty() {
        return "There is no target yet.".into();
    }
    let names = known.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
    format!("Targets: {}.", names.join(", "))
}

/// Says how calls that name no store find the one that is meant.
pub fn name_store(store: &str) -> String {
    format!(
        "If store \"{store}\" is meant, name it, or run: LOAD 'pg_table_export'; \
         ALTER SYSTEM SET pg_table_export.store = {}; SELECT pg_reload_conf();",
        literal(store)
    )
}

/// The HINT for a chain of batches that is incomplete in the store.
pub fn copy_or_reset(target: &str) -> String {
    format!(
        "Copy the batches to the store completely. \
         To start again with a full batch, run at the source: SELECT tx_reset({});",
        literal(target)
    )
}
