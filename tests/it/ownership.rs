//! Which table of which target a table is the copy of: changes are applied to no other table, and rows that no
//! import has written are not replaced unless the caller says so.

use crate::cluster::database::Refusal;
use crate::cluster::mirror::Mirror;

/// A table of five rows, tracked, and its copy.
fn copied(name: &str) -> Mirror {
    let five =
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 5) i";
    Mirror::tracking(name, five, &["t"])
}

/// Imports what must be refused, and makes sure that `t` is as before.
#[track_caller]
fn refused(mirror: &Mirror, further: &str) -> Refusal {
    let rows = "SELECT sum(id), sum(v), count(*) FROM t";
    let before = mirror.copy.text(rows);
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", further));
    let refusal = mirror.copy.refused(&import);
    assert_eq!(mirror.copy.text(rows), before);
    refusal
}

/// Makes sure that changes are refused here, and that the full part of the next batch is not.
#[track_caller]
fn needs_a_full_part(mirror: &Mirror, compared: &str) {
    mirror.publish("UPDATE t SET v = 20 WHERE id = 2");
    let reset = "run at the source: SELECT tx_reset('copy', 'public.t');";
    refused(mirror, "").expect("55000", &["is not the copy of table \"public.t\" of target \"copy\"", reset]);
    mirror.source.run("SELECT tx_reset('copy', 't')");
    mirror.follow("");
    assert_eq!(mirror.copy.text(&format!("SELECT sum(v), count(*) FROM {compared}")), "33|5");
}

#[test]
fn a_table_made_anew_gets_no_changes() {
    let mirror = copied("made_anew");
    mirror.copy.run("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int)");
    needs_a_full_part(&mirror, "t");
}

#[test]
fn a_table_that_has_taken_the_name_of_the_copy_gets_no_changes() {
    let mirror = copied("swapped_in");
    mirror.copy.run(
        "ALTER TABLE t RENAME TO former; CREATE TABLE t (LIKE former INCLUDING ALL);
         INSERT INTO t SELECT * FROM former",
    );
    mirror.publish("UPDATE t SET v = 20 WHERE id = 2");
    refused(&mirror, "").expect("55000", &["\"public.t\" is not the copy"]);
    mirror.copy.run("DROP TABLE t; ALTER TABLE former RENAME TO t");
    mirror.import();
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_table_that_the_copy_is_newly_mapped_to_gets_no_changes() {
    let mirror = copied("mapped_anew");
    mirror.copy.run("CREATE TABLE u (id int PRIMARY KEY, v int); SELECT tx_map('copy', 'public.t', 'u')");
    needs_a_full_part(&mirror, "u");
}

#[test]
fn a_copy_whose_columns_are_mapped_anew_gets_no_changes() {
    let mirror = copied("columns_mapped_anew");
    mirror
        .copy
        .run("ALTER TABLE t ADD COLUMN w int; SELECT tx_map('copy', 'public.t', 't', '{\"v\": \"w\"}')");
    mirror.publish("UPDATE t SET v = 20 WHERE id = 2");
    refused(&mirror, "").expect("55000", &["is not the copy"]);
    mirror.source.run("SELECT tx_reset('copy', 't')");
    mirror.follow("");
    assert_eq!(mirror.copy.text("SELECT sum(w), count(*) FROM t"), "33|5");
}

#[test]
fn the_same_mapping_once_more_changes_nothing() {
    let mirror = copied("mapped_again");
    mirror.copy.run("SELECT tx_map('copy', 'public.t', 't')");
    mirror.source.run("UPDATE t SET v = 20 WHERE id = 2");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn rows_that_no_import_has_written_are_replaced_only_if_the_caller_says_so() {
    for mode in ["merge", "append"] {
        let mirror = Mirror::shared(&format!("own_rows_{mode}"));
        mirror
            .source
            .run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)");
        mirror.track(&["t"]);
        mirror.copy.run("INSERT INTO t SELECT i, 2 FROM generate_series(2, 1000) i");
        mirror.export("");
        let asked = format!(", mode => '{mode}'");
        let hint = "SELECT tx_map('copy', 'public.t', '…');";
        refused(&mirror, &asked)
            .expect("55000", &["has rows that no import has written", "adopt => true", hint]);
        let plan = format!("SELECT obstacle FROM tx_plan{}", mirror.arguments("copy", &asked));
        assert!(mirror.copy.text(&plan).contains("has rows that no import has written"));
        let adopt = mirror.arguments("copy", &format!("{asked}, adopt => true"));
        let done = format!("SELECT deleted, updated, inserted, unchanged FROM tx_import{adopt}");
        assert_eq!(mirror.copy.text(&done), "997|1|1|1", "merged in either mode");
        mirror.assert_same_tables(&["t"]);
        mirror.source.run("UPDATE t SET v = 7 WHERE id = 3");
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn a_copy_is_not_that_of_a_second_target() {
    let mirror = copied("second_target");
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("other", "")));
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("other", ""));
    mirror.copy.refused(&import).expect(
        "55000",
        &[
            "\"public.t\" is the copy of table \"public.t\" of target \"copy\"",
            "LIST partition",
            "tx_forget('copy');",
        ],
    );
    mirror.copy.run("SELECT tx_forget('copy')");
    mirror.copy.refused(&import).expect("55000", &["adopt => true"]);
    mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("other", ", adopt => true")));
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_copy_is_not_that_of_a_second_table() {
    let mirror = copied("second_table");
    mirror
        .source
        .run("CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (6, 6); SELECT tx_track('u')");
    mirror.copy.run("SELECT tx_map('copy', 'public.u', 't')");
    mirror.export("");
    refused(&mirror, "").expect("55000", &["is the copy of table \"public.t\" of target \"copy\""]);
    // Neither is a table that two of one batch are mapped to.
    mirror.copy.run("SELECT tx_forget('copy'); TRUNCATE t");
    mirror.source.run("SELECT tx_reset('copy')");
    mirror.export("");
    refused(&mirror, "").expect("55000", &["is the copy of table"]);
}

