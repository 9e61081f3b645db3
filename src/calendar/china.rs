//! The public holidays of China that are built in, from the table `china.txt`.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chrono::NaiveDate;

use super::holiday_year::{HolidayDay, HolidayDays};

/// The days by the year in the title of the notice that decreed them.
pub(super) type Years = BTreeMap<i32, Arc<HolidayDays>>;

/// Returns the years that are built in.
pub(super) fn years() -> Arc<Years> {
    static YEARS: LazyLock<Arc<Years>> = LazyLock::new(|| {
        let years = read(include_str!("china.txt"));
        Arc::new(years.unwrap_or_else(|| unreachable!("a test reads the table")))
    });
    Arc::clone(&YEARS)
}

fn read(table: &str) -> Option<Years> {
    let mut years: BTreeMap<i32, HolidayDays> = BTreeMap::new();
    let is_holiday = |line: &&str| !line.is_empty() && !line.starts_with('#');
    for line in table.lines().filter(is_holiday) {
        let mut words = line.split(' ');
        let days = years.entry(words.next()?.parse().ok()?).or_default();
        let name = words.next()?;
        let mut is_off = true;
        for word in words {
            if word == "work" {
                is_off = false;
                continue;
            }
            let (first, last) = word.split_once("..").unwrap_or((word, word));
            let (first, last): (NaiveDate, NaiveDate) = (first.parse().ok()?, last.parse().ok()?);
            for date in first.iter_days().take_while(|date| *date <= last) {
                let name = name.to_owned();
                days.insert(date, HolidayDay { name, is_off });
            }
        }
    }
    let years = years.into_iter();
    Some(years.map(|(year, days)| (year, Arc::new(days))).collect())
}
