//! Names of every kind: of tables and columns, of targets, and of what comes first in a search_path.

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::mirror::Mirror;
use crate::cluster::{SOURCE, Store};

/// Names that break code which pastes them into SQL, a path or a format.
const NAMES: &[&str] = &[
    "Upper Case",
    "q\"uo\"te",
    "a'postrophe",
    "semi;colon",
    "per%cent %s",
    "a/../../outside of the store",
    "..",
    ".",
    "/etc/passwd",
    "back\\slash",
    "naïve \u{1f600}",
    "xid",
    "op",
    "k1",
    "id",
    "select",
    "$1",
    "{}",
    "new\nline",
    "tab\t",
    "-- x",
    "/* x",
    "public.t",
    "%2e%2e",
    "old_rows",
    "new_rows",
    "ids",
    "s",
    "t",
    "k",
    "d",
    "i",
    "sixty-three bytes long, which is as long as the name of a table can be",
];

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[test]
fn any_name_works() {
    let mirror = Mirror::shared("any_name");
    let mut tables = Vec::new();
    for (n, name) in NAMES.iter().enumerate() {
        // Each name is that of a schema, a table, a key column and a plain column.
        let (schema, key) = (identifier(name), identifier(NAMES[(n + 1) % NAMES.len()]));
        let (table, column) =
            (identifier(NAMES[(n + 2) % NAMES.len()]), identifier(NAMES[(n + 3) % NAMES.len()]));
        mirror.run(&format!("CREATE SCHEMA {schema}"));
        mirror
            .source
            .run(&format!("CREATE TABLE {schema}.{table} ({column} text, {key} text, PRIMARY KEY ({key}))"));
        tables.push((format!("{schema}.{table}"), key, column));
    }
    for (table, key, _) in &tables {
        let name = table.replace('\'', "''");
        mirror.track(&[name.as_str()]);
        mirror
            .source
            .run(&format!("INSERT INTO {table} ({key}) SELECT 'k' || i FROM generate_series(1, 4) AS i"));
    }
    for round in 0..3 {
        for (table, key, column) in &tables {
            mirror.source.run(&format!(
                "UPDATE {table} SET {column} = '{round}' WHERE {key} = 'k1'; DELETE FROM {table} WHERE {key} = 'k2';
                 UPDATE {table} SET {key} = {key} || '.' WHERE {key} LIKE 'k3%'"
            ));
        }
        mirror.follow("");
        for (table, ..) in &tables {
            mirror.assert_same_tables(&[table]);
        }
    }
    for (table, ..) in &tables {
        mirror.source.run(&format!("SELECT tx_untrack('{}')", table.replace('\'', "''")));
    }
}

#[test]
fn any_target_works_and_stays_in_the_store() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 100)";
    let mirror = Mirror::tracking("target_names", ddl, &["t"]);
    let outside = mirror.store.path().parent().expect("a parent").join("outside of the store");
    let mut former = "copy".to_owned();
    for name in NAMES {
        mirror.copy.run(&format!("SELECT tx_forget('{former}'); TRUNCATE t"));
        let arguments = mirror.arguments(name, "");
        let name = name.replace('\'', "''");
        let files = mirror.store.files().len();
        assert_eq!(mirror.source.text(&format!("SELECT kind FROM tx_export{arguments}")), "full", "{name}");
        assert!(mirror.store.files().len() > files, "{name}");
        assert_eq!(mirror.copy.text(&format!("SELECT inserted FROM tx_import{arguments}")), "100", "{name}");
        assert_eq!(
            mirror.copy.text(&format!("SELECT count(*) FROM table_export.receipt WHERE target = '{name}'")),
            "1"
        );
        former = name;
    }
    assert!(!outside.exists());
}

