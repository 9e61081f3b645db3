//! Simulated years of daily users, and what the bundled rules find in them: how often they raise false
//! alarms, and what they detect. What is expected of a day, and which alerts follow, is decided by the
//! code of the exporter; a test holds it and the rules together.
//!
//! `cargo bench --bench backtest -- [apps of each kind] [noise | calendar | trend | events]…`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, stops on errors, and its figures are small"
)]

mod simulation;

use std::ops::Range;

use chrono::{Datelike as _, NaiveDate, Weekday};
use wxapp_portrait_exporter::calendar::{DayKind, Holidays};
use wxapp_portrait_exporter::expectation::Alert;

use simulation::{Days, EVEN, FOOD, Factors, OFFICE, Profile, Series, TRAVEL};

const YEAR: usize = 365;
const HALF: Factors = [0.5; 3];
const LESS_30: Factors = [0.7; 3];
const DOUBLE: Factors = [2.0; 3];

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|text| !text.starts_with("--"))
        .collect();
    let apps = arguments
        .iter()
        .find_map(|text| text.parse().ok())
        .unwrap_or(20);
    let wanted = |table: &str| {
        let mut tables = arguments
            .iter()
            .filter(|text| text.parse::<u64>().is_err())
            .peekable();
        tables.peek().is_none() || tables.any(|text| text == table)
    };
    println!("{apps} apps of each kind, a year each unless stated otherwise\n");
    if wanted("noise") {
        noise(apps);
    }
    if wanted("calendar") {
        calendar(apps);
    }
    if wanted("trend") {
        trend(apps);
    }
    if wanted("events") {
        events(apps);
    }
}

fn date(year: i32, month: u32, day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(year, month, day).unwrap()
}

/// Runs work for every app on all processors, and adds up what it returns.
fn of_apps<const COUNTS: usize>(
    apps: u64,
    work: impl Fn(u64) -> [f64; COUNTS] + Sync,
) -> [f64; COUNTS] {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let results = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mine = (thread..apps).step_by(threads as usize);
                    mine.map(work).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut sum = [0.0; COUNTS];
    for result in results {
        for (sum, value) in sum.iter_mut().zip(result) {
            *sum += value;
        }
    }
    sum
}

fn row(cells: impl IntoIterator<Item = String>) {
    println!("| {} |", cells.into_iter().collect::<Vec<_>>().join(" | "));
}

fn header(cells: &[&str]) {
    row(cells.iter().map(|cell| (*cell).to_owned()));
    row(cells.iter().map(|_| "---".to_owned()));
}

fn percent(share: f64) -> String {
    if share.is_nan() {
        "–".to_owned()
    } else {
        format!("{:.0}%", 100.0 * share)
    }
}

fn swings(series: &Series<'_>, day: usize) -> bool {
    series
        .expect(day)
        .alerts(series.counted(day))
        .contains(&Alert::UsersSwing)
}

