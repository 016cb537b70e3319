//! Compaction: writes one batch that has the effect of a range of batches in a store. The originals stay.
//!
//! Input: the numbers of the range. Output: the parts of the compacted batch, after it has been published.
//!
//! Invariant: only the store is read and written. Exports and imports are not blocked, and any database can
//! run it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use crate::error::{Error, Result, Shared};
use crate::fault::{self, Point};
use crate::pg::{interrupts, message, settings};
use crate::upkeep::error::UpkeepError;
use batch::{
    self, BatchRange, COMPACTION_MAX, Compression, Header, Kind, Link, Manifest, Part, PartSummary, Reading,
    Writer, compact_part, reader,
};
use store::Store;

/// What to compact.
pub struct Request<'a> {
    pub target: &'a str,
    /// The number of the first batch. `None` is the latest full batch or baseline up to `last`; the result
    /// then stands by itself.
    pub first: Option<u64>,
    /// The number of the last batch; `None` is the latest.
    pub last: Option<u64>,
}

/// Publishes a compacted batch for a range of batches. Returns its parts, and for how many batches it stands.
/// Raises a notice and returns no part if the range is a single batch, or has been compacted already.
pub fn compact(request: &Request, store: &Arc<dyn Store>) -> Result<(Vec<PartSummary>, usize)> {
    let target = request.target;
    let began = Instant::now();
    let numbers = reader::numbers(store.as_ref(), target, 0)?;
    let Some(&latest) = numbers.last() else { return Err(Shared::no_batch(target, store.as_ref()).into()) };
    let last = request.last.unwrap_or(latest);
    let chain = match request.first {
        Some(first) => BatchRun::between(store.as_ref(), target, first, last)?,
        None => BatchRun::from_full(store.as_ref(), target, last)?,
    };
    let run = chain.run();
    if chain.links.len() < 2 || reader::runs(store.as_ref(), target, last - 1)?.contains(&run) {
        message::notice(format!("there is nothing to compact up to batch {last} of target \"{target}\""));
        return Ok((Vec::new(), 0));
    }
    let writer = Writer::new(Arc::clone(store), target, last, Compression::Zstd)?;
    let memory = settings::maintenance_memory();
    let reading =
        Reading { store: store.as_ref(), memory, interrupted: interrupts::pending, doing: "compact" };
    let (mut compacted, mut parts) = (Vec::new(), Vec::new());
    for of_table in chain.tables().into_values() {
        let started = Instant::now();
        let part = compact_part(&writer, reading, &of_table)?;
        compacted.push(PartSummary::of(last, &part, started));
        parts.push(part);
        fault::point(Point::CompactPartWritten);
    }
    if began.elapsed() > COMPACTION_MAX {
        return Err(UpkeepError::CompactionTooLong { target: target.to_owned() }.into());
    }
    publish(writer, &chain, parts)?;
    fault::point(Point::CompactPublished);
    Ok((compacted, chain.links.len()))
}

/// Batches each of which follows the one before it, or is full.
#[derive(Default)]
struct BatchRun {
    /// The manifest of each batch; if it has been compacted, that of the compacted batch.
    manifests: Vec<Manifest>,
    /// The number and the id of each.
    links: Vec<Link>,
    /// The batches that the first one stands for, if it is a compacted baseline.
    within: Vec<Link>,
}

impl BatchRun {
    /// Reads the batches from the latest full batch or baseline, compacted or not, up to `last`.
    fn from_full(store: &dyn Store, target: &str, last: u64) -> Result<BatchRun> {
        let runs = reader::runs(store, target, 0)?;
        let full = runs.into_iter().rev().find(|run| run.is_full() && run.last <= last);
        let mut chain = BatchRun::default();
        for number in (1..=last).rev() {
            if let Some(run) = full
                && run.last == number
            {
                let compacted = reader::compacted(store, target, run)?;
                chain.push(compacted.batch, compacted.last);
                chain.within = compacted.follows;
            } else {
                let manifest = manifest(store, target, number)?;
                let id = manifest.id;
                chain.push(manifest, id);
            }
            if chain.manifests.last().is_some_and(|manifest| manifest.kind.begins()) {
                chain.manifests.reverse();
                chain.links.reverse();
                return chain.checked(target);
            }
        }
        Err(Shared::NoFullBatch { target: target.to_owned() }.into())
    }

