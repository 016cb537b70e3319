//! What a user's table is, by PostgreSQL's catalog alone.
//!
//! Rule: nothing here knows of tracking, targets or batches, only how a manifest describes types and
//! ranges.

pub mod bounds;
pub mod ddl;
pub mod definition;
pub mod error;
pub mod intercept;
pub mod joined;
pub mod key;
pub mod key_text;
pub mod missing_type;
pub mod own;
pub mod readable;
pub mod shape;
pub mod untrusted;
pub mod within;
