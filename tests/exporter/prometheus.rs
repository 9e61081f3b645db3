//! The page as read by the real Prometheus and promtool.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{
    APP, Home, Labels, OTHER, Prometheus, Series, WeChat, backfill, fake_wechat, newer, on_one_day,
    users, yesterday,
};

/// How many days are in an archive.
const ARCHIVED: u64 = 60;

#[tokio::test]
async fn prometheus_returns_the_exact_figures_of_wechat() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, "wx1123456789abcdef=350"]).await;
        let exporter = Home::of(&wechat, &[APP, OTHER]).start().await;
        exporter.ready().await;
        let prometheus = Prometheus::start(&exporter);

        let platforms = r#"wxapp_portrait_users{cohort="new",dimension="platform"}"#;
        // Names that only the day before had are zeros.
        let found = prometheus.query(&format!("{platforms} > 0")).await;
        let mut expected = wechat.users(APP, Window::OneDay, yesterday());
        expected.extend(wechat.users(OTHER, Window::OneDay, yesterday()));
        let everything = prometheus.query("wxapp_portrait_users > 0").await;
        assert_eq!(everything, expected);
        expected.retain(|labels, _| labels["cohort"] == "new" && labels["dimension"] == "platform");
        assert!(expected.len() >= 4, "{expected:?}");
        assert_eq!(found, expected);
    })
    .await;
}

#[tokio::test]
async fn an_export_backfills_prometheus_with_the_exact_figures() {
    on_one_day(async || {
        let wechat = WeChat::of(&["wx0123456789abcdef=200", "wx1123456789abcdef=80"]).await;
        let home = Home::of(&wechat, &[]);
        home.archive(&wechat, &[APP, OTHER], ARCHIVED);
        let (samples, blocks) = (home.path("samples"), tempfile::tempdir().unwrap());
        let mut export = home.command_of("export");
        export
            .args(["--format", "openmetrics", "--output"])
            .arg(&samples);
        let output = export.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        backfill(&samples, blocks.path());

        let prometheus = Prometheus::over(blocks, &json!({}));
        for days_ago in [30, 31, 58] {
            let day = calendar::days_before(yesterday(), days_ago);
            // Noon of the next day in Beijing.
            let time = calendar::midnight(day).timestamp() + 36 * 3600;
            let found = prometheus
                .query(&format!("wxapp_portrait_users @ {time}"))
                .await;
            let mut expected = Series::new();
            for window in Window::ALL {
                for app in [APP, OTHER] {
                    let mut users = wechat.users(app, window, day);
                    add_zeros(&mut users, |days_before| {
                        let is_archived = days_ago + days_before < ARCHIVED;
                        let before = calendar::days_before(day, days_before);
                        is_archived.then(|| wechat.users(app, window, before))
                    });
                    expected.extend(users);
                }
            }
            assert!(expected.values().any(|users| *users < 0.5), "no zero");
            assert_eq!(found, expected, "{day}");
        }
    })
    .await;
}

/// Adds the names of the 28 days before to a day that lacks them, where WeChat lists every name
/// and lists any on that day.
fn add_zeros(users: &mut Series, before: impl Fn(u64) -> Option<Series>) {
    let breakdown = |labels: &Labels| ["cohort", "dimension"].map(|label| labels[label].clone());
    let filled: BTreeSet<_> = users.keys().map(breakdown).collect();
    for labels in (1..=28).filter_map(before).flat_map(Series::into_keys) {
        let lists_every_name =
            ["gender", "platform", "age"].contains(&labels["dimension"].as_str());
        if lists_every_name && filled.contains(&breakdown(&labels)) {
            users.entry(labels).or_default();
        }
    }
}

#[tokio::test]
async fn prometheus_accepts_any_name_that_wechat_may_send() {
    on_one_day(async || {
        let names = [
            r#"say "hi""#,
            r"back\slash\",
            r"not a line\nbreak",
            "line\nbreak",
            "return\r",
            "nothing\u{0}at all",
            "bell\u{7}\u{1b}[31m",
            "手机📱 {a=\"b\"} 1",
            "# HELP me",
            "\u{feff}\u{202e}\u{fffd}",
        ];
        let row = |(name, value): (&&str, u64)| json!({"name": name, "value": value});
        let rows: Vec<Value> = names.iter().zip(1..).map(row).collect();
        let portrait = json!({
            "ref_date": yesterday().format("%Y%m%d").to_string(),
            "visit_uv_new": {},
            "visit_uv": {"devices": rows},
        });
        let (base_url, _stop) = fake_wechat(yesterday(), portrait.to_string()).await;
        let home = Home::new(&base_url, &[APP]);
        let exporter = home.start().await;
        exporter.ready().await;
        let prometheus = Prometheus::start(&exporter);
        let up = prometheus.query("up == 1").await;
        assert_eq!(up.len(), 1);
        let found = prometheus.query("wxapp_portrait_users").await;
        assert_eq!(found, users(APP, Window::OneDay, &portrait));
        check(&exporter.metrics().await.0);
    })
    .await;
}

/// Lets promtool check a page, of the oldest and the newest Prometheus.
pub(crate) fn check(page: &str) {
    check_by(&PathBuf::from("promtool"), page);
    check_by(&newer("promtool"), page);
}

/// Lets one promtool check a page; the newest one takes long for many series.
pub(crate) fn check_by(promtool: &Path, page: &str) {
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let is_silent = output.stdout.is_empty() && output.stderr.is_empty();
    assert!(output.status.success() && is_silent, "{output:?}");
}

#[tokio::test]
async fn promtool_accepts_the_whole_page() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    wechat.set_fault(OTHER, "errcode=48001");
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    home.config["windows"] = json!(["1d", "7d", "30d"]);
    home.config["top_names"] = json!({"city": 3});
    home.config["apps"][0]["labels"] = json!({"team": r#"say "hi" \o/"#, "tier": "01"});
    let exporter = home.start().await;
    check(&exporter.metrics().await.0);
    check(&exporter.ready().await.0);
    let (_, probed) = exporter.get(&format!("/probe?target={APP}")).await;
    check(&probed);
}
