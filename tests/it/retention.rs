//! Retention by partitions: what a partition held is sent when it comes or goes, and not the table.

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::{Mirror, rows};
use crate::cluster::{COPY, Cluster, SOURCE};

const DAYS: &str = "
    CREATE TABLE log (id bigint, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2025-11-01') TO ('2025-11-02');
    CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-11-02') TO ('2025-11-03');
    CREATE TABLE log_3 PARTITION OF log FOR VALUES FROM ('2025-11-03') TO ('2025-11-04');
    INSERT INTO log SELECT i, '2025-11-01'::date + i % 3, 'note ' || i FROM generate_series(1, 300) AS i";

const REGIONS: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'glad');
    CREATE TABLE sales (region text, mood mood, paid boolean, id uuid, amount int, PRIMARY KEY (region, mood, paid, id))
        PARTITION BY LIST (region);
    CREATE TABLE sales_n PARTITION OF sales FOR VALUES IN ('n', 'it''s') PARTITION BY LIST (mood);
    CREATE TABLE sales_n_sad PARTITION OF sales_n FOR VALUES IN ('sad') PARTITION BY LIST (paid);
    CREATE TABLE sales_n_sad_paid PARTITION OF sales_n_sad FOR VALUES IN (true);
    CREATE TABLE sales_n_sad_due PARTITION OF sales_n_sad FOR VALUES IN (false);
    CREATE TABLE sales_n_glad PARTITION OF sales_n FOR VALUES IN ('glad') PARTITION BY RANGE (id);
    CREATE TABLE sales_n_glad_low PARTITION OF sales_n_glad
        FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
    CREATE TABLE sales_n_glad_high PARTITION OF sales_n_glad
        FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);
    CREATE TABLE sales_s PARTITION OF sales FOR VALUES IN ('s', 'S', NULL);
    INSERT INTO sales
    SELECT r, m, p, md5(r || m || p || i)::uuid, i
      FROM unnest('{n,it''s,s,S}'::text[]) AS r, unnest('{sad,glad}'::mood[]) AS m, unnest('{t,f}'::boolean[]) AS p,
           generate_series(1, 20) AS i";

/// Runs statements at the source, and exports. Returns the parts, and what the server said.
fn export_after(mirror: &Mirror, statements: &str) -> (String, Vec<String>) {
    mirror.source.run(statements);
    export(mirror, "copy", "")
}

fn export(mirror: &Mirror, target: &str, further: &str) -> (String, Vec<String>) {
    let (mut client, said) = mirror.source.watched();
    let arguments = mirror.arguments(target, further);
    let columns = "table_name, kind, ids, records";
    let parts = query(&mut client, &format!("SELECT {columns} FROM tx_export{arguments}")).unwrap();
    drop(client);
    (parts, std::mem::take(&mut said.lock().unwrap()))
}

/// Runs statements, which change parts of a table and not all of it, and compares what they leave. Returns
/// what was sent: `kind|ids|records`.
#[track_caller]
fn sends(mirror: &Mirror, table: &str, statements: &str) -> String {
    let (parts, said) = export_after(mirror, statements);
    mirror.import();
    mirror.assert_same_after(statements, &[table]);
    assert_eq!(said.iter().filter(|said| said.contains("in full")).count(), 0, "{said:?}");
    parts.replace(&format!("public.{table}|"), "")
}

/// Runs statements after which the table must be sent in full, and for that reason.
#[track_caller]
fn sends_all(mirror: &Mirror, table: &str, statements: &str, why: &str) {
    let (parts, said) = export_after(mirror, statements);
    mirror.import();
    mirror.assert_same_after(statements, &[table]);
    assert!(parts.contains("|full|0|"), "{statements}: {parts}");
    let notice = format!("table \"public.{table}\" is sent in full: partitions have come or gone, and {why}");
    assert!(why.is_empty() || said.contains(&notice), "{statements}: {said:?}");
}

fn tracking(name: &str, ddl: &str, table: &str) -> Mirror {
    Mirror::tracking(&format!("retention_{name}"), ddl, &[table])
}

#[test]
fn a_partition_that_is_dropped_or_detached_takes_its_rows_and_no_others() {
    let mirror = tracking("days", DAYS, "log");
    assert_eq!(sends(&mirror, "log", "DROP TABLE log_1"), "changes|0|0");
    assert_eq!(sends(&mirror, "log", "ALTER TABLE log DETACH PARTITION log_2"), "changes|0|0");
    assert_eq!(sends(&mirror, "log", "ALTER TABLE log DETACH PARTITION log_3 CONCURRENTLY"), "changes|0|0");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM log"), "0");
    assert_eq!(export(&mirror, "copy", "").0, "");
    assert_eq!(
        sends(
            &mirror,
            "log",
            "ALTER TABLE log ATTACH PARTITION log_3
                                      FOR VALUES FROM ('2025-11-03') TO ('2025-11-04')"
        ),
        "changes|100|100"
    );
}

