//! The table of rights in docs/operations.md: each row by a role that has just these rights, and by roles that
//! lack just one of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::database::{Database, query, refusal};
use crate::cluster::mirror::Mirror;
use crate::cluster::{Cluster, Store};

/// A call of a row of the table, with the rights that it takes.
struct Call {
    /// The first cell of the row.
    row: &'static str,
    sql: &'static str,
    /// Statements that give one right each to the role `r`.
    rights: &'static [&'static str],
}

const fn call(row: &'static str, sql: &'static str, rights: &'static [&'static str]) -> Call {
    Call { row, sql, rights }
}

const OWN_T: &str = "ALTER TABLE t OWNER TO r";
const OWN_U: &str = "ALTER TABLE u OWNER TO r";
const OWN_W: &str = "ALTER TABLE w OWNER TO r";
const IMPORT: &str = "GRANT EXECUTE ON FUNCTION tx_import TO r";
const TRACK: &str = "`tx_track`, `tx_untrack`";
const PROTECT: &str = "`tx_protect`, `tx_unprotect`";
const APPLY: &str = "`tx_import`, `tx_plan`";
const ONE: &str = "`tx_restrict`, `tx_unrestrict` of one table";
const ALL: &str = "the first `tx_restrict` of a target, `tx_unrestrict` of all";
const TARGETS: &str = "`tx_reset`, `tx_resend`, `tx_forget`, `tx_prune`";
const STORE: &str = "`tx_compact`, `tx_expire`, `tx_status`";
const VIEWS: &str = "`tx_health`, the views";
const ELSEWHERE: &str = "an argument `store`";

const AT_THE_SOURCE: &[Call] = &[
    call(TRACK, "SELECT tx_track('w')", &["GRANT EXECUTE ON FUNCTION tx_track TO r", OWN_W]),
    call(TRACK, "SELECT tx_untrack('t')", &["GRANT EXECUTE ON FUNCTION tx_untrack TO r", OWN_T]),
    call("`tx_ddl`", "SELECT tx_ddl('t')", &["GRANT EXECUTE ON FUNCTION tx_ddl TO r"]),
    call("`tx_ddl`", "SELECT tx_ddl(target => 'copy')", &["GRANT EXECUTE ON FUNCTION tx_ddl TO r"]),
    call(
        "`tx_export`",
        "SELECT FROM tx_export('copy')",
        &["GRANT EXECUTE ON FUNCTION tx_export TO r", "GRANT SELECT ON t TO r", "GRANT SELECT ON u TO r"],
    ),
    call(
        "`tx_verify`",
        "SELECT FROM tx_verify('copy')",
        &["GRANT EXECUTE ON FUNCTION tx_verify TO r", "GRANT SELECT ON t TO r", "GRANT SELECT ON u TO r"],
    ),
    call(TARGETS, "SELECT tx_resend('copy', 't', '{(1)}')", &["GRANT EXECUTE ON FUNCTION tx_resend TO r"]),
    call(ONE, "SELECT tx_restrict('r', 't')", &["GRANT EXECUTE ON FUNCTION tx_restrict TO r", OWN_T]),
    call(ONE, "SELECT tx_unrestrict('r', 't')", &["GRANT EXECUTE ON FUNCTION tx_unrestrict TO r", OWN_T]),
    call(
        ALL,
        "SELECT tx_restrict('copy', 't')",
        &["GRANT EXECUTE ON FUNCTION tx_restrict TO r", OWN_T, OWN_U],
    ),
    call(ALL, "SELECT tx_unrestrict('r')", &["GRANT EXECUTE ON FUNCTION tx_unrestrict TO r", OWN_T, OWN_U]),
    call(TARGETS, "SELECT tx_reset('copy')", &["GRANT EXECUTE ON FUNCTION tx_reset TO r"]),
    call(TARGETS, "SELECT tx_forget('copy')", &["GRANT EXECUTE ON FUNCTION tx_forget TO r"]),
    call(TARGETS, "SELECT FROM tx_prune()", &["GRANT EXECUTE ON FUNCTION tx_prune TO r"]),
    call(STORE, "SELECT FROM tx_compact('copy')", &["GRANT EXECUTE ON FUNCTION tx_compact TO r"]),
    call(STORE, "SELECT FROM tx_expire('copy')", &["GRANT EXECUTE ON FUNCTION tx_expire TO r"]),
    call(STORE, "SELECT FROM tx_status('copy')", &["GRANT EXECUTE ON FUNCTION tx_status TO r"]),
    call(
        ELSEWHERE,
        "SELECT FROM tx_reset('copy', store => '$elsewhere')",
        &["GRANT EXECUTE ON FUNCTION tx_reset TO r", "GRANT pg_read_server_files TO r"],
    ),
    call(
        ELSEWHERE,
        "SELECT FROM tx_expire('copy', store => '$elsewhere')",
        &["GRANT EXECUTE ON FUNCTION tx_expire TO r", "GRANT pg_write_server_files TO r"],
    ),
    call(VIEWS, "SELECT * FROM tx_health()", &["GRANT pg_monitor TO r"]),
    call(VIEWS, "TABLE tx_tracked; TABLE tx_targets; TABLE tx_restrictions", &["GRANT pg_monitor TO r"]),
    call(VIEWS, "TABLE tx_batches; TABLE tx_receipts; TABLE tx_freshness", &["GRANT pg_monitor TO r"]),
];

