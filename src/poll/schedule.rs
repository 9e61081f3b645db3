//! What is due and when next. Pure: every answer follows from the arguments.
//!
//! A day is asked for from the next midnight in Beijing until its figures are final, and only as
//! long as WeChat still knows it: the questions of a day are about yesterday and the day before.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use crate::calendar;
use crate::portrait::AppId;
use crate::wechat::errcode::Then;

/// This long after a day began, at 15:30 of the next, WeChat no longer corrects its figures.
const FINAL_AFTER: TimeDelta = TimeDelta::minutes((24 + 15) * 60 + 30);

/// A new day is asked for this long after midnight: WeChat has nothing before the morning, and
/// would refuse the day if the clock of this host were ahead of its own.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// What is known about the answers for one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Of the figures, see [`crate::portrait::Portrait::fingerprint`].
    pub fingerprint: u64,
    /// When the day became known.
    pub first_answered_at: DateTime<Utc>,
    /// When these figures last arrived.
    pub answered_at: DateTime<Utc>,
    /// Whether the last two answers agree.
    pub settled: bool,
    /// How often the figures changed.
    pub revisions: u32,
}

impl Held {
    /// Tells whether WeChat need not be asked for `day` any more.
    fn is_final(&self, day: NaiveDate) -> bool {
        self.settled && self.answered_at >= calendar::midnight(day) + FINAL_AFTER
    }
}

/// How an answer relates to what was held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The day was not known.
    First,
    /// The figures agree.
    Same,
    /// The figures differ.
    Revised,
}

/// The newest days of one app and window, and what is known about them.
#[derive(Debug, Clone, Default)]
pub struct Days {
    held: BTreeMap<NaiveDate, Held>,
    /// Days that WeChat refused, and the Beijing day on which it did.
    refused: BTreeMap<NaiveDate, NaiveDate>,
}

impl Days {
    /// Takes over what was known before a restart, unless an answer has come since.
    pub fn restore(&mut self, day: NaiveDate, held: Held) {
        self.held.entry(day).or_insert(held);
    }

    /// Takes an answer for `day`; answers how it relates to the one before, and what is known now.
    pub fn answer(
        &mut self,
        day: NaiveDate,
        fingerprint: u64,
        now: DateTime<Utc>,
    ) -> (Change, Held) {
        let first = Held {
            fingerprint,
            first_answered_at: now,
            answered_at: now,
            settled: false,
            revisions: 0,
        };
        let (change, held) = match self.held.get(&day) {
            None => (Change::First, first),
            Some(held) if held.fingerprint == fingerprint => (
                Change::Same,
                Held {
                    answered_at: now,
                    settled: true,
                    ..*held
                },
            ),
            Some(held) => {
                let Held {
                    first_answered_at,
                    revisions,
                    ..
                } = *held;
                (
                    Change::Revised,
                    Held {
                        first_answered_at,
                        revisions: revisions.saturating_add(1),
                        ..first
                    },
                )
            }
        };
        self.held.insert(day, held);
        let oldest = calendar::oldest_queryable(now);
        self.held.retain(|day, _| *day >= oldest);
        self.refused.retain(|day, _| *day >= oldest);
        (change, held)
    }

    /// Remembers that WeChat refused `day`: the same question would get the same answer until the
    /// day in Beijing changes.
    pub fn refuse(&mut self, day: NaiveDate, now: DateTime<Utc>) {
        self.refused
            .insert(day, calendar::today(now - CLOCK_TOLERANCE));
    }

    /// Returns the days to ask for now, the one that WeChat forgets first in front.
    #[must_use]
    pub fn due(&self, now: DateTime<Utc>) -> Vec<NaiveDate> {
        let today = calendar::today(now - CLOCK_TOLERANCE);
        let is_due = |day: &NaiveDate| {
            !self.held.get(day).is_some_and(|held| held.is_final(*day))
                && self.refused.get(day) != Some(&today)
        };
        [oldest_due(now), calendar::days_before(today, 1)]
            .into_iter()
            .filter(is_due)
            .collect()
    }
}

/// Returns the oldest day that may be due; what is missing before it is lost.
#[must_use]
pub fn oldest_due(now: DateTime<Utc>) -> NaiveDate {
    calendar::oldest_queryable(now - CLOCK_TOLERANCE)
}

/// Returns the time before which an app is not asked again after an error, if there is one.
#[must_use]
pub fn hold_until(then: Then, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match then {
        Then::NextPoll | Then::Soon | Then::NewToken | Then::OtherDay => None,
        Then::After(pause) => Some(now + pause),
        Then::Tomorrow => Some(calendar::next_midnight(now)),
    }
}

/// Returns when an app is asked next.
///
/// Apps have places in the interval by a hash of their appid, so that thousands of them do not
/// ask at once. Without anything due the next question is for the day that ends next.
#[must_use]
pub fn next_poll(
    appid: &AppId,
    interval: Duration,
    is_due: bool,
    hold_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let earliest = if is_due {
        now + TimeDelta::milliseconds(1)
    } else {
        calendar::next_midnight(now - CLOCK_TOLERANCE) + CLOCK_TOLERANCE
    };
    let earliest = earliest.max(hold_until.unwrap_or(earliest));
    let interval = i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let mut hasher = DefaultHasher::new();
    appid.hash(&mut hasher);
    let place = i64::try_from(hasher.finish() >> 1).unwrap_or_default() % interval;
    earliest + TimeDelta::milliseconds((place - earliest.timestamp_millis()).rem_euclid(interval))
}

