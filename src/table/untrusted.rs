//! Types that a role must not use only because a manifest names them: others decide what their values run.

use crate::pg::{self, Oid, query, user};

/// A type, or what it is made of, that belongs to a role which must not act as another one.
#[derive(Debug)]
pub struct Untrusted {
    /// The name, qualified unless it is in pg_catalog.
    pub type_name: String,
    pub owner: String,
}

/// Says whether anybody may run DDL with a type, a superuser too: no part of it belongs to a role that lacks
/// the rights of the owner of the extension. A HINT that is to be pasted names no other type.
pub fn is_for_anybody(type_oid: Oid) -> Result<bool, pg::Error> {
    Ok(part(type_oid, user::extension_owner()?)?.is_none())
}

/// Looks for a part of a type whose owner lacks the rights of `role`. Whoever writes a value of a domain runs
/// the functions that its owner put into its CHECK and DEFAULT, and PostgreSQL asks for no right but USAGE,
/// which PUBLIC has.
pub fn part(type_oid: Oid, role: Oid) -> Result<Option<Untrusted>, pg::Error> {
    let rows = query::in_snapshot(include_str!("untrusted.sql"), &[&type_oid, &role])?;
    let untrusted = |row: &query::Row| Ok(Untrusted { type_name: row.get(0)?, owner: row.get(1)? });
    rows.first().map(untrusted).transpose()
}
