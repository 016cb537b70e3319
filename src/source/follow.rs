//! Follows DDL, called by the event triggers: gives triggers to new members of tracked tables, takes them
//! from former ones, and records that DDL may have changed any row.
//!
//! Everything is read in the newest snapshot, because DDL works there at any isolation level. Nothing is
//! recorded by an UPDATE of a row that exports update as well: at REPEATABLE READ the user's DDL would fail.

use std::cell::Cell;

use crate::catalog;
use crate::catalog::error::CatalogError;
use crate::error::Result;
use crate::pg::Oid;
use crate::pg::snapshot;
use crate::source::shadow::Op;
use crate::source::shadow::record::{Recorder, Shadow};

thread_local! {
    /// This backend is creating or dropping the extension's own triggers.
    static OWN_DDL: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, DDL is the extension's own, and is not followed. No session can set it.
struct OwnDdl {
    before: bool,
}

impl OwnDdl {
    fn begin() -> OwnDdl {
        OwnDdl { before: OWN_DDL.replace(true) }
    }
}

impl Drop for OwnDdl {
    fn drop(&mut self) {
        OWN_DDL.set(self.before);
    }
}

/// Says whether the extension's own DDL is under way.
pub fn is_own_ddl() -> bool {
    OWN_DDL.get()
}

/// Creates the triggers of one member of a tracked table.
pub fn create_triggers(id: i32, relation: Oid, by_row: bool) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::create_triggers(id, relation, by_row))
}

/// Drops the triggers of all members and former members of a tracked table, or those of one.
pub fn drop_triggers(id: i32, relation: Option<Oid>) -> Result<()> {
    let _own = OwnDdl::begin();
    snapshot::latest(|| catalog::drop_triggers(id, relation))
}

/// Follows the DDL command that has just ended.
///
/// Partitions come and go, tables begin to inherit from others, subscriptions begin to write to them. Rows
/// that go need not be recorded: the witness of the next export shows that. It does not show that triggers
/// were away within one transaction, so that is recorded.
pub fn follow_command() -> Result<()> {
    let touched = snapshot::latest(catalog::touched)?;
    if !touched.is_empty() {
        follow_members(&touched)?;
    }
    let disarmed = snapshot::latest(catalog::disarmed)?;
    disarmed.into_iter().try_for_each(|(id, tracked)| record(id, tracked))
}

fn follow_members(touched: &[i32]) -> Result<()> {
    snapshot::latest(catalog::renew_keys)?;
    for stray in snapshot::latest(|| catalog::strays(touched))? {
        if stray.joins {
            create_triggers(stray.id, stray.relation, stray.by_row)?;
        } else {
            drop_triggers(stray.id, Some(stray.relation))?;
        }
        if stray.holds_rows {
            record(stray.id, stray.tracked)?;
        }
    }
    Ok(())
}

/// Records that a table is being rewritten by ALTER TABLE. VACUUM FULL and CLUSTER, which change no values,
/// fire no event trigger.
pub fn follow_rewrite() -> Result<()> {
    let rewritten = snapshot::latest(catalog::rewritten)?;
    rewritten.into_iter().try_for_each(|(id, tracked)| record(id, tracked))
}

/// Records that any row of a tracked table may have changed. Without a shadow there is nothing to record,
/// since exports are refused, and DDL need not fail.
fn record(id: i32, tracked: Oid) -> Result<()> {
    let shadow = match Shadow::of(tracked, id) {
        Err(error) if error.is::<CatalogError>() => return Ok(()),
        shadow => shadow?,
    };
    let Some(shadow) = shadow.as_ref() else { return Ok(()) };
    let mut recorder = Recorder::new(shadow);
    recorder.everything(Op::Unfit)?;
    recorder.finish()
}
