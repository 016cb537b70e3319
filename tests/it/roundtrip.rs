//! What leaves the source arrives: every type that PostgreSQL ships, as values and as keys, in every format,
//! with any settings of the two sessions, and with differences between the two tables.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::Duration;

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::mirror::{Mirror, assert_equal, rows};
use crate::cluster::{COPY, SOURCE};
use crate::types::{KEYS, NO_KEYS, NOT_BINARY, SKIPPED, TYPES, USER_TYPES, USER_VALUES};
use postgres::fallible_iterator::FallibleIterator;

const FORMATS: [&str; 3] = ["text", "csv", "binary"];
const LATIN1: &str = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";

/// What a session may have set; it must not matter. Each line is on one side only.
const STRANGE_SESSION: [&str; 2] = [
    "SET client_encoding = 'LATIN1'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'sql_standard';
     SET extra_float_digits = -15; SET bytea_output = 'escape'; SET lc_monetary = 'C.UTF-8';
     SET TimeZone = 'Asia/Kathmandu'; SET default_transaction_isolation = 'serializable';
     SET session_replication_role = 'replica'; SET xmloption = 'document'; SET quote_all_identifiers = on;
     SET standard_conforming_strings = off; SET escape_string_warning = off; SET transform_null_equals = on;
     SET array_nulls = off; SET force_parallel_mode = on; SET search_path = hostile, pg_temp, pg_catalog;
     SET role = 'postgres'; SET row_security = off; SET default_toast_compression = 'pglz';
     SET check_function_bodies = off; SET synchronous_commit = off; SET jit_above_cost = 0;
     SET enable_hashjoin = off; SET enable_sort = off; SET work_mem = '64kB'",
    "SET client_encoding = 'SQL_ASCII'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'iso_8601';
     SET extra_float_digits = 0; SET lc_monetary = 'POSIX'; SET TimeZone = '+05:30';
     SET default_transaction_isolation = 'repeatable read'; SET search_path = ''; SET array_nulls = off;
     SET transform_null_equals = on; SET xmlbinary = 'hex'; SET backslash_quote = off;
     SET default_transaction_deferrable = on; SET enable_nestloop = off; SET enable_mergejoin = off",
];

pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The types that COPY can carry in a format.
fn types_for(format: &str) -> Vec<(&'static str, &'static [&'static str])> {
    let is_carried = |name: &str| format != "binary" || NOT_BINARY.iter().all(|(other, _)| *other != name);
    TYPES.iter().filter(|(name, _)| is_carried(name)).copied().collect()
}

pub fn quoted_type(name: &str) -> String {
    match name.split_once('.') {
        Some((schema, name)) => format!("{schema}.\"{name}\""),
        None => format!("pg_catalog.\"{name}\""),
    }
}

/// A table with one column for each type, whose rows hold one value after the other.
fn values_ddl(types: &[(&str, &[&str])]) -> String {
    let columns = types.iter().map(|(name, _)| format!(", \"{name}\" {}", quoted_type(name)));
    let mut sql = format!("CREATE TABLE vals (id int PRIMARY KEY{});\n", columns.collect::<String>());
    let most = types.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    for row in 0..=most {
        let fields = types.iter().map(|(name, values)| match values.get(row) {
            Some(value) => format!(", {}::{}", quote(value), quoted_type(name)),
            None => ", NULL".to_owned(),
        });
        sql += &format!("INSERT INTO vals VALUES ({row}{});\n", fields.collect::<String>());
    }
    sql
}

/// A table with one column of arrays for each type: empty, with NULLs, of two dimensions, with bounds of its
/// own.
fn arrays_ddl(types: &[(&str, &[&str])]) -> String {
    let columns = types.iter().map(|(name, _)| format!(", \"{name}\" {}[]", quoted_type(name)));
    let mut sql = format!("CREATE TABLE arrays (id int PRIMARY KEY{});\n", columns.collect::<String>());
    let row = |id: i32, array: &dyn Fn(&str, &str, &str) -> String| {
        let fields = types.iter().map(|(name, values)| {
            let element =
                |value: Option<&&str>| format!("{}::{}", quote(value.expect("a value")), quoted_type(name));
            let array = array(&element(values.first()), &element(values.last()), &quoted_type(name));
            format!(", ({array})::{}[]", quoted_type(name))
        });
        format!("INSERT INTO arrays VALUES ({id}{});\n", fields.collect::<String>())
    };
    sql += &row(1, &|_, _, _| "'{}'".to_owned());
    sql += &row(2, &|first, last, _| format!("ARRAY[{first}, NULL, {last}]"));
    sql += &row(3, &|first, last, _| format!("ARRAY[[{first}, NULL], [{last}, {first}]]"));
    sql += &row(4, &|first, last, name| {
        format!("'[-2:-1][3:3]=' || (ARRAY[[{first}], [{last}]]::{name}[])::text")
    });
    sql + "INSERT INTO arrays (id) VALUES (5);\n"
}

/// Moves values from row to row, all columns but the key, so that each is also updated, deleted and inserted.
fn churn(database: &Database, table: &str, session: &str) {
    let columns = database.text(&format!(
        "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
          WHERE attrelid = '{table}'::regclass AND attnum > 1 AND NOT attisdropped"
    ));
    database.run(&format!(
        "{session};
         UPDATE public.{table} AS t SET ({columns}) =
            (SELECT {columns} FROM public.{table} AS o WHERE o.id OPERATOR(pg_catalog.=) (t.id + 1)) WHERE t.id % 2 = 0;
         DELETE FROM public.{table} WHERE id % 5 = 1;
         UPDATE public.{table} SET id = id + (SELECT max(id) FROM public.{table}) WHERE id % 5 = 2;
         INSERT INTO public.{table} (id, {columns}) SELECT id + (SELECT max(id) FROM public.{table}), {columns} FROM public.{table} WHERE id % 5 = 3"
    ));
}

/// Compares the table column by column, so that all types that differ are named.
fn assert_same_columns(mirror: &Mirror, table: &str, names: impl Iterator<Item = String>) {
    let all = format!("SELECT * FROM {table}");
    let source = rows(&mirror.source, &all);
    assert!(!source.is_empty(), "nothing to compare");
    if source == rows(&mirror.copy, &all) {
        return;
    }
    let wrong = names
        .filter_map(|name| {
            let query = format!("SELECT id, \"{name}\" FROM {table}");
            let (source, copy) = (rows(&mirror.source, &query), rows(&mirror.copy, &query));
            (source != copy).then(|| format!("{name}: {source:.300?} has become {copy:.300?}"))
        })
        .collect::<Vec<_>>();
    panic!("{table}\n{}", wrong.join("\n"));
}

/// Runs statements in a session with settings of its own.
fn run_in(session: &str, database: &Database, sql: &str) {
    let mut client = database.client();
    client.batch_execute(session).unwrap_or_else(|error| panic!("{}", refusal(&error)));
    query(&mut client, sql).unwrap_or_else(|error| panic!("{sql}: {}", refusal(&error)));
}

/// Sends every type there and back, in full and as changes.
fn every_type(format: &str, compression: &str, sessions: [&str; 2]) {
    let settings = if sessions[0].is_empty() { "" } else { "_strange" };
    let mirror = Mirror::shared(&format!("types_{format}_{compression}{settings}"));
    let types = types_for(format);
    mirror.source.run(&values_ddl(&types));
    mirror.source.run(&arrays_ddl(&types));
    mirror.track(&["vals", "arrays"]);
    let further = format!(", format => '{format}', compression => '{compression}'");
    let export = format!("SELECT * FROM public.tx_export{}", mirror.arguments("copy", &further));
    let import = format!("SELECT * FROM public.tx_import{}", mirror.arguments("copy", ""));
    for round in 0..3 {
        if round > 0 {
            churn(&mirror.source, "vals", sessions[0]);
            churn(&mirror.source, "arrays", sessions[0]);
        }
        run_in(sessions[0], &mirror.source, &export);
        run_in(sessions[1], &mirror.copy, &import);
        for table in ["vals", "arrays"] {
            assert_same_columns(&mirror, table, types.iter().map(|(name, _)| (*name).to_owned()));
        }
    }
    let kinds = "SELECT string_agg(kind, ' ' ORDER BY number) FROM table_export.batch";
    assert_eq!(mirror.source.text(kinds), "full changes changes");
}

#[test]
fn the_types_here_are_all_that_the_server_has() {
    let server = SOURCE.psql(
        "postgres",
        "SELECT CASE WHEN n.nspname <> 'pg_catalog' THEN n.nspname || '.' ELSE '' END || t.typname
           FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
          WHERE t.typtype IN ('b', 'd', 'e', 'm', 'r') AND t.oid < 16384
            AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = t.oid)",
    );
    let server = server.lines().collect::<BTreeSet<_>>();
    let here = TYPES.iter().map(|(name, _)| *name).chain(SKIPPED.iter().map(|(name, _)| *name));
    assert_eq!(server, here.collect::<BTreeSet<_>>());
}

#[test]
fn every_type_survives_as_text() {
    every_type("text", "zstd", ["", ""]);
    every_type("text", "none", ["", ""]);
}

#[test]
fn every_type_survives_as_csv() {
    every_type("csv", "zstd", ["", ""]);
    every_type("csv", "none", ["", ""]);
}

#[test]
fn every_type_survives_as_binary() {
    every_type("binary", "zstd", ["", ""]);
    every_type("binary", "none", ["", ""]);
}

#[test]
fn settings_of_sessions_do_not_matter_to_text() {
    every_type("text", "zstd", STRANGE_SESSION);
}

#[test]
fn settings_of_sessions_do_not_matter_to_csv() {
    every_type("csv", "zstd", STRANGE_SESSION);
}

#[test]
fn settings_of_sessions_do_not_matter_to_binary() {
    every_type("binary", "zstd", STRANGE_SESSION);
}

