//! Partitions with bounds of every kind come and go at random, with rows, at every level, while their rows
//! change, and while three copies follow: one at once, one seldom and by columns of text, and one behind and
//! by compacted batches, whose partitions are others. They never differ.
//!
//! `BOUND_CHANGES=10000 SEED=… cargo test --test it bounds::` makes more changes, and others.

use std::fmt::Write;

use postgres::Client;

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::{Mirror, rows};
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{COPY, SOURCE};

const TYPES: &str = "
    CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('sad', 'ok', 'glad'); CREATE DOMAIN small AS int CHECK (VALUE < 100);
    CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
";

/// Types of the columns that a table is partitioned by, each with values in rising order.
#[rustfmt::skip]
const COLUMNS: &[(&str, &[&str])] = &[
    ("int", &["-2147483648", "-5", "0", "1", "2", "10"]),
    ("bigint", &["-9223372036854775808", "-1", "0", "9", "10", "9223372036854775807"]),
    ("smallint", &["-7", "-6", "0", "1", "2"]),
    ("date", &["-infinity", "0044-03-15 BC", "2024-02-29", "2024-03-01", "10000-01-01", "infinity"]),
    ("timestamp", &["-infinity", "0044-03-15 12:00 BC", "2024-02-29 23:59:59.999999", "2024-03-01", "2024-03-01 00:00:00.1", "infinity"]),
    ("timestamptz", &["-infinity", "0044-03-15 12:00+00 BC", "2024-03-31 00:59:59.5+00", "2024-03-31 01:00+00", "2024-10-27 00:30+00", "2024-10-27 01:30+00"]),
    ("timestamptz(0)", &["2024-03-31 00:59:59+00", "2024-03-31 01:00+00", "2024-10-27 00:30+00", "2024-10-27 01:30+00"]),
    ("uuid", &["00000000-0000-0000-0000-00000000000a", "7fffffff-0000-0000-0000-000000000000", "80000000-0000-0000-0000-000000000000", "a0000000-0000-0000-0000-000000000000"]),
    ("boolean", &["f", "t"]),
    ("mood", &["sad", "ok", "glad"]),
    ("text", &["", " ", "A", "a", "a b", "it's", "tab\tin", "{\"x\",NULL}", "NULL", "é"]),
    ("text COLLATE \"C\"", &["", "A", "B", "a", "back\\slash", "new\nline"]),
    ("text COLLATE nocase", &["A", "a", "b", "B"]),
    ("varchar(5)", &["", "a", "a ", "b"]),
    ("char(3)", &["a", "b", "c"]),
    ("citext", &["a", "A", "b"]),
    ("numeric", &["-1", "1", "1.0", "1.00", "2.5"]),
    ("float8", &["-Infinity", "-0", "0", "1.5"]),
    ("small", &["-1", "0", "1", "7"]),
];

/// So many of these come first that ranges can have.
const TOLD: usize = 11;

const SETTINGS: &[&str] = &[
    "SET TimeZone = 'Europe/Berlin'",
    "SET TimeZone = 'America/St_Johns'",
    "SET DateStyle = 'German'",
    "SET DateStyle = 'SQL, DMY'",
    "SET extra_float_digits = 0",
    "SET standard_conforming_strings = off",
    "RESET ALL",
];

/// How tables of one level are partitioned.
#[derive(Clone, Copy)]
enum Strategy {
    Range,
    /// By the columns of this level and of the next.
    RangeOfTwo,
    List,
    Hash,
}

