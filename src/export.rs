//! Writes archived days for other programs: OpenMetrics for the backfill of Prometheus, CSV and JSON
//! lines for everything else.
//!
//! Holds one day at a time, however long the history is. Knows no flags, no files and no archive.

use std::borrow::Cow;
use std::io::{self, Write};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::archive::Entry;
use crate::calendar;
use crate::config::STALE_AFTER;
use crate::exposition::page::{self, USERS, USERS_HELP};
use crate::poll::schedule;
use crate::portrait::{AppId, Cohort, Dimension, Portrait, Window};

/// One series and day, as a row of CSV or a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row<'a> {
    /// Whose users.
    pub appid: AppId,
    /// Over which window.
    pub window: Window,
    /// The last Beijing day covered.
    pub reference_date: NaiveDate,
    /// Which users.
    pub cohort: Cohort,
    /// What divides them.
    pub dimension: Dimension,
    /// As WeChat writes it.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// How many people.
    pub users: u64,
    /// When the day became known.
    pub first_answered_at: Option<DateTime<Utc>>,
    /// When these figures last arrived.
    pub answered_at: Option<DateTime<Utc>>,
    /// Whether the last two answers agreed.
    #[serde(default)]
    pub settled: bool,
    /// How often the figures changed.
    #[serde(default)]
    pub revisions: u32,
}

/// The fields of a [`Row`], in order.
const FIELDS: [&str; 11] = [
    "appid",
    "window",
    "reference_date",
    "cohort",
    "dimension",
    "name",
    "users",
    "first_answered_at",
    "answered_at",
    "settled",
    "revisions",
];

/// Writes days in one of the formats. They must come as [`crate::archive::Archive::read`] passes
/// them on.
pub enum Writer<W: Write> {
    /// For `promtool tsdb create-blocks-from openmetrics`.
    OpenMetrics(OpenMetrics<W>),
    /// One row per series and day, below a header.
    Csv(Box<csv::Writer<W>>),
    /// One object per series and day.
    JsonLines(W),
}

/// Writes every day as samples at the times at which the page would have shown it.
pub struct OpenMetrics<W> {
    output: W,
    /// Samples stand at multiples of it.
    step: TimeDelta,
    /// There are no samples of the future.
    now: DateTime<Utc>,
    /// The last day, which ends when the next one becomes known.
    pending: Option<Box<Day>>,
}

struct Day {
    appid: AppId,
    known_at: DateTime<Utc>,
    portrait: Portrait,
    dimensions: Vec<Dimension>,
}

impl<W: Write> Writer<W> {
    /// Starts OpenMetrics with samples at multiples of `step`, none after `now`.
    ///
    /// # Errors
    ///
    /// The output takes nothing.
    pub fn open_metrics(mut output: W, step: TimeDelta, now: DateTime<Utc>) -> io::Result<Self> {
        write!(
            output,
            "# TYPE {USERS} gauge\n# HELP {USERS} {USERS_HELP}\n"
        )?;
        Ok(Self::OpenMetrics(OpenMetrics {
            output,
            step,
            now,
            pending: None,
        }))
    }

    /// Starts CSV.
    ///
    /// # Errors
    ///
    /// The output takes nothing.
    pub fn csv(output: W) -> io::Result<Self> {
        // The header is wanted even if no row follows.
        let mut writer = csv::WriterBuilder::new()
            .has_headers(false)
            .from_writer(output);
        writer.write_record(FIELDS).map_err(io_error)?;
        Ok(Self::Csv(Box::new(writer)))
    }

    /// Starts JSON lines.
    #[must_use]
    pub fn json_lines(output: W) -> Self {
        Self::JsonLines(output)
    }

    /// Tells that the days before this one are over. To be called for every entry before
    /// [`Writer::add`], and for those that follow the last one for some days.
    ///
    /// # Errors
    ///
    /// The output takes no more.
    pub fn proceed(&mut self, entry: &Entry) -> io::Result<()> {
        match self {
            Self::OpenMetrics(writer) => writer.write_pending(Some(entry)),
            Self::Csv(_) | Self::JsonLines(_) => Ok(()),
        }
    }

