//! Copies that were loaded without an import, from a dump: they are adopted by a baseline, and follow from there.
//! A table whose rows nobody vouches for is never taken for received.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

use postgres::Client;

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::{self, Mirror};
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{COPY, Cluster, SOURCE};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v int, note text);
                     INSERT INTO t SELECT i, i, 'note ' || i FROM generate_series(1, 1000) AS i";

/// A source with tracked tables that have rows, and a copy where they have none.
fn begun(name: &str, ddl: &str, tables: &[&str]) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(ddl);
    mirror.track(tables);
    mirror
}

/// Returns the rows of tables, as pg_dump writes them now.
fn dump(mirror: &Mirror, tables: &[&str]) -> String {
    let tables = tables.iter().map(|table| format!("--table={table}")).collect::<Vec<_>>();
    let mut options = vec!["--data-only"];
    options.extend(tables.iter().map(String::as_str));
    SOURCE.dump_with(&name_of(&mirror.source), &options)
}

fn name_of(database: &Database) -> String {
    database.text("SELECT current_database()")
}

fn load(copy: &Database, dump: &str) {
    COPY.psql(&name_of(copy), dump);
}

fn import_sql(mirror: &Mirror, further: &str) -> String {
    format!(
        "SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import{}",
        mirror.arguments("copy", further)
    )
}

/// Imports, and returns `batch|table_name|kind|deleted|updated|inserted` for each part.
fn adopt(mirror: &Mirror) -> String {
    mirror.copy.text(&import_sql(mirror, ", adopt => true"))
}

fn baseline_sql(mirror: &Mirror) -> String {
    format!("SELECT * FROM tx_export{}", mirror.arguments("copy", ", baseline => true"))
}

/// Another destination of the same target.
fn another(mirror: &Mirror, name: &str, tables: &[&str]) -> Mirror {
    let copy = mirror::database(&COPY, name, &mirror.store, "");
    for table in tables {
        copy.run(&mirror.source.text(&format!("SELECT tx_ddl('{table}')")));
    }
    Mirror { source: mirror.source.clone(), copy, store: crate::cluster::Store::new() }
}

/// What tx_verify says of a table at the copy.
fn verdict(mirror: &Mirror, database: &Database) -> String {
    database.text(&format!(
        "SELECT equal, complete, note ~ 'baseline' FROM tx_verify{}",
        mirror.arguments("copy", "")
    ))
}

fn write(mirror: &Mirror, writer: i32, stop: &AtomicBool) {
    let mut client = mirror.source.client();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let id = (writer * 331 + round * 7) % 1500;
        query(
            &mut client,
            &format!(
                "INSERT INTO t VALUES ({id}, {round}, 'new') ON CONFLICT (id) DO UPDATE SET v = t.v + 1;
                 DELETE FROM t WHERE id = {}; UPDATE t SET id = id + 5000 WHERE id = {} AND NOT EXISTS
                    (SELECT FROM t WHERE id = {})",
                (id + 700) % 1500,
                (id + 300) % 1500,
                (id + 300) % 1500 + 5000,
            ),
        )
        .ok();
    }
}

