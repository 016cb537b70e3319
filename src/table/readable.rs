//! What keeps rows from whoever reads or writes them: they are read and written as the owner of the table.

use crate::error::{Result, TableName};
use crate::pg::Oid;
use crate::pg::table::Table;
use crate::pg::user;
use crate::table::error::TableError;

/// Returns the error that the owner of a table may not use its schema.
pub fn closed_schema(table: &Table, name: &TableName) -> Result<Option<TableError>> {
    let Some(schema) = table.schema_closed_to_owner()? else { return Ok(None) };
    let owner = table.owner_name()?;
    Ok(Some(TableError::SchemaClosedToOwner { table: name.clone(), schema, owner }))
}

/// Returns the error that row security would hide rows from a role, or from the owner of the table.
pub fn hidden_rows(table: &Table, role: Oid, name: &TableName) -> Result<Option<TableError>> {
    let owner = table.owner();
    let Some(role) = [owner, role].into_iter().find(|&role| table.hides_rows_from(role)) else {
        return Ok(None);
    };
    let (is_owner, role) = (role == owner, user::name(role)?);
    Ok(Some(TableError::RowSecurity { table: name.clone(), role, is_owner }))
}
