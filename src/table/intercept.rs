//! What may change or drop the rows that an import writes: triggers and rules that fire even then.
//!
//! Input: a table. Output: the triggers and rules of it and of its partitions.

use crate::pg::{self, Oid, query};

/// A trigger or a rule that fires when an import writes.
#[derive(Clone, Debug)]
pub struct Interceptor {
    /// What it is, its name and its table, for errors.
    pub shown: String,
    /// The statement that disables it.
    pub disable: String,
    /// Whether it may fire at the commit only.
    pub is_deferrable: bool,
}

/// Looks them up for a table.
pub fn interceptors(table: Oid) -> Result<Vec<Interceptor>, pg::Error> {
    let rows = query::in_transaction(include_str!("intercept.sql"), &[&table])?;
    let interceptor = |row: &query::Row| {
        Ok(Interceptor { shown: row.get(0)?, disable: row.get(1)?, is_deferrable: row.flag(2) })
    };
    rows.iter().map(interceptor).collect()
}
