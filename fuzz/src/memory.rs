//! A store in memory, whose files can be changed at will, and which can be slow, interrupted and broken.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard};

use libfuzzer_sys::arbitrary::{self, Arbitrary};

use store::{Error, Store, Upload};

/// The files of a store by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The store; clones share the files.
#[derive(Clone, Default)]
pub struct Memory {
    files: Arc<Mutex<Files>>,
    opened: Arc<Mutex<Vec<String>>>,
    flow: Flow,
    broken: Option<(String, usize)>,
}

/// How bytes arrive.
#[derive(Arbitrary, Clone, Copy, Debug, Default)]
pub struct Flow {
    /// At most so many at once, or any number if it is 0.
    piece: u8,
    /// Every other call is interrupted.
    interrupted: bool,
}

/// What a reader's caller has room for at once.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Buffer(u16);

impl Buffer {
    /// Its size.
    pub fn bytes(self) -> usize {
        match self.0 {
            0 => 1 << 16,
            bytes => bytes.into(),
        }
    }
}

impl Memory {
    /// Makes a store that has these files.
    pub fn new(files: Files, flow: Flow) -> Self {
        Self { files: Arc::new(Mutex::new(files)), flow, ..Self::default() }
    }

    /// Breaks a file: reading it fails after so many bytes.
    pub fn breaking(self, path: &str, after: usize) -> Self {
        Self { broken: Some((path.into(), after)), ..self }
    }

    /// Locks the files.
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("no panic before")
    }

    /// Lists the paths that were asked for, there or not.
    pub fn opened(&self) -> Vec<String> {
        self.opened.lock().expect("no panic before").clone()
    }
}

impl Store for Memory {
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(NewFile { store: self.clone(), path: path.into(), content: Vec::new() }))
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let mut files = self.files();
        if files.contains_key(path) {
            return Err(Error::Exists { path: path.into() });
        }
        files.insert(path.into(), content.into());
        Ok(())
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        self.opened.lock().expect("no panic before").push(path.into());
        let content = self.files().get(path).cloned().ok_or_else(|| Error::NotFound { path: path.into() })?;
        let broken = self.broken.as_ref().filter(|(broken, _)| broken == path);
        Ok(Box::new(OpenFile {
            path: path.into(),
            at: 0,
            breaks_at: broken.map(|(_, after)| content.len().min(*after)),
            content,
            flow: self.flow,
            interrupt: false,
        }))
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, Error> {
        let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let files = self.files();
        let names = files.keys().filter_map(|path| path.strip_prefix(&below)?.split('/').next());
        let names = names.filter(|name| !name.starts_with('.') && *name > after);
        Ok(names.collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let below = format!("{path}/");
        self.files().retain(|file, _| file != path && !file.starts_with(&below));
        Ok(())
    }

    fn url(&self) -> String {
        "memory://".into()
    }
}

struct NewFile {
    store: Memory,
    path: String,
    content: Vec<u8>,
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for NewFile {
    fn finish(self: Box<Self>) -> Result<(), Error> {
        self.store.files().insert(self.path, self.content);
        Ok(())
    }
}

struct OpenFile {
    path: String,
    content: Vec<u8>,
    at: usize,
    breaks_at: Option<usize>,
    flow: Flow,
    interrupt: bool,
}

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fail = |kind: io::ErrorKind| {
            Err(Error::Io { action: "read", path: self.path.clone(), source: kind.into() }.into())
        };
        if self.breaks_at == Some(self.at) {
            return fail(io::ErrorKind::Other);
        }
        self.interrupt = self.flow.interrupted && !self.interrupt;
        if self.interrupt {
            return fail(io::ErrorKind::Interrupted);
        }
        let piece = match self.flow.piece {
            0 => usize::MAX,
            piece => piece.into(),
        };
        let rest = &self.content[self.at..self.breaks_at.unwrap_or(self.content.len())];
        let read = rest.len().min(buffer.len()).min(piece);
        buffer[..read].copy_from_slice(&rest[..read]);
        self.at += read;
        Ok(read)
    }
}
