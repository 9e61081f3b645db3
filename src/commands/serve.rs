//! `serve`: polls WeChat for the configured apps and serves their portraits.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GRACE, Hangup, ProcessContext, listen, log_warnings, print_stderr, print_stdout,
};
use crate::archive::Archive;
use crate::calendar::Clock;
use crate::cli;
use crate::config::{self, Config};
use crate::exposition::telemetry::Telemetry;
use crate::poll::{self, Changes, Context, Supervisor};
use crate::web::{self, AppState, Reload};
use crate::wechat::{self, BuildError, Client};

/// Reads the configuration and serves it until `shutdown`.
///
/// # Errors
///
/// Whatever prevents it from serving; later failures are logged and counted.
pub async fn run(flags: &cli::Serve, context: ProcessContext) -> Result<(), Error> {
    let ProcessContext {
        clock,
        environment,
        shutdown,
        hangup,
    } = context;
    let file = flags.config.path.clone();
    let load = move || config::load(&file, &environment);
    if flags.config_check {
        return check_config(&flags.config.path, load());
    }
    let config = load()?;
    log_warnings(&config);
    let mut shutdown = pin!(shutdown);
    let start = Exporter::start(config, &flags.storage_path, &flags.web, clock);
    let exporter = tokio::select! {
        exporter = start => exporter?,
        () = &mut shutdown => return Ok(()),
    };
    exporter.run(load, hangup, shutdown).await
}

/// Prints what is wrong with a configuration, or that nothing is.
fn check_config(path: &Path, config: Result<Config, config::Error>) -> Result<(), Error> {
    match config {
        Ok(config) => {
            print_stderr(&config.warnings.join("\n"));
            if !config.missing_secrets.is_empty() {
                print_stderr(&config.missing_secrets.join("\n"));
                return Err(Error::Reported);
            }
            print_stdout(&format!(
                "{}: valid, apps: {}\n",
                path.display(),
                config.apps.len()
            ))
        }
        Err(error) => {
            print_stderr(&error.to_string());
            Err(Error::Reported)
        }
    }
}

/// Everything that is needed to serve, assembled and listening.
pub(super) struct Exporter {
    pub(super) listeners: Vec<TcpListener>,
    /// As they were when the context of the apps was created.
    settings: Settings,
    apps: Vec<config::App>,
    context: Context,
    state: Arc<AppState>,
    reloads: mpsc::UnboundedReceiver<Reload>,
}

/// What all apps share.
#[derive(PartialEq)]
struct Settings {
    wechat: wechat::Settings,
    poll: poll::Settings,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            wechat: wechat::Settings {
                wechat: config.wechat.clone(),
                concurrency: config.poll.concurrency,
                backoff: wechat::BACKOFF,
            },
            poll: poll::Settings {
                interval: config.poll.interval,
                quiet_interval: poll::due::QUIET_INTERVAL,
                stale_after: config.stale_after,
                retention: config.retention,
            },
        }
    }

    fn client(&self, telemetry: &Arc<Telemetry>, clock: &Clock) -> Result<Client, BuildError> {
        let observer = Arc::clone(telemetry);
        let observe = move |request: &wechat::Request| observer.request(request);
        Client::new(self.wechat.clone(), Arc::clone(clock), observe)
    }
}

