//! Tables that share rows or statements with others: partitioned tables, partitions, and inheritance trees.
//!
//! A statement fires the triggers of the table that it names. By each way to a row the change must be
//! captured, and source and copy be equal afterwards.

use crate::cluster::database::query;
use crate::cluster::mirror::Mirror;

fn mirror(name: &str, ddl: &str) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(ddl);
    mirror
}

/// Runs statements at the source, and compares after each.
#[track_caller]
fn follows_each(mirror: &Mirror, tables: &[&str], statements: &[&str]) {
    for statement in statements {
        mirror.source.run(statement);
        mirror.export("");
        mirror.import();
        mirror.assert_same_after(statement, tables);
    }
}

/// The kinds of the parts that the next export sends.
fn kinds(mirror: &Mirror) -> Vec<String> {
    mirror.export("").lines().map(|line| line.split('|').nth(2).unwrap_or_default().to_owned()).collect()
}

/// Two levels of partitions; the columns of some are in another order, or have holes between them.
const EVENTS: &str = "
    CREATE TABLE events (region text, id int, body text, at date, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
    CREATE TABLE events_north PARTITION OF events FOR VALUES IN ('n');
    CREATE TABLE events_south (gone int, body text, id int NOT NULL, at date, region text NOT NULL);
    ALTER TABLE events_south DROP COLUMN gone;
    ALTER TABLE events ATTACH PARTITION events_south FOR VALUES IN ('s');
    CREATE TABLE events_east PARTITION OF events FOR VALUES IN ('e') PARTITION BY RANGE (id);
    CREATE TABLE events_east_low PARTITION OF events_east FOR VALUES FROM (MINVALUE) TO (100);
    CREATE TABLE events_east_high (at date, region text NOT NULL, body text, id int NOT NULL);
    ALTER TABLE events_east ATTACH PARTITION events_east_high FOR VALUES FROM (100) TO (MAXVALUE);
    INSERT INTO events SELECT r, i, 'first', '2024-02-29' FROM unnest('{n,s,e}'::text[]) AS r, generate_series(1, 200, 7) AS i;
";

#[test]
fn a_partitioned_table_follows_whichever_way_it_is_written_to() {
    let mirror = mirror("events", EVENTS);
    mirror.track(&["events"]);
    follows_each(
        &mirror,
        &["events"],
        &[
            "SELECT 1",
            "INSERT INTO events VALUES ('n', 1000, 'root'), ('s', 1000, 'root'), ('e', 1000, 'root'), ('e', 2, 'root')",
            "INSERT INTO events_south (id, region, body) VALUES (1001, 's', 'leaf')",
            "INSERT INTO events_east VALUES ('e', 3, 'middle'), ('e', 1003, 'middle')",
            "INSERT INTO events_east_high (id, region, body) VALUES (1004, 'e', 'leaf')",
            "UPDATE events SET body = 'updated' WHERE id % 2 = 0",
            "UPDATE events_south SET body = 'updated leaf' WHERE id < 50",
            "UPDATE events_east SET body = 'updated middle' WHERE id < 50",
            "UPDATE events_east_high SET id = id + 10000 WHERE id < 150",
            // From one partition to another, at both levels.
            "UPDATE events SET region = 's' WHERE region = 'n' AND id = 1000 - 0 AND NOT EXISTS (SELECT FROM events WHERE region = 's' AND id = 1000)",
            "UPDATE events SET region = 'n', body = 'moved' WHERE region = 's' AND id = 1001",
            "UPDATE events_east SET id = id + 500 WHERE id = 3",
            "DELETE FROM events WHERE id = 8",
            "DELETE FROM events_north WHERE id = 15",
            "DELETE FROM events_east WHERE id = 22",
            "COPY (SELECT 1) TO '/dev/null'",
            "INSERT INTO events VALUES ('n', 1, 'conflict'), ('e', 1, 'conflict') ON CONFLICT (id, region) DO UPDATE SET body = excluded.body",
            "MERGE INTO events AS e USING (VALUES ('s', 1), ('s', 5000)) AS v (r, i) ON e.region = v.r AND e.id = v.i
                  WHEN MATCHED THEN UPDATE SET body = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.r, v.i, 'merged')",
            "WITH gone AS (DELETE FROM events_south WHERE id < 30 RETURNING *) INSERT INTO events_north SELECT 'n', id + 20000, body FROM gone",
            "TRUNCATE events_north",
            "TRUNCATE events_east",
            "SET session_replication_role = replica; INSERT INTO events VALUES ('n', 1, 'replica')",
            "TRUNCATE events",
            "INSERT INTO events VALUES ('n', 1, 'after')",
        ],
    );
    assert_eq!(mirror.export(""), "");
}

