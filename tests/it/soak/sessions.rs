//! What the sessions of the soak do, except DDL: they write, export, import, compact and expire.
//!
//! What each may be refused is listed with the reason. Anything else is a fault.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use postgres::{Client, Error};

use super::{Route, Survived, WhenBehind};
use crate::cluster::database::{Database, Refusal, query, refusal};
use crate::cluster::random::Random;

/// What a server that goes down tells its clients, if it tells them anything.
const GOING_DOWN: [&str; 4] = ["", "57P01", "57P02", "57P03"];

/// A refusal that is no fault: its SQLSTATE, and what its message says.
pub type Allowed = (&'static str, &'static str);

/// Writers lock rows, and DDL locks tables, in any order. Any session that waits behind them may be the one
/// that PostgreSQL ends.
const DEADLOCK: Allowed = ("40P01", "deadlock detected");

/// The parent's columns have changed while a partition was being detached concurrently. PostgreSQL without the
/// extension raises it as well, for whoever reads or writes the partition.
const HALF_DETACHED: Allowed = ("42804", "could not convert row type");

/// Another session has changed the id of the row.
const MOVED: Allowed = ("40001", "tuple to be locked was already moved to another partition");

const TO_WRITERS: &[Allowed] = &[
    // Another writer has inserted the same id.
    ("23505", "duplicate key value violates unique constraint"),
    // The partition has been detached.
    ("23514", "no partition of relation \"parted\" found for row"),
];

const TO_EXPORTERS: &[Allowed] = &[
    ("40001", "table \"public.parted\" has got a partition or a child while it was exported"),
    // DDL has disabled them, and will enable them again.
    ("55000", "the triggers that track table"),
];

/// For destinations that batches do not wait for: a batch has expired since the store was listed. The next
/// import finds the compacted one.
const TO_IMPORTERS: &[Allowed] = &[("58P01", "/manifest/"), ("58P01", "/compacted/"), ("58P01", "/data/")];

const TO_KEEPERS: &[Allowed] = &[
    // Some batches of the run have expired.
    ("42704", "is not in store"),
    // They expire by the other keeper, after the store was listed.
    ("58P01", "/manifest/"),
    ("58P01", "/compacted/"),
    ("58P01", "/data/"),
    // The other keeper has compacted the same ones.
    ("40001", "have been compacted meanwhile"),
];

/// What a session does again and again.
type Act = Box<dyn FnMut(&mut Client, &Survived) -> Result<(), Error> + Send>;

pub struct Session {
    database: Database,
    allowed: &'static [Allowed],
    pause: Duration,
    act: Act,
}

impl Session {
    pub fn new(
        database: &Database,
        allowed: &'static [Allowed],
        pause: Duration,
        act: impl FnMut(&mut Client, &Survived) -> Result<(), Error> + Send + 'static,
    ) -> Session {
        Session { database: database.clone(), allowed, pause, act: Box::new(act) }
    }

    /// Acts until told to stop, or until the server goes down.
    pub fn run(mut self, stop: &AtomicBool, survived: &Survived) {
        let Ok(mut client) = self.database.connect() else { return };
        while !stop.load(Ordering::SeqCst) {
            if let Err(error) = (self.act)(&mut client, survived) {
                let refusal = refusal(&error);
                if GOING_DOWN.contains(&refusal.sqlstate.as_str()) {
                    return;
                }
                assert!(self.allows(&refusal), "{refusal}");
                survived.count(&format!("refusals {}: {}", refusal.sqlstate, kind(&refusal.message)), 1);
                // Fails only if the server goes down.
                let _ = client.batch_execute("ROLLBACK");
            }
            sleep(self.pause);
        }
    }

    fn allows(&self, refusal: &Refusal) -> bool {
        let is_it =
            |(sqlstate, text): &Allowed| refusal.sqlstate == *sqlstate && refusal.message.contains(text);
        self.allowed.iter().chain([&DEADLOCK, &HALF_DETACHED, &MOVED]).any(is_it)
    }
}

/// Makes calls one after the other.
pub fn run(client: &mut Client, calls: &[String]) -> Result<(), Error> {
    calls.iter().try_for_each(|call| query(client, call).map(drop))
}

/// The row of `lines` that belongs to a transaction. Such rows are only ever inserted, so a copy with one that
/// the source does not have shows what was never committed, or was rolled back.
pub fn line(session: i32, number: i32) -> String {
    format!("INSERT INTO lines VALUES ({session}, {number}, now())")
}

pub fn writer(source: &Database, mut random: Random, writer: i32, mut number: i32) -> Session {
    Session::new(source, TO_WRITERS, Duration::ZERO, move |client, survived| {
        number += 1;
        run(client, &transaction(&mut random, writer, number))?;
        survived.count("transactions", 1);
        Ok(())
    })
}

/// One transaction of a writer, as the calls that it takes.
fn transaction(random: &mut Random, writer: i32, number: i32) -> Vec<String> {
    let change =
        if random.below(3) == 0 { change_of_parted(random, number) } else { change_of_items(random, number) };
    let line = line(writer, number);
    match random.below(16) {
        0..4 => vec![format!("BEGIN; SET LOCAL synchronous_commit = on; {change}; {line}; COMMIT")],
        4 => vec![
            format!("BEGIN; {change}; {line}; PREPARE TRANSACTION '{writer} {number}'"),
            "SELECT pg_sleep(0.05)".to_owned(),
            format!("COMMIT PREPARED '{writer} {number}'"),
        ],
        5 => vec![format!("BEGIN; {change}; {line}; ROLLBACK")],
        _ => vec![format!("BEGIN; {change}; {line}; COMMIT")],
    }
}

