//! What tracking costs statements of others: counted, because times differ from machine to machine.

use std::sync::{Arc, Mutex};

use postgres::Client;

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::Mirror;
use crate::cluster::{Cluster, SOURCE, Store};

/// DDL that has nothing to do with tracked tables.
const OTHERS: [&str; 7] = [
    "CREATE TEMP TABLE z (i int)",
    "CREATE TABLE n (id int PRIMARY KEY, v text)",
    "ALTER TABLE n ADD COLUMN w int",
    "CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE part_1 PARTITION OF parts DEFAULT",
    "CREATE FOREIGN TABLE far (id int) SERVER nowhere",
    "ALTER TABLE parts DETACH PARTITION part_1; ALTER TABLE parts ATTACH PARTITION far FOR VALUES FROM (1) TO (2)",
    "ALTER TABLE n ALTER COLUMN v TYPE int USING 0",
];

/// A database with some tracked tables, and a tracked root with as many partitions.
fn tracking(name: &str, tables: i32) -> Database {
    let database = Database::empty(&SOURCE, name, &Store::new());
    database.run(&format!(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
         SELECT tx_track('root');
         CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
         DO $$ BEGIN FOR i IN 1..{tables} LOOP
             EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY)', i);
             PERFORM tx_track(format('many_%s', i)::regclass);
             EXECUTE format('CREATE TABLE root_%s PARTITION OF root FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
         END LOOP; END $$"
    ));
    database
}

/// Returns how often each statement reads the tables that tell who is whose relative, in a transaction that
/// has done as much DDL before as is said.
fn reads(database: &Database, ddl_before: i32, statements: &[&str]) -> Vec<String> {
    let mut client = database.client();
    client.batch_execute("BEGIN").unwrap();
    client
        .batch_execute(&format!(
            "DO $$ BEGIN FOR i IN 1..{ddl_before} LOOP
                 EXECUTE format('CREATE TABLE before_%s (id int)', i);
             END LOOP; END $$"
        ))
        .unwrap();
    let counts = "SELECT relname, COALESCE(seq_scan, 0), COALESCE(seq_tup_read, 0), COALESCE(idx_scan, 0),
                         COALESCE(idx_tup_fetch, 0)
                    FROM pg_stat_xact_all_tables
                   WHERE relname IN ('pg_trigger', 'pg_inherits', 'pg_subscription_rel')
                      OR schemaname = 'table_export'
                   ORDER BY relname";
    let count = |client: &mut _| {
        let rows = query(client, counts).unwrap();
        let numbers = |row: &str| row.split('|').skip(1).map(|n| n.parse().unwrap()).collect::<Vec<i64>>();
        rows.lines().map(|row| (row.split('|').next().unwrap().to_owned(), numbers(row))).collect::<Vec<_>>()
    };
    let mut reads = Vec::new();
    for statement in statements {
        let before = count(&mut client);
        client.batch_execute(statement).unwrap();
        let after = count(&mut client);
        let more = before.iter().map(|(name, before)| {
            let after = &after.iter().find(|(other, _)| other == name).unwrap().1;
            (name, before.iter().zip(after).map(|(before, after)| after - before).collect::<Vec<_>>())
        });
        let more = more.filter(|(_, more)| more.iter().any(|&n| n > 0)).collect::<Vec<_>>();
        reads.push(format!("{statement}: {more:?}"));
    }
    reads
}

#[test]
fn ddl_reads_no_more_beside_many_tracked_tables_or_late_in_a_transaction() {
    let (few, many) = (tracking("cost_few", 2), tracking("cost_many", 40));
    let first = reads(&few, 0, &OTHERS);
    assert_eq!(first, reads(&few, 100, &OTHERS), "late in a transaction");
    assert_eq!(first, reads(&many, 0, &OTHERS), "beside many tables");
}

#[test]
fn ddl_of_a_tracked_table_reads_the_triggers_of_few() {
    let database = tracking("cost_own", 40);
    database.run("CREATE TABLE filled (id int PRIMARY KEY); INSERT INTO filled VALUES (1001)");
    let statements = [
        "CREATE TABLE root_new PARTITION OF root FOR VALUES FROM (1000) TO (1001)",
        "ALTER TABLE root ATTACH PARTITION filled FOR VALUES FROM (1001) TO (1002)",
        "ALTER TABLE many_1 ADD COLUMN w int",
        "ALTER TABLE root DETACH PARTITION root_7",
    ];
    for reads in reads(&database, 0, &statements) {
        // There are 328.
        assert!(rows_read(&reads, "pg_trigger") < 100, "{reads}");
    }
}

/// Returns how many rows of a table one of the results of [`reads`] says.
fn rows_read(reads: &str, table: &str) -> i64 {
    let numbers = reads.split(&format!("{table}\", [")).nth(1).and_then(|reads| reads.split(']').next());
    let numbers = numbers.unwrap().split(", ").map(|n| n.parse::<i64>().unwrap()).collect::<Vec<_>>();
    numbers[1] + numbers[3]
}

