//! Protection: a copy that only imports can write to.
//!
//! Input: a table that the caller owns. Its protection triggers are created or dropped.

use crate::catalog;
use crate::destination::error::ImportError;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::table::Lock;
use crate::pg::user::Caller;
use crate::pg::{message, snapshot, transaction};
use crate::table::error::TableError;
use crate::table::own;
use crate::table::shape::Shape;

/// Makes a table read-only except for imports, by triggers that do not fire for the writes of an import.
/// Returns the table's qualified name.
pub fn protect(relation: Oid, caller: &Caller) -> Result<String> {
    change(relation, caller, catalog::create_protection)
}

/// Makes a table writable again. Returns its qualified name.
pub fn unprotect(relation: Oid, caller: &Caller) -> Result<String> {
    change(relation, caller, catalog::drop_protection)
}

/// Protects the partitions that a DDL command has given to protected copies. The command does not fail if
/// that does: it belongs to somebody else.
pub fn follow_command() {
    if let Some(obstacle) = transaction::attempt(catalog::protect_new_partitions) {
        let why = obstacle.message;
        message::warning(format!("TRUNCATE is not refused by all partitions of protected copies: {why}"));
    }
}

fn change(relation: Oid, caller: &Caller, apply: fn(Oid) -> Result<()>) -> Result<String> {
    let missing = || TableError::NoTable { oid: relation.to_u32() };
    // Closed, its lock kept: CREATE TRIGGER refuses a table that is open.
    drop(own::lock_own(relation, Lock::Alter, caller)?.ok_or_else(missing)?);
    let shape = snapshot::latest(|| Shape::of(relation))?.ok_or_else(missing)?;
    if let Some(what) = shape.not_a_table() {
        return Err(ImportError::Unprotectable { table: shape.name_for_errors(), what }.into());
    }
    apply(relation)?;
    Ok(shape.qualified())
}
