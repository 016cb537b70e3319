//! The copies of a target, made again what a store says that they are after the last batch applied here.
//!
//! Input: a target and a store. Output: what each copy was given, and a [`Proof`] that it is equal now.
//!
//! What differs becomes a part that holds changes, and is applied like one: by the same rules, with the same
//! checks and rights. What does not differ is not written.

use std::time::Instant;

use uuid::Uuid;

use crate::catalog::{self, Copy, EmptiedCopy, Locker};
use crate::destination::apply::{self, Mode, Options};
use crate::destination::error::ChainError;
use crate::destination::part::{Changed, Files, Incoming};
use crate::destination::resolve::{self, Allowed, Destination, NewColumns};
use crate::destination::verify::{self, Comparing, Judged};
use crate::error::{Error, Result};
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, report, snapshot, transaction};
use crate::proof::compare::Subject;
use crate::proof::error::ProofError;
use crate::proof::held::Held;
use crate::proof::{Compared, Proof};
use crate::table::intercept;
use batch::{Format, Kind, Manifest, Part, Repaired};
use store::Store;

/// What a repair is asked for.
pub struct Request<'a> {
    pub target: &'a str,
    /// The only table that is repaired; `None` repairs all.
    pub relation: Option<Oid>,
    /// The limit on the rows of a table that may be deleted, in percent.
    pub delete_limit: u32,
}

/// Repairs the copies of a target. Those that it does not get any more are left alone, unless one of them is
/// asked for.
pub fn repair(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Vec<(Proof, Changed)>> {
    transaction::require_read_committed("tx_repair()")?;
    let target = request.target;
    catalog::lock_target("import", target)?;
    let (number, id, copies) = snapshot::latest(|| {
        let applied = catalog::last_applied(target)?;
        let (number, id) = applied.ok_or_else(|| ProofError::NothingYet { target: target.to_owned() })?;
        if let Some(EmptiedCopy { table, target, has_rows }) = catalog::emptied_copy(target)? {
            return Err(Error::from(ChainError::Emptied { table, target, has_rows }));
        }
        let mut copies = verify::copies(target, request.relation)?;
        copies.retain(|copy| copy.is_sent || request.relation.is_some());
        let relations = copies.iter().map(|copy| copy.relation).collect::<Vec<_>>();
        catalog::require_room(Locker::Repair, target, &relations)?;
        Ok((number, id, copies))
    })?;
    let held = Held::up_to(store, target, number, Uuid::parse_str(&id).ok())?;
    let mut repaired = Vec::new();
    for copy in copies {
        let earlier = (!copy.is_sent).then(|| Held::up_to(store, target, copy.number, None)).transpose()?;
        let (number, held) = earlier.as_ref().map_or((number, &held), |earlier| (copy.number, earlier));
        let comparing = Comparing { target, store, caller, held, sample: None };
        repaired.push(Repairing { request, comparing, copy: &copy, number }.repair()?);
    }
    Ok(repaired)
}

/// A copy that is repaired.
struct Repairing<'a> {
    request: &'a Request<'a>,
    comparing: Comparing<'a>,
    copy: &'a Copy,
    /// The batch whose state it should show.
    number: u64,
}

