//! What is wrong at a source: problems that an export would fail with, and those that it would not show.
//!
//! Input: the catalog, and the stores of the next batches. Output: a problem each.
//!
//! What an export would fail with is told in the words of its error, with the HINT of that error.

use std::collections::HashSet;

use crate::catalog::error::CatalogError;
use crate::catalog::health::{
    self, Here, LargeShadow, ReleasedTarget, TargetHealth, Unexportable, UnseenTable,
};
use crate::catalog::{self, Target};
use crate::error::{Problem, Result, TableName, literal};
use crate::guc;
use crate::pg;
use crate::pg::interrupts;
use crate::source::error::{ExportError, HistoryError, TrackError};
use crate::source::{fork, lost, restriction};
use crate::table::error::TableError;
use batch::reader;
use store::Store;

/// Returns what is wrong with the tables, targets and shadows of this database. A database that must not
/// publish exports nothing, but its shadows grow.
pub fn problems(read_stores: bool) -> Result<Vec<Problem>> {
    let here = health::here()?;
    let mut problems = Vec::new();
    if guc::may_publish() {
        let targets = health::targets()?;
        problems.extend(event_triggers(&targets)?);
        for table in health::unexportable()? {
            problems.push(unexportable(table)?);
        }
        for UnseenTable { name: (schema, name), view } in health::unseen_tables()? {
            let table = TableName::new(&schema, &name);
            problems.push(Problem::ahead_of(table.quoted(), restriction::view_gone(view, table.clone())));
        }
        problems.extend(targets.iter().filter_map(|target| of_target(target, &here)));
        problems.extend(health::released_targets()?.into_iter().map(released));
        if read_stores && !here.is_standby {
            problems.extend(stores(&targets, &here)?);
        }
    }
    if let Some(limit) = guc::shadow_limit() {
        problems.extend(health::large_shadows(limit)?.into_iter().map(large_shadow));
    }
    Ok(problems)
}

fn event_triggers(targets: &[TargetHealth]) -> Result<Option<Problem>> {
    let names = catalog::disabled_event_triggers()?;
    if names.is_empty() {
        return Ok(None);
    }
    let object = names.join(", ");
    let targets = targets.iter().map(|target| target.name.clone()).collect();
    Ok(Some(Problem::ahead_of(object, ExportError::EventTriggersDisabled { names, targets })))
}

fn unexportable(table: Unexportable) -> Result<Problem> {
    let Unexportable { id, name: (schema, name), reason, difference, owner } = table;
    let table = TableName::new(&schema, &name);
    let object = table.quoted().to_owned();
    let owner = owner.unwrap_or_default();
    Ok(match reason.as_str() {
        "no shadow" => Problem::ahead_of(object, CatalogError::ShadowMissing { id, table: Some(table) }),
        "unlogged" => {
            Problem::ahead_of(object, TrackError::NoLongerTrackable { table, what: "an unlogged table" })
        }
        "unlogged partition" => {
            let what = "a partitioned table with an unlogged partition";
            Problem::ahead_of(object, TrackError::NoLongerTrackable { table, what })
        }
        "schema" => Problem::ahead_of(object, TableError::SchemaClosedToOwner { table, schema, owner }),
        "row security" => {
            Problem::ahead_of(object, TableError::RowSecurity { table, role: owner, is_owner: true })
        }
        "key" => Problem::ahead_of(object, lost::key_changed(id, &table)),
        "owner" => Problem::ahead_of(object, TrackError::OwnerChanged { table }),
        "altered" => {
            let difference = difference.unwrap_or_default();
            Problem::ahead_of(object, TrackError::ShadowAltered { table, id, difference })
        }
        "triggers" => Problem::ahead_of(object, lost::triggers_missing(id, &table)),
        other => return Err(pg::Error::Internal(format!("\"{other}\" is no reason")).into()),
    })
}

