//! Opens every panel of a dashboard, with every choice of every variable.
//!
//! Reports panels that show nothing, queries for metrics and labels that no page has, references to
//! fields or dashboards that do not exist, and panels with other figures because two exporters serve the
//! same apps. Does not know the right figures.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::Regex;
use serde_json::Value;

use super::grafana::{Answer, Choice, Choices, Dashboard, Viewer, fill, text, values};
use super::{State, World, close, form};
use crate::promql::{self, Vocabulary};
use crate::rules;

/// The places on the page that the exporter has of an app; none is the whole page.
const ANCHORS: [&str; 4] = ["", "new", "active", "data"];

impl World {
    /// Returns the metrics and labels of expressions that no page has, and the values of labels.
    pub(super) async fn unknown_names(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let mut vocabulary = Vocabulary::of(&self.exporters[0].metrics().await);
        for (_, rule) in rules::all_rules() {
            if let Some(record) = rule["record"].as_str() {
                let recorded = promql::read(text(&rule["expr"])).unwrap();
                vocabulary.record(record, &recorded);
            }
        }
        let mut faults = Vec::new();
        for dashboard in dashboards {
            for (place, asked) in expressions(dashboard) {
                let unknown = match promql::read(&asked) {
                    Ok(expression) => vocabulary.unknown(&expression),
                    Err(problem) => vec![problem],
                };
                let unknown = unknown.into_iter();
                faults.extend(unknown.map(|what| format!("{}: {place}: {what}", dashboard.name)));
            }
        }
        faults
    }

    /// Returns the apps that the picker of apps does not offer by their names, and the others that it
    /// offers.
    pub(super) async fn wrong_options(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let expected = self.setup.apps.iter();
        let expected: BTreeMap<_, _> = expected
            .map(|app| (app.appid.clone(), app.name.clone()))
            .collect();
        let mut faults = Vec::new();
        let mut pickers = 0;
        for dashboard in dashboards {
            for variable in dashboard.variables() {
                if variable["name"] != "appid" {
                    continue;
                }
                pickers += 1;
                let choices = Choices::from([("team".to_owned(), Choice::All(".*".to_owned()))]);
                let viewer = &self.viewers()[0];
                let found = viewer.query_variable(variable, dashboard, &choices).await;
                let found = found.unwrap_or_else(|problem| panic!("{}: {problem}", dashboard.name));
                let all: BTreeSet<_> = found.iter().chain(&expected).collect();
                let wrong = all.into_iter().filter(|(appid, name)| {
                    [&found, &expected]
                        .iter()
                        .any(|apps| apps.get(*appid) != Some(*name))
                });
                faults
                    .extend(wrong.map(|app| format!("{}: the picker has {app:?}", dashboard.name)));
            }
        }
        assert!(pickers > 0, "no dashboard has a picker of apps");
        faults
    }

    /// Opens all dashboards.
    pub(super) async fn walk_all(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let mut faults = Vec::new();
        for dashboard in dashboards {
            faults.extend(self.walk(dashboard, dashboards).await);
        }
        faults
    }

    /// Whether a query may have an empty answer in ordinary operation: an app that has no new portrait, a window that
    /// is not configured, a figure that only the window 1d has, or something that need not happen.
    fn may_be_empty(&self, target: &Value, choices: &Choices) -> bool {
        let asked = text(&target["expr"]);
        let is = |name: &str, is: &dyn Fn(&str) -> bool| match choices.get(name) {
            Some(Choice::One(value)) => is(value),
            _ => false,
        };
        let is_old = |appid: &str| {
            let mut apps = self.setup.apps.iter();
            apps.any(|app| app.appid == appid && app.state != State::Fresh)
        };
        let events = ["ALERTS", "_failure", ")) == 0", "_drift_"];
        is("appid", &is_old)
            || self.setup.windows.len() < 3
            || asked.contains("_expected_") && is("window", &|window| window != "1d")
            || events.iter().any(|event| asked.contains(event))
    }

