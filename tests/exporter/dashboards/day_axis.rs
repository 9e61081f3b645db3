//! The day axis of the charts: whichever way the figures of a day came into Prometheus, it has one bar
//! with these figures, in every time zone. The same is true for the figures of the newest day.
//!
//! All apps here have the figures of one app, so that their bars must be the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Utc};
use serde_json::{Value, json};
use tempfile::TempDir;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use super::grafana::{
    self, BEIJING, Choice, Choices, Dashboard, Viewer, day_charts, day_of, text, values,
};
use super::past::{self, REFERENCE_DATE, Target, export, renamed, times};
use super::{close, form};
use crate::harness::{APP, Home, Labels, Prometheus, WeChat, apps_of, backfill, newer};

/// When the dashboards are opened: on 2026-03-20 at 15:00 in Beijing, a Friday after four weeks without a
/// public holiday, and two weeks after daylight saving time began in New York.
const NOW: &str = "2026-03-20T07:00:00Z";

/// The time zones, and how far they are ahead of UTC at that time, in hours.
const ZONES: [(&str, i64); 5] = [
    ("Asia/Shanghai", 8),
    ("UTC", 0),
    ("America/New_York", -4),
    ("Asia/Tokyo", 9),
    ("Pacific/Auckland", 13),
];

/// The days from the first scrape on.
const SCRAPED: u64 = 7;

/// How the days of an app came into Prometheus. Each is an app of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Imported, and later scraped from one exporter.
    Regular,
    /// With some days that arrived after the second midnight, or the third.
    Late,
    /// With eight hours a day that were not scraped.
    Gaps,
    /// By `export` alone.
    Imported,
    /// Imported, and scraped from two exporters, of which one is late.
    Pair,
    /// By `export` from an archive that ended five days ago.
    Ended,
}

impl Way {
    const ALL: [Self; 6] = [
        Self::Regular,
        Self::Late,
        Self::Gaps,
        Self::Imported,
        Self::Pair,
        Self::Ended,
    ];

    fn appid(self) -> String {
        format!("wx{:016}", self as u8)
    }

    fn name(self) -> String {
        format!("{self:?}")
    }
}

/// Returns when a page first shows a day.
fn arrival(way: Way, yesterday: NaiveDate, day: NaiveDate) -> DateTime<Utc> {
    let days_ago = (yesterday - day).num_days();
    let hours = match (way, days_ago) {
        // After the second midnight.
        (Way::Late, 5) => 24 + 24 + 3,
        // After the third one, which delays the next day, too.
        (Way::Late, 3) => 24 + 48 + 3,
        (Way::Late, 2) => 24 + 24 + 9,
        _ => 24 + 10,
    };
    calendar::midnight(day) + TimeDelta::hours(hours) + TimeDelta::minutes(20)
}

/// Whether Prometheus scrapes an app at a time.
fn is_scraped(way: Way, time: DateTime<Utc>) -> bool {
    let beijing = time + TimeDelta::seconds(BEIJING);
    let minute = beijing.timestamp().rem_euclid(86400) / 60;
    let gap = match calendar::today(time).ordinal() % 3 {
        // Around the arrival of a day.
        0 => 8 * 60..16 * 60,
        // Around midnight in Beijing.
        1 => 18 * 60..24 * 60,
        _ => 0..2 * 60,
    };
    way != Way::Gaps || !gap.contains(&minute)
}

/// The bars of charts, or figures of the newest day, by their place and the labels of the series.
type Bars = BTreeMap<String, BTreeMap<NaiveDate, f64>>;

fn place(dashboard: &Dashboard, panel: &Value, target: &Value) -> String {
    let (title, query) = (text(&panel["title"]), text(&target["refId"]));
    format!("{}, panel `{title}`, query {query}", dashboard.name)
}

/// Returns the bars of all charts for an app.
async fn bars(viewer: &Viewer<'_>, dashboards: &[Dashboard], way: Way) -> Bars {
    shown(viewer, dashboards, &day_charts(dashboards), way).await
}

/// Returns all figures and tables for an app.
async fn figures(viewer: &Viewer<'_>, dashboards: &[Dashboard], way: Way) -> Bars {
    let mut asked = Vec::new();
    for dashboard in dashboards {
        for panel in dashboard.panels() {
            let targets = values(&panel["targets"]).iter();
            let instant = targets.filter(|target| target["instant"] == true);
            asked.extend(instant.map(|target| (dashboard, panel, target)));
        }
    }
    shown(viewer, dashboards, &asked, way).await
}

