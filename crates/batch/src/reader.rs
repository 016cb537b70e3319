//! Reading batches: which there are, what they say, and the contents of their files.
//!
//! Output: a [`Manifest`] that was checked, and a [`FileReader`] that checks a content while it streams
//! through. Memory use is constant.
//!
//! Invariant: a content that ends without an error is what the manifest says. So an import may use what it
//! reads at once, if it can still undo that at the end.

use std::io::{self, BufRead, BufReader, Read, Take};

use percent_encoding::percent_decode_str;
use zstd::stream::read::Decoder;

use super::compacted::Compacted;
use super::hashed::Hashed;
use super::json::{MANIFEST_BYTES_MAX, too_large};
use super::manifest::{File, Manifest, Part};
use super::names::{BatchRange, Compression};
use super::receipt::{RECEIPT_BYTES_MAX, Receipt};
use super::{Error, path};
use store::Store;

/// The most memory that a file may make its reader need, as a power of two; ours need 512 KiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The same as a window descriptor.
const ZSTD_WINDOW_MAX: u8 = (ZSTD_WINDOW_LOG_MAX as u8 - 10) << 3;

/// The first bytes of a Zstandard frame.
const ZSTD_MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();

/// Lists the targets that have a folder in the store.
pub fn targets(store: &dyn Store) -> Result<Vec<String>, Error> {
    let decode = |name: String| {
        let target = percent_decode_str(&name).decode_utf8().ok()?.into_owned();
        store::encode(&target).is_ok_and(|encoded| encoded == name).then_some(target)
    };
    Ok(store.list("", "")?.into_iter().filter_map(decode).collect())
}

/// Returns the target to which a file belongs that an error names by its whole path.
pub fn target_of(path: &str) -> Option<String> {
    let folders = path::FOLDERS.iter().map(|folder| format!("/{folder}/"));
    let end = folders.filter_map(|folder| path.rfind(&folder)).max()?;
    let name = &path[path[..end].rfind('/').map_or(0, |slash| slash + 1)..end];
    Some(percent_decode_str(name).decode_utf8().ok()?.into_owned())
}

/// Lists the published batches of a target after a number, in order.
pub fn numbers(store: &dyn Store, target: &str, after: u64) -> Result<Vec<u64>, Error> {
    if after >= path::NUMBER_MAX {
        return Ok(Vec::new());
    }
    let names = store.list(&path::manifests(target)?, &path::manifest_name(after))?;
    Ok(names.iter().filter_map(|name| path::manifest_number(name)).collect())
}

/// Reads the manifest of a batch.
pub fn manifest(store: &dyn Store, target: &str, number: u64) -> Result<Manifest, Error> {
    let (json, path) = json(store, &path::manifest(target, number)?, MANIFEST_BYTES_MAX)?;
    Manifest::parse(&json, &path, target, number)
}

/// Lists the compacted batches of a target that end after a number, those that end first first.
pub fn runs(store: &dyn Store, target: &str, after: u64) -> Result<Vec<BatchRange>, Error> {
    let names = store.list(&path::compacted_folder(target)?, &path::compacted_end(after))?;
    Ok(names.iter().filter_map(|name| path::compacted_run(name)).collect())
}

/// Reads what a compacted batch says.
pub fn compacted(store: &dyn Store, target: &str, run: BatchRange) -> Result<Compacted, Error> {
    let (json, path) = json(store, &path::compacted(target, run)?, MANIFEST_BYTES_MAX)?;
    Compacted::parse(&json, &path, target, run)
}

/// Lists the folders of the destinations that have left a receipt.
pub fn destinations(store: &dyn Store, target: &str) -> Result<Vec<String>, Error> {
    Ok(store.list(&path::receipts(target)?, "")?)
}

/// Reads the receipt in the folder of a destination; `None` if it has been taken back.
///
/// The destination may replace it meanwhile. Then the next one is there already.
pub fn receipt(store: &dyn Store, target: &str, folder: &str) -> Result<Option<Receipt>, Error> {
    let place = path::receipts_of(target, folder)?;
    let mut missing = None;
    loop {
        let names = store.list(&place, "")?;
        let numbered = |name: &String| Some((path::receipt_number(name)?, name.clone()));
        let Some((number, name)) = names.iter().filter_map(numbered).next_back() else {
            return Ok(None);
        };
        match json(store, &format!("{place}/{name}"), RECEIPT_BYTES_MAX) {
            Err(Error::Store(store::Error::NotFound { .. })) if missing.as_ref() != Some(&name) => {
                missing = Some(name);
            }
            read => {
                let (json, path) = read?;
                return Receipt::parse(&json, &path, target, number).map(Some);
            }
        }
    }
}

/// Reads a file of JSON, and returns its path with the store.
fn json(store: &dyn Store, path: &str, bytes_max: u64) -> Result<(Vec<u8>, String), Error> {
    let mut json = Vec::new();
    store.get(path)?.take(bytes_max + 1).read_to_end(&mut json)?;
    let path = path::full(store, path);
    if json.len() as u64 > bytes_max {
        return Err(Error::Manifest { path, reason: too_large(bytes_max) });
    }
    Ok((json, path))
}

