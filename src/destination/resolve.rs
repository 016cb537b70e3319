//! Where a part goes: the table of its name, or the table that it is mapped to, compared with the manifest.
//!
//! Input: a part, and what the import may change. Output: a [`Destination`], locked. Where the table differs
//! from the part, the import is refused, or the table is created, or its missing columns are added or
//! ignored. A plan makes the same checks, and only foresees what would be created or added.

use std::collections::BTreeMap;

use crate::catalog::{self, Mapping};
use crate::destination::baseline;
use crate::destination::error::{ImportError, OwnershipError};
use crate::destination::missing::{ByHand, Former, MissingTable};
use crate::destination::obstacles::Obstacles;
use crate::destination::retyped::{self, Retyped};
use crate::destination::{create, intercepted};
use crate::error::{Result, TableName};
use crate::pg::snapshot;
use crate::pg::table::{self, Lock, Right, Table};
use crate::pg::user::Caller;
use crate::pg::{Oid, message, query};
use crate::table::error::TableError;
use crate::table::intercept;
use crate::table::readable;
use crate::table::shape::{self, Shape};
use batch::{Condition, Format, Kind, Manifest, Part};

/// What an import may do to tables that differ from those of the source.
#[derive(Clone, Copy)]
pub struct Allowed {
    /// Tables that do not exist are created.
    pub create_tables: bool,
    /// What is done about columns that do not exist.
    pub new_columns: NewColumns,
}

/// What is done about a column that the destination does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NewColumns {
    /// The import is refused.
    Refuse,
    /// The column is added.
    Add,
    /// Its values are left out.
    Ignore,
}

impl NewColumns {
    pub const ALL: [Self; 3] = [Self::Refuse, Self::Add, Self::Ignore];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Add => "add",
            Self::Ignore => "ignore",
        }
    }
}

/// A table that a part can be applied to.
pub struct Destination {
    /// The table, locked in ROW EXCLUSIVE mode, as other writers lock it; in SHARE ROW EXCLUSIVE mode for a
    /// baseline.
    pub table: Table,
    pub shape: Shape,
    /// The part. Its columns have the names that they have here; ignored columns are left out.
    pub part: Part,
    /// The places of the ignored columns among the fields of a record.
    pub ignored: Vec<usize>,
    /// The columns that have another type here.
    pub retyped: Vec<Retyped>,
}

impl Destination {
    /// Says whether the table has any row.
    pub fn has_rows(&self) -> Result<bool> {
        has_rows(&self.shape)
    }
}

/// Says whether a table has any row.
pub fn has_rows(shape: &Shape) -> Result<bool> {
    let rows = query::in_transaction(&format!("SELECT EXISTS (SELECT FROM {})", shape.as_from_item()), &[])?;
    Ok(rows.first().is_some_and(|row| row.flag(0)))
}

/// Where a part goes.
pub struct Place {
    /// The part, with the names that its columns have here.
    pub part: Part,
    /// The table; `None` if there is none.
    pub oid: Option<Oid>,
    is_mapped: bool,
}

/// Finds the place of a part by its mapping or its name; `None` if it is left out here.
pub fn place(target: &str, part: &Part) -> Result<Option<Place>> {
    // Not as the transaction's snapshot has it, which may be older than the last tx_map().
    Ok(match snapshot::latest(|| catalog::mapping(target, &part.schema, &part.name))? {
        Some(Mapping { relation: Some(relation), columns }) => {
            Some(Place { part: renamed(part, &columns), oid: Some(relation), is_mapped: true })
        }
        Some(Mapping { relation: None, .. }) => None,
        None => {
            let oid = table::find_named(&part.schema, &part.name)?;
            Some(Place { part: part.clone(), oid, is_mapped: false })
        }
    })
}

/// Returns the place of a part in a table that is known to be its copy.
pub fn place_of_copy(target: &str, part: &Part, copy: Oid) -> Result<Place> {
    let mapping = snapshot::latest(|| catalog::mapping(target, &part.schema, &part.name))?;
    let part = mapping.map_or_else(|| part.clone(), |mapping| renamed(part, &mapping.columns));
    Ok(Place { part, oid: Some(copy), is_mapped: true })
}

/// What a batch asks of the tables that it goes to.
pub struct Demands<'a> {
    pub manifest: &'a Manifest,
    pub allowed: Allowed,
    /// The rights that the caller must have on them, as text for the error and as a list.
    pub rights: (&'static str, &'static [Right]),
    pub caller: &'a Caller,
}

