//! Both ways to apply a batch, in every format: what they change, what they leave alone, and what others see
//! meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use crate::cluster::database::query;
use crate::cluster::mirror::{Mirror, rows};

const FORMATS: [&str; 3] = ["text", "csv", "binary"];
const MODES: [&str; 2] = ["append", "merge"];

/// Imports, and returns `kind|deleted|updated|inserted` for each part.
fn import(mirror: &Mirror, mode: &str) -> String {
    let arguments = mirror.arguments("copy", &format!(", mode => '{mode}'"));
    mirror.copy.text(&format!("SELECT kind, deleted, updated, inserted FROM tx_import{arguments}"))
}

/// Changes the source, exports, imports, compares, and returns what the import did.
#[track_caller]
fn follow(mirror: &Mirror, mode: &str, change: &str) -> String {
    mirror.publish(change);
    let done = import(mirror, mode);
    mirror.assert_same_tables(&["t"]);
    done
}

/// Has the next export send everything.
fn reset(mirror: &Mirror) {
    mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
}

/// Where each row of the copy is, and who wrote it.
fn places(mirror: &Mirror, condition: &str) -> Vec<String> {
    rows(&mirror.copy, &format!("SELECT id, tableoid::regclass, ctid, xmin FROM t WHERE {condition}"))
}

#[test]
fn both_modes_follow_in_every_format() {
    for mode in MODES {
        for format in FORMATS {
            let mirror = Mirror::shared(&format!("formats_{mode}_{format}"));
            mirror.source.run(
                "CREATE TABLE t (a text, id int, note text, j json, x xml, p point, n numeric, PRIMARY KEY (id, a));
                 INSERT INTO t SELECT 'a', i, E'\\\\ \\t \"' || i, '{\"a\": 1}', '<a/>', '(1,2)', 1.0
                                 FROM generate_series(1, 50) AS i",
            );
            mirror.track(&["t"]);
            let further = format!(", format => '{format}'");
            for (change, merged, appended) in [
                ("SELECT", "full|0|0|50", "full|0|0|50"),
                ("UPDATE t SET note = NULL WHERE id <= 10", "changes|0|10|0", "changes|10|0|10"),
                ("UPDATE t SET note = note WHERE id > 40", "changes|0|0|0", "changes|10|0|10"),
                ("DELETE FROM t WHERE id <= 3", "changes|3|0|0", "changes|3|0|0"),
                ("INSERT INTO t (id, a) VALUES (1, 'new'), (2, ''), (90, '')", "changes|0|0|3", "changes|0|0|3"),
                // Only the image of a value differs, or a type has no equality.
                (
                    "UPDATE t SET n = 1.00 WHERE id = 4; UPDATE t SET j = '{ \"a\":1}' WHERE id = 5;
                     UPDATE t SET x = '<a />' WHERE id = 6; UPDATE t SET p = '(1,3)' WHERE id = 7",
                    "changes|0|4|0",
                    "changes|4|0|4",
                ),
                (
                    "UPDATE t SET id = -id WHERE id IN (10, 11); DELETE FROM t WHERE id = 12; UPDATE t SET note = 'x' WHERE id = 13;
                     INSERT INTO t (id, a) VALUES (12, 'a')",
                    "changes|2|2|2",
                    "changes|4|0|4",
                ),
            ] {
                mirror.source.run(change);
                mirror.export(&further);
                assert_eq!(import(&mirror, mode), if mode == "merge" { merged } else { appended }, "{change}");
                mirror.assert_same_tables(&["t"]);
            }
            assert_eq!(import(&mirror, mode), "");
        }
    }
}

#[test]
fn a_mode_is_append_or_merge() {
    let mirror = Mirror::shared("modes");
    let call = |mode: &str| format!("SELECT tx_import('t', mode => {mode})");
    mirror.copy.refused(&call("'upsert'")).expect("22023", &["\"mode\"", "upsert", "merge, append"]);
    mirror.copy.refused(&call("NULL")).expect("22004", &["\"mode\""]);
}

