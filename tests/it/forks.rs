//! Histories that fork: an export, or the server that made it, is cut off, restored or promoted. The next
//! export and import make the destination equal to the source again. What only an administrator can decide is
//! refused, and a HINT gives the statement to run.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use batch::{Compression, Counted, Format, Header, Kind, Manifest, Writer};

use crate::cluster::database::{Database, TARGET, query, refusal, wait_until};
use crate::cluster::{Cluster, SOURCE, Store};

fn shared_pair(name: &str) -> (Store, Database, Database) {
    let store = Store::new();
    let source = Database::source(&SOURCE, name, &store);
    let destination = Database::destination(&SOURCE, &format!("{name}_copy"), &store);
    source.feed(&destination);
    (store, source, destination)
}

/// A server of its own, and a destination that has its first batch.
fn server_pair(name: &str) -> (Cluster, Store, Database, Database) {
    let (cluster, store) = (Cluster::start(), Store::new());
    let source = Database::source(&cluster, "shop", &store);
    let destination = Database::destination(&SOURCE, name, &store);
    source.feed(&destination);
    (cluster, store, source, destination)
}

/// Runs `outcome`, whose `{export}` publishes a batch and is undone, and goes on in both possible orders.
fn heals_after(name: &str, outcome: &str) {
    let (store, source, destination) = shared_pair(name);
    for round in 1..=4 {
        let imports_the_unknown_batch = round % 2 == 0;
        source.live_on(round * 100);
        let manifests = manifests(&store).len();
        let position = source.text("SELECT position FROM table_export.target");
        let export = format!("PERFORM * FROM ({}) AS e", source.export_sql());
        let undone = outcome.replace("{perform}", &export).replace("{export}", &source.export_sql());
        source.run(&undone);
        assert_eq!(source.text("SELECT position FROM table_export.target"), position, "not undone");
        assert_eq!(manifests + 1, self::manifests(&store).len(), "not published");
        if imports_the_unknown_batch {
            destination.import();
        }
        source.live_on(round * 100 + 50);
        source.feed(&destination);
    }
    assert_eq!(source.export(), "", "healed once, not for ever");
    assert_eq!(destination.import(), "");
}

fn manifests(store: &Store) -> Vec<PathBuf> {
    let is_manifest = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    store.files().into_iter().filter(is_manifest).collect()
}

/// Publishes a batch of a database that it does not know, with much in its manifest that healing needs not.
fn publish_unknown(store: &Arc<dyn store::Store>, before: &Manifest) -> Manifest {
    let number = before.number + 1;
    let writer = Writer::new(Arc::clone(store), TARGET, number, Compression::None).expect("a writer");
    let own = before.parts.iter().find(|part| part.name == "items").expect("a part");
    let other = |at: usize| batch::Column {
        name: format!("column {at}"),
        type_name: "x".repeat(10_000),
        not_null: false,
        ..own.columns[0].clone()
    };
    let columns = own.columns.iter().cloned().chain((own.columns.len()..1600).map(other)).collect();
    let part = writer.part("public", "items", columns, own.key.clone(), Kind::Changes, Format::Text);
    let part = part.expect("a part");
    let mut ids = part.ids().expect("a file");
    ids.write_all(b"1\n").expect("a file");
    let (ids, records) =
        (Counted { rows: 1, file: ids }, Counted { rows: 0, file: part.records().expect("a file") });
    let part = part.finish(ids, records).expect("a part");
    let header = Header {
        previous: Some(before.id),
        kind: Kind::Changes,
        source: before.source.clone(),
        former_publishers: Vec::new(),
        position: before.position.clone(),
        created_at: before.created_at.clone(),
        unchanged: Vec::new(),
    };
    writer.publish(header, vec![part]).expect("a batch")
}

#[test]
fn many_large_unknown_batches_take_the_memory_of_one() {
    let (folder, source, _destination) = shared_pair("large_unknown");
    let store = store::open(&folder.url(), || false).expect("a store");
    let mut last = batch::reader::manifest(&*store, TARGET, 1).expect("a manifest");
    for _ in 0..8 {
        last = publish_unknown(&store, &Manifest { parts: last.parts.clone(), ..last });
        last.parts[0].columns.truncate(3);
    }
    let owned =
        Command::new("chown").args(["-R", "--reference"]).args([folder.path(), folder.path()]).status();
    assert!(owned.is_ok_and(|status| status.success()), "the server's user may read the store");
    let mut client = source.client();
    query(&mut client, "SELECT count(*) FROM tx_targets").expect("a warm session");
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    let status = |field: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the backend");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number")
    };
    let before = status("VmRSS");
    let healed = client.query_one(&source.export_sql(), &[]).expect("one table");
    assert_eq!((healed.get(1), healed.get(2)), ("public.items", "changes"));
    let grown = status("VmHWM") - before;
    assert!(grown < 140_000, "{grown} kB for manifests of 16 MB");
}

