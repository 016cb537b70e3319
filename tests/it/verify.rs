//! Tables compared with the batches in the store, at either side: each difference is found and named, and no
//! other.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::cluster::database::{Database, query, refusal, wait_until};
use crate::cluster::mirror::Mirror;

/// Compares one table, and returns `equal|complete|missing|extra|different|examples`.
fn verify_at(database: &Database, mirror: &Mirror, table: &str) -> String {
    let columns = "equal, complete, missing, extra, different, array_to_string(examples, '; ') AS examples";
    let arguments = mirror.arguments("copy", &format!(", relation => '{table}', examples => 20"));
    database.text(&format!("SELECT {columns} FROM tx_verify{arguments}"))
}

pub fn verify(mirror: &Mirror, table: &str) -> String {
    verify_at(&mirror.copy, mirror, table)
}

/// Compares one table at the source.
pub fn verify_source(mirror: &Mirror, table: &str) -> String {
    verify_at(&mirror.source, mirror, table)
}

pub const EQUAL: &str = "t|t|0|0|0|";

pub const FORMATS: [&str; 3] = ["text", "csv", "binary"];

/// A table with values that are easily taken for others.
pub const VALUES: &str = r#"
    CREATE TABLE t (
        id int PRIMARY KEY, txt text, vc varchar(20), c char(6), n numeric, f float8, j json, jb jsonb, b bytea,
        at timestamptz, ts timestamp, d date, iv interval, a text[], bl bool, u uuid, x xml, p point
    );
    INSERT INTO t SELECT i, E'one\ttwo\\ \n "three", ' || i, 'v' || i, 'ab', 1.0, '-0', '{"a": 1, "b": 2}', '{"a": 1}',
                         '\x00ff', '2024-02-29 12:00Z', '2024-02-29', '2024-02-29', '1 day', '{a,NULL,""}', true,
                         md5(i::text)::uuid, '<a/>', '(1,2)'
                    FROM generate_series(1, 50) AS i;
    INSERT INTO t (id) VALUES (0);
    INSERT INTO t (id, txt, vc, c, a) VALUES (-1, '', '', '', '{}'), (-2, '\N', E'\\.', E'\b\f\v\r', '{"NULL"}');
"#;

/// Statements that spoil a row, and what is found of them.
pub const SPOILT: &[(&str, &str)] = &[
    ("DELETE FROM t WHERE id = 7", "1|0|0|missing (7)"),
    ("INSERT INTO t (id) VALUES (1000)", "0|1|0|extra (1000)"),
    ("UPDATE t SET id = 2000 WHERE id = 3", "1|1|0|extra (2000); missing (3)"),
    ("UPDATE t SET txt = 'One' || substr(txt, 4) WHERE id = 4", "0|0|1|different (4): txt"),
    ("UPDATE t SET txt = txt || ' ' WHERE id = 4", "0|0|1|different (4): txt"),
    ("UPDATE t SET txt = '' WHERE id = 0", "0|0|1|different (0): txt"),
    ("UPDATE t SET txt = NULL WHERE id = -1", "0|0|1|different (-1): txt"),
    ("UPDATE t SET txt = NULL WHERE id = -2", "0|0|1|different (-2): txt"),
    ("UPDATE t SET vc = 'v4 ' WHERE id = 4", "0|0|1|different (4): vc"),
    ("UPDATE t SET n = 1.00 WHERE id = 4", "0|0|1|different (4): n"),
    ("UPDATE t SET f = 0.0 WHERE id = 4", "0|0|1|different (4): f"),
    ("UPDATE t SET j = '{\"b\": 2, \"a\": 1}' WHERE id = 4", "0|0|1|different (4): j"),
    ("UPDATE t SET j = '{\"a\":1, \"b\": 2}' WHERE id = 4", "0|0|1|different (4): j"),
    ("UPDATE t SET jb = '{\"a\": 1.0}' WHERE id = 4", "0|0|1|different (4): jb"),
    ("UPDATE t SET b = '\\x00fe' WHERE id = 4", "0|0|1|different (4): b"),
    ("UPDATE t SET at = at + interval '1 hour' WHERE id = 4", "0|0|1|different (4): at"),
    ("UPDATE t SET ts = ts + interval '1 microsecond' WHERE id = 4", "0|0|1|different (4): ts"),
    ("UPDATE t SET iv = '24 hours' WHERE id = 4", "0|0|1|different (4): iv"),
    ("UPDATE t SET a = '{a,\"NULL\",\"\"}' WHERE id = 4", "0|0|1|different (4): a"),
    ("UPDATE t SET x = '<a />' WHERE id = 4", "0|0|1|different (4): x"),
    (
        "UPDATE t AS a SET vc = b.vc, u = b.u FROM t AS b WHERE a.id + b.id = 11 AND a.id IN (5, 6)",
        "0|0|2|different (5): vc, u; different (6): vc, u",
    ),
    ("UPDATE t SET bl = false, p = '(1,3)' WHERE id = 9", "0|0|1|different (9): bl, p"),
];

