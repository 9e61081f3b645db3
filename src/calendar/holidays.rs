//! Workdays, weekends, public holidays and the workdays that make up for them.

use chrono::{Datelike as _, NaiveDate, Weekday};

use crate::portrait::string_enum;

string_enum! {
    /// What kind of day it is.
    DayKind, "kind of day" {
        /// A day from Monday to Friday without a holiday.
        Workday = "workday",
        /// A Saturday or Sunday that is neither a holiday nor a workday.
        Weekend = "weekend",
        /// A public holiday.
        Holiday = "holiday",
        /// A Saturday or Sunday on which people work, as they do not on a holiday near it.
        MakeupWorkday = "makeup_workday",
        /// A day of a year whose holidays are not known.
        Unknown = "unknown",
    }
}

/// A calendar of holidays. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holidays {}

impl Holidays {
    /// Returns the calendar of China.
    #[must_use]
    pub fn china() -> Self {
        Self {}
    }

    /// Returns a calendar without holidays: Saturdays and Sundays are weekends, all others workdays.
    #[must_use]
    pub fn none() -> Self {
        Self {}
    }

    /// Returns what kind of day it is.
    #[must_use]
    pub fn kind(&self, day: NaiveDate) -> DayKind {
        match day.weekday() {
            Weekday::Sat | Weekday::Sun => DayKind::Weekend,
            _ => DayKind::Workday,
        }
    }

    /// Returns the name of the holiday, or of the one that a workday makes up for; empty for other days.
    #[must_use]
    pub fn name(&self, _day: NaiveDate) -> &str {
        ""
    }
}
