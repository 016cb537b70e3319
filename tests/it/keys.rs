//! A key is its text: keys that are equal to their type, but look different, are different keys. Where the
//! destination's index takes two of them for one, the row is renamed, or the import refused.

use crate::cluster::database::Database;
use crate::cluster::mirror::{Mirror, database};
use crate::cluster::{COPY, Store};

const CI: &str = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

/// Makes one more copy, that has not imported anything.
fn another_copy(mirror: &Mirror, name: &str, ddl: &str) -> Database {
    let copy = database(&COPY, name, &mirror.store, "");
    copy.run(ddl);
    copy
}

fn import(copy: &Database, store: &Store, further: &str) {
    copy.run(&format!("SELECT * FROM tx_import('copy', store => '{}'{further})", store.url()));
}

fn compact(mirror: &Mirror, further: &str) -> String {
    let arguments = mirror.arguments("copy", further);
    mirror.source.text(&format!("SELECT batch, kind, ids, records FROM tx_compact{arguments}"))
}

fn keys(database: &Database, table: &str) -> String {
    database.text(&format!("SELECT concat(k) COLLATE \"C\" FROM {table} ORDER BY 1"))
}

#[test]
fn a_key_that_changes_its_text_and_back_is_compacted_to_the_row_that_it_is() {
    let table = "CREATE TABLE k (k numeric PRIMARY KEY, v text); INSERT INTO k VALUES (1.0, 'row')";
    let mirror = Mirror::tracking("keys_and_back", table, &["k"]);
    mirror.publish("UPDATE k SET k = 1.00");
    mirror.publish("UPDATE k SET k = 1.0");
    assert_eq!(compact(&mirror, ""), "3|full|0|1");
    assert_eq!(compact(&mirror, ", first => 2, last => 3"), "3|changes|2|1");
    mirror.import();
    mirror.assert_same_tables(&["k"]);
}

#[test]
fn a_key_is_replaced_by_another_that_is_equal_to_it() {
    let table = "CREATE TABLE k (k numeric PRIMARY KEY, v text); CREATE TABLE o (LIKE k INCLUDING INDEXES);
                 CREATE TABLE f (k float8, n interval, v text, PRIMARY KEY (n, k));
                 INSERT INTO k VALUES (1.0, 'row'); INSERT INTO o VALUES (1.0, 'row');
                 INSERT INTO f VALUES (0, '1 day', 'row')";
    let mirror = Mirror::tracking("keys_replaced", table, &["k", "o", "f"]);
    // Without an index both keys could be there at once.
    mirror.copy.run("ALTER TABLE o DROP CONSTRAINT o_pkey; ALTER TABLE k ADD own text DEFAULT 'own'");
    mirror.copy.run("UPDATE k SET own = 'kept'");
    mirror.publish(
        "DELETE FROM k; INSERT INTO k VALUES (1.00, 'new'); DELETE FROM o; INSERT INTO o VALUES (1.00, 'new');
         UPDATE f SET k = '-0', n = '24:00:00'",
    );
    mirror.import();
    mirror.assert_same("SELECT k, v FROM k");
    mirror.assert_same_tables(&["o", "f"]);
    assert_eq!(mirror.copy.text("SELECT own FROM k"), "kept", "it is the same row here");
    compact(&mirror, "");
    let new = another_copy(
        &mirror,
        "keys_replaced_new",
        "CREATE TABLE k (k numeric, v text); CREATE TABLE o (LIKE k); CREATE TABLE f (k float8, n interval, v text)",
    );
    import(&new, &mirror.store, "");
    assert_eq!(keys(&new, "k"), "1.00");
    mirror.publish("DELETE FROM k; DELETE FROM o; DELETE FROM f");
    mirror.import();
    mirror.assert_same("SELECT k, v FROM k");
    mirror.assert_same_tables(&["o", "f"]);
}

#[test]
fn an_id_without_a_record_deletes_no_row_of_another_text() {
    let mirror = Mirror::shared("keys_no_record");
    mirror.run(CI);
    mirror.source.run("CREATE TABLE k (k text PRIMARY KEY, v int)");
    mirror.source.run("SELECT tx_track('k'); INSERT INTO k VALUES ('a', 1), ('b', 1)");
    mirror.copy.run("CREATE TABLE k (k text COLLATE ci PRIMARY KEY, v int)");
    mirror.follow("");
    for mode in ["merge", "append"] {
        mirror.publish(
            "INSERT INTO k VALUES ('A', 2); DELETE FROM k WHERE k = 'A'; UPDATE k SET v = 3 WHERE k = 'b'",
        );
        import(&mirror.copy, &mirror.store, &format!(", mode => '{mode}'"));
        mirror.assert_same("SELECT k COLLATE \"C\", v FROM k");
    }
}

