//! The program: arguments, log, exit code. Reads the clock and the environment for all other modules,
//! and listens to signals.

mod logging;

use std::error::Error as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wxapp_portrait_exporter::cli::{self, Command};
use wxapp_portrait_exporter::commands::{self, Error, ProcessContext};
use wxapp_portrait_exporter::wechat;

/// How long blocking tasks may take at shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// More threads for serving and polling would only use more memory.
const MOST_WORKERS: usize = 4;

/// How many threads may read files, look up names, and compress at once.
const MOST_BLOCKING: usize = 12;

fn main() -> ExitCode {
    let cli = cli::parse(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let is_service = matches!(
        cli.command,
        None | Some(Command::Serve(_) | Command::Demo(_) | Command::Simulate(_))
    );
    let log = cli.command.as_ref().map_or(cli.serve.log, Command::log);
    let _log = logging::start(log, is_service);
    wechat::install_crypto_provider();
    std::panic::set_hook(Box::new(|panic| {
        // In the format of the log; the default hook writes plain text.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, problem = panic.payload_as_str(), "panicked");
    }));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(MOST_WORKERS))
        .max_blocking_threads(MOST_BLOCKING)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    let is_serving = matches!(cli.command, None | Some(Command::Serve(_)));
    let result = runtime.block_on(async { commands::run(cli, process_context(is_serving)?).await });
    runtime.shutdown_timeout(GRACE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Reported) => ExitCode::from(2),
        Err(Error::Check) => ExitCode::FAILURE,
        Err(Error::Config(error)) => {
            for problem in error.to_string().lines() {
                tracing::error!(problem, "invalid configuration");
            }
            ExitCode::from(2)
        }
        Err(error @ (Error::NotSimulated(_) | Error::Usage(_))) => {
            tracing::error!(problem = %error, "invalid flags");
            ExitCode::from(2)
        }
        Err(error) => {
            let source = error
                .source()
                .map_or(String::new(), |source| format!(": {source}"));
            tracing::error!(problem = format!("{error}{source}"), "failed");
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the clock and the environment are read"
)]
fn process_context(is_serving: bool) -> Result<ProcessContext, Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let (hung_up, hangup) = mpsc::unbounded_channel();
    // Everything else ends when its terminal is closed.
    if is_serving {
        let mut signals = signal(SignalKind::hangup()).map_err(Error::Signals)?;
        tokio::spawn(
            async move { while signals.recv().await.is_some() && hung_up.send(()).is_ok() {} },
        );
    }
    Ok(ProcessContext {
        clock: Arc::new(chrono::Utc::now),
        environment: Box::new(|name| std::env::var(name).ok()),
        shutdown: Box::pin(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }),
        hangup,
    })
}
