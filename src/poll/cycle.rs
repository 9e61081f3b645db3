//! Asks WeChat for every app, archives what comes, and publishes it.
//!
//! Every app is followed by a task of its own, so that no app waits for another; the client
//! bounds how many requests are under way. An answer goes into the archive before it is
//! published. If the archive fails, the answer is published all the same and stored later.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::schedule::{self, Change, Days, Held};
use crate::archive::{self, Archive, Entry};
use crate::calendar::{self, Clock};
use crate::config::App;
use crate::exposition::page::{self, AppRecord, Page};
use crate::exposition::telemetry::Telemetry;
use crate::portrait::{Cohort, Portrait, Repair, Window};
use crate::wechat::errcode::Then;
use crate::wechat::wire::{self, Answer};
use crate::wechat::{Access, Client, Error};

/// No sleep is longer, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// What polling works with.
pub struct Poller {
    /// Asks WeChat.
    pub client: Client,
    /// Keeps the answers.
    pub archive: Arc<Archive>,
    /// Shows them.
    pub page: Arc<Page>,
    /// Counts what happens.
    pub telemetry: Arc<Telemetry>,
    /// Tells the time.
    pub clock: Clock,
    /// Between two polls of an app of which a day is due.
    pub interval: Duration,
    /// See [`crate::config::Config::stale_after`].
    pub stale_after: Duration,
    /// See [`crate::config::Config::retention`].
    pub retention: Duration,
}

/// One app and all that is known about it.
pub struct Followed {
    app: App,
    access: Access,
    /// What was published last, and what changes until it is published again.
    record: AppRecord,
    /// The newest days, window by window as in the record.
    days: Vec<Days>,
    /// What the archive did not take yet.
    unstored: Vec<Entry>,
    is_restored: bool,
}

