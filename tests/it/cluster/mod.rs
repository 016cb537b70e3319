//! Scratch PostgreSQL clusters for the integration tests.
//!
//! Servers run from the installation in `PG_TABLE_EXPORT_ROOT`, or from one made by `scripts/install` for
//! this process. They listen on a Unix socket in a folder of their own, so that any number of them run side
//! by side. Each folder has a keeper outside this process, which stops the server and removes the folder when
//! the value is dropped, and also when the process ends in any other way. So clusters may be shared in
//! statics, as [`SOURCE`] and [`COPY`] are.

pub mod database;
pub mod disk;
pub mod forgetful;
pub mod mirror;
pub mod proxy;
pub mod random;
pub mod servers;

use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use postgres::{Client, Config, NoTls};

/// Names the socket only: each cluster has a folder of its own for it, and no TCP port.
const PORT: u16 = 5432;
const TIMEOUT: Duration = Duration::from_secs(60);

/// A kill is a crash of the server, not of the machine, so nothing needs to reach the disk.
const DEFAULTS: &str = "
listen_addresses = ''
fsync = off
dynamic_shared_memory_type = mmap
max_prepared_transactions = 10
log_line_prefix = '%m [%p] %q%d '
";

/// Two clusters for all tests that need no settings, never stop a server, and name their databases, roles and
/// prepared transactions as no other test does.
pub static SOURCE: LazyLock<Cluster> = LazyLock::new(Cluster::start);
pub static COPY: LazyLock<Cluster> = LazyLock::new(Cluster::start);

/// A running server with its data directory, socket and log.
pub struct Cluster {
    server: Option<Child>,
    environment: Vec<(String, String)>,
    folder: Folder,
}

impl Cluster {
    /// Starts an empty cluster: UTF-8, superuser `postgres`, no passwords.
    pub fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// Starts one with room for few locks.
    pub fn start_with_few_locks() -> Cluster {
        Cluster::start_with(&[
            "max_connections = 5",
            "autovacuum_max_workers = 1",
            "max_worker_processes = 0",
            "max_wal_senders = 0",
            "max_prepared_transactions = 0",
            "max_locks_per_transaction = 10",
        ])
    }

    /// Starts an empty cluster with further lines in its `postgresql.conf`.
    pub fn start_with(settings: &[&str]) -> Cluster {
        Cluster::start_in(&[], settings)
    }

