//! Whether a table is what the batches in a store say that it is.
//!
//! Rule: nothing here imports `source`, `destination` or `upkeep`, which say what a table is compared with.
//!
//! `held` finds the batches that lead to a given one. `compare` reads what they hold of a table, and its
//! rows.

pub mod compare;
pub mod error;
pub mod held;

use std::time::Duration;

use batch::Differences;

/// What a comparison of one table has shown.
pub struct Proof {
    /// The batch whose state the table should show.
    pub number: u64,
    /// The qualified name of the table.
    pub table: String,
    /// `None` if nothing could be compared.
    pub compared: Option<Compared>,
    /// What could not be compared, and what to do about it. Without any, the proof is complete.
    pub gaps: Vec<String>,
    pub elapsed: Duration,
}

/// What has been compared.
pub struct Compared {
    /// How many rows the table has.
    pub rows: u64,
    pub differences: Differences,
    /// Some keys that differ, each with what does.
    pub examples: Vec<String>,
}

/// What a comparison is asked for.
pub struct Request<'a> {
    pub target: &'a str,
    /// The only table that is compared; `None` compares all.
    pub relation: Option<crate::pg::Oid>,
    /// The limit on how many keys that differ are returned for each table.
    pub examples: usize,
}
