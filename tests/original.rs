//! What the tool of 2011 got wrong: one test for each of its nine defects, named by what is promised now.

mod cluster;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use cluster::mirror::{Mirror, rows};
use cluster::pair::{Database, query, refusal};
use cluster::{Cluster, Store};

static SOURCE: LazyLock<Cluster> = LazyLock::new(Cluster::start);
static COPY: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// Makes a pair of databases with a tracked table `t` of 100 rows, which the copy has.
fn mirror(name: &str) -> Mirror {
    let mirror = Mirror::new(&SOURCE, &COPY, name);
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) AS i",
    );
    mirror.track(&["t"]);
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    mirror
}

// 1. The position was the highest number handed out, so what committed later with a lower one was skipped.
#[test]
fn a_transaction_that_commits_after_the_export_is_in_a_later_batch() {
    let mirror = mirror("concurrency");
    let mut slow = mirror.source.client();
    let mut run_slow =
        |sql: &str| slow.batch_execute(sql).unwrap_or_else(|error| panic!("{}", refusal(&error)));
    run_slow(
        "BEGIN; INSERT INTO t VALUES (1000, 'slow'); UPDATE t SET v = 'slow' WHERE id = 1;
              SAVEPOINT s; DELETE FROM t WHERE id = 2; RELEASE s",
    );
    mirror
        .source
        .run("BEGIN; INSERT INTO t VALUES (1001, 'prepared'); PREPARE TRANSACTION 'prepared in concurrency'");
    for id in 2000..2003 {
        mirror.source.run(&format!("INSERT INTO t VALUES ({id}, 'fast')"));
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
    }
    run_slow("UPDATE t SET v = 'slow, later' WHERE id = 3; COMMIT");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    mirror.source.run("COMMIT PREPARED 'prepared in concurrency'");
    mirror.follow("");
    mirror.assert_same_tables(&["t"]);
    assert_eq!(mirror.copy.text("SELECT count(*) FROM t WHERE id >= 1000"), "5");
    assert_eq!(mirror.export(""), "", "each change is in one batch");
}

// 2. A row that was touched twice was written twice, and its batch could never be imported.
#[test]
fn a_row_that_is_touched_often_ships_once() {
    let mirror = Mirror::new(&SOURCE, &COPY, "twice");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text); SELECT tx_track('t')");
    mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, v text)");
    mirror.source.run("INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'");
    assert_eq!(mirror.export(""), "1|public.t|full|0|1");
    mirror.import();
    mirror.source.run("INSERT INTO t VALUES (2, 'a')");
    for n in 0..10 {
        mirror.source.run(&format!("UPDATE t SET v = 'n{n}'; BEGIN; UPDATE t SET v = v || '!'; COMMIT"));
    }
    mirror.source.run(
        "UPDATE t SET id = 3 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3; DELETE FROM t WHERE id = 1;
         INSERT INTO t VALUES (1, 'again'), (4, 'for a moment'); DELETE FROM t WHERE id = 4",
    );
    assert_eq!(mirror.export(""), "2|public.t|changes|4|2", "keys 1 to 4, of which 1 and 2 are left");
    assert_eq!(mirror.import(), "2|public.t|changes|0|1");
    mirror.assert_same_tables(&["t"]);
}

// 3. The importer wrote to a table that nothing created.
#[test]
fn the_first_import_needs_nothing_but_the_extension_and_the_table() {
    let mirror = Mirror::new(&SOURCE, &COPY, "first");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); SELECT tx_track('t')",
    );
    mirror.export("");
    let relations = "SELECT count(*) FROM pg_class";
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('t')"));
    let before = mirror.copy.text(relations);
    assert_eq!(mirror.import(), "1|public.t|full|0|1");
    mirror.assert_same_tables(&["t"]);
    assert_eq!(mirror.copy.text(relations), before, "no table is left behind either");
}