#[test]
fn types_of_the_user_survive() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("user_types_{format}"));
        mirror.run(USER_TYPES);
        mirror.source.run(USER_VALUES);
        mirror.track(&["vals"]);
        let names = mirror.source.text(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'vals'::regclass AND attnum > 1 ORDER BY attnum",
        );
        for round in 0..3 {
            if round > 0 {
                churn(&mirror.source, "vals", "");
            }
            mirror.follow(&format!(", format => '{format}'"));
            assert_same_columns(&mirror, "vals", names.lines().map(str::to_owned));
        }
    }
}

#[test]
fn values_of_megabytes_survive_however_they_are_stored() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("toast_{format}"));
        mirror.source.run(
            "CREATE TABLE big (id int PRIMARY KEY, n int, packed text, loose text, main text, lz4 text, bytes bytea,
                               js jsonb, many text[]);
             ALTER TABLE big ALTER loose SET STORAGE EXTERNAL, ALTER main SET STORAGE MAIN,
                             ALTER lz4 SET COMPRESSION lz4;
             CREATE FUNCTION noise(seed int, kilobytes int) RETURNS text LANGUAGE sql AS
                $$ SELECT string_agg(md5(seed || ':' || i), E'\\t\\\\\\n' || chr(8364))
                     FROM generate_series(1, kilobytes * 1024 / 38) AS i $$;
             INSERT INTO big
             SELECT id, 0, noise(id, 3000), noise(-id, 2000), repeat(E'\\\\.\\n', 1500000), repeat('ab', 2000000),
                    convert_to(noise(id * 7, 1500), 'UTF8'), jsonb_build_object('a', noise(id * 9, 1500)),
                    array_fill(noise(id * 11, 100), '{20}')
               FROM generate_series(1, 3) AS id",
        );
        mirror.track(&["big"]);
        mirror.follow(&format!(", format => '{format}'"));
        mirror.assert_same_tables(&["big"]);
        mirror.source.run(
            "UPDATE big SET n = 1 WHERE id = 1;
             UPDATE big SET packed = noise(100, 4000), loose = NULL WHERE id = 2;
             UPDATE big SET id = 4, main = '' WHERE id = 3",
        );
        mirror.follow(&format!(", format => '{format}'"));
        mirror.assert_same_tables(&["big"]);
        assert_eq!(mirror.copy.text("SELECT count(*) FROM big WHERE length(packed) > 2500000"), "3");
    }
}

/// Makes a table `key_<name>` whose key `k` holds the values, and returns its name.
fn make_key(database: &Database, name: &str, definition: &str, values: &[&str]) -> String {
    let table = format!("\"key_{name}\"");
    let inserts = (0..).zip(values).map(|(n, value)| {
        format!("INSERT INTO {table} VALUES ({}, {n}, 'first') ON CONFLICT DO NOTHING;", quote(value))
    });
    database.run(&format!(
        "CREATE TABLE {table} (k {definition} PRIMARY KEY, n int, note text); {}",
        inserts.collect::<String>()
    ));
    table
}

/// Rows change, go, and come under keys that others have had.
fn change_keys(database: &Database, table: &str) {
    database.run(&format!(
        "UPDATE {table} SET note = 'changed' WHERE n % 2 = 0;
         CREATE TEMP TABLE gone AS SELECT * FROM {table} ORDER BY n LIMIT 1;
         DELETE FROM {table} WHERE n = (SELECT n FROM gone);
         UPDATE {table} SET k = (SELECT k FROM gone), note = 'moved' WHERE n = (SELECT max(n) FROM {table});
         INSERT INTO {table} SELECT k, -1, 'back' FROM gone ON CONFLICT DO NOTHING;
         DELETE FROM {table} WHERE n = 1"
    ));
}

#[test]
fn every_type_with_an_order_is_a_key() {
    let mirror = Mirror::shared("key_types");
    let names = TYPES.iter().map(|(name, _)| *name);
    let refused = names
        .clone()
        .filter(|name| {
            let sql = format!("CREATE TABLE probe (k {} PRIMARY KEY); DROP TABLE probe", quoted_type(name));
            mirror.source.client().batch_execute(&sql).is_err()
        })
        .collect::<Vec<_>>();
    assert_eq!(refused, NO_KEYS);
    let of_types = TYPES.iter().filter(|(name, _)| !NO_KEYS.contains(name));
    let tables = of_types
        .map(|(name, values)| make_key(&mirror.source, name, &quoted_type(name), values))
        .collect::<Vec<_>>();
    let tables = tables.iter().map(String::as_str).collect::<Vec<_>>();
    changed_keys_follow(&mirror, &tables);
    for table in &tables {
        mirror.source.run(&format!("DELETE FROM {table}"));
    }
    mirror.follow("");
    mirror.assert_same_tables(&tables);
    mirror.assert_verified();
    assert_eq!(rows(&mirror.copy, "SELECT * FROM \"key_bool\""), [""; 0]);
}