/// Says what is wrong with a target: another database publishes it, or its last export is old.
fn of_target(target: &TargetHealth, here: &Here) -> Option<Problem> {
    let name = &target.name;
    if let Some(publisher) = target.publisher.as_ref().filter(|publisher| **publisher != here.publisher) {
        let (publisher, here) = (publisher.to_string(), here.name.clone());
        let (target, number) = (name.clone(), target.number);
        return Some(Problem::ahead_of(
            name,
            HistoryError::OtherDatabase { target, number, publisher, here },
        ));
    }
    let (since, age) = target.exported.clone().filter(|_| target.is_late)?;
    let usual = target.usual.as_deref().unwrap_or_default();
    let late = Problem::warning(name, format!("the last export of target \"{name}\" is {age} old"));
    let late = late.since(Some(since));
    let usual = format!("Nine of ten of its last batches came within {usual}.");
    Some(match target.exported_by {
        None => late.detail(usual).hint(format!(
            "See why the job that exports it does not run. Run: SELECT * FROM tx_export({});",
            literal(name)
        )),
        Some(pid) => late
            .detail(format!("{usual} The process with PID {pid} has an export of it under way."))
            .hint(format!("Wait. To end that export, run: SELECT pg_cancel_backend({pid});")),
    })
}

fn released(target: ReleasedTarget) -> Problem {
    let ReleasedTarget { name, tables, some } = target;
    let plural = if tables == 1 { "table" } else { "tables" };
    let others = tables.saturating_sub(some.len() as u64);
    let others = if others > 0 { format!(" and {others} others") } else { String::new() };
    Problem::warning(&name, format!("the next export of target \"{name}\" sends {tables} {plural} in full"))
        .detail(format!(
            "They are {}{others}. Their shadows have outgrown pg_table_export.shadow_limit, or tx_reset() or \
             tx_restrict() has been called.",
            some.join(", ")
        ))
        .hint(format!("Run: SELECT * FROM tx_export({});", literal(&name)))
}

/// Lists the stores of the next batches, from the last ones on. A store that cannot be read is told once.
fn stores(targets: &[TargetHealth], here: &Here) -> Result<Vec<Problem>> {
    let (mut problems, mut failed) = (Vec::new(), HashSet::new());
    for target in targets {
        let is_ours = target.publisher.as_ref() == Some(&here.publisher);
        let Some(last) = target.store.as_deref().filter(|_| is_ours) else { continue };
        let url = guc::next_store(last, target.is_before_settings);
        if failed.contains(&url) {
            continue;
        }
        let opened = store::open(&url, interrupts::pending).map_err(batch::Error::from);
        // From the last batch on, which the store must still hold.
        let listed = opened.and_then(|store| {
            let numbers = reader::numbers(store.as_ref(), &target.name, target.number.saturating_sub(1))?;
            Ok((store, numbers))
        });
        match listed {
            Ok((store, numbers)) => problems.extend(of_store(&target.name, store.as_ref(), &numbers)?),
            Err(batch::Error::Store(store::Error::NotFound { .. })) if guc::is_made_by_next_call(&url) => {
                problems.extend(of_no_store(target, last, url)?);
            }
            Err(error) => {
                problems.push(Problem::unreadable(&url, error)?);
                failed.insert(url);
            }
        }
    }
    Ok(problems)
}

/// Says whether the next batch can follow those that a store holds, and whether destinations can follow it:
/// `numbers` are those from the last one on that is known here.
fn of_store(name: &str, store: &dyn Store, numbers: &[u64]) -> Result<Option<Problem>> {
    let target = catalog::target(name)?;
    if numbers.is_empty()
        && let Some(Target { position: Some(_), number: number @ 1.., store: Some(last), .. }) = &target
        && guc::is_same_store(last, &store.url())
    {
        let url = store.url();
        return match reader::numbers(store, name, 0) {
            Ok(older) => Ok(Some(store_lost(name, &url, *number, older.last().copied()))),
            Err(error) => Problem::unreadable(&url, error).map(Some),
        };
    }
    let known = target.as_ref().map_or(0, |target| target.number);
    let followed = fork::require_last_batch(store, name, target.as_ref()).and_then(|()| {
        if numbers.iter().all(|number| *number <= known) {
            return Ok(());
        }
        fork::inspect(store, name, target.as_ref(), &catalog::this_database()?).map(drop)
    });
    followed.err().map(|error| Problem::met(name, error)).transpose()
}

