//! The schema that the functions of the extension are in, which HINTs name.

use crate::pg::error::{Error, lacks_prefix, remember_prefix};
use crate::pg::query;

/// Learns in which schema they are. That does not change while the extension exists.
pub fn learn_schema() -> Result<(), Error> {
    if lacks_prefix() {
        let sql = "SELECT CASE WHEN n.nspname <> 'public' THEN quote_ident(n.nspname) || '.' ELSE '' END
                     FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                    WHERE e.extname = 'pg_table_export'";
        remember_prefix(query::latest(sql, &[])?.first().map(|row| row.get(0)).transpose()?);
    }
    Ok(())
}
