//! The errors of values that do not arrive as they were sent.

use pgrx::PgSqlErrorCode::*;

use crate::error::{Facts, Report, TableName, plain};

/// A value that does not arrive as it was sent.
#[derive(Debug)]
pub struct MisfitValue {
    /// The key of its row.
    pub key: String,
    pub sent: String,
    /// What the column's type makes of it, or why it refuses it.
    pub becomes: Result<String, String>,
}

/// A generated column's value that is not the one that was sent.
#[derive(Debug)]
pub struct GeneratedValue {
    /// The key of its row.
    pub key: String,
    pub sent: String,
    pub here: String,
}

impl GeneratedValue {
    fn told(&self) -> String {
        let GeneratedValue { key, sent, here } = self;
        format!("In the row with key ({key}) the source sent {sent}, and here it is {here}. ")
    }
}

/// What keeps values from arriving as they were sent.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("column \"{column}\" of table \"{table}\" has another type here")]
    BinaryType { table: TableName, column: String, source_type: String, own: String },
    #[error("column \"{column}\" of table \"{table}\" has a type with other attributes here")]
    OtherAttributes { table: TableName, column: String, theirs: String, own: String },
    #[error("a value of column \"{column}\" of table \"{table}\" cannot be stored here as it was sent")]
    Misfit {
        table: TableName,
        column: String,
        /// None if the caller may not read the table.
        value: Option<MisfitValue>,
        source_type: String,
        own: String,
        /// A type that would hold it.
        fitting: String,
    },
    #[error("generated column \"{column}\" of table \"{table}\" has another value here than was sent")]
    Generated {
        table: TableName,
        column: String,
        expression: String,
        /// None if the caller may not read the table.
        row: Option<GeneratedValue>,
    },
    #[error("rows of batch {number} have not arrived in table \"{table}\" as they were sent")]
    Intercepted {
        table: TableName,
        number: u64,
        /// None if the caller may not read the table.
        key: Option<String>,
        what: &'static str,
        by: String,
        disable: String,
    },
    #[error("column \"{column}\" of table \"{table}\" has a value here that is no {type_name}")]
    NotComparable { table: TableName, column: String, type_name: &'static str },
    #[error("triggers of table \"{table}\" may change its rows after an import has checked them")]
    Deferrable { table: TableName, triggers: String, disable: String },
}

impl Report for ValueError {
    fn facts(&self) -> Facts {
        match self {
            ValueError::BinaryType { source_type, own, .. } => plain(ERRCODE_DATATYPE_MISMATCH)
                .detail(format!(
                    "It is {source_type} at the source, and {own} here. \
                     In format binary the source's type must exist here as well, with the same definition."
                ))
                .hint("Create that type here, or export in format text."),
            ValueError::OtherAttributes { table, column, theirs, own } => plain(ERRCODE_DATATYPE_MISMATCH)
                .detail(format!("They are ({theirs}) at the source, and ({own}) here."))
                .hint(format!(
                    "Give the type here the attributes of the source's type, in the same order. To keep the \
                     values as text, run: {};",
                    table.alter("ALTER", column, "TYPE text")
                )),
            ValueError::Misfit { table, column, value, source_type, own, fitting } => {
                let what = misfit(value.as_ref(), source_type, own);
                plain(ERRCODE_DATATYPE_MISMATCH)
                    .detail(format!("{what}. Nothing was changed."))
                    .run(table.alter("ALTER", column, &format!("TYPE {fitting}")))
            }
            ValueError::Generated { table, column, expression, row } => {
                let what = row.as_ref().map(GeneratedValue::told).unwrap_or_default();
                plain(ERRCODE_GENERATED_ALWAYS)
                    .detail(format!("{what}Here it is generated as {expression}. Nothing was changed."))
                    .hint(format!(
                        "Give it the expression that it has at the source; or, to have stored what is sent, run: \
                         {};",
                        table.alter("ALTER", column, "DROP EXPRESSION")
                    ))
            }
            ValueError::Intercepted { key, what, by, disable, .. } => {
                let row = match key {
                    None => "A row".to_owned(),
                    Some(key) => format!("The row with key ({key})"),
                };
                plain(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION)
                    .detail(format!(
                        "{row} {what}. During an import these fire: {by}. \
                         Nothing was changed."
                    ))
                    .run(disable.clone())
            }
            ValueError::NotComparable { .. } => plain(ERRCODE_DATA_EXCEPTION)
                .detail(
                    "A partition has come or gone at the source, and nothing tells whether such a row went \
                     with it. No import has written the value. Nothing was changed.",
                )
                .hint("Delete or mend these rows. Those that the source does not have, tx_repair() deletes."),
            ValueError::Deferrable { triggers, disable, .. } => plain(
                ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
            )
            .detail(format!(
                "During an import these fire, and they are DEFERRABLE: {triggers}. Nothing was changed."
            ))
            .run(disable.clone()),
        }
    }
}

/// Says what becomes of a value.
fn misfit(value: Option<&MisfitValue>, source_type: &str, own: &str) -> String {
    let Some(MisfitValue { key, sent, becomes }) = value else {
        return format!("The source sent it as {source_type}, and {own} changes or refuses it");
    };
    let made = match becomes {
        Ok(text) => format!("makes {text}"),
        Err(reason) => format!("refuses: {reason}"),
    };
    format!("In the row with key ({key}) the source sent {sent} of type {source_type}, which {own} {made}")
}
