//! Batches in the store that this database does not know: how a forked history heals.
//!
//! There are such batches when an export published and its transaction did not commit, when a standby was
//! promoted without the last commits, when the database was restored to an earlier point, or when its files
//! were copied. One rule heals all of these: the next batch follows them, and has their keys as well as its
//! own, with the records as they are here and now. Positions come from the catalog alone, so write access to
//! the store can make an export send more, never less.

use std::io;

use uuid::Uuid;

use crate::catalog::{DatabaseIdentity, Target};
use crate::error::{Error, Result};
use crate::guc;
use crate::pg::copy;
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::source::error::HistoryError;
use crate::source::shadow::read;
use crate::table::error::TableError;
use crate::table::key::KeyColumn;
use crate::table::shape::Shape;
use batch::{Format, Manifest, Part, Publisher, reader};
use store::Store;

/// How many parts of unknown batches are kept in memory, where each takes less than a kilobyte.
const UNKNOWN_PARTS_MAX: usize = 250_000;

/// Where the next batch of a target continues, and what it has to heal: what the store holds after the last
/// batch that we know.
pub struct Continuation {
    /// The number that the next batch takes.
    pub next: u64,
    /// The batch that it follows.
    pub previous: Option<Uuid>,
    /// The databases that have published the target before this one.
    pub former_publishers: Vec<Publisher>,
    /// The unknown batches, which the next batch heals. None after a reset, because that starts anew.
    pub unknown: Vec<Manifest>,
    /// Whether keys of the unknown batches cannot be known: some are gone from the store, or they have more
    /// parts than are kept in memory.
    pub has_gap: bool,
}

/// What unknown batches have done to a table.
pub enum Healing {
    /// Nothing.
    Nothing,
    /// They touched the keys in this table, which has the columns k1 … kn.
    Keys(String),
    /// They replaced all of it, or ranges, or had another key: it is sent in full.
    Everything,
}

/// Requires that a store holds the last batch of a target, or later ones, unless the last one was published
/// to it, and has been taken away since. After a reset a full batch needs none before it.
pub fn require_last_batch(store: &dyn Store, name: &str, target: Option<&Target>) -> Result<()> {
    let Some(Target { position: Some(_), number: number @ 1.., store: Some(last), .. }) = target else {
        return Ok(());
    };
    let url = store.url();
    if guc::is_same_store(last, &url) || !reader::numbers(store, name, number - 1)?.is_empty() {
        return Ok(());
    }
    let (target, last) = (name.to_owned(), last.clone());
    Err(HistoryError::OtherStore { target, number: *number, store: url, last }.into())
}

/// Looks for batches after the last one that this database published for a target. Returns where the next
/// batch continues.
///
/// # Errors
/// A batch came from another database or a later timeline, or cannot be read. Another database publishes the
/// target and has not been told to stop: the target's row has come here with a copy of that database.
pub fn inspect(
    store: &dyn Store,
    name: &str,
    target: Option<&Target>,
    source: &DatabaseIdentity,
) -> Result<Continuation> {
    if let Some(Target { publisher: Some(publisher), number, .. }) = target
        && *publisher != source.publisher
    {
        let publisher = publisher.to_string();
        return Err(other_publisher(name, *number, publisher, source));
    }
    let known = target.map_or(0, |target| target.number);
    let last = target.and_then(|target| target.batch.as_deref()).and_then(|id| Uuid::parse_str(id).ok());
    let former = target.map_or_else(Vec::new, |target| target.former_publishers.clone());
    let numbers = reader::numbers(store, name, known)?;
    let next = numbers.last().copied().unwrap_or(known) + 1;
    if target.is_some_and(|target| target.position.is_none()) {
        // The batch before is named if it can be read; a full batch needs none.
        let before = numbers.last().and_then(|&number| reader::manifest(store, name, number).ok());
        if let Some(before) = &before
            && !former.contains(&before.source.publisher())
        {
            require_publisher(before, source)?;
        }
        let previous = if numbers.is_empty() { last } else { before.map(|before| before.id) };
        return Ok(Continuation {
            next,
            previous,
            former_publishers: former,
            unknown: Vec::new(),
            has_gap: false,
        });
    }
    let (unknown, parts) = read_unknown(store, name, &numbers, source)?;
    let previous = unknown.last().map(|manifest| manifest.id).or(last);
    let before = std::iter::once(last).chain(unknown.iter().map(|manifest| Some(manifest.id)));
    let is_gone = unknown.iter().zip(before).any(|(manifest, before)| manifest.previous != before);
    let has_gap = is_gone || parts > UNKNOWN_PARTS_MAX;
    let former_publishers = unknown.last().map_or(former, |manifest| manifest.former_publishers.clone());
    Ok(Continuation { next, previous, former_publishers, unknown, has_gap })
}

