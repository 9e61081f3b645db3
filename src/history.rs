//! An app's archived days as a history: every day of a range, and what was to be expected of it. Pure.
//!
//! Does not depend on where the days come from or how they are shown.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use chrono::NaiveDate;

use crate::archive::{DayState, RestoredDay};
use crate::calendar::{self, DayKind};
use crate::expectation::{self, Bound, Bounds, HISTORY_DAYS, Kinds};
use crate::portrait::{Breakdown, Cohort, Dimension, Portrait, Window};
use crate::state::Comparison;

/// Every day of a range.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The days, archived or not, the oldest first.
    pub days: Vec<Day>,
}

/// A reference date and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Day {
    /// The last Beijing day covered.
    pub reference_date: NaiveDate,
    /// What kind of day it is.
    pub kind: DayKind,
    /// The name of the holiday, or of the one that the day makes up for; empty for other days.
    pub holiday: String,
    /// What is known about the answers for it; `None` if it is not archived.
    pub state: Option<DayState>,
    /// Its cohorts.
    pub cohorts: [CohortDay; Cohort::ALL.len()],
}

/// The users of a cohort on a day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CohortDay {
    /// All users: the sum over platforms. `None` if one of these is unknown.
    pub users: Option<u64>,
    /// The users by platform; empty if none is known.
    pub platforms: Breakdown,
    /// What the days before it let expect of all users, whether the day itself is known or not; `None` as in
    /// [`expectation::CohortExpectation::users`], and for other windows than 1d.
    pub expected: Option<Bounds>,
}

impl History {
    /// Returns the first day that must be archived, as far as it is, for a history of these days that begins
    /// with `first`: those that the first ones are compared with are included.
    #[must_use]
    pub fn begin(window: Window, first: NaiveDate) -> NaiveDate {
        calendar::days_before(first, lead(window) as u64)
    }

    /// Collects the days of `range` from the archived ones, which are sorted and begin as [`History::begin`]
    /// says. Takes some milliseconds for a year.
    #[must_use]
    pub fn new(
        window: Window,
        archived: Vec<RestoredDay>,
        range: RangeInclusive<NaiveDate>,
        comparison: &Comparison,
    ) -> Self {
        let Comparison { swing, holidays } = comparison;
        let (first, last) = range.into_inner();
        let mut archived: HashMap<_, _> = archived
            .into_iter()
            .map(|day| (day.reference_date, day))
            .collect();
        // With those that the first ones are compared with; the newest first, as they are compared.
        let mut days: Vec<Day> = std::iter::successors(Some(last), NaiveDate::pred_opt)
            .take_while(|day| *day >= Self::begin(window, first))
            .map(|day| Day {
                reference_date: day,
                kind: holidays.kind(day),
                holiday: holidays.name(day).to_owned(),
                state: archived.get(&day).map(|archived| archived.state),
                cohorts: cohorts(archived.remove(&day)),
            })
            .collect();
        let shown = days.len().saturating_sub(lead(window));
        if window == Window::OneDay {
            let kinds: Vec<_> = days.iter().map(|day| day.kind).collect();
            let totals = Cohort::ALL.map(|cohort| {
                let users = days.iter().map(|day| day.cohorts[cohort as usize].users);
                users.collect::<Vec<_>>()
            });
            for (ago, day) in days.iter_mut().enumerate().take(shown) {
                let compared = ago..totals[0].len().min(ago + HISTORY_DAYS + 1);
                let kinds = Kinds::of(&kinds[compared.clone()]);
                for (cohort, totals) in day.cohorts.iter_mut().zip(&totals) {
                    let totals = &totals[compared.clone()];
                    cohort.expected = expectation::expect_users(totals, &kinds, *swing);
                }
            }
        }
        days.truncate(shown);
        days.reverse();
        Self { days }
    }

    /// Iterates over the days whose figures changed after they were first archived, the oldest first, with what
    /// is known about their answers. When they changed is not archived, only when the figures last arrived.
    pub fn revised(&self) -> impl Iterator<Item = (NaiveDate, DayState)> {
        self.days.iter().filter_map(|day| {
            let state = day.state.filter(|state| state.revisions > 0)?;
            Some((day.reference_date, state))
        })
    }
}

impl CohortDay {
    /// Returns the bound that all users are beyond, if they are a swing.
    #[must_use]
    pub fn swing(&self) -> Option<Bound> {
        self.expected?.crossed_by(self.users?)
    }
}

/// Returns how many days before a range are needed to know what was to be expected.
fn lead(window: Window) -> usize {
    match window {
        Window::OneDay => HISTORY_DAYS,
        Window::SevenDays | Window::ThirtyDays => 0,
    }
}

