//! Which tracked tables a table has to do with, by index and without SQL: asked for each DDL command.
//!
//! Everything is read in the newest state, and costs the same however many tables are tracked. The view
//! `table_export.member` says the same of all tracked tables at once.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use crate::catalog::{Captures, tracked_column};
use crate::pg;
use crate::pg::commands::Link;
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
    /// They have been since before the transaction.
    is_of_before: bool,
}

/// What is looked up, and what has been found so far.
pub struct Look {
    tracked: Oid,
    by_id: Oid,
    by_relation: Oid,
    capture: Oid,
    has_subscriptions: OnceCell<bool>,
    above_foreign_tables: OnceCell<HashSet<Oid>>,
    ancestors: RefCell<HashMap<Oid, Rc<HashSet<Oid>>>>,
    captured: RefCell<HashMap<Oid, Rc<Vec<Installed>>>>,
    near_foreign_tables: RefCell<HashMap<i32, bool>>,
}

/// A member without the triggers that it needs, or a former member with triggers.
pub struct Stray {
    /// The id of the tracked table.
    pub id: i32,
    /// The tracked table.
    pub tracked: Oid,
    /// The member.
    pub relation: Oid,
    /// How many ancestors the member has.
    depth: usize,
    /// It has become a member, or must have other triggers.
    pub joins: bool,
    /// What its triggers must capture.
    pub captures: Captures,
    /// Rows may have come with it that no trigger has seen.
    pub brings: Brings,
}

/// What a new member may have brought without a trigger.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Brings {
    Nothing,
    /// Rows that lie within its bounds: it is a partition that has just been attached.
    Partition,
    /// Any change of any row.
    Anything,
}

impl Stray {
    /// The order in which members are changed: tables above others first, as PostgreSQL locks them. So no
    /// statement waits for a member below while we wait for one above.
    pub fn order(&self) -> (usize, u32, i32) {
        (self.depth, self.relation.to_u32(), self.id)
    }
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
            above_foreign_tables: OnceCell::new(),
            ancestors: RefCell::default(),
            captured: RefCell::default(),
            near_foreign_tables: RefCell::default(),
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
    /// others, and neither a subscription nor a foreign table requires row triggers.
    pub fn is_settled(&self, table: Oid, ids: &BTreeSet<i32>) -> bool {
        let captured = self.captured(table).iter().map(|one| one.argument).collect::<BTreeSet<_>>();
        let is_near_foreign_table =
            |id| self.relation(id).is_some_and(|relation| self.is_near_foreign_table(id, relation));
        captured == *ids && !self.has_subscriptions() && !ids.iter().any(|&id| is_near_foreign_table(id))
    }

    /// Says whether rows of a tracked table must be captured by row triggers from now on, because a foreign
    /// table has come below it, or below one of its ancestors.
    pub fn must_capture_rows(&self, id: i32, relation: Oid) -> bool {
        let sees_statements =
            |table| of(&self.captured(table), id).iter().any(|one| one.has_transition_tables());
        self.is_near_foreign_table(id, relation) && self.itself_and_above(relation).any(sees_statements)
    }

    /// Returns the members of a tracked table for which something must be done.
    pub fn members_to_change(&self, id: i32, relation: Oid) -> Vec<Stray> {
        let below = match relatives::is_partitioned(relation) {
            true => relatives::descendants(relation),
            false => Vec::new(),
        };
        let members = self.itself_and_above(relation).chain(below);
        let seen = members.filter_map(|table| self.see(table)).collect::<Vec<_>>();
        seen.iter().filter_map(|seen| self.stray(seen, id, relation)).collect()
    }