#[test]
fn a_copy_from_a_dump_follows_its_source() {
    let mirror = begun("baseline_dump", TABLE, &["t"]);
    let stop = AtomicBool::new(false);
    scope(|threads| {
        for writer in 1..=3 {
            let (mirror, stop) = (&mirror, &stop);
            threads.spawn(move || write(mirror, writer, stop));
        }
        let pause = || sleep(Duration::from_millis(200));
        pause();
        let (mut client, messages) = mirror.source.watched();
        let exported = query(&mut client, &baseline_sql(&mirror)).unwrap();
        assert!(exported.starts_with("1|public.t|baseline|0|0|"), "{exported}");
        let messages = messages.lock().unwrap().join("\n");
        let said = "the first batch of target \"copy\" has no rows of public.t: take the dump of them now, not before this";
        assert!(messages.contains(said), "{messages}");
        pause();
        // A batch that is older than the dump, whose rows are newer: they arrive again.
        mirror.export("");
        pause();
        let dump = dump(&mirror, &["t"]);
        pause();
        load(&mirror.copy, &dump);
        mirror.export("");
        let imported = adopt(&mirror);
        assert!(imported.starts_with("1|public.t|baseline|0|0|0\n2|public.t|changes|"), "{imported}");
        for _ in 0..3 {
            pause();
            mirror.follow("");
        }
        stop.store(true, Ordering::SeqCst);
    });
    mirror.source.run("UPDATE t SET v = 0 WHERE id = 1");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    for side in [&mirror.copy, &mirror.source] {
        assert_eq!(verdict(&mirror, side), "t|f|t");
    }
    let adopted = "SELECT adopted, verified FROM tx_freshness";
    assert_eq!(mirror.copy.text(adopted), "t|");
    // The proof: a full part, which writes nothing.
    mirror.source.run("SELECT tx_reset('copy', 't')");
    mirror.export("");
    let proof = mirror.copy.text(&import_sql(&mirror, ""));
    assert!(proof.ends_with("|public.t|full|0|0|0"), "{proof}");
    mirror.assert_verified();
    assert_eq!(mirror.copy.text(adopted), "f|t");
}

