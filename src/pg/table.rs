//! Tables: locks that last to the end of the transaction, and what the relation cache knows.

use std::ffi::CStr;

use pgrx::IntoDatum;
use pgrx::pg_sys::{self, Oid};

use crate::pg::error::Error;
use crate::pg::keys::Column;
use crate::pg::{compat, encoding};

unsafe extern "C-unwind" {
    /// Not among the headers that pgrx binds (catalog/pg_inherits.h).
    fn find_all_inheritors(
        parent: Oid,
        lock_mode: pg_sys::LOCKMODE,
        parent_counts: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// The lock modes that we use, by what they are for (lockdefs.h).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// ACCESS SHARE: keeps TRUNCATE and DROP away from a reader.
    Read,
    /// ROW EXCLUSIVE: a writer.
    Write,
    /// SHARE UPDATE EXCLUSIVE: keeps away who takes it as well, as VACUUM does, and no writer.
    ShareUpdateExclusive,
    /// SHARE ROW EXCLUSIVE: keeps writers away, as CREATE TRIGGER does.
    Alter,
    /// ACCESS EXCLUSIVE: keeps everybody away.
    Exclusive,
}

impl Lock {
    pub(super) fn mode(self) -> i32 {
        let mode = match self {
            Lock::Read => pg_sys::AccessShareLock,
            Lock::Write => pg_sys::RowExclusiveLock,
            Lock::ShareUpdateExclusive => pg_sys::ShareUpdateExclusiveLock,
            Lock::Alter => pg_sys::ShareRowExclusiveLock,
            Lock::Exclusive => pg_sys::AccessExclusiveLock,
        };
        mode as i32
    }
}

/// An open table. Closing it keeps its lock.
pub struct Table {
    relation: pg_sys::Relation,
}

impl Table {
    /// Locks and opens a table, which need not exist any more.
    pub fn open(oid: Oid, lock: Lock) -> Option<Table> {
        // SAFETY: null if there is no such relation (relation.c, try_relation_open).
        let relation = unsafe { pg_sys::try_relation_open(oid, lock.mode()) };
        (!relation.is_null()).then(|| Table { relation })
    }

    /// Locks and opens a table if no conflicting lock is held.
    pub fn open_if_free(oid: Oid, lock: Lock) -> Option<Table> {
        // SAFETY: any oid may be locked; the lock is released at the end of the transaction.
        let free = unsafe { pg_sys::ConditionalLockRelationOid(oid, lock.mode()) };
        if free { Table::open(oid, lock) } else { None }
    }

    /// Returns the oid.
    pub fn oid(&self) -> Oid {
        // SAFETY: open.
        unsafe { (*self.relation).rd_id }
    }

    /// Returns the owner.
    pub fn owner(&self) -> Oid {
        // SAFETY: open.
        unsafe { (*(*self.relation).rd_rel).relowner }
    }

    /// Returns the name of the owner.
    pub fn owner_name(&self) -> Result<String, Error> {
        // SAFETY: a palloc'd string; an unknown role is an error.
        encoding::from_server(unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(self.owner(), false)) })
    }

    /// Says whether the table is the root of partitions.
    pub fn is_partitioned(&self) -> bool {
        // SAFETY: open.
        unsafe { (*(*self.relation).rd_rel).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE }
    }

    /// Says whether a page of the table's has ever been written, since it was emptied last. Its file is not
    /// opened: a backend keeps a thousand files open at most, and to look at more it would close and open one
    /// each time.
    pub fn has_pages(&self) -> bool {
        let path = || {
            // SAFETY: a function of SQL, with arguments of its types (dbsize.c).
            unsafe {
                pgrx::direct_function_call::<String>(pg_sys::pg_relation_filepath, &[self.oid().into_datum()])
            }
        };
        let is_empty = |path: String| std::fs::metadata(path).is_ok_and(|file| file.len() == 0);
        // Only what has storage has pages.
        self.kind() == pg_sys::RELKIND_RELATION && !path().is_some_and(is_empty)
    }

    /// Says whether it is a logged heap, and has neither indexes, rules, triggers nor row security. It may
    /// deny that of a table that has had one.
    pub fn is_bare(&self) -> bool {
        // SAFETY: open.
        let row = unsafe { &*(*self.relation).rd_rel };
        row.relkind as u8 == pg_sys::RELKIND_RELATION
            && row.relpersistence as u8 == pg_sys::RELPERSISTENCE_PERMANENT
            && row.relam == pg_sys::HEAP_TABLE_AM_OID
            && !(row.relhasindex || row.relhasrules || row.relhastriggers || row.relrowsecurity)
    }

    fn kind(&self) -> u8 {
        // SAFETY: open.
        unsafe { (*(*self.relation).rd_rel).relkind as u8 }
    }

    /// Says whether the transaction is known to have created it: 0 is no subtransaction (rel.h).
    pub fn is_of_this_transaction(&self) -> bool {
        // SAFETY: open.
        unsafe { (*self.relation).rd_createSubid != 0 }
    }

    /// Says whether it is a view.
    pub fn is_view(&self) -> bool {
        self.kind() == pg_sys::RELKIND_VIEW
    }

    /// Says whether other tables inherit from it, or did.
    pub fn has_children(&self) -> bool {
        // SAFETY: open.
        unsafe { (*(*self.relation).rd_rel).relhassubclass }
    }

    /// Returns it as PostgreSQL's functions take it.
    pub(super) fn as_ptr(&self) -> pg_sys::Relation {
        self.relation
    }

    /// Says whether a user has all of the given rights on the whole table.
    pub fn allows(&self, user: Oid, rights: &[Right]) -> bool {
        rights.iter().all(|right| {
            // SAFETY: an open table and the id of a role.
            let result = unsafe { pg_sys::pg_class_aclcheck(self.oid(), user, right.bits()) };
            result == pg_sys::AclResult::ACLCHECK_OK
        })
    }

    /// Returns the name of the table's schema if its owner may not use that.
    pub fn schema_closed_to_owner(&self) -> Result<Option<String>, Error> {
        // SAFETY: open.
        let schema = unsafe { (*(*self.relation).rd_rel).relnamespace };
        if compat::may_use_schema(schema, self.owner()) {
            return Ok(None);
        }
        // SAFETY: the id of a schema; a palloc'd string, or null (lsyscache.c).
        let name = unsafe { pg_sys::get_namespace_name(schema) };
        // SAFETY: a C string.
        (!name.is_null()).then(|| encoding::from_server(unsafe { CStr::from_ptr(name) })).transpose()
    }

    /// Says whether row security would hide rows of the table from a user.
    pub fn hides_rows_from(&self, user: Oid) -> bool {
        // SAFETY: an open table and the id of a role; noError, so it only answers (rls.c).
        let status = unsafe { pg_sys::check_enable_rls(self.oid(), user, true) };
        status == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
    }

    /// Returns the number of the column with the given name; `None` if there is none.
    pub fn column(&self, name: &str) -> Result<Option<i16>, Error> {
        let name = encoding::to_server(name)?;
        // SAFETY: an open table and a C string; 0 if there is no such column (lsyscache.c).
        let attnum = unsafe { pg_sys::get_attnum(self.oid(), name.as_ptr()) };
        Ok((attnum > 0).then_some(attnum))
    }

    /// Returns the type of a column, domains taken to what they are over; `None` if there is no such column.
    pub fn base_type(&self, attnum: i16) -> Option<Oid> {
        self.attribute(attnum).map(|attribute| {
            // SAFETY: the oid of a type (lsyscache.c).
            unsafe { pg_sys::getBaseType(attribute.atttypid) }
        })
    }

    /// Returns a column, and how its values are stored; `None` if there is no such column.
    pub fn column_storage(&self, attnum: i16) -> Option<Column> {
        let column = |attribute: &pg_sys::FormData_pg_attribute| Column {
            attnum,
            by_value: attribute.attbyval,
            length: attribute.attlen,
        };
        self.attribute(attnum).map(column)
    }

    /// Returns the default btree operator class of a column's type; 0 if it has none.
    pub fn default_operator_class(&self, attnum: i16) -> Oid {
        let type_oid = self.attribute(attnum).map_or(Oid::INVALID, |attribute| attribute.atttypid);
        // SAFETY: the oid of a type, or 0, which has no operator class (indexcmds.c).
        unsafe { pg_sys::GetDefaultOpClass(type_oid, pg_sys::BTREE_AM_OID) }
    }

    fn attribute(&self, attnum: i16) -> Option<&pg_sys::FormData_pg_attribute> {
        // SAFETY: open; the descriptor lives as long as the table is open.
        let descriptor = unsafe { &*(*self.relation).rd_att };
        let exists = attnum >= 1 && i32::from(attnum) <= descriptor.natts;
        // SAFETY: within the descriptor.
        let attribute = exists.then(|| unsafe { &*compat::attribute(descriptor, attnum as usize - 1) });
        attribute.filter(|attribute| !attribute.attisdropped)
    }

    pub(super) fn relation(&self) -> pg_sys::Relation {
        self.relation
    }

    pub(super) fn descriptor(&self) -> pg_sys::TupleDesc {
        // SAFETY: open.
        unsafe { (*self.relation).rd_att }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: open; no lock is released.
            unsafe { pg_sys::relation_close(self.relation, pg_sys::NoLock as i32) };
        }
    }
}

