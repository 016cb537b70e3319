//! A call that waits for its store ends within a second, however it is told to.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::cluster::database::{Database, query, refusal, wait_until};
use crate::cluster::proxy::{Fault, Proxy};
use crate::cluster::servers::Server;
use crate::cluster::{COPY, Cluster, SOURCE, Store, program};
use crate::stores::{LARGE, Pair, REPEAT_RANDOM};

/// How a call is told to end.
#[derive(Clone, Copy, Debug)]
enum End {
    Cancel,
    Terminate,
    Timeout,
    LostClient,
}

impl End {
    const ALL: [End; 4] = [End::Cancel, End::Terminate, End::Timeout, End::LostClient];
}

/// What a call may take to end, on a machine that does much else.
const SOON: Duration = Duration::from_millis(1500);

/// The first statement_timeout tried.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Ends a call that waits for its store.
#[track_caller]
fn end(cluster: &Cluster, database: &Database, call: &str, is_waiting: impl Fn() -> bool, end: End) {
    database.wait_until_free();
    let took = match end {
        End::LostClient => lose_client(cluster, database, call, is_waiting),
        End::Timeout => end_by_timeout(database, call, is_waiting),
        _ => end_by_server(database, call, is_waiting, end),
    };
    assert!(took < SOON, "{call}: {end:?} after {took:?}");
}

fn end_by_server(database: &Database, call: &str, is_waiting: impl Fn() -> bool, end: End) -> Duration {
    let mut client = database.client();
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let (took, sqlstate) = scope(|scope| {
        let calling = scope.spawn(move || {
            let refused = query(&mut client, call).map_err(|error| refusal(&error)).expect_err("an end");
            (Instant::now(), refused.sqlstate)
        });
        wait_until("the call waits", is_waiting);
        // So that it really waits, on either thread.
        sleep(Duration::from_millis(300));
        let told = Instant::now();
        match end {
            End::Terminate => database.run(&format!("SELECT pg_terminate_backend({pid})")),
            _ => database.run(&format!("SELECT pg_cancel_backend({pid})")),
        }
        let (ended, sqlstate) = calling.join().expect("an end");
        (ended - told, sqlstate)
    });
    let expected = if matches!(end, End::Terminate) { ["57P01", ""] } else { ["57014", "57014"] };
    assert!(expected.contains(&sqlstate.as_str()), "{call}: {end:?}: {sqlstate}");
    took
}

/// Tries longer and longer timeouts, until one ends the call while it waits for its store.
fn end_by_timeout(database: &Database, call: &str, is_waiting: impl Fn() -> bool) -> Duration {
    let mut timeout = TIMEOUT;
    loop {
        let mut client = database.client();
        let set = format!("SET statement_timeout = {}", timeout.as_millis());
        client.batch_execute(&set).expect("a setting");
        let began = Instant::now();
        let refused = query(&mut client, call).map_err(|error| refusal(&error)).expect_err("an end");
        assert_eq!(refused.sqlstate, "57014", "{call}: {timeout:?}");
        if is_waiting() {
            return began.elapsed() - timeout;
        }
        timeout *= 2;
        database.wait_until_free();
    }
}

/// Kills the client, and waits until its backend has gone.
fn lose_client(
    cluster: &Cluster,
    database: &Database,
    call: &str,
    is_waiting: impl Fn() -> bool,
) -> Duration {
    let name = database.text("SELECT current_database()");
    let mut client = program("psql")
        .args(["-X", "-q", "-U", "postgres", "-d", &name, "-c", call, "-h"])
        .arg(cluster.socket_dir())
        .envs([("PGAPPNAME", "lost"), ("PGOPTIONS", "-c client_connection_check_interval=200")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("psql");
    wait_until("the call waits", is_waiting);
    sleep(Duration::from_millis(300));
    client.kill().expect("a client");
    client.wait().expect("an end");
    let killed = Instant::now();
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lost'";
    wait_until("its backend has gone", || database.text(backends) == "0");
    killed.elapsed()
}

/// Ends each call in each of its phases, known by words of the request that gets no answer; each phase in two
/// of the ways to end, and all calls together in all.
fn ends_in_each_phase(pair: &Pair, proxy: &Proxy, phases: &[(bool, String, &'static [&'static str])]) {
    for (at, &(at_source, ref call, words)) in phases.iter().enumerate() {
        for way in [End::ALL[at % 4], End::ALL[(at + 1) % 4]] {
            let stalled = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&stalled);
            proxy.decide(move |line| {
                if words.iter().all(|word| line.contains(word)) {
                    count.fetch_add(1, Ordering::SeqCst);
                    return Fault::Stall;
                }
                Fault::Pass
            });
            let is_waiting = || stalled.load(Ordering::SeqCst) > 0;
            let (cluster, database) = match at_source {
                true => (&pair.source_server, &pair.source),
                false => (&pair.destination_server, &pair.destination),
            };
            end(cluster, database, call, is_waiting, way);
        }
    }
    proxy.mend();
    pair.source.wait_until_free();
    pair.destination.wait_until_free();
}

