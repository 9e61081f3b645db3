//! Finds the selectors of a PromQL expression, the context of each, and whether there are series
//! for them.
//!
//! Whether an expression is valid is checked by Prometheus; this parses only the subset that dashboards
//! and alert rules use. Variables of Grafana may be in place of values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::Regex;

use crate::harness::Page;

/// Words in the place of a metric that are not metrics.
const WORDS: [&str; 11] = [
    "and", "or", "unless", "atan2", "bool", "offset", "start", "end", "Inf", "NaN", "time",
];

/// Words that are followed by a list of labels.
const LISTS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// Aggregations that make one series of many; the others keep what they choose from.
const REDUCING: [&str; 10] = [
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "group",
    "stddev",
    "stdvar",
    "quantile",
    "count_values",
];

/// One metric, as selected by an expression.
#[derive(Debug, Default, Clone)]
pub(crate) struct Selector {
    /// Its name, or a pattern of names.
    pub(crate) metric: String,
    /// Label, operator, value.
    pub(crate) matchers: Vec<(String, String, String)>,
    /// As it is written between the brackets, also those of a subquery around it.
    pub(crate) range: Option<String>,
    /// The function whose argument it is.
    pub(crate) function: Option<String>,
    /// The aggregations that it goes through, from the inside, with the labels that each keeps.
    pub(crate) aggregations: Vec<(String, Vec<String>)>,
}

impl Selector {
    /// Whether all series that it finds have the same value of a label.
    pub(crate) fn fixes(&self, label: &str) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.any(|(name, operator, value)| {
            let is_plain = value.chars().all(char::is_alphanumeric);
            name == label && (operator == "=" || operator == "=~" && is_plain)
        })
    }

    /// Returns the first aggregation that adds up, or picks from, different values of a label.
    pub(crate) fn mixes(&self, label: &str) -> Option<&str> {
        if self.fixes(label) {
            return None;
        }
        let mut aggregations = self.aggregations.iter();
        let mixing = aggregations.find(|(_, kept)| !kept.iter().any(|kept| kept == label));
        mixing.map(|(name, _)| name.as_str())
    }
}

/// The analysis of an expression.
#[derive(Debug, Default)]
pub(crate) struct Expression {
    pub(crate) selectors: Vec<Selector>,
    /// The labels of all lists: what is grouped by and matched on.
    pub(crate) labels: Vec<String>,
    /// The labels that `count_values`, `label_replace` and `label_join` add.
    pub(crate) added: Vec<String>,
    /// Selectors with an offset: the metric, and the duration with its sign.
    pub(crate) offsets: Vec<(String, String)>,
    /// Whether an aggregation uses `without`.
    pub(crate) drops: bool,
}

/// A parenthesis that is open.
#[derive(Default)]
struct Open {
    function: Option<String>,
    aggregation: Option<(String, Vec<String>)>,
    /// How many selectors there are before it.
    before: usize,
    /// Whether the next string in it names a label that is added.
    adds: bool,
}

/// Reads an expression; fails with a message about what it cannot parse.
pub(crate) fn read(text: &str) -> Result<Expression, String> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let string = r#""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`"#;
        let name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
        let variable = r"\$[a-zA-Z0-9_]+|\$\{[^}]*\}";
        let number = r"[0-9][0-9a-zA-Z.]*";
        Regex::new(&format!(
            r"{string}|{name}|{variable}|{number}|[=!]~|!=|[^\s]"
        ))
        .unwrap()
    });
    let tokens: Vec<&str> = TOKEN.find_iter(text).map(|found| found.as_str()).collect();
    let mut reader = Reader {
        rest: &tokens,
        open: Vec::new(),
        read: Expression::default(),
    };
    while !reader.rest.is_empty() {
        reader.read_on()?;
    }
    Ok(reader.read)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || "_:".contains(c))
}

/// Reads tokens from left to right.
struct Reader<'a> {
    rest: &'a [&'a str],
    open: Vec<Open>,
    read: Expression,
}

