//! The witness of a tracked table: what PostgreSQL's own catalog says of its members and triggers.
//!
//! Triggers and event triggers record changes, but can be disabled, dropped and made again, and their names
//! can change. The rows of PostgreSQL's catalog show that afterwards. Invariant: if a change can have escaped
//! the shadow between two exports, the witness of the second does not follow that of the first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::installed::{self, Installed, TriggerFinder};
use crate::pg::query::{Row, in_snapshot};
use crate::pg::written::{Column, Written};

/// Names by what they are the names of, each with what tells that it was another one for a while.
type Names = BTreeMap<String, (String, String)>;

/// What PostgreSQL's catalog says of a tracked table in one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The extension's trigger functions and event triggers, and who wrote them last.
    functions: Option<String>,
    /// What the text of values is made of beside the rows: the labels of enums, and the attributes of
    /// composite types by number. Of the types of columns, and of all that those are made of.
    names: Names,
    /// The members, by oid.
    members: BTreeMap<String, Member>,
}

/// What PostgreSQL's catalog says of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    /// Its rows are rows of the tracked table.
    has_rows: bool,
    /// The parents of a partition, each with the transaction that has attached it.
    parents: Vec<(String, String)>,
    /// The capture triggers, each with the transaction that wrote it last.
    triggers: Vec<(String, String)>,
    /// pg_class.relfilenode
    storage: Option<String>,
    /// pg_class.reltoastrelid: SET UNLOGGED and SET LOGGED write it anew, and a crash in between empties the
    /// table.
    toast: Option<String>,
    /// The expressions of virtual generated columns.
    computed: Option<String>,
    /// The columns, and who wrote them last.
    columns: Option<String>,
}

impl Witness {
    /// Says whether all changes of rows between an earlier witness and this one are in the shadow.
    ///
    /// A rewrite alone is no change: VACUUM FULL and CLUSTER give a table another storage as well. But those
    /// do not write its columns. A partition whose triggers are not of the transaction that attached it may
    /// have been written to before it had them. ALTER TYPE changes what is stored in no row: it gives a label
    /// another name, or an attribute that was made anew no values. New labels and attributes are in no row.
    pub fn follows(&self, before: &Witness) -> bool {
        let stays = |(relation, was): (&String, &Member)| match self.members.get(relation) {
            Some(is) => {
                is.has_rows == was.has_rows
                    && is.parents == was.parents
                    && is.triggers == was.triggers
                    && is.computed == was.computed
                    && (is.storage == was.storage || is.columns == was.columns)
                    && (was.toast.is_none() || is.toast == was.toast)
            }
            None => !was.has_rows,
        };
        let is_new = |(relation, _): &(&String, &Member)| !before.members.contains_key(*relation);
        self.functions == before.functions
            && before.names.iter().all(|(object, name)| self.names.get(object) == Some(name))
            && before.members.iter().all(stays)
            && self.members.iter().filter(is_new).all(|(_, member)| member.came_with_triggers())
    }

    /// The same where pg_upgrade has written the rows of PostgreSQL's catalog anew since the earlier one. It
    /// keeps the oids of tables, types and labels (the comment at the head of pg_upgrade.c), which
    /// must be the same.
    pub fn follows_upgrade(&self, before: &Witness) -> bool {
        self.names.keys().eq(before.names.keys())
            && self.names.values().map(|(name, _)| name).eq(before.names.values().map(|(name, _)| name))
            && self.kinship() == before.kinship()
    }

    /// The parents of the members that hold rows.
    fn kinship<'a>(&'a self) -> BTreeMap<&'a str, Vec<&'a str>> {
        let of = |member: &'a Member| member.parents.iter().map(|(parent, _)| parent.as_str()).collect();
        let with_rows = self.members.iter().filter(|(_, member)| member.has_rows);
        with_rows.map(|(relation, member)| (relation.as_str(), of(member))).collect()
    }
}