#[test]
fn a_thousand_keys_change_to_lower_case_and_are_compacted() {
    let mirror = Mirror::shared("keys_lower");
    mirror.run("CREATE EXTENSION citext");
    mirror.source.run(
        "CREATE TABLE k (k citext PRIMARY KEY, v int);
         INSERT INTO k SELECT 'Key ' || i, i FROM generate_series(1, 1000) AS i",
    );
    mirror.track(&["k"]);
    mirror.follow("");
    mirror.publish("UPDATE k SET k = lower(k)");
    mirror.publish("UPDATE k SET k = upper(k) WHERE v % 2 = 0; DELETE FROM k WHERE v % 5 = 0");
    assert_eq!(compact(&mirror, ""), "3|full|0|800");
    assert_eq!(compact(&mirror, ", first => 2, last => 3"), "3|changes|2500|800");
    mirror.import();
    mirror.assert_same_tables(&["k"]);
    let columns = "(k citext, v int)";
    for (name, key) in [("keys_lower_key", ", PRIMARY KEY (k)"), ("keys_lower_none", "")] {
        let table = columns.replace(')', &format!("{key})"));
        let new = another_copy(&mirror, name, &format!("CREATE EXTENSION citext; CREATE TABLE k {table}"));
        import(&new, &mirror.store, "");
        assert_eq!(keys(&new, "k"), keys(&mirror.source, "k"));
    }
}