/// Returns a client, and what the server says of each query that it runs, queries of functions included.
fn queries_of(database: &Database) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (mut client, seen) = database.watched();
    client
        .batch_execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0;
             SET auto_explain.log_nested_statements = on; SET client_min_messages = log",
        )
        .unwrap();
    (client, seen)
}

#[test]
fn an_export_runs_no_query_about_shadows_that_are_empty() {
    let ddl = "CREATE TABLE quiet (id int PRIMARY KEY); CREATE TABLE busy (id int PRIMARY KEY)";
    let mirror = Mirror::tracking("cost_quiet", ddl, &["quiet", "busy"]);
    mirror.source.run("INSERT INTO busy VALUES (1)");
    let id = mirror.source.text("SELECT id FROM table_export.tracked WHERE relation = 'quiet'::regclass");
    let (mut client, seen) = queries_of(&mirror.source);
    query(&mut client, &format!("SELECT tx_export{}", mirror.arguments("copy", ""))).unwrap();
    let queries = seen.lock().unwrap();
    let about = |what: &str| queries.iter().filter(|query| query.contains(what)).count();
    assert_eq!(about(&format!("shadow_{id}_")), 0, "{queries:?}");
    assert!(about("shadow_") > 0);
}

#[test]
fn an_export_runs_no_more_queries_for_many_tables() {
    let queries = |tables: i32| {
        let names = (1..=tables).map(|i| format!("many_{i}")).collect::<Vec<_>>();
        let ddl = names.iter().map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY, v text);"));
        let names = names.iter().map(String::as_str).collect::<Vec<_>>();
        let mirror = Mirror::tracking(&format!("cost_export_{tables}"), &ddl.collect::<String>(), &names);
        let (mut client, seen) = queries_of(&mirror.source);
        query(&mut client, &format!("SELECT tx_export{}", mirror.arguments("copy", ""))).unwrap();
        let ours = seen.lock().unwrap();
        ours.iter().filter(|query| query.contains("Query Text")).count()
    };
    let few = queries(2);
    assert!(few > 0);
    assert_eq!(few, queries(20));
}

#[test]
fn ddl_of_other_tables_runs_no_query() {
    let database = tracking("cost_queries", 2);
    let (mut client, seen) = queries_of(&database);
    // One about partitions looks for a protected copy above.
    for statement in OTHERS.into_iter().filter(|statement| !statement.contains("PARTITION")) {
        client.batch_execute(statement).unwrap();
        let queries = std::mem::take(&mut *seen.lock().unwrap());
        let ours = queries.iter().filter(|query| query.contains("pg_")).collect::<Vec<_>>();
        assert!(ours.is_empty(), "{statement}: {ours:?}");
    }
    client.batch_execute("CREATE TABLE root_new PARTITION OF root FOR VALUES FROM (1000) TO (1001)").unwrap();
    assert!(seen.lock().unwrap().iter().any(|query| query.contains("TRIGGER %I AFTER")));
}

#[test]
fn ddl_does_not_fail_where_it_cannot_be_followed() {
    let mirror = Mirror::shared("cost_failing");
    mirror.source.run(
        "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
         CREATE TABLE high (id int PRIMARY KEY, v text);
         INSERT INTO root SELECT generate_series(1, 9), 'low';
         INSERT INTO high SELECT generate_series(10, 19), 'high'",
    );
    mirror.track(&["root"]);
    mirror.follow("");
    let name = mirror.source.text(
        "SELECT 'pg_table_export_insert_' || id FROM table_export.tracked WHERE relation = 'root'::regclass",
    );
    mirror.source.run(&format!(
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER {name} AFTER INSERT ON high FOR EACH ROW EXECUTE FUNCTION nothing()"
    ));
    let attach = "ALTER TABLE root ATTACH PARTITION high FOR VALUES FROM (10) TO (20)";
    let (mut client, notices) = mirror.source.watched();
    client.batch_execute(attach).unwrap();
    let warning = "this command could not be followed for tracked table \"public.root\": trigger";
    assert!(notices.lock().unwrap().iter().any(|notice| notice.contains(warning)));
    mirror.source.run("CREATE TEMP TABLE z (i int); CREATE TABLE n (i int); ALTER TABLE n ADD COLUMN w int");
    mirror.source.run("ALTER TABLE root ALTER COLUMN v SET DEFAULT 'x'; UPDATE root SET v = 'changed'");
    assert_eq!(mirror.source.text("SELECT triggers_intact FROM tx_tracked"), "f");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    mirror
        .source
        .refused(&export)
        .expect("55000", &["missing or disabled", "SELECT tx_track('public.root')"]);
    mirror.source.refused("SELECT tx_track('root')").expect("42710", &[&name, "already exists"]);
    // As soon as they can be made, that makes them, and what has been written without them is sent.
    mirror.source.run(&format!("DROP TRIGGER {name} ON high; SELECT tx_track('root')"));
    assert_eq!(mirror.source.text("SELECT triggers_intact FROM tx_tracked"), "t");
    mirror.follow("");
    mirror.assert_same_tables(&["root"]);
    mirror.source.run("DELETE FROM high WHERE id = 11");
    mirror.follow("");
    mirror.assert_same_tables(&["root"]);
}

