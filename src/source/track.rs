//! Tracking: from a plain table to one whose changes are captured, and back.

use std::collections::HashSet;

use crate::catalog::{self, Member, Tracked};
use crate::error::Result;
use crate::pg::relatives::{self, Facts};
use crate::pg::table::{self, Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, snapshot};
use crate::source::error::{TrackError, UnfitPartition};
use crate::source::{follow, lost, shadow};
use crate::table::error::TableError;
use crate::table::key::{self, Key, KeyColumn};
use crate::table::own::{lock_own, not_tracked, owns};
use crate::table::shape::Shape;

/// What tracking has set up.
pub struct Tracking {
    /// The table's qualified name.
    pub table: String,
    /// The names of the key's columns.
    pub key: Vec<String>,
    /// The id that names the shadow.
    pub id: i32,
    /// The table was tracked before.
    pub already: bool,
}

/// Begins to capture the changes of a table.
///
/// Writers are kept away until the transaction ends, as by CREATE TRIGGER. So every transaction that wrote
/// without the triggers has ended before, and any snapshot that sees the row in `tracked` sees everything
/// that was not captured.
pub fn track(relation: Oid, key_index: Option<&str>, caller: &Caller) -> Result<Tracking> {
    lock_above(relation, caller)?;
    let table = lock_own(relation, Lock::Alter, caller)?;
    let table = table.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    let shape = snapshot::latest(|| Shape::of(relation))?;
    let shape = shape.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    if let Some(what) = untrackable(&shape) {
        return Err(TableError::WrongKind { table: shape.name_for_errors(), what }.into());
    }
    table::lock_with_descendants(relation, Lock::Alter);
    if let Some(partition) = unfit_partition(relation)? {
        return Err(TrackError::UnfitPartition { table: shape.name_for_errors(), partition }.into());
    }
    if let Some(tracked) = snapshot::latest(|| catalog::tracked_table(relation))? {
        return already_tracked(&tracked, table, &shape, key_index, caller);
    }
    let which = key_index.map_or(Key::Primary, Key::Index);
    let key = snapshot::latest(|| usable_key(relation, &shape, &which))?;
    let owner = table.owner_name()?;
    // Closed, its lock kept: ALTER TABLE refuses a table that is open.
    drop(table);
    let id = catalog::put_tracked(relation, &key)?;
    shadow::create(id, &key, &owner)?;
    owned_members(id, relation, caller)?;
    relatives::from_above(relation).into_iter().for_each(follow::keep_foreign_tables_away);
    create_triggers(id, relation, caller)?;
    Ok(Tracking { table: shape.qualified(), key: names(&key), id, already: false })
}

/// Stops capturing, and removes the shadow, the triggers and what targets know of the table. The table itself
/// may be gone already; then only the owner of the extension may.
pub fn untrack(relation: Oid, caller: &Caller) -> Result<String> {
    let tracked = snapshot::latest(|| catalog::tracked_table(relation))?;
    if let (true, Some(tracked)) = (owns(relation, caller), tracked) {
        lock_members(&tracked)?;
    }
    let table = lock_own(relation, Lock::Alter, caller)?;
    let shape = snapshot::latest(|| Shape::of(relation))?;
    let name = shape.as_ref().map_or_else(|| relation.to_u32().to_string(), Shape::qualified);
    if table.is_none() && !caller.is_extension_owner() {
        return Err(TrackError::NotExtensionOwner.into());
    }
    let tracked = snapshot::latest(|| catalog::tracked_table(relation))?;
    let tracked = tracked.ok_or_else(|| not_tracked(relation, shape.as_ref()))?;
    // Closed, its lock kept: DROP TRIGGER refuses a table that is open.
    drop(table);
    follow::drop_triggers(tracked.id, None)?;
    shadow::drop_tables(tracked.id)?;
    catalog::remove_tracked(tracked.id)?;
    Ok(name)
}

/// Says what a table is that cannot be tracked without missing a write.
pub fn untrackable(shape: &Shape) -> Option<&'static str> {
    shape.not_a_table().or(match shape.persistence {
        't' => Some("a temporary table"),
        'u' => Some("an unlogged table"),
        _ => None,
    })
}

/// Returns a partition that keeps a table from being tracked: a crash takes the rows of an unlogged one away,
/// and those of a foreign one change elsewhere.
pub fn unfit_partition(relation: Oid) -> Result<Option<UnfitPartition>> {
    if !relatives::is_partitioned(relation) {
        return Ok(None);
    }
    let unfit = relatives::descendants(relation).into_iter().find_map(|table| {
        let what = match relatives::facts(table)? {
            Facts { kind: 'f', .. } => "a foreign table",
            Facts { persistence: 'u', .. } => "an unlogged table",
            _ => return None,
        };
        Some((table, what))
    });
    let Some((table, what)) = unfit else { return Ok(None) };
    let shape = snapshot::latest(|| Shape::of(table))?;
    Ok(shape.map(|shape| UnfitPartition { name: shape.name_for_errors(), what }))
}

/// Returns the key of a table, all its columns NOT NULL.
pub fn usable_key(relation: Oid, shape: &Shape, which: &Key) -> Result<Vec<KeyColumn>> {
    let key = key::key(relation, which)?;
    let table = shape.name_for_errors();
    let index = match which {
        Key::Index(name) => Some((*name).to_owned()),
        Key::Primary | Key::Columns(_) => None,
    };
    match key.iter().find(|column| !column.not_null) {
        Some(column) => Err(TrackError::NullableKey { table, column: column.name.clone() }.into()),
        None if key.is_empty() => {
            Err(TrackError::NoKey { table, index, usable: key::usable_indexes(relation)? }.into())
        }
        None => Ok(key),
    }
}

