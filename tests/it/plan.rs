//! What tx_plan tells: every obstacle of every table at once, before and without doing the work, and with
//! `try_rows` also what the rows themselves meet.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::database::{Database, query};
use crate::cluster::mirror::Mirror;

/// An obstacle, as tx_plan returns it.
struct Obstacle {
    batch: String,
    table: String,
    text: String,
    hint: String,
}

impl Obstacle {
    /// The statements that the hint says to run.
    fn statements(&self) -> &str {
        let after = |words| self.hint.split(words).nth(1);
        after("run at the source: ").or_else(|| after("un: ")).unwrap_or(&self.hint)
    }
}

/// Plans in a transaction that may not write, and makes sure that it could not: neither an id nor a lock on a
/// user's table is left.
fn plan(mirror: &Mirror, role: &str, further: &str) -> Vec<Obstacle> {
    let mut client = mirror.copy.client();
    client.batch_execute(&format!("SET ROLE {role}; BEGIN READ ONLY")).unwrap();
    let found = obstacles(mirror, |sql| query(&mut client, sql).unwrap(), further);
    let left = "SELECT pg_current_xact_id_if_assigned() IS NULL, count(*) FROM pg_locks
                 WHERE pid = pg_backend_pid() AND relation >= 16384
                   AND relation NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'table_export'::regnamespace)";
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(query(&mut client, left).unwrap(), "t|0");
    found
}

/// Does the work as well, and makes sure that it is undone.
fn try_rows(mirror: &Mirror, further: &str) -> Vec<Obstacle> {
    let rows = "SELECT json_agg(t ORDER BY id)::text FROM t";
    let before = mirror.copy.text(rows);
    let found = obstacles(mirror, |sql| mirror.copy.text(sql), &format!("{further}, try_rows => true"));
    assert_eq!(mirror.copy.text(rows), before);
    found
}

fn obstacles(mirror: &Mirror, mut ask: impl FnMut(&str) -> String, further: &str) -> Vec<Obstacle> {
    let plan = format!(
        "SELECT concat_ws('§', coalesce(batch::text, ''), coalesce(table_name, ''), obstacle, coalesce(hint, '')) || '¶'
           FROM tx_plan{} WHERE obstacle IS NOT NULL",
        mirror.arguments("copy", further)
    );
    let rows = ask(&plan);
    let rows = rows.split('¶').map(|row| row.trim_start_matches('\n')).filter(|row| !row.is_empty());
    let obstacle = |row: &str| {
        let [batch, table, text, hint] =
            <[&str; 4]>::try_from(row.split('§').collect::<Vec<_>>()).expect("four columns");
        let [batch, table, text, hint] = [batch, table, text, hint].map(str::to_owned);
        Obstacle { batch, table, text, hint }
    };
    rows.map(obstacle).collect()
}

#[track_caller]
fn expect(found: &[Obstacle], expected: &[(&str, &str, &str)]) {
    let all = found.iter().map(|one| format!("{}|{}|{}", one.batch, one.table, one.text));
    let all = all.collect::<Vec<_>>().join("\n");
    assert_eq!(found.len(), expected.len(), "{all}");
    for (batch, table, text) in expected {
        let is_it = |one: &&Obstacle| one.batch == *batch && one.table == *table && one.text.contains(text);
        assert!(found.iter().any(|one| is_it(&one)), "{batch}|{table}|{text} is not in:\n{all}");
    }
}

/// The tables of the source, and what stands in their way at the copy.
const IN_THE_WAY: [(&str, &str); 10] = [
    ("public.absent", "does not exist here"),
    ("away.absent", "does not exist here"),
    ("public.narrow", "column \"v\" of table \"public.narrow\" does not exist here"),
    ("public.narrow", "column \"w\" of table \"public.narrow\" does not exist here"),
    ("public.other_type", "has a type with other attributes here"),
    ("public.no_right", "permission denied for table \"public.no_right\". The caller needs INSERT, UPDATE"),
    ("public.own_rows", "has rows that no import has written"),
    ("public.of_another", "is the copy of table \"public.of_another\" of target \"other\""),
    ("public.late_trigger", "may change its rows after an import has checked them"),
    ("public.made_anew", "is not the copy of table \"public.made_anew\" of target \"copy\""),
];

