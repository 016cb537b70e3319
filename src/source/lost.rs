//! What has become of a tracked table that cannot be exported any more, for the error that says so: what a
//! HINT needs is looked up only then.

use crate::catalog;
use crate::catalog::kin::Look;
use crate::error::{Error, Result, TableName};
use crate::pg::query::quote_identifier;
use crate::source::error::TrackError;

/// Returns the error for a tracked table, by its id, whose key is none any more.
pub fn key_changed(id: i32, table: &TableName) -> Error {
    raised(|| {
        let key = catalog::key_now(id)?.filter(|key| !key.has_primary_key);
        let columns = key.map(|key| key.columns.iter().map(|name| quote_identifier(name)).collect());
        Ok(TrackError::KeyChanged { table: table.clone(), missing_key: columns })
    })
}

/// Returns the error for a tracked table, by its id, some of whose triggers do not fire always.
pub fn triggers_missing(id: i32, table: &TableName) -> Error {
    raised(|| {
        let table = table.clone();
        let statements = catalog::only_not_always(id)?;
        if !statements.is_empty() {
            return Ok(TrackError::TriggersNotAlways { table, statements });
        }
        let on_members = Look::begin().is_some_and(|look| look.lacks_triggers_of_members(id));
        Ok(TrackError::TriggersMissing { table, on_members })
    })
}

fn raised(look: impl FnOnce() -> Result<TrackError>) -> Error {
    look().map_or_else(|error| error, Error::from)
}
