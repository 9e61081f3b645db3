//! What the program can do: a file for each command, wiring only.

mod check;
pub mod demo;
mod export;
mod healthcheck;
mod import;
pub mod serve;
pub mod simulate;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::calendar::Clock;
use crate::cli::{Cli, Command};
use crate::portrait::AppId;
use crate::{archive, config, exposition, wechat};

/// How long requests under way may take when the program ends.
const GRACE: Duration = Duration::from_secs(3);

/// What commands take from outside besides their flags.
pub struct Outside {
    /// Tells the time.
    pub clock: Clock,
    /// Looks up a variable of the environment.
    pub environment: Environment,
    /// Ends when the program shall end.
    pub shutdown: BoxFuture<'static, ()>,
    /// Tells of every SIGHUP while it serves a configuration.
    pub hangup: Hangup,
}

/// Looks up a variable.
pub type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Tells of hangups.
pub type Hangup = mpsc::UnboundedReceiver<()>;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Another program listens there, or the address is none of this host.
    #[error("cannot listen on {address}, choose another --web.listen-address")]
    Listen {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A fault or an event is of an app that is not simulated.
    #[error("{0} is not simulated: add --app {0}")]
    NotSimulated(AppId),
    /// Flags contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The archive must not be touched, or can't be used.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// There is no archive to read.
    #[error("there is no archive {}: name its folder with --storage.path", .0.display())]
    NoArchive(PathBuf),
    /// The output can't be written.
    #[error("cannot write {}", .0.display())]
    Output(PathBuf, #[source] io::Error),
    /// A file to import can't be read.
    #[error("cannot read {}", .0.display())]
    Input(PathBuf, #[source] io::Error),
    /// A file to import is no longer what it was.
    #[error("{} was changed while it was read: import it again", .0.display())]
    Changed(PathBuf),
    /// Archived answers can't be read; each was logged.
    #[error("{0} archived answers cannot be read and were left out")]
    Unreadable(usize),
    /// Files to import are wrong; each was logged.
    #[error("nothing was imported: mend these files, or leave them out")]
    Import,
    /// Somebody ended it.
    #[error("interrupted before it was done")]
    Interrupted,
    /// HTTP can't be spoken: certificates or proxy settings of the system are unusable.
    #[error(transparent)]
    Client(#[from] wechat::BuildError),
    /// The command was to try apps, and failed for some.
    #[error("{failed} of {all} apps failed")]
    Check {
        /// How many.
        failed: usize,
        /// Of how many.
        all: usize,
    },
    /// No exporter that is alive answers there.
    #[error(
        "no healthy exporter on {address}, start it or name its --web.listen-address: {problem}"
    )]
    Unhealthy {
        /// As it was given.
        address: String,
        /// What happened instead.
        problem: String,
    },
    /// A bug.
    #[error(transparent)]
    Telemetry(#[from] exposition::telemetry::Error),
    /// A temporary folder can't be made.
    #[error("cannot make a temporary folder for the archive; name one with --storage.path")]
    TemporaryFolder(#[source] io::Error),
    /// The system does not tell of signals.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// Serving broke off.
    #[error("serving broke off")]
    Web(#[source] io::Error),
}

/// Does what the command line asks for, until it is done or `shutdown`.
///
/// # Errors
///
/// Whatever keeps the command from doing its work.
pub async fn run(cli: Cli, outside: Outside) -> Result<(), Error> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(flags) => serve::run(&flags, outside).await,
        Command::Demo(flags) => demo::run(&flags, outside).await,
        Command::Simulate(flags) => simulate::run(&flags, outside).await,
        Command::Check(flags) => check::run(&flags, outside).await,
        Command::Healthcheck(flags) => healthcheck::run(&flags, outside).await,
        Command::Export(flags) => {
            blocking(outside, move |clock, ending| {
                export::run(&flags, &clock, &ending)
            })
            .await
        }
        Command::Import(flags) => {
            blocking(outside, move |clock, ending| {
                import::run(&flags, &clock, &ending)
            })
            .await
        }
    }
}

/// Does something that waits for files, and cancels the token when it shall end early.
async fn blocking(
    outside: Outside,
    work: impl FnOnce(Clock, CancellationToken) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let ending = CancellationToken::new();
    let ended = ending.clone();
    let work = tokio::task::spawn_blocking(move || work(outside.clock, ended));
    let mut work = pin!(work);
    let result = tokio::select! {
        result = &mut work => result,
        () = outside.shutdown => {
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

/// Logs what is allowed in a configuration but looks like a mistake.
fn warn_of(config: &config::Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Writes text to standard output; a reader that has had enough is no failure.
fn say(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    let said = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Output(PathBuf::from("standard output"), error))
        }
        _ => Ok(()),
    }
}

/// Shows how far something has come, if standard error is a terminal.
fn progress(total: u64, what: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {{human_pos}}/{{human_len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Listens on `HOST:PORT`, or on all addresses with `:PORT`.
async fn listen(address: &str) -> Result<TcpListener, Error> {
    let listener = match address
        .strip_prefix(':')
        .and_then(|port| port.parse::<u16>().ok())
    {
        // Both families where the system has both.
        Some(port) => {
            match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
                }
                result => result,
            }
        }
        None => TcpListener::bind(address).await,
    };
    listener.map_err(|source| Error::Listen {
        address: address.to_owned(),
        source,
    })
}

/// Returns the address to open in a browser on this host.
fn local_url(listener: &TcpListener) -> String {
    match listener.local_addr() {
        Ok(address) if address.ip().is_unspecified() => {
            format!("http://localhost:{}", address.port())
        }
        Ok(address) => format!("http://{address}"),
        Err(_) => String::new(),
    }
}