#[test]
fn partitions_that_come_and_go_are_followed() {
    let mirror = mirror("come_and_go", EVENTS);
    mirror.track(&["events"]);
    mirror.follow("");
    mirror.source.run("CREATE TABLE events_west PARTITION OF events FOR VALUES IN ('w')");
    assert_eq!(mirror.export(""), "", "an empty partition changes nothing");
    follows_each(
        &mirror,
        &["events"],
        &[
            "INSERT INTO events_west VALUES ('w', 1, 'new partition')",
            "UPDATE events SET body = 'through the root' WHERE region = 'w'",
            "ALTER TABLE events DETACH PARTITION events_west",
            "INSERT INTO events_west VALUES ('w', 2, 'on its own')",
            "ALTER TABLE events ATTACH PARTITION events_west FOR VALUES IN ('w')",
            "INSERT INTO events_west VALUES ('w', 3, 'attached')",
            "ALTER TABLE events DETACH PARTITION events_west CONCURRENTLY",
            "INSERT INTO events_west VALUES ('w', 4, 'on its own again')",
            "DROP TABLE events_south",
            "CREATE TABLE events_both PARTITION OF events FOR VALUES IN ('s', 'w') PARTITION BY LIST (region)",
            "CREATE TABLE events_both_s PARTITION OF events_both FOR VALUES IN ('s')",
            "INSERT INTO events_both_s VALUES ('s', 7, 'third level')",
            "ALTER TABLE events_both ATTACH PARTITION events_west FOR VALUES IN ('w')",
            "UPDATE events_both SET body = 'all of it'",
            "ALTER TABLE events DETACH PARTITION events_both",
            "UPDATE events_both SET body = 'not ours any more'",
            "DROP TABLE events_both",
            "DROP TABLE events_east",
        ],
    );
    assert_eq!(
        mirror.source.text(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'events_north'::regclass AND tgenabled = 'A'"
        ),
        "4"
    );
}

#[test]
fn a_partition_that_comes_or_goes_does_not_make_the_table_full() {
    let mirror = mirror("full_or_not", EVENTS);
    mirror.track(&["events"]);
    mirror.follow("");
    for statements in [
        "CREATE TABLE w PARTITION OF events FOR VALUES IN ('w'); INSERT INTO w VALUES ('w', 1)",
        "ALTER TABLE events DETACH PARTITION w",
        "ALTER TABLE w RENAME TO ww; ALTER TABLE events ATTACH PARTITION ww FOR VALUES IN ('w')",
        "DELETE FROM ww",
    ] {
        mirror.source.run(statements);
        assert_eq!(kinds(&mirror), ["changes"], "{statements}");
    }
    mirror.import();
    mirror.assert_same_tables(&["events"]);
}

