//! Days of a cohort, and what is expected of each of them after the days before it.
//!
//! Does not depend on where the figures come from.

use std::ops::Range;

use chrono::NaiveDate;
use wxapp_portrait_exporter::calendar::{DayKind, Holidays};
use wxapp_portrait_exporter::config::Swing;
use wxapp_portrait_exporter::expectation::{self, Alert, CohortExpectation, HISTORY_DAYS, Kinds};
use wxapp_portrait_exporter::portrait::Breakdown;

use crate::before;

/// The rules that are compared, as (the label, the function).
pub(crate) const RULES: [(&str, Rule); 2] =
    [("before", before::expect), ("now", expectation::expect)];

/// Returns what is expected of the first of these days after the others.
pub(crate) type Rule = fn(&[Option<Breakdown>], &Kinds, Swing) -> CohortExpectation;

/// Consecutive days, and the kinds of days that precede each of them.
pub(crate) struct Days {
    holidays: Holidays,
    first: NaiveDate,
    kinds: Vec<Kinds>,
}

impl Days {
    pub(crate) fn new(first: NaiveDate, count: usize, holidays: Holidays) -> Self {
        let days = first.iter_days().take(count);
        let kinds = days.map(|day| Kinds::new(day, &holidays)).collect();
        Self {
            holidays,
            first,
            kinds,
        }
    }

    /// Returns all days, as numbers.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.kinds.len()
    }

    /// Returns the days that have a whole history before them.
    pub(crate) fn trials(&self) -> Range<usize> {
        HISTORY_DAYS..self.kinds.len()
    }

    pub(crate) fn date(&self, day: usize) -> NaiveDate {
        self.first + chrono::Days::new(day as u64)
    }

    pub(crate) fn kind(&self, day: usize) -> DayKind {
        self.holidays.kind(self.date(day))
    }
}

/// The users of a cohort on these days.
pub(crate) struct History<'a> {
    pub(crate) days: &'a Days,
    /// The newest first, as the rules take them.
    counted: Vec<Option<Breakdown>>,
}

impl<'a> History<'a> {
    pub(crate) fn new(days: &'a Days) -> Self {
        let counted = vec![None; days.all().len()];
        Self { days, counted }
    }

    /// Returns the users of a day, or `None` if they are unknown.
    pub(crate) fn counted(&self, day: usize) -> Option<&Breakdown> {
        self.counted[self.place(day)].as_ref()
    }

    /// Replaces the users of a day; returns what was known previous.
    pub(crate) fn set(&mut self, day: usize, counted: Option<Breakdown>) -> Option<Breakdown> {
        let place = self.place(day);
        std::mem::replace(&mut self.counted[place], counted)
    }

    /// Returns the alerts about a day, none if it is unknown, and what the days before it let expect.
    pub(crate) fn judge(&self, day: usize, rule: Rule) -> (Found, CohortExpectation) {
        let days = &self.counted[self.place(day)..];
        let expectation = rule(days, &self.days.kinds[day], Swing::default());
        let alerts = days[0].as_ref().map(|counted| expectation.alerts(counted));
        (Found::new(&alerts.unwrap_or_default()), expectation)
    }

    fn place(&self, day: usize) -> usize {
        self.counted.len() - 1 - day
    }
}

/// Returns whether all users would be a swing; the bounds of a day do not depend on its own figures.
pub(crate) fn is_swing(expectation: &CohortExpectation, users: &Breakdown) -> bool {
    expectation.alerts(users).contains(&Alert::UsersSwing)
}

/// The alerts about a day, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Found {
    pub(crate) swing: bool,
    pub(crate) drift: bool,
    /// How many platforms swing, vanish or appear.
    pub(crate) platforms: u32,
    /// How many shares of platforms shift.
    pub(crate) shares: u32,
}

impl Found {
    fn new(alerts: &[Alert<'_>]) -> Self {
        let mut found = Self::default();
        for alert in alerts {
            match alert {
                Alert::UsersSwing => found.swing = true,
                Alert::UsersDrift => found.drift = true,
                Alert::PlatformShareShift(_) => found.shares += 1,
                _ => found.platforms += 1,
            }
        }
        found
    }

    /// Returns `true` if there is an alert of any kind.
    pub(crate) fn any(&self) -> bool {
        self.swing || self.drift || self.platforms + self.shares > 0
    }

    /// Returns `true` if an alert has the same kind as one of the day before.
    pub(crate) fn repeats(&self, previous: &Self) -> bool {
        self.swing && previous.swing
            || self.drift && previous.drift
            || self.platforms.min(previous.platforms) > 0
            || self.shares.min(previous.shares) > 0
    }

    /// Returns `true` if a drift begins, after the alerts of the day before.
    pub(crate) fn drift_begins(&self, previous: &Self) -> bool {
        self.drift && !previous.drift
    }

    /// Counts the alerts, a drift only when it begins.
    pub(crate) fn events(&self, previous: &Self) -> u32 {
        u32::from(self.swing)
            + u32::from(self.drift_begins(previous))
            + self.platforms
            + self.shares
    }
}
