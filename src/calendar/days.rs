//! Beijing days, whatever the zone of the host.
//!
//! WeChat counts days in UTC+8, all year. Only this module depends on that; all others use instants in
//! UTC and named days.

use std::sync::Arc;

use chrono::{DateTime, Days, FixedOffset, NaiveDate, NaiveTime, TimeDelta, Utc};

use crate::portrait::Window;

/// Returns the present time; main passes the real clock, tests pass their own.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// Beijing is ahead of UTC by this, without daylight saving.
const OFFSET_SECONDS: i32 = 8 * 3600;

/// The first day of the calendar as far as this program uses it; see [`midnight`].
const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(1, 1, 1) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// The last one.
const LAST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(9999, 12, 31) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

fn beijing() -> FixedOffset {
    FixedOffset::east_opt(OFFSET_SECONDS)
        .unwrap_or_else(|| unreachable!("eight hours are within a day"))
}

/// Returns the Beijing day that `now` lies in.
#[must_use]
pub fn today(now: DateTime<Utc>) -> NaiveDate {
    in_beijing(now).date_naive()
}

/// Returns the newest Beijing day of which WeChat may have figures.
#[must_use]
pub fn yesterday(now: DateTime<Utc>) -> NaiveDate {
    days_before(today(now), 1)
}

/// A new day is requested this long after midnight: WeChat has nothing before the morning, and would
/// refuse the day if the clock of this host were ahead of its own.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// Returns the newest Beijing day that is requested from WeChat: yesterday, from some minutes after
/// midnight on.
#[must_use]
pub fn newest_queryable(now: DateTime<Utc>) -> NaiveDate {
    yesterday(now - CLOCK_TOLERANCE)
}

/// Returns the oldest Beijing day of which WeChat still has figures.
#[must_use]
pub fn oldest_queryable(now: DateTime<Utc>) -> NaiveDate {
    days_before(today(now), 2)
}

/// Returns when WeChat usually has the figures of `day`: at 10:00 of the next day in Beijing.
#[must_use]
pub fn expected_available_at(day: NaiveDate) -> DateTime<Utc> {
    midnight(day) + TimeDelta::hours(24 + 10)
}

/// Returns the day that many days before `day`.
#[must_use]
pub fn days_before(day: NaiveDate, days: u64) -> NaiveDate {
    day.checked_sub_days(Days::new(days))
        .unwrap_or(NaiveDate::MIN)
}

/// Returns the instant when `day` begins in Beijing.
///
/// A day outside of the years 1 to 9999 counts as the first or the last day of these, so that hours
/// and days can be added to the result.
#[must_use]
pub fn midnight(day: NaiveDate) -> DateTime<Utc> {
    (day.clamp(FIRST_DAY, LAST_DAY).and_time(NaiveTime::MIN) - beijing()).and_utc()
}

/// Returns the first midnight in Beijing after `now`.
#[must_use]
pub fn next_midnight(now: DateTime<Utc>) -> DateTime<Utc> {
    end_of_day(today(now))
}

/// Returns the instant when `day` ends in Beijing.
#[must_use]
pub fn end_of_day(day: NaiveDate) -> DateTime<Utc> {
    midnight(day.succ_opt().unwrap_or(NaiveDate::MAX))
}

/// Returns `now` in Beijing's time zone, for people.
#[must_use]
pub fn in_beijing(now: DateTime<Utc>) -> DateTime<FixedOffset> {
    now.with_timezone(&beijing())
}

/// Returns the first and the last day of the window that ends on `reference_date`.
#[must_use]
pub fn range(window: Window, reference_date: NaiveDate) -> (NaiveDate, NaiveDate) {
    (
        days_before(reference_date, window.days() - 1),
        reference_date,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn the_day_changes_at_midnight_in_beijing() {
        assert_eq!(today(utc("2026-11-21T15:59:59Z")), day("2026-11-21"));
        assert_eq!(today(utc("2026-11-21T16:00:00Z")), day("2026-11-22"));
        assert_eq!(yesterday(utc("2026-11-21T16:00:00Z")), day("2026-11-21"));
        assert_eq!(
            next_midnight(utc("2026-11-21T15:59:59Z")),
            utc("2026-11-21T16:00:00Z")
        );
        assert_eq!(
            next_midnight(utc("2026-11-21T16:00:00Z")),
            utc("2026-11-22T16:00:00Z")
        );
    }

    #[test]
    fn a_day_begins_at_sixteen_hours_utc() {
        assert_eq!(midnight(day("2026-11-22")), utc("2026-11-21T16:00:00Z"));
        let half_past_three = midnight(day("2026-11-22")) + TimeDelta::minutes(15 * 60 + 30);
        assert_eq!(half_past_three, utc("2026-11-22T07:30:00Z"));
    }

    #[test]
    fn days_outside_of_the_calendar_begin_and_end_without_overflow() {
        for day in [NaiveDate::MIN, NaiveDate::MAX] {
            let after = [midnight(day), end_of_day(day), expected_available_at(day)];
            assert!(
                after
                    .iter()
                    .all(|time| *time + TimeDelta::days(1000) > *time)
            );
        }
        assert_eq!(days_before(NaiveDate::MIN, 1), NaiveDate::MIN);
    }

    #[test]
    fn windows_end_on_their_reference_date() {
        let end = day("2026-03-01");
        assert_eq!(range(Window::OneDay, end), (end, end));
        assert_eq!(range(Window::SevenDays, end), (day("2026-02-23"), end));
        assert_eq!(range(Window::ThirtyDays, end), (day("2026-01-31"), end));
    }
}
