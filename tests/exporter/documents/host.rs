//! The host of a reader, on which the commands of a document are run: a directory with the project, an
//! exporter's files, and no network but [`World`].
//!
//! Only programs that are named here are found, and the stubs in `tests/documents/bin`, each of which
//! documents what it does instead of the real one.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::Request;
use axum::routing::{any, get};
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{self, FUNCTION_ENV, FUNCTION_NAME, secret_of};

use crate::alertmanager::{Alertmanager, Version};
use crate::cloud_function::{CloudFunction, KEY};
use crate::harness::{
    APP, Home, OTHER, WeChat, appid, client, free_port, newer, serve_over_tls, yesterday,
};

/// The programs of the system that commands may use.
const PROGRAMS: &str = "amtool awk bash cat chmod chown cp curl cut date dirname grep install journalctl ln mkdir \
    gzip mktemp mv node prometheus promtool rm sed sha256sum sleep sqlite3 systemd-analyze tail tar vmalert wc";

/// Working directories of documents other than that of the project.
const DIRECTORIES: [(&str, &str); 1] = [("deploy/compose/README.md", "deploy/compose")];

/// Paths that are the reader's own here, or that can't be damaged.
const KNOWN_PLACES: [&str; 8] = [
    "/data", "/dev", "/etc", "/opt", "/own", "/run", "/usr", "/var",
];

/// How many days are in the archive of the reader's exporter.
const ARCHIVED: u64 = 5;

/// Where the archive would be in PostgreSQL, which nothing here connects to.
const POSTGRES_URL: &str = "postgres://portraits:a-password@localhost/portraits";

/// A year of holidays at GitHub.
const HOLIDAYS: &str =
    r#"{"year": 2027, "days": [{"name": "元旦", "date": "2027-01-01", "isOffDay": true}]}"#;

/// Everything outside a reader's host: WeChat, a cloud function, a file at GitHub, a proxy that only
/// reaches these three, and an Alertmanager.
pub(crate) struct World {
    wechat: WeChat,
    home: Home,
    proxy: String,
    /// Who signed the certificates of WeChat, of the cloud function and of GitHub.
    ca: String,
    /// Where the reader's exporter and simulated WeChat listen, instead of the default addresses.
    ports: [String; 2],
    /// Placeholders of documents with their values, and commands with their replacements here.
    instead: Vec<(&'static str, String)>,
    used: Mutex<BTreeSet<&'static str>>,
    _function: CloudFunction,
    _alertmanager: Alertmanager,
    _stop: DropGuard,
}

impl World {
    pub(crate) async fn start() -> Self {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let home = Home::of(&wechat, &[APP]);
        home.archive(&wechat, &[APP], ARCHIVED);

        let function = CloudFunction::start(&wechat, APP).await;
        let url = function.url();
        let call = async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let request = client().post(url).headers(parts.headers).body(body);
            request.send().await.unwrap().text().await.unwrap()
        };
        let app = simulator::create_app(Arc::clone(&wechat.simulator));
        let file = "/NateScarlet/holiday-cn/master/2027.json";
        let app = app
            .route("/portrait", any(call))
            .route(file, get(async || HOLIDAYS));
        let hosts = [
            "api.weixin.qq.com",
            "your-domain",
            "raw.githubusercontent.com",
        ];
        let (address, ca) = serve_over_tls(app, &hosts).await;
        let (proxy, stop) = proxy(&hosts, address).await;

        let alertmanager = Alertmanager::start(Version::New, "webhook.yml", |_| {}).await;
        let token = function.token.clone();
        let ports = [(); 2].map(|()| free_port().to_string());
        let instead = vec![
            // It would run this test.
            ("bash tests/run", "bash -n tests/run".to_owned()),
            // It takes minutes; a long test runs it.
            ("dist/build", "bash -n dist/build".to_owned()),
            ("10690", ports[0].clone()),
            ("10691", ports[1].clone()),
            ("http://localhost:9093", alertmanager.url.clone()),
            (
                "access_token=TOKEN&env=ENV",
                format!("access_token={token}&env={FUNCTION_ENV}"),
            ),
            (
                "{env: ENV, name: portrait}",
                format!("{{env: {FUNCTION_ENV}, name: {FUNCTION_NAME}}}"),
            ),
            ("Bearer KEY", format!("Bearer {KEY}")),
            ("20261121", yesterday().format("%Y%m%d").to_string()),
        ];
        Self {
            wechat,
            home,
            proxy,
            ca,
            ports,
            instead,
            used: Mutex::default(),
            _function: function,
            _alertmanager: alertmanager,
            _stop: stop,
        }
    }

