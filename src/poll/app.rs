//! Polls one app, step by step.
//!
//! A step stores what is pending, checks for changes of the archive by others, requests what is due from
//! WeChat, and publishes the result. An app that another exporter polls is shown as that one archives it.
//! An answer is archived before it is published; if the archive fails, it is published nevertheless and
//! stored later. A step is never interrupted: only a request in flight is.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, Budget};
use super::due::{self, Change};
use super::leases::{Leases, Polling};
use super::log::{self, Activity};
use super::window::WindowPoller;
use crate::archive::{Archive, Coverage, DayState, Key, Row};
use crate::calendar::{self, Clock};
use crate::config::App;
use crate::exposition::page::Page;
use crate::exposition::telemetry::Telemetry;
use crate::past::{self, FULL_DAYS, PastDays};
use crate::portrait::{Portrait, Repair, Repairs};
use crate::state::{AppSnapshot, Comparison, Failure, PollOutcome, PolledBy, Registry};
use crate::wechat::errcodes::{Reason, Retry};
use crate::wechat::{Access, Answer, Client, Diagnosis, Scope, decode};

/// No sleep is longer, so that a change of the clock is detected.
const LONGEST_SLEEP: Duration = Duration::from_mins(1);

/// After a failed poll the next one is at least this much later, however often the configuration
/// is reloaded.
const RETRY_COOLDOWN: TimeDelta = TimeDelta::seconds(5);

/// When and how all apps are polled, from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The time between two polls of an app with a day that is due.
    pub interval: Duration,
    /// The time between two polls while nothing can change, see [`due::QUIET_INTERVAL`].
    pub quiet_interval: Duration,
    /// See [`crate::config::Config::stale_after`].
    pub stale_after: Duration,
    /// See [`crate::config::Archive::retention`].
    pub retention: Duration,
}

/// What all apps share.
#[derive(Clone)]
pub struct Context {
    /// Sends requests to WeChat.
    pub client: Arc<Client>,
    /// Stores the answers.
    pub archive: Arc<Archive>,
    /// Lists the apps.
    pub registry: Arc<Registry>,
    /// Shows their portraits.
    pub page: Arc<Page>,
    /// Counts events.
    pub telemetry: Arc<Telemetry>,
    /// Says which apps are polled here.
    pub leases: Arc<Leases>,
    /// Returns the time.
    pub clock: Clock,
    /// When and how apps are polled.
    pub settings: Settings,
    pub(super) activity: Activity,
    budget: Budget,
    /// Bounds how much is rendered and compressed at once.
    processors: Arc<Semaphore>,
}

