//! Adopting: a table here that has the rows already becomes a copy by a baseline, which has none of them.
//!
//! Input: a baseline of a table, and the table here. The table becomes the copy, or the import is refused.
//!
//! Invariant: a table is adopted only if the caller says so: its rows are those of the source at the instant
//! of the baseline, or later. What has changed since that instant is sent again. A table without rows is not
//! adopted, nor one that imports have written: what has changed between its last batch and the baseline is in
//! no batch.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, Result, TableName, literal, plain};
use crate::table::shape::Shape;
use batch::{Kind, Manifest, Part};

/// What keeps a table from being adopted.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("batch {number} of target \"{target}\" is a baseline, and no full batch follows")]
    NothingFull { number: u64, target: String, instant: String },
    #[error("batch {number} has no rows of table \"{}\": it is a baseline", of.table)]
    NotAdopted { number: u64, of: OfTable },
    #[error("batch {number} has no rows of table \"{}\", and neither has the table here", of.table)]
    Empty { number: u64, of: OfTable },
    #[error("batch {number} has no rows of table \"{}\", and not what has changed since its last batch", of.table)]
    IsCopy { number: u64, of: OfTable },
    #[error("batch {number} has no values of column \"{column}\" of table \"{}\", which does not exist here", of.table)]
    NoColumn { number: u64, column: String, of: OfTable },
}

/// The table of a baseline.
#[derive(Debug)]
pub struct OfTable {
    /// The table here.
    pub table: TableName,
    pub source_table: TableName,
    pub target: String,
    /// The instant of the source that its rows must show, or a later one.
    pub instant: String,
}

impl OfTable {
    pub fn new(shape: &Shape, part: &Part, manifest: &Manifest) -> OfTable {
        OfTable {
            table: shape.name_for_errors(),
            source_table: TableName::new(&part.schema, &part.name),
            target: manifest.target.clone(),
            instant: manifest.created_at.clone(),
        }
    }

    fn send(&self) -> String {
        let (target, table) = (literal(&self.target), self.source_table.literal());
        format!(
            "To have all rows sent, run at the source: SELECT tx_reset({target}, {table}); \
             SELECT * FROM tx_export({target});"
        )
    }
}

impl Report for BaselineError {
    fn facts(&self) -> Facts {
        let refused = plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE);
        match self {
            BaselineError::NothingFull { target, instant, .. } => {
                let name = literal(target);
                refused.detail(is_for(instant)).hint(format!(
                    "{} To have all rows sent, run at the source: SELECT tx_reset({name}); \
                     SELECT * FROM tx_export({name});",
                    adopt(target)
                ))
            }
            BaselineError::NotAdopted { of, .. } => {
                refused.detail(is_for(&of.instant)).hint(format!("{} {}", adopt(&of.target), of.send()))
            }
            BaselineError::Empty { of, .. } => refused
                .detail(is_for(&of.instant))
                .hint(format!("Load the rows first, from a dump that was taken after that. {}", of.send())),
            BaselineError::IsCopy { of, .. } => {
                refused.detail("The table is a copy already, and goes on with changes only.").hint(of.send())
            }
            BaselineError::NoColumn { of, .. } => refused.detail(is_for(&of.instant)).hint(format!(
                "Load the table again with its column, from a dump that was taken after that. {}",
                of.send()
            )),
        }
    }
}

fn is_for(instant: &str) -> String {
    format!("It is for tables that have the rows of the source as they were at {instant}, or later.")
}

fn adopt(target: &str) -> String {
    format!("If they are here, run: SELECT * FROM tx_import({}, adopt => true);", literal(target))
}

/// Requires that a table may be taken as it is. `is_copy`: imports have written it.
pub fn require_adoptable(
    number: u64,
    of: OfTable,
    is_copy: bool,
    adopt: bool,
    has_rows: impl FnOnce() -> Result<bool>,
) -> Result<()> {
    if is_copy {
        return Err(BaselineError::IsCopy { number, of }.into());
    }
    if !adopt {
        return Err(BaselineError::NotAdopted { number, of }.into());
    }
    if !has_rows()? {
        return Err(BaselineError::Empty { number, of }.into());
    }
    Ok(())
}

/// Returns the error for a column of a baseline that does not exist here: one that is added has no values.
pub fn lacking_column(part: &Part, shape: &Shape, manifest: &Manifest) -> Option<BaselineError> {
    let lacking = part.columns.iter().find(|column| shape.lacks(&column.name))?;
    let is_baseline = part.kind == Kind::Baseline;
    is_baseline.then(|| BaselineError::NoColumn {
        number: manifest.number,
        column: lacking.name.clone(),
        of: OfTable::new(shape, part, manifest),
    })
}