#[test]
fn a_partition_can_be_tracked_by_itself() {
    let mirror = mirror("leaf", EVENTS);
    mirror.track(&["events_south", "events_east_low"]);
    follows_each(
        &mirror,
        &["events_south", "events_east_low"],
        &[
            "SELECT 1",
            "INSERT INTO events VALUES ('n', 1000, 'elsewhere'), ('s', 1000, 'root'), ('e', 2, 'root')",
            "INSERT INTO events_south (id, region, body) VALUES (1001, 's', 'leaf')",
            "UPDATE events SET body = 'updated'",
            "UPDATE events_east SET id = id + 300 WHERE id = 2",
            "UPDATE events SET region = 's' WHERE region = 'n' AND id = 1000 AND false",
            "DELETE FROM events WHERE id = 8",
            "TRUNCATE events_east",
            "ALTER TABLE events DETACH PARTITION events_south",
            "UPDATE events_south SET body = 'alone'",
            "ALTER TABLE events ATTACH PARTITION events_south FOR VALUES IN ('s')",
            "UPDATE events SET body = 'together'",
            "TRUNCATE events",
        ],
    );
}

#[test]
fn inheritance_trees_follow_table_by_table() {
    let tree = "
        CREATE TABLE base (id int PRIMARY KEY, body text);
        CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (base);
        CREATE TABLE grandchild (PRIMARY KEY (id)) INHERITS (child);
        INSERT INTO base VALUES (1, 'b'), (2, 'b');
        INSERT INTO child VALUES (11, 'c'), (12, 'c');
        INSERT INTO grandchild VALUES (21, 'g'), (22, 'g');
    ";
    let mirror = mirror("tree", tree);
    mirror.track(&["base", "child", "grandchild"]);
    let tables = ["ONLY base", "ONLY child", "ONLY grandchild"];
    follows_each(
        &mirror,
        &tables,
        &[
            "SELECT 1",
            "UPDATE base SET body = 'all'",
            "UPDATE ONLY base SET body = 'only'",
            "UPDATE child SET body = 'below', extra = 'x'",
            "DELETE FROM base WHERE id IN (2, 12, 22)",
            "INSERT INTO grandchild VALUES (1, 'the same key as in base')",
            "DELETE FROM ONLY base WHERE id = 1",
            "ALTER TABLE grandchild NO INHERIT child",
            "UPDATE grandchild SET body = 'alone'",
            "UPDATE base SET body = 'without the grandchild'",
            "ALTER TABLE grandchild INHERIT child",
            "UPDATE base SET body = 'with it'",
            "CREATE TABLE younger (PRIMARY KEY (id)) INHERITS (base); INSERT INTO younger VALUES (1, 'not tracked')",
            "UPDATE base SET id = id + 100",
            "TRUNCATE base",
        ],
    );
}

#[test]
fn triggers_go_with_tracking() {
    let mirror = mirror("untracked", EVENTS);
    mirror.source.run("SELECT tx_track('events'); SELECT tx_track('events_east_low')");
    let ours = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pg_table_export%'";
    // Seven tables, and the leaf's own with its two ancestors.
    assert_eq!(mirror.source.text(ours), "36");
    mirror.source.run("SELECT tx_untrack('events')");
    assert_eq!(mirror.source.text(ours), "12");
    mirror.source.run("SELECT tx_untrack('events_east_low')");
    assert_eq!(mirror.source.text(ours), "0");
}

/// A statement locks tables above others first. If tracking did it in another order, each could wait for the
/// other.
#[test]
fn no_writer_is_in_the_way_of_tracking_and_its_end() {
    let ddl = "CREATE TABLE base (id int PRIMARY KEY, body text); INSERT INTO base VALUES (1, 'first');
               CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base); INSERT INTO child VALUES (2, 'first')";
    let mirror = mirror("member_deadlock", ddl);
    for (one, all) in [
        ("UPDATE ONLY base SET body = 'writer'", "UPDATE base SET body = 'all'"),
        ("TRUNCATE ONLY base", "TRUNCATE base"),
    ] {
        for call in ["SELECT tx_track('child')", "SELECT tx_untrack('child')"] {
            let mut writer = mirror.source.client();
            writer.batch_execute(&format!("BEGIN; {one}")).unwrap();
            let source = mirror.source.clone();
            let calling = std::thread::spawn(move || source.run(call));
            mirror.source.wait_until_blocked();
            writer.batch_execute(&format!("{all}; COMMIT")).unwrap();
            calling.join().unwrap();
        }
    }
}

