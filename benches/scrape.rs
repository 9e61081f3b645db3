//! What a scrape costs, compared with the ordinary way of exporting the same series: the `prometheus`
//! crate's gather and encode. Prints ratios of one run, as times of different runs on a busy
//! machine say little. `cargo bench --bench scrape -- APPS` takes another number of apps.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops on errors"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};
use wxapp_portrait_exporter::exposition::page::{self, Page, WindowLines};
use wxapp_portrait_exporter::portrait::{AppId, Dimension, Portrait, Repairs, Window};
use wxapp_portrait_exporter::simulator::{App, Settings, Simulator};
use wxapp_portrait_exporter::state::{AppSnapshot, Comparison, PolledBy, WindowSnapshot};
use wxapp_portrait_exporter::wechat::decode;

const ROUNDS: u32 = 15;

fn main() {
    let apps = std::env::args()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1000);
    let portraits = portraits(apps);
    let series: usize = portraits
        .iter()
        .map(|(_, portrait)| portrait.rows(&Dimension::ALL).count())
        .sum();

    let page = Page::default();
    let start = Instant::now();
    for (appid, portrait) in &portraits {
        let window = WindowSnapshot {
            reference_date: Some(portrait.reference_date),
            is_shown: true,
            ..WindowSnapshot::new(Window::OneDay)
        };
        let snapshot = AppSnapshot {
            appid: appid.clone(),
            name: appid.to_string(),
            labels: BTreeMap::new(),
            comparison: Comparison::default(),
            windows: vec![window],
            repairs: Repairs::default(),
            polled_by: PolledBy::This,
            is_polled: false,
            next_poll_at: Some(DateTime::UNIX_EPOCH),
            unstored: 0,
            is_restored: true,
        };
        let lines = WindowLines {
            users: Some(page::users(appid, portrait, &Dimension::ALL)),
            past_users: None,
            ..WindowLines::default()
        };
        page.publish(&snapshot, &[lines]);
    }
    let publish = start.elapsed() / u32::try_from(apps).unwrap();
    let registry = registry(&portraits);

    let join = median(|| drain(page.all().gzip()));
    let plain = median(|| drain(page.all().plain()));
    let encode = median(|| {
        TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
            .len()
    });

    println!("{apps} apps, {series} series of users");
    println!(
        "page: {} bytes of text, held and sent as {} bytes of gzip",
        page.all().len(),
        page.all().gzip_len()
    );
    println!("publishing a portrait, once a day:  {publish:>10.1?} an app");
    println!("scrape, gzip joined from pieces:    {join:>10.1?}     1.0");
    println!(
        "scrape, plain inflated from pieces: {plain:>10.1?} {:>7.1}",
        ratio(plain, join)
    );
    println!(
        "prometheus crate, gather, encode:   {encode:>10.1?} {:>7.1}",
        ratio(encode, join)
    );
}

fn portraits(apps: usize) -> Vec<(AppId, Portrait)> {
    let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let apps: Vec<App> = (0..apps)
        .map(|number| format!("wx{number:016x}=100000").parse().unwrap())
        .collect();
    let simulator = Simulator::new(
        Settings {
            apps: apps.clone(),
            ..Settings::default()
        },
        || DateTime::UNIX_EPOCH,
    );
    let portrait = |app: App| {
        let answer = simulator
            .answer(&app.appid, Window::OneDay, day)
            .unwrap()
            .to_string();
        (
            app.appid,
            decode::portrait(answer.as_bytes(), Window::OneDay, day)
                .unwrap()
                .portrait,
        )
    };
    apps.into_iter().map(portrait).collect()
}

/// Holds the same series in the usual way.
fn registry(portraits: &[(AppId, Portrait)]) -> Registry {
    let options = Opts::new("wxapp_portrait_users", "Users.");
    let gauges =
        GaugeVec::new(options, &["appid", "window", "cohort", "dimension", "name"]).unwrap();
    for (appid, portrait) in portraits {
        for (cohort, dimension, name, users) in portrait.rows(&Dimension::ALL) {
            let labels = [
                appid.as_str(),
                "1d",
                cohort.as_str(),
                dimension.as_str(),
                name,
            ];
            #[expect(
                clippy::cast_precision_loss,
                reason = "the crate has no other gauges of this size"
            )]
            gauges.with_label_values(&labels).set(users as f64);
        }
    }
    let registry = Registry::new();
    registry.register(Box::new(gauges)).unwrap();
    registry
}

fn drain(frames: impl Iterator<Item = Bytes>) -> usize {
    frames.map(|frame| black_box(frame).len()).sum()
}

fn median(mut work: impl FnMut() -> usize) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn ratio(time: Duration, to: Duration) -> f64 {
    time.as_secs_f64() / to.as_secs_f64()
}
