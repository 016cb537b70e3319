//! Crashes and interruptions: whenever a server is killed, and wherever a statement is cut off, nothing that was published
//! is taken back, nothing that was committed is skipped, and the next export and import end equal.
//!
//! Random moments come from a seed, which a failure prints; `SEED=… cargo test` repeats it, `ROUNDS=…` goes on longer.

mod cluster;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, scope, sleep};
use std::time::{Duration, Instant};
use std::{env, fs};

use cluster::pair::{Database, TARGET, query, refusal, wait_until};
use cluster::{Cluster, Store};

/// Commits that are not waited for stay in memory for as long as these let them.
const FORGETFUL: [&str; 2] = ["synchronous_commit = off", "wal_writer_delay = 10s"];

/// What a server that goes down tells its clients, if it tells them anything.
const GOING_DOWN: [&str; 4] = ["", "57P01", "57P02", "57P03"];

struct Pair {
    source_server: Cluster,
    destination_server: Cluster,
    store: Store,
    source: Database,
    destination: Database,
}

impl Pair {
    fn start() -> Pair {
        let store = Store::new();
        let source_server = Cluster::start_with(&FORGETFUL);
        let destination_server = Cluster::start_with(&FORGETFUL);
        let source = Database::source(&source_server, "shop", &store);
        let destination = Database::destination(&destination_server, "copy", &store);
        source.feed(&destination);
        for database in [&source, &destination] {
            // What was made so far is not what these servers are to forget.
            database.run("CHECKPOINT");
        }
        Pair { source_server, destination_server, store, source, destination }
    }

    fn crash_source(&mut self) {
        self.source_server.kill();
        self.source_server.restart();
    }
}

/// Small, fast, and the same on every machine (xorshift64*).
struct Random(u64);

