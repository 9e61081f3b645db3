//! The archive: one SQLite file, a row per app, window and reference date.
//!
//! WeChat forgets a day after two; what is written here is the only record that remains. Answers
//! are kept as WeChat sent them, so that `sqlite3` can query them and a later version can read
//! them better. Compares nothing and decides nothing: that is for `poll`.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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
    first_answered_at INTEGER NOT NULL, -- Unix seconds; when the day became known
    answered_at INTEGER NOT NULL,       -- Unix seconds; the last answer, with these figures
    settled INTEGER NOT NULL,           -- 1 if the last two answers agree
    revisions INTEGER NOT NULL,         -- how often the figures changed
    answer TEXT NOT NULL,               -- JSON as WeChat sent it; last, for it is long and rarely read
    PRIMARY KEY (appid, window, reference_date)
) STRICT;
";

/// How long the keeper of the archive waits for another program that holds the file; all of its apps
/// wait meanwhile.
const KEEPERS_PATIENCE: Duration = Duration::from_millis(250);

/// How long another program waits for the keeper.
const OTHERS_PATIENCE: Duration = Duration::from_secs(30);

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
    /// The file belongs to another program.
    #[error("{} is a database of another program: move it away, or use another --storage.path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {operation} the archive {}: {problem}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What could not be done.
        operation: Operation,
        /// In words for the operator.
        problem: String,
    },
}

impl Error {
    /// Returns under what this is counted.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::Damaged { .. } | Self::Newer { .. } | Self::Foreign { .. } => Operation::Open,
            Self::Failed { operation, .. } => *operation,
        }
    }
}

/// Says what SQLite's code means for the operator.
fn words(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds it locked; if that lasts, end that program".to_owned()
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "it is read-only; make file and folder writable for this user".to_owned()
        }
        Some(ErrorCode::DiskFull) => "the disk is full; make room".to_owned(),
        Some(ErrorCode::CannotOpen) => {
            "check that its folder is there and may be written to by this user".to_owned()
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "it is damaged; `sqlite3 FILE .recover` may read it".to_owned()
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

/// What no two entries share: the app, the window, and the reference date.
pub type Key = (AppId, Window, NaiveDate);

impl Entry {
    /// Returns what tells this entry from all others.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.appid.clone(), self.window, self.reference_date)
    }
}

/// What is held of an app and window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// First and last day of every stretch of days without a gap, the oldest first.
    stretches: Vec<(NaiveDate, NaiveDate)>,
    /// How often figures of these days changed.
    pub revisions: u64,
}

impl Holdings {
    /// Returns how many days are held.
    #[must_use]
    pub fn days(&self) -> u64 {
        let days = |(first, last): &(NaiveDate, NaiveDate)| (*last - *first).num_days() + 1;
        self.stretches.iter().map(days).sum::<i64>().unsigned_abs()
    }

    /// Returns the first and the last day, if there is any.
    #[must_use]
    pub fn ends(&self) -> Option<(NaiveDate, NaiveDate)> {
        Some((self.stretches.first()?.0, self.stretches.last()?.1))
    }

    /// Returns first and last day of every stretch that is missing after the first day held and
    /// before `end`, the oldest first.
    #[must_use]
    pub fn gaps(&self, end: NaiveDate) -> Vec<(NaiveDate, NaiveDate)> {
        let starts = self.stretches.iter().skip(1).map(|(first, _)| *first);
        self.stretches
            .iter()
            .zip(starts.chain([end]))
            .filter_map(|((_, last), next)| Some((last.succ_opt()?, next.min(end).pred_opt()?)))
            .filter(|(first, last)| first <= last)
            .collect()
    }

    /// Adds a day that is later than all before.
    fn push(&mut self, day: NaiveDate, revisions: u32) {
        self.revisions += u64::from(revisions);
        match self.stretches.last_mut() {
            Some((_, last)) if last.succ_opt() == Some(day) => *last = day,
            _ => self.stretches.push((day, day)),
        }
    }
}

/// Which entries are meant; an empty list means all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Whose.
    pub appids: Vec<AppId>,
    /// Over which windows.
    pub windows: Vec<Window>,
    /// The first reference date.
    pub from: Option<NaiveDate>,
    /// The last reference date.
    pub to: Option<NaiveDate>,
    /// How many days that were archived before `from` are selected as well, of each app and window.
    pub lead: u32,
}

