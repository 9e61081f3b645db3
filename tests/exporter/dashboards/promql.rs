//! Finds the selectors of a PromQL expression, and what stands around each of them.
//!
//! Whether an expression is right is for Prometheus to say; this reads only as much of right ones
//! as the rules for dashboards ask for. Variables of Grafana may stand where a value may.

use std::sync::LazyLock;

use regex::Regex;

/// Words that stand where a metric could, but are none.
const WORDS: [&str; 11] = [
    "and", "or", "unless", "atan2", "bool", "offset", "start", "end", "inf", "nan", "time",
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

/// One metric, as an expression asks for it.
#[derive(Debug, Default, Clone)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// Label, operator, value.
    pub(super) matchers: Vec<(String, String, String)>,
    /// As it is written between the brackets.
    pub(super) range: Option<String>,
    /// The function whose argument it is.
    pub(super) function: Option<String>,
    /// The aggregations that it goes through, from the inside, with the labels that each keeps.
    pub(super) aggregations: Vec<(String, Vec<String>)>,
}

impl Selector {
    /// Whether all series that it finds have the same value of a label.
    pub(super) fn fixes(&self, label: &str) -> bool {
        let mut matchers = self.matchers.iter();
        matchers.any(|(name, operator, _)| name == label && operator == "=")
    }

    /// Answers the first aggregation that adds up, or picks from, different values of a label.
    pub(super) fn mixes(&self, label: &str) -> Option<&str> {
        if self.fixes(label) {
            return None;
        }
        let mut aggregations = self.aggregations.iter();
        let mixing = aggregations.find(|(_, kept)| !kept.iter().any(|kept| kept == label));
        mixing.map(|(name, _)| name.as_str())
    }
}

/// What is known of an expression.
#[derive(Debug, Default)]
pub(super) struct Expression {
    pub(super) selectors: Vec<Selector>,
    /// The labels of all lists: what is grouped by and matched on.
    pub(super) labels: Vec<String>,
    /// The durations of `offset`, with their sign.
    pub(super) offsets: Vec<String>,
}

/// A parenthesis that is open.
#[derive(Default)]
struct Open {
    function: Option<String>,
    aggregation: Option<(String, Vec<String>)>,
}

/// Reads an expression; fails with a sentence on what it cannot read.
pub(super) fn read(text: &str) -> Result<Expression, String> {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        let string = r#""(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"#;
        let name = "[a-zA-Z_:][a-zA-Z0-9_:]*";
        let variable = r"\$[a-zA-Z0-9_]+|\$\{[^}]*\}";
        let number = r"[0-9][0-9a-zA-Z.]*";
        Regex::new(&format!(
            r"{string}|{name}|{variable}|{number}|[=!]~|!=|[^\s]"
        ))
        .unwrap()
    });
    let tokens: Vec<&str> = TOKEN.find_iter(text).map(|found| found.as_str()).collect();
    let token = |at: usize| tokens.get(at).copied().unwrap_or_default();
    let is_name =
        |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic() || "_:".contains(c));
    // Reads up to the end of a list; answers its labels and what comes after.
    let list = |mut at: usize| {
        let mut labels = Vec::new();
        while !["", ")"].contains(&token(at)) {
            if is_name(token(at)) {
                labels.push(token(at).to_owned());
            }
            at += 1;
        }
        (labels, at + 1)
    };
    let mut read = Expression::default();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let word = tokens[at];
        at += 1;
        if word == "(" {
            open.push(Open::default());
        } else if word == ")" {
            open.pop().ok_or("a parenthesis closes that was not open")?;
            if ["by", "without"].contains(&token(at)) {
                return Err("write `by` before the parenthesis, so that it can be checked".into());
            }
        } else if word == "offset" {
            let (sign, duration) = (token(at), token(at + 1));
            let offset = if sign == "-" {
                format!("-{duration}")
            } else {
                sign.into()
            };
            read.offsets.push(offset);
        } else if word == "without" {
            return Err("`without` keeps labels that nobody knows: write `by`".into());
        } else if LISTS.contains(&word) {
            let labels;
            if token(at) == "(" {
                (labels, at) = list(at + 1);
                read.labels.extend(labels);
            }
        } else if REDUCING.contains(&word) {
            let mut labels = Vec::new();
            if token(at) == "by" {
                (labels, at) = list(at + 2);
                read.labels.extend(labels.clone());
            }
            at += 1;
            open.push(Open {
                function: None,
                aggregation: Some((word.to_owned(), labels)),
            });
        } else if is_name(word) && token(at) == "(" {
            at += 1;
            open.push(Open {
                function: Some(word.to_owned()),
                aggregation: None,
            });
        } else if ["topk", "bottomk"].contains(&word) && token(at) == "by" {
            let labels;
            (labels, at) = list(at + 2);
            read.labels.extend(labels);
        } else if is_name(word) && !WORDS.contains(&word) {
            let mut selector = Selector {
                metric: word.to_owned(),
                function: open.last().and_then(|open| open.function.clone()),
                ..Selector::default()
            };
            let frames = open.iter().rev();
            selector.aggregations = frames.filter_map(|open| open.aggregation.clone()).collect();
            if token(at) == "{" {
                (selector.matchers, at) = matchers(&tokens, at + 1);
            }
            if token(at) == "[" {
                selector.range = Some(token(at + 1).to_owned());
            }
            read.selectors.push(selector);
        }
    }
    Ok(read)
}

/// Reads matchers up to the closing brace; answers what comes after it, too.
fn matchers(tokens: &[&str], mut at: usize) -> (Vec<(String, String, String)>, usize) {
    let mut matchers = Vec::new();
    while let [label, operator, value, ..] = &tokens[at..] {
        if *label == "}" {
            break;
        }
        if *label == "," {
            at += 1;
            continue;
        }
        let value = value.trim_matches(['"', '\'']);
        matchers.push(((*label).into(), (*operator).into(), value.into()));
        at += 3;
    }
    (matchers, at + 1)
}

#[test]
fn selectors_are_found_with_all_that_stands_around_them() {
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
    assert_eq!(expression.offsets, ["-2d"]);
    assert!(read("sum(x) by (a)").is_err());
}
