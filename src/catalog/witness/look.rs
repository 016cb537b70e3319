//! Makes the witnesses of the tracked tables.
//!
//! Input: PostgreSQL's catalog as the active snapshot sees it. Output: a witness for each tracked table, and
//! whether its triggers are intact.
//!
//! Invariant: nothing is read in a newer state than that of the snapshot: the next export would not notice
//! what came between.

use std::collections::{BTreeMap, BTreeSet};

use super::{Member, Names, Witness};
use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::installed::{self, Installed, TriggerFinder};
use crate::pg::query::{Row, in_snapshot};
use crate::pg::written::{Column, Written};

/// What is seen of a tracked table in a snapshot.
pub struct Seen {
    pub witness: Witness,
    /// All four triggers exist on every member, call our function and are ENABLE ALWAYS.
    pub is_intact: bool,
}

/// A table through which statements can write to a tracked one, as the snapshot sees it.
struct Place {
    tracked: i32,
    relation: Oid,
    is_tracked_itself: bool,
    has_rows: bool,
    storage: String,
    toast: Option<String>,
    /// `None`: its triggers tell, because it is a plain table without relatives.
    is_intact: Option<bool>,
    bounds: Option<String>,
    partitioned_by: Option<Vec<Option<String>>>,
}

impl Place {
    fn of(row: &Row) -> Result<Place, pg::Error> {
        Ok(Place {
            tracked: row.get(0)?,
            relation: Oid::from(row.get::<u32>(1)?),
            is_tracked_itself: row.flag(2),
            has_rows: row.flag(3),
            storage: row.get(4)?,
            toast: row.optional(5)?,
            is_intact: row.optional_flag(6),
            bounds: None,
            partitioned_by: None,
        })
    }

    fn among_partitions(row: &Row) -> Result<Place, pg::Error> {
        Ok(Place { bounds: row.optional(7)?, partitioned_by: row.json(8)?, ..Place::of(row)? })
    }

    fn member(&self, parents: Vec<(Oid, u32)>, triggers: &[Installed], columns: &[Column]) -> Member {
        let pair = |(oid, xmin): (Oid, u32)| (oid.to_u32().to_string(), xmin.to_string());
        let mut triggers = triggers.iter().map(|one| (one.oid, one.written_by)).collect::<Vec<_>>();
        triggers.sort_by_key(|(oid, _)| oid.to_u32());
        Member {
            has_rows: self.has_rows,
            parents: parents.into_iter().map(pair).collect(),
            bounds: self.bounds.clone(),
            partitioned_by: self.partitioned_by.clone(),
            triggers: triggers.into_iter().map(pair).collect(),
            storage: self.has_rows.then(|| self.storage.clone()),
            toast: self.toast.clone(),
            computed: self.has_rows.then(|| computed(columns)).flatten(),
            columns: self.has_rows.then(|| digest(columns)).flatten(),
        }
    }
}

/// Returns the expressions of virtual generated columns, whose values are nowhere else.
fn computed(columns: &[Column]) -> Option<String> {
    let virtual_ones = columns.iter().filter(|column| column.is_virtual);
    let expressions = virtual_ones.filter_map(|column| Some(column.expression?.to_u32().to_string()));
    let expressions = expressions.collect::<Vec<_>>();
    (!expressions.is_empty()).then(|| expressions.join(" "))
}

/// Returns what differs after ALTER TABLE has given a column other values: that writes the column's row, or
/// that of its expression.
fn digest(columns: &[Column]) -> Option<String> {
    let expression = |column: &Column| column.expression.map_or(0, Oid::to_u32);
    let column = |column: &Column| format!("{} {} {}", column.attnum, column.written_by, expression(column));
    let text = columns.iter().map(column).collect::<Vec<_>>().join(", ");
    (!columns.is_empty()).then(|| batch::sha256(text.as_bytes()))
}

/// Returns the witnesses of the tracked tables, by their ids, in the active snapshot, and whether they are
/// intact.
///
/// The view `table_export.member` says which tables are members, and whether they are intact. A plain table
/// without relatives is its only member, which most tables are, and its triggers show by themselves that they
/// are in place: the view is asked about it only if they do not.
///
/// `sent` are the types of columns that are sent of a tracked table, beside those of its own.
pub fn witnesses(sent: &[(i32, Oid)]) -> Result<BTreeMap<i32, Seen>> {
    let mut look = Look::begin()?;
    for (tracked, one) in sent.iter().filter(|(_, one)| one.to_u32() >= FIRST_OF_USERS) {
        look.types.entry(*tracked).or_default().insert(one.to_u32());
    }
    let (plain, mut others) = plain_tables()?;
    for place in plain {
        if !look.add(&place) {
            others.push(place.tracked.to_string());
        }
    }
    for place in members_of(&others)? {
        look.add(&place);
    }
    let Look { mut seen, types, .. } = look;
    let names = names(&types)?;
    for (tracked, seen) in &mut seen {
        let of_types = types.get(tracked).into_iter().flatten().filter_map(|one| names.get(one));
        let of_types = of_types.flatten().map(|(object, name)| (object.clone(), name.clone()));
        seen.witness.names = of_types.collect();
    }
    Ok(seen)
}

