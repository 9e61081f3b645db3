//! What a scrape is made of, in this process: publishing a portrait, once a day, and joining the page; and what stronger
//! compression of a portrait would cost and save.
//!
//! Does not depend on HTTP.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, NaiveDate};
use flate2::{Compress, Compression, FlushCompress};
use wxapp_portrait_exporter::exposition::page::{self, Page, WindowLines};
use wxapp_portrait_exporter::portrait::{AppId, Dimension, Portrait, Window};
use wxapp_portrait_exporter::simulator::{App, Settings, Simulator};
use wxapp_portrait_exporter::state::{AppSnapshot, WindowSnapshot};
use wxapp_portrait_exporter::wechat::decode;

use crate::harness::table::{Figure, Table};
use crate::harness::{Times, millis};

const ROUNDS: u32 = 15;

/// The levels of compression that are compared.
const LEVELS: [u32; 5] = [1, 3, 6, 8, 9];

/// Measures the parts of a page of this many apps.
pub(crate) fn measure(apps: usize) -> Table {
    let portraits = portraits(apps);
    let page = Page::default();
    let start = Instant::now();
    for (appid, portrait) in &portraits {
        let window = WindowSnapshot {
            reference_date: Some(portrait.reference_date),
            is_shown: true,
            ..WindowSnapshot::new(Window::OneDay)
        };
        let snapshot = AppSnapshot {
            next_poll_at: Some(DateTime::UNIX_EPOCH),
            ..AppSnapshot::new(appid.clone(), vec![window])
        };
        let lines = WindowLines {
            users: Some(page::users(appid, portrait, &Dimension::ALL)),
            past_users: None,
            ..WindowLines::default()
        };
        page.publish(&snapshot, &[Some(lines)]);
    }
    let publish = millis(start.elapsed()) / apps as f64;
    let gzip = median(|| drain(page.all().gzip()));
    let plain = median(|| drain(page.all().plain()));
    let mut table = Table::new(vec!["in the process, users only", "ms", "KiB"]);
    let mut add = |label: String, time: f64, bytes: usize| {
        let figures = vec![Figure::new(time, 3), Figure::new(bytes as f64 / 1024.0, 2)];
        table.add(label, figures);
    };
    add("publishing a portrait, per app".to_owned(), publish, 0);
    add("joining all, gzip".to_owned(), gzip, page.all().gzip_len());
    add("joining all, plain".to_owned(), plain, page.all().len());
    let member = page.of(&portraits[0].0).unwrap();
    let text: Vec<u8> = member.plain().flatten().collect();
    for level in LEVELS {
        let mut compress = Compress::new(Compression::new(level), false);
        let mut output = Vec::with_capacity(text.len());
        let time = median(|| {
            compress.reset();
            output.clear();
            let flush = FlushCompress::Full;
            compress.compress_vec(&text, &mut output, flush).unwrap();
            output.len()
        });
        add(
            format!("deflating one app, level {level}"),
            time,
            output.len(),
        );
    }
    table
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

fn drain(frames: impl Iterator<Item = Bytes>) -> usize {
    frames.map(|frame| black_box(frame).len()).sum()
}

/// Returns the median time in milliseconds.
fn median(mut work: impl FnMut() -> usize) -> f64 {
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(work());
            start.elapsed()
        })
        .collect();
    Times::new(times.into_iter()).quantile(0.5)
}
