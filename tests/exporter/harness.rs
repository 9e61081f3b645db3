//! What the tests over HTTP share: a simulated WeChat, an exporter to read from, a Prometheus, and
//! the scan for secrets.
//!
//! An exporter is either the real program ([`Home::start`]) or its parts in this process with a
//! clock of the test's own ([`Inside`]). Both are read through a [`Reader`], which at its end
//! fails the test if anything that it has read contains a secret or a token.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::serve::Listener;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::FutureExt as _;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair};
use rustix::process::Pid;
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use wxapp_portrait_exporter::archive::{
    Archive, Database, DayState, Key, Record, Row, Sharing, Store,
};
use wxapp_portrait_exporter::calendar::{self, Clock};
use wxapp_portrait_exporter::config;
use wxapp_portrait_exporter::config::access::AccessMethod;
use wxapp_portrait_exporter::exposition::telemetry::Telemetry;
use wxapp_portrait_exporter::poll::{self, AppPoller, Context, Leases, Supervisor};
use wxapp_portrait_exporter::portrait::{AppId, Window};
use wxapp_portrait_exporter::shard::Shard;
use wxapp_portrait_exporter::simulator::{self, Settings, Simulator, secret_of};
use wxapp_portrait_exporter::web::{self, AppState, Paths};
use wxapp_portrait_exporter::wechat::{self, Client};

pub(crate) const APP: &str = "wx0123456789abcdef";
pub(crate) const OTHER: &str = "wx1123456789abcdef";

/// The token that [`fake_wechat`] issues; searched for in all output.
pub(crate) const TOKEN: &str = "85_a-token-that-must-never-leak";

/// For what must happen; nothing that succeeds takes as long.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test reads the real clock, and is compared with what WeChat says then"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// Returns the newest day that the exporter requests.
pub(crate) fn yesterday() -> NaiveDate {
    calendar::newest_queryable(now())
}

/// Returns how many days the exporter requests: two, except in the first minutes after midnight in
/// Beijing.
pub(crate) fn asked_days() -> u8 {
    let days = (yesterday() - calendar::oldest_queryable(now())).num_days() + 1;
    days.try_into().unwrap()
}

/// Runs a test, and once more if it failed while the days changed that the exporter requests: what it
/// expected of the days before is wrong then, and what it expects now is not.
pub(crate) async fn on_one_day(test: impl AsyncFn()) {
    let requested = || {
        let now = now();
        [calendar::oldest_queryable, calendar::newest_queryable].map(|day| day(now))
    };
    loop {
        let days = requested();
        let Err(panic) = AssertUnwindSafe(test()).catch_unwind().await else {
            return;
        };
        if requested() == days {
            std::panic::resume_unwind(panic);
        }
    }
}

pub(crate) fn appid(text: &str) -> AppId {
    text.parse().unwrap()
}

/// Retries until there is a result.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(result) = attempt().await {
            return result;
        }
        assert!(start.elapsed() < DEADLINE, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // The exporter's own client may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // The exporter closes what is idle for 25 seconds, which a request may meet.
    let client = reqwest::Client::builder().pool_idle_timeout(Duration::from_secs(10));
    client.no_proxy().build().unwrap()
}

/// Serves on a port of its own until the guard is dropped; returns the address.
pub(crate) async fn serve(app: Router) -> (String, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let server = axum::serve(listener, app).into_future();
    tokio::spawn(stop.clone().run_until_cancelled_owned(server));
    (address, stop.drop_guard())
}

/// Serves over TLS.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.listener.accept().await.unwrap();
            // A client that does not trust the certificate disconnects.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// Serves over TLS as these hosts; returns the address, and the CA of the certificate in PEM.
pub(crate) async fn serve_over_tls(app: Router, hosts: &[&str]) -> (String, String) {
    let (key_of_ca, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&key_of_ca).unwrap().pem();
    let issuer = Issuer::new(ca, key_of_ca);
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut certificate = CertificateParams::new(hosts).unwrap();
    // With the name of the CA it would look self-signed.
    certificate.distinguished_name = DistinguishedName::new();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(axum::serve(Tls { listener, acceptor }, app).into_future());
    (address, pem)
}

/// Settings of a WeChat with these apps, written `APPID` or `APPID=USERS`.
pub(crate) fn apps_of(apps: &[&str]) -> Settings {
    Settings {
        apps: apps.iter().map(|app| app.parse().unwrap()).collect(),
        ..Settings::default()
    }
}

