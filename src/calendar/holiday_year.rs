//! The public holidays of one year, from a file in the form of github.com/NateScarlet/holiday-cn.
//!
//! A file belongs to the year in the title of a notice of the State Council, and may have days of the
//! December before it. Knows neither where the file is nor what other years have.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;
use std::str::FromStr;

use chrono::{Datelike as _, NaiveDate};
use serde::Deserialize;

use super::holidays::is_weekend;

/// The years that a file may be of; another one is a mistake.
const YEARS: RangeInclusive<i32> = 2000..=2100;

/// The public holidays of one year, and the workdays that make up for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolidayYear {
    year: i32,
    /// Empty while they are not decreed.
    pub(super) days: HolidayDays,
}

pub(super) type HolidayDays = BTreeMap<NaiveDate, HolidayDay>;

/// A holiday, or a Saturday or Sunday on which people work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HolidayDay {
    pub(super) name: String,
    pub(super) is_off: bool,
}

#[derive(Deserialize)]
struct File {
    year: i32,
    days: Vec<FileDay>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileDay {
    name: String,
    date: String,
    is_off_day: bool,
}

impl HolidayYear {
    /// Returns the year in the title of the notice.
    #[must_use]
    pub fn year(&self) -> i32 {
        self.year
    }
}

impl FromStr for HolidayYear {
    type Err = String;

    /// Fails with a sentence about the first thing that is wrong.
    fn from_str(json: &str) -> Result<Self, String> {
        // Some editors begin a file with this mark.
        let file: File = serde_json::from_str(json.trim_start_matches('\u{feff}'))
            .map_err(|error| format!("not a list of holidays: {error}"))?;
        let year = file.year;
        if !YEARS.contains(&year) {
            let (first, last) = YEARS.into_inner();
            return Err(format!("year {year}: expected {first} to {last}"));
        }
        let mut days = HolidayDays::new();
        for (index, day) in file.days.into_iter().enumerate() {
            let (date, day) = day
                .read(year)
                .map_err(|problem| format!("days[{index}]: {problem}"))?;
            match days.entry(date) {
                Entry::Vacant(entry) => _ = entry.insert(day),
                Entry::Occupied(_) => return Err(format!("days[{index}]: duplicate {date}")),
            }
        }
        // A notice that moves a holiday may name a Monday on which people work again, as in 2020.
        days.retain(|date, day| day.is_off || is_weekend(*date));
        Ok(Self { year, days })
    }
}

impl FileDay {
    /// Checks the day of a file of `year`.
    fn read(self, year: i32) -> Result<(NaiveDate, HolidayDay), String> {
        let Self {
            name,
            date: text,
            is_off_day: is_off,
        } = self;
        let date: NaiveDate = text
            .parse()
            .map_err(|_| format!("{text:?} is not a date: expected one such as {year}-01-01"))?;
        let is_december_before = (date.year(), date.month()) == (year - 1, 12);
        if date.year() != year && !is_december_before {
            return Err(format!(
                "{date} is neither in {year} nor in the December before"
            ));
        }
        if name.trim().is_empty() || name.contains(char::is_control) {
            return Err(format!("the name of {date} is blank or not one line"));
        }
        Ok((date, HolidayDay { name, is_off }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problem(json: &str) -> String {
        json.parse::<HolidayYear>().unwrap_err()
    }

    fn file(days: &str) -> String {
        format!(r#"{{"year": 2027, "days": [{days}]}}"#)
    }

    fn day(date: &str) -> String {
        format!(r#"{{"name": "元旦", "date": "{date}", "isOffDay": true}}"#)
    }

    #[test]
    fn a_file_of_holiday_cn_is_read() {
        let json = "\u{feff}".to_owned()
            + r#"{
    "$schema": "https://raw.githubusercontent.com/NateScarlet/holiday-cn/master/schema.json",
    "year": 2027,
    "papers": ["https://www.gov.cn/zhengce/content/202611/content_1.htm"],
    "days": [
        {"name": "元旦", "date": "2026-12-31", "isOffDay": true},
        {"name": "元旦", "date": "2027-01-03", "isOffDay": false},
        {"name": "元旦", "date": "2027-01-04", "isOffDay": false}
    ]
}"#;
        let year: HolidayYear = json.parse().unwrap();
        assert_eq!(year.year(), 2027);
        let days = year.days.iter();
        let days: Vec<_> = days
            .map(|(date, day)| (date.to_string(), day.is_off))
            .collect();
        let expected = [("2026-12-31", true), ("2027-01-03", false)];
        assert_eq!(days, expected.map(|(date, off)| (date.to_owned(), off)));
    }

    #[test]
    fn a_year_that_is_not_decreed_has_no_days() {
        let year: HolidayYear = r#"{"year": 2027, "papers": [], "days": []}"#.parse().unwrap();
        assert!(year.days.is_empty());
    }

    #[test]
    fn a_file_that_is_wrong_is_reported() {
        for (json, expected) in [
            (
                "BEGIN:VCALENDAR".to_owned(),
                "not a list of holidays: expected value at line 1 column 1",
            ),
            (
                r#"{"year": 2027}"#.to_owned(),
                "not a list of holidays: missing field `days` at line 1 column 14",
            ),
            (
                r#"{"year": 20270, "days": []}"#.to_owned(),
                "year 20270: expected 2000 to 2100",
            ),
            (
                file(r#"{"name": "元旦", "date": "2027-01-01"}"#),
                "not a list of holidays: missing field `isOffDay` at line 1 column 64",
            ),
            (
                file(&day("2027-02-30")),
                "days[0]: \"2027-02-30\" is not a date: expected one such as 2027-01-01",
            ),
            (
                file(&day("2026-11-30")),
                "days[0]: 2026-11-30 is neither in 2027 nor in the December before",
            ),
            (
                file(&day("2028-01-01")),
                "days[0]: 2028-01-01 is neither in 2027 nor in the December before",
            ),
            (
                file(&[day("2027-01-01"), day("2027-01-01")].join(",")),
                "days[1]: duplicate 2027-01-01",
            ),
            (
                file(&day("2027-01-01").replace("元旦", " ")),
                "days[0]: the name of 2027-01-01 is blank or not one line",
            ),
        ] {
            assert_eq!(problem(&json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".*") {
            let _ = text.parse::<HolidayYear>();
        }

        #[test]
        fn no_list_of_days_makes_the_reader_panic(
            year in -300_000..300_000,
            days in prop::collection::vec((".{0,3}", r"-?[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}", any::<bool>()), 0..4),
        ) {
            let days = days.iter().map(|(name, date, is_off)| {
                serde_json::json!({"name": name, "date": date, "isOffDay": is_off})
            });
            let days: Vec<_> = days.collect();
            let file = serde_json::json!({"year": year, "days": days}).to_string();
            if let Ok(read) = file.parse::<HolidayYear>() {
                prop_assert_eq!(read.year(), year);
                prop_assert!(read.days.len() <= days.len());
            }
        }
    }
}
