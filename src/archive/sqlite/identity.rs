//! Whether the file at a path still is the one that was opened.
//!
//! SQLite goes on writing into a file that was deleted or replaced, and all of that is gone at the
//! end. Compares what the file system says of the file and its log.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Which files are in use.
#[derive(Debug)]
pub(super) struct Identity {
    path: PathBuf,
    log: PathBuf,
    file: Option<Inode>,
    /// None as long as no log was seen.
    of_log: Option<Inode>,
}

type Inode = (u64, u64);

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is no longer there.
    Deleted,
    /// There is another one.
    Replaced,
    /// It is shorter than it says itself.
    Truncated,
    /// Its write-ahead log is gone, or another one.
    LogLost,
}

impl Loss {
    /// Returns what to call it in a sentence.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Replaced => "replaced by another file",
            Self::Truncated => "truncated",
            Self::LogLost => "separated from its write-ahead log (-wal)",
        }
    }

    /// Returns `true` if the file that was in use still has its name.
    pub(super) fn leaves_the_file(self) -> bool {
        matches!(self, Self::Truncated | Self::LogLost)
    }
}

impl Identity {
    /// Remembers the file at a path.
    pub(super) fn of(path: &Path, log: PathBuf) -> Self {
        Self {
            path: path.to_owned(),
            file: inode(path),
            of_log: inode(&log),
            log,
        }
    }

    /// Returns `true` if the log beside the file is the one that was opened with it.
    pub(super) fn has_log(&self) -> bool {
        self.of_log.is_some() && inode(&self.log) == self.of_log
    }

    /// Returns what happened to the file since it was opened, if anything did.
    pub(super) fn loss(&mut self) -> Option<Loss> {
        let file = inode(&self.path);
        if file != self.file {
            return Some(file.map_or(Loss::Deleted, |_| Loss::Replaced));
        }
        let of_log = inode(&self.log);
        if self.of_log.is_some() && of_log != self.of_log {
            return Some(Loss::LogLost);
        }
        self.of_log = of_log;
        is_truncated(&self.path).then_some(Loss::Truncated)
    }
}

fn inode(path: &Path) -> Option<Inode> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns `true` if a file is shorter than its header says (<https://www.sqlite.org/fileformat2.html>).
fn is_truncated(path: &Path) -> bool {
    let mut header = [0; 32];
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    if file.read_exact(&mut header).is_err() {
        return true;
    }
    let page_size = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65536,
        size => size,
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    let length = file.metadata().map_or(u64::MAX, |metadata| metadata.len());
    length < page_size * u64::from(pages)
}
