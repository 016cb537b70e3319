//! Foreign tables among the partitions, children and ancestors of tracked tables.
//!
//! PostgreSQL refuses to collect transition tables from foreign tables. No statement of an application may fail
//! for our triggers, and no change of a tracked table may be lost. The foreign tables are real: postgres_fdw
//! leads back into the same database.

use std::thread;

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::Mirror;
use crate::cluster::{SOURCE, Store};

/// A source that can have foreign tables, and its copy.
fn mirror(name: &str, ddl: &str, tracked: &[&str]) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(&format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', dbname '{name}');
         CREATE USER MAPPING FOR postgres SERVER elsewhere OPTIONS (user 'postgres');
         CREATE TABLE far (id int, body text);
         {ddl}",
        SOURCE.socket_dir().display()
    ));
    if !tracked.is_empty() {
        mirror.track(tracked);
        mirror.follow("");
    }
    mirror
}

/// Runs statements at the source, and compares after each. All changes are captured all the time.
#[track_caller]
fn follows_each(mirror: &Mirror, tables: &[&str], statements: &[&str]) {
    for statement in statements {
        mirror.source.run(statement);
        assert_eq!(intact(&mirror.source), "t", "{statement}");
        mirror.export("");
        mirror.import();
        mirror.assert_same_after(statement, tables);
    }
}

fn intact(source: &Database) -> String {
    source.text("SELECT bool_and(triggers_intact) FROM tx_tracked")
}

/// What the triggers of each member must capture.
fn captures(source: &Database) -> String {
    source.text("SELECT string_agg(DISTINCT captures, ' ' ORDER BY captures) FROM table_export.member")
}

/// The messages that a statement brings about.
fn notices(source: &Database, statement: &str) -> Vec<String> {
    let (mut client, notices) = source.watched();
    client.batch_execute(statement).unwrap();
    let notices = notices.lock().unwrap();
    notices.clone()
}

/// Measurements of which one part is far away, and two parts can be tracked.
const PARTS: &str = "
    CREATE TABLE m (id int NOT NULL, body text) PARTITION BY RANGE (id);
    CREATE TABLE m20 PARTITION OF m (PRIMARY KEY (id)) FOR VALUES FROM (20) TO (30);
    CREATE TABLE m30 PARTITION OF m (PRIMARY KEY (id)) FOR VALUES FROM (30) TO (50) PARTITION BY RANGE (id);
    CREATE TABLE m30_low PARTITION OF m30 FOR VALUES FROM (30) TO (40);
    CREATE TABLE m30_high PARTITION OF m30 FOR VALUES FROM (40) TO (50);
    INSERT INTO m SELECT i, 'first' FROM generate_series(20, 49) AS i;
";
const FAR_PART: &str = "CREATE FOREIGN TABLE m10 PARTITION OF m FOR VALUES FROM (10) TO (20)
                        SERVER elsewhere OPTIONS (table_name 'far')";
const COUNT_FAR: &str = "SELECT count(*) FROM far WHERE body LIKE 'all%'";

