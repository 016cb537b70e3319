//! Whose rights the code that runs has.
//!
//! Three roles take part: the caller, whose rights are checked; the owner of the extension, who reads and
//! writes our own tables; the owner of a user's table, as whom that table is read and written, so that code
//! attached to it (triggers, expressions of indexes, policies) never gains the rights of the caller.

use std::ffi::CStr;

use pgrx::pg_sys::{self, Oid};

use crate::pg::encoding;
use crate::pg::error::Error;
use crate::pg::table::Table;

/// A change of the current user that ends when this value is dropped, and with it every setting that was
/// changed meanwhile: code of that user must not decide what search_path our own queries run with.
struct ActingAs {
    user: Oid,
    context: i32,
    level: i32,
}

/// The role that has called one of our functions. While this value lives, the owner of the extension is the
/// current user.
pub struct Caller {
    role: Oid,
    _acting: ActingAs,
}

impl Caller {
    /// Remembers the current user, and acts as the owner of the extension.
    pub fn enter() -> Result<Caller, Error> {
        // SAFETY: inside a transaction.
        let role = unsafe { pg_sys::GetUserId() };
        let _acting = switch(extension_owner()?, pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        Ok(Caller { role, _acting })
    }

    /// Returns the role that has called.
    pub fn role(&self) -> Oid {
        self.role
    }

    /// Returns the name of the role that has called.
    pub fn name(&self) -> Result<String, Error> {
        name(self.role)
    }

    /// Says whether the caller has the rights of a table's owner.
    pub fn owns(&self, table: &Table) -> bool {
        self.has_rights_of(table.owner())
    }

    /// Says whether the caller has the rights of the owner of the extension.
    pub fn is_extension_owner(&self) -> bool {
        // SAFETY: inside a transaction; the owner of the extension is the current user while `self` lives.
        self.has_rights_of(unsafe { pg_sys::GetUserId() })
    }

    /// Says whether the caller has the rights of a role given by name, say `pg_write_server_files`.
    pub fn has_role(&self, role: &CStr) -> bool {
        // SAFETY: a C string; an unknown role is an error.
        self.has_rights_of(unsafe { pg_sys::get_role_oid(role.as_ptr(), false) })
    }

    /// Runs a closure as the caller.
    pub fn as_caller<T>(&self, run: impl FnOnce() -> T) -> T {
        let _acting = switch(self.role, pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        run()
    }

    /// Runs a closure as the owner of a user's table.
    ///
    /// An owner that may not SET ROLE to the caller is confined to a security-restricted operation, as in
    /// REINDEX or in logical replication (usercontext.c, SwitchToUntrustedUser).
    pub fn as_owner<T>(&self, table: &Table, run: impl FnOnce() -> T) -> T {
        self.as_role(table.owner(), run)
    }

    /// Runs a closure as a role: that of the owner of a table that is not open, as DDL needs it.
    pub fn as_role<T>(&self, owner: Oid, run: impl FnOnce() -> T) -> T {
        // SAFETY: both are ids of roles.
        let trusted = unsafe { pg_sys::has_privs_of_role(owner, self.role) };
        let flag = if trusted {
            pg_sys::SECURITY_LOCAL_USERID_CHANGE
        } else {
            pg_sys::SECURITY_RESTRICTED_OPERATION
        };
        let _acting = switch(owner, flag as i32);
        run()
    }

    /// Says whether the caller has the rights of a role.
    pub fn has_rights_of(&self, role: Oid) -> bool {
        // SAFETY: both are ids of roles.
        unsafe { pg_sys::has_privs_of_role(self.role, role) }
    }
}

fn switch(user: Oid, flag: i32) -> ActingAs {
    // SAFETY: opens a nest level; `Drop` or the abort of the transaction closes it (guc.c).
    let level = unsafe { pg_sys::NewGUCNestLevel() };
    let mut before = ActingAs { user: Oid::INVALID, context: 0, level };
    // SAFETY: writes both fields; an abort of the (sub)transaction restores them as well (xact.c).
    unsafe {
        pg_sys::GetUserIdAndSecContext(&raw mut before.user, &raw mut before.context);
        pg_sys::SetUserIdAndSecContext(user, before.context | flag);
    }
    before
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level that `switch` opened, and the pair that it read.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::SetUserIdAndSecContext(self.user, self.context);
            }
        }
    }
}

/// Returns the name of a role.
pub fn name(role: Oid) -> Result<String, Error> {
    // SAFETY: a palloc'd string; an unknown role is an error.
    encoding::from_server(unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(role, false)) })
}

/// Returns the owner of the extension.
pub fn extension_owner() -> Result<Oid, Error> {
    // SAFETY: a C string; missing_ok, so InvalidOid if there is no such schema.
    let schema = unsafe { pg_sys::get_namespace_oid(super::SCHEMA.as_ptr(), true) };
    // SAFETY: a syscache look-up by the oid of the schema, released again; the struct is read while it is
    // pinned.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::NAMESPACEOID as i32;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(schema));
        if tuple.is_null() {
            return Err(Error::Internal("schema \"table_export\" does not exist".into()));
        }
        let owner = (*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_namespace>()).nspowner;
        pg_sys::ReleaseSysCache(tuple);
        Ok(owner)
    }
}