#[test]
fn a_dump_that_is_too_old_is_found_by_the_next_full_part() {
    let mirror = begun("baseline_late", TABLE, &["t"]);
    let dump = dump(&mirror, &["t"]);
    mirror
        .source
        .run("UPDATE t SET v = -1 WHERE id <= 10; DELETE FROM t WHERE id = 20; INSERT INTO t VALUES (0)");
    mirror.export(", baseline => true");
    load(&mirror.copy, &dump);
    assert_eq!(adopt(&mirror), "1|public.t|baseline|0|0|0");
    assert_eq!(verdict(&mirror, &mirror.copy), "|f|t", "nothing can be compared");
    assert_eq!(verdict(&mirror, &mirror.source), "|f|t", "nothing can be compared");
    mirror.source.run("UPDATE t SET v = -2 WHERE id IN (5, 100)");
    mirror.follow("");
    assert_eq!(verdict(&mirror, &mirror.copy), "t|f|t", "what batches name is equal");
    mirror.source.run("SELECT tx_reset('copy', 't')");
    mirror.export("");
    assert_eq!(mirror.copy.text(&import_sql(&mirror, "")), "3|public.t|full|1|9|1");
    mirror.assert_verified();
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_destination_without_the_rows_is_refused() {
    let mirror = begun("baseline_empty", TABLE, &["t"]);
    mirror.export(", baseline => true");
    let plain = import_sql(&mirror, "");
    let refusal = mirror.copy.refused(&plain);
    refusal.expect(
        "55000",
        &["batch 1 has no rows of table \"public.t\": it is a baseline", "or later", "adopt => true"],
    );
    assert!(
        refusal.to_string().contains("SELECT tx_reset('copy', 'public.t'); SELECT * FROM tx_export('copy');"),
        "{refusal}"
    );
    let adopting = import_sql(&mirror, ", adopt => true");
    let empty = "batch 1 has no rows of table \"public.t\", and neither has the table here";
    mirror
        .copy
        .refused(&adopting)
        .expect("55000", &[empty, "Load the rows first", "tx_reset('copy', 'public.t')"]);
    let plan = |further: &str| {
        let arguments = mirror.arguments("copy", further);
        mirror.copy.text(&format!("SELECT obstacle FROM tx_plan{arguments} WHERE obstacle IS NOT NULL"))
    };
    assert!(plan("").contains("it is a baseline"), "{}", plan(""));
    assert!(plan(", adopt => true").contains(empty), "{}", plan(", adopt => true"));
    // A dump from before a column came.
    load(&mirror.copy, &dump(&mirror, &["t"]));
    mirror.copy.run("ALTER TABLE t DROP COLUMN note");
    for columns in ["refuse", "add"] {
        let adopting = import_sql(&mirror, &format!(", adopt => true, new_columns => '{columns}'"));
        let lacking =
            "batch 1 has no values of column \"note\" of table \"public.t\", which does not exist here";
        mirror.copy.refused(&adopting).expect("55000", &[lacking, "Load the table again with its column"]);
    }
    mirror.copy.run("DROP TABLE t");
    let creating = import_sql(&mirror, ", adopt => true, create_tables => true");
    mirror.copy.refused(&creating).expect("42P01", &["table \"public.t\" does not exist here"]);
    // What the hint says.
    mirror.source.run("SELECT tx_reset('copy', 'public.t')");
    mirror.export("");
    mirror.copy.run(&import_sql(&mirror, ", create_tables => true"));
    mirror.assert_same_tables(&["t"]);
    mirror.assert_verified();
}

#[test]
fn a_table_without_rows_is_sent_in_full() {
    let mirror = begun(
        "baseline_none",
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
        &["t", "u"],
    );
    assert_eq!(mirror.export(", baseline => true"), "1|public.t|full|0|0\n1|public.u|baseline|0|0");
    assert_eq!(mirror.source.text("SELECT kind FROM tx_batches"), "baseline");
    mirror.source.run("INSERT INTO t VALUES (1)");
    load(&mirror.copy, &dump(&mirror, &["t", "u"]));
    mirror.export("");
    assert_eq!(adopt(&mirror), "1|public.t|full|1|0|0\n1|public.u|baseline|0|0|0\n2|public.t|changes|0|0|1");
    mirror.assert_same_tables(&["t", "u"]);
    assert_eq!(mirror.copy.text("SELECT kind FROM tx_receipts ORDER BY batch"), "baseline\nchanges");
}

#[test]
fn only_the_first_batch_of_a_target_is_a_baseline() {
    let mirror = begun("baseline_first", &format!("{TABLE}; CREATE TABLE u (id int PRIMARY KEY)"), &["t"]);
    let both = format!("SELECT FROM tx_export{}", mirror.arguments("copy", ", since => 1, baseline => true"));
    mirror.source.refused(&both).expect("22023", &["baseline", "false with since"]);
    mirror.export(", baseline => true");
    load(&mirror.copy, &dump(&mirror, &["t"]));
    let refused = |last: u32| {
        let has =
            format!("target \"copy\" cannot begin with a baseline, because it has {last} batches already");
        let hint = "tx_export('…', baseline => true)";
        mirror.source.refused(&baseline_sql(&mirror)).expect("55000", &[&has, hint]);
    };
    refused(1);
    adopt(&mirror);
    mirror.publish("UPDATE t SET v = -1 WHERE id = 5");
    for reset in ["SELECT tx_reset('copy', 't')", "SELECT tx_reset('copy')"] {
        mirror.source.run(reset);
        refused(2);
    }
    // A table that comes later has its rows sent.
    mirror.export("");
    mirror.source.run("INSERT INTO u VALUES (1)");
    mirror.track(&["u"]);
    assert_eq!(mirror.export(""), "4|public.u|full|0|1");
    mirror.import();
    mirror.assert_same_tables(&["t", "u"]);
    mirror.assert_verified();
}

#[test]
fn what_an_import_has_written_is_not_adopted() {
    let mirror = begun("baseline_written", TABLE, &["t"]);
    mirror.export(", baseline => true");
    load(&mirror.copy, &dump(&mirror, &["t"]));
    adopt(&mirror);
    mirror.publish("UPDATE t SET v = -1 WHERE id = 5");
    let adopting = import_sql(&mirror, ", adopt => true");
    let written = "batch 1 has no rows of table \"public.t\", which imports have written already";
    mirror.copy.run("SELECT tx_reset('copy')");
    mirror.copy.refused(&adopting).expect("55000", &[written, "tx_reset('copy', 'public.t')"]);
    // Mapping the columns anew makes it need a full part.
    mirror.copy.run("ALTER TABLE t RENAME note TO remark");
    mirror.copy.run("SELECT tx_map('copy', 'public.t', 'public.t', columns => '{\"note\": \"remark\"}')");
    mirror.copy.refused(&adopting).expect("55000", &[written]);
    mirror.copy.run("ALTER TABLE t RENAME remark TO note");
    // Neither is the copy of another target, nor one that has been forgotten, or given another table.
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("other", ", baseline => true")));
    let other = format!("SELECT FROM tx_import{}", mirror.arguments("other", ", adopt => true"));
    mirror.copy.refused(&other).expect("55000", &[written, "tx_reset('other', 'public.t')"]);
    mirror.copy.run("SELECT tx_forget('copy')");
    mirror.copy.refused(&other).expect("55000", &[written]);
    mirror.copy.run("SELECT tx_unmap('copy', 'public.t')");
    mirror.copy.refused(&adopting).expect("55000", &[written]);
    // Until it has been sent in full.
    let full = |further: &str| mirror.arguments("full", further);
    mirror.source.run(&format!("SELECT FROM tx_export{}", full("")));
    mirror.copy.run(&format!("SELECT FROM tx_import{}", full(", adopt => true")));
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_baseline_is_left_out_where_a_later_batch_has_the_rows() {
    let ddl = format!("{TABLE}; CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)");
    let mirror = begun("baseline_left_out", &ddl, &["t", "u"]);
    mirror.export(", baseline => true");
    load(&mirror.copy, &dump(&mirror, &["t"]));
    mirror.source.run("SELECT tx_reset('copy', 'u'); UPDATE t SET v = -1 WHERE id = 5");
    mirror.export("");
    let (mut client, messages) = mirror.copy.watched();
    let adopted = query(&mut client, &import_sql(&mirror, ", adopt => true")).unwrap();
    assert_eq!(adopted, "1|public.t|baseline|0|0|0\n2|public.t|changes|0|1|0\n2|public.u|full|0|0|1");
    let messages = messages.lock().unwrap().join("\n");
    for said in [
        "rows that have changed since the baseline of table \"public.u\" in batch 1 are left out",
        "table \"public.t\" is adopted as it is: its rows must show the source as of 20",
    ] {
        assert!(messages.contains(said), "{messages}");
    }
    mirror.assert_same_tables(&["t", "u"]);
    assert_eq!(mirror.copy.text("SELECT adopted FROM tx_freshness ORDER BY table_name::text"), "t\nf");
}

