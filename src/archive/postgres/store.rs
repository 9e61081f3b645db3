//! The connection and its queries, for one thread.
//!
//! Connects when it is first needed and again after a failure. Nothing here waits longer than
//! [`TIMEOUT`] for the database.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use chrono::{DateTime, NaiveDate, Utc};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, IsolationLevel};

use super::database::Database;
use super::failure::describe;
use super::rows::{self, Columns, RECORD, revisions};
use super::schema::{self, Schema};
use crate::archive::error::{Error, Operation, Place};
use crate::archive::record::{
    Coverage, DayState, Key, Record, Restored, Row, Selection, UnreadDay, UnreadText,
};
use crate::archive::sharing::Sharing;
use crate::archive::store::first_kept;
use crate::portrait::{AppId, Window};

/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was not used for this long is looked at before.
const IDLE: Duration = Duration::from_secs(1);

/// After a failure to connect the next attempt is this much later.
const PAUSE: Duration = Duration::from_secs(5);

/// How often the tables are looked for, as others may make them at the same time.
const MIGRATION_ATTEMPTS: usize = 5;

/// How many records are read at a time.
const PAGE: i64 = 200;

/// How many days are deleted at a time.
const PRUNED_DAYS: i64 = 1_000;

/// One database.
pub struct Store {
    database: Database,
    runtime: Runtime,
    client: Option<Client>,
    used_at: Instant,
    /// Since when the database can't be reached, and why, as last found.
    away: Option<(Instant, String)>,
    prune: Option<Prune>,
    version: u64,
    /// How long leases and rounds last.
    pub(in crate::archive) sharing: Sharing,
    /// Names this exporter among those that share the archive.
    pub(super) exporter: String,
    /// Changes before this time of the database are known.
    pub(super) changes_known_until: Option<DateTime<Utc>>,
    /// From when on leases of exporters that are gone are claimed; unknown since a round failed.
    pub(super) takes_over_from: Option<Instant>,
}

/// Days that are to be deleted.
struct Prune {
    retention_days: u64,
    today: NaiveDate,
    /// The first day that is retained; `None` until it is known.
    first_kept: Option<NaiveDate>,
    deleted: u64,
}

type SqlResult<T> = Result<T, tokio_postgres::Error>;

/// Why an operation failed.
enum Failure {
    /// A sentence for the operator.
    Problem(String),
    /// The tables can't be used.
    Unusable(Error),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Problem(describe(&error))
    }
}

