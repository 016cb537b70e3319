//! The SQL functions of a destination: imports, mappings, protection, and what the views of `sql/views.sql`
//! ask about pending batches.

use std::time::Duration;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::arguments::{choice, milliseconds, parse_limit, parse_percentage, required, target_name};
use crate::api::call::Call;
use crate::destination::apply::{Changed, Mode, Options};
use crate::destination::resolve::{Allowed, NewColumns};
use crate::destination::{import, mapping, pending, protect};
use crate::error::Result;
use crate::guc;
use crate::pg::Oid;
use crate::pg::text::Text;
use crate::pg::transaction::Obstacle;

/// Applies the pending batches of a target.
#[pg_extern(sql = false)]
fn tx_import(
    target: Option<Text>,
    store: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(table_name, Option<Text>),
            name!(kind, Text),
            name!(deleted, i64),
            name!(updated, i64),
            name!(inserted, i64),
            name!(unchanged, i64),
            name!(bytes, i64),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    let call = Call::importing(c"tx_import()")?;
    let arguments = ImportArguments { target, max_batches, mode, new_columns, create_tables, delete_limit };
    let request = arguments.check()?;
    let store = call.store_to_read(store.as_deref())?;
    let rows =
        import::import(&request, store.as_ref(), &call.caller)?.into_iter().flat_map(PartRow::of_batch);
    Ok(TableIterator::new(rows.map(PartRow::imported).collect::<Vec<_>>()))
}

/// Runs an import and rolls it back; returns what it did, and the first error as its last row.
#[pg_extern(sql = false)]
fn tx_plan(
    target: Option<Text>,
    store: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
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
        ),
    >,
    ErrorReport,
> {
    let call = Call::importing(c"tx_plan()")?;
    let arguments = ImportArguments { target, max_batches, mode, new_columns, create_tables, delete_limit };
    let request = arguments.check()?;
    let store = call.store_to_read(store.as_deref())?;
    let (imported, obstacle) = import::plan(&request, store.as_ref(), &call.caller)?;
    let done = imported.into_iter().flat_map(PartRow::of_batch).map(PartRow::planned);
    Ok(TableIterator::new(done.chain(obstacle.map(obstacle_row)).collect::<Vec<_>>()))
}

/// The arguments that tx_import and tx_plan share, but for the store.
struct ImportArguments {
    target: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
    new_columns: Option<Text>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
}

impl ImportArguments {
    /// Checks the arguments, and returns what they ask for.
    fn check(&self) -> Result<import::Request<'_>> {
        let target = target_name(self.target.as_deref())?;
        let max_batches = self.max_batches.map(|limit| parse_limit("max_batches", limit)).transpose()?;
        let delete_limit = match self.delete_limit {
            None => guc::delete_limit(),
            Some(limit) => parse_percentage("delete_limit", limit)?,
        };
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
        Ok(import::Request { target, max_batches, options: Options { mode, allowed, delete_limit } })
    }
}

/// A row of tx_import.
type ImportRow = (i64, Option<Text>, Text, i64, i64, i64, i64, i64, f64);

/// A row of tx_plan.
type PlanRow = (
    Option<i64>,
    Option<Text>,
    Option<Text>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<Text>,
);

/// What was done with a part of a batch, or with a batch that has no part. It becomes a row of tx_import or
/// tx_plan.
struct PartRow {
    batch: u64,
    table: Option<String>,
    kind: &'static str,
    changed: Changed,
    bytes: u64,
    elapsed: Duration,
}

impl PartRow {
    /// Returns a row for each part of a batch; one row, without a table, for a batch that has no part.
    fn of_batch(batch: import::Imported) -> Vec<PartRow> {
        let (number, kind) = (batch.number, batch.kind);
        if batch.parts.is_empty() {
            let (changed, elapsed) = (Changed::default(), Duration::ZERO);
            return vec![PartRow { batch: number, table: None, kind, changed, bytes: 0, elapsed }];
        }
        let rows = batch.parts.into_iter().map(|part| PartRow {
            batch: number,
            table: Some(part.table),
            kind: part.kind,
            changed: part.changed,
            bytes: part.bytes,
            elapsed: part.elapsed,
        });
        rows.collect()
    }

    fn imported(self) -> ImportRow {
        let Changed { deleted, updated, inserted, unchanged } = self.changed;
        (
            self.batch as i64,
            self.table.map(Text::from),
            self.kind.into(),
            deleted as i64,
            updated as i64,
            inserted as i64,
            unchanged as i64,
            self.bytes as i64,
            milliseconds(self.elapsed),
        )
    }

    fn planned(self) -> PlanRow {
        let (batch, table, kind, deleted, updated, inserted, unchanged, bytes, _) = self.imported();
        let (deleted, updated, inserted) = (Some(deleted), Some(updated), Some(inserted));
        (Some(batch), table, Some(kind), deleted, updated, inserted, Some(unchanged), Some(bytes), None)
    }
}

/// The row of tx_plan that says what would stop the import.
fn obstacle_row(Obstacle { message, hint }: Obstacle) -> PlanRow {
    let text = [Some(message), hint].into_iter().flatten().collect::<Vec<_>>().join(". ");
    (None, None, None, None, None, None, None, None, Some(text.into()))
}

/// Makes imports write a table of the source into another table here.
#[pg_extern(sql = false)]
fn tx_map(
    target: Option<Text>,
    source_table: Option<Text>,
    relation: Option<Oid>,
    columns: Option<Text>,
) -> Result<Text, ErrorReport> {
    let call = Call::writable(c"tx_map()")?;
    let (target, relation) = (target_name(target.as_deref())?, required("relation", relation)?);
    let source_table = required("source_table", source_table.as_deref())?;
    Ok(mapping::map(target, source_table, relation, columns.as_deref(), &call.caller)?.into())
}

/// Makes imports write a table of the source into the table of the same name again.
#[pg_extern(sql = false)]
fn tx_unmap(target: Option<Text>, source_table: Option<Text>) -> Result<Text, ErrorReport> {
    let call = Call::writable(c"tx_unmap()")?;
    let source_table = required("source_table", source_table.as_deref())?;
    Ok(mapping::unmap(target_name(target.as_deref())?, source_table, &call.caller)?.into())
}

/// Makes a copy read-only for all sessions but imports.
#[pg_extern(sql = false)]
fn tx_protect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable(c"tx_protect()")?;
    Ok(protect::protect(required("relation", relation)?, &call.caller)?.into())
}

/// Makes a protected copy writable again.
#[pg_extern(sql = false)]
fn tx_unprotect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable(c"tx_unprotect()")?;
    Ok(protect::unprotect(required("relation", relation)?, &call.caller)?.into())
}

/// Counts the batches in the store that have not been applied here.
#[pg_extern(sql = false)]
fn pending_batches(target: Text) -> Result<Option<i64>, ErrorReport> {
    let _call = Call::enter()?;
    Ok(pending::pending_batches(&target)?.map(|batches| batches as i64))
}
