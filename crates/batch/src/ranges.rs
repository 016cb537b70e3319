//! Ranges: rows that a part replaces as a whole, because a partition with these bounds has come or gone.
//!
//! Input: the ranges of a manifest, and keys of a compaction or a comparison. Output: whether they can be
//! told, and whether a key lies in them. Values are the texts of the types' output functions, as in ids.
//!
//! Invariant: texts compare here as their values do in any PostgreSQL. So only types are allowed whose order
//! follows from the text, and no order of texts, which is that of a collation.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::columns::{self, Column};
use super::definition::Definition;

/// The most ranges that a part can have. To plan a query with all of them, on a table with a thousand
/// partitions, takes the memory of each pair.
const RANGES_MAX: usize = 100;

/// The most conditions that a range can have: one for each level of partitions.
const CONDITIONS_MAX: usize = 32;

/// The most values that the ranges of a part can have.
const VALUES_MAX: usize = 10_000;

/// The most bytes that these can have.
const VALUES_BYTES_MAX: usize = 1024 * 1024;

/// The rows whose key meets all of some conditions, at least one.
pub type Range = Vec<Condition>;

/// A condition on the columns of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Condition {
    /// The columns, compared one after the other, lie between two bounds. One of them can be missing.
    Between { columns: Vec<String>, from: Option<Bound>, to: Option<Bound> },
    /// The column has one of these values.
    In { column: String, values: Vec<String> },
}

/// A bound of the columns of a condition, or of the first of them if it has fewer values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    pub values: Vec<String>,
    /// Keys that are equal to the values lie within.
    pub inclusive: bool,
}

impl Condition {
    /// Says what is wrong with it for a table with these columns and this key, if anything is.
    pub fn check(&self, columns: &[Column], key: &[String]) -> Result<(), &'static str> {
        Compiled::of(self, columns, key).map(drop)
    }

    /// The names of its columns.
    pub fn columns(&self) -> &[String] {
        match self {
            Self::Between { columns, .. } => columns,
            Self::In { column, .. } => std::slice::from_ref(column),
        }
    }

    /// The names of its columns, to be changed.
    pub fn columns_mut(&mut self) -> impl Iterator<Item = &mut String> {
        match self {
            Self::Between { columns, .. } => columns.iter_mut(),
            Self::In { column, .. } => std::slice::from_mut(column).iter_mut(),
        }
    }

    /// Its values.
    pub(super) fn values(&self) -> impl Iterator<Item = &String> {
        let (from, to, values) = match self {
            Self::Between { from, to, .. } => (from.as_ref(), to.as_ref(), [].as_slice()),
            Self::In { values, .. } => (None, None, values.as_slice()),
        };
        from.into_iter().chain(to).flat_map(|bound| &bound.values).chain(values)
    }
}

/// Says whether a part can have so many ranges, with so many conditions and values.
pub fn fit(ranges: &[Range]) -> bool {
    let values = || ranges.iter().flatten().flat_map(Condition::values);
    ranges.len() <= RANGES_MAX
        && ranges.iter().all(|range| range.len() <= CONDITIONS_MAX)
        && values().count() <= VALUES_MAX
        && values().map(String::len).sum::<usize>() <= VALUES_BYTES_MAX
}

fn has_twice<T: Eq + Hash>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    !items.into_iter().all(|item| seen.insert(item))
}

/// How the values of a type compare, told from their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// As numbers: smallint, integer and bigint.
    Integer,
    Date,
    Timestamp,
    TimestampTz,
    Uuid,
    /// By their bytes, and only whether they are equal: text, varchar, boolean, and enums.
    Text,
}

impl Comparison {
    /// Returns how the values of a column compare; `None` if their texts do not tell.
    pub fn of(column: &Column) -> Option<Self> {
        match (column.type_name.as_str(), &column.definition) {
            ("smallint" | "integer" | "bigint", None) => Some(Self::Integer),
            ("date", None) => Some(Self::Date),
            ("timestamp without time zone", None) => Some(Self::Timestamp),
            ("timestamp with time zone", None) => Some(Self::TimestampTz),
            ("uuid", None) => Some(Self::Uuid),
            ("text" | "character varying" | "boolean", None) | (_, Some(Definition::Enum)) => {
                Some(Self::Text)
            }
            _ => None,
        }
    }

    /// Reads a value as COPY writes it; `None` if it is none.
    fn value(self, field: &[u8]) -> Option<Value> {
        if self == Self::Text {
            return Some(Value::Bytes(field.to_vec()));
        }
        let text = std::str::from_utf8(field).ok()?;
        match self {
            Self::Integer => {
                text.parse::<i64>().ok().filter(|number| number.to_string() == text).map(Value::Integer)
            }
            Self::Date => time(text, false, "").map(Value::Time),
            Self::Timestamp => time(text, true, "").map(Value::Time),
            Self::TimestampTz => time(text, true, "+00").map(Value::Time),
            Self::Uuid => is_uuid(text).then(|| Value::Bytes(field.to_vec())),
            Self::Text => None,
        }
    }
}

/// A value, in the order of its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Value {
    Integer(i64),
    Time(Time),
    Bytes(Vec<u8>),
}

/// Year, month, day, hour, minute, second, microsecond.
type Time = [i64; 7];

