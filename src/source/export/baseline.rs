//! A baseline: what an export sends in place of full parts, for destinations that have the rows already.
//!
//! Input: what the export sends of each table. Output: the same, with a baseline for each full part of a
//! table that has rows.
//!
//! Invariant: a table that the target has received gets none. A destination that follows the target would
//! miss what has changed since its last batch.

use std::collections::BTreeMap;

use crate::catalog::Received;
use crate::error::{Error, Result};
use crate::pg::query;
use crate::pg::user::Caller;
use crate::source::error::ExportError;
use crate::source::export::candidate::Candidate;
use batch::{Kind, Part};

/// Makes full parts baselines. A table without rows is sent in full, which costs nothing and says so.
pub(super) fn without_rows(
    planned: Vec<(Candidate, Kind)>,
    target: &str,
    known: &BTreeMap<i32, Received>,
    caller: &Caller,
) -> Result<Vec<(Candidate, Kind)>> {
    let target = || target.to_owned();
    if planned.iter().all(|(_, kind)| *kind != Kind::Full) {
        return Err(ExportError::NoBaseline { target: target() }.into());
    }
    let with_kind = |(candidate, kind): (Candidate, Kind)| {
        if kind != Kind::Full {
            return Ok((candidate, kind));
        }
        if known.contains_key(&candidate.tracked.id) {
            let table = candidate.shape.name_for_errors();
            return Err(ExportError::BaselineOfReceived { target: target(), table }.into());
        }
        let kind = if has_rows(&candidate, caller)? { Kind::Baseline } else { Kind::Full };
        Ok((candidate, kind))
    };
    planned.into_iter().map(with_kind).collect()
}

fn has_rows(candidate: &Candidate, caller: &Caller) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT FROM {})", candidate.rows);
    let rows = caller.as_owner(&candidate.table, || Ok::<_, Error>(query::in_snapshot(&sql, &[])?))?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Says what has to be done after a baseline, and in which order; `None` if a batch has none.
pub(super) fn advice(target: &str, number: u64, parts: &[Part], lsn: &str) -> Option<String> {
    let tables = parts.iter().filter(|part| part.kind == Kind::Baseline).map(Part::table);
    let tables = tables.collect::<Vec<_>>().join(", ");
    (!tables.is_empty()).then(|| {
        format!(
            "batch {number} of target \"{target}\" has no rows of {tables}: take the dump of them now, after \
             this, and from a standby only once it has replayed {lsn}"
        )
    })
}
