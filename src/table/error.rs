//! What a user's table is not, or does not allow.

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::error::{Facts, Report, TableName, plain};

/// How a missing column can be added.
#[derive(Debug)]
pub struct Addition {
    /// The type, as DDL writes it.
    pub type_name: String,
    /// The owner of the table, if only that role may run code of the type.
    pub role: Option<String>,
}

/// What is missing of a table, or of the rights of the caller on it.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("there is no table with OID {oid}")]
    NoTable { oid: u32 },
    #[error("must be owner of table \"{table}\"")]
    NotOwner { table: TableName },
    #[error("must be owner of extension \"pg_table_export\"")]
    NotOwnerOfDropped { oid: u32 },
    #[error("\"{table}\" cannot be tracked")]
    WrongKind { table: TableName, what: &'static str },
    #[error("table \"{table}\" is not tracked")]
    NotTracked { table: TableName },
    #[error("column \"{column}\" of table \"{table}\" does not exist here")]
    NoColumn { table: TableName, column: String, definition: Option<Addition> },
    #[error("permission denied for table \"{table}\"")]
    NoPrivilege { table: TableName, privilege: &'static str, role: String },
    #[error("row security would hide rows of table \"{table}\"")]
    RowSecurity { table: TableName, doing: &'static str },
}

impl Report for TableError {
    fn facts(&self) -> Facts {
        match self {
            TableError::NoTable { .. } => plain(ERRCODE_UNDEFINED_TABLE),
            TableError::NotOwner { .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE),
            TableError::NotOwnerOfDropped { oid } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE).detail(format!(
                "The table with OID {oid} has been dropped. \
                 What is recorded about it belongs to the owner of the extension."
            )),
            TableError::WrongKind { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Track a logged table of this database, ordinary or partitioned."),
            TableError::NotTracked { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .run(format!("SELECT tx_track({})", table.literal())),
            TableError::NoColumn { table, column, definition } => match definition {
                None => plain(ERRCODE_UNDEFINED_COLUMN).detail("Its type does not exist here either."),
                Some(Addition { type_name, role }) => {
                    let add = table.alter("ADD", column, type_name);
                    plain(ERRCODE_UNDEFINED_COLUMN).run(match role {
                        Some(role) => format!("SET ROLE {}; {add}; RESET ROLE", quote_identifier(role)),
                        None => add,
                    })
                }
            },
            TableError::NoPrivilege { table, privilege, role } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!("The caller needs {privilege} on it."))
                .run(table.grant(privilege, role)),
            TableError::RowSecurity { doing, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE).hint(format!(
                "{doing} as a role that row security does not apply to. \
                 It must not apply to the owner of the table either."
            )),
        }
    }
}
