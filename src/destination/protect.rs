//! Protection: a copy that nobody but an import writes to.

use crate::catalog;
use crate::error::Error;
use crate::pg::Oid;
use crate::pg::snapshot::Snapshot;
use crate::pg::user::Caller;
use crate::table::own;
use crate::table::shape::Shape;

/// Makes a table read-only for everyone but imports, by triggers that do not fire for what they write. Returns the table's
/// qualified name.
pub fn protect(relation: Oid, caller: &Caller) -> Result<String, Error> {
    change(relation, caller, catalog::create_protection)
}

/// Lets everyone write again.
pub fn unprotect(relation: Oid, caller: &Caller) -> Result<String, Error> {
    change(relation, caller, catalog::drop_protection)
}

fn change(relation: Oid, caller: &Caller, apply: fn(Oid) -> Result<(), Error>) -> Result<String, Error> {
    let missing = || Error::NoTable { oid: relation.to_u32() };
    // Closed, its lock kept: CREATE TRIGGER refuses a table that is open.
    drop(own::lock_own(relation, caller)?.ok_or_else(missing)?);
    let fresh = Snapshot::latest();
    let shape = Shape::of(relation)?.ok_or_else(missing)?;
    drop(fresh);
    if let Some(what) = shape.not_a_table() {
        return Err(Error::Unprotectable { table: shape.name_for_errors(), what });
    }
    apply(relation)?;
    Ok(shape.qualified())
}
