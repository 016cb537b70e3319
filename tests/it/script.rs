//! The script that makes all that a target gets: an empty database needs nothing else, and runs nothing that
//! a role at the source has written, unless definitions are asked for.

use crate::cluster::mirror::Mirror;
use crate::cluster::{COPY, SOURCE};

/// Tables in several schemas, with types that need each other and their arrays.
const TABLES: &str = r#"
    CREATE SCHEMA "App"; CREATE SCHEMA types; CREATE SCHEMA "Ext";
    CREATE EXTENSION citext SCHEMA "Ext"; CREATE EXTENSION earthdistance SCHEMA "Ext" CASCADE;
    CREATE COLLATION types."Ci" (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
    CREATE TYPE types."Mood" AS ENUM ('so so', 'it''s \ fine', 'A');
    CREATE FUNCTION types.is_fine(types."Mood") RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT true $$;
    CREATE DOMAIN types.a_mood AS types."Mood" DEFAULT 'A' CHECK (types.is_fine(VALUE));
    CREATE TYPE types."Pair" AS ("A b" types.a_mood, "select" varchar(5) COLLATE "C");
    CREATE TYPE types.box AS (pairs types."Pair"[]);
    CREATE TYPE types.boxes AS (first types.box, others types.box[]);
    CREATE DOMAIN types.code AS text COLLATE types."Ci" NOT NULL;
    CREATE TYPE types.span AS RANGE (SUBTYPE = text, COLLATION = "C");
    CREATE TYPE types.floats AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi, MULTIRANGE_TYPE_NAME = types."Many");
    CREATE DOMAIN "App".spans AS types.span[];

    CREATE TABLE "App"."Users" (id integer, "Key" types.code, boxes types.boxes, mail "Ext".citext, place "Ext".earth,
                                spans "App".spans, many types."Many", ci text COLLATE types."Ci", seen timestamptz DEFAULT now(),
                                PRIMARY KEY ("Key", id));
    INSERT INTO "App"."Users" VALUES
        (1, 'a"b', ROW(ROW(ARRAY[ROW('A', 'x')]::types."Pair"[]), NULL), 'X@y', '(6378168,0,0)', ARRAY['[a,b)'::types.span], '{[1,2),[3,4)}', 'é'),
        (2, 'c', ROW(ROW(NULL), ARRAY[ROW(ARRAY[ROW('it''s \ fine', NULL)]::types."Pair"[])::types.box]), NULL, NULL, NULL, NULL, NULL);
    CREATE TABLE public.log (at date, n integer, mood types."Mood", PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
    CREATE TABLE public.log_2024 PARTITION OF public.log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE public.log_other PARTITION OF public.log DEFAULT;
    INSERT INTO public.log VALUES ('2024-02-03', 1, 'so so'), ('2025-02-03', 2, NULL);
    -- The type of a column is the row of another table of the target, which comes later by its name.
    CREATE TABLE public.a_row (id integer PRIMARY KEY, of public.log);
    INSERT INTO public.a_row VALUES (1, ROW('2024-02-03', 1, 'A')), (2, NULL);
    CREATE TABLE types.secret (id integer PRIMARY KEY, hidden types.span, name text);
    CREATE TYPE types.never AS (x integer);
    ALTER TABLE types.secret ADD unseen types.never;
    INSERT INTO types.secret SELECT n, NULL, 'name ' || n, NULL FROM generate_series(1, 5) AS n;
    CREATE VIEW types.shown AS SELECT id, upper(name)::varchar(20) AS "Name" FROM types.secret WHERE id <> 2;
"#;

const TRACKED: [&str; 4] = ["\"App\".\"Users\"", "public.log", "public.a_row", "types.secret"];

/// A source with these tables, whose target "copy" is restricted, and a copy without any.
fn restricted(name: &str) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.source.run(TABLES);
    for table in TRACKED {
        let view = if table == "types.secret" { ", 'types.shown'" } else { "" };
        mirror
            .source
            .run(&format!("SELECT tx_track('{table}'); SELECT tx_restrict('copy', '{table}'{view})"));
    }
    mirror.source.run("CREATE TABLE not_given (id int PRIMARY KEY); SELECT tx_track('not_given')");
    mirror
}

