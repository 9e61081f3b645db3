//! Rules about the form of a dashboard, checked on its JSON alone.
//!
//! Those of Grafana's dashboard-linter, and our own. Of the linter's, these do not apply:
//! `template-job-rule`, `template-instance-rule`, `target-job-rule` and `target-instance-rule` to
//! dashboards of portraits, as those belong to apps, whichever exporter serves them, and two may
//! serve the same; `target-logql-rule` and `target-logql-auto-rule`, as there is no Loki; and
//! `element-reference-rule`, which is about another format. `target-promql-rule` is left to the
//! tests that run every query.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::grafana::{Dashboard, text, values};
use crate::{promql, rules};

/// The one that is about exporters, and not about portraits.
pub(super) const OF_EXPORTERS: &str = "wxapp-portrait-exporter";

/// Those of Grafana's units that fit the figures here; `panel-units-rule` requires known ones.
const UNITS: [&str; 12] = [
    "locale",
    "short",
    "percent",
    "percentunit",
    "d",
    "s",
    "bytes",
    "dateTimeFromNow",
    "dateTimeAsIso",
    "dateTimeAsLocal",
    "reqps",
    "cpm",
];

/// What our rules record.
static RECORDED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let rules = rules::all_rules().into_iter();
    let records = rules.filter_map(|(_, rule)| Some(rule["record"].as_str()?.to_owned()));
    records.collect()
});

/// Returns every violation of a rule, in sentences that name the dashboard, the panel and the rule.
pub(super) fn breaches(dashboard: &Dashboard) -> Vec<String> {
    let mut breaches = of_the_whole(dashboard);
    breaches.extend(of_variables(dashboard));
    breaches.extend(of_the_grid(&dashboard.json["panels"]));
    for panel in dashboard.panels() {
        let title = text(&panel["title"]);
        let of_panel = of_panel(panel).into_iter();
        breaches.extend(of_panel.map(|breach| format!("panel `{title}`: {breach}")));
        for target in values(&panel["targets"]) {
            let place = format!("panel `{title}`, query {}", text(&target["refId"]));
            let of_target = of_target(dashboard, panel, target).into_iter();
            breaches.extend(of_target.map(|breach| format!("{place}: {breach}")));
        }
    }
    let name = &dashboard.name;
    let breaches = breaches.into_iter();
    breaches.map(|breach| format!("{name}: {breach}")).collect()
}

/// Collects the violations.
fn unless_all(rules: &[(bool, &str)]) -> Vec<String> {
    let broken = rules.iter().filter(|(holds, _)| !holds);
    broken.map(|(_, rule)| (*rule).to_owned()).collect()
}

fn of_the_whole(dashboard: &Dashboard) -> Vec<String> {
    static APPID: LazyLock<Regex> = LazyLock::new(|| Regex::new("wx[0-9a-f]{16}").unwrap());
    let json = &dashboard.json;
    let tag = &Value::from("wxapp-portrait");
    let linked = values(&json["links"])
        .iter()
        .any(|link| link["type"] == "dashboards" && values(&link["tags"]).contains(tag));
    let mut seen = HashSet::new();
    let ids = dashboard.all_panels().into_iter();
    let ids_differ = ids
        .map(|panel| panel["id"].as_u64())
        .all(|id| id.is_some() && seen.insert(id));
    unless_all(&[
        (
            json["schemaVersion"]
                .as_u64()
                .is_some_and(|version| version <= 42),
            "schemaVersion is above 42, which file provisioning refuses",
        ),
        (json.get("id").is_some_and(Value::is_null), "id is not null"),
        (
            json["uid"] == dashboard.name.as_str(),
            "uid is not the name of the file",
        ),
        (
            json["editable"] == false,
            "template-uneditable-rule: editable is not false",
        ),
        (
            json["timezone"] == "Asia/Shanghai",
            "timezone is not Asia/Shanghai: days are Beijing days",
        ),
        (
            values(&json["tags"]).contains(tag),
            "the tag wxapp-portrait is missing",
        ),
        (
            linked,
            "no link leads to the dashboards with the tag wxapp-portrait",
        ),
        (ids_differ, "ids of panels are missing or not unique"),
        (
            !APPID.is_match(&json.to_string()),
            "an appid is written down",
        ),
        (
            !text(&json["title"]).is_empty() && !text(&json["description"]).is_empty(),
            "title or description is missing",
        ),
    ])
}

