//! Destinations in use: tables with views, foreign keys, triggers and readers stay exact copies, and imports do
//! not disturb their use.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;
use std::time::{Duration, Instant};

use crate::cluster::database::{Database, query, refusal, wait_until};
use crate::cluster::mirror::{self, Mirror, rows};
use crate::cluster::{Cluster, SOURCE};

static COPY: LazyLock<Cluster> = LazyLock::new(|| Cluster::start_with(&["wal_level = logical"]));

const MODES: [&str; 2] = ["append", "merge"];

fn mirror(name: &str) -> Mirror {
    Mirror::new(&SOURCE, &COPY, name)
}

fn import_sql(mirror: &Mirror, mode: &str) -> String {
    format!("SELECT FROM tx_import{}", mirror.arguments("copy", &format!(", mode => '{mode}'")))
}

#[track_caller]
fn follow(mirror: &Mirror, mode: &str, change: &str) {
    mirror.publish(change);
    mirror.copy.run(&import_sql(mirror, mode));
}

#[test]
fn tables_may_refer_to_each_other_in_a_circle_and_be_referred_to() {
    for mode in MODES {
        let mirror = mirror(&format!("circle_{mode}"));
        mirror.source.run(
            "CREATE TABLE a (id int PRIMARY KEY, b int); CREATE TABLE b (id int PRIMARY KEY, a int);
             INSERT INTO a SELECT i, i FROM generate_series(1, 10) AS i; INSERT INTO b SELECT * FROM a",
        );
        mirror.track(&["a", "b"]);
        mirror.copy.run(
            "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b; ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a DEFERRABLE;
             CREATE TABLE own (id int PRIMARY KEY, a int REFERENCES a)",
        );
        follow(&mirror, mode, "SELECT");
        mirror.copy.run("INSERT INTO own VALUES (1, 1), (2, 2)");
        follow(
            &mirror,
            mode,
            "DELETE FROM a WHERE id = 1; UPDATE b SET a = 11 WHERE a = 1; INSERT INTO a VALUES (11, 1);
             UPDATE a SET id = -id WHERE id = 5; UPDATE b SET a = -5 WHERE a = 5",
        );
        mirror.assert_same_tables(&["a", "b"]);
        // As in logical replication, what refers to a row that goes is not asked.
        assert_eq!(rows(&mirror.copy, "SELECT a FROM own"), ["1", "2"]);
    }
}

