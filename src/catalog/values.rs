//! Which columns of a copy have received the values of all rows.
//!
//! A column that is dropped and made again here, or that had another type for a while, has lost values of
//! rows that the source does not send again. PostgreSQL's catalog shows that afterwards: such a column has
//! another number, or ALTER TABLE has written it and given the table another storage. VACUUM FULL and CLUSTER
//! do not write columns, and what does not rewrite the table changes no values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg::Oid;
use crate::pg::query::{in_transaction, to_json};

/// Columns of a copy, as the catalog describes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Columns {
    /// The cluster and the OID of the table: a restore from a dump changes them, and the numbers below.
    cluster: String,
    table: String,
    /// pg_class.relfilenode, and those of the partitions.
    storage: String,
    /// The number of each column, and the transaction that has written its description.
    columns: BTreeMap<String, (i16, String)>,
}

impl Columns {
    /// Returns those of the columns whose unchanged rows may lack values, if all rows had them in `before`.
    pub fn stale_since(&self, before: &Columns) -> Vec<String> {
        if (&self.cluster, &self.table) != (&before.cluster, &before.table) {
            return Vec::new();
        }
        let is_rewritten = self.storage != before.storage;
        let is_stale = |(name, (number, written_by)): &(&String, &(i16, String))| {
            before.columns.get(*name).is_none_or(|(number_before, written_before)| {
                number != number_before || (is_rewritten && written_by != written_before)
            })
        };
        self.columns.iter().filter(is_stale).map(|(name, _)| name.clone()).collect()
    }
}

/// Returns those columns of a copy that have these names, as they are, and what was remembered of them, if
/// anything was. `None` if the table is no copy.
pub fn columns_of_copy(relation: Oid, names: &[&str]) -> Result<Option<(Columns, Option<Columns>)>> {
    let rows = in_transaction(include_str!("columns_of_copy.sql"), &[&relation])?;
    let Some(row) = rows.first() else { return Ok(None) };
    let mut columns: Columns = row.json(0)?;
    columns.columns.retain(|name, _| names.contains(&name.as_str()));
    Ok(Some((columns, row.json(1)?)))
}

/// Remembers the columns of a copy, and those that are stale, beside those that have been. After a full part
/// none is.
pub fn remember_columns(relation: Oid, columns: &Columns, stale: &[String], is_full: bool) -> Result<()> {
    let sql = "UPDATE table_export.copy
                  SET columns = $2::jsonb,
                      stale_columns = (SELECT array_agg(name ORDER BY name)
                                         FROM (SELECT unnest(stale_columns) WHERE NOT $4
                                                UNION
                                               SELECT jsonb_array_elements_text($3::jsonb)) AS s (name))
                WHERE relation = $1::regclass";
    in_transaction(sql, &[&relation, &to_json(columns)?, &to_json(stale)?, &is_full])?;
    Ok(())
}
