//! `tx_health()`: a row for each thing that is wrong, which goes when its hint is typed; none where all is
//! well.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use serde_json::Value;

use crate::cluster::database::{Database, query, refusal, wait_until};
use crate::cluster::{Cluster, Store};

/// Times and percentages are masked.
const PROBLEMS: &str = r"
    SELECT severity, object,
           regexp_replace(problem, '\d\d:\d\d:\d\d(\.\d+)?|\d+ percent', 'SO MUCH')
      FROM tx_health()";

/// A source and a destination in one server, which have exchanged twelve batches.
struct Pair {
    source: Database,
    destination: Database,
    cluster: Cluster,
    store: Store,
}

impl Pair {
    fn new(settings: &[&str]) -> Pair {
        let store = Store::new();
        let location = format!("pg_table_export.store = '{}'", store.url());
        let cluster = Cluster::start_with(&[settings, &[&location]].concat());
        let source = Database::source(&cluster, "source", &store);
        let destination = Database::destination(&cluster, "destination", &store);
        for id in 11..=22 {
            source.insert([id]);
            source.feed(&destination);
        }
        Pair { source, destination, cluster, store }
    }

    /// Exports and imports, and makes sure that all is well on both sides.
    #[track_caller]
    fn goes_on(&self) {
        self.source.export();
        self.destination.import();
        well(&self.source);
        well(&self.destination);
    }

    /// Breaks the source in a way that an export is refused for, with the very words that are foretold. Then
    /// types the hint.
    #[track_caller]
    fn foretells(&self, sql: &str, object: &str, problem: &str) {
        self.source.run(sql);
        let hint = only(&self.source, &format!("critical|{object}|{problem}"));
        assert_eq!(self.source.export_refused().message, problem);
        type_in(&self.source, &hint);
    }

    /// The manifest of a batch.
    fn manifest(&self, number: u64) -> PathBuf {
        self.store.path().join(format!("reporting/manifest/{number:010}.json"))
    }

