//! `serve`: polls WeChat for the configured apps and serves their portraits.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Error, GRACE, Hangup, Outside, listen, say, warn_of};
use crate::archive::{self, Archive};
use crate::calendar::Clock;
use crate::cli;
use crate::config::{self, Config, Poll, WeChat};
use crate::exposition::telemetry::Telemetry;
use crate::poll::cycle::Poller;
use crate::poll::tasks::{Changes, Tasks};
use crate::web::{self, Reload, Site};
use crate::wechat::{self, BuildError, Client};

/// Reads the configuration and serves it until `shutdown`.
///
/// # Errors
///
/// Whatever keeps it from serving; what happens later is logged and counted.
pub async fn run(flags: &cli::Serve, outside: Outside) -> Result<(), Error> {
    let Outside {
        clock,
        environment,
        shutdown,
        hangup,
    } = outside;
    let file = flags.config.path.clone();
    let load = move || config::load(&file, &environment);
    let config = load()?;
    warn_of(&config);
    if flags.config_check {
        return say(&format!(
            "{}: good, apps: {}\n",
            flags.config.path.display(),
            config.apps.len()
        ));
    }
    let mut shutdown = pin!(shutdown);
    let start = Exporter::start(config, &flags.storage_path, &flags.web, clock);
    let exporter = tokio::select! {
        exporter = start => exporter?,
        () = &mut shutdown => return Ok(()),
    };
    exporter.run(load, hangup, shutdown).await
}

/// Everything that is needed to serve, put together and listening.
pub(super) struct Exporter {
    pub(super) listeners: Vec<TcpListener>,
    /// As they were when the poller was made.
    settings: Settings,
    tasks: Tasks,
    site: Arc<Site>,
    reloads: mpsc::UnboundedReceiver<Reload>,
}

/// What all apps share.
#[derive(PartialEq)]
struct Settings {
    wechat: WeChat,
    poll: Poll,
    retention: Duration,
    stale_after: Duration,
}

impl Settings {
    fn of(config: &Config) -> Self {
        Self {
            wechat: config.wechat.clone(),
            poll: config.poll,
            retention: config.retention,
            stale_after: config.stale_after,
        }
    }

    fn poller(&self, site: &Site) -> Result<Arc<Poller>, BuildError> {
        let settings = wechat::Settings {
            wechat: self.wechat.clone(),
            concurrency: self.poll.concurrency,
            backoff: wechat::BACKOFF,
        };
        let observer = Arc::clone(&site.telemetry);
        let observe = move |request: &wechat::Request| observer.request(request);
        Ok(Arc::new(Poller {
            client: Client::new(settings, Arc::clone(&site.clock), observe)?,
            archive: Arc::clone(&site.archive),
            page: Arc::clone(&site.page),
            telemetry: Arc::clone(&site.telemetry),
            clock: Arc::clone(&site.clock),
            interval: self.poll.interval,
            stale_after: self.stale_after,
            retention: self.retention,
        }))
    }
}

