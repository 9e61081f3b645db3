//! Workdays, weekends, public holidays and the workdays that make up for them.
//!
//! The years that are decreed are built in, and others come from files that the configuration names. No
//! rule predicts make-up workdays, so days of a year without a decree are unknown. Reads no files.

use std::sync::Arc;

use chrono::{Datelike as _, NaiveDate, Weekday};

use super::china::{self, Years};
use super::holiday_year::{HolidayDay, HolidayYear};
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
        /// A Saturday or Sunday that is a workday, in exchange for a day off near it.
        MakeupWorkday = "makeup_workday",
        /// A day of a year whose holidays are not known.
        Unknown = "unknown",
    }
}

/// A calendar of holidays. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holidays {
    /// What is known, every year with at least one day; `None` for a calendar without holidays.
    years: Option<Arc<Years>>,
}

impl Holidays {
    /// Returns the calendar of China.
    #[must_use]
    pub fn china() -> Self {
        Self {
            years: Some(china::years()),
        }
    }

    /// Returns a calendar without holidays: Saturdays and Sundays are weekends, all others workdays.
    #[must_use]
    pub fn none() -> Self {
        Self { years: None }
    }

    /// Returns the calendar of China with these years instead of those that are built in.
    ///
    /// A year without days is not decreed, and replaces nothing.
    #[must_use]
    pub fn china_with(replacements: impl IntoIterator<Item = HolidayYear>) -> Self {
        let mut years = Years::clone(&china::years());
        for replacement in replacements {
            if !replacement.days.is_empty() {
                years.insert(replacement.year(), Arc::new(replacement.days));
            }
        }
        Self {
            years: Some(Arc::new(years)),
        }
    }

    /// Returns what kind of day it is.
    #[must_use]
    pub fn kind(&self, day: NaiveDate) -> DayKind {
        let is_known = |years: &Arc<Years>| years.contains_key(&day.year());
        match self.listed(day) {
            Some(listed) if listed.is_off => DayKind::Holiday,
            Some(_) => DayKind::MakeupWorkday,
            None if !self.years.as_ref().is_none_or(is_known) => DayKind::Unknown,
            None if is_weekend(day) => DayKind::Weekend,
            None => DayKind::Workday,
        }
    }

    /// Returns the name of the holiday, or of the one that a workday makes up for; empty for other days.
    #[must_use]
    pub fn name(&self, day: NaiveDate) -> &str {
        self.listed(day).map_or("", |listed| &listed.name)
    }

    /// Returns the first year whose holidays should be known on `today` and are not: this year, or from
    /// December on the next.
    #[must_use]
    pub fn missing_year(&self, today: NaiveDate) -> Option<i32> {
        let years = self.years.as_ref()?;
        let last = today.year() + i32::from(today.month() == 12);
        (today.year()..=last).find(|year| !years.contains_key(year))
    }

    fn listed(&self, day: NaiveDate) -> Option<&HolidayDay> {
        let years = self.years.as_ref()?;
        // New Year's Day is decreed with its own year, and with it some days of the December before.
        let mut titles = [day.year() + 1, day.year()].into_iter();
        titles.find_map(|title| years.get(&title)?.get(&day))
    }
}

