//! A source and a destination whose servers forget what they committed when they are killed.

use super::database::Database;
use super::{Cluster, Store};

/// Commits that are not waited for stay in memory for as long as these let them.
pub const FORGETFUL: [&str; 2] = ["synchronous_commit = off", "wal_writer_delay = 10s"];

/// Two servers, the databases `shop` and `copy` in them, and the store between them.
pub struct Pair {
    pub source_server: Cluster,
    pub destination_server: Cluster,
    pub store: Store,
    pub source: Database,
    pub destination: Database,
}

impl Pair {
    /// Starts both servers, with the tables of [`Database::source`], which nothing has been exported of.
    pub fn start() -> Pair {
        let store = Store::new();
        let source_server = Cluster::start_with(&FORGETFUL);
        let destination_server = Cluster::start_with(&FORGETFUL);
        let source = Database::source(&source_server, "shop", &store);
        let destination = Database::destination(&destination_server, "copy", &store);
        Pair { source_server, destination_server, store, source, destination }
    }

    /// Writes all that both servers have committed to disk: it is not what they are to forget. What follows is
    /// at the beginning of a page of the WAL: a commit after the end of one wakes the WAL writer (xlog.c,
    /// XLogSetAsyncXactLSN).
    pub fn checkpoint(&self) {
        for database in [&self.source, &self.destination] {
            database.run("SELECT pg_switch_wal()");
            database.run("CHECKPOINT");
        }
    }

    /// Kills the source's server, and starts it again.
    pub fn crash_source(&mut self) {
        self.source_server.kill();
        self.source_server.restart();
    }
}
