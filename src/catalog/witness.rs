//! The witness of a tracked table: what PostgreSQL's own catalog says of its members and triggers.
//!
//! Triggers and event triggers record changes, but can be disabled, dropped and made again, and their names
//! can change. The rows of PostgreSQL's catalog show that afterwards. Invariant: if a change can have escaped
//! the shadow between two exports, the witness of the second does not follow that of the first, or the change
//! is within the bounds of a partition that has gone or come.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::installed::{self, Installed, TriggerFinder};
use crate::pg::query::{Row, in_snapshot};
use crate::pg::written::{Column, Written};
use crate::table::bounds;
use batch::{Condition, Range};

/// What PostgreSQL's catalog says of a tracked table in one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The extension's trigger functions and event triggers, and who wrote them last.
    functions: Option<String>,
    /// What the text of values is made of beside the rows: the labels of enums, and the attributes of
    /// composite types by number. Of the types of columns, and of all that those are made of.
    names: BTreeMap<String, String>,
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
    /// The bounds of a partition, as PostgreSQL shows them.
    bounds: Option<String>,
    /// The columns that it is partitioned by. `None` inside for one that is an expression, or whose order or
    /// equality differs from that of its type, or by whose hash it is partitioned.
    partitioned_by: Option<Vec<Option<String>>>,
    /// The capture triggers, each with the transaction that wrote it last.
    triggers: Vec<(String, String)>,
    /// pg_class.relfilenode
    storage: Option<String>,
    /// The expressions of virtual generated columns.
    computed: Option<String>,
    /// The columns, and who wrote them last.
    columns: Option<String>,
}

impl Witness {
    /// Returns the partitions that have gone and come since an earlier witness, if all other changes of rows
    /// between the two are in the shadow; `None` if one may not be.
    ///
    /// A rewrite alone is no change: VACUUM FULL and CLUSTER give a table another storage as well. But those
    /// do not write its columns. A partition whose triggers are not of a transaction that attached it may
    /// have been written to before it had them. ALTER TYPE changes what is stored in no row: it gives a label
    /// another name, or an attribute that was made anew no values. New labels and attributes are in no row.
    pub fn since<'a>(&'a self, before: &'a Witness) -> Option<Partitions<'a>> {
        let partitions = Partitions { before, now: self, gone: self.lacks(before), came: before.lacks(self) };
        let stays = |(relation, was): (&String, &Member)| match self.members.get(relation) {
            _ if partitions.gone.contains(relation.as_str()) || partitions.has_come(relation) => true,
            Some(is) => {
                is.parents == was.parents
                    && is.triggers == was.triggers
                    && is.computed == was.computed
                    && (is.storage == was.storage || is.columns == was.columns)
            }
            None => true,
        };
        let has_come = |(relation, _): &(&String, &Member)| partitions.has_come(relation);
        let follows = self.functions == before.functions
            && before.names.iter().all(|(object, name)| self.names.get(object) == Some(name))
            && before.members.iter().all(stays)
            && self.members.iter().filter(has_come).all(|(relation, _)| self.came_with_triggers(relation));
        follows.then_some(partitions)
    }

