//! A soak: writers, DDL, an exporter and an importer for each of three targets, and sessions that compact
//! batches and remove them, while both servers are killed again and again.
//!
//! Nothing waits for the disk (`synchronous_commit = off`), so every kill of the source undoes commits, DDL
//! included. After each one the destinations may show nothing that the source has lost; then all export and
//! import once more, and end equal. One destination starts again with a compacted batch, and ends equal too.
//!
//! Half a minute as a test; `MINUTES=120 cargo test --test it soak:: -- --nocapture` for longer, `SEED=…` for
//! other moments.

mod ddl;
mod sessions;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::cluster::database::Database;
use crate::cluster::forgetful::FORGETFUL;
use crate::cluster::mirror::{assert_equal, rows};
use crate::cluster::random::{Random, from_environment};
use crate::cluster::{Cluster, Store};
use sessions::Session;

/// Beside the two tables of every source, one whose partitions come and go.
const PARTED: &str = "
    CREATE TABLE parted (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (100) TO (200);
    SELECT tx_track('parted');
";

const NAMES: [&str; 3] = ["items", "lines", "parted"];

/// The sessions that write, each known by its number. Those after the first four also do DDL.
const WRITERS: i32 = 4;

/// How often each writer gets a new range of numbers, so that its transactions can be told apart for ever.
const NUMBERS_PER_ROUND: i32 = 100_000;

/// What a destination does about batches that expire before it has applied them.
#[derive(Clone, Copy, PartialEq)]
enum WhenBehind {
    /// It begins again with the compacted full batch.
    Restart,
    /// No batch expires that it has not applied, as its receipt says.
    HoldBack,
}

/// A target, and the two databases that follow each other by it.
struct Route {
    from: Database,
    to: Database,
    /// How long it waits between two exports, and between two imports.
    pause: Duration,
    when_behind: WhenBehind,
}

impl Route {
    /// Three of them: one exports all the time, one now and then, one seldom.
    fn all(source: &Database, server: &Cluster, store: &Store) -> [Route; 3] {
        let route = |target, pause, when_behind| {
            let to = Database::destination(server, target, store).with_target(target);
            if when_behind == WhenBehind::Restart {
                to.run(&format!("ALTER DATABASE {target} SET pg_table_export.restart_when_behind = on"));
            }
            to.run(&source.text("SELECT tx_ddl('parted')"));
            Route { from: source.with_target(target), to, pause: Duration::from_millis(pause), when_behind }
        };
        [
            route("eager", 20, WhenBehind::Restart),
            route("reporting", 150, WhenBehind::Restart),
            route("tardy", 800, WhenBehind::HoldBack),
        ]
    }

    fn feed(&self) {
        self.from.export();
        self.import();
    }

    fn import(&self) {
        self.to.text(&sessions::import_sql(&self.to));
        self.assert_equal();
    }

    /// Compares the columns that the source has: a copy keeps those that were dropped there.
    fn assert_equal(&self) {
        for name in NAMES {
            let columns = self.from.text(&format!(
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
                  WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped"
            ));
            let query = format!("SELECT {columns} FROM {name}");
            assert_equal(&query, &rows(&self.from, &query), &rows(&self.to, &query));
        }
    }

    /// Starts the destination again from a compacted batch, which must show what all the others have shown.
    fn start_again(&self) {
        self.to.run(&self.to.call("tx_compact", ""));
        self.to.reset();
        self.import();
    }
}

/// Counts of what has happened.
#[derive(Default)]
struct Survived(Mutex<BTreeMap<String, usize>>);

impl Survived {
    fn count(&self, what: &str, times: usize) {
        *self.0.lock().unwrap().entry(what.to_owned()).or_default() += times;
    }

    /// Says whether there was a little of everything. On a busy machine this takes longer.
    fn enough(&self) -> bool {
        let counts = self.0.lock().unwrap();
        let all = ["exports", "imports", "full parts", "compactions", "expired batches", "DDL"];
        all.iter().all(|what| counts.get(*what).is_some_and(|&times| times > 5))
    }
}

impl fmt::Display for Survived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().unwrap().iter().try_for_each(|(what, times)| writeln!(f, "{times:>8} {what}"))
    }
}

/// Ends what a crash has left prepared, one way or the other.
fn resolve_prepared(source: &Database, random: &mut Random) -> usize {
    let gids = source.text("SELECT gid FROM pg_prepared_xacts");
    for gid in gids.lines() {
        let verb = if random.below(2) == 0 { "COMMIT" } else { "ROLLBACK" };
        source.run(&format!("{verb} PREPARED '{gid}'"));
    }
    gids.lines().count()
}

