//! What a type of the user is made of, down to types that are part of PostgreSQL.
//!
//! Input: a type and its modifier. Output: its definition, as a manifest has it. Two databases whose
//! definitions are equal read a text as the same value.

use batch::{Attribute, Definition, Type};

use crate::pg::query::{self, Row};
use crate::pg::{self, Oid};

/// Says whether a type is part of PostgreSQL: objects of users begin at FirstNormalObjectId (transam.h).
pub fn is_built_in(type_oid: Oid) -> bool {
    type_oid.to_u32() < 16384
}

/// Returns what a type is made of; `None` for a base type, and for those that are part of PostgreSQL. A type
/// is never part of itself, so this ends (heap.c, CheckAttributeType).
pub fn of(type_oid: Oid, typmod: i32) -> Result<Option<Definition>, pg::Error> {
    if is_built_in(type_oid) {
        return Ok(None);
    }
    let parts = query::in_snapshot_by_kept_plan(include_str!("definition.sql"), &[&type_oid, &typmod])?;
    let Some(first) = parts.first() else { return Ok(None) };
    let kind: String = first.get(0)?;
    if kind == "composite" {
        return Ok(Some(Definition::Composite(parts.iter().map(attribute).collect::<Result<_, _>>()?)));
    }
    if kind == "enum" {
        return Ok(Some(Definition::Enum));
    }
    let part = Box::new(part(first)?);
    Ok(Some(match kind.as_str() {
        "domain" => Definition::Domain(part),
        "array" => Definition::Array(part),
        "range" => Definition::Range(part),
        _ => Definition::Multirange(part),
    }))
}

fn part(row: &Row) -> Result<Type, pg::Error> {
    let typmod = row.get(5)?;
    Ok(Type { name: row.get(4)?, typmod, definition: of(Oid::from(row.get::<u32>(3)?), typmod)? })
}

fn attribute(row: &Row) -> Result<Attribute, pg::Error> {
    let Type { name: type_name, typmod, definition } = part(row)?;
    Ok(Attribute { name: row.get(2)?, type_name, typmod, definition })
}