    /// Makes a batch show an instant that is so much later than now.
    fn shift(&self, number: u64, interval: &str) {
        let time = format!(
            "SELECT to_char((now() + interval '{interval}') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        );
        let path = self.manifest(number);
        let mut manifest = serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap();
        manifest["created_at"] = Value::from(self.source.text(&time));
        fs::write(path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
    }
}

/// Makes sure that one thing is wrong, and returns its hint.
#[track_caller]
fn only(database: &Database, problem: &str) -> String {
    assert_eq!(database.text(PROBLEMS), problem);
    database.text("SELECT hint FROM tx_health()")
}

/// Makes sure that nothing is wrong.
#[track_caller]
fn well(database: &Database) {
    assert_eq!(database.text("SELECT * FROM tx_health()"), "");
}

/// Types what a hint says, each statement by itself.
#[track_caller]
fn type_in(database: &Database, hint: &str) {
    let statements = hint.rsplit("un: ").next().and_then(|rest| rest.rsplit("source: ").next());
    for statement in statements.unwrap_or_default().split_inclusive(';') {
        assert!(statement.ends_with(';'), "no statement: {statement}");
        query(&mut database.client(), statement).unwrap_or_else(|e| panic!("{statement}: {}", refusal(&e)));
    }
}

#[test]
fn nothing_is_wrong_with_a_pair_that_works() {
    let pair = Pair::new(&[]);
    pair.goes_on();
    // A key of a domain over a domain, in a partitioned table, whose column has another name since; a view.
    pair.source.run(
        "CREATE DOMAIN even AS int CHECK (VALUE % 2 = 0); CREATE DOMAIN four AS even;
         CREATE TABLE \"D\" (a four, b text COLLATE \"C\", PRIMARY KEY (b, a)) PARTITION BY LIST (a);
         CREATE TABLE \"D2\" PARTITION OF \"D\" FOR VALUES IN (2);
         SELECT tx_track('\"D\"'); ALTER TABLE \"D\" RENAME b TO c;
         CREATE VIEW v AS SELECT id, note FROM items; SELECT tx_restrict('branch', 'items', 'v')",
    );
    well(&pair.source);
    pair.source.with_target("branch").export();
    pair.source.export();
    well(&pair.source);
    // A clone that must not publish, and one that nobody has told that.
    pair.cluster.create_database_with("clone", "TEMPLATE source");
    let clone = Database::of(&pair.cluster, "clone", &pair.store);
    let problems = clone.text(PROBLEMS);
    assert_eq!(
        problems,
        "critical|branch|target \"branch\" is in use by another database\n\
         critical|reporting|target \"reporting\" is in use by another database"
    );
    pair.cluster.psql("postgres", "ALTER DATABASE clone SET pg_table_export.publish = off");
    clone.run("ALTER TABLE items DISABLE TRIGGER ALL");
    well(&clone);
}

#[test]
fn what_an_export_would_fail_with_is_foretold() {
    let pair = Pair::new(&[]);
    let missing = "the triggers that track table \"public.items\" are missing or disabled";
    let disable = "ALTER TABLE items DISABLE TRIGGER pg_table_export_insert";
    pair.foretells(disable, "public.items", missing);
    pair.goes_on();
    pair.foretells("DROP TRIGGER pg_table_export_delete ON items", "public.items", missing);
    pair.goes_on();
    let disabled = "event trigger \"pg_table_export_members\" is disabled";
    let disable = "ALTER EVENT TRIGGER pg_table_export_members DISABLE";
    pair.foretells(disable, "pg_table_export_members", disabled);
    pair.goes_on();
    let owner = "table \"public.lines\" has another owner than when it was tracked";
    let give = "CREATE ROLE health_owner; ALTER TABLE lines OWNER TO health_owner";
    pair.foretells(give, "public.lines", owner);
    pair.goes_on();
    let shadow = pair.source.text("SELECT max(id) FROM table_export.tracked");
    let table = pair.source.text("SELECT relation FROM table_export.tracked ORDER BY id DESC LIMIT 1");
    pair.foretells(
        &format!("CREATE INDEX by_op ON table_export.shadow_{shadow}_0 (op)"),
        &format!("public.{table}"),
        &format!("the shadow of table \"public.{table}\" has been altered"),
    );
    pair.goes_on();
    for (sql, table) in [
        ("ALTER TABLE items ALTER id TYPE bigint", "items"),
        ("ALTER TABLE lines DROP CONSTRAINT lines_pkey", "lines"),
    ] {
        let problem = format!("the key of table \"public.{table}\" has changed since it was tracked");
        pair.source.run(sql);
        let hint = only(&pair.source, &format!("critical|public.{table}|{problem}"));
        assert_eq!(pair.source.export_refused().message, problem);
        type_in(&pair.source, &hint);
        pair.goes_on();
    }
    pair.foretells(
        "ALTER TABLE items ENABLE TRIGGER pg_table_export_insert, ENABLE REPLICA TRIGGER pg_table_export_truncate",
        "public.items",
        "the triggers that track table \"public.items\" are not ENABLE ALWAYS",
    );
    pair.goes_on();
    pair.foretells(
        "DO $$ BEGIN EXECUTE format('DROP TABLE table_export.shadow_%s_1', (
             SELECT id FROM table_export.tracked WHERE relation = 'items'::regclass)); END $$",
        "public.items",
        "the shadow of table \"public.items\" does not exist",
    );
    pair.goes_on();
    pair.foretells(
        "ALTER TABLE lines SET UNLOGGED",
        "public.lines",
        "table \"public.lines\" cannot be exported any more",
    );
    pair.source.export();
    // Unseen by the event trigger.
    let drop = |table| {
        let [off, on] = ["DISABLE", "ENABLE ALWAYS"]
            .map(|state| format!("ALTER EVENT TRIGGER pg_table_export_drops {state}"));
        pair.source.run(&format!("{off}; DROP TABLE {table}; {on}"));
    };
    pair.source.run("CREATE TABLE more (id int PRIMARY KEY); SELECT tx_track('more')");
    drop("more");
    well(&pair.source);
    pair.source.export();
    assert_eq!(pair.source.text("SELECT count(*) FROM tx_tracked WHERE table_name::text ~ '^[0-9]'"), "0");
}

