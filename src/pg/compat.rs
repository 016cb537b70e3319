//! Every difference between the supported major versions.

use pgrx::pg_sys;

/// Returns a column of a descriptor, counted from 0.
///
/// # Safety
/// `column` must be below `natts`.
pub(super) unsafe fn attribute(
    descriptor: &pg_sys::TupleDescData,
    column: usize,
) -> *const pg_sys::FormData_pg_attribute {
    #[cfg(not(feature = "pg18"))]
    // SAFETY: the caller's promise.
    unsafe {
        descriptor.attrs.as_ptr().add(column)
    }
    #[cfg(feature = "pg18")]
    // SAFETY: the caller's promise; the attributes follow the compact ones (tupdesc.h, TupleDescAttr).
    unsafe {
        descriptor
            .compact_attrs
            .as_ptr()
            .add(descriptor.natts as usize)
            .cast::<pg_sys::FormData_pg_attribute>()
            .add(column)
    }
}

/// Refuses settings under our prefix that we have not defined.
pub fn reserve_settings(prefix: &std::ffi::CStr) {
    // SAFETY: a C string.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(prefix.as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(prefix.as_ptr());
    }
}
