//! The errors of comparisons with a store.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, TableName, literal, plain};

/// What keeps tables from being compared with a store.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    #[error("store \"{store}\" does not hold batch {number} of target \"{target}\"")]
    NotHeld { target: String, number: u64, store: String },
    #[error("batch {number} of target \"{target}\" in store \"{store}\" is another one than is known here")]
    OtherBatch { target: String, number: u64, store: String },
    #[error("nothing of target \"{target}\" has been exported or imported here")]
    NothingYet { target: String },
    #[error("the next batch of target \"{target}\" is full, and nothing can be compared before")]
    NoPosition { target: String },
    #[error("{keys} rows of table \"{table}\" differ, more than a repair can hold in memory")]
    TooManyDiffer { table: TableName, keys: u64, megabytes: u64 },
    #[error("table \"{table}\" is not one of target \"{target}\" here")]
    NotOfTarget { table: TableName, target: String },
}

impl Report for ProofError {
    fn facts(&self) -> Facts {
        match self {
            ProofError::NotHeld { number, .. } => plain(ERRCODE_UNDEFINED_OBJECT)
                .detail(format!("The tables here are as of batch {number}."))
                .hint("Name the store that holds it, or copy the batches to this one completely."),
            ProofError::OtherBatch { .. } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint("Name the store that the batches here came from."),
            ProofError::NothingYet { target } => plain(ERRCODE_UNDEFINED_OBJECT).hint(format!(
                "At the source, run: SELECT * FROM tx_export({0}); at a destination: SELECT * FROM tx_import({0});",
                literal(target)
            )),
            ProofError::NoPosition { target } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .run(format!("SELECT * FROM tx_export({})", literal(target))),
            ProofError::TooManyDiffer { megabytes, .. } => {
                plain(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED).hint(format!(
                    "Repair again after: SET maintenance_work_mem = '{megabytes}MB'; To have all rows sent again \
                     instead, call tx_reset() for the table at the source."
                ))
            }
            ProofError::NotOfTarget { target, .. } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "Leave out the argument \"relation\" to see the tables of target \"{target}\"."
                ))
            }
        }
    }
}
