//! What works on the store, or on the extension's own tables, alone.
//!
//! Rule: nothing here imports `source` or `destination`, and only `api` imports it.

pub mod compact;
pub mod expire;
pub mod reset;
pub mod status;
