//! From a batch to the rows of a copy.
//!
//! Rule: nothing here imports `source` or `upkeep`.

pub mod apply;
pub mod import;
pub mod mapping;
pub mod merge;
pub mod pending;
pub mod protect;
pub mod receipt;
pub mod resolve;
