//! Values arrive as they were sent, or not at all: columns of other types, and triggers of the destination.

use crate::cluster::database::{query, refusal};
use crate::cluster::mirror::{Mirror, rows};

const MODES: [&str; 2] = ["append", "merge"];

fn import_sql(mirror: &Mirror, mode: &str) -> String {
    format!("SELECT FROM tx_import{}", mirror.arguments("copy", &format!(", mode => '{mode}'")))
}

/// Types of the user, some of which are not the same on both sides.
const AT_SOURCE: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'it''s, \"ok\"'); CREATE TYPE level AS ENUM ('low', 'high');
    CREATE DOMAIN price AS numeric(10, 2); CREATE DOMAIN label AS text;
    CREATE TYPE address AS (city text, zip varchar(8)); CREATE TYPE house AS (home address, price price);
    CREATE DOMAIN residence AS address; CREATE TYPE span AS RANGE (subtype = numeric);
    CREATE TYPE prices AS (low price, high price);
";
const AT_COPY: &str = "
    CREATE TYPE mood AS ENUM ('it''s, \"ok\"', 'sad', 'new'); CREATE TYPE level AS ENUM ('low');
    CREATE DOMAIN price AS numeric(10, 1); CREATE DOMAIN label AS text CHECK (VALUE <> 'bad');
    CREATE TYPE address AS (city text, zip varchar(4)); CREATE TYPE house AS (home address, price price);
    CREATE DOMAIN residence AS address; CREATE TYPE span AS RANGE (subtype = numeric);
    CREATE TYPE prices AS (low price, high price);
";

