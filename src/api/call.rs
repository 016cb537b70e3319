//! How a call of an SQL function begins: its checks, its user, its settings, and its store.
//!
//! Invariant: while a [`Call`] lives, the current user is the owner of the extension and the settings are
//! pinned. What the role that called may do is checked against [`Caller`].

use std::ffi::CStr;
use std::sync::Arc;

use store::Store;

use crate::api::error::CallError;
use crate::error::Result;
use crate::guc;
use crate::pg::functions::learn_schema;
use crate::pg::settings::Settings;
use crate::pg::user::Caller;
use crate::pg::{interrupts, settings, transaction};

/// One call of an SQL function.
///
/// The order of the fields matters, because they are dropped in it: `settings` must come first. Both close a
/// nest level of settings (guc.c), and the level of `settings` is inside the level of `caller`.
pub struct Call {
    settings: Settings,
    pub caller: Caller,
}

impl Call {
    /// Begins a call of a function that may run anywhere, even on a standby or in a read-only transaction.
    pub fn enter() -> Result<Call> {
        let caller = Caller::enter()?;
        let settings = settings::pin();
        learn_schema()?;
        Ok(Call { settings, caller })
    }

    /// Begins a call of a function that writes to the database; refuses a standby and a read-only
    /// transaction. `function` is the function's name in the error message.
    pub fn writable(function: &'static str) -> Result<Call> {
        transaction::require_writable(function)?;
        Call::enter()
    }

    /// Begins a call of a function that imports: like [`Call::writable`], and rows are written as logical
    /// replication writes them.
    pub fn importing(function: &'static str) -> Result<Call> {
        let call = Call::writable(function)?;
        call.settings.replica_role();
        Ok(call)
    }

    /// Opens a store to read from: the one at `location`, or the configured one. The caller must have the
    /// rights of `pg_read_server_files` to name another store than the configured one.
    pub fn store_to_read(&self, location: Option<&str>) -> Result<Arc<dyn Store>> {
        self.open_store(location, c"pg_read_server_files")
    }

    /// Opens a store to write to: like [`Call::store_to_read`], but with `pg_write_server_files`.
    pub fn store_to_write(&self, location: Option<&str>) -> Result<Arc<dyn Store>> {
        self.open_store(location, c"pg_write_server_files")
    }

    fn open_store(&self, location: Option<&str>, role: &'static CStr) -> Result<Arc<dyn Store>> {
        let configured = guc::store();
        let named = location.filter(|&location| configured.as_deref() != Some(location));
        named.map_or(Ok(()), store::refuse_secrets)?;
        if let Some(location) = named
            && !self.caller.has_role(role)
        {
            return Err(CallError::StoreNotAllowed {
                location: location.to_owned(),
                role: role.to_str().unwrap_or_default(),
            }
            .into());
        }
        let store = match named.map(str::to_owned).or(configured) {
            Some(location) => store::open(&location, interrupts::pending)?,
            None => default_store()?,
        };
        Ok(match guc::max_rate() {
            Some(rate) => store::limited(store, rate, interrupts::pending),
            None => store,
        })
    }
}

/// Opens the default store, and makes its folders if they are missing.
fn default_store() -> Result<Arc<dyn Store>> {
    let [folder, inner] = guc::DEFAULT_STORE;
    let folder = transaction::data_directory().join(folder);
    store::create(&folder, interrupts::pending)?;
    Ok(store::create(&folder.join(inner), interrupts::pending)?)
}
