//! Dump and restore: a database that came out of pg_dump is another one. Its tracking works, but it publishes
//! only when told to, and its next export is full; nothing is taken for exported because transaction ids
//! look old.

use std::sync::LazyLock;

use crate::cluster::database::{Database, query};
use crate::cluster::{Cluster, SOURCE, Store};

/// Two clusters whose next transaction ids are far apart.
static LOW: LazyLock<Cluster> = LazyLock::new(Cluster::start);
static HIGH: LazyLock<Cluster> = LazyLock::new(|| {
    let cluster = Cluster::start();
    burn_ids(&cluster, 5000);
    cluster
});

fn burn_ids(cluster: &Cluster, count: u32) {
    cluster.psql(
        "postgres",
        &format!(
            "DO $$ BEGIN FOR i IN 1..{count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
        ),
    );
}

fn next_id(database: &Database) -> u64 {
    database.text("SELECT pg_snapshot_xmax(pg_current_snapshot())").parse().expect("a transaction id")
}

/// Dumps a database and restores it as another one.
fn restore(from: &Cluster, name: &str, to: &Cluster, new_name: &str, store: &Store) -> Database {
    to.create_database_with(new_name, "TEMPLATE template0");
    let dump = from.dump(name);
    to.psql(new_name, &dump);
    Database::of(to, new_name, store)
}

/// A source that has exported some batches, has changes that it has not exported, and a destination.
fn lived_in(cluster: &Cluster, name: &str, store: &Store) -> (Database, Database) {
    let source = Database::source(cluster, name, store);
    let destination = Database::destination(&SOURCE, &format!("{name}_copy"), store);
    source.feed(&destination);
    source.run("UPDATE items SET note = 'batch 2'; DELETE FROM lines WHERE item = 2");
    source.feed(&destination);
    source.run("UPDATE items SET note = 'not exported' WHERE id = 3; DELETE FROM items WHERE id = 4");
    (source, destination)
}

fn captures_everything(database: &Database) {
    assert_eq!(database.text("SELECT count(*), bool_and(triggers_intact) FROM tx_tracked"), "2|t");
    let changes = "SELECT sum(changes) FROM tx_tracked";
    let before: i64 = database.text(changes).parse().expect("a number");
    database.run(
        "SET session_replication_role = replica;
         INSERT INTO items VALUES (500); UPDATE items SET id = 501 WHERE id = 500; DELETE FROM items WHERE id = 501;
         INSERT INTO lines SELECT 500, i FROM generate_series(1, 3) i",
    );
    // Insert, both keys of the update, delete; and three lines.
    assert_eq!(database.text(changes), (before + 7).to_string());
}

/// Takes over with a restored database, whose next export is of a `kind`, from the one it came from.
fn takes_over(restored: &Database, destination: &Database, kind: &str) {
    captures_everything(restored);
    let is_full = if kind == "full" { "t" } else { "f" };
    assert_eq!(restored.text("SELECT pending IS NULL FROM tx_targets"), is_full);
    restored.export_refused().expect(
        "55000",
        &[
            "is in use by another database",
            "Batch 2",
            "pg_table_export.publish = off;",
            "tx_reset('reporting');",
        ],
    );
    restored.reset();
    assert_eq!(restored.export(), format!("3|public.items|{kind}\n3|public.lines|{kind}"));
    destination.import();
    restored.assert_equal(destination);
    restored.run("UPDATE items SET note = 'after'; TRUNCATE lines");
    restored.insert([600, 601]);
    assert_eq!(restored.export(), "4|public.items|changes\n4|public.lines|full");
    destination.import();
    restored.assert_equal(destination);
    for round in 0..4 {
        restored.run(&format!("UPDATE items SET amount = {round}"));
        restored.feed(destination);
    }
    // Rows that were dumped and restored do not stay in the shadow for ever.
    let changes: i64 = restored.text("SELECT sum(changes) FROM tx_tracked").parse().expect("a number");
    assert!(changes < 100, "{changes} changes are left in the shadows");
    restored.run("CREATE TABLE more (id int PRIMARY KEY); SELECT tx_track('more')");
    destination.run("CREATE TABLE more (id int PRIMARY KEY)");
    restored.feed(destination);
}

#[test]
fn a_restore_into_a_cluster_with_lower_ids_takes_over_with_a_full_batch() {
    let store = Store::new();
    let (source, destination) = lived_in(&HIGH, "to_lower", &store);
    let restored = restore(&HIGH, "to_lower", &LOW, "to_lower", &store);
    assert!(next_id(&restored) + 1000 < next_id(&source));
    takes_over(&restored, &destination, "full");
}