impl Poller {
    /// Puts the newest archived portrait of every app on the page; asks nobody.
    ///
    /// What can't be read now is tried again when the app is polled.
    pub async fn restore(self: &Arc<Self>, apps: Vec<App>) -> Vec<Followed> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let restored = stream::iter(apps)
            .map(async |app| {
                let app = self.restore_app(Followed::new(app, (self.clock)())).await;
                self.page.publish(app.record.clone());
                app
            })
            .buffered(threads)
            .collect()
            .await;
        self.telemetry.archive_size(self.archive.size());
        restored
    }

    /// Follows every app until `shutdown`.
    pub async fn run(self: Arc<Self>, apps: Vec<Followed>, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).forget_old_days());
        for app in apps {
            tasks.spawn(Arc::clone(&self).follow(app));
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                ended = tasks.join_next() => match ended {
                    Some(Err(error)) => tracing::error!(%error, "polling of one app broke down: a bug; restart the exporter to poll it again"),
                    Some(Ok(())) => {}
                    None => return,
                },
            }
        }
    }

    async fn follow(self: Arc<Self>, mut app: Followed) {
        loop {
            if (self.clock)() >= app.record.next_poll_at {
                if !app.is_restored {
                    app = self.restore_app(app).await;
                }
                self.poll(&mut app).await;
            }
            self.hide_stale(&mut app, (self.clock)());
            self.page.publish(app.record.clone());
            let stale_at = app
                .shown_days()
                .map(|day| schedule::stale_at(day, self.stale_after))
                .min();
            self.sleep_until(
                stale_at
                    .into_iter()
                    .fold(app.record.next_poll_at, DateTime::min),
            )
            .await;
        }
    }

    /// Deletes what is beyond the retention, now and after every midnight in Beijing.
    async fn forget_old_days(self: Arc<Self>) {
        loop {
            let now = (self.clock)();
            let oldest =
                calendar::before(calendar::today(now), self.retention.as_secs() / (24 * 3600));
            match self
                .archived(move |archive| archive.delete_before(oldest))
                .await
            {
                Some(0) | None => {}
                Some(days) => {
                    tracing::info!(days, before = %oldest, "deleted days beyond the retention");
                }
            }
            self.sleep_until(calendar::next_midnight(now)).await;
        }
    }

    async fn sleep_until(&self, time: DateTime<Utc>) {
        while let Ok(rest) = (time - (self.clock)()).to_std()
            && !rest.is_zero()
        {
            tokio::time::sleep(rest.min(LONGEST_SLEEP)).await;
        }
    }

    /// Asks for everything that is due for one app.
    async fn poll(self: &Arc<Self>, app: &mut Followed) {
        if !app.unstored.is_empty() {
            self.store(app).await;
        }
        let mut hold_until = None;
        for index in 0..app.record.windows.len() {
            let due = app.days[index].due((self.clock)());
            if due.is_empty() {
                continue;
            }
            let problem = self.ask_for_days(app, index, due).await.err();
            let is_of_app = problem.as_ref().is_some_and(Error::is_of_app);
            let end = if is_of_app {
                app.record.windows.len()
            } else {
                index + 1
            };
            for window in &mut app.record.windows[index..end] {
                window.last_poll_success = Some(problem.as_ref().is_none_or(Error::is_not_ready));
                window.last_problem = problem.as_ref().map(|error| error.sentence(&app.app.appid));
            }
            // The other windows may take their time.
            self.page.publish(app.record.clone());
            if let Some(error) = problem.filter(|_| is_of_app) {
                hold_until = schedule::hold_until(error.then(), (self.clock)());
                break;
            }
        }
        let now = (self.clock)();
        // What waits for the archive must not wait for midnight.
        let is_due =
            !app.unstored.is_empty() || app.days.iter().any(|days| !days.due(now).is_empty());
        app.record.next_poll_at =
            schedule::next_poll(&app.app.appid, self.interval, is_due, hold_until, now);
    }

    /// Asks for days of one window, as long as there is a point in it; answers the worst problem.
    async fn ask_for_days(
        self: &Arc<Self>,
        app: &mut Followed,
        index: usize,
        days: Vec<NaiveDate>,
    ) -> Result<(), Error> {
        let mut result: Result<(), Error> = Ok(());
        for day in days {
            let Err(error) = self.ask(app, index, day).await else {
                continue;
            };
            if error.is_of_app() {
                return Err(error);
            }
            // A day that is not ready yet must not hide a failure of the other day.
            if result.as_ref().err().is_none_or(Error::is_not_ready) {
                result = Err(error);
            }
        }
        result
    }

    /// Asks for one day, and keeps what comes.
    async fn ask(
        self: &Arc<Self>,
        app: &mut Followed,
        index: usize,
        day: NaiveDate,
    ) -> Result<(), Error> {
        let record = &mut app.record.windows[index];
        let window = record.window;
        record.polls += 1;
        match self.client.portrait(&app.access, window, day).await {
            Ok(answer) => {
                self.keep(app, index, day, answer).await;
                Ok(())
            }
            Err(error) => {
                record.failures[error.reason() as usize] += 1;
                if error.then() == Then::OtherDay {
                    app.days[index].refuse(day, (self.clock)());
                }
                let (appid, reason, sentence) = (
                    &app.app.appid,
                    error.reason(),
                    error.sentence(&app.app.appid),
                );
                if error.is_not_ready() {
                    tracing::info!(%appid, %window, %day, %reason, "{sentence}");
                } else {
                    tracing::warn!(%appid, %window, %day, %reason, "{sentence}");
                }
                Err(error)
            }
        }
    }

    /// Stores an answer, and then puts it on the record.
    async fn keep(
        self: &Arc<Self>,
        app: &mut Followed,
        index: usize,
        day: NaiveDate,
        answer: Answer,
    ) {
        let now = (self.clock)();
        let (change, held) = app.days[index].answer(day, answer.portrait.fingerprint(), now);
        let window = answer.portrait.window;
        app.unstored
            .retain(|entry| entry.window != window || entry.reference_date != day);
        app.unstored.push(Entry {
            appid: app.app.appid.clone(),
            window,
            reference_date: day,
            answer: answer.text,
            first_answered_at: held.first_answered_at,
            answered_at: held.answered_at,
            settled: held.settled,
            revisions: held.revisions,
        });
        self.store(app).await;

        let record = &mut app.record.windows[index];
        record.last_success_at = Some(now);
        if change == Change::Revised {
            record.revisions += 1;
        }
        if change == Change::Same && record.users.is_some() && record.reference_date == Some(day) {
            record.settled = held.settled;
        } else {
            let folded = app.show(index, answer.portrait, held.settled);
            if change != Change::Same {
                app.record.repairs.add(&answer.repairs);
                app.record.repairs[Repair::FoldedName] += folded;
            }
        }
        let change = match change {
            Change::First => "first",
            Change::Same => "same",
            Change::Revised => "revised",
        };
        tracing::info!(appid = %app.app.appid, %window, %day, change, settled = held.settled, "portrait arrived");
    }

    /// Stores what waits, and counts the days that are held; failures are told and tried again.
    async fn store(self: &Arc<Self>, app: &mut Followed) {
        let entries = app.unstored.clone();
        let appid = app.app.appid.clone();
        let windows: Vec<Window> = app
            .record
            .windows
            .iter()
            .map(|record| record.window)
            .collect();
        let stored = self
            .archived(move |archive| {
                archive.put(&entries)?;
                windows
                    .into_iter()
                    .map(|window| archive.days(&appid, window))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await;
        if let Some(days) = stored {
            app.unstored.clear();
            for (record, days) in app.record.windows.iter_mut().zip(days) {
                record.archive_days = days;
            }
        }
    }

    /// Reads the newest days of an app from the archive and puts them on its record, as far as
    /// nothing newer is there.
    async fn restore_app(self: &Arc<Self>, mut app: Followed) -> Followed {
        let poller = Arc::clone(self);
        let restored = tokio::task::spawn_blocking(move || {
            for index in 0..app.record.windows.len() {
                if let Err(error) = poller.restore_window(&mut app, index) {
                    poller.archive_failed(&error);
                    return app;
                }
            }
            app.is_restored = true;
            poller.hide_stale(&mut app, (poller.clock)());
            app
        });
        restored
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    fn restore_window(&self, app: &mut Followed, index: usize) -> Result<(), archive::Error> {
        let window = app.record.windows[index].window;
        // The newest comes first, and only its lines are rendered.
        let entries = self.archive.newest(&app.app.appid, window, 2)?;
        app.record.windows[index].archive_days = self.archive.days(&app.app.appid, window)?;
        for entry in entries {
            let day = entry.reference_date;
            match wire::portrait(entry.answer.as_bytes(), window, day) {
                Ok(answer) => app.restore_day(index, &entry, answer.portrait),
                Err(error) => tracing::error!(
                    appid = %app.app.appid, %window, %day,
                    "an archived answer cannot be read and is left as it is: {error}"
                ),
            }
        }
        Ok(())
    }

    /// Takes users off the record whose day is too far in the past.
    fn hide_stale(&self, app: &mut Followed, now: DateTime<Utc>) {
        for window in &mut app.record.windows {
            let is_stale = window
                .reference_date
                .is_some_and(|day| now >= schedule::stale_at(day, self.stale_after));
            if is_stale && window.users.take().is_some() {
                tracing::warn!(
                    appid = %app.app.appid, window = %window.window, day = window.reference_date.map(tracing::field::display),
                    "the newest portrait is too old to be shown"
                );
            }
        }
    }

    /// Does something with the archive away from the tasks that must not wait; tells what fails.
    async fn archived<T: Send + 'static>(
        self: &Arc<Self>,
        action: impl FnOnce(&Archive) -> Result<T, archive::Error> + Send + 'static,
    ) -> Option<T> {
        let poller = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || {
            let result = action(&poller.archive);
            poller.telemetry.archive_size(poller.archive.size());
            result
        });
        result
            .await
            .ok()?
            .inspect_err(|error| self.archive_failed(error))
            .ok()
    }

    fn archive_failed(&self, error: &archive::Error) {
        self.telemetry.archive_failure(error.operation());
        tracing::error!("{error}");
    }
}

