//! Every configured app and its newest snapshot, shared by the pollers and the web server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::snapshot::{AppSnapshot, PolledBy};
use crate::portrait::AppId;

/// Every configured app.
#[derive(Debug, Default)]
pub struct Registry {
    apps: RwLock<BTreeMap<AppId, Arc<AppSnapshot>>>,
    /// Whether every app was ready once; never reset.
    ready: AtomicBool,
}

/// The progress of the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many apps are configured.
    pub apps: usize,
    /// For how many the archive was read.
    pub restored: usize,
    /// How many have a portrait, or were polled for one.
    pub ready: usize,
    /// Of how many it is not known who polls them, as the archive that exporters share was not reached.
    pub unleased: usize,
}

impl Progress {
    /// Returns `true` as long as the archive was not read for every app.
    #[must_use]
    pub fn is_restoring(self) -> bool {
        self.restored < self.apps
    }
}

impl Registry {
    /// Updates what is known about an app.
    pub fn set(&self, snapshot: Arc<AppSnapshot>) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(snapshot.appid.clone(), snapshot);
    }

    /// Removes an app that is no longer configured.
    pub fn remove(&self, appid: &AppId) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.remove(appid);
    }

    /// Returns `true` if something is known about an app.
    #[must_use]
    pub fn contains(&self, appid: &AppId) -> bool {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.contains_key(appid)
    }

    /// Returns what is known about an app, if it is configured.
    #[must_use]
    pub fn get(&self, appid: &AppId) -> Option<Arc<AppSnapshot>> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.get(appid).cloned()
    }

    /// Returns what is known about every app, sorted by appid.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<AppSnapshot>> {
        let apps = self.apps.read().unwrap_or_else(PoisonError::into_inner);
        apps.values().cloned().collect()
    }

    /// Returns `true` once every app has an archived portrait or was polled for one; stays so, whatever
    /// apps are added.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        if self.ready.load(Ordering::Relaxed) {
            return true;
        }
        let is_ready = self.all().iter().all(|app| app.is_ready());
        if is_ready {
            self.ready.store(true, Ordering::Relaxed);
        }
        is_ready
    }

    /// Returns the progress of the start.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let apps = self.all();
        Progress {
            apps: apps.len(),
            restored: apps.iter().filter(|app| app.is_restored).count(),
            ready: apps.iter().filter(|app| app.is_ready()).count(),
            unleased: apps
                .iter()
                .filter(|app| app.polled_by == PolledBy::Unknown)
                .count(),
        }
    }
}
