//! The members of tracked tables and their triggers, in the active snapshot.

use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot, in_snapshot_by_kept_plan, in_transaction, latest};

/// A table through which statements can write to a tracked table; the tracked table is a member of itself.
pub struct Member {
    /// The table that a statement may name.
    pub relation: Oid,
    /// What its triggers must capture.
    pub captures: Captures,
}

/// What the triggers of a member capture.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Captures {
    /// Statements on the member, by transition tables.
    Statements,
    /// Each row of the member, whichever table the statement names.
    Rows,
    /// TRUNCATE only. No trigger has transition tables.
    Truncate,
}

impl Captures {
    const ALL: [Captures; 3] = [Captures::Statements, Captures::Rows, Captures::Truncate];

    fn name(self) -> &'static str {
        match self {
            Captures::Statements => "statements",
            Captures::Rows => "rows",
            Captures::Truncate => "truncate",
        }
    }

    fn named(name: &str) -> Result<Captures> {
        let found = Captures::ALL.into_iter().find(|one| one.name() == name);
        Ok(found.ok_or_else(|| pg::Error::Internal(format!("a member captures {name}")))?)
    }
}

/// Returns the members of a tracked table.
pub fn members(id: i32) -> Result<Vec<Member>> {
    let sql = "SELECT m.relation::oid, m.captures
                 FROM table_export.member AS m JOIN pg_class AS c ON c.oid = m.relation
                WHERE m.tracked = $1 ORDER BY m.relation";
    let member = |row: &Row| {
        let (relation, captures) = (Oid::from(row.get::<u32>(0)?), row.get::<String>(1)?);
        Ok(Member { relation, captures: Captures::named(&captures)? })
    };
    in_snapshot_by_kept_plan(sql, &[&id])?.iter().map(member).collect()
}

/// Renews what is remembered of the key of a tracked table, at any isolation level, if a column has another
/// name since, or the table is another since it was restored.
pub fn renew_key(id: i32) -> Result<()> {
    latest(include_str!("renew_key.sql"), &[&id])?;
    Ok(())
}

/// The triggers of a tracked table: $1 = its id, $2 = the member that they are on, or null for all.
const CAPTURE_TRIGGERS: &str = "
    pg_trigger AS g
    JOIN pg_class AS c ON c.oid = g.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
   WHERE g.tgfoid = 'table_export.capture()'::regprocedure
     AND g.tgargs = convert_to($1::text, 'UTF8') || '\\x00'::bytea
     AND ($2 IS NULL OR g.tgrelid = $2)";

/// Creates the triggers of one member of a tracked table, which capture nothing until they are enabled.
pub fn create_triggers(id: i32, relation: Oid, captures: Captures) -> Result<()> {
    let sql = include_str!("create_triggers.sql");
    run_each(&in_snapshot_by_kept_plan(sql, &[&id, &relation, &captures.name()])?)
}

/// Makes the triggers of one member ENABLE ALWAYS, so that they fire for writes under
/// session_replication_role = replica as well. A rehearsal makes them ENABLE REPLICA.
pub fn enable_triggers(id: i32, relation: Oid, is_rehearsal: bool) -> Result<()> {
    let sql = format!(
        "SELECT format('ALTER TABLE ONLY %I.%I %s', n.nspname, c.relname,
                       string_agg(format('ENABLE %s TRIGGER %I',
                                         CASE WHEN $3 THEN 'REPLICA' ELSE 'ALWAYS' END, g.tgname), ', '))
           FROM {CAPTURE_TRIGGERS}
          GROUP BY n.nspname, c.relname"
    );
    run_each(&in_snapshot(&sql, &[&id, &relation, &is_rehearsal])?)
}

/// Returns the tables that have triggers of a tracked table.
pub fn tables_with_triggers(id: i32) -> Result<Vec<Oid>> {
    let sql = format!("SELECT DISTINCT g.tgrelid FROM {CAPTURE_TRIGGERS} ORDER BY g.tgrelid");
    let table = |row: &Row| Ok(Oid::from(row.get::<u32>(0)?));
    latest(&sql, &[&id, &None::<Oid>])?.iter().map(table).collect()
}

/// Drops the triggers of all members and former members of a tracked table, or those of one.
pub fn drop_triggers(id: i32, relation: Option<Oid>) -> Result<()> {
    let sql = format!(
        "SELECT format('DROP TRIGGER %I ON %I.%I', g.tgname, n.nspname, c.relname) FROM {CAPTURE_TRIGGERS}"
    );
    run_each(&in_snapshot(&sql, &[&id, &relation])?)
}

fn run_each(statements: &[Row]) -> Result<()> {
    for row in statements {
        in_transaction(&row.get::<String>(0)?, &[])?;
    }
    Ok(())
}