    /// Starts an empty cluster with variables in its environment.
    pub fn start_in(environment: &[(&str, &str)], settings: &[&str]) -> Cluster {
        let folder = Folder::new();
        let data = folder.path.join("data");
        run(server_program("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .arg("--pgdata")
            .arg(&data));
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut cluster = Cluster { server: None, environment, folder };
        cluster.configure(&[DEFAULTS]);
        cluster.configure(settings);
        cluster.launch();
        cluster
    }

    /// Starts a copy of this cluster as it is now, as if its data directory had been copied: the same system
    /// identifier and timeline, and a life of its own.
    pub fn copy(&self) -> Cluster {
        self.base_backup(&[])
    }

    /// Starts a hot standby that follows this cluster until it is promoted.
    pub fn standby(&self) -> Cluster {
        self.base_backup(&["--write-recovery-conf"])
    }

    /// Takes a backup: a cluster that is not running.
    pub fn backup(&self) -> Cluster {
        self.unpack_base_backup(&[])
    }

    /// Starts a cluster that pg_upgrade has made of this one, which must be stopped.
    pub fn upgrade(&self) -> Cluster {
        let mut new = Cluster::start();
        new.stop();
        let bin = ROOT.join("usr/lib/postgresql/15/bin");
        run(server_program("pg_upgrade")
            .current_dir(&new.folder.path)
            .arg("--username=postgres")
            .args(["--old-bindir".as_ref(), bin.as_os_str(), "--new-bindir".as_ref(), bin.as_os_str()])
            .args(["--old-datadir".as_ref(), self.data_dir().as_os_str()])
            .args(["--new-datadir".as_ref(), new.data_dir().as_os_str()])
            .args(["--socketdir".as_ref(), new.folder.path.as_os_str()]));
        new.launch();
        new
    }

    /// Starts a backup and has it replay the archive up to a named restore point, where it becomes a primary
    /// of its own.
    pub fn recover(&mut self, archive: &Path, restore_point: &str) {
        self.configure(&[
            "archive_mode = off",
            &format!("restore_command = 'cp \"{}/%f\" \"%p\"'", archive.display()),
            &format!("recovery_target_name = '{restore_point}'"),
            "recovery_target_action = promote",
        ]);
        fs::write(self.data_dir().join("recovery.signal"), "").unwrap();
        self.launch();
        wait_until("recovery has ended", || self.psql("postgres", "SELECT pg_is_in_recovery()") == "f\n");
    }

    /// Makes a standby a primary, on a new timeline.
    pub fn promote(&self) {
        self.psql("postgres", "SELECT pg_promote()");
    }

    /// Waits until a standby has replayed all that its primary has written so far.
    pub fn catch_up(&self, primary: &Cluster) {
        let written = primary.psql("postgres", "SELECT pg_current_wal_flush_lsn()");
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", written.trim());
        wait_until("the standby has caught up", || self.psql("postgres", &replayed).trim() == "t");
    }

    /// Connects to the database `postgres` as the superuser.
    pub fn client(&self) -> Client {
        self.client_of("postgres")
    }

    /// Connects to a database as the superuser.
    pub fn client_of(&self, database: &str) -> Client {
        self.client_as(database, "postgres")
    }

    /// Connects to a database as any user.
    pub fn client_as(&self, database: &str, user: &str) -> Client {
        self.config(database).user(user).connect(NoTls).unwrap_or_else(|error| panic!("{database}: {error}"))
    }

    /// Returns how to connect to a database as the superuser, for a test that wants options of its own.
    pub fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.socket_dir()).port(PORT).user("postgres").dbname(database);
        config
    }

    /// Creates a database.
    pub fn create_database(&self, name: &str) {
        self.create_database_with(name, "");
    }

    /// Creates a database with options, such as `ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`.
    pub fn create_database_with(&self, name: &str, options: &str) {
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\" {options}"));
    }

    /// Gives a script to the real psql, meta-commands included, and returns its bare output: no headers,
    /// columns separated by `|`. Any error fails the test.
    pub fn psql(&self, database: &str, script: &str) -> String {
        let mut psql = program("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-h"])
            .arg(self.socket_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = psql.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // psql may end before it has read everything; its own words then say why.
            scope.spawn(move || stdin.write_all(script.as_bytes()));
            psql.wait_with_output().unwrap()
        });
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Kills the server and all its processes at once, as a power failure would.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        // Stopped, the postmaster starts no more processes while the ones it has are listed. A fork that is
        // under way when the signal is sent is still completed.
        signal("STOP", &[server.id()]);
        let has_stopped = || process(server.id()).is_none_or(|(state, _)| matches!(state, 'T' | 'Z'));
        wait_until("the postmaster has stopped", has_stopped);
        let mut victims = children(server.id());
        victims.push(server.id());
        signal("KILL", &victims);
        server.wait().unwrap();
        wait_until("all processes are gone", || victims.iter().all(|pid| !alive(*pid)));
    }

    /// Stops the server, as an administrator would.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            signal("INT", &[server.id()]);
            server.wait().unwrap();
        }
    }

    /// Runs statements, each in a line, in single-user mode, where event triggers do not fire. The server is
    /// stopped before and started afterwards.
    pub fn single_user(&mut self, database: &str, statements: &str) {
        self.stop();
        let mut postgres = server_program("postgres")
            .args(["--single", "-D"])
            .arg(self.data_dir())
            .arg(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(postgres.stdin.take().unwrap(), "{statements}").unwrap();
        assert!(postgres.wait().unwrap().success());
        self.launch();
    }

    /// Starts the server again, after stopping it if it runs.
    pub fn restart(&mut self) {
        self.stop();
        self.launch();
    }

    /// Adds lines to `postgresql.conf`; they count from the next restart or reload.
    pub fn configure(&self, settings: &[&str]) {
        let mut file =
            fs::OpenOptions::new().append(true).open(self.data_dir().join("postgresql.conf")).unwrap();
        for line in settings {
            writeln!(file, "{line}").unwrap();
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path.join("data")
    }

    pub fn socket_dir(&self) -> &Path {
        &self.folder.path
    }

    /// Returns all that the server has logged.
    pub fn log(&self) -> String {
        fs::read(self.folder.path.join("log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    fn base_backup(&self, options: &[&str]) -> Cluster {
        let mut cluster = self.unpack_base_backup(options);
        cluster.launch();
        cluster
    }

    fn unpack_base_backup(&self, options: &[&str]) -> Cluster {
        let folder = Folder::new();
        run(server_program("pg_basebackup")
            .args(["--username=postgres", "--checkpoint=fast", "--no-sync"])
            .args(options)
            .arg("--host")
            .arg(self.socket_dir())
            .arg("--pgdata")
            .arg(folder.path.join("data")));
        Cluster { server: None, environment: self.environment.clone(), folder }
    }

    /// Runs the server as a child of this process, and waits until it takes connections.
    fn launch(&mut self) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.folder.path.join("log")).unwrap();
        let mut server = server_program("postgres")
            .arg("-D")
            .arg(self.data_dir())
            .arg("-k")
            .arg(self.socket_dir())
            .args(["-p", &PORT.to_string()])
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // An interrupt at the terminal is for the test; the keeper sees to the server.
            .process_group(0)
            .spawn()
            .unwrap();
        wait_until("the server takes connections", || {
            if let Some(status) = server.try_wait().unwrap() {
                panic!("the server has ended: {status}");
            }
            self.config("postgres").connect(NoTls).is_ok()
        });
        self.server = Some(server);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            eprintln!("--- end of the log of {}\n{tail}", self.folder.path.display());
        }
        if let Some(mut server) = self.server.take() {
            signal("QUIT", &[server.id()]);
            let _ = server.wait();
        }
    }
}