/// A simulated WeChat on a port of its own.
pub(crate) struct WeChat {
    pub(crate) simulator: Arc<Simulator>,
    pub(crate) address: String,
    _stop: DropGuard,
}

impl WeChat {
    pub(crate) async fn start(
        settings: Settings,
        clock: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Self {
        let simulator = Simulator::new(settings, clock);
        let app = simulator::create_app(Arc::clone(&simulator));
        Self::behind(simulator, app).await
    }

    /// Serves a simulator through routes that may do more than its own.
    pub(crate) async fn behind(simulator: Arc<Simulator>, app: Router) -> Self {
        let (address, stop) = serve(app).await;
        Self {
            simulator,
            address,
            _stop: stop,
        }
    }

    /// Starts one with the real clock, and apps without faults.
    pub(crate) async fn of(apps: &[&str]) -> Self {
        Self::start(apps_of(apps), now).await
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set_fault(&self, app: &str, fault: &str) {
        self.simulator
            .set_fault(&appid(app), fault.parse().unwrap());
    }

    /// Returns what an exporter would have archived of the days up to yesterday: their final figures.
    pub(crate) fn records(
        &self,
        app: &str,
        window: Window,
        days: u64,
        now: DateTime<Utc>,
    ) -> Vec<Record> {
        let records = (0..days).map(|days| {
            let day = calendar::days_before(calendar::newest_queryable(now), days);
            let answer = self.simulator.answer(&appid(app), window, day);
            let known_at = calendar::midnight(day) + TimeDelta::minutes(34 * 60 + 20);
            Record {
                key: Key {
                    appid: appid(app),
                    window,
                    reference_date: day,
                },
                state: DayState {
                    first_answered_at: known_at.min(now),
                    answered_at: (known_at + TimeDelta::hours(6)).min(now),
                    settled: days > 0,
                    revisions: u32::try_from(days % 3).unwrap(),
                },
                answer: answer.unwrap().to_string(),
            }
        });
        records.collect()
    }

    /// Returns the users that a page must show for an app's final figures.
    pub(crate) fn users(&self, app: &str, window: Window, day: NaiveDate) -> Series {
        let answer = self.simulator.answer(&appid(app), window, day).unwrap();
        users(app, window, &answer)
    }
}

/// Returns the users that a page must show for an answer in the documented spelling.
pub(crate) fn users(app: &str, window: Window, answer: &Value) -> Series {
    let mut series = Series::new();
    for (half, cohort) in [("visit_uv_new", "new"), ("visit_uv", "active")] {
        for (key, dimension) in [
            ("province", "province"),
            ("city", "city"),
            ("genders", "gender"),
            ("platforms", "platform"),
            ("devices", "device"),
            ("ages", "age"),
        ] {
            for row in answer[half][key].as_array().into_iter().flatten() {
                let labels = labels(&[
                    ("appid", app),
                    ("window", window.as_str()),
                    ("cohort", cohort),
                    ("dimension", dimension),
                    ("name", row["name"].as_str().unwrap()),
                ]);
                *series.entry(labels).or_default() += row["value"].as_f64().unwrap();
            }
        }
    }
    series
}

/// Starts a WeChat that issues a token and has one day, with an answer of the test's own.
pub(crate) async fn fake_wechat(day: NaiveDate, answer: String) -> (String, DropGuard) {
    let end = format!("\"end_date\":\"{}\"", day.format("%Y%m%d"));
    let app = Router::new().fallback(async move |body: String| {
        if body.contains("grant_type") {
            json!({"access_token": TOKEN, "expires_in": 7200}).to_string()
        } else if body.contains(&end) {
            answer
        } else {
            json!({"errcode": 61503, "errmsg": "data not ready"}).to_string()
        }
    });
    let (address, stop) = serve(app).await;
    (format!("http://{address}"), stop)
}

/// The labels between the braces of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// The series of one metric and their values.
pub(crate) type Series = BTreeMap<Labels, f64>;

pub(crate) fn labels(labels: &[(&str, &str)]) -> Labels {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    labels.iter().map(owned).collect()
}

/// A page in the text format, parsed independently of the code that wrote it.
#[derive(Debug)]
pub(crate) struct Page(pub(crate) String);

impl Page {
    /// Returns all series of a metric; none may be there twice.
    pub(crate) fn series(&self, name: &str) -> Series {
        let mut series = Series::new();
        for line in self.0.lines() {
            let Some(rest) = line.strip_prefix(name) else {
                continue;
            };
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => read_labels(rest),
                None if rest.starts_with(' ') => (Labels::new(), rest),
                None => continue,
            };
            let twice = series.insert(labels, value.trim().parse().unwrap());
            assert_eq!(twice, None, "{line}");
        }
        series
    }

    /// Returns the value of the only series with these labels and possibly others.
    pub(crate) fn value(&self, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
        let wanted = labels(wanted);
        let mut series = self.series(name);
        series.retain(|labels, _| {
            wanted
                .iter()
                .all(|(name, value)| labels.get(name) == Some(value))
        });
        assert!(series.len() < 2, "{name} {wanted:?} is ambiguous");
        series.into_values().next()
    }

    /// Returns the lines of the users of one app, or of all.
    pub(crate) fn users(&self, app: Option<&str>) -> Vec<&str> {
        let start = app.map_or("wxapp_portrait_users{".to_owned(), |app| {
            format!("wxapp_portrait_users{{appid=\"{app}\"")
        });
        let lines = self.0.lines();
        lines.filter(|line| line.starts_with(&start)).collect()
    }
}

/// Reads labels up to the closing brace; returns the rest, too.
fn read_labels(mut text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    loop {
        text = text.strip_prefix(',').unwrap_or(text);
        if let Some(rest) = text.strip_prefix('}') {
            return (labels, rest);
        }
        let (name, rest) = text.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut characters = rest.chars();
        loop {
            match characters.next().unwrap() {
                '"' => break,
                '\\' => value.push(match characters.next().unwrap() {
                    'n' => '\n',
                    escaped => escaped,
                }),
                character => value.push(character),
            }
        }
        labels.insert(name.to_owned(), value);
        text = characters.as_str();
    }
}

/// Reads an exporter over HTTP, and remembers everything that it returns.
pub(crate) struct Reader {
    pub(crate) url: String,
    client: reqwest::Client,
    /// Every line that was read or logged, and every part of JSON.
    seen: Mutex<HashSet<String>>,
    apps: Vec<AppId>,
    simulator: Option<Arc<Simulator>>,
}

impl Reader {
    pub(crate) fn new(url: String, apps: Vec<AppId>, simulator: Option<&Arc<Simulator>>) -> Self {
        Self {
            url,
            client: client(),
            seen: Mutex::default(),
            apps,
            simulator: simulator.cloned(),
        }
    }

