//! Follows DDL, called by the event triggers: gives triggers to new members of tracked tables, takes them
//! from former ones, and records that DDL may have changed any row.
//!
//! Everything is read in the newest snapshot, because DDL works there at any isolation level. Nothing is
//! recorded by an UPDATE of a row that exports update as well: at REPEATABLE READ the user's DDL would fail.
//!
//! Invariant: where something fails, the triggers are not intact or the witness of the next export differs,
//! and the user's DDL goes on. It fails only where neither would show what was missed.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

use crate::catalog::error::CatalogError;
use crate::catalog::kin::{Brings, Kin, Look, Stray};
use crate::catalog::{self, Captures};
use crate::error::Result;
use crate::pg::commands::{self, Altered, Commands};
use crate::pg::table::{self, Lock, Table};
use crate::pg::{Oid, message, relatives, snapshot, transaction};
use crate::source::shadow::Op;
use crate::source::shadow::record::{Recorder, Shadow};
use crate::table::shape::Shape;

thread_local! {
    /// This backend is creating or dropping the extension's own triggers.
    static OWN_DDL: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, DDL is the extension's own, and is not followed. No session can set it.
struct OwnDdl {
    before: bool,
}

impl OwnDdl {
    fn begin() -> OwnDdl {
        OwnDdl { before: OWN_DDL.replace(true) }
    }
}

impl Drop for OwnDdl {
    fn drop(&mut self) {
        OWN_DDL.set(self.before);
    }
}

/// Says whether the extension's own DDL is under way.
pub fn is_own_ddl() -> bool {
    OWN_DDL.get()
}

/// Creates the triggers of one member of a tracked table.
pub fn create_triggers(id: i32, relation: Oid, captures: Captures) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::create_triggers(id, relation, captures))
}

/// Makes the triggers of one member capture. Their rows in PostgreSQL's catalog are written by this
/// transaction then, and by no subtransaction in which they may have been created: a witness compares that.
pub fn enable_triggers(id: i32, relation: Oid) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::enable_triggers(id, relation, false))
}

/// Makes sure that they can be enabled. PostgreSQL alters no table that a cursor or a deferred trigger of the
/// session still needs.
fn rehearse_enabling(id: i32, relation: Oid) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::enable_triggers(id, relation, true))
}

/// Drops the triggers of all members and former members of a tracked table, or those of one.
pub fn drop_triggers(id: i32, relation: Option<Oid>) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::drop_triggers(id, relation))
}

/// What a DDL command has left to do.
#[derive(Default)]
pub struct Work {
    /// Tracked tables whose key is remembered by names that its columns have no more.
    renamed: Kin,
    /// Tracked tables whose changes may escape, or have escaped, through a table that lacks some of its
    /// triggers, or came back with those of before. A witness does not show that they were away within one
    /// transaction, or on a table that is no member any more.
    doubtful: Kin,
    /// Tables that have come or gone, the highest first.
    strays: BTreeMap<(usize, u32, i32), Stray>,
    /// Tracked tables, by the foreign tables that have become partitions of theirs.
    foreign: BTreeMap<(u32, i32), Oid>,
}

/// Finds out what the DDL command that has just ended has left to do; `None` if nothing.
///
/// It looks at what the command touched, and at the relatives of that, by index and without SQL. So it costs
/// the same however many tables are tracked, and whatever the transaction has done before.
pub fn examine(commands: &Commands) -> Option<Work> {
    let look = Look::begin()?;
    let mut work = Work::default();
    for altered in &commands.tables {
        work.add(altered, &look);
    }
    if commands.about_subscription {
        for table in relatives::subscribed() {
            for table in std::iter::once(table).chain(relatives::descendants(table)) {
                work.add_strays(look.strays(table, &Kin::new()));
            }
        }
    }
    let is_nothing = work.renamed.is_empty()
        && work.doubtful.is_empty()
        && work.strays.is_empty()
        && work.foreign.is_empty();
    (!is_nothing).then_some(work)
}

