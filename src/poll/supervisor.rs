//! Runs a task for every app, one that maintains the archive, and one that renews leases: starts them,
//! updates them when the configuration is reloaded, restarts them when they panic, and ends them. Reminds
//! of missing holidays.
//!
//! A task ends between two steps, and returns its app's state. What it does is in `app`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, future, stream};
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::app::{AppPoller, Context, sleep_until};
use super::log::HolidaysLog;
use crate::calendar;
use crate::config::{App, MissingHolidays};
use crate::portrait::AppId;

/// A task that panicked is restarted after this time.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// How often it is tested after a start whether the archive may be checked.
const CHECK_PAUSE: Duration = Duration::from_secs(1);

/// How often it is tested whether the holidays of a year are missing.
const HOLIDAYS_PAUSE: Duration = Duration::from_hours(1);

/// How many apps are restored at a time.
const RESTORED_AT_ONCE: usize = 8;

/// All tasks that poll; dropped, they end at once.
pub struct Supervisor {
    context: Context,
    tasks: JoinSet<Option<AppPoller>>,
    running: HashMap<Id, Running>,
    /// Limits how many apps are restored at once.
    restoring: Arc<Semaphore>,
    /// Whether the archive was checked since the start.
    is_checked: Arc<AtomicBool>,
    holidays_log: HolidaysLog,
}

struct Running {
    kind: Kind,
    stop: CancellationToken,
}

enum Kind {
    Poll(Box<App>),
    Maintain,
    RenewLeases,
}

/// How many apps a new configuration affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// New apps.
    pub added: usize,
    /// Removed apps.
    pub removed: usize,
    /// Apps that are polled with other settings.
    pub changed: usize,
    /// Unchanged apps whose last poll failed.
    pub retried: usize,
}

impl Supervisor {
    /// Starts to poll apps, each once the archive was read for it, and to maintain the archive.
    #[must_use]
    pub fn start(context: Context, apps: Vec<App>) -> Self {
        let mut supervisor = Self {
            context,
            tasks: JoinSet::new(),
            running: HashMap::new(),
            restoring: Arc::new(Semaphore::new(RESTORED_AT_ONCE)),
            is_checked: Arc::default(),
            holidays_log: HolidaysLog::default(),
        };
        // Every app is on the page before the first is restored.
        let pollers = apps
            .into_iter()
            .map(|app| AppPoller::new(supervisor.context.clone(), app));
        let pollers: Vec<_> = pollers.collect();
        supervisor.maintain();
        supervisor.renew_leases();
        for poller in pollers {
            supervisor.poll(poller, Duration::ZERO);
        }
        supervisor.log_missing_holidays();
        supervisor
    }

    /// Restarts tasks that panic, and logs missing holidays; never ends.
    pub async fn watch(&mut self) {
        loop {
            tokio::select! {
                ended = self.next_ended() => {
                    if ended.is_none() {
                        std::future::pending::<()>().await;
                    }
                }
                () = tokio::time::sleep(HOLIDAYS_PAUSE) => self.log_missing_holidays(),
            }
        }
    }

    /// Returns what the tasks share.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Polls these apps from now on; `context` differs if settings of all apps changed.
    pub async fn apply_config(&mut self, context: Option<Context>, apps: Vec<App>) -> Changes {
        let is_other = context.is_some();
        let settings_before = self.context.settings;
        if let Some(context) = context {
            self.context = context;
        }
        let mut wanted: HashMap<AppId, App> = apps
            .into_iter()
            .map(|app| (app.appid.clone(), app))
            .collect();
        let snapshots = self.context.registry.all();
        // The cause of their failures may be resolved.
        let failing = snapshots.iter().filter(|app| app.is_failing());
        let failing: HashSet<&AppId> = failing.map(|app| &app.appid).collect();
        let removed = snapshots.iter().map(|app| app.appid.clone());
        let removed: Vec<AppId> = removed.filter(|app| !wanted.contains_key(app)).collect();

        let mut ending = HashSet::new();
        for (id, running) in &self.running {
            let continues = match &running.kind {
                Kind::Maintain => settings_before == self.context.settings,
                Kind::RenewLeases => true,
                Kind::Poll(app) => {
                    !is_other
                        && wanted.get(&app.appid) == Some(app)
                        && !failing.contains(&app.appid)
                }
            };
            if !continues {
                running.stop.cancel();
                ending.insert(*id);
            } else if let Kind::Poll(app) = &running.kind {
                wanted.remove(&app.appid);
            }
        }
        let mut known = HashMap::new();
        while !ending.is_empty()
            && let Some((id, poller)) = self.next_ended().await
        {
            ending.remove(&id);
            known.extend(poller.map(|poller| (poller.app().appid.clone(), poller)));
        }
        let is_maintained = |running: &Running| matches!(running.kind, Kind::Maintain);
        if !self.running.values().any(is_maintained) {
            self.maintain();
        }

        let mut changes = Changes {
            added: 0,
            removed: removed.len(),
            changed: 0,
            retried: 0,
        };
        let mut pollers = Vec::new();
        for app in wanted.into_values() {
            if let Some(poller) = known.remove(&app.appid) {
                if is_other || *poller.app() != app {
                    changes.changed += 1;
                } else {
                    changes.retried += 1;
                }
                pollers.push((poller, Some(app)));
            } else {
                changes.added += 1;
                pollers.push((AppPoller::new(self.context.clone(), app), None));
            }
        }
        known.into_values().for_each(AppPoller::on_removed);
        for appid in &removed {
            self.context.page.remove(appid);
            self.context.registry.remove(appid);
            self.context.leases.forget(appid);
        }
        if changes.added > 0 || changes.removed > 0 {
            self.context.leases.renew_now();
        }
        // A scrape after a reload sees what is archived.
        let context = self.context.clone();
        let restored = stream::iter(pollers).map(async |(mut poller, app)| {
            if let Some(app) = app {
                poller.reconfigure(context.clone(), app).await;
            }
            if !poller.was_read() {
                poller.restore().await;
            }
            poller
        });
        let restored: Vec<_> = restored.buffer_unordered(RESTORED_AT_ONCE).collect().await;
        for poller in restored {
            self.poll(poller, Duration::ZERO);
        }
        // Whoever reloads wants to know whether they are there now.
        self.holidays_log = HolidaysLog::default();
        self.log_missing_holidays();
        changes
    }

