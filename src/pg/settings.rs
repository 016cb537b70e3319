//! Settings that hold for one call, regardless of those of the session.

use std::ffi::CStr;

use pgrx::pg_sys;

/// The settings under which values become text and text becomes values, the same at source and destination.
///
/// A superset of what pg_dump sets for the same reason (pg_dump.c, setup_connection).
const PINNED: &[(&CStr, &CStr)] = &[
    (c"array_nulls", c"on"),
    (c"bytea_output", c"hex"),
    (c"datestyle", c"ISO, YMD"),
    (c"extra_float_digits", c"3"),
    (c"intervalstyle", c"postgres"),
    // Compiling would take longer than it saves.
    (c"jit", c"off"),
    (c"lc_monetary", c"C"),
    (c"quote_all_identifiers", c"off"),
    (c"row_security", c"off"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"standard_conforming_strings", c"on"),
    (c"timezone", c"UTC"),
    (c"xmloption", c"content"),
];

/// Settings in force while this value lives.
pub struct Settings {
    level: i32,
}

/// Pins search_path and everything that decides how values look as text.
pub fn pin() -> Settings {
    pin_to(PINNED)
}

/// Makes the client's encoding UTF-8, which COPY's option leaves alone in format binary: there the send and
/// receive functions of types convert, to and from the client's encoding (pqformat.c).
pub fn pin_client_encoding() -> Settings {
    pin_to(&[(c"client_encoding", c"UTF8")])
}

/// Makes a join look up rows one by one where it can: the planner assumes that each look-up by ctid reads
/// another page.
pub fn pin_nested_loops() -> Settings {
    pin_to(&[(c"enable_hashjoin", c"off"), (c"enable_mergejoin", c"off")])
}

/// Makes DDL fire the event triggers that it fires for everybody, though rows are written as a replica's.
pub fn pin_origin_role() -> Settings {
    pin_to(&[(c"session_replication_role", c"origin")])
}

/// Makes new tables go to the default tablespace of the database.
pub fn pin_tablespace() -> Settings {
    pin_to(&[(c"default_tablespace", c"")])
}

fn pin_to(values: &[(&CStr, &CStr)]) -> Settings {
    // SAFETY: opens a nest level; `Drop` or the abort of the transaction closes it (guc.c).
    let settings = Settings { level: unsafe { pg_sys::NewGUCNestLevel() } };
    for &(name, value) in values {
        settings.set(name, value);
    }
    settings
}

impl Settings {
    /// Writes rows as logical replication does: foreign keys are not checked again, and the destination's
    /// triggers fire only if they are ENABLE REPLICA or ENABLE ALWAYS.
    pub fn replica_role(&self) {
        self.set(c"session_replication_role", c"replica");
    }

    fn set(&self, name: &CStr, value: &CStr) {
        // SAFETY: C strings; an error is raised for a value that is not allowed.
        unsafe {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            )
        };
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level opened by `pin_to`.
            unsafe { pg_sys::AtEOXact_GUC(false, self.level) };
        }
    }
}

/// Returns `maintenance_work_mem` in bytes.
pub fn maintenance_memory() -> u64 {
    // SAFETY: a plain variable of the backend, in kB (guc_tables.c).
    u64::from(unsafe { pg_sys::maintenance_work_mem }.unsigned_abs()) << 10
}
