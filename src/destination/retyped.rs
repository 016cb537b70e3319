//! Columns that have another type here than at the source. If a type can never work, the import is refused.
//! Otherwise each value must have the same text here as it was sent with.
//!
//! Input: a column of a part, and that of the table. Output: a [`Retyped`] if they differ in anything that
//! can change a value. If they do not differ, no value is checked, which costs nothing.

use crate::destination::create;
use crate::destination::error::{MisfitValue, ValueError};
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::convert::{Conversion, Misfit};
use crate::table::definition::{self, is_built_in};
use crate::table::shape::{self, Column, Shape};
use crate::table::untrusted;
use batch::{Definition, Format, Part, Type};

/// A column that has another type here.
pub struct Retyped {
    /// Its name here.
    column: String,
    /// Its type at the source and here, for errors. They are looked up before the first value is read: no SQL
    /// may run after a misfit.
    source_type: String,
    own: String,
    /// A type that holds its values, as DDL writes it here.
    fitting: String,
    /// The type that records are read as in format binary. In the other formats, values are read as text.
    binary: Option<(Oid, i32)>,
}

impl Retyped {
    /// Its name here, its type at the source, and here.
    pub fn told(&self) -> (String, String, String) {
        (self.column.clone(), self.source_type.clone(), self.own.clone())
    }
}

/// Compares a column of a part with that of its table. It fails if the text of a value cannot be trusted: in
/// format binary it is written by the type of the source, which must exist here, and belong to roles that may
/// act as `owner`, the owner of the table; and a composite type reads its attributes by their order.
pub fn compare(
    theirs: &batch::Column,
    ours: &Column,
    shape: &Shape,
    owner: Oid,
    format: Format,
) -> Result<Option<Retyped>> {
    if is_same(theirs, ours) {
        return Ok(None);
    }
    let (table, column) = (shape.name_for_errors(), ours.name.clone());
    if let (Some(source), Some(own)) = (&theirs.definition, &ours.definition)
        && let Some((source, own)) = source.other_attributes(own)
    {
        let (theirs, own) = (source.join(", "), own.join(", "));
        return Err(ValueError::OtherAttributes { table, column, theirs, own }.into());
    }
    let source =
        Type { name: theirs.type_name.clone(), typmod: theirs.typmod, definition: theirs.definition.clone() };
    let (source_type, own) = (described(&source)?, described(&type_of(ours))?);
    let binary = match (format, known(&source)?) {
        (Format::Binary, Some(known)) => {
            let remedy = || "give the column that type; or export in format text.".to_owned();
            create::require_trusted(known.oid, owner, &table, &column, remedy)?;
            Some((known.oid, theirs.typmod))
        }
        (Format::Binary, None) => {
            return Err(ValueError::BinaryType { table, column, source_type, own }.into());
        }
        (Format::Text | Format::Csv, _) => None,
    };
    Ok(Some(Retyped { column, source_type, own, fitting: fitting(&source)?, binary }))
}

/// Says whether every text is the same value in both. A type of PostgreSQL without a modifier takes values as
/// they are. A range of a user may be ordered in another way here, so that another range of it becomes empty.
fn is_same(theirs: &batch::Column, ours: &Column) -> bool {
    let same_modifier = theirs.typmod == ours.typmod || (ours.typmod == -1 && is_built_in(ours.type_oid));
    theirs.type_name == ours.type_name
        && theirs.definition == ours.definition
        && same_modifier
        && !ours.definition.as_ref().is_some_and(Definition::has_range)
}

fn type_of(column: &Column) -> Type {
    let (name, definition) = (column.type_name.clone(), column.definition.clone());
    Type { name, typmod: column.typmod, definition }
}

/// Finds a type that a manifest describes: one of that name which is made of the same types.
fn known(described: &Type) -> Result<Option<shape::KnownType>> {
    let Some(known) = shape::known_type(&described.name, described.typmod)? else { return Ok(None) };
    Ok((definition::of(known.oid, described.typmod)? == described.definition).then_some(known))
}

/// Returns a type that takes every value of the described one, and that anybody may paste into DDL: that type
/// itself, what it is a domain over, or text.
fn fitting(described: &Type) -> Result<String> {
    if let Some(known) = known(described)?
        && untrusted::is_for_anybody(known.oid)?
    {
        return Ok(known.written);
    }
    match &described.definition {
        Some(Definition::Domain(base)) => fitting(base),
        _ => Ok("text".into()),
    }
}

/// Names a type for errors: domains of one name may be over different types.
fn described(one: &Type) -> Result<String> {
    let known = shape::known_type(&one.name, one.typmod)?;
    let written = known.map_or_else(|| one.name.clone(), |known| known.written);
    match &one.definition {
        Some(Definition::Domain(base)) => Ok(format!("{written} over {}", described(base)?)),
        _ => Ok(written),
    }
}

/// Returns the conversions that a file with these columns needs.
pub fn conversions(retyped: &[Retyped], columns: &[String], format: Format) -> Vec<Conversion> {
    let find = |name: &String| retyped.iter().find(|one| one.column == *name);
    let of = |(place, name)| {
        let one = find(name)?;
        Some(match (format, one.binary) {
            (Format::Binary, Some(read_as)) => Conversion { place, read_as },
            _ => Conversion::from_text(place),
        })
    };
    columns.iter().enumerate().filter_map(of).collect()
}

/// Returns the error of a value that does not arrive as it was sent, in a file with these columns. It has the
/// value only if `shows_rows`. It runs no SQL.
pub fn refuse(
    misfit: Misfit,
    retyped: &[Retyped],
    columns: &[String],
    part: &Part,
    shape: &Shape,
    shows_rows: bool,
) -> ValueError {
    let Misfit { place, sent, becomes, row } = misfit;
    let column = &columns[place];
    let (source_type, own, fitting) = retyped
        .iter()
        .find(|one| one.column == *column)
        .map(|one| (one.source_type.clone(), one.own.clone(), one.fitting.clone()))
        .unwrap_or_default();
    let field = |name| columns.iter().zip(&row).find(|(column, _)| *column == name);
    let key = part.key.iter().map(|name| shown(field(name).and_then(|(_, field)| field.as_deref())));
    let value = || MisfitValue {
        key: key.collect::<Vec<_>>().join(", "),
        sent: quoted(sent.as_deref()),
        becomes: becomes.map(|text| quoted(text.as_deref())),
    };
    ValueError::Misfit {
        table: shape.name_for_errors(),
        column: column.clone(),
        value: shows_rows.then(value),
        source_type,
        own,
        fitting,
    }
}

/// As much of a value as an error shows.
const SHOWN: usize = 100;

fn shown(value: Option<&str>) -> String {
    let Some(value) = value else { return "null".into() };
    match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

/// Quotes as much of a value as an error shows.
pub(super) fn quoted(value: Option<&str>) -> String {
    if value.is_some() { format!("\"{}\"", shown(value)) } else { shown(value) }
}
