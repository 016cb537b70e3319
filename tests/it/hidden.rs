//! Changes that DDL hides from the triggers: each is noticed by the next export, which sends the table in full
//! or, if a partition has come or gone, what that held, or is refused.

use crate::cluster::database::{Refusal, query, refusal, wait_until};
use crate::cluster::mirror::Mirror;
use crate::cluster::{COPY, Cluster, SOURCE};

/// A plain table, and a partitioned one with two levels.
const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v text);
    INSERT INTO plain SELECT i, 'first' FROM generate_series(1, 9) AS i;
    CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
    CREATE TABLE middle PARTITION OF root FOR VALUES FROM (10) TO (20);
    CREATE TABLE high PARTITION OF root FOR VALUES FROM (20) TO (40) PARTITION BY RANGE (id);
    CREATE TABLE high_1 PARTITION OF high FOR VALUES FROM (20) TO (30);
    CREATE TABLE high_2 PARTITION OF high FOR VALUES FROM (30) TO (40);
    INSERT INTO root SELECT i, 'first' FROM generate_series(1, 39) AS i;
    CREATE TABLE filled (id int PRIMARY KEY, v text);
    INSERT INTO filled SELECT i, 'attached' FROM generate_series(40, 49) AS i;
";

const ALWAYS: &str = "ALTER TABLE plain ENABLE ALWAYS TRIGGER pg_table_export_insert, ENABLE ALWAYS TRIGGER pg_table_export_update,
    ENABLE ALWAYS TRIGGER pg_table_export_delete, ENABLE ALWAYS TRIGGER pg_table_export_truncate";

fn mirror(name: &str) -> Mirror {
    Mirror::tracking(name, TABLES, &["plain", "root"])
}

/// Returns `table_name kind` for each part of the next export.
fn parts(mirror: &Mirror) -> Vec<String> {
    let columns = |line: &str| line.split('|').skip(1).take(2).collect::<Vec<_>>().join(" ");
    mirror.export("").lines().map(columns).collect()
}

/// Makes sure that the next export sends one table in full, and that both sides are equal then.
#[track_caller]
fn assert_noticed(mirror: &Mirror, table: &str, ddl: &str) {
    assert_sent(mirror, table, "full", ddl);
}

/// Makes sure that the next export sends what a partition of one table held, and that both sides are equal
/// then.
#[track_caller]
fn assert_range_noticed(mirror: &Mirror, table: &str, ddl: &str) {
    assert_sent(mirror, table, "changes", ddl);
}

#[track_caller]
fn assert_sent(mirror: &Mirror, table: &str, kind: &str, ddl: &str) {
    assert_eq!(parts(mirror), [format!("public.{table} {kind}")], "{ddl}");
    mirror.import();
    mirror.assert_same_after(ddl, &["plain", "root"]);
    assert_eq!(mirror.export(""), "", "after {ddl}");
}

/// Sends changes of every table, so that both segments of each shadow have been in use.
fn change(mirror: &Mirror) {
    for value in ["a", "b", "c"] {
        mirror.source.run(&format!(
            "UPDATE plain SET v = '{value}' WHERE id = 9; UPDATE root SET v = '{value}' WHERE id > 9"
        ));
        mirror.follow("");
    }
}

