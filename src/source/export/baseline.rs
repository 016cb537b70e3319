//! A baseline: a first batch without rows, for destinations that have them already.
//!
//! Input: what the export sends of each table. Output: the same, with a baseline for each full part of a
//! table that has rows.
//!
//! Invariant: only the first batch of a target is one. A destination that follows the target would miss what
//! has changed since its last batch, and two baselines could be taken for each other.

use crate::error::{Error, Result};
use crate::pg::query;
use crate::pg::user::Caller;
use crate::source::error::ExportError;
use crate::source::export::candidate::Candidate;
use batch::Kind;

/// Requires that the batch with a number can be a baseline of a target.
pub(super) fn require_first(target: &str, number: u64) -> Result<()> {
    match number {
        1 => Ok(()),
        _ => Err(ExportError::BaselineNotFirst { target: target.to_owned(), last: number - 1 }.into()),
    }
}

/// Makes full parts baselines. A table without rows is sent in full, which costs nothing and says so.
pub(super) fn without_rows(
    planned: Vec<(Candidate, Kind)>,
    caller: &Caller,
) -> Result<Vec<(Candidate, Kind)>> {
    let with_kind = |(candidate, kind): (Candidate, Kind)| {
        let kind = if has_rows(&candidate, caller)? { Kind::Baseline } else { kind };
        Ok((candidate, kind))
    };
    planned.into_iter().map(with_kind).collect()
}

fn has_rows(candidate: &Candidate, caller: &Caller) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {})", candidate.rows);
    let rows = caller.as_owner(&candidate.table, || Ok::<_, Error>(query::in_snapshot(&sql, &[])?))?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Says what has to be done after the batch, and in which order.
pub(super) fn advice(target: &str, planned: &[(Candidate, Kind)], lsn: &str) -> String {
    let without = planned.iter().filter(|(_, kind)| *kind == Kind::Baseline).map(|(candidate, _)| candidate);
    let tables = without.clone().map(|candidate| match candidate.has_view {
        true => format!("{} (as view {} shows them)", candidate.shape.qualified(), candidate.rows),
        false => candidate.shape.qualified(),
    });
    let tables = tables.collect::<Vec<_>>().join(", ");
    if tables.is_empty() {
        return format!("no table of target \"{target}\" has rows, so its first batch is full");
    }
    let generated =
        without.filter(|candidate| candidate.shape.columns.iter().any(|column| column.is_generated));
    let generated = generated.map(|candidate| candidate.shape.qualified()).collect::<Vec<_>>().join(", ");
    let generated = match generated.is_empty() {
        true => String::new(),
        false => format!(
            "; pg_dump leaves out the generated columns of {generated}: have pg_dump --schema-only make the \
             table, not tx_ddl()"
        ),
    };
    format!(
        "the first batch of target \"{target}\" has no rows of {tables}: take the dump of them now, not before \
         this, and from a standby only once it has replayed {lsn}{generated}"
    )
}
