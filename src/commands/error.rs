//! Why a command failed, in words for whoever called it.

use std::io;
use std::path::PathBuf;

use crate::portrait::AppId;
use crate::{archive, config, exposition, wechat};

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