#[test]
fn merging_keeps_what_is_the_destinations_own() {
    for (mode, kept) in [("merge", "1 2 3 4 5 0 0"), ("append", "1 2 0 0 0 0 0")] {
        for other_index in ["", "CREATE UNIQUE INDEX ON t (v)"] {
            let mirror = Mirror::shared(&format!("own_{mode}_{}", other_index.is_empty()));
            mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i; SELECT tx_track('t')");
            mirror.copy.run(
                "CREATE TABLE t (own int DEFAULT 0, v int, n int GENERATED ALWAYS AS IDENTITY (START 100), id int PRIMARY KEY,
                                 big text DEFAULT '', twice int GENERATED ALWAYS AS (v * 2) STORED)",
            );
            mirror.copy.run(other_index);
            mirror.export("");
            import(&mirror, mode);
            mirror.copy.run("UPDATE t SET own = id, big = repeat(md5(id::text), 100000)");
            mirror.source.run("UPDATE t SET v = v + 1 WHERE id > 2; INSERT INTO t VALUES (6, 16), (7, 17)");
            mirror.export("");
            import(&mirror, mode);
            mirror.assert_same("SELECT id, v FROM t");
            let own = "SELECT string_agg(own::text, ' ' ORDER BY id) FROM t";
            assert_eq!(mirror.copy.text(own), kept, "{mode} {other_index}");
            if mode == "merge" {
                // No number was drawn for a row that was there.
                let all = "SELECT string_agg(n::text, ' ' ORDER BY id) FROM t WHERE twice = v * 2";
                assert_eq!(mirror.copy.text(all), "100 101 102 103 104 105 106");
                let big = "SELECT count(*) FROM t WHERE big = repeat(md5(id::text), 100000)";
                assert_eq!(mirror.copy.text(big), "5");
            }
        }
    }
}

#[test]
fn merging_rewrites_only_what_differs() {
    for kind in ["changes", "full"] {
        let mirror = Mirror::shared(&format!("differs_{kind}"));
        mirror.source.run(
            "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric);
             INSERT INTO t SELECT i, repeat('v', i % 100), i / 7.0 FROM generate_series(1, 2000) AS i",
        );
        mirror.track(&["t"]);
        mirror.copy.run("ALTER TABLE t SET (fillfactor = 50)");
        mirror.follow("");
        let before = places(&mirror, "id % 100 > 2");
        mirror.source.run(
            "UPDATE t SET v = v; UPDATE t SET v = 'new' WHERE id % 100 = 0; DELETE FROM t WHERE id % 100 = 1;
             UPDATE t SET id = -id WHERE id % 100 = 2",
        );
        if kind == "full" {
            reset(&mirror);
        }
        mirror.export("");
        assert_eq!(import(&mirror, "merge"), format!("{kind}|40|20|20"));
        mirror.assert_same_tables(&["t"]);
        assert_eq!(places(&mirror, "id % 100 > 2"), before);
        // The index still points to where the row was: that is what makes an update heap-only.
        mirror.copy.run("CREATE EXTENSION pageinspect");
        let heap_only = "SELECT count(*) FROM generate_series(0, pg_relation_size('t') / 8192 - 1) AS page,
                                heap_page_items(get_raw_page('t', page::int)) WHERE t_infomask2 & 32768 <> 0";
        assert_eq!(mirror.copy.text(heap_only), "20");
    }
}