/// Everything that the catalogs say of the database: a line for each object, and for each privilege.
fn catalogs(database: &Database) -> BTreeSet<String> {
    let text = database.text(
        "SELECT 'relation', oid::regclass, relkind FROM pg_class WHERE relkind <> 't';
         SELECT 'function', oid::regprocedure FROM pg_proc;
         SELECT 'type', oid::regtype FROM pg_type;
         SELECT 'trigger', tgrelid::regclass, tgname FROM pg_trigger;
         SELECT 'constraint', conrelid::regclass, conname FROM pg_constraint;
         SELECT 'schema', nspname, a.* FROM pg_namespace,
             aclexplode(COALESCE(nspacl, acldefault('n', nspowner))) AS a WHERE nspname NOT LIKE 'pg_t%';
         SELECT 'acl', c.oid::regclass, a.* FROM pg_class AS c, aclexplode(relacl) AS a;
         SELECT 'depend', pg_describe_object(classid, objid, objsubid), deptype,
                pg_describe_object(refclassid, refobjid, refobjsubid) FROM pg_depend
          WHERE NOT (classid = 'pg_class'::regclass AND objid::regclass::text LIKE 'pg_toast.%');
         SELECT 'shared depend', pg_describe_object(classid, objid, objsubid), deptype, refobjid FROM pg_shdepend
          WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database());
         SELECT 'ours', t::text FROM table_export.tracked AS t;
         SELECT 'ours', t::text FROM table_export.target_table AS t",
    );
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_no_trace(database: &Database, before: &BTreeSet<String>) {
    let after = catalogs(database);
    let differences = after.symmetric_difference(before).map(String::as_str).collect::<Vec<_>>();
    assert!(differences.is_empty(), "left or missing:\n{}", differences.join("\n"));
}

// 4. The reset left functions behind, and failed where a trigger was missing.
#[test]
fn untrack_leaves_no_trace() {
    let mirror = Mirror::new(&SOURCE, &COPY, "untrack");
    let source = &mirror.source;
    source.run(
        "CREATE ROLE untrack_owner; GRANT CREATE ON SCHEMA public TO untrack_owner; SET ROLE untrack_owner;
         CREATE TABLE t (id int PRIMARY KEY, v text);
         CREATE TABLE other (a text, b int, PRIMARY KEY (a, b));
         CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION own()",
    );
    let before = catalogs(source);
    let live = "INSERT INTO t VALUES (1); UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t; INSERT INTO other VALUES ('a', 1)";

    source.run(&format!("SELECT tx_track('t'); SELECT tx_track('other'); {live}"));
    mirror.export("");
    source.run(live.replace("('a', 1)", "('b', 2)").as_str());
    mirror.export("");
    assert_ne!(catalogs(source), before);
    source.run("SELECT tx_untrack('t'); SELECT tx_untrack('other')");
    assert_no_trace(source, &before);

    // With a trigger missing.
    source.run("SELECT tx_track('t'); DROP TRIGGER pg_table_export_delete ON t; SELECT tx_untrack('t')");
    assert_no_trace(source, &before);
    source.refused("SELECT tx_untrack('t')").expect("55000", &["t", "not tracked"]);

    // After a change of the owner.
    source.run(
        "SELECT tx_track('t'); CREATE ROLE untrack_heir; GRANT CREATE ON SCHEMA public TO untrack_heir;
         ALTER TABLE t OWNER TO untrack_heir; SELECT tx_track('t'); SELECT tx_untrack('t');
         ALTER TABLE t OWNER TO untrack_owner; REVOKE CREATE ON SCHEMA public FROM untrack_heir",
    );
    assert_no_trace(source, &before);
    source.run("DROP ROLE untrack_heir");
}

