//! Messages, in any encoding of the database, and those that are no errors.
//!
//! pgrx passes a message on as if the database were in UTF-8. In another encoding its bytes are other
//! characters, or none: sending it would be an error of its own.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, pg_sys};

/// Says whether the database's encoding is known to have all characters of a text.
pub fn has_characters_of(text: &str) -> bool {
    // SAFETY: reads a variable of the backend.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() } as pg_sys::pg_enc::Type;
    text.is_ascii() || [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII].contains(&encoding)
}

/// Returns a message as the database can show it: where it is not in UTF-8, other characters than ASCII are
/// escaped as in a Unicode identifier (U&"…").
pub fn escaped(message: String) -> String {
    if has_characters_of(&message) {
        return message;
    }
    let escape = |c: char| match u32::from(c) {
        0..=0x7f => c.to_string(),
        code @ ..=0xffff => format!("\\{code:04X}"),
        code => format!("\\+{code:06X}"),
    };
    message.chars().map(escape).collect()
}

/// Tells the client what it may like to know.
pub fn notice(message: impl Into<String>) {
    tell(PgLogLevel::NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message.into(), None, None);
}

/// Tells the client what has changed, what that means, and what to do.
pub fn notice_with(message: String, detail: String, hint: String) {
    let sqlstate = PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION;
    tell(PgLogLevel::NOTICE, sqlstate, message, Some(detail), Some(hint));
}

/// Warns the client, and writes that to the server's log.
pub fn warning(message: impl Into<String>) {
    tell(PgLogLevel::WARNING, PgSqlErrorCode::ERRCODE_WARNING, message.into(), None, None);
}

/// Warns of an object that is in use.
pub fn warning_in_use(message: String, detail: String) {
    tell(PgLogLevel::WARNING, PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, message, Some(detail), None);
}

fn tell(
    level: PgLogLevel,
    sqlstate: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
) {
    let mut report = ErrorReport::new(sqlstate, escaped(message), "pg_table_export");
    if let Some(detail) = detail {
        report = report.set_detail(escaped(detail));
    }
    if let Some(hint) = hint {
        report = report.set_hint(escaped(hint));
    }
    report.report(level);
}
