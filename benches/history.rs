//! What the days before a portrait cost whenever one arrives, and at every start: reading them from
//! the archive, beside reading all of every answer. Prints ratios of one run.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate};
use wxapp_portrait_exporter::archive::{Archive, Entry};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::config::PAST_DAYS;
use wxapp_portrait_exporter::portrait::{AppId, Dimension, Window};
use wxapp_portrait_exporter::simulator::{Settings, Simulator};
use wxapp_portrait_exporter::wechat::wire;

const ROUNDS: u32 = 25;

fn main() {
    let appid: AppId = "wx0123456789abcdef".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::new(folder.path(), Arc::new(|| DateTime::UNIX_EPOCH));
    let entries = entries(&appid);
    let bytes: usize = entries.iter().map(|entry| entry.answer.len()).sum();
    archive.put(&entries).unwrap();
    let limit = 1 + PAST_DAYS;

    let fetch = median(|| {
        let entries = archive.newest(&appid, Window::OneDay, limit).unwrap();
        black_box(entries);
    });
    let of_past = [Dimension::Gender, Dimension::Platform, Dimension::Age];
    let some = median(|| {
        for entry in &entries {
            let day = entry.reference_date;
            black_box(wire::archived(&entry.answer, entry.window, day, &of_past).unwrap());
        }
    });
    let whole = median(|| {
        for entry in &entries {
            let day = entry.reference_date;
            black_box(wire::portrait(entry.answer.as_bytes(), entry.window, day).unwrap());
        }
    });

    println!(
        "{} days of one app, {bytes} bytes of answers",
        entries.len()
    );
    println!(
        "read from the file:             {fetch:>10.1?} {:>7.1}",
        ratio(fetch, some)
    );
    println!("platform, gender and age of it: {some:>10.1?}     1.0");
    println!(
        "all of it:                      {whole:>10.1?} {:>7.1}",
        ratio(whole, some)
    );
}

fn entries(appid: &AppId) -> Vec<Entry> {
    let newest = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let settings = Settings {
        apps: vec![format!("{appid}=100000").parse().unwrap()],
        ..Settings::default()
    };
    let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
    let entry = |days| {
        let reference_date = calendar::days_before(newest, days);
        let answer = simulator.answer(appid, Window::OneDay, reference_date);
        Entry {
            appid: appid.clone(),
            window: Window::OneDay,
            reference_date,
            answer: answer.unwrap().to_string(),
            first_answered_at: DateTime::UNIX_EPOCH,
            answered_at: DateTime::UNIX_EPOCH,
            settled: true,
            revisions: 0,
        }
    };
    (0..=u64::from(PAST_DAYS)).map(entry).collect()
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

fn ratio(time: Duration, of: Duration) -> f64 {
    time.as_secs_f64() / of.as_secs_f64()
}