    /// Opens a dashboard with every choice of every variable, once for each Prometheus; returns what shows
    /// nothing, what refers to a thing that does not exist, and what differs.
    async fn walk(&self, dashboard: &Dashboard, dashboards: &[Dashboard]) -> Vec<String> {
        let mut faults = BTreeSet::new();
        let [one, both] = self.viewers();
        let all_choices = match self.every_choice(&one, dashboard).await {
            Ok(choices) => choices,
            Err(problem) => return vec![format!("{}: {problem}", dashboard.name)],
        };
        let mut names: HashMap<u64, Names> = HashMap::new();
        for choices in &all_choices {
            for panel in dashboard.panels() {
                let id = panel["id"].as_u64().unwrap_or_default();
                let names = names.entry(id).or_default();
                let mut fault = |what: &str| {
                    let title = text(&panel["title"]);
                    faults.insert(format!("{}: panel `{title}`{what}", dashboard.name))
                };
                for shown in [&panel["title"], &panel["description"]] {
                    if let Err(problem) = fill(text(shown), choices, &[]) {
                        fault(&format!(": {problem}"));
                    }
                }
                let targets = values(&panel["targets"]);
                for target in targets.iter().filter(|target| target["hide"] != true) {
                    let mut fault = |what: &str| {
                        let query = text(&target["refId"]);
                        fault(&format!(", query {query}: {what}, with {choices:?}"));
                    };
                    let answers = [
                        one.ask(dashboard, panel, target, choices).await,
                        both.ask(dashboard, panel, target, choices).await,
                    ];
                    match &answers {
                        [Ok(one), Ok(both)] => {
                            let is_empty = one.is_empty() || both.is_empty();
                            if is_empty && !self.may_be_empty(target, choices) {
                                fault("it shows nothing");
                            }
                            if let Some(missing) = names.take_in(panel, target, one) {
                                fault(&format!("its legend names {missing}, which is not there"));
                            }
                            // Each exporter polls at another time.
                            let asked = text(&target["expr"]);
                            let timely = ["_last_success_timestamp_", "_next_poll_timestamp_"];
                            let timely = timely.iter().any(|metric| asked.contains(metric));
                            let differs = !timely && !alike(one, both, asked);
                            if dashboard.name != form::OF_EXPORTERS && differs {
                                fault(&format!(
                                    "with two exporters it shows {both:?} instead of {one:?}"
                                ));
                            }
                            if panel["type"] == "piechart" && one.len() > 3 {
                                fault("a pie of more than three slices");
                            }
                        }
                        [Err(problem), _] | [_, Err(problem)] => fault(problem),
                    }
                }
            }
            for annotation in values(&dashboard.json["annotations"]["list"]) {
                if annotation["builtIn"] != 1
                    && let Err(problem) = both.ask_annotation(dashboard, annotation, choices).await
                {
                    let name = text(&annotation["name"]);
                    faults.insert(format!("{}: annotation {name}: {problem}", dashboard.name));
                }
            }
        }
        for panel in dashboard.panels() {
            let names = &names[&panel["id"].as_u64().unwrap_or_default()];
            let unknown = names.unknown(panel, dashboards).into_iter();
            let title = text(&panel["title"]);
            faults
                .extend(unknown.map(|what| format!("{}: panel `{title}`: {what}", dashboard.name)));
        }
        faults.into_iter().collect()
    }

    /// Returns the defaults of all variables, then each other option of each, one at a time. Of many apps only
    /// some are opened, and the choices that depend on no app are left to the few.
    pub(super) async fn every_choice(
        &self,
        viewer: &Viewer<'_>,
        dashboard: &Dashboard,
    ) -> Result<Vec<Choices>, String> {
        let first = |options: Vec<(String, Vec<Choice>)>| -> Choices {
            let options = options.into_iter();
            options
                .map(|(name, choices)| (name, choices[0].clone()))
                .collect()
        };
        let options = viewer.options(dashboard, &Choices::new()).await?;
        let mut all = vec![first(options.clone())];
        for (name, mut choices) in options {
            let mut variables = dashboard.variables().iter();
            let variable = variables.find(|variable| variable["name"] == name.as_str());
            if variable.is_some_and(|variable| variable["type"] == "textbox") {
                // A part of a name.
                choices.push(Choice::One("点".to_owned()));
            }
            choices.remove(0);
            if self.setup.apps.len() > 10 {
                choices.retain(|choice| match choice {
                    Choice::One(value) => self
                        .setup
                        .apps
                        .iter()
                        .any(|app| app.appid == *value && app.is_opened),
                    _ => name == "team",
                });
            }
            for choice in choices {
                let chosen = Choices::from([(name.clone(), choice.clone())]);
                let mut choices = first(viewer.options(dashboard, &chosen).await?);
                choices.insert(name.clone(), choice);
                all.push(choices);
            }
        }
        Ok(all)
    }
}

