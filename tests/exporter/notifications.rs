//! The whole path of a message over several days: from the figures of WeChat through exporters, rules,
//! Prometheus and Alertmanager to what people read.
//!
//! A day passes as soon as all programs on the path have seen it. Only Prometheus and Alertmanager
//! use the real clock, so durations in rules are rewritten (see [`rules`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use wxapp_portrait_exporter::archive::Row;
use wxapp_portrait_exporter::calendar::{self, DayKind, Holidays};
use wxapp_portrait_exporter::config;
use wxapp_portrait_exporter::poll::AppPoller;
use wxapp_portrait_exporter::portrait::Dimension;
use wxapp_portrait_exporter::portrait::Window::OneDay;
use wxapp_portrait_exporter::simulator::Settings;

use crate::alertmanager::Version::{self, New, Old};
use crate::alertmanager::{Alertmanager, Service, robots, wecom};
use crate::harness::{
    Hand, Inside, Prometheus, WeChat, apps_of, client, configured, eventually, newer, root, serve,
    step,
};

/// The Beijing time at which WeChat has the figures of yesterday.
const READY_AT: NaiveTime = NaiveTime::from_hms_opt(10, 0, 0).unwrap();

/// How often Prometheus evaluates rules.
const EVALUATION: &str = "200ms";

/// How long no more alerts come after those of one evaluation, on a busy machine.
const QUIET: Duration = Duration::from_millis(500);

/// The groups of rules.
const GROUPS: [&str; 2] = ["swings", "exporter"];

/// The team of all apps.
const TEAM: &str = "零售";

/// How many days are in the archives at the start.
const ARCHIVED: u64 = 36;

/// An app, its name, and its number of users.
#[derive(Clone, Copy)]
struct App {
    appid: &'static str,
    name: &'static str,
    users: u32,
}

const fn app(appid: &'static str, name: &'static str, users: u32) -> App {
    App { appid, name, users }
}

/// A pair of exporters, and the programs that consume their metrics, in one version or in two.
struct Chain {
    hand: Hand,
    /// The time up to which all polls are done.
    done: Hand,
    wechat: WeChat,
    pair: [Member; 2],
    watches: Vec<Watch>,
}

/// One of two exporters that serve the same apps.
struct Member {
    inside: Inside,
    apps: Vec<App>,
    followed: Vec<AppPoller>,
    /// Its address for Prometheus, if it is up.
    address: String,
    is_up: Arc<AtomicBool>,
    _stop: DropGuard,
}

/// The oldest Prometheus and Alertmanager with a WeCom application, in Chinese; or the newest with
/// robots, in English.
struct Watch {
    version: Version,
    prometheus: Prometheus,
    _alertmanager: Alertmanager,
    _stop: DropGuard,
    service: Service,
    /// The expected receivers and messages, in any order.
    expected: Vec<Message>,
    _directory: TempDir,
}

/// The receiver, and the text.
type Message = (String, String);

