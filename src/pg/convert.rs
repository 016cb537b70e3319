//! Values that are read as one type and become values of another, and must look the same there.
//!
//! Input: the rows that COPY reads. The fields of such a column have the type that the file was written with;
//! in the text formats that is text. Output: rows of the column's own type. A value is a [`Misfit`] if its
//! output function does not write it as it was sent.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::AssertUnwindSafe;

use pgrx::pg_sys::panic::CaughtError;
use pgrx::pg_sys::{self, Datum, FmgrInfo, Oid};
use pgrx::{PgSqlErrorCode, PgTryBuilder};

use crate::pg::error::Error;
use crate::pg::{compat, encoding};

/// A column whose values are read as values of another type.
pub struct Conversion {
    /// Its place among the columns, counted from 0.
    pub place: usize,
    /// The type that values are read as, and its modifier.
    pub read_as: (Oid, i32),
}

impl Conversion {
    /// A column whose values are read as text.
    pub fn from_text(place: usize) -> Conversion {
        Conversion { place, read_as: (pg_sys::TEXTOID, -1) }
    }
}

/// A value that does not arrive as it was sent.
pub struct Misfit {
    /// The place of its column, counted from 0.
    pub place: usize,
    /// The value, as it was sent.
    pub sent: Option<String>,
    /// What the column's type makes of it, or why it refuses it.
    pub becomes: Result<Option<String>, String>,
    /// The fields of its row, as they were sent.
    pub row: Vec<Option<String>>,
}

/// The functions that convert the values of a row.
pub(super) struct Converter {
    /// One for each column of the row.
    columns: Vec<Column>,
    /// Restored as soon as one of them fails.
    before: Option<Before>,
}

/// What is in force before the functions of types run. Domains and composite types run code of users, and no
/// subtransaction undoes an error that is caught: the user and the search_path of the function that raised it
/// would stay. All of this is restored when this value is dropped.
struct Before {
    user: Oid,
    context: i32,
    level: i32,
    resources: pg_sys::ResourceOwner,
}

impl Before {
    fn remember() -> Before {
        // SAFETY: opens a nest level; `Drop` or the abort of the transaction closes it (guc.c). The resource
        // owner is a plain variable of the backend.
        let (level, resources) = unsafe { (pg_sys::NewGUCNestLevel(), pg_sys::CurrentResourceOwner) };
        let mut before = Before { user: Oid::INVALID, context: 0, level, resources };
        // SAFETY: writes both fields.
        unsafe { pg_sys::GetUserIdAndSecContext(&raw mut before.user, &raw mut before.context) };
        before
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: what `remember` has read; the resource owner is that of a caller, so it still exists.
            unsafe {
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::CurrentResourceOwner = self.resources;
            }
        }
    }
}

struct Column {
    /// The output function of the type that is read.
    output: FmgrInfo,
    conversion: Option<Input>,
}

/// How a text becomes a value of the column's own type, and a text again.
struct Input {
    input: FmgrInfo,
    io_parameter: Oid,
    typmod: i32,
    output: FmgrInfo,
}

/// A value as text, null for a null.
type Text = *mut c_char;

impl Converter {
    /// Looks up the functions for rows of a descriptor. They live in the current memory context.
    ///
    /// # Safety
    /// The descriptor must be one, and live.
    pub(super) unsafe fn of(descriptor: pg_sys::TupleDesc, conversions: &[Conversion]) -> Converter {
        // SAFETY: the caller's promise.
        let descriptor = unsafe { &*descriptor };
        let column = |place: usize| {
            // SAFETY: within the descriptor.
            let own = unsafe { &*compat::attribute(descriptor, place) };
            match conversions.iter().find(|conversion| conversion.place == place) {
                None => Column { output: output_of(own.atttypid), conversion: None },
                Some(Conversion { read_as: (read_as, _), .. }) => {
                    Column { output: output_of(*read_as), conversion: Some(Input::of(own)) }
                }
            }
        };
        let columns = (0..descriptor.natts as usize).map(column).collect();
        Converter { columns, before: Some(Before::remember()) }
    }

    /// Converts a row in place. After a misfit the transaction must fail at once, without running SQL.
    ///
    /// # Safety
    /// There must be one value and one null flag for each column, of the type that it is read as.
    pub(super) unsafe fn convert(
        &mut self,
        values: &mut [Datum],
        nulls: &mut [bool],
    ) -> Result<Option<Misfit>, Error> {
        for place in 0..self.columns.len() {
            let Column { output, conversion } = &mut self.columns[place];
            let Some(conversion) = conversion else { continue };
            // SAFETY: the caller's promise.
            let sent = unsafe { text_of(output, values[place], nulls[place]) };
            let becomes = match conversion.read(sent)? {
                Ok((value, text)) if is_same(sent, text) => {
                    (values[place], nulls[place]) = (value, text.is_null());
                    continue;
                }
                Ok((_, text)) => Ok(utf8(text)?),
                Err(reason) => {
                    self.before = None;
                    Err(reason)
                }
            };
            let sent = utf8(sent)?;
            // SAFETY: the caller's promise; the columns before this one have been converted.
            let row = unsafe { self.row(place, values, nulls)? };
            return Ok(Some(Misfit { place, sent, becomes, row }));
        }
        Ok(None)
    }