/// Spoils a table in ways of all kinds, and mends it after each. Nothing of it is captured: what the triggers
/// note is removed again.
fn spoil(mirror: &Mirror, at: &Database) {
    at.run("CREATE TABLE kept AS TABLE t");
    let forget = "DO $$ BEGIN IF to_regclass('table_export.shadow_1_0') IS NOT NULL THEN
                  DELETE FROM table_export.shadow_1_0; DELETE FROM table_export.shadow_1_1; END IF; END $$";
    for (statement, found) in SPOILT {
        at.run(&format!("{statement}; {forget}"));
        assert_eq!(verify_at(at, mirror, "t"), format!("f|t|{found}"), "{statement}");
        at.run(&format!("DELETE FROM t; INSERT INTO t SELECT * FROM kept; {forget}"));
        assert_eq!(verify_at(at, mirror, "t"), EQUAL, "mended after {statement}");
    }
}

/// Changes the records of a batch without compression, and has its manifest say what they are now.
fn rewrite(mirror: &Mirror, batch: u32, edit: impl Fn(&str) -> String) {
    let path = mirror.store.path().join(format!("copy/manifest/{batch:010}.json"));
    let mut manifest = serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
    let folder = format!("copy/data/{batch:010}/{}", manifest["id"].as_str().unwrap());
    let part = &mut manifest["tables"][0];
    let file = Path::new(&folder).join(part["files"]["records"]["name"].as_str().unwrap());
    let file = mirror.store.path().join(file);
    let records = edit(&fs::read_to_string(&file).unwrap());
    fs::write(&file, &records).unwrap();
    part["records"] = records.lines().count().into();
    let described = &mut part["files"]["records"];
    for size in ["size", "content_size"] {
        described[size] = records.len().into();
    }
    let hash = Sha256::digest(&records).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    described["sha256"] = hash.into();
    fs::write(&path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

#[test]
fn whatever_differs_at_a_destination_is_named() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("verify_{format}"));
        mirror.source.run(VALUES);
        mirror.track(&["t"]);
        let further = format!(", format => '{format}'");
        mirror.follow(&further);
        assert_eq!(verify(&mirror, "t"), EQUAL, "{format}");
        mirror.source.run(
            "UPDATE t SET vc = 'changed' WHERE id BETWEEN 20 AND 30; DELETE FROM t WHERE id IN (21, 31);
             INSERT INTO t (id, txt) VALUES (31, 'again'), (60, 'new')",
        );
        mirror.follow(&further);
        mirror.source.run("UPDATE t SET vc = 'twice' WHERE id = 22; DELETE FROM t WHERE id = 60");
        mirror.follow(&further);
        assert_eq!(verify(&mirror, "t"), EQUAL, "{format}");
        assert_eq!(verify_source(&mirror, "t"), EQUAL, "{format}");
        spoil(&mirror, &mirror.copy);
    }
}

#[test]
fn whatever_differs_at_the_source_is_named() {
    let mirror = Mirror::tracking("verify_source", VALUES, &["t"]);
    assert_eq!(verify_source(&mirror, "t"), EQUAL);
    spoil(&mirror, &mirror.source);
}

#[test]
fn whatever_differs_in_the_store_is_named_at_both_sides() {
    let mirror = Mirror::shared("verify_store");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, 'note' FROM generate_series(1, 9) AS i",
    );
    mirror.track(&["t"]);
    mirror.follow(", compression => 'none'");
    mirror.source.run("UPDATE t SET note = 'changed' WHERE id IN (2, 3); DELETE FROM t WHERE id = 4");
    mirror.follow(", compression => 'none'");
    let whole = mirror.store.copy();
    let both = [&mirror.copy, &mirror.source];
    for at in both {
        assert_eq!(verify_at(at, &mirror, "t"), EQUAL);
    }
    for (batch, from, to, found) in [
        (1, "5\tnote\n", "", "f|t|0|1|0|extra (5)"),
        (1, "5\tnote", "5\tnotf", "f|t|0|0|1|different (5): note"),
        (1, "5\tnote", "5\t\\N", "f|t|0|0|1|different (5): note"),
        (1, "5\tnote", "50\tnote", "f|t|1|1|0|extra (5); missing (50)"),
        // What a later batch replaces does not matter.
        (1, "2\tnote", "2\tother", EQUAL),
        (1, "4\tnote\n", "", EQUAL),
        (2, "2\tchanged", "2\tnote", "f|t|0|0|1|different (2): note"),
        (2, "2\tchanged\n", "", "f|t|0|1|0|extra (2)"),
        (2, "3\tchanged\n", "3\tchanged\n4\tnote\n", "f|t|1|0|0|missing (4)"),
    ] {
        rewrite(&mirror, batch, |records| records.replacen(from, to, 1));
        for at in both {
            assert_eq!(verify_at(at, &mirror, "t"), found, "{from:?} became {to:?}");
        }
        let mut copy = Command::new("cp");
        let copied = copy.arg("-a").arg(whole.path().join(".")).arg(mirror.store.path()).status();
        assert!(copied.unwrap().success());
    }
}

