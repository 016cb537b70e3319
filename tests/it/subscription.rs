//! Tables that a subscription writes to: what logical replication applies fires no statement triggers, and is
//! captured all the same.

use std::sync::LazyLock;

use crate::cluster::Cluster;
use crate::cluster::database::{Database, Refusal, wait_until};
use crate::cluster::mirror::{Mirror, rows};

static PUBLISHER: LazyLock<Cluster> = LazyLock::new(|| {
    Cluster::start_with(&["wal_level = logical", "max_replication_slots = 20", "max_wal_senders = 20"])
});
static SHARED: LazyLock<[Cluster; 2]> = LazyLock::new(|| {
    let workers = ["max_logical_replication_workers = 20", "max_worker_processes = 30"];
    [Cluster::start_with(&workers), Cluster::start()]
});

/// A publisher, whose subscriber is tracked and mirrored.
struct Chain {
    publisher: Database,
    mirror: Mirror,
    name: &'static str,
}

impl Chain {
    fn new(name: &'static str, tables: &str) -> Chain {
        let mirror = Mirror::new(&SHARED[0], &SHARED[1], name);
        PUBLISHER.create_database(name);
        let publisher = Database::of(&PUBLISHER, name, &mirror.store);
        publisher.run(tables);
        mirror.source.run(tables);
        publisher.run(&format!(
            "CREATE PUBLICATION {name} FOR ALL TABLES WITH (publish_via_partition_root = true)"
        ));
        Chain { publisher, mirror, name }
    }

    fn subscribe(&self) {
        let host = PUBLISHER.socket_dir().display();
        self.mirror.source.run(&format!(
            "CREATE SUBSCRIPTION {0} CONNECTION 'host={host} user=postgres dbname={0}' PUBLICATION {0}",
            self.name
        ));
    }

    /// Waits until the subscriber has what the publisher has, exports that, and compares the copy.
    #[track_caller]
    fn assert_follows(&self, tables: &[&str]) {
        for table in tables {
            let query = format!("SELECT * FROM {table}");
            wait_until(&format!("{table} is replicated"), || {
                rows(&self.publisher, &query) == rows(&self.mirror.source, &query)
            });
        }
        self.mirror.export("");
        self.mirror.import();
        self.mirror.assert_same_tables(tables);
    }

