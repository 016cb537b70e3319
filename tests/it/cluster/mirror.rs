//! A source and its copy, in two databases that may be of two servers, with tables of any shape.
//!
//! Where [`super::database`] has two tables and every history, here is one history and every table: a [`Mirror`]
//! is given DDL, and afterwards compares both sides value by value, in the text form of COPY.

use std::collections::HashMap;
use std::io::Read;

use super::database::Database;
use super::{COPY, Cluster, SOURCE, Store};

/// The settings under which both sides are compared: nothing is rounded, nothing depends on a session.
const PLAIN: &str = "
    SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET search_path = public
";

/// A source and a copy of it, and the store between them.
pub struct Mirror {
    pub source: Database,
    pub copy: Database,
    pub store: Store,
}

impl Mirror {
    /// Makes two databases of the same name in the servers that all tests share.
    pub fn shared(name: &str) -> Mirror {
        Mirror::new(&SOURCE, &COPY, name)
    }

    /// The same, with tables that are tracked and whose copies have their first rows.
    pub fn tracking(name: &str, ddl: &str, tables: &[&str]) -> Mirror {
        let mirror = Mirror::shared(name);
        mirror.source.run(ddl);
        mirror.track(tables);
        mirror.follow("");
        mirror
    }

    /// Makes two databases of the same name, one in each server.
    pub fn new(from: &Cluster, to: &Cluster, name: &str) -> Mirror {
        Mirror::new_with(from, to, name, ["", ""])
    }

    /// Makes two databases of the same name, one in each server, with options for each.
    pub fn new_with(from: &Cluster, to: &Cluster, name: &str, options: [&str; 2]) -> Mirror {
        let store = Store::new();
        let (source, copy) =
            (database(from, name, &store, options[0]), database(to, name, &store, options[1]));
        Mirror { source, copy, store }
    }

    /// Runs statements on both sides.
    pub fn run(&self, sql: &str) {
        self.source.run(sql);
        self.copy.run(sql);
    }

    /// Tracks tables of the source, and makes them at the copy as `tx_ddl` says.
    pub fn track(&self, tables: &[&str]) {
        for table in tables {
            self.source.run(&format!("SELECT tx_track('{table}')"));
            self.copy.run(&self.source.text(&format!("SELECT tx_ddl('{table}')")));
        }
    }

    /// Returns the arguments of `tx_export` or `tx_import`: a target, and further ones such as `, format =>
    /// 'csv'`.
    pub fn arguments(&self, target: &str, further: &str) -> String {
        format!("('{}', store => '{}'{further})", target.replace('\'', "''"), self.store.url())
    }

    /// Exports, and returns `batch|table_name|kind|ids|records` for each part.
    pub fn export(&self, further: &str) -> String {
        let columns = "batch, table_name, kind, ids, records";
        self.source.text(&format!("SELECT {columns} FROM tx_export{}", self.arguments("copy", further)))
    }

    /// Imports, and returns `batch|table_name|kind|deleted|inserted` for each part.
    pub fn import(&self) -> String {
        let columns = "batch, table_name, kind, deleted, inserted";
        self.copy.text(&format!("SELECT {columns} FROM tx_import{}", self.arguments("copy", "")))
    }

    /// Exports and imports, and makes sure that this has moved something.
    #[track_caller]
    pub fn follow(&self, further: &str) {
        assert_ne!(self.export(further), "", "nothing was exported");
        assert_ne!(self.import(), "", "nothing was imported");
    }

    /// Makes sure that tx_verify finds all tables complete and equal, at both sides.
    #[track_caller]
    pub fn assert_verified(&self) {
        let arguments = self.arguments("copy", ", examples => 5");
        let wrong = format!("SELECT * FROM tx_verify{arguments} WHERE equal IS NOT TRUE OR NOT complete");
        for (side, database) in [("copy", &self.copy), ("source", &self.source)] {
            assert_eq!(database.text(&wrong), "", "verified at the {side}");
        }
    }

    /// Changes the source, and exports the change.
    #[track_caller]
    pub fn publish(&self, change: &str) {
        self.source.run(change);
        assert_ne!(self.export(""), "", "not captured: {change}");
    }

    /// Compares tables after a statement, which a failure names.
    #[track_caller]
    pub fn assert_same_after(&self, statement: &str, tables: &[&str]) {
        for table in tables {
            self.assert_same(&format!("SELECT $after${statement}$after$ AS after, t FROM {table} AS t"));
        }
    }

    /// Compares the rows of a query on both sides.
    #[track_caller]
    pub fn assert_same(&self, query: &str) {
        assert_equal(query, &rows(&self.source, query), &rows(&self.copy, query));
    }

    /// Compares whole tables.
    #[track_caller]
    pub fn assert_same_tables(&self, tables: &[&str]) {
        for table in tables {
            self.assert_same(&format!("SELECT * FROM {table}"));
        }
    }
}

/// Makes a database that has the extension and no tables.
pub fn database(cluster: &Cluster, name: &str, store: &Store, options: &str) -> Database {
    cluster.create_database_with(name, options);
    let database = Database::of(cluster, name, store);
    database.run("CREATE EXTENSION pg_table_export");
    database
}

/// Returns the rows of a query as COPY writes them, in order of that text.
pub fn rows(database: &Database, query: &str) -> Vec<String> {
    let mut client = database.client();
    client.batch_execute(PLAIN).unwrap();
    let mut text = String::new();
    client
        .copy_out(&format!("COPY ({query}) TO STDOUT"))
        .unwrap_or_else(|error| panic!("{query}: {error:?}"))
        .read_to_string(&mut text)
        .unwrap();
    let mut rows = text.lines().map(str::to_owned).collect::<Vec<_>>();
    rows.sort_unstable();
    rows
}

/// Fails with the rows that only one side has, shortened.
#[track_caller]
pub fn assert_equal(what: &str, source: &[String], copy: &[String]) {
    if source == copy {
        return;
    }
    let mut surplus = HashMap::<&str, i64>::new();
    source.iter().for_each(|row| *surplus.entry(row).or_default() += 1);
    copy.iter().for_each(|row| *surplus.entry(row).or_default() -= 1);
    let side = |is_wanted: fn(i64) -> bool| {
        let rows = surplus.iter().filter(|(_, count)| is_wanted(**count)).take(10);
        rows.map(|(row, _)| row.chars().take(300).collect()).collect::<Vec<String>>().join("\n")
    };
    panic!(
        "{what} differs\nonly at the source:\n{}\nonly at the copy:\n{}",
        side(|n| n > 0),
        side(|n| n < 0)
    );
}
