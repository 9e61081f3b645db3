//! What a cycle of polls costs: the real program beside a bare loop that sends the same requests, as many at
//! once, and keeps nothing; and the CPU time of the parts, each alone in this process.
//!
//! The archive is empty, so every app needs a token and two days. A WeChat that responds at once takes more
//! of the processors than the exporter; one that is far away leaves time.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate};
use futures_util::{StreamExt as _, stream};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use wxapp_portrait_exporter::archive::{DayState, Key, Row, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::exposition::page::{self, Page, WindowLines};
use wxapp_portrait_exporter::past::{PAST_DAYS, PastDays};
use wxapp_portrait_exporter::portrait::{AppId, Dimension, Portrait, Window};
use wxapp_portrait_exporter::simulator::{App, Settings, Simulator, secret_of};
use wxapp_portrait_exporter::state::{AppSnapshot, Comparison, Summary, WindowSnapshot};
use wxapp_portrait_exporter::wechat::{decode, install_crypto_provider};

use crate::harness::fixture::{DAYS, Home, yesterday};
use crate::harness::program::{Exporter, WeChat, binary};
use crate::harness::table::{Figure, Table};
use crate::harness::{Times, millis};

/// Numbers of apps of a run without arguments.
const SIZES: [usize; 2] = [1000, 10_000];

/// As `poll.concurrency` by default.
const CONCURRENCY: usize = 8;

/// After what time WeChat responds.
const LATENCIES: [&str; 2] = ["0ms", "50ms"];

/// How many days of every app are requested.
const DAYS_DUE: u64 = 2;

/// The goal for the time of a cycle, compared with the bare loop.
const CYCLE: f64 = 1.2;

/// No cycle takes as long.
const DEADLINE: Duration = Duration::from_mins(30);

/// How often WeChat's count of requests is read.
const PERIOD: Duration = Duration::from_millis(500);

/// The dimensions of past days, as by default.
const PAST_DIMENSIONS: [Dimension; 3] = [Dimension::Platform, Dimension::Gender, Dimension::Age];

/// Of how many apps the parts are measured.
const APPS: usize = 20;

/// Measures cycles of these numbers of apps, and prints tables.
pub(crate) fn measure(sizes: &[String]) {
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    let sizes = if sizes.is_empty() { &SIZES[..] } else { &sizes };
    let mut table = Table::new(vec![
        "apps, WeChat responds after",
        "portraits",
        "bare loop s",
        "exporter s",
        "x bare loop",
        "bare loop, CPU ms/portrait",
        "exporter, CPU ms/portrait",
    ]);
    let mut request = f64::NAN;
    for (latency, apps) in LATENCIES
        .into_iter()
        .flat_map(|latency| sizes.iter().map(move |apps| (latency, *apps)))
    {
        let home = Home::new(apps, &Window::ALL[..1]);
        let portraits = apps as f64 * DAYS_DUE as f64;
        let bare = bare_loop(&home, latency);
        let own = exporter(&home, latency);
        let of_bare = millis(bare.cpu) / portraits;
        if request.is_nan() {
            request = of_bare;
        }
        let ratio = own.wall.as_secs_f64() / bare.wall.as_secs_f64();
        let figures = vec![
            Figure::new(portraits, 0),
            Figure::new(bare.wall.as_secs_f64(), 1),
            Figure::new(own.wall.as_secs_f64(), 1),
            Figure::new(ratio, 2).at_most(CYCLE),
            Figure::new(of_bare, 3),
            Figure::new(millis(own.cpu) / portraits, 3),
        ];
        table.add(format!("{apps}, {latency}"), figures);
        eprintln!("{apps} apps, {latency}: measured");
    }
    println!("{}\n\n{table}\n\n{}", binary().display(), parts(request));
}

/// What a cycle took.
struct Cycle {
    wall: Duration,
    cpu: Duration,
}

fn start_wechat(home: &Home, latency: &str) -> WeChat {
    let delay = |app: &App| format!("--fault={}=portrait:delay={latency}", app.appid);
    let flags: Vec<_> = match latency {
        "0ms" => Vec::new(),
        _ => home.apps.iter().map(delay).collect(),
    };
    WeChat::start_with(home, &flags)
}

/// Starts the exporter, and waits until it has requested everything.
fn exporter(home: &Home, latency: &str) -> Cycle {
    let wechat = start_wechat(home, latency);
    let start = Instant::now();
    let exporter = Exporter::start(home, wechat.port);
    let expected = home.apps.len() as u64 * DAYS_DUE;
    while wechat.portrait_requests().iter().sum::<u64>() < expected {
        assert!(start.elapsed() < DEADLINE, "some apps were not polled");
        sleep(PERIOD);
    }
    let wall = start.elapsed();
    // What has arrived is archived and published; among many apps some are always due again.
    sleep(Duration::from_secs(1));
    let cpu = exporter.cpu();
    Cycle { wall, cpu }
}

/// Sends the requests of a cycle, and reads the answers.
fn bare_loop(home: &Home, latency: &str) -> Cycle {
    let wechat = start_wechat(home, latency);
    install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://127.0.0.1:{}", wechat.port);
    let post = async |path: &str, body: Value| {
        let request = client.post(format!("{base}/{path}")).body(body.to_string());
        let response = request.send().await.unwrap().error_for_status().unwrap();
        response.bytes().await.unwrap()
    };
    let poll = async |app: &App| {
        let appid = &app.appid;
        let token = json!({"grant_type": "client_credential", "appid": appid.as_str(), "secret": secret_of(appid)});
        let token = post("cgi-bin/stable_token", token).await;
        let token: Value = serde_json::from_slice(&token).unwrap();
        let token = token["access_token"].as_str().unwrap();
        let path = format!("datacube/getweanalysisappiduserportrait?access_token={token}");
        for days in 0..DAYS_DUE {
            let day = calendar::days_before(yesterday(), days);
            let day = day.format("%Y%m%d").to_string();
            let answer = post(&path, json!({"begin_date": day, "end_date": day})).await;
            assert!(answer.len() > 1000, "{}", String::from_utf8_lossy(&answer));
        }
    };
    let (start, before) = (Instant::now(), time(ClockId::ProcessCPUTime));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let polls = stream::iter(&home.apps).map(poll);
        polls.buffer_unordered(CONCURRENCY).count().await
    });
    let wall = start.elapsed();
    drop(wechat);
    Cycle {
        wall,
        cpu: time(ClockId::ProcessCPUTime).saturating_sub(before),
    }
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

