//! C functions without a guard of their own, for the work on each row.
//!
//! pgrx puts a guard (sigsetjmp) around each call into C. A row took six calls, and their guards a third of
//! the time of its capture: 320 ns with them, 220 without (DELETE of 200,000 rows). Here one guard is put
//! around a thousand rows.

use std::ffi::c_int;

use pgrx::pg_sys::{self, CommandId, Datum, HeapTuple, Relation, TupleDesc, TupleTableSlot, Tuplestorestate};

// An error in one of them jumps to the nearest guard: to be called inside [`guarded`] only.
unsafe extern "C-unwind" {
    pub(super) fn tuplestore_select_read_pointer(store: *mut Tuplestorestate, pointer: c_int);
    pub(super) fn tuplestore_rescan(store: *mut Tuplestorestate);
    pub(super) fn tuplestore_gettupleslot(
        store: *mut Tuplestorestate,
        forward: bool,
        copy: bool,
        slot: *mut TupleTableSlot,
    ) -> bool;
    pub(super) fn MakeSingleTupleTableSlot(
        descriptor: TupleDesc,
        operations: *const pg_sys::TupleTableSlotOps,
    ) -> *mut TupleTableSlot;
    pub(super) fn ExecDropSingleTupleTableSlot(slot: *mut TupleTableSlot);
    pub(super) fn ExecStoreHeapTuple(
        tuple: HeapTuple,
        slot: *mut TupleTableSlot,
        should_free: bool,
    ) -> *mut TupleTableSlot;
    pub(super) fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attnum: c_int);
    pub(super) fn CreateTupleDescCopy(descriptor: TupleDesc) -> TupleDesc;
    pub(super) fn heap_form_tuple(descriptor: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
    pub(super) fn heap_insert(
        relation: Relation,
        tuple: HeapTuple,
        command: CommandId,
        options: c_int,
        state: pg_sys::BulkInsertState,
    );
    pub(super) fn heap_multi_insert(
        relation: Relation,
        slots: *mut *mut TupleTableSlot,
        count: c_int,
        command: CommandId,
        options: c_int,
        state: pg_sys::BulkInsertState,
    );
    pub(super) fn GetCurrentCommandId(used: bool) -> CommandId;
    pub(super) fn palloc(size: usize) -> *mut std::ffi::c_void;
    pub(super) fn datumCopy(value: Datum, by_value: bool, length: c_int) -> Datum;
    pub(super) fn datum_image_eq(a: Datum, b: Datum, by_value: bool, length: c_int) -> bool;
}

/// Runs calls of C functions, whose errors become panics here, as pgrx wants them.
///
/// # Safety
///
/// When a C function is called, nothing in the closure may have a destructor to run, and the closure must not
/// panic.
pub(super) unsafe fn guarded<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: as above.
    unsafe { pg_sys::ffi::pg_guard_ffi_boundary(run) }
}
