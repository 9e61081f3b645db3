//! The recording rules and alerts: whether both versions of Prometheus take them, whether their tests in
//! `tests/alerts` leave none out, and whether all that they name is there.
//!
//! What an alert waits for is told by `tests/alerts` alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{APP, Home, WeChat, newer};

/// Of the public interface.
const ALERTS: [&str; 13] = [
    "WxappPortraitNewUsersSwing",
    "WxappPortraitActiveUsersSwing",
    "WxappPortraitPlatformUsersSwing",
    "WxappPortraitPlatformShareShift",
    "WxappPortraitPlatformVanished",
    "WxappPortraitPlatformAppeared",
    "WxappPortraitStale",
    "WxappPortraitPollFailing",
    "WxappPortraitCredentialsRejected",
    "WxappPortraitQuotaExhausted",
    "WxappPortraitExporterDown",
    "WxappPortraitConfigReloadFailed",
    "WxappPortraitArchiveFailing",
];

/// For those who care about users.
pub(crate) const SWINGS: &str = "wxapp-portrait.swings";
/// For those who run the exporter.
pub(crate) const EXPORTER: &str = "wxapp-portrait.exporter";
const GROUPS: [&str; 2] = [SWINGS, EXPORTER];

/// An alert, and the group it is in.
pub(crate) struct Alert {
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) severity: String,
    rule: Value,
}

/// Answers all alerts; one of two severities is there twice.
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

