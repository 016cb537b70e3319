//! `pg_table_export.max_rate`: what it limits, and who sets it. How a limited call ends is in `cancels.rs`.

use std::time::{Duration, Instant};

use crate::cluster::database::{Database, query};
use crate::cluster::{COPY, SOURCE, Store};
use crate::stores::REPEAT_RANDOM;

/// kB per second.
const RATE: u64 = 625;

/// 625 kB of what `none` leaves as it is: a second.
const ROWS: &str = "INSERT INTO items SELECT 1000 + i, repeat_random(i), i FROM generate_series(1, 200) AS i";

/// Less than this is not waited for.
const STEP: Duration = Duration::from_millis(125);

/// Makes a call at a limited rate, which must take so many times the least that the rows need; a lower bound
/// holds on any machine.
#[track_caller]
fn takes(database: &Database, call: &str, times: u32) {
    let mut client = database.client();
    query(&mut client, &format!("SET pg_table_export.max_rate = {RATE}")).expect("a setting");
    let began = Instant::now();
    query(&mut client, call).expect("an answer");
    let (took, least) = (began.elapsed(), Duration::from_secs(1) * times - STEP);
    assert!(took >= least, "{call} took {took:?}");
}

#[test]
fn no_call_reads_or_writes_faster_than_told() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "rate", &store);
    let destination = Database::destination(&COPY, "rate", &store);
    source.run(REPEAT_RANDOM);
    source.run(ROWS);
    takes(&source, &source.call("tx_export", ", compression => 'none'"), 1);
    takes(&destination, &destination.import_sql(), 1);
    takes(&source, &source.call("tx_verify", ""), 1);
    takes(&destination, &destination.call("tx_verify", ""), 1);
    destination.run("UPDATE items SET note = '' WHERE id = 1100");
    takes(&destination, &destination.call("tx_repair", ""), 1);
    source.assert_equal(&destination);
    source.insert([5000]);
    source.export();
    destination.reset();
    let catch_up = format!("CALL tx_catch_up('reporting', store => '{}')", store.url());
    takes(&destination, &catch_up, 1);
    source.assert_equal(&destination);
    // It reads them, and writes them compressed, which halves hexadecimal digits at best.
    takes(&destination, &destination.call("tx_compact", ""), 1);
}

#[test]
fn what_is_stored_counts() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "rate_stored", &store);
    source.run(
        "INSERT INTO items SELECT 1000 + i, repeat('note ', 10000), i FROM generate_series(1, 200) AS i",
    );
    // 10 MB, which compression makes a few kB of: at the least rate, it is a matter of seconds.
    let bytes = source.text(&format!(
        "SET pg_table_export.max_rate = '1kB'; SET statement_timeout = '60s';
         SELECT sum(bytes) FROM tx_export('reporting', store => '{}')",
        store.url()
    ));
    assert!(bytes.parse::<u64>().expect("a number") < 30_000, "{bytes}");
}

#[test]
fn it_is_set_for_a_database_or_a_role_and_by_any_role() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "rate_set", &store);
    source.run("ALTER DATABASE rate_set SET pg_table_export.max_rate = '2MB'");
    assert_eq!(source.text("LOAD 'pg_table_export'; SHOW pg_table_export.max_rate"), "2MB");
    source.run(
        "CREATE ROLE rate_limited LOGIN; ALTER ROLE rate_limited SET pg_table_export.max_rate = 100;
         GRANT EXECUTE ON FUNCTION tx_prune() TO rate_limited",
    );
    let mut limited = SOURCE.client_as("rate_set", "rate_limited");
    query(&mut limited, "SELECT FROM tx_prune()").expect("a call, which loads the library");
    assert_eq!(query(&mut limited, "SHOW pg_table_export.max_rate").expect("a setting"), "100kB");
    query(&mut limited, "SET pg_table_export.max_rate = 50").expect("any role may set it");
    let refused = source.refused("LOAD 'pg_table_export'; SET pg_table_export.max_rate = -1");
    refused.expect("22023", &["max_rate"]);
    source.run("DROP OWNED BY rate_limited; DROP ROLE rate_limited");
}