fn cohorts(day: Option<RestoredDay>) -> [CohortDay; Cohort::ALL.len()] {
    let mut figures = day.and_then(|day| day.figures);
    Cohort::ALL.map(|cohort| {
        let breakdown = |figures| Portrait::breakdown_mut(figures, cohort, Dimension::Platform);
        let platforms = figures.as_mut().map(breakdown).map(std::mem::take);
        let platforms = platforms.unwrap_or_default();
        CohortDay {
            users: platforms.total(),
            platforms,
            expected: None,
        }
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::calendar::Holidays;
    use crate::past::PastDays;
    use crate::state::Summary;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Days up to a Sunday after the holidays of October, the oldest first: about 1,000 new users and 4,000
    /// active ones on two platforms. Every seventh archived day was revised.
    fn archived(window: Window, days: u64) -> Vec<RestoredDay> {
        let mut random = fastrand::Rng::with_seed(days);
        let days = (0..days).rev().map(|ago| {
            let reference_date = calendar::days_before(day("2026-11-22"), ago);
            let mut figures = Portrait::new(window, reference_date);
            for (cohort, factor) in [(Cohort::New, 1), (Cohort::Active, 4)] {
                let platforms = figures.breakdown_mut(cohort, Dimension::Platform);
                for name in ["iPhone", "Android"] {
                    platforms.add(name.to_owned(), factor * random.u64(450..550));
                }
            }
            RestoredDay {
                reference_date,
                state: DayState {
                    first_answered_at: DateTime::UNIX_EPOCH,
                    answered_at: DateTime::UNIX_EPOCH,
                    settled: true,
                    revisions: u32::from(ago % 7 == 3),
                },
                digest: None,
                figures: Some(figures),
            }
        });
        days.collect()
    }

    fn history(window: Window, archived: Vec<RestoredDay>, range: [&str; 2]) -> History {
        let [first, last] = range.map(day);
        let comparison = Comparison::default();
        History::new(window, archived, first..=last, &comparison)
    }

    #[test]
    fn every_day_of_the_range_is_there_whether_it_is_archived_or_not() {
        let mut days = archived(Window::OneDay, 60);
        days.retain(|day| day.reference_date.to_string() != "2026-10-01");
        let history = history(Window::OneDay, days, ["2026-09-20", "2026-11-22"]);
        assert_eq!(history.days.len(), 64);
        let found = |date: &str| {
            let mut days = history.days.iter();
            days.find(|found| found.reference_date == day(date))
                .unwrap()
        };
        assert!(history.days.is_sorted_by_key(|day| day.reference_date));
        let before = found("2026-09-20");
        assert_eq!(before.kind, DayKind::MakeupWorkday);
        assert_eq!(before.holiday, "国庆节");
        assert_eq!((before.state, &before.cohorts), (None, &Default::default()));
        let missing = found("2026-10-01");
        assert_eq!(missing.kind, DayKind::Holiday);
        assert_eq!(missing.cohorts[0].users, None);
        let [new, active] = &found("2026-11-22").cohorts;
        assert_eq!(new.users, new.platforms.total());
        assert!((900..1_100).contains(&new.users.unwrap()));
        assert!((3_600..4_400).contains(&active.users.unwrap()));
        assert_eq!(missing.state, None);
    }

    #[test]
    fn revised_days_are_listed_with_how_often() {
        let days = archived(Window::OneDay, 20);
        let history = history(Window::OneDay, days, ["2026-11-12", "2026-11-22"]);
        let revised: Vec<_> = history.revised().collect();
        let dates: Vec<_> = revised.iter().map(|(date, _)| *date).collect();
        assert_eq!(dates, [day("2026-11-12"), day("2026-11-19")]);
        assert!(revised.iter().all(|(_, state)| state.revisions == 1));
    }

    #[test]
    fn every_day_is_expected_to_be_as_it_was_on_that_day() {
        let mut days = archived(Window::OneDay, 250);
        days.remove(170);
        let swing = days.len() - 4;
        let figures = days[swing].figures.as_mut().unwrap();
        let platforms = figures.breakdown_mut(Cohort::Active, Dimension::Platform);
        *platforms = Breakdown::default();
        platforms.add("iPhone".to_owned(), 100);
        let comparison = Comparison {
            holidays: Holidays::china(),
            ..Comparison::default()
        };
        let begin = History::begin(Window::OneDay, day("2026-08-25"));
        let needed = days.iter().filter(|day| day.reference_date >= begin);
        let history = history(
            Window::OneDay,
            needed.cloned().collect(),
            ["2026-08-25", "2026-11-22"],
        );
        assert_eq!(history.days.len(), 90);
        // As the exporter finds it out, day by day.
        let mut past = PastDays::new(Window::OneDay, &[]);
        let mut compared = 0;
        for archived in days {
            let portrait = archived.figures.unwrap();
            past.insert(&portrait);
            let found = history.days.iter();
            let mut found = found.filter(|day| day.reference_date == archived.reference_date);
            let Some(found) = found.next() else {
                continue;
            };
            let summary = Summary::new(&portrait, &past, &comparison, &Dimension::ALL);
            assert_eq!(
                (found.kind, &found.holiday),
                (summary.day_kind, &summary.holiday)
            );
            for (found, (_, expected)) in found.cohorts.iter().zip(summary.cohorts()) {
                assert_eq!(found.users, expected.users);
                assert_eq!(found.platforms, expected.platforms);
                assert_eq!(found.expected, expected.expected.users);
                compared += usize::from(found.expected.is_some());
            }
        }
        assert!(compared > 2 * 75, "there are few holidays");
        let swings: Vec<_> = history
            .days
            .iter()
            .map(|day| [0, 1].map(|cohort| day.cohorts[cohort].swing()))
            .collect();
        assert_eq!(swings[86], [None, Some(Bound::Lower)]);
        assert_eq!(swings.iter().flatten().flatten().count(), 1);
        let unknown = history.days.iter().find(|day| day.state.is_none()).unwrap();
        assert!(
            unknown.cohorts[0].expected.is_some(),
            "it is missing, not the days before it"
        );
    }

    #[test]
    fn nothing_is_expected_of_other_windows() {
        let days = archived(Window::SevenDays, 150);
        let range = ["2026-10-24", "2026-11-22"];
        assert_eq!(
            History::begin(Window::SevenDays, day(range[0])),
            day(range[0])
        );
        let history = history(Window::SevenDays, days, range);
        assert_eq!(history.days.len(), 30);
        let cohorts = history.days.iter().flat_map(|day| &day.cohorts);
        assert!(cohorts.clone().all(|cohort| cohort.users.is_some()));
        assert!(
            cohorts
                .clone()
                .all(|cohort| cohort.expected.is_none() && cohort.swing().is_none())
        );
    }
}
