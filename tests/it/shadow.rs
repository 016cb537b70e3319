//! The size of shadows: it follows what targets have not been sent yet, also beside open transactions, and
//! stays bounded when one of the targets stops.

use crate::cluster::database::{Database, query};
use crate::cluster::{Cluster, Store};

const ROWS: i64 = 20_000;

/// A source whose table `items` has many rows, and a destination.
struct Load {
    source: Database,
    destination: Database,
    _store: Store,
    cluster: Cluster,
}

impl Load {
    fn new(settings: &[&str]) -> Load {
        let (cluster, store) = (Cluster::start_with(settings), Store::new());
        let source = Database::source(&cluster, "source", &store);
        let destination = Database::destination(&cluster, "destination", &store);
        // No two keys are consecutive, so that each change is a row of the shadow.
        source.run(&format!("INSERT INTO items SELECT 100 + 2 * i FROM generate_series(1, {ROWS}) AS i"));
        Load { source, destination, _store: store, cluster }
    }

    /// Changes every row once.
    fn round(&self) {
        self.source.run("UPDATE items SET amount = coalesce(amount, 0) + 1");
    }

    /// The bytes of both segments of the shadow of `items`.
    fn bytes(&self) -> i64 {
        self.number("SELECT bytes FROM table_export.shadow_size(1)")
    }

    fn number(&self, sql: &str) -> i64 {
        self.source.text(sql).parse().unwrap_or_else(|_| panic!("no number: {sql}"))
    }
}

#[test]
fn a_steady_load_leaves_less_than_three_rounds_at_any_isolation_level() {
    for (level, rounds) in [("read committed", 20), ("repeatable read", 4), ("serializable", 4)] {
        let load = Load::new(&[&format!("default_transaction_isolation = '{level}'")]);
        bears_a_steady_load(&load, rounds);
    }
}

fn bears_a_steady_load(load: &Load, rounds: u32) {
    load.source.run("CREATE TABLE other (id int)");
    let mut open = load.source.client();
    load.source.feed(&load.destination);
    open.batch_execute("BEGIN; INSERT INTO other VALUES (1)").unwrap_or_else(|error| panic!("{error}"));
    // The rows that came before tracking was exported count as well, until they are gone.
    let before = load.bytes();
    load.round();
    let round = load.bytes() - before;
    assert!(round > ROWS * 30, "a round is {round} bytes");
    for rounds in 0..rounds {
        load.source.export();
        let bytes = load.bytes();
        assert!(bytes < 3 * round, "{bytes} bytes after {rounds} rounds of {round}");
        load.round();
    }
    load.source.feed(&load.destination);
}

#[test]
fn a_target_that_stops_is_seen_and_released() {
    let settings =
        ["pg_table_export.shadow_limit = '3MB'", "default_transaction_isolation = 'repeatable read'"];
    let load = Load::new(&settings);
    let alive = load.source.with_target("alive");
    load.source.feed(&load.destination);
    load.source.insert([20]);
    let held_back = |target: &str| {
        load.number(&format!(
            "SELECT pg_size_bytes(coalesce(held_back, '0 bytes')) FROM tx_targets WHERE target = '{target}'"
        ))
    };
    let mut largest = 0;
    for _ in 0..12 {
        load.round();
        alive.export();
        largest = largest.max(held_back("reporting"));
        assert!(load.bytes() < 6 << 20, "the shadow has {} bytes", load.bytes());
    }
    assert!(largest > ROWS * 30, "it retained {largest} bytes");
    assert!(held_back("alive") <= held_back("reporting"));
    // Of the table whose shadow has stayed small it has missed nothing.
    assert_eq!(load.source.export(), "2|public.items|full\n2|public.lines|changes");
    load.destination.import();
    load.source.assert_equal(&load.destination);
    load.source.insert([21]);
    load.source.feed(&load.destination);
}

