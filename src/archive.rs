//! The archive: one SQLite file, a row per app, window and reference date.
//!
//! WeChat forgets a day after two; what is written here is the only record that remains. Answers
//! are kept as WeChat sent them, so that `sqlite3` can query them and a later version can read
//! them better. Compares nothing and decides nothing: that is for `poll`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};

use crate::calendar::Clock;
use crate::portrait::{AppId, Window, spelled};

/// The name of the file in the folder of `--storage.path`.
const FILE_NAME: &str = "portraits.db";

/// Marks a SQLite file as ours: "wxpt".
const APPLICATION_ID: i64 = 0x7778_7074;

/// The schema that this version writes, in `user_version`.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE answers (
    appid TEXT NOT NULL,
    window TEXT NOT NULL,               -- 1d, 7d, 30d
    reference_date TEXT NOT NULL,       -- the last Beijing day covered, yyyy-mm-dd
    answer TEXT NOT NULL,               -- JSON as WeChat sent it
    first_answered_at INTEGER NOT NULL, -- Unix seconds; when the day became known
    answered_at INTEGER NOT NULL,       -- Unix seconds; the last answer, with these figures
    settled INTEGER NOT NULL,           -- 1 if the last two answers agree
    revisions INTEGER NOT NULL,         -- how often the figures changed
    PRIMARY KEY (appid, window, reference_date)
) STRICT;
";

/// How long to wait for another program that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

spelled! {
    /// What the archive was doing when it failed, as a label value.
    Operation, "operation" {
        /// Opening the file, and checking it.
        Open = "open",
        /// Reading answers.
        Read = "read",
        /// Writing an answer.
        Write = "write",
        /// Deleting days beyond the retention.
        Delete = "delete",
    }
}

/// Why the archive could not do it. Nothing that was stored is lost.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file was damaged. It stands aside under another name, a new one is begun.
    #[error(
        "the archive {} was damaged; it is kept as {} (`sqlite3 FILE .recover` may read it), and a new one is begun",
        path.display(), moved_to.display()
    )]
    Damaged {
        /// Where it was.
        path: PathBuf,
        /// Where it is now.
        moved_to: PathBuf,
    },
    /// A newer version of the program wrote the file.
    #[error(
        "the archive {} was written by a newer version of this program (schema {found}, this one knows {SCHEMA_VERSION}): \
         use that version, or another --storage.path", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// Anything else, in words.
    #[error("cannot {operation} the archive {}: {}", path.display(), words(source))]
    Failed {
        /// The file.
        path: PathBuf,
        /// What could not be done.
        operation: Operation,
        /// What SQLite or the system said.
        source: rusqlite::Error,
    },
}

impl Error {
    /// Returns under what this is counted.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::Damaged { .. } | Self::Newer { .. } => Operation::Open,
            Self::Failed { operation, .. } => *operation,
        }
    }
}

/// Says what SQLite's code means for the operator.
fn words(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it locked; it is tried again".to_owned()
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it is read-only; make file and folder writable for this user".to_owned()
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room".to_owned(),
        Some(ErrorCode::CannotOpen) => {
            "it cannot be opened; check that the folder exists and is writable".to_owned()
        }
        _ => error.to_string(),
    }
}

/// One answer and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Whose users.
    pub appid: AppId,
    /// Over which window.
    pub window: Window,
    /// The last Beijing day covered.
    pub reference_date: NaiveDate,
    /// JSON as WeChat sent it.
    pub answer: String,
    /// When the day became known.
    pub first_answered_at: DateTime<Utc>,
    /// When these figures last arrived.
    pub answered_at: DateTime<Utc>,
    /// Whether the last two answers agree.
    pub settled: bool,
    /// How often the figures changed.
    pub revisions: u32,
}

/// The file, opened when it is first needed and again after it failed.
pub struct Archive {
    path: PathBuf,
    clock: Clock,
    connection: Mutex<Option<Connection>>,
    problem: Mutex<Option<(Operation, String)>>,
}

impl Archive {
    /// Names the archive in a folder; touches nothing yet. The clock names what is set aside.
    #[must_use]
    pub fn new(folder: &Path, clock: Clock) -> Self {
        Self {
            path: folder.join(FILE_NAME),
            clock,
            connection: Mutex::new(None),
            problem: Mutex::new(None),
        }
    }

    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, creates it if there is none, and checks that all of it can be read.
    ///
    /// # Errors
    ///
    /// As every method: in words for the operator. It may be called again.
    pub fn open(&self) -> Result<(), Error> {
        self.with(Operation::Open, |_| Ok(()))
    }

