//! What a statement says, which locks it takes, and what becomes of the rows that it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

/// The keys of `parted_top`, the partition that DDL detaches, drops and attaches, begin here.
pub const TOP: i32 = 24;

pub const PARTED: usize = 1;

/// What every source has besides its tables: a way to give a table its triggers back.
pub const FUNCTIONS: &str = "
    CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE FUNCTION arm(member regclass) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE name text;
        BEGIN
            FOR name IN SELECT tgname FROM pg_trigger
                         WHERE tgrelid = member AND tgfoid = 'table_export.capture'::regproc
            LOOP EXECUTE format('ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %I', member, name); END LOOP;
        END $$;
";

pub type Rows = BTreeMap<i32, i32>;

pub type Effect = BTreeMap<i32, Option<i32>>;

pub type Keys = RangeInclusive<i32>;

/// A statement that writes to one table, or alters it.
#[derive(Clone, Debug)]
pub enum Change {
    Upsert(Keys, i32),
    InsertMissing(Keys, i32),
    Update(Keys, i32),
    Delete(Keys),
    Shift(Keys, i32),
    Truncate,
    /// Updates a row in each of 70 subtransactions: more than a snapshot lists.
    Subtransactions(i32),
    /// Updates rows, and fails then.
    Fail(Keys),
    Alter(Ddl),
}

/// DDL. That with keys and a value updates rows while something is not as it was.
#[derive(Clone, Debug)]
pub enum Ddl {
    /// Gives each row another value, and writes it anew.
    Rewrite,
    /// Rewrites the table while the event trigger that sees it is disabled.
    RewriteUnseen,
    /// Drops the column, and adds one of the same name.
    Renew(i32),
    AddColumn,
    DropColumn,
    RenameColumn(Keys, i32),
    RenameTable(Keys, i32),
    DisableTriggers(Keys, i32),
    DisableTriggersOfPartition(Keys, i32),
    ReplaceTrigger(Keys, i32),
    RenameTrigger(Keys, i32),
    /// Leaves the triggers disabled.
    Disarm,
    Arm,
    DropTop,
    DetachTop,
    AttachTop(i32),
}

/// What a statement locks until its transaction ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lock {
    Rows,
    /// Neither readers nor writers wait, but other DDL.
    Shape,
    Table,
}

/// What DDL has made of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    pub has_top: bool,
    pub is_armed: bool,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { has_top: true, is_armed: true }
    }
}

fn update(table: &str, column: &str, keys: &Keys, v: i32) -> String {
    format!("UPDATE {table} SET v = {v} WHERE {column} BETWEEN {} AND {}", keys.start(), keys.end())
}

fn all(rows: &Rows, v: impl Fn(i32) -> Option<i32>) -> Effect {
    rows.iter().map(|(key, was)| (*key, v(*was))).collect()
}

impl Change {
    pub fn sql(&self, table: &str) -> String {
        let within = |keys: &Keys| format!("BETWEEN {} AND {}", keys.start(), keys.end());
        let series = |keys: &Keys| format!("generate_series({}, {})", keys.start(), keys.end());
        match self {
            Change::Upsert(keys, v) => format!(
                "INSERT INTO {table} (id, v) SELECT i, {v} FROM {} AS i ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                series(keys)
            ),
            Change::InsertMissing(keys, v) => format!(
                "INSERT INTO {table} (id, v) SELECT i, {v} FROM {} AS i ON CONFLICT DO NOTHING",
                series(keys)
            ),
            Change::Update(keys, v) => update(table, "id", keys, *v),
            Change::Delete(keys) => format!("DELETE FROM {table} WHERE id {}", within(keys)),
            Change::Shift(keys, by) => format!("UPDATE {table} SET id = id + {by} WHERE id {}", within(keys)),
            Change::Truncate => format!("TRUNCATE {table}"),
            Change::Subtransactions(key) => format!(
                "DO $$ BEGIN FOR i IN 1..70 LOOP BEGIN UPDATE {table} SET v = i WHERE id = {key}; \
                 EXCEPTION WHEN division_by_zero THEN END; END LOOP; END $$"
            ),
            Change::Fail(keys) => format!(
                "DO $$ BEGIN UPDATE {table} SET v = -1 WHERE id {}; RAISE 'on purpose'; END $$",
                within(keys)
            ),
            Change::Alter(ddl) => ddl.sql(table),
        }
    }