#[test]
fn an_export_that_is_rolled_back_is_healed() {
    heals_after("rolled_back", "BEGIN; {export}; ROLLBACK");
}

#[test]
fn an_export_in_a_rolled_back_savepoint_is_healed() {
    heals_after("savepoint", "BEGIN; SAVEPOINT a; {export}; ROLLBACK TO a; COMMIT");
}

#[test]
fn an_export_in_a_failed_plpgsql_block_is_healed() {
    heals_after(
        "exception",
        "DO $$ BEGIN {perform}; RAISE 'undo'; EXCEPTION WHEN raise_exception THEN NULL; END $$",
    );
}

#[test]
fn an_export_in_a_rolled_back_serializable_transaction_is_healed() {
    heals_after("serializable", "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; {export}; ROLLBACK");
}

#[test]
fn a_first_export_that_is_rolled_back_is_healed() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "first", &store);
    let destination = Database::destination(&SOURCE, "first_copy", &store);
    source.run(&format!("BEGIN; {}; ROLLBACK", source.export_sql()));
    destination.import();
    source.run("DELETE FROM items WHERE id < 5");
    source.feed(&destination);
}

#[test]
fn healing_works_in_a_serializable_transaction() {
    let (_store, source, destination) = shared_pair("healer");
    source.live_on(100);
    source.run(&format!("BEGIN; {}; ROLLBACK", source.export_sql()));
    source.live_on(200);
    source.run(&format!("BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1; {}; COMMIT", source.export_sql()));
    destination.import();
    source.assert_equal(&destination);
    source.live_on(300);
    source.feed(&destination);
}

#[test]
fn what_a_healing_transaction_writes_afterwards_comes_with_the_next_batch() {
    let (_store, source, destination) = shared_pair("writer");
    source.live_on(100);
    source.run(&format!("BEGIN; {}; ROLLBACK", source.export_sql()));
    let done = AtomicBool::new(false);
    scope(|scope| {
        // Others commit all the while, so that the id that healing has assigned lies before the snapshot's
        // xmax.
        scope.spawn(|| {
            let mut client = source.client();
            while !done.load(Ordering::Relaxed) {
                client.batch_execute("SELECT pg_current_xact_id()").unwrap();
            }
        });
        let write = "UPDATE items SET note = 'after the export'";
        source.run(&format!("BEGIN; {}; {write}; COMMIT", source.export_sql()));
        done.store(true, Ordering::Relaxed);
    });
    destination.import();
    source.feed(&destination);
}

#[test]
fn a_second_export_in_a_transaction_is_refused() {
    let (_store, source, destination) = shared_pair("twice");
    source.live_on(100);
    let export = source.export_sql();
    source
        .refused(&format!("BEGIN; SAVEPOINT a; {export}; ROLLBACK TO a; {export}"))
        .expect("25001", &["Commit first"]);
    source.feed(&destination);
}

#[test]
fn a_truncate_of_a_lost_history_is_undone() {
    let (mut cluster, store, source, destination) = server_pair("truncated");
    let copy = cluster.copy();
    source.run("TRUNCATE items");
    source.feed(&destination);
    cluster.kill();
    let survivor = source_of(&copy, &store);
    survivor.feed(&destination);
    assert_eq!(destination.text("SELECT count(*) FROM items"), "10");
}

fn source_of(cluster: &Cluster, store: &Store) -> Database {
    Database::of(cluster, "shop", store)
}

#[test]
fn a_copied_data_directory_started_instead_is_healed() {
    let (mut cluster, store, source, destination) = server_pair("copied");
    source.live_on(100);
    source.feed(&destination);
    let copy = cluster.copy();
    for round in 2..6 {
        source.live_on(round * 100);
        source.feed(&destination);
    }
    cluster.kill();
    let survivor = source_of(&copy, &store);
    assert_ne!(survivor.content(), destination.content(), "nothing was lost");
    survivor.feed(&destination);
    survivor.live_on(200);
    survivor.feed(&destination);
    assert_eq!(survivor.export(), "");
}

#[test]
fn rows_that_only_a_lost_history_had_vanish() {
    let (mut cluster, store, source, destination) = server_pair("invented");
    let copy = cluster.copy();
    source.insert([1000]);
    source.run("DELETE FROM items WHERE id = 3; UPDATE items SET id = 2000 WHERE id = 4; UPDATE items SET note = 'lost' WHERE id = 5");
    source.feed(&destination);
    cluster.kill();
    let survivor = source_of(&copy, &store);
    // Nothing has changed here: all that is exported comes from the batch that is not known.
    assert_eq!(survivor.export().lines().count(), 2);
    destination.import();
    survivor.assert_equal(&destination);
    let ids = "SELECT string_agg(id::text, ',' ORDER BY id) FROM items";
    assert_eq!(destination.text(ids), "1,2,3,4,5,6,7,8,9,10");
    assert_eq!(destination.text("SELECT count(*) FROM items WHERE note = 'lost'"), "0");
}

