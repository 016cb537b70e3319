//! The ranges of a part: rows that are gone although no id names them, because they went with a partition.
//!
//! Input: the staged ids of a part. Output: how many rows were deleted.
//!
//! Invariant: afterwards each row within the ranges has an id. The ids of the rows that the source has there
//! are among those of the part, so that they are merged as all others are.

use crate::destination::error::ValueError;
use crate::destination::intercepted::Arrival;
use crate::destination::merge::{Merge, of_key};
use crate::error::Result;
use crate::pg::staged::Staged;
use crate::pg::{query, report};
use crate::table::within::{Turned, turned, within};

/// Deletes the rows within the ranges of a part that no id names. It comes before all that compares records
/// with the table.
pub fn clear(merge: &Merge, ids: Option<&Staged>, arrival: &Arrival) -> Result<u64> {
    let Some(ids) = ids else { return Ok(0) };
    let Some(is_surplus) = is_surplus(merge, ids)? else { return Ok(0) };
    require_comparable(merge)?;
    let rows = merge.shape.as_from_item();
    let deleted = query::modify(&format!("DELETE FROM {rows} AS d WHERE {is_surplus}"), &[ids])?;
    arrival.deleted_in_ranges(|| {
        let key = merge.key_text(|column, _| of_key("d", column));
        merge.first(&format!("SELECT pg_catalog.min({key}) FROM {rows} AS d WHERE {is_surplus}"), Some(ids))
    })?;
    Ok(deleted)
}

/// Refuses values of a row here that are no values of the source's type: nothing tells whether they lie
/// within a range. PostgreSQL's own error would show them to everybody.
fn require_comparable(merge: &Merge) -> Result<()> {
    let part = merge.part;
    for Turned { column, type_name, value } in turned(&part.ranges, &part.columns, merge.shape, "d")? {
        let table = merge.shape.name_for_errors();
        let refusal = || {
            let (table, column) = (table.clone(), column.clone());
            Some(ValueError::NotComparable { table, column, type_name }.into())
        };
        let rows = merge.shape.as_from_item();
        let count = format!("SELECT pg_catalog.count({value}) FROM {rows} AS d");
        report::instead_of_data_error(refusal, || merge.first(&count, None))?;
    }
    Ok(())
}

/// The condition that a row `d` lies within the ranges, and no id names it; `None` without ranges.
fn is_surplus(merge: &Merge, ids: &Staged) -> Result<Option<String>> {
    let part = merge.part;
    let Some(lies_within) = within(&part.ranges, &part.columns, merge.shape, "d")? else { return Ok(None) };
    let (ids, same) = (merge.keys_as_s(ids), merge.keys_same("s"));
    Ok(Some(format!("{lies_within} AND NOT EXISTS (SELECT FROM {ids} WHERE {same})")))
}
