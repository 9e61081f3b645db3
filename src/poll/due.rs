//! What is due and when next. Pure: every result follows from the arguments.
//!
//! A day is requested from the next midnight in Beijing until its figures are final, and only while
//! WeChat still has it: the requests of a day are for yesterday and the day before. While nothing can
//! change they are rare.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use twox_hash::XxHash3_64;

use crate::archive::{Coverage, DayState};
use crate::calendar::{self, CLOCK_TOLERANCE};
use crate::portrait::AppId;
use crate::state::PollOutcome;
use crate::wechat::errcodes::Retry;

/// This long after a day began, at 15:30 of the next, WeChat no longer corrects its figures.
const FINAL_AFTER: TimeDelta = TimeDelta::minutes((24 + 15) * 60 + 30);

/// This long after a day began, at 08:00 of the next, WeChat may begin to have its figures.
const ARRIVES_AFTER: TimeDelta = TimeDelta::hours(24 + 8);

/// How often a day is requested while nothing can change, two hours; a little less, as an answer takes
/// time and the next poll must not miss its slot in the interval.
pub const QUIET_INTERVAL: Duration = Duration::from_mins(115);

/// What is known about one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDay {
    /// The digest of the figures, see [`crate::portrait::Portrait::digest`].
    pub digest: u64,
    /// The state of its answers.
    pub state: DayState,
}

impl KnownDay {
    /// Returns `true` if `day` need not be requested any more.
    fn is_final(&self, day: NaiveDate) -> bool {
        self.state.settled && self.state.answered_at >= final_at(day)
    }
}

/// How an answer relates to what was known before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The day was not known.
    First,
    /// The figures agree.
    Same,
    /// The figures differ.
    Revised,
}

impl From<Change> for PollOutcome {
    fn from(change: Change) -> Self {
        match change {
            Change::First => Self::New,
            Change::Same => Self::Confirmed,
            Change::Revised => Self::Revised,
        }
    }
}

impl Change {
    /// Returns the word for it in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Same => "same",
            Self::Revised => "revised",
        }
    }
}

/// The days of one app and window that may be requested, and what is known about them.
#[derive(Debug, Clone, Default)]
pub struct OpenDays {
    known: BTreeMap<NaiveDate, KnownDay>,
    /// Days that WeChat refused, and the Beijing day of the refusal.
    refused: BTreeMap<NaiveDate, NaiveDate>,
    /// Days that were not ready, and when that was.
    not_ready: BTreeMap<NaiveDate, DateTime<Utc>>,
}

impl OpenDays {
    /// Takes over what the archive holds of a day.
    pub fn restore(&mut self, day: NaiveDate, known: KnownDay) {
        self.known.insert(day, known);
    }

    /// Returns what is known about a day.
    #[must_use]
    pub fn get(&self, day: NaiveDate) -> Option<&KnownDay> {
        self.known.get(&day)
    }

    /// Records an answer for `day`; returns how it relates to the one before, and the new state.
    pub fn record(
        &mut self,
        day: NaiveDate,
        digest: u64,
        now: DateTime<Utc>,
    ) -> (Change, DayState) {
        let before = self.known.get(&day);
        let change = match before {
            None => Change::First,
            Some(known) if known.digest == digest => Change::Same,
            Some(_) => Change::Revised,
        };
        let before = before.map(|known| known.state);
        let state = DayState {
            first_answered_at: before.map_or(now, |state| state.first_answered_at),
            answered_at: now,
            settled: change == Change::Same,
            revisions: before
                .map_or(0, |state| state.revisions)
                .saturating_add(u32::from(change == Change::Revised)),
        };
        self.known.insert(day, KnownDay { digest, state });
        let oldest = calendar::oldest_queryable(now);
        self.known.retain(|day, _| *day >= oldest);
        self.refused.retain(|day, _| *day >= oldest);
        self.not_ready.retain(|day, _| *day >= oldest);
        (change, state)
    }

    /// Remembers that WeChat refused `day`: the same request would get the same answer until the
    /// day in Beijing changes.
    pub fn refuse(&mut self, day: NaiveDate, now: DateTime<Utc>) {
        self.refused
            .insert(day, calendar::today(now - CLOCK_TOLERANCE));
    }

    /// Remembers that WeChat had not computed `day` yet.
    pub fn not_ready(&mut self, day: NaiveDate, now: DateTime<Utc>) {
        self.not_ready.insert(day, now);
    }

    /// Forgets days that the archive does not hold and that do not wait for it (`is_waiting`), so that they
    /// are requested again; returns `true` if there were any.
    pub fn forget_missing(
        &mut self,
        held: &Coverage,
        is_waiting: impl Fn(NaiveDate) -> bool,
    ) -> bool {
        let before = self.known.len();
        self.known
            .retain(|day, _| held.has(*day) || is_waiting(*day));
        self.known.len() < before
    }

