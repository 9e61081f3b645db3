//! `serve`: polls WeChat for the configured apps and serves their portraits.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Error, GRACE, Hangup, ProcessContext, archive, listen, log_warnings, print_stderr,
    print_stdout, without_blocking,
};
use crate::archive::Archive;
use crate::calendar::{self, Clock};
use crate::cli;
use crate::config::{self, Config, MissingHolidays, Postgres};
use crate::exposition::telemetry::Telemetry;
use crate::poll::{self, Changes, Context, Supervisor};
use crate::shard::Shard;
use crate::web::{self, AppState, Connections, Guard, Reload, most_connections};
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
    let shard = flags.shards.shard().map_err(Error::Usage)?;
    let file = flags.config.path.clone();
    let load = Arc::new(move || config::load(&file, &environment));
    let mut shutdown = pin!(shutdown);
    let start = async {
        let (config, web_warnings) = without_blocking({
            let load = Arc::clone(&load);
            let web_config_file = flags.web.web_config_file.clone();
            move || {
                let web_warnings = web_config_file.as_deref().map(web::check_web_config);
                (load(), web_warnings.unwrap_or(Ok(Vec::new())))
            }
        })
        .await;
        if flags.config_check {
            let today = calendar::today(clock());
            let checked = check_config(&flags.config.path, config, web_warnings, shard, today);
            return checked.map(|()| None);
        }
        let config = match (config, web_warnings) {
            (Ok(config), Ok(_)) => config,
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error.into()),
            (Err(one), Err(other)) => return Err(one.and(other).into()),
        };
        log_warnings(&config);
        let exporter = Exporter::start(config, shard, &flags.storage_path, &flags.web, clock);
        exporter.await.map(Some)
    };
    let exporter = tokio::select! {
        exporter = start => exporter?,
        () = &mut shutdown => return Ok(()),
    };
    match exporter {
        Some(exporter) => exporter.run(load, hangup, shutdown).await,
        None => Ok(()),
    }
}

/// Logs which apps have tokens that exporters of one archive revoke from each other.
fn warn_of_legacy_tokens(context: &Context, apps: &[config::App]) {
    if context.archive.sharing().is_none() {
        return;
    }
    for config::App { appid, name, .. } in apps.iter().filter(|app| app.access.is_legacy()) {
        tracing::warn!(
            %appid,
            app = name,
            hint = "exporters that share the archive revoke each other's tokens when they take the app over: \
                    use stable_token, which is the default",
            "token_endpoint: token"
        );
    }
}

/// Prints what is wrong with the configurations, of all shards, or that nothing is.
fn check_config(
    path: &Path,
    config: Result<Config, config::Error>,
    web_warnings: Result<Vec<String>, config::Error>,
    shard: Shard,
    today: NaiveDate,
) -> Result<(), Error> {
    let mut lines = Vec::new();
    let mut apps = None;
    match config {
        Ok(config) => {
            lines.extend(config.warnings);
            if let Some(missing) = MissingHolidays::of(&config.apps, today) {
                lines.push(format!("{}: {missing}", path.display()));
            }
            if config.app_problems.is_empty() {
                apps = Some(config.apps);
            }
            lines.extend(config.app_problems);
        }
        Err(error) => lines.push(error.to_string()),
    }
    match web_warnings {
        Ok(warnings) => lines.extend(warnings),
        Err(error) => {
            lines.push(error.to_string());
            apps = None;
        }
    }
    print_stderr(&lines.join("\n"));
    let apps = apps.ok_or(Error::Reported)?;
    let mut text = format!("{}: valid, apps: {}", path.display(), apps.len());
    let (ordinal, total) = (shard.ordinal(), shard.total());
    if total > 1 {
        let apps = of_shard(shard, apps).len();
        let _ = write!(text, ", of which {apps} are of shard {ordinal} of {total}");
    }
    print_stdout(&(text + "\n"))
}

/// Returns the apps of a shard.
fn of_shard(shard: Shard, mut apps: Vec<config::App>) -> Vec<config::App> {
    apps.retain(|app| shard.owns(&app.appid));
    apps
}

