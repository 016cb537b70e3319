//! Reading one object.
//!
//! Input: the answer to a GET. Output: its bytes as they arrive. When a connection breaks, a second GET
//! continues where the first one ended.
//!
//! Invariant: the bytes of one read are those of one version of the object.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::{GetOptions, GetRange, GetResult};

use super::Object;
use super::failure::unavailable;
use super::network::Interrupted;
use crate::Error;

/// An object being read.
pub(super) struct OpenObject {
    object: Object,
    path: String,
    size: u64,
    /// So that what is read after a break is the same object.
    version: Option<String>,
    at: u64,
    resumed_at: Option<u64>,
    chunk: Bytes,
    /// None after a failure.
    rest: Option<BoxStream<'static, object_store::Result<Bytes>>>,
}

impl OpenObject {
    /// Reads what the server has begun to send.
    pub(super) fn new(object: Object, path: &str, found: GetResult) -> Self {
        Self {
            object,
            path: path.into(),
            size: found.meta.size,
            version: found.meta.e_tag.clone(),
            at: 0,
            resumed_at: None,
            chunk: Bytes::new(),
            rest: Some(found.into_stream()),
        }
    }

    /// Returns the next bytes; none at the end.
    fn next(&mut self) -> Result<Bytes, Error> {
        loop {
            let interrupted = || Error::Interrupted { action: "read", path: self.object.full(&self.path) };
            let mut rest = self.rest.take().ok_or_else(interrupted)?;
            let read = self.object.network.wait(async move { (rest.next().await, rest) });
            let (next, rest) = read.map_err(|Interrupted| interrupted())?;
            match next {
                Some(Ok(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.rest = Some(rest);
                    return Ok(chunk);
                }
                None => {
                    self.rest = Some(stream::empty().boxed());
                    return Ok(Bytes::new());
                }
                Some(Err(error)) => self.resume(&error)?,
            }
        }
    }

    /// Goes on where a connection has broken, unless that brings nothing.
    fn resume(&mut self, error: &object_store::Error) -> Result<(), Error> {
        if self.resumed_at == Some(self.at) || self.at >= self.size {
            return Err(unavailable("read", self.object.full(&self.path), error));
        }
        self.resumed_at = Some(self.at);
        let options = GetOptions {
            range: Some(GetRange::Offset(self.at)),
            if_match: self.version.clone(),
            ..GetOptions::default()
        };
        self.rest = Some(self.object.open_at(&self.path, options)?.into_stream());
        Ok(())
    }
}

impl Read for OpenObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.chunk = self.next()?;
        }
        let read = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}