/// Returns whether a day multiplied by these raises an alert.
fn is_detected(
    series: &mut Series<'_>,
    day: usize,
    factors: Factors,
    is_wanted: impl Fn(&Alert<'_>) -> bool,
) -> bool {
    let changed = series.count(day, factors);
    let before = series.replace(day, changed);
    let is_detected = series
        .expect(day)
        .alerts(series.counted(day))
        .iter()
        .any(is_wanted);
    series.replace(day, before);
    is_detected
}

fn is_swing(alert: &Alert<'_>) -> bool {
    *alert == Alert::UsersSwing
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

/// False alarms and detection for apps without events, by noise and size.
fn noise(apps: u64) {
    println!("Noise\n");
    header(&[
        "noise",
        "users a day",
        "false alarms a year: swing",
        "drift",
        "of platforms",
        "shares",
        "whole app",
        "detected: halving",
        "-30%",
        "doubling",
        "half of the iPhones gone",
        "share of 50% falls to 35%",
    ]);
    let days = Days::new(date(2024, 1, 1), YEAR, Holidays::none());
    for noise in [0.05, 0.1, 0.15, 0.2, 0.3] {
        for mean in [30.0, 100.0, 300.0, 1_000.0, 10_000.0] {
            let counts = of_apps(apps, |app| {
                let mut counts = [0.0; 10];
                let mut drifting = false;
                let mut series = Series::new(&days, Profile::steady(mean, noise), app);
                let active =
                    Series::new(&days, Profile::steady(8.0 * mean, noise), app + 1_000_000);
                for day in days.trials() {
                    let of = |series: &Series<'_>| {
                        let expectation = series.expect(day);
                        let alerts = expectation.alerts(series.counted(day));
                        let mut kinds = [0.0; 4];
                        for alert in alerts {
                            let kind = match alert {
                                Alert::UsersSwing => 0,
                                Alert::UsersDrift => 1,
                                Alert::PlatformShareShift(_) => 3,
                                _ => 2,
                            };
                            kinds[kind] += 1.0;
                        }
                        kinds
                    };
                    let [swing, drift, platforms, shares] = of(&series);
                    let drift_begins = flag(drift > 0.0 && !drifting);
                    drifting = drift > 0.0;
                    let of_active = of(&active);
                    let all = [
                        swing,
                        drift_begins,
                        platforms,
                        shares,
                        swing
                            + platforms
                            + shares
                            + drift_begins
                            + of_active[0]
                            + of_active[2]
                            + of_active[3],
                    ];
                    for (count, value) in counts.iter_mut().zip(all) {
                        *count += value;
                    }
                    let trials: [(Factors, fn(&Alert<'_>) -> bool); 5] = [
                        (HALF, is_swing),
                        (LESS_30, is_swing),
                        (DOUBLE, is_swing),
                        ([0.5, 1.0, 1.0], |_| true),
                        ([0.7, 4.0 / 3.0, 1.0], |_| true),
                    ];
                    for (count, (factors, wanted)) in counts[5..].iter_mut().zip(trials) {
                        *count += flag(is_detected(&mut series, day, factors, wanted));
                    }
                }
                counts
            });
            let years = apps as f64;
            let mut cells = vec![percent(noise), mean.to_string()];
            cells.extend(
                counts[..5]
                    .iter()
                    .map(|count| format!("{:.1}", count / years)),
            );
            cells.extend(
                counts[5..]
                    .iter()
                    .map(|count| percent(count / years / YEAR as f64)),
            );
            row(cells);
        }
    }
    println!();
}

/// Alarms and detection in three Chinese years.
fn calendar(apps: u64) {
    println!("Chinese calendar, 2023 to 2025; at least 1000 users on every kind of day\n");
    header(&[
        "app",
        "noise",
        "alarms a year: swing",
        "on holidays",
        "on make-up workdays",
        "in the 28 days after",
        "drift",
        "halving detected: Mondays",
        "Saturdays",
        "make-up workdays",
        "1 to 7 days after a holiday",
        "8 to 28",
        "other",
        "doubling detected: Mondays",
        "Saturdays",
        "make-up workdays",
        "1 to 7 days after",
        "8 to 28",
        "other",
    ]);
    let years = 3;
    let days = Days::new(date(2022, 9, 11), years * YEAR, Holidays::china());
    for habit in [OFFICE, FOOD, TRAVEL, EVEN] {
        for noise in [0.1, 0.2] {
            let profile = Profile {
                habit,
                mean: 3_500.0,
                noise,
                growth: 0.0,
            };
            let counts = of_apps(apps, |app| {
                let mut series = Series::new(&days, profile, app);
                let mut alarms = [0.0; 5];
                let mut groups = [[0.0; 6]; 3];
                let mut after = usize::MAX;
                let mut drifting = false;
                for day in days.trials() {
                    let kind = days.kind(day);
                    after = if kind == DayKind::Holiday {
                        0
                    } else {
                        after.saturating_add(1)
                    };
                    let expectation = series.expect(day);
                    let found = expectation.alerts(series.counted(day));
                    if found.contains(&Alert::UsersSwing) {
                        alarms[0] += 1.0;
                        match kind {
                            DayKind::Holiday => alarms[1] += 1.0,
                            DayKind::MakeupWorkday => alarms[2] += 1.0,
                            _ if after <= 28 => alarms[3] += 1.0,
                            _ => {}
                        }
                    }
                    let drifts = found.contains(&Alert::UsersDrift);
                    alarms[4] += flag(drifts && !drifting);
                    drifting = drifts;
                    if kind == DayKind::Holiday {
                        continue;
                    }
                    let weekday = days.date(day).weekday();
                    let is_of = [
                        kind == DayKind::Workday && weekday == Weekday::Mon,
                        kind == DayKind::Weekend && weekday == Weekday::Sat,
                        kind == DayKind::MakeupWorkday,
                        kind != DayKind::MakeupWorkday && (1..=7).contains(&after),
                        kind != DayKind::MakeupWorkday && (8..=28).contains(&after),
                        kind != DayKind::MakeupWorkday && after > 28,
                    ];
                    let detected = [HALF, DOUBLE]
                        .map(|factors| flag(is_detected(&mut series, day, factors, is_swing)));
                    for group in 0..6 {
                        groups[0][group] += flag(is_of[group]);
                        for trial in 0..2 {
                            groups[trial + 1][group] += flag(is_of[group]) * detected[trial];
                        }
                    }
                }
                let mut counts = [0.0; 23];
                let all = alarms.into_iter().chain(groups.into_iter().flatten());
                for (count, value) in counts.iter_mut().zip(all) {
                    *count = value;
                }
                counts
            });
            let mut cells = vec![habit.name.to_owned(), percent(noise)];
            cells.extend(
                counts[..5]
                    .iter()
                    .map(|count| format!("{:.1}", count / apps as f64 / years as f64)),
            );
            for trial in [11, 17] {
                cells
                    .extend((0..6).map(|group| percent(counts[trial + group] / counts[5 + group])));
            }
            row(cells);
        }
    }
    println!();
}

/// False alarms and detection for apps that grow or decline steadily.
fn trend(apps: u64) {
    println!("Steady growth; 1000 users a day in the beginning, 10% noise, half a year\n");
    header(&[
        "growth a week",
        "false alarms a year: swing",
        "drift",
        "halving detected",
        "doubling",
    ]);
    let days = Days::new(date(2024, 1, 1), YEAR / 2, Holidays::none());
    for growth in [-0.1, -0.05, 0.0, 0.05, 0.1, 0.2] {
        // Never below 1,000 users on a day that is tried.
        let mean = if growth < 0.0 {
            1_000.0 / f64::powf(1.0 + growth, 26.0)
        } else {
            1_000.0
        };
        let profile = Profile {
            growth,
            ..Profile::steady(mean, 0.1)
        };
        let counts = of_apps(apps, |app| {
            let mut series = Series::new(&days, profile, app);
            let mut counts = [0.0; 4];
            let mut drifting = false;
            for day in days.trials() {
                let drifts = series
                    .expect(day)
                    .alerts(series.counted(day))
                    .contains(&Alert::UsersDrift);
                counts[0] += flag(swings(&series, day));
                counts[1] += flag(drifts && !drifting);
                drifting = drifts;
                counts[2] += flag(is_detected(&mut series, day, HALF, is_swing));
                counts[3] += flag(is_detected(&mut series, day, DOUBLE, is_swing));
            }
            counts
        });
        let trials = apps as f64 * days.trials().len() as f64;
        let mut cells = vec![format!("{:+.0}%", growth * 100.0)];
        cells.extend(
            counts[..2]
                .iter()
                .map(|count| format!("{:.1}", count / trials * 365.0)),
        );
        cells.extend(counts[2..].iter().map(|count| percent(count / trials)));
        row(cells);
    }
    println!();
}

/// An event: by what the users of a day are multiplied, from its number after the beginning.
struct Event {
    name: &'static str,
    factor: fn(usize, f64) -> f64,
    /// The days after the beginning in which its first alert counts.
    within: usize,
    /// How long it lasts, at most; after that there may be echoes.
    lasts: usize,
}

const FOR_GOOD: usize = 1_000;

const EVENTS: [Event; 8] = [
    Event {
        name: "halved for good",
        factor: |_, _| 0.5,
        within: 1,
        lasts: FOR_GOOD,
    },
    Event {
        name: "halved for good, from a random hour on",
        factor: |day, hour| if day == 0 { 1.0 - 0.5 * hour } else { 0.5 },
        within: 3,
        lasts: FOR_GOOD,
    },
    Event {
        name: "-30% for good",
        factor: |_, _| 0.7,
        within: 7,
        lasts: FOR_GOOD,
    },
    Event {
        name: "-3% a day",
        factor: |day, _| 0.97_f64.powf(1.0 + day as f64),
        within: 21,
        lasts: FOR_GOOD,
    },
    Event {
        name: "x0.2 for a day",
        factor: |day, _| if day < 1 { 0.2 } else { 1.0 },
        within: 1,
        lasts: 1,
    },
    Event {
        name: "x3 for a day",
        factor: |day, _| if day < 1 { 3.0 } else { 1.0 },
        within: 1,
        lasts: 1,
    },
    Event {
        name: "x3 for seven days",
        factor: |day, _| if day < 7 { 3.0 } else { 1.0 },
        within: 1,
        lasts: 7,
    },
    Event {
        name: "x0.3 for eight days",
        factor: |day, _| if day < 8 { 0.3 } else { 1.0 },
        within: 1,
        lasts: 8,
    },
];

/// How many days are replayed from the beginning of an event.
const REPLAYED: usize = 49;

fn events(apps: u64) {
    println!("Events; 1000 users a day, two beginnings a month\n");
    header(&[
        "event",
        "noise",
        "detected on the day",
        "by a swing or drift within",
        "further swings in days 1 to 6",
        "after that until day 48",
        "drifts",
        "halving detected 1 to 28 days after",
        "doubling",
    ]);
    let days = Days::new(date(2024, 1, 1), YEAR + REPLAYED, Holidays::none());
    for event in &EVENTS {
        for noise in [0.1, 0.2] {
            let counts = of_apps(apps, |app| {
                let mut counts = [0.0; 9];
                for onset in days.trials().step_by(15).take(24) {
                    let mut series = Series::new(&days, Profile::steady(1_000.0, noise), app);
                    let hour = onset as f64 * 0.618 % 1.0;
                    let mut first = None;
                    let mut drifting = false;
                    counts[0] += 1.0;
                    for number in 0..REPLAYED {
                        let day = onset + number;
                        let factors = [(event.factor)(number, hour); 3];
                        let users = series.count(day, factors);
                        series.replace(day, users);
                        let expectation = series.expect(day);
                        let found = expectation.alerts(series.counted(day));
                        let drifts = found.contains(&Alert::UsersDrift);
                        counts[6] += flag(drifts && !drifting);
                        let begins = drifts && !drifting;
                        drifting = drifts;
                        let swing = found.contains(&Alert::UsersSwing);
                        counts[1] += flag(swing && number == 0);
                        if first.is_none() && (swing || begins) {
                            counts[2] += flag(number < event.within);
                            first = Some(number);
                        } else if swing {
                            counts[if number < 7 { 3 } else { 4 }] += 1.0;
                        }
                        let after = number.wrapping_sub(event.lasts);
                        if after < 28 {
                            counts[5] += 1.0;
                            counts[7] += flag(is_detected(&mut series, day, HALF, is_swing));
                            counts[8] += flag(is_detected(&mut series, day, DOUBLE, is_swing));
                        }
                    }
                }
                counts
            });
            let [
                events,
                at_once,
                within,
                soon,
                later,
                trials,
                drifts,
                halving,
                doubling,
            ] = counts;
            row([
                event.name.to_owned(),
                percent(noise),
                percent(at_once / events),
                format!(
                    "{} in {}",
                    percent(within / events),
                    day_count(event.within..event.within)
                ),
                format!("{:.2}", soon / events),
                format!("{:.2}", later / events),
                format!("{:.2}", drifts / events),
                percent(halving / trials),
                percent(doubling / trials),
            ]);
        }
    }
    println!();
}

fn day_count(days: Range<usize>) -> String {
    if days.start == 1 {
        "a day".to_owned()
    } else {
        format!("{} days", days.start)
    }
}