#[test]
fn partitions_beside_a_foreign_one_follow_whichever_way_they_are_written_to() {
    let mirror = mirror("foreign_beside", &format!("{PARTS}; {FAR_PART}"), &["m20", "m30"]);
    assert_eq!(captures(&mirror.source), "rows truncate");
    follows_each(
        &mirror,
        &["m20", "m30"],
        &[
            "INSERT INTO m VALUES (10, 'far'), (11, 'far')",
            "UPDATE m SET body = 'all'",
            "DELETE FROM m WHERE id IN (11, 21, 24, 31, 41, 44)",
            "INSERT INTO m VALUES (11, 'back'), (21, 'back'), (31, 'back'), (41, 'back')",
            "COPY m (id) FROM PROGRAM 'seq 12 12; seq 24 20 44'",
            "UPDATE m SET id = id - 10 WHERE id = 25",
            "DELETE FROM m WHERE id = 45; UPDATE m SET id = 45 WHERE id = 28",
            "MERGE INTO m USING (VALUES (23), (47)) AS v (i) ON m.id = v.i AND m.id >= 20
                WHEN MATCHED AND i = 23 THEN DELETE WHEN MATCHED THEN UPDATE SET body = 'merged'",
            "INSERT INTO m20 VALUES (25, 'direct'); UPDATE m20 SET body = 'direct' WHERE id = 26; DELETE FROM m20 WHERE id = 27",
            "DELETE FROM m30 WHERE id = 46; UPDATE m30 SET id = 46 WHERE id = 36",
            "UPDATE m30 SET body = 'middle'; DELETE FROM m30_low WHERE id = 33",
            "SET session_replication_role = replica; UPDATE m SET body = 'all replicated'",
            "BEGIN; SAVEPOINT s; DELETE FROM m WHERE id > 10; ROLLBACK TO s; UPDATE m SET body = 'all kept'; COMMIT",
            "TRUNCATE m",
            "INSERT INTO m VALUES (10, 'all'), (20, 'all'), (30, 'all')",
        ],
    );
    assert_eq!(mirror.source.text(COUNT_FAR), "1");
}

#[test]
fn a_foreign_partition_that_comes_later_stops_nobody() {
    let mirror = mirror("foreign_later", PARTS, &["m20", "m30"]);
    assert_eq!(captures(&mirror.source), "statements");
    let update = "UPDATE m SET body = 'all ' || clock_timestamp(); INSERT INTO m SELECT min(id) - 1 FROM m20 HAVING min(id) > 20";
    follows_each(
        &mirror,
        &["m20", "m30"],
        &[
            "DELETE FROM m WHERE id IN (20, 21, 22, 23)",
            &format!("BEGIN ISOLATION LEVEL REPEATABLE READ; {update}; {FAR_PART}; {update}; COMMIT"),
            "INSERT INTO m VALUES (10, 'far')",
            update,
            "ALTER TABLE m DETACH PARTITION m10",
            update,
            "CREATE TABLE m30_more PARTITION OF m FOR VALUES FROM (60) TO (70); ALTER TABLE m DETACH PARTITION m30_more",
            "ALTER TABLE m30 DETACH PARTITION m30_low; UPDATE m SET body = 'all but low'",
            "ALTER TABLE m30 ATTACH PARTITION m30_low FOR VALUES FROM (30) TO (40); UPDATE m SET body = 'all'",
            "ALTER TABLE m ATTACH PARTITION m10 FOR VALUES FROM (10) TO (20)",
            update,
            "DROP FOREIGN TABLE m10",
            update,
            "ALTER TABLE m DETACH PARTITION m20; UPDATE m SET body = 'all but one'; UPDATE m20 SET body = 'one'",
        ],
    );
    assert_ne!(mirror.source.text(COUNT_FAR), "0");
    // Tracked anew, they capture whole statements again.
    mirror.source.run(
        "SELECT tx_untrack('m20'); SELECT tx_track('m20'); SELECT tx_untrack('m30'); SELECT tx_track('m30')",
    );
    assert_eq!(captures(&mirror.source), "statements");
    follows_each(&mirror, &["m20", "m30"], &["UPDATE m SET body = 'anew'; UPDATE m20 SET body = 'anew'"]);
}

