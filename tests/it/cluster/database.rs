//! Databases that follow each other through a store: sources that track tables, destinations that import
//! them.
//!
//! A [`Database`] is only how to connect to one: servers may be killed, copied and promoted while it lives.
//! Every call uses a connection of its own. What a test expects to be refused comes back as a [`Refusal`].

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::{Cluster, Store, program};

/// The target of exports and imports, unless another is named.
pub const TARGET: &str = "reporting";

/// Two tables that are tracked together, and that one transaction writes to.
const TABLES: &str = "
    CREATE TABLE items (id int PRIMARY KEY, note text, amount numeric(12,2));
    CREATE TABLE lines (item int, line int, at timestamptz, PRIMARY KEY (item, line));
";

const NAMES: [&str; 2] = ["items", "lines"];

/// A database with the extension in it, and the store that it exports to or imports from.
#[derive(Clone)]
pub struct Database {
    config: Config,
    store: String,
    target: String,
}

/// Why a statement was refused.
#[derive(Debug)]
pub struct Refusal {
    pub sqlstate: String,
    pub message: String,
    pub detail: String,
    pub hint: String,
}

impl Database {
    /// Names a database that exists.
    pub fn of(cluster: &Cluster, name: &str, store: &Store) -> Database {
        Database { config: cluster.config(name), store: store.url(), target: TARGET.to_owned() }
    }

    /// Makes a database with the extension, and nothing else.
    pub fn empty(cluster: &Cluster, name: &str, store: &Store) -> Database {
        cluster.create_database(name);
        let database = Database::of(cluster, name, store);
        database.run("CREATE EXTENSION pg_table_export");
        database
    }

    /// Makes a database whose two tables are tracked and have ten rows each.
    pub fn source(cluster: &Cluster, name: &str, store: &Store) -> Database {
        let database = Database::empty(cluster, name, store);
        database.run(TABLES);
        database.run("SELECT tx_track('items'); SELECT tx_track('lines')");
        database.insert(1..=10);
        database
    }

    /// Makes a database with both tables, empty and not tracked.
    pub fn destination(cluster: &Cluster, name: &str, store: &Store) -> Database {
        let database = Database::empty(cluster, name, store);
        database.run(TABLES);
        database
    }

    /// Returns the same database with another store.
    pub fn with_store(&self, store: &Store) -> Database {
        Database { store: store.url(), ..self.clone() }
    }

    /// Returns the same database with the store that a URL names.
    pub fn with_url(&self, url: &str) -> Database {
        Database { store: url.to_owned(), ..self.clone() }
    }

    /// Returns the same database with another target.
    pub fn with_target(&self, target: &str) -> Database {
        Database { target: target.to_owned(), ..self.clone() }
    }

