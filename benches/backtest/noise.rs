//! False alarms and detection for apps without events, by noise and size.

use chrono::NaiveDate;
use wxapp_portrait_exporter::calendar::Holidays;
use wxapp_portrait_exporter::expectation::{self, HISTORY_DAYS};

use crate::replay::{Days, Found, is_swing};
use crate::simulation::{App, DOUBLE, Factors, HALF, LESS_30, Profile};
use crate::tally::{Table, percent, tally};

/// An app has this many times as many active users as new ones.
const ACTIVE: f64 = 8.0;

/// Seeds of the active users follow those of the new ones.
const OTHER_SEEDS: u64 = 1_000_000;

const YEAR: usize = 365;

pub(crate) fn print(apps: u64) {
    let mut table = Table::new(
        &format!(
            "Noise: {apps} apps for a year, without events. False alarms are alerts a year: of all new \
             users, of their three platforms together, and of the whole app with its active users, 8 times \
             as many. A drift counts when it begins, every other alert on each of its days. Detection is \
             the share of days on which such a change raises an alert at once: a swing of all users, or \
             any alert for changes of platforms."
        ),
        &["noise", "new users a day"],
    );
    let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
    let days = Days::new(first, HISTORY_DAYS + YEAR, Holidays::none());
    for noise in [0.05, 0.1, 0.15, 0.2, 0.3] {
        for mean in [30.0, 100.0, 300.0, 1_000.0, 10_000.0] {
            let counts = tally(apps, |seed, tally| {
                let mut new = App::new(&days, Profile::steady(mean, noise), seed);
                let profile = Profile::steady(ACTIVE * mean, noise);
                let active = App::new(&days, profile, seed + OTHER_SEEDS);
                let mut previous = [Found::default(); 2];
                for day in days.trials() {
                    let (of_new, expectation) = new.history.judge(day, expectation::expect);
                    let (of_active, _) = active.history.judge(day, expectation::expect);
                    let of_app = of_new.events(&previous[0]) + of_active.events(&previous[1]);
                    tally.day("false alarms: swing", of_new.swing);
                    tally.day("drift", of_new.drift_begins(&previous[0]));
                    tally.day("of platforms", of_new.platforms);
                    tally.day("of shares", of_new.shares);
                    tally.day("whole app", of_app);
                    previous = [of_new, of_active];
                    let mut swings =
                        |factors| Some(is_swing(&expectation, &new.count(day, factors)));
                    tally.trial("detected: halving", swings(HALF));
                    tally.trial("-30%", swings(LESS_30));
                    tally.trial("doubling", swings(DOUBLE));
                    let mut is_found = |factors| Some(is_found(&mut new, day, factors));
                    tally.trial("half of the iPhones gone", is_found([0.5, 1.0, 1.0]));
                    let to_35 = [0.7, 4.0 / 3.0, 1.0];
                    tally.trial("iPhones fall from 50% to 35%", is_found(to_35));
                }
            });
            table.row(&[percent(noise), mean.to_string()], &counts);
        }
    }
}

/// Returns whether a day multiplied by these raises any alert.
fn is_found(app: &mut App<'_>, day: usize, factors: Factors) -> bool {
    let changed = app.count(day, factors);
    let counted = app.history.set(day, Some(changed));
    let (found, _) = app.history.judge(day, expectation::expect);
    app.history.set(day, counted);
    found.any()
}
