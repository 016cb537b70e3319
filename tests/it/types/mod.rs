//! Values that are hard to carry, for each type that PostgreSQL ships, as text that the type reads.
//!
//! The names are those of pg_type, with the schema if it is not pg_catalog. The first and the last value of a
//! type become elements of arrays as well.

/// Types without values, and why.
pub const SKIPPED: &[(&str, &str)] = &[
    ("gtsvector", "exists in indexes only"),
    ("pg_brin_bloom_summary", "exists in indexes only"),
    ("pg_brin_minmax_multi_summary", "exists in indexes only"),
    ("pg_dependencies", "exists in pg_statistic_ext_data only"),
    ("pg_mcv_list", "exists in pg_statistic_ext_data only"),
    ("pg_ndistinct", "exists in pg_statistic_ext_data only"),
    ("pg_node_tree", "exists in catalogs only"),
];

/// Types that PostgreSQL itself cannot carry in its binary format, and why.
pub const NOT_BINARY: &[(&str, &str)] = &[
    ("aclitem", "has no binary form"),
    ("int2vector", "an empty one cannot be read back"),
    ("oidvector", "an empty one cannot be read back"),
];

/// All other types.
pub const TYPES: &[(&str, &[&str])] = &[
    ("aclitem", &["postgres=arwdDxt/postgres", "=r*/postgres", "pg_monitor=U*/postgres"]),
    ("bit", &["1", "0", "10110", "0000000000000000000000000000000001", ""]),
    ("bool", &["t", "f"]),
    ("box", &["(1,2),(3,4)", "(-0,0),(Infinity,-Infinity)", "(NaN,1e-300),(1e300,5)"]),
    ("bpchar", &["", "a  ", "\\N", "é\t", "NULL  "]),
    ("bytea", &["", "\\x00ff5c0a0d09", "\\x5c2e0a", "\\x5c4e", "\\x22", "\\x2e"]),
    ("char", &["", "a", "\\", "\t", "\n", "\"", ",", " "]),
    ("cid", &["0", "4294967295"]),
    ("cidr", &["0.0.0.0/0", "10.1.0.0/16", "::/0", "2001:db8::/32", "::ffff:1.2.3.0/120"]),
    ("circle", &["<(0,0),0>", "<(-0,1e-300),Infinity>", "<(0.1,0.2),0.3>"]),
    (
        "date",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 BC",
            "5874897-12-31",
            "0001-12-31 BC",
            "0001-01-01",
            "2024-02-29",
            "1999-01-02",
        ],
    ),
    ("datemultirange", &["{}", "{(,)}", "{[2024-01-01,2024-01-03),[2025-01-01,)}", "{(-infinity,infinity)}"]),
    ("daterange", &["empty", "(,)", "[2024-02-29,2024-03-01]", "[-infinity,infinity)", "(,4000-01-01 BC)"]),
    (
        "float4",
        &[
            "0",
            "1e-45",
            "3.4028235e+38",
            "NaN",
            "Infinity",
            "-Infinity",
            "0.1",
            "16777216",
            "1.17549435e-38",
            "-0",
        ],
    ),
    (
        "float8",
        &[
            "0",
            "5e-324",
            "1.7976931348623157e+308",
            "NaN",
            "Infinity",
            "-Infinity",
            "0.1",
            "0.30000000000000004",
            "9007199254740993",
            "2.2250738585072014e-308",
            "-0",
        ],
    ),
    ("inet", &["0.0.0.0", "192.168.0.1/24", "::1", "2001:db8::1/64", "::ffff:1.2.3.4", "255.255.255.255/0"]),
    ("int2", &["-32768", "32767", "0"]),
    ("int2vector", &["", "1 -2 32767", "0"]),
    ("int4", &["-2147483648", "2147483647", "0"]),
    ("int4multirange", &["{}", "{(,)}", "{[1,2),[5,9)}", "{(,-5),[2147483646,)}"]),
    ("int4range", &["empty", "(,)", "[1,)", "(,5)", "[-2147483648,2147483647)"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "0"]),
    ("int8multirange", &["{}", "{(,)}", "{[1,2),[5,9)}", "{[-9223372036854775808,0),[1,)}"]),
    ("int8range", &["empty", "(,)", "[1,)", "(,5)", "[-9223372036854775808,9223372036854775807)"]),
    (
        "interval",
        &[
            "0",
            "178000000 years",
            "-178000000 years",
            "-1 mons +2 days -03:04:05.000006",
            "1 mon -1 day",
            "30 days",
            "24:00:00",
            "-00:00:00.000001",
            "2562047788:00:54.775807",
            "1 year -13 mons",
        ],
    ),
    (
        "json",
        &[
            "{\"a\":1,  \"a\" : 2}",
            "\"\\u0000\"",
            " null ",
            "1e400",
            "[\"\\\\\\\"\",\"\u{20ac}\",\n\t{}]",
            "\"\\ud83d\\ude00\"",
        ],
    ),
    (
        "jsonb",
        &[
            "{\"b\":1,\"a\":[null,true,\"\\\\N\"]}",
            "\"\\\\\"",
            "null",
            "1.00",
            "1e100",
            "\"\"",
            "{\"\":{\"\\t\\n\":\"'\"}}",
        ],
    ),
    (
        "jsonpath",
        &["$", "strict $.\"a b\"[*] ? (@ like_regex \"^\\\\d\" flag \"i\")", "lax $.x + -1.50", "$.\"\\\\\""],
    ),
    ("line", &["{1,2,3}", "{0,-1,0.1}", "{1e-300,-1,1e300}"]),
    ("lseg", &["[(0,0),(0,0)]", "[(-0,NaN),(Infinity,-Infinity)]", "[(0.1,0.2),(1e300,1e-300)]"]),
    ("macaddr", &["00:00:00:00:00:00", "08:00:2b:01:02:03", "ff:ff:ff:ff:ff:ff"]),
    ("macaddr8", &["00:00:00:00:00:00:00:00", "08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"]),
    ("money", &["0", "-92233720368547758.08", "92233720368547758.07", "-0.01", "1234567.89"]),
    ("name", &["", "a b", "\"q\"", "\\N", "ééééééééééééééééééééééééééééééé", "x'y\tz"]),
    (
        "numeric",
        &[
            "1.0",
            "1.00",
            "0.000",
            "-0",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e131071",
            "1e-16383",
            "-123456789012345678901234567890.1",
            "0.1",
            "1e-1000",
        ],
    ),
    ("nummultirange", &["{}", "{(,)}", "{[1.0,1.00],(5,5.1)}", "{(-Infinity,Infinity)}"]),
    ("numrange", &["empty", "(,)", "[1.0,1.00]", "(-Infinity,NaN)", "[0.1,)"]),
    ("oid", &["0", "4294967295", "26"]),
    ("oidvector", &["", "26 23 4294967295", "0"]),
    ("path", &["[(0,0)]", "((0,0),(1,1),(1,0))", "[(-0,NaN),(Infinity,1e-300)]"]),
    ("pg_lsn", &["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]),
    (
        "pg_snapshot",
        &["10:20:10,14,15", "1:1:", "9223372036854775806:9223372036854775807:9223372036854775806"],
    ),
    ("point", &["(0,0)", "(-0,0)", "(NaN,Infinity)", "(-Infinity,1e-300)", "(0.1,0.2)"]),
    ("polygon", &["((0,0))", "((0,0),(1,1),(1,0))", "((-0,0.1),(Infinity,1e-300),(5,NaN))"]),
    ("refcursor", &["", "a cursor", "\\N"]),
    ("regclass", &["-", "pg_class", "pg_catalog.pg_type", "information_schema.tables"]),
    ("regcollation", &["-", "\"C\"", "pg_catalog.\"default\""]),
    ("regconfig", &["english", "simple"]),
    ("regdictionary", &["simple", "english_stem"]),
    ("regnamespace", &["-", "pg_catalog", "information_schema"]),
    ("regoper", &["0", "||/", "|/"]),
    ("regoperator", &["0", "+(integer,integer)", "||/(NONE,double precision)"]),
    ("regproc", &["-", "now", "pg_catalog.boolin"]),
    ("regprocedure", &["-", "lower(text)", "abs(numeric)"]),
    ("regrole", &["-", "postgres", "pg_monitor"]),
    ("regtype", &["-", "integer", "timestamp with time zone[]", "\"char\"", "interval"]),
    (
        "text",
        &[
            "",
            "NULL",
            "null",
            "\\N",
            "\\.",
            "\\.\n",
            "a\n\\.\nb",
            "\n",
            "\r",
            "\r\n",
            "\t",
            "\\",
            "\\\\",
            "a\\b",
            "end\\",
            " leading",
            "trailing ",
            "\"",
            "\"\"",
            "a\"b,c;d'e",
            ",",
            "\u{1}\u{8}\u{b}\u{c}\u{7f}",
            "\\x41",
            "\\u0041",
            "e\u{301}é",
            "\u{1f600}\u{20ac}",
            "\u{feff}bom",
            "\u{85}\u{a0}\u{2028}",
            "%s%n",
            "$1",
            "\\t\\n\\r",
            "{}",
            "{NULL}",
            "--",
            "/*",
        ],
    ),
    ("tid", &["(0,1)", "(4294967295,65535)", "(0,0)"]),
    ("time", &["00:00:00", "24:00:00", "23:59:59.999999", "12:00:00.000001"]),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "0001-12-31 23:59:59.999999 BC",
            "2000-01-01",
            "1999-12-31 23:59:59.999999",
            "2024-03-10 02:30:00",
        ],
    ),
    (
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "4713-11-24 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "0001-01-01 00:00:00+15:59 BC",
            "2000-01-01 00:00:00+00",
            "1883-11-18 12:03:58-04:56:02",
            "2024-11-03 01:30:00 America/New_York",
        ],
    ),
    ("timetz", &["00:00:00+15:59:59", "24:00:00-15:59:59", "23:59:59.999999+05:45", "12:00:00+00"]),
    (
        "tsmultirange",
        &["{}", "{(,)}", "{[2024-01-01,2024-01-02),[infinity,infinity]}", "{[-infinity,4000-01-01 BC)}"],
    ),
    ("tsquery", &["", "'a b' & !'c''d' | 'e':*AB <3> 'f'", "'\\\\' <-> 'é'", "!!'x'"]),
    ("tsrange", &["empty", "(,)", "[2024-01-01,infinity)", "(-infinity,\"2024-01-01 00:00:00.000001\"]"]),
    ("tstzmultirange", &["{}", "{(,)}", "{[2024-01-01 00:00+00,2024-01-02 00:00+05:45),[infinity,)}"]),
    ("tstzrange", &["empty", "(,)", "[2024-01-01 00:00+00,infinity)", "(,\"4000-01-01 00:00:00+00 BC\")"]),
    ("tsvector", &["", "'a b':1A,2B,16383 'c''d' '\\\\':5 'é'", "'\\\\N' '\t'", "'x'"]),
    ("txid_snapshot", &["10:20:10,14,15", "1:1:"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("varbit", &["", "1", "0000000010110"]),
    ("varchar", &["", "\\N", "\\.", "a\tb\\", "trailing  "]),
    ("xid", &["0", "4294967295", "3"]),
    ("xid8", &["0", "18446744073709551615", "4294967296"]),
    (
        "xml",
        &[
            "",
            "<a b='1'>&lt;\n\\N</a>",
            "text only",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><é>\u{20ac}</é>",
            "<?xml version=\"1.1\" standalone=\"yes\"?><a/>",
            "<!DOCTYPE a><a/>",
            "<a/><b/>",
            "<!-- \\. --><a><![CDATA[<]]></a>",
        ],
    ),
    ("information_schema.cardinal_number", &["0", "2147483647"]),
    ("information_schema.character_data", &["", "\\N", "e\u{301}"]),
    ("information_schema.sql_identifier", &["", "a b", "\\"]),
    ("information_schema.time_stamp", &["infinity", "2024-01-01 00:00:00.12+00"]),
    ("information_schema.yes_or_no", &["YES", "NO"]),
];

/// Those of them that no index can be over, so that they are no keys.
pub const NO_KEYS: &[&str] = &[
    "aclitem",
    "box",
    "cid",
    "circle",
    "json",
    "jsonpath",
    "line",
    "lseg",
    "path",
    "pg_snapshot",
    "point",
    "polygon",
    "refcursor",
    "txid_snapshot",
    "xid",
    "xml",
];

/// A key column, and values for it of which no two are equal.
pub struct Key {
    pub name: &'static str,
    pub definition: &'static str,
    pub values: &'static [&'static str],
    /// Pairs of values that are equal, and look different.
    pub rewrites: &'static [(&'static str, &'static str)],
}

