//! Copies that somebody has spoilt: `tx_repair` writes what differs and nothing else, and `tx_resend` has the
//! source send keys once more.

use std::fs;

use crate::cluster::database::{query, refusal};
use crate::cluster::mirror::{Mirror, rows};
use crate::verify::{EQUAL, FORMATS, SPOILT, VALUES, verify};

/// Repairs, and returns `table_name|deleted|updated|inserted|equal|complete` for each table.
fn repair(mirror: &Mirror, further: &str) -> String {
    let columns = "table_name, deleted, updated, inserted, equal, complete";
    mirror.copy.text(&format!("SELECT {columns} FROM tx_repair{}", mirror.arguments("copy", further)))
}

fn whole(mirror: &Mirror) -> Vec<String> {
    rows(&mirror.copy, "SELECT * FROM t")
}

#[test]
fn whatever_is_spoilt_is_repaired() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("repair_{format}"));
        mirror.source.run(VALUES);
        mirror.track(&["t"]);
        let further = format!(", format => '{format}'");
        mirror.follow(&further);
        mirror
            .source
            .run("UPDATE t SET vc = 'changed' WHERE id IN (20, 21); DELETE FROM t WHERE id IN (21, 31)");
        mirror.follow(&further);
        let before = whole(&mirror);
        assert_eq!(repair(&mirror, ""), "public.t|0|0|0|t|t", "{format}");
        for (statement, found) in SPOILT {
            mirror.copy.run(statement);
            let versions =
                "SELECT count(*) FROM t WHERE xmin::text <> (SELECT min(xmin::text::int)::text FROM t)";
            let spoilt = mirror.copy.text(versions);
            let counts = found.split('|').take(3).map(|n| n.parse::<u32>().unwrap()).collect::<Vec<_>>();
            let [missing, extra, different] = counts[..] else { unreachable!() };
            let repaired = format!("public.t|{extra}|{different}|{missing}|t|t");
            assert_eq!(repair(&mirror, ""), repaired, "{format}: {statement}, {spoilt}");
            assert_eq!(whole(&mirror), before, "{format}: {statement}");
        }
        assert_eq!(verify(&mirror, "t"), EQUAL);
        // The next import goes on.
        mirror.source.run("DELETE FROM t WHERE id = 5");
        mirror.follow(&further);
        assert_eq!(verify(&mirror, "t"), EQUAL);
    }
}

const MANY: &str = "CREATE TABLE t (id int PRIMARY KEY, note text);
    INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 30000) AS i";

