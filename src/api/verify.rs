//! The SQL functions that compare tables with a store, at either side, and repair copies.

use std::time::{SystemTime, UNIX_EPOCH};

use batch::Sample;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use store::Store;

use crate::api::arguments::{milliseconds, parse_delete_limit, parse_limit, required, target_name};
use crate::api::call::Call;
use crate::destination;
use crate::destination::part::Changed;
use crate::destination::repair;
use crate::error::{Result, Shared};
use crate::pg::Oid;
use crate::pg::error::qualified;
use crate::pg::text::Text;
use crate::pg::user::Caller;
use crate::proof::error::ProofError;
use crate::proof::{self, Compared, Proof, Request};
use crate::source;

/// A row of tx_verify. cargo pgrx refuses an alias in a signature, so the signature lists the columns.
type VerifiedRow = (
    i64,
    Text,
    Option<i64>,
    Option<bool>,
    bool,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Text>,
    Option<Vec<Text>>,
    f64,
);

/// A row of tx_repair.
type RepairedRow = (i64, Text, Option<i64>, Option<i64>, Option<i64>, Option<bool>, bool, Option<Text>, f64);

/// More keys would not fit into anybody's head, and need not fit into memory.
const EXAMPLES_MAX: u64 = 10_000;

/// Who takes a smaller sample each day sees a key once in thirty years.
const SAMPLE_MIN: f64 = 0.0001;

const SECONDS_OF_DAY: u64 = 86_400;

/// Compares the tables of a target with what a store says of them.
#[pg_extern(sql = false)]
fn tx_verify(
    target: Option<Text>,
    relation: Option<Oid>,
    store: Option<Text>,
    examples: Option<i32>,
    sample: Option<f64>,
    share: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(table_name, Text),
            name!(rows, Option<i64>),
            name!(equal, Option<bool>),
            name!(complete, bool),
            name!(missing, Option<i64>),
            name!(extra, Option<i64>),
            name!(different, Option<i64>),
            name!(left_out, Option<i64>),
            name!(note, Option<Text>),
            name!(examples, Option<Vec<Text>>),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    let call = Call::enter()?;
    let target = target_name(target.as_deref())?;
    let examples = parse_examples(required("examples", examples)?)?;
    let sample = parse_sample(required("sample", sample)?, share)?;
    let store = call.store_to_read(store.as_deref())?;
    let request = Request { target, relation, examples, sample };
    let proofs = verify(&request, store.as_ref(), &call.caller)?;
    proof::remember(target, &proofs)?;
    Ok(TableIterator::new(proofs.into_iter().map(row).collect::<Vec<_>>()))
}

/// Makes the copies of a target what a store says that they are.
#[pg_extern(sql = false)]
fn tx_repair(
    target: Option<Text>,
    relation: Option<Oid>,
    store: Option<Text>,
    delete_limit: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(table_name, Text),
            name!(deleted, Option<i64>),
            name!(updated, Option<i64>),
            name!(inserted, Option<i64>),
            name!(equal, Option<bool>),
            name!(complete, bool),
            name!(note, Option<Text>),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    let call = Call::importing("tx_repair()")?;
    let target = target_name(target.as_deref())?;
    let delete_limit = parse_delete_limit(delete_limit)?;
    let store = call.store_to_read(store.as_deref())?;
    let request = repair::Request { target, relation, delete_limit };
    let repaired = repair::repair(&request, store.as_ref(), &call.caller)?;
    let (proofs, changed): (Vec<_>, Vec<_>) = repaired.into_iter().unzip();
    proof::remember(target, &proofs)?;
    let rows = proofs.into_iter().zip(changed).map(repaired_row);
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

fn repaired_row((proof, changed): (Proof, Changed)) -> RepairedRow {
    let (batch, table, _, equal, complete, .., note, _, elapsed) = row(proof);
    let count = |count: u64| equal.is_some().then_some(count as i64);
    let Changed { deleted, updated, inserted, .. } = changed;
    (batch, table, count(deleted), count(updated), count(inserted), equal, complete, note, elapsed)
}

fn row(proof: Proof) -> VerifiedRow {
    let (is_complete, gaps) = (proof.is_complete(), proof.gaps());
    let Proof { number, table, compared, elapsed, .. } = proof;
    let of = |count: fn(&Compared) -> u64| compared.as_ref().map(|compared| count(compared) as i64);
    let [rows, missing, extra, different, left_out] = [
        of(|compared| compared.rows),
        of(|compared| compared.differences.missing),
        of(|compared| compared.differences.extra),
        of(|compared| compared.differences.different),
        of(|compared| compared.differences.left_out),
    ];
    let is_equal = compared.as_ref().map(|compared| compared.differences.is_empty());
    let note = (!is_complete).then(|| qualified(&format!("not compared: {}", gaps.join("; "))).into());
    let examples = compared.map_or_else(Vec::new, |compared| compared.examples);
    let examples = examples.into_iter().map(Text::from).collect::<Vec<_>>();
    let examples = (!examples.is_empty()).then_some(examples);
    let (batch, table, elapsed) = (number as i64, table.into(), milliseconds(elapsed));
    (batch, table, rows, is_equal, is_complete, missing, extra, different, left_out, note, examples, elapsed)
}

/// Compares at the side that this database is on: a destination that has taken the target over is its source.
fn verify(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Vec<Proof>> {
    if let Some(proofs) = source::verify::verify(request, store, caller)? {
        return Ok(proofs);
    }
    let proofs = destination::verify::verify(request, store, caller)?;
    Ok(proofs.ok_or_else(|| ProofError::NothingYet { target: request.target.to_owned() })?)
}

fn parse_examples(examples: i32) -> Result<usize> {
    let number = parse_limit("examples", examples)?;
    if number > EXAMPLES_MAX {
        let allowed = format!("up to {EXAMPLES_MAX}").into();
        return Err(Shared::Argument { argument: "examples", value: number.to_string(), allowed }.into());
    }
    Ok(number as usize)
}

/// Returns the share of the keys that is asked for: of the size next to the sample, and that of the day
/// unless it is given.
fn parse_sample(sample: f64, share: Option<i32>) -> Result<Option<Sample>> {
    if !(SAMPLE_MIN..=1.0).contains(&sample) {
        let allowed = format!("{SAMPLE_MIN} to 1").into();
        return Err(Shared::Argument { argument: "sample", value: sample.to_string(), allowed }.into());
    }
    let shares = (1.0 / sample).round() as u64;
    if shares == 1 {
        let allowed = "a share of a sample, such as sample => 0.01".into();
        let refused = |share: i32| Shared::Argument { argument: "share", value: share.to_string(), allowed };
        return share.map_or(Ok(None), |share| Err(refused(share).into()));
    }
    let share = share.map_or_else(today, |share| i64::from(share) - 1);
    Ok(Some(Sample { share: share.rem_euclid(shares as i64) as u64 + 1, shares }))
}

/// The days since 1970, in UTC.
fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (now.as_secs() / SECONDS_OF_DAY) as i64
}