/// What an export stalls at, its upload of records apart, and what the other calls do.
struct Words {
    list: &'static [&'static str],
    columns: &'static [&'static str],
    records: &'static [&'static [&'static str]],
    manifest: &'static [&'static str],
    delete: &'static [&'static str],
}

fn calls_end(pair: &Pair, proxy: &Proxy, words: &Words) {
    let Pair { source, destination, .. } = pair;
    source.run(REPEAT_RANDOM);
    source.feed(destination);
    source.run(LARGE);
    let export = source.export_sql().replace("')", "', compression => 'none')");
    let of_export =
        [words.list, words.columns, words.manifest].into_iter().chain(words.records.iter().copied());
    let phases = of_export.map(|words| (true, export.clone(), words)).collect::<Vec<_>>();
    ends_in_each_phase(pair, proxy, &phases);

    source.export();
    let (read_manifest, read_records): (&[&str], &[&str]) = (&["GET", ".json"], &["GET", "records"]);
    let call = |function, further| destination.call(function, further);
    let phases = [
        (false, destination.import_sql(), words.list),
        (false, destination.import_sql(), read_manifest),
        (false, destination.import_sql(), read_records),
        (false, call("tx_plan", ""), read_manifest),
        (false, call("tx_plan", ", try_rows => true"), read_records),
        (false, call("tx_verify", ""), read_manifest),
        (false, call("tx_verify", ""), read_records),
        (true, source.call("tx_verify", ""), read_records),
        (false, call("tx_repair", ""), read_records),
        (false, call("tx_compact", ""), read_records),
        (false, call("tx_compact", ""), words.manifest),
        (true, format!("SELECT * FROM tx_status('reporting', '{}')", source.store()), words.list),
        (true, format!("SELECT * FROM tx_status('reporting', '{}')", source.store()), read_manifest),
    ];
    ends_in_each_phase(pair, proxy, &phases);

    destination.import();
    source.reset();
    source.export();
    let expire = call("tx_expire", ", older_than => '0', keep_batches => 0");
    let phases = [words.list, read_manifest, words.delete].map(|words| (false, expire.clone(), words));
    ends_in_each_phase(pair, proxy, &phases);
    destination.text(&expire);
    destination.import();
    source.assert_equal(destination);
}

#[test]
fn a_call_that_waits_for_s3_ends_when_it_is_told_to() {
    let server = Server::s3s();
    let proxy = Proxy::start(server.address());
    let words = Words {
        list: &["GET", "list-type"],
        columns: &["PUT", "columns"],
        records: &[&["PUT", "partNumber"], &["POST", "uploadId"]],
        manifest: &["PUT", ".json"],
        delete: &["DELETE"],
    };
    calls_end(&Pair::on_s3(proxy.address(), "slow"), &proxy, &words);
}

#[test]
fn a_call_that_waits_for_webdav_ends_when_it_is_told_to() {
    let server = Server::apache();
    let proxy = Proxy::start(server.address());
    let words = Words {
        list: &["PROPFIND"],
        columns: &["PUT", "columns"],
        records: &[&["PUT", "records"]],
        manifest: &["MOVE"],
        delete: &["DELETE"],
    };
    let pair = Pair::at(&[], &format!("http://{}/open/slow", proxy.address()));
    calls_end(&pair, &proxy, &words);
}

/// Both threads wait in it: that of an export which writes, and the backend's own.
#[test]
fn a_call_that_is_limited_ends_when_it_is_told_to() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "limited", &store);
    let destination = Database::destination(&COPY, "limited", &store);
    source.run(REPEAT_RANDOM);
    source.run(LARGE);
    source.export();
    let import = destination.import_sql();
    let limit = |database: &Database, rate: &str| {
        database.run(&format!("ALTER DATABASE limited SET pg_table_export.max_rate = {rate}"));
    };
    let ends = |cluster: &Cluster, database: &Database, call: &str| {
        limit(database, "1");
        for way in End::ALL {
            let running = "SELECT count(*) FROM pg_stat_activity
                            WHERE datname = 'limited' AND state = 'active' AND query LIKE '%tx_%'
                              AND pid <> pg_backend_pid()";
            let is_waiting = || matches!(way, End::Timeout) || database.text(running) != "0";
            end(cluster, database, call, is_waiting, way);
        }
        limit(database, "0");
    };
    ends(&COPY, &destination, &import);
    destination.import();
    ends(&SOURCE, &source, &source.call("tx_verify", ""));
    source.reset();
    ends(&SOURCE, &source, &source.export_sql());
    source.insert([50_000]);
    source.feed(&destination);
    ends(&COPY, &destination, &destination.call("tx_verify", ""));
    ends(&COPY, &destination, &destination.call("tx_repair", ""));
    ends(&COPY, &destination, &destination.call("tx_compact", ""));
    source.feed(&destination);
}
