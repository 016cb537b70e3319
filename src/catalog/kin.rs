//! Which tracked tables a table has to do with, by index and without SQL: asked for each DDL command.
//!
//! Everything is read in the newest state, and costs the same however many tables are tracked. The view
//! `table_export.member` says the same of all tracked tables at once.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::catalog::tracked_column;
use crate::pg;
use crate::pg::installed::{self, Installed};
use crate::pg::relatives::{self, Facts};
use crate::pg::table::{self, Table};
use crate::pg::{Oid, scan};

/// Tracked tables, by their ids.
pub type Kin = BTreeMap<i32, Oid>;

/// A tracked table whose rows a table holds.
#[derive(Clone, Copy)]
struct Held {
    id: i32,
    relation: Oid,
    /// The rows are still those of the tracked table: DETACH PARTITION CONCURRENTLY has not begun.
    has_rows: bool,
}

/// What is looked up, and what has been found so far.
pub struct Look {
    tracked: Oid,
    by_id: Oid,
    by_relation: Oid,
    capture: Oid,
    has_subscriptions: OnceCell<bool>,
    ancestors: RefCell<HashMap<Oid, Rc<HashSet<Oid>>>>,
}

/// A member without the triggers that it needs, or a former member with triggers.
pub struct Stray {
    /// The id of the tracked table.
    pub id: i32,
    /// The tracked table.
    pub tracked: Oid,
    /// The member.
    pub relation: Oid,
    /// It has become a member.
    pub joins: bool,
    /// Its triggers must be FOR EACH ROW.
    pub by_row: bool,
    /// Rows may have come with it that no trigger has seen.
    pub holds_rows: bool,
}

impl Look {
    /// Begins to look; `None` while the extension is being created or dropped.
    pub fn begin() -> Option<Look> {
        let find = |name| table::find(pg::SCHEMA, name);
        Some(Look {
            tracked: find(c"tracked")?,
            by_id: find(c"tracked_pkey")?,
            by_relation: find(c"tracked_relation_key")?,
            capture: installed::function(c"capture")?,
            has_subscriptions: OnceCell::new(),
            ancestors: RefCell::default(),
        })
    }

    /// Returns the tracked tables whose rows a table holds: it is tracked, or a partition of one that is.
    pub fn holders(&self, table: Oid) -> Kin {
        let held = self.held(table).into_iter().filter(|held| held.has_rows);
        held.map(|held| (held.id, held.relation)).collect()
    }

    /// Returns the tracked tables that a table is a partition of, or has triggers of.
    pub fn kin(&self, table: Oid) -> Kin {
        self.named_by(&self.held(table), &self.captured(table))
    }

    fn named_by(&self, held: &[Held], triggers: &[Installed]) -> Kin {
        let held = held.iter().map(|held| (held.id, held.relation));
        let captured = triggers.iter().map(|one| one.argument).collect::<BTreeSet<_>>();
        held.chain(captured.into_iter().filter_map(|id| Some((id, self.relation(id)?)))).collect()
    }

    /// Says whether a table has the triggers of the tracked tables that its parent is a partition of, and no
    /// others, and no subscription can write to it.
    pub fn is_settled(&self, table: Oid, ids: &BTreeSet<i32>) -> bool {
        let captured = self.captured(table).iter().map(|one| one.argument).collect::<BTreeSet<_>>();
        captured == *ids && !self.has_subscriptions()
    }

    /// Returns the ids of the tracked tables that a table is, or is a partition of.
    pub fn held_by(&self, table: Oid) -> BTreeSet<i32> {
        self.held(table).into_iter().map(|held| held.id).collect()
    }

    /// Says whether a tracked table has been restored from a dump, and not all its triggers yet.
    pub fn is_being_restored(&self, id: i32, relation: Oid) -> bool {
        let is_new = |row: &scan::Tuple| row.oid(tracked_column::RELATION_OID) != Some(relation);
        scan::by_id(self.tracked, self.by_id, id, is_new).unwrap_or(false)
            && !installed::has_all(&of(&self.captured(relation), id))
    }

    /// Says whether a member of a tracked table has triggers of it, and not for all its changes.
    pub fn is_disarmed(&self, table: Oid, id: i32, relation: Oid) -> bool {
        let triggers = self.captured(table);
        let own = of(&triggers, id);
        !own.is_empty() && !installed::has_all(&own) && self.is_member(table, id, relation)
    }

    fn is_member(&self, table: Oid, id: i32, relation: Oid) -> bool {
        self.ancestors(relation).contains(&table) || self.held_by(table).contains(&id)
    }

