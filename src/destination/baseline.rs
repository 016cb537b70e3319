//! Adopting: a table here that has the rows already becomes a copy by the baseline that its target begins
//! with.
//!
//! Input: a baseline of a table, and the table here. The table may become the copy, or the import is refused.
//!
//! Invariant: a table is adopted only if the caller says so: its rows are those of the source at the instant
//! of the baseline, or later. What has changed since that instant is sent again. A table without rows is not
//! adopted, nor one that an import has written: what has changed between its last batch and the baseline is
//! in no batch. A database that publishes the target itself adopts nothing of it.

use crate::catalog;
use crate::destination::error::{BaselineError, OfTable};
use crate::destination::retyped::Retyped;
use crate::error::{Result, TableName};
use crate::pg::{Oid, transaction};
use crate::table::shape::Shape;
use batch::{Kind, Manifest, Part};

/// Requires that a table may be taken as it is. `is_new`: it is no copy.
pub fn require_adoptable(
    table: Oid,
    shape: &Shape,
    part: &Part,
    manifest: &Manifest,
    is_new: bool,
    adopt: bool,
    has_rows: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    // Rows that a load commits while its table is waited for must be seen.
    transaction::require_read_committed("tx_import() of a baseline")?;
    let of = || of_table(shape, part, manifest);
    if catalog::target(&manifest.target)?.is_some() {
        return Err(BaselineError::Publishes { of: of() }.into());
    }
    if !is_new || catalog::was_copy(table)? {
        return Err(BaselineError::IsCopy { of: of() }.into());
    }
    if !adopt {
        return Err(BaselineError::NotAdopted { of: of() }.into());
    }
    if !has_rows()? {
        return Err(BaselineError::Empty { of: of() }.into());
    }
    Ok(())
}

/// Returns the error for a column of a baseline that does not exist here: one that is added has no values.
pub fn lacking_column(part: &Part, shape: &Shape, manifest: &Manifest) -> Option<BaselineError> {
    let lacking = part.columns.iter().find(|column| shape.lacks(&column.name))?;
    let is_baseline = part.kind == Kind::Baseline;
    is_baseline.then(|| BaselineError::NoColumn {
        column: lacking.name.clone(),
        of: of_table(shape, part, manifest),
    })
}

/// Returns the error for a column of a baseline that has another type here: nobody has seen whether that
/// keeps the values that were loaded.
pub fn retyped_column(
    part: &Part,
    retyped: &[Retyped],
    shape: &Shape,
    manifest: &Manifest,
) -> Option<BaselineError> {
    let (column, source_type, own) = retyped.first().filter(|_| part.kind == Kind::Baseline)?.told();
    Some(BaselineError::OtherType { column, source_type, own, of: of_table(shape, part, manifest) })
}

/// Says what a table must be like that has just been adopted.
pub fn adopted(shape: &Shape, part: &Part, manifest: &Manifest) -> String {
    let of = of_table(shape, part, manifest);
    format!(
        "table \"{}\" is adopted as it is: its rows must show the source {}",
        shape.qualified(),
        of.since()
    )
}

fn of_table(shape: &Shape, part: &Part, manifest: &Manifest) -> OfTable {
    OfTable {
        number: manifest.number,
        table: shape.name_for_errors(),
        source_table: TableName::new(&part.schema, &part.name),
        target: manifest.target.clone(),
        instant: manifest.created_at.clone(),
        is_compacted: manifest.number > 1,
    }
}