// 4, continued.
#[test]
fn untrack_leaves_no_trace_of_a_table_that_is_dropped() {
    let mirror = Mirror::new(&SOURCE, &COPY, "untrack_dropped");
    let source = &mirror.source;
    source.run("CREATE ROLE dropper; GRANT CREATE ON SCHEMA public TO dropper");
    let before = catalogs(source);
    source.run("SET ROLE dropper; CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    let oid = source.text("SELECT 't'::regclass::oid");
    source.run("SELECT tx_track('t'); SELECT tx_track('u')");
    mirror.export("");
    source.run("SET ROLE dropper; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); DROP TABLE t");
    source
        .refused(&format!("SELECT tx_export{}", mirror.arguments("copy", "")))
        .expect("55000", &[&oid, "tx_untrack"]);
    source.run(&format!("SELECT tx_untrack({oid}::regclass)"));
    assert_eq!(mirror.export(""), "2|public.u|changes|1|1");
    source.run("SELECT tx_untrack('u'); DROP TABLE u");
    assert_no_trace(source, &before);
    // The last table of its owner, who then has nothing left that would keep him.
    let oid = source.text(
        "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO dropper; SELECT 't'::regclass::oid",
    );
    source.run(&format!("SELECT tx_track('t'); DROP TABLE t; SELECT tx_untrack({oid}::regclass)"));
    assert_no_trace(source, &before);
    source.run("REVOKE CREATE ON SCHEMA public FROM dropper; DROP ROLE dropper");
}

// 5. The script failed where tables belonged to another role than the one that ran it.
#[test]
fn the_owner_of_a_table_may_be_anybody() {
    let mirror = Mirror::new(&SOURCE, &COPY, "owner");
    mirror.run("CREATE SCHEMA shop");
    mirror.source.run(
        "CREATE ROLE shop LOGIN; CREATE ROLE clerk LOGIN; GRANT ALL ON SCHEMA shop TO shop; GRANT USAGE ON SCHEMA shop TO clerk;
         GRANT EXECUTE ON FUNCTION tx_track(regclass, text), tx_untrack(regclass) TO shop, clerk",
    );
    let as_user = |user: &str, sql: &str| {
        query(&mut SOURCE.client_as("owner", user), sql).map_err(|error| refusal(&error).sqlstate)
    };
    let table = "CREATE TABLE shop.t (id serial PRIMARY KEY, v text); GRANT INSERT, UPDATE, DELETE, SELECT ON shop.t TO clerk;
                 GRANT USAGE ON SEQUENCE shop.t_id_seq TO clerk; INSERT INTO shop.t (v) VALUES ('a')";
    assert_eq!(as_user("shop", table), Ok(String::new()));
    assert_eq!(as_user("clerk", "SELECT tx_track('shop.t')"), Err("42501".into()));
    assert_eq!(as_user("shop", "SELECT tracked FROM tx_track('shop.t')"), Ok("shop.t".into()));
    mirror.copy.run(&mirror.source.text("SELECT tx_ddl('shop.t')"));
    mirror.follow("");
    // Whoever writes needs no right to anything of ours, and gets none.
    assert_eq!(
        as_user("clerk", "INSERT INTO shop.t (v) VALUES ('b'); UPDATE shop.t SET v = v || '!'"),
        Ok(String::new())
    );
    assert_eq!(as_user("clerk", "SELECT * FROM table_export.shadow_1_0"), Err("42501".into()));
    assert_eq!(
        as_user("shop", "INSERT INTO table_export.shadow_1_0 VALUES ('1', 'I', 1)"),
        Err("42501".into())
    );
    mirror.follow("");
    mirror.assert_same_tables(&["shop.t"]);
    // The table gets another owner, who renews what its owner needs by tracking it again.
    mirror.source.run("CREATE ROLE heir; GRANT ALL ON SCHEMA shop TO heir; ALTER TABLE shop.t OWNER TO heir; SELECT tx_track('shop.t')");
    mirror.source.run("DELETE FROM shop.t WHERE id = 1; INSERT INTO shop.t (v) VALUES ('c')");
    mirror.follow("");
    mirror.assert_same_tables(&["shop.t"]);
    assert_eq!(as_user("shop", "SELECT tx_untrack('shop.t')"), Err("42501".into()), "no owner any more");
    assert_eq!(as_user("shop", "SELECT * FROM table_export.shadow_1_0"), Err("42501".into()), "nor a reader");
}

// 6. TRUNCATE was not noticed.
#[test]
fn truncate_arrives() {
    let mirror = mirror("truncation");
    mirror.source.run(
        "CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t); INSERT INTO child SELECT i, i FROM generate_series(1, 50) AS i",
    );
    mirror.track(&["child"]);
    for (change, left) in [
        ("DELETE FROM child WHERE id = 1", "149"),
        ("TRUNCATE t CASCADE", "0"),
        (
            "INSERT INTO t SELECT i FROM generate_series(1, 9) AS i; INSERT INTO child SELECT id, id FROM t",
            "18",
        ),
        ("BEGIN; INSERT INTO t VALUES (20); TRUNCATE child; INSERT INTO child VALUES (1, 20); COMMIT", "11"),
        ("BEGIN; INSERT INTO t VALUES (21); SAVEPOINT s; TRUNCATE t CASCADE; ROLLBACK TO s; COMMIT", "12"),
        (
            "BEGIN; SAVEPOINT s; TRUNCATE child; RELEASE s; COMMIT; SET session_replication_role = replica; TRUNCATE t CASCADE",
            "0",
        ),
    ] {
        mirror.source.run(change);
        mirror.follow("");
        mirror.assert_same_tables(&["t", "child"]);
        assert_eq!(
            mirror.copy.text("SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM child)"),
            left,
            "{change}"
        );
    }
}

/// Copies files that one store has and another has not, as somebody would carry them.
fn carry(from: &Store, to: &Store, is_wanted: impl Fn(&Path) -> bool) {
    for file in from.files().iter().filter(|file| is_wanted(file)) {
        let place = to.path().join(file);
        fs::create_dir_all(place.parent().unwrap_or(to.path())).expect("a folder");
        fs::copy(from.path().join(file), &place).expect("a file that can be copied");
        for path in place.ancestors().take_while(|path| *path != to.path()) {
            let owner = fs::metadata(to.path()).expect("the store");
            chown(path, Some(owner.uid()), Some(owner.gid())).expect("the server's user may read it");
        }
    }
}

// 7. An older batch, imported after a newer one, took the rows back in time.
#[test]
fn an_older_batch_never_undoes_a_newer_one() {
    let mirror = mirror("order");
    let stores = [1, 2, 3].map(|n| {
        mirror.source.run(&format!(
            "UPDATE t SET v = 'change {n}' WHERE id <= 10 * {n}; DELETE FROM t WHERE id = 50 + {n}"
        ));
        mirror.export("");
        mirror.store.copy()
    });
    let content = || rows(&mirror.copy, "SELECT * FROM t");
    let import_of =
        |store: &Store| format!("SELECT batch FROM tx_import('copy', store => '{}')", store.url());
    let carried = Store::new();
    let added = |newer: &Store, older: &Store| {
        let older = older.files();
        carry(newer, &carried, |file| !older.contains(&file.to_path_buf()));
    };
    let before = content();

    // The third arrives before the second.
    carry(&stores[0], &carried, |_| true);
    added(&stores[2], &stores[1]);
    mirror.copy.refused(&import_of(&carried)).expect("55000", &["batch 3", "batch 4"]);
    assert_eq!(content(), before, "nothing of it is applied, all or nothing");
    assert_eq!(mirror.copy.text(&import_of(&stores[0])), "2");
    mirror.copy.refused(&import_of(&carried)).expect("55000", &["batch 3", "batch 4"]);

    // Then the second.
    added(&stores[1], &stores[0]);
    assert_eq!(mirror.copy.text(&import_of(&carried)), "3\n4");
    mirror.assert_same_tables(&["t"]);

    // Again, and from disks that are older than what is applied.
    let after = content();
    assert_eq!(mirror.copy.text(&import_of(&carried)), "");
    for store in &stores[..2] {
        let mut client = mirror.copy.client();
        assert!(
            query(&mut client, &import_of(store)).is_ok_and(|rows| rows.is_empty()) || content() == after
        );
        assert_eq!(content(), after, "importing what is applied changes nothing");
    }
    assert_eq!(
        mirror.copy.text("SELECT string_agg(number::text, ' ' ORDER BY number) FROM table_export.receipt"),
        "1 2 3 4"
    );
}

// 8. The files of one batch were read at different instants.
#[test]
fn all_tables_are_read_at_one_instant() {
    let mirror = Mirror::new(&SOURCE, &COPY, "instant");
    // The first table takes a while to read, and the writer commits to all three all the time.
    mirror.source.run(
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE c (LIKE a INCLUDING ALL);
         INSERT INTO a SELECT -i, repeat('x', 200) FROM generate_series(1, 200000) AS i",
    );
    let tables = ["a", "b", "c"];
    mirror.track(&tables);
    let done = AtomicBool::new(false);
    scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = mirror.source.client();
            let mut written = 0;
            while !done.load(Ordering::Relaxed) {
                written += 1;
                let insert = tables.map(|table| format!("INSERT INTO {table} VALUES ({written});")).concat();
                client
                    .batch_execute(&format!("BEGIN; {insert} COMMIT"))
                    .unwrap_or_else(|error| panic!("{error}"));
            }
            written
        });
        for round in 0..3 {
            if round > 0 {
                mirror.source.run("UPDATE a SET v = v || 'y' WHERE id < 0");
            }
            mirror.follow("");
            let new = tables.map(|table| rows(&mirror.copy, &format!("SELECT id FROM {table} WHERE id > 0")));
            assert!(
                new[0] == new[1] && new[1] == new[2],
                "{} {} {}",
                new[0].len(),
                new[1].len(),
                new[2].len()
            );
        }
        done.store(true, Ordering::Relaxed);
        assert!(writer.join().is_ok_and(|written| written > 100));
    });
    mirror.follow("");
    mirror.assert_same_tables(&tables);
}

