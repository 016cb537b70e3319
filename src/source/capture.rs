//! The trigger function: finds the keys that a statement has changed.
//!
//! It gives them to a [`Recorder`] (`src/source/shadow/record.rs`), which appends them to the shadow. It
//! stores keys only: an export reads the rows.
//!
//! It runs inside each statement that writes to a tracked table, as the role that runs the statement. It must
//! not miss a change. It must not make a statement fail that would otherwise succeed.

use crate::error::Result;
use crate::pg::keys::CHUNK_ROWS;
use crate::pg::trigger::{Event, Firing};
use crate::source::shadow::Op;
use crate::source::shadow::record::{Recorder, Shadow};

/// Records the changes of one statement, or of one row where no statement trigger would fire.
///
/// An UPDATE records each new key, and each old key that differs from the new key beside it. trigger.c stores
/// the old and the new rows in the same order, so they are compared in pairs. A trigger may have removed rows
/// from one side. Then the pairs are wrong, and more keys are recorded, never fewer.
pub fn capture(firing: &Firing) -> Result<()> {
    let shadow = Shadow::of(firing.table(), firing.argument()?)?;
    let Some(shadow) = shadow.as_ref() else { return Ok(()) };
    let mut recorder = Recorder::new(shadow);
    if firing.event() == Event::Truncate {
        recorder.everything(Op::Truncate)?;
    } else if !shadow.fits() {
        recorder.everything(Op::Unfit)?;
    } else {
        record_keys(firing, shadow, &mut recorder)?;
    }
    recorder.finish()
}

fn record_keys(firing: &Firing, shadow: &Shadow, recorder: &mut Recorder) -> Result<()> {
    let (mut old_rows, mut new_rows) = (firing.old_rows(shadow.key()), firing.new_rows(shadow.key()));
    loop {
        let (old, new) = (old_rows.read(), new_rows.read());
        let rows = old.len().max(new.len());
        for row in 0..rows {
            match (old.get(row), new.get(row)) {
                (None, None) => {}
                (Some(old), None) => recorder.change(Op::Delete, old)?,
                (None, Some(new)) => recorder.change(Op::Insert, new)?,
                (Some(_), Some(key)) if old.same(new, row) => recorder.change(Op::Update, key)?,
                (Some(old), Some(new)) => {
                    recorder.change(Op::Delete, old)?;
                    recorder.change(Op::Insert, new)?;
                }
            }
        }
        recorder.write();
        if rows < CHUNK_ROWS {
            return Ok(());
        }
    }
}