#[test]
fn several_destinations_adopt_one_baseline_also_when_it_is_compacted() {
    let mirror = begun("baseline_several", TABLE, &["t"]);
    mirror.export(", baseline => true");
    let dump = dump(&mirror, &["t"]);
    let (second, third) =
        (another(&mirror, "baseline_several_2", &["t"]), another(&mirror, "baseline_several_3", &["t"]));
    for copy in [&mirror.copy, &second.copy, &third.copy] {
        load(copy, &dump);
    }
    let adopt = |mirror: &Mirror, of: &Mirror| {
        of.copy.text(&format!(
            "SELECT batch, table_name, kind, deleted, updated, inserted FROM tx_import{}",
            mirror.arguments("copy", ", adopt => true")
        ))
    };
    adopt(&mirror, &mirror);
    for change in
        ["UPDATE t SET v = -1 WHERE id < 5", "DELETE FROM t WHERE id = 9", "INSERT INTO t VALUES (-1)"]
    {
        mirror.source.run(change);
        mirror.export("");
    }
    assert!(adopt(&mirror, &second).starts_with("1|public.t|baseline|0|0|0\n2|"));
    second.assert_same_tables(&["t"]);
    let compact =
        format!("SELECT batch, batches, kind, ids, records FROM tx_compact{}", mirror.arguments("copy", ""));
    assert_eq!(mirror.copy.text(&compact), "4|4|baseline|6|5");
    let expire = format!(
        "SELECT batch, kind FROM tx_expire{}",
        mirror.arguments("copy", ", older_than => '0', keep_batches => 0")
    );
    assert_eq!(mirror.copy.text(&expire), "1|baseline\n2|changes\n3|changes");
    assert_eq!(adopt(&mirror, &third), "4|public.t|baseline|1|4|1");
    third.assert_same_tables(&["t"]);
    let verify = format!("SELECT equal, complete FROM tx_verify{}", mirror.arguments("copy", ""));
    assert_eq!(third.copy.text(&verify), "t|f");
    // One that is in the middle of the run goes on with it.
    assert_eq!(mirror.copy.text(&import_sql(&mirror, "")), "4|public.t|changes|1|4|1");
    mirror.assert_same_tables(&["t"]);
    mirror.publish("UPDATE t SET v = -2 WHERE id < 3");
    mirror.copy.run(&compact);
    let fourth = another(&mirror, "baseline_several_4", &["t"]);
    load(&fourth.copy, &dump);
    adopt(&mirror, &fourth);
    for one in [&mirror, &second, &third, &fourth] {
        one.copy.run(&import_sql(&mirror, ""));
        one.assert_same_tables(&["t"]);
    }
}

