//! Whether a table is what the batches in a store say that it is.
//!
//! Rule: nothing here imports `source`, `destination` or `upkeep`, which say what a table is compared with.
//!
//! `held` finds the batches that lead to a given one. `compare` reads what they hold of a table, and its
//! rows. `health` tells of tables that were not equal.

pub mod compare;
pub mod error;
pub mod health;
pub mod held;

use std::time::Duration;

use batch::{Differences, Kind, Manifest, Part, Sample};

use crate::catalog::{self, ProofRow};
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::transaction;
use crate::proof::error::ProofError;
use crate::table::error::TableError;
use crate::table::shape::Shape;

/// What a comparison of one table has shown.
pub struct Proof {
    /// The batch whose state the table should show.
    pub number: u64,
    /// The table, if there is one, and its qualified name.
    pub relation: Option<Oid>,
    pub table: String,
    /// `None` if nothing could be compared.
    pub compared: Option<Compared>,
    /// The keys that were compared; `None` if it is all of them.
    pub sample: Option<Sample>,
    /// What could not be compared, and what to do about it.
    pub gaps: Vec<String>,
    pub elapsed: Duration,
}

impl Proof {
    /// Says whether everything was compared.
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty() && self.sample.is_none()
    }

    /// Returns what was not compared, and what to do about it.
    pub fn gaps(&self) -> Vec<String> {
        let sample =
            self.sample.map(|Sample { share, shares }| format!("keys outside of share {share} of {shares}"));
        sample.into_iter().chain(self.gaps.iter().cloned()).collect()
    }
}

/// What has been compared.
pub struct Compared {
    /// How many rows the table has, of those that were compared.
    pub rows: u64,
    pub differences: Differences,
    /// Some keys that differ, each with what does.
    pub examples: Vec<String>,
}

/// What a comparison is asked for.
pub struct Request<'a> {
    pub target: &'a str,
    /// The only table that is compared; `None` compares all.
    pub relation: Option<Oid>,
    /// The limit on how many keys that differ are returned for each table.
    pub examples: usize,
    /// The keys that are compared; `None` compares all.
    pub sample: Option<Sample>,
}

/// Says that a table is not one of a target here.
pub fn not_of_target(relation: Oid, target: &str) -> Result<ProofError> {
    let shape = Shape::of(relation)?.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    Ok(ProofError::NotOfTarget { table: shape.name_for_errors(), target: target.to_owned() })
}

/// Says which rows are not known if parts begin with one, and what proves them; `None` if that is full.
/// `missing` is the batch before, which the store does not hold.
pub fn gap(first: &(&Manifest, Part), missing: Option<u64>, send_again: &str) -> Option<String> {
    let (manifest, part) = first;
    match part.kind {
        Kind::Full => None,
        Kind::Baseline => Some(format!(
            "rows that have not changed since the baseline, which has none of them. {send_again}. The next \
             export then has them, and an import of it writes and counts what differs"
        )),
        Kind::Changes => Some(format!(
            "rows that have not changed since batch {}, which the store does not hold. {send_again}. Compact \
             batches before they expire",
            missing.unwrap_or(manifest.number - 1)
        )),
    }
}

/// Says whether parts tell nothing of any row.
pub fn tell_nothing(parts: &[(&Manifest, Part)]) -> bool {
    let tells = |part: &Part| part.kind == Kind::Full || part.ids > 0 || !part.ranges.is_empty();
    !parts.iter().any(|(_, part)| tells(part))
}

/// Remembers what comparisons have shown; not on a standby, and not in a read-only transaction. That a sample
/// is equal would say less than what is remembered already.
pub fn remember(target: &str, proofs: &[Proof]) -> Result<()> {
    if !transaction::may_write() {
        return Ok(());
    }
    for proof in proofs {
        let Some(relation) = proof.relation else { continue };
        let found = proof.compared.as_ref().map(|compared| &compared.differences);
        if proof.sample.is_some() && found.is_some_and(Differences::is_empty) {
            continue;
        }
        let count = |of: fn(&Differences) -> u64| found.map_or(0, of);
        catalog::put_proof(&ProofRow {
            target,
            relation,
            number: proof.number,
            equal: found.map(Differences::is_empty),
            complete: proof.is_complete(),
            missing: count(|found| found.missing),
            extra: count(|found| found.extra),
            different: count(|found| found.different),
        })?;
    }
    Ok(())
}
