//! Keys: the values of some columns of many rows, read at once.

use pgrx::pg_sys::{self, Datum};
use pgrx::{PgMemoryContexts, varsize_any};

use crate::pg::unguarded;

/// As many rows as COPY hands to the table access method at once (copyfrom.c, MAX_BUFFERED_TUPLES).
pub const CHUNK_ROWS: usize = 1000;

/// A column: its number, and how its values are stored (pg_type.typbyval and typlen).
#[derive(Clone, Copy)]
pub struct Column {
    /// The attribute number.
    pub attnum: i16,
    /// Whether values are stored in the datum itself.
    pub by_value: bool,
    /// The length of values; negative if it varies.
    pub length: i16,
}

/// The values of some columns of up to [`CHUNK_ROWS`] rows.
pub struct Keys<'a> {
    columns: &'a [Column],
    deepest: i16,
    values: Vec<(Datum, bool)>,
    /// Where values are copied to that are not in the datum itself: after the first rows a context of our
    /// own, which is emptied before the next ones. A statement with few rows does not need it.
    copies: Option<PgMemoryContexts>,
    started: bool,
}

impl<'a> Keys<'a> {
    pub(super) fn of(columns: &'a [Column]) -> Keys<'a> {
        let deepest = columns.iter().map(|column| column.attnum).max().unwrap_or(0);
        Keys { columns, deepest, values: Vec::new(), copies: None, started: false }
    }

    /// Returns the key of a row; `None` after the last.
    pub fn get(&self, row: usize) -> Option<&[(Datum, bool)]> {
        let width = self.columns.len();
        self.values.get(row * width..(row + 1) * width)
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    /// Says whether a row has the same key here and there, byte by byte.
    pub fn same(&self, other: &Keys, row: usize) -> bool {
        let (Some(here), Some(there)) = (self.get(row), other.get(row)) else { return false };
        let pairs = here.iter().zip(there).zip(self.columns);
        pairs
            .into_iter()
            .all(|((&(a, a_null), &(b, b_null)), column)| a_null == b_null && (a_null || column.same(a, b)))
    }

    /// Makes room for the next keys.
    pub(super) fn clear(&mut self) {
        self.values.clear();
        if !self.started || self.columns.iter().all(|column| column.by_value) {
            self.started = true;
            return;
        }
        let copies = self.copies.get_or_insert_with(|| PgMemoryContexts::new("pg_table_export keys"));
        // SAFETY: what was copied there is not used any more.
        unsafe { copies.reset() };
    }

    /// Adds the row that a slot holds.
    ///
    /// # Safety
    ///
    /// To be called inside [`unguarded::guarded`]. The slot holds a row of the table that the columns are of.
    #[expect(ffi_unwind_calls, reason = "the caller is inside `guarded`")]
    pub(super) unsafe fn add(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: slot_getsomeattrs_int fills both arrays as far as it is told; columns not by value have
        // copies.
        unsafe {
            if (*slot).tts_nvalid < self.deepest {
                unguarded::slot_getsomeattrs_int(slot, i32::from(self.deepest));
            }
            for column in self.columns {
                let at = column.attnum as usize - 1;
                let (value, is_null) = (*(*slot).tts_values.add(at), *(*slot).tts_isnull.add(at));
                let value = if is_null || column.by_value { value } else { self.copy(value, column) };
                self.values.push((value, is_null));
            }
        }
    }

    /// Copies a value that is not in the datum itself.
    ///
    /// # Safety
    ///
    /// As for [`Keys::add`].
    #[expect(ffi_unwind_calls, reason = "the caller is inside `guarded`")]
    unsafe fn copy(&self, value: Datum, column: &Column) -> Datum {
        // SAFETY: the value is of the column's type; after an error PostgreSQL chooses the memory context
        // itself.
        unsafe {
            let former = pg_sys::CurrentMemoryContext;
            if let Some(copies) = &self.copies {
                pg_sys::CurrentMemoryContext = copies.value();
            }
            let copy = unguarded::datumCopy(value, false, i32::from(column.length));
            pg_sys::CurrentMemoryContext = former;
            copy
        }
    }
}

impl Column {
    /// Compares two values byte by byte.
    #[expect(ffi_unwind_calls, reason = "the call is inside `guarded`")]
    fn same(self, a: Datum, b: Datum) -> bool {
        if self.by_value {
            return a == b;
        }
        // SAFETY: two values of the column's type. Only those that may be equal though their bytes differ
        // (one is compressed) are left to datum.c.
        unsafe {
            let bytes = |value: Datum| {
                let start = value.cast_mut_ptr::<u8>();
                let length = match self.length {
                    -1 => varsize_any(start.cast()),
                    length => usize::try_from(length).unwrap_or(0),
                };
                std::slice::from_raw_parts(start.cast_const(), length)
            };
            if self.length != -2 && bytes(a) == bytes(b) {
                return true;
            }
            unguarded::guarded(|| unguarded::datum_image_eq(a, b, false, i32::from(self.length)))
        }
    }
}
