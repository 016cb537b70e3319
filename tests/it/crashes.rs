//! Crashes and interruptions: whenever a server is killed, and wherever a statement is cut off, nothing that
//! was published is taken back, nothing that was committed is skipped, and the next export and import end
//! equal.
//!
//! Random moments come from a seed, which a failure prints; `SEED=… cargo test` repeats it, `ROUNDS=…` goes
//! on longer.

use std::fs;
use std::process::Command;
use std::thread::{self, scope, sleep};
use std::time::{Duration, Instant};

use crate::cluster::database::{Database, TARGET, query, refusal, wait_until};
use crate::cluster::forgetful::Pair;
use crate::cluster::random::{Random, from_environment};

/// A pair whose copy has the first ten rows, all of it on disk.
fn pair() -> Pair {
    let pair = Pair::start();
    pair.source.feed(&pair.destination);
    pair.checkpoint();
    pair
}

fn rounds(default: u64) -> u64 {
    from_environment("ROUNDS", default)
}

#[test]
fn a_commit_that_was_exported_survives_a_crash() {
    let mut pair = pair();
    pair.source.run("INSERT INTO items VALUES (100, 'seen by an export')");
    pair.source.export();
    pair.crash_source();
    assert_eq!(pair.source.text("SELECT note FROM items WHERE id = 100"), "seen by an export");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_commit_that_was_published_survives_a_crash_even_if_its_export_does_not() {
    let mut pair = pair();
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
fn an_export_that_has_committed_is_not_forgotten() {
    let mut pair = pair();
    // Changes retained for this target are not truncated: a transaction that truncates waits for the disk anyway.
    pair.source.with_target("slow").export();
    for id in [100, 101] {
        pair.source.insert([id]);
        pair.source.export();
    }
    pair.crash_source();
    let last = pair.source.text(&format!("SELECT number FROM table_export.target WHERE name = '{TARGET}'"));
    assert_eq!(last, "3", "its commit did not wait for the disk");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_commit_that_a_crash_undoes_never_shows_at_the_destination() {
    let mut pair = pair();
    pair.source.run("INSERT INTO items VALUES (100, 'forgotten')");
    pair.crash_source();
    assert_eq!(pair.source.text("SELECT count(*) FROM items WHERE id = 100"), "0");
    pair.source.feed(&pair.destination);
}

#[test]
fn a_transaction_id_that_is_handed_out_again_never_counts_as_exported() {
    let mut pair = pair();
    let mut reused = 0;
    for round in 1..=6 {
        // Ids that the position has passed, and ids after it: none of these transactions reaches the disk by
        // itself.
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
    let mut pair = pair();
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

#[test]
fn a_killed_backend_takes_nothing_back() {
    let pair = pair();
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

/// Runs a call in a session of its own, and does something to its backend after a while. Returns how the call
/// ended.
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

/// Cuts a call off by a function that takes a pid, and waits until its backend has released its locks.
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

/// Touches every row, so that the next batch is large, and runs `cut` at moments spread over an export and an
/// import.
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
        // A backend that is terminated just after its commit cannot tell any more that it has committed.
        if !["done", "57P01", ""].contains(&ending.as_str()) {
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
    let pair = pair();
    let endings =
        interrupt(&pair, |database, call, after| cut_off_by("pg_terminate_backend", database, call, after));
    assert!(
        endings.iter().any(|ending| ending == "57P01" || ending.is_empty()),
        "none was cut off: {endings:?}"
    );
}

#[test]
fn a_cancelled_statement_leaves_nothing_half_done() {
    let pair = pair();
    let endings =
        interrupt(&pair, |database, call, after| cut_off_by("pg_cancel_backend", database, call, after));
    assert!(endings.iter().any(|ending| ending == "57014"), "none was cut off: {endings:?}");
}

#[test]
fn a_statement_timeout_leaves_the_session_usable() {
    let pair = pair();
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
    let pair = pair();
    grow(&pair);
    let mut client = pair.source.client();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    // Files of tables are PostgreSQL's own, which keeps as many of them open as it likes (fd.c).
    let is_ours = |file: &fs::DirEntry| {
        fs::read_link(file.path()).is_ok_and(|path| !path.starts_with(pair.source_server.data_dir()))
    };
    let open = || {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the backend");
        files.filter_map(Result::ok).filter(is_ours).count()
    };
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
    assert!(open() <= before, "{before} open files became {}", open());
    client.batch_execute("SET statement_timeout = 0").expect("a setting");
    query(&mut client, &pair.source.reset_sql()).expect("a reset");
    pair.source.feed(&pair.destination);
    assert_eq!(
        pair.source.text(&format!("SELECT count(*) FROM table_export.target WHERE name = '{TARGET}'")),
        "1"
    );
    drop(pair.store);
}
