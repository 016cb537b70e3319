//! The text of CREATE TABLE. The parts that come in are SQL already, except the names of columns.

use crate::pg::query::quote_identifier;

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

/// Returns the definition of a column. The type and the collation are as SQL writes them.
pub fn column(name: &str, type_with_modifier: &str, collation: Option<&str>, not_null: bool) -> String {
    let collate = collation.map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let not_null = if not_null { " NOT NULL" } else { "" };
    format!("{} {type_with_modifier}{collate}{not_null}", quote_identifier(name))
}