/// Reads the columns file of a part, and so proves that it says what the manifest says.
pub fn check_columns(store: &dyn Store, manifest: &Manifest, part: &Part) -> Result<(), Error> {
    // The manifest has the hash of the file, and was refused unless that is the hash of its columns.
    io::copy(&mut open(store, manifest, part, "columns", &part.files.columns)?, &mut io::sink())?;
    Ok(())
}

/// Opens the keys of a part.
pub fn ids(store: &dyn Store, manifest: &Manifest, part: &Part) -> Result<FileReader, Error> {
    open(store, manifest, part, "ids", &part.files.ids)
}

/// Opens the rows of a part.
pub fn records(store: &dyn Store, manifest: &Manifest, part: &Part) -> Result<FileReader, Error> {
    open(store, manifest, part, "records", &part.files.records)
}

fn open(
    store: &dyn Store,
    manifest: &Manifest,
    part: &Part,
    stem: &str,
    file: &File,
) -> Result<FileReader, Error> {
    let folder = path::data(&manifest.target, manifest.number, manifest.id)?;
    let name = path::file(&part.schema, &part.name, stem, file.compression)?;
    let path = format!("{folder}/{name}");
    // One byte more than there should be is enough to see that there are too many.
    let stored = Hashed::new(store.get(&path)?.take(file.size.saturating_add(1)));
    let content = match file.compression {
        Compression::None => Content::Plain(stored),
        Compression::Zstd => {
            let mut decoder = Decoder::new(stored)?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Content::Zstd(decoder)
        }
    };
    Ok(FileReader {
        path: path::full(store, &path),
        batch: manifest.number,
        file: file.clone(),
        content,
        content_size: 0,
        damage: None,
    })
}

/// Reads the content of one file, and ends only if that was what the manifest says.
///
/// Errors carry an [`Error`] or a [`store::Error`]; `batch::Error::from` takes it out.
pub struct FileReader {
    path: String,
    batch: u64,
    file: File,
    content: Content,
    content_size: u64,
    damage: Option<String>,
}

type Stored = Hashed<Take<Box<dyn Read + Send>>>;

enum Content {
    Plain(Stored),
    Zstd(Decoder<'static, BufReader<Stored>>),
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(reason) = &self.damage {
            return Err(self.damaged(reason));
        }
        match self.advance(buffer) {
            Err(error) if !is_of_store(&error) => {
                let reason = error.to_string();
                let damaged = self.damaged(&reason);
                self.damage = Some(reason);
                Err(damaged)
            }
            read => read,
        }
    }
}

impl FileReader {
    fn advance(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.content {
            Content::Plain(stored) => stored.read(buffer),
            Content::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.content_size += read as u64;
        if self.content.stored().size > self.file.size {
            return Err(io::Error::other(format!("it has more than {} bytes", self.file.size)));
        }
        if self.content_size > self.file.content_size {
            let declared = self.file.content_size;
            return Err(io::Error::other(format!("it has more than {declared} bytes of content")));
        }
        if read == 0 && !buffer.is_empty() {
            self.check_end()?;
        }
        Ok(read)
    }

    fn check_end(&mut self) -> io::Result<()> {
        if let Content::Zstd(decoder) = &mut self.content
            && !decoder.get_mut().fill_buf()?.is_empty()
        {
            return Err(io::Error::other("it goes on after its compressed content"));
        }
        let stored = self.content.stored();
        if self.file.compression == Compression::Zstd && !is_allowed_frame(&stored.head) {
            return Err(io::Error::other("its compression is not one that a batch can have"));
        }
        for (what, found, expected) in [
            ("bytes", stored.size, self.file.size),
            ("bytes of content", self.content_size, self.file.content_size),
        ] {
            if found != expected {
                return Err(io::Error::other(format!("it has {found} {what} instead of {expected}")));
            }
        }
        let (found, expected) = (stored.sha256(), &self.file.sha256);
        if found != *expected {
            return Err(io::Error::other(format!("its SHA-256 is {found} instead of {expected}")));
        }
        Ok(())
    }

    pub(super) fn damaged(&self, reason: &str) -> io::Error {
        let (path, batch, reason) = (self.path.clone(), self.batch, reason.into());
        io::Error::new(io::ErrorKind::InvalidData, Error::Damaged { path, batch, reason })
    }
}

impl Content {
    fn stored(&self) -> &Stored {
        match self {
            Content::Plain(stored) => stored,
            Content::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }
}

/// Says whether a file begins as a Zstandard frame with a window that is allowed: RFC 8878, section 3.1.1.
/// The decoder also takes a frame to be skipped, and any window where the caller's buffer has room for all
/// content.
fn is_allowed_frame(head: &[u8]) -> bool {
    match head.strip_prefix(&ZSTD_MAGIC) {
        // In a single segment the content is the window, and that buffer.
        Some([descriptor, window]) => descriptor & 0x20 != 0 || *window <= ZSTD_WINDOW_MAX,
        _ => false,
    }
}

/// Tells a failure to read the file from a fault in what was read.
fn is_of_store(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<store::Error>())
}