#[test]
fn a_transaction_that_keeps_a_shadow_from_being_truncated_is_named() {
    let load = Load::new(&["pg_table_export.shadow_limit = '3MB'", "max_prepared_transactions = 2"]);
    load.source.export();
    let mut idle = load.source.client();
    let begin = "BEGIN; UPDATE items SET note = 'idle' WHERE id = 1";
    idle.batch_execute(begin).unwrap_or_else(|error| panic!("{error}"));
    let prepared = "BEGIN; UPDATE items SET note = 'x' WHERE id = 2; PREPARE TRANSACTION 'forgotten'";
    load.source.run(prepared);
    let process = query(&mut idle, "SELECT pg_backend_pid()").unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..4 {
        load.source.run("UPDATE items SET amount = coalesce(amount, 0) + 1 WHERE id > 2");
        load.source.export();
    }
    let users = format!("prepared transaction \"forgotten\", process {process}");
    let in_use_by = "SELECT array_to_string(in_use_by, ', ') FROM tx_prune() LIMIT 1";
    assert_eq!(load.source.text(in_use_by), users);
    let log = load.cluster.log();
    assert!(log.contains(
        "the shadow of table \"public.items\" has outgrown pg_table_export.shadow_limit, but is in use"
    ));
    assert!(log.contains(&format!("It is locked by {users}.")));
    idle.batch_execute("COMMIT").unwrap_or_else(|error| panic!("{error}"));
    load.source.run("COMMIT PREPARED 'forgotten'");
    load.source.feed(&load.destination);
    assert_eq!(load.source.text(in_use_by), "");
}

#[test]
fn a_target_that_keeps_up_is_not_released_with_one_that_does_not() {
    let load = Load::new(&["pg_table_export.shadow_limit = '3MB'"]);
    let alive = ["first", "second", "third"].map(|target| load.source.with_target(target));
    load.source.export();
    alive.iter().for_each(|target| drop(target.export()));
    for round in 0..12 {
        load.round();
        for target in &alive {
            assert!(target.export().ends_with("public.items|changes"), "round {round}");
        }
    }
    assert!(load.source.export().contains("public.items|full"));
}

#[test]
fn without_a_limit_a_target_holds_back_what_it_has_not_seen() {
    let load = Load::new(&["pg_table_export.shadow_limit = -1"]);
    load.source.feed(&load.destination);
    for _ in 0..3 {
        load.round();
        assert_eq!(load.source.text("SELECT held_back_by FROM tx_prune() OFFSET 1"), "{}");
    }
    let held_back = "SELECT freed, held_back_by FROM tx_prune() LIMIT 1";
    assert_eq!(load.source.text(held_back), "0|{reporting}");
    assert_eq!(load.source.export(), "2|public.items|changes");
    load.destination.import();
    load.source.assert_equal(&load.destination);
}

#[test]
fn what_a_forgotten_target_held_back_is_pruned() {
    let load = Load::new(&[]);
    load.source.feed(&load.destination);
    load.round();
    load.source.text("SELECT * FROM tx_prune()");
    load.round();
    assert!(load.bytes() > 2 * ROWS * 30);
    load.source.run("SELECT tx_forget('reporting')");
    load.source.text("SELECT * FROM tx_prune()");
    load.source.text("SELECT * FROM tx_prune()");
    assert_eq!(load.bytes(), 0);
    // It can come back, in full.
    assert_eq!(load.source.export(), "2|public.items|full\n2|public.lines|full");
    load.destination.import();
    load.source.assert_equal(&load.destination);
}

#[test]
fn pruning_in_an_old_snapshot_keeps_what_a_new_target_needs() {
    let load = Load::new(&[]);
    let run = |client: &mut postgres::Client, sql| {
        client.batch_execute(sql).unwrap_or_else(|error| panic!("{error}"));
    };
    let mut old = [load.source.client(), load.source.client()];
    old.iter_mut().for_each(|client| run(client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT"));
    load.source.feed(&load.destination);
    load.round();
    old.iter_mut().for_each(|client| run(client, "SELECT * FROM tx_prune(); COMMIT"));
    assert_eq!(load.source.export(), "2|public.items|changes");
    load.destination.import();
    load.source.assert_equal(&load.destination);
}

#[test]
fn a_reset_target_holds_nothing_back() {
    let load = Load::new(&[]);
    load.source.feed(&load.destination);
    load.round();
    load.source.reset();
    load.source.text("SELECT * FROM tx_prune()");
    load.source.text("SELECT * FROM tx_prune()");
    assert_eq!(load.bytes(), 0);
    load.source.feed(&load.destination);
}