#[test]
fn swapped_unique_values_arrive() {
    let definitions = [
        ("unique", "ALTER TABLE t ADD UNIQUE (a)"),
        ("several", "ALTER TABLE t ADD UNIQUE (b, a)"),
        ("partial", "CREATE UNIQUE INDEX ON t (a) WHERE active"),
        ("expression", "CREATE UNIQUE INDEX ON t (abs(a), (b IS NULL), lower(c)) WHERE a > -100"),
        ("row", "CREATE UNIQUE INDEX ON t ((t IS NULL), a)"),
        ("covering", "CREATE UNIQUE INDEX ON t (a) INCLUDE (b, id)"),
        ("deferrable", "ALTER TABLE t ADD UNIQUE (a) DEFERRABLE"),
        ("deferred", "ALTER TABLE t ADD UNIQUE (a) DEFERRABLE INITIALLY DEFERRED"),
        ("exclusion", "ALTER TABLE t ADD EXCLUDE (a WITH =)"),
        (
            "excluded_key",
            "ALTER TABLE t ADD EXCLUDE USING gist (box(point(id, a), point(id, a)) WITH &&, box(point(a, a), point(a, a)) WITH &&)",
        ),
        ("with_nulls", "CREATE UNIQUE INDEX ON t (a) NULLS NOT DISTINCT"),
        ("generated", "ALTER TABLE t ADD UNIQUE (g)"),
    ];
    for mode in MODES {
        for (name, definition) in definitions {
            let mirror = Mirror::shared(&format!("swap_{mode}_{name}"));
            let table =
                "CREATE TABLE t (id int PRIMARY KEY, a int, b int, c text, active boolean DEFAULT true";
            mirror
                .source
                .run(&format!("{table}, UNIQUE (a) DEFERRABLE INITIALLY DEFERRED); SELECT tx_track('t')"));
            mirror.copy.run(&format!(
                "{table}, own text DEFAULT 'none', g int GENERATED ALWAYS AS (a * 2) STORED); {definition}"
            ));
            mirror.source.run("INSERT INTO t SELECT i, i, 0, chr(i + 60) FROM generate_series(1, 40) AS i");
            let columns = "SELECT id, a, b, c, active FROM t";
            let step = |change: &str| {
                mirror.source.run(change);
                mirror.export("");
                import(&mirror, mode);
                mirror.assert_same(columns);
            };
            step("SELECT");
            mirror.copy.run("UPDATE t SET own = 'own ' || id");
            step(
                "UPDATE t SET a = 3 - a, c = (SELECT c FROM t AS o WHERE o.id = 3 - t.id) WHERE id IN (1, 2)",
            );
            step("UPDATE t SET a = a % 40 + 1");
            step(
                "UPDATE t SET b = b + 1 WHERE id < 9; UPDATE t SET a = NULL WHERE id = 5; UPDATE t SET a = 6 WHERE id = 30",
            );
            step("UPDATE t SET a = 7 WHERE id = 5; UPDATE t SET a = NULL WHERE id = 6");
            step(
                "UPDATE t SET active = id % 2 = 0; UPDATE t SET active = NOT active, a = (SELECT a FROM t AS o WHERE o.id = 51 - t.id) WHERE id > 10",
            );
            step(
                "DELETE FROM t WHERE id = 7; UPDATE t SET a = 100 WHERE id = 8; INSERT INTO t SELECT 50, 9, 1, 'z'; UPDATE t SET a = 8 WHERE id = 9",
            );
            if mode == "merge" {
                let own = "SELECT count(*) FROM t WHERE own = 'own ' || id OR (own = 'none' AND id = 50)";
                assert_eq!(mirror.copy.text(own), "40", "{name}");
            }
        }
    }
}

#[test]
fn swapped_values_arrive_in_the_batch_of_a_full_table() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("swap_full_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i");
        mirror.track(&["t"]);
        mirror.copy.run("ALTER TABLE t ADD UNIQUE (a)");
        mirror.follow("");
        reset(&mirror);
        follow(
            &mirror,
            mode,
            "UPDATE t SET a = 101 - a; DELETE FROM t WHERE id = 50; INSERT INTO t VALUES (500, 51)",
        );
    }
}

