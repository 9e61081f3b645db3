//! Every access to portraits: what is requested, how tokens are renewed and replaced, and what is
//! reported when that fails.
//!
//! A [`Scene`] has one app, whose exporter and WeChat share a clock that the test moves. A [`Gate`] in
//! front of that WeChat records the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpSocket, TcpStream};
use wxapp_portrait_exporter::config::access::AccessMethod;
use wxapp_portrait_exporter::poll::AppPoller;
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{
    self, FUNCTION_ENV, FUNCTION_NAME, Settings, Simulator, secret_of,
};
use wxapp_portrait_exporter::{calendar, config};

use crate::cloud_function::{CloudFunction, KEY};
use crate::harness::{
    APP, Exporter, Hand, Home, Inside, Page, Reader, Series, TOKEN, WeChat, appid, apps_of, client,
    eventually, labels, logged, now, on_one_day, serve_over_tls, step, yesterday,
};

/// Half an hour after midnight in Beijing: yesterday is requested during fifteen hours.
const NIGHT: &str = "2026-11-21T16:30:00Z";

const STABLE: &str = "/cgi-bin/stable_token";
const OLD: &str = "/cgi-bin/token";
const SHARED: &str = "/simulator/tokens/";
const PORTRAIT: &str = "/datacube/getweanalysisappiduserportrait";
const INVOKE: &str = "/tcb/invokecloudfunction";
const FUNCTION: &str = "/function/";

