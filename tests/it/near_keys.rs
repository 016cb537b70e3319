//! Keys that are equal to their type or nearly so, of every type that can be a key, change at random, while
//! targets are exported, destinations import, fall behind and begin anew, and batches are compacted and
//! expire. In the end all are equal byte by byte.
//!
//! A failure shrinks to the shortest schedule that shows it.
//! `KEY_CHANGES=1000000 SEED=… cargo test --test it near_keys::` makes a million changes of keys, and others.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::thread::scope;

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::mirror::rows;
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{COPY, Cluster, SOURCE, Store};
use postgres::Client;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

const TYPES: &str = "
    CREATE EXTENSION citext; CREATE EXTENSION isn; CREATE EXTENSION ltree; CREATE EXTENSION seg; CREATE EXTENSION cube;
    CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
    CREATE TYPE mood AS ENUM ('a', 'A', 'a ');
    CREATE TYPE pair AS (n numeric, c citext);
    CREATE TYPE ci_range AS RANGE (subtype = text, collation = ci);
    CREATE DOMAIN price AS numeric CHECK (VALUE < 1000);
";

/// A column of keys.
struct Kind {
    /// The type of the default operator class, as format_type writes it.
    class: &'static str,
    definition: &'static str,
    /// The column of the unique index.
    index: &'static str,
    texts: &'static [&'static str],
}

const fn kind(class: &'static str, definition: &'static str, texts: &'static [&'static str]) -> Kind {
    Kind { class, definition, index: "k", texts }
}

