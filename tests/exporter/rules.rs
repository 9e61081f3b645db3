//! The recording rules and alerts: whether both versions of Prometheus accept them, whether their tests
//! in `tests/alerts` cover all of them, and whether everything that they name exists.
//!
//! What an alert waits for is tested in `tests/alerts` only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{APP, Exporter, Home, Page, WeChat, newer, root};
use crate::promql::{self, Vocabulary};

/// Of the public interface.
const ALERTS: [&str; 17] = [
    "WxappPortraitNewUsersSwing",
    "WxappPortraitActiveUsersSwing",
    "WxappPortraitPlatformUsersSwing",
    "WxappPortraitPlatformShareShift",
    "WxappPortraitPlatformVanished",
    "WxappPortraitPlatformAppeared",
    "WxappPortraitUsersDrift",
    "WxappPortraitStale",
    "WxappPortraitPollFailing",
    "WxappPortraitCredentialsRejected",
    "WxappPortraitQuotaExhausted",
    "WxappPortraitExporterDown",
    "WxappPortraitConfigReloadFailed",
    "WxappPortraitShardsMissing",
    "WxappPortraitShardsMismatch",
    "WxappPortraitShardsDoubled",
    "WxappPortraitArchiveFailing",
];

/// For people who are interested in users.
pub(crate) const SWINGS: &str = "wxapp-portrait.swings";
/// For dashboards.
const DAYS: &str = "wxapp-portrait.days";
/// For operators of the exporter.
pub(crate) const EXPORTER: &str = "wxapp-portrait.exporter";
const GROUPS: [&str; 3] = [SWINGS, DAYS, EXPORTER];

/// An alert, and the group it is in.
pub(crate) struct Alert {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) severity: String,
    rule: Value,
}

/// Returns all alerts; one with two severities is there twice.
pub(crate) fn alerts() -> Vec<Alert> {
    let rules = all_rules().into_iter();
    let alerts = rules.filter(|(_, rule)| !rule["alert"].is_null());
    let alerts = alerts.map(|(group, rule)| Alert {
        group,
        name: text(&rule["alert"]).to_owned(),
        severity: text(&rule["labels"]["severity"]).to_owned(),
        rule,
    });
    alerts.collect()
}

/// Returns all rules, each with the name of its group.
pub(crate) fn all_rules() -> Vec<(String, Value)> {
    let file = read(&rules_file());
    let mut all = Vec::new();
    for group in list(&file["groups"]) {
        for rule in list(&group["rules"]) {
            all.push((text(&group["name"]).to_owned(), rule.clone()));
        }
    }
    all
}

fn rules_file() -> PathBuf {
    root().join("alerts/wxapp-portrait.rules.yml")
}

/// Returns the files of a directory with this suffix.
fn files(directory: &str, end: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join(directory)).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_str().unwrap().ends_with(end));
    files.sort();
    assert!(!files.is_empty());
    files
}