impl Work {
    /// Adds what is to do about a table that a command created or altered.
    ///
    /// A tracked table below it, or below one that it has been attached to, has all tables above as members;
    /// one above has all partitions below. A foreign table matters to all that are below one of its
    /// ancestors.
    fn add(&mut self, altered: &Altered, look: &Look) {
        let near = std::iter::once(altered.table).chain(altered.relatives.iter().copied());
        let near = near.collect::<Vec<_>>();
        let mut kin = near.iter().flat_map(|&table| look.kin(table)).collect::<Kin>();
        if !altered.relatives.is_empty() || is_foreign(altered.table) {
            let above = near.iter().flat_map(|&table| relatives::ancestors(table)).collect::<HashSet<_>>();
            kin.extend(above.into_iter().flat_map(|table| look.kin(table)));
        }
        if kin.is_empty() {
            return;
        }
        for (&id, &relation) in &kin {
            // The triggers of a dump come one by one.
            if !look.is_being_restored(id, relation) {
                self.renamed.extend(look.has_new_key(id, relation).then_some((id, relation)));
                self.doubtful.extend(look.is_disarmed(altered.table, id, relation).then_some((id, relation)));
            }
        }
        self.doubtful.extend(altered.joined.iter().flat_map(|joined| look.kept_triggers(joined)));
        for left in &altered.left {
            self.doubtful.extend(look.kin(left.child).into_iter().filter(|&(id, tracked)| {
                let above = std::iter::once(left.parent).chain(relatives::ancestors(left.parent));
                above.into_iter().any(|table| look.was_disarmed(table, id, tracked))
            }));
        }
        for &table in &near {
            for table in std::iter::once(table).chain(relatives::ancestors(table)) {
                // Triggers of ours on a table that has left no tracked one are of a dump, which goes on to
                // enable them.
                let strays = look.strays(table, &kin).into_iter();
                self.add_strays(strays.filter(|stray| stray.joins || !altered.relatives.is_empty()));
            }
        }
        for (&id, &relation) in kin.iter().filter(|&(&id, &relation)| look.must_capture_rows(id, relation)) {
            self.add_strays(look.members_to_change(id, relation));
        }
        let below = altered.relatives.iter().flat_map(|&table| relatives::descendants(table));
        for table in near.iter().copied().chain(below).filter(|&table| is_foreign(table)) {
            let holders = look.holders(table).into_iter();
            self.foreign.extend(holders.map(|(id, tracked)| ((table.to_u32(), id), tracked)));
        }
        // A partition that came while the triggers of the tracked table were disabled has none.
        let own = altered.enables_triggers.then_some(&altered.table);
        for &top in own.into_iter().chain(&altered.relatives) {
            if relatives::is_partitioned(top) {
                let ids = look.held_by(top);
                let below = relatives::descendants(top).into_iter();
                for table in below.filter(|&table| !look.is_settled(table, &ids)) {
                    self.add_strays(look.strays(table, &Kin::new()));
                }
            }
        }
    }

    fn add_strays(&mut self, strays: impl IntoIterator<Item = Stray>) {
        self.strays.extend(strays.into_iter().map(|stray| (stray.order(), stray)));
    }

    /// Gives triggers to new members of tracked tables, takes them from former ones, and records that rows
    /// may have come.
    ///
    /// The command does not fail if something of this does: it belongs to somebody else. A warning says what
    /// is missing, and exports are refused until it is there (`tx_tracked.triggers_intact`).
    ///
    /// # Errors
    /// What nothing but the shadow would show cannot be recorded.
    pub fn settle(mut self, commands: &Commands) -> Result<()> {
        for (id, tracked) in self.renamed {
            let renew = || snapshot::latest(|| catalog::renew_key(id));
            warn(tracked, attempt(renew));
        }
        // Nothing else would show it. If the shadow cannot be written to, no write to the table succeeds
        // either.
        for (id, tracked) in self.doubtful {
            record(id, tracked)?;
        }
        let mut tried = HashSet::new();
        while !self.strays.is_empty() {
            for (order, stray) in std::mem::take(&mut self.strays) {
                tried.insert((order, stray.joins, stray.captures));
                settle(stray)?;
            }
            // Commands of others, whose locks may have been waited for, can have altered relatives as well.
            if let Some(now) = examine(commands) {
                self.strays = now.strays;
                self.strays.retain(|&order, stray| !tried.contains(&(order, stray.joins, stray.captures)));
                self.foreign = now.foreign;
            }
        }
        for ((foreign, _), tracked) in self.foreign {
            let foreign = name(Oid::from(foreign));
            warn(tracked, Some(format!("its partition \"{foreign}\" is a foreign table")));
        }
        Ok(())
    }
}

