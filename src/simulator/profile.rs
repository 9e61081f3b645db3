//! The users of an app: how many of each name it has in a window.
//!
//! Every day of an app is drawn name by name, for both cohorts; longer windows are made of their
//! days, so that figures of different windows never contradict each other. Does not depend on requests,
//! or on when WeChat has the figures.

use std::f64::consts::TAU;

use chrono::{Datelike, NaiveDate};

use super::App;
use super::catalog::{CATALOG, Entry};
use super::events::{Event, Selector};
use super::figures::{Figures, Row};
use super::random::{as_float, count_around, hash, mix, normal, rounded, unit};
use crate::calendar;
use crate::portrait::{AppId, Cohort, Dimension, Window};

/// How many models WeChat lists at most.
const DEVICES: usize = 20;

/// The relative activity from Monday to Sunday: of apps for the office, for leisure, and in between.
const RHYTHMS: [[f64; 7]; 3] = [
    [1.12, 1.14, 1.13, 1.12, 1.08, 0.74, 0.67],
    [0.89, 0.88, 0.90, 0.93, 1.04, 1.21, 1.15],
    [0.98, 0.97, 0.98, 0.99, 1.03, 1.06, 0.99],
];

/// Draws the final figures of an app.
pub(super) fn figures(
    app: &App,
    events: &[Event],
    window: Window,
    reference_date: NaiveDate,
) -> Figures {
    let profile = AppProfile::of(&app.appid);
    let days: Vec<Day> = (0..window.days())
        .map(|back| calendar::days_before(reference_date, back))
        .map(|day| Day::of(app, events, &profile, day))
        .collect();
    let mut figures = Figures::empty(window, reference_date);
    for dimension in Dimension::ALL {
        for (index, entry) in CATALOG.entries(dimension).iter().enumerate() {
            let (new, active) = count(&profile, &days, window, dimension, index, entry);
            for (cohort, value) in [
                (&mut figures.visit_uv_new, new),
                (&mut figures.visit_uv, active),
            ] {
                if value > 0 {
                    let (id, name) = (entry.id, entry.name);
                    cohort.rows_mut(dimension).push(Row { id, name, value });
                }
            }
        }
    }
    for cohort in [&mut figures.visit_uv_new, &mut figures.visit_uv] {
        for rows in [&mut cohort.province, &mut cohort.city, &mut cohort.devices] {
            rows.sort_by_key(|row| std::cmp::Reverse(row.value));
        }
        cohort.devices.truncate(DEVICES);
    }
    figures
}

/// Counts the new and the active users of one name, each user once.
fn count(
    profile: &AppProfile,
    days: &[Day],
    window: Window,
    dimension: Dimension,
    index: usize,
    entry: &Entry,
) -> (u64, u64) {
    let share = profile.shares[dimension as usize][index];
    let key = key(dimension, index);
    let (mut new, mut active) = (Visits::default(), Visits::default());
    for day in days {
        let factor = day.factor(dimension, index, entry);
        let hash = mix(day.seed ^ key);
        let active_today = count_around(share * day.active * factor, hash);
        if active_today == 0 {
            continue;
        }
        let new_today = count_around(share * day.new * factor, mix(hash)).min(active_today);
        active.add(active_today);
        new.add(new_today);
    }
    // Hardly any user is new twice; active users return.
    let new = new.unique_users(0.97);
    let active = active.unique_users(match window {
        Window::OneDay => 0.0,
        Window::SevenDays => profile.turnover,
        Window::ThirtyDays => profile.turnover * 0.55,
    });
    (new, active.max(new))
}

/// The visits of several days.
#[derive(Default)]
struct Visits {
    sum: u64,
    /// The visits of the busiest day.
    peak: u64,
}

impl Visits {
    fn add(&mut self, users: u64) {
        self.sum = self.sum.saturating_add(users);
        self.peak = self.peak.max(users);
    }

    /// Counts each user once, where `turnover` is the share of the other days' visits that are not
    /// of users of the busiest day.
    fn unique_users(&self, turnover: f64) -> u64 {
        self.peak + rounded(as_float(self.sum - self.peak) * turnover - 0.5)
    }
}

