//! A store behind a network: S3, Google Cloud Storage, Azure Blob Storage, and what speaks their protocols; or WebDAV.
//!
//! In go paths of the store; out come objects below one prefix. A put is buffered by parts, which are sent while the
//! next one fills. A get streams, and goes on where it was when a connection breaks.
//!
//! Invariant: nothing is put before the server has shown that it creates without replacing. What it does not promise by
//! itself, a batch's manifest cannot rest on.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes};
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, GetResult, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
};
use url::Url;
use uuid::Uuid;

use super::network::{Interrupted, Network, Pending};
use super::webdav::{StreamedPut, Webdav};
use super::{Error, Store, Upload, credentials};

/// A file that is no larger is put in one request. Parts of S3 have 5 MiB at least.
const PART_BYTES: u64 = 8 << 20;

/// A part is at least this fraction of what has been sent: the first 1250 are equal, which some servers ask of all, and
/// 10,000, the most that S3 takes, have room for 10 TiB.
const PARTS_EQUAL: u64 = 1250;

/// How many parts are on their way while the next one fills.
const PARTS_IN_FLIGHT: usize = 2;

/// How often a file is put again that others have put, or not, at the same moment.
const CREATE_ATTEMPTS: usize = 3;

/// The stores whose servers this process has seen refuse to replace a file.
static CREATE_ONLY: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A prefix of a bucket, or a collection of a WebDAV server.
#[derive(Clone)]
pub(super) struct Object {
    store: Arc<dyn ObjectStore>,
    webdav: Option<Webdav>,
    prefix: Path,
    url: String,
    network: Network,
}

impl Object {
    /// Names the store; nothing is asked of the server yet.
    pub(super) fn open(mut url: Url, interrupted: fn() -> bool) -> Result<Self, Error> {
        let unsupported = |url: &Url| Error::Unsupported { location: url.to_string() };
        let prefix = Path::from_url_path(url.path()).map_err(|_| unsupported(&url))?;
        let trimmed = url.path().trim_end_matches('/').to_owned();
        url.set_path(&trimmed);
        let location = url.as_str().trim_end_matches('/').to_owned();
        let network = Network::start(interrupted).map_err(|error| Error::io("open", &location, error))?;
        let (store, webdav): (Arc<dyn ObjectStore>, _) = match url.scheme() {
            "s3" | "gs" | "az" if url.has_host() => {
                let options = credentials::options(url.scheme())?;
                let (store, _) = object_store::parse_url_opts(&url, options)
                    .map_err(|error| failure("open", location.clone(), &error))?;
                (store.into(), None)
            }
            "http" | "https" => {
                let (store, webdav) = Webdav::open(&url)?;
                (store, Some(webdav))
            }
            _ => return Err(unsupported(&url)),
        };
        Ok(Self { store, webdav, prefix, url: location, network })
    }

    /// Makes a store of what keeps objects in this process.
    #[cfg(test)]
    pub(super) fn of(store: Arc<dyn ObjectStore>, interrupted: fn() -> bool) -> Self {
        let (prefix, url) = (Path::from("some/prefix"), format!("memory://{}/some/prefix", Uuid::new_v4()));
        let network = Network::start(interrupted).unwrap_or_else(|error| unreachable!("{error}"));
        Self { store, webdav: None, prefix, url, network }
    }

