//! Checks that `docs/metrics.md` describes every metric as it is served.
//!
//! Names, types, labels and meanings are read from a page of the real program; the values of a label,
//! from the comments of the source.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use regex::Regex;
use serde_json::json;
use walkdir::WalkDir;
use wxapp_portrait_exporter::archive::{DayState, Record, Row, Store};
use wxapp_portrait_exporter::portrait::{Dimension, Window};
use wxapp_portrait_exporter::web::RESERVED_PATHS;

use crate::harness::{
    APP, Exporter, Home, OTHER, Page, WeChat, assert_fresh, now, on_one_day, root, with_parts,
};
use crate::source;

/// One metric, as on a page.
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: Vec<String>,
}

#[tokio::test]
async fn the_document_of_metrics_describes_what_is_served() {
    on_one_day(async || {
        let (_wechat, exporter) = exporter_with_everything().await;
        let everything = exporter.metrics().await;
        let part = async |part: &str| {
            let (status, text) = exporter.get(&format!("/metrics?collect[]={part}")).await;
            assert_eq!(status, 200);
            families(&Page(text))
        };
        let (of_apps, own) = (part("portrait").await, part("exporter").await);
        let (process, own): (Vec<_>, Vec<_>) = own
            .into_iter()
            .partition(|family| family.name.starts_with("process_"));
        let mut missing = in_the_code();
        for family in of_apps.iter().chain(&own) {
            missing.remove(&family.name);
        }
        assert!(missing.is_empty(), "not on the page: {missing:?}");
        let documented = of_apps.len() + own.len() + process.len();
        assert_eq!(documented, families(&everything).len());

        let text = with_parts(
            "docs/metrics.md",
            &[
                ("metrics of apps", table(&of_apps)),
                ("metrics of the exporter", table(&own)),
                ("metrics of the process", table(&process)),
                ("labels", labels(&everything)),
                ("dimensions", dimensions()),
            ],
        );
        assert_fresh("docs/metrics.md", &text);
    })
    .await;
}

#[test]
fn the_document_of_metrics_has_every_endpoint() {
    let document = source::text("docs/metrics.md");
    for path in RESERVED_PATHS {
        let is_documented = |end| document.contains(&format!("\n| `{path}{end}"));
        assert!(
            is_documented("` |")
                || is_documented("?")
                || is_documented("APPID")
                || path == "/assets/",
            "{path} is missing"
        );
    }
}

/// Starts an exporter with a value for every metric.
pub(crate) async fn exporter_with_everything() -> (WeChat, Exporter) {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    // One failure, so that the metric of failed requests is there, and one that lasts.
    wechat.set_fault(APP, "http=502*1");
    wechat.set_fault(OTHER, "errcode=48001");
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    home.config["windows"] = json!(["1d", "7d", "30d"]);
    home.config["apps"][0]["labels"] = json!({"team": "零售"});
    // On a holiday nothing is expected of users.
    home.config["holidays"] = json!({"calendar": "none"});
    // Not settled, so that there is something to request at any time of the day.
    let mut archive = Store::of_guest(&home.path("data"), Arc::new(now));
    for window in Window::ALL {
        let records = wechat.records(APP, window, 60, now()).into_iter();
        let rows = records.map(|record| {
            let state = DayState {
                answered_at: record.state.first_answered_at,
                settled: false,
                ..record.state
            };
            Row::from(&Record { state, ..record })
        });
        archive.upsert(&rows.collect::<Vec<_>>()).unwrap();
    }
    drop(archive);
    let exporter = home.start().await;
    exporter
        .metrics_with("a failure and the end of the first poll", |page| {
            let failures = page.series("wxapp_portrait_api_request_failures_total");
            let polled = page.series("wxapp_portrait_last_poll_success");
            (!failures.is_empty() && polled.len() == 2 * Window::ALL.len()).then_some(())
        })
        .await;
    (wechat, exporter)
}