#[test]
fn an_equal_table_is_equal_whatever_it_is_at_the_destination() {
    let mirror = Mirror::shared("verify_shapes");
    mirror.run(
        "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text)",
    );
    mirror.source.run(
        r#"CREATE TABLE orders (a varchar(10), id int, b text, m mood, p pair, twice int GENERATED ALWAYS AS (id * 2) STORED,
                                PRIMARY KEY (id, a));
           INSERT INTO orders SELECT 'a' || i % 3, i, E'x\ty', 'ok', ROW(i, 'b, "c')::pair FROM generate_series(1, 99) AS i;
           CREATE TABLE words (w citext PRIMARY KEY, n numeric(9, 3));
           INSERT INTO words VALUES ('Abc', 1), ('abd', 1.5), ('ä', NULL);
           CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'one'), (2, NULL);
           CREATE TABLE parts (id int, part int, v text, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
           CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
           INSERT INTO parts SELECT i, i % 3, 'v' FROM generate_series(1, 99) AS i;
           CREATE TABLE "Odd "" name" ("from" int PRIMARY KEY, "Big; col" text); INSERT INTO "Odd "" name" VALUES (1, 'x');
           SELECT tx_track('orders'), tx_track('words'), tx_track('people'), tx_track('parts'), tx_track('"Odd "" name"')"#,
    );
    mirror.copy.run(
        r#"CREATE TABLE orders (own int DEFAULT 7, twice bigint, p pair, m text, b varchar, id bigint, a text,
                                more bigint GENERATED ALWAYS AS (id + 1) STORED, PRIMARY KEY (a, id));
           CREATE TABLE words (n numeric, w citext PRIMARY KEY);
           CREATE TABLE folk (label text, number int PRIMARY KEY);
           SELECT tx_map('copy', 'public.people', 'folk', '{"id": "number", "name": "label"}');
           CREATE TABLE parts (v text, part int, id int, PRIMARY KEY (id, part)) PARTITION BY RANGE (id);
           CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (50); CREATE TABLE parts_high PARTITION OF parts DEFAULT;
           CREATE TABLE "Odd "" name" ("Big; col" text, "from" int PRIMARY KEY)"#,
    );
    mirror.follow("");
    mirror.source.run(
        "UPDATE orders SET b = 'new' WHERE id < 20; UPDATE words SET w = 'ABC' WHERE w = 'abc'; DELETE FROM people WHERE id = 2;
         UPDATE parts SET part = 2 WHERE id < 10",
    );
    mirror.follow("");
    let all = format!(
        "SELECT table_name, rows, equal, complete FROM tx_verify{} ORDER BY table_name COLLATE \"C\"",
        mirror.arguments("copy", "")
    );
    let sizes = |people: &str| {
        format!(
            "public.Odd \" name|1|t|t\n{people}public.orders|99|t|t\npublic.parts|99|t|t\npublic.words|3|t|t"
        )
    };
    assert_eq!(mirror.copy.text(&all), sizes("public.folk|1|t|t\n"));
    let at_the_source = sizes("").replace("public.words", "public.people|1|t|t\npublic.words");
    assert_eq!(mirror.source.text(&all), at_the_source);

    mirror.copy.run(
        "UPDATE orders SET own = id, b = 'New' WHERE id = 5; UPDATE words SET w = 'Abd' WHERE w = 'abd';
         UPDATE folk SET label = 'One'; UPDATE parts SET id = 1000 WHERE id = 4",
    );
    assert_eq!(verify(&mirror, "orders"), "f|t|0|0|1|different (5,a2): b");
    assert_eq!(verify(&mirror, "words"), "f|t|1|1|0|extra (Abd); missing (abd)");
    assert_eq!(verify(&mirror, "folk"), "f|t|0|0|1|different (1): label");
    assert_eq!(verify(&mirror, "parts"), "f|t|1|1|0|extra (1000,2); missing (4,2)");
}

#[test]
fn a_table_larger_than_memory_is_compared_within_it() {
    let mirror = Mirror::tracking(
        "verify_memory",
        "CREATE TABLE t (id int PRIMARY KEY, note text);
         INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100000) AS i",
        &["t"],
    );
    mirror.source.run("UPDATE t SET note = 'new' WHERE id % 2 = 0; DELETE FROM t WHERE id % 10 = 0");
    mirror.follow("");
    let call = mirror.arguments("copy", ", examples => 9");
    let columns = "rows, equal, missing, extra, different, array_to_string(examples, '; ') AS examples";
    let call = format!("SELECT {columns} FROM tx_verify{call}");
    let small = "SET maintenance_work_mem = '1MB'; ";
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(at.text(&format!("{small}{call}")), "90000|t|0|0|0|");
    }
    mirror.copy.run(
        "UPDATE t SET note = 'Mew' WHERE id = 77777; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (0, '')",
    );
    let found = "90000|f|1|1|1|extra (0); missing (4); different (77777): note";
    for memory in [small, ""] {
        assert_eq!(mirror.copy.text(&format!("{memory}{call}")), found);
    }
    let refused = mirror.copy.refused(&format!("SET temp_file_limit = '100kB'; {call}"));
    refused.expect("53400", &["temporary file size exceeds temp_file_limit (100kB)"]);
}

