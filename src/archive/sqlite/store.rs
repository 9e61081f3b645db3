//! The open file and its queries, for one thread.
//!
//! Opens the file when it is first needed and again after a failure. A damaged file is set aside and
//! its readable rows are copied into a new one; that, and all other long work, is done in slices
//! (`work`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::NaiveDate;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::identity::{self, Identity, Inode, Loss};
use super::rows::{self, RECORD};
use super::schema::{self, OLD_TABLE, Owner, SCHEMA_VERSION};
use super::work::{Rescue, Work};
use crate::archive::error::{Error, Operation, Place, describe, is_damage};
use crate::archive::lock::Lock;
use crate::archive::record::{
    Coverage, DayState, Key, Record, Restored, Row, Selection, UnreadDay, UnreadText, uncompress,
};
use crate::calendar::Clock;
use crate::portrait::{AppId, Window};

/// The name of the file in the directory of `--storage.path`.
const FILE_NAME: &str = "portraits.db";

/// How long the owner of the archive waits for another program that has locked the file; all other
/// jobs wait as well.
const OWNER_BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// The suffix of the name of a file that was set aside and copied.
pub(super) const COPIED: &str = ".copied";

/// How long another program waits for the owner.
const GUEST_BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The role of a program that uses an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The exporter that owns it: may set a damaged file aside, and converts an older one in slices.
    Owner,
    /// A command that reads and adds days at the same time.
    Guest,
}

/// One SQLite file.
pub struct Store {
    path: PathBuf,
    role: Role,
    clock: Clock,
    lock: Option<Lock>,
    pub(super) open: Option<Open>,
    pub(super) work: VecDeque<Work>,
    /// A number that changes when other programs may have changed rows.
    pub(super) version: u64,
    /// Whether opening the file was attempted before.
    was_opened: bool,
    /// What was done about a damaged or lost file, for people; shown until the program ends.
    pub(super) notice: Option<String>,
}

/// The file while it is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) connection: Connection,
    identity: Identity,
    /// Whether rows of schema 1 may be left.
    pub(super) is_converting: bool,
    /// SQLite's counter: changes when another program commits.
    data_version: i64,
}

impl Open {
    /// Begins to write; prepares a file of schema 1 for it, as an import may run before the exporter.
    fn begin(&mut self) -> rusqlite::Result<rusqlite::Transaction<'_>> {
        if !schema::has_portraits(&self.connection)? {
            schema::begin_conversion(&mut self.connection)?;
        }
        self.connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
    }
}

impl Store {
    /// Names the archive in a directory, as the exporter that owns it; accesses no file yet. The clock
    /// names the files that are set aside.
    #[must_use]
    pub fn of_owner(directory: &Path, clock: Clock) -> Self {
        Self::new(directory, clock, Role::Owner)
    }

    /// Names an archive that an exporter may own at the same time: handling damage is left to the
    /// exporter.
    #[must_use]
    pub fn of_guest(directory: &Path, clock: Clock) -> Self {
        Self::new(directory, clock, Role::Guest)
    }

    fn new(directory: &Path, clock: Clock, role: Role) -> Self {
        Self {
            path: directory.join(FILE_NAME),
            role,
            clock,
            lock: None,
            open: None,
            work: VecDeque::new(),
            version: 0,
            was_opened: false,
            notice: None,
        }
    }

    /// Returns where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where it is, for sentences.
    pub(in crate::archive) fn place(&self) -> Place {
        Place::File(self.path.clone())
    }

