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
fn changes_are_left_out_if_a_later_batch_has_the_table_in_full() {
    let two =
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 5) i;
               CREATE TABLE other (LIKE t INCLUDING ALL); INSERT INTO other SELECT * FROM t";
    let mirror = Mirror::tracking("left_out", two, &["t", "other"]);
    mirror.copy.run("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int)");
    mirror.publish("UPDATE t SET v = 20 WHERE id = 2; DELETE FROM other WHERE id = 1");
    mirror.publish("DELETE FROM t WHERE id = 3; INSERT INTO other VALUES (6, 6)");
    let refusal = refused(&mirror, "");
    let reset = "SELECT tx_reset('copy', 'public.t');";
    refusal.expect("55000", &["table \"public.t\" is not the copy", reset]);
    mirror.source.run(reset);
    mirror.publish("UPDATE t SET v = 50 WHERE id = 5; UPDATE other SET v = 0 WHERE id = 4");
    // Batch by batch: until its full part comes, the table stays as it is, and its changes are refused.
    let import =
        format!("SELECT batch, table_name FROM tx_import{}", mirror.arguments("copy", ", max_batches => 1"));
    assert_eq!(mirror.copy.text(&import), "2|public.other");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM t"), "0");
    assert_eq!(mirror.copy.text(&import), "3|public.other");
    assert_eq!(mirror.copy.text(&import), "4|public.other\n4|public.t");
    mirror.assert_same_tables(&["t", "other"]);
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
        refused(&mirror, &asked).expect(
            "55000",
            &[
                "has rows that no import has written",
                "run: SELECT * FROM tx_import('copy', adopt => true);",
                hint,
            ],
        );
        let plan = format!("SELECT obstacle FROM tx_plan{}", mirror.arguments("copy", &asked));
        assert!(mirror.copy.text(&plan).contains("has rows that no import has written"));
        let adopts = mirror.arguments("copy", &format!("{asked}, adopt => true"));
        assert_eq!(mirror.copy.text(&format!("SELECT obstacle FROM tx_plan{adopts}")), "");
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
        "CREATE TABLE low (id int PRIMARY KEY, v int); SELECT tx_track('low'); SELECT tx_restrict('part', 'low');
         SELECT tx_restrict('copy', 't')",
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
        mirror.copy.wait_until_blocked();
        first.batch_execute("COMMIT").unwrap();
        second.join().unwrap().expect("55000", &["is the copy of table"]);
    });
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_table_that_is_left_out_here_stays_so() {
    let mirror = Mirror::shared("left_out_here");
    mirror.source.run(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
         INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); SELECT tx_track('a'); SELECT tx_track('b')",
    );
    mirror.copy.run("SELECT tx_map('copy', 'public.b', NULL)");
    let import = |further: &str| {
        format!("SELECT table_name, kind FROM tx_import{}", mirror.arguments("copy", further))
    };
    mirror.export("");
    assert_eq!(mirror.copy.text(&import(", create_tables => true")), "public.a|full");
    mirror.source.run("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
    mirror.export("");
    let plan = format!("SELECT table_name, obstacle FROM tx_plan{}", mirror.arguments("copy", ""));
    assert_eq!(mirror.copy.text(&plan), "public.a|");
    assert_eq!(mirror.copy.text(&import("")), "public.a|changes");
    assert_eq!(mirror.copy.text("SELECT to_regclass('b')"), "");
    let verify = format!("SELECT table_name, equal, complete FROM tx_verify{}", mirror.arguments("copy", ""));
    assert_eq!(mirror.copy.text(&verify), "public.a|t|t");
    assert_eq!(mirror.copy.text("SELECT table_name FROM tx_freshness"), "a");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM tx_health(false)"), "0");
    // A copy that is left out is none any more.
    let (mut client, messages) = mirror.copy.watched();
    client.batch_execute("SELECT tx_map('copy', 'public.a', NULL)").unwrap();
    let said = "table \"public.a\" is not the copy of table \"public.a\" of target \"copy\" any more";
    assert!(messages.lock().unwrap().join("\n").contains(said));
    mirror.publish("UPDATE a SET id = id + 10");
    mirror.copy.run(&import(""));
    assert_eq!(mirror.copy.text("SELECT string_agg(id::text, ' ' ORDER BY id) FROM a"), "1 2");
    // Without the mapping it needs its rows again.
    mirror.copy.run("SELECT tx_unmap('copy', 'public.a'); SELECT tx_unmap('copy', 'public.b')");
    mirror.source.run("INSERT INTO a VALUES (3); INSERT INTO b VALUES (3)");
    mirror.export("");
    mirror.copy.refused(&import("")).expect("42P01", &["public.b"]);
    mirror.source.run("SELECT tx_reset('copy')");
    mirror.export("");
    mirror.copy.run(&import(", create_tables => true, adopt => true"));
    mirror.assert_same_tables(&["a", "b"]);
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

#[test]
fn two_tables_of_one_target_do_not_share_rows_by_partitions() {
    let mirror = Mirror::shared("shared_by_partitions");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
         CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1000, 1), (1001, 1);
         SELECT tx_track('t'); SELECT tx_track('u')",
    );
    mirror.copy.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (1) TO (1000);
         CREATE TABLE high PARTITION OF t FOR VALUES FROM (1000) TO (2000);
         SELECT tx_map('copy', 'public.u', 'high')",
    );
    mirror.export("");
    let hint = "run at the source: SELECT tx_untrack('public.";
    refused(&mirror, "").expect("55000", &["is the copy of table", "Both would write rows of table", hint]);
}

