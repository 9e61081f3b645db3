//! An archive, whichever engine it is in: the operations of `sqlite` and `postgres` under one name.
//!
//! Blocking, for one thread; a program that must not wait uses [`super::Archive`].

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;

use chrono::NaiveDate;

use super::error::{Error, Operation, Place};
use super::postgres::{self, Database};
use super::record::{Coverage, DayState, Key, Record, Restored, Row, Selection, UnreadDay};
use super::sharing::{Round, Sharing};
use super::sqlite;
use crate::calendar::{self, Clock};
use crate::portrait::{AppId, Window};

/// An archive that is read and written by one thread.
pub enum Store {
    /// One file.
    Sqlite(Box<sqlite::Store>),
    /// A database that several exporters may share.
    Postgres(Box<postgres::Store>),
}

/// Calls the same method of either engine.
macro_rules! either {
    ($store:expr, $engine:ident => $call:expr) => {
        match $store {
            Store::Sqlite($engine) => $call,
            Store::Postgres($engine) => $call,
        }
    };
}

impl Store {
    /// Names the archive in a directory, as the exporter that owns it; accesses no file yet. The clock
    /// names the files that are set aside.
    #[must_use]
    pub fn of_owner(directory: &Path, clock: Clock) -> Self {
        Self::Sqlite(Box::new(sqlite::Store::of_owner(directory, clock)))
    }

    /// Names an archive that an exporter may own at the same time: handling damage is left to the
    /// exporter.
    #[must_use]
    pub fn of_guest(directory: &Path, clock: Clock) -> Self {
        Self::Sqlite(Box::new(sqlite::Store::of_guest(directory, clock)))
    }

    /// Names the archive in a database; does not connect yet.
    ///
    /// # Errors
    ///
    /// The program has no resources left.
    pub fn of_database(database: Database, sharing: Sharing) -> Result<Self, Error> {
        let store = postgres::Store::new(database, sharing)?;
        Ok(Self::Postgres(Box::new(store)))
    }

    /// Returns where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        either!(self, store => store.place())
    }

    /// Returns the file, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(store) => Some(store.path()),
            Self::Postgres(_) => None,
        }
    }

    /// Returns how long leases and rounds last, if other exporters may use it.
    pub(super) fn sharing(&self) -> Option<Sharing> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.sharing),
        }
    }

    /// Opens it, or creates it if there is none.
    ///
    /// # Errors
    ///
    /// As of every method: a sentence for the operator. It may be called again.
    pub fn open(&mut self) -> Result<(), Error> {
        either!(self, store => store.open())
    }

    /// Returns `true` if it is open.
    pub(super) fn is_open(&self) -> bool {
        either!(self, store => store.is_open())
    }

    /// Reopens it before it is used again, after a failure in the middle of an operation.
    pub(super) fn recover(&mut self) {
        either!(self, store => store.recover());
    }

    /// Stores rows, all or none, durably, and returns their states as the archive now has them. The same
    /// day again replaces what was stored, except when it became known; a database, into which others
    /// write, keeps the answer that is newer, and counts figures that differ as a revision.
    ///
    /// # Errors
    ///
    /// None of them is stored in that case, and what was stored before is unchanged.
    pub fn upsert<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<Vec<DayState>, Error> {
        either!(self, store => store.upsert(rows))
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
        either!(self, store => store.insert_missing(rows))
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
        either!(self, store => store.update_state(key, digest, state))
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
        either!(self, store => store.restore(appid, window, limit, last_day))
    }

    /// Returns which days of an app and window are held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn coverage(&mut self, appid: &AppId, window: Window) -> Result<Coverage, Error> {
        either!(self, store => store.coverage(appid, window))
    }

    /// Returns up to `limit` days of an app and window that are held, beginning with `from`, the oldest
    /// first. Rows whose values are out of range, which [`Self::restore`] reports, are left out.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn history(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<UnreadDay>, Error> {
        either!(self, store => store.history(appid, window, from, limit))
    }

    /// Returns up to `limit` records of an app and window, beginning with `from`, the oldest first. Rows
    /// whose values are out of range, which [`Self::restore`] reports, are left out.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn records(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        either!(self, store => store.records(appid, window, from, limit))
    }

    /// Returns the answer of a day, if it is held.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn answer(&mut self, key: &Key) -> Result<Option<String>, Error> {
        either!(self, store => store.answer(key))
    }

    /// Returns how many records are selected.
    ///
    /// # Errors
    ///
    /// They can't be read now.
    pub fn count(&mut self, selection: &Selection) -> Result<u64, Error> {
        either!(self, store => store.count(selection))
    }

    /// Returns the first day that an exporter keeps which deletes days more than `retention_days` before
    /// `today`, once `newest` is archived as well.
    ///
    /// # Errors
    ///
    /// It can't be read now.
    pub fn first_day_kept(
        &mut self,
        retention_days: u64,
        today: NaiveDate,
        newest: NaiveDate,
    ) -> Result<NaiveDate, Error> {
        let held = either!(self, store => store.newest_day())?;
        let newest = held.map_or(newest, |held| held.max(newest));
        Ok(first_kept(retention_days, today, newest))
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
        each: impl FnMut(Record) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        either!(self, store => store.read(selection, each))
    }

    /// Plans to delete the days that are further back than `retention_days` before `today`.
    pub fn plan_pruning(&mut self, retention_days: u64, today: NaiveDate) {
        either!(self, store => store.plan_pruning(retention_days, today));
    }

    /// Returns `true` if there is work to be done in slices.
    #[must_use]
    pub fn has_work(&self) -> bool {
        either!(self, store => store.has_work())
    }

    /// Returns what the next slice does.
    pub(super) fn next_operation(&self) -> Operation {
        match self {
            Self::Sqlite(store) => store.next_operation(),
            Self::Postgres(_) => Operation::Delete,
        }
    }

    /// Does one slice of the pending work.
    ///
    /// # Errors
    ///
    /// It can't be done now; it remains pending.
    pub fn work(&mut self) -> Result<(), Error> {
        either!(self, store => store.work())
    }

    /// Returns a number that changes when days may have been added or removed by anything but the app's
    /// own task, except for those that [`Self::share`] returns.
    #[must_use]
    pub fn version(&self) -> u64 {
        either!(self, store => store.version())
    }

    /// Reports this exporter to those that share the archive, see [`super::Archive::share`].
    ///
    /// # Errors
    ///
    /// It can't be done now.
    pub fn share(&mut self, appids: &HashSet<AppId>, polled: &[AppId]) -> Result<Round, Error> {
        match self {
            Self::Sqlite(_) => Ok(Round::default()),
            Self::Postgres(store) => store.share(appids, polled),
        }
    }

    /// Releases the leases that this exporter holds; the others claim them in their next round.
    ///
    /// # Errors
    ///
    /// It can't be done now; the leases expire.
    pub fn release(&mut self) -> Result<(), Error> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(store) => store.release(),
        }
    }
}

/// Returns the first day that is retained if days more than `days` back are deleted, counted from
/// `today` or the day after the newest, whichever is earlier: a wrong clock must not empty the archive.
pub(super) fn first_kept(days: u64, today: NaiveDate, newest: NaiveDate) -> NaiveDate {
    let end = newest.succ_opt().unwrap_or(newest).min(today);
    calendar::days_before(end, days)
}