impl Exporter {
    pub(super) async fn start(
        config: Config,
        storage_path: &Path,
        web: &cli::Web,
        clock: Clock,
    ) -> Result<Self, Error> {
        let mut listeners = Vec::new();
        for address in &web.listen_address {
            listeners.push(listen(address).await?);
        }
        let telemetry = Telemetry::new()?;
        telemetry.reloaded(clock());
        let archive = Archive::new(storage_path, Arc::clone(&clock));
        open(&archive, &telemetry)?;
        let (reload, reloads) = mpsc::unbounded_channel();
        let site = Arc::new(Site {
            page: Arc::default(),
            telemetry: Arc::new(telemetry),
            archive: Arc::new(archive),
            clock,
            telemetry_path: web.telemetry_path.clone(),
            reload,
            ready: AtomicBool::new(false),
            config_problem: Mutex::default(),
        });

        let settings = Settings::of(&config);
        let poller = settings.poller(&site)?;
        let apps = config.apps.into_iter().map(|app| poller.meet(app));
        let apps = poller.restore(apps.collect()).await;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            revision = env!("BUILD_REVISION"),
            apps = apps.len(),
            archive = %site.archive.path().display(),
            "starting"
        );
        Ok(Self {
            listeners,
            settings,
            tasks: Tasks::start(poller, apps),
            site,
            reloads,
        })
    }

    /// Polls and serves until `shutdown`, then ends what is under way; `load` reads the configuration
    /// again when somebody asks for it.
    pub(super) async fn run(
        mut self,
        load: impl Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
        mut hangup: Hangup,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let load = Arc::new(load);
        let ending = CancellationToken::new();
        let mut servers = JoinSet::new();
        for listener in std::mem::take(&mut self.listeners) {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "listening");
            }
            let server = axum::serve(listener, web::create_app(Arc::clone(&self.site)))
                .with_graceful_shutdown(ending.clone().cancelled_owned());
            servers.spawn(server.into_future());
        }
        let mut shutdown = pin!(shutdown);
        let mut waiting: Vec<Reload> = Vec::new();
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                // Servers end by themselves only if they can't go on.
                Some(Ok(Err(error))) = servers.join_next() => return Err(Error::Web(error)),
                Some(reply) = self.reloads.recv() => waiting.push(reply),
                Some(()) = hangup.recv() => {}
                () = self.tasks.watch() => {}
            }
            // Whoever came meanwhile is served with the others.
            while let Ok(reply) = self.reloads.try_recv() {
                waiting.push(reply);
            }
            while hangup.try_recv().is_ok() {}
            tokio::select! {
                () = &mut shutdown => break,
                result = self.reload(&load) => {
                    for reply in waiting.drain(..) {
                        // It may have gone.
                        let _ = reply.send(result.clone());
                    }
                }
            }
        }
        tracing::info!("ending");
        ending.cancel();
        // Whoever waits for a reload waits in vain.
        drop((self.reloads, waiting));
        let end = async {
            self.tasks.end().await;
            while servers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GRACE, end).await.is_err() {
            tracing::warn!("requests under way were cut off");
        }
        Ok(())
    }

    /// Reads the configuration again and follows it; if it is bad, tells why and changes nothing.
    async fn reload<L>(&mut self, load: &Arc<L>) -> Result<(), String>
    where
        L: Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
    {
        let load = Arc::clone(load);
        let loaded = tokio::task::spawn_blocking(move || load()).await;
        let result = match loaded {
            Ok(Ok(config)) => self.follow(config).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.site.set_config_problem(result.clone().err());
        if let Err(problems) = &result {
            self.site.telemetry.reload_failed();
            tracing::error!("the configuration is not reloaded, nothing has changed");
            for problem in problems.lines() {
                tracing::error!("{problem}");
            }
        }
        result
    }

    async fn follow(&mut self, config: Config) -> Result<(), String> {
        warn_of(&config);
        let settings = Settings::of(&config);
        let poller = if settings == self.settings {
            Arc::clone(self.tasks.poller())
        } else {
            settings
                .poller(&self.site)
                .map_err(|error| error.to_string())?
        };
        self.settings = settings;
        // An exporter that was ready stays so.
        self.site.become_ready();
        let changes = self.tasks.change(poller, config.apps).await;
        self.site.telemetry.reloaded((self.site.clock)());
        let Changes {
            added,
            removed,
            changed,
            tried_again,
        } = changes;
        tracing::info!(
            added,
            removed,
            changed,
            tried_again,
            "configuration reloaded"
        );
        Ok(())
    }
}

/// Opens the archive. Without it the exporter serves what WeChat answers from memory and tries
/// again, but a file of a newer version or of another program is for the operator to decide about.
fn open(archive: &Archive, telemetry: &Telemetry) -> Result<(), Error> {
    match archive.open() {
        Err(error @ (archive::Error::Newer { .. } | archive::Error::Foreign { .. })) => {
            return Err(error.into());
        }
        Err(error) => {
            telemetry.archive_failure(error.operation());
            tracing::error!("{error}");
        }
        Ok(()) => {}
    }
    Ok(())
}
