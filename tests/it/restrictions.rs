//! Targets that do not get everything: fewer tables, columns and rows, and other values, and what they do not
//! get is nowhere.

use std::io::Read;

use crate::cluster::database::Database;
use crate::cluster::mirror::{Mirror, rows};
use crate::cluster::{COPY, SOURCE};

const PEOPLE: &str = "
    CREATE TABLE people (id int PRIMARY KEY, name text, email text, region text NOT NULL);
    INSERT INTO people SELECT i, 'name ' || i, 'secret' || i || '@example.com', CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END
                         FROM generate_series(1, 1000) AS i;
    SELECT tx_track('people');
    CREATE VIEW european AS SELECT id, upper(name) AS name, md5(email) AS email, region FROM people WHERE region = 'eu'";

fn mirror(name: &str) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(PEOPLE);
    mirror.copy.run("CREATE TABLE people (id int PRIMARY KEY, name text, email text, region text NOT NULL)");
    mirror
}

#[track_caller]
fn assert_shows(mirror: &Mirror, view: &str) {
    let columns = "id, name, email, region";
    let expected = rows(&mirror.source, &format!("SELECT {columns} FROM {view}"));
    assert_eq!(rows(&mirror.copy, &format!("SELECT {columns} FROM people")), expected);
}

/// Everything that lies in the store, without compression.
fn stored(mirror: &Mirror) -> String {
    let files = mirror.store.files().into_iter().map(|path| {
        let bytes = std::fs::read(mirror.store.path().join(&path)).expect("a file");
        if path.extension().is_none_or(|extension| extension != "zst") {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
        let mut text = String::new();
        zstd::Decoder::new(&*bytes).and_then(|mut file| file.read_to_string(&mut text)).expect("a frame");
        text
    });
    files.collect::<Vec<_>>().join("\n")
}

#[test]
fn rows_enter_and_leave_a_view_and_what_it_hides_is_nowhere() {
    let mirror = mirror("hides");
    mirror.source.run("CREATE TABLE salaries (id int PRIMARY KEY, salary text); INSERT INTO salaries VALUES (1, 'secret salary');
                       SELECT tx_track('salaries')");
    mirror.source.run("SELECT tx_restrict('copy', 'people', 'european')");
    mirror.follow("");
    assert_shows(&mirror, "european");
    let changes = [
        "UPDATE people SET region = 'us' WHERE id <= 10; UPDATE people SET region = 'eu' WHERE id > 990",
        "UPDATE people SET email = 'secret again', name = 'x' WHERE id % 3 = 0",
        "DELETE FROM people WHERE id % 7 = 0; UPDATE people SET id = -id WHERE id % 11 = 0; INSERT INTO people VALUES (5000, 'n', 'secret', 'eu')",
        "BEGIN; INSERT INTO salaries VALUES (2, 'secret'); UPDATE people SET region = 'eu'; SAVEPOINT s; DELETE FROM people WHERE id = 2; ROLLBACK TO s; COMMIT",
        "TRUNCATE people; INSERT INTO people VALUES (1, 'a', 'secret', 'eu'), (2, 'b', 'secret', 'us')",
    ];
    for change in changes {
        mirror.source.run(change);
        mirror.follow("");
        assert_shows(&mirror, "european");
    }
    let stored = stored(&mirror);
    assert!(stored.contains("NAME 2\t"), "the files were not read");
    assert!(!stored.contains("secret") && !stored.contains("salar"), "it is in the store");
    mirror.source.run("INSERT INTO salaries VALUES (3, 'x')");
    assert_eq!(mirror.export(""), "", "there was nothing for this target");
}

#[test]
fn targets_get_different_things_of_one_table() {
    let mirror = mirror("different");
    mirror.source.run("CREATE VIEW american AS SELECT id, name, NULL::text AS email, region FROM people WHERE region = 'us';
                       SELECT tx_restrict('copy', 'people', 'european'); SELECT tx_restrict('us', 'people', 'american')");
    let export_us = format!("SELECT kind, ids, records FROM tx_export{}", mirror.arguments("us", ""));
    let export_all = format!("SELECT kind, ids, records FROM tx_export{}", mirror.arguments("all", ""));
    assert_eq!(mirror.source.text(&export_us), "full|0|500");
    assert_eq!(mirror.source.text(&export_all), "full|0|1000");
    mirror.follow("");
    mirror.source.run("UPDATE people SET region = 'us' WHERE id IN (2, 4, 6)");
    assert_eq!(mirror.source.text(&export_us), "changes|3|3");
    assert_eq!(mirror.source.text(&export_all), "changes|3|3");
    mirror.follow("");
    assert_shows(&mirror, "european");
}

#[test]
fn each_change_of_what_a_target_gets_sends_the_table_in_full() {
    let mirror = mirror("changes");
    let kind = |mirror: &Mirror| mirror.export("").split('|').nth(2).unwrap_or("nothing").to_owned();
    assert_eq!(kind(&mirror), "full");
    let steps = [
        ("SELECT tx_restrict('copy', 'people')", "nothing"),
        ("SELECT tx_restrict('copy', 'people', 'european')", "full"),
        ("SELECT tx_restrict('copy', 'people', 'european')", "nothing"),
        (
            "CREATE OR REPLACE VIEW european AS SELECT id, upper(name) AS name, md5(email) AS email, region FROM people WHERE region <> 'us'",
            "full",
        ),
        ("ALTER VIEW european RENAME TO european_people", "nothing"),
        (
            "CREATE VIEW other AS SELECT id, name, region FROM people; SELECT tx_restrict('copy', 'people', 'other')",
            "full",
        ),
        ("ALTER TABLE people ADD unseen int DEFAULT 1", "nothing"),
        ("SELECT tx_unrestrict('copy')", "full"),
    ];
    for (step, expected) in steps {
        mirror.source.run(step);
        assert_eq!(kind(&mirror), expected, "{step}");
    }
}

/// What a view makes of a row changes with types and functions that the table itself does not name.
#[test]
fn types_and_operators_that_only_a_view_uses() {
    let mirror = Mirror::shared("restricted_indirect");
    mirror.run("CREATE TYPE mood AS ENUM ('sad', 'glad')");
    mirror.source.run(
        "CREATE FUNCTION mood_of(n int) RETURNS mood IMMUTABLE LANGUAGE sql
             BEGIN ATOMIC SELECT CASE WHEN n = 1 THEN 'sad'::mood ELSE 'glad'::mood END; END;
         CREATE FUNCTION more(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $2';
         CREATE OPERATOR @@@ (FUNCTION = more, LEFTARG = int, RIGHTARG = int);
         CREATE TABLE moods (id int PRIMARY KEY); INSERT INTO moods VALUES (1), (2);
         CREATE TABLE sums (id int PRIMARY KEY); INSERT INTO sums VALUES (1), (2);
         SELECT tx_track('moods'), tx_track('sums');
         CREATE VIEW moods_seen AS SELECT id, mood_of(id) AS m FROM moods;
         CREATE VIEW sums_seen AS SELECT id, id OPERATOR(public.@@@) 100 AS s FROM sums;
         SELECT tx_restrict('copy', 'moods', 'moods_seen'), tx_restrict('copy', 'sums', 'sums_seen')",
    );
    mirror.copy.run(
        "CREATE TABLE moods (id int PRIMARY KEY, m mood); CREATE TABLE sums (id int PRIMARY KEY, s int)",
    );
    mirror.follow("");
    mirror.source.run("CREATE OR REPLACE FUNCTION more(a int, b int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 - $2'");
    assert!(mirror.export("").contains("public.sums|full"));
    mirror.run("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'");
    assert!(mirror.export("").contains("public.moods|full"));
    mirror.import();
    for (table, view) in [("moods", "moods_seen"), ("sums", "sums_seen")] {
        assert_eq!(
            rows(&mirror.copy, &format!("SELECT * FROM {table}")),
            rows(&mirror.source, &format!("SELECT * FROM {view}"))
        );
    }
    assert_eq!(mirror.export(""), "");
}

#[test]
fn what_a_target_does_not_get_it_does_not_hold_back() {
    let mirror = mirror("lets_go");
    mirror.source.run("CREATE TABLE other (id int PRIMARY KEY); SELECT tx_track('other')");
    mirror.export("");
    mirror.source.run("SELECT tx_restrict('copy', 'people', 'european')");
    for round in 1..=4 {
        mirror.source.run(&format!("INSERT INTO other SELECT generate_series({round}000, {round}999)"));
        mirror.source.run("SELECT FROM tx_prune()");
    }
    assert_eq!(
        mirror.source.text("SELECT changes <= 1000 FROM tx_tracked WHERE table_name = 'other'::regclass"),
        "t"
    );
    let held = "SELECT held_back_by FROM tx_prune() WHERE table_name = 'public.other'";
    assert_eq!(mirror.source.text(held), "{}");
}

#[test]
fn a_rolled_back_export_of_a_restricted_target_is_healed() {
    let mirror = mirror("heals");
    mirror.source.run("SELECT tx_restrict('copy', 'people', 'european')");
    mirror.follow("");
    mirror.source.run("UPDATE people SET region = 'us' WHERE id IN (2, 4)");
    mirror.source.run(&format!("BEGIN; SELECT FROM tx_export{}; ROLLBACK", mirror.arguments("copy", "")));
    mirror.import();
    mirror.source.run("UPDATE people SET region = 'eu' WHERE id = 4");
    mirror.follow("");
    assert_shows(&mirror, "european");
}

#[test]
fn a_restriction_survives_a_dump() {
    let mirror = mirror("restricted");
    mirror.source.run("SELECT tx_restrict('copy', 'people', 'european')");
    mirror.follow("");
    let dump = SOURCE.dump("restricted");
    COPY.create_database("restricted_restored");
    COPY.psql("restricted_restored", &dump);
    let restored = Database::of(&COPY, "restricted_restored", &mirror.store);
    assert_eq!(restored.text("SELECT * FROM tx_restrictions"), "copy|people|european");
    restored.run("UPDATE people SET region = 'us' WHERE id = 2");
    restored.run(&format!("SELECT tx_reset{}", mirror.arguments("copy", "")));
    assert_eq!(
        restored.text(&format!("SELECT kind, records FROM tx_export{}", mirror.arguments("copy", ""))),
        "full|499"
    );
}

#[test]
fn a_partitioned_table_and_a_wide_key_can_be_seen_through_a_view() {
    let mirror = Mirror::shared("partitioned");
    mirror.source.run(
        "CREATE TABLE t (a int, b text, v int, hidden int, PRIMARY KEY (b, a)) PARTITION BY RANGE (a);
         CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100); CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200);
         INSERT INTO t SELECT i, 'b' || i % 3, i, i FROM generate_series(1, 199) AS i;
         SELECT tx_track('t');
         CREATE VIEW seen AS SELECT v * 2 AS v, a, b FROM t WHERE v % 2 = 0;
         SELECT tx_restrict('copy', 't', 'seen')",
    );
    mirror.copy.run("CREATE TABLE t (a int, b text, v int, PRIMARY KEY (a, b))");
    let same = || {
        assert_eq!(
            rows(&mirror.copy, "SELECT a, b, v FROM t"),
            rows(&mirror.source, "SELECT a, b, v FROM seen")
        );
    };
    mirror.follow("");
    same();
    mirror
        .source
        .run("UPDATE t SET a = a + 100 WHERE a < 50; UPDATE t1 SET v = v + 1; DELETE FROM t2 WHERE v > 190");
    mirror.follow("");
    same();
}
