//! Temporary files for plain Rust code, where PostgreSQL would put its own.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use pgrx::pg_sys;

/// Opens a temporary file in one of `temp_tablespaces`. It has no name any more, so nothing has to remove it.
pub fn open() -> io::Result<File> {
    // SAFETY: inside a transaction. The file has just been opened, so its descriptor is one (fd.c).
    let (file, descriptor) = unsafe {
        pg_sys::PrepareTempTablespaces();
        let file = pg_sys::OpenTemporaryFile(false);
        (file, BorrowedFd::borrow_raw(pg_sys::FileGetRawDesc(file)))
    };
    let own = descriptor.try_clone_to_owned();
    // SAFETY: opened above. This removes its name.
    unsafe { pg_sys::FileClose(file) };
    Ok(File::from(own?))
}

/// Returns `temp_file_limit` in kB; `None` if there is no limit.
pub fn limit() -> Option<u64> {
    // SAFETY: a plain variable of the backend (guc_tables.c).
    u64::try_from(unsafe { pg_sys::temp_file_limit }).ok()
}
