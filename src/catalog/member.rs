//! The members of tracked tables and their triggers, in the active snapshot.

use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, latest, now};

/// A table through which statements can write to a tracked table; the tracked table is a member of itself.
pub struct Member {
    /// The table that a statement may name.
    pub relation: Oid,
    /// pg_class.relpersistence
    pub persistence: char,
    /// A subscription writes to it, so its triggers must be FOR EACH ROW.
    pub by_row: bool,
}

/// Returns the members of a tracked table.
pub fn members(id: i32) -> Result<Vec<Member>> {
    let sql = "SELECT m.relation::oid, c.relpersistence, m.by_row
                 FROM table_export.member AS m JOIN pg_class AS c ON c.oid = m.relation
                WHERE m.tracked = $1 ORDER BY m.relation";
    let member = |row: &Row| {
        let (relation, persistence) = (Oid::from(row.get::<u32>(0)?), row.get(1)?);
        Ok(Member { relation, persistence, by_row: row.flag(2) })
    };
    in_snapshot(sql, &[&id])?.iter().map(member).collect()
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

/// Returns the strays of some tracked tables.
pub fn strays(ids: &[i32]) -> Result<Vec<Stray>> {
    let sql = "SELECT s.tracked, t.relation::oid, s.relation::oid, s.joins, s.by_row, s.holds_rows
                 FROM table_export.stray AS s JOIN table_export.tracked AS t ON t.id = s.tracked";
    let stray = |row: &Row| {
        let (id, tracked, relation) = (row.get(0)?, row.get::<u32>(1)?, row.get::<u32>(2)?);
        let (joins, by_row, holds_rows) = (row.flag(3), row.flag(4), row.flag(5));
        let (tracked, relation) = (Oid::from(tracked), Oid::from(relation));
        Ok(Stray { id, tracked, relation, joins, by_row, holds_rows })
    };
    let strays = in_snapshot(sql, &[])?.iter().map(stray).collect::<Result<Vec<_>>>()?;
    Ok(strays.into_iter().filter(|stray| ids.contains(&stray.id)).collect())
}

/// Returns the ids of the tracked tables that the DDL command may concern which has just ended.
pub fn touched() -> Result<Vec<i32>> {
    let rows = in_snapshot(include_str!("touched.sql"), &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect::<Result<_, pg::Error>>()?)
}

/// Returns the tracked tables, by their ids, whose rows are in the table that is being rewritten.
pub fn rewritten() -> Result<Vec<(i32, Oid)>> {
    let sql = "SELECT m.tracked, t.relation::oid
                 FROM table_export.member AS m JOIN table_export.tracked AS t ON t.id = m.tracked
                WHERE m.has_rows AND m.relation = pg_event_trigger_table_rewrite_oid()";
    tracked_by_id(sql)
}

/// Returns the tracked tables, by their ids, whose changes are not captured through a table that the DDL
/// command has touched.
pub fn disarmed() -> Result<Vec<(i32, Oid)>> {
    tracked_by_id(include_str!("disarmed.sql"))
}

fn tracked_by_id(sql: &str) -> Result<Vec<(i32, Oid)>> {
    let tracked = |row: &Row| Ok((row.get(0)?, Oid::from(row.get::<u32>(1)?)));
    in_snapshot(sql, &[])?.iter().map(tracked).collect()
}

/// Renews what is remembered of the keys of tracked tables, at any isolation level.
pub fn renew_keys() -> Result<()> {
    latest(include_str!("renew_keys.sql"), &[])?;
    Ok(())
}

/// Creates the triggers of one member of a tracked table.
pub fn create_triggers(id: i32, relation: Oid, by_row: bool) -> Result<()> {
    run_each(&in_snapshot(include_str!("create_triggers.sql"), &[&id, &relation, &by_row])?)
}

/// Drops the triggers of all members and former members of a tracked table, or those of one.
pub fn drop_triggers(id: i32, relation: Option<Oid>) -> Result<()> {
    let sql = "SELECT format('DROP TRIGGER %I ON %I.%I', g.tgname, n.nspname, c.relname)
                 FROM pg_trigger AS g
                 JOIN pg_class AS c ON c.oid = g.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE g.tgfoid = 'table_export.capture()'::regprocedure
                  AND g.tgargs = convert_to($1::text, 'UTF8') || '\\x00'::bytea
                  AND ($2 IS NULL OR g.tgrelid = $2)";
    run_each(&in_snapshot(sql, &[&id, &relation])?)
}

fn run_each(statements: &[Row]) -> Result<()> {
    for row in statements {
        now(&row.get::<String>(0)?, &[])?;
    }
    Ok(())
}