/// Checks that a tracked table still is what is remembered of it, and renews what may change.
fn already_tracked(
    tracked: &Tracked,
    table: Table,
    shape: &Shape,
    key_index: Option<&str>,
    caller: &Caller,
) -> Result<Tracking> {
    let key = snapshot::latest(|| same_key(tracked, &table, shape, key_index))?;
    let owner = table.owner_name()?;
    // Closed, its lock kept: CREATE TRIGGER refuses a table that is open.
    drop(table);
    let is_intact = || snapshot::latest(|| catalog::is_intact(tracked.id));
    if !is_intact()? {
        owned_members(tracked.id, tracked.relation, caller)?;
        relatives::from_above(tracked.relation).into_iter().for_each(follow::keep_foreign_tables_away);
        follow::give_missing_triggers(tracked.id, tracked.relation)?;
        if !is_intact()? {
            return Err(snapshot::latest(|| lost::triggers_missing(tracked.id, &shape.name_for_errors())));
        }
    }
    snapshot::latest(|| {
        catalog::put_tracked(tracked.relation, &key)?;
        // The table may have another owner by now.
        shadow::grant(tracked.id, &owner)
    })?;
    Ok(Tracking { table: shape.qualified(), key: names(&key), id: tracked.id, already: true })
}

/// Returns the key of a tracked table, which must be the one that it had, and that is asked for.
fn same_key(
    tracked: &Tracked,
    table: &Table,
    shape: &Shape,
    key_index: Option<&str>,
) -> Result<Vec<KeyColumn>> {
    let changed = || lost::key_changed(tracked.id, &shape.name_for_errors());
    let columns = tracked.key.columns(table)?.ok_or_else(changed)?;
    let key = key::key(tracked.relation, &Key::Columns(&columns))?;
    if key.is_empty() || key.iter().any(|column| !column.not_null) {
        return Err(changed());
    }
    if let Some(index) = key_index {
        let asked = usable_key(tracked.relation, shape, &Key::Index(index))?;
        if !asked.iter().map(|column| column.attnum).eq(columns.iter().copied()) {
            return Err(TrackError::OtherKey { table: shape.name_for_errors() }.into());
        }
    }
    match shadow::hold_segments(tracked.id)?.fits(table, &columns) {
        true => Ok(key),
        false => Err(changed()),
    }
}

/// Locks what is above a table that is to get triggers, as statements on it do. If the table were locked
/// first, tracking and a writer could wait for each other.
fn lock_above(relation: Oid, caller: &Caller) -> Result<()> {
    let above = relatives::from_above(relation);
    // Whoever does not own all of them gets an error soon.
    if above.is_empty() || !owns(relation, caller) || !above.iter().all(|&table| owns(table, caller)) {
        return Ok(());
    }
    let is_intact = |tracked: Tracked| catalog::is_intact(tracked.id);
    let is_intact = snapshot::latest(|| catalog::tracked_table(relation)?.map(is_intact).transpose())?;
    if is_intact != Some(true) {
        above.into_iter().for_each(|table| drop(Table::open(table, Lock::Alter)));
    }
    Ok(())
}

/// Locks the members of a tracked table as DROP TRIGGER does, those above others first, as statements on them
/// do. With a weaker lock first, or in another order, a writer could be met in a deadlock.
fn lock_members(tracked: &Tracked) -> Result<()> {
    let members = snapshot::latest(|| catalog::members(tracked.id))?;
    let members = members.iter().map(|member| member.relation).collect::<HashSet<_>>();
    let above = relatives::from_above(tracked.relation).into_iter().filter(|table| members.contains(table));
    above.chain([tracked.relation]).for_each(|table| drop(Table::open(table, Lock::Exclusive)));
    table::lock_with_descendants(tracked.relation, Lock::Exclusive);
    Ok(())
}

fn create_triggers(id: i32, relation: Oid, caller: &Caller) -> Result<()> {
    for member in owned_members(id, relation, caller)? {
        follow::create_triggers(id, member.relation, member.captures)?;
        follow::enable_triggers(id, member.relation)?;
    }
    Ok(())
}

/// Returns the members of a tracked table, all of which the caller must own.
fn owned_members(id: i32, relation: Oid, caller: &Caller) -> Result<Vec<Member>> {
    let members = snapshot::latest(|| catalog::members(id))?;
    for member in &members {
        let member = Table::open(member.relation, Lock::Read);
        if let Some(member) = member.filter(|member| !caller.owns(member)) {
            return Err(not_owner_of_member(&member, relation)?.into());
        }
    }
    Ok(members)
}

/// Returns the error for a caller who owns a tracked table, and not this member of it.
fn not_owner_of_member(member: &Table, relation: Oid) -> Result<TrackError> {
    let named = |table: &Table| -> Result<_> {
        let shape = snapshot::latest(|| Shape::of(table.oid()))?;
        let shape = shape.ok_or(TableError::NoTable { oid: table.oid().to_u32() })?;
        Ok((shape.name_for_errors(), table.owner_name()?))
    };
    let table = Table::open(relation, Lock::Read).ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    let ((member, owner), (table, of_table)) = (named(member)?, named(&table)?);
    Ok(TrackError::NotOwnerOfMember { member, owner, table, of_table })
}

fn names(key: &[KeyColumn]) -> Vec<String> {
    key.iter().map(|column| column.name.clone()).collect()
}
