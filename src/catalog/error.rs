//! The errors of the extension's own tables.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, plain};

/// What is not as the extension's own tables say, or is locked in them.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("target \"{target}\" is busy")]
    TargetBusy { target: String, purpose: String, pid: Option<i32> },
    #[error("shadow {id} does not exist")]
    ShadowMissing { id: i32 },
}

impl Report for CatalogError {
    fn facts(&self) -> Facts {
        match self {
            CatalogError::TargetBusy { purpose, pid, .. } => {
                let process = |pid| format!("The process with PID {pid} has an {purpose} of it under way.");
                Facts { detail: pid.map(process), ..plain(ERRCODE_LOCK_NOT_AVAILABLE) }
            }
            CatalogError::ShadowMissing { id } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "Track that table again after: \
                     SELECT tx_untrack(relation) FROM table_export.tracked WHERE id = {id};"
                ))
            }
        }
    }
}
