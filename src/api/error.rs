//! The errors of a call, before it reaches a stage.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, plain};

/// What is refused about a call itself.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("argument \"{argument}\" must not be null")]
    NullArgument { argument: &'static str },
    #[error("permission denied for store \"{location}\"")]
    StoreNotAllowed { location: String, role: &'static str },
}

impl Report for CallError {
    fn facts(&self) -> Facts {
        match self {
            CallError::NullArgument { .. } => plain(ERRCODE_NULL_VALUE_NOT_ALLOWED),
            CallError::StoreNotAllowed { role, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!(
                    "Only roles with privileges of \"{role}\" may use a store other than pg_table_export.store."
                ))
                .hint(format!("Grant {role} to the caller, or leave out the argument \"store\".")),
        }
    }
}
