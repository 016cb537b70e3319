//! Nobody gains by a function what he has not: rows that he may not read, tables that he does not own, and
//! the targets and locks of others.

use crate::cluster::database::{Database, Refusal, query};
use crate::cluster::mirror::Mirror;

/// A role with a schema of its own in one database, dropped at the end of the test.
struct Role<'a> {
    database: &'a Database,
    name: String,
}

impl<'a> Role<'a> {
    fn new(database: &'a Database, name: &str, functions: &str) -> Role<'a> {
        database.run(&format!("CREATE ROLE {name}; CREATE SCHEMA {name} AUTHORIZATION {name}"));
        if !functions.is_empty() {
            database.run(&format!("GRANT EXECUTE ON FUNCTION {functions} TO {name}"));
        }
        Role { database, name: name.to_owned() }
    }

    fn run(&self, sql: &str) {
        self.database.run(&self.acting(sql));
    }

    #[track_caller]
    fn refused(&self, sql: &str) -> Refusal {
        self.database.refused(&self.acting(sql))
    }

    fn acting(&self, sql: &str) -> String {
        format!("SET ROLE {}; {sql}", self.name)
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let name = &self.name;
            self.database.run(&format!("DROP OWNED BY {name} CASCADE; DROP ROLE {name}"));
        }
    }
}

const TWO: &str = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
                   CREATE TABLE u (id int PRIMARY KEY, v int); INSERT INTO u VALUES (1, 1)";

#[test]
fn a_restriction_begins_and_ends_with_the_rights_of_all_owners() {
    let mirror = Mirror::tracking("rights_restrict", TWO, &["t", "u"]);
    let owner = Role::new(&mirror.source, "rights_restrict_owner", "tx_restrict, tx_unrestrict");
    mirror.source.run("ALTER TABLE t OWNER TO rights_restrict_owner");
    let of_u = ["must be owner of table \"public.u\""];
    owner.refused("SELECT tx_restrict('copy', 'public.t')").expect("42501", &of_u);
    mirror.source.run("SELECT tx_restrict('copy', 'u')");
    // Within a restriction each owner decides about his table.
    owner.run("SELECT tx_restrict('copy', 'public.t')");
    owner.run("SELECT tx_unrestrict('copy', 'public.t')");
    owner.refused("SELECT tx_unrestrict('copy', 'public.u')").expect("42501", &of_u);
    mirror.source.run("SELECT tx_restrict('mine', 't')");
    owner.refused("SELECT tx_unrestrict('mine')").expect("42501", &of_u);
    mirror.source.run("ALTER TABLE u OWNER TO rights_restrict_owner");
    owner.run("SELECT tx_unrestrict('mine'); SELECT tx_restrict('mine', 'public.t')");
}

#[test]
fn a_restriction_to_a_dropped_table_is_not_lifted_by_a_stranger() {
    let mirror = Mirror::tracking("rights_dropped", TWO, &["t", "u"]);
    let stranger = Role::new(&mirror.source, "rights_dropped_stranger", "tx_restrict, tx_unrestrict");
    mirror.source.run("SELECT tx_restrict('copy', 't'); SELECT tx_restrict('copy', 'u')");
    let oid = mirror.source.text("SELECT 't'::regclass::oid");
    mirror.source.run("SELECT tx_untrack('t'); DROP TABLE t; ALTER TABLE u OWNER TO rights_dropped_stranger");
    for lift in ["SELECT tx_unrestrict('copy')", &format!("SELECT tx_unrestrict('copy', {oid})")] {
        stranger.refused(lift).expect("42501", &["must be owner of extension", "has been dropped"]);
    }
    mirror.source.run(&format!("SELECT tx_unrestrict('copy', {oid}); SELECT tx_unrestrict('copy')"));
}

#[test]
fn a_mapping_takes_the_right_to_import_and_the_table_that_it_replaces() {
    let mirror = Mirror::shared("rights_map");
    mirror.source.run(TWO);
    mirror.track(&["t", "u"]);
    let reader = Role::new(&mirror.copy, "rights_map_reader", "tx_map, tx_unmap");
    reader.run("CREATE TABLE rights_map_reader.t (id int PRIMARY KEY, v int)");
    let map = "SELECT tx_map('copy', 'public.t', 'rights_map_reader.t')";
    reader.refused(map).expect("42501", &["permission denied for function tx_import"]);
    mirror.copy.run("GRANT EXECUTE ON FUNCTION tx_import TO rights_map_reader");
    // Not even before the first import has made public.t the copy.
    reader.refused(map).expect("42501", &["must be owner of table \"public.t\""]);
    mirror
        .copy
        .run("CREATE TABLE mapped (id int PRIMARY KEY, v int); SELECT tx_map('copy', 'public.t', 'mapped')");
    for sql in [map, "SELECT tx_unmap('copy', 'public.t')"] {
        reader.refused(sql).expect("42501", &["must be owner of table \"public.mapped\""]);
    }
    mirror.copy.run("DROP TABLE mapped");
    for sql in [map, "SELECT tx_unmap('copy', 'public.t')"] {
        reader.refused(sql).expect("42501", &["must be owner of extension", "has been dropped"]);
    }
    mirror.copy.run("SELECT tx_unmap('copy', 'public.t'); ALTER TABLE t OWNER TO rights_map_reader");
    reader.run(map);
    mirror.export("");
    mirror.import();
    assert_eq!(mirror.copy.text("SELECT count(*) FROM rights_map_reader.t"), "1");
    reader.run("SELECT tx_unmap('copy', 'public.t')");
}