impl Demands<'_> {
    /// Returns the table of a part, locked, as the part needs it: created or completed where that is allowed.
    pub fn resolve(&self, place: Place) -> Result<Destination> {
        let obstacles = &mut Obstacles::Raised;
        let oid = match place.oid {
            Some(oid) => oid,
            None => {
                let shape = self.new_table(&place, obstacles)?;
                create::create_table(&shape, &place.part.key, self.caller)?
            }
        };
        let lock = if place.part.kind == Kind::Baseline { Lock::Alter } else { Lock::Write };
        let (table, shape) = self.open(oid, &place, lock)?;
        if lock == Lock::Alter {
            // A load that has not ended is waited for, also one into partitions.
            table::lock_with_descendants(oid, lock);
        }
        let (table, shape) = self.complete(table, shape, &place)?;
        let mut part = place.part;
        let ignored = self.ignore(&mut part, &shape, obstacles)?;
        if !ignored.is_empty() {
            let names = ignored.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
            let table = shape.name_for_errors();
            message::warning(format!("ignoring columns that table \"{table}\" does not have: {names}"));
        }
        let ignored = ignored.into_iter().map(|(place, _)| place).collect();
        let retyped = self.check(&part, Some(&table), &shape, obstacles)?;
        Ok(Destination { table, shape, part, ignored, retyped })
    }

    /// Makes the checks of [`Demands::resolve`], and changes nothing. Returns the table, and what its shape
    /// would be: no table, if it would be created. `before` is the shape that earlier batches of a plan would
    /// have given it.
    pub fn foresee(
        &self,
        place: &Place,
        before: Option<&Shape>,
        obstacles: &mut Obstacles,
    ) -> Result<(Option<Table>, Shape)> {
        let mut part = place.part.clone();
        let (table, mut shape) = match (place.oid, before) {
            (Some(oid), _) => {
                let (table, shape) = self.open(oid, place, Lock::Read)?;
                (Some(table), before.cloned().unwrap_or(shape))
            }
            (None, Some(before)) => (None, before.clone()),
            (None, None) => {
                let created = self.new_table(place, obstacles)?;
                // Those that it could not be given have been met as obstacles.
                part.columns.retain(|column| !created.lacks(&column.name));
                (None, created)
            }
        };
        let added = self.new_columns(&part, table.as_ref(), &shape, obstacles)?;
        shape.columns.extend(added);
        if self.allowed.new_columns == NewColumns::Add {
            part.columns.retain(|column| !shape.lacks(&column.name));
        }
        self.ignore(&mut part, &shape, obstacles)?;
        self.check(&part, table.as_ref(), &shape, obstacles)?;
        Ok((table, shape))
    }

    /// Returns the table that would be created for a part, if that is allowed.
    fn new_table(&self, place: &Place, obstacles: &mut Obstacles) -> Result<Shape> {
        // A table created for changes would lack the rows of earlier batches.
        if self.allowed.create_tables && place.part.kind == Kind::Full {
            create::new_table(&place.part, self.caller, obstacles)
        } else {
            Err(self.missing(place)?.into())
        }
    }

    fn missing(&self, place: &Place) -> Result<MissingTable> {
        let part = &place.part;
        // A mapped table that is gone is not the one of that name.
        let by_hand = if place.is_mapped { ByHand::Otherwise } else { create::by_hand(part, self.caller)? };
        Ok(MissingTable {
            table: TableName::new(&part.schema, &part.name),
            target: self.manifest.target.clone(),
            batch: self.manifest.number,
            is_full: part.kind == Kind::Full,
            by_hand,
            former: self.former(part)?,
        })
    }

    /// Returns the copy that a missing table may have become at the source, where it has another name now: it
    /// has all columns, and the batch does not name the table that it is the copy of.
    fn former(&self, part: &Part) -> Result<Option<Former>> {
        snapshot::latest(|| {
            for copy in catalog::copies(&self.manifest.target)? {
                let is_named = self.manifest.tables().any(|table| table == (&copy.schema, &copy.name));
                let Some(here) = Shape::of(copy.relation)?.filter(|_| !is_named) else { continue };
                if part.columns.iter().all(|column| !here.lacks(&column.name)) {
                    let source_table = TableName::new(&copy.schema, &copy.name);
                    return Ok(Some(Former { source_table, here: here.name_for_errors() }));
                }
            }
            Ok(None)
        })
    }

    /// Locks and opens the table of a part, and requires that it is one that imports may write to.
    fn open(&self, oid: Oid, place: &Place, lock: Lock) -> Result<(Table, Shape)> {
        let (Some(table), Some(shape)) = (Table::open(oid, lock), shape_now(oid)?) else {
            return Err(self.missing(place)?.into());
        };
        if let Some(what) = shape.not_a_table() {
            return Err(ImportError::WrongDestination { table: shape.name_for_errors(), what }.into());
        }
        if !place.is_mapped
            && let Some(extension) = snapshot::latest(|| shape::extension_of(oid))?
        {
            let (table, target) = (shape.name_for_errors(), self.manifest.target.clone());
            return Err(OwnershipError::OfExtension { table, target, extension }.into());
        }
        Ok((table, shape))
    }

    /// Returns the columns that would be added to a table, if that is allowed. Without a table they would be
    /// added to one that the caller has created.
    fn new_columns(
        &self,
        part: &Part,
        table: Option<&Table>,
        shape: &Shape,
        obstacles: &mut Obstacles,
    ) -> Result<Vec<shape::Column>> {
        let lacks_any = part.columns.iter().any(|column| shape.lacks(&column.name));
        // A baseline has no values for them.
        if self.allowed.new_columns != NewColumns::Add || !lacks_any || part.kind == Kind::Baseline {
            return Ok(Vec::new());
        }
        if let Some(table) = table.filter(|table| !self.caller.owns(table)) {
            obstacles
                .meet(TableError::NotOwner { table: shape.name_for_errors(), owner: table.owner_name()? })?;
        }
        create::new_columns(part, shape, self.owner(table), obstacles)
    }

    /// Adds the columns that a table lacks, if that is allowed. Then opens the table and reads its shape
    /// again.
    fn complete(&self, table: Table, shape: Shape, place: &Place) -> Result<(Table, Shape)> {
        let part = &place.part;
        let added = self.new_columns(part, Some(&table), &shape, &mut Obstacles::Raised)?;
        if added.is_empty() {
            return Ok((table, shape));
        }
        let (oid, owner) = (table.oid(), table.owner());
        // Closed, its lock kept: ALTER TABLE refuses a table that is open.
        drop(table);
        create::add_columns(&shape, &added, owner, self.caller)?;
        // ALTER TABLE has changed the table: the former shape is no longer used.
        match (Table::open(oid, Lock::Write), shape_now(oid)?) {
            (Some(table), Some(completed)) => Ok((table, completed)),
            _ => Err(self.missing(place)?.into()),
        }
    }

    /// Removes the columns that do not exist here from a part, if that is allowed, and returns the places of
    /// their fields, and their names.
    fn ignore(
        &self,
        part: &mut Part,
        shape: &Shape,
        obstacles: &mut Obstacles,
    ) -> Result<Vec<(usize, String)>> {
        if self.allowed.new_columns != NewColumns::Ignore {
            return Ok(Vec::new());
        }
        let columns = std::mem::take(&mut part.columns);
        let (ignored, kept): (Vec<_>, Vec<_>) =
            columns.into_iter().enumerate().partition(|(_, column)| shape.lacks(&column.name));
        part.columns = kept.into_iter().map(|(_, column)| column).collect();
        let table = shape.name_for_errors();
        if let Some((_, column)) = ignored.iter().find(|(_, column)| part.key.contains(&column.name)) {
            let sent = || part.columns.iter().chain(ignored.iter().map(|(_, column)| column));
            let renamed = former_name(column, |name| sent().any(|column| column.name == name), shape);
            let (table, column) = (table.clone(), column.name.clone());
            obstacles.meet(TableError::NoColumn { table, column, definition: None, renamed })?;
        }
        let ignored = ignored.into_iter().map(|(place, column)| (place, column.name)).collect::<Vec<_>>();
        if !ignored.is_empty() && part.format != Format::Text {
            let columns = ignored.iter().map(|(_, name)| name.clone()).collect();
            let (target, format) = (self.manifest.target.clone(), part.format.name());
            obstacles.meet(ImportError::CannotIgnore { target, table, columns, format })?;
        }
        Ok(ignored)
    }

    /// Requires that the caller may write the table, that its columns can hold those of the part, and that no
    /// trigger may fire at the commit. Returns the columns that have another type.
    fn check(
        &self,
        part: &Part,
        table: Option<&Table>,
        shape: &Shape,
        obstacles: &mut Obstacles,
    ) -> Result<Vec<Retyped>> {
        if let Some(table) = table {
            self.check_rights(table, shape, obstacles)?;
            let interceptors = intercept::interceptors(table.oid())?;
            obstacles.pass(intercepted::refuse_deferrable(&interceptors, shape))?;
        }
        if let Some(lacking) = baseline::lacking_column(part, shape, self.manifest) {
            obstacles.meet(lacking)?;
            return Ok(Vec::new());
        }
        let owner = self.owner(table);
        let mut retyped = Vec::new();
        snapshot::latest(|| {
            generated(part, table, shape)?.into_iter().try_for_each(|error| obstacles.meet(error))?;
            for column in &part.columns {
                retyped.extend(obstacles.pass(compare(column, part, shape, owner))?.flatten());
            }
            let unseen = baseline::retyped_column(part, &retyped, shape, self.manifest);
            unseen.into_iter().try_for_each(|error| obstacles.meet(error))?;
            Ok(retyped)
        })
    }

    fn check_rights(&self, table: &Table, shape: &Shape, obstacles: &mut Obstacles) -> Result<()> {
        let (privilege, rights) = self.rights;
        let (name, role) = (shape.name_for_errors(), self.caller.role());
        if !table.allows(role, rights) {
            let (table, role) = (name.clone(), self.caller.name()?);
            obstacles.meet(TableError::NoPrivilege { table, privilege, role })?;
        }
        let closed = readable::closed_schema(table, &name)?;
        let hidden = readable::hidden_rows(table, role, &name)?;
        closed.into_iter().chain(hidden).try_for_each(|error| obstacles.meet(error))
    }

    /// Returns the owner of a table: the caller, of one that does not exist yet.
    fn owner(&self, table: Option<&Table>) -> Oid {
        table.map_or(self.caller.role(), Table::owner)
    }
}

