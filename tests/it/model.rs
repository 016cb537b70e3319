//! Random schedules of many sessions, run against real servers and against a model in memory.
//!
//! The model knows what every committed and open transaction shows, so it predicts each import exactly: the
//! destination shows all tables as the source had them at the instant of the newest batch. A step that
//! PostgreSQL would make wait, because an open transaction has locked what it needs, is left out; any other
//! that waits, or is refused, fails. In the end source and destinations are equal to the model.
//!
//! A failure shrinks to the shortest schedule that shows it, and is printed as what each session said.
//! `SCHEDULES=100000 SEED=… cargo test --test it model::` tries more, and others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::thread::scope;

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{Cluster, Store};
use postgres::Client;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

/// One table is plain; in the other, rows move between partitions, whose columns are in another order.
const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v int);
    CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (12);
    CREATE TABLE parted_high (v int, id int NOT NULL);
    ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (12) TO (MAXVALUE);
";
const COPIES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v int);
    CREATE TABLE parted (id int PRIMARY KEY, v int);
";
const NAMES: [&str; 2] = ["plain", "parted"];
const TARGETS: [&str; 2] = ["near", "far"];
const WRITERS: usize = 3;
const KEYS: i32 = 24;

/// Nothing may wait; what does is ended, and fails.
const IMPATIENT: &str = "SET lock_timeout = '5s'; SET statement_timeout = '20s'";

/// What a session does. Writers, tables and targets are known by their numbers.
#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    Change(usize, usize, Change),
    Savepoint(usize),
    RollbackToSavepoint(usize),
    ReleaseSavepoint(usize),
    End(usize, End),
    EndPrepared(usize, End),
    Export(usize, Isolation, Option<End>),
    EndExport(usize, End),
    Import(usize, End),
    Reset(usize, Option<usize>),
    TrackAgain(usize),
    Crash,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Commit,
    Rollback,
    Prepare,
}

#[derive(Clone, Copy, Debug)]
enum Isolation {
    ReadCommitted,
    RepeatableRead,
    Serializable,
}

/// A statement that writes to one table.
#[derive(Clone, Debug)]
enum Change {
    Upsert(RangeInclusive<i32>, i32),
    InsertMissing(RangeInclusive<i32>, i32),
    Update(RangeInclusive<i32>, i32),
    Delete(RangeInclusive<i32>),
    Shift(RangeInclusive<i32>, i32),
    Truncate,
    /// Updates a row in each of 70 subtransactions: more than a snapshot lists.
    Subtransactions(i32),
    /// Updates rows, and fails then.
    Fail(RangeInclusive<i32>),
}

type Rows = BTreeMap<i32, i32>;

/// All tables at one instant.
type State = [Rows; 2];

/// What a transaction has given some rows: a value, or their end.
type Changes = [BTreeMap<i32, Option<i32>>; 2];

impl Change {
    fn sql(&self, table: &str) -> String {
        let within = |keys: &RangeInclusive<i32>| format!("BETWEEN {} AND {}", keys.start(), keys.end());
        let series =
            |keys: &RangeInclusive<i32>| format!("generate_series({}, {})", keys.start(), keys.end());
        match self {
            Change::Upsert(keys, v) => format!(
                "INSERT INTO {table} (id, v) SELECT i, {v} FROM {} AS i ON CONFLICT (id) DO UPDATE SET v = excluded.v",
                series(keys)
            ),
            Change::InsertMissing(keys, v) => format!(
                "INSERT INTO {table} (id, v) SELECT i, {v} FROM {} AS i ON CONFLICT DO NOTHING",
                series(keys)
            ),
            Change::Update(keys, v) => format!("UPDATE {table} SET v = {v} WHERE id {}", within(keys)),
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
        }
    }