#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind("\"char\"", "\"char\"", &["a", "A", "", " ", "b"]),
    kind("anyarray", "numeric[]", &["{}", "{1}", "{1.0}", "{1.00}", "[0:0]={1}", "{NULL}", "{1,2}", "{1.0,2}", "{{1}}"]),
    kind("anyarray", "text[] COLLATE ci", &["{a}", "{A}", "{á}", "{a,b}", "{A,B}", "{\"a,b\"}", "{}"]),
    kind("anyenum", "mood", &["a", "A", "a "]),
    kind("anymultirange", "nummultirange", &["{}", "{[1,2)}", "{[1.0,2)}", "{[1.00,2.0)}", "{(1,2)}", "{[1,2),[3,4)}", "{[1,2),[3.0,4)}"]),
    kind("anyrange", "numrange", &["empty", "(,)", "[1,2)", "[1.0,2)", "[1,2.00)", "(1,2)", "[1,2]"]),
    kind("anyrange", "ci_range", &["empty", "[a,b)", "[A,b)", "[a,B)", "(a,b)", "[á,b)"]),
    kind("bigint", "bigint", &["-1", "0", "1", "2", "3", "4294967296", "9223372036854775807"]),
    kind("bit", "bit(3)", &["000", "001", "010", "100"]),
    kind("bit varying", "varbit", &["", "0", "00", "000", "1", "10"]),
    kind("boolean", "boolean", &["t", "f"]),
    kind("bytea", "bytea", &["", "\\x00", "\\x0000", "\\x61", "\\x41"]),
    kind("character", "bpchar", &["", " ", "a", "a ", "a  ", "A", "b "]),
    kind("character", "char(3)", &["", "a", "a  ", "A", "b"]),
    kind("character", "char(3) COLLATE ci", &["", "a", "A", "á ", "b", "B"]),
    kind("citext", "citext", &["a", "A", "ab", "aB", "AB", "é", "É", ""]),
    Kind { class: "citext", definition: "citext", index: "k text_pattern_ops", texts: &["a", "A", "ab", "aB", "AB", ""] },
    kind("cube", "cube", &["(0)", "(-0)", "(1)", "(1.0)", "(1),(2)", "(2),(1)", "(0,0)", "(-0,0)", "()"]),
    kind("date", "date", &["infinity", "-infinity", "2024-02-29", "2024-03-01", "0001-01-01 BC"]),
    kind("double precision", "float8", &["0", "-0", "NaN", "1", "1.0000000000000002", "Infinity", "-1"]),
    kind("ean13", "ean13", &["0220356483481", "9780393040029", "9780393040029!"]),
    kind("inet", "inet", &["10.0.0.1", "10.0.0.1/32", "10.0.0.1/8", "10.0.0.0/8", "::1", "::ffff:10.0.0.1"]),
    kind("inet", "cidr", &["10.0.0.1", "10.0.0.0/8", "10.0.0.0/9", "::1"]),
    kind("integer", "integer", &["-1", "0", "1", "2", "3", "4", "2147483647", "-2147483648"]),
    kind("interval", "interval", &["24:00:00", "1 day", "1 mon", "30 days", "720:00:00", "1 mon -1 day 24:00:00", "0", "1 year", "360 days", "12 mons"]),
    kind("isbn", "isbn", &["0-393-04002-X", "9780393040029", "978-0-11-000533-4!"]),
    kind("isbn13", "isbn13", &["978-0-393-04002-9", "0-393-04002-X", "978-0-11-000533-4!"]),
    kind("ismn", "ismn", &["979-0-060-11561-5", "M-060-11561-5", "979-0-2600-0043-8"]),
    kind("ismn13", "ismn13", &["979-0-060-11561-5", "M-060-11561-5", "979-0-2600-0043-8"]),
    kind("issn", "issn", &["1436-4522", "9771436452008", "0378-5955"]),
    kind("issn13", "issn13", &["1436-4522", "9771436452008", "0378-5955"]),
    kind("jsonb", "jsonb", &["1", "1.0", "1.00", "{\"a\": 1}", "{\"a\": 1.0}", "[1]", "[1.0]", "[]", "null", "\"1\""]),
    kind("ltree", "ltree", &["", "a", "A", "a.b", "a.B", "A.b"]),
    kind("macaddr", "macaddr", &["08:00:2b:01:02:03", "08:00:2b:01:02:04", "08-00-2b-01-02-03"]),
    kind("macaddr8", "macaddr8", &["08:00:2b:01:02:03", "08:00:2b:ff:fe:01:02:03", "08:00:2b:ff:fe:01:02:04"]),
    kind("money", "money", &["0", "-0.01", "0.01", "1"]),
    kind("name", "name", &["", "a", "A", "a ", "é"]),
    kind("numeric", "numeric", &["1", "1.0", "1.00", "0", "0.000", "NaN", "Infinity", "10", "10.0", "2", "1e-30", "-1"]),
    kind("numeric", "numeric(6,2)", &["1", "1.0", "1.00", "0", "NaN", "10", "2", "1.01"]),
    kind("numeric", "price", &["1", "1.0", "1.00", "0", "0.0", "2"]),
    kind("oid", "oid", &["0", "1", "4294967295"]),
    kind("oid", "regtype", &["-", "integer", "text", "mood"]),
    kind("oidvector", "oidvector", &["", "1", "1 2", "2 1"]),
    kind("pg_lsn", "pg_lsn", &["0/0", "0/1", "1/0"]),
    kind("real", "float4", &["0", "-0", "NaN", "1", "1.0000001", "-Infinity"]),
    kind("record", "pair", &["(1,a)", "(1.0,a)", "(1,A)", "(1.00,A)", "(,)", "(1,)", "(,a)"]),
    kind("seg", "seg", &["1", "1.0", "1.00", "~1", "<1", "1..2", "1.0..2", "1..", "..1"]),
    kind("smallint", "smallint", &["-1", "0", "1", "32767"]),
    kind("text", "text", &["a", "A", "a ", "", "á", "a\u{301}", "\\N"]),
    kind("text", "varchar(4)", &["a", "A", "a ", "", "á"]),
    kind("text", "text COLLATE ci", &["a", "A", "á", "Á", "a\u{301}", "b", "B", ""]),
    kind("text", "text COLLATE \"und-x-icu\"", &["a", "A", "á", "a\u{301}", ""]),
    Kind { class: "text", definition: "text COLLATE ci", index: "k COLLATE \"C\"", texts: &["a", "A", "á", "Á", "b", "B"] },
    Kind { class: "text", definition: "text", index: "k COLLATE ci", texts: &["a", "A", "á", "Á", "b", "B"] },
    kind("tid", "tid", &["(0,1)", "(1,0)", "(0,2)"]),
    kind("time with time zone", "timetz", &["00:00:00+00", "01:00:00+01", "24:00:00+00", "12:00:00+02", "12:00:00+01:59:59"]),
    kind("time without time zone", "time", &["00:00:00", "24:00:00", "12:00:00.000001"]),
    kind("timestamp with time zone", "timestamptz", &["infinity", "2024-01-01 00:00:00+00", "2024-01-01 01:00:00+01", "2024-01-01 00:00:00.000001+00"]),
    kind("timestamp without time zone", "timestamp", &["infinity", "2024-01-01", "2024-01-01 00:00:00.000001"]),
    kind("tsquery", "tsquery", &["a", "a:*", "a:A", "a:B", "a & b", "b & a", "!a", ""]),
    kind("tsvector", "tsvector", &["a", "a:1", "a:1A", "a:1B", "a:1,2", "a b", ""]),
    kind("upc", "upc", &["220356483481", "012345678905"]),
    kind("uuid", "uuid", &["00000000-0000-0000-0000-000000000000", "00000000-0000-0000-0000-000000000001"]),
    kind("xid8", "xid8", &["0", "1", "18446744073709551615"]),
];