impl Repairing<'_> {
    /// Compares; if anything differs, writes it, and compares again.
    fn repair(&self) -> Result<(Proof, Changed)> {
        let started = Instant::now();
        let relation = self.copy.relation;
        let table = Table::open(relation, Lock::Write);
        if table.as_ref().is_some_and(Table::is_partitioned) {
            table::lock_with_descendants(relation, Lock::Write);
        }
        let mut destination = table.as_ref().map_or(Ok(None), |_| self.destination())?;
        let table = table.as_ref();
        let (judged, changed) =
            match self.compare(table, |subject| Ok((named(subject), subject.repair()?)))? {
                Judged::Not { table, gap } => (Judged::Not { table, gap }, Changed::default()),
                Judged::So { outcome: (named, (found, None)), gaps } => {
                    (Judged::So { outcome: (named, found), gaps }, Changed::default())
                }
                Judged::So { outcome: (_, (_, Some(repair))), .. } => {
                    let changed = match &mut destination {
                        Some((manifest, destination)) => self.write(manifest, destination, &repair)?,
                        None => Changed::default(),
                    };
                    (self.compare(table, |subject| Ok((named(subject), subject.judge()?)))?, changed)
                }
            };
        let proof = match judged {
            Judged::Not { table, gap } => Proof::of_nothing(self.number, Some(relation), table, gap),
            Judged::So { outcome: ((table, columns), (rows, differences)), gaps } => {
                if differences.is_empty() && gaps.is_empty() {
                    self.remember_columns(&columns)?;
                }
                let compared = Some(Compared { rows, differences, examples: Vec::new() });
                let (number, relation, elapsed) = (self.number, Some(relation), started.elapsed());
                Proof { number, relation, table, compared, sample: None, gaps, elapsed }
            }
        };
        Ok((proof, changed))
    }

    fn compare<T>(
        &self,
        table: Option<&Table>,
        compare: impl FnOnce(&Subject) -> Result<T>,
    ) -> Result<Judged<T>> {
        snapshot::latest(|| self.comparing.judge(self.copy, table, compare))
    }

    /// Finds the table as an import does, with the rights of one; `None` if the store holds nothing of it.
    fn destination(&self) -> Result<Option<(&Manifest, Destination)>> {
        let (target, Copy { schema, name, relation, .. }) = (self.request.target, self.copy);
        let Some((manifest, part)) = self.comparing.held.parts_of(schema, name).pop() else {
            return Ok(None);
        };
        let part = Part { kind: Kind::Changes, format: Format::Text, ranges: Vec::new(), ..part.clone() };
        let place = resolve::place_of_copy(target, &part, *relation)?;
        let demands = apply::demands(manifest, self.options(), self.comparing.caller);
        Ok(Some((manifest, demands.resolve(place)?)))
    }

    fn options(&self) -> Options {
        let allowed = Allowed { create_tables: false, new_columns: NewColumns::Ignore };
        Options { mode: Mode::Merge, allowed, delete_limit: self.request.delete_limit, adopt: false }
    }

    /// Applies what a repair has found, as an import applies changes.
    fn write(
        &self,
        manifest: &Manifest,
        destination: &mut Destination,
        repair: &Repaired,
    ) -> Result<Changed> {
        (destination.part.ids, destination.part.records) = (repair.ids.lines, repair.records.lines);
        let (destination, caller) = (&*destination, self.comparing.caller);
        let within = format!("While repairing table \"{}\".", destination.shape.qualified());
        let shows_rows = destination.table.allows(caller.role(), &[Right::Select]);
        report::with_detail(
            &within,
            shows_rows,
            || None,
            || {
                let interceptors = intercept::interceptors(destination.table.oid())?;
                let (files, part) = (Files::Repair(repair), &destination.part);
                let incoming = Incoming {
                    files,
                    manifest,
                    part,
                    destination,
                    is_adopted: false,
                    interceptors,
                    shows_rows,
                };
                Ok(apply::apply_part(&incoming, self.options(), caller)?.changed)
            },
        )
    }

    /// Remembers that all rows have the values of all columns, also of those that were stale.
    fn remember_columns(&self, columns: &[String]) -> Result<()> {
        let names = columns.iter().map(String::as_str).collect::<Vec<_>>();
        let Some((columns, _)) = catalog::columns_of_copy(self.copy.relation, &names)? else { return Ok(()) };
        catalog::remember_columns(self.copy.relation, &columns, &[], true)
    }
}

/// Returns the name of a table, and those of the columns that its parts have.
fn named(subject: &Subject) -> (String, Vec<String>) {
    let (_, part) = &subject.parts[0];
    let columns = part.columns.iter().map(|column| column.name.clone()).collect();
    (subject.binary.shape.qualified(), columns)
}