    /// Returns the members of another witness with rows of the tracked table that are none in this one, or
    /// have been attached anew.
    fn lacks<'a>(&self, other: &'a Witness) -> HashSet<&'a str> {
        let is_same = |relation: &String, theirs: &Member| {
            self.members.get(relation).is_some_and(|ours| ours.has_rows && ours.parents == theirs.parents)
        };
        let lacking =
            other.members.iter().filter(|(relation, theirs)| theirs.has_rows && !is_same(relation, theirs));
        lacking.map(|(relation, _)| relation.as_str()).collect()
    }

    /// A member and the tables that it is a partition of, up to the tracked table.
    fn chain<'a>(&'a self, relation: &str) -> impl Iterator<Item = (&'a str, &'a Member)> {
        let member =
            |relation: &str| self.members.get_key_value(relation).map(|(oid, one)| (oid.as_str(), one));
        std::iter::successors(member(relation), move |(_, one)| {
            one.parents.first().and_then(|(parent, _)| member(parent))
        })
    }

    /// Says whether the triggers of a partition are of transactions that attached it, or a table above it:
    /// they have been there since it is a member.
    fn came_with_triggers(&self, relation: &str) -> bool {
        let links = self.chain(relation).flat_map(|(_, one)| &one.parents).map(|(_, xmin)| xmin);
        let links = links.collect::<HashSet<_>>();
        let own = self.members.get(relation).map_or(&[][..], |one| &one.triggers);
        own.iter().all(|(_, xmin)| links.contains(xmin))
    }

    /// What the bounds of a partition, and those of the tables that it is in, say of its rows.
    fn range(&self, relation: &str, is_said: IsSaid) -> Range {
        let pairs = self.chain(relation).zip(self.chain(relation).skip(1));
        let conditions = pairs.filter_map(|((_, one), (_, parent))| {
            let columns = parent.partitioned_by.iter().flatten().cloned().collect::<Option<Vec<_>>>()?;
            bounds::condition(one.bounds.as_deref()?, &columns)
        });
        conditions.filter(is_said).collect()
    }

    /// Returns the ranges that hold all rows of a partition; `None` if there is one whose bounds say nothing.
    fn ranges(&self, relation: &str, is_said: IsSaid) -> Option<Vec<Range>> {
        let range = self.range(relation, is_said);
        if !range.is_empty() {
            return Some(vec![range]);
        }
        self.members.get(relation)?.partitioned_by.as_ref()?;
        let is_below = |one: &Member| one.parents.first().is_some_and(|(parent, _)| parent == relation);
        let below = self.members.iter().filter(|(_, one)| is_below(one));
        let ranges = below.map(|(partition, _)| self.ranges(partition, is_said)).collect::<Option<Vec<_>>>();
        Some(ranges?.concat())
    }
}

/// Says whether a batch can say a condition.
type IsSaid<'a> = &'a dyn Fn(&Condition) -> bool;

/// The partitions that have gone and come between two witnesses.
///
/// All rows that have gone with a partition were within its bounds in the earlier witness, unless the shadow
/// has their keys. All that came with one are within its bounds now, unless it has gone since.
pub struct Partitions<'a> {
    before: &'a Witness,
    now: &'a Witness,
    /// Those that are no members any more, or have been attached anew.
    gone: HashSet<&'a str>,
    /// Those that are members, or have been attached anew.
    came: HashSet<&'a str>,
}

