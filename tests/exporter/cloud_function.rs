//! The cloud function of `docs/cloud-function`, run by Node as WeChat's cloud would run it.
//!
//! Only its dependencies are replaced: `tests/cloud-function` has a `wx-server-sdk` that sends requests
//! to the simulated WeChat, and a server that turns requests into events.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::secret_of;

use crate::harness::{APP, Hand, Running, WeChat, appid, apps_of, client, root};

/// The key for reading figures over HTTP.
pub(crate) const KEY: &str = "a-key-that-must-never-leak";

const BEARER: &str = "Bearer a-key-that-must-never-leak";

/// A kind of body that is not encoded.
const JSON: &str = "application/json";

/// The cloud function of one app, with an HTTP URL.
pub(crate) struct CloudFunction {
    pub(crate) address: String,
    running: Running,
    /// A credential of the app, which the function must not reveal.
    pub(crate) token: String,
}

impl CloudFunction {
    /// Starts one that requires [`KEY`].
    pub(crate) async fn start(wechat: &WeChat, app: &str) -> Self {
        Self::with_key(wechat, app, Some(KEY)).await
    }

    async fn with_key(wechat: &WeChat, app: &str, key: Option<&str>) -> Self {
        let token = token(wechat, app).await;
        let mut command = Command::new("node");
        command
            .arg(directory("tests/cloud-function").join("serve.js"))
            .env("WECHAT", wechat.base_url())
            .env("ACCESS_TOKEN", &token)
            .env_remove("PORTRAIT_KEY")
            .envs(key.map(|key| ("PORTRAIT_KEY", key)));
        let mut running = Running::start(command);
        let address = running.said("listening address=").await;
        Self {
            address,
            running,
            token,
        }
    }

    /// Returns its HTTP URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/portrait", self.address)
    }

    /// Sends a request to the HTTP URL; returns the status and the answer.
    async fn ask(&self, authorization: &str, kind: &str, body: &Value) -> (u16, Value) {
        let headers = [("authorization", authorization), ("content-type", kind)];
        self.post(&self.url(), &headers, body).await
    }

    /// Sends an event; the headers name the caller.
    async fn invoke(&self, headers: &[(&str, &str)], event: &Value) -> Value {
        let url = format!("http://{}/invoke", self.address);
        self.post(&url, headers, event).await.1
    }

    async fn post(&self, url: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
        let mut request = client().post(url).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        for secret in [KEY, &self.token] {
            assert!(!text.contains(secret), "{text}");
        }
        (status, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for CloudFunction {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let said = self.running.output();
            assert_eq!(said, format!("listening address={}\n", self.address));
        }
    }
}

fn directory(path: &str) -> PathBuf {
    root().join(path)
}

