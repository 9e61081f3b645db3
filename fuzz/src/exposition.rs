//! Parses the text format of Prometheus as strictly as its documentation is, without any code of the exporter:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series in their order.
pub(crate) type Labels = Vec<(String, String)>;

/// Returns the value of every series, by name and labels.
pub(crate) fn parse(text: &str) -> BTreeMap<(String, Labels), String> {
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line has no end"
    );
    let mut series = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = ("", "");
    let mut help = "";
    for line in text.split_terminator('\n') {
        if let Some(header) = line.strip_prefix("# HELP ") {
            let (name, text) = header.split_once(' ').unwrap();
            assert!(is_metric(name) && is_escaped(text), "{line:?}");
            help = name;
        } else if let Some(header) = line.strip_prefix("# TYPE ") {
            family = header.split_once(' ').unwrap();
            assert!(
                ["gauge", "counter", "histogram"].contains(&family.1),
                "{line:?}"
            );
            assert_eq!(help, family.0, "TYPE without its HELP");
            assert!(families.insert(family.0), "{} is there twice", family.0);
        } else {
            let end = line.find(['{', ' ']).unwrap();
            let (name, rest) = line.split_at(end);
            let of_family = match family.1 {
                "histogram" => ["_bucket", "_sum", "_count"]
                    .iter()
                    .find_map(|part| name.strip_suffix(part)),
                _ => Some(name),
            };
            assert_eq!(of_family, Some(family.0), "a line outside of its family");
            let (labels, value) = match rest.strip_prefix('{') {
                Some(rest) => parse_labels(rest),
                None => (Labels::new(), &rest[1..]),
            };
            let is_number = value.parse::<f64>().is_ok() || value == "+Inf";
            assert!(is_number, "{line:?}");
            let before = series.insert((name.to_owned(), labels), value.to_owned());
            assert_eq!(before, None, "a series is there twice: {line:?}");
        }
    }
    series
}

/// Parses the text after the opening brace: labels, and the value.
fn parse_labels(text: &str) -> (Labels, &str) {
    let mut labels = Labels::new();
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once("=\"").unwrap();
        assert!(is_metric(name) && !name.contains(':'), "{name:?}");
        assert!(
            labels.iter().all(|(other, _)| other != name),
            "{name} is there twice"
        );
        let mut value = String::new();
        let mut characters = after.chars();
        loop {
            match characters.next().unwrap() {
                '"' => break,
                '\\' => value.push(match characters.next().unwrap() {
                    'n' => '\n',
                    character @ ('\\' | '"') => character,
                    character => panic!("\\{character} is not an escape"),
                }),
                character => value.push(character),
            }
        }
        labels.push((name.to_owned(), value));
        rest = characters.as_str();
        if let Some(value) = rest.strip_prefix("} ") {
            return (labels, value);
        }
        rest = rest.strip_prefix(',').unwrap();
    }
}

fn is_metric(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
    name.bytes().all(is_of_name) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit()
}

fn is_escaped(help: &str) -> bool {
    let rest = help.replace("\\\\", "").replace("\\n", "");
    !rest.contains('\\')
}
