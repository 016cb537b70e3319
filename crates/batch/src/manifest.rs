//! The manifest: what a batch is, where it comes from, and what its files must be.
//!
//! Input: bytes from a store, or the parts that a writer wrote. Output: a manifest that [`Manifest::check`]
//! passed. The order of the fields here is their order in the file, which people read.
//!
//! Invariant: a manifest that was parsed or published agrees with itself, with its path, and with its columns
//! files.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::columns::{self, Column};
use super::definition::Definition;
use super::json::{is_time, read_strictly, render};
use super::names::Compression;
use super::ranges::{Condition, Range, Within};
use super::{Error, path};

/// One published batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    pub target: String,
    pub number: u64,
    pub id: Uuid,
    /// The id of the batch before this one, if there is one.
    pub previous: Option<Uuid>,
    pub kind: Kind,
    pub source: Origin,
    /// The other databases that have published the target before, in the order in which they began.
    pub former_publishers: Vec<Publisher>,
    /// The snapshot up to which the target is exported with this batch.
    pub position: String,
    /// ISO 8601 in UTC.
    pub created_at: String,
    #[serde(rename = "tables")]
    pub parts: Vec<Part>,
    /// The tables that the target gets beside those of the parts: they have not changed.
    pub unchanged: Vec<Table>,
}

/// What an export says of a batch beside its parts.
#[derive(Clone, Debug)]
pub struct Header {
    pub previous: Option<Uuid>,
    pub kind: Kind,
    pub source: Origin,
    pub former_publishers: Vec<Publisher>,
    pub position: String,
    pub created_at: String,
    pub unchanged: Vec<Table>,
}

/// Whether a batch stands by itself, and whether a part replaces the whole table.
///
/// A baseline is the first batch of a target. It has no rows, for tables that have them already, as of its
/// instant or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Full,
    Baseline,
    Changes,
}

impl Kind {
    /// Says whether a copy can begin with it.
    pub fn begins(self) -> bool {
        self != Self::Changes
    }

    /// The name, as manifests say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Baseline => "baseline",
            Self::Changes => "changes",
        }
    }
}

/// The database that a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    pub system_identifier: String,
    pub database: String,
    pub database_oid: u32,
    pub timeline: u32,
    pub lsn: String,
    pub server_version: String,
    pub encoding: String,
}

impl Origin {
    /// Tells the database from others.
    pub fn publisher(&self) -> Publisher {
        Publisher { system_identifier: self.system_identifier.clone(), database_oid: self.database_oid }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Origin { system_identifier, database, database_oid, .. } = self;
        write!(f, "database \"{database}\", OID {database_oid}, of the cluster {system_identifier}")
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Publisher { system_identifier, database_oid } = self;
        write!(f, "the database with OID {database_oid} of the cluster {system_identifier}")
    }
}

/// A database that publishes batches of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publisher {
    pub system_identifier: String,
    pub database_oid: u32,
}

/// The name of a table at the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub schema: String,
    pub name: String,
}

/// What a batch holds of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub schema: String,
    pub name: String,
    pub kind: Kind,
    pub format: Format,
    /// In the order of the fields of a record.
    pub columns: Vec<Column>,
    /// Names of columns, in the order of the fields of an id.
    pub key: Vec<String>,
    /// The SHA-256 of the columns file: it changes exactly when columns or key do.
    pub fingerprint: String,
    /// In a part of changes: rows that are gone unless their keys are among the ids.
    pub ranges: Vec<Range>,
    /// How many keys, which is none in a full part.
    pub ids: u64,
    /// How many rows.
    pub records: u64,
    pub files: Files,
}

/// How COPY writes and reads the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Binary,
    Csv,
}

impl Format {
    pub const ALL: [Self; 3] = [Self::Text, Self::Binary, Self::Csv];

    /// The name, as manifests and COPY say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Csv => "csv",
        }
    }
}

/// The three files of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    pub columns: File,
    pub ids: File,
    pub records: File,
}

/// One file as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The path below the folder of the batch's data; it says what can be derived, and is only ever compared.
    pub name: String,
    /// Bytes as stored.
    pub size: u64,
    pub compression: Compression,
    /// Bytes of the content, without compression.
    pub content_size: u64,
    /// Of the bytes as stored, so that `sha256sum` checks it.
    pub sha256: String,
}

impl Manifest {
    /// Reads the manifest that was found at `path` where that of batch `number` of `target` is expected.
    pub(super) fn parse(json: &[u8], path: &str, target: &str, number: u64) -> Result<Self, Error> {
        read_strictly(json, path, |manifest: &Self| {
            if manifest.target != target || manifest.number != number {
                let (number, target) = (manifest.number, &manifest.target);
                return Err(format!("it is that of batch {number} of target \"{target}\""));
            }
            manifest.check()
        })
    }

    /// Renders the manifest that is to stand at `path`, with a line for each field.
    pub(super) fn render(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.check().map_err(|reason| Error::Manifest { path: path.into(), reason })?;
        render(self, path)
    }

