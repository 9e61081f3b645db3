//! What the real program serves over HTTP, path by path.

use std::io::{Cursor, Read as _};

use chrono::{DateTime, Utc};
use flate2::bufread::GzDecoder;
use serde_json::{Value, json};

use crate::harness::{APP, Home, OTHER, WeChat, asked_days, now, on_one_day};

const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Inflates exactly one gzip member.
pub(crate) fn inflate(gzip: &[u8]) -> String {
    let mut decoder = GzDecoder::new(Cursor::new(gzip));
    let mut text = String::new();
    decoder.read_to_string(&mut text).unwrap();
    let end = decoder.into_inner().position();
    assert_eq!(end, gzip.len() as u64, "more follows the first member");
    text
}

/// Returns the lines without the values, which differ from scrape to scrape.
fn without_values(page: &str) -> Vec<&str> {
    let lines = page.lines();
    lines
        .map(|line| match line.rsplit_once(' ') {
            Some((series, _)) if !line.starts_with('#') => series,
            _ => line,
        })
        .collect()
}

#[tokio::test]
async fn gzip_and_plain_are_the_same_page_and_gzip_is_a_single_member() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["windows"] = json!(["1d", "7d", "30d"]);
        home.config["poll"]["interval"] = json!("1h");
        let exporter = home.start().await;
        exporter.ready().await;

        for path in [
            "/metrics?collect[]=portrait",
            &format!("/probe?target={APP}"),
            "/metrics?collect[]=exporter",
            "/metrics",
        ] {
            let (status, plain) = exporter.get(path).await;
            let gzip = exporter.ask("GET", path, "gzip").await;
            assert_eq!((status, gzip.status().as_u16()), (200, 200));
            let headers = gzip.headers();
            assert_eq!(headers["content-encoding"], "gzip");
            assert_eq!(headers["content-type"], TEXT_FORMAT);
            assert_eq!(headers["vary"], "accept-encoding");
            let announced = headers["content-length"].to_str().unwrap().to_owned();
            let gzip = gzip.bytes().await.unwrap();
            assert_eq!(announced, gzip.len().to_string());
            let inflated = inflate(&gzip);
            if path.contains("exporter") || path == "/metrics" {
                assert_eq!(without_values(&inflated), without_values(&plain));
            } else {
                assert_eq!(inflated, plain);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_page_is_served_as_a_whole_or_in_parts() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let exporter = Home::of(&wechat, &[APP, OTHER]).start().await;
        let whole = exporter.ready().await;
        let (_, portrait) = exporter.get("/metrics?collect[]=portrait").await;
        let (_, own) = exporter.get("/metrics?collect%5B%5D=exporter").await;
        let (_, both) = exporter
            .get("/metrics?collect[]=exporter&collect[]=portrait")
            .await;
        let joined = format!("{portrait}{own}");
        assert_eq!(without_values(&joined), without_values(&whole.0));
        assert_eq!(without_values(&both), without_values(&whole.0));
        assert!(portrait.contains("wxapp_portrait_users{") && !portrait.contains("process_"));
        assert!(own.contains("process_cpu") && !own.contains("appid="));
        assert!(own.contains("wxapp_portrait_exporter_build_info{"));

        let (status, one) = exporter.get(&format!("/probe?target={APP}")).await;
        assert_eq!(status, 200);
        assert!(one.contains(APP) && !one.contains(OTHER));
        assert!(!one.contains("process_"));
    })
    .await;
}