#[test]
fn views_on_a_copy_keep_working() {
    for mode in MODES {
        let mirror = mirror(&format!("views_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int)");
        mirror.track(&["t"]);
        mirror.copy.run(
            "CREATE VIEW seen AS SELECT sum(v) FROM t; CREATE MATERIALIZED VIEW kept AS SELECT id, v FROM t;
             CREATE UNIQUE INDEX ON kept (id)",
        );
        follow(&mirror, mode, "INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i");
        follow(&mirror, mode, "UPDATE t SET v = 0 WHERE id > 50; DELETE FROM t WHERE id = 1");
        mirror.copy.run("REFRESH MATERIALIZED VIEW CONCURRENTLY kept");
        assert_eq!(mirror.copy.text("SELECT * FROM seen"), "1274");
        assert_eq!(rows(&mirror.copy, "SELECT * FROM kept"), rows(&mirror.source, "SELECT * FROM t"));
    }
}

#[test]
fn a_copy_may_be_published() {
    for mode in MODES {
        let mirror = mirror(&format!("published_{mode}"));
        mirror
            .source
            .run("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE plain (id int PRIMARY KEY)");
        mirror.track(&["t", "plain"]);
        mirror.copy.run("ALTER TABLE plain DROP CONSTRAINT plain_pkey");
        follow(&mirror, mode, "INSERT INTO t VALUES (1, 1), (2, 2); INSERT INTO plain VALUES (1), (2)");
        mirror.copy.run("CREATE PUBLICATION p FOR ALL TABLES");
        follow(&mirror, mode, "UPDATE t SET v = 3 WHERE id = 1; DELETE FROM t WHERE id = 2");
        mirror.assert_same_tables(&["t"]);
        mirror.source.run("DELETE FROM plain WHERE id = 1");
        mirror.export("");
        let import = import_sql(&mirror, mode);
        mirror.copy.refused(&import).expect("55000", &["\"plain\"", "replica identity", "publishes deletes"]);
        mirror.copy.run(&format!("ALTER TABLE plain REPLICA IDENTITY FULL; {import}"));
        mirror.assert_same_tables(&["plain"]);
    }
}

#[test]
fn columns_that_a_copy_does_not_have_can_be_ignored() {
    for mode in MODES {
        let mirror = mirror(&format!("ignored_{mode}"));
        mirror.source.run(
            "CREATE TABLE t (extra text, id int, v text, more int, k text, PRIMARY KEY (k, id));
             INSERT INTO t SELECT E'tab\\t and \\n' || i, i, E'v\\t' || i, i, E'k\\n' || i % 3 FROM generate_series(1, 100) AS i;
             SELECT tx_track('t')",
        );
        mirror.copy.run("CREATE TABLE t (k text, v text, id int, PRIMARY KEY (id, k))");
        mirror.export("");
        mirror
            .copy
            .refused(&import_sql(&mirror, mode))
            .expect("42703", &["column \"extra\"", "does not exist here"]);
        let ignoring = format!(
            "SELECT FROM tx_import{}",
            mirror.arguments("copy", &format!(", mode => '{mode}', new_columns => 'ignore'"))
        );
        mirror.copy.run(&ignoring);
        mirror.assert_same("SELECT id, k, v FROM t");
        mirror.source.run(
            "UPDATE t SET v = NULL, extra = NULL WHERE id < 5; UPDATE t SET more = -1 WHERE id = 50; DELETE FROM t WHERE id = 7;
             UPDATE t SET id = -id WHERE id = 9; INSERT INTO t VALUES (NULL, 200, '', NULL, '')",
        );
        mirror.export("");
        mirror.copy.run(&ignoring);
        mirror.assert_same("SELECT id, k, v FROM t");
        mirror.source.run("UPDATE t SET v = 'csv' WHERE id = 60");
        mirror.export(", format => 'csv'");
        mirror
            .copy
            .refused(&ignoring)
            .expect("0A000", &["cannot be ignored in format csv", "extra, more", "format text"]);
        let adding = ignoring.replace("'ignore'", "'add'");
        mirror.copy.run(&adding);
        assert!(COPY.log().contains("whose unchanged rows may lack their values"), "there was no warning");
        mirror.source.run("SELECT tx_reset('copy', 't')");
        mirror.export("");
        mirror.copy.run(&adding);
        mirror.assert_same("SELECT id, k, v, extra, more FROM t");
        mirror.source.run("ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD part int NOT NULL DEFAULT 1; ALTER TABLE t ADD PRIMARY KEY (id, k, part);
                           SELECT tx_untrack('t'); SELECT tx_track('t')");
        mirror.export("");
        mirror.copy.refused(&ignoring).expect("42703", &["column \"part\""]);
    }
}

#[test]
fn a_mapped_copy_may_have_columns_of_domains() {
    for mode in MODES {
        let mirror = mirror(&format!("domains_{mode}"));
        let domains =
            "CREATE DOMAIN number AS int CHECK (VALUE < 1000); CREATE DOMAIN label AS text COLLATE \"C\"";
        mirror.run(domains);
        mirror.source.run(
            "CREATE TABLE t (id number PRIMARY KEY, name label NOT NULL, n number); SELECT tx_track('t')",
        );
        mirror.copy.run("CREATE SCHEMA other; CREATE TABLE other.people (label label, number number PRIMARY KEY, n number, own int DEFAULT 7)");
        mirror.copy.run(
            "SELECT tx_map('copy', 'public.t', 'other.people', '{\"id\": \"number\", \"name\": \"label\"}')",
        );
        let changes = [
            "INSERT INTO t SELECT i, 'name ' || i, i FROM generate_series(1, 50) AS i",
            "UPDATE t SET n = NULL WHERE id < 10; DELETE FROM t WHERE id = 20; UPDATE t SET id = id + 100 WHERE id = 30",
            "TRUNCATE t; INSERT INTO t VALUES (1, 'a', 1)",
        ];
        for change in changes {
            follow(&mirror, mode, change);
            assert_eq!(
                rows(&mirror.copy, "SELECT number, label, n FROM other.people"),
                rows(&mirror.source, "SELECT id, name, n FROM t")
            );
        }
        mirror.copy.run(
            "ALTER DOMAIN number DROP CONSTRAINT number_check; ALTER DOMAIN number ADD CHECK (VALUE < 5)",
        );
        mirror.source.run("INSERT INTO t VALUES (500, 'x', 500)");
        mirror.export("");
        mirror.copy.refused(&import_sql(&mirror, mode)).expect("23514", &["number", "While applying batch"]);
    }
}

/// A database that follows `source` and is followed itself, by the target of its own name.
fn second(mirror: &Mirror, name: &str) -> Database {
    let database = mirror::database(&COPY, name, &mirror.store, "");
    database.run(&mirror.source.text("SELECT tx_ddl('t')"));
    database
}

#[test]
fn a_copy_may_be_the_source_of_another() {
    for mode in MODES {
        let mirror = mirror(&format!("cascade_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int)");
        mirror.track(&["t"]);
        let last = second(&mirror, &format!("cascade_{mode}_last"));
        mirror.copy.run("SELECT tx_track('t')");
        let changes = [
            "INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i",
            "UPDATE t SET v = 0 WHERE id % 3 = 0; DELETE FROM t WHERE id % 7 = 0; UPDATE t SET id = -id WHERE id = 1",
            "TRUNCATE t; INSERT INTO t VALUES (1, 1)",
        ];
        for change in changes {
            follow(&mirror, mode, change);
            mirror.copy.run(&format!("SELECT FROM tx_export{}", mirror.arguments("last", "")));
            last.run(&format!("SELECT FROM tx_import{}", mirror.arguments("last", "")));
            assert_eq!(rows(&last, "SELECT * FROM t"), rows(&mirror.source, "SELECT * FROM t"), "{change}");
        }
    }
}

#[test]
fn a_circle_of_copies_comes_to_rest() {
    let mirror = mirror("circle_of_copies");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)");
    mirror.track(&["t"]);
    mirror.copy.run("SELECT tx_track('t')");
    let round = || {
        mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("there", "")));
        mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("there", "")));
        mirror.copy.run(&format!("SELECT FROM tx_export{}", mirror.arguments("back", "")));
        mirror.source.run(&format!("SELECT FROM tx_import{}", mirror.arguments("back", ", adopt => true")));
        mirror.source.text(&format!("SELECT count(*) FROM tx_export{}", mirror.arguments("there", "")))
    };
    round();
    mirror.source.run("UPDATE t SET v = 3 WHERE id = 1; INSERT INTO t VALUES (3, 3)");
    assert_eq!(round(), "0", "what comes back has changed nothing, so it is not sent again");
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn an_unlogged_copy_that_a_crash_has_emptied_is_noticed() {
    let mut server = Cluster::start();
    let mirror = Mirror::new(&SOURCE, &server, "unlogged");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
    mirror.track(&["t"]);
    mirror.copy.run("ALTER TABLE t SET UNLOGGED");
    follow(&mirror, "merge", "SELECT");
    follow(&mirror, "merge", "INSERT INTO t VALUES (2, 2)");
    mirror.assert_same_tables(&["t"]);
    server.restart();
    follow(&mirror, "merge", "UPDATE t SET v = 3 WHERE id = 2");
    mirror.assert_same_tables(&["t"]);
    server.kill();
    server.restart();
    assert_eq!(mirror.copy.text("SELECT count(*) FROM t"), "0");
    let import = import_sql(&mirror, "merge");
    mirror.copy.refused(&import).expect(
        "55000",
        &[
            "unlogged table \"public.t\" has lost what was imported into it",
            "after a crash",
            "SELECT tx_reset('copy');",
        ],
    );
    let may_have = "unlogged table \"public.t\" may have lost what was imported into it";
    mirror.copy.run("INSERT INTO t VALUES (7, 7)");
    mirror.copy.refused(&import).expect("55000", &[may_have, "its rows came afterwards"]);
    let again = format!("SELECT tx_reset{}; {import}", mirror.arguments("copy", ""));
    mirror.copy.run(&again);
    mirror.assert_same_tables(&["t"]);
    // It stays so when the table is logged afterwards.
    server.kill();
    server.restart();
    mirror.copy.run("ALTER TABLE t SET LOGGED");
    mirror.copy.refused(&import).expect("55000", &["\"public.t\" has lost what was imported into it"]);
    mirror.copy.run(&again);
    mirror.assert_same_tables(&["t"]);
    // Not if it was logged before the crash, and any batch was imported between them.
    mirror.source.run("CREATE TABLE other (id int PRIMARY KEY)");
    mirror.track(&["other"]);
    for (persistence, change) in
        [("UNLOGGED", "INSERT INTO t VALUES (4, 4)"), ("LOGGED", "INSERT INTO other VALUES (4)")]
    {
        mirror.copy.run(&format!("ALTER TABLE t SET {persistence}"));
        if persistence == "UNLOGGED" {
            mirror.copy.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
            mirror.source.run("SELECT tx_reset('copy')");
        }
        follow(&mirror, "merge", change);
    }
    server.kill();
    server.restart();
    follow(&mirror, "merge", "INSERT INTO t VALUES (5, 5)");
    mirror.assert_same_tables(&["t", "other"]);
}