/// Compares all tables, and returns `batch|table_name|rows|equal|complete|note` for each.
fn notes(database: &Database, mirror: &Mirror) -> String {
    let columns = "batch, table_name, rows, equal, complete, note";
    database.text(&format!("SELECT {columns} FROM tx_verify{}", mirror.arguments("copy", "")))
}

const TWO: &str = "
    CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, 'note' FROM generate_series(1, 9) AS i;
    CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1), (2)";

#[test]
fn what_the_store_does_not_hold_is_told() {
    let mirror = Mirror::tracking("verify_held", TWO, &["t", "u"]);
    for id in 1..=3 {
        mirror.source.run(&format!("UPDATE t SET note = 'new' WHERE id = {id}"));
        mirror.follow("");
    }
    let all = "4|public.t|9|t|t|\n4|public.u|2|t|t|";
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(notes(at, &mirror), all);
    }
    let whole = mirror.store.copy();
    fs::remove_file(mirror.store.path().join("copy/manifest/0000000002.json")).unwrap();
    for (at, hint) in
        [(&mirror.copy, "run at the source: SELECT tx_reset"), (&mirror.source, "run: SELECT tx_reset")]
    {
        let told = notes(at, &mirror);
        let lines = told.lines().collect::<Vec<_>>();
        assert!(
            lines[0].starts_with("4|public.t|9|t|f|not compared: rows that have not changed since"),
            "{told}"
        );
        assert!(lines[0].contains("batch 2, which the store does not hold"), "{told}");
        assert!(lines[0].contains(&format!("{hint}('copy', 'public.t')")), "{told}");
        assert!(
            lines[1].starts_with("4|public.u|||f|not compared: no batch in the store has anything"),
            "{told}"
        );
    }
    // What is known is compared all the same.
    mirror.copy.run("UPDATE t SET note = 'spoilt'; DELETE FROM t WHERE id = 3");
    assert_eq!(verify(&mirror, "t"), "f|f|1|0|1|different (2): note; missing (3)");
    mirror.copy.run(
        "INSERT INTO t VALUES (3, 'new'); UPDATE t SET note = CASE WHEN id < 4 THEN 'new' ELSE 'note' END",
    );
    mirror.source.run("DELETE FROM t WHERE id = 2");
    mirror.follow("");
    mirror.copy.run("INSERT INTO t VALUES (2, 'new')");
    assert_eq!(verify(&mirror, "t"), "f|f|0|1|0|extra (2)");
    mirror.copy.run("DELETE FROM t WHERE id = 2");
    assert_eq!(verify(&mirror, "t"), "t|f|0|0|0|");

    let status = Command::new("cp").arg("-a").arg(whole.path().join(".")).arg(mirror.store.path()).status();
    assert!(status.unwrap().success());
    mirror.copy.run(&format!("SELECT FROM tx_compact{}", mirror.arguments("copy", "")));
    for number in 1..=5 {
        fs::remove_file(mirror.store.path().join(format!("copy/manifest/{number:010}.json"))).unwrap();
    }
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(notes(at, &mirror), "5|public.t|8|t|t|\n5|public.u|2|t|t|");
    }
}

#[test]
fn compacted_batches_stand_in_for_others() {
    let mirror = Mirror::tracking("verify_compacted", TWO, &["t", "u"]);
    for id in 1..=5 {
        mirror
            .source
            .run(&format!("UPDATE t SET note = 'new' WHERE id = {id}; DELETE FROM t WHERE id = {id} - 1"));
        mirror.follow("");
    }
    for run in ["first => 2, last => 3", "first => 3, last => 5"] {
        mirror.copy.run(&format!("SELECT FROM tx_compact{}", mirror.arguments("copy", &format!(", {run}"))));
    }
    // Only the way by the shorter run is left: the batch before the other is gone.
    for number in [2, 3] {
        fs::remove_file(mirror.store.path().join(format!("copy/manifest/{number:010}.json"))).unwrap();
    }
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(notes(at, &mirror), "6|public.t|5|t|t|\n6|public.u|2|t|t|");
    }
    mirror.copy.run("DELETE FROM t WHERE id = 9");
    assert_eq!(verify(&mirror, "t"), "f|t|1|0|0|missing (9)");
}

#[test]
fn a_destination_is_compared_as_of_its_last_batch() {
    let mirror = Mirror::tracking("verify_behind", TWO, &["t", "u"]);
    mirror.publish("DELETE FROM t WHERE id = 1");
    mirror.publish("DELETE FROM t WHERE id = 2");
    assert_eq!(notes(&mirror.copy, &mirror), "1|public.t|9|t|t|\n1|public.u|2|t|t|");
    mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("copy", ", max_batches => 1")));
    assert_eq!(notes(&mirror.copy, &mirror), "2|public.t|8|t|t|\n2|public.u|2|t|t|");
    // What is imported while a transaction is open is seen at once, at any isolation level.
    let mut client = mirror.copy.client();
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM t").unwrap();
    mirror.import();
    let call = format!("SELECT batch, rows, equal FROM tx_verify{} LIMIT 1", mirror.arguments("copy", ""));
    assert_eq!(query(&mut client, &call).unwrap(), "3|7|t");
}