/// Returns when the users of a portrait become stale: its day is then further behind yesterday
/// than `stale_after`.
#[must_use]
pub fn stale_at(reference_date: NaiveDate, stale_after: Duration) -> DateTime<Utc> {
    calendar::midnight(reference_date) + TimeDelta::days(2) + stale_after
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_mins(30);

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn appid() -> AppId {
        "wx0123456789abcdef".parse().unwrap()
    }

    #[test]
    fn yesterday_and_the_day_before_are_due_until_they_are_final() {
        let mut days = Days::default();
        let morning = utc("2026-11-22T03:00:00Z");
        assert_eq!(days.due(morning), [day("2026-11-20"), day("2026-11-21")]);

        days.answer(day("2026-11-20"), 1, morning);
        days.answer(day("2026-11-20"), 1, morning);
        assert_eq!(
            days.due(morning),
            [day("2026-11-21")],
            "after 15:30 of the next day two answers are enough"
        );

        days.answer(day("2026-11-21"), 1, morning);
        days.answer(day("2026-11-21"), 1, morning);
        assert_eq!(
            days.due(morning),
            [day("2026-11-21")],
            "figures of the morning can still change"
        );

        days.answer(day("2026-11-21"), 1, utc("2026-11-22T07:29:59Z"));
        assert_eq!(days.due(morning), [day("2026-11-21")]);
        days.answer(day("2026-11-21"), 1, utc("2026-11-22T07:30:00Z"));
        assert!(days.due(utc("2026-11-22T08:00:00Z")).is_empty());
        assert_eq!(
            days.due(utc("2026-11-22T16:10:00Z")),
            [day("2026-11-22")],
            "the day changes in Beijing"
        );
    }

    #[test]
    fn a_day_that_only_has_figures_of_the_morning_is_asked_for_again_the_next_day() {
        let mut days = Days::default();
        days.answer(day("2026-11-21"), 1, utc("2026-11-22T03:00:00Z"));
        days.answer(day("2026-11-21"), 1, utc("2026-11-22T03:30:00Z"));
        assert_eq!(
            days.due(utc("2026-11-23T03:00:00Z")),
            [day("2026-11-21"), day("2026-11-22")]
        );
    }

    #[test]
    fn answers_settle_when_two_agree_and_unsettle_when_they_differ() {
        let mut days = Days::default();
        let (first, second, third) = (
            utc("2026-11-22T03:00:00Z"),
            utc("2026-11-22T03:30:00Z"),
            utc("2026-11-22T04:00:00Z"),
        );
        let yesterday = day("2026-11-21");
        let (change, held) = days.answer(yesterday, 1, first);
        assert_eq!((change, held.settled), (Change::First, false));
        let (change, held) = days.answer(yesterday, 1, second);
        assert_eq!(
            (change, held.settled, held.answered_at),
            (Change::Same, true, second)
        );
        let (change, held) = days.answer(yesterday, 2, third);
        assert_eq!(
            (change, held.settled, held.revisions),
            (Change::Revised, false, 1)
        );
        assert_eq!(held.first_answered_at, first);
    }

    #[test]
    fn a_refused_day_is_left_alone_until_the_day_changes_in_beijing() {
        let mut days = Days::default();
        days.refuse(day("2026-11-21"), utc("2026-11-22T03:00:00Z"));
        assert_eq!(days.due(utc("2026-11-22T04:00:00Z")), [day("2026-11-20")]);
        assert_eq!(
            days.due(utc("2026-11-22T16:10:00Z")),
            [day("2026-11-21"), day("2026-11-22")]
        );
    }

    #[test]
    fn polls_follow_each_other_by_the_interval() {
        let now = utc("2026-11-22T03:00:00Z");
        let first = next_poll(&appid(), INTERVAL, true, None, now);
        assert!(first > now && first <= now + INTERVAL);
        assert_eq!(
            next_poll(&appid(), INTERVAL, true, None, first),
            first + INTERVAL
        );
    }

    #[test]
    fn with_nothing_due_the_next_poll_is_some_minutes_after_midnight_in_beijing() {
        let next = next_poll(&appid(), INTERVAL, false, None, utc("2026-11-22T08:00:00Z"));
        let midnight = utc("2026-11-22T16:10:00Z");
        assert!(next >= midnight && next < midnight + INTERVAL, "{next}");
    }

    #[test]
    fn what_a_human_must_mend_is_asked_less_often() {
        let now = utc("2026-11-22T03:00:00Z");
        let hold = hold_until(Then::After(Duration::from_hours(24)), now);
        let next = next_poll(&appid(), INTERVAL, true, hold, now);
        assert!(
            next >= utc("2026-11-23T03:00:00Z") && next < utc("2026-11-23T03:30:00Z"),
            "{next}"
        );
        assert_eq!(
            hold_until(Then::Tomorrow, now),
            Some(utc("2026-11-22T16:00:00Z"))
        );
        assert_eq!(hold_until(Then::NextPoll, now), None);
    }

    #[test]
    fn apps_are_spread_over_the_interval() {
        let now = utc("2026-11-22T03:00:00Z");
        let mut tenths = [0; 10];
        for number in 0..1000_u32 {
            let appid: AppId = format!("wx{number:016x}").parse().unwrap();
            let after = next_poll(&appid, INTERVAL, true, None, now) - now;
            tenths[usize::try_from(after.num_milliseconds() * 10 / 1_800_001).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|apps| (50..200).contains(apps)),
            "{tenths:?}"
        );
    }

    #[test]
    fn users_are_stale_once_their_day_is_more_than_three_days_behind_yesterday() {
        let stale_at = stale_at(day("2026-11-17"), Duration::from_hours(72));
        assert_eq!(
            stale_at,
            utc("2026-11-21T16:00:00Z"),
            "yesterday is then 2026-11-21, four days later"
        );
    }
}