/// What a caller may be asked to hold on a table (acl.h).
#[derive(Clone, Copy)]
pub enum Right {
    /// SELECT
    Select,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
}

impl Right {
    fn bits(self) -> pg_sys::AclMode {
        let bits = match self {
            Right::Select => pg_sys::ACL_SELECT,
            Right::Insert => pg_sys::ACL_INSERT,
            Right::Update => pg_sys::ACL_UPDATE,
            Right::Delete => pg_sys::ACL_DELETE,
        };
        bits as pg_sys::AclMode
    }
}

/// Returns a table and all that inherit from it, partitions included, at any depth.
pub fn with_descendants(table: Oid) -> Vec<Oid> {
    inheritors(table, pg_sys::NoLock as i32)
}

/// Locks all that inherit from a table, in the order in which PostgreSQL does, and returns them with the
/// table itself, which must be locked already.
pub fn lock_with_descendants(table: Oid, lock: Lock) -> Vec<Oid> {
    inheritors(table, lock.mode())
}

fn inheritors(table: Oid, lock_mode: pg_sys::LOCKMODE) -> Vec<Oid> {
    #[expect(ffi_unwind_calls, reason = "called inside pg_guard_ffi_boundary")]
    // SAFETY: a null pointer asks for no counts (pg_inherits.c).
    let find = || unsafe { find_all_inheritors(table, lock_mode, std::ptr::null_mut()) };
    // SAFETY: nothing in the closure is dropped; the list lives in the current memory context, and holds
    // oids.
    unsafe { pgrx::PgList::<Oid>::from_pg(pg_sys::ffi::pg_guard_ffi_boundary(find)).iter_oid().collect() }
}

/// Returns the name of a column; `None` if there is none with that number.
pub fn column_name(table: Oid, attnum: i16) -> Result<Option<String>, Error> {
    // SAFETY: missing_ok, so null or a palloc'd string (lsyscache.c).
    let name = unsafe { pg_sys::get_attname(table, attnum, true) };
    // SAFETY: not null, so a C string.
    (!name.is_null()).then(|| encoding::from_server(unsafe { CStr::from_ptr(name) })).transpose()
}

/// Finds a relation by a name in UTF-8; `None` if there is none.
pub fn find_named(schema: &str, name: &str) -> Result<Option<Oid>, Error> {
    Ok(find(&encoding::to_server(schema)?, &encoding::to_server(name)?))
}

/// Finds a relation by name; `None` if there is none.
pub fn find(schema: &CStr, name: &CStr) -> Option<Oid> {
    // SAFETY: C strings; missing_ok, so InvalidOid if there is no such schema or relation.
    let oid =
        unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(schema.as_ptr(), true)) };
    (oid != Oid::INVALID).then_some(oid)
}
