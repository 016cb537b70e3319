//! What a user's table is, by PostgreSQL's catalog alone.
//!
//! Rule: nothing here knows of tracking, targets or batches.

pub mod ddl;
pub mod error;
pub mod key;
pub mod own;
pub mod shape;
