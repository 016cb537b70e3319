//! One export and any number of destinations: they begin, fall behind, catch up and say how far they are,
//! while old batches are merged and removed, and the source knows nothing of it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, spawn};

use crate::cluster::database::{Database, TARGET, query, wait_until};
use crate::cluster::{Cluster, SOURCE, Store};

static COPIES: LazyLock<Cluster> = LazyLock::new(|| {
    Cluster::start_with(&[
        "pg_table_export.leave_receipts = on",
        "shared_preload_libraries = 'pg_table_export'",
    ])
});

const EXPIRE: &str = ", older_than => '0', keep_batches => 0";

fn source(name: &str) -> (Store, Database) {
    let store = Store::new();
    let source = Database::source(&SOURCE, name, &store);
    source.export();
    (store, source)
}

fn copy(name: &str, store: &Store) -> Database {
    Database::destination(&COPIES, name, store)
}

/// Exports some batches of changes.
fn batches(source: &Database, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        source.live_on(id * 100);
        assert_ne!(source.export(), "");
    }
}

/// Copies of which the first has applied one batch, the second two, and so on; the source is one further.
fn one_after_the_other(source: &Database, store: &Store, name: &str, copies: i32) -> Vec<Database> {
    let follows = |round| {
        let copy = copy(&format!("{name}_{round}"), store);
        copy.import();
        batches(source, [round]);
        copy
    };
    (1..=copies).map(follows).collect()
}

/// Numbers of the batches that an import applies.
fn applied(import: &str) -> Vec<u64> {
    let mut numbers = import.lines().map(|row| row.split('|').next().unwrap_or_default()).collect::<Vec<_>>();
    numbers.dedup();
    numbers.into_iter().filter_map(|number| number.parse().ok()).collect()
}

#[test]
fn a_new_destination_begins_with_a_compacted_batch() {
    let (store, source) = source("begins");
    batches(&source, 1..6);
    let compacted = source.text(&source.call("tx_compact", ", last => 4"));
    assert_eq!(compacted.lines().count(), 2);
    assert!(
        compacted.lines().all(|row| row.starts_with("4|4|public.") && row.contains("|full|0|")),
        "{compacted}"
    );
    let new = copy("begins_new", &store);
    assert_eq!(applied(&new.import()), [4, 5, 6]);
    source.assert_equal(&new);
    assert_eq!(new.import(), "");
    // Merged once more, from where the last compaction ended.
    let compacted = source.text(&source.call("tx_compact", ""));
    assert!(compacted.lines().all(|row| row.starts_with("6|3|public.")), "{compacted}");
    assert_eq!(source.text(&source.call("tx_compact", "")), "", "there is nothing to compact");
    let newer = copy("begins_newer", &store);
    assert_eq!(applied(&newer.import()), [6]);
    source.assert_equal(&newer);
    batches(&source, 6..7);
    for destination in [&new, &newer] {
        assert_eq!(applied(&destination.import()), [7]);
        source.assert_equal(destination);
    }
}

#[test]
fn a_compacted_batch_that_cannot_be_read_stops_no_import() {
    let (store, source) = source("unreadable");
    let behind = copy("unreadable_behind", &store);
    behind.import();
    batches(&source, 1..5);
    source.run(&source.call("tx_compact", ", last => 3"));
    source.run(&source.call("tx_compact", ""));
    source.run(&source.call("tx_compact", ", first => 2"));
    let compacted = |name: &str| store.path().join(TARGET).join("compacted").join(name);
    for name in ["0000000005-0000000000.json", "0000000005-0000000001.json"] {
        std::fs::write(compacted(name), "{}").expect("a file");
    }
    assert_eq!(applied(&behind.import()), [2, 3, 4, 5]);
    source.assert_equal(&behind);
    let new = copy("unreadable_new", &store);
    assert_eq!(applied(&new.import()), [3, 4, 5]);
    source.assert_equal(&new);
}

