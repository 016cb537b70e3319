//! What the extension's own tables, and PostgreSQL's catalog, tell of problems. Each is one query about all
//! tables or targets, which writes nothing and runs on a standby as well.

use crate::catalog::applied::{EMPTIED_COPIES, EmptiedCopy};
use crate::error::Result;
use crate::pg;
use crate::pg::Oid;
use crate::pg::query::{Row, in_snapshot};
use batch::Publisher;

/// This database, as far as a standby can tell.
pub struct Here {
    /// The cluster and the database.
    pub publisher: Publisher,
    /// The name of the database.
    pub name: String,
    /// The server is a hot standby.
    pub is_standby: bool,
}

/// Returns what this database is, on a standby as well.
pub fn here() -> Result<Here> {
    let sql = "SELECT (SELECT system_identifier FROM pg_control_system()), oid, datname, pg_is_in_recovery()
                 FROM pg_database WHERE datname = current_database()";
    let rows = in_snapshot(sql, &[])?;
    let row =
        rows.first().ok_or_else(|| pg::Error::Internal("this database is not in pg_database".into()))?;
    let publisher = Publisher { system_identifier: row.get(0)?, database_oid: row.get(1)? };
    Ok(Here { publisher, name: row.get(2)?, is_standby: row.flag(3) })
}

/// A tracked table that cannot be exported any more.
pub struct Unexportable {
    /// The id of the tracked table.
    pub id: i32,
    /// Its schema and its name.
    pub name: (String, String),
    /// Why, in a word of `unexportable.sql`.
    pub reason: String,
    /// What differs in its shadow.
    pub difference: Option<String>,
    /// Its owner.
    pub owner: Option<String>,
}

/// Returns the tracked tables that cannot be exported any more.
pub fn unexportable() -> Result<Vec<Unexportable>> {
    let sql = concat!(
        "WITH altered (id, difference) AS (\n",
        include_str!("altered_shadow.sql"),
        ")\n",
        include_str!("unexportable.sql")
    );
    let table = |row: &Row| {
        let (id, name) = (row.get(0)?, (row.get(1)?, row.get(2)?));
        Ok(Unexportable {
            id,
            name,
            reason: row.get(3)?,
            difference: row.optional(4)?,
            owner: row.optional(5)?,
        })
    };
    in_snapshot(sql, &[])?.iter().map(table).collect()
}

/// A tracked table that targets get through a view which has been dropped.
pub struct UnseenTable {
    /// Its schema and its name.
    pub name: (String, String),
    pub view: Oid,
}

/// Returns the tracked tables that targets get through views which have been dropped.
pub fn unseen_tables() -> Result<Vec<UnseenTable>> {
    let sql = "SELECT DISTINCT n.nspname, c.relname, r.view::oid
                 FROM table_export.restriction AS r
                 JOIN table_export.tracked AS t ON t.relation = r.relation
                 JOIN pg_class AS c ON c.oid = r.relation
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                WHERE r.view IS NOT NULL AND r.view NOT IN (SELECT oid FROM pg_class)
                ORDER BY n.nspname, c.relname";
    let table =
        |row: &Row| Ok(UnseenTable { name: (row.get(0)?, row.get(1)?), view: Oid::from(row.get::<u32>(2)?) });
    in_snapshot(sql, &[])?.iter().map(table).collect()
}

/// A copy whose rows its owner cannot reach, as whom imports write.
pub struct ClosedCopy {
    /// The schema and the name of the table here.
    pub name: (String, String),
    pub owner: String,
    /// Whether the owner may use the schema, so that row security is the reason.
    pub may_use_schema: bool,
}

/// Returns the copies whose rows their owners cannot reach.
pub fn closed_copies() -> Result<Vec<ClosedCopy>> {
    let copy = |row: &Row| {
        let (name, owner) = ((row.get(0)?, row.get(1)?), row.get(2)?);
        Ok(ClosedCopy { name, owner, may_use_schema: row.flag(3) })
    };
    in_snapshot(include_str!("closed_copies.sql"), &[])?.iter().map(copy).collect()
}

