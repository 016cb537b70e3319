//! The tables of a target at its source, compared with what a store says that they were when the target was
//! exported last.
//!
//! Input: a target and a store. Output: a [`Proof`] for each table.
//!
//! Invariant: keys that have changed since the target's position are left out. They, and the rows, are read
//! in one snapshot, which is taken after the tables and their shadows are locked, as an export takes it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::catalog::position::Position;
use crate::catalog::{self, Received, Target};
use crate::error::{Result, TableName, literal};
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{query, report, snapshot};
use crate::proof::compare::{Binary, Subject};
use crate::proof::error::ProofError;
use crate::proof::held::Held;
use crate::proof::{self, Proof, Request};
use crate::source::export::candidate::{Candidate, lock_table, visible};
use crate::source::export::plan::{is_as_sent, usable_position};
use crate::source::restriction;
use crate::source::shadow::read;
use batch::Kind;
use store::Store;

/// Compares the tables of a target; `None` if this database does not publish it.
pub fn verify(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Option<Vec<Proof>>> {
    let target = request.target;
    let here = catalog::this_database()?;
    let is_published_here = snapshot::latest(|| {
        let publisher = catalog::target(target)?.and_then(|target| target.publisher);
        Ok::<_, crate::error::Error>(publisher == Some(here.publisher))
    })?;
    if !is_published_here {
        return Ok(None);
    }
    let candidates = snapshot::latest(|| lock(request, caller))?;
    snapshot::latest(|| compare(request, candidates, store, caller)).map(Some)
}

/// Locks the tables that the target gets, each with what it is seen through.
fn lock(request: &Request, caller: &Caller) -> Result<Vec<(Candidate, Option<Table>)>> {
    let mut given = restriction::tables_for(request.target, catalog::tracked()?)?;
    if let Some(relation) = request.relation {
        given.retain(|(tracked, _)| tracked.relation == relation);
        if given.is_empty() {
            return Err(proof::not_of_target(relation, request.target)?.into());
        }
    }
    let lock = |(tracked, view)| {
        let candidate = lock_table(tracked, view, caller)?;
        Ok(candidate.map(|candidate| (candidate, view.and_then(|view| Table::open(view, Lock::Read)))))
    };
    given.into_iter().filter_map(|table| lock(table).transpose()).collect()
}

/// Compares the tables in the active snapshot.
fn compare(
    request: &Request,
    candidates: Vec<(Candidate, Option<Table>)>,
    store: &dyn Store,
    caller: &Caller,
) -> Result<Vec<Proof>> {
    let name = request.target;
    let nothing = || ProofError::NoPosition { target: name.to_owned() };
    let target = catalog::target(name)?.ok_or_else(nothing)?;
    let now = query::in_snapshot("SELECT pg_catalog.pg_current_snapshot()", &[])?;
    let now = now.first().map(|row| row.get::<Position>(0)).transpose()?.ok_or_else(nothing)?;
    let since = usable_position(Some(&target), &now).ok_or_else(nothing)?;
    let id = target.batch.as_deref().and_then(|id| Uuid::parse_str(id).ok());
    let held = Held::up_to(store, name, target.number, id)?;
    let (candidates, views): (Vec<_>, Vec<_>) = candidates.into_iter().unzip();
    let oids = candidates.iter().map(|one| one.tracked.relation).collect::<Vec<_>>();
    let received = catalog::received(name)?;
    let verifying = Verifying { request, store, caller, held: &held, target: &target, received, since };
    let proofs = visible(candidates)?.into_iter().map(|candidate| {
        let place = oids.iter().position(|oid| *oid == candidate.tracked.relation);
        verifying.prove(&candidate, place.and_then(|place| views[place].as_ref()))
    });
    proofs.collect()
}

/// What the tables are compared with.
struct Verifying<'a> {
    request: &'a Request<'a>,
    store: &'a dyn Store,
    caller: &'a Caller,
    held: &'a Held,
    target: &'a Target,
    received: BTreeMap<i32, Received>,
    since: &'a Position,
}

impl Verifying<'_> {
    fn prove(&self, candidate: &Candidate, view: Option<&Table>) -> Result<Proof> {
        let (target, shape) = (self.request.target, &candidate.shape);
        let (number, relation) = (self.target.number, candidate.tracked.relation);
        let nothing = |gap: String| Ok(Proof::of_nothing(number, Some(relation), shape.qualified(), gap));
        let known = self.received.get(&candidate.tracked.id);
        let pending = read::pending(&candidate.tracked, self.since)?;
        let is_received = known.is_some_and(|known| is_as_sent(candidate, known, pending.attached));
        if !is_received || pending.everything {
            let export = format!("SELECT * FROM tx_export({})", literal(target));
            return nothing(format!("the next export sends the table in full. Run: {export}"));
        }
        let parts = self.held.parts_of(&shape.schema, &shape.name).into_iter();
        let parts = parts.map(|(manifest, part)| (manifest, part.clone())).collect::<Vec<_>>();
        let table = TableName::new(&shape.schema, &shape.name).literal();
        let reset =
            format!("To have all rows sent again, run: SELECT tx_reset({}, {table})", literal(target));
        let Some(begin @ (_, first)) = parts.first() else {
            return nothing(format!("no batch in the store has anything of it. {reset}"));
        };
        if let Some((manifest, _)) = parts.iter().find(|(_, part)| part.fingerprint != first.fingerprint) {
            return nothing(format!(
                "batch {} has other columns, without being full. {reset}",
                manifest.number
            ));
        }
        let gap = match proof::gap(begin, self.held.missing, &reset) {
            Some(gap) if proof::tell_nothing(&parts) => return nothing(gap),
            gap => gap,
        };
        let is_partial = first.kind != Kind::Full;
        let Candidate { tracked, table, rows, .. } = candidate;
        let subject = Subject {
            store: self.store,
            parts,
            is_partial,
            rows,
            sample: self.request.sample,
            left_out: Some(read::keys_query(tracked, self.since, &candidate.key()?, &[])?),
            binary: Binary::as_it_is(view.unwrap_or(table), shape),
        };
        let place = format!("While comparing table \"{}\" with the store.", shape.qualified());
        let compare = || Proof::of(number, relation, &subject, self.request.examples);
        let proof = report::with_detail(&place, true, || None, || self.caller.as_owner(table, compare))?;
        candidate.require_same_relatives()?;
        Ok(Proof { gaps: gap.into_iter().collect(), ..proof })
    }
}
