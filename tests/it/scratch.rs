//! The scratch clusters that all other integration tests rest on.

use std::fs;

use crate::cluster::{Cluster, SOURCE, Store};

#[test]
fn a_server_runs_from_the_scratch_installation() {
    let scratch = SOURCE.psql("postgres", "SELECT setting FROM pg_config WHERE name = 'PKGLIBDIR'");
    assert_ne!(scratch.trim(), "/usr/lib/postgresql/15/lib");
    SOURCE.create_database("installed");
    SOURCE.psql("installed", "CREATE EXTENSION pg_table_export");
}

#[test]
fn a_shared_server_has_databases_of_any_encoding() {
    SOURCE.create_database_with("latin", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    assert_eq!(SOURCE.psql("latin", "SHOW server_encoding"), "LATIN1\n");
}

#[test]
fn clusters_are_strangers_and_a_copy_is_not() {
    let identifier = "SELECT system_identifier FROM pg_control_system()";
    let (one, two) = (Cluster::start(), Cluster::start());
    let copy = one.copy();
    assert_ne!(one.psql("postgres", identifier), two.psql("postgres", identifier));
    assert_eq!(one.psql("postgres", identifier), copy.psql("postgres", identifier));
    assert_eq!(copy.psql("postgres", "SELECT pg_is_in_recovery()"), "f\n");
}

#[test]
fn a_kill_loses_what_was_not_flushed_and_nothing_else() {
    let mut cluster = Cluster::start_with(&["wal_writer_delay = 10s"]);
    let count = "SELECT count(*) FROM t";
    cluster.psql("postgres", "CREATE TABLE t (i int)");
    cluster.psql("postgres", "INSERT INTO t VALUES (1)");
    cluster.psql("postgres", "SET synchronous_commit = off; INSERT INTO t VALUES (2)");
    assert_eq!(cluster.psql("postgres", count), "2\n");
    cluster.kill();
    cluster.restart();
    assert_eq!(cluster.psql("postgres", count), "1\n");
    assert!(cluster.log().contains("was not properly shut down"));
}

#[test]
fn a_stop_loses_nothing() {
    let mut cluster = Cluster::start();
    cluster
        .psql("postgres", "CREATE TABLE t (i int); SET synchronous_commit = off; INSERT INTO t VALUES (1)");
    cluster.configure(&["work_mem = '5MB'"]);
    cluster.stop();
    cluster.restart();
    assert_eq!(cluster.psql("postgres", "SELECT i FROM t; SHOW work_mem"), "1\n5MB\n");
}

#[test]
fn a_standby_follows_and_is_promoted() {
    let primary = Cluster::start();
    let standby = primary.standby();
    primary.psql("postgres", "CREATE TABLE t AS SELECT 1 AS i");
    standby.catch_up(&primary);
    assert_eq!(standby.psql("postgres", "SELECT i FROM t"), "1\n");
    standby.promote();
    standby.psql("postgres", "INSERT INTO t VALUES (2)");
    assert_eq!(standby.psql("postgres", "SELECT pg_walfile_name(pg_current_wal_lsn()) < '00000002'"), "f\n");
}

#[test]
fn a_folder_goes_with_its_value() {
    let cluster = Cluster::start();
    let store = Store::new();
    fs::write(store.path().join("file"), "x").expect("the store is there");
    let copy = store.copy();
    assert_eq!(copy.files(), store.files());
    let paths = [cluster.socket_dir().to_path_buf(), store.path().to_path_buf()];
    drop((cluster, store));
    assert!(paths.iter().all(|path| !path.exists()));
}
