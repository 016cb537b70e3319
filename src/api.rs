//! The SQL surface: what SQL calls is here, and hands on to the stage that does it. `sql/functions.sql` declares it.
//!
//! Each function runs as the owner of the extension, with settings pinned; what the caller may do is asked of the
//! [`Caller`].

#![allow(clippy::type_complexity, reason = "pgrx reads the names of the columns from the signature")]

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::apply::Mode;
use crate::batch::{Compression, Format};
use crate::error::Error;
use crate::pg::text::Text;
use crate::pg::trigger::Firing;
use crate::pg::user::Caller;
use crate::pg::{Oid, interrupts, settings, transaction};
use crate::store::{self, Store};
use crate::{capture, ddl, export, guc, import, protect, prune, reset, status, track};

/// Begins to capture the changes of a table.
#[pg_extern(sql = false)]
fn tx_track(
    relation: Option<Oid>,
    key_index: Option<Text>,
) -> Result<
    TableIterator<'static, (name!(tracked, Text), name!(key, Vec<Text>), name!(shadow, Text))>,
    ErrorReport,
> {
    transaction::require_writable(c"tx_track()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let tracking = track::track(required("relation", relation)?, key_index.as_deref(), &caller)?;
    if tracking.already {
        notice!("table \"{}\" is already tracked", tracking.table);
    }
    let key = tracking.key.into_iter().map(Text::from).collect();
    let shadow = format!("table_export.shadow_{}", tracking.id);
    Ok(TableIterator::once((tracking.table.into(), key, shadow.into())))
}

/// Stops capturing, and removes every trace of it.
#[pg_extern(sql = false)]
fn tx_untrack(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_untrack()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(track::untrack(required("relation", relation)?, &caller)?.into())
}

/// The trigger of tracked tables.
#[pg_trigger(sql = false)]
fn capture<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, ErrorReport> {
    // pg_trigger turns an Err into a panic without SQLSTATE, so errors are raised here.
    Firing::of(trigger)
        .and_then(|firing| capture::capture(&firing))
        .map_err(ErrorReport::from)
        .unwrap_or_report();
    Ok(None)
}

/// Exports what has changed for a target.
#[pg_extern(sql = false)]
fn tx_export(
    target: Option<Text>,
    format: Option<Text>,
    compression: Option<Text>,
    store: Option<Text>,
    even_if_unchanged: Option<bool>,
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
    transaction::require_writable(c"tx_export()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let request = export::Request {
        target: target_name(target.as_deref())?,
        format: parse_format(required("format", format.as_deref())?)?,
        compression: parse_compression(required("compression", compression.as_deref())?)?,
        even_if_unchanged: even_if_unchanged.unwrap_or(false),
    };
    let store = open_store(store.as_deref(), c"pg_write_server_files", &caller)?;
    let rows = export::export(&request, &store, &caller)?.into_iter().map(|row| {
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

/// Applies the pending batches of a target.
#[pg_extern(sql = false)]
fn tx_import(
    target: Option<Text>,
    store: Option<Text>,
    max_batches: Option<i32>,
    mode: Option<Text>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(table_name, Text),
            name!(kind, Text),
            name!(deleted, i64),
            name!(updated, i64),
            name!(inserted, i64),
            name!(bytes, i64),
            name!(elapsed_ms, f64),
        ),
    >,
    ErrorReport,
> {
    transaction::require_writable(c"tx_import()")?;
    let caller = Caller::enter()?;
    let settings = settings::pin();
    settings.replica_role();
    let limit = max_batches.map(parse_limit).transpose()?;
    let mode = parse_mode(required("mode", mode.as_deref())?)?;
    let store = open_store(store.as_deref(), c"pg_read_server_files", &caller)?;
    let rows = import::import(target_name(target.as_deref())?, limit, mode, store.as_ref(), &caller)?
        .into_iter()
        .map(|(batch, part)| {
            (
                batch as i64,
                part.table.into(),
                part.kind.into(),
                part.changed.deleted as i64,
                part.changed.updated as i64,
                part.changed.inserted as i64,
                part.bytes as i64,
                milliseconds(part.elapsed),
            )
        });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Makes a target start again from a full batch.
#[pg_extern(sql = false)]
fn tx_reset(target: Option<Text>, relation: Option<Oid>, store: Option<Text>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_reset()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let store = open_store(store.as_deref(), c"pg_read_server_files", &caller)?;
    Ok(reset::reset(target_name(target.as_deref())?, relation, store.as_ref())?.into())
}

/// Forgets a target.
#[pg_extern(sql = false)]
fn tx_forget(target: Option<Text>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_forget()")?;
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(reset::forget(target_name(target.as_deref())?)?.into())
}

/// Truncates what every target has of the shadows.
#[pg_extern(sql = false)]
fn tx_prune() -> Result<
    TableIterator<'static, (name!(table_name, Text), name!(freed, i64), name!(held_back_by, Vec<Text>))>,
    ErrorReport,
> {
    transaction::require_writable(c"tx_prune()")?;
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    let rows = prune::prune()?.into_iter().map(|row| {
        let targets = row.held_back_by.into_iter().map(Text::from).collect();
        (row.table.into(), row.freed, targets)
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Makes a copy read-only for everyone but imports.
#[pg_extern(sql = false)]
fn tx_protect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_protect()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(protect::protect(required("relation", relation)?, &caller)?.into())
}

/// Lets everyone write to a copy again.
#[pg_extern(sql = false)]
fn tx_unprotect(relation: Option<Oid>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_unprotect()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(protect::unprotect(required("relation", relation)?, &caller)?.into())
}

/// Returns the CREATE TABLE for a destination.
#[pg_extern(sql = false)]
fn tx_ddl(relation: Oid) -> Result<Text, ErrorReport> {
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(ddl::create_table(relation)?.into())
}

/// Counts what lies in the shadow of a tracked table.
#[pg_extern(sql = false)]
fn shadow_size(
    id: i32,
) -> Result<TableIterator<'static, (name!(changes, i64), name!(bytes, i64))>, ErrorReport> {
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    let size = status::shadow_size(id)?;
    Ok(TableIterator::once((size.changes, size.bytes)))
}

/// Counts the changes that the next export of a target finds; no row if it is full.
#[pg_extern(sql = false)]
fn pending_changes(
    target: Text,
) -> Result<TableIterator<'static, (name!(changes, i64), name!(bytes, i64))>, ErrorReport> {
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    let pending = status::pending_changes(&target)?;
    Ok(TableIterator::new(pending.into_iter().map(|size| (size.changes, size.bytes))))
}

/// Refuses null where a value is needed. The functions are not STRICT: a null would make them do nothing, in silence.
fn required<T>(argument: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::NullArgument { argument })
}

fn target_name(target: Option<&str>) -> Result<&str, Error> {
    match required("target", target)? {
        "" => Err(Error::Argument {
            argument: "target",
            value: String::new(),
            allowed: "any name, such as host/database",
        }),
        target => Ok(target),
    }
}

/// Opens the store that the caller has named, if it may, or the configured one.
fn open_store(location: Option<&str>, role: &'static CStr, caller: &Caller) -> Result<Arc<dyn Store>, Error> {
    let configured = guc::store();
    let named = location.filter(|&location| configured.as_deref() != Some(location));
    named.map_or(Ok(()), store::refuse_secrets)?;
    if let Some(location) = named
        && !caller.has_role(role)
    {
        return Err(Error::StoreNotAllowed {
            location: location.to_owned(),
            role: role.to_str().unwrap_or_default(),
        });
    }
    match named.map(str::to_owned).or(configured) {
        Some(location) => Ok(store::open(&location, interrupts::pending)?),
        None => default_store(),
    }
}

/// Opens the folder pg_table_export in the data directory. Batches are in a folder of it whose name tells pg_basebackup
/// to leave it out (basebackup.c, sendDir): their paths are longer than a tar header of PostgreSQL takes, and a backup
/// would carry batches that the database, restored, does not know.
fn default_store() -> Result<Arc<dyn Store>, Error> {
    let folder = transaction::data_directory().join("pg_table_export");
    store::create(&folder)?;
    Ok(store::create(&folder.join("pgsql_tmp.store"))?)
}

/// Milliseconds, to the microsecond.
fn milliseconds(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1000.0
}

fn parse_format(format: &str) -> Result<Format, Error> {
    match format {
        "text" => Ok(Format::Text),
        "binary" => Ok(Format::Binary),
        "csv" => Ok(Format::Csv),
        _ => Err(Error::Argument {
            argument: "format",
            value: format.to_owned(),
            allowed: "text, binary, csv",
        }),
    }
}

fn parse_mode(mode: &str) -> Result<Mode, Error> {
    match mode {
        "merge" => Ok(Mode::Merge),
        "append" => Ok(Mode::Append),
        _ => Err(Error::Argument { argument: "mode", value: mode.to_owned(), allowed: "merge, append" }),
    }
}

fn parse_limit(limit: i32) -> Result<u64, Error> {
    let refused =
        |_| Error::Argument { argument: "max_batches", value: limit.to_string(), allowed: "0 or more" };
    u64::try_from(limit).map_err(refused)
}

fn parse_compression(compression: &str) -> Result<Compression, Error> {
    match compression {
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        value => {
            Err(Error::Argument { argument: "compression", value: value.to_owned(), allowed: "zstd, none" })
        }
    }
}
