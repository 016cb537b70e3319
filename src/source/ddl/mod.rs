//! The DDL for a destination: what a copy needs of the source's tables, or the tables as they are. It is
//! text, and nothing here runs it.

mod definitions;
mod needed;

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::catalog::{self, Tracked};
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::table::{self, Lock, Table};
use crate::pg::{query, snapshot};
use crate::source::error::{ExportError, RestrictError, TrackError};
use crate::source::{lost, restriction};
use crate::table::error::TableError;
use crate::table::key::{self, Key};
use crate::table::shape::Shape;
use crate::table::{ddl, own};
use needed::{Made, Needed, comment};

/// Returns a CREATE TABLE with the same columns, types, collations and key; without defaults, sequences,
/// generation expressions or other constraints, because values arrive as they are. With `definitions` it is
/// the table as it is here.
pub fn table(relation: Oid, definitions: bool) -> Result<String> {
    let table = Table::open(relation, Lock::Read).ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    snapshot::latest(|| {
        let shape = Shape::of(relation)?.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
        if !matches!(shape.kind, 'r' | 'p' | 'v' | 'm' | 'f') {
            return Err(TrackError::NotATable { table: shape.name_for_errors() }.into());
        }
        let tracked = catalog::tracked_table(relation)?;
        let key = tracked.map(|tracked| tracked.key.columns(&table)).transpose()?.flatten();
        let with_definitions = definitions && matches!(shape.kind, 'r' | 'p');
        let made = match with_definitions {
            true => definitions::table(relation, &shape, true)?,
            false => made(relation, &shape, key.as_deref(), relation)?,
        };
        let mut needed = Needed::named();
        needed.columns(&made)?;
        let left_out = if with_definitions { comment(definitions::LEFT_OUT) + "\n" } else { String::new() };
        Ok(left_out + &needed.comments() + &made.statement)
    })
}

/// Returns what `table` is made by: the columns of its shape, which are those of `seen_as`, the table itself
/// or a view, and its key, given by number or else the primary one.
fn made(relation: Oid, shape: &Shape, key: Option<&[i16]>, seen_as: Oid) -> Result<Made> {
    let key = key::key(relation, &key.map_or(Key::Primary, Key::Columns))?;
    let key = key.into_iter().map(|column| column.name).collect::<Vec<_>>();
    let columns = shape.columns.iter().map(ddl::column).collect();
    Ok(Made {
        types: shape.columns.iter().map(|column| column.type_oid).collect(),
        collations: collations(seen_as)?,
        objects: Vec::new(),
        members: vec![relation],
        schemas: BTreeSet::from([shape.schema.clone()]),
        statement: ddl::statement(&shape.quoted(), columns, &key),
    })
}

/// Returns the collations of users that columns have.
fn collations(relation: Oid) -> Result<Vec<Oid>> {
    let sql = "SELECT DISTINCT attcollation FROM pg_attribute
                WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attcollation >= 16384";
    let rows = query::in_snapshot(sql, &[&relation])?;
    Ok(rows.iter().map(|row| Ok(Oid::from(row.get::<u32>(0)?))).collect::<Result<_, crate::pg::Error>>()?)
}

/// Returns a script for psql that makes all that a target gets, or one table of it: schemas, extensions,
/// types and tables.
///
/// The script is one transaction, so that it leaves all or nothing. In it search_path and
/// standard_conforming_strings are what they are here, or the destination could read its names and literals
/// otherwise.
pub fn target(target: &str, relation: Option<Oid>, definitions: bool) -> Result<String> {
    let given = snapshot::latest(|| tables_of(target, relation))?.into_iter();
    // Those that have been dropped are not sent. Exports lock in the order of the ids; a reader may take any.
    let opened = given.filter_map(|(tracked, view)| {
        let table = Table::open(tracked.relation, Lock::Read)?;
        Some((tracked, view, table))
    });
    let opened = opened.collect::<Vec<_>>();
    snapshot::latest(|| {
        let relations = opened.iter().map(|(tracked, _, _)| tracked.relation).collect::<HashSet<_>>();
        let (mut names, mut tables) = (Vec::new(), HashMap::new());
        for (tracked, view, table) in &opened {
            let (shape, made) = as_given(tracked, *view, table, definitions.then_some(&relations))?;
            names.push((shape.schema, shape.name, tracked.relation));
            tables.insert(tracked.relation, made);
        }
        names.sort_by(|(a, b, _), (c, d, _)| (a, b).cmp(&(c, d)));
        let mut needed = Needed::made(tables, definitions);
        for (_, _, relation) in &names {
            needed.table(*relation)?;
        }
        let begin = "BEGIN;\nSET LOCAL search_path = pg_catalog, pg_temp;\n\
                     SET LOCAL standard_conforming_strings = on;";
        let title = comment(&format!("What target \"{target}\" gets. Run it with psql at the destination."));
        let left_out = if definitions { comment(definitions::LEFT_OUT) + "\n" } else { String::new() };
        let comments = left_out + &needed.comments();
        let statements = needed.statements().join("\n");
        Ok(format!("{title}\n{comments}{begin}\n{statements}\nCOMMIT;"))
    })
}

/// Returns the tables that a target gets, or the one that is asked for, each with its view.
fn tables_of(target: &str, relation: Option<Oid>) -> Result<Vec<(Tracked, Option<Oid>)>> {
    let tracked = catalog::tracked()?;
    if let Some(relation) = relation
        && tracked.iter().all(|tracked| tracked.relation != relation)
    {
        return Err(own::not_tracked(relation, Shape::of(relation)?.as_ref()).into());
    }
    if tracked.is_empty() {
        return Err(ExportError::NothingTracked.into());
    }
    let mut given = restriction::tables_for(target, tracked)?;
    if let Some(relation) = relation {
        given.retain(|(tracked, _)| tracked.relation == relation);
        if given.is_empty() {
            let table = Shape::of(relation)?.map(|shape| shape.qualified());
            return Err(RestrictError::NotRestricted { target: target.to_owned(), table }.into());
        }
    }
    if given.is_empty() {
        return Err(RestrictError::NothingGiven { target: target.to_owned() }.into());
    }
    Ok(given)
}

/// Returns the shape of a table, as a target gets it, and what makes that: with its definitions, if all
/// tables of the script are given.
fn as_given(
    tracked: &Tracked,
    view: Option<Oid>,
    table: &Table,
    definitions: Option<&HashSet<Oid>>,
) -> Result<(Shape, Made)> {
    let relation = tracked.relation;
    let mut shape = Shape::of(relation)?.ok_or(TableError::NoTable { oid: relation.to_u32() })?;
    let changed = || lost::key_changed(tracked.id, &shape.name_for_errors());
    let key = tracked.key.columns(table)?.ok_or_else(changed)?;
    if let Some(view) = view {
        restriction::see_through(view, table, &mut shape, &key)?;
    }
    let made = match (definitions, view) {
        // A partition that the target gets as a table of its own would be there twice.
        (Some(others), None) => {
            let mut below = table::with_descendants(relation).into_iter().filter(|&one| one != relation);
            definitions::table(relation, &shape, !below.any(|one| others.contains(&one)))?
        }
        // What is defined of the table need not hold of what a view shows, and can tell what it hides.
        _ => made(relation, &shape, Some(&key), view.unwrap_or(relation))?,
    };
    Ok((shape, made))
}
