//! A private database that collects the days of an import before any of them is stored.
//!
//! Its file has no name, so that nothing remains of it however the program ends. It has the tables of
//! the archive, so that the archive grows by about its size. Does not access the archive.

use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use rusqlite::Connection;

use super::rows::{self, PACKED};
use super::schema;
use super::store::insert;
use crate::archive::error::{Error, describe};
use crate::archive::record::{Record, Row};
use crate::archive::space;

/// A batch ends after so many rows, or so many bytes.
const BATCH_ROWS: usize = 64;
const BATCH_BYTES: usize = 4 << 20;

/// The days of an import, each of them once. Memory does not grow with their number.
#[derive(Debug)]
pub struct Staging {
    connection: Connection,
    directory: PathBuf,
}

impl Staging {
    /// Creates an empty one in the archive's directory, as a container may have no other directory to
    /// write to; where that is read-only, in the system's temporary directory.
    ///
    /// # Errors
    ///
    /// Neither can be written.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        let mut directory = space::existing(directory).to_owned();
        let file = tempfile::NamedTempFile::new_in(&directory).or_else(|_| {
            directory = std::env::temp_dir();
            tempfile::NamedTempFile::new_in(&directory)
        });
        let file = file.map_err(|error| Error::Staging {
            directory: directory.clone(),
            problem: format!("{error}; make it writable for this user"),
        })?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(file.path())?;
            // Nothing is ever read again after a failure, so that no journal is needed. The transaction
            // never ends: what exceeds the cache is written to the file meanwhile.
            connection.execute_batch(
                "PRAGMA page_size = 1024; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
                 PRAGMA locking_mode = EXCLUSIVE;",
            )?;
            connection.execute_batch(schema::TABLE)?;
            connection.execute_batch("BEGIN")?;
            Ok(connection)
        };
        let connection = open().map_err(|error| failed(&directory, &error))?;
        // Fails only if it is gone already.
        let _ = file.close();
        Ok(Self {
            connection,
            directory,
        })
    }

    /// Returns the directory whose space it uses.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Adds a day; the same day again replaces all of it. Returns roughly how many bytes it takes.
    ///
    /// # Errors
    ///
    /// It can't be written, for example as the disk is full. The staging can't be used any more.
    pub fn put(&mut self, record: &Record) -> Result<usize, Error> {
        let row = Row::from(record);
        let conflict = "UPDATE SET answer = excluded.answer, first_answered_at = excluded.first_answered_at,
             answered_at = excluded.answered_at, settled = excluded.settled, revisions = excluded.revisions,
             size = excluded.size, digest = excluded.digest, figures = excluded.figures";
        insert(&self.connection, &row, conflict)
            .map_err(|error| failed(&self.directory, &error))?;
        Ok(row.memory())
    }

    /// Returns how many days there are.
    ///
    /// # Errors
    ///
    /// As of every method: it can't be read.
    pub fn len(&self) -> Result<u64, Error> {
        self.number("SELECT count(*) FROM portraits")
    }

    /// Returns `true` if there is no day.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Returns how many apps there are.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn apps(&self) -> Result<u64, Error> {
        self.number("SELECT count(DISTINCT appid) FROM portraits")
    }

    /// Returns its size in bytes, by about which the archive grows.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn bytes(&self) -> Result<u64, Error> {
        Ok(self.number("PRAGMA page_count")? * self.number("PRAGMA page_size")?)
    }

    /// Returns the newest reference date, if there is any day.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn newest(&self) -> Result<Option<NaiveDate>, Error> {
        let query = "SELECT max(reference_date) FROM portraits";
        let found = self
            .connection
            .query_row(query, [], |row| rows::date(row, 0));
        found.map_err(|error| failed(&self.directory, &error))
    }

    /// Returns how many days are before `first_kept`.
    ///
    /// # Errors
    ///
    /// It can't be read.
    pub fn older_than(&self, first_kept: NaiveDate) -> Result<u64, Error> {
        // The days of an import have four digits in their year, so that they sort as text.
        let first_kept = first_kept.max(NaiveDate::from_ymd_opt(0, 1, 1).unwrap_or(first_kept));
        self.number(&format!(
            "SELECT count(*) FROM portraits WHERE reference_date < '{first_kept}'"
        ))
    }

    /// Passes on all days in batches that are to be stored at once.
    ///
    /// # Errors
    ///
    /// They can't be read to the end, or `each` failed.
    pub fn batches<E: From<Error>>(
        &self,
        mut each: impl FnMut(&[Row]) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| failed(&self.directory, &error);
        let sql = format!("SELECT {PACKED} FROM portraits ORDER BY rowid");
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut found = statement.query([]).map_err(failed)?;
        let mut batch: Vec<Row> = Vec::new();
        let mut bytes = 0;
        while let Some(row) = found.next().map_err(failed)? {
            let (_, row) = rows::packed(row, true).map_err(failed)?;
            let row = row.map_err(|error| Error::Staging {
                directory: self.directory.clone(),
                problem: error.to_string(),
            })?;
            bytes += row.memory();
            batch.push(row);
            if batch.len() >= BATCH_ROWS || bytes >= BATCH_BYTES {
                each(&batch)?;
                batch.clear();
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            each(&batch)?;
        }
        Ok(())
    }

    fn number(&self, query: &str) -> Result<u64, Error> {
        let found = self
            .connection
            .query_row(query, [], |row| row.get::<_, i64>(0));
        let found = found.map_err(|error| failed(&self.directory, &error))?;
        Ok(u64::try_from(found).unwrap_or_default())
    }
}

