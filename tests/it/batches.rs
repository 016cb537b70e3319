//! Which changes are in which batch, in which order batches are applied, and what a copy shows meanwhile.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use crate::cluster::Store;
use crate::cluster::database::{query, refusal};
use crate::cluster::mirror::{Mirror, rows};

/// Makes a pair of databases with a tracked table `t` of 100 rows, which the copy has.
fn mirror(name: &str) -> Mirror {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) AS i";
    let mirror = Mirror::tracking(name, ddl, &["t"]);
    mirror.assert_same_tables(&["t"]);
    mirror
}

#[test]
fn a_transaction_that_commits_after_the_export_is_in_a_later_batch() {
    let mirror = mirror("concurrency");
    let mut slow = mirror.source.client();
    let mut run_slow =
        |sql: &str| slow.batch_execute(sql).unwrap_or_else(|error| panic!("{}", refusal(&error)));
    run_slow(
        "BEGIN; INSERT INTO t VALUES (1000, 'slow'); UPDATE t SET v = 'slow' WHERE id = 1;
              SAVEPOINT s; DELETE FROM t WHERE id = 2; RELEASE s",
    );
    mirror
        .source
        .run("BEGIN; INSERT INTO t VALUES (1001, 'prepared'); PREPARE TRANSACTION 'prepared in concurrency'");
    for id in 2000..2003 {
        mirror.source.run(&format!("INSERT INTO t VALUES ({id}, 'fast')"));
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
    }
    run_slow("UPDATE t SET v = 'slow, later' WHERE id = 3; COMMIT");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    mirror.source.run("COMMIT PREPARED 'prepared in concurrency'");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    assert_eq!(mirror.copy.text("SELECT count(*) FROM t WHERE id >= 1000"), "5");
    assert_eq!(mirror.export(""), "", "each change is in one batch");
}

#[test]
fn a_row_that_is_touched_often_ships_once() {
    let mirror = Mirror::shared("touched_twice");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text); SELECT tx_track('t')");
    mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, v text)");
    mirror.source.run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'");
    assert_eq!(mirror.export(""), "1|public.t|full|0|1");
    mirror.import();
    mirror.source.run("INSERT INTO t VALUES (2, 'a')");
    for n in 0..10 {
        mirror.source.run(&format!("UPDATE t SET v = 'n{n}'; BEGIN; UPDATE t SET v = v || '!'; COMMIT"));
    }
    mirror.source.run(
        "UPDATE t SET id = 3 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3; DELETE FROM t WHERE id = 1;
         INSERT INTO t VALUES (1, 'again'), (4, 'for a moment'); DELETE FROM t WHERE id = 4",
    );
    assert_eq!(mirror.export(""), "2|public.t|changes|4|2", "keys 1 to 4, of which 1 and 2 are left");
    assert_eq!(mirror.import(), "2|public.t|changes|0|1");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn the_first_import_needs_nothing_but_the_extension_and_the_table() {
    let mirror = Mirror::shared("first_import");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); SELECT tx_track('t')",
    );
    mirror.export("");
    let relations = "SELECT count(*) FROM pg_class";
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('t')"));
    let before = mirror.copy.text(relations);
    assert_eq!(mirror.import(), "1|public.t|full|0|1");
    mirror.assert_same_tables(&["t"]);
    assert_eq!(mirror.copy.text(relations), before, "no table is left behind either");
}

/// Copies files that one store has and another has not, as an administrator would carry them.
fn carry(from: &Store, to: &Store, is_wanted: impl Fn(&Path) -> bool) {
    for file in from.files().iter().filter(|file| is_wanted(file)) {
        let place = to.path().join(file);
        fs::create_dir_all(place.parent().unwrap_or(to.path())).expect("a folder");
        fs::copy(from.path().join(file), &place).expect("a file that can be copied");
        for path in place.ancestors().take_while(|path| *path != to.path()) {
            let owner = fs::metadata(to.path()).expect("the store");
            chown(path, Some(owner.uid()), Some(owner.gid())).expect("the server's user may read it");
        }
    }
}