#[test]
fn batches_that_are_older_than_the_dump_meet_a_unique_index_unless_they_are_merged() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int UNIQUE, n int); INSERT INTO t VALUES (1, 1), (2, 2)";
    let mirror = begun("baseline_unique", ddl, &["t"]);
    mirror.copy.run("ALTER TABLE t ADD UNIQUE (v)");
    mirror.export(", baseline => true");
    mirror.publish("UPDATE t SET n = 1 WHERE id = 1");
    mirror.source.run("UPDATE t SET v = 3 WHERE id = 1; UPDATE t SET v = 1 WHERE id = 2");
    load(&mirror.copy, &dump(&mirror, &["t"]));
    mirror.export("");
    let adopting = import_sql(&mirror, ", adopt => true");
    mirror.copy.refused(&adopting).expect("23505", &["duplicate key value violates unique constraint"]);
    let catch_up = format!("CALL tx_catch_up{}", mirror.arguments("copy", ", adopt => true"));
    mirror.copy.refused(&catch_up).expect("23505", &["duplicate key value violates unique constraint"]);
    assert_eq!(mirror.copy.text("SELECT batch FROM tx_receipts"), "1", "it has been adopted");
    mirror.copy.run(&format!("SELECT FROM tx_compact{}", mirror.arguments("copy", "")));
    assert_eq!(mirror.copy.text(&import_sql(&mirror, "")), "3|public.t|changes|0|0|0");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_baseline_that_the_source_has_not_committed_is_healed() {
    let mirror = begun("baseline_heals", TABLE, &["t"]);
    mirror.source.run(&format!("BEGIN; {}; ROLLBACK", baseline_sql(&mirror)));
    load(&mirror.copy, &dump(&mirror, &["t"]));
    assert_eq!(adopt(&mirror), "1|public.t|baseline|0|0|0");
    mirror.source.run("UPDATE t SET v = -1 WHERE id = 5");
    mirror.source.refused(&baseline_sql(&mirror)).expect("55000", &["because it has 1 batches already"]);
    assert_eq!(mirror.export(""), "2|public.t|full|0|1000");
    assert_eq!(mirror.copy.text(&import_sql(&mirror, "")), "2|public.t|full|0|1|0");
    mirror.assert_verified();
}

#[test]
fn a_copy_of_the_sources_disk_follows_once_it_has_forgotten_the_target() {
    let cluster = Cluster::start();
    let mirror = Mirror::new(&cluster, &COPY, "baseline_disk");
    mirror.source.run(TABLE);
    mirror.source.run("SELECT tx_track('t')");
    mirror.export(", baseline => true");
    mirror.source.run("UPDATE t SET v = -1 WHERE id = 5");
    let (disk, standby) = (cluster.copy(), cluster.standby());
    standby.catch_up(&cluster);
    standby.promote();
    mirror.publish("UPDATE t SET v = -1 WHERE id = 6");
    for (copy, refused) in [
        (&disk, "batch 1 of target \"copy\" was exported by this very database"),
        (
            &standby,
            "target \"copy\" is exported by this database as well, so its baseline is not adopted here",
        ),
    ] {
        let copy = Database::of(copy, "baseline_disk", &mirror.store);
        let adopting = import_sql(&mirror, ", adopt => true");
        copy.refused(&adopting).expect("55000", &[refused, "SELECT tx_forget('copy');"]);
        copy.run("SELECT tx_forget('copy'); SELECT tx_untrack(table_name) FROM tx_tracked");
        if copy.text("SELECT timeline_id FROM pg_control_checkpoint()") == "1" {
            // It may be the source itself, as far as anybody can see.
            copy.refused(&adopting).expect("55000", &[refused, "pg_table_export.publish = off"]);
            copy.run("ALTER DATABASE baseline_disk SET pg_table_export.publish = off");
        }
        assert_eq!(copy.text(&adopting), "1|public.t|baseline|0|0|0\n2|public.t|changes|0|1|0");
        assert_eq!(mirror::rows(&copy, "SELECT * FROM t"), mirror::rows(&mirror.source, "SELECT * FROM t"));
    }
}