impl Followed {
    fn new(app: App, now: DateTime<Utc>) -> Self {
        Self {
            access: Access::new(app.appid.clone(), app.secret.clone()),
            record: AppRecord::new(app.appid.clone(), app.name.clone(), &app.windows, now),
            days: vec![Days::default(); app.windows.len()],
            unstored: Vec::new(),
            is_restored: false,
            app,
        }
    }

    fn shown_days(&self) -> impl Iterator<Item = NaiveDate> {
        self.record
            .windows
            .iter()
            .filter(|window| window.users.is_some())
            .filter_map(|window| window.reference_date)
    }

    fn restore_day(&mut self, index: usize, entry: &Entry, portrait: Portrait) {
        let held = Held {
            fingerprint: portrait.fingerprint(),
            first_answered_at: entry.first_answered_at,
            answered_at: entry.answered_at,
            settled: entry.settled,
            revisions: entry.revisions,
        };
        self.days[index].restore(entry.reference_date, held);
        let record = &mut self.record.windows[index];
        record.last_success_at = record.last_success_at.max(Some(entry.answered_at));
        self.show(index, portrait, entry.settled);
    }

    /// Puts a portrait on the record unless a newer one is there; answers how many names were
    /// folded.
    fn show(&mut self, index: usize, mut portrait: Portrait, settled: bool) -> u64 {
        let record = &mut self.record.windows[index];
        if record
            .reference_date
            .is_some_and(|shown| shown > portrait.reference_date)
        {
            return 0;
        }
        let mut folded = 0;
        for (dimension, limit) in &self.app.top_names {
            for cohort in Cohort::ALL {
                folded += portrait.division_mut(cohort, *dimension).fold(*limit) as u64;
            }
        }
        record.reference_date = Some(portrait.reference_date);
        record.settled = settled;
        record.users = Some(page::users(
            &self.app.appid,
            &portrait,
            &self.app.dimensions,
        ));
        folded
    }
}