    /// Locks the directory against other exporters.
    ///
    /// # Errors
    ///
    /// Another one holds the lock.
    pub(in crate::archive) fn lock(&mut self) -> Result<(), Error> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        self.lock = Some(Lock::take(directory)?);
        Ok(())
    }

    /// Returns the size of the file and its log, in bytes; 0 for what is not there.
    #[must_use]
    pub fn size(&self) -> u64 {
        let len = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        len(self.path.clone()) + len(self.companion("-wal"))
    }

    /// Returns a number that changes when other programs may have changed rows.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Reopens the file before it is used again, after a failure in the middle of an operation.
    pub(in crate::archive) fn recover(&mut self) {
        self.open = None;
    }

    /// Returns `true` if the file is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns `true` if another file is being copied.
    #[must_use]
    pub fn has_rescue(&self) -> bool {
        self.work.iter().any(|work| matches!(work, Work::Rescue(_)))
    }

    /// Returns what was done about a damaged or lost file, for people.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Opens the file, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As of every method: a sentence for the operator. It may be called again.
    pub fn open(&mut self) -> Result<(), Error> {
        self.with(Operation::Open, |_| Ok(()))
    }

    /// Stores rows, all or none, durably; the same day again replaces what was stored, except when it
    /// became known.
    ///
    /// # Errors
    ///
    /// None of them is stored in that case, and what was stored before is unchanged.
    pub fn upsert<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<Vec<DayState>, Error> {
        let conflict = "UPDATE SET answer = excluded.answer, answered_at = excluded.answered_at,
             settled = excluded.settled, revisions = excluded.revisions, size = excluded.size,
             digest = excluded.digest, figures = excluded.figures";
        self.with(Operation::Write, |open| {
            let transaction = open.begin()?;
            let is_converting = schema::is_converting(&transaction)?;
            let mut states = Vec::new();
            for row in rows {
                insert(&transaction, row, conflict)?;
                if is_converting {
                    delete_old(&transaction, &row.key)?;
                }
                states.push(row.state);
            }
            transaction.commit()?;
            Ok(states)
        })
    }

    /// Stores those rows whose day is not held yet, all or none, durably; returns how many.
    ///
    /// # Errors
    ///
    /// None of them is stored in that case.
    pub fn insert_missing<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<usize, Error> {
        self.with(Operation::Write, |open| {
            let transaction = open.begin()?;
            let is_converting = schema::is_converting(&transaction)?;
            let mut inserted = 0;
            for row in rows {
                if !is_converting || !is_old(&transaction, &row.key)? {
                    inserted += insert(&transaction, row, "NOTHING")?;
                }
            }
            transaction.commit()?;
            Ok(inserted)
        })
    }

    /// Notes that figures with this digest arrived again; returns `false` if they are not held.
    ///
    /// # Errors
    ///
    /// What was stored before is unchanged.
    pub fn update_state(
        &mut self,
        key: &Key,
        digest: u64,
        state: &DayState,
    ) -> Result<bool, Error> {
        self.with(Operation::Write, |open| {
            // A row that is not converted yet has no digest; it is written again.
            let rows = open
                .connection
                .prepare_cached(
                    "UPDATE portraits SET answered_at = ?4, settled = ?5, revisions = ?6
                     WHERE appid = ?1 AND window = ?2 AND reference_date = ?3 AND digest = ?7",
                )?
                .execute(params![
                    key.appid.as_str(),
                    key.window.as_str(),
                    key.reference_date.to_string(),
                    state.answered_at.timestamp(),
                    state.settled,
                    state.revisions,
                    digest.cast_signed(),
                ])?;
            Ok(rows > 0)
        })
    }

    /// Returns what is held of an app and window: which days, the newest `limit` of them that are
    /// not after `last_day`, and the answer of the newest that can be read.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn restore(
        &mut self,
        appid: &AppId,
        window: Window,
        limit: usize,
        last_day: NaiveDate,
    ) -> Result<Restored, Error> {
        self.with(Operation::Read, |open| {
            let sql = days_query(open.is_converting, "DESC");
            let mut statement = open.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([appid.as_str(), window.as_str(), ""])?;
            let mut restored = Restored::default();
            let mut days = Vec::new();
            while let Some(row) = rows.next()? {
                let (Some(reference_date), Some(state)) =
                    (rows::date(row, 0)?, rows::state(row, 1)?)
                else {
                    tracing::error!(%appid, %window, "cannot read an archived row, its values are out of range");
                    continue;
                };
                days.push((reference_date, state.revisions));
                if restored.days.len() >= limit || reference_date > last_day {
                    continue;
                }
                let key = Key {
                    appid: appid.clone(),
                    window,
                    reference_date,
                };
                let is_newest = restored.newest.is_none();
                let mut day = unread_day(&open.connection, row, &key, state)?;
                let answer = match &day.text {
                    UnreadText::Answer(answer) => Some(answer.clone()),
                    UnreadText::Figures(_) if is_newest => answer(&open.connection, &key, false)?,
                    UnreadText::Figures(_) => None,
                };
                if is_newest && answer.is_none() {
                    // Damage is repaired by the same answer.
                    day.digest = None;
                }
                let day = day.read(window);
                if day.figures.is_none() {
                    tracing::error!(%appid, %window, day = %reference_date, "cannot read an archived response");
                } else if is_newest {
                    restored.newest = answer.map(|answer| (reference_date, answer));
                }
                restored.days.push(day);
            }
            restored.coverage = days.into_iter().rev().collect();
            Ok(restored)
        })
    }

    /// Returns which days of an app and window are held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn coverage(&mut self, appid: &AppId, window: Window) -> Result<Coverage, Error> {
        Ok(self.restore(appid, window, 0, NaiveDate::MIN)?.coverage)
    }

    /// Returns up to `limit` days of an app and window that are held, beginning with `from`, the oldest
    /// first. Rows whose values are out of range, which [`Self::restore`] reports, are left out.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub(in crate::archive) fn history(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<UnreadDay>, Error> {
        self.with(Operation::Read, |open| {
            let sql = days_query(open.is_converting, "ASC");
            let mut statement = open.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([appid.as_str(), window.as_str(), &from.to_string()])?;
            let mut days = Vec::new();
            while days.len() < limit
                && let Some(row) = rows.next()?
            {
                if let (Some(reference_date), Some(state)) =
                    (rows::date(row, 0)?, rows::state(row, 1)?)
                {
                    let key = Key {
                        appid: appid.clone(),
                        window,
                        reference_date,
                    };
                    days.push(unread_day(&open.connection, row, &key, state)?);
                }
            }
            Ok(days)
        })
    }

    /// Returns up to `limit` records of an app and window, beginning with `from`, the oldest first. Rows
    /// whose values are out of range, which [`Self::restore`] reports, are left out.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub(in crate::archive) fn records(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        self.with(Operation::Read, |open| {
            let sql = format!(
                "SELECT {RECORD} FROM answers WHERE appid = ?1 AND window = ?2 AND reference_date >= ?3
                 ORDER BY reference_date"
            );
            let mut statement = open.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([appid.as_str(), window.as_str(), &from.to_string()])?;
            let mut records = Vec::new();
            while records.len() < limit
                && let Some(row) = rows.next()?
            {
                records.extend(rows::record(row)?);
            }
            Ok(records)
        })
    }

    /// Returns the answer of a day, if it is held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn answer(&mut self, key: &Key) -> Result<Option<String>, Error> {
        self.with(Operation::Read, |open| {
            let found = answer(&open.connection, key, false)?;
            if found.is_none() && open.is_converting {
                return answer(&open.connection, key, true);
            }
            Ok(found)
        })
    }

    /// Returns how many records are selected.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn count(&mut self, selection: &Selection) -> Result<u64, Error> {
        self.with(Operation::Read, |open| {
            let query = format!("SELECT count(*) FROM answers WHERE {SELECTED}");
            let count: i64 = open
                .connection
                .query_row(&query, values(selection), |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
    }

    /// Returns the newest day of all apps and windows.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn newest_day(&mut self) -> Result<Option<NaiveDate>, Error> {
        self.with(Operation::Read, |open| {
            let query = "SELECT max(reference_date) FROM answers";
            open.connection
                .query_row(query, [], |row| rows::date(row, 0))
        })
    }

    /// Passes on the selected records, one by one and as they are at this moment, sorted by appid,
    /// window and reference date, until `each` breaks off; returns what it broke off with. A row
    /// whose values are out of range is logged and left out.
    ///
    /// # Errors
    ///
    /// They can't be read to the end.
    pub fn read<B>(
        &mut self,
        selection: &Selection,
        mut each: impl FnMut(Record) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        self.with(Operation::Read, |open| {
            let mut query = open.connection.prepare(&format!(
                "SELECT {RECORD} FROM answers WHERE {SELECTED} ORDER BY appid, window, reference_date"
            ))?;
            let mut rows = query.query(values(selection))?;
            while let Some(row) = rows.next()? {
                let Some(record) = rows::record(row)? else {
                    tracing::error!("cannot read an archived row, its values are out of range");
                    continue;
                };
                if let ControlFlow::Break(end) = each(record) {
                    return Ok(ControlFlow::Break(end));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Takes the result of [`schema::check`], and sets the file aside if it is damaged.
    /// The result is about the file `checked`, which may have been set aside meanwhile.
    pub(in crate::archive) fn checked(
        &mut self,
        checked: Option<Inode>,
        found: rusqlite::Result<()>,
    ) -> Result<(), Error> {
        match found {
            // A file that is locked or inaccessible is reported by the operations that use it.
            Err(source) if is_damage(&source) && checked == identity::inode(&self.path) => {
                // It may have replaced the file in use, whose log then does not belong to it.
                if let Some(loss) = self.open.as_mut().and_then(|open| open.identity.loss()) {
                    return Err(self.lost(loss));
                }
                self.open = None;
                Err(self.failed(Operation::Open, &source))
            }
            _ => Ok(()),
        }
    }

    /// Detects changes of the file by other programs; returns `true` if rows may have changed.
    pub(in crate::archive) fn look_around(&mut self) -> Result<bool, Error> {
        let before = self.version;
        if self.open.is_some() {
            self.with(Operation::Open, |_| Ok(()))?;
        }
        if let Some(open) = &mut self.open {
            let data_version = data_version(&open.connection).unwrap_or(open.data_version);
            if data_version != open.data_version {
                open.data_version = data_version;
                self.version += 1;
            }
        }
        Ok(self.version != before)
    }

    /// Runs an operation on the open file; opens it if necessary.
    pub(super) fn with<T>(
        &mut self,
        operation: Operation,
        action: impl FnOnce(&mut Open) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        if let Some(lock) = &mut self.lock {
            lock.renew()?;
        }
        if self.role == Role::Owner
            && let Some(open) = &mut self.open
            && let Some(loss) = open.identity.loss()
        {
            return Err(self.lost(loss));
        }
        if self.open.is_none() {
            let open = self.connect()?;
            self.open = Some(open);
        }
        let Some(open) = &mut self.open else {
            return Err(Error::Closed);
        };
        action(open).map_err(|source| {
            // After any other error the file is reopened before it is used again.
            if !matches!(
                source.sqlite_error_code(),
                Some(ErrorCode::DatabaseBusy | ErrorCode::DiskFull)
            ) {
                self.open = None;
            }
            self.failed(operation, &source)
        })
    }

    /// Describes an error, and sets a damaged file aside.
    fn failed(&mut self, operation: Operation, source: &rusqlite::Error) -> Error {
        let moved_to = (self.role == Role::Owner && is_damage(source))
            .then(|| self.set_aside("damaged"))
            .flatten();
        match moved_to {
            Some(moved_to) => {
                let error = Error::Damaged {
                    path: self.path.clone(),
                    moved_to: moved_to.clone(),
                };
                self.notice = Some(error.to_string());
                self.drop_work_for_the_file();
                let rescue = Rescue::of_file(moved_to);
                self.work.push_back(Work::Rescue(rescue));
                error
            }
            None => Error::Failed {
                place: self.place(),
                operation,
                problem: describe(source),
            },
        }
    }

    /// Releases a file that is no longer at its path, and uses what is still open of it as a source for
    /// the file that will be there.
    fn lost(&mut self, loss: Loss) -> Error {
        let error = Error::Replaced {
            path: self.path.clone(),
            what: loss.describe(),
        };
        if loss.leaves_the_file() {
            self.set_aside("replaced");
        } else if self
            .open
            .as_ref()
            .is_some_and(|open| open.identity.has_log())
        {
            // The log of one file would be applied to the other.
            self.set_log_aside(&self.aside("replaced"));
        }
        if let Some(open) = self.open.take() {
            // It must not write into a file that may belong to another program by now.
            let _ = open
                .connection
                .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            self.drop_work_for_the_file();
            let rescue = Rescue::of_connection(open.connection, open.identity.into_handle());
            self.work.push_back(Work::Rescue(rescue));
        }
        self.notice = Some(error.to_string());
        error
    }

    /// Drops the work for a file that is gone; copying from other files continues.
    fn drop_work_for_the_file(&mut self) {
        self.work.retain(|work| matches!(work, Work::Rescue(_)));
    }

    /// Plans to copy files that were set aside but not copied completely, as the program was killed.
    fn resume_rescues(&mut self) {
        let files = self
            .path
            .parent()
            .and_then(|path| std::fs::read_dir(path).ok());
        for file in files.into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let is_aside = ["damaged", "replaced"]
                .iter()
                .any(|why| name.starts_with(&format!("{FILE_NAME}.{why}-")));
            let is_done = [COPIED, "-wal", "-shm", "-journal"]
                .iter()
                .any(|end| name.ends_with(end));
            if is_aside && !is_done {
                tracing::warn!(file = name, "copying the readable days of an older archive");
                self.work
                    .push_back(Work::Rescue(Rescue::of_file(file.path())));
            }
        }
    }

    fn connect(&mut self) -> Result<Open, Error> {
        // Before anything is set aside by this program itself.
        if self.role == Role::Owner && !std::mem::replace(&mut self.was_opened, true) {
            self.resume_rescues();
        }
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory).map_err(|error| Error::Failed {
                place: self.place(),
                operation: Operation::Open,
                problem: format!("{error}; check {}", directory.display()),
            })?;
        }
        // SQLite gives its log the permissions of the file. Where it can't be made, it reports why.
        let _ = File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&self.path);
        let role = self.role;
        let opened = Connection::open(&self.path).and_then(|mut connection| {
            connection.busy_timeout(match role {
                Role::Owner => OWNER_BUSY_TIMEOUT,
                Role::Guest => GUEST_BUSY_TIMEOUT,
            })?;
            schema::add_functions(&connection)?;
            let mut owner = schema::prepare(&mut connection)?;
            if let (Owner::Us(1), Role::Owner) = (&owner, role) {
                schema::begin_conversion(&mut connection)?;
                owner = Owner::Us(SCHEMA_VERSION);
            }
            Ok((owner, connection))
        });
        let place = self.place();
        let connection = match opened {
            Ok((Owner::Us(1 | SCHEMA_VERSION), connection)) => connection,
            Ok((Owner::Us(found), _)) if found > SCHEMA_VERSION => {
                let known = SCHEMA_VERSION;
                return Err(Error::Newer {
                    place,
                    found,
                    known,
                });
            }
            Ok((Owner::Us(found), _)) => return Err(Error::UnknownSchema { place, found }),
            Ok((Owner::Another, _)) => return Err(Error::Foreign { place }),
            Err(source) => match source.sqlite_error_code() {
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => self
                    .connect_read_only()
                    .ok_or_else(|| self.failed(Operation::Open, &source))?,
                _ => return Err(self.failed(Operation::Open, &source)),
            },
        };
        let is_converting = schema::is_converting(&connection);
        let is_converting =
            is_converting.map_err(|source| self.failed(Operation::Open, &source))?;
        if is_converting && !self.work.iter().any(|work| matches!(work, Work::Convert)) {
            self.work.push_back(Work::Convert);
        }
        // Days that are yet to be copied would seem to be missing.
        if !self.has_rescue() {
            self.version += 1;
        }
        Ok(Open {
            identity: Identity::of(&self.path, self.companion("-wal"), self.companion("-shm")),
            is_converting,
            data_version: data_version(&connection).unwrap_or_default(),
            connection,
        })
    }

    /// Opens a read-only file, where that is possible without its log.
    pub(super) fn connect_read_only(&self) -> Option<Connection> {
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
        schema::add_functions(&connection).ok()?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .ok()?;
        (version == SCHEMA_VERSION).then_some(connection)
    }

    /// Renames the file, to make room for a new one; returns the new name.
    fn set_aside(&self, why: &str) -> Option<PathBuf> {
        let moved_to = self.aside(why);
        std::fs::rename(&self.path, &moved_to).ok()?;
        self.set_log_aside(&moved_to);
        Some(moved_to)
    }

    /// Moves the log and its index next to a file of another name.
    fn set_log_aside(&self, moved_to: &Path) {
        for companion in ["-wal", "-shm"] {
            let mut target = OsString::from(moved_to);
            target.push(companion);
            // It may not exist; and without its database it would be useless.
            let _ = std::fs::rename(self.companion(companion), target);
        }
    }

    /// Returns a name for what is set aside.
    fn aside(&self, why: &str) -> PathBuf {
        let time = (self.clock)().format("%Y%m%dT%H%M%S%.3fZ");
        self.companion(&format!(".{why}-{time}"))
    }

    fn companion(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }
}

fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// Inserts a row; `conflict` says in SQL what to do if the day is held already.
pub(super) fn insert(
    connection: &Connection,
    row: &Row,
    conflict: &str,
) -> rusqlite::Result<usize> {
    let sql = format!(
        "INSERT INTO portraits (appid, window, reference_date, first_answered_at, answered_at, settled, revisions,
             digest, figures, size, answer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT DO {conflict}"
    );
    connection.prepare_cached(&sql)?.execute(params![
        row.key.appid.as_str(),
        row.key.window.as_str(),
        row.key.reference_date.to_string(),
        row.state.first_answered_at.timestamp(),
        row.state.answered_at.timestamp(),
        row.state.settled,
        row.state.revisions,
        row.digest.map(u64::cast_signed),
        row.figures,
        i64::try_from(row.size).unwrap_or(i64::MAX),
        &*row.answer,
    ])
}

fn delete_old(connection: &Connection, key: &Key) -> rusqlite::Result<usize> {
    let sql =
        format!("DELETE FROM {OLD_TABLE} WHERE appid = ?1 AND window = ?2 AND reference_date = ?3");
    connection.prepare_cached(&sql)?.execute(parameters(key))
}

fn is_old(connection: &Connection, key: &Key) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT 1 FROM {OLD_TABLE} WHERE appid = ?1 AND window = ?2 AND reference_date = ?3"
    );
    connection.prepare_cached(&sql)?.exists(parameters(key))
}

