//! Applying a batch: each of its parts to the table that [`crate::destination::resolve`] has found for it.
//!
//! Input: a manifest and the files of its parts. Output: what each part changed.
//!
//! [`crate::destination::part`] appends or merges the rows of a part. The mode says which, with exceptions.
//! In mode merge a full part is appended if it has no records or the table is empty. In mode append a full
//! part is merged with the rows of a table that is adopted.
//!
//! Invariant: all tables are locked and compared with the manifest before the first row changes. Rows are
//! written as the owner of the table, as in logical replication: see
//! [`crate::pg::settings::Settings::replica_role`].

use std::io;
use std::time::{Duration, Instant};

use crate::catalog::{self, Locker};
use crate::destination::chain::Backlog;
use crate::destination::error::RowsError;
use crate::destination::intercepted;
use crate::destination::ownership::{self, Copies};
use crate::destination::part::{self, Changed, Files, Incoming};
use crate::destination::resolve::{self, Allowed, Demands, Destination, Place};
use crate::error::{Error, Result, literal};
use crate::fault::{self, Point};
use crate::pg::error::qualified;
use crate::pg::table::Right;
use crate::pg::user::Caller;
use crate::pg::{message, query, report, snapshot};
use crate::table::intercept;
use batch::{Kind, Manifest, Part, reader};
use store::Store;

/// How a part is applied.
#[derive(Clone, Copy)]
pub enum Mode {
    /// The rows of a part are deleted, and its records are inserted.
    Append,
    /// Rows that differ are updated in place, inserted or deleted: see [`crate::destination::merge`].
    Merge,
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Merge, Self::Append];

    /// The name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Append => "append",
        }
    }

    /// The rights that the caller needs on a table, as text for the error and as a list.
    fn rights(self) -> (&'static str, &'static [Right]) {
        match self {
            Mode::Append => ("INSERT and DELETE", &[Right::Insert, Right::Delete]),
            Mode::Merge => ("INSERT, UPDATE and DELETE", &[Right::Insert, Right::Update, Right::Delete]),
        }
    }
}

/// How a batch is applied.
#[derive(Clone, Copy)]
pub struct Options {
    pub mode: Mode,
    pub allowed: Allowed,
    /// The limit on the rows of a table that one batch may delete, in percent.
    pub delete_limit: u32,
    /// Whether a table with rows that no import has written becomes a copy, and the rows are merged with.
    pub adopt: bool,
}

/// What applying a part did.
pub struct AppliedPart {
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    pub changed: Changed,
    /// The size of the part's files.
    pub bytes: u64,
    pub elapsed: Duration,
    /// Whether the caller may read the table.
    pub shows_rows: bool,
}

/// Returns where the parts of a batch go, in the order in which all imports lock their tables, so that two
/// imports never deadlock.
pub fn places(manifest: &Manifest) -> Result<Vec<Place>> {
    let mut parts = manifest.parts.iter().collect::<Vec<_>>();
    parts.sort_by_key(|part| (&part.schema, &part.name));
    parts.into_iter().filter_map(|part| resolve::place(&manifest.target, part).transpose()).collect()
}

/// Returns what a batch asks of its tables.
pub fn demands<'a>(manifest: &'a Manifest, options: Options, caller: &'a Caller) -> Demands<'a> {
    Demands { manifest, allowed: options.allowed, rights: options.mode.rights(), caller }
}

/// Refuses an import whose tables the lock table has no room for.
pub fn require_room(places: &[Place], target: &str) -> Result<()> {
    let tables = places.iter().filter_map(|place| place.oid).collect::<Vec<_>>();
    snapshot::latest(|| catalog::require_room(Locker::Import, target, &tables))
}

/// Applies the parts of a batch, which comes next in a chain, and returns what each of them did.
pub fn apply(
    store: &dyn Store,
    manifest: &Manifest,
    chain: &Backlog,
    options: Options,
    caller: &Caller,
) -> Result<Vec<AppliedPart>> {
    let demands = demands(manifest, options, caller);
    let (number, target) = (manifest.number, &manifest.target);
    let places = ownership::leave_out(places(manifest)?, manifest, &Copies::default(), chain)?;
    require_room(&places, target)?;
    let destinations = places.into_iter().map(|place| {
        let table = place.part.table();
        let within = format!("While looking for table \"{table}\" of batch {number} of target \"{target}\".");
        report::with_detail(&within, true, || None, || demands.resolve(place))
    });
    let destinations = destinations.collect::<Result<Vec<_>>>()?;
    let within =
        format!("While looking up whose copies the tables of batch {number} of target \"{target}\" are.");
    let claim = || ownership::claim(manifest, &destinations, options.adopt, caller);
    let are_adopted = report::with_detail(&within, true, || None, claim)?;
    fault::point(Point::ImportTablesLocked);
    destinations
        .iter()
        .zip(are_adopted)
        .map(|(destination, is_adopted)| {
            let part = &destination.part;
            let place = format!(
                "While applying batch {number} of target \"{target}\" to table \"{}\".",
                destination.shape.qualified()
            );
            let cause = || damage(store, manifest, part).map(Error::from);
            let shows_rows = destination.table.allows(caller.role(), &[Right::Select]);
            let applied = report::with_detail(&place, shows_rows, cause, || {
                let interceptors = intercept::interceptors(destination.table.oid())?;
                let files = Files::Store(store);
                let incoming =
                    Incoming { files, manifest, part, destination, interceptors, is_adopted, shows_rows };
                reader::check_columns(store, manifest, part)?;
                apply_part(&incoming, options, caller).map_err(|error| {
                    if error.is::<batch::Error>() { error } else { cause().unwrap_or(error) }
                })
            })?;
            let Destination { table, shape, .. } = destination;
            catalog::advance_copy(target, table.oid(), shape.persistence == 'u', number)?;
            remember_columns(destination, target)?;
            Ok(applied)
        })
        .collect()
}