/// Returns what [`adopt`] does, which must wait for a session that loads rows.
fn adopted_after(mirror: &Mirror, loading: &mut Client) -> String {
    scope(|threads| {
        let adopted = threads.spawn(|| adopt(mirror));
        mirror.copy.wait_until_blocked();
        loading.batch_execute("COMMIT").unwrap();
        adopted.join().unwrap()
    })
}

#[test]
fn a_load_that_has_not_ended_is_waited_for() {
    let mirror = begun("baseline_load", TABLE, &["t"]);
    mirror.export(", baseline => true");
    // A snapshot that is older than the lock would not see the rows that were waited for.
    let reading =
        format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {}", import_sql(&mirror, ", adopt => true"));
    mirror.copy.refused(&reading).expect("0A000", &["tx_import() of a baseline", "read committed"]);
    let mut loading = mirror.copy.client();
    loading
        .batch_execute("INSERT INTO t SELECT i, i, 'note ' || i FROM generate_series(1, 10) AS i")
        .unwrap();
    loading
        .batch_execute("BEGIN; INSERT INTO t SELECT i, i, 'note ' || i FROM generate_series(11, 1000) AS i")
        .unwrap();
    mirror.publish("DELETE FROM t WHERE id = 500");
    assert_eq!(adopted_after(&mirror, &mut loading), "1|public.t|baseline|0|0|0\n2|public.t|changes|1|0|0");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_load_into_a_partition_is_waited_for() {
    let ddl = "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
               CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)";
    let mirror = Mirror::shared("baseline_partition");
    mirror.run(ddl);
    mirror.source.run("INSERT INTO p SELECT generate_series(1, 19); SELECT tx_track('p')");
    mirror.export(", baseline => true");
    mirror.copy.run("INSERT INTO p1 SELECT generate_series(1, 9)");
    let mut loading = mirror.copy.client();
    loading.batch_execute("BEGIN; INSERT INTO p2 SELECT generate_series(10, 19)").unwrap();
    mirror.publish("DELETE FROM p WHERE id = 12");
    assert_eq!(adopted_after(&mirror, &mut loading), "1|public.p|baseline|0|0|0\n2|public.p|changes|1|0|0");
    mirror.assert_same_tables(&["p"]);
    // A partition of what was a copy is none that no import has written.
    mirror.copy.run("SELECT tx_forget('copy')");
    mirror.source.run("SELECT tx_untrack('p'); SELECT tx_track('p1')");
    let leaf = |function: &str, further: &str| {
        format!("SELECT FROM {function}{}", mirror.arguments("leaf", further))
    };
    mirror.source.run(&leaf("tx_export", ", baseline => true"));
    let written = "batch 1 has no rows of table \"public.p1\", which imports have written already";
    mirror.copy.refused(&leaf("tx_import", ", adopt => true")).expect("55000", &[written]);
}