impl Chain {
    /// Starts on the night of a day, with the days before it in the archives, and with this scrape
    /// interval.
    async fn start(
        versions: &[Version],
        apps: &[App],
        events: &[String],
        day: &str,
        scrapes: &str,
    ) -> Self {
        let midnight = format!("{day}T00:00:00+08:00");
        let (hand, done) = (Hand::at(&midnight), Hand::at(&midnight));
        let users = apps
            .iter()
            .map(|app| format!("{}={}", app.appid, app.users));
        let users: Vec<String> = users.collect();
        let settings = Settings {
            events: events.iter().map(|event| event.parse().unwrap()).collect(),
            ready_at: READY_AT,
            final_at: READY_AT,
            ..apps_of(&users.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let wechat = WeChat::start(settings, hand.clock()).await;
        let pair = [
            Member::start(&wechat, apps, &hand, &done).await,
            Member::start(&wechat, apps, &hand, &done).await,
        ];
        let exporters = pair.each_ref().map(|member| member.address.as_str());
        let mut watches = Vec::new();
        for version in versions {
            watches.push(Watch::start(*version, &exporters, scrapes).await);
        }
        Self {
            hand,
            done,
            wechat,
            pair,
            watches,
        }
    }

    fn today(&self) -> NaiveDate {
        calendar::today(self.hand.now())
    }

    /// Lets some exporters poll at this time in Beijing, and waits until the rules have
    /// seen it.
    async fn poll_at(&mut self, time: &str, members: &[usize]) {
        let time: NaiveTime = time.parse().unwrap();
        let midnight = calendar::midnight(self.today());
        let mut time = midnight + (time - NaiveTime::MIN);
        if time < self.hand.now() {
            time += TimeDelta::days(1);
        }
        self.hand.move_to(time);
        for member in members {
            self.pair[*member].poll().await;
        }
        self.done.move_to(time);
        self.evaluate().await;
    }

    /// Lets a day pass from night to noon. The other exporter is late.
    async fn pass_day(&mut self) {
        self.pass_day_after(|_| ()).await;
    }

    /// The same, with something that happens before the figures arrive.
    async fn pass_day_after(&mut self, event: impl FnOnce(&WeChat)) {
        self.poll_at("00:30:00", &[0, 1]).await;
        event(&self.wechat);
        self.poll_at("10:30:00", &[0]).await;
        self.poll_at("11:30:00", &[0, 1]).await;
    }

    /// Restarts exporters, which keep only their archives.
    async fn restart(&mut self, members: &[usize]) {
        for member in members {
            self.pair[*member].is_up.store(false, Ordering::Relaxed);
        }
        self.evaluate().await;
        for member in members {
            self.pair[*member].restore().await;
            self.pair[*member].is_up.store(true, Ordering::Relaxed);
        }
        self.evaluate().await;
    }

    /// Waits until every rule has seen what is served now.
    async fn evaluate(&self) {
        for watch in &self.watches {
            watch.evaluate(&self.pair, self.hand.now()).await;
        }
    }

    /// Waits until these apps and no others swing.
    async fn swing(&self, appids: &[&str]) {
        for watch in &self.watches {
            let swings = r#"ALERTS{alertname=~".+(Swing|Shift|Vanished|Appeared|Drift)"}"#;
            eventually("swings", async || {
                let found = watch
                    .names(&format!("group by (appid, team) ({swings})"))
                    .await;
                let expected = appids.iter().map(|appid| format!("{appid} {TEAM}"));
                (found == expected.collect()).then_some(())
            })
            .await;
        }
    }

    /// Adds an expected message.
    fn expect(&mut self, receiver: &str, words: impl Fn(Version) -> String) {
        for watch in &mut self.watches {
            let words = words(watch.version);
            let names = match watch.version {
                Old => vec![format!("{}_MEMBERS", receiver.to_uppercase())],
                New => ["dingtalk", "feishu", "wecom"]
                    .map(|robot| format!("/{receiver}-{robot}"))
                    .to_vec(),
            };
            watch
                .expected
                .extend(names.into_iter().map(|name| (name, words.clone())));
        }
    }

    /// Waits until all expected messages were received, and nothing else.
    async fn assert_received(&self) {
        for watch in &self.watches {
            let mut surplus = eventually("messages", async || {
                let messages = watch.messages();
                (messages.len() >= watch.expected.len()).then_some(messages)
            })
            .await;
            let mut missing = watch.expected.clone();
            missing.retain(|message| {
                let found = surplus.iter().position(|other| other == message);
                found.map(|place| surplus.remove(place)).is_none()
            });
            // In one line, so that the log of a failure has all of it.
            assert!(
                surplus.is_empty() && missing.is_empty(),
                "{:?}: surplus {surplus:?}, missing {missing:?}",
                watch.version
            );
        }
    }

    /// Returns the users of an app, or of one of its platforms, on the newest day, and what is usual.
    async fn users(&self, app: &App, cohort: &str, platform: Option<&str>) -> (f64, f64) {
        let page = self.pair[1].inside.metrics().await;
        let mut labels = vec![("appid", app.appid), ("cohort", cohort)];
        labels.extend(platform.map(|platform| ("name", platform)));
        let value = |name: &str, label| {
            let labels = [&labels[..], &[label]].concat();
            page.value(name, &labels).unwrap()
        };
        let usual = ("bound", "usual");
        match platform {
            None => (
                value("wxapp_portrait_cohort_users", ("window", "1d")),
                value("wxapp_portrait_expected_cohort_users", usual),
            ),
            Some(_) => (
                value("wxapp_portrait_users", ("dimension", "platform")),
                value("wxapp_portrait_expected_platform_users", usual),
            ),
        }
    }
}

impl Member {
    async fn start(wechat: &WeChat, apps: &[App], hand: &Hand, done: &Hand) -> Self {
        let appids: Vec<&str> = apps.iter().map(|app| app.appid).collect();
        let mut inside = Inside::start(&wechat.base_url(), &appids, hand).await;
        inside.scan_for(wechat);
        for appid in appids {
            let records = wechat.records(appid, OneDay, 1 + ARCHIVED, hand.now());
            // Yesterday is not known yet.
            let rows: Vec<Row> = records[1..].iter().map(Row::from).collect();
            inside.store().upsert(&rows).unwrap();
        }
        let (url, is_up) = (format!("{}/metrics", inside.url), Arc::default());
        let (client, serves, clock) = (client(), Arc::clone(&is_up), done.clone());
        let page = async move || {
            if !AtomicBool::load(&serves, Ordering::Relaxed) {
                return Err(StatusCode::BAD_GATEWAY);
            }
            // First, as a page from a later time than this is read once more.
            let time = format!("simulated_time_seconds {}\n", clock.now().timestamp());
            let page = client.get(url).send().await;
            let page = page.map_err(|_| StatusCode::BAD_GATEWAY)?.text().await;
            Ok(time + &page.map_err(|_| StatusCode::BAD_GATEWAY)?)
        };
        let (address, stop) = serve(Router::new().route("/metrics", get(page))).await;
        let mut member = Self {
            inside,
            apps: apps.to_vec(),
            followed: Vec::new(),
            address,
            is_up,
            _stop: stop,
        };
        member.restore().await;
        member.is_up.store(true, Ordering::Relaxed);
        member
    }

    async fn restore(&mut self) {
        self.followed.clear();
        for app in &self.apps {
            let app = config::App {
                name: app.name.to_owned(),
                labels: BTreeMap::from([("team".to_owned(), TEAM.to_owned())]),
                dimensions: vec![Dimension::Gender, Dimension::Platform, Dimension::Age],
                ..configured(app.appid, &[OneDay])
            };
            self.followed.push(self.inside.restore_as(app).await);
        }
    }

    async fn poll(&mut self) {
        let steps = self.followed.iter_mut().map(step);
        join_all(steps).await;
    }
}

impl Watch {
    async fn start(version: Version, exporters: &[&str], scrapes: &str) -> Self {
        let (service, directory) = (Service::start().await, tempfile::tempdir().unwrap());
        let (example, program) = match version {
            Old => ("wecom.yml", PathBuf::from("prometheus")),
            New => ("robots.yml", newer("prometheus")),
        };
        let alertmanager = Alertmanager::start(version, example, |config| {
            match version {
                Old => wecom(version, config, &service, directory.path()),
                New => {
                    robots(config, &service, directory.path());
                    config["templates"] = json!(["wxapp-portrait.en.tmpl"]);
                }
            }
            take_time(config);
        })
        .await;
        let (address, stop) = together(&alertmanager).await;
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("rules.yml"), rules()).unwrap();
        let prometheus = Prometheus::run(
            program.to_str().unwrap(),
            files,
            &json!({
                "global": {
                    "scrape_interval": scrapes,
                    "scrape_timeout": scrapes,
                    "evaluation_interval": EVALUATION,
                },
                "rule_files": ["rules.yml"],
                "alerting": {"alertmanagers": [{"static_configs": [
                    {"targets": [address]},
                ]}]},
                "scrape_configs": [
                    {"job_name": "wxapp-portrait", "static_configs": [{"targets": exporters}]},
                ],
            }),
        );
        Self {
            version,
            prometheus,
            _alertmanager: alertmanager,
            _stop: stop,
            service,
            expected: Vec::new(),
            _directory: directory,
        }
    }

    /// Waits until rules have seen what these exporters serve at a time.
    async fn evaluate(&self, pair: &[Member], time: DateTime<Utc>) {
        let up = pair
            .iter()
            .filter(|member| member.is_up.load(Ordering::Relaxed));
        let time = time.timestamp().to_string();
        let expected: BTreeSet<(String, String)> = up
            .map(|member| (member.address.clone(), time.clone()))
            .collect();
        for group in GROUPS {
            eventually(group, async || {
                let seen = [("query", format!("seen:{group}"))];
                let seen = seen.each_ref().map(|(name, query)| (*name, query.as_str()));
                let answer = self.prometheus.ask("query", &seen).await;
                let series = answer["data"]["result"].as_array()?.iter().map(|series| {
                    let instance = series["metric"]["instance"].as_str()?.to_owned();
                    Some((instance, series["value"][1].as_str()?.to_owned()))
                });
                (series.collect::<Option<BTreeSet<_>>>()? == expected).then_some(())
            })
            .await;
        }
    }

    /// Returns the values of the labels of the result of a query.
    async fn names(&self, query: &str) -> BTreeSet<String> {
        let answer = self.prometheus.ask("query", &[("query", query)]).await;
        let found = answer["data"]["result"].as_array().unwrap().iter();
        let words = found.map(|series| {
            let labels = series["metric"].as_object().unwrap();
            let values = labels.values().map(|value| value.as_str().unwrap());
            values.collect::<Vec<_>>().join(" ")
        });
        words.collect()
    }

    /// Returns all received messages.
    fn messages(&self) -> Vec<Message> {
        let requests = self.service.requests().into_iter();
        let messages = requests.filter_map(|(path, body)| {
            let text = |place: &str| body.pointer(place).and_then(Value::as_str);
            let path = path.strip_prefix("POST ")?;
            let reader = text("/touser").unwrap_or(path).to_owned();
            let words = text("/markdown/content").or(text("/markdown/text"));
            let words = words.map(str::to_owned).or_else(|| {
                let title = text("/card/header/title/content")?;
                let list = text("/card/elements/0/content")?;
                Some(format!("**{title}**\n\n{list}"))
            });
            Some((reader, words.unwrap_or_else(|| body.to_string())))
        });
        messages.collect()
    }
}

/// Returns the bundled rules, with only durations changed.
///
/// Prometheus uses the real clock, so the rules get the time of the exporters. Hours of theirs
/// pass at once: what must last some hours lasts some seconds here. What bridges a restart is
/// longer than one takes on a busy machine. Ranges and offsets stay: they reach from now back to
/// the start.
fn rules() -> String {
    let file = root().join("alerts/wxapp-portrait.rules.yml");
    let mut rules = std::fs::read_to_string(file).unwrap();
    for (theirs, ours) in [
        ("time()", "scalar(max(simulated_time_seconds))"),
        ("keep_firing_for: 10m", "keep_firing_for: 10s"),
        ("keep_firing_for: 6h", "keep_firing_for: 10s"),
        ("[140m:5m]) >= 25", "[6s:1s]) >= 3"),
        ("[20m:1m]) >= 10", "[6s:1s]) >= 3"),
    ] {
        assert!(rules.contains(theirs), "{theirs}");
        rules = rules.replace(theirs, ours);
    }
    // The input of a group is known once its evaluation has ended.
    for group in GROUPS {
        let name = format!("  - name: wxapp-portrait.{group}\n    rules:\n");
        let (before, after) = rules.split_once(&name).unwrap();
        let (its, others) = after.split_at(after.find("\n  - name:").unwrap_or(after.len()));
        let rule =
            |name: &str, expr: &str| format!("      - record: {name}\n        expr: {expr}\n");
        let first = rule(&format!("sees:{group}"), "simulated_time_seconds");
        let last = rule(&format!("seen:{group}"), &format!("sees:{group}"));
        rules = format!("{before}{name}{first}{its}\n{last}{others}");
    }
    rules
}

/// Passes alerts on to Alertmanager once no more have come for a moment; returns the address for them.
///
/// Prometheus sends those of each rule on their own. Groups that are notified every few seconds instead of minutes
/// would at times be notified between two of them.
async fn together(alertmanager: &Alertmanager) -> (String, DropGuard) {
    let url = format!("{}/api/v2/alerts", alertmanager.url);
    let (sender, mut receiver) = mpsc::unbounded_channel::<Vec<Value>>();
    tokio::spawn(async move {
        while let Some(mut alerts) = receiver.recv().await {
            while let Ok(Some(more)) = timeout(QUIET, receiver.recv()).await {
                alerts.extend(more);
            }
            let request = client().post(&url).body(json!(alerts).to_string());
            let request = request.header("content-type", "application/json");
            // Fails only at the end, when all of them stop.
            let _ = request.send().await;
        }
    });
    let accept = async move |Json(alerts): Json<Vec<Value>>| {
        let _ = sender.send(alerts);
    };
    serve(Router::new().route("/api/v2/alerts", post(accept))).await
}

/// Lets Alertmanager wait long enough for all alerts of a group, also on a busy machine.
fn take_time(config: &mut Value) {
    fn of_route(route: &mut Value) {
        route["group_wait"] = json!("2s");
        route["group_interval"] = json!("5s");
        for below in route["routes"].as_array_mut().into_iter().flatten() {
            of_route(below);
        }
    }
    of_route(&mut config["route"]);
}

/// An alert, and its sentence in Chinese and in English.
struct Line {
    alert: &'static str,
    /// The path of its dashboard.
    dashboard: String,
    /// The place on the page of the app.
    place: &'static str,
    zh: String,
    en: String,
}

impl Line {
    /// Returns the addresses of its dashboard, its page and its section of the runbook.
    fn links(&self, app: &App, version: Version) -> [String; 3] {
        let (appid, place, anchor) = (app.appid, self.place, self.alert.to_lowercase());
        let language = match version {
            Old => "zh-CN/",
            New => "",
        };
        [
            format!("http://localhost:3000/d/{}", self.dashboard),
            format!("http://localhost:10690/apps/{appid}{place}"),
            format!(
                "https://git.internal/wxapp-portrait-exporter/docs/{language}runbook.md#wxappportrait{anchor}"
            ),
        ]
    }
}

/// Returns the heading of the messages of an alert.
fn summary(alert: &str, version: Version) -> &'static str {
    let (zh, en) = match alert {
        "NewUsersSwing" => ("新增用户异常波动", "New users are far from usual"),
        "ActiveUsersSwing" => ("活跃用户异常波动", "Active users are far from usual"),
        "PlatformVanished" => ("某平台用户数归零", "A platform has no users any more"),
        "Stale" => ("昨日用户画像缺失", "Yesterday's portrait is missing"),
        "PollFailing" => ("用户画像获取失败", "Polls of WeChat fail"),
        _ => unreachable!("{alert}"),
    };
    match version {
        Old => zh,
        New => en,
    }
}

