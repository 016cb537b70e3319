//! Bytes on their way to or from a store, counted and hashed as they pass, and the first of them remembered.
//!
//! Invariant: size, SHA-256 and head are those of exactly the bytes that the inner stream took or gave.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// How many bytes are remembered.
const HEAD_BYTES: usize = 6;

/// A stream with the size, the head and the hash of what went through it.
pub(super) struct Hashed<T> {
    pub(super) inner: T,
    pub(super) size: u64,
    pub(super) head: Vec<u8>,
    hash: Sha256,
}

impl<T> Hashed<T> {
    /// Begins with nothing passed.
    pub(super) fn new(inner: T) -> Self {
        Self { inner, size: 0, head: Vec::new(), hash: Sha256::new() }
    }

    /// The SHA-256 of what has passed so far, in lower-case hexadecimal.
    pub(super) fn sha256(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.head.extend(bytes.iter().take(HEAD_BYTES - self.head.len()));
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.pass(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.pass(&buffer[..read]);
        Ok(read)
    }
}

/// The SHA-256 of bytes at hand, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
