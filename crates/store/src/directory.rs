//! A store in a directory of the server.
//!
//! Input: paths of the store. Output: files below one opened directory handle. Folders are opened relative to
//! it, so no path and no symbolic link leads outside. Only regular files are opened.
//!
//! Invariant: when `finish` or `put_new` has succeeded, the file and all folders above it survive a
//! crash.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, DirBuilderExt, OpenOptions, OpenOptionsExt};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use url::Url;
use uuid::Uuid;

use super::{Error, Store, Upload};

/// Batches are carried by other users of the system too, so a group may read, as far as the umask lets it.
const FILE_MODE: u32 = 0o640;
const FOLDER_MODE: u32 = 0o750;

/// The default store holds copies of tables and stands in the data directory: private as that is.
const STORE_MODE: u32 = 0o700;

const BUFFER_BYTES: usize = 64 * 1024;

/// A directory, held open.
pub(super) struct Directory {
    root: Dir,
    location: String,
    url: String,
    interrupted: fn() -> bool,
    /// Folders whose names this store has made durable, each once.
    settled: Mutex<HashSet<String>>,
}

impl Directory {
    /// Opens a directory that exists.
    pub(super) fn open(path: &Path, interrupted: fn() -> bool) -> Result<Self, Error> {
        let location = path.to_string_lossy();
        let url =
            Url::from_file_path(path).map_err(|()| Error::Unsupported { location: location.to_string() })?;
        let root = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|error| Error::io("open directory", &location, error))?;
        Ok(Self {
            root,
            location: location.trim_end_matches('/').into(),
            url: url.into(),
            interrupted,
            settled: Mutex::default(),
        })
    }

    /// Opens a directory after making it, durably and privately, where it is missing.
    pub(super) fn create(path: &Path, interrupted: fn() -> bool) -> Result<Self, Error> {
        let location = path.to_string_lossy();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::Unsupported { location: location.into() });
        };
        let make = || {
            let parent = Dir::open_ambient_dir(parent, ambient_authority())?;
            make_folder(&parent, Path::new(name), STORE_MODE)?;
            sync_folder(&parent)
        };
        make().map_err(|error| Error::io("create directory", &location, error))?;
        Self::open(path, interrupted)
    }

    fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.location)
    }

    fn check(&self, action: &'static str, path: &str) -> Result<(), Error> {
        check(self.interrupted, action, &self.full(path))
    }

    fn folder(&self, path: &str) -> io::Result<Dir> {
        components(path).try_fold(self.root.try_clone()?, |folder, name| folder.open_dir(name))
    }

    /// Opens a folder after making it and those above it where they are missing.
    ///
    /// A folder that was found may have been made by a process that was killed before its fsync, so the name
    /// of each is made durable once, found or made.
    fn settle(&self, path: &str) -> io::Result<Dir> {
        let mut folder = self.root.try_clone()?;
        let mut above = String::new();
        for name in components(path) {
            above = format!("{above}/{name}");
            let made = make_folder(&folder, Path::new(name), FOLDER_MODE)?;
            if made || !self.settled().contains(&above) {
                sync_folder(&folder)?;
                self.settled().insert(above.clone());
            }
            folder = folder.open_dir(name)?;
        }
        Ok(folder)
    }

    fn settled(&self) -> MutexGuard<'_, HashSet<String>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_folder(&self, path: &str) -> Result<Dir, Error> {
        // Not Error::io: a folder that cannot be made is never "not found" or "exists" to the caller.
        self.settle(path).map_err(|source| Error::Io {
            action: "create directory",
            path: self.full(path),
            source,
        })
    }
}

