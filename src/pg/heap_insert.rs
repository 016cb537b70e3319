//! Appending rows to a heap that has no index, constraint or trigger: no SQL.

use pgrx::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum, Oid};

use crate::pg::keys::CHUNK_ROWS;
use crate::pg::table::{Lock, Table};
use crate::pg::{compat, unguarded};

/// Collects rows for a table. `write` writes them; `push` does so by itself for each [`CHUNK_ROWS`] rows.
pub struct Append {
    table: Table,
    width: usize,
    rows: usize,
    /// As many of both for each row as the table has columns.
    values: Vec<Datum>,
    nulls: Vec<bool>,
    slots: Vec<*mut pg_sys::TupleTableSlot>,
    /// The offset and length of each column in a row, if they are the same in all rows without nulls; else
    /// empty.
    places: Vec<(usize, i16)>,
    /// Holds the rows while many are written, and the 8 bytes that each leaves behind.
    scratch: Option<PgMemoryContexts>,
}

impl Append {
    /// Opens a table for appending; `None` if it does not exist.
    pub fn to(table: Oid) -> Option<Append> {
        let table = Table::open(table, Lock::Write)?;
        // SAFETY: open.
        let width = unsafe { (*table.descriptor()).natts as usize };
        Some(Append {
            table,
            width,
            rows: 0,
            values: Vec::new(),
            nulls: Vec::new(),
            slots: Vec::new(),
            places: Vec::new(),
            scratch: None,
        })
    }

    /// The table.
    pub fn oid(&self) -> Oid {
        self.table.oid()
    }

    /// Adds a row, given as one value a column. What the values point to must stay there until the row is
    /// written.
    pub fn push(&mut self, values: impl Iterator<Item = (Datum, bool)>) {
        if self.rows == CHUNK_ROWS {
            self.write();
        }
        for (value, is_null) in values.take(self.width) {
            self.values.push(value);
            self.nulls.push(is_null);
        }
        self.rows += 1;
    }

    /// Writes the rows that have been added. A single row is inserted by itself, which is cheaper: a
    /// multi-insert locks and logs as a bulk load does (heapam.c).
    pub fn write(&mut self) {
        match self.rows {
            0 => {}
            1 => self.write_one(),
            CHUNK_ROWS => {
                self.prepare_slots();
                let mut scratch =
                    self.scratch.take().unwrap_or_else(|| PgMemoryContexts::new("pg_table_export append"));
                // SAFETY: nothing that is allocated meanwhile is kept: the slots are prepared.
                unsafe {
                    scratch.switch_to(|_| self.write_many());
                    scratch.reset();
                }
                self.scratch = Some(scratch);
            }
            _ => {
                self.prepare_slots();
                self.write_many();
            }
        }
        self.values.clear();
        self.nulls.clear();
        self.rows = 0;
    }

    #[expect(ffi_unwind_calls, reason = "all three calls are inside `guarded`")]
    fn write_one(&mut self) {
        let (relation, descriptor) = (self.table.relation(), self.table.descriptor());
        let (values, nulls) = (self.values.as_mut_ptr(), self.nulls.as_mut_ptr());
        // SAFETY: an open heap, locked against everything but other writers, and one value for each of its
        // columns.
        unsafe {
            unguarded::guarded(|| {
                let tuple = unguarded::heap_form_tuple(descriptor, values, nulls);
                let command = unguarded::GetCurrentCommandId(true);
                unguarded::heap_insert(relation, tuple, command, 0, std::ptr::null_mut());
            });
        }
    }

    /// Makes a slot for each row. They need not be dropped: their descriptor is a copy without a reference
    /// count, and everything is in the memory context of the trigger.
    #[expect(ffi_unwind_calls, reason = "both calls are inside `guarded`")]
    fn prepare_slots(&mut self) {
        let (missing, descriptor) = (self.rows.saturating_sub(self.slots.len()), self.table.descriptor());
        if self.slots.is_empty() {
            // SAFETY: an open table's descriptor.
            self.places = places(unsafe { &*descriptor });
        }
        self.slots.reserve(missing);
        let slots = &mut self.slots;
        // SAFETY: an open table's descriptor; the vector has room.
        unsafe {
            unguarded::guarded(|| {
                let descriptor = unguarded::CreateTupleDescCopy(descriptor);
                for _ in 0..missing {
                    let operations = &raw const pg_sys::TTSOpsHeapTuple;
                    slots.push(unguarded::MakeSingleTupleTableSlot(descriptor, operations));
                }
            });
        }
    }