fn with_all_in_the_way(name: &str) -> (Mirror, String) {
    let mirror = Mirror::shared(name);
    let importer = format!("{name}_importer");
    mirror.copy.run(&format!(
        "CREATE ROLE {importer}; GRANT pg_read_server_files TO {importer};
         GRANT EXECUTE ON FUNCTION tx_import, tx_plan TO {importer};
         ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {importer};
         ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {importer}"
    ));
    mirror.source.run(
        "CREATE TABLE made_anew (id int PRIMARY KEY, v int); CREATE TABLE of_another (id int PRIMARY KEY)",
    );
    mirror.track(&["made_anew", "of_another"]);
    mirror.source.run("SELECT tx_restrict('other', 'of_another'); SELECT tx_restrict('copy', 'made_anew')");
    mirror.follow("");
    mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments("other", "")));
    mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("other", "")));
    mirror.source.run(
        "SELECT tx_unrestrict('copy');
         CREATE SCHEMA away; CREATE TYPE pair AS (a int, b int);
         CREATE TABLE absent (id int PRIMARY KEY, v varchar(5) COLLATE \"C\");
         CREATE TABLE away.absent (id int PRIMARY KEY);
         CREATE TABLE narrow (id int PRIMARY KEY, v int, w numeric(5, 2));
         CREATE TABLE other_type (id int PRIMARY KEY, p pair);
         CREATE TABLE no_right (id int PRIMARY KEY);
         CREATE TABLE own_rows (id int PRIMARY KEY);
         CREATE TABLE late_trigger (id int PRIMARY KEY);
         INSERT INTO made_anew VALUES (1, 1); INSERT INTO absent VALUES (1, 'a'); INSERT INTO narrow VALUES (1, 1, 1);
         INSERT INTO other_type VALUES (1, (1, 2)); INSERT INTO own_rows VALUES (1)",
    );
    for table in ["absent", "away.absent", "narrow", "other_type", "no_right", "own_rows", "late_trigger"] {
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    mirror.copy.run(&format!(
        "CREATE TYPE pair AS (b int, a int);
         CREATE TABLE narrow (id int PRIMARY KEY);
         CREATE TABLE other_type (id int PRIMARY KEY, p pair);
         CREATE TABLE no_right (id int PRIMARY KEY); REVOKE ALL ON no_right FROM {importer};
         CREATE TABLE own_rows (id int PRIMARY KEY); INSERT INTO own_rows VALUES (2);
         CREATE TABLE late_trigger (id int PRIMARY KEY);
         CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late_trigger DEFERRABLE FOR EACH ROW EXECUTE FUNCTION nothing();
         ALTER TABLE late_trigger ENABLE ALWAYS TRIGGER late;
         DROP TABLE made_anew; CREATE TABLE made_anew (id int PRIMARY KEY, v int)"
    ));
    mirror.export("");
    (mirror, importer)
}

fn forget(database: &Database, role: &str) {
    database.run(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}

#[test]
fn every_obstacle_is_told_at_once_with_what_ends_it() {
    let (mirror, importer) = with_all_in_the_way("plan_all");
    let found = plan(&mirror, &importer, "");
    expect(&found, &IN_THE_WAY.map(|(table, text)| ("2", table, text)));
    for obstacle in &found {
        match obstacle.table.as_str() {
            "public.own_rows" => assert!(obstacle.hint.contains("adopt => true"), "{}", obstacle.hint),
            "public.made_anew" => {
                assert!(obstacle.hint.contains("run at the source"), "{}", obstacle.hint);
                mirror.source.run(obstacle.statements());
            }
            _ => mirror.copy.run(obstacle.statements()),
        }
    }
    // Then the changes are left out, because the next batch has the table in full.
    mirror.export("");
    expect(&plan(&mirror, &importer, ", adopt => true"), &[]);
    let mut client = mirror.copy.client();
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", ", adopt => true"));
    query(&mut client, &format!("SET ROLE {importer}; {import}")).unwrap();
    let tables = IN_THE_WAY.map(|(table, _)| table);
    mirror.assert_same_tables(&tables);
    forget(&mirror.copy, &importer);
}

#[test]
fn tables_that_would_be_created_need_their_schema() {
    let mirror = Mirror::shared("plan_schema");
    mirror.source.run(
        "CREATE SCHEMA away; CREATE TABLE away.t (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)",
    );
    mirror.source.run("SELECT tx_track('away.t'); SELECT tx_track('t')");
    mirror.export("");
    mirror.copy.run(
        "CREATE ROLE plan_creator; GRANT pg_read_server_files TO plan_creator;
         GRANT EXECUTE ON FUNCTION tx_import, tx_plan TO plan_creator",
    );
    let create = ", create_tables => true";
    let found = plan(&mirror, "plan_creator", create);
    let expected = [
        ("1", "away.t", "schema \"away\" does not exist"),
        (
            "1",
            "public.t",
            "permission denied for schema \"public\". The caller needs CREATE and USAGE on it.",
        ),
    ];
    expect(&found, &expected);
    found.iter().for_each(|one| mirror.copy.run(one.statements()));
    let found = plan(&mirror, "plan_creator", create);
    expect(&found, &[("1", "away.t", "permission denied for schema \"away\"")]);
    mirror.copy.run(found[0].statements());
    let mut client = mirror.copy.client();
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", create));
    query(&mut client, &format!("SET ROLE plan_creator; {import}")).unwrap();
    mirror.assert_same_tables(&["t", "away.t"]);
    forget(&mirror.copy, "plan_creator");
}

#[test]
fn an_import_meets_the_first_of_the_same_obstacles() {
    let (mirror, importer) = with_all_in_the_way("plan_first");
    let refusal = mirror.copy.refused(&format!("SELECT FROM tx_import{}", mirror.arguments("copy", "")));
    let found = plan(&mirror, "postgres", "");
    assert_eq!(found.len(), IN_THE_WAY.len() - 1, "a superuser has all rights");
    assert_eq!(found[0].text, format!("{}. {}", refusal.message, refusal.detail));
    assert_eq!(found[0].hint, refusal.hint);
    // Trying finds nothing that is not known.
    let tried = obstacles(&mirror, |sql| mirror.copy.text(sql), ", try_rows => true");
    assert_eq!(tried.len(), found.len());
    forget(&mirror.copy, &importer);
}

#[test]
fn what_postgresql_refuses_of_one_table_hides_no_other() {
    let mirror = Mirror::shared("plan_raised");
    mirror.source.run("CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY); CREATE TABLE z (id int PRIMARY KEY)");
    mirror.source.run("SELECT tx_track('hidden.t'); SELECT tx_track('z')");
    mirror.copy.run(
        "CREATE ROLE plan_raised_owner; CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int PRIMARY KEY);
         ALTER TABLE hidden.t OWNER TO plan_raised_owner",
    );
    mirror.export("");
    // Without USAGE its rows are not asked for.
    let mut expected = [
        ("1", "hidden.t", "permission denied for schema \"hidden\""),
        ("1", "public.z", "does not exist here"),
    ];
    expect(&plan(&mirror, "postgres", ""), &expected);
    mirror.copy.run(
        "GRANT USAGE ON SCHEMA hidden TO plan_raised_owner; REVOKE ALL ON hidden.t FROM plan_raised_owner",
    );
    expected[0].2 = "permission denied for table t";
    expect(&plan(&mirror, "postgres", ""), &expected);
    mirror.copy.run("DROP OWNED BY plan_raised_owner CASCADE; DROP ROLE plan_raised_owner");
}

#[test]
fn batches_find_what_earlier_ones_would_make() {
    let mirror = Mirror::shared("plan_earlier");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
    );
    mirror.source.run("SELECT tx_track('t'); SELECT tx_track('u')");
    mirror.copy.run("CREATE TABLE u (id int PRIMARY KEY)");
    mirror.export("");
    mirror.publish("INSERT INTO t VALUES (1, 1); UPDATE u SET id = 2");
    mirror.publish("ALTER TABLE t ADD COLUMN w int; UPDATE t SET w = 5");
    mirror.publish("UPDATE t SET w = 6");
    let create = ", create_tables => true";
    expect(&plan(&mirror, "postgres", ""), &[("1", "public.t", "does not exist here")]);
    expect(&plan(&mirror, "postgres", ", max_batches => 0"), &[]);
    // What a batch would create has the columns of its part, and no others.
    let lacks = [("3", "public.t", "column \"w\" of table \"public.t\" does not exist here")];
    expect(&plan(&mirror, "postgres", create), &lacks);
    let both = format!("{create}, new_columns => 'add'");
    expect(&plan(&mirror, "postgres", &both), &[]);
    let planned = format!(
        "SELECT batch, table_name, kind, deleted, bytes > 0 FROM tx_plan{}",
        mirror.arguments("copy", &both)
    );
    assert_eq!(
        mirror.copy.text(&planned),
        "1|public.t|full||t\n1|public.u|full||t\n2|public.t|changes||t\n2|public.u|changes||t\n\
         3|public.t|full||t\n4|public.t|changes||t"
    );
    mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("copy", &both)));
    mirror.assert_same_tables(&["t", "u"]);
}

