//! Alarms and detection in three years of the Chinese calendar.

use chrono::{Datelike as _, NaiveDate, Weekday};
use wxapp_portrait_exporter::calendar::{DayKind, Holidays};
use wxapp_portrait_exporter::expectation::HISTORY_DAYS;

use crate::replay::{Days, Found, RULES, Rule, is_swing};
use crate::simulation::{App, DOUBLE, EVEN, FOOD, Factors, HALF, OFFICE, Profile, TRAVEL};
use crate::tally::{Table, Tally, percent, tally};

/// The days of 2023 to 2025.
const DAYS: usize = 1_096;

pub(crate) fn print(apps: u64) {
    let mut table = Table::new(
        &format!(
            "Calendar: {apps} apps in China from 2023 to 2025. Swings are alerts a year about all users, on \
             all days, then those of them on some kinds of days; a drift counts when it begins. Detection \
             is the share of such days on which halving or doubling all users raises a swing at once; \
             holidays are not tried. Apps with 3500 users a day have at least 1000 on workdays and \
             weekends."
        ),
        &["app", "users a day", "noise", "rule"],
    );
    let first =
        NaiveDate::from_ymd_opt(2023, 1, 1).unwrap() - chrono::Days::new(HISTORY_DAYS as u64);
    let days = Days::new(first, HISTORY_DAYS + DAYS, Holidays::china());
    let mut profiles = Vec::new();
    for habit in [OFFICE, FOOD, TRAVEL, EVEN] {
        profiles.extend([(habit, 3_500.0, 0.1), (habit, 3_500.0, 0.2)]);
    }
    profiles.insert(2, (OFFICE, 300.0, 0.15));
    for (habit, mean, noise) in profiles {
        let profile = Profile {
            habit,
            ..Profile::steady(mean, noise)
        };
        for (name, rule) in RULES {
            let counts = tally(apps, |seed, tally| {
                count(&mut App::new(&days, profile, seed), &days, rule, tally);
            });
            let labels = [
                habit.name.to_owned(),
                mean.to_string(),
                percent(noise),
                name.to_owned(),
            ];
            table.row(&labels, &counts);
        }
    }
}

fn count(app: &mut App<'_>, days: &Days, rule: Rule, tally: &mut Tally) {
    let mut since_holiday = usize::MAX;
    let mut previous = Found::default();
    for day in days.trials() {
        let kind = days.kind(day);
        let is_makeup = kind == DayKind::MakeupWorkday;
        since_holiday = if kind == DayKind::Holiday {
            0
        } else {
            since_holiday.saturating_add(1)
        };
        let weeks_after = !is_makeup && (1..=28).contains(&since_holiday);
        let (found, expectation) = app.history.judge(day, rule);
        tally.day("swings", found.swing);
        tally.day("on holidays", found.swing && since_holiday == 0);
        tally.day("on make-up workdays", found.swing && is_makeup);
        tally.day("in the 28 days after a holiday", found.swing && weeks_after);
        tally.day("drifts", found.drift_begins(&previous));
        previous = found;
        if since_holiday == 0 {
            continue;
        }
        let weekday = days.date(day).weekday();
        let is_of = [
            kind == DayKind::Workday && weekday == Weekday::Mon,
            kind == DayKind::Weekend && weekday == Weekday::Sat,
            is_makeup,
            weeks_after && since_holiday <= 7,
            weeks_after && since_holiday > 7,
            !is_makeup && !weeks_after,
        ];
        let changes: [(Factors, [&'static str; 6]); 2] = [(HALF, HALVING), (DOUBLE, DOUBLING)];
        for (factors, names) in changes {
            let is_detected = is_swing(&expectation, &app.count(day, factors));
            for (name, is_of) in names.into_iter().zip(is_of) {
                tally.trial(name, is_of.then_some(is_detected));
            }
        }
    }
}

const HALVING: [&str; 6] = [
    "halving detected on Mondays",
    "halving: Saturdays",
    "halving: make-up workdays",
    "halving: 1 to 7 days after a holiday",
    "halving: 8 to 28",
    "halving: other days",
];

const DOUBLING: [&str; 6] = [
    "doubling detected on Mondays",
    "doubling: Saturdays",
    "doubling: make-up workdays",
    "doubling: 1 to 7 days after a holiday",
    "doubling: 8 to 28",
    "doubling: other days",
];