#[test]
fn an_index_of_another_collation_or_operator_class_tells_keys_apart() {
    let mirror = Mirror::shared("keys_other_index");
    mirror.run(CI);
    mirror.run(
        "CREATE EXTENSION citext;
         CREATE TABLE a (k text COLLATE ci NOT NULL, v text); CREATE UNIQUE INDEX a_key ON a (k COLLATE \"C\");
         CREATE TABLE b (k citext NOT NULL, v text); CREATE UNIQUE INDEX b_key ON b (k text_pattern_ops);
         CREATE TABLE c (LIKE a)",
    );
    for table in ["a", "b", "c"] {
        mirror
            .source
            .run(&format!("INSERT INTO {table} VALUES ('A', 'A'), ('a', 'a'), ('B', 'B'), ('b', 'b')"));
    }
    mirror.source.run("CREATE UNIQUE INDEX c_key ON c (k COLLATE \"C\")");
    for table in ["a", "b", "c"] {
        mirror.source.run(&format!("SELECT tx_track('{table}', key_index => '{table}_key')"));
    }
    for change in [
        "SELECT",
        "DELETE FROM t WHERE k = 'A' COLLATE \"C\" AND v = 'A'",
        "UPDATE t SET v = 'changed' WHERE v = 'b'",
        "UPDATE t SET k = 'A' WHERE v = 'a'",
        "INSERT INTO t VALUES ('a', 'back'), ('c', ''), ('C', '')",
        "UPDATE t SET k = CASE v WHEN 'a' THEN 'x' ELSE 'X' END WHERE k = 'a'",
    ] {
        for table in ["a", "b", "c"] {
            mirror.source.run(&change.replace(" t ", &format!(" {table} ")));
        }
        mirror.follow("");
        mirror.assert_same_tables(&["a", "b", "c"]);
    }
}

#[test]
fn keys_that_are_one_key_at_the_destination_are_refused() {
    let refused = |name: &str, source: &str, copy: &str| {
        let mirror = Mirror::shared(name);
        mirror.run(CI);
        mirror.run("CREATE EXTENSION citext");
        mirror.source.run(source);
        mirror.source.run("SELECT tx_track('k', key_index => 'k_key')");
        mirror.copy.run(copy);
        mirror.source.run("INSERT INTO k VALUES ('MixedCase', 1), ('other', 1)");
        mirror.follow("");
        mirror.publish("INSERT INTO k VALUES ('mixedcase', 2); UPDATE k SET v = 3 WHERE v = 1");
        let both = [
            "two keys of table \"public.k\" are one here: (",
            "MixedCase",
            "mixedcase",
            "k_key",
            "for equal",
        ];
        for mode in ["merge", "append"] {
            let arguments = mirror.arguments("copy", &format!(", mode => '{mode}'"));
            let refusal = mirror.copy.refused(&format!("SELECT * FROM tx_import{arguments}"));
            refusal.expect("23505", &both);
            assert_eq!(mirror.copy.text("SELECT k, v FROM k ORDER BY 1"), "MixedCase|1\nother|1");
        }
        let new =
            another_copy(&mirror, &format!("{name}_new"), &format!("{CI}; CREATE EXTENSION citext; {copy}"));
        compact(&mirror, "");
        new.refused(&format!("SELECT * FROM tx_import{}", mirror.arguments("copy", "")))
            .expect("23505", &both);
        // One of them goes, and all is well.
        mirror.publish("DELETE FROM k WHERE v = 3 AND k = 'MixedCase'");
        compact(&mirror, ", first => 2, last => 3");
        mirror.import();
        mirror.assert_same_tables(&["k"]);
    };
    refused(
        "keys_one_collation",
        "CREATE TABLE k (k text NOT NULL, v int); CREATE UNIQUE INDEX k_key ON k (k)",
        "CREATE TABLE k (k text COLLATE ci, v int, CONSTRAINT k_key PRIMARY KEY (k))",
    );
    refused(
        "keys_one_class",
        "CREATE TABLE k (k citext NOT NULL, v int); CREATE UNIQUE INDEX k_key ON k (k text_ops)",
        "CREATE TABLE k (k citext NOT NULL, v int); CREATE UNIQUE INDEX k_key ON k (k)",
    );
}

#[test]
fn rows_without_a_key_are_gone_after_a_full_part() {
    let mirror = Mirror::shared("keys_null");
    mirror.source.run(
        "CREATE TABLE one (k int PRIMARY KEY, v text); CREATE TABLE none (LIKE one INCLUDING INDEXES);
         CREATE TABLE two (a int, b text, v text, PRIMARY KEY (a, b));
         INSERT INTO one VALUES (1, ''); INSERT INTO none VALUES (1, ''); INSERT INTO two VALUES (1, 'x', '')",
    );
    for table in ["one", "none", "two"] {
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    mirror.copy.run(
        "CREATE TABLE one (k int UNIQUE, v text); CREATE TABLE none (k int, v text);
         CREATE TABLE two (a int, b text, v text, UNIQUE (a, b));
         INSERT INTO one VALUES (NULL, 'own'); INSERT INTO none VALUES (NULL, 'own');
         INSERT INTO two VALUES (1, NULL, 'own'), (NULL, 'x', 'own'), (NULL, NULL, 'own');
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER keep BEFORE DELETE ON two FOR EACH ROW EXECUTE FUNCTION keep();
         ALTER TABLE two ENABLE ALWAYS TRIGGER keep",
    );
    mirror.export("");
    let adopt = format!("SELECT * FROM tx_import{}", mirror.arguments("copy", ", adopt => true"));
    mirror.copy.refused(&adopt).expect("27000", &["was deleted, and is still there"]);
    mirror.copy.run("DROP TRIGGER keep ON two");
    mirror.copy.run(&adopt);
    mirror.assert_same_tables(&["one", "none", "two"]);
}

#[test]
fn values_are_swapped_under_an_index_that_takes_two_keys_for_one() {
    let mirror = Mirror::shared("keys_coarser_index");
    mirror.run(CI);
    let indexes = [
        "CREATE UNIQUE INDEX ON t (k COLLATE ci, v)",
        "CREATE UNIQUE INDEX ON t (v, k COLLATE ci) WHERE v > 0",
        "CREATE UNIQUE INDEX ON t (k COLLATE ci) WHERE v = 1",
        "CREATE UNIQUE INDEX ON t (k COLLATE ci, abs(v))",
    ];
    for (n, index) in indexes.iter().enumerate() {
        let ddl = format!("CREATE TABLE t (k text PRIMARY KEY, v int); {index}");
        mirror.run(&ddl.replace(" t ", &format!(" t{n} ")));
        mirror.source.run(&format!("SELECT tx_track('t{n}'); INSERT INTO t{n} VALUES ('a', 1), ('A', 2)"));
    }
    mirror.follow("");
    for n in 0..indexes.len() {
        let [away, other, back] = ["v = 9 WHERE k = 'a'", "v = 1 WHERE k = 'A'", "v = 2 WHERE k = 'a'"]
            .map(|set| format!("UPDATE t{n} SET {set}"));
        mirror.source.run(&format!("{away}; {other}; {back}"));
    }
    mirror.follow("");
    mirror.assert_same_tables(&["t0", "t1", "t2", "t3"]);
}

#[test]
fn several_rows_with_one_key_are_not_exported() {
    let mirror = Mirror::shared("keys_several");
    mirror.source.run("CREATE TABLE t (k int PRIMARY KEY DEFERRABLE, v int)");
    mirror.source.run("SELECT tx_track('t'); INSERT INTO t VALUES (1, 1), (2, 2)");
    mirror.copy.run("CREATE TABLE t (k int, v int)");
    mirror.follow("");
    mirror.source.run(
        "SET session_replication_role = replica; INSERT INTO t VALUES (1, 3); DELETE FROM t WHERE k = 2",
    );
    let export = format!("SELECT * FROM tx_export{}", mirror.arguments("copy", ""));
    let several = ["table \"public.t\" has several rows with one key", "One is (1)."];
    mirror.source.refused(&export).expect("23505", &several);
    let new = format!("SELECT * FROM tx_export{}", mirror.arguments("new", ""));
    mirror.source.refused(&new).expect("23505", &several);
    mirror.source.run("DELETE FROM t WHERE v = 3");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_full_part_is_merged_by_an_equality_that_cannot_be_merged() {
    let mirror = Mirror::shared("keys_not_mergeable");
    let operators =
        [("<", "lt"), ("<=", "le"), ("=", "eq"), (">=", "ge"), (">", "gt")].map(|(name, function)| {
            format!(
                "CREATE FUNCTION own_{function}(int, int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql
                 AS 'BEGIN RETURN $1 {name} $2; END';
             CREATE OPERATOR |{name}| (LEFTARG = int, RIGHTARG = int, FUNCTION = own_{function});"
            )
        });
    mirror.run(&operators.concat());
    mirror.run(
        "CREATE OPERATOR CLASS own FOR TYPE int USING btree AS OPERATOR 1 |<|, OPERATOR 2 |<=|, OPERATOR 3 |=|,
             OPERATOR 4 |>=|, OPERATOR 5 |>|, FUNCTION 1 btint4cmp(int, int);
         CREATE TABLE t (k int NOT NULL, v int); CREATE UNIQUE INDEX t_key ON t (k own)",
    );
    mirror.source.run("SELECT tx_track('t', key_index => 't_key'); INSERT INTO t VALUES (1, 1), (2, 2)");
    mirror.follow("");
    for change in [
        "DELETE FROM t WHERE k = 1; INSERT INTO t VALUES (3, 3)",
        "SELECT tx_reset('copy', 't'); DELETE FROM t WHERE k = 2; UPDATE t SET v = 4; INSERT INTO t VALUES (4, 4)",
    ] {
        mirror.publish(change);
        mirror.import();
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn keys_of_domains_follow() {
    let mirror = Mirror::shared("keys_domains");
    mirror.run(
        "CREATE TYPE pair AS (n numeric, t text); CREATE TYPE mood AS ENUM ('a', 'b');
         CREATE DOMAIN d_pair AS pair; CREATE DOMAIN dd_pair AS d_pair; CREATE DOMAIN d_mood AS mood;
         CREATE DOMAIN d_range AS numrange; CREATE DOMAIN d_ranges AS nummultirange;
         CREATE DOMAIN d_array AS numeric[]; CREATE DOMAIN d_varchar AS varchar(4); CREATE DOMAIN d_char AS char(4);
         CREATE DOMAIN d_bigint AS bigint; CREATE TYPE nested AS (p d_pair, q d_array)",
    );
    let kinds = [
        ("d_pair", "(1.0,x)", "(1.00,x)"),
        ("dd_pair", "(1.0,)", "(1.00,)"),
        ("d_mood", "a", "b"),
        ("d_mood[]", "{a}", "{b}"),
        ("d_range", "[1,2)", "[1.0,2)"),
        ("d_ranges", "{[1,2)}", "{[1.0,2)}"),
        ("d_array", "{1}", "{1.0}"),
        ("d_varchar", "a", "a "),
        ("d_char", "a", "b"),
        ("d_bigint", "-9223372036854775808", "9223372036854775807"),
        ("nested", "(\"(1,)\",{1})", "(\"(1.0,)\",{1})"),
    ];
    let table = |n: usize| format!("t{n}");
    let tables = (0..kinds.len()).map(table).collect::<Vec<_>>();
    let tables = tables.iter().map(String::as_str).collect::<Vec<_>>();
    for (table, (kind, ..)) in tables.iter().zip(kinds) {
        mirror.run(&format!("CREATE TABLE {table} (k {kind} PRIMARY KEY, v int)"));
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    for change in [
        "INSERT INTO t VALUES ('ONE', 1)",
        "UPDATE t SET k = 'TWO'",
        "UPDATE t SET k = 'ONE'; UPDATE t SET v = 2",
        "SELECT tx_reset('copy', 't'); UPDATE t SET k = 'TWO'",
        "DELETE FROM t",
    ] {
        for (table, (_, one, two)) in tables.iter().zip(kinds) {
            let change = change.replace(" t ", &format!(" {table} ")).replace("'t'", &format!("'{table}'"));
            let change = change.replace("FROM t", &format!("FROM {table}"));
            mirror.source.run(&change.replace("ONE", one).replace("TWO", two));
        }
        mirror.follow("");
        mirror.assert_same_tables(&tables);
    }
}
