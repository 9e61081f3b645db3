//! Asks WeChat for every app, archives what comes, and publishes it.
//!
//! Every app is followed by a task of its own (see `tasks`), so that no app waits for another; the
//! client bounds how many requests are under way. An answer goes into the archive before it is
//! published. If the archive fails, the answer is published all the same and stored later.

use std::cmp::Reverse;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::task::JoinError;

use super::history;
use super::schedule::{self, Change, Days, Held};
use crate::archive::{self, Archive, Entry, Holdings};
use crate::calendar::{self, Clock};
use crate::config::{self, App};
use crate::exposition::page::{self, AppRecord, Page};
use crate::exposition::telemetry::Telemetry;
use crate::portrait::{Dimension, Portrait, Repair, Window};
use crate::wechat::errcode::{Reason, Then};
use crate::wechat::wire::{self, Answer};
use crate::wechat::{Access, Client, Error};

/// No sleep is longer, so that a clock that was set is noticed.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// An app that failed is left alone for so long, however often the configuration is read.
const REST: TimeDelta = TimeDelta::seconds(5);

/// WeChat tells of so many days, so the newest ones may be asked for again and compared.
const ASKED_FOR: usize = 2;

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
    /// Whether all that the archive holds of it is known.
    is_restored: bool,
    /// What the archive held of every window when it was shown.
    shown: Vec<Holdings>,
    /// Whether something is wrong with the AppSecret or the token, so that another one is looked for.
    awaits_news: bool,
    /// When the last poll began, if there was one since the start.
    polled_at: Option<DateTime<Utc>>,
    /// Before this no poll is planned.
    hold_until: Option<DateTime<Utc>>,
    /// When the next poll was planned.
    planned_at: DateTime<Utc>,
    /// Of days before this one has been told which are lost.
    told_before: Option<NaiveDate>,
    /// Of the archive that knows the days.
    generation: u64,
}

impl Poller {
    /// Starts with an app of which nothing is known.
    #[must_use]
    pub fn meet(&self, app: App) -> Followed {
        Followed::new(app, (self.clock)(), self.archive.generation())
    }

