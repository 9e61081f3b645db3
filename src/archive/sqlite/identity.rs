//! Detects whether the file at a path is still the one that was opened.
//!
//! SQLite continues to write into a file that was deleted or replaced, and all of that is lost in the
//! end. Compares what the file system reports about the file and its log.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The files in use.
#[derive(Debug)]
pub(super) struct Identity {
    path: PathBuf,
    log: PathBuf,
    index: PathBuf,
    file: Option<Inode>,
    /// `None` until a log was seen.
    of_log: Option<Inode>,
    of_index: Option<Inode>,
    /// Stays open as long as the database is: closing any handle of a file drops all locks that this
    /// process holds on it, including SQLite's.
    handle: Option<File>,
    /// The greatest length of the file that was seen. A file that was never longer is not truncated: on a full disk, the
    /// header may run ahead of the length for any time, and the rest is in the log.
    longest: u64,
    /// Since when the file has been shorter than that and than its header says, and by which numbers.
    truncation: Option<(Instant, Truncation)>,
}

/// Device and number of a file.
pub(in crate::archive) type Inode = (u64, u64);

/// Length and number of pages of a file that is too short.
type Truncation = (u64, u32);

/// While another program writes its log into the file, the header runs ahead of the length.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is no longer there.
    Deleted,
    /// It is another file.
    Replaced,
    /// It is shorter than its header says.
    Truncated,
    /// Its write-ahead log is gone, or is another file.
    LogLost,
}

impl Loss {
    /// Returns its wording in a sentence.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Replaced => "replaced by another file",
            Self::Truncated => "truncated",
            Self::LogLost => "separated from its write-ahead log (-wal)",
        }
    }

    /// Returns `true` if the file in use still has its name.
    pub(super) fn leaves_the_file(self) -> bool {
        matches!(self, Self::Truncated | Self::LogLost)
    }
}

impl Identity {
    /// Remembers the file at a path, its log and the index of that.
    pub(super) fn of(path: &Path, log: PathBuf, index: PathBuf) -> Self {
        let handle = File::open(path).ok();
        Self {
            path: path.to_owned(),
            file: inode(path),
            of_log: inode(&log),
            of_index: inode(&index),
            longest: handle.as_ref().map_or(0, length),
            handle,
            truncation: None,
            log,
            index,
        }
    }

    /// Returns the handle that must stay open as long as the database is.
    pub(super) fn into_handle(self) -> Option<File> {
        self.handle
    }

    /// Returns `true` if the log beside the file, or the index of it, is the one that was opened with it.
    pub(super) fn has_log(&self) -> bool {
        let is_same = |path: &Path, known: Option<Inode>| known.is_some() && inode(path) == known;
        is_same(&self.log, self.of_log) || is_same(&self.index, self.of_index)
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
        self.of_index = inode(&self.index);
        let length = self.handle.as_ref().map_or(0, length);
        self.longest = self.longest.max(length);
        let shorter = self.handle.as_ref().filter(|_| length < self.longest);
        let truncation = shorter.and_then(|file| truncation(file, length));
        match (truncation, self.truncation) {
            (Some(found), Some((since, known))) if found == known => {
                (since.elapsed() >= CHECKPOINT).then_some(Loss::Truncated)
            }
            (found, _) => {
                self.truncation = found.map(|found| (Instant::now(), found));
                None
            }
        }
    }
}

/// Returns which file there is at a path, if any.
pub(in crate::archive) fn inode(path: &Path) -> Option<Inode> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Returns the length of a file, 0 if it is unknown.
fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Returns length and pages of a file that is shorter than its header says
/// (<https://www.sqlite.org/fileformat2.html>).
fn truncation(file: &File, length: u64) -> Option<Truncation> {
    let mut header = [0; 32];
    if file.read_exact_at(&mut header, 0).is_err() {
        return Some((length, 0));
    }
    let page_size = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65536,
        size => size,
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    (length < page_size * u64::from(pages)).then_some((length, pages))
}