    /// Says whether columns of a key have other names than when the key was remembered, or another table has
    /// the key, after a restore.
    pub fn has_new_key(&self, id: i32, relation: Oid) -> bool {
        let is_new = |row: &scan::Tuple| {
            let attnums = row.smallints(tracked_column::KEY).unwrap_or_default();
            let name = |&attnum| table::column_name(relation, attnum).ok().flatten();
            let names = attnums.iter().map(name).collect::<Option<Vec<_>>>();
            row.oid(tracked_column::RELATION_OID) != Some(relation)
                || names != row.texts(tracked_column::KEY_NAMES).ok().flatten()
        };
        scan::by_id(self.tracked, self.by_id, id, is_new).unwrap_or(false)
    }

    /// Returns what a table is to tracked tables, of those for which something must be done: to its kin, and
    /// to others that it may be an ancestor of.
    pub fn strays(&self, table: Oid, others: &Kin) -> Vec<Stray> {
        let facts = relatives::facts(table).filter(|facts| matches!(facts.kind, 'r' | 'p'));
        let Some(facts) = facts else { return Vec::new() };
        let seen = Seen { table, facts, triggers: self.captured(table), held: self.held(table) };
        let mut kin = self.named_by(&seen.held, &seen.triggers);
        kin.extend(others);
        kin.into_iter().filter_map(|(id, relation)| self.stray(&seen, id, relation)).collect()
    }

    fn stray(&self, seen: &Seen, id: i32, relation: Oid) -> Option<Stray> {
        let table = seen.table;
        let triggers = of(&seen.triggers, id);
        let held = seen.held.iter().find(|held| held.id == id);
        let by_row = held.is_some_and(|held| held.has_rows) && self.is_written_by_row(table, &seen.facts);
        let stray = |joins| Stray {
            id,
            tracked: relation,
            relation: table,
            joins,
            by_row,
            holds_rows: joins && (by_row || brings_rows(table, relation)),
        };
        if held.is_none() && !self.ancestors(relation).contains(&table) {
            return (!triggers.is_empty()).then(|| stray(false));
        }
        let lacks_row_triggers = by_row && !installed::capture_each_row(&triggers);
        // A tracked table without triggers stays without them: if they have been dropped, changes were lost,
        // and creating them again would hide that. While a dump is restored, it has none yet, and neither
        // have its members.
        let comes = || installed::has_all(&of(&self.captured(relation), id));
        (lacks_row_triggers || (triggers.is_empty() && table != relation && comes())).then(|| stray(true))
    }

    fn held(&self, table: Oid) -> Vec<Held> {
        let (mut held, mut one, mut has_rows) = (Vec::new(), table, true);
        loop {
            held.extend(self.id(one).map(|id| Held { id, relation: one, has_rows }));
            if !relatives::facts(one).is_some_and(|facts| facts.is_partition) {
                return held;
            }
            let Some(parent) = relatives::parents(one).pop() else { return held };
            has_rows &= !parent.is_detaching;
            one = parent.oid;
        }
    }

    fn id(&self, table: Oid) -> Option<i32> {
        let (tracked, index, column) = (self.tracked, self.by_relation, tracked_column::RELATION as i16);
        scan::by_oid(tracked, index, column, table, |row| row.integer(tracked_column::ID)).pop().flatten()
    }

    fn relation(&self, id: i32) -> Option<Oid> {
        scan::by_id(self.tracked, self.by_id, id, |row| row.oid(tracked_column::RELATION)).flatten()
    }

    fn captured(&self, table: Oid) -> Vec<Installed> {
        installed::installed(table, self.capture)
    }

    fn ancestors(&self, table: Oid) -> Rc<HashSet<Oid>> {
        let mut known = self.ancestors.borrow_mut();
        let look = || Rc::new(relatives::ancestors(table).into_iter().collect());
        known.entry(table).or_insert_with(look).clone()
    }

    fn has_subscriptions(&self) -> bool {
        *self.has_subscriptions.get_or_init(|| !relatives::subscribed().is_empty())
    }

    /// Says whether a subscription writes to a table: as to itself, or as to a partition.
    fn is_written_by_row(&self, table: Oid, facts: &Facts) -> bool {
        let is_under = || self.ancestors(table).iter().any(|&one| relatives::is_subscribed(one));
        facts.kind == 'r'
            && self.has_subscriptions()
            && (relatives::is_subscribed(table) || (facts.is_partition && is_under()))
    }
}

/// What is known of one table.
struct Seen {
    table: Oid,
    facts: Facts,
    triggers: Vec<Installed>,
    held: Vec<Held>,
}

fn of(triggers: &[Installed], id: i32) -> Vec<&Installed> {
    triggers.iter().filter(|one| one.argument == id).collect()
}

/// Says whether rows may come with a new member. An ancestor brings none, but rows could be written through
/// it before it had triggers.
fn brings_rows(table: Oid, tracked: Oid) -> bool {
    let is_partitioned = relatives::facts(tracked).is_some_and(|facts| facts.kind == 'p');
    let has_pages = |table| Table::open(table, table::Lock::Read).is_some_and(|table| table.has_pages());
    !is_partitioned || has_pages(table) || relatives::descendants(table).into_iter().any(has_pages)
}
