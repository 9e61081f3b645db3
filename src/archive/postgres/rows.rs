//! Rows of the table as values.

use chrono::{DateTime, NaiveDate, Utc};
use tokio_postgres::types::{ToSql, Type};

use crate::archive::record::{DayState, Key, Record, Row};

type Error = tokio_postgres::Error;

/// The columns that [`record`] reads.
pub(super) const RECORD: &str = r#"appid, "window", reference_date, first_answered_at, answered_at, settled, revisions, answer"#;

/// The types of the columns that are written, as arrays.
const TYPES: [Type; 10] = [
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::DATE_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::TIMESTAMPTZ_ARRAY,
    Type::BOOL_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
];

/// Rows to be written, column by column, as one statement takes any number of them.
#[derive(Default)]
pub(super) struct Columns {
    appids: Vec<String>,
    windows: Vec<&'static str>,
    reference_dates: Vec<NaiveDate>,
    first_answered_at: Vec<DateTime<Utc>>,
    answered_at: Vec<DateTime<Utc>>,
    settled: Vec<bool>,
    revisions: Vec<i32>,
    digests: Vec<Option<i64>>,
    figures: Vec<Option<String>>,
    answers: Vec<String>,
}

impl Columns {
    /// The rows as a table named `given`, from the parameters `$1` to `$10`.
    pub(super) const GIVEN: &str = r#"unnest($1::text[], $2::text[], $3::date[], $4::timestamptz[],
        $5::timestamptz[], $6::boolean[], $7::integer[], $8::bigint[], $9::text[], $10::text[])
        AS given (appid, "window", reference_date, first_answered_at, answered_at, settled, revisions,
            digest, figures, answer)"#;

    /// Collects rows; an answer that is damaged is written as an empty one.
    pub(super) fn new<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.appids.push(row.key.appid.to_string());
            columns.windows.push(row.key.window.as_str());
            columns.reference_dates.push(row.key.reference_date);
            columns.first_answered_at.push(row.state.first_answered_at);
            columns.answered_at.push(row.state.answered_at);
            columns.settled.push(row.state.settled);
            columns.revisions.push(revisions(row.state));
            columns.digests.push(row.digest.map(u64::cast_signed));
            columns
                .figures
                .push(row.figures.as_deref().map(without_nul));
            let answer = row.answer().unwrap_or_default();
            columns.answers.push(without_nul(&answer));
        }
        columns
    }

    pub(super) fn is_empty(&self) -> bool {
        self.appids.is_empty()
    }

    /// Returns the parameters of [`Self::GIVEN`].
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let values: [&(dyn ToSql + Sync); 10] = [
            &self.appids,
            &self.windows,
            &self.reference_dates,
            &self.first_answered_at,
            &self.answered_at,
            &self.settled,
            &self.revisions,
            &self.digests,
            &self.figures,
            &self.answers,
        ];
        values.into_iter().zip(TYPES).collect()
    }
}

/// Returns how often the figures changed, as the table has it.
pub(super) fn revisions(state: DayState) -> i32 {
    state.revisions.try_into().unwrap_or(i32::MAX)
}

/// Text of PostgreSQL has no NUL, and neither has valid JSON.
fn without_nul(text: &str) -> String {
    text.replace('\0', "")
}

/// Reads a row of [`RECORD`]; `None` if its values are out of range.
pub(super) fn record(row: &tokio_postgres::Row) -> Result<Option<Record>, Error> {
    let Some(key) = key(row)? else {
        return Ok(None);
    };
    let state = state(row, 3)?;
    let answer = row.try_get(7)?;
    Ok(Some(Record { key, state, answer }))
}

/// Reads the first three columns; `None` if their values are out of range.
pub(super) fn key(row: &tokio_postgres::Row) -> Result<Option<Key>, Error> {
    let appid = row.try_get::<_, &str>(0)?.parse().ok();
    let window = row.try_get::<_, &str>(1)?.parse().ok();
    let reference_date = row.try_get(2)?;
    Ok(appid.zip(window).map(|(appid, window)| Key {
        appid,
        window,
        reference_date,
    }))
}

/// Reads four columns, starting with `first_answered_at`.
pub(super) fn state(row: &tokio_postgres::Row, at: usize) -> Result<DayState, Error> {
    Ok(DayState {
        first_answered_at: row.try_get(at)?,
        answered_at: row.try_get(at + 1)?,
        settled: row.try_get(at + 2)?,
        revisions: row
            .try_get::<_, i32>(at + 3)?
            .try_into()
            .unwrap_or_default(),
    })
}
