//! The only folder that touches PostgreSQL's C interface, and the only place with `unsafe`.
//!
//! Every type here is a guard over something the backend lends (a relation, a slot, a user id): made by a
//! safe function, given back by `Drop`. Three rules hold in all of them. Memory and resources belong to the
//! current transaction, so a `Drop` that runs while a PostgreSQL error unwinds does nothing: the abort gives
//! them back. Locks are kept to the end of the transaction. Nothing here knows what a shadow or a batch is.

pub mod cache;
pub mod commands;
pub mod compat;
pub mod convert;
pub mod copy;
pub mod described;
pub mod encoding;
pub mod error;
pub mod functions;
pub mod heap_insert;
pub mod indexes;
pub mod installed;
pub mod interrupts;
pub mod keys;
pub mod lock;
pub mod message;
pub mod progress;
pub mod query;
pub mod relatives;
pub mod report;
pub mod scan;
pub mod scratch;
pub mod settings;
pub mod snapshot;
pub mod staged;
pub mod table;
pub mod text;
pub mod transaction;
pub mod trigger;
mod unguarded;
pub mod user;
pub mod view;
pub mod written;

pub use error::Error;
pub use pgrx::pg_sys::{Datum, INT4OID, INT8OID, Oid};

/// The schema of the extension's own tables. Its owner is the owner of the extension.
pub const SCHEMA: &std::ffi::CStr = c"table_export";
