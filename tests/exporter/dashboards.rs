//! The dashboards: their form, their queries, and whether they show the figures of WeChat.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::json;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::alertmanager::Version;
use crate::harness::{
    Exporter, Home, Prometheus, WeChat, appid, apps_of, backfill, newer, now, on_one_day, root,
    scraping,
};
use crate::victoriametrics::copy;

/// Whether every way to the same days gives the same bars.
mod day_axis;
/// What the main panels must show.
mod figures;
/// Rules about the JSON.
mod form;
/// Grafana's queries.
mod grafana;
/// The samples of weeks.
mod past;
/// The types of what panels have, in several versions of Grafana.
mod types;
/// What VictoriaMetrics answers.
mod victoriametrics;
/// Whether everything that is queried and named exists.
mod walk;

use grafana::{Choices, Dashboard, Viewer};
use past::{Pages, Target};

/// Appid, name and users a day.
const APPS: [(&str, &str, u64); 3] = [
    ("wx0123456789abcdef", "商城", 60_000),
    ("wx1123456789abcdef", "点餐", 8_000),
    ("wx2123456789abcdef", "会员 (VIP)", 400),
];

/// A team of so many apps, all fresh.
const EIGHTEEN: &str = "十八";

/// How many days are in the archive.
const ARCHIVED: u64 = 40;

