//! Every step of an export and of an import is cut off in every way, and what follows must not notice.
//!
//! The installation has fault points (`src/fault.rs`): the backend waits at a step, and is killed there, with its server
//! or alone, terminated or cancelled. Nothing waits for the disk (`synchronous_commit = off`), so a server that was killed
//! may have forgotten what it had committed. Afterwards:
//!
//! - what was published can be imported, and shows what the source now holds, for the source has not changed since;
//! - what was not published never shows;
//! - an import is whole, or never was;
//! - the next export and import end equal.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::spawn;

use crate::cluster::database::{Database, query, refusal, wait_until};
use crate::cluster::forgetful::Pair;

/// How a backend that waits is cut off.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// `kill -9` of all processes of its server.
    Server,
    /// `kill -9` of it alone, after which its server restarts by itself.
    Backend,
    Terminate,
    Cancel,
}

const CUTS: [Cut; 4] = [Cut::Server, Cut::Backend, Cut::Terminate, Cut::Cancel];

/// Whose call it is: the source's export, or the destination's import.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

struct Rounds {
    pair: Pair,
    /// So that each round changes every row to something new.
    round: u32,
}

impl Rounds {
    /// Both are equal, and both segments of each shadow have been in use.
    fn start() -> Rounds {
        let mut rounds = Rounds { pair: Pair::start(), round: 10 };
        for _ in 0..3 {
            rounds.go_on();
        }
        rounds
    }

    /// Changes, exports and imports, and has all of it on disk.
    fn go_on(&mut self) {
        self.change();
        self.pair.source.feed(&self.pair.destination);
        self.pair.checkpoint();
    }

    /// Every kind of change, in transactions that do not wait for the disk.
    fn change(&mut self) {
        self.round += 1;
        let (round, id) = (self.round, self.round * 10);
        self.pair.source.run(&format!(
            "UPDATE items SET note = 'round {round}', amount = {round}; DELETE FROM lines WHERE item = {id} - 10"
        ));
        self.pair.source.run(&format!(
            "INSERT INTO items VALUES ({id}, 'new'), ({id} + 1, 'new'); INSERT INTO lines VALUES ({id}, {round}, now());
             UPDATE items SET id = {id} + 2 WHERE id = {id} + 1; DELETE FROM items WHERE id = {id} - 10"
        ));
    }

    /// Makes a call that is to wait at a fault point, and cuts it off there. Returns whether it got there at all.
    fn cut_off(&mut self, side: Side, point: &str, cut: Cut) -> bool {
        let (server, database, call) = match side {
            Side::Source => (&mut self.pair.source_server, &self.pair.source, self.pair.source.export_sql()),
            Side::Destination => (
                &mut self.pair.destination_server,
                &self.pair.destination,
                self.pair.destination.import_sql(),
            ),
        };
        let mut client = database.client();
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
        client.batch_execute(&format!("SET pg_table_export.wait_at = '{point}'")).expect("a fault point");
        let is_waiting =
            format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'");
        let calling = spawn(move || query(&mut client, &call).map_err(|error| refusal(&error).sqlstate));
        let mut waits = false;
        wait_until("the call waits, or has ended", || {
            waits = database.text(&is_waiting) == "1";
            waits || calling.is_finished()
        });
        if !waits {
            calling.join().expect("an end").expect("a call that passes no such point");
            return false;
        }
        match cut {
            Cut::Server => {
                server.kill();
                server.restart();
            }
            Cut::Backend => {
                let starts = || server.log().matches("ready to accept connections").count();
                let before = starts();
                let killed = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
                assert!(killed.is_ok_and(|status| status.success()), "the backend has gone before");
                wait_until("the server has restarted by itself", || starts() > before);
            }
            Cut::Terminate => database.run(&format!("SELECT pg_terminate_backend({pid}, 60000)")),
            Cut::Cancel => database.run(&format!("SELECT pg_cancel_backend({pid})")),
        }
        let sqlstate = calling.join().expect("an end").expect_err("a call that was cut off");
        let expected = match cut {
            // The connection is lost, and with it, perhaps, the reason.
            Cut::Server | Cut::Backend | Cut::Terminate => ["", "57P01", "57P02"].as_slice(),
            Cut::Cancel => &["57014"],
        };
        assert!(expected.contains(&sqlstate.as_str()), "{point}, {cut:?}: {sqlstate}");
        true
    }