    /// Says what is wrong, if anything is.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.format_version == 0 {
            return Err("format version 0 does not exist".into());
        }
        if self.texts().any(|text| text.contains('\0')) {
            return Err("it has a text with a null character".into());
        }
        if !is_time(&self.created_at) {
            return Err(format!("\"{}\" is no time in UTC", self.created_at));
        }
        if self.previous == Some(self.id) {
            return Err("it names itself as the batch before".into());
        }
        self.check_kinds()?;
        let mut publishers = HashSet::from([self.source.publisher()]);
        if !self.former_publishers.iter().all(|former| publishers.insert(former.clone())) {
            return Err("a database is in it twice".into());
        }
        let mut tables = HashSet::new();
        for (schema, name) in self.tables() {
            if !tables.insert((schema, name)) {
                return Err(format!("table \"{schema}\".\"{name}\" is in it twice"));
            }
        }
        for part in &self.parts {
            let within = |reason| format!("table \"{}\".\"{}\": {reason}", part.schema, part.name);
            part.check().map_err(within)?;
        }
        Ok(())
    }

    /// A batch of changes can have only full parts, because all other tables are as they were.
    fn check_kinds(&self) -> Result<(), String> {
        let kind = self.kind.name();
        let has = |kind: Kind| self.parts.iter().any(|part| part.kind == kind);
        let is_fit = match self.kind {
            Kind::Full => has(Kind::Full) && !has(Kind::Baseline) && !has(Kind::Changes),
            Kind::Baseline => has(Kind::Baseline) && !has(Kind::Changes),
            Kind::Changes => !has(Kind::Baseline),
        };
        if !is_fit {
            return Err(format!("it is {kind}, but not all of its parts are, or it has none"));
        }
        if self.kind.begins() && !self.unchanged.is_empty() {
            return Err(format!("it is {kind}, but has tables without a part"));
        }
        if self.kind == Kind::Baseline && self.previous.is_some() {
            return Err("it is a baseline, but names a batch before it".into());
        }
        Ok(())
    }

    /// The schema and the name of each table that the target gets, changed or not.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        let changed = self.parts.iter().map(|part| (part.schema.as_str(), part.name.as_str()));
        changed.chain(self.unchanged.iter().map(|table| (table.schema.as_str(), table.name.as_str())))
    }

    /// Says whether the batch can follow one of a publisher: its source is that database, or has taken the
    /// target over since.
    pub fn continues(&self, publisher: &Publisher) -> bool {
        self.source.publisher() == *publisher || self.former_publishers.contains(publisher)
    }

    /// Every text, for PostgreSQL's texts cannot hold what JSON's can.
    fn texts(&self) -> impl Iterator<Item = &String> {
        let Origin {
            system_identifier,
            database,
            lsn,
            server_version,
            encoding,
            database_oid: _,
            timeline: _,
        } = &self.source;
        let source = [system_identifier, database, lsn, server_version, encoding];
        let publishers = self.former_publishers.iter().map(|former| &former.system_identifier);
        let unchanged = self.unchanged.iter().flat_map(|table| [&table.schema, &table.name]);
        let parts = self.parts.iter().flat_map(|part| {
            let columns = part.columns.iter();
            // Keys, file names and hashes are compared with what is derived from these.
            let columns = columns.flat_map(|column| {
                let definition = column.definition.iter().flat_map(Definition::texts);
                [&column.name, &column.type_name].into_iter().chain(&column.collation).chain(definition)
            });
            let values = part.ranges.iter().flatten().flat_map(Condition::values);
            [&part.schema, &part.name].into_iter().chain(columns).chain(values)
        });
        [&self.target, &self.position, &self.created_at]
            .into_iter()
            .chain(source)
            .chain(publishers)
            .chain(parts)
            .chain(unchanged)
    }
}

/// The most columns that a table can have: MaxHeapAttributeNumber of PostgreSQL.
const COLUMNS_MAX: usize = 1600;

impl Part {
    /// The qualified name of its table, as messages and results say it.
    pub fn table(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The size of its three files as stored.
    pub fn bytes(&self) -> u64 {
        self.files.columns.size + self.files.ids.size + self.files.records.size
    }

    fn check(&self) -> Result<(), String> {
        if self.columns.len() > COLUMNS_MAX {
            return Err(format!("it has more than {COLUMNS_MAX} columns"));
        }
        let names: HashSet<_> = self.columns.iter().map(|column| &column.name).collect();
        if names.len() < self.columns.len() {
            return Err("a column is in it twice".into());
        }
        let key: HashSet<_> = self.key.iter().collect();
        if key.is_empty() || key.len() < self.key.len() || !key.is_subset(&names) {
            return Err("its key is not a list of different columns".into());
        }
        let content = columns::render(&self.columns, &self.key);
        if self.fingerprint != columns::fingerprint(&self.columns, &self.key) {
            return Err("its fingerprint is not that of its columns and key".into());
        }
        let Files { columns, ids, records } = &self.files;
        for (stem, file) in [("columns", columns), ("ids", ids), ("records", records)] {
            let name = path::file(&self.schema, &self.name, stem, file.compression);
            if file.name != name.map_err(|error| error.to_string())? {
                return Err(format!("the name of its {stem} file cannot be \"{}\"", file.name));
            }
            if file.compression == Compression::None && file.size != file.content_size {
                return Err(format!("its {stem} file has two sizes without being compressed"));
            }
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if file.sha256.len() != 64 || !file.sha256.bytes().all(is_digit) {
                return Err(format!("the SHA-256 of its {stem} file is not one"));
            }
        }
        let described = (columns.compression, columns.size, &columns.sha256);
        if described != (Compression::None, content.len() as u64, &self.fingerprint) {
            return Err("its columns file is not that of its columns and key".into());
        }
        if self.kind == Kind::Full && self.ids > 0 {
            return Err("it is full, but has ids".into());
        }
        if self.kind == Kind::Full && !self.ranges.is_empty() {
            return Err("it is full, but has ranges".into());
        }
        Within::of(&self.ranges, &self.columns, &self.key)?;
        if (self.ids == 0) != (ids.content_size == 0) {
            return Err("its ids file has lines without ids, or ids without lines".into());
        }
        Ok(())
    }
}
