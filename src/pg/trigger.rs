//! A firing of a statement trigger: what happened, to which table, and the rows before and after.

use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::PgTrigger;
use pgrx::pg_sys::{self, Oid};

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

/// One firing of an AFTER … FOR EACH STATEMENT trigger.
pub struct Firing<'a> {
    data: &'a pg_sys::TriggerData,
}

impl<'a> Firing<'a> {
    /// Checks that the trigger is of the one form that we create.
    pub fn of(trigger: &'a PgTrigger<'a>) -> Result<Firing<'a>, Error> {
        let firing = Firing { data: trigger.trigger_data() };
        let event = firing.data.tg_event;
        let is_after = event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
        let is_statement = event & pg_sys::TRIGGER_EVENT_ROW == 0;
        if is_after && is_statement { Ok(firing) } else { Err(Error::NotOurTrigger) }
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
        self.rows(self.data.tg_oldtable)
    }

    /// Reads the rows as they are: of INSERT and UPDATE.
    pub fn new_rows(&self) -> Rows<'a> {
        self.rows(self.data.tg_newtable)
    }

    fn rows(&self, store: *mut pg_sys::Tuplestorestate) -> Rows<'a> {
        // SAFETY: the table is open while its trigger runs.
        let descriptor = unsafe { (*self.data.tg_relation).rd_att };
        let pointer = (!store.is_null()).then(|| {
            // SAFETY: trigger.c keeps the store until AfterTriggerEndQuery. A read pointer of our own, because
            // other triggers of the statement read the same store (as nodeNamedtuplestorescan.c does).
            unsafe {
                let pointer = pg_sys::tuplestore_alloc_read_pointer(store, pg_sys::EXEC_FLAG_REWIND as i32);
                pg_sys::tuplestore_select_read_pointer(store, pointer);
                pg_sys::tuplestore_rescan(store);
                pointer
            }
        });
        Rows { store, pointer, slot: Slot::minimal(descriptor), firing: PhantomData }
    }
}

/// The rows of a transition table, one at a time.
pub struct Rows<'a> {
    store: *mut pg_sys::Tuplestorestate,
    pointer: Option<i32>,
    slot: Slot,
    firing: PhantomData<&'a ()>,
}

impl Rows<'_> {
    /// Moves to the next row and returns it. It is good until the next call.
    pub fn next_row(&mut self) -> Option<&mut Slot> {
        let pointer = self.pointer?;
        // SAFETY: the store and the pointer are as in `Firing::rows`; the row need not be copied, since the slot
        // is read before the store moves on.
        let found = unsafe {
            pg_sys::tuplestore_select_read_pointer(self.store, pointer);
            pg_sys::tuplestore_gettupleslot(self.store, true, false, self.slot.as_ptr())
        };
        found.then_some(&mut self.slot)
    }
}