/// Tracks tables, and compares them at first and after each key has changed.
fn changed_keys_follow(mirror: &Mirror, tables: &[&str]) {
    mirror.track(tables);
    mirror.follow("");
    mirror.assert_same_tables(tables);
    for table in tables {
        change_keys(&mirror.source, table);
    }
    mirror.follow("");
    mirror.assert_same_tables(tables);
}

#[test]
fn keys_that_only_look_different_are_one_key() {
    let mirror = Mirror::shared("many_keys");
    mirror.run(
        "CREATE EXTENSION citext;
         CREATE COLLATION level2 (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TYPE mood AS ENUM ('so so', 'Bad', 'good');
         CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);
         CREATE DOMAIN evener AS even CHECK (VALUE % 4 = 0);
         CREATE TYPE pair AS (a numeric, b text);
         CREATE TYPE textrange AS RANGE (subtype = text, collation = \"C\")",
    );
    let made = KEYS.iter().map(|key| make_key(&mirror.source, key.name, key.definition, key.values));
    let tables = made.collect::<Vec<_>>();
    let tables = tables.iter().map(String::as_str).collect::<Vec<_>>();
    changed_keys_follow(&mirror, &tables);
    for (key, table) in KEYS.iter().zip(&tables) {
        for (from, to) in key.rewrites {
            // Under another image of the key, and in one window with a change of the row.
            let of_type = |value| {
                format!("{}::{}", quote(value), key.definition.split(" COLLATE").next().unwrap_or(""))
            };
            let (from, to) = (of_type(from), of_type(to));
            mirror.source.run(&format!(
                "INSERT INTO {table} VALUES ({from}, 7, 'old') ON CONFLICT (k) DO UPDATE SET k = {from}, n = 7"
            ));
            mirror.follow("");
            mirror.source.run(&format!(
                "UPDATE {table} SET note = 'before' WHERE n = 7; UPDATE {table} SET k = {to} WHERE n = 7;
                 UPDATE {table} SET note = 'after' WHERE n = 7"
            ));
            mirror.follow("");
            mirror.assert_same_tables(&[table]);
            assert_eq!(
                mirror.source.text(&format!("DELETE FROM {table} WHERE k = {from} RETURNING n")),
                "7",
                "{table} {from}"
            );
            mirror.follow("");
            mirror.assert_same_tables(&[table]);
        }
    }
}

#[test]
fn a_key_of_several_columns_is_one_key() {
    let mirror = Mirror::shared("composite");
    mirror.source.run(
        "CREATE COLLATION level2 (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE t (note text, b text COLLATE level2, a int, d date, c numeric, PRIMARY KEY (c, a, b, d));
         INSERT INTO t SELECT 'n', chr(97 + b), a, 'infinity', c FROM generate_series(0, 2) AS a,
                              generate_series(0, 2) AS b, generate_series(0, 2) AS c",
    );
    mirror
        .copy
        .run("CREATE COLLATION level2 (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
    mirror.track(&["t"]);
    for change in [
        "SELECT",
        "UPDATE t SET note = 'one column' WHERE a = 1",
        "UPDATE t SET b = upper(b), c = c + 0.00 WHERE a = 2",
        "UPDATE t SET a = a + 10, c = c - 10, note = 'all' WHERE b = 'B'",
        "DELETE FROM t WHERE b = 'A' AND c > 0; INSERT INTO t SELECT 'new', b, -a, '-infinity', c FROM t",
        "UPDATE t SET note = d::text, d = CASE d WHEN 'infinity' THEN date '2030-01-01' ELSE date '2031-01-01' END",
    ] {
        mirror.source.run(change);
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn a_named_unique_index_is_a_key() {
    let mirror = Mirror::shared("named_index");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, place int NOT NULL, note text);
         CREATE UNIQUE INDEX \"by Code\" ON t (code COLLATE \"C\" DESC, place) INCLUDE (note);
         INSERT INTO t SELECT i, 'c' || i % 10, i / 10, 'n' FROM generate_series(1, 50) AS i;
         SELECT tx_track('t', key_index => 'by Code')",
    );
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('t')"));
    assert_eq!(mirror.source.text("SELECT tx_ddl('t')").matches("PRIMARY KEY (code, place)").count(), 1);
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    mirror.source.run(
        "UPDATE t SET id = id + 100; UPDATE t SET code = 'x' WHERE id = 101; DELETE FROM t WHERE id > 140",
    );
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_table_of_200_columns_survives() {
    let mirror = Mirror::shared("wide");
    let columns =
        (1..=199).map(|n| format!(", \"c {n}\" {}", ["int", "text", "numeric", "timestamptz"][n % 4]));
    mirror.source.run(&format!(
        "CREATE TABLE wide (id int PRIMARY KEY{});
         INSERT INTO wide (id, \"c 1\", \"c 4\", \"c 199\") SELECT i, 'a', i, now() FROM generate_series(1, 200) AS i",
        columns.collect::<String>()
    ));
    mirror.track(&["wide"]);
    mirror.follow("");
    mirror.source.run(
        "UPDATE wide SET \"c 100\" = id, \"c 197\" = 'z' WHERE id % 3 = 0; DELETE FROM wide WHERE id = 7",
    );
    mirror.follow("");
    mirror.assert_same_tables(&["wide"]);
    mirror.assert_verified();
}

#[test]
fn columns_are_matched_by_name() {
    let mirror = Mirror::shared("by_name");
    mirror.source.run(
        "CREATE TABLE t (gone int, b text, id int, also_gone text, a text, twice int GENERATED ALWAYS AS (id * 2) STORED,
                         PRIMARY KEY (id));
         ALTER TABLE t DROP COLUMN gone, DROP COLUMN also_gone;
         INSERT INTO t (a, b, id) SELECT 'a' || i, 'b' || i, i FROM generate_series(1, 9) AS i;
         SELECT tx_track('t')",
    );
    // Other order, other dropped columns, columns of its own; what is generated there is plain here.
    mirror.copy.run(
        "CREATE TABLE t (x1 int, twice int, own text DEFAULT 'own', a text, x2 int, at timestamptz DEFAULT now(),
                         id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, b text,
                         both_ text GENERATED ALWAYS AS (a || b) STORED);
         ALTER TABLE t DROP COLUMN x1, DROP COLUMN x2",
    );
    let shared = "SELECT id, a, b, twice FROM t";
    for change in [
        "SELECT",
        "UPDATE t SET a = 'changed', id = -id WHERE id % 2 = 0; DELETE FROM t WHERE id = 1",
        "ALTER TABLE t ADD COLUMN later int; ALTER TABLE t DROP COLUMN later; UPDATE t SET b = NULL",
        "INSERT INTO t (id, a) VALUES (100, 'x')",
    ] {
        mirror.source.run(change);
        mirror.follow("");
        mirror.assert_same(shared);
    }
    let own = "SELECT count(*) FROM t WHERE own = 'own' AND at IS NOT NULL AND n IS NOT NULL
                                        AND both_ IS NOT DISTINCT FROM a || b";
    assert_eq!(mirror.copy.text(own), mirror.source.text("SELECT count(*) FROM t"));
    mirror.copy.run("ALTER TABLE t DROP COLUMN own");
    mirror.source.run("DELETE FROM t WHERE id = 100");
    mirror.follow("");
    mirror.assert_same(shared);
}

#[test]
fn encodings_may_differ() {
    let table =
        "CREATE TABLE \"café\" (\"clé\" text PRIMARY KEY, \"été\" text, c \"char\", x xml, n name, j jsonb)";
    for (name, options) in
        [("latin_to_utf", [LATIN1, ""]), ("utf_to_latin", ["", LATIN1]), ("latin", [LATIN1; 2])]
    {
        for format in FORMATS {
            let mirror = Mirror::new_with(&SOURCE, &COPY, &format!("{name}_{format}"), options);
            mirror.run(table);
            mirror.source.run("SELECT tx_track('café')");
            mirror.source.run(
                "INSERT INTO café VALUES ('é', 'ÿ¡\\', 'x', '<a é=\"ü\">ß</a>', 'nämé', '{\"é\": \"£\"}'), ('e', 'e', '', NULL, '', '1')",
            );
            // As a background worker has it: the encoding of the client is that of the database.
            let worker = "SELECT set_config('client_encoding', current_setting('server_encoding'), false)";
            let further = format!(", format => '{format}'");
            for change in
                ["SELECT", "UPDATE café SET \"été\" = 'é' || clé", "UPDATE café SET clé = clé || 'û'"]
            {
                mirror.source.run(change);
                let export = format!("SELECT count(*) FROM tx_export{}", mirror.arguments("copy", &further));
                let import = format!("SELECT count(*) FROM tx_import{}", mirror.arguments("copy", ""));
                for (database, call) in [(&mirror.source, export), (&mirror.copy, import)] {
                    let mut client = database.client();
                    query(&mut client, &format!("{worker}; {call}"))
                        .unwrap_or_else(|error| panic!("{name} {format}: {}", refusal(&error)));
                }
                mirror.assert_same_tables(&["café"]);
            }
        }
    }
}

#[test]
fn names_that_are_not_ascii_work_in_any_encoding() {
    let mirror = Mirror::new_with(&SOURCE, &COPY, "latin_names", [LATIN1; 2]);
    mirror.source.run(
        "CREATE TABLE \"café\" (\"clé\" int PRIMARY KEY, \"été\" text); INSERT INTO café VALUES (1, 'é')",
    );
    mirror.track(&["café"]);
    let tracked = mirror.source.text("SELECT tracked || key::text FROM tx_track('café')");
    assert_eq!(tracked, "public.café{clé}");
    assert_eq!(mirror.source.text("SELECT table_name::text FROM tx_tracked"), "\"café\"");
    for (database, call) in [(&mirror.source, "tx_export"), (&mirror.copy, "tx_import")] {
        let arguments = mirror.arguments("célèbre", "");
        let parts = database.text(&format!("SELECT table_name FROM {call}{arguments}"));
        assert_eq!(parts, "public.café");
        database.run(&format!("SELECT tx_reset{arguments}"));
    }
    assert_eq!(mirror.source.text("SELECT name FROM table_export.target"), "célèbre");
    mirror.assert_same_tables(&["café"]);
    // A member that a statement names has the key by its name.
    mirror.source.run(
        "CREATE TABLE parts (\"clé\" int PRIMARY KEY, v int) PARTITION BY RANGE (\"clé\");
         CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (9)",
    );
    mirror.track(&["parts"]);
    for change in ["INSERT INTO part VALUES (1, 1)", "INSERT INTO part VALUES (2, 2)"] {
        mirror.source.run(&format!("{change}; ALTER TABLE parts ALTER v SET DEFAULT 1"));
        for (database, call) in [(&mirror.source, "tx_export"), (&mirror.copy, "tx_import")] {
            database.run(&format!("SELECT {call}{}", mirror.arguments("célèbre", "")));
        }
    }
    mirror.assert_same_tables(&["parts"]);
    for database in [&mirror.source, &mirror.copy] {
        let arguments = mirror.arguments("célèbre", "");
        let verified =
            database.text(&format!("SELECT table_name, equal, complete FROM tx_verify{arguments}"));
        assert_eq!(verified, "public.café|t|t\npublic.parts|t|t");
    }
}

/// In UTF-8 the first of its characters has a byte that is no character in WIN1252.
#[test]
fn messages_with_names_arrive_in_any_encoding() {
    let win1252 = "ENCODING 'WIN1252' LOCALE 'C' TEMPLATE template0";
    let mirror = Mirror::new_with(&SOURCE, &COPY, "win1252_names", [win1252; 2]);
    mirror.source.run(
        "CREATE TABLE \"Álava\" (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE one PARTITION OF \"Álava\" FOR VALUES FROM (0) TO (10);
         CREATE TABLE two (LIKE \"Álava\"); INSERT INTO two VALUES (10, 'ten');
         CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    );
    mirror.track(&["\"Álava\""]);
    mirror.source.run(&format!("SELECT tx_export{}", mirror.arguments("copy", "")));
    let (mut client, said) = mirror.source.watched();
    client.batch_execute("SELECT tx_track('\"Álava\"')").unwrap();
    assert_eq!(said.lock().unwrap().pop().unwrap(), "table \"public.\\00C1lava\" is already tracked");
    let name = mirror.source.text("SELECT 'pg_table_export_insert_' || id FROM table_export.tracked");
    let same = format!(
        "CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON two FOR EACH ROW EXECUTE FUNCTION nothing()"
    );
    client.batch_execute(&same).unwrap();
    client
        .batch_execute("ALTER TABLE \"Álava\" ATTACH PARTITION two FOR VALUES FROM (10) TO (20)")
        .expect("his DDL goes on");
    let warning = said.lock().unwrap().pop().unwrap();
    assert!(warning.contains("could not be followed for tracked table \"public.\\00C1lava\""), "{warning}");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    mirror.source.refused(&export).expect("55000", &["\"public.\\00C1lava\" are missing"]);
    // What is no message has the characters themselves.
    mirror.copy.run("DROP TABLE IF EXISTS \"Álava\"");
    let plan = format!("SELECT obstacle FROM tx_plan{}", mirror.arguments("copy", ""));
    let obstacles = mirror.copy.text(&plan);
    assert!(obstacles.contains("\"public.Álava\" does not exist"), "{obstacles}");
}

#[test]
fn a_character_that_the_copy_cannot_hold_is_refused() {
    let mirror = Mirror::new_with(&SOURCE, &COPY, "no_euro", ["", LATIN1]);
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'ok')");
    mirror.track(&["t"]);
    mirror.follow("");
    mirror.source.run("INSERT INTO t VALUES (2, 'ok'), (3, '€')");
    mirror.export("");
    let import = format!("SELECT * FROM tx_import{}", mirror.arguments("copy", ""));
    mirror.copy.refused(&import).expect("22P05", &["0xe2 0x82 0xac", "\"LATIN1\""]);
    assert_eq!(rows(&mirror.copy, "SELECT * FROM t"), ["1\tok"]);
    mirror.source.run("UPDATE t SET v = 'EUR' WHERE id = 3");
}

#[test]
fn an_empty_table_survives() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("empty_{format}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text)");
        mirror.track(&["t"]);
        mirror.copy.run("INSERT INTO t VALUES (1, 'not of the source')");
        let further = format!(", format => '{format}'");
        assert_eq!(mirror.export(&further), "1|public.t|full|0|0");
        let adopt = mirror.arguments("copy", ", adopt => true");
        assert_eq!(mirror.copy.text(&format!("SELECT deleted, inserted FROM tx_import{adopt}")), "1|0");
        mirror.source.run("INSERT INTO t VALUES (2)");
        mirror.follow(&further);
        mirror.source.run("DELETE FROM t");
        assert_eq!(mirror.export(&further), "3|public.t|changes|1|0");
        assert_eq!(mirror.import(), "3|public.t|changes|1|0");
        mirror.assert_same_tables(&["t"]);
        mirror.assert_verified();
    }
}

