//! What is known about one window of an app while it is polled, and the lines that show it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

use super::due::{self, KnownDay, OpenDays};
use super::log::FailureLog;
use crate::archive::{ChangedDay, Coverage, Restored};
use crate::calendar;
use crate::config::App;
use crate::exposition::page::{self, WindowLines};
use crate::past::PastDays;
use crate::portrait::{Dimension, Portrait, Window};
use crate::state::{PollOutcome, RecentPoll, Summary, WindowSnapshot};
use crate::wechat::decode;

/// WeChat has this many days, so the newest ones may be requested again and compared.
const QUERYABLE_DAYS: usize = 2;

/// One window of an app.
#[derive(Debug)]
pub(super) struct WindowPoller {
    /// What is published about it.
    pub(super) snapshot: WindowSnapshot,
    /// The days that may be requested.
    pub(super) days: OpenDays,
    /// The days that an answer is compared with.
    pub(super) past: PastDays,
    /// Its rendered lines, until they are published.
    pub(super) lines: Option<WindowLines>,
    /// What was logged about failures.
    pub(super) failure_log: FailureLog,
}

impl WindowPoller {
    /// Starts with a window of which nothing is known.
    pub(super) fn new(window: Window, app: &App) -> Self {
        Self {
            snapshot: WindowSnapshot::new(window),
            days: OpenDays::default(),
            past: PastDays::new(window, past_dimensions(window, app)),
            lines: Some(WindowLines::default()),
            failure_log: FailureLog::default(),
        }
    }

    pub(super) fn window(&self) -> Window {
        self.snapshot.window
    }

    /// Remembers a poll that ended at `at`.
    pub(super) fn remember(&mut self, day: NaiveDate, outcome: PollOutcome, at: DateTime<Utc>) {
        let polls = &mut self.snapshot.recent_polls;
        polls.add(RecentPoll { at, day, outcome });
    }

    /// Returns `true` if the past days in memory are sufficient for this configuration.
    pub(super) fn suits(&self, app: &App) -> bool {
        self.past
            .has_dimensions(past_dimensions(self.window(), app))
    }

    /// Returns `true` if no past day is shown in a dimension in which WeChat lists only some names.
    pub(super) fn needs_figures_only(&self) -> bool {
        self.past.has_fully_listed_dimensions_only()
    }

    /// Removes how the last poll ended, as another exporter polls the app.
    pub(super) fn forget_last_poll(&mut self) {
        self.snapshot.last_poll_success = None;
        self.snapshot.last_failure = None;
        self.failure_log = FailureLog::default();
    }

    /// Takes over the state of a day that another exporter has archived; returns `false` if its figures
    /// are not known, so that it must be read.
    pub(super) fn confirm(&mut self, changed: &ChangedDay) -> bool {
        let (day, state) = (changed.key.reference_date, changed.state);
        let is_known = self.snapshot.coverage.has(day)
            && self.days.get(day).is_some_and(|known| {
                Some(known.digest) == changed.digest && known.state.revisions == state.revisions
            });
        if let Some(digest) = changed.digest.filter(|_| is_known) {
            self.days.restore(day, KnownDay { digest, state });
            if self.snapshot.reference_date == Some(day) {
                self.snapshot.settled = state.settled;
            }
            let answered_at = Some(state.answered_at);
            self.snapshot.last_success_at = self.snapshot.last_success_at.max(answered_at);
        }
        is_known
    }

    /// Takes over the archived days, and drops the past days that were in memory before; returns the
    /// newest portrait. `answers` are for days whose figures alone are not sufficient; of a day that
    /// waits for the archive the answer that waits is more recent.
    pub(super) fn restore(
        &mut self,
        app: &App,
        restored: Restored,
        answers: Vec<(NaiveDate, String)>,
        is_waiting: impl Fn(NaiveDate) -> bool,
    ) -> Option<Portrait> {
        let window = self.window();
        let read = |day: NaiveDate, answer: &str| {
            let portrait = decode::archived(answer, window, day);
            portrait
                .inspect_err(|error| {
                    let App { appid, name, .. } = app;
                    tracing::error!(%appid, app = name, %window, %day, %error, "cannot read an archived response");
                })
                .ok()
        };
        self.past = PastDays::new(window, past_dimensions(window, app));
        for day in &restored.days {
            if let Some(figures) = &day.figures {
                self.past.insert(figures);
            }
        }
        for (day, answer) in answers {
            if let Some(portrait) = read(day, &answer) {
                self.past.insert(&portrait);
            }
        }
        for day in restored.days.iter().take(QUERYABLE_DAYS) {
            let (date, state) = (day.reference_date, day.state);
            if let Some(digest) = day.digest.filter(|_| !is_waiting(date)) {
                self.days.restore(date, KnownDay { digest, state });
            }
        }
        let answered_at = restored.days.iter().map(|day| day.state.answered_at).max();
        self.snapshot.last_success_at = self.snapshot.last_success_at.max(answered_at);
        self.snapshot.coverage = restored.coverage;
        let (day, answer) = restored.newest?;
        let portrait = read(day, &answer)?;
        self.past.insert(&portrait);
        Some(portrait)
    }

