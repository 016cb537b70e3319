//! A store behind a network: S3, Google Cloud Storage, Azure Blob Storage, servers that speak their
//! protocols, or WebDAV.
//!
//! Input: paths of the store. Output: objects below one prefix. `upload` writes one, `download` reads one,
//! and `failure` says what a server refused.
//!
//! Invariant: before the first write, a probe checks that the server refuses to replace a file. Otherwise a
//! manifest could be replaced.

mod credentials;
mod download;
mod failure;
mod network;
mod upload;
mod webdav;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use url::Url;
use uuid::Uuid;

use crate::{Error, Store, Upload};
use download::OpenObject;
use failure::{failure, unavailable};
use network::{Interrupted, Network};
use upload::NewObject;
use webdav::Webdav;

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

    /// Creates a file. A request that was sent again, because no answer came, can find what it has put itself
    /// before: no two files that are created have the same content, so that tells.
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
        Ok(Box::new(NewObject::new(self.clone(), path)))
    }

    fn put_new(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.require_create_only()?;
        self.create(path, content)
    }

    fn get(&self, path: &str) -> Result<Box<dyn Read + Send>, Error> {
        let found = self.open_at(path, GetOptions::default())?;
        Ok(Box::new(OpenObject::new(self.clone(), path, found)))
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

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.into() } else { format!("{folder}/{name}") }
}