#[test]
fn the_copy_of_another_owner_is_not_mapped_away() {
    let mirror = copied("mapped_away");
    mirror.copy.run(
        "CREATE ROLE mapped_away_role LOGIN; CREATE SCHEMA mine AUTHORIZATION mapped_away_role;
         GRANT EXECUTE ON FUNCTION tx_map, tx_unmap, tx_import TO mapped_away_role;
         SET ROLE mapped_away_role; CREATE TABLE mine.t (id int PRIMARY KEY, v int)",
    );
    let map = "SET ROLE mapped_away_role; SELECT tx_map('copy', 'public.t', 'mine.t')";
    mirror.copy.refused(map).expect("42501", &["must be owner of table \"public.t\""]);
    mirror.source.run("UPDATE t SET v = 0");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    mirror.copy.run("DROP OWNED BY mapped_away_role; DROP ROLE mapped_away_role");
}

#[test]
fn a_mapping_that_comes_and_goes_changes_nothing() {
    let mirror = copied("mapped_and_unmapped");
    mirror.copy.run("SELECT tx_map('copy', 'public.t', 't'); SELECT tx_unmap('copy', 'public.t')");
    mirror.source.run("UPDATE t SET v = 0");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_copy_that_needs_a_full_part_is_not_shown_as_fresh() {
    let mirror = copied("not_fresh");
    mirror.source.run("CREATE TABLE o (id int PRIMARY KEY); SELECT tx_track('o')");
    mirror.copy.run("CREATE TABLE o (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN w int");
    mirror.follow("");
    mirror.copy.run("SELECT tx_map('copy', 'public.t', 't', '{\"v\": \"w\"}')");
    mirror.source.run("INSERT INTO o VALUES (1)");
    mirror.follow("");
    let fresh = "SELECT table_name, shows IS NOT NULL FROM tx_freshness ORDER BY table_name::text";
    assert_eq!(mirror.copy.text(fresh), "o|t\nt|f");
}

#[test]
fn a_mapping_does_not_change_while_an_import_runs() {
    let mirror = copied("mapped_meanwhile");
    mirror.copy.run("ALTER TABLE t ADD COLUMN w int");
    mirror.publish("UPDATE t SET v = 0");
    let mut mapping = mirror.copy.client();
    mapping.batch_execute("BEGIN; SELECT tx_map('copy', 'public.t', 't', '{\"v\": \"w\"}')").unwrap();
    refused(&mirror, "").expect("55P03", &["is busy"]);
    let mut old = mirror.copy.client();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    mapping.batch_execute("COMMIT").unwrap();
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", ""));
    assert!(old.batch_execute(&import).is_err(), "changes went into another column");
}

#[test]
fn tables_may_swap_their_names_within_a_batch() {
    let mirror = Mirror::tracking(
        "swapped_names",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE z (id int PRIMARY KEY);
         INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); INSERT INTO z VALUES (3)",
        &["a", "b", "z"],
    );
    mirror.run("ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b");
    mirror.run("ALTER TABLE z RENAME TO c; CREATE TABLE z (id int PRIMARY KEY)");
    mirror.source.run("SELECT tx_track('z'); INSERT INTO z VALUES (4)");
    mirror.follow("");
    mirror.assert_same_tables(&["a", "b", "c", "z"]);
    mirror
        .source
        .run("INSERT INTO a VALUES (5); INSERT INTO b VALUES (6); INSERT INTO c VALUES (7); DELETE FROM z");
    mirror.follow("");
    mirror.assert_same_tables(&["a", "b", "c", "z"]);
}

#[test]
fn a_destination_that_is_reset_twice_takes_nothing_over() {
    let mirror = copied("reset_twice");
    for _ in 0..2 {
        let reset = mirror.copy.text("SELECT tx_reset('copy')");
        assert_eq!(reset, "the next import of target \"copy\" starts from its latest full batch");
    }
    mirror.source.run("UPDATE t SET v = 0");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
}
