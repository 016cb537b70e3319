//! Ranges: what they can say, and how values of each type compare.

use super::*;
use crate::ranges::{Bound, Condition, Range, Within};

fn columns() -> Vec<Column> {
    let mood = Column { definition: Some(Definition::Enum), ..column("mood", "public.mood", true) };
    vec![
        column("n", "bigint", true),
        column("day", "date", true),
        column("at", "timestamp without time zone", true),
        column("instant", "timestamp with time zone", true),
        column("id", "uuid", true),
        column("region", "text", true),
        column("price", "numeric", true),
        column("note", "text", false),
        mood,
    ]
}

fn key() -> Vec<String> {
    columns().into_iter().map(|column| column.name).filter(|name| name != "note").collect()
}

fn between(columns: &[&str], from: Option<(&[&str], bool)>, to: Option<(&[&str], bool)>) -> Condition {
    let bound = |(values, inclusive): (&[&str], bool)| Bound {
        values: values.iter().map(|value| (*value).to_owned()).collect(),
        inclusive,
    };
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    Condition::Between { columns, from: from.map(bound), to: to.map(bound) }
}

fn among(column: &str, values: &[&str]) -> Condition {
    Condition::In { column: column.into(), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

fn refusal(range: Range) -> Option<&'static str> {
    Within::of(&[range], &columns(), &key()).err()
}

/// Says which of the values of a column, in rising order, lie in a range.
fn within(range: Range, column: &str, values: &[&str]) -> String {
    let (columns, key) = (columns(), vec![column.to_owned()]);
    let within = Within::of(&[range], &columns, &key).unwrap();
    let has = |value: &&str| within.has(&within.key(std::iter::once(value.as_bytes())).unwrap());
    values.iter().map(|value| if has(value) { '1' } else { '0' }).collect()
}

#[test]
fn values_compare_as_those_of_their_types() {
    for (column, values) in [
        ("n", &["-9223372036854775808", "-10", "-9", "0", "2", "10", "9223372036854775807"][..]),
        (
            "day",
            &[
                "-infinity",
                "4713-01-01 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "0999-12-31",
                "2024-02-29",
                "2024-10-01",
                "9999-12-31",
                "10000-01-01",
                "5874897-12-31",
                "infinity",
            ],
        ),
        (
            "at",
            &[
                "-infinity",
                "0044-03-15 12:00:00 BC",
                "2024-02-29 00:00:00",
                "2024-02-29 00:00:00.000001",
                "2024-02-29 00:00:00.1",
                "2024-02-29 00:00:01",
                "infinity",
            ],
        ),
        (
            "instant",
            &["0044-03-15 12:00:00+00 BC", "2024-02-29 23:59:59.999999+00", "2024-03-01 00:00:00+00"],
        ),
        (
            "id",
            &[
                "00000000-0000-0000-0000-00000000000a",
                "10000000-0000-0000-0000-000000000000",
                "a0000000-0000-0000-0000-000000000000",
            ],
        ),
    ] {
        for (at, value) in values.iter().enumerate() {
            let bound = |inclusive| Some((std::slice::from_ref(value), inclusive));
            let (below, above) = ("0".repeat(at), "0".repeat(values.len() - at - 1));
            let expected = [
                (between(&[column], bound(true), None), format!("{below}1{}", above.replace('0', "1"))),
                (between(&[column], bound(false), None), format!("{below}0{}", above.replace('0', "1"))),
                (between(&[column], None, bound(true)), format!("{}1{above}", below.replace('0', "1"))),
                (between(&[column], None, bound(false)), format!("{}0{above}", below.replace('0', "1"))),
                (among(column, &[value]), format!("{below}1{above}")),
            ];
            for (condition, expected) in expected {
                assert_eq!(within(vec![condition.clone()], column, values), expected, "{condition:?}");
            }
        }
    }
    let texts = ["a", "A", "a ", r"tab\t", r"\\"];
    assert_eq!(within(vec![among("region", &["a", "tab\t", "\\"])], "region", &texts), "10011");
    assert_eq!(within(vec![among("mood", &["sad"])], "mood", &["sad", "glad"]), "10");
}

#[test]
fn columns_compare_one_after_the_other() {
    let has = |condition: &Condition, n: &str, day: &str| {
        let key = ["n", "day"].map(str::to_owned);
        let within = Within::of(&[vec![condition.clone()]], &columns(), &key).unwrap();
        within.has(&within.key([n, day].into_iter().map(str::as_bytes)).unwrap())
    };
    let both =
        between(&["n", "day"], Some((&["1", "2024-06-01"], true)), Some((&["3", "2024-06-01"], false)));
    for (n, day, expected) in [
        ("1", "2024-05-31", false),
        ("1", "2024-06-01", true),
        ("2", "2000-01-01", true),
        ("3", "2024-05-31", true),
        ("3", "2024-06-01", false),
    ] {
        assert_eq!(has(&both, n, day), expected, "{n} {day}");
    }
    let first = between(&["n", "day"], Some((&["1"], false)), Some((&["2", "2024-01-01"], true)));
    assert!(!has(&first, "1", "2024-06-01") && has(&first, "2", "2024-01-01"));
}

#[test]
fn what_is_no_range_is_refused() {
    let bound = |values: &'static [&'static str]| Some((values, true));
    for (range, reason) in [
        (vec![], "without a condition"),
        (vec![between(&["n"], None, None)], "without bounds"),
        (vec![between(&[], bound(&["1"]), None)], "fewer columns"),
        (vec![between(&["n"], bound(&[]), None)], "without values"),
        (vec![between(&["n"], bound(&["1", "2"]), None)], "fewer columns"),
        (vec![between(&["n", "n"], bound(&["1"]), None)], "twice"),
        (vec![between(&["absent"], bound(&["1"]), None)], "not in its key"),
        (vec![between(&["note"], bound(&["1"]), None)], "not in its key"),
        (vec![between(&["region"], bound(&["a"]), None)], "no range can have"),
        (vec![between(&["price"], bound(&["1"]), None)], "no range can have"),
        (vec![among("price", &["1"])], "no range can have"),
        (vec![among("n", &[])], "without values"),
        (vec![among("n", &["1", "01"])], "not of its type"),
        (vec![among("day", &["2024-13-01"])], "not of its type"),
        (vec![among("day", &["24-01-01"])], "not of its type"),
        (vec![among("day", &["2024-01-01 "])], "not of its type"),
        (vec![among("day", &["2024-01-01 00:00:00"])], "not of its type"),
        (vec![among("at", &["2024-01-01 24:00:00"])], "not of its type"),
        (vec![among("at", &["2024-01-01 00:00:00."])], "not of its type"),
        (vec![among("at", &["2024-01-01 00:00:00+00"])], "not of its type"),
        (vec![among("instant", &["2024-01-01 00:00:00+01"])], "not of its type"),
        (vec![among("id", &["00000000-0000-0000-0000-00000000000A"])], "not of its type"),
        (vec![between(&["n"], bound(&["1); DROP TABLE t; --"]), None)], "not of its type"),
        (vec![among("n", &["1", "2", "1"])], "a value twice"),
        (vec![among("n", &["1"]), among("n", &["1"])], "a condition twice"),
    ] {
        let refused = refusal(range.clone());
        assert!(refused.is_some_and(|refused| refused.contains(reason)), "{range:?}: {refused:?}");
    }
    assert_eq!(refusal(vec![among("n", &["1"]), between(&["day"], None, bound(&["infinity"]))]), None);
    let twice = Within::of(&[vec![among("n", &["1"])], vec![among("n", &["1"])]], &columns(), &key());
    assert_eq!(twice.err(), Some("it has a range or a condition twice"));
}

