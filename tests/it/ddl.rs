//! DDL on tracked tables: afterwards both sides end equal, or the next export is refused and says what to do.
//! And what is dropped leaves nothing behind.

use crate::cluster::database::{Database, Refusal, query, refusal};
use crate::cluster::mirror::Mirror;
use crate::cluster::{COPY, SOURCE};

const ITEMS: &str = "
    CREATE TABLE items (id int PRIMARY KEY, body text, n int);
    INSERT INTO items SELECT i, 'first', i FROM generate_series(1, 9) AS i;
";

/// The kinds of the parts that the next export sends.
fn kinds(mirror: &Mirror) -> Vec<String> {
    mirror.export("").lines().map(|line| line.split('|').nth(2).unwrap_or_default().to_owned()).collect()
}

fn export_refused(mirror: &Mirror) -> Refusal {
    mirror.source.refused(&format!("SELECT tx_export{}", mirror.arguments("copy", "")))
}

fn import_refused(mirror: &Mirror) -> Refusal {
    mirror.copy.refused(&format!("SELECT tx_import{}", mirror.arguments("copy", "")))
}

/// Makes sure that no trace of tracking is left in a database where nothing is tracked any more.
#[track_caller]
fn assert_no_orphans(database: &Database) {
    let left = "
        SELECT relname::text FROM pg_class WHERE relnamespace = 'table_export'::regnamespace AND relname ~ '^shadow_'
         UNION ALL SELECT 'tracked ' || id FROM table_export.tracked
         UNION ALL SELECT 'sent ' || tracked FROM table_export.target_table
         UNION ALL SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE tgfoid = 'table_export.capture'::regproc
         UNION ALL SELECT 'right of ' || grantee FROM aclexplode((SELECT nspacl FROM pg_namespace WHERE nspname = 'table_export'))
                    WHERE grantee <> 10";
    assert_eq!(database.text(left), "");
    // And the event triggers go on without a fault.
    database.run("CREATE TABLE later (id int PRIMARY KEY, at date) PARTITION BY RANGE (id); CREATE TABLE later_1 PARTITION OF later DEFAULT; \
                  ALTER TABLE later ALTER at TYPE timestamp; DROP TABLE later");
}

#[test]
fn columns_that_change_on_both_sides() {
    let ddl = format!("{ITEMS} INSERT INTO items SELECT i, 'more', i FROM generate_series(10, 40) AS i");
    let mirror = Mirror::tracking("columns", &ddl, &["items"]);
    for ddl in [
        "ALTER TABLE items ADD COLUMN plain int",
        "ALTER TABLE items ADD COLUMN constant text DEFAULT 'constant'",
        "ALTER TABLE items ADD COLUMN volatile float8 DEFAULT random()",
        "ALTER TABLE items ADD COLUMN numbered int GENERATED ALWAYS AS IDENTITY",
        "ALTER TABLE items ALTER COLUMN n TYPE bigint",
        "ALTER TABLE items ALTER COLUMN n TYPE bigint USING n * 2",
        "ALTER TABLE items ALTER COLUMN body TYPE varchar(100)",
        "ALTER TABLE items ALTER COLUMN body TYPE varchar(200)",
        "ALTER TABLE items ALTER COLUMN body TYPE text COLLATE \"C\"",
        "ALTER TABLE items ALTER COLUMN body SET NOT NULL",
        "ALTER TABLE items RENAME COLUMN n TO m",
        "ALTER TABLE items DROP COLUMN plain",
        // The same columns as before, by name and type, and other values.
        "ALTER TABLE items DROP COLUMN constant; ALTER TABLE items ADD COLUMN constant text DEFAULT 'another'",
        "ALTER TABLE items RENAME constant TO x; ALTER TABLE items RENAME body TO constant; ALTER TABLE items RENAME x TO body",
        "ALTER TABLE items SET UNLOGGED; UPDATE items SET m = m + 1; ALTER TABLE items SET LOGGED",
    ] {
        mirror.run(ddl);
        assert_eq!(kinds(&mirror), ["full"], "{ddl}");
        mirror.import();
        mirror.assert_same_tables(&["items"]);
        mirror.source.run("UPDATE items SET body = body || '.' WHERE id = 1; DELETE FROM items WHERE id = (SELECT max(id) FROM items)");
        assert_eq!(kinds(&mirror), ["changes"], "after {ddl}");
        mirror.import();
        mirror.assert_same_tables(&["items"]);
    }
}