#[test]
fn a_partition_that_is_attached_brings_its_rows_and_no_others() {
    let mirror = tracking("attached", DAYS, "log");
    assert_eq!(
        sends(
            &mirror,
            "log",
            "CREATE TABLE log_4 PARTITION OF log FOR VALUES FROM ('2025-11-04') TO ('2025-11-05')"
        ),
        ""
    );
    let attach = "CREATE TABLE log_5 (note text, day date NOT NULL, id bigint NOT NULL);
                  INSERT INTO log_5 SELECT 'old', '2025-11-05', i FROM generate_series(1, 7) AS i;
                  ALTER TABLE log ATTACH PARTITION log_5 FOR VALUES FROM ('2025-11-05') TO ('2025-11-06')";
    assert_eq!(sends(&mirror, "log", attach), "changes|7|7");
    // Away and back, changed meanwhile, and with other bounds.
    let anew = "ALTER TABLE log DETACH PARTITION log_5;
                UPDATE log_5 SET note = 'new' WHERE id = 1; DELETE FROM log_5 WHERE id = 2;
                INSERT INTO log_5 VALUES ('more', '2025-11-06', 8);
                ALTER TABLE log ATTACH PARTITION log_5 FOR VALUES FROM ('2025-11-05') TO ('2025-11-07')";
    assert_eq!(sends(&mirror, "log", anew), "changes|7|7");
    assert_eq!(
        sends(
            &mirror,
            "log",
            &format!("BEGIN; {}; COMMIT", anew.replace("-07", "-08").replace(" 8)", " 9)"))
        ),
        "changes|8|8"
    );
    let empty = "ALTER TABLE log DETACH PARTITION log_5; TRUNCATE log_5;
                 ALTER TABLE log ATTACH PARTITION log_5 FOR VALUES FROM ('2025-11-05') TO ('2025-11-07')";
    assert_eq!(sends(&mirror, "log", empty), "changes|0|0");
}

#[test]
fn changes_of_keys_beside_a_partition_that_goes_are_sent_with_it() {
    let mirror = tracking("beside", DAYS, "log");
    // Out of the partition before it goes, and into its range after that.
    let moved = "UPDATE log SET day = '2025-11-02' WHERE day = '2025-11-01' AND id IN (3, 6);
                 UPDATE log SET id = id + 1000 WHERE day = '2025-11-03' AND id < 20;
                 DELETE FROM log WHERE id = 10; UPDATE log SET note = 'x' WHERE day = '2025-11-02' AND id > 290;
                 DROP TABLE log_1;
                 CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2025-10-01') TO ('2025-11-02');
                 INSERT INTO log VALUES (3, '2025-11-01', 'again'), (4711, '2025-10-05', 'new');
                 UPDATE log SET day = '2025-11-01' WHERE day = '2025-11-02' AND id = 7";
    let sent = sends(&mirror, "log", moved);
    assert!(sent.starts_with("changes|") && !sent.contains("|300"), "{sent}");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM log WHERE day < '2025-11-02'"), "3");
    // Dropped and made again, within one transaction and in several.
    let again = "BEGIN; DROP TABLE log_2;
                 CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-11-02') TO ('2025-11-03');
                 INSERT INTO log VALUES (1, '2025-11-02', 'again'); COMMIT";
    assert_eq!(sends(&mirror, "log", again), "changes|1|1");
    let gone = "DROP TABLE log_2; CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-11-02') TO ('2025-11-03');
                INSERT INTO log VALUES (2, '2025-11-02', 'again'); DROP TABLE log_2";
    assert_eq!(sends(&mirror, "log", gone), "changes|1|0");
    // What comes and goes between two exports was never there.
    let between = "CREATE TABLE log_9 AS SELECT 1::bigint AS id, '2025-11-09'::date AS day, 'n' AS note;
                   ALTER TABLE log_9 ALTER id SET NOT NULL, ALTER day SET NOT NULL;
                   ALTER TABLE log ATTACH PARTITION log_9 FOR VALUES FROM ('2025-11-09') TO ('2025-11-10');
                   UPDATE log SET day = '2025-11-03' WHERE day = '2025-11-09'; DROP TABLE log_9";
    assert_eq!(sends(&mirror, "log", between), "changes|2|1");
}

