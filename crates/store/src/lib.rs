//! Where batches live: a tree of files under one location, written by an export and read by an import.
//!
//! Input: relative paths whose components come from [`encode`], and bytes. Output: bytes, and errors that
//! name the whole path. A store is a `directory`, or `object` storage behind a network.
//!
//! Invariant: when [`Store::put_new`] has succeeded, the file is whole and durable. It never changes.

#![warn(clippy::unwrap_used, clippy::panic)]

mod directory;
mod limited;
#[cfg(feature = "network")]
mod object;

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use directory::Directory;
pub use limited::limited;

/// A place for files, addressed by relative paths with `/` between the components.
pub trait Store: Send + Sync {
    /// Starts a new file, durable once [`Upload::finish`] returns; dropped before that, it is removed. No
    /// other file may ever have the path: where one is already, a store may refuse, or replace it.
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, Error>;

    /// Creates a file at once: whole or absent, and never in place of another ([`Error::Exists`]). No other
    /// file may ever have the content, by which a store can tell its own from another's.
    ///
    /// After any other error the file can be there all the same, whole: more cannot be known when a disk or a
    /// network fails halfway.
    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error>;

    /// Opens a file for reading.
    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error>;

    /// Names what stands directly in a folder and sorts after `after`, in order; an absent folder is empty.
    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, Error>;

    /// Removes a file, or a folder with everything in it; what is absent is removed already.
    fn remove(&self, path: &str) -> Result<(), Error>;

    /// Names the store, so that [`open`] would find it again.
    fn url(&self) -> String;
}

/// A file on its way into a store.
pub trait Upload: Write + Send {
    /// Makes the file durable under its path.
    fn finish(self: Box<Self>) -> Result<(), Error>;
}

/// Opens an existing store: an absolute directory, or a URL.
///
/// A directory that does not exist is an error and not created, for it may be the mount point of a disk that
/// is away. Every operation, every read and every write asks `interrupted`, and stops with
/// [`Error::Interrupted`].
#[cfg(feature = "network")]
pub fn open(location: &str, interrupted: fn() -> bool) -> Result<Arc<dyn Store>, Error> {
    let unsupported = || Error::Unsupported { location: location.into() };
    if location.starts_with('/') {
        return Ok(Arc::new(Directory::open(Path::new(location), interrupted)?));
    }
    refuse_secrets(location)?;
    let url = url::Url::parse(location).map_err(|_| unsupported())?;
    let plain = location.contains("://") && url.query().is_none() && url.fragment().is_none();
    // A scheme also stands in `Object::open`, which makes its client, in `object/credentials.rs`, which reads
    // its credentials, and in the tables of README.md and docs/operations.md.
    match url.scheme() {
        _ if !plain => Err(unsupported()),
        "file" => {
            let directory = url.to_file_path().map_err(|()| unsupported())?;
            Ok(Arc::new(Directory::open(&directory, interrupted)?))
        }
        "s3" | "gs" | "az" | "http" | "https" => Ok(Arc::new(object::Object::open(url, interrupted)?)),
        _ => Err(unsupported()),
    }
}

/// Refuses a URL that could hold a password or a signature, which messages would repeat.
pub fn refuse_secrets(location: &str) -> Result<(), Error> {
    match location.split_once("://") {
        Some((scheme, rest)) if scheme != "file" && rest.contains(['@', '?', '#']) => Err(Error::Secret),
        _ => Ok(()),
    }
}

/// Opens the store in a directory, which is made if it is missing; its parent must exist.
pub fn create(directory: &Path, interrupted: fn() -> bool) -> Result<Arc<dyn Store>, Error> {
    Ok(Arc::new(Directory::create(directory, interrupted)?))
}

/// Everything but ASCII letters, digits, `-`, `_` and `.` is encoded.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// What every common file system takes as one name.
const NAME_BYTES_MAX: usize = 255;

/// Turns any text into one component of a path, which can neither climb, nor hide, nor separate.
pub fn encode(name: &str) -> Result<String, Error> {
    let refused = |reason| Error::Name { name: name.into(), reason };
    let encoded = match name.strip_prefix('.') {
        Some(rest) => format!("%2E{}", utf8_percent_encode(rest, ENCODED)),
        None => utf8_percent_encode(name, ENCODED).to_string(),
    };
    match encoded.len() {
        0 => Err(refused("it is empty")),
        1..=NAME_BYTES_MAX => Ok(encoded),
        _ => Err(refused("it is longer than 255 bytes when percent-encoded")),
    }
}

/// What can go wrong in a store. Paths are whole: the store's location, then the path in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there.
    #[error("file or directory \"{path}\" does not exist")]
    NotFound { path: String },

    /// Something is there already, and is left as it is.
    #[error("file \"{path}\" already exists")]
    Exists { path: String },

    /// The text cannot be a component of a path.
    #[error("\"{name}\" cannot be the name of a file: {reason}")]
    Name { name: String, reason: &'static str },

    /// The location is not one of a store.
    #[error(
        "store \"{location}\" is neither an absolute directory nor a URL of file, s3, gs, az, http or https"
    )]
    Unsupported { location: String },

    /// The location may have a secret in it, so it is not repeated.
    #[error("the URL of a store must have no user name, no password and no query")]
    Secret,

    /// AWS_PROFILE names a profile without keys.
    #[error("there are no keys for the profile \"{profile}\" that AWS_PROFILE names")]
    Profile { profile: String },

    /// Its server puts a file in place of another.
    #[error("store \"{url}\" cannot be used: its server replaces a file that it is told to create")]
    Replaces { url: String },

    /// The statement that waited is to end.
    #[error("could not {action} \"{path}\": interrupted")]
    Interrupted { action: &'static str, path: String },

    /// The operating system refused, or a server, or the network.
    #[error("could not {action} \"{path}\": {}", reason(source))]
    Io { action: &'static str, path: String, source: io::Error },
}

/// What the operating system says, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

impl Error {
    /// Says what was being done, and to which path, when it was refused.
    fn io(action: &'static str, path: &str, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { action, path, source },
        }
    }
}

/// Carries the error through `Read` and `Write`; `io::Error::downcast` gives it back.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            Error::Exists { .. } => io::ErrorKind::AlreadyExists,
            Error::Name { .. } => io::ErrorKind::InvalidInput,
            Error::Unsupported { .. } | Error::Replaces { .. } => io::ErrorKind::Unsupported,
            Error::Secret | Error::Profile { .. } => io::ErrorKind::InvalidInput,
            // Not of the kind Interrupted, after which everybody tries again.
            Error::Interrupted { .. } => io::ErrorKind::Other,
            Error::Io { source, .. } => source.kind(),
        };
        io::Error::new(kind, error)
    }
}

#[cfg(test)]
mod tests;