#[test]
fn columns_that_change_at_the_source_only_are_refused_by_the_import() {
    let mirror = Mirror::tracking("source_only", ITEMS, &["items"]);
    mirror.source.run("ALTER TABLE items ADD COLUMN more numeric(8,2) DEFAULT 1.5");
    assert_eq!(kinds(&mirror), ["full"]);
    let refusal = import_refused(&mirror);
    refusal.expect("42703", &["column \"more\"", "ALTER TABLE public.items ADD COLUMN more numeric(8,2)"]);
    mirror.copy.run(refusal.statements());
    mirror.import();

    mirror.source.run("ALTER TABLE items RENAME COLUMN more TO extra");
    mirror.export("");
    let refusal = import_refused(&mirror);
    refusal.expect(
        "42703",
        &["column \"extra\"", "If the source has renamed column \"more\", run: ALTER TABLE public.items RENAME COLUMN more TO extra; Otherwise run: ALTER TABLE public.items ADD COLUMN extra numeric(8,2);"],
    );
    mirror.copy.run("ALTER TABLE public.items RENAME COLUMN more TO extra");
    mirror.import();
    mirror.assert_same_tables(&["items"]);

    mirror.source.run("ALTER TABLE items ALTER COLUMN n TYPE numeric USING n + 0.5");
    assert_eq!(kinds(&mirror), ["full"]);
    let refusal = import_refused(&mirror);
    refusal.expect("42804", &["column \"n\"", "ALTER TABLE public.items ALTER COLUMN n TYPE numeric"]);
    mirror.copy.run(refusal.statements());
    mirror.import();
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn what_gives_rows_no_other_values_sends_nothing() {
    let mirror = Mirror::tracking("same_values", ITEMS, &["items"]);
    for ddl in [
        "VACUUM (FULL) items",
        "CLUSTER items USING items_pkey",
        "VACUUM (FREEZE, ANALYZE) items",
        "REINDEX TABLE items",
        "REINDEX INDEX CONCURRENTLY items_pkey",
        "CREATE INDEX CONCURRENTLY items_n ON items (n)",
        "CREATE UNIQUE INDEX other ON items (id); ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY USING INDEX other",
        "ALTER TABLE items RENAME CONSTRAINT other TO again",
        "ALTER TABLE items ALTER COLUMN n SET DEFAULT 5, ALTER COLUMN body SET STORAGE EXTERNAL, ALTER COLUMN n SET STATISTICS 10",
        "ALTER TABLE items ADD CHECK (id > 0), SET (fillfactor = 50), REPLICA IDENTITY FULL",
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE STATISTICS s ON id, n FROM items; COMMENT ON TABLE items IS 'x'",
    ] {
        mirror.source.run(ddl);
        assert_eq!(mirror.export(""), "", "{ddl}");
        mirror.source.run("UPDATE items SET n = n + 1 WHERE id < 3");
        assert_eq!(kinds(&mirror), ["changes"], "after {ddl}");
        mirror.import();
        mirror.assert_same_tables(&["items"]);
    }
}

#[test]
fn a_table_with_another_name_is_sent_in_full() {
    let mirror = Mirror::tracking("changed_names", ITEMS, &["items"]);
    mirror.run("CREATE SCHEMA away");
    for (ddl, name) in [
        ("ALTER TABLE items RENAME TO things", "things"),
        ("ALTER TABLE things SET SCHEMA away", "away.things"),
        ("ALTER SCHEMA away RENAME TO \"Far away\"", "\"Far away\".things"),
    ] {
        mirror.run(ddl);
        assert_eq!(kinds(&mirror), ["full"], "{ddl}");
        mirror.import();
        mirror.source.run(&format!("UPDATE {name} SET n = n + 1"));
        mirror.follow("");
        mirror.assert_same_tables(&[name]);
    }
    // At the source only: the destination makes it anew, as it is told, and has all rows.
    mirror.source.run("ALTER TABLE \"Far away\".things SET SCHEMA public");
    mirror.export("");
    let refusal = import_refused(&mirror);
    refusal.expect("42P01", &["\"public.things\" does not exist here"]);
    mirror.copy.run(refusal.statements());
    mirror.import();
    mirror.assert_same_tables(&["things"]);
}

#[test]
fn tables_that_swap_their_names_do_not_mix() {
    let two = format!(
        "{ITEMS} CREATE TABLE others (id int PRIMARY KEY, body text, n int); INSERT INTO others VALUES (1, 'other')"
    );
    let mirror = Mirror::tracking("swap", &two, &["items", "others"]);
    mirror.source.run("ALTER TABLE items RENAME TO x; ALTER TABLE others RENAME TO items; ALTER TABLE x RENAME TO others; UPDATE items SET n = 7");
    assert_eq!(kinds(&mirror), ["full", "full"]);
    mirror.import();
    mirror.assert_same_tables(&["items", "others"]);
    // A new table in the place of a tracked one: what is tracked is the old one, wherever it is.
    mirror.source.run("CREATE TABLE new (LIKE items INCLUDING ALL); ALTER TABLE items RENAME TO old; ALTER TABLE new RENAME TO items");
    assert_eq!(kinds(&mirror), ["full"]);
    import_refused(&mirror).expect("42P01", &["\"public.old\" does not exist here"]);
}

#[test]
fn a_table_dropped_at_the_copy_is_made_whole_as_the_hint_says() {
    let mirror = Mirror::tracking("gone_copy", ITEMS, &["items"]);
    mirror.copy.run("DROP TABLE items");
    mirror.source.run("DELETE FROM items WHERE id = 1; UPDATE items SET n = 0 WHERE id = 2");
    mirror.export("");
    let refusal = import_refused(&mirror);
    let reset = "SELECT tx_reset('copy', 'public.items');";
    refusal.expect("42P01", &["does not exist here", "Run: CREATE TABLE public.items", reset]);
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('items')"));
    mirror.source.run(reset);
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn another_key_is_refused_until_the_table_is_tracked_anew() {
    let ddl = format!(
        "{ITEMS} UPDATE items SET body = 'b' || id; ALTER TABLE items ALTER n SET NOT NULL, ALTER body SET NOT NULL"
    );
    let mirror = Mirror::tracking("changed_keys", &ddl, &["items"]);
    for (ddl, at_the_copy) in [
        ("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (body)", ""),
        ("ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id, n)", ""),
        ("ALTER TABLE items ALTER COLUMN id TYPE bigint", "ALTER TABLE items ALTER COLUMN id TYPE bigint"),
        (
            "ALTER TABLE items DROP COLUMN id; ALTER TABLE items ADD COLUMN id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
            "ALTER TABLE items ALTER COLUMN id TYPE int",
        ),
    ] {
        mirror.source.run(ddl);
        mirror.source.run("UPDATE items SET n = n + 100 WHERE n % 2 = 0; INSERT INTO items (id, body, n) SELECT max(n) + 1000, 'b' || max(n), max(n) + 1 FROM items");
        let refusal = export_refused(&mirror);
        refusal.expect(
            "55000",
            &["the key of table \"public.items\" has changed", "SELECT tx_untrack('public.items')"],
        );
        mirror.source.refused("SELECT tx_track('items')").expect("55000", &["SELECT tx_untrack"]);
        mirror.source.run("SELECT tx_untrack('public.items'); SELECT tx_track('public.items')");
        mirror.copy.run(at_the_copy);
        mirror.follow("");
        mirror.assert_same("SELECT id, body, n FROM items");
    }
    // Away and back again: what was written in between is not lost.
    mirror.source.run("ALTER TABLE items DROP CONSTRAINT items_pkey");
    mirror.source.run("UPDATE items SET n = -n WHERE id < 5; UPDATE items SET id = id + 50 WHERE id = 5");
    export_refused(&mirror).expect("55000", &["the key of table"]);
    mirror.source.run("ALTER TABLE items ADD CONSTRAINT k UNIQUE (id)");
    mirror.follow("");
    mirror.assert_same("SELECT id, body, n FROM items");
}

#[test]
fn no_write_fails_because_the_key_has_become_another_type() {
    let ddl = "CREATE TABLE items (id text PRIMARY KEY, n int); INSERT INTO items SELECT i, i FROM generate_series(1, 20) AS i";
    let mirror = Mirror::tracking("other_type", ddl, &["items"]);
    // A number is no pointer to a text.
    mirror.run("ALTER TABLE items ALTER COLUMN id TYPE int USING id::int");
    mirror
        .source
        .run("INSERT INTO items VALUES (30, 30); UPDATE items SET n = -n; DELETE FROM items WHERE id = 3");
    export_refused(&mirror).expect("55000", &["the key of table", "SELECT tx_untrack('public.items')"]);
    mirror.source.run("SELECT tx_untrack('items'); SELECT tx_track('items')");
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn a_renamed_key_is_the_same_key() {
    let mirror = Mirror::tracking("renamed_key", ITEMS, &["items"]);
    mirror.run("ALTER TABLE items RENAME COLUMN id TO number");
    assert_eq!(mirror.source.text("SELECT key FROM tx_tracked"), "number");
    mirror.source.run("UPDATE items SET number = number + 100 WHERE number < 3");
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn triggers_that_were_away_for_a_while_are_noticed() {
    let mirror = Mirror::tracking("away", ITEMS, &["items"]);
    let always = |events: &[&str]| {
        let each = |event: &&str| format!("ENABLE ALWAYS TRIGGER pg_table_export_{event}");
        format!("ALTER TABLE items {}", events.iter().map(each).collect::<Vec<_>>().join(", "))
    };
    let all = always(&["insert", "update", "delete", "truncate"]);
    let remake = "CREATE TRIGGER pg_table_export_update AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
                  FOR EACH STATEMENT EXECUTE FUNCTION table_export.capture('1')";
    for (away, back) in [
        ("ALTER TABLE items DISABLE TRIGGER ALL", all.clone()),
        ("ALTER TABLE items DISABLE TRIGGER USER", all.clone()),
        ("ALTER TABLE items DISABLE TRIGGER pg_table_export_update", always(&["update"])),
        ("ALTER TABLE items ENABLE REPLICA TRIGGER pg_table_export_update", always(&["update"])),
        ("DROP TRIGGER pg_table_export_update ON items", format!("{remake}; {}", always(&["update"]))),
        (
            "CREATE OR REPLACE TRIGGER pg_table_export_update AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
             FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION table_export.capture('1'); ALTER TABLE items ENABLE ALWAYS TRIGGER pg_table_export_update",
            format!("{}; {}", remake.replace("CREATE", "CREATE OR REPLACE"), always(&["update"])),
        ),
        (
            "ALTER TRIGGER pg_table_export_update ON items RENAME TO mine; DROP TRIGGER mine ON items",
            format!("{remake}; {}", always(&["update"])),
        ),
    ] {
        mirror.source.run(away);
        mirror.source.run("UPDATE items SET n = n + 1");
        let texts = match away.contains("REPLICA") {
            true => ["are not ENABLE ALWAYS", "run: ALTER TABLE public.items ENABLE ALWAYS TRIGGER pg_table_export_update;"],
            false => ["are missing or disabled", "SELECT tx_untrack('public.items')"],
        };
        let refusal = export_refused(&mirror);
        refusal.expect("55000", &["the triggers that track table \"public.items\" ", texts[0], texts[1]]);
        mirror.source.run(&back);
        assert_eq!(kinds(&mirror), ["full"], "{away}");
        mirror.import();
        mirror.assert_same_tables(&["items"]);
    }
    mirror.source.run(
        "ALTER TABLE items DISABLE TRIGGER ALL; DELETE FROM items; ALTER TABLE items ENABLE TRIGGER ALL",
    );
    export_refused(&mirror).expect("55000", &["are not ENABLE ALWAYS"]);
    mirror.source.run("SELECT tx_untrack('public.items'); SELECT tx_track('public.items')");
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn an_event_trigger_that_is_disabled_is_noticed() {
    let mirror = Mirror::tracking("event_triggers", ITEMS, &["items"]);
    for name in ["pg_table_export_members", "pg_table_export_rewrite"] {
        mirror
            .source
            .refused(&format!("DROP EVENT TRIGGER {name}"))
            .expect("2BP01", &["extension pg_table_export requires it"]);
        mirror.source.run(&format!("ALTER EVENT TRIGGER {name} DISABLE"));
        mirror.source.run("ALTER TABLE items ALTER COLUMN n TYPE int USING n + 1");
        let refusal = export_refused(&mirror);
        refusal
            .expect("55000", &[&format!("event trigger \"{name}\" is disabled"), "SELECT tx_reset('copy')"]);
        let (enable, _) = refusal.statements().split_once(';').unwrap_or_default();
        mirror.source.run(enable);
        mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
        mirror.follow("");
        mirror.assert_same_tables(&["items"]);
    }
}

#[test]
fn all_event_triggers_that_are_disabled_are_named_and_enabled() {
    let mirror = Mirror::tracking("both_event_triggers", ITEMS, &["items"]);
    let names = ["pg_table_export_members", "pg_table_export_rewrite"];
    mirror.source.run(&names.map(|name| format!("ALTER EVENT TRIGGER {name} DISABLE;")).join(" "));
    mirror.source.run("ALTER TABLE items ALTER COLUMN n TYPE int USING n + 1");
    let message = "event triggers \"pg_table_export_members\", \"pg_table_export_rewrite\" are disabled";
    let foretold = mirror.source.text("SELECT object || ' has: ' || problem FROM tx_health()");
    assert_eq!(foretold, format!("{} has: {message}", names.join(", ")));
    let refusal = export_refused(&mirror);
    assert_eq!(refusal.message, message);
    mirror.source.run(refusal.statements());
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn a_dropped_shadow_is_made_anew_as_the_hint_says() {
    let mirror = Mirror::tracking("no_shadow", ITEMS, &["items"]);
    let mut client = mirror.source.client();
    client.batch_execute("UPDATE items SET n = 0").unwrap_or_else(|error| panic!("{error:?}"));
    mirror.source.run("DROP TABLE table_export.shadow_1_0, table_export.shadow_1_1");
    for refused in [
        query(&mut client, "UPDATE items SET n = 1").map_err(|error| refusal(&error)),
        Err(mirror.source.refused("DELETE FROM items")),
        Err(export_refused(&mirror)),
    ] {
        let Err(refusal) = refused else { panic!("the change was not captured") };
        refusal.expect(
            "55000",
            &[
                "the shadow of table \"public.items\" does not exist",
                "run: SELECT tx_untrack('public.items'); SELECT tx_track('public.items');",
            ],
        );
    }
    mirror.source.run(
        "ALTER TABLE items DISABLE TRIGGER ALL; ALTER TABLE items ENABLE TRIGGER ALL; CREATE TABLE beside ()",
    );
    mirror.source.run("SELECT tx_untrack(relation) FROM table_export.tracked WHERE id = 1");
    assert_no_orphans(&mirror.source);
    mirror.source.run("SELECT tx_track('items'); UPDATE items SET n = 2");
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn a_table_dropped_and_made_again_is_noticed() {
    for unseen in [false, true] {
        let mirror = Mirror::tracking(&format!("again_{unseen}"), ITEMS, &["items"]);
        drop_tables(&mirror, "DROP TABLE items", unseen);
        mirror.source.run(ITEMS);
        let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
        let none = "all tables that target \"copy\" would get have been dropped";
        mirror.source.refused(&export).expect("55000", &[none, "SELECT tx_track('…');"]);
        mirror.source.run("SELECT tx_prune()");
        assert_no_orphans(&mirror.source);
        mirror.source.run("SELECT tx_track('items'); UPDATE items SET body = 'again'");
        mirror.follow("");
        mirror.assert_same_tables(&["items"]);
    }
}

#[test]
fn a_table_that_is_dropped_ends_its_tracking_with_a_notice() {
    let ddl = format!(
        "{ITEMS} CREATE TABLE kept (id int PRIMARY KEY); CREATE SCHEMA app;
        CREATE TABLE app.\"Odd Name\" (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)"
    );
    let mirror = Mirror::shared("dropped");
    mirror.source.run(&ddl);
    mirror.copy.run("CREATE SCHEMA app");
    mirror.track(&["items", "kept", "app.\"Odd Name\""]);
    mirror.follow("");
    let (mut client, said) = mirror.source.watched();
    client.batch_execute("BEGIN; DROP TABLE items, other; DROP SCHEMA app CASCADE; ROLLBACK").unwrap();
    said.lock().unwrap().clear();
    mirror.source.run("INSERT INTO items VALUES (100)");
    mirror.follow("");
    // At an isolation level whose snapshot is older than what exports have written since.
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT").unwrap();
    mirror.source.run("INSERT INTO items VALUES (101)");
    mirror.follow("");
    client.batch_execute("DROP TABLE items, other; DROP SCHEMA app CASCADE; COMMIT").unwrap();
    let said = said.lock().unwrap().join("\n");
    for name in ["public.items", "app.\"Odd Name\""] {
        let notice = format!("table \"{name}\" is not tracked any more: it has been dropped");
        assert!(said.contains(&notice), "{said}");
    }
    assert!(!said.contains("public.other"), "{said}");
    mirror.source.run("INSERT INTO kept VALUES (1)");
    mirror.follow("");
    mirror.assert_same_tables(&["kept"]);
    let not_sent =
        "SELECT string_agg(table_name::text, ' ' ORDER BY 1) FROM tx_freshness WHERE not_sent_since = 4";
    assert_eq!(mirror.copy.text(not_sent), "app.\"Odd Name\" items");
    assert_eq!(mirror.source.text("SELECT count(*) FROM tx_tracked"), "1");
}

#[test]
fn a_drop_does_not_fail_where_the_table_cannot_be_untracked() {
    let mirror = Mirror::tracking("drop_refused", ITEMS, &["items"]);
    mirror.source.run(
        "CREATE FUNCTION keep() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
             IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE schema_name = 'table_export') THEN
                 RAISE 'it is to be kept';
             END IF; END $$;
         CREATE EVENT TRIGGER keep ON sql_drop EXECUTE FUNCTION keep()",
    );
    let (mut client, said) = mirror.source.watched();
    client.batch_execute("DROP TABLE items").unwrap();
    let expected = "table \"public.items\" is not tracked any more: it has been dropped";
    assert!(said.lock().unwrap().join("\n").contains(expected));
    mirror.source.run("SELECT tx_prune()");
    assert_eq!(mirror.source.text("SELECT count(*) FROM tx_tracked"), "1", "it cannot go yet");
    mirror.source.run("DROP EVENT TRIGGER keep");
    mirror.source.run("SELECT tx_prune()");
    assert_no_orphans(&mirror.source);
}

#[test]
fn an_event_trigger_of_others_that_cannot_find_its_table_fails_nobody() {
    let ddl = "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
               CREATE TABLE part (id int PRIMARY KEY); CREATE TABLE ddl_log (tag text)";
    let mirror = Mirror::tracking("others_event_trigger", ddl, &["root"]);
    mirror.source.run(
        "CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO ddl_log VALUES (tg_tag); END $$;
         CREATE EVENT TRIGGER log_ddl ON ddl_command_end EXECUTE FUNCTION log_ddl()",
    );
    let (mut client, said) = mirror.source.watched();
    client.batch_execute("ALTER TABLE root ATTACH PARTITION part FOR VALUES FROM (1) TO (10)").unwrap();
    let said = said.lock().unwrap().join("\n");
    for part in
        ["this command could not be followed for tracked table", "relation \"ddl_log\" does not exist"]
    {
        assert!(said.contains(part), "{said}");
    }
    mirror.source.run("INSERT INTO root VALUES (1)");
    let export = format!("SELECT FROM tx_export{}", mirror.arguments("copy", ""));
    mirror.source.refused(&export).expect("55000", &["missing or disabled"]);
    mirror.source.run("ALTER FUNCTION log_ddl() SET search_path = public");
    mirror.source.run("SELECT tx_track('root')");
    mirror.follow("");
    mirror.assert_same_tables(&["root"]);
}

#[test]
fn a_table_that_is_made_and_tracked_again_while_an_export_waits_is_sent() {
    let mirror = Mirror::tracking("again_meanwhile", ITEMS, &["items"]);
    let mut migration = mirror.source.client();
    migration.batch_execute(&format!("BEGIN; DROP TABLE items; {ITEMS} SELECT tx_track('items')")).unwrap();
    std::thread::scope(|scope| {
        let export = scope.spawn(|| mirror.export(""));
        mirror.source.wait_until_blocked();
        migration.batch_execute("COMMIT").unwrap();
        assert!(export.join().unwrap().contains("|public.items|full|"));
    });
    mirror.import();
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn tables_with_names_that_are_no_utf_8_can_be_dropped() {
    SOURCE.create_database_with(
        "drop_ascii",
        "TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    );
    // Through psql, which passes bytes on; tx_track refuses such a table, or none is tracked.
    SOURCE.psql("drop_ascii", "CREATE EXTENSION pg_table_export");
    SOURCE.psql(
        "drop_ascii",
        "DO $$ BEGIN EXECUTE convert_from(decode('435245415445205441424c45202274e92220286920696e7429', 'hex'), 'SQL_ASCII');
                     EXECUTE convert_from(decode('44524f50205441424c45202274e922', 'hex'), 'SQL_ASCII'); END $$",
    );
}

#[test]
fn a_drop_does_not_wait_for_those_who_use_a_parent_and_they_go_on() {
    let ddl = "CREATE TABLE kept (id int PRIMARY KEY); CREATE TABLE base (id int PRIMARY KEY);
               CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base)";
    let mirror = Mirror::tracking("drop_of_child", ddl, &["kept", "child"]);
    let mut writer = mirror.source.client();
    writer.batch_execute("BEGIN; INSERT INTO base VALUES (1)").unwrap();
    mirror.source.run("SET lock_timeout = '10s'; DROP TABLE child");
    writer.batch_execute("UPDATE base SET id = id + 1; INSERT INTO base VALUES (7)").unwrap();
    mirror.source.run("INSERT INTO kept VALUES (1)");
    let export = format!("SELECT FROM tx_export{}", mirror.arguments("copy", ""));
    let (mut exporting, said) = mirror.source.watched();
    query(&mut exporting, &export).unwrap();
    let said = said.lock().unwrap().join("\n");
    assert!(said.contains("table \"public.child\" has been dropped, and is not sent any more"), "{said}");
    assert!(said.contains("What is left of its tracking stays for now: relation "), "{said}");
    writer.batch_execute("COMMIT").unwrap();
    // Nor is anything of ours locked until the end of a transaction that drops.
    mirror.source.run("CREATE TABLE other (PRIMARY KEY (id)) INHERITS (base); SELECT tx_track('other')");
    writer.batch_execute("BEGIN ISOLATION LEVEL SERIALIZABLE; DROP TABLE other").unwrap();
    mirror.source.run("SET lock_timeout = '10s'; INSERT INTO base VALUES (8)");
    writer.batch_execute("COMMIT").unwrap();
    mirror.source.run("DELETE FROM base; INSERT INTO kept VALUES (2)");
    mirror.follow("");
    mirror.source.run("SELECT tx_untrack('kept')");
    assert_no_orphans(&mirror.source);
}

/// Drops tables; unseen by the event trigger that untracks them, as by a superuser who has disabled it.
fn drop_tables(mirror: &Mirror, sql: &str, unseen: bool) {
    let [off, on] = ["DISABLE", "ENABLE ALWAYS"].map(|state| {
        if unseen { format!("ALTER EVENT TRIGGER pg_table_export_drops {state};") } else { String::new() }
    });
    mirror.source.run(&format!("{off} {sql}; {on}"));
}

#[test]
fn dropped_tables_leave_no_orphans() {
    let tables = "
        CREATE SCHEMA crowd;
        CREATE TABLE crowd.a (id int PRIMARY KEY);
        CREATE TABLE crowd.b (id int PRIMARY KEY, a int REFERENCES crowd.a);
        CREATE TABLE crowd.p (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE crowd.p1 PARTITION OF crowd.p FOR VALUES FROM (1) TO (10);
        CREATE TABLE base (id int PRIMARY KEY);
        CREATE TABLE crowd.child (PRIMARY KEY (id)) INHERITS (base);
        CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (1) TO (10);
        CREATE ROLE leaver;
        CREATE TABLE owned (id int PRIMARY KEY); ALTER TABLE owned OWNER TO leaver;
        CREATE TABLE kept (id int PRIMARY KEY, body text);
    ";
    let tracked =
        ["crowd.a", "crowd.b", "crowd.p", "crowd.p1", "base", "crowd.child", "leaf", "owned", "kept"];
    for unseen in [false, true] {
        let mirror = Mirror::shared(&format!("orphans_{unseen}"));
        mirror.source.run(tables);
        mirror.copy.run("CREATE SCHEMA crowd");
        mirror.track(&tracked);
        mirror.follow("");
        mirror.source.run("INSERT INTO crowd.a VALUES (1); INSERT INTO crowd.b VALUES (1, 1); INSERT INTO root VALUES (1); INSERT INTO kept VALUES (1)");
        drop_tables(&mirror, "DROP SCHEMA crowd CASCADE", unseen);
        mirror.export("");
        drop_tables(&mirror, "DROP OWNED BY leaver; DROP ROLE leaver; DROP TABLE root, base", unseen);
        assert_eq!(
            mirror.source.text(
                "SELECT string_agg(triggers_intact::text, ' ' ORDER BY triggers_intact) FROM tx_tracked"
            ),
            "false false false true"
        );
        mirror.export("");
        mirror.import();
        mirror.assert_same_tables(&["kept"]);
        mirror.source.run("SELECT tx_untrack('kept')");
        assert_no_orphans(&mirror.source);
    }
}

#[test]
fn the_extension_goes_and_comes_back_in_one_session() {
    let mirror = Mirror::tracking(
        "extension",
        &format!(
            "{ITEMS} CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT"
        ),
        &["items", "p"],
    );
    mirror.source.refused("DROP EXTENSION pg_table_export").expect("2BP01", &["shadow_1_0", "CASCADE"]);
    mirror
        .source
        .refused("DROP SCHEMA table_export CASCADE")
        .expect("2BP01", &["extension pg_table_export requires it"]);
    let mut client = mirror.source.client();
    for _ in 0..2 {
        client.batch_execute("INSERT INTO items VALUES (100 + (SELECT count(*) FROM items)); INSERT INTO p SELECT count(*) FROM p").unwrap_or_else(|error| panic!("{error:?}"));
        client
            .batch_execute("DROP EXTENSION pg_table_export CASCADE")
            .unwrap_or_else(|error| panic!("{error:?}"));
        client.batch_execute("UPDATE items SET n = n + 1; ALTER TABLE items ADD COLUMN IF NOT EXISTS extra int; CREATE TABLE t (); DROP TABLE t").unwrap_or_else(|error| panic!("{error:?}"));
        client
            .batch_execute("CREATE EXTENSION pg_table_export; SELECT tx_track('items'); SELECT tx_track('p')")
            .unwrap_or_else(|error| panic!("{error:?}"));
    }
    mirror.copy.run("ALTER TABLE items ADD COLUMN extra int");
    mirror.source.run("DELETE FROM items WHERE id = 1");
    mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
    mirror.follow("");
    mirror.assert_same_tables(&["items", "p"]);
    mirror.source.run("DROP TABLE items, p; DROP EXTENSION pg_table_export CASCADE");
    assert_eq!(mirror.source.text("SELECT count(*) FROM pg_event_trigger"), "0");
}

#[test]
fn a_publication_for_all_tables_disturbs_no_export() {
    // Both sides publish: PostgreSQL then refuses UPDATE and DELETE on tables without a replica identity.
    let mirror = Mirror::shared("published");
    mirror.run("CREATE PUBLICATION everything FOR ALL TABLES");
    mirror.source.run(ITEMS);
    mirror.source.run("CREATE TABLE p (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE p1 PARTITION OF p DEFAULT; INSERT INTO p VALUES (1, 'x')");
    mirror.track(&["items", "p"]);
    mirror.follow("");
    let lost = format!("BEGIN; SELECT tx_export{}; ROLLBACK", mirror.arguments("copy", ""));
    for round in 0..4 {
        mirror.source.run(&format!("UPDATE items SET n = {round}; DELETE FROM items WHERE id = {round}; UPDATE p SET body = '{round}'; SELECT tx_track('items')"));
        mirror.source.run("ALTER TABLE items ALTER COLUMN n TYPE bigint USING n + 1; ALTER TABLE items ALTER COLUMN n TYPE int");
        mirror.source.run("CREATE TABLE p2 (LIKE p INCLUDING ALL); INSERT INTO p2 VALUES (100, 'y'); DELETE FROM p WHERE id = 100; \
                           ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); DROP TABLE p2");
        // An export that the database does not know, to be healed; and rows in the shadow, to be truncated.
        mirror.source.run(&lost);
        mirror.follow("");
        mirror.assert_same_tables(&["items", "p"]);
    }
    mirror.source.run("SELECT tx_reset('copy', 'items')");
    mirror.follow("");
    mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
    mirror.follow("");
    mirror.copy.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
    mirror.import();
    mirror.assert_same_tables(&["items", "p"]);
    mirror.source.run("ALTER TABLE items RENAME COLUMN id TO key; SELECT tx_untrack('items'); SELECT tx_untrack('p'); DELETE FROM items");
    assert_no_orphans(&mirror.source);
}

#[test]
fn a_dump_with_partitions_restores_and_goes_on() {
    let ddl = "
        CREATE TABLE events (at date, id int, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
        CREATE TABLE events_a PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY RANGE (id);
        CREATE TABLE events_a1 PARTITION OF events_a DEFAULT;
        CREATE TABLE events_b PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
        CREATE TABLE base (id int PRIMARY KEY);
        CREATE TABLE child (gone int, body text, PRIMARY KEY (id)) INHERITS (base);
        ALTER TABLE child DROP COLUMN gone;
        INSERT INTO events SELECT '2024-12-01'::date + i, i, 'first' FROM generate_series(1, 60) AS i;
        INSERT INTO child SELECT i, 'c' FROM generate_series(1, 5) AS i;
    ";
    let tables = ["events", "events_b", "child"];
    let mut mirror = Mirror::tracking("dumped", ddl, &tables);
    mirror.run("ALTER TABLE events RENAME COLUMN id TO number");
    mirror.copy.run("ALTER TABLE events_b RENAME COLUMN id TO number");
    mirror.source.run("UPDATE events SET body = 'not exported' WHERE number = 3");
    let dump = SOURCE.dump("dumped");
    for (cluster, name) in [(&*SOURCE, "ddl_restored"), (&*COPY, "ddl_restored")] {
        cluster.create_database_with(name, "TEMPLATE template0");
        cluster.psql(name, &dump);
        mirror = Mirror {
            source: Database::of(cluster, name, &mirror.store),
            copy: mirror.copy,
            store: mirror.store,
        };
        assert_eq!(mirror.source.text("SELECT count(*), bool_and(triggers_intact) FROM tx_tracked"), "3|t");
        mirror.source.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
        mirror.copy.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
        mirror.follow("");
        for statement in [
            "UPDATE events SET number = number + 100 WHERE number < 5",
            "UPDATE events SET at = '2025-06-01' WHERE number = 10",
            "UPDATE base SET id = id + 10",
            "DELETE FROM events_a1 WHERE number = 20",
            "CREATE TABLE events_c PARTITION OF events DEFAULT; INSERT INTO events_c VALUES ('2030-01-01', 1, 'c')",
        ] {
            mirror.source.run(statement);
            mirror.follow("");
            mirror.assert_same_tables(&tables);
        }
    }
    // Nor does it matter that the key was renamed before, and is once more.
    mirror.run("ALTER TABLE events RENAME COLUMN number TO id");
    mirror.copy.run("ALTER TABLE events_b RENAME COLUMN number TO id");
    mirror.source.run("DELETE FROM events WHERE id = 30");
    mirror.follow("");
    mirror.assert_same_tables(&tables);
}

#[test]
fn a_restore_of_data_with_disabled_triggers_is_noticed() {
    let mirror = Mirror::tracking("data_only", ITEMS, &["items"]);
    let data = SOURCE.dump_with("data_only", &["--data-only", "--table=items", "--disable-triggers"]);
    mirror.source.run("TRUNCATE items");
    mirror.follow("");
    SOURCE.psql("data_only", &data);
    export_refused(&mirror).expect("55000", &["are not ENABLE ALWAYS"]);
    mirror.source.run("SELECT tx_untrack('public.items'); SELECT tx_track('public.items')");
    mirror.follow("");
    mirror.assert_same_tables(&["items"]);
}

#[test]
fn copies_of_a_tracked_table_are_tables_like_any_other() {
    let mirror = Mirror::tracking("copies", ITEMS, &["items"]);
    mirror.source.run(
        "SELECT * INTO taken FROM items; CREATE TABLE made AS TABLE items; CREATE TABLE alike (LIKE items INCLUDING ALL);
         INSERT INTO alike TABLE items; UPDATE taken SET n = 0; UPDATE made SET n = 0; TRUNCATE alike",
    );
    assert_eq!(mirror.export(""), "");
    assert_eq!(
        mirror
            .source
            .text("SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pg_table_export%'"),
        "items"
    );
}

#[test]
fn a_schema_made_with_partitions_in_it_is_followed() {
    let ddl = "CREATE TABLE events (id int PRIMARY KEY, body text) PARTITION BY RANGE (id)";
    let mirror = Mirror::tracking("with_schema", ddl, &["events"]);
    mirror.source.run(
        "CREATE SCHEMA parts CREATE TABLE parts.low PARTITION OF public.events FOR VALUES FROM (0) TO (10)
                             CREATE TABLE parts.high PARTITION OF public.events FOR VALUES FROM (10) TO (20)",
    );
    for statement in [
        "INSERT INTO parts.low VALUES (1, 'x')",
        "INSERT INTO events VALUES (11, 'y')",
        "DELETE FROM parts.high",
        "DROP SCHEMA parts CASCADE",
    ] {
        mirror.source.run(statement);
        mirror.follow("");
        mirror.assert_same_tables(&["events"]);
    }
}

#[test]
fn hundreds_of_partitions_are_tracked_attached_and_untracked() {
    let ddl = "
        CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE many (id int PRIMARY KEY) PARTITION BY RANGE (id);
        DO $$ BEGIN FOR i IN 1..300 LOOP
            EXECUTE format('CREATE TABLE many_%s PARTITION OF many FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
        END LOOP; END $$;
        INSERT INTO many SELECT generate_series(1, 300);
    ";
    let mirror = Mirror::tracking("many", ddl, &["many", "root"]);
    let ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pg_table_export%'";
    assert_eq!(mirror.source.text(ours), (4 * 302).to_string());
    mirror.source.run("ALTER TABLE root ATTACH PARTITION many FOR VALUES FROM (1) TO (1000)");
    mirror.follow("");
    mirror.source.run("DELETE FROM many_7; DELETE FROM root WHERE id = 8");
    mirror.follow("");
    mirror.assert_same_tables(&["many", "root"]);
    mirror.source.run("SELECT tx_untrack('many'); SELECT tx_untrack('root')");
    assert_no_orphans(&mirror.source);
}
