//! Writing one object.
//!
//! Input: bytes, which are buffered by parts; a part is sent while the next one fills. Output: one request
//! for a small file, a multipart upload for a larger one, or one streamed PUT for WebDAV.
//!
//! Invariant: the object exists only after `finish`, except with WebDAV, where a broken PUT can leave part of
//! it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};

use super::Object;
use super::failure::unavailable;
use super::network::{Interrupted, Pending};
use super::webdav::StreamedPut;
use crate::{Error, Upload};

/// A file that is no larger is put in one request. Parts of S3 have 5 MiB at least.
const PART_BYTES: u64 = 8 << 20;

/// A part is at least this fraction of what has been sent: the first 1250 are equal, which some servers ask
/// of all, and 10,000, the most that S3 takes, have room for 10 TiB.
const PARTS_EQUAL: u64 = 1250;

/// How many parts are on their way while the next one fills.
const PARTS_IN_FLIGHT: usize = 2;

/// An object being written, of which nothing stays when it is dropped unless it is finished.
pub(super) struct NewObject {
    object: Object,
    path: String,
    part: Vec<u8>,
    sent: u64,
    transfer: Option<Transfer>,
}

/// What takes the parts of a file that has more than one.
enum Transfer {
    Multipart { upload: Box<dyn MultipartUpload>, parts: VecDeque<Pending<object_store::Result<()>>> },
    Streamed(StreamedPut),
}

impl NewObject {
    /// Starts an object; nothing is sent yet.
    pub(super) fn new(object: Object, path: &str) -> Self {
        Self { object, path: path.into(), part: Vec::new(), sent: 0, transfer: None }
    }

    fn part_bytes(&self) -> usize {
        PART_BYTES.max(self.sent / PARTS_EQUAL) as usize
    }

    fn interrupted(&self) -> Error {
        Error::Interrupted { action: "write", path: self.object.full(&self.path) }
    }

    fn failure(&self, error: &object_store::Error) -> Error {
        unavailable("write", self.object.full(&self.path), error)
    }

    fn begin(&self) -> Result<Transfer, Error> {
        let path = self.object.path(&self.path)?;
        if let Some(webdav) = &self.object.webdav {
            let empty = self.object.wait("write", &self.path, |store| {
                let path = path.clone();
                // It makes the folders.
                async move { store.put(&path, PutPayload::new()).await.map(drop) }
            })?;
            empty.map_err(|error| self.failure(&error))?;
            return Ok(Transfer::Streamed(webdav.put(&path, &self.object.network)));
        }
        let upload = self
            .object
            .wait("write", &self.path, |store| async move { store.put_multipart(&path).await })?
            .map_err(|error| self.failure(&error))?;
        Ok(Transfer::Multipart { upload, parts: VecDeque::new() })
    }

    fn send_part(&mut self) -> Result<(), Error> {
        self.sent += self.part.len() as u64;
        // Where one part was not enough, the next one need not grow into its size by copies of itself.
        let next = Vec::with_capacity(self.part_bytes());
        let part = Bytes::from(std::mem::replace(&mut self.part, next));
        let mut transfer = match self.transfer.take() {
            Some(transfer) => transfer,
            None => self.begin()?,
        };
        let sent = match &mut transfer {
            Transfer::Multipart { upload, parts } => {
                let room = match parts.len() {
                    PARTS_IN_FLIGHT => parts.pop_front().map_or(Ok(Ok(())), Pending::wait),
                    _ => Ok(Ok(())),
                };
                parts.push_back(self.object.network.begin(upload.put_part(part.into())));
                room
            }
            Transfer::Streamed(put) => put.send(part),
        };
        self.transfer = Some(transfer);
        sent.map_err(|Interrupted| self.interrupted())?.map_err(|error| self.failure(&error))
    }

    fn put_at_once(&mut self) -> Result<(), Error> {
        let (to, content) = (self.object.path(&self.path)?, PutPayload::from(std::mem::take(&mut self.part)));
        let put = self
            .object
            .wait("write", &self.path, |store| async move { store.put(&to, content).await.map(drop) })?;
        put.map_err(|error| self.failure(&error))
    }

    /// Completes a multipart upload. When no answer comes it is asked again, and may then not know the upload
    /// any more: no other upload has the path, so an object of the right size is this one.
    async fn complete(
        store: Arc<dyn ObjectStore>,
        path: Path,
        size: u64,
        mut upload: Box<dyn MultipartUpload>,
    ) -> object_store::Result<()> {
        match upload.complete().await {
            Err(error @ object_store::Error::NotFound { .. }) => match store.head(&path).await {
                Ok(found) if found.size == size => Ok(()),
                _ => Err(error),
            },
            completed => completed.map(drop),
        }
    }
}

impl Write for NewObject {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.part_bytes() - self.part.len());
        self.part.extend_from_slice(&bytes[..taken]);
        if self.part.len() == self.part_bytes() {
            self.send_part()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        // A part cannot be sent before it is full.
        Ok(())
    }
}

impl Upload for NewObject {
    fn finish(mut self: Box<Self>) -> Result<(), Error> {
        if self.sent == 0 {
            return self.put_at_once();
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        let path = self.object.path(&self.path)?;
        let finished = match self.transfer.take() {
            // A part could not be sent.
            None => Err(Interrupted),
            Some(Transfer::Streamed(put)) => put.finish(),
            Some(Transfer::Multipart { upload, parts }) => {
                let sent = parts.into_iter().try_for_each(|part| match part.wait() {
                    Ok(sent) => sent.map_err(|error| self.failure(&error)),
                    Err(Interrupted) => Err(self.interrupted()),
                });
                if let Err(error) = sent {
                    self.transfer = Some(Transfer::Multipart { upload, parts: VecDeque::new() });
                    return Err(error);
                }
                let store = Arc::clone(&self.object.store);
                self.object.network.wait(Self::complete(store, path, self.sent, upload))
            }
        };
        finished.map_err(|Interrupted| self.interrupted())?.map_err(|error| self.failure(&error))
    }
}

impl Drop for NewObject {
    fn drop(&mut self) {
        // Nothing waits for it or takes its error. Parts that stay are what a bucket's lifecycle
        // rule is for.
        if let Some(Transfer::Multipart { mut upload, parts }) = self.transfer.take() {
            drop(parts);
            self.object.network.leave(async move {
                let _ = upload.abort().await;
            });
        }
    }
}
