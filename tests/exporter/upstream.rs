//! Upstreams that misbehave, byte by byte: connections that break, answers that never end, invalid TLS, hostile
//! contents, and secrets, files and programs that are not what they should be.
//!
//! One exporter has an app for each of these [`faults`], one for each of the [`oddities`], and one that is healthy.
//! The tables of `docs/reliability.md` are made from the same lists.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{NaiveDate, TimeDelta};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, date_time_ymd,
};
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{Simulator, secret_of};
use wxapp_portrait_exporter::wechat::errcodes;

use crate::harness::{
    APP, Exporter, Home, Page, Series, TOKEN, WeChat, appid, labels, now, on_one_day, yesterday,
};
use crate::prometheus;

/// What apps meet.
mod faults;

use faults::{Cause, Certificate, STOLEN, Server, Wire, http, made, portrait};
pub(crate) use faults::{Fault, Oddity, Part, faults, oddities};

/// How long an exporter waits for an answer here.
const TIMEOUT: &str = "3s";

/// For all faults to be reported, and for all apps to recover: a slow upstream is asked four times.
const PATIENCE: Duration = Duration::from_mins(4);

/// A request.
struct Asked {
    path: String,
    /// Of the token, or the one in the query.
    app: String,
    token: String,
    day: NaiveDate,
}

impl Asked {
    /// Reads a request to its end; `None` if there is none.
    async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut read = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let length = stream.read(&mut buffer).await.ok()?;
            if length == 0 {
                return None;
            }
            read.extend_from_slice(&buffer[..length]);
            let text = String::from_utf8_lossy(&read);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1);
            let length = length.map_or("0", |rest| rest.lines().next().unwrap_or_default());
            if body.len() < length.parse::<usize>().unwrap() {
                continue;
            }
            let line = text.lines().next()?;
            let body = serde_json::from_str(body).unwrap_or_default();
            return Self::of(line.split(' ').nth(1)?, &body);
        }
    }

    fn of(target: &str, body: &Value) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = url::form_urlencoded::parse(query.as_bytes());
        let token: String = query
            .filter(|(name, _)| name == "access_token")
            .map(|(_, token)| token.into_owned())
            .collect();
        let of_token = token.rsplit('_').next().unwrap_or_default();
        let app = body["appid"].as_str().unwrap_or(of_token).to_owned();
        let day = body["end_date"].as_str().unwrap_or("20000101");
        Some(Self {
            path: path.to_owned(),
            app,
            day: NaiveDate::parse_from_str(day, "%Y%m%d").ok()?,
            token,
        })
    }

    fn is_for_token(&self) -> bool {
        self.path == "/cgi-bin/stable_token"
    }

    /// Returns the day as WeChat writes it.
    fn compact(&self) -> String {
        self.day.format("%Y%m%d").to_string()
    }
}

/// Returns the token of an app; the scan of everything that is read finds any that leaks.
fn token_of(app: &str) -> String {
    format!("{TOKEN}_{app}")
}

/// What all servers share.
struct Upstream {
    simulator: Arc<Simulator>,
    /// What apps meet at WeChat.
    causes: BTreeMap<String, Cause>,
    /// Whether all faults are over.
    is_repaired: AtomicBool,
    /// Whether a redirect was followed.
    is_stolen: AtomicBool,
}

impl Upstream {
    fn is_repaired(&self) -> bool {
        self.is_repaired.load(Ordering::Relaxed)
    }

    /// Returns the right answer.
    fn answer(&self, asked: &Asked) -> Vec<u8> {
        let answer = if asked.is_for_token() {
            json!({"access_token": token_of(&asked.app), "expires_in": 7200})
        } else {
            let app = appid(&asked.app);
            let answer = self.simulator.answer(&app, Window::OneDay, asked.day);
            answer.unwrap()
        };
        http("200 OK", "", answer.to_string().as_bytes())
    }