#[test]
fn keys_that_are_equal_and_look_different_are_updated() {
    for kind in ["changes", "full"] {
        let mirror = Mirror::shared(&format!("images_{kind}"));
        mirror.run(
            "CREATE EXTENSION citext;
             CREATE COLLATION level2 (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE TYPE pair AS (a numeric, b text)",
        );
        mirror.source.run(
            "CREATE TABLE t (c citext, n numeric, l text COLLATE level2, q \"char\", p pair, v int, PRIMARY KEY (p, c, n, l, q));
             INSERT INTO t VALUES ('a', 1.0, 'x', 'c', (1.0, 'p'), 1)",
        );
        mirror.track(&["t"]);
        mirror.follow("");
        if kind == "full" {
            reset(&mirror);
        }
        let done = follow(
            &mirror,
            "merge",
            "UPDATE t SET c = 'A', n = 1.00, l = 'X', p = (1.00, 'p') WHERE c = 'a'; INSERT INTO t VALUES ('b', 2, '', '', (NULL, NULL), 4)",
        );
        assert_eq!(done, format!("{kind}|0|1|1"));
        assert_eq!(follow(&mirror, "merge", "UPDATE t SET v = 7"), "changes|0|2|0");
        assert_eq!(follow(&mirror, "merge", "DELETE FROM t"), "changes|2|0|0");
    }
}

#[test]
fn a_partitioned_destination_is_merged() {
    for other_index in ["", "CREATE UNIQUE INDEX ON high (v)", "CREATE UNIQUE INDEX ON t (part, v)"] {
        for kind in ["changes", "full"] {
            let mirror = Mirror::shared(&format!("parts_{kind}_{}", other_index.len()));
            mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, part int NOT NULL, v text); INSERT INTO t SELECT i, i % 100, 'v' || i FROM generate_series(1, 500) AS i");
            mirror.source.run("SELECT tx_track('t')");
            mirror.copy.run(
                "CREATE TABLE t (v text, own int DEFAULT 0, id int NOT NULL, part int NOT NULL) PARTITION BY RANGE (part);
                 CREATE TABLE low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (50);
                 CREATE TABLE high (part int NOT NULL, gone int, id int NOT NULL, own int DEFAULT 0, v text);
                 ALTER TABLE high DROP COLUMN gone; ALTER TABLE t ATTACH PARTITION high DEFAULT;
                 CREATE INDEX ON t (id)",
            );
            mirror.copy.run(other_index);
            mirror.export("");
            import(&mirror, "merge");
            mirror.copy.run("UPDATE t SET own = id");
            let before = places(&mirror, "id > 20");
            mirror.source.run(
                "UPDATE t SET part = 99 - part WHERE id <= 10; UPDATE t SET v = 'w' || id WHERE id BETWEEN 11 AND 18;
                 UPDATE t SET part = 99 - part, v = CASE id WHEN 1 THEN 'v99' ELSE 'v1' END WHERE id IN (1, 99); DELETE FROM t WHERE id = 19; UPDATE t SET v = v",
            );
            if kind == "full" {
                reset(&mirror);
            }
            mirror.export("");
            assert_eq!(import(&mirror, "merge"), format!("{kind}|1|19|0"), "{other_index}");
            mirror.assert_same("SELECT id, part, v FROM t");
            assert_eq!(mirror.copy.text("SELECT count(*) FROM t WHERE own = id"), "499");
            let same = places(&mirror, "id > 20 AND id <> 99").iter().all(|place| before.contains(place));
            assert!(same, "rows have moved: {other_index}");
        }
    }
}