/// How many kinds share a world.
const KINDS_TOGETHER: usize = 13;

/// How many changes of keys a schedule makes, as a rule.
const CHANGES_OF_SCHEDULE: usize = 500;

#[derive(Clone, Debug)]
enum Step {
    /// Changes of one table: which, and of which two keys.
    Changes(usize, Vec<(Change, usize, usize)>),
    Export(usize),
    Import(usize, &'static str),
    /// Export and import, and compare.
    Follow(usize),
    /// Everything, or from one batch to another.
    Compact(usize, Option<(usize, usize)>),
    Expire(usize),
    /// Begins anew with an empty destination, with or without indexes.
    BeginAnew(usize, bool),
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Upsert,
    Delete,
    Replace,
    Move,
    Rename,
    RollBack,
    Touch,
}

impl Kind {
    fn value(&self, nth: usize) -> String {
        let type_name = self.definition.split(" COLLATE").next().unwrap_or_default();
        format!("'{}'::{type_name}", self.texts[nth % self.texts.len()])
    }

    fn create_table(&self, nth: usize, has_index: bool) -> String {
        let Kind { definition, index, .. } = self;
        let index = format!("CREATE UNIQUE INDEX t{nth}_key ON t{nth} ({index});");
        let index = if has_index { index } else { String::new() };
        format!("CREATE TABLE t{nth} (k {definition} NOT NULL, v int); {index}")
    }