/// Everything that is needed to serve, assembled and listening.
pub(super) struct Exporter {
    pub(super) listeners: Vec<TcpListener>,
    connections: Arc<Connections>,
    /// As they were when the context of the apps was created.
    settings: Settings,
    /// The database of the archive, if it is one of PostgreSQL; it stays the same until the end.
    postgres: Option<Postgres>,
    shard: Shard,
    /// Those of the shard.
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
                secret_variables: config.secret_variables.clone(),
            },
            poll: poll::Settings {
                interval: config.poll.interval,
                quiet_interval: poll::due::QUIET_INTERVAL,
                stale_after: config.stale_after,
                retention: config.archive.retention,
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
        shard: Shard,
        storage_path: &Path,
        web: &cli::Web,
        clock: Clock,
    ) -> Result<Self, Error> {
        let telemetry = Arc::new(Telemetry::new(shard)?);
        telemetry.reloaded(clock());
        let archive = without_blocking({
            let telemetry = Arc::clone(&telemetry);
            let store = archive::of_owner(storage_path, &config, Arc::clone(&clock))?;
            move || {
                let failed = move |operation| telemetry.archive_failure(operation);
                Archive::open(store, failed).map_err(Error::from)
            }
        })
        .await?;
        if archive.size().is_none() {
            telemetry.without_archive_size()?;
        }
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
        let guard = match web.web_config_file.clone() {
            None => None,
            Some(path) => {
                let telemetry = Arc::clone(&context.telemetry);
                let open = move || Guard::open(&path, move || telemetry.web_config_failed());
                Some(Arc::new(without_blocking(open).await?))
            }
        };
        // Last, so that clients are answered soon after they connect.
        let mut listeners = Vec::new();
        for address in &web.listen_address {
            listeners.push(listen(address).await?);
        }
        let (reload, reloads) = mpsc::unbounded_channel();
        let state = AppState::new(&context, web.paths(), shard, guard, reload);
        state.set_config(&config.redacted());
        let configured = config.apps.len();
        let apps = of_shard(shard, config.apps);
        warn_of_legacy_tokens(&context, &apps);
        let total = Some(shard.total()).filter(|total| *total > 1);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            revision = env!("BUILD_REVISION"),
            apps = apps.len(),
            shard = total.map(|_| shard.ordinal()),
            total_shards = total,
            archive = %context.archive.place(),
            "starting"
        );
        if apps.is_empty() {
            tracing::warn!(
                configured,
                "none of the configured apps belongs to this shard"
            );
        }
        let connections = most_connections(web.max_connections, config.poll.concurrency);
        if connections < web.max_connections {
            tracing::warn!(
                connections,
                configured = web.max_connections,
                hint = "raise the limit on open files (ulimit -n)",
                "fewer connections than --web.max-connections"
            );
        }
        Ok(Self {
            listeners,
            connections: Arc::new(Connections::new(connections)),
            settings,
            postgres: config.archive.postgres,
            shard,
            apps,
            context,
            state: Arc::new(state),
            reloads,
        })
    }

    /// Polls and serves until `shutdown`, then ends what is in flight; `load` reads the configuration
    /// again when a reload is requested.
    pub(super) async fn run(
        mut self,
        load: Arc<impl Fn() -> Result<Config, config::Error> + Send + Sync + 'static>,
        mut hangup: Hangup,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let loader = Loader::new(load, LOAD_TIMEOUT);
        let ending = CancellationToken::new();
        let mut servers = JoinSet::new();
        // The page lists every app from the first moment.
        let mut supervisor =
            Supervisor::start(self.context.clone(), std::mem::take(&mut self.apps));
        for listener in std::mem::take(&mut self.listeners) {
            if let Ok(address) = listener.local_addr() {
                match &self.state.guard {
                    Some(guard) if guard.is_tls() => {
                        tracing::info!(%address, tls = true, "listening");
                    }
                    _ => tracing::info!(%address, "listening"),
                }
            }
            let app = web::create_app(Arc::clone(&self.state));
            let connections = Arc::clone(&self.connections);
            let guard = self.state.guard.clone();
            servers.spawn(web::serve(
                listener,
                app,
                guard,
                connections,
                ending.clone(),
            ));
        }
        let mut shutdown = pin!(shutdown);
        let mut waiting: Vec<Reload> = Vec::new();
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                // Servers end by themselves only if they panic.
                Some(ended) = servers.join_next() => {
                    outcome = ended.map_err(|panic| Error::Web(io::Error::other(panic)));
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
                result = self.reload(&mut supervisor, &loader) => {
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
    async fn reload<L>(
        &mut self,
        supervisor: &mut Supervisor,
        loader: &Loader<L>,
    ) -> Result<(), String>
    where
        L: Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
    {
        let result = match loader.load().await {
            Ok(config) => self.apply(supervisor, config).await,
            Err(problem) => Err(problem),
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

    /// Warns if the archive should be another one, for which this one would have to be closed.
    fn warn_of_other_archive(&self, configured: Option<&Postgres>) {
        let database = |postgres: &Postgres| postgres.database.clone();
        let used = self.postgres.as_ref();
        if configured.map(database) != used.map(database)
            && let Some(postgres) = configured.or(used)
        {
            let key = postgres.source.key();
            tracing::warn!("{key} changed: restart the exporter to use it");
        }
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
        self.warn_of_other_archive(config.archive.postgres.as_ref());
        self.state.set_config(&config.redacted());
        // An exporter that was ready stays ready.
        let _ = self.context.registry.is_ready();
        let context = is_other.then(|| self.context.clone());
        let apps = of_shard(self.shard, config.apps);
        warn_of_legacy_tokens(&self.context, &apps);
        let changes = supervisor.apply_config(context, apps).await;
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

/// How long reading the configuration again may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How many reads that took longer may still be under way: each occupies a thread.
const MOST_HANGING: usize = 3;

/// Reads the configuration again, which may hang on a disk or a share that does not answer.
struct Loader<L> {
    load: Arc<L>,
    timeout: Duration,
    permits: Arc<Semaphore>,
}

impl<L> Loader<L>
where
    L: Fn() -> Result<Config, config::Error> + Send + Sync + 'static,
{
    fn new(load: Arc<L>, timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(MOST_HANGING));
        Self {
            load,
            timeout,
            permits,
        }
    }

    async fn load(&self) -> Result<Config, String> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Err(format!(
                "{MOST_HANGING} earlier reloads still wait for a file of the configuration: restart the exporter"
            ));
        };
        let load = Arc::clone(&self.load);
        let loading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            load()
        });
        match tokio::time::timeout(self.timeout, loading).await {
            Ok(Ok(config)) => config.map_err(|error| error.to_string()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!(
                "reading the configuration took longer than {:?}: check the disks and shares that its files are on",
                self.timeout
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_read_that_hangs_fails_and_the_next_one_works() {
        let (release, hang) = channel::<()>();
        let hang = Mutex::new(Some(hang));
        let load = move || {
            let hang = hang.lock().unwrap().take();
            hang.map(|hang| hang.recv());
            config::load(Path::new("gone.yml"), |_| None)
        };
        let loader = Loader::new(Arc::new(load), Duration::from_secs(2));
        let problem = async || loader.load().await.err().unwrap();
        assert_eq!(
            problem().await,
            "reading the configuration took longer than 2s: check the disks and shares that its files are on"
        );
        let next = problem().await;
        assert!(next.contains("gone.yml: cannot read it"), "{next}");
        drop(release);
    }

    #[tokio::test]
    async fn reads_that_hang_do_not_use_up_the_threads() {
        let (release, hang) = channel::<()>();
        let hang = Mutex::new(hang);
        let load = move || {
            let _ = hang.lock().unwrap().recv();
            config::load(Path::new("gone.yml"), |_| None)
        };
        let loader = Loader::new(Arc::new(load), Duration::from_millis(20));
        let problem = async || loader.load().await.err().unwrap();
        for _ in 0..MOST_HANGING {
            let hanging = problem().await;
            assert!(hanging.contains("took longer"), "{hanging}");
        }
        let refused = problem().await;
        assert!(refused.contains("earlier reloads still wait"), "{refused}");
        drop(release);
    }
}