/// A tracked child, exported, and `base`, which is about to be its parent.
fn child_of_base(name: &str) -> Mirror {
    let ddl = "CREATE TABLE base (id int PRIMARY KEY, body text);
               CREATE TABLE child (LIKE base INCLUDING ALL); INSERT INTO child VALUES (1, 'first'), (2, 'first')";
    Mirror::tracking(name, ddl, &["child"])
}

#[test]
fn what_was_written_through_a_parent_without_triggers_is_sent_when_it_has_gone() {
    let mirror = child_of_base("lost_parent");
    // The triggers of the parent are gone, and exports are refused while it is one.
    mirror.source.run("ALTER TABLE child INHERIT base");
    mirror.follow("");
    mirror.source.run(
        "DO $$ DECLARE t name; BEGIN
             FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'base'::regclass LOOP
                 EXECUTE format('DROP TRIGGER %I ON base', t); END LOOP; END $$",
    );
    mirror.source.run("UPDATE base SET body = 'written unseen' WHERE id = 1");
    mirror.source.run("ALTER TABLE child NO INHERIT base");
    assert_eq!(kinds(&mirror), ["full"]);
    mirror.import();
    mirror.assert_same_tables(&["child"]);
    // The parent could not be given triggers.
    let (mut client, warnings) = mirror.source.watched();
    query(
        &mut client,
        "BEGIN; DECLARE c CURSOR FOR SELECT FROM base; FETCH c;
         ALTER TABLE child INHERIT base; CLOSE c;
         UPDATE base SET body = 'written unseen' WHERE id = 2;
         ALTER TABLE child NO INHERIT base; COMMIT",
    )
    .unwrap();
    assert!(warnings.lock().unwrap().iter().any(|one| one.contains("could not be followed")));
    assert_eq!(kinds(&mirror), ["full"]);
    mirror.import();
    mirror.assert_same_tables(&["child"]);
    // A parent that leaves with its triggers has hidden nothing.
    mirror.source.run("ALTER TABLE child INHERIT base");
    mirror.follow("");
    mirror.source.run("UPDATE base SET body = 'seen'; ALTER TABLE child NO INHERIT base");
    assert_eq!(kinds(&mirror), ["changes"]);
    mirror.import();
    mirror.assert_same_tables(&["child"]);
}