impl Partitions<'_> {
    /// Says whether a partition has come, by itself or with a table above it.
    fn has_come(&self, relation: &str) -> bool {
        self.now.chain(relation).any(|(one, _)| self.came.contains(one))
    }

    /// Returns the ranges within which rows may have gone and come without a trace in the shadow; `None` if
    /// they cannot be told. Partitions that were empty when they came do not count, unless `with_rows`.
    pub fn ranges(&self, with_rows: bool, is_said: IsSaid) -> Option<Vec<Range>> {
        let of = |witness: &Witness, which: &HashSet<&str>, counts: &dyn Fn(&str) -> bool| {
            let is_top = |one: &&&str| !witness.chain(one).skip(1).any(|(above, _)| which.contains(above));
            let tops = which.iter().filter(is_top).filter(|one| counts(one));
            let ranges = tops.map(|one| witness.ranges(one, is_said)).collect::<Option<Vec<_>>>();
            Some(ranges?.concat())
        };
        let mut ranges = of(self.before, &self.gone, &|_| true)?;
        let came_again = |one: &str| self.before.members.get(one).is_some_and(|was| was.has_rows);
        ranges.extend(of(self.now, &self.came, &|one| with_rows || came_again(one))?);
        let mut distinct = Vec::new();
        for range in ranges {
            if !distinct.contains(&range) {
                distinct.push(range);
            }
        }
        distinct.sort_by_key(|range| format!("{range:?}"));
        Some(distinct)
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
            is_intact: row.optional::<String>(5)?.map(|flag| flag == "t"),
            bounds: None,
            partitioned_by: None,
        })
    }

    fn among_partitions(row: &Row) -> Result<Place, pg::Error> {
        Ok(Place { bounds: row.optional(6)?, partitioned_by: row.json(7)?, ..Place::of(row)? })
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
pub fn witnesses() -> Result<BTreeMap<i32, Seen>> {
    let mut look = Look::begin()?;
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
            self.types.insert(place.tracked, of_users.filter(|&oid| oid >= FIRST_OF_USERS).collect());
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
    let (plain, others): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.flag(6));
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
fn names(types: &BTreeMap<i32, BTreeSet<u32>>) -> Result<BTreeMap<u32, BTreeMap<String, String>>> {
    let types = types.values().flatten().collect::<BTreeSet<_>>();
    if types.is_empty() {
        return Ok(BTreeMap::new());
    }
    let types = types.into_iter().map(u32::to_string).collect::<Vec<_>>();
    let mut names = BTreeMap::<_, BTreeMap<_, _>>::new();
    for row in in_snapshot(include_str!("witness_names.sql"), &[&types.as_slice()])? {
        names.entry(row.get(0)?).or_default().insert(row.get(1)?, row.get(2)?);
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
            bounds: Some("FOR VALUES IN (1)".to_owned()),
            partitioned_by: None,
            triggers: vec![pair("7", triggers_by)],
            storage: Some("5".to_owned()),
            computed: None,
            columns: Some("a".to_owned()),
        }
    }

    fn witness(members: &[(&str, Member)]) -> Witness {
        let members = members.iter().map(|(oid, member)| ((*oid).to_owned(), member.clone())).collect();
        Witness { functions: None, names: Default::default(), members }
    }

    fn root() -> (&'static str, Member) {
        let partitioned_by = Some(vec![Some("r".to_owned())]);
        ("1", Member { parents: Vec::new(), bounds: None, partitioned_by, ..partition("9", "9") })
    }

    fn below(parent: &str, attached_by: &str, bounds: &str) -> Member {
        let bounds = Some(bounds.to_owned());
        Member { parents: vec![pair(parent, attached_by)], bounds, ..partition(attached_by, attached_by) }
    }

    /// The ranges in which rows may have gone and come, as text; `None` if a change may have escaped, or if
    /// they cannot be told.
    fn ranges(now: &[(&str, Member)], before: &[(&str, Member)], with_rows: bool) -> Option<Vec<String>> {
        let (now, before) = (witness(now), witness(before));
        let ranges = now.since(&before)?.ranges(with_rows, &|_| true)?;
        Some(ranges.iter().map(|range| serde_json::to_string(range).expect("JSON")).collect())
    }

    fn list(values: &[i32]) -> String {
        let among = |value| format!(r#"{{"in":{{"column":"r","values":["{value}"]}}}}"#);
        format!("[{}]", values.iter().map(among).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn a_partition_that_is_gone_was_a_change_within_its_bounds_and_an_ancestor_was_none() {
        let ancestor = Member { has_rows: false, ..partition("9", "9") };
        let with = [root(), ("2", partition("9", "9"))];
        assert_eq!(ranges(&[root()], &with, false), Some(vec![list(&[1])]));
        assert_eq!(ranges(&with, &with, true), Some(vec![]));
        assert_eq!(ranges(&[root()], &[root(), ("2", ancestor)], false), Some(vec![]));
        let detaching = Member { has_rows: false, parents: vec![], ..partition("9", "9") };
        assert_eq!(ranges(&[root(), ("2", detaching.clone())], &with, false), Some(vec![list(&[1])]));
        assert_eq!(ranges(&[root()], &[root(), ("2", detaching)], false), Some(vec![]));
    }

    #[test]
    fn a_partition_must_come_with_its_triggers() {
        assert!(ranges(&[root(), ("2", partition("9", "9"))], &[root()], false).is_some());
        assert!(ranges(&[root(), ("2", partition("9", "10"))], &[root()], false).is_none());
    }

    #[test]
    fn a_partition_that_came_empty_is_no_change() {
        let with = [root(), ("2", partition("9", "9"))];
        assert_eq!(ranges(&with, &[root()], false), Some(vec![]));
        assert_eq!(ranges(&with, &[root()], true), Some(vec![list(&[1])]));
    }

    #[test]
    fn a_partition_that_was_attached_anew_has_gone_and_come() {
        let before = [root(), ("2", below("1", "9", "FOR VALUES IN (1)"))];
        let anew = [root(), ("2", below("1", "10", "FOR VALUES IN (2)"))];
        assert_eq!(ranges(&anew, &before, false), Some(vec![list(&[1]), list(&[2])]));
        let untouched = Member { triggers: vec![pair("7", "9")], ..below("1", "10", "FOR VALUES IN (2)") };
        assert_eq!(
            ranges(&[root(), ("2", untouched)], &before, false),
            None,
            "it has the triggers of before"
        );
    }

    #[test]
    fn the_bounds_of_a_table_above_say_it_for_all_below() {
        let above = |attached_by, bounds| Member {
            partitioned_by: root().1.partitioned_by,
            ..below("1", attached_by, bounds)
        };
        let leaf = |triggers_by: &str| Member {
            triggers: vec![pair("7", triggers_by)],
            ..below("2", "9", "FOR VALUES IN (5)")
        };
        let before = [root(), ("2", above("9", "FOR VALUES IN (1)")), ("3", leaf("9"))];
        assert_eq!(ranges(&[root()], &before, false), Some(vec![list(&[1])]));
        let without_leaf = [root(), ("2", above("9", "FOR VALUES IN (1)"))];
        assert_eq!(ranges(&without_leaf, &before, false), Some(vec![list(&[5, 1])]));
        // The table above is attached anew, and so is the leaf, with it.
        let anew = [root(), ("2", above("11", "FOR VALUES IN (2)")), ("3", leaf("11"))];
        assert_eq!(ranges(&anew, &before, false), Some(vec![list(&[1]), list(&[2])]));
        let late = [root(), ("2", above("11", "FOR VALUES IN (2)")), ("3", leaf("12"))];
        assert_eq!(ranges(&late, &before, false), None);
        // By its own bounds the table above cannot be told, and the leaf can.
        let hashed =
            [root(), ("2", above("9", "FOR VALUES WITH (modulus 2, remainder 0)")), ("3", leaf("9"))];
        assert_eq!(ranges(&[root()], &hashed, false), Some(vec![list(&[5])]));
    }

    #[test]
    fn bounds_that_say_nothing_of_the_key_tell_no_range() {
        let other = |bounds: &str| [root(), ("2", below("1", "9", bounds))];
        assert_eq!(ranges(&[root()], &other("DEFAULT"), false), None);
        let by_expression = ("1", Member { partitioned_by: Some(vec![None]), ..root().1 });
        assert_eq!(ranges(&[root()], &[by_expression, ("2", partition("9", "9"))], false), None);
        let (now, before) = (witness(&[root()]), witness(&other("FOR VALUES IN (1)")));
        let partitions = now.since(&before).expect("no other change");
        assert!(partitions.ranges(false, &|_| false).is_none(), "a batch cannot say it");
    }

    #[test]
    fn another_label_was_a_change_and_one_more_was_none() {
        let with = |names: &[(&str, &str)]| {
            let names = names.iter().map(|(object, name)| ((*object).to_owned(), (*name).to_owned()));
            Witness { names: names.collect(), ..Witness::default() }
        };
        let before = with(&[("label 1", "sad")]);
        let follows = |now: &Witness, before: &Witness| now.since(before).is_some();
        assert!(!follows(&with(&[("label 1", "blue")]), &before));
        assert!(!follows(&with(&[("label 2", "sad")]), &before));
        assert!(follows(&with(&[("label 1", "sad"), ("label 2", "glad")]), &before));
    }

    #[test]
    fn another_expression_of_a_virtual_column_was_a_change() {
        let with = |computed: &str| {
            let computed = Some(computed.to_owned());
            witness(&[("2", Member { computed, ..partition("9", "9") })])
        };
        assert!(with("7").since(&with("7")).is_some());
        assert!(with("8").since(&with("7")).is_none());
    }

    #[test]
    fn a_rewrite_is_a_change_only_if_columns_were_written() {
        let before = witness(&[("2", partition("9", "9"))]);
        let with = |storage: &str, columns: &str| {
            let storage = Some(storage.to_owned());
            witness(&[("2", Member { storage, columns: Some(columns.to_owned()), ..partition("9", "9") })])
        };
        assert!(with("6", "a").since(&before).is_some());
        assert!(with("5", "b").since(&before).is_some());
        assert!(with("6", "b").since(&before).is_none());
    }
}
