//! Appending rows to a table that has no index, constraint or trigger: straight into the heap, no SQL.

use pgrx::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::pg::slot::Slot;
use crate::pg::table::{Lock, Table};

/// As many rows as COPY hands to the table access method at once (copyfrom.c, MAX_BUFFERED_TUPLES).
const BUFFERED_ROWS: usize = 1000;

/// Rows on their way into a table. They are written by `finish`, or earlier when the buffer is full.
pub struct Append {
    table: Table,
    slots: Vec<Slot>,
    used: usize,
    /// What a full buffer leaves behind when it is written: 8 bytes a row, which heap_multi_insert does not free.
    scratch: Option<PgMemoryContexts>,
}

impl Append {
    /// Opens a table for appending; `None` if it does not exist.
    pub fn to(table: Oid) -> Option<Append> {
        let table = Table::open(table, Lock::Write)?;
        Some(Append { table, slots: Vec::new(), used: 0, scratch: None })
    }

    /// Adds a row, given as one value a column.
    pub fn push(&mut self, values: impl Iterator<Item = (Datum, bool)>) {
        if self.used == BUFFERED_ROWS {
            self.flush_in_scratch();
        }
        if self.used == self.slots.len() {
            self.slots.push(Slot::heap(self.table.descriptor()));
        }
        self.slots[self.used].fill(values);
        self.used += 1;
    }

    /// Writes what is buffered.
    pub fn finish(mut self) {
        self.flush();
    }

    fn flush_in_scratch(&mut self) {
        let mut scratch =
            self.scratch.take().unwrap_or_else(|| PgMemoryContexts::new("pg_table_export append"));
        // SAFETY: nothing that is allocated meanwhile is kept: slots have a context of their own.
        unsafe {
            scratch.switch_to(|_| self.flush());
            scratch.reset();
        }
        self.scratch = Some(scratch);
    }

    fn flush(&mut self) {
        let mut slots = self.slots[..self.used].iter().map(Slot::as_ptr).collect::<Vec<_>>();
        // SAFETY: an open table, locked against everything but other writers; materialized slots of its own
        // shape. One row is cheaper by itself: a multi-insert locks and logs as a bulk load (heapam.c).
        unsafe {
            let command = pg_sys::GetCurrentCommandId(true);
            let (relation, no_state) = (self.table.relation(), std::ptr::null_mut());
            match slots.as_mut_slice() {
                [] => {}
                [slot] => pg_sys::table_tuple_insert(relation, *slot, command, 0, no_state),
                slots => {
                    pg_sys::table_multi_insert(
                        relation,
                        slots.as_mut_ptr(),
                        slots.len() as i32,
                        command,
                        0,
                        no_state,
                    );
                }
            }
        }
        self.used = 0;
    }
}
