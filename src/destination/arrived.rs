//! The queries that look for rows which are not in a table as statements have written them.
//!
//! Input: rows that were deleted, inserted or updated. Output: the key, as text, of one that is not as it
//! should be; `None` if all are.

use crate::destination::merge::{Merge, of, of_key};
use crate::error::Result;
use crate::pg::query;
use crate::pg::staged::Staged;
use crate::table::key;
use crate::table::shape::Column;

impl Merge<'_> {
    /// Returns the key of a row that has a null in it.
    pub(super) fn key_with_null(&self) -> Result<Option<String>> {
        let Some(is_without) = self.is_without_key() else { return Ok(None) };
        let (rows, key) = (self.shape.as_from_item(), self.key_text(|column, _| of_key("d", column)));
        self.first(&format!("SELECT pg_catalog.min({key}) FROM {rows} AS d WHERE {is_without}"), None)
    }

    /// Returns the key, as text, of a row with one of these keys, or of any row; `None` if there is none.
    pub(super) fn key_of_kept(&self, keys: Option<&Staged>) -> Result<Option<String>> {
        let rows = self.shape.as_from_item();
        let (fields, join) = match keys {
            Some(keys) => {
                let keys_in_order = self.order_by_key(&self.keys_as_s(keys));
                let join = format!("{keys_in_order} JOIN {rows} AS d ON {}", self.keys_same("s"));
                (self.key_text(|_, n| format!("s.c{n}")), join)
            }
            None => (self.key_text(|column, _| of_key("d", column)), format!("{rows} AS d")),
        };
        self.first(&format!("SELECT pg_catalog.min({fields}) FROM {join}"), keys)
    }

    /// Returns the key of a staged row that is not in the table as it is.
    pub(super) fn key_of_different(&self, from_item: &str, staged: &Staged) -> Result<Option<String>> {
        let sql = format!(
            "SELECT pg_catalog.min({fields}) FROM {staged} LEFT JOIN {rows} AS d ON {matches} \
              WHERE d.tableoid IS NULL OR {differs}",
            fields = self.key_text(|_, n| format!("s.c{n}")),
            staged = self.order_by_key(from_item),
            rows = self.shape.as_from_item(),
            matches = self.keys_match(),
            differs = self.differ(|_| true),
        );
        self.first(&sql, Some(staged))
    }

    /// Returns the key of a staged row, the value that was sent for a generated column, and that of the
    /// table, if they differ, and nothing else of the row does: then the expression is another one than at
    /// the source.
    pub(super) fn generated_otherwise(
        &self,
        generated: &Column,
        from_item: &str,
        staged: &Staged,
    ) -> Result<Option<[Option<String>; 3]>> {
        let n = self.columns.iter().position(|column| column.attnum == generated.attnum).unwrap_or(0) + 1;
        let shown = |value: &str| {
            format!("CASE WHEN pg_catalog.num_nulls({value}) = 0 THEN {} END", key::text(value))
        };
        let sql = format!(
            "SELECT pg_catalog.to_json(pg_catalog.min(ARRAY[{key}, {sent}, {here}])) \
               FROM {staged} JOIN {rows} AS d ON {matches} WHERE {differs} AND NOT {others_differ} \
             HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0",
            key = self.key_text(|_, n| format!("s.c{n}")),
            sent = shown(&format!("s.c{n}")),
            here = shown(&of("d", generated)),
            staged = self.order_by_key(from_item),
            rows = self.shape.as_from_item(),
            matches = self.keys_match(),
            differs = self.differ(|column| column.attnum == generated.attnum),
            others_differ = self.differ(|column| !column.is_generated),
        );
        let found = query::in_transaction_with(&sql, &[staged])?;
        Ok(found.first().map(|row| row.json(0)).transpose()?)
    }
}