    /// Answers one request at the address of WeChat.
    async fn serve(&self, mut stream: TcpStream) {
        let Some(asked) = Asked::read(&mut stream).await else {
            return;
        };
        if asked.path == STOLEN {
            self.is_stolen.store(true, Ordering::Relaxed);
            return;
        }
        let wire = match self.causes.get(&asked.app) {
            _ if self.is_repaired() => None,
            Some(Cause::Token(wire)) if asked.is_for_token() => Some(wire),
            Some(Cause::Portrait(wire)) if !asked.is_for_token() => Some(wire),
            _ => None,
        };
        match wire {
            None => {
                let _ = stream.write_all(&self.answer(&asked)).await;
                let _ = stream.shutdown().await;
            }
            Some(wire) => wire.send(stream, &asked).await,
        }
    }
}

impl Wire {
    /// Sends what it is, as long as the other side accepts that.
    async fn send(&self, mut stream: TcpStream, asked: &Asked) {
        match self {
            Self::Bytes(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
            }
            Self::Made(make) => {
                let _ = stream.write_all(&make(asked)).await;
                let _ = stream.shutdown().await;
            }
            Self::Reset(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.set_zero_linger();
            }
            Self::Stall(bytes) => {
                let _ = stream.write_all(bytes).await;
                until_closed(&mut stream).await;
            }
            Self::Endless(begin, more, pause) => {
                let mut sent = stream.write_all(begin).await;
                while sent.is_ok() {
                    if !pause.is_zero() {
                        tokio::time::sleep(*pause).await;
                    }
                    sent = stream.write_all(more).await;
                }
            }
        }
    }
}

/// Waits until the other side closes a connection.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 1024];
    while stream
        .read(&mut buffer)
        .await
        .is_ok_and(|length| length > 0)
    {}
}

/// Keys and certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(ca, key);
        Self { issuer, pem }
    }

    fn acceptor(&self, kind: Certificate) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let host = match kind {
            Certificate::WrongName => "example.com",
            _ => "127.0.0.1",
        };
        let mut certificate = CertificateParams::new(vec![host.to_owned()]).unwrap();
        certificate.distinguished_name = DistinguishedName::new();
        match kind {
            Certificate::Expired => certificate.not_after = date_time_ymd(2001, 1, 1),
            Certificate::NotYetValid => certificate.not_before = date_time_ymd(2999, 1, 1),
            _ => {}
        }
        let certificate = match kind {
            Certificate::SelfSigned => certificate.self_signed(&key).unwrap(),
            _ => certificate.signed_by(&key, &self.issuer).unwrap(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key.into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server of one app.
struct OwnServer {
    app: String,
    kind: Server,
    upstream: Arc<Upstream>,
    faulty: TlsAcceptor,
    valid: TlsAcceptor,
}

impl OwnServer {
    fn new(app: String, kind: Server, upstream: &Arc<Upstream>, authority: &Authority) -> Self {
        let presented = match kind {
            Server::Tls(certificate) => certificate,
            _ => Certificate::Valid,
        };
        Self {
            app,
            kind,
            upstream: Arc::clone(upstream),
            faulty: authority.acceptor(presented),
            valid: authority.acceptor(Certificate::Valid),
        }
    }

    async fn serve(&self, mut stream: TcpStream) {
        let is_repaired = self.upstream.is_repaired();
        match self.kind {
            _ if is_repaired && self.kind.scheme() == "http" => self.answer(stream).await,
            _ if is_repaired => {
                if let Ok(stream) = self.valid.accept(stream).await {
                    self.answer(stream).await;
                }
            }
            Server::Refuses => unreachable!("nothing listens yet"),
            Server::Resets => {
                let _ = stream.set_zero_linger();
            }
            Server::Closes => {}
            Server::Mute | Server::MuteHandshake => until_closed(&mut stream).await,
            Server::PlainInsteadOfTls => {
                let answer = http("400 Bad Request", "", b"plain");
                let _ = stream.write_all(&answer).await;
                until_closed(&mut stream).await;
            }
            Server::TlsInsteadOfPlain | Server::Tls(_) => {
                if let Ok(stream) = self.faulty.accept(stream).await {
                    self.answer(stream).await;
                }
            }
            Server::ClosesHandshake => {
                let _ = stream.read(&mut [0; 100]).await;
            }
        }
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        if let Some(asked) = Asked::read(&mut stream).await {
            let app = self.app.clone();
            let answer = self.upstream.answer(&Asked { app, ..asked });
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    }
}

/// An app and its fault.
struct Case {
    app: String,
    what: &'static str,
    reason: &'static str,
    words: &'static str,
}

/// Prepares what an app meets on the host of the exporter; returns the app as it is configured, and the file that
/// must have another text in the end.
fn on_host(home: &Home, app: &str, cause: &Cause) -> (Value, Option<(String, String)>) {
    let name = format!("{app}.own");
    let path = home.path(&name);
    let (entry, text) = match cause {
        Cause::Secret(make) => {
            make(&path);
            let entry = json!({"appid": app, "secret_file": name});
            (entry, secret_of(&appid(app)))
        }
        Cause::TokenFile(make) => {
            make(&path);
            (json!({"appid": app, "token_file": name}), token_of(app))
        }
        Cause::Command(script) => {
            fs::write(&path, script).unwrap();
            let entry = json!({"appid": app, "token_command": ["sh", path]});
            (entry, format!("echo {}", token_of(app)))
        }
        _ => return (json!({"appid": app, "portrait_url": NOWHERE}), None),
    };
    (entry, Some((name, text)))
}

/// The URL of a host that does not exist.
const NOWHERE: &str = "http://no-such-host.invalid/";

/// The exporter, its apps, and what they meet.
struct Scene {
    exporter: Exporter,
    home: Home,
    upstream: Arc<Upstream>,
    wechat: WeChat,
    cases: Vec<Case>,
    odd: Vec<(String, Oddity)>,
    /// Sockets that do not listen yet, and their servers.
    silent: Vec<(TcpSocket, Arc<OwnServer>)>,
    /// What is at paths of files must become this.
    files: Vec<(String, String)>,
}

fn spawn(listener: TcpListener, server: Arc<OwnServer>) {
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.serve(stream).await });
        }
    });
}