    /// The keys whose rows it may lock.
    pub fn keys(&self) -> BTreeSet<i32> {
        match self {
            Change::Upsert(keys, _)
            | Change::InsertMissing(keys, _)
            | Change::Update(keys, _)
            | Change::Delete(keys)
            | Change::Fail(keys) => keys.clone().collect(),
            Change::Shift(keys, by) => keys.clone().flat_map(|key| [key, key + by]).collect(),
            Change::Subtransactions(key) => [*key].into(),
            Change::Truncate | Change::Alter(_) => BTreeSet::new(),
        }
    }

    pub fn lock(&self) -> Lock {
        match self {
            Change::Alter(Ddl::AttachTop(_)) => Lock::Shape,
            Change::Truncate | Change::Alter(_) => Lock::Table,
            _ => Lock::Rows,
        }
    }

    /// Whether what it does depends on rows that its snapshot sees. Other DDL works on the newest rows.
    pub fn needs_newest_snapshot(&self) -> bool {
        !matches!(
            self,
            Change::Alter(
                Ddl::Rewrite
                    | Ddl::Renew(_)
                    | Ddl::AddColumn
                    | Ddl::DropColumn
                    | Ddl::DropTop
                    | Ddl::AttachTop(_)
            )
        )
    }

    /// What becomes of the rows that it sees; `None` if it would be refused.
    pub fn effect(&self, table: usize, shape: Shape, rows: &Rows) -> Option<Effect> {
        let seen = |keys: &Keys| rows.range(keys.clone()).map(|(key, v)| (*key, *v)).collect::<Vec<_>>();
        let effect = match self {
            Change::Upsert(keys, v) => keys.clone().map(|key| (key, Some(*v))).collect(),
            Change::InsertMissing(keys, v) => {
                keys.clone().filter(|key| !rows.contains_key(key)).map(|key| (key, Some(*v))).collect()
            }
            Change::Update(keys, v) => seen(keys).into_iter().map(|(key, _)| (key, Some(*v))).collect(),
            Change::Delete(keys) => seen(keys).into_iter().map(|(key, _)| (key, None)).collect(),
            Change::Shift(keys, by) => {
                let moving = seen(keys);
                if moving.iter().any(|(key, _)| rows.contains_key(&(key + by))) {
                    return None;
                }
                let gone = moving.iter().map(|(key, _)| (*key, None));
                gone.chain(moving.iter().map(|(key, v)| (key + by, Some(*v)))).collect()
            }
            Change::Truncate => all(rows, |_| None),
            Change::Subtransactions(key) => rows.get(key).map(|_| (*key, Some(70))).into_iter().collect(),
            Change::Fail(_) => BTreeMap::new(),
            Change::Alter(ddl) => return ddl.effect(table, shape, rows),
        };
        // Without the partition there is no place for its rows.
        let is_homeless = |(key, v): (&i32, &Option<i32>)| *key >= TOP && v.is_some();
        let has_place = table != PARTED || shape.has_top || !effect.iter().any(is_homeless);
        has_place.then_some(effect)
    }
}

