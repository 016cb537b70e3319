//! The triggers of a table that call one of our functions, as pg_trigger has them.

use pgrx::pg_sys::{self, Oid};

use crate::pg::error::Error;
use crate::pg::relatives;
use crate::pg::scan::{self, Finder};

/// pg_trigger's indexes over the table, and over the oid (pg_trigger.h).
const BY_TABLE: u32 = pg_sys::TriggerRelidNameIndexId;
const BY_OID: u32 = 2702;

/// A trigger.
pub struct Installed {
    /// pg_trigger.oid
    pub oid: Oid,
    /// The transaction that wrote its row last.
    pub written_by: u32,
    /// Its argument, a number.
    pub argument: i32,
    /// The bits of tgtype for INSERT, DELETE, UPDATE and TRUNCATE (pg_trigger.h).
    events: i16,
    is_for_each_row: bool,
    has_old_table: bool,
    has_new_table: bool,
    is_always: bool,
    /// It has no WHEN, and UPDATE names no columns.
    is_unconditional: bool,
}

/// Returns the triggers of a table that call a function, with a number as their only argument.
pub fn installed(table: Oid, function: Oid) -> Vec<Installed> {
    if !relatives::facts(table).is_some_and(|facts| facts.has_triggers) {
        return Vec::new();
    }
    let ours = |row: &scan::Tuple| read_if_ours(row, function);
    scan::by_oid(pg_sys::TriggerRelationId, BY_TABLE.into(), 2, table, ours).into_iter().flatten().collect()
}

/// Finds the triggers of tables that call a function, as [`installed`] does, in the active snapshot.
pub struct TriggerFinder {
    triggers: Finder,
    function: Oid,
}

impl TriggerFinder {
    /// Begins to look for triggers that call a function.
    pub fn begin(function: Oid) -> Result<TriggerFinder, Error> {
        let triggers = Finder::begin(pg_sys::TriggerRelationId, BY_TABLE.into(), 2)?;
        Ok(TriggerFinder { triggers, function })
    }

    /// Returns the triggers of a table.
    pub fn installed(&mut self, table: Oid) -> Vec<Installed> {
        let function = self.function;
        self.triggers.find(table, |row| read_if_ours(row, function)).into_iter().flatten().collect()
    }
}

fn read_if_ours(row: &scan::Tuple, function: Oid) -> Option<Installed> {
    let calls = row.oid(pg_sys::Anum_pg_trigger_tgfoid as i32)?;
    (calls == function).then(|| read(row)).flatten()
}

/// Returns the table that a trigger belongs to.
pub(super) fn table_of(trigger: Oid) -> Option<Oid> {
    scan::by_oid(pg_sys::TriggerRelationId, BY_OID.into(), 1, trigger, |row| row.oid(2)).pop().flatten()
}

fn read(row: &scan::Tuple) -> Option<Installed> {
    let arguments = row.bytes(pg_sys::Anum_pg_trigger_tgargs as i32)?;
    let argument = std::str::from_utf8(arguments.strip_suffix(b"\0")?).ok()?;
    let kind = row.smallint(pg_sys::Anum_pg_trigger_tgtype as i32)?;
    let columns = row.value(pg_sys::Anum_pg_trigger_tgattr as i32)?;
    // SAFETY: an int2vector, which is never null, and never compressed: its storage is PLAIN.
    let names_columns = unsafe { (*columns.cast_mut_ptr::<pg_sys::int2vector>()).dim1 > 0 };
    let has_condition = row.value(pg_sys::Anum_pg_trigger_tgqual as i32).is_some();
    let number: i32 = argument.parse().ok()?;
    let has = |column: u32| row.value(column as i32).is_some();
    (number.to_string() == argument).then_some(Installed {
        oid: row.oid(pg_sys::Anum_pg_trigger_oid as i32)?,
        written_by: row.written_by(),
        argument: number,
        events: kind & EVENTS,
        is_for_each_row: kind & pg_sys::TRIGGER_TYPE_ROW as i16 != 0,
        has_old_table: has(pg_sys::Anum_pg_trigger_tgoldtable),
        has_new_table: has(pg_sys::Anum_pg_trigger_tgnewtable),
        is_always: row.char(pg_sys::Anum_pg_trigger_tgenabled as i32)? == 'A',
        is_unconditional: !names_columns && !has_condition,
    })
}

const EVENTS: i16 = (pg_sys::TRIGGER_TYPE_INSERT
    | pg_sys::TRIGGER_TYPE_DELETE
    | pg_sys::TRIGGER_TYPE_UPDATE
    | pg_sys::TRIGGER_TYPE_TRUNCATE) as i16;

/// Says whether ENABLE ALWAYS triggers fire for all four events.
pub fn has_all(triggers: &[&Installed]) -> bool {
    let always = triggers.iter().filter(|one| one.is_always);
    always.fold(0, |events, one| events | one.events) == EVENTS
}

impl Installed {
    /// Says whether it fires once for a statement, and not for TRUNCATE.
    pub fn is_for_statement(&self) -> bool {
        !self.is_for_each_row && self.events & pg_sys::TRIGGER_TYPE_TRUNCATE as i16 == 0
    }

    /// Says whether it sees the rows of a statement. PostgreSQL refuses statements on a table that has such a
    /// trigger if they change rows of a foreign table below (trigger.c).
    pub fn has_transition_tables(&self) -> bool {
        self.has_old_table || self.has_new_table
    }
}

/// Says whether they capture what a subscription writes: it fires no statement triggers but those of
/// TRUNCATE.
pub fn capture_each_row(triggers: &[&Installed]) -> bool {
    let truncate = pg_sys::TRIGGER_TYPE_TRUNCATE as i16;
    let fires = |one: &Installed| one.is_unconditional && (one.is_for_each_row || one.events & truncate != 0);
    has_all(&triggers.iter().copied().filter(|one| fires(one)).collect::<Vec<_>>())
}

/// Says whether they capture each statement on their table: for each of the four events there is one that is
/// ENABLE ALWAYS and unconditional, and each of them sees all rows of a statement.
pub fn capture_each_statement(triggers: &[&Installed]) -> bool {
    let (update, delete) = (pg_sys::TRIGGER_TYPE_UPDATE as i16, pg_sys::TRIGGER_TYPE_DELETE as i16);
    let (insert, truncate) = (pg_sys::TRIGGER_TYPE_INSERT as i16, pg_sys::TRIGGER_TYPE_TRUNCATE as i16);
    let sees_all = |one: &Installed| {
        let has_old_rows = one.events & (update | delete) != 0;
        let has_new_rows = one.events & (update | insert) != 0;
        one.is_unconditional
            && !one.is_for_each_row
            && (one.events == truncate
                || (one.has_old_table || !has_old_rows) && (one.has_new_table || !has_new_rows))
    };
    has_all(triggers) && triggers.iter().all(|one| sees_all(one))
}

/// Returns a function without arguments in the schema of the extension.
pub fn function(name: &std::ffi::CStr) -> Option<Oid> {
    // SAFETY: C strings, and a vector of no types; InvalidOid if there is no such function (syscache.c).
    let oid = unsafe {
        let schema = pg_sys::get_namespace_oid(super::SCHEMA.as_ptr(), true);
        let types = pg_sys::buildoidvector(std::ptr::null(), 0);
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            pg_sys::Datum::from(name.as_ptr()),
            pg_sys::Datum::from(types),
            pg_sys::Datum::from(schema),
            pg_sys::Datum::null(),
        )
    };
    (oid != Oid::INVALID).then_some(oid)
}
