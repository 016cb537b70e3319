//! What a backend remembers about tables until PostgreSQL says that one of them has changed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

/// A table, and a number of what is remembered of it.
type Key = (Oid, i32);

struct Entry {
    value: Rc<dyn Any>,
    /// The other table that it was made from.
    origin: Oid,
}

thread_local! {
    static ENTRIES: RefCell<BTreeMap<(u32, i32), Entry>> = const { RefCell::new(BTreeMap::new()) };
    /// How often anything was forgotten.
    static FORGOTTEN: Cell<u64> = const { Cell::new(0) };
}

/// Starts listening to invalidations. Called once, when the library is loaded.
pub fn listen() {
    // SAFETY: the callback has the signature that inval.c calls, and never raises an error.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::null()) };
}

/// Returns what is remembered about a table under a number, or remembers what `build` makes of it and of
/// another table, which it names. Without such a table the result is not remembered.
///
/// Locks that `build` takes bring news, which may be of these very tables: then the result is good for now,
/// and is not remembered either.
pub fn remember<T: 'static, E>(
    key: Key,
    build: impl FnOnce() -> Result<(T, Option<Oid>), E>,
) -> Result<Rc<T>, E> {
    let known = ENTRIES.with_borrow(|entries| entries.get(&ordered(key)).map(|entry| entry.value.clone()));
    if let Some(value) = known.and_then(|value| value.downcast::<T>().ok()) {
        return Ok(value);
    }
    let before = FORGOTTEN.get();
    let (value, origin) = build()?;
    let value = Rc::new(value);
    if let Some(origin) = origin
        && FORGOTTEN.get() == before
    {
        ENTRIES
            .with_borrow_mut(|entries| entries.insert(ordered(key), Entry { value: value.clone(), origin }));
    }
    Ok(value)
}

/// Says whether anything is remembered under a key: if not, there has been news.
pub fn remembers(key: Key) -> bool {
    ENTRIES.with_borrow(|entries| entries.contains_key(&ordered(key)))
}

fn ordered((table, number): Key) -> (u32, i32) {
    (table.to_u32(), number)
}

/// Forgets what was made from one table, or all when PostgreSQL has lost track of what changed.
#[pg_guard]
extern "C-unwind" fn forget(_argument: Datum, changed: Oid) {
    FORGOTTEN.set(FORGOTTEN.get() + 1);
    ENTRIES.with_borrow_mut(|entries| {
        entries.retain(|(table, _), entry| {
            changed != Oid::INVALID && changed.to_u32() != *table && changed != entry.origin
        });
    });
}