/// Reads the manifests of unknown batches, and counts their parts. This database must have published the last
/// one; of the others it may have taken the target over from those that this one names.
fn read_unknown(
    store: &dyn Store,
    name: &str,
    numbers: &[u64],
    source: &DatabaseIdentity,
) -> Result<(Vec<Manifest>, usize)> {
    let Some((&last, earlier)) = numbers.split_last() else { return Ok((Vec::new(), 0)) };
    let read = |number| {
        reader::manifest(store, name, number).map_err(|reason| HistoryError::UnreadableUnknown {
            target: name.to_owned(),
            number,
            reason,
        })
    };
    let last = read(last)?;
    require_publisher(&last, source)?;
    require_past(&last, source)?;
    let (mut unknown, mut parts) = (Vec::new(), 0);
    for &number in earlier {
        let manifest = read(number)?;
        if !last.former_publishers.contains(&manifest.source.publisher()) {
            require_publisher(&manifest, source)?;
            require_past(&manifest, source)?;
        }
        parts += manifest.parts.len();
        unknown.push(lean(manifest, parts <= UNKNOWN_PARTS_MAX));
    }
    parts += last.parts.len();
    unknown.push(last);
    Ok((unknown, parts))
}

/// Leaves of a manifest what healing looks at, because all unknown ones are kept until the end: the columns
/// of keys, and no parts at all if there are too many.
fn lean(mut manifest: Manifest, keeps_parts: bool) -> Manifest {
    manifest.unchanged = Vec::new();
    if !keeps_parts {
        manifest.parts = Vec::new();
    }
    for part in &mut manifest.parts {
        part.columns.retain(|column| part.key.contains(&column.name));
        part.columns.shrink_to_fit();
        part.columns.iter_mut().for_each(|column| column.definition = None);
        // That there is a range is enough: it cannot be healed.
        part.ranges.truncate(1);
        part.ranges.iter_mut().for_each(|range| *range = Vec::new());
    }
    manifest
}

/// Requires that this database has published a batch.
fn require_publisher(manifest: &Manifest, ours: &DatabaseIdentity) -> Result<()> {
    if manifest.source.publisher() == ours.publisher {
        return Ok(());
    }
    Err(other_publisher(&manifest.target, manifest.number, manifest.source.to_string(), ours))
}

/// Requires that a batch was published on this timeline or an earlier one.
fn require_past(manifest: &Manifest, ours: &DatabaseIdentity) -> Result<()> {
    let (target, number, theirs) = (manifest.target.clone(), manifest.number, manifest.source.timeline);
    if theirs > ours.timeline {
        return Err(HistoryError::NewerTimeline { target, number, theirs, ours: ours.timeline }.into());
    }
    Ok(())
}

fn other_publisher(target: &str, number: u64, publisher: String, ours: &DatabaseIdentity) -> Error {
    let (target, here) = (target.to_owned(), ours.database_name.clone());
    HistoryError::OtherDatabase { target, number, publisher, here }.into()
}

/// Collects the keys of a table in unknown batches into a temporary table.
///
/// This assigns a transaction id, before the snapshot of the export is taken: its position counts that id as
/// in progress.
pub fn collect_keys(
    store: &dyn Store,
    unknown: &[Manifest],
    id: i32,
    table: &Table,
    shape: &Shape,
    key: &[KeyColumn],
    caller: &Caller,
) -> Result<Healing> {
    let is_this = |part: &&Part| part.schema == shape.schema && part.name == shape.name;
    let parts = unknown
        .iter()
        .filter_map(|manifest| manifest.parts.iter().find(is_this).map(|part| (manifest, part)))
        .collect::<Vec<_>>();
    if parts.is_empty() {
        return Ok(Healing::Nothing);
    }
    let cannot_heal =
        |part: &Part| part.kind.begins() || !part.ranges.is_empty() || !has_key(part, shape, key);
    if parts.iter().any(|(_, part)| cannot_heal(part)) {
        return Ok(Healing::Everything);
    }
    let (oid, name) = read::create_healed(id, &table.owner_name()?)?;
    let healed = Table::open(oid, Lock::Write).ok_or(TableError::NoTable { oid: oid.to_u32() })?;
    let columns = (1..=key.len()).map(|k| format!("k{k}")).collect::<Vec<_>>();
    let columns = columns.iter().map(String::as_str).collect::<Vec<_>>();
    for (manifest, part) in parts {
        let unreadable = |reason| HistoryError::UnreadableUnknown {
            target: manifest.target.clone(),
            number: manifest.number,
            reason,
        };
        let open = || reader::ids(store, manifest, part).map_err(unreadable);
        // Read to its end before it is used, so that a damaged one is told from a key that cannot be read.
        io::copy(&mut open()?, &mut io::sink()).map_err(|error| unreadable(error.into()))?;
        // Reading a value can run code of its type.
        caller.as_owner(table, || -> Result<_> {
            copy::copy_from(&healed, &columns, Format::Text.name(), open()?)
        })?;
    }
    Ok(Healing::Keys(name))
}

/// Says whether a part has the key that the table has now, in names and types.
fn has_key(part: &Part, shape: &Shape, key: &[KeyColumn]) -> bool {
    let names = key.iter().map(|column| &column.name);
    names.eq(&part.key)
        && part.key.iter().all(|name| {
            let theirs = part.columns.iter().find(|column| column.name == *name);
            let ours = shape.columns.iter().find(|column| column.name == *name);
            matches!((theirs, ours), (Some(theirs), Some(ours)) if theirs.type_name == ours.type_name)
        })
}
