//! The pages for people in Debian's Chromium: valid, accessible, and complete at every width.
//!
//! What is checked is in `tests/pages/check.mjs`; this starts what it reads. Does not know what the pages say.

use std::process::Output;

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use serde_json::json;
use tokio::process::Command;

use crate::harness::{APP, Home, OTHER, WeChat, root, serve};
use crate::source;

/// The pages for people; the page of an app that is polled.
const PATHS: [&str; 2] = ["/", "/apps/wx0123456789abcdef"];

/// Checks pages; returns the findings, one in a line.
async fn findings(address: &str, paths: &[&str]) -> Vec<String> {
    let mut node = Command::new("node");
    node.arg(root().join("tests/pages/check.mjs"));
    node.arg(format!("http://{address}"))
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
    let findings = findings(address, &PATHS).await;
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
    let findings = findings(&address, &["/bad"]).await;
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