/// A type at the source, one at the destination, a value, and whether it arrives. What does not is refused.
const VALUES: &[(&str, &str, &str, bool)] = &[
    ("varchar(10)", "varchar(3)", "'abc   '", false),
    ("varchar(10)", "varchar(3)", "'abcd'", false),
    ("varchar(10)", "varchar(3)", "'ab '", true),
    ("varchar(10)", "varchar(20)", "'abc   '", true),
    ("varchar(10)", "text", r"E'a\tb\\ '", true),
    ("varchar(10)", "char(5)", "'abc'", false),
    ("varchar(10)", "char(3)", "'abc'", true),
    ("varchar(10)", "name", "'abc'", true),
    ("text", "varchar(3)", "'äöü'", true),
    ("text", "name", "repeat('x', 64)", false),
    ("text", "json", r#"'{"b": 1,  "a": 2}'"#, true),
    ("text", "jsonb", r#"'{"b": 1,  "a": 2}'"#, false),
    ("text", "jsonb", r#"'{"a": 2, "b": 1}'"#, true),
    ("text", "integer", "'7'", true),
    ("text", "integer", "' 7'", false),
    ("text", "integer", "'x'", false),
    ("text", "bytea", r"'\x6162'", true),
    ("text", "bytea", "'ab'", false),
    ("text", "boolean", "'t'", true),
    ("text", "boolean", "'true'", false),
    ("text", "date", "'2020-02-30'", false),
    ("char(5)", "text", "'abc'", true),
    ("char(5)", "char(3)", "'abc'", false),
    ("char(3)", "char(5)", "'abc'", false),
    ("char(5)", "character varying", "'abc'", true),
    ("integer", "bigint", "-7", true),
    ("integer", "text", "-7", true),
    ("integer", "numeric", "7", true),
    ("integer", "numeric(5, 1)", "7", false),
    ("integer", "boolean", "1", false),
    ("integer", "oid", "7", true),
    ("integer", "oid", "-1", false),
    ("integer", "double precision", "7", true),
    ("integer", "real", "2147483647", false),
    ("bigint", "integer", "7", true),
    ("bigint", "integer", "5000000000", false),
    ("numeric", "integer", "1.5", false),
    ("numeric", "double precision", "1.5", true),
    ("numeric", "double precision", "1.50", false),
    ("numeric", "numeric(10, 2)", "1.5", false),
    ("numeric(10, 2)", "numeric(10, 1)", "1.25", false),
    ("numeric(10, 2)", "numeric(12, 2)", "1.25", true),
    ("numeric(10, 2)", "numeric(3, 2)", "12.25", false),
    ("numeric(10, 2)", "numeric", "1.20", true),
    ("double precision", "real", "0.1", true),
    ("double precision", "real", "0.1234567891", false),
    ("real", "double precision", "0.1", true),
    ("double precision", "numeric", "'-0'", false),
    ("timestamp", "timestamp(0)", "'2020-01-01 00:00:00.5'", false),
    ("timestamp", "timestamp(0)", "'2020-01-01 00:00:01'", true),
    ("timestamp(3)", "timestamp", "'2020-01-01 00:00:00.125'", true),
    ("timestamp", "timestamptz", "'2020-01-01 00:00:00'", false),
    ("timestamp", "date", "'2020-01-01 00:00:00'", false),
    ("date", "timestamp", "'2020-01-01'", false),
    ("date", "text", "'2020-01-01'", true),
    ("interval", "interval hour", "'1 hour 30 minutes'", false),
    ("interval", "interval(0)", "'1.5 s'", false),
    ("interval", "interval day to second", "'1 day 02:00:00'", true),
    ("bit(3)", "bit(5)", "'101'", false),
    ("bit(3)", "bit varying", "'101'", true),
    ("bit varying", "bit(3)", "'101'", true),
    ("money", "text", "'12.34'", true),
    ("money", "numeric", "'12.34'", false),
    ("json", "jsonb", r#"'{"a":1}'"#, false),
    ("jsonb", "json", r#"'{"a":1}'"#, true),
    ("xml", "text", "'<a/>'", true),
    ("uuid", "text", "'00000000-0000-4000-8000-000000000000'", true),
    ("inet", "cidr", "'10.0.0.1'", false),
    ("numeric(10, 2)[]", "numeric(10, 1)[]", "'{1.25}'", false),
    ("varchar(8)[]", "text[]", r#"'{a,"b c",NULL}'"#, true),
    ("integer[]", "bigint[]", "'{{1},{2}}'", true),
    ("integer[]", "text", "'{{1},{2}}'", true),
    ("int4range", "int8range", "'[1,3]'", true),
    ("int4range", "numrange", "'[1,3)'", true),
    ("numrange", "int4range", "'[1,3]'", false),
    ("mood", "text", "'sad'", true),
    ("mood", "mood", "'it''s, \"ok\"'", true),
    ("text", "mood", "'sad'", true),
    ("text", "mood", "'glad'", false),
    ("mood[]", "text[]", "ARRAY['sad', 'it''s, \"ok\"']::mood[]", true),
    ("level", "mood", "'low'", false),
    ("label", "text", "'bad'", true),
    ("price", "price", "1.25", false),
    ("price", "price", "1.20", false),
    ("price", "numeric(10, 2)", "1.25", true),
    ("price", "text", "1.25", true),
    ("price[]", "price[]", "ARRAY[1.25]::price[]", false),
    ("numeric(10, 1)", "price", "1.5", true),
    ("text", "label", "'bad'", false),
    ("text", "label", "'good'", true),
    ("address", "text", "('Berlin', '10115')", true),
    ("address", "address", "('Berlin', '101')", true),
    ("address", "address", "('Berlin', '101   ')", false),
    ("address", "address", "('Berlin', '10115')", false),
    ("text", "address", "'(Berlin,101)'", true),
    ("address[]", "address[]", "ARRAY[('B', '1'), ('C', '101  ')]::address[]", false),
    ("residence", "address", "('Berlin', '101')", true),
    ("house", "house", "(('B', '1'), 1.25)", false),
    ("prices", "prices", "(1.20, 1.25)", false),
    ("span", "span", "'[1.20,2.50)'", true),
    ("span", "numrange", "'[1.20,2.50)'", true),
    ("span", "int4range", "'[1,2)'", true),
    ("span", "int4range", "'[1,2]'", false),
];

/// Types that are defined otherwise at the copy, or hold values of such types.
const OTHERWISE: [&str; 8] =
    ["label", "price", "price[]", "address", "address[]", "residence", "house", "prices"];

/// Sends all values in one table, and imports them once for each: then its column has the other type.
fn each_value(format: &str) {
    let mirror = Mirror::shared(&format!("values_{format}"));
    mirror.source.run(AT_SOURCE);
    mirror.copy.run(AT_COPY);
    // COPY reads only what its type has written, and writes arrays of the user's types with their oids.
    let can_be_sent =
        |source: &str| format != "binary" || !(OTHERWISE.contains(&source) || source == "mood[]");
    let values = VALUES.iter().filter(|(source, ..)| can_be_sent(source)).collect::<Vec<_>>();
    let list = |field: &dyn Fn(usize) -> String| (0..values.len()).map(field).collect::<Vec<_>>().join(", ");
    mirror.source.run(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {}); INSERT INTO t VALUES (1);
         INSERT INTO t VALUES (2, {}); SELECT tx_track('t')",
        list(&|n| format!("v{n} {}", values[n].0)),
        list(&|n| format!("CAST({} AS {})", values[n].2, values[n].0)),
    ));
    mirror.export(&format!(", format => '{format}'"));
    let (mut source, mut copy) = (mirror.source.client(), mirror.copy.client());
    for (n, (from, to, value, arrives)) in values.iter().enumerate() {
        let what = format!("{value} of {from} into {to}, format {format}");
        let other = |source| if OTHERWISE.contains(&source) { "text" } else { source };
        let types = list(&|m| format!("v{m} {}", if m == n { to } else { other(values[m].0) }));
        query(&mut copy, &format!("BEGIN; CREATE TABLE t (id int PRIMARY KEY, {types})")).unwrap();
        match query(&mut copy, &import_sql(&mirror, "merge")) {
            Ok(_) => {
                assert!(arrives, "not refused: {what}");
                // By the output function of its type, which a cast to text does not always use.
                let text = format!("SELECT format('%s', v{n}), v{n} IS NULL FROM t ORDER BY id");
                assert_eq!(query(&mut copy, &text).unwrap(), query(&mut source, &text).unwrap(), "{what}");
            }
            Err(error) => {
                let (refusal, column) = (refusal(&error), format!("column \"v{n}\""));
                assert!(!arrives, "{what}: {refusal}");
                refusal.expect("42804", &[&column, "key (2)", "ALTER TABLE public.t ALTER COLUMN"]);
            }
        }
        query(&mut copy, "ROLLBACK").unwrap();
    }
}

#[test]
fn each_value_arrives_as_sent_or_is_refused_in_format_text() {
    each_value("text");
}

#[test]
fn each_value_arrives_as_sent_or_is_refused_in_format_csv() {
    each_value("csv");
}

#[test]
fn each_value_arrives_as_sent_or_is_refused_in_format_binary() {
    each_value("binary");
}

/// A table and its copy, whose triggers are given, with a function for each: `(name, when, body)`.
fn with_triggers(name: &str, triggers: &[(&str, &str, &str)]) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'drop')",
    );
    mirror.track(&["t"]);
    mirror.copy.run("ALTER TABLE t ADD own int; CREATE TABLE log (line text)");
    for (name, when, body) in triggers {
        mirror.copy.run(&format!(
            "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path = public
             AS $$ BEGIN {body} RETURN COALESCE(NEW, OLD); END $$;
             CREATE TRIGGER {name} {when} FOR EACH ROW EXECUTE FUNCTION {name}();
             ALTER TABLE t ENABLE ALWAYS TRIGGER {name}"
        ));
    }
    mirror
}

/// Makes sure that an import is refused and names a trigger, and that it passes after the HINT.
#[track_caller]
fn refused_for_trigger(mirror: &Mirror, mode: &str, texts: &[&str]) {
    let before = rows(&mirror.copy, "SELECT * FROM t");
    let refusal = mirror.copy.refused(&import_sql(mirror, mode));
    refusal.expect("27000", &["table \"public.t\"", "not arrived"]);
    refusal.expect("27000", texts);
    assert_eq!(rows(&mirror.copy, "SELECT * FROM t"), before);
    mirror.copy.run(refusal.statements());
    mirror.copy.run(&import_sql(mirror, mode));
    mirror.assert_same("SELECT id, v FROM t");
    mirror.copy.run(&refusal.statements().replace("DISABLE", "ENABLE ALWAYS"));
}

const DROPS: (&str, &str, &str) =
    ("drops", "BEFORE INSERT OR UPDATE ON t", "IF NEW.v = 'drop' THEN RETURN NULL; END IF;");

#[test]
fn a_trigger_that_drops_rows_is_named_in_every_mode() {
    for mode in MODES {
        let mirror = with_triggers(&format!("drops_{mode}"), &[DROPS]);
        mirror.export("");
        let named = ["trigger \"drops\" of \"public.t\"", "ALTER TABLE public.t DISABLE TRIGGER drops;"];
        // The first batch, into an empty table, and then an insertion, an update, and a table sent in full.
        refused_for_trigger(&mirror, mode, &[named[0], named[1], "key (3)"]);
        mirror.publish("INSERT INTO t VALUES (4, 'drop'), (5, 'c')");
        refused_for_trigger(&mirror, mode, &[named[0], named[1], "key (4)"]);
        mirror.publish("UPDATE t SET v = 'drop' WHERE id = 2");
        refused_for_trigger(&mirror, mode, &[named[0], named[1], "key (2)"]);
        mirror.source.run("SELECT tx_reset('copy'); INSERT INTO t VALUES (6, 'drop')");
        mirror.export("");
        refused_for_trigger(&mirror, mode, &named);
    }
}

#[test]
fn a_trigger_that_changes_rows_or_keeps_them_is_named() {
    for mode in MODES {
        let before = ("before", "BEFORE INSERT OR UPDATE ON t", "NEW.v := upper(NEW.v);");
        let mirror = with_triggers(&format!("changes_before_{mode}"), &[before]);
        mirror.export("");
        refused_for_trigger(&mirror, mode, &["\"before\"", "key (1) was written"]);
        mirror.publish("UPDATE t SET v = 'x' WHERE id = 2");
        refused_for_trigger(&mirror, mode, &["\"before\"", "key (2) was written"]);

        // The trigger of a row that is there already.
        let after = "IF pg_trigger_depth() = 1 THEN UPDATE t SET v = NEW.v || '!' WHERE id = NEW.id; END IF;";
        let mirror = with_triggers(
            &format!("changes_after_{mode}"),
            &[("after", "AFTER INSERT OR UPDATE ON t", after)],
        );
        mirror.export("");
        refused_for_trigger(&mirror, mode, &["\"after\"", "key (1) was written"]);

        let keeps = ("keeps", "BEFORE DELETE ON t", "IF OLD.id = 2 THEN RETURN NULL; END IF;");
        let mirror = with_triggers(&format!("keeps_{mode}"), &[keeps]);
        mirror.export("");
        mirror.copy.run(&import_sql(&mirror, mode));
        mirror.publish("DELETE FROM t WHERE id = 2");
        refused_for_trigger(&mirror, mode, &["\"keeps\"", "key (2) was deleted, and is still there"]);
        mirror.source.run("INSERT INTO t VALUES (2, 'again')");
        mirror.export("");
        mirror.copy.run(&import_sql(&mirror, mode));
        mirror.source.run("SELECT tx_reset('copy'); DELETE FROM t WHERE id = 2");
        mirror.export("");
        refused_for_trigger(&mirror, mode, &["key (2) was deleted, and is still there"]);
    }
}

#[test]
fn the_trigger_of_a_partition_and_a_rule_are_named() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("intercepted_{mode}"));
        mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, v text); SELECT tx_track('t')");
        mirror.copy.run(
            "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (10);
             CREATE TABLE high PARTITION OF t FOR VALUES FROM (10) TO (20);
             CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER swallow BEFORE INSERT ON high FOR EACH ROW EXECUTE FUNCTION swallow();
             ALTER TABLE high ENABLE REPLICA TRIGGER swallow",
        );
        mirror.publish("INSERT INTO t VALUES (1, 'a'), (11, 'b')");
        let import = import_sql(&mirror, mode);
        let refusal = mirror.copy.refused(&import);
        refusal.expect("27000", &["key (11)", "\"swallow\" of \"public.high\""]);
        mirror.copy.run(&format!("{} {import}", refusal.statements()));
        mirror.copy.run(
            "CREATE RULE nothing AS ON DELETE TO t DO INSTEAD NOTHING; ALTER TABLE t ENABLE ALWAYS RULE nothing",
        );
        mirror.publish("DELETE FROM t WHERE id = 1");
        let refusal = mirror.copy.refused(&import);
        refusal.expect("27000", &["key (1) was deleted", "rule \"nothing\" of \"public.t\""]);
        mirror.copy.run(&format!("{} {import}", refusal.statements()));
        mirror.assert_same_tables(&["t"]);
    }
}