#[test]
fn what_is_rolled_back_changes_nothing() {
    let mirror = tracking("rolled_back", DAYS, "log");
    let undone = "BEGIN; DROP TABLE log_1; ROLLBACK;
                  BEGIN; SAVEPOINT s; ALTER TABLE log DETACH PARTITION log_2; ROLLBACK TO s;
                  INSERT INTO log VALUES (5000, '2025-11-02', 'n'); COMMIT";
    assert_eq!(sends(&mirror, "log", undone), "changes|1|1");
}

#[test]
fn a_partition_whose_attachment_is_not_committed_waits_for_the_next_export() {
    let mirror = tracking("open", DAYS, "log");
    mirror.source.run("CREATE TABLE log_4 (LIKE log); INSERT INTO log_4 VALUES (1, '2025-11-04', 'n'), (2, '2025-11-04', 'n')");
    let mut client = mirror.source.client();
    let attach = "ALTER TABLE log ATTACH PARTITION log_4 FOR VALUES FROM ('2025-11-04') TO ('2025-11-05')";
    client.batch_execute(&format!("BEGIN; {attach}; UPDATE log_4 SET note = 'x' WHERE id = 1")).unwrap();
    assert_eq!(sends(&mirror, "log", "UPDATE log SET note = 'y' WHERE id = 1"), "changes|1|1");
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(sends(&mirror, "log", ""), "changes|2|2");
}

#[test]
fn partitions_of_several_levels_are_told_by_the_bounds_of_each() {
    let mirror = Mirror::shared("retention_levels");
    mirror.copy.run("CREATE TYPE mood AS ENUM ('glad', 'sad')");
    mirror.source.run(REGIONS);
    mirror.track(&["sales"]);
    mirror.follow("");
    assert_eq!(sends(&mirror, "sales", "DROP TABLE sales_n_sad_paid"), "changes|0|0");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM sales WHERE mood = 'sad'"), "120");
    assert_eq!(
        sends(&mirror, "sales", "ALTER TABLE sales_n_glad DETACH PARTITION sales_n_glad_high"),
        "changes|0|0"
    );
    assert_eq!(sends(&mirror, "sales", "ALTER TABLE sales DETACH PARTITION sales_n"), "changes|0|0");
    assert_eq!(mirror.copy.text("SELECT count(*) FROM sales"), "160");
    let change =
        "UPDATE sales_n SET amount = 4711; INSERT INTO sales_n VALUES ('n', 'sad', false, md5('')::uuid, 1)";
    assert_eq!(sends(&mirror, "sales", change), "");
    let attach = "ALTER TABLE sales ATTACH PARTITION sales_n FOR VALUES IN ('n', 'it''s', 'new')";
    let sent = sends(&mirror, "sales", attach);
    let rows = mirror.source.text("SELECT count(*) FROM sales_n");
    assert_eq!(sent, format!("changes|{rows}|{rows}"));
    assert_eq!(sends(&mirror, "sales", "DROP TABLE sales_s"), "changes|0|0");
    assert_eq!(
        sends(&mirror, "sales", "UPDATE sales SET amount = 1 WHERE mood = 'sad' AND region = 'n'"),
        "changes|21|21"
    );
}

#[test]
fn several_columns_are_compared_one_after_the_other() {
    let ddl = "
        CREATE TABLE m (tenant int, at timestamptz, id smallint, PRIMARY KEY (id, tenant, at)) PARTITION BY RANGE (tenant, at);
        CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM (MINVALUE, MINVALUE) TO (1, '2025-06-01 02:00:00.5+02');
        CREATE TABLE m_2 PARTITION OF m FOR VALUES FROM (1, '2025-06-01 02:00:00.5+02') TO (1, MAXVALUE);
        CREATE TABLE m_3 PARTITION OF m FOR VALUES FROM (1, MAXVALUE) TO (3, MINVALUE);
        CREATE TABLE m_4 PARTITION OF m FOR VALUES FROM (3, MINVALUE) TO (3, '2025-07-01');
        CREATE TABLE m_5 PARTITION OF m FOR VALUES FROM (3, '2025-07-01') TO (MAXVALUE, MAXVALUE);
        INSERT INTO m SELECT t, a, row_number() OVER ()
          FROM generate_series(-1, 5) AS t,
               unnest('{-infinity,0044-03-15 BC,2025-06-01 00:00:00.499999+00,2025-06-01 00:00:00.5+00,2025-06-30 23:59+00,2025-07-01,infinity}'::timestamptz[]) AS a";
    let count = |mirror: &Mirror| mirror.copy.text("SELECT count(*) FROM m");
    for dropped in ["m_1", "m_2", "m_3", "m_4", "m_5"] {
        let mirror = tracking(&format!("several_{dropped}"), &format!("SET TimeZone = 'UTC'; {ddl}"), "m");
        assert_eq!(count(&mirror), "49");
        assert_eq!(sends(&mirror, "m", &format!("DROP TABLE {dropped}")), "changes|0|0");
        assert_ne!(count(&mirror), "49");
    }
}