    fn between(store: &dyn Store, target: &str, first: u64, last: u64) -> Result<BatchRun> {
        let mut chain = BatchRun::default();
        for number in first..=last.max(first) {
            let manifest = manifest(store, target, number)?;
            let id = manifest.id;
            chain.push(manifest, id);
        }
        chain.checked(target)
    }

    fn push(&mut self, manifest: Manifest, id: Uuid) {
        self.links.push(Link { number: manifest.number, id });
        self.manifests.push(manifest);
    }

    /// Requires that each batch follows the one before it, or is full.
    fn checked(self, target: &str) -> Result<BatchRun> {
        for (manifest, before) in self.manifests.iter().skip(1).zip(&self.links) {
            if manifest.kind != Kind::Full && manifest.previous != Some(before.id) {
                return Err(
                    UpkeepError::BrokenChain { target: target.to_owned(), number: manifest.number }.into()
                );
            }
        }
        Ok(self)
    }

    fn begins(&self) -> bool {
        self.manifests.first().is_some_and(|manifest| manifest.kind.begins())
    }

    /// The batch before the run, if it does not stand by itself.
    fn before(&self) -> Option<Link> {
        let first = self.manifests.first().filter(|manifest| !manifest.kind.begins())?;
        first.previous.map(|id| Link { number: first.number - 1, id })
    }

    /// The batches after which the run can be applied: the one before it, and each of its own except the
    /// last. What is full replaces all of them.
    fn follows(&self, kind: Kind) -> Vec<Link> {
        if kind == Kind::Full {
            return Vec::new();
        }
        let within = self.links.iter().take(self.links.len() - 1);
        self.before().into_iter().chain(self.within.iter().chain(within).copied()).collect()
    }

    fn run(&self) -> BatchRange {
        let last = self.links.last().map_or(0, |link| link.number);
        BatchRange { last, after: self.before().map_or(0, |link| link.number) }
    }

    /// The parts of each table that the last batch names, in the order of the batches. What was sent of other
    /// tables, which the target does not get any more, is left out.
    fn tables(&self) -> BTreeMap<(&str, &str), Vec<(&Manifest, &Part)>> {
        let named = self.manifests.last().map_or_else(HashSet::new, |last| last.tables().collect());
        let mut tables = BTreeMap::<_, Vec<_>>::new();
        for manifest in &self.manifests {
            for part in &manifest.parts {
                let table = (&*part.schema, &*part.name);
                if named.contains(&table) {
                    tables.entry(table).or_default().push((manifest, part));
                }
            }
        }
        tables
    }
}

fn manifest(store: &dyn Store, target: &str, number: u64) -> Result<Manifest> {
    reader::manifest(store, target, number).map_err(|error| match error {
        batch::Error::Store(store::Error::NotFound { .. }) => {
            Error::from(UpkeepError::NotInStore { target: target.to_owned(), number, store: store.url() })
        }
        error => error.into(),
    })
}

fn publish(writer: Writer, chain: &BatchRun, parts: Vec<Part>) -> Result<()> {
    let (Some(last), Some(link)) = (chain.manifests.last(), chain.links.last()) else { return Ok(()) };
    let has_part =
        |(schema, name): &(&str, &str)| parts.iter().any(|part| part.schema == *schema && part.name == *name);
    let unchanged = last.tables().filter(|table| !has_part(table));
    let unchanged = unchanged.map(|(schema, name)| batch::Table { schema: schema.into(), name: name.into() });
    let unchanged = unchanged.collect();
    let kind = match chain.begins() {
        false => Kind::Changes,
        true if parts.iter().all(|part| part.kind == Kind::Full) => Kind::Full,
        true => Kind::Baseline,
    };
    let header = Header {
        previous: chain.before().map(|link| link.id),
        kind,
        source: last.source.clone(),
        former_publishers: last.former_publishers.clone(),
        position: last.position.clone(),
        created_at: last.created_at.clone(),
        unchanged,
    };
    let (target, number) = (last.target.clone(), last.number);
    writer.publish_compacted(header, parts, link.id, chain.follows(kind)).map_err(|error| match error {
        batch::Error::Store(store::Error::Exists { .. }) => {
            Error::from(UpkeepError::AlreadyCompacted { target, number })
        }
        error => error.into(),
    })
}