#[tokio::test]
async fn other_requests_get_a_text() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    for (method, path, status, words) in [
        (
            "GET",
            "/metrics?collect[]=x",
            400,
            "`portrait` or `exporter`",
        ),
        ("GET", "/probe", 400, "/probe?target=APPID"),
        ("GET", "/probe?target=wx9", 404, "no app with this appid"),
        ("GET", "/probe?target=%22%0a", 404, "no app with this appid"),
        ("GET", "/nowhere", 404, "see / for the endpoints"),
        ("GET", "/-/healthy", 200, "healthy"),
        ("POST", "/metrics", 405, ""),
        ("HEAD", "/metrics", 200, ""),
        ("HEAD", "/-/ready", 200, ""),
    ] {
        let answer = exporter.ask(method, path, "identity").await;
        assert_eq!(answer.status().as_u16(), status, "{method} {path}");
        if path == "/metrics" && method == "HEAD" {
            assert_eq!(answer.headers()["content-type"], TEXT_FORMAT);
        }
        let text = answer.text().await.unwrap();
        exporter.saw(&text);
        assert!(text.contains(words), "{method} {path}: {text}");
        assert!(method != "HEAD" || text.is_empty());
        if path == "/-/healthy" {
            exporter.ready().await;
        }
    }
}

#[tokio::test]
async fn it_is_ready_when_every_app_was_polled_once() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    wechat.set_fault(OTHER, "delay=1s");
    let exporter = Home::of(&wechat, &[APP, OTHER]).start().await;
    exporter
        .metrics_with("the other app", |page| {
            page.users(Some(APP)).first().map(|_| ())
        })
        .await;
    let (status, text) = exporter.get("/-/ready").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("1 of 2 apps"), "{text}");
    assert_eq!(exporter.get("/-/healthy").await.0, 200);
    assert!(!exporter.ready().await.users(Some(OTHER)).is_empty());
}

#[tokio::test]
async fn people_and_programs_read_the_same_state_of_every_app() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "errcode=40164");
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["apps"][0]["name"] = json!("<b>&\"商城");
        let exporter = home.start().await;
        exporter.ready().await;

        let (_, text) = exporter.get("/api/v1/status").await;
        let status: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status["ready"], true);
        assert_eq!(status["apps"][0]["app"], "<b>&\"商城");
        assert_eq!(status["archive"]["problem"], Value::Null);
        let window = exporter.window_status(APP).await;
        assert_eq!(window["freshness"], "fresh");
        assert_eq!(window["archived"]["days"], asked_days());
        assert_eq!(window["problem"], Value::Null);
        let problem = exporter.window_status(OTHER).await["problem"].clone();
        let problem = problem.as_str().unwrap();
        assert!(problem.starts_with("add 61.183.89.14 to the IP allow-list of the app"));

        let (code, html) = exporter.get("/").await;
        assert_eq!(code, 200);
        assert!(
            !html.contains("<b>") && html.contains("&#60;b&#62;&#38;&#34;商城"),
            "{html}"
        );
        assert!(html.contains(APP) && html.contains("Failing <span class=\"count\">1</span>"));
        assert!(html.contains("add 61.183.89.14 to the IP allow-list of the app"));

        let info = exporter.metrics().await;
        let named = [("appid", APP), ("app", "<b>&\"商城")];
        assert_eq!(info.value("wxapp_portrait_app_info", &named), Some(1.0));
        // It waits for an operator, and so for at least five minutes.
        let next = &status["apps"][1]["next_poll"];
        let next: DateTime<Utc> = next.as_str().unwrap().parse().unwrap();
        let pause = (next - now()).num_seconds();
        assert!((240..310).contains(&pause), "{pause}");
    })
    .await;
}

#[tokio::test]
async fn a_browser_shows_every_app_and_its_problem() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "errcode=40164");
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["apps"][0]["name"] = json!("商城 <b>");
        let exporter = home.start().await;
        exporter.ready().await;
        let directory = tempfile::tempdir().unwrap();
        let output = tokio::process::Command::new("chromium")
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .args(["--dump-dom", &format!("{}/", exporter.url)])
            .output();
        let output = output.await.unwrap();
        let dom = String::from_utf8(output.stdout).unwrap();
        exporter.saw(&dom);
        assert!(dom.contains("商城 &lt;b&gt;"), "{dom}");
        assert!(
            dom.contains("add 61.183.89.14 to the IP allow-list of the app"),
            "{dom}"
        );
        for app in [APP, OTHER] {
            assert!(dom.contains(&format!("<tr id=\"{app}\"")), "{dom}");
        }
    })
    .await;
}
