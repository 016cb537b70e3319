//! The key of a table: the columns that tell its rows apart.
//!
//! Input: a table, and which of its keys. Output: the key's columns, with what a query needs to compare them.
//! A key is its text, as COPY writes it. The index that finds its row may take other texts for equal.
//!
//! Invariant: an index that is meant is a valid unique btree index without a predicate and without
//! expressions.

use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{self, Row};
use crate::pg::table::Table;

/// One column of a key.
pub struct KeyColumn {
    /// pg_attribute.attnum in the table
    pub attnum: i16,
    /// pg_attribute.attname
    pub name: String,
    /// Whether the column is NOT NULL.
    pub not_null: bool,
    /// The type that the shadow keeps it in: without domain and modifier, so that any old value fits.
    pub shadow_type: String,
    /// `::"schema"."type"`: the type that the operators compare, or nothing if it is that of the column. A
    /// polymorphic operator takes both sides for one type only if neither is of a domain.
    cast: String,
    /// `OPERATOR(schema.=)`: the equality of the index's operator class, regardless of search_path.
    equality: Option<String>,
    /// `OPERATOR(schema.<)`: its order.
    less: Option<String>,
    /// ` COLLATE "schema"."name"`: the index's collation, or nothing for a type that has none.
    pub collate: String,
    /// Whether values that are equal have the same text.
    pub is_exact: bool,
    /// The index, its name quoted; `None` if there is none.
    index: Option<String>,
    /// Whether the index checks each row at once, or there is none.
    pub is_immediate: bool,
    /// Whether a FULL JOIN can be made by its equality.
    is_joinable: bool,
}

/// Which key of a table is meant.
pub enum Key<'a> {
    /// The primary key, or without one that of the replica identity.
    Primary,
    /// The unique index of that name.
    Index(&'a str),
    /// The unique index over these columns, given by number; they come in this order.
    Columns(&'a [i16]),
}

/// Returns the columns of a key; empty if there is no such index, or it is partial or over expressions.
pub fn key(table: Oid, key: &Key) -> Result<Vec<KeyColumn>> {
    let (index, columns) = match key {
        Key::Primary => (None, None),
        Key::Index(name) => (Some(*name), None),
        Key::Columns(attnums) => (None, Some(*attnums)),
    };
    look_up(table, index, columns, None)
}

/// Returns columns, given by number, as the unique index over them compares them. It must check each row at
/// once. Without such an index they are compared by the default operator classes of their types.
pub fn compared(table: &Table, attnums: &[i16]) -> Result<Vec<KeyColumn>> {
    let class = |&attnum| table.default_operator_class(attnum).to_u32().to_string();
    let classes = attnums.iter().map(class).collect::<Vec<_>>();
    look_up(table.oid(), None, Some(attnums), Some(&classes))
}

fn look_up(
    table: Oid,
    index: Option<&str>,
    columns: Option<&[i16]>,
    classes: Option<&[String]>,
) -> Result<Vec<KeyColumn>> {
    query::in_snapshot_by_kept_plan(include_str!("key.sql"), &[&table, &index, &columns, &classes])?
        .iter()
        .map(KeyColumn::from_row)
        .collect()
}

impl KeyColumn {
    fn from_row(row: &Row) -> Result<KeyColumn> {
        Ok(KeyColumn {
            attnum: row.get(0)?,
            name: row.get(1)?,
            not_null: row.flag(2),
            shadow_type: row.get(3)?,
            cast: row.optional(4)?.unwrap_or_default(),
            equality: row.optional(5)?,
            less: row.optional(6)?,
            collate: row.optional(7)?.unwrap_or_default(),
            is_exact: row.flag(8),
            index: row.optional(9)?,
            is_immediate: row.flag(10),
            is_joinable: row.flag(11),
        })
    }

    /// Returns the index that compares the column, its name quoted; `None` if there is none.
    pub fn index(&self) -> Option<&str> {
        self.index.as_deref()
    }

    /// The condition that two values, given as SQL, are equal: for the index, or for the type where there is
    /// none.
    pub fn equal(&self, a: &str, b: &str) -> String {
        let KeyColumn { cast, collate, .. } = self;
        match &self.equality {
            Some(equality) => format!("{a}{cast} {equality} {b}{cast}{collate}"),
            None => same_text(a, b),
        }
    }

    /// The condition that two values are the same key. The equality comes first: it can use the index.
    pub fn same(&self, a: &str, b: &str) -> String {
        match &self.equality {
            Some(_) if !self.is_exact => format!("{} AND {}", self.equal(a, b), same_text(a, b)),
            _ => self.equal(a, b),
        }
    }

    /// The condition that two values find one row: they are equal for the index, or the same key if there is
    /// none.
    pub fn matches(&self, a: &str, b: &str) -> String {
        if self.index.is_some() { self.equal(a, b) } else { self.same(a, b) }
    }

    /// The condition that two values find one row in a FULL JOIN. PostgreSQL makes one only by an equality
    /// that can be merged or hashed, as that of text.
    pub fn matches_in_full_join(&self, a: &str, b: &str) -> String {
        match self.is_joinable {
            true => self.matches(a, b),
            false => format!("{} AND {}", self.equal(a, b), same_text(a, b)),
        }
    }

    /// The item of ORDER BY for a value, in the order of the index; `None` if the type has none.
    pub fn in_order(&self, value: &str) -> Option<String> {
        let less = self.less.as_ref()?;
        Some(format!("{value}{}{} USING {less}", self.cast, self.collate))
    }
}

/// The text of a value, to be compared by its bytes. A cast to text would be another one: it drops the blanks
/// of bpchar.
pub fn text(value: &str) -> String {
    format!("pg_catalog.concat({value}) COLLATE pg_catalog.\"C\"")
}

fn same_text(a: &str, b: &str) -> String {
    format!("{} OPERATOR(pg_catalog.=) {}", text(a), text(b))
}

/// Returns the names of the indexes of a table that [`Key::Index`] can name, over NOT NULL columns alone.
pub fn usable_indexes(table: Oid) -> Result<Vec<String>> {
    let rows = query::in_snapshot(include_str!("usable_indexes.sql"), &[&table])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?)
}

/// Says whether no two rows of a table can have one key, given by the names of its columns.
pub fn is_unique(table: Oid, key: &[String]) -> Result<bool> {
    let rows = query::in_snapshot(include_str!("key_is_unique.sql"), &[&table, &key])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}
