//! What pg_stat_progress_copy shows of reading that no COPY does.

use pgrx::pg_sys;

use crate::pg::Oid;

/// After how many rows the view is renewed: as often as COPY does it costs more than hashing a row.
const ROWS_BETWEEN: u64 = 1000;

/// Rows that are being read for a table, as COPY FROM would show them, until this is dropped.
pub struct Progress {
    rows: u64,
    bytes: u64,
}

impl Progress {
    /// Begins, with the bytes that there are in all.
    pub fn of(table: Oid, bytes_total: u64) -> Progress {
        let set = [
            (pg_sys::PROGRESS_COPY_COMMAND, i64::from(pg_sys::PROGRESS_COPY_COMMAND_FROM)),
            (pg_sys::PROGRESS_COPY_TYPE, i64::from(pg_sys::PROGRESS_COPY_TYPE_CALLBACK)),
            (pg_sys::PROGRESS_COPY_BYTES_TOTAL, bytes_total as i64),
        ];
        // SAFETY: it writes to the backend's own entry of shared memory, in a transaction.
        unsafe {
            pg_sys::pgstat_progress_start_command(pg_sys::ProgressCommandType::PROGRESS_COMMAND_COPY, table);
        }
        set.into_iter().for_each(|(index, value)| update(index, value));
        Progress { rows: 0, bytes: 0 }
    }

    /// Counts a row of so many bytes.
    pub fn row(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes as u64;
        if self.rows.is_multiple_of(ROWS_BETWEEN) {
            update(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED, self.rows as i64);
            update(pg_sys::PROGRESS_COPY_BYTES_PROCESSED, self.bytes as i64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An abort ends it by itself (xact.c, AbortTransaction).
        if !std::thread::panicking() {
            // SAFETY: as above.
            unsafe { pg_sys::pgstat_progress_end_command() };
        }
    }
}

fn update(index: u32, value: i64) {
    // SAFETY: as above; the index is one of the view's.
    unsafe { pg_sys::pgstat_progress_update_param(index as i32, value) };
}
