//! The leases of the exporters that share the archive, and what the others have changed.
//!
//! A lease lasts as long as its holder is seen. Who claims one of a holder that is gone writes when it did,
//! so that of two that claim it at the same time one finds it claimed.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::rows;
use super::store::Store;
use crate::archive::error::{Error, Operation};
use crate::archive::sharing::{ChangedDay, Lease, Round};
use crate::portrait::AppId;

/// Changes are read again for this long, as a statement may take a while to end.
const OVERLAP: TimeDelta = TimeDelta::seconds(30);

/// After a longer time without a round everything is read again instead, and so it is where more has changed.
const LONGEST_GAP: TimeDelta = TimeDelta::minutes(5);
const MOST_CHANGES: i64 = 5_000;

/// Exporters that were not seen for this long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// After a round that failed, the others get this many rounds to report themselves: while the database was away,
/// nobody was seen.
const PATIENCE: u32 = 2;

/// Longer than any exporter is away.
const EVER: Duration = Duration::from_hours(24 * 365);

type SqlResult<T> = Result<T, tokio_postgres::Error>;

/// The condition that nobody holds a lease; `$3` is how long a holder may be unseen, in seconds.
const FREE: &str = "(leases.holder IS NULL OR leases.claimed_at <= now() - make_interval(secs => $3)
    AND NOT EXISTS (SELECT 1 FROM portrait_exporters AS exporters
        WHERE exporters.id = leases.holder AND exporters.seen_at > now() - make_interval(secs => $3)))";

impl Store {
    /// Reports this exporter, claims free leases of these apps, releases those of others, and returns all
    /// leases and what changed.
    pub(in crate::archive) fn share(
        &mut self,
        appids: &HashSet<AppId>,
        polled: &[AppId],
    ) -> Result<Round, Error> {
        let exporter = self.exporter.clone();
        let patience = PATIENCE * self.sharing.round;
        // A round that fails forgets it.
        let takes_over_from = self.takes_over_from.take();
        let takes_over_from = takes_over_from.unwrap_or_else(|| Instant::now() + patience);
        let lease = if takes_over_from <= Instant::now() {
            self.sharing.lease
        } else {
            EVER
        };
        let lease = lease.as_secs_f64();
        let known_until = self.changes_known_until;
        let names: Vec<&str> = appids.iter().map(AppId::as_str).collect();
        let polled: Vec<&str> = polled.iter().map(AppId::as_str).collect();
        let (now, leases, changed) = self.with(Operation::Share, async |client| {
            let exporters = Exporters {
                client,
                id: &exporter,
                appids: &names,
                lease,
            };
            let now = exporters.report().await?;
            exporters.release_others().await?;
            if !polled.is_empty() {
                exporters.note_polled(&polled).await?;
            }
            let mut leases = exporters.leases().await?;
            if leases.len() < names.len() || leases.iter().any(|(_, _, is_free)| *is_free) {
                exporters.claim().await?;
                leases = exporters.leases().await?;
            }
            // The clock of another server may be behind.
            let known_until = known_until.map(|time| time.min(now));
            let changed = match known_until.filter(|time| now - time <= LONGEST_GAP) {
                Some(time) => exporters.changed(time - OVERLAP).await?,
                None => None,
            };
            Ok((now, leases, changed))
        })?;
        self.changes_known_until = Some(now);
        self.takes_over_from = Some(takes_over_from);
        let leases: HashMap<AppId, Lease> = leases
            .into_iter()
            .filter_map(|(appid, lease, _)| Some((appid.parse().ok()?, lease)))
            .collect();
        Ok(Round { leases, changed })
    }

    /// Releases everything that this exporter holds.
    pub(in crate::archive) fn release(&mut self) -> Result<(), Error> {
        let exporter = self.exporter.clone();
        let lease = self.sharing.lease.as_secs_f64();
        self.with(Operation::Share, async |client| {
            let exporters = Exporters {
                client,
                id: &exporter,
                appids: &[],
                lease,
            };
            exporters.release_others().await?;
            let id = [(&exporter as &(dyn ToSql + Sync), Type::TEXT)];
            let sql = "DELETE FROM portrait_exporters WHERE id = $1";
            client.execute_typed(sql, &id).await.map(drop)
        })
    }
}

/// The tables of the exporters, as one of them uses them.
struct Exporters<'a> {
    client: &'a Client,
    /// Names the exporter.
    id: &'a str,
    /// Its apps.
    appids: &'a [&'a str],
    /// How long a holder may be unseen, in seconds.
    lease: f64,
}

