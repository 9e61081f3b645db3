//! What the log says about polls: a line for every new or revised day; one when failures begin, one an
//! hour while they last, and one when they end; a summary for every poll interval; and a reminder while
//! the holidays of a year are missing.
//!
//! Messages are constants, so that they can be grouped; everything that varies is a field.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::due::Change;
use crate::archive::{DayState, Key};
use crate::config::{App, MissingHolidays};
use crate::portrait::Window;
use crate::state::AppSnapshot;
use crate::wechat::Diagnosis;
use crate::wechat::errcodes::Reason;

/// A failure that lasts is logged again after this time.
const REMINDER: TimeDelta = TimeDelta::hours(1);

/// Holidays that stay missing are logged again after this time.
const HOLIDAYS_REMINDER: TimeDelta = TimeDelta::weeks(1);

/// What was logged about the failing polls of a window.
#[derive(Debug, Default)]
pub(super) struct FailureLog(Option<Logged>);

#[derive(Debug)]
struct Logged {
    reason: Reason,
    at: DateTime<Utc>,
}

impl FailureLog {
    /// Logs how a poll ended, if that is news; `failed` is the worst failure and its day.
    pub(super) fn record(
        &mut self,
        app: &App,
        window: Window,
        failed: Option<&(NaiveDate, Diagnosis)>,
        now: DateTime<Utc>,
    ) {
        let App { appid, name, .. } = app;
        let Some((day, diagnosis)) = failed.filter(|(_, diagnosis)| !diagnosis.is_not_ready())
        else {
            if let Some((day, Diagnosis { reason, .. })) = failed {
                tracing::debug!(%appid, app = name, %window, %day, %reason, "portrait not ready");
            }
            if let Some(Logged { reason, .. }) = self.0.take() {
                tracing::info!(%appid, app = name, %window, %reason, "polls succeed again");
            }
            return;
        };
        let Diagnosis {
            reason,
            errcode,
            rid,
            message,
            ..
        } = diagnosis;
        let is_known = self
            .0
            .as_ref()
            .is_some_and(|logged| logged.reason == *reason && (now - logged.at).abs() < REMINDER);
        if !is_known {
            tracing::warn!(%appid, app = name, %window, %day, %reason, errcode, rid, hint = message, "poll failed");
            self.0 = Some(Logged {
                reason: *reason,
                at: now,
            });
        }
    }
}

/// What was logged about a year without holidays.
#[derive(Debug, Default)]
pub(super) struct HolidaysLog(Option<(i32, DateTime<Utc>)>);

impl HolidaysLog {
    /// Logs that the holidays of a year are missing, if that is news or was logged a week ago.
    pub(super) fn record(&mut self, missing: Option<MissingHolidays>, now: DateTime<Utc>) {
        if let Some(missing) = missing.filter(|missing| self.is_due(missing.year, now)) {
            missing.log();
        }
        if missing.is_none() {
            self.0 = None;
        }
    }

    /// Returns `true` if the year is to be logged, and remembers that it was.
    fn is_due(&mut self, year: i32, now: DateTime<Utc>) -> bool {
        let is_due = self
            .0
            .is_none_or(|(last, at)| last != year || (now - at).abs() >= HOLIDAYS_REMINDER);
        if is_due {
            self.0 = Some((year, now));
        }
        is_due
    }
}

/// Logs a portrait that arrived and is stored.
pub(super) fn portrait_arrived(app: &App, key: &Key, change: Change, state: DayState) {
    let App { appid, name, .. } = app;
    let (window, day, settled) = (key.window, key.reference_date, state.settled);
    match change {
        Change::First => {
            tracing::info!(%appid, app = name, %window, %day, settled, "portrait arrived");
        }
        Change::Revised => {
            let revisions = state.revisions;
            tracing::info!(%appid, app = name, %window, %day, settled, revisions, "portrait revised");
        }
        Change::Same => {
            tracing::debug!(%appid, app = name, %window, %day, settled, "portrait unchanged");
        }
    }
}

/// How the requests of all apps ended since the last summary.
#[derive(Debug, Clone, Default)]
pub(super) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    new: AtomicU64,
    revised: AtomicU64,
    unchanged: AtomicU64,
    not_ready: AtomicU64,
    failed: AtomicU64,
}

impl Activity {
    pub(super) fn arrived(&self, change: Change) {
        let counter = match change {
            Change::First => &self.0.new,
            Change::Revised => &self.0.revised,
            Change::Same => &self.0.unchanged,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, diagnosis: &Diagnosis) {
        let counter = if diagnosis.is_not_ready() {
            &self.0.not_ready
        } else {
            &self.0.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Logs what happened since the last time, unless nothing did.
    pub(super) fn summarize(&self, apps: &[Arc<AppSnapshot>]) {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let (new, revised) = (take(&self.0.new), take(&self.0.revised));
        let (unchanged, not_ready) = (take(&self.0.unchanged), take(&self.0.not_ready));
        let failed = take(&self.0.failed);
        if new + revised + unchanged + not_ready + failed > 0 {
            let failing_apps = apps.iter().filter(|app| app.is_failing()).count();
            let apps = apps.len();
            tracing::info!(
                apps,
                failing_apps,
                new,
                revised,
                unchanged,
                not_ready,
                failed,
                "polls since the last summary"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_holidays_are_logged_at_once_and_then_once_a_week() {
        let start: DateTime<Utc> = "2026-11-30T16:00:00Z".parse().unwrap();
        let mut log = HolidaysLog::default();
        let hours = (0..24 * 30).filter(|hours| {
            let year = if *hours < 24 * 20 { 2027 } else { 2028 };
            log.is_due(year, start + TimeDelta::hours(*hours))
        });
        let days: Vec<_> = hours.map(|hours| hours / 24).collect();
        assert_eq!(days, [0, 7, 14, 20, 27]);
        log.record(None, start);
        assert!(log.is_due(2028, start), "it was known meanwhile");
    }
}