#[test]
fn a_foreign_partition_in_another_branch_is_met() {
    let far = |of: &str, values: &str| {
        format!(
            "CREATE FOREIGN TABLE far_{of} PARTITION OF {of} FOR VALUES {values} SERVER elsewhere OPTIONS (table_name 'far')"
        )
    };
    let branch = "CREATE TABLE m10 PARTITION OF m FOR VALUES FROM (0) TO (20) PARTITION BY RANGE (id)";
    let update = "UPDATE m SET body = 'all ' || clock_timestamp()";
    let mirror = mirror("foreign_branch", PARTS, &["m20", "m30"]);
    follows_each(
        &mirror,
        &["m20", "m30"],
        &[
            branch,
            &far("m10", "FROM (0) TO (20)"),
            "INSERT INTO m VALUES (10), (49) ON CONFLICT DO NOTHING",
            update,
        ],
    );
    assert_eq!(captures(&mirror.source), "rows truncate");
    // With a branch, and as a branch that is tracked comes below.
    mirror.source.run(
        "DROP FOREIGN TABLE far_m10; DROP TABLE m10; SELECT tx_untrack('m30'); SELECT tx_track('m30');
         ALTER TABLE m DETACH PARTITION m20; SELECT tx_untrack('m20'); SELECT tx_track('m20')",
    );
    mirror.follow("");
    let whole = format!(
        "CREATE TABLE m10 (LIKE m) PARTITION BY RANGE (id); {};
         ALTER TABLE m ATTACH PARTITION m10 FOR VALUES FROM (0) TO (20)",
        far("m10", "FROM (0) TO (20)")
    );
    follows_each(
        &mirror,
        &["m20", "m30"],
        &[
            &whole,
            update,
            "ALTER TABLE m ATTACH PARTITION m20 FOR VALUES FROM (20) TO (30)",
            update,
            "INSERT INTO m VALUES (12, 'far'), (13, 'all far'); DELETE FROM m WHERE id % 2 = 0",
        ],
    );
    assert_ne!(mirror.source.text(COUNT_FAR), "0");
}

/// PostgreSQL lets no partitioned table have both a unique index and a foreign partition.
#[test]
fn a_table_that_gets_a_foreign_partition_is_not_exported_until_it_goes() {
    let mirror = mirror("foreign_below", PARTS, &["m30"]);
    mirror.source.run("ALTER TABLE m30 DETACH PARTITION m30_high; ALTER TABLE m30 DROP CONSTRAINT m30_pkey");
    let far = "CREATE FOREIGN TABLE m30_far PARTITION OF m30 FOR VALUES FROM (40) TO (50)
               SERVER elsewhere OPTIONS (table_name 'far')";
    let warning = "this command could not be followed for tracked table \"public.m30\": \
                   its partition \"public.m30_far\" is a foreign table";
    assert_eq!(notices(&mirror.source, far), [warning]);
    mirror.source.run(
        "INSERT INTO m VALUES (40, 'far'); UPDATE m SET body = 'all'; UPDATE m30 SET body = 'all below'",
    );
    mirror
        .source
        .run("DELETE FROM m30 WHERE id IN (35, 45); UPDATE m30_low SET body = 'all low' WHERE id > 36");
    assert_eq!(mirror.source.text(COUNT_FAR), "1");
    assert_eq!(intact(&mirror.source), "f");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    let reason = "Its partition \"public.m30_far\" is a foreign table.";
    let texts = ["cannot be exported any more", reason, "SELECT tx_untrack('public.m30');"];
    mirror.source.refused(&export).expect("42809", &texts);
    let texts = ["\"public.m30\" cannot be tracked", reason, "Track the other partitions"];
    mirror.source.refused("SELECT tx_track('m30')").expect("42809", &texts);
    // The same by ATTACH, and with all that is below.
    mirror.source.run("ALTER TABLE m30 DETACH PARTITION m30_far");
    let attach = "ALTER TABLE m30 ATTACH PARTITION m30_far FOR VALUES FROM (40) TO (50)";
    assert_eq!(notices(&mirror.source, attach), [warning]);
    mirror.source.run("ALTER TABLE m30 DETACH PARTITION m30_far");
    let branch = "CREATE TABLE m30_branch (LIKE m30) PARTITION BY RANGE (id);
                  ALTER TABLE m30_branch ATTACH PARTITION m30_far FOR VALUES FROM (40) TO (50);
                  ALTER TABLE m30 ATTACH PARTITION m30_branch FOR VALUES FROM (40) TO (50)";
    assert_eq!(notices(&mirror.source, branch), [warning]);
    mirror.source.run("UPDATE m SET body = 'all of them'");
    mirror.source.run("ALTER TABLE m30 DETACH PARTITION m30_branch; ALTER TABLE m30 ADD PRIMARY KEY (id)");
    follows_each(
        &mirror,
        &["m30"],
        &[
            "UPDATE m SET body = 'one less'",
            "CREATE TABLE m30_next PARTITION OF m30 FOR VALUES FROM (40) TO (50)",
            "INSERT INTO m VALUES (41, 'next')",
            "UPDATE m SET body = 'next'; DELETE FROM m30_next",
        ],
    );
}

