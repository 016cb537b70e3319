//! The trigger function: appends the keys that a statement has touched to the shadow.
//!
//! It runs inside each statement that writes to a tracked table, as the role that runs the statement. It must
//! neither miss a change nor fail where the statement alone would not. It stores keys only: records are read
//! when they are exported.

use crate::error::Result;
use crate::pg::keys::CHUNK_ROWS;
use crate::pg::trigger::{Event, Firing};
use crate::source::shadow::Op;
use crate::source::shadow::record::{Recorder, Shadow};

/// Records the changes of one statement, or of one row where no statement trigger would fire.
///
/// An UPDATE that changes a key records both. Old and new rows are compared in pairs, as trigger.c stores
/// them; a pairing that is off (a trigger has taken rows out of one side) only records more: every new key is
/// recorded, and every old key that differs from the new key beside it.
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