/// Returns what queries of panels show of an app.
async fn shown(
    viewer: &Viewer<'_>,
    dashboards: &[Dashboard],
    asked: &[(&Dashboard, &Value, &Value)],
    way: Way,
) -> Bars {
    let mut bars = Bars::new();
    let chosen = Choices::from([
        ("appid".to_owned(), Choice::One(way.appid())),
        ("filter".to_owned(), Choice::One(way.name())),
    ]);
    let mut chosen_of = BTreeMap::new();
    for dashboard in dashboards {
        let mut choices = chosen.clone();
        for (name, options) in viewer.options(dashboard, &chosen).await.unwrap() {
            choices.entry(name).or_insert_with(|| options[0].clone());
        }
        chosen_of.insert(&dashboard.name, choices);
    }
    for (dashboard, panel, target) in asked {
        let choices = &chosen_of[&dashboard.name];
        let place = place(dashboard, panel, target);
        let answer = viewer.ask(dashboard, panel, target, choices).await;
        for (mut labels, points) in answer.unwrap_or_else(|problem| panic!("{place}: {problem}")) {
            labels.retain(|name, _| !["app", "appid"].contains(&name.as_str()));
            let points = points.into_iter().map(|(time, value)| {
                let is_midnight = (time + viewer.ahead).rem_euclid(86400) == 0;
                assert!(is_midnight || target["instant"] == true, "{place}");
                (day_of(time), value)
            });
            bars.insert(format!("{place} {labels:?}"), points.collect());
        }
    }
    bars
}

/// Removes what charts cannot have of an app without the days after the last one.
fn end(bars: &mut Bars, asked: &BTreeMap<String, String>, last: NaiveDate) {
    bars.retain(|place, days| {
        let (place, _) = place.split_once(" {").unwrap();
        let asked = &asked[place];
        // The same days are shown a week later as well.
        let later = if asked.contains("offset 3d") { 7 } else { 0 };
        days.retain(|day, _| *day <= last + TimeDelta::days(later));
        // The largest are those of the newest day.
        !asked.contains("topk(10,")
    });
}

/// Returns the differences of bars from those that are expected.
fn differences(shown: &Bars, expected: &Bars) -> Vec<String> {
    let mut differences = Vec::new();
    let nothing = BTreeMap::new();
    for (place, expected) in expected {
        let shown = shown.get(place).unwrap_or(&nothing);
        let days: BTreeSet<_> = shown.keys().chain(expected.keys()).collect();
        for day in days {
            let expected = expected.get(day);
            let is_right = match (shown.get(day), expected) {
                (Some(shown), Some(expected)) => close(*shown, *expected),
                (shown, expected) => shown == expected,
            };
            if !is_right {
                let shown = shown.get(day);
                differences.push(format!(
                    "{place} on {day}: {shown:?} instead of {expected:?}"
                ));
            }
        }
    }
    let unexpected = shown.keys().filter(|place| !expected.contains_key(*place));
    differences.extend(unexpected.map(|place| format!("{place} is unexpected")));
    differences
}

/// Writes the samples of all apps; returns the directory with the blocks.
async fn blocks(wechat: &WeChat, dashboards: &[Dashboard], now: DateTime<Utc>) -> TempDir {
    let home = Home::of(wechat, &[APP]);
    home.archive_at(now, &[Window::OneDay], wechat, &[APP], 70);
    let yesterday = calendar::yesterday(now);
    let metrics = past::metrics(dashboards);
    let wanted = |metric: &str| metric == REFERENCE_DATE || metrics.contains(metric);
    let pages = past::pages(&home, &[], wanted);
    let pages = &pages[APP];

    let first_scrape = calendar::midnight(calendar::days_before(yesterday, SCRAPED));
    let mut history = String::new();
    for way in Way::ALL {
        let last_imported = match way {
            Way::Imported => yesterday,
            Way::Ended => calendar::days_before(yesterday, 5),
            // It overlaps with what is scraped.
            Way::Pair => calendar::days_before(yesterday, 3),
            _ => calendar::days_before(calendar::today(first_scrape), 2),
        };
        let imported = if way == Way::Ended {
            let ended = Home::of(wechat, &[APP]);
            let end = calendar::midnight(last_imported) + TimeDelta::hours(40);
            ended.archive_at(end, &[Window::OneDay], wechat, &[APP], 65);
            export(&ended, &[])
        } else {
            export(&home, &["--to", &last_imported.to_string()])
        };
        let imported = renamed(&imported, APP, &way.appid());
        for line in imported.split_inclusive('\n') {
            let (series, time) = line.trim_end().rsplit_once(' ').unwrap();
            let metric = series.split('{').next().unwrap();
            if wanted(metric) && time.parse::<i64>().unwrap() <= now.timestamp() {
                history += line;
            }
        }
        let exporters = if way == Way::Pair { 2 } else { 1 };
        for exporter in 0..exporters {
            let target = Target {
                labels: format!("job=\"wxapp\",instance=\"10.0.0.{exporter}:10690\","),
                appid: &way.appid(),
                name: &way.name(),
                team: "零售",
                pages,
                is_recorded: false,
            };
            let late = TimeDelta::hours(5 * exporter);
            // Not at a whole minute, and less often than once a minute: that is the same for charts as long as Prometheus sees a sample for five minutes.
            let start = first_scrape + TimeDelta::seconds(23 + exporter);
            let scrapes = times(start, now, TimeDelta::minutes(4));
            target.scrape(
                &mut history,
                scrapes.filter(|time| is_scraped(way, *time)),
                |time| {
                    let mut days = pages.keys().rev();
                    let shown = |day: &&NaiveDate| arrival(way, yesterday, **day) + late <= time;
                    if [Way::Imported, Way::Ended].contains(&way) {
                        return None;
                    }
                    days.find(shown).copied()
                },
            );
        }
    }
    history += "# EOF\n";
    let file = home.path("history");
    std::fs::write(&file, history).unwrap();
    let blocks = tempfile::tempdir().unwrap();
    backfill(&file, blocks.path());

    // The rules that charts depend on, applied to all that.
    let prometheus = Prometheus::over(blocks, &json!({}));
    // Not at a whole minute.
    let start = calendar::midnight(calendar::days_before(yesterday, 40)) + TimeDelta::seconds(407);
    let recorded = past::recorded(&prometheus, "wxapp-portrait.days", [start, now]).await;
    std::fs::write(&file, recorded + "# EOF\n").unwrap();
    let blocks = prometheus.stop();
    backfill(&file, blocks.path());
    blocks
}