#[track_caller]
fn assert_same_rows(mirror: &Mirror) {
    mirror.assert_same_tables(&TRACKED[..3]);
    let at = |database: &crate::cluster::database::Database, table: &str| {
        database.text(&format!("SELECT id, \"Name\" FROM {table} ORDER BY id"))
    };
    assert_eq!(at(&mirror.copy, "types.secret"), at(&mirror.source, "types.shown"));
    mirror.assert_verified();
}

#[test]
fn an_empty_database_needs_no_more_than_the_script_of_a_target() {
    let mirror = restricted("script_all");
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy')");
    // psql reads it as it would from a file, under settings that read names and literals otherwise.
    let hostile = "CREATE SCHEMA trap; CREATE DOMAIN trap.text AS integer; CREATE DOMAIN trap.int4 AS name;
                   SET search_path = trap, pg_catalog; SET standard_conforming_strings = off; SET escape_string_warning = off;";
    COPY.psql("script_all", &format!("{hostile}\n{script}"));
    for absent in ["not_given", "never", "hidden", "is_fine", "DEFAULT", "CHECK", "PARTITION"] {
        assert!(!script.contains(absent), "{absent} in {script}");
    }
    mirror.follow("");
    assert_same_rows(&mirror);
    mirror.publish(
        "UPDATE \"App\".\"Users\" SET seen = NULL; DELETE FROM types.secret WHERE id = 3; DELETE FROM log WHERE n = 1",
    );
    mirror.import();
    assert_same_rows(&mirror);
    // At the copy, it is the same script: with these columns, and with the view's.
    for table in TRACKED {
        let of_copy = mirror.copy.text(&format!("SELECT tx_ddl('{table}')"));
        let statement =
            of_copy.lines().filter(|line| !line.starts_with("-- ")).collect::<Vec<_>>().join("\n");
        assert!(script.contains(&statement), "{statement} in {script}");
    }
}

#[test]
fn a_script_that_fails_leaves_nothing() {
    let mirror = restricted("script_fails");
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy')");
    mirror.copy.run("CREATE TABLE public.log (id int)");
    mirror.copy.refused(&script).expect("42P07", &["relation \"log\" already exists"]);
    assert_eq!(
        mirror.copy.text("SELECT count(*) FROM pg_namespace WHERE nspname IN ('App', 'types', 'Ext')"),
        "0"
    );
}

#[test]
fn one_table_of_a_target_is_as_the_target_gets_it() {
    let mirror = restricted("script_one");
    let script = mirror.source.text("SELECT tx_ddl('types.secret', target => 'copy')");
    let create = "BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
CREATE SCHEMA IF NOT EXISTS types;
CREATE TABLE types.secret (
    id integer NOT NULL,
    \"Name\" character varying(20),
    PRIMARY KEY (id)
) WITH (fillfactor = 80);
COMMIT;";
    assert_eq!(
        script,
        format!("-- What target \"copy\" gets. Run it with psql at the destination.\n{create}")
    );
    // A target that is not restricted gets the table.
    let whole = mirror.source.text("SELECT tx_ddl('types.secret', 'a\nb')");
    assert!(
        whole.starts_with("-- What target \"a b\" gets.") && whole.contains("hidden types.span"),
        "{whole}"
    );
    let not_given = "Table \"public.not_given\" is not one that it has been given.";
    mirror.source.refused("SELECT tx_ddl('not_given', 'copy')").expect("42704", &[not_given]);
    let other = "CREATE TABLE other (id int); SELECT tx_ddl('other', 'copy')";
    mirror.source.refused(other).expect("55000", &["table \"public.other\" is not tracked"]);
    mirror
        .source
        .refused("SELECT tx_ddl(target => '')")
        .expect("22023", &["invalid value for argument \"target\""]);
}

