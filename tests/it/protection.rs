//! A protected copy refuses every write that no import makes, by whatever table it comes.

use crate::cluster::database::Database;
use crate::cluster::mirror::Mirror;

/// Makes sure that each statement is refused, and that the error names what to unprotect.
#[track_caller]
fn refuses(database: &Database, protected: &str, statements: &[&str]) {
    for sql in statements {
        let unprotect = format!("SELECT tx_unprotect('public.{protected}')");
        database.refused(sql).expect("55000", &["is a protected copy", &unprotect]);
    }
}

#[test]
fn a_protected_partition_refuses_what_its_root_sends() {
    let mirror = Mirror::shared("protected_partition");
    mirror.source.run("CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1), (2)");
    mirror.source.run("SELECT tx_track('p')");
    mirror.copy.run(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE p PARTITION OF root FOR VALUES FROM (0) TO (100);
         CREATE TABLE free PARTITION OF root FOR VALUES FROM (100) TO (200);
         INSERT INTO free VALUES (150), (151); SELECT tx_protect('p')",
    );
    mirror.follow("");
    let through_the_root = [
        "INSERT INTO root VALUES (3)",
        "UPDATE root SET id = 5 WHERE id = 1",
        "UPDATE root SET id = 7 WHERE id = 150",
        "UPDATE root SET id = 170 WHERE id = 1",
        "DELETE FROM root WHERE id = 1",
        "TRUNCATE root",
    ];
    refuses(&mirror.copy, "p", &through_the_root);
    mirror.copy.run("UPDATE root SET id = 160 WHERE id = 150; DELETE FROM free WHERE id = 151");
    mirror
        .source
        .run("DELETE FROM p WHERE id = 1; UPDATE p SET id = 20 WHERE id = 2; INSERT INTO p VALUES (3)");
    mirror.follow("");
    mirror.assert_same_tables(&["p"]);
    mirror.copy.run("SELECT tx_unprotect('p'); DELETE FROM root; TRUNCATE root");
}

#[test]
fn a_protected_copy_refuses_what_an_inheritance_parent_sends() {
    let mirror = Mirror::tracking(
        "protected_child",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        &["t"],
    );
    mirror
        .copy
        .run("CREATE TABLE parent (id int NOT NULL); SELECT tx_protect('t'); ALTER TABLE t INHERIT parent");
    refuses(&mirror.copy, "t", &["UPDATE parent SET id = 2", "DELETE FROM parent", "TRUNCATE parent"]);
    mirror.copy.run("INSERT INTO parent VALUES (5); DELETE FROM parent WHERE id = 5");
}

#[test]
fn a_protection_that_is_disabled_is_a_problem() {
    let mirror = Mirror::tracking(
        "protection_disabled",
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        &["t"],
    );
    mirror.copy.run("SELECT tx_protect('t')");
    assert_eq!(mirror.copy.text("SELECT problem FROM tx_health()"), "");
    mirror.copy.run("ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET id = 2; UPDATE t SET id = 1");
    assert_eq!(
        mirror.copy.text("SELECT severity, object, problem FROM tx_health()"),
        "warning|public.t|table \"public.t\" is a protected copy, but triggers of it are disabled"
    );
    let hint = mirror.copy.text("SELECT hint FROM tx_health()");
    mirror.copy.run(hint.rsplit("run: ").next().unwrap());
    assert_eq!(mirror.copy.text("SELECT problem FROM tx_health()"), "");
    refuses(&mirror.copy, "t", &["UPDATE t SET id = 2", "DELETE FROM t", "TRUNCATE t"]);
}

#[test]
fn partitions_that_come_later_refuse_truncate() {
    let mirror = Mirror::shared("protected_later");
    let copy = &mirror.copy;
    copy.run(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT tx_protect('root');
         CREATE TABLE made PARTITION OF root FOR VALUES FROM (0) TO (10);
         CREATE TABLE attached (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF attached FOR VALUES FROM (10) TO (15);
         ALTER TABLE root ATTACH PARTITION attached FOR VALUES FROM (10) TO (20);
         CREATE TABLE high PARTITION OF attached FOR VALUES FROM (15) TO (20);
         CREATE SCHEMA s CREATE TABLE made PARTITION OF public.root FOR VALUES FROM (20) TO (30)",
    );
    let tables = ["made", "attached", "low", "high", "s.made"];
    refuses(copy, "root", &tables.map(|table| format!("TRUNCATE {table}")).each_ref().map(String::as_str));
    refuses(copy, "root", &["INSERT INTO made VALUES (1)", "INSERT INTO s.made VALUES (20)"]);
    copy.run("SELECT tx_unprotect('root')");
    copy.run(&tables.map(|table| format!("TRUNCATE {table}")).join("; "));
}

#[test]
fn a_protected_copy_is_attached_to_another() {
    let mirror = Mirror::shared("protected_attached");
    let copy = &mirror.copy;
    copy.run(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t (id int PRIMARY KEY);
         INSERT INTO t VALUES (1); SELECT tx_protect('t');
         ALTER TABLE root ATTACH PARTITION t FOR VALUES FROM (0) TO (10)",
    );
    let writes =
        ["DELETE FROM root", "INSERT INTO root VALUES (2)", "TRUNCATE root", "DELETE FROM t", "TRUNCATE t"];
    refuses(copy, "t", &writes);
    // Both are protected, and each is unprotected by itself.
    copy.run("SELECT tx_protect('root'); ALTER TABLE root DETACH PARTITION t");
    copy.run("ALTER TABLE root ATTACH PARTITION t FOR VALUES FROM (0) TO (10); SELECT tx_protect('t')");
    copy.run("SELECT tx_unprotect('root')");
    refuses(copy, "t", &writes);
    copy.run("SELECT tx_protect('root'); SELECT tx_unprotect('t')");
    refuses(copy, "root", &writes);
    copy.run("SELECT tx_unprotect('root'); DELETE FROM root; TRUNCATE t");
}

#[test]
fn a_partition_that_cannot_be_protected_fails_no_command() {
    let mirror = Mirror::shared("protected_taken");
    let copy = &mirror.copy;
    copy.run(
        "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); SELECT tx_protect('root');
         CREATE FUNCTION ours() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TABLE t (id int PRIMARY KEY);
         CREATE TRIGGER pg_table_export_protect_truncate BEFORE TRUNCATE ON t EXECUTE FUNCTION ours();
         CREATE CONSTRAINT TRIGGER pg_table_export_protect AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION ours();
         ALTER TABLE root ADD v int; ALTER TABLE t ADD v int",
    );
    let (mut client, notices) = copy.watched();
    client.batch_execute("ALTER TABLE root ATTACH PARTITION t FOR VALUES FROM (0) TO (10)").unwrap();
    let warning = "TRUNCATE is not refused by all partitions of protected copies: trigger";
    assert!(notices.lock().unwrap().iter().any(|notice| notice.contains(warning)));
    let triggers = "SELECT tgname FROM pg_trigger WHERE tgfoid = 'ours'::regproc ORDER BY 1";
    assert_eq!(copy.text(triggers), "pg_table_export_protect\npg_table_export_protect_truncate");
    copy.refused("SELECT tx_protect('t')").expect("42710", &["pg_table_export_protect"]);
    refuses(copy, "root", &["INSERT INTO t VALUES (1)"]);
    copy.run(
        "DROP TRIGGER pg_table_export_protect_truncate ON t;
         CREATE TABLE next PARTITION OF root FOR VALUES FROM (10) TO (20)",
    );
    refuses(copy, "root", &["TRUNCATE t"]);
}
