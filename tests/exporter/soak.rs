//! A month of an exporter with 200 apps, in nine minutes: nothing that it uses grows.
//!
//! A process of its own runs the command `serve` with a clock that the test moves, so that what is measured is the exporter
//! alone. The clock waits for it on a slow machine. The curve of its memory is drawn into `docs/images/soak.svg`.

#![expect(
    clippy::print_stdout,
    reason = "the test takes minutes and shows what it measured"
)]
#![expect(clippy::cast_precision_loss, reason = "seconds since 1970")]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use wxapp_portrait_exporter::archive::{DayState, Key, Record, Row, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::cli;
use wxapp_portrait_exporter::commands::{self, ProcessContext};
use wxapp_portrait_exporter::portrait::Window::OneDay;
use wxapp_portrait_exporter::simulator::{Settings, Simulator};
use wxapp_portrait_exporter::wechat;

use crate::harness::{Home, Page, Running, WeChat, appid, apps_of, client, eventually, root};

const APPS: usize = 200;

/// An app that reloads add and remove.
const EXTRA: &str = "wxeeeeeeeeeeeeeeee";

/// How many apps have figures of their own in the days before; the others repeat these.
const HISTORIES: usize = 10;

/// Midnight in Beijing.
const START: &str = "2026-06-01T00:00:00+08:00";

/// How many days pass.
const DAYS: i32 = 30;

/// How far the clock is moved for every scrape: a day in eighteen seconds.
const STEP: TimeDelta = TimeDelta::minutes(8);

/// How late a poll may be until the clock waits.
const LATEST: TimeDelta = TimeDelta::hours(6);

/// The days that are archived before, and at any time: more than any day is compared with.
const RETENTION_DAYS: u64 = 130;

/// How often the exporter is scraped.
const SCRAPE: Duration = Duration::from_millis(100);

/// How many scrapes there are for every one without compression, sample of its memory, page for people, and reload.
const PLAIN: u64 = 10;
const SAMPLED: u64 = 5;
const READ: u64 = 10;
const RELOADED: u64 = 20;

/// What the exporter uses at a moment.
struct Sample {
    /// Days since the start.
    day: f64,
    memory_mib: f64,
    threads: f64,
    descriptors: f64,
}

/// The time, as a number of milliseconds since 1970 in a file, for two processes.
#[derive(Clone)]
struct Time(Arc<File>);

impl Time {
    fn open(path: &Path) -> Self {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        Self(Arc::new(file.unwrap()))
    }

    fn set(&self, time: DateTime<Utc>) {
        let bytes = time.timestamp_millis().to_ne_bytes();
        self.0.write_all_at(&bytes, 0).unwrap();
    }

    fn now(&self) -> DateTime<Utc> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        DateTime::from_timestamp_millis(i64::from_ne_bytes(bytes)).unwrap()
    }

    fn clock(&self) -> impl Fn() -> DateTime<Utc> + Send + Sync + use<> {
        let time = self.clone();
        move || time.now()
    }
}

fn start() -> DateTime<Utc> {
    START.parse().unwrap()
}