#[test]
fn a_destination_that_is_behind_takes_the_compacted_batch_from_wherever_it_is() {
    let (store, source) = source("behind");
    let middle = one_after_the_other(&source, &store, "behind", 4);
    batches(&source, 5..7);
    // They are at 1, 2, 3 and 4; the run is 3 to 6, and 7 is not in it.
    let compacted = source.text(&source.call("tx_compact", ", first => 3, last => 6"));
    assert!(
        compacted.lines().all(|row| row.starts_with("6|4|public.") && row.contains("|changes|")),
        "{compacted}"
    );
    let expected: [&[u64]; 4] = [&[2, 6, 7], &[6, 7], &[6, 7], &[6, 7]];
    for (destination, numbers) in middle.iter().zip(expected) {
        assert_eq!(applied(&destination.import()), numbers);
        source.assert_equal(destination);
        assert_eq!(destination.import(), "");
    }
}

#[test]
fn a_destination_whose_next_batch_is_gone_is_told_so_and_begins_again_if_it_may() {
    let (store, source) = source("gone");
    let [told, allowed] = ["gone_told", "gone_allowed"].map(|name| copy(name, &store));
    told.import();
    allowed.import();
    batches(&source, 1..5);
    let expired = source.text(&source.call("tx_expire", EXPIRE));
    assert_eq!(expired, "", "they are still needed to begin with");
    source.run(&source.call("tx_compact", ""));
    let expired = source.text(&source.call("tx_expire", ", older_than => '1 hour', keep_batches => 0"));
    assert_eq!(expired, "", "they are not old enough");
    let expired = source.text(&source.call("tx_expire", EXPIRE));
    assert_eq!(applied(&expired), [1, 2, 3, 4]);
    assert_eq!(source.text("SELECT string_agg(number::text, ',') FROM table_export.batch"), "5");
    told.import_refused()
        .expect("55000", &["batch 2 of target", "is missing", "restart_when_behind", "tx_reset"]);
    let import = format!("SET pg_table_export.restart_when_behind = on; {}", allowed.import_sql());
    assert_eq!(applied(&allowed.text(&import)), [5]);
    source.assert_equal(&allowed);
    told.reset();
    assert_eq!(applied(&told.import()), [5]);
    source.assert_equal(&told);
    batches(&source, 5..6);
    for destination in [&told, &allowed] {
        assert_eq!(applied(&destination.import()), [6]);
        source.assert_equal(destination);
    }
}

#[test]
fn a_restored_source_whose_lost_batches_have_expired_sends_everything() {
    let mut cluster = Cluster::start();
    let store = Store::new();
    let source = Database::source(&cluster, "shop", &store);
    let destination = copy("restored", &store);
    source.feed(&destination);
    let earlier = cluster.copy();
    batches(&source, 1..4);
    destination.import();
    destination.run(&destination.call("tx_compact", ""));
    destination.run(&destination.call("tx_expire", EXPIRE));
    cluster.kill();
    let restored = Database::of(&earlier, "shop", &store);
    assert_eq!(applied(&restored.export()), [5]);
    assert_eq!(applied(&destination.import()), [5]);
    restored.assert_equal(&destination);
}

#[test]
fn a_truncate_and_a_new_table_are_compacted_as_what_they_are() {
    let (store, source) = source("shapes");
    let behind = copy("shapes_behind", &store);
    behind.import();
    batches(&source, 1..3);
    source.run("TRUNCATE items");
    batches(&source, 3..4);
    let extra = "CREATE TABLE extra (id int PRIMARY KEY, v text)";
    source.run(&format!("{extra}; INSERT INTO extra VALUES (1, 'x'); SELECT tx_track('extra')"));
    batches(&source, 4..5);
    source.run("DELETE FROM extra; INSERT INTO extra VALUES (2, E'a\\tb\\n')");
    source.export();
    let run = source.text(&source.call("tx_compact", ", first => 2"));
    let kinds = run.lines().map(|row| row.split('|').skip(2).take(2).collect::<Vec<_>>().join(" "));
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        ["public.extra full", "public.items full", "public.lines changes"],
        "{run}"
    );
    source.run(&source.call("tx_compact", ""));
    let new = copy("shapes_new", &store);
    for destination in [&behind, &new] {
        destination.run(extra);
        assert_eq!(applied(&destination.import()).len(), 1);
        source.assert_equal(destination);
        assert_eq!(destination.text("SELECT * FROM extra"), source.text("SELECT * FROM extra"));
    }
}

