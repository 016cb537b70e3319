//! Writing a batch: its files are put into the store, and at last its manifest.
//!
//! A [`Writer`] makes one [`PartWriter`] for each table. A [`PartWriter`] makes two [`FileWriter`]s: one for
//! ids, one for records. Each file is compressed, hashed and stored in one pass. Memory use is constant. Any
//! thread may do it.
//!
//! Invariant: before `publish` the batch does not exist for readers. After it nothing of the batch changes.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use zstd::stream::write::Encoder;

use super::columns::{self, Column};
use super::compacted::{Compacted, Link};
use super::hashed::Hashed;
use super::json::FORMAT_VERSION;
use super::manifest::{File, Files, Format, Header, Kind, Manifest, Part};
use super::names::Compression;
use super::ranges::Range;
use super::{Error, path};
use store::{Store, Upload};

/// The fastest: 2 million rows of COPY text shrank 3.9-fold at 270 MB/s, which no COPY outruns; level 3 took
/// 2.4 times as long for no less.
const ZSTD_LEVEL: i32 = 1;

/// Writes one batch of one target.
pub struct Writer {
    store: Arc<dyn Store>,
    target: String,
    number: u64,
    id: Uuid,
    folder: String,
    compression: Compression,
    /// The manifest may stand, so the files must stay.
    may_exist: bool,
}

/// Removes the files of a batch that was given up.
impl Drop for Writer {
    fn drop(&mut self) {
        if !self.may_exist {
            // What cannot be removed now goes when another batch has the number.
            let _ = self.store.remove(&self.folder);
        }
    }
}

impl Writer {
    /// Begins an attempt at batch `number`, under an id of its own.
    pub fn new(
        store: Arc<dyn Store>,
        target: &str,
        number: u64,
        compression: Compression,
    ) -> Result<Self, Error> {
        let id = Uuid::now_v7();
        let folder = path::data(target, number, id)?;
        Ok(Self { store, target: target.into(), number, id, folder, compression, may_exist: false })
    }

    /// The id of the batch.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Begins the part of a table, and writes its columns file.
    pub fn part(
        &self,
        schema: &str,
        name: &str,
        columns: Vec<Column>,
        key: Vec<String>,
        kind: Kind,
        format: Format,
    ) -> Result<PartWriter<'_>, Error> {
        let mut file = self.file(schema, name, "columns", Compression::None)?;
        file.write_all(&columns::render(&columns, &key))?;
        let file = file.finish()?;
        let (schema, name) = (schema.into(), name.into());
        Ok(PartWriter { batch: self, schema, name, columns, key, kind, format, file, ranges: Vec::new() })
    }

    /// Puts the manifest, from which moment the batch exists.
    ///
    /// When another batch has the number, the error is [`store::Error::Exists`]. After any other error
    /// of the store the batch can exist all the same.
    pub fn publish(self, header: Header, parts: Vec<Part>) -> Result<Manifest, Error> {
        let manifest = self.manifest(header, parts);
        let path = path::manifest(&self.target, self.number)?;
        let json = manifest.render(&path)?;
        self.put(&path, &json)?;
        Ok(manifest)
    }

    /// Makes the batch exist as one that stands for others, as [`Writer::publish`] does.
    pub fn publish_compacted(
        self,
        header: Header,
        parts: Vec<Part>,
        last: Uuid,
        follows: Vec<Link>,
    ) -> Result<(), Error> {
        let batch = self.manifest(header, parts);
        let (path, json) = Compacted { format_version: FORMAT_VERSION, last, follows, batch }.render()?;
        self.put(&path, &json)
    }

    fn manifest(&self, header: Header, parts: Vec<Part>) -> Manifest {
        let Header { previous, kind, source, former_publishers, position, created_at, unchanged } = header;
        Manifest {
            format_version: FORMAT_VERSION,
            target: self.target.clone(),
            number: self.number,
            id: self.id,
            previous,
            kind,
            source,
            former_publishers,
            position,
            created_at,
            parts,
            unchanged,
        }
    }

    fn put(mut self, path: &str, json: &[u8]) -> Result<(), Error> {
        let put = self.store.put_new(path, json);
        self.may_exist = !matches!(put, Err(store::Error::Exists { .. }));
        Ok(put?)
    }

    fn file(
        &self,
        schema: &str,
        table: &str,
        stem: &str,
        compression: Compression,
    ) -> Result<FileWriter, Error> {
        let name = path::file(schema, table, stem, compression)?;
        let upload = Hashed::new(self.store.put(&format!("{}/{name}", self.folder))?);
        let stored = match compression {
            Compression::None => Stored::Plain(upload),
            Compression::Zstd => {
                let mut encoder = Encoder::new(upload, ZSTD_LEVEL)?;
                // Damage shows where it is, not only at the end.
                encoder.include_checksum(true)?;
                Stored::Zstd(encoder)
            }
        };
        Ok(FileWriter { name, compression, content_size: 0, stored })
    }
}

