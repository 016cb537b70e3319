//! A manifest names types, and lets no role run code by them with the rights of another.

use crate::cluster::database::Database;
use crate::cluster::mirror::Mirror;

/// A table with a domain, tracked, and at the destination a domain of that name that belongs to a stranger,
/// whose CHECK writes down as whom it runs.
fn with_domain_of(name: &str) -> (Mirror, String) {
    let mirror = Mirror::shared(name);
    mirror.source.run(
        "CREATE DOMAIN price AS int; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);
         SELECT tx_track('t')",
    );
    let stranger = format!("{name}_stranger");
    mirror.copy.run(&format!(
        "CREATE ROLE {stranger}; GRANT CREATE ON SCHEMA public TO {stranger};
         CREATE TABLE gained (by text); GRANT INSERT ON gained TO PUBLIC;
         SET ROLE {stranger};
         CREATE FUNCTION gain(int) RETURNS boolean LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.gained VALUES (current_user); RETURN true; END $$;
         CREATE DOMAIN price AS int DEFAULT 7 CHECK (public.gain(VALUE))",
    ));
    (mirror, stranger)
}

fn forget(database: &Database, stranger: &str) {
    database.run(&format!("DROP OWNED BY {stranger} CASCADE; DROP ROLE {stranger}"));
}

#[test]
fn no_table_or_column_is_made_of_a_strangers_type() {
    let (mirror, stranger) = with_domain_of("untrusted_ddl");
    mirror.run(
        "CREATE TYPE pair AS (a int, b price);
         CREATE TYPE prices AS RANGE (subtype = price, multirange_type_name = multiprices)",
    );
    let import =
        |table: &str, further: &str| format!("SELECT FROM tx_import{}", mirror.arguments(table, further));
    let (create, add) = (", create_tables => true", ", new_columns => 'add'");
    let refused = |table: &str, further: &str, remedy: &str| {
        let belongs = format!("It belongs to role \"{stranger}\"");
        let refusal = mirror.copy.refused(&import(table, further));
        refusal.expect("42501", &["of column \"c\" of table", "belongs to another role", &belongs, remedy]);
    };
    for (n, kind) in ["price", "price[]", "pair", "pair[]", "prices", "multiprices"].into_iter().enumerate() {
        let table = format!("t{n}");
        mirror.source.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, c {kind}); INSERT INTO {table} VALUES (1);
             SELECT tx_track('{table}'); SELECT tx_restrict('{table}', '{table}')"
        ));
        mirror.source.run(&format!("SELECT FROM tx_export{}", mirror.arguments(&table, "")));
        refused(&table, create, "create the table with what tx_ddl() returns");
        mirror.copy.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY)"));
        refused(&table, add, &format!("run: ALTER TABLE public.{table} ADD COLUMN c "));
    }
    assert_eq!(mirror.copy.text("SELECT count(*) FROM gained"), "0");
    // His own tables may have his own types, and DDL on them runs as he, whoever imports.
    mirror.copy.run(&format!("ALTER TABLE t0 OWNER TO {stranger}"));
    mirror.copy.run(&import("t0", add));
    assert_eq!(mirror.copy.text("SELECT DISTINCT by FROM gained"), stranger);
    forget(&mirror.copy, &stranger);
}

/// Whoever pastes a HINT may be a superuser.
#[test]
fn no_hint_has_a_strangers_type() {
    let (mirror, stranger) = with_domain_of("untrusted_hint");
    mirror.source.run("ALTER TABLE t ADD c price");
    mirror.export("");
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", ""));
    let missing = mirror.copy.refused(&import);
    assert!(missing.hint.contains("tx_ddl()") && !missing.hint.contains("CREATE TABLE"), "{missing}");
    mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, v int)");
    let belongs = format!("If role \"{stranger}\" may do that, run: ALTER TABLE public.t ADD COLUMN c ");
    mirror.copy.refused(&import).expect("42501", &["belongs to another role", &belongs]);
    // In a table of his, the statement makes him run his code.
    mirror.copy.run(&format!("ALTER TABLE t OWNER TO {stranger}"));
    let missing = mirror.copy.refused(&import);
    let add = format!("SET ROLE {stranger}; ALTER TABLE public.t ADD COLUMN c public.price; RESET ROLE;");
    missing.expect("42703", &[&add]);
    mirror.copy.run(missing.statements());
    mirror.import();
    assert_eq!(mirror.copy.text("SELECT DISTINCT by FROM gained"), stranger);
    forget(&mirror.copy, &stranger);
}

#[test]
fn no_value_is_read_as_a_strangers_type() {
    let (mirror, stranger) = with_domain_of("untrusted_binary");
    mirror.copy.run("CREATE TABLE t (id int PRIMARY KEY, v int)");
    mirror.source.run("ALTER TABLE t ALTER v TYPE price");
    mirror.export(", format => 'binary'");
    let import = format!("SELECT FROM tx_import{}", mirror.arguments("copy", ""));
    mirror
        .copy
        .refused(&import)
        .expect("42501", &["type public.price of column \"v\"", "export in format text"]);
    assert_eq!(mirror.copy.text("SELECT count(*) FROM gained"), "0");
    mirror.copy.run(&format!("ALTER TABLE t OWNER TO {stranger}"));
    mirror.import();
    assert_eq!(mirror.copy.text("SELECT DISTINCT by FROM gained"), stranger);
    forget(&mirror.copy, &stranger);
}

#[test]
fn ddl_of_an_import_fires_event_triggers() {
    let mirror = Mirror::tracking("untrusted_events", "CREATE TABLE t (id int PRIMARY KEY)", &["t"]);
    mirror.copy.run(
        "CREATE TABLE fired (command text);
         CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO public.fired SELECT command_tag || ' ' || object_identity
                                          FROM pg_event_trigger_ddl_commands(); END $$;
         CREATE EVENT TRIGGER audit ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE')
             EXECUTE FUNCTION audit()",
    );
    mirror.source.run("ALTER TABLE t ADD v int; CREATE TABLE u (id int PRIMARY KEY); SELECT tx_track('u')");
    mirror.export("");
    let further = ", create_tables => true, new_columns => 'add'";
    mirror.copy.run(&format!("SELECT FROM tx_import{}", mirror.arguments("copy", further)));
    let fired = mirror.copy.text("SELECT command FROM fired WHERE command LIKE '% TABLE %' ORDER BY 1");
    assert_eq!(fired, "ALTER TABLE public.t\nCREATE TABLE public.u");
}