#[test]
fn what_cannot_be_compacted_says_why_and_stays() {
    let (store, source) = source("compact_refused");
    source.live_on(100);
    source.run(&source.call("tx_export", ", format => 'binary'"));
    let files = store.files().len();
    source
        .refused(&source.call("tx_compact", ""))
        .expect("0A000", &["batch 2 cannot be compacted with those before it", "text format"]);
    source
        .refused(&source.call("tx_compact", ", last => 7"))
        .expect("42704", &["batch 7", "is not in store"]);
    source.refused(&source.call("tx_compact", ", first => 0")).expect("22023", &["\"first\"", "1 or more"]);
    source.refused(&source.call("tx_compact", ", first => 2, last => 1")).expect("22023", &["\"first\""]);
    source.refused(&source.call("tx_expire", ", older_than => '-1 day'")).expect("22023", &["older_than"]);
    source
        .refused(&source.call("tx_compact", ", first => 9"))
        .expect("42704", &["batch 9", "is not in store"]);
    let other = source.with_target("nobody");
    other.refused(&other.call("tx_compact", "")).expect("42704", &["no batch of target \"nobody\""]);
    other.refused(&other.call("tx_status", "")).expect("42704", &["no batch of target \"nobody\""]);
    assert_eq!(store.files().len(), files);
}

#[test]
fn memory_for_keys_is_bounded_by_a_setting() {
    let (store, source) = source("memory");
    source.insert(1000..9000);
    source.export();
    source.run("UPDATE items SET note = 'later' WHERE id % 2 = 0; DELETE FROM lines WHERE item % 3 = 0");
    source.export();
    // 20,000 keys and more in 1 MB at 48 bytes each: the ids are read in two shares.
    source.run(&format!("SET maintenance_work_mem = '1MB'; {}", source.call("tx_compact", ", first => 2")));
    source.run(&format!("SET maintenance_work_mem = '1MB'; {}", source.call("tx_compact", "")));
    let new = copy("memory_new", &store);
    assert_eq!(applied(&new.import()), [3]);
    source.assert_equal(&new);
}

/// Removes batches from the store, as if they had been lost on their way.
fn lose(store: &Store, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let target = store.path().join(TARGET);
        std::fs::remove_file(target.join(format!("manifest/{number:010}.json"))).expect("a manifest");
        std::fs::remove_dir_all(target.join(format!("data/{number:010}"))).expect("its data");
    }
}

static REPLAYING: LazyLock<Cluster> = LazyLock::new(|| {
    Cluster::start_with(&[
        "shared_preload_libraries = 'pg_table_export'",
        "pg_table_export.replay_batches = 6",
    ])
});

#[test]
fn lost_batches_are_made_up_for_by_one_since_the_last_that_arrived() {
    let store = Store::new();
    let source = Database::source(&REPLAYING, "replayed", &store);
    source.export();
    // Copies that have applied 1, 2, …, and the rest is lost to them.
    let copies = one_after_the_other(&source, &store, "replayed", 12);
    lose(&store, 2..=12);
    let replay = |since: u64| source.text(&source.call("tx_export", &format!(", since => {since}")));
    let kept = replay(7);
    assert!(kept.lines().all(|row| row.starts_with("14|public.") && row.contains("|changes|")), "{kept}");
    assert_eq!(applied(&copies[6].import()), [14]);
    source.assert_equal(&copies[6]);
    lose(&store, [14]);
    // What has changed since the first batch is not kept.
    let beyond = replay(1);
    assert!(beyond.lines().all(|row| row.starts_with("15|public.") && row.contains("|full|")), "{beyond}");
    assert_eq!(applied(&copies[0].import()), [15]);
    source.assert_equal(&copies[0]);
    // Changes before a batch that was full need not be kept.
    batches(&source, [13]);
    lose(&store, [13, 15, 16]);
    let full = replay(13);
    assert!(full.lines().all(|row| row.contains("|full|")), "{full}");
    assert_eq!(applied(&copies[11].import()), [17]);
    source.assert_equal(&copies[11]);
}

