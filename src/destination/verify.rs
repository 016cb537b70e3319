//! The copies of a target, compared with what a store says that they are after the last batch applied here.
//!
//! Input: a target and a store. Output: a [`Proof`] for each copy.
//!
//! Invariant: receipts, copies and rows are read in one snapshot, which is taken after the tables are locked:
//! ALTER TABLE may write a table anew, whose rows an older snapshot does not see.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::catalog::{self, Copy};
use crate::destination::{resolve, retyped};
use crate::error::{Result, TableName, literal};
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, report, snapshot};
use crate::proof::compare::{Binary, Subject, not_here};
use crate::proof::error::ProofError;
use crate::proof::held::Held;
use crate::proof::{self, Proof, Request};
use crate::table::error::TableError;
use crate::table::readable;
use crate::table::shape::Shape;
use batch::{Format, Kind, Manifest, Part, Sample};
use store::Store;

/// The tables that are locked, by OID; `None` is one that has been dropped.
type Locked = BTreeMap<u32, Option<Table>>;

/// What a look in one snapshot has led to.
enum Look {
    /// These tables must be locked first.
    MustLock(Vec<Oid>),
    Done(Option<Vec<Proof>>),
}

/// Compares the copies of a target; `None` if no batch of it has been applied here.
pub fn verify(request: &Request, store: &dyn Store, caller: &Caller) -> Result<Option<Vec<Proof>>> {
    let mut locked = Locked::new();
    loop {
        match snapshot::latest(|| look(request, store, caller, &locked))? {
            Look::Done(proofs) => return Ok(proofs),
            Look::MustLock(relations) => {
                for relation in relations {
                    let table = Table::open(relation, Lock::Read);
                    if table.as_ref().is_some_and(Table::is_partitioned) {
                        table::lock_with_descendants(relation, Lock::Read);
                    }
                    locked.insert(relation.to_u32(), table);
                }
            }
        }
    }
}

fn look(request: &Request, store: &dyn Store, caller: &Caller, locked: &Locked) -> Result<Look> {
    let Request { target, relation, .. } = *request;
    let Some((number, id)) = catalog::last_applied(target)? else { return Ok(Look::Done(None)) };
    let copies = copies(target, relation)?;
    let is_open = |copy: &&Copy| !locked.contains_key(&copy.relation.to_u32());
    let to_lock = copies.iter().filter(is_open).map(|copy| copy.relation).collect::<Vec<_>>();
    if !to_lock.is_empty() {
        return Ok(Look::MustLock(to_lock));
    }
    let held = Held::up_to(store, target, number, Uuid::parse_str(&id).ok())?;
    let mut proofs = Vec::new();
    for copy in &copies {
        let table = locked.get(&copy.relation.to_u32()).and_then(Option::as_ref);
        let earlier = (!copy.is_sent).then(|| held_of_unsent(copy, target, store)).transpose()?;
        let (number, held) = match &earlier {
            None => (number, &held),
            Some(Ok(earlier)) => (copy.number, earlier),
            Some(Err(gap)) => {
                let table = format!("{}.{}", copy.schema, copy.name);
                proofs.push(Proof::of_nothing(copy.number, Some(copy.relation), table, gap.clone()));
                continue;
            }
        };
        let comparing = Comparing { target, store, caller, held, sample: request.sample };
        let judged = comparing
            .judge(copy, table, |subject| Proof::of(number, copy.relation, subject, request.examples))?;
        proofs.push(match judged {
            Judged::Not { table, gap } => Proof::of_nothing(number, Some(copy.relation), table, gap),
            Judged::So { outcome, gaps } => Proof { gaps, ..outcome },
        });
    }
    if relation.is_none() {
        let is_known = |(schema, name): &(&str, &str)| {
            copies.iter().any(|copy| copy.schema == *schema && copy.name == *name)
        };
        for (schema, name) in held.tables().filter(|table| !is_known(table)) {
            let mapping = catalog::mapping(target, schema, name)?;
            if mapping.is_none_or(|mapping| mapping.relation.is_some()) {
                let gap = format!("no table here is its copy. {}", send_again(target, schema, name));
                proofs.push(Proof::of_nothing(number, None, format!("{schema}.{name}"), gap));
            }
        }
    }
    Ok(Look::Done(Some(proofs)))
}

/// Finds the batches that lead to the last one that held something of a copy which is not sent any more, or
/// returns why that cannot be: they may have expired since.
fn held_of_unsent(copy: &Copy, target: &str, store: &dyn Store) -> Result<Result<Held, String>> {
    match Held::up_to(store, target, copy.number, None) {
        Err(error) if error.is::<ProofError>() => Ok(Err(format!(
            "the table is not sent any more, and the store does not hold batch {}, the last that had \
             something of it",
            copy.number
        ))),
        held => held.map(Ok),
    }
}

/// Returns the copies of a target, or the one that is asked for.
pub fn copies(target: &str, relation: Option<Oid>) -> Result<Vec<Copy>> {
    let mut copies = catalog::copies(target)?;
    let Some(relation) = relation else { return Ok(copies) };
    copies.retain(|copy| copy.relation == relation);
    if copies.is_empty() {
        return Err(proof::not_of_target(relation, target)?.into());
    }
    Ok(copies)
}