    #[expect(ffi_unwind_calls, reason = "all calls are inside `guarded`")]
    fn write_many(&mut self) {
        let (relation, descriptor) = (self.table.relation(), self.table.descriptor());
        let (places, rows) = (&self.places, self.rows);
        let (values, nulls) =
            (self.values.chunks_exact_mut(self.width), self.nulls.chunks_exact_mut(self.width));
        let slots = &mut self.slots;
        // SAFETY: an open heap, locked against everything but other writers; a slot for each row, and one
        // value for each of its columns. Each slot owns its row until that is written.
        unsafe {
            unguarded::guarded(|| {
                let mut first: pg_sys::HeapTuple = std::ptr::null_mut();
                for ((values, nulls), &slot) in values.zip(nulls).zip(slots.iter()) {
                    let is_like_first = !places.is_empty() && !nulls.contains(&true);
                    let row = if first.is_null() || !is_like_first {
                        unguarded::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
                    } else {
                        like(first, places, values)
                    };
                    if is_like_first {
                        first = row;
                    }
                    unguarded::ExecStoreHeapTuple(row, slot, true);
                }
                let command = unguarded::GetCurrentCommandId(true);
                let no_state = std::ptr::null_mut();
                unguarded::heap_multi_insert(relation, slots.as_mut_ptr(), rows as i32, command, 0, no_state);
                for &slot in slots.iter().take(rows) {
                    // The row is given back to its memory context, which frees all of them at once.
                    (*slot).tts_flags &= !(pg_sys::TTS_FLAG_SHOULDFREE as u16);
                }
            });
        }
    }
}

/// Where the columns of a table are in its rows, and their lengths, if all are stored by value and none is
/// null; else nothing.
fn places(descriptor: &pg_sys::TupleDescData) -> Vec<(usize, i16)> {
    let mut places = Vec::new();
    let mut end = 0_usize;
    for column in 0..descriptor.natts as usize {
        // SAFETY: within the descriptor.
        let attribute = unsafe { &*compat::attribute(descriptor, column) };
        if !attribute.attbyval || attribute.attisdropped {
            return Vec::new();
        }
        let start = end.next_multiple_of(match attribute.attalign as u8 {
            pg_sys::TYPALIGN_CHAR => 1,
            pg_sys::TYPALIGN_SHORT => 2,
            pg_sys::TYPALIGN_INT => 4,
            _ => 8,
        });
        places.push((start, attribute.attlen));
        end = start + attribute.attlen as usize;
    }
    places
}

/// Makes a row like another one, with other values. Forming each anew was half of what writing it costs: 600
/// of 1,140 instructions (callgrind, an integer key).
///
/// # Safety
///
/// To be called inside [`unguarded::guarded`]. The row is of the table that the places are of, without nulls.
#[expect(ffi_unwind_calls, reason = "the caller is inside `guarded`")]
unsafe fn like(row: pg_sys::HeapTuple, places: &[(usize, i16)], values: &[Datum]) -> pg_sys::HeapTuple {
    // SAFETY: heap_form_tuple puts the row right behind its head, in one piece.
    unsafe {
        let head = size_of::<pg_sys::HeapTupleData>();
        let size = head + (*row).t_len as usize;
        let copy = unguarded::palloc(size).cast::<pg_sys::HeapTupleData>();
        std::ptr::copy_nonoverlapping(row.cast::<u8>(), copy.cast::<u8>(), size);
        let data = copy.cast::<u8>().add(head);
        (*copy).t_data = data.cast();
        let data = data.add((*(*copy).t_data).t_hoff as usize);
        for (&(start, length), value) in places.iter().zip(values) {
            // As store_att_byval does (tupmacs.h).
            match length {
                1 => data.add(start).write(value.value() as u8),
                2 => data.add(start).cast::<u16>().write(value.value() as u16),
                4 => data.add(start).cast::<u32>().write(value.value() as u32),
                _ => data.add(start).cast::<u64>().write(value.value() as u64),
            }
        }
        copy
    }
}