impl Context {
    /// Assembles what all apps share.
    #[must_use]
    pub fn new(
        client: Client,
        archive: Arc<Archive>,
        registry: Arc<Registry>,
        page: Arc<Page>,
        telemetry: Arc<Telemetry>,
        clock: Clock,
        settings: Settings,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            client: Arc::new(client),
            leases: Arc::new(Leases::new(archive.sharing())),
            archive,
            registry,
            page,
            telemetry,
            clock,
            settings,
            activity: Activity::default(),
            budget: Budget::default(),
            processors: Arc::new(Semaphore::new(processors.min(4))),
        }
    }

    /// Returns a copy with another client and other settings.
    #[must_use]
    pub fn reconfigured(&self, client: Client, settings: Settings) -> Self {
        Self {
            client: Arc::new(client),
            settings,
            ..self.clone()
        }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// Runs a computation of some milliseconds outside of the tasks that must not wait.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // Only a bug closes it, and then there is no limit.
        let _permit = self.processors.acquire().await;
        match tokio::task::spawn_blocking(work).await {
            Ok(value) => value,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this task with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// One app and everything known about it.
pub struct AppPoller {
    context: Context,
    app: Arc<App>,
    access: Access,
    windows: Vec<WindowPoller>,
    repairs: Repairs,
    backlog: Backlog,
    plan: Plan,
    /// Who polls it, as it is published.
    polling: Polling,
    /// Wakes it when that changes, or when another exporter has archived a day.
    wake: Arc<Notify>,
    archive: View,
    published: Option<Arc<AppSnapshot>>,
    /// Whether lines were rendered since then.
    is_rendered: bool,
}

/// When the app is polled.
#[derive(Debug)]
struct Plan {
    next_poll_at: DateTime<Utc>,
    /// When that was scheduled.
    planned_at: DateTime<Utc>,
    /// When the last poll began, if any since the start.
    polled_at: Option<DateTime<Utc>>,
    /// The newest day whose portrait arrived since the start.
    answered_day: Option<NaiveDate>,
    hold: Option<Hold>,
}

/// A failure that lasts until an operator resolves it.
#[derive(Debug, Clone, Copy)]
struct Hold {
    /// No poll is scheduled before this.
    until: Option<DateTime<Utc>>,
    /// Whether other credentials would help, so that their file is watched.
    watches_credentials: bool,
}

/// What is known about the app's archived days.
#[derive(Debug, Default)]
struct View {
    /// Whether all of it was read.
    is_restored: bool,
    /// Whether reading was attempted.
    was_read: bool,
    /// See [`Archive::version`].
    version: u64,
    /// Days before this one that are lost are known.
    lost_days_known_until: Option<NaiveDate>,
    /// Those that were not reported yet.
    lost_days: Vec<String>,
}

/// Why a request did not return an answer.
enum Unanswered {
    Failed(NaiveDate, Diagnosis),
    /// The task should stop, or the app is polled by another exporter now.
    Stopped,
}

impl AppPoller {
    /// Starts with an app of which nothing is known, and publishes that it is configured. What was
    /// published about it before stays until its archive was read.
    #[must_use]
    pub fn new(context: Context, app: App) -> Self {
        let now = context.now();
        let app = Arc::new(app);
        let mut poller = Self {
            access: Access::new(&app),
            windows: app
                .windows
                .iter()
                .map(|window| WindowPoller::new(*window, &app))
                .collect(),
            repairs: Repairs::default(),
            backlog: Backlog::new(context.budget.clone()),
            plan: Plan {
                next_poll_at: now,
                planned_at: now,
                polled_at: None,
                answered_day: None,
                hold: None,
            },
            wake: context.leases.wake_of(&app.appid),
            polling: context.leases.polling(&app.appid),
            archive: View::default(),
            published: None,
            is_rendered: false,
            context,
            app,
        };
        if !poller.context.registry.contains(&poller.app.appid) {
            poller.publish();
        }
        poller
    }

    /// Returns the configuration of the app.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Returns `true` if the archive was read, or could not be read.
    pub(super) fn was_read(&self) -> bool {
        self.archive.was_read
    }

    /// Publishes the newest archived portrait of every window, unless there is a newer one; sends no
    /// requests. What can't be read now is retried when the app is polled.
    pub async fn restore(&mut self) {
        self.read_archive().await;
        // The next answer may be for a day after those that were lost meanwhile.
        self.report_lost_days();
        self.publish();
    }

    /// Runs steps until `stop`.
    pub(super) async fn run(&mut self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let next_step_at = self.step(stop).await;
            tokio::select! {
                () = sleep_until(&self.context.clock, next_step_at, stop) => {}
                () = self.wake.notified() => {}
            }
        }
        // A last attempt to store what the archive has not accepted yet.
        self.store().await;
    }

    /// Does what is due now, and returns when more will be due. `stop` ends a request that is in flight.
    pub async fn step(&mut self, stop: &CancellationToken) -> DateTime<Utc> {
        self.store().await;
        self.look_at_archive().await;
        // In this order: with a lease come the days that were archived until then.
        let is_taken_over = self.look_at_lease();
        self.show_changed().await;
        let now = self.context.now();
        // What was scheduled by a wrong clock that was set back since would come too late.
        let is_due = now >= self.plan.next_poll_at || now + LONGEST_SLEEP < self.plan.planned_at;
        if !self.archive.is_restored {
            self.read_archive().await;
        }
        if is_taken_over {
            // The next answer may be for a day after those that were lost meanwhile.
            self.report_lost_days();
        }
        self.publish();
        if self.polling.is_permitted
            && (is_due || self.watches_credentials() && self.access.credentials_changed().await)
        {
            self.poll(stop).await;
            self.look_at_lease();
        }
        let now = self.context.now();
        self.plan.planned_at = now;
        self.report_lost_days();
        self.publish();
        let settings = self.context.settings;
        let next_poll_at = self.plan.next_poll_at;
        let next_poll_at = Some(next_poll_at).filter(|_| self.polling.is_permitted);
        let look_at = if self.watches_credentials() || !self.archive.is_restored {
            now + LONGEST_SLEEP.min(settings.interval)
        } else {
            now + settings.interval
        };
        let stale_at = self.windows.iter();
        stale_at
            .filter_map(|window| window.stale_at(settings.stale_after))
            .chain(next_poll_at)
            .fold(look_at, DateTime::min)
    }

    /// Continues with other settings, and keeps all state and counters.
    ///
    /// New windows are polled at once, and so are those whose last poll failed, unless that was just now
    /// or an operator must resolve it first: repeated reloads must not repeat requests.
    pub(super) async fn reconfigure(&mut self, context: Context, app: App) {
        let now = context.now();
        let is_other_interval = context.settings.interval != self.context.settings.interval;
        self.context = context;
        let before = std::mem::replace(&mut self.app, Arc::new(app));
        let mut is_new = false;
        if self.app.access != before.access {
            self.access = Access::new(&self.app);
            self.plan.hold = None;
            is_new = true;
        }
        let mut windows = std::mem::take(&mut self.windows);
        let is_rendered_alike = self.app.dimensions == before.dimensions
            && self.app.top_names == before.top_names
            && self.app.past == before.past
            && self.app.swing == before.swing
            && self.app.holidays == before.holidays;
        for window in &self.app.windows {
            let known = windows.iter().position(|known| known.window() == *window);
            let window = known.map_or_else(
                || WindowPoller::new(*window, &self.app),
                |index| windows.swap_remove(index),
            );
            is_new |= known.is_none();
            self.windows.push(window);
        }
        for index in 0..self.windows.len() {
            let window = &self.windows[index];
            let was_shown = before.windows.contains(&window.window());
            // Hidden lines are not kept.
            let is_hidden = window.is_hidden(now, self.context.settings.stale_after);
            if !was_shown || is_hidden || !window.suits(&self.app) {
                self.restore_window(index).await;
            } else if !is_rendered_alike {
                self.show_again(index).await;
            }
        }
        let is_held = self
            .plan
            .hold
            .is_some_and(|hold| hold.until.is_some_and(|until| until > now));
        let rested_at = self.plan.polled_at.map(|at| at + RETRY_COOLDOWN);
        let is_failing = self.snapshot().is_failing();
        if is_held {
            if is_other_interval {
                self.plan_next(now);
            }
        } else if is_new {
            self.plan.next_poll_at = now;
        } else if let Some(rested_at) = rested_at.filter(|_| is_failing) {
            self.plan.next_poll_at = rested_at.max(now);
        } else if self.plan.next_poll_at > now {
            self.plan_next(now);
        }
        self.publish();
    }

    /// Reports what is lost of an app that is no longer configured.
    pub(super) fn on_removed(self) {
        self.report_unstored("the app was removed");
    }

    /// Reports what is lost when the program shuts down.
    pub(super) fn on_shutdown(self) {
        self.report_unstored("the exporter shut down");
    }

    fn report_unstored(&self, why: &str) {
        if self.backlog.len() > 0 {
            let App { appid, name, .. } = &*self.app;
            let responses = self.backlog.len();
            tracing::error!(%appid, app = name, responses, why, "lost responses that were not archived");
        }
    }

    /// Takes the app over, or gives it up; returns `true` if it is polled here from now on.
    fn look_at_lease(&mut self) -> bool {
        let before = self.polling.polled_by;
        self.polling = self.context.leases.polling(&self.app.appid);
        if self.polling.polled_by != PolledBy::This {
            self.plan.hold = None;
            for window in &mut self.windows {
                window.forget_last_poll();
            }
            return false;
        }
        let is_taken_over = before != PolledBy::This;
        if is_taken_over {
            // At once, if anything is due.
            self.plan.next_poll_at = self.context.now();
            // Lost days before the newest one were reported by whoever polled until now.
            self.archive.lost_days_known_until = None;
        }
        is_taken_over
    }

    /// Shows what other exporters have archived.
    async fn show_changed(&mut self) {
        let Some(changed) = self.context.leases.take_changed(&self.app.appid) else {
            self.archive.is_restored = false;
            return;
        };
        // Otherwise all of it is about to be read.
        if changed.is_empty() || !self.archive.is_restored {
            return;
        }
        for index in 0..self.windows.len() {
            let window = &mut self.windows[index];
            let mut is_other = false;
            for day in &changed {
                is_other |= day.key.window == window.window() && !window.confirm(day);
            }
            if is_other {
                self.restore_window(index).await;
            }
        }
    }

    fn watches_credentials(&self) -> bool {
        self.plan.hold.is_some_and(|hold| hold.watches_credentials)
    }

    /// Requests everything that is due.
    async fn poll(&mut self, stop: &CancellationToken) {
        let now = self.context.now();
        self.plan.polled_at = Some(now);
        // Over, or obsolete; an interrupted poll continues at once.
        self.plan.hold = None;
        self.plan.next_poll_at = self.plan.next_poll_at.min(now);
        self.access.begin_poll();
        let mut hold = None;
        for index in 0..self.windows.len() {
            let quiet_interval = self.context.settings.quiet_interval;
            let due = self.windows[index]
                .days
                .due(quiet_interval, self.context.now());
            if due.is_empty() {
                continue;
            }
            // This window may take long.
            self.publish();
            let failed = match self.ask_for_days(index, due, stop).await {
                Ok(()) => None,
                Err(Unanswered::Failed(day, diagnosis)) => Some((day, diagnosis)),
                Err(Unanswered::Stopped) => return,
            };
            let window = &mut self.windows[index];
            let now = self.context.now();
            window
                .failure_log
                .record(&self.app, window.snapshot.window, failed.as_ref(), now);
            let diagnosis = failed.map(|(_, diagnosis)| diagnosis);
            let blocks_app = diagnosis
                .as_ref()
                .is_some_and(|diagnosis| diagnosis.scope == Scope::App);
            let now = self.context.now();
            hold = diagnosis
                .as_ref()
                .filter(|_| blocks_app)
                .map(|diagnosis| self.hold(diagnosis, now));
            let failure = diagnosis.as_ref().map(|diagnosis| Failure {
                reason: diagnosis.reason,
                errcode: diagnosis.errcode,
                problem: problem(diagnosis, hold),
            });
            for (other, window) in self.windows.iter_mut().enumerate().skip(index) {
                // A failure of the app would affect everything that is due.
                if other == index || blocks_app && !window.days.due(quiet_interval, now).is_empty()
                {
                    window.snapshot.last_poll_success =
                        Some(diagnosis.as_ref().is_none_or(Diagnosis::is_not_ready));
                    window.snapshot.last_failure.clone_from(&failure);
                }
            }
            if blocks_app {
                break;
            }
        }
        self.plan.hold = hold;
        self.plan_next(self.context.now());
        self.context.leases.polled(&self.app.appid);
    }

    fn hold(&self, diagnosis: &Diagnosis, now: DateTime<Utc>) -> Hold {
        let is_of_file = match diagnosis.reason {
            Reason::Credentials | Reason::Token => true,
            // A secret that can't be read, and not what WeChat says about the app.
            Reason::Configuration => diagnosis.errcode.is_none(),
            _ => false,
        };
        Hold {
            until: due::hold_until(diagnosis.retry, now),
            watches_credentials: is_of_file && self.access.file().is_some(),
        }
    }

    /// Forgets the days of a window that the archive does not hold, and plans to request them again;
    /// what was planned is not put off.
    fn forget_missing(&mut self, index: usize, held: &Coverage) {
        let (backlog, poller) = (&self.backlog, &mut self.windows[index]);
        let window = poller.window();
        let is_waiting = |day| backlog.get(window, day).is_some();
        if poller.days.forget_missing(held, is_waiting) {
            let before = self.plan.next_poll_at;
            self.plan_next(self.context.now());
            self.plan.next_poll_at = self.plan.next_poll_at.min(before);
        }
    }

    fn plan_next(&mut self, now: DateTime<Utc>) {
        let settings = self.context.settings;
        let next_due = |window: &WindowPoller| window.days.next_due(settings.quiet_interval, now);
        let due_at = self.windows.iter().map(next_due).min().unwrap_or(now);
        let hold_until = self.plan.hold.and_then(|hold| hold.until);
        let interval = self.context.settings.interval;
        self.plan.next_poll_at = due::next_poll(&self.app.appid, interval, due_at, hold_until, now);
    }

    /// Requests days of one window, as long as that is useful; returns the worst problem.
    async fn ask_for_days(
        &mut self,
        index: usize,
        days: Vec<NaiveDate>,
        stop: &CancellationToken,
    ) -> Result<(), Unanswered> {
        let mut worst: Option<(NaiveDate, Diagnosis)> = None;
        for day in days {
            match self.ask(index, day, stop).await {
                Ok(()) => {}
                Err(Unanswered::Failed(day, diagnosis)) if diagnosis.scope == Scope::Day => {
                    // A day that is not ready yet must not hide a failure of the other day.
                    if worst.as_ref().is_none_or(|(_, worst)| worst.is_not_ready()) {
                        worst = Some((day, diagnosis));
                    }
                }
                Err(end) => return Err(end),
            }
        }
        match worst {
            Some((day, diagnosis)) => Err(Unanswered::Failed(day, diagnosis)),
            None => Ok(()),
        }
    }

    /// Requests one day, and stores the answer.
    async fn ask(
        &mut self,
        index: usize,
        day: NaiveDate,
        stop: &CancellationToken,
    ) -> Result<(), Unanswered> {
        if !self.context.leases.polling(&self.app.appid).is_permitted {
            return Err(Unanswered::Stopped);
        }
        let window = self.windows[index].window();
        self.windows[index].snapshot.polls += 1;
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Unanswered::Stopped),
            result = self.context.client.portrait(&mut self.access, window, day) => result,
        };
        let now = self.context.now();
        let diagnosis = match result {
            Ok(answer) => {
                self.record_answer(index, day, answer).await;
                return Ok(());
            }
            Err(diagnosis) => diagnosis,
        };
        self.context.activity.failed(&diagnosis);
        let poller = &mut self.windows[index];
        poller.remember(day, PollOutcome::NoPortrait(diagnosis.reason), now);
        poller.snapshot.failures[diagnosis.reason] += 1;
        if diagnosis.retry == Retry::OtherDay {
            poller.days.refuse(day, now);
        }
        if diagnosis.is_not_ready() {
            poller.days.not_ready(day, now);
        }
        Err(Unanswered::Failed(day, diagnosis))
    }

    /// Stores an answer, and then publishes it.
    async fn record_answer(&mut self, index: usize, day: NaiveDate, answer: Answer) {
        let now = self.context.now();
        let Answer {
            portrait,
            text,
            repairs,
        } = answer;
        let digest = portrait.digest();
        let window = &mut self.windows[index];
        let (change, state) = window.days.record(day, digest, now);
        window.snapshot.last_success_at = Some(now);
        window.remember(day, change.into(), now);
        self.plan.answered_day = self.plan.answered_day.max(Some(day));
        let key = Key {
            appid: self.app.appid.clone(),
            window: window.window(),
            reference_date: day,
        };
        let is_shown = window.snapshot.is_shown && window.snapshot.reference_date == Some(day);
        if change == Change::Revised {
            window.snapshot.revisions += 1;
        }
        if change != Change::Same {
            self.repairs.add(&repairs);
            if !self.app.top_names.is_empty() {
                let folded = past::fold(&mut portrait.clone(), &self.app.top_names);
                self.repairs[Repair::FoldedName] += folded;
            }
        }
        let is_held = match change {
            Change::Same => self.update_state(&key, digest, state).await,
            Change::First | Change::Revised => Some(false),
        };
        let portrait = if is_held == Some(true) {
            portrait
        } else {
            let row_key = key.clone();
            let pack = move || (Row::new(row_key, state, &text, Some(&portrait)), portrait);
            let (row, portrait) = self.context.compute(pack).await;
            self.add_to_backlog(row);
            // An archive that has just failed is retried in the next step.
            if is_held.is_some() && self.store().await.contains(&key) {
                self.context.activity.arrived(change);
                return;
            }
            if change == Change::Revised && self.read_coverage(index).await {
                self.restore_window(index).await;
            }
            portrait
        };
        if change == Change::Same && is_shown {
            self.windows[index].snapshot.settled = state.settled;
        } else {
            self.show_answer(index, portrait, state).await;
        }
        self.context.activity.arrived(change);
        log::portrait_arrived(&self.app, &key, change, state);
    }

    /// Records in the archive, or in the row that waits for it, that the same figures arrived again. Returns
    /// whether they are held there; `None` if the archive fails.
    async fn update_state(&mut self, key: &Key, digest: u64, state: DayState) -> Option<bool> {
        if let Some(row) = self.backlog.remove(key) {
            self.add_to_backlog(row.with_state(state));
            self.store().await;
            return Some(true);
        }
        let archive = &self.context.archive;
        archive.update_state(key.clone(), digest, state).await.ok()
    }

    fn add_to_backlog(&mut self, row: Row) {
        for key in self.backlog.push(Arc::new(row)) {
            let App { appid, name, .. } = &*self.app;
            let (window, day) = (key.window, key.reference_date);
            tracing::error!(%appid, app = name, %window, %day, "dropped a response, as too many wait for the archive");
        }
    }

    /// Stores waiting rows, if any; a failure is reported by the archive and retried. Returns the days of
    /// which the archive had more recent answers, by another exporter: these are shown now.
    async fn store(&mut self) -> Vec<Key> {
        let rows = self.backlog.rows();
        if rows.is_empty() {
            return Vec::new();
        }
        let Ok(states) = self.context.archive.upsert(rows.clone()).await else {
            return Vec::new();
        };
        self.backlog.clear();
        let mut others = Vec::new();
        for (row, state) in rows.iter().zip(states) {
            let windows = self.windows.iter_mut();
            let of_row = windows.filter(|window| window.window() == row.key.window);
            for window in of_row {
                let coverage = &mut window.snapshot.coverage;
                coverage.add(row.key.reference_date, state.revisions);
            }
            if !is_alike(&row.state, &state) {
                others.push(row.key.clone());
            }
        }
        for index in 0..self.windows.len() {
            let window = self.windows[index].window();
            if others.iter().any(|key| key.window == window) {
                self.restore_window(index).await;
            }
        }
        // There is room again for what had to go.
        if self.backlog.take_dropped() {
            for index in 0..self.windows.len() {
                let held = self.windows[index].snapshot.coverage.clone();
                self.forget_missing(index, &held);
            }
        }
        others
    }

    /// Shows an answer that has just arrived, whether for the newest day or an earlier one.
    async fn show_answer(&mut self, index: usize, portrait: Portrait, state: DayState) {
        let window = &mut self.windows[index];
        window.past.insert(&portrait);
        let day = portrait.reference_date;
        if window
            .snapshot
            .reference_date
            .is_some_and(|shown| shown > day)
        {
            self.show_again(index).await;
        } else {
            self.show(index, portrait, state.settled).await;
        }
    }

    /// Shows the newest portrait again, as the days it is compared with or the settings have changed.
    async fn show_again(&mut self, index: usize) {
        let window = &self.windows[index];
        let (Some(day), true) = (window.snapshot.reference_date, window.snapshot.is_shown) else {
            return;
        };
        let key = Key {
            appid: self.app.appid.clone(),
            window: window.window(),
            reference_date: day,
        };
        let answer = match self.backlog.get(key.window, day) {
            Some(row) => row.answer(),
            None => self
                .context
                .archive
                .answer(key.clone())
                .await
                .ok()
                .flatten(),
        };
        let Some(answer) = answer else {
            // It is retried with the next poll.
            self.archive.is_restored = false;
            return;
        };
        let settled = window.snapshot.settled;
        let read = move || decode::archived(&answer, key.window, day).ok();
        if let Some(portrait) = self.context.compute(read).await {
            self.show(index, portrait, settled).await;
        }
    }

    async fn show(&mut self, index: usize, portrait: Portrait, settled: bool) {
        let app = Arc::clone(&self.app);
        self.compute_with(index, move |window| window.show(&app, portrait, settled))
            .await;
    }

    /// Runs a computation of some milliseconds on a window.
    async fn compute_with<T: Send + 'static>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut WindowPoller) -> T + Send + 'static,
    ) -> T {
        let place = &mut self.windows[index];
        let empty = WindowPoller::new(place.window(), &self.app);
        let mut window = std::mem::replace(place, empty);
        let work = move || {
            let value = work(&mut window);
            (window, value)
        };
        let (window, value) = self.context.compute(work).await;
        self.windows[index] = window;
        self.is_rendered = true;
        value
    }

    /// Detects changes of the archive: by an import, the retention, or another file.
    async fn look_at_archive(&mut self) {
        let version = self.context.archive.version();
        if !self.archive.is_restored || self.archive.version == version {
            return;
        }
        self.archive.version = version;
        for index in 0..self.windows.len() {
            if self.read_coverage(index).await {
                self.restore_window(index).await;
            }
        }
    }

    /// Updates which days the archive holds of a window; returns `true` if they have changed.
    async fn read_coverage(&mut self, index: usize) -> bool {
        let (appid, window) = (self.app.appid.clone(), self.windows[index].window());
        let Ok(coverage) = self.context.archive.coverage(appid, window).await else {
            self.archive.is_restored = false;
            return false;
        };
        self.forget_missing(index, &coverage);
        self.windows[index].set_coverage(coverage)
    }

    /// Reads the app's archived days.
    async fn read_archive(&mut self) {
        self.archive.version = self.context.archive.version();
        self.archive.is_restored = true;
        // What was archived until now is read.
        let _ = self.context.leases.take_changed(&self.app.appid);
        for index in 0..self.windows.len() {
            self.restore_window(index).await;
        }
        // A file that can't be read has nothing to show, but others may have filled a database.
        self.archive.was_read |=
            self.archive.is_restored || self.context.archive.sharing().is_none();
    }

    /// Shows the newest day of a window and the days before it, unless a newer one is shown.
    async fn restore_window(&mut self, index: usize) {
        let (appid, window) = (self.app.appid.clone(), self.windows[index].window());
        let archive = &self.context.archive;
        // A portrait of a day that is not over yet was stored by a wrong clock.
        let last_day = calendar::yesterday(self.context.now());
        let limit = PastDays::capacity(window);
        let restored = archive.restore(appid.clone(), window, limit, last_day);
        let Ok(restored) = restored.await else {
            self.archive.is_restored = false;
            return;
        };
        self.forget_missing(index, &restored.coverage);
        let archive = &self.context.archive;
        let mut answers = Vec::new();
        if !self.windows[index].needs_figures_only() {
            for day in restored.days.iter().take(FULL_DAYS) {
                let key = Key {
                    appid: appid.clone(),
                    window,
                    reference_date: day.reference_date,
                };
                let Ok(answer) = archive.answer(key).await else {
                    self.archive.is_restored = false;
                    return;
                };
                answers.extend(answer.map(|answer| (day.reference_date, answer)));
            }
        }
        let app = Arc::clone(&self.app);
        let waiting: Vec<_> = self.backlog.rows();
        self.compute_with(index, move |poller| {
            let days = restored.days.clone();
            let is_waiting = |day| {
                let mut rows = waiting.iter();
                rows.any(|row| row.key.window == window && row.key.reference_date == day)
            };
            let mut newest = poller.restore(&app, restored, answers, is_waiting);
            for row in waiting.iter().filter(|row| row.key.window == window) {
                let day = row.key.reference_date;
                let answer = row.answer().unwrap_or_default();
                if let Ok(portrait) = decode::archived(&answer, window, day) {
                    poller.past.insert(&portrait);
                    if newest
                        .as_ref()
                        .is_none_or(|newest| newest.reference_date <= day)
                    {
                        newest = Some(portrait);
                    }
                }
            }
            let Some(newest) = newest else { return };
            let day = newest.reference_date;
            if poller
                .snapshot
                .reference_date
                .is_some_and(|shown| shown > day)
            {
                return;
            }
            let of_day = days.iter().find(|known| known.reference_date == day);
            let settled = match waiting
                .iter()
                .find(|row| row.key.window == window && row.key.reference_date == day)
            {
                Some(row) => row.state.settled,
                None => of_day.is_some_and(|known| known.state.settled),
            };
            poller.show(&app, newest, settled);
        })
        .await;
    }

    /// Hides users whose day is too far in the past, or not over yet: the clock was wrong when they
    /// arrived.
    fn hide_outdated(&mut self) {
        let now = self.context.now();
        let stale_after = self.context.settings.stale_after;
        for window in &mut self.windows {
            if window.snapshot.reference_date > Some(calendar::yesterday(now)) {
                window.hide();
                window.snapshot.reference_date = None;
                // The portrait that was shown before is in the archive.
                self.archive.is_restored = false;
            }
            let is_stale = window.stale_at(stale_after).is_some_and(|at| now >= at);
            if is_stale && window.hide() {
                let App { appid, name, .. } = &*self.app;
                let day = window.snapshot.reference_date.map(tracing::field::display);
                let window = window.window();
                tracing::warn!(%appid, app = name, %window, day, "hid a stale portrait");
            }
        }
    }

    /// Reports, once, the days that WeChat deleted before they were archived; not before it has returned a
    /// later day, as the clock may be wrong.
    fn report_lost_days(&mut self) {
        // The archived days are not known; another exporter may have some that are not archived yet.
        if !self.archive.is_restored
            || self.backlog.len() > 0
            || self.polling.polled_by != PolledBy::This
        {
            return;
        }
        let end = due::oldest_due(self.context.now());
        let mut begin = self.archive.lost_days_known_until.replace(end);
        if begin > Some(end) {
            // The clock was set back.
            self.archive.lost_days.clear();
            begin = None;
        }
        let windows = self.windows.iter();
        let lost = windows.flat_map(|window| window.lost_days(begin, end));
        self.archive.lost_days.extend(lost);
        if self.plan.answered_day >= Some(end) && !self.archive.lost_days.is_empty() {
            let App { appid, name, .. } = &*self.app;
            let days = std::mem::take(&mut self.archive.lost_days).join(", ");
            tracing::error!(
                %appid, app = name, days,
                hint = "WeChat no longer returns them, and they are not in the archive",
                "days are lost for good"
            );
        }
    }

    fn snapshot(&self) -> AppSnapshot {
        AppSnapshot {
            appid: self.app.appid.clone(),
            name: self.app.name.clone(),
            labels: self.app.labels.clone(),
            comparison: Comparison::from(&*self.app),
            windows: self
                .windows
                .iter()
                .map(|window| window.snapshot.clone())
                .collect(),
            repairs: self.repairs,
            polled_by: self.polling.polled_by,
            is_polled: self.polling.is_polled,
            next_poll_at: Some(self.plan.next_poll_at)
                .filter(|_| self.polling.polled_by == PolledBy::This),
            unstored: self.backlog.len(),
            is_restored: self.archive.was_read,
        }
    }

    /// Publishes the current state, if it has changed.
    fn publish(&mut self) {
        self.hide_outdated();
        let snapshot = Arc::new(self.snapshot());
        if !self.is_rendered && self.published.as_ref() == Some(&snapshot) {
            return;
        }
        self.is_rendered = false;
        // The page keeps them from now on.
        let windows = self.windows.iter_mut();
        let lines = windows.map(|window| window.lines.take_if(|_| snapshot.is_restored));
        let lines: Vec<_> = lines.collect();
        self.context.page.publish(&snapshot, &lines);
        self.context.registry.set(Arc::clone(&snapshot));
        self.published = Some(snapshot);
    }
}