#[test]
fn what_is_closed_to_the_owner_of_a_table_is_foretold() {
    let pair = Pair::new(&[]);
    let schema = "CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY);
                  ALTER TABLE closed.t OWNER TO closed_owner";
    pair.source.run(&format!("CREATE ROLE closed_owner; {schema}; SELECT tx_track('closed.t')"));
    pair.destination.run(schema);
    let (denied, hidden) =
        ("permission denied for schema \"closed\"", "row security would hide rows of table \"closed.t\"");
    let force = "ALTER TABLE closed.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY";
    pair.foretells("", "closed.t", denied);
    pair.foretells(force, "closed.t", hidden);
    pair.source.export();
    assert_eq!(pair.destination.import_refused().message, denied);
    pair.destination.run("GRANT USAGE ON SCHEMA closed TO closed_owner");
    pair.goes_on();
    for (sql, problem) in [("REVOKE USAGE ON SCHEMA closed FROM closed_owner", denied), (force, hidden)] {
        pair.destination.run(sql);
        pair.source.run("INSERT INTO closed.t SELECT count(*) FROM closed.t");
        pair.source.export();
        let hint = only(&pair.destination, &format!("critical|closed.t|{problem}"));
        assert_eq!(pair.destination.import_refused().message, problem);
        type_in(&pair.destination, &hint);
        pair.goes_on();
    }
    // Seen through a view in another schema, it needs none.
    pair.source.run(
        "CREATE VIEW seen AS SELECT id FROM closed.t; ALTER VIEW seen OWNER TO closed_owner;
         SELECT tx_restrict('it''s', 'closed.t', 'seen'); SELECT tx_restrict('it''s', 'items')",
    );
    well(&pair.source);
    pair.source.run("DROP VIEW seen");
    let gone = "the view that table \"closed.t\" is exported through does not exist any more";
    let hint = only(&pair.source, &format!("critical|closed.t|{gone}"));
    assert!(hint.contains("SELECT tx_restrict('it''s', 'closed.t', '…');"), "{hint}");
    assert_eq!(pair.source.with_target("it''s").export_refused().message, gone);
    type_in(&pair.source, &hint);
    well(&pair.source);
}

#[test]
fn a_target_that_is_not_exported_any_more_is_told_from_a_quiet_one() {
    let pair = Pair::new(&[]);
    // The transaction that writes the row of a target is recorded in it.
    let idle = "UPDATE table_export.target
                   SET position_at = now() - interval '1 h', written_by = pg_current_xact_id()";
    pair.source.run(idle);
    let late = "warning|reporting|the last export of target \"reporting\" is SO MUCH old";
    let hint = only(&pair.source, late);
    assert_eq!(pair.source.text("SELECT since < now() - interval '59 min' FROM tx_health()"), "t");
    // An export that finds nothing to send.
    type_in(&pair.source, &hint);
    assert_eq!(pair.source.text("SELECT number FROM table_export.target"), "12");
    well(&pair.source);
    pair.source.run(idle);
    let mut busy = pair.source.client();
    let export = format!("BEGIN; {}", pair.source.export_sql());
    let pid = query(&mut busy, &format!("{export}; SELECT pg_backend_pid()")).unwrap();
    assert_eq!(
        only(&pair.source, late),
        format!("Wait. To end that export, run: SELECT pg_cancel_backend({pid});")
    );
    drop(busy);
    // It is not known what is usual.
    pair.source.run("DELETE FROM table_export.batch WHERE number < 3");
    well(&pair.source);
}