#[test]
fn a_restore_into_a_cluster_with_higher_ids_takes_over_with_a_full_batch() {
    let store = Store::new();
    let (source, destination) = lived_in(&LOW, "to_higher", &store);
    let restored = restore(&LOW, "to_higher", &HIGH, "to_higher", &store);
    assert!(next_id(&restored) > next_id(&source) + 1000);
    takes_over(&restored, &destination, "full");
}

#[test]
fn a_restore_into_another_database_of_the_cluster_takes_over_with_a_full_batch() {
    let store = Store::new();
    let (_source, destination) = lived_in(&SOURCE, "same_cluster", &store);
    let restored = restore(&SOURCE, "same_cluster", &SOURCE, "same_cluster_again", &store);
    takes_over(&restored, &destination, "full");
}

#[test]
fn a_clone_by_template_takes_over_with_its_changes() {
    let store = Store::new();
    let (_source, destination) = lived_in(&SOURCE, "original", &store);
    SOURCE.create_database_with("cloned", "TEMPLATE original");
    takes_over(&Database::of(&SOURCE, "cloned", &store), &destination, "changes");
}

#[test]
fn the_original_and_its_restored_copy_do_not_mix() {
    let store = Store::new();
    let (source, destination) = lived_in(&LOW, "mixed", &store);
    let restored = restore(&LOW, "mixed", &HIGH, "mixed", &store);
    source.feed(&destination);
    restored.run("UPDATE items SET note = 'restored'");
    restored
        .export_refused()
        .expect("55000", &["\"reporting\" is in use by another database", "SELECT tx_reset('reporting')"]);
    restored.reset();
    restored.export();
    destination.import();
    restored.assert_equal(&destination);
    source.export_refused().expect("55000", &["another database", "SELECT tx_reset('reporting')"]);
}

#[test]
fn a_restore_into_the_same_database_heals() {
    let store = Store::new();
    let (source, destination) = lived_in(&SOURCE, "in_place", &store);
    let dump = SOURCE.dump("in_place");
    // Exported after the dump, so that the dump knows nothing of it.
    source.run("UPDATE items SET note = 'after the dump'; INSERT INTO items VALUES (900)");
    source.feed(&destination);
    source.run("DROP EXTENSION pg_table_export CASCADE; DROP TABLE items, lines");
    SOURCE.psql("in_place", &dump);
    captures_everything(&source);
    source.feed(&destination);
    source.run("UPDATE items SET note = 'later'");
    source.feed(&destination);
}

/// The tables of our own schema, and each one's rows as a hash. A table has another OID after a restore, and
/// while its triggers come back one by one, shadows get rows that say that anything may have changed.
fn own_rows(database: &Database) -> String {
    let tables = "SELECT string_agg(format('SELECT %L AS t, md5(string_agg(v, E''\\n'' ORDER BY v)) FROM (SELECT (to_jsonb(r) - ''relation_oid'')::text AS v FROM %s AS r WHERE to_jsonb(r) ->> ''op'' IS DISTINCT FROM ''F'') AS s',
                                           c.oid::regclass, c.oid::regclass), ' UNION ALL ' ORDER BY c.relname)
                    FROM pg_class AS c
                   WHERE c.relnamespace = 'table_export'::regnamespace AND c.relkind = 'r'";
    database.text(&database.text(tables))
}

#[test]
fn every_way_of_restoring_an_archive_restores_everything() {
    let store = Store::new();
    let (source, destination) = lived_in(&HIGH, "archive", &store);
    // Rows that a parallel restore may load before those of their target.
    for number in 0..20 {
        source.run(&format!("UPDATE items SET note = '{number}' WHERE id = 3"));
        source.export();
    }
    destination.import();
    let folder = tempfile::tempdir().expect("a folder");
    let restored_from = |from: &Cluster, name: &str, ways: &[&[&str]], new_name: &str| {
        let archive = folder.path().join(new_name);
        from.dump_with(name, &["--format=custom", "--file", archive.to_str().expect("UTF-8")]);
        from.create_database_with(new_name, "TEMPLATE template0");
        ways.iter().for_each(|options| from.restore(new_name, &archive, options));
        Database::of(from, new_name, &store)
    };
    let sections: &[&[&str]] = &[&["--section=pre-data"], &["--section=data"], &["--section=post-data"]];
    let again: &[&[&str]] = &[&[], &["--clean", "--if-exists"]];
    let expected = (own_rows(&source), own_rows(&destination));
    for (name, ways) in [("jobs", &[&["--jobs=4"][..]][..]), ("sections", sections), ("clean", again)] {
        let restored = restored_from(&HIGH, "archive", ways, &format!("source_{name}"));
        assert_eq!(own_rows(&restored), expected.0, "{name}");
        let copy = restored_from(&SOURCE, "archive_copy", ways, &format!("copy_{name}"));
        assert_eq!(own_rows(&copy), expected.1, "{name}");
        captures_everything(&restored);
    }
}