#[test]
fn what_a_dump_lacks_and_what_a_type_loses_is_told() {
    let ddl =
        "CREATE TABLE t (id int PRIMARY KEY, v numeric, twice numeric GENERATED ALWAYS AS (v * 2) STORED);
               INSERT INTO t VALUES (1, 1.2345); CREATE VIEW short AS SELECT id, v FROM t;
               CREATE TABLE none (id int PRIMARY KEY)";
    let mirror = begun("baseline_told", ddl, &["t", "none"]);
    let (mut client, messages) = mirror.source.watched();
    let export =
        |target: &str| format!("SELECT FROM tx_export{}", mirror.arguments(target, ", baseline => true"));
    for setup in [
        "SELECT tx_restrict('seen', 't', 'short')",
        "SELECT tx_restrict('empty', 'none')",
        &export("copy"),
        &export("seen"),
        &export("empty"),
    ] {
        query(&mut client, setup).unwrap();
    }
    let messages = messages.lock().unwrap().join("\n");
    for said in [
        "pg_dump leaves out the generated columns of public.t: have pg_dump --schema-only make the table",
        "has no rows of public.t (as view public.short shows them)",
        "no table of target \"empty\" has rows, so its first batch is full",
    ] {
        assert!(messages.contains(said), "{messages}");
    }
    mirror.copy.run("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v numeric(10, 2), twice numeric)");
    mirror.copy.run("INSERT INTO t VALUES (1, 1.2345, 2.469)");
    let adopting = import_sql(&mirror, ", adopt => true");
    let retyped = "column \"v\" of table \"public.t\" has another type here, so its values are not adopted";
    mirror
        .copy
        .refused(&adopting)
        .expect("55000", &[retyped, "numeric(10,2)", "tx_reset('copy', 'public.t')"]);
}

#[test]
fn formats_views_and_partitions_are_adopted() {
    for format in ["text", "csv", "binary"] {
        let ddl = format!(
            "{TABLE}; CREATE TABLE p (id int, d date, PRIMARY KEY (id, d)) PARTITION BY RANGE (d);
             CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
             CREATE TABLE p2 PARTITION OF p FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
             INSERT INTO p SELECT i, date '2025-01-01' + i FROM generate_series(0, 50) AS i;
             CREATE VIEW short AS SELECT id, v FROM t WHERE id < 500"
        );
        let mirror = Mirror::shared(&format!("baseline_{format}"));
        mirror.source.run(&ddl);
        mirror.source.run(
            "SELECT tx_track('t'); SELECT tx_track('p');
             SELECT tx_restrict('copy', 't', 'short'); SELECT tx_restrict('copy', 'p')",
        );
        mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE p (id int, d date, PRIMARY KEY (id, d))");
        mirror.export(&format!(", baseline => true, format => '{format}'"));
        mirror.source.run("DROP TABLE p1; UPDATE t SET v = -1 WHERE id = 5");
        let rows = mirror.source.text("SELECT string_agg(format('(%s, %s)', id, v), ', ') FROM short");
        mirror.copy.run(&format!("INSERT INTO t VALUES {rows}"));
        load(&mirror.copy, &dump(&mirror, &["p", "p2"]).replace("public.p2", "public.p"));
        mirror.source.run(
            "DROP TABLE p2; UPDATE t SET id = id + 2000 WHERE id = 6; UPDATE t SET v = -1 WHERE id = 700",
        );
        mirror.export(&format!(", format => '{format}'"));
        adopt(&mirror);
        mirror.assert_same("SELECT * FROM p");
        assert_eq!(
            mirror::rows(&mirror.source, "SELECT * FROM short"),
            mirror::rows(&mirror.copy, "SELECT * FROM t")
        );
        let verify = format!("SELECT equal, complete FROM tx_verify{}", mirror.arguments("copy", ""));
        for side in [&mirror.source, &mirror.copy] {
            assert_eq!(side.text(&verify), "t|f\nt|f", "{format}");
        }
        // A repair writes what batches name, and nothing else.
        mirror.copy.run("UPDATE t SET v = 1000 WHERE id IN (5, 7)");
        let repair =
            format!("SELECT updated, equal, complete FROM tx_repair{}", mirror.arguments("copy", ""));
        assert_eq!(mirror.copy.text(&repair), "0|t|f\n1|t|f");
        assert_eq!(mirror.copy.text("SELECT v FROM t WHERE id IN (5, 7) ORDER BY id"), "-1\n1000");
        mirror.source.run("SELECT tx_resend('copy', 't', ARRAY['(7)'])");
        mirror.export("");
        mirror.import();
        assert_eq!(
            mirror::rows(&mirror.source, "SELECT * FROM short"),
            mirror::rows(&mirror.copy, "SELECT * FROM t")
        );
    }
}