#[test]
fn a_table_of_nothing_but_a_key_survives() {
    for format in FORMATS {
        let mirror = Mirror::shared(&format!("only_key_{format}"));
        // Lines of one field, which may look like an end of data or like an empty line.
        mirror.source.run(
            "CREATE TABLE t (k text PRIMARY KEY);
             INSERT INTO t VALUES ('\\.'), (''), ('\\N'), ('NULL'), (E'\\\\.\\n'), (E'\\n\\\\.\\n'), ('\"'), (' ')",
        );
        mirror.track(&["t"]);
        mirror.follow(&format!(", format => '{format}'"));
        mirror.assert_same_tables(&["t"]);
        mirror.source.run("UPDATE t SET k = k || '\\.' WHERE k <> ''; UPDATE t SET k = '\\.' WHERE k = ''; INSERT INTO t VALUES ('')");
        mirror.follow(&format!(", format => '{format}'"));
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn each_batch_is_announced_once_it_is_applied() {
    let mirror = Mirror::shared("announced");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY)");
    mirror.track(&["t"]);
    for id in 1..=2 {
        mirror.source.run(&format!("INSERT INTO t VALUES ({id})"));
        mirror.export("");
    }
    let mut listener = mirror.copy.client();
    listener.batch_execute("LISTEN pg_table_export").unwrap();
    mirror.copy.run(&format!("BEGIN; SELECT * FROM tx_import{}; ROLLBACK", mirror.arguments("copy", "")));
    mirror.import();
    let mut notifications = listener.notifications();
    let mut next = || notifications.timeout_iter(Duration::from_secs(10)).next().unwrap().unwrap();
    for (batch, kind) in [(1, "full"), (2, "changes")] {
        let payload = serde_json::from_str::<serde_json::Value>(next().payload()).unwrap();
        assert_eq!(payload["target"], "copy");
        assert_eq!(payload["batch"], batch);
        assert_eq!(payload["kind"], kind);
        assert_eq!(payload["tables"], 1);
        assert!(payload["exported_at"].is_string(), "{payload}");
    }
}

#[test]
fn targets_are_at_positions_of_their_own() {
    let mirror = Mirror::shared("targets");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 9) AS i");
    mirror.track(&["t"]);
    let ddl = mirror.source.text("SELECT tx_ddl('t')");
    let names = ["daily", "hourly", "late", "db2.example.com/reporting"];
    let copies = names.map(|name| {
        let copy = Database::empty(&COPY, &format!("targets {}", name.replace('/', " ")), &mirror.store);
        copy.run(&ddl);
        copy
    });
    for round in 1..=12 {
        mirror.source.run(&format!(
            "UPDATE t SET v = {round} WHERE id % 3 = {round} % 3; INSERT INTO t VALUES (100 + {round}, {round});
             DELETE FROM t WHERE id = 98 + {round}"
        ));
        for ((every, name), copy) in [3, 1, 7, 2].into_iter().zip(names).zip(&copies) {
            if round % every == 0 {
                let call = mirror.arguments(name, "");
                assert_ne!(mirror.source.text(&format!("SELECT batch FROM tx_export{call}")), "");
                // Imports are later still: several batches are pending at once.
                if round % (every * 2) == 0 || every == 7 {
                    copy.run(&format!("SELECT * FROM tx_import{call}"));
                    let query = "SELECT * FROM t";
                    assert_equal(name, &rows(&mirror.source, query), &rows(copy, query));
                }
            }
        }
    }
    let kinds = "SELECT target || ' ' || string_agg(kind, ' ' ORDER BY number) FROM table_export.batch
                  WHERE target IN ('daily', 'late') GROUP BY target ORDER BY 1";
    assert_eq!(mirror.source.text(kinds), "daily full changes changes changes\nlate full");
}

