//! The errors of upkeep.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, plain};

/// What keeps batches from being compacted or removed.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    #[error("batch {number} of target \"{target}\" is not in store \"{store}\"")]
    NotInStore { target: String, number: u64, store: String },
    #[error("batch {number} of target \"{target}\" does not follow the one before it")]
    BrokenChain { target: String, number: u64 },
    #[error("the batches of target \"{target}\" up to batch {number} have been compacted meanwhile")]
    AlreadyCompacted { target: String, number: u64 },
    #[error(transparent)]
    Expire(batch::Error),
    #[error("compacting batches of target \"{target}\" has taken more than a day")]
    CompactionTooLong { target: String },
}

impl Report for UpkeepError {
    fn facts(&self) -> Facts {
        match self {
            UpkeepError::NotInStore { .. } => plain(ERRCODE_UNDEFINED_OBJECT),
            UpkeepError::BrokenChain { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            UpkeepError::AlreadyCompacted { .. } => plain(ERRCODE_T_R_SERIALIZATION_FAILURE),
            UpkeepError::Expire(error) => Facts { hint: None, ..error.facts() }
                .detail("Batches that were removed before stay removed. The next expiry removes the others."),
            UpkeepError::CompactionTooLong { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint("Compact fewer batches at once, with the arguments \"first\" and \"last\"."),
        }
    }
}
