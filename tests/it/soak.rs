//! A soak: four writers, an exporter and an importer for each of three targets, and both servers killed again
//! and again.
//!
//! Nothing waits for the disk (`synchronous_commit = off`), so every kill of the source undoes commits. After
//! each one the destinations may show nothing that the source has lost; then all export and import once more,
//! and end equal.
//!
//! Half a minute as a test; `MINUTES=120 cargo test --test it soak:: -- --nocapture` for longer, `SEED=…` for
//! other moments.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::forgetful::FORGETFUL;
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{Cluster, Store};

/// What a server that goes down tells its clients, if it tells them anything.
const GOING_DOWN: [&str; 4] = ["", "57P01", "57P02", "57P03"];

const WRITERS: i32 = 4;

/// The targets, and how long each waits between two exports: one hardly at all, one now and then, one seldom.
const TARGETS: [(&str, Duration); 3] = [
    ("eager", Duration::ZERO),
    ("reporting", Duration::from_millis(150)),
    ("tardy", Duration::from_millis(800)),
];

/// How often each writer gets a new range of numbers, so that its transactions can be told apart for ever.
const NUMBERS_PER_ROUND: i32 = 100_000;

/// One transaction of a writer, as the calls that it takes. Rows of `lines` are only ever inserted, so
/// a copy with one that the source does not have shows what was never committed, or was rolled back.
fn transaction(random: &mut Random, writer: i32, number: i32) -> Vec<String> {
    let id = random.below(200);
    let change = match random.below(8) {
        0 | 1 => format!(
            "INSERT INTO items VALUES ({id}, 'w{writer} {number}') ON CONFLICT (id) DO UPDATE SET note = excluded.note"
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
        _ => format!("INSERT INTO items VALUES ({id}, 'w{writer} {number}') ON CONFLICT DO NOTHING"),
    };
    let line = format!("INSERT INTO lines VALUES ({writer}, {number}, now())");
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

/// Makes calls again and again until told to stop, or until the server goes down. Writers lose deadlocks and
/// races for a key; anything else is a failure.
fn again_and_again(
    database: &Database,
    stop: &AtomicBool,
    allowed: &[&str],
    pause: Duration,
    mut calls: impl FnMut() -> Vec<String>,
) -> u32 {
    let mut count = 0;
    let Ok(mut client) = database.connect() else { return 0 };
    while !stop.load(Ordering::SeqCst) {
        match calls().iter().try_for_each(|call| query(&mut client, call).map(drop)) {
            Ok(()) => count += 1,
            Err(error) => {
                let refusal = refusal(&error);
                if GOING_DOWN.contains(&refusal.sqlstate.as_str()) {
                    return count;
                }
                assert!(allowed.contains(&refusal.sqlstate.as_str()), "{refusal}");
                // Fails only if the server goes down.
                let _ = client.batch_execute("ROLLBACK");
            }
        }
        sleep(pause);
    }
    count
}

/// Ends what a crash has left prepared, one way or the other.
fn resolve_prepared(source: &Database, random: &mut Random) -> usize {
    let gids = source.text("SELECT gid FROM pg_prepared_xacts");
    for gid in gids.lines() {
        let verb = if random.below(2) == 0 { "COMMIT" } else { "ROLLBACK" };
        source.run(&format!("{verb} PREPARED '{gid}'"));
    }
    gids.lines().count()
}

fn lines_since(database: &Database, number: i32) -> String {
    database.text(&format!("SELECT item, line FROM lines WHERE line > {number}"))
}

#[derive(Debug, Default)]
struct Survived {
    kills_of_source: u32,
    kills_of_destination: u32,
    transactions: u32,
    prepared: usize,
    exports: u32,
    imports: u32,
}

#[test]
fn servers_killed_at_random_moments_end_equal() {
    let minutes = from_environment("MINUTES", 0.5);
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let store = Store::new();
    let mut source_server = Cluster::start_with(&FORGETFUL);
    let mut destination_server = Cluster::start_with(&FORGETFUL);
    let source = Database::source(&source_server, "shop", &store);
    let copies = TARGETS.map(|(target, pause)| {
        let copy = Database::destination(&destination_server, target, &store).with_target(target);
        (source.with_target(target), copy, pause)
    });
    copies.iter().for_each(|(from, to, _)| from.feed(to));
    let mut random = Random::seeded();
    let mut survived = Survived::default();
    let mut number = 0;
    while Instant::now() < end {
        number += NUMBERS_PER_ROUND;
        // All are equal here, so that older lines need not be compared again.
        source.run("DELETE FROM lines");
        let stop = AtomicBool::new(false);
        let victim = random.below(5);
        let moment = Duration::from_millis(100 + random.below(3000));
        scope(|scope| {
            let stop = &stop;
            let writers = (0..WRITERS).map(|writer| {
                let (source, mut random, mut number) = (&source, random.fork(), number);
                scope.spawn(move || {
                    again_and_again(source, stop, &["40P01", "23505", "40001"], Duration::ZERO, || {
                        number += 1;
                        transaction(&mut random, writer, number)
                    })
                })
            });
            let writers = writers.collect::<Vec<_>>();
            let run = |database, pause, call: fn(&Database) -> String| {
                scope.spawn(move || again_and_again(database, stop, &[], pause, || vec![call(database)]))
            };
            let exporters = copies.each_ref().map(|(from, _, pause)| run(from, *pause, Database::export_sql));
            let importers = copies.each_ref().map(|(_, to, pause)| run(to, *pause, Database::import_sql));
            sleep(moment);
            if victim != 0 {
                source_server.kill();
                survived.kills_of_source += 1;
            }
            if victim <= 1 {
                destination_server.kill();
                survived.kills_of_destination += 1;
            }
            stop.store(true, Ordering::SeqCst);
            let sum = |threads: Vec<std::thread::ScopedJoinHandle<u32>>| {
                threads.into_iter().map(|thread| thread.join().expect("no failure")).sum::<u32>()
            };
            survived.transactions += sum(writers);
            survived.exports += sum(exporters.into());
            survived.imports += sum(importers.into());
        });
        if victim != 0 {
            source_server.restart();
        }
        if victim <= 1 {
            destination_server.restart();
        }
        // What a destination shows was committed, and stayed.
        let there = copies.each_ref().map(|(_, copy, _)| lines_since(copy, number));
        survived.prepared += resolve_prepared(&source, &mut random);
        let here = lines_since(&source, number);
        let here = here.lines().collect::<HashSet<_>>();
        for ((target, _), lines) in TARGETS.iter().zip(&there) {
            if let Some(line) = lines.lines().find(|line| !here.contains(line)) {
                panic!(
                    "line {line} is at the destination \"{target}\", and lost at the source: {survived:?}"
                );
            }
        }
        for (from, to, _) in &copies {
            from.feed(to);
        }
    }
    println!("{survived:?}");
    let Survived { exports, imports, .. } = survived;
    assert!(exports > 10 && imports > 10, "hardly anything has happened");
}