    /// The statement that makes a change. None violates the index.
    fn sql(&self, table: &str, change: Change, a: usize, b: usize) -> String {
        let (a, b, index) = (self.value(a), self.value(b), self.index);
        let collate =
            index.split_once("COLLATE").map(|(_, name)| format!("COLLATE {name}")).unwrap_or_default();
        let one = |key: &str| format!("ctid = (SELECT ctid FROM {table} WHERE k = {key} LIMIT 1)");
        let upsert = format!(
            "INSERT INTO {table} VALUES ({a}, 1) ON CONFLICT ({index}) DO UPDATE SET k = EXCLUDED.k, v = {table}.v + 1"
        );
        match change {
            Change::Upsert => upsert,
            Change::Delete => format!("DELETE FROM {table} WHERE {}", one(&a)),
            Change::Replace => format!(
                "BEGIN; DELETE FROM {table} WHERE {}; INSERT INTO {table} VALUES ({b}, 0) ON CONFLICT DO NOTHING; COMMIT",
                one(&a)
            ),
            Change::Move => format!(
                "UPDATE {table} SET k = {b} WHERE {} AND NOT EXISTS (SELECT FROM {table} WHERE k = {b} {collate})",
                one(&a)
            ),
            Change::Rename => format!(
                "UPDATE {table} SET k = {b} WHERE {} AND k = {b} {collate}
                    AND NOT EXISTS (SELECT FROM {table} WHERE concat(k) COLLATE \"C\" = concat({b}))",
                one(&a)
            ),
            Change::RollBack => format!("BEGIN; {upsert}; ROLLBACK"),
            Change::Touch => format!("UPDATE {table} SET v = v + 1"),
        }
    }
}

/// A source with some kinds of keys, and what schedules on it leave to the next one.
struct World {
    name: String,
    kinds: &'static [Kind],
    source: Database,
    client: Client,
    schedules: u32,
    script: String,
}

/// What one schedule works with: a store, and for each of two targets a destination.
struct Scene {
    store: Store,
    targets: [String; 2],
    copies: [String; 2],
}

/// Makes a database with tables. Their DDL comes first: it runs into no event trigger then.
fn make(cluster: &Cluster, name: &str, ddl: &str, store: &Store) -> Database {
    cluster.create_database(name);
    let database = Database::of(cluster, name, store);
    database.run(ddl);
    database.run("CREATE EXTENSION pg_table_export");
    database
}

fn connect(database: &Database) -> Client {
    let mut client = database.client();
    let settings = "SET pg_table_export.restart_when_behind = on; SET statement_timeout = '60s'";
    client.batch_execute(settings).unwrap_or_else(|error| panic!("{error}"));
    client
}

impl World {
    fn new(name: &str, kinds: &'static [Kind]) -> World {
        let store = Store::new();
        let tables = |has_index| {
            let tables = kinds.iter().enumerate().map(|(nth, kind)| kind.create_table(nth, has_index));
            format!("{TYPES} {}", tables.collect::<String>())
        };
        let source = make(&SOURCE, name, &tables(true), &store);
        let track = |nth| format!("SELECT tx_track('t{nth}', key_index => 't{nth}_key');");
        source.run(&(0..kinds.len()).map(track).collect::<String>());
        // Destinations are made from these.
        make(&COPY, &format!("{name}_key"), &tables(true), &store);
        make(&COPY, &format!("{name}_bare"), &tables(false), &store);
        let client = connect(&source);
        World { name: name.to_owned(), kinds, source, client, schedules: 0, script: String::new() }
    }

    fn ask(&mut self, sql: &str) -> Result<String, TestCaseError> {
        self.script += &format!("source: {sql}\n");
        query(&mut self.client, sql).map_err(|error| TestCaseError::fail(refusal(&error).to_string()))
    }

    fn run_schedule(&mut self, steps: &[Step]) -> Result<(), TestCaseError> {
        self.schedules += 1;
        self.script.clear();
        let (name, nth) = (self.name.clone(), self.schedules);
        let scene = Scene {
            store: Store::new(),
            targets: ["near", "far"].map(|target| format!("{target}_{nth}")),
            copies: ["near", "far"].map(|target| format!("{name}_{nth}_{target}")),
        };
        let tables = (0..self.kinds.len()).map(|nth| format!("t{nth}")).collect::<Vec<_>>().join(", ");
        self.ask(&format!("TRUNCATE {tables}"))?;
        for target in 0..2 {
            self.begin_anew(&scene, target, true)?;
            self.follow(&scene, target)?;
        }
        for step in steps {
            self.take(&scene, step)?;
        }
        self.compact(&scene, 0, None)?;
        self.begin_anew(&scene, 0, true)?;
        for target in 0..2 {
            self.follow(&scene, target)?;
            COPY.psql("postgres", &format!("DROP DATABASE {}", scene.copies[target]));
        }
        Ok(())
    }

