//! Ranges that touch, joined: a thousand days of a calendar are one range.
//!
//! Input: ranges that the bounds of partitions are. Output: as few as hold the same rows.
//!
//! Two ranges are joined if they differ in their first condition only, which is that of the partitions
//! themselves: one list with the values of both, or one range where the one begins at the bound at which the
//! other ends. Bounds are the same if their texts are.

use std::collections::{HashMap, HashSet};

use batch::{Bound, Condition, Range};

/// Joins ranges that touch. A range without conditions holds all rows.
pub fn joined(ranges: Vec<Range>) -> Vec<Range> {
    let mut lists = HashMap::<(String, Range), Vec<String>>::new();
    let mut spans = HashMap::<(Vec<String>, Range), Vec<Span>>::new();
    let mut done = Vec::new();
    for mut range in ranges {
        let rest = range.split_off(1.min(range.len()));
        match range.pop() {
            Some(Condition::In { column, values }) => lists.entry((column, rest)).or_default().extend(values),
            Some(Condition::Between { columns, from, to }) => {
                spans.entry((columns, rest)).or_default().push(Span { from, to });
            }
            None => done.push(rest),
        }
    }
    done.extend(lists.into_iter().map(|((column, rest), mut values)| {
        values.sort();
        values.dedup();
        [vec![Condition::In { column, values }], rest].concat()
    }));
    for ((columns, rest), spans) in spans {
        done.extend(joined_spans(spans).into_iter().map(|span| match span {
            Span { from: None, to: None } => rest.clone(),
            Span { from, to } => {
                let columns = columns.clone();
                [vec![Condition::Between { columns, from, to }], rest.clone()].concat()
            }
        }));
    }
    done
}

/// What lies between two bounds.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Span {
    from: Option<Bound>,
    to: Option<Bound>,
}

/// Says where another span goes on: at this bound, with what this one leaves out.
fn next(bound: &Bound) -> Bound {
    Bound { inclusive: !bound.inclusive, ..bound.clone() }
}

fn joined_spans(spans: Vec<Span>) -> Vec<Span> {
    let spans = spans.into_iter().collect::<HashSet<_>>();
    let mut starts = HashMap::<Bound, Vec<Span>>::new();
    let mut left = Vec::new();
    let ends = spans.iter().filter_map(|span| span.to.as_ref().map(next)).collect::<HashSet<_>>();
    for span in spans {
        match &span.from {
            Some(from) if ends.contains(from) => starts.entry(from.clone()).or_default().push(span),
            _ => left.push(span),
        }
    }
    let mut joined = Vec::new();
    while let Some(mut span) = left.pop() {
        while let Some(after) = span.to.as_ref().and_then(|to| starts.get_mut(&next(to))?.pop()) {
            span.to = after.to;
        }
        joined.push(span);
    }
    // Those that begin where a span ends which has gone on with another one.
    joined.extend(starts.into_values().flatten());
    joined
}

#[cfg(test)]
mod tests {
    use super::joined;
    use batch::{Bound, Condition, Range};

    fn bound(value: i32, inclusive: bool) -> Bound {
        Bound { values: vec![value.to_string()], inclusive }
    }

    fn between(from: Option<i32>, to: Option<i32>) -> Range {
        let (from, to) = (from.map(|from| bound(from, true)), to.map(|to| bound(to, false)));
        vec![Condition::Between { columns: vec!["n".into()], from, to }]
    }

    fn among(values: &[&str], rest: &[Condition]) -> Range {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        [&[Condition::In { column: "r".into(), values }], rest].concat()
    }

    fn sorted(mut ranges: Vec<Range>) -> Vec<String> {
        ranges.sort_by_key(|range| format!("{range:?}"));
        ranges.iter().map(|range| format!("{range:?}")).collect()
    }

    #[test]
    fn what_touches_is_one() {
        let days = (0..1000).map(|day| between(Some(day), Some(day + 1))).collect();
        assert_eq!(joined(days), [between(Some(0), Some(1000))]);
        let open = vec![between(Some(5), None), between(None, Some(3)), between(Some(3), Some(5))];
        assert_eq!(joined(open), [Range::new()]);
        let lists = vec![among(&["b"], &[]), among(&["a", "c"], &[])];
        assert_eq!(joined(lists), [among(&["a", "b", "c"], &[])]);
    }

    #[test]
    fn what_does_not_touch_stays() {
        let apart = vec![between(Some(1), Some(2)), between(Some(3), Some(4))];
        assert_eq!(sorted(joined(apart.clone())), sorted(apart));
        let within = |n| between(Some(n), Some(n + 1));
        let below = vec![among(&["a"], &within(1)), among(&["b"], &within(2))];
        assert_eq!(sorted(joined(below.clone())), sorted(below));
        // Two that begin at the same bound.
        let same = vec![between(Some(1), Some(2)), between(Some(2), Some(3)), between(Some(2), Some(4))];
        let held = |ranges: &[Range], n: i32| {
            ranges.iter().any(|range| match &range[0] {
                Condition::Between { from: Some(from), to: Some(to), .. } => {
                    let [from, to] =
                        [from, to].map(|bound| bound.values[0].parse::<i32>().expect("a number"));
                    (from..to).contains(&n)
                }
                _ => false,
            })
        };
        let joined = joined(same.clone());
        assert!((0..6).all(|n| held(&joined, n) == held(&same, n)), "{joined:?}");
    }
}