impl Random {
    fn seeded() -> Random {
        let seed = env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
        println!("SEED={seed}");
        Random(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

fn rounds(default: u64) -> u64 {
    env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

#[test]
fn a_commit_that_was_exported_survives_a_crash() {
    let mut pair = Pair::start();
    pair.source.run("INSERT INTO items VALUES (100, 'seen by an export')");
    pair.source.export();
    pair.crash_source();
    assert_eq!(pair.source.text("SELECT note FROM items WHERE id = 100"), "seen by an export");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_commit_that_was_published_survives_a_crash_even_if_its_export_does_not() {
    let mut pair = Pair::start();
    pair.source.run("INSERT INTO items VALUES (100, 'published')");
    let mut exporter = pair.source.client();
    exporter.batch_execute("BEGIN").expect("a transaction");
    query(&mut exporter, &pair.source.export_sql()).expect("an export that is not committed");
    pair.destination.import();
    pair.crash_source();
    assert_eq!(pair.source.text("SELECT note FROM items WHERE id = 100"), "published");
    assert_eq!(
        pair.source.text("SELECT number FROM table_export.target"),
        "1",
        "the export was not committed"
    );
    pair.source.run("DELETE FROM items WHERE id = 2");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_commit_that_a_crash_undoes_never_shows_at_the_destination() {
    let mut pair = Pair::start();
    pair.source.run("INSERT INTO items VALUES (100, 'forgotten')");
    pair.crash_source();
    assert_eq!(pair.source.text("SELECT count(*) FROM items WHERE id = 100"), "0");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_transaction_id_that_is_handed_out_again_never_counts_as_exported() {
    let mut pair = Pair::start();
    let mut reused = 0;
    for round in 1..=6 {
        // Ids that the position has passed, and ids after it: none of these transactions reaches the disk by itself.
        pair.source.run("CREATE TEMP TABLE t (); DROP TABLE t");
        pair.source.run(&format!("UPDATE items SET note = 'round {round}' WHERE id = {round}"));
        if round % 2 == 0 {
            pair.source.feed(&pair.destination);
        }
        pair.source.run("UPDATE items SET note = 'lost' WHERE id = 9");
        let lost = pair.source.text("BEGIN; SELECT pg_current_xact_id(); COMMIT");
        pair.crash_source();
        let next = pair.source.text(&format!(
            "BEGIN; UPDATE items SET note = 'again {round}' WHERE id = 10; SELECT pg_current_xact_id(); COMMIT"
        ));
        let number = |xid: &str| xid.parse::<u64>().expect("a transaction id");
        reused += u32::from(number(&next) <= number(&lost));
        pair.source.feed(&pair.destination);
    }
    assert!(reused > 0, "no transaction id was ever handed out again, so nothing was tested");
}

#[test]
fn an_export_that_finds_nothing_moves_no_position_past_a_lost_id() {
    let mut pair = Pair::start();
    pair.source.run("CREATE TABLE other (i int)");
    for round in 0..4 {
        for _ in 0..5 {
            pair.source.run("INSERT INTO other VALUES (1)");
        }
        assert_eq!(pair.source.export(), "", "nothing has changed");
        pair.crash_source();
        pair.source.run(&format!("UPDATE items SET note = 'round {round}'"));
        pair.source.feed(&pair.destination);
    }
}

/// One transaction of a writer. Rows of `lines` are only ever inserted, so whoever shows one that the source does not
/// have shows what never was, or was taken back.
fn transaction(random: &mut Random, writer: i32, sequence: i32) -> String {
    let id = random.below(200);
    let change = match random.below(7) {
        0 | 1 => format!(
            "INSERT INTO items VALUES ({id}, 'w{writer} {sequence}') ON CONFLICT (id) DO UPDATE SET note = excluded.note"
        ),
        2 => format!("UPDATE items SET amount = {sequence} WHERE id BETWEEN {id} AND {id} + 20"),
        3 => format!("DELETE FROM items WHERE id = {id}"),
        4 => format!(
            "UPDATE items SET id = {id} WHERE id = {} AND NOT EXISTS (SELECT FROM items WHERE id = {id})",
            id + 1
        ),
        5 => format!(
            "SAVEPOINT a; DELETE FROM items WHERE id < {id}; ROLLBACK TO a; UPDATE items SET note = NULL WHERE id = {id}"
        ),
        _ => "TRUNCATE items".to_owned(),
    };
    let sync = if random.below(4) == 0 { "SET LOCAL synchronous_commit = on;" } else { "" };
    format!("BEGIN; {sync} {change}; INSERT INTO lines VALUES ({writer}, {sequence}, now()); COMMIT")
}

/// Runs a statement again and again until told to stop, or until the server goes down. Writers lose deadlocks and races
/// for a key; anything else is a failure.
fn again_and_again(
    database: &Database,
    stop: &AtomicBool,
    allowed: &[&str],
    mut sql: impl FnMut() -> String,
) -> u32 {
    let mut count = 0;
    let Ok(mut client) = database.connect() else { return 0 };
    while !stop.load(Ordering::SeqCst) {
        match query(&mut client, &sql()) {
            Ok(_) => count += 1,
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
    }
    count
}

#[test]
fn servers_killed_at_random_moments_end_equal() {
    let mut pair = Pair::start();
    let mut random = Random::seeded();
    let (mut writes, mut exports, mut imports) = (0, 0, 0);
    let mut sequence = 100;
    for round in 0..rounds(12) {
        let stop = AtomicBool::new(false);
        let victims = random.below(5);
        let moment = Duration::from_millis(50 + random.below(900));
        let mut seeds = [0; 3].map(|_| Random(random.below(u64::MAX >> 1) | 1));
        sequence += 10_000;
        let Pair { source_server, destination_server, source, destination, .. } = &mut pair;
        scope(|scope| {
            let writers = (1..).zip(&mut seeds).map(|(writer, random)| {
                let (source, stop, mut sequence) = (&*source, &stop, sequence);
                scope.spawn(move || {
                    again_and_again(source, stop, &["40P01", "23505", "40001"], || {
                        sequence += 1;
                        transaction(random, writer, sequence)
                    })
                })
            });
            let writers = writers.collect::<Vec<_>>();
            let exporter = scope.spawn(|| again_and_again(source, &stop, &[], || source.export_sql()));
            let importer =
                scope.spawn(|| again_and_again(destination, &stop, &[], || destination.import_sql()));
            sleep(moment);
            match victims {
                0 => destination_server.kill(),
                1 => {
                    source_server.kill();
                    destination_server.kill();
                }
                _ => source_server.kill(),
            }
            stop.store(true, Ordering::SeqCst);
            writes += writers.into_iter().map(|writer| writer.join().expect("a writer")).sum::<u32>();
            exports += exporter.join().expect("the exporter");
            imports += importer.join().expect("the importer");
        });
        source_server.restart();
        destination_server.restart();
        // What the destination shows was committed, and stayed.
        let mine = source.text("SELECT item, line FROM lines");
        let mine = mine.lines().collect::<std::collections::HashSet<_>>();
        for line in destination.text("SELECT item, line FROM lines").lines() {
            assert!(
                mine.contains(line),
                "round {round}: line {line} is at the destination, and lost at the source"
            );
        }
        source.feed(destination);
    }
    println!("{writes} transactions, {exports} exports, {imports} imports");
    assert!(
        exports > 10 && imports > 10,
        "hardly anything has happened: {exports} exports, {imports} imports"
    );
}

#[test]
fn a_killed_backend_takes_nothing_back() {
    let pair = Pair::start();
    let mut random = Random::seeded();
    for round in 0..rounds(6) {
        pair.source.run(&format!(
            "UPDATE items SET note = 'round {round}';
             INSERT INTO lines SELECT {round} + 1000, i FROM generate_series(1, 10000) i"
        ));
        let is_export = round % 2 == 0;
        let (server, database, call) = if is_export {
            (&pair.source_server, &pair.source, pair.source.export_sql())
        } else {
            pair.source.export();
            (&pair.destination_server, &pair.destination, pair.destination.import_sql())
        };
        let starts = || server.log().matches("database system is ready to accept connections").count();
        let before = starts();
        cut_off(database, &call, Duration::from_millis(random.below(100)), |pid| {
            let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()), "the backend has gone before");
        });
        wait_until("the server has restarted by itself", || starts() > before);
        pair.source.feed(&pair.destination);
    }
}

/// Runs a call in a session of its own, and does something to its backend after a while. Returns how the call ended.
fn cut_off(database: &Database, call: &str, after: Duration, cut: impl FnOnce(i32)) -> String {
    let mut client = database.client();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    scope(|scope| {
        let running = scope.spawn(move || match query(&mut client, call) {
            Ok(_) => {
                // The session lives on until it has been cut off.
                let _ = query(&mut client, "SELECT pg_sleep(0.3)");
                "done".to_owned()
            }
            Err(error) => refusal(&error).sqlstate,
        });
        sleep(after);
        cut(pid);
        running.join().expect("an end")
    })
}

/// Cuts a call off by a function that takes a pid, and waits until its backend has let go of all it held.
fn cut_off_by(function: &str, database: &Database, call: &str, after: Duration) -> String {
    let mut backend = 0;
    let ending = cut_off(database, call, after, |pid| {
        backend = pid;
        database.run(&format!("SELECT {function}({pid})"));
    });
    let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {backend}");
    wait_until("the backend has gone", || database.text(&alive) == "0");
    ending
}

/// Gives both tables enough rows for an export or import to be cut off in its middle.
fn grow(pair: &Pair) {
    pair.source
        .run("INSERT INTO items SELECT i, repeat(md5(i::text), 5) FROM generate_series(1000, 12000) i");
    pair.source.run("INSERT INTO lines SELECT i, 1, now() FROM generate_series(1000, 12000) i");
    pair.source.feed(&pair.destination);
}

fn time(run: impl FnOnce()) -> u64 {
    let start = Instant::now();
    run();
    start.elapsed().as_millis() as u64
}

/// Touches every row, so that the next batch is large, and runs `cut` at moments spread over an export and an import.
fn interrupt(pair: &Pair, mut cut: impl FnMut(&Database, &str, Duration) -> String) -> Vec<String> {
    grow(pair);
    let mut random = Random::seeded();
    let touch =
        |round| pair.source.run(&format!("UPDATE items SET amount = {round}; UPDATE lines SET at = now()"));
    touch(0);
    let export_ms = time(|| drop(pair.source.export()));
    let import_ms = time(|| drop(pair.destination.import()));
    let mut endings = Vec::new();
    for round in 1..=rounds(6) {
        touch(round);
        let (before, position) =
            (pair.destination.content(), "SELECT number, position FROM table_export.target");
        let at_source = pair.source.text(position);
        let ending =
            cut(&pair.source, &pair.source.export_sql(), Duration::from_millis(random.below(export_ms)));
        if ending != "done" {
            assert_eq!(pair.source.text(position), at_source, "an export that failed moved the position");
        }
        endings.push(ending);
        pair.source.export();
        let ending = cut(
            &pair.destination,
            &pair.destination.import_sql(),
            Duration::from_millis(random.below(import_ms)),
        );
        let after = pair.destination.content();
        assert!(after == before || after == pair.source.content(), "an import was half done");
        endings.push(ending);
        pair.destination.import();
        pair.source.assert_equal(&pair.destination);
    }
    endings
}

#[test]
fn a_terminated_backend_leaves_nothing_half_done() {
    let pair = Pair::start();
    let endings =
        interrupt(&pair, |database, call, after| cut_off_by("pg_terminate_backend", database, call, after));
    assert!(
        endings.iter().any(|ending| ending == "57P01" || ending.is_empty()),
        "none was cut off: {endings:?}"
    );
}

#[test]
fn a_cancelled_statement_leaves_nothing_half_done() {
    let pair = Pair::start();
    let endings =
        interrupt(&pair, |database, call, after| cut_off_by("pg_cancel_backend", database, call, after));
    assert!(endings.iter().any(|ending| ending == "57014"), "none was cut off: {endings:?}");
}

#[test]
fn a_statement_timeout_leaves_the_session_usable() {
    let pair = Pair::start();
    let sessions = [pair.source.client(), pair.destination.client()];
    let [mut source, mut destination] = sessions;
    let endings = interrupt(&pair, |database, call, after| {
        let client = if database.export_sql() == call { &mut source } else { &mut destination };
        let timeout = format!("SET statement_timeout = {}", after.as_millis() + 1);
        client.batch_execute(&timeout).expect("the session is usable");
        // SET outside of the call, so that only the call is timed.
        let ending = query(client, call).map_or_else(|error| refusal(&error).sqlstate, |_| "done".into());
        client.batch_execute("SET statement_timeout = 0").expect("the session is usable");
        ending
    });
    assert!(endings.iter().any(|ending| ending == "57014"), "none was cut off: {endings:?}");
    for mut client in [source, destination] {
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
        let count = |folder| fs::read_dir(format!("/proc/{pid}/{folder}")).expect("the backend").count();
        wait_until("threads of exports that were cut off have ended", || count("task") == 1);
        query(&mut client, "SELECT 1").expect("the session is usable");
    }
}

#[test]
fn sessions_of_exports_that_were_cut_off_leak_no_files() {
    let pair = Pair::start();
    grow(&pair);
    let mut client = pair.source.client();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).expect("the backend").count();
    let mut before = 0;
    for round in 0..30 {
        client.batch_execute("SET statement_timeout = 0").expect("a setting");
        query(&mut client, &pair.source.reset_sql()).expect("a reset");
        client.batch_execute(&format!("SET statement_timeout = {}", 10 + round % 15)).expect("a setting");
        if let Err(error) = query(&mut client, &pair.source.export_sql()) {
            refusal(&error).expect("57014", &[]);
        }
        thread::sleep(Duration::from_millis(20));
        if round == 5 {
            before = open();
        }
    }
    assert!(open() <= before + 5, "{before} open files became {}", open());
    client.batch_execute("SET statement_timeout = 0").expect("a setting");
    query(&mut client, &pair.source.reset_sql()).expect("a reset");
    pair.source.feed(&pair.destination);
    assert_eq!(
        pair.source.text(&format!("SELECT count(*) FROM table_export.target WHERE name = '{TARGET}'")),
        "1"
    );
    drop(pair.store);
}