fn parameters(key: &Key) -> [String; 3] {
    [
        key.appid.to_string(),
        key.window.to_string(),
        key.reference_date.to_string(),
    ]
}

/// Returns the query for the days of an app and window from a day on, in this order.
fn days_query(is_converting: bool, order: &str) -> String {
    let columns = "reference_date, first_answered_at, answered_at, settled, revisions";
    let selected = "WHERE appid = ?1 AND window = ?2 AND reference_date >= ?3";
    let old = if is_converting {
        format!("UNION ALL SELECT {columns}, NULL, NULL, 1 FROM {OLD_TABLE} {selected}")
    } else {
        String::new()
    };
    format!(
        "SELECT {columns}, digest, figures, 0 FROM portraits {selected} {old} ORDER BY 1 {order}"
    )
}

/// Reads the rest of a row of [`days_query`].
fn unread_day(
    connection: &Connection,
    row: &rusqlite::Row<'_>,
    key: &Key,
    state: DayState,
) -> rusqlite::Result<UnreadDay> {
    let is_old: bool = row.get(7)?;
    let answer = is_old.then(|| answer(connection, key, true)).transpose()?;
    let text = if let Some(answer) = answer.flatten() {
        UnreadText::Answer(answer)
    } else {
        let text = row.get_ref(6)?.as_str_or_null().ok().flatten();
        UnreadText::Figures(text.map(str::to_owned))
    };
    Ok(UnreadDay {
        reference_date: key.reference_date,
        state,
        digest: row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        text,
    })
}