    /// Cuts an export off at every point that it passes, after `prepare` has set the scene.
    fn cut_exports(&mut self, prepare: impl Fn(&mut Rounds)) -> BTreeSet<String> {
        let mut passed = BTreeSet::new();
        for point in fault_points(&self.pair.source, "Export") {
            for cut in CUTS {
                self.change();
                prepare(self);
                let (before, manifests) = (self.pair.destination.content(), self.manifests());
                if !self.cut_off(Side::Source, &point, cut) {
                    break;
                }
                passed.insert(point.clone());
                let is_published = self.manifests() > manifests;
                self.pair.destination.import();
                if is_published {
                    self.pair.source.assert_equal(&self.pair.destination);
                } else {
                    assert_eq!(
                        self.pair.destination.content(),
                        before,
                        "{point}, {cut:?}: what was not published shows"
                    );
                }
                self.go_on();
            }
            self.go_on();
        }
        passed
    }

    /// Cuts an import off at every point that it passes, after `prepare` has set the scene.
    fn cut_imports(&mut self, prepare: impl Fn(&mut Rounds)) -> BTreeSet<String> {
        let mut passed = BTreeSet::new();
        for point in fault_points(&self.pair.destination, "Import") {
            for cut in CUTS {
                self.change();
                prepare(self);
                let before = self.pair.destination.content();
                if !self.cut_off(Side::Destination, &point, cut) {
                    break;
                }
                passed.insert(point.clone());
                assert_eq!(self.pair.destination.content(), before, "{point}, {cut:?}: half an import shows");
                self.pair.destination.import();
                self.pair.source.assert_equal(&self.pair.destination);
                self.go_on();
            }
            self.go_on();
        }
        passed
    }

    fn manifests(&self) -> usize {
        self.pair
            .store
            .files()
            .iter()
            .filter(|file| file.extension().is_some_and(|suffix| suffix == "json"))
            .count()
    }
}

/// All fault points whose names begin so, as the server knows them.
fn fault_points(database: &Database, prefix: &str) -> Vec<String> {
    let all = database.text(&format!(
        "LOAD 'pg_table_export';
         SELECT point FROM pg_settings, unnest(enumvals) AS point
          WHERE name = 'pg_table_export.wait_at' AND starts_with(point, '{prefix}')"
    ));
    assert!(!all.is_empty(), "the installation has no fault points");
    all.lines().map(str::to_owned).collect()
}

#[test]
fn exports_cut_off_at_every_step() {
    let mut rounds = Rounds::start();
    let mut passed = rounds.cut_exports(|_| {});
    passed.extend(rounds.cut_exports(|rounds| {
        // A batch that is published, imported, and undone: the next export heals.
        let export = rounds.pair.source.export_sql();
        query(&mut rounds.pair.source.client(), &format!("BEGIN; {export}; ROLLBACK")).expect("an export");
        rounds.pair.destination.import();
        rounds.change();
    }));
    passed.extend(rounds.cut_exports(|rounds| drop(rounds.pair.source.reset())));
    let all = fault_points(&rounds.pair.source, "Export").into_iter().collect();
    assert_eq!(passed, all, "some fault points were never reached");
}

#[test]
fn imports_cut_off_at_every_step() {
    let mut rounds = Rounds::start();
    let mut passed = rounds.cut_imports(|rounds| drop(rounds.pair.source.export()));
    passed.extend(rounds.cut_imports(|rounds| {
        rounds.pair.source.reset();
        rounds.pair.source.export();
        rounds.change();
        rounds.pair.source.export();
    }));
    let all = fault_points(&rounds.pair.destination, "Import").into_iter().collect();
    assert_eq!(passed, all, "some fault points were never reached");
}
