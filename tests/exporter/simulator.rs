//! The simulated WeChat as a client sees it: tokens, dates, errors, and every fault.
//!
//! The clock is an argument: it is noon in Beijing on 2026-11-22 unless a test sets another time.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wxapp_portrait_exporter::portrait::{AppId, Window};
use wxapp_portrait_exporter::simulator::{
    FUNCTION_ENV, FUNCTION_NAME, Settings, UNKNOWN_APP, secret_of,
};

use crate::harness::{self, APP};

const PORTRAIT: &str = "/datacube/getweanalysisappiduserportrait";

/// A simulated WeChat on a port of its own, and a client.
struct WeChat {
    wechat: harness::WeChat,
    minutes: Arc<AtomicI64>,
    client: reqwest::Client,
}

fn app() -> AppId {
    APP.parse().unwrap()
}

fn noon() -> DateTime<Utc> {
    "2026-11-22T04:00:00Z".parse().unwrap()
}

fn yesterday() -> NaiveDate {
    "2026-11-21".parse().unwrap()
}

async fn start(settings: Settings) -> WeChat {
    let minutes = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&minutes);
    let now = move || noon() + TimeDelta::minutes(clock.load(Ordering::Relaxed));
    WeChat {
        wechat: harness::WeChat::start(settings, now).await,
        minutes,
        client: harness::client(),
    }
}

/// Starts one app with these comma-separated faults.
async fn faulty(faults: &str) -> WeChat {
    let faults = faults.split(", ").filter(|fault| !fault.is_empty());
    start(Settings {
        apps: vec![APP.parse().unwrap()],
        faults: faults
            .map(|fault| (app(), fault.parse().unwrap()))
            .collect(),
        ..Settings::default()
    })
    .await
}

impl Deref for WeChat {
    type Target = harness::WeChat;

    fn deref(&self) -> &harness::WeChat {
        &self.wechat
    }
}

impl WeChat {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Gets an address; returns its text.
    async fn text(&self, url: &str) -> String {
        let response = self.client.get(url).send().await.unwrap();
        response.text().await.unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = self.client.post(self.url(path)).body(body);
        request.send().await.unwrap()
    }

