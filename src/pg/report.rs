//! Adds to the DETAIL of an error that PostgreSQL raises where it arose.
//!
//! PostgreSQL's own CONTEXT ("COPY t, line 3") does not survive the way through Rust frames.

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgTryBuilder};

/// Runs a closure, and adds a sentence to the DETAIL of an error that PostgreSQL raises in it, unless `cause`
/// finds an error of the extension behind it.
pub fn with_detail<T, E>(
    place: &str,
    cause: impl Fn() -> Option<E>,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let cause = std::panic::AssertUnwindSafe(&cause);
    PgTryBuilder::new(std::panic::AssertUnwindSafe(run))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report) => {
                let std::panic::AssertUnwindSafe(cause) = &cause;
                if let Some(cause) = cause() {
                    return Err(cause);
                }
                let detail =
                    report.detail().map_or_else(|| place.to_owned(), |detail| format!("{detail}\n{place}"));
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
