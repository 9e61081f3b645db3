//! Writes archived days for other programs: OpenMetrics for the backfill of Prometheus, CSV and JSON
//! lines for everything else.
//!
//! Holds the days that one is compared with, however long the history is. Does not depend on flags, files or the archive.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use crate::archive::Record;
use crate::calendar;
use crate::config;
use crate::exposition::page::{self, Series};
use crate::exposition::summary::{GAUGES, SummaryGauge};
use crate::past::PastDays;
use crate::poll::due;
use crate::portrait::{AppId, Cohort, Dimension, Portrait, Window};
use crate::state::{Comparison, Summary};

/// One series and day, as a row of CSV or a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row<'a> {
    /// The app.
    pub appid: AppId,
    /// The window.
    pub window: Window,
    /// The last Beijing day covered.
    pub reference_date: NaiveDate,
    /// The cohort.
    pub cohort: Cohort,
    /// The dimension.
    pub dimension: Dimension,
    /// The name, as WeChat writes it.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// The number of users.
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

/// What the bundled rules record of the page for the charts of all apps, so that history fills them, too.
const USERS_BY_WEEKDAY: Series = Series {
    name: "appid_cohort_weekday:wxapp_portrait_cohort_users:max",
    help: "Users of a whole cohort (window 1d), with the day of the week of the reference date: 0 is Thursday, as on 1970-01-01.",
};