/// What the witness says is what the snapshot of the export sees, and nothing later: the next export would not
/// notice it.
#[test]
fn triggers_that_were_away_after_an_export_had_its_snapshot() {
    let mirror = mirror("hidden_later");
    std::thread::scope(|scope| {
        let mut other = mirror.source.client();
        // Sessions that begin later may need that table as well, to write pg_internal.init: before any snapshot.
        let mut watch = mirror.source.client();
        let mut exporting = mirror.source.client();
        let pid = query(&mut exporting, "SELECT pg_backend_pid()").unwrap();
        other.batch_execute("BEGIN; LOCK TABLE pg_event_trigger IN ACCESS EXCLUSIVE MODE").unwrap();
        let sql = format!("SELECT table_name, kind FROM tx_export{}", mirror.arguments("copy", ""));
        let export = scope.spawn(move || query(&mut exporting, &sql).unwrap());
        let waits = format!(
            "SELECT count(*) FROM pg_locks
              WHERE NOT granted AND relation = 'pg_event_trigger'::regclass AND pid = {pid}"
        );
        wait_until("the export waits", || query(&mut watch, &waits).unwrap() == "1");
        let hidden = "UPDATE plain SET v = 'hidden' WHERE id = 1";
        other
            .batch_execute(&format!("ALTER TABLE plain DISABLE TRIGGER ALL; {hidden}; {ALWAYS}; COMMIT"))
            .unwrap();
        assert_eq!(export.join().unwrap(), "");
    });
    assert_noticed(&mirror, "plain", "the triggers were away");
}

#[test]
fn ddl_in_a_transaction_that_is_older_than_tracking_or_an_export() {
    let mirror = Mirror::shared("old_snapshots");
    mirror.source.run(TABLES);
    let begin = || {
        let mut client = mirror.source.client();
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
        client
    };
    let mut old = begin();
    mirror.track(&["plain", "root"]);
    mirror.follow("");
    for (table, kind, ddl) in [
        ("plain", "full", "ALTER TABLE plain ALTER COLUMN v TYPE text USING upper(v)".to_owned()),
        (
            "plain",
            "full",
            format!(
                "ALTER TABLE plain DISABLE TRIGGER ALL; UPDATE plain SET v = 'hidden' WHERE id = 1; {ALWAYS}"
            ),
        ),
        ("root", "changes", "DROP TABLE low".to_owned()),
        ("root", "changes", "ALTER TABLE root DETACH PARTITION middle".to_owned()),
        (
            "root",
            "changes",
            "ALTER TABLE root ATTACH PARTITION filled FOR VALUES FROM (40) TO (50)".to_owned(),
        ),
        ("root", "full", "ALTER TABLE root ALTER COLUMN v TYPE text USING v || '.'".to_owned()),
        ("plain", "full", "ALTER TABLE plain SET UNLOGGED; ALTER TABLE plain SET LOGGED".to_owned()),
    ] {
        old.batch_execute(&ddl).unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
        old.batch_execute("COMMIT").unwrap_or_else(|error| panic!("{ddl}: {error:?}"));
        assert_sent(&mirror, table, kind, &ddl);
        old = begin();
        change(&mirror);
    }
    // What hides nothing is followed all the same: a new partition, and the name of the key.
    old.batch_execute("CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10); INSERT INTO low VALUES (1, 'new'); COMMIT").unwrap();
    assert_eq!(parts(&mirror), ["public.root changes"]);
    let mut old = begin();
    change(&mirror);
    old.batch_execute("ALTER TABLE plain RENAME COLUMN id TO number; COMMIT").unwrap();
    assert_eq!(
        mirror.source.text("SELECT key FROM tx_tracked WHERE table_name = 'plain'::regclass"),
        "number"
    );
}

#[test]
fn a_table_tracked_by_a_transaction_that_is_older_than_a_partition() {
    let mirror = Mirror::shared("tracked_late");
    mirror.source.run(TABLES);
    let mut old = mirror.source.client();
    old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1").unwrap();
    mirror.source.run("CREATE TABLE late PARTITION OF root FOR VALUES FROM (60) TO (70)");
    old.batch_execute("SELECT tx_track('root'); COMMIT").unwrap();
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('root')"));
    mirror.follow("");
    mirror.source.run("INSERT INTO late VALUES (60, 'late')");
    assert_eq!(parts(&mirror), ["public.root changes"]);
    mirror.import();
    mirror.assert_same_tables(&["root"]);
}

