//! All tests that need a server: one program, so that it is linked once and its tests share two clusters.
//!
//! `cargo test --test it forks::` runs the tests of one file.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

mod apply;
mod baseline;
mod batches;
mod bounds;
mod cancels;
mod cluster;
mod compaction;
mod cost;
mod crashes;
mod damage;
mod ddl;
mod destinations;
mod docs;
mod dump;
mod errors_of_postgres;
mod extension;
mod faults;
mod foreign;
mod forks;
mod generated;
mod health;
mod hidden;
mod keys;
mod members;
mod missing;
mod model;
mod names;
mod near_keys;
mod ownership;
mod plan;
mod protection;
mod random;
mod rate;
mod repair;
mod restrictions;
mod retention;
mod rights;
mod rights_table;
mod roundtrip;
mod schedule;
mod scratch;
mod script;
mod shadow;
mod soak;
mod stores;
mod subscription;
mod types;
mod untracking;
mod untrusted;
mod values;
mod verify;
mod writes;
