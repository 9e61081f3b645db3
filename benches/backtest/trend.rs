//! False alarms and detection for apps that grow or decline steadily, or whose days resemble each other.

use chrono::NaiveDate;
use wxapp_portrait_exporter::calendar::Holidays;
use wxapp_portrait_exporter::expectation::{self, HISTORY_DAYS};

use crate::replay::{Days, Found, is_swing};
use crate::simulation::{App, DOUBLE, HALF, Profile};
use crate::tally::{Table, tally};

const HALF_A_YEAR: usize = 182;

/// Growth a week, and the correlation of the noise of consecutive days.
const ROWS: [(f64, f64); 7] = [
    (-0.1, 0.0),
    (-0.05, 0.0),
    (0.0, 0.0),
    (0.0, 0.6),
    (0.05, 0.0),
    (0.1, 0.0),
    (0.2, 0.0),
];

pub(crate) fn print(apps: u64) {
    let mut table = Table::new(
        &format!(
            "Trend: {apps} apps for half a year, 10% noise, never fewer than 1000 users a day on average. \
             False alarms are alerts a year about all users; a drift counts when it begins. Detection is \
             the share of days on which such a change of all users raises a swing at once."
        ),
        &[
            "growth a week",
            "correlation of the noise with that of the day before",
        ],
    );
    let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
    let days = Days::new(first, HISTORY_DAYS + HALF_A_YEAR, Holidays::none());
    for (growth, correlation) in ROWS {
        let shrinks_by = f64::powf(1.0 + growth, HALF_A_YEAR as f64 / 7.0).min(1.0);
        let profile = Profile {
            correlation,
            growth,
            ..Profile::steady(1_000.0 / shrinks_by, 0.1)
        };
        let counts = tally(apps, |seed, tally| {
            let mut app = App::new(&days, profile, seed);
            let mut previous = Found::default();
            for day in days.trials() {
                let (found, expectation) = app.history.judge(day, expectation::expect);
                tally.day("false alarms: swing", found.swing);
                tally.day("drift", found.drift_begins(&previous));
                previous = found;
                let mut swings = |factors| Some(is_swing(&expectation, &app.count(day, factors)));
                tally.trial("detected: halving", swings(HALF));
                tally.trial("doubling", swings(DOUBLE));
            }
        });
        table.row(
            &[format!("{:+.0}%", 100.0 * growth), correlation.to_string()],
            &counts,
        );
    }
}