/// Makes Excel read a file as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The columns of CSV: the fields of a [`Row`] in order, and the configured name of the app.
const COLUMNS: [&str; 12] = [
    "appid",
    "app",
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

/// Writes days in one of the formats. They must come as [`crate::archive::Store::read`] passes
/// them on.
pub enum Writer<W: Write> {
    /// For `promtool tsdb create-blocks-from openmetrics`.
    OpenMetrics(Box<OpenMetrics<W>>),
    /// One row per series and day, below a header.
    Csv(Box<Csv<W>>),
    /// One object per series and day.
    JsonLines(W),
}

/// Writes rows of CSV.
pub struct Csv<W: Write> {
    writer: csv::Writer<W>,
    /// The configured names of apps; others have their appid there.
    app_names: HashMap<AppId, String>,
}

/// What is configured about an app.
#[derive(Debug)]
pub struct App {
    /// Its name for people.
    pub name: String,
    /// The labels of its `wxapp_portrait_app_info`.
    pub labels: BTreeMap<String, String>,
    /// How its days are compared.
    pub comparison: Comparison,
}

impl From<&config::App> for App {
    fn from(app: &config::App) -> Self {
        Self {
            name: app.name.clone(),
            labels: app.labels.clone(),
            comparison: app.into(),
        }
    }
}

/// Writes every day as samples at the times at which the page would have shown it.
pub struct OpenMetrics<W> {
    output: W,
    /// The time between samples, which are at its multiples.
    step: TimeDelta,
    /// How far a day may lie behind yesterday until it was hidden.
    stale_after: Duration,
    /// There are no samples of the future.
    now: DateTime<Utc>,
    /// The last day, which ends when the next one becomes known.
    pending: Option<Box<Day>>,
    /// The days before, and the app and window of those.
    past: PastDays,
    past_of: Option<(AppId, Window)>,
    /// What is configured; the days of other apps are compared as by default.
    apps: HashMap<AppId, App>,
    /// The samples of what each portrait amounts to: families of their own, so they are written later.
    summaries: Vec<(SummaryGauge, DeflateEncoder<BufWriter<File>>)>,
    /// When each reference date was shown: the last three families.
    reference_dates: Vec<Shown>,
}

struct Day {
    appid: AppId,
    known_at: DateTime<Utc>,
    portrait: Portrait,
    summary: Summary,
    dimensions: Vec<Dimension>,
}

/// The time during which the page showed a reference date.
struct Shown {
    appid: AppId,
    window: Window,
    reference_date: NaiveDate,
    /// Those of whole cohorts.
    users: [Option<u64>; Cohort::ALL.len()],
    /// The first sample, in Unix seconds.
    start: i64,
    /// The end, which has no sample, in Unix seconds.
    end: i64,
}

impl<W: Write> Writer<W> {
    /// Starts OpenMetrics with samples at multiples of `step`, and none after `now`. `apps` are those that
    /// are configured; temporary files, which are small, are created in `directory`.
    ///
    /// # Errors
    ///
    /// The output or a temporary file can't be written.
    pub fn open_metrics(
        mut output: W,
        step: TimeDelta,
        stale_after: Duration,
        now: DateTime<Utc>,
        apps: HashMap<AppId, App>,
        directory: &Path,
    ) -> io::Result<Self> {
        write_header(&mut output, Series::USERS.name, Series::USERS.help)?;
        let summaries = GAUGES.map(|gauge| {
            // That of an archive may be read-only.
            let file = tempfile::tempfile_in(directory).or_else(|_| tempfile::tempfile())?;
            let encoder = DeflateEncoder::new(BufWriter::new(file), Compression::fast());
            Ok((gauge, encoder))
        });
        Ok(Self::OpenMetrics(Box::new(OpenMetrics {
            output,
            step,
            stale_after,
            now,
            pending: None,
            past: PastDays::new(Window::OneDay, &[]),
            past_of: None,
            apps,
            summaries: summaries.into_iter().collect::<io::Result<_>>()?,
            reference_dates: Vec::new(),
        })))
    }

    /// Starts CSV, see [`Csv::new`].
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn csv(
        output: W,
        app_names: HashMap<AppId, String>,
        has_byte_order_mark: bool,
    ) -> io::Result<Self> {
        let csv = Csv::new(output, app_names, has_byte_order_mark)?;
        Ok(Self::Csv(Box::new(csv)))
    }

    /// Starts JSON lines.
    #[must_use]
    pub fn json_lines(output: W) -> Self {
        Self::JsonLines(output)
    }

    /// Adds a record, whose answer is decoded as `portrait`, in these dimensions.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn add(
        &mut self,
        record: &Record,
        mut portrait: Portrait,
        dimensions: &[Dimension],
    ) -> io::Result<()> {
        match self {
            Self::OpenMetrics(writer) => {
                writer.begin_day(record)?;
                writer.past.insert(&portrait);
                writer.past.align(&mut portrait, &BTreeMap::new(), []);
                let appid = record.key.appid.clone();
                let default = Comparison::default();
                let app = writer.apps.get(&appid);
                let comparison = app.map_or(&default, |app| &app.comparison);
                let summary = Summary::new(&portrait, &writer.past, comparison, dimensions);
                writer.pending = Some(Box::new(Day {
                    appid,
                    known_at: known_at(record),
                    portrait,
                    summary,
                    dimensions: dimensions.to_vec(),
                }));
            }
            Self::Csv(csv) => csv.add(record, &portrait, dimensions)?,
            Self::JsonLines(output) => {
                for row in rows(record, &portrait, dimensions) {
                    serde_json::to_writer(&mut *output, &row)?;
                    output.write_all(b"\n")?;
                }
            }
        }
        Ok(())
    }

    /// Processes a record that is not written: it ends the day before it, and later days are compared with
    /// `portrait`, if it can be decoded.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn pass_over(&mut self, record: &Record, portrait: Option<Portrait>) -> io::Result<()> {
        if let Self::OpenMetrics(writer) = self {
            writer.begin_day(record)?;
            if let Some(portrait) = portrait {
                writer.past.insert(&portrait);
            }
        }
        Ok(())
    }

    /// Ends the output, and returns it; some of it may still be buffered there.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::OpenMetrics(mut writer) => {
                writer.write_pending(None)?;
                writer.write_summaries()?;
                writer.write_reference_dates()?;
                writer.write_users_by_weekday()?;
                writer.write_app_info()?;
                writer.output.write_all(b"# EOF\n")?;
                Ok(writer.output)
            }
            Self::Csv(csv) => csv.finish(),
            Self::JsonLines(output) => Ok(output),
        }
    }
}

