//! Tables that the caller must own, and their locks; and the error for a table that is not tracked.

use crate::error::Result;
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, relatives};
use crate::table::error::TableError;
use crate::table::shape::Shape;

/// Returns the error for a relation that is not tracked, cannot be, or does not exist.
pub fn not_tracked(relation: Oid, shape: Option<&Shape>) -> TableError {
    let Some(shape) = shape else { return TableError::NoTable { oid: relation.to_u32() } };
    let table = shape.name_for_errors();
    match shape.not_a_table() {
        Some(what) => TableError::WrongKind { table, what },
        None => TableError::NotTracked { table },
    }
}

/// Returns the error for a table that the caller does not own. What is recorded about a table that has been
/// dropped belongs to the owner of the extension: its own owner is not known any more.
pub fn not_owner(relation: Oid) -> Result<TableError> {
    let table = Table::open(relation, Lock::Read);
    let shape = Shape::of(relation)?;
    Ok(match table.zip(shape) {
        Some((table, shape)) => {
            TableError::NotOwner { table: shape.name_for_errors(), owner: table.owner_name()? }
        }
        None => TableError::NotOwnerOfDropped { oid: relation.to_u32() },
    })
}

/// Opens a table that the caller must own; `None` if it has been dropped, and the caller owns the extension.
pub fn open_own(relation: Oid, caller: &Caller) -> Result<Option<Table>> {
    let table = Table::open(relation, Lock::Read);
    let owns = table.as_ref().map_or_else(|| caller.is_extension_owner(), |table| caller.owns(table));
    if owns { Ok(table) } else { Err(not_owner(relation)?.into()) }
}

/// Says whether the caller owns a table, without a lock.
pub fn owns(table: Oid, caller: &Caller) -> bool {
    relatives::facts(table).is_some_and(|facts| caller.has_rights_of(facts.owner))
}

/// Locks a table if the caller owns it; `None` if it does not exist. A caller who does not own it gets an
/// error before the lock is taken, because such a caller must not make writers wait. No other lock is taken
/// before: it would have to be raised, which others can be in the way of.
pub fn lock_own(relation: Oid, lock: Lock, caller: &Caller) -> Result<Option<Table>> {
    if relatives::facts(relation).is_some() && !owns(relation, caller) {
        return Err(not_owner(relation)?.into());
    }
    let table = Table::open(relation, lock);
    // Its owner may have changed meanwhile.
    if table.as_ref().is_some_and(|table| !caller.owns(table)) {
        return Err(not_owner(relation)?.into());
    }
    Ok(table)
}