#[test]
fn a_name_without_a_type_means_the_table() {
    let mirror = Mirror::shared("script_literal");
    let nothing = "no table is tracked in this database";
    mirror.source.refused("SELECT tx_ddl(target => 'users')").expect("55000", &[nothing]);
    mirror.source.run("CREATE TABLE users (id int PRIMARY KEY)");
    let one = mirror.source.text("SELECT tx_ddl('users')");
    assert!(one.starts_with("CREATE TABLE public.users ("), "{one}");
    // That is why there are no two functions.
    mirror.source.run(
        "CREATE FUNCTION two(relation regclass) RETURNS text LANGUAGE sql AS $$ SELECT 'table' $$;
         CREATE FUNCTION two(target text) RETURNS text LANGUAGE sql AS $$ SELECT 'target' $$",
    );
    assert_eq!(mirror.source.text("SELECT two('public.users')"), "target");
}

#[test]
fn what_cannot_be_made_is_named_in_a_comment() {
    let mirror = Mirror::new(&SOURCE, &COPY, "script_by_hand");
    mirror.source.run(
        "CREATE TYPE steps; CREATE FUNCTION step(steps) RETURNS steps LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
         CREATE TYPE steps AS RANGE (SUBTYPE = integer, CANONICAL = step);
         CREATE TYPE odd; CREATE FUNCTION odd_in(cstring) RETURNS odd LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
         CREATE FUNCTION odd_out(odd) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
         CREATE TYPE odd (INPUT = odd_in, OUTPUT = odd_out, LIKE = integer);
         CREATE TABLE t (id int PRIMARY KEY, s steps, o odd[]); SELECT tx_track('t')",
    );
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy')");
    let texts = [
        "-- Needed before: type public.odd, as pg_dump --schema-only shows it\nBEGIN;",
        "-- Left out of type public.steps: function public.step(public.steps)",
    ];
    for text in texts {
        assert!(script.contains(text), "{script}");
    }
}