impl Selection {
    /// The condition of [`Selection::values`].
    const SQL: &str = "(?1 = '[]' OR appid IN (SELECT value FROM json_each(?1)))
        AND (?2 = '[]' OR window IN (SELECT value FROM json_each(?2)))
        AND reference_date <= ?4
        AND reference_date > coalesce((
            SELECT reference_date FROM answers AS earlier
            WHERE earlier.appid = answers.appid AND earlier.window = answers.window AND reference_date < ?3
            ORDER BY reference_date DESC LIMIT 1 OFFSET ?5), '')";

    fn values(&self) -> [rusqlite::types::Value; 5] {
        let date = |date: Option<NaiveDate>, or: &str| {
            date.map_or_else(|| or.to_owned(), |date| date.to_string())
        };
        [
            serde_json::json!(self.appids).to_string().into(),
            serde_json::json!(self.windows).to_string().into(),
            date(self.from, "0000-01-01").into(),
            date(self.to, "9999-12-31").into(),
            self.lead.into(),
        ]
    }
}

/// The file, opened when it is first needed and again after it failed.
pub struct Archive {
    path: PathBuf,
    /// Whether this program is the one that keeps the archive, and may set a damaged file aside.
    is_keeper: bool,
    clock: Clock,
    connection: Mutex<Option<Connection>>,
    troubles: Mutex<Troubles>,
    /// How often a damaged file was set aside.
    generation: AtomicU64,
}

/// What is wrong, for people.
#[derive(Default)]
struct Troubles {
    /// A file was set aside; told until the program ends.
    damaged: Option<String>,
    /// What failed last, until it succeeds again.
    failing: Option<(Operation, String)>,
}

impl Archive {
    /// Names the archive in a folder; touches nothing yet. The clock names what is set aside.
    #[must_use]
    pub fn new(folder: &Path, clock: Clock) -> Self {
        Self {
            path: folder.join(FILE_NAME),
            is_keeper: true,
            clock,
            connection: Mutex::new(None),
            troubles: Mutex::default(),
            generation: AtomicU64::new(0),
        }
    }

