//! The extension as an object of a database: its script, where it can be created, what pg_dump carries, what
//! it leaves.

use std::sync::LazyLock;

use crate::cluster::database::Database;
use crate::cluster::{Cluster, Store};

static SHARED: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// Everything in the catalogs that can belong to the extension, or be left behind by it.
const OBJECTS: &str = "
    SELECT 'class', oid::regclass::text FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE oid >= 16384
    UNION ALL SELECT 'type', oid::regtype::text FROM pg_type WHERE oid >= 16384
    UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT 'trigger', tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'extension', extname FROM pg_extension
    UNION ALL SELECT 'default rights', defaclobjtype::text FROM pg_default_acl
    UNION ALL SELECT 'event trigger', evtname FROM pg_event_trigger
    ORDER BY 1, 2";

fn database(name: &str) -> (Store, Database) {
    SHARED.create_database(name);
    let store = Store::new();
    let database = Database::of(&SHARED, name, &store);
    (store, database)
}

#[test]
fn it_can_be_created_in_any_schema() {
    let (_store, plain) = database("plain");
    plain.run("CREATE EXTENSION pg_table_export");
    let (_store, elsewhere) = database("elsewhere");
    elsewhere.run("CREATE SCHEMA \"Tools & more\"; CREATE EXTENSION pg_table_export SCHEMA \"Tools & more\"");
    let schema = |database: &Database| {
        database.text("SELECT DISTINCT pronamespace::regnamespace FROM pg_proc WHERE proname ~ '^tx_'")
    };
    assert_eq!(schema(&plain), "public");
    assert_eq!(schema(&elsewhere), "\"Tools & more\"");
}

#[test]
fn it_works_from_any_schema() {
    let (store, source) = database("any_source");
    source.run("CREATE SCHEMA \"Tools\"; CREATE EXTENSION pg_table_export SCHEMA \"Tools\"");
    let (_, destination) = database("any_copy");
    destination.run("CREATE SCHEMA tools; CREATE EXTENSION pg_table_export SCHEMA tools");
    let table = "CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE lines (id int PRIMARY KEY);";
    source.run(&format!("{table} INSERT INTO items VALUES (1); SELECT \"Tools\".tx_track('items')"));
    destination.run(table);
    source.run(&source.export_sql().replace("tx_", "\"Tools\".tx_"));
    destination.run(&destination.with_store(&store).import_sql().replace("tx_", "tools.tx_"));
    source.assert_equal(&destination);
    // Whatever the search_path of whoever reads it is, a HINT can be pasted.
    source.run("ALTER TABLE items DISABLE TRIGGER ALL");
    let hint = source.text("SELECT hint FROM \"Tools\".tx_health()");
    assert!(hint.ends_with(
        "run: BEGIN; SELECT \"Tools\".tx_untrack('public.items'); SELECT \"Tools\".tx_track('public.items'); COMMIT;"
    ));
    assert_eq!(source.refused(&source.export_sql().replace("tx_", "\"Tools\".tx_")).hint, hint);
    source.run(hint.split("run: ").nth(1).unwrap());
    source.run(&source.export_sql().replace("tx_", "\"Tools\".tx_"));
    for view in ["tx_tracked", "tx_targets", "tx_batches", "tx_receipts"] {
        source.text(&format!("SELECT * FROM \"Tools\".{view}"));
    }
}

#[test]
fn it_cannot_be_created_twice_in_one_database() {
    let (_store, database) = database("twice");
    database.run("CREATE EXTENSION pg_table_export");
    database
        .refused("CREATE EXTENSION pg_table_export SCHEMA pg_catalog")
        .expect("42710", &["already exists"]);
}

#[test]
fn creating_and_dropping_it_leaves_nothing() {
    let (_store, database) = database("nothing");
    let before = database.text(OBJECTS);
    database.run("CREATE EXTENSION pg_table_export");
    assert_ne!(database.text(OBJECTS), before);
    database.run("DROP EXTENSION pg_table_export");
    assert_eq!(database.text(OBJECTS), before);
}