/// The properties of an app's users that are the same every day.
struct AppProfile {
    seed: u64,
    /// The share of the active users that are new.
    new_ratio: f64,
    /// The share of a week's visits that are not of users of its busiest day.
    turnover: f64,
    shares: [Vec<f64>; Dimension::ALL.len()],
}

impl AppProfile {
    fn of(appid: &AppId) -> Self {
        let seed = hash("taste", appid.as_str());
        let affinity = |dimension: Dimension, index: usize| {
            let key = mix(seed ^ key(dimension, index));
            // An app may have a third or three times a province's usual share; the rest varies less.
            let spread = match dimension {
                Dimension::Province => 0.5,
                Dimension::City => 0.3,
                _ => 0.2,
            };
            (spread * normal(key)).exp()
        };
        let shares = Dimension::ALL.map(|dimension| {
            let entries = CATALOG.entries(dimension).iter().enumerate();
            let mut shares: Vec<f64> = entries
                .map(|(index, entry)| {
                    let parent = entry.parent.map_or(1.0, |(of, place)| affinity(of, place));
                    entry.weight * parent * affinity(dimension, index)
                })
                .collect();
            // WeChat knows the platform of every user, and the other dimensions of fewer.
            let known = match dimension {
                Dimension::Platform => 1.0,
                Dimension::Gender => 0.998,
                Dimension::Age => 0.995,
                Dimension::Province => 0.985,
                Dimension::City | Dimension::Device => 0.97,
            };
            let all: f64 = shares.iter().sum();
            for share in &mut shares {
                *share *= known / all;
            }
            shares
        });
        Self {
            seed,
            new_ratio: 0.06 + 0.1 * unit(mix(seed)),
            turnover: 0.35 + 0.2 * unit(mix(seed ^ 1)),
            shares,
        }
    }
}

/// One day of an app, before its names are drawn.
struct Day {
    seed: u64,
    active: f64,
    new: f64,
    /// By dimension: the factor by which events on other dimensions change its users.
    factors: [f64; Dimension::ALL.len()],
    /// The factors of single names, by their index in the catalog.
    name_factors: Vec<(Dimension, usize, f64)>,
}

impl Day {
    fn of(app: &App, events: &[Event], profile: &AppProfile, date: NaiveDate) -> Self {
        let number = date.num_days_from_ce();
        let seed = mix(profile.seed ^ u64::from(number.cast_unsigned()));
        let [kind, ..] = hash("rhythm", app.appid.as_str()).to_le_bytes();
        let rhythm = RHYTHMS[usize::from(kind) % RHYTHMS.len()];
        let weekday = rhythm[date.weekday().num_days_from_monday() as usize];
        let phase = unit(mix(profile.seed ^ 2));
        let trend = 1.0 + 0.12 * (TAU * (f64::from(number) / 280.0 + phase)).sin();
        let noise = |draw: u64| 1.0 + 0.035 * normal(mix(seed ^ draw));
        let active = as_float(app.users) * weekday * trend * noise(1);
        let mut day = Self {
            seed,
            active,
            new: active * profile.new_ratio * noise(2),
            factors: [1.0; Dimension::ALL.len()],
            name_factors: Vec::new(),
        };
        for event in events {
            let is_affected = event.app.as_ref().is_none_or(|appid| *appid == app.appid);
            if is_affected && event.day == date {
                day.apply(event, profile);
            }
        }
        day
    }

