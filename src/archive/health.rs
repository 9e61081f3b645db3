//! The current problem of the archive: for the exporter's page, for metrics, and once for the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::error::{Error, Operation};

/// A problem that lasts is logged again after this time.
const REMINDER: Duration = Duration::from_hours(1);

/// A failure that is not resolved yet.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failing: [Option<Failing>; Operation::ALL.len()],
    notice: Option<String>,
}

#[derive(Debug)]
struct Failing {
    problem: String,
    logged_at: Instant,
}

impl Health {
    /// Returns the current problem, for people.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failing = state
            .failing
            .iter()
            .flatten()
            .map(|failing| &failing.problem);
        failing.next().or(state.notice.as_ref()).cloned()
    }

    /// Sets the notice that is shown until the program ends.
    pub(super) fn set_notice(&self, notice: Option<&str>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.notice.as_deref() != notice {
            state.notice = notice.map(str::to_owned);
        }
    }

    /// Records a failure; logs new ones.
    pub(super) fn failed(&self, error: &Error) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (operation, problem) = (error.operation(), error.to_string());
        let place = &mut state.failing[operation as usize];
        let is_logged = place.as_ref().is_some_and(|failing| {
            failing.problem == problem && failing.logged_at.elapsed() < REMINDER
        });
        if !is_logged {
            tracing::error!(%operation, problem, "archive failed");
        }
        // These are over as soon as they are detected.
        if let Error::Damaged { .. } | Error::Replaced { .. } = error {
            return;
        }
        let logged_at = match place {
            Some(failing) if is_logged => failing.logged_at,
            _ => Instant::now(),
        };
        *place = Some(Failing { problem, logged_at });
    }

    /// Records a success.
    pub(super) fn succeeded(&self, operation: Operation) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut is_over = false;
        // Every operation that succeeds has opened the file, or has a connection.
        let working = [operation, Operation::Open, Operation::Connect];
        // Sharing reads the days of the others, while only a page that is looked at might read any.
        let read = (operation == Operation::Share).then_some(Operation::Read);
        for operation in working.into_iter().chain(read) {
            is_over |= state.failing[operation as usize].take().is_some();
        }
        if is_over {
            tracing::info!(%operation, "archive works again");
        }
    }
}
