//! An error of any stage, on its way to PostgreSQL, and the errors that several stages share.
//!
//! Messages follow PostgreSQL's style: lower case, no full stop, names in double quotes. Each says what
//! happened and to which object. DETAIL says what is known about it. HINT says what to do; a statement in it
//! can be pasted. Each stage has its own errors, in its `error.rs`.

mod problem;
mod shared;
mod store;

use std::{fmt, io};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::spi::quote_identifier;

pub use crate::pg::error::{Facts, Report, plain};
use crate::pg::error::{qualified, report};
use crate::pg::transaction::Obstacle;
pub use problem::Problem;
pub use shared::{Shared, copy_or_reset, name_store};
pub use store::copy_again;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of any stage: `?` makes it of the stage's own.
#[derive(Debug)]
pub struct Error(Box<dyn Report>);

impl<E: Report> From<E> for Error {
    fn from(error: E) -> Error {
        Error(Box::new(error))
    }
}

/// Takes out the error that a source or a sink of COPY has carried through `std::io`.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        batch::Error::from(error).into()
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        report(error.0.as_ref())
    }
}

impl From<Error> for Obstacle {
    fn from(error: Error) -> Obstacle {
        // A cancel is raised instead, as by `report`.
        pgrx::check_for_interrupts!();
        let Facts { detail, hint, .. } = error.0.facts();
        Obstacle { message: error.to_string(), detail, hint: hint.as_deref().map(qualified) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error {
    /// Says whether it is an error of this type.
    pub fn is<E: Report>(&self) -> bool {
        let error: &dyn std::error::Error = self.0.as_ref();
        error.is::<E>()
    }

    /// Says whether a store has stopped waiting because the statement is to end.
    pub fn is_interrupt(&self) -> bool {
        self.0.facts().sqlstate == pgrx::PgSqlErrorCode::ERRCODE_QUERY_CANCELED
    }
}

/// A table, as messages name it and as hints have it typed.
#[derive(Clone, Debug)]
pub struct TableName {
    shown: String,
    quoted: String,
}

impl TableName {
    /// Names a table that exists, or should.
    pub fn new(schema: &str, name: &str) -> TableName {
        let quoted = format!("{}.{}", quote_identifier(schema), quote_identifier(name));
        TableName { shown: format!("{schema}.{name}"), quoted }
    }

    /// Returns the name as a statement has it.
    pub fn quoted(&self) -> &str {
        &self.quoted
    }

    /// Returns the name as a literal, for an argument of type regclass.
    pub fn literal(&self) -> String {
        literal(&self.quoted)
    }

    /// Writes a GRANT of privileges, named in a list for readers, to a role.
    pub fn grant(&self, privileges: &str, role: &str) -> String {
        let privileges = privileges.replace(" and ", ", ");
        format!("GRANT {privileges} ON {} TO {}", self.quoted, quote_identifier(role))
    }

    /// Writes an ALTER TABLE for a column.
    pub fn alter(&self, action: &str, column: &str, rest: &str) -> String {
        format!("ALTER TABLE {} {action} COLUMN {} {rest}", self.quoted, quote_identifier(column))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Returns a text as a literal of SQL, whatever standard_conforming_strings is, as quote_literal() does.
pub fn literal(text: &str) -> String {
    let prefix = if text.contains('\\') { " E" } else { "" };
    format!("{prefix}'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}
