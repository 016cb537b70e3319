//! The SQL functions of a source: tracking, the capture trigger, exports, restrictions, and what the views of
//! `sql/views.sql` ask about shadows.

use batch::{Compression, Format};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::api::arguments::{choice, milliseconds, parse_number, required, target_name};
use crate::api::call::Call;
use crate::destination::protect;
use crate::error::{Error, Shared};
use crate::pg::Oid;
use crate::pg::text::Text;
use crate::pg::trigger::Firing;
use crate::pg::{commands, message};
use crate::source::shadow::size;
use crate::source::{capture, ddl, dropped, export, follow, prune, restriction, track};

/// Begins to capture the changes of a table.
#[pg_extern(sql = false)]
fn tx_track(
    relation: Option<Oid>,
    key_index: Option<Text>,
) -> Result<
    TableIterator<'static, (name!(tracked, Text), name!(key, Vec<Text>), name!(shadow, Text))>,
    ErrorReport,
> {
    let call = Call::writable("tx_track()")?;
    let tracking = track::track(required("relation", relation)?, key_index.as_deref(), &call.caller)?;
    if tracking.already {
        message::notice(format!("table \"{}\" is already tracked", tracking.table));
    }
    let key = tracking.key.into_iter().map(Text::from).collect();
    let shadow = format!("table_export.shadow_{}", tracking.id);
    Ok(TableIterator::once((tracking.table.into(), key, shadow.into())))
}

/// Stops the capture of a table's changes, and removes its triggers and its shadow.
#[pg_extern(sql = false)]
fn tx_untrack(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_untrack()")?;
    Ok(track::untrack(required("relation", relation)?, &call.caller)?.into())
}

/// The trigger of tracked tables. It runs as the role whose statement fired it, so it begins with no
/// [`Call`].
#[pg_trigger(sql = false)]
fn capture<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, ErrorReport> {
    // pg_trigger turns an Err into a panic without SQLSTATE, so errors are raised here.
    Firing::of(trigger)
        .map_err(Error::from)
        .and_then(|firing| capture::capture(&firing))
        .map_err(ErrorReport::from)
        .unwrap_or_report();
    Ok(None)
}

/// The event trigger for DDL that has ended. It fires for everybody's DDL, so it begins with no [`Call`]
/// before it knows that there is something to do.
#[pg_extern(sql = false)]
fn follow_members() -> Result<(), ErrorReport> {
    if follow::is_own_ddl() {
        return Ok(());
    }
    let commands = commands::commands();
    let work = follow::examine(&commands);
    let is_about_partitions = commands.is_about_partitions();
    if work.is_some() || is_about_partitions {
        let _call = Call::enter()?;
        work.map_or(Ok(()), |work| work.settle(&commands))?;
        if is_about_partitions {
            protect::follow_command();
        }
    }
    Ok(())
}

/// The event trigger for what a command has dropped.
#[pg_extern(sql = false)]
fn follow_drops() -> Result<(), ErrorReport> {
    if !follow::is_own_ddl() {
        dropped::tell();
    }
    Ok(())
}

/// The event trigger for DDL that is about to rewrite a table.
#[pg_extern(sql = false)]
fn capture_rewrite() -> Result<(), ErrorReport> {
    Ok(follow::follow_rewrite()?)
}

/// Exports what has changed for a target.
#[pg_extern(sql = false)]
fn tx_export(
    target: Option<Text>,
    format: Option<Text>,
    compression: Option<Text>,
    store: Option<Text>,
    even_if_unchanged: Option<bool>,
    since: Option<i64>,
    baseline: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(table_name, Text),
            name!(kind, Text),
            name!(ids, i64),
            name!(records, i64),
            name!(bytes, i64),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    let call = Call::writable("tx_export()")?;
    let request = export::Request {
        target: target_name(target.as_deref())?,
        format: choice("format", format.as_deref(), Format::ALL, Format::name)?,
        compression: choice("compression", compression.as_deref(), Compression::ALL, Compression::name)?,
        even_if_unchanged: even_if_unchanged.unwrap_or(false),
        since: parse_number("since", since)?,
        baseline: baseline.unwrap_or(false),
    };
    if request.baseline && request.since.is_some() {
        let (argument, value, allowed) = ("baseline", "true".to_owned(), "false with since".into());
        return Err(Error::from(Shared::Argument { argument, value, allowed }).into());
    }
    let store = call.store_to_write(store.as_deref())?;
    let rows = export::export(&request, &store, &call.caller)?.into_iter().map(|row| {
        (
            row.batch as i64,
            row.table.into(),
            row.kind.into(),
            row.ids as i64,
            row.records as i64,
            row.bytes as i64,
            milliseconds(row.elapsed),
        )
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Truncates the segments of shadows that no target needs any more.
#[pg_extern(sql = false)]
fn tx_prune() -> Result<
    TableIterator<
        'static,
        (
            name!(table_name, Text),
            name!(freed, i64),
            name!(held_back_by, Vec<Text>),
            name!(in_use_by, Vec<Text>),
        ),
    >,
    ErrorReport,
> {
    let _call = Call::writable("tx_prune()")?;
    let texts = |texts: Vec<String>| texts.into_iter().map(Text::from).collect();
    let rows = prune::prune()?
        .into_iter()
        .map(|row| (row.table.into(), row.freed, texts(row.held_back_by), texts(row.in_use_by)));
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Adds a table to those that a target is restricted to; the first one restricts the target.
#[pg_extern(sql = false)]
fn tx_restrict(target: Option<Text>, relation: Option<Oid>, view: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_restrict()")?;
    let (target, relation) = (target_name(target.as_deref())?, required("relation", relation)?);
    Ok(restriction::restrict(target, relation, view, &call.caller)?.into())
}

/// Removes a table from those that a target is restricted to; without a table, removes the whole restriction.
#[pg_extern(sql = false)]
fn tx_unrestrict(target: Option<Text>, relation: Option<Oid>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_unrestrict()")?;
    Ok(restriction::unrestrict(target_name(target.as_deref())?, relation, &call.caller)?.into())
}

/// Returns the DDL for a destination: that of a table, or of all that a target gets.
#[pg_extern(sql = false)]
fn tx_ddl(
    relation: Option<Oid>,
    target: Option<Text>,
    definitions: Option<bool>,
) -> Result<Text, ErrorReport> {
    let _call = Call::enter()?;
    let definitions = definitions.unwrap_or(false);
    let script = match target.as_deref() {
        None => ddl::table(required("relation", relation)?, definitions)?,
        target => ddl::target(target_name(target)?, relation, definitions)?,
    };
    Ok(script.into())
}

/// Counts the changes in the shadow of a tracked table, and its bytes.
#[pg_extern(sql = false)]
fn shadow_size(
    id: i32,
) -> Result<TableIterator<'static, (name!(changes, i64), name!(bytes, i64))>, ErrorReport> {
    let _call = Call::enter()?;
    let size = size::shadow_size(id)?;
    Ok(TableIterator::once((size.changes, size.bytes)))
}

/// Counts the changes that the next export of a target will read; no row if that export will be full.
#[pg_extern(sql = false)]
fn pending_changes(
    target: Text,
) -> Result<TableIterator<'static, (name!(changes, i64), name!(bytes, i64))>, ErrorReport> {
    let _call = Call::enter()?;
    let pending = size::pending_changes(&target)?;
    Ok(TableIterator::new(pending.into_iter().map(|size| (size.changes, size.bytes))))
}