    /// Returns a block with its placeholders filled in.
    pub(crate) fn filled_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.instead {
            if text.contains(from) {
                self.used.lock().unwrap().insert(from);
                text = text.replace(from, to);
            }
        }
        text
    }

    /// Returns replacements that no document uses any more.
    pub(crate) fn unused(&self) -> Vec<String> {
        let used = self.used.lock().unwrap();
        let unused = self.instead.iter().filter(|(from, _)| !used.contains(from));
        unused
            .map(|(from, _)| format!("no document has {from}, which is replaced"))
            .collect()
    }
}

/// Runs a proxy to some hosts, all at one address, and to no other; returns its address.
async fn proxy(hosts: &[&str], address: String) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hosts: Vec<String> = hosts
        .iter()
        .map(|host| format!("connect {host}:443 "))
        .collect();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (hosts, address) = (hosts.clone(), address.clone());
            tokio::spawn(async move {
                let mut client = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && client.read_line(&mut head).await? > 0 {}
                let head = head.to_lowercase();
                if !hosts.iter().any(|host| head.starts_with(host)) {
                    let refusal = b"HTTP/1.1 403 No test may go there\r\ncontent-length: 0\r\n\r\n";
                    return client.write_all(refusal).await;
                }
                let mut server = TcpStream::connect(address).await?;
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .map(drop)
            });
        }
    };
    let stop = CancellationToken::new();
    tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
    (url, stop.drop_guard())
}

pub(crate) struct Host<'a> {
    world: &'a World,
    root: TempDir,
    /// The working directory of the reader, with the files of an exporter.
    directory: PathBuf,
}

impl<'a> Host<'a> {
    /// Prepares one for the reader of a document, with these files of the project, the files of an
    /// exporter and other files that readers already have.
    pub(crate) fn new(world: &'a World, document: &str, files: &[String]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let project = root.path().join("wxapp-portrait-exporter");
        let other = DIRECTORIES.iter().find(|(path, _)| *path == document);
        let directory = project.join(other.map_or("", |(_, directory)| directory));
        let host = Self {
            world,
            root,
            directory,
        };
        for directory in [
            "bin",
            "etc/prometheus",
            "etc/systemd/system",
            "started",
            "temporary",
            "usr/local/bin",
            "var/backups",
        ] {
            std::fs::create_dir_all(host.root.path().join(directory)).unwrap();
        }
        for file in files {
            let copy = project.join(file);
            std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
            std::fs::copy(super::root().join(file), &copy).unwrap();
            if file.starts_with("deploy/systemd/wxapp-portrait") {
                // These are read where the reader puts them, and contain other paths of the host.
                let text = std::fs::read_to_string(&copy).unwrap();
                std::fs::write(&copy, host.here(&text)).unwrap();
            }
        }
        host.link_programs();
        host.write("/ca.pem", &world.ca);
        host.write("/etc/ssl/certs/ca-certificates.crt", &world.ca);
        // Otherwise it accepts any status.
        host.write(".curlrc", "fail");

        let config = json!({"apps": [{"appid": APP, "secret_file": "secrets/shop"}]});
        host.write_files_of(&config);
        host.write("wxapp-portrait.yml", &config.to_string());
        host.write("secrets/grafana", "a password");
        host.write("secrets/postgres", "a-password");
        host.write("secrets/wecom", "a secret");
        std::fs::create_dir(host.path("data")).unwrap();
        std::fs::copy(world.home.archive_file(), host.path("data/portraits.db")).unwrap();
        // Days before those in the archive.
        for days in 0..3 {
            let day = calendar::days_before(yesterday(), ARCHIVED + days);
            let simulator = &world.wechat.simulator;
            let answer = simulator.answer(&appid(APP), Window::OneDay, day).unwrap();
            host.write(&format!("saved-responses/{day}.json"), &answer.to_string());
        }
        if document == "docs/packages.md" {
            host.write_packages();
        }
        for (file, copy) in [
            ("webhook.yml", "alertmanager.yml"),
            ("wxapp-portrait.zh.tmpl", "wxapp-portrait.zh.tmpl"),
            ("wxapp-portrait.en.tmpl", "wxapp-portrait.en.tmpl"),
        ] {
            let file = project.join("alerts/alertmanager").join(file);
            std::fs::copy(file, host.path(copy)).unwrap();
        }
        host
    }

