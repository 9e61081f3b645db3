//! The languages of what people read in a browser or a terminal, and how figures and days are written in them.
//!
//! Logs, errors and labels are English whatever is preferred. Knows nothing of apps.

use std::fmt::Display;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};

use crate::calendar;
use crate::portrait::string_enum;

string_enum! {
    /// A language.
    Language, "language" {
        /// Simplified Chinese.
        Chinese = "zh",
        /// English.
        English = "en",
    }
}

impl Language {
    /// Returns the one of these texts that is in this language.
    pub fn pick<T>(self, chinese: T, english: T) -> T {
        match self {
            Self::Chinese => chinese,
            Self::English => english,
        }
    }

    /// Returns its tag for the attribute `lang` of HTML (BCP 47).
    #[must_use]
    pub fn tag(self) -> &'static str {
        self.pick("zh-CN", "en")
    }

    /// Returns the language that a browser prefers by its header `Accept-Language` (RFC 9110, section
    /// 12.5.4); English if it prefers neither.
    #[must_use]
    pub fn of_browser(accept_language: &str) -> Self {
        let ranges = accept_language.split(',').filter_map(|range| {
            let (range, parameter) = range.split_once(';').unwrap_or((range, "q=1"));
            let weight = parameter.trim().strip_prefix("q=")?.parse::<f32>().ok()?;
            let language = Self::of_tag(range.trim())?;
            (weight > 0.0).then_some((language, weight))
        });
        let best = ranges.reduce(|best, next| if next.1 > best.1 { next } else { best });
        best.map_or(Self::English, |(language, _)| language)
    }

    /// Returns the language of a terminal; `variable` returns environment variables.
    #[must_use]
    pub fn of_terminal(variable: impl Fn(&str) -> Option<String>) -> Self {
        let names = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let mut values = names.into_iter().filter_map(variable);
        let locale = values.find(|value| !value.is_empty());
        let language = locale.and_then(|locale| Self::of_tag(&locale));
        language.unwrap_or(Self::English)
    }

    /// Reads `zh-Hans-CN`, `zh_CN.UTF-8` or `en`.
    fn of_tag(tag: &str) -> Option<Self> {
        let language = tag.split(['-', '_', '.']).next()?;
        let language = language.to_ascii_lowercase();
        language.parse().ok()
    }

    /// Writes a figure of an axis in a few characters, as `1.2万` or `12k`.
    #[must_use]
    pub fn compact(self, number: f64) -> String {
        let units = self.pick(
            [(1e12, "万亿"), (1e8, "亿"), (1e4, "万")],
            [(1e9, "G"), (1e6, "M"), (1e3, "k")],
        );
        let unit = units.into_iter().find(|(unit, _)| number >= *unit);
        let (unit, name) = unit.unwrap_or((1.0, ""));
        // At most one decimal, and none that is 0.
        let tenths = (10.0 * number / unit).round();
        format!("{}{name}", tenths / 10.0)
    }

    /// Writes a day with its weekday, as `2026-11-28 周六` or `Sat 2026-11-28`.
    #[must_use]
    pub fn day(self, day: NaiveDate) -> String {
        let weekday = self.weekday(day);
        self.pick(format!("{day} {weekday}"), format!("{weekday} {day}"))
    }

    /// Writes a weekday, as `周六` or `Sat`.
    #[must_use]
    pub fn weekday(self, day: NaiveDate) -> &'static str {
        let weekdays = self.pick(
            ["周一", "周二", "周三", "周四", "周五", "周六", "周日"],
            ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
        );
        weekdays[day.weekday().num_days_from_monday() as usize]
    }

    /// Writes a time as the clocks of Beijing show it at `now`: `今日 14:02`, `昨日 14:02` or `2026-11-28 14:02`.
    #[must_use]
    pub fn time(self, time: DateTime<Utc>, now: DateTime<Utc>) -> String {
        let clock = calendar::in_beijing(time).format("%H:%M");
        let (day, today) = (calendar::today(time), calendar::today(now));
        let day: Box<dyn Display> = if day == today {
            Box::new(self.pick("今日", "today"))
        } else if day == calendar::days_before(today, 1) {
            Box::new(self.pick("昨日", "yesterday"))
        } else if Some(day) == today.succ_opt() {
            Box::new(self.pick("明日", "tomorrow"))
        } else {
            Box::new(day)
        };
        format!("{day} {clock}")
    }
}

