//! Where the files of a batch are: the only place that knows.
//!
//! Input: names as PostgreSQL has them, and numbers. Output: paths in the store.
//!
//! Invariant: paths of one target sort as their numbers do, and no name in them can lead elsewhere.

use uuid::Uuid;

use super::Error;
use super::hashed::sha256;
use super::names::{BatchRange, Compression};
use store::{Store, encode};

/// Numbers are written with ten digits, so that names sort as numbers.
pub(super) const NUMBER_MAX: u64 = 9_999_999_999;

/// How many hexadecimal digits the name of a receipt ends with.
const RECEIPT_DIGITS: usize = 16;

/// The folders of a target that hold batches.
pub(super) const FOLDERS: [&str; 3] = ["manifest", "compacted", "data"];

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

/// The folder of a target's compacted batches.
pub(super) fn compacted_folder(target: &str) -> Result<String, Error> {
    Ok(format!("{}/compacted", encode(target)?))
}

/// A name after that of every compacted batch that ends with this number or before, and before all others.
pub(super) fn compacted_end(number: u64) -> String {
    format!("{number:010}.")
}

/// Which batches the compacted one with that name stands for, unless it is the name of something else.
pub(super) fn compacted_run(name: &str) -> Option<BatchRange> {
    let (last, after) = name.strip_suffix(".json")?.split_once('-')?;
    let run = BatchRange { last: last.parse().ok()?, after: after.parse().ok()? };
    let is_run = in_range(run.last) && run.after < run.last && compacted_name(run) == name;
    is_run.then_some(run)
}

fn compacted_name(run: BatchRange) -> String {
    format!("{:010}-{:010}.json", run.last, run.after)
}

/// A compacted batch.
pub(super) fn compacted(target: &str, run: BatchRange) -> Result<String, Error> {
    checked(run.last)?;
    Ok(format!("{}/{}", compacted_folder(target)?, compacted_name(run)))
}

/// The folder of a target's receipts, with a folder for each destination.
pub(super) fn receipts(target: &str) -> Result<String, Error> {
    Ok(format!("{}/receipts", encode(target)?))
}

/// The name of a receipt: the number of its batch, and what tells it from others of that batch.
pub(super) fn receipt_name(number: u64, content: &[u8]) -> String {
    format!("{number:010}-{}.json", &sha256(content)[..RECEIPT_DIGITS])
}

/// The number of the batch of a receipt with that name, unless it is the name of something else.
pub(super) fn receipt_number(name: &str) -> Option<u64> {
    let (number, digits) = name.strip_suffix(".json")?.split_once('-')?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let has_digits = digits.len() == RECEIPT_DIGITS && digits.bytes().all(is_hex);
    manifest_number(&format!("{number}.json")).filter(|_| has_digits)
}

/// The folder of the receipt of a destination.
pub(super) fn receipts_of(target: &str, folder: &str) -> Result<String, Error> {
    Ok(format!("{}/{}", receipts(target)?, encode(folder)?))
}

/// The folder with a folder for the data of each number.
pub(super) fn all_data(target: &str) -> Result<String, Error> {
    Ok(format!("{}/data", encode(target)?))
}

/// The number whose data is in the folder of that name, unless it is the name of something else.
pub(super) fn data_number(name: &str) -> Option<u64> {
    let number = name.parse().ok()?;
    (in_range(number) && format!("{number:010}") == name).then_some(number)
}

/// The folder of the data of every attempt at a batch.
pub(super) fn attempts(target: &str, number: u64) -> Result<String, Error> {
    Ok(format!("{}/{:010}", all_data(target)?, checked(number)?))
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