#[test]
fn a_copy_may_have_indexes_and_columns_of_its_own() {
    for mode in MODES {
        let mirror = mirror(&format!("own_{mode}"));
        mirror.source.run(
            "CREATE TABLE t (id int PRIMARY KEY, words text, at int4range);
             INSERT INTO t SELECT i, 'word ' || i, int4range(i, i + 1) FROM generate_series(1, 50) AS i",
        );
        mirror.source.run("SELECT tx_track('t')");
        mirror.copy.run(
            "CREATE TABLE t (gone int, at int4range, words text, id int PRIMARY KEY, length int GENERATED ALWAYS AS (length(words)) STORED,
                             EXCLUDE USING gist (at WITH &&));
             ALTER TABLE t DROP COLUMN gone;
             CREATE INDEX ON t (upper(words)) WHERE id > 10; CREATE INDEX ON t USING gin (to_tsvector('simple', words))",
        );
        follow(&mirror, mode, "SELECT");
        // Ranges change places: each is free only once the other has gone.
        follow(
            &mirror,
            mode,
            "UPDATE t SET at = int4range(51 - id, 52 - id), words = 'other ' || id WHERE id > 5;
             UPDATE t SET at = int4range(51 - id, 52 - id) WHERE id <= 5",
        );
        mirror.assert_same("SELECT id, words, at FROM t");
        assert_eq!(mirror.copy.text("SELECT count(*) FROM t WHERE length = length(words)"), "50");
        let found =
            "SET enable_seqscan = off; SELECT count(*) FROM t WHERE upper(words) = 'OTHER 20' AND id > 10";
        assert_eq!(mirror.copy.text(found), "1");
    }
}