#[derive(Clone, Copy)]
enum State {
    Firing,
    Critical,
    Resolved,
}

/// Returns the message about some alerts of an app.
fn message(version: Version, state: State, app: &App, lines: &[Line]) -> String {
    let (title, section) = match (version, state) {
        (Old, State::Firing) => ("告警", "告警中"),
        (Old, State::Critical) => ("严重告警", "告警中"),
        (Old, State::Resolved) => ("已解除", "已解除"),
        (New, State::Firing) => ("Alert", "Firing"),
        (New, State::Critical) => ("Critical", "Firing"),
        (New, State::Resolved) => ("Resolved", "Resolved"),
    };
    let (count, names) = match version {
        Old => (format!("（{}）", lines.len()), ["看板", "详情", "处理方法"]),
        New => (
            format!(" ({})", lines.len()),
            ["dashboard", "details", "runbook"],
        ),
    };
    // Alerts about several things lead to no certain place.
    let urls = lines.iter().map(|line| line.links(app, version));
    let urls = urls.reduce(|one, other| {
        std::array::from_fn(|at| {
            let start = |link: &str| link.split(['#', '&']).next().unwrap().to_owned();
            let (one, other) = (one[at].clone(), &other[at]);
            if one == *other { one } else { start(&one) }
        })
    });
    let urls = names.into_iter().zip(urls.unwrap());
    let urls: Vec<_> = urls.map(|(name, url)| format!("[{name}]({url})")).collect();
    let mut title = format!("{title} · {}", app.name);
    if lines.iter().all(|line| line.alert == lines[0].alert) {
        title = format!("{title} · {}", summary(lines[0].alert, version));
    }
    let list = lines.iter().map(|line| {
        let words = if version == Old { &line.zh } else { &line.en };
        format!("\n- {words}")
    });
    let list: String = list.collect();
    format!(
        "**{title}**\n\n**{section}{count}**{list}\n\n{}",
        urls.join(" / ")
    )
}

