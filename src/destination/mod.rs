//! From a batch to the rows of a copy.
//!
//! Rule: nothing here imports `source` or `upkeep`.

pub mod error;
pub mod import;
pub mod plan;
mod obstacles;
pub mod chain;
mod ownership;
pub mod resolve;
mod create;
mod missing;
mod retyped;
mod arrived;
mod intercepted;
mod ranges;
pub mod apply;
mod baseline;
pub mod part;
pub mod merge;
pub mod mapping;
pub mod protect;
pub mod receipt;
pub mod pending;
pub mod verify;
pub mod repair;
pub mod health;