impl Member {
    fn came_with_triggers(&self) -> bool {
        let attached_by = self.parents.first().map(|(_, xmin)| xmin);
        !self.has_rows || self.triggers.iter().all(|(_, xmin)| Some(xmin) == attached_by)
    }
}

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
            is_intact: row.optional::<String>(6)?.map(|flag| flag == "t"),
        })
    }

    fn member(&self, parents: Vec<(Oid, u32)>, triggers: &[Installed], columns: &[Column]) -> Member {
        let pair = |(oid, xmin): (Oid, u32)| (oid.to_u32().to_string(), xmin.to_string());
        let mut triggers = triggers.iter().map(|one| (one.oid, one.written_by)).collect::<Vec<_>>();
        triggers.sort_by_key(|(oid, _)| oid.to_u32());
        Member {
            has_rows: self.has_rows,
            parents: parents.into_iter().map(pair).collect(),
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
        let functions = in_snapshot(include_str!("witness_functions.sql"), &[])?;
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
    let sql = "SELECT m.tracked, m.relation::oid, m.relation = t.relation, m.has_rows, c.relfilenode,
                      nullif(c.reltoastrelid, 0), m.is_intact
                 FROM table_export.member AS m
                 JOIN table_export.tracked AS t ON t.id = m.tracked
                 JOIN pg_class AS c ON c.oid = m.relation
                WHERE m.tracked = ANY ($1::integer[])";
    Ok(in_snapshot(sql, &[&ids])?.iter().map(Place::of).collect::<Result<_, _>>()?)
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
    for row in in_snapshot(include_str!("witness_names.sql"), &[&types.as_slice()])? {
        names.entry(row.get(0)?).or_default().insert(row.get(1)?, (row.get(2)?, row.get(3)?));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::{Member, Witness};

    fn pair(a: &str, b: &str) -> (String, String) {
        (a.to_owned(), b.to_owned())
    }

    fn partition(attached_by: &str, triggers_by: &str) -> Member {
        Member {
            has_rows: true,
            parents: vec![pair("1", attached_by)],
            triggers: vec![pair("7", triggers_by)],
            storage: Some("5".to_owned()),
            toast: None,
            computed: None,
            columns: Some("a".to_owned()),
        }
    }

    fn witness(members: &[(&str, Member)]) -> Witness {
        let members = members.iter().map(|(oid, member)| ((*oid).to_owned(), member.clone())).collect();
        Witness { functions: None, names: Default::default(), members }
    }

    #[test]
    fn a_partition_that_is_gone_was_a_change_and_an_ancestor_was_none() {
        let root = ("1", Member { parents: Vec::new(), ..partition("9", "9") });
        let ancestor = Member { has_rows: false, ..partition("9", "9") };
        let now = witness(std::slice::from_ref(&root));
        assert!(!now.follows(&witness(&[root.clone(), ("2", partition("9", "9"))])));
        assert!(now.follows(&witness(&[root, ("2", ancestor)])));
    }

    #[test]
    fn a_partition_must_come_with_its_triggers() {
        let before = witness(&[]);
        assert!(witness(&[("2", partition("9", "9"))]).follows(&before));
        assert!(!witness(&[("2", partition("9", "10"))]).follows(&before));
    }

    #[test]
    fn another_label_was_a_change_and_one_more_was_none() {
        let with = |names: &[(&str, &str)]| {
            let names = names.iter().map(|(object, name)| ((*object).to_owned(), pair(name, "9")));
            Witness { names: names.collect(), ..Witness::default() }
        };
        let before = with(&[("label 1", "sad")]);
        assert!(!with(&[("label 1", "blue")]).follows(&before));
        assert!(!with(&[("label 2", "sad")]).follows(&before));
        assert!(with(&[("label 1", "sad"), ("label 2", "glad")]).follows(&before));
    }

    #[test]
    fn another_expression_of_a_virtual_column_was_a_change() {
        let with = |computed: &str| {
            let computed = Some(computed.to_owned());
            witness(&[("2", Member { computed, ..partition("9", "9") })])
        };
        assert!(with("7").follows(&with("7")));
        assert!(!with("8").follows(&with("7")));
    }

    #[test]
    fn a_rewrite_is_a_change_only_if_columns_were_written() {
        let before = witness(&[("2", partition("9", "9"))]);
        let with = |storage: &str, columns: &str| {
            let storage = Some(storage.to_owned());
            witness(&[("2", Member { storage, columns: Some(columns.to_owned()), ..partition("9", "9") })])
        };
        assert!(with("6", "a").follows(&before));
        assert!(with("5", "b").follows(&before));
        assert!(!with("6", "b").follows(&before));
    }
}