/// Returns the answer of a day; `None` if it is not held there, or is damaged.
fn answer(connection: &Connection, key: &Key, is_old: bool) -> rusqlite::Result<Option<String>> {
    let (columns, table) = if is_old {
        ("length(CAST(answer AS BLOB)), answer", OLD_TABLE)
    } else {
        ("size, answer", "portraits")
    };
    let sql = format!(
        "SELECT {columns} FROM {table} WHERE appid = ?1 AND window = ?2 AND reference_date = ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(parameters(key), |row| {
        let size = usize::try_from(row.get::<_, i64>(0)?).unwrap_or_default();
        Ok(uncompress(row.get_ref(1)?.as_bytes()?, size))
    });
    let answer = found.optional()?.flatten();
    Ok(answer.map(|answer| String::from_utf8_lossy(&answer).into_owned()))
}

/// The condition of [`values`].
const SELECTED: &str = "(?1 = '[]' OR appid IN (SELECT value FROM json_each(?1)))
    AND (?2 = '[]' OR window IN (SELECT value FROM json_each(?2)))
    AND reference_date <= ?4
    AND reference_date > coalesce((
        SELECT reference_date FROM answers AS earlier
        WHERE earlier.appid = answers.appid AND earlier.window = answers.window AND reference_date < ?3
        ORDER BY reference_date DESC LIMIT 1 OFFSET ?5), '')";

fn values(selection: &Selection) -> [Value; 5] {
    let date = |date: Option<NaiveDate>, or: &str| {
        date.map_or_else(|| or.to_owned(), |date| date.to_string())
    };
    [
        serde_json::json!(selection.appids).to_string().into(),
        serde_json::json!(selection.windows).to_string().into(),
        date(selection.from, "0000-01-01").into(),
        date(selection.to, "9999-12-31").into(),
        i64::try_from(selection.lead).unwrap_or(i64::MAX).into(),
    ]
}
