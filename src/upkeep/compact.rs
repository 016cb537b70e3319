//! Compaction: a run of batches in a store becomes one more, which has the effect of all of them.
//!
//! It takes the store alone: neither the source nor a destination takes part, and nobody is kept from anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::error::Error;
use crate::fault::{self, Point};
use crate::pg::{interrupts, settings};
use batch::{
    self, BatchRange, COMPACTION_MAX, Compression, Header, Kind, Link, Manifest, Part, Reading, Writer,
    compact_part, reader,
};
use store::Store;

/// What to compact.
pub struct Request<'a> {
    /// The target.
    pub target: &'a str,
    /// The number of the first batch; without it the latest full one before `last`, and the result is full.
    pub first: Option<u64>,
    /// The number of the last batch; without it the latest.
    pub last: Option<u64>,
}

/// What the compacted batch has of one table.
pub struct Merged {
    /// The number of the batch that it ends with.
    pub batch: u64,
    /// How many batches it stands for.
    pub batches: usize,
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// Keys.
    pub ids: u64,
    /// Records.
    pub records: u64,
    /// The size of the files.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Compacts a run of batches, and leaves them where they are. Does nothing if there is only one.
pub fn compact(request: &Request, store: &Arc<dyn Store>) -> Result<Vec<Merged>, Error> {
    let target = request.target;
    let began = Instant::now();
    let numbers = reader::numbers(store.as_ref(), target, 0)?;
    let Some(&latest) = numbers.last() else { return Err(Error::no_batch(target, store.as_ref())) };
    let last = request.last.unwrap_or(latest);
    let chain = match request.first {
        Some(first) => BatchRun::between(store.as_ref(), target, first, last)?,
        None => BatchRun::from_full(store.as_ref(), target, last)?,
    };
    let run = chain.run();
    if chain.links.len() < 2 || reader::runs(store.as_ref(), target, last - 1)?.contains(&run) {
        pgrx::notice!("there is nothing to compact up to batch {last} of target \"{target}\"");
        return Ok(Vec::new());
    }
    let writer = Writer::new(Arc::clone(store), target, last, Compression::Zstd)?;
    let memory = settings::maintenance_memory();
    let reading = Reading { store: store.as_ref(), memory, interrupted: interrupts::pending };
    let (mut merged, mut parts) = (Vec::new(), Vec::new());
    for of_table in chain.tables().into_values() {
        let started = Instant::now();
        let part = compact_part(&writer, reading, &of_table)?;
        merged.push(describe(&chain, &part, started));
        parts.push(part);
        fault::point(Point::CompactPartWritten);
    }
    if began.elapsed() > COMPACTION_MAX {
        return Err(Error::CompactionTooLong { target: target.to_owned() });
    }
    publish(writer, &chain, parts)?;
    fault::point(Point::CompactPublished);
    Ok(merged)
}

/// Batches that follow on each other.
struct BatchRun {
    /// What is applied in place of each.
    manifests: Vec<Manifest>,
    /// The number and the id of each.
    links: Vec<Link>,
}

impl BatchRun {
    /// Reads what begins with the latest full batch, compacted or not.
    fn from_full(store: &dyn Store, target: &str, last: u64) -> Result<BatchRun, Error> {
        let runs = reader::runs(store, target, 0)?;
        let full = runs.into_iter().rev().find(|run| run.is_full() && run.last <= last);
        let mut chain = BatchRun { manifests: Vec::new(), links: Vec::new() };
        for number in (1..=last).rev() {
            if let Some(run) = full
                && run.last == number
            {
                let compacted = reader::compacted(store, target, run)?;
                chain.push(compacted.batch, compacted.last);
            } else {
                let manifest = manifest(store, target, number)?;
                let id = manifest.id;
                chain.push(manifest, id);
            }
            if chain.manifests.last().is_some_and(|manifest| manifest.kind == Kind::Full) {
                chain.manifests.reverse();
                chain.links.reverse();
                return chain.checked(target);
            }
        }
        Err(Error::NoFullBatch { target: target.to_owned() })
    }

    fn between(store: &dyn Store, target: &str, first: u64, last: u64) -> Result<BatchRun, Error> {
        let mut chain = BatchRun { manifests: Vec::new(), links: Vec::new() };
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

    /// Makes sure that each batch follows on the one before it, or is full.
    fn checked(self, target: &str) -> Result<BatchRun, Error> {
        for (manifest, before) in self.manifests.iter().skip(1).zip(&self.links) {
            if manifest.kind != Kind::Full && manifest.previous != Some(before.id) {
                return Err(Error::BrokenChain { target: target.to_owned(), number: manifest.number });
            }
        }
        Ok(self)
    }

    fn is_full(&self) -> bool {
        self.manifests.first().is_some_and(|manifest| manifest.kind == Kind::Full)
    }

    /// The batches after which the run can be applied: the one before it, and all of it but the last.
    fn follows(&self) -> Vec<Link> {
        let Some(first) = self.manifests.first().filter(|_| !self.is_full()) else { return Vec::new() };
        let before = first.previous.map(|id| Link { number: first.number - 1, id });
        let within = self.links.iter().take(self.links.len() - 1).copied();
        before.into_iter().chain(within).collect()
    }

    fn run(&self) -> BatchRange {
        let last = self.links.last().map_or(0, |link| link.number);
        BatchRange { last, after: self.follows().first().map_or(0, |link| link.number) }
    }

    /// The parts of each table, in order.
    fn tables(&self) -> BTreeMap<(&str, &str), Vec<(&Manifest, &Part)>> {
        let mut tables = BTreeMap::<_, Vec<_>>::new();
        for manifest in &self.manifests {
            for part in &manifest.parts {
                tables.entry((&*part.schema, &*part.name)).or_default().push((manifest, part));
            }
        }
        tables
    }
}

fn manifest(store: &dyn Store, target: &str, number: u64) -> Result<Manifest, Error> {
    reader::manifest(store, target, number).map_err(|error| match error {
        batch::Error::Store(store::Error::NotFound { .. }) => {
            Error::NotInStore { target: target.to_owned(), number, store: store.url() }
        }
        error => error.into(),
    })
}

fn publish(writer: Writer, chain: &BatchRun, parts: Vec<Part>) -> Result<(), Error> {
    let (Some(last), Some(link)) = (chain.manifests.last(), chain.links.last()) else { return Ok(()) };
    let follows = chain.follows();
    let header = Header {
        previous: follows.first().map(|link| link.id),
        kind: if chain.is_full() { Kind::Full } else { Kind::Changes },
        source: last.source.clone(),
        position: last.position.clone(),
        created_at: last.created_at.clone(),
    };
    let (target, number) = (last.target.clone(), last.number);
    writer.publish_compacted(header, parts, link.id, follows).map_err(|error| match error {
        batch::Error::Store(store::Error::Exists { .. }) => Error::AlreadyCompacted { target, number },
        error => error.into(),
    })
}

fn describe(chain: &BatchRun, part: &Part, started: Instant) -> Merged {
    Merged {
        batch: chain.links.last().map_or(0, |link| link.number),
        batches: chain.links.len(),
        table: format!("{}.{}", part.schema, part.name),
        kind: part.kind.name(),
        ids: part.ids,
        records: part.records,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
    }
}
