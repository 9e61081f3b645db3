//! `serve`: polls WeChat for the configured apps and serves their portraits.
#![expect(
    clippy::print_stdout,
    reason = "the answer of --config.check goes there"
)]

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Error, GRACE, Outside, listen};
use crate::archive::{self, Archive};
use crate::calendar::Clock;
use crate::cli;
use crate::config::{self, Config};
use crate::exposition::page::Page;
use crate::exposition::telemetry::Telemetry;
use crate::poll::cycle::{Followed, Poller};
use crate::web::{self, Site};
use crate::wechat::{self, Client};

/// Reads the configuration and serves it until `shutdown`.
///
/// # Errors
///
/// Whatever keeps it from serving; what happens later is logged and counted.
pub async fn run<E, S>(flags: &cli::Serve, outside: Outside<E, S>) -> Result<(), Error>
where
    E: Fn(&str) -> Option<String>,
    S: Future<Output = ()>,
{
    let config = config::load(&flags.config_file, outside.environment)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if flags.config_check {
        println!(
            "{}: good, apps: {}",
            flags.config_file.display(),
            config.apps.len()
        );
        return Ok(());
    }
    let mut shutdown = pin!(outside.shutdown);
    let start = Exporter::start(config, &flags.storage_path, &flags.web, outside.clock);
    let exporter = tokio::select! {
        exporter = start => exporter?,
        () = &mut shutdown => return Ok(()),
    };
    exporter.run(shutdown).await
}

/// Everything that is needed to serve, put together and listening.
pub(super) struct Exporter {
    pub(super) listeners: Vec<TcpListener>,
    poller: Arc<Poller>,
    apps: Vec<Followed>,
    site: Arc<Site>,
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
        let telemetry = Arc::new(Telemetry::new()?);
        let page = Arc::new(Page::default());
        let archive = Arc::new(Archive::new(storage_path, Arc::clone(&clock)));
        open(&archive, &telemetry)?;

        let observer = Arc::clone(&telemetry);
        let settings = wechat::Settings {
            base_url: config.wechat.base_url,
            timeout: config.wechat.timeout,
            concurrency: config.poll.concurrency,
            backoff: wechat::BACKOFF,
        };
        let client = Client::new(settings, Arc::clone(&clock), move |request| {
            observer.request(request);
        })?;
        let poller = Arc::new(Poller {
            client,
            archive: Arc::clone(&archive),
            page: Arc::clone(&page),
            telemetry: Arc::clone(&telemetry),
            clock: Arc::clone(&clock),
            interval: config.poll.interval,
            stale_after: config.stale_after,
            retention: config.retention,
        });
        let apps = poller.restore(config.apps).await;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            revision = env!("BUILD_REVISION"),
            apps = apps.len(),
            archive = %archive.path().display(),
            "starting"
        );
        let telemetry_path = web.telemetry_path.clone();
        let site = Arc::new(Site {
            page,
            telemetry,
            archive,
            clock,
            telemetry_path,
        });
        Ok(Self {
            listeners,
            poller,
            apps,
            site,
        })
    }

    /// Polls and serves until `shutdown`, then ends what is under way.
    pub(super) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        let ending = CancellationToken::new();
        let mut servers = JoinSet::new();
        for listener in self.listeners {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, "listening");
            }
            let server = axum::serve(listener, web::create_app(Arc::clone(&self.site)))
                .with_graceful_shutdown(ending.clone().cancelled_owned());
            servers.spawn(server.into_future());
        }
        let polling = tokio::spawn(self.poller.run(self.apps, ending.clone()));
        tokio::select! {
            () = shutdown => {}
            // Servers end by themselves only if they can't go on.
            Some(Ok(Err(error))) = servers.join_next() => return Err(Error::Web(error)),
        }
        tracing::info!("ending");
        ending.cancel();
        let end = async {
            let _ = polling.await;
            while servers.join_next().await.is_some() {}
        };
        if tokio::time::timeout(GRACE, end).await.is_err() {
            tracing::warn!("requests under way were cut off");
        }
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
