//! What this exporter knows about who polls which app.
//!
//! Exporters that share an archive divide the apps by leases, see [`crate::archive::Lease`]. A task renews
//! them in rounds; the pollers read here whether they may poll, and what others have archived. With an
//! archive of its own an exporter polls every app, and nothing of this is needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::archive::{Archive, ChangedDay, Lease, Round, Sharing};
use crate::portrait::AppId;
use crate::state::{PolledBy, Registry};

/// Who polls which app.
#[derive(Debug)]
pub struct Leases {
    /// How long leases and rounds last.
    sharing: Sharing,
    /// `None` for an archive that is not shared.
    rounds: Option<Mutex<Rounds>>,
    /// Requests a round.
    request: Notify,
}

/// What the rounds brought.
#[derive(Debug, Default)]
struct Rounds {
    validity: Validity,
    apps: HashMap<AppId, LeasedApp>,
}

/// Whether leases that were held in the last round that succeeded are still held.
#[derive(Debug, Clone, Copy, Default)]
struct Validity {
    /// Until when they last without another round.
    until: Option<Instant>,
    /// Whether a round has failed since.
    has_failed: bool,
}

#[derive(Debug, Default)]
struct LeasedApp {
    lease: Option<Lease>,
    /// Days that others have archived and the poller has not processed yet.
    changed: Vec<ChangedDay>,
    /// Whether others may have archived more.
    has_missed: bool,
    /// Whether this exporter has polled it, and the archive does not know.
    is_unreported: bool,
    /// What the poller knows.
    known: Option<Polling>,
    wake: Arc<Notify>,
}

/// Who polls an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Polling {
    pub(super) polled_by: PolledBy,
    /// Whether this exporter may poll it now.
    pub(super) is_permitted: bool,
    /// Whether any exporter has polled it.
    pub(super) is_polled: bool,
}

impl Validity {
    /// While the database is away the apps that were held last are polled on, as probably nobody else can
    /// claim them. A lease that expired although no round failed belongs to a process that was paused: another
    /// exporter may have claimed the app.
    fn is_valid(self, now: Instant) -> bool {
        self.has_failed || self.until.is_some_and(|until| now < until)
    }
}

impl Polling {
    /// Of an app of an exporter that shares its archive with nobody.
    const ALONE: Self = Self {
        polled_by: PolledBy::This,
        is_permitted: true,
        is_polled: false,
    };

    fn new(lease: Option<Lease>, validity: Validity, now: Instant) -> Self {
        let is_held = lease.is_some_and(|lease| lease.is_held);
        Self {
            polled_by: match lease {
                None => PolledBy::Unknown,
                Some(_) if is_held => PolledBy::This,
                Some(_) => PolledBy::Other,
            },
            is_permitted: is_held && validity.is_valid(now),
            is_polled: lease.is_some_and(|lease| lease.is_polled),
        }
    }
}

impl Leases {
    /// Starts with no lease; of an archive that is not shared none is needed.
    #[must_use]
    pub fn new(sharing: Option<Sharing>) -> Self {
        Self {
            sharing: sharing.unwrap_or_default(),
            rounds: sharing.map(|_| Mutex::default()),
            request: Notify::new(),
        }
    }

    /// Records a round that began at `begun_at`, and wakes the pollers that it concerns.
    pub fn succeeded(&self, round: Round, begun_at: Instant) {
        let Some(mut rounds) = self.lock() else {
            return;
        };
        let before = rounds.held();
        for (appid, lease) in round.leases {
            if let Some(app) = rounds.apps.get_mut(&appid) {
                app.lease = Some(lease);
                app.is_unreported &= !lease.is_polled;
            }
        }
        for app in rounds.apps.values_mut().filter(|_| round.changed.is_none()) {
            app.has_missed = true;
            app.wake.notify_one();
        }
        for day in round.changed.into_iter().flatten() {
            if let Some(app) = rounds.apps.get_mut(&day.key.appid) {
                app.changed.push(day);
                app.wake.notify_one();
            }
        }
        let is_first = rounds.validity.until.is_none();
        rounds.validity = Validity {
            until: Some(begun_at + self.sharing.lease),
            has_failed: false,
        };
        rounds.wake(Instant::now());
        let held = rounds.held();
        if is_first || held != before {
            let of_others = rounds.apps.len() - held;
            tracing::info!(held, of_others, "leases of apps");
        }
    }

