//! Maintenance of the store and of the extension's own tables; the tables of users are not read or written.
//!
//! Rule: nothing here imports `source` or `destination`, and only `api` imports it.

pub mod compact;
pub mod error;
pub mod expire;
pub mod reset;
pub mod status;
