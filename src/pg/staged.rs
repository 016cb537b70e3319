//! Rows that a query can name as a table: a tuplestore, which spills to disk beyond work_mem, known to SPI under a
//! name. It costs no catalog rows, as a temporary table would with every import.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::{self, Oid};

use crate::error::Error;
use crate::pg::encoding;
use crate::pg::table::Table;

/// Rows of some columns of a table.
pub struct Staged {
    name: CString,
    store: *mut pg_sys::Tuplestorestate,
    descriptor: pg_sys::TupleDesc,
    inputs: Vec<Input>,
    rows: u64,
}

/// How the text of a column becomes a value.
struct Input {
    function: pg_sys::FmgrInfo,
    parameter: Oid,
    typmod: i32,
}

impl Staged {
    /// Makes an empty set of rows with the given columns (attribute numbers) of a table, under their names.
    pub fn like(name: &str, table: &Table, attnums: &[i16]) -> Result<Staged, Error> {
        let name = encoding::to_server(name)?;
        // SAFETY: the tuplestore and the descriptor live in the current memory context, that of the function
        // call; each attribute number is one of the open table's.
        unsafe {
            let descriptor = pg_sys::CreateTemplateTupleDesc(attnums.len() as i32);
            let mut inputs = Vec::with_capacity(attnums.len());
            for (column, &attnum) in (1..).zip(attnums) {
                pg_sys::TupleDescCopyEntry(descriptor, column, table.descriptor(), attnum);
                let attribute = &*crate::pg::compat::attribute(&*table.descriptor(), attnum as usize - 1);
                let (mut function, mut parameter) = (Oid::INVALID, Oid::INVALID);
                pg_sys::getTypeInputInfo(attribute.atttypid, &raw mut function, &raw mut parameter);
                let mut input =
                    Input { function: pg_sys::FmgrInfo::default(), parameter, typmod: attribute.atttypmod };
                pg_sys::fmgr_info(function, &raw mut input.function);
                inputs.push(input);
            }
            let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
            Ok(Staged { name, store, descriptor, inputs, rows: 0 })
        }
    }

    /// Adds a row, given as the text of each column; `None` for null.
    pub fn push(&mut self, fields: &[Option<&CStr>]) -> Result<(), Error> {
        if fields.len() != self.inputs.len() {
            return Err(Error::FieldCount { expected: self.inputs.len(), found: fields.len() });
        }
        let mut values = Vec::with_capacity(fields.len());
        let mut nulls = Vec::with_capacity(fields.len());
        for (field, input) in fields.iter().zip(&mut self.inputs) {
            let text = field.map_or(std::ptr::null_mut(), |text| text.as_ptr().cast_mut());
            // SAFETY: the input function of the column's type, a C string or null.
            values.push(unsafe {
                pg_sys::InputFunctionCall(&raw mut input.function, text, input.parameter, input.typmod)
            });
            nulls.push(field.is_none());
        }
        // SAFETY: one value and null flag for each column; the store copies them.
        unsafe {
            pg_sys::tuplestore_putvalues(self.store, self.descriptor, values.as_mut_ptr(), nulls.as_mut_ptr())
        };
        self.rows += 1;
        Ok(())
    }

    /// Makes the rows known to the SPI connection that is open.
    pub(super) fn register(&self) {
        // SAFETY: allocated in SPI's procedure context, which outlives the query; name, descriptor and store
        // outlive it as parts of `self` (spi.c, SPI_register_relation).
        unsafe {
            let relation = pg_sys::palloc0(size_of::<pg_sys::EphemeralNamedRelationData>())
                .cast::<pg_sys::EphemeralNamedRelationData>();
            (*relation).md.name = self.name.as_ptr().cast_mut();
            (*relation).md.tupdesc = self.descriptor;
            (*relation).md.enrtype = pg_sys::EphemeralNameRelationType::ENR_NAMED_TUPLESTORE;
            (*relation).md.enrtuples = self.rows as f64;
            (*relation).reldata = self.store.cast();
            pg_sys::SPI_register_relation(relation);
        }
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: made by `like`; after an error the abort of the transaction frees both.
            unsafe {
                pg_sys::tuplestore_end(self.store);
                pg_sys::FreeTupleDesc(self.descriptor);
            }
        }
    }
}
