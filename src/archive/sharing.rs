//! What exporters that share an archive tell each other through it, as values.
//!
//! Every app has a lease, which one of them holds: that one polls the app, the others show what it archives.
//! A lease lasts as long as its holder is seen: each exporter reports itself in every round, and whoever
//! was not seen for the time of a lease has lost its apps to the first that claims them. Times are those
//! of the database, so the clocks of the exporters need not agree.

use std::collections::HashMap;
use std::time::Duration;

use super::record::{DayState, Key};
use crate::portrait::AppId;

/// How long leases and rounds last, the same for all that share an archive.
#[derive(Debug, Clone, Copy)]
pub struct Sharing {
    /// How long an exporter holds its leases without being seen.
    pub lease: Duration,
    /// How often an exporter reports itself, claims what nobody holds, and reads what others have archived.
    pub round: Duration,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            lease: Duration::from_mins(1),
            round: Duration::from_secs(20),
        }
    }
}

/// Who polls an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Whether this exporter holds it; else another one does.
    pub is_held: bool,
    /// Whether any exporter has polled the app since it was first configured.
    pub is_polled: bool,
}

/// What an exporter learned in a round.
#[derive(Debug, Clone, Default)]
pub struct Round {
    /// The leases of the apps of this exporter.
    pub leases: HashMap<AppId, Lease>,
    /// The days of these apps that others have archived since the last round; some of them were in the
    /// last round as well. `None` if that is not known, so that everything is to be read again.
    pub changed: Option<Vec<ChangedDay>>,
}

/// A day that another exporter, or an import, has archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedDay {
    /// The app, window and day.
    pub key: Key,
    /// What is known about it.
    pub state: DayState,
    /// See [`crate::portrait::Portrait::digest`].
    pub digest: Option<u64>,
}