/// Begins to detach a partition, and is cut off between its two transactions.
fn detach_halfway(mirror: &Mirror, parent: &str, partition: &str) {
    let mut reader = mirror.source.client();
    reader.batch_execute(&format!("BEGIN; SELECT FROM {parent}")).unwrap();
    let mut detaching = mirror.source.client();
    detaching.batch_execute("SET statement_timeout = '1s'").unwrap();
    query(&mut detaching, &format!("ALTER TABLE {parent} DETACH PARTITION {partition} CONCURRENTLY"))
        .unwrap_err();
    assert_eq!(
        mirror.source.text("SELECT inhrelid::regclass FROM pg_inherits WHERE inhdetachpending"),
        partition
    );
}

#[test]
fn a_partition_whose_detaching_was_cut_off() {
    let mirror = mirror("halfway");
    for (parent, partition) in [("root", "low"), ("high", "high_1")] {
        detach_halfway(&mirror, parent, partition);
        assert_range_noticed(&mirror, "root", partition);
        mirror
            .source
            .run(&format!("UPDATE {partition} SET v = 'not ours any more'; UPDATE root SET v = 'rest'"));
        mirror.follow("");
        mirror.assert_same_tables(&["root"]);
        mirror.source.run(&format!("ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE"));
        assert_eq!(mirror.export(""), "", "its rows are gone already");
    }
}

#[test]
fn a_dropped_partition_whatever_its_triggers_are_called() {
    let mirror = mirror("renamed_triggers");
    let rename = |partition: &str| {
        let id = mirror.source.text("SELECT id FROM table_export.tracked WHERE relation = 'root'::regclass");
        for event in ["insert", "update", "delete", "truncate"] {
            mirror.source.run(&format!(
                "ALTER TRIGGER pg_table_export_{event}_{id} ON {partition} RENAME TO mine_{event}"
            ));
        }
        mirror.export("");
    };
    for (partition, drop) in [
        ("low", "DROP TABLE low"),
        ("high_1", "DROP TABLE high_1"),
        ("high", "DROP TABLE high"),
        ("middle", "CREATE SCHEMA away; ALTER TABLE middle SET SCHEMA away; DROP SCHEMA away CASCADE"),
    ] {
        rename(partition);
        mirror.source.run(drop);
        assert_range_noticed(&mirror, "root", drop);
    }
}

#[test]
fn no_setting_hides_ddl() {
    let mirror = mirror("no_setting");
    mirror.source.run(&format!(
        "SET table_export.works = on; ALTER TABLE plain DISABLE TRIGGER ALL; UPDATE plain SET v = 'hidden'; {ALWAYS}"
    ));
    assert_noticed(&mirror, "plain", "a setting of the session");
    mirror.source.run("ALTER DATABASE no_setting SET table_export.works = on");
    mirror.source.run("ALTER TABLE root ATTACH PARTITION filled FOR VALUES FROM (40) TO (50)");
    assert_range_noticed(&mirror, "root", "a setting of the database");
    mirror.source.run("DROP TABLE low");
    assert_range_noticed(&mirror, "root", "a setting of the database");
}