#[test]
fn two_copies_that_would_share_rows_are_told_before_either_is_one() {
    let mirror = Mirror::shared("plan_relatives");
    mirror.source.run("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE q (id int PRIMARY KEY)");
    mirror.source.run("SELECT tx_track('p'); SELECT tx_track('q')");
    mirror.copy.run(
        "CREATE TABLE p (id int PRIMARY KEY) PARTITION BY LIST (id); CREATE TABLE q PARTITION OF p DEFAULT",
    );
    mirror.export("");
    let expected = [
        ("1", "public.p", "\"public.q\" is the copy of table \"public.q\" of target \"copy\""),
        ("1", "public.q", "\"public.p\" is the copy of table \"public.p\" of target \"copy\""),
    ];
    expect(&plan(&mirror, "postgres", ""), &expected);
}

#[test]
fn a_missing_batch_does_not_hide_what_comes_before_it() {
    let mirror = Mirror::shared("plan_missing");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY); SELECT tx_track('t')");
    for id in 1..=3 {
        mirror.publish(&format!("INSERT INTO t VALUES ({id})"));
    }
    fs::remove_file(mirror.store.path().join("copy/manifest/0000000002.json")).unwrap();
    let found = plan(&mirror, "postgres", "");
    expect(
        &found,
        &[("1", "public.t", "does not exist here"), ("", "", "batch 2 of target \"copy\" is missing")],
    );
    mirror.copy.run(found[0].statements());
    assert_eq!(found[1].statements(), "SELECT tx_reset('copy');");
}