/// A table whose partitions come and go. Its columns are k0, k1, k2 and note; those of the key are three.
struct World {
    random: Random,
    columns: [(&'static str, &'static [&'static str]); 3],
    strategies: [Strategy; 3],
    has_defaults: bool,
    tables: u32,
    client: Client,
    trace: Vec<String>,
}

impl World {
    fn one_of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.random.below(items.len() as u64) as usize]
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.random.below(one_in) == 0
    }

    fn any_value(&mut self, column: usize) -> String {
        let (_, values) = self.columns[column];
        let value = self.one_of(values);
        self.literal(column, value)
    }

    fn literal(&self, column: usize, value: &str) -> String {
        let value = value.replace('\\', r"\\").replace('\'', "''").replace('\t', r"\t").replace('\n', r"\n");
        format!("CAST(E'{value}' AS {})", self.columns[column].0.split(" COLLATE").next().unwrap())
    }

    /// The clause that makes a table of a level partitioned.
    fn partitioned(&self, level: usize) -> String {
        match self.strategies[level] {
            Strategy::Range => format!("PARTITION BY RANGE (k{level})"),
            Strategy::RangeOfTwo => format!("PARTITION BY RANGE (k{level}, k{})", (level + 1) % 3),
            Strategy::List => format!("PARTITION BY LIST (k{level})"),
            Strategy::Hash => format!("PARTITION BY HASH (k{level})"),
        }
    }

    fn columns(&self) -> String {
        let columns = (0..3).map(|column| format!("k{column} {} NOT NULL", self.columns[column].0));
        format!("{}, note text", columns.collect::<Vec<_>>().join(", "))
    }

    /// The bounds of a partition of a table of a level.
    fn bounds(&mut self, level: usize) -> String {
        if self.has_defaults && self.chance(8) && !matches!(self.strategies[level], Strategy::Hash) {
            return "DEFAULT".into();
        }
        match self.strategies[level] {
            Strategy::Hash => format!("FOR VALUES WITH (modulus 2, remainder {})", self.random.below(2)),
            Strategy::List => {
                let mut values = vec![self.any_value(level)];
                if self.chance(3) {
                    values.push(self.any_value(level));
                }
                if self.chance(8) {
                    values.push("NULL".into());
                }
                format!("FOR VALUES IN ({})", values.join(", "))
            }
            Strategy::Range => {
                let (from, to) = (self.bound(&[level], "MINVALUE"), self.bound(&[level], "MAXVALUE"));
                format!("FOR VALUES FROM ({from}) TO ({to})")
            }
            Strategy::RangeOfTwo => {
                let levels = [level, (level + 1) % 3];
                let (from, to) = (self.bound(&levels, "MINVALUE"), self.bound(&levels, "MAXVALUE"));
                format!("FOR VALUES FROM ({from}) TO ({to})")
            }
        }
    }

    fn bound(&mut self, columns: &[usize], open: &str) -> String {
        let (mut values, mut is_open) = (Vec::new(), None);
        for column in columns {
            if is_open.is_none() && self.chance(5) {
                is_open = Some(
                    if self.chance(4) { self.one_of(&["MINVALUE", "MAXVALUE"]) } else { open }.to_owned(),
                );
            }
            values.push(is_open.clone().unwrap_or_else(|| self.any_value(*column)));
        }
        values.join(", ")
    }

    /// A table below the tracked one, or that one, or one that is no partition; with its level.
    fn any_table(&mut self, which: &str) -> Option<(String, usize)> {
        let sql = format!(
            "SELECT c.relname, GREATEST((SELECT count(*) FROM pg_partition_ancestors(c.oid)) - 1, 0)
               FROM pg_class AS c
              WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND c.relname ~ '^t' AND {which}
              ORDER BY c.relname"
        );
        let found = query(&mut self.client, &sql).unwrap();
        let all = found.lines().collect::<Vec<_>>();
        if all.is_empty() {
            return None;
        }
        let (name, level) = self.one_of(&all).split_once('|').unwrap();
        Some((name.to_owned(), level.parse::<usize>().unwrap().min(2)))
    }

    fn row(&mut self) -> String {
        let values = (0..3).map(|column| self.any_value(column)).collect::<Vec<_>>();
        format!("({}, '{}')", values.join(", "), self.random.below(1000))
    }

    fn rows(&mut self) -> String {
        let count = 1 + self.random.below(3);
        (0..count).map(|_| self.row()).collect::<Vec<_>>().join(", ")
    }

    fn write(&mut self, table: &str) -> String {
        let column = self.random.below(3) as usize;
        let (old, new) = (self.any_value(column), self.any_value(column));
        match self.random.below(10) {
            0..5 => format!("INSERT INTO {table} VALUES {} ON CONFLICT DO NOTHING", self.rows()),
            5 => format!("DELETE FROM {table} WHERE k{column} = {old}"),
            6 => format!("UPDATE {table} SET note = note || '.' WHERE k{column} = {old}"),
            7 => format!("UPDATE {table} SET k{column} = {new} WHERE k{column} = {old}"),
            8 => format!("INSERT INTO {table} VALUES {}", self.rows()),
            _ if self.chance(6) => format!("TRUNCATE {table}"),
            _ => format!("DELETE FROM {table}"),
        }
    }

    /// A statement, which may fail.
    fn statement(&mut self) -> String {
        let partition = "c.relispartition";
        let apart = "NOT c.relispartition AND c.relname <> 't'";
        let parent = "c.relkind = 'p' AND (c.relispartition OR c.relname = 't' OR random() < 0.2)";
        let level_below = |level: usize| level + 1;
        match self.random.below(20) {
            0..6 => self.write("t"),
            6 => match self.any_table(partition) {
                Some((table, _)) => self.write(&table),
                None => String::new(),
            },
            7 | 8 => match self.any_table(apart) {
                Some((table, _)) => self.write(&table),
                None => String::new(),
            },
            9..13 => {
                let (parent, level) = self.any_table(parent).unwrap();
                let (bounds, name) = (self.bounds(level), self.name());
                let below = self.below(level_below(level));
                format!("CREATE TABLE {name} PARTITION OF {parent} {bounds} {below}")
            }
            13 => {
                let (name, level) = (self.name(), 1 + self.random.below(3) as usize);
                let below = self.below(level);
                format!("CREATE TABLE {name} ({}) {below}", self.columns())
            }
            14 | 15 => match (self.any_table(parent), self.any_table(apart)) {
                (Some((parent, level)), Some((table, _))) => {
                    format!("ALTER TABLE {parent} ATTACH PARTITION {table} {}", self.bounds(level))
                }
                _ => String::new(),
            },
            16 | 17 => match self.any_table(partition) {
                Some((table, _)) => self.detach(&table),
                None => String::new(),
            },
            18 => match self.any_table(partition) {
                Some((table, _)) => format!("DROP TABLE {table}"),
                None => String::new(),
            },
            _ => self.one_of(SETTINGS).to_owned(),
        }
    }

    fn detach(&mut self, table: &str) -> String {
        let parent =
            format!("SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = '{table}'::regclass");
        let parent = query(&mut self.client, &parent).unwrap();
        let how = if self.chance(4) { "CONCURRENTLY" } else { "" };
        format!("ALTER TABLE {parent} DETACH PARTITION {table} {how}")
    }

    fn name(&mut self) -> String {
        self.tables += 1;
        format!("t{}", self.tables)
    }

    fn below(&mut self, level: usize) -> String {
        if level < 3 && self.chance(2) { self.partitioned(level) } else { String::new() }
    }

    /// Runs some statements, each by itself or all in one transaction, which may be rolled back.
    fn change(&mut self) {
        if self.chance(2) {
            let statement = self.statement();
            self.run(&statement);
            return;
        }
        self.run("BEGIN");
        for _ in 0..1 + self.random.below(5) {
            self.run("SAVEPOINT s");
            let statement = self.statement();
            if !self.run(&statement) || self.chance(12) {
                self.run("ROLLBACK TO s");
            }
        }
        let end = if self.chance(8) { "ROLLBACK" } else { "COMMIT" };
        if !self.run(end) {
            self.run("ROLLBACK");
        }
    }

    fn run(&mut self, statement: &str) -> bool {
        if statement.is_empty() {
            return true;
        }
        let done = self.client.batch_execute(statement);
        let outcome = done.as_ref().map_or_else(|error| error.to_string(), |()| String::new());
        if std::env::var("BOUND_TRACE").is_ok() {
            println!(
                "{statement};  -- {outcome} {:?}",
                done.as_ref().err().and_then(|e| e.as_db_error().map(|e| e.message().to_owned()))
            );
        }
        if done.is_ok() {
            self.trace.push(format!("{statement};"));
        }
        done.is_ok()
    }
}

struct Copies {
    mirror: Mirror,
    /// Has columns of text only, and no index.
    texts: Database,
    /// Is partitioned in another way.
    behind: Database,
}

impl Copies {
    fn call(
        &self,
        world: &mut World,
        database: &Database,
        call: &str,
        target: &str,
        further: &str,
    ) -> String {
        let arguments = self.mirror.arguments(target, further);
        let sql = format!("SELECT kind, count(*) FROM {call}{arguments} GROUP BY kind");
        world.trace.push(format!("-- {call} {target}{further}"));
        match query(&mut database.client(), &sql) {
            Ok(kinds) => kinds,
            Err(error) => panic!("{call}: {error:?}\n{}", world.trace.join("\n")),
        }
    }

