//! Restrictions: which tables a target gets, and through which views.
//!
//! A restricted target gets the tables that it is given and no others: whole, or as a view shows them, with
//! fewer columns, fewer rows, or other values. Only tx_unrestrict ends a restriction: the tables and views
//! that it names may be untracked, dropped or made anew, and the target be forgotten, and the target still
//! gets no more than before.
//!
//! The owner of a table decides whether a restricted target gets it. To begin or to end a restriction changes
//! what the target gets of all tables, and takes the rights of all their owners.

use crate::catalog::{self, Restriction, Tracked};
use crate::error::{Error, Result, TableName};
use crate::pg::Oid;
use crate::pg::query::quote_identifier;
use crate::pg::snapshot;
use crate::pg::table::{Lock, Table};
use crate::pg::user::Caller;
use crate::pg::{transaction, view};
use crate::source::error::{RestrictError, UnfitView};
use crate::source::lost;
use crate::table::error::TableError;
use crate::table::own;
use crate::table::shape::{Column, Shape};

/// Gives a target a table, whole or as a view shows it; from then on it gets only the tables that it was
/// given. Returns what will happen, in a sentence.
pub fn restrict(target: &str, relation: Oid, view: Option<Oid>, caller: &Caller) -> Result<String> {
    transaction::require_read_committed("tx_restrict()")?;
    catalog::lock_target("export", target)?;
    let gone = || TableError::NoTable { oid: relation.to_u32() };
    let table = own::open_own(relation, caller)?.ok_or_else(gone)?;
    snapshot::latest(|| {
        let mut shape = Shape::of(relation)?.ok_or_else(gone)?;
        let tracked =
            catalog::tracked_table(relation)?.ok_or_else(|| own::not_tracked(relation, Some(&shape)))?;
        let name = shape.qualified();
        if let Some(view) = view {
            let changed = || lost::key_changed(tracked.id, &shape.name_for_errors());
            let key = tracked.key.columns(&table)?.ok_or_else(changed)?;
            see_through(view, &table, &mut shape, &key)?;
        }
        if catalog::restrictions(target)?.is_empty() {
            own_all(target, caller)?;
        }
        catalog::put_restriction(target, relation, view)?;
        catalog::release_unrestricted(target)?;
        Ok(match view {
            Some(_) => format!("target \"{target}\" gets table \"{name}\" as the view shows it"),
            None => format!("target \"{target}\" gets table \"{name}\" whole"),
        })
    })
}

/// Takes a table from a restricted target, or, without one, gives it all tracked tables again.
pub fn unrestrict(target: &str, relation: Option<Oid>, caller: &Caller) -> Result<String> {
    transaction::require_read_committed("tx_unrestrict()")?;
    catalog::lock_target("export", target)?;
    snapshot::latest(|| {
        let restrictions = catalog::restrictions(target)?;
        let named =
            restrictions.iter().filter(|one| relation.is_none_or(|relation| relation == one.relation));
        let named = named.map(|one| one.relation).collect::<Vec<_>>();
        if named.is_empty() {
            let table = relation.map(|relation| relation.to_u32().to_string());
            let shape = relation.map(Shape::of).transpose()?.flatten();
            let table = shape.map(|shape| shape.qualified()).or(table);
            return Err(RestrictError::NotRestricted { target: target.to_owned(), table }.into());
        }
        match relation {
            Some(relation) => drop(own::open_own(relation, caller)?),
            None => own_all(target, caller)?,
        }
        if relation.is_some() && named.len() == restrictions.len() {
            return Err(RestrictError::LastOfRestricted { target: target.to_owned() }.into());
        }
        catalog::remove_restrictions(target, relation)?;
        if relation.is_none() {
            return Ok(format!("target \"{target}\" gets all tracked tables"));
        }
        catalog::release_unrestricted(target)?;
        Ok(format!("target \"{target}\" gets {} of the tables that it got", restrictions.len() - 1))
    })
}

/// Requires that the caller owns all tables that a target loses when its restriction begins, or gets when it
/// ends. These are all tracked tables, and those that the restriction names.
fn own_all(target: &str, caller: &Caller) -> Result<()> {
    if caller.is_extension_owner() {
        return Ok(());
    }
    match catalog::table_of_another(target, caller.role())? {
        Some(relation) => Err(own::not_owner(relation)?.into()),
        None => Ok(()),
    }
}

