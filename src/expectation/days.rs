//! With which days a day is compared. Days are counted back from the reference date.

use chrono::NaiveDate;
use smallvec::SmallVec;

use crate::calendar::{self, DayKind, Holidays};

/// Own deviations are those of this many days before the reference date.
pub(super) const DEVIATION_DAYS: usize = 56;

/// A day is compared with days that are at most this much older.
const MAX_AGE: usize = 56;

/// How many days before the reference date have an effect on what is expected of it.
pub const HISTORY_DAYS: usize = DEVIATION_DAYS + MAX_AGE;

/// How many days a day is compared with.
const COMPARED_DAYS: usize = 4;

/// What kinds of days the reference date and the days before it are.
#[derive(Debug, Clone)]
pub struct Kinds(Vec<DayKind>);

/// The value of a compared day, and how much older it is, in days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Compared {
    pub(super) value: f64,
    pub(super) age: f64,
}

/// The values with which a day is compared. A history has ten thousands of them, so they are not on the heap.
pub(super) type ComparedDays = SmallVec<[Compared; COMPARED_DAYS]>;

impl Kinds {
    /// Looks up the kinds of the reference date and of the days before it.
    #[must_use]
    pub fn new(reference_date: NaiveDate, holidays: &Holidays) -> Self {
        let days = (0..).take(HISTORY_DAYS + 1);
        let days = days.map(|ago| calendar::days_before(reference_date, ago));
        Self(days.map(|day| holidays.kind(day)).collect())
    }

    /// Takes the kinds of days that are looked up already, the reference date first.
    #[must_use]
    pub fn of(days: &[DayKind]) -> Self {
        Self(days.iter().take(HISTORY_DAYS + 1).copied().collect())
    }

    pub(super) fn is_holiday(&self, ago: usize) -> bool {
        self.0[ago] == DayKind::Holiday
    }

    /// Returns `true` for a day that later ones of the same weekday are compared with.
    pub(super) fn is_regular(&self, ago: usize) -> bool {
        !matches!(self.0[ago], DayKind::Holiday | DayKind::MakeupWorkday)
    }

    /// Returns `true` if people work on both days, or on neither; or if that is not known.
    pub(super) fn are_alike(&self, one: usize, other: usize) -> bool {
        let is_off = |ago: usize| match self.0[ago] {
            DayKind::Weekend | DayKind::Holiday => Some(true),
            DayKind::Workday | DayKind::MakeupWorkday => Some(false),
            DayKind::Unknown => None,
        };
        is_off(one)
            .zip(is_off(other))
            .is_none_or(|(one, other)| one == other)
    }

    /// Returns those of `values` that a day is compared with, the newest first; for a holiday the last days
    /// that are none, if there `is_compared_on_holidays`.
    pub(super) fn compared(
        &self,
        values: &[Option<f64>],
        ago: usize,
        is_compared_on_holidays: bool,
    ) -> ComparedDays {
        match self.0[ago] {
            DayKind::Holiday if !is_compared_on_holidays => ComparedDays::new(),
            DayKind::Holiday => self.last(values, ago, 1, |day| !self.is_holiday(day)),
            DayKind::MakeupWorkday => {
                self.last(values, ago, 1, |day| self.0[day] == DayKind::Workday)
            }
            DayKind::Workday | DayKind::Weekend | DayKind::Unknown => {
                self.last(values, ago, 7, |day| self.is_regular(day))
            }
        }
    }

    fn last(
        &self,
        values: &[Option<f64>],
        ago: usize,
        step: usize,
        is_eligible: impl Fn(usize) -> bool,
    ) -> ComparedDays {
        let end = values.len().min(self.0.len()).min(ago + MAX_AGE + 1);
        let days = (ago + step..end).step_by(step);
        let days = days.filter(|day| is_eligible(*day));
        #[expect(clippy::cast_precision_loss, reason = "an age is at most 56 days")]
        let values = days.filter_map(|day| {
            Some(Compared {
                value: values[day]?,
                age: (day - ago) as f64,
            })
        });
        values.take(COMPARED_DAYS).collect()
    }
}