    /// Writes what the reader has downloaded: packages, of which only the tarball is one, and their checksums.
    fn write_packages(&self) {
        let version = env!("CARGO_PKG_VERSION");
        let name = concat!("wxapp-portrait-exporter-", env!("CARGO_PKG_VERSION"));
        self.write(
            &format!("wxapp-portrait-exporter_{version}-1_amd64.deb"),
            "deb",
        );
        self.write(&format!("{name}-1.x86_64.rpm"), "rpm");
        let directory = format!("{name}.linux-amd64");
        self.write(&format!("{directory}/wxapp-portrait-exporter"), "program");
        let unit = "deploy/systemd/wxapp-portrait-exporter.service";
        let mut command = std::process::Command::new("bash");
        command.current_dir(&self.directory).args([
            "-euc",
            "cp --parents $1 $2; tar -czf $2.tar.gz $2; rm -r $2; sha256sum wxapp*.* >sha256sums.txt",
            "bash",
            unit,
            &directory,
        ]);
        assert!(command.status().unwrap().success());
    }

    /// Fills the only directory of `PATH`.
    fn link_programs(&self) {
        let mut bash = std::process::Command::new("bash");
        let found = bash.args(["-c", &format!("type -P {PROGRAMS}")]).output();
        let found = String::from_utf8(found.unwrap().stdout).unwrap();
        let names: Vec<_> = PROGRAMS.split_whitespace().collect();
        let missing = "some programs are missing: run tests/run";
        assert_eq!(found.lines().count(), names.len(), "{missing}: {found}");
        for (name, program) in names.iter().zip(found.lines()) {
            symlink(program, self.path("/bin").join(name)).unwrap();
        }
        for stub in std::fs::read_dir(super::root().join("tests/documents/bin")).unwrap() {
            let stub = stub.unwrap();
            symlink(stub.path(), self.path("/bin").join(stub.file_name())).unwrap();
        }
    }

    /// Returns the real path of a file of the reader's host.
    fn path(&self, path: &str) -> PathBuf {
        path.strip_prefix('/').map_or_else(
            || self.directory.join(path),
            |path| self.root.path().join(path),
        )
    }

