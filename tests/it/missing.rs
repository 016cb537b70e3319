//! What does not exist at the destination: the error says what makes it, and the import goes on once that is
//! typed.

use crate::cluster::database::Database;
use crate::cluster::{SOURCE, Store};

fn pair(name: &str, tables: &str) -> (Store, Database, Database) {
    let store = Store::new();
    let source = Database::empty(&SOURCE, name, &store);
    source.run(tables);
    source.export();
    let destination = Database::empty(&SOURCE, &format!("{name}_copy"), &store);
    (store, source, destination)
}

#[test]
fn types_of_users_are_named_with_what_makes_them() {
    let (_store, source, destination) = pair(
        "missing_types",
        "CREATE SCHEMA \"Ext\"; CREATE EXTENSION citext SCHEMA \"Ext\"; CREATE TYPE mood AS ENUM ('fine');
         CREATE TYPE \"a\nb\" AS (x int);
         CREATE TABLE t (id int PRIMARY KEY, c \"Ext\".citext, m mood[], n \"a\nb\");
         INSERT INTO t VALUES (1, 'x', '{fine}'); SELECT tx_track('t')",
    );
    let import = destination.import_sql();
    let added = destination.call("tx_import", ", create_tables => true");
    let create = "Run: CREATE SCHEMA IF NOT EXISTS \"Ext\"; CREATE EXTENSION citext SCHEMA \"Ext\";";
    let texts =
        ["table \"public.t\" does not exist here", "Type \"Ext\".citext does not exist here either.", create];
    destination.refused(&import).expect("42P01", &texts);
    let no_type = "type \"Ext\".citext of column \"c\" of table \"public.t\" does not exist here";
    destination.refused(&added).expect("42704", &[no_type, create]);
    let plan = destination.text(&destination.call("tx_plan", ", create_tables => true"));
    for text in [
        no_type,
        create,
        "type public.mood of column \"m\"",
        "Create type public.mood as it is at the source",
    ] {
        assert!(plan.contains(text), "{plan}");
    }
    destination.run("CREATE EXTENSION citext");
    destination.refused(&import).expect("42P01", &["Run: ALTER EXTENSION citext SET SCHEMA \"Ext\";"]);
    destination.run("CREATE SCHEMA \"Ext\"; ALTER EXTENSION citext SET SCHEMA \"Ext\"");
    destination.refused(&import).expect("42P01", &["Create type public.mood as it is at the source"]);
    let ddl = source.text("SELECT tx_ddl('t')");
    let comments = "-- Needed before: CREATE EXTENSION citext SCHEMA \"Ext\";
-- Needed before: type public.\"a b\", as pg_dump --schema-only shows it
-- Needed before: type public.mood, as pg_dump --schema-only shows it
CREATE TABLE public.t (";
    assert!(ddl.starts_with(comments), "{ddl}");
    destination.run(&format!("CREATE TYPE mood AS ENUM ('fine'); CREATE TYPE \"a\nb\" AS (x int); {ddl}"));
    destination.run(&import);
    assert_eq!(destination.text("SELECT * FROM t"), "1|x|{fine}|");
}

#[test]
fn a_table_with_another_name_at_the_source_goes_on_in_its_copy() {
    let (_store, source, destination) = pair(
        "other_name",
        "CREATE TABLE one (id int PRIMARY KEY, v int); CREATE TABLE two (id int PRIMARY KEY);
         INSERT INTO one VALUES (1, 1); SELECT tx_track('one'); SELECT tx_track('two')",
    );
    destination.run(&destination.call("tx_import", ", create_tables => true"));
    source.run("ALTER TABLE one RENAME TO \"o'ne\"; INSERT INTO \"o'ne\" VALUES (2, 2)");
    source.export();
    let renamed = "If table \"public.one\" was renamed to it at the source, run: \
                   SELECT tx_map('reporting', 'public.\"o''ne\"', 'public.one'); \
                   Otherwise it is a new table. Run: CREATE TABLE public.\"o'ne\" ";
    let refusal = destination.refused(&destination.import_sql());
    refusal.expect("42P01", &["table \"public.o'ne\" does not exist here", renamed]);
    destination.run("SELECT tx_map('reporting', 'public.\"o''ne\"', 'public.one')");
    destination.run(&destination.import_sql());
    assert_eq!(destination.text("SELECT * FROM one ORDER BY id"), "1|1\n2|2");
    // A new table is like none of the copies that are still sent.
    source.run("CREATE TABLE three (id int PRIMARY KEY); SELECT tx_track('three')");
    source.export();
    let hint = destination.refused(&destination.import_sql()).hint;
    assert!(hint.starts_with("Run: CREATE TABLE public.three"), "{hint}");
}