    /// The name of the target.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The URL of the store.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Connects.
    pub fn client(&self) -> Client {
        self.connect().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Connects, if the server is up.
    pub fn connect(&self) -> Result<Client, postgres::Error> {
        self.config.connect(NoTls)
    }

    /// Connects, and keeps the text of each message that the server sends beside answers.
    pub fn watched(&self) -> (Client, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let messages = seen.clone();
        let mut config = self.config.clone();
        config.notice_callback(move |notice| messages.lock().unwrap().push(notice.message().to_owned()));
        (config.connect(NoTls).unwrap_or_else(|error| panic!("{error}")), seen)
    }

    /// Runs statements.
    pub fn run(&self, sql: &str) {
        self.client().batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {}", refusal(&error)));
    }

    /// Returns the rows of a query as psql would with `-At`: columns separated by `|`, rows by newlines.
    pub fn text(&self, sql: &str) -> String {
        query(&mut self.client(), sql).unwrap_or_else(|error| panic!("{sql}: {}", refusal(&error)))
    }

    /// Runs what must be refused.
    pub fn refused(&self, sql: &str) -> Refusal {
        match query(&mut self.client(), sql) {
            Ok(rows) => panic!("{sql} was not refused, but returned {rows}"),
            Err(error) => refusal(&error),
        }
    }

    /// Inserts a row with each id into both tables, in one transaction.
    pub fn insert(&self, ids: impl IntoIterator<Item = i32>) {
        let ids = ids.into_iter().map(|id| format!("({id})")).collect::<Vec<_>>().join(",");
        self.run(&format!(
            "BEGIN; INSERT INTO items SELECT i, 'note ' || i || E' \\u00e4\\t\\\\', i / 3.0 FROM (VALUES {ids}) AS v (i);
             INSERT INTO lines SELECT i, 1, '2024-02-29 12:00Z'::timestamptz + i * interval '1 hour'
                                 FROM (VALUES {ids}) AS v (i);
             COMMIT"
        ));
    }

    /// Does every kind of change, to rows that are there and to new ones from `id` on.
    pub fn live_on(&self, id: i32) {
        self.insert(id..id + 5);
        self.run(&format!(
            "UPDATE items SET note = 'since {id}' WHERE id IN (1, {id});
             DELETE FROM items WHERE id = {id} + 1;
             UPDATE items SET id = -{id} WHERE id = {id} + 2;
             BEGIN; SAVEPOINT a; DELETE FROM lines WHERE item = {id} + 3; RELEASE a; COMMIT"
        ));
    }

    /// The call that exports.
    pub fn export_sql(&self) -> String {
        format!("SELECT batch, table_name, kind FROM tx_export('{}', store => '{}')", self.target, self.store)
    }

    /// The call that imports.
    pub fn import_sql(&self) -> String {
        format!("SELECT batch, table_name, kind FROM tx_import('{}', store => '{}')", self.target, self.store)
    }

    /// The call of another function for this target and store, with further arguments such as `, last => 3`.
    pub fn call(&self, function: &str, further: &str) -> String {
        format!("SELECT * FROM {function}('{}', store => '{}'{further})", self.target, self.store)
    }

    /// Waits until no call holds a target: a client learns of an error before the transaction has ended.
    pub fn wait_until_free(&self) {
        let holders = "SELECT count(*) FROM pg_locks
                        WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
                          AND classid = 'table_export.target'::regclass";
        wait_until("no call holds a target", || self.text(holders) == "0");
    }

    /// Waits until a session of this database waits for a lock. Other tests have databases beside it.
    pub fn wait_until_blocked(&self) {
        let blocked = "SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("a lock is waited for", || self.text(blocked) != "0");
    }

    /// The call that resets the target.
    pub fn reset_sql(&self) -> String {
        format!("SELECT tx_reset('{}', store => '{}')", self.target, self.store)
    }

    /// Exports, and returns `batch|table|kind` for each part.
    pub fn export(&self) -> String {
        self.text(&self.export_sql())
    }

    /// Imports, and returns `batch|table|kind` for each part.
    pub fn import(&self) -> String {
        self.text(&self.import_sql())
    }

    /// Resets the target.
    pub fn reset(&self) -> String {
        self.text(&self.reset_sql())
    }

    /// Exports what must be refused.
    pub fn export_refused(&self) -> Refusal {
        self.refused(&self.export_sql())
    }

    /// Imports what must be refused, and makes sure that nothing has changed by it.
    pub fn import_refused(&self) -> Refusal {
        let before = self.everything();
        let refusal = self.refused(&self.import_sql());
        assert_eq!(self.everything(), before, "changed in spite of {refusal}");
        refusal
    }

    /// Returns all rows of both tables at one instant, in order.
    pub fn content(&self) -> String {
        let rows = |name| format!("SELECT '{name}' AS t, r::text AS r FROM {name} AS r");
        let all = NAMES.map(rows).join(" UNION ALL ");
        self.text(&format!(
            "SET timezone = 'UTC'; SELECT * FROM ({all}) AS a ORDER BY t COLLATE \"C\", r COLLATE \"C\""
        ))
    }

    /// Returns the content, and what the catalog knows of what was applied.
    fn everything(&self) -> String {
        let receipts = self.text("SELECT target, number, id FROM table_export.receipt ORDER BY 1, 2");
        format!("{receipts}\n{}", self.content())
    }

    /// Exports here, imports there, and compares.
    pub fn feed(&self, destination: &Database) {
        self.export();
        destination.import();
        self.assert_equal(destination);
    }

    /// Compares both tables with those of a copy.
    pub fn assert_equal(&self, destination: &Database) {
        let (here, there) = (self.content(), destination.content());
        let only = |a: &str, b: &str| {
            let b = b.lines().collect::<std::collections::HashSet<_>>();
            a.lines().filter(|line| !b.contains(line)).take(10).collect::<Vec<_>>().join("\n")
        };
        assert!(
            here == there,
            "only at the source:\n{}\nonly at the destination:\n{}",
            only(&here, &there),
            only(&there, &here)
        );
    }
}

impl Cluster {
    /// Returns what pg_dump says of a database.
    pub fn dump(&self, database: &str) -> String {
        self.dump_with(database, &[])
    }

    /// Returns what pg_dump says of a database when called with options.
    pub fn dump_with(&self, database: &str, options: &[&str]) -> String {
        let mut pg_dump = program("pg_dump");
        pg_dump.args(["--username=postgres", "--dbname", database]).args(options);
        let output = pg_dump.arg("--host").arg(self.socket_dir()).output().unwrap();
        assert!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Restores an archive of pg_dump into a database that exists.
    pub fn restore(&self, database: &str, archive: &Path, options: &[&str]) {
        let mut pg_restore = program("pg_restore");
        pg_restore.args(["--username=postgres", "--exit-on-error", "--dbname", database]).args(options);
        let output = pg_restore.arg("--host").arg(self.socket_dir()).arg(archive).output().unwrap();
        assert!(output.status.success(), "pg_restore: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Refusal {
    /// The statements that the HINT says to run.
    pub fn statements(&self) -> &str {
        self.hint.rsplit("un: ").next().unwrap_or_default()
    }

    /// Makes sure of the SQLSTATE, and that each text is in the message, the DETAIL or the HINT.
    #[track_caller]
    pub fn expect(&self, sqlstate: &str, texts: &[&str]) {
        let all = self.to_string();
        assert_eq!(self.sqlstate, sqlstate, "{all}");
        for text in texts {
            assert!(all.contains(text), "\"{text}\" is not in: {all}");
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\nDETAIL: {}\nHINT: {}", self.sqlstate, self.message, self.detail, self.hint)
    }
}

/// Runs statements, and returns the rows of all of them as `-At` of psql would.
pub fn query(client: &mut Client, sql: &str) -> Result<String, postgres::Error> {
    let rows = client.simple_query(sql)?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let fields = (0..row.len()).map(|column| row.get(column).unwrap_or_default());
            Some(fields.collect::<Vec<_>>().join("|"))
        }
        _ => None,
    });
    Ok(rows.collect::<Vec<_>>().join("\n"))
}

/// Takes an error apart. One that does not come from the server, such as a lost connection, has no SQLSTATE.
pub fn refusal(error: &postgres::Error) -> Refusal {
    let Some(error) = error.as_db_error() else {
        return Refusal {
            sqlstate: String::new(),
            message: error.to_string(),
            detail: String::new(),
            hint: String::new(),
        };
    };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Refusal {
        sqlstate: error.code().code().to_owned(),
        message: error.message().to_owned(),
        detail: text(error.detail()),
        hint: text(error.hint()),
    }
}

/// Waits until something holds, a minute at most.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not after a minute: {what}");
        sleep(Duration::from_millis(10));
    }
}
