//! Long work, done in slices between other jobs: an older file is converted, the rest of a damaged or
//! lost one is copied, days beyond the retention are deleted, and their space is reclaimed. Every
//! slice is a transaction, so nothing is lost when the program is killed in between.

use std::fs::File;
use std::path::PathBuf;

use chrono::NaiveDate;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::rows::{self, PACKED, UNPACKED};
use super::schema::{self, OLD_TABLE};
use super::store::{COPIED as COPIED_SUFFIX, Open, Store, insert};
use crate::archive::error::{Error, Operation, Place, describe};
use crate::archive::record::Row;
use crate::archive::store::first_kept;

/// How many rows of an older file are converted at a time.
const CONVERTED: u32 = 30;

/// How many rows are copied at a time.
const COPIED: u32 = 100;

/// How many rows are tried one by one where several at once can't be read.
const PROBED: i64 = 200;

/// After this many missing rows in a row, no more are expected.
const LONGEST_HOLE: u32 = 100_000;

/// In how many apps and windows days are deleted at a time, and at most how many days.
const PRUNED_WINDOWS: u32 = 50;
const PRUNED_DAYS: u32 = 200;

/// How many pages are reclaimed at a time.
const FREED_PAGES: u32 = 200;

/// Work that is done in slices.
#[derive(Debug)]
pub(super) enum Work {
    /// Rows of schema 1 become rows of this one.
    Convert,
    /// What can be read of another file is copied.
    Rescue(Rescue),
    /// Days before one are deleted.
    Prune(Prune),
    /// The space of deleted rows is reclaimed.
    Vacuum,
}

/// The table for rows of schema 1 that can't be converted.
const UNREADABLE: &str = "unreadable_1";

/// The remains of another file.
#[derive(Debug)]
pub(super) struct Rescue {
    source: Source,
    /// The file, if it has a name.
    path: Option<PathBuf>,
    /// See [`super::identity::Identity`]; dropped after the connection.
    _handle: Option<File>,
    tables: Vec<Table>,
    /// Rows that were read and could not be stored yet.
    pending: Vec<Row>,
    copied: usize,
    lost: usize,
}

#[derive(Debug)]
enum Source {
    /// To be opened.
    Closed,
    Connection(Connection),
}

/// A table that is copied, and the progress.
#[derive(Debug)]
struct Table {
    name: &'static str,
    /// Whether it is of this schema.
    is_packed: bool,
    next: i64,
    last: i64,
    hole: u32,
}

/// The progress of the deletion.
#[derive(Debug)]
pub(super) struct Prune {
    retention_days: u64,
    today: NaiveDate,
    /// The first day that is retained; `None` until it is known.
    first_kept: Option<NaiveDate>,
    /// The last app and window that were processed.
    after: (String, String),
    deleted: usize,
}

/// The outcome of a slice.
enum Slice {
    More,
    Done,
}

impl Store {
    /// Plans to delete the days that are further back than `retention_days` before `today`.
    pub fn plan_pruning(&mut self, retention_days: u64, today: NaiveDate) {
        self.work.retain(|work| !matches!(work, Work::Prune(_)));
        self.work.push_back(Work::Prune(Prune {
            retention_days,
            today,
            first_kept: None,
            after: Default::default(),
            deleted: 0,
        }));
    }

    /// Returns `true` if there is work to be done in slices.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Returns what the next slice does.
    #[must_use]
    pub fn next_operation(&self) -> Operation {
        match self.work.front() {
            Some(Work::Prune(_) | Work::Vacuum) => Operation::Delete,
            _ => Operation::Write,
        }
    }

    /// Does one slice of the pending work.
    ///
    /// # Errors
    ///
    /// It can't be done now; it remains pending.
    pub fn work(&mut self) -> Result<(), Error> {
        let Some(mut work) = self.work.pop_front() else {
            return Ok(());
        };
        let slice = match &mut work {
            Work::Convert => self.convert(),
            Work::Rescue(rescue) => self.rescue(rescue),
            Work::Prune(prune) => self.prune(prune),
            Work::Vacuum => self.vacuum(),
        };
        match slice {
            Ok(Slice::Done) => Ok(()),
            Ok(Slice::More) => {
                self.work.push_front(work);
                Ok(())
            }
            // Work for a file that is gone is obsolete.
            Err(error @ (Error::Damaged { .. } | Error::Replaced { .. })) => {
                if let Work::Rescue(_) = work {
                    self.work.push_back(work);
                }
                Err(error)
            }
            Err(error) => {
                self.work.push_front(work);
                Err(error)
            }
        }
    }

