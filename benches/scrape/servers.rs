//! The servers that are compared with the exporter; each serves the page that the exporter served once.
//!
//! nginx sends the bytes of the page as files. The two client libraries have its series, each as a gauge, and render
//! and compress them for every scrape, as ordinary exporters do.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::program::{Running, children, free_port, wait_until_listening};

/// Debian's nginx, which is not in every `PATH`.
const NGINX: &str = "/usr/sbin/nginx";

/// The Python with its client library, which is installed there.
const PYTHON: &str = "target/tools/scrape/bin/python";
const REQUIREMENTS: &str = "benches/scrape/requirements.txt";

/// The argument with which this program is the server of the crate.
pub(crate) const SERVE: &str = "serve";

/// A server that listens.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Running,
}

impl Server {
    fn start(port: u16, command: &mut Command) -> Self {
        let process = Running::start(command);
        wait_until_listening(port);
        Self { port, process }
    }

    /// Returns all of its processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let process = self.process.id();
        let mut processes = children(process);
        processes.push(process);
        processes
    }

    /// Starts an nginx that sends the files in a directory: `metrics`, and to clients that accept gzip
    /// `metrics.gz`.
    pub(crate) fn nginx(directory: &Path) -> Self {
        let port = free_port();
        let root = directory.display();
        let config = format!(
            "daemon off; worker_processes auto; pid {root}/nginx.pid; user root;
             events {{}}
             http {{
                 access_log off; sendfile on; tcp_nopush on; gzip_static on; keepalive_requests 1000000;
                 default_type 'text/plain; version=0.0.4; charset=utf-8';
                 client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3;
                 uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;
                 server {{ listen 127.0.0.1:{port}; root {root}; }}
             }}"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(NGINX);
        command.args(["-e", "stderr", "-c"]).arg(file);
        // It warns of the user if it is not root.
        Self::start(port, command.stderr(Stdio::null()))
    }

    /// Starts this program as a server of the series of a page with the `prometheus` crate.
    pub(crate) fn crate_(page: &Path) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(SERVE).arg(page).arg(port.to_string());
        Self::start(port, &mut command)
    }

    /// Starts a server of the series of a page with `prometheus_client`; installs that if necessary, and returns
    /// `None` with a notice if it cannot.
    pub(crate) fn python(page: &Path) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join(PYTHON);
        if !is_installed(&python) && !install(root) {
            eprintln!(
                "without Python's client library: install Debian's python3-venv and run\n  \
                 python3 -m venv target/tools/scrape && {PYTHON} -m pip install -r {REQUIREMENTS}"
            );
            return None;
        }
        let port = free_port();
        let mut command = Command::new(python);
        command.arg(root.join("benches/scrape/server.py"));
        Some(Self::start(port, command.arg(page).arg(port.to_string())))
    }
}

fn is_installed(python: &PathBuf) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", "import prometheus_client"]);
    succeeds(&mut command)
}

fn install(root: &Path) -> bool {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear", "target/tools/scrape"]);
    let mut pip = Command::new(root.join(PYTHON));
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps"]);
    pip.args(["--disable-pip-version-check", "-r", REQUIREMENTS]);
    succeeds(venv.current_dir(root)) && succeeds(pip.current_dir(root))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Writes a page to a directory: as text, and compressed as it is.
pub(crate) fn write_page(directory: &Path, plain: &[u8], gzip: &[u8]) -> PathBuf {
    let path = directory.join("metrics");
    fs::write(&path, plain).unwrap();
    let mut file = fs::File::create(directory.join("metrics.gz")).unwrap();
    file.write_all(gzip).unwrap();
    path
}