/// Gives triggers to the members of a tracked table that could not be given them when they came. The next
/// export sends what they hold.
pub fn give_missing_triggers(id: i32, tracked: Oid) -> Result<()> {
    let Some(look) = Look::begin() else { return Ok(()) };
    let mut strays = look.members_to_change(id, tracked);
    strays.sort_by_key(Stray::order);
    for stray in strays.iter().filter(|stray| stray.joins) {
        give_triggers(stray)?;
        enable_triggers(id, stray.relation)?;
    }
    Ok(())
}

/// Locks a table and what is below it, as far as it can have children, so that no foreign table comes there
/// unseen before the triggers are there. Whoever has brought one is waited for.
pub fn keep_foreign_tables_away(relation: Oid) {
    let may_have_children =
        |table: &Oid| relatives::facts(*table).is_some_and(|facts| facts.kind == 'p' || !facts.is_partition);
    let tables = table::with_descendants(relation).into_iter().filter(may_have_children);
    tables.for_each(|table| drop(Table::open(table, Lock::ShareUpdateExclusive)));
}

/// Creates the triggers of a member that has come, and records what may have come with it.
fn give_triggers(stray: &Stray) -> Result<()> {
    let &Stray { id, tracked, relation, .. } = stray;
    // What is found to be there is seen when the command is examined again.
    keep_foreign_tables_away(relation);
    create_triggers(id, relation, stray.captures)?;
    rehearse_enabling(id, relation)?;
    match stray.brings {
        Brings::Nothing => Ok(()),
        Brings::Partition => append(id, tracked, Op::Attach),
        Brings::Anything => record(id, tracked),
    }
}

/// Gives triggers to a member of a tracked table, or takes them from a former one.
fn settle(stray: Stray) -> Result<()> {
    let Stray { id, tracked, relation, .. } = stray;
    if !stray.joins {
        warn(tracked, attempt(|| drop_triggers(id, Some(relation))));
        return Ok(());
    }
    let failed = attempt(|| give_triggers(&stray));
    if failed.is_none() {
        return enable_triggers(id, relation);
    }
    // Exports are refused only as long as the table is a member.
    record(id, tracked)?;
    warn(tracked, failed);
    Ok(())
}

/// Records that a table is being rewritten by ALTER TABLE. VACUUM FULL and CLUSTER, which change no values,
/// fire no event trigger. The command fails if that cannot be recorded: for a partition that is new in the
/// transaction nothing else would show it.
pub fn follow_rewrite() -> Result<()> {
    let (Some(rewritten), Some(look)) = (commands::rewritten(), Look::begin()) else { return Ok(()) };
    look.holders(rewritten).into_iter().try_for_each(|(id, tracked)| record(id, tracked))
}

/// Records that any row of a tracked table may have changed. Without a shadow there is nothing to record,
/// since exports are refused, and DDL need not fail.
fn record(id: i32, tracked: Oid) -> Result<()> {
    append(id, tracked, Op::Unfit)
}

fn append(id: i32, tracked: Oid, op: Op) -> Result<()> {
    let shadow = match Shadow::of(tracked, id) {
        Err(error) if error.is::<CatalogError>() => return Ok(()),
        shadow => shadow?,
    };
    let Some(shadow) = shadow.as_ref() else { return Ok(()) };
    let mut recorder = Recorder::new(shadow);
    recorder.everything(op)?;
    recorder.finish()
}

/// Runs a step that must not make the command fail. Returns the message of its error.
fn attempt(step: impl FnOnce() -> Result<()>) -> Option<String> {
    transaction::attempt(step).map(|obstacle| obstacle.message)
}

fn is_foreign(table: Oid) -> bool {
    relatives::facts(table).is_some_and(|facts| facts.kind == 'f')
}

/// Warns that something could not be done for a tracked table.
fn warn(tracked: Oid, reason: Option<String>) {
    let Some(reason) = reason else { return };
    let table = name(tracked);
    message::warning(format!("this command could not be followed for tracked table \"{table}\": {reason}"));
}

fn name(table: Oid) -> String {
    let shape = snapshot::latest(|| Shape::of(table)).ok().flatten();
    shape.map_or_else(|| table.to_u32().to_string(), |shape| shape.qualified())
}