fn failed(directory: &Path, error: &rusqlite::Error) -> Error {
    Error::Staging {
        directory: directory.to_owned(),
        problem: describe(error),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::archive::record::{DayState, Key};
    use crate::calendar;
    use crate::portrait::Window;

    fn day() -> NaiveDate {
        "2026-11-21".parse().unwrap()
    }

    fn record(days_ago: u64, answered_at: &str, answer: &str) -> Record {
        let answered_at: DateTime<Utc> = answered_at.parse().unwrap();
        Record {
            key: Key {
                appid: "wx0123456789abcdef".parse().unwrap(),
                window: Window::OneDay,
                reference_date: calendar::days_before(day(), days_ago),
            },
            state: DayState {
                first_answered_at: answered_at,
                answered_at,
                settled: false,
                revisions: 0,
            },
            answer: answer.to_owned(),
        }
    }

    fn batches(staging: &Staging) -> Vec<Vec<Row>> {
        let mut batches = Vec::new();
        let each = |rows: &[Row]| {
            batches.push(rows.to_vec());
            Ok::<(), Error>(())
        };
        staging.batches(each).unwrap();
        batches
    }

    #[test]
    fn the_last_answer_of_a_day_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mut staging = Staging::create(directory.path()).unwrap();
        assert_eq!(staging.newest().unwrap(), None);
        let last = record(0, "2026-11-22T02:00:00Z", "{}");
        for record in [
            &record(0, "2026-11-22T08:00:00Z", "{\"a\":1}"),
            &record(1, "2026-11-22T02:00:00Z", "{}"),
            &last,
        ] {
            staging.put(record).unwrap();
        }
        assert_eq!((staging.len().unwrap(), staging.apps().unwrap()), (2, 1));
        assert_eq!(staging.newest().unwrap(), Some(day()));
        assert_eq!(staging.older_than(day()).unwrap(), 1);
        assert_eq!(staging.older_than(NaiveDate::MIN).unwrap(), 0);
        assert_eq!(batches(&staging)[0][0], Row::from(&last));
    }

    #[test]
    fn a_batch_is_bounded_in_rows_and_in_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let mut staging = Staging::create(directory.path()).unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for days_ago in 0..100 {
            let length = if days_ago < 10 { 1_000_000 } else { 10 };
            let noise: String = std::iter::repeat_with(|| random.alphanumeric())
                .take(length)
                .collect();
            let record = record(days_ago, "2026-11-22T02:00:00Z", &noise);
            staging.put(&record).unwrap();
        }
        let sizes: Vec<usize> = batches(&staging).iter().map(Vec::len).collect();
        assert!(
            sizes[0] < 10 && sizes[1..].contains(&BATCH_ROWS),
            "{sizes:?}"
        );
        assert_eq!(sizes.iter().sum::<usize>(), 100);
        assert!(staging.bytes().unwrap() > 5_000_000);
    }

    #[test]
    fn it_leaves_no_file_and_does_without_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let mut staging = Staging::create(&directory.path().join("yet/to/be/created")).unwrap();
        assert_eq!(staging.directory(), directory.path());
        staging
            .put(&record(0, "2026-11-22T02:00:00Z", "{}"))
            .unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        // No file can be created there.
        let elsewhere = Staging::create(Path::new("/proc")).unwrap();
        assert_eq!(elsewhere.directory(), std::env::temp_dir());
    }
}
