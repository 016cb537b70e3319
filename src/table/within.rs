//! The SQL condition that a row lies in one of some ranges.
//!
//! Input: ranges of a batch, and a table, at the source or at a destination. Output: a condition.
//!
//! Values are compared as those of the source's types, by PostgreSQL's own operators. A column of another
//! type is turned into that type by way of its text, which an import has left as it was sent.
//!
//! Invariant: names and values are quoted, and nothing else of a batch gets into the condition.

use std::collections::BTreeSet;

use crate::error::literal;
use crate::pg::message;
use crate::table::error::TableError;
use crate::table::key::text;
use crate::table::shape::Shape;
use batch::{Bound, Comparison, Condition, Range};

/// Returns the condition that a row of the FROM item `alias` lies in one of the ranges; `None` without
/// ranges. `theirs` are the columns at the source, and `shape` is the table here.
pub fn within(
    ranges: &[Range],
    theirs: &[batch::Column],
    shape: &Shape,
    alias: &str,
) -> Result<Option<String>, TableError> {
    let table = Table { theirs, shape, alias };
    let all_of = |range: &Range| {
        let conditions = range.iter().map(|condition| table.meets(condition)).collect::<Result<Vec<_>, _>>();
        Ok::<_, TableError>(format!("({})", conditions?.join(" AND ")))
    };
    let any = ranges.iter().map(all_of).collect::<Result<Vec<_>, _>>()?;
    Ok((!any.is_empty()).then(|| format!("({})", any.join(" OR "))))
}

/// A column whose values are turned into values of another type, which fails for those that look otherwise.
pub struct Turned {
    pub column: String,
    pub type_name: &'static str,
    /// The expression that turns them.
    pub value: String,
}

/// Returns the columns of the ranges whose values [`within`] turns into those of another type.
pub fn turned(
    ranges: &[Range],
    theirs: &[batch::Column],
    shape: &Shape,
    alias: &str,
) -> Result<Vec<Turned>, TableError> {
    let table = Table { theirs, shape, alias };
    let names = ranges.iter().flatten().flat_map(Condition::columns).collect::<BTreeSet<_>>();
    let turned = |name: &String| {
        let Operand { value, type_name, is_turned, .. } = table.operand(name)?;
        Ok(is_turned.then(|| Turned { column: name.clone(), type_name, value }))
    };
    names.into_iter().filter_map(|name| turned(name).transpose()).collect()
}

struct Table<'a> {
    theirs: &'a [batch::Column],
    shape: &'a Shape,
    alias: &'a str,
}

/// A column, ready to be compared.
struct Operand {
    value: String,
    /// The type of the values that it is compared with.
    type_name: &'static str,
    /// It is compared by its bytes. Its own comparison comes first, which can use an index.
    by_bytes: Option<String>,
    /// Its own values are of another type.
    is_turned: bool,
}

impl Table<'_> {
    fn meets(&self, condition: &Condition) -> Result<String, TableError> {
        match condition {
            Condition::In { column, values } => {
                let Operand { value, type_name, by_bytes, .. } = self.operand(column)?;
                if type_name == "text" && !values.iter().all(|text| message::has_characters_of(text)) {
                    return Ok(among_utf8(&by_bytes.unwrap_or(value), values));
                }
                let values = literal(&array(values));
                let among = |value| {
                    format!("{value} OPERATOR(pg_catalog.=) ANY ({values}::pg_catalog.{type_name}[])")
                };
                let by_bytes = by_bytes.map(|bytes| format!(" AND {}", among(bytes))).unwrap_or_default();
                Ok(format!("{}{by_bytes}", among(value)))
            }
            Condition::Between { columns, from, to } => {
                let columns = columns.iter().map(|name| self.operand(name)).collect::<Result<Vec<_>, _>>()?;
                let sides = [(from, '>'), (to, '<')];
                let sides = sides.into_iter().filter_map(|(bound, side)| Some((bound.as_ref()?, side)));
                Ok(sides.map(|(bound, side)| beyond(&columns, bound, side)).collect::<Vec<_>>().join(" AND "))
            }
        }
    }

    fn operand(&self, name: &str) -> Result<Operand, TableError> {
        let ours = self.shape.column(name)?;
        let theirs = self.theirs.iter().find(|column| column.name == name);
        // A manifest with other types has been refused.
        let comparison = theirs.and_then(Comparison::of).unwrap_or(Comparison::Text);
        let value = format!("{}.{}", self.alias, ours.quoted());
        let same_type = theirs.is_some_and(|theirs| theirs.type_name == ours.type_name);
        let our_type = ours.type_name.as_str();
        let (type_name, is_comparable) = match comparison {
            Comparison::Integer => ("int8", ["smallint", "integer", "bigint"].contains(&our_type)),
            Comparison::Date => ("date", same_type),
            Comparison::Timestamp => ("timestamp", same_type),
            Comparison::TimestampTz => ("timestamptz", same_type),
            Comparison::Uuid => ("uuid", same_type),
            Comparison::Text => {
                let bytes = text(&value);
                let has_index = ["text", "character varying"].contains(&our_type);
                let (value, by_bytes) = if has_index { (value, Some(bytes)) } else { (bytes, None) };
                return Ok(Operand { value, type_name: "text", by_bytes, is_turned: false });
            }
        };
        let value = match is_comparable {
            true => value,
            false => format!("CAST({} AS pg_catalog.{type_name})", text(&value)),
        };
        Ok(Operand { value, type_name, by_bytes: None, is_turned: !is_comparable })
    }
}

/// Writes values as one text that PostgreSQL reads as an array: a query with a constant for each takes a
/// thousand times their memory.
fn array(values: &[String]) -> String {
    let quoted =
        values.iter().map(|value| format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

/// The condition that a text is one of some, of which the database may have characters for none.
fn among_utf8(value: &str, values: &[String]) -> String {
    let hex = |text: &String| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let values = values.iter().map(|text| format!("\\x{}", hex(text))).collect::<Vec<_>>();
    format!(
        "pg_catalog.convert_to({value}, 'UTF8') OPERATOR(pg_catalog.=) ANY ({}::pg_catalog.bytea[])",
        literal(&array(&values))
    )
}

/// The condition that columns lie beyond a bound. The first column is also compared alone: PostgreSQL leaves
/// out partitions by that, and not by a comparison of rows.
fn beyond(columns: &[Operand], bound: &Bound, side: char) -> String {
    let columns = columns.iter().zip(&bound.values);
    let pairs = columns.map(|(column, value)| {
        (column.value.as_str(), format!("{}::pg_catalog.{}", literal(value), column.type_name))
    });
    let pairs = pairs.collect::<Vec<_>>();
    let equal = if bound.inclusive { "=" } else { "" };
    match pairs.as_slice() {
        [(column, value)] => format!("{column} OPERATOR(pg_catalog.{side}{equal}) {value}"),
        [(first, value), ..] => {
            let (columns, values): (Vec<_>, Vec<_>) =
                pairs.iter().map(|(column, value)| (*column, value.as_str())).unzip();
            format!(
                "{first} OPERATOR(pg_catalog.{side}=) {value} \
                 AND ROW({}) OPERATOR(pg_catalog.{side}{equal}) ROW({})",
                columns.join(", "),
                values.join(", ")
            )
        }
        [] => "true".to_owned(),
    }
}