    /// Records that a round failed, which the archive reports.
    pub fn failed(&self) {
        if let Some(mut rounds) = self.lock() {
            rounds.validity.has_failed = true;
            rounds.wake(Instant::now());
        }
    }

    /// Runs rounds; never ends.
    pub(super) async fn renew(&self, archive: &Archive, registry: &Registry) {
        loop {
            let begun_at = Instant::now();
            let apps = registry.all();
            let apps = apps.iter().map(|app| app.appid.clone()).collect();
            match archive.share(apps, self.unreported()).await {
                Ok(round) => self.succeeded(round, begun_at),
                Err(_) => self.failed(),
            }
            tokio::select! {
                () = tokio::time::sleep_until(begun_at + self.sharing.round) => {}
                () = self.request.notified() => {}
            }
        }
    }

    /// Requests a round, as the apps have changed.
    pub(super) fn renew_now(&self) {
        self.request.notify_one();
    }

    /// Returns what wakes the poller of an app.
    pub(super) fn wake_of(&self, appid: &AppId) -> Arc<Notify> {
        self.lock().map_or_else(Arc::default, |mut rounds| {
            Arc::clone(&rounds.apps.entry(appid.clone()).or_default().wake)
        })
    }

    /// Forgets an app that is no longer configured.
    pub(super) fn forget(&self, appid: &AppId) {
        if let Some(mut rounds) = self.lock() {
            rounds.apps.remove(appid);
        }
    }

    /// Returns who polls an app; its poller is woken when that changes.
    pub(super) fn polling(&self, appid: &AppId) -> Polling {
        self.lock().map_or(Polling::ALONE, |mut rounds| {
            let validity = rounds.validity;
            let app = rounds.apps.entry(appid.clone()).or_default();
            let polling = Polling::new(app.lease, validity, Instant::now());
            app.known = Some(polling);
            polling
        })
    }

    /// Records that an app was polled.
    pub(super) fn polled(&self, appid: &AppId) {
        if let Some(mut rounds) = self.lock()
            && let Some(app) = rounds.apps.get_mut(appid)
        {
            app.is_unreported = !app.lease.is_some_and(|lease| lease.is_polled);
        }
    }

    /// Returns, once, the days of an app that others have archived; `None` if there may be more.
    pub(super) fn take_changed(&self, appid: &AppId) -> Option<Vec<ChangedDay>> {
        let Some(mut rounds) = self.lock() else {
            return Some(Vec::new());
        };
        let app = rounds.apps.entry(appid.clone()).or_default();
        let changed = std::mem::take(&mut app.changed);
        (!std::mem::take(&mut app.has_missed)).then_some(changed)
    }

    /// Returns the apps that were polled, which the archive does not know.
    fn unreported(&self) -> Vec<AppId> {
        self.lock().map_or_else(Vec::new, |rounds| {
            let apps = rounds.apps.iter();
            let unreported = apps.filter(|(_, app)| app.is_unreported);
            unreported.map(|(appid, _)| appid.clone()).collect()
        })
    }