/// Returns `true` if states differ by no more than the fractions of seconds that an archive does not keep.
fn is_alike(one: &DayState, other: &DayState) -> bool {
    let seconds = |state: &DayState| {
        let times = [state.first_answered_at, state.answered_at];
        times.map(|time| time.timestamp())
    };
    (seconds(one), one.settled, one.revisions) == (seconds(other), other.settled, other.revisions)
}

/// Describes what happened, and when the app is polled next if that is not soon.
fn problem(diagnosis: &Diagnosis, hold: Option<Hold>) -> String {
    let message = &diagnosis.message;
    match hold.and_then(|hold| hold.until) {
        Some(until) => {
            let next = calendar::in_beijing(until).format("%Y-%m-%d %H:%M");
            format!("{message}; no retry before {next} Beijing time")
        }
        None => message.clone(),
    }
}

/// Sleeps until a time, until the clock is set back, or until `stop`.
pub(super) async fn sleep_until(clock: &Clock, time: DateTime<Utc>, stop: &CancellationToken) {
    let start = clock();
    loop {
        let now = clock();
        match (time - now).to_std() {
            Ok(rest) if !rest.is_zero() && now + LONGEST_SLEEP >= start => {
                let sleep = tokio::time::sleep(rest.min(LONGEST_SLEEP));
                if stop.run_until_cancelled(sleep).await.is_none() {
                    return;
                }
            }
            _ => return,
        }
    }
}
