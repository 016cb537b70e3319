//! From a write to a published batch.
//!
//! Rule: nothing here imports `destination` or `upkeep`.

pub mod error;
pub mod lost;
pub mod track;
pub mod capture;
pub mod shadow;
pub mod export;
pub mod dropped;
pub mod follow;
pub mod fork;
pub mod restriction;
pub mod prune;
pub mod verify;
pub mod resend;
pub mod health;
pub mod ddl;
