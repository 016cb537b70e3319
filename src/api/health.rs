//! The SQL function that tells what is wrong, at either side.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::arguments::{required, time};
use crate::api::call::Call;
use crate::destination;
use crate::error::{Problem, Result};
use crate::pg::error::qualified;
use crate::pg::snapshot;
use crate::pg::text::Text;
use crate::proof;
use crate::source;

/// Lists what is wrong in this database, the worst first.
#[pg_extern(sql = false)]
fn tx_health(
    read_stores: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(severity, Text),
            name!(object, Text),
            name!(problem, Text),
            name!(detail, Option<Text>),
            name!(since, Option<TimestampWithTimeZone>),
            name!(hint, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    let _call = Call::enter()?;
    let read_stores = required("read_stores", read_stores)?;
    let problems = snapshot::latest(|| problems(read_stores))?;
    let rows = problems.into_iter().map(|problem| {
        (
            problem.severity.name().into(),
            problem.object.into(),
            problem.problem.into(),
            problem.detail.map(Text::from),
            problem.since.as_deref().and_then(time),
            problem.hint.map(|hint| qualified(&hint).into()),
        )
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

fn problems(read_stores: bool) -> Result<Vec<Problem>> {
    let mut problems = source::health::problems(read_stores)?;
    problems.extend(destination::health::problems(read_stores)?);
    problems.extend(proof::health::problems()?);
    problems.sort_by_key(|problem| problem.severity);
    Ok(problems)
}
