//! Why a command failed, in sentences for its user.

use std::io;
use std::path::PathBuf;

use crate::portrait::AppId;
use crate::{archive, config, exposition, wechat};

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The configuration is invalid; its problems were printed.
    #[error("the configuration is invalid")]
    Reported,
    /// Another program listens there, or the address is not one of this host.
    #[error("cannot listen on {address}, choose another --web.listen-address")]
    Listen {
        /// As it was given.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// A fault or an event belongs to an app that is not simulated.
    #[error("{0} is not simulated: add --app {0}")]
    NotSimulated(AppId),
    /// Flags contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The archive must not be touched, or can't be used.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// There is no archive to read.
    #[error("there is no archive {}: name its directory with --storage.path", .0.display())]
    NoArchive(PathBuf),
    /// An app has no day in the archive.
    #[error("the archive has no day of {0}: check the appid")]
    NotArchived(AppId),
    /// The output can't be written.
    #[error("cannot write {}", .0.display())]
    Output(PathBuf, #[source] io::Error),
    /// A file to import can't be read.
    #[error("cannot read {}", .0.display())]
    Input(PathBuf, #[source] io::Error),
    /// An import would leave too little space on the disk.
    #[error(
        "stopped before the disk is full: {} MiB are free in {}, and the import needs {} MiB, of which {} MiB stay \
         free; {imported}: make room, then import again",
        .free >> 20, directory.display(), .needed.div_ceil(1 << 20), super::import::RESERVE >> 20
    )]
    Full {
        /// Where the archive or the collected days are.
        directory: PathBuf,
        /// How many bytes are free there.
        free: u64,
        /// How many should be.
        needed: u64,
        /// What was imported before.
        imported: String,
    },
    /// Standard output is closed, or can't be told from that.
    #[error(
        "standard output is closed or leads nowhere, so that the export would be lost: name a file with --output"
    )]
    NoOutput,
    /// Archived answers can't be read; each was logged.
    #[error("{0} archived responses cannot be read and were left out")]
    Unreadable(usize),
    /// Files to import are invalid; each was logged.
    #[error("nothing was imported: fix these files, or leave them out")]
    Import,
    /// An operator ended it.
    #[error("interrupted before it was done")]
    Interrupted,
    /// HTTP requests can't be sent: certificates or proxy settings of the system are unusable.
    #[error(transparent)]
    Client(#[from] wechat::BuildError),
    /// The command was to check apps, and failed for some; each was printed.
    #[error("apps failed")]
    Check,
    /// No exporter that is alive responds there.
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
    /// A temporary directory can't be created.
    #[error("cannot make a temporary directory for the archive; name one with --storage.path")]
    TemporaryDirectory(#[source] io::Error),
    /// The system can't report signals.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// Serving ended with an error.
    #[error("serving failed")]
    Web(#[source] io::Error),
}