    async fn post_json(&self, path: &str, body: Value) -> Value {
        let response = self.post(path, body.to_string()).await;
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn ask_token(&self, refresh: bool) -> Value {
        let mut body = asked_token(&app());
        body["force_refresh"] = json!(refresh);
        self.post_json("/cgi-bin/stable_token", body).await
    }

    async fn token(&self) -> String {
        let answer = self.ask_token(false).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn portrait_path(&self) -> String {
        format!("{PORTRAIT}?access_token={}", self.token().await)
    }

    async fn raw_portrait(&self) -> reqwest::Response {
        let path = self.portrait_path().await;
        self.post(&path, span("20261121", "20261121").to_string())
            .await
    }

    async fn portrait(&self, begin: &str, end: &str) -> Value {
        let path = self.portrait_path().await;
        self.post_json(&path, span(begin, end)).await
    }

    async fn function_path(&self) -> String {
        let token = self.token().await;
        format!(
            "/tcb/invokecloudfunction?access_token={token}&env={FUNCTION_ENV}&name={FUNCTION_NAME}"
        )
    }

    /// Runs the cloud function; returns WeChat's response.
    async fn invoke(&self, event: Value) -> Value {
        let path = self.function_path().await;
        self.post_json(&path, event).await
    }

    /// Runs the cloud function; returns its result.
    async fn returned(&self, event: Value) -> Value {
        let answer = self.invoke(event).await;
        assert_eq!(
            (&answer["errcode"], &answer["errmsg"]),
            (&json!(0), &json!("ok"))
        );
        serde_json::from_str(answer["resp_data"].as_str().unwrap()).unwrap()
    }

    /// Sends a request without a client library, and returns every byte of the response.
    async fn bytes(&self) -> Vec<u8> {
        let path = self.portrait_path().await;
        let body = span("20261121", "20261121").to_string();
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }
}

fn asked_token(appid: &AppId) -> Value {
    json!({"grant_type": "client_credential", "appid": appid, "secret": secret_of(appid)})
}

fn span(begin: &str, end: &str) -> Value {
    json!({"begin_date": begin, "end_date": end})
}

#[tokio::test]
async fn a_portrait_is_the_expected_one_in_the_order_of_the_documentation() {
    let wechat = faulty("").await;
    let text = wechat.raw_portrait().await.text().await.unwrap();
    assert!(text.starts_with(r#"{"ref_date":"20261121","visit_uv_new":{"province":[{"id":"#));
    let keys = [
        "province",
        "city",
        "genders",
        "platforms",
        "devices",
        "ages",
    ];
    let places = keys.map(|key| text.find(&format!("\"{key}\":[")).unwrap());
    assert!(places.is_sorted());
    for (window, begin) in [
        (Window::OneDay, "20261121"),
        (Window::SevenDays, "20261115"),
        (Window::ThirtyDays, "20261023"),
    ] {
        let expected = wechat.simulator.answer(&app(), window, yesterday());
        assert_eq!(Some(wechat.portrait(begin, "20261121").await), expected);
    }
}

#[tokio::test]
async fn a_token_is_the_same_until_it_is_renewed_or_refreshed() {
    let wechat = faulty("").await;
    let first = wechat.ask_token(false).await;
    assert_eq!(first["expires_in"], 7200);
    wechat.minutes.store(100, Ordering::Relaxed);
    let again = wechat.ask_token(false).await;
    assert_eq!(again["access_token"], first["access_token"]);
    assert_eq!(again["expires_in"], 1200);
    let second = wechat.ask_token(true).await;
    assert_ne!(second["access_token"], first["access_token"]);
    let old = first["access_token"].as_str().unwrap();
    let path = format!("{PORTRAIT}?access_token={old}");
    let refused = wechat.post_json(&path, span("20261121", "20261121")).await;
    assert_eq!(refused["errcode"], 40001);
    wechat.minutes.store(221, Ordering::Relaxed);
    let path = format!(
        "{PORTRAIT}?access_token={}",
        second["access_token"].as_str().unwrap()
    );
    let expired = wechat.post_json(&path, span("20261121", "20261121")).await;
    assert_eq!(expired["errcode"], 42001);
    assert_eq!(wechat.simulator.issued_tokens().len(), 2);
}

#[tokio::test]
async fn an_invalid_request_for_a_token_gets_an_errcode_with_a_unique_rid() {
    let wechat = faulty("").await;
    let secret = secret_of(&app());
    let grant = "client_credential";
    for (body, errcode) in [
        (
            json!({"grant_type": "code", "appid": APP, "secret": secret}),
            40002,
        ),
        (json!({"grant_type": grant, "secret": secret}), 41002),
        (json!({"grant_type": grant, "appid": APP}), 41004),
        (
            json!({"grant_type": grant, "appid": "wx1", "secret": secret}),
            40013,
        ),
        (
            json!({"grant_type": grant, "appid": APP, "secret": "no"}),
            40125,
        ),
        (json!("text"), 47001),
    ] {
        let answer = wechat.post_json("/cgi-bin/stable_token", body).await;
        assert_eq!(answer["errcode"], errcode, "{answer}");
    }
    let url = wechat.url("/cgi-bin/stable_token");
    let first = wechat.text(&url).await;
    let second = wechat.text(&url).await;
    assert!(first.contains("43002") && first.contains(" rid: "));
    assert_ne!(first, second);
}

#[tokio::test]
async fn cgi_bin_token_returns_another_token_every_time() {
    let wechat = faulty("").await;
    let url = wechat.url(&format!(
        "/cgi-bin/token?grant_type=client_credential&appid={APP}&secret={}",
        secret_of(&app())
    ));
    let first = wechat.text(&url).await;
    let second = wechat.text(&url).await;
    assert!(first.contains(r#""expires_in":7200"#));
    assert_ne!(first, second);
}

#[tokio::test]
async fn an_invalid_request_for_a_portrait_gets_an_errcode() {
    let wechat = faulty("").await;
    let path = wechat.portrait_path().await;
    let good = || span("20261121", "20261121").to_string();
    for (path, body, errcode) in [
        (PORTRAIT, good(), 41001),
        (&format!("{PORTRAIT}?access_token=85_no"), good(), 40001),
        (&path, String::new(), 44002),
        (&path, "no".to_owned(), 47001),
        (&path, span("2026-11-21", "2026-11-21").to_string(), 61500),
        (&path, span("20261120", "20261121").to_string(), 61500),
        (
            &path,
            "begin_date=20261121&end_date=20261121".to_owned(),
            61500,
        ),
        (&path, span("20261122", "20261122").to_string(), 61501),
        (&path, span("20261119", "20261119").to_string(), 61501),
    ] {
        let answer = wechat.post(path, body).await.text().await.unwrap();
        assert!(
            answer.contains(&format!("\"errcode\":{errcode},")),
            "{answer}"
        );
    }
    let answer = wechat.client.get(wechat.url(&path)).send().await.unwrap();
    assert!(answer.text().await.unwrap().contains("43002"));
}

#[tokio::test]
async fn yesterday_is_available_late_and_changes_until_it_is_final() {
    let hour = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    let settings = Settings {
        apps: [APP, "wx1", "wx2", "wx3", "wx4"]
            .map(|app| app.parse().unwrap())
            .to_vec(),
        ready_at: hour(13),
        final_at: hour(15),
        ..Settings::default()
    };
    let wechat = start(settings).await;
    let final_figures = wechat.simulator.answer(&app(), Window::OneDay, yesterday());
    let before = "2026-11-20".parse().unwrap();
    let day_before = wechat.simulator.answer(&app(), Window::OneDay, before);
    assert_eq!(
        Some(wechat.portrait("20261120", "20261120").await),
        day_before
    );

    // Every second app is refused, the others have no users.
    let mut manners = Vec::new();
    let mut content_types = BTreeSet::new();
    for appid in [APP, "wx1", "wx2", "wx3", "wx4"] {
        let asked = asked_token(&appid.parse().unwrap());
        let token = wechat.post_json("/cgi-bin/stable_token", asked).await;
        let path = format!(
            "{PORTRAIT}?access_token={}",
            token["access_token"].as_str().unwrap()
        );
        let answer = wechat
            .post(&path, span("20261121", "20261121").to_string())
            .await;
        content_types.insert(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned(),
        );
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        manners.push((
            answer["errcode"].clone(),
            answer["visit_uv"]["ages"].clone(),
        ));
    }
    // Some apps get an answer that no other API has.
    let expected = ["application/json; encoding=utf-8", "text/plain"];
    assert!(content_types.iter().eq(expected), "{content_types:?}");
    let (refused, empty) = ((json!(61503), Value::Null), (Value::Null, json!([])));
    assert!(
        manners.contains(&refused) && manners.contains(&empty),
        "{manners:?}"
    );

    wechat.minutes.store(60, Ordering::Relaxed);
    let preliminary = wechat.portrait("20261121", "20261121").await;
    let iphone = |answer: &Value| answer["visit_uv"]["platforms"][0]["value"].as_u64();
    assert!(iphone(&preliminary) < final_figures.as_ref().and_then(iphone));
    wechat.minutes.store(180, Ordering::Relaxed);
    assert_eq!(
        Some(wechat.portrait("20261121", "20261121").await),
        final_figures
    );
}

#[tokio::test]
async fn a_token_server_shares_the_stable_token() {
    let wechat = faulty("").await;
    let stable = wechat.token().await;
    let ask = async |query: &str| {
        let url = wechat.url(&format!("/simulator/tokens/{APP}{query}"));
        wechat.client.get(url).send().await.unwrap()
    };
    let shared = ask("").await;
    assert_eq!(
        shared.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    assert_eq!(shared.text().await.unwrap(), format!("{stable}\n"));
    wechat.minutes.store(100, Ordering::Relaxed);
    let shared = ask("?format=json").await.bytes().await.unwrap();
    let shared: Value = serde_json::from_slice(&shared).unwrap();
    assert_eq!(shared, json!({"access_token": stable, "expires_in": 1200}));

    // A careless one revokes the token of all other programs.
    let other = ask("?force_refresh=true").await.text().await.unwrap();
    assert_ne!(other.trim_end(), stable);
    assert_eq!(other.trim_end(), wechat.token().await);
    let path = format!("{PORTRAIT}?access_token={stable}");
    let refused = wechat.post_json(&path, span("20261121", "20261121")).await;
    assert_eq!(refused["errcode"], 40001);

    wechat.set_fault(APP, "token:errcode=40243*1");
    let refused = ask("").await.text().await.unwrap();
    assert!(refused.contains("\"errcode\":40243"), "{refused}");
    wechat.set_fault(APP, "token:http=503*1");
    assert_eq!(ask("").await.status(), 503);
    assert_eq!(wechat.simulator.requests()[APP].token, 7);
    let url = wechat.url("/simulator/tokens/wx1");
    assert_eq!(wechat.client.get(url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_token_is_valid_only_in_the_parameter_of_its_kind() {
    let wechat = faulty("").await;
    let ordinary = wechat.token().await;
    let url = wechat.url(&format!("/simulator/cloudbase-token/{APP}"));
    let first = wechat.text(&url).await;
    let second = wechat.simulator.cloudbase_token(&app());
    assert_ne!(first, second);
    let errcode = async |parameter: &str, token: &str| {
        let path = format!("{PORTRAIT}?{parameter}={token}");
        let answer = wechat.post_json(&path, span("20261121", "20261121"));
        answer.await["errcode"].as_i64()
    };
    assert_eq!(errcode("access_token", &ordinary).await, None);
    assert_eq!(
        errcode("cloudbase_access_token", &ordinary).await,
        Some(40001)
    );
    // The previous one stays valid.
    for token in [&first, &second] {
        assert_eq!(errcode("cloudbase_access_token", token).await, None);
        assert_eq!(errcode("access_token", token).await, Some(40001));
    }
    assert_eq!(errcode("cloudbase_access_token", "").await, Some(41001));
    wechat.minutes.store(30, Ordering::Relaxed);
    assert_eq!(errcode("cloudbase_access_token", &first).await, Some(42001));

    let issued = wechat.simulator.issued_tokens();
    assert!(issued.contains(&first) && issued.contains(&second));
    let url = wechat.url("/simulator/cloudbase-token/wx1");
    assert_eq!(wechat.client.get(url).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn cloud_hosting_needs_no_token_where_it_relays() {
    let wechat = faulty("").await;
    let asked = |date: &str| span(date, date).to_string();
    let answer = wechat.post(PORTRAIT, asked("20261121")).await;
    assert!(!answer.headers().contains_key("x-openapi-seqid"));

    let wechat = start(Settings {
        cloud_hosting: Some(app()),
        ..harness::apps_of(&[APP])
    })
    .await;
    let ask = async |path: &str, date: &str| {
        let answer = wechat.post(path, asked(date)).await;
        let id = answer.headers().get("x-openapi-seqid").cloned();
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (answer, id)
    };
    let expected = wechat.simulator.answer(&app(), Window::OneDay, yesterday());
    let (answer, first) = ask(PORTRAIT, "20261121").await;
    assert_eq!(Some(answer), expected);
    let (answer, second) = ask(PORTRAIT, "20261119").await;
    assert_eq!(answer["errcode"], 61501);
    assert!(first.is_some() && second.is_some() && first != second);

    // A request with a token is not relayed, even if the token is invalid.
    let (answer, id) = ask(&wechat.portrait_path().await, "20261121").await;
    assert_eq!((Some(answer), id), (expected, None));
    for (token, errcode) in [("85_no", 40001), ("", 41001)] {
        let path = format!("{PORTRAIT}?access_token={token}");
        let (answer, id) = ask(&path, "20261121").await;
        assert_eq!((&answer["errcode"], id), (&json!(errcode), None));
    }

    wechat.set_fault(APP, "errcode=61503*1");
    let (answer, id) = ask(PORTRAIT, "20261121").await;
    assert!(answer["errcode"] == 61503 && id.is_some());
    wechat.set_fault(APP, "http=502*1");
    let answer = wechat.post(PORTRAIT, asked("20261121")).await;
    assert!(answer.status() == 502 && !answer.headers().contains_key("x-openapi-seqid"));
    wechat.set_fault(APP, "unrelayed");
    let (answer, id) = ask(PORTRAIT, "20261121").await;
    assert_eq!((&answer["errcode"], id), (&json!(41001), None));
    let requests = wechat.simulator.requests();
    assert_eq!(requests[APP].portrait, 6);
}

#[tokio::test]
async fn cloud_hosting_belongs_to_a_simulated_app() {
    let mut simulate = harness::program();
    simulate.args(["simulate", "--app", APP, "--cloud-hosting", harness::OTHER]);
    let said = simulate.output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("is not simulated: add --app"), "{said}");
}

/// Returns a portrait of the endpoint as the cloud function returns it.
fn camel(portrait: &Value) -> Value {
    json!({
        "refDate": portrait["ref_date"],
        "visitUvNew": portrait["visit_uv_new"],
        "visitUv": portrait["visit_uv"],
        "errMsg": "openapi.analysis.getUserPortrait:ok",
        "errCode": 0,
    })
}

#[tokio::test]
async fn a_cloud_function_returns_the_portrait_in_a_text() {
    let wechat = faulty("").await;
    let good = camel(&wechat.portrait("20261115", "20261121").await);
    for (begin, end) in [
        ("begin_date", "end_date"),
        ("beginDate", "endDate"),
        ("begin_date", "endDate"),
    ] {
        let event = json!({begin: "20261115", end: "20261121"});
        assert_eq!(wechat.returned(event).await, good);
    }
    let requests = wechat.simulator.requests()[APP];
    assert_eq!((requests.function, requests.portrait), (3, 4));
}

#[tokio::test]
async fn a_cloud_function_returns_the_error_that_it_caught() {
    let wechat = faulty("").await;
    let error = wechat.returned(span("20261119", "20261119")).await;
    assert_eq!(error["errCode"], 61501);
    let text = error["errMsg"].as_str().unwrap();
    let start = "openapi.analysis.getUserPortrait:fail date range error rid: ";
    assert!(text.starts_with(start), "{text}");
    assert_eq!(wechat.returned(json!({})).await["errCode"], 61500);
    wechat.set_fault(APP, "errcode=-604101");
    let error = wechat.returned(span("20261121", "20261121")).await;
    assert_eq!(error["errCode"], -604_101);
}

#[tokio::test]
async fn an_invalid_call_of_a_cloud_function_gets_an_errcode() {
    let wechat = faulty("").await;
    let token = wechat.token().await;
    let hosted = wechat.simulator.cloudbase_token(&app());
    for (query, errcode) in [
        (format!("env={FUNCTION_ENV}&name={FUNCTION_NAME}"), 41001),
        (
            format!("access_token=&env={FUNCTION_ENV}&name={FUNCTION_NAME}"),
            41001,
        ),
        (
            format!("access_token=85_no&env={FUNCTION_ENV}&name={FUNCTION_NAME}"),
            40001,
        ),
        (
            format!("access_token={hosted}&env={FUNCTION_ENV}&name={FUNCTION_NAME}"),
            40001,
        ),
        (format!("access_token={token}&name={FUNCTION_NAME}"), 40101),
        (format!("access_token={token}&env={FUNCTION_ENV}"), 40101),
        (
            format!("access_token={token}&env=prod-1&name={FUNCTION_NAME}"),
            85088,
        ),
        (
            format!("access_token={token}&env={FUNCTION_ENV}&name=login"),
            -1000,
        ),
    ] {
        let path = format!("/tcb/invokecloudfunction?{query}");
        let answer = wechat.post_json(&path, span("20261121", "20261121")).await;
        assert_eq!(answer["errcode"], errcode, "{query}");
    }
    let path = wechat.function_path().await;
    assert!(wechat.text(&wechat.url(&path)).await.contains("43002"));
    wechat.minutes.store(120, Ordering::Relaxed);
    let answer = wechat.post_json(&path, span("20261121", "20261121")).await;
    assert_eq!(answer["errcode"], 42001);
    assert_eq!(wechat.simulator.requests()[APP].portrait, 0);
}

#[tokio::test]
async fn faults_apply_around_a_cloud_function_and_inside() {
    let wechat = faulty("").await;
    let asked = || span("20261121", "20261121");
    let good = wechat.portrait("20261121", "20261121").await;

    wechat.set_fault(APP, "function:errcode=-1*1");
    assert_eq!(wechat.invoke(asked()).await["errcode"], -1);
    wechat.set_fault(APP, "function:leaky*1");
    let leaky = wechat.invoke(asked()).await["errmsg"].to_string();
    assert!(leaky.contains(&wechat.token().await) && leaky.contains(&secret_of(&app())));
    // A function that is refused does not request a portrait.
    assert_eq!(wechat.simulator.requests()[APP].portrait, 1);
    wechat.set_fault(APP, "function:http=502*1");
    let path = wechat.function_path().await;
    assert_eq!(wechat.post(&path, asked().to_string()).await.status(), 502);

    for fault in ["http=502", "cut", "reset", "garbage", "huge"] {
        wechat.set_fault(APP, fault);
        let thrown = wechat.returned(asked()).await;
        assert_eq!(thrown["errorCode"], 1, "{fault}");
    }
    wechat.set_fault(APP, "halves");
    let halves = wechat.returned(asked()).await;
    assert!(halves["refDate"] == "20261121" && halves["visitUv"].is_null());
    wechat.set_fault(APP, "rows");
    let answer = wechat.invoke(asked()).await;
    assert!(answer["resp_data"].as_str().unwrap().contains("控\u{1}制"));
    // Faults of the spelling, of delay and of cloud hosting change nothing here.
    for fault in ["camel", "delay=1ms", "unrelayed"] {
        wechat.set_fault(APP, fault);
        assert_eq!(wechat.returned(asked()).await, camel(&good), "{fault}");
    }
}

#[tokio::test]
async fn a_cloud_function_that_runs_too_long_is_ended() {
    let wechat = start(Settings {
        function_limit: Duration::from_millis(1),
        ..harness::apps_of(&[APP])
    })
    .await;
    wechat.set_fault(APP, "delay=1h");
    let answer = wechat.invoke(span("20261121", "20261121")).await;
    assert_eq!(answer["errcode"], -604_102);
    assert_eq!(answer["resp_data"], Value::Null);
    assert_eq!(wechat.simulator.requests()[APP].portrait, 1);
}

#[tokio::test]
async fn a_cloud_function_has_an_address_of_its_own() {
    let wechat = faulty("").await;
    let asked = || span("20261121", "20261121");
    let good = wechat.portrait("20261121", "20261121").await;
    let ask = async |query: &str, event: Value| {
        let path = format!("/function/{APP}{query}");
        wechat.post_json(&path, event).await
    };
    let (bare, mut snake) = (camel(&good), good.clone());
    snake["errcode"] = json!(0);
    snake["errmsg"] = bare["errMsg"].clone();
    assert_eq!(ask("", asked()).await, bare);
    assert_eq!(ask("?case=snake", asked()).await, snake);
    for (case, inner) in [("camel", &bare), ("snake", &snake)] {
        let query = |wrap: &str| format!("?wrap={wrap}&case={case}");
        assert_eq!(
            ask(&query("data"), asked()).await,
            json!({"code": 200, "data": inner})
        );
        assert_eq!(
            ask(&query("result"), asked()).await,
            json!({"result": inner})
        );
        let text = ask(&query("resp_data"), asked()).await;
        let text = text["resp_data"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), *inner);
    }
    let error = ask("?wrap=data&case=snake", span("20261119", "20261119")).await;
    assert_eq!(
        (&error["code"], &error["data"]["errCode"]),
        (&json!(200), &json!(61501))
    );
    let path = format!("/function/{APP}?wrap=paper");
    assert_eq!(wechat.post(&path, "").await.status(), 400);
    assert_eq!(wechat.post("/function/wx1", "").await.status(), 404);
    let requests = wechat.simulator.requests()[APP];
    assert_eq!((requests.function, requests.portrait), (0, 10));
}

#[tokio::test]
async fn faults_break_the_address_of_a_cloud_function() {
    let wechat = faulty("").await;
    let ask = async |fault: &str| {
        wechat.set_fault(APP, fault);
        let path = format!("/function/{APP}?wrap=result&case=snake");
        wechat
            .post(&path, span("20261121", "20261121").to_string())
            .await
    };
    let json = async |fault: &str| -> Value {
        let answer = ask(fault).await.bytes().await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    };
    assert_eq!(json("errcode=61503").await["result"]["errCode"], 61503);
    let leaky = json("leaky").await["result"]["errMsg"].to_string();
    assert!(leaky.contains(&secret_of(&app())));
    assert_eq!(json("camel").await["result"]["refDate"], "20261121");
    assert_eq!(json("wrong-date").await["result"]["ref_date"], "20261114");
    assert_eq!(json("delay=1ms").await["result"]["errcode"], 0);
    assert_eq!(ask("http=502").await.status(), 502);
    assert!(ask("cut").await.bytes().await.is_err());
    let garbage = ask("garbage").await.bytes().await.unwrap();
    assert!(std::str::from_utf8(&garbage).is_err());
    let path = wechat.url(&format!("/function/{APP}"));
    wechat.set_fault(APP, "reset");
    assert!(wechat.client.post(path).send().await.is_err());
}

#[tokio::test]
async fn a_fault_ends_after_its_times_and_token_faults_are_separate() {
    let wechat = faulty("errcode=61503*2, token:errcode=40164*1").await;
    let refused = wechat.ask_token(false).await;
    let text = refused["errmsg"].as_str().unwrap();
    let ip = "invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist rid: ";
    assert!(text.starts_with(ip), "{text}");
    for errcode in [json!(61503), json!(61503), Value::Null] {
        let answer = wechat.portrait("20261121", "20261121").await;
        assert_eq!(answer["errcode"], errcode);
    }
    let requests = wechat.simulator.requests();
    assert_eq!((requests[APP].portrait, requests[APP].token), (3, 4));
}

#[tokio::test]
async fn faults_of_shape_have_status_200() {
    let wechat = faulty("").await;
    let good = wechat.portrait("20261121", "20261121").await;
    let answers = async |fault: &str| {
        wechat.simulator.set_fault(&app(), fault.parse().unwrap());
        wechat.portrait("20261121", "20261121").await
    };
    let empty = answers("empty").await;
    assert_eq!(empty["visit_uv_new"]["city"], json!([]));
    assert_eq!(answers("halves").await, json!({"ref_date": "20261121"}));
    assert_eq!(answers("wrong-date").await["ref_date"], "20261114");
    assert!(answers("retain").await["visit_uv"][0]["key"].is_number());
    let camel = answers("camel").await;
    assert_eq!(
        (&camel["visitUv"], &camel["errCode"]),
        (&good["visit_uv"], &json!(0))
    );
    let revised = answers("scaled=0.5").await;
    let first = |answer: &Value| answer["visit_uv"]["city"][0]["value"].as_u64().unwrap();
    assert_eq!(first(&revised), first(&good).div_ceil(2));
    let leaky = answers("leaky").await;
    assert_eq!(leaky["errcode"], 99999);
    let text = leaky["errmsg"].as_str().unwrap();
    assert!(text.contains(&wechat.token().await) && text.contains(&secret_of(&app())));
    wechat.simulator.clear_faults(&app());
    assert_eq!(wechat.portrait("20261121", "20261121").await, good);
}

#[tokio::test]
async fn invalid_rows_are_among_valid_ones() {
    let wechat = faulty("rows").await;
    let text = wechat.raw_portrait().await.text().await.unwrap();
    assert!(text.contains("控\u{1}制"));
    let answer: Value = serde_json::from_str(&text.replace('\u{1}', "")).unwrap();
    let rows = answer["visit_uv"]["province"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["value"] == -5));
    assert_eq!(rows.iter().filter(|row| row["name"] == "上海").count(), 2);
    assert!(answer["visit_uv"]["city"].as_array().unwrap().len() > 200);
}

#[tokio::test]
async fn faults_of_transport_break_the_answer() {
    let wechat = faulty("http=502").await;
    let answer = wechat.raw_portrait().await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.unwrap().contains("502 Bad Gateway"));
    let set = |fault: &str| wechat.simulator.set_fault(&app(), fault.parse().unwrap());
    set("garbage");
    let answer = wechat.raw_portrait().await.bytes().await.unwrap();
    assert!(std::str::from_utf8(&answer).is_err());
    set("huge");
    assert!(wechat.raw_portrait().await.bytes().await.unwrap().len() > 8 << 20);
    set("delay=1ms");
    assert!(
        wechat
            .raw_portrait()
            .await
            .text()
            .await
            .unwrap()
            .ends_with("]}}")
    );
}

#[tokio::test]
async fn a_cut_answer_announces_more_than_it_sends() {
    let wechat = faulty("cut").await;
    let answer = String::from_utf8_lossy(&wechat.bytes().await).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let announced = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let announced: usize = announced.unwrap().parse().unwrap();
    assert!(body.len() >= announced / 2 - 3 && body.len() < announced);
    assert!(wechat.raw_portrait().await.bytes().await.is_err());
}

#[tokio::test]
async fn a_reset_connection_ends_without_a_byte() {
    let wechat = faulty("reset").await;
    assert_eq!(wechat.bytes().await, b"");
}

#[tokio::test]
async fn faults_are_set_and_requests_read_from_outside() {
    let wechat = faulty("").await;
    let url = wechat.url(&format!("/simulator/faults/{APP}"));
    let put = async |url: &str, body: &'static str| {
        let answer = wechat.client.put(url).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(put(&url, "http=503\n").await.0, 204);
    assert_eq!(wechat.raw_portrait().await.status(), 503);
    let (status, sentence) = put(&url, "http=").await;
    assert!(
        status == 400 && sentence.contains("such as http=502"),
        "{sentence}"
    );
    assert_eq!(
        put(&wechat.url("/simulator/faults/wx1"), "cut").await.0,
        404
    );
    assert_eq!(
        wechat.client.delete(&url).send().await.unwrap().status(),
        204
    );
    assert_eq!(wechat.raw_portrait().await.status(), 200);
    wechat.post(PORTRAIT, "").await;

    let url = wechat.url("/simulator/requests");
    let counts = wechat.text(&url).await;
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!(
        counts[APP],
        json!({"token": 2, "portrait": 2, "function": 0})
    );
    assert_eq!(
        counts[UNKNOWN_APP],
        json!({"token": 0, "portrait": 1, "function": 0})
    );
}

#[tokio::test]
async fn an_unknown_path_is_answered_by_the_gateway() {
    let wechat = faulty("").await;
    let answer = wechat.post("/datacube/getuserportrait", "{}").await;
    assert_eq!(answer.status(), 404);
    assert!(answer.text().await.unwrap().starts_with("<html>"));
}