impl<W: Write> Csv<W> {
    /// Starts with the header, and with a byte order mark if Excel is to read the output as UTF-8. Apps
    /// without a name have their appid in its column.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn new(
        mut output: W,
        app_names: HashMap<AppId, String>,
        has_byte_order_mark: bool,
    ) -> io::Result<Self> {
        if has_byte_order_mark {
            output.write_all(BYTE_ORDER_MARK)?;
        }
        let mut csv = Self::resume(output, app_names);
        // The header is written even if no row follows.
        csv.writer.write_record(COLUMNS).map_err(io_error)?;
        Ok(csv)
    }

    /// Continues after other rows.
    #[must_use]
    pub fn resume(output: W, app_names: HashMap<AppId, String>) -> Self {
        let mut builder = csv::WriterBuilder::new();
        let writer = builder.has_headers(false).from_writer(output);
        Self { writer, app_names }
    }

    /// Adds the rows of a record, whose answer is decoded as `portrait`, in these dimensions.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn add(
        &mut self,
        record: &Record,
        portrait: &Portrait,
        dimensions: &[Dimension],
    ) -> io::Result<()> {
        let appid = &record.key.appid;
        let app = self.app_names.get(appid);
        let app = harmless(app.map_or(appid.as_str(), String::as_str));
        for row in rows(record, portrait, dimensions) {
            let columns = (
                row.appid,
                &app,
                row.window,
                row.reference_date,
                row.cohort,
                row.dimension,
                harmless(&row.name),
                row.users,
                row.first_answered_at,
                row.answered_at,
                row.settled,
                row.revisions,
            );
            self.writer.serialize(columns).map_err(io_error)?;
        }
        Ok(())
    }

    /// Ends the output, and returns it.
    ///
    /// # Errors
    ///
    /// The output can't be written.
    pub fn finish(self) -> io::Result<W> {
        let output = self.writer.into_inner();
        output.map_err(csv::IntoInnerError::into_error)
    }
}

fn write_header(output: &mut impl Write, name: &str, help: &str) -> io::Result<()> {
    write!(output, "# TYPE {name} gauge\n# HELP {name} {help}\n")
}

/// Returns the error of the output.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// Returns a text that spreadsheets show and do not evaluate: the names of devices come from phones.
fn harmless(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

fn rows<'a>(
    record: &'a Record,
    portrait: &'a Portrait,
    dimensions: &'a [Dimension],
) -> impl Iterator<Item = Row<'a>> {
    let row = |(cohort, dimension, name, users)| Row {
        appid: record.key.appid.clone(),
        window: record.key.window,
        reference_date: record.key.reference_date,
        cohort,
        dimension,
        name: Cow::Borrowed(name),
        users,
        first_answered_at: Some(record.state.first_answered_at),
        answered_at: Some(record.state.answered_at),
        settled: record.state.settled,
        revisions: record.state.revisions,
    };
    portrait.rows(dimensions).map(row)
}

impl<W: Write> OpenMetrics<W> {
    /// Ends the day before a record.
    fn begin_day(&mut self, record: &Record) -> io::Result<()> {
        self.write_pending(Some(record))?;
        let of = Some((record.key.appid.clone(), record.key.window));
        if self.past_of != of {
            self.past_of = of;
            self.past = PastDays::new(record.key.window, &[]);
        }
        Ok(())
    }

    /// Writes the last day as it was on the page: from when it became known to the next one, or until
    /// it was stale.
    fn write_pending(&mut self, next: Option<&Record>) -> io::Result<()> {
        let Some(day) = self.pending.take() else {
            return Ok(());
        };
        let Portrait {
            window,
            reference_date,
            ..
        } = day.portrait;
        let stale_at = due::stale_at(reference_date, self.stale_after);
        let mut end = stale_at.min(self.now + TimeDelta::seconds(1));
        if let Some(next) =
            next.filter(|next| next.key.appid == day.appid && next.key.window == window)
        {
            end = end.min(known_at(next));
        }
        let first = day.known_at.timestamp();
        let shown = Shown {
            window,
            reference_date,
            users: day.summary.cohorts.each_ref().map(|cohort| cohort.users),
            start: first + (-first).rem_euclid(self.step.num_seconds()),
            end: end.timestamp(),
            appid: day.appid,
        };
        for (cohort, dimension, name, users) in day.portrait.rows(&day.dimensions) {
            let series = page::series_of_users(&shown.appid, window, cohort, dimension, name);
            write_samples(&mut self.output, &series, users, &shown, self.step)?;
        }
        for (gauge, samples) in &mut self.summaries {
            let mut result = Ok(());
            (gauge.series)(window, &day.summary, &mut |labels, value| {
                let series = page::series(gauge.name, &shown.appid, labels);
                if result.is_ok() {
                    result = write_samples(samples, &series, value, &shown, self.step);
                }
            });
            result?;
        }
        self.reference_dates.push(shown);
        Ok(())
    }

