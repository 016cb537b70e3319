//! The settings of the extension: what PostgreSQL is told about them, and their values as the code uses them.
//!
//! Invariant: PostgreSQL refuses values out of range, so a value that is read here is valid.

use std::ffi::CString;
use std::num::NonZeroU64;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::pg::transaction::data_directory;

/// Where batches are published. Only a superuser sets it, for the whole server, because every role that may
/// call tx_export writes there.
static STORE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// How large a table's shadow may grow, in kB, for targets that still need it; -1 for any size. Beyond the
/// default, 10 GB of keys, an export would send most of the table anyway.
static SHADOW_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(10 * 1024 * 1024);

/// How many of a target's latest batches can be exported again if they are lost.
static REPLAY_BATCHES: GucSetting<i32> = GucSetting::<i32>::new(0);

/// How many of a table's rows one batch may delete, in percent.
static DELETE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(100);

/// Whether imports write a receipt to the store.
static LEAVE_RECEIPTS: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Whether an import starts again from the latest full batch if its next batch is gone from the store.
static RESTART_WHEN_BEHIND: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Whether this database may publish batches: off in copies of a database that publishes.
static PUBLISH: GucSetting<bool> = GucSetting::<bool>::new(true);

/// How fast one call reads and writes the files of batches, in kB per second; 0 for any speed.
static MAX_RATE: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Defines the settings. Must be called once, when a backend loads the library.
pub fn define() {
    define_settings_of_both();
    define_settings_of_sources();
    define_settings_of_destinations();
    crate::pg::compat::reserve_settings(c"pg_table_export");
}

/// Defines what both sides use.
fn define_settings_of_both() {
    GucRegistry::define_string_guc(
        c"pg_table_export.store",
        c"Directory, or URL, where batches are published and found.",
        c"Empty: the folder pg_table_export in the data directory.",
        &STORE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"pg_table_export.max_rate",
        c"Number of kB per second that a call reads and writes of the files of batches, on average.",
        c"0: no limit.",
        &MAX_RATE,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
}

/// Defines what sources use.
fn define_settings_of_sources() {
    GucRegistry::define_int_guc(
        c"pg_table_export.shadow_limit",
        c"Size of a table's shadow beyond which targets that still need it are sent the table in full instead.",
        c"-1: no limit.",
        &SHADOW_LIMIT,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"pg_table_export.replay_batches",
        c"Number of batches of each target for which changes are kept, so that they can be sent once more.",
        c"See the argument since of tx_export(). 0: changes go when they have been exported.",
        &REPLAY_BATCHES,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"pg_table_export.publish",
        c"Lets this database publish batches, and take targets over.",
        c"Off: for a copy of a database that publishes.",
        &PUBLISH,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

/// Defines what destinations use.
fn define_settings_of_destinations() {
    GucRegistry::define_int_guc(
        c"pg_table_export.delete_limit",
        c"Share of a table's rows, in percent, that an import may delete with one batch.",
        c"100: all of them.",
        &DELETE_LIMIT,
        0,
        100,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"pg_table_export.leave_receipts",
        c"Says in the store which batch this database has applied.",
        c"Each import then writes to the store, after the one that it tells of has committed.",
        &LEAVE_RECEIPTS,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_bool_guc(
        c"pg_table_export.restart_when_behind",
        c"Lets an import whose next batch is gone from the store begin again with the latest full batch.",
        c"Off: it is refused.",
        &RESTART_WHEN_BEHIND,
        GucContext::Userset,
        GucFlags::empty(),
    );
}

/// Returns `pg_table_export.store`; `None` if it is empty.
pub fn store() -> Option<String> {
    STORE.get().map(|store| store.to_string_lossy().into_owned()).filter(|store| !store.is_empty())
}

/// Returns `pg_table_export.max_rate` in bytes per second; `None` if there is no limit.
pub fn max_rate() -> Option<NonZeroU64> {
    NonZeroU64::new(u64::from(MAX_RATE.get().unsigned_abs()) << 10)
}

/// Where the default store is, below the data directory.
///
/// The name of its inner folder tells pg_basebackup to leave it out (basebackup.c, sendDir), for two reasons:
/// the paths of batches are too long for a tar header of PostgreSQL, and a restored database would not know
/// the batches that were exported after its backup.
pub const DEFAULT_STORE: [&str; 2] = ["pg_table_export", "pgsql_tmp.store"];

/// Returns the store that the next call takes if it names none: that of the last batch, unless the settings
/// have been loaded since. A call that has named another one is followed by others that do.
pub fn next_store(last: &str, is_before_settings: bool) -> String {
    if !is_before_settings {
        return last.to_owned();
    }
    let default = || format!("file://{}/{}", data_directory().display(), DEFAULT_STORE.join("/"));
    store().unwrap_or_else(default)
}

/// Says whether a store that does not exist is the default one, which the next call makes.
pub fn is_made_by_next_call(url: &str) -> bool {
    store().is_none() && is_same_store(url, &next_store("", true))
}

/// Says whether two stores are one: the default store is the same wherever the data directory is.
pub fn is_same_store(one: &str, other: &str) -> bool {
    let default = format!("/{}", DEFAULT_STORE.join("/"));
    one == other || (one.ends_with(&default) && other.ends_with(&default))
}

/// Returns `pg_table_export.shadow_limit` in bytes; `None` if there is no limit.
pub fn shadow_limit() -> Option<i64> {
    u32::try_from(SHADOW_LIMIT.get()).ok().map(|kilobytes| i64::from(kilobytes) << 10)
}

/// Returns `pg_table_export.replay_batches`.
pub fn replay_batches() -> i32 {
    REPLAY_BATCHES.get()
}

/// Returns `pg_table_export.delete_limit`, in percent.
pub fn delete_limit() -> u32 {
    DELETE_LIMIT.get().unsigned_abs()
}

/// Returns `pg_table_export.leave_receipts`.
pub fn leave_receipts() -> bool {
    LEAVE_RECEIPTS.get()
}

/// Returns `pg_table_export.restart_when_behind`.
pub fn restart_when_behind() -> bool {
    RESTART_WHEN_BEHIND.get()
}

/// Returns `pg_table_export.publish`.
pub fn may_publish() -> bool {
    PUBLISH.get()
}