impl<'a> Reader<'a> {
    /// Returns the next token without taking it.
    fn peek(&self) -> &'a str {
        self.rest.first().copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let token = self.peek();
        self.rest = self.rest.get(1..).unwrap_or_default();
        token
    }

    /// Takes what is in brackets of any kind, and these.
    fn take_enclosed(&mut self, end: &str) -> &'a [&'a str] {
        self.take();
        let length = self.rest.iter().take_while(|token| **token != end).count();
        let (enclosed, rest) = self.rest.split_at(length);
        self.rest = rest.get(1..).unwrap_or_default();
        enclosed
    }

    /// Reads a list of labels.
    fn labels(&mut self) -> Vec<String> {
        let list = self.take_enclosed(")").iter();
        let labels = list.filter(|token| is_name(token));
        let labels: Vec<_> = labels.map(|label| (*label).to_owned()).collect();
        self.read.labels.extend(labels.clone());
        labels
    }

    /// Reads the range of a selector or a subquery, if there is one.
    fn range(&mut self) -> Option<String> {
        (self.peek() == "[").then(|| self.take_enclosed("]").concat())
    }

    /// Reads one token, and those that belong to it.
    fn read_on(&mut self) -> Result<(), String> {
        if self.peek() == "{" {
            self.selector("");
            return Ok(());
        }
        let word = self.take();
        let next = self.peek();
        let mut opened = Open {
            before: self.read.selectors.len(),
            ..Open::default()
        };
        if word == "(" {
            self.open.push(opened);
        } else if word == ")" {
            self.close()?;
        } else if word == "offset" {
            self.offset()?;
        } else if LISTS.contains(&word) {
            if next == "(" {
                self.labels();
            }
        } else if REDUCING.contains(&word) {
            let drops = next == "without";
            let mut labels = Vec::new();
            if drops || next == "by" {
                self.take();
                labels = self.labels();
            }
            self.take();
            opened.adds = word == "count_values";
            self.read.drops |= drops;
            opened.aggregation = (!drops).then(|| (word.to_owned(), labels));
            self.open.push(opened);
        } else if is_name(word) && next == "(" {
            self.take();
            opened.adds = ["label_replace", "label_join"].contains(&word);
            opened.function = Some(word.to_owned());
            self.open.push(opened);
        } else if ["topk", "bottomk"].contains(&word) && next == "by" {
            self.take();
            self.labels();
        } else if is_name(word) && !WORDS.contains(&word) {
            self.selector(word);
        } else if word.starts_with('"')
            && let Some(open) = self.open.last_mut()
            && std::mem::take(&mut open.adds)
        {
            let added = word.trim_matches('"');
            self.read.added.push(added.to_owned());
        }
        Ok(())
    }

    /// Closes a parenthesis, after which there may be a subquery.
    fn close(&mut self) -> Result<(), String> {
        let closed = self.open.pop();
        let closed = closed.ok_or("a parenthesis closes that was not open")?;
        if let Some(range) = self.range() {
            for selector in &mut self.read.selectors[closed.before..] {
                selector.range.get_or_insert(range.clone());
            }
        }
        if ["by", "without"].contains(&self.peek()) {
            return Err("write `by` before the parenthesis, so that it can be checked".into());
        }
        Ok(())
    }

    fn offset(&mut self) -> Result<(), String> {
        let mut offset = self.take().to_owned();
        if offset == "-" {
            offset += self.take();
        }
        let selector = self.read.selectors.last();
        let selector = selector.ok_or("`offset` follows nothing")?;
        self.read.offsets.push((selector.metric.clone(), offset));
        Ok(())
    }

    /// Reads what follows a metric, which may be among the matchers instead.
    fn selector(&mut self, metric: &str) {
        let function = self.open.last().and_then(|open| open.function.clone());
        let frames = self.open.iter().rev();
        let aggregations = frames.filter_map(|open| open.aggregation.clone()).collect();
        let mut metric = metric.to_owned();
        let mut matchers = Vec::new();
        if self.peek() == "{" {
            for matcher in self.take_enclosed("}").split(|token| *token == ",") {
                if let [label, operator, value] = *matcher {
                    let value = value.trim_matches(['"', '\'', '`']).to_owned();
                    if label == "__name__" {
                        metric = value;
                    } else {
                        matchers.push((label.into(), operator.into(), value));
                    }
                }
            }
        }
        let range = self.range();
        self.read.selectors.push(Selector {
            metric,
            matchers,
            range,
            function,
            aggregations,
        });
    }
}