    /// Names the archive that an exporter may be keeping at the same time: what is damaged is left to
    /// that one.
    #[must_use]
    pub fn of_another(folder: &Path, clock: Clock) -> Self {
        Self {
            is_keeper: false,
            ..Self::new(folder, clock)
        }
    }

    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what is wrong with the archive, for people; none while all goes well.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = troubles.failing.as_ref().map(|(_, problem)| problem);
        failing.or(troubles.damaged.as_ref()).cloned()
    }

    /// Returns a number that changes when a new file takes the place of a damaged one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Opens the file, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As every method: in words for the operator. It may be called again.
    pub fn open(&self) -> Result<(), Error> {
        self.with(Operation::Open, |_| Ok(()))
    }

    /// Reads the whole file to see whether all of it can be read, and sets it aside if not. Takes
    /// long if it is large, but nobody has to wait meanwhile.
    ///
    /// # Errors
    ///
    /// The file is damaged, or can't be read now.
    pub fn check(&self) -> Result<(), Error> {
        let generation = self.generation();
        let found = Connection::open_with_flags(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|connection| {
                connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0))
            })
            .and_then(|found| {
                if found == "ok" {
                    return Ok(());
                }
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
                Err(rusqlite::Error::SqliteFailure(code, Some(found)))
            });
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match found {
            // Whoever met the damage first has set the file aside.
            Err(_) if generation != self.generation() => Ok(()),
            Ok(()) => Ok(()),
            Err(source) => {
                if is_damage(&source) {
                    *connection = None;
                }
                Err(self.remember(self.failed(Operation::Open, &source)))
            }
        }
    }

    /// Stores answers, all or none, durably; the same day again replaces what was stored.
    ///
    /// # Errors
    ///
    /// None of them is stored then, and what was stored before is unchanged.
    pub fn put(&self, entries: &[Entry]) -> Result<(), Error> {
        let again = "UPDATE SET answer = excluded.answer, answered_at = excluded.answered_at,
             settled = excluded.settled, revisions = excluded.revisions";
        self.insert(entries, again).map(drop)
    }

    /// Stores those answers whose day is not held yet, all or none, durably; answers how many.
    ///
    /// # Errors
    ///
    /// None of them is stored then.
    pub fn add(&self, entries: &[Entry]) -> Result<usize, Error> {
        self.insert(entries, "NOTHING")
    }

    /// Stores answers; says in SQL what to do with days that are held already.
    fn insert(&self, entries: &[Entry], again: &str) -> Result<usize, Error> {
        let sql = format!(
            "INSERT INTO answers (appid, window, reference_date, answer, first_answered_at, answered_at, settled, revisions)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO {again}"
        );
        self.with(Operation::Write, |connection| {
            let transaction = connection.transaction()?;
            let mut rows = 0;
            for entry in entries {
                rows += transaction.prepare_cached(&sql)?.execute(params![
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
            transaction.commit()?;
            Ok(rows)
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
                .prepare_cached(&format!(
                    "SELECT {ENTRY} FROM answers WHERE appid = ?1 AND window = ?2
                     ORDER BY reference_date DESC LIMIT ?3"
                ))?
                .query_map(params![appid.as_str(), window.as_str(), limit], entry)?
                .collect()
        })
    }

    /// Returns what is held of an app and window.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn holdings(&self, appid: &AppId, window: Window) -> Result<Holdings, Error> {
        self.with(Operation::Read, |connection| {
            let mut query = connection.prepare_cached(
                "SELECT reference_date, revisions FROM answers
                 WHERE appid = ?1 AND window = ?2 ORDER BY reference_date",
            )?;
            let mut rows = query.query(params![appid.as_str(), window.as_str()])?;
            let mut holdings = Holdings::default();
            while let Some(row) = rows.next()? {
                holdings.push(column(row, 0, date)?, row.get(1)?);
            }
            Ok(holdings)
        })
    }

    /// Returns how many entries are selected.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn count(&self, selection: &Selection) -> Result<u32, Error> {
        self.with(Operation::Read, |connection| {
            let query = format!("SELECT count(*) FROM answers WHERE {}", Selection::SQL);
            connection.query_row(&query, selection.values(), |row| row.get(0))
        })
    }

    /// Passes the selected entries on, one by one and as they are at this moment, sorted by appid,
    /// window and reference date, until `each` breaks off; answers what it broke off with.
    ///
    /// # Errors
    ///
    /// They can't be read to the end.
    pub fn read<B>(
        &self,
        selection: &Selection,
        mut each: impl FnMut(Entry) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        self.with(Operation::Read, |connection| {
            let mut query = connection.prepare(&format!(
                "SELECT {ENTRY} FROM answers WHERE {} ORDER BY appid, window, reference_date",
                Selection::SQL
            ))?;
            for row in query.query_map(selection.values(), entry)? {
                if let ControlFlow::Break(end) = each(row?) {
                    return Ok(ControlFlow::Break(end));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Deletes the days that lie further back than `days`, and gives their space back; answers
    /// how many rows went.
    ///
    /// They are counted back from `today` or the day after the newest, whichever is earlier: a wrong clock
    /// must not empty the archive.
    ///
    /// # Errors
    ///
    /// They can't be deleted now.
    pub fn delete_beyond(&self, days: u64, today: NaiveDate) -> Result<usize, Error> {
        let rows = self.with(Operation::Delete, |connection| {
            connection.execute(
                "DELETE FROM answers WHERE reference_date <
                     date(min(?1, (SELECT date(max(reference_date), '+1 day') FROM answers)),
                          '-' || ?2 || ' days')",
                params![today.to_string(), days.to_string()],
            )
        })?;
        // A part at a time, so that answers need not wait for long.
        while self.with(Operation::Delete, |connection| {
            let mut vacuum = connection.prepare("PRAGMA incremental_vacuum(1000)")?;
            let mut pages = vacuum.query([])?;
            // It frees a page for every step.
            while pages.next()?.is_some() {}
            connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0))
        })? > 0
        {}
        Ok(rows)
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

    /// Does something with the open file; opens it if it is not. Remembers what went wrong.
    fn with<T>(
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
            none => match self.connect() {
                Ok(new) => action(none.insert(new)),
                Err(error) => return Err(self.remember(error)),
            },
        };
        result
            .inspect(|_| self.forget(operation))
            .map_err(|source| {
                // After any other error the file is opened anew before it is used again.
                if !matches!(
                    source.sqlite_error_code(),
                    Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull)
                ) {
                    *connection = None;
                }
                self.remember(self.failed(operation, &source))
            })
    }

    fn remember(&self, error: Error) -> Error {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Error::Damaged { .. } = error {
            troubles.damaged = Some(error.to_string());
        } else {
            troubles.failing = Some((error.operation(), error.to_string()));
        }
        error
    }

    fn forget(&self, operation: Operation) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles
            .failing
            .take_if(|(failing, _)| *failing == operation || *failing == Operation::Open);
    }

    /// Puts an error into words, and a damaged file aside.
    fn failed(&self, operation: Operation, source: &rusqlite::Error) -> Error {
        let moved_to = (self.is_keeper && is_damage(source))
            .then(|| self.set_aside())
            .flatten();
        let path = self.path.clone();
        match moved_to {
            Some(moved_to) => Error::Damaged { path, moved_to },
            None => Error::Failed {
                path,
                operation,
                problem: words(source),
            },
        }
    }

    fn connect(&self) -> Result<Connection, Error> {
        let failed = |source| self.failed(Operation::Open, &source);
        let opened = std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new("")))
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
            .and_then(|()| Connection::open(&self.path))
            .and_then(|mut connection| {
                connection.busy_timeout(if self.is_keeper {
                    KEEPERS_PATIENCE
                } else {
                    OTHERS_PATIENCE
                })?;
                Ok((prepare(&mut connection)?, connection))
            });
        let path = self.path.clone();
        match opened {
            Ok((Owner::Us(SCHEMA_VERSION), connection)) => Ok(connection),
            Ok((Owner::Us(found), _)) => Err(Error::Newer { path, found }),
            Ok((Owner::Another, _)) => Err(Error::Foreign { path }),
            Err(source) => match source.sqlite_error_code() {
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                    self.connect_read_only().ok_or_else(|| failed(source))
                }
                _ => Err(failed(source)),
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
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .ok()?;
        (version == SCHEMA_VERSION).then_some(connection)
    }

    /// Gives a damaged file another name, and so makes place for a new one; answers the name.
    fn set_aside(&self) -> Option<PathBuf> {
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
        std::fs::rename(&self.path, &moved_to).ok()?;
        self.generation.fetch_add(1, Ordering::Relaxed);
        Some(moved_to)
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Whose a database is.
enum Owner {
    /// Ours, with this schema.
    Us(i64),
    /// Another program's.
    Another,
}

/// Looks at a file that was just opened, and makes a new one ready.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Owner> {
    let number = |query| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let version = number("PRAGMA user_version")?;
    if version != 0 || number("SELECT count(*) FROM sqlite_schema")? != 0 {
        return Ok(match number("PRAGMA application_id")? {
            APPLICATION_ID => Owner::Us(version),
            _ => Owner::Another,
        });
    }
    // Both must be set before the first table.
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(Owner::Us(SCHEMA_VERSION))
}

/// The columns that [`entry`] reads.
const ENTRY: &str =
    "appid, window, reference_date, answer, first_answered_at, answered_at, settled, revisions";

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    let time = |seconds| DateTime::from_timestamp(seconds, 0);
    Ok(Entry {
        appid: column(row, 0, |text: String| text.parse().ok())?,
        window: column(row, 1, |text: String| text.parse().ok())?,
        reference_date: column(row, 2, date)?,
        // What is damaged in one answer must not keep the others from being read.
        answer: String::from_utf8_lossy(row.get_ref(3)?.as_bytes()?).into_owned(),
        first_answered_at: column(row, 4, time)?,
        answered_at: column(row, 5, time)?,
        settled: row.get(6)?,
        revisions: row.get(7)?,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "a column gives the text away"
)]
fn date(text: String) -> Option<NaiveDate> {
    text.parse().ok()
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
        assert!(archive.size() > 0);
    }

    #[test]
    fn holdings_tell_the_days_the_gaps_and_the_revisions() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        let day = |day: u32| NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        let held = |day: u32| Entry {
            revisions: day,
            ..entry(&format!("2026-11-{day:02}"))
        };
        archive
            .put(&[held(5), held(2), held(3), held(11), held(12)])
            .unwrap();
        let appid = entry("2026-11-02").appid;
        let holdings = archive.holdings(&appid, Window::OneDay).unwrap();
        assert_eq!(holdings.days(), 5);
        assert_eq!(holdings.ends(), Some((day(2), day(12))));
        assert_eq!(holdings.revisions, 33);
        let gaps = [(day(4), day(4)), (day(6), day(10))];
        assert_eq!(holdings.gaps(day(13)), gaps);
        assert_eq!(holdings.gaps(day(8)), [gaps[0], (day(6), day(7))]);
        assert_eq!(holdings.gaps(day(6)), gaps[..1]);
        assert_eq!(holdings.gaps(day(15))[2], (day(13), day(14)));
        let none = archive.holdings(&appid, Window::SevenDays).unwrap();
        assert_eq!(
            (none.days(), none.ends(), none.gaps(day(15))),
            (0, None, vec![])
        );
    }

    #[test]
    fn a_selection_is_passed_on_in_order_until_it_is_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        let other = |day| Entry {
            appid: "wx1123456789abcdef".parse().unwrap(),
            ..entry(day)
        };
        let week = Entry {
            window: Window::SevenDays,
            ..entry("2026-11-20")
        };
        let entries = [
            entry("2026-11-19"),
            entry("2026-11-20"),
            week,
            other("2026-11-20"),
        ];
        let mut shuffled = entries.clone();
        shuffled.reverse();
        archive.put(&shuffled).unwrap();
        let select = |selection: &Selection| {
            let mut found = Vec::new();
            let end = archive.read(selection, |entry| {
                found.push(entry);
                ControlFlow::<()>::Continue(())
            });
            assert_eq!(end.unwrap(), ControlFlow::Continue(()));
            assert_eq!(archive.count(selection).unwrap() as usize, found.len());
            found
        };
        assert_eq!(select(&Selection::default()), entries);
        let of_one = Selection {
            appids: vec![entries[0].appid.clone()],
            windows: vec![Window::OneDay],
            ..Selection::default()
        };
        assert_eq!(select(&of_one), entries[..2]);
        let day = Some(entries[1].reference_date);
        let of_day = Selection {
            from: day,
            to: day,
            ..Selection::default()
        };
        assert_eq!(select(&of_day), entries[1..]);
        let and_before = Selection { lead: 1, ..of_day };
        assert_eq!(select(&and_before), entries);
        let first = archive.read(&Selection::default(), ControlFlow::Break);
        assert_eq!(first.unwrap(), ControlFlow::Break(entries[0].clone()));
    }

    #[test]
    fn adding_leaves_what_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        archive.put(&[entry("2026-11-20")]).unwrap();
        let other_answer = Entry {
            answer: "{}".to_owned(),
            ..entry("2026-11-20")
        };
        assert_eq!(
            archive.add(&[other_answer, entry("2026-11-21")]).unwrap(),
            1
        );
        assert_eq!(newest(&archive), [entry("2026-11-21"), entry("2026-11-20")]);
    }

    #[test]
    fn another_program_does_not_set_a_damaged_file_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        std::fs::write(&path, "no database\n".repeat(1000)).unwrap();
        let archive = Archive::of_another(folder.path(), Arc::new(now));
        let message = archive.open().unwrap_err().to_string();
        assert!(message.contains("it is damaged"), "{message}");
        assert!(path.is_file());
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
        let today = "2026-11-22".parse().unwrap();
        assert_eq!(archive.delete_beyond(1, today).unwrap(), 2);
        assert_eq!(newest(&archive), [entry("2026-11-21")]);
        let wrong_clock = "2030-01-01".parse().unwrap();
        assert_eq!(archive.delete_beyond(1, wrong_clock).unwrap(), 0);
    }

    #[test]
    fn the_space_of_deleted_days_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let archive = archive(folder.path());
        let large = |day| Entry {
            answer: "x".repeat(1_000_000),
            ..entry(day)
        };
        archive
            .put(&[
                large("2026-11-19"),
                large("2026-11-20"),
                entry("2026-11-21"),
            ])
            .unwrap();
        archive
            .delete_beyond(1, "2026-11-22".parse().unwrap())
            .unwrap();
        // The file follows when the log goes into it.
        drop(archive);
        assert!(self::archive(folder.path()).size() < 100_000);
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
        let read = archive.newest(&entry("2026-11-20").appid, Window::OneDay, 1);
        let Err(Error::Damaged { moved_to, .. }) = read else {
            panic!("damage unnoticed: {read:?}")
        };
        assert_eq!(std::fs::read(moved_to).unwrap(), bytes, "nothing is lost");
        archive.put(&[entry("2026-11-21")]).unwrap();
        assert_eq!(newest(&archive), [entry("2026-11-21")]);
        assert!(archive.problem().unwrap().contains("was damaged"));
    }

    #[test]
    fn damage_deep_inside_is_found_by_the_check_while_the_archive_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let large = |day| Entry {
            answer: "x".repeat(100_000),
            ..entry(day)
        };
        archive(folder.path())
            .put(&[large("2026-11-19"), large("2026-11-20")])
            .unwrap();
        let archive = archive(folder.path());
        archive.check().unwrap();
        let path = folder.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        // A page of the index, which nobody reads for the newest entries.
        bytes[2 * 4096..3 * 4096].fill(0xa5);
        std::fs::write(&path, &bytes).unwrap();
        archive.open().unwrap();
        assert!(matches!(archive.check(), Err(Error::Damaged { .. })));
        assert_eq!(archive.generation(), 1);
        archive.put(&[entry("2026-11-21")]).unwrap();
        archive.check().unwrap();
        assert_eq!(newest(&archive), [entry("2026-11-21")]);
    }

    #[test]
    fn a_database_of_another_program_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        other
            .execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1")
            .unwrap();
        let error = archive(folder.path()).open().unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
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
