//! Sends the queries to Prometheus that Grafana sends when a user opens a dashboard.
//!
//! Variables, the range of time, its step and their alignment to days follow Grafana's Prometheus
//! data source with its defaults. Anything unknown here is an error, so that
//! nothing remains untested.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use regex::{Captures, Regex};
use serde_json::Value;

use crate::harness::{Labels, Prometheus};

/// The data source's default for the scrape interval.
const SCRAPE_INTERVAL: i64 = 15;

/// The offset of Beijing from UTC, in seconds: the dashboards' time zone.
pub(super) const BEIJING: i64 = 8 * 3600;

/// Returns the Beijing day whose bar a chart has at a midnight, whatever the time zone.
pub(super) fn day_of(midnight: i64) -> NaiveDate {
    let days = (midnight + 46800).div_euclid(86400);
    NaiveDate::default() + TimeDelta::days(days)
}

/// A dashboard as in its file.
#[derive(Clone)]
pub(super) struct Dashboard {
    /// The name of the file, without its extension.
    pub(super) name: String,
    pub(super) json: Value,
}

/// Reads all dashboards of the project.
pub(super) fn all() -> Vec<Dashboard> {
    let files = glob::glob(concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards/*.json")).unwrap();
    let dashboards: Vec<_> = files
        .map(|file| {
            let file = file.unwrap();
            let json = std::fs::read_to_string(&file).unwrap();
            let json = serde_json::from_str(&json);
            Dashboard {
                name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
                json: json.unwrap_or_else(|error| panic!("{}: {error}", file.display())),
            }
        })
        .collect();
    assert!(!dashboards.is_empty(), "there are no dashboards");
    dashboards
}

/// Returns a text, or nothing if there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the members of a list, or none if there is no list.
pub(super) fn values(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Dashboard {
    /// Returns rows and panels, including those in collapsed rows.
    pub(super) fn all_panels(&self) -> Vec<&Value> {
        let panels = values(&self.json["panels"]).iter();
        panels
            .flat_map(|panel| std::iter::once(panel).chain(values(&panel["panels"])))
            .collect()
    }

    /// Returns the panels with content.
    pub(super) fn panels(&self) -> Vec<&Value> {
        let mut panels = self.all_panels();
        panels.retain(|panel| panel["type"] != "row");
        panels
    }

    /// Finds the chart over days, or the other panel, with this title, or else the only one whose title starts
    /// with it.
    pub(super) fn panel(&self, title: &str, is_chart: bool) -> Option<&Value> {
        let mut panels = self.panels();
        panels.retain(|panel| (panel["type"] == "timeseries") == is_chart);
        let whole = panels.iter().find(|panel| panel["title"] == title);
        let mut starting = panels
            .iter()
            .filter(|panel| text(&panel["title"]).starts_with(title));
        let only = starting.next().filter(|_| starting.next().is_none());
        whole.or(only).copied()
    }

    pub(super) fn variables(&self) -> &[Value] {
        values(&self.json["templating"]["list"])
    }
}

/// Returns the queries of the charts with a point a day, with their dashboards and panels.
pub(super) fn day_charts(dashboards: &[Dashboard]) -> Vec<(&Dashboard, &Value, &Value)> {
    let mut charts = Vec::new();
    for dashboard in dashboards {
        for panel in dashboard.panels() {
            for target in values(&panel["targets"]) {
                let intervals = [&panel["interval"], &target["interval"]].map(text);
                if target["range"] == true && intervals.contains(&"1d") {
                    charts.push((dashboard, panel, target));
                }
            }
        }
    }
    charts
}

/// What is chosen for a variable.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// For a variable with one value.
    One(String),
    /// For a variable with several values.
    Several(Vec<String>),
    /// The value of "all", inserted unchanged.
    All(String),
}

/// What is chosen, by variable.
pub(super) type Choices = BTreeMap<String, Choice>;

/// The series of an answer, each with its points: seconds and values.
pub(super) type Answer = Vec<(Labels, BTreeMap<i64, f64>)>;

/// A user of dashboards.
pub(super) struct Viewer<'a> {
    pub(super) prometheus: &'a Prometheus,
    pub(super) now: DateTime<Utc>,
    /// How far the time zone that the user chose is ahead of UTC now, in seconds.
    pub(super) ahead: i64,
}

impl<'a> Viewer<'a> {
    /// Returns a viewer who leaves the time zone as it is.
    pub(super) fn new(prometheus: &'a Prometheus, now: DateTime<Utc>) -> Self {
        Self {
            prometheus,
            now,
            ahead: BEIJING,
        }
    }

    /// Returns the options of every variable, the default first, where `chosen` decides about those that
    /// others depend on.
    pub(super) async fn options(
        &self,
        dashboard: &Dashboard,
        chosen: &Choices,
    ) -> Result<Vec<(String, Vec<Choice>)>, String> {
        let mut choices = Choices::new();
        let mut options = Vec::new();
        for variable in dashboard.variables() {
            let name = text(&variable["name"]).to_owned();
            let several = variable["multi"] == true;
            let found: Vec<String> = match text(&variable["type"]) {
                "datasource" => vec!["prometheus-uid".to_owned()],
                "custom" => text(&variable["query"])
                    .split(',')
                    .map(|option| option.rsplit(" : ").next().unwrap().trim().to_owned())
                    .collect(),
                "textbox" | "constant" => vec![text(&variable["query"]).to_owned()],
                "query" => {
                    let found = self.query_variable(variable, dashboard, &choices).await?;
                    found.into_keys().collect()
                }
                other => return Err(format!("variable {name} is of the unknown type {other}")),
            };
            let has_all = variable["includeAll"] == true;
            if found.is_empty() && !has_all {
                return Err(format!("variable {name} has no options"));
            }
            let mut all: Vec<Choice> = if found.is_empty() {
                Vec::new()
            } else if several {
                let each = found
                    .iter()
                    .map(|value| Choice::Several(vec![value.clone()]));
                each.chain([Choice::Several(found.clone())]).collect()
            } else {
                found.into_iter().map(Choice::One).collect()
            };
            if has_all {
                all.insert(0, Choice::All(text(&variable["allValue"]).to_owned()));
            }
            let default = text(&variable["current"]["value"]);
            if let Some(at) = all
                .iter()
                .position(|choice| matches!(choice, Choice::One(value) if value == default))
            {
                all.swap(0, at);
            }
            let choice = chosen.get(&name).unwrap_or(&all[0]).clone();
            choices.insert(name.clone(), choice);
            options.push((name, all));
        }
        Ok(options)
    }

    /// Returns the options of a variable from Prometheus, each with its text.
    pub(super) async fn query_variable(
        &self,
        variable: &Value,
        dashboard: &Dashboard,
        choices: &Choices,
    ) -> Result<BTreeMap<String, String>, String> {
        let (from, to) = self.range_of(dashboard);
        let asks = fill(text(&variable["query"]["query"]), choices, &[])?;
        let argument = |function: &str| {
            let rest = asks.strip_prefix(function)?;
            Some(rest.strip_prefix('(')?.strip_suffix(')')?.to_owned())
        };
        let found = if let Some(arguments) = argument("label_values") {
            let (series, label) = arguments
                .rsplit_once(',')
                .ok_or_else(|| format!("{asks} does not name a metric"))?;
            let parameters = [
                ("match[]", series),
                ("start", &from.to_string()),
                ("end", &to.to_string()),
            ];
            let answer = self.prometheus.ask("series", &parameters).await;
            let series = answer["data"]
                .as_array()
                .ok_or_else(|| answer.to_string())?;
            let labels = series
                .iter()
                .map(|series| text(&series[label.trim()]).to_owned());
            let values = labels.filter(|value| !value.is_empty());
            values.map(|value| (value.clone(), value)).collect()
        } else if let Some(query) = argument("query_result") {
            let regex = text(&variable["regex"]).trim_matches('/');
            let regex = Regex::new(regex).map_err(|error| error.to_string())?;
            let mut found = BTreeMap::new();
            for (labels, points) in self.instant(&query, to).await? {
                let pairs = labels
                    .iter()
                    .map(|(name, value)| format!("{name}=\"{value}\""));
                let (time, value) = points.first_key_value().unwrap();
                let line = format!(
                    "{{{}}} {value} {time}000",
                    pairs.collect::<Vec<_>>().join(",")
                );
                let matched = regex.captures(&line);
                let group = |name| matched.as_ref()?.name(name).map(|group| group.as_str());
                let value =
                    group("value").ok_or_else(|| format!("the regex finds nothing in {line}"))?;
                let text = group("text").unwrap_or(value);
                found.insert(value.to_owned(), text.to_owned());
            }
            found
        } else {
            return Err(format!("{asks} is not known"));
        };
        Ok(found)
    }

    /// Returns the range of time that a dashboard opens with, in seconds.
    fn range_of(&self, dashboard: &Dashboard) -> (i64, i64) {
        let time = &dashboard.json["time"];
        (self.time(text(&time["from"])), self.time(text(&time["to"])))
    }

    /// Reads a time such as `now-30d/d`.
    fn time(&self, written: &str) -> i64 {
        let (time, floor) = written.split_once('/').unwrap_or((written, ""));
        let back = time.strip_prefix("now").unwrap();
        let back = back.strip_prefix('-').map_or(0, seconds);
        let time = self.now - TimeDelta::seconds(back);
        match floor {
            "" => time.timestamp(),
            "d" => self.aligned(time.timestamp(), 86400),
            other => panic!("{other} is not known"),
        }
    }

    /// Sends a query of a panel.
    pub(super) async fn ask(
        &self,
        dashboard: &Dashboard,
        panel: &Value,
        target: &Value,
        choices: &Choices,
    ) -> Result<Answer, String> {
        if panel["timeFrom"].is_string() || panel["timeShift"].is_string() {
            return Err("a panel with a time of its own is not known".to_owned());
        }
        let (from, to) = self.range_of(dashboard);
        let set = [&target["interval"], &panel["interval"]];
        let set = set.into_iter().map(text).find(|set| !set.is_empty());
        let least = set.map_or(SCRAPE_INTERVAL, seconds);
        // As wide as on a usual screen.
        let columns = panel["gridPos"]["w"].as_i64().unwrap();
        let points = panel["maxDataPoints"].as_i64().unwrap_or(columns * 75);
        let step = rounded((to - from) / points).max(least);
        let rate = (step + least).max(4 * least);
        let built_in = [
            ("__range", format!("{}s", to - from)),
            ("__range_s", (to - from).to_string()),
            ("__interval", format!("{step}s")),
            ("__rate_interval", format!("{rate}s")),
        ];
        let query = fill(text(&target["expr"]), choices, &built_in)?;
        if target["range"] == true {
            self.range(&query, (from, to), step).await
        } else {
            self.instant(&query, to).await
        }
    }

    /// Sends the query of an annotation.
    pub(super) async fn ask_annotation(
        &self,
        dashboard: &Dashboard,
        annotation: &Value,
        choices: &Choices,
    ) -> Result<Answer, String> {
        let query = fill(text(&annotation["expr"]), choices, &[])?;
        let step = seconds(text(&annotation["step"]));
        self.range(&query, self.range_of(dashboard), step).await
    }

    /// Rounds a time down to a multiple of a step in the time zone; a change of daylight saving time
    /// is not considered.
    fn aligned(&self, time: i64, step: i64) -> i64 {
        (time + self.ahead).div_euclid(step) * step - self.ahead
    }

    async fn instant(&self, query: &str, time: i64) -> Result<Answer, String> {
        let parameters = [("query", query), ("time", &time.to_string())];
        read(&self.prometheus.ask("query", &parameters).await)
    }

    async fn range(
        &self,
        query: &str,
        (from, to): (i64, i64),
        step: i64,
    ) -> Result<Answer, String> {
        let aligned = |time| self.aligned(time, step).to_string();
        // A short step ends before the next scrape; the next step has its samples.
        let to = if step <= 300 { to + step } else { to };
        let parameters = [
            ("query", query),
            ("start", &aligned(from)),
            ("end", &aligned(to)),
            ("step", &step.to_string()),
        ];
        read(&self.prometheus.ask("query_range", &parameters).await)
    }
}

/// Replaces variables by values, including Grafana's own if given.
pub(super) fn fill(
    asked: &str,
    choices: &Choices,
    built_in: &[(&str, String)],
) -> Result<String, String> {
    static VARIABLE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\$([A-Za-z_][A-Za-z0-9_]*)|\$\{([A-Za-z0-9_]+)(?::([a-z]+))?\}|\[\[([A-Za-z0-9_]+)\]\]").unwrap()
    });
    let mut problem = None;
    let filled = VARIABLE.replace_all(asked, |found: &Captures<'_>| {
        let group = |at: usize| found.get(at).map(|group| group.as_str());
        let name = group(1).or(group(2)).or(group(4)).unwrap();
        let own = built_in.iter().find(|(own, _)| *own == name);
        match (own, choices.get(name), group(3)) {
            (Some((_, value)), _, None) => value.clone(),
            (None, Some(choice), format) => choice.written(format).unwrap_or_else(|| {
                problem = Some(format!("the format of {} is not known", &found[0]));
                String::new()
            }),
            _ => {
                problem = Some(format!("there is no variable {}", &found[0]));
                String::new()
            }
        }
    });
    problem.map_or(Ok(filled.into_owned()), Err)
}

impl Choice {
    /// Formats it as specified, or as the data source does by default.
    fn written(&self, format: Option<&str>) -> Option<String> {
        // In a string of PromQL the regular expression is escaped once more.
        let escaped = |value: &String| regex::escape(value).replace('\\', r"\\");
        match (self, format) {
            (Self::One(value), None) => Some(value.replace('\\', r"\\")),
            (Self::One(value), Some("raw" | "text")) => Some(value.clone()),
            (Self::One(value), Some("regex")) => Some(regex::escape(value)),
            (Self::All(pattern), None | Some("raw" | "regex")) => Some(pattern.clone()),
            (Self::Several(values), None) => {
                let values: Vec<_> = values.iter().map(escaped).collect();
                Some(match &values[..] {
                    [value] => value.clone(),
                    _ => format!("({})", values.join("|")),
                })
            }
            _ => None,
        }
    }
}

/// Reads a vector or a matrix.
pub(super) fn read(answer: &Value) -> Result<Answer, String> {
    if answer["status"] != "success" {
        return Err(format!("Prometheus reports {}", answer["error"]));
    }
    let result = &answer["data"]["result"];
    if answer["data"]["resultType"] == "scalar" {
        return Ok(vec![(Labels::new(), BTreeMap::from([point(result)]))]);
    }
    let series = values(result).iter().map(|series| {
        let labels = series["metric"].as_object().unwrap().iter();
        let labels = labels
            .filter(|(name, _)| *name != "__name__")
            .map(|(name, value)| (name.clone(), text(value).to_owned()));
        let points = match &series["value"] {
            Value::Null => values(&series["values"]).iter().map(point).collect(),
            value => BTreeMap::from([point(value)]),
        };
        (labels.collect(), points)
    });
    Ok(series.collect())
}

fn point(point: &Value) -> (i64, f64) {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "these times are whole seconds"
    )]
    let time = point[0].as_f64().unwrap() as i64;
    (time, text(&point[1]).parse().unwrap())
}

/// Reads a duration of one unit, in seconds.
fn seconds(duration: &str) -> i64 {
    let (number, unit) = duration.split_at(duration.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => panic!("{duration} is not known"),
    };
    unit * number.parse::<i64>().unwrap()
}

/// Rounds a step as Grafana does, in seconds.
fn rounded(step: i64) -> i64 {
    let steps = [
        (1, 1),
        (3, 2),
        (7, 5),
        (12, 10),
        (17, 15),
        (25, 20),
        (45, 30),
        (90, 60),
        (210, 120),
        (450, 300),
        (750, 600),
        (1050, 900),
        (1500, 1200),
        (2700, 1800),
        (5400, 3600),
        (9000, 7200),
        (16200, 10800),
        (32400, 21600),
        (86400, 43200),
    ];
    let found = steps.iter().find(|(up_to, _)| step <= *up_to);
    found.map_or(86400, |(_, rounded)| *rounded)
}