    /// Stores answers, all or none, durably; the same day again replaces what was stored.
    ///
    /// # Errors
    ///
    /// None of them is stored then, and what was stored before is unchanged.
    pub fn put(&self, entries: &[Entry]) -> Result<(), Error> {
        self.with(Operation::Write, |connection| {
            let transaction = connection.transaction()?;
            for entry in entries {
                transaction
                    .prepare_cached(
                        "INSERT INTO answers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                         ON CONFLICT DO UPDATE SET answer = excluded.answer, answered_at = excluded.answered_at,
                             settled = excluded.settled, revisions = excluded.revisions",
                    )?
                    .execute(params![
                        entry.appid.as_str(),
                        entry.window.as_str(),
                        entry.reference_date.to_string(),
                        entry.answer,
                        entry.first_answered_at.timestamp(),
                        entry.answered_at.timestamp(),
                        entry.settled,
                        entry.revisions,
                    ])?;
            }
            transaction.commit()
        })
    }

    /// Returns the newest entries of an app and window, the newest first.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn newest(&self, appid: &AppId, window: Window, limit: u32) -> Result<Vec<Entry>, Error> {
        self.with(Operation::Read, |connection| {
            connection
                .prepare_cached(
                    "SELECT reference_date, answer, first_answered_at, answered_at, settled, revisions FROM answers
                     WHERE appid = ?1 AND window = ?2 ORDER BY reference_date DESC LIMIT ?3",
                )?
                .query_map(params![appid.as_str(), window.as_str(), limit], |row| {
                    Ok(Entry {
                        appid: appid.clone(),
                        window,
                        reference_date: column(row, 0, |text: String| text.parse().ok())?,
                        answer: row.get(1)?,
                        first_answered_at: column(row, 2, |seconds| DateTime::from_timestamp(seconds, 0))?,
                        answered_at: column(row, 3, |seconds| DateTime::from_timestamp(seconds, 0))?,
                        settled: row.get(4)?,
                        revisions: row.get(5)?,
                    })
                })?
                .collect()
        })
    }

    /// Returns how many days of an app and window are stored.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn days(&self, appid: &AppId, window: Window) -> Result<u32, Error> {
        self.with(Operation::Read, |connection| {
            connection
                .prepare_cached("SELECT count(*) FROM answers WHERE appid = ?1 AND window = ?2")?
                .query_row(params![appid.as_str(), window.as_str()], |row| row.get(0))
        })
    }

    /// Deletes all days before `day` and gives their space back; answers how many rows went.
    ///
    /// # Errors
    ///
    /// They can't be deleted now.
    pub fn delete_before(&self, day: NaiveDate) -> Result<usize, Error> {
        self.with(Operation::Delete, |connection| {
            let rows = connection.execute(
                "DELETE FROM answers WHERE reference_date < ?1",
                [day.to_string()],
            )?;
            connection.execute_batch("PRAGMA incremental_vacuum")?;
            Ok(rows)
        })
    }

    /// Returns the size of the file and its log, in bytes; 0 for what is not there.
    #[must_use]
    pub fn size(&self) -> u64 {
        let len = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        len(self.path.clone()) + len(self.companion("-wal"))
    }

    fn companion(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }

    /// Returns what is wrong with the archive, for people; none while all goes well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .map(|(_, problem)| problem.clone())
    }

    /// Does something with the open file; opens it if it is not. Remembers what went wrong.
    fn with<T>(
        &self,
        operation: Operation,
        action: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let result = self.attempt(operation, action);
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = &result {
            *problem = Some((error.operation(), error.to_string()));
        } else {
            let is_over = |(failed, _): &mut (Operation, String)| {
                *failed == operation || *failed == Operation::Open
            };
            problem.take_if(is_over);
        }
        result
    }

    fn attempt<T>(
        &self,
        operation: Operation,
        action: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let result = match &mut *connection {
            Some(open) => action(open),
            none => action(none.insert(self.connect()?)),
        };
        result.map_err(|source| {
            // After any other error the file is looked at again before it is used again.
            if !matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull)
            ) {
                *connection = None;
            }
            self.failed(operation, source)
        })
    }

    fn failed(&self, operation: Operation, source: rusqlite::Error) -> Error {
        Error::Failed {
            path: self.path.clone(),
            operation,
            source,
        }
    }

    fn connect(&self) -> Result<Connection, Error> {
        let opened = std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("")))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
            .and_then(|()| Connection::open(&self.path))
            .and_then(|mut connection| Ok((prepare(&mut connection)?, connection)));
        match opened {
            Ok((SCHEMA_VERSION, connection)) => Ok(connection),
            Ok((found, _)) => Err(Error::Newer {
                path: self.path.clone(),
                found,
            }),
            Err(source) => match source.sqlite_error_code() {
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Err(self.set_aside(source))
                }
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => self
                    .connect_read_only()
                    .ok_or_else(|| self.failed(Operation::Open, source)),
                _ => Err(self.failed(Operation::Open, source)),
            },
        }
    }

    /// Opens a file that can't be written, where that is possible without its log.
    fn connect_read_only(&self) -> Option<Connection> {
        let has_log = std::fs::metadata(self.companion("-wal")).is_ok_and(|log| log.len() > 0);
        if has_log || !self.path.is_file() {
            return None;
        }
        let path = self
            .path
            .to_str()?
            .replace('%', "%25")
            .replace('?', "%3f")
            .replace('#', "%23");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        let connection =
            Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).ok()?;
        (schema_version(&connection).ok()? == SCHEMA_VERSION).then_some(connection)
    }

    /// Gives a damaged file another name, and so makes place for a new one.
    fn set_aside(&self, source: rusqlite::Error) -> Error {
        let suffix = (self.clock)()
            .format(".damaged-%Y%m%dT%H%M%S%.3fZ")
            .to_string();
        let moved_to = self.companion(&suffix);
        for companion in ["-wal", "-shm"] {
            let mut target = OsString::from(&moved_to);
            target.push(companion);
            // There may be none; and without its database it would be of no use.
            let _ = std::fs::rename(self.companion(companion), target);
        }
        match std::fs::rename(&self.path, &moved_to) {
            Ok(()) => Error::Damaged {
                path: self.path.clone(),
                moved_to,
            },
            Err(_) => self.failed(Operation::Open, source),
        }
    }
}

