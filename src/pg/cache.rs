//! What a backend remembers about a table until PostgreSQL says that the table has changed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

thread_local! {
    static ENTRIES: RefCell<HashMap<Oid, Rc<dyn Any>>> = RefCell::new(HashMap::new());
    /// How often anything was forgotten.
    static FORGOTTEN: Cell<u64> = const { Cell::new(0) };
}

/// Starts listening to invalidations. Called once, when the library is loaded.
pub fn listen() {
    // SAFETY: the callback has the signature that inval.c calls, and never raises an error.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::null()) };
}

/// Returns what is remembered about a table, or remembers what `build` makes of it.
///
/// Locks that `build` takes bring news, which may be of this very table: then the result is good for now, and is not
/// remembered.
pub fn remember<T: 'static, E>(table: Oid, build: impl FnOnce() -> Result<T, E>) -> Result<Rc<T>, E> {
    let known = ENTRIES.with_borrow(|entries| entries.get(&table).cloned());
    if let Some(entry) = known.and_then(|entry| entry.downcast::<T>().ok()) {
        return Ok(entry);
    }
    let before = FORGOTTEN.get();
    let entry = Rc::new(build()?);
    if FORGOTTEN.get() == before {
        ENTRIES.with_borrow_mut(|entries| entries.insert(table, entry.clone()));
    }
    Ok(entry)
}

/// Says whether anything is remembered about a table: if not, there has been news of it.
pub fn remembers(table: Oid) -> bool {
    ENTRIES.with_borrow(|entries| entries.contains_key(&table))
}

/// Forgets one table, or all when PostgreSQL has lost track of what changed.
#[pg_guard]
extern "C-unwind" fn forget(_argument: Datum, table: Oid) {
    FORGOTTEN.set(FORGOTTEN.get() + 1);
    ENTRIES.with_borrow_mut(|entries| match table {
        Oid::INVALID => entries.clear(),
        table => drop(entries.remove(&table)),
    });
}
