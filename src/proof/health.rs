//! What the last comparisons have shown to be wrong, for `tx_health()`.

use crate::catalog::health::{DifferentTable, different_tables};
use crate::error::{Problem, Result, TableName, literal};

/// Returns a problem for each table that differed from the store when it was compared last.
pub fn problems() -> Result<Vec<Problem>> {
    Ok(different_tables()?.into_iter().map(different).collect())
}

fn different(found: DifferentTable) -> Problem {
    let DifferentTable { table, target, number, missing, extra, different, verified_at, copy_of } = found;
    let target = literal(&target);
    let reset =
        |table: &str| format!("SELECT tx_reset({target}, {table}); SELECT * FROM tx_export({target});");
    let mend = match &copy_of {
        Some((schema, name)) => {
            let table = TableName::new(schema, name).literal();
            format!(
                "To write what differs, and nothing else, run: SELECT * FROM tx_repair({target}); to have all \
                 rows sent again, run at the source: {}",
                reset(&table)
            )
        }
        None => format!("To have all rows sent again, run: {}", reset(&literal(&table))),
    };
    Problem::critical(&table, format!("table \"{table}\" differs from what the store says that it is"))
        .detail(format!(
            "Compared with batch {number}: missing rows: {missing}, extra rows: {extra}, rows with other \
             values: {different}."
        ))
        .since(Some(verified_at))
        .hint(format!(
            "To see which, run: SELECT * FROM tx_verify({target}, {}, examples => 100); {mend}",
            literal(&table)
        ))
}