/// Measures the parts of what happens to an answer; `request` is what a request costs without it, in
/// milliseconds.
fn parts(request: f64) -> Table {
    let mut table = Table::new(vec!["part", "CPU ms/portrait"]);
    let mut add = |part: &str, cpu: f64| table.add(part.to_owned(), vec![Figure::new(cpu, 3)]);
    add("request, with its share of a token", request);
    let answers: Vec<_> = (0..APPS).map(answers).collect();
    let window = Window::OneDay;
    let decode = |day: &NaiveDate, text: &String| {
        decode::portrait(text.as_bytes(), window, *day)
            .unwrap()
            .portrait
    };
    let newest = || answers.iter().map(|(appid, days)| (appid, &days[0]));

    let decoded = median(newest(), |(_, (day, text))| {
        black_box(decode(day, text));
    });
    add("decode", decoded);

    let state = DayState {
        first_answered_at: DateTime::UNIX_EPOCH,
        answered_at: DateTime::UNIX_EPOCH,
        settled: false,
        revisions: 0,
    };
    let pack = |appid: &AppId, day: NaiveDate, text: &str, portrait: &Portrait| {
        let key = Key {
            appid: appid.clone(),
            window,
            reference_date: day,
        };
        Row::new(key, state, text, Some(portrait))
    };
    let portraits = newest().map(|(appid, (day, text))| (appid, *day, text, decode(day, text)));
    let portraits: Vec<_> = portraits.collect();
    let packed = median(portraits.iter(), |(appid, day, text, portrait)| {
        black_box(pack(appid, *day, text, portrait));
    });
    add("archive: digest and compression", packed);

    let directory = tempfile::tempdir().unwrap();
    let mut store = Store::of_guest(directory.path(), Arc::new(|| DateTime::UNIX_EPOCH));
    store.open().unwrap();
    let rows = portraits
        .iter()
        .map(|(appid, day, text, portrait)| pack(appid, *day, text, portrait));
    let rows: Vec<_> = rows.collect();
    let written = median(rows.iter(), |row| {
        store.upsert([row]).unwrap();
    });
    add("archive: transaction", written);

    for days in [1, DAYS] {
        let cases = answers.iter().map(|(appid, answers)| {
            let mut past = PastDays::new(window, &PAST_DIMENSIONS);
            for (day, text) in answers[..=days].iter().rev() {
                past.insert(&decode(day, text));
            }
            let (day, text) = &answers[0];
            (appid, decode(day, text), past)
        });
        let cases: Vec<_> = cases.collect();
        let page = Page::default();
        let published = median(cases.iter(), |(appid, portrait, past)| {
            publish(&page, appid, portrait.clone(), past);
        });
        let of_days = if days == 1 { "a day" } else { "35 days" };
        add(&format!("publish, after {of_days}"), published);
    }
    table
}

