//! Columns that are generated at the destination: left to it, and compared with what was sent.

use crate::cluster::database::{query, refusal};
use crate::cluster::mirror::{Mirror, rows};

/// Made at both sides, as by pg_dump.
const TABLES: &str = "
    CREATE TABLE prices (id int PRIMARY KEY, net numeric(10,2), gross numeric(10,2) GENERATED ALWAYS AS (net * 1.2) STORED, note text);
    CREATE TABLE keyed (a int PRIMARY KEY, v text, k text GENERATED ALWAYS AS ('k' || a) STORED);
    CREATE TABLE parts (id int, day date, label text GENERATED ALWAYS AS ('no ' || id) STORED, PRIMARY KEY (id, day))
        PARTITION BY RANGE (day);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2025-02-01') TO ('2025-03-01')";

const ROWS: &str = "
    INSERT INTO prices SELECT i, i / 3.0, CASE WHEN i % 2 = 0 THEN 'note' END FROM generate_series(1, 50) AS i;
    INSERT INTO prices (id) VALUES (60);
    INSERT INTO keyed SELECT i, 'v' || i FROM generate_series(1, 50) AS i;
    INSERT INTO parts SELECT i, '2025-01-01'::date + i FROM generate_series(1, 50) AS i";

const NAMES: [&str; 3] = ["prices", "keyed", "parts"];

fn both(name: &str) -> Mirror {
    let mirror = Mirror::shared(name);
    mirror.run(TABLES);
    mirror.source.run(&ROWS.replace("prices SELECT i,", "prices (id, net, note) SELECT i,"));
    for table in NAMES {
        mirror.source.run(&format!("SELECT tx_track('{table}')"));
    }
    mirror
}

fn import(mirror: &Mirror) -> String {
    format!("SELECT * FROM tx_import{}", mirror.arguments("copy", ""))
}

#[test]
fn what_is_generated_at_both_sides_is_the_same() {
    for format in ["text", "csv", "binary"] {
        let mirror = both(&format!("generated_{format}"));
        let changes = [
            "",
            "UPDATE prices SET net = net + 1 WHERE id < 10; DELETE FROM prices WHERE id = 20;
             UPDATE prices SET note = 'other' WHERE id = 60; INSERT INTO prices (id, net) VALUES (70, 7)",
            "UPDATE keyed SET a = a + 100 WHERE a < 5; UPDATE keyed SET v = '' WHERE a = 7; DELETE FROM keyed WHERE a = 9",
            "UPDATE parts SET id = id + 1000 WHERE id < 5; UPDATE parts SET day = '2025-01-02' WHERE id = 40",
        ];
        for change in changes {
            mirror.source.run(change);
            mirror.follow(&format!(", format => '{format}'"));
            mirror.assert_same_tables(&NAMES);
        }
        mirror.copy.run("UPDATE prices SET note = 'spoilt' WHERE id = 1; DELETE FROM keyed WHERE a = 20");
        mirror.source.run("SELECT tx_reset('copy')");
        mirror.follow(&format!(", format => '{format}'"));
        mirror.assert_same_tables(&NAMES);
        mirror.assert_verified();
    }
}

#[test]
fn another_expression_is_refused_with_both_values() {
    let mirror = both("generated_otherwise");
    mirror.follow("");
    let import = import(&mirror);
    let cases = [
        (
            "ALTER TABLE prices DROP gross; ALTER TABLE prices ADD gross numeric(10,2) GENERATED ALWAYS AS (net * 1.3) STORED",
            "UPDATE prices SET net = 10 WHERE id = 3",
            "generated column \"gross\" of table \"public.prices\" has another value here than was sent",
            "with key (3) the source sent \"12.00\", and here it is \"13.00\". \
             Here it is generated as (net * 1.3)",
        ),
        (
            "ALTER TABLE prices DROP gross; ALTER TABLE prices ADD gross numeric(10,2) GENERATED ALWAYS AS (net * 1.2) STORED;
             ALTER TABLE keyed DROP k; ALTER TABLE keyed ADD k text GENERATED ALWAYS AS ('key' || a) STORED",
            "INSERT INTO keyed VALUES (500, 'x')",
            "generated column \"k\" of table \"public.keyed\" has another value here than was sent",
            "with key (500) the source sent \"k500\", and here it is \"key500\"",
        ),
    ];
    for (here, there, message, detail) in cases {
        mirror.copy.run(here);
        mirror.publish(there);
        let before = rows(&mirror.copy, "SELECT * FROM prices");
        mirror
            .copy
            .refused(&import)
            .expect("428C9", &[message, detail, "Nothing was changed", "DROP EXPRESSION"]);
        assert_eq!(rows(&mirror.copy, "SELECT * FROM prices"), before);
    }
    // A full part as well, appended or merged.
    mirror.copy.run("TRUNCATE keyed");
    mirror.source.run("SELECT tx_reset('copy', 'keyed')");
    mirror.export("");
    mirror.copy.refused(&import).expect("428C9", &["\"k\" of table"]);
    // What the HINT says works.
    mirror.copy.run("ALTER TABLE public.keyed ALTER COLUMN k DROP EXPRESSION");
    mirror.import();
    mirror.assert_same("SELECT id, net, gross, note FROM prices");
    mirror.assert_same("SELECT a, v, k FROM keyed");
}

