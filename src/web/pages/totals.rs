//! All apps together, on the newest day that at least half of them have reached. Knows only the window 1d: users
//! of different windows are not added up.

use chrono::NaiveDate;

use super::facts::{Facts, Figure};
use super::sentences;
use crate::expectation::float;
use crate::language::Language;
use crate::portrait::Cohort;
use crate::state::CohortSummary;

#[derive(Debug)]
pub(super) struct Totals {
    /// `None` if no app has figures.
    pub(super) day: Option<NaiveDate>,
    /// What kind of day it is; empty if apps differ in that.
    pub(super) kind: String,
    /// How many apps have figures of that day.
    pub(super) of_day: usize,
    /// How many apps have figures of yesterday.
    pub(super) arrived: usize,
    /// How many apps there are.
    pub(super) apps: usize,
    pub(super) figures: [Total; Cohort::ALL.len()],
}

/// The users of a cohort on a day.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    /// `None` if they are not known of any app.
    pub(super) users: Option<u64>,
    /// Those of apps of which the usual figure is known, too.
    comparable: u64,
    usual: f64,
}

impl Totals {
    pub(super) fn new(apps: &[Facts<'_>], language: Language) -> Self {
        let daily = apps
            .iter()
            .filter(|facts| facts.is_daily() && facts.summary().is_some());
        let mut days: Vec<_> = daily.clone().filter_map(Facts::reference_date).collect();
        days.sort_unstable();
        let day = days.get(days.len().saturating_sub(1) / 2).copied();
        let reached = daily.filter(|facts| facts.reference_date() >= day);
        let figures = Cohort::ALL.map(|cohort| {
            reached.clone().fold(Total::default(), |total, facts| {
                let summary = facts
                    .summary()
                    .map(|summary| &summary.cohorts[cohort as usize]);
                let ahead = day.zip(facts.reference_date());
                let ahead =
                    ahead.map_or(0, |(day, reference_date)| (reference_date - day).num_days());
                total.plus(summary.map_or_else(Figure::default, |summary| figure(summary, ahead)))
            })
        });
        let kinds = reached
            .clone()
            .filter(|facts| facts.reference_date() == day);
        let mut kinds: Vec<_> = kinds
            .filter_map(Facts::summary)
            .map(|summary| (summary.day_kind, summary.holiday.as_str()))
            .collect();
        kinds.dedup();
        Self {
            day,
            kind: match kinds[..] {
                [(kind, holiday)] => sentences::day_kind(language, kind, holiday),
                _ => String::new(),
            },
            of_day: reached.count(),
            arrived: apps.iter().filter(|facts| facts.has_yesterday()).count(),
            apps: apps.len(),
            figures,
        }
    }
}

/// Returns the figure of so many days before the newest one; what was usual then is not kept.
fn figure(summary: &CohortSummary, ago: i64) -> Figure {
    match usize::try_from(ago) {
        Ok(0) | Err(_) => Figure::of(summary),
        Ok(ago) => Figure {
            users: summary.recent.get(ago).copied().flatten(),
            bounds: None,
        },
    }
}

impl Total {
    fn plus(mut self, figure: Figure) -> Self {
        let Some(users) = figure.users else {
            return self;
        };
        self.users = Some(self.users.unwrap_or_default().saturating_add(users));
        if let Some(usual) = figure.usual() {
            self.comparable = self.comparable.saturating_add(users);
            self.usual += usual;
        }
        self
    }

    /// Returns the change against the usual figures.
    pub(super) fn change(self) -> Option<f64> {
        (self.usual > 0.0).then(|| float(self.comparable) / self.usual - 1.0)
    }
}