impl Store {
    /// Names the archive in a database; does not connect yet.
    ///
    /// # Errors
    ///
    /// The program has no resources left.
    pub fn new(database: Database, sharing: Sharing) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Error::Failed {
            place: Place::Database(database.to_string()),
            operation: Operation::Open,
            problem: error.to_string(),
        })?;
        Ok(Self {
            database,
            runtime,
            client: None,
            used_at: Instant::now(),
            away: None,
            prune: None,
            version: 0,
            sharing,
            exporter: format!("{:016x}", fastrand::u64(..)),
            changes_known_until: None,
            takes_over_from: Some(Instant::now()),
        })
    }

    /// Returns where it is, for sentences.
    pub(in crate::archive) fn place(&self) -> Place {
        Place::Database(self.database.to_string())
    }

    /// Returns `true` if there is a connection.
    pub(in crate::archive) fn is_open(&self) -> bool {
        self.client.is_some()
    }

    /// Connects again before the next operation.
    pub(in crate::archive) fn recover(&mut self) {
        self.client = None;
    }

    /// Returns a number that changes when days were deleted.
    pub(in crate::archive) fn version(&self) -> u64 {
        self.version
    }

    /// Connects, and creates the tables if there are none.
    pub(in crate::archive) fn open(&mut self) -> Result<(), Error> {
        self.with(Operation::Open, async |_| Ok(()))
    }

    /// Stores rows in one statement, and returns their states as the table now has them.
    ///
    /// The table decides whether figures are the first of a day, the same or revised, as another exporter
    /// may have written the row meanwhile. An answer that is not newer changes nothing: it waited while the
    /// database was away, or it is written again, as the confirmation of the first time was lost.
    pub(in crate::archive) fn upsert<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<Vec<DayState>, Error> {
        let rows: Vec<&Row> = rows.into_iter().collect();
        let columns = Columns::new(rows.iter().copied());
        let exporter = self.exporter.clone();
        let written = self.with(Operation::Write, async |client| {
            if columns.is_empty() {
                return Ok(Vec::new());
            }
            let same = "portraits.digest IS NOT DISTINCT FROM excluded.digest";
            let newer = "excluded.answered_at > portraits.answered_at";
            let take = |column: &str, condition: &str| {
                format!("{column} = CASE WHEN {condition} THEN excluded.{column} ELSE portraits.{column} END")
            };
            let revised = format!("{newer} AND NOT {same}");
            let columns_of_answer = ["digest", "figures", "answer"].map(|column| take(column, &revised));
            let columns_of_change = ["changed_at", "recorded_by"].map(|column| take(column, newer));
            let sql = format!(
                r#"INSERT INTO portraits (appid, "window", reference_date, first_answered_at, answered_at, settled,
                       revisions, digest, figures, answer, changed_at, recorded_by)
                   SELECT given.*, now(), $11 FROM {given} ORDER BY appid, "window", reference_date
                   ON CONFLICT (appid, "window", reference_date) DO UPDATE SET
                       first_answered_at = LEAST(portraits.first_answered_at, excluded.first_answered_at),
                       answered_at = GREATEST(portraits.answered_at, excluded.answered_at),
                       settled = CASE WHEN {newer} THEN {same} ELSE portraits.settled END,
                       revisions = CASE WHEN {revised}
                           THEN GREATEST(portraits.revisions + 1, excluded.revisions) ELSE portraits.revisions END,
                       {}, {}
                   RETURNING appid, "window", reference_date, first_answered_at, answered_at, settled, revisions"#,
                columns_of_answer.join(", "),
                columns_of_change.join(", "),
                given = Columns::GIVEN,
            );
            let mut parameters = columns.parameters();
            parameters.push((&exporter, Type::TEXT));
            let found = client.query_typed(&sql, &parameters).await?;
            let read = |row| Ok((rows::key(row)?, rows::state(row, 3)?));
            found.iter().map(read).collect::<SqlResult<Vec<_>>>()
        })?;
        let state = |row: &&Row| {
            let mut written = written.iter();
            let found = written.find(|(key, _)| key.as_ref() == Some(&row.key));
            found.map_or(row.state, |(_, state)| *state)
        };
        Ok(rows.iter().map(state).collect())
    }

    /// Stores those rows whose day is not held yet, in one statement; returns how many.
    pub(in crate::archive) fn insert_missing<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a Row>,
    ) -> Result<usize, Error> {
        let columns = Columns::new(rows);
        let inserted = self.with(Operation::Write, async |client| {
            if columns.is_empty() {
                return Ok(0);
            }
            let sql = format!(
                r#"INSERT INTO portraits (appid, "window", reference_date, first_answered_at, answered_at, settled,
                       revisions, digest, figures, answer, changed_at)
                   SELECT given.*, now() FROM {} ORDER BY appid, "window", reference_date
                   ON CONFLICT (appid, "window", reference_date) DO NOTHING"#,
                Columns::GIVEN
            );
            client.execute_typed(&sql, &columns.parameters()).await
        })?;
        Ok(usize::try_from(inserted).unwrap_or(usize::MAX))
    }

    /// Notes that figures with this digest arrived again; returns `false` if they are not held.
    pub(in crate::archive) fn update_state(
        &mut self,
        key: &Key,
        digest: u64,
        state: &DayState,
    ) -> Result<bool, Error> {
        let exporter = self.exporter.clone();
        let updated = self.with(Operation::Write, async |client| {
            let sql = r#"UPDATE portraits SET
                    answered_at = GREATEST(answered_at, $4),
                    settled = CASE WHEN $4 > answered_at THEN $5 ELSE settled END,
                    revisions = GREATEST(revisions, $6),
                    changed_at = CASE WHEN $4 > answered_at THEN now() ELSE changed_at END,
                    recorded_by = CASE WHEN $4 > answered_at THEN $8 ELSE recorded_by END
                WHERE appid = $1 AND "window" = $2 AND reference_date = $3 AND digest = $7"#;
            let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
                (&key.appid.as_str(), Type::TEXT),
                (&key.window.as_str(), Type::TEXT),
                (&key.reference_date, Type::DATE),
                (&state.answered_at, Type::TIMESTAMPTZ),
                (&state.settled, Type::BOOL),
                (&revisions(*state), Type::INT4),
                (&digest.cast_signed(), Type::INT8),
                (&exporter, Type::TEXT),
            ];
            client.execute_typed(sql, &parameters).await
        })?;
        Ok(updated > 0)
    }

    /// Returns what is held of an app and window, see [`super::super::Store::restore`].
    pub(in crate::archive) fn restore(
        &mut self,
        appid: &AppId,
        window: Window,
        limit: usize,
        last_day: NaiveDate,
    ) -> Result<Restored, Error> {
        let coverage = self.coverage(appid, window)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (days, newest) = self.with(Operation::Read, async |client| {
            let of_app = [(&appid.as_str() as _, Type::TEXT), (&window.as_str() as _, Type::TEXT)];
            let [appid, window] = of_app;
            let sql = format!(
                r#"SELECT {DAY} FROM portraits WHERE appid = $1 AND "window" = $2 AND reference_date <= $3
                   ORDER BY reference_date DESC LIMIT $4"#
            );
            let parameters = [appid.clone(), window.clone(), (&last_day as _, Type::DATE), (&limit as _, Type::INT8)];
            let found = client.query_typed(&sql, &parameters).await?;
            let days = found.iter().map(unread_day).collect::<SqlResult<Vec<_>>>()?;
            let Some(day) = days.first().map(|day| day.reference_date) else {
                return Ok((days, None));
            };
            let parameters = [appid, window, (&day as _, Type::DATE)];
            let newest = client.query_typed_opt(ANSWER, &parameters).await?;
            let newest = newest.map(|row| row.try_get::<_, String>(0)).transpose()?;
            Ok((days, newest.map(|answer| (day, answer))))
        })?;
        let days: Vec<_> = days.into_iter().map(|day| day.read(window)).collect();
        for day in days.iter().filter(|day| day.figures.is_none()) {
            let day = day.reference_date;
            tracing::error!(%appid, %window, %day, "cannot read an archived response");
        }
        let is_readable = days.first().is_some_and(|day| day.figures.is_some());
        Ok(Restored {
            coverage,
            days,
            newest: newest.filter(|_| is_readable),
        })
    }

    /// Returns which days of an app and window are held.
    pub(in crate::archive) fn coverage(
        &mut self,
        appid: &AppId,
        window: Window,
    ) -> Result<Coverage, Error> {
        self.with(Operation::Read, async |client| {
            let sql = r#"SELECT reference_date, revisions FROM portraits WHERE appid = $1 AND "window" = $2
                ORDER BY reference_date"#;
            let parameters: [(&(dyn ToSql + Sync), Type); 2] =
                [(&appid.as_str(), Type::TEXT), (&window.as_str(), Type::TEXT)];
            let found = client.query_typed(sql, &parameters).await?;
            let read = |row: &tokio_postgres::Row| {
                let revisions = row.try_get::<_, i32>(1)?;
                Ok((row.try_get(0)?, revisions.try_into().unwrap_or_default()))
            };
            found.iter().map(read).collect()
        })
    }

    /// Returns up to `limit` days of an app and window, beginning with `from`, the oldest first.
    pub(in crate::archive) fn history(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<UnreadDay>, Error> {
        let found = self.days_from(DAY, appid, window, from, limit)?;
        let read = found.iter().map(unread_day).collect::<SqlResult<_>>();
        read.map_err(|error| self.failed(Operation::Read, describe(&error)))
    }

    /// Returns up to `limit` records of an app and window, beginning with `from`, the oldest first.
    pub(in crate::archive) fn records(
        &mut self,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<Record>, Error> {
        let found = self.days_from(RECORD, appid, window, from, limit)?;
        let read = found
            .iter()
            .map(rows::record)
            .collect::<SqlResult<Vec<_>>>();
        let records = read.map_err(|error| self.failed(Operation::Read, describe(&error)))?;
        Ok(records.into_iter().flatten().collect())
    }

    fn days_from(
        &mut self,
        columns: &str,
        appid: &AppId,
        window: Window,
        from: NaiveDate,
        limit: usize,
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let from = from.max(earliest());
        self.with(Operation::Read, async |client| {
            let sql = format!(
                r#"SELECT {columns} FROM portraits WHERE appid = $1 AND "window" = $2 AND reference_date >= $3
                   ORDER BY reference_date LIMIT $4"#
            );
            let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
                (&appid.as_str(), Type::TEXT),
                (&window.as_str(), Type::TEXT),
                (&from, Type::DATE),
                (&limit, Type::INT8),
            ];
            client.query_typed(&sql, &parameters).await
        })
    }

    /// Returns the answer of a day, if it is held.
    pub(in crate::archive) fn answer(&mut self, key: &Key) -> Result<Option<String>, Error> {
        self.with(Operation::Read, async |client| {
            let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
                (&key.appid.as_str(), Type::TEXT),
                (&key.window.as_str(), Type::TEXT),
                (&key.reference_date, Type::DATE),
            ];
            let found = client.query_typed_opt(ANSWER, &parameters).await?;
            found.map(|row| row.try_get(0)).transpose()
        })
    }

    /// Returns the newest day of all apps and windows.
    pub(in crate::archive) fn newest_day(&mut self) -> Result<Option<NaiveDate>, Error> {
        self.with(Operation::Read, newest_day)
    }

    /// Returns how many records are selected.
    pub(in crate::archive) fn count(&mut self, selection: &Selection) -> Result<u64, Error> {
        let selected = Selected::new(selection);
        let count: i64 = self.with(Operation::Read, async |client| {
            let sql = format!(
                "SELECT count(*) FROM portraits WHERE {}",
                Selected::CONDITION
            );
            let row = client.query_typed_one(&sql, &selected.parameters()).await?;
            row.try_get(0)
        })?;
        Ok(count.unsigned_abs())
    }

    /// Passes on the selected records, see [`super::super::Store::read`].
    pub(in crate::archive) fn read<B>(
        &mut self,
        selection: &Selection,
        mut each: impl FnMut(Record) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        let selected = Selected::new(selection);
        self.connect_if_needed()?;
        let place = self.place();
        let failed = |problem| Error::Failed {
            place: place.clone(),
            operation: Operation::Read,
            problem,
        };
        let Some(client) = &mut self.client else {
            return Err(Error::Closed);
        };
        let end = self.runtime.block_on(async {
            // One transaction sees the records of one moment.
            let transaction = client
                .build_transaction()
                .isolation_level(IsolationLevel::RepeatableRead)
                .read_only(true)
                .start();
            let transaction = timeout(TIMEOUT, transaction).await;
            let transaction = transaction.map_err(|_| failed(too_slow()))?;
            let transaction = transaction.map_err(|error| failed(describe(&error)))?;
            let sql = format!(
                r#"SELECT {RECORD} FROM portraits WHERE {} AND (appid, "window", reference_date) > ($6, $7, $8)
                   ORDER BY appid, "window", reference_date LIMIT $9"#,
                Selected::CONDITION
            );
            let mut after = (String::new(), String::new(), NaiveDate::default());
            loop {
                let mut parameters = selected.parameters();
                parameters.extend([
                    (&after.0 as &(dyn ToSql + Sync), Type::TEXT),
                    (&after.1, Type::TEXT),
                    (&after.2, Type::DATE),
                    (&PAGE, Type::INT8),
                ]);
                let page = timeout(TIMEOUT, transaction.query_typed(&sql, &parameters)).await;
                let page = page.map_err(|_| failed(too_slow()))?;
                let page = page.map_err(|error| failed(describe(&error)))?;
                let Some(last) = page.last() else {
                    return Ok(ControlFlow::Continue(()));
                };
                let key = || Ok((last.try_get(0)?, last.try_get(1)?, last.try_get(2)?));
                after = key().map_err(|error: tokio_postgres::Error| failed(describe(&error)))?;
                for row in &page {
                    let record = rows::record(row).map_err(|error| failed(describe(&error)))?;
                    let Some(record) = record else {
                        tracing::error!("cannot read an archived row, its values are out of range");
                        continue;
                    };
                    if let ControlFlow::Break(end) = each(record) {
                        return Ok(ControlFlow::Break(end));
                    }
                }
            }
        });
        if end.is_err() {
            self.client = None;
        }
        end
    }

    /// Plans to delete the days that are further back than `retention_days` before `today`.
    pub(in crate::archive) fn plan_pruning(&mut self, retention_days: u64, today: NaiveDate) {
        self.prune = Some(Prune {
            retention_days,
            today,
            first_kept: None,
            deleted: 0,
        });
    }

    /// Returns `true` if there are days to be deleted.
    pub(in crate::archive) fn has_work(&self) -> bool {
        self.prune.is_some()
    }

    /// Deletes some days; others that share the archive may do the same at the same time.
    pub(in crate::archive) fn work(&mut self) -> Result<(), Error> {
        let Some(mut prune) = self.prune.take() else {
            return Ok(());
        };
        let (planned, retention_days, today) =
            (prune.first_kept, prune.retention_days, prune.today);
        let slice = self.with(Operation::Delete, async |client| {
            let first_kept = match planned {
                Some(first_kept) => first_kept,
                None => match newest_day(client).await? {
                    Some(newest) => first_kept(retention_days, today, newest),
                    None => return Ok((earliest(), 0, true)),
                },
            };
            let first = [(&first_kept as &(dyn ToSql + Sync), Type::DATE)];
            let [day] = first.clone();
            // Others delete at the same time.
            let sql = r#"DELETE FROM portraits WHERE (appid, "window", reference_date) IN (
                SELECT appid, "window", reference_date FROM portraits WHERE reference_date < $1
                LIMIT $2 FOR UPDATE SKIP LOCKED)"#;
            let deleted = client
                .execute_typed(sql, &[day, (&PRUNED_DAYS, Type::INT8)])
                .await?;
            let sql = "SELECT EXISTS (SELECT 1 FROM portraits WHERE reference_date < $1)";
            let has_more: bool = client.query_typed_one(sql, &first).await?.try_get(0)?;
            Ok((first_kept, deleted, !has_more))
        });
        let is_last = match &slice {
            Ok((first_kept, deleted, is_last)) => {
                prune.first_kept = Some(*first_kept);
                prune.deleted += deleted;
                *is_last
            }
            Err(_) => false,
        };
        if is_last {
            if prune.deleted > 0 {
                tracing::info!(days = prune.deleted, "deleted days beyond the retention");
            }
            // Another exporter may have deleted them.
            self.version += 1;
        } else {
            self.prune = Some(prune);
        }
        slice.map(drop)
    }

    /// Runs an operation; connects if necessary, and again if the connection is found broken.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a closure that is written where it is passed"
    )]
    pub(super) fn with<T>(
        &mut self,
        operation: Operation,
        action: impl AsyncFn(&Client) -> SqlResult<T>,
    ) -> Result<T, Error> {
        let mut is_retry = false;
        loop {
            self.connect_if_needed()?;
            let Some(client) = &self.client else {
                return Err(Error::Closed);
            };
            let action = async { timeout(TIMEOUT, action(client)).await };
            match self.runtime.block_on(action) {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) if is_lost(&error) => {
                    self.client = None;
                    if std::mem::replace(&mut is_retry, true) {
                        return Err(self.failed(operation, describe(&error)));
                    }
                }
                Ok(Err(error)) => return Err(self.failed(operation, describe(&error))),
                Err(_) => return Err(self.is_away(too_slow())),
            }
        }
    }

    fn connect_if_needed(&mut self) -> Result<(), Error> {
        if self.used_at.elapsed() >= IDLE {
            // It is noticed here that the server has closed the connection meanwhile.
            let look = async { tokio::time::sleep(Duration::from_millis(1)).await };
            self.runtime.block_on(look);
        }
        self.used_at = Instant::now();
        let is_open = |client: &Client| !client.is_closed();
        if self.client.as_ref().is_some_and(is_open) {
            return Ok(());
        }
        self.client = None;
        if let Some((since, problem)) = &self.away
            && since.elapsed() < PAUSE
        {
            return Err(self.failed(Operation::Connect, problem.clone()));
        }
        match self.runtime.block_on(connect(&self.database)) {
            Ok(client) => {
                self.client = Some(client);
                self.away = None;
                Ok(())
            }
            Err(Failure::Unusable(error)) => Err(error),
            Err(Failure::Problem(problem)) => Err(self.is_away(problem)),
        }
    }

    /// Remembers that the database can't be reached, so that those who wait need not wait for each other.
    fn is_away(&mut self, problem: String) -> Error {
        self.client = None;
        self.away = Some((Instant::now(), problem.clone()));
        self.failed(Operation::Connect, problem)
    }

    fn failed(&self, operation: Operation, problem: String) -> Error {
        Error::Failed {
            place: self.place(),
            operation,
            problem,
        }
    }
}