#[test]
fn bounds_that_are_no_range_or_list_of_the_key_send_the_table() {
    let why = "the bounds of one are no range or list of columns of its key";
    let hashes = "CREATE TABLE h (id int PRIMARY KEY, note text) PARTITION BY HASH (id);
                  CREATE TABLE h_0 PARTITION OF h FOR VALUES WITH (modulus 2, remainder 0);
                  CREATE TABLE h_1 PARTITION OF h FOR VALUES WITH (modulus 2, remainder 1);
                  INSERT INTO h SELECT i, 'n' FROM generate_series(1, 50) AS i";
    let mirror = tracking("hashes", hashes, "h");
    sends_all(&mirror, "h", "ALTER TABLE h DETACH PARTITION h_0", why);
    sends_all(
        &mirror,
        "h",
        "ALTER TABLE h ATTACH PARTITION h_0 FOR VALUES WITH (modulus 2, remainder 0)",
        why,
    );

    let mirror = tracking(
        "default",
        &format!(
            "{DAYS}; CREATE TABLE log_d PARTITION OF log DEFAULT; INSERT INTO log VALUES (1, '1999-01-01', 'n')"
        ),
        "log",
    );
    assert_eq!(
        sends(
            &mirror,
            "log",
            "DROP TABLE log_1; INSERT INTO log VALUES (1, '2025-11-01', 'into the default')"
        ),
        "changes|1|1"
    );
    sends_all(&mirror, "log", "ALTER TABLE log DETACH PARTITION log_d", why);

    let backwards = "CREATE FUNCTION compare(int, int) RETURNS int IMMUTABLE STRICT LANGUAGE sql AS 'SELECT btint4cmp($2, $1)';
                     CREATE OPERATOR CLASS backwards FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=,
                         OPERATOR 3 =, OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 compare(int, int)";
    let nocase =
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    for (name, before, key, by, values, row) in [
        ("by_collation", "", "k text COLLATE \"C\"", "RANGE (k)", "FROM ('a') TO ('b')", "'a'"),
        ("by_nocase", nocase, "k text COLLATE nocase", "LIST (k)", "IN ('a')", "'A'"),
        ("by_numeric", "", "k numeric(5, 2)", "RANGE (k)", "FROM (1.50) TO (2)", "1.75"),
        ("by_all", "", "k int", "RANGE (k)", "FROM (MINVALUE) TO (MAXVALUE)", "1"),
        ("by_operators", backwards, "k int", "RANGE (k backwards)", "FROM (2) TO (1)", "2"),
        ("by_backslash", "", "k text", "LIST (k)", r"IN ('a\b')", r"'a\b'"),
    ] {
        let mirror = Mirror::shared(&format!("retention_{name}"));
        mirror.run(before);
        mirror.source.run(&format!(
            "CREATE TABLE t ({key} PRIMARY KEY) PARTITION BY {by};
             CREATE TABLE t_1 PARTITION OF t FOR VALUES {values};
             INSERT INTO t VALUES ({row})"
        ));
        mirror.track(&["t"]);
        mirror.follow("");
        sends_all(&mirror, "t", "DROP TABLE t_1", why);
    }
}