fn lines_since(database: &Database, number: i32) -> String {
    database.text(&format!("SELECT item, line FROM lines WHERE line > {number}"))
}

struct Soak {
    source_server: Cluster,
    destination_server: Cluster,
    source: Database,
    routes: [Route; 3],
    survived: Survived,
    random: Random,
    _store: Store,
}

impl Soak {
    fn start() -> Soak {
        let store = Store::new();
        let source_server = Cluster::start_with(&FORGETFUL);
        let receipts =
            ["shared_preload_libraries = 'pg_table_export'", "pg_table_export.leave_receipts = on"];
        let destination_server = Cluster::start_with(&[FORGETFUL.as_slice(), &receipts].concat());
        let source = Database::source(&source_server, "shop", &store);
        source.run(PARTED);
        let routes = Route::all(&source, &destination_server, &store);
        routes.iter().for_each(Route::feed);
        let (survived, random) = (Survived::default(), Random::seeded());
        Soak { source_server, destination_server, source, routes, survived, random, _store: store }
    }

    /// All are equal before it, and afterwards.
    fn round(&mut self, number: i32) {
        // So older lines need not be compared again.
        self.source.run("DELETE FROM lines");
        self.live_until_a_kill(number);
        // What a destination shows was committed, and stayed.
        let there = self.routes.each_ref().map(|route| lines_since(&route.to, number));
        self.survived.count("prepared transactions left", resolve_prepared(&self.source, &mut self.random));
        let here = lines_since(&self.source, number);
        let here = here.lines().collect::<HashSet<_>>();
        for lines in &there {
            if let Some(line) = lines.lines().find(|line| !here.contains(line)) {
                panic!("line {line} is at a destination, and lost at the source:\n{}", self.survived);
            }
        }
        self.source.run(ddl::ENABLE_TRIGGERS);
        self.routes.iter().for_each(Route::feed);
        self.routes[self.random.below(3) as usize].start_again();
        self.survived.count("rounds", 1);
    }

    /// Lets all sessions work, kills one server or both at a random moment, and starts them again.
    fn live_until_a_kill(&mut self, number: i32) {
        let sessions = self.sessions(number);
        let Soak { source_server, destination_server, survived, random, .. } = self;
        let victim = random.below(5);
        let moment = Duration::from_millis(100 + random.below(3000));
        let stop = AtomicBool::new(false);
        scope(|scope| {
            let (stop, survived) = (&stop, &*survived);
            let threads =
                sessions.into_iter().map(|session| scope.spawn(move || session.run(stop, survived)));
            let threads = threads.collect::<Vec<_>>();
            sleep(moment);
            if victim != 0 {
                source_server.kill();
                survived.count("kills of the source", 1);
            }
            if victim <= 1 {
                destination_server.kill();
                survived.count("kills of the destination", 1);
            }
            stop.store(true, Ordering::SeqCst);
            threads.into_iter().for_each(|thread| thread.join().expect("no failure"));
        });
        if victim != 0 {
            source_server.restart();
        }
        if victim <= 1 {
            destination_server.restart();
        }
    }

    fn sessions(&mut self, number: i32) -> Vec<Session> {
        let Soak { source, routes, random, .. } = self;
        let mut sessions = Vec::new();
        for writer in 0..WRITERS {
            sessions.push(sessions::writer(source, random.fork(), writer, number));
        }
        let which = random.below(3);
        if which != 0 {
            sessions.push(ddl::partitions(source, random.fork(), WRITERS, number));
        }
        if which == 1 {
            sessions.push(sessions::reader(source));
        } else {
            sessions.push(ddl::alterations(source, random.fork(), WRITERS + 1, number));
        }
        for route in routes.iter() {
            sessions.push(sessions::exporter(route));
            sessions.push(sessions::importer(route));
        }
        for keeper in [&*source, &routes[0].to] {
            sessions.push(sessions::keeper(keeper, routes, random.fork()));
        }
        sessions
    }
}

#[test]
fn servers_killed_at_random_moments_end_equal() {
    let minutes = from_environment("MINUTES", 0.5);
    let end = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut soak = Soak::start();
    let mut number = 0;
    while Instant::now() < end || !soak.survived.enough() {
        number += NUMBERS_PER_ROUND;
        soak.round(number);
    }
    println!("{}", soak.survived);
}