#[test]
fn keys_that_change_meanwhile_are_left_out_at_the_source() {
    let mirror = Mirror::tracking("verify_meanwhile", TWO, &["t", "u"]);
    let counts = || {
        let arguments = mirror.arguments("copy", "");
        let columns = "rows, equal, complete, missing, extra, different, left_out";
        mirror.source.text(&format!("SELECT {columns} FROM tx_verify{arguments} LIMIT 1"))
    };
    assert_eq!(counts(), "9|t|t|0|0|0|0");
    let mut writer = mirror.source.client();
    writer.batch_execute("BEGIN; DELETE FROM t WHERE id = 9").unwrap();
    mirror.source.run(
        "INSERT INTO t SELECT i FROM generate_series(100, 120) AS i; UPDATE t SET note = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2;
         UPDATE t SET id = 30 WHERE id = 3",
    );
    assert_eq!(counts(), "29|t|t|0|0|0|25");
    // A batch that shows only some of it, and a transaction that began before it.
    mirror.follow("");
    assert_eq!(counts(), "29|t|t|0|0|0|0");
    writer.batch_execute("COMMIT").unwrap();
    assert_eq!(counts(), "28|t|t|0|0|0|1");
    mirror.source.run("DELETE FROM table_export.shadow_1_0; DELETE FROM table_export.shadow_1_1");
    assert_eq!(counts(), "28|f|t|1|0|0|0", "a change that was not captured");
    mirror.source.run("TRUNCATE t; INSERT INTO t VALUES (1)");
    let told = notes(&mirror.source, &mirror);
    assert!(
        told.starts_with("2|public.t|||f|not compared: the next export sends the table in full. Run: SELECT"),
        "{told}"
    );
    mirror.source.run("ALTER TABLE u ADD note text DEFAULT 'x'");
    assert!(notes(&mirror.source, &mirror).contains("public.u|||f|not compared: the next export sends"));
    mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
    let refused = mirror.source.refused(&mirror.source.with_target("copy").call("tx_verify", ""));
    refused
        .expect("55000", &["the next batch of target \"copy\" is full, and nothing can be compared before"]);
}

#[test]
fn views_of_restricted_targets_are_seen_through() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("verify_views_{format}"));
        mirror.source.run(TWO);
        mirror.source.run(
            "ALTER TABLE t ADD secret text DEFAULT 'x'; ALTER TABLE t DROP COLUMN note; ALTER TABLE t ADD note text DEFAULT 'n';
             SELECT tx_track('t'), tx_track('u');
             CREATE VIEW v AS SELECT upper(note) AS loud, id FROM t WHERE id < 8; SELECT tx_restrict('copy', 't', 'v')",
        );
        mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, loud text)");
        let further = format!(", format => '{format}'");
        mirror.follow(&further);
        mirror.source.run("UPDATE t SET note = 'm' WHERE id = 1; UPDATE t SET id = 20 WHERE id = 7; DELETE FROM t WHERE id = 2");
        mirror.follow(&further);
        for at in [&mirror.copy, &mirror.source] {
            assert_eq!(notes(at, &mirror), "2|public.t|5|t|t|", "{format}");
        }
        mirror.source.run("UPDATE t SET note = 'o' WHERE id = 3; DELETE FROM table_export.shadow_1_0; DELETE FROM table_export.shadow_1_1");
        assert_eq!(verify_source(&mirror, "t"), "f|t|0|0|1|different (3): loud", "{format}");
    }
}

#[test]
fn a_copy_that_cannot_be_compared_is_told() {
    let mirror = Mirror::tracking(
        "verify_copies",
        &format!(
            "{TWO}; CREATE TABLE w (id int PRIMARY KEY, a int, b int); INSERT INTO w VALUES (1, 2, 3);
                  CREATE TABLE x (id int PRIMARY KEY); CREATE TABLE y (id int PRIMARY KEY, z int)"
        ),
        &["t", "u", "w", "x", "y"],
    );
    // One is not sent any more, and its copy stays as it was.
    mirror.source.run("INSERT INTO u VALUES (3)");
    mirror.follow("");
    mirror.source.run("INSERT INTO u VALUES (4); SELECT tx_untrack('u'); INSERT INTO t VALUES (10, '')");
    mirror.follow("");
    mirror.copy.run(
        "ALTER TABLE w DROP COLUMN a; DROP TABLE x; ALTER TABLE y DROP COLUMN id; ALTER TABLE y ADD id int;
         SELECT tx_map('copy', 'public.y', 'y', '{\"z\": \"id\", \"id\": \"z\"}')",
    );
    let told = notes(&mirror.copy, &mirror);
    let lines = told.lines().collect::<Vec<_>>();
    assert_eq!(lines[0], "3|public.t|10|t|t|");
    assert_eq!(lines[1], "2|public.u|3|t|t|");
    assert_eq!(lines[2], "3|public.w|1|t|f|not compared: columns that do not exist here: a");
    assert!(
        lines[3].starts_with("3|public.x|||f|not compared: the copy has been dropped. To have all"),
        "{told}"
    );
    assert!(
        lines[4].starts_with("3|public.y|||f|not compared: the copy has not received its rows. "),
        "{told}"
    );
    mirror.copy.run("UPDATE w SET b = 4");
    assert_eq!(verify(&mirror, "w"), "f|f|0|0|1|different (1): b");
    mirror
        .copy
        .run("ALTER TABLE w RENAME COLUMN id TO number; CREATE TABLE z (id int); SELECT tx_map('copy', 'public.y', 'z')");
    let told = notes(&mirror.copy, &mirror);
    assert!(told.contains("public.w|||f|not compared: column \"id\" does not exist here"), "{told}");
    assert!(told.contains("public.y|||f|not compared: no table here is its copy"), "{told}");
}