#[test]
fn identities_are_set() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("identity_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, n int, v text); INSERT INTO t SELECT i, i * 10, 'v' FROM generate_series(1, 9) AS i; SELECT tx_track('t')");
        mirror
            .copy
            .run("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int NOT NULL, v text)");
        for change in [
            "SELECT",
            "UPDATE t SET v = 'w' WHERE id < 4; INSERT INTO t VALUES (20, 200); DELETE FROM t WHERE id = 9",
            "UPDATE t SET n = n + 1",
        ] {
            follow(&mirror, mode, change);
        }
        let swapped = Mirror::shared(&format!("identity_value_{mode}"));
        swapped.source.run("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, v text); INSERT INTO t SELECT i, i * 10, 'v' FROM generate_series(1, 9) AS i; SELECT tx_track('t')");
        swapped.copy.run("CREATE TABLE t (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v text)");
        for change in ["SELECT", "UPDATE t SET n = n + 1 WHERE id < 5; UPDATE t SET v = 'w' WHERE id > 3"] {
            follow(&swapped, mode, change);
        }
    }
}

#[test]
fn a_destination_without_an_index_is_merged_and_mended() {
    for kind in ["changes", "full"] {
        for definition in ["", "CREATE INDEX ON t (id)", "ALTER TABLE t ADD PRIMARY KEY (id) DEFERRABLE"] {
            let mirror = Mirror::shared(&format!("no_index_{kind}_{}", definition.len()));
            mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 300) AS i; SELECT tx_track('t')");
            mirror.copy.run("CREATE TABLE t (id int, v int)");
            mirror.copy.run(definition);
            mirror.export("");
            import(&mirror, "merge");
            // Rows that a user has doubled do not stay doubled when they come again.
            mirror.copy.run("SET session_replication_role = replica; INSERT INTO t SELECT * FROM t WHERE id <= 20; INSERT INTO t VALUES (1, 5)");
            mirror.source.run("UPDATE t SET v = v WHERE id <= 10; UPDATE t SET v = 1 WHERE id BETWEEN 11 AND 20; DELETE FROM t WHERE id = 2");
            if kind == "full" {
                reset(&mirror);
            }
            mirror.export("");
            import(&mirror, "merge");
            mirror.assert_same_tables(&["t"]);
        }
    }
}

#[test]
fn triggers_that_are_always_fire_as_for_the_change_that_it_is() {
    let mirror = Mirror::shared("apply_triggers");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i");
    mirror.track(&["t"]);
    mirror.copy.run(
        "CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY, line text);
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO public.log (line) VALUES (concat_ws(' ', TG_NAME, lower(TG_OP), OLD.id, NEW.id)); RETURN COALESCE(NEW, OLD); END $$;
         CREATE TRIGGER quiet AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION log();
         CREATE TRIGGER always BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION log();
         CREATE TRIGGER replica AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION log();
         ALTER TABLE t ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER replica",
    );
    follow(&mirror, "merge", "SELECT");
    mirror.copy.run("TRUNCATE log");
    let change = "UPDATE t SET v = 0 WHERE id = 1; UPDATE t SET v = v WHERE id = 4; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (6)";
    assert_eq!(follow(&mirror, "merge", change), "changes|1|1|1");
    assert_eq!(
        mirror.copy.text("SELECT line FROM log ORDER BY n"),
        "always delete 2\nreplica delete 2\nalways update 1 1\nreplica update 1 1\nalways insert 6\nreplica insert 6"
    );
}

#[test]
fn tables_that_refer_to_each_other_are_merged() {
    let mirror = Mirror::shared("references");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE s (id int PRIMARY KEY, t int REFERENCES t);
         INSERT INTO t VALUES (1), (2); INSERT INTO s VALUES (1, 1), (2, 2)",
    );
    mirror.track(&["t", "s"]);
    mirror.copy.run("ALTER TABLE s ADD FOREIGN KEY (t) REFERENCES t ON DELETE CASCADE");
    mirror.follow("");
    mirror
        .source
        .run("INSERT INTO t VALUES (3); UPDATE s SET t = 3 WHERE id = 1; DELETE FROM t WHERE id = 1");
    mirror.follow("");
    mirror.assert_same_tables(&["t", "s"]);
}