    /// Returns the days to request now, the one that WeChat deletes first in front. While nothing can
    /// change, a day is due every `quiet_interval`.
    #[must_use]
    pub fn due(&self, quiet_interval: Duration, now: DateTime<Utc>) -> Vec<NaiveDate> {
        let due_at = |day| self.due_at(day, quiet_interval, now);
        let is_due = |day: &NaiveDate| due_at(*day).is_some_and(|due_at| due_at <= now);
        queryable(now).filter(is_due).collect()
    }

    /// Returns when there will be something to request.
    #[must_use]
    pub fn next_due(&self, quiet_interval: Duration, now: DateTime<Utc>) -> DateTime<Utc> {
        let next_day = calendar::next_midnight(now - CLOCK_TOLERANCE) + CLOCK_TOLERANCE;
        queryable(now)
            .filter_map(|day| self.due_at(day, quiet_interval, now))
            .fold(next_day, DateTime::min)
    }

    /// Returns when a day is to be requested, if on this Beijing day.
    fn due_at(
        &self,
        day: NaiveDate,
        quiet_interval: Duration,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if self.refused.get(&day) == Some(&calendar::today(now - CLOCK_TOLERANCE)) {
            return None;
        }
        let quiet_since = match self.known.get(&day) {
            Some(known) if known.is_final(day) => return None,
            Some(known) => known.state.settled.then_some(known.state.answered_at),
            None => self.not_ready.get(&day).copied(),
        };
        let Some(quiet_since) = quiet_since.filter(|since| *since <= now) else {
            return Some(now);
        };
        // Where a portrait arrived, figures are corrected until they are final. Where none arrived, WeChat
        // begins to have some in the morning.
        let change_at = if self.known.contains_key(&day) {
            final_at(day)
        } else {
            calendar::midnight(day) + ARRIVES_AFTER
        };
        let next = quiet_since + quiet_interval;
        if quiet_since < change_at {
            return Some(next.min(change_at));
        }
        // Figures of yesterday may arrive at any time of the day; the day before stays empty.
        let is_newest = day == calendar::newest_queryable(now);
        Some(if is_newest { now } else { next })
    }
}

/// Returns the days that may be requested: the day before yesterday, and yesterday. In the first
/// minutes after midnight that is one day, as the clocks may differ.
fn queryable(now: DateTime<Utc>) -> impl Iterator<Item = NaiveDate> {
    let newest = calendar::newest_queryable(now);
    let oldest = calendar::oldest_queryable(now);
    oldest.iter_days().take_while(move |day| *day <= newest)
}

fn final_at(day: NaiveDate) -> DateTime<Utc> {
    calendar::midnight(day) + FINAL_AFTER
}

/// Returns the oldest day that may be due; missing days before it are lost.
#[must_use]
pub fn oldest_due(now: DateTime<Utc>) -> NaiveDate {
    calendar::oldest_queryable(now - CLOCK_TOLERANCE)
}

/// Returns the time before which an app is not polled again after an error, if any.
#[must_use]
pub fn hold_until(retry: Retry, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match retry {
        Retry::NextPoll | Retry::Soon | Retry::NewToken | Retry::OtherDay => None,
        Retry::After(pause) => Some(now + pause),
        Retry::Tomorrow => Some(calendar::next_midnight(now)),
    }
}