#[test]
fn who_keeps_a_shadow_is_named_before_targets_are_released() {
    let pair = Pair::new(&["pg_table_export.shadow_limit = '2MB'"]);
    let (source, alive) = (&pair.source, pair.source.with_target("alive"));
    source.run("INSERT INTO items SELECT 100 + 2 * i FROM generate_series(1, 20000) AS i");
    pair.goes_on();
    let prune = || {
        source.text("SELECT * FROM tx_prune()");
        source.text("SELECT * FROM tx_prune()");
    };
    prune();
    let round = || source.run("UPDATE items SET amount = coalesce(amount, 0) + 1 WHERE id > 100");
    let shadow = "the shadow of table \"public.items\" has";
    let limit = "pg_table_export.shadow_limit";
    let near = &format!("warning|public.items|{shadow} reached SO MUCH of {limit}");
    let over = &format!("critical|public.items|{shadow} outgrown {limit}");
    let first = |hint: String| hint.split(" If nobody").next().unwrap().to_owned();
    round();
    well(source);
    round();
    type_in(source, &first(only(source, near)));
    well(source);
    (0..3).for_each(|_| round());
    type_in(source, &first(only(source, over)));
    well(source);
    // A transaction that has written to the idle segment.
    let mut open = source.client();
    let writes = "BEGIN; UPDATE items SET note = 'x' WHERE id = 1; SELECT pg_backend_pid()";
    let pid = query(&mut open, writes).unwrap();
    source.run("BEGIN; UPDATE items SET note = 'x' WHERE id = 2; PREPARE TRANSACTION 'health''s'");
    round();
    source.export();
    round();
    let hint = only(source, near);
    assert_eq!(
        hint,
        format!("To end that, run: SELECT pg_terminate_backend({pid}); ROLLBACK PREPARED 'health''s';")
    );
    type_in(source, &hint);
    source.export();
    prune();
    well(source);
    // A target that stops while another goes on.
    alive.export();
    for _ in 0..2 {
        round();
        alive.export();
    }
    // From now on this one needs nothing of what was sealed by its last export.
    alive.export();
    assert_eq!(source.text(PROBLEMS), *near);
    let detail = "SELECT detail FROM tx_health()";
    assert_eq!(source.text(detail), "It retains changes for target \"reporting\".");
    for _ in 0..2 {
        round();
        alive.export();
    }
    let released = "warning|reporting|the next export of target \"reporting\" sends 1 table in full";
    let hint = only(source, released);
    assert!(source.text(detail).starts_with("They are public.items. "));
    type_in(source, &hint);
    well(source);
}

#[test]
fn a_limit_below_a_megabyte_is_kept() {
    let pair = Pair::new(&["pg_table_export.shadow_limit = '64kB'"]);
    assert_eq!(pair.source.text("SHOW pg_table_export.shadow_limit"), "64kB");
    pair.source.insert([30]);
    well(&pair.source);
}

#[test]
fn a_store_that_cannot_be_read_is_a_row_on_either_side() {
    let pair = Pair::new(&[]);
    let away = pair.store.path().with_extension("away");
    fs::rename(pair.store.path(), &away).unwrap();
    let url = pair.store.url();
    let missing =
        format!("critical|{url}|file or directory \"{}\" does not exist", pair.store.path().display());
    only(&pair.source, &missing);
    only(&pair.destination, &missing);
    for side in [&pair.source, &pair.destination] {
        assert_eq!(side.text("SELECT * FROM tx_health(read_stores => false)"), "");
    }
    fs::rename(&away, pair.store.path()).unwrap();
    pair.goes_on();
    pair.source.refused("SELECT * FROM tx_health(NULL)").expect("22004", &["read_stores"]);
    // A server that takes connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/batches", silent.local_addr().unwrap());
    pair.source.run(&format!("UPDATE table_export.batch SET store = '{url}'"));
    pair.destination.run(&format!("UPDATE table_export.receipt SET store = '{url}'"));
    for side in [&pair.source, &pair.destination] {
        let timeout = "SET statement_timeout = '500ms'; SELECT * FROM tx_health()";
        side.refused(timeout).expect("57014", &["statement timeout"]);
        assert_eq!(side.text("SELECT * FROM tx_health(read_stores => false)"), "");
    }
}

