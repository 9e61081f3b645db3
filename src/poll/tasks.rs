//! The tasks that poll: one for each app and one that tends the archive, started, changed when the
//! configuration is, and ended.
//!
//! A change ends the tasks that it concerns, in the middle of whatever they do, and starts them anew
//! with all that they knew; the others do not notice. What a task does is said in `cycle`.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use super::cycle::{Followed, Poller, broke_down};
use crate::config::App;
use crate::portrait::AppId;

/// All tasks that poll; dropped, they end at once.
pub struct Tasks {
    poller: Arc<Poller>,
    set: JoinSet<Option<Followed>>,
    running: HashMap<Id, Running>,
}

struct Running {
    /// None for the task that tends the archive.
    app: Option<App>,
    stop: CancellationToken,
}

/// How many apps a new configuration concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// New ones.
    pub added: usize,
    /// Those that are gone.
    pub removed: usize,
    /// Those that are followed with other settings.
    pub changed: usize,
    /// Those that are tried again, as their last poll failed, and are as they were otherwise.
    pub tried_again: usize,
}

impl Tasks {
    /// Starts to poll apps that were restored, and to tend the archive.
    #[must_use]
    pub fn start(poller: Arc<Poller>, apps: Vec<Followed>) -> Self {
        let mut tasks = Self {
            poller,
            set: JoinSet::new(),
            running: HashMap::new(),
        };
        tasks.tend_archive();
        for app in apps {
            tasks.follow(app);
        }
        tasks
    }

    /// Tells of every task that breaks down; never ends.
    pub async fn watch(&mut self) {
        loop {
            if self.next_ended().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns what the tasks work with.
    #[must_use]
    pub fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    /// Polls these apps from now on, with a poller that may be another one.
    pub async fn change(&mut self, poller: Arc<Poller>, apps: Vec<App>) -> Changes {
        let before = mem::replace(&mut self.poller, poller);
        let is_other = !Arc::ptr_eq(&before, &self.poller);
        let now = (self.poller.clock)();
        let mut wanted: HashMap<AppId, App> = apps
            .into_iter()
            .map(|app| (app.appid.clone(), app))
            .collect();
        let records = self.poller.page.records();
        // What troubles them may have been mended.
        let in_trouble = records.iter().filter(|record| record.is_in_trouble());
        let in_trouble: HashSet<&AppId> = in_trouble.map(|record| &record.appid).collect();
        let removed = records.iter().map(|record| record.appid.clone());
        let removed: Vec<AppId> = removed.filter(|app| !wanted.contains_key(app)).collect();

        let mut ending = HashSet::new();
        for (id, running) in &self.running {
            let goes_on = match &running.app {
                None => before.retention == self.poller.retention,
                Some(app) => {
                    !is_other
                        && wanted.get(&app.appid) == Some(app)
                        && !in_trouble.contains(&app.appid)
                }
            };
            if !goes_on {
                running.stop.cancel();
                ending.insert(*id);
            } else if let Some(app) = &running.app {
                wanted.remove(&app.appid);
            }
        }
        let mut known = HashMap::new();
        while !ending.is_empty()
            && let Some((id, app)) = self.next_ended().await
        {
            ending.remove(&id);
            known.extend(app.map(|app| (app.app().appid.clone(), app)));
        }
        if self.running.values().all(|running| running.app.is_some()) {
            self.tend_archive();
        }

        let (mut added, mut changed, mut tried_again) = (0, 0, 0);
        let mut apps = Vec::new();
        for app in wanted.into_values() {
            apps.push(if let Some(mut known) = known.remove(&app.appid) {
                if is_other || *known.app() != app {
                    changed += 1;
                } else {
                    tried_again += 1;
                }
                known.reconfigure(app, self.poller.interval, now);
                known
            } else {
                added += 1;
                self.poller.meet(app)
            });
        }
        known.into_values().for_each(Followed::leave);
        for appid in &removed {
            self.poller.page.remove(appid);
        }
        for app in self.poller.restore(apps).await {
            self.follow(app);
        }
        Changes {
            added,
            removed: removed.len(),
            changed,
            tried_again,
        }
    }

    /// Ends all tasks, each with a last chance to store what the archive has not taken yet.
    pub async fn end(mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        while self.next_ended().await.is_some() {}
    }

    /// Waits for a task to end; answers the app that it followed, unless it broke down, and nothing
    /// at all if there is no task.
    async fn next_ended(&mut self) -> Option<(Id, Option<Followed>)> {
        let (id, app) = match self.set.join_next_with_id().await? {
            Ok((id, app)) => (id, app),
            Err(error) => {
                broke_down(&error);
                (error.id(), None)
            }
        };
        self.running.remove(&id);
        Some((id, app))
    }

    fn tend_archive(&mut self) {
        let stop = CancellationToken::new();
        let tending = Arc::clone(&self.poller).tend_archive();
        let tending = stop.clone().run_until_cancelled_owned(tending);
        let task = self.set.spawn(async {
            tending.await;
            None
        });
        self.running.insert(task.id(), Running { app: None, stop });
    }

    fn follow(&mut self, mut app: Followed) {
        let stop = CancellationToken::new();
        let running = Running {
            app: Some(app.app().clone()),
            stop: stop.clone(),
        };
        let poller = Arc::clone(&self.poller);
        let task = self.set.spawn(async move {
            stop.run_until_cancelled(poller.follow(&mut app)).await;
            // A last chance for what the archive has not taken yet.
            poller.store(&mut app).await;
            Some(app)
        });
        self.running.insert(task.id(), running);
    }
}