#[test]
fn more_rows_than_fit_into_memory_are_refused() {
    let mirror = Mirror::tracking("repair_memory", MANY, &["t"]);
    mirror.copy.run(
        "UPDATE t SET note = 'x' WHERE id <= 20000; DELETE FROM t WHERE id > 29000; INSERT INTO t VALUES (0)",
    );
    let call = mirror.arguments("copy", "");
    let small = "SET maintenance_work_mem = '1MB'; SELECT deleted, updated, inserted, equal FROM tx_repair";
    let refused = mirror.copy.refused(&format!("{small}{call}"));
    refused.expect("53400", &["21001 rows of table \"public.t\" differ", "maintenance_work_mem = '4MB'"]);
    assert_eq!(mirror.copy.text(&format!("{}{call}", small.replace("1MB", "4MB"))), "1|20000|1000|t");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn only_what_differs_is_written() {
    let mirror = Mirror::tracking("repair_only", MANY, &["t"]);
    let version = "SELECT min(xmin::text::bigint) FROM t";
    let before = mirror.copy.text(version);
    mirror.copy.run("UPDATE t SET note = 'x' WHERE id = 3");
    assert_eq!(repair(&mirror, ""), "public.t|0|1|0|t|t");
    assert_eq!(mirror.copy.text(&format!("SELECT count(*) FROM t WHERE xmin::text <> '{before}'")), "1");
    mirror.copy.run("DELETE FROM t WHERE id > 10000");
    mirror.copy.run("INSERT INTO t SELECT i, 'x' FROM generate_series(100000, 140000) AS i");
    let refused =
        mirror.copy.refused(&mirror.copy.with_target("copy").call("tx_repair", ", delete_limit => 30"));
    refused.expect("53400", &["30 percent", "tx_repair('copy', delete_limit => 100)"]);
    assert_eq!(repair(&mirror, ", delete_limit => 100"), "public.t|40001|0|20000|t|t");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn copies_of_every_shape_are_repaired() {
    let mirror = Mirror::shared("repair_shapes");
    mirror.run("CREATE EXTENSION citext");
    mirror.source.run(
        "CREATE TABLE words (w citext PRIMARY KEY, n int UNIQUE);
         INSERT INTO words VALUES ('Abc', 1), ('abd', 2), ('abe', 3);
         CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'one'), (2, NULL);
         CREATE TABLE parts (id int, part int, v text, PRIMARY KEY (id, part));
         INSERT INTO parts SELECT i, i % 3, 'v' FROM generate_series(1, 99) AS i;
         CREATE TABLE loose (id int PRIMARY KEY); INSERT INTO loose VALUES (1), (2);
         SELECT tx_track('words'), tx_track('people'), tx_track('parts'), tx_track('loose')",
    );
    mirror.copy.run(
        r#"CREATE TABLE words (own int DEFAULT 7, n int UNIQUE, w citext PRIMARY KEY);
           CREATE TABLE folk (label text, number int PRIMARY KEY);
           SELECT tx_map('copy', 'public.people', 'folk', '{"id": "number", "name": "label"}');
           CREATE TABLE parts (v text, part int, id int, PRIMARY KEY (id, part)) PARTITION BY RANGE (id);
           CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (50); CREATE TABLE parts_high PARTITION OF parts DEFAULT;
           CREATE TABLE loose (id int)"#,
    );
    mirror.follow("");
    mirror.copy.run(
        "UPDATE words SET own = 8; UPDATE words SET w = 'ABC' WHERE w = 'abc';
         UPDATE words SET n = n + 10; UPDATE words SET n = CASE n WHEN 12 THEN 3 WHEN 13 THEN 2 ELSE n END;
         UPDATE folk SET label = 'x'; UPDATE parts SET id = id + 1000 WHERE id < 3; INSERT INTO loose VALUES (1), (3)",
    );
    let repaired = repair(&mirror, "");
    for row in [
        "public.folk|0|2|0|t|t",
        "public.loose|2|0|0|t|t",
        "public.parts|2|0|2|t|t",
        "public.words|0|3|0|t|t",
    ] {
        assert!(repaired.lines().any(|line| line == row), "{repaired}");
    }
    assert_eq!(mirror.copy.text("SELECT w, n, own FROM words ORDER BY n"), "Abc|1|8\nabd|2|8\nabe|3|8");
    mirror.assert_verified();
}

#[test]
fn a_repair_needs_the_rights_of_an_import() {
    let mirror = Mirror::tracking("repair_rights", MANY, &["t"]);
    mirror.copy.run(
        "CREATE ROLE repairer; GRANT EXECUTE ON FUNCTION tx_repair TO repairer;
         GRANT pg_read_server_files TO repairer; GRANT SELECT, INSERT, DELETE ON t TO repairer; SELECT tx_protect('t');
         ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET note = 'x' WHERE id = 7; SELECT tx_protect('t')",
    );
    let call = mirror.copy.with_target("copy").call("tx_repair", "");
    let mut client = mirror.copy.client();
    client.batch_execute("SET ROLE repairer").unwrap();
    let refused = refusal(&query(&mut client, &call).unwrap_err());
    refused.expect("42501", &["INSERT, UPDATE and DELETE", "\"public.t\""]);
    mirror.copy.run("GRANT UPDATE ON t TO repairer");
    query(&mut client, &call).unwrap();
    mirror.assert_same_tables(&["t"]);
    mirror.copy.run("REVOKE SELECT ON t FROM repairer");
    refusal(&query(&mut client, &call).unwrap_err()).expect("42501", &["SELECT", "\"public.t\""]);
}

#[test]
fn what_the_store_does_not_hold_is_left_alone() {
    let mirror = Mirror::tracking("repair_held", MANY, &["t"]);
    mirror.source.run("UPDATE t SET note = 'new' WHERE id IN (1, 2); DELETE FROM t WHERE id = 3");
    mirror.follow("");
    fs::remove_file(mirror.store.path().join("copy/manifest/0000000001.json")).unwrap();
    mirror.copy.run("UPDATE t SET note = 'x' WHERE id IN (2, 9); INSERT INTO t VALUES (3, 'x')");
    assert_eq!(repair(&mirror, ""), "public.t|1|1|0|t|f");
    assert_eq!(mirror.copy.text("SELECT id FROM t WHERE note = 'x'"), "9");
}

#[test]
fn columns_that_have_lost_their_values_get_them() {
    let mirror = Mirror::tracking("repair_stale", MANY, &["t"]);
    mirror.copy.run("ALTER TABLE t DROP COLUMN note; ALTER TABLE t ADD note text");
    mirror.source.run("DELETE FROM t WHERE id = 1");
    mirror.follow("");
    let stale = "SELECT stale_columns FROM table_export.copy";
    assert_eq!(mirror.copy.text(stale), "{note}");
    assert_eq!(repair(&mirror, ""), "public.t|0|29999|0|t|t");
    assert_eq!(mirror.copy.text(stale), "");
    mirror.assert_same_tables(&["t"]);
    assert_eq!(mirror.copy.text("SELECT verified FROM tx_freshness"), "t");
}

#[test]
fn a_value_that_a_trigger_changes_is_no_repair() {
    let mirror = Mirror::tracking("repair_trigger", MANY, &["t"]);
    mirror.copy.run(
        "UPDATE t SET note = 'x' WHERE id = 1;
         CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note = upper(NEW.note); RETURN NEW; END';
         CREATE TRIGGER shout BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION shout();
         ALTER TABLE t ENABLE ALWAYS TRIGGER shout",
    );
    let refused = mirror.copy.refused(&mirror.copy.with_target("copy").call("tx_repair", ""));
    refused.expect("27000", &["\"shout\""]);
    assert_eq!(mirror.copy.text("SELECT note FROM t WHERE id = 1"), "x");
}

#[test]
fn keys_are_sent_once_more() {
    let mirror = Mirror::tracking(
        "resend",
        r#"CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c');
           CREATE TABLE u (at timestamptz, name text, PRIMARY KEY (at, name));
           INSERT INTO u VALUES ('2024-02-29 12:00Z', 'a "quoted, (one)\'), ('infinity', ''), ('-infinity', ' ')"#,
        &["t", "u"],
    );
    mirror.copy.run("UPDATE t SET note = 'x' WHERE id < 3; DELETE FROM u; INSERT INTO t VALUES (4, 'x')");
    for table in ["t", "u"] {
        let keys = format!(
            "SELECT array_agg(regexp_replace(regexp_replace(e, '^[a-z]+ ', ''), '\\): .*$', ')'))
               FROM tx_verify{}, unnest(examples) AS e",
            mirror.arguments("copy", &format!(", relation => '{table}', examples => 9"))
        );
        let keys = mirror.copy.text(&keys);
        let said = mirror.source.text(&format!("SELECT tx_resend('copy', '{table}', $k${keys}$k$)"));
        let said_of =
            format!("the next export of target \"copy\" sends 3 keys of table \"public.{table}\" once more");
        assert_eq!(said, said_of);
    }
    mirror.follow("");
    mirror.assert_same_tables(&["t", "u"]);
    assert!(mirror.source.text("SELECT tx_resend('copy', 't')").contains("in full"));
}

/// A key that the table cannot have would delete another row at a destination, or stop all imports there; and
/// the code of a type must not run with the rights of the extension's owner.
#[test]
fn keys_are_read_as_those_of_the_table_by_its_owner() {
    let mirror = Mirror::shared("resend_types");
    mirror.source.run(
        "CREATE ROLE resend_mallory; GRANT CREATE ON SCHEMA public TO resend_mallory; SET ROLE resend_mallory;
         CREATE TABLE ran (by name);
         CREATE FUNCTION check_it(i int) RETURNS bool LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.ran VALUES (current_user); RETURN true; END';
         CREATE DOMAIN checked AS int CHECK (check_it(value));
         CREATE TYPE part AS (a checked, b text); CREATE TYPE span AS RANGE (subtype = checked);
         CREATE TABLE of_array (k checked[] PRIMARY KEY); CREATE TABLE of_part (k part PRIMARY KEY);
         CREATE TABLE of_span (k span PRIMARY KEY); CREATE TABLE short (k varchar(3) PRIMARY KEY);
         CREATE TABLE round (k numeric(10, 2) PRIMARY KEY); INSERT INTO round VALUES (1);
         RESET ROLE;
         SELECT tx_track('of_array'), tx_track('of_part'), tx_track('of_span'), tx_track('short'), tx_track('round')",
    );
    mirror.copy.run("CREATE TABLE round (k numeric(10, 2) PRIMARY KEY)");
    mirror.source.run("SELECT tx_restrict('copy', 'round'), tx_restrict('copy', 'short')");
    mirror.copy.run("CREATE TABLE short (k varchar(3) PRIMARY KEY)");
    mirror.follow("");
    for (table, key) in [("of_array", "(\"{7}\")"), ("of_part", "(\"(7,x)\")"), ("of_span", "(\"[1,3)\")")] {
        mirror.source.run(&format!("TRUNCATE ran; SELECT tx_restrict('copy', '{table}')"));
        mirror.source.run(&format!("SELECT tx_resend('copy', '{table}', ARRAY['{key}'])"));
        assert_eq!(mirror.source.text("SELECT DISTINCT by FROM ran"), "resend_mallory", "{table}");
        mirror.source.run(&format!("SELECT tx_unrestrict('copy', '{table}')"));
    }
    mirror
        .source
        .refused("SELECT tx_resend('copy', 'short', ARRAY['(abcd)'])")
        .expect("22001", &["value too long"]);
    mirror.source.run("SELECT tx_resend('copy', 'round', ARRAY['(1.004)'])");
    mirror.follow("");
    mirror.assert_same_tables(&["round", "short"]);
}

#[test]
fn what_is_not_sent_any_more_is_left_alone_and_stops_nothing() {
    let mirror = Mirror::tracking(
        "repair_unsent",
        "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t VALUES (1, 'a');
         CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone VALUES (1)",
        &["t", "gone"],
    );
    mirror.source.run("SELECT tx_untrack('gone'); UPDATE t SET note = 'b'");
    mirror.follow("");
    mirror.copy.run("INSERT INTO gone VALUES (2); UPDATE t SET note = 'x'");
    assert_eq!(repair(&mirror, ""), "public.t|0|1|0|t|t");
    assert_eq!(repair(&mirror, ", relation => 'gone'"), "public.gone|1|0|0|t|t");
    mirror.copy.run(&format!("SELECT FROM tx_compact{}", mirror.arguments("copy", "")));
    for number in 1..=2 {
        fs::remove_file(mirror.store.path().join(format!("copy/manifest/{number:010}.json"))).unwrap();
    }
    let all = format!("SELECT table_name, equal, note FROM tx_verify{}", mirror.arguments("copy", ""));
    let told = mirror.copy.text(&all);
    assert!(told.contains("public.t|t|"), "{told}");
    assert!(told.contains("public.gone||not compared: the table is not sent any more"), "{told}");
    assert_eq!(repair(&mirror, ""), "public.t|0|0|0|t|t");
}

#[test]
fn what_an_import_would_do_a_repair_does_as_well() {
    let mirror = Mirror::tracking(
        "repair_kinds",
        "CREATE TABLE t (id int PRIMARY KEY, note text); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 9) AS i;
         CREATE TABLE loose (id int PRIMARY KEY); INSERT INTO loose VALUES (1)",
        &["t", "loose"],
    );
    // Rows without a key, a copy that has been renamed, and a difference that only a part of the store shows.
    mirror.copy.run("ALTER TABLE loose DROP CONSTRAINT loose_pkey; ALTER TABLE loose ALTER id DROP NOT NULL");
    mirror.copy.run(
        "INSERT INTO loose VALUES (NULL); ALTER TABLE t RENAME TO renamed; UPDATE renamed SET note = 'x'",
    );
    assert_eq!(repair(&mirror, ""), "public.loose|1|0|0|t|t\npublic.renamed|0|9|0|t|t");
    mirror.copy.run("ALTER TABLE renamed RENAME TO t");
    mirror.source.run("UPDATE t SET note = 'b' WHERE id = 1");
    mirror.follow("");
    mirror.copy.run("UPDATE t SET note = 'x' WHERE id IN (1, 2)");
    verify(&mirror, "t");
    fs::remove_file(mirror.store.path().join("copy/manifest/0000000001.json")).unwrap();
    assert_eq!(repair(&mirror, ", relation => 't'"), "public.t|0|1|0|t|f");
    let health = "SELECT count(*) FROM tx_health() WHERE problem LIKE '%differs from what the store says%'";
    assert_eq!(mirror.copy.text(health), "1", "row 2 is still another one");
    let mut client = mirror.copy.client();
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
    let call = mirror.copy.with_target("copy").call("tx_repair", "");
    refusal(&query(&mut client, &call).unwrap_err()).expect("0A000", &["REPEATABLE READ"]);
}

#[test]
fn what_is_no_key_is_refused() {
    let mirror = Mirror::tracking(
        "resend_refused",
        "CREATE TABLE t (id int, note text, PRIMARY KEY (id, note)); CREATE TABLE beside (id int PRIMARY KEY)",
        &["t"],
    );
    let refused = |target: &str, table: &str, keys: &str| {
        mirror.source.refused(&format!("SELECT tx_resend('{target}', '{table}', {keys})"))
    };
    for (keys, state, text) in [
        ("'{7}'", "22023", "\"7\" is no key of table \"public.t\""),
        ("ARRAY['(7,)']", "22023", "\"(7,)\" is no key of table \"public.t\""),
        ("ARRAY[NULL]", "22023", "\"\" is no key of table \"public.t\""),
        ("ARRAY['(7,a)', '(8)']", "22023", "\"(8)\" is no key"),
        ("ARRAY['(7,a,b)']", "22023", "\"(7,a,b)\" is no key"),
        ("ARRAY['(1,U,1,9)']", "22023", "is no key"),
    ] {
        refused("copy", "t", keys).expect(state, &[text, "ARRAY['(7)']"]);
    }
    refused("copy", "t", "ARRAY['(seven,a)']")
        .expect("22P02", &["invalid input syntax for type integer", "as those of table \"public.t\""]);
    refused("copy", "t", "NULL").expect("22004", &["\"keys\""]);
    refused("nowhere", "t", "'{(7\\,a)}'").expect("42704", &["\"nowhere\" does not exist"]);
    refused("copy", "beside", "'{(7)}'").expect("55000", &["\"public.beside\""]);
    assert_eq!(mirror.export(""), "");
}