    /// Adds an entry, whose answer reads as `portrait`, in these dimensions.
    ///
    /// # Errors
    ///
    /// The output takes no more.
    pub fn add(
        &mut self,
        entry: &Entry,
        portrait: Portrait,
        dimensions: &[Dimension],
    ) -> io::Result<()> {
        match self {
            Self::OpenMetrics(writer) => {
                writer.pending = Some(Box::new(Day {
                    appid: entry.appid.clone(),
                    known_at: known_at(entry),
                    portrait,
                    dimensions: dimensions.to_vec(),
                }));
            }
            Self::Csv(writer) => {
                for row in rows(entry, &portrait, dimensions) {
                    writer.serialize(row).map_err(io_error)?;
                }
            }
            Self::JsonLines(output) => {
                for row in rows(entry, &portrait, dimensions) {
                    serde_json::to_writer(&mut *output, &row)?;
                    output.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }

    /// Ends the output.
    ///
    /// # Errors
    ///
    /// The output takes no more.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::OpenMetrics(mut writer) => {
                writer.write_pending(None)?;
                writer.output.write_all(b"# EOF\n")?;
                writer.output.flush()
            }
            Self::Csv(mut writer) => writer.flush(),
            Self::JsonLines(mut output) => output.flush(),
        }
    }
}

/// Unpacks what the output said.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn rows<'a>(
    entry: &'a Entry,
    portrait: &'a Portrait,
    dimensions: &'a [Dimension],
) -> impl Iterator<Item = Row<'a>> {
    let row = |(cohort, dimension, name, users)| Row {
        appid: entry.appid.clone(),
        window: entry.window,
        reference_date: entry.reference_date,
        cohort,
        dimension,
        name: Cow::Borrowed(name),
        users,
        first_answered_at: Some(entry.first_answered_at),
        answered_at: Some(entry.answered_at),
        settled: entry.settled,
        revisions: entry.revisions,
    };
    portrait.rows(dimensions).map(row)
}

impl<W: Write> OpenMetrics<W> {
    /// Writes the last day as it was on the page: from when it became known to the next one, or until
    /// it was stale.
    fn write_pending(&mut self, next: Option<&Entry>) -> io::Result<()> {
        let Some(day) = self.pending.take() else {
            return Ok(());
        };
        let Portrait {
            window,
            reference_date,
            ..
        } = day.portrait;
        let stale_at = schedule::stale_at(reference_date, STALE_AFTER);
        let mut end = stale_at.min(self.now + TimeDelta::seconds(1));
        if let Some(next) = next.filter(|next| next.appid == day.appid && next.window == window) {
            end = end.min(known_at(next));
        }
        let step = self.step.num_seconds();
        let first = day.known_at.timestamp();
        let first = first + (-first).rem_euclid(step);
        for (cohort, dimension, name, users) in day.portrait.rows(&day.dimensions) {
            let series = page::series_of_users(&day.appid, window, cohort, dimension, name);
            let mut time = first;
            while time < end.timestamp() {
                writeln!(self.output, "{series} {users} {time}")?;
                time += step;
            }
        }
        Ok(())
    }
}