/// A parent, whose rows are not those of its children.
const TREE: &str = "
    CREATE TABLE base (id int PRIMARY KEY, body text);
    CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base);
    INSERT INTO base VALUES (1, 'b'), (2, 'b');
    INSERT INTO child VALUES (11, 'c'), (12, 'c');
    INSERT INTO far VALUES (21, 'f'), (22, 'f');
";
const FAR_CHILD: &str =
    "CREATE FOREIGN TABLE far_child () INHERITS (base) SERVER elsewhere OPTIONS (table_name 'far')";

#[test]
fn parents_of_foreign_children_follow() {
    let mirror = mirror("foreign_child", &format!("{TREE}; {FAR_CHILD}"), &["base", "child"]);
    assert_eq!(captures(&mirror.source), "rows truncate");
    follows_each(
        &mirror,
        &["ONLY base", "ONLY child"],
        &[
            "UPDATE base SET body = 'all'",
            "UPDATE ONLY base SET id = id + 2",
            "DELETE FROM base WHERE id IN (3, 11, 21)",
            "INSERT INTO base VALUES (5, 'new'); INSERT INTO child VALUES (15, 'new')",
            "TRUNCATE ONLY base",
        ],
    );
    assert_eq!(mirror.source.text(COUNT_FAR), "1");
}

#[test]
fn foreign_children_that_come_later_stop_nobody() {
    let mirror = mirror("foreign_child_later", TREE, &["base", "child"]);
    let update = "UPDATE base SET body = 'all ' || clock_timestamp()";
    follows_each(
        &mirror,
        &["ONLY base", "ONLY child"],
        &[
            FAR_CHILD,
            update,
            "ALTER FOREIGN TABLE far_child NO INHERIT base",
            update,
            "SELECT tx_untrack('base'); SELECT tx_track('base'); SELECT tx_untrack('child'); SELECT tx_track('child')",
            "ALTER FOREIGN TABLE far_child INHERIT base",
            update,
            "CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child); ALTER FOREIGN TABLE far_child NO INHERIT base",
            "ALTER TABLE far_child INHERIT grandchild",
            update,
            "DELETE FROM base WHERE id IN (1, 12, 22)",
            "DROP FOREIGN TABLE far_child",
            update,
        ],
    );
    assert_ne!(mirror.source.text("SELECT count(*) FROM far WHERE body LIKE 'all%'"), "0");
}

/// A statement locks tables above others first. If the triggers were made in another order, it could wait for
/// us while we wait for it.
#[test]
fn no_writer_is_in_the_way_of_a_foreign_table_that_comes() {
    let mirror = mirror("foreign_deadlock", TREE, &["child"]);
    let mut writer = mirror.source.client();
    writer.batch_execute("BEGIN; UPDATE ONLY base SET body = 'writer'").unwrap();
    let source = mirror.source.clone();
    let comes = thread::spawn(move || notices(&source, FAR_CHILD));
    mirror.source.wait_until_blocked();
    thread::sleep(std::time::Duration::from_millis(1500));
    writer.batch_execute("UPDATE base SET body = 'all'; COMMIT").unwrap();
    assert_eq!(comes.join().unwrap(), [""; 0]);
    follows_each(&mirror, &["child"], &["SELECT 1", "UPDATE base SET body = 'all again'"]);
}