#[tokio::test]
async fn every_way_to_the_same_days_gives_the_same_bars() {
    let now: DateTime<Utc> = NOW.parse().unwrap();
    let yesterday = calendar::yesterday(now);
    let mut dashboards = grafana::all();
    dashboards.retain(|dashboard| dashboard.name != form::OF_EXPORTERS);
    let wechat = WeChat::start(apps_of(&[&format!("{APP}=60000")]), move || now).await;
    let totals = ["new", "active"].map(|cohort| {
        let days = (0..30).map(|days_ago| calendar::days_before(yesterday, days_ago));
        let total = |day| {
            let users = wechat.users(APP, Window::OneDay, day).into_iter();
            let of =
                |labels: &Labels| labels["cohort"] == cohort && labels["dimension"] == "platform";
            users
                .filter(|(labels, _)| of(labels))
                .map(|(_, users)| users)
                .sum()
        };
        days.map(|day| (day, total(day)))
            .collect::<BTreeMap<_, f64>>()
    });
    let blocks = blocks(&wechat, &dashboards, now).await;
    let asked = day_charts(&dashboards).into_iter();
    let asked = asked.map(|(dashboard, panel, target)| {
        let asked = text(&target["expr"]).to_owned();
        (place(dashboard, panel, target), asked)
    });
    let asked: BTreeMap<_, _> = asked.collect();
    let mut faults = Vec::new();
    let mut directory = blocks;
    for program in [PathBuf::from("prometheus"), newer("prometheus")] {
        let program = program.to_str().unwrap();
        let prometheus = Prometheus::run(program, directory, &json!({}));
        let mut viewer = Viewer::new(&prometheus, now);
        let expected = bars(&viewer, &dashboards, Way::Regular).await;
        assert!(
            expected.values().all(|days| days.len() > 20),
            "{expected:?}"
        );
        // The charts of each cohort have the answers of WeChat.
        for totals in &totals {
            let right = expected.values().filter(|days| *days == totals);
            assert!(right.count() > 1, "{totals:?} in {expected:?}");
        }
        for way in Way::ALL {
            let mut expected = expected.clone();
            if way == Way::Ended {
                end(&mut expected, &asked, calendar::days_before(yesterday, 5));
            }
            let shown = bars(&viewer, &dashboards, way).await;
            let differences = differences(&shown, &expected).into_iter();
            faults.extend(differences.map(|what| format!("{program}: {way:?}: {what}")));
        }
        // One of the two exporters does not know the newest day yet, which is the one that counts.
        let expected_now = figures(&viewer, &dashboards, Way::Regular).await;
        for totals in &totals {
            let right = |days: &&BTreeMap<_, _>| days.values().eq([&totals[&yesterday]]);
            let right = expected_now.values().filter(right);
            assert!(right.count() > 1, "{totals:?} in {expected_now:?}");
        }
        let shown = figures(&viewer, &dashboards, Way::Pair).await;
        let wrong = differences(&shown, &expected_now).into_iter();
        faults.extend(wrong.map(|what| format!("{program}: two exporters: {what}")));
        for (zone, hours) in &ZONES[1..] {
            viewer.ahead = hours * 3600;
            let shown = bars(&viewer, &dashboards, Way::Late).await;
            let differences = differences(&shown, &expected).into_iter();
            faults.extend(differences.map(|what| format!("{program}: {zone}: {what}")));
        }
        directory = prometheus.stop();
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
