//! The world: servers, and the sessions that take the steps of a schedule and compare them with the model.

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::{Cluster, Store};
use postgres::Client;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::change::{Change, Ddl, FUNCTIONS, Lock, PARTED, TOP};
use super::state::{Model, State, TARGETS, Transaction, WRITERS};
use super::steps::{End, Isolation, Step};
use super::{COPIES, IMPATIENT, NAMES, TABLES};

/// The two servers, and how many worlds they have seen.
pub struct Servers {
    pub source: Cluster,
    pub destination: Cluster,
    pub worlds: u32,
}

/// The databases that schedules run on, one after the other, and what the present one has said to them.
pub struct World {
    servers: Servers,
    store: Store,
    source: Database,
    copies: [Database; 2],
    writers: Vec<Client>,
    exporters: Vec<Client>,
    importers: Vec<Client>,
    pub script: String,
    pub schedules: u32,
    transactions: u32,
    /// The numbers of the first and the last batch in the store.
    stored: [(u64, u64); 2],
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

/// Connects to a destination. The second one may begin again if it has fallen behind what the store keeps.
fn connect_importer(database: &Database) -> Client {
    let mut client = connect(database);
    let behind =
        "SELECT set_config('pg_table_export.restart_when_behind', (current_database() ~ 'far')::text, false)";
    client.batch_execute(behind).unwrap_or_else(|error| panic!("{error}"));
    client
}

impl World {
    pub fn new(mut servers: Servers) -> World {
        servers.worlds += 1;
        let store = Store::new();
        let source = Database::empty(&servers.source, &format!("source_{}", servers.worlds), &store);
        source.run(TABLES);
        source.run(FUNCTIONS);
        source.run("SELECT tx_track('plain'); SELECT tx_track('parted')");
        let copies = TARGETS.map(|target| {
            let name = format!("{target}_{}", servers.worlds);
            let copy = Database::empty(&servers.destination, &name, &store).with_target(target);
            copy.run(COPIES);
            copy
        });
        let importers = copies.each_ref().map(connect_importer).into();
        let mut world = World {
            servers,
            store,
            source,
            copies,
            writers: Vec::new(),
            exporters: Vec::new(),
            importers,
            script: String::new(),
            schedules: 0,
            transactions: 0,
            stored: [(1, 0); 2],
            model: Model::default(),
        };
        world.connect_to_source();
        world
    }

