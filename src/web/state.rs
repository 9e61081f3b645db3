//! What is served, shared by all requests.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::archive::Archive;
use crate::calendar::Clock;
use crate::exposition::page::Page;
use crate::exposition::telemetry::Telemetry;
use crate::poll::Context;
use crate::state::Registry;

/// What is served.
pub struct AppState {
    /// What is known about the apps.
    pub registry: Arc<Registry>,
    /// Their lines.
    pub page: Arc<Page>,
    /// The exporter's own metrics.
    pub telemetry: Arc<Telemetry>,
    /// Asked for its size and its problem only.
    pub archive: Arc<Archive>,
    /// Returns the time.
    pub clock: Clock,
    /// Where the page for Prometheus is; starts with a slash and is none of [`super::RESERVED_PATHS`].
    pub telemetry_path: String,
    /// Takes requests to read the configuration again.
    pub reload: mpsc::UnboundedSender<Reload>,
    /// Why the configuration that was read last is not followed.
    config_problem: Mutex<Option<String>>,
}

/// Takes what became of reading the configuration again: nothing more to say, or why it is bad.
pub type Reload = oneshot::Sender<Result<(), String>>;

impl AppState {
    /// Serves what these hold, and takes requests to read the configuration again.
    #[must_use]
    pub fn new(
        context: &Context,
        telemetry_path: String,
        reload: mpsc::UnboundedSender<Reload>,
    ) -> Self {
        Self {
            registry: Arc::clone(&context.registry),
            page: Arc::clone(&context.page),
            telemetry: Arc::clone(&context.telemetry),
            archive: Arc::clone(&context.archive),
            clock: Arc::clone(&context.clock),
            telemetry_path,
            reload,
            config_problem: Mutex::default(),
        }
    }

    /// Notes why the configuration that was read last is not followed, if it is not.
    pub fn set_config_problem(&self, problem: Option<String>) {
        let config = self.config_problem.lock();
        *config.unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn config_problem(&self) -> Option<String> {
        let config = self.config_problem.lock();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
