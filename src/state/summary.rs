//! What a portrait amounts to, with the days before it.

use crate::calendar::{DayKind, Holidays};
use crate::config::{App, Swing};
use crate::expectation::{self, CohortExpectation, Kinds};
use crate::past::PastDays;
use crate::portrait::{Breakdown, Cohort, Dimension, OTHER_NAME, Portrait, Window};

/// How days of an app are compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Which changes are a swing.
    pub swing: Swing,
    /// Which days are holidays.
    pub holidays: Holidays,
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            swing: Swing::default(),
            holidays: Holidays::china(),
        }
    }
}

impl From<&App> for Comparison {
    fn from(app: &App) -> Self {
        Self {
            swing: app.swing,
            holidays: app.holidays.clone(),
        }
    }
}

/// Of how many days the users are kept in memory, the reference date included.
pub const RECENT_DAYS: usize = 30;

/// What a portrait amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// What kind of day its reference date is.
    pub day_kind: DayKind,
    /// The name of the holiday, or of the one that the day makes up for; empty for other days.
    pub holiday: String,
    /// Its cohorts.
    pub cohorts: [CohortSummary; Cohort::ALL.len()],
}

/// What a portrait says about a cohort.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CohortSummary {
    /// All users: the sum over platforms. `None` if one of these is unknown.
    pub users: Option<u64>,
    /// The users by platform, of which `users` is the sum.
    pub platforms: Breakdown,
    /// All users of the reference date and of the [`RECENT_DAYS`] - 1 days before it, the newest first, where they
    /// are known; nothing for other windows than 1d.
    pub recent: Box<[Option<u64>]>,
    /// What the archived days let expect; nothing for other windows than 1d.
    pub expected: CohortExpectation,
}

impl Summary {
    /// Sums up a portrait as it is shown, in these dimensions; `past` are the days that it is compared with.
    #[must_use]
    pub fn new(
        shown: &Portrait,
        past: &PastDays,
        comparison: &Comparison,
        dimensions: &[Dimension],
    ) -> Self {
        let Comparison { swing, holidays } = comparison;
        let date = shown.reference_date;
        let kinds = (shown.window == Window::OneDay).then(|| Kinds::new(date, holidays));
        let cohorts = Cohort::ALL.map(|cohort| {
            let platforms = shown.breakdown(cohort, Dimension::Platform);
            let mut recent = Vec::new();
            let expected = kinds.as_ref().map(|kinds| {
                let mut days = past.platforms(date, cohort);
                if platforms.contains(OTHER_NAME) {
                    for day in days.iter_mut().flatten() {
                        day.fold_like(platforms);
                    }
                }
                days[0] = Some(platforms.clone());
                let of_days = days.iter().take(RECENT_DAYS);
                recent.extend(of_days.map(|day| day.as_ref().and_then(Breakdown::total)));
                expectation::expect(&days, kinds, *swing)
            });
            let mut expected = expected.unwrap_or_default();
            if !dimensions.contains(&Dimension::Platform) {
                expected.platforms.clear();
            }
            CohortSummary {
                users: platforms.total(),
                platforms: platforms.clone(),
                recent: recent.into(),
                expected,
            }
        });
        Self {
            day_kind: holidays.kind(date),
            holiday: holidays.name(date).to_owned(),
            cohorts,
        }
    }

    /// Iterates over the cohorts.
    pub fn cohorts(&self) -> impl Iterator<Item = (Cohort, &CohortSummary)> {
        Cohort::ALL.into_iter().zip(&self.cohorts)
    }
}