/// Tables with partitions and without, of which no statement of [`live_on`] takes the row 0.
const ANY: &str = "CREATE TABLE t (k text, id int, v int, PRIMARY KEY (id, k));
    INSERT INTO t SELECT 'k' || i % 3, i, i FROM generate_series(0, 200) AS i;
    CREATE TABLE p (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE p0 PARTITION OF p FOR VALUES FROM (0) TO (100);
    CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (100) TO (200);
    INSERT INTO p SELECT i, i FROM generate_series(0, 199) AS i";

/// What is done beside writing. Batches that a copy still needs are not removed.
#[derive(Clone, Copy, PartialEq)]
enum May {
    Write,
    Export,
    Expire,
}

/// Writes something, and perhaps exports, compacts and expires.
fn live_on(mirror: &Mirror, random: &mut Random, may: May) {
    let (id, other) = (1 + random.below(200), 201 + random.below(1_000_000));
    let write = match random.below(8) {
        0 => format!("DELETE FROM t WHERE id % 7 = {} AND id > 0", id % 7),
        1 => format!("UPDATE t SET id = {other} WHERE id = {id}"),
        2 => format!("INSERT INTO t VALUES ('new', {other}, 0), (E'tab\\t', {other}, NULL)"),
        3 => format!("DELETE FROM p WHERE id = {}", 1 + id % 99),
        4 => "DROP TABLE IF EXISTS p1".to_owned(),
        5 => "CREATE TABLE IF NOT EXISTS p1 PARTITION OF p FOR VALUES FROM (100) TO (200);
              INSERT INTO p SELECT i, -1 FROM generate_series(100, 199, 3) AS i ON CONFLICT DO NOTHING"
            .to_owned(),
        _ => format!(
            "UPDATE t SET v = v + 1 WHERE id % 11 = {}; UPDATE p SET v = v + 1 WHERE id % 5 = 1",
            id % 11
        ),
    };
    mirror.source.run(&write);
    if may == May::Write || random.below(2) == 0 {
        return;
    }
    if random.below(12) == 0 {
        mirror.source.run("SELECT tx_reset('copy', 't')");
    }
    mirror.export("");
    let call = |function: &str, further: &str| {
        mirror.source.run(&format!("SELECT FROM {function}{}", mirror.arguments("copy", further)));
    };
    match random.below(8) {
        // It may have expired.
        0 => drop(query(
            &mut mirror.source.client(),
            &format!("SELECT FROM tx_compact{}", mirror.arguments("copy", ", first => 2")),
        )),
        1 => call("tx_compact", ""),
        2 if may == May::Expire => {
            call("tx_compact", "");
            call("tx_expire", ", older_than => '0', keep_batches => 0");
        }
        _ => {}
    }
}

#[test]
fn a_copy_from_any_moment_after_the_baseline_ends_as_its_source_is() {
    let mut random = Random::seeded();
    for round in 0..from_environment("BASELINES", 6) {
        let mirror = Mirror::shared(&format!("baseline_any_{round}"));
        mirror.source.run(ANY);
        mirror.source.run("SELECT tx_track('t'); SELECT tx_track('p')");
        mirror.copy.run("CREATE TABLE t (id int, k text, v int); CREATE TABLE p (id int PRIMARY KEY, v int)");
        let steps = |random: &mut Random, may| {
            (0..random.below(6)).for_each(|_| live_on(&mirror, random, may));
        };
        steps(&mut random, May::Write);
        mirror.export(", baseline => true");
        steps(&mut random, May::Expire);
        for (table, columns) in [("t", "id, k, v"), ("p", "id, v")] {
            let rows = mirror::rows(&mirror.source, &format!("SELECT {columns} FROM {table}")).join("\n");
            load(&mirror.copy, &format!("COPY {table} ({columns}) FROM stdin;\n{rows}\n\\.\n"));
            steps(&mut random, May::Expire);
        }
        adopt(&mirror);
        steps(&mut random, May::Export);
        mirror.export(", even_if_unchanged => true");
        mirror.import();
        mirror.assert_same("SELECT id, k, v FROM t");
        mirror.assert_same("SELECT id, v FROM p");
        let verify =
            format!("SELECT count(*) FROM tx_verify{} WHERE NOT equal", mirror.arguments("copy", ""));
        for side in [&mirror.source, &mirror.copy] {
            assert_eq!(side.text(&verify), "0");
        }
    }
}
