//! What an error says beside its message, and the errors that this folder raises itself.
//!
//! Each stage has an enum of its errors. Its `facts` is one exhaustive match, so a new error does not compile
//! before SQLSTATE, DETAIL and HINT are decided. A HINT that ends with a statement ends with its semicolon:
//! it can be pasted.

use std::cell::RefCell;
use std::io;

use pgrx::PgSqlErrorCode::{self, *};
use pgrx::pg_sys::panic::ErrorReport;

use crate::pg::message::escaped;

/// SQLSTATE, DETAIL and HINT of an error.
pub struct Facts {
    pub sqlstate: PgSqlErrorCode,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

/// Begins the facts of an error: without DETAIL and HINT.
pub fn plain(sqlstate: PgSqlErrorCode) -> Facts {
    Facts { sqlstate, detail: None, hint: None }
}

impl Facts {
    pub fn detail(self, detail: impl Into<String>) -> Facts {
        Facts { detail: Some(detail.into()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Facts {
        Facts { hint: Some(hint.into()), ..self }
    }

    /// A HINT that is a statement.
    pub fn run(self, statement: String) -> Facts {
        self.hint(format!("Run: {statement};"))
    }
}

/// An error that can be raised.
pub trait Report: std::error::Error + 'static {
    fn facts(&self) -> Facts;
}

thread_local! {
    /// What comes before the name of a function of ours in a statement; `None` if that is not known yet.
    static PREFIX: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Says whether it is not known yet what comes before the name of a function of ours.
pub(super) fn lacks_prefix() -> bool {
    PREFIX.with_borrow(Option::is_none)
}

/// Remembers what comes before the name of a function of ours.
pub(super) fn remember_prefix(prefix: Option<String>) {
    PREFIX.set(prefix);
}

/// Names the schema of our functions in the statements of a HINT, unless it is `public`: the caller's
/// search_path is another one than that of a call.
pub fn qualified(hint: &str) -> String {
    let prefix = PREFIX.with_borrow(|prefix| prefix.clone().unwrap_or_default());
    let qualify =
        |hint: String, before: &str| hint.replace(&format!("{before} tx_"), &format!("{before} {prefix}tx_"));
    ["SELECT", "FROM", "CALL"].into_iter().fold(hint.to_owned(), qualify)
}

/// Turns an error into what PostgreSQL raises.
pub fn report(error: &dyn Report) -> ErrorReport {
    // A statement that is being cancelled reports the cancellation, not an error that followed from it.
    pgrx::check_for_interrupts!();
    let Facts { sqlstate, detail, hint } = error.facts();
    let mut report = ErrorReport::new(sqlstate, escaped(error.to_string()), "pg_table_export");
    if let Some(detail) = detail {
        report = report.set_detail(escaped(detail));
    }
    if let Some(hint) = hint {
        report = report.set_hint(escaped(qualified(&hint)));
    }
    report
}

/// An error that arises between PostgreSQL and the extension.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Internal(String),
    #[error("\"{text}\" cannot be written as UTF-8")]
    NotUtf8 { text: String },
    #[error("\"{text}\" contains a null character")]
    NulByte { text: String },
    #[error("function \"table_export.capture\" was not called by one of its own triggers")]
    NotOurTrigger,
    #[error("cannot execute {function} during recovery")]
    InRecovery { function: &'static str },
    #[error("cannot execute {function} in a read-only transaction")]
    ReadOnly { function: &'static str },
    #[error("cannot PREPARE a transaction that has run tx_export() or tx_prune()")]
    Prepared,
    #[error("{function} cannot run in a REPEATABLE READ or SERIALIZABLE transaction")]
    OldSnapshot { function: &'static str },
    #[error("could not make a pipe for COPY: {0}")]
    Pipe(io::Error),
}

impl Report for Error {
    fn facts(&self) -> Facts {
        match self {
            Error::Internal(_) => plain(ERRCODE_INTERNAL_ERROR),
            Error::NotUtf8 { .. } => plain(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
            Error::NulByte { .. } => plain(ERRCODE_INVALID_TEXT_REPRESENTATION),
            Error::NotOurTrigger => plain(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            Error::InRecovery { .. } => {
                plain(ERRCODE_READ_ONLY_SQL_TRANSACTION).hint("Run it on the primary.")
            }
            Error::ReadOnly { .. } => plain(ERRCODE_READ_ONLY_SQL_TRANSACTION)
                .hint("If transactions begin so, run: SET default_transaction_read_only = off;"),
            Error::Prepared => plain(ERRCODE_FEATURE_NOT_SUPPORTED).hint("Use COMMIT instead."),
            Error::OldSnapshot { .. } => plain(ERRCODE_FEATURE_NOT_SUPPORTED)
                .detail("Its snapshot would not show what other transactions have done since.")
                .hint("If transactions begin so, run: SET default_transaction_isolation = 'read committed';"),
            Error::Pipe(_) => plain(ERRCODE_SYSTEM_ERROR),
        }
    }
}

/// What a function that streams can fail with: errors of this folder, and those of the stream's other end.
pub trait StreamError: From<Error> + From<io::Error> + Into<ErrorReport> {}

impl<E: From<Error> + From<io::Error> + Into<ErrorReport>> StreamError for E {}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        report(&error)
    }
}
