//! What `tx_untrack` leaves of a table in the catalogs: nothing, even if the table or its owner has been
//! dropped or changed.

use std::collections::BTreeSet;

use crate::cluster::database::Database;
use crate::cluster::mirror::Mirror;

/// Everything that the catalogs say of the database: a line for each object, and for each privilege.
fn catalogs(database: &Database) -> BTreeSet<String> {
    let text = database.text(
        "SELECT 'relation', oid::regclass, relkind FROM pg_class WHERE relkind <> 't';
         SELECT 'function', oid::regprocedure FROM pg_proc;
         SELECT 'type', oid::regtype FROM pg_type;
         SELECT 'trigger', tgrelid::regclass, tgname FROM pg_trigger;
         SELECT 'constraint', conrelid::regclass, conname FROM pg_constraint;
         SELECT 'schema', nspname, a.* FROM pg_namespace,
             aclexplode(COALESCE(nspacl, acldefault('n', nspowner))) AS a WHERE nspname NOT LIKE 'pg_t%';
         SELECT 'acl', c.oid::regclass, a.* FROM pg_class AS c, aclexplode(relacl) AS a;
         SELECT 'depend', pg_describe_object(classid, objid, objsubid), deptype,
                pg_describe_object(refclassid, refobjid, refobjsubid) FROM pg_depend
          WHERE NOT (classid = 'pg_class'::regclass AND objid::regclass::text LIKE 'pg_toast.%');
         SELECT 'shared depend', pg_describe_object(classid, objid, objsubid), deptype, refobjid FROM pg_shdepend
          WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database());
         SELECT 'ours', t::text FROM table_export.tracked AS t;
         SELECT 'ours', t::text FROM table_export.target_table AS t",
    );
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn assert_no_trace(database: &Database, before: &BTreeSet<String>) {
    let after = catalogs(database);
    let differences = after.symmetric_difference(before).map(String::as_str).collect::<Vec<_>>();
    assert!(differences.is_empty(), "left or missing:\n{}", differences.join("\n"));
}

#[test]
fn untrack_leaves_no_trace() {
    let mirror = Mirror::shared("untrack");
    let source = &mirror.source;
    source.run(
        "CREATE ROLE untrack_owner; GRANT CREATE ON SCHEMA public TO untrack_owner; SET ROLE untrack_owner;
         CREATE TABLE t (id int PRIMARY KEY, v text);
         CREATE TABLE other (a text, b int, PRIMARY KEY (a, b));
         CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION own()",
    );
    let before = catalogs(source);
    let live = "INSERT INTO t VALUES (1); UPDATE t SET id = 2; DELETE FROM t; TRUNCATE t; INSERT INTO other VALUES ('a', 1)";

    source.run(&format!("SELECT tx_track('t'); SELECT tx_track('other'); {live}"));
    mirror.export("");
    source.run(live.replace("('a', 1)", "('b', 2)").as_str());
    mirror.export("");
    assert_ne!(catalogs(source), before);
    source.run("SELECT tx_untrack('t'); SELECT tx_untrack('other')");
    assert_no_trace(source, &before);

    // With a trigger missing.
    source.run("SELECT tx_track('t'); DROP TRIGGER pg_table_export_delete ON t; SELECT tx_untrack('t')");
    assert_no_trace(source, &before);
    source.refused("SELECT tx_untrack('t')").expect("55000", &["t", "not tracked"]);

    // After a change of the owner.
    source.run(
        "SELECT tx_track('t'); CREATE ROLE untrack_heir; GRANT CREATE ON SCHEMA public TO untrack_heir;
         ALTER TABLE t OWNER TO untrack_heir; SELECT tx_track('t'); SELECT tx_untrack('t');
         ALTER TABLE t OWNER TO untrack_owner; REVOKE CREATE ON SCHEMA public FROM untrack_heir",
    );
    assert_no_trace(source, &before);
    source.run("DROP ROLE untrack_heir");
}

#[test]
fn untrack_leaves_no_trace_of_a_table_that_is_dropped() {
    let mirror = Mirror::shared("untrack_dropped");
    let source = &mirror.source;
    source.run("CREATE ROLE dropper; GRANT CREATE ON SCHEMA public TO dropper");
    let before = catalogs(source);
    source.run("SET ROLE dropper; CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)");
    source.run("SELECT tx_track('t'); SELECT tx_track('u')");
    mirror.export("");
    source.run("SET ROLE dropper; INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); DROP TABLE t");
    assert_eq!(mirror.export(""), "2|public.u|changes|1|1");
    source.run("SELECT tx_untrack('u'); DROP TABLE u");
    assert_no_trace(source, &before);
    // The last table of its owner, who then has nothing left that would keep him.
    let track = "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t OWNER TO dropper; SELECT tx_track('t')";
    source.run(track);
    source.run("SET ROLE dropper; DROP TABLE t");
    source.run("SELECT tx_prune()");
    assert_no_trace(source, &before);
    // Unseen by the event trigger, and by hand.
    source.run(track);
    let oid = source.text("SELECT 't'::regclass::oid");
    source.run(&format!(
        "ALTER EVENT TRIGGER pg_table_export_drops DISABLE; DROP TABLE t;
         ALTER EVENT TRIGGER pg_table_export_drops ENABLE ALWAYS; SELECT tx_untrack({oid}::regclass)"
    ));
    assert_no_trace(source, &before);
    source.run("REVOKE CREATE ON SCHEMA public FROM dropper; DROP ROLE dropper");
}

