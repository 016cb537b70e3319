//! Where the files of a batch are: the only place that knows.
//!
//! In go names as PostgreSQL has them, and numbers; out come paths in the store.
//!
//! Invariant: paths of one target sort as their numbers do, and no name in them can lead elsewhere.

use uuid::Uuid;

use super::Error;
use super::manifest::Compression;
use crate::store::{self, Store, encode};

/// Numbers are written with ten digits, so that names sort as numbers.
pub(super) const NUMBER_MAX: u64 = 9_999_999_999;

/// The folder of a target's manifests.
pub(super) fn manifests(target: &str) -> Result<String, Error> {
    Ok(format!("{}/manifest", encode(target)?))
}

/// The name of a manifest in that folder, for any number.
pub(super) fn manifest_name(number: u64) -> String {
    format!("{number:010}.json")
}

/// The number of the manifest with that name, unless it is the name of something else.
pub(super) fn manifest_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?.parse().ok()?;
    (in_range(number) && manifest_name(number) == name).then_some(number)
}

/// The manifest of a batch.
pub(super) fn manifest(target: &str, number: u64) -> Result<String, Error> {
    checked(number)?;
    Ok(format!("{}/{}", manifests(target)?, manifest_name(number)))
}

/// The folder of the data of every attempt at a batch.
pub(super) fn attempts(target: &str, number: u64) -> Result<String, Error> {
    Ok(format!("{}/data/{:010}", encode(target)?, checked(number)?))
}

/// The folder of a batch's data.
pub(super) fn data(target: &str, number: u64, id: Uuid) -> Result<String, Error> {
    Ok(format!("{}/{id}", attempts(target, number)?))
}

/// The name of a table's file below the folder of the batch's data.
pub(super) fn file(
    schema: &str,
    table: &str,
    stem: &str,
    compression: Compression,
) -> Result<String, store::Error> {
    let suffix = match compression {
        Compression::None => "",
        Compression::Zstd => ".zst",
    };
    Ok(format!("{}/{}/{stem}{suffix}", encode(schema)?, encode(table)?))
}

/// A path with the store it is in, for messages.
pub(super) fn full(store: &dyn Store, path: &str) -> String {
    format!("{}/{path}", store.url().trim_end_matches('/'))
}

fn in_range(number: u64) -> bool {
    (1..=NUMBER_MAX).contains(&number)
}

fn checked(number: u64) -> Result<u64, Error> {
    in_range(number).then_some(number).ok_or(Error::Number { number })
}