/// Says what comes of it that the next export makes the default store.
fn of_no_store(target: &TargetHealth, last: &str, url: String) -> Result<Option<Problem>> {
    let (name, number) = (&target.name, target.number);
    if !guc::is_same_store(last, &url) {
        let (target, last) = (name.clone(), last.to_owned());
        let missing = HistoryError::OtherStore { target, number, store: url, last };
        return Ok(Some(Problem::ahead_of(name, missing)));
    }
    let continues = catalog::target(name)?.is_some_and(|target| target.position.is_some());
    Ok(continues.then(|| store_lost(name, &url, number, None)))
}

/// Tells that a store has lost the last batch of a target. An export goes on after that batch, so that a
/// destination which has not applied it is refused the next one. Batches that are carried away leave none
/// behind, and destinations have them elsewhere; an older copy of the store has some.
fn store_lost(name: &str, url: &str, number: u64, newest: Option<u64>) -> Problem {
    let lacks = format!("store \"{url}\" does not hold batch {number} of target \"{name}\", its last one");
    let goes_on =
        format!("An export goes on after batch {number}, and a destination cannot follow without it.");
    let again = format!(
        "If they are lost, have the next batch be full. Run: SELECT tx_reset({0}); SELECT * FROM tx_export({0});",
        literal(name)
    );
    match newest {
        Some(newest) => Problem::critical(name, lacks)
            .detail(format!("It was published there. The last one there is batch {newest}. {goes_on}"))
            .hint(format!("Copy the batches after batch {newest} to the store again. {again}")),
        None => Problem::warning(name, lacks)
            .detail(format!("It was published there, where no batch of the target is now. {goes_on}"))
            .hint(format!(
                "If the batches have been carried away to where destinations read them, export. \
                 If the store is not mounted, mount it. {again}"
            )),
    }
}

fn large_shadow(shadow: LargeShadow) -> Problem {
    let LargeShadow { name: (schema, name), percent, needed_by, oldest_target, in_use_by, ends } = shadow;
    let table = TableName::new(&schema, &name);
    let shadow = format!("the shadow of table \"{table}\" has");
    let limit = "pg_table_export.shadow_limit";
    let problem = if percent >= 100 {
        Problem::critical(table.quoted(), format!("{shadow} outgrown {limit}"))
    } else {
        Problem::warning(table.quoted(), format!("{shadow} reached {percent} percent of {limit}"))
    };
    if !in_use_by.is_empty() {
        return problem
            .detail(format!("It is locked by {}.", in_use_by.join(", ")))
            .hint(format!("To end that, run: {}", ends.join(" ")));
    }
    let needed_by = if needed_by.is_empty() { oldest_target.into_iter().collect() } else { needed_by };
    let Some(first) = needed_by.first() else {
        return problem.hint("Run twice: SELECT * FROM tx_prune();");
    };
    let names = needed_by.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let each = |function: &str| {
        needed_by.iter().map(|name| format!("{function}({});", literal(name))).collect::<Vec<_>>().join(" ")
    };
    let what = if needed_by.len() == 1 { "target" } else { "targets" };
    let problem = problem.detail(format!("It retains changes for {what} {names}."));
    if !guc::may_publish() {
        return problem.hint(format!("This database must not publish. Run: {}", each("SELECT tx_forget")));
    }
    problem.hint(format!(
        "Run: {} SELECT * FROM tx_prune(); \
         If nobody will import target \"{first}\" any more, run: SELECT tx_forget({});",
        each("SELECT * FROM tx_export"),
        literal(first)
    ))
}
