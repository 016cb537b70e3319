//! A plan: what an import would do, and all that would stop it.
//!
//! Input: what an import is asked for. Output: a row for each part of the pending batches, and the obstacles.
//! The batches are looked at one after the other, as [`crate::destination::apply`] checks them before their
//! first row changes, and as if the batches before had been applied: a table that one of those would create
//! exists for the later ones.
//!
//! Invariant: nothing is written, and no lock is kept. Only rows that are tried are written, and undone.

use std::collections::BTreeMap;

use crate::destination::apply::{self, AppliedPart};
use crate::destination::chain::Next;
use crate::destination::import::{self, Imported, Pending, Request};
use crate::destination::obstacles::Obstacles;
use crate::destination::ownership::{self, Batch, Copies, copy_for};
use crate::destination::part::Changed;
use crate::destination::resolve::{Demands, Place};
use crate::error::{Error, Result};
use crate::pg::transaction::{self, Obstacle};
use crate::pg::user::Caller;
use crate::table::shape::Shape;
use batch::Manifest;
use store::Store;

/// What an import would do, and what would stop it.
#[derive(Default)]
pub struct Plan {
    pub batches: Vec<PlannedBatch>,
    pub obstacles: Vec<PlannedObstacle>,
}

/// A batch that an import would apply.
pub struct PlannedBatch {
    pub number: u64,
    pub kind: &'static str,
    pub parts: Vec<PlannedPart>,
}

/// A part of it.
pub struct PlannedPart {
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// The size of the part's files.
    pub bytes: u64,
    /// What it has done, if it was tried, and the caller may read the table.
    pub changed: Option<Changed>,
}

/// What would stop the import.
pub struct PlannedObstacle {
    /// The first batch that it stops, and the table, if it is one of these.
    pub batch: Option<u64>,
    pub table: Option<String>,
    pub met: Obstacle,
}

/// Looks at all tables of the pending batches. If `try_rows`, also applies the batches and undoes that: only
/// this shows what constraints do with the rows.
pub fn plan(request: &Request, store: &dyn Store, caller: &Caller, try_rows: bool) -> Plan {
    let mut outlook = Outlook::default();
    if let Some(met) = transaction::dry_run(|| outlook.look_at_all(request, store, caller)) {
        outlook.plan.add(None, None, met);
    }
    let mut plan = outlook.plan;
    if try_rows {
        let mut imported = Vec::new();
        let stop = transaction::dry_run(|| import::advance(request, store, caller, &mut imported));
        if let Some(met) = stop {
            let stopped = plan.batches.get(imported.len()).map(|batch| batch.number);
            plan.add(stopped, None, met);
        }
        plan.count(imported);
    }
    plan
}

impl Plan {
    /// Adds an obstacle, unless it is known: that of a table is the same in several batches.
    fn add(&mut self, batch: Option<u64>, table: Option<&str>, met: Obstacle) {
        let is_known = |known: &PlannedObstacle| {
            known.met.message == met.message
                && table.is_none_or(|table| known.table.as_deref() == Some(table))
        };
        if !self.obstacles.iter().any(is_known) {
            self.obstacles.push(PlannedObstacle { batch, table: table.map(str::to_owned), met });
        }
    }

    fn add_all(&mut self, batch: Option<u64>, table: Option<&str>, obstacles: Vec<Obstacle>) {
        obstacles.into_iter().for_each(|met| self.add(batch, table, met));
    }

    /// Fills in what the batches have done that were tried.
    fn count(&mut self, tried: Vec<Imported>) {
        for Imported { number, parts, .. } in tried {
            if let Some(batch) = self.batches.iter_mut().find(|batch| batch.number == number) {
                batch.parts = parts.into_iter().map(PlannedPart::from).collect();
            }
        }
    }
}

impl From<AppliedPart> for PlannedPart {
    fn from(part: AppliedPart) -> PlannedPart {
        let AppliedPart { table, kind, changed, bytes, shows_rows, .. } = part;
        PlannedPart { table, kind, bytes, changed: shows_rows.then_some(changed) }
    }
}

/// A plan in the making, and what its batches so far would have done.
#[derive(Default)]
struct Outlook {
    plan: Plan,
    /// The shapes that tables would have, by schema and name at the source.
    shapes: BTreeMap<(String, String), Shape>,
    copies: Copies,
}