    /// The keys whose rows it may lock. TRUNCATE locks the table.
    fn keys(&self) -> BTreeSet<i32> {
        match self {
            Change::Upsert(keys, _)
            | Change::InsertMissing(keys, _)
            | Change::Update(keys, _)
            | Change::Delete(keys)
            | Change::Fail(keys) => keys.clone().collect(),
            Change::Shift(keys, by) => keys.clone().flat_map(|key| [key, key + by]).collect(),
            Change::Subtransactions(key) => [*key].into(),
            Change::Truncate => BTreeSet::new(),
        }
    }

    /// What becomes of the rows that it sees; `None` if it would violate the primary key.
    fn effect(&self, rows: &Rows) -> Option<BTreeMap<i32, Option<i32>>> {
        let seen = |keys: &RangeInclusive<i32>| {
            rows.range(keys.clone()).map(|(key, v)| (*key, *v)).collect::<Vec<_>>()
        };
        Some(match self {
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
            Change::Truncate => rows.keys().map(|key| (*key, None)).collect(),
            Change::Subtransactions(key) => rows.get(key).map(|_| (*key, Some(70))).into_iter().collect(),
            Change::Fail(_) => BTreeMap::new(),
        })
    }
}

/// A transaction that is open, or prepared. What a savepoint has locked counts as locked after its rollback
/// as well: this leaves out more steps than it would have to.
#[derive(Clone, Debug, Default)]
struct Transaction {
    changes: Changes,
    savepoints: Vec<Changes>,
    locked_keys: [BTreeSet<i32>; 2],
    locked_tables: [bool; 2],
    has_failed: bool,
}

impl Transaction {
    fn view(&self, committed: &State, table: usize) -> Rows {
        let mut rows = committed[table].clone();
        apply(&mut rows, &self.changes[table]);
        rows
    }

    fn change(&mut self, committed: &State, table: usize, change: &Change) -> Option<()> {
        self.changes[table].extend(change.effect(&self.view(committed, table))?);
        self.locked_keys[table].extend(change.keys());
        self.locked_tables[table] |= matches!(change, Change::Truncate);
        self.has_failed |= matches!(change, Change::Fail(_));
        Some(())
    }

    /// Whether PostgreSQL would make a change wait for this transaction.
    fn blocks(&self, table: usize, change: &Change) -> bool {
        match change {
            Change::Truncate => self.blocks_table(table),
            _ => self.locked_tables[table] || !self.locked_keys[table].is_disjoint(&change.keys()),
        }
    }

    fn blocks_table(&self, table: usize) -> bool {
        self.locked_tables[table] || !self.locked_keys[table].is_empty()
    }
}

fn apply(rows: &mut Rows, changes: &BTreeMap<i32, Option<i32>>) {
    for (key, v) in changes {
        match v {
            Some(v) => rows.insert(*key, *v),
            None => rows.remove(key),
        };
    }
}

/// What the source holds, and what each destination shows once it has imported.
#[derive(Clone, Debug, Default)]
struct Model {
    committed: State,
    writers: [Option<Transaction>; WRITERS],
    prepared: Vec<(String, Transaction)>,
    exporting: [bool; 2],
    published: [State; 2],
    shown: [State; 2],
}

impl Model {
    fn commit(&mut self, transaction: &Transaction) {
        for (rows, changes) in self.committed.iter_mut().zip(&transaction.changes) {
            apply(rows, changes);
        }
    }

    fn others(&self, writer: usize) -> impl Iterator<Item = &Transaction> {
        let open = self.writers.iter().enumerate().filter(move |(other, _)| *other != writer);
        open.filter_map(|(_, transaction)| transaction.as_ref()).chain(self.prepared.iter().map(|(_, t)| t))
    }

    fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.others(WRITERS)
    }
}

/// The two servers, and how many worlds they have seen.
struct Servers {
    source: Cluster,
    destination: Cluster,
    worlds: u32,
}

/// The databases that schedules run on, one after the other, and what the present one has said to them.
struct World {
    servers: Servers,
    _store: Store,
    source: Database,
    copies: [Database; 2],
    writers: Vec<Client>,
    exporters: Vec<Client>,
    importers: Vec<Client>,
    script: String,
    transactions: u32,
    model: Model,
}

