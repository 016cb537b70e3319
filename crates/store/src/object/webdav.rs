//! What WebDAV needs beyond what it has in common with object storage: files of any size in one request, and
//! names that are taken only if they are free.
//!
//! object_store's HttpStore has neither a streamed PUT nor MOVE. Its copy_if_not_exists is COPY with
//! `Overwrite: F`, which it retries; a server can be interrupted halfway through a copy, but not through a
//! MOVE. The rename of opendal overwrites. So reqwest sends both requests here, and they do not pass through
//! object_store's retry.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore};
use reqwest::header::HeaderMap;
use reqwest::{Body, Client, Method, Response, StatusCode};
use tokio::sync::mpsc::{Sender, channel};
use url::{Position, Url};

use super::credentials;
use super::network::{CONNECT_TIMEOUT, Interrupted, Network, Pending, READ_TIMEOUT};
use crate::Error;

/// A WebDAV server.
#[derive(Clone)]
pub(super) struct Webdav {
    client: Client,
    root: Url,
}

impl Webdav {
    /// Returns a server, and what it has in common with object storage. Paths begin at its root.
    pub(super) fn open(url: &Url) -> Result<(Arc<dyn ObjectStore>, Self), Error> {
        let headers = credentials::headers(url)?;
        let unusable = |error: &dyn std::error::Error| {
            Error::io("open", url.as_str(), io::Error::other(error.to_string()))
        };
        let options = ClientOptions::new()
            .with_allow_http(true)
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT)
            .with_timeout_disabled()
            .with_default_headers(headers.clone());
        let store = HttpBuilder::new()
            .with_url(&url[..Position::BeforePath])
            .with_client_options(options)
            .build()
            .map_err(|error| unusable(&error))?;
        Ok((
            Arc::new(store),
            Self { client: client(headers).map_err(|error| unusable(&error))?, root: root(url) },
        ))
    }

    fn url(&self, path: &Path) -> Url {
        let mut url = self.root.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.clear().extend(path.parts());
        }
        url
    }

    /// Renames a file unless the name is taken.
    pub(super) async fn move_new(&self, from: &Path, to: &Path) -> object_store::Result<()> {
        let method = Method::from_bytes(b"MOVE").map_err(failure)?;
        let request = self.client.request(method, self.url(from));
        let request = request.header("Destination", self.url(to).as_str()).header("Overwrite", "F");
        let response = request.send().await.map_err(failure)?;
        match response.status() {
            StatusCode::PRECONDITION_FAILED => Err(object_store::Error::AlreadyExists {
                path: to.to_string(),
                source: "the name is taken".into(),
            }),
            _ => accepted(&response, to),
        }
    }

    /// Begins to put a file whose size is not known yet. Its folder exists.
    pub(super) fn put(&self, path: &Path, network: &Network) -> StreamedPut {
        let (parts, mut queue) = channel::<Bytes>(1);
        let body = Body::wrap_stream(futures_util::stream::poll_fn(move |context| {
            queue.poll_recv(context).map(|part| part.map(Ok::<_, io::Error>))
        }));
        let request = self.client.put(self.url(path)).body(body);
        let path = path.clone();
        let response = network.begin(async move { accepted(&request.send().await.map_err(failure)?, &path) });
        StreamedPut { parts, response, network: network.clone() }
    }
}

/// A file on its way. Dropped, the request breaks off.
pub(super) struct StreamedPut {
    parts: Sender<Bytes>,
    response: Pending<object_store::Result<()>>,
    network: Network,
}

impl StreamedPut {
    /// Sends a part, as soon as the one before is on its way. A server that has given up says why at the end.
    pub(super) fn send(&self, part: Bytes) -> Result<object_store::Result<()>, Interrupted> {
        let parts = self.parts.clone();
        self.network.wait(async move {
            let _ = parts.send(part).await;
            Ok(())
        })
    }

    /// Ends the file, and waits for the answer.
    pub(super) fn finish(self) -> Result<object_store::Result<()>, Interrupted> {
        drop(self.parts);
        self.response.wait()
    }
}

fn root(url: &Url) -> Url {
    let mut root = url.clone();
    root.set_path("");
    root
}

fn client(headers: HeaderMap) -> reqwest::Result<Client> {
    let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
    client.default_headers(headers).build()
}

fn accepted(response: &Response, path: &Path) -> object_store::Result<()> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let (path, source) = (path.to_string(), format!("the server answered {status}").into());
    Err(match status {
        StatusCode::FORBIDDEN => object_store::Error::PermissionDenied { path, source },
        StatusCode::UNAUTHORIZED => object_store::Error::Unauthenticated { path, source },
        _ => object_store::Error::Generic { store: "WebDAV", source },
    })
}

fn failure(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "WebDAV", source: Box::new(error) }
}