    /// Shows a portrait with the days before it; renders and compresses, which takes some
    /// milliseconds.
    pub(super) fn show(&mut self, app: &App, mut portrait: Portrait, settled: bool) {
        let reference_date = portrait.reference_date;
        let of_days_ago = |days_ago: &u32| {
            let day = calendar::days_before(reference_date, (*days_ago).into());
            (*days_ago, day)
        };
        let is_daily = portrait.window == Window::OneDay;
        let days_ago = app.past.days_ago.iter().filter(|_| is_daily);
        let wanted: Vec<_> = days_ago.map(of_days_ago).collect();
        let past = self.past.align(
            &mut portrait,
            &app.top_names,
            wanted.iter().map(|(_, day)| *day),
        );
        let past: Vec<_> = wanted
            .into_iter()
            .filter_map(|(days_ago, day)| {
                let portrait = past.iter().find(|past| past.reference_date == day)?;
                Some((days_ago, portrait))
            })
            .collect();
        let mut dimensions = app.dimensions.clone();
        let users = page::users(&app.appid, &portrait, &dimensions);
        dimensions.retain(|dimension| app.past.dimensions.contains(dimension));
        let summary = Summary::new(&portrait, &self.past, &app.into(), &app.dimensions);
        self.lines = Some(WindowLines {
            users: Some(users),
            past_users: is_daily.then(|| page::past_users(&app.appid, &past, &dimensions)),
            summary: page::summary(&app.appid, portrait.window, &summary),
        });
        self.snapshot.summary = Some(Arc::new(summary));
        self.snapshot.reference_date = Some(reference_date);
        self.snapshot.is_shown = true;
        self.snapshot.settled = settled;
    }

    /// Removes the lines; returns `true` if there were any.
    pub(super) fn hide(&mut self) -> bool {
        self.lines = Some(WindowLines::default());
        self.snapshot.summary = None;
        std::mem::take(&mut self.snapshot.is_shown)
    }

    /// Describes the days that WeChat deleted before they were archived, from `begin` on and before
    /// `end`.
    pub(super) fn lost_days(
        &self,
        begin: Option<NaiveDate>,
        end: NaiveDate,
    ) -> impl Iterator<Item = String> {
        let coverage = &self.snapshot.coverage;
        // Gaps before the newest day were reported when they occurred.
        let begin = begin.or(coverage.bounds().map(|(_, newest)| newest));
        let gaps = begin.map_or(Vec::new(), |_| coverage.gaps(end));
        let window = self.window();
        gaps.into_iter().filter_map(move |(first, last)| {
            let begin = begin?;
            (last >= begin).then(|| format!("{window} {} to {last}", first.max(begin)))
        })
    }

    /// Updates which days the archive holds; returns `true` if days that are shown or compared with were
    /// added or removed.
    pub(super) fn set_coverage(&mut self, coverage: Coverage) -> bool {
        let before = std::mem::replace(&mut self.snapshot.coverage, coverage);
        let limit = PastDays::capacity(self.window());
        let last_days = |coverage: &Coverage| coverage.last_days(limit);
        last_days(&before) != last_days(&self.snapshot.coverage)
    }

    /// Returns `true` if there is a hidden portrait that would not be stale.
    pub(super) fn is_hidden(&self, now: DateTime<Utc>, stale_after: Duration) -> bool {
        let day = self.snapshot.reference_date;
        !self.snapshot.is_shown && day.is_some_and(|day| now < due::stale_at(day, stale_after))
    }

    /// Returns when the users that are shown become stale, if any are.
    pub(super) fn stale_at(&self, stale_after: Duration) -> Option<DateTime<Utc>> {
        let day = self
            .snapshot
            .reference_date
            .filter(|_| self.snapshot.is_shown);
        day.map(|day| due::stale_at(day, stale_after))
    }
}

/// Returns the dimensions in which past days are shown; they are those of the window 1d only.
fn past_dimensions(window: Window, app: &App) -> &[Dimension] {
    match window {
        Window::OneDay => &app.past.dimensions,
        Window::SevenDays | Window::ThirtyDays => &[],
    }
}
