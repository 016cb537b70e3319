//! The SQL functions of a destination: imports, mappings, protection, and what the views of `sql/views.sql`
//! ask about pending batches.

use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::arguments::{choice, milliseconds, parse_delete_limit, parse_limit, required, target_name};
use crate::api::call::Call;
use crate::destination::apply::{Mode, Options};
use crate::destination::part::Changed;
use crate::destination::plan::{self, Plan, PlannedBatch, PlannedObstacle};
use crate::destination::resolve::{Allowed, NewColumns};
use crate::destination::{import, mapping, pending, protect};
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::text::Text;
use crate::pg::transaction::Obstacle;

/// A row of tx_import. cargo pgrx refuses an alias in a signature, so the signature lists the columns.
type ImportedRow = (
    Option<i64>,
    Option<Text>,
    Option<Text>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    f64,
);

/// A row of tx_plan.
type PlannedRow = (
    Option<i64>,
    Option<Text>,
    Option<Text>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Text>,
    Option<Text>,
);

/// Applies the pending batches of a target.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "SQL callers name them")]
fn tx_import(
    target: Option<Text>,
    store: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
    adopt: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, Option<i64>),
            name!(table_name, Option<Text>),
            name!(kind, Option<Text>),
            name!(deleted, Option<i64>),
            name!(updated, Option<i64>),
            name!(inserted, Option<i64>),
            name!(unchanged, Option<i64>),
            name!(bytes, Option<i64>),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    let call = Call::importing("tx_import()")?;
    let arguments =
        ImportArguments { target, max_batches, mode, new_columns, create_tables, delete_limit, adopt };
    let request = arguments.check()?;
    let store = call.store_to_read(store.as_deref())?;
    let done = import::import(&request, store.as_ref(), &call.caller)?;
    Ok(TableIterator::new(done.into_iter().flat_map(rows).collect::<Vec<_>>()))
}

/// Returns what an import would do, and all that would stop it. With `try_rows` it also runs the import, and
/// rolls it back.
#[pg_extern(sql = false)]
#[expect(clippy::too_many_arguments, reason = "SQL callers name them")]
fn tx_plan(
    target: Option<Text>,
    store: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
    adopt: Option<bool>,
    try_rows: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, Option<i64>),
            name!(table_name, Option<Text>),
            name!(kind, Option<Text>),
            name!(deleted, Option<i64>),
            name!(updated, Option<i64>),
            name!(inserted, Option<i64>),
            name!(unchanged, Option<i64>),
            name!(bytes, Option<i64>),
            name!(obstacle, Option<Text>),
            name!(hint, Option<Text>),
        ),
    >,
    ErrorReport,
> {
    let try_rows = try_rows.unwrap_or(false);
    let call = if try_rows { Call::importing("tx_plan()")? } else { Call::enter()? };
    let arguments =
        ImportArguments { target, max_batches, mode, new_columns, create_tables, delete_limit, adopt };
    let request = arguments.check()?;
    let store = call.store_to_read(store.as_deref())?;
    let Plan { batches, obstacles } = plan::plan(&request, store.as_ref(), &call.caller, try_rows);
    let rows = batches.into_iter().flat_map(planned_rows).chain(obstacles.into_iter().map(obstacle_row));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// The arguments that tx_import and tx_plan share, except the store.
struct ImportArguments {
    target: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
    adopt: Option<bool>,
}

impl ImportArguments {
    /// Checks the arguments, and returns what they ask for.
    fn check(&self) -> Result<import::Request<'_>> {
        let target = target_name(self.target.as_deref())?;
        let max_batches = self.max_batches.map(|limit| parse_limit("max_batches", limit)).transpose()?;
        let delete_limit = parse_delete_limit(self.delete_limit)?;
        let mode = choice("mode", self.mode.as_deref(), Mode::ALL, Mode::name)?;
        let allowed = Allowed {
            new_columns: choice(
                "new_columns",
                self.new_columns.as_deref(),
                NewColumns::ALL,
                NewColumns::name,
            )?,
            create_tables: self.create_tables.unwrap_or(false),
        };
        let options = Options { mode, allowed, delete_limit, adopt: self.adopt.unwrap_or(false) };
        Ok(import::Request { target, max_batches, options })
    }
}

