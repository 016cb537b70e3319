//! Which transactions wrote the rows of PostgreSQL's catalog about a table last, as the active snapshot sees
//! them: a witness compares that.

use pgrx::pg_sys::{self, Oid};

use crate::pg::scan::{Tuple, by_oid_in_snapshot};

/// pg_inherits, and its index over the child (pg_inherits.h).
const INHERITS: (u32, u32) = (2611, 2680);
/// pg_attrdef, and its index over the table (pg_attrdef.h).
const ATTRDEF: (u32, u32) = (2604, 2656);

/// A column, be it dropped.
pub struct Column {
    /// pg_attribute.attnum
    pub attnum: i16,
    /// The transaction that wrote its row.
    pub written_by: u32,
    /// The type; `None` if the column was dropped.
    pub type_oid: Option<Oid>,
    /// It is generated and not stored.
    pub is_virtual: bool,
    /// Its default or its expression, pg_attrdef.oid.
    pub expression: Option<Oid>,
}

/// Returns the columns of a table, in order.
pub fn columns(table: Oid) -> Vec<Column> {
    let mut has_expressions = false;
    let column = |row: &Tuple| {
        let attnum = row.smallint(pg_sys::Anum_pg_attribute_attnum as i32).filter(|&attnum| attnum > 0)?;
        has_expressions |= row.flag(pg_sys::Anum_pg_attribute_atthasdef as i32);
        let is_dropped = row.flag(pg_sys::Anum_pg_attribute_attisdropped as i32);
        Some(Column {
            attnum,
            written_by: row.written_by(),
            type_oid: row.oid(pg_sys::Anum_pg_attribute_atttypid as i32).filter(|_| !is_dropped),
            is_virtual: row.char(pg_sys::Anum_pg_attribute_attgenerated as i32) == Some('v'),
            expression: None,
        })
    };
    let (attribute, by_table) = (pg_sys::AttributeRelationId, pg_sys::AttributeRelidNumIndexId);
    let found = by_oid_in_snapshot(attribute, by_table.into(), 1, table, column);
    let mut columns = found.into_iter().flatten().collect::<Vec<_>>();
    if has_expressions {
        let expression = |row: &Tuple| (row.smallint(3), row.oid(1));
        for (attnum, oid) in by_oid_in_snapshot(ATTRDEF.0.into(), ATTRDEF.1.into(), 2, table, expression) {
            let columns = columns.iter_mut().filter(|column| Some(column.attnum) == attnum);
            columns.for_each(|column| column.expression = oid);
        }
    }
    columns.sort_by_key(|column| column.attnum);
    columns
}

/// Returns the parents of a table, in the order of their oids, each with the transaction that made it one.
pub fn parents(table: Oid) -> Vec<(Oid, u32)> {
    let parent = |row: &Tuple| Some((row.oid(2)?, row.written_by()));
    let found = by_oid_in_snapshot(INHERITS.0.into(), INHERITS.1.into(), 1, table, parent);
    let mut parents = found.into_iter().flatten().collect::<Vec<_>>();
    parents.sort_by_key(|(oid, _)| oid.to_u32());
    parents
}