    fn convert(&mut self) -> Result<Slice, Error> {
        let slice = self.with(Operation::Write, |open| {
            if !open.is_converting {
                return Ok(Slice::Done);
            }
            let transaction = open.connection.transaction()?;
            let rows = {
                let mut statement = transaction.prepare_cached(&format!(
                    "SELECT {UNPACKED} FROM {OLD_TABLE} ORDER BY rowid LIMIT {CONVERTED}"
                ))?;
                rows::collect(&mut statement, [], |row| rows::packed(row, false))?
            };
            for (rowid, row) in &rows {
                match row {
                    Ok(row) => drop(insert(&transaction, row, "NOTHING")?),
                    Err(error) => {
                        tracing::error!(%error, table = UNREADABLE, "cannot convert an archived row, it is kept as it is");
                        keep_unreadable(&transaction, *rowid)?;
                    }
                }
                transaction
                    .prepare_cached(&format!("DELETE FROM {OLD_TABLE} WHERE rowid = ?1"))?
                    .execute([rowid])?;
            }
            transaction.commit()?;
            if !rows.is_empty() {
                return Ok(Slice::More);
            }
            schema::end_conversion(&mut open.connection)?;
            open.is_converting = false;
            Ok(Slice::Done)
        })?;
        if let Slice::Done = slice {
            self.work.push_back(Work::Vacuum);
            tracing::info!(schema = schema::SCHEMA_VERSION, "converted the archive");
        }
        Ok(slice)
    }

    fn rescue(&mut self, rescue: &mut Rescue) -> Result<Slice, Error> {
        let rows = rescue.next_rows().map_err(|source| Error::Failed {
            place: Place::File(rescue.path.clone().unwrap_or_default()),
            operation: Operation::Read,
            problem: describe(&source),
        })?;
        let Some(rows) = rows else {
            if let Some(path) = &rescue.path {
                let mut copied = path.clone().into_os_string();
                copied.push(COPIED_SUFFIX);
                // Otherwise it is copied once more after a restart, which changes nothing.
                let _ = std::fs::rename(path, copied);
            }
            let Rescue { copied, lost, .. } = rescue;
            let notice = self.notice.take();
            let notice = notice.unwrap_or_else(|| "an older archive was found".to_owned());
            tracing::warn!(copied, lost, "copied the readable days of an older archive");
            self.notice = Some(if *copied + *lost == 0 {
                format!("{notice}: no day in it could be read")
            } else {
                format!("{notice}: {copied} days were copied, {lost} could not be read")
            });
            self.version += 1;
            return Ok(Slice::Done);
        };
        if let Err(error) = self.insert_missing(&rows) {
            rescue.pending = rows;
            return Err(error);
        }
        rescue.copied += rows.len();
        Ok(Slice::More)
    }

    fn prune(&mut self, prune: &mut Prune) -> Result<Slice, Error> {
        let slice = self.with(Operation::Delete, |open| prune.slice(open))?;
        if let Slice::Done = slice
            && prune.deleted > 0
        {
            tracing::info!(days = prune.deleted, "deleted days beyond the retention");
            self.version += 1;
            self.work.push_back(Work::Vacuum);
        }
        Ok(slice)
    }

    fn vacuum(&mut self) -> Result<Slice, Error> {
        self.with(Operation::Delete, |open| {
            let free = |connection: &Connection| {
                connection.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0))
            };
            let before = free(&open.connection)?;
            let mut vacuum = open
                .connection
                .prepare(&format!("PRAGMA incremental_vacuum({FREED_PAGES})"))?;
            let mut pages = vacuum.query([])?;
            // It frees a page for every step.
            while pages.next()?.is_some() {}
            let after = free(&open.connection)?;
            // A file that was created without incremental vacuum keeps its space.
            Ok(if after == 0 || after >= before {
                Slice::Done
            } else {
                Slice::More
            })
        })
    }
}

/// Keeps a row of schema 1 as it is.
fn keep_unreadable(connection: &Connection, rowid: i64) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {UNREADABLE} AS SELECT * FROM {OLD_TABLE} WHERE 0;
         INSERT INTO {UNREADABLE} SELECT * FROM {OLD_TABLE} WHERE rowid = {rowid};"
    ))
}

impl Prune {
    fn slice(&mut self, open: &mut Open) -> rusqlite::Result<Slice> {
        let connection = &open.connection;
        let next_window = |after: &(String, String)| {
            let mut statement = connection.prepare_cached(
                "SELECT appid, window FROM portraits WHERE (appid, window) > (?1, ?2)
                 ORDER BY appid, window LIMIT 1",
            )?;
            let found = statement.query_row([&after.0, &after.1], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            });
            found.optional()
        };
        let Some(first_kept) = self.first_kept else {
            let mut newest: Option<NaiveDate> = None;
            let mut after = Default::default();
            while let Some(window) = next_window(&after)? {
                let mut statement = connection.prepare_cached(
                    "SELECT max(reference_date) FROM portraits WHERE appid = ?1 AND window = ?2",
                )?;
                let day = statement.query_row([&window.0, &window.1], |row| rows::date(row, 0))?;
                newest = newest.max(day);
                after = window;
            }
            let Some(newest) = newest else {
                return Ok(Slice::Done);
            };
            self.first_kept = Some(first_kept(self.retention_days, self.today, newest));
            return Ok(Slice::More);
        };
        for _ in 0..PRUNED_WINDOWS {
            let Some(window) = next_window(&self.after)? else {
                return Ok(Slice::Done);
            };
            let mut statement = connection.prepare_cached(
                "DELETE FROM portraits WHERE rowid IN (
                     SELECT rowid FROM portraits
                     WHERE appid = ?1 AND window = ?2 AND reference_date < ?3 LIMIT ?4)",
            )?;
            let deleted =
                statement.execute((&window.0, &window.1, first_kept.to_string(), PRUNED_DAYS))?;
            self.deleted += deleted;
            if deleted > 0 {
                return Ok(Slice::More);
            }
            self.after = window;
        }
        Ok(Slice::More)
    }
}