impl Exporter {
    pub(super) async fn start(
        config: Config,
        storage_path: &Path,
        web: &cli::Web,
        clock: Clock,
    ) -> Result<Self, Error> {
        if storage_path.exists() && !storage_path.is_dir() {
            return Err(Error::Usage(format!(
                "--storage.path {}: it is a file, name a directory",
                storage_path.display()
            )));
        }
        let telemetry = Arc::new(Telemetry::new()?);
        telemetry.reloaded(clock());
        let counter = Arc::clone(&telemetry);
        let archive = Archive::open(storage_path, Arc::clone(&clock), move |operation| {
            counter.archive_failure(operation);
        })?;
        let settings = Settings::of(&config);
        let context = Context::new(
            settings.client(&telemetry, &clock)?,
            Arc::new(archive),
            Arc::default(),
            Arc::default(),
            telemetry,
            clock,
            settings.poll,
        );
        // Last, so that clients are answered soon after they connect.
        let mut listeners = Vec::new();
        for address in &web.listen_address {
            listeners.push(listen(address).await?);
        }
        let (reload, reloads) = mpsc::unbounded_channel();
        let state = AppState::new(&context, web.telemetry_path.clone(), reload);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            revision = env!("BUILD_REVISION"),
            apps = config.apps.len(),
            archive = %context.archive.path().display(),
            "starting"
        );
        Ok(Self {
            listeners,
            settings,
            apps: config.apps,
            context,
            state: Arc::new(state),
            reloads,
        })
    }

    /// Polls and serves until `shutdown`, then ends what is in flight; `load` reads the configuration
    /// again when a reload is requested.
    pub(super) async fn run(
        mut self,
        load: impl Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
        mut hangup: Hangup,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let load = Arc::new(load);
        let ending = CancellationToken::new();
        let mut servers = JoinSet::new();
        // The page lists every app from the first moment.
        let mut supervisor =
            Supervisor::start(self.context.clone(), std::mem::take(&mut self.apps));
        for listener in std::mem::take(&mut self.listeners) {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "listening");
            }
            let server = axum::serve(listener, web::create_app(Arc::clone(&self.state)))
                .with_graceful_shutdown(ending.clone().cancelled_owned());
            servers.spawn(server.into_future());
        }
        let mut shutdown = pin!(shutdown);
        let mut waiting: Vec<Reload> = Vec::new();
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                // Servers end by themselves only if they can't continue.
                Some(ended) = servers.join_next() => {
                    let ended = ended.unwrap_or_else(|panic| Err(io::Error::other(panic)));
                    outcome = ended.map_err(Error::Web);
                    break;
                }
                Some(reply) = self.reloads.recv() => waiting.push(reply),
                Some(()) = hangup.recv() => {}
                () = supervisor.watch() => {}
            }
            // Reloads that were requested meanwhile are answered together.
            while let Ok(reply) = self.reloads.try_recv() {
                waiting.push(reply);
            }
            while hangup.try_recv().is_ok() {}
            tokio::select! {
                () = &mut shutdown => break,
                result = self.reload(&mut supervisor, &load) => {
                    for reply in waiting.drain(..) {
                        // The client may have disconnected.
                        let _ = reply.send(result.clone());
                    }
                }
            }
        }
        tracing::info!("shutting down");
        ending.cancel();
        // Pending reloads are answered with 503.
        drop((self.reloads, waiting));
        let end = async {
            supervisor.shutdown().await;
            self.context.archive.close().await;
            while servers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GRACE, end).await.is_err() {
            tracing::warn!("requests under way were cut off");
        }
        outcome
    }

    /// Reads the configuration again and applies it; if it is invalid, reports why and changes nothing.
    async fn reload<L>(&mut self, supervisor: &mut Supervisor, load: &Arc<L>) -> Result<(), String>
    where
        L: Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
    {
        let load = Arc::clone(load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let result = match loaded {
            Ok(Ok(config)) => self.apply(supervisor, config).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.state.set_config_problem(result.clone().err());
        if let Err(problems) = &result {
            self.context.telemetry.reload_failed();
            for problem in problems.lines() {
                tracing::error!(problem, "configuration not reloaded");
            }
        }
        result
    }

    async fn apply(&mut self, supervisor: &mut Supervisor, config: Config) -> Result<(), String> {
        log_warnings(&config);
        let settings = Settings::of(&config);
        let is_other = settings != self.settings;
        if is_other {
            let client = settings.client(&self.context.telemetry, &self.context.clock);
            let client = client.map_err(|error| error.to_string())?;
            self.context = self.context.reconfigured(client, settings.poll);
        }
        self.settings = settings;
        // An exporter that was ready stays ready.
        let _ = self.context.registry.is_ready();
        let context = is_other.then(|| self.context.clone());
        let changes = supervisor.apply_config(context, config.apps).await;
        self.context.telemetry.reloaded((self.context.clock)());
        let Changes {
            added,
            removed,
            changed,
            retried,
        } = changes;
        tracing::info!(added, removed, changed, retried, "configuration reloaded");
        Ok(())
    }
}
