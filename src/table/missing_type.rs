//! Types that a manifest names and that do not exist here, and how to make them.

use std::fmt;

use pgrx::spi::quote_identifier;

use crate::error::Result;
use crate::pg::query;

/// A type that does not exist here.
#[derive(Clone, Debug)]
pub struct MissingType {
    /// Its name at the source, as DDL writes it.
    pub name: String,
    extension: Option<Extension>,
}

/// An extension that can be installed here, and is named as the type is.
#[derive(Clone, Debug)]
struct Extension {
    name: String,
    /// The schema of the type at the source.
    schema: String,
    is_installed: bool,
}

impl MissingType {
    /// Looks for what makes a type. The name comes from outside: it is only compared, and quoted.
    pub fn of(name: &str) -> Result<MissingType> {
        let name = name.trim_end_matches("[]");
        let unquoted = |part: &str| part.trim_matches('"').replace("\"\"", "\"");
        let (schema, plain) = name.rsplit_once('.').unwrap_or_default();
        let sql = "SELECT a.name, e.extname IS NOT NULL
                     FROM pg_available_extensions() AS a LEFT JOIN pg_extension AS e ON e.extname = a.name
                    WHERE a.name = $1";
        let rows = query::in_snapshot(sql, &[&unquoted(plain)])?;
        let found = rows.first().map(|row| {
            let (schema, is_installed) = (unquoted(schema), row.flag(1));
            Ok::<_, crate::pg::Error>(Extension { name: row.get(0)?, schema, is_installed })
        });
        Ok(MissingType { name: name.to_owned(), extension: found.transpose()? })
    }
}

/// What to do about it.
impl fmt::Display for MissingType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Extension { name, schema, is_installed }) = &self.extension else {
            return write!(
                f,
                "Create type {} as it is at the source, where pg_dump --schema-only shows it.",
                self.name
            );
        };
        let (name, schema) = (quote_identifier(name), quote_identifier(schema));
        if *is_installed {
            write!(f, "Run: ALTER EXTENSION {name} SET SCHEMA {schema};")
        } else {
            write!(f, "Run: CREATE SCHEMA IF NOT EXISTS {schema}; CREATE EXTENSION {name} SCHEMA {schema};")
        }
    }
}