/// A session of a [`World`].
#[derive(Clone, Copy, Debug)]
enum Session {
    Writer(usize),
    Exporter(usize),
    Importer(usize),
}

fn connect(database: &Database) -> Client {
    let mut client = database.client();
    client.batch_execute(IMPATIENT).unwrap_or_else(|error| panic!("{error}"));
    client
}

impl World {
    fn new(mut servers: Servers) -> World {
        servers.worlds += 1;
        let store = Store::new();
        let source = Database::empty(&servers.source, &format!("source_{}", servers.worlds), &store);
        source.run(TABLES);
        source.run("SELECT tx_track('plain'); SELECT tx_track('parted')");
        let copies = TARGETS.map(|target| {
            let name = format!("{target}_{}", servers.worlds);
            let copy = Database::empty(&servers.destination, &name, &store).with_target(target);
            copy.run(COPIES);
            copy
        });
        let importers = copies.each_ref().map(connect).into();
        let mut world = World {
            servers,
            _store: store,
            source,
            copies,
            writers: Vec::new(),
            exporters: Vec::new(),
            importers,
            script: String::new(),
            transactions: 0,
            model: Model::default(),
        };
        world.connect_to_source();
        world
    }

    /// Leaves nothing behind that would be in the way of another world.
    fn leave(self) -> Servers {
        for (gid, _) in &self.model.prepared {
            self.source.run(&format!("ROLLBACK PREPARED '{gid}'"));
        }
        self.servers
    }

    fn connect_to_source(&mut self) {
        self.writers = (0..WRITERS).map(|_| connect(&self.source)).collect();
        self.exporters = TARGETS.iter().map(|_| connect(&self.source)).collect();
    }

    fn ask(&mut self, session: Session, sql: &str) -> Result<String, TestCaseError> {
        self.script += &format!("{session:?}: {sql}\n");
        let client = match session {
            Session::Writer(writer) => &mut self.writers[writer],
            Session::Exporter(target) => &mut self.exporters[target],
            Session::Importer(target) => &mut self.importers[target],
        };
        query(client, sql).map_err(|error| TestCaseError::fail(refusal(&error).to_string()))
    }

    fn run(&mut self, session: Session, sql: &str) -> Result<(), TestCaseError> {
        self.ask(session, sql).map(drop)
    }

    /// Runs a schedule from empty tables that everybody knows to be empty.
    fn run_schedule(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.script.clear();
        self.model = Model::default();
        self.run(Session::Writer(0), "TRUNCATE plain, parted")?;
        self.deliver()?;
        for step in steps {
            self.take(step)?;
        }
        for writer in 0..WRITERS {
            self.end(writer, End::Commit)?;
        }
        while !self.model.prepared.is_empty() {
            self.end_prepared(0, End::Commit)?;
        }
        for target in 0..TARGETS.len() {
            self.end_export(target, End::Commit)?;
        }
        self.deliver()?;
        let source = read(&mut self.writers[0]);
        prop_assert_eq!(&source, &self.model.committed, "the model is wrong about the source");
        prop_assert_eq!(&self.model.shown, &[source.clone(), source], "in the end all are equal");
        Ok(())
    }

