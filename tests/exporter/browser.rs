//! The pages for people in Debian's Chromium: valid, accessible, and complete at every width.
//!
//! What is checked is in `tests/pages/check.mjs`; this starts what it reads. Does not know what the pages say.

use std::process::Output;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use serde_json::json;
use tokio::process::Command;

use wxapp_portrait_exporter::archive::{Row, Store};
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::Settings;

use crate::harness::{APP, Home, OTHER, WeChat, apps_of, now, root, serve, yesterday};
use crate::source;

/// The pages for people; the page of an app that is polled.
const PATHS: [&str; 2] = ["/", "/apps/wx0123456789abcdef"];

/// Checks pages with these options; returns the findings, one in a line.
async fn findings(address: &str, options: &[&str], paths: &[&str]) -> Vec<String> {
    let mut node = Command::new("node");
    node.arg(root().join("tests/pages/check.mjs"));
    node.args(options)
        .arg(format!("http://{address}"))
        .args(paths)
        .kill_on_drop(true);
    let Output {
        status,
        stdout,
        stderr,
    } = node.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let findings: Vec<String> = text(stdout).lines().map(str::to_owned).collect();
    let expected = i32::from(!findings.is_empty());
    assert_eq!(status.code(), Some(expected), "{}", text(stderr));
    findings
}

#[tokio::test]
async fn people_can_use_every_page_in_any_window() {
    assert_pages_are_usable(&["--step", "32"]).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn people_can_use_every_page_in_any_window_in_smaller_steps() {
    assert_pages_are_usable(&["--step", "8"]).await;
}

/// Checks the two pages with these options.
async fn assert_pages_are_usable(options: &[&str]) {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    wechat.set_fault(OTHER, "errcode=40164");
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    home.config["windows"] = json!(["1d", "7d", "30d"]);
    home.config["apps"][0]["name"] = json!("商城 <b>");
    // The page is the same each time that it is loaded.
    home.config["poll"]["interval"] = json!("1h");
    home.archive(&wechat, &[APP, OTHER], 60);
    let exporter = home.start().await;
    exporter.ready().await;
    let address = exporter.url.strip_prefix("http://").unwrap();
    let findings = findings(address, options, &PATHS).await;
    exporter.saw(&findings.join("\n"));
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[tokio::test]
async fn pages_of_every_state_fit() {
    assert_states_fit(&["--step", "320", "--alternate"]).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn pages_of_every_state_fit_in_each_language_and_in_smaller_steps() {
    assert_states_fit(&["--step", "16"]).await;
}

/// Checks pages of apps in every state with these options.
async fn assert_states_fit(options: &[&str]) {
    let [swinging, stale, new, odd] = ["wx-swinging", "wx-stale", "wx-new", "wx-odd"];
    let apps = [swinging, stale, new, odd];
    let event = format!("{swinging}@{}:platform=iPhone:0.2", yesterday());
    let settings = Settings {
        events: vec![event.parse().unwrap()],
        ..apps_of(&apps)
    };
    let wechat = WeChat::start(settings, now).await;
    let mut home = Home::of(&wechat, &apps);
    home.config["windows"] = json!(["1d", "30d"]);
    home.config["poll"]["interval"] = json!("1h");
    for (app, name) in (0..).zip(["大幅下降", "过期", "新", &"界".repeat(85)]) {
        home.config["apps"][app]["name"] = json!(name);
    }
    let mut archive = Store::of_guest(&home.path("data"), Arc::new(now));
    for (app, days) in [(swinging, 0..60), (stale, 6..60), (odd, 0..60)] {
        let records = wechat.records(app, Window::OneDay, 60, now());
        let rows = records[days].iter().map(|record| {
            let mut record = record.clone();
            if app == odd {
                record.answer = record.answer.replace("iPhone", &"<b>苹果W".repeat(20));
            }
            Row::from(&record)
        });
        archive.upsert(&rows.collect::<Vec<_>>()).unwrap();
    }
    for app in [stale, new, odd] {
        wechat.set_fault(app, "errcode=40164");
    }
    let exporter = home.start().await;
    exporter.ready().await;
    let pages = apps.map(|app| format!("/apps/{app}"));
    let longer = format!("/apps/{swinging}?window=30d&days=400");
    let mut paths = vec!["/?sort=new&show=swings", "/?q=nothing", &longer];
    paths.extend(pages.iter().map(String::as_str));
    let address = exporter.url.strip_prefix("http://").unwrap();
    let findings = findings(address, options, &paths).await;
    exporter.saw(&findings.join("\n"));
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[tokio::test]
async fn a_defect_of_each_kind_is_found() {
    let page = async || {
        let policy =
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-test'; img-src *";
        (
            [(header::CONTENT_SECURITY_POLICY, policy)],
            Html(source::text("tests/pages/bad.html")),
        )
    };
    let (address, _stop) = serve(Router::new().route("/bad", get(page))).await;
    let findings = findings(&address, &["--step", "16"], &["/bad"]).await;
    for language in ["zh", "en"] {
        for expected in [
            (
                "1280px light",
                "html: html > body > main > p:nth-child(3): Duplicate ID",
            ),
            (
                "320-1280px light",
                "axe: .pale: Elements must meet minimum color contrast",
            ),
            (
                "1280px dark",
                "axe: .dim: Elements must meet minimum color contrast",
            ),
            ("320-592px light", "overflow: p.wide"),
            ("320-1920px light", "overflow: p.off"),
            ("320-1920px light", "cut: p.cut"),
            ("320-1920px light", "cut: text \"a long label\""),
            ("718px light", "print overflow: p.paper"),
            ("1280px light", "request: http://localhost:9/elsewhere.png"),
            ("1280px dark", "request: http://localhost:9/elsewhere.png"),
            ("1280px light", "console: page: An error of a script"),
            (
                "1280px light",
                "console: page: Executing inline script violates",
            ),
            (
                "1280px light",
                "javascript: body: without JavaScript \"the server\"",
            ),
            (
                "1280px light",
                "keyboard: a \"Not reached\": is not reached",
            ),
            (
                "1280px light",
                "keyboard: a \"Without outline\": does not show",
            ),
        ] {
            let line = format!("/bad {} {language} {}", expected.0, expected.1);
            let is_found = findings.iter().any(|finding| finding.starts_with(&line));
            assert!(is_found, "{line}\n{}", findings.join("\n"));
        }
    }
}
