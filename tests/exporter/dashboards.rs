//! The dashboards: their form, their queries, and whether they show the figures of WeChat.

use std::fmt::Write as _;
use std::path::PathBuf;

use chrono::{NaiveDate, TimeDelta};
use serde_json::json;
use wxapp_portrait_exporter::calendar;

use crate::harness::{
    Exporter, Home, Prometheus, WeChat, appid, apps_of, backfill, now, on_one_day, scraping,
};

/// What the main panels must show.
mod figures;
/// Rules about the JSON.
mod form;
/// Grafana's queries.
mod grafana;
/// The types of what panels have, in several versions of Grafana.
mod types;
/// Whether everything that is queried and named exists.
mod walk;

use grafana::Viewer;

/// Appid, name and users a day.
const APPS: [(&str, &str, u64); 3] = [
    ("wx0123456789abcdef", "商城", 60_000),
    ("wx1123456789abcdef", "点餐", 8_000),
    ("wx2123456789abcdef", "会员 (VIP)", 400),
];

/// How many days are in the archive.
const ARCHIVED: u64 = 40;

#[test]
fn the_dashboards_follow_the_rules() {
    let breaches: Vec<_> = grafana::all().iter().flat_map(form::breaches).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[tokio::test]
async fn the_dashboards_show_the_figures_of_wechat() {
    on_one_day(async || {
        let dashboards = grafana::all();
        let world = World::start().await;
        let mut faults = Vec::new();
        faults.extend(world.unknown_names(&dashboards).await);
        for dashboard in &dashboards {
            faults.extend(world.walk(dashboard, &dashboards).await);
        }
        faults.extend(world.wrong_figures(&dashboards).await);
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    })
    .await;
}

/// Two exporters for the same apps, one Prometheus that scrapes one of them and one that scrapes
/// both, each with the history that it would have if it had always done so.
struct World {
    wechat: WeChat,
    exporters: [Exporter; 2],
    one: Prometheus,
    both: Prometheus,
    yesterday: NaiveDate,
}

impl World {
    async fn start() -> Self {
        let yesterday = calendar::newest_queryable(now());
        let apps = APPS.map(|(appid, _, users)| format!("{appid}={users}"));
        let mut settings = apps_of(&apps.each_ref().map(String::as_str));
        let (swinging, ..) = APPS[1];
        // So large that the daily noise cannot hide it.
        for event in ["platform=iPhone:0.4", "all:0.5"] {
            let event = format!("{swinging}@{yesterday}:{event}");
            settings.events.push(event.parse().unwrap());
        }
        let wechat = WeChat::start(settings, now).await;
        // One failure, so that the metrics of failures are there.
        let (failing, ..) = APPS[2];
        wechat.set_fault(failing, "errcode=-1");

        let appids = APPS.map(|(appid, ..)| appid);
        let homes = [(); 2].map(|()| {
            let mut home = Home::of(&wechat, &appids);
            home.config["windows"] = json!(["1d", "7d", "30d"]);
            for (at, (_, name, _)) in APPS.iter().enumerate() {
                home.config["apps"][at]["name"] = json!(name);
            }
            home
        });
        homes[0].archive(&wechat, &appids, ARCHIVED);
        std::fs::create_dir(homes[1].path("data")).unwrap();
        std::fs::copy(homes[0].archive_file(), homes[1].archive_file()).unwrap();
        let [first, second] = [homes[0].start().await, homes[1].start().await];
        for exporter in [&first, &second] {
            exporter
                .metrics_with("a failure", |page| {
                    let failures = page.series("wxapp_portrait_api_request_failures_total");
                    (!failures.is_empty()).then_some(())
                })
                .await;
        }
        wechat.simulator.clear_faults(&appid(failing));
        for exporter in [&first, &second] {
            exporter
                .metrics_with("settled figures", |page| {
                    let settled = page.series("wxapp_portrait_settled");
                    (settled.len() == 9 && settled.values().all(|settled| *settled > 0.0))
                        .then_some(())
                })
                .await;
        }

        let history = history(&homes[0], &first);
        let prometheus = async |exporters: &[&Exporter]| {
            let blocks = tempfile::tempdir().unwrap();
            backfill(&history, blocks.path());
            let prometheus = Prometheus::over(blocks, &scraping(exporters));
            // A rate needs some.
            let scraped = "count(count_over_time(up[1h]) > 2 and up == 1)";
            let all = exporters.len();
            prometheus.query(&format!("{scraped} == {all}")).await;
            prometheus
        };
        let alone = [&first];
        let paired = [&first, &second];
        let (one, both) = tokio::join!(prometheus(&alone), prometheus(&paired));
        Self {
            one,
            both,
            wechat,
            exporters: [first, second],
            yesterday,
        }
    }

    /// Returns a viewer of each Prometheus at the same time.
    fn viewers(&self) -> [Viewer<'_>; 2] {
        let now = now();
        [&self.one, &self.both].map(|prometheus| Viewer { prometheus, now })
    }
}

/// Writes the samples that Prometheus would have if it had scraped this exporter for ten days and had
/// imported the days before from `export`; returns the path.
fn history(home: &Home, exporter: &Exporter) -> PathBuf {
    let file = home.path("history");
    let export = |last_day: NaiveDate| {
        let mut export = home.command_of("export");
        export
            .args(["--format", "openmetrics", "--dimension", "platform"])
            .args(["--to", &last_day.to_string(), "--output"])
            .arg(&file);
        let output = export.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let samples = std::fs::read_to_string(&file).unwrap();
        samples.strip_suffix("# EOF\n").unwrap().to_owned()
    };
    let today = calendar::today(now());
    let first_scrape = calendar::midnight(calendar::days_before(today, 10)) + TimeDelta::hours(15);
    let address = exporter.url.strip_prefix("http://").unwrap();
    let scraped = format!("{{job=\"wxapp\",instance=\"{address}\",");

    // As in docs/archive.md: up to two days before the first scrape.
    let mut history = export(calendar::days_before(today, 12));
    for line in export(calendar::days_before(today, 1)).lines() {
        let (series, time) = line.rsplit_once(' ').unwrap();
        if !series.starts_with('#') && time.parse::<i64>().unwrap() >= first_scrape.timestamp() {
            let series = series.replacen('{', &scraped, 1);
            writeln!(history, "{series} {time}").unwrap();
        }
    }
    let passed = (now() - first_scrape).num_hours();
    let hours: Vec<_> = (0..=passed)
        .map(|hours| first_scrape + TimeDelta::hours(hours))
        .collect();
    history += "# TYPE wxapp_portrait_app_info gauge\n";
    for (appid, name, _) in APPS {
        for time in &hours {
            let labels = format!("{scraped}appid=\"{appid}\",app=\"{name}\"}}");
            let time = time.timestamp();
            writeln!(history, "wxapp_portrait_app_info{labels} 1 {time}").unwrap();
        }
    }
    history += "# EOF\n";
    std::fs::write(&file, history).unwrap();
    file
}

/// Whether two figures are equal but for the last digits.
fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()) || (one.is_nan() && other.is_nan())
}