    /// Sends any request to a path.
    pub(crate) async fn ask(&self, method: &str, path: &str, encoding: &str) -> reqwest::Response {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method.parse().unwrap(), url);
        let request = request.header("accept-encoding", encoding);
        request.send().await.unwrap()
    }

    /// Reads a path; returns status and text.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask("GET", path, "identity").await;
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        self.saw(&text);
        (status, text)
    }

    /// Reads the page for Prometheus, which never fails.
    pub(crate) async fn metrics(&self) -> Page {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Page(text)
    }

    /// Reads the page until it has a result.
    pub(crate) async fn metrics_with<T>(&self, what: &str, look: impl Fn(&Page) -> Option<T>) -> T {
        eventually(what, async || look(&self.metrics().await)).await
    }

    /// Waits until every app has been polled once; returns the page.
    pub(crate) async fn ready(&self) -> Page {
        eventually("readiness", async || {
            (self.get("/-/ready").await.0 == 200).then_some(())
        })
        .await;
        self.metrics().await
    }

    /// Returns the status of the first window of an app.
    pub(crate) async fn window_status(&self, app: &str) -> Value {
        let (_, text) = self.get("/api/v1/status").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        let mut apps = status["apps"].as_array().unwrap().iter();
        let found = apps.find(|status| status["appid"] == app).unwrap();
        found["windows"][0].clone()
    }

    /// Remembers a text for the scan.
    pub(crate) fn saw(&self, text: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // JSON is one line, of which most is the same the next time; no secret has a comma.
        let is_json = text.starts_with('{');
        let parts = text.split(|c| c == '\n' || c == ',' && is_json);
        seen.extend(parts.map(str::to_owned));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let seen = self.seen.lock().unwrap();
        let secrets = self.apps.iter().map(secret_of);
        let tokens = self
            .simulator
            .iter()
            .flat_map(|wechat| wechat.issued_tokens());
        for secret in secrets.chain(tokens).chain([TOKEN.to_owned()]) {
            // Not even the beginning of one may leak.
            let line = seen.iter().find(|line| line.contains(&secret[..24]));
            assert_eq!(line, None, "a secret or a token leaked");
        }
    }
}