#[test]
fn what_cannot_be_compared_at_all_is_refused() {
    let mirror = Mirror::shared("verify_refused");
    mirror.run(&format!("{TWO}; CREATE TABLE other (id int)"));
    let call = |further: &str| format!("SELECT FROM tx_verify{}", mirror.arguments("copy", further));
    for at in [&mirror.copy, &mirror.source] {
        let refused = at.refused(&call(""));
        refused.expect(
            "42704",
            &["nothing of target \"copy\" has been exported or imported here", "tx_import('copy')"],
        );
        at.refused(&call(", examples => -1")).expect("22023", &["\"examples\"", "0 or more"]);
        at.refused(&call(", examples => 10001")).expect("22023", &["\"examples\"", "up to 10000"]);
        at.refused(&call(", examples => NULL")).expect("22004", &["\"examples\""]);
        at.refused("SELECT tx_verify(NULL)").expect("22004", &["\"target\""]);
        for sample in ["0", "-1", "0.00001", "1.01", "'NaN'", "'Infinity'"] {
            let refused = at.refused(&call(&format!(", sample => {sample}")));
            refused.expect("22023", &["\"sample\"", "Allowed: 0.0001 to 1."]);
        }
        at.refused(&call(", sample => NULL")).expect("22004", &["\"sample\""]);
        at.refused(&call(", share => 1")).expect("22023", &["\"share\"", "such as sample => 0.01"]);
    }
    mirror.copy.run("TRUNCATE t; TRUNCATE u");
    mirror.source.run("SELECT tx_track('t'); SELECT tx_track('u')");
    mirror.follow("");
    for at in [&mirror.copy, &mirror.source] {
        let refused = at.refused(&call(", relation => 'other'"));
        refused.expect("55000", &["table \"public.other\" is not one of target \"copy\" here"]);
        at.refused(&call(", relation => 1")).expect("42P01", &["no table with OID 1"]);
    }
    let manifest = mirror.store.path().join("copy/manifest/0000000001.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let id = serde_json::from_str::<Value>(&text).unwrap()["id"].as_str().unwrap().to_owned();
    fs::write(&manifest, text.replace(&id, "00000000-0000-7000-8000-000000000000")).unwrap();
    for at in [&mirror.copy, &mirror.source] {
        at.refused(&call(""))
            .expect("55000", &["batch 1 of target \"copy\" in store", "is another one than is known here"]);
    }
    fs::remove_file(&manifest).unwrap();
    for at in [&mirror.copy, &mirror.source] {
        at.refused(&call("")).expect("42704", &["does not hold batch 1 of target \"copy\"", "as of batch 1"]);
    }
    fs::write(&manifest, text).unwrap();
    let records =
        mirror.store.files().into_iter().find(|file| file.ends_with("public/t/records.zst")).unwrap();
    let records = mirror.store.path().join(records);
    let mut bytes = fs::read(&records).unwrap();
    bytes[10] ^= 1;
    fs::write(&records, bytes).unwrap();
    for at in [&mirror.copy, &mirror.source] {
        at.refused(&call("")).expect("XX001", &["is damaged", "records.zst"]);
    }
}

#[test]
fn only_who_may_read_a_table_compares_it() {
    let mirror = Mirror::tracking("verify_rights", TWO, &["t", "u"]);
    let store = mirror.store.url();
    for (at, role) in [(&mirror.copy, "verifier_there"), (&mirror.source, "verifier_here")] {
        at.run(&format!("CREATE ROLE {role}; GRANT pg_read_server_files TO {role}"));
        let call = |further: &str| {
            format!("SET ROLE {role}; SELECT count(*) FROM tx_verify('copy', store => '{store}'{further})")
        };
        at.refused(&call("")).expect("42501", &["tx_verify"]);
        at.run(&format!("GRANT EXECUTE ON FUNCTION tx_verify TO {role}; GRANT SELECT ON t TO {role}"));
        at.refused(&call("")).expect(
            "42501",
            &["permission denied for table \"public.u\"", &format!("GRANT SELECT ON public.u TO {role}")],
        );
        assert_eq!(at.text(&call(", relation => 't'")), "1");
        at.run(&format!("GRANT SELECT ON u TO {role}; ALTER TABLE u ENABLE ROW LEVEL SECURITY"));
        at.refused(&call("")).expect("42501", &["row security would hide rows of table \"public.u\""]);
        at.run("ALTER TABLE u DISABLE ROW LEVEL SECURITY");
        assert_eq!(at.text(&call("")), "2");
    }
}

/// A table that takes a while to read.
fn of_many_rows(name: &str, rows: u32) -> Mirror {
    let ddl = format!(
        "CREATE TABLE t (id int PRIMARY KEY, note text);
         INSERT INTO t SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, {rows}) AS i"
    );
    Mirror::tracking(name, &ddl, &["t"])
}

