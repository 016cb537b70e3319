//! What keeps a target from getting what it is given.

use pgrx::PgSqlErrorCode::*;
use pgrx::spi::quote_identifier;

use crate::error::{Facts, Report, TableName, literal, plain};
use crate::pg::view::Unfit;

/// Why a view cannot stand for a table.
#[derive(Debug, thiserror::Error)]
pub enum UnfitView {
    #[error(transparent)]
    Query(Unfit),
    #[error("It does not show the column \"{column}\" of the key as it is.")]
    HidesKey { column: String },
    #[error("It belongs to role \"{owner}\", and the table to role \"{of_table}\".")]
    OtherOwner { owner: String, of_table: String },
}

/// What keeps a target from being restricted, or a restricted target from getting a table.
#[derive(Debug, thiserror::Error)]
pub enum RestrictError {
    #[error("none of the tables that target \"{target}\" gets is tracked")]
    NothingGiven { target: String },
    #[error("it is the last table that target \"{target}\" gets")]
    LastOfRestricted { target: String },
    #[error("target \"{target}\" is not restricted")]
    NotRestricted { target: String, table: Option<String> },
    #[error("view \"{view}\" cannot stand for table \"{table}\"")]
    UnfitView {
        view: TableName,
        table: TableName,
        what: UnfitView,
        /// A view that could, with blanks to fill in.
        fit: String,
    },
    #[error("the view that table \"{table}\" is exported through does not exist any more")]
    ViewGone {
        table: TableName,
        /// Those that get the table through it.
        targets: Vec<String>,
    },
}

impl Report for RestrictError {
    fn facts(&self) -> Facts {
        match self {
            RestrictError::NothingGiven { target } => {
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE).hint(format!(
                    "For each that it is to get, run: SELECT tx_track('…'); SELECT tx_restrict({0}, '…'); \
                     To give it all tracked tables, run: SELECT tx_unrestrict({0});",
                    literal(target)
                ))
            }
            RestrictError::LastOfRestricted { target } => plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                .hint(format!(
                    "To give it all tracked tables, run: SELECT tx_unrestrict({});",
                    literal(target)
                )),
            RestrictError::NotRestricted { table, .. } => Facts {
                detail: table
                    .as_ref()
                    .map(|table| format!("Table \"{table}\" is not one that it has been given.")),
                ..plain(ERRCODE_UNDEFINED_OBJECT)
            },
            RestrictError::UnfitView { view, what, fit, .. } => {
                let facts = plain(ERRCODE_INVALID_TABLE_DEFINITION).detail(what.to_string());
                facts.hint(mend_view(view, what, fit))
            }
            RestrictError::ViewGone { table, targets } => {
                let (table, targets) = (table.literal(), targets.iter().map(|target| literal(target)));
                let names = targets.clone().collect::<Vec<_>>().join(", ");
                let shown = |target| format!("SELECT tx_restrict({target}, {table}, '…');");
                let taken = |target| format!("SELECT tx_unrestrict({target}, {table});");
                plain(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE)
                    .detail(format!("Targets that get the table through it: {names}."))
                    .hint(format!(
                        "To give it through another view, put the name of that for '…': {} \
                         To take the table from them, run: {}",
                        targets.clone().map(shown).collect::<Vec<_>>().join(" "),
                        targets.map(taken).collect::<Vec<_>>().join(" ")
                    ))
            }
        }
    }
}

/// Says how a view comes to stand for its table. Another's view can call that role's functions with the
/// rights of the table's owner, so whoever gives it away must trust it.
fn mend_view(view: &TableName, what: &UnfitView, fit: &str) -> String {
    match what {
        UnfitView::OtherOwner { of_table, .. } => format!(
            "Rows are read through it with the rights of the table's owner. If that role trusts what the view \
             calls, run: ALTER VIEW {} OWNER TO {};",
            view.quoted(),
            quote_identifier(of_table)
        ),
        UnfitView::Query(Unfit::NotImmutable) => {
            "Leave out what can change while the row does not, such as now(). If a function of yours cannot, \
             run: ALTER FUNCTION … IMMUTABLE;"
                .to_owned()
        }
        UnfitView::Query(Unfit::NotByColumns) => {
            "Name the columns that it uses, each by itself, and no system column.".to_owned()
        }
        UnfitView::Query(
            Unfit::NotAView
            | Unfit::NotRowByRow
            | Unfit::SeveralTables
            | Unfit::OtherTable
            | Unfit::Sample
            | Unfit::ShowsChildren,
        )
        | UnfitView::HidesKey { .. } => format!("Name a view like this one to tx_restrict(): {fit}"),
    }
}
