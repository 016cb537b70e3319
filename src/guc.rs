//! The settings.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Where batches are published. A superuser's choice, for the whole server: whoever may call tx_export writes there.
static STORE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// How large a table's shadow may grow for targets that stay away, in MB; -1 for any size. Beyond it, 10 GB of keys by
/// default, most of the table would be sent anyway.
static SHADOW_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(10 * 1024);

/// How many batches of a target can be made up for, should they get lost.
static REPLAY_BATCHES: GucSetting<i32> = GucSetting::<i32>::new(0);

/// How many of a copy's rows may go with one batch, in percent.
static DELETE_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(100);

/// Whether imports leave a receipt in the store.
static LEAVE_RECEIPTS: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Whether an import whose next batch is gone begins again with the latest full one.
static RESTART_WHEN_BEHIND: GucSetting<bool> = GucSetting::<bool>::new(false);

/// Makes the settings known. Called once, when the library is loaded.
pub fn define() {
    GucRegistry::define_string_guc(
        c"pg_table_export.store",
        c"Directory, or URL, where batches are published and found.",
        c"Empty: the folder pg_table_export in the data directory.",
        &STORE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_int_guc(
        c"pg_table_export.shadow_limit",
        c"Size of a table's shadow beyond which targets that hold it back are sent the table in full instead.",
        c"-1: no limit.",
        &SHADOW_LIMIT,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MB,
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
    crate::pg::compat::reserve_settings(c"pg_table_export");
}

/// Returns `pg_table_export.store`; `None` if it is empty.
pub fn store() -> Option<String> {
    STORE.get().map(|store| store.to_string_lossy().into_owned()).filter(|store| !store.is_empty())
}

/// Returns `pg_table_export.shadow_limit` in bytes; `None` if there is none.
pub fn shadow_limit() -> Option<i64> {
    u32::try_from(SHADOW_LIMIT.get()).ok().map(|megabytes| i64::from(megabytes) << 20)
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
