//! Objects in JSON that describe something in a store: manifests, compacted batches, receipts.
//!
//! Input: bytes from a store. Output: what they describe, if they say it in the one form that is written.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;

/// The version of the format that is written; every version up to it can be read.
pub(super) const FORMAT_VERSION: u32 = 1;

/// A manifest is held in memory, so what is read of one is bounded: enough for tens of thousands of tables.
pub(super) const MANIFEST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads one JSON object that describes something in the store, whose check says what is wrong with it.
pub(super) fn read_strictly<T: DeserializeOwned + Serialize>(
    json: &[u8],
    path: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, Error> {
    // Looked at first and alone: the other fields of a later version can be anything.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let invalid = |reason: String| Error::Manifest { path: path.into(), reason };
    let version: Version = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    if version.format_version > FORMAT_VERSION {
        let (found, supported) = (version.format_version, FORMAT_VERSION);
        return Err(Error::FutureFormat { path: path.into(), found, supported });
    }
    let described: T = serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
    check(&described).map_err(invalid)?;
    // Serde would also take a missing field for null, a list or an object for a value of another form, and
    // a UUID in other forms. Last, for it takes several times the memory of a manifest.
    let said = serde_json::from_slice::<Value>(json).map_err(|error| invalid(error.to_string()))?;
    let meant = serde_json::to_value(&described).map_err(|error| invalid(error.to_string()))?;
    if said != meant {
        return Err(invalid("a field is missing, or a value has another form".into()));
    }
    Ok(described)
}

/// Renders one JSON object with a line for each field.
pub(super) fn render<T: Serialize>(described: &T, path: &str) -> Result<Vec<u8>, Error> {
    let invalid = |reason: String| Error::Manifest { path: path.into(), reason };
    let mut json = serde_json::to_vec_pretty(described).map_err(|error| invalid(error.to_string()))?;
    json.push(b'\n');
    if json.len() as u64 > MANIFEST_BYTES_MAX {
        return Err(invalid(too_large(MANIFEST_BYTES_MAX)));
    }
    Ok(json)
}

/// Says whether a text has the form `2026-01-31T23:59:59Z`, or that with up to six decimals, and numbers of a
/// time.
pub(super) fn is_time(text: &str) -> bool {
    const FORM: &str = "dddd-dd-ddTdd:dd:dd";
    let Some((time, decimals)) = text.strip_suffix('Z').and_then(|text| text.split_at_checked(FORM.len()))
    else {
        return false;
    };
    let has_form = time.bytes().zip(FORM.bytes()).all(|(byte, form)| match form {
        b'd' => byte.is_ascii_digit(),
        form => byte == form,
    });
    let has_decimals = decimals.strip_prefix('.').is_some_and(|digits| {
        (1..=6).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    let within = |at: usize, least: u8, most: u8| {
        let number = time.get(at..at + 2).and_then(|digits| digits.parse().ok());
        number.is_some_and(|number| (least..=most).contains(&number))
    };
    let is_in_calendar = within(5, 1, 12) && within(8, 1, 31);
    let is_on_clock = within(11, 0, 23) && within(14, 0, 59) && within(17, 0, 59);
    has_form && (decimals.is_empty() || has_decimals) && is_in_calendar && is_on_clock
}

/// Why a manifest is refused before it is looked at.
pub(super) fn too_large(bytes_max: u64) -> String {
    format!("it has more than {bytes_max} bytes")
}
