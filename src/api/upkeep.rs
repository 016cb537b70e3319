//! The SQL functions of upkeep: compaction, expiry, status, reset.

use batch::Part;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::api::arguments::{
    milliseconds, parse_age, parse_limit, parse_number, required, target_name, time,
};
use crate::api::call::Call;
use crate::error::{Error, Shared};
use crate::pg::Oid;
use crate::pg::text::Text;
use crate::source::resend;
use crate::upkeep::{compact, expire, reset, status};

/// Writes one compacted batch for a range of batches of a target. It writes to the store only, so the
/// database need not be writable.
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
    let call = Call::enter()?;
    let target = target_name(target.as_deref())?;
    let (first, last) = (parse_number("first", first)?, parse_number("last", last)?);
    if let (Some(first), Some(last)) = (first, last)
        && first > last
    {
        return Err(Error::from(Shared::Argument {
            argument: "first",
            value: first.to_string(),
            allowed: "up to last".into(),
        })
        .into());
    }
    let store = call.store_to_write(store.as_deref())?;
    let (parts, batches) = compact::compact(&compact::Request { target, first, last }, &store)?;
    let rows = parts.into_iter().map(|row| {
        (
            row.batch as i64,
            batches as i64,
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

/// Removes the oldest batches of a target that no destination needs any more.
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
    let call = Call::writable("tx_expire()")?;
    let request = expire::Request {
        target: target_name(target.as_deref())?,
        older_than: parse_age(required("older_than", older_than)?)?,
        keep_batches: parse_limit("keep_batches", required("keep_batches", keep_batches)?)?,
        only_received: only_received.unwrap_or(false),
    };
    let store = call.store_to_write(store.as_deref())?;
    let rows = expire::expire(&request, store.as_ref())?.into_iter().map(|removed| {
        let batch = removed.number as i64;
        let Some(manifest) = removed.manifest else { return (batch, None, None, None) };
        let bytes = manifest.parts.iter().map(Part::bytes).sum::<u64>() as i64;
        (batch, Some(manifest.kind.name().into()), time(&manifest.created_at), Some(bytes))
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Lists what each destination has applied, by the receipts in the store.
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
            name!(verified_at, Option<TimestampWithTimeZone>),
            name!(verified_batch, Option<i64>),
            name!(verified, Option<bool>),
        ),
    >,
    ErrorReport,
> {
    let call = Call::enter()?;
    let target = target.as_deref().map(|target| target_name(Some(target))).transpose()?;
    let store = call.store_to_read(store.as_deref())?;
    let rows = status::status(target, store.as_ref())?.into_iter().map(|status| {
        let receipt = status.receipt.as_ref();
        let verified = receipt.and_then(|receipt| receipt.verified.as_ref());
        (
            status.target.into(),
            status.last_batch as i64,
            time(&status.exported_at),
            receipt.map(|receipt| receipt.destination.as_str().into()),
            receipt.map(|receipt| receipt.number as i64),
            status.pending.map(|pending| pending as i64),
            receipt.and_then(|receipt| time(&receipt.exported_at)),
            receipt.and_then(|receipt| time(&receipt.applied_at)),
            verified.and_then(|verified| time(&verified.at)),
            verified.map(|verified| verified.number as i64),
            verified.and_then(|verified| verified.equal),
        )
    });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Makes a target start again from a full batch.
#[pg_extern(sql = false)]
fn tx_reset(target: Option<Text>, relation: Option<Oid>, store: Option<Text>) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_reset()")?;
    let store = call.store_to_read(store.as_deref())?;
    Ok(reset::reset(target_name(target.as_deref())?, relation, store.as_ref())?.into())
}

/// Has the next export send keys of a table once more; without any, the whole table.
#[pg_extern(sql = false)]
fn tx_resend(
    target: Option<Text>,
    relation: Option<Oid>,
    keys: Option<Vec<Option<Text>>>,
) -> Result<Text, ErrorReport> {
    let call = Call::writable("tx_resend()")?;
    let (target, relation) = (target_name(target.as_deref())?, required("relation", relation)?);
    let keys = required("keys", keys)?;
    if keys.is_empty() {
        let store = call.store_to_read(None)?;
        return Ok(reset::reset(target, Some(relation), store.as_ref())?.into());
    }
    let keys = keys.iter().map(|key| key.as_ref().map_or_else(String::new, Text::to_string));
    Ok(resend::resend(target, relation, &keys.collect::<Vec<_>>(), &call.caller)?.into())
}

/// Removes a target and all that is recorded about it.
#[pg_extern(sql = false)]
fn tx_forget(target: Option<Text>) -> Result<Text, ErrorReport> {
    let _call = Call::writable("tx_forget()")?;
    Ok(reset::forget(target_name(target.as_deref())?)?.into())
}
