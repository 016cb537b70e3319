//! Adds to the DETAIL of an error that PostgreSQL raises where it arose.
//!
//! PostgreSQL's own CONTEXT ("COPY t, line 3") does not survive the way through Rust frames.

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, PgTryBuilder};

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
    // ERRCODE_TO_CATEGORY (elog.h): two characters of six bits.
    let class = |code: PgSqlErrorCode| code as i32 & ((1 << 12) - 1);
    !NOT_ABOUT_DATA.into_iter().any(|other| class(other) == class(code))
}

/// Runs a closure, and adds a sentence to the DETAIL of an error that PostgreSQL raises in it. PostgreSQL's
/// own DETAIL may have values of rows (`Failing row contains …`), and is left out unless `shows_rows`. After
/// an error about data it raises the error of the extension that `cause` finds behind it, if there is one.
/// `cause` must not use PostgreSQL: nothing has been undone yet.
pub fn with_detail<T, E>(
    place: &str,
    shows_rows: bool,
    cause: impl Fn() -> Option<E>,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let cause = std::panic::AssertUnwindSafe(&cause);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(run))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report) => {
                let std::panic::AssertUnwindSafe(cause) = &cause;
                if is_about_data(report.sql_error_code())
                    && let Some(cause) = cause()
                {
                    return Err(cause);
                }
                let detail = report.detail().filter(|_| shows_rows);
                let detail = detail.map_or_else(|| place.to_owned(), |detail| format!("{detail}\n{place}"));
                let located =
                    ErrorReport::new(report.sql_error_code(), report.message().to_owned(), "pg_table_export");
                let located = located.set_detail(detail);
                match report.hint() {
                    Some(hint) => located.set_hint(hint).report(PgLogLevel::ERROR),
                    None => located.report(PgLogLevel::ERROR),
                }
                unreachable!("an error does not return")
            }
            other => other.rethrow(),
        })
        .execute()
}
