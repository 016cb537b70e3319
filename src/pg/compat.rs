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

/// Says whether a role may use a schema.
pub(super) fn may_use_schema(schema: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let usage = pg_sys::ACL_USAGE as pg_sys::AclMode;
    #[cfg(any(feature = "pg14", feature = "pg15"))]
    // SAFETY: the ids of a schema and of a role.
    let result = unsafe { pg_sys::pg_namespace_aclcheck(schema, role, usage) };
    #[cfg(not(any(feature = "pg14", feature = "pg15")))]
    // SAFETY: the ids of a schema and of a role.
    let result = unsafe { pg_sys::object_aclcheck(pg_sys::NamespaceRelationId, schema, role, usage) };
    result == pg_sys::AclResult::ACLCHECK_OK
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