    /// Puts the newest archived portrait of every app on the page; asks nobody.
    ///
    /// What can't be read now is tried again when the app is polled.
    pub async fn restore(self: &Arc<Self>, apps: Vec<Followed>) -> Vec<Followed> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let restored = stream::iter(apps)
            .map(|mut app| {
                let poller = Arc::clone(self);
                tokio::spawn(async move {
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

    /// Follows an app without end.
    pub(super) async fn follow(self: &Arc<Self>, app: &mut Followed) {
        loop {
            let next_step_at = self.step(app).await;
            self.sleep_until(next_step_at).await;
        }
    }

    /// Does what is to be done now for one app, and answers when there will be more to do.
    pub async fn step(self: &Arc<Self>, app: &mut Followed) -> DateTime<Utc> {
        self.store(app).await;
        self.look(app).await;
        for index in 0..app.shown.len() {
            // An import, or the retention, changed it.
            if app.is_restored && app.record.windows[index].holdings != app.shown[index] {
                self.show_window(app, index, None).await;
            }
        }
        let now = (self.clock)();
        self.hide_stale(app, now);
        // What was planned by a clock that was wrong, and was set back, would come too late.
        let is_due = now >= app.record.next_poll_at || now + LONGEST_SLEEP < app.planned_at;
        if is_due || app.awaits_news && app.access.has_news().await {
            if !app.is_restored {
                self.restore_app(app).await;
            }
            self.poll(app).await;
        }
        app.planned_at = (self.clock)();
        self.hide_stale(app, app.planned_at);
        app.tell_lost_days(app.planned_at);
        self.page.publish(app.record.clone());
        let stale_at = app
            .shown_days()
            .map(|day| schedule::stale_at(day, self.stale_after));
        let look_at = if app.awaits_news {
            app.planned_at + LONGEST_SLEEP.min(self.interval)
        } else {
            app.planned_at + self.interval
        };
        stale_at.fold(app.record.next_poll_at.min(look_at), DateTime::min)
    }

    /// Checks the archive, and deletes what is beyond the retention, now and after every midnight
    /// in Beijing.
    pub(super) async fn tend_archive(self: Arc<Self>) {
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
        app.polled_at = Some((self.clock)());
        app.access.begin_poll().await;
        app.awaits_news = false;
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
                    window.last_problem = problem.as_ref().map(|error| error.sentence(&app.access));
                }
            }
            // The other windows may take their time.
            self.page.publish(app.record.clone());
            if let Some(error) = problem.filter(|_| is_of_app) {
                let is_of_file = matches!(error.reason(), Reason::Credentials | Reason::Token);
                app.awaits_news = is_of_file && app.access.file().is_some();
                hold_until = schedule::hold_until(error.then(), (self.clock)());
                break;
            }
        }
        let now = (self.clock)();
        app.hold_until = hold_until;
        app.plan(self.interval, now);
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
                let (appid, reason, sentence) =
                    (&app.app.appid, error.reason(), error.sentence(&app.access));
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
        mut answer: Answer,
    ) {
        let now = (self.clock)();
        let (change, held) = app.days[index].answer(day, answer.portrait.fingerprint(), now);
        let window = answer.portrait.window;
        app.unstored
            .retain(|entry| entry.window != window || entry.reference_date != day);
        let entry = Entry {
            appid: app.app.appid.clone(),
            window,
            reference_date: day,
            answer: answer.text,
            first_answered_at: held.first_answered_at,
            answered_at: held.answered_at,
            settled: held.settled,
            revisions: held.revisions,
        };
        app.unstored.push(entry.clone());
        // Counted before anything is waited for, as a reload may end the waiting.
        let record = &mut app.record.windows[index];
        record.last_success_at = Some(now);
        if change == Change::Revised {
            record.revisions += 1;
        }
        if change != Change::Same {
            let folded = history::fold(&mut answer.portrait, &app.app.top_names);
            app.record.repairs.add(&answer.repairs);
            app.record.repairs[Repair::FoldedName] += folded;
        }
        self.store(app).await;
        self.look(app).await;

        let record = &mut app.record.windows[index];
        let is_shown = record.users.is_some() && record.reference_date == Some(day);
        if change == Change::Same && is_shown {
            record.settled = held.settled;
        } else {
            // Any of the days that are held may be on the page, if only as a past one.
            self.show_window(app, index, Some(entry)).await;
        }
        let change = match change {
            Change::First => "first",
            Change::Same => "same",
            Change::Revised => "revised",
        };
        tracing::info!(appid = %app.app.appid, %window, %day, change, settled = held.settled, "portrait arrived");
    }

    /// Stores what waits, if anything does; a failure is told and tried again.
    pub(super) async fn store(self: &Arc<Self>, app: &mut Followed) {
        if app.unstored.is_empty() {
            return;
        }
        let entries = app.unstored.clone();
        let stored = self.archived(move |archive| archive.put(&entries)).await;
        if stored.is_some() {
            app.unstored.clear();
        }
        app.record.unstored = app.unstored.len();
    }

    /// Learns what the archive holds; what can't be read now is tried again with the next poll.
    async fn look(self: &Arc<Self>, app: &mut Followed) {
        let (appid, windows) = (app.app.appid.clone(), app.app.windows.clone());
        let read = self.archived(move |archive| {
            let holdings = windows
                .iter()
                .map(|window| archive.holdings(&appid, *window));
            holdings.collect::<Result<Vec<_>, _>>()
        });
        match read.await {
            Some(holdings) => {
                for (record, holdings) in app.record.windows.iter_mut().zip(holdings) {
                    record.holdings = holdings;
                }
            }
            None => app.is_restored = false,
        }
    }

    /// Puts everything that the archive holds of an app on its record, as far as nothing newer is
    /// there.
    async fn restore_app(self: &Arc<Self>, app: &mut Followed) {
        app.is_restored = true;
        self.look(app).await;
        for index in 0..app.record.windows.len() {
            self.show_window(app, index, None).await;
        }
        let now = (self.clock)();
        self.hide_stale(app, now);
        // The next answer may be of a day after those that were lost meanwhile.
        app.tell_lost_days(now);
    }

    /// Shows the newest day of a window and the days before it, from the archive, from what it did
    /// not take yet, and from what has just come; what can't be read now is tried again with the next
    /// poll.
    async fn show_window(
        self: &Arc<Self>,
        app: &mut Followed,
        index: usize,
        arrived: Option<Entry>,
    ) {
        let (appid, window) = (app.app.appid.clone(), app.record.windows[index].window);
        let mut entries: Vec<Entry> = arrived.into_iter().collect();
        for entry in app.unstored.iter().filter(|entry| entry.window == window) {
            add_day(&mut entries, entry.clone());
        }
        let limit = 1 + config::PAST_DAYS;
        let read = self.archived(move |archive| archive.newest(&appid, window, limit));
        match read.await {
            Some(archived) => {
                app.shown[index] = app.record.windows[index].holdings.clone();
                for entry in archived {
                    add_day(&mut entries, entry);
                }
            }
            None => app.is_restored = false,
        }
        entries.sort_by_key(|entry| Reverse(entry.reference_date));
        let mut of_past = Dimension::ALL.to_vec();
        of_past.retain(|dimension| {
            dimension.is_complete() || app.app.past.dimensions.contains(dimension)
        });
        let read = tokio::task::spawn_blocking(move || {
            let mut days = Vec::new();
            for entry in entries {
                // The newest ones are shown, and compared with what comes.
                let is_past = days.len() >= ASKED_FOR;
                let dimensions = if is_past {
                    &of_past
                } else {
                    &Dimension::ALL[..]
                };
                if let Some(portrait) = read_archived(&entry, dimensions) {
                    days.push((entry, portrait));
                }
            }
            days
        });
        if let Ok(days) = read.await {
            app.show(index, days);
        }
    }

    /// Takes users off the record whose day is too far in the past.
    fn hide_stale(&self, app: &mut Followed, now: DateTime<Utc>) {
        for window in &mut app.record.windows {
            let is_stale = window
                .reference_date
                .is_some_and(|day| now >= schedule::stale_at(day, self.stale_after));
            if is_stale && window.users.take().is_some() {
                window.past_users = None;
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
pub(super) fn broke_down(error: &JoinError) {
    tracing::error!(%error, "a task broke down, which is a bug: restart the exporter");
}

impl Followed {
    fn new(app: App, now: DateTime<Utc>, generation: u64) -> Self {
        Self {
            access: Access::new(app.appid.clone(), app.access.clone()),
            record: AppRecord::new(
                app.appid.clone(),
                app.name.clone(),
                app.swing,
                &app.windows,
                now,
            ),
            days: vec![Days::default(); app.windows.len()],
            unstored: Vec::new(),
            is_restored: false,
            shown: vec![Holdings::default(); app.windows.len()],
            awaits_news: false,
            polled_at: None,
            hold_until: None,
            planned_at: now,
            told_before: None,
            generation,
            app,
        }
    }

    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Goes on with other settings, and keeps all that is known and counted.
    ///
    /// What is new is asked for at once, and what failed with the last poll is, unless that was just
    /// now: reloads in a row must not ask again and again.
    pub(super) fn reconfigure(&mut self, app: App, interval: Duration, now: DateTime<Utc>) {
        let fresh = Self::new(app, now, self.generation);
        let mut is_new = false;
        if fresh.app.access != self.app.access {
            self.access = fresh.access;
            is_new = true;
        }
        let mut records = mem::replace(&mut self.record.windows, fresh.record.windows);
        let mut days = mem::replace(&mut self.days, fresh.days);
        for (record, of_window) in self.record.windows.iter_mut().zip(&mut self.days) {
            if let Some(index) = records.iter().position(|old| old.window == record.window) {
                *record = records.swap_remove(index);
                *of_window = days.swap_remove(index);
            } else {
                is_new = true;
            }
        }
        self.shown = fresh.shown;
        self.record.name = fresh.record.name;
        self.record.swing = fresh.record.swing;
        self.app = fresh.app;
        let is_failing = self.record.is_in_trouble();
        let rested_at = self.polled_at.map(|at| at + REST);
        if is_new {
            self.record.next_poll_at = now;
        } else if let Some(rested_at) = rested_at.filter(|_| is_failing) {
            self.record.next_poll_at = rested_at.max(now);
        } else if self.record.next_poll_at > now {
            self.plan(interval, now);
        }
    }

    /// Plans the next poll.
    fn plan(&mut self, interval: Duration, now: DateTime<Utc>) {
        let is_due = self.days.iter().any(|days| !days.due(now).is_empty());
        self.record.next_poll_at =
            schedule::next_poll(&self.app.appid, interval, is_due, self.hold_until, now);
    }

    /// Tells of what an app leaves behind that is not followed any more.
    pub(super) fn leave(self) {
        if !self.unstored.is_empty() {
            tracing::error!(
                appid = %self.app.appid, answers = self.unstored.len(),
                "an app was removed before the archive took its last answers, which are lost"
            );
        }
    }

    fn shown_days(&self) -> impl Iterator<Item = NaiveDate> {
        self.record
            .windows
            .iter()
            .filter(|window| window.users.is_some())
            .filter_map(|window| window.reference_date)
    }

    /// Puts the newest of these days, and the days before it, on the record unless a newer one is
    /// there; they come newest first.
    fn show(&mut self, index: usize, days: Vec<(Entry, Portrait)>) {
        for (entry, portrait) in days.iter().take(ASKED_FOR) {
            let held = Held {
                fingerprint: portrait.fingerprint(),
                first_answered_at: entry.first_answered_at,
                answered_at: entry.answered_at,
                settled: entry.settled,
                revisions: entry.revisions,
            };
            self.days[index].restore(entry.reference_date, held);
        }
        let record = &mut self.record.windows[index];
        let answered_at = days.iter().map(|(entry, _)| entry.answered_at).max();
        record.last_success_at = record.last_success_at.max(answered_at);
        let mut days = days.into_iter();
        let Some((entry, mut shown)) = days.next() else {
            return;
        };
        if record.reference_date > Some(entry.reference_date) {
            return;
        }
        let mut past: Vec<Portrait> = days.map(|(_, portrait)| portrait).collect();
        history::align(&mut shown, &mut past, &self.app.top_names);
        record.reference_date = Some(entry.reference_date);
        record.settled = entry.settled;
        let (appid, dimensions) = (&self.app.appid, &self.app.dimensions);
        record.users = Some(page::users(appid, &shown, dimensions));
        record.past_users = (record.window == Window::OneDay).then(|| {
            let mut dimensions = dimensions.clone();
            dimensions.retain(|dimension| self.app.past.dimensions.contains(dimension));
            let of_day = |days_ago: &u32| {
                let day = calendar::days_before(entry.reference_date, (*days_ago).into());
                let portrait = past.iter().find(|past| past.reference_date == day)?;
                Some((*days_ago, portrait))
            };
            let past: Vec<_> = self.app.past.days_ago.iter().filter_map(of_day).collect();
            page::past_users(appid, &past, &dimensions)
        });
    }

    /// Tells, once, of the days that WeChat has forgotten before they were archived.
    fn tell_lost_days(&mut self, now: DateTime<Utc>) {
        // What the archive holds is not known.
        if !self.is_restored || !self.unstored.is_empty() {
            return;
        }
        let end = schedule::oldest_due(now);
        let told_before = self.told_before.replace(end);
        let mut lost = Vec::new();
        for record in &self.record.windows {
            let Some((_, newest)) = record.holdings.ends() else {
                continue;
            };
            // Gaps before the newest day were told when they came to be.
            let begin = told_before.unwrap_or(newest);
            for (first, last) in record.holdings.gaps(end) {
                if last >= begin {
                    lost.push(format!("{} {} to {last}", record.window, first.max(begin)));
                }
            }
        }
        if !lost.is_empty() {
            tracing::error!(
                appid = %self.app.appid, days = lost.join(", "),
                "days are lost for good: WeChat no longer tells them, and they are not in the archive"
            );
        }
    }
}

/// Adds an entry unless there is one of its day.
fn add_day(entries: &mut Vec<Entry>, entry: Entry) {
    let is_there = |other: &Entry| other.reference_date == entry.reference_date;
    if !entries.iter().any(is_there) {
        entries.push(entry);
    }
}

/// Reads an archived answer again.
fn read_archived(entry: &Entry, dimensions: &[Dimension]) -> Option<Portrait> {
    let (window, day) = (entry.window, entry.reference_date);
    match wire::archived(&entry.answer, window, day, dimensions) {
        Ok(portrait) => Some(portrait),
        Err(error) => {
            tracing::error!(
                appid = %entry.appid, %window, %day,
                "an archived answer cannot be read and is left as it is: {error}"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::portrait::{AppId, Cohort, Dimension};

    #[test]
    fn an_older_day_does_not_take_the_place_of_a_newer_one() {
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
            access: config::access::Way::of_secret(SecretString::from("secret")),
            windows: vec![Window::OneDay],
            dimensions: Dimension::ALL.to_vec(),
            top_names: std::collections::BTreeMap::new(),
            past: config::Past::default(),
            swing: config::Swing::default(),
        };
        let mut app = Followed::new(app, now, 0);
        let entry = |reference_date| Entry {
            appid: appid.clone(),
            window: Window::OneDay,
            reference_date,
            answer: String::new(),
            first_answered_at: now,
            answered_at: now,
            settled: true,
            revisions: 0,
        };
        app.show(0, vec![(entry(day), portrait(2))]);
        app.show(0, vec![(entry(calendar::days_before(day, 1)), portrait(1))]);
        assert_eq!(app.record.windows[0].reference_date, Some(day));
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