/// `table|last batch that shows it|first batch without it`, as `tx_freshness` says.
fn freshness(mirror: &Mirror) -> String {
    mirror.copy.text(
        "SELECT f.table_name, r.number, f.not_sent_since
           FROM tx_freshness AS f LEFT JOIN table_export.receipt AS r ON r.exported_at = f.shows
          ORDER BY f.table_name::text",
    )
}

/// Two tables with their copies, one row in `a`.
fn two_tables(name: &str) -> Mirror {
    let tables =
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1)";
    Mirror::tracking(name, tables, &["a", "b"])
}

/// Two tables with their copies, of which the target gets only `b` after `change`, without any other change.
fn sends_only_b_after(name: &str, change: &str) -> Mirror {
    let mirror = two_tables(name);
    assert_eq!(freshness(&mirror), "a|1|\nb|1|");
    mirror.source.run(change);
    mirror.export("");
    mirror.import();
    assert_eq!(freshness(&mirror), "a|1|2\nb|2|");
    assert_eq!(mirror.export(""), "", "said once");
    mirror.source.run("INSERT INTO b VALUES (1)");
    mirror.follow("");
    assert_eq!(freshness(&mirror), "a|1|2\nb|3|");
    mirror
}

#[test]
fn a_destination_sees_that_a_table_is_not_tracked_any_more() {
    let mirror = sends_only_b_after("sees_untracking", "SELECT tx_untrack('a')");
    mirror.source.run("SELECT tx_track('a')");
    mirror.follow("");
    assert_eq!(freshness(&mirror), "a|4|\nb|4|", "sent again");
}

#[test]
fn a_destination_sees_that_a_table_has_been_dropped() {
    sends_only_b_after("sees_drop", "DROP TABLE a");
}

#[test]
fn a_destination_sees_that_the_target_is_restricted_to_other_tables() {
    let mirror = sends_only_b_after("sees_restriction", "SELECT tx_restrict('copy', 'b')");
    mirror.source.run("SELECT tx_unrestrict('copy')");
    mirror.follow("");
    assert_eq!(freshness(&mirror), "a|4|\nb|4|", "sent again");
}

#[test]
fn a_destination_sees_that_a_table_has_another_name() {
    let mirror = Mirror::tracking(
        "sees_renaming",
        "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)",
        &["a"],
    );
    mirror.source.run("ALTER TABLE a RENAME TO c");
    mirror.export("");
    let create = mirror.arguments("copy", ", create_tables => true");
    mirror.copy.run(&format!("SELECT FROM tx_import{create}"));
    assert_eq!(freshness(&mirror), "a|1|2\nc|2|");
}

#[test]
fn a_destination_that_skips_batches_sees_what_is_not_sent() {
    let mirror = two_tables("skips_untracking");
    mirror.source.run("SELECT tx_untrack('a'); SELECT tx_reset('copy')");
    mirror.export("");
    mirror.source.run("INSERT INTO b VALUES (1); SELECT tx_reset('copy')");
    mirror.export("");
    mirror.import();
    assert_eq!(freshness(&mirror), "a|1|3\nb|3|");
}

#[test]
fn compacted_batches_leave_out_what_is_not_sent_any_more() {
    let mirror = two_tables("compacts_untracking");
    mirror.source.run("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
    mirror.export("");
    mirror.source.run("SELECT tx_untrack('a'); INSERT INTO b VALUES (3)");
    mirror.export("");
    let compact = |further: &str| {
        let arguments = mirror.arguments("copy", further);
        mirror.copy.text(&format!("SELECT table_name, kind, records FROM tx_compact{arguments}"))
    };
    assert_eq!(compact(", first => 2, last => 3"), "public.b|changes|2");
    assert_eq!(compact(""), "public.b|full|2");
    // From the run of changes, and from the full one.
    mirror.import();
    assert_eq!(freshness(&mirror), "a|1|3\nb|3|");
    mirror.assert_same_tables(&["b"]);
    mirror.copy.run("SELECT tx_forget('copy'); DROP TABLE a; TRUNCATE b");
    mirror.import();
    assert_eq!(freshness(&mirror), "b|3|");
    mirror.assert_same_tables(&["b"]);
}

#[test]
fn what_others_have_built_on_a_shadow_keeps_no_table_tracked() {
    let mirror = Mirror::tracking("untrack_views", "CREATE TABLE t (id int PRIMARY KEY)", &["t"]);
    mirror.source.run("CREATE VIEW v AS SELECT * FROM table_export.shadow_1_0; SELECT tx_untrack('t')");
    assert_eq!(mirror.source.text("SELECT to_regclass('v') IS NULL"), "t");
}