/// The exporter, as `main` starts it.
#[test]
#[ignore = "another test runs it"]
#[expect(
    clippy::disallowed_methods,
    reason = "the other test sets this variable"
)]
fn run_as_a_child() {
    let Ok(settings) = std::env::var("SOAK") else {
        return;
    };
    let (arguments, time): (Vec<String>, PathBuf) = serde_json::from_str(&settings).unwrap();
    let log = tracing_subscriber::fmt().with_ansi(false);
    log.with_max_level(tracing::Level::INFO).init();
    wechat::install_crypto_provider();
    let (_hangups, hangup) = mpsc::unbounded_channel();
    let context = ProcessContext {
        clock: Arc::new(Time::open(&time).clock()),
        environment: Box::new(|_| None),
        shutdown: Box::pin(std::future::pending()),
        hangup,
    };
    let cli = cli::parse(arguments.into_iter().map(Into::into)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(12)
        .enable_all()
        .build();
    let end = runtime.unwrap().block_on(commands::run(cli, context));
    panic!("it must not end: {:?}", end.err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn a_month_of_200_apps_uses_no_more_memory_descriptors_and_threads_in_the_end() {
    let apps: Vec<String> = (0..APPS).map(|number| format!("wx{number:016x}")).collect();
    let directory = tempfile::tempdir().unwrap();
    let time = directory.path().join("time");
    let clock = Time::open(&time);
    clock.set(start());
    let wechat = WeChat::start(settings(&apps), clock.clock()).await;
    let mut all: Vec<&str> = apps.iter().map(String::as_str).collect();
    all.push(EXTRA);
    let mut home = Home::of(&wechat, &all);
    home.config["poll"] = json!({"interval": "1s"});
    home.config["archive"] = json!({"retention": format!("{RETENTION_DAYS}d")});
    fill(&home, &wechat.simulator, &apps);

    let running = Running::start(command(&home, &time));
    let mut soak = Soak {
        time: clock,
        url: String::new(),
        client: client(),
        apps: home.config["apps"].take(),
        home,
        running,
        scrapes: 0,
        reloads: 0,
        polls: 0.0,
        samples: Vec::new(),
        waits: 0,
        is_late: false,
    };
    soak.run().await;
    soak.report();
    soak.running.stop();
    let log = soak.running.output();
    assert!(
        !log.contains("panicked") && !log.contains("lost for good"),
        "{log}"
    );
    assert_no_day_is_lost(&soak.home, &wechat.simulator, &apps);
}

fn settings(apps: &[String]) -> Settings {
    let apps: Vec<String> = apps.iter().map(|app| format!("{app}=300")).collect();
    let mut apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    apps.push(EXTRA);
    Settings {
        ready_at: NaiveTime::from_hms_opt(10, 0, 0).unwrap(),
        final_at: NaiveTime::from_hms_opt(15, 0, 0).unwrap(),
        ..apps_of(&apps)
    }
}

/// Returns the command that runs the exporter with the time in this file.
fn command(home: &Home, time: &Path) -> Command {
    let arguments = [
        "wxapp-portrait-exporter".to_owned(),
        format!("--config.file={}", home.configure().display()),
        format!("--storage.path={}", home.path("data").display()),
        "--web.listen-address=127.0.0.1:0".to_owned(),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "soak::run_as_a_child",
            "--ignored",
            "--nocapture",
        ])
        .env("NO_PROXY", "127.0.0.1")
        .env("SOAK", json!([arguments, time]).to_string());
    command
}

fn archive(home: &Home) -> Store {
    Store::of_guest(&home.path("data"), Arc::new(start))
}

/// Archives the days before the start.
fn fill(home: &Home, simulator: &Simulator, apps: &[String]) {
    let mut archive = archive(home);
    for days_ago in (2..RETENTION_DAYS + 2).rev() {
        let day = calendar::days_before(calendar::today(start()), days_ago);
        let answered_at = calendar::expected_available_at(day) + TimeDelta::hours(8);
        let row = |app: &String| {
            Row::from(&Record {
                key: Key {
                    appid: appid(app),
                    window: OneDay,
                    reference_date: day,
                },
                state: DayState {
                    first_answered_at: answered_at,
                    answered_at,
                    settled: true,
                    revisions: 0,
                },
                answer: simulator
                    .answer(&appid(app), OneDay, day)
                    .unwrap()
                    .to_string(),
            })
        };
        let rows: Vec<_> = apps[..HISTORIES].iter().map(row).collect();
        let of_app = |(app, row): (&String, &Row)| {
            let mut row = row.clone();
            row.key.appid = appid(app);
            row
        };
        let rows: Vec<_> = apps.iter().zip(rows.iter().cycle()).map(of_app).collect();
        archive.upsert(&rows).unwrap();
    }
}

/// Checks that every day of the month is archived with its final figures.
fn assert_no_day_is_lost(home: &Home, simulator: &Simulator, apps: &[String]) {
    let mut archive = archive(home);
    let first = calendar::today(start());
    // Not the last two, which WeChat still has.
    let days = usize::try_from(DAYS - 2).unwrap();
    for app in apps {
        let records = archive.records(&appid(app), OneDay, first, days).unwrap();
        for (day, record) in first.iter_days().zip(&records) {
            assert_eq!(record.key.reference_date, day, "{app}");
            let answer: Value = serde_json::from_str(&record.answer).unwrap();
            let last = simulator.answer(&appid(app), OneDay, day).unwrap();
            assert_eq!(answer, last, "{app} {day}");
        }
        assert_eq!(records.len(), days, "{app}");
    }
}

/// An exporter that is scraped and reloaded.
struct Soak {
    time: Time,
    url: String,
    client: reqwest::Client,
    /// All apps of the configuration.
    apps: Value,
    home: Home,
    running: Running,
    scrapes: u64,
    reloads: u64,
    polls: f64,
    samples: Vec<Sample>,
    /// How many scrapes the clock has waited.
    waits: u64,
    /// Whether it waits until polls are no longer late.
    is_late: bool,
}

impl Soak {
    async fn run(&mut self) {
        let address = self.running.said("listening address=").await;
        self.url = format!("http://{address}");
        eventually("readiness", async || {
            (self.get("/-/ready", "identity").await.0 == 200).then_some(())
        })
        .await;
        let mut ticks = interval(SCRAPE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.time.now() < start() + TimeDelta::days(DAYS.into()) {
            ticks.tick().await;
            if self.is_late {
                self.waits += 1;
            } else {
                self.time.set(self.time.now() + STEP);
            }
            self.scrape().await;
            if self.scrapes.is_multiple_of(SAMPLED) {
                self.sample();
            }
            if self.scrapes.is_multiple_of(READ) {
                self.read().await;
            }
            if self.scrapes.is_multiple_of(RELOADED) {
                self.reload().await;
            }
        }
        let page = self.get("/metrics", "identity").await.1;
        let polls = Page(String::from_utf8(page).unwrap()).series("wxapp_portrait_polls_total");
        self.polls = polls.values().sum();
    }

    async fn get(&self, path: &str, encoding: &str) -> (u16, Vec<u8>) {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request
            .header("accept-encoding", encoding)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        (status, response.bytes().await.unwrap().into())
    }

    /// Scrapes as Prometheus does, and now and then without compression.
    async fn scrape(&mut self) {
        self.scrapes += 1;
        let is_plain = self.scrapes.is_multiple_of(PLAIN);
        let encoding = if is_plain { "identity" } else { "gzip" };
        let (status, page) = self.get("/metrics", encoding).await;
        assert_eq!(status, 200);
        if is_plain {
            let page = Page(String::from_utf8(page).unwrap());
            let shown = page.series("wxapp_portrait_cohort_users").len();
            assert!(
                shown >= 2 * APPS,
                "{shown} cohorts: {}",
                self.running.output()
            );
            let polls = page.series("wxapp_portrait_next_poll_timestamp_seconds");
            let next = polls.into_values().fold(f64::INFINITY, f64::min);
            let late = self.time.now().timestamp() as f64 - next;
            self.is_late = late > LATEST.as_seconds_f64();
        }
    }

    /// Reads a page for people, or what programs read.
    async fn read(&self) {
        let app = format!(
            "/apps/wx{:016x}",
            usize::try_from(self.scrapes).unwrap() % APPS
        );
        let paths = [
            "/",
            &app,
            "/api/v1/status",
            &format!("{app}.csv"),
            "/sd",
            "/config",
        ];
        let turn = usize::try_from(self.scrapes / READ).unwrap();
        let path = paths[turn % paths.len()];
        let (status, _) = self.get(path, "gzip").await;
        assert_eq!(status, 200, "{path}");
    }

    /// Changes the configuration: labels, the number of apps, what all requests share. Every fifth one is invalid.
    async fn reload(&mut self) {
        self.reloads += 1;
        let is_valid = !self.reloads.is_multiple_of(5);
        self.configure(self.reloads);
        if !is_valid {
            fs::write(self.home.path("wxapp-portrait.yml"), "apps: [").unwrap();
        }
        let request = self.client.post(format!("{}/-/reload", self.url));
        let status = request.send().await.unwrap().status().as_u16();
        assert_eq!(status, if is_valid { 200 } else { 500 });
    }

    /// Writes the configuration of a reload.
    fn configure(&mut self, reload: u64) {
        let mut apps = self.apps.as_array().unwrap().clone();
        if reload.is_multiple_of(3) {
            apps.pop();
        }
        for app in &mut apps[..APPS / 10] {
            app["labels"] = json!({"team": format!("{}", reload % 7)});
        }
        self.home.config["apps"] = json!(apps);
        self.home.config["wechat"]["timeout"] = json!(format!("{}s", 20 + reload % 2));
        self.home.configure();
    }

    fn sample(&mut self) {
        let process = format!("/proc/{}", self.running.id().as_raw_nonzero());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let value = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.unwrap().split_whitespace().next();
            number.unwrap().parse().unwrap()
        };
        let descriptors = fs::read_dir(format!("{process}/fd")).unwrap().count();
        let passed = self.time.now() - start();
        self.samples.push(Sample {
            day: passed.as_seconds_f64() / 86_400.0,
            memory_mib: value("VmRSS:") / 1024.0,
            threads: value("Threads:"),
            descriptors: f64::from(u32::try_from(descriptors).unwrap()),
        });
    }

    /// Prints and draws what was measured, and compares the last third with the one before.
    fn report(&self) {
        let third = f64::from(DAYS) / 3.0;
        let mean = |from: f64, value: fn(&Sample) -> f64| {
            let samples = self.samples.iter();
            let samples = samples.filter(|sample| (from..from + third).contains(&sample.day));
            let (sum, number) = samples.fold((0.0, 0.0), |(sum, number), sample| {
                (sum + value(sample), number + 1.0)
            });
            sum / number
        };
        let of = |value: fn(&Sample) -> f64| [third, 2.0 * third].map(|from| mean(from, value));
        let memory = of(|sample| sample.memory_mib);
        let threads = of(|sample| sample.threads);
        let descriptors = of(|sample| sample.descriptors);
        println!(
            "{DAYS} days of {APPS} apps: {} scrapes, for {} of which the clock waited, {} reloads, {} polls; in the \
             middle and the last third {:.1} and {:.1} MiB of memory, {:.1} and {:.1} threads, {:.1} and {:.1} descriptors",
            self.scrapes,
            self.waits,
            self.reloads,
            self.polls,
            memory[0],
            memory[1],
            threads[0],
            threads[1],
            descriptors[0],
            descriptors[1]
        );
        fs::write(root().join("docs/images/soak.svg"), drawn(&self.samples)).unwrap();
        assert!(memory[1] <= memory[0] * 1.05, "{memory:?}");
        for [middle, last] in [threads, descriptors] {
            assert!(last <= middle + 1.0, "{middle} {last}");
        }
    }
}

/// Draws the memory over the days.
fn drawn(samples: &[Sample]) -> String {
    const WIDTH: f64 = 740.0;
    const HEIGHT: f64 = 240.0;
    const LEFT: f64 = 48.0;
    const RIGHT: f64 = 28.0;
    const BOTTOM: f64 = 28.0;
    let most = samples.iter().map(|sample| sample.memory_mib);
    let most = (most.fold(0.0, f64::max) / 50.0).ceil() * 50.0;
    let x = |day: f64| LEFT + day / f64::from(DAYS) * (WIDTH - LEFT - RIGHT);
    let y = |memory: f64| (HEIGHT - BOTTOM) - memory / most * (HEIGHT - BOTTOM - 20.0);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11" fill="#808080">
<title>Memory of an exporter with {APPS} apps in {DAYS} days</title>
<text x="{LEFT}" y="11">resident memory, MiB</text>
"##
    );
    for step in 0..=2 {
        let memory = most * f64::from(step) / 2.0;
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {0:.1}H{1:.1}" stroke="#808080" stroke-opacity="0.4"/><text x="{2:.1}" y="{3:.1}" text-anchor="end">{memory:.0}</text>"##,
            y(memory),
            WIDTH - RIGHT,
            LEFT - 6.0,
            y(memory) + 4.0
        );
    }
    for step in 0..=3 {
        let day = f64::from(DAYS * step) / 3.0;
        let _ = writeln!(
            svg,
            r##"<path d="M{0:.1} {1:.1}V{2:.1}" stroke="#808080" stroke-opacity="0.4" stroke-dasharray="3"/><text x="{0:.1}" y="{3:.1}" text-anchor="middle">day {day:.0}</text>"##,
            x(day),
            y(0.0),
            y(most),
            HEIGHT - 10.0
        );
    }
    let points = samples
        .iter()
        .map(|sample| format!("{:.1},{:.1}", x(sample.day), y(sample.memory_mib)));
    let points: Vec<_> = points.collect();
    let _ = writeln!(
        svg,
        r##"<polyline points="{}" fill="none" stroke="#3070b3" stroke-width="1.5"/>
</svg>"##,
        points.join(" ")
    );
    svg
}
