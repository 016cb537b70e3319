//! Sending rows once more: what a destination lacks although the source has not changed it since.
//!
//! Input: keys of a tracked table. Output: a sentence that says what will happen.

use crate::catalog;
use crate::error::{Error, Result, Shared};
use crate::pg::Oid;
use crate::pg::snapshot;
use crate::pg::transaction;
use crate::proof::error::ProofError;
use crate::source::restriction;
use crate::source::shadow::record;
use crate::table::own::not_tracked;
use crate::table::shape::Shape;

/// Records keys as changed, so that the next export of every target that gets the table sends their rows, or
/// says that they have none. Each key is text like a row of its columns: `(7)` or `(7,"a b")`.
pub fn resend(target: &str, relation: Oid, keys: &[String]) -> Result<String> {
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
        let id = tracked.id;
        if restriction::tables_for(target, vec![tracked])?.is_empty() {
            return Err(ProofError::NotOfTarget { table, target: target.to_owned() }.into());
        }
        record::keys_as_text(relation, id, &table, keys)?;
        Ok(table)
    })?;
    let what = if keys.len() == 1 { "1 key".into() } else { format!("{} keys", keys.len()) };
    Ok(format!("the next export of target \"{target}\" sends {what} of table \"{table}\" once more"))
}