/// Functions that expressions call, which have to be at the copy before.
const FUNCTIONS: &str = "
    CREATE SCHEMA lib;
    CREATE FUNCTION lib.\"Double\"(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
    CREATE FUNCTION lib.is_short(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT length($1) < 9'";

/// What definitions => true writes.
const DEFINED: &str = r#"
    CREATE SCHEMA "Shop"; CREATE EXTENSION pg_trgm SCHEMA public;
    CREATE TYPE "Shop".state AS ENUM ('new', 'it''s'); CREATE TYPE "Shop".other AS ENUM ('x');
    CREATE DOMAIN "Shop".short AS text DEFAULT 'd' NOT NULL CONSTRAINT "is Short" CHECK (lib.is_short(VALUE));
    CREATE TABLE "Shop"."Items" (
        id integer, "Name" "Shop".short, twice integer NOT NULL GENERATED ALWAYS AS (lib."Double"(id)) STORED,
        state "Shop".state DEFAULT 'it''s', at timestamptz DEFAULT now(), code text COLLATE "C" DEFAULT 'a\b''c',
        flag text DEFAULT ('x'::"Shop".other)::text, span int4range DEFAULT '[1,2)', gone integer, price numeric(8, 2),
        CONSTRAINT "The Key" PRIMARY KEY ("Name", id) INCLUDE (price), UNIQUE (twice) DEFERRABLE,
        CONSTRAINT "Cheap" CHECK (price < 100 AND "Name"::text <> 'a'';b'), EXCLUDE USING gist (span WITH -|-));
    ALTER TABLE "Shop"."Items" DROP gone;
    INSERT INTO "Shop"."Items" (id, "Name", span) VALUES (1, 'one', '[1,3)'), (2, 'two', '[5,6)');
    ALTER TABLE "Shop"."Items" ADD CONSTRAINT old CHECK (id > 1) NOT VALID;
    CREATE INDEX "By name" ON "Shop"."Items" USING gin (("Name"::text) gin_trgm_ops);
    CREATE UNIQUE INDEX ON "Shop"."Items" (lib."Double"(id) DESC, code COLLATE "POSIX") WHERE price IS NOT NULL;
    COMMENT ON TABLE "Shop"."Items" IS 'what''s for \ sale
-- and what not; DROP TABLE x;';
    COMMENT ON COLUMN "Shop"."Items"."Name" IS 'short';

    CREATE TABLE events (at date NOT NULL, id integer, region text DEFAULT 'eu', n integer CHECK (n > 0), PRIMARY KEY (at, id, region))
        PARTITION BY RANGE (at);
    CREATE INDEX by_n ON events (n);
    CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (region);
    CREATE SCHEMA parts;
    CREATE TABLE parts."Eu" (n integer CHECK (n > 0), gone text, region text DEFAULT 'other' NOT NULL, id integer NOT NULL, at date NOT NULL);
    ALTER TABLE parts."Eu" DROP gone, ADD CONSTRAINT "Small" CHECK (n < 1000);
    ALTER TABLE parts."Eu" RENAME CONSTRAINT "Eu_n_check" TO events_n_check;
    CREATE INDEX "its own" ON parts."Eu" (region);
    ALTER TABLE events_2024 ATTACH PARTITION parts."Eu" FOR VALUES IN ('eu', NULL);
    CREATE TABLE events_rest PARTITION OF events DEFAULT;
    COMMENT ON TABLE events_rest IS 'rest';
    INSERT INTO events VALUES ('2024-05-06', 1, 'eu', 7), ('2025-05-06', 2, 'us', 8);
    CREATE TABLE hashed (id integer PRIMARY KEY) PARTITION BY HASH (id);
    CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    INSERT INTO hashed VALUES (1), (2);
"#;

/// What is left out.
const NOT_DEFINED: &str = r#"
    ALTER TABLE "Shop"."Items" ADD event integer REFERENCES hashed;
    CREATE FUNCTION lib.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER fires BEFORE INSERT ON "Shop"."Items" FOR EACH ROW EXECUTE FUNCTION lib.fire();
    CREATE RULE ruled AS ON DELETE TO hashed DO ALSO NOTHING;
    CREATE POLICY secret ON "Shop"."Items" USING (true);
    GRANT SELECT ON hashed TO PUBLIC;
    CREATE TABLE numbered (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n serial, m bigint DEFAULT nextval('numbered_n_seq'::text));
    INSERT INTO numbered DEFAULT VALUES;
"#;

const DEFINED_TABLES: [&str; 4] = ["\"Shop\".\"Items\"", "events", "hashed", "numbered"];

/// Returns the statements of pg_dump that a script is to have made, one after the other by their text.
fn statements(cluster: &crate::cluster::Cluster, name: &str) -> Vec<String> {
    let dump = cluster.dump_with(name, &["--schema-only", "--no-owner", "--no-privileges"]);
    let lines =
        dump.lines().filter(|line| !line.starts_with("--") && !line.is_empty() && !line.starts_with('\\'));
    let text = lines.collect::<Vec<_>>().join("\n").replace("\nWITH (fillfactor='80')", "");
    let mut statements = text.split(";\n").map(str::to_owned).collect::<Vec<_>>();
    statements.retain(|one| !one.starts_with("SET ") && !one.starts_with("SELECT "));
    statements.sort();
    statements
}

#[test]
fn definitions_are_those_of_the_source() {
    let mirror = Mirror::shared("script_defined");
    mirror.run(FUNCTIONS);
    mirror.source.run(DEFINED);
    let expected = statements(&SOURCE, "script_defined");
    mirror.source.run(NOT_DEFINED);
    for table in DEFINED_TABLES {
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    mirror.source.run("ALTER TABLE \"Shop\".\"Items\" DROP event");
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy', definitions => true)");
    COPY.psql("script_defined", &script);
    let texts = [
        "-- Left out: foreign keys, triggers, rules, policies, owners, grants, ",
        "-- Needed before: function lib.\"Double\"(integer), as pg_dump --schema-only shows it\n",
        "-- Needed before: function lib.is_short(pg_catalog.text), as pg_dump --schema-only shows it\n",
        "CREATE TABLE public.numbered (\n    id integer NOT NULL,\n    n integer NOT NULL,\n    m bigint,\n    CONSTRAINT",
    ];
    for text in texts {
        assert!(script.contains(text), "{text} in {script}");
    }
    assert!(!script.contains("REFERENCES") && !script.contains("TRIGGER"), "{script}");
    let mut made = statements(&COPY, "script_defined");
    made.retain(|one| !one.contains("numbered"));
    crate::cluster::mirror::assert_equal("pg_dump", &expected, &made);
    mirror.source.run("ALTER TABLE \"Shop\".\"Items\" DROP CONSTRAINT old");
    mirror.copy.run("ALTER TABLE \"Shop\".\"Items\" DROP CONSTRAINT old");
    mirror.follow("");
    mirror.publish(
        "UPDATE events SET at = '2025-01-01' WHERE id = 1; UPDATE \"Shop\".\"Items\" SET id = 3 WHERE id = 2",
    );
    mirror.import();
    mirror.assert_same_tables(&DEFINED_TABLES);
    mirror.assert_same_tables(&["events_2024", "events_rest", "parts.\"Eu\""]);
    mirror.assert_verified();
}

#[test]
fn the_definitions_of_one_table_name_its_types() {
    let mirror = Mirror::shared("script_one_defined");
    mirror.source.run(FUNCTIONS);
    mirror.source.run(DEFINED);
    let one = mirror.source.text("SELECT tx_ddl('\"Shop\".\"Items\"', definitions => true)");
    let texts = [
        "-- Needed before: type \"Shop\".state, as",
        "-- Needed before: type \"Shop\".other, as",
        "-- Needed before: CREATE EXTENSION pg_trgm SCHEMA public;",
        "-- Needed before: function lib.\"Double\"(integer), as",
        "\nCREATE TABLE \"Shop\".\"Items\" (",
    ];
    for text in texts {
        assert!(one.contains(text), "{text} in {one}");
    }
    let parted = mirror.source.text("SELECT tx_ddl('events', definitions => true)");
    assert_eq!(parted.matches("ATTACH PARTITION").count(), 3, "{parted}");
}

#[test]
fn a_partition_that_is_sent_by_itself_is_no_partition_of_the_copy() {
    let mirror = Mirror::shared("script_apart");
    mirror.source.run(FUNCTIONS);
    mirror.source.run(DEFINED);
    mirror.source.run("SELECT tx_track('events'); SELECT tx_track('events_rest')");
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy', definitions => true)");
    assert!(!script.contains("PARTITION"), "{script}");
    mirror.copy.run(&script);
    mirror.follow("");
    mirror.assert_same_tables(&["events", "events_rest"]);
}

#[test]
fn definitions_do_not_tell_what_a_view_hides() {
    let mirror = restricted("script_hidden");
    mirror.source.run(
        "ALTER TABLE types.secret ALTER name SET DEFAULT 'hush', ADD CHECK (name <> 'hush');
         COMMENT ON COLUMN types.secret.hidden IS 'hush'; CREATE INDEX hush ON types.secret (hidden)",
    );
    let script = mirror.source.text("SELECT tx_ddl(target => 'copy', definitions => true)");
    assert!(
        !script.contains("hush") && script.contains("seen timestamp with time zone DEFAULT now()"),
        "{script}"
    );
}