/// A folder of the server's user to publish batches in.
pub struct Store {
    folder: Folder,
}

impl Store {
    pub fn new() -> Store {
        Store { folder: Folder::new() }
    }

    pub fn path(&self) -> &Path {
        &self.folder.path
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }

    /// Returns a copy of the store as it is now, as a disk carried elsewhere would hold it.
    pub fn copy(&self) -> Store {
        let copy = Store::new();
        run(Command::new("cp").arg("-a").arg(self.path().join(".")).arg(copy.path()));
        copy
    }

    /// Returns the paths of all files, relative to the store, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let relative = |path: PathBuf| path.strip_prefix(self.path()).unwrap().to_path_buf();
        self.folder.files().into_iter().map(relative).collect()
    }
}

/// A temporary folder of the server's user, and the keeper that removes it.
struct Folder {
    path: PathBuf,
    keeper: Child,
}

impl Folder {
    /// Returns the paths of all files, in order.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    /// The keeper waits for the end of its standard input, a pipe from this process. A server that still runs
    /// then is stopped; one that was killed has left a shared memory segment behind, named in line 7 of its
    /// pid file. An initdb that is still at work can make the first removal fail, and so can a folder that a
    /// test made read-only.
    const KEEPER: &str = r#"
        cat >/dev/null
        pid_file=$1/data/postmaster.pid
        if [ -e "$pid_file" ]; then
            pid=$(head -n 1 "$pid_file")
            segment=$(sed -n '7s/.* //p' "$pid_file")
            kill -QUIT "$pid" 2>/dev/null || ipcrm --shmem-id "$segment" 2>/dev/null
            while [ -e "$pid_file" ] && kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
        fi
        until chmod -R u+rwX "$1" && rm -rf "$1"; do sleep 0.05; done 2>/dev/null
    "#;

    fn new() -> Folder {
        let path = tempfile::Builder::new().prefix("pg-table-export-").tempdir().unwrap().keep();
        if let Some((user, group)) = *SERVER_USER {
            chown(&path, Some(user), Some(group)).unwrap();
        }
        let keeper = Command::new("sh")
            .args(["-c", Folder::KEEPER, "keeper"])
            .arg(&path)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Folder { path, keeper }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Waiting closes the keeper's standard input first.
        let _ = self.keeper.wait();
    }
}

/// User and group for server programs, which refuse to run as root; none: as we are.
static SERVER_USER: LazyLock<Option<(u32, u32)>> = LazyLock::new(|| {
    let id = |option| {
        let output = Command::new("id").args([option, "postgres"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    root.then(|| (id("-u"), id("-g")))
});

/// The installation that holds the extension.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(root) = env::var_os("PG_TABLE_EXPORT_ROOT") {
        return root.into();
    }
    static OWN: LazyLock<Folder> = LazyLock::new(Folder::new);
    run(Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install"))
        .arg(&OWN.path)
        .args(["--features", "fault_points"]));
    OWN.path.clone()
});

/// A program of the installation, without the variables of the environment that PostgreSQL reads.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(ROOT.join("usr/lib/postgresql/15/bin").join(name));
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command
}

/// A program of the installation that runs as the server's user.
fn server_program(name: &str) -> Command {
    let mut command = program(name);
    // With backtraces, errors would tell where in the code they arose.
    command.current_dir("/").env_remove("RUST_BACKTRACE");
    if let Some((user, group)) = *SERVER_USER {
        command.uid(user).gid(group);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    // Some may have ended meanwhile, which is what we wanted.
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{name} {} 2>/dev/null", pids.join(" "))).status();
}

/// Returns the state and the parent of a process, the third and fourth word of its `stat`; the second, its
/// name in parentheses, may hold anything.
fn process(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

fn alive(pid: u32) -> bool {
    process(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children(parent: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| process(*pid).is_some_and(|(_, its_parent)| its_parent == parent))
        .collect()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < TIMEOUT, "not after {TIMEOUT:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}