/// Returns the queries of a dashboard, and their places.
fn expressions(dashboard: &Dashboard) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for panel in dashboard.panels() {
        for target in values(&panel["targets"]) {
            let place = format!(
                "panel `{}`, query {}",
                text(&panel["title"]),
                text(&target["refId"])
            );
            found.push((place, text(&target["expr"]).to_owned()));
        }
    }
    for annotation in values(&dashboard.json["annotations"]["list"]) {
        if annotation["builtIn"] != 1 {
            let place = format!("annotation {}", text(&annotation["name"]));
            found.push((place, text(&annotation["expr"]).to_owned()));
        }
    }
    for variable in dashboard.variables() {
        let asks = text(&variable["query"]["query"]);
        let argument = |function| asks.strip_prefix(function)?.strip_suffix(')');
        let place = format!("variable {}", text(&variable["name"]));
        if let Some(query) = argument("query_result(") {
            found.push((place, query.to_owned()));
        } else if let Some((series, label)) =
            argument("label_values(").and_then(|query| query.rsplit_once(','))
        {
            // So the label is looked up, too.
            found.push((place, format!("count by ({label}) ({series})")));
        }
    }
    found
}

/// Whether two answers have the same series and points, but for the last digits.
/// Of equal figures `topk` takes any.
pub(super) fn alike(one: &Answer, other: &Answer, asked: &str) -> bool {
    let is_cut = asked.contains("topk(");
    let other: BTreeMap<_, _> = other
        .iter()
        .map(|(labels, points)| (labels, points))
        .collect();
    (is_cut || one.len() == other.len())
        && one.iter().all(|(labels, points)| {
            other.get(labels).map_or(is_cut, |other| {
                points.len() == other.len()
                    && points
                        .iter()
                        .zip(*other)
                        .all(|((at, one), (time, other))| at == time && close(*one, *other))
            })
        })
}

/// The names by which a panel's overrides and transformations may call what it shows.
#[derive(Default)]
struct Names {
    fields: BTreeSet<String>,
}

impl Names {
    /// Adds the names in an answer; returns a label of the legend that is missing.
    fn take_in(&mut self, panel: &Value, target: &Value, answer: &Answer) -> Option<String> {
        if target["format"] == "table" {
            let labels = answer.iter().flat_map(|(labels, _)| labels.keys().cloned());
            self.fields.extend(labels);
            // A label may be missing today, such as the name of a public holiday.
            let asked = promql::read(text(&target["expr"])).unwrap_or_default();
            self.fields.extend(asked.labels);
            self.fields.insert("Time".to_owned());
            self.fields.insert(match values(&panel["targets"]).len() {
                1 => "Value".to_owned(),
                _ => format!("Value #{}", text(&target["refId"])),
            });
            return None;
        }
        let legend = text(&target["legendFormat"]);
        if !legend.contains("{{") {
            self.fields.insert(legend.to_owned());
        }
        for (labels, _) in answer {
            let mut rest = legend;
            let mut name = String::new();
            while let Some((before, after)) = rest.split_once("{{") {
                let (label, after) = after.split_once("}}")?;
                name += before;
                match labels.get(label.trim()) {
                    Some(value) => name += value,
                    None => return Some(label.to_owned()),
                }
                rest = after;
            }
            self.fields.insert(name + rest);
        }
        None
    }

