//! The histories that pages of apps show, so that a page that is loaded again costs neither the archive nor
//! a processor anything.
//!
//! Does not know how they are shown.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, NaiveDate, Utc};
use tokio::sync::{OnceCell, Semaphore};

use crate::archive::{Archive, Coverage, Error, Key};
use crate::calendar;
use crate::history::History;
use crate::portrait::{AppId, Portrait, Window};
use crate::state::{AppSnapshot, Comparison, WindowSnapshot};
use crate::wechat::decode;

/// How many histories are kept: up to 1 MB each.
const CAPACITY: usize = 32;

/// What the page of an app shows of its archive.
#[derive(Debug)]
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
    /// Held by the one that is computed: all of them together use at most one processor.
    computing: Semaphore,
}

struct Entry {
    shown: Shown,
    basis: Basis,
    history: Arc<OnceCell<Arc<AppHistory>>>,
}

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
        Self {
            entries: Mutex::default(),
            computing: Semaphore::new(1),
        }
    }
}

impl Histories {
    /// Returns the last so many days of a window of an app; those that wait to be archived are not in it.
    ///
    /// # Errors
    ///
    /// The archive can't be read now.
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
        // Requests for the same history wait for the first of them.
        let history = self.entry(shown, basis);
        let compute = || async {
            // Only a bug closes it, and then there is no limit.
            let _permit = self.computing.acquire().await;
            compute(archive, app, window, days).await.map(Arc::new)
        };
        history.get_or_try_init(compute).await.cloned()
    }

    /// Returns the place of a history; an empty one if there is none that follows from the same.
    fn entry(&self, shown: Shown, basis: Basis) -> Arc<OnceCell<Arc<AppHistory>>> {
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
        if entries.len() > CAPACITY {
            entries.pop_front();
        }
        history
    }
}

async fn compute(
    archive: &Archive,
    app: &AppSnapshot,
    window: &WindowSnapshot,
    days: u64,
) -> Result<AppHistory, Error> {
    let WindowSnapshot {
        window,
        reference_date,
        coverage,
        ..
    } = window;
    let (appid, window) = (&app.appid, *window);
    let Some(last) = reference_date.and_then(|day| coverage.newest_until(day)) else {
        return Ok(AppHistory {
            history: History::default(),
            newest: None,
            week_before: None,
        });
    };
    let first = calendar::days_before(last, days.saturating_sub(1));
    let begin = History::begin(window, first);
    let archived = archive.history(appid.clone(), window, begin).await?;
    let answer = async |reference_date| {
        let key = Key {
            appid: appid.clone(),
            window,
            reference_date,
        };
        archive.answer(key).await
    };
    let newest = answer(last).await?;
    let week_before = answer(calendar::days_before(last, 7)).await?;
    let since = coverage.bounds().map(|(since, _)| since);
    let comparison = app.comparison.clone();
    let compute = move || {
        let portrait = |answer: Option<String>, day| {
            // What is damaged was reported when the app was restored.
            decode::archived(&answer?, window, day).ok()
        };
        AppHistory {
            history: History::new(window, archived, since, first..=last, &comparison),
            newest: portrait(newest, last),
            week_before: portrait(week_before, calendar::days_before(last, 7)),
        }
    };
    // Fails only while the program ends; a panic was logged by the hook.
    let computed = tokio::task::spawn_blocking(compute).await;
    computed.map_err(|_| Error::Closed)
}