#[test]
fn a_destination_with_some_of_the_lost_batches_goes_on_as_well() {
    let store = Store::new();
    let source = Database::source(&REPLAYING, "some", &store);
    source.export();
    let copies = one_after_the_other(&source, &store, "some", 6);
    lose(&store, 3..=7);
    let replayed = source.text(&source.call("tx_export", ", since => 2"));
    assert_eq!(replayed.lines().count(), 2);
    assert!(
        replayed.lines().all(|row| row.starts_with("8|public.") && row.contains("|changes|")),
        "{replayed}"
    );
    // They are at 2, 3, …, 6; the first still has the second batch before it.
    for (copy, numbers) in copies.iter().zip([&[2, 8][..], &[8], &[8], &[8], &[8], &[8]]) {
        assert_eq!(applied(&copy.import()), numbers);
        source.assert_equal(copy);
        assert_eq!(copy.import(), "");
    }
    batches(&source, [7]);
    for copy in &copies {
        assert_eq!(applied(&copy.import()), [9]);
        source.assert_equal(copy);
    }
    source.run("TRUNCATE lines");
    batches(&source, [8]);
    let truncated = source.text(&source.call("tx_export", ", since => 9"));
    assert!(
        truncated.contains("public.items|changes|") && truncated.contains("public.lines|full|"),
        "{truncated}"
    );
    source.refused(&source.call("tx_export", ", since => 99")).expect(
        "42704",
        &[
            "batch 99 of target \"reporting\" is not one that this database has published",
            "tx_batches",
            "tx_reset",
        ],
    );
    source.refused(&source.call("tx_export", ", since => 0")).expect("22023", &["since"]);
}

#[test]
fn what_was_healed_is_sent_in_full_when_it_is_lost() {
    let store = Store::new();
    let source = Database::source(&REPLAYING, "healed", &store);
    source.export();
    let copy = copy("healed_copy", &store);
    copy.import();
    source.live_on(100);
    source.run(&format!("BEGIN; {}; ROLLBACK", source.export_sql()));
    assert_eq!(applied(&copy.import()), [2]);
    source.run("UPDATE items SET note = 'not healed' WHERE id = 10");
    assert_eq!(applied(&source.export()), [3]);
    lose(&store, [3]);
    let replayed = source.text(&source.call("tx_export", ", since => 1"));
    assert!(replayed.lines().all(|row| row.contains("|full|")), "{replayed}");
    copy.import();
    source.assert_equal(&copy);
}

const STATUS: &str =
    "SELECT split_part(destination, '/', 2), applied, pending, last_batch, shows IS NOT NULL";

fn status(database: &Database) -> String {
    database.text(&format!("{STATUS} FROM tx_status('{TARGET}', '{}') ORDER BY 1", database.store()))
}

#[test]
fn a_receipt_tells_what_has_been_committed() {
    let (store, source) = source("receipts");
    assert_eq!(status(&source), "|||1|f");
    let [first, second] = ["receipts_first", "receipts_second"].map(|name| copy(name, &store));
    first.import();
    assert_eq!(status(&source), "|||1|f", "an import cannot know that it will be committed");
    first.import();
    assert_eq!(status(&source), "receipts_first|1|0|1|t");
    batches(&source, 1..3);
    second.import();
    second.import();
    assert_eq!(status(&source), "receipts_first|1|2|3|t\nreceipts_second|3|0|3|t");
    first.run(&format!(
        "BEGIN; {}; ROLLBACK; BEGIN; {}; {}; ROLLBACK",
        first.import_sql(),
        first.import_sql(),
        first.import_sql()
    ));
    assert_eq!(status(&source), "receipts_first|1|2|3|t\nreceipts_second|3|0|3|t", "it was rolled back");
    let only_received = format!("{EXPIRE}, only_received => true");
    source.run(&source.call("tx_compact", ""));
    assert_eq!(applied(&source.text(&source.call("tx_expire", &only_received))), [1]);
    first.run(&format!("CALL tx_catch_up('{TARGET}', '{}')", first.store()));
    assert_eq!(status(&source), "receipts_first|3|0|3|t\nreceipts_second|3|0|3|t");
    assert_eq!(applied(&source.text(&source.call("tx_expire", &only_received))), [2]);
    // Who starts again takes it back.
    first.reset();
    first.import();
    assert_eq!(status(&source), "receipts_second|3|0|3|t");
    source.assert_equal(&first);
}