/// The tracked tables that a target gets, each with the view that it is seen through.
pub fn tables_for(target: &str, tracked: Vec<Tracked>) -> Result<Vec<(Tracked, Option<Oid>)>> {
    let restrictions = catalog::restrictions(target)?;
    if restrictions.is_empty() {
        return Ok(tracked.into_iter().map(|tracked| (tracked, None)).collect());
    }
    let given = tracked.into_iter().filter_map(|tracked| {
        let Restriction { view, .. } = restrictions.iter().find(|one| one.relation == tracked.relation)?;
        Some((tracked, *view))
    });
    Ok(given.collect())
}

/// A view in place of its table.
pub struct ViewOfTable {
    /// Kept open, so that it stays what it is.
    pub view: Table,
    /// Its name.
    pub name: TableName,
    /// What names its rows in a query, quoted.
    pub rows: String,
    /// Changes with its definition.
    pub definition: String,
}

/// Returns the error for a view that has been dropped.
pub fn view_gone(view: Oid, table: TableName) -> Error {
    let gone = |targets| RestrictError::ViewGone { table, targets }.into();
    catalog::targets_seeing(view).map_or_else(|error| error, gone)
}

/// Gives the shape of a table the columns of a view over it, if that can stand for it: the view must be of
/// the table's owner, as whom both are read, and show the key as it is.
pub fn see_through(view: Oid, table: &Table, shape: &mut Shape, key: &[i16]) -> Result<ViewOfTable> {
    let gone = || view_gone(view, shape.name_for_errors());
    let opened = Table::open(view, Lock::Read).ok_or_else(gone)?;
    let seen = Shape::of(view)?.ok_or_else(gone)?;
    let unfit = |what| {
        let (view, name) = (seen.name_for_errors(), shape.name_for_errors());
        RestrictError::UnfitView { view, fit: fit(&name, table, shape, key), table: name, what }
    };
    let shown = view::columns_of(&opened, table).map_err(|what| unfit(UnfitView::Query(what)))?;
    if opened.owner() != table.owner() {
        let (owner, of_table) = (opened.owner_name()?, table.owner_name()?);
        return Err(unfit(UnfitView::OtherOwner { owner, of_table }).into());
    }
    let original = |column: &Column| {
        let of = shown.iter().find(|shown| shown.attnum == column.attnum)?.of?;
        shape.columns.iter().find(|original| original.attnum == of)
    };
    let shows = |attnum: i16| {
        let is_it = |column: &Column, of: &Column| of.attnum == attnum && of.name == column.name;
        seen.columns.iter().any(|column| original(column).is_some_and(|of| is_it(column, of)))
    };
    if let Some(missing) = key.iter().find(|attnum| !shows(**attnum)) {
        let column = shape.columns.iter().find(|column| column.attnum == *missing);
        let column = column.map(|column| column.name.clone()).unwrap_or_default();
        return Err(unfit(UnfitView::HidesKey { column }).into());
    }
    let not_null = seen.columns.iter().map(|column| original(column).is_some_and(|of| of.not_null));
    let not_null = not_null.collect::<Vec<_>>();
    let (name, rows, definition) = (seen.name_for_errors(), seen.quoted(), view::definition_digest(view)?);
    shape.columns = seen.columns;
    for (column, not_null) in shape.columns.iter_mut().zip(not_null) {
        column.not_null = not_null;
    }
    Ok(ViewOfTable { view: opened, name, rows, definition })
}

/// Writes a view that can stand for a table.
fn fit(name: &TableName, table: &Table, shape: &Shape, key: &[i16]) -> String {
    let is_key = |column: &&Column| key.contains(&column.attnum);
    let columns = shape.columns.iter().filter(is_key).map(|column| quote_identifier(&column.name));
    let only = if !table.is_partitioned() && table.has_children() { "ONLY " } else { "" };
    format!(
        "CREATE VIEW … AS SELECT {}, … FROM {only}{} WHERE …;",
        columns.collect::<Vec<_>>().join(", "),
        name.quoted()
    )
}