/// Writes a number of users with thousands separators, as `12,690`.
#[must_use]
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Writes a whole number that was computed, such as a usual figure.
#[must_use]
pub fn rounded(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and negative numbers do not occur"
    )]
    let whole = number.round() as u64;
    self::number(whole)
}

/// Writes a share from 0 to 1 as `12.3%`.
#[must_use]
pub fn share(ratio: f64) -> String {
    format!("{:.1}%", 100.0 * ratio)
}

/// Writes a change as `+3.7%` or `−20.2%`; changes beyond a tenfold as `×12`.
#[must_use]
pub fn change(ratio: f64) -> String {
    if ratio >= 9.0 {
        return format!("×{:.0}", ratio + 1.0);
    }
    let percent = (1000.0 * ratio).round() / 10.0;
    match percent {
        0.0 => "±0%".to_owned(),
        percent if percent < 0.0 => format!("−{:.1}%", -percent),
        percent => format!("+{percent:.1}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::Language::{Chinese, English};
    use super::*;

    #[test]
    fn browsers_get_the_language_that_they_prefer() {
        for (header, expected) in [
            ("", English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
            ("en-US,en;q=0.9,zh-CN;q=0.8", English),
            ("fr,zh;q=0.5", Chinese),
            ("fr,de;q=0.5,*;q=0.1", English),
            ("en;q=0.2, ZH-hans;q=0.7", Chinese),
            ("zh;q=0, en;q=0.1", English),
            ("zh;q=0", English),
            ("zh;q=x,zhx,,;q=1", English),
            ("zh,en", Chinese),
        ] {
            assert_eq!(Language::of_browser(header), expected, "{header}");
        }
    }

    #[test]
    fn terminals_get_the_language_of_their_locale() {
        for (variables, expected) in [
            (&[][..], English),
            (&[("LANG", "zh_CN.UTF-8")], Chinese),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "C")], English),
            (&[("LANG", "zh_CN.UTF-8"), ("LC_ALL", "")], Chinese),
            (&[("LANG", "en_US"), ("LC_MESSAGES", "zh_TW")], Chinese),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Language::of_terminal(variable), expected, "{variables:?}");
        }
    }

    #[test]
    fn figures_are_written_for_people() {
        let numbers = [0, 999, 1_000, 12_690, 126_546, 1_000_000, u64::MAX];
        assert_eq!(
            numbers.map(number),
            [
                "0",
                "999",
                "1,000",
                "12,690",
                "126,546",
                "1,000,000",
                "18,446,744,073,709,551,615"
            ]
        );
        let changes = [0.0369, -0.2024, 0.0, 0.0001, -0.0004, 8.5, 9.0, 119.2];
        assert_eq!(
            changes.map(change),
            [
                "+3.7%", "−20.2%", "±0%", "±0%", "±0%", "+850.0%", "×10", "×120"
            ]
        );
        assert_eq!(rounded(1234.5), "1,235");
        assert_eq!(share(0.4567), "45.7%");
        for (number, chinese, english) in [
            (0.0, "0", "0"),
            (0.5, "0.5", "0.5"),
            (1_500.0, "1500", "1.5k"),
            (20_000.0, "2万", "20k"),
            (125_000.0, "12.5万", "125k"),
            (3e8, "3亿", "300M"),
            (2e19, "20000000万亿", "20000000000G"),
        ] {
            let found = [Chinese, English].map(|language| language.compact(number));
            assert_eq!(found, [chinese, english]);
        }
    }

    #[test]
    fn days_and_times_are_those_of_beijing() {
        let day: NaiveDate = "2026-11-28".parse().unwrap();
        assert_eq!(Chinese.day(day), "2026-11-28 周六");
        assert_eq!(English.day(day), "Sat 2026-11-28");
        let now = "2026-11-28T16:30:00Z".parse().unwrap();
        for (time, chinese, english) in [
            ("2026-11-28T16:02:00Z", "今日 00:02", "today 00:02"),
            ("2026-11-28T15:59:00Z", "昨日 23:59", "yesterday 23:59"),
            ("2026-11-29T16:00:00Z", "明日 00:00", "tomorrow 00:00"),
            (
                "2026-11-20T00:00:00Z",
                "2026-11-20 08:00",
                "2026-11-20 08:00",
            ),
        ] {
            let time = time.parse().unwrap();
            assert_eq!(Chinese.time(time, now), chinese);
            assert_eq!(English.time(time, now), english);
        }
    }
}