impl Outlook {
    fn look_at_all(&mut self, request: &Request, store: &dyn Store, caller: &Caller) -> Result<()> {
        let mut obstacles = Obstacles::Collected(Vec::new());
        let pending = Pending::new(request, store, &mut obstacles);
        self.plan.add_all(None, None, obstacles.take());
        let mut pending = pending?;
        while let Some(Next { manifest, .. }) = pending.next_batch(&mut obstacles)? {
            self.plan.add_all(Some(manifest.number), None, obstacles.take());
            let demands = apply::demands(&manifest, request.options, caller);
            let places = apply::places(&manifest)?;
            let places = ownership::leave_out(places, &manifest, &self.copies, &pending.chain)?;
            if obstacles.pass(apply::require_room(&places, request.target))?.is_none() {
                self.plan.add_all(Some(manifest.number), None, obstacles.take());
                return Ok(());
            }
            self.look_at_batch(&demands, places, request.options.adopt)?;
        }
        Ok(())
    }

    /// Looks at the tables of a batch, then foresees what it does.
    fn look_at_batch(&mut self, demands: &Demands, places: Vec<Place>, adopt: bool) -> Result<()> {
        let manifest = demands.manifest;
        let tables = places.iter().map(|place| (copy_for(&place.part, manifest), place.oid)).collect();
        let batch = Batch { manifest, tables, copies: &self.copies };
        let mut parts = Vec::new();
        let mut seen = Vec::new();
        for place in places {
            let before = self.shapes.get(&name_of(&place));
            let Seen { shape, met } = look_at_table(&batch, demands, &place, before, adopt);
            let part = &place.part;
            let table = shape.as_ref().map_or_else(|| part.table(), Shape::qualified);
            self.plan.add_all(Some(manifest.number), Some(&table), met);
            parts.push(PlannedPart { table, kind: part.kind.name(), bytes: part.bytes(), changed: None });
            seen.extend(shape.map(|shape| (place, shape)));
        }
        self.plan.batches.push(PlannedBatch { number: manifest.number, kind: manifest.kind.name(), parts });
        self.foresee(manifest, seen)
    }

    /// Foresees which tables a batch makes copies, and the shapes that it gives them.
    fn foresee(&mut self, manifest: &Manifest, seen: Vec<(Place, Shape)>) -> Result<()> {
        for (place, _) in seen.iter().filter(|(place, _)| place.part.kind.begins()) {
            self.copies.foresee(copy_for(&place.part, manifest), place.oid);
        }
        for (place, shape) in seen {
            if let Some(relation) = place.oid {
                let mut obstacles = Obstacles::Collected(Vec::new());
                obstacles.pass(self.copies.refuse_relatives(relation, &shape, manifest))?;
                self.plan.add_all(Some(manifest.number), Some(&shape.qualified()), obstacles.take());
            }
            self.shapes.insert(name_of(&place), shape);
        }
        Ok(())
    }
}

fn name_of(place: &Place) -> (String, String) {
    (place.part.schema.clone(), place.part.name.clone())
}

/// What a look at a table has shown.
struct Seen {
    /// What its shape would be; `None` if it is not there, or cannot be imported into.
    shape: Option<Shape>,
    met: Vec<Obstacle>,
}

/// Makes the checks of one part. What PostgreSQL raises is an obstacle of this table, and hides no other's.
fn look_at_table(
    batch: &Batch,
    demands: &Demands,
    place: &Place,
    before: Option<&Shape>,
    adopt: bool,
) -> Seen {
    let mut shape = None;
    let mut obstacles = Obstacles::Collected(Vec::new());
    let raised = transaction::dry_run(|| {
        let (table, foreseen) = demands.foresee(place, before, &mut obstacles)?;
        let foreseen = shape.insert(foreseen);
        // Whose copy it is, and whether it has rows, is not for a role without rights on it.
        if let Some(table) = table.filter(|table| table.allows(demands.caller.role(), demands.rights.1))
            && table.schema_closed_to_owner()?.is_none()
        {
            obstacles.pass(batch.check(&table, foreseen, &place.part, adopt, demands.caller))?;
        }
        Ok::<_, Error>(())
    });
    let mut met = obstacles.take();
    met.extend(raised);
    Seen { shape, met }
}