#[test]
fn a_table_that_had_another_name_in_the_lost_history_is_healed() {
    let (mut cluster, store, source, destination) = server_pair("renamed");
    let copy = cluster.copy();
    for database in [&source, &destination] {
        database.run("ALTER TABLE lines RENAME TO rows");
    }
    source.run("UPDATE rows SET at = 'infinity' WHERE item < 5; INSERT INTO rows VALUES (1000, 1, now())");
    source.export();
    source.run("DELETE FROM rows WHERE item = 6");
    source.export();
    destination.import();
    cluster.kill();
    destination.run("ALTER TABLE rows RENAME TO lines");
    source_of(&copy, &store).feed(&destination);
}

#[test]
fn a_destination_that_missed_the_lost_history_ends_equal_as_well() {
    let (mut cluster, store, source, destination) = server_pair("fallen_behind");
    let copy = cluster.copy();
    source.live_on(100);
    source.export();
    source.live_on(200);
    source.export();
    cluster.kill();
    source_of(&copy, &store).feed(&destination);
}

/// A primary, and its standby that was disconnected when more was committed, exported and imported.
struct Failover {
    primary: Cluster,
    standby: Cluster,
    store: Store,
    old: Database,
    new: Database,
    destination: Database,
}

fn fail_over(name: &str) -> Failover {
    let (primary, store, old, destination) = server_pair(name);
    let standby = primary.standby();
    old.live_on(100);
    old.feed(&destination);
    standby.catch_up(&primary);
    standby.psql("postgres", "ALTER SYSTEM SET primary_conninfo = ''");
    standby.psql("postgres", "SELECT pg_reload_conf()");
    wait_until("the standby is disconnected", || {
        standby.psql("postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0\n"
    });
    for round in 2..4 {
        old.live_on(round * 100);
        old.feed(&destination);
    }
    standby.promote();
    let new = source_of(&standby, &store);
    assert_ne!(new.content(), destination.content(), "the standby has lost nothing");
    Failover { primary, standby, store, old, new, destination }
}

#[test]
fn a_promoted_standby_that_lost_commits_takes_over() {
    let mut failover = fail_over("promoted");
    failover.primary.kill();
    failover.new.live_on(200);
    failover.new.feed(&failover.destination);
    failover.new.live_on(300);
    failover.new.feed(&failover.destination);
}

#[test]
fn a_promoted_standby_takes_over_again_and_again() {
    let failover = fail_over("promoted_twice");
    failover.new.feed(&failover.destination);
    let second = failover.standby.standby();
    second.catch_up(&failover.standby);
    failover.new.live_on(400);
    failover.new.feed(&failover.destination);
    second.promote();
    let newest = source_of(&second, &failover.store);
    newest.live_on(500);
    newest.feed(&failover.destination);
    failover.new.export_refused().expect("55000", &["newer timeline", "timeline 3"]);
}

#[test]
fn the_old_primary_is_refused_until_it_is_told_to_take_over() {
    let failover = fail_over("old_primary");
    let Failover { old, new, destination, .. } = &failover;
    // Before the new primary has exported, nothing tells the old one.
    old.live_on(400);
    old.feed(destination);
    new.feed(destination);
    old.live_on(500);
    let before = old.text("SELECT * FROM table_export.target");
    old.export_refused().expect(
        "55000",
        &[
            "has been taken over by a newer timeline",
            "target \"reporting\"",
            "timeline 2",
            "timeline 1",
            "SELECT tx_reset('reporting')",
        ],
    );
    assert_eq!(old.text("SELECT * FROM table_export.target"), before);
    new.assert_equal(destination);

    old.reset();
    assert_eq!(old.export().lines().filter(|line| line.ends_with("full")).count(), 2);
    destination.import();
    old.assert_equal(destination);

    // And back again.
    new.live_on(600);
    new.feed(destination);
}

#[test]
fn a_standby_refuses_to_write() {
    let (primary, store, _source, _destination) = server_pair("standby");
    let standby = primary.standby();
    standby.catch_up(&primary);
    let follower = source_of(&standby, &store);
    let files = store.files();
    follower.export_refused().expect("25006", &["tx_export()", "recovery", "Run it on the primary."]);
    follower
        .refused(&follower.import_sql())
        .expect("25006", &["tx_import()", "recovery", "Run it on the primary."]);
    for (call, function) in [
        (follower.reset_sql(), "tx_reset()"),
        ("SELECT tx_track('items')".to_owned(), "tx_track()"),
        ("SELECT tx_untrack('items')".to_owned(), "tx_untrack()"),
    ] {
        follower.refused(&call).expect("25006", &[function]);
    }
    follower.refused("SELECT * FROM tx_export('reporting')").expect("25006", &["recovery"]);
    assert!(!standby.data_dir().join("pg_table_export").exists(), "a refused export made a folder");
    assert_eq!(store.files(), files);
}

#[test]
fn all_views_answer_on_a_hot_standby() {
    let (primary, store, source, _destination) = server_pair("watched");
    source.live_on(100);
    let copy = Database::destination(&primary, "copy", &store);
    copy.import();
    let standby = primary.standby();
    standby.catch_up(&primary);
    let views = "SELECT relname FROM pg_class WHERE relkind = 'v' AND relname LIKE 'tx\\_%' ORDER BY 1";
    for (database, name) in [(source, "shop"), (copy, "copy")] {
        let follower = Database::of(&standby, name, &store);
        for view in database.text(views).lines().chain(["table_export.member"]) {
            let rows = format!("SELECT to_jsonb(r) - 'age' FROM {view} AS r");
            assert_eq!(follower.text(&rows), database.text(&rows), "{view}");
        }
        let verified = follower.text(&follower.call("tx_verify", ""));
        assert!(verified.lines().count() == 2 && verified.lines().all(|row| row.contains("|t|t|0|0|0|")));
    }
    primary.psql("shop", "INSERT INTO items VALUES (200, 'planned')");
    primary.psql("shop", &format!("SELECT FROM tx_export('reporting', store => '{}')", store.url()));
    let planned = Database::of(&standby, "copy", &store);
    let sql = planned.call("tx_plan", "").replace('*', "batch, table_name, inserted, obstacle");
    standby.catch_up(&primary);
    assert_eq!(planned.text(&sql), "2|public.items||\n2|public.lines||");
}

#[test]
fn another_database_with_the_same_target_is_refused_until_it_takes_over() {
    let (store, first, destination) = shared_pair("first_owner");
    let second = Database::source(&SOURCE, "second_owner", &store);
    second.run("DELETE FROM items WHERE id > 5; INSERT INTO items VALUES (77, 'of the second')");
    let files = store.files();
    second.export_refused().expect(
        "55000",
        &["\"reporting\" is in use by another database", "\"first_owner\"", "SELECT tx_reset('reporting')"],
    );
    assert_eq!(store.files(), files);
    first.assert_equal(&destination);

    second.reset();
    assert_eq!(second.export(), "2|public.items|full\n2|public.lines|full");
    destination.import();
    second.assert_equal(&destination);
    second.live_on(100);
    second.feed(&destination);

    first.export_refused().expect("55000", &["\"second_owner\"", "SELECT tx_reset('reporting')"]);
}

#[test]
fn another_cluster_with_the_same_target_is_refused() {
    let (store, _first, _destination) = shared_pair("owner");
    let stranger = Cluster::start();
    let second = Database::source(&stranger, "owner", &store);
    let identifier = SOURCE.psql("postgres", "SELECT system_identifier FROM pg_control_system()");
    second.export_refused().expect("55000", &["another database", identifier.trim(), "tx_reset"]);
}

/// Publishes a batch that its database does not know, damages the file of it whose name ends so, and resets.
fn needs_a_reset(name: &str, suffix: &str, damage: impl Fn(&mut Vec<u8>)) {
    let (store, source, destination) = shared_pair(name);
    source.live_on(100);
    let known = store.files();
    source.run(&format!("BEGIN; {}; ROLLBACK", source.export_sql()));
    for file in store.files() {
        if !known.contains(&file) && file.to_string_lossy().ends_with(suffix) {
            let mut bytes = fs::read(store.path().join(&file)).expect("the file");
            damage(&mut bytes);
            fs::write(store.path().join(&file), bytes).expect("the file");
        }
    }
    source.live_on(200);
    source.export_refused().expect(
        "55000",
        &[
            "batch 2 of target \"reporting\" is not known here and cannot be read",
            suffix,
            "SELECT tx_reset('reporting')",
        ],
    );
    source.reset();
    assert_eq!(source.export(), "3|public.items|full\n3|public.lines|full");
    destination.import();
    source.assert_equal(&destination);
}

#[test]
fn an_unknown_batch_whose_manifest_is_damaged_needs_a_reset() {
    needs_a_reset("unreadable_manifest", ".json", |bytes| bytes.truncate(100));
}

#[test]
fn an_unknown_batch_whose_manifest_is_of_the_future_needs_a_reset() {
    needs_a_reset("unreadable_future", ".json", |bytes| {
        *bytes = br#"{"format_version": 99, "target": {}}"#.to_vec();
    });
}

#[test]
fn an_unknown_batch_whose_ids_are_damaged_needs_a_reset() {
    needs_a_reset("unreadable_ids", "items/ids.zst", |bytes| bytes.truncate(bytes.len() - 3));
}

#[test]
fn an_unknown_batch_whose_ids_are_flipped_needs_a_reset() {
    needs_a_reset("unreadable_bit", "items/ids.zst", |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
}

#[test]
fn of_two_primaries_that_export_at_once_one_wins() {
    let (cluster, store, one, destination) = server_pair("two_primaries");
    let copy = cluster.copy();
    let other = source_of(&copy, &store);
    one.live_on(100);
    other.live_on(200);
    let before = other.text("SELECT * FROM table_export.target");

    let mut blocker = other.client();
    blocker.batch_execute("BEGIN; LOCK TABLE lines IN ACCESS EXCLUSIVE MODE").expect("the lock");
    let refused = scope(|scope| {
        // It has looked at the store, and takes its snapshot when it gets the lock.
        let waiting = scope.spawn(|| other.export_refused());
        other.wait_until_blocked();
        one.export();
        blocker.batch_execute("COMMIT").expect("the lock is free");
        waiting.join().expect("an answer")
    });
    refused.expect(
        "40001",
        &["batch 2 of target \"reporting\"", "has been published by another export", "Export again."],
    );
    assert_eq!(other.text("SELECT * FROM table_export.target"), before);
    destination.import();
    one.assert_equal(&destination);

    other.feed(&destination);
    one.feed(&destination);
    assert_only_published(&store);
}

/// Makes sure that all data belongs to a batch that exists.
fn assert_only_published(store: &Store) {
    let published = manifests(store)
        .iter()
        .map(|path| fs::read_to_string(store.path().join(path)).expect("a manifest"))
        .collect::<String>();
    for file in store.files() {
        let components = file.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>();
        if components[1] == "data" {
            assert!(published.contains(components[3].as_ref()), "{} was left behind", file.display());
        }
    }
}

#[test]
fn abandoned_exports_leave_no_files_for_ever() {
    let (store, source, destination) = shared_pair("abandoned");
    source.run("INSERT INTO items SELECT i, repeat('x', 1000) FROM generate_series(1000, 20000) i");
    let mut client = source.client();
    client.batch_execute("SET statement_timeout = '30ms'").expect("a setting");
    if let Err(error) = query(&mut client, &source.export_sql()) {
        refusal(&error).expect("57014", &[]);
    }
    source.feed(&destination);
    assert_only_published(&store);
}

#[test]
fn a_server_with_the_default_store_can_still_be_backed_up() {
    let cluster = Cluster::start();
    let source = Database::source(&cluster, "shop", &Store::new());
    source.run(
        "CREATE TABLE a_name_of_no_unusual_length (id int PRIMARY KEY); SELECT tx_track('a_name_of_no_unusual_length')",
    );
    source.text("SELECT * FROM tx_export('db2.example.com/reporting')");
    // pg_basebackup, whose tar format has room for 100 bytes of a path.
    drop(cluster.copy());
}

/// Where batches are without any setting.
fn default_store(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().join("pg_table_export/pgsql_tmp.store")
}

#[test]
fn a_server_restored_with_the_store_inside_goes_on_after_a_reset_of_the_destination() {
    let mut cluster = Cluster::start();
    let unused = Store::new();
    let source = Database::source(&cluster, "shop", &unused);
    let destination = Database::destination(&SOURCE, "inside", &unused);
    let export = "SELECT * FROM tx_export('r')";
    let import = |cluster: &Cluster| {
        format!("SELECT * FROM tx_import('r', store => '{}')", default_store(cluster).display())
    };
    source.text(export);
    destination.text(&import(&cluster));
    let copy = cluster.copy();
    // As a backup of all files takes it: pg_basebackup leaves it out.
    assert!(!default_store(&copy).exists());
    let cp = Command::new("cp").arg("-a").args([default_store(&cluster), default_store(&copy)]).status();
    assert!(cp.expect("cp").success());
    source.live_on(100);
    source.text(export);
    source.live_on(200);
    source.text(export);
    destination.text(&import(&cluster));
    cluster.kill();

    // The store is as old as the server, so nothing shows what was lost, but the destination knows.
    let survivor = source_of(&copy, &unused);
    destination
        .refused(&import(&copy))
        .expect("55000", &["is behind this database", "Batch 3", "SELECT tx_reset('r')"]);
    for round in 3..6 {
        survivor.live_on(round * 100);
        survivor.text(export);
        destination.refused(&import(&copy)).expect("55000", &["SELECT tx_reset('r')"]);
    }
    destination.run("SELECT tx_reset('r')");
    destination.text(&import(&copy));
    survivor.assert_equal(&destination);
}

#[test]
fn a_source_restored_to_a_point_in_time_is_healed() {
    let (archive, store) = (Store::new(), Store::new());
    let archiving = format!("archive_command = 'cp \"%p\" \"{}/%f\"'", archive.path().display());
    let mut cluster = Cluster::start_with(&["archive_mode = on", &archiving]);
    let source = Database::source(&cluster, "shop", &store);
    let destination = Database::destination(&SOURCE, "point_in_time", &store);
    source.feed(&destination);
    let mut restored = cluster.backup();
    source.live_on(100);
    source.feed(&destination);
    // Committed before that point, exported after it.
    source.live_on(200);
    let then = source.content();
    source.run("SELECT pg_create_restore_point('before the accident')");
    for round in 3..6 {
        source.live_on(round * 100);
        source.feed(&destination);
    }
    source.run("TRUNCATE items");
    source.feed(&destination);
    source.run("SELECT pg_switch_wal()");
    cluster.stop();

    restored.recover(archive.path(), "before the accident");
    let source = source_of(&restored, &store);
    assert_eq!(source.content(), then);
    source.feed(&destination);
    source.live_on(300);
    source.feed(&destination);
}

#[test]
fn a_destination_restored_to_an_earlier_state_catches_up() {
    let cluster = Cluster::start();
    let store = Store::new();
    let source = Database::source(&SOURCE, "restored", &store);
    let destination = Database::destination(&cluster, "shop", &store);
    source.feed(&destination);
    let copy = cluster.copy();
    for round in 1..4 {
        source.live_on(round * 100);
        source.feed(&destination);
    }
    let restored = source_of(&copy, &store);
    restored.import();
    source.assert_equal(&restored);
    destination.import();
    source.assert_equal(&destination);
}

#[test]
fn a_key_that_changed_since_the_lost_history_is_sent_in_full() {
    let (mut cluster, store, source, destination) = server_pair("rekeyed");
    let copy = cluster.copy();
    source.live_on(100);
    source.feed(&destination);
    cluster.kill();
    let survivor = source_of(&copy, &store);
    survivor.run(
        "DELETE FROM lines; SELECT tx_untrack('lines');
         ALTER TABLE lines DROP CONSTRAINT lines_pkey, ADD PRIMARY KEY (line, item);
         SELECT tx_track('lines')",
    );
    survivor.insert(500..510);
    survivor.feed(&destination);
}

#[test]
fn a_clone_does_not_publish_unless_it_is_told_to() {
    let (store, source, destination) = shared_pair("cloned_source");
    SOURCE.create_database_with("staging", "TEMPLATE cloned_source");
    let clone = Database::of(&SOURCE, "staging", &store);
    let files = store.files();
    let hint = "run: ALTER DATABASE staging SET pg_table_export.publish = off;";
    clone.export_refused().expect("55000", &["\"reporting\" is in use by another database", hint]);
    clone.run("ALTER DATABASE staging SET pg_table_export.publish = off");
    let reset = "ALTER DATABASE staging RESET pg_table_export.publish;";
    clone.export_refused().expect("55000", &["database \"staging\" must not publish batches", reset]);
    clone
        .refused(&clone.reset_sql())
        .expect("55000", &["database \"staging\" must not publish batches", reset]);
    assert_eq!(store.files(), files);
    source.live_on(100);
    source.feed(&destination);
}

#[test]
fn a_clone_that_takes_over_after_the_source_has_gone_on_sends_everything() {
    let (store, source, destination) = shared_pair("cloned_early");
    SOURCE.create_database_with("cloned_late", "TEMPLATE cloned_early");
    let clone = Database::of(&SOURCE, "cloned_late", &store);
    source.live_on(100);
    source.feed(&destination);
    clone.live_on(200);
    clone.reset();
    assert_eq!(clone.export(), "3|public.items|full\n3|public.lines|full");
    destination.import();
    clone.assert_equal(&destination);
    source.export_refused().expect("55000", &["cloned_late", "tx_reset"]);
}

const PARTED: &str = "SELECT string_agg(p::text, ' ' ORDER BY id) FROM parted AS p";

/// A source with a partitioned table, and a destination that has its first batch.
fn parted_pair(cluster: &Cluster, name: &str) -> (Store, Database, Database) {
    let store = Store::new();
    let source = Database::source(cluster, name, &store);
    source.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE parted (id int PRIMARY KEY, mood mood) PARTITION BY RANGE (id);
         CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
         CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
         INSERT INTO parted SELECT i, 'happy' FROM generate_series(0, 199) AS i;
         SELECT tx_track('parted');",
    );
    let destination = Database::destination(&SOURCE, &format!("{name}_copy"), &store);
    destination.run("CREATE TYPE mood AS ENUM ('sad', 'happy')");
    destination.run(&source.text("SELECT tx_ddl('parted')"));
    source.feed(&destination);
    (store, source, destination)
}

/// What nobody has captured between the last export and the takeover.
fn lose_a_partition(source: &Database) {
    source.run("DROP TABLE parted_low");
}

fn disable_triggers_for_a_while(source: &Database) {
    let each = ["insert", "update", "delete", "truncate"];
    let always = each.map(|event| format!("ENABLE ALWAYS TRIGGER pg_table_export_{event}")).join(", ");
    source.run(&format!(
        "ALTER TABLE parted DISABLE TRIGGER ALL; UPDATE parted SET mood = 'sad'; ALTER TABLE parted {always}"
    ));
}

fn attach_a_partition(source: &Database) {
    source.run("CREATE TABLE parted_top AS SELECT 200 AS id, mood FROM parted WHERE id = 0");
    source.run("ALTER TABLE parted_top ALTER id SET NOT NULL");
    source.run("ALTER TABLE parted ATTACH PARTITION parted_top FOR VALUES FROM (200) TO (300)");
}

/// What is the same afterwards, as far as pg_upgrade keeps it, and is not.
fn take_a_partition_away_and_back(source: &Database) {
    source.run("ALTER TABLE parted DETACH PARTITION parted_low");
    source.run("DELETE FROM parted_low");
    source.run("VACUUM parted_low");
    source.run("ALTER TABLE parted ATTACH PARTITION parted_low FOR VALUES FROM (0) TO (100)");
}

fn empty_a_partition(source: &Database) {
    source.run("ALTER TABLE parted DETACH PARTITION parted_low; TRUNCATE parted_low");
    source.run("ALTER TABLE parted ATTACH PARTITION parted_low FOR VALUES FROM (0) TO (100)");
}

fn empty_a_partition_without_triggers(source: &Database) {
    source.run(
        "DO $$ DECLARE name name; BEGIN
             FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'parted_low'::regclass AND NOT tgisinternal LOOP
                 EXECUTE format('DROP TRIGGER %I ON parted_low', name);
             END LOOP; END $$",
    );
    source.run("TRUNCATE parted_low; ALTER TABLE parted_low ALTER mood SET DEFAULT 'sad'");
}

fn rewrite_a_column(source: &Database) {
    source.run("ALTER TABLE parted ALTER mood TYPE mood USING 'sad'");
}

#[test]
fn a_clone_that_takes_over_sends_what_its_triggers_have_missed() {
    for (name, change, kind) in [
        ("parted_drop", lose_a_partition as fn(&Database), "changes"),
        ("parted_disabled", disable_triggers_for_a_while, "full"),
        ("parted_attach", attach_a_partition, "changes"),
        ("parted_away", take_a_partition_away_and_back, "changes"),
        ("parted_empty", empty_a_partition, "changes"),
        ("parted_without", empty_a_partition_without_triggers, "full"),
        ("parted_rewrite", rewrite_a_column, "full"),
    ] {
        let (store, source, destination) = parted_pair(&SOURCE, name);
        change(&source);
        SOURCE.create_database_with(&format!("{name}_clone"), &format!("TEMPLATE {name}"));
        let clone = Database::of(&SOURCE, &format!("{name}_clone"), &store);
        clone.reset();
        assert_eq!(clone.export(), format!("2|public.parted|{kind}"), "{name}");
        destination.import();
        assert_eq!(clone.text(PARTED), destination.text(PARTED), "{name}");
    }
}

#[test]
fn a_clone_that_takes_over_goes_on_with_changes() {
    let (store, _source, destination) = parted_pair(&SOURCE, "parted_calm");
    SOURCE.create_database_with("parted_calm_clone", "TEMPLATE parted_calm");
    let clone = Database::of(&SOURCE, "parted_calm_clone", &store);
    clone.reset();
    clone.run("DELETE FROM parted WHERE id = 1");
    assert_eq!(clone.export(), "2|public.parted|changes");
    destination.import();
    assert_eq!(clone.text(PARTED), destination.text(PARTED));
}

#[test]
fn a_batch_of_a_database_that_has_not_taken_over_is_not_applied() {
    let (_store, _source, destination) = shared_pair("true_source");
    let elsewhere = Store::new();
    let other = Database::source(&SOURCE, "other_source", &elsewhere);
    other.export();
    other.live_on(100);
    other.reset();
    assert_eq!(other.export(), "2|public.items|full\n2|public.lines|full");
    let misled = destination.with_store(&elsewhere);
    misled.import_refused().expect(
        "55000",
        &[
            "batch 2 of target \"reporting\" comes from another database",
            "\"other_source\"",
            "tx_reset('reporting');",
        ],
    );
    misled.reset();
    misled.import();
    other.assert_equal(&misled);
}

#[test]
fn an_extension_created_again_goes_on_with_what_it_had_taken_over() {
    let (store, first, destination) = shared_pair("recreated");
    SOURCE.create_database_with("recreated_clone", "TEMPLATE recreated");
    let clone = Database::of(&SOURCE, "recreated_clone", &store);
    clone.reset();
    clone.live_on(300);
    clone.export();
    let again = "DROP EXTENSION pg_table_export CASCADE; CREATE EXTENSION pg_table_export;
                 SELECT tx_track('items'); SELECT tx_track('lines')";
    first.run(again);
    let last = "in use by another database\nDETAIL: Batch 2 was published by";
    first.export_refused().expect("55000", &[last, "\"recreated_clone\""]);
    clone.run(again);
    assert_eq!(clone.export(), "3|public.items|full\n3|public.lines|full");
    destination.import();
    clone.assert_equal(&destination);
}

#[test]
fn an_export_to_a_store_without_the_last_batch_is_refused() {
    let (store, source, destination) = shared_pair("moved_store");
    let other = Store::new();
    source.insert([50]);
    let moved = source.with_store(&other);
    let refusal = moved.export_refused();
    let last = format!("It was published to store \"{}\".", store.url());
    refusal.expect("55000", &["does not hold batch 1 of target \"reporting\"", &last]);
    assert!(refusal.hint.ends_with("run: SELECT tx_reset('reporting');"), "{refusal}");
    // With the batches there, it goes on; with those of the same store taken away, as well.
    let copy = store.copy();
    assert_eq!(source.with_store(&copy).export(), "2|public.items|changes\n2|public.lines|changes");
    destination.with_store(&copy).import();
    fs::remove_dir_all(copy.path().join("reporting")).unwrap();
    source.insert([51]);
    assert_eq!(source.with_store(&copy).export(), "3|public.items|changes\n3|public.lines|changes");
    moved.run("SELECT tx_reset('reporting')");
    assert_eq!(moved.export(), "4|public.items|full\n4|public.lines|full");
    destination.with_store(&other).import();
    source.assert_equal(&destination);
}

#[test]
fn a_destination_follows_through_several_takeovers_that_it_has_not_seen() {
    let (store, first, destination) = shared_pair("publisher_1");
    let second = Database::source(&SOURCE, "publisher_2", &store);
    let third = Database::source(&SOURCE, "publisher_3", &store);
    for (round, publisher) in [&second, &third, &first, &second].into_iter().enumerate() {
        publisher.reset();
        publisher.live_on(100 * (round as i32 + 1));
        publisher.export();
        publisher.run("UPDATE items SET note = 'once more'");
        publisher.export();
    }
    destination.import();
    second.export();
    destination.import();
    second.assert_equal(&destination);
    let former = "SELECT jsonb_array_length(former_publishers) FROM table_export.target";
    assert_eq!(second.text(former), "2", "each once, without itself");
}

#[test]
fn a_position_outlives_what_vacuum_and_savepoints_do_to_its_row() {
    let (_store, source, destination) = shared_pair("frozen");
    source.run(&format!(
        "BEGIN; SAVEPOINT a; {}; RELEASE a; COMMIT",
        source.call("tx_export", ", even_if_unchanged => true")
    ));
    source.run("VACUUM FREEZE table_export.target");
    source.run("VACUUM FULL table_export.target");
    source.run("UPDATE items SET note = 'after that' WHERE id = 1");
    assert_eq!(source.export(), "3|public.items|changes");
    destination.import();
    source.assert_equal(&destination);
}

#[test]
fn a_source_goes_on_with_its_changes_after_pg_upgrade() {
    let (mut old, store, source, destination) = server_pair("upgraded");
    source.live_on(100);
    let position = source.text("SELECT position FROM table_export.target");
    old.stop();
    let new = old.upgrade();
    let upgraded = source_of(&new, &store);
    assert_eq!(upgraded.text("SELECT position FROM table_export.target"), position);
    upgraded.live_on(200);
    upgraded
        .export_refused()
        .expect("55000", &["in use by another database", "SELECT tx_reset('reporting');"]);
    // Nothing is released meanwhile.
    upgraded.run("SELECT * FROM tx_prune()");
    upgraded.reset();
    assert_eq!(upgraded.export(), "2|public.items|changes\n2|public.lines|changes");
    destination.import();
    upgraded.assert_equal(&destination);
    upgraded.live_on(300);
    upgraded.feed(&destination);
}

#[test]
fn after_pg_upgrade_a_takeover_sends_what_triggers_had_missed_before() {
    for (change, kind) in [
        (lose_a_partition as fn(&Database), "full"),
        (attach_a_partition, "full"),
        (take_a_partition_away_and_back, "full"),
        (disable_triggers_for_a_while, "full"),
        (empty_a_partition, "full"),
        (empty_a_partition_without_triggers, "full"),
        (rewrite_a_column, "full"),
        (|source: &Database| source.run("DELETE FROM parted WHERE id = 1"), "changes"),
        (|source: &Database| source.run("ALTER TYPE mood RENAME VALUE 'happy' TO 'glad'"), "full"),
    ] {
        let mut old = Cluster::start();
        let (store, source, destination) = parted_pair(&old, "upgraded_parted");
        change(&source);
        old.stop();
        let new = old.upgrade();
        let upgraded = Database::of(&new, "upgraded_parted", &store);
        upgraded.reset();
        assert_eq!(upgraded.export(), format!("2|public.parted|{kind}"));
        destination.run("ALTER TYPE mood ADD VALUE 'glad'");
        destination.import();
        assert_eq!(upgraded.text(PARTED), destination.text(PARTED));
        SOURCE.psql("postgres", "DROP DATABASE upgraded_parted_copy");
    }
}

#[test]
fn a_lost_full_batch_that_does_not_name_a_table_is_healed_by_a_full_one() {
    let (mut cluster, store, source, _destination) = server_pair("lost_full");
    let copy = cluster.copy();
    source.run("SELECT tx_untrack('lines')");
    source.reset();
    assert_eq!(source.export(), "2|public.items|full");
    cluster.kill();
    let survivor = source_of(&copy, &store);
    assert_eq!(survivor.export(), "3|public.items|full\n3|public.lines|full");
    let newcomer = Database::destination(&SOURCE, "lost_full_newcomer", &store);
    newcomer.import();
    survivor.assert_equal(&newcomer);
}