#[test]
fn where_one_level_tells_nothing_the_others_do() {
    let ddl = "
        CREATE TABLE log (id bigint, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
        CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2025-11-01') TO ('2025-11-02') PARTITION BY HASH (id);
        CREATE TABLE log_1_0 PARTITION OF log_1 FOR VALUES WITH (modulus 2, remainder 0);
        CREATE TABLE log_1_1 PARTITION OF log_1 FOR VALUES WITH (modulus 2, remainder 1);
        CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2025-11-02') TO ('2025-11-03');
        INSERT INTO log SELECT i, '2025-11-01'::date + i % 2 FROM generate_series(1, 100) AS i;
        CREATE TABLE h (id int, n int, PRIMARY KEY (id, n)) PARTITION BY HASH (id);
        CREATE TABLE h_0 PARTITION OF h FOR VALUES WITH (modulus 1, remainder 0) PARTITION BY RANGE (n);
        CREATE TABLE h_0_1 PARTITION OF h_0 FOR VALUES FROM (0) TO (10);
        CREATE TABLE h_0_2 PARTITION OF h_0 FOR VALUES FROM (10) TO (20);
        INSERT INTO h SELECT i, i % 20 FROM generate_series(1, 100) AS i";
    let mirror = Mirror::tracking("retention_one_level", ddl, &["log", "h"]);
    // One day, less the rows that have gone.
    let left = mirror.source.text("SELECT count(*) FROM log_1_1");
    assert_eq!(sends(&mirror, "log", "DROP TABLE log_1_0"), format!("changes|{left}|{left}"));
    assert_eq!(sends(&mirror, "h", "DROP TABLE h_0_1"), "changes|0|0");
    assert_eq!(sends(&mirror, "h", "ALTER TABLE h DETACH PARTITION h_0"), "changes|0|0");
}

#[test]
fn two_targets_get_what_is_new_to_each() {
    let mirror = tracking("two", DAYS, "log");
    export(&mirror, "other", "");
    let second = Mirror { source: mirror.source.with_target("other"), ..Mirror::shared("retention_two_2") };
    second.copy.run(&mirror.source.text("SELECT tx_ddl('log')"));
    let import = |further: &str| {
        second.copy.text(&format!(
            "SELECT kind, deleted, inserted FROM tx_import{}",
            mirror.arguments("other", further)
        ))
    };
    import("");
    assert_eq!(sends(&mirror, "log", "DROP TABLE log_1"), "changes|0|0");
    let back = "CREATE TABLE log_1 (id bigint NOT NULL, day date NOT NULL, note text);
                INSERT INTO log_1 VALUES (1, '2025-11-01', 'back');
                ALTER TABLE log ATTACH PARTITION log_1 FOR VALUES FROM ('2025-11-01') TO ('2025-11-02')";
    assert_eq!(sends(&mirror, "log", back), "changes|1|1");
    assert_eq!(export(&mirror, "other", "").0, "public.log|changes|1|1");
    assert_eq!(import(", mode => 'append'"), "changes|100|1");
    second.assert_same_tables(&["log"]);
}

#[test]
fn a_target_that_sees_a_table_through_a_view_gets_it_in_full() {
    let mirror = Mirror::shared("retention_seen");
    mirror.source.run(DAYS);
    mirror.track(&["log"]);
    mirror.source.run(
        "CREATE VIEW few AS SELECT id, day, upper(note) AS note FROM log WHERE id < 100;
                       SELECT tx_restrict('copy', 'log', 'few')",
    );
    mirror.follow("");
    let (parts, said) = export_after(&mirror, "DROP TABLE log_1");
    assert!(parts.starts_with("public.log|full|"), "{parts}");
    assert!(said.iter().any(|said| said.contains("the target gets it through a view")), "{said:?}");
    mirror.import();
    let few = rows(&mirror.source, "SELECT * FROM few");
    assert_eq!(rows(&mirror.copy, "SELECT * FROM log"), few);
}

#[test]
fn batches_with_ranges_are_compacted() {
    let ddl = DAYS.replace("note text", "note text DEFAULT 'a b'");
    let mirror = tracking("compacted", &ddl, "log");
    let behind =
        Mirror { source: mirror.source.with_target("copy"), ..Mirror::shared("retention_compacted_2") };
    behind.copy.run(&mirror.source.text("SELECT tx_ddl('log')"));
    let import = |copy: &Database| {
        copy.text(&format!("SELECT DISTINCT batch FROM tx_import{}", mirror.arguments("copy", "")))
    };
    import(&behind.copy);
    for change in [
        // Records that go with the partition, and one that comes after it.
        "INSERT INTO log SELECT i, '2025-11-01', 'soon gone' FROM generate_series(1000, 1010) AS i; UPDATE log SET note = 'x' WHERE id < 10",
        "DROP TABLE log_1",
        "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2025-11-01') TO ('2025-11-02'); INSERT INTO log VALUES (3, '2025-11-01', 'later'), (1001, '2025-11-01', 'later')",
        "ALTER TABLE log DETACH PARTITION log_2",
        "DELETE FROM log WHERE id = 1001",
    ] {
        let sent = sends(&mirror, "log", change);
        assert!(sent.starts_with("changes|"), "{sent}");
    }
    let compact = |further: &str| {
        mirror.source.text(&format!("SELECT kind FROM tx_compact{}", mirror.arguments("copy", further)))
    };
    assert_eq!(compact(", first => 2"), "changes");
    assert_eq!(import(&behind.copy), "6", "it has taken the compacted batch");
    behind.assert_same_tables(&["log"]);
    assert_eq!(compact(""), "full");
    let new = Mirror { source: mirror.source.with_target("copy"), ..Mirror::shared("retention_compacted_3") };
    new.copy.run(&mirror.source.text("SELECT tx_ddl('log')"));
    assert_eq!(import(&new.copy), "6");
    new.assert_same_tables(&["log"]);
}

#[test]
fn batches_are_not_repeated_across_one_with_ranges() {
    let source = Cluster::start_with(&[
        "shared_preload_libraries = 'pg_table_export'",
        "pg_table_export.replay_batches = 6",
    ]);
    let mirror = Mirror::new(&source, &COPY, "retention_repeated");
    mirror.source.run(DAYS);
    mirror.track(&["log"]);
    mirror.follow("");
    assert_eq!(sends(&mirror, "log", "UPDATE log SET note = 'x' WHERE id < 10"), "changes|9|9");
    assert_eq!(sends(&mirror, "log", "DROP TABLE log_1"), "changes|0|0");
    assert_eq!(sends(&mirror, "log", "UPDATE log SET note = 'y' WHERE id = 1"), "changes|1|1");
    let (parts, _) = export(&mirror, "copy", ", since => 3");
    assert_eq!(parts, "public.log|changes|1|1");
    let (parts, _) = export(&mirror, "copy", ", since => 2");
    assert_eq!(parts, "public.log|full|0|200");
}

#[test]
fn a_batch_with_ranges_that_the_source_does_not_know_heals() {
    let mirror = tracking("unknown", DAYS, "log");
    mirror.source.run("DROP TABLE log_1");
    let undone = format!("BEGIN; SELECT * FROM tx_export{}; ROLLBACK", mirror.arguments("copy", ""));
    mirror.source.run(&undone);
    mirror.import();
    sends_all(&mirror, "log", "SELECT 1", "");
}

#[test]
fn the_copy_may_differ_from_the_source() {
    let mirror = Mirror::shared("retention_different");
    mirror.source.run(&format!("{DAYS}; {REGIONS}"));
    for table in ["log", "sales"] {
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    // Other names and other types, whose order and equality are others, and no index.
    mirror.copy.run("CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
                     CREATE TABLE journal (the_day text, \"Id\" text, note varchar);
                     CREATE TABLE sales (region text COLLATE nd, mood text, paid text, id text, amount bigint, own int DEFAULT 5);
                     SELECT tx_map('copy', 'public.log', 'journal', '{\"day\": \"the_day\", \"id\": \"Id\"}')");
    mirror.follow("");
    let changes = [
        "DROP TABLE log_1; DROP TABLE sales_n_sad_paid",
        "ALTER TABLE sales_n_glad DETACH PARTITION sales_n_glad_high; ALTER TABLE log DETACH PARTITION log_2;
         CREATE TABLE sales_x PARTITION OF sales FOR VALUES IN ('x', 'X'); INSERT INTO sales VALUES ('X', 'sad', true, md5('')::uuid, 1)",
        "ALTER TABLE sales DETACH PARTITION sales_s;
         CREATE TABLE sales_sb PARTITION OF sales FOR VALUES IN ('S'); CREATE TABLE sales_sc PARTITION OF sales FOR VALUES IN ('s');
         INSERT INTO sales VALUES ('S', 'sad', true, md5('')::uuid, 1), ('s', 'sad', true, md5('')::uuid, 1)",
        "DROP TABLE sales_sb",
        "DROP TABLE sales_x",
    ];
    for change in changes {
        let (parts, said) = export_after(&mirror, change);
        assert!(!parts.contains("full"), "{change}: {parts} {said:?}");
        mirror.import();
        let of = |database: &Database, sql: &str| rows(database, sql);
        assert_eq!(
            of(&mirror.copy, "SELECT \"Id\", the_day, note FROM journal"),
            of(&mirror.source, "SELECT id, day, note FROM log")
        );
        let sales = "SELECT region, mood, left(paid::text, 1), id, amount FROM sales";
        assert_eq!(of(&mirror.copy, sales), of(&mirror.source, sales), "{change}");
    }

    // A row of the copy's own, which no range can judge, is never shown.
    mirror.copy.run("INSERT INTO journal VALUES ('a secret', '1', '')");
    mirror.source.run("ALTER TABLE log DETACH PARTITION log_3");
    mirror.export("");
    let call = |function| format!("SELECT count(*) FROM {function}{}", mirror.arguments("copy", ""));
    let refused = mirror.copy.refused(&call("tx_import"));
    refused.expect(
        "22000",
        &["column \"the_day\" of table \"public.journal\" has a value here that is no date"],
    );
    assert!(!refused.to_string().contains("a secret"), "{refused}");
    mirror.copy.text(&call("tx_repair"));
    mirror.import();
    assert_eq!(rows(&mirror.copy, "SELECT * FROM journal"), Vec::<String>::new());
}

#[test]
fn a_list_may_have_characters_that_the_copy_cannot_hold() {
    let latin = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    let mirror = Mirror::new_with(&SOURCE, &COPY, "retention_no_euro", ["", latin]);
    mirror.source.run(
        "
        CREATE TABLE prices (currency text, id int, PRIMARY KEY (currency, id)) PARTITION BY LIST (currency);
        CREATE TABLE prices_1 PARTITION OF prices FOR VALUES IN ('€', 'é', 'EUR');
        CREATE TABLE prices_2 PARTITION OF prices FOR VALUES IN ('è');
        INSERT INTO prices SELECT c, i FROM unnest('{é,EUR,è}'::text[]) AS c, generate_series(1, 3) AS i",
    );
    mirror.source.run("SELECT tx_track('prices')");
    mirror.copy.run("CREATE TABLE prices (currency text, id int, PRIMARY KEY (currency, id))");
    mirror.follow("");
    let sent = |statement| {
        let (parts, _) = export_after(&mirror, statement);
        mirror.import();
        (parts, rows(&mirror.copy, "SELECT DISTINCT currency FROM prices ORDER BY 1").join(" "))
    };
    let detach = "ALTER TABLE prices DETACH PARTITION prices_1";
    assert_eq!(sent(detach), ("public.prices|changes|0|0".into(), "è".into()));
    let attach = "ALTER TABLE prices ATTACH PARTITION prices_1 FOR VALUES IN ('€', 'é', 'EUR')";
    assert_eq!(sent(attach), ("public.prices|changes|6|6".into(), "EUR è é".into()));
}

#[test]
fn what_a_range_deletes_counts_and_is_verified() {
    let mirror = tracking("limits", DAYS, "log");
    let (parts, _) = export_after(&mirror, "DROP TABLE log_1; DROP TABLE log_2");
    assert_eq!(parts, "public.log|changes|0|0");
    let import = |further: &str| {
        format!("SELECT kind, deleted, inserted FROM tx_import{}", mirror.arguments("copy", further))
    };
    let refused = mirror.copy.refused(&import(", delete_limit => 50"));
    refused.expect("53400", &["200 rows would be deleted"]);
    let plan = format!("SELECT deleted FROM tx_plan{}", mirror.arguments("copy", ", try_rows => true"));
    assert_eq!(mirror.copy.text(&plan), "200");
    for mode in ["merge", "append"] {
        mirror.copy.run(
            "CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RETURN CASE WHEN OLD.id = 3 THEN NULL ELSE OLD END; END $$;
             CREATE OR REPLACE TRIGGER keep BEFORE DELETE ON log FOR EACH ROW EXECUTE FUNCTION keep();
             ALTER TABLE log ENABLE ALWAYS TRIGGER keep",
        );
        let kept = mirror.copy.refused(&import(&format!(", mode => '{mode}'")));
        kept.expect("27000", &["is still there"]);
    }
    mirror.copy.run("DROP TRIGGER keep ON log");
    assert_eq!(mirror.copy.text(&import("")), "changes|200|0");
    mirror.assert_same_tables(&["log"]);
}

#[test]
fn rows_that_the_index_of_the_copy_takes_for_equal_are_no_conflict() {
    let ddl = "CREATE TABLE p (price numeric, day date, note text, PRIMARY KEY (price, day)) PARTITION BY RANGE (day);
               CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2025-11-01') TO ('2025-11-02');
               CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM ('2025-11-02') TO ('2025-11-03');
               INSERT INTO p VALUES (1.0, '2025-11-01', 'a'), (2.00, '2025-11-01', 'b'), (1.0, '2025-11-02', 'c')";
    let mirror = tracking("equal", ddl, "p");
    for (note, price) in [("merge", "1.00"), ("append", "1.000")] {
        let change = format!("DROP TABLE p_1; CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM ('2025-11-01') TO ('2025-11-02');
                              INSERT INTO p VALUES ({price}, '2025-11-01', '{note}')");
        let (parts, _) = export_after(&mirror, &change);
        assert!(parts.starts_with("public.p|changes|"), "{parts}");
        mirror.copy.run(&format!(
            "SELECT * FROM tx_import{}",
            mirror.arguments("copy", &format!(", mode => '{note}'"))
        ));
        mirror.assert_same_after(&change, &["p"]);
    }
}

#[test]
fn neighbours_are_one_range_and_too_many_apart_send_the_table() {
    let create = "CREATE TABLE n (id int PRIMARY KEY) PARTITION BY RANGE (id);
        DO $$ BEGIN FOR i IN 1..450 LOOP
            EXECUTE format('CREATE TABLE n_%s PARTITION OF n FOR VALUES FROM (%s) TO (%s)', i, i, i + 1);
        END LOOP; END $$;
        INSERT INTO n SELECT generate_series(1, 450)";
    let mirror = tracking("many", create, "n");
    let drop = |from: i32, to: i32, step: i32| {
        format!(
            "DO $$ BEGIN FOR i IN {from}..{to} BY {step} LOOP EXECUTE format('DROP TABLE n_%s', i); END LOOP; END $$"
        )
    };
    assert_eq!(sends(&mirror, "n", &drop(1, 200, 1)), "changes|0|0");
    assert_eq!(sends(&mirror, "n", &drop(201, 219, 2)), "changes|0|0");
    sends_all(&mirror, "n", &drop(221, 450, 2), "they are too many");
}

#[test]
fn a_comparison_goes_through_batches_with_ranges() {
    let mirror = tracking("verified", DAYS, "log");
    assert_eq!(sends(&mirror, "log", "UPDATE log SET note = 'x' WHERE id < 4"), "changes|3|3");
    assert_eq!(sends(&mirror, "log", "DROP TABLE log_1"), "changes|0|0");
    mirror.assert_verified();
    let again = "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2025-11-01') TO ('2025-11-02');
                 INSERT INTO log VALUES (3, '2025-11-01', 'later')";
    assert_eq!(sends(&mirror, "log", again), "changes|1|1");
    mirror.assert_verified();
    let compared = || {
        let arguments = mirror.arguments("copy", ", examples => 9");
        let sql = format!("SELECT equal, complete, missing, extra, examples FROM tx_verify{arguments}");
        mirror.copy.text(&sql)
    };
    mirror.copy.run("INSERT INTO log VALUES (6, '2025-11-01', 'note 6')");
    assert_eq!(compared(), "f|t|0|1|{\"extra (6,2025-11-01)\"}");
    mirror.source.run("DROP TABLE log_2");
    let source = format!("SELECT equal, note FROM tx_verify{}", mirror.arguments("copy", ""));
    let source = mirror.source.text(&source);
    assert!(source.starts_with("|not compared: the next export sends"), "{source}");
}

#[test]
fn a_partition_that_comes_back_with_the_triggers_of_before_sends_the_table() {
    let ddl = "CREATE TABLE t (a int, b int, note text, PRIMARY KEY (a, b)) PARTITION BY LIST (a);
               CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2); INSERT INTO t VALUES (2, 1, 'n')";
    let mirror = tracking("kept", ddl, "t");
    // It gets its triggers with the table above.
    let above = "CREATE TABLE t_1 (LIKE t) PARTITION BY LIST (b); CREATE TABLE t_1_1 PARTITION OF t_1 FOR VALUES IN (1);
                 INSERT INTO t_1 VALUES (1, 1, 'n'); ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES IN (1)";
    assert_eq!(sends(&mirror, "t", above), "changes|1|1");
    mirror.source.run(
        "CREATE FUNCTION guard() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no trigger is dropped here'; END $$;
         CREATE EVENT TRIGGER guard ON sql_drop WHEN TAG IN ('DROP TRIGGER') EXECUTE FUNCTION guard()",
    );
    let (mut client, said) = mirror.source.watched();
    let detach = "ALTER TABLE t_1 DETACH PARTITION t_1_1";
    client.batch_execute(detach).unwrap();
    assert!(said.lock().unwrap().iter().any(|said| said.contains("could not be followed")));
    assert_eq!(sends(&mirror, "t", ""), "changes|0|0");
    assert_eq!(sends(&mirror, "t", "UPDATE t_1_1 SET note = 'x'"), "");
    sends_all(&mirror, "t", "ALTER TABLE t_1 ATTACH PARTITION t_1_1 FOR VALUES IN (1)", "");
}
