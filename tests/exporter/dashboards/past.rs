//! The samples that Prometheus has of the past, without waiting for it.
//!
//! What the page showed of a day is read from a real `export`; when it was shown, and when it was
//! scraped, is up to the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use wxapp_portrait_exporter::calendar;

use super::grafana::{self, Dashboard, read, text};
use crate::harness::{Home, Prometheus};
use crate::{promql, rules};

/// Says which day the page is of.
pub(super) const REFERENCE_DATE: &str = "wxapp_portrait_reference_date_timestamp_seconds";

/// The label of a series that names its app.
fn appid_label(appid: &str) -> String {
    format!("appid=\"{appid}\"")
}

/// The series of one app on the page, by the day they are of; each `metric{labels} value`.
pub(super) type Pages = BTreeMap<NaiveDate, Vec<String>>;

/// Returns the pages of each app that `export` has with these arguments, with these metrics and the reference date.
pub(super) fn pages(
    home: &Home,
    arguments: &[&str],
    wanted: impl Fn(&str) -> bool,
) -> BTreeMap<String, Pages> {
    let mut samples: BTreeMap<(String, i64), Vec<String>> = BTreeMap::new();
    let mut days = BTreeMap::new();
    // Every day is shown at one of these times at least, since the next arrives a day later.
    for line in export(home, &[&["--step", "12h"], arguments].concat()).lines() {
        let (line, time) = line.rsplit_once(' ').unwrap();
        let (series, value) = line.rsplit_once(' ').unwrap();
        let metric = series.split('{').next().unwrap();
        let at = (appid_of(series).to_owned(), time.parse().unwrap());
        if metric == REFERENCE_DATE {
            let midnight = DateTime::from_timestamp(value.parse().unwrap(), 0).unwrap();
            days.insert(at.clone(), calendar::today(midnight));
        }
        // What rules record is on no page.
        if !metric.contains(':') && (metric == REFERENCE_DATE || wanted(metric)) {
            samples.entry(at).or_default().push(line.to_owned());
        }
    }
    let mut pages: BTreeMap<String, Pages> = BTreeMap::new();
    for (at, series) in samples {
        let day = days[&at];
        pages.entry(at.0).or_default().insert(day, series);
    }
    pages
}

/// Adds what a page shows now.
pub(super) fn add_newest(
    pages: &mut BTreeMap<String, Pages>,
    page: &str,
    wanted: impl Fn(&str) -> bool,
) {
    let mut newest: BTreeMap<&str, (Option<NaiveDate>, Vec<String>)> = BTreeMap::new();
    for line in page.lines().filter(|line| line.contains("{appid=")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let metric = series.split('{').next().unwrap();
        if metric == REFERENCE_DATE || wanted(metric) {
            let (day, series) = newest.entry(appid_of(series)).or_default();
            series.push(line.to_owned());
            if metric == REFERENCE_DATE {
                let midnight = DateTime::from_timestamp(value.parse().unwrap(), 0).unwrap();
                *day = Some(calendar::today(midnight));
            }
        }
    }
    for (appid, (day, series)) in newest {
        if let Some(day) = day {
            pages
                .entry(appid.to_owned())
                .or_default()
                .insert(day, series);
        }
    }
}

/// Returns the metrics of the charts on the day axis, and those that are recorded for them.
pub(super) fn metrics(dashboards: &[Dashboard]) -> BTreeSet<String> {
    let mut metrics = BTreeSet::from(["wxapp_portrait_cohort_users".to_owned()]);
    for (_, _, target) in grafana::day_charts(dashboards) {
        let selectors = promql::read(text(&target["expr"])).unwrap().selectors;
        metrics.extend(selectors.into_iter().map(|selector| selector.metric));
    }
    // Every target has it, whether it has pages or not.
    metrics.remove("wxapp_portrait_app_info");
    metrics
}

/// Returns the value of the label `appid`.
pub(super) fn appid_of(series: &str) -> &str {
    let (_, rest) = series.split_once("appid=\"").unwrap();
    rest.split_once('"').unwrap().0
}

/// Returns the samples of `export` in the form of OpenMetrics, without its comments.
pub(super) fn export(home: &Home, arguments: &[&str]) -> String {
    let mut export = home.command_of("export");
    export
        .args(["--format", "openmetrics", "--dimension", "platform"])
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
    pub(super) name: &'a str,
    pub(super) team: &'a str,
    pub(super) pages: &'a Pages,
    /// Whether to write what rules record of it, too.
    pub(super) is_recorded: bool,
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
        let team = match self.team {
            "" => String::new(),
            team => format!(",team={}", quoted(team)),
        };
        let info = format!(
            "wxapp_portrait_app_info{{{labels}appid=\"{appid}\",app={}{team}}} 1",
            quoted(self.name)
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
                let own = series.clone().map(|series| self.own(series));
                let recorded = series.filter_map(|series| self.recorded(series, day));
                own.chain(recorded).collect()
            });
            for series in series {
                if !is_stale || series.starts_with(REFERENCE_DATE) {
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

    /// Returns what a rule records of a series of the page, as `alerts/wxapp-portrait.rules.yml` defines it.
    fn recorded(&self, series: &str, day: NaiveDate) -> Option<String> {
        let (_, rest) = series.split_once("wxapp_portrait_cohort_users{")?;
        let (cohort, rest) = rest.split_once("cohort=\"")?.1.split_once('"')?;
        let (_, users) = rest.rsplit_once(' ')?;
        let weekday = (day - NaiveDate::default()).num_days() % 7;
        let appid = self.appid;
        (self.is_recorded && series.contains("window=\"1d\"")).then(|| {
            format!(
                "appid_cohort_weekday:wxapp_portrait_cohort_users:max{{appid=\"{appid}\",\
                 cohort=\"{cohort}\",weekday=\"{weekday}\"}} {users}"
            )
        })
    }
}

/// Returns a value of a label as it is written.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', r"\\").replace('"', "\\\""))
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

/// Returns the samples that Prometheus would have recorded by the rules of a group, every half hour.
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
                .map(|(name, value)| format!("{name}={}", quoted(value)))
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