/// Remembers which columns of a copy have received values, and warns of those whose unchanged rows may lack
/// theirs: they were added or altered here, and the source does not send unchanged rows again.
fn remember_columns(destination: &Destination, target: &str) -> Result<()> {
    let Destination { table, shape, part, .. } = destination;
    let names = part.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>();
    let Some((columns, before)) = catalog::columns_of_copy(table.oid(), &names)? else { return Ok(()) };
    let begins = part.kind.begins();
    let before = before.filter(|_| !begins);
    let stale = before.as_ref().map_or_else(Vec::new, |before| columns.stale_since(before));
    if !stale.is_empty() {
        let repair =
            format!("SELECT * FROM tx_repair({}, {});", literal(target), shape.name_for_errors().literal());
        message::warning(format!(
            "columns of table \"{}\" have been added or altered here, whose unchanged rows may lack \
             their values: {}. To have what differs written, run: {}",
            shape.qualified(),
            stale.join(", "),
            qualified(&repair)
        ));
    }
    if before.as_ref() != Some(&columns) {
        catalog::remember_columns(table.oid(), &columns, &stale, begins)?;
    }
    Ok(())
}

/// Returns the error of the damaged file of a part, if one is damaged. COPY reads the bytes of a file before
/// the hash at its end shows that they are wrong, and then raises an error about the data. After a cancel
/// nothing is read, as the store refuses to.
fn damage(store: &dyn Store, manifest: &Manifest, part: &Part) -> Option<batch::Error> {
    [reader::ids, reader::records].iter().find_map(|open| {
        let read = open(store, manifest, part).and_then(|mut file| Ok(io::copy(&mut file, &mut io::sink())?));
        read.err().filter(|error| !matches!(error, batch::Error::Store(store::Error::Interrupted { .. })))
    })
}

/// Applies a part to its table, as the owner of the table.
pub fn apply_part(incoming: &Incoming, options: Options, caller: &Caller) -> Result<AppliedPart> {
    let started = Instant::now();
    let Incoming { part, destination, is_adopted, .. } = *incoming;
    let Destination { table, shape, .. } = destination;
    // Once more: triggers of the tables before may have made others since.
    intercepted::refuse_deferrable(&incoming.interceptors, shape)?;
    let changed = caller.as_owner(table, || {
        // Where no row has to be kept, appending is the shortest way.
        let replaces_all = part.kind == Kind::Full && (part.records == 0 || !destination.has_rows()?);
        let appends = replaces_all || (matches!(options.mode, Mode::Append) && !is_adopted);
        let changed = if appends { part::append(incoming)? } else { part::merge(incoming)? };
        require_rows_left(incoming, &changed, options.delete_limit)?;
        Ok::<_, Error>(changed)
    })?;
    Ok(AppliedPart {
        table: shape.qualified(),
        kind: part.kind.name(),
        changed,
        bytes: part.bytes(),
        elapsed: started.elapsed(),
        shows_rows: incoming.shows_rows,
    })
}

/// Refuses a part that has deleted more rows of a table than the limit allows. Rows that it has inserted
/// again do not count. Counting stops at the number of rows that must remain, so the check costs no more than
/// the deletion.
fn require_rows_left(incoming: &Incoming, changed: &Changed, limit: u32) -> Result<()> {
    let shape = &incoming.destination.shape;
    let gone = changed.deleted.saturating_sub(changed.inserted);
    if gone == 0 || limit >= 100 {
        return Ok(());
    }
    let must_be_left = (gone * u64::from(100 - limit)).div_ceil(u64::from(limit.max(1)));
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT {must_be_left}) AS d",
        shape.as_from_item()
    );
    let left = query::in_transaction(&sql, &[])?.first().map_or(Ok(0), |row| row.get::<u64>(0))?;
    if left < must_be_left || limit == 0 {
        let (target, table) = (incoming.manifest.target.clone(), shape.name_for_errors());
        let function = incoming.files.function();
        return Err(RowsError::TooManyDeleted { function, target, table, deleted: gone, left, limit }.into());
    }
    Ok(())
}