#[test]
fn triggers_that_leave_the_rows_of_the_source_alone_are_no_obstacle() {
    for mode in MODES {
        let mirror = with_triggers(
            &format!("harmless_{mode}"),
            &[
                ("own_column", "BEFORE INSERT OR UPDATE ON t", "NEW.own := length(NEW.v);"),
                ("logs", "AFTER INSERT OR UPDATE OR DELETE ON t", "INSERT INTO log VALUES (TG_OP);"),
            ],
        );
        mirror.export("");
        mirror.copy.run(&import_sql(&mirror, mode));
        mirror.publish("UPDATE t SET v = 'longer' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (9, '')");
        mirror.copy.run(&import_sql(&mirror, mode));
        mirror.assert_same("SELECT id, v FROM t");
        assert_eq!(mirror.copy.text("SELECT own FROM t ORDER BY id"), "6\n4\n0");
        assert!(mirror.copy.text("SELECT count(*) FROM log").parse::<u32>().unwrap() >= 6);
    }
}

#[test]
fn a_trigger_that_may_fire_at_the_commit_is_refused() {
    for mode in MODES {
        let mirror = with_triggers(&format!("deferrable_{mode}"), &[]);
        mirror.copy.run(
            "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql
                 AS $$ BEGIN UPDATE public.t SET v = 'late' WHERE id = NEW.id AND v <> 'late'; RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON t DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW EXECUTE FUNCTION late();
             ALTER TABLE t ENABLE REPLICA TRIGGER late",
        );
        mirror.export("");
        let import = import_sql(&mirror, mode);
        let refusal = mirror.copy.refused(&import);
        refusal.expect(
            "27000",
            &[
                "triggers of table \"public.t\" may change its rows after an import has checked them",
                "they are DEFERRABLE: trigger \"late\" of \"public.t\"",
                "Run: ALTER TABLE public.t DISABLE TRIGGER late;",
            ],
        );
        mirror.copy.run(&format!("{} {import}", refusal.statements()));
        mirror.assert_same("SELECT id, v FROM t");
    }
}