const WRITE: [&str; 3] = [
    "GRANT INSERT ON t TO r; GRANT INSERT ON u TO r",
    "GRANT UPDATE ON t TO r; GRANT UPDATE ON u TO r",
    "GRANT DELETE ON t TO r; GRANT DELETE ON u TO r",
];

const AT_THE_DESTINATION: &[Call] = &[
    call(PROTECT, "SELECT tx_protect('t')", &["GRANT EXECUTE ON FUNCTION tx_protect TO r", OWN_T]),
    call(PROTECT, "SELECT tx_unprotect('t')", &["GRANT EXECUTE ON FUNCTION tx_unprotect TO r", OWN_T]),
    call(APPLY, "SELECT FROM tx_import('copy')", &[IMPORT, WRITE[0], WRITE[1], WRITE[2]]),
    call(APPLY, "SELECT FROM tx_import('copy', mode => 'append')", &[IMPORT, WRITE[0], WRITE[2]]),
    call(APPLY, "SELECT FROM tx_plan('copy')", &["GRANT EXECUTE ON FUNCTION tx_plan TO r"]),
    call(
        "`create_tables => true`",
        "SELECT FROM tx_import('s', create_tables => true)",
        &[IMPORT, "GRANT CREATE ON SCHEMA s TO r", "GRANT USAGE ON SCHEMA s TO r"],
    ),
    call("`new_columns => 'add'`", "SELECT FROM tx_import('w', new_columns => 'add')", &[IMPORT, OWN_W]),
    call(
        "`tx_map`",
        "SELECT tx_map('copy', 'public.t', 'w')",
        &["GRANT EXECUTE ON FUNCTION tx_map TO r", IMPORT, OWN_T, OWN_W],
    ),
    call(
        "`tx_unmap`",
        "SELECT tx_unmap('m', 'public.z')",
        &["GRANT EXECUTE ON FUNCTION tx_unmap TO r", OWN_W],
    ),
    call(
        "`tx_catch_up`",
        "CALL tx_catch_up('copy')",
        &["GRANT EXECUTE ON PROCEDURE tx_catch_up TO r", IMPORT, WRITE[0], WRITE[1], WRITE[2]],
    ),
    call(
        "`tx_repair`",
        "SELECT FROM tx_repair('copy')",
        &[
            "GRANT EXECUTE ON FUNCTION tx_repair TO r",
            "GRANT SELECT ON t TO r; GRANT SELECT ON u TO r",
            WRITE[0],
            WRITE[1],
            WRITE[2],
        ],
    ),
];

const ROLE: &str = "rights_table_role";