    fn full(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    fn path(&self, path: &str) -> Result<Path, Error> {
        Path::parse(format!("{}/{path}", self.prefix))
            .map_err(|error| Error::io("find", &self.full(path), io::Error::other(error)))
    }

    /// Does something with the store, and waits for it.
    fn wait<T, F>(
        &self,
        action: &'static str,
        path: &str,
        run: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<object_store::Result<T>, Error>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let run = run(Arc::clone(&self.store));
        self.network.wait(run).map_err(|Interrupted| Error::Interrupted { action, path: self.full(path) })
    }

    fn require_create_only(&self) -> Result<(), Error> {
        let known = || CREATE_ONLY.lock().unwrap_or_else(PoisonError::into_inner);
        if known().contains(&self.url) {
            return Ok(());
        }
        let path = format!(".{}", Uuid::new_v4());
        self.create(&path, b"first")?;
        let second = self.create_once(&path, b"second");
        let file = self.path(&path)?;
        self.wait("remove", &path, |store| async move { store.delete(&file).await })?
            .map_err(|error| unavailable("remove", self.full(&path), &error))?;
        match second {
            Err(Error::Exists { .. }) => {
                known().insert(self.url.clone());
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => Err(Error::Replaces { url: self.url.clone() }),
        }
    }

    /// Creates a file. A request that was sent again, because no answer came, can find what it has put itself before: no
    /// two files that are created have the same content, so that tells.
    fn create(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        for _ in 0..CREATE_ATTEMPTS {
            match self.create_once(path, content) {
                Err(Error::Exists { .. }) => {}
                created => return created,
            }
            let mut found = Vec::new();
            match self.get(path) {
                Ok(file) => file.take(content.len() as u64 + 1).read_to_end(&mut found),
                // The server saw a conflict with another put, and that has failed.
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            }
            .map_err(|error| Error::io("read", &self.full(path), error))?;
            if found == content {
                return Ok(());
            }
            break;
        }
        Err(Error::Exists { path: self.full(path) })
    }

    fn create_once(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let to = self.path(path)?;
        let payload = PutPayload::from(content.to_vec());
        let created = match &self.webdav {
            None => self.wait("create", path, |store| async move {
                store.put_opts(&to, payload, PutMode::Create.into()).await.map(drop)
            }),
            Some(webdav) => {
                let webdav = webdav.clone();
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let temporary = self.path(&join(folder, &format!(".{}", Uuid::new_v4())))?;
                self.wait("create", path, |store| async move {
                    store.put(&temporary, payload).await?;
                    let moved = webdav.move_new(&temporary, &to).await;
                    if moved.is_err() {
                        let _ = store.delete(&temporary).await;
                    }
                    moved
                })
            }
        }?;
        created.map_err(|error| match error {
            object_store::Error::AlreadyExists { .. } => Error::Exists { path: self.full(path) },
            error => unavailable("create", self.full(path), &error),
        })
    }
}

impl Store for Object {
    fn put(&self, path: &str) -> Result<Box<dyn Upload>, Error> {
        self.require_create_only()?;
        Ok(Box::new(NewObject {
            object: self.clone(),
            path: path.into(),
            part: Vec::new(),
            sent: 0,
            transfer: None,
        }))
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.require_create_only()?;
        self.create(path, content)
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        let found = self.open_at(path, GetOptions::default())?;
        Ok(Box::new(OpenObject {
            object: self.clone(),
            path: path.into(),
            size: found.meta.size,
            version: found.meta.e_tag.clone(),
            at: 0,
            resumed_at: None,
            chunk: Bytes::new(),
            rest: Some(found.into_stream()),
        }))
    }

    fn list(&self, folder: &str, after: &str) -> Result<Vec<String>, Error> {
        let prefix = self.path(folder)?;
        let below = prefix.clone();
        let name = move |path: &Path| Some(path.prefix_match(&below)?.next()?.as_ref().to_owned());
        let names = if after.is_empty() || self.webdav.is_some() {
            self.wait("list", folder, |store| async move {
                let found = store.list_with_delimiter(Some(&prefix)).await?;
                let files = found.objects.into_iter().map(|object| object.location);
                Ok(files.chain(found.common_prefixes).filter_map(|path| name(&path)).collect::<BTreeSet<_>>())
            })
        } else {
            let offset = self.path(&join(folder, after))?;
            self.wait("list", folder, |store| async move {
                let found = store.list_with_offset(Some(&prefix), &offset);
                let names = found.try_filter_map(|object| {
                    let name = name(&object.location);
                    async move { Ok(name) }
                });
                names.try_collect::<BTreeSet<_>>().await
            })
        }?;
        let names = names.map_err(|error| unavailable("list", self.full(folder), &error))?;
        Ok(names.into_iter().filter(|name| !name.starts_with('.') && name.as_str() > after).collect())
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        let file = self.path(path)?;
        // A WebDAV server removes a folder as it does a file.
        let is_flat = self.webdav.is_none();
        let removed = self.wait("remove", path, |store| async move {
            if is_flat {
                let below = store.list(Some(&file)).map_ok(|object| object.location).boxed();
                let removed =
                    store.delete_stream(below).try_fold(0, |removed, _| async move { Ok(removed + 1) });
                // It was a folder, which a server that keeps objects as files may not take for one to remove.
                if removed.await? > 0 {
                    return Ok(());
                }
            }
            store.delete(&file).await
        })?;
        match removed {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            removed => removed.map_err(|error| unavailable("remove", self.full(path), &error)),
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}

impl Object {
    fn open_at(&self, path: &str, options: GetOptions) -> Result<GetResult, Error> {
        let from = self.path(path)?;
        self.wait("open", path, |store| async move { store.get_opts(&from, options).await })?
            .map_err(|error| failure("open", self.full(path), &error))
    }
}

/// An object being written, of which nothing stays when it is dropped unless it is finished.
struct NewObject {
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

    /// Completes a multipart upload. When no answer comes it is asked again, and may then not know the upload any more:
    /// the path is nobody else's, so an object of the right size is ours.
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
        // There is nobody left to wait for it, nor to tell. Parts that stay are what a bucket's lifecycle rule is for.
        if let Some(Transfer::Multipart { mut upload, parts }) = self.transfer.take() {
            drop(parts);
            self.object.network.leave(async move {
                let _ = upload.abort().await;
            });
        }
    }
}

/// An object being read.
struct OpenObject {
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

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }
}

/// Says what was being done, and to which object, when the server or the network refused.
fn failure(action: &'static str, path: String, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } if !reason(error).ends_with("NoSuchBucket") => {
            Error::NotFound { path }
        }
        error => unavailable(action, path, error),
    }
}

/// The same where something that is not there is no answer.
fn unavailable(action: &'static str, path: String, error: &object_store::Error) -> Error {
    let reason = reason(error);
    let kind = match reason.strip_prefix(ANSWERED) {
        Some(status) if status.starts_with("401") || status.starts_with("403") => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    Error::Io { action, path, source: io::Error::new(kind, reason) }
}

const ANSWERED: &str = "the server answered ";

/// Where the clouds give their machines credentials. It is asked by who has none.
const METADATA: [&str; 2] = ["//169.254.169.254/", "//metadata.google.internal/"];

/// The innermost cause. Of what a server has answered only the status and the code: with a message it repeats what was
/// sent, a session's token for one.
fn reason(error: &object_store::Error) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    let cause =
        std::iter::successors(Some(first), |error| error.source()).last().unwrap_or(first).to_string();
    let cause = match cause.strip_prefix("Server returned non-2xx status code: ") {
        Some(answer) => {
            let (status, body) = answer.split_once(':').unwrap_or((answer, ""));
            let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
            match code.filter(|(code, _)| code.chars().all(char::is_alphanumeric)) {
                Some((code, _)) => format!("{ANSWERED}{status}: {code}"),
                None => format!("{ANSWERED}{status}"),
            }
        }
        None => cause,
    };
    let all = error.to_string();
    match METADATA.iter().any(|place| all.contains(place)) {
        true => format!("there are no credentials for it, nor does this machine have any: {cause}"),
        false => cause,
    }
}
