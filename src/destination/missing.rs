//! The error for a table that does not exist here, and what makes it.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, TableName, literal, plain};
use crate::table::missing_type::MissingType;

/// How a table that does not exist can be made by whoever reads the error.
#[derive(Debug)]
pub enum ByHand {
    /// By this statement.
    Statement(String),
    /// After this type has been made.
    After(MissingType),
    /// By what tx_ddl() returns at the source: a type or a collation must not be used by anybody who pastes a
    /// statement, such as a superuser, or does not exist.
    Otherwise,
}

/// A copy whose table at the source is not sent any more: it may have got another name.
#[derive(Debug)]
pub struct Former {
    pub source_table: TableName,
    pub here: TableName,
}

/// A table of a batch does not exist here.
#[derive(Debug, thiserror::Error)]
#[error("table \"{table}\" does not exist here")]
pub struct MissingTable {
    pub table: TableName,
    pub target: String,
    pub batch: u64,
    pub is_full: bool,
    pub by_hand: ByHand,
    pub former: Option<Former>,
}

impl Report for MissingTable {
    fn facts(&self) -> Facts {
        let renamed = self.former.as_ref().map(|former| renamed(former, &self.table, &self.target));
        let create = create(&self.table, &self.target, self.is_full, &self.by_hand);
        let hint = match renamed {
            Some(renamed) => format!("{renamed} Otherwise it is a new table. {create}"),
            None => create,
        };
        plain(ERRCODE_UNDEFINED_TABLE).detail(format!("It is in batch {}.", self.batch)).hint(hint)
    }
}

/// Says how a copy goes on under the name that its table has got at the source.
fn renamed(former: &Former, table: &TableName, target: &str) -> String {
    let Former { source_table, here } = former;
    format!(
        "If table \"{source_table}\" was renamed to it at the source, run: SELECT tx_map({}, {}, {});",
        literal(target),
        table.literal(),
        here.literal()
    )
}

/// Says how a table that does not exist is made. A new table lacks the rows that came before the batch.
fn create(table: &TableName, target: &str, is_full: bool, by_hand: &ByHand) -> String {
    let create = match by_hand {
        ByHand::Statement(statement) => format!("Run: {statement}"),
        ByHand::After(missing) => format!(
            "Type {} does not exist here either. {missing} \
             Then create the table with what tx_ddl() returns at the source.",
            missing.name
        ),
        ByHand::Otherwise => "Create it with what tx_ddl() returns at the source.".to_owned(),
    };
    if is_full {
        return create;
    }
    format!(
        "{create} To have all its rows sent again, run at the source: SELECT tx_reset({}, {});",
        literal(target),
        table.literal()
    )
}