impl Ddl {
    fn sql(&self, table: &str) -> String {
        let rewrite = format!("ALTER TABLE {table} ALTER COLUMN v TYPE int USING v + 1");
        let unseen = |table: &str, keys: &Keys, v: i32| {
            let update = update(table, "id", keys, v);
            format!("ALTER TABLE ONLY {table} DISABLE TRIGGER ALL; {update}; SELECT arm('{table}')")
        };
        match self {
            Ddl::Rewrite => rewrite,
            Ddl::RewriteUnseen => format!(
                "ALTER EVENT TRIGGER pg_table_export_rewrite DISABLE; {rewrite}; \
                 ALTER EVENT TRIGGER pg_table_export_rewrite ENABLE ALWAYS"
            ),
            Ddl::Renew(v) => {
                format!("ALTER TABLE {table} DROP COLUMN v; ALTER TABLE {table} ADD COLUMN v int DEFAULT {v}")
            }
            Ddl::AddColumn => format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS extra int DEFAULT 1"),
            Ddl::DropColumn => format!("ALTER TABLE {table} DROP COLUMN IF EXISTS extra"),
            Ddl::RenameColumn(keys, v) => format!(
                "ALTER TABLE {table} RENAME id TO number; {}; ALTER TABLE {table} RENAME number TO id",
                update(table, "number", keys, *v)
            ),
            Ddl::RenameTable(keys, v) => format!(
                "ALTER TABLE {table} RENAME TO away; {}; ALTER TABLE away RENAME TO {table}",
                update("away", "id", keys, *v)
            ),
            Ddl::DisableTriggers(keys, v) => unseen(table, keys, *v),
            Ddl::DisableTriggersOfPartition(keys, v) => unseen("parted_low", keys, *v),
            Ddl::ReplaceTrigger(keys, v) => format!(
                "DO $$ DECLARE ours text := (SELECT pg_get_triggerdef(oid) FROM pg_trigger
                        WHERE tgrelid = '{table}'::regclass AND tgname = 'pg_table_export_update');
                  BEGIN
                      CREATE OR REPLACE TRIGGER pg_table_export_update AFTER UPDATE ON {table}
                          EXECUTE FUNCTION idle();
                      {};
                      EXECUTE replace(ours, 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');
                  END $$; SELECT arm('{table}')",
                update(table, "id", keys, *v)
            ),
            Ddl::RenameTrigger(keys, v) => format!(
                "ALTER TRIGGER pg_table_export_update ON {table} RENAME TO mine; {}; \
                 ALTER TRIGGER mine ON {table} RENAME TO pg_table_export_update",
                update(table, "id", keys, *v)
            ),
            Ddl::Disarm => format!("ALTER TABLE ONLY {table} DISABLE TRIGGER ALL"),
            Ddl::Arm => format!("SELECT arm('{table}')"),
            Ddl::DropTop => "DROP TABLE parted_top".to_owned(),
            Ddl::DetachTop => "ALTER TABLE parted DETACH PARTITION parted_top; \
                UPDATE parted_top SET v = -5; DROP TABLE parted_top"
                .to_owned(),
            Ddl::AttachTop(v) => format!(
                "CREATE TABLE parted_top (LIKE parted INCLUDING ALL); \
                 INSERT INTO parted_top (id, v) SELECT i, {v} FROM generate_series({TOP}, {TOP} + {v}) AS i; \
                 ALTER TABLE parted ATTACH PARTITION parted_top FOR VALUES FROM ({TOP}) TO (MAXVALUE)"
            ),
        }
    }

    fn effect(&self, table: usize, shape: Shape, rows: &Rows) -> Option<Effect> {
        let update = |keys: &Keys, v: i32| rows.range(keys.clone()).map(|(key, _)| (*key, Some(v))).collect();
        Some(match self {
            Ddl::DropTop | Ddl::DetachTop if table == PARTED && shape.has_top => {
                rows.range(TOP..).map(|(key, _)| (*key, None)).collect()
            }
            Ddl::AttachTop(v) if table == PARTED && !shape.has_top => {
                (TOP..=TOP + v).map(|key| (key, Some(*v))).collect()
            }
            Ddl::DropTop | Ddl::DetachTop | Ddl::AttachTop(_) => return None,
            Ddl::DisableTriggersOfPartition(keys, v) if table == PARTED => rows
                .range(keys.clone())
                .filter(|(key, _)| **key < 12)
                .map(|(key, _)| (*key, Some(*v)))
                .collect(),
            Ddl::DisableTriggersOfPartition(..) => return None,
            Ddl::Rewrite | Ddl::RewriteUnseen => all(rows, |v| Some(v + 1)),
            Ddl::Renew(v) => all(rows, |_| Some(*v)),
            Ddl::RenameColumn(keys, v)
            | Ddl::RenameTable(keys, v)
            | Ddl::DisableTriggers(keys, v)
            | Ddl::ReplaceTrigger(keys, v)
            | Ddl::RenameTrigger(keys, v) => update(keys, *v),
            Ddl::AddColumn | Ddl::DropColumn | Ddl::Disarm | Ddl::Arm => BTreeMap::new(),
        })
    }

    /// What it makes of a table.
    pub fn reshape(&self, shape: Shape) -> Shape {
        match self {
            Ddl::Disarm => Shape { is_armed: false, ..shape },
            Ddl::Arm | Ddl::DisableTriggers(..) | Ddl::ReplaceTrigger(..) => {
                Shape { is_armed: true, ..shape }
            }
            Ddl::DropTop | Ddl::DetachTop => Shape { has_top: false, ..shape },
            Ddl::AttachTop(_) => Shape { has_top: true, ..shape },
            _ => shape,
        }
    }
}
