//! Which transactions wrote the rows of PostgreSQL's catalog about a table last, as the active snapshot sees
//! them: a witness compares that.

use pgrx::pg_sys::{self, Oid};

use crate::pg::error::Error;
use crate::pg::scan::{Finder, Tuple};

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

/// Looks at the rows about one table after the other.
pub struct Written {
    columns: Finder,
    expressions: Finder,
    parents: Finder,
}

impl Written {
    /// Begins to look, in the active snapshot.
    pub fn begin() -> Result<Written, Error> {
        let (attribute, by_table) = (pg_sys::AttributeRelationId, pg_sys::AttributeRelidNumIndexId);
        Ok(Written {
            columns: Finder::begin(attribute, by_table.into(), 1)?,
            expressions: Finder::begin(ATTRDEF.0.into(), ATTRDEF.1.into(), 2)?,
            parents: Finder::begin(INHERITS.0.into(), INHERITS.1.into(), 1)?,
        })
    }

    /// Returns the columns of a table, in order.
    pub fn columns(&mut self, table: Oid) -> Vec<Column> {
        let mut has_expressions = false;
        let column = |row: &Tuple| {
            let attnum =
                row.smallint(pg_sys::Anum_pg_attribute_attnum as i32).filter(|&attnum| attnum > 0)?;
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
        let mut columns = self.columns.find(table, column).into_iter().flatten().collect::<Vec<_>>();
        if has_expressions {
            for (attnum, oid) in self.expressions.find(table, |row| (row.smallint(3), row.oid(1))) {
                let columns = columns.iter_mut().filter(|column| Some(column.attnum) == attnum);
                columns.for_each(|column| column.expression = oid);
            }
        }
        columns.sort_by_key(|column| column.attnum);
        columns
    }

    /// Returns the parents of a table, in the order of their oids, each with the transaction that made it
    /// one.
    pub fn parents(&mut self, table: Oid) -> Vec<(Oid, u32)> {
        let parent = |row: &Tuple| Some((row.oid(2)?, row.written_by()));
        let mut parents = self.parents.find(table, parent).into_iter().flatten().collect::<Vec<_>>();
        parents.sort_by_key(|(oid, _)| oid.to_u32());
        parents
    }
}