/// The files of an exporter: its configuration, secrets and archive. Outlives the process.
pub(crate) struct Home {
    /// Written at every start.
    pub(crate) config: Value,
    directory: Arc<TempDir>,
    apps: Vec<AppId>,
    simulator: Option<Arc<Simulator>>,
}

impl Home {
    /// Configures apps to be polled every second.
    pub(crate) fn new(base_url: &str, apps: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let apps: Vec<AppId> = apps.iter().map(|app| appid(app)).collect();
        let configured = apps.iter().map(|app| {
            std::fs::write(directory.path().join(app.as_str()), secret_of(app)).unwrap();
            json!({"appid": app, "secret_file": app})
        });
        Self {
            config: json!({
                "wechat": {"base_url": base_url},
                "poll": {"interval": "1s", "concurrency": 64},
                "apps": configured.collect::<Vec<_>>(),
            }),
            directory: Arc::new(directory),
            apps,
            simulator: None,
        }
    }

    pub(crate) fn of(wechat: &WeChat, apps: &[&str]) -> Self {
        Self {
            simulator: Some(Arc::clone(&wechat.simulator)),
            ..Self::new(&wechat.base_url(), apps)
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn archive_file(&self) -> PathBuf {
        self.path("data/portraits.db")
    }

    /// Writes the configuration; returns its path.
    pub(crate) fn configure(&self) -> PathBuf {
        let file = self.path("wxapp-portrait.yml");
        // JSON is YAML.
        std::fs::write(&file, self.config.to_string()).unwrap();
        file
    }

    /// Fails the test if a text contains a secret or a token.
    pub(crate) fn scan(&self, text: &str) {
        Reader::new(String::new(), self.apps.clone(), self.simulator.as_ref()).saw(text);
    }

    /// Writes the configuration, and returns the command that runs the program with it.
    pub(crate) fn command(&self) -> Command {
        let mut command = program();
        command
            .arg("--config.file")
            .arg(self.configure())
            .arg("--storage.path")
            .arg(self.path("data"))
            .args(["--web.listen-address", "127.0.0.1:0"])
            .args(["--log.level", "debug"]);
        command
    }

    /// Returns a command that works on the archive.
    pub(crate) fn command_of(&self, name: &str) -> Command {
        let mut command = program();
        command
            .arg(name)
            .arg("--storage.path")
            .arg(self.path("data"));
        command
    }

    /// Archives the final figures of days up to yesterday, as an exporter would have done.
    pub(crate) fn archive(&self, wechat: &WeChat, apps: &[&str], days: u64) {
        self.archive_at(now(), &Window::ALL, wechat, apps, days);
    }

    /// The same at another time, and of these windows.
    pub(crate) fn archive_at(
        &self,
        now: DateTime<Utc>,
        windows: &[Window],
        wechat: &WeChat,
        apps: &[&str],
        days: u64,
    ) {
        let mut archive = Store::of_guest(&self.path("data"), Arc::new(move || now));
        for app in apps {
            for window in windows {
                let records = wechat.records(app, *window, days, now);
                let rows: Vec<Row> = records.iter().map(Row::from).collect();
                archive.upsert(&rows).unwrap();
            }
        }
    }

    pub(crate) async fn start(&self) -> Exporter {
        let simulator = self.simulator.as_ref();
        let mut exporter = Exporter::start(self.command(), self.apps.clone(), simulator).await;
        exporter.home = Some(Arc::clone(&self.directory));
        exporter
    }
}

/// Returns the command that runs the program, without arguments.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wxapp-portrait-exporter"));
    command
        .env("NO_PROXY", "127.0.0.1")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("http_proxy");
    command
}

/// Returns the directory of the project.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of a program that `tests/newer` fetched.
pub(crate) fn newer(program: &str) -> PathBuf {
    let path = root().join("target/tools/newer").join(program);
    assert!(
        path.exists(),
        "{} is missing: run tests/run",
        path.display()
    );
    path
}

/// Compares a file of the project with what the code generates: if they differ, writes the file and
/// fails the test.
#[track_caller]
pub(crate) fn assert_fresh(path: &str, expected: &str) {
    let file = root().join(path);
    if std::fs::read(&file).is_ok_and(|text| text == expected.as_bytes()) {
        return;
    }
    std::fs::write(&file, expected).unwrap();
    panic!("{path} was stale and is now written; commit it");
}

/// Returns the text of a file of the project with these parts between its markers, by name. Text
/// outside of markers is written by hand and stays.
pub(crate) fn with_parts(path: &str, parts: &[(&str, String)]) -> String {
    let file = root().join(path);
    let mut text = std::fs::read_to_string(&file).unwrap();
    let markers = text.matches("<!-- made from the code: begin").count();
    assert_eq!(markers, parts.len(), "{path} has other parts");
    for (name, part) in parts {
        let begin = format!("<!-- made from the code: begin {name} -->\n");
        let found = text.split_once(&begin);
        let (before, rest) = found.unwrap_or_else(|| panic!("{path} has no part `{name}`"));
        let end = rest.find("<!-- made from the code: end -->").unwrap();
        text = format!("{before}{begin}\n{part}\n{}", &rest[end..]);
    }
    text
}

/// Quotes a command for a shell.
pub(crate) fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| format!("'{}'", word.to_str().unwrap()));
    words.collect::<Vec<_>>().join(" ")
}