    fn apply(&mut self, event: &Event, profile: &AppProfile) {
        let factor = event.factor;
        match &event.selector {
            Selector::All => {
                self.active *= factor;
                self.new *= factor;
            }
            Selector::Cohort(Cohort::Active) => self.active *= factor,
            Selector::Cohort(Cohort::New) => {
                self.active += self.new * (factor - 1.0);
                self.new *= factor;
            }
            Selector::Name(dimension, name) => {
                let mut share = 0.0;
                for (index, entry) in CATALOG.entries(*dimension).iter().enumerate() {
                    if entry.name == name {
                        self.name_factors.push((*dimension, index, factor));
                        share += profile.shares[*dimension as usize][index];
                    }
                }
                // Users who stay away are missing in every other dimension, too.
                for other in Dimension::ALL {
                    if other != *dimension && parent_of(other) != Some(*dimension) {
                        self.factors[other as usize] *= 1.0 + share * (factor - 1.0);
                    }
                }
            }
        }
    }

    fn factor(&self, dimension: Dimension, index: usize, entry: &Entry) -> f64 {
        let mut factor = self.factors[dimension as usize];
        for &(of, place, change) in &self.name_factors {
            if (of, place) == (dimension, index) || entry.parent == Some((of, place)) {
                factor *= change;
            }
        }
        factor
    }
}

/// Returns what makes the draws of a name independent of those of all others.
fn key(dimension: Dimension, index: usize) -> u64 {
    mix(((dimension as u64) << 32) | index as u64)
}

