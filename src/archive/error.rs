//! Why the archive could not do something, by what a caller does next, in sentences for operators.

use std::fmt;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::portrait::string_enum;

string_enum! {
    /// What the archive was doing when it failed, as a label value.
    Operation, "operation" {
        /// Opening the file, and checking it.
        Open = "open",
        /// Reading responses.
        Read = "read",
        /// Writing a response.
        Write = "write",
        /// Deleting days beyond the retention.
        Delete = "delete",
        /// Connecting to the database.
        Connect = "connect",
        /// Dividing the apps between the exporters of a database.
        Share = "share",
    }
}

impl Operation {
    /// Returns what can't be done, as in sentences.
    fn verb(self) -> &'static str {
        match self {
            Self::Connect => "connect to",
            operation => operation.as_str(),
        }
    }
}

/// Where an archive is, as it is named in sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// A database of PostgreSQL: its name and its server, without user and password.
    Database(String),
}

impl Place {
    /// Returns what may be wrong with an archive that takes too long.
    #[must_use]
    pub fn check(&self) -> &'static str {
        match self {
            Self::File(_) => "check the disk",
            Self::Database(_) => "check the database and the network",
        }
    }

    /// Returns what to do to use another archive.
    fn alternative(&self) -> &'static str {
        match self {
            Self::File(_) => "use another --storage.path",
            Self::Database(_) => "name another database in the URL of `archive`",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Database(name) => formatter.write_str(name),
        }
    }
}

/// Why the archive could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The file was damaged. It was moved to another name, and a new one is started.
    #[error(
        "the archive {} was damaged; it is kept as {}, and what can be read of it is copied into a new file",
        path.display(), moved_to.display()
    )]
    Damaged {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        moved_to: PathBuf,
    },
    /// An operator or a program removed or replaced the file while it was in use.
    #[error(
        "the archive {} was {what} while it was in use; what the exporter still has of it is copied into the file at its place, a new one if there is none",
        path.display()
    )]
    Replaced {
        /// Where it was.
        path: PathBuf,
        /// What happened to it.
        what: &'static str,
    },
    /// Another exporter owns this archive.
    #[error(
        "another exporter uses the archive in {}: stop it, or use another --storage.path", directory.display()
    )]
    InUse {
        /// The directory of the archive.
        directory: PathBuf,
    },
    /// A newer version of the program wrote it.
    #[error(
        "the archive {place} was written by a newer version of this program (schema {found}, this one knows {known}): \
         use that version, or {}", place.alternative()
    )]
    Newer {
        /// Where it is.
        place: Place,
        /// Its schema.
        found: i64,
        /// The schema that this version writes.
        known: i64,
    },
    /// No version of the program writes such an archive.
    #[error(
        "the archive {place} has the schema {found}, which no version of this program writes: restore a backup, \
         or {}", place.alternative()
    )]
    UnknownSchema {
        /// Where it is.
        place: Place,
        /// Its schema.
        found: i64,
    },
    /// It belongs to another program.
    #[error("{place} is a database of another program: move it away, or {}", place.alternative())]
    Foreign {
        /// Where it is.
        place: Place,
    },
    /// The days of an import can't be collected before they are stored.
    #[error("cannot collect the days to import in {}: {problem}", directory.display())]
    Staging {
        /// Where they are collected.
        directory: PathBuf,
        /// A sentence for the operator.
        problem: String,
    },
    /// The program is shutting down.
    #[error("the archive is closed")]
    Closed,
    /// Anything else.
    #[error("cannot {} the archive {place}: {problem}", operation.verb())]
    Failed {
        /// Where it is.
        place: Place,
        /// What could not be done.
        operation: Operation,
        /// A sentence for the operator.
        problem: String,
    },
}

impl Error {
    /// Returns the operation that this is counted under.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::Failed { operation, .. } => *operation,
            _ => Operation::Open,
        }
    }

    /// Returns `true` if an operator has to decide about the file before an exporter may start.
    #[must_use]
    pub fn prevents_start(&self) -> bool {
        matches!(
            self,
            Self::InUse { .. }
                | Self::Newer { .. }
                | Self::UnknownSchema { .. }
                | Self::Foreign { .. }
        )
    }
}

/// Describes SQLite's code for the operator.
pub(super) fn describe(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it locked; if that lasts, end that program".to_owned()
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it is read-only; make file and directory writable for this user".to_owned()
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room".to_owned(),
        Some(ErrorCode::CannotOpen) => {
            "check that its directory exists and is writable for this user".to_owned()
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged; restore a backup, or start the exporter, which copies what can be read into a new file"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// Returns `true` if the file is damaged, and not merely inaccessible.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}
