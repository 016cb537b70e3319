//! What is wrong at a destination: copies that do not follow, and batches that wait or are missing.
//!
//! Input: the catalog, and the stores that the next batches come from. Output: a problem each.
//!
//! What an import would fail with is told in the words of its error, with the HINT of that error.

use std::collections::HashSet;

use crate::catalog::EmptiedCopy;
use crate::catalog::health::{self, ClosedCopy, ImportHealth, StaleCopy};
use crate::destination::chain::{Backlog, store_behind};
use crate::destination::error::ChainError;
use crate::error::{Problem, Result, TableName, literal};
use crate::guc;
use crate::pg::interrupts;
use crate::table::error::TableError;
use batch::reader;
use store::Store;

/// Returns what is wrong with the copies of this database, and with what waits for them.
pub fn problems(read_stores: bool) -> Result<Vec<Problem>> {
    let is_standby = health::here()?.is_standby;
    let mut problems = health::stale_copies()?.into_iter().map(stale).collect::<Vec<_>>();
    problems.extend(health::closed_copies()?.into_iter().map(closed));
    problems.extend(health::disarmed_copies()?.into_iter().map(disarmed));
    if !is_standby {
        problems.extend(health::emptied_copies()?.into_iter().map(
            |EmptiedCopy { table, target, has_rows }| {
                Problem::ahead_of(table.clone(), ChainError::Emptied { table, target, has_rows })
            },
        ));
    }
    let imports = health::imports()?;
    if read_stores && !is_standby {
        problems.extend(stores(&imports)?);
    }
    problems.extend(imports.into_iter().filter_map(clocks));
    Ok(problems)
}

fn disarmed((table, enable): (String, String)) -> Problem {
    Problem::warning(
        &table,
        format!("table \"{table}\" is a protected copy, but triggers of it are disabled"),
    )
    .detail("Not only imports can write to it.")
    .hint(format!("To protect it again, run: {enable}"))
}

fn closed(copy: ClosedCopy) -> Problem {
    let ClosedCopy { name: (schema, name), owner, may_use_schema } = copy;
    let table = TableName::new(&schema, &name);
    let object = table.quoted().to_owned();
    Problem::ahead_of(
        object,
        if may_use_schema {
            TableError::RowSecurity { table, role: owner, is_owner: true }
        } else {
            TableError::SchemaClosedToOwner { table, schema, owner }
        },
    )
}

fn stale(copy: StaleCopy) -> Problem {
    let StaleCopy { table, target, source_table: (schema, name), .. } = copy;
    let source_table = TableName::new(&schema, &name);
    let reset = format!(
        "run at the source: SELECT tx_reset({0}, {1}); SELECT * FROM tx_export({0});",
        literal(&target),
        source_table.literal()
    );
    match (copy.reason.as_str(), copy.not_sent_since) {
        ("not sent", Some(number)) => Problem::warning(
            &table,
            format!("table \"{source_table}\" is not sent to target \"{target}\" any more"),
        )
        .detail(format!(
            "Since batch {number} the copy stays as it was. At the source the table was untracked, \
             dropped or renamed, or the target was restricted to others."
        ))
        .since(copy.shows)
        .hint(format!(
            "To have it sent again, run at the source: SELECT tx_track({0}); or, if the target is \
             restricted: SELECT tx_restrict({1}, {0}); \
             If the copy is not needed any more, run: DROP TABLE {table};",
            source_table.literal(),
            literal(&target)
        )),
        ("dropped", _) => Problem::critical(
            source_table.quoted(),
            format!("the copy of table \"{source_table}\" of target \"{target}\" has been dropped"),
        )
        .hint(format!(
            "Create it with what tx_ddl() returns at the source. To have its rows sent again, {reset}"
        )),
        ("stale columns", _) => Problem::warning(
            &table,
            format!(
                "unchanged rows may lack the values of columns: {}",
                copy.stale_columns.unwrap_or_default()
            ),
        )
        .detail("The columns were added or altered here, and the source does not send unchanged rows again.")
        .hint(format!(
            "To have what differs written, run: SELECT * FROM tx_repair({}, {}); Or {reset}",
            literal(&target),
            literal(&table)
        )),
        _ => Problem::critical(
            &table,
            format!("the copy of table \"{source_table}\" of target \"{target}\" has not received its rows"),
        )
        .detail("An import of changes of it is refused.")
        .hint(format!("To have all rows sent again, {reset}")),
    }
}