    fn take(&mut self, scene: &Scene, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Changes(table, changes) => {
                let (nth, kinds) = (table % self.kinds.len(), self.kinds);
                changes.iter().try_for_each(|&(change, a, b)| {
                    self.ask(&kinds[nth].sql(&format!("t{nth}"), change, a, b)).map(drop)
                })
            }
            Step::Export(target) => self.export(scene, *target),
            Step::Import(target, mode) => self.import(scene, *target, mode),
            Step::Follow(target) => self.follow(scene, *target),
            Step::Compact(target, run) => self.compact(scene, *target, *run),
            Step::Expire(target) => {
                let arguments = scene.arguments(*target, ", older_than => '0', keep_batches => 0");
                self.ask(&format!("SELECT * FROM tx_expire{arguments}")).map(drop)
            }
            Step::BeginAnew(target, has_index) => self.begin_anew(scene, *target, *has_index),
        }
    }

    fn export(&mut self, scene: &Scene, target: usize) -> Result<(), TestCaseError> {
        self.ask(&format!("SELECT * FROM tx_export{}", scene.arguments(target, ""))).map(drop)
    }

    fn import(&mut self, scene: &Scene, target: usize, mode: &str) -> Result<(), TestCaseError> {
        let sql =
            format!("SELECT * FROM tx_import{}", scene.arguments(target, &format!(", mode => '{mode}'")));
        self.script += &format!("destination {target}: {sql}\n");
        let mut client = connect(&scene.copy(target));
        query(&mut client, &sql).map_err(|error| TestCaseError::fail(refusal(&error).to_string()))?;
        Ok(())
    }

    fn follow(&mut self, scene: &Scene, target: usize) -> Result<(), TestCaseError> {
        self.export(scene, target)?;
        self.import(scene, target, "merge")?;
        self.compare(scene, target)
    }

    fn compare(&mut self, scene: &Scene, target: usize) -> Result<(), TestCaseError> {
        let tables = (0..self.kinds.len()).map(|nth| format!("SELECT {nth}, concat(k), v FROM t{nth}"));
        let all = tables.collect::<Vec<_>>().join(" UNION ALL ");
        prop_assert_eq!(rows(&self.source, &all), rows(&scene.copy(target), &all));
        Ok(())
    }

    fn compact(
        &mut self,
        scene: &Scene,
        target: usize,
        run: Option<(usize, usize)>,
    ) -> Result<(), TestCaseError> {
        let numbers = scene.numbers(target);
        let further = match run {
            // The batch before the run is still there.
            Some((a, b)) if numbers.len() > 2 => {
                let (a, b) = (1 + a % (numbers.len() - 1), 1 + b % (numbers.len() - 1));
                format!(", first => {}, last => {}", numbers[a.min(b)], numbers[a.max(b)])
            }
            Some(_) => return Ok(()),
            None => String::new(),
        };
        let sql = format!("SELECT * FROM tx_compact{}", scene.arguments(target, &further));
        self.script += &format!("source: {sql}\n");
        match query(&mut self.client, &sql).map_err(|error| refusal(&error)) {
            Err(refusal) if refusal.sqlstate != "40001" => Err(TestCaseError::fail(refusal.to_string())),
            // Or the same run has been compacted before.
            _ => Ok(()),
        }
    }

    fn begin_anew(&mut self, scene: &Scene, target: usize, has_index: bool) -> Result<(), TestCaseError> {
        self.script += &format!("destination {target}: begins anew, index: {has_index}\n");
        let (copy, template) = (&scene.copies[target], if has_index { "key" } else { "bare" });
        COPY.psql(
            "postgres",
            &format!(
                "DROP DATABASE IF EXISTS {copy} WITH (FORCE);\nCREATE DATABASE {copy} TEMPLATE {}_{template}",
                self.name
            ),
        );
        Ok(())
    }
}

impl Scene {
    fn copy(&self, target: usize) -> Database {
        Database::of(&COPY, &self.copies[target], &self.store)
    }

