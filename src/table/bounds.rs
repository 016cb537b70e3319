//! The bounds of a partition, as `pg_get_expr` shows them, and what they say of the partition key.
//!
//! Input: the text of `pg_class.relpartbound` under the pinned settings, and the key of the parent. Output: a
//! condition with values. It says nothing of default and hash partitions.
//!
//! Invariant: each row of the partition meets the condition, and so does each that can go into it.

use batch::{Bound, Condition};

/// Returns what the bounds of a partition say of the columns of the partition key; `None` if nothing.
pub fn condition(bounds: &str, columns: &[String]) -> Option<Condition> {
    let bounds = bounds.strip_prefix("FOR VALUES ")?;
    if let Some(rest) = bounds.strip_prefix("IN ") {
        let (values, rest) = items(rest)?;
        let [column] = columns else { return None };
        // A column of a key is never null.
        let values = values.into_iter().filter(|item| *item != Item::Bare("NULL".to_owned()));
        let values = values.map(Item::value).collect::<Option<Vec<_>>>()?;
        return (rest.is_empty() && !values.is_empty())
            .then(|| Condition::In { column: column.clone(), values });
    }
    let (from, rest) = items(bounds.strip_prefix("FROM ")?)?;
    let (to, rest) = items(rest.strip_prefix(" TO ")?)?;
    if !rest.is_empty() || from.len() != columns.len() || to.len() != columns.len() {
        return None;
    }
    let (from, to) = (bound(from, "MINVALUE", true)?, bound(to, "MAXVALUE", false)?);
    // Without bounds it would be all rows.
    let says_something = from.is_some() || to.is_some();
    says_something.then(|| Condition::Between { columns: columns.to_vec(), from, to })
}

/// One value in a list of bounds.
#[derive(Debug, PartialEq, Eq)]
enum Item {
    /// As it stands: a number, a truth value, NULL, MINVALUE or MAXVALUE.
    Bare(String),
    /// In quotes.
    Quoted(String),
}

impl Item {
    /// The value as the output function of its type writes it.
    fn value(self) -> Option<String> {
        match self {
            Item::Quoted(text) => Some(text),
            Item::Bare(text) => match text.as_str() {
                "true" => Some("t".to_owned()),
                "false" => Some("f".to_owned()),
                number if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Some(text)
                }
                _ => None,
            },
        }
    }
}

/// Returns the bound that a list of values is: no bound inside, or no answer outside.
///
/// The lower bound of a partition belongs to it, and the upper one does not. After MINVALUE or MAXVALUE all
/// values are the same (parse_utilcmd.c), so that those before it are the bound: keys that begin with them
/// lie within if the bound is `open` there, and otherwise not.
fn bound(items: Vec<Item>, open: &str, inclusive: bool) -> Option<Option<Bound>> {
    let mut values = Vec::new();
    for item in items {
        if let Item::Bare(end) = &item
            && ["MINVALUE", "MAXVALUE"].contains(&end.as_str())
        {
            let inclusive = end == open;
            return match values.is_empty() {
                true => inclusive.then_some(None),
                false => Some(Some(Bound { values, inclusive })),
            };
        }
        values.push(item.value()?);
    }
    Some(Some(Bound { values, inclusive }))
}

/// Reads a list in parentheses, and returns its items and the rest.
fn items(text: &str) -> Option<(Vec<Item>, &str)> {
    let (mut items, mut rest) = (Vec::new(), text.strip_prefix('(')?);
    loop {
        let item;
        (item, rest) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted_item(quoted)?,
            None => {
                let end = rest.find([',', ')'])?;
                (Item::Bare(rest[..end].to_owned()), &rest[end..])
            }
        };
        items.push(item);
        if let Some(after) = rest.strip_prefix(')') {
            return Some((items, after));
        }
        rest = rest.strip_prefix(", ")?;
    }
}

/// Reads a literal after its first quote, in which quotes are doubled. Backslashes are as well unless
/// standard_conforming_strings is on (ruleutils.c, simple_quote_literal), so that they tell nothing.
fn quoted_item(text: &str) -> Option<(Item, &str)> {
    let (mut value, mut rest) = (String::new(), text);
    loop {
        let end = rest.find('\'')?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return (!value.contains('\\')).then_some((Item::Quoted(value), rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::condition;
    use batch::{Bound, Condition};

    fn said(bounds: &str, columns: &[&str]) -> Option<Condition> {
        condition(bounds, &columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    fn between(columns: &[&str], from: Option<(&[&str], bool)>, to: Option<(&[&str], bool)>) -> Condition {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let bound = |(values, inclusive)| Bound { values: texts(values), inclusive };
        Condition::Between { columns: texts(columns), from: from.map(bound), to: to.map(bound) }
    }

    #[test]
    fn a_range_lies_between_its_bounds() {
        let day = "FOR VALUES FROM ('2025-11-01') TO ('2025-12-01')";
        let expected = between(&["day"], Some((&["2025-11-01"], true)), Some((&["2025-12-01"], false)));
        assert_eq!(said(day, &["day"]), Some(expected));
        let expected = between(&["n"], Some((&["-5"], true)), Some((&["10"], false)));
        assert_eq!(said("FOR VALUES FROM ('-5') TO (10)", &["n"]), Some(expected));
    }

    #[test]
    fn a_bound_ends_where_it_is_open() {
        let columns = ["a", "b"];
        for (bounds, from, to) in [
            ("(1, MINVALUE) TO (5, MINVALUE)", Some((&["1"][..], true)), Some((&["5"][..], false))),
            ("(1, MAXVALUE) TO (5, MAXVALUE)", Some((&["1"], false)), Some((&["5"], true))),
            ("(MINVALUE, MINVALUE) TO (5, 7)", None, Some((&["5", "7"], false))),
            ("(1, 2) TO (MAXVALUE, MAXVALUE)", Some((&["1", "2"], true)), None),
        ] {
            let bounds = format!("FOR VALUES FROM {bounds}");
            assert_eq!(said(&bounds, &columns), Some(between(&columns, from, to)), "{bounds}");
        }
    }

    #[test]
    fn a_list_has_values_and_no_null() {
        let among = |values: &[&str]| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            Some(Condition::In { column: "r".into(), values })
        };
        assert_eq!(
            said("FOR VALUES IN ('a', NULL, 'it''s, (b)', 'NULL')", &["r"]),
            among(&["a", "it's, (b)", "NULL"])
        );
        assert_eq!(said("FOR VALUES IN (true, false, 7)", &["r"]), among(&["t", "f", "7"]));
    }

    #[test]
    fn other_bounds_say_nothing() {
        for bounds in [
            "DEFAULT",
            "FOR VALUES WITH (modulus 4, remainder 1)",
            "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
            "FOR VALUES FROM (1) TO (2, 3)",
            "FOR VALUES FROM (MAXVALUE) TO (5)",
            "FOR VALUES FROM (1) TO (2) AND more",
            "FOR VALUES FROM (1, 2) TO (3, 4)",
            "FOR VALUES FROM ('a\\b') TO ('c')",
            "FOR VALUES FROM (1.5) TO (now())",
            "FOR VALUES FROM (1",
            "FOR VALUES IN (NULL)",
            "FOR VALUES IN ()",
            "",
        ] {
            assert_eq!(said(bounds, &["a"]), None, "{bounds}");
        }
        assert_eq!(said("FOR VALUES IN (1)", &["a", "b"]), None);
    }
}