#[test]
fn the_dashboards_follow_the_rules() {
    let breaches: Vec<_> = grafana::all().iter().flat_map(form::breaches).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn the_dashboards_are_what_their_source_generates() {
    let generated = tempfile::tempdir().unwrap();
    let mut node = Command::new("node");
    node.arg(root().join("dashboards/source/build.mjs"));
    let output = node.arg(generated.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut stale = Vec::new();
    for dashboard in grafana::all() {
        let file = format!("dashboards/{}.json", dashboard.name);
        let generated = generated
            .path()
            .join(file.strip_prefix("dashboards/").unwrap());
        let new = std::fs::read(&generated)
            .unwrap_or_else(|error| panic!("{file} is not generated: {error}"));
        if std::fs::read(root().join(&file)).unwrap() != new {
            std::fs::write(root().join(&file), new).unwrap();
            stale.push(file);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} were stale and are now written; commit them"
    );
}

#[tokio::test]
async fn the_dashboards_show_the_figures_of_wechat() {
    on_one_day(async || {
        let dashboards = grafana::all();
        let world = World::start(Setup::few(), &dashboards).await;
        let mut faults = Vec::new();
        faults.extend(world.unknown_names(&dashboards).await);
        faults.extend(world.walk_all(&dashboards).await);
        faults.extend(world.wrong_figures(&dashboards).await);
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    })
    .await;
}

#[tokio::test]
async fn the_dashboards_show_the_same_from_victoriametrics_but_for_rates() {
    on_one_day(async || {
        let dashboards = grafana::all();
        let mut world = World::start(Setup::few(), &dashboards).await;
        // Without scrapes, so that it has the same samples from now on.
        world.one = Prometheus::over(world.one.stop(), &json!({}));
        world.one.query("count(wxapp_portrait_users)").await;
        for version in [Version::Old, Version::New] {
            let database = copy(version, &world.one).await;
            let found = world.differences(&dashboards, &database).await;
            let (rates, others): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|(query, _)| query.contains("rate(") || query.contains("increase("));
            assert!(others.is_empty(), "{version:?}: {others:#?}");
            // As docs/neighbours.md says.
            assert!(!rates.is_empty(), "{version:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_dashboards_show_many_apps_with_any_names_and_failures() {
    assert_shows(100).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn the_dashboards_show_two_hundred_apps_with_any_names_and_failures() {
    assert_shows(200).await;
}

/// Opens all dashboards over this many apps.
async fn assert_shows(apps: usize) {
    on_one_day(async || {
        let dashboards = grafana::all();
        let world = World::start(Setup::many(apps), &dashboards).await;
        let mut faults = world.wrong_options(&dashboards).await;
        faults.extend(world.wrong_counts(&dashboards).await);
        faults.extend(world.walk_all(&dashboards).await);
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    })
    .await;
}

/// Returns the days that each chart over days of a dashboard has when it is opened, by its title.
pub(crate) async fn days_of_charts(
    prometheus: &Prometheus,
    name: &str,
) -> BTreeMap<String, BTreeSet<NaiveDate>> {
    let dashboards = grafana::all();
    let viewer = Viewer::new(prometheus, now());
    let mut charts: BTreeMap<String, BTreeSet<NaiveDate>> = BTreeMap::new();
    for (dashboard, panel, target) in grafana::day_charts(&dashboards) {
        if dashboard.name != name {
            continue;
        }
        let options = viewer.options(dashboard, &Choices::new()).await.unwrap();
        let defaults = options
            .into_iter()
            .map(|(name, all)| (name, all[0].clone()));
        let choices = defaults.collect();
        let series = viewer
            .ask(dashboard, panel, target, &choices)
            .await
            .unwrap();
        let times = series.iter().flat_map(|(_, points)| points.keys());
        let title = grafana::text(&panel["title"]).to_owned();
        charts
            .entry(title)
            .or_default()
            .extend(times.map(|time| grafana::day_of(*time)));
    }
    charts
}

/// Two exporters for the same apps, one Prometheus that scrapes one of them and one of another version that scrapes
/// both, each with the history that it would have if it had always done so.
struct World {
    wechat: WeChat,
    exporters: [Exporter; 2],
    one: Prometheus,
    both: Prometheus,
    setup: Setup,
    yesterday: NaiveDate,
}

/// What is special about an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    /// Its newest portrait is of the day before yesterday.
    Late,
    /// Its newest portrait is ten days older than it should be.
    Stale,
    /// It never had a portrait.
    Never,
}

/// An app of a world.
struct App {
    appid: String,
    name: String,
    team: &'static str,
    users: u64,
    state: State,
    /// Whether its dashboard is opened.
    is_opened: bool,
}

impl App {
    /// How many days its newest portrait is older than it should be, if it has any.
    fn days_late(&self) -> Option<u64> {
        match self.state {
            State::Fresh => Some(0),
            State::Late => Some(1),
            State::Stale => Some(10),
            State::Never => None,
        }
    }
}

/// What distinguishes worlds.
struct Setup {
    apps: Vec<App>,
    windows: Vec<Window>,
    /// How many days are in the archive, of apps that are opened and of others.
    archived: [u64; 2],
    /// How often Prometheus scrapes and evaluates rules.
    interval: &'static str,
    /// Since when it was scraped, in days.
    scraped: u64,
    /// Whether the days before were imported.
    is_imported: bool,
    /// The time between two samples of the past.
    step: TimeDelta,
    /// Those that scrape one exporter, and both.
    programs: [PathBuf; 2],
}

impl Setup {
    /// A few apps, of which one swings, with everything that can be shown.
    fn few() -> Self {
        let apps = APPS.map(|(appid, name, users)| App {
            appid: appid.to_owned(),
            name: name.to_owned(),
            team: if users > 1000 { "零售" } else { "会员" },
            users,
            state: State::Fresh,
            is_opened: true,
        });
        Self {
            apps: apps.into(),
            windows: Window::ALL.to_vec(),
            archived: [ARCHIVED; 2],
            interval: "1s",
            scraped: 10,
            is_imported: true,
            step: TimeDelta::hours(1),
            programs: ["prometheus".into(), newer("prometheus")],
        }
    }

    /// Many apps, of which some fail, with names of any kind.
    fn many(apps: usize) -> Self {
        let of_eighteen =
            |number: usize| number.is_multiple_of(apps / 20) && number < apps * 9 / 10;
        let names = [
            "说 \"hi\"",
            r"back\slash\",
            "逗号，,comma, ",
            "{a=\"b\"} 1",
            "表情 📱👨‍👩‍👧",
            r#"x",appid="wx0000000000000000"#,
            r"(.*)[a-z]+|$^",
            "it's `code`",
            "<b>&amp;</b>",
            "%20/?#&var-appid=x",
            "${appid} $window [[cohort]]",
            "é ü \u{202e}",
            "{{name}}",
            "长".repeat(60).leak(),
        ];
        let app = |number: usize| {
            let (round, at) = (number / names.len(), number % names.len());
            let state = match number % 20 {
                7 => State::Never,
                13 => State::Stale,
                17 => State::Late,
                _ => State::Fresh,
            };
            App {
                appid: format!("wxc0ffee{number:010x}"),
                name: match round {
                    0 => names[at].to_owned(),
                    _ => format!("{}{round}", names[at]),
                },
                team: match number {
                    // As many apps as make a quantile of equal days a bit smaller than these.
                    _ if of_eighteen(number) => EIGHTEEN,
                    _ => ["零售", "会员 (VIP)", r"a|b\c, {d}", ""][number % 4],
                },
                users: 20 + (number as u64 * 7919) % 500,
                state,
                is_opened: [1, 5, 7, 13, 17].contains(&number),
            }
        };
        Self {
            apps: (0..apps).map(app).collect(),
            windows: vec![Window::OneDay],
            archived: [36, 3],
            interval: "4s",
            scraped: 6,
            is_imported: false,
            step: TimeDelta::hours(6),
            programs: [newer("prometheus"), "prometheus".into()],
        }
    }

    /// Returns the app whose users fall on the newest day.
    fn swinging(&self) -> &str {
        &self.apps[1].appid
    }

    /// Starts a WeChat with these apps.
    async fn wechat(&self, yesterday: NaiveDate) -> WeChat {
        let users = self.apps.iter();
        let users: Vec<_> = users
            .map(|app| format!("{}={}", app.appid, app.users))
            .collect();
        let mut settings = apps_of(&users.iter().map(String::as_str).collect::<Vec<_>>());
        let swinging = self.swinging();
        // So large that the daily noise cannot hide it.
        for event in ["platform=iPhone:0.4", "all:0.5"] {
            let event = format!("{swinging}@{yesterday}:{event}");
            settings.events.push(event.parse().unwrap());
        }
        let wechat = WeChat::start(settings, now).await;
        for app in self.apps.iter().filter(|app| app.state != State::Fresh) {
            wechat.set_fault(&app.appid, "errcode=48001");
        }
        wechat
    }

    /// Prepares two exporters with the same archive.
    fn homes(&self, wechat: &WeChat, started: DateTime<Utc>) -> [Home; 2] {
        let appids: Vec<&str> = self.apps.iter().map(|app| app.appid.as_str()).collect();
        let windows: Vec<&str> = self.windows.iter().map(|window| window.as_str()).collect();
        let homes = [(); 2].map(|()| {
            let mut home = Home::of(wechat, &appids);
            home.config["poll"]["interval"] = json!("5s");
            home.config["windows"] = json!(windows);
            for (at, app) in self.apps.iter().enumerate() {
                let config = &mut home.config["apps"][at];
                config["name"] = json!(app.name);
                if !app.team.is_empty() {
                    config["labels"] = json!({"team": app.team});
                }
            }
            home
        });
        for app in &self.apps {
            let Some(late) = app.days_late() else {
                continue;
            };
            let then = started - TimeDelta::days(late.cast_signed());
            let days = self.archived[usize::from(!app.is_opened)];
            homes[0].archive_at(then, &self.windows, wechat, &[&app.appid], days);
        }
        std::fs::create_dir(homes[1].path("data")).unwrap();
        std::fs::copy(homes[0].archive_file(), homes[1].archive_file()).unwrap();
        homes
    }

    /// Starts a Prometheus with a copy of these blocks that scrapes these exporters, and waits until an alert fires.
    async fn prometheus(
        &self,
        program: &Path,
        backfilled: &Path,
        exporters: &[&Exporter],
    ) -> Prometheus {
        let blocks = tempfile::tempdir().unwrap();
        let mut copy = Command::new("cp");
        copy.arg("-r").arg(backfilled.join(".")).arg(blocks.path());
        assert!(copy.status().unwrap().success());
        let mut config = scraping(exporters);
        for interval in ["scrape_interval", "evaluation_interval"] {
            config["global"][interval] = json!(self.interval);
        }
        config["rule_files"] = json!([root().join("alerts/wxapp-portrait.rules.yml")]);
        let prometheus = Prometheus::run(program.to_str().unwrap(), blocks, &config);
        // A rate needs some.
        let scraped = "count(count_over_time(up[1h]) > 1 and up == 1)";
        let all = exporters.len();
        prometheus.query(&format!("{scraped} == {all}")).await;
        let swinging = self.swinging();
        // A dashboard is opened at a whole second, which may be the one before.
        let alert = format!("ALERTS{{appid=\"{swinging}\",alertstate=\"firing\"}} offset 1s");
        prometheus.query(&alert).await;
        prometheus
    }
}

impl World {
    async fn start(setup: Setup, dashboards: &[Dashboard]) -> Self {
        let started = now();
        let yesterday = calendar::newest_queryable(started);
        let wechat = setup.wechat(yesterday).await;
        // One failure, so that the metrics of failures are there.
        let failing = &setup.apps[2].appid;
        wechat.set_fault(failing, "errcode=-1");
        let homes = setup.homes(&wechat, started);
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
        let fresh = setup.apps.iter().filter(|app| app.state == State::Fresh);
        let settled = fresh.count() * setup.windows.len();
        for exporter in [&first, &second] {
            exporter
                .metrics_with("settled figures", |page| {
                    let found = page.series("wxapp_portrait_settled");
                    let found = found.values().filter(|settled| **settled > 0.0);
                    (found.count() >= settled).then_some(())
                })
                .await;
        }

        let history = history(&homes[0], &first, &setup, dashboards).await;
        let backfilled = tempfile::tempdir().unwrap();
        backfill(&history, backfilled.path());
        let (alone, paired) = ([&first], [&first, &second]);
        let [program, other] = &setup.programs;
        let (one, both) = tokio::join!(
            setup.prometheus(program, backfilled.path(), &alone),
            setup.prometheus(other, backfilled.path(), &paired)
        );
        Self {
            one,
            both,
            wechat,
            exporters: [first, second],
            setup,
            yesterday,
        }
    }

    /// Returns a viewer of each Prometheus at the same time.
    fn viewers(&self) -> [Viewer<'_>; 2] {
        let now = now();
        [&self.one, &self.both].map(|prometheus| Viewer::new(prometheus, now))
    }
}

/// Writes the samples that Prometheus would have if it had scraped this exporter for days, and maybe had imported
/// those before from `export`; returns the path.
async fn history(
    home: &Home,
    exporter: &Exporter,
    setup: &Setup,
    dashboards: &[Dashboard],
) -> PathBuf {
    // Before its connection is idle for long.
    let page = exporter.metrics().await.0;
    let now = now();
    let today = calendar::today(now);
    let wanted = past::metrics(dashboards);
    let wanted = |metric: &str| wanted.contains(metric);
    let scraped = calendar::days_before(today, setup.scraped);
    let first_scrape = calendar::midnight(scraped) + TimeDelta::hours(16);
    // As in docs/archive.md: up to two days before the first scrape.
    let last_imported = calendar::days_before(scraped, 2);
    let mut pages = past::pages(home, &["--from", &last_imported.to_string()], wanted);
    past::add_newest(&mut pages, &page, wanted);

    let mut history = String::new();
    if setup.is_imported {
        history = past::export(home, &["--to", &last_imported.to_string()]);
    }
    // The last time at which a chart looks for samples.
    let newest = now.timestamp() / 600 * 600;
    let newest = DateTime::from_timestamp(newest, 0).unwrap();
    let address = exporter.url.strip_prefix("http://").unwrap();
    let none = Pages::new();
    for app in &setup.apps {
        let target = Target {
            labels: format!("job=\"wxapp\",instance=\"{address}\","),
            appid: &app.appid,
            name: &app.name,
            team: app.team,
            pages: pages.get(&app.appid).unwrap_or(&none),
            is_recorded: true,
        };
        let times = past::times(first_scrape, newest, setup.step).chain([newest]);
        target.scrape(&mut history, times, |time| {
            let arrived =
                |day: &&NaiveDate| calendar::expected_available_at(**day).min(newest) <= time;
            target.pages.keys().rev().find(arrived).copied()
        });
    }
    history += "# EOF\n";
    let file = home.path("history");
    std::fs::write(&file, history).unwrap();
    file
}

/// Whether two figures are equal but for the last digits.
fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 1e-9 * one.abs().max(other.abs()) || (one.is_nan() && other.is_nan())
}
