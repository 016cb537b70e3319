//! The SQL surface: what SQL calls is here, and hands on to the stage that does it. `sql/functions.sql` declares it.
//!
//! Each function runs as the owner of the extension, with settings pinned; what the caller may do is asked of the
//! [`Caller`].

#![allow(clippy::type_complexity, reason = "pgrx reads the names of the columns from the signature")]

use std::ffi::CStr;
use std::sync::Arc;
use std::time::Duration;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use crate::destination::apply::{Changed, Mode, Options};
use crate::destination::resolve::{Allowed, NewColumns};
use crate::destination::{import, mapping, pending, protect};
use crate::error::Error;
use crate::guc;
use crate::pg::text::Text;
use crate::pg::transaction::Obstacle;
use crate::pg::trigger::Firing;
use crate::pg::user::Caller;
use crate::pg::{Oid, interrupts, settings, transaction};
use crate::source::shadow::size;
use crate::source::{capture, ddl, export, prune, restriction, track};
use crate::upkeep::{compact, expire, reset, status};
use batch::{Compression, Format, Part};
use store::Store;

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
    since: Option<i64>,
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
        since: parse_number("since", since)?,
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
    transaction::require_writable(c"tx_import()")?;
    let caller = Caller::enter()?;
    let settings = settings::pin();
    settings.replica_role();
    let request = import_request(
        target.as_deref(),
        max_batches,
        mode.as_deref(),
        new_columns.as_deref(),
        create_tables,
        delete_limit,
    )?;
    let store = open_store(store.as_deref(), c"pg_read_server_files", &caller)?;
    let rows = import::import(&request, store.as_ref(), &caller)?.into_iter().flat_map(rows_of);
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Says what an import would do.
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
    transaction::require_writable(c"tx_plan()")?;
    let caller = Caller::enter()?;
    let settings = settings::pin();
    settings.replica_role();
    let request = import_request(
        target.as_deref(),
        max_batches,
        mode.as_deref(),
        new_columns.as_deref(),
        create_tables,
        delete_limit,
    )?;
    let store = open_store(store.as_deref(), c"pg_read_server_files", &caller)?;
    let (imported, obstacle) = import::plan(&request, store.as_ref(), &caller)?;
    let done = imported.into_iter().flat_map(rows_of).map(
        |(batch, table, kind, deleted, updated, inserted, unchanged, bytes, _)| {
            let (deleted, updated, inserted) = (Some(deleted), Some(updated), Some(inserted));
            (Some(batch), table, Some(kind), deleted, updated, inserted, Some(unchanged), Some(bytes), None)
        },
    );
    let stopped = obstacle.map(|Obstacle { message, hint }| {
        let text = [Some(message), hint].into_iter().flatten().collect::<Vec<_>>().join(". ");
        (None, None, None, None, None, None, None, None, Some(Text::from(text)))
    });
    Ok(TableIterator::new(done.chain(stopped).collect::<Vec<_>>()))
}

/// A row of tx_import.
type ImportRow = (i64, Option<Text>, Text, i64, i64, i64, i64, i64, f64);

/// A row for each part of a batch; one without a table for a batch that has no part.
fn rows_of(batch: import::Imported) -> Vec<ImportRow> {
    let number = batch.number as i64;
    if batch.parts.is_empty() {
        return vec![(number, None, batch.kind.into(), 0, 0, 0, 0, 0, 0.0)];
    }
    let rows = batch.parts.into_iter().map(|part| {
        let Changed { deleted, updated, inserted, unchanged } = part.changed;
        (
            number,
            Some(part.table.into()),
            part.kind.into(),
            deleted as i64,
            updated as i64,
            inserted as i64,
            unchanged as i64,
            part.bytes as i64,
            milliseconds(part.elapsed),
        )
    });
    rows.collect()
}

/// Has imports write a table of the source into another one here.
#[pg_extern(sql = false)]
fn tx_map(
    target: Option<Text>,
    source_table: Option<Text>,
    relation: Option<Oid>,
    columns: Option<Text>,
) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_map()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let (target, relation) = (target_name(target.as_deref())?, required("relation", relation)?);
    let source_table = required("source_table", source_table.as_deref())?;
    Ok(mapping::map(target, source_table, relation, columns.as_deref(), &caller)?.into())
}

