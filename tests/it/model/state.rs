//! The model: what every committed and open transaction shows.

use std::collections::BTreeSet;

use super::change::{Change, Effect, Lock, PARTED, Rows, Shape, TOP};
use super::steps::Isolation;

pub const TARGETS: [&str; 2] = ["near", "far"];
pub const WRITERS: usize = 3;

/// All tables at one instant.
pub type State = [Rows; 2];

/// What a transaction has made of the tables: rows, and whether its DDL has reshaped them.
#[derive(Clone, Debug, Default)]
pub struct Work {
    changes: [Effect; 2],
    shapes: [Option<Shape>; 2],
}

/// A transaction that is open, or prepared. What a savepoint has locked counts as locked after its rollback
/// as well: this leaves out more steps than it would have to.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub isolation: Isolation,
    /// The versions of the tables when it took its snapshot.
    snapshot: [u32; 2],
    pub work: Work,
    pub savepoints: Vec<Work>,
    locked_keys: [BTreeSet<i32>; 2],
    pub locked_tables: [bool; 2],
    locked_shapes: [bool; 2],
    pub has_failed: bool,
}

impl Transaction {
    pub fn new(isolation: Isolation, model: &Model) -> Transaction {
        Transaction {
            isolation,
            snapshot: model.versions,
            work: Work::default(),
            savepoints: Vec::new(),
            locked_keys: Default::default(),
            locked_tables: [false; 2],
            locked_shapes: [false; 2],
            has_failed: false,
        }
    }

    /// Makes a change, if PostgreSQL would.
    pub fn change(&mut self, model: &Model, table: usize, change: &Change) -> Option<()> {
        let is_old = !matches!(self.isolation, Isolation::ReadCommitted)
            && self.snapshot[table] != model.versions[table];
        let is_in_the_way = table == PARTED && model.is_detaching && matches!(change, Change::Alter(_));
        if is_in_the_way || (is_old && change.needs_newest_snapshot()) {
            return None;
        }
        let mut rows = model.committed[table].clone();
        apply(&mut rows, &self.work.changes[table]);
        let shape = self.work.shapes[table].unwrap_or(model.shapes[table]);
        self.work.changes[table].extend(change.effect(table, shape, &rows)?);
        if let Change::Alter(ddl) = change {
            self.work.shapes[table] = Some(ddl.reshape(shape));
        }
        self.locked_keys[table].extend(change.keys());
        self.locked_tables[table] |= change.lock() == Lock::Table;
        self.locked_shapes[table] |= change.lock() == Lock::Shape;
        self.has_failed |= matches!(change, Change::Fail(_));
        Some(())
    }

    /// Whether PostgreSQL would make a change wait for this transaction.
    pub fn blocks(&self, table: usize, change: &Change) -> bool {
        match change.lock() {
            Lock::Table => self.blocks_table(table),
            Lock::Shape => self.blocks_shape(table),
            Lock::Rows => self.locked_tables[table] || !self.locked_keys[table].is_disjoint(&change.keys()),
        }
    }

    pub fn blocks_shape(&self, table: usize) -> bool {
        self.locked_tables[table] || self.locked_shapes[table]
    }

    pub fn blocks_table(&self, table: usize) -> bool {
        self.blocks_shape(table) || !self.locked_keys[table].is_empty()
    }
}

fn apply(rows: &mut Rows, changes: &Effect) {
    for (key, v) in changes {
        match v {
            Some(v) => rows.insert(*key, *v),
            None => rows.remove(key),
        };
    }
}

/// What the source holds, and what each destination shows once it has imported.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub committed: State,
    pub shapes: [Shape; 2],
    /// DETACH CONCURRENTLY has been cut off: the partition is gone, and in the way.
    pub is_detaching: bool,
    /// How many transactions have written to each table.
    versions: [u32; 2],
    pub writers: [Option<Transaction>; WRITERS],
    pub prepared: Vec<(String, Transaction)>,
    pub exporting: [bool; 2],
    pub published: [State; 2],
    pub shown: [State; 2],
}

impl Model {
    pub fn commit(&mut self, transaction: &Transaction) {
        for table in 0..self.committed.len() {
            apply(&mut self.committed[table], &transaction.work.changes[table]);
            self.shapes[table] = transaction.work.shapes[table].unwrap_or(self.shapes[table]);
            self.versions[table] += u32::from(transaction.blocks_table(table));
        }
    }

    pub fn others(&self, writer: usize) -> impl Iterator<Item = &Transaction> {
        let open = self.writers.iter().enumerate().filter(move |(other, _)| *other != writer);
        open.filter_map(|(_, transaction)| transaction.as_ref()).chain(self.prepared.iter().map(|(_, t)| t))
    }

    pub fn all(&self) -> impl Iterator<Item = &Transaction> {
        self.others(WRITERS)
    }

    pub fn idle(&self) -> Option<usize> {
        self.writers.iter().position(Option::is_none)
    }

    pub fn is_exporting(&self) -> bool {
        self.exporting.contains(&true)
    }

    /// Whether nothing is open.
    pub fn is_quiet(&self) -> bool {
        self.all().next().is_none() && !self.is_exporting()
    }

    /// Two of them at once may be refused, as PostgreSQL sees fit.
    pub fn has_serializable(&self) -> bool {
        self.all().any(|transaction| matches!(transaction.isolation, Isolation::Serializable))
    }

    /// The partition is gone, with what open transactions have written to it.
    pub fn lose_top(&mut self) {
        let is_below = |key: &i32, _: &mut _| *key < TOP;
        self.committed[PARTED].retain(|key, _| *key < TOP);
        self.shapes[PARTED].has_top = false;
        self.versions[PARTED] += 1;
        let prepared = self.prepared.iter_mut().map(|(_, transaction)| transaction);
        for transaction in self.writers.iter_mut().flatten().chain(prepared) {
            for work in transaction.savepoints.iter_mut().chain([&mut transaction.work]) {
                work.changes[PARTED].retain(is_below);
            }
        }
    }

    /// Table `table` has its triggers anew.
    pub fn arm(&mut self, table: usize) {
        self.shapes[table].is_armed = true;
        self.versions[table] += 1;
    }
}