#[test]
fn a_row_that_the_destination_does_not_accept_is_named() {
    let mirror = Mirror::shared("refused");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)");
    mirror.track(&["t"]);
    mirror.follow("");
    let import = format!("SELECT tx_import{}", mirror.arguments("copy", ""));
    mirror.copy.run("ALTER TABLE t ADD CHECK (v < 10)");
    mirror
        .source
        .run("UPDATE t SET v = 10 WHERE id = 2; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (3, NULL)");
    mirror.export("");
    let place = "While applying batch 2 of target \"copy\" to table \"public.t\".";
    mirror.copy.refused(&import).expect("23514", &["Failing row contains (2, 10).", place]);
    mirror.copy.run("ALTER TABLE t DROP CONSTRAINT t_v_check; ALTER TABLE t ALTER v SET NOT NULL");
    mirror.copy.refused(&import).expect("23502", &["Failing row contains (3, null).", place]);
    assert_eq!(rows(&mirror.copy, "SELECT * FROM t"), ["1\t1", "2\t2"]);
    mirror.copy.run("ALTER TABLE t ALTER v DROP NOT NULL; SELECT FROM pg_class");
    mirror.import();
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn readers_see_the_old_table_or_the_new_one() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("readers_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 20000) AS i");
        mirror.track(&["t"]);
        mirror.follow("");
        let done = AtomicBool::new(false);
        let seen = scope(|scope| {
            let reader = scope.spawn(|| {
                let mut client = mirror.copy.client();
                client.batch_execute("SET lock_timeout = '1s'").unwrap();
                let mut seen = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let state = query(&mut client, "SELECT count(*), min(v), max(v) FROM t").unwrap();
                    if seen.last() != Some(&state) {
                        seen.push(state);
                    }
                }
                seen
            });
            for round in 1..=5 {
                mirror.source.run(&format!("UPDATE t SET v = {round}"));
                reset(&mirror);
                mirror.export("");
                import(&mirror, mode);
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        let expected = (0..=5).map(|round| format!("20000|{round}|{round}")).collect::<Vec<_>>();
        assert!(seen.iter().all(|state| expected.contains(state)), "{seen:?}");
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn large_batches_need_little_memory() {
    let mirror = Mirror::shared("large");
    mirror.copy.run("ALTER DATABASE large SET work_mem = '64kB'");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int, w text); INSERT INTO t SELECT i, 0, 'w' || i FROM generate_series(1, 250000) AS i");
    mirror.track(&["t"]);
    mirror.follow("");
    let changed = follow(&mirror, "merge", "UPDATE t SET v = 1 WHERE id <= 200000");
    assert_eq!(changed, "changes|0|200000|0");
    let changed = follow(
        &mirror,
        "merge",
        "DELETE FROM t WHERE id % 5 = 0; INSERT INTO t SELECT -i, 0 FROM generate_series(1, 1000) AS i",
    );
    assert_eq!(changed, "changes|50000|0|1000");
    reset(&mirror);
    assert_eq!(follow(&mirror, "merge", "SELECT"), "full|0|0|0");
}

#[test]
fn a_destination_that_other_sessions_write_to_is_not_disturbed() {
    let mirror = Mirror::shared("writers");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) AS i");
    mirror.track(&["t"]);
    mirror.copy.run("ALTER TABLE t ADD own int DEFAULT 0");
    mirror.follow("");
    let done = AtomicBool::new(false);
    let written = scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut client, mut count) = (mirror.copy.client(), 0);
            while !done.load(Ordering::Relaxed) {
                client.batch_execute("UPDATE t SET own = own + 1 WHERE id = 50").unwrap();
                count += 1;
            }
            count
        });
        for round in 1..=20 {
            mirror.source.run(&format!("UPDATE t SET v = {round}"));
            mirror.follow("");
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    mirror.assert_same("SELECT id, v FROM t");
    assert_eq!(mirror.copy.text("SELECT own FROM t WHERE id = 50"), written.to_string());
}