    /// Leaves nothing behind that would be in the way of another world.
    pub fn leave(self) -> Servers {
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

    /// Runs a schedule from a few rows that everybody knows.
    pub fn run_schedule(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.schedules += 1;
        self.script.clear();
        self.model = Model::default();
        self.run(Session::Writer(0), "TRUNCATE plain, parted")?;
        for table in 0..NAMES.len() {
            self.change(0, table, &Change::Upsert(TOP - 4..=TOP + 1, 0))?;
        }
        self.deliver()?;
        if self.schedules == 1 {
            // Now both have left a receipt.
            self.deliver()?;
        }
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
        // A partition that comes back has the table sent in full, which would hide that one had gone.
        if self.model.shapes.iter().all(|shape| shape.is_armed) && !self.model.shapes[PARTED].has_top {
            self.deliver()?;
        }
        self.restore()?;
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
            Step::Begin(writer, isolation) => self.begin(writer, isolation),
            Step::Change(writer, table, ref change) => self.change(writer, table, change),
            Step::Savepoint(writer) => self.in_transaction(writer, "SAVEPOINT s", |transaction| {
                (!transaction.has_failed).then(|| transaction.savepoints.push(transaction.work.clone()))
            }),
            Step::RollbackToSavepoint(writer) => {
                self.in_transaction(writer, "ROLLBACK TO s", |transaction| {
                    transaction.work = transaction.savepoints.last()?.clone();
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
            Step::DetachConcurrently => self.detach_concurrently(),
            Step::Finalize => self.finalize(),
            Step::Compact(target, run) => self.compact(target, run),
            Step::Expire(target) => self.expire(target),
            Step::Adopt(target) => self.adopt(target),
            Step::Clone => self.clone_source(),
            Step::Crash => {
                self.script += "-- crash\n";
                self.servers.source.kill();
                self.servers.source.restart();
                self.connect_to_source();
                self.model.writers = Default::default();
                self.model.exporting = [false; 2];
                Ok(())
            }
            Step::EndPrepared(..) | Step::Reset(..) => Ok(()),
        }
    }

    fn change(&mut self, writer: usize, table: usize, change: &Change) -> Result<(), TestCaseError> {
        let model = &self.model;
        let open = model.writers[writer].clone();
        let is_open = open.is_some();
        let mut transaction = open.unwrap_or_else(|| Transaction::new(Isolation::ReadCommitted, model));
        // An export keeps its locks on the tables until it commits.
        let is_exported = change.lock() == Lock::Table && model.is_exporting();
        // Its row in PostgreSQL's catalog would stay locked.
        let is_held = is_open && matches!(change, Change::Alter(Ddl::RewriteUnseen));
        let is_blocked = model.others(writer).any(|other| other.blocks(table, change));
        if transaction.has_failed || is_exported || is_blocked || is_held {
            return Ok(());
        }
        if transaction.change(model, table, change).is_none() {
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
        let Some(idle) = self.model.idle() else {
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
        let isolation = match isolation {
            Isolation::Serializable if self.model.has_serializable() => Isolation::RepeatableRead,
            isolation => isolation,
        };
        let level = isolation.sql();
        self.run(Session::Exporter(target), &format!("BEGIN ISOLATION LEVEL {level}"))?;
        let export = self.source.with_target(TARGETS[target]).export_sql();
        if self.model.shapes.iter().any(|shape| !shape.is_armed) {
            self.refused(Session::Exporter(target), &export, "55000", "missing or disabled")?;
            return self.run(Session::Exporter(target), "ROLLBACK");
        }
        let parts = self.ask(Session::Exporter(target), &export)?;
        if let Some(number) = parts.split('|').next().and_then(|number| number.parse().ok()) {
            self.stored[target].1 = number;
        }
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
        let Some(idle) = self.model.idle() else { return Ok(()) };
        if is_written || self.model.is_exporting() || self.model.is_detaching {
            return Ok(());
        }
        self.model.arm(table);
        let name = NAMES[table];
        self.run(Session::Writer(idle), &format!("SELECT tx_untrack('{name}'); SELECT tx_track('{name}')"))
    }

    fn begin(&mut self, writer: usize, isolation: Isolation) -> Result<(), TestCaseError> {
        let is_second = matches!(isolation, Isolation::Serializable) && self.model.has_serializable();
        if self.model.writers[writer].is_some() || is_second {
            return Ok(());
        }
        self.model.writers[writer] = Some(Transaction::new(isolation, &self.model));
        self.run(Session::Writer(writer), &format!("BEGIN ISOLATION LEVEL {}; SELECT 1", isolation.sql()))
    }

    /// Runs what must be refused.
    fn refused(
        &mut self,
        session: Session,
        sql: &str,
        sqlstate: &str,
        text: &str,
    ) -> Result<(), TestCaseError> {
        let reason = self.ask(session, sql).err().map(|error| error.to_string()).unwrap_or_default();
        prop_assert!(reason.contains(sqlstate) && reason.contains(text), "not refused as expected: {reason}");
        Ok(())
    }

    /// Detaches the partition, or is cut off halfway by whoever uses the table.
    fn detach_concurrently(&mut self) -> Result<(), TestCaseError> {
        let model = &self.model;
        let is_altered = model.all().any(|transaction| transaction.blocks_shape(PARTED));
        let is_used = model.is_exporting() || model.all().any(|other| other.blocks_table(PARTED));
        let Some(idle) = model.idle() else { return Ok(()) };
        if is_altered || !model.shapes[PARTED].has_top {
            return Ok(());
        }
        let session = Session::Writer(idle);
        let detach = "ALTER TABLE parted DETACH PARTITION parted_top CONCURRENTLY";
        if is_used {
            self.run(session, "SET lock_timeout = '10ms'")?;
            self.refused(session, detach, "55P03", "lock timeout")?;
            self.run(session, IMPATIENT)?;
            self.model.is_detaching = true;
        } else {
            self.run(session, detach)?;
            self.run(session, "DROP TABLE parted_top")?;
        }
        self.model.lose_top();
        Ok(())
    }

    /// Ends what was cut off, which waits for every older snapshot.
    fn finalize(&mut self) -> Result<(), TestCaseError> {
        if !self.model.is_quiet() || !std::mem::take(&mut self.model.is_detaching) {
            return Ok(());
        }
        self.run(Session::Writer(0), "ALTER TABLE parted DETACH PARTITION parted_top FINALIZE")?;
        self.run(Session::Writer(0), "DROP TABLE parted_top")
    }

    /// Gives the tables the shape that schedules begin with.
    fn restore(&mut self) -> Result<(), TestCaseError> {
        self.finalize()?;
        if !self.model.shapes[PARTED].has_top {
            self.change(0, PARTED, &Change::Alter(Ddl::AttachTop(0)))?;
        }
        for table in 0..NAMES.len() {
            if !self.model.shapes[table].is_armed {
                self.change(0, table, &Change::Alter(Ddl::Arm))?;
            }
        }
        Ok(())
    }

    fn compact(&mut self, target: usize, run: Option<u64>) -> Result<(), TestCaseError> {
        let (oldest, latest) = self.stored[target];
        let first = run.map(|run| oldest.max(latest.saturating_sub(run)));
        let first = first.map(|first| format!(", first => {first}")).unwrap_or_default();
        let compact = self.copies[target].call("tx_compact", &first);
        self.run(Session::Importer(target), &compact)
    }

    /// One destination leaves receipts, and misses nothing. The other one begins again if it must.
    fn expire(&mut self, target: usize) -> Result<(), TestCaseError> {
        let only_received = if target == 0 { ", only_received => true" } else { "" };
        let further = format!(", older_than => '0', keep_batches => 1{only_received}");
        let expire = self.copies[target].call("tx_expire", &further);
        let removed = self.ask(Session::Importer(target), &expire)?;
        let numbers = removed.lines().filter_map(|line| line.split('|').next()?.parse::<u64>().ok());
        if let Some(last) = numbers.max() {
            self.stored[target].0 = last + 1;
        }
        Ok(())
    }

    fn adopt(&mut self, target: usize) -> Result<(), TestCaseError> {
        let session = Session::Importer(target);
        let anew = format!(
            "DROP EXTENSION pg_table_export CASCADE; DROP TABLE plain, parted; {COPIES}
             INSERT INTO plain SELECT i, -1 FROM generate_series(-9, 9) AS i;
             INSERT INTO parted SELECT i, -1 FROM generate_series(9, 30) AS i;
             CREATE EXTENSION pg_table_export"
        );
        self.run(session, &anew)?;
        let import = self.copies[target].call("tx_import", "");
        self.refused(session, &import, "55000", "has rows that no import has written")?;
        self.run(session, &self.copies[target].call("tx_import", ", adopt => true"))?;
        let shown = read(&mut self.importers[target]);
        prop_assert_eq!(&shown, &self.model.published[target], "adopted by \"{}\"", TARGETS[target]);
        self.model.shown[target] = shown;
        Ok(())
    }

    /// A copy of the database that tries to publish is refused, and puts nothing into the store.
    fn clone_source(&mut self) -> Result<(), TestCaseError> {
        if !self.model.is_quiet() || self.model.shapes.iter().any(|shape| !shape.is_armed) {
            return Ok(());
        }
        self.script += "-- clone\n";
        self.writers.clear();
        self.exporters.clear();
        let template = format!("TEMPLATE source_{}", self.servers.worlds);
        self.servers.source.create_database_with("clone", &template);
        let clone = Database::of(&self.servers.source, "clone", &self.store);
        let files = self.store.files();
        for target in TARGETS {
            clone.with_target(target).export_refused().expect("55000", &["is in use by another database"]);
        }
        let after = self.store.files();
        prop_assert_eq!(files, after);
        self.servers.source.psql("postgres", "DROP DATABASE clone WITH (FORCE)");
        self.connect_to_source();
        Ok(())
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
