//! What a user's table is not, or does not allow.

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::error::{Facts, Report, TableName, plain};
use crate::table::missing_type::MissingType;

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
    NotOwner { table: TableName, owner: String },
    #[error("must be owner of extension \"pg_table_export\"")]
    NotOwnerOfDropped { oid: u32 },
    #[error("\"{table}\" cannot be tracked")]
    WrongKind { table: TableName, what: &'static str },
    #[error("table \"{table}\" is not tracked")]
    NotTracked { table: TableName },
    #[error("column \"{column}\" of table \"{table}\" does not exist here")]
    NoColumn {
        table: TableName,
        column: String,
        definition: Option<Addition>,
        /// A column of the same type that is not sent, so that this one may have its name at the source.
        renamed: Option<String>,
    },
    #[error("type {} of column \"{column}\" of table \"{table}\" does not exist here", missing.name)]
    NoType { table: TableName, column: String, missing: MissingType },
    #[error("permission denied for table \"{table}\"")]
    NoPrivilege { table: TableName, privilege: &'static str, role: String },
    #[error("permission denied for schema \"{schema}\"")]
    SchemaClosedToOwner { table: TableName, schema: String, owner: String },
    #[error("row security would hide rows of table \"{table}\"")]
    RowSecurity {
        table: TableName,
        /// The role that they would be hidden from.
        role: String,
        is_owner: bool,
    },
}

impl Report for TableError {
    fn facts(&self) -> Facts {
        match self {
            TableError::NoTable { .. } => plain(ERRCODE_UNDEFINED_TABLE),
            TableError::NotOwner { owner, .. } => {
                plain(ERRCODE_INSUFFICIENT_PRIVILEGE).detail(format!("It belongs to role \"{owner}\"."))
            }
            TableError::NotOwnerOfDropped { oid } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE).detail(format!(
                "The table with OID {oid} has been dropped. \
                 What is recorded about it belongs to the owner of the extension."
            )),
            TableError::WrongKind { what, .. } => plain(ERRCODE_WRONG_OBJECT_TYPE)
                .detail(format!("It is {what}."))
                .hint("Track a logged table of this database, ordinary or partitioned."),
            TableError::NotTracked { table } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint(format!("To track it, run: SELECT tx_track({});", table.literal())),
            TableError::NoColumn { table, column, definition, renamed } => {
                no_column(table, column, definition.as_ref(), renamed.as_deref())
            }
            TableError::NoType { missing, .. } => plain(ERRCODE_UNDEFINED_OBJECT).hint(missing.to_string()),
            TableError::NoPrivilege { table, privilege, role } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!("The caller needs {privilege} on it."))
                .run(table.grant(privilege, role)),
            TableError::SchemaClosedToOwner { table, schema, owner } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!(
                    "The rows of table \"{table}\" are read and written as its owner, role \"{owner}\", \
                     who lacks USAGE on the schema."
                ))
                .run(format!("GRANT USAGE ON SCHEMA {} TO {}", quote_identifier(schema), quote_identifier(owner))),
            TableError::RowSecurity { table, role, is_owner: true, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!(
                    "They are read and written as its owner, role \"{role}\", to whom row security applies."
                ))
                .run(format!("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY", table.quoted())),
            TableError::RowSecurity { role, is_owner: false, .. } => plain(ERRCODE_INSUFFICIENT_PRIVILEGE)
                .detail(format!("It applies to role \"{role}\", who calls."))
                .hint(format!(
                    "Call the function as the owner of the table. \
                     To let role \"{role}\" see all rows of all tables, run as a superuser: ALTER ROLE {} BYPASSRLS;",
                    quote_identifier(role)
                )),
        }
    }
}

/// Says how a column comes to be here: by another name, or as a new one.
fn no_column(table: &TableName, column: &str, definition: Option<&Addition>, renamed: Option<&str>) -> Facts {
    let rename = renamed.map(|before| {
        let statement = table.alter("RENAME", before, &format!("TO {}", quote_identifier(column)));
        format!("If the source has renamed column \"{before}\", run: {statement};")
    });
    let add = definition.map(|Addition { type_name, role }| {
        let add = table.alter("ADD", column, type_name);
        match role {
            Some(role) => format!("SET ROLE {}; {add}; RESET ROLE", quote_identifier(role)),
            None => add,
        }
    });
    let facts = plain(ERRCODE_UNDEFINED_COLUMN);
    match (rename, add) {
        (Some(rename), Some(add)) => facts.hint(format!("{rename} Otherwise run: {add};")),
        (Some(rename), None) => facts.hint(rename),
        (None, Some(add)) => facts.run(add),
        (None, None) => facts,
    }
}