#[test]
fn a_row_that_no_partition_takes_is_refused() {
    for mode in MODES {
        let mirror = mirror(&format!("partition_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)");
        mirror.source.run("SELECT tx_track('t')");
        mirror.copy.run(
            "CREATE TABLE t (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10)",
        );
        follow(&mirror, mode, "SELECT");
        mirror.source.run("INSERT INTO t VALUES (20, 20); UPDATE t SET v = 2 WHERE id = 1");
        mirror.export("");
        let import = import_sql(&mirror, mode);
        mirror
            .copy
            .refused(&import)
            .expect("23514", &["no partition of relation \"t\"", "(id) = (20)", "batch 2"]);
        assert_eq!(rows(&mirror.copy, "SELECT * FROM t"), ["1\t1"]);
        mirror.copy.run(&format!("CREATE TABLE high PARTITION OF t DEFAULT; {import}"));
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn long_work_is_visible_and_can_be_ended() {
    let mirror = mirror("long");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text)");
    mirror.track(&["t"]);
    mirror.source.run("INSERT INTO t SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 400000) AS i");
    let progress = "SELECT bool_or(tuples_processed > 0 AND bytes_processed > 0) FROM pg_stat_progress_copy
                     WHERE datname = current_database()";
    for (database, call) in [
        (&mirror.source, format!("SELECT FROM tx_export{}", mirror.arguments("copy", ""))),
        (&mirror.copy, import_sql(&mirror, "merge")),
    ] {
        let done = AtomicBool::new(false);
        let seen = scope(|scope| {
            let mut client = database.client();
            let (done, mut seen) = (&done, false);
            let watcher = scope.spawn(move || {
                while !seen && !done.load(Ordering::Relaxed) {
                    seen = query(&mut client, progress).unwrap() == "t";
                }
                seen
            });
            database.run(&call);
            done.store(true, Ordering::Relaxed);
            watcher.join().unwrap()
        });
        assert!(seen, "no progress was to be seen of {call}");
    }
    mirror.source.run("UPDATE t SET v = ''");
    mirror.export("");
    let import = import_sql(&mirror, "merge");
    // A lock that another session holds, and lock_timeout.
    let mut other = mirror.copy.client();
    other.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").unwrap();
    mirror.copy.refused(&format!("SET lock_timeout = '100ms'; {import}")).expect("55P03", &["lock timeout"]);
    other.batch_execute("ROLLBACK").unwrap();
    mirror.copy.wait_until_free();
    mirror.copy.refused(&format!("SET statement_timeout = '300ms'; {import}")).expect("57014", &["timeout"]);
    mirror.copy.wait_until_free();
    // A cancel request.
    let mut client = mirror.copy.client();
    let pid = query(&mut client, "SELECT pg_backend_pid()").unwrap();
    let refused = scope(|scope| {
        let importer = scope.spawn(|| refusal(&query(&mut client, &import).unwrap_err()));
        let is_copying = format!("SELECT EXISTS (SELECT FROM pg_stat_progress_copy WHERE pid = {pid})");
        wait_until("the import copies", || mirror.copy.text(&is_copying) == "t");
        let asked = Instant::now();
        mirror.copy.run(&format!("SELECT pg_cancel_backend({pid})"));
        let refused = importer.join().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "it took {:?}", asked.elapsed());
        refused
    });
    refused.expect("57014", &["canceling statement"]);
    mirror.copy.wait_until_free();
    mirror.copy.run(&import);
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_backlog_is_applied_batch_by_batch() {
    let mirror = mirror("backlog");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v int)");
    mirror.track(&["t"]);
    for round in 1..=500 {
        mirror.source.run(&format!(
            "INSERT INTO t VALUES ({round}, 0); UPDATE t SET v = v + 1 WHERE id > {round} - 5"
        ));
        mirror.export("");
    }
    let catch_up = |further: &str| {
        mirror
            .copy
            .client()
            .batch_execute(&format!("CALL tx_catch_up{}", mirror.arguments("copy", further)))
            .unwrap();
    };
    catch_up(", max_batches => 3");
    let transactions = "SELECT count(*), count(DISTINCT xmin::text) FROM table_export.receipt";
    assert_eq!(mirror.copy.text(transactions), "3|3");
    catch_up("");
    assert_eq!(mirror.copy.text(transactions), "500|500");
    mirror.assert_same_tables(&["t"]);
}
