//! The settings.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Where batches are published. A superuser's choice, for the whole server: whoever may call tx_export writes there.
static STORE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Makes the settings known. Called once, when the library is loaded.
pub fn define() {
    GucRegistry::define_string_guc(
        c"pg_table_export.store",
        c"Directory, or file:// URL, where batches are published and found.",
        c"Empty: the folder pg_table_export in the data directory.",
        &STORE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    );
    crate::pg::compat::reserve_settings(c"pg_table_export");
}

/// Returns `pg_table_export.store`; `None` if it is empty.
pub fn store() -> Option<String> {
    STORE.get().map(|store| store.to_string_lossy().into_owned()).filter(|store| !store.is_empty())
}
