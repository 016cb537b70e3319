//! The errors of the extension's own tables.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, TableName, plain};

/// What is not as the extension's own tables say, or is locked in them.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("target \"{target}\" is busy")]
    TargetBusy { target: String, purpose: String, pid: Option<i32> },
    #[error("the shadow of {} does not exist", shown(*id, table.as_ref()))]
    ShadowMissing {
        id: i32,
        /// None if it is gone as well.
        table: Option<TableName>,
    },
}

impl Report for CatalogError {
    fn facts(&self) -> Facts {
        match self {
            CatalogError::TargetBusy { purpose, pid, .. } => {
                let process = |pid| format!("The process with PID {pid} has an {purpose} of it under way.");
                Facts { detail: pid.map(process), ..plain(ERRCODE_LOCK_NOT_AVAILABLE) }
            }
            CatalogError::ShadowMissing { id, table } => {
                let facts = plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).detail(format!(
                    "Its tables are table_export.shadow_{id}_0 and table_export.shadow_{id}_1."
                ));
                match table {
                    Some(table) => facts.hint(format!(
                        "To have a new shadow, and the table sent in full, run: \
                         SELECT tx_untrack({0}); SELECT tx_track({0});",
                        table.literal()
                    )),
                    None => facts.hint(format!(
                        "As the owner of the extension, run: \
                         SELECT tx_untrack(relation) FROM table_export.tracked WHERE id = {id};"
                    )),
                }
            }
        }
    }
}

fn shown(id: i32, table: Option<&TableName>) -> String {
    table.map_or_else(|| format!("tracked table {id}"), |table| format!("table \"{table}\""))
}