    fn lock(&self) -> Option<MutexGuard<'_, Rounds>> {
        let rounds = self.rounds.as_ref()?;
        Some(rounds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rounds {
    /// Wakes the pollers that know something else.
    fn wake(&self, now: Instant) {
        for app in self.apps.values() {
            let polling = Polling::new(app.lease, self.validity, now);
            if app.known.is_some_and(|known| known != polling) {
                app.wake.notify_one();
            }
        }
    }

    /// Returns how many leases this exporter holds.
    fn held(&self) -> usize {
        let is_held = |app: &&LeasedApp| app.lease.is_some_and(|lease| lease.is_held);
        self.apps.values().filter(is_held).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    const HELD: Option<Lease> = Some(Lease {
        is_held: true,
        is_polled: true,
    });

    const OF_ANOTHER: Option<Lease> = Some(Lease {
        is_held: false,
        is_polled: true,
    });

    const LEASE: Duration = Duration::from_mins(1);

    /// Returns who polls an app at a time after the last round that succeeded, if any, began.
    fn polling(lease: Option<Lease>, has_failed: bool, age: Option<Duration>) -> (PolledBy, bool) {
        let start = Instant::now();
        let validity = Validity {
            until: age.map(|_| start + LEASE),
            has_failed,
        };
        let polling = Polling::new(lease, validity, start + age.unwrap_or_default());
        (polling.polled_by, polling.is_permitted)
    }

    fn shared() -> Leases {
        Leases::new(Some(Sharing::default()))
    }

    fn appid() -> AppId {
        "wx0123456789abcdef".parse().unwrap()
    }

    fn round(lease: Option<Lease>) -> Round {
        Round {
            leases: lease.map(|lease| (appid(), lease)).into_iter().collect(),
            changed: Some(Vec::new()),
        }
    }

    #[test]
    fn before_the_archive_was_reached_nothing_is_polled() {
        for has_failed in [false, true] {
            let unknown = polling(None, has_failed, None);
            assert_eq!(unknown, (PolledBy::Unknown, false));
        }
    }

    #[test]
    fn a_lease_permits_polls_for_a_minute() {
        let last = LEASE.checked_sub(Duration::from_millis(1));
        assert_eq!(polling(HELD, false, last), (PolledBy::This, true));
        assert_eq!(polling(HELD, false, Some(LEASE)), (PolledBy::This, false));
        let of_another = polling(OF_ANOTHER, false, last);
        assert_eq!(of_another, (PolledBy::Other, false));
    }

    #[test]
    fn while_the_archive_is_away_the_apps_that_were_held_are_polled_on() {
        let later = Some(Duration::from_hours(48));
        assert_eq!(polling(HELD, true, later), (PolledBy::This, true));
        assert_eq!(polling(OF_ANOTHER, true, later), (PolledBy::Other, false));
    }

    #[test]
    fn with_an_archive_of_its_own_an_exporter_polls_every_app() {
        let leases = Leases::new(None);
        assert_eq!(leases.polling(&appid()), Polling::ALONE);
        leases.polled(&appid());
        assert!(leases.unreported().is_empty());
    }

    #[test]
    fn an_app_is_reported_as_polled_until_the_archive_knows_it() {
        let leases = shared();
        leases.wake_of(&appid());
        let lease = |is_polled| {
            let is_held = true;
            round(Some(Lease { is_held, is_polled }))
        };
        leases.succeeded(lease(false), Instant::now());
        assert!(leases.unreported().is_empty());
        leases.polled(&appid());
        leases.failed();
        assert_eq!(leases.unreported(), [appid()]);
        leases.succeeded(lease(true), Instant::now());
        leases.polled(&appid());
        assert!(leases.unreported().is_empty());
    }

    #[test]
    fn a_poller_is_woken_when_what_it_knows_has_changed() {
        let leases = shared();
        let wake = leases.wake_of(&appid());
        // Returns `true` if it was woken; it looks then.
        let is_woken = || {
            let is_woken = wake.notified().now_or_never().is_some();
            leases.polling(&appid());
            is_woken
        };
        assert!(!is_woken());
        leases.succeeded(round(HELD), Instant::now());
        assert!(is_woken(), "a lease");
        leases.succeeded(round(HELD), Instant::now());
        assert!(!is_woken(), "the same lease");
        leases.succeeded(round(HELD), Instant::now().checked_sub(LEASE).unwrap());
        assert!(is_woken(), "it expired");
        leases.failed();
        assert!(is_woken(), "the archive is away");
        leases.succeeded(round(OF_ANOTHER), Instant::now());
        assert!(is_woken(), "the lease of another");
    }
}