/// Returns the users that a page shows, by app.
fn shown(page: &Page) -> BTreeMap<String, Series> {
    let mut shown: BTreeMap<String, Series> = BTreeMap::new();
    for (labels, users) in page.series("wxapp_portrait_users") {
        // Names of the days before may have no users.
        if users > 0.0 {
            let of_app = shown.entry(labels["appid"].clone()).or_default();
            of_app.insert(labels, users);
        }
    }
    shown
}

impl Scene {
    /// Starts an exporter whose archive has the day before yesterday of every app.
    async fn start() -> Self {
        let (faults, oddities) = (faults(), oddities());
        let count = 1 + faults.len() + oddities.len();
        let mut apps = vec![APP.to_owned()];
        apps.extend((1..count).map(|index| format!("wxfa{index:014x}")));
        let small: Vec<String> = apps.iter().map(|app| format!("{app}=300")).collect();
        let wechat = WeChat::of(&small.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let names: Vec<&str> = apps.iter().map(String::as_str).collect();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut home = Home::new(&url, &names);
        let authority = Authority::new();
        fs::write(home.path("ca.pem"), &authority.pem).unwrap();
        home.config["wechat"]["ca_file"] = "ca.pem".into();
        home.config["wechat"]["timeout"] = TIMEOUT.into();
        home.config["poll"]["interval"] = "30s".into();
        home.config["dimensions"] = json!(["platform"]);

        let mut at_wechat = BTreeMap::new();
        let (mut cases, mut odd) = (Vec::new(), Vec::new());
        let (mut servers, mut files) = (Vec::new(), Vec::new());
        let mut rest = apps[1..].iter().cloned().zip(1..);
        for (fault, (app, index)) in faults.into_iter().zip(&mut rest) {
            cases.push(Case {
                app: app.clone(),
                what: fault.what,
                reason: fault.reason,
                words: fault.words,
            });
            match fault.cause {
                cause @ (Cause::Token(_) | Cause::Portrait(_)) => {
                    at_wechat.insert(app, cause);
                }
                Cause::Server(kind) => servers.push((app, kind, index)),
                cause => {
                    let (entry, file) = on_host(&home, &app, &cause);
                    home.config["apps"][index] = entry;
                    files.extend(file);
                }
            }
        }
        for (oddity, (app, _)) in oddities.into_iter().zip(rest) {
            let rows = (oddity.rows)();
            let wire = made(move |asked| portrait(asked.day, &rows));
            at_wechat.insert(app.clone(), Cause::Portrait(wire));
            odd.push((app, oddity));
        }
        let upstream = Arc::new(Upstream {
            simulator: Arc::clone(&wechat.simulator),
            causes: at_wechat,
            is_repaired: AtomicBool::new(false),
            is_stolen: AtomicBool::new(false),
        });
        let mut silent = Vec::new();
        for (app, kind, index) in servers {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = socket.local_addr().unwrap();
            let url = format!("{}://{address}/", kind.scheme());
            home.config["apps"][index] = json!({"appid": app, "portrait_url": url});
            let server = Arc::new(OwnServer::new(app, kind, &upstream, &authority));
            match kind {
                Server::Refuses => silent.push((socket, server)),
                _ => spawn(socket.listen(64).unwrap(), server),
            }
        }
        let shared = Arc::clone(&upstream);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let upstream = Arc::clone(&shared);
                tokio::spawn(async move { upstream.serve(stream).await });
            }
        });
        let before = now() - TimeDelta::days(1);
        home.archive_at(before, &[Window::OneDay], &wechat, &names, 1);
        Self {
            exporter: home.start().await,
            home,
            upstream,
            wechat,
            cases,
            odd,
            silent,
            files,
        }
    }

    /// Ends all faults, as their causes would end.
    async fn repair(&mut self) {
        for (name, text) in &self.files {
            let path = self.home.path(name);
            if path.is_dir() {
                fs::remove_dir(&path).unwrap();
            } else if path.symlink_metadata().is_ok() {
                fs::remove_file(&path).unwrap();
            }
            fs::write(path, text).unwrap();
        }
        self.upstream.is_repaired.store(true, Ordering::Relaxed);
        for (socket, server) in self.silent.drain(..) {
            spawn(socket.listen(64).unwrap(), server);
        }
        // Nobody here can give a name to a host: its app gets its portraits from WeChat.
        for app in self.home.config["apps"].as_array_mut().unwrap() {
            if app["portrait_url"] == NOWHERE {
                let name = app["appid"].clone();
                *app = json!({"appid": name, "secret_file": name});
            }
        }
        self.home.configure();
        let answer = self.exporter.ask("POST", "/-/reload", "identity").await;
        assert_eq!(answer.status().as_u16(), 200);
    }

    /// Returns the users that a page must show of an app once it is healthy.
    fn expected(&self, app: &str) -> Series {
        let mut users = self.wechat.users(app, Window::OneDay, yesterday());
        users.retain(|labels, _| labels["dimension"] == "platform");
        users
    }

    /// Returns what is still missing on a page of what must be reported about the faults.
    async fn missing(&self, page: &Page) -> Vec<String> {
        let failures = page.series("wxapp_portrait_poll_failures_total");
        let problems = self.problems().await;
        let mut missing = Vec::new();
        for Case {
            app,
            what,
            reason,
            words,
        } in &self.cases
        {
            let key = [
                ("appid", app.as_str()),
                ("window", "1d"),
                ("reason", reason),
            ];
            let is_counted = failures[&labels(&key)] > 0.0;
            let problem = &problems[app];
            let mut words = words.split(" … ");
            if !is_counted || !words.all(|words| problem.contains(words)) {
                missing.push(format!("{what}: {reason}, {problem}"));
            }
            assert!(!problem.contains('\n'), "{problem}");
        }
        let shown = shown(page);
        for (app, Oddity { what, users, .. }) in &self.odd {
            let active = shown[app].iter();
            let active = active.filter(|(labels, _)| labels["cohort"] == "active");
            let active: BTreeMap<_, _> = active
                .map(|(labels, users)| (labels["name"].clone(), *users))
                .collect();
            if active != users().into_iter().collect() {
                let active = format!("{active:?}").chars().take(300).collect::<String>();
                missing.push(format!("{what}: {active}, {}", problems[app]));
            }
        }
        missing
    }

    /// Returns the sentence about every app.
    async fn problems(&self) -> BTreeMap<String, String> {
        let (_, status) = self.exporter.get("/api/v1/status").await;
        let status: Value = serde_json::from_str(&status).unwrap();
        let apps = status["apps"].as_array().unwrap().iter();
        apps.map(|app| {
            let problem = app["windows"][0]["problem"].as_str().unwrap_or_default();
            (
                app["appid"].as_str().unwrap().to_owned(),
                problem.to_owned(),
            )
        })
        .collect()
    }

    /// Returns the apps whose users of yesterday are not on the page, or which still have a problem.
    async fn unrecovered(&self) -> Vec<String> {
        let shown = shown(&self.exporter.metrics().await);
        let problems = self.problems().await;
        let mut left = Vec::new();
        for Case { app, what, .. } in &self.cases {
            let problem = &problems[app];
            if shown[app] != self.expected(app) || !problem.is_empty() {
                left.push(format!("{what}: {problem}"));
            }
        }
        left
    }
}

