//! What the days before a portrait cost at every start: their few figures from the archive, compared with
//! reading all of every answer. And what the history on the page of an app costs that is not cached, up to 400
//! days and those that these are compared with. Prints ratios of one run.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops on errors"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate};
use tokio::runtime::Handle;
use wxapp_portrait_exporter::archive::{Archive, DayState, Key, Record, Row, Store};
use wxapp_portrait_exporter::calendar::{self, Clock};
use wxapp_portrait_exporter::expectation::HISTORY_DAYS;
use wxapp_portrait_exporter::past::PAST_DAYS;
use wxapp_portrait_exporter::portrait::{AppId, Window};
use wxapp_portrait_exporter::simulator::{Settings, Simulator};
use wxapp_portrait_exporter::state::{AppSnapshot, WindowSnapshot};
use wxapp_portrait_exporter::web::Histories;
use wxapp_portrait_exporter::wechat::decode;

const ROUNDS: u32 = 25;

fn main() {
    let appid: AppId = "wx0123456789abcdef".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut archive = Store::of_guest(directory.path(), Arc::new(|| DateTime::UNIX_EPOCH));
    let records = records(&appid, u64::from(PAST_DAYS) + 1);
    let bytes: usize = records.iter().map(|record| record.answer.len()).sum();
    let rows: Vec<Row> = records.iter().map(Row::from).collect();
    archive.upsert(&rows).unwrap();
    let limit = PAST_DAYS as usize + 1;

    let figures = median(|| {
        let window = Window::OneDay;
        black_box(
            archive
                .restore(&appid, window, limit, NaiveDate::MAX)
                .unwrap(),
        );
    });
    let whole = median(|| {
        for record in &records {
            let Key {
                window,
                reference_date,
                ..
            } = record.key;
            let answer = archive.answer(&record.key).unwrap().unwrap();
            black_box(decode::archived(&answer, window, reference_date).unwrap());
        }
    });

    println!(
        "{} days of one app, {bytes} bytes of responses",
        records.len()
    );
    println!("figures and the newest response: {figures:>10.1?}     1.0");
    println!(
        "all of every response:           {whole:>10.1?} {:>7.1}",
        ratio(whole, figures)
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(pages(&appid));
}

async fn pages(appid: &AppId) {
    let directory = tempfile::tempdir().unwrap();
    let clock: Clock = Arc::new(|| DateTime::UNIX_EPOCH);
    let records = records(appid, 400 + HISTORY_DAYS as u64);
    let rows = records.iter().map(|record| Arc::new(Row::from(record)));
    let archive = Archive::open(Store::of_owner(directory.path(), clock), |_| ()).unwrap();
    archive.upsert(rows.collect()).await.unwrap();
    let window = WindowSnapshot {
        reference_date: Some(records[0].key.reference_date),
        coverage: archive
            .coverage(appid.clone(), Window::OneDay)
            .await
            .unwrap(),
        ..WindowSnapshot::new(Window::OneDay)
    };
    let app = AppSnapshot {
        next_poll_at: Some(DateTime::UNIX_EPOCH),
        ..AppSnapshot::new(appid.clone(), Vec::new())
    };
    let runtime = Handle::current();
    println!("the history of an app that is not cached, and the part of the archive in it");
    for days in [30, 90, 400] {
        let read = |days| {
            let begin = calendar::days_before(records[0].key.reference_date, days);
            let days = archive.history(appid.clone(), Window::OneDay, begin);
            let days = runtime.block_on(days).unwrap().into_iter();
            days.map(|day| day.read(Window::OneDay)).collect::<Vec<_>>()
        };
        let compute = || {
            let histories = Histories::default();
            let history = histories.get(&archive, &app, &window, days);
            runtime.block_on(history).unwrap()
        };
        let (whole, read) = tokio::task::block_in_place(|| {
            let lead = HISTORY_DAYS as u64;
            let whole = median(|| {
                black_box(compute());
            });
            let read = median(|| {
                black_box(read(days - 1 + lead));
            });
            (whole, read)
        });
        println!(
            "{days} days: {whole:>10.1?}     1.0 {read:>10.1?} {:>7.2}",
            ratio(read, whole)
        );
    }
    archive.close().await;
}

fn records(appid: &AppId, days: u64) -> Vec<Record> {
    let newest = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
    let settings = Settings {
        apps: vec![format!("{appid}=100000").parse().unwrap()],
        ..Settings::default()
    };
    let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
    let record = |days| {
        let reference_date = calendar::days_before(newest, days);
        let answer = simulator.answer(appid, Window::OneDay, reference_date);
        Record {
            key: Key {
                appid: appid.clone(),
                window: Window::OneDay,
                reference_date,
            },
            state: DayState {
                first_answered_at: DateTime::UNIX_EPOCH,
                answered_at: DateTime::UNIX_EPOCH,
                settled: true,
                revisions: 0,
            },
            answer: answer.unwrap().to_string(),
        }
    };
    (0..days).map(record).collect()
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