/// Compares what has been applied with the stores. A store that cannot be read is told once.
fn stores(imports: &[ImportHealth]) -> Result<Vec<Problem>> {
    let (mut problems, mut failed) = (Vec::new(), HashSet::new());
    for import in imports {
        let url = guc::next_store(&import.store, import.is_before_settings);
        if failed.contains(&url) {
            continue;
        }
        let opened = store::open(&url, interrupts::pending).map_err(batch::Error::from);
        // From the last batch on, which the store must still hold.
        let listed = opened.and_then(|store| {
            let numbers = reader::numbers(store.as_ref(), &import.target, import.number - 1)?;
            Ok((store, numbers))
        });
        match listed {
            Ok((store, numbers)) => problems.extend(of_store(import, store.as_ref(), &numbers)?),
            Err(batch::Error::Store(store::Error::NotFound { .. })) if guc::is_made_by_next_call(&url) => {
                let (target, last) = (import.target.clone(), import.store.clone());
                let (applied, newest) = (import.number, None);
                let behind = ChainError::StoreBehind { target, store: url, applied, last, newest };
                problems.push(Problem::ahead_of(&import.target, behind));
            }
            Err(error) => {
                problems.push(Problem::unreadable(&url, error)?);
                failed.insert(url);
            }
        }
    }
    Ok(problems)
}

/// Says whether the batches of a target that the store holds can be applied, and wait for too long.
fn of_store(import: &ImportHealth, store: &dyn Store, numbers: &[u64]) -> Result<Option<Problem>> {
    let ImportHealth { target, number, .. } = import;
    let pending = numbers.iter().filter(|pending| *pending > number).collect::<Vec<_>>();
    let Some(&&first) = pending.first() else {
        if !numbers.is_empty() {
            return Ok(None);
        }
        let behind = store_behind(target, store, *number, import.store.clone())?;
        return Ok(Some(Problem::ahead_of(target, behind)));
    };
    if first > number + 1 {
        let missing = Backlog::new(target, store).and_then(|mut chain| chain.missing_batch());
        match missing {
            Ok(missing) => return Ok(missing.map(|missing| Problem::ahead_of(target, missing))),
            Err(error) => return Problem::met(target, error).map(Some),
        }
    }
    let Some(late_before) = &import.late_before else { return Ok(None) };
    let exported_at = match reader::manifest(store, target, first) {
        Ok(manifest) => manifest.created_at,
        Err(error) => return Problem::met(target, error.into()).map(Some),
    };
    if exported_at >= *late_before {
        return Ok(None);
    }
    let (waiting, wait) = if pending.len() == 1 { ("batch", "waits") } else { ("batches", "wait") };
    let usual = import.usual.as_deref().unwrap_or_default();
    let late = Problem::warning(
        target,
        format!("{} {waiting} of target \"{target}\" {wait} to be applied", pending.len()),
    )
    .detail(format!("Nine of ten of its last batches were applied within {usual} after their export."))
    .since(Some(exported_at))
    .hint(format!(
        "See why the job that imports it does not run. Run: SELECT * FROM tx_import({});",
        literal(target)
    ));
    Ok(Some(late))
}

fn clocks(import: ImportHealth) -> Option<Problem> {
    let ImportHealth { target, number, clock_ahead, applied_at, .. } = import;
    let ahead = clock_ahead?;
    let problem =
        format!("the clock of the source of target \"{target}\" is ahead of this server's by {ahead}");
    Some(
        Problem::warning(target, problem)
            .detail(format!("By these clocks batch {number} was applied before it was exported."))
            .since(Some(applied_at))
            .hint("Set both clocks. Ages that the views show are wrong by as much."),
    )
}