/// A running program whose output goes to a file; killed in the end.
pub(crate) struct Running {
    child: Child,
    output: NamedTempFile,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let output = NamedTempFile::new().unwrap();
        let append = || File::options().append(true).open(output.path()).unwrap();
        let child = command.stdout(append()).stderr(append()).spawn();
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output }
    }

    /// Returns its output so far.
    pub(crate) fn output(&self) -> String {
        let output = std::fs::read(self.output.path()).unwrap();
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Waits for a word in its output; returns the rest of the line.
    pub(crate) async fn said(&mut self, word: &str) -> String {
        eventually(word, async || {
            let output = self.output();
            let (_, rest) = output.split_once(word).or_else(|| {
                let end = self.child.try_wait().unwrap();
                assert_eq!(end, None, "never said {word}: {output}");
                None
            })?;
            let (line, _) = rest.split_once('\n')?;
            Some(line.to_owned())
        })
        .await
    }

    /// Returns its peak resident memory, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.unwrap().trim().strip_suffix(" kB").unwrap();
        kib.parse::<u64>().unwrap() >> 10
    }

    /// Returns how many threads it has.
    pub(crate) fn threads(&self) -> usize {
        let tasks = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(tasks).unwrap().count()
    }

    /// Returns its process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", signal, &self.child.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    /// Waits for its end; returns its exit status and how long that took.
    pub(crate) async fn ended(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let end = eventually("the end", async || self.child.try_wait().unwrap()).await;
        (end, start.elapsed())
    }

    /// Kills it, unless it has ended already; returns its exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let _ = self.child.kill();
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The real program, serving.
pub(crate) struct Exporter {
    pub(crate) running: Running,
    reader: Reader,
    /// Secrets are read whenever they are needed, so the directory exists as long as the program runs.
    home: Option<Arc<TempDir>>,
}

impl Exporter {
    pub(crate) async fn start(
        command: Command,
        apps: Vec<AppId>,
        simulator: Option<&Arc<Simulator>>,
    ) -> Self {
        let mut running = Running::start(command);
        let address = running.said("message=listening address=").await;
        let exporter = Self {
            running,
            reader: Reader::new(format!("http://{address}"), apps, simulator),
            home: None,
        };
        eventually("the archive to be read", async || {
            let (_, text) = exporter.get("/-/ready").await;
            (!text.starts_with("reading the archive")).then_some(())
        })
        .await;
        exporter
    }
}

impl Exporter {
    /// Keeps the files of a home as long as the exporter runs.
    pub(crate) fn keep(&mut self, home: &Home) {
        self.home = Some(Arc::clone(&home.directory));
    }
}

impl Deref for Exporter {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.running.stop();
        self.reader.saw(&self.running.output());
    }
}

/// A real Prometheus with data of its own, or another server with its API.
pub(crate) struct Prometheus {
    pub(crate) url: String,
    client: reqwest::Client,
    _running: Running,
    directory: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes an exporter every second.
    pub(crate) fn start(exporter: &Exporter) -> Self {
        Self::over(tempfile::tempdir().unwrap(), &scraping(&[exporter]))
    }

    /// Starts one over the blocks in a directory, which also has the files that the configuration
    /// names.
    pub(crate) fn over(directory: TempDir, config: &Value) -> Self {
        Self::run("prometheus", directory, config)
    }