/// One step of a writer that moves money between twenty accounts' tables, and keeps the sum in each
/// transaction.
fn move_money(step: usize) -> String {
    let (from, to) = (step % 20, (step * 7 + 3) % 20);
    let account = step % 50;
    match step % 9 {
        0 => format!(
            "BEGIN; UPDATE a{from} SET id = id + 1000 WHERE id = {account};
             UPDATE a{to} SET balance = balance - 5 WHERE id = 50;
             UPDATE a{from} SET balance = balance + 5 WHERE id = 50; COMMIT"
        ),
        1 => format!(
            "BEGIN; WITH d AS (DELETE FROM a{from} WHERE id = {account} RETURNING balance)
             UPDATE a{to} SET balance = balance + COALESCE((SELECT sum(balance) FROM d), 0) WHERE id = 50; COMMIT"
        ),
        2 if step.is_multiple_of(4) => format!(
            "BEGIN; LOCK TABLE a{from}; CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM a{from}; TRUNCATE a{from};
             INSERT INTO a{from} SELECT * FROM kept; COMMIT"
        ),
        _ => format!(
            "BEGIN; SAVEPOINT s; UPDATE a{from} SET balance = balance - 1 WHERE id = 50; RELEASE s;
             SAVEPOINT s; UPDATE a{to} SET balance = balance + 1000 WHERE id = 50; ROLLBACK TO s;
             UPDATE a{to} SET balance = balance + 1 WHERE id = 50; COMMIT"
        ),
    }
}