impl Chain {
    /// Returns the line about the users of an app, or of one of its platforms, on a day.
    async fn fall(
        &self,
        alert: &'static str,
        app: &App,
        cohort: &str,
        platform: Option<&str>,
        day: NaiveDate,
    ) -> Line {
        let (users, usual) = self.users(app, cohort, platform).await;
        let fewer = ((1.0 - users / usual) * 100.0).round();
        let name = app.name;
        let dashboard = format!(
            "wxapp-portrait-app?var-appid={}&var-cohort={cohort}",
            app.appid
        );
        let (kind_zh, kind) = match Holidays::china().kind(day) {
            DayKind::Workday => ("工作日", "workday"),
            DayKind::Weekend => ("周末", "weekend"),
            DayKind::MakeupWorkday => ("调休上班日：国庆节", "make-up workday: 国庆节"),
            kind => unreachable!("{kind}"),
        };
        let (cohort_zh, zh, en) = (
            if cohort == "new" { "新增" } else { "活跃" },
            platform.map_or(String::new(), |platform| format!("{platform} 平台")),
            platform.map_or(String::new(), |platform| format!(" {platform}")),
        );
        let place = match (platform, cohort) {
            (Some(_), _) => "#platform",
            (None, "new") => "#new",
            (None, _) => "#active",
        };
        Line {
            alert,
            dashboard,
            place,
            zh: format!(
                "{name} {day}（{kind_zh}）{zh}{cohort_zh}用户 {users} 人，较往常（{usual:.0} 人）下降 {fewer}%。"
            ),
            en: format!(
                "{name} had {users} {cohort}{en} users on {day} ({kind}), usually {usual:.0}: {fewer}% fewer."
            ),
        }
    }

