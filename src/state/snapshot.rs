//! What is known about one app at one time, without its portraits.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::summary::{Comparison, Summary};
use crate::archive::Coverage;
use crate::calendar;
use crate::portrait::{AppId, Repairs, Window};
use crate::wechat::errcodes::Reason;

/// What is known about one app.
#[derive(Debug, Clone, PartialEq)]
pub struct AppSnapshot {
    /// The app.
    pub appid: AppId,
    /// Its name for people.
    pub name: String,
    /// Its configured labels.
    pub labels: BTreeMap<String, String>,
    /// How its days are compared.
    pub comparison: Comparison,
    /// Every configured window, in the order of the configuration.
    pub windows: Vec<WindowSnapshot>,
    /// What had to be repaired in answers with new figures.
    pub repairs: Repairs,
    /// Who polls it.
    pub polled_by: PolledBy,
    /// Whether an exporter that shares the archive has polled it, this one or another, at any time.
    pub is_polled: bool,
    /// When it will be polled again, if by this exporter.
    pub next_poll_at: Option<DateTime<Utc>>,
    /// How many answers wait to be archived.
    pub unstored: usize,
    /// Whether its archived days were read, or could not be read.
    pub is_restored: bool,
}

/// Who polls an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolledBy {
    /// This exporter.
    This,
    /// Another exporter, which shares the archive.
    Other,
    /// Not known, and not this exporter, until the archive was reached.
    Unknown,
}

/// What is known about one window of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowSnapshot {
    /// The window.
    pub window: Window,
    /// The last Beijing day of the newest portrait.
    pub reference_date: Option<NaiveDate>,
    /// Whether that portrait is shown: it is not stale.
    pub is_shown: bool,
    /// What it amounts to, while it is shown.
    pub summary: Option<Arc<Summary>>,
    /// Whether the last two responses for the reference date agree.
    pub settled: bool,
    /// When a valid portrait last arrived.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Whether the last poll succeeded; `None` before the first.
    pub last_poll_success: Option<bool>,
    /// Why the last poll did not return a portrait.
    pub last_failure: Option<Failure>,
    /// How often it was polled.
    pub polls: u64,
    /// The last of these polls.
    pub recent_polls: RecentPolls,
    /// How often that did not return a portrait.
    pub failures: Failures,
    /// How often an archived day arrived with other figures.
    pub revisions: u64,
    /// The archived days.
    pub coverage: Coverage,
}

/// Whether the figures of the newest day have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// There never was a portrait.
    Never,
    /// The newest portrait is too old to be shown.
    Stale,
    /// An earlier day is shown, as there are no figures of yesterday yet.
    Awaited,
    /// The figures of yesterday may still change.
    Provisional,
    /// Two answers for yesterday agree.
    Confirmed,
}

/// Why a poll did not return a portrait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason that it is counted under.
    pub reason: Reason,
    /// WeChat's error code, if it returned one.
    pub errcode: Option<i64>,
    /// A sentence for people.
    pub problem: String,
}

/// The last polls of a window since the start, the newest first. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentPolls(Arc<[RecentPoll]>);

/// A poll of one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentPoll {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The reference date that was requested.
    pub day: NaiveDate,
    /// What came of it.
    pub outcome: PollOutcome,
}

/// What came of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollOutcome {
    /// The first portrait of the day.
    New,
    /// A portrait with other figures than those that were known of the day.
    Revised,
    /// A portrait with the same figures.
    Confirmed,
    /// No portrait, for this reason.
    NoPortrait(Reason),
}

/// How often polls did not return a portrait, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures([u64; Reason::ALL.len()]);

impl Index<Reason> for Failures {
    type Output = u64;

    fn index(&self, reason: Reason) -> &u64 {
        &self.0[reason as usize]
    }
}

impl IndexMut<Reason> for Failures {
    fn index_mut(&mut self, reason: Reason) -> &mut u64 {
        &mut self.0[reason as usize]
    }
}

impl RecentPolls {
    /// How many are remembered.
    pub const CAPACITY: usize = 10;

    /// Remembers a poll that has just ended.
    pub fn add(&mut self, poll: RecentPoll) {
        let before = self.0.iter().take(Self::CAPACITY - 1).copied();
        self.0 = std::iter::once(poll).chain(before).collect();
    }

    /// Iterates over them, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &RecentPoll> {
        self.0.iter()
    }
}

impl PollOutcome {
    /// Returns its name: `new`, `revised`, `confirmed`, or the reason.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Revised => "revised",
            Self::Confirmed => "confirmed",
            Self::NoPortrait(reason) => reason.as_str(),
        }
    }
}

impl AppSnapshot {
    /// Returns `true` if the last poll of a window failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let mut windows = self.windows.iter();
        windows.any(|window| window.last_poll_success == Some(false))
    }

    /// Returns `true` if the archive was read and every window has an archived portrait, or was polled
    /// for one, be it by another exporter.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let mut windows = self.windows.iter();
        self.is_restored
            && windows.all(|window| {
                self.is_polled
                    || window.coverage.bounds().is_some()
                    || window.last_poll_success.is_some()
            })
    }

    /// Returns first and last day of every stretch that is missing in the archive and that WeChat no longer
    /// returns, the oldest first. `None` while that is not known: days that are yet to be read, or that wait for the
    /// archive, are not lost.
    #[must_use]
    pub fn gaps(
        &self,
        window: &WindowSnapshot,
        now: DateTime<Utc>,
    ) -> Option<Vec<(NaiveDate, NaiveDate)>> {
        let is_known = self.is_restored && self.unstored == 0;
        is_known.then(|| window.coverage.gaps(calendar::oldest_queryable(now)))
    }

    /// Returns that of an app without name and labels, which this exporter polls and whose archived days were read.
    #[must_use]
    pub fn new(appid: AppId, windows: Vec<WindowSnapshot>) -> Self {
        Self {
            name: appid.to_string(),
            appid,
            labels: BTreeMap::new(),
            comparison: Comparison::default(),
            windows,
            repairs: Repairs::default(),
            polled_by: PolledBy::This,
            is_polled: false,
            next_poll_at: None,
            unstored: 0,
            is_restored: true,
        }
    }
}

impl WindowSnapshot {
    /// Starts with a window of which nothing is known.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self {
            window,
            reference_date: None,
            is_shown: false,
            summary: None,
            settled: false,
            last_success_at: None,
            last_poll_success: None,
            last_failure: None,
            polls: 0,
            recent_polls: RecentPolls::default(),
            failures: Failures::default(),
            revisions: 0,
            coverage: Coverage::default(),
        }
    }

    /// Returns whether the figures of yesterday, or the newest day that WeChat may have, have arrived.
    #[must_use]
    pub fn arrival(&self, now: DateTime<Utc>) -> Arrival {
        match self.reference_date {
            None => Arrival::Never,
            Some(_) if !self.is_shown => Arrival::Stale,
            Some(day) if day < calendar::newest_queryable(now) => Arrival::Awaited,
            Some(_) if self.settled => Arrival::Confirmed,
            Some(_) => Arrival::Provisional,
        }
    }
}