const fn key(
    name: &'static str,
    definition: &'static str,
    values: &'static [&'static str],
    rewrites: &'static [(&'static str, &'static str)],
) -> Key {
    Key { name, definition, values, rewrites }
}

/// Keys that are more than a type that PostgreSQL ships.
pub const KEYS: &[Key] = &[
    key("varchar_n", "varchar(10)", &["a", "a ", "", "ééééé", "\\N"], &[]),
    key("char_n", "char(5)", &["a", "a b", "", "\\N", "ééééé"], &[("x", "x  ")]),
    key(
        "numeric_scale",
        "numeric",
        &["1.5", "2.50", "NaN", "Infinity"],
        &[("1.0", "1.00"), ("0", "0.000"), ("1e3", "1000.0")],
    ),
    key("numeric_20_4", "numeric(20,4)", &["1.5", "2.50", "0", "-1"], &[]),
    key("float8_zero", "float8", &["1", "NaN", "Infinity"], &[("0", "-0"), ("-0", "0")]),
    key("float4_zero", "float4", &["1", "0.1", "1e-45"], &[("0", "-0")]),
    key("icu", "text COLLATE \"sv-x-icu\"", &["ä", "z", "a", "Ä", ""], &[]),
    key("posix", "text COLLATE \"C\"", &["ä", "z", "a", "Ä", "a "], &[]),
    key(
        "nondeterministic",
        "text COLLATE level2",
        &["b", "C", "ß"],
        &[("a", "A"), ("Öl", "ÖL"), ("é", "e\u{301}")],
    ),
    key("citext", "citext", &["b", "C", "É"], &[("a", "A"), ("Mixed Case", "mIXED cASE")]),
    key("interval", "interval", &["1 day", "1 year"], &[("1 mon", "30 days"), ("24:00:00", "1 day")]),
    key("timestamptz_3", "timestamptz(3)", &["2024-01-01 00:00:00.123+00", "infinity", "4000-01-01 BC"], &[]),
    key("jsonb", "jsonb", &["{}", "[1]", "\"a\""], &[("1.0", "1.00"), ("{\"a\": [1]}", "{\"a\": [1.000]}")]),
    key("inet", "inet", &["10.0.0.1/8", "10.0.0.1", "::1"], &[]),
    key("enum", "mood", &["good", "Bad", "so so"], &[]),
    key("domain", "evener", &["4", "8", "-4", "0"], &[]),
    key("array", "numeric[]", &["{}", "{NULL}", "{2,3}", "{{1},{2}}", "[0:1]={1,2}"], &[("{1.0}", "{1.00}")]),
    key("text_array", "text[]", &["{}", "{NULL}", "{\"NULL\"}", "{\"\"}", "{\"a,b\",\"\\\\\"}"], &[]),
    key("range", "numrange", &["empty", "(,)", "[1,2)", "(1,2)"], &[("[1.0,5)", "[1.00,5.0)")]),
    key("multirange", "nummultirange", &["{}", "{(,)}", "{[1,2),[3,4)}"], &[("{[1.0,5)}", "{[1.00,5.0)}")]),
    key("text_range", "textrange", &["empty", "[a,b)", "(\"\\\\\",\"a,b\"]", "[\"\",)"], &[]),
    key(
        "composite",
        "pair",
        &["(1,a)", "(,)", "(2,\"\")", "(3,\"a,b\"\"\\\\\")"],
        &[("(1.0,x)", "(1.00,x)")],
    ),
    key("bit_n", "bit(4)", &["0000", "1111", "1010"], &[]),
];