/// Changes pg_table_export.store, and waits until that is known.
fn set_store(pair: &Pair, statement: &str) {
    let before = pair.source.text("SELECT pg_conf_load_time()");
    pair.source.run(statement);
    pair.source.run("SELECT pg_reload_conf()");
    wait_until("the settings are loaded", || pair.source.text("SELECT pg_conf_load_time()") != before);
}

#[test]
fn the_store_is_looked_at_that_the_next_call_takes() {
    let (pair, other) = (Pair::new(&[]), Store::new());
    let (first, url) = (pair.store.url(), other.url());
    let set = format!("ALTER SYSTEM SET pg_table_export.store = '{url}'");
    let elsewhere = |url: &str| {
        format!(
            "critical|reporting|store \"{url}\" does not hold batch 12 of target \"reporting\", its last one"
        )
    };
    let behind =
        format!("critical|reporting|store \"{url}\" is behind this database for target \"reporting\"");
    set_store(&pair, &set);
    let hint = only(&pair.source, &elsewhere(&url));
    let statement = format!(
        "run: LOAD 'pg_table_export'; ALTER SYSTEM SET pg_table_export.store = '{first}'; SELECT pg_reload_conf();"
    );
    assert!(hint.contains(&statement), "{hint}");
    let refusal = pair.source.refused("SELECT * FROM tx_export('reporting')");
    assert_eq!((refusal.message, &refusal.hint), (elsewhere(&url)[19..].to_owned(), &hint));
    let hint = only(&pair.destination, &behind);
    assert!(hint.contains(&statement) && hint.contains("Copy the batches that are missing"), "{hint}");
    assert!(hint.contains("If they are lost, run at the source: SELECT tx_reset('reporting');"), "{hint}");
    assert_eq!(pair.destination.refused("SELECT * FROM tx_import('reporting')").hint, hint);
    // A lost configuration: the next call takes the default store, which does not exist yet.
    set_store(&pair, "ALTER SYSTEM SET pg_table_export.store = ''");
    let default = pair.cluster.data_dir().join("pg_table_export/pgsql_tmp.store");
    only(&pair.source, &elsewhere(&format!("file://{}", default.display())));
    assert!(!default.exists());
    set_store(&pair, "ALTER SYSTEM RESET pg_table_export.store");
    well(&pair.source);
    well(&pair.destination);
    // Who names a store does so again.
    set_store(&pair, &set);
    pair.source.insert([30]);
    pair.goes_on();
    // To begin again there.
    set_store(&pair, "SELECT 1");
    let hint = only(&pair.source, &elsewhere(&url).replace("12", "13"));
    type_in(&pair.source, &hint);
    pair.source.run("SELECT * FROM tx_export('reporting')");
    pair.destination.run("SELECT * FROM tx_import('reporting')");
    well(&pair.source);
    well(&pair.destination);
    pair.source.assert_equal(&pair.destination);
}