    #[track_caller]
    fn assert_follows_each(&self, tables: &[&str], statements: &[&str]) {
        for statement in statements {
            self.publisher.run(statement);
            self.assert_follows(tables);
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // Its worker would go on to log that the publisher is gone.
        if !std::thread::panicking() {
            self.mirror.source.run(&format!("DROP SUBSCRIPTION IF EXISTS {}", self.name));
        }
    }
}

const ITEMS: &str = "CREATE TABLE items (id int PRIMARY KEY, note text)";

const CHANGES: [&str; 7] = [
    "INSERT INTO items SELECT i, 'first' FROM generate_series(1, 50) AS i",
    "UPDATE items SET note = 'second' WHERE id % 3 = 0",
    "UPDATE items SET id = id + 100 WHERE id % 5 = 0",
    "DELETE FROM items WHERE id % 7 = 0",
    "BEGIN; INSERT INTO items VALUES (200, 'a'); UPDATE items SET id = 201 WHERE id = 200; DELETE FROM items WHERE id = 1; COMMIT",
    "TRUNCATE items",
    "INSERT INTO items VALUES (1, 'again')",
];

#[test]
fn a_table_that_is_tracked_after_it_was_subscribed_follows() {
    let chain = Chain::new("tracked_after", ITEMS);
    chain.subscribe();
    chain.mirror.track(&["items"]);
    chain.assert_follows_each(&["items"], &CHANGES);
}

#[test]
fn a_table_that_is_subscribed_after_it_was_tracked_follows() {
    let chain = Chain::new("subscribed_after", ITEMS);
    chain.mirror.track(&["items"]);
    chain.mirror.follow("");
    chain.publisher.run("INSERT INTO items SELECT i, 'before' FROM generate_series(1, 500) AS i");
    chain.subscribe();
    chain.assert_follows(&["items"]);
    chain.publisher.run("DELETE FROM items");
    chain.assert_follows_each(&["items"], &CHANGES);
    // What is written here still counts, and so does what is written when the subscription is gone.
    chain
        .mirror
        .source
        .run("INSERT INTO items VALUES (300, 'own'), (301, 'own'); DELETE FROM items WHERE id = 300");
    chain.mirror.follow("");
    chain.mirror.assert_same_tables(&["items"]);
    chain.mirror.source.run(&format!("DROP SUBSCRIPTION {}", chain.name));
    chain.mirror.source.run("UPDATE items SET id = id + 1000");
    chain.mirror.follow("");
    chain.mirror.assert_same_tables(&["items"]);
}

#[test]
fn a_table_that_is_added_to_a_subscription_follows() {
    let chain = Chain::new("refreshed", ITEMS);
    chain.subscribe();
    let lines = "CREATE TABLE lines (id int PRIMARY KEY, note text)";
    chain.mirror.source.run(lines);
    chain.mirror.track(&["items", "lines"]);
    chain.publisher.run(lines);
    chain.publisher.run("INSERT INTO lines SELECT i, 'first' FROM generate_series(1, 50) AS i");
    chain.mirror.source.run(&format!("ALTER SUBSCRIPTION {} REFRESH PUBLICATION", chain.name));
    chain.assert_follows(&["items", "lines"]);
    chain.assert_follows_each(
        &["lines"],
        &["UPDATE lines SET id = id + 100 WHERE id < 10", "DELETE FROM lines WHERE id > 40"],
    );
}

#[test]
fn partitions_of_a_subscribed_table_follow() {
    let chain = Chain::new(
        "parted",
        "CREATE TABLE items (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
         CREATE TABLE items_low PARTITION OF items FOR VALUES FROM (MINVALUE) TO (100);
         CREATE TABLE items_high PARTITION OF items FOR VALUES FROM (100) TO (MAXVALUE);",
    );
    chain.mirror.track(&["items"]);
    chain.mirror.follow("");
    chain.subscribe();
    chain.assert_follows_each(&["items"], &CHANGES);
    // A partition that comes later is written to as well.
    chain.mirror.source.run(
        "ALTER TABLE items DETACH PARTITION items_high;
         CREATE TABLE items_middle PARTITION OF items FOR VALUES FROM (100) TO (1000);",
    );
    chain.assert_follows_each(
        &["items"],
        &[
            "INSERT INTO items VALUES (500, 'middle'), (2, 'low')",
            "UPDATE items SET id = id + 200 WHERE id IN (2, 500)",
        ],
    );
}

/// What a subscription writes to a parent is not its children's; what statements on the parent write is.
#[test]
fn a_child_of_a_subscribed_table_follows() {
    let chain = Chain::new("parents", ITEMS);
    chain.mirror.source.run("CREATE TABLE special (PRIMARY KEY (id)) INHERITS (items)");
    chain.mirror.track(&["special"]);
    chain.subscribe();
    let mirror = &chain.mirror;
    mirror.source.run("INSERT INTO special SELECT i, 'own' FROM generate_series(1, 20) AS i");
    mirror.follow("");
    for statement in [
        "UPDATE items SET note = 'by the parent' WHERE id < 5",
        "DELETE FROM items WHERE id > 15",
        "UPDATE items SET id = id + 100 WHERE id = 7",
        "TRUNCATE items",
    ] {
        mirror.source.run(statement);
        mirror.follow("");
        mirror.assert_same_tables(&["special"]);
    }
}

/// Event triggers can be disabled. Then the export sees that something is written that it cannot know of.
#[test]
fn a_subscription_that_was_not_noticed_is_refused() {
    let chain = Chain::new("unnoticed", ITEMS);
    chain.mirror.track(&["items"]);
    chain.mirror.follow("");
    chain.mirror.source.run("ALTER EVENT TRIGGER pg_table_export_members DISABLE");
    chain.subscribe();
    let export = format!("SELECT tx_export{}", chain.mirror.arguments("copy", ""));
    let refused = || -> Refusal { chain.mirror.source.refused(&export) };
    refused().expect("55000", &["event trigger \"pg_table_export_members\" is disabled", "ENABLE ALWAYS"]);
    chain.mirror.source.run("ALTER EVENT TRIGGER pg_table_export_members ENABLE ALWAYS");
    refused().expect("55000", &["items", "run: SELECT tx_track('public.items');"]);
    chain.mirror.source.run("SELECT tx_track('items')");
    chain.assert_follows_each(&["items"], &CHANGES);
}