async fn token(wechat: &WeChat, app: &str) -> String {
    let asked = json!({
        "grant_type": "client_credential",
        "appid": app,
        "secret": secret_of(&appid(app)),
    });
    let url = format!("{}/cgi-bin/stable_token", wechat.base_url());
    let request = client().post(url).body(asked.to_string());
    let text = request.send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

/// Starts a WeChat in which yesterday is 2026-11-21.
async fn wechat() -> WeChat {
    WeChat::start(apps_of(&[APP]), Hand::at("2026-11-22T04:00:00Z").clock()).await
}

/// Requests a day in both spellings, as the exporter does.
fn day(day: &str) -> Value {
    json!({"begin_date": day, "end_date": day, "beginDate": day, "endDate": day})
}

fn yesterday() -> Value {
    day("20261121")
}

/// Checks that this is the portrait of yesterday, with every figure.
fn assert_portrait(wechat: &WeChat, portrait: &Value) {
    assert_eq!(portrait["refDate"], "20261121", "{portrait}");
    assert_eq!(portrait["errCode"], 0);
    let day = "2026-11-21".parse().unwrap();
    let figures = wechat.simulator.answer(&appid(APP), Window::OneDay, day);
    let figures = figures.unwrap();
    assert_eq!(portrait["visitUv"], figures["visit_uv"]);
    assert_eq!(portrait["visitUvNew"], figures["visit_uv_new"]);
}

/// Checks that this is a refusal with this number, and nothing else.
fn assert_failure(answer: &Value, number: i64) -> &str {
    assert_eq!(answer["errCode"], number, "{answer}");
    assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    answer["errMsg"].as_str().unwrap()
}

#[tokio::test]
async fn a_client_with_the_key_reads_a_portrait_over_http() {
    let wechat = wechat().await;
    let function = CloudFunction::start(&wechat, APP).await;
    // A body of another type arrives in base64.
    for kind in [JSON, "application/octet-stream"] {
        let (status, portrait) = function.ask(BEARER, kind, &yesterday()).await;
        assert_eq!(status, 200);
        assert_portrait(&wechat, &portrait);
    }
}

#[tokio::test]
async fn a_client_without_the_key_is_refused() {
    let wechat = wechat().await;
    let function = CloudFunction::start(&wechat, APP).await;
    let short = &BEARER[..BEARER.len() - 1];
    for authorization in ["", "Bearer", "Bearer ", "Bearer undefined", KEY, short] {
        let (status, answer) = function.ask(authorization, JSON, &yesterday()).await;
        assert_eq!(status, 401, "{authorization}");
        let message = assert_failure(&answer, 401);
        assert!(message.contains("Authorization: Bearer"), "{message}");
    }
    let (status, answer) = function.post(&function.url(), &[], &yesterday()).await;
    assert_eq!(status, 401);
    assert_failure(&answer, 401);
}

#[tokio::test]
async fn a_function_without_a_key_reports_what_to_set() {
    let wechat = wechat().await;
    for key in [None, Some("")] {
        let function = CloudFunction::with_key(&wechat, APP, key).await;
        for authorization in [BEARER, "Bearer ", "Bearer undefined"] {
            let (status, answer) = function.ask(authorization, JSON, &yesterday()).await;
            assert_eq!(status, 401);
            let message = assert_failure(&answer, 401);
            assert!(message.contains("PORTRAIT_KEY"), "{message}");
        }
    }
}

#[tokio::test]
async fn the_backend_of_the_app_calls_it_in_either_spelling() {
    let wechat = wechat().await;
    // A caller that may do this has the app's access token, and needs no key.
    let function = CloudFunction::with_key(&wechat, APP, None).await;
    for event in [
        json!({"begin_date": "20261121", "end_date": "20261121"}),
        json!({"beginDate": "20261121", "endDate": "20261121"}),
        yesterday(),
    ] {
        assert_portrait(&wechat, &function.invoke(&[], &event).await);
    }
}

#[tokio::test]
async fn a_user_of_the_app_is_refused() {
    let wechat = wechat().await;
    let function = CloudFunction::start(&wechat, APP).await;
    // The event is under the caller's control.
    let mut forged = yesterday();
    forged["httpMethod"] = json!("POST");
    forged["headers"] = json!({"authorization": "Bearer "});
    forged["body"] = json!(yesterday().to_string());
    for caller in [
        &[("x-openid", "oAnybody"), ("x-source", "wx_client")][..],
        &[("x-openid", "oAnybody")],
        &[("x-source", "web_client")],
        &[("x-source", "wx_client,scf")],
    ] {
        let answer = function.invoke(caller, &yesterday()).await;
        assert_failure(&answer, 403);
        let answer = function.invoke(caller, &forged).await;
        assert_eq!(answer["errCode"], 401, "{answer}");
        assert_eq!(answer["visitUv"], Value::Null);
    }
}

#[tokio::test]
async fn a_refusal_of_wechat_is_returned_with_its_number() {
    let wechat = wechat().await;
    let function = CloudFunction::start(&wechat, APP).await;
    let old = day("20261101");
    let answers = [
        function.ask(BEARER, JSON, &old).await.1,
        function.invoke(&[], &old).await,
    ];
    for answer in answers {
        let message = assert_failure(&answer, 61501);
        let start = "openapi.analysis.getUserPortrait:fail ";
        assert!(message.starts_with(start), "{message}");
    }
    wechat.set_fault(APP, "errcode=-1");
    let (status, answer) = function.ask(BEARER, JSON, &yesterday()).await;
    assert_eq!(status, 200);
    assert_failure(&answer, -1);
}

#[tokio::test]
async fn an_invalid_request_is_answered_with_the_expected_form() {
    let wechat = wechat().await;
    let function = CloudFunction::start(&wechat, APP).await;
    let request = client().get(function.url());
    let request = request.header("authorization", BEARER);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("beginDate"));
}

#[test]
fn the_function_has_permission_for_what_it_calls_and_nothing_else() {
    let read =
        |name: &str| fs::read_to_string(directory("docs/cloud-function").join(name)).unwrap();
    let config: Value = serde_json::from_str(&read("config.json")).unwrap();
    let code = read("index.js");
    let calls = code.split("cloud.openapi.").skip(1);
    let called: Vec<&str> = calls.map(|call| call.split_once('(').unwrap().0).collect();
    assert_eq!(config, json!({"permissions": {"openapi": called}}));

    let package: Value = serde_json::from_str(&read("package.json")).unwrap();
    assert_eq!(package["main"], "index.js");
    let needed: Vec<_> = package["dependencies"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(needed, ["wx-server-sdk"]);
}