    /// Starts the given program, which may be another version.
    pub(crate) fn run(program: &str, directory: TempDir, config: &Value) -> Self {
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().display()
            ))
            .arg("--storage.tsdb.retention.time=100y")
            // Sends what has ended once, and not for 15 minutes, in which days may pass here.
            .arg("--rules.alert.resend-delay=1h");
        Self::of(command, directory)
    }

    /// Starts a command, and keeps the directory as long as it runs.
    pub(crate) fn of(mut command: Command, directory: TempDir) -> Self {
        // It does not report which port it got.
        let address = format!("127.0.0.1:{}", free_port());
        command.arg(format!("--web.listen-address={address}"));
        Self::serving(&address, command, directory)
    }

    /// Starts a server by a command that says at which address, and keeps the directory as long as it runs.
    pub(crate) fn serving(address: &str, command: Command, directory: TempDir) -> Self {
        Self {
            url: format!("http://{address}"),
            client: client(),
            _running: Running::start(command),
            directory,
        }
    }

    /// Ends it, and returns its directory for another one.
    pub(crate) fn stop(self) -> TempDir {
        self.directory
    }

    /// Sends a request to its API, such as `query_range`; returns the answer, even an error.
    pub(crate) async fn ask(&self, endpoint: &str, parameters: &[(&str, &str)]) -> Value {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        eventually(endpoint, async || {
            let request = self.client.post(format!("{}/api/v1/{endpoint}", self.url));
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            let answer = request.body(body.clone()).send().await.ok()?;
            // Plain text while it starts.
            serde_json::from_slice(&answer.bytes().await.ok()?).ok()
        })
        .await
    }

    /// Queries until there is a result; returns its series without the labels of the scrape.
    pub(crate) async fn query(&self, query: &str) -> Series {
        let answer = eventually(query, async || {
            let answer = self.ask("query", &[("query", query)]).await;
            let result = answer["data"]["result"].as_array()?.clone();
            (!result.is_empty()).then_some(result)
        });
        let series = answer.await.into_iter().map(|result| {
            let metric = result["metric"].as_object().unwrap().iter();
            let pairs: Vec<_> = metric
                .filter(|(name, _)| !["__name__", "instance", "job"].contains(&name.as_str()))
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            let value = result["value"][1].as_str().unwrap();
            (labels(&pairs), value.parse().unwrap())
        });
        series.collect()
    }
}

/// Configures a Prometheus to scrape exporters every second.
pub(crate) fn scraping(exporters: &[&Exporter]) -> Value {
    let addresses = exporters
        .iter()
        .map(|exporter| exporter.url.strip_prefix("http://"));
    json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{
            "job_name": "wxapp",
            "static_configs": [{"targets": addresses.collect::<Vec<_>>()}],
        }],
    })
}