/// Returns a row for each part of a batch that has been applied; one row, without a table, for a batch that
/// has no part.
fn rows(batch: import::Imported) -> Vec<ImportedRow> {
    let import::Imported { number, kind, parts } = batch;
    let row = |table: Option<String>, kind: &'static str, changed: Changed, bytes: u64, elapsed: Duration| {
        let [batch, bytes] = [number, bytes].map(|count| Some(count as i64));
        let [deleted, updated, inserted, unchanged] = counts(Some(changed));
        let (table, kind) = (table.map(Text::from), Some(kind.into()));
        (batch, table, kind, deleted, updated, inserted, unchanged, bytes, milliseconds(elapsed))
    };
    if parts.is_empty() {
        return vec![row(None, kind, Changed::default(), 0, Duration::ZERO)];
    }
    let rows = parts
        .into_iter()
        .map(|part| row(Some(part.table), part.kind, part.changed, part.bytes, part.elapsed));
    rows.collect()
}

/// Returns a row for each part of a planned batch; one row, without a table, for a batch that has no part.
fn planned_rows(batch: PlannedBatch) -> Vec<PlannedRow> {
    let PlannedBatch { number, kind, parts } = batch;
    let row = |table: Option<String>, kind: &'static str, changed: Option<Changed>, bytes: u64| {
        let [batch, bytes] = [number, bytes].map(|count| Some(count as i64));
        let [deleted, updated, inserted, unchanged] = counts(changed);
        let (table, kind) = (table.map(Text::from), Some(kind.into()));
        (batch, table, kind, deleted, updated, inserted, unchanged, bytes, None, None)
    };
    if parts.is_empty() {
        return vec![row(None, kind, None, 0)];
    }
    parts.into_iter().map(|part| row(Some(part.table), part.kind, part.changed, part.bytes)).collect()
}

fn counts(changed: Option<Changed>) -> [Option<i64>; 4] {
    let Some(Changed { deleted, updated, inserted, unchanged }) = changed else { return [None; 4] };
    [deleted, updated, inserted, unchanged].map(|count| Some(count as i64))
}

/// The row of tx_plan for an obstacle. Its DETAIL follows the message.
fn obstacle_row(obstacle: PlannedObstacle) -> PlannedRow {
    let PlannedObstacle { batch, table, met: Obstacle { message, detail, hint } } = obstacle;
    let text = [Some(message), detail].into_iter().flatten().collect::<Vec<_>>().join(". ");
    let (batch, table) = (batch.map(|number| number as i64), table.map(Text::from));
    (batch, table, None, None, None, None, None, None, Some(text.into()), hint.map(Text::from))
}

/// Makes imports write a table of the source into another table here.
#[pg_extern(sql = false)]
fn tx_map(
    target: Option<Text>,
    source_table: Option<Text>,
    relation: Option<Oid>,
    columns: Option<Text>,
) -> Result<Option<Text>, ErrorReport> {
    let call = Call::writable("tx_map()")?;
    let target = target_name(target.as_deref())?;
    let source_table = required("source_table", source_table.as_deref())?;
    let Some(relation) = relation else {
        mapping::leave_out(target, source_table, &call.caller)?;
        return Ok(None);
    };
    Ok(Some(mapping::map(target, source_table, relation, columns.as_deref(), &call.caller)?.into()))
}

/// Makes imports write a table of the source into the table of the same name again.
#[pg_extern(sql = false)]
fn tx_unmap(target: Option<Text>, source_table: Option<Text>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_unmap()")?;
    let source_table = required("source_table", source_table.as_deref())?;
    Ok(mapping::unmap(target_name(target.as_deref())?, source_table, &call.caller)?.into())
}

/// Makes a copy read-only for all sessions but imports.
#[pg_extern(sql = false)]
fn tx_protect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_protect()")?;
    Ok(protect::protect(required("relation", relation)?, &call.caller)?.into())
}

/// Makes a protected copy writable again.
#[pg_extern(sql = false)]
fn tx_unprotect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_unprotect()")?;
    Ok(protect::unprotect(required("relation", relation)?, &call.caller)?.into())
}

/// Counts the batches in the store that have not been applied here.
#[pg_extern(sql = false)]
fn pending_batches(target: Text) -> Result<Option<i64>, ErrorReport> {
    let _call = Call::enter()?;
    Ok(pending::pending_batches(&target)?.map(|batches| batches as i64))
}