/// The batches that copies are compared with.
pub struct Comparing<'a> {
    pub target: &'a str,
    pub store: &'a dyn Store,
    pub caller: &'a Caller,
    pub held: &'a Held,
    /// The keys that are compared; `None` compares all.
    pub sample: Option<Sample>,
}

/// What has come of a comparison.
pub enum Judged<T> {
    /// Nothing, and why.
    Not {
        table: String,
        gap: String,
    },
    So {
        outcome: T,
        gaps: Vec<String>,
    },
}

impl Comparing<'_> {
    /// Has a copy compared with its parts, as the owner of the table, if that can be done.
    pub fn judge<T>(
        &self,
        copy: &Copy,
        table: Option<&Table>,
        compare: impl FnOnce(&Subject) -> Result<T>,
    ) -> Result<Judged<T>> {
        let Copy { schema, name, .. } = copy;
        let send_again = || send_again(self.target, schema, name);
        let (Some(table), Some(shape)) = (table, Shape::of(copy.relation)?) else {
            let gap = format!("the copy has been dropped. {}", send_again());
            return Ok(Judged::Not { table: format!("{schema}.{name}"), gap });
        };
        self.require_readable(table, &shape)?;
        let nothing = |gap: String| Ok(Judged::Not { table: shape.qualified(), gap });
        if !copy.has_full_part {
            return nothing(format!("the copy has not received its rows. {}", send_again()));
        }
        let mapping = catalog::mapping(self.target, schema, name)?;
        let names = mapping.map(|mapping| mapping.columns).unwrap_or_default();
        let parts = self.held.parts_of(schema, name).into_iter();
        let parts = parts.map(|(manifest, part)| (manifest, resolve::renamed(part, &names)));
        let parts = parts.collect::<Vec<_>>();
        let Some(begin @ (_, first)) = parts.first() else {
            return nothing(format!("no batch in the store has anything of it. {}", send_again()));
        };
        if let Some((manifest, _)) = parts.iter().find(|(_, part)| part.fingerprint != first.fingerprint) {
            let (number, again) = (manifest.number, send_again());
            return nothing(format!("batch {number} has other columns, without being full. {again}"));
        }
        let lacking = not_here(first, &shape);
        let is_needed = |name: &&&str| {
            first.key.iter().any(|key| key == **name)
                || parts.iter().any(|(_, part)| part.format == Format::Binary)
        };
        if let Some(column) = lacking.iter().find(is_needed) {
            return nothing(format!("column \"{column}\" does not exist here. {}", send_again()));
        }
        let gap = match proof::gap(begin, self.held.missing, &send_again()) {
            Some(gap) if proof::tell_nothing(&parts) => return nothing(gap),
            gap => gap,
        };
        let mut gaps = Vec::new();
        if !lacking.is_empty() {
            gaps.push(format!("columns that do not exist here: {}", lacking.join(", ")));
        }
        gaps.extend(gap);
        let is_partial = first.kind != Kind::Full;
        let outcome = self.as_owner(table, &shape, parts, is_partial, compare)?;
        Ok(Judged::So { outcome, gaps })
    }

    fn as_owner<T>(
        &self,
        table: &Table,
        shape: &Shape,
        parts: Vec<(&Manifest, Part)>,
        is_partial: bool,
        compare: impl FnOnce(&Subject) -> Result<T>,
    ) -> Result<T> {
        let binary =
            parts.iter().find(|(_, part)| part.format == Format::Binary).map(|(_, part)| part.clone());
        let binary = match &binary {
            Some(part) => self.binary(table, shape, part)?,
            None => Binary::as_it_is(table, shape),
        };
        let rows = shape.as_from_item();
        let subject = Subject {
            store: self.store,
            parts,
            is_partial,
            rows: &rows,
            sample: self.sample,
            left_out: None,
            binary,
        };
        let place = format!("While comparing table \"{}\" with the store.", shape.qualified());
        report::with_detail(&place, true, || None, || self.caller.as_owner(table, || compare(&subject)))
    }

    /// Says how records in format binary are read: as an import of them would.
    fn binary<'a>(&self, table: &'a Table, shape: &'a Shape, part: &'a Part) -> Result<Binary<'a>> {
        let mut retyped = Vec::new();
        for column in &part.columns {
            let ours = shape.column(&column.name)?;
            retyped.extend(retyped::compare(column, ours, shape, table.owner(), part.format)?);
        }
        let names = part.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        let conversions = retyped::conversions(&retyped, &names, part.format);
        let refuse = move |misfit| retyped::refuse(misfit, &retyped, &names, part, shape, true).into();
        Ok(Binary { table, shape, conversions, refuse: Box::new(refuse) })
    }

    /// Requires that the caller may read a table, and that row security hides nothing of it.
    fn require_readable(&self, table: &Table, shape: &Shape) -> Result<()> {
        let (name, role) = (shape.name_for_errors(), self.caller.role());
        if !table.allows(role, &[Right::Select]) {
            let role = self.caller.name()?;
            return Err(TableError::NoPrivilege { table: name, privilege: "SELECT", role }.into());
        }
        let closed = readable::closed_schema(table, &name)?;
        let hidden = readable::hidden_rows(table, role, &name)?;
        closed.or(hidden).map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Says what has a table sent in full.
fn send_again(target: &str, schema: &str, name: &str) -> String {
    let (target, table) = (literal(target), TableName::new(schema, name).literal());
    format!("To have all rows sent again, run at the source: SELECT tx_reset({target}, {table})")
}