fn change_of_items(random: &mut Random, number: i32) -> String {
    let id = random.below(200);
    match random.below(8) {
        0 | 1 => format!(
            "INSERT INTO items VALUES ({id}, 'note {number}') ON CONFLICT (id) DO UPDATE SET note = excluded.note"
        ),
        2 => format!("UPDATE items SET amount = {number} WHERE id BETWEEN {id} AND {id} + 20"),
        3 => format!("DELETE FROM items WHERE id = {id}"),
        4 => format!(
            "UPDATE items SET id = {id} WHERE id = {} AND NOT EXISTS (SELECT FROM items WHERE id = {id})",
            id + 1
        ),
        5 => format!(
            "SAVEPOINT a; DELETE FROM items WHERE id < {id}; ROLLBACK TO a; UPDATE items SET note = NULL WHERE id = {id}"
        ),
        6 if random.below(4) == 0 => "TRUNCATE items".to_owned(),
        _ => format!("INSERT INTO items VALUES ({id}, 'note {number}') ON CONFLICT DO NOTHING"),
    }
}

/// Most ids belong to the partitions that stay. Few of those of the others are written to, so that exports do
/// not happen to send the rows that have come with a partition.
fn change_of_parted(random: &mut Random, number: i32) -> String {
    let id = if random.below(4) == 0 { 1000 + random.below(3000) } else { random.below(200) };
    match random.below(8) {
        0..3 => format!(
            "INSERT INTO parted VALUES ({id}, 'note {number}') ON CONFLICT (id) DO UPDATE SET note = excluded.note"
        ),
        3 => format!("UPDATE parted SET note = 'note {number}' WHERE id BETWEEN {id} AND {id} + 20"),
        4 => format!("DELETE FROM parted WHERE id BETWEEN {id} AND {id} + 3"),
        5 => format!("DELETE FROM parted_low WHERE id = {id} % 100"),
        6 if random.below(8) == 0 => "TRUNCATE parted".to_owned(),
        _ => format!(
            "UPDATE parted SET id = {id} WHERE id = {} AND NOT EXISTS (SELECT FROM parted WHERE id = {id})",
            (id + 100) % 200
        ),
    }
}

/// Reads for a while in one transaction: DETACH CONCURRENTLY waits for that halfway.
pub fn reader(source: &Database) -> Session {
    Session::new(source, &[], Duration::from_millis(200), |client, _| {
        run(client, &["BEGIN; SELECT FROM parted; SELECT pg_sleep(1); COMMIT".to_owned()])
    })
}

pub fn exporter(route: &Route) -> Session {
    let export = route.from.export_sql();
    Session::new(&route.from, TO_EXPORTERS, route.pause, move |client, survived| {
        let parts = query(client, &export)?;
        survived.count("exports", 1);
        survived.count("full parts", parts.lines().filter(|part| part.ends_with("|full")).count());
        Ok(())
    })
}

/// The call that imports, and adds the columns that the source has added.
pub fn import_sql(to: &Database) -> String {
    to.call("tx_import", ", new_columns => 'add'")
}

pub fn importer(route: &Route) -> Session {
    let import = import_sql(&route.to);
    let allowed = match route.when_behind {
        WhenBehind::Restart => TO_IMPORTERS,
        WhenBehind::HoldBack => &[],
    };
    Session::new(&route.to, allowed, route.pause, move |client, survived| {
        query(client, &import)?;
        survived.count("imports", 1);
        Ok(())
    })
}

/// Compacts all batches of a target, or a run of them, and removes what nobody needs any more.
pub fn keeper(database: &Database, routes: &[Route], mut random: Random) -> Session {
    let targets = routes.iter().map(|route| (database.with_target(route.to.target()), route.when_behind));
    let targets = targets.collect::<Vec<_>>();
    Session::new(database, TO_KEEPERS, Duration::from_millis(100), move |client, survived| {
        let (target, when_behind) = &targets[random.below(targets.len() as u64) as usize];
        if random.below(3) > 0 {
            let range = if random.below(2) == 0 {
                String::new()
            } else {
                run_of_batches(client, target, &mut random)?
            };
            let parts = query(client, &target.call("tx_compact", &range))?;
            survived.count("compactions", usize::from(!parts.is_empty()));
        }
        let (keep, only_received) = (2 + random.below(12), *when_behind == WhenBehind::HoldBack);
        let further =
            format!(", older_than => '0', keep_batches => {keep}, only_received => {only_received}");
        let removed = query(client, &target.call("tx_expire", &further))?;
        survived.count("expired batches", removed.lines().count());
        Ok(())
    })
}

fn run_of_batches(client: &mut Client, target: &Database, random: &mut Random) -> Result<String, Error> {
    let last =
        query(client, &format!("SELECT max(last_batch) FROM ({}) AS s", target.call("tx_status", "")))?;
    let last = last.parse::<u64>().expect("a number");
    let last = last - random.below(last.min(2));
    let first = last - random.below(last.min(6));
    Ok(format!(", first => {first}, last => {last}"))
}

/// A message without names and numbers, so that those of one kind are counted together.
fn kind(message: &str) -> String {
    let words = message.split('"').step_by(2).collect::<Vec<_>>().join("…");
    words.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("N")
}
