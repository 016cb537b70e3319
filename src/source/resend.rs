//! Sending rows once more: what a destination lacks although the source has not changed it since.
//!
//! Input: keys of a tracked table. Output: a sentence that says what will happen.

use std::io::Cursor;

use batch::Format;

use crate::catalog::{self, Tracked};
use crate::error::{Error, Result, Shared, TableName};
use crate::pg::staged::Staged;
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, copy, report, snapshot, transaction};
use crate::proof::error::ProofError;
use crate::source::error::TrackError;
use crate::source::shadow::record;
use crate::source::{lost, restriction};
use crate::table::key_text;
use crate::table::own::not_tracked;
use crate::table::shape::Shape;

/// Records keys as changed, so that the next export of every target that gets the table sends their rows, or
/// says that they have none. Each key is text like a row of its columns: `(7)` or `(7,"a b")`.
pub fn resend(target: &str, relation: Oid, keys: &[String], caller: &Caller) -> Result<String> {
    transaction::require_read_committed("tx_resend()")?;
    let table = snapshot::latest(|| {
        let shape = Shape::of(relation)?;
        let tracked =
            catalog::tracked_table(relation)?.ok_or_else(|| not_tracked(relation, shape.as_ref()))?;
        let table = shape.ok_or_else(|| not_tracked(relation, None))?.name_for_errors();
        if catalog::target(target)?.is_none() {
            let (target, known) = (target.to_owned(), catalog::target_names()?);
            return Err(Error::from(Shared::UnknownTarget { target, known }));
        }
        if restriction::tables_for(target, vec![tracked.clone()])?.is_empty() {
            return Err(ProofError::NotOfTarget { table, target: target.to_owned() }.into());
        }
        record_keys(&tracked, &table, keys, caller)?;
        Ok(table)
    })?;
    let what = if keys.len() == 1 { "1 key".into() } else { format!("{} keys", keys.len()) };
    Ok(format!("the next export of target \"{target}\" sends {what} of table \"{table}\" once more"))
}

/// Reads keys as COPY reads them into the table, as its owner, for that can run code of their types. Then
/// they are keys that the table can have, and are written to the shadow as they are.
fn record_keys(tracked: &Tracked, name: &TableName, keys: &[String], caller: &Caller) -> Result<()> {
    let changed = || lost::key_changed(tracked.id, name);
    let table = Table::open(tracked.relation, Lock::Read).ok_or_else(changed)?;
    let attnums = tracked.key.columns(&table)?.ok_or_else(changed)?;
    let mut lines = Vec::new();
    for key in keys {
        let values = key_text::read(key).filter(|values| values.len() == attnums.len());
        let values = values.ok_or_else(|| TrackError::NotAKey { table: name.clone(), key: key.clone() })?;
        lines.extend(batch::line_of(values.iter().map(|value| Some(value.as_str()))));
        lines.push(b'\n');
    }
    let mut rows = Staged::like(c"keys", &table, &attnums);
    let place = format!("While reading the keys as those of table \"{name}\".");
    report::with_detail(
        &place,
        true,
        || None,
        || {
            caller.as_owner(&table, || {
                copy::stage_from::<Error>(&table, &mut rows, Format::Text.name(), &[], Cursor::new(lines))
            })
        },
    )?;
    record::staged_keys(tracked, name, &rows)
}
