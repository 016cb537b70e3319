//! A table that is equal is never called different: a million rows at random, with all types.

use crate::cluster::database::Database;
use crate::cluster::mirror::Mirror;
use crate::roundtrip::{quote, quoted_type};
use crate::types::TYPES;
use crate::verify::{EQUAL, verify, verify_source};

const ROWS: u32 = 100_000;
const TYPES_OF_A_TABLE: usize = 7;

/// Values at random of types that have more of them than a list shows, as text: `r` is from 0 to 1, `h` 32
/// hexadecimal digits, and `n` an integer.
const MANY_VALUES: &[(&str, &str)] = &[
    ("bit", "n::bit(32)"),
    ("varbit", "(n::bit(32)::varbit || (n / 7)::bit(9)::varbit)"),
    ("bytea", "decode(h, 'hex')"),
    ("bpchar", "left(h, n % 9) || repeat(' ', n % 4)"),
    ("date", "date '1900-01-01' + n % 90000"),
    ("daterange", "daterange(date '1900-01-01' + n % 900, date '1903-01-01' + n % 90000)"),
    ("float4", "((r - 0.5) * power(10.0, n % 60 - 30))::float4"),
    ("float8", "(r - 0.5) * power(10.0, n % 600 - 300)"),
    ("inet", "('10.' || n % 256 || '.' || n % 199 || '.7/' || n % 33)"),
    ("int2", "n % 32768 - 16384"),
    ("int4", "n - 1000000000"),
    ("int8", "n::int8 * n - n"),
    ("int4range", "int4range(n % 1000, 1000 + n % 9000, '[]')"),
    ("interval", "make_interval(0, n % 300 - 150, 0, n % 70 - 35, 0, 0, (r - 0.5) * 90000)"),
    ("json", "format('{\"b\" : %s, \"a\":[%s, null]}', n, r)"),
    ("jsonb", "format('{\"b\" : %s, \"a\":[%s, null]}', n, r)"),
    ("macaddr", "left(h, 12)"),
    ("money", "((r - 0.5) * 1000000)::numeric::money"),
    ("numeric", "round(((r - 0.5) * power(10.0, n % 30))::numeric, n % 12)"),
    ("oid", "n"),
    ("pg_lsn", "left(h, 7) || '/' || right(h, 7)"),
    ("point", "point(r * 1000, r - 1)"),
    ("text", "h || chr(160 + n % 5000) || E'\\\\\\t\\n' || n"),
    ("varchar", "repeat(chr(33 + n % 90), n % 40)"),
    ("name", "left(h, n % 33)"),
    ("time", "make_time(n % 24, n % 60, 59.999999 * r)"),
    ("timestamp", "timestamp '1900-01-01' + r * interval '200 years'"),
    ("timestamptz", "timestamptz '1900-01-01 00:00Z' + r * interval '200 years'"),
    ("tsvector", "left(h, n % 20) || ':' || 1 + n % 99 || 'A other'"),
    ("uuid", "h"),
    ("xid8", "n"),
];

/// The value of a column in a row: null, one of the list of its type, or any.
fn value(name: &str, values: &[&str]) -> String {
    let type_name = quoted_type(name);
    let listed = values.iter().map(|value| quote(value)).collect::<Vec<_>>();
    let listed =
        format!("(ARRAY[{}]::{type_name}[])[1 + floor(random() * {})]", listed.join(", "), values.len());
    let of_many = MANY_VALUES.iter().find(|(other, _)| *other == name);
    let any = of_many.map(|(_, expression)| format!("({expression})::text::{type_name}"));
    let any = any.unwrap_or_else(|| listed.clone());
    format!("CASE WHEN random() < 0.05 THEN NULL WHEN random() < 0.3 THEN {listed} ELSE {any} END")
}

/// Writes rows with ids from a range to a table.
fn fill(database: &Database, table: &str, types: &[(&str, &[&str])], first: u32, last: u32) {
    let values = types.iter().map(|(name, values)| format!(", {}", value(name, values)));
    database.run(&format!(
        "INSERT INTO {table} SELECT i{} FROM (
             SELECT i, random() AS r, md5(random()::text) AS h, floor(random() * 2000000000)::int AS n
               FROM generate_series({first}, {last}) AS i OFFSET 0) AS at_random",
        values.collect::<String>()
    ));
}

fn assert_equal_at_both_sides(mirror: &Mirror, tables: &[String]) {
    for table in tables {
        assert_eq!(verify(mirror, table), EQUAL, "{table} of the copy");
        assert_eq!(verify_source(mirror, table), EQUAL, "{table} of the source");
    }
}

#[test]
fn a_million_rows_at_random_are_called_equal() {
    let mirror = Mirror::shared("random");
    let types = TYPES.chunks(TYPES_OF_A_TABLE).enumerate();
    let tables = types.map(|(n, types)| (format!("random_{n}"), types)).collect::<Vec<_>>();
    for (table, types) in &tables {
        let columns = types.iter().map(|(name, _)| format!(", \"{name}\" {}", quoted_type(name)));
        let columns = columns.collect::<String>();
        mirror.source.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY{columns})"));
        fill(&mirror.source, table, types, 1, ROWS);
    }
    let names = tables.iter().map(|(table, _)| table.clone()).collect::<Vec<_>>();
    assert!(names.len() as u32 * ROWS >= 1_000_000, "{}", names.len());
    mirror.track(&names.iter().map(String::as_str).collect::<Vec<_>>());
    mirror.follow("");
    assert_equal_at_both_sides(&mirror, &names);
    for (table, types) in &tables {
        mirror.source.run(&format!(
            "DELETE FROM {table} WHERE id % 20 = 0; UPDATE {table} SET id = id + 1000000 WHERE id % 20 = 1"
        ));
        fill(&mirror.source, table, types, ROWS + 1, ROWS + 1000);
    }
    mirror.follow("");
    assert_equal_at_both_sides(&mirror, &names);
    // What is compared, and does not look equal because nothing is.
    mirror.copy.run(&format!("DELETE FROM {} WHERE id = 2", names[0]));
    assert!(verify(&mirror, &names[0]).starts_with("f|t|1|0|0|missing (2)"));
}