fn of_variables(dashboard: &Dashboard) -> Vec<String> {
    let variables = dashboard.variables();
    let named = |name: &str| variables.iter().find(|variable| variable["name"] == name);
    let mut breaches = unless_all(&[(
        named("datasource").is_some_and(|variable| {
            variable["type"] == "datasource"
                && variable["query"] == "prometheus"
                && variable["label"] == "Data source"
        }),
        "template-datasource-rule: no variable datasource for prometheus with the label Data source",
    )]);
    for variable in variables
        .iter()
        .filter(|variable| variable["type"] == "query")
    {
        let name = text(&variable["name"]);
        let asks = text(&variable["query"]["query"]);
        let function = asks.split('(').next().unwrap_or_default();
        let rules = [
            (
                ["label_values", "query_result"].contains(&function),
                "template-label-promql-rule: neither label_values nor query_result",
            ),
            (
                variable["refresh"] == 2,
                "template-on-time-change-reload-rule: refresh is not 2",
            ),
            (
                of_the_variable(&variable["datasource"]),
                "template-datasource-rule: asks another data source than ${datasource}",
            ),
        ];
        let broken = unless_all(&rules).into_iter();
        breaches.extend(broken.map(|breach| format!("variable {name}: {breach}")));
    }
    if dashboard.name == OF_EXPORTERS {
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let holds = named(name).is_some_and(|variable| {
                variable["type"] == "query"
                    && variable["label"] == label
                    && variable["multi"] == true
                    && variable["includeAll"] == true
                    && variable["allValue"] == ".+"
            });
            if !holds {
                breaches.push(format!(
                    "template-{name}-rule: no query variable {name} with label {label}, multi, includeAll and allValue .+"
                ));
            }
        }
    }
    breaches
}

/// Whether a data source is the one that the user chose.
fn of_the_variable(source: &Value) -> bool {
    source["type"] == "prometheus"
        && ["$datasource", "${datasource}"].contains(&text(&source["uid"]))
}

/// Panels in a row that is collapsed have a grid of their own.
fn of_the_grid(panels: &Value) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut placed: Vec<([u64; 4], &str)> = Vec::new();
    for panel in values(panels) {
        let title = text(&panel["title"]);
        let place = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64());
        let [Some(x), Some(y), Some(width), Some(height)] = place else {
            breaches.push(format!("panel `{title}`: gridPos is not whole"));
            continue;
        };
        let (right, bottom) = (x + width, y + height);
        if right > 24 || width == 0 || height == 0 {
            breaches.push(format!("panel `{title}` does not fit into 24 columns"));
        }
        for ([left, top, end, foot], other) in &placed {
            if x < *end && *left < right && y < *foot && *top < bottom {
                breaches.push(format!("panel `{title}` overlaps `{other}`"));
            }
        }
        placed.push(([x, y, right, bottom], title));
        breaches.extend(of_the_grid(&panel["panels"]));
    }
    breaches
}

fn of_panel(panel: &Value) -> Vec<String> {
    let unit = text(&panel["fieldConfig"]["defaults"]["unit"]);
    let targets = values(&panel["targets"]);
    let title = text(&panel["title"]);
    let is_chinese = |c| ('\u{4e00}'..='\u{9fff}').contains(&c);
    let mut rules = vec![
        (
            !title.is_empty() && !text(&panel["description"]).is_empty(),
            "panel-title-description-rule: title or description is missing",
        ),
        (
            title.contains(is_chinese) && title.contains(|c: char| c.is_ascii_alphabetic()),
            "the title is not in Chinese and English",
        ),
    ];
    if panel["type"] != "text" {
        rules.extend([
            (
                !text(&panel["fieldConfig"]["defaults"]["noValue"]).is_empty(),
                "noValue is missing: what it shows while there is nothing to show",
            ),
            (
                UNITS.contains(&unit),
                "panel-units-rule: the unit is missing or not one that is known to fit",
            ),
            (
                !targets.is_empty(),
                "panel-no-targets-rule: it asks nothing",
            ),
            (
                of_the_variable(&panel["datasource"]),
                "panel-datasource-rule: the data source is not ${datasource}",
            ),
        ]);
    }
    if panel["type"] == "piechart" {
        let few = targets
            .iter()
            .all(|target| text(&target["expr"]).contains("dimension=\"gender\""));
        rules.push((
            few,
            "a pie is for three slices at most, which only gender has",
        ));
    }
    unless_all(&rules)
}

