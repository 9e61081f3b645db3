//! Runs the command that the command line asks for.

use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Environment, Error, ProcessContext};
use crate::calendar::Clock;
use crate::cli::{self, Cli, Command};
use crate::config::{self, Config};

/// How long requests in flight may take when the program shuts down.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Runs the requested command, until it is done or `shutdown`.
///
/// # Errors
///
/// Whatever prevents the command from succeeding.
pub async fn run(cli: Cli, context: ProcessContext) -> Result<(), Error> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(flags) => super::serve::run(&flags, context).await,
        Command::Demo(flags) => super::demo::run(&flags, context).await,
        Command::Simulate(flags) => super::simulate::run(&flags, context).await,
        Command::Check(flags) => super::check::run(&flags, context).await,
        Command::Healthcheck(flags) => super::healthcheck::run(&flags, context).await,
        Command::Export(flags) => {
            blocking(context, move |clock, environment, ending| {
                let config = optional_config(flags.config.as_deref(), &environment)?;
                super::export::run(&flags, config.as_ref(), &clock, &ending)
            })
            .await
        }
        Command::Import(flags) => {
            blocking(context, move |clock, environment, ending| {
                let config = optional_config(flags.config.as_deref(), &environment)?;
                super::import::run(&flags, config.as_ref(), &clock, &ending)
            })
            .await
        }
    }
}

/// Reads the configuration of a command that works without one, too; warns if there is one that names another
/// archive.
fn optional_config(
    path: Option<&Path>,
    environment: &Environment,
) -> Result<Option<Config>, config::Error> {
    if let Some(path) = path {
        return config::load(path, environment).map(Some);
    }
    if let Ok(config) = config::load(Path::new(cli::DEFAULT_CONFIG), environment)
        && let Some(postgres) = config.archive.postgres
    {
        tracing::warn!(
            "{} has {}, and this command uses the file in --storage.path: add --config.file={0} to use the database",
            cli::DEFAULT_CONFIG,
            postgres.source.key()
        );
    }
    Ok(None)
}

/// Runs what may wait for a disk or a share, so that signals are handled meanwhile.
pub(super) async fn without_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let result = tokio::task::spawn_blocking(work).await;
    result.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Runs a blocking function, and cancels the token when it should end early.
async fn blocking(
    context: ProcessContext,
    work: impl FnOnce(Clock, Environment, CancellationToken) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let ending = CancellationToken::new();
    let ended = ending.clone();
    let work = tokio::task::spawn_blocking(move || work(context.clock, context.environment, ended));
    let mut work = pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = context.shutdown => {
            ending.cancel();
            // It may wait for a reader that does not read.
            match tokio::time::timeout(GRACE, work).await {
                Ok(result) => result,
                Err(_) => return Err(Error::Interrupted),
            }
        }
    };
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