impl Rescue {
    /// Copies from a file.
    pub(super) fn of_file(path: PathBuf) -> Self {
        Self::of(Source::Closed, Some(path), None)
    }

    /// Copies from a file that has no name any more but is still open.
    pub(super) fn of_connection(connection: Connection, handle: Option<File>) -> Self {
        let mut rescue = Self::of(Source::Connection(connection), None, handle);
        rescue.find_tables();
        rescue
    }

    fn of(source: Source, path: Option<PathBuf>, handle: Option<File>) -> Self {
        Self {
            source,
            path,
            _handle: handle,
            tables: Vec::new(),
            pending: Vec::new(),
            copied: 0,
            lost: 0,
        }
    }

    /// Finds the tables; without any, nothing can be copied.
    fn find_tables(&mut self) {
        let Source::Connection(connection) = &self.source else {
            return;
        };
        for (name, is_packed) in [("portraits", true), (OLD_TABLE, false), ("answers", false)] {
            let is_table = connection.query_row(
                "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1",
                [name],
                |row| row.get::<_, bool>(0),
            );
            if !is_table.unwrap_or_default() {
                continue;
            }
            let last = connection.query_row(&format!("SELECT max(rowid) FROM {name}"), [], |row| {
                Ok(row.get::<_, Option<i64>>(0)?.unwrap_or_default())
            });
            self.tables.push(Table {
                name,
                is_packed,
                next: 1,
                last: last.unwrap_or(i64::MAX),
                hole: 0,
            });
        }
    }

    /// Returns some more rows, perhaps none; `None` if there are no more.
    fn next_rows(&mut self) -> rusqlite::Result<Option<Vec<Row>>> {
        if !self.pending.is_empty() {
            return Ok(Some(std::mem::take(&mut self.pending)));
        }
        if let (Source::Closed, Some(path)) = (&self.source, &self.path) {
            if !path.exists() {
                return Ok(None);
            }
            // With a log it must be opened for writing; without one, or if damaged, read-only.
            let open = |flags| Connection::open_with_flags(path, flags);
            let connection = open(OpenFlags::SQLITE_OPEN_READ_WRITE)
                .or_else(|_| open(OpenFlags::SQLITE_OPEN_READ_ONLY));
            self.source = Source::Connection(connection?);
            self.find_tables();
        }
        let Source::Connection(connection) = &self.source else {
            return Ok(None);
        };
        let is_unfinished =
            |table: &&mut Table| table.next <= table.last && table.hole < LONGEST_HOLE;
        let Some(table) = self.tables.iter_mut().find(is_unfinished) else {
            return Ok(None);
        };
        let mut copied = Vec::new();
        if table
            .read(connection, COPIED, &mut copied, &mut self.lost)
            .is_ok()
        {
            return Ok(Some(copied));
        }
        // Some of them are damaged: reading one by one loses only those.
        for _ in 0..PROBED {
            if table.next > table.last {
                break;
            }
            let next = table.next;
            if table
                .read(connection, 0, &mut copied, &mut self.lost)
                .is_err()
            {
                self.lost += 1;
                table.hole += 1;
                table.next = next + 1;
            }
        }
        Ok(Some(copied))
    }
}

impl Table {
    /// Reads rows from the next on, at most `limit` of them, or just the next row if that is 0.
    fn read(
        &mut self,
        connection: &Connection,
        limit: u32,
        copied: &mut Vec<Row>,
        lost: &mut usize,
    ) -> rusqlite::Result<()> {
        let columns = if self.is_packed { PACKED } else { UNPACKED };
        let name = self.name;
        let sql = if limit == 0 {
            format!("SELECT {columns} FROM {name} WHERE rowid = ?1")
        } else {
            format!("SELECT {columns} FROM {name} WHERE rowid >= ?1 ORDER BY rowid LIMIT {limit}")
        };
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([self.next])?;
        let mut found = 0;
        while let Some(row) = rows.next()? {
            let (rowid, row) = rows::packed(row, self.is_packed)?;
            // Damage may produce any rowid.
            self.next = self.next.max(rowid.saturating_add(1));
            self.hole = 0;
            found += 1;
            match row {
                Ok(row) => copied.push(row),
                Err(error) => {
                    tracing::error!(%error, "cannot copy an archived row");
                    *lost += 1;
                }
            }
        }
        if limit == 0 {
            if found == 0 {
                self.hole += 1;
                self.next += 1;
            }
        } else if found < limit {
            // There are no more.
            self.next = self.last.saturating_add(1);
            self.last = self.last.min(i64::MAX - 1);
        }
        Ok(())
    }
}