#[test]
fn types_may_differ_where_nothing_is_lost() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("wider_{mode}"));
        mirror.source.run(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN label AS varchar(20) CHECK (VALUE <> '');
             CREATE TABLE t (m mood, name varchar(10), id int, l label, PRIMARY KEY (name, id)); SELECT tx_track('t')",
        );
        mirror.copy.run("CREATE TABLE t (id bigint, name text, own int DEFAULT 7, l text, m text, PRIMARY KEY (name, id))");
        let changes = [
            "INSERT INTO t SELECT 'sad', 'n' || i % 3, i, NULLIF(i, 5) || ' ' FROM generate_series(1, 20) AS i",
            "UPDATE t SET m = 'ok' WHERE id < 5; DELETE FROM t WHERE id = 7; UPDATE t SET id = -1, name = 'x ' WHERE id = 8",
            "SELECT tx_reset('copy'); DELETE FROM t WHERE id = 9; UPDATE t SET m = NULL",
        ];
        for change in changes {
            mirror.source.run(change);
            mirror.export("");
            mirror.copy.run(&import_sql(&mirror, mode));
            let query = "SELECT id, name, l, m, 7 AS own FROM t";
            assert_eq!(
                rows(&mirror.copy, "SELECT id, name, l, m, own FROM t"),
                rows(&mirror.source, query),
                "{change}"
            );
        }
    }
}