    /// Exports and imports for all targets.
    fn deliver(&mut self) -> Result<(), TestCaseError> {
        for target in 0..TARGETS.len() {
            self.export(target, Isolation::ReadCommitted, Some(End::Commit))?;
            self.import(target, End::Commit)?;
        }
        Ok(())
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Begin(writer) if self.model.writers[writer].is_none() => {
                self.model.writers[writer] = Some(Transaction::default());
                self.run(Session::Writer(writer), "BEGIN")
            }
            Step::Change(writer, table, ref change) => self.change(writer, table, change),
            Step::Savepoint(writer) => self.in_transaction(writer, "SAVEPOINT s", |transaction| {
                (!transaction.has_failed).then(|| transaction.savepoints.push(transaction.changes.clone()))
            }),
            Step::RollbackToSavepoint(writer) => {
                self.in_transaction(writer, "ROLLBACK TO s", |transaction| {
                    transaction.changes = transaction.savepoints.last()?.clone();
                    transaction.has_failed = false;
                    Some(())
                })
            }
            Step::ReleaseSavepoint(writer) => self.in_transaction(writer, "RELEASE s", |transaction| {
                (!transaction.has_failed).then(|| transaction.savepoints.pop())?.map(drop)
            }),
            Step::End(writer, end) => self.end(writer, end),
            Step::EndPrepared(nth, end) if !self.model.prepared.is_empty() => {
                self.end_prepared(nth % self.model.prepared.len(), end)
            }
            Step::Export(target, isolation, end) => self.export(target, isolation, end),
            Step::EndExport(target, end) => self.end_export(target, end),
            Step::Import(target, end) => self.import(target, end),
            Step::Reset(target, table) if !self.model.exporting[target] => {
                let table = table.map(|table| format!(", '{}'", NAMES[table])).unwrap_or_default();
                let reset = self
                    .source
                    .with_target(TARGETS[target])
                    .reset_sql()
                    .replace(", store", &(table + ", store"));
                self.run(Session::Exporter(target), &reset)
            }
            Step::TrackAgain(table) => self.track_again(table),
            Step::Crash => {
                self.script += "-- crash\n";
                self.servers.source.kill();
                self.servers.source.restart();
                self.connect_to_source();
                self.model.writers = Default::default();
                self.model.exporting = [false; 2];
                Ok(())
            }
            Step::Begin(_) | Step::EndPrepared(..) | Step::Reset(..) => Ok(()),
        }
    }

    fn change(&mut self, writer: usize, table: usize, change: &Change) -> Result<(), TestCaseError> {
        let model = &self.model;
        let open = model.writers[writer].clone();
        let is_open = open.is_some();
        let mut transaction = open.unwrap_or_default();
        // An export keeps its locks on the tables until it commits.
        let is_exported = matches!(change, Change::Truncate) && model.exporting.contains(&true);
        let is_blocked = model.others(writer).any(|other| other.blocks(table, change));
        if transaction.has_failed || is_exported || is_blocked {
            return Ok(());
        }
        if transaction.change(&model.committed, table, change).is_none() {
            return Ok(());
        }
        let outcome = self.ask(Session::Writer(writer), &change.sql(NAMES[table]));
        if transaction.has_failed {
            prop_assert!(outcome.is_err_and(|error| error.to_string().contains("on purpose")));
        } else {
            outcome?;
        }
        if is_open {
            self.model.writers[writer] = Some(transaction);
        } else if !transaction.has_failed {
            self.model.commit(&transaction);
        }
        Ok(())
    }

    /// Says something in an open transaction if the model takes it.
    fn in_transaction(
        &mut self,
        writer: usize,
        sql: &str,
        take: impl FnOnce(&mut Transaction) -> Option<()>,
    ) -> Result<(), TestCaseError> {
        match self.model.writers[writer].as_mut().and_then(take) {
            Some(()) => self.run(Session::Writer(writer), sql),
            None => Ok(()),
        }
    }

    fn end(&mut self, writer: usize, end: End) -> Result<(), TestCaseError> {
        let Some(transaction) = self.model.writers[writer].take() else { return Ok(()) };
        match end {
            _ if transaction.has_failed => self.run(Session::Writer(writer), "ROLLBACK"),
            End::Commit => {
                self.model.commit(&transaction);
                self.run(Session::Writer(writer), "COMMIT")
            }
            End::Rollback => self.run(Session::Writer(writer), "ROLLBACK"),
            End::Prepare => {
                self.transactions += 1;
                let gid = format!("{} {}", self.servers.worlds, self.transactions);
                self.run(Session::Writer(writer), &format!("PREPARE TRANSACTION '{gid}'"))?;
                self.model.prepared.push((gid, transaction));
                Ok(())
            }
        }
    }

    fn end_prepared(&mut self, nth: usize, end: End) -> Result<(), TestCaseError> {
        let (gid, transaction) = self.model.prepared.remove(nth);
        let verb = if end == End::Commit { "COMMIT" } else { "ROLLBACK" };
        let idle = self.model.writers.iter().position(Option::is_none);
        let Some(idle) = idle else {
            self.model.prepared.insert(nth, (gid, transaction));
            return Ok(());
        };
        if end == End::Commit {
            self.model.commit(&transaction);
        }
        self.run(Session::Writer(idle), &format!("{verb} PREPARED '{gid}'"))
    }

    /// Exports; without an end the transaction stays open, its batch published.
    fn export(&mut self, target: usize, isolation: Isolation, end: Option<End>) -> Result<(), TestCaseError> {
        let is_truncated = self.model.all().any(|transaction| transaction.locked_tables.contains(&true));
        if self.model.exporting[target] || is_truncated {
            return Ok(());
        }
        let level = match isolation {
            Isolation::ReadCommitted => "READ COMMITTED",
            Isolation::RepeatableRead => "REPEATABLE READ",
            Isolation::Serializable => "SERIALIZABLE",
        };
        self.run(Session::Exporter(target), &format!("BEGIN ISOLATION LEVEL {level}"))?;
        let export = self.source.with_target(TARGETS[target]).export_sql();
        let parts = self.ask(Session::Exporter(target), &export)?;
        if parts.is_empty() {
            let (published, committed) = (&self.model.published[target], &self.model.committed);
            prop_assert_eq!(published, committed, "nothing was exported, though something has changed");
        }
        self.model.published[target] = self.model.committed.clone();
        self.model.exporting[target] = true;
        end.map_or(Ok(()), |end| self.end_export(target, end))
    }

    fn end_export(&mut self, target: usize, end: End) -> Result<(), TestCaseError> {
        if !std::mem::take(&mut self.model.exporting[target]) {
            return Ok(());
        }
        self.run(Session::Exporter(target), if end == End::Commit { "COMMIT" } else { "ROLLBACK" })
    }

    fn import(&mut self, target: usize, end: End) -> Result<(), TestCaseError> {
        let import = self.copies[target].import_sql();
        self.run(Session::Importer(target), "BEGIN")?;
        self.run(Session::Importer(target), &import)?;
        let within = read(&mut self.importers[target]);
        prop_assert_eq!(&within, &self.model.published[target], "target \"{}\"", TARGETS[target]);
        if end == End::Commit {
            self.model.shown[target] = within;
            self.run(Session::Importer(target), "COMMIT")?;
        } else {
            self.run(Session::Importer(target), "ROLLBACK")?;
        }
        prop_assert_eq!(&read(&mut self.importers[target]), &self.model.shown[target]);
        Ok(())
    }

    fn track_again(&mut self, table: usize) -> Result<(), TestCaseError> {
        let is_written = self.model.all().any(|transaction| transaction.blocks_table(table));
        let Some(idle) = self.model.writers.iter().position(Option::is_none) else { return Ok(()) };
        if is_written || self.model.exporting.contains(&true) {
            return Ok(());
        }
        let name = NAMES[table];
        self.run(Session::Writer(idle), &format!("SELECT tx_untrack('{name}'); SELECT tx_track('{name}')"))
    }
}