#[test]
fn a_cancel_is_obeyed() {
    let mirror = of_many_rows("verify_cancel", 300_000);
    let call = format!("SELECT FROM tx_verify{}", mirror.arguments("copy", ""));
    for timeout in [1, 50, 100, 200, 400, 800] {
        for at in [&mirror.copy, &mirror.source] {
            let started = Instant::now();
            let limited =
                format!("SET maintenance_work_mem = '1MB'; SET statement_timeout = {timeout}; {call}");
            let answer = query(&mut at.client(), &limited);
            let took = started.elapsed().as_millis();
            match answer {
                Ok(_) => assert!(timeout > 100, "it is too quick for this test"),
                Err(error) => refusal(&error).expect("57014", &[]),
            }
            assert!(took < timeout + 1000, "{timeout}: {took}");
        }
    }
}

#[test]
fn what_was_found_is_remembered() {
    let mirror = Mirror::tracking("verify_remembered", TWO, &["t", "u"]);
    let fresh = "SELECT verified_batch, verified, verified_at > now() - interval '1 minute' FROM tx_freshness ORDER BY table_name::text";
    let problems = |at: &Database| {
        at.text("SELECT severity, object, problem, detail, since IS NOT NULL, hint FROM tx_health(false) WHERE problem ~ 'differs'")
    };
    assert_eq!(mirror.copy.text(fresh), "||\n||");
    let call = format!("SELECT count(*) FROM tx_verify{}", mirror.arguments("copy", ""));
    assert_eq!(mirror.copy.text(&format!("BEGIN READ ONLY; {call}; COMMIT")), "2");
    assert_eq!(mirror.copy.text(fresh), "||\n||");
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(at.text(&call), "2");
        assert_eq!(problems(at), "");
    }
    assert_eq!(mirror.copy.text(fresh), "1|t|t\n1|t|t");

    mirror
        .copy
        .run("UPDATE t SET note = 'x' WHERE id < 3; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (0)");
    mirror.source.run("DELETE FROM t WHERE id = 9; DELETE FROM table_export.shadow_1_0; DELETE FROM table_export.shadow_1_1");
    for at in [&mirror.copy, &mirror.source] {
        at.text(&call);
    }
    assert_eq!(mirror.copy.text(fresh), "1|f|t\n1|t|t");
    let problem = "critical|public.t|table \"public.t\" differs from what the store says that it is|Compared with batch 1: ";
    let see = "|t|To see which, run: SELECT * FROM tx_verify('copy', 'public.t', examples => 100); ";
    let (repair, again) = (
        "To write what differs, and nothing else, run: SELECT * FROM tx_repair('copy'); to",
        " have all rows sent again, run",
    );
    let reset = ": SELECT tx_reset('copy', 'public.t'); SELECT * FROM tx_export('copy');";
    assert_eq!(
        problems(&mirror.copy),
        format!(
            "{problem}missing rows: 1, extra rows: 1, rows with other values: 2.{see}{repair}{again} at the source{reset}"
        )
    );
    assert_eq!(
        problems(&mirror.source),
        format!("{problem}missing rows: 1, extra rows: 0, rows with other values: 0.{see}To{again}{reset}")
    );
    // The HINT ends it, at both sides.
    mirror.source.run("SELECT tx_reset('copy', 'public.t')");
    mirror.follow("");
    for at in [&mirror.copy, &mirror.source] {
        assert_eq!(problems(at), "");
        at.text(&call);
        assert_eq!(problems(at), "");
    }
    assert_eq!(mirror.copy.text(fresh), "2|t|t\n2|t|t");
    mirror.assert_verified();
    for at in [&mirror.copy, &mirror.source] {
        at.run("SELECT tx_forget('copy')");
        assert_eq!(at.text("SELECT count(*) FROM table_export.proof"), "0");
    }
}

#[test]
fn a_table_that_is_written_anew_meanwhile_is_seen_whole() {
    let mirror = Mirror::tracking("verify_rewritten", TWO, &["t", "u"]);
    let mut other = mirror.copy.client();
    // With another type all rows are written anew, and an older snapshot sees none of them.
    other.batch_execute("BEGIN; ALTER TABLE t ALTER id TYPE bigint").unwrap();
    std::thread::scope(|scope| {
        let verifying = scope.spawn(|| verify(&mirror, "t"));
        mirror.copy.wait_until_blocked();
        other.batch_execute("COMMIT").unwrap();
        assert_eq!(verifying.join().unwrap(), EQUAL);
    });
}