/// Connects, and brings the tables up to date.
async fn connect(database: &Database) -> Result<Client, Failure> {
    let connected = timeout(TIMEOUT, database.connect()).await;
    let connected = connected.unwrap_or_else(|_| Err(too_slow()));
    let mut client = connected.map_err(Failure::Problem)?;
    let mut attempts = 1..=MIGRATION_ATTEMPTS;
    loop {
        let attempt = attempts.next();
        let Ok(migrated) = timeout(TIMEOUT, schema::migrate(&mut client)).await else {
            return Err(Failure::Problem(too_slow()));
        };
        let place = || Place::Database(database.to_string());
        match migrated {
            Ok(Schema::Ready) => return Ok(client),
            Ok(Schema::Foreign) => {
                return Err(Failure::Unusable(Error::Foreign { place: place() }));
            }
            Ok(Schema::Other(found)) => {
                let (place, found, known) = (place(), found.into(), schema::VERSION.into());
                return Err(Failure::Unusable(if found > known {
                    Error::Newer {
                        place,
                        found,
                        known,
                    }
                } else {
                    Error::UnknownSchema { place, found }
                }));
            }
            Err(error) if attempt.is_some() && is_made_by_another(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns `true` if another connection may succeed: this one is broken, or its server shuts down or has become
/// a replica.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(|code| {
        *code == SqlState::READ_ONLY_SQL_TRANSACTION || code.code().starts_with("57P")
    })
}

/// Returns `true` if another exporter makes the tables at the same time.
fn is_made_by_another(error: &tokio_postgres::Error) -> bool {
    let codes = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ];
    error.code().is_some_and(|code| codes.contains(code))
}

