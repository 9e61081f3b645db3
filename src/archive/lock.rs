//! The lock that one exporter holds on a directory.
//!
//! It is a file of its own, beside the archive. Whoever empties the directory removes it, too; then
//! the exporter makes and locks another one before it uses the archive again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::Error;

/// The name of the file.
const NAME: &str = "portraits.db.lock";

/// The lock of a directory, as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// `None` where the directory can't have one, as it is read-only or on a network.
    file: Option<File>,
}

impl Lock {
    /// Locks a directory against other exporters.
    ///
    /// # Errors
    ///
    /// Another exporter holds the lock.
    pub(super) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(NAME);
        let file = try_lock(&path)?;
        if file.is_none() {
            tracing::warn!(file = %path.display(), "cannot lock the archive against another exporter");
        }
        Ok(Self { path, file })
    }

    /// Locks the file that is there now, if it is another one.
    ///
    /// # Errors
    ///
    /// Another exporter was faster.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        let is_held = self.file.as_ref().is_some_and(|file| {
            match (fs::metadata(&self.path), file.metadata()) {
                (Ok(there), Ok(held)) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
                (Err(error), _) => error.kind() != io::ErrorKind::NotFound,
                // Nothing is known about it now.
                (Ok(_), Err(_)) => true,
            }
        });
        if !is_held && let Some(file) = try_lock(&self.path)? {
            self.file = Some(file);
        }
        Ok(())
    }
}

/// Returns the locked file; `None` if the file system cannot lock it.
fn try_lock(path: &Path) -> Result<Option<File>, Error> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let open = || -> io::Result<File> {
        fs::create_dir_all(directory)?;
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
    };
    // A problem of the directory is reported when the archive is opened.
    let Ok(file) = open() else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::InUse {
            directory: directory.to_owned(),
        }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}
