//! The errors of tables that have their rows already.

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::destination::error::import_with;
use crate::error::{Facts, Report, TableName, literal, plain};

/// What keeps a table from being adopted.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("batch {} has no rows of table \"{}\": it is a baseline", of.number, of.table)]
    NotAdopted { of: OfTable },
    #[error("batch {} has no rows of table \"{}\", and neither has the table here", of.number, of.table)]
    Empty { of: OfTable },
    #[error("batch {} has no rows of table \"{}\", which imports have written already", of.number, of.table)]
    IsCopy { of: OfTable },
    #[error("batch {} has no values of column \"{column}\" of table \"{}\", which does not exist here", of.number, of.table)]
    NoColumn { column: String, of: OfTable },
    #[error("column \"{column}\" of table \"{}\" has another type here, so its values are not adopted", of.table)]
    OtherType { column: String, source_type: String, own: String, of: OfTable },
    #[error("target \"{}\" is exported by this database as well, so its baseline is not adopted here", of.target)]
    Publishes { of: OfTable },
}

/// The table of a baseline.
#[derive(Debug)]
pub struct OfTable {
    /// The batch that is the baseline.
    pub number: u64,
    /// The table here.
    pub table: TableName,
    pub source_table: TableName,
    pub target: String,
    /// The instant of the source that the batch shows.
    pub instant: String,
    /// Whether the batch has changes after the baseline as well.
    pub is_compacted: bool,
}

impl OfTable {
    /// As of when the rows must show the source.
    pub fn since(&self) -> String {
        match self.is_compacted {
            false => format!("as of {}, or later", self.instant),
            true => format!("as of batch 1, which is older than {}, or later", self.instant),
        }
    }

    fn is_for(&self) -> String {
        format!("It is for tables whose rows show the source {}.", self.since())
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
            BaselineError::NotAdopted { of } => refused.detail(of.is_for()).hint(format!(
                "If they are here, run: {} {}",
                import_with(&of.target, "adopt => true"),
                of.send()
            )),
            BaselineError::Empty { of } => refused
                .detail(of.is_for())
                .hint(format!("Load the rows first, from a dump that was taken after that. {}", of.send())),
            BaselineError::IsCopy { of } => refused
                .detail("What has changed between the last batch that they have applied and the baseline is in no batch.")
                .hint(of.send()),
            BaselineError::OtherType { column, source_type, own, of } => refused
                .detail(format!("It is of type {source_type} at the source, and of type {own} here."))
                .hint(format!(
                    "Load the rows into a table whose column {} has that type. {}",
                    quote_identifier(column),
                    of.send()
                )),
            BaselineError::Publishes { of } => refused
                .detail("Two databases would publish its batches.")
                .hint(format!(
                    "If this one is a copy of the source, run here: SELECT tx_forget({}); and untrack what it is not \
                     to export: SELECT tx_untrack('…'); Otherwise begin the target anew under another name.",
                    literal(&of.target)
                )),
            BaselineError::NoColumn { of, .. } => refused.detail(of.is_for()).hint(format!(
                "Load the table again with its column, from a dump that was taken after that. {}",
                of.send()
            )),
        }
    }
}
