//! Servers that stores can be on: two of S3, one that ignores If-None-Match, and Apache's WebDAV.
//! `scripts/servers` has installed them. Each listens on the loopback interface only, and ends with this
//! process.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Folder, SERVER_USER, wait_until};

/// Whom the servers of S3 know.
pub const KEY_ID: &str = "AKIATABLEEXPORT";
pub const SECRET_KEY: &str = "secret/key+of=the-tests";

/// The bucket that is there from the start.
pub const BUCKET: &str = "batches";

const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers");

/// A running server, and the folder with what it stores.
pub struct Server {
    address: SocketAddr,
    /// Ends the server once its standard input, a pipe from this process, ends.
    keeper: Child,
    folder: Folder,
}

impl Server {
    /// Starts s3s-fs, which checks signatures and digests.
    pub fn s3s() -> Server {
        Server::start(|folder, port| {
            fs::create_dir(folder.join(BUCKET)).unwrap();
            let mut command = Command::new(format!("{INSTALLED}/bin/s3s-fs"));
            command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--access-key", KEY_ID, "--secret-key", SECRET_KEY]).arg(folder);
            command
        })
    }

    /// Starts moto, which lists by pages as S3 does.
    pub fn moto() -> Server {
        let server = Server::start(|_, port| {
            let mut command = Command::new(format!("{INSTALLED}/python/bin/moto_server"));
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
            command
        });
        server.put(&format!("/{BUCKET}"), "");
        server
    }

    /// Starts nanio, which takes a conditional put for an ordinary one.
    pub fn nanio() -> Server {
        Server::start(|folder, port| {
            fs::create_dir_all(folder.join(BUCKET)).unwrap();
            let mut command = Command::new(format!("{INSTALLED}/python/bin/nanio"));
            command
                .args(["serve", "--host", "127.0.0.1", "--port", &port.to_string(), "--data-dir"])
                .arg(folder);
            command.env("NANIO_ACCESS_KEY", KEY_ID).env("NANIO_SECRET_KEY", SECRET_KEY);
            command
        })
    }

    /// Starts Apache with WebDAV, for every user below `/open` and for one user below `/closed`.
    pub fn apache() -> Server {
        Server::start(|folder, port| {
            for name in ["open", "closed", "state"] {
                fs::create_dir(folder.join(name)).unwrap();
                if let Some((user, group)) = *SERVER_USER {
                    chown(folder.join(name), Some(user), Some(group)).unwrap();
                }
            }
            // {SHA} is what Apache takes for SHA-1 in base64: here of SECRET_KEY.
            fs::write(folder.join("users"), format!("{KEY_ID}:{{SHA}}{SECRET_KEY_SHA1}\n")).unwrap();
            fs::write(folder.join("apache.conf"), apache_conf(folder, port)).unwrap();
            let mut command = Command::new("/usr/sbin/apache2");
            command.args(["-D", "FOREGROUND", "-f"]).arg(folder.join("apache.conf"));
            command
        })
    }

    fn start(command: impl FnOnce(&Path, u16) -> Command) -> Server {
        let folder = Folder::new();
        let address = free_address();
        let log = fs::File::create(folder.path.join("log")).unwrap();
        let command = command(&folder.path, address.port());
        let mut keeper = Command::new("sh");
        keeper.args(["-c", r#""$@" </dev/null & cat >/dev/null; kill $!; wait"#, "keeper"]);
        keeper.arg(command.get_program()).args(command.get_args());
        keeper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let keeper = keeper
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let server = Server { address, keeper, folder };
        wait_until("the store's server takes connections", || TcpStream::connect(address).is_ok());
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the files whose names end so, in order.
    pub fn files(&self, suffix: &str) -> Vec<PathBuf> {
        let mut files = self.folder.files();
        files.retain(|path| path.to_string_lossy().ends_with(suffix));
        files
    }

    /// Puts a file on a server that asks for no signature.
    pub fn put(&self, path: &str, content: &str) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = content.len();
        write!(
            stream,
            "PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{content}",
            self.address
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// An address at which no server listens, for now.
pub fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

const SECRET_KEY_SHA1: &str = "zVzSl7uWpOIHAJkFbNuI/zsmbs4=";

fn apache_conf(folder: &Path, port: u16) -> String {
    let modules =
        ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "dav", "dav_fs"];
    let modules = modules
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    let user = if SERVER_USER.is_some() { "User postgres\nGroup postgres\n" } else { "" };
    let folder = folder.display();
    format!(
        "{modules}{user}
         ServerName localhost
         Listen 127.0.0.1:{port}
         PidFile {folder}/apache.pid
         ErrorLog {folder}/log
         DocumentRoot {folder}
         DavLockDB {folder}/state/locks
         <Location />
             Require all granted
             Dav On
         </Location>
         <Location /closed>
             AuthType Basic
             AuthName closed
             AuthUserFile {folder}/users
             Require valid-user
         </Location>\n"
    )
}