#[test]
fn a_tracked_table_that_is_dropped_leaves_its_relatives_writable() {
    let mirror = mirror(
        "dropped_leaf",
        "CREATE TABLE m (id int NOT NULL, body text) PARTITION BY RANGE (id);
         CREATE TABLE m20 PARTITION OF m (PRIMARY KEY (id)) FOR VALUES FROM (20) TO (30);
         CREATE TABLE m30 PARTITION OF m (PRIMARY KEY (id)) FOR VALUES FROM (30) TO (40);
         CREATE TABLE base (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (base);
         SELECT tx_track('m20'); SELECT tx_track('child'); DROP TABLE m20, child",
    );
    mirror.source.run(
        "INSERT INTO m VALUES (31, 'x'); UPDATE m SET body = 'y'; DELETE FROM m; TRUNCATE m;
         INSERT INTO base VALUES (1); UPDATE base SET id = 2; TRUNCATE base",
    );
}

#[test]
fn a_table_that_becomes_a_relative_again_is_captured_by_sessions_that_knew_it_as_none() {
    let mirror = child_of_base("relative_again");
    let mut writer = mirror.source.client();
    // The trigger is left over: its table is the parent of no tracked table.
    mirror.source.run("ALTER TABLE child INHERIT base");
    mirror.follow("");
    mirror
        .source
        .run("ALTER EVENT TRIGGER pg_table_export_members DISABLE; ALTER TABLE child NO INHERIT base");
    query(&mut writer, "UPDATE base SET body = 'nothing'").unwrap();
    mirror
        .source
        .run("ALTER TABLE child INHERIT base; ALTER EVENT TRIGGER pg_table_export_members ENABLE ALWAYS");
    mirror.source.run("SELECT tx_reset('copy')");
    mirror.follow("");
    query(&mut writer, "UPDATE base SET body = 'captured'").unwrap();
    mirror.follow("");
    mirror.assert_same_tables(&["child"]);
}

/// The triggers of a table that has left stay if they cannot be dropped. Disabled meanwhile, they miss what it
/// changes as a parent again.
#[test]
fn a_parent_that_comes_back_with_the_triggers_of_before_sends_the_table() {
    let mirror = Mirror::tracking(
        "kept_above",
        "CREATE TABLE x (id int, v text); CREATE TABLE c (id int, v text);
         CREATE TABLE dd (id int PRIMARY KEY, v text) INHERITS (c);
         INSERT INTO dd VALUES (1, 'one'), (2, 'two')",
        &["dd"],
    );
    mirror.source.run("ALTER TABLE c INHERIT x");
    mirror.follow("");
    let mut reader = mirror.source.client();
    reader.batch_execute("BEGIN; SELECT FROM ONLY x").unwrap();
    let (mut client, warnings) = mirror.source.watched();
    client.batch_execute("SET lock_timeout = '300ms'; ALTER TABLE c NO INHERIT x").unwrap();
    assert!(warnings.lock().unwrap().iter().any(|one| one.contains("could not be followed")));
    reader.batch_execute("COMMIT").unwrap();
    mirror.source.run("UPDATE dd SET v = 'seen'");
    mirror.follow("");
    mirror
        .source
        .run("ALTER TABLE x DISABLE TRIGGER USER; ALTER TABLE c INHERIT x; UPDATE x SET v = 'unseen'");
    let enable = mirror.source.text(
        "SELECT format('ALTER TABLE x %s', string_agg(format('ENABLE ALWAYS TRIGGER %I', tgname), ', '))
           FROM pg_trigger WHERE tgrelid = 'x'::regclass",
    );
    assert!(enable.contains("pg_table_export_update"), "{enable}");
    mirror.source.run(&enable);
    mirror.source.run("ALTER TABLE c NO INHERIT x");
    assert_eq!(kinds(&mirror), ["full"]);
    mirror.import();
    mirror.assert_same_tables(&["dd"]);
}

/// A partition that comes while the triggers of its root are disabled gets none, until they are enabled.
#[test]
fn a_partition_that_came_while_triggers_were_disabled_gets_them() {
    let mirror = Mirror::tracking(
        "came_disabled",
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10); INSERT INTO t VALUES (1, 'one')",
        &["t"],
    );
    let enable = mirror.source.text(
        "SELECT format('ALTER TABLE ONLY t %s', string_agg(format('ENABLE ALWAYS TRIGGER %I', tgname), ', '))
           FROM pg_trigger WHERE tgrelid = 't'::regclass AND tgname LIKE 'pg_table_export%'",
    );
    mirror.source.run("ALTER TABLE ONLY t DISABLE TRIGGER ALL");
    mirror.source.run(
        "CREATE TABLE high (LIKE t INCLUDING ALL); INSERT INTO high VALUES (10, 'ten');
         ALTER TABLE t ATTACH PARTITION high FOR VALUES FROM (10) TO (20)",
    );
    mirror.source.run(&enable);
    assert_eq!(mirror.source.text("SELECT triggers_intact FROM tx_tracked"), "t");
    assert_eq!(kinds(&mirror), ["full"]);
    mirror.import();
    mirror.assert_same_tables(&["t"]);
}