#[test]
fn twenty_tables_of_a_batch_show_one_instant() {
    let mirror = Mirror::shared("bank");
    let names = (0..20).map(|n| format!("a{n}")).collect::<Vec<_>>();
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    for name in &names {
        mirror.source.run(&format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, balance int NOT NULL);
             INSERT INTO {name} SELECT i, 100 FROM generate_series(1, 50) AS i"
        ));
    }
    mirror.track(&names);
    let all = names.iter().map(|name| format!("SELECT balance FROM {name}")).collect::<Vec<_>>();
    let sum = format!("SELECT sum(balance) FROM ({}) AS a", all.join(" UNION ALL "));
    mirror.follow("");
    let done = AtomicBool::new(false);
    let until_done =
        |work: &mut dyn FnMut(usize)| (1..).take_while(|_| !done.load(Ordering::Relaxed)).map(work).count();
    let moved = scope(|scope| {
        let writers = [0, 1].map(|writer| {
            let (mirror, until_done) = (&mirror, &until_done);
            scope.spawn(move || {
                let mut client = mirror.source.client();
                until_done(&mut |step| {
                    // Two writers may meet in a deadlock; one of them then has moved nothing.
                    if client.batch_execute(&move_money(step * 2 + writer)).is_err() {
                        client.batch_execute("ROLLBACK").unwrap_or_else(|error| panic!("{error}"));
                    }
                })
            })
        });
        let reader = scope.spawn(|| {
            let mut client = mirror.copy.client();
            until_done(&mut |_| {
                let found = query(&mut client, &sum).unwrap_or_else(|error| panic!("{}", refusal(&error)));
                assert_eq!(found, "100000", "at the copy, while batches are imported");
            })
        });
        let rounds = || {
            for _ in 0..12 {
                mirror.export("");
                std::thread::sleep(Duration::from_millis(30));
                mirror.import();
            }
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(rounds));
        done.store(true, Ordering::Relaxed);
        let moved = writers.map(|writer| writer.join().unwrap_or(0));
        assert!(outcome.is_ok() && reader.join().is_ok_and(|reads| reads > 10));
        moved
    });
    assert!(moved.iter().all(|steps| *steps > 100), "the writers did not write: {moved:?}");
    mirror.export("");
    mirror.import();
    mirror.assert_same_tables(&names);
    mirror.assert_verified();
    assert_eq!(mirror.copy.text(&sum), "100000");
}