/// What Prometheus itself adds, and what a page has only while polls fail.
const AT_TIMES: [(&str, &[&str]); 6] = [
    (
        "wxapp_portrait_last_poll_failure_info",
        &["appid", "window", "reason"],
    ),
    ("up", &[]),
    ("scrape_duration_seconds", &[]),
    ("scrape_samples_scraped", &[]),
    ("scrape_series_added", &[]),
    (
        "ALERTS",
        &[
            "alertname",
            "alertstate",
            "severity",
            "appid",
            "cohort",
            "name",
            "window",
            "reason",
            "operation",
            "team",
        ],
    ),
];

/// The kinds of days, of which a page has those of some days.
const DAY_KINDS: [&str; 5] = ["workday", "weekend", "holiday", "makeup_workday", "unknown"];

type Values = BTreeSet<String>;

/// Metrics, the labels of each, and the values of these; no values where any value is possible.
pub(crate) struct Vocabulary(BTreeMap<String, BTreeMap<String, Values>>);

impl Vocabulary {
    /// Adds the metrics of a page, and what Prometheus adds.
    pub(crate) fn of(page: &Page) -> Self {
        let mut known: BTreeMap<String, BTreeMap<String, Values>> = BTreeMap::new();
        for line in page.0.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            if !known.contains_key(name) {
                let labels = known.entry(name.to_owned()).or_default();
                for (label, value) in page.series(name).into_keys().flatten() {
                    labels.entry(label).or_default().insert(value);
                }
            }
        }
        for (name, labels) in AT_TIMES {
            let labels = labels
                .iter()
                .map(|label| ((*label).to_owned(), Values::new()));
            known
                .entry(name.to_owned())
                .or_insert_with(|| labels.collect());
        }
        if let Some(labels) = known.get_mut("wxapp_portrait_reference_day_info") {
            let kinds = labels.entry("kind".to_owned()).or_default();
            kinds.extend(DAY_KINDS.map(str::to_owned));
        }
        for labels in known.values_mut() {
            for label in ["job", "instance"] {
                labels.insert(label.to_owned(), Values::new());
            }
        }
        Self(known)
    }

    pub(crate) fn has(&self, metric: &str) -> bool {
        self.0.contains_key(metric)
    }

    /// Adds a metric that is recorded from others: it may have each of their labels, or lack it.
    pub(crate) fn record(&mut self, metric: &str, from: &Expression) {
        let mut labels: BTreeMap<String, Values> = BTreeMap::new();
        for selector in &from.selectors {
            for (label, values) in self.0.get(&selector.metric).into_iter().flatten() {
                let known = labels.entry(label.clone()).or_default();
                known.extend(values.iter().cloned());
            }
        }
        for values in labels.values_mut().filter(|values| !values.is_empty()) {
            values.insert(String::new());
        }
        for label in &from.added {
            labels.insert(label.clone(), Values::new());
        }
        self.0.insert(metric.to_owned(), labels);
    }

    /// Returns the parts of an expression that do not exist.
    pub(crate) fn unknown(&self, expression: &Expression) -> Vec<String> {
        let mut faults = Vec::new();
        let mut all = BTreeSet::new();
        for selector in &expression.selectors {
            let metric = &selector.metric;
            let name = Regex::new(&format!("^({metric})$")).unwrap();
            let found = self.0.iter().filter(|(metric, _)| name.is_match(metric));
            let found: Vec<_> = found.map(|(_, labels)| labels).collect();
            if found.is_empty() {
                faults.push(format!("no page has a metric {metric}"));
                continue;
            }
            all.extend(found.iter().flat_map(|labels| labels.keys()));
            for (label, _, value) in &selector.matchers {
                let known = found.iter().filter_map(|labels| labels.get(label));
                let known: Vec<&Values> = known.collect();
                if known.is_empty() {
                    faults.push(format!("{metric} has no label {label}"));
                    continue;
                }
                // In patterns with alternatives, every word must exist.
                let plain = |c: char| c.is_alphanumeric() || "_|".contains(c);
                let words = value.split('|').filter(|_| value.chars().all(plain));
                for word in words {
                    let has = |values: &&Values| values.is_empty() || values.contains(word);
                    if !known.iter().any(has) {
                        faults.push(format!("{metric} is never there with {label}=\"{word}\""));
                    }
                }
            }
        }
        for label in &expression.labels {
            if !all.contains(label) && !expression.added.contains(label) {
                faults.push(format!("nothing it asks for has the label {label}"));
            }
        }
        faults
    }
}