#[test]
fn a_store_that_has_lost_the_last_batch_is_seen_at_the_source() {
    let pair = Pair::new(&[]);
    let (source, destination) = (&pair.source, &pair.destination);
    pair.cluster.create_database_with("behind", "TEMPLATE destination");
    let behind = Database::of(&pair.cluster, "behind", &pair.store);
    let lacks = |number: u64| {
        let url = pair.store.url();
        format!("store \"{url}\" does not hold batch {number} of target \"reporting\", its last one")
    };
    let lose = |number: u64| fs::remove_file(pair.manifest(number)).unwrap();
    source.insert([30]);
    source.feed(destination);
    source.insert([31]);
    source.feed(destination);
    well(source);
    // An older copy.
    (13..=14).for_each(lose);
    let hint = only(source, &format!("critical|reporting|{}", lacks(14)));
    assert!(hint.starts_with("Copy the batches after batch 12 to the store again. "), "{hint}");
    assert_eq!(source.text("SELECT * FROM tx_health(read_stores => false)"), "");
    // An export goes on after the lost batches: whoever has applied them follows, others are refused.
    source.insert([32]);
    source.feed(destination);
    source.assert_equal(destination);
    well(source);
    behind.import_refused().expect("55000", &["batch 13 of target \"reporting\" is missing"]);
    lose(15);
    type_in(source, &only(source, &format!("critical|reporting|{}", lacks(15))));
    well(source);
    for copy in [destination, &behind] {
        copy.import();
        source.assert_equal(copy);
    }
    // Emptied, not mounted, or carried away.
    fs::rename(pair.store.path().join("reporting"), pair.store.path().join("elsewhere")).unwrap();
    let hint = only(source, &format!("warning|reporting|{}", lacks(16)));
    assert!(hint.contains("If the store is not mounted, mount it."), "{hint}");
    source.run("SELECT tx_reset('reporting')");
    assert!(!source.text(PROBLEMS).contains("does not hold"));
    type_in(source, &hint);
    pair.goes_on();
    source.assert_equal(destination);
    // The default store, which the next export makes anew.
    set_store(&pair, "ALTER SYSTEM SET pg_table_export.store = ''");
    source.run("SELECT tx_reset('reporting')");
    source.run("SELECT * FROM tx_export('reporting')");
    let default = pair.cluster.data_dir().join("pg_table_export/pgsql_tmp.store");
    well(source);
    fs::remove_dir_all(&default).unwrap();
    let lacks = lacks(18).replace(&pair.store.url(), &format!("file://{}", default.display()));
    type_in(source, &only(source, &format!("warning|reporting|{lacks}")));
    well(source);
}

#[test]
fn a_takeover_is_seen_in_the_store() {
    let pair = Pair::new(&[]);
    pair.cluster.create_database_with("clone", "TEMPLATE source");
    let clone = Database::of(&pair.cluster, "clone", &pair.store);
    clone.reset();
    clone.insert([40]);
    clone.export();
    let problem = "target \"reporting\" is in use by another database";
    let hint = only(&pair.source, &format!("critical|reporting|{problem}"));
    assert!(pair.source.text("SELECT detail FROM tx_health()").starts_with("Batch 13 was published by "));
    let refusal = pair.source.export_refused();
    assert_eq!((refusal.message.as_str(), &refusal.hint), (problem, &hint));
    assert_eq!(pair.source.text("SELECT * FROM tx_health(read_stores => false)"), "");
    type_in(&pair.source, &hint);
    pair.source.export();
    well(&pair.source);
}

