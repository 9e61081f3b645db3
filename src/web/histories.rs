//! The histories that pages of apps show, so that a page that is loaded again costs neither the archive nor
//! a processor anything.
//!
//! Does not know how they are shown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::rendering::Rendering;
use crate::archive::{Archive, Coverage, Error, Key, Operation, UnreadDay};
use crate::calendar;
use crate::history::History;
use crate::portrait::{AppId, Portrait, Window};
use crate::state::{AppSnapshot, Comparison, WindowSnapshot};
use crate::wechat::decode;

/// How many days the kept histories may have together, some 2 KB each: enough for fifty people who each look at
/// another app and reload.
const CAPACITY: u64 = 16_000;

/// What the two portraits of a history take, in days.
const PORTRAITS: u64 = 100;

/// How long a page waits for the archive.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the page of an app shows of its archive.
#[derive(Debug, Default)]
pub struct AppHistory {
    /// The days up to the newest one that is shown and archived; none if there is no such day.
    pub history: History,
    /// The portrait of the last of them, in all dimensions; `None` if it can't be read.
    pub newest: Option<Portrait>,
    /// That of the same weekday a week before; `None` if it is not archived.
    pub week_before: Option<Portrait>,
}

/// The histories that were shown last.
pub struct Histories {
    /// The one that was used last is the last.
    entries: Mutex<VecDeque<Entry>>,
    /// Held while one is read, so that polls, which store answers, wait for at most one of them.
    reading: Semaphore,
    rendering: Rendering,
}

struct Entry {
    shown: Shown,
    basis: Basis,
    history: Arc<Computed>,
}

/// A history once it is computed, or why it could not be.
type Computed = OnceCell<Result<Arc<AppHistory>, Error>>;

/// Which history it is.
#[derive(Clone, PartialEq)]
struct Shown {
    appid: AppId,
    window: Window,
    days: u64,
}

/// What a history follows from: if it is the same, so is the history.
#[derive(PartialEq)]
struct Basis {
    coverage: Coverage,
    revisions: u64,
    reference_date: Option<NaiveDate>,
    settled: bool,
    last_success_at: Option<DateTime<Utc>>,
    comparison: Comparison,
    archive_version: u64,
}

impl Default for Histories {
    fn default() -> Self {
        Self::new(Rendering::default())
    }
}

impl Histories {
    /// Computes histories as it is their turn in `rendering`.
    pub(super) fn new(rendering: Rendering) -> Self {
        Self {
            entries: Mutex::default(),
            reading: Semaphore::new(1),
            rendering,
        }
    }

    /// Returns the last so many days of a window of an app; those that wait to be archived are not in it.
    ///
    /// # Errors
    ///
    /// The archive can't be read now, or takes more than three seconds.
    pub async fn get(
        &self,
        archive: &Archive,
        app: &AppSnapshot,
        window: &WindowSnapshot,
        days: u64,
    ) -> Result<Arc<AppHistory>, Error> {
        let shown = Shown {
            appid: app.appid.clone(),
            window: window.window,
            days,
        };
        let basis = Basis {
            coverage: window.coverage.clone(),
            revisions: window.revisions,
            reference_date: window.reference_date,
            settled: window.settled,
            last_success_at: window.last_success_at,
            comparison: app.comparison.clone(),
            // Before anything is read, so that a change meanwhile is noticed the next time.
            archive_version: archive.version(),
        };
        // Requests for the same history wait for the first of them, and fail with it.
        let history = self.entry(shown, basis);
        let compute = || self.compute(archive, app, window, days);
        let computed = history.get_or_init(compute).await.clone();
        if computed.is_err() {
            self.forget(&history);
        }
        computed
    }

    async fn compute(
        &self,
        archive: &Archive,
        app: &AppSnapshot,
        window: &WindowSnapshot,
        days: u64,
    ) -> Result<Arc<AppHistory>, Error> {
        let newest = window.reference_date;
        let Some(last) = newest.and_then(|day| window.coverage.newest_until(day)) else {
            return Ok(Arc::default());
        };
        let range = [calendar::days_before(last, days.saturating_sub(1)), last];
        let (window, comparison) = (window.window, app.comparison.clone());
        let read = async {
            // Only a bug closes it, and then there is no limit.
            let _turn = self.reading.acquire().await;
            Archived::read(archive, &app.appid, window, range).await
        };
        let read = timeout(PATIENCE, read).await;
        let archived = read.map_err(|_| Error::Failed {
            place: archive.place().clone(),
            operation: Operation::Read,
            problem: format!(
                "it takes too long; if that lasts, {}",
                archive.place().check()
            ),
        })??;
        let compute = move || Arc::new(archived.history(window, range, &comparison));
        // Fails only while the program ends; a panic was logged by the hook.
        self.rendering.run(compute).await.ok_or(Error::Closed)
    }

    /// Returns the place of a history; an empty one if there is none that follows from the same.
    fn entry(&self, shown: Shown, basis: Basis) -> Arc<Computed> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let place = entries.iter().position(|entry| entry.shown == shown);
        let known = place.and_then(|place| entries.remove(place));
        let known = known.filter(|entry| entry.basis == basis);
        let entry = known.unwrap_or_else(|| Entry {
            shown,
            basis,
            history: Arc::default(),
        });
        let history = Arc::clone(&entry.history);
        entries.push_back(entry);
        let size = |entry: &Entry| entry.shown.days + PORTRAITS;
        while entries.iter().map(size).sum::<u64>() > CAPACITY {
            entries.pop_front();
        }
        history
    }

    /// Lets the next request compute a history again.
    fn forget(&self, history: &Arc<Computed>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| !Arc::ptr_eq(&entry.history, history));
    }
}

/// What the archive holds of a history.
struct Archived {
    days: Vec<UnreadDay>,
    newest: Option<String>,
    week_before: Option<String>,
}

impl Archived {
    /// Reads the days from `first` to `last`, and those that they are compared with.
    async fn read(
        archive: &Archive,
        appid: &AppId,
        window: Window,
        [first, last]: [NaiveDate; 2],
    ) -> Result<Self, Error> {
        let answer = async |reference_date| {
            let key = Key {
                appid: appid.clone(),
                window,
                reference_date,
            };
            archive.answer(key).await
        };
        let begin = History::begin(window, first);
        Ok(Self {
            days: archive.history(appid.clone(), window, begin).await?,
            newest: answer(last).await?,
            week_before: answer(week_before(last)).await?,
        })
    }

    fn history(
        self,
        window: Window,
        [first, last]: [NaiveDate; 2],
        comparison: &Comparison,
    ) -> AppHistory {
        let portrait = |answer: Option<String>, day| {
            // What is damaged was reported when the app was restored.
            decode::archived(&answer?, window, day).ok()
        };
        let days = self.days.into_iter().map(|day| day.read(window)).collect();
        AppHistory {
            history: History::new(window, days, first..=last, comparison),
            newest: portrait(self.newest, last),
            week_before: portrait(self.week_before, week_before(last)),
        }
    }
}

fn week_before(day: NaiveDate) -> NaiveDate {
    calendar::days_before(day, 7)
}