/// Returns a port without a listener.
pub(crate) fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// Lets promtool create blocks from samples that `export` wrote.
pub(crate) fn backfill(samples: &Path, blocks: &Path) {
    let mut promtool = Command::new("promtool");
    promtool
        .args([
            "tsdb",
            "create-blocks-from",
            "--max-block-duration=720h",
            "openmetrics",
        ])
        .args([samples, blocks]);
    let output = promtool.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A clock that is stopped until it is moved.
#[derive(Clone)]
pub(crate) struct Hand(Arc<Mutex<DateTime<Utc>>>);

impl Hand {
    pub(crate) fn at(time: &str) -> Self {
        Self(Arc::new(Mutex::new(time.parse().unwrap())))
    }

    pub(crate) fn forward(&self, time: TimeDelta) {
        *self.0.lock().unwrap() += time;
    }

    pub(crate) fn move_to(&self, time: DateTime<Utc>) {
        *self.0.lock().unwrap() = time;
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }

    pub(crate) fn clock(&self) -> impl Fn() -> DateTime<Utc> + Send + Sync + use<> {
        let hand = self.clone();
        move || hand.now()
    }

    /// Returns a clock that panics when it is read while `broken`, and resets that.
    pub(crate) fn fragile_clock(&self, broken: &Arc<AtomicBool>) -> Clock {
        let (hand, broken) = (self.clone(), Arc::clone(broken));
        Arc::new(move || {
            assert!(!broken.swap(false, Ordering::Relaxed), "a broken clock");
            hand.now()
        })
    }
}

/// The time-out of requests to a WeChat that is slow in some tests.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_millis(500);

/// Where an exporter in this process archives.
#[derive(Clone)]
pub(crate) enum Storage {
    File(Arc<TempDir>),
    /// The database with this URL, with leases and rounds of this length.
    Database(String, Sharing),
}

impl Storage {
    pub(crate) fn file() -> Self {
        Self::File(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// Returns the archive as an exporter opens it.
    fn own(&self, clock: Clock) -> Store {
        match self {
            Self::File(directory) => Store::of_owner(directory.path(), clock),
            Self::Database(url, sharing) => {
                let url = SecretString::from(url.as_str());
                let database = Database::parse(&url, Path::new("/")).unwrap();
                Store::of_database(database, *sharing).unwrap()
            }
        }
    }

    /// Returns the archive as another program opens it.
    pub(crate) fn store(&self, clock: Clock) -> Store {
        match self {
            Self::File(directory) => Store::of_guest(directory.path(), clock),
            Self::Database(..) => self.own(clock),
        }
    }

    /// Accesses the archive as another program, on a thread of its own, as that waits.
    pub(crate) fn access<T: Send>(
        &self,
        clock: Clock,
        action: impl FnOnce(&mut Store) -> T + Send,
    ) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| action(&mut self.store(clock)));
            let result = thread.join();
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// The parts of an exporter in this process, with a clock of the test's own.
pub(crate) struct Inside {
    context: Context,
    reader: Reader,
    storage: Storage,
    _stop: DropGuard,
}

impl Inside {
    /// Serves; polls no app until requested, and then as often as the clock is moved.
    pub(crate) async fn start(base_url: &str, apps: &[&str], hand: &Hand) -> Self {
        Self::with_interval(Duration::from_millis(50), base_url, apps, hand).await
    }

    /// Serves; polls no app until requested, and then once in this time, whether anything can change or
    /// not.
    pub(crate) async fn with_interval(
        interval: Duration,
        base_url: &str,
        apps: &[&str],
        hand: &Hand,
    ) -> Self {
        Self::with_intervals([interval, Duration::ZERO], base_url, apps, hand).await
    }

    /// The same with another interval for times in which nothing can change.
    pub(crate) async fn with_intervals(
        intervals: [Duration; 2],
        base_url: &str,
        apps: &[&str],
        hand: &Hand,
    ) -> Self {
        let clock: Clock = Arc::new(hand.clock());
        Self::on(
            Storage::file(),
            intervals,
            SHORT_TIMEOUT,
            base_url,
            apps,
            clock,
        )
        .await
    }

    /// The same with an archive that others may use, another time-out of requests, and any clock.
    pub(crate) async fn on(
        storage: Storage,
        [interval, quiet_interval]: [Duration; 2],
        timeout: Duration,
        base_url: &str,
        apps: &[&str],
        clock: Clock,
    ) -> Self {
        remember_log();
        wechat::install_crypto_provider();
        let telemetry = Arc::new(Telemetry::new(Shard::default()).unwrap());
        telemetry.reloaded(clock());
        let observer = Arc::clone(&telemetry);
        let settings = wechat::Settings {
            wechat: config::WeChat {
                base_urls: vec![format!("{base_url}/").parse().unwrap()],
                timeout,
                ..config::WeChat::default()
            },
            concurrency: 8,
            backoff: Duration::from_millis(1),
            secret_variables: Vec::new(),
        };
        let observe = move |request: &wechat::Request| observer.request(request);
        let counter = Arc::clone(&telemetry);
        let store = storage.own(Arc::clone(&clock));
        let open = || Archive::open(store, move |operation| counter.archive_failure(operation));
        let archive = tokio::task::spawn_blocking(open).await.unwrap();
        let context = Context::new(
            Client::new(settings, Arc::clone(&clock), observe).unwrap(),
            Arc::new(archive.unwrap()),
            Arc::default(),
            Arc::default(),
            telemetry,
            clock,
            poll::Settings {
                interval,
                quiet_interval,
                stale_after: config::STALE_AFTER,
                retention: config::RETENTION,
            },
        );
        let reload = mpsc::unbounded_channel().0;
        let state = AppState::new(
            &context,
            Paths {
                prefix: String::new(),
                telemetry: "/metrics".to_owned(),
                external_url: None,
            },
            Shard::default(),
            None,
            reload,
        );
        let (address, stop) = serve(web::create_app(Arc::new(state))).await;
        let apps = apps.iter().map(|app| appid(app)).collect();
        Self {
            context,
            reader: Reader::new(format!("http://{address}"), apps, None),
            storage,
            _stop: stop,
        }
    }

    /// Polls by another clock from now on.
    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.context.clock = clock;
    }

    /// Polls from now on only the apps of which it holds these leases, as if others shared the archive.
    pub(crate) fn share(&mut self, leases: &Arc<Leases>) {
        self.context.leases = Arc::clone(leases);
    }

    /// Adds the tokens of a simulator to the scan.
    pub(crate) fn scan_for(&mut self, wechat: &WeChat) {
        self.reader.simulator = Some(Arc::clone(&wechat.simulator));
    }

    /// Returns what all apps share.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the archive as another program opens it.
    pub(crate) fn store(&self) -> Store {
        self.storage.store(Arc::clone(&self.context.clock))
    }

    /// Accesses the archive as another program, see [`Storage::access`].
    pub(crate) fn access<T: Send>(&self, action: impl FnOnce(&mut Store) -> T + Send) -> T {
        let clock = Arc::clone(&self.context.clock);
        self.storage.access(clock, action)
    }

    /// Reads an app's archive and polls it, as after a start.
    pub(crate) async fn poll(&self, app: &str, window: Window) -> Polling {
        self.poll_windows(app, &[window]).await
    }

    pub(crate) async fn poll_windows(&self, app: &str, windows: &[Window]) -> Polling {
        // As after a start of the program, without any state.
        self.context.registry.remove(&appid(app));
        self.poll_all(vec![configured(app, windows)]).await
    }

    /// Reads the archive of apps and polls them, as after the start of the program.
    pub(crate) async fn poll_all(&self, apps: Vec<config::App>) -> Polling {
        let supervisor = Supervisor::start(self.context.clone(), apps);
        eventually("the archive to be read", async || {
            let progress = self.context.registry.progress();
            let is_away = self.context.archive.problem().is_some();
            (is_away || progress.restored == progress.apps).then_some(())
        })
        .await;
        Polling(supervisor)
    }

    /// Reads an app's archive, as after a start, for a test that moves the clock step by step.
    pub(crate) async fn restore(&self, app: &str, windows: &[Window]) -> AppPoller {
        self.restore_as(configured(app, windows)).await
    }

    /// The same for an app with an access of the test's own.
    pub(crate) async fn restore_with(
        &self,
        app: &str,
        windows: &[Window],
        access: AccessMethod,
    ) -> AppPoller {
        self.restore_as(config::App {
            access,
            ..configured(app, windows)
        })
        .await
    }

    /// The same for an app as the test configures it.
    pub(crate) async fn restore_as(&self, app: config::App) -> AppPoller {
        let mut app = AppPoller::new(self.context.clone(), app);
        app.restore().await;
        app
    }
}

/// Runs the steps of an app that are due; returns when more will be due.
pub(crate) async fn step(app: &mut AppPoller) -> DateTime<Utc> {
    app.step(&CancellationToken::new()).await
}

/// Returns an app with a secret and defaults.
pub(crate) fn configured(app: &str, windows: &[Window]) -> config::App {
    let access = AccessMethod::of_secret(SecretString::from(secret_of(&appid(app))));
    config::App {
        windows: windows.to_vec(),
        ..config::App::new(appid(app), access)
    }
}

/// An app that is being polled; ends with the test, or before.
pub(crate) struct Polling(Supervisor);

impl Polling {
    pub(crate) async fn end(self) {
        self.0.shutdown().await;
    }

    /// Restarts tasks that panic.
    pub(crate) async fn watch(&mut self) {
        self.0.watch().await;
    }
}

impl Deref for Inside {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        self.reader.saw(&String::from_utf8_lossy(&log));
    }
}

/// Returns the log lines of this process with all of these words.
pub(crate) fn logged(words: &[&str]) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let log = String::from_utf8_lossy(&log);
    let lines = log.lines();
    let lines = lines.filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

/// Everything that was logged in this process.
static LOG: LazyLock<Mutex<Vec<u8>>> = LazyLock::new(Mutex::default);

struct Remember;

impl io::Write for Remember {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Receives the same as the program's log at its most verbose level.
pub(crate) fn remember_log() {
    static SUBSCRIBER: Once = Once::new();
    SUBSCRIBER.call_once(|| {
        let targets = Targets::new().with_target("wxapp_portrait_exporter", LevelFilter::DEBUG);
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(|| Remember)
            .with_ansi(false);
        tracing_subscriber::registry()
            .with(targets)
            .with(layer)
            .init();
    });
}