/// Returns `true` for a Saturday or Sunday.
pub(super) fn is_weekend(day: NaiveDate) -> bool {
    matches!(day.weekday(), Weekday::Sat | Weekday::Sun)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    /// Returns a file of a year with these days off.
    fn year(year: i32, days_off: &[&str]) -> HolidayYear {
        let days = days_off
            .iter()
            .map(|date| serde_json::json!({"name": "春节", "date": date, "isOffDay": true}));
        let days: Vec<_> = days.collect();
        let file = serde_json::json!({"year": year, "days": days});
        file.to_string().parse().unwrap()
    }

    #[track_caller]
    fn assert_kinds(holidays: &Holidays, expected: &[(&str, DayKind, &str)]) {
        for (date, kind, name) in expected {
            let found = (holidays.kind(day(date)), holidays.name(day(date)));
            assert_eq!(found, (*kind, *name), "{date}");
        }
    }

    #[test]
    fn days_are_as_the_notices_have_them() {
        use DayKind::{Holiday, MakeupWorkday, Weekend, Workday};
        assert_kinds(
            &Holidays::china(),
            &[
                // Decreed with the next year.
                ("2018-12-29", MakeupWorkday, "元旦"),
                ("2018-12-31", Holiday, "元旦"),
                ("2022-12-31", Holiday, "元旦"),
                // Changed by a later notice, in March 2019 and in January 2020.
                ("2019-05-01", Holiday, "劳动节"),
                ("2019-05-04", Holiday, "劳动节"),
                ("2019-05-05", MakeupWorkday, "劳动节"),
                ("2020-01-31", Holiday, "春节"),
                ("2020-02-02", Holiday, "春节"),
                ("2020-02-03", Workday, ""),
                // A weekend next to a holiday is none.
                ("2023-12-30", Weekend, ""),
                ("2024-01-01", Holiday, "元旦"),
                ("2025-10-06", Holiday, "国庆节、中秋节"),
                ("2026-09-20", MakeupWorkday, "国庆节"),
                ("2026-09-25", Holiday, "中秋节"),
                ("2026-11-28", Weekend, ""),
                ("2026-11-30", Workday, ""),
            ],
        );
    }

    #[test]
    fn every_year_has_as_many_days_of_each_kind_as_decreed() {
        let china = Holidays::china();
        for (year, holidays, makeup_workdays) in [
            (2015, 26, 5),
            (2016, 24, 6),
            (2017, 24, 5),
            (2018, 25, 7),
            (2019, 22, 6),
            (2020, 30, 6),
            (2021, 31, 7),
            (2022, 32, 7),
            (2023, 26, 7),
            (2024, 28, 8),
            (2025, 28, 5),
            (2026, 33, 6),
        ] {
            let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
            let days = first.iter_days().take_while(|day| day.year() == year);
            let days: Vec<_> = days.collect();
            let count = |kind| days.iter().filter(|day| china.kind(**day) == kind).count();
            let found = (count(DayKind::Holiday), count(DayKind::MakeupWorkday));
            assert_eq!(found, (holidays, makeup_workdays), "{year}");
            assert_eq!(count(DayKind::Unknown), 0, "{year}");
            let is_named = |day: &&NaiveDate| !china.name(**day).is_empty();
            let named = days.iter().filter(is_named).count();
            assert_eq!(named, holidays + makeup_workdays, "{year}");
            let mut makeup = days
                .iter()
                .filter(|day| china.kind(**day) == DayKind::MakeupWorkday);
            assert!(makeup.all(|day| is_weekend(*day)), "{year}");
        }
    }

    #[test]
    fn days_of_a_year_without_a_notice_are_unknown() {
        let china = Holidays::china();
        for date in ["1999-01-01", "2014-12-31", "2999-01-01", "2999-05-04"] {
            assert_kinds(&china, &[(date, DayKind::Unknown, "")]);
        }
        for day in [NaiveDate::MIN, NaiveDate::MAX] {
            assert_eq!(china.kind(day), DayKind::Unknown);
        }
    }

    #[test]
    fn a_calendar_without_holidays_has_workdays_and_weekends() {
        let none = Holidays::none();
        let (workday, weekend) = (DayKind::Workday, DayKind::Weekend);
        assert_kinds(
            &none,
            &[
                ("2026-10-01", workday, ""),
                ("2026-09-20", weekend, ""),
                ("2999-01-01", workday, ""),
            ],
        );
        assert_eq!(none.missing_year(day("2999-12-01")), None);
    }

    #[test]
    fn a_file_of_a_year_replaces_what_that_year_has_and_nothing_else() {
        use DayKind::{Holiday, Unknown, Weekend, Workday};
        let files = [year(2023, &["2022-12-30"]), year(2099, &["2099-01-01"])];
        let holidays = Holidays::china_with(files);
        assert_kinds(
            &holidays,
            &[
                ("2022-10-01", Holiday, "国庆节"),
                ("2022-12-30", Holiday, "春节"),
                ("2022-12-31", Weekend, ""),
                ("2023-10-02", Workday, ""),
                ("2098-12-31", Unknown, ""),
                ("2099-01-01", Holiday, "春节"),
                ("2099-01-02", Workday, ""),
            ],
        );
    }

    #[test]
    fn a_file_without_days_replaces_nothing() {
        let holidays = Holidays::china_with([year(2026, &[]), year(2099, &[])]);
        assert_eq!(holidays, Holidays::china());
    }

    #[test]
    fn the_next_year_is_missing_from_december_on() {
        let holidays = Holidays::china_with([year(2098, &["2098-01-01"])]);
        let missing = |date| holidays.missing_year(day(date));
        assert_eq!(missing("2026-01-01"), None);
        assert_eq!(missing("2098-11-30"), None);
        assert_eq!(missing("2098-12-01"), Some(2099));
        assert_eq!(missing("2099-01-01"), Some(2099));
        assert_eq!(missing("2099-12-01"), Some(2099));
        assert_eq!(missing("2097-12-31"), Some(2097));
    }
}