/// Types that a user makes, some of them with names that need quotes.
pub const USER_TYPES: &str = r#"
    CREATE SCHEMA "my Types";
    CREATE TYPE "my Types"."Mood" AS ENUM ('', 'so so', 'O''Ney', 'a,b', '"q"', 'back\slash', 'é', 'NULL');
    CREATE TYPE "my Types".inner AS (n int, t text, m "my Types"."Mood");
    CREATE TYPE outer_type AS (i "my Types".inner, a "my Types".inner[], r numrange);
    CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN few AS positive[] DEFAULT '{}' CHECK (cardinality(VALUE) < 4);
    CREATE DOMAIN inner_domain AS "my Types".inner CHECK ((VALUE).n IS NULL OR (VALUE).n > 0);
    CREATE TYPE textrange AS RANGE (subtype = text, collation = "C", multirange_type_name = textranges);
    CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
"#;

/// A table of them, `vals`.
pub const USER_VALUES: &str = r#"
    CREATE TABLE vals (id int PRIMARY KEY, mood "my Types"."Mood", moods "my Types"."Mood"[], i "my Types".inner,
                       o outer_type, os outer_type[], p positive, ps positive[], f few, d inner_domain,
                       ds inner_domain[], r textrange, rs textranges, h hstore, c citext, l ltree, cu cube);
    INSERT INTO vals
    SELECT n, m, ARRAY[m, NULL], v, ROW(v, ARRAY[ROW(NULL, '', m)::"my Types".inner, NULL], 'empty')::outer_type,
           ARRAY[ROW(NULL, NULL, '[1.00,)')::outer_type, NULL], n, ARRAY[n, NULL], ARRAY[n, 1], v, ARRAY[v::inner_domain],
           textrange('', m::text || 'z'), textranges(), hstore(m::text, NULL) || hstore('k', m::text), m::text, 'a.b',
           cube(ARRAY[n, 0.1])
      FROM (SELECT row_number() OVER (ORDER BY m)::int AS n, m FROM unnest(enum_range(NULL::"my Types"."Mood")) AS m) AS s,
           LATERAL (SELECT ROW(n, m::text, m)::"my Types".inner AS v) AS l;
    UPDATE vals SET rs = multirange(r);
    INSERT INTO vals (id, f) VALUES (100, '{}');
    INSERT INTO vals (id, i, o, f, r, h) VALUES (101, ROW(NULL, NULL, NULL), ROW(NULL, NULL, NULL), '{}', '(,)', '');
"#;