#[test]
fn no_function_of_sql_takes_the_lock_of_a_target() {
    let mirror = Mirror::tracking("rights_locks", TWO, &["t"]);
    let mut stranger = mirror.source.client();
    let all = "SELECT pg_advisory_lock(hashtextextended('pg_table_export ' || p || ' copy', 0)),
                      pg_advisory_lock(hashtextextended(p || ' copy', 0)) FROM unnest('{export,import}'::text[]) p";
    query(&mut stranger, all).unwrap();
    query(&mut mirror.copy.client(), all).unwrap();
    mirror.source.run("UPDATE t SET v = 2");
    mirror.follow("");
    // It is held to the end of the transaction, and keeps no other target waiting.
    let mut first = mirror.source.client();
    let export = |target: &str| format!("SELECT FROM tx_export{}", mirror.arguments(target, ""));
    first.batch_execute("BEGIN").unwrap();
    let pid = query(&mut first, "SELECT pg_backend_pid()").unwrap();
    first.batch_execute("SELECT tx_restrict('copy', 't')").unwrap();
    let busy = [format!("The process with PID {pid} has an export of it under way")];
    let busy = busy.iter().map(String::as_str).collect::<Vec<_>>();
    mirror.source.refused(&export("copy")).expect("55P03", &busy);
    mirror.source.run(&export("other"));
    first.batch_execute("ROLLBACK").unwrap();
    mirror.source.run(&export("copy"));
}

#[test]
fn who_may_not_select_sees_no_rows_in_errors() {
    let unique = "CREATE UNIQUE INDEX ON t (v)";
    let secrets = [
        ("check", "ALTER TABLE t ADD CHECK (v < 5)", "23514"),
        ("null", "ALTER TABLE t ADD CHECK (own IS NOT NULL), ALTER own SET NOT NULL", "23502"),
        ("unique", unique, "23505"),
    ];
    for (kind, ddl, sqlstate) in secrets {
        let mirror = Mirror::tracking(&format!("rights_detail_{kind}"), TWO, &["t"]);
        mirror.copy.run("ALTER TABLE t ADD own text DEFAULT 'a secret'; UPDATE t SET own = 'a secret'");
        if kind == "unique" {
            mirror.copy.run("INSERT INTO t VALUES (100, 7, 'a secret')");
            mirror.source.run("INSERT INTO t VALUES (2, 7)");
        } else {
            mirror.source.run("UPDATE t SET v = 7");
        }
        mirror.copy.run(ddl);
        if kind == "null" {
            mirror.copy.run("ALTER TABLE t ALTER own DROP DEFAULT");
            mirror.source.run("INSERT INTO t VALUES (3, 7)");
        }
        mirror.export("");
        let importer = Role::new(&mirror.copy, &format!("rights_detail_{kind}"), "tx_import");
        let name = &importer.name;
        mirror.copy.run(&format!(
            "GRANT INSERT, UPDATE, DELETE ON t TO {name};
                                  GRANT pg_read_server_files TO {name}"
        ));
        let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", ""));
        let hidden = importer.refused(&import);
        hidden.expect(sqlstate, &["While applying batch 2 of target \"copy\" to table \"public.t\"."]);
        for text in ["Failing row", "secret", "Key ("] {
            assert!(!hidden.to_string().contains(text), "{hidden}");
        }
        mirror.copy.run(&format!("GRANT SELECT ON t TO {name}"));
        let shown = importer.refused(&import).to_string();
        assert!(shown.contains("Failing row contains") || shown.contains("Key (v)=(7)"), "{shown}");
    }
}

#[test]
fn tracking_replaces_no_trigger_and_fills_no_tablespace_of_others() {
    let mirror = Mirror::shared("rights_track");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY);
         CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER pg_table_export_insert AFTER INSERT ON t EXECUTE FUNCTION theirs()",
    );
    mirror.source.refused("SELECT tx_track('t')").expect("42710", &["pg_table_export_insert"]);
    mirror.source.run("DROP TRIGGER pg_table_export_insert ON t");
    let mut client = mirror.source.client();
    for sql in ["SET allow_in_place_tablespaces = on", "CREATE TABLESPACE rights_track LOCATION ''"] {
        client.batch_execute(sql).unwrap();
    }
    mirror.source.run("SET default_tablespace = rights_track; SELECT tx_track('t')");
    let placed = "SELECT count(*) FROM pg_class WHERE reltablespace <> 0 AND relname ~ '^shadow_'";
    assert_eq!(mirror.source.text(placed), "0");
    mirror.source.run("DROP TABLESPACE rights_track");
}