    fn write_summaries(&mut self) -> io::Result<()> {
        for (gauge, samples) in self.summaries.drain(..) {
            let is_empty = samples.total_in() == 0;
            let mut samples = samples.finish()?.into_inner()?;
            if !is_empty {
                write_header(&mut self.output, gauge.name, gauge.help)?;
                samples.rewind()?;
                io::copy(&mut DeflateDecoder::new(samples), &mut self.output)?;
            }
        }
        Ok(())
    }

    fn write_reference_dates(&mut self) -> io::Result<()> {
        let Series { name, help } = Series::REFERENCE_DATE;
        write_header(&mut self.output, name, help)?;
        for shown in &self.reference_dates {
            let window = ("window", shown.window.as_str());
            let series = page::series(name, &shown.appid, &[window]);
            let midnight = calendar::midnight(shown.reference_date).timestamp();
            write_samples(&mut self.output, &series, midnight, shown, self.step)?;
        }
        Ok(())
    }

    fn write_users_by_weekday(&mut self) -> io::Result<()> {
        let Series { name, help } = USERS_BY_WEEKDAY;
        write_header(&mut self.output, name, help)?;
        let days = self.reference_dates.iter();
        for shown in days.filter(|shown| shown.window == Window::OneDay) {
            let weekday = weekday(shown.reference_date).to_string();
            for (cohort, users) in Cohort::ALL.into_iter().zip(shown.users) {
                let Some(users) = users else { continue };
                let labels = [("cohort", cohort.as_str()), ("weekday", &weekday)];
                let series = page::series(name, &shown.appid, &labels);
                write_samples(&mut self.output, &series, users, shown, self.step)?;
            }
        }
        Ok(())
    }

    /// Writes the name of each configured app once at every time at which any window had a reference date. Others
    /// have none: an appid for a name would be beside the name that Prometheus scrapes.
    fn write_app_info(&mut self) -> io::Result<()> {
        if self.apps.is_empty() {
            return Ok(());
        }
        let Series { name, help } = Series::APP_INFO;
        write_header(&mut self.output, name, help)?;
        // The days of an app come window by window, and those of several windows were shown together.
        self.reference_dates
            .sort_by(|a, b| (&a.appid, a.start).cmp(&(&b.appid, b.start)));
        for of_app in self.reference_dates.chunk_by(|a, b| a.appid == b.appid) {
            let appid = &of_app[0].appid;
            let Some(app) = self.apps.get(appid) else {
                continue;
            };
            let series = page::series_of_app(appid, &app.name, &app.labels);
            let mut last = i64::MIN;
            for time in of_app.iter().flat_map(|shown| shown.times(self.step)) {
                if time > last {
                    writeln!(self.output, "{series} 1 {time}")?;
                    last = time;
                }
            }
        }
        Ok(())
    }
}

impl Shown {
    /// Returns the times of its samples: every multiple of `step`.
    fn times(&self, step: TimeDelta) -> impl Iterator<Item = i64> {
        let next = move |time: &i64| Some(time + step.num_seconds());
        std::iter::successors(Some(self.start), next).take_while(|time| *time < self.end)
    }
}

/// Returns the day of the week as the bundled rules number it.
fn weekday(day: NaiveDate) -> i64 {
    let days = day - DateTime::UNIX_EPOCH.date_naive();
    days.num_days().rem_euclid(7)
}

/// Writes a value at every time at which it was shown.
fn write_samples(
    output: &mut impl Write,
    series: &str,
    value: impl std::fmt::Display,
    shown: &Shown,
    step: TimeDelta,
) -> io::Result<()> {
    for time in shown.times(step) {
        writeln!(output, "{series} {value} {time}")?;
    }
    Ok(())
}