fn parent_of(dimension: Dimension) -> Option<Dimension> {
    let first = CATALOG.entries(dimension).first()?;
    first.parent.map(|(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::figures::CohortFigures;

    fn app(users: u64) -> App {
        App {
            appid: "wx0123456789abcdef".parse().unwrap(),
            users,
        }
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn one_day(users: u64, events: &[&str], date: &str) -> Figures {
        let events: Vec<Event> = events.iter().map(|text| text.parse().unwrap()).collect();
        figures(&app(users), &events, Window::OneDay, day(date))
    }

    fn users(rows: &[Row]) -> f64 {
        rows.iter().map(|row| as_float(row.value)).sum()
    }

    fn row(rows: &[Row], name: &str) -> f64 {
        users(
            &rows
                .iter()
                .filter(|row| row.name == name)
                .cloned()
                .collect::<Vec<_>>(),
        )
    }

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.06
    }

    #[test]
    fn figures_are_the_same_for_the_same_day_and_different_for_another() {
        let first = one_day(10_000, &[], "2026-11-20");
        assert_eq!(first, one_day(10_000, &[], "2026-11-20"));
        assert_ne!(first, one_day(10_000, &[], "2026-11-19"));
    }

    #[test]
    fn an_app_has_about_as_many_users_as_asked_for() {
        let end = day("2026-11-20");
        let mean = (0..280)
            .map(|back| calendar::days_before(end, back).to_string())
            .map(|date| users(&one_day(10_000, &[], &date).visit_uv.platforms))
            .sum::<f64>()
            / 280.0;
        assert!(near(mean, 10_000.0), "{mean}");
    }

    #[test]
    fn equal_weekdays_are_closer_than_a_working_day_and_a_sunday() {
        let swings = |appid: &str| {
            let app = App {
                appid: appid.parse().unwrap(),
                users: 100_000,
            };
            let users = |date| {
                users(
                    &figures(&app, &[], Window::OneDay, day(date))
                        .visit_uv
                        .platforms,
                )
            };
            let (last, tuesday, sunday) = (
                users("2026-11-10"),
                users("2026-11-17"),
                users("2026-11-22"),
            );
            ((last / tuesday - 1.0).abs(), (sunday / tuesday - 1.0).abs())
        };
        let swings: Vec<(f64, f64)> = (0..20).map(|n| swings(&format!("wx{n}"))).collect();
        assert!(swings.iter().all(|(week, _)| *week < 0.25), "{swings:?}");
        assert!(
            swings.iter().any(|(_, sunday)| *sunday > 0.25),
            "{swings:?}"
        );
    }

    #[test]
    fn new_users_are_part_of_the_active_ones_in_every_window() {
        for window in Window::ALL {
            for size in [3, 40, 10_000, 2_000_000] {
                let mut answer = figures(&app(size), &[], window, day("2026-11-20"));
                for dimension in Dimension::ALL {
                    let active = answer.visit_uv.rows_mut(dimension).clone();
                    for new in answer.visit_uv_new.rows_mut(dimension) {
                        let same = active
                            .iter()
                            .find(|row| row.name == new.name && row.id == new.id);
                        match same {
                            Some(active) => assert!(new.value <= active.value, "{new:?}"),
                            None => assert_eq!(dimension, Dimension::Device),
                        }
                        assert!(new.value > 0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_longer_window_has_more_people_than_a_day_and_fewer_than_its_days() {
        let end = day("2026-11-20");
        for (window, least, most) in [
            (Window::SevenDays, 2.0, 6.0),
            (Window::ThirtyDays, 4.0, 20.0),
        ] {
            let people =
                users(&figures(&app(10_000), &[], window, end).visit_uv.platforms) / 10_000.0;
            assert!(people > least && people < most, "{window}: {people}");
        }
    }

    #[test]
    fn the_dimensions_differ_a_little_and_devices_lack_most() {
        let cohort = one_day(100_000, &[], "2026-11-20").visit_uv;
        let platforms = users(&cohort.platforms);
        for rows in [
            &cohort.genders,
            &cohort.ages,
            &cohort.province,
            &cohort.city,
        ] {
            assert!(near(users(rows), platforms) && users(rows).to_bits() != platforms.to_bits());
        }
        assert_eq!(cohort.devices.len(), 20);
        assert!(users(&cohort.devices) < 0.9 * users(&cohort.city));
    }

    #[test]
    fn a_small_app_lacks_many_cities_and_devices_change_at_the_tail() {
        assert!(one_day(100, &[], "2026-11-20").visit_uv.city.len() < 120);
        assert_eq!(
            one_day(10_000_000, &[], "2026-11-20").visit_uv.city.len(),
            379
        );
        let models = |date| {
            let devices = one_day(10_000, &[], date).visit_uv.devices;
            devices
                .into_iter()
                .map(|row| row.name)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (first, second) = (models("2026-11-19"), models("2026-11-20"));
        assert!(first != second && first.intersection(&second).count() > 14);
    }

    #[test]
    fn an_event_changes_its_name_and_not_the_others() {
        let calm = one_day(100_000, &[], "2026-11-20");
        let event = one_day(100_000, &["2026-11-20:platform=iPhone:0.4"], "2026-11-20");
        let platforms = |answer: &Figures, name| row(&answer.visit_uv.platforms, name);
        assert!(near(
            platforms(&event, "iPhone"),
            0.4 * platforms(&calm, "iPhone")
        ));
        assert!(near(
            platforms(&event, "Android"),
            platforms(&calm, "Android")
        ));
        assert!(near(
            users(&event.visit_uv.genders),
            users(&event.visit_uv.platforms)
        ));
        assert_eq!(
            one_day(100_000, &["2026-11-20:all:0"], "2026-11-20").visit_uv,
            CohortFigures::default()
        );
        for elsewhere in ["2026-11-19:all:0", "wx2@2026-11-20:all:0"] {
            assert_eq!(one_day(100_000, &[elsewhere], "2026-11-20"), calm);
        }
    }

    #[test]
    fn an_event_of_new_users_brings_that_many_more_active_ones() {
        let calm = one_day(100_000, &[], "2026-11-20");
        let event = one_day(100_000, &["2026-11-20:new:3"], "2026-11-20");
        let (before, after) = (
            users(&calm.visit_uv_new.platforms),
            users(&event.visit_uv_new.platforms),
        );
        assert!(near(after, 3.0 * before));
        let active = users(&calm.visit_uv.platforms) + after - before;
        assert!(near(users(&event.visit_uv.platforms), active));
    }

    #[test]
    fn an_event_changes_a_week_less_than_its_day() {
        let week = |events: &[Event]| {
            let week = figures(&app(100_000), events, Window::SevenDays, day("2026-11-20"));
            users(&week.visit_uv.platforms)
        };
        let ratio = week(&["2026-11-18:all:0.2".parse().unwrap()]) / week(&[]);
        assert!(ratio < 0.98 && ratio > 0.7, "{ratio}");
    }
}