impl Exporters<'_> {
    /// Notes that this exporter is alive; returns the time of the database.
    async fn report(&self) -> SqlResult<DateTime<Utc>> {
        let sql = "INSERT INTO portrait_exporters (id, seen_at) VALUES ($1, now())
            ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at RETURNING seen_at";
        let id = [(&self.id as &(dyn ToSql + Sync), Type::TEXT)];
        self.client.query_typed_one(sql, &id).await?.try_get(0)
    }

    /// Releases the leases of other apps than its own.
    async fn release_others(&self) -> SqlResult<()> {
        let sql =
            "UPDATE portrait_leases SET holder = NULL WHERE holder = $2 AND NOT appid = ANY($1)";
        let parameters = &self.parameters()[..2];
        self.client.execute_typed(sql, parameters).await.map(drop)
    }

    /// Notes that these apps were polled.
    async fn note_polled(&self, appids: &[&str]) -> SqlResult<()> {
        let sql = "UPDATE portrait_leases SET polled = true WHERE appid = ANY($1) AND NOT polled";
        let appids = [(&appids as &(dyn ToSql + Sync), Type::TEXT_ARRAY)];
        self.client.execute_typed(sql, &appids).await.map(drop)
    }

    /// Returns the leases of its apps, and whether they are free.
    async fn leases(&self) -> SqlResult<Vec<(String, Lease, bool)>> {
        let sql = format!(
            "SELECT appid, holder IS NOT DISTINCT FROM $2, polled, {FREE} FROM portrait_leases AS leases
             WHERE appid = ANY($1)"
        );
        let found = self.client.query_typed(&sql, &self.parameters()).await?;
        let read = |row: &tokio_postgres::Row| {
            let lease = Lease {
                is_held: row.try_get(1)?,
                is_polled: row.try_get(2)?,
            };
            Ok((row.try_get(0)?, lease, row.try_get(3)?))
        };
        found.iter().map(read).collect()
    }

    /// Claims the leases of its apps that are free.
    async fn claim(&self) -> SqlResult<()> {
        let sql = "INSERT INTO portrait_leases (appid, holder, claimed_at, polled)
            SELECT appid, NULL, now(), false FROM unnest($1) AS given (appid) ORDER BY appid
            ON CONFLICT (appid) DO NOTHING";
        self.client
            .execute_typed(sql, &self.parameters()[..1])
            .await?;
        // What another one is just claiming is passed over.
        let sql = format!(
            "UPDATE portrait_leases SET holder = $2, claimed_at = now() WHERE appid IN (
                 SELECT appid FROM portrait_leases AS leases WHERE appid = ANY($1) AND {FREE}
                 ORDER BY appid FOR UPDATE SKIP LOCKED)"
        );
        self.client.execute_typed(&sql, &self.parameters()).await?;
        let sql =
            "DELETE FROM portrait_exporters WHERE seen_at < now() - make_interval(secs => $1)";
        let unseen = [(
            &FORGOTTEN_AFTER.as_secs_f64() as &(dyn ToSql + Sync),
            Type::FLOAT8,
        )];
        self.client.execute_typed(sql, &unseen).await.map(drop)
    }

    /// Returns the days of its apps that others have written since a time of the database, unless these
    /// are too many.
    async fn changed(&self, since: DateTime<Utc>) -> SqlResult<Option<Vec<ChangedDay>>> {
        let sql = r#"SELECT appid, "window", reference_date, first_answered_at, answered_at, settled, revisions, digest
            FROM portraits WHERE changed_at > $3 AND recorded_by IS DISTINCT FROM $2 AND appid = ANY($1)
            LIMIT $4"#;
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.appids, Type::TEXT_ARRAY),
            (&self.id, Type::TEXT),
            (&since, Type::TIMESTAMPTZ),
            (&MOST_CHANGES, Type::INT8),
        ];
        let found = self.client.query_typed(sql, &parameters).await?;
        if i64::try_from(found.len()).is_ok_and(|days| days >= MOST_CHANGES) {
            return Ok(None);
        }
        let read = |row: &tokio_postgres::Row| {
            let state = rows::state(row, 3)?;
            let digest = row.try_get::<_, Option<i64>>(7)?.map(i64::cast_unsigned);
            Ok(rows::key(row)?.map(|key| ChangedDay { key, state, digest }))
        };
        let days: SqlResult<Vec<_>> = found.iter().map(read).collect();
        Ok(Some(days?.into_iter().flatten().collect()))
    }

    /// Returns its apps, its own name, and how long a holder may be unseen.
    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 3] {
        [
            (&self.appids, Type::TEXT_ARRAY),
            (&self.id, Type::TEXT),
            (&self.lease, Type::FLOAT8),
        ]
    }
}
