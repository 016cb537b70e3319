//! The two lines that schedule export and import with Debian's pg_cron, on two servers, and nothing else.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cluster::database::Database;
use crate::cluster::{Cluster, Store};

/// Every job runs once a minute, so a change needs one minute, and two if the import ran before the export.
const TIMEOUT: Duration = Duration::from_secs(200);

/// A server on which pg_cron runs jobs in the database `shop`, and whose configured store is the given one.
fn server(store: &Store) -> Cluster {
    Cluster::start_with(&[
        "shared_preload_libraries = 'pg_cron'",
        "cron.database_name = 'shop'",
        "cron.use_background_workers = on",
        &format!("pg_table_export.store = '{}'", store.url()),
    ])
}

#[test]
fn a_change_arrives_by_schedule_alone() {
    let store = Store::new();
    let (sources, destinations) = (server(&store), server(&store));
    let source = Database::source(&sources, "shop", &store);
    let destination = Database::destination(&destinations, "shop", &store);
    for database in [&source, &destination] {
        database.run("CREATE EXTENSION pg_cron");
    }
    source.run("SELECT cron.schedule('* * * * *', $$SELECT * FROM tx_export('reporting')$$)");
    destination.run("SELECT cron.schedule('* * * * *', $$SELECT * FROM tx_import('reporting')$$)");
    source.run("UPDATE items SET note = 'committed' WHERE id = 7");

    let start = Instant::now();
    while source.content() != destination.content() {
        let runs = [&source, &destination].map(|database| {
            database
                .text("SELECT status, return_message FROM cron.job_run_details ORDER BY runid DESC LIMIT 3")
        });
        assert!(start.elapsed() < TIMEOUT, "not after {TIMEOUT:?}: {runs:#?}");
        sleep(Duration::from_millis(500));
    }
    assert_eq!(destination.text("SELECT note FROM items WHERE id = 7"), "committed");
    assert_eq!(
        source.text(
            "SELECT DISTINCT status FROM cron.job_run_details WHERE status NOT IN ('starting', 'running')"
        ),
        "succeeded"
    );
}
