//! Adds to the DETAIL of an error that PostgreSQL raises where it arose.
//!
//! PostgreSQL's own CONTEXT ("COPY t, line 3") does not survive the way through Rust frames, so it becomes a
//! part of DETAIL as well.

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder, pg_sys};

// Without a guard of their own (elog.c): an error in one of them goes where the present one goes.
unsafe extern "C-unwind" {
    fn geterrcode() -> c_int;
    fn CopyErrorData() -> *mut pg_sys::ErrorData;
    fn FreeErrorData(error: *mut pg_sys::ErrorData);
}

/// The classes of errors that are not about data: the statement was cancelled or lost a conflict, or the
/// server lacks something.
const NOT_ABOUT_DATA: [PgSqlErrorCode; 6] = [
    PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
    PgSqlErrorCode::ERRCODE_TRANSACTION_ROLLBACK,
    PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES,
    PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
    PgSqlErrorCode::ERRCODE_OPERATOR_INTERVENTION,
    PgSqlErrorCode::ERRCODE_SYSTEM_ERROR,
];

fn is_about_data(code: PgSqlErrorCode) -> bool {
    !NOT_ABOUT_DATA.into_iter().any(|other| class(other as i32) == class(code as i32))
}

/// Says whether messages with this SQLSTATE may have a value: those of input functions and casts do.
fn tells_value(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    [
        ERRCODE_INVALID_TEXT_REPRESENTATION,
        ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        ERRCODE_INVALID_DATETIME_FORMAT,
        ERRCODE_DATETIME_FIELD_OVERFLOW,
    ]
    .into_iter()
    .any(|one| one as i32 == code as i32)
}

/// ERRCODE_TO_CATEGORY (elog.h): two characters of six bits.
fn class(code: i32) -> i32 {
    code & ((1 << 12) - 1)
}

thread_local! {
    /// The CONTEXT of the last error that PostgreSQL has raised.
    static CONTEXT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// While it lives, the CONTEXT of each error that PostgreSQL raises is noted: what lies between the error and
/// this value.
struct Context {
    callback: *mut pg_sys::ErrorContextCallback,
}

impl Context {
    fn begin() -> Context {
        CONTEXT.take();
        // SAFETY: a pointer to the top of the stack, or null.
        let previous = unsafe { pg_sys::error_context_stack };
        let argument = std::ptr::null_mut();
        let callback = pg_sys::ErrorContextCallback { previous, callback: Some(note_context), arg: argument };
        let callback = Box::into_raw(Box::new(callback));
        // SAFETY: it lives until `Drop` takes it off the stack.
        unsafe { pg_sys::error_context_stack = callback };
        Context { callback }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `begin`. No other is above it: each guard of pgrx leaves the stack as it was. The
        // abort of the transaction does nothing about it.
        unsafe { pg_sys::error_context_stack = Box::from_raw(self.callback).previous };
    }
}

/// Called by errfinish (elog.c) after the callbacks of what was called since.
#[expect(ffi_unwind_calls, reason = "called by PostgreSQL, inside of a guard")]
unsafe extern "C-unwind" fn note_context(_argument: *mut c_void) {
    // SAFETY: an error is being raised. It is copied in another memory context than its own, as CopyErrorData
    // demands. If that fails, nothing here has to be dropped.
    unsafe {
        if class(geterrcode()) == class(PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES as i32) {
            // A copy could fail for the same reason.
            CONTEXT.take();
            return;
        }
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = pg_sys::CurTransactionContext;
        let error = CopyErrorData();
        if (*error).elevel >= PgLogLevel::ERROR as i32 {
            let context = (*error).context;
            let text = || CStr::from_ptr(context).to_string_lossy().into_owned();
            CONTEXT.replace((!context.is_null()).then(text));
        }
        FreeErrorData(error);
        pg_sys::CurrentMemoryContext = before;
    }
}

/// Returns the CONTEXT of the error that has just been caught, without the statement of ours that raised it:
/// that would be the outermost one, and so come last.
fn context_of_error() -> Option<String> {
    const STATEMENT: &str = "SQL statement \"";
    let mut context = CONTEXT.take()?;
    let last = context.rfind(&format!("\n{STATEMENT}")).or(context.starts_with(STATEMENT).then_some(0));
    let is_caller = |line: &str| line.starts_with("PL/") || line.starts_with("COPY ");
    if let Some(last) = last
        && !context[last..].lines().any(is_caller)
    {
        context.truncate(last);
    }
    (!context.is_empty()).then_some(context)
}

/// Runs a closure, and returns the error of the extension that `instead` finds in the place of one about data
/// that PostgreSQL raises in it. `instead` must not use PostgreSQL: nothing has been undone yet.
pub fn instead_of_data_error<T, E>(
    instead: impl Fn() -> Option<E>,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let instead = std::panic::AssertUnwindSafe(&instead);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(run))
        .catch_others(|error| {
            let std::panic::AssertUnwindSafe(instead) = &instead;
            match &error {
                CaughtError::PostgresError(report) if is_about_data(report.sql_error_code()) => {
                    instead().map_or_else(|| error.rethrow(), Err)
                }
                _ => error.rethrow(),
            }
        })
        .execute()
}

/// Runs a closure, and adds a sentence to the DETAIL of an error that PostgreSQL raises in it. PostgreSQL's
/// own DETAIL and CONTEXT may have values of rows (`Failing row contains …`), and are left out unless
/// `shows_rows`. After an error about data it raises the error of the extension that `cause` finds behind it,
/// if there is one. `cause` must not use PostgreSQL: nothing has been undone yet.
pub fn with_detail<T, E>(
    place: &str,
    shows_rows: bool,
    cause: impl Fn() -> Option<E>,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    with_hint(place, shows_rows, None, cause, run)
}

/// As [`with_detail`], with a HINT for an error of one SQLSTATE that has none.
pub fn with_hint<T, E>(
    place: &str,
    shows_rows: bool,
    hint: Option<(PgSqlErrorCode, String)>,
    cause: impl Fn() -> Option<E>,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let _context = Context::begin();
    let hint = std::panic::AssertUnwindSafe(hint);
    let run = || instead_of_data_error(cause, run);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(run))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report) => {
                let code = report.sql_error_code();
                let message = match shows_rows || !tells_value(code) {
                    true => report.message().to_owned(),
                    false => "a value of a row is not valid here".to_owned(),
                };
                let detail = report.detail().filter(|_| shows_rows).map(str::to_owned);
                let context = context_of_error().filter(|_| shows_rows);
                let detail = [detail, Some(place.to_owned()), context].into_iter().flatten();
                let detail = detail.collect::<Vec<_>>().join("\n");
                let located = ErrorReport::new(code, message, "pg_table_export");
                let located = located.set_detail(detail);
                let ours = hint.as_ref().filter(|(of, _)| *of == code).map(|(_, hint)| hint.as_str());
                match report.hint().or(ours) {
                    Some(hint) => located.set_hint(hint).report(PgLogLevel::ERROR),
                    None => located.report(PgLogLevel::ERROR),
                }
                unreachable!("an error does not return")
            }
            other => other.rethrow(),
        })
        .execute()
}
