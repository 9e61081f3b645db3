//! An app's archived days as CSV, streamed: a few days are in memory at a time, however many there are.
//!
//! Days are read as the client receives them, so one that disconnects or stops reading ends the work, and
//! polls store their answers in between.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::NaiveDate;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::archive::{self, Archive, Record};
use crate::calendar;
use crate::export::Csv;
use crate::portrait::{AppId, Dimension, Window};
use crate::state::AppSnapshot;
use crate::wechat::decode;

/// How many days are read from the archive at once.
const SLICE: usize = 8;

/// How many downloads there may be at once.
const DOWNLOADS: usize = 2;

/// How long another one waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// How long a download may keep others out: a client could read a byte now and then.
const LONGEST: Duration = Duration::from_mins(10);

/// The largest number of days that may be requested.
const MOST_DAYS: u64 = 10_000;

/// Bounds how many downloads there are.
pub(super) struct Downloads(Arc<Semaphore>);

/// What is requested.
struct Request {
    window: Window,
    /// The newest days, counted back from the newest one that is archived; all if `None`.
    days: Option<u64>,
}

/// The rest of a file.
struct Rest {
    archive: Arc<Archive>,
    app: Arc<AppSnapshot>,
    window: Window,
    /// The first day that is not written yet; `None` after the last one.
    next: Option<NaiveDate>,
    /// Whether nothing is written yet.
    is_start: bool,
    /// Compresses the file, if the client accepts that.
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// Ends the download's turn.
    _turn: DropGuard,
}

impl Default for Downloads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DOWNLOADS)))
    }
}

impl Downloads {
    /// Waits for the turn of a download; `None` if that takes too long.
    async fn wait(&self) -> Option<DropGuard> {
        let permit = timeout(WAIT, Arc::clone(&self.0).acquire_owned()).await;
        let permit: OwnedSemaphorePermit = permit.ok()?.ok()?;
        let ended = CancellationToken::new();
        let turn = ended.clone().drop_guard();
        tokio::spawn(async move {
            let _permit = permit;
            let _ = timeout(LONGEST, ended.cancelled()).await;
        });
        Some(turn)
    }
}

/// Responds with the days of an app, as `export --format csv --bom` writes them.
pub(super) async fn respond(
    archive: &Arc<Archive>,
    downloads: &Downloads,
    app: Arc<AppSnapshot>,
    parameters: &[(String, String)],
    accepts_gzip: bool,
) -> Response {
    let Request { window, days } = match Request::read(&app, parameters) {
        Ok(request) => request,
        Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
    };
    let Some(turn) = downloads.wait().await else {
        let text = "other downloads are running: try again in a few seconds\n";
        return unavailable(text.to_owned());
    };
    let first = match first_day(archive, &app.appid, window, days).await {
        Ok(first) => first,
        Err(error) => return unavailable(format!("{error}\n")),
    };
    let disposition = format!("attachment; filename=\"{}-{window}.csv\"", app.appid);
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, &disposition),
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept-encoding"),
    ];
    let encoding = accepts_gzip.then_some([(header::CONTENT_ENCODING, "gzip")]);
    let rest = Rest {
        archive: Arc::clone(archive),
        app,
        window,
        next: Some(first),
        is_start: true,
        gzip: accepts_gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        _turn: turn,
    };
    let body = Body::from_stream(stream::try_unfold(rest, Rest::write));
    (headers, encoding, body).into_response()
}

/// Returns the first of the newest days.
async fn first_day(
    archive: &Archive,
    appid: &AppId,
    window: Window,
    days: Option<u64>,
) -> Result<NaiveDate, archive::Error> {
    let held = archive.coverage(appid.clone(), window).await?.bounds();
    let first = held
        .zip(days)
        .map(|((_, newest), days)| calendar::days_before(newest, days - 1));
    Ok(first.unwrap_or(NaiveDate::MIN))
}

fn unavailable(text: String) -> Response {
    let headers = [(header::RETRY_AFTER, "10")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
}

impl Request {
    /// Reads the parameters; fails with a text for people.
    fn read(app: &AppSnapshot, parameters: &[(String, String)]) -> Result<Self, String> {
        let windows = || app.windows.iter().map(|window| window.window);
        let value = |wanted: &str| {
            let mut values = parameters.iter().filter(|(name, _)| name == wanted);
            values.next().map(|(_, value)| value.as_str())
        };
        let window = match value("window") {
            Some(text) => windows().find(|window| window.as_str() == text),
            None => windows().next(),
        };
        let window = window.ok_or_else(|| {
            let windows: Vec<_> = windows().map(Window::as_str).collect();
            format!("window is one of this app's: {}\n", windows.join(", "))
        })?;
        let days = value("days").map(|text| {
            let days = text.parse().ok();
            let days = days.filter(|days| (1..=MOST_DAYS).contains(days));
            days.ok_or_else(|| format!("days is a number from 1 to {MOST_DAYS}\n"))
        });
        Ok(Self {
            window,
            days: days.transpose()?,
        })
    }
}

impl Rest {
    /// Reads and writes some days; returns them and the rest, or `None` after the last ones.
    async fn write(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let Some(next) = self.next else {
            return Ok(None);
        };
        let appid = self.app.appid.clone();
        let records = self.archive.records(appid, self.window, next, SLICE);
        let records = records.await.map_err(io::Error::other)?;
        let is_last = records.len() < SLICE;
        let end = records.last().map(|record| record.key.reference_date);
        self.next = end.and_then(|end| end.succ_opt()).filter(|_| !is_last);
        let write = move || {
            let bytes = self.csv(&records)?;
            Ok(Some((bytes, self)))
        };
        tokio::task::spawn_blocking(write).await?
    }

    fn csv(&mut self, records: &[Record]) -> io::Result<Bytes> {
        let AppSnapshot { appid, name, .. } = &*self.app;
        let names = HashMap::from([(appid.clone(), name.clone())]);
        let mut csv = if std::mem::take(&mut self.is_start) {
            Csv::new(Vec::new(), names, true)?
        } else {
            Csv::resume(Vec::new(), names)
        };
        for record in records {
            let (window, day) = (record.key.window, record.key.reference_date);
            match decode::archived(&record.answer, window, day) {
                Ok(portrait) => csv.add(record, &portrait, &Dimension::ALL)?,
                Err(error) => {
                    tracing::error!(%appid, %window, %day, %error, "skipped an archived response");
                }
            }
        }
        let rows = csv.finish()?;
        let Some(mut gzip) = self.gzip.take() else {
            return Ok(rows.into());
        };
        gzip.write_all(&rows)?;
        if self.next.is_none() {
            return Ok(gzip.finish()?.into());
        }
        let compressed = std::mem::take(gzip.get_mut());
        self.gzip = Some(gzip);
        Ok(compressed.into())
    }
}
