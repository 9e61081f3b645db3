//! Asks WeChat for every app, archives what comes, and publishes it.
//!
//! Every app is followed by a task of its own, so that no app waits for another; the client
//! bounds how many requests are under way. An answer goes into the archive before it is
//! published. If the archive fails, the answer is published all the same and stored later.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::task::{JoinError, JoinSet};
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
    /// Of the archive that knows the days.
    generation: u64,
}

impl Poller {
    /// Puts the newest archived portrait of every app on the page; asks nobody.
    ///
    /// What can't be read now is tried again when the app is polled.
    pub async fn restore(self: &Arc<Self>, apps: Vec<App>) -> Vec<Followed> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let restored = stream::iter(apps)
            .map(|app| {
                let poller = Arc::clone(self);
                tokio::spawn(async move {
                    let mut app = Followed::new(app, (poller.clock)(), poller.archive.generation());
                    // Every app would wait in vain for an archive that is locked.
                    if poller.archive.problem().is_none() {
                        poller.restore_app(&mut app).await;
                    }
                    poller.page.publish(app.record.clone());
                    app
                })
            })
            .buffered(threads)
            .filter_map(async |app| app.inspect_err(broke_down).ok())
            .collect()
            .await;
        self.telemetry.archive_size(self.archive.size());
        restored
    }

    /// Follows every app until `shutdown`.
    pub async fn run(self: Arc<Self>, apps: Vec<Followed>, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let tending = Arc::clone(&self).tend_archive();
        tasks.spawn(shutdown.clone().run_until_cancelled_owned(tending));
        for mut app in apps {
            let poller = Arc::clone(&self);
            let shutdown = shutdown.clone();
            tasks.spawn(async move {
                let followed = shutdown.run_until_cancelled(poller.follow(&mut app)).await;
                // A last chance for what the archive has not taken yet.
                if !app.unstored.is_empty() {
                    poller.store(&mut app).await;
                }
                followed
            });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                broke_down(&error);
            }
        }
    }

    async fn follow(self: &Arc<Self>, app: &mut Followed) {
        let mut planned_at = (self.clock)();
        loop {
            if !app.unstored.is_empty() {
                self.store(app).await;
            }
            let now = (self.clock)();
            // What was planned by a clock that was wrong, and was set back, would come too late.
            if now >= app.record.next_poll_at || now + LONGEST_SLEEP < planned_at {
                if !app.is_restored {
                    self.restore_app(app).await;
                }
                self.poll(app).await;
            }
            planned_at = (self.clock)();
            self.hide_stale(app, planned_at);
            self.page.publish(app.record.clone());
            let stale_at = app
                .shown_days()
                .map(|day| schedule::stale_at(day, self.stale_after));
            let store_at = (!app.unstored.is_empty()).then(|| planned_at + self.interval);
            let next_poll_at = app.record.next_poll_at;
            self.sleep_until(stale_at.chain(store_at).fold(next_poll_at, DateTime::min))
                .await;
        }
    }

    /// Checks the archive, and deletes what is beyond the retention, now and after every midnight
    /// in Beijing.
    async fn tend_archive(self: Arc<Self>) {
        if self.archive.problem().is_none() {
            self.archived(Archive::check).await;
        }
        loop {
            let now = (self.clock)();
            let (retention, today) = (self.retention.as_secs() / (24 * 3600), calendar::today(now));
            let deleted = self.archived(move |archive| archive.delete_beyond(retention, today));
            if let Some(days @ 1..) = deleted.await {
                tracing::info!(days, "deleted days beyond the retention");
            }
            self.sleep_until(calendar::next_midnight(now)).await;
        }
    }

    /// Sleeps until a time, or until the clock was set back.
    async fn sleep_until(&self, time: DateTime<Utc>) {
        let start = (self.clock)();
        loop {
            let now = (self.clock)();
            match (time - now).to_std() {
                Ok(rest) if !rest.is_zero() && now + LONGEST_SLEEP >= start => {
                    tokio::time::sleep(rest.min(LONGEST_SLEEP)).await;
                }
                _ => return,
            }
        }
    }

    /// Asks for everything that is due for one app.
    async fn poll(self: &Arc<Self>, app: &mut Followed) {
        if app.generation != self.archive.generation() {
            // A new file took the place of a damaged one: it gets what WeChat still knows.
            app.generation = self.archive.generation();
            app.days.fill(Days::default());
        }
        let mut hold_until = None;
        for index in 0..app.record.windows.len() {
            let due = app.days[index].due((self.clock)());
            if due.is_empty() {
                continue;
            }
            let problem = self.ask_for_days(app, index, due).await.err();
            let is_of_app = problem.as_ref().is_some_and(Error::is_of_app);
            let now = (self.clock)();
            for (other, window) in app.record.windows.iter_mut().enumerate().skip(index) {
                // What is wrong with the app would be in the way of all that is due.
                if other == index || is_of_app && !app.days[other].due(now).is_empty() {
                    window.last_poll_success =
                        Some(problem.as_ref().is_none_or(Error::is_not_ready));
                    window.last_problem =
                        problem.as_ref().map(|error| error.sentence(&app.app.appid));
                }
            }
            // The other windows may take their time.
            self.page.publish(app.record.clone());
            if let Some(error) = problem.filter(|_| is_of_app) {
                hold_until = schedule::hold_until(error.then(), (self.clock)());
                break;
            }
        }
        let now = (self.clock)();
        let is_due = app.days.iter().any(|days| !days.due(now).is_empty());
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
        let (appid, windows) = (app.app.appid.clone(), app.app.windows.clone());
        let stored = self
            .archived(move |archive| {
                archive.put(&entries)?;
                let days = windows.iter().map(|window| archive.days(&appid, *window));
                days.collect::<Result<Vec<_>, _>>()
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
    async fn restore_app(self: &Arc<Self>, app: &mut Followed) {
        let (appid, windows) = (app.app.appid.clone(), app.app.windows.clone());
        let read = self
            .archived(move |archive| {
                let of_window = |window: &Window| {
                    Ok((
                        archive.newest(&appid, *window, 2)?,
                        archive.days(&appid, *window)?,
                    ))
                };
                windows.iter().map(of_window).collect::<Result<Vec<_>, _>>()
            })
            .await;
        for (index, (entries, days)) in read.iter().flatten().enumerate() {
            app.record.windows[index].archive_days = *days;
            // The newest comes first, and only its lines are rendered.
            for entry in entries {
                let (window, day) = (entry.window, entry.reference_date);
                match wire::portrait(entry.answer.as_bytes(), window, day) {
                    Ok(answer) => app.restore_day(index, entry, answer.portrait),
                    Err(error) => tracing::error!(
                        appid = %app.app.appid, %window, %day,
                        "an archived answer cannot be read and is left as it is: {error}"
                    ),
                }
            }
        }
        app.is_restored = read.is_some();
        self.hide_stale(app, (self.clock)());
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

/// Tells of a task that can't go on: its app is not polled any more.
fn broke_down(error: &JoinError) {
    tracing::error!(%error, "a task broke down, which is a bug: restart the exporter");
}

impl Followed {
    fn new(app: App, now: DateTime<Utc>, generation: u64) -> Self {
        Self {
            access: Access::new(app.appid.clone(), app.secret.clone()),
            record: AppRecord::new(app.appid.clone(), app.name.clone(), &app.windows, now),
            days: vec![Days::default(); app.windows.len()],
            unstored: Vec::new(),
            is_restored: false,
            generation,
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
        if !self.days[index].restore(entry.reference_date, held) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::portrait::{AppId, Dimension};

    #[test]
    fn a_late_restore_does_not_replace_a_newer_answer() {
        let now = "2026-11-22T02:00:00Z".parse().unwrap();
        let day = "2026-11-21".parse().unwrap();
        let appid: AppId = "wx0123456789abcdef".parse().unwrap();
        let portrait = |users| {
            let mut portrait = Portrait::new(Window::OneDay, day);
            let ages = portrait.division_mut(Cohort::New, Dimension::Age);
            ages.add("18-24岁".to_owned(), users);
            portrait
        };
        let app = App {
            appid: appid.clone(),
            name: String::new(),
            secret: SecretString::from("secret"),
            windows: vec![Window::OneDay],
            dimensions: Dimension::ALL.to_vec(),
            top_names: std::collections::BTreeMap::new(),
        };
        let mut app = Followed::new(app, now, 0);
        app.days[0].answer(day, portrait(2).fingerprint(), now);
        app.show(0, portrait(2), false);
        let archived = Entry {
            appid,
            window: Window::OneDay,
            reference_date: day,
            answer: String::new(),
            first_answered_at: now,
            answered_at: now,
            settled: true,
            revisions: 0,
        };
        app.restore_day(0, &archived, portrait(1));
        assert!(!app.record.windows[0].settled);
        let newer = page::users(&app.app.appid, &portrait(2), &Dimension::ALL);
        let shown = app.record.windows[0].users.clone().unwrap();
        let text = |piece| {
            let mut member = crate::exposition::deflate::Member::default();
            member.push(piece);
            member
                .plain()
                .flat_map(|frame| frame.to_vec())
                .collect::<Vec<u8>>()
        };
        assert_eq!(text(shown), text(newer));
    }
}