/// A shadow that is nearly as large as it may be, or larger.
pub struct LargeShadow {
    /// The schema and the name of its table.
    pub name: (String, String),
    /// How much of the limit it fills.
    pub percent: u64,
    /// The targets that would be released.
    pub needed_by: Vec<String>,
    /// The target that was exported longest ago.
    pub oldest_target: Option<String>,
    /// The processes and prepared transactions that keep it from being truncated.
    pub in_use_by: Vec<String>,
    /// The statements that end these.
    pub ends: Vec<String>,
}

/// Returns the shadows that fill at least 80 percent of a limit in bytes.
pub fn large_shadows(limit: i64) -> Result<Vec<LargeShadow>> {
    let shadow = |row: &Row| {
        Ok(LargeShadow {
            name: (row.get(0)?, row.get(1)?),
            percent: row.get(2)?,
            needed_by: row.json(3)?,
            oldest_target: row.optional(4)?,
            in_use_by: row.json(5)?,
            ends: row.json(6)?,
        })
    };
    in_snapshot(include_str!("large_shadows.sql"), &[&limit])?.iter().map(shadow).collect()
}

/// A target at its source.
pub struct TargetHealth {
    pub name: String,
    /// The number of its last batch, 0 if there is none.
    pub number: u64,
    /// The database that publishes it; `None` before its first export.
    pub publisher: Option<Publisher>,
    /// The store of its last batch.
    pub store: Option<String>,
    /// The settings have been loaded since: `pg_table_export.store` may be another one than then.
    pub is_before_settings: bool,
    /// When it was exported last, in ISO 8601, and how long ago that was.
    pub exported: Option<(String, String)>,
    /// The usual interval between its batches.
    pub usual: Option<String>,
    /// Its last export is older than usual.
    pub is_late: bool,
    /// The process that exports it at the moment.
    pub exported_by: Option<i32>,
}

/// Returns the targets that this database exports to.
pub fn targets() -> Result<Vec<TargetHealth>> {
    let target = |row: &Row| {
        let publisher = row.optional(2)?.zip(row.optional(3)?);
        let publisher =
            publisher.map(|(system_identifier, database_oid)| Publisher { system_identifier, database_oid });
        Ok(TargetHealth {
            name: row.get(0)?,
            number: row.get(1)?,
            publisher,
            store: row.optional(4)?,
            exported: row.optional(5)?.zip(row.optional(6)?),
            usual: row.optional(7)?,
            is_late: row.flag(8),
            exported_by: row.optional(9)?,
            is_before_settings: row.flag(10),
        })
    };
    in_snapshot(include_str!("target_health.sql"), &[])?.iter().map(target).collect()
}

/// A target that is sent tables in full again.
pub struct ReleasedTarget {
    pub name: String,
    /// How many tables.
    pub tables: u64,
    /// The names of the first of them.
    pub some: Vec<String>,
}

/// Returns the targets whose next export sends tables in full that it would send the changes of otherwise.
pub fn released_targets() -> Result<Vec<ReleasedTarget>> {
    let released =
        |row: &Row| Ok(ReleasedTarget { name: row.get(0)?, tables: row.get(1)?, some: row.json(2)? });
    in_snapshot(include_str!("released.sql"), &[])?.iter().map(released).collect()
}

/// A copy that does not follow its target.
pub struct StaleCopy {
    /// The table here, its name quoted.
    pub table: String,
    pub target: String,
    /// Its schema and its name at the source.
    pub source_table: (String, String),
    /// Why, in a word of `copy_health.sql`.
    pub reason: String,
    /// The first batch that does not name the source's table any more.
    pub not_sent_since: Option<u64>,
    /// The columns whose unchanged rows may lack values.
    pub stale_columns: Option<String>,
    /// The instant of the source that it shows, in ISO 8601, if it is not sent any more.
    pub shows: Option<String>,
}

