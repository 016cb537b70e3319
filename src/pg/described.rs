//! What a relation and its columns are, by PostgreSQL's caches and without SQL: exports ask it of each table.
//!
//! The caches have the newest state of the catalog. Names of types are qualified unless they are in the
//! search path, which is pinned.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

use crate::pg::compat;
use crate::pg::encoding::from_server;
use crate::pg::error::Error;
use crate::pg::query::quote_qualified;

/// What a relation is.
pub struct Described {
    /// pg_namespace.nspname
    pub schema: String,
    /// pg_class.relname
    pub name: String,
    /// pg_class.relkind
    pub kind: char,
    /// pg_class.relpersistence
    pub persistence: char,
    /// pg_class.relispartition
    pub is_partition: bool,
    /// The columns that exist, in order.
    pub columns: Vec<DescribedColumn>,
}

/// What a column is.
pub struct DescribedColumn {
    /// pg_attribute.attnum
    pub attnum: i16,
    /// pg_attribute.attname
    pub name: String,
    /// pg_attribute.atttypid
    pub type_oid: Oid,
    /// The type without its modifier.
    pub type_name: String,
    /// pg_attribute.atttypmod
    pub typmod: i32,
    /// The type with its modifier.
    pub type_with_modifier: String,
    /// The collation, quoted and qualified, if it differs from that of the type.
    pub collation: Option<String>,
    /// pg_attribute.attnotnull
    pub not_null: bool,
    /// It is GENERATED ALWAYS AS (expression).
    pub is_generated: bool,
}

/// Describes a relation; `None` if it does not exist.
pub fn describe(relation: Oid) -> Result<Option<Described>, Error> {
    // SAFETY: null if there is no such relation; otherwise it stays until it is closed, and its row and its
    // descriptor with it (relcache.c). Both are copied before another look-up can bring news.
    let (class, attributes) = unsafe {
        pg_sys::AcceptInvalidationMessages();
        let relation = pg_sys::RelationIdGetRelation(relation);
        if relation.is_null() {
            return Ok(None);
        }
        let descriptor = &*(*relation).rd_att;
        let attributes = (0..descriptor.natts as usize).map(|column| *compat::attribute(descriptor, column));
        let found = (*(*relation).rd_rel, attributes.collect::<Vec<_>>());
        pg_sys::RelationClose(relation);
        found
    };
    let columns = attributes.iter().filter(|attribute| !attribute.attisdropped);
    Ok(Some(Described {
        schema: namespace_name(class.relnamespace)?,
        name: name(&class.relname)?,
        kind: char::from(class.relkind as u8),
        persistence: char::from(class.relpersistence as u8),
        is_partition: class.relispartition,
        columns: columns.map(column).collect::<Result<_, _>>()?,
    }))
}

fn column(attribute: &pg_sys::FormData_pg_attribute) -> Result<DescribedColumn, Error> {
    let (type_oid, typmod) = (attribute.atttypid, attribute.atttypmod);
    // SAFETY: the oid of a type; 0 if it has no collation (lsyscache.c).
    let usual = unsafe { pg_sys::get_typcollation(type_oid) };
    let differs = attribute.attcollation != usual && attribute.attcollation != Oid::INVALID;
    Ok(DescribedColumn {
        attnum: attribute.attnum,
        name: name(&attribute.attname)?,
        type_oid,
        type_name: type_name(type_oid, None)?,
        type_with_modifier: type_name(type_oid, Some(typmod))?,
        typmod,
        collation: differs.then(|| collation_name(attribute.attcollation)).transpose()?.flatten(),
        not_null: attribute.attnotnull,
        is_generated: attribute.attgenerated != 0,
    })
}

fn name(name: &pg_sys::NameData) -> Result<String, Error> {
    // SAFETY: a C string within the name.
    from_server(unsafe { CStr::from_ptr(name.data.as_ptr()) })
}

/// Returns a type as format_type of SQL does; the modifier of one that has none is -1.
fn type_name(type_oid: Oid, typmod: Option<i32>) -> Result<String, Error> {
    let given = if typmod.is_some() { pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN } else { 0 };
    let flags = (pg_sys::FORMAT_TYPE_ALLOW_INVALID | given) as pg_sys::bits16;
    // SAFETY: any oid; a palloc'd string (format_type.c).
    from_server(unsafe {
        CStr::from_ptr(pg_sys::format_type_extended(type_oid, typmod.unwrap_or(-1), flags))
    })
}

fn namespace_name(namespace: Oid) -> Result<String, Error> {
    // SAFETY: any oid; a palloc'd string, or null if there is no such schema (lsyscache.c).
    let name = unsafe { pg_sys::get_namespace_name(namespace) };
    // SAFETY: not null, so a C string.
    if name.is_null() { Ok(String::new()) } else { from_server(unsafe { CStr::from_ptr(name) }) }
}

fn collation_name(collation: Oid) -> Result<Option<String>, Error> {
    // SAFETY: a look-up in the system cache, released again; the struct is read while it is pinned.
    let (schema, name) = unsafe {
        let cache = pg_sys::SysCacheIdentifier::COLLOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(collation));
        if tuple.is_null() {
            return Ok(None);
        }
        let row = *pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_collation>();
        pg_sys::ReleaseSysCache(tuple);
        (row.collnamespace, row.collname)
    };
    Ok(Some(quote_qualified(&namespace_name(schema)?, &self::name(&name)?)))
}