#[test]
fn a_part_can_have_so_much_and_no_more() {
    let values = |count: usize| (0..count).map(|value| value.to_string()).collect::<Vec<_>>();
    let one = |value: &String| among("n", &[value]);
    let ranges = |count| values(count).iter().map(|value| vec![one(value)]).collect::<Vec<_>>();
    let refused = |ranges: Vec<Range>| Within::of(&ranges, &columns(), &key()).err();
    assert_eq!(refused(ranges(100)), None);
    assert_eq!(refused(ranges(101)), Some("it has too many ranges"));
    let conditions = |count| vec![values(count).iter().map(one).collect::<Vec<_>>()];
    assert_eq!(refused(conditions(32)), None);
    assert!(refused(conditions(33)).is_some());
    let list = |count| vec![vec![Condition::In { column: "n".into(), values: values(count) }]];
    assert_eq!(refused(list(10_000)), None);
    assert!(refused(list(10_001)).is_some());
    let long = "x".repeat(1 << 20);
    assert_eq!(refusal(vec![among("region", &[&long])]), None);
    assert!(refusal(vec![among("region", &[&long, "x"])]).is_some());
}

#[test]
fn ranges_are_read_strictly() {
    let place = Place::new();
    place.publish(1, Compression::Zstd);
    let with = |ranges: Value| place.edited(|json| json["tables"][0]["ranges"] = ranges);
    let good = json!([[{"between": {"columns": ["id"], "from": {"values": ["1"], "inclusive": true}, "to": null}}],
                      [{"in": {"column": "id", "values": ["5"]}}]]);
    assert_eq!(with(good).unwrap().parts[0].ranges.len(), 2);
    for bad in [
        json!(null),
        json!({}),
        json!([[]]),
        json!([[{"in": {"column": "id", "values": [5]}}]]),
        json!([[{"in": {"column": "id", "values": ["5\u{0}"]}}]]),
        json!([[{"in": {"column": "name", "values": ["5"]}}]]),
        json!([[{"in": {"column": "id", "values": ["5"], "more": 1}}]]),
        json!([[{"in": ["id", ["5"]]}]]),
        json!([[{"between": {"columns": ["id"], "from": {"values": ["1"], "inclusive": true}}}]]),
        json!([[{"between": {"columns": ["id"], "from": {"values": ["1"]}, "to": null}}]]),
        json!([[{"sql": "true"}]]),
    ] {
        let read = with(bad.clone());
        assert!(matches!(read, Err(Error::Manifest { .. })), "{bad}: {read:?}");
    }
    let read = place.edited(|json| json["tables"][0]["ranges"] = Value::Null);
    assert!(read.is_err());
    let full = place.edited(|json| {
        json["tables"][0]["kind"] = json!("full");
        json["tables"][0]["ids"] = json!(0);
        json["tables"][0]["ranges"] = json!([[{"in": {"column": "id", "values": ["5"]}}]]);
    });
    assert!(full.is_err());
}