    /// Replaces paths of the host in a text by the real paths.
    pub(crate) fn here(&self, text: &str) -> String {
        let place =
            Regex::new(r#"(?m)(^|[\s'"=\[:])/(data|etc|opt|own|run|usr|var|\.tencentcloudbase)\b"#)
                .unwrap();
        let here = format!("${{1}}{}/$2", self.root.path().display());
        place.replace_all(text, here).into_owned()
    }

    /// Writes a file; returns its path.
    pub(crate) fn write(&self, path: &str, text: &str) -> String {
        let file = self.path(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Writes the files that a configuration of the exporter names.
    pub(crate) fn write_files_of(&self, config: &Value) {
        let write = |value: &Value, text: &str| {
            let path = value.as_str()?;
            Some(self.write(path, text))
        };
        write(&config["wechat"]["ca_file"], &self.world.ca);
        write(&config["archive"]["postgres_url_file"], POSTGRES_URL);
        if !config["apps_files"].is_null() {
            let apps = json!([{"appid": OTHER, "secret_file": "../secrets/shop"}]);
            self.write("apps.d/x.yml", &apps.to_string());
        }
        for app in config["apps"].as_array().into_iter().flatten() {
            let secret = secret_of(&appid(app["appid"].as_str().unwrap()));
            write(&app["secret_file"], &secret);
            write(&app["token_file"], "a-token");
            let header = format!("Authorization: Bearer {KEY}");
            write(&app["token_url_headers_file"], &header);
            write(&app["portrait_url_headers_file"], &header);
            if let Some(program) = write(&app["token_command"][0], "") {
                std::fs::set_permissions(program, Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    /// Runs commands where the reader is, who types the AppSecret when prompted; returns their output, or
    /// what failed.
    pub(crate) async fn run(&self, commands: &str) -> Result<String, String> {
        let elsewhere = Regex::new(r#"(?m)(?:^|[\s'"=:>])(/\w+)"#).unwrap();
        let root = self.root.path().to_str().unwrap();
        let commands = self.here(commands);
        for place in elsewhere.captures_iter(&commands.replace(root, "")) {
            if !KNOWN_PLACES.contains(&&place[1]) {
                return Err(format!("no test may touch {}", &place[1]));
            }
        }
        // A reader who sends requests to the exporter has started it.
        let [exporter, simulator] = &self.world.ports;
        let asks = commands.contains(&format!("localhost:{exporter}")) && self.started().is_empty();
        let start = if asks {
            "wxapp-portrait-exporter\n"
        } else {
            ""
        };
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &format!("{start}{commands}")])
            .current_dir(&self.directory)
            .env_clear()
            .env("PATH", self.path("/bin"))
            .env("HOME", &self.directory)
            .env("TMPDIR", self.path("/temporary"))
            .env("LANG", "C.UTF-8")
            .env("SSL_CERT_FILE", self.path("/ca.pem"))
            .env("CURL_CA_BUNDLE", self.path("/ca.pem"))
            .env("NO_PROXY", "localhost,127.0.0.1")
            .envs(["http_proxy", "https_proxy"].map(|name| (name, &self.world.proxy)))
            // For stubs.
            .env("BUILT", env!("CARGO_BIN_EXE_wxapp-portrait-exporter"))
            .env("CARGO", env!("CARGO"))
            .env("NEWER", newer(""))
            .env(
                "PYTHON",
                super::root().join("target/tools/python/bin/python"),
            )
            .env("EXPORTER_PORT", exporter)
            .env("SIMULATOR_PORT", simulator)
            .env("ROOT", self.root.path())
            .env("STARTED", self.path("/started"))
            // For `dashboards/preview/demo`, which would take minutes with all samples.
            .env("EXPORTER", "exporter-of-few-samples")
            .env("SCRAPE_SECONDS", "0")
            .env("PORT", free_port().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut input = running.stdin.take().unwrap();
        // Most commands don't read it.
        let _ = input.write_all(secret_of(&appid(APP)).as_bytes()).await;
        drop(input);
        let output = running.wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        // WeChat refuses with status 200.
        let refused = Regex::new(r#""errcode": *-?[1-9]"#)
            .unwrap()
            .is_match(&said);
        // So is sqlite3 with finding nothing.
        let found = !commands.contains("SELECT") || said.contains('|') && !said.contains("|\n");
        if output.status.success() && !refused && found {
            Ok(said)
        } else {
            Err(format!("{}: {said}", output.status))
        }
    }

    /// Lets systemd verify the unit with the reader's edits.
    pub(crate) async fn edit_unit(&self, text: &str) -> Result<(), String> {
        let unit = "/etc/systemd/system/wxapp-portrait-exporter.service";
        self.write(&format!("{unit}.d/override.conf"), &self.here(text));
        let verify = "systemd-analyze --man=no --recursive-errors=no verify";
        match self.run(&format!("{verify} {unit}")).await {
            Ok(said) if !said.is_empty() => Err(said),
            result => result.map(drop),
        }
    }

    /// Returns the errors of the programs in the background.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let started = self.started();
        let lines = started.iter().flat_map(|(_, text)| text.lines());
        let bad = lines.filter(|line| line.contains("level=error") || line.contains("panicked"));
        bad.map(str::to_owned).collect()
    }

    /// Returns the files that the stub of the exporter has written: its process IDs, in files named by the
    /// port, and logs.
    fn started(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(self.path("/started")).unwrap();
        let read = |file: std::fs::DirEntry| {
            let name = file.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(file.path()).unwrap())
        };
        files.map(|file| read(file.unwrap())).collect()
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        for (name, text) in self.started() {
            let Ok(port) = name.parse::<u16>() else {
                continue;
            };
            let mut kill = std::process::Command::new("kill");
            // One that has ended by itself has logged why.
            let _ = kill.arg(text.trim()).status();
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
