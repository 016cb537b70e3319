//! Text between Rust (always UTF-8) and the server (the encoding of the database).

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use crate::pg::error::Error;

/// Turns a string of the server into one of ours.
///
/// Fails if the database is SQL_ASCII and holds bytes that are no UTF-8: a name that we cannot write into a
/// manifest.
pub fn from_server(text: &CStr) -> Result<String, Error> {
    let bytes = text.to_bytes();
    let length = bytes.len() as i32;
    // SAFETY: the pointer and the length are those of a C string; the result is that string itself, or a
    // palloc'd one in the current memory context (mbutils.c, pg_server_to_any).
    let converted = unsafe {
        CStr::from_ptr(pg_sys::pg_server_to_any(text.as_ptr(), length, pg_sys::pg_enc::PG_UTF8 as i32))
    };
    converted
        .to_str()
        .map(str::to_owned)
        .map_err(|_| Error::NotUtf8 { text: converted.to_string_lossy().into_owned() })
}

/// Turns one of our strings into one of the server, in the database's encoding.
pub fn to_server(text: &str) -> Result<CString, Error> {
    let source = CString::new(text).map_err(|_| Error::NulByte { text: text.replace('\0', "\\0") })?;
    // SAFETY: as in `from_server`; the other direction (mbutils.c, pg_any_to_server).
    let converted = unsafe {
        CStr::from_ptr(pg_sys::pg_any_to_server(
            source.as_ptr(),
            source.as_bytes().len() as i32,
            pg_sys::pg_enc::PG_UTF8 as i32,
        ))
    };
    Ok(converted.to_owned())
}

/// Says whether texts of the database may be any bytes, in no encoding.
pub fn is_none() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::GetDatabaseEncoding() as pg_sys::pg_enc::Type == pg_sys::pg_enc::PG_SQL_ASCII }
}
