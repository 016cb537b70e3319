//! A firing of a trigger: what happened, to which table, and the rows before and after.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::PgTrigger;
use pgrx::pg_sys::{self, Oid};

use crate::pg::error::Error;
use crate::pg::keys::{CHUNK_ROWS, Column, Keys};
use crate::pg::unguarded;

/// What the statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// INSERT, or COPY
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// TRUNCATE
    Truncate,
}

/// One firing of an AFTER trigger, for a statement or for a row.
pub struct Firing<'a> {
    data: &'a pg_sys::TriggerData,
}

impl<'a> Firing<'a> {
    /// Returns what has fired a trigger of the one form that we create; any other is an error.
    pub fn of(trigger: &'a PgTrigger<'a>) -> Result<Firing<'a>, Error> {
        let firing = Firing { data: trigger.trigger_data() };
        let timing = firing.data.tg_event & pg_sys::TRIGGER_EVENT_TIMINGMASK;
        if timing == pg_sys::TRIGGER_EVENT_AFTER { Ok(firing) } else { Err(Error::NotOurTrigger) }
    }

    /// Returns what the statement did.
    pub fn event(&self) -> Event {
        match self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Event::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Event::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Event::Delete,
            _ => Event::Truncate,
        }
    }

    /// Returns the oid of the table.
    pub fn table(&self) -> Oid {
        // SAFETY: the table is open while its trigger runs (trigger.h).
        unsafe { (*self.data.tg_relation).rd_id }
    }

    /// Returns the argument that the trigger was created with.
    pub fn argument(&self) -> Result<i32, Error> {
        // SAFETY: tg_trigger is set while a trigger runs; tgargs holds tgnargs C strings (reltrigger.h).
        let argument = unsafe {
            let trigger = &*self.data.tg_trigger;
            (trigger.tgnargs == 1).then(|| CStr::from_ptr(*trigger.tgargs))
        };
        argument
            .and_then(|text| text.to_str().ok())
            .and_then(|text| text.parse().ok())
            .ok_or(Error::NotOurTrigger)
    }

    /// Reads columns of the rows as they were: of UPDATE and DELETE.
    pub fn old_rows(&self, columns: &'a [Column]) -> Rows<'a> {
        let source = match self.event() {
            Event::Update | Event::Delete if self.is_for_row() => RowSource::Row(self.data.tg_trigslot),
            _ => RowSource::table(self.data.tg_oldtable),
        };
        self.rows(source, columns)
    }

    /// Reads columns of the rows as they are: of INSERT and UPDATE.
    pub fn new_rows(&self, columns: &'a [Column]) -> Rows<'a> {
        let source = match self.event() {
            Event::Insert if self.is_for_row() => RowSource::Row(self.data.tg_trigslot),
            Event::Update if self.is_for_row() => RowSource::Row(self.data.tg_newslot),
            _ => RowSource::table(self.data.tg_newtable),
        };
        self.rows(source, columns)
    }

    fn is_for_row(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0
    }

    fn rows(&self, source: RowSource, columns: &'a [Column]) -> Rows<'a> {
        // SAFETY: the table is open while its trigger runs.
        let descriptor = unsafe { (*self.data.tg_relation).rd_att };
        Rows { source, descriptor, keys: Keys::of(columns), firing: PhantomData }
    }
}

/// Where rows come from, until all have been read.
enum RowSource {
    /// The transition table of a statement.
    Table(*mut pg_sys::Tuplestorestate),
    /// The same, with the slot that its rows are read into.
    OpenTable(*mut pg_sys::Tuplestorestate, *mut pg_sys::TupleTableSlot),
    /// The executor's slot of a trigger for each row.
    Row(*mut pg_sys::TupleTableSlot),
    /// Nothing, or nothing more.
    Nothing,
}

impl RowSource {
    fn table(store: *mut pg_sys::Tuplestorestate) -> RowSource {
        if store.is_null() { RowSource::Nothing } else { RowSource::Table(store) }
    }
}

/// The rows of a firing, as keys.
pub struct Rows<'a> {
    source: RowSource,
    descriptor: pg_sys::TupleDesc,
    keys: Keys<'a>,
    /// How long the rows are there.
    firing: PhantomData<&'a Firing<'a>>,
}

impl<'a> Rows<'a> {
    /// Reads the keys of the next rows, up to a fixed number. Fewer are the last ones. They are valid until
    /// the next call.
    #[expect(ffi_unwind_calls, reason = "all calls are inside `guarded`")]
    pub fn read(&mut self) -> &Keys<'a> {
        self.keys.clear();
        let Rows { source, descriptor, keys, .. } = self;
        // SAFETY: trigger.c keeps store and slots until the trigger returns, and the table open. Other
        // triggers of the statement read the same store with pointers of their own, and do not rely on the
        // place of pointer 0 (nodeNamedtuplestorescan.c). A row need not be copied, since the slot is read
        // before the store moves on.
        unsafe {
            unguarded::guarded(|| {
                if let RowSource::Table(store) = *source {
                    unguarded::tuplestore_select_read_pointer(store, 0);
                    unguarded::tuplestore_rescan(store);
                    let operations = &raw const pg_sys::TTSOpsMinimalTuple;
                    let slot = unguarded::MakeSingleTupleTableSlot(*descriptor, operations);
                    *source = RowSource::OpenTable(store, slot);
                }
                match *source {
                    RowSource::OpenTable(store, slot) => {
                        for _ in 0..CHUNK_ROWS {
                            if !unguarded::tuplestore_gettupleslot(store, true, false, slot) {
                                unguarded::ExecDropSingleTupleTableSlot(slot);
                                *source = RowSource::Nothing;
                                break;
                            }
                            keys.add(slot);
                        }
                    }
                    RowSource::Row(slot) => {
                        keys.add(slot);
                        *source = RowSource::Nothing;
                    }
                    RowSource::Table(_) | RowSource::Nothing => {}
                }
            });
        }
        &self.keys
    }
}