    /// Returns the names in a panel's transformations, overrides and links that do not exist.
    fn unknown(&self, panel: &Value, dashboards: &[Dashboard]) -> Vec<String> {
        let mut fields = self.fields.clone();
        let mut faults = Vec::new();
        for transformation in values(&panel["transformations"]) {
            let options = &transformation["options"];
            let mut called: Vec<&str> = Vec::new();
            match text(&transformation["id"]) {
                "merge" => {}
                "sortBy" => called.extend(
                    values(&options["sort"])
                        .iter()
                        .map(|sort| text(&sort["field"])),
                ),
                "calculateField" => {
                    let binary = &options["binary"];
                    if options["mode"] != "binary" || binary["operator"] != "-" {
                        faults.push(format!("the calculation {options} is not known"));
                    }
                    called.extend(["left", "right"].map(|side| text(&binary[side])));
                    fields.insert(text(&options["alias"]).to_owned());
                }
                "organize" => {
                    for key in ["excludeByName", "indexByName", "renameByName"] {
                        let keys = options[key].as_object().into_iter().flatten();
                        called.extend(keys.map(|(name, _)| name.as_str()));
                    }
                }
                other => faults.push(format!("the transformation {other} is not known")),
            }
            for name in called {
                if !fields.contains(name) {
                    faults.push(format!("a transformation calls for the field {name}"));
                }
            }
            fields.retain(|name| options["excludeByName"][name] != true);
            let renamed = fields
                .iter()
                .map(|name| match text(&options["renameByName"][name]) {
                    "" => name.clone(),
                    new => new.to_owned(),
                });
            fields = renamed.collect();
        }
        let overrides = values(&panel["fieldConfig"]["overrides"]);
        for matcher in overrides.iter().map(|wanted| &wanted["matcher"]) {
            let name = text(&matcher["options"]);
            if matcher["id"] == "byType" && ["number", "string", "time"].contains(&name) {
                continue;
            }
            if matcher["id"] == "byRegexp" {
                let pattern = Regex::new(name.trim_matches('/')).unwrap();
                // A name that is there at times is in the query.
                let queries = values(&panel["targets"]).iter();
                let mut queries = queries.map(|query| text(&query["expr"]));
                if !queries.any(|query| pattern.is_match(query)) {
                    faults.push(format!("an override calls for fields like {name}"));
                }
                continue;
            }
            let queries = values(&panel["targets"]);
            if matcher["id"] == "byFrameRefID" {
                if !queries.iter().any(|query| query["refId"] == name) {
                    faults.push(format!("an override calls for the query {name}"));
                }
            } else if matcher["id"] != "byName" {
                faults.push(format!("overrides by {} are not known", matcher["id"]));
            } else if !fields.contains(name) {
                faults.push(format!(
                    "an override calls for the field {name}, there are {fields:?}"
                ));
            }
        }
        let properties = overrides
            .iter()
            .flat_map(|wanted| values(&wanted["properties"]));
        let links = properties.filter(|property| property["id"] == "links");
        let links = links.flat_map(|property| values(&property["value"]));
        for link in links
            .chain(values(&panel["fieldConfig"]["defaults"]["links"]))
            .chain(values(&panel["links"]))
        {
            if let Err(problem) = follow(text(&link["url"]), &fields, dashboards) {
                faults.push(format!("the link {}: {problem}", text(&link["url"])));
            }
        }
        faults
    }
}

/// Checks that a link leads to one of our dashboards and sets variables that it has, from fields that
/// exist.
fn follow(url: &str, fields: &BTreeSet<String>, dashboards: &[Dashboard]) -> Result<(), String> {
    if let Some(page) = url.strip_prefix("${exporter}/apps/") {
        let (app, anchor) = page.split_once('#').unwrap_or((page, ""));
        return match app {
            "${appid}" | "${__data.fields.AppID}" if ANCHORS.contains(&anchor) => Ok(()),
            _ => Err("the exporter has no such page".to_owned()),
        };
    }
    let rest = url
        .strip_prefix("/d/")
        .ok_or("it does not lead to a dashboard")?;
    let (uid, query) = rest.split_once('?').unwrap_or((rest, ""));
    let target = dashboards.iter().find(|dashboard| dashboard.name == uid);
    let target = target.ok_or("there is no such dashboard")?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            if pair != "${__url_time_range}" {
                return Err(format!("{pair} is not known"));
            }
            continue;
        };
        let name = name
            .strip_prefix("var-")
            .ok_or_else(|| format!("{name} is not known"))?;
        if !target
            .variables()
            .iter()
            .any(|variable| variable["name"] == name)
        {
            return Err(format!("{uid} has no variable {name}"));
        }
        let field = value
            .strip_prefix("${__data.fields.")
            .and_then(|field| field.strip_suffix('}'));
        let field = field.map(|field| field.trim_matches(['[', ']', '"']));
        if field.is_some_and(|field| !fields.contains(field)) {
            return Err("there is no such field".to_owned());
        }
    }
    Ok(())
}
