//! From a write to a published batch.
//!
//! Rule: nothing here imports `destination` or `upkeep`.

pub mod capture;
pub mod ddl;
pub mod export;
pub mod fork;
pub mod prune;
pub mod restriction;
pub mod shadow;
pub mod track;
