//! A firing of a trigger: what happened, to which table, and the rows before and after.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use pgrx::PgTrigger;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::error::Error;
use crate::pg::slot::Slot;

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
    /// Checks that the trigger is of the one form that we create.
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

    /// Reads the rows as they were: of UPDATE and DELETE.
    pub fn old_rows(&self) -> Rows<'a> {
        match self.event() {
            Event::Update | Event::Delete if self.is_for_row() => Rows::One(one_row(self.data.tg_trigslot)),
            _ => self.rows(self.data.tg_oldtable),
        }
    }

    /// Reads the rows as they are: of INSERT and UPDATE.
    pub fn new_rows(&self) -> Rows<'a> {
        match self.event() {
            Event::Insert if self.is_for_row() => Rows::One(one_row(self.data.tg_trigslot)),
            Event::Update if self.is_for_row() => Rows::One(one_row(self.data.tg_newslot)),
            _ => self.rows(self.data.tg_newtable),
        }
    }

    fn is_for_row(&self) -> bool {
        self.data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0
    }

    fn rows(&self, store: *mut pg_sys::Tuplestorestate) -> Rows<'a> {
        if store.is_null() {
            return Rows::One(None);
        }
        // SAFETY: trigger.c keeps the store until AfterTriggerEndQuery, and the table is open while its trigger runs. A
        // read pointer of our own, because other triggers of the statement read the same store (as
        // nodeNamedtuplestorescan.c does).
        unsafe {
            let descriptor = (*self.data.tg_relation).rd_att;
            let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
            pg_sys::tuplestore_select_read_pointer(store, pointer);
            pg_sys::tuplestore_rescan(store);
            Rows::Table { store, pointer, slot: Slot::minimal(descriptor), firing: PhantomData }
        }
    }
}

/// The executor's slot of a row, which stays the executor's.
fn one_row(slot: *mut pg_sys::TupleTableSlot) -> Option<ManuallyDrop<Slot>> {
    (!slot.is_null()).then(|| ManuallyDrop::new(Slot::of(slot)))
}

/// The rows of a firing, one at a time.
pub enum Rows<'a> {
    /// Those of a statement, in a transition table.
    Table {
        /// The transition table.
        store: *mut pg_sys::Tuplestorestate,
        /// Our place in it.
        pointer: i32,
        /// The row that was read last.
        slot: Slot,
        /// How long all that is there.
        firing: PhantomData<&'a ()>,
    },
    /// The one of a trigger for each row, until it has been read.
    One(Option<ManuallyDrop<Slot>>),
}

impl Rows<'_> {
    /// Moves to the next row and reads columns of it, given by attribute number, into `values`, which are good until the
    /// next call; says whether there was a row.
    pub fn read_next(&mut self, attnums: &[i16], values: &mut Vec<(Datum, bool)>) -> bool {
        match self {
            Rows::One(row) => row.take().map(|mut row| row.read(attnums, values)).is_some(),
            Rows::Table { store, pointer, slot, .. } => {
                // SAFETY: the store and the pointer are as in `Firing::rows`; the row need not be copied, since the
                // slot is read before the store moves on.
                let found = unsafe {
                    pg_sys::tuplestore_select_read_pointer(*store, *pointer);
                    pg_sys::tuplestore_gettupleslot(*store, true, false, slot.as_ptr())
                };
                if found {
                    slot.read(attnums, values);
                }
                found
            }
        }
    }
}