fn too_slow() -> String {
    format!("the database takes longer than {} s", TIMEOUT.as_secs())
}

async fn newest_day(client: &Client) -> SqlResult<Option<NaiveDate>> {
    let sql = "SELECT max(reference_date) FROM portraits";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// Returns a day before all that there may be; PostgreSQL has none before 4713 BC.
fn earliest() -> NaiveDate {
    NaiveDate::from_ymd_opt(0, 1, 1).unwrap_or_default()
}

/// The columns that [`unread_day`] reads.
const DAY: &str =
    "reference_date, first_answered_at, answered_at, settled, revisions, digest, figures";

const ANSWER: &str =
    r#"SELECT answer FROM portraits WHERE appid = $1 AND "window" = $2 AND reference_date = $3"#;

fn unread_day(row: &tokio_postgres::Row) -> SqlResult<UnreadDay> {
    Ok(UnreadDay {
        reference_date: row.try_get(0)?,
        state: rows::state(row, 1)?,
        digest: row.try_get::<_, Option<i64>>(5)?.map(i64::cast_unsigned),
        text: UnreadText::Figures(row.try_get(6)?),
    })
}

/// A selection as parameters.
struct Selected {
    appids: Vec<String>,
    windows: Vec<&'static str>,
    from: NaiveDate,
    to: NaiveDate,
    lead: i64,
}

impl Selected {
    /// Of the parameters `$1` to `$5`.
    const CONDITION: &str = r#"(cardinality($1) = 0 OR appid = ANY($1))
        AND (cardinality($2) = 0 OR "window" = ANY($2)) AND reference_date <= $4
        AND reference_date > coalesce((
            SELECT earlier.reference_date FROM portraits AS earlier
            WHERE earlier.appid = portraits.appid AND earlier."window" = portraits."window"
                AND earlier.reference_date < $3
            ORDER BY earlier.reference_date DESC LIMIT 1 OFFSET $5), '-infinity')"#;

    fn new(selection: &Selection) -> Self {
        Self {
            appids: selection.appids.iter().map(AppId::to_string).collect(),
            windows: selection
                .windows
                .iter()
                .map(|window| window.as_str())
                .collect(),
            from: selection.from.unwrap_or_else(earliest),
            to: selection.to.unwrap_or(NaiveDate::MAX),
            lead: selection.lead.try_into().unwrap_or(i64::MAX),
        }
    }

    fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        vec![
            (&self.appids, Type::TEXT_ARRAY),
            (&self.windows, Type::TEXT_ARRAY),
            (&self.from, Type::DATE),
            (&self.to, Type::DATE),
            (&self.lead, Type::INT8),
        ]
    }
}
