//! What statements have written, compared with the table afterwards: a trigger or a rule that fires even
//! during an import may have dropped or changed rows, and a generated column has the value that its
//! expression makes here.
//!
//! Input: rows that were deleted, inserted or updated. Output: an error if one is not in the table as it was
//! sent. Only the rows of the part are compared: what a trigger does to other rows is not found.

use crate::destination::error::{GeneratedValue, ValueError};
use crate::destination::merge::Merge;
use crate::destination::retyped::quoted;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::staged::Staged;
use crate::table::intercept::Interceptor;
use crate::table::shape::{self, Shape};

/// The checks of a part. They do nothing if no trigger and no rule fires, and no column is generated.
pub struct Arrival<'a> {
    pub interceptors: &'a [Interceptor],
    pub table: Oid,
    pub shape: &'a Shape,
    /// The number of the batch.
    pub number: u64,
    /// Whether the caller may read the table, and errors may name its rows.
    pub shows_rows: bool,
}

/// Refuses triggers that may fire at the commit: no check could follow. They would also have the rights of
/// the caller then, not those of the owner of the table.
pub fn refuse_deferrable(interceptors: &[Interceptor], shape: &Shape) -> Result<()> {
    let deferrable = interceptors.iter().filter(|one| one.is_deferrable).collect::<Vec<_>>();
    if deferrable.is_empty() {
        return Ok(());
    }
    Err(ValueError::Deferrable {
        table: shape.name_for_errors(),
        triggers: list(&deferrable, |one| &one.shown, ", "),
        disable: list(&deferrable, |one| &one.disable, "; "),
    }
    .into())
}

impl Arrival<'_> {
    /// Requires that rows with these keys are gone; without keys, all rows.
    pub fn deleted(&self, merge: &Merge, keys: Option<&Staged>) -> Result<()> {
        if self.interceptors.is_empty() || keys.is_some_and(|keys| keys.rows() == 0) {
            return Ok(());
        }
        self.require_none(merge.key_of_kept(keys)?, "was deleted, and is still there")
    }

    /// Requires that rows with a null in their key are gone.
    pub fn deleted_without_key(&self, merge: &Merge) -> Result<()> {
        if self.interceptors.is_empty() {
            return Ok(());
        }
        self.require_none(merge.key_with_null()?, "was deleted, and is still there")
    }

    /// Requires that the table has these rows. The FROM item `s` names their fields.
    pub fn written(&self, merge: &Merge, from_item: &str, rows: &Staged) -> Result<()> {
        if rows.rows() == 0 {
            return Ok(());
        }
        self.generated(merge, from_item, rows)?;
        if self.interceptors.is_empty() {
            return Ok(());
        }
        self.require_none(
            merge.key_of_different(from_item, rows)?,
            "was written, and is missing or has other values",
        )
    }

    /// Requires that generated columns have the values that were sent.
    fn generated(&self, merge: &Merge, from_item: &str, rows: &Staged) -> Result<()> {
        for column in merge.generated() {
            if let Some([key, sent, here]) = merge.generated_otherwise(column, from_item, rows)? {
                let (sent, here) = (quoted(sent.as_deref()), quoted(here.as_deref()));
                let row = GeneratedValue { key: key.unwrap_or_default(), sent, here };
                return Err(ValueError::Generated {
                    table: self.shape.name_for_errors(),
                    column: column.name.clone(),
                    expression: shape::expression(self.table, column.attnum)?,
                    row: self.shows_rows.then_some(row),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Requires that no row is left within the ranges of a part whose key, as text, `left` returns.
    pub fn deleted_in_ranges(&self, left: impl FnOnce() -> Result<Option<String>>) -> Result<()> {
        if self.interceptors.is_empty() {
            return Ok(());
        }
        self.require_none(left()?, "was deleted, and is still there")
    }

    fn require_none(&self, key: Option<String>, what: &'static str) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        let all = self.interceptors.iter().collect::<Vec<_>>();
        Err(ValueError::Intercepted {
            table: self.shape.name_for_errors(),
            number: self.number,
            key: self.shows_rows.then_some(key),
            what,
            by: list(&all, |one| &one.shown, ", "),
            disable: list(&all, |one| &one.disable, "; "),
        }
        .into())
    }
}

fn list(interceptors: &[&Interceptor], field: fn(&Interceptor) -> &str, separator: &str) -> String {
    interceptors.iter().map(|one| field(one)).collect::<Vec<_>>().join(separator)
}