/// Reads a date or a timestamp as PostgreSQL writes it with DateStyle ISO in UTC.
fn time(text: &str, has_clock: bool, zone: &str) -> Option<Time> {
    match text {
        "infinity" => return Some([i64::MAX; 7]),
        "-infinity" => return Some([i64::MIN; 7]),
        _ => {}
    }
    let (text, is_before_christ) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let (date, clock) = match has_clock {
        true => text.strip_suffix(zone)?.split_once(' ')?,
        false => (text, "00:00:00"),
    };
    let [year, month, day] = date.split('-').collect::<Vec<_>>().try_into().ok()?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = clock.split(':').collect::<Vec<_>>().try_into().ok()?;
    let year = number(year, 4..=7)?;
    let two = |text| number(text, 2..=2);
    let (month, day, hour, minute, second) = (two(month)?, two(day)?, two(hour)?, two(minute)?, two(second)?);
    let micros = number(&format!("{:0<6}", fraction), 6..=6)?;
    let exists = year > 0
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && !fraction.is_empty();
    let year = if is_before_christ { 1 - year } else { year };
    exists.then_some([year, month, day, hour, minute, second, micros])
}

/// Reads decimal digits, so many.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let are_digits = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if are_digits { text.parse().ok() } else { None }
}

fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

/// Ranges, ready to be compared with keys.
pub(super) struct Within {
    comparisons: Vec<Option<Comparison>>,
    ranges: Vec<Vec<Compiled>>,
}

/// A condition on columns that are given by their places in the key.
enum Compiled {
    Between { places: Vec<usize>, from: Option<Limit>, to: Option<Limit> },
    In { place: usize, values: HashSet<Value> },
}

struct Limit {
    values: Vec<Value>,
    inclusive: bool,
}

/// The values of a key that can be compared.
pub(super) struct Key(Vec<Option<Value>>);

impl Within {
    /// Makes the ranges of a part ready, or says what is wrong with one.
    pub(super) fn of(ranges: &[Range], columns: &[Column], key: &[String]) -> Result<Self, &'static str> {
        if !fit(ranges) {
            return Err("it has too many ranges");
        }
        if ranges.iter().any(Vec::is_empty) {
            return Err("it has a range without a condition");
        }
        if has_twice(ranges) || ranges.iter().any(has_twice) {
            return Err("it has a range or a condition twice");
        }
        let compile = |range: &Range| {
            range.iter().map(|condition| Compiled::of(condition, columns, key)).collect::<Result<Vec<_>, _>>()
        };
        let column = |name: &String| columns.iter().find(|column| column.name == *name);
        let comparisons = key.iter().map(|name| column(name).and_then(Comparison::of)).collect();
        Ok(Self { comparisons, ranges: ranges.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Reads the fields of a key; `None` if one is not of its type.
    pub(super) fn key<'a>(&self, fields: impl Iterator<Item = &'a [u8]>) -> Option<Key> {
        let values = self.comparisons.iter().zip(fields).map(|(comparison, field)| match comparison {
            Some(comparison) => comparison.value(field).map(Some),
            None => Some(None),
        });
        let values = values.collect::<Option<Vec<_>>>()?;
        (values.len() == self.comparisons.len()).then_some(Key(values))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Says whether a key lies in one of the ranges.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.ranges.iter().any(|range| range.iter().all(|condition| condition.has(key)))
    }
}

impl Compiled {
    fn of(condition: &Condition, columns: &[Column], key: &[String]) -> Result<Self, &'static str> {
        let place = |name: &String| {
            key.iter().position(|one| one == name).ok_or("it has a range of a column that is not in its key")
        };
        let comparison = |name: &String| {
            let column = columns.iter().find(|column| column.name == *name);
            column.and_then(Comparison::of).ok_or("it has a range of a type that no range can have")
        };
        let read = |comparison: Comparison, value: &String| {
            let value = comparison.value(columns::field(Some(value)).as_bytes());
            value.ok_or("it has a range with a value that is not of its type")
        };
        match condition {
            Condition::Between { columns: names, from, to } => {
                let places = names.iter().map(place).collect::<Result<Vec<_>, _>>()?;
                let comparisons = names.iter().map(comparison).collect::<Result<Vec<_>, _>>()?;
                if has_twice(&places) {
                    return Err("it has a range with a column twice");
                }
                if comparisons.contains(&Comparison::Text) {
                    return Err("it has a range of a type that no range can have");
                }
                if from.is_none() && to.is_none() {
                    return Err("it has a range without bounds");
                }
                let limit = |bound: &Bound| {
                    if bound.values.is_empty() || bound.values.len() > names.len() {
                        return Err("it has a range with fewer columns than values, or without values");
                    }
                    let values = comparisons.iter().zip(&bound.values);
                    let values = values.map(|(comparison, value)| read(*comparison, value));
                    Ok(Limit { values: values.collect::<Result<_, _>>()?, inclusive: bound.inclusive })
                };
                let (from, to) = (from.as_ref().map(limit).transpose()?, to.as_ref().map(limit).transpose()?);
                Ok(Self::Between { places, from, to })
            }
            Condition::In { column, values } => {
                let (place, comparison) = (place(column)?, comparison(column)?);
                if values.is_empty() {
                    return Err("it has a range without values");
                }
                if has_twice(values) {
                    return Err("it has a range with a value twice");
                }
                let values = values.iter().map(|value| read(comparison, value)).collect::<Result<_, _>>()?;
                Ok(Self::In { place, values })
            }
        }
    }

    fn has(&self, Key(key): &Key) -> bool {
        let value = |place: usize| key.get(place).and_then(Option::as_ref);
        match self {
            Self::In { place, values } => value(*place).is_some_and(|value| values.contains(value)),
            Self::Between { places, from, to } => {
                let own = places.iter().filter_map(|place| value(*place)).collect::<Vec<_>>();
                let is_within = |limit: &Option<Limit>, outside: Ordering| {
                    limit.as_ref().is_none_or(|Limit { values, inclusive }| {
                        match own.iter().copied().take(values.len()).cmp(values) {
                            Ordering::Equal => *inclusive,
                            order => order != outside,
                        }
                    })
                };
                is_within(from, Ordering::Less) && is_within(to, Ordering::Greater)
            }
        }
    }
}