/// PostgreSQL attaches a table that has events of deferred triggers, and alters none.
#[test]
fn ddl_does_not_fail_where_triggers_cannot_be_enabled_yet() {
    let mirror = Mirror::shared("cost_pending");
    mirror.source.run(
        "CREATE TABLE root (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE other (id int PRIMARY KEY);
         CREATE TABLE high (id int PRIMARY KEY, v int REFERENCES other DEFERRABLE INITIALLY DEFERRED)",
    );
    mirror.track(&["root"]);
    mirror.follow("");
    mirror.source.run(
        "BEGIN; INSERT INTO other VALUES (1); INSERT INTO high VALUES (10, 1);
         ALTER TABLE root ATTACH PARTITION high FOR VALUES FROM (10) TO (20); COMMIT",
    );
    assert_eq!(mirror.source.text("SELECT triggers_intact FROM tx_tracked"), "f");
    mirror.source.run("SELECT tx_track('root')");
    mirror.follow("");
    mirror.assert_same_tables(&["root"]);
}

#[test]
fn tracking_a_table_reads_nothing_of_the_others() {
    let database = tracking("cost_track", 40);
    let track = ["CREATE TABLE fresh (id int PRIMARY KEY)", "SELECT tx_track('fresh')"];
    let reads = reads(&database, 0, &track).pop().unwrap();
    assert!(rows_read(&reads, "pg_trigger") < 100, "{reads}");
    assert!(rows_read(&reads, "tracked") < 41, "{reads}");
}

/// What a subtransaction catches must not include a cancel, and a cancel must not leave it open.
#[test]
fn a_session_goes_on_after_a_plan_was_cancelled() {
    let mirror = Mirror::tracking(
        "cost_cancelled",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        &["t"],
    );
    mirror.source.run("INSERT INTO t VALUES (2)");
    mirror.export("");
    let mut client = mirror.copy.client();
    client
        .batch_execute("SET statement_timeout = '2s'; SET pg_table_export.wait_at = 'ImportPartStaged'")
        .unwrap();
    let plan = format!("SELECT tx_plan{}", mirror.arguments("copy", ", try_rows => true"));
    assert!(query(&mut client, &plan).is_err());
    assert_eq!(query(&mut client, "SELECT 1").unwrap(), "1");
}

#[test]
fn an_export_leaves_room_in_the_lock_table() {
    let (mut cluster, store) = (Cluster::start_with_few_locks(), Store::new());
    let source = Database::empty(&cluster, "locks", &store);
    source.run("CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT tx_track('root')");
    for i in 0..40 {
        source.run(&format!("CREATE TABLE part_{i} PARTITION OF root FOR VALUES FROM ({i}) TO ({i} + 1)"));
    }
    // 41 tables, 41 indexes, two segments, and 150 of catalogs; for each of seven processes there are ten.
    let refusal = source.export_refused();
    refusal.expect(
        "53400",
        &[
            "the lock table has no room for an export of target",
            "234 tables",
            "max_locks_per_transaction = 3",
        ],
    );
    source.run(refusal.statements());
    cluster.restart();
    assert_eq!(source.export(), "1|public.root|full");
}

#[test]
fn an_import_leaves_room_in_the_lock_table() {
    let (mut cluster, store) = (Cluster::start_with_few_locks(), Store::new());
    let source = Database::empty(&SOURCE, "locks_source", &store);
    source.run("CREATE TABLE root (id int PRIMARY KEY, note text); SELECT tx_track('root')");
    source.export();
    let destination = Database::empty(&cluster, "locks_copy", &store);
    destination.run("CREATE TABLE root (id int PRIMARY KEY, note text) PARTITION BY RANGE (id)");
    for i in 0..40 {
        destination
            .run(&format!("CREATE TABLE part_{i} PARTITION OF root FOR VALUES FROM ({i}) TO ({i} + 1)"));
    }
    // 41 tables, 41 indexes, 40 TOAST tables with an index each, and 150 of catalogs.
    let plan = destination.call("tx_plan", "");
    let obstacle =
        destination.text(&format!("SELECT obstacle FROM ({plan}) AS p WHERE obstacle IS NOT NULL"));
    assert!(obstacle.contains("312 tables"), "{obstacle}");
    let refusal = destination.refused(&destination.import_sql());
    refusal.expect(
        "53400",
        &[
            "the lock table has no room for an import of target",
            "312 tables",
            "max_locks_per_transaction = 45",
        ],
    );
    destination.run(refusal.statements());
    cluster.restart();
    assert_eq!(destination.import(), "1|public.root|full");
}
