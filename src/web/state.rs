//! What is served, shared by all requests.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};
use url::Url;

use super::csv::Downloads;
use super::guard::Guard;
use super::histories::Histories;
use super::rendering::Rendering;
use crate::archive::Archive;
use crate::calendar::Clock;
use crate::exposition::gzip::{Member, Piece};
use crate::exposition::page::Page;
use crate::exposition::telemetry::Telemetry;
use crate::poll::Context;
use crate::shard::Shard;
use crate::state::Registry;

/// What is served.
pub struct AppState {
    /// What is known about the apps.
    pub registry: Arc<Registry>,
    /// Their lines on the page.
    pub page: Arc<Page>,
    /// The exporter's own metrics.
    pub telemetry: Arc<Telemetry>,
    /// Read for its size and its problem, and for the days of a single app.
    pub archive: Arc<Archive>,
    /// The histories that pages show.
    pub histories: Histories,
    pub(super) downloads: Downloads,
    /// Takes turns for what needs a processor.
    pub(super) rendering: Rendering,
    /// Returns the time.
    pub clock: Clock,
    /// Where everything is.
    pub paths: Paths,
    /// Whose apps these are.
    pub shard: Shard,
    /// Protects everything, if there is a web configuration.
    pub guard: Option<Arc<Guard>>,
    /// Accepts requests to read the configuration again.
    pub reload: mpsc::UnboundedSender<Reload>,
    /// Why the configuration that was read last is not applied.
    config_problem: Mutex<Option<String>>,
    /// The one that is applied, without secrets.
    config: Mutex<Member>,
}

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Paths {
    /// What all paths begin with, such as `/wx`; empty for nothing.
    pub prefix: String,
    /// Where the page for Prometheus is below that; starts with a slash and is not one of
    /// [`super::RESERVED_PATHS`].
    pub telemetry: String,
    /// Where browsers see the exporter, if that is not the host that they send.
    pub external_url: Option<Url>,
}

/// Takes the outcome of reading the configuration again: success, or why it is invalid.
pub type Reload = oneshot::Sender<Result<(), String>>;

impl AppState {
    /// Serves these values, and accepts requests to read the configuration again.
    #[must_use]
    pub fn new(
        context: &Context,
        paths: Paths,
        shard: Shard,
        guard: Option<Arc<Guard>>,
        reload: mpsc::UnboundedSender<Reload>,
    ) -> Self {
        let rendering = Rendering::default();
        Self {
            registry: Arc::clone(&context.registry),
            page: Arc::clone(&context.page),
            telemetry: Arc::clone(&context.telemetry),
            archive: Arc::clone(&context.archive),
            histories: Histories::new(rendering.clone()),
            downloads: Downloads::default(),
            rendering,
            clock: Arc::clone(&context.clock),
            paths,
            shard,
            guard,
            reload,
            config_problem: Mutex::default(),
            config: Mutex::default(),
        }
    }

    /// Records why the configuration that was read last is not applied, if it is not.
    pub fn set_config_problem(&self, problem: Option<String>) {
        let config = self.config_problem.lock();
        *config.unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Records the configuration that is applied; the text is kept compressed and has no secrets.
    pub fn set_config(&self, text: &str) {
        let mut member = Member::default();
        member.push(Piece::new(text));
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = member;
    }

    pub(super) fn config(&self) -> Member {
        let config = self.config.lock();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn config_problem(&self) -> Option<String> {
        let config = self.config_problem.lock();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
