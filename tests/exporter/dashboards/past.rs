//! The samples that Prometheus has of the past, without waiting for it.
//!
//! What the page showed of a day is read from a real `export`; when it was shown, and when it was
//! scraped, is up to the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use wxapp_portrait_exporter::calendar;

use super::grafana::{read, text};
use crate::harness::{Home, Prometheus};
use crate::rules;

/// The label of a series that names its app.
fn appid_label(appid: &str) -> String {
    format!("appid=\"{appid}\"")
}

/// The series of one app on the page, by the day they are of; each `metric{labels} value`.
pub(super) type Pages = BTreeMap<NaiveDate, Vec<String>>;

/// Returns the pages of each app, with these metrics only.
pub(super) fn pages(home: &Home, wanted: impl Fn(&str) -> bool) -> BTreeMap<String, Pages> {
    let mut pages: BTreeMap<String, Pages> = BTreeMap::new();
    for line in export(home, &["--step", "1d"]).lines() {
        let (series, time) = line.rsplit_once(' ').unwrap();
        let metric = series.split('{').next().unwrap();
        if !wanted(metric) {
            continue;
        }
        let time = DateTime::from_timestamp(time.parse().unwrap(), 0).unwrap();
        // The day arrives on the next one, and is shown on the morning of the one after that.
        let day = calendar::days_before(calendar::today(time), 2);
        let (_, rest) = series.split_once("appid=\"").unwrap();
        let (appid, _) = rest.split_once('"').unwrap();
        let pages = pages.entry(appid.to_owned()).or_default();
        pages.entry(day).or_default().push(series.to_owned());
    }
    pages
}

/// Returns the samples of `export` in the form of OpenMetrics, without its comments.
pub(super) fn export(home: &Home, arguments: &[&str]) -> String {
    let mut export = home.command_of("export");
    export
        .args(["--format", "openmetrics", "--window", "1d"])
        .args(["--dimension", "platform"])
        .args(arguments);
    let output = export.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let samples = String::from_utf8(output.stdout).unwrap();
    let samples = samples
        .split_inclusive('\n')
        .filter(|line| !line.starts_with('#'));
    samples.collect()
}

/// Returns samples with another app in the place of this one.
pub(super) fn renamed(samples: &str, appid: &str, other: &str) -> String {
    samples.replace(&appid_label(appid), &appid_label(other))
}

/// What Prometheus scrapes of one app.
pub(super) struct Target<'a> {
    /// The labels of the target, with a comma after each.
    pub(super) labels: String,
    pub(super) appid: &'a str,
    /// The labels of `wxapp_portrait_app_info`, but for the appid.
    pub(super) info: String,
    pub(super) pages: &'a Pages,
}

impl Target<'_> {
    /// Writes a sample of each series that is shown at these times; `shown` returns the day that is known
    /// then.
    pub(super) fn scrape(
        &self,
        history: &mut String,
        times: impl Iterator<Item = DateTime<Utc>>,
        shown: impl Fn(DateTime<Utc>) -> Option<NaiveDate>,
    ) {
        let Self { labels, appid, .. } = self;
        let info = format!(
            "wxapp_portrait_app_info{{{labels}appid=\"{appid}\",{}}} 1",
            self.info
        );
        let windows = format!(
            "wxapp_portrait_archived_portraits{{{labels}appid=\"{appid}\",window=\"1d\"}} 40"
        );
        let mut written: BTreeMap<NaiveDate, Vec<String>> = BTreeMap::new();
        for time in times {
            let at = time.timestamp();
            for series in [&info, &windows] {
                writeln!(history, "{series} {at}").unwrap();
            }
            let Some(day) = shown(time) else {
                continue;
            };
            let is_stale = day < calendar::days_before(calendar::today(time), 4);
            let series = written.entry(day).or_insert_with(|| {
                let series = self.pages[&day].iter();
                series.map(|series| self.own(series)).collect()
            });
            for series in series {
                if !is_stale || series.starts_with("wxapp_portrait_reference_date") {
                    writeln!(history, "{series} {at}").unwrap();
                }
            }
        }
    }

    /// Returns a series of the page with the labels of this target and app.
    fn own(&self, series: &str) -> String {
        let (metric, rest) = series.split_once('{').unwrap();
        let (_, rest) = rest.split_once("appid=\"").unwrap();
        let (_, rest) = rest.split_once('"').unwrap();
        let Self { labels, appid, .. } = self;
        format!("{metric}{{{labels}appid=\"{appid}\"{rest}")
    }
}

/// Returns the times from the first on, up to and without the last.
pub(super) fn times(
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    every: TimeDelta,
) -> impl Iterator<Item = DateTime<Utc>> {
    std::iter::successors(Some(from), move |time| Some(*time + every))
        .take_while(move |time| *time < to)
}

/// Returns the samples that Prometheus would have recorded by the rules of a group, each half hour.
pub(super) async fn recorded(
    prometheus: &Prometheus,
    group: &str,
    [from, to]: [DateTime<Utc>; 2],
) -> String {
    let mut samples = String::new();
    for (name, rule) in rules::all_rules() {
        if name != group {
            continue;
        }
        let parameters = [
            ("query", text(&rule["expr"])),
            ("start", &from.timestamp().to_string()),
            ("end", &to.timestamp().to_string()),
            ("step", "1800"),
        ];
        let answer = prometheus.ask("query_range", &parameters).await;
        for (labels, points) in read(&answer).unwrap() {
            let labels: Vec<_> = labels
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect();
            for (time, value) in points {
                let series = format!("{}{{{}}}", text(&rule["record"]), labels.join(","));
                writeln!(samples, "{series} {value} {time}").unwrap();
            }
        }
    }
    assert!(!samples.is_empty(), "the group {group} records nothing");
    samples
}