    fn assert_same(&self, world: &World, copy: &Database) {
        let (here, there) = (rows(&self.mirror.source, "SELECT * FROM t"), rows(copy, "SELECT * FROM t"));
        if here == there {
            return;
        }
        let mut report = String::new();
        for row in here.iter().filter(|row| !there.contains(row)) {
            writeln!(report, "missing {row}").unwrap();
        }
        for row in there.iter().filter(|row| !here.contains(row)) {
            writeln!(report, "extra {row}").unwrap();
        }
        panic!("{}\n{report}", world.trace.join("\n"));
    }

    fn assert_verified(&self, world: &World) {
        for database in [&self.mirror.source, &self.mirror.copy] {
            let arguments = self.mirror.arguments("copy", ", examples => 5");
            let wrong = format!("SELECT * FROM tx_verify{arguments} WHERE NOT equal");
            let wrong = database.text(&wrong);
            assert_eq!(wrong, "", "{}", world.trace.join("\n"));
        }
    }
}

/// Makes a table and its copies, and changes it. Returns how many parts had ranges or were full.
fn live(random: &mut Random, name: &str, changes: u64) -> (u64, u64) {
    let mut random = random.fork();
    // Most of those that ranges can have.
    let columns = [(); 3].map(|()| {
        let of = if random.below(4) > 0 { TOLD } else { COLUMNS.len() };
        COLUMNS[random.below(of as u64) as usize]
    });
    let strategies = [(); 3].map(|()| match random.below(10) {
        0..4 => Strategy::Range,
        4 | 5 => Strategy::RangeOfTwo,
        6..9 => Strategy::List,
        _ => Strategy::Hash,
    });
    let mirror = Mirror::shared(name);
    let client = mirror.source.client();
    let has_defaults = random.below(3) == 0;
    let mut world = World { random, columns, strategies, has_defaults, tables: 0, client, trace: Vec::new() };
    let [texts, behind] =
        ["texts", "behind"].map(|one| Mirror::new(&SOURCE, &COPY, &format!("{name}_{one}")).copy);
    for database in [&mirror.source, &mirror.copy, &behind] {
        database.run(TYPES);
    }
    let table = format!("CREATE TABLE t ({}, PRIMARY KEY (k0, k1, k2))", world.columns());
    world.run(&format!("{table} {}", world.partitioned(0)));
    mirror.source.run("SELECT tx_track('t')");
    for _ in 0..8 {
        let (bounds, name, below) = (world.bounds(0), world.name(), world.below(1));
        world.run(&format!("CREATE TABLE {name} PARTITION OF t {bounds} {below}"));
    }
    mirror.copy.run(&table);
    let of_settings =
        "ALTER DATABASE {} SET TimeZone = 'Asia/Kathmandu'; ALTER DATABASE {} SET DateStyle = 'SQL, DMY'";
    mirror.copy.run(&of_settings.replace("{}", name));
    texts.run("CREATE TABLE t (note text, k2 text, k1 text, k0 text)");
    behind.run(&format!(
        "{table} PARTITION BY HASH (k2);
         CREATE TABLE t_0 PARTITION OF t FOR VALUES WITH (modulus 2, remainder 0);
         CREATE TABLE t_1 PARTITION OF t FOR VALUES WITH (modulus 2, remainder 1)"
    ));
    let copies = Copies { mirror, texts, behind };
    follow(&mut world, &copies, changes)
}

fn follow(world: &mut World, copies: &Copies, changes: u64) -> (u64, u64) {
    let Copies { mirror, texts, behind } = copies;
    // There is a second batch, which compaction can begin with.
    for _ in 0..2 {
        copies.call(world, &mirror.source, "tx_export", "copy", ", even_if_unchanged => true");
    }
    let mut sent = (0, 0);
    for change in 0..changes {
        world.change();
        let is_last = change + 1 == changes;
        if world.chance(40) {
            let arguments = mirror.arguments("copy", "");
            world.trace.push("-- an export that is rolled back".into());
            mirror.source.run(&format!("BEGIN; SELECT FROM tx_export{arguments}; ROLLBACK"));
        }
        if world.chance(3) || is_last {
            let format = world.one_of(&["", ", even_if_unchanged => true"]);
            let kinds = copies.call(world, &mirror.source, "tx_export", "copy", format);
            sent.0 += u64::from(kinds.contains("changes"));
            sent.1 += u64::from(kinds.contains("full"));
            let mode = world.one_of(&["", ", mode => 'append'"]);
            copies.call(world, &mirror.copy, "tx_import", "copy", mode);
            copies.assert_same(world, &mirror.copy);
            mirror.copy.run("SELECT tx_protect('t')");
            if world.chance(4) {
                copies.assert_verified(world);
            }
        }
        if world.chance(25) || is_last {
            copies.call(world, &mirror.source, "tx_export", "other", "");
            let map = "SELECT t.k0, t.k1, t.k2, t.note FROM t";
            copies.call(world, texts, "tx_import", "other", "");
            let (here, there) = (rows(&mirror.source, map), rows(texts, map));
            assert_eq!(here, there, "{}", world.trace.join("\n"));
        }
        if world.chance(40) || is_last {
            // From the second batch on none is full.
            let first = world.one_of(&["", ", first => 2"]);
            copies.call(world, &mirror.source, "tx_compact", "copy", first);
            copies.call(world, behind, "tx_import", "copy", "");
        }
    }
    copies.call(world, behind, "tx_import", "copy", "");
    copies.assert_same(world, behind);
    sent
}

#[test]
fn copies_never_differ_whatever_partitions_come_and_go() {
    let changes = from_environment("BOUND_CHANGES", 300);
    let mut random = Random::seeded();
    let mut sent = (0, 0);
    for place in 0..changes / 100 {
        let (some, all) = live(&mut random, &format!("bounds_{place}"), 100);
        sent = (sent.0 + some, sent.1 + all);
    }
    println!("parts of changes: {}, full parts: {}", sent.0, sent.1);
    assert!(sent.0 > 0);
}