/// Reads all tables in one snapshot.
fn read(client: &mut Client) -> State {
    let sql = "SELECT 0, id, v FROM plain UNION ALL SELECT 1, id, v FROM parted";
    let mut state = State::default();
    for row in client.query(sql, &[]).unwrap_or_else(|error| panic!("{error}")) {
        state[row.get::<_, i32>(0) as usize].insert(row.get(1), row.get(2));
    }
    state
}

fn changes() -> impl Strategy<Value = Change> {
    let keys = (0..KEYS, 1..5).prop_map(|(from, count)| from..=from + count - 1);
    let v = 0..10;
    prop_oneof![
        5 => (keys.clone(), v.clone()).prop_map(|(keys, v)| Change::Upsert(keys, v)),
        2 => (keys.clone(), v.clone()).prop_map(|(keys, v)| Change::InsertMissing(keys, v)),
        4 => (keys.clone(), v).prop_map(|(keys, v)| Change::Update(keys, v)),
        4 => keys.clone().prop_map(Change::Delete),
        3 => (keys.clone(), 4..KEYS, any::<bool>()).prop_map(|(keys, by, up)| Change::Shift(keys, if up { by } else { -by })),
        1 => Just(Change::Truncate),
        1 => (0..KEYS).prop_map(Change::Subtransactions),
        1 => keys.prop_map(Change::Fail),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let writer = 0..WRITERS;
    let table = 0..NAMES.len();
    let target = 0..TARGETS.len();
    let end = prop_oneof![3 => Just(End::Commit), 1 => Just(End::Rollback)];
    let isolation = prop_oneof![
        Just(Isolation::ReadCommitted),
        Just(Isolation::RepeatableRead),
        Just(Isolation::Serializable)
    ];
    prop_oneof![
        8 => writer.clone().prop_map(Step::Begin),
        30 => (writer.clone(), table.clone(), changes()).prop_map(|(writer, table, change)| Step::Change(writer, table, change)),
        3 => writer.clone().prop_map(Step::Savepoint),
        2 => writer.clone().prop_map(Step::RollbackToSavepoint),
        1 => writer.clone().prop_map(Step::ReleaseSavepoint),
        8 => (writer.clone(), end.clone()).prop_map(|(writer, end)| Step::End(writer, end)),
        2 => writer.prop_map(|writer| Step::End(writer, End::Prepare)),
        3 => (0..4usize, end.clone()).prop_map(|(nth, end)| Step::EndPrepared(nth, end)),
        14 => (target.clone(), isolation, proptest::option::weighted(0.7, end.clone()))
            .prop_map(|(target, isolation, end)| match isolation {
                // Two of them at once may be refused, as PostgreSQL sees fit.
                Isolation::Serializable => Step::Export(target, isolation, end.or(Some(End::Commit))),
                _ => Step::Export(target, isolation, end),
            }),
        4 => (target.clone(), end.clone()).prop_map(|(target, end)| Step::EndExport(target, end)),
        10 => (target.clone(), end).prop_map(|(target, end)| Step::Import(target, end)),
        1 => (target, proptest::option::of(table.clone())).prop_map(|(target, table)| Step::Reset(target, table)),
        1 => table.prop_map(Step::TrackAgain),
    ]
}

fn try_schedules(schedules: u32, steps: impl Strategy<Value = Step>, random: &mut Random) {
    let servers = Servers { source: Cluster::start(), destination: Cluster::start(), worlds: 0 };
    let world = RefCell::new(Some(World::new(servers)));
    let config =
        Config { cases: schedules, max_shrink_iters: 10_000, max_shrink_time: 300_000, ..Config::default() };
    random.run(config, &vec(steps, 1..60), |steps| {
        let Some(mut current) = world.take() else {
            return Err(TestCaseError::reject("an earlier one panicked"));
        };
        let outcome = current.run_schedule(&steps);
        let script = current.script.clone();
        // What has failed is not used again.
        world.replace(Some(if outcome.is_ok() { current } else { World::new(current.leave()) }));
        outcome.map_err(|reason| TestCaseError::fail(format!("{reason}\n{script}")))
    });
}

fn schedules() -> u32 {
    from_environment("SCHEDULES", 1000)
}

#[test]
fn destinations_show_what_the_source_has_shown() {
    let mut random = Random::seeded();
    let halves = [random.fork(), random.fork()];
    scope(|scope| {
        for mut random in halves {
            scope.spawn(move || try_schedules(schedules().div_ceil(2), steps(), &mut random));
        }
    });
}

#[test]
fn crashes_change_nothing_of_that() {
    let steps = prop_oneof![30 => steps(), 1 => Just(Step::Crash)];
    try_schedules(schedules().div_ceil(20), steps, &mut Random::seeded().fork());
}