#[test]
fn dropping_it_with_tracked_tables_needs_cascade_and_leaves_only_the_tables() {
    let (_store, source) = database("tracked");
    source.run("CREATE TABLE items (id int PRIMARY KEY, note text); CREATE TABLE lines (id int PRIMARY KEY)");
    source.run("CREATE ROLE owner; ALTER TABLE items OWNER TO owner");
    let (before, rights) = (
        source.text(OBJECTS),
        "SELECT count(*) FROM pg_shdepend WHERE refobjid = 'owner'::regrole AND dbid <> 0",
    );
    let owned = source.text(rights);
    source.run("CREATE EXTENSION pg_table_export; SELECT tx_track('items'); SELECT tx_track('lines')");
    source.run("INSERT INTO items VALUES (1, 'x')");
    source.export();
    source.refused("DROP EXTENSION pg_table_export").expect("2BP01", &["shadow_1_0", "CASCADE"]);
    source.run("DROP EXTENSION pg_table_export CASCADE");
    assert_eq!(source.text(OBJECTS), before);
    assert_eq!(source.text(rights), owned);
    source.run("INSERT INTO items VALUES (2, 'y'); TRUNCATE items");
    // And it can begin anew.
    source
        .run("CREATE EXTENSION pg_table_export; SELECT tx_track('items'); INSERT INTO items VALUES (3, 'z')");
}

#[test]
fn untracking_leaves_nothing_of_a_table() {
    let (_store, source) = database("untracked");
    source.run("CREATE EXTENSION pg_table_export; CREATE TABLE items (id int PRIMARY KEY)");
    let before = source.text(OBJECTS);
    source.run("SELECT tx_track('items'); INSERT INTO items VALUES (1); SELECT tx_untrack('items')");
    assert_eq!(source.text(OBJECTS), before);
}

#[test]
fn pg_dump_carries_all_that_is_remembered() {
    let (_store, source) = database("carried");
    source.run("CREATE EXTENSION pg_table_export");
    let own =
        "SELECT c.oid::regclass FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.deptype = 'e'
                WHERE c.relkind IN ('r', 'S') ORDER BY 1";
    let marked =
        "SELECT unnest(extconfig)::regclass FROM pg_extension WHERE extname = 'pg_table_export' ORDER BY 1";
    assert_ne!(source.text(marked), "");
    assert_eq!(source.text(own), source.text(marked));
}

#[test]
fn every_object_says_what_it_is() {
    let (_store, source) = database("described");
    source.run("CREATE EXTENSION pg_table_export");
    let silent = "
        SELECT pg_describe_object(d.classid, d.objid, 0)
          FROM pg_depend AS d
         WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_table_export')
           AND d.classid IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass)
           AND NOT EXISTS (SELECT FROM pg_class AS c WHERE d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind = 'S')
           AND obj_description(d.objid, d.classid::regclass::text::name) IS NULL
        UNION ALL
        SELECT pg_describe_object(d.classid, d.objid, a.attnum)
          FROM pg_depend AS d JOIN pg_attribute AS a ON a.attrelid = d.objid AND a.attnum > 0 AND NOT a.attisdropped
          JOIN pg_class AS c ON c.oid = d.objid AND c.relkind IN ('r', 'v')
         WHERE d.classid = 'pg_class'::regclass AND d.deptype = 'e' AND d.refclassid = 'pg_extension'::regclass
           AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_table_export')
           AND col_description(d.objid, a.attnum) IS NULL";
    assert_eq!(source.text(silent), "");
}

#[test]
fn nothing_is_granted_to_everybody() {
    let (_store, source) = database("granted");
    source.run(
        "CREATE EXTENSION pg_table_export; CREATE TABLE items (id int PRIMARY KEY); SELECT tx_track('items')",
    );
    let open = "
        SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_depend AS d ON d.objid = p.oid AND d.deptype = 'e'
               JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_table_export',
               aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0
        UNION ALL
        SELECT c.oid::regclass::text FROM pg_class AS c,
               aclexplode(c.relacl) AS a
         WHERE a.grantee = 0 AND (c.relnamespace = 'table_export'::regnamespace OR c.relname ~ '^tx_')
        UNION ALL
        SELECT nspname FROM pg_namespace, aclexplode(nspacl) AS a WHERE nspname = 'table_export' AND a.grantee = 0";
    assert_eq!(source.text(open), "");
}