#[test]
fn a_value_that_would_change_is_named_with_its_row_and_nothing_is_changed() {
    for mode in MODES {
        let mirror = Mirror::shared(&format!("misfit_{mode}"));
        mirror.source.run("CREATE DOMAIN price AS numeric(10, 2); CREATE TABLE t (v varchar(10), p price, id numeric PRIMARY KEY); SELECT tx_track('t')");
        mirror.copy.run("CREATE DOMAIN price AS numeric(10, 1); CREATE TABLE t (id numeric PRIMARY KEY, v varchar(3), p price)");
        mirror.publish("INSERT INTO t VALUES ('abc', 1.5, 1), ('ab', NULL, 2)");
        let import = import_sql(&mirror, mode);
        // 1.50 is what the source sends.
        let refusal = mirror.copy.refused(&import);
        refusal.expect(
            "42804",
            &[
                "a value of column \"p\" of table \"public.t\"",
                "key (1) the source sent \"1.50\" of type public.price over numeric(10,2), \
                 which public.price over numeric(10,1) makes \"1.5\"",
                "Run: ALTER TABLE public.t ALTER COLUMN p TYPE numeric(10,2);",
            ],
        );
        mirror.copy.run(&format!("{} {import}", refusal.statements()));
        mirror.assert_same("SELECT id, v, p FROM t");
        mirror.publish("INSERT INTO t VALUES ('abc   ', 1, 3)");
        let refusal = mirror.copy.refused(&import);
        refusal.expect(
            "42804",
            &[
                "key (3) the source sent \"abc   \" of type character varying(10)",
                "character varying(3) makes \"abc\"",
            ],
        );
        assert_eq!(mirror.copy.text("SELECT count(*) FROM t"), "2");
        mirror.copy.run(&format!("{} {import}", refusal.statements()));
        mirror.publish(&format!("UPDATE t SET v = NULL, id = 1{} WHERE id = 1", "0".repeat(200)));
        mirror.copy.run("ALTER TABLE t ALTER id TYPE int");
        let refusal = mirror.copy.refused(&import);
        refusal.expect("42804", &["column \"id\"", "0...", "integer refuses", "out of range"]);
        assert!(refusal.detail.len() < 800, "{refusal}");
    }
}