#[test]
fn an_older_batch_never_undoes_a_newer_one() {
    let mirror = mirror("order");
    let stores = [1, 2, 3].map(|n| {
        mirror.source.run(&format!(
            "UPDATE t SET v = 'change {n}' WHERE id <= 10 * {n}; DELETE FROM t WHERE id = 50 + {n}"
        ));
        mirror.export("");
        mirror.store.copy()
    });
    let content = || rows(&mirror.copy, "SELECT * FROM t");
    let import_of =
        |store: &Store| format!("SELECT batch FROM tx_import('copy', store => '{}')", store.url());
    let carried = Store::new();
    let added = |newer: &Store, older: &Store| {
        let older = older.files();
        carry(newer, &carried, |file| !older.contains(&file.to_path_buf()));
    };
    let before = content();

    // The third arrives before the second.
    carry(&stores[0], &carried, |_| true);
    added(&stores[2], &stores[1]);
    mirror.copy.refused(&import_of(&carried)).expect("55000", &["batch 3", "batch 4"]);
    assert_eq!(content(), before, "nothing of it is applied, all or nothing");
    assert_eq!(mirror.copy.text(&import_of(&stores[0])), "2");
    mirror.copy.refused(&import_of(&carried)).expect("55000", &["batch 3", "batch 4"]);

    // Then the second.
    added(&stores[1], &stores[0]);
    assert_eq!(mirror.copy.text(&import_of(&carried)), "3\n4");
    mirror.assert_same_tables(&["t"]);

    // Again, and from disks that are older than what is applied.
    let after = content();
    assert_eq!(mirror.copy.text(&import_of(&carried)), "");
    for store in &stores[..2] {
        let mut client = mirror.copy.client();
        assert!(
            query(&mut client, &import_of(store)).is_ok_and(|rows| rows.is_empty()) || content() == after
        );
        assert_eq!(content(), after, "importing what is applied changes nothing");
    }
    assert_eq!(
        mirror.copy.text("SELECT string_agg(number::text, ' ' ORDER BY number) FROM table_export.receipt"),
        "1 2 3 4"
    );
}

#[test]
fn all_tables_are_read_at_one_instant() {
    let mirror = Mirror::shared("instant");
    // The first table takes a while to read, and the writer commits to all three all the time.
    mirror.source.run(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE c (LIKE a INCLUDING ALL);
         INSERT INTO a SELECT -i, repeat('x', 200) FROM generate_series(1, 200000) AS i",
    );
    let tables = ["a", "b", "c"];
    mirror.track(&tables);
    let done = AtomicBool::new(false);
    scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = mirror.source.client();
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                written += 1;
                let insert = tables.map(|table| format!("INSERT INTO {table} VALUES ({written});")).concat();
                client
                    .batch_execute(&format!("BEGIN; {insert} COMMIT"))
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            written
        });
        for round in 0..3 {
            if round > 0 {
                mirror.source.run("UPDATE a SET v = v || 'y' WHERE id < 0");
            }
            mirror.follow("");
            let new = tables.map(|table| rows(&mirror.copy, &format!("SELECT id FROM {table} WHERE id > 0")));
            assert!(
                new[0] == new[1] && new[1] == new[2],
                "{} {} {}",
                new[0].len(),
                new[1].len(),
                new[2].len()
            );
        }
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().is_ok_and(|written| written > 100));
    });
    mirror.follow("");
    mirror.assert_same_tables(&tables);
}

#[test]
fn an_export_that_is_rolled_back_is_healed() {
    for is_imported in [false, true] {
        let mirror = mirror(&format!("rolled_back_{is_imported}"));
        let export = format!("SELECT * FROM tx_export{}", mirror.arguments("copy", ""));
        mirror.source.run("DELETE FROM t WHERE id = 1; UPDATE t SET v = 'shipped twice' WHERE id = 2");
        mirror.source.run(&format!("BEGIN; {export}; ROLLBACK"));
        if is_imported {
            assert_eq!(mirror.import(), "2|public.t|changes|1|0");
        }
        mirror.source.run("INSERT INTO t VALUES (1, 'back'); UPDATE t SET v = 'later' WHERE id = 3");
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
        assert_eq!(mirror.export(""), "");
    }
}