/// Has imports write a table of the source into the one of the same name again.
#[pg_extern(sql = false)]
fn tx_unmap(target: Option<Text>, source_table: Option<Text>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_unmap()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let source_table = required("source_table", source_table.as_deref())?;
    Ok(mapping::unmap(target_name(target.as_deref())?, source_table, &caller)?.into())
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

/// Gives a target a table, and none that it is not given.
#[pg_extern(sql = false)]
fn tx_restrict(target: Option<Text>, relation: Option<Oid>, view: Option<Oid>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_restrict()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let (target, relation) = (target_name(target.as_deref())?, required("relation", relation)?);
    Ok(restriction::restrict(target, relation, view, &caller)?.into())
}

/// Takes a table from a restricted target, or gives it all tracked tables again.
#[pg_extern(sql = false)]
fn tx_unrestrict(target: Option<Text>, relation: Option<Oid>) -> Result<Text, ErrorReport> {
    transaction::require_writable(c"tx_unrestrict()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(restriction::unrestrict(target_name(target.as_deref())?, relation, &caller)?.into())
}

/// Compacts batches of a target in a store.
#[pg_extern(sql = false)]
fn tx_compact(
    target: Option<Text>,
    store: Option<Text>,
    first: Option<i64>,
    last: Option<i64>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(batches, i64),
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
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let target = target_name(target.as_deref())?;
    let (first, last) = (parse_number("first", first)?, parse_number("last", last)?);
    if let (Some(first), Some(last)) = (first, last)
        && first > last
    {
        return Err(
            Error::Argument { argument: "first", value: first.to_string(), allowed: "up to last" }.into()
        );
    }
    let store = open_store(store.as_deref(), c"pg_write_server_files", &caller)?;
    let rows = compact::compact(&compact::Request { target, first, last }, &store)?.into_iter().map(|row| {
        (
            row.batch as i64,
            row.batches as i64,
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

/// Removes batches of a target that nobody needs.
#[pg_extern(sql = false)]
fn tx_expire(
    target: Option<Text>,
    older_than: Option<Interval>,
    keep_batches: Option<i32>,
    only_received: Option<bool>,
    store: Option<Text>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(batch, i64),
            name!(kind, Option<Text>),
            name!(exported_at, Option<TimestampWithTimeZone>),
            name!(bytes, Option<i64>),
        ),
    >,
    ErrorReport,
> {
    transaction::require_writable(c"tx_expire()")?;
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let request = expire::Request {
        target: target_name(target.as_deref())?,
        older_than: parse_age(required("older_than", older_than)?)?,
        keep_batches: parse_limit("keep_batches", required("keep_batches", keep_batches)?)?,
        only_received: only_received.unwrap_or(false),
    };
    let store = open_store(store.as_deref(), c"pg_write_server_files", &caller)?;
    let rows = expire::expire(&request, store.as_ref())?.into_iter().map(|removed| {
        let batch = removed.number as i64;
        let Some(manifest) = removed.manifest else { return (batch, None, None, None) };
        let bytes = manifest.parts.iter().map(Part::bytes).sum::<u64>() as i64;
        (batch, Some(manifest.kind.name().into()), time(&manifest.created_at), Some(bytes))
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Lists what destinations have applied, as far as they have said so in the store.
#[pg_extern(sql = false)]
fn tx_status(
    target: Option<Text>,
    store: Option<Text>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(target, Text),
            name!(last_batch, i64),
            name!(exported_at, Option<TimestampWithTimeZone>),
            name!(destination, Option<Text>),
            name!(applied, Option<i64>),
            name!(pending, Option<i64>),
            name!(shows, Option<TimestampWithTimeZone>),
            name!(applied_at, Option<TimestampWithTimeZone>),
        ),
    >,
    ErrorReport,
> {
    let caller = Caller::enter()?;
    let _settings = settings::pin();
    let target = target.as_deref().map(|target| target_name(Some(target))).transpose()?;
    let store = open_store(store.as_deref(), c"pg_read_server_files", &caller)?;
    let rows = status::status(target, store.as_ref())?.into_iter().map(|status| {
        let receipt = status.receipt.as_ref();
        (
            status.target.into(),
            status.last_batch as i64,
            time(&status.exported_at),
            receipt.map(|receipt| receipt.destination.as_str().into()),
            receipt.map(|receipt| receipt.number as i64),
            status.pending.map(|pending| pending as i64),
            receipt.and_then(|receipt| time(&receipt.exported_at)),
            receipt.and_then(|receipt| time(&receipt.applied_at)),
        )
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
    let size = size::shadow_size(id)?;
    Ok(TableIterator::once((size.changes, size.bytes)))
}

/// Counts the changes that the next export of a target finds; no row if it is full.
#[pg_extern(sql = false)]
fn pending_changes(
    target: Text,
) -> Result<TableIterator<'static, (name!(changes, i64), name!(bytes, i64))>, ErrorReport> {
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    let pending = size::pending_changes(&target)?;
    Ok(TableIterator::new(pending.into_iter().map(|size| (size.changes, size.bytes))))
}

/// Counts the batches in the store that have not been applied here.
#[pg_extern(sql = false)]
fn pending_batches(target: Text) -> Result<Option<i64>, ErrorReport> {
    let _caller = Caller::enter()?;
    let _settings = settings::pin();
    Ok(pending::pending_batches(&target)?.map(|batches| batches as i64))
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

/// Checks the arguments that tx_import and tx_plan share.
fn import_request<'a>(
    target: Option<&'a str>,
    max_batches: Option<i32>,
    mode: Option<&str>,
    new_columns: Option<&str>,
    create_tables: Option<bool>,
    delete_limit: Option<i32>,
) -> Result<import::Request<'a>, Error> {
    let target = target_name(target)?;
    let max_batches = max_batches.map(|limit| parse_limit("max_batches", limit)).transpose()?;
    let refused = |limit: i32| Error::Argument {
        argument: "delete_limit",
        value: limit.to_string(),
        allowed: "0 to 100, in percent",
    };
    let delete_limit = match delete_limit {
        None => guc::delete_limit(),
        Some(limit) => {
            u32::try_from(limit).ok().filter(|&limit| limit <= 100).ok_or_else(|| refused(limit))?
        }
    };
    let mode = parse_mode(required("mode", mode)?)?;
    let allowed = Allowed {
        new_columns: parse_new_columns(required("new_columns", new_columns)?)?,
        create_tables: create_tables.unwrap_or(false),
    };
    Ok(import::Request { target, max_batches, options: Options { mode, allowed, delete_limit } })
}

fn parse_new_columns(choice: &str) -> Result<NewColumns, Error> {
    match choice {
        "refuse" => Ok(NewColumns::Refuse),
        "add" => Ok(NewColumns::Add),
        "ignore" => Ok(NewColumns::Ignore),
        _ => Err(Error::Argument {
            argument: "new_columns",
            value: choice.to_owned(),
            allowed: "refuse, add, ignore",
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

fn parse_limit(argument: &'static str, limit: i32) -> Result<u64, Error> {
    u64::try_from(limit).map_err(|_| Error::Argument {
        argument,
        value: limit.to_string(),
        allowed: "0 or more",
    })
}

fn parse_number(argument: &'static str, number: Option<i64>) -> Result<Option<u64>, Error> {
    let refused = |number: i64| Error::Argument { argument, value: number.to_string(), allowed: "1 or more" };
    let parse =
        |number| u64::try_from(number).ok().filter(|&number| number > 0).ok_or_else(|| refused(number));
    number.map(parse).transpose()
}

/// Returns an age in microseconds.
fn parse_age(age: Interval) -> Result<u64, Error> {
    let micros = age.as_micros();
    u64::try_from(micros).map_err(|_| Error::Argument {
        argument: "older_than",
        value: format!("{} s", micros / 1_000_000),
        allowed: "no negative interval",
    })
}

/// Returns an instant of a manifest; `None` if PostgreSQL knows no such day.
fn time(text: &str) -> Option<TimestampWithTimeZone> {
    text.parse().ok()
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
