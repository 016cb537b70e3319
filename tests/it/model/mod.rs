//! Random schedules of many sessions, run against real servers and against a model in memory.
//!
//! The model knows what every committed and open transaction shows, so it predicts each import exactly: the
//! destination shows all tables as the source had them at the instant of the newest batch. A step that
//! PostgreSQL would make wait, because an open transaction has locked what it needs, is left out; any other
//! that waits, or is refused, fails. In the end source and destinations are equal to the model.
//!
//! Transactions of every isolation level write and run DDL: partitions come and go, tables are rewritten,
//! columns are renewed, triggers are disabled and replaced. Batches are compacted and expire while destinations
//! are behind, and destinations begin anew. A refusal is predicted as well: of an export while triggers are
//! disabled, of rows that nobody has adopted, of a clone of the source that publishes.
//!
//! A failure shrinks to the shortest schedule that shows it, and is printed as what each session said.
//! `SCHEDULES=100000 SEED=… cargo test --test it model::` tries more, and others.

mod change;
mod state;
mod steps;
mod world;

use std::cell::RefCell;
use std::thread::scope;

use crate::cluster::Cluster;
use crate::cluster::random::{Random, from_environment};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError};

use steps::{Step, steps};
use world::{Servers, World};

/// One table is plain; in the other, rows move between partitions, whose columns are in another order.
const TABLES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v int);
    CREATE TABLE parted (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
    CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (MINVALUE) TO (12);
    CREATE TABLE parted_high (v int, id int NOT NULL);
    ALTER TABLE parted ATTACH PARTITION parted_high FOR VALUES FROM (12) TO (24);
    CREATE TABLE parted_top PARTITION OF parted FOR VALUES FROM (24) TO (MAXVALUE);
";
const COPIES: &str = "
    CREATE TABLE plain (id int PRIMARY KEY, v int, extra int);
    CREATE TABLE parted (id int PRIMARY KEY, v int, extra int);
";
const NAMES: [&str; 2] = ["plain", "parted"];
/// Nothing may wait; what does is ended, and fails.
const IMPATIENT: &str = "SET lock_timeout = '5s'; SET statement_timeout = '20s'";

fn try_schedules(schedules: u32, steps: impl Strategy<Value = Step>, random: &mut Random) {
    let servers = Servers {
        source: Cluster::start(),
        destination: Cluster::start_with(&["pg_table_export.leave_receipts = on"]),
        worlds: 0,
    };
    let world = RefCell::new(Some(World::new(servers)));
    let config =
        Config { cases: schedules, max_shrink_iters: 10_000, max_shrink_time: 300_000, ..Config::default() };
    random.run(config, &vec(steps, 1..60), |steps| {
        let Some(mut current) = world.take() else {
            return Err(TestCaseError::reject("an earlier one panicked"));
        };
        let outcome = current.run_schedule(&steps);
        let script = current.script.clone();
        // What has failed is not used again, and a table has 1600 columns in its life at most.
        let is_good = outcome.is_ok() && current.schedules < 500;
        world.replace(Some(if is_good { current } else { World::new(current.leave()) }));
        outcome.map_err(|reason| TestCaseError::fail(format!("{reason}\n{script}")))
    });
}

fn schedules() -> u32 {
    from_environment("SCHEDULES", 1000)
}

#[test]
fn destinations_show_what_the_source_has_shown() {
    let mut random = Random::seeded();
    let halves = [random.fork(), random.fork()];
    scope(|scope| {
        for mut random in halves {
            scope.spawn(move || try_schedules(schedules().div_ceil(2), steps(), &mut random));
        }
    });
}

#[test]
fn crashes_and_clones_change_nothing_of_that() {
    let steps = prop_oneof![30 => steps(), 1 => Just(Step::Crash), 1 => Just(Step::Clone)];
    try_schedules(schedules().div_ceil(20), steps, &mut Random::seeded().fork());
}
