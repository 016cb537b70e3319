//! The columns file: what the fields of a table's records are, as COPY text that a person can read.
//!
//! Input: the columns and the key of a part. Output: the file's content. Its hash is the fingerprint of the
//! schema.
//!
//! Invariant: two parts have the same fingerprint exactly if they have the same columns and the same key.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::hashed::sha256;

/// One column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub typmod: i32,
    pub definition: Option<Definition>,
    pub collation: Option<String>,
    pub not_null: bool,
}

/// Renders one line for each column: name, type, typmod, definition, collation, not-null, position in the
/// key.
pub(super) fn render(columns: &[Column], key: &[String]) -> Vec<u8> {
    let mut content = String::new();
    let positions = key.iter().zip(1..).collect::<HashMap<_, i32>>();
    for column in columns {
        let position = positions.get(&column.name).map(i32::to_string);
        let definition = column.definition.as_ref().map(Definition::to_json);
        let line = [
            Some(column.name.as_str()),
            Some(&column.type_name),
            Some(&column.typmod.to_string()),
            definition.as_deref(),
            column.collation.as_deref(),
            Some(if column.not_null { "t" } else { "f" }),
            position.as_deref(),
        ]
        .map(field)
        .join("\t");
        content.push_str(&line);
        content.push('\n');
    }
    content.into_bytes()
}

/// The SHA-256 of a rendered columns file.
pub fn fingerprint(columns: &[Column], key: &[String]) -> String {
    sha256(&render(columns, key))
}

/// Escapes a field as COPY does.
pub(super) fn field(text: Option<&str>) -> String {
    let Some(text) = text else { return r"\N".into() };
    let mut field = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' => field.push_str(r"\\"),
            '\t' => field.push_str(r"\t"),
            '\n' => field.push_str(r"\n"),
            '\r' => field.push_str(r"\r"),
            '\u{8}' => field.push_str(r"\b"),
            '\u{b}' => field.push_str(r"\v"),
            '\u{c}' => field.push_str(r"\f"),
            _ => field.push(character),
        }
    }
    field
}