#[test]
fn a_trigger_that_changes_what_a_column_is_generated_from_is_named() {
    let mirror = both("generated_trigger");
    mirror.copy.run(
        "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.net := NEW.net + 1; RETURN NEW; END';
         CREATE TRIGGER more BEFORE INSERT ON prices FOR EACH ROW EXECUTE FUNCTION more();
         ALTER TABLE prices ENABLE ALWAYS TRIGGER more",
    );
    mirror.export("");
    let import = import(&mirror);
    mirror.copy.refused(&import).expect("27000", &["trigger \"more\""]);
}

#[test]
fn a_key_that_is_generated_here_is_refused() {
    let mirror = Mirror::shared("generated_key");
    let ddl = |expression| {
        format!("CREATE TABLE t (a int, v text, k int GENERATED ALWAYS AS ({expression}) STORED PRIMARY KEY)")
    };
    mirror.source.run(&format!("{}; INSERT INTO t VALUES (1, 'one'), (-1, 'minus one')", ddl("a")));
    mirror.source.run("SELECT tx_track('t')");
    // Each key finds a row, which is another one.
    mirror.copy.run(&ddl("-a"));
    mirror.export("");
    let import = import(&mirror);
    let refused = mirror.copy.refused(&import);
    refused.expect("428C9", &["column \"k\" of table \"public.t\" is generated here"]);
    mirror.copy.run("ALTER TABLE public.t ALTER COLUMN k DROP EXPRESSION");
    mirror.import();
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_column_that_only_a_partition_generates_is_refused() {
    let mirror = Mirror::shared("generated_partition");
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, c text) PARTITION BY RANGE (id)";
    mirror
        .source
        .run(&format!("{ddl}; CREATE TABLE t_1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (1, 'sent')"));
    mirror.source.run("SELECT tx_track('t')");
    mirror.copy.run(&format!(
        "{ddl}; CREATE TABLE t_1 (id int NOT NULL, c text GENERATED ALWAYS AS ('made') STORED);
         ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (100)"
    ));
    mirror.export("");
    let import = import(&mirror);
    mirror.copy.refused(&import).expect("428C9", &["column \"c\" of table \"public.t_1\" is generated here"]);
    mirror.copy.run(
        "ALTER TABLE t DETACH PARTITION t_1; ALTER TABLE public.t_1 ALTER COLUMN c DROP EXPRESSION;
         ALTER TABLE t ATTACH PARTITION t_1 FOR VALUES FROM (0) TO (100)",
    );
    mirror.import();
    mirror.assert_same_tables(&["t"]);
}

#[test]
fn a_value_that_an_expression_refuses_is_not_shown_to_everybody() {
    let mirror = Mirror::shared("generated_secret");
    mirror.source.run(
        "CREATE TABLE t (id int PRIMARY KEY, note text, n int); INSERT INTO t VALUES (1, 'classified', 3)",
    );
    mirror.source.run("SELECT tx_track('t')");
    mirror.copy.run(
        "CREATE TABLE t (id int PRIMARY KEY, note text, n int GENERATED ALWAYS AS (note::int) STORED);
         CREATE ROLE generated_importer; GRANT INSERT, UPDATE, DELETE ON t TO generated_importer;
         GRANT EXECUTE ON FUNCTION tx_import TO generated_importer; GRANT pg_read_server_files TO generated_importer",
    );
    mirror.export("");
    let import = import(&mirror);
    let mut client = mirror.copy.client();
    client.batch_execute("SET ROLE generated_importer").unwrap();
    let refused = refusal(&query(&mut client, &import).unwrap_err());
    refused.expect("22P02", &["a value of a row is not valid here", "table \"public.t\""]);
    assert!(!refused.to_string().contains("classified"), "{refused}");
    mirror.copy.wait_until_free();
    mirror.copy.refused(&import).expect("22P02", &["classified"]);
}
