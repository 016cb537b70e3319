//! Applying a batch: its ids are deleted, its records appended, in the tables of the same names.
//!
//! All destinations are locked and compared with the manifest before the first row changes. Rows are written as the
//! owner of the table, as logical replication does it: see [`crate::pg::settings::Settings::replica_role`].

use std::io;
use std::time::{Duration, Instant};

use crate::batch::{self, Kind, Manifest, Part, reader};
use crate::error::{Error, TableName};
use crate::fault::{self, Point};
use crate::pg::snapshot::Snapshot;
use crate::pg::staged::Staged;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{copy, encoding, query, report};
use crate::shape::{self, Column, Shape};
use crate::store::Store;

/// What applying a part did.
pub struct Applied {
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows appended.
    pub inserted: u64,
    /// The size of the files.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A destination table that a part can be applied to.
struct Destination {
    table: Table,
    shape: Shape,
}

/// Applies all parts of a batch.
pub fn apply(store: &dyn Store, manifest: &Manifest, caller: &Caller) -> Result<Vec<Applied>, Error> {
    let mut parts = manifest.parts.iter().collect::<Vec<_>>();
    // One order for all imports, so that two of them never wait for each other in a circle.
    parts.sort_by_key(|part| (&part.schema, &part.name));
    let destinations =
        parts.iter().map(|part| resolve(manifest, part, caller)).collect::<Result<Vec<_>, Error>>()?;
    fault::point(Point::ImportTablesLocked);
    parts
        .iter()
        .zip(&destinations)
        .map(|(part, destination)| {
            let place = format!(
                "While applying batch {} of target \"{}\" to table \"{}\".",
                manifest.number,
                manifest.target,
                destination.shape.display()
            );
            let cause = || damage(store, manifest, part).map(Error::from);
            report::with_detail(&place, cause, || {
                apply_part(store, manifest, part, destination, caller).map_err(|error| match error {
                    Error::Batch(_) => error,
                    error => cause().unwrap_or(error),
                })
            })
        })
        .collect()
}

/// Says which file of a part is damaged, if one is. COPY looks at bytes before the end of the file tells that they are not
/// what they should be, and then raises an error about the data.
fn damage(store: &dyn Store, manifest: &Manifest, part: &Part) -> Option<batch::Error> {
    [reader::ids, reader::records].iter().find_map(|open| {
        let read = open(store, manifest, part).and_then(|mut file| Ok(io::copy(&mut file, &mut io::sink())?));
        read.err()
    })
}

fn resolve(manifest: &Manifest, part: &Part, caller: &Caller) -> Result<Destination, Error> {
    let name = TableName::new(&part.schema, &part.name);
    let missing = || Error::NoDestination {
        table: name.clone(),
        target: manifest.target.clone(),
        batch: manifest.number,
        is_full: part.kind == Kind::Full,
    };
    let found = table::find(&encoding::to_server(&part.schema)?, &encoding::to_server(&part.name)?);
    let oid = found.ok_or_else(missing)?;
    let table = Table::open(oid, Lock::Write).ok_or_else(missing)?;
    let _fresh = Snapshot::latest();
    let shape = Shape::of(oid)?.ok_or_else(missing)?;
    if let Some(what) = shape.not_a_table() {
        return Err(Error::WrongDestination { table: name, what });
    }
    if !table.grants(caller.role(), &[Right::Insert, Right::Delete]) {
        return Err(Error::NoPrivilege { table: name, privilege: "INSERT and DELETE" });
    }
    if table.hides_rows_from(caller.role()) || table.hides_rows_from(table.owner()) {
        return Err(Error::RowSecurity { table: name, doing: "Import" });
    }
    for column in &part.columns {
        compare(column, &shape)?;
    }
    Ok(Destination { table, shape })
}

/// Compares a column with the one of the same name here. A type of another name is refused even where its text would be
/// accepted: 1.5 becomes 2 in an integer, and two keys that differ may become equal.
fn compare(theirs: &batch::Column, shape: &Shape) -> Result<(), Error> {
    let (table, column) = (shape.called(), theirs.name.clone());
    let Some(ours) = shape.columns.iter().find(|ours| ours.name == theirs.name) else {
        let definition = shape::known_definition(&theirs.type_name, theirs.typmod)?;
        return Err(Error::NoColumn { table, column, definition });
    };
    if ours.is_generated {
        return Err(Error::GeneratedColumn { table, column });
    }
    let same_type = ours.type_name == theirs.type_name;
    // A longer varchar is no other type: COPY refuses what does not fit. Other modifiers would round.
    let is_checked_by_input = matches!(ours.type_name.as_str(), "character varying" | "bit varying");
    let same_modifier = ours.typmod == theirs.typmod || ours.typmod == -1 || is_checked_by_input;
    if !same_type || !same_modifier {
        let source_type =
            if same_type { shape::definition(ours, theirs.typmod)? } else { theirs.type_name.clone() };
        return Err(Error::ColumnType { table, column, source_type, own: ours.definition.clone() });
    }
    Ok(())
}

fn apply_part(
    store: &dyn Store,
    manifest: &Manifest,
    part: &Part,
    destination: &Destination,
    caller: &Caller,
) -> Result<Applied, Error> {
    let started = Instant::now();
    let Destination { table, shape } = destination;
    reader::check_columns(store, manifest, part)?;
    let acting = caller.act_as_owner(table);
    let deleted = match part.kind {
        Kind::Full => delete_all(shape)?,
        Kind::Changes => delete_ids(store, manifest, part, destination)?,
    };
    fault::point(Point::ImportRowsDeleted);
    let columns = part.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
    let records = reader::records(store, manifest, part)?;
    let inserted = copy::copy_from(table, &columns, part.format.name(), records)?;
    drop(acting);
    fault::point(Point::ImportRecordsAppended);
    require_count(manifest, shape, "records", part.records, inserted)?;
    Ok(Applied {
        table: shape.display(),
        kind: part.kind.name(),
        deleted,
        inserted,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
    })
}

/// Deletes every row. Not by TRUNCATE: whoever reads the table sees its old content until the import commits.
fn delete_all(shape: &Shape) -> Result<u64, Error> {
    query::modify(&format!("DELETE FROM {}", shape.own_rows()), &[])
}

fn delete_ids(
    store: &dyn Store,
    manifest: &Manifest,
    part: &Part,
    destination: &Destination,
) -> Result<u64, Error> {
    let Destination { table, shape } = destination;
    let key = part.key.iter().map(|name| own_column(shape, name)).collect::<Result<Vec<_>, Error>>()?;
    let attnums = key.iter().map(|column| column.attnum).collect::<Vec<_>>();
    let names = key.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
    let mut ids = Staged::like("ids", table, &attnums)?;
    copy::read_fields(table, &names, reader::ids(store, manifest, part)?, |fields| ids.push(fields))?;
    require_count(manifest, shape, "ids", part.ids, ids.rows())?;
    let matches = key
        .iter()
        .map(|column| {
            let equality = table.equality(column.attnum)?.ok_or_else(|| Error::NoEquality {
                table: shape.called(),
                column: column.name.clone(),
                type_name: column.type_name.clone(),
            })?;
            Ok(format!("d.{0} {equality} i.{0}", column.quoted()))
        })
        .collect::<Result<Vec<_>, Error>>()?
        .join(" AND ");
    query::modify(&format!("DELETE FROM {} AS d USING ids AS i WHERE {matches}", shape.own_rows()), &[&ids])
}

fn own_column<'a>(shape: &'a Shape, name: &str) -> Result<&'a Column, Error> {
    shape.columns.iter().find(|column| column.name == name).ok_or_else(|| Error::NoColumn {
        table: shape.called(),
        column: name.to_owned(),
        definition: None,
    })
}

fn require_count(
    manifest: &Manifest,
    shape: &Shape,
    what: &'static str,
    declared: u64,
    found: u64,
) -> Result<(), Error> {
    if declared == found {
        return Ok(());
    }
    Err(Error::Count { table: shape.called(), number: manifest.number, what, declared, found })
}