/// Finds the file whose path has a number in it, and ends in a name.
fn file(folder: &Path, number: &str, name: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path if path.to_string_lossy().contains(number) && path.ends_with(name) => return path,
                _ => {}
            }
        }
    }
    panic!("no {name}")
}

/// A table of two rows and its copy, which something has been done to, and a pending change.
fn changed(name: &str, at_the_copy: &str, change: &str) -> Mirror {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int, w int); INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)";
    let mirror = Mirror::tracking(name, ddl, &["t"]);
    mirror.copy.run(at_the_copy);
    mirror.publish(change);
    mirror
}

#[test]
fn what_stops_the_rows_is_an_obstacle_and_no_error() {
    let cases = [
        ("check", "ALTER TABLE t ADD CHECK (v < 100)", "violates check constraint"),
        (
            "not_null",
            "ALTER TABLE t ADD COLUMN own int NOT NULL DEFAULT 1; ALTER TABLE t ALTER own DROP DEFAULT",
            "null value in column \"own\"",
        ),
        (
            "unique",
            "INSERT INTO t VALUES (9, 200, 9); CREATE UNIQUE INDEX ON t (v)",
            "duplicate key value violates unique constraint",
        ),
        (
            "misfit",
            "ALTER TABLE t ALTER v TYPE smallint; ALTER TABLE t ALTER w TYPE char(1)",
            "cannot be stored here as it was sent",
        ),
    ];
    for mode in ["merge", "append"] {
        for (name, at_the_copy, text) in cases {
            let change = "INSERT INTO t VALUES (3, 200, 300)";
            let mirror = changed(&format!("plan_{name}_{mode}"), at_the_copy, change);
            let further = format!(", mode => '{mode}'");
            expect(&plan(&mirror, "postgres", &further), &[]);
            let found = try_rows(&mirror, &further);
            expect(&found, &[("2", "", text)]);
            assert!(found[0].text.contains("public.t"), "{}", found[0].text);
        }
    }
}