#[test]
fn attributes_in_another_order_are_refused() {
    let mirror = Mirror::shared("attributes");
    mirror.source.run(
        "CREATE TYPE place AS (city text, zip text); CREATE DOMAIN home AS place;
         CREATE TYPE tour AS (n int, places home[]);
         CREATE TABLE t (id int PRIMARY KEY, p place); INSERT INTO t VALUES (1, ('Berlin', '10115'));
         CREATE TABLE nested (id int PRIMARY KEY, t tour); INSERT INTO nested VALUES (1, (2, ARRAY[('Berlin', '10115')]::home[]));
         SELECT tx_track('t'), tx_track('nested')",
    );
    mirror.copy.run(
        "CREATE TYPE place AS (zip text, city text); CREATE DOMAIN home AS place; CREATE TYPE tour AS (n int, places home[]);
         CREATE TABLE t (id int PRIMARY KEY, p place); CREATE TABLE nested (id int PRIMARY KEY, t tour)",
    );
    for format in ["text", "csv", "binary"] {
        let export = mirror.arguments(format, &format!(", format => '{format}'"));
        mirror.source.run(&format!("SELECT tx_restrict('{format}', 't')"));
        mirror.source.run(&format!("SELECT FROM tx_export{export}"));
        mirror.copy.refused(&format!("SELECT FROM tx_import{}", mirror.arguments(format, ""))).expect(
            "42804",
            &[
                "column \"p\" of table \"public.t\" has a type with other attributes here",
                "They are (city, zip) at the source, and (zip, city) here",
                "in the same order",
            ],
        );
    }
    mirror.export("");
    mirror
        .copy
        .refused(&import_sql(&mirror, "merge"))
        .expect("42804", &["column \"t\" of table \"public.nested\"", "(city, zip)"]);
    mirror.copy.run("ALTER TABLE t ALTER p TYPE text; DROP TABLE nested; CREATE TABLE nested (id int PRIMARY KEY, t text)");
    mirror.copy.run(&import_sql(&mirror, "merge"));
    mirror.assert_same_tables(&["t", "nested"]);
    // An attribute that is added or dropped changes the rows that have not changed.
    mirror.source.run("ALTER TYPE place ADD ATTRIBUTE country text");
    assert_ne!(mirror.export(""), "");
    mirror.copy.run(&import_sql(&mirror, "merge"));
    mirror.assert_same_tables(&["t", "nested"]);
}

#[test]
fn a_null_that_a_domain_refuses_is_named() {
    let mirror = Mirror::shared("domain_null");
    mirror.source.run("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, NULL); SELECT tx_track('t')");
    mirror
        .copy
        .run("CREATE DOMAIN required AS int NOT NULL; CREATE TABLE t (id int PRIMARY KEY, n required)");
    mirror.export("");
    mirror
        .copy
        .refused(&import_sql(&mirror, "merge"))
        .expect("42804", &["key (2) the source sent null of type integer", "does not allow null values"]);
}

#[test]
fn an_error_that_is_not_about_the_value_stays_what_it_is() {
    let mirror = Mirror::shared("domain_errors");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'); SELECT tx_track('t')",
    );
    mirror.copy.run(
        "CREATE FUNCTION fails(text) RETURNS bool LANGUAGE plpgsql AS 'BEGIN END';
         CREATE DOMAIN checked AS text CHECK (public.fails(VALUE)); CREATE TABLE t (id int PRIMARY KEY, v checked)",
    );
    mirror.export("");
    let refusals = [
        ("40001", "40001"),
        ("55P03", "55P03"),
        ("42501", "42501"),
        ("P0001", "42804"),
        ("22003", "42804"),
        ("23514", "42804"),
    ];
    for (raised, refused) in refusals {
        mirror.copy.run(&format!(
            "CREATE OR REPLACE FUNCTION fails(text) RETURNS bool LANGUAGE plpgsql
                 AS $$ BEGIN RAISE 'no luck' USING ERRCODE = '{raised}'; END $$"
        ));
        mirror.copy.refused(&import_sql(&mirror, "merge")).expect(refused, &["no luck", "public.t"]);
    }
}