#[test]
fn triggers_and_event_triggers_that_were_others_for_a_while() {
    let mirror = mirror("there_and_back");
    let definition = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'plain'::regclass AND tgname = 'pg_table_export_update'";
    let ours = mirror.source.text(definition).replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER");
    mirror.source.run(&format!(
        "CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE OR REPLACE TRIGGER pg_table_export_update AFTER UPDATE ON plain EXECUTE FUNCTION idle();
         UPDATE plain SET v = 'hidden'; {ours}; {ALWAYS}"
    ));
    assert_noticed(&mirror, "plain", "CREATE OR REPLACE TRIGGER");
    // In the rows of PostgreSQL's catalog, which a superuser can write.
    let set = |enabled: char| {
        format!("UPDATE pg_trigger SET tgenabled = '{enabled}' WHERE tgrelid = 'plain'::regclass")
    };
    mirror.source.run(&format!(
        "SET allow_system_table_mods = on; {}; {}; UPDATE plain SET v = 'hidden'; {}",
        set('D'),
        "ALTER TABLE plain SET (fillfactor = 90)",
        set('A')
    ));
    assert_noticed(&mirror, "plain", "UPDATE pg_trigger");
    for (event_trigger, ddl) in [
        ("pg_table_export_rewrite", "ALTER TABLE plain ALTER COLUMN v TYPE text USING upper(v)"),
        ("pg_table_export_rewrite", "ALTER TABLE plain SET UNLOGGED; ALTER TABLE plain SET LOGGED"),
        ("pg_table_export_members", "DROP TABLE low"),
        ("pg_table_export_members", "ALTER TABLE root DETACH PARTITION middle"),
    ] {
        mirror.source.run(&format!(
            "ALTER EVENT TRIGGER {event_trigger} DISABLE; {ddl}; ALTER EVENT TRIGGER {event_trigger} ENABLE ALWAYS"
        ));
        assert_eq!(parts(&mirror), ["public.plain full", "public.root full"], "{ddl}");
        mirror.import();
        mirror.assert_same_after(ddl, &["plain", "root"]);
    }
}

/// In single-user mode, and from PostgreSQL 17 on with `event_triggers = off`, no event trigger fires.
#[test]
fn ddl_that_fires_no_event_triggers() {
    let mut source = Cluster::start();
    let mirror = Mirror::new(&source, &COPY, "single_user");
    mirror.source.run(TABLES);
    mirror.track(&["plain", "root"]);
    mirror.follow("");
    for (table, kind, ddl) in [
        ("root", "changes", "DROP TABLE low"),
        ("root", "changes", "ALTER TABLE root DETACH PARTITION middle"),
        ("root", "full", "ALTER TABLE root ALTER COLUMN v TYPE text USING upper(v)"),
        ("plain", "full", "ALTER TABLE plain ALTER COLUMN v TYPE text USING upper(v)"),
    ] {
        source.single_user("single_user", ddl);
        assert_sent(&mirror, table, kind, ddl);
    }
    source
        .single_user("single_user", "ALTER TABLE root ATTACH PARTITION filled FOR VALUES FROM (40) TO (50)");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    mirror
        .source
        .refused(&export)
        .expect("55000", &["missing or disabled", "run: SELECT tx_track('public.root');"]);
    mirror.source.run("SELECT tx_track('root')");
    assert_noticed(&mirror, "root", "ATTACH PARTITION");

    mirror.source.run("CREATE TABLE top (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)");
    source.single_user("single_user", "ALTER TABLE top ATTACH PARTITION root FOR VALUES FROM (0) TO (1000)");
    mirror.source.run("DELETE FROM top");
    mirror.source.run("VACUUM");
    mirror.source.run("ALTER TABLE root ALTER COLUMN v SET DEFAULT 'y'");
    assert_noticed(&mirror, "root", "ATTACH PARTITION of the tracked table");

    source.single_user("single_user", "ALTER TABLE plain SET UNLOGGED");
    source.kill();
    source.restart();
    source.single_user("single_user", "ALTER TABLE plain SET LOGGED");
    assert_eq!(mirror.source.text("SELECT count(*) FROM plain"), "0");
    assert_noticed(&mirror, "plain", "SET UNLOGGED, a crash, SET LOGGED");
}

