//! The copies of a target, made again what a store says that they are after the last batch applied here.
//!
//! Input: a target and a store. Output: what each copy was given, and a [`Proof`] that it is equal now.
//!
//! What differs becomes a part that holds changes, and is applied like one: by the same rules, with the same
//! checks and rights. What does not differ is not written.

use std::time::Instant;

use uuid::Uuid;

use crate::catalog::{self, Copy};
use crate::destination::apply::{self, Mode, Options};
use crate::destination::part::{Changed, Files, Incoming};
use crate::destination::resolve::{self, Allowed, Destination, NewColumns};
use crate::destination::verify::{self, Comparing, Judged};
use crate::error::Result;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, report, snapshot};
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

/// Repairs the copies of a target.
pub fn repair(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Vec<(Proof, Changed)>> {
    let target = request.target;
    catalog::lock_target("import", target)?;
    let applied = snapshot::latest(|| catalog::last_applied(target))?;
    let (number, id) = applied.ok_or_else(|| ProofError::NothingYet { target: target.to_owned() })?;
    let held = Held::up_to(store, target, number, Uuid::parse_str(&id).ok())?;
    let copies = snapshot::latest(|| verify::copies(target, request.relation))?;
    let mut repaired = Vec::new();
    for copy in copies {
        let earlier = (!copy.is_sent).then(|| Held::up_to(store, target, copy.number, None)).transpose()?;
        let (number, held) = earlier.as_ref().map_or((number, &held), |earlier| (copy.number, earlier));
        let comparing = Comparing { target, store, caller, held };
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
    /// Compares, writes what differs, and compares again, until nothing differs or nothing has been written.
    fn repair(&self) -> Result<(Proof, Changed)> {
        let started = Instant::now();
        let relation = self.copy.relation;
        let table = Table::open(relation, Lock::Write);
        if table.as_ref().is_some_and(Table::is_partitioned) {
            table::lock_with_descendants(relation, Lock::Write);
        }
        let mut destination = table.as_ref().map_or(Ok(None), |_| self.destination())?;
        let mut total = Changed::default();
        loop {
            let judged = snapshot::latest(|| {
                self.comparing.judge(self.copy, table.as_ref(), |subject| {
                    let (_, part) = &subject.parts[0];
                    let columns = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
                    Ok((subject.binary.shape.qualified(), columns, subject.repair()?))
                })
            })?;
            let (table, columns, (rows, differences, repair), gaps) = match judged {
                Judged::So { outcome: (table, columns, found), gaps } => (table, columns, found, gaps),
                Judged::Not { table, gap } => {
                    return Ok((Proof::of_nothing(self.number, Some(relation), table, gap), total));
                }
            };
            let changed = match (&mut destination, repair) {
                (Some((manifest, destination)), Some(repair)) => {
                    Some(self.write(manifest, destination, &repair)?)
                }
                _ => None,
            };
            let changed = changed.filter(|changed| changed.deleted + changed.updated + changed.inserted > 0);
            let Some(changed) = changed else {
                if differences.is_empty() && gaps.is_empty() {
                    self.remember_columns(&columns)?;
                }
                let compared = Some(Compared { rows, differences, examples: Vec::new() });
                let (number, relation, elapsed) = (self.number, Some(relation), started.elapsed());
                return Ok((Proof { number, relation, table, compared, gaps, elapsed }, total));
            };
            total.deleted += changed.deleted;
            total.updated += changed.updated;
            total.inserted += changed.inserted;
        }
    }

    /// Finds the table as an import does, with the rights of one; `None` if the store holds nothing of it.
    fn destination(&self) -> Result<Option<(&Manifest, Destination)>> {
        let (target, Copy { schema, name, relation, .. }) = (self.request.target, self.copy);
        let Some((manifest, part)) = self.comparing.held.parts_of(schema, name).pop() else {
            return Ok(None);
        };
        let place =
            resolve::place(target, &Part { kind: Kind::Changes, format: Format::Text, ..part.clone() })?;
        if place.oid.is_some_and(|oid| oid != *relation) {
            return Err(verify::not_of_target(*relation, target)?.into());
        }
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
