//! The text of CREATE TABLE. The parts that come in are SQL already, except the names of columns.

use crate::pg::query::quote_identifier;
use crate::table::shape::Column;

/// Returns the CREATE TABLE for a table, its name quoted, with columns that [`column`] has written. The
/// fillfactor leaves room in pages, so that an update by an import stays in its page and touches no index
/// (README.HOT).
pub fn statement(table: &str, mut lines: Vec<String>, key: &[String]) -> String {
    if !key.is_empty() {
        let columns = key.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>();
        lines.push(format!("PRIMARY KEY ({})", columns.join(", ")));
    }
    format!("CREATE TABLE {table} (\n    {}\n) WITH (fillfactor = 80);", lines.join(",\n    "))
}

/// Returns the definition of a column: its name, type and collation, and whether it is NOT NULL.
pub fn column(column: &Column) -> String {
    let collate = column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    format!("{} {}{collate}{not_null}", column.quoted(), column.type_with_modifier)
}