#[test]
fn a_receipt_tells_what_was_proven() {
    let (store, source) = source("receipts_proven");
    let copy = copy("receipts_proven_copy", &store);
    let proven = || {
        let status = format!("tx_status('{TARGET}', '{}')", source.store());
        source.text(&format!("SELECT verified, verified_batch, verified_at < now() FROM {status}"))
    };
    copy.import();
    copy.import();
    assert_eq!(proven(), "||");
    let verify = format!("SELECT count(*) FROM {}", copy.call("tx_verify", "").replace("SELECT * FROM ", ""));
    for (change, expected) in [("", "t|1|t"), ("DELETE FROM items WHERE id = 1", "f|1|t")] {
        copy.run(change);
        copy.text(&verify);
        copy.import();
        assert_eq!(proven(), expected);
    }
    // One of two tables was compared, and is equal.
    copy.text(&copy.call("tx_repair", ""));
    copy.run("DELETE FROM table_export.proof WHERE relation = 'lines'::regclass");
    copy.import();
    assert_eq!(proven(), "|1|t");
}

#[test]
fn a_store_that_takes_no_receipts_is_imported_from_all_the_same() {
    let (store, source) = source("no_receipts");
    let destination = copy("no_receipts_copy", &store);
    destination.import();
    // A file where the folder should be.
    std::fs::write(store.path().join(TARGET).join("receipts"), "").expect("a file");
    batches(&source, 1..2);
    assert_eq!(applied(&destination.import()), [2]);
    source.assert_equal(&destination);
    assert!(
        COPIES.log().contains("could not leave a receipt for target \"reporting\": could not read directory")
    );
}

#[test]
fn a_compaction_that_is_cut_off_changes_nothing_and_can_be_repeated() {
    let (store, source) = source("cut_off");
    batches(&source, 1..4);
    let mut cluster = Cluster::start();
    let compactor = Database::empty(&cluster, "compactor", &store);
    let reader = copy("cut_off_reader", &store);
    let runs =
        || store.files().into_iter().filter(|path| path.to_string_lossy().contains("/compacted/")).count();
    for point in ["CompactPartWritten", "CompactPublished"] {
        for kill in [true, false] {
            let before = runs();
            let caller = compactor.clone();
            let call = format!("SET pg_table_export.wait_at = '{point}'; {}", caller.call("tx_compact", ""));
            let cut_off = spawn(move || query(&mut caller.client(), &call));
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            wait_until(point, || compactor.text(waits) == "1");
            if kill {
                cluster.kill();
                cluster.restart();
            } else {
                compactor.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
                );
            }
            assert!(cut_off.join().expect("a thread").is_err(), "it was not cut off");
            let published = usize::from(point == "CompactPublished");
            assert_eq!(runs(), before + published);
            reader.import();
            source.assert_equal(&reader);
            compactor.run(&compactor.call("tx_compact", ""));
            assert_eq!(runs(), before + 1);
            let new = copy(&format!("cut_off_{point}_{kill}").to_lowercase(), &store);
            assert_eq!(applied(&new.import()).len(), 1);
            source.assert_equal(&new);
            batches(&source, [i32::try_from(10 + runs()).expect("a small number")]);
        }
    }
}

/// While the source exports, others merge and remove what is there, and twenty destinations follow: at
/// different paces, some of them far behind.
#[test]
fn twenty_destinations_follow_one_source() {
    let (store, source) = source("twenty");
    let destinations = (0..20).map(|n| copy(&format!("twenty_{n}"), &store)).collect::<Vec<_>>();
    let keeper = Database::empty(&COPIES, "twenty_keeper", &store);
    let done = AtomicBool::new(false);
    scope(|scope| {
        scope.spawn(|| {
            batches(&source, 1..60);
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                keeper.run(&keeper.call("tx_compact", ""));
                keeper.run(&keeper.call("tx_expire", ", older_than => '1 second', keep_batches => 5"));
            }
        });
        for (n, destination) in (0u64..).zip(&destinations) {
            let done = &done;
            scope.spawn(move || {
                let mut client = destination.client();
                let import =
                    format!("SET pg_table_export.restart_when_behind = on; {}", destination.import_sql());
                while !done.load(Ordering::SeqCst) {
                    // What is removed under its eyes is an error, and the next import goes on.
                    if let Err(error) = query(&mut client, &import) {
                        let text = format!("{error:?}");
                        assert!(text.contains("58P01"), "{text}");
                    }
                    std::thread::sleep(std::time::Duration::from_millis(n * n * 10));
                }
            });
        }
    });
    for destination in &destinations {
        destination
            .run(&format!("SET pg_table_export.restart_when_behind = on; {}", destination.import_sql()));
        source.assert_equal(destination);
    }
    assert_eq!(source.text("SELECT count(*) FROM table_export.batch WHERE number > 1"), "59");
}
