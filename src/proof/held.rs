//! What a store holds of the batches that lead to a given one.
//!
//! Input: a batch. Output: batches that, applied in order to nothing, give the state that it shows. A
//! compacted batch stands in for those of its run, also for some that have expired.
//!
//! Invariant: each batch follows the one before it. The first is full or a baseline, unless the store does
//! not hold all.

use std::collections::HashSet;

use uuid::Uuid;

use crate::error::Result;
use crate::proof::error::ProofError;
use batch::{BatchRange, Manifest, Part, reader};
use store::Store;

/// Batches in order.
pub struct Held {
    manifests: Vec<Manifest>,
    /// The batch before the first, if that is needed.
    pub missing: Option<u64>,
}

/// A way to go one step back.
struct Step {
    /// The batch that has to be reached, by number and, if it is known, by id.
    number: u64,
    id: Option<Uuid>,
    /// The compacted batch that reaches it; `None` is the batch itself.
    run: Option<BatchRange>,
    /// The place, in the list of those found, of the batch that follows.
    later: Option<usize>,
}

/// A batch that was found.
struct Node {
    manifest: Manifest,
    later: Option<usize>,
    /// The number of the batch before.
    before: u64,
}

/// What a step has led to.
struct Reached {
    manifest: Manifest,
    before: u64,
    before_id: Option<Uuid>,
}

impl Held {
    /// Finds the batches that lead to one. Compacted batches are taken first, as they save others.
    pub fn up_to(store: &dyn Store, target: &str, number: u64, id: Option<Uuid>) -> Result<Held> {
        let runs = reader::runs(store, target, 0)?;
        let mut nodes = Vec::<Node>::new();
        let mut steps = steps_to(number, id, &runs, None);
        let mut seen = HashSet::from([number]);
        while let Some(step) = steps.pop() {
            let Some(Reached { manifest, before, before_id }) = step.take(store, target)? else { continue };
            let begins = manifest.kind.begins();
            nodes.push(Node { manifest, later: step.later, before });
            let place = nodes.len() - 1;
            if begins {
                return Ok(Held { manifests: path(nodes, place), missing: None });
            }
            if before > 0 && seen.insert(before) {
                steps.extend(steps_to(before, before_id, &runs, Some(place)));
            }
        }
        let farthest = (0..nodes.len()).min_by_key(|place| nodes[*place].before);
        match farthest {
            Some(place) => {
                let missing = Some(nodes[place].before);
                Ok(Held { manifests: path(nodes, place), missing })
            }
            None => Err(not_held(store, target, number).into()),
        }
    }

    /// Returns the parts of a table from its latest full one, or its baseline, on; all, if there is neither.
    pub fn parts_of(&self, schema: &str, name: &str) -> Vec<(&Manifest, &Part)> {
        let is_of_table = |part: &&Part| part.schema == schema && part.name == name;
        let parts = self
            .manifests
            .iter()
            .filter_map(|manifest| manifest.parts.iter().find(is_of_table).map(|part| (manifest, part)));
        let mut parts = parts.collect::<Vec<_>>();
        let first = parts.iter().rposition(|(_, part)| part.kind.begins()).unwrap_or(0);
        parts.split_off(first)
    }

    /// Returns schema and name of each table that the target gets with the last of the batches.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.manifests.last().into_iter().flat_map(Manifest::tables)
    }
}

impl Step {
    /// Reads the batch of this step; `None` if the store does not hold it.
    fn take(&self, store: &dyn Store, target: &str) -> Result<Option<Reached>> {
        let is_it = |found: Uuid| self.id.is_none_or(|id| id == found);
        match self.run {
            Some(run) => {
                let Some(compacted) = if_held(reader::compacted(store, target, run))? else {
                    return Ok(None);
                };
                let before = compacted.before();
                let reached = Reached {
                    before: before.map_or(0, |link| link.number),
                    before_id: before.map(|link| link.id),
                    manifest: compacted.batch,
                };
                Ok(is_it(compacted.last).then_some(reached))
            }
            None => {
                let Some(manifest) = if_held(reader::manifest(store, target, self.number))? else {
                    return Ok(None);
                };
                if !is_it(manifest.id) {
                    let (target, number) = (target.to_owned(), self.number);
                    return Err(ProofError::OtherBatch { target, number, store: store.url() }.into());
                }
                let before_id = manifest.previous;
                Ok(Some(Reached { before: self.number - 1, before_id, manifest }))
            }
        }
    }
}

/// Returns the ways to reach a batch. The best comes last: the compacted batch that stands for the most.
fn steps_to(number: u64, id: Option<Uuid>, runs: &[BatchRange], later: Option<usize>) -> Vec<Step> {
    let mut compacted = runs.iter().copied().filter(|run| run.last == number).collect::<Vec<_>>();
    compacted.sort_by_key(|run| std::cmp::Reverse(run.after));
    let all = std::iter::once(None).chain(compacted.into_iter().map(Some));
    all.map(|run| Step { number, id, run, later }).collect()
}

fn if_held<T>(read: Result<T, batch::Error>) -> Result<Option<T>> {
    match read {
        Err(batch::Error::Store(store::Error::NotFound { .. })) => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// Returns the batches from the one at a place on.
fn path(nodes: Vec<Node>, place: usize) -> Vec<Manifest> {
    let mut nodes = nodes.into_iter().map(Some).collect::<Vec<_>>();
    let mut next = Some(place);
    let mut path = Vec::new();
    while let Some(node) = next.and_then(|place| nodes[place].take()) {
        next = node.later;
        path.push(node.manifest);
    }
    path
}

fn not_held(store: &dyn Store, target: &str, number: u64) -> ProofError {
    ProofError::NotHeld { target: target.to_owned(), number, store: store.url() }
}