    /// Ends all tasks, each after a last attempt to store what the archive has not accepted yet.
    pub async fn shutdown(mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        while let Some(ended) = self.tasks.join_next_with_id().await {
            match ended {
                Ok((_, poller)) => poller.into_iter().for_each(AppPoller::on_shutdown),
                Err(error) => self.log_panic(&error),
            }
        }
    }

    /// Waits for a task to end; returns the app that it polled, unless it panicked and is restarted, and
    /// nothing at all if there is no task.
    async fn next_ended(&mut self) -> Option<(Id, Option<AppPoller>)> {
        let (id, poller) = match self.tasks.join_next_with_id().await? {
            Ok(ended) => ended,
            Err(error) => {
                self.log_panic(&error);
                (error.id(), None)
            }
        };
        let running = self.running.remove(&id);
        if poller.is_none()
            && let Some(Running { kind, stop }) = running
            && !stop.is_cancelled()
        {
            match kind {
                Kind::Maintain => self.maintain(),
                Kind::RenewLeases => self.renew_leases(),
                Kind::Poll(app) => {
                    let poller = AppPoller::new(self.context.clone(), *app);
                    self.poll(poller, RESTART_PAUSE);
                }
            }
        }
        Some((id, poller))
    }

    fn log_missing_holidays(&mut self) {
        let apps = self
            .running
            .values()
            .filter_map(|running| match &running.kind {
                Kind::Poll(app) => Some(&**app),
                Kind::Maintain | Kind::RenewLeases => None,
            });
        let now = self.context.now();
        let missing = MissingHolidays::of(apps, calendar::today(now));
        self.holidays_log.record(missing, now);
    }

    fn log_panic(&self, error: &JoinError) {
        let running = self.running.get(&error.id());
        let app = running.and_then(|running| match &running.kind {
            Kind::Poll(app) => Some(app),
            Kind::Maintain | Kind::RenewLeases => None,
        });
        self.context.telemetry.task_panicked();
        tracing::error!(
            appid = app.map(|app| app.appid.as_str()),
            app = app.map(|app| app.name.as_str()),
            %error,
            hint = "this is a bug; the task is started again",
            "task panicked"
        );
    }

    /// Deletes days beyond the retention, now and after every midnight in Beijing; after a start
    /// the archive is checked before. Logs a summary of the polls for every interval.
    fn maintain(&mut self) {
        let stop = CancellationToken::new();
        let (context, stopped) = (self.context.clone(), stop.clone());
        let is_checked = Arc::clone(&self.is_checked);
        let task = self.tasks.spawn(async move {
            let maintenance = async {
                if !is_checked.load(Ordering::Relaxed) {
                    // Serving the page has priority.
                    while context.registry.progress().is_restoring() {
                        tokio::time::sleep(CHECK_PAUSE).await;
                    }
                    context.archive.check().await;
                    is_checked.store(true, Ordering::Relaxed);
                }
                loop {
                    let now = context.now();
                    let days = context.settings.retention.as_secs() / (24 * 3600);
                    context.archive.prune(days, calendar::today(now)).await;
                    let midnight = calendar::next_midnight(now);
                    sleep_until(&context.clock, midnight, &stopped).await;
                }
            };
            let summaries = async {
                loop {
                    tokio::time::sleep(context.settings.interval).await;
                    context.activity.summarize(&context.registry.all());
                }
            };
            stopped
                .run_until_cancelled(future::join(maintenance, summaries))
                .await;
            None
        });
        let kind = Kind::Maintain;
        self.running.insert(task.id(), Running { kind, stop });
    }

    /// Renews the leases of apps, if the archive is shared.
    fn renew_leases(&mut self) {
        if self.context.archive.sharing().is_none() {
            return;
        }
        let stop = CancellationToken::new();
        let (context, stopped) = (self.context.clone(), stop.clone());
        let task = self.tasks.spawn(async move {
            let renewal = context.leases.renew(&context.archive, &context.registry);
            stopped.run_until_cancelled(renewal).await;
            None
        });
        let kind = Kind::RenewLeases;
        self.running.insert(task.id(), Running { kind, stop });
    }

    fn poll(&mut self, mut poller: AppPoller, pause: Duration) {
        let stop = CancellationToken::new();
        let running = Running {
            kind: Kind::Poll(Box::new(poller.app().clone())),
            stop: stop.clone(),
        };
        let restoring = Arc::clone(&self.restoring);
        let task = self.tasks.spawn(async move {
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            if !poller.was_read() {
                // Only a bug closes it, and then there is no limit.
                let permit = stop.run_until_cancelled(restoring.acquire()).await;
                if permit.is_some() {
                    poller.restore().await;
                }
                drop(permit);
            }
            poller.run(&stop).await;
            Some(poller)
        });
        self.running.insert(task.id(), running);
    }
}