/// A view of plain, the first table, that waits, for its function is IMMUTABLE to whoever believes it.
const GATE: &str = "
    CREATE FUNCTION gate(v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_advisory_lock_shared(4711), pg_advisory_unlock_shared(4711); RETURN v; END';
    CREATE VIEW waiting AS SELECT id, gate(v) AS v FROM plain;
    SELECT tx_restrict('copy', 'plain', 'waiting');
";

/// Changes all tables, and runs DDL while an export reads the first of them, which it must notice.
fn while_exporting(mirror: &Mirror, tables: &[&str], ddl: &str) -> Refusal {
    match amid_export(mirror, tables, || mirror.source.run(ddl)) {
        Err(refused) => refused,
        Ok(_) => panic!("not noticed: {ddl}"),
    }
}

/// Changes all tables, and does something while an export reads the first of them. Returns what it exports.
fn amid_export(mirror: &Mirror, tables: &[&str], run: impl FnOnce()) -> Result<String, Refusal> {
    for table in tables {
        mirror.source.run(&format!("UPDATE {table} SET v = 'changed'"));
    }
    let mut gate = mirror.source.client();
    gate.batch_execute("BEGIN; SELECT pg_advisory_lock(4711)").unwrap();
    std::thread::scope(|scope| {
        let exporting = scope.spawn(|| {
            let mut client = mirror.source.client();
            let columns = "table_name || ' ' || kind || ' ' || records";
            query(&mut client, &format!("SELECT {columns} FROM tx_export{}", mirror.arguments("copy", "")))
                .map_err(|error| refusal(&error))
        });
        mirror.source.wait_until_blocked();
        run();
        gate.batch_execute("SELECT pg_advisory_unlock(4711); COMMIT").unwrap();
        exporting.join().unwrap()
    })
}

#[test]
fn a_partition_whose_detaching_begins_while_an_export_reads() {
    let mirror = mirror("detached_while_reading");
    mirror.source.run(&format!("{GATE} SELECT tx_restrict('copy', 'root')"));
    mirror.follow("");
    for (parent, partition, rows) in [("root", "low", "39"), ("high", "high_1", "30")] {
        let mut detaching = mirror.source.client();
        std::thread::scope(|scope| {
            let exported = amid_export(&mirror, &["plain", "root"], || {
                let detach = format!("ALTER TABLE {parent} DETACH PARTITION {partition} CONCURRENTLY");
                scope.spawn(move || detaching.batch_execute(&detach).unwrap());
                let has_begun = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
                wait_until("it has begun", || mirror.source.text(has_begun) == "1");
            });
            let exported = exported.unwrap_or_else(|refused| panic!("{refused:?}"));
            assert_eq!(exported, format!("public.plain changes 9\npublic.root changes {rows}"));
        });
        mirror.import();
        assert_eq!(mirror.copy.text("SELECT count(*) FROM root"), rows, "as it was at that instant");
        assert_range_noticed(&mirror, "root", partition);
    }
}

#[test]
fn a_partition_that_is_attached_while_an_export_reads() {
    let mirror = mirror("while_reading");
    mirror
        .source
        .run("CREATE TABLE last PARTITION OF root FOR VALUES FROM (50) TO (90) PARTITION BY RANGE (id)");
    mirror
        .source
        .run("CREATE TABLE below (id int PRIMARY KEY, v text); INSERT INTO below VALUES (60, 'below')");
    mirror.source.run(&format!("{GATE} SELECT tx_restrict('copy', 'root')"));
    mirror.follow("");
    for ddl in [
        "ALTER TABLE root ATTACH PARTITION filled FOR VALUES FROM (40) TO (50)",
        "ALTER TABLE last ATTACH PARTITION below FOR VALUES FROM (60) TO (70)",
    ] {
        while_exporting(&mirror, &["plain", "root"], ddl).expect(
            "40001",
            &["table \"public.root\" has got a partition or a child while it was exported", "Export again."],
        );
        assert_eq!(parts(&mirror), ["public.plain changes", "public.root changes"], "{ddl}");
        mirror.import();
        mirror.assert_same_after(ddl, &["plain", "root"]);
    }
}

#[test]
fn a_child_that_comes_while_an_export_reads_through_a_view() {
    let mirror = mirror("child_while_reading");
    mirror.source.run("CREATE TABLE second (id int PRIMARY KEY, v text); INSERT INTO second VALUES (1, 'a'); CREATE VIEW seen AS SELECT id, v FROM second");
    mirror.track(&["second"]);
    mirror.source.run(&format!("{GATE} SELECT tx_restrict('copy', 'second', 'seen')"));
    mirror.follow("");
    mirror.source.run("INSERT INTO filled VALUES (1, 'the same key')");
    while_exporting(&mirror, &["plain", "second"], "ALTER TABLE filled INHERIT second")
        .expect("40001", &["while it was exported", "Export again."]);
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    mirror.source.refused(&export).expect("42P16", &["FROM must say ONLY"]);
    mirror.source.run("CREATE OR REPLACE VIEW seen AS SELECT id, v FROM ONLY second");
    mirror.follow("");
    mirror.assert_same_tables(&["ONLY second"]);
}

#[test]
fn a_shadow_that_somebody_has_altered() {
    let mirror = mirror("altered_shadow");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    let shadow = mirror.source.text(
        "SELECT 'table_export.shadow_' || id || '_' || segment FROM table_export.tracked WHERE relation = 'plain'::regclass",
    );
    for (alter, undo, difference) in [
        ("CREATE INDEX mine ON $ (k1)", "DROP INDEX table_export.mine", "has index table_export.mine"),
        ("CREATE RULE mine AS ON INSERT TO $ DO INSTEAD NOTHING", "DROP RULE mine ON $", "has rule mine on"),
        (
            "CREATE TRIGGER mine BEFORE INSERT ON $ FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "DROP TRIGGER mine ON $",
            "has trigger mine on",
        ),
        (
            "ALTER TABLE $ ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE $ DISABLE ROW LEVEL SECURITY",
            "has row security",
        ),
        ("CREATE POLICY mine ON $ USING (false)", "DROP POLICY mine ON $", "has policy mine on"),
        ("ALTER TABLE $ SET UNLOGGED", "ALTER TABLE $ SET LOGGED", "is unlogged"),
    ] {
        mirror.source.run(&alter.replace('$', &shadow));
        mirror.source.run("UPDATE plain SET v = v || '.'");
        mirror.source.refused(&format!("SET enable_seqscan = off; {export}")).expect(
            "55000",
            &[
                "the shadow of table \"public.plain\" has been altered",
                difference,
                "SELECT tx_untrack('public.plain')",
            ],
        );
        mirror.source.run(&undo.replace('$', &shadow));
    }
    mirror.follow("");
    mirror.assert_same_tables(&["plain"]);
}

#[test]
fn types_whose_values_change_with_no_row() {
    let types = "
        CREATE TYPE mood AS ENUM ('sad', 'glad');
        CREATE TYPE address AS (zip int, city text);
        CREATE DOMAIN moods AS mood[];
        CREATE TYPE person AS (home address, felt moods);
    ";
    let mirror = Mirror::shared("types_in_place");
    mirror.run(types);
    mirror.source.run(
        "CREATE TABLE plain (id int PRIMARY KEY, m mood, a address[], p person);
         INSERT INTO plain VALUES (1, 'sad', ARRAY[(1, 'x')::address], ((2, 'y')::address, '{sad,glad}'))",
    );
    mirror.track(&["plain"]);
    mirror.follow("");
    for ddl in [
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        // The same attribute as before, by name and type, and no values.
        "ALTER TYPE address DROP ATTRIBUTE city; ALTER TYPE address ADD ATTRIBUTE city text",
        "ALTER TYPE person DROP ATTRIBUTE felt; ALTER TYPE person ADD ATTRIBUTE felt moods",
    ] {
        mirror.run(ddl);
        assert_eq!(parts(&mirror), ["public.plain full"], "{ddl}");
        mirror.import();
        mirror.assert_same_after(ddl, &["plain"]);
    }
    mirror.run("ALTER TYPE mood ADD VALUE 'grey'; ALTER TYPE mood RENAME TO temper");
    assert_eq!(parts(&mirror), ["public.plain full"], "another type");
    mirror.run("ALTER TYPE temper ADD VALUE 'green' BEFORE 'grey'; CREATE TYPE other AS ENUM ('sad')");
    mirror.source.run("ALTER TYPE other RENAME VALUE 'sad' TO 'blue'");
    assert_eq!(mirror.export(""), "", "no row has the new label yet");
}

/// PostgreSQL's catalog shows who wrote a row of it last, and not how often: in one transaction triggers can
/// be away and come back unseen.
/// COPY writes labels and attributes as they are at that moment, whatever its snapshot says.
#[test]
fn types_that_were_others_while_an_export_read() {
    for (change, undo) in [
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", "ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'"),
        ("ALTER TYPE pair ADD ATTRIBUTE c int", "ALTER TYPE pair DROP ATTRIBUTE c"),
    ] {
        let mirror =
            Mirror::shared(if change.contains("mood") { "hidden_label" } else { "hidden_attribute" });
        mirror.run("CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text)");
        mirror.source.run(
            "CREATE TABLE first (id int PRIMARY KEY, v text); INSERT INTO first VALUES (1, 'a');
             CREATE TABLE plain (id int PRIMARY KEY, m mood, p pair); INSERT INTO plain VALUES (1, 'glad', ROW(1, 'x'))",
        );
        mirror.track(&["first", "plain"]);
        mirror.source.run(
            "CREATE FUNCTION gate(v text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS
                 $$BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN v; END$$;
             CREATE VIEW gated AS SELECT id, gate(v) AS v FROM first; SELECT tx_restrict('copy', 'first', 'gated'), tx_restrict('copy', 'plain')",
        );
        mirror.follow("");
        mirror.source.run("UPDATE first SET v = 'b'; UPDATE plain SET m = 'sad', p = ROW(9, 'y')");
        let mut gate = mirror.source.client();
        query(&mut gate, "SELECT pg_advisory_lock(77)").unwrap();
        std::thread::scope(|scope| {
            let export = scope.spawn(|| mirror.export(""));
            mirror.source.wait_until_blocked();
            mirror.source.run(change);
            query(&mut gate, "SELECT pg_advisory_unlock(77)").unwrap();
            export.join().unwrap();
        });
        mirror.source.run(undo);
        assert_eq!(parts(&mirror), ["public.plain full"], "{change}");
    }
}

#[test]
fn triggers_that_postgresql_believes_not_to_be_there() {
    let mirror = mirror("hidden_flag");
    for table in ["plain", "root", "middle"] {
        let flag =
            |is: bool| format!("UPDATE pg_class SET relhastriggers = {is} WHERE oid = '{table}'::regclass");
        mirror.source.run(&flag(false));
        let refused = mirror.source.refused(&mirror.source.with_target("copy").call("tx_export", ""));
        refused.expect("55000", &["triggers that track table"]);
        mirror.source.run(&flag(true));
    }
    assert_eq!(mirror.export(""), "");
}

#[test]
fn an_export_works_without_indexes_of_the_catalog() {
    let mirror = mirror("hidden_indexes");
    mirror.source.run("DELETE FROM plain WHERE id = 1; ALTER TABLE root DETACH PARTITION middle");
    let mut config = SOURCE.config("hidden_indexes");
    let mut client = config.options("-c ignore_system_indexes=on").connect(postgres::NoTls).unwrap();
    let call = format!("SELECT table_name, kind FROM tx_export{}", mirror.arguments("copy", ""));
    assert!(query(&mut client, &call).unwrap().contains("public.plain|changes"));
    mirror.import();
    mirror.assert_same_tables(&["plain", "root"]);
}

#[test]
fn triggers_of_a_new_partition_that_were_away_in_the_transaction_that_made_it() {
    let mirror = mirror("new_partitions");
    mirror.source.run(
        "CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TABLE empty (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE beyond (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
    );
    mirror.track(&["empty"]);
    mirror.follow("");
    let id = |table: &str| {
        mirror
            .source
            .text(&format!("SELECT id FROM table_export.tracked WHERE relation = '{table}'::regclass"))
    };
    let root = id("root");
    let always = |table: &str, id: &str| {
        let enable = |event| format!("ENABLE ALWAYS TRIGGER pg_table_export_{event}_{id}");
        let enable = ["insert", "update", "delete", "truncate"].map(enable).join(", ");
        format!("ALTER TABLE {table} {enable}")
    };
    let insert = |kind: &str| {
        format!(
            "{kind} TRIGGER pg_table_export_insert_{root} AFTER INSERT ON late REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION table_export.capture('{root}')"
        )
    };
    let back = always("late", &root);
    for hide in [
        format!("ALTER TABLE late DISABLE TRIGGER ALL; INSERT INTO late VALUES (60, 'hidden'); {back}"),
        format!(
            "DROP TRIGGER pg_table_export_insert_{root} ON late; INSERT INTO late VALUES (60, 'hidden'); {}; {back}",
            insert("CREATE")
        ),
        format!(
            "CREATE OR REPLACE TRIGGER pg_table_export_insert_{root} AFTER INSERT ON late EXECUTE FUNCTION idle();
             INSERT INTO late VALUES (60, 'hidden'); {}; {back}",
            insert("CREATE OR REPLACE")
        ),
    ] {
        mirror.source.run(&format!(
            "BEGIN; CREATE TABLE late PARTITION OF root FOR VALUES FROM (60) TO (70); {hide}; COMMIT"
        ));
        assert_noticed(&mirror, "root", &hide);
        mirror.source.run("DROP TABLE late");
        mirror.follow("");
    }
    // Through a table above, which a tracked table without rows has got.
    let empty = id("empty");
    mirror.source.run(
        "CREATE TABLE empty_1 PARTITION OF empty FOR VALUES FROM (0) TO (10);
         ALTER TABLE beyond ATTACH PARTITION empty FOR VALUES FROM (0) TO (10)",
    );
    mirror.source.run("ALTER TABLE beyond DISABLE TRIGGER ALL");
    mirror.source.run("INSERT INTO beyond VALUES (1, 'hidden')");
    mirror.source.run(&always("beyond", &empty));
    assert_eq!(parts(&mirror), ["public.empty full"]);
    mirror.import();
    mirror.assert_same_tables(&["empty"]);
}

#[test]
fn a_column_made_anew_below_a_view() {
    let mirror = mirror("below_a_view");
    mirror.source.run(
        "CREATE FUNCTION masked(v text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT left(v, 2)';
         CREATE VIEW seen AS SELECT id, v FROM plain; CREATE VIEW mask AS SELECT id, masked(v) AS v FROM root;
         SELECT tx_restrict('copy', 'plain', 'seen'); SELECT tx_restrict('copy', 'root', 'mask')",
    );
    mirror.follow("");
    mirror.source.run(
        "CREATE OR REPLACE VIEW seen AS SELECT id, NULL::text AS v FROM plain;
         ALTER TABLE plain DROP COLUMN v; ALTER TABLE plain ADD COLUMN v text DEFAULT 'anew';
         CREATE OR REPLACE VIEW seen AS SELECT id, v FROM plain",
    );
    assert_eq!(parts(&mirror), ["public.plain full"], "DROP COLUMN, ADD COLUMN");
    mirror.import();
    mirror.assert_same("SELECT id, v FROM plain");
    mirror.source.run(
        "CREATE OR REPLACE FUNCTION masked(v text) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'x'::text $$",
    );
    assert_eq!(parts(&mirror), ["public.root full"], "another function");
    mirror.source.run("CREATE INDEX ON plain (v); ALTER TABLE plain ADD COLUMN beside int DEFAULT 5");
    assert_eq!(mirror.export(""), "", "the view does not show it");
}