/// Returns when an app with something due at `due_at` is polled next.
///
/// Apps have slots in the interval by a hash of their appid, so that thousands of them are not polled
/// at once.
#[must_use]
pub fn next_poll(
    appid: &AppId,
    interval: Duration,
    due_at: DateTime<Utc>,
    hold_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> DateTime<Utc> {
    let earliest = due_at.max(now + TimeDelta::milliseconds(1));
    let earliest = earliest.max(hold_until.unwrap_or(earliest));
    let interval = i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let hash = XxHash3_64::oneshot(appid.as_str().as_bytes());
    let place = i64::try_from(hash >> 1).unwrap_or_default() % interval;
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

    /// Returns what is due at times of 2026-11-22 in Beijing, for days of which nothing is known.
    fn ask_all_day(interval: Duration, ready_at: &str) -> Vec<String> {
        let mut days = OpenDays::default();
        let before = day("2026-11-20");
        let state = DayState {
            first_answered_at: utc("2026-11-21T02:00:00Z"),
            answered_at: utc("2026-11-21T08:00:00Z"),
            settled: true,
            revisions: 0,
        };
        days.restore(before, KnownDay { digest: 1, state });
        let mut now = utc("2026-11-21T16:00:00Z");
        let end = utc("2026-11-22T16:00:00Z");
        let mut asked = Vec::new();
        loop {
            now = next_poll(
                &appid(),
                interval,
                days.next_due(QUIET_INTERVAL, now),
                None,
                now,
            );
            if now >= end {
                return asked;
            }
            for day in days.due(QUIET_INTERVAL, now) {
                let time = calendar::in_beijing(now).format("%H:%M");
                asked.push(format!("{} {time}", day.format("%d")));
                // An answer takes some time.
                let now = now + TimeDelta::seconds(2);
                if now >= utc(ready_at) {
                    days.record(day, 1, now);
                } else {
                    days.not_ready(day, now);
                }
            }
        }
    }

    #[test]
    fn an_ordinary_day_costs_some_thirteen_requests() {
        let asked = ask_all_day(INTERVAL, "2026-11-22T02:00:00Z");
        assert!((12..=14).contains(&asked.len()), "{asked:?}");
        assert!(asked.iter().all(|day| day.starts_with("21 ")), "{asked:?}");
        let night = asked
            .iter()
            .filter(|time| time.as_str() < "21 08:00")
            .count();
        assert!((4..=5).contains(&night), "{asked:?}");
        assert!(asked.last().unwrap().as_str() >= "21 15:30", "{asked:?}");
        assert!(asked.last().unwrap().as_str() < "21 16:00", "{asked:?}");
    }

    #[test]
    fn around_midnight_no_day_is_requested_that_another_clock_would_refuse() {
        let days = OpenDays::default();
        let both = [day("2026-11-20"), day("2026-11-21")];
        assert_eq!(days.due(QUIET_INTERVAL, utc("2026-11-22T15:59:59Z")), both);
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T16:00:00Z")),
            both[1..]
        );
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T16:09:59Z")),
            both[1..]
        );
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T16:10:00Z")),
            [day("2026-11-21"), day("2026-11-22")]
        );
    }

    #[test]
    fn a_longer_interval_is_respected() {
        let asked = ask_all_day(Duration::from_hours(4), "2026-11-22T02:00:00Z");
        assert!(asked.len() <= 6, "{asked:?}");
    }

    #[test]
    fn a_late_day_is_requested_at_every_poll_of_the_day() {
        let asked = ask_all_day(INTERVAL, "2026-11-22T14:00:00Z");
        let day = asked
            .iter()
            .filter(|time| time.as_str() >= "21 08:00")
            .count();
        assert!((28..=31).contains(&day), "{asked:?}");
    }

    #[test]
    fn yesterday_and_the_day_before_are_due_until_they_are_final() {
        let mut days = OpenDays::default();
        let morning = utc("2026-11-22T03:00:00Z");
        assert_eq!(
            days.due(QUIET_INTERVAL, morning),
            [day("2026-11-20"), day("2026-11-21")]
        );

        days.record(day("2026-11-20"), 1, morning);
        days.record(day("2026-11-20"), 1, morning);
        assert_eq!(
            days.due(QUIET_INTERVAL, morning),
            [day("2026-11-21")],
            "after 15:30 of the next day two answers are enough"
        );

        days.record(day("2026-11-21"), 1, morning);
        assert_eq!(
            days.due(QUIET_INTERVAL, morning),
            [day("2026-11-21")],
            "not settled"
        );
        days.record(day("2026-11-21"), 1, morning);
        assert!(
            days.due(QUIET_INTERVAL, morning).is_empty(),
            "nothing changes at once"
        );
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T05:00:00Z")),
            [day("2026-11-21")],
            "figures of the morning can still change"
        );

        days.record(day("2026-11-21"), 1, utc("2026-11-22T07:29:59Z"));
        assert!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T07:29:59Z"))
                .is_empty()
        );
        let final_at = utc("2026-11-22T07:30:00Z");
        assert_eq!(
            days.next_due(QUIET_INTERVAL, utc("2026-11-22T07:29:59Z")),
            final_at
        );
        assert_eq!(days.due(QUIET_INTERVAL, final_at), [day("2026-11-21")]);
        days.record(day("2026-11-21"), 1, final_at);
        assert!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T15:00:00Z"))
                .is_empty()
        );
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T16:10:00Z")),
            [day("2026-11-22")],
            "the day changes in Beijing"
        );
    }

    #[test]
    fn a_day_that_only_has_figures_of_the_morning_is_requested_again_the_next_day() {
        let mut days = OpenDays::default();
        days.record(day("2026-11-21"), 1, utc("2026-11-22T03:00:00Z"));
        days.record(day("2026-11-21"), 1, utc("2026-11-22T03:30:00Z"));
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-23T03:00:00Z")),
            [day("2026-11-21"), day("2026-11-22")]
        );
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_prevent_requests() {
        let mut days = OpenDays::default();
        days.record(day("2026-11-21"), 1, utc("2026-11-22T03:00:00Z"));
        days.record(day("2026-11-21"), 1, utc("2026-11-22T06:00:00Z"));
        days.not_ready(day("2026-11-20"), utc("2026-11-22T06:00:00Z"));
        let now = utc("2026-11-22T03:30:00Z");
        assert_eq!(
            days.due(QUIET_INTERVAL, now),
            [day("2026-11-20"), day("2026-11-21")]
        );
    }

    #[test]
    fn a_day_that_is_not_archived_is_requested_again() {
        let mut days = OpenDays::default();
        let now = utc("2026-11-22T08:00:00Z");
        for day in [day("2026-11-20"), day("2026-11-21")] {
            days.record(day, 1, now);
            days.record(day, 1, now);
        }
        assert!(days.due(QUIET_INTERVAL, now).is_empty());
        let held = [(day("2026-11-20"), 0)].into_iter().collect();
        days.forget_missing(&held, |waiting| waiting == day("2026-11-21"));
        assert!(days.due(QUIET_INTERVAL, now).is_empty());
        days.forget_missing(&held, |_| false);
        assert_eq!(days.due(QUIET_INTERVAL, now), [day("2026-11-21")]);
    }

    #[test]
    fn answers_settle_when_two_agree_and_unsettle_when_they_differ() {
        let mut days = OpenDays::default();
        let (first, second, third) = (
            utc("2026-11-22T03:00:00Z"),
            utc("2026-11-22T03:30:00Z"),
            utc("2026-11-22T04:00:00Z"),
        );
        let yesterday = day("2026-11-21");
        let (change, state) = days.record(yesterday, 1, first);
        assert_eq!((change, state.settled), (Change::First, false));
        let (change, state) = days.record(yesterday, 1, second);
        assert_eq!(
            (change, state.settled, state.answered_at),
            (Change::Same, true, second)
        );
        let (change, state) = days.record(yesterday, 2, third);
        assert_eq!(
            (change, state.settled, state.revisions),
            (Change::Revised, false, 1)
        );
        assert_eq!(state.first_answered_at, first);
    }

    #[test]
    fn a_refused_day_is_not_requested_until_the_day_changes_in_beijing() {
        let mut days = OpenDays::default();
        days.refuse(day("2026-11-21"), utc("2026-11-22T03:00:00Z"));
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T04:00:00Z")),
            [day("2026-11-20")]
        );
        assert_eq!(
            days.due(QUIET_INTERVAL, utc("2026-11-22T16:10:00Z")),
            [day("2026-11-21"), day("2026-11-22")]
        );
    }

    #[test]
    fn polls_follow_each_other_by_the_interval() {
        let now = utc("2026-11-22T03:00:00Z");
        let first = next_poll(&appid(), INTERVAL, now, None, now);
        assert!(first > now && first <= now + INTERVAL);
        assert_eq!(
            next_poll(&appid(), INTERVAL, first, None, first),
            first + INTERVAL
        );
    }

    #[test]
    fn with_nothing_due_the_next_poll_is_some_minutes_after_midnight_in_beijing() {
        let now = utc("2026-11-22T08:00:00Z");
        let mut days = OpenDays::default();
        for day in [day("2026-11-20"), day("2026-11-21")] {
            days.record(day, 1, now);
            days.record(day, 1, now);
        }
        let next = next_poll(
            &appid(),
            INTERVAL,
            days.next_due(QUIET_INTERVAL, now),
            None,
            now,
        );
        let midnight = utc("2026-11-22T16:10:00Z");
        assert!(next >= midnight && next < midnight + INTERVAL, "{next}");
    }

    #[test]
    fn what_an_operator_must_resolve_is_polled_less_often() {
        let now = utc("2026-11-22T03:00:00Z");
        let hold = hold_until(Retry::After(Duration::from_hours(24)), now);
        let next = next_poll(&appid(), INTERVAL, now, hold, now);
        assert!(
            next >= utc("2026-11-23T03:00:00Z") && next < utc("2026-11-23T03:30:00Z"),
            "{next}"
        );
        assert_eq!(
            hold_until(Retry::Tomorrow, now),
            Some(utc("2026-11-22T16:00:00Z"))
        );
        assert_eq!(hold_until(Retry::NextPoll, now), None);
    }

    #[test]
    fn apps_are_spread_over_the_interval_and_keep_their_slots() {
        let now = utc("2026-11-22T03:00:00Z");
        let mut tenths = [0; 10];
        for number in 0..1000_u32 {
            let appid: AppId = format!("wx{number:016x}").parse().unwrap();
            let after = next_poll(&appid, INTERVAL, now, None, now) - now;
            tenths[usize::try_from(after.num_milliseconds() * 10 / 1_800_001).unwrap()] += 1;
        }
        assert!(
            tenths.iter().all(|apps| (50..200).contains(apps)),
            "{tenths:?}"
        );
        assert_eq!(
            next_poll(&appid(), INTERVAL, now, None, now),
            utc("2026-11-22T03:17:16.372Z"),
            "a hash that lasts"
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