/// The labels of failed requests, endpoint and errcode, and their number.
type Failures<'a> = &'a [(&'a str, f64)];

/// A status, an answer, and the reason and the words that are reported.
type WrongAnswer = (u16, &'static str, &'static str, &'static str);

/// A proxy in front of a simulated WeChat, which records the requests, and can return other answers.
///
/// Endpoints other than WeChat's require the key.
#[derive(Default)]
struct Gate {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<Vec<(&'static str, u16, String)>>,
}

/// One request.
#[derive(Debug)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Null if there was none.
    body: Value,
}

impl Seen {
    /// Returns the method, and the path with its query.
    fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }

    fn is_of(&self, path: &str) -> bool {
        self.uri.path().starts_with(path)
    }

    /// Returns the names of the query parameters.
    fn parameters(&self) -> Vec<String> {
        self.query().into_iter().map(|(name, _)| name).collect()
    }

    fn query(&self) -> Vec<(String, String)> {
        let query = self.uri.query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect()
    }
}

impl Gate {
    /// Puts a gate in front of a WeChat; returns the address of both.
    async fn before(simulator: &Arc<Simulator>) -> (WeChat, Arc<Self>) {
        let gate = Arc::new(Self::default());
        let pass = middleware::from_fn_with_state(Arc::clone(&gate), pass);
        let app = simulator::create_app(Arc::clone(simulator)).layer(pass);
        let wechat = WeChat::behind(Arc::clone(simulator), app).await;
        (wechat, gate)
    }

    /// Sets the answer for paths with this prefix.
    fn answer(&self, path: &'static str, status: u16, body: &str) {
        let mut answers = self.answers.lock().unwrap();
        answers.retain(|(other, ..)| *other != path);
        answers.push((path, status, body.to_owned()));
    }

    fn clear_answers(&self) {
        self.answers.lock().unwrap().clear();
    }

    /// Returns the requests since the last call.
    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    gate.seen.lock().unwrap().push(Seen {
        method: head.method.clone(),
        uri: head.uri.clone(),
        headers: head.headers.clone(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let path = head.uri.path();
    let is_of_user = [SHARED, FUNCTION].iter().any(|own| path.starts_with(own));
    if is_of_user && head.headers.get("x-key").is_none_or(|key| key != TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = {
        let answers = gate.answers.lock().unwrap();
        let mut answers = answers.iter();
        let answer = answers.find(|(start, ..)| path.starts_with(start));
        answer.map(|(_, status, body)| (StatusCode::from_u16(*status).unwrap(), body.clone()))
    };
    match answer {
        Some(answer) => answer.into_response(),
        None => next.run(Request::from_parts(head, Body::from(body))).await,
    }
}

/// What another program writes into the file `token`, for the app to use.
#[derive(Clone, Copy)]
enum Keeps {
    /// The stable token, as text or as JSON.
    Stable(&'static str),
    /// A token of cloud hosting, every ten minutes.
    Cloudbase(Option<DateTime<Utc>>),
}

/// One app, its WeChat and its exporter, on one clock.
struct Scene {
    hand: Hand,
    wechat: WeChat,
    gate: Arc<Gate>,
    inside: Inside,
    windows: Vec<Window>,
    app: AppPoller,
    /// Has a `secret`, `headers` with the key of the gate, and other files of a test.
    directory: TempDir,
    keeps: Option<Keeps>,
    /// For the test's own requests.
    client: reqwest::Client,
}

/// The requests and counters of one poll.
struct Polled {
    seen: Vec<Seen>,
    /// How often a token and a portrait were requested.
    asked: (usize, usize),
    failures: Vec<(String, f64)>,
    reasons: Vec<(String, f64)>,
    /// The status of the first window.
    problem: Option<String>,
    /// When there will be more to do.
    next: DateTime<Utc>,
    before: Page,
    page: Page,
}

/// One small app, whose tokens are valid for twenty minutes.
fn settings() -> Settings {
    Settings {
        token_life: Duration::from_mins(20),
        ..apps_of(&[&format!("{APP}=300")])
    }
}

impl Scene {
    /// Starts with the keys of an app, which may depend on the address of its WeChat.
    async fn start(access: impl FnOnce(&str) -> Value) -> Self {
        Self::with(settings(), &Window::ALL, 1, access).await
    }

    /// The same with an interval in minutes and more of the test's own.
    async fn with(
        settings: Settings,
        windows: &[Window],
        interval: u64,
        access: impl FnOnce(&str) -> Value,
    ) -> Self {
        let hand = Hand::at(NIGHT);
        let simulator = Simulator::new(settings, hand.clock());
        let (wechat, gate) = Gate::before(&simulator).await;
        let mut base_url = wechat.base_url();
        let access = access(&base_url);
        if access["access"] == "cloud_hosting" {
            // As in the default, which the exporter must not rely on.
            base_url = base_url.replace("http:", "https:");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("secret"), secret_of(&appid(APP))).unwrap();
        let headers = format!("# Who asks.\n\nX-Key: {TOKEN}\n");
        fs::write(directory.path().join("headers"), headers).unwrap();
        fs::write(directory.path().join("script"), SCRIPT).unwrap();
        let access = configured(directory.path(), access);
        let interval = Duration::from_mins(interval);
        let mut inside = Inside::with_interval(interval, &base_url, &[APP], &hand).await;
        inside.scan_for(&wechat);
        Self {
            app: inside.restore_with(APP, windows, access).await,
            windows: windows.to_vec(),
            keeps: None,
            client: client(),
            hand,
            wechat,
            gate,
            inside,
            directory,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// Returns how often the program that prints tokens has run.
    fn runs(&self) -> usize {
        let runs = fs::read_to_string(self.directory.path().join("runs"));
        runs.map_or(0, |runs| runs.lines().count())
    }

    /// Sends a query to the token server.
    async fn shared(&self, query: &str) -> String {
        let url = format!("{}{SHARED}{APP}?{query}", self.wechat.base_url());
        let answer = self.client.get(url).header("x-key", TOKEN).send().await;
        answer.unwrap().text().await.unwrap()
    }

    /// Revokes all tokens, as an impatient operator would.
    async fn revoke(&self) {
        self.shared("force_refresh=true").await;
    }

    async fn keep(&mut self) {
        let now = self.hand.now();
        match &mut self.keeps {
            Some(Keeps::Stable(format)) => {
                let token = format!("format={format}");
                self.write("token", &self.shared(&token).await);
            }
            Some(Keeps::Cloudbase(written))
                if written.is_none_or(|written| now - written >= TimeDelta::minutes(10)) =>
            {
                *written = Some(now);
                let token = self.wechat.simulator.cloudbase_token(&appid(APP));
                self.write("token", &token);
            }
            _ => {}
        }
    }

    /// Runs the steps that are due some minutes later.
    async fn poll(&mut self, minutes: i64) -> Polled {
        self.hand.forward(TimeDelta::minutes(minutes));
        self.keep().await;
        let before = self.inside.metrics().await;
        let runs = self.runs();
        self.gate.take();
        let next = step(&mut self.app).await;
        let seen = self.gate.take();
        let page = self.inside.metrics().await;
        // That would revoke the token of all other programs.
        let forced = seen.iter().find(|seen| {
            seen.body["force_refresh"] == true
                || seen.parameters().contains(&"force_refresh".into())
        });
        assert!(forced.is_none(), "{forced:?}");
        let count = |paths: &[&str]| {
            let is_one = |seen: &&Seen| paths.iter().any(|path| seen.uri.path().starts_with(path));
            seen.iter().filter(is_one).count()
        };
        let tokens = count(&[STABLE, OLD, SHARED]) + self.runs() - runs;
        let problem = self.inside.window_status(APP).await["problem"].clone();
        Polled {
            asked: (tokens, count(&[PORTRAIT, INVOKE, FUNCTION])),
            failures: counted(
                &before,
                &page,
                "wxapp_portrait_api_request_failures_total",
                &["endpoint", "errcode"],
            ),
            reasons: counted(
                &before,
                &page,
                "wxapp_portrait_poll_failures_total",
                &["reason"],
            ),
            problem: problem.as_str().map(str::to_owned),
            next,
            seen,
            before,
            page,
        }
    }

    /// Polls, which must return everything that is due with no other failures than these.
    async fn arrives(&mut self, minutes: i64, failures: Failures<'_>) -> Polled {
        let polled = self.poll(minutes).await;
        assert_eq!(polled.problem, None);
        assert_eq!(polled.reasons, []);
        let failures = failures
            .iter()
            .map(|(failure, times)| ((*failure).to_owned(), *times));
        assert_eq!(polled.failures, failures.collect::<Vec<_>>());
        let day = calendar::yesterday(self.hand.now());
        let mut expected = Series::new();
        for window in &self.windows {
            expected.extend(self.wechat.users(APP, *window, day));
        }
        let mut users = polled.page.series("wxapp_portrait_users");
        // These are known from the day before.
        users.retain(|_, users| *users > 0.0);
        assert_eq!(users, expected);
        for success in polled.page.series("wxapp_portrait_last_poll_success") {
            assert_eq!(success.1.to_string(), "1", "{:?}", success.0);
        }
        polled
    }

    /// Polls without success: for this reason, reported in these words, and with the users left on the page.
    async fn fails(&mut self, minutes: i64, reason: &str, words: &str) -> Polled {
        let polled = self.poll(minutes).await;
        let reasons: Vec<_> = polled.reasons.iter().map(|(name, _)| name).collect();
        let problem = polled.problem.as_deref().unwrap_or_default();
        assert_eq!(reasons, [reason], "{problem}");
        assert!(problem.contains(words), "{problem}, not: {words}");
        assert!(!problem.contains('\n'), "{problem}");
        assert_eq!(polled.page.users(None), polled.before.users(None));
        let success = polled.page.value(
            "wxapp_portrait_last_poll_success",
            &[("window", self.windows[0].as_str())],
        );
        assert_eq!(success, Some(0.0));
        polled
    }

    /// Tests what applies to every token: one that expired is never used, one that is refused is replaced
    /// only once.
    ///
    /// The endpoint is the one that takes the token; how often a token is requested in a poll that follows
    /// another depends on whether its lifetime is known.
    async fn lives_through(&mut self, endpoint: &str, in_each_poll: usize, words: &str) {
        let first = self.arrives(0, &[]).await;
        assert_eq!(first.asked, (1, 6), "three windows, two days");
        assert_eq!(self.arrives(1, &[]).await.asked, (in_each_poll, 6));
        let later = self.arrives(21, &[]).await;
        assert_eq!(later.asked, (1, 3), "the older day is final");
        let later = self.arrives(16, &[]).await;
        assert_eq!(later.asked, (1, 3), "its end is near");

        let failure = format!("{endpoint} 40001");
        self.fault(endpoint, "errcode=40001*1");
        let replaced = self.arrives(1, &[(&failure, 1.0)]).await;
        assert_eq!(replaced.asked, (in_each_poll + 1, 4));
        // Such a token is dropped after the poll.
        for tokens in [in_each_poll + 1, 2] {
            self.fault(endpoint, "errcode=40001");
            let refused = self.fails(1, "token", words).await;
            assert_eq!(refused.asked, (tokens, 2));
            assert_eq!(refused.failures, [(failure.clone(), 2.0)]);
            assert_eq!(refused.reasons[0].1.to_string(), "1", "of one window");
        }
        self.repair();
        assert_eq!(self.arrives(1, &[]).await.asked, (1, 3));
    }

    fn fault(&self, endpoint: &str, fault: &str) {
        self.wechat.set_fault(APP, &format!("{endpoint}:{fault}"));
    }

    /// Makes the source of tokens return these invalid answers, one by one, after the token has expired.
    async fn reports_invalid_tokens(&mut self, path: &'static str, cases: &[WrongAnswer]) {
        let mut minutes = 21;
        for (status, answer, reason, words) in cases {
            self.gate.answer(path, *status, answer);
            let polled = self.fails(minutes, reason, words).await;
            let times = if *status < 500 { 1 } else { 4 };
            assert_eq!(polled.asked, (times, 0), "{answer}");
            minutes = 1;
        }
        self.repair();
        assert_eq!(self.arrives(1, &[]).await.asked, (1, 3));
    }

    /// Makes the source of portraits fail in several ways.
    async fn reports_invalid_portraits(&mut self, cases: &[(&str, &str, &str)]) {
        for (fault, reason, words) in cases {
            self.wechat.set_fault(APP, fault);
            self.fails(1, reason, words).await;
            self.repair();
        }
        self.arrives(1, &[]).await;
    }

    /// Removes all faults.
    fn repair(&self) {
        self.wechat.simulator.clear_faults(&appid(APP));
        self.gate.clear_answers();
    }
}

/// Writes a configuration with one app, and reads its access from it.
fn configured(directory: &Path, mut app: Value) -> AccessMethod {
    let file = directory.join("wxapp-portrait.yml");
    app["appid"] = APP.into();
    fs::write(&file, json!({ "apps": [app] }).to_string()).unwrap();
    let config = config::load(&file, |_| None).unwrap_or_else(|error| panic!("{error}"));
    config.apps[0].access.clone()
}

/// Returns the increase of a counter between two pages, by the values of some labels.
fn counted(before: &Page, after: &Page, name: &str, labels: &[&str]) -> Vec<(String, f64)> {
    let before = before.series(name);
    let mut counted = BTreeMap::<String, f64>::new();
    for (series, value) in after.series(name) {
        let more = value - before.get(&series).copied().unwrap_or_default();
        if more > 0.0 {
            let key: Vec<&str> = labels.iter().map(|label| series[*label].as_str()).collect();
            *counted.entry(key.join(" ")).or_default() += more;
        }
    }
    counted.into_iter().collect()
}

/// Records that it runs, and does what the test requires.
const SCRIPT: &str = "cd \"${0%/*}\" && echo run >> runs && . ./behaviour\n";

/// What a refused token means if it was issued for the AppSecret.
const OWN: &str =
    "refuses even a new token: another program fetches tokens with cgi-bin/token or force_refresh";

/// What it means if it came from another source.
const GIVEN: &str =
    "also after it was requested again: its source must give the current one of this very app";

/// Answers that WeChat's own endpoints would never return.
const WRONG_TOKENS: &[WrongAnswer] = &[
    (
        200,
        "<html>",
        "decode",
        "the response is not a token: 6 bytes that are not JSON, from line 1 column 1; check the proxies and gateways on the way to WeChat",
    ),
    (
        200,
        r#"{"token":"T"}"#,
        "decode",
        "the response is not a token: access_token is missing",
    ),
    (
        200,
        r#"{"access_token":"85_a-token-that-must-never-leak"}"#,
        "decode",
        "the response is not a token: expires_in is missing",
    ),
    (
        404,
        r#"{"access_token":"T","expires_in":7200}"#,
        "transport",
        "HTTP status 404, which WeChat itself never sends; check proxy and wechat.base_url",
    ),
    (503, "", "transport", "HTTP status 503"),
];

/// Answers that are not a portrait of the day.
const WRONG_PORTRAITS: &[(&str, &str, &str)] = &[
    ("garbage", "decode", "bytes that are not JSON"),
    ("wrong-date", "decode", "its ref_date is 20261114"),
    ("retain", "decode", "getweanalysisappiddailyretaininfo"),
    ("http=502", "transport", "HTTP status 502"),
];

#[tokio::test]
async fn an_app_secret_gets_stable_tokens() {
    let mut scene = Scene::start(|_| secret()).await;
    scene.lives_through("portrait", 0, OWN).await;
    scene.revoke().await;
    let replaced = scene.arrives(1, &[("portrait 40001", 1.0)]).await;
    assert_eq!(replaced.asked, (1, 4));
    let asked = json!({
        "grant_type": "client_credential",
        "appid": APP,
        "secret": secret_of(&appid(APP)),
        "force_refresh": false,
    });
    // After the refused request for a portrait.
    assert_eq!(replaced.seen[1].line(), format!("POST {STABLE}"));
    assert_eq!(replaced.seen[1].body, asked);
    let days = ["20261121", "20261121", "20261115", "20261023"];
    for (portrait, begin) in replaced
        .seen
        .iter()
        .filter(|seen| seen.is_of(PORTRAIT))
        .zip(days)
    {
        let asked = json!({"begin_date": begin, "end_date": "20261121"});
        assert_eq!(
            (portrait.parameters(), &portrait.body),
            (vec!["access_token".to_owned()], &asked)
        );
        assert_eq!(portrait.headers["content-type"], "application/json");
    }
    scene.reports_invalid_tokens(STABLE, WRONG_TOKENS).await;
    scene.reports_invalid_portraits(WRONG_PORTRAITS).await;
}

#[tokio::test]
async fn an_app_secret_gets_tokens_of_cgi_bin_token_if_configured() {
    let access = json!({"secret_file": "secret", "token_endpoint": "token"});
    let mut scene = Scene::start(|_| access).await;
    scene.lives_through("portrait", 0, OWN).await;
    let url = format!(
        "{OLD}?grant_type=client_credential&appid={APP}&secret={}",
        secret_of(&appid(APP))
    );
    let other = format!("{}{url}", scene.wechat.base_url());
    scene.client.get(other).send().await.unwrap();
    // The previous one is valid for five more minutes.
    assert_eq!(scene.arrives(4, &[]).await.asked, (0, 3));
    let replaced = scene.arrives(2, &[("portrait 42001", 1.0)]).await;
    assert_eq!(replaced.asked, (1, 4));
    assert_eq!(replaced.seen[1].line(), format!("GET {url}"));
    assert_eq!(replaced.seen[1].body, Value::Null);
    scene.reports_invalid_tokens(OLD, WRONG_TOKENS).await;
    scene.reports_invalid_portraits(WRONG_PORTRAITS).await;
}

#[tokio::test]
async fn a_fixed_token_file_is_noticed_within_a_minute() {
    let file =
        |_: &str| json!({"token_file": "token", "token_parameter": "cloudbase_access_token"});
    let mut scene = Scene::with(settings(), &[Window::OneDay], 30, file).await;
    scene.fails(0, "configuration", "cannot read ").await;
    assert_eq!(scene.poll(1).await.asked, (0, 0));
    scene.write("token", "refused");
    assert_eq!(scene.fails(1, "token", GIVEN).await.asked, (0, 2));
    assert_eq!(scene.poll(1).await.asked, (0, 0));
    scene.keeps = Some(Keeps::Cloudbase(None));
    assert_eq!(scene.arrives(1, &[]).await.asked, (0, 2));
}

#[tokio::test]
async fn a_token_file_is_read_for_every_poll() {
    let mut scene = Scene::start(
        |_| json!({"token_file": "token", "token_parameter": "cloudbase_access_token"}),
    )
    .await;
    scene.fails(0, "configuration", "cannot read ").await;
    scene.keeps = Some(Keeps::Cloudbase(None));
    let first = scene.arrives(1, &[]).await;
    assert_eq!(first.asked, (0, 6));
    let all = first
        .seen
        .iter()
        .all(|seen| seen.parameters() == ["cloudbase_access_token"]);
    assert!(all, "{:?}", first.seen);
    // Far longer than one token is valid.
    for minutes in [9, 9, 9, 9, 9, 9, 31, 121] {
        let asked = scene.arrives(minutes, &[]).await.asked;
        assert_eq!(asked.0, 0);
    }

    scene.fault("portrait", "errcode=40001*1");
    let replaced = scene.arrives(1, &[("portrait 40001", 1.0)]).await;
    assert_eq!(replaced.asked, (0, 4));
    // It is no longer written.
    scene.keeps = None;
    for _ in 0..2 {
        let refused = scene.fails(31, "token", GIVEN).await;
        assert_eq!(refused.asked, (0, 2));
        assert_eq!(refused.failures, [("portrait 42001".to_owned(), 2.0)]);
    }
    for (text, words) in [
        ("", "token gave no token: it is empty"),
        (
            "<html>",
            "gave no token: it is neither one word nor {\"access_token\": …}",
        ),
        ("two words", "gave no token: it is neither one word nor"),
        (
            "{\"expires_in\":1}",
            "gave no token: access_token is missing",
        ),
    ] {
        scene.write("token", text);
        let failed = scene.fails(1, "token", words).await;
        assert_eq!(failed.asked, (0, 0));
    }
    scene.keeps = Some(Keeps::Cloudbase(None));
    scene.arrives(1, &[]).await;
    scene.reports_invalid_portraits(WRONG_PORTRAITS).await;
}

/// What a user's own token server may return.
const WRONG_GIVEN_TOKENS: &[WrongAnswer] = &[
    (
        200,
        "<html>",
        "decode",
        "the response is not a token: it is neither one word nor {\"access_token\": …}; check what token_url (127.0.0.1) returns",
    ),
    (
        200,
        r#"{"code":1,"msg":"no such app"}"#,
        "decode",
        "the response is not a token: access_token is missing; check what token_url (127.0.0.1) returns",
    ),
    (
        200,
        "",
        "decode",
        "the response is not a token: it is empty; check what token_url (127.0.0.1) returns",
    ),
    (
        404,
        "85_a-token-that-must-never-leak",
        "transport",
        "HTTP status 404 from token_url (127.0.0.1); check token_url and token_url_headers_file",
    ),
    (
        503,
        "busy",
        "transport",
        "HTTP status 503 from token_url (127.0.0.1)",
    ),
];

#[tokio::test]
async fn a_token_server_may_return_text() {
    asks_a_token_server("text", 1).await;
}

#[tokio::test]
async fn a_token_server_may_return_json() {
    asks_a_token_server("json", 0).await;
}

async fn asks_a_token_server(format: &str, in_each_poll: usize) {
    let path = format!("{SHARED}{APP}?format={format}");
    let mut scene = Scene::start(|base_url| {
        json!({"token_url": format!("{base_url}{path}"), "token_url_headers_file": "headers"})
    })
    .await;
    scene.lives_through("portrait", in_each_poll, GIVEN).await;
    scene.revoke().await;
    let polled = if in_each_poll == 0 {
        scene.arrives(1, &[("portrait 40001", 1.0)]).await
    } else {
        scene.arrives(1, &[]).await
    };
    let question = polled.seen.iter().find(|seen| seen.is_of(SHARED)).unwrap();
    assert_eq!(question.line(), format!("GET {path}"));
    let of_portrait = polled.seen.iter().filter(|seen| seen.is_of(PORTRAIT));
    for seen in of_portrait {
        assert_eq!(seen.parameters(), ["access_token"]);
        assert!(!seen.headers.contains_key("x-key"), "it is not for WeChat");
    }
    scene
        .reports_invalid_tokens(SHARED, WRONG_GIVEN_TOKENS)
        .await;
    // Some pass on WeChat's answer.
    scene.fault("token", "errcode=40164");
    let words = "token_url (127.0.0.1) gave no token, but a refusal of WeChat: errcode 40164, invalid ip 61.183.89.14";
    assert_eq!(scene.fails(21, "token", words).await.asked, (1, 0));
    scene.repair();
    scene.arrives(1, &[]).await;

    scene.write("headers", "X-Key: another\n");
    let words =
        "HTTP status 401 from token_url (127.0.0.1); check token_url and token_url_headers_file";
    scene.fails(21, "transport", words).await;
    fs::remove_file(scene.directory.path().join("headers")).unwrap();
    scene.fails(1, "configuration", "cannot read ").await;
    scene.write("headers", &format!("X-Key: {TOKEN}\r\n"));
    scene.arrives(1, &[]).await;
    scene.reports_invalid_portraits(WRONG_PORTRAITS).await;
}

/// Starts an app with a program that prints the file `token`.
async fn with_a_program(format: &'static str) -> Scene {
    // The program is a script in this directory, whose path is known once it exists.
    let mut scene = Scene::start(|_| json!({"token_file": "token"})).await;
    let script = scene.directory.path().join("script");
    let access = json!({"token_command": ["sh", script]});
    let access = configured(scene.directory.path(), access);
    scene.app = scene.inside.restore_with(APP, &Window::ALL, access).await;
    scene.write("behaviour", "cat token");
    scene.keeps = Some(Keeps::Stable(format));
    scene
}

#[tokio::test]
async fn a_program_prints_tokens() {
    for (format, in_each_poll) in [("text", 1), ("json", 0)] {
        let mut scene = with_a_program(format).await;
        scene.lives_through("portrait", in_each_poll, GIVEN).await;
        scene.reports_invalid_portraits(WRONG_PORTRAITS).await;
    }
}

#[tokio::test]
async fn a_program_that_prints_no_token_is_reported() {
    let mut scene = with_a_program("text").await;
    scene.write(
        "behaviour",
        "echo \"program of this test: $(cat token)\" >&2; cat token",
    );
    scene.arrives(0, &[]).await;
    let line = "token_command wrote to standard error";
    let lines = logged(&[line, APP, "program of this test: [redacted]"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for (behaviour, words) in [
        (
            "cat token; echo 'ended: this time' >&2; exit 3",
            "token_command sh failed (exit status: 3); what it wrote to standard error is in the log",
        ),
        (
            "kill -9 $$",
            "token_command sh failed (signal: 9 (SIGKILL))",
        ),
        ("echo", "token_command sh gave no token: it is empty"),
        (
            "echo two words",
            "token_command sh gave no token: it is neither one word nor {\"access_token\": …}",
        ),
        (
            "echo '<html>'",
            "token_command sh gave no token: it is neither one word nor",
        ),
        (
            "echo '{}'",
            "token_command sh gave no token: access_token is missing",
        ),
    ] {
        scene.write("behaviour", behaviour);
        let failed = scene.fails(1, "token", words).await;
        assert_eq!(failed.asked, (1, 0), "{behaviour}");
    }
    assert_eq!(logged(&[line, APP, "ended: this time"]).len(), 1);
    // Too short to look like a token.
    let behaviour = "echo short; echo 'one that is short' >&2";
    scene.write("behaviour", behaviour);
    scene.fails(1, "token", GIVEN).await;
    let lines = logged(&[line, APP, "one that is [redacted]"]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    scene.write("behaviour", "cat token");
    scene.arrives(1, &[]).await;

    // A path that is a program when the configuration is read, and does not exist afterwards.
    let program = scene.directory.path().join("program");
    std::os::unix::fs::symlink("/bin/true", &program).unwrap();
    let access = json!({"token_command": ["./program"]});
    let access = configured(scene.directory.path(), access);
    scene.app = scene.inside.restore_with(APP, &Window::ALL, access).await;
    scene
        .fails(1, "token", "program gave no token: it is empty")
        .await;
    fs::remove_file(&program).unwrap();
    scene
        .fails(1, "token", "/program: No such file or directory")
        .await;
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_killed_with_its_children() {
    let mut scene = with_a_program("text").await;
    scene.arrives(0, &[]).await;
    let behaviour = "echo 'waits for ever' >&2; echo $$ > ids; (sleep 600 & echo $! >> ids; wait) & echo $! >> ids; sleep 600";
    scene.write("behaviour", behaviour);
    let start = Instant::now();
    let words = "token_command sh took longer than 10 seconds and was ended; what it wrote to standard error is in the log";
    let failed = scene.fails(1, "token", words).await;
    assert_eq!(failed.asked, (1, 0));
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        logged(&["wrote to standard error", "waits for ever"]).len(),
        1
    );
    let ids = fs::read_to_string(scene.directory.path().join("ids")).unwrap();
    assert_eq!(ids.lines().count(), 3);
    for id in ids.lines() {
        eventually("its end", async || {
            let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Dead, even if it was not reaped.
            (state.is_empty() || state.contains(") Z ")).then_some(())
        })
        .await;
    }
    scene.write("behaviour", "cat token");
    scene.arrives(1, &[]).await;
}

#[tokio::test]
async fn cloud_hosting_adds_the_token() {
    let settings = Settings {
        cloud_hosting: Some(appid(APP)),
        ..settings()
    };
    let access = json!({"access": "cloud_hosting"});
    let mut scene = Scene::with(settings, &Window::ALL, 1, |_| access).await;
    let first = scene.arrives(0, &[]).await;
    assert_eq!(first.asked, (0, 6));
    for seen in &first.seen {
        assert_eq!(seen.line(), format!("POST {PORTRAIT}"), "no token");
        assert_eq!(seen.headers["host"], scene.wechat.address.as_str());
    }
    scene.arrives(121, &[]).await;

    scene.wechat.set_fault(APP, "errcode=40001");
    let words = "WeChat refuses the token that cloud hosting added: check that the environment belongs to this app";
    let refused = scene.fails(1, "token", words).await;
    assert_eq!(refused.asked, (0, 1), "there is no token to replace");

    let seqid = "the response has no x-openapi-seqid, so the sidecar of cloud hosting did not relay the request";
    for (fault, reason, words, is_relayed) in [
        (
            "unrelayed",
            "token",
            "no token was added: run the exporter inside cloud hosting, switch the open API service on, and allow /datacube/getweanalysisappiduserportrait there",
            false,
        ),
        ("http=502", "transport", "HTTP status 502", false),
        ("garbage", "decode", "bytes that are not JSON", true),
        ("wrong-date", "decode", "its ref_date is 20261114", true),
        (
            "errcode=48001",
            "permission",
            "the app may not use this API",
            true,
        ),
    ] {
        scene.wechat.set_fault(APP, fault);
        let failed = scene.fails(1, reason, words).await;
        let problem = failed.problem.unwrap();
        assert_eq!(problem.contains(seqid), !is_relayed, "{problem}");
        assert_eq!(failed.asked.0, 0);
    }
    scene.repair();
    scene.arrives(24 * 60 + 2, &[]).await;
}

/// The keys of an app with the function of the simulation.
fn with_function(mut access: Value) -> Value {
    access["cloud_function"] = json!({"env": FUNCTION_ENV, "name": FUNCTION_NAME});
    access
}

#[tokio::test]
async fn a_cloud_function_is_called_with_a_token_of_the_app_secret() {
    let access = with_function(secret());
    let mut scene = Scene::start(|_| access).await;
    scene.lives_through("function", 0, OWN).await;
    scene.revoke().await;
    let replaced = scene.arrives(1, &[("function 40001", 1.0)]).await;
    assert_eq!(replaced.asked, (1, 4));
    scene.reports_invalid_tokens(STABLE, WRONG_TOKENS).await;
    calls_a_function(&mut scene).await;
}

#[tokio::test]
async fn a_cloud_function_is_called_with_a_token_from_another_source() {
    let mut scene = Scene::start(|base_url| with_function(given(base_url))).await;
    scene.lives_through("function", 1, GIVEN).await;
    scene
        .reports_invalid_tokens(SHARED, WRONG_GIVEN_TOKENS)
        .await;
    calls_a_function(&mut scene).await;
}

async fn calls_a_function(scene: &mut Scene) {
    let polled = scene.arrives(1, &[]).await;
    let calls: Vec<_> = polled
        .seen
        .iter()
        .filter(|seen| seen.is_of(INVOKE))
        .collect();
    assert_eq!(calls.len(), 3);
    let begins = ["20261121", "20261115", "20261023"];
    for (call, begin) in calls.into_iter().zip(begins) {
        assert_eq!(call.parameters(), ["access_token", "env", "name"]);
        let query = call.query();
        assert_eq!([&query[1].1, &query[2].1], [FUNCTION_ENV, FUNCTION_NAME]);
        let end = "20261121";
        let event =
            json!({"begin_date": begin, "end_date": end, "beginDate": begin, "endDate": end});
        assert_eq!((&call.method, &call.body), (&Method::POST, &event));
    }
    scene
        .reports_invalid_portraits(&[
            ("function:garbage", "decode", "bytes that are not JSON"),
            ("function:http=502", "transport", "HTTP status 502"),
            (
                "garbage",
                "decode",
                "an error was thrown, user code exception caught; check what the cloud function portrait returns, and its log",
            ),
            ("wrong-date", "decode", "its ref_date is 20261114"),
            ("retain", "decode", "getweanalysisappiddailyretaininfo"),
        ])
        .await;
    scene
        .gate
        .answer(INVOKE, 200, r#"{"errcode":0,"errmsg":"ok","resp_data":""}"#);
    scene
        .fails(1, "decode", "the cloud function returned nothing")
        .await;
    scene.repair();
    // ProcessContext and inside: it may not be called, and it may not call.
    for fault in ["function:errcode=-604101", "errcode=-604101"] {
        scene.wechat.set_fault(APP, fault);
        let words = "list it in config.json of the function, and wait 10 minutes";
        let refused = scene.fails(12, "permission", words).await;
        assert_eq!(refused.asked.1, 1);
        scene.repair();
    }
    scene.arrives(12, &[]).await;
}

/// The path of the app's own function.
fn portrait_url(base_url: &str, query: &str) -> Value {
    let url = format!("{base_url}{FUNCTION}{APP}?{query}");
    json!({"portrait_url": url, "portrait_url_headers_file": "headers"})
}

#[tokio::test]
async fn a_portrait_url_may_use_any_known_envelope_and_spelling() {
    for wrap in ["nothing", "data", "result", "resp_data"] {
        for case in ["camel", "snake"] {
            let query = format!("wrap={wrap}&case={case}");
            let windows = [Window::SevenDays];
            let access = |base_url: &str| portrait_url(base_url, &query);
            let mut scene = Scene::with(settings(), &windows, 1, access).await;
            let first = scene.arrives(0, &[]).await;
            assert_eq!(first.asked, (0, 2));
            let (begin, end) = ("20261114", "20261120");
            let event =
                json!({"begin_date": begin, "end_date": end, "beginDate": begin, "endDate": end});
            assert_eq!(
                first.seen[0].line(),
                format!("POST {FUNCTION}{APP}?{query}")
            );
            assert_eq!(first.seen[0].body, event);
            // There is nothing that could expire.
            assert_eq!(scene.arrives(121, &[]).await.asked, (0, 2));

            let caught = "WeChat refuses the token that portrait_url used: what responds there must renew its token";
            for (fault, reason, words) in [
                ("errcode=40001", "token", caught),
                ("errcode=42001", "token", caught),
                (
                    "errcode=48001",
                    "permission",
                    "the app may not use this API",
                ),
            ] {
                scene.wechat.set_fault(APP, fault);
                assert_eq!(scene.fails(1, reason, words).await.asked, (0, 1));
                scene.repair();
            }
        }
    }
}

#[tokio::test]
async fn a_portrait_url_with_invalid_answers_is_named() {
    let mut scene = Scene::start(|base_url| portrait_url(base_url, "")).await;
    scene.arrives(0, &[]).await;
    scene.arrives(1, &[]).await;
    let check = "; check what portrait_url (127.0.0.1) returns";
    scene
        .reports_invalid_portraits(&[
            ("garbage", "decode", "bytes that are not JSON"),
            ("wrong-date", "decode", "its ref_date is 20261114"),
            ("retain", "decode", "getweanalysisappiddailyretaininfo"),
            ("cut", "transport", "check the proxies and gateways on the way to portrait_url (127.0.0.1)"),
            (
                "http=502",
                "transport",
                "HTTP status 502 from portrait_url (127.0.0.1); check portrait_url and portrait_url_headers_file",
            ),
        ])
        .await;
    for (answer, problem) in [
        ("<html>", "6 bytes that are not JSON, from line 1 column 1"),
        (
            r#"{"errorCode":1,"errorMessage":"user code exception caught"}"#,
            "an error was thrown, user code exception caught",
        ),
        (
            r#"{"data":"no"}"#,
            "2 bytes that are not JSON, from line 1 column 2",
        ),
        ("[]", "it is JSON, but not an object"),
    ] {
        scene.gate.answer(FUNCTION, 200, answer);
        let words =
            format!("the response is not a portrait of the requested day: {problem}{check}");
        scene.fails(1, "decode", &words).await;
    }
    scene.repair();
    scene.write("headers", "X-Key: another\n");
    let words = "HTTP status 401 from portrait_url (127.0.0.1); check portrait_url and portrait_url_headers_file";
    scene.fails(1, "transport", words).await;
    scene.write("headers", "X-Key\n");
    scene
        .fails(
            1,
            "configuration",
            "headers:1: no header: expected `Name: value`",
        )
        .await;
    scene.write("headers", &format!("X-Key: {TOKEN}"));
    scene.arrives(1, &[]).await;
}

#[tokio::test]
async fn the_documented_cloud_function_answers_at_its_own_address() {
    let mut scene = Scene::start(|base_url| portrait_url(base_url, "")).await;
    let function = CloudFunction::start(&scene.wechat, APP).await;
    let access = json!({"portrait_url": function.url(), "portrait_url_headers_file": "headers"});
    scene.write("headers", &format!("Authorization: Bearer {KEY}\n"));
    let access = configured(scene.directory.path(), access);
    scene.app = scene
        .inside
        .restore_with(APP, &Window::ALL, access.clone())
        .await;
    // The function sends requests to the same WeChat.
    assert_eq!(scene.arrives(0, &[]).await.asked, (0, 6));
    scene.arrives(1, &[]).await;

    for (fault, reason, words) in [
        (
            "errcode=45009",
            "quota",
            "the daily quota of WeChat is used up",
        ),
        ("errcode=61503", "not_ready", "not computed yet"),
    ] {
        scene.wechat.set_fault(APP, fault);
        let polled = scene.poll(1).await;
        assert_eq!(polled.reasons[0].0, reason);
        assert!(polled.problem.unwrap().contains(words));
        scene.repair();
        // After a restart it does not wait for midnight.
        scene.app = scene
            .inside
            .restore_with(APP, &Window::ALL, access.clone())
            .await;
    }
    scene.arrives(1, &[]).await;

    scene.write("headers", "Authorization: Bearer another\n");
    let words = "portrait_url (127.0.0.1) refuses for a reason that this exporter does not know (errcode 401, it says: send the header \"Authorization: Bearer KEY\"";
    assert_eq!(scene.fails(1, "other", words).await.asked, (0, 0));
    scene.write("headers", &format!("Authorization: Bearer {KEY}\n"));
    scene.arrives(1, &[]).await;
    // This one has a token of its own, unlike in the cloud.
    let words = "WeChat refuses the token that portrait_url used";
    assert_eq!(scene.fails(21, "token", words).await.asked, (0, 1));
    assert_eq!(logged(&[KEY]), [""; 0]);
}

fn secret() -> Value {
    json!({"secret_file": "secret"})
}

fn given(base_url: &str) -> Value {
    let url = format!("{base_url}{SHARED}{APP}");
    json!({"token_url": url, "token_url_headers_file": "headers"})
}

#[tokio::test]
async fn a_peer_that_takes_too_long_is_reported_and_the_portrait_stays() {
    let slow = async |access: fn(&str) -> Value, fault: &str, failure: &str, words: &str| {
        let settings = Settings {
            cloud_hosting: Some(appid(APP)),
            function_limit: Duration::from_millis(1),
            ..settings()
        };
        let mut scene = Scene::with(settings, &[Window::OneDay], 1, access).await;
        scene.arrives(0, &[]).await;
        scene.arrives(1, &[]).await;
        scene.wechat.set_fault(APP, fault);
        let reason = if failure.ends_with("timeout") {
            "transport"
        } else {
            "busy"
        };
        // Long enough for a token to expire.
        let failed = scene.fails(21, reason, words).await;
        assert_eq!(failed.failures, [(failure.to_owned(), 4.0)], "{fault}");
        scene.repair();
        scene.arrives(1, &[]).await;
    };
    let wechat = "WeChat did not respond in time; check the network, or raise wechat.timeout";
    let (of_portrait, of_token) = ("delay=1h", "token:delay=1h");
    tokio::join!(
        slow(|_| secret(), of_portrait, "portrait timeout", wechat),
        slow(|_| secret(), of_token, "token timeout", wechat),
        slow(
            |_| json!({"secret_file": "secret", "token_endpoint": "token"}),
            of_token,
            "token timeout",
            wechat
        ),
        slow(given, of_portrait, "portrait timeout", wechat),
        slow(
            given,
            of_token,
            "token timeout",
            "token_url (127.0.0.1) did not respond in time"
        ),
        slow(
            |_| json!({"access": "cloud_hosting"}),
            of_portrait,
            "portrait timeout",
            wechat
        ),
        slow(
            |_| with_function(secret()),
            "function:delay=1h",
            "function timeout",
            wechat
        ),
        slow(
            |_| with_function(secret()),
            of_portrait,
            "function -604102",
            "the cloud function ran out of time or is busy"
        ),
        slow(
            |base_url| portrait_url(base_url, ""),
            of_portrait,
            "portrait timeout",
            "portrait_url (127.0.0.1) did not respond in time"
        ),
    );
}

#[tokio::test]
async fn an_app_whose_host_does_not_answer_is_not_requested_until_its_next_poll() {
    let scenes = [secret as fn() -> Value, || Value::Null].map(async |access| {
        let mut scene = Scene::start(|base_url| match access() {
            Value::Null => portrait_url(base_url, ""),
            access => access,
        })
        .await;
        for (fault, failure) in [
            ("delay=1h", "portrait timeout"),
            ("reset", "portrait connect"),
        ] {
            scene.wechat.set_fault(APP, fault);
            let failed = scene.fails(1, "transport", "").await;
            assert_eq!(failed.asked.1, 4, "one portrait of six, and repetitions");
            assert_eq!(failed.failures, [(failure.to_owned(), 4.0)]);
            scene.repair();
        }
        scene.arrives(1, &[]).await;
    });
    join_all(scenes).await;
}

/// A program that shares the app with the exporter, and requests portraits with its token.
struct Backend {
    /// With `cgi-bin/token`, where each token replaces the previous one.
    is_old: bool,
    token: String,
    /// When it requests another token: at the reported expiry, or shortly before.
    renews_at: DateTime<Utc>,
}

impl Backend {
    fn new(is_old: bool) -> Self {
        Self {
            is_old,
            token: String::new(),
            renews_at: DateTime::UNIX_EPOCH,
        }
    }

    /// Sends its requests; returns whether its token was refused.
    async fn works(
        &mut self,
        client: &reqwest::Client,
        base_url: &str,
        now: DateTime<Utc>,
    ) -> bool {
        let secret = secret_of(&appid(APP));
        if now >= self.renews_at {
            let request = if self.is_old {
                let query = format!("grant_type=client_credential&appid={APP}&secret={secret}");
                client.get(format!("{base_url}{OLD}?{query}"))
            } else {
                let asked =
                    json!({"grant_type": "client_credential", "appid": APP, "secret": secret});
                client
                    .post(format!("{base_url}{STABLE}"))
                    .body(asked.to_string())
            };
            let answer = Self::answer(request).await;
            answer["access_token"]
                .as_str()
                .unwrap()
                .clone_into(&mut self.token);
            let life = TimeDelta::seconds(answer["expires_in"].as_i64().unwrap());
            // With `cgi-bin/token` the others must get the new token while the previous one is valid.
            let early = TimeDelta::minutes(if self.is_old { 5 } else { 0 });
            self.renews_at = now + life - early;
        }
        let asked = json!({"begin_date": "20261121", "end_date": "20261121"});
        let url = format!("{base_url}{PORTRAIT}?access_token={}", self.token);
        let answer = Self::answer(client.post(url).body(asked.to_string())).await;
        match answer["errcode"].as_i64() {
            Some(40001 | 40014 | 42001) => {
                self.renews_at = now;
                true
            }
            None => false,
            other => panic!("{other:?}"),
        }
    }

    async fn answer(request: reqwest::RequestBuilder) -> Value {
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    }
}

/// Runs nine backends and an exporter together for seven hours; returns how often each backend had its
/// token refused, the one with `cgi-bin/token` first, and how often the exporter.
async fn ten_programs(access: Value) -> (Vec<u32>, f64) {
    let settings = Settings {
        token_life: Duration::from_hours(2),
        ..settings()
    };
    let mut scene = Scene::with(settings, &[Window::OneDay], 1, |_| access).await;
    let (client, base_url) = (scene.client.clone(), scene.wechat.base_url());
    let mut backends: Vec<_> = (0..9)
        .map(|number| (Backend::new(number == 0), 0))
        .collect();
    let mut refused = 0.0;
    for step in 0..40 {
        let now = scene.hand.now();
        // They do not start at the same time.
        let started = backends.iter_mut().take(1 + 2 * step);
        let others = join_all(started.map(async |(backend, refused)| {
            *refused += u32::from(backend.works(&client, &base_url, now).await);
        }));
        let (polled, _) = tokio::join!(scene.poll(0), others);
        let of_token = |failure: &&(String, f64)| {
            ["40001", "40014", "42001"]
                .iter()
                .any(|errcode| failure.0.ends_with(errcode))
        };
        refused += polled
            .failures
            .iter()
            .filter(of_token)
            .map(|(_, times)| times)
            .sum::<f64>();
        assert_eq!(polled.problem, None);
        scene.hand.forward(TimeDelta::minutes(11));
    }
    // Each lifetime brought a token, and the exporter requested few.
    assert!(scene.wechat.simulator.issued_tokens().len() >= 8);
    (
        backends.into_iter().map(|(_, refused)| refused).collect(),
        refused,
    )
}

#[tokio::test]
async fn ten_programs_share_an_app_and_none_loses_a_token() {
    let (backends, exporter) = ten_programs(secret()).await;
    assert_eq!(
        (backends, exporter.to_string()),
        (vec![0; 9], "0".to_owned())
    );
}

#[tokio::test]
async fn cgi_bin_token_revokes_tokens_as_its_warning_says() {
    let access = json!({"secret_file": "secret", "token_endpoint": "token"});
    let (backends, exporter) = ten_programs(access).await;
    assert!(backends[0] > 0 && exporter > 0.0, "{backends:?} {exporter}");
    assert_eq!(backends[1..], [0; 8], "stable tokens are apart");
}

#[tokio::test]
async fn a_secret_that_is_refused_is_not_sent_again_until_it_changes() {
    for (fault, words, minutes) in [
        ("", "the AppSecret is wrong or was reset", 60),
        (
            "token:errcode=40243",
            "the AppSecret is frozen: unfreeze it",
            10,
        ),
    ] {
        let wrong = "f".repeat(32);
        let mut scene = Scene::with(settings(), &[Window::OneDay], 30, |_| secret()).await;
        scene.write("secret", &wrong);
        if !fault.is_empty() {
            scene.wechat.set_fault(APP, fault);
        }
        let polled = scene.fails(0, "credentials", words).await;
        assert_eq!(polled.asked, (1, 0));
        assert!(!polled.problem.unwrap().contains(&wrong));
        for minute in 1..minutes {
            // Writing the same changes nothing, nor does a file that is gone for a moment.
            if minute == 5 {
                fs::remove_file(scene.directory.path().join("secret")).unwrap();
            } else {
                scene.write("secret", &wrong);
            }
            let polled = scene.poll(1).await;
            assert_eq!(polled.asked, (0, 0), "{minute}");
            // Soon enough to see that the file changed.
            assert_eq!(polled.next, scene.hand.now() + TimeDelta::minutes(1));
        }
        // The next poll has its slot in the half hour.
        let mut asked = 0;
        for _ in 0..31 {
            asked += scene.poll(1).await.asked.0;
        }
        assert_eq!(asked, 1, "{words}");

        // An invalid one is reported, and not sent.
        scene.write("secret", "two words");
        let polled = scene.fails(1, "credentials", "has blanks or line breaks in it");
        assert_eq!(polled.await.asked, (0, 0));

        scene.repair();
        scene.write("secret", &format!("{}\n", secret_of(&appid(APP))));
        assert_eq!(scene.arrives(1, &[]).await.asked, (1, 2));

        // If it cannot be read, the previous one is used.
        fs::remove_file(scene.directory.path().join("secret")).unwrap();
        assert_eq!(scene.arrives(31, &[]).await.asked, (1, 2));
    }
}

/// An address without a listener.
const NOWHERE: &str = "http://127.0.0.1:1";

/// Starts a WeChat with the clock of the real program.
async fn real() -> (WeChat, Arc<Gate>) {
    Gate::before(&Simulator::new(apps_of(&[APP]), now)).await
}

/// Starts the program as configured, in an environment with this proxy for plain HTTP.
async fn behind_proxy(home: &Home, wechat: &WeChat, proxy: &str) -> Exporter {
    let mut command = home.command();
    command.env("http_proxy", proxy);
    Exporter::start(command, vec![appid(APP)], Some(&wechat.simulator)).await
}

/// Waits for a portrait, without any reported failure.
async fn has_portrait(exporter: &Reader, wechat: &WeChat) -> Page {
    let page = exporter.ready().await;
    let expected = wechat.users(APP, Window::OneDay, yesterday());
    assert_eq!(page.series("wxapp_portrait_users"), expected);
    assert_eq!(exporter.window_status(APP).await["problem"], Value::Null);
    page
}

/// Waits for a failure to reach WeChat; returns its message.
async fn has_no_way(exporter: &Reader) -> String {
    let labels = [("appid", APP), ("reason", "transport")];
    exporter
        .metrics_with("a failure", |page| {
            let failures = page.value("wxapp_portrait_poll_failures_total", &labels);
            failures.filter(|failures| *failures > 0.0)
        })
        .await;
    let problem = exporter.window_status(APP).await["problem"].clone();
    problem.as_str().unwrap().to_owned()
}

/// Returns the hosts and paths of the requests.
fn hosts(seen: &[Seen]) -> BTreeSet<(&str, &str)> {
    seen.iter()
        .map(|seen| (seen.uri.host().unwrap_or_default(), seen.uri.path()))
        .collect()
}

#[tokio::test]
async fn the_next_address_is_used_only_if_the_first_cannot_be_reached() {
    on_one_day(async || {
        let (wechat, _) = real().await;
        let mut home = Home::of(&wechat, &[APP]);
        home.config["wechat"]["base_url"] = json!([NOWHERE, wechat.base_url()]);
        let exporter = home.start().await;
        let page = has_portrait(&exporter, &wechat).await;
        let failures = page.series("wxapp_portrait_api_request_failures_total");
        let expected = labels(&[("endpoint", "token"), ("errcode", "connect")]);
        // The one that was reached is used first from then on.
        assert_eq!(failures, Series::from([(expected, 1.0)]));

        let (broken, gate) = real().await;
        gate.answer("/", 502, "<html>");
        let (second, unasked) = real().await;
        let mut home = Home::of(&second, &[APP]);
        home.config["wechat"]["base_url"] = json!([broken.base_url(), second.base_url()]);
        let exporter = home.start().await;
        let problem = has_no_way(&exporter).await;
        assert!(problem.contains("HTTP status 502"), "{problem}");
        let asked = gate.take();
        assert_eq!(hosts(&asked), BTreeSet::from([("", STABLE)]));
        assert!(asked.len() >= 4 && unasked.take().is_empty(), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn the_next_address_is_used_if_the_first_does_not_connect_in_time() {
    on_one_day(async || {
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let full = full.listen(1).unwrap();
        let address = full.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Once this many wait to be accepted, the system does not answer any more.
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            waiting.push(stream.unwrap());
            assert!(waiting.len() < 100);
        }
        let (wechat, _) = real().await;
        let mut home = Home::of(&wechat, &[APP]);
        home.config["wechat"]["base_url"] = json!([format!("http://{address}"), wechat.base_url()]);
        home.config["wechat"]["timeout"] = "2s".into();
        let exporter = home.start().await;
        let page = has_portrait(&exporter, &wechat).await;
        let failures = page.series("wxapp_portrait_api_request_failures_total");
        let expected = labels(&[("endpoint", "token"), ("errcode", "timeout")]);
        assert_eq!(failures, Series::from([(expected, 1.0)]));
    })
    .await;
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_used() {
    on_one_day(async || {
        let (wechat, gate) = real().await;
        let mut home = Home::of(&wechat, &[APP]);
        home.config["wechat"]["base_url"] = "http://wechat.invalid".into();
        let exporter = behind_proxy(&home, &wechat, &wechat.base_url()).await;
        has_portrait(&exporter, &wechat).await;
        let expected = [("wechat.invalid", STABLE), ("wechat.invalid", PORTRAIT)];
        assert_eq!(hosts(&gate.take()), BTreeSet::from(expected));
    })
    .await;
}

#[tokio::test]
async fn a_configured_proxy_is_for_wechat_alone_and_its_password_is_not_logged() {
    on_one_day(async || {
        let (wechat, proxy) = real().await;
        let (other, environment) = Gate::before(&wechat.simulator).await;
        let mut home = Home::of(&wechat, &[APP]);
        let with_password = |address: &str| format!("http://user:{TOKEN}@{address}");
        home.config["wechat"] = json!({
            "base_url": "http://wechat.invalid",
            "proxy_url": with_password(&wechat.address),
        });
        fs::write(home.path("headers"), format!("X-Key: {TOKEN}")).unwrap();
        home.config["apps"] = json!([{
            "appid": APP,
            "token_url": format!("http://tokens.invalid{SHARED}{APP}"),
            "token_url_headers_file": "headers",
        }]);
        let exporter = behind_proxy(&home, &wechat, &other.base_url()).await;
        has_portrait(&exporter, &wechat).await;
        let asked = proxy.take();
        assert_eq!(
            hosts(&asked),
            BTreeSet::from([("wechat.invalid", PORTRAIT)])
        );
        let authorization = asked[0].headers["proxy-authorization"].to_str().unwrap();
        let password = authorization.strip_prefix("Basic ").unwrap();
        assert!(!exporter.running.output().contains(password));
        let asked = environment.take();
        let path = format!("{SHARED}{APP}");
        assert_eq!(
            hosts(&asked),
            BTreeSet::from([("tokens.invalid", path.as_str())])
        );
        assert!(!asked[0].headers.contains_key("proxy-authorization"));

        // The message about an unreachable proxy does not contain its password.
        let nowhere = NOWHERE.strip_prefix("http://").unwrap();
        let mut config = home.config.clone();
        config["wechat"]["proxy_url"] = with_password(nowhere).into();
        let mut home = Home::of(&wechat, &[APP]);
        home.config = config;
        fs::write(home.path("headers"), format!("X-Key: {TOKEN}")).unwrap();
        let exporter = behind_proxy(&home, &wechat, &other.base_url()).await;
        let problem = has_no_way(&exporter).await;
        let words = "no connection to WeChat; check network, DNS, proxy and wechat.base_url";
        assert!(problem.contains(words), "{problem}");
        assert!(!exporter.running.output().contains(password));
    })
    .await;
}

#[tokio::test]
async fn a_configured_ca_is_trusted() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let app = simulator::create_app(Arc::clone(&wechat.simulator));
        let (address, ca) = serve_over_tls(app, &["127.0.0.1"]).await;
        let base_url = format!("https://{address}");
        let mut home = Home::of(&wechat, &[APP]);
        home.config["wechat"]["base_url"] = base_url.clone().into();
        let exporter = home.start().await;
        let problem = has_no_way(&exporter).await;
        assert!(problem.contains("no connection to WeChat"), "{problem}");
        assert!(
            problem.contains("invalid peer certificate: UnknownIssuer"),
            "{problem}"
        );
        assert!(wechat.simulator.requests().is_empty());
        drop(exporter);

        fs::write(home.path("ca.pem"), ca).unwrap();
        home.config["wechat"]["ca_file"] = "ca.pem".into();
        let exporter = home.start().await;
        has_portrait(&exporter, &wechat).await;
    })
    .await;
}