#[test]
fn selectors_are_found_with_their_context() {
    let text = "sum by (a) (rate(x_total{l=\"1, 2\", m!~\"3\"}[$__rate_interval])) \
                / on (a) group_left (b) quantile(0.5, max by (a, c) (y)) offset -2d and z @ end()";
    let expression = read(text).unwrap();
    let metrics: Vec<_> = expression
        .selectors
        .iter()
        .map(|s| s.metric.as_str())
        .collect();
    assert_eq!(metrics, ["x_total", "y", "z"]);
    let [x, y, z] = &expression.selectors[..] else {
        panic!()
    };
    assert_eq!(x.range.as_deref(), Some("$__rate_interval"));
    assert_eq!(x.function.as_deref(), Some("rate"));
    assert_eq!(x.matchers[1], ("m".into(), "!~".into(), "3".into()));
    assert!(x.fixes("l") && !x.fixes("m"));
    assert_eq!(
        (x.mixes("l"), x.mixes("a"), x.mixes("m")),
        (None, None, Some("sum"))
    );
    assert_eq!(
        (y.mixes("c"), y.mixes("d")),
        (Some("quantile"), Some("max"))
    );
    assert!(z.aggregations.is_empty());
    assert_eq!(expression.labels, ["a", "a", "b", "a", "c"]);
    assert_eq!(expression.offsets, [("y".into(), "-2d".into())]);
    assert!(!expression.drops);
    assert!(read("sum(x) by (a)").is_err());

    let text = "min without (a) (x) and on () last_over_time(z[7d] offset 2h) * -2.5 > time()";
    let expression = read(text).unwrap();
    assert!(expression.drops);
    assert_eq!(expression.labels, ["a"]);
    assert_eq!(expression.offsets, [("z".into(), "2h".into())]);

    let text = "x[1h] and max_over_time((y * on (a) count_values by (a) (\"b\", z))[4d:10m]) \
                / label_replace(w, \"c\", \"$1\", \"d\", \"(.+)\")";
    let expression = read(text).unwrap();
    let ranges = expression.selectors.iter().map(|s| s.range.as_deref());
    assert_eq!(
        ranges.collect::<Vec<_>>(),
        [Some("1h"), Some("4d:10m"), Some("4d:10m"), None]
    );
    assert_eq!(expression.added, ["b", "c"]);

    let expression =
        read("max by (a) ({__name__=~\"x_(y|z)\", b=~`(?i)\"c, d}`}[2d]) / w").unwrap();
    let [x, w] = &expression.selectors[..] else {
        panic!()
    };
    assert_eq!(
        (x.metric.as_str(), x.range.as_deref()),
        ("x_(y|z)", Some("2d"))
    );
    let matcher = ("b".to_owned(), "=~".to_owned(), "(?i)\"c, d}".to_owned());
    assert_eq!(x.matchers, [matcher]);
    assert_eq!(w.metric, "w");
}