/// Objects that a user may have put into a schema ahead of pg_catalog: all that the extension could call by a
/// bare name.
const TRAPS: &str = "
    CREATE SCHEMA trap;
    CREATE FUNCTION trap.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.equal(int, int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.equal(oid, oid) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.equal(xid8, xid8) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE OPERATOR trap.= (FUNCTION = trap.equal, LEFTARG = text, RIGHTARG = text);
    CREATE OPERATOR trap.= (FUNCTION = trap.equal, LEFTARG = int, RIGHTARG = int);
    CREATE OPERATOR trap.= (FUNCTION = trap.equal, LEFTARG = oid, RIGHTARG = oid);
    CREATE OPERATOR trap.>= (FUNCTION = trap.equal, LEFTARG = xid8, RIGHTARG = xid8);
    CREATE OPERATOR trap.= (FUNCTION = trap.equal, LEFTARG = xid8, RIGHTARG = xid8);
    CREATE FUNCTION trap.capture() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.now() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.count(text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.format(text, text, text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE FUNCTION trap.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE plpgsql AS 'BEGIN RAISE ''trap''; END';
    CREATE TABLE trap.tracked (trap int); CREATE TABLE trap.target (trap int); CREATE TABLE trap.pg_class (trap int);
    CREATE TABLE trap.pg_attribute (trap int); CREATE TABLE trap.ids (trap int); CREATE TABLE trap.t (trap int);
    CREATE DOMAIN trap.text AS pg_catalog.int4; CREATE DOMAIN trap.xid8 AS pg_catalog.int4;
    CREATE DOMAIN trap.regclass AS pg_catalog.int4; CREATE DOMAIN trap.name AS pg_catalog.int4;
    SET search_path = trap, public, pg_catalog;
    CREATE TEMP TABLE pg_type (trap int); CREATE TEMP TABLE s (trap int); CREATE TEMP TABLE i (trap int);
";

#[test]
fn nothing_of_a_users_search_path_runs() {
    let mirror = Mirror::shared("search_path");
    let (mut source, mut copy) = (mirror.source.client(), mirror.copy.client());
    let run = |client: &mut postgres::Client, sql: &str| {
        query(client, sql).unwrap_or_else(|error| panic!("{sql}: {}", refusal(&error)))
    };
    let table = "CREATE TABLE public.t (id int, k text, v text, PRIMARY KEY (id, k))";
    run(&mut source, table);
    run(&mut copy, table);
    run(&mut source, TRAPS);
    run(&mut copy, TRAPS);
    let trapped = source.simple_query("SELECT 1 WHERE 'a'::pg_catalog.text = 'a'::pg_catalog.text");
    assert_eq!(
        trapped.map_err(|error| refusal(&error).message).err().as_deref(),
        Some("trap"),
        "the traps work"
    );
    run(&mut source, "SELECT public.tx_track('public.t'::pg_catalog.regclass)");
    run(&mut source, "SELECT public.tx_ddl('public.t'::pg_catalog.regclass)");
    for change in [
        "INSERT INTO public.t VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z')",
        "UPDATE public.t SET k = 'changed', v = 'changed'",
        "DELETE FROM public.t",
    ] {
        run(&mut source, change);
        run(&mut source, &format!("SELECT * FROM public.tx_export{}", mirror.arguments("copy", "")));
        run(&mut copy, &format!("SELECT * FROM public.tx_import{}", mirror.arguments("copy", "")));
        mirror.assert_same_tables(&["public.t"]);
    }
    run(
        &mut source,
        "SELECT * FROM public.tx_tracked; SELECT * FROM public.tx_targets; SELECT * FROM public.tx_batches",
    );
    run(&mut copy, "SELECT * FROM public.tx_receipts");
    run(&mut source, &format!("SELECT public.tx_reset{}", mirror.arguments("copy", "")));
    run(&mut source, "SELECT public.tx_untrack('public.t'::pg_catalog.regclass)");
}

#[test]
fn a_mistyped_target_is_told_from_those_that_are_known() {
    let store = Store::new();
    let source = Database::source(&SOURCE, "mistyped", &store);
    let destination = Database::destination(&SOURCE, "mistyped_copy", &store);
    source.feed(&destination);
    let (mut client, seen) = source.watched();
    query(&mut client, &source.with_target("reportign").export_sql()).unwrap();
    assert_eq!(*seen.lock().unwrap(), ["target \"reportign\" is new; known are \"reporting\""]);
    query(&mut client, &source.with_target("reportign").export_sql()).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2, "it is known now, and nothing has changed");
    let unknown = destination.with_target("reporter");
    unknown.refused(&unknown.reset_sql()).expect("42704", &["Targets: \"reportign\", \"reporting\"."]);
    unknown.import_refused().expect("42704", &["Targets: \"reportign\", \"reporting\"."]);
    unknown.refused("SELECT tx_forget('reporter')").expect("42704", &["Targets: \"reporting\"."]);
}