fn read(file: &Path) -> Value {
    // JSON is YAML.
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn prometheus_2_42_accepts_the_rules_and_their_tests_pass() {
    take_and_test(Path::new("promtool"));
}

#[test]
fn prometheus_3_accepts_the_rules_and_their_tests_pass() {
    take_and_test(&newer("promtool"));
}

fn take_and_test(promtool: &Path) {
    let run = |arguments: [&str; 2], file: &Path| {
        let mut promtool = Command::new(promtool);
        let output = promtool.args(arguments).arg(file).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{}: {said}", file.display());
    };
    run(["check", "rules"], &rules_file());
    for file in files("tests/alerts", ".test.yml") {
        run(["test", "rules"], &file);
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_not_to_fire() {
    let (mut fired, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files("tests/alerts", ".test.yml") {
        let file = read(&file);
        for test in list(&file["tests"]) {
            for expectation in list(&test["alert_rule_test"]) {
                let name = text(&expectation["alertname"]).to_owned();
                let expected = list(&expectation["exp_alerts"]);
                if expected.is_empty() {
                    silent.insert(name.clone());
                }
                for alert in expected {
                    let severity = text(&alert["exp_labels"]["severity"]);
                    fired.insert((name.clone(), severity.to_owned()));
                }
            }
        }
    }
    let alerts = alerts();
    let all = alerts.iter();
    let all = all.map(|alert| (alert.name.clone(), alert.severity.clone()));
    assert_eq!(fired, all.collect());
    let all = alerts.iter().map(|alert| alert.name.clone());
    assert_eq!(silent, all.collect());
}

#[test]
fn alerts_have_everything_that_people_need() {
    let alerts = alerts();
    let mut names: Vec<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    names.dedup();
    assert_eq!(names, ALERTS);
    let common = [
        "summary",
        "summary_zh",
        "description",
        "description_zh",
        "runbook_url",
        "runbook_url_zh",
        "dashboard_url",
    ];
    // What is down has no page, and shards have several.
    let without_page = [
        "ExporterDown",
        "ShardsMissing",
        "ShardsMismatch",
        "ShardsDoubled",
    ];
    let with_page_of_an_exporter = ["ConfigReloadFailed", "ArchiveFailing"];
    let team = &alerts[0].rule["labels"]["team"];
    for Alert {
        group,
        name,
        severity,
        rule,
    } in &alerts
    {
        let severities: &[&str] = match group.as_str() {
            // No one is paged for a figure.
            SWINGS => &["warning", "info"],
            EXPORTER => &["warning", "critical"],
            _ => panic!("{name} is in the group {group}"),
        };
        assert!(severities.contains(&severity.as_str()), "{name}");
        let is_one_of = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let of_a_page = !is_one_of(&without_page);
        let of_an_app = of_a_page && !is_one_of(&with_page_of_an_exporter);
        // A label that changes, such as a value, would make another alert of it.
        let labels = if of_an_app {
            // Prometheus 3 forgets how long an alert with templates for labels has been pending.
            assert!(rule["for"].is_null(), "{name}");
            json!({"severity": severity, "team": team})
        } else {
            json!({"severity": severity})
        };
        assert_eq!(rule["labels"], labels, "{name}");

        let annotations = rule["annotations"].as_object().unwrap();
        let expected = common
            .iter()
            .chain(of_an_app.then_some(&"app"))
            .chain(of_a_page.then_some(&"page_url"));
        let found: BTreeSet<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(found, expected.copied().collect(), "{name}");
        for summary in ["summary", "summary_zh"] {
            let summary = text(&annotations[summary]);
            assert!(!summary.contains("{{"), "{name}");
            // Titles are cut there.
            assert!(summary.chars().count() <= 60, "{summary}");
        }
        for (chinese, key) in [(false, "description"), (true, "description_zh")] {
            let words = text(&annotations[key]);
            assert!(words.ends_with(if chinese { '。' } else { '.' }), "{words}");
        }
    }
}

#[test]
fn groups_and_records_have_the_usual_names() {
    let rules = all_rules();
    let mut groups: Vec<_> = rules.iter().map(|(group, _)| group.as_str()).collect();
    groups.dedup();
    assert_eq!(groups, GROUPS);
    for group in GROUPS {
        let rules = rules.iter().filter(|(its, _)| its == group);
        // As many as Mimir accepts by default.
        assert!(rules.count() <= 20, "{group}");
    }
    let everything = std::fs::read_to_string(rules_file()).unwrap();
    let mut seen = BTreeSet::new();
    for (group, rule) in &rules {
        let Some(record) = rule["record"].as_str() else {
            continue;
        };
        for (other, rule) in &rules {
            assert!(
                other == group || !rule.to_string().contains(record),
                "alerts must see what was just recorded: {record}"
            );
        }
        assert!(seen.insert(record), "{record} is recorded twice");
        let [level, metric, operation] = record.split(':').collect::<Vec<_>>()[..] else {
            panic!("{record} is not level:metric:operation")
        };
        let levels = [
            "appid_cohort_weekday",
            "instance_appid",
            "instance_appid_cohort",
            "instance_appid_cohort_name",
            "appid_window",
            "appid_window_reason",
        ];
        assert!(levels.contains(&level), "{record}");
        assert!(metric.starts_with("wxapp_portrait_"), "{record}");
        assert!(!operation.is_empty(), "{record}");
        // What is recorded rarely is only for dashboards.
        assert_eq!(
            everything.matches(record).count() == 1,
            group == DAYS,
            "{record}"
        );
    }
}

#[test]
fn the_runbook_has_a_section_for_every_alert() {
    let mut expected = ALERTS.to_vec();
    expected.sort_unstable();
    for path in ["docs/runbook.md", "docs/zh-CN/runbook.md"] {
        let runbook = std::fs::read_to_string(root().join(path)).unwrap();
        let headings = runbook.lines().filter_map(|line| line.strip_prefix("## "));
        let mut sections: Vec<_> = headings
            .filter(|heading| heading.starts_with("WxappPortrait"))
            .collect();
        sections.sort_unstable();
        assert_eq!(sections, expected, "{path}");
    }
}

#[test]
fn links_of_alerts_lead_to_their_runbook_and_to_existing_dashboards() {
    // The variables of each dashboard, by its uid.
    let mut dashboards = BTreeMap::new();
    for file in files("dashboards", ".json") {
        let dashboard = read(&file);
        let variables = list(&dashboard["templating"]["list"]).iter();
        let variables = variables.map(|variable| text(&variable["name"]).to_owned());
        let uid = text(&dashboard["uid"]).to_owned();
        dashboards.insert(uid, variables.collect::<BTreeSet<_>>());
    }
    for Alert {
        group, name, rule, ..
    } in alerts()
    {
        let url = |key: &str| text(&rule["annotations"][key]).to_owned();
        // As a heading becomes an anchor.
        for (key, page) in [
            ("runbook_url", "runbook.md"),
            ("runbook_url_zh", "zh-CN/runbook.md"),
        ] {
            let docs = "https://git.internal/wxapp-portrait-exporter/docs";
            assert_eq!(url(key), format!("{docs}/{page}#{}", name.to_lowercase()));
        }

        let dashboard = url("dashboard_url");
        let rest = dashboard.strip_prefix("http://localhost:3000/d/").unwrap();
        let (uid, query) = rest.split_once('?').unwrap_or((rest, ""));
        let variables = dashboards.get(uid);
        let variables = variables.unwrap_or_else(|| panic!("{name}: no dashboard has uid {uid}"));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (variable, value) = pair.split_once('=').unwrap();
            let variable = variable.strip_prefix("var-").unwrap();
            assert!(
                variables.contains(variable),
                "{name}: {uid} has no {variable}"
            );
            let label = match variable {
                // Without the appid of a target of its own.
                "instance" => r#"{{ reReplaceAll "/.*" "" $labels.instance }}"#.to_owned(),
                _ => format!("{{{{ $labels.{variable} }}}}"),
            };
            assert_eq!(value, label, "{name}");
        }
        // The dashboard shows one cohort at a time.
        let is_of_a_cohort = query.contains("var-cohort=");
        assert_eq!(is_of_a_cohort, group == SWINGS, "{name}");
    }
}

/// Starts an exporter of an app with some history.
async fn exporter() -> (WeChat, Home, Exporter) {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    // On a holiday nothing is expected of users.
    home.config["holidays"] = json!({"calendar": "none"});
    home.archive(&wechat, &[APP], 60);
    let exporter = home.start().await;
    exporter.ready().await;
    (wechat, home, exporter)
}

#[tokio::test]
async fn links_of_alerts_lead_to_places_on_the_pages() {
    let (_wechat, _home, exporter) = exporter().await;
    let mut places = BTreeSet::new();
    for file in files("tests/alerts", ".test.yml") {
        let file = read(&file);
        let tests = list(&file["tests"]).iter();
        let alerts = tests.flat_map(|test| list(&test["alert_rule_test"]));
        for alert in alerts.flat_map(|alert| list(&alert["exp_alerts"])) {
            let Some(url) = alert["exp_annotations"]["page_url"].as_str() else {
                continue;
            };
            let address = match alert["exp_labels"]["appid"].as_str() {
                Some(app) => url.replace(&format!("/apps/{app}"), &format!("/apps/{APP}")),
                None => url.to_owned(),
            };
            let place = address.strip_prefix("http://localhost:10690").unwrap();
            places.insert(place.to_owned());
        }
    }
    for place in &places {
        let (path, anchor) = place.split_once('#').unwrap_or((place, "main"));
        let (status, page) = exporter.get(path).await;
        assert_eq!(status, 200, "{place}");
        assert!(page.contains(&format!(" id=\"{anchor}\"")), "{place}");
    }
    assert_eq!(places.len(), 8, "{places:?}");
}

#[tokio::test]
async fn rules_use_only_what_is_on_the_page() {
    let (_wechat, _home, exporter) = exporter().await;
    // Until then no poll is finished.
    let page = exporter
        .metrics_with("a poll", |page| {
            let polls = page.series("wxapp_portrait_last_poll_success");
            (!polls.is_empty()).then(|| page.0.clone())
        })
        .await;
    // Only there while the last poll failed, with one of the reasons that failures are counted by.
    let failures = page.lines().filter_map(|line| {
        let labels = line.strip_prefix("wxapp_portrait_poll_failures_total{")?;
        Some(format!("wxapp_portrait_last_poll_failure_info{{{labels}\n"))
    });
    let page = failures.collect::<String>() + &page;
    let mut vocabulary = Vocabulary::of(&Page(page));
    let mut faults = Vec::new();
    for (_, rule) in all_rules() {
        let title = rule["record"].as_str().or(rule["alert"].as_str()).unwrap();
        let asked = promql::read(text(&rule["expr"])).unwrap();
        let unknown = vocabulary.unknown(&asked).into_iter();
        faults.extend(unknown.map(|what| format!("{title}: {what}")));
        for selector in &asked.selectors {
            let mut labels = selector.matchers.iter().map(|(label, ..)| label);
            if labels.any(|label| ["job", "instance"].contains(&label.as_str())) {
                faults.push(format!("{title}: names of jobs are up to the user"));
            }
        }
        for (metric, _) in &asked.offsets {
            // A gauge changes at another minute every day, so that the wrong days would be compared.
            if !metric.ends_with("_total") {
                faults.push(format!("{title}: offset of the gauge {metric}"));
            }
        }
        for annotation in rule["annotations"].as_object().into_iter().flatten() {
            let words =
                text(annotation.1).split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            for metric in words.filter(|word| word.contains("wxapp_portrait_")) {
                if !vocabulary.has(metric) {
                    faults.push(format!("{title}: no {metric} for its {}", annotation.0));
                }
            }
        }
        if let Some(record) = rule["record"].as_str() {
            vocabulary.record(record, &asked);
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