#[test]
fn a_table_is_mapped_to_no_copy_of_another_target() {
    let mirror = copied("mapped_to_a_copy");
    mirror.copy.refused("SELECT tx_map('other', 'public.u', 't')").expect("55000", &["is the copy of table"]);
}

#[test]
fn a_partition_and_its_root_are_not_copies_of_two_targets() {
    let mirror = copied("partition_and_root");
    mirror.copy.run(
        "DROP TABLE t; SELECT tx_forget('copy');
         CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (1) TO (10)",
    );
    mirror.import();
    mirror.assert_same_tables(&["t"]);
    mirror.source.run(
        "CREATE TABLE low (id int PRIMARY KEY, v int); SELECT tx_track('low'); SELECT tx_restrict('part', 'low')",
    );
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("part", "")));
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("part", ""));
    let texts =
        ["\"public.t\" is the copy of table \"public.t\" of target \"copy\"", "rows of table \"public.low\""];
    mirror.copy.refused(&import).expect("55000", &texts);
    // Nor when the copy of another target is attached later.
    mirror.copy.run("ALTER TABLE t DETACH PARTITION low; TRUNCATE low");
    mirror.copy.run(&import);
    mirror.copy.run("ALTER TABLE t ATTACH PARTITION low FOR VALUES FROM (1) TO (10)");
    mirror.publish("UPDATE t SET v = 0");
    refused(&mirror, "")
        .expect("55000", &["\"public.low\" is the copy of table \"public.low\" of target \"part\""]);
}

#[test]
fn a_renamed_table_stays_the_copy() {
    let mirror = copied("renamed_on_both_sides");
    mirror.run("ALTER TABLE t RENAME TO u");
    mirror.source.run("UPDATE u SET v = 0");
    mirror.follow("");
    mirror.assert_same_tables(&["u"]);
    mirror.source.run("UPDATE u SET v = 1");
    mirror.follow("");
    mirror.assert_same_tables(&["u"]);
}

#[test]
fn a_table_of_an_extension_is_a_copy_only_by_a_mapping() {
    let mirror = copied("of_extension");
    mirror
        .source
        .run("CREATE TABLE job (id int PRIMARY KEY); INSERT INTO job VALUES (1); SELECT tx_track('job')");
    mirror.copy.run("CREATE TABLE job (id int PRIMARY KEY); ALTER EXTENSION plpgsql ADD TABLE job");
    mirror.export("");
    let map = "SELECT tx_map('copy', 'public.job', 'public.job')";
    refused(&mirror, "")
        .expect("55000", &["\"public.job\" belongs to extension \"plpgsql\"", &format!("{map};")]);
    mirror.copy.run(map);
    mirror.import();
    mirror.assert_same_tables(&["job"]);
}

#[test]
fn catalogs_are_no_copies_even_by_a_mapping() {
    let mirror = copied("catalogs");
    for table in ["table_export.copy", "pg_catalog.pg_class"] {
        let map = format!("SELECT tx_map('copy', 'public.u', '{table}')");
        mirror.copy.refused(&map).expect("42809", &["system table"]);
    }
}

#[test]
fn two_first_imports_of_one_table_do_not_both_write() {
    let mirror = Mirror::shared("two_first_imports");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
    mirror.track(&["t"]);
    let import = |target: &str| format!("SELECT FROM tx_import{}", mirror.arguments(target, ""));
    for target in ["copy", "other"] {
        mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments(target, "")));
    }
    let mut first = mirror.copy.client();
    first.batch_execute(&format!("BEGIN; {}", import("copy"))).unwrap();
    std::thread::scope(|scope| {
        let second = scope.spawn(|| mirror.copy.refused(&import("other")));
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        crate::cluster::database::wait_until("the second import waits", || mirror.copy.text(waits) != "0");
        first.batch_execute("COMMIT").unwrap();
        second.join().unwrap().expect("55000", &["is the copy of table"]);
    });
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn several_sources_fill_one_table_by_its_partitions() {
    let mirror = copied("several_sources");
    mirror.copy.run(
        "DROP TABLE t; SELECT tx_forget('copy');
         CREATE TABLE everywhere (origin text, id int, v int, PRIMARY KEY (id, origin)) PARTITION BY LIST (origin);
         CREATE TABLE of_copy PARTITION OF everywhere (origin DEFAULT 'copy') FOR VALUES IN ('copy');
         CREATE TABLE of_other PARTITION OF everywhere (origin DEFAULT 'other') FOR VALUES IN ('other');
         SELECT tx_map('copy', 'public.t', 'of_copy'); SELECT tx_map('other', 'public.t', 'of_other')",
    );
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("other", "")));
    let import_other = format!("SELECT FROM tx_import{}", mirror.arguments("other", ""));
    mirror.import();
    mirror.copy.run(&import_other);
    mirror
        .source
        .run("UPDATE t SET v = 0 WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (6, 6)");
    mirror.follow("");
    let sums = "SELECT origin, sum(id), sum(v), count(*) FROM everywhere GROUP BY 1 ORDER BY 1";
    assert_eq!(mirror.copy.text(sums), "copy|19|18|5\nother|15|15|5");
    mirror.source.run("SELECT tx_reset('other')");
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("other", "")));
    mirror.copy.run(&import_other);
    assert_eq!(mirror.copy.text(sums), "copy|19|18|5\nother|19|18|5");
}