/// Writes what a batch holds of one table.
pub struct PartWriter<'a> {
    batch: &'a Writer,
    schema: String,
    name: String,
    columns: Vec<Column>,
    key: Vec<String>,
    kind: Kind,
    format: Format,
    file: File,
    ranges: Vec<Range>,
}

impl PartWriter<'_> {
    /// Makes the rows of these ranges gone, except those whose keys are among the ids.
    pub fn replace(&mut self, ranges: Vec<Range>) {
        self.ranges = ranges;
    }

    /// Begins the ids file; a full part has one too, which stays empty.
    pub fn ids(&self) -> Result<FileWriter, Error> {
        self.batch.file(&self.schema, &self.name, "ids", self.batch.compression)
    }

    /// Begins the records file.
    pub fn records(&self) -> Result<FileWriter, Error> {
        self.batch.file(&self.schema, &self.name, "records", self.batch.compression)
    }

    /// Finishes the two files, and describes the part.
    pub fn finish(self, ids: Counted, records: Counted) -> Result<Part, Error> {
        Ok(Part {
            schema: self.schema,
            name: self.name,
            kind: self.kind,
            format: self.format,
            columns: self.columns,
            key: self.key,
            fingerprint: self.file.sha256.clone(),
            ranges: self.ranges,
            ids: ids.rows,
            records: records.rows,
            files: Files { columns: self.file, ids: ids.file.finish()?, records: records.file.finish()? },
        })
    }
}

/// What was written of one table, and how long it took.
pub struct PartSummary {
    /// The number of the batch.
    pub batch: u64,
    /// The table's qualified name.
    pub table: String,
    /// `full` or `changes`
    pub kind: &'static str,
    pub ids: u64,
    pub records: u64,
    /// The size of the part's files.
    pub bytes: u64,
    pub elapsed: Duration,
}

impl PartSummary {
    /// Describes a part of a batch that is complete now.
    pub fn of(batch: u64, part: &Part, started: Instant) -> Self {
        Self {
            batch,
            table: part.table(),
            kind: part.kind.name(),
            ids: part.ids,
            records: part.records,
            bytes: part.bytes(),
            elapsed: started.elapsed(),
        }
    }
}

/// A file, and the number of rows that were written to it.
pub struct Counted {
    pub rows: u64,
    pub file: FileWriter,
}

/// Writes the content of one file, which is removed when this is dropped before [`FileWriter::finish`].
///
/// Errors carry a [`store::Error`] that names the path; `batch::Error::from` takes it out.
pub struct FileWriter {
    name: String,
    compression: Compression,
    content_size: u64,
    stored: Stored,
}

enum Stored {
    Plain(Hashed<Box<dyn Upload>>),
    Zstd(Encoder<'static, Hashed<Box<dyn Upload>>>),
}

impl Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.stored {
            Stored::Plain(upload) => upload.write(bytes),
            Stored::Zstd(encoder) => encoder.write(bytes),
        }?;
        self.content_size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stored {
            Stored::Plain(upload) => upload.flush(),
            Stored::Zstd(encoder) => encoder.flush(),
        }
    }
}

impl FileWriter {
    /// Ends the content, makes the file durable, and describes it.
    pub fn finish(self) -> Result<File, Error> {
        let Self { name, compression, content_size, stored } = self;
        let upload = match stored {
            Stored::Plain(upload) => upload,
            Stored::Zstd(encoder) => encoder.finish()?,
        };
        let (size, sha256) = (upload.size, upload.sha256());
        upload.inner.finish()?;
        Ok(File { name, size, compression, content_size, sha256 })
    }
}

/// Lists the attempts at batch `number` other than `keep`.
///
/// It is called before the manifest of that number is put. After that, none of these attempts can be
/// published any more, and [`sweep`] may remove them. They must not be listed later: an attempt that comes
/// then may be that of a compacted batch.
pub fn other_attempts(store: &dyn Store, target: &str, number: u64, keep: Uuid) -> Result<Vec<Uuid>, Error> {
    let ids = store.list(&path::attempts(target, number)?, "")?;
    Ok(ids.iter().filter_map(|id| Uuid::parse_str(id).ok()).filter(|id| *id != keep).collect())
}

/// Removes attempts at batch `number`.
pub fn sweep(store: &dyn Store, target: &str, number: u64, attempts: &[Uuid]) -> Result<(), Error> {
    for id in attempts {
        store.remove(&path::data(target, number, *id)?)?;
    }
    Ok(())
}