/// Returns an app and its answers, the newest day first.
fn answers(number: usize) -> (AppId, Vec<(NaiveDate, String)>) {
    let app: App = format!("wx{number:016x}=100000").parse().unwrap();
    let settings = Settings {
        apps: vec![app.clone()],
        ..Settings::default()
    };
    let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
    let answers = (0..=DAYS as u64).map(|days| {
        let day = calendar::days_before(yesterday(), days);
        let answer = simulator.answer(&app.appid, Window::OneDay, day);
        (day, answer.unwrap().to_string())
    });
    let answers = answers.collect();
    (app.appid, answers)
}

/// Renders a portrait with the days before it, and puts it on the page.
fn publish(page: &Page, appid: &AppId, mut portrait: Portrait, past: &PastDays) {
    let dimensions = Dimension::ALL;
    let days = [1, 7, 14, 21, PAST_DAYS].map(|days_ago| {
        let day = calendar::days_before(portrait.reference_date, days_ago.into());
        (days_ago, day)
    });
    let aligned = past.align(
        &mut portrait,
        &BTreeMap::new(),
        days.iter().map(|(_, day)| *day),
    );
    let past_days = days.iter().filter_map(|(days_ago, day)| {
        let portrait = aligned.iter().find(|past| past.reference_date == *day)?;
        Some((*days_ago, portrait))
    });
    let past_days: Vec<_> = past_days.collect();
    let summary = Summary::new(&portrait, past, &Comparison::default(), &dimensions);
    let lines = WindowLines {
        users: Some(page::users(appid, &portrait, &dimensions)),
        past_users: Some(page::past_users(appid, &past_days, &PAST_DIMENSIONS)),
        summary: page::summary(appid, portrait.window, &summary),
    };
    let window = WindowSnapshot {
        reference_date: Some(portrait.reference_date),
        is_shown: true,
        ..WindowSnapshot::new(portrait.window)
    };
    let snapshot = AppSnapshot {
        next_poll_at: Some(DateTime::UNIX_EPOCH),
        ..AppSnapshot::new(appid.clone(), vec![window])
    };
    page.publish(&snapshot, &[Some(lines)]);
}

/// Returns the median CPU time of work, in milliseconds.
fn median<T>(cases: impl Iterator<Item = T> + Clone, mut work: impl FnMut(T)) -> f64 {
    let mut times = Vec::new();
    // The first round fills caches.
    for (round, cases) in std::iter::repeat_n(cases, 4).enumerate() {
        for case in cases {
            let before = time(ClockId::ThreadCPUTime);
            work(case);
            if round > 0 {
                times.push(time(ClockId::ThreadCPUTime).saturating_sub(before));
            }
        }
    }
    Times::new(times.into_iter()).quantile(0.5)
}