/// Returns the copies that do not follow their targets.
pub fn stale_copies() -> Result<Vec<StaleCopy>> {
    let copy = |row: &Row| {
        Ok(StaleCopy {
            table: row.get(0)?,
            target: row.get(1)?,
            source_table: (row.get(2)?, row.get(3)?),
            reason: row.get(4)?,
            not_sent_since: row.optional(5)?,
            stale_columns: row.optional(6)?,
            shows: row.optional(7)?,
        })
    };
    in_snapshot(include_str!("copy_health.sql"), &[])?.iter().map(copy).collect()
}

/// Returns the unlogged copies that a crash may have emptied. Unlogged tables cannot be read on a standby.
pub fn emptied_copies() -> Result<Vec<EmptiedCopy>> {
    let sql = format!("{EMPTIED_COPIES} AND c.since IS NOT NULL ORDER BY c.target, c.relation::text");
    in_snapshot(&sql, &[])?.iter().map(EmptiedCopy::of).collect()
}

/// Returns the protected copies that have disabled triggers, their names quoted, each with the statement
/// that enables them.
pub fn disarmed_copies() -> Result<Vec<(String, String)>> {
    let sql = "SELECT g.tgrelid::regclass::text,
                      format('ALTER TABLE %s %s;', g.tgrelid::regclass,
                             string_agg(format('ENABLE TRIGGER %I', g.tgname), ', ' ORDER BY g.tgname))
                 FROM pg_trigger AS g
                WHERE g.tgfoid = 'table_export.refuse_write()'::regprocedure AND g.tgenabled IN ('D', 'R')
                GROUP BY g.tgrelid ORDER BY 1";
    in_snapshot(sql, &[])?.iter().map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}

/// A table that differed from the store when it was compared last.
pub struct DifferentTable {
    /// Its name, quoted.
    pub table: String,
    pub target: String,
    /// The batch that it was compared with.
    pub number: u64,
    pub missing: u64,
    pub extra: u64,
    pub different: u64,
    /// When, in ISO 8601.
    pub verified_at: String,
    /// Its schema and its name at the source, if it is a copy; else it is the table of the source.
    pub copy_of: Option<(String, String)>,
}

/// Returns the tables that differed from the store when they were compared last, and have not been sent in
/// full since.
pub fn different_tables() -> Result<Vec<DifferentTable>> {
    let table = |row: &Row| {
        Ok(DifferentTable {
            table: row.get(0)?,
            target: row.get(1)?,
            number: row.get(2)?,
            missing: row.get(3)?,
            extra: row.get(4)?,
            different: row.get(5)?,
            verified_at: row.get(6)?,
            copy_of: row.optional(7)?.zip(row.optional(8)?),
        })
    };
    in_snapshot(include_str!("different.sql"), &[])?.iter().map(table).collect()
}

/// A target at a destination.
pub struct ImportHealth {
    pub target: String,
    /// The number of the last batch that was applied.
    pub number: u64,
    /// The store that it came from.
    pub store: String,
    /// A batch of an instant before this one, in ISO 8601, waits longer than usual; `None` if it is not known
    /// what is usual.
    pub late_before: Option<String>,
    /// How long batches usually take from their export until they are applied.
    pub usual: Option<String>,
    /// How much later its export was than its import, by the clocks of both sides.
    pub clock_ahead: Option<String>,
    /// When it was applied, in ISO 8601.
    pub applied_at: String,
    /// The settings have been loaded since: `pg_table_export.store` may be another one than then.
    pub is_before_settings: bool,
}

/// Returns the targets that this database imports.
pub fn imports() -> Result<Vec<ImportHealth>> {
    let import = |row: &Row| {
        Ok(ImportHealth {
            target: row.get(0)?,
            number: row.get(1)?,
            store: row.get(2)?,
            late_before: row.optional(3)?,
            usual: row.optional(4)?,
            clock_ahead: row.optional(5)?,
            applied_at: row.get(6)?,
            is_before_settings: row.flag(7),
        })
    };
    in_snapshot(include_str!("import_health.sql"), &[])?.iter().map(import).collect()
}