fn all_rules() -> Vec<(String, Value)> {
    let file = read(&rules_file());
    let mut all = Vec::new();
    for group in list(&file["groups"]) {
        for rule in list(&group["rules"]) {
            all.push((text(&group["name"]).to_owned(), rule.clone()));
        }
    }
    all
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rules_file() -> PathBuf {
    root().join("alerts/wxapp-portrait.rules.yml")
}

/// Answers the files of a folder with this end of a name.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join(folder)).unwrap();
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
fn prometheus_2_42_takes_the_rules_and_they_do_what_they_are_to() {
    take_and_test(Path::new("promtool"));
}

#[test]
fn prometheus_3_takes_the_rules_and_they_do_what_they_are_to() {
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
fn every_alert_is_seen_to_fire_and_to_be_silent() {
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
fn alerts_have_all_that_people_need() {
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
        "dashboard_url",
    ];
    let not_of_an_app = ["ExporterDown", "ConfigReloadFailed", "ArchiveFailing"];
    for Alert {
        group,
        name,
        severity,
        rule,
    } in &alerts
    {
        let severities: &[&str] = match group.as_str() {
            // Nobody is woken for a figure.
            SWINGS => &["warning", "info"],
            EXPORTER => &["warning", "critical"],
            _ => panic!("{name} is in the group {group}"),
        };
        assert!(severities.contains(&severity.as_str()), "{name}");
        // A label that changes, such as a value, would make another alert of it.
        assert_eq!(rule["labels"].as_object().unwrap().len(), 1, "{name}");

        let annotations = rule["annotations"].as_object().unwrap();
        let of_an_app = !not_of_an_app.iter().any(|end| name.ends_with(end));
        let expected = common.iter().chain(of_an_app.then_some(&"app"));
        let found: BTreeSet<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(found, expected.copied().collect(), "{name}");
        for summary in ["summary", "summary_zh"] {
            assert!(!text(&annotations[summary]).contains("{{"), "{name}");
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
    let everything = std::fs::read_to_string(rules_file()).unwrap();
    let mut seen = BTreeSet::new();
    for (group, rule) in &rules {
        let Some(record) = rule["record"].as_str() else {
            continue;
        };
        assert_eq!(
            group, SWINGS,
            "alerts must see what was just recorded: {record}"
        );
        assert!(seen.insert(record), "{record} is recorded twice");
        let [level, metric, operation] = record.split(':').collect::<Vec<_>>()[..] else {
            panic!("{record} is not level:metric:operation")
        };
        assert!(
            ["instance_appid", "appid_cohort_name", "appid_cohort"].contains(&level),
            "{record}"
        );
        assert!(metric.starts_with("wxapp_portrait_"), "{record}");
        assert!(!operation.is_empty(), "{record}");
        assert!(
            everything.matches(record).count() > 1,
            "nobody asks for {record}"
        );
    }
}

#[test]
fn the_runbook_has_a_section_for_every_alert() {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let headings = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let sections: Vec<_> = headings
        .filter(|heading| heading.starts_with("WxappPortrait"))
        .collect();
    let (mut found, mut expected) = (sections.clone(), ALERTS.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn links_of_alerts_lead_to_their_runbook_and_to_dashboards_that_are_there() {
    // The variables of each dashboard, by its uid.
    let mut dashboards = BTreeMap::new();
    for file in files("dashboards", ".json") {
        let dashboard = read(&file);
        let variables = list(&dashboard["templating"]["list"]).iter();
        let variables = variables.map(|variable| text(&variable["name"]).to_owned());
        let uid = text(&dashboard["uid"]).to_owned();
        dashboards.insert(uid, variables.collect::<BTreeSet<_>>());
    }
    for Alert { name, rule, .. } in alerts() {
        let url = |key: &str| text(&rule["annotations"][key]).to_owned();
        // As a heading becomes an anchor.
        let runbook = format!(
            "https://example.com/wxapp-portrait-exporter/docs/runbook.md#{}",
            name.to_lowercase()
        );
        assert_eq!(url("runbook_url"), runbook);

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
            assert_eq!(value, format!("{{{{ $labels.{variable} }}}}"), "{name}");
        }
    }
}

#[tokio::test]
async fn rules_ask_for_nothing_that_the_page_lacks() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    home.archive(&wechat, &[APP], 30);
    let exporter = home.start().await;
    exporter.ready().await;
    // Until then nothing is known of a poll.
    let page = exporter
        .metrics_with("a poll", |page| {
            let polls = page.series("wxapp_portrait_last_poll_success");
            (!polls.is_empty()).then(|| page.0.clone())
        })
        .await;
    let page = crate::harness::Page(page);

    // The labels of every metric, and the values of each.
    let mut known: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in page.0.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        if !known.contains_key(name) {
            let labels = known.entry(name.to_owned()).or_default();
            for (label, value) in page.series(name).into_keys().flatten() {
                labels.entry(label).or_default().insert(value);
            }
        }
    }
    known.insert("up".to_owned(), BTreeMap::new());
    for labels in known.values_mut() {
        for label in ["job", "instance"] {
            labels.entry(label.to_owned()).or_default();
        }
    }
    let mut faults = Vec::new();
    for (_, rule) in all_rules() {
        let title = rule["record"].as_str().or(rule["alert"].as_str()).unwrap();
        let asked = ask(text(&rule["expr"]));
        let mut labels = BTreeMap::new();
        for (metric, matchers) in &asked.selectors {
            let Some(of_metric) = known.get(metric) else {
                faults.push(format!("{title}: there is no {metric}"));
                continue;
            };
            labels.extend(of_metric.clone());
            for (label, value) in matchers {
                let Some(values) = of_metric.get(label) else {
                    faults.push(format!("{title}: {metric} has no label {label}"));
                    continue;
                };
                // Of patterns that choose from words, every word must be there.
                for word in value.split('|').filter(|word| !word.is_empty()) {
                    if !values.contains(word) {
                        faults.push(format!("{title}: {metric} never has {label}=\"{word}\""));
                    }
                }
            }
        }
        for label in asked
            .labels
            .iter()
            .filter(|label| !labels.contains_key(*label))
        {
            faults.push(format!("{title}: nothing here has a label {label}"));
        }
        for metric in &asked.shifted {
            // A gauge changes at another minute every day, so that the wrong days would be compared.
            if !metric.ends_with("_total") {
                faults.push(format!("{title}: offset of the gauge {metric}"));
            }
        }
        for annotation in rule["annotations"].as_object().into_iter().flatten() {
            let words =
                text(annotation.1).split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            for metric in words.filter(|word| word.contains("wxapp_portrait_")) {
                if !known.contains_key(metric) {
                    faults.push(format!("{title}: no {metric} for its {}", annotation.0));
                }
            }
        }
        if let Some(record) = rule["record"].as_str() {
            known.insert(record.to_owned(), labels);
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// What an expression asks for.
#[derive(Debug, Default)]
struct Asked {
    /// Metrics, each with the labels and values that it is chosen by.
    selectors: Vec<(String, Vec<(String, String)>)>,
    /// The labels of all lists.
    labels: Vec<String>,
    /// The metrics that are asked for as of another time.
    shifted: Vec<String>,
}

/// Reads as much of an expression as is needed here; whether it is right is for Prometheus to say.
fn ask(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let tokens = tokens(expression);
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let (mut in_list, mut in_braces) = (false, false);
    for at in 0..tokens.len() {
        let (word, next) = (token(at), token(at + 1));
        match word {
            "{" => in_braces = true,
            "}" => in_braces = false,
            ")" => in_list = false,
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                in_list = next == "(";
            }
            "offset" => {
                let (metric, _) = asked.selectors.last().unwrap();
                asked.shifted.push(metric.clone());
            }
            "and" | "or" | "unless" | "bool" => {}
            _ if !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {}
            _ if in_braces => {
                let operator = usize::from(token(at + 2).starts_with(['=', '~']));
                let value = token(at + 2 + operator).trim_matches('"').to_owned();
                let (_, matchers) = asked.selectors.last_mut().unwrap();
                matchers.push((word.to_owned(), value));
            }
            _ if in_list => asked.labels.push(word.to_owned()),
            // A function, or an aggregation.
            _ if ["(", "by", "without"].contains(&next) => {}
            _ => asked.selectors.push((word.to_owned(), Vec::new())),
        }
    }
    asked
}

/// Divides an expression into words, numbers, strings and single signs.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
        let end = if first == '"' {
            1 + rest[1..].find('"').unwrap() + 1
        } else if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    tokens
}

#[test]
fn all_that_an_expression_asks_for_is_found() {
    let asked = ask(
        "sum by (a) (x_total{l=\"1\", m=~\"2|3\"} offset 1d) / on (b) group_left () max(y) \
         and on () last_over_time(z[7d] offset 2h) * -2.5 > time()",
    );
    let pair = |label: &str, value: &str| (label.to_owned(), value.to_owned());
    let x = vec![pair("l", "1"), pair("m", "2|3")];
    let plain = |metric: &str| (metric.to_owned(), Vec::new());
    let expected = [("x_total".to_owned(), x), plain("y"), plain("z")];
    assert_eq!(asked.selectors, expected);
    assert_eq!(asked.labels, ["a", "b"]);
    assert_eq!(asked.shifted, ["x_total", "z"]);
}
