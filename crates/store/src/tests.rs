//! What every store promises, tried on each kind; and what a directory, or a URL, promises beyond that.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use proptest::prelude::*;
use tempfile::TempDir;

use super::object::Object;
use super::{Error, Store, create, encode};

fn open(location: &str) -> Result<Arc<dyn Store>, Error> {
    super::open(location, || false)
}

fn store() -> (TempDir, Arc<dyn Store>) {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().to_str().unwrap()).unwrap();
    (directory, store)
}

/// Tries something on an empty store of each kind.
fn on_each(test: impl Fn(&dyn Store)) {
    let (_directory, store) = store();
    test(&*store);
    test(&Object::of(Arc::new(InMemory::new()), || false));
}

fn put(store: &dyn Store, path: &str, content: &[u8]) {
    let mut upload = store.put(path).unwrap();
    upload.write_all(content).unwrap();
    upload.finish().unwrap();
}

fn get(store: &dyn Store, path: &str) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    store.get(path)?.read_to_end(&mut content).unwrap();
    Ok(content)
}

/// Every name below a directory, hidden ones too.
fn tree(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(tree(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn a_finished_file_can_be_read() {
    on_each(|store| {
        put(store, "a/b/file", b"content");
        put(store, "a/b/empty", b"");
        assert_eq!(get(store, "a/b/file").unwrap(), b"content");
        assert_eq!(get(store, "a/b/empty").unwrap(), b"");
        for absent in ["a/b/other", "a/b/file/below", "other/file"] {
            let path = format!("{}/{absent}", store.url());
            match get(store, absent) {
                Err(Error::NotFound { path: named }) => assert!(path.ends_with(&named), "{named}"),
                // A file where a folder would be.
                Err(Error::Io { .. }) if absent.contains("file/") => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn files_of_any_size_arrive_whole() {
    on_each(|store| {
        for size in [1, (8 << 20) - 1, 8 << 20, (24 << 20) + 1] {
            let content = (0..size).map(|at| (at / 1000) as u8).collect::<Vec<_>>();
            let path = format!("folder/{size}");
            let mut upload = store.put(&path).unwrap();
            for piece in content.chunks(1 << 18) {
                upload.write_all(piece).unwrap();
            }
            upload.finish().unwrap();
            assert!(get(store, &path).unwrap() == content, "{size} bytes");
        }
    });
}

#[test]
fn files_and_folders_are_not_for_everybody() {
    let (directory, store) = store();
    put(&*store, "a/b/file", b"content");
    for path in ["a", "a/b", "a/b/file"] {
        let mode = fs::metadata(directory.path().join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o007, 0, "{path}");
    }
}

#[test]
fn a_dropped_upload_leaves_no_file() {
    on_each(|store| {
        for size in [1 << 20, 20 << 20] {
            let mut upload = store.put("a/file").unwrap();
            upload.write_all(&vec![0; size]).unwrap();
            drop(upload);
            assert!(store.list("a", "").unwrap().is_empty());
        }
    });
    let (directory, store) = store();
    drop(store.put("a/file").unwrap());
    assert_eq!(tree(directory.path()), ["a"]);
}

#[test]
fn put_takes_no_path_twice() {
    let (_directory, store) = store();
    put(&*store, "file", b"first");
    assert!(matches!(store.put("file"), Err(Error::Exists { path }) if path.ends_with("/file")));
    assert_eq!(get(&*store, "file").unwrap(), b"first");
}

#[test]
fn put_new_takes_no_path_twice_and_leaves_no_temporary() {
    on_each(|store| {
        store.put_new("a/file", b"first").unwrap();
        let refused = store.put_new("a/file", b"second");
        assert!(matches!(refused, Err(Error::Exists { path }) if path.ends_with("/a/file")));
        assert_eq!(get(store, "a/file").unwrap(), b"first");
        assert_eq!(store.list("", "").unwrap(), ["a"]);
    });
    let (directory, store) = store();
    store.put_new("a/file", b"first").unwrap();
    assert!(store.put_new("a/file", b"second").is_err());
    assert_eq!(tree(directory.path()), ["a", "a/file"]);
}

#[test]
fn put_new_knows_its_own_file_again() {
    let store = Object::of(Arc::new(InMemory::new()), || false);
    store.put_new("a/file", b"sent twice, answered once").unwrap();
    store.put_new("a/file", b"sent twice, answered once").unwrap();
}

#[test]
fn put_new_takes_no_path_of_a_folder_or_a_dangling_link() {
    let (directory, store) = store();
    fs::create_dir(directory.path().join("folder")).unwrap();
    symlink("nowhere", directory.path().join("link")).unwrap();
    for path in ["folder", "link"] {
        assert!(matches!(store.put_new(path, b"content"), Err(Error::Exists { .. })));
    }
    assert_eq!(tree(directory.path()), ["folder", "link"]);
}

#[test]
fn of_many_put_new_one_wins_and_no_partial_file_is_seen() {
    on_each(one_wins);
}

fn one_wins(store: &dyn Store) {
    let content = |writer: u8| vec![writer; 300_000];
    let winners: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|writer| scope.spawn(move || usize::from(store.put_new("a/file", &content(writer)).is_ok())))
            .collect();
        scope.spawn(|| {
            loop {
                match get(store, "a/file") {
                    Ok(read) => return assert_eq!(read, content(read[0])),
                    Err(Error::NotFound { .. }) => (),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(winners, 1);
}

#[test]
fn a_rename_in_place_of_a_link_takes_no_path_twice_either() {
    let (directory, store) = store();
    put(&*store, "from", b"new");
    put(&*store, "taken", b"old");
    let folder = cap_std::fs::Dir::open_ambient_dir(directory.path(), cap_std::ambient_authority()).unwrap();
    let refused = super::directory::rename_new(&folder, "from", "taken").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    super::directory::rename_new(&folder, "from", "free").unwrap();
    assert_eq!(
        (get(&*store, "taken").unwrap(), get(&*store, "free").unwrap()),
        (b"old".into(), b"new".into())
    );
}

#[test]
fn links_lead_nowhere() {
    let (directory, store) = store();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    put(&*store, "file", b"content");
    symlink(outside.path(), directory.path().join("folder")).unwrap();
    symlink(outside.path().join("secret"), directory.path().join("outside")).unwrap();
    symlink("file", directory.path().join("inside")).unwrap();

    for path in ["folder/secret", "outside", "inside"] {
        assert!(matches!(get(&*store, path), Err(Error::Io { action: "open", .. })), "{path}");
    }
    assert!(store.list("folder", "").is_err());
    assert!(store.put("folder/new").is_err());
    assert!(store.put("outside").is_err());
    assert!(store.put_new("folder/new", b"").is_err());
    assert!(store.remove("folder/secret").is_err());
    store.remove("folder").unwrap();
    assert_eq!(tree(outside.path()), ["secret"]);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn only_regular_files_are_read() {
    let (directory, store) = store();
    assert!(Command::new("mkfifo").arg(directory.path().join("fifo")).status().unwrap().success());
    fs::create_dir(directory.path().join("folder")).unwrap();
    for path in ["fifo", "folder"] {
        let error = get(&*store, path).unwrap_err().to_string();
        assert!(error.ends_with("it is not a regular file"), "{error}");
    }
}

#[test]
fn list_is_sorted_begins_after_and_hides_the_hidden() {
    on_each(|store| {
        for path in ["b/below", "a", "c/below", "c/deep/below", "d", ".hidden"] {
            put(store, path, b"");
        }
        assert_eq!(store.list("", "").unwrap(), ["a", "b", "c", "d"]);
        assert_eq!(store.list("", "a").unwrap(), ["b", "c", "d"]);
        assert_eq!(store.list("", "b").unwrap(), ["c", "d"]);
        assert_eq!(store.list("", "bb").unwrap(), ["c", "d"]);
        assert_eq!(store.list("c", "").unwrap(), ["below", "deep"]);
        assert_eq!(store.list("c", "below").unwrap(), ["deep"]);
        assert!(store.list("", "d").unwrap().is_empty());
        assert!(store.list("absent/folder", "").unwrap().is_empty());
        assert!(store.list("absent/folder", "a").unwrap().is_empty());
    });
    let (_directory, store) = store();
    put(&*store, "a", b"");
    assert!(matches!(store.list("a", ""), Err(Error::Io { .. })));
}

#[test]
fn remove_takes_folders_whole_and_does_not_mind_the_absent() {
    on_each(|store| {
        for path in ["a/b/file", "a/b/c/file", "a/bc", "a/other"] {
            put(store, path, b"");
        }
        store.remove("a/b").unwrap();
        store.remove("a/b").unwrap();
        store.remove("absent/file").unwrap();
        assert_eq!(store.list("a", "").unwrap(), ["bc", "other"]);
        store.remove("a/other").unwrap();
        put(store, "a/b/file", b"again");
        assert_eq!(get(store, "a/b/file").unwrap(), b"again");
    });
}

#[test]
fn errors_name_the_whole_path_and_pass_through_io() {
    let (directory, store) = store();
    let error = get(&*store, "a/file").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("file or directory \"{}/a/file\" does not exist", directory.path().display())
    );

    fs::write(directory.path().join("a"), "").unwrap();
    let error = std::io::Error::from(store.put("a/file").map(drop).unwrap_err());
    assert!(matches!(error.downcast::<Error>(), Ok(Error::Io { action: "create directory", .. })));
}

#[test]
fn a_store_is_an_absolute_directory_or_a_file_url() {
    let directory = TempDir::with_prefix("a store ").unwrap();
    let path = directory.path().to_str().unwrap();
    let url = open(path).unwrap().url();
    assert!(url.starts_with("file:///") && url.contains("a%20store%20"));
    for location in [url.clone(), url.replace("file:///", "file://localhost/"), format!("{path}/")] {
        put(&*open(&location).unwrap(), "file", location.as_bytes());
        assert_eq!(fs::read(directory.path().join("file")).unwrap(), location.as_bytes());
        fs::remove_file(directory.path().join("file")).unwrap();
    }

    for location in
        ["", "relative", "./x", "file:relative", "file://host/x", "file:///x?y", "file:///x#y", "memory:///x"]
    {
        assert!(matches!(open(location), Err(Error::Unsupported { .. })), "{location}");
    }
    assert!(matches!(open(&format!("{path}/absent")), Err(Error::NotFound { .. })));
    fs::write(directory.path().join("file"), "").unwrap();
    assert!(matches!(open(&format!("{path}/file")), Err(Error::Io { action: "open directory", .. })));
}

#[test]
fn a_url_names_an_object_store_and_holds_no_secret() {
    for (location, url) in [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some/prefix/", "s3://bucket/some/prefix"),
        ("HTTP://Host:8080/dav/a%20b/", "http://host:8080/dav/a%20b"),
        ("https://host", "https://host"),
    ] {
        assert_eq!(open(location).unwrap().url(), url);
        assert_eq!(open(url).unwrap().url(), url);
    }
    for location in
        ["s3://", "s3:///prefix", "s3://bucket//x", "http://", "ftp://host/x", "s3:bucket", "s3://bucket/%00"]
    {
        assert!(matches!(open(location), Err(Error::Unsupported { .. })), "{location}");
    }
    for location in [
        "s3://key:secret@bucket/prefix",
        "s3://key:sec/ret@bucket",
        "https://user:secret@host/x",
        "https://user@host/x",
        "https://host/x?token=secret",
        "az://container/x?sig=secret",
        "https://host/x#secret",
        "ftp://user:secret@host",
    ] {
        let refused = open(location).map(drop).unwrap_err();
        assert!(matches!(refused, Error::Secret), "{location}");
        assert!(!refused.to_string().contains("secret@") && !format!("{refused:?}").contains("bucket"));
    }
}

#[test]
fn a_wait_for_a_network_is_interrupted() {
    let store = Object::of(Arc::new(InMemory::new()), || true);
    let refused = store.get("file").map(drop).unwrap_err();
    assert!(matches!(refused, Error::Interrupted { action: "open", .. }), "{refused}");
    // Callers retry an error of that kind.
    assert_ne!(std::io::Error::from(refused).kind(), std::io::ErrorKind::Interrupted);
    assert!(matches!(store.put_new("file", b""), Err(Error::Interrupted { .. })));
}

#[test]
fn every_operation_of_a_directory_is_interrupted() {
    static INTERRUPTED: AtomicBool = AtomicBool::new(false);
    fn is_interruption<T>(result: Result<T, impl Into<std::io::Error>>) -> bool {
        let error = result.err().map(|error| error.into().downcast::<Error>());
        matches!(error, Some(Ok(Error::Interrupted { .. })))
    }
    let directory = TempDir::new().unwrap();
    let store = super::open(directory.path().to_str().unwrap(), || INTERRUPTED.load(Relaxed)).unwrap();
    put(&*store, "file", b"content");
    let (mut reader, mut upload) = (store.get("file").unwrap(), store.put("other").unwrap());
    INTERRUPTED.store(true, Relaxed);
    assert!(is_interruption(reader.read(&mut [0])));
    assert!(is_interruption(upload.write(b"x")));
    assert!(is_interruption(store.get("file")));
    assert!(is_interruption(store.put("another")));
    assert!(is_interruption(store.put_new("another", b"")));
    assert!(is_interruption(store.list("", "")));
    assert!(is_interruption(store.remove("file")));
    drop(upload);
    assert_eq!(tree(directory.path()), ["file"]);
}

/// A store of S3 whose server gives every request the same answer.
fn answering(status: &'static str, body: &'static str) -> Object {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 8192]);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = connection.write_all(format!("{head}{body}").as_bytes());
        }
    });
    let s3 = AmazonS3Builder::new().with_bucket_name("bucket").with_endpoint(endpoint).with_allow_http(true);
    let s3 = s3.with_region("r").with_access_key_id("key").with_secret_access_key("secret");
    Object::of(Arc::new(s3.build().unwrap()), || false)
}

/// Fails when an update of object_store changes how it writes a server's answer.
#[test]
fn of_an_answer_only_the_status_and_the_code_are_repeated() {
    let denied =
        answering("403 Forbidden", "<Error><Code>AccessDenied</Code><Message>token</Message></Error>");
    for refused in [denied.get("file").map(drop), denied.list("folder", "").map(drop), denied.remove("file")]
    {
        let refused = refused.unwrap_err();
        let text = refused.to_string();
        assert!(text.ends_with("\": the server answered 403 Forbidden: AccessDenied"), "{text}");
        assert_eq!(std::io::Error::from(refused).kind(), std::io::ErrorKind::PermissionDenied);
    }
    let plain = answering("401 Unauthorized", "token").get("file").map(drop).unwrap_err();
    assert!(plain.to_string().ends_with("\": the server answered 401 Unauthorized"), "{plain}");
    let absent = answering("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>");
    assert!(matches!(absent.get("file").map(drop), Err(Error::NotFound { .. })));
    let absent = answering("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>");
    assert!(matches!(absent.get("file").map(drop), Err(Error::Io { action: "open", .. })));
}

#[test]
fn create_makes_one_private_directory() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("store");
    for _ in 0..2 {
        put(&*create(&path, || false).unwrap(), "file", b"");
        fs::remove_file(path.join("file")).unwrap();
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(create(&path.join("absent/store"), || false), Err(Error::NotFound { .. })));
}

#[test]
fn names_are_encoded() {
    for (name, encoded) in [
        ("users", "users"),
        ("Order-Items_2.0", "Order-Items_2.0"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("a/b", "a%2Fb"),
        ("a b\n", "a%20b%0A"),
        ("100%", "100%25"),
        ("\0", "%00"),
        ("größe", "gr%C3%B6%C3%9Fe"),
    ] {
        assert_eq!(encode(name).unwrap(), encoded);
    }
    assert!(encode(&"a".repeat(255)).is_ok());
    for name in ["", &"a".repeat(300), &"ü".repeat(43)] {
        assert!(matches!(encode(name), Err(Error::Name { .. })), "{name}");
    }
}

proptest! {
    #[test]
    fn encoded_names_are_single_and_different(one in any::<String>(), other in any::<String>()) {
        if let (Ok(a), Ok(b)) = (encode(&one), encode(&other)) {
            prop_assert_eq!(one == other, a == b);
            prop_assert!(!a.starts_with('.') && !a.contains(['/', '\\', '\0']));
            prop_assert_eq!(percent_encoding::percent_decode_str(&a).decode_utf8().unwrap(), one);
        }
    }
}