    /// Returns the fields of a row as text. The columns before `converted` have their own types.
    ///
    /// # Safety
    /// As for `convert`.
    pub(super) unsafe fn row(
        &mut self,
        converted: usize,
        values: &[Datum],
        nulls: &[bool],
    ) -> Result<Vec<Option<String>>, Error> {
        let field = |(place, column): (usize, &mut Column)| {
            let output = match &mut column.conversion {
                Some(conversion) if place < converted => &mut conversion.output,
                _ => &mut column.output,
            };
            // SAFETY: the output function is that of the value's type.
            utf8(unsafe { text_of(output, values[place], nulls[place]) })
        };
        self.columns.iter_mut().enumerate().map(field).collect()
    }
}

impl Input {
    fn of(own: &pg_sys::FormData_pg_attribute) -> Input {
        let (mut function, mut io_parameter) = (Oid::INVALID, Oid::INVALID);
        // SAFETY: the oid of a type (lsyscache.c).
        unsafe { pg_sys::getTypeInputInfo(own.atttypid, &raw mut function, &raw mut io_parameter) };
        let (input, output) = (look_up(function), output_of(own.atttypid));
        Input { input, io_parameter, typmod: own.atttypmod, output }
    }

    /// Reads a text, and writes the value as text again. Returns the message of an error about the text; no
    /// subtransaction undoes that error, so [`Before`] must be restored and the transaction must fail.
    fn read(&mut self, sent: Text) -> Result<Result<(Datum, Text), String>, Error> {
        let this = AssertUnwindSafe(RefCell::new(self));
        let read = move || {
            let mut this = this.borrow_mut();
            let (parameter, typmod) = (this.io_parameter, this.typmod);
            // SAFETY: null, or a C string; strict functions are not called for a null (fmgr.c). Of a null an
            // input function makes a null.
            unsafe {
                let value = pg_sys::InputFunctionCall(&raw mut this.input, sent, parameter, typmod);
                Ok(Ok((value, text_of(&mut this.output, value, sent.is_null()))))
            }
        };
        PgTryBuilder::new(AssertUnwindSafe(read))
            .catch_others(|error| match error {
                CaughtError::PostgresError(report) if is_about_a_value(report.sql_error_code()) => {
                    Ok(Err(report.message().to_owned()))
                }
                other => other.rethrow(),
            })
            .execute()
    }
}

/// Says whether an error is one about the data. Any other says nothing about the value: it may be a cancel, a
/// lack of memory, or a serialization failure in a function that a domain calls.
fn is_about_a_value(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    let class = |code: PgSqlErrorCode| code as i32 & 0xFFF; // ERRCODE_TO_CATEGORY
    let about_data = [ERRCODE_DATA_EXCEPTION, ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION];
    code == ERRCODE_RAISE_EXCEPTION || about_data.map(class).contains(&class(code))
}

fn output_of(type_oid: Oid) -> FmgrInfo {
    let (mut function, mut is_varlena) = (Oid::INVALID, false);
    // SAFETY: the oid of a type (lsyscache.c).
    unsafe { pg_sys::getTypeOutputInfo(type_oid, &raw mut function, &raw mut is_varlena) };
    look_up(function)
}

fn look_up(function: Oid) -> FmgrInfo {
    let mut info = FmgrInfo::default();
    // SAFETY: the oid of a function; what it remembers lives in the current memory context (fmgr.c).
    unsafe { pg_sys::fmgr_info(function, &raw mut info) };
    info
}

/// # Safety
/// `output` must be the output function of the value's type.
unsafe fn text_of(output: &mut FmgrInfo, value: Datum, is_null: bool) -> Text {
    if is_null {
        return std::ptr::null_mut();
    }
    // SAFETY: the caller's promise; the result is a palloc'd C string.
    unsafe { pg_sys::OutputFunctionCall(output, value) }
}

fn is_same(one: Text, other: Text) -> bool {
    if one.is_null() || other.is_null() {
        return one.is_null() && other.is_null();
    }
    // SAFETY: neither is null, so both are C strings.
    unsafe { CStr::from_ptr(one) == CStr::from_ptr(other) }
}

fn utf8(text: Text) -> Result<Option<String>, Error> {
    // SAFETY: not null, so a C string.
    (!text.is_null()).then(|| encoding::from_server(unsafe { CStr::from_ptr(text) })).transpose()
}