#[test]
fn rows_without_a_partition_and_damaged_files_are_obstacles() {
    let parted = "ALTER TABLE t RENAME TO low; ALTER TABLE low DROP CONSTRAINT t_pkey;
         CREATE TABLE t (id int PRIMARY KEY, v int, w int) PARTITION BY RANGE (id);
         ALTER TABLE t ATTACH PARTITION low FOR VALUES FROM (0) TO (3)";
    let mirror = changed("plan_partition", parted, "SELECT tx_reset('copy'); INSERT INTO t VALUES (3, 3, 3)");
    expect(&plan(&mirror, "postgres", ""), &[("2", "public.t", "is the copy of table")]);
    mirror.copy.run("SELECT tx_forget('copy')");
    expect(&plan(&mirror, "postgres", ", adopt => true"), &[]);
    expect(
        &try_rows(&mirror, ", adopt => true"),
        &[("2", "", "no partition of relation \"t\" found for row")],
    );

    let mirror =
        changed("plan_damaged", "SELECT 1", "INSERT INTO t SELECT i, i, i FROM generate_series(3, 99) i");
    let data = file(&mirror.store.path().join("copy/data"), "0000000002", "t/records.zst");
    let mut bytes = fs::read(&data).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&data, bytes).unwrap();
    expect(&plan(&mirror, "postgres", ""), &[]);
    expect(&try_rows(&mirror, ""), &[("2", "", "is damaged")]);
}

#[test]
fn counts_are_shown_to_those_who_may_read_the_table() {
    let mirror =
        changed("plan_counts", "SELECT 1", "UPDATE t SET v = 5 WHERE id = 1; DELETE FROM t WHERE id = 2");
    mirror.copy.run(
        "CREATE ROLE plan_counter; GRANT pg_read_server_files TO plan_counter;
         GRANT EXECUTE ON FUNCTION tx_plan TO plan_counter; GRANT INSERT, UPDATE, DELETE ON t TO plan_counter",
    );
    let columns = "batch, table_name, kind, deleted, updated, inserted, unchanged, bytes > 0, obstacle";
    let tried = format!("SELECT {columns} FROM tx_plan{}", mirror.arguments("copy", ", try_rows => true"));
    let mut client = mirror.copy.client();
    client.batch_execute("SET ROLE plan_counter").unwrap();
    assert_eq!(query(&mut client, &tried).unwrap(), "2|public.t|changes|||||t|");
    mirror.copy.run("GRANT SELECT ON t TO plan_counter");
    assert_eq!(query(&mut client, &tried).unwrap(), "2|public.t|changes|1|1|0|0|t|");
    forget(&mirror.copy, "plan_counter");
}