#[test]
fn a_restored_destination_goes_on_where_its_dump_was() {
    let store = Store::new();
    let (source, destination) = lived_in(&SOURCE, "dumped_far", &store);
    let dumped = "dumped_far_copy";
    let restored = restore(&SOURCE, dumped, &LOW, dumped, &store);
    source.feed(&destination);
    restored.import();
    source.assert_equal(&restored);
    assert_eq!(restored.import(), "");
}

#[test]
fn a_dump_of_some_tables_alone_can_be_tracked_again() {
    let store = Store::new();
    let (_source, _destination) = lived_in(&SOURCE, "partly", &store);
    // Without the shadows, as when only the user's own schema is dumped: the triggers belong to nothing.
    SOURCE.create_database_with("partly_again", "TEMPLATE template0");
    SOURCE.psql("partly_again", "CREATE EXTENSION pg_table_export");
    let dump = SOURCE.dump_with("partly", &["--schema=public"]);
    SOURCE.psql("partly_again", &dump.replace("CREATE SCHEMA public;", ""));
    let elsewhere = Store::new();
    let restored = Database::of(&SOURCE, "partly_again", &elsewhere);
    restored.run("UPDATE items SET note = 'x'");
    restored.export_refused().expect("55000", &["no table is tracked in this database", "tx_track"]);
    // Tracking again is all it takes.
    restored.run("SELECT tx_track('items'); SELECT tx_track('lines')");
    let destination = Database::destination(&SOURCE, "partly_again_copy", &elsewhere);
    captures_everything(&restored);
    restored.feed(&destination);
}

#[test]
fn owners_and_rights_survive() {
    let store = Store::new();
    for cluster in [&*LOW, &*HIGH] {
        cluster.psql("postgres", "CREATE ROLE keeper LOGIN");
    }
    let source = Database::source(&LOW, "owned", &store);
    let destination = Database::destination(&SOURCE, "owned_copy", &store);
    source.run("ALTER TABLE items OWNER TO keeper; SELECT tx_track('items')");
    source.feed(&destination);
    let restored = restore(&LOW, "owned", &HIGH, "owned", &store);
    restored.reset();
    HIGH.client_as("owned", "keeper")
        .batch_execute("UPDATE items SET note = 'by its owner'")
        .expect("the owner writes");
    restored.feed(&destination);
    HIGH.client_as("owned", "keeper")
        .batch_execute("UPDATE items SET note = 'again'")
        .expect("the owner writes");
    restored.feed(&destination);
}

/// What pg_dump --table says of a tracked table has its triggers, but not what is remembered of it.
#[test]
fn a_table_of_a_dump_is_restored_among_tracked_tables() {
    let store = Store::new();
    let (source, _) = lived_in(&LOW, "one_table", &store);
    let dump = LOW.dump_with("one_table", &["--table=items", "--clean"]);
    let whole = |dump: &str| format!("BEGIN; {dump}; COMMIT");
    let rows = source.text("SELECT sum(id), count(*) FROM items");
    // Into its own database: DROP TABLE, and all again.
    LOW.psql("one_table", &whole(&dump));
    assert_eq!(source.text("SELECT sum(id), count(*) FROM items"), rows);
    source.run("INSERT INTO items VALUES (700)");
    let (mut client, said) = source.watched();
    query(&mut client, &source.export_sql()).unwrap();
    let said = said.lock().unwrap().join("\n");
    assert!(said.contains("table \"public.items\" has been dropped, and is not sent any more"), "{said}");
    source.run("SELECT tx_track('items')");
    assert_eq!(source.text("SELECT bool_and(triggers_intact) FROM tx_tracked"), "t");
    assert_eq!(source.text("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'items'::regclass"), "4");
    source.export();
    // Into another one, which tracks another table by the same number.
    LOW.create_database_with("one_table_elsewhere", "TEMPLATE template0");
    let other = Database::of(&LOW, "one_table_elsewhere", &store);
    other.run("CREATE EXTENSION pg_table_export");
    for table in ["a", "b", "c", "d"] {
        other.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY); SELECT tx_track('{table}')"));
    }
    let dump = LOW.dump_with("one_table", &["--table=items"]);
    LOW.psql("one_table_elsewhere", &whole(&dump));
    other.run("INSERT INTO items VALUES (701)");
    assert_eq!(other.text("SELECT sum(changes) FROM tx_tracked"), "0");
    other.run("SELECT tx_track('items'); INSERT INTO items VALUES (702)");
    assert_eq!(other.text("SELECT sum(changes), bool_and(triggers_intact) FROM tx_tracked"), "1|t");
}