/// Returns when the page first showed a day; for one that arrived late, when it usually would have,
/// so that no later day precedes it.
fn known_at(record: &Record) -> DateTime<Utc> {
    let end = calendar::end_of_day(record.key.reference_date);
    if (end..calendar::next_midnight(end)).contains(&record.state.first_answered_at) {
        record.state.first_answered_at
    } else {
        calendar::expected_available_at(record.key.reference_date)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::collections::BTreeSet;

    use super::*;
    use crate::archive::{DayState, Key};
    use crate::calendar::Holidays;
    use crate::config::STALE_AFTER;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn record(day: &str, first_answered_at: &str) -> Record {
        Record {
            key: Key {
                appid: "wx0123456789abcdef".parse().unwrap(),
                window: Window::OneDay,
                reference_date: day.parse().unwrap(),
            },
            state: DayState {
                first_answered_at: utc(first_answered_at),
                answered_at: utc("2026-11-22T08:00:00Z"),
                settled: true,
                revisions: 2,
            },
            answer: String::new(),
        }
    }

    fn portrait(record: &Record, users: u64) -> Portrait {
        let mut portrait = Portrait::new(record.key.window, record.key.reference_date);
        let devices = portrait.breakdown_mut(Cohort::New, Dimension::Device);
        devices.add("苹果, \"XS\"".to_owned(), users);
        let ages = portrait.breakdown_mut(Cohort::Active, Dimension::Age);
        ages.add("18-24岁".to_owned(), users);
        portrait
    }

    /// Writes a day for each record: one user more than the day before.
    fn feed<W: Write>(mut writer: Writer<W>, records: &[Record]) {
        for (record, users) in records.iter().zip(1..) {
            let dimensions = [Dimension::Device, Dimension::Age];
            writer
                .add(record, portrait(record, users), &dimensions)
                .unwrap();
        }
        writer.finish().unwrap();
    }

    /// Returns the times and values of one series of OpenMetrics.
    fn samples(step: TimeDelta, now: &str, records: &[Record]) -> Vec<(String, u64)> {
        let mut output = Vec::new();
        feed(
            Writer::open_metrics(
                &mut output,
                step,
                STALE_AFTER,
                utc(now),
                HashMap::new(),
                &std::env::temp_dir(),
            )
            .unwrap(),
            records,
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
        let records = [
            record("2026-11-20", "2026-11-21T02:03:04Z"),
            record("2026-11-21", "2026-11-22T05:00:00Z"),
        ];
        let samples = samples(TimeDelta::hours(1), "2026-11-22T07:30:00Z", &records);
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
    fn a_day_that_arrived_late_has_the_samples_of_a_usual_one() {
        let records = [
            record("2026-11-20", "2026-11-22T02:00:00Z"),
            record("2026-11-21", "2026-11-22T02:00:01Z"),
        ];
        let samples = samples(TimeDelta::hours(6), "2026-11-22T20:00:00Z", &records);
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
        let records = [
            record("2026-11-01", "2026-11-02T02:00:00Z"),
            record("2026-11-11", "2026-11-12T02:00:00Z"),
        ];
        let samples = samples(TimeDelta::days(1), "2026-11-12T12:00:00Z", &records);
        let days: Vec<&str> = samples.iter().map(|(time, _)| &time[..2]).collect();
        assert_eq!(days, ["03", "04", "05"]);
    }

    #[test]
    fn a_name_that_a_day_lacks_is_a_zero_for_prometheus_and_absent_elsewhere() {
        let records = ["20", "21", "22"].map(|day| {
            let known_at: u32 = day.parse().unwrap();
            record(
                &format!("2026-11-{day}"),
                &format!("2026-11-{}T02:00:00Z", known_at + 1),
            )
        });
        let write = |mut writer: Writer<Vec<u8>>, is_first_wanted: bool| {
            for (record, name) in records.iter().zip(["iPhone", "Android", "iPhone"]) {
                let mut portrait = Portrait::new(record.key.window, record.key.reference_date);
                let platforms = portrait.breakdown_mut(Cohort::New, Dimension::Platform);
                platforms.add(name.to_owned(), 7);
                if is_first_wanted || record.key.reference_date > records[0].key.reference_date {
                    writer.add(record, portrait, &Dimension::ALL).unwrap();
                } else {
                    writer.pass_over(record, Some(portrait)).unwrap();
                }
            }
            match writer {
                Writer::OpenMetrics(mut open) => {
                    open.write_pending(None).unwrap();
                    open.output
                }
                Writer::Csv(csv) => csv.writer.into_inner().unwrap(),
                Writer::JsonLines(lines) => lines,
            }
        };
        let now = utc("2026-11-24T00:00:00Z");
        let metrics = || {
            Writer::open_metrics(
                Vec::new(),
                TimeDelta::days(1),
                STALE_AFTER,
                now,
                HashMap::new(),
                &std::env::temp_dir(),
            )
            .unwrap()
        };
        for (is_first_wanted, expected) in [
            (
                true,
                &["iPhone 7", "Android 7", "iPhone 0", "Android 0", "iPhone 7"][..],
            ),
            (
                false,
                &["Android 7", "iPhone 0", "Android 0", "iPhone 7"][..],
            ),
        ] {
            let text = String::from_utf8(write(metrics(), is_first_wanted)).unwrap();
            let samples = text.lines().filter_map(|line| {
                let (_, sample) = line.split_once(",name=\"")?;
                let (name, rest) = sample.split_once("\"} ")?;
                Some(format!("{name} {}", rest.split_once(' ')?.0))
            });
            assert_eq!(samples.collect::<Vec<_>>(), expected);
        }
        for writer in [
            Writer::csv(Vec::new(), HashMap::new(), false).unwrap(),
            Writer::json_lines(Vec::new()),
        ] {
            let text = String::from_utf8(write(writer, true)).unwrap();
            assert_eq!(text.matches("Android").count(), 1, "{text}");
            assert_eq!(text.matches("iPhone").count(), 2, "{text}");
        }
    }

    #[test]
    fn the_reference_date_is_exported_as_it_was_shown() {
        let mut output = Vec::new();
        let records = [
            record("2026-11-20", "2026-11-21T02:03:04Z"),
            record("2026-11-21", "2026-11-22T05:00:00Z"),
        ];
        let now = utc("2026-11-22T07:30:00Z");
        feed(
            Writer::open_metrics(
                &mut output,
                TimeDelta::hours(12),
                STALE_AFTER,
                now,
                HashMap::new(),
                &std::env::temp_dir(),
            )
            .unwrap(),
            &records,
        );
        let text = String::from_utf8(output).unwrap();
        let (text, _) = text.split_once("# TYPE appid_cohort_weekday:").unwrap();
        let (_, dates) = text
            .split_once("# TYPE wxapp_portrait_reference_date_timestamp_seconds gauge\n# HELP ")
            .unwrap();
        let series = "wxapp_portrait_reference_date_timestamp_seconds{appid=\"wx0123456789abcdef\",window=\"1d\"}";
        let midnight = utc("2026-11-19T16:00:00Z").timestamp();
        let at = |time| utc(time).timestamp();
        let expected = [at("2026-11-21T12:00:00Z"), at("2026-11-22T00:00:00Z")]
            .map(|time| format!("{series} {midnight} {time}\n"));
        assert_eq!(dates.split_once('\n').unwrap().1, expected.concat());
    }

    #[test]
    fn a_configured_app_has_its_name_once_at_every_time_at_which_any_window_was_shown() {
        let of = |appid: &str, window, day| {
            let known_at = format!("2026-11-{}T02:00:00Z", day + 1);
            let mut record = record(&format!("2026-11-{day}"), &known_at);
            record.key.appid = appid.parse().unwrap();
            record.key.window = window;
            record
        };
        let (shop, other) = ("wx0123456789abcdef", "wx1123456789abcdef");
        let records = [
            of(shop, Window::OneDay, 20),
            of(shop, Window::OneDay, 21),
            of(shop, Window::SevenDays, 11),
            of(shop, Window::SevenDays, 21),
            of(other, Window::SevenDays, 21),
        ];
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let app = App {
            name: "商城 \"A\\B\"".to_owned(),
            labels: BTreeMap::from([label("team", "零售"), label("city", "广州")]),
            comparison: Comparison::default(),
        };
        let mut output = Vec::new();
        let step = TimeDelta::hours(12);
        let now = utc("2026-11-23T07:30:00Z");
        let apps = HashMap::from([(shop.parse().unwrap(), app)]);
        let directory = std::env::temp_dir();
        let writer =
            Writer::open_metrics(&mut output, step, STALE_AFTER, now, apps, &directory).unwrap();
        feed(writer, &records);
        let text = String::from_utf8(output).unwrap();
        let (_, infos) = text
            .split_once("# TYPE wxapp_portrait_app_info gauge\n# HELP ")
            .unwrap();
        let shop = format!(r#"{{appid="{shop}",app="商城 \"A\\B\"",city="广州",team="零售"}}"#);
        let times = |labels: &str, hours: &[&str]| {
            let lines = hours.iter().map(|hour| {
                let time = utc(&format!("2026-11-{hour}:00:00Z")).timestamp();
                format!("wxapp_portrait_app_info{labels} 1 {time}\n")
            });
            lines.collect::<String>()
        };
        let until_stale = [
            "12T12", "13T00", "13T12", "14T00", "14T12", "15T00", "15T12",
        ];
        let expected = times(&shop, &until_stale)
            + &times(&shop, &["21T12", "22T00", "22T12", "23T00"])
            + "# EOF\n";
        let (_, infos) = infos.split_once('\n').unwrap();
        assert_eq!(infos, expected);
    }

    #[test]
    fn what_was_expected_of_a_day_is_exported_with_it() {
        let days: Vec<_> = (0..40)
            .map(|day| calendar::days_before("2026-11-21".parse().unwrap(), 39 - day))
            .collect();
        let mut output = Vec::new();
        let now = utc("2026-11-23T08:00:00Z");
        let comparison = Comparison {
            holidays: Holidays::none(),
            ..Comparison::default()
        };
        let records = days.iter().map(|day| {
            let known_at = calendar::expected_available_at(*day);
            record(&day.to_string(), &known_at.to_rfc3339())
        });
        let records: Vec<_> = records.collect();
        let app = App {
            name: String::new(),
            labels: BTreeMap::new(),
            comparison,
        };
        let apps = HashMap::from([(records[0].key.appid.clone(), app)]);
        let step = TimeDelta::days(1);
        let mut writer = Writer::open_metrics(
            &mut output,
            step,
            STALE_AFTER,
            now,
            apps,
            &std::env::temp_dir(),
        )
        .unwrap();
        for (number, record) in records.iter().enumerate() {
            let mut portrait = Portrait::new(Window::OneDay, record.key.reference_date);
            let platforms = portrait.breakdown_mut(Cohort::New, Dimension::Platform);
            platforms.add("iPhone".to_owned(), if number == 39 { 400 } else { 1_000 });
            if number < 20 {
                writer.pass_over(record, Some(portrait)).unwrap();
            } else {
                writer
                    .add(record, portrait, &[Dimension::Platform])
                    .unwrap();
            }
        }
        writer.finish().unwrap();
        let text = String::from_utf8(output).unwrap();
        let last = |series: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(series));
            let value = lines.next_back().and_then(|rest| rest.split(' ').nth(1));
            value.unwrap_or_else(|| panic!("{series}")).to_owned()
        };
        let of_app = |name: &str, labels: &str| {
            last(&format!(
                "wxapp_portrait_{name}{{appid=\"wx0123456789abcdef\",{labels}}}"
            ))
        };
        let of_window = "window=\"1d\",cohort=\"new\"";
        assert_eq!(of_app("cohort_users", of_window), "400");
        let lower = of_app("expected_cohort_users", "cohort=\"new\",bound=\"lower\"");
        assert_eq!(lower, "650");
        let platform = "cohort=\"new\",name=\"iPhone\",bound=\"usual\"";
        assert_eq!(of_app("expected_platform_users", platform), "1000");
        assert_eq!(of_app("expected_platform_share_ratio", platform), "1");
        assert_eq!(of_app("drift_ratio", "cohort=\"new\""), "0");
        assert_eq!(
            of_app("reference_day_info", "kind=\"weekend\",holiday=\"\""),
            "1"
        );
        let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let families: BTreeSet<_> = families.collect();
        assert_eq!(families.len(), 4 + GAUGES.len(), "each of them once");
        let samples = text.matches("wxapp_portrait_cohort_users{").count();
        assert_eq!(samples, 20, "days that are not selected have none");
        let recorded = |cohort: &str| {
            let series = format!(
                "appid_cohort_weekday:wxapp_portrait_cohort_users:max{{appid=\"wx0123456789abcdef\",cohort=\"{cohort}\","
            );
            text.matches(&series).count()
        };
        assert_eq!(
            (recorded("new"), recorded("active")),
            (20, 0),
            "unknown users have none"
        );
    }

    #[test]
    fn csv_has_a_header_and_quotes_where_it_must() {
        let mut output = Vec::new();
        let day = record("2026-11-20", "2026-11-21T02:03:04Z");
        feed(
            Writer::csv(&mut output, HashMap::new(), false).unwrap(),
            &[day],
        );
        insta::assert_snapshot!(String::from_utf8(output).unwrap());
        let mut output = Vec::new();
        feed(
            Writer::csv(&mut output, HashMap::new(), false).unwrap(),
            &[],
        );
        assert_eq!(String::from_utf8(output).unwrap().lines().count(), 1);
    }

    #[test]
    fn csv_has_no_formulas_and_other_formats_have_the_names_as_they_are() {
        let record = record("2026-11-20", "2026-11-21T02:03:04Z");
        for (name, written) in [
            ("=1+1", "'=1+1"),
            ("+861", "'+861"),
            ("-2", "'-2"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            ("vivo-X100 =+@", "vivo-X100 =+@"),
            ("'=1", "'=1"),
            ("18-24岁", "18-24岁"),
            (" =1", " =1"),
        ] {
            let mut portrait = Portrait::new(record.key.window, record.key.reference_date);
            let devices = portrait.breakdown_mut(Cohort::New, Dimension::Device);
            devices.add(name.to_owned(), 7);
            let names = HashMap::from([(record.key.appid.clone(), name.to_owned())]);
            let mut csv = Csv::new(Vec::new(), names, false).unwrap();
            csv.add(&record, &portrait, &[Dimension::Device]).unwrap();
            let text = csv.finish().unwrap();
            let row = csv::Reader::from_reader(&*text).into_records().next();
            let row = row.unwrap().unwrap();
            assert_eq!((&row[1], &row[6], &row[7]), (written, written, "7"));

            let mut json = Writer::json_lines(Vec::new());
            json.add(&record, portrait, &[Dimension::Device]).unwrap();
            let text = json.finish().unwrap();
            let row: Row<'_> = serde_json::from_slice(&text).unwrap();
            assert_eq!(row.name, name);
        }
    }

    #[test]
    fn json_lines_have_the_same_fields_and_are_read_back() {
        let mut output = Vec::new();
        let day = record("2026-11-20", "2026-11-21T02:03:04Z");
        feed(Writer::json_lines(&mut output), &[day]);
        let text = String::from_utf8(output).unwrap();
        insta::assert_snapshot!(text);
        for line in text.lines() {
            let row: Row<'_> = serde_json::from_str(line).unwrap();
            assert_eq!(serde_json::to_string(&row).unwrap(), line);
        }
    }

    /// Whatever integers and texts the archive may contain as days and times.
    fn records() -> impl Strategy<Value = Vec<Record>> {
        let day = prop_oneof![
            Just(NaiveDate::MIN),
            Just(NaiveDate::MAX),
            (-800_000..3_700_000).prop_filter_map("a day", NaiveDate::from_num_days_from_ce_opt),
            any::<i32>().prop_filter_map("a day", NaiveDate::from_num_days_from_ce_opt),
        ];
        let time = || {
            prop_oneof![
                Just(DateTime::<Utc>::MIN_UTC),
                Just(DateTime::<Utc>::MAX_UTC),
                (-9_000_000_000_000_i64..9_000_000_000_000)
                    .prop_filter_map("a time", |time| DateTime::from_timestamp(time, 0)),
            ]
        };
        let window = proptest::sample::select(Window::ALL.to_vec());
        let record = (day, time(), time(), window).prop_map(|(day, first, last, window)| {
            let mut record = record("2026-11-20", "2026-11-21T02:00:00Z");
            record.key.reference_date = day;
            record.key.window = window;
            record.state.first_answered_at = first;
            record.state.answered_at = last;
            record
        });
        proptest::collection::vec(record, 0..4)
    }

    proptest! {
        #[test]
        fn no_archived_date_whatever_panics(records in records(), stale_days in 1_u64..=400) {
            let stale_after = Duration::from_hours(24 * stale_days);
            let now = utc("2026-11-22T00:00:00Z");
            feed(Writer::open_metrics(io::sink(), TimeDelta::days(1), stale_after, now, HashMap::new(), &std::env::temp_dir()).unwrap(), &records);
            feed(Writer::csv(io::sink(), HashMap::new(), false).unwrap(), &records);
            feed(Writer::json_lines(io::sink()), &records);
        }
    }
}