    /// Says whether a tracked table has all its triggers itself, and others of its members could not be given
    /// theirs when they came.
    pub fn lacks_triggers_of_members(&self, id: i32) -> bool {
        self.relation(id).is_some_and(|relation| {
            installed::has_all(&of(&self.captured(relation), id))
                && self.members_to_change(id, relation).iter().any(|stray| stray.joins)
        })
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

    /// Says whether a table that is no member of a tracked table any more lacks some of the triggers that it
    /// needed as one. A foreign table never had them.
    pub fn was_disarmed(&self, table: Oid, id: i32, relation: Oid) -> bool {
        let triggers = self.captured(table);
        !self.is_member(table, id, relation) && !installed::has_all(&of(&triggers, id))
    }

    /// Returns the tracked tables whose triggers of before are on a table that has become a member again, as
    /// one below them or above them. What was written since it left may be nowhere in the shadow, and nobody
    /// knows whether the triggers have been enabled all the time.
    pub fn kept_triggers(&self, joined: &Link) -> Kin {
        let and_below = |table| std::iter::once(table).chain(relatives::descendants(table));
        let below = and_below(joined.child).collect::<Vec<_>>();
        let mut kept = self.named_on(&below, self.named_by(&self.held(joined.parent), &[]));
        let tracked = below.iter().filter_map(|&table| Some((self.id(table)?, table))).collect::<Kin>();
        if !tracked.is_empty() {
            kept.extend(self.named_on(&self.itself_and_above(joined.parent).collect::<Vec<_>>(), tracked));
        }
        kept
    }

    /// Returns those of the tracked tables that one of some tables has triggers of.
    fn named_on(&self, tables: &[Oid], mut tracked: Kin) -> Kin {
        if !tracked.is_empty() {
            let captured = tables.iter().map(|&table| self.captured(table)).collect::<Vec<_>>();
            tracked.retain(|&id, _| captured.iter().any(|triggers| !of(triggers, id).is_empty()));
        }
        tracked
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
        let Some(seen) = self.see(table) else { return Vec::new() };
        let mut kin = self.named_by(&seen.held, &seen.triggers);
        kin.extend(others);
        kin.into_iter().filter_map(|(id, relation)| self.stray(&seen, id, relation)).collect()
    }

    /// Looks at a table; `None` if it can be no member.
    fn see(&self, table: Oid) -> Option<Seen> {
        let facts = relatives::facts(table).filter(|facts| matches!(facts.kind, 'r' | 'p'))?;
        Some(Seen { table, facts, triggers: self.captured(table), held: self.held(table) })
    }

    fn stray(&self, seen: &Seen, id: i32, relation: Oid) -> Option<Stray> {
        let table = seen.table;
        let triggers = of(&seen.triggers, id);
        let held = seen.held.iter().find(|held| held.id == id);
        let has_rows = seen.facts.kind == 'r' && held.is_some_and(|held| held.has_rows);
        let is_subscribed = has_rows && self.is_written_by_row(table, &seen.facts);
        let is_near_foreign_table = self.is_near_foreign_table(id, relation);
        let captures = if is_subscribed || (is_near_foreign_table && has_rows) {
            Captures::Rows
        } else if is_near_foreign_table {
            Captures::Truncate
        } else {
            Captures::Statements
        };
        let brings = |joins: bool| {
            let is_new = triggers.is_empty() && held.is_some() && table != relation && !is_subscribed;
            let is_attached = is_new && relatives::is_partitioned(relation);
            let was_here = held.is_none_or(|held| held.is_of_before);
            let has_brought = brings_rows(table, relation) || (is_attached && !is_created_here(table));
            match () {
                () if !joins => Brings::Nothing,
                () if is_subscribed || was_here => Brings::Anything,
                () if has_brought && is_attached => Brings::Partition,
                () if has_brought => Brings::Anything,
                () => Brings::Nothing,
            }
        };
        let stray = |joins| Stray {
            id,
            tracked: relation,
            relation: table,
            depth: self.ancestors(table).len(),
            joins,
            captures,
            brings: brings(joins),
        };
        if held.is_none() && !self.ancestors(relation).contains(&table) {
            return (!triggers.is_empty()).then(|| stray(false));
        }
        let lacks_row_triggers = is_subscribed && !installed::capture_each_row(&triggers);
        let is_unfit =
            || triggers.iter().any(|one| !fits(one, captures)) && !self.is_being_restored(id, relation);
        // A tracked table without triggers stays without them: if they have been dropped, changes were lost,
        // and creating them again would hide that. While a dump is restored, it has none yet, and neither
        // have its members.
        let comes = || installed::has_all(&of(&self.captured(relation), id));
        let joins = lacks_row_triggers || is_unfit() || (triggers.is_empty() && table != relation && comes());
        joins.then(|| stray(true))
    }

    /// Says whether a foreign table is below a tracked table or one of its ancestors, or was when their
    /// triggers were made: nothing tells when it goes.
    fn is_near_foreign_table(&self, id: i32, relation: Oid) -> bool {
        if let Some(&is_near) = self.near_foreign_tables.borrow().get(&id) {
            return is_near;
        }
        // A table without relatives need not wait until all foreign tables have been looked at.
        let has_relatives = !self.ancestors(relation).is_empty()
            || relatives::facts(relation).is_some_and(|facts| facts.has_children);
        let foreign = |table| {
            let above = || self.above_foreign_tables.get_or_init(relatives::above_foreign_tables);
            has_relatives && above().contains(&table)
        };
        let sees_no_rows =
            |table| of(&self.captured(table), id).iter().any(|one| !fits(one, Captures::Statements));
        let is_near = self.itself_and_above(relation).any(|table| foreign(table) || sees_no_rows(table));
        self.near_foreign_tables.borrow_mut().insert(id, is_near);
        is_near
    }

    fn itself_and_above(&self, table: Oid) -> impl Iterator<Item = Oid> {
        std::iter::once(table).chain(self.ancestors(table).iter().copied().collect::<Vec<_>>())
    }

    fn held(&self, table: Oid) -> Vec<Held> {
        let (mut held, mut one, mut has_rows, mut is_of_before) = (Vec::new(), table, true, true);
        loop {
            held.extend(self.id(one).map(|id| Held { id, relation: one, has_rows, is_of_before }));
            if !relatives::facts(one).is_some_and(|facts| facts.is_partition) {
                return held;
            }
            let Some(parent) = relatives::parents(one).pop() else { return held };
            has_rows &= !parent.is_detaching;
            is_of_before &= parent.is_of_before;
            one = parent.oid;
        }
    }

    /// Returns the id of a table, if it is tracked.
    pub fn id(&self, table: Oid) -> Option<i32> {
        let (tracked, index, column) = (self.tracked, self.by_relation, tracked_column::RELATION as i16);
        scan::by_oid(tracked, index, column, table, |row| row.integer(tracked_column::ID)).pop().flatten()
    }

    fn relation(&self, id: i32) -> Option<Oid> {
        scan::by_id(self.tracked, self.by_id, id, |row| row.oid(tracked_column::RELATION)).flatten()
    }

    fn captured(&self, table: Oid) -> Rc<Vec<Installed>> {
        let mut known = self.captured.borrow_mut();
        let look = || Rc::new(installed::installed(table, self.capture));
        known.entry(table).or_insert_with(look).clone()
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
    triggers: Rc<Vec<Installed>>,
    held: Vec<Held>,
}

fn of(triggers: &[Installed], id: i32) -> Vec<&Installed> {
    triggers.iter().filter(|one| one.argument == id).collect()
}

/// Says whether a trigger captures what it must, or TRUNCATE.
fn fits(trigger: &Installed, captures: Captures) -> bool {
    match captures {
        Captures::Statements => !trigger.is_for_statement() || trigger.has_transition_tables(),
        Captures::Rows => !trigger.is_for_statement(),
        Captures::Truncate => !trigger.has_transition_tables(),
    }
}

/// Says whether rows may come with a partition that is new in this transaction. Through an ancestor, and in a
/// partition that has lost its triggers, others may have been written and removed before.
fn brings_rows(table: Oid, tracked: Oid) -> bool {
    let has_pages = |table| Table::open(table, table::Lock::Read).is_some_and(|table| table.has_pages());
    !relatives::is_partitioned(tracked)
        || has_pages(table)
        || relatives::descendants(table).into_iter().any(has_pages)
}

/// Says whether the transaction has created a table. One that is older may have been a partition before: with
/// the rows that it has lost since.
fn is_created_here(table: Oid) -> bool {
    Table::open(table, table::Lock::Read).is_some_and(|table| table.is_of_this_transaction())
}