// 8, continued: files survive a rollback, and the position does not.
#[test]
fn an_export_that_is_rolled_back_is_made_good() {
    for is_imported in [false, true] {
        let mirror = mirror(&format!("rolled_back_{is_imported}"));
        let export = format!("SELECT * FROM tx_export{}", mirror.arguments("copy", ""));
        mirror.source.run("DELETE FROM t WHERE id = 1; UPDATE t SET v = 'shipped twice' WHERE id = 2");
        mirror.source.run(&format!("BEGIN; {export}; ROLLBACK"));
        if is_imported {
            assert_eq!(mirror.import(), "2|public.t|changes|1|0");
        }
        mirror.source.run("INSERT INTO t VALUES (1, 'back'); UPDATE t SET v = 'later' WHERE id = 3");
        mirror.follow("");
        mirror.assert_same_tables(&["t"]);
        assert_eq!(mirror.export(""), "");
    }
}

/// Names that break whoever pastes them into SQL, a path or a format.
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

// 9. Names were pasted into SQL without quotes.
#[test]
fn any_name_works() {
    let mirror = Mirror::new(&SOURCE, &COPY, "names");
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

// 9, continued: the target was a part of a path.
#[test]
fn any_target_works_and_stays_in_the_store() {
    let mirror = mirror("target_names");
    let outside = mirror.store.path().parent().expect("a parent").join("outside of the store");
    for name in NAMES {
        let arguments = mirror.arguments(name, "");
        // Batches that change nothing count their rows all the same.
        let appending = mirror.arguments(name, ", mode => 'append'");
        let name = name.replace('\'', "''");
        let files = mirror.store.files().len();
        assert_eq!(mirror.source.text(&format!("SELECT kind FROM tx_export{arguments}")), "full", "{name}");
        assert!(mirror.store.files().len() > files, "{name}");
        assert_eq!(mirror.copy.text(&format!("SELECT inserted FROM tx_import{appending}")), "100", "{name}");
        assert_eq!(
            mirror.copy.text(&format!("SELECT count(*) FROM table_export.receipt WHERE target = '{name}'")),
            "1"
        );
    }
    assert!(!outside.exists());
}

/// What somebody may have put into a schema of his own, in front of everything else: whatever we call by a bare name.
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

// 9, continued: what was found first in search_path ran, with the rights of the caller.
#[test]
fn nothing_of_a_users_search_path_runs() {
    let mirror = Mirror::new(&SOURCE, &COPY, "search_path");
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

// 9, continued: the key was a bigint named id.
#[test]
fn a_key_may_have_any_type_and_any_number_of_columns() {
    let mirror = Mirror::new(&SOURCE, &COPY, "keys");
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
