//! Rows of the database as values. An invalid row is an `Err` of its own and does not hide others.

use chrono::{DateTime, NaiveDate};
use rusqlite::{Params, Statement};

use super::super::record::{DayState, Key, Record, Row, uncompress};

/// The columns that [`record`] reads.
pub(super) const RECORD: &str =
    "appid, window, reference_date, first_answered_at, answered_at, settled, revisions, answer";

/// The columns that [`packed`] reads after the rowid.
pub(super) const PACKED: &str = "rowid, appid, window, reference_date, first_answered_at, answered_at, settled, revisions, answer, digest, figures, size";

/// The same of schema 1.
pub(super) const UNPACKED: &str = "rowid, appid, window, reference_date, first_answered_at, answered_at, settled, revisions, answer";

/// Why a row is invalid.
#[derive(Debug, thiserror::Error)]
#[error("row {rowid}: {problem}")]
pub(super) struct BadRow {
    pub(super) rowid: i64,
    pub(super) problem: &'static str,
}

type SqlRow<'a> = rusqlite::Row<'a>;

/// Reads a row of [`RECORD`]; `None` if its values are out of range.
pub(super) fn record(row: &SqlRow<'_>) -> rusqlite::Result<Option<Record>> {
    let Some((key, state)) = key_and_state(row, 0)? else {
        return Ok(None);
    };
    // Damage in one answer must not prevent the others from being read.
    let answer = String::from_utf8_lossy(bytes(row, 7)?).into_owned();
    Ok(Some(Record { key, state, answer }))
}

/// Reads a row of [`PACKED`] or [`UNPACKED`], and its rowid.
pub(super) fn packed(
    row: &SqlRow<'_>,
    is_packed: bool,
) -> rusqlite::Result<(i64, Result<Row, BadRow>)> {
    let rowid = row.get(0)?;
    let bad = |problem| (rowid, Err(BadRow { rowid, problem }));
    let Some((key, state)) = key_and_state(row, 1)? else {
        return Ok(bad("values out of range"));
    };
    let answer = bytes(row, 8)?;
    if !is_packed {
        let answer = String::from_utf8_lossy(answer).into_owned();
        let record = Record { key, state, answer };
        return Ok((rowid, Ok(Row::from(&record))));
    }
    let size = row.get::<_, i64>(11)?;
    let Some(size) = usize::try_from(size)
        .ok()
        .filter(|size| uncompress(answer, *size).is_some())
    else {
        return Ok(bad("its response is damaged"));
    };
    let row = Row {
        key,
        state,
        digest: row.get::<_, Option<i64>>(9)?.map(i64::cast_unsigned),
        figures: row.get(10)?,
        size,
        answer: answer.into(),
    };
    Ok((rowid, Ok(row)))
}

fn key_and_state(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Option<(Key, DayState)>> {
    let Some(state) = state(row, at + 3)? else {
        return Ok(None);
    };
    let appid = text(row, at)?.and_then(|text| text.parse().ok());
    let window = text(row, at + 1)?.and_then(|text| text.parse().ok());
    let (Some(appid), Some(window), Some(reference_date)) = (appid, window, date(row, at + 2)?)
    else {
        return Ok(None);
    };
    let key = Key {
        appid,
        window,
        reference_date,
    };
    Ok(Some((key, state)))
}

/// Reads four columns, starting with `first_answered_at`.
pub(super) fn state(row: &SqlRow<'_>, at: usize) -> rusqlite::Result<Option<DayState>> {
    let first_answered_at = DateTime::from_timestamp(row.get(at)?, 0);
    let answered_at = DateTime::from_timestamp(row.get(at + 1)?, 0);
    let revisions = u32::try_from(row.get::<_, i64>(at + 3)?).ok();
    let settled = row.get::<_, i64>(at + 2)? != 0;
    Ok((|| {
        Some(DayState {
            first_answered_at: first_answered_at?,
            answered_at: answered_at?,
            settled,
            revisions: revisions?,
        })
    })())
}

pub(super) fn date(row: &SqlRow<'_>, index: usize) -> rusqlite::Result<Option<NaiveDate>> {
    Ok(text(row, index)?.and_then(|text| text.parse().ok()))
}

fn text<'a>(row: &'a SqlRow<'_>, index: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(index)?.as_str().ok())
}

fn bytes<'a>(row: &'a SqlRow<'_>, index: usize) -> rusqlite::Result<&'a [u8]> {
    Ok(row.get_ref(index)?.as_bytes().unwrap_or_default())
}

/// Runs a query and returns the result of `read` for each of its rows.
pub(super) fn collect<T>(
    statement: &mut Statement<'_>,
    parameters: impl Params,
    mut read: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut rows = statement.query(parameters)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next()? {
        values.push(read(row)?);
    }
    Ok(values)
}