#[test]
fn a_foreign_table_that_comes_while_a_table_is_tracked_is_met() {
    let mirror = mirror("foreign_race", PARTS, &[]);
    mirror.source.run("CREATE TABLE m10 PARTITION OF m FOR VALUES FROM (0) TO (20) PARTITION BY RANGE (id)");
    let mut comes = mirror.source.client();
    comes
        .batch_execute(
            "BEGIN; CREATE FOREIGN TABLE far_part PARTITION OF m10 FOR VALUES FROM (0) TO (20)
             SERVER elsewhere OPTIONS (table_name 'far')",
        )
        .unwrap();
    let source = mirror.source.clone();
    let track = thread::spawn(move || source.run("SELECT tx_track('m20')"));
    mirror.source.wait_until_blocked();
    comes.batch_execute("COMMIT").unwrap();
    track.join().unwrap();
    assert_eq!(captures(&mirror.source), "rows truncate");
    mirror.source.run("INSERT INTO m VALUES (10, 'far'); UPDATE m SET body = 'all'");
    assert_eq!(intact(&mirror.source), "t");
}

#[test]
fn a_foreign_table_that_comes_while_a_parent_does_is_met() {
    let tables = "CREATE TABLE d (id int PRIMARY KEY, body text); CREATE TABLE p (LIKE d INCLUDING ALL);
                  CREATE TABLE q () INHERITS (p)";
    let mirror = mirror("foreign_parent_race", tables, &["d"]);
    let mut comes = mirror.source.client();
    comes
        .batch_execute(
            "BEGIN; CREATE FOREIGN TABLE far_child () INHERITS (q) SERVER elsewhere OPTIONS (table_name 'far')",
        )
        .unwrap();
    let source = mirror.source.clone();
    let joins = thread::spawn(move || source.run("ALTER TABLE d INHERIT p"));
    mirror.source.wait_until_blocked();
    comes.batch_execute("COMMIT").unwrap();
    joins.join().unwrap();
    assert_eq!(intact(&mirror.source), "t");
    mirror.source.run("INSERT INTO d VALUES (10, 'own'); UPDATE p SET body = 'all'");
    mirror.follow("");
    mirror.assert_same_tables(&["d"]);
}

#[test]
fn what_failed_is_seen_and_made_up_for() {
    let mirror = mirror("foreign_failed", PARTS, &["m20", "m30"]);
    let mut client = mirror.source.client();
    // A table that a cursor reads gets no other triggers.
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT FROM m20, m30_low; FETCH c").unwrap();
    client.batch_execute(FAR_PART).unwrap();
    client
        .batch_execute("CLOSE c; INSERT INTO m VALUES (10, 'far'); UPDATE m SET body = 'all'; COMMIT")
        .unwrap();
    assert_eq!(intact(&mirror.source), "f");
    let export = format!("SELECT tx_export{}", mirror.arguments("copy", ""));
    mirror.source.refused(&export).expect("55000", &["missing or disabled"]);
    follows_each(
        &mirror,
        &["m20", "m30"],
        &["SELECT tx_track('m20'), tx_track('m30')", "UPDATE m SET body = 'all'"],
    );
}

#[test]
fn a_dump_keeps_how_rows_are_captured() {
    let mirror = mirror("foreign_dump", PARTS, &["m20", "m30"]);
    mirror.source.run(&format!("{FAR_PART}; DROP FOREIGN TABLE m10; {FAR_PART}"));
    mirror.source.run("ALTER TABLE m DETACH PARTITION m10");
    let dump = SOURCE.dump("foreign_dump");
    SOURCE.create_database_with("foreign_restored", "TEMPLATE template0");
    SOURCE.psql("foreign_restored", &dump);
    let restored = Database::of(&SOURCE, "foreign_restored", &Store::new());
    assert_eq!(captures(&restored), "rows truncate");
    assert_eq!(intact(&restored), "t");
    let changes = "SELECT sum(changes) FROM tx_tracked";
    let before = restored.text(changes).parse::<i64>().unwrap();
    query(&mut restored.client(), "UPDATE m SET body = 'restored'").unwrap();
    assert_eq!(restored.text(changes).parse::<i64>().unwrap(), before + 30);
}