impl Store for Directory {
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, Error> {
        self.check("create", path)?;
        let (above, name) = split(path);
        let folder = self.create_folder(above)?;
        Ok(Box::new(NewFile::create(folder, name.into(), self.full(path), self.interrupted)?))
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.check("create", path)?;
        let (above, name) = split(path);
        let folder = self.create_folder(above)?;
        let path = self.full(path);
        let mut file =
            NewFile::create(folder, format!(".{}", Uuid::new_v4()), path.clone(), self.interrupted)?;
        file.buffer.write_all(content).map_err(|error| Error::io("write", &path, error))?;
        file.sync()?;
        link_new(&file.folder, &file.name, name).map_err(|error| Error::io("create", &path, error))?;
        sync_folder(&file.folder).map_err(|error| Error::io("fsync", &path, error))
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        self.check("open", path)?;
        let (above, name) = split(path);
        let path = self.full(path);
        let file = self
            .folder(above)
            .and_then(|folder| open_regular(&folder, name))
            .map_err(|error| Error::io("open", &path, error))?;
        Ok(Box::new(OpenFile { file, path, interrupted: self.interrupted }))
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, Error> {
        self.check("read directory", folder)?;
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in self.folder(folder)?.entries()? {
                // A name that is not UTF-8 is not one of ours.
                let name = entry?.file_name().into_string();
                names.extend(name.ok().filter(|name| !name.starts_with('.') && name.as_str() > after));
            }
            names.sort_unstable();
            Ok(names)
        };
        match names() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|error| Error::io("read directory", &self.full(folder), error)),
        }
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.check("remove", path)?;
        let (above, name) = split(path);
        let remove = || {
            let folder = self.folder(above)?;
            if folder.symlink_metadata(name)?.is_dir() {
                folder.remove_dir_all(name)
            } else {
                folder.remove_file(name)
            }
        };
        match remove() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|error| Error::io("remove", &self.full(path), error)),
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

/// A file being written, which is removed when dropped unless it is kept.
struct NewFile {
    folder: Dir,
    name: String,
    path: String,
    buffer: BufWriter<File>,
    keep: bool,
    interrupted: fn() -> bool,
}

impl NewFile {
    fn create(folder: Dir, name: String, path: String, interrupted: fn() -> bool) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(FILE_MODE);
        let file = folder.open_with(&name, &options).map_err(|error| Error::io("create", &path, error))?;
        let buffer = BufWriter::with_capacity(BUFFER_BYTES, file.into_std());
        Ok(Self { folder, name, path, buffer, keep: false, interrupted })
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.buffer.flush().map_err(|error| Error::io("write", &self.path, error))?;
        self.buffer.get_ref().sync_all().map_err(|error| Error::io("fsync", &self.path, error))
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check(self.interrupted, "write", &self.path)?;
        self.buffer.write(bytes).map_err(|error| Error::io("write", &self.path, error).into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush().map_err(|error| Error::io("write", &self.path, error).into())
    }
}

impl Upload for NewFile {
    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        self.sync()?;
        sync_folder(&self.folder).map_err(|error| Error::io("fsync", &self.path, error))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.keep {
            // No caller takes the error, and a later export removes what stays.
            let _ = self.folder.remove_file(&self.name);
        }
    }
}

/// A file being read, whose errors name it.
struct OpenFile {
    file: File,
    path: String,
    interrupted: fn() -> bool,
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check(self.interrupted, "read", &self.path)?;
        self.file.read(buffer).map_err(|error| Error::io("read", &self.path, error).into())
    }
}

fn check(interrupted: fn() -> bool, action: &'static str, path: &str) -> Result<(), Error> {
    if interrupted() { Err(Error::Interrupted { action, path: path.into() }) } else { Ok(()) }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn components(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// Makes a folder, and says whether it was missing.
fn make_folder(parent: &Dir, name: &Path, mode: u32) -> io::Result<bool> {
    match parent.create_dir_with(name, DirBuilder::new().mode(mode)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Dir) -> io::Result<()> {
    // The handle itself is O_PATH, which cannot be synced.
    match folder.open(".")?.sync_all() {
        // Some network and FUSE file systems sync no folders; PostgreSQL's own fsync_fname goes on as well.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        synced => synced,
    }
}

/// Opens a file for reading if it is a regular one, without waiting for a writer of a FIFO.
fn open_regular(folder: &Dir, name: &str) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(folder, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

/// Gives a file its final name unless that is taken.
fn link_new(folder: &Dir, from: &str, to: &str) -> io::Result<()> {
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        // FAT, exFAT and many network file systems have no hard links.
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => rename_new(folder, from, to),
        linked => Ok(linked?),
    }
}

pub(super) fn rename_new(folder: &Dir, from: &str, to: &str) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE)?)
}
