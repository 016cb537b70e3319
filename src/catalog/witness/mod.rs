//! The witness of a tracked table: what PostgreSQL's own catalog says of its members and triggers.
//!
//! Triggers and event triggers record changes, but can be disabled, dropped and made again, and their names
//! can change. The rows of PostgreSQL's catalog show that afterwards. Invariant: if a change can have escaped
//! the shadow between two exports, the witness of the second does not follow that of the first, or the change
//! is within the bounds of a partition that has gone or come.

mod look;

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::table::bounds;
use crate::table::joined::joined;
use batch::{Condition, Range};

pub use look::{Seen, witnesses};

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
    /// pg_upgrade has written PostgreSQL's catalog anew since. Which partitions had been attached before
    /// that, after the last export, is not known.
    #[serde(default)]
    is_carried: bool,
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
    /// pg_class.reltoastrelid: SET UNLOGGED and SET LOGGED write it anew, and a crash in between empties the
    /// table.
    toast: Option<String>,
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
                    && (was.toast.is_none() || is.toast == was.toast)
            }
            None => true,
        };
        let has_come = |(relation, _): &(&String, &Member)| partitions.has_come(relation);
        let follows = self.functions == before.functions
            && before.names.iter().all(|(object, name)| self.names.get(object) == Some(name))
            && before.members.iter().all(stays)
            && self.members.iter().filter(has_come).all(|(one, _)| partitions.came_with_triggers(one));
        follows.then_some(partitions)
    }

    /// Returns this witness in the place of an earlier one, if nothing but pg_upgrade has written the rows of
    /// PostgreSQL's catalog since. It keeps the oids of tables, types and labels (the comment at the head of
    /// pg_upgrade.c), which must be the same.
    pub fn carried_from(self, before: &Witness) -> Option<Witness> {
        let is_borne_out = self.names.keys().eq(before.names.keys())
            && self.names.values().map(|(name, _)| name).eq(before.names.values().map(|(name, _)| name))
            && self.kinship() == before.kinship();
        is_borne_out.then_some(Witness { is_carried: true, ..self })
    }

    /// The parents of the members that hold rows.
    fn kinship<'a>(&'a self) -> BTreeMap<&'a str, Vec<&'a str>> {
        let of = |member: &'a Member| member.parents.iter().map(|(parent, _)| parent.as_str()).collect();
        let with_rows = self.members.iter().filter(|(_, member)| member.has_rows);
        with_rows.map(|(relation, member)| (relation.as_str(), of(member))).collect()
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

    /// What the bounds of a partition, and those of the tables that it is in, say of its rows.
    fn range(&self, relation: &str, is_said: IsSaid) -> Range {
        let pairs = self.chain(relation).zip(self.chain(relation).skip(1));
        let conditions = pairs.filter_map(|((_, one), (_, parent))| {
            let columns = parent.partitioned_by.iter().flatten().cloned().collect::<Option<Vec<_>>>()?;
            bounds::condition(one.bounds.as_deref()?, &columns)
        });
        let mut range = Range::new();
        for condition in conditions.filter(is_said) {
            if !range.contains(&condition) {
                range.push(condition);
            }
        }
        range
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

    /// Says whether a partition has its triggers since it is a member: they are of the transaction that made
    /// it one, by attaching it or a table above it. Those that it kept while it was away are older.
    fn came_with_triggers(&self, relation: &str) -> bool {
        let new = self.now.chain(relation).filter(|(one, _)| self.came.contains(one));
        let links = new.flat_map(|(_, one)| &one.parents).filter_map(|(_, xmin)| xmin.parse::<u32>().ok());
        // Transaction ids are a circle, of which less than a half has passed between two links.
        let newest = links.reduce(|one, other| if one.wrapping_sub(other) < 1 << 31 { one } else { other });
        let newest = newest.map(|xmin| xmin.to_string());
        let own = self.now.members.get(relation).map_or(&[][..], |one| &one.triggers);
        own.iter().all(|(_, xmin)| Some(xmin) == newest.as_ref())
    }

    /// Returns the members that were some at the earlier witness as well, and all above them.
    fn former(&self) -> HashSet<&str> {
        let before = self.before.members.iter().filter(|(_, was)| was.has_rows);
        before.flat_map(|(relation, _)| self.now.chain(relation)).map(|(one, _)| one).collect()
    }

    /// Returns the ranges within which rows may have gone and come without a trace in the shadow; `None` if
    /// they cannot be told. Partitions that were empty when they came do not count, unless `with_rows`.
    pub fn ranges(&self, with_rows: bool, is_said: IsSaid) -> Option<Vec<Range>> {
        if with_rows && self.before.is_carried {
            return None;
        }
        if self.gone.is_empty() && self.came.is_empty() {
            return Some(Vec::new());
        }
        let of = |witness: &Witness, which: &HashSet<&str>, counts: &dyn Fn(&str) -> bool| {
            let is_top = |one: &&&str| !witness.chain(one).skip(1).any(|(above, _)| which.contains(above));
            let tops = which.iter().filter(is_top).filter(|one| counts(one));
            let ranges = tops.map(|one| witness.ranges(one, is_said)).collect::<Option<Vec<_>>>();
            Some(ranges?.concat())
        };
        let mut ranges = of(self.before, &self.gone, &|_| true)?;
        let former = self.former();
        ranges.extend(of(self.now, &self.came, &|one| with_rows || former.contains(one))?);
        let mut joined = joined(ranges);
        joined.sort_by_key(|range| format!("{range:?}"));
        joined.iter().all(|range| !range.is_empty()).then_some(joined)
    }
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
            toast: None,
            computed: None,
            columns: Some("a".to_owned()),
        }
    }

    fn witness(members: &[(&str, Member)]) -> Witness {
        let members = members.iter().map(|(oid, member)| ((*oid).to_owned(), member.clone())).collect();
        Witness { members, ..Witness::default() }
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

    fn joined_list(one: i32, other: i32) -> String {
        format!("[{{\"in\":{{\"column\":\"r\",\"values\":[\"{one}\",\"{other}\"]}}}}]")
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
        assert_eq!(ranges(&anew, &before, false), Some(vec![joined_list(1, 2)]));
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
        assert_eq!(ranges(&anew, &before, false), Some(vec![joined_list(1, 2)]));
        let late = [root(), ("2", above("11", "FOR VALUES IN (2)")), ("3", leaf("12"))];
        assert_eq!(ranges(&late, &before, false), None);
        // By its own bounds the table above cannot be told, and the leaf can.
        let hashed =
            [root(), ("2", above("9", "FOR VALUES WITH (modulus 2, remainder 0)")), ("3", leaf("9"))];
        assert_eq!(ranges(&[root()], &hashed, false), Some(vec![list(&[5])]));
    }

    #[test]
    fn triggers_that_a_partition_has_kept_are_not_those_that_it_came_with() {
        let above = ("2", Member { partitioned_by: root().1.partitioned_by, ..below("1", "11", "DEFAULT") });
        let leaf = |attached_by, triggers_by: &str| {
            let triggers = vec![pair("7", triggers_by)];
            ("3", Member { triggers, ..below("2", attached_by, "FOR VALUES IN (5)") })
        };
        let now = |attached_by, triggers_by| [root(), above.clone(), leaf(attached_by, triggers_by)];
        let known = |now: &[(&str, Member)], before: &[(&str, Member)]| ranges(now, before, false).is_some();
        // It was attached before the table above, and got triggers with it, or after that.
        assert!(known(&now("9", "11"), &[root()]));
        assert!(known(&now("13", "13"), &[root()]));
        assert!(!known(&now("13", "11"), &[root()]));
        assert!(!known(&now("13", "11"), &[root(), above.clone()]));
        // Transaction ids begin again.
        assert!(known(
            &[root(), ("2", below("1", "4294967290", "FOR VALUES IN (1)")), leaf("13", "13")],
            &[root()]
        ));
        // One that was a member elsewhere comes again with a table that is new and counts as empty.
        let moved = [root(), ("2", below("1", "11", "FOR VALUES IN (1)")), leaf("9", "11")];
        let before = [root(), ("3", below("1", "8", "FOR VALUES IN (5)"))];
        assert_eq!(ranges(&moved, &before, false), Some(vec![joined_list(1, 5)]));
    }

    #[test]
    fn a_witness_is_carried_through_an_upgrade_with_the_same_members_only() {
        let partition = |attached_by| ("2", below("1", attached_by, "FOR VALUES IN (1)"));
        let before = witness(&[root(), partition("9")]);
        assert!(witness(&[root()]).carried_from(&before).is_none());
        let now = witness(&[root(), partition("20")]);
        assert!(
            now.since(&before).is_some_and(|partitions| partitions.ranges(false, &|_| true) != Some(vec![]))
        );
        let carried = now.clone().carried_from(&before).expect("the same members");
        let partitions = now.since(&carried).expect("no change since");
        assert_eq!(partitions.ranges(false, &|_| true), Some(vec![]));
        assert_eq!(partitions.ranges(true, &|_| true), None, "one was attached, perhaps before the upgrade");
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
            let names = names.iter().map(|(object, name)| ((*object).to_owned(), pair(name, "9")));
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