    fn arguments(&self, target: usize, further: &str) -> String {
        format!("('{}', store => '{}'{further})", self.targets[target], self.store.url())
    }

    /// The numbers of the batches in the store.
    fn numbers(&self, target: usize) -> Vec<u64> {
        let files = self.store.files();
        let manifest = |path: &std::path::PathBuf| {
            let name = path.strip_prefix(&self.targets[target]).ok()?.strip_prefix("manifest").ok()?;
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        };
        files.iter().filter_map(manifest).collect()
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let target = 0..2usize;
    let change = prop_oneof![
        6 => Just(Change::Upsert),
        3 => Just(Change::Delete),
        4 => Just(Change::Replace),
        3 => Just(Change::Move),
        4 => Just(Change::Rename),
        1 => Just(Change::RollBack),
        1 => Just(Change::Touch),
    ];
    let changes = vec((change, any::<usize>(), any::<usize>()), 1..40);
    let mode = prop_oneof![2 => Just("merge"), 1 => Just("append")];
    prop_oneof![
        20 => (any::<usize>(), changes).prop_map(|(table, changes)| Step::Changes(table, changes)),
        6 => target.clone().prop_map(Step::Export),
        3 => (target.clone(), mode).prop_map(|(target, mode)| Step::Import(target, mode)),
        2 => target.clone().prop_map(Step::Follow),
        3 => (target.clone(), proptest::option::weighted(0.7, any::<(usize, usize)>()))
            .prop_map(|(target, run)| Step::Compact(target, run)),
        1 => target.clone().prop_map(Step::Expire),
        1 => (target, any::<bool>()).prop_map(|(target, has_index)| Step::BeginAnew(target, has_index)),
    ]
}

fn try_schedules(name: &str, kinds: &'static [Kind], schedules: u32, random: &mut Random) {
    let world = RefCell::new(Some(World::new(name, kinds)));
    let config =
        Config { cases: schedules, max_shrink_iters: 1000, max_shrink_time: 120_000, ..Config::default() };
    random.run(config, &vec(steps(), 40..60), |steps| {
        let mut world = world.borrow_mut();
        let Some(world) = world.as_mut() else { return Err(TestCaseError::reject("there is no world")) };
        let outcome = world.run_schedule(&steps);
        if outcome.is_err() {
            // A transaction may be open in it.
            world.client = connect(&world.source);
        }
        outcome.map_err(|reason| TestCaseError::fail(format!("{reason}\n{}", world.script)))
    });
}

fn key_changes() -> usize {
    from_environment("KEY_CHANGES", 2500)
}

#[test]
fn keys_that_are_nearly_equal_follow() {
    let mut random = Random::seeded();
    let worlds = KINDS.chunks(KINDS_TOGETHER).enumerate().collect::<Vec<_>>();
    let schedules = key_changes().div_ceil(worlds.len() * CHANGES_OF_SCHEDULE) as u32;
    scope(|scope| {
        for (nth, kinds) in worlds {
            let mut random = random.fork();
            scope.spawn(move || try_schedules(&format!("near_{nth}"), kinds, schedules, &mut random));
        }
    });
}

#[test]
fn every_type_that_can_be_a_key_is_tried() {
    let database = make(&SOURCE, "near_types", TYPES, &Store::new());
    let classes = "SELECT DISTINCT format_type(c.opcintype, NULL)
                     FROM pg_opclass AS c JOIN pg_am AS a ON a.oid = c.opcmethod
                    WHERE a.amname = 'btree' AND c.opcdefault";
    let classes = database.text(classes);
    let tried = KINDS.iter().map(|kind| kind.class).collect::<BTreeSet<_>>();
    assert_eq!(classes.lines().collect::<BTreeSet<_>>(), tried);
}
