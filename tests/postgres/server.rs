//! A real PostgreSQL server for tests, and PgBouncer before it.
//!
//! Both the tests of the library and those of the program include this file, and need Debian's packages
//! `postgresql` and `pgbouncer`. A server ends with its value, and also with the process of the tests, however that ends.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// The password of every user; must appear in no output.
pub(crate) const PASSWORD: &str = "a-password-that-must-never-leak";

/// The user of the exporter: owns its database, and may do nothing else.
pub(crate) const USER: &str = "wxapp";

/// What succeeds takes less.
const DEADLINE: Duration = Duration::from_mins(1);

/// A server with TLS and databases of its own.
pub(crate) struct Postgres {
    port: u16,
    directory: Directory,
}

impl Postgres {
    /// Returns the server that all tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts one for tests that stop it; this takes a second or two.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with more settings, which replace those of tests.
    pub(crate) fn start_with(settings: &str) -> Self {
        let directory = Directory::new(
            "[ -e data/postmaster.pid ] && kill -QUIT $(head -n 1 data/postmaster.pid)",
        );
        let server = Self {
            port: free_port(),
            directory,
        };
        let path = |name: &str| server.path(name);
        fs::write(path("password"), PASSWORD).unwrap();
        succeed(
            server
                .program("initdb")
                .args(["--username=postgres", "--auth=scram-sha-256", "--no-sync"])
                .args(["--locale=C.UTF-8", "--encoding=UTF8", "--pwfile=password"]),
        );
        server.write_certificates();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{}'\n\
             fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nshared_buffers = 16MB\n\
             ssl = on\nssl_cert_file = '../server.pem'\nssl_key_file = '../server.key'\n{settings}",
            server.port,
            server.directory.0.path().display(),
        );
        let mut file = File::options()
            .append(true)
            .open(path("data/postgresql.conf"));
        file.as_mut()
            .unwrap()
            .write_all(settings.as_bytes())
            .unwrap();
        server.start_again();
        server.sql(
            "postgres",
            &format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"),
        );
        server
    }

    /// Starts it after it was stopped or killed.
    pub(crate) fn start_again(&self) {
        let start = Instant::now();
        loop {
            let mut control = self.program("pg_ctl");
            let control = control.args(["start", "--wait", "--silent", "--log=log"]);
            // Its output would stay open as long as the server runs.
            if control
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
            {
                return;
            }
            // Processes of one that was killed may still run.
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(
                start.elapsed() < DEADLINE,
                "PostgreSQL does not start: {log}"
            );
        }
    }

    /// Shuts it down.
    pub(crate) fn stop(&self) {
        succeed(
            self.program("pg_ctl")
                .args(["stop", "--mode=fast", "--wait", "--silent"]),
        );
    }

    /// Kills it.
    pub(crate) fn kill(&self) {
        let process = self.process().to_string();
        succeed(self.program("pg_ctl").args(["kill", "KILL", &process]));
    }

    /// Returns the process whose children serve the connections.
    pub(crate) fn process(&self) -> u32 {
        let file = fs::read_to_string(self.path("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().parse().unwrap()
    }

    /// Creates an empty database of [`USER`]; returns its name.
    pub(crate) fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("portraits_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {USER}"));
        name
    }

    /// Returns the URL of a database for [`USER`].
    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// Runs SQL as the superuser; returns the rows, with `|` between columns.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let url = format!("postgres://postgres@127.0.0.1:{}/{database}", self.port);
        let mut psql = Command::new("psql");
        psql.env("PGPASSWORD", PASSWORD).args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &url,
            "-c",
            sql,
        ]);
        succeed(&mut psql).trim_end().to_owned()
    }

    /// Returns the file with the CA of its certificate, which is for `localhost` only.
    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Returns the file with that certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("server.pem")
    }

    fn write_certificates(&self) {
        let (key_of_ca, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        fs::write(self.ca(), ca.self_signed(&key_of_ca).unwrap().pem()).unwrap();
        let issuer = Issuer::new(ca, key_of_ca);
        let mut certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
        // With the name of the CA it would look self-signed.
        certificate.distinguished_name = DistinguishedName::new();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        fs::write(self.certificate(), certificate.pem()).unwrap();
        let file = self.path("server.key");
        fs::write(&file, key.serialize_pem()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(owner) = owner() {
            std::os::unix::fs::chown(&file, Some(owner), None).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.0.path().join(name)
    }

    /// Returns the command of a program of the server.
    fn program(&self, name: &str) -> Command {
        // Of Debian's package, which tests/run installs.
        let versions = fs::read_dir("/usr/lib/postgresql").unwrap();
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<f64>().ok();
        let newest = versions
            .map(|version| version.unwrap().path())
            .max_by(|one, other| f64::total_cmp(&number(one).unwrap(), &number(other).unwrap()))
            .unwrap();
        let mut command = unprivileged(newest.join("bin").join(name));
        command
            .current_dir(self.directory.0.path())
            .env("PGDATA", "data");
        command
    }
}

/// PgBouncer in transaction mode.
pub(crate) struct PgBouncer {
    port: u16,
    _directory: Directory,
}

impl PgBouncer {
    /// Starts one before a server.
    pub(crate) fn start(server: &Postgres) -> Self {
        let directory = Directory::new("[ -e pid ] && kill $(cat pid)");
        let port = free_port();
        let path = directory.0.path();
        let place = path.display();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\npool_mode = transaction\nauth_type = scram-sha-256\nauth_file = {place}/users\n\
             pidfile = {place}/pid\nlogfile = {place}/log\n",
            server.port
        );
        fs::write(path.join("settings"), settings).unwrap();
        fs::write(path.join("users"), format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        let mut command = unprivileged("/usr/sbin/pgbouncer".into());
        let mut command = command
            .args(["--quiet", "--daemon"])
            .arg(path.join("settings"));
        command = command.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(
            command.status().unwrap().success(),
            "PgBouncer does not start"
        );
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < DEADLINE, "PgBouncer does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self {
            port,
            _directory: directory,
        }
    }

    /// Returns the URL of a database of its server for [`USER`].
    pub(crate) fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}",
            self.port
        )
    }
}

/// A directory of a server, and the process that ends the server and deletes the directory in the end.
struct Directory(TempDir, Child);

impl Directory {
    fn new(end: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if let Some(owner) = owner() {
            std::os::unix::fs::chown(directory.path(), Some(owner), None).unwrap();
        }
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // It reads until this process has ended, which is not interrupted with it.
        let script = format!("trap '' INT TERM HUP; read -r _; {end}; exec rm -rf \"$PWD\"");
        let mut guard = Command::new("sh");
        guard.args(["-c", &script]).current_dir(directory.path());
        let guard = guard
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let guard = guard.spawn().unwrap();
        Self(directory, guard)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(self.1.stdin.take());
        let _ = self.1.wait();
    }
}

/// Returns the user that runs servers, unless it is that of the tests: neither program runs as root.
fn owner() -> Option<u32> {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    is_root.then(|| {
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let user = users
            .lines()
            .find_map(|user| user.strip_prefix("postgres:x:"));
        let number = user.and_then(|user| user.split(':').next()?.parse().ok());
        number.unwrap()
    })
}

fn unprivileged(program: PathBuf) -> Command {
    if owner().is_none() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg("--")
        .arg(program);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