/// Returns when the page first showed a day; for one that was answered late, when it usually would have,
/// so that no later day was known before.
fn known_at(entry: &Entry) -> DateTime<Utc> {
    let end = calendar::end(entry.reference_date);
    if (end..calendar::next_midnight(end)).contains(&entry.first_answered_at) {
        entry.first_answered_at
    } else {
        calendar::usually_known(entry.reference_date)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn entry(day: &str, first_answered_at: &str) -> Entry {
        Entry {
            appid: "wx0123456789abcdef".parse().unwrap(),
            window: Window::OneDay,
            reference_date: day.parse().unwrap(),
            answer: String::new(),
            first_answered_at: utc(first_answered_at),
            answered_at: utc("2026-11-22T08:00:00Z"),
            settled: true,
            revisions: 2,
        }
    }

    fn portrait(entry: &Entry, users: u64) -> Portrait {
        let mut portrait = Portrait::new(entry.window, entry.reference_date);
        let devices = portrait.division_mut(Cohort::New, Dimension::Device);
        devices.add("苹果, \"XS\"".to_owned(), users);
        let ages = portrait.division_mut(Cohort::Active, Dimension::Age);
        ages.add("18-24岁".to_owned(), users);
        portrait
    }

    /// Writes a day for each entry: one user more than the day before.
    fn feed<W: Write>(mut writer: Writer<W>, entries: &[Entry]) {
        for (entry, users) in entries.iter().zip(1..) {
            writer.proceed(entry).unwrap();
            let dimensions = [Dimension::Device, Dimension::Age];
            writer
                .add(entry, portrait(entry, users), &dimensions)
                .unwrap();
        }
        writer.finish().unwrap();
    }

    /// Answers the times and values of one series of OpenMetrics.
    fn samples(step: TimeDelta, now: &str, entries: &[Entry]) -> Vec<(String, u64)> {
        let mut output = Vec::new();
        feed(
            Writer::open_metrics(&mut output, step, utc(now)).unwrap(),
            entries,
        );
        let text = String::from_utf8(output).unwrap();
        assert!(
            text.starts_with("# TYPE wxapp_portrait_users gauge\n# HELP "),
            "{text}"
        );
        assert!(text.ends_with("\n# EOF\n"), "{text}");
        let start = "wxapp_portrait_users{appid=\"wx0123456789abcdef\",window=\"1d\",\
                     cohort=\"active\",dimension=\"age\",name=\"18-24岁\"} ";
        let sample = |line: &str| {
            let (users, time) = line.split_once(' ').unwrap();
            let time = DateTime::from_timestamp(time.parse().unwrap(), 0).unwrap();
            (time.format("%d %H:%M").to_string(), users.parse().unwrap())
        };
        text.lines()
            .filter_map(|line| line.strip_prefix(start))
            .map(sample)
            .collect()
    }

    #[test]
    fn a_day_has_samples_from_when_it_became_known_until_the_next() {
        let entries = [
            entry("2026-11-20", "2026-11-21T02:03:04Z"),
            entry("2026-11-21", "2026-11-22T05:00:00Z"),
        ];
        let samples = samples(TimeDelta::hours(1), "2026-11-22T07:30:00Z", &entries);
        let [first, .., last] = &samples[..] else {
            panic!("{samples:?}")
        };
        assert_eq!(first, &("21 03:00".to_owned(), 1));
        assert_eq!(last, &("22 07:00".to_owned(), 2));
        assert_eq!(samples.len(), 26 + 3, "every hour, without those to come");
        assert_eq!(samples[25], ("22 04:00".to_owned(), 1));
        assert_eq!(samples[26], ("22 05:00".to_owned(), 2));
    }

    #[test]
    fn a_day_that_was_answered_late_has_the_samples_of_a_usual_one() {
        let entries = [
            entry("2026-11-20", "2026-11-22T02:00:00Z"),
            entry("2026-11-21", "2026-11-22T02:00:01Z"),
        ];
        let samples = samples(TimeDelta::hours(6), "2026-11-22T20:00:00Z", &entries);
        let expected = [
            ("21 06:00", 1),
            ("21 12:00", 1),
            ("21 18:00", 1),
            ("22 00:00", 1),
            ("22 06:00", 2),
            ("22 12:00", 2),
            ("22 18:00", 2),
        ];
        assert_eq!(
            samples,
            expected.map(|(time, users)| (time.to_owned(), users))
        );
    }

    #[test]
    fn before_a_gap_a_day_has_samples_until_it_was_stale() {
        let entries = [
            entry("2026-11-01", "2026-11-02T02:00:00Z"),
            entry("2026-11-11", "2026-11-12T02:00:00Z"),
        ];
        let samples = samples(TimeDelta::days(1), "2026-11-12T12:00:00Z", &entries);
        let days: Vec<&str> = samples.iter().map(|(time, _)| &time[..2]).collect();
        assert_eq!(days, ["03", "04", "05"]);
    }

    #[test]
    fn csv_has_a_header_and_quotes_where_it_must() {
        let mut output = Vec::new();
        let day = entry("2026-11-20", "2026-11-21T02:03:04Z");
        feed(Writer::csv(&mut output).unwrap(), &[day]);
        insta::assert_snapshot!(String::from_utf8(output).unwrap());
        let mut output = Vec::new();
        feed(Writer::csv(&mut output).unwrap(), &[]);
        assert_eq!(String::from_utf8(output).unwrap().lines().count(), 1);
    }

    #[test]
    fn json_lines_have_the_same_fields_and_are_read_back() {
        let mut output = Vec::new();
        let day = entry("2026-11-20", "2026-11-21T02:03:04Z");
        feed(Writer::json_lines(&mut output), &[day]);
        let text = String::from_utf8(output).unwrap();
        insta::assert_snapshot!(text);
        for line in text.lines() {
            let row: Row<'_> = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&row).unwrap(), line);
        }
    }
}