/// Makes a call with some of its rights, and rolls it back; one that commits cannot be.
fn attempt(
    database: &Database,
    elsewhere: &Store,
    call: &Call,
    without: Option<usize>,
) -> Result<String, String> {
    let role = ROLE;
    let given = call.rights.iter().enumerate().filter(|(n, _)| Some(*n) != without);
    let given = given.map(|(_, right)| right.replace(" TO r", &format!(" TO {role}"))).collect::<Vec<_>>();
    let given = given.join("; ");
    database.run(&format!("CREATE ROLE {role}; {given}"));
    let mut client = database.client();
    let commits = call.sql.starts_with("CALL");
    if !commits {
        client.batch_execute("BEGIN").unwrap();
    }
    client.batch_execute(&format!("SET ROLE {role}")).unwrap();
    let sql = call.sql.replace("$elsewhere", &elsewhere.path().display().to_string());
    let outcome = query(&mut client, &sql).map_err(|error| refusal(&error).to_string());
    drop(client);
    database.run(&format!("REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}"));
    outcome
}

fn check(database: &Database, elsewhere: &Store, calls: &[Call]) {
    for call in calls {
        for without in 0..call.rights.len() {
            let right = call.rights[without];
            let refused = attempt(database, elsewhere, call, Some(without)).expect_err(right);
            assert!(refused.starts_with("42501"), "{} without {right}: {refused}", call.sql);
        }
        attempt(database, elsewhere, call, None).unwrap_or_else(|error| panic!("{}: {error}", call.sql));
    }
}

#[test]
fn each_row_takes_all_of_its_rights_and_no_others() {
    let store = Store::new();
    let location = format!("pg_table_export.store = '{}'", store.path().display());
    let (source, copy) = (Cluster::start_with(&[&location]), Cluster::start_with(&[&location]));
    let mirror = Mirror::new(&source, &copy, "rights_table");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE w (id int PRIMARY KEY)",
    );
    mirror.track(&["t", "u"]);
    mirror.source.run(
        "SELECT tx_restrict('r', 't'); SELECT tx_restrict('r', 'u');
         CREATE SCHEMA s; CREATE TABLE s.s (id int PRIMARY KEY); SELECT tx_track('s.s'); SELECT tx_restrict('s', 's.s');
         ALTER TABLE w ADD further int; SELECT tx_track('w'); SELECT tx_restrict('w', 'w')",
    );
    for target in ["s", "w"] {
        mirror.source.run(&format!("SELECT FROM tx_export('{target}')"));
    }
    mirror.source.run("SELECT tx_untrack('s.s'); SELECT tx_untrack('w'); INSERT INTO t VALUES (1)");
    mirror.source.run("SELECT tx_unrestrict('s'); SELECT tx_unrestrict('w')");
    mirror.source.run("SELECT FROM tx_export('copy')");
    mirror
        .copy
        .run("CREATE SCHEMA s; CREATE TABLE w (id int PRIMARY KEY); SELECT tx_map('m', 'public.z', 'w')");
    let elsewhere = store.copy();
    check(&mirror.source, &elsewhere, AT_THE_SOURCE);
    check(&mirror.copy, &elsewhere, AT_THE_DESTINATION);
}

/// The words of a cell, or of statements that give rights, that name a right.
fn words(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let text = text.replace("ALTER TABLE", "own").replace("no UPDATE", "");
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        if word.starts_with("pg_")
            || word == "own"
            || (word.len() > 3 && word.chars().all(char::is_uppercase))
        {
            words.insert(word.to_owned());
        }
    }
    for word in ["GRANT", "FUNCTION", "PROCEDURE", "SCHEMA", "OWNER"] {
        words.remove(word);
    }
    words
}

#[test]
fn the_table_in_the_documentation_names_the_same_rights() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section =
        page.split("## Rights").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1).map(|line| {
        let cells = line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
        (cells[0].to_owned(), words(cells[1]))
    });
    let mut tested = BTreeMap::<String, BTreeSet<String>>::new();
    for call in AT_THE_SOURCE.iter().chain(AT_THE_DESTINATION) {
        let row = tested.entry(call.row.to_owned()).or_default();
        row.extend(call.rights.iter().flat_map(|right| words(right)));
    }
    // That `store` takes the right to call is said in the rows of the functions.
    for row in [ELSEWHERE, "`create_tables => true`", "`new_columns => 'add'`"] {
        tested.get_mut(row).expect(row).remove("EXECUTE");
    }
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), tested);
}