/// What is looked up for witnesses, and what has been found so far.
struct Look {
    triggers: TriggerFinder,
    written: Written,
    functions: Option<String>,
    seen: BTreeMap<i32, Seen>,
    /// The types of the columns of tracked tables, those of users.
    types: BTreeMap<i32, BTreeSet<u32>>,
}

impl Look {
    fn begin() -> Result<Look> {
        let no_function = || pg::Error::Internal("the function capture() is gone".into());
        let capture = installed::function(c"capture").ok_or_else(no_function)?;
        let functions = in_snapshot(include_str!("functions.sql"), &[])?;
        Ok(Look {
            triggers: TriggerFinder::begin(capture)?,
            written: Written::begin()?,
            functions: functions.first().map(|row| row.optional(0)).transpose()?.flatten(),
            seen: BTreeMap::new(),
            types: BTreeMap::new(),
        })
    }

    /// Adds a member to the witness of its tracked table, and the types of that table's columns. Returns
    /// false if only the view can say whether the member is intact: then nothing is added.
    fn add(&mut self, place: &Place) -> bool {
        let triggers = self.triggers.installed(place.relation);
        let triggers = triggers.into_iter().filter(|one| one.argument == place.tracked).collect::<Vec<_>>();
        let all_capture = || installed::capture_each_statement(&triggers.iter().collect::<Vec<_>>());
        let is_intact = match place.is_intact {
            Some(is_intact) => is_intact,
            None if all_capture() => true,
            None => return false,
        };
        let columns = self.written.columns(place.relation);
        if place.is_tracked_itself {
            let of_users = columns.iter().filter_map(|column| column.type_oid).map(Oid::to_u32);
            let of_users = of_users.filter(|&oid| oid >= FIRST_OF_USERS);
            self.types.entry(place.tracked).or_default().extend(of_users);
        }
        let has_parents = place.has_rows && !place.is_tracked_itself;
        let parents = if has_parents { self.written.parents(place.relation) } else { Vec::new() };
        let functions = &self.functions;
        let seen = self.seen.entry(place.tracked).or_insert_with(|| {
            let witness = Witness { functions: functions.clone(), ..Witness::default() };
            Seen { witness, is_intact: true }
        });
        seen.is_intact &= is_intact;
        let relation = place.relation.to_u32().to_string();
        seen.witness.members.insert(relation, place.member(parents, &triggers, &columns));
        true
    }
}

/// The oid from which on objects are those of users (transam.h, FirstNormalObjectId).
const FIRST_OF_USERS: u32 = 16384;

/// Returns the tracked tables that are plain and have no relatives, and the ids of the others.
fn plain_tables() -> Result<(Vec<Place>, Vec<String>)> {
    let rows = in_snapshot(include_str!("plain_tables.sql"), &[])?;
    let (plain, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.flag(7));
    let plain = plain.into_iter().map(Place::of).collect::<Result<_, _>>()?;
    Ok((plain, others.into_iter().map(|row| row.get(0)).collect::<Result<_, _>>()?))
}

/// Returns the members of tracked tables, by the ids of these.
fn members_of(ids: &[String]) -> Result<Vec<Place>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = in_snapshot(include_str!("members.sql"), &[&ids])?;
    Ok(rows.iter().map(Place::among_partitions).collect::<Result<_, _>>()?)
}

/// Returns the labels and the attributes of each type of a user that is among these, and of all that it is
/// made of.
fn names(types: &BTreeMap<i32, BTreeSet<u32>>) -> Result<BTreeMap<u32, Names>> {
    let types = types.values().flatten().collect::<BTreeSet<_>>();
    if types.is_empty() {
        return Ok(BTreeMap::new());
    }
    let types = types.into_iter().map(u32::to_string).collect::<Vec<_>>();
    let mut names = BTreeMap::<_, Names>::new();
    for row in in_snapshot(include_str!("names.sql"), &[&types.as_slice()])? {
        names.entry(row.get(0)?).or_default().insert(row.get(1)?, (row.get(2)?, row.get(3)?));
    }
    Ok(names)
}