fn of_target(dashboard: &Dashboard, panel: &Value, target: &Value) -> Vec<String> {
    let asked = text(&target["expr"]);
    let expression = match promql::read(asked) {
        Ok(expression) => expression,
        Err(problem) => return vec![problem],
    };
    let source = &target["datasource"];
    // The figures of a day are looked for in the four days after it.
    let on_day_axis = expression.selectors.iter().any(|selector| {
        selector
            .range
            .as_deref()
            .is_some_and(|range| range.starts_with("4d"))
    });
    let of_exporters = dashboard.name == OF_EXPORTERS;
    let mut rules = vec![
        (
            source.is_null() || of_the_variable(source),
            "panel-datasource-rule: the data source is not ${datasource}",
        ),
        (
            target["instant"] != target["range"],
            "it must ask either instantly or over a range",
        ),
        (
            target["format"] != "table" || target["instant"] == true,
            "a table shows one instant",
        ),
        (
            !expression.drops,
            "`without` keeps unknown labels: write `by`",
        ),
        (
            of_exporters || on_day_axis || expression.offsets.is_empty(),
            "it looks back by offset: days arrive at any minute; ask for past users, or use the day axis",
        ),
    ];
    if asked.contains("$__rate_interval") {
        let interval = [&target["interval"], &panel["interval"]].map(text);
        rules.push((
            interval.contains(&"1m"),
            "target-rate-interval-rule: with a scrape a minute, $__rate_interval is long enough only if the interval of the panel is 1m",
        ));
    }
    if on_day_axis {
        let interval = [&target["interval"], &panel["interval"]].map(text);
        rules.push((
            interval.contains(&"1d") && target["range"] == true,
            "a panel on the day axis has points a day apart, so its interval must be 1d",
        ));
    }
    let mut breaches = unless_all(&rules);
    for selector in &expression.selectors {
        let of_selector = of_selector(selector, of_exporters).into_iter();
        breaches.extend(of_selector.map(|breach| format!("{}: {breach}", selector.metric)));
    }
    breaches
}

fn of_selector(selector: &promql::Selector, of_exporters: bool) -> Vec<String> {
    let metric = selector.metric.as_str();
    let function = selector.function.as_deref().unwrap_or_default();
    let range = selector.range.as_deref();
    let has = |label: &str| {
        let matcher = (label.to_owned(), "=~".to_owned(), format!("${label}"));
        selector.matchers.contains(&matcher)
    };
    // Where each app is a target, the address of its exporter, a slash and its appid.
    let of_apps = "($instance)(/.+)?".to_owned();
    let of_apps = ("instance".to_owned(), "=~".to_owned(), of_apps);
    let has_instance = has("instance") || selector.matchers.contains(&of_apps);
    let counts = ["_total", "_bucket", "_count", "_sum"]
        .iter()
        .any(|end| metric.ends_with(end));
    let rises = ["rate", "irate", "increase"].contains(&function);
    let mut rules = vec![
        (
            !metric.contains(':') || RECORDED.contains(metric),
            "no rule of alerts/wxapp-portrait.rules.yml records it",
        ),
        (
            counts == rises,
            "target-counter-agg-rule: counters, and only they, are asked by rate, irate or increase",
        ),
        (
            !["rate", "irate"].contains(&function) || range == Some("$__rate_interval"),
            "target-rate-interval-rule: the range is not $__rate_interval",
        ),
        (
            !of_exporters || metric == "ALERTS" || (has("job") && has_instance),
            "target-job-rule, target-instance-rule: no matcher job=~\"$job\" or instance=~\"$instance\"",
        ),
    ];
    if ["wxapp_portrait_users", "wxapp_portrait_past_users"].contains(&metric) {
        let mixed = |label: &str| selector.mixes(label).is_none();
        // Only a sum may go over apps, and only a median over weeks.
        let apps = [None, Some("sum")].contains(&selector.mixes("appid"));
        let days = [None, Some("quantile")].contains(&selector.mixes("days_ago"));
        rules.extend([
            (
                mixed("cohort"),
                "it mixes cohorts: new users are part of the active ones",
            ),
            (
                mixed("dimension"),
                "it mixes dimensions, each of which has all people",
            ),
            (
                metric.contains("past") || mixed("window"),
                "it mixes windows",
            ),
            (apps, "it mixes apps by something else than a sum"),
            (
                !metric.contains("past") || days,
                "it mixes days by something else than a median",
            ),
        ]);
    }
    unless_all(&rules)
}