/// Reads the shape that a table has at this moment.
fn shape_now(oid: Oid) -> Result<Option<Shape>> {
    snapshot::latest(|| Shape::of(oid))
}

/// Returns the part with the names that a mapping gives to its columns.
pub fn renamed(part: &Part, names: &BTreeMap<String, String>) -> Part {
    let rename = |name: &mut String| {
        if let Some(here) = names.get(name) {
            here.clone_into(name);
        }
    };
    let mut part = part.clone();
    part.columns.iter_mut().for_each(|column| rename(&mut column.name));
    part.key.iter_mut().for_each(rename);
    part.ranges.iter_mut().flatten().flat_map(Condition::columns_mut).for_each(rename);
    part
}

/// Returns the errors of columns that are generated here where what comes out could not be compared with what
/// was sent: rows are found by their keys, and a partition generates what its table does not.
fn generated(part: &Part, table: Option<&Table>, shape: &Shape) -> Result<Vec<ImportError>> {
    let is_generated = |name: &String| shape.column(name).is_ok_and(|column| column.is_generated);
    let keys = part.key.iter().filter(|name| is_generated(name)).map(|name| ImportError::GeneratedColumn {
        table: shape.name_for_errors(),
        column: name.clone(),
        is_partition: false,
    });
    let mut errors = keys.collect::<Vec<_>>();
    if let Some(table) = table.filter(|table| table.is_partitioned()) {
        let is_sent = |name: &String| part.columns.iter().any(|column| column.name == *name);
        let of_partitions = shape::generated_by_partitions(table.oid())?.into_iter();
        let differing = of_partitions.filter(|(_, column)| is_sent(column) && !is_generated(column));
        errors.extend(differing.map(|(table, column)| ImportError::GeneratedColumn {
            table,
            column,
            is_partition: true,
        }));
    }
    Ok(errors)
}

/// Requires that the table has a column of the same name. Returns what its values need if it has another
/// type.
fn compare(theirs: &batch::Column, part: &Part, shape: &Shape, owner: Oid) -> Result<Option<Retyped>> {
    let Some(ours) = shape.columns.iter().find(|ours| ours.name == theirs.name) else {
        let (table, column) = (shape.name_for_errors(), theirs.name.clone());
        let definition = Some(create::addition(theirs, &table, owner)?);
        let is_sent = |name: &str| part.columns.iter().any(|column| column.name == name);
        let renamed = former_name(theirs, is_sent, shape);
        return Err(TableError::NoColumn { table, column, definition, renamed }.into());
    };
    retyped::compare(theirs, ours, shape, owner, part.format)
}

/// Returns the only column of a table that has the type of one that is sent, and is not sent itself.
fn former_name(theirs: &batch::Column, is_sent: impl Fn(&str) -> bool, shape: &Shape) -> Option<String> {
    let may_be = |ours: &&shape::Column| ours.type_name == theirs.type_name && !is_sent(&ours.name);
    let mut candidates = shape.columns.iter().filter(may_be);
    candidates.next().filter(|_| candidates.next().is_none()).map(|ours| ours.name.clone())
}
