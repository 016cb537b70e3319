//! Retention: removing batches that are no longer needed.
//!
//! The latest full batch, compacted or not, and all batches after it are needed: a new destination begins
//! with them. So are, where there is none, the baseline that a target begins with and all batches after it.
//! The latest batch of all is needed too: a destination that has applied it sees by it that the store is the
//! right one.
//!
//! Invariant: the manifest of a batch is removed first, so every batch that can be found can be read. Only
//! the oldest batches are removed, so none is missing between two others.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::manifest::Manifest;
use super::names::BatchRange;
use super::{Error, path, reader};
use store::Store;

/// How long the files of a compaction may wait for the compacted batch. It cannot be known whether they still
/// will have one.
pub const COMPACTION_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is kept beside what is needed.
pub struct Keep<'a> {
    /// Batches that show this instant, or a later one: ISO 8601 in UTC.
    pub from: &'a str,
    /// So many of the latest.
    pub latest: u64,
    /// What some destination that has left a receipt has not applied.
    pub unreceived: bool,
}

/// A batch that was removed.
pub struct Removed {
    /// Its number.
    pub number: u64,
    /// What it was; `None` if it could not be read.
    pub manifest: Option<Manifest>,
}

/// Removes the oldest batches, up to the first that `keep` protects.
pub fn expire(store: &dyn Store, target: &str, keep: &Keep) -> Result<Vec<Removed>, Error> {
    let numbers = reader::numbers(store, target, 0)?;
    let runs = reader::runs(store, target, 0)?;
    let Some(end) = first_needed(store, target, &numbers, &runs)? else { return Ok(Vec::new()) };
    let latest = numbers.last().copied().unwrap_or_default();
    let received = if keep.unreceived { received(store, target)? } else { u64::MAX };
    let mut removed = Vec::new();
    for &number in &numbers {
        let may_go = number < end
            && number < latest
            && number.saturating_add(keep.latest) <= latest
            && number <= received;
        if !may_go {
            break;
        }
        let manifest = match reader::manifest(store, target, number) {
            Ok(manifest) if manifest.created_at.as_str() >= keep.from => break,
            Ok(manifest) => Some(manifest),
            // No destination can use it.
            Err(Error::Manifest { .. }) => None,
            Err(error) => return Err(error),
        };
        removed.push(Removed { number, manifest });
    }
    let Some(last) = removed.last().map(|removed| removed.number) else { return Ok(removed) };
    let (gone, left) = runs.into_iter().partition::<Vec<_>, _>(|run| run.last <= last && run.last + 1 < end);
    let mut ids =
        removed.iter().filter_map(|removed| Some(removed.manifest.as_ref()?.id)).collect::<HashSet<_>>();
    for run in gone {
        match reader::compacted(store, target, run) {
            Ok(compacted) => ids.insert(compacted.batch.id),
            Err(Error::Manifest { .. }) => false,
            Err(error) => return Err(error),
        };
        store.remove(&path::compacted(target, run)?)?;
    }
    for Removed { number, .. } in &removed {
        store.remove(&path::manifest(target, *number)?)?;
    }
    remove_data(store, target, last, &ids, &left)?;
    Ok(removed)
}

/// Returns the number of the first batch with a manifest of its own that a new destination needs, or the one
/// after the compacted batch that it begins with; `None` if it could not begin.
fn first_needed(
    store: &dyn Store,
    target: &str,
    numbers: &[u64],
    runs: &[BatchRange],
) -> Result<Option<u64>, Error> {
    for run in runs.iter().rev().filter(|run| run.is_full()) {
        match reader::compacted(store, target, *run) {
            Ok(_) => {
                return latest_full(store, target, numbers, run.last).map(|full| full.or(Some(run.last + 1)));
            }
            Err(Error::Manifest { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    latest_full(store, target, numbers, 0)
}

/// Returns the latest full batch after a number, else the baseline.
fn latest_full(store: &dyn Store, target: &str, numbers: &[u64], after: u64) -> Result<Option<u64>, Error> {
    for &number in numbers.iter().rev().take_while(|number| **number > after) {
        match reader::manifest(store, target, number) {
            Ok(manifest) if manifest.kind.begins() => return Ok(Some(number)),
            Ok(_) | Err(Error::Manifest { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Returns the last batch that every destination has applied that has left a receipt; 0 if there is none.
fn received(store: &dyn Store, target: &str) -> Result<u64, Error> {
    let mut least = None;
    for folder in reader::destinations(store, target)? {
        if let Some(receipt) = reader::receipt(store, target, &folder)? {
            least = Some(least.map_or(receipt.number, |least: u64| least.min(receipt.number)));
        }
    }
    Ok(least.unwrap_or(0))
}

/// Removes the data of the batches up to a number: of those with the given ids, and what has been abandoned.
/// What the compacted ones have that are left stays.
fn remove_data(
    store: &dyn Store,
    target: &str,
    last: u64,
    ids: &HashSet<Uuid>,
    left: &[BatchRange],
) -> Result<(), Error> {
    for number in store.list(&path::all_data(target)?, "")?.iter().filter_map(|name| path::data_number(name))
    {
        if number > last {
            continue;
        }
        let mut kept = Vec::new();
        for run in left.iter().filter(|run| run.last == number) {
            kept.push(reader::compacted(store, target, *run)?.batch.id);
        }
        let folder = path::attempts(target, number)?;
        let names = store.list(&folder, "")?;
        let stays = |name: &String| {
            Uuid::parse_str(name).is_ok_and(|id| kept.contains(&id) || (is_young(id) && !ids.contains(&id)))
        };
        if names.iter().any(stays) {
            for name in names.iter().filter(|name| !stays(name)) {
                store.remove(&format!("{folder}/{name}"))?;
            }
        } else {
            store.remove(&folder)?;
        }
    }
    Ok(())
}

/// Says whether an attempt may still become a compacted batch.
fn is_young(id: Uuid) -> bool {
    let began = id.get_timestamp().map(|time| time.to_unix().0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    began.is_some_and(|began| began + COMPACTION_MAX.as_secs() > now)
}