/// Returns the names of all metrics in the code.
fn in_the_code() -> BTreeSet<String> {
    let name = Regex::new(r#""(wxapp_portrait_[a-z_]+)""#).unwrap();
    let mut names = BTreeSet::new();
    let directory = root().join("src/exposition");
    for entry in WalkDir::new(directory) {
        let path = entry.unwrap().into_path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        names.extend(name.captures_iter(text).map(|found| found[1].to_owned()));
    }
    assert!(names.contains("wxapp_portrait_users"), "{names:?}");
    names
}

/// Reads the metrics of a page, in its order.
fn families(page: &Page) -> Vec<Family> {
    let label = Regex::new(r#"[{,]([a-z_]+)=""#).unwrap();
    let mut families: Vec<Family> = Vec::new();
    for line in page.0.lines() {
        if let Some(header) = line.strip_prefix("# HELP ") {
            let (name, help) = header.split_once(' ').unwrap();
            families.push(Family {
                name: name.to_owned(),
                help: help.to_owned(),
                kind: String::new(),
                labels: Vec::new(),
            });
            continue;
        }
        let family = families.last_mut().unwrap();
        if let Some(header) = line.strip_prefix("# TYPE ") {
            let (name, kind) = header.split_once(' ').unwrap();
            assert_eq!(name, family.name);
            kind.clone_into(&mut family.kind);
            continue;
        }
        assert!(line.starts_with(&family.name), "{line}");
        for found in label.captures_iter(line) {
            // Of a histogram; it is not a label of the measured value.
            if !family.labels.contains(&found[1].to_owned()) && &found[1] != "le" {
                family.labels.push(found[1].to_owned());
            }
        }
    }
    families
}

fn table(families: &[Family]) -> String {
    let mut table = "| name | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for Family {
        name,
        kind,
        help,
        labels,
    } in families
    {
        let labels = labels.join(", ");
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    table
}

/// Writes the values of labels with a fixed set, all of which are on the page.
fn labels(page: &Page) -> String {
    let mut table = "| label | value | meaning |\n|---|---|---|\n".to_owned();
    for path in [
        "src/portrait.rs",
        "src/expectation/bounds.rs",
        "src/calendar/holidays.rs",
        "src/wechat/errcodes.rs",
        "src/wechat/requests.rs",
        "src/archive/error.rs",
    ] {
        for string_enum in source::string_enum(path) {
            let label = string_enum.what.split(' ').next().unwrap();
            let documented: BTreeSet<_> = string_enum
                .values
                .iter()
                .map(|(value, _)| value.as_str())
                .collect();
            let shown = values(page, label);
            let mut shown: BTreeSet<_> = shown.iter().map(String::as_str).collect();
            if label == "kind" && shown.len() == 1 {
                // A day is of one kind only.
                shown.extend(&documented);
            }
            assert_eq!(shown, documented, "{label}");
            for (value, meaning) in &string_enum.values {
                assert!(!meaning.is_empty(), "{label} {value} has no comment");
                writeln!(table, "| {label} | `{value}` | {meaning} |").unwrap();
            }
        }
    }
    table
}

/// Returns all values of a label on a page.
fn values(page: &Page, label: &str) -> BTreeSet<String> {
    let value = Regex::new(&format!(r#"[{{,]{label}="([^"]*)""#)).unwrap();
    let found = value.captures_iter(&page.0);
    found.map(|found| found[1].to_owned()).collect()
}

/// Lists the dimensions of which WeChat lists every name.
fn dimensions() -> String {
    let string_enum = source::string_enum("src/portrait.rs");
    let dimension = string_enum
        .iter()
        .find(|enumeration| enumeration.what == "dimension")
        .unwrap();
    let meanings: BTreeMap<_, _> = dimension.values.iter().cloned().collect();
    let mut table = "| dimension | divides by | every name is listed |\n|---|---|---|\n".to_owned();
    for dimension in Dimension::ALL {
        let meaning = &meanings[dimension.as_str()];
        let meaning = meaning.trim_end_matches('.');
        let lists_every_name = if dimension.lists_every_name() {
            "yes"
        } else {
            "no"
        };
        writeln!(table, "| `{dimension}` | {meaning} | {lists_every_name} |").unwrap();
    }
    table
}