/// Waits until nothing is left.
async fn until_none(what: &str, mut left: impl AsyncFnMut() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let left = left().await;
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{what}:\n{}", left.join("\n"));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misbehaving_upstream_affects_its_app_alone_which_recovers_by_itself() {
    on_one_day(async || {
        let mut scene = Scene::start().await;
        let exporter = &scene.exporter;
        let expected = scene.expected(APP);
        let healthy = |page: &Page| (shown(page)[APP] == expected).then_some(());
        exporter.metrics_with("the healthy app", healthy).await;
        let of = |page: &Page, app: &str| page.users(Some(app)).join("\n");
        let page = exporter.metrics().await;
        let apps = scene.cases.iter().map(|case| case.app.as_str());
        let last: BTreeMap<_, _> = apps.map(|app| (app, of(&page, app))).collect();
        assert!(last.values().all(|users| !users.is_empty()));

        until_none("not reported", async || {
            let page = exporter.metrics().await;
            assert!(healthy(&page).is_some(), "the healthy app is affected");
            for (app, users) in &last {
                assert_eq!(of(&page, app), *users, "the last portrait of {app}");
            }
            scene.missing(&page).await
        })
        .await;

        let page = exporter.metrics().await;
        prometheus::check_by("promtool".as_ref(), &page.0);
        for failures in page
            .series("wxapp_portrait_api_request_failures_total")
            .keys()
        {
            let errcode = &failures["errcode"];
            let is_known = errcode.parse().is_ok_and(errcodes::is_known);
            let is_other = ["other", "timeout", "connect", "body"].contains(&errcode.as_str());
            assert!(
                is_known || is_other || errcode.starts_with("http_"),
                "{errcode}"
            );
        }
        let panics = page.value("wxapp_portrait_task_panics_total", &[]);
        assert_eq!(panics, Some(0.0));
        // For the scan for secrets.
        for path in ["/", "/?lang=zh", "/config", &format!("/apps/{APP}")] {
            assert_eq!(exporter.get(path).await.0, 200, "{path}");
        }
        for case in &scene.cases {
            let (status, html) = exporter.get(&format!("/apps/{}", case.app)).await;
            assert_eq!(status, 200, "{}", case.what);
            assert!(!html.contains("<script>alert"), "{}", case.what);
        }

        scene.repair().await;
        until_none("not recovered", async || scene.unrecovered().await).await;
        let exporter = &scene.exporter;
        prometheus::check_by("promtool".as_ref(), &exporter.metrics().await.0);
        assert!(!scene.upstream.is_stolen.load(Ordering::Relaxed));
        let log = exporter.running.output();
        assert!(!log.contains("panicked"), "{log}");
        let peak = exporter.running.peak_memory();
        assert!(peak < 400, "{peak} MiB");
    })
    .await;
}