#[test]
fn the_skipped_types_cannot_be_given_a_value() {
    for (name, reason) in SKIPPED {
        let sql = format!("SELECT ''::{}", quoted_type(name));
        let refused = SOURCE.client().batch_execute(&sql).expect_err(reason);
        assert!(
            refusal(&refused).message.ends_with("not implemented")
                || refusal(&refused).message.contains("cannot accept a value"),
            "{name}: {}",
            refusal(&refused)
        );
    }
}

#[test]
fn a_key_may_have_any_type_and_any_number_of_columns() {
    let mirror = Mirror::shared("any_key");
    let tables = [
        ("by_uuid", "u uuid PRIMARY KEY, v int", "SELECT md5(i::text)::uuid, i"),
        ("by_text", "v int, t text PRIMARY KEY", "SELECT i, 'key ' || i"),
        (
            "by_time",
            "at timestamptz PRIMARY KEY, v int",
            "SELECT '2024-01-01Z'::timestamptz + i * interval '1 day', i",
        ),
        (
            "by_three",
            "a int, b text, v int, c date, PRIMARY KEY (c, a, b)",
            "SELECT i % 3, 'b' || i % 5, i, '2024-01-01'::date + i",
        ),
        ("id_is_text", "id text PRIMARY KEY, v int", "SELECT 'id' || i, i"),
        ("id_is_no_key", "id bigint, v int PRIMARY KEY", "SELECT 1, i"),
    ];
    for (table, columns, values) in tables {
        mirror.source.run(&format!(
            "CREATE TABLE {table} ({columns}); INSERT INTO {table} {values} FROM generate_series(1, 20) AS i"
        ));
        mirror.track(&[table]);
    }
    mirror.follow("");
    for (table, ..) in tables {
        mirror.source.run(&format!(
            "DELETE FROM {table} WHERE v % 3 = 0; UPDATE {table} SET v = v + 100 WHERE v % 3 = 1"
        ));
    }
    mirror.follow("");
    for (table, ..) in tables {
        mirror.assert_same_tables(&[table]);
        assert_eq!(mirror.copy.text(&format!("SELECT count(*) FROM {table}")), "14");
    }
}
