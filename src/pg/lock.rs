//! Locks on a name, which last to the end of the transaction.

use pgrx::pg_sys::{self, LockAcquireResult, LockTagType, Oid};

/// A lock on a number within one of our own tables. It is a lock on an object (lmgr.c, LockDatabaseObject),
/// not an advisory lock: no function of SQL takes it.
pub struct NameLock {
    /// The table.
    pub class: Oid,
    /// The two parts of the number, as `objid` and `objsubid` in pg_locks show them.
    pub object: u32,
    pub part: u16,
}

impl NameLock {
    /// Makes a lock of a hash. pg_locks shows `part` as a signed number, which is never negative here.
    pub fn new(class: Oid, hash: i64) -> NameLock {
        NameLock { class, object: hash as u32, part: (hash >> 32) as u16 & 0x7fff }
    }

    /// Takes the lock until the end of the transaction, and says whether it was free. It assigns no
    /// transaction id.
    pub fn take_if_free(&self) -> bool {
        let tag = pg_sys::LOCKTAG {
            // SAFETY: a plain variable of the backend.
            locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
            locktag_field2: self.class.to_u32(),
            locktag_field3: self.object,
            locktag_field4: self.part,
            locktag_type: LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        let mode = pg_sys::ExclusiveLock as i32;
        // SAFETY: a complete tag; not for the session, and without waiting (lock.c).
        let result = unsafe { pg_sys::LockAcquire(&raw const tag, mode, false, true) };
        result != LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