#[test]
fn format_binary_needs_the_type_that_has_written_it() {
    let mirror = Mirror::shared("binary_types");
    mirror.source.run(
        "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE t (id int PRIMARY KEY, m mood, n int);
         INSERT INTO t VALUES (1, 'sad', 7); SELECT tx_track('t')",
    );
    mirror.copy.run("CREATE TABLE t (id bigint PRIMARY KEY, m text, n text)");
    mirror.export(", format => 'binary'");
    let import = import_sql(&mirror, "merge");
    let refusal = mirror.copy.refused(&import);
    refusal.expect(
        "42804",
        &[
            "column \"m\" of table \"public.t\" has another type here",
            "It is public.mood at the source, and text here",
            "export in format text",
        ],
    );
    mirror.copy.run(&format!("CREATE TYPE mood AS ENUM ('sad'); {import}"));
    mirror.assert_same_tables(&["t"]);
    mirror.source.run("UPDATE t SET n = 8");
    mirror.export(", format => 'binary'");
    mirror.copy.run(&import);
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_caller_who_may_not_read_the_table_is_shown_no_row_of_it() {
    let mirror = with_triggers("unseen", &[DROPS]);
    mirror.source.run("CREATE TABLE w (k text PRIMARY KEY, n text); INSERT INTO w VALUES ('alpha', 'x')");
    mirror.source.run("CREATE TABLE e (k text PRIMARY KEY); INSERT INTO e VALUES ('alpha'), ('ALPHA')");
    mirror.source.run("SELECT tx_track('w'), tx_track('e'); UPDATE t SET id = 333 WHERE id = 3");
    mirror.copy.run(
        "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE w (k text PRIMARY KEY, n int); CREATE TABLE e (k text COLLATE blind PRIMARY KEY);
         CREATE ROLE blind; GRANT pg_read_server_files TO blind; GRANT EXECUTE ON FUNCTION tx_import TO blind;
         GRANT INSERT, UPDATE, DELETE ON t, w, e TO blind",
    );
    mirror.export("");
    let import = import_sql(&mirror, "merge");
    let cases = [
        (
            "e",
            "23505",
            "two keys of table \"public.e\" are one here",
            "alpha",
            "ALTER TABLE e ALTER k TYPE text COLLATE \"C\"",
        ),
        ("t", "27000", "A row was written, and is missing", "333", "ALTER TABLE t DISABLE TRIGGER drops"),
        ("w", "42804", "The source sent it as text, and integer changes or refuses it", "alpha", ""),
    ];
    for (table, sqlstate, text, secret, remedy) in cases {
        let refusal = mirror.copy.refused(&format!("SET ROLE blind; {import}"));
        refusal.expect(sqlstate, &[text]);
        assert!(!refusal.to_string().contains(secret), "{refusal}");
        mirror.copy.run(&format!("GRANT SELECT ON {table} TO blind"));
        mirror.copy.refused(&format!("SET ROLE blind; {import}")).expect(sqlstate, &[secret]);
        mirror.copy.run(remedy);
    }
}

/// A domain of an unprivileged role whose CHECK fails inside a SECURITY DEFINER function of a superuser, with a
/// search_path on which types and functions of PostgreSQL are the role's own.
const TRAP: &str = "
    CREATE FUNCTION share(int) RETURNS int SECURITY DEFINER BEGIN ATOMIC SELECT pg_catalog.int4div(1, $1); END;
    CREATE ROLE trapper; CREATE SCHEMA trap AUTHORIZATION trapper; GRANT CREATE ON SCHEMA public TO trapper;
    SET ROLE trapper;
    CREATE VIEW trap.pg_type AS SELECT 25::oid AS oid; CREATE VIEW trap.pg_class AS SELECT 1 AS one;
    CREATE FUNCTION trap.format_type(oid, int) RETURNS text LANGUAGE sql
        AS $$ SELECT CASE WHEN $2 IS NULL THEN 'public.dom' ELSE 'ran as ' || current_user END $$;
    CREATE FUNCTION trap.chk(v text) RETURNS bool LANGUAGE plpgsql SET search_path = trap, pg_catalog
        AS $$ BEGIN IF v = 'bad' THEN PERFORM public.share(0); END IF; RETURN true; END $$;
    CREATE DOMAIN dom AS text CHECK (trap.chk(VALUE));
    CREATE TABLE t (k regclass PRIMARY KEY, v dom);
    RESET ROLE; GRANT INSERT, UPDATE, DELETE, SELECT ON t TO PUBLIC
";

#[test]
fn after_a_check_has_failed_nothing_runs_as_its_user_or_on_its_search_path() {
    let mirror = Mirror::shared("trap");
    mirror.source.run(
        "CREATE TABLE t (k regclass PRIMARY KEY, v text); INSERT INTO t VALUES ('pg_type', 'ok'), ('pg_class', 'bad');
         SELECT tx_track('t')",
    );
    mirror.copy.run(TRAP);
    mirror.export("");
    let refusal = mirror.copy.refused(&import_sql(&mirror, "merge"));
    // The output function of regclass writes the schema of what search_path hides.
    let detail = "In the row with key (pg_class) the source sent \"bad\" of type text, which public.dom over text \
                  refuses: division by zero";
    refusal.expect("42804", &[detail]);
}

#[test]
fn a_range_that_is_ordered_in_another_way_here_arrives_as_it_was_sent() {
    let mirror = Mirror::shared("values_ranges");
    mirror.run("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
    for (database, collation) in [(&mirror.source, "\"C\""), (&mirror.copy, "ci")] {
        database.run(&format!(
            "CREATE TYPE span AS RANGE (subtype = text, collation = {collation}, multirange_type_name = spans);
             CREATE TYPE of_span AS (one span)"
        ));
    }
    let refused = [
        ("span", "[A,a)", "\"empty\""),
        ("spans", "{[A,B),[b,c)}", "\"{[A,c)}\""),
        ("span[]", "{\"[A,a)\"}", "\"{empty}\""),
        ("of_span", "(\"[A,a)\")", "\"(empty)\""),
    ];
    for (n, (kind, value, becomes)) in refused.into_iter().enumerate() {
        for mode in ["merge", "append"] {
            let (table, target) = (format!("t_{n}_{mode}"), format!("target_{n}_{mode}"));
            mirror.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY, v {kind})"));
            mirror.source.run(&format!(
                "SELECT tx_track('{table}'); SELECT tx_restrict('{target}', '{table}');
                 INSERT INTO {table} VALUES (1, '{value}')"
            ));
            mirror.source.run(&format!("SELECT * FROM tx_export{}", mirror.arguments(&target, "")));
            let arguments = mirror.arguments(&target, &format!(", mode => '{mode}'"));
            mirror.copy.refused(&format!("SELECT * FROM tx_import{arguments}")).expect("42804", &[becomes]);
        }
    }
}

/// What is done to the destination's table between two imports of changes, and the columns whose unchanged
/// rows may have lost values by it.
const ALTERED: &[(&str, &str)] = &[
    ("ALTER TABLE t DROP b; ALTER TABLE t ADD b numeric", "b"),
    ("ALTER TABLE t DROP b, DROP c; ALTER TABLE t ADD b numeric, ADD c text", "b, c"),
    ("ALTER TABLE t RENAME b TO old; ALTER TABLE t ADD b numeric", "b"),
    // PostgreSQL writes the descriptions of the columns behind it as well.
    ("ALTER TABLE t ALTER b TYPE integer; ALTER TABLE t ALTER b TYPE numeric", "b, c"),
    ("ALTER TABLE t ALTER c TYPE varchar(2) USING c::varchar(2); ALTER TABLE t ALTER c TYPE text", "c"),
    ("ALTER TABLE t ALTER c TYPE varchar; ALTER TABLE t ALTER c TYPE text", ""),
    ("VACUUM FULL t", ""),
    ("CLUSTER t USING t_pkey", ""),
    ("ALTER TABLE t ALTER b SET STATISTICS 7, ALTER c SET NOT NULL", ""),
    ("ALTER TABLE t ADD own text DEFAULT clock_timestamp()::text", ""),
    ("CREATE INDEX ON t (b); ALTER TABLE t RENAME b TO old; ALTER TABLE t RENAME old TO b", ""),
];

#[test]
fn columns_that_have_lost_values_at_the_destination_are_told() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, b numeric, c text)";
    for (number, (altered, columns)) in ALTERED.iter().enumerate() {
        let mirror = Mirror::tracking(&format!("altered_{number}"), ddl, &["t"]);
        mirror.source.run("INSERT INTO t SELECT i, i + 0.5, 'note ' || i FROM generate_series(1, 20) AS i");
        mirror.follow("");
        mirror.source.run("UPDATE t SET c = 'second' WHERE id = 1");
        mirror.follow("");
        for statement in altered.split("; ") {
            mirror.copy.run(statement);
        }
        let health = || {
            mirror.copy.text(
                "SELECT regexp_replace(problem, '.*: ', '') FROM tx_health() WHERE problem LIKE 'unchanged rows%'",
            )
        };
        mirror.source.run("UPDATE t SET c = 'third' WHERE id = 2");
        mirror.export("");
        let (mut client, warnings) = mirror.copy.watched();
        query(&mut client, &import_sql(&mirror, "merge")).expect("an import");
        let warned = warnings.lock().expect("no panic before").join(" ");
        assert_eq!(warned.contains("whose unchanged rows may lack their values"), !columns.is_empty());
        assert!(warned.contains(columns), "{altered}: {warned}");
        assert_eq!(health(), *columns, "{altered}");

        mirror.source.run("UPDATE t SET c = 'fourth' WHERE id = 3");
        mirror.export("");
        mirror.import();
        assert_eq!(health(), *columns, "{altered}: forgotten by the next import");
        mirror.source.run("SELECT tx_reset('copy', 't')");
        mirror.follow("");
        assert_eq!(health(), "", "{altered}: all rows have been sent again");
        mirror.assert_same("SELECT id, b, c FROM t");
    }
}

#[test]
fn a_type_that_lost_values_until_an_import_was_refused_is_told() {
    let mirror = Mirror::tracking("altered_back", "CREATE TABLE t (id int PRIMARY KEY, b numeric)", &["t"]);
    mirror.source.run("INSERT INTO t SELECT i, i + 0.5 FROM generate_series(1, 20) AS i");
    mirror.follow("");
    mirror.copy.run("ALTER TABLE t ALTER b TYPE integer");
    mirror.source.run("UPDATE t SET b = 0.25 WHERE id = 1");
    mirror.export("");
    let refused = mirror.copy.refused(&import_sql(&mirror, "merge"));
    refused.expect("42804", &["\"b\"", "cannot be stored here as it was sent"]);
    mirror.copy.run(refused.statements());
    mirror.copy.run(&import_sql(&mirror, "merge"));
    let told =
        mirror.copy.text("SELECT object, hint FROM tx_health() WHERE problem LIKE 'unchanged rows%: b'");
    assert!(told.contains("SELECT tx_reset('copy', 'public.t');"), "{told}");
}
