//! A problem, as `tx_health()` reports it before an export or an import fails of it, or has stopped.

use super::{Error, Facts, Result};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Exports or imports fail until somebody acts, or changes are about to be dropped.
    Critical,
    /// Exports and imports go on, but something is late, or will fail later.
    Warning,
}

impl Severity {
    /// Returns the name that users see.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// A problem, and what to do about it.
pub struct Problem {
    pub severity: Severity,
    /// The table, target, store or event trigger that has it.
    pub object: String,
    /// What is wrong, in the words of an error message.
    pub problem: String,
    /// What is known about it.
    pub detail: Option<String>,
    /// Since when, in ISO 8601; `None` if nobody knows.
    pub since: Option<String>,
    /// What to do. A statement in it can be pasted.
    pub hint: Option<String>,
}

impl Problem {
    /// Says that something needs attention.
    pub fn warning(object: impl Into<String>, problem: impl Into<String>) -> Problem {
        let (object, problem) = (object.into(), problem.into());
        Problem { severity: Severity::Warning, object, problem, detail: None, since: None, hint: None }
    }

    /// Says that something must be acted upon.
    pub fn critical(object: impl Into<String>, problem: impl Into<String>) -> Problem {
        Problem { severity: Severity::Critical, ..Problem::warning(object, problem) }
    }

    /// Foretells the error that the next export or import would raise.
    pub fn ahead_of(object: impl Into<String>, error: impl Into<Error>) -> Problem {
        let error = error.into();
        let Facts { detail, hint, .. } = error.0.facts();
        Problem { detail, hint, ..Problem::critical(object, error.to_string()) }
    }

    /// Says that a store cannot be read. That the statement is to end is an error all the same.
    pub fn unreadable(store: &str, error: batch::Error) -> Result<Problem> {
        let error: Error = match error {
            batch::Error::Store(error) => error.into(),
            error => error.into(),
        };
        Problem::met(store, error)
    }

    /// Tells an error that an export or import would meet. That the statement is to end is an error all the
    /// same.
    pub fn met(object: impl Into<String>, error: Error) -> Result<Problem> {
        if error.is_interrupt() { Err(error) } else { Ok(Problem::ahead_of(object, error)) }
    }

    pub fn detail(self, detail: impl Into<String>) -> Problem {
        Problem { detail: Some(detail.into()), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    pub fn since(self, since: Option<String>) -> Problem {
        Problem { since, ..self }
    }
}