#[test]
fn what_an_import_would_fail_with_is_foretold() {
    let pair = Pair::new(&[]);
    let (source, destination) = (&pair.source, &pair.destination);
    let start_again = |hint: &str| {
        assert!(hint.contains("SELECT tx_reset('reporting');"), "{hint}");
        destination.run("SELECT tx_reset('reporting')");
        destination.import();
        well(destination);
    };
    // The store has lost the next batch.
    for id in [30, 31] {
        source.insert([id]);
        source.export();
    }
    fs::remove_file(pair.manifest(13)).unwrap();
    let missing = "batch 13 of target \"reporting\" is missing";
    let hint = only(destination, &format!("critical|reporting|{missing}"));
    assert_eq!(destination.import_refused().message, missing);
    type_in(source, &hint);
    pair.goes_on();
    // The store is an older copy.
    source.insert([32]);
    source.feed(destination);
    let last = destination.text("SELECT max(number) FROM table_export.receipt").parse().unwrap();
    let path = pair.manifest(last);
    let manifest = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let behind = format!(
        "critical|reporting|store \"{}\" is behind this database for target \"reporting\"",
        pair.store.url()
    );
    let hint = only(destination, &behind);
    assert!(hint.starts_with("Copy the batches that are missing to store"), "{hint}");
    assert!(
        hint.ends_with(
            "To go back to the latest full batch in the store, run: SELECT tx_reset('reporting');"
        )
    );
    assert_eq!(destination.import_refused().hint, hint);
    fs::write(&path, manifest).unwrap();
    well(destination);
    // A copy without rows: other columns, unlogged, gone.
    destination.run(
        "ALTER TABLE items RENAME note TO remark; SELECT tx_map('reporting', 'public.items', 'items', '{\"note\": \"remark\"}')",
    );
    let empty = "critical|public.items|the copy of table \"public.items\" of target \"reporting\" has not received its rows";
    type_in(source, &only(destination, empty));
    destination.import();
    well(destination);
    destination.run("ALTER TABLE lines SET UNLOGGED");
    destination.import_refused().expect("55000", &["It was made unlogged since the last import. Or"]);
    start_again(&only(
        destination,
        "critical|public.lines|unlogged table \"public.lines\" may have lost what was imported into it",
    ));
    destination.run("DROP TABLE lines");
    let gone =
        "critical|public.lines|the copy of table \"public.lines\" of target \"reporting\" has been dropped";
    let hint = only(destination, gone);
    destination.run("CREATE TABLE lines (item int, line int, at timestamptz, PRIMARY KEY (item, line))");
    type_in(source, &hint);
    destination.import();
    well(destination);
}

#[test]
fn a_destination_that_falls_behind_is_seen() {
    let pair = Pair::new(&[]);
    let (source, destination) = (&pair.source, &pair.destination);
    source.insert([30]);
    source.export();
    well(destination);
    pair.shift(13, "-1 h");
    let waits = "warning|reporting|1 batch of target \"reporting\" waits to be applied";
    type_in(destination, &only(destination, waits));
    well(destination);
    // The source's clock is an hour ahead.
    source.insert([31]);
    source.export();
    pair.shift(14, "1 h");
    destination.import();
    only(
        destination,
        "warning|reporting|the clock of the source of target \"reporting\" is ahead of this server's by SO MUCH",
    );
    source.insert([32]);
    source.feed(destination);
    well(destination);
    // A table that is not sent any more.
    source.run("SELECT tx_untrack('lines')");
    source.export();
    destination.import();
    let hint = only(
        destination,
        "warning|public.lines|table \"public.lines\" is not sent to target \"reporting\" any more",
    );
    assert!(hint.contains("run at the source: SELECT tx_track('public.lines'); or"), "{hint}");
    source.run("SELECT tx_track('public.lines')");
    source.export();
    destination.import();
    well(destination);
}

#[test]
fn it_answers_on_a_standby_and_to_pg_monitor() {
    let pair = Pair::new(&[]);
    pair.destination.run("ALTER TABLE items SET UNLOGGED");
    pair.source.run(
        "ALTER TABLE items DISABLE TRIGGER pg_table_export_insert;
         CREATE ROLE watcher IN ROLE pg_monitor; CREATE ROLE stranger",
    );
    let standby = pair.cluster.standby();
    standby.catch_up(&pair.cluster);
    let as_watcher = format!("SET ROLE watcher; {PROBLEMS}");
    let missing =
        "critical|public.items|the triggers that track table \"public.items\" are missing or disabled\n";
    for cluster in [&pair.cluster, &standby] {
        assert_eq!(cluster.psql("source", &as_watcher), missing);
    }
    // An unlogged table cannot be read there.
    assert_eq!(standby.psql("destination", &as_watcher), "");
    let emptied =
        "critical|public.items|unlogged table \"public.items\" may have lost what was imported into it\n";
    assert_eq!(pair.cluster.psql("destination", &as_watcher), emptied);
    pair.source.refused("SET ROLE stranger; SELECT * FROM tx_health()").expect("42501", &["tx_health"]);
}
