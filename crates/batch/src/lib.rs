//! The batch on disk: one manifest, and three files for each table in it; `docs/format.md` is the contract.
//!
//! An export writes contents to a [`Writer`] through `std::io::Write`, and `publish` makes the batch exist.
//! An import asks [`reader`]: it returns manifests that were checked, and contents through `std::io::Read`,
//! checked at their end. Nothing here knows PostgreSQL, and nothing in `src/pg` knows the format.
//!
//! Invariant: what is read is what was published, or an error.

#![warn(clippy::unwrap_used, clippy::panic)]

mod columns;
mod compact;
mod compare;
mod compacted;
mod csv;
mod definition;
mod expire;
mod fields;
mod hash;
mod hashed;
mod json;
mod lines;
mod manifest;
mod names;
mod path;
mod ranges;
pub mod reader;
mod receipt;
mod repair;
mod replaced;
mod sample;
mod spill;
mod sums;
mod writer;

use std::io;

pub use columns::{Column, fingerprint};
pub use compact::compact_part;
pub use compacted::{Compacted, Link, put_cumulative};
pub use compare::{Difference, Differences, Example, Expected, Layout, LeftOut, Search, TableRows};
pub use definition::{Attribute, Definition, Type};
pub use expire::{COMPACTION_MAX, Keep, Removed, expire};
pub use fields::{Without, line_of, values_of};
pub use hashed::sha256;
pub use lines::Reading;
pub use manifest::{Format, Header, Kind, Manifest, Origin, Part, Publisher, Table};
pub use names::{BatchRange, Compression};
pub use ranges::{Bound, Comparison, Condition, Range, fit as ranges_fit};
pub use receipt::{Receipt, Verified, leave as leave_receipt};
pub use repair::{Repair, Repaired, RowsToRepair};
pub use replaced::Replaced;
pub use sample::Sample;
pub use spill::Scratch;
pub use sums::{Equal, LeftOutOfSums, RowSums, Sums};
pub use writer::{Counted, FileWriter, PartSummary, PartWriter, Writer, other_attempts, sweep};

/// What can go wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed, or has no such file, or has the batch already.
    #[error(transparent)]
    Store(#[from] store::Error),

    /// The manifest is not one, or contradicts itself.
    #[error("manifest \"{path}\" is not valid: {reason}")]
    Manifest { path: String, reason: String },

    /// A later version of the extension wrote the batch.
    #[error(
        "manifest \"{path}\" has format version {found}, but only versions up to {supported} are supported"
    )]
    FutureFormat { path: String, found: u32, supported: u32 },

    /// A file is not the one that the manifest describes.
    #[error("file \"{path}\" of batch {batch} is damaged: {reason}")]
    Damaged { path: String, batch: u64, reason: String },

    /// Batches do not fit together, so they stay as they are.
    #[error("batch {batch} cannot be compacted with those before it: table \"{table}\": {reason}")]
    Unmergeable { table: String, batch: u64, reason: &'static str },

    /// The number does not fit into ten digits.
    #[error("batch number {number} is not between 1 and {}", path::NUMBER_MAX)]
    Number { number: u64 },

    /// The file that digests wait in cannot be written or read.
    #[error("could not use a temporary file: {0}")]
    Scratch(io::Error),

    /// It would be larger than the server allows.
    #[error("temporary file size exceeds temp_file_limit ({limit}kB)")]
    ScratchLimit { limit: u64 },

    /// A stream failed for a reason of its own.
    #[error("could not stream a file of a batch: {0}")]
    Stream(io::Error),
}

/// Takes back the error that a [`FileReader`] or a [`FileWriter`] had to pass through `std::io`.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        error
            .downcast::<Error>()
            .or_else(|error| error.downcast::<store::Error>().map(Error::Store))
            .unwrap_or_else(Error::Stream)
    }
}

#[cfg(test)]
mod tests;