/// Checks a file that was just opened and makes a new one ready; answers its schema's version.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))?;
    if found != "ok" {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, Some(found)));
    }
    let version = schema_version(connection)?;
    if version > SCHEMA_VERSION {
        return Ok(version);
    }
    if version == 0 {
        // Both must be set before the first table.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;")?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
    }
    Ok(SCHEMA_VERSION)
}

fn schema_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Reads a column whose type SQLite does not have.
fn column<F: rusqlite::types::FromSql, T>(
    row: &Row<'_>,
    index: usize,
    read: impl FnOnce(F) -> Option<T>,
) -> rusqlite::Result<T> {
    read(row.get(index)?).ok_or_else(|| {
        rusqlite::Error::InvalidColumnType(
            index,
            "out of range".to_owned(),
            rusqlite::types::Type::Text,
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-11-22T02:00:00Z".parse().unwrap()
    }

    fn archive(folder: &Path) -> Archive {
        Archive::new(folder, Arc::new(now))
    }

    fn entry(day: &str) -> Entry {
        Entry {
            appid: "wx0123456789abcdef".parse().unwrap(),
            window: Window::OneDay,
            reference_date: day.parse().unwrap(),
            answer: format!("{{\"ref_date\":\"{day}\"}}"),
            first_answered_at: now(),
            answered_at: now(),
            settled: false,
            revisions: 0,
        }
    }

    fn newest(archive: &Archive) -> Vec<Entry> {
        archive
            .newest(&entry("2026-11-21").appid, Window::OneDay, 10)
            .unwrap()
    }

    #[test]
    fn entries_come_back_newest_first_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path())
            .put(&[entry("2026-11-20"), entry("2026-11-21")])
            .unwrap();
        let archive = archive(folder.path());
        assert_eq!(newest(&archive), [entry("2026-11-21"), entry("2026-11-20")]);
        assert_eq!(
            archive
                .days(&entry("2026-11-21").appid, Window::OneDay)
                .unwrap(),
            2
        );
        assert_eq!(
            archive
                .days(&entry("2026-11-21").appid, Window::SevenDays)
                .unwrap(),
            0
        );
        assert!(archive.size() > 0);
    }

    #[test]
    fn a_revision_replaces_the_figures_but_not_when_the_day_became_known() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive.put(&[entry("2026-11-21")]).unwrap();
        let later = now() + chrono::TimeDelta::hours(1);
        let revised = Entry {
            answer: "{}".to_owned(),
            first_answered_at: later,
            answered_at: later,
            revisions: 1,
            ..entry("2026-11-21")
        };
        archive.put(std::slice::from_ref(&revised)).unwrap();
        assert_eq!(
            newest(&archive),
            [Entry {
                first_answered_at: now(),
                ..revised
            }]
        );
    }

    #[test]
    fn days_beyond_the_retention_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive
            .put(&[
                entry("2026-11-19"),
                entry("2026-11-20"),
                entry("2026-11-21"),
            ])
            .unwrap();
        assert_eq!(
            archive
                .delete_before("2026-11-21".parse().unwrap())
                .unwrap(),
            2
        );
        assert_eq!(newest(&archive), [entry("2026-11-21")]);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path()).put(&[entry("2026-11-20")]).unwrap();
        let path = folder.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in &mut bytes[2048..] {
            *byte = 0xa5;
        }
        std::fs::write(&path, &bytes).unwrap();

        let archive = archive(folder.path());
        let Err(Error::Damaged { moved_to, .. }) = archive.open() else {
            panic!("damage unnoticed")
        };
        assert_eq!(std::fs::read(moved_to).unwrap(), bytes, "nothing is lost");
        archive.put(&[entry("2026-11-21")]).unwrap();
        assert_eq!(newest(&archive), [entry("2026-11-21")]);
    }

    #[test]
    fn what_is_no_database_is_set_aside_too() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join(FILE_NAME),
            "these are not the bytes you are looking for",
        )
        .unwrap();
        let archive = archive(folder.path());
        assert!(matches!(archive.open(), Err(Error::Damaged { .. })));
        archive.open().unwrap();
    }

    #[test]
    fn a_locked_file_is_reported_and_used_again_when_free() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive.put(&[entry("2026-11-20")]).unwrap();
        let other = Connection::open(archive.path()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = archive.put(&[entry("2026-11-21")]).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("another program holds it locked"),
            "{error}"
        );
        assert_eq!(error.operation(), Operation::Write);
        assert_eq!(newest(&archive), [entry("2026-11-20")], "readers go on");
        other.execute_batch("ROLLBACK").unwrap();
        archive.put(&[entry("2026-11-21")]).unwrap();
    }

    #[test]
    fn a_full_disk_is_reported_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive.put(&[entry("2026-11-20")]).unwrap();
        archive
            .with(Operation::Open, |connection| {
                connection.execute_batch("PRAGMA max_page_count = 1")
            })
            .unwrap();
        let large = Entry {
            answer: "x".repeat(100_000),
            ..entry("2026-11-21")
        };
        let error = archive.put(&[entry("2026-11-22"), large]).unwrap_err();
        assert!(error.to_string().contains("the disk is full"), "{error}");
        assert_eq!(newest(&archive), [entry("2026-11-20")], "all or none");
    }

    #[test]
    fn a_read_only_file_can_still_be_read() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path()).put(&[entry("2026-11-20")]).unwrap();
        let archive = archive(folder.path());
        *archive.connection.lock().unwrap() = archive.connect_read_only();
        assert_eq!(newest(&archive), [entry("2026-11-20")]);
        let error = archive.put(&[entry("2026-11-21")]).unwrap_err();
        assert!(error.to_string().contains("it is read-only"), "{error}");
        archive
            .put(&[entry("2026-11-21")])
            .expect("written as soon as it can be");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = archive(&folder.path().join("file")).open().unwrap_err();
        assert_eq!(error.operation(), Operation::Open);
        assert!(
            error.to_string().starts_with("cannot open the archive"),
            "{error}"
        );
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        archive(folder.path()).put(&[entry("2026-11-20")]).unwrap();
        let path = folder.path().join(FILE_NAME);
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 7)
            .unwrap();
        assert!(matches!(
            archive(folder.path()).open(),
            Err(Error::Newer { found: 7, .. })
        ));
        assert!(path.exists());
    }
}