#[test]
fn shares_of_the_keys_are_the_same_at_both_sides_and_together_all() {
    let mirror = Mirror::tracking(
        "verify_sample",
        "CREATE TABLE t (b text, a int, note text, PRIMARY KEY (a, b));
         INSERT INTO t SELECT E'tab\t' || i, i, 'note' FROM generate_series(1, 1000) AS i",
        &["t"],
    );
    mirror.source.run("UPDATE t SET note = 'new' WHERE a % 10 = 0; DELETE FROM t WHERE a = 20");
    mirror.follow("");
    let share = |at: &Database, share: i32| {
        let columns = "rows, missing, extra, different, left_out, complete, note";
        let arguments = mirror.arguments("copy", &format!(", sample => 0.34, share => {share}"));
        at.text(&format!("SELECT {columns} FROM tx_verify{arguments}"))
    };
    let rows = |row: &str| row.split('|').next().unwrap().parse::<u32>().unwrap();
    let shares = [1, 2, 3].map(|number| share(&mirror.copy, number));
    assert_eq!(shares.iter().map(|row| rows(row)).sum::<u32>(), 999);
    for (number, row) in (1..).zip(&shares) {
        let note = format!("not compared: keys outside of share {number} of 3");
        assert_eq!(*row, format!("{}|0|0|0|0|f|{note}", rows(row)));
        assert!(rows(row) > 250, "{row}");
        assert_eq!(share(&mirror.source, number), *row);
        assert_eq!(share(&mirror.copy, number + 3), *row);
        assert_eq!(share(&mirror.copy, number - 3), *row);
    }
    mirror
        .copy
        .run("UPDATE t SET note = 'x' WHERE a = 7; DELETE FROM t WHERE a = 8; INSERT INTO t VALUES ('', 20)");
    mirror.source.run("UPDATE t SET note = 'y' WHERE a IN (1, 2, 3)");
    let sum = |at: &Database, column: usize| {
        let shares = [1, 2, 3].map(|number| share(at, number));
        shares.iter().map(|row| row.split('|').nth(column).unwrap().parse::<u32>().unwrap()).sum::<u32>()
    };
    assert_eq!([1, 2, 3].map(|column| sum(&mirror.copy, column)), [1, 1, 1]);
    assert_eq!([1, 2, 3, 4].map(|column| sum(&mirror.source, column)), [0, 0, 0, 3]);

    let today = "SELECT note = 'not compared: keys outside of share ' ||
                                extract(epoch FROM now())::bigint / 86400 % 100 + 1 || ' of 100' FROM tx_verify";
    assert_eq!(mirror.copy.text(&format!("{today}{}", mirror.arguments("copy", ", sample => 0.01"))), "t");
    let whole = format!("SELECT complete FROM tx_verify{}", mirror.arguments("copy", ", sample => 0.9"));
    assert_eq!(mirror.copy.text(&whole), "t");
}

#[test]
fn a_sample_is_remembered_only_if_it_differs() {
    let mirror = Mirror::tracking("verify_sampled", TWO, &["t"]);
    let verify = |sample: &str| {
        let call = format!("SELECT equal, complete FROM tx_verify{}", mirror.arguments("copy", sample));
        let verified = mirror.copy.text(&call);
        format!("{verified} {}", mirror.copy.text("SELECT verified FROM tx_freshness"))
    };
    assert_eq!(verify(", sample => 0.5, share => 1"), "t|f ");
    assert_eq!(verify(""), "t|t t");
    assert_eq!(verify(", sample => 0.5, share => 1"), "t|f t");
    mirror.copy.run("UPDATE t SET note = 'x' WHERE id = 7");
    let mut found = [1, 2].map(|share| verify(&format!(", sample => 0.5, share => {share}")));
    found.sort();
    assert!(found[0] == "f|f f" && found[1].starts_with("t|f "), "{found:?}");
    let differs = "SELECT count(*) FROM tx_health(false) WHERE problem ~ 'differs'";
    assert_eq!(mirror.copy.text(differs), "1");
    mirror.copy.run("UPDATE t SET note = 'note' WHERE id = 7");
    for share in [1, 2] {
        assert_eq!(verify(&format!(", sample => 0.5, share => {share}")), "t|f f");
    }
    assert_eq!(verify(""), "t|t t");
    assert_eq!(mirror.copy.text(differs), "0");
}

#[test]
fn how_many_rows_have_been_read_can_be_seen() {
    let mirror = of_many_rows("verify_progress", 200_000);
    let progress = |command: &str| {
        format!(
            "SELECT count(*) FROM pg_stat_progress_copy
              WHERE command = '{command}' AND tuples_processed BETWEEN 1 AND 199999
                AND datname = current_database()"
        )
    };
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in (0..100).take_while(|_| !is_over.load(Ordering::SeqCst)) {
                assert_eq!(verify(&mirror, "t"), EQUAL);
            }
        });
        for (what, command) in [("the store is", "COPY FROM"), ("rows are", "COPY TO")] {
            wait_until(&format!("{what} being read"), || mirror.copy.text(&progress(command)) == "1");
        }
        is_over.store(true, Ordering::SeqCst);
    });
}