    /// Adds an expected message to the product team.
    fn expect_swings(&mut self, state: State, app: &App, lines: &[Line]) {
        self.expect("product", |version| message(version, state, app, lines));
    }

    /// Adds an expected message to operators.
    fn expect_operations(&mut self, state: State, app: &App, line: Line) {
        let lines = [line];
        self.expect("operators", |version| message(version, state, app, &lines));
    }
}

const SHOP: App = app("wx-shop", "商城", 8_000);
const GAME: App = app("wx-game", "消消乐", 30_000);
const NEWS: App = app("wx-news", "资讯", 120_000);
const BOOKS: App = app("wx-books", "书店", 400);
const TINY: App = app("wx-tiny", "小店", 30);

#[expect(clippy::too_many_lines, reason = "ten days, one after the other")]
#[tokio::test(flavor = "multi_thread")]
async fn a_swing_is_reported_once_and_its_end_is_not() {
    let apps = [SHOP, GAME, NEWS, BOOKS, TINY];
    let event = |app: App, what: &str| format!("{}@2026-03-01:{what}", app.appid);
    let events = [
        event(SHOP, "new:0.4"),
        event(GAME, "platform=其他:0"),
        event(NEWS, "all:0.5"),
        event(BOOKS, "all:0.5"),
        event(TINY, "all:0.5"),
        format!("{}@2026-03-05:new:0.4", SHOP.appid),
    ];
    let mut chain = Chain::start(&[Old, New], &apps, &events, "2026-03-01", "1s").await;
    let day = chain.today();
    chain.pass_day().await;
    chain.swing(&[]).await;

    // The figures of the first are available, but may still change.
    chain.poll_at("00:30:00", &[0, 1]).await;
    chain.poll_at("10:30:00", &[0]).await;
    chain.swing(&[]).await;
    // They are final for one of the exporters.
    chain.poll_at("11:30:00", &[0, 1]).await;
    chain
        .swing(&[SHOP, GAME, NEWS, BOOKS].map(|app| app.appid))
        .await;
    let fall =
        async |alert, app, cohort, platform| chain.fall(alert, app, cohort, platform, day).await;
    let vanished = [
        fall("PlatformVanished", &GAME, "active", Some("其他")).await,
        fall("PlatformVanished", &GAME, "new", Some("其他")).await,
    ];
    let both = [
        fall("ActiveUsersSwing", &NEWS, "active", None).await,
        fall("NewUsersSwing", &NEWS, "new", None).await,
    ];
    let new = [fall("NewUsersSwing", &SHOP, "new", None).await];
    let active = [fall("ActiveUsersSwing", &BOOKS, "active", None).await];
    let swings = [
        (SHOP, &new[..]),
        (GAME, &vanished),
        (NEWS, &both),
        (BOOKS, &active),
    ];
    for (app, lines) in swings {
        chain.expect_swings(State::Firing, &app, lines);
    }
    chain.assert_received().await;

    chain.restart(&[0]).await;
    chain.poll_at("12:30:00", &[1]).await;
    chain.restart(&[0, 1]).await;
    chain.poll_at("16:30:00", &[0, 1]).await;

    // From now on there are no new figures of one of the apps.
    chain.wechat.set_fault(BOOKS.appid, "http=502");
    chain.poll_at("00:30:00", &[0, 1]).await;
    chain
        .swing(&[SHOP, GAME, NEWS, BOOKS].map(|app| app.appid))
        .await;
    chain.poll_at("10:30:00", &[0]).await;
    chain.swing(&[BOOKS.appid]).await;
    let failing = || {
        Line {
        alert: "PollFailing",
        dashboard: "wxapp-portrait-exporter".to_owned(),
        place: "",
        zh: "书店 的用户画像（1d）已连续两小时拉取失败，原因：transport。处理方法见小程序页面。".to_owned(),
        en: "Polls for the portraits (1d) of 书店 have failed for two hours, for the reason transport. The exporter's page shows what to do.".to_owned(),
    }
    };
    chain.expect_operations(State::Firing, &BOOKS, failing());
    chain.assert_received().await;

    chain.poll_at("17:30:00", &[0, 1]).await;
    let stale = || {
        Line {
        alert: "Stale",
        dashboard: "wxapp-portrait-exporter".to_owned(),
        place: "?window=1d#data",
        zh: "书店 最新用户画像（1d）为 2026-03-01；每日数据须在两天内（北京时间）获取，逾期无法补取。".to_owned(),
        en: "书店 has 2026-03-01 as its newest portrait (1d): a day is lost when it is not fetched within two days after it (Beijing time).".to_owned(),
    }
    };
    chain.poll_at("18:30:00", &[0, 1]).await;
    chain.expect_operations(State::Firing, &BOOKS, stale());
    chain.assert_received().await;
    chain.pass_day().await;
    chain.poll_at("12:30:00", &[0, 1]).await;
    chain.expect_operations(State::Critical, &BOOKS, stale());
    chain.assert_received().await;

    // The figures of the first are so old that they are removed, without a message to the product team: that
    // would come before that of the next swing of another app.
    chain.pass_day().await;
    chain.swing(&[BOOKS.appid]).await;
    let day = chain.today();
    chain.pass_day().await;
    chain.swing(&[SHOP.appid]).await;
    let lines = [chain.fall("NewUsersSwing", &SHOP, "new", None, day).await];
    chain.expect_swings(State::Firing, &SHOP, &lines);
    chain.assert_received().await;
    chain.pass_day().await;
    chain.swing(&[]).await;

    let books = BOOKS.appid.parse().unwrap();
    chain.wechat.simulator.clear_faults(&books);
    // And a week after the first, which is one of the days to compare with.
    chain.pass_day().await;
    for line in [stale(), stale(), failing()] {
        chain.expect_operations(State::Resolved, &BOOKS, line);
    }
    chain.assert_received().await;
    chain.pass_day().await;
    chain.swing(&[]).await;
    chain.assert_received().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_ordinary_days_cause_no_notifications() {
    assert_silent("2026-04-01", 30).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn sixty_ordinary_days_cause_no_notifications() {
    assert_silent("2026-03-02", 60).await;
}

/// Lets this many days pass until the first of May.
async fn assert_silent(first: &str, days: u32) {
    let apps = [
        app("wx-a", "极小", 30),
        app("wx-b", "小", 400),
        app("wx-c", "中", 8_000),
        app("wx-d", "大", 120_000),
    ];
    let last = apps[2];
    let events = [format!("{}@2026-04-30:new:0.4", last.appid)];
    let mut chain = Chain::start(&[Old], &apps, &events, first, "250ms").await;
    for day in 0..days {
        let is_wrong_at_first = day % 10 == 3;
        chain
            .pass_day_after(|wechat| {
                for app in apps.iter().filter(|_| is_wrong_at_first) {
                    wechat.set_fault(app.appid, "scaled=0.4*1");
                }
            })
            .await;
    }
    for watch in &chain.watches {
        let firing = watch
            .names(r#"max_over_time(ALERTS{alertstate="firing"}[1h])"#)
            .await;
        assert_eq!(firing, BTreeSet::new());
    }
    chain.assert_received().await;

    // And then there is something to report.
    chain.pass_day().await;
    let day = calendar::yesterday(chain.hand.now());
    let lines = [chain.fall("NewUsersSwing", &last, "new", None, day).await];
    chain.expect_swings(State::Firing, &last, &lines);
    chain.assert_received().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holidays_and_make_up_workdays_are_no_swings_and_a_swing_on_such_a_workday_is_one() {
    let office = app("wx-work", "打卡", 8_000);
    let date = |text: &str| text.parse::<NaiveDate>().unwrap();
    let china = Holidays::china();
    // An app for the office: few people use it on weekends and holidays, and on make-up workdays as many as on others.
    let days = date("2026-08-20").iter_days();
    let days = days.take_while(|day| *day <= date("2026-10-12"));
    let events = days.filter_map(|day| match china.kind(day) {
        DayKind::Weekend | DayKind::Holiday => Some(format!("{day}:all:0.4")),
        DayKind::MakeupWorkday => Some(format!("{day}:all:1.5")),
        DayKind::Workday | DayKind::Unknown => None,
    });
    let mut events: Vec<String> = events.collect();
    let makeup = date("2026-10-10");
    events.push(format!("{makeup}:new:0.5"));
    let mut chain = Chain::start(&[Old], &[office], &events, "2026-09-30", "250ms").await;
    while chain.today() < makeup {
        chain.pass_day().await;
        chain.swing(&[]).await;
    }
    chain.pass_day().await;
    chain.swing(&[office.appid]).await;
    let lines = [chain
        .fall("NewUsersSwing", &office, "new", None, makeup)
        .await];
    chain.expect_swings(State::Firing, &office, &lines);
    chain.pass_day().await;
    chain.swing(&[]).await;
    chain.assert_received().await;
}
