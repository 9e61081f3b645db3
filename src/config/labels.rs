//! Checks the labels of an app, which dashboards filter by and Alertmanager routes by.

use std::collections::BTreeMap;

use super::read::{Text, path};
use super::validate::Check;

/// How many labels an app may have: with `job` and its like a series stays below 30 labels, which is all that
/// Mimir and Cortex accept by default.
const MOST_LABELS: usize = 16;

/// How many characters a name or a value may have: `team` is copied onto alerts, and a message to a group of
/// WeCom has room for 4096 bytes.
const MOST_CHARACTERS: usize = 64;

impl Check<'_> {
    /// Returns the valid labels of an app, and reports the others.
    pub(super) fn labels(
        &mut self,
        key: &str,
        labels: Option<BTreeMap<String, Text>>,
    ) -> BTreeMap<String, String> {
        let labels = labels.unwrap_or_default();
        let number = labels.len();
        let mut checked = BTreeMap::new();
        for (name, value) in labels {
            if checked.len() == MOST_LABELS {
                let problem = format!("has {number} labels: expected at most {MOST_LABELS}");
                self.problem(value.line, key, problem);
                break;
            }
            match problem_of(&name, &value.value) {
                Some(problem) => self.problem(value.line, path(key, &name), problem),
                None => _ = checked.insert(name, value.value),
            }
        }
        checked
    }
}

fn problem_of(name: &str, value: &str) -> Option<String> {
    let is_name = name.bytes().enumerate().all(|(place, byte)| {
        byte == b'_' || byte.is_ascii_alphabetic() || place > 0 && byte.is_ascii_digit()
    });
    let problem = if name.is_empty() || !is_name {
        "not a label name: expected letters, digits and _, with no digit in front, such as team"
    } else if name.starts_with("__") {
        "Prometheus removes labels that begin with __: choose another name"
    } else if matches!(name, "appid" | "app") {
        "the exporter sets this label itself: choose another name"
    } else if matches!(name, "job" | "instance") {
        "Prometheus sets this label itself: choose another name"
    } else if value.trim().is_empty() {
        "is blank: leave the label out"
    } else if value.contains(char::is_control) {
        "has line breaks or control characters in it: expected one line"
    } else if [name, value]
        .iter()
        .any(|text| text.chars().count() > MOST_CHARACTERS)
    {
        return Some(format!(
            "is too long: expected at most {MOST_CHARACTERS} characters in the name and in the value"
        ));
    } else {
        return None;
    };
    Some(problem.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::super::tests::{Directory, MAIN, app, assert_app_problems, load_text};
    use super::*;

    fn labels(text: &str) -> BTreeMap<String, String> {
        let config = load_text(&app(&format!("secret_env: A\n    labels: {text}")));
        config.unwrap().apps.remove(0).labels
    }

    #[test]
    fn labels_are_read_as_they_are_written() {
        let read = labels("{team: 零售, _tier: 01, On: no, city: '上海 \"浦东\"'}");
        let expected = [
            ("On", "no"),
            ("_tier", "01"),
            ("city", "上海 \"浦东\""),
            ("team", "零售"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, BTreeMap::from(expected));
        assert_eq!(labels("{}"), BTreeMap::new());
        assert_eq!(labels(""), BTreeMap::new());
    }

    #[test]
    fn names_of_others_and_invalid_ones_are_refused() {
        let syntax = "not a label name: expected letters, digits and _, with no digit in front, such as team";
        for (name, problem) in [
            (
                "appid",
                "the exporter sets this label itself: choose another name",
            ),
            (
                "app",
                "the exporter sets this label itself: choose another name",
            ),
            (
                "job",
                "Prometheus sets this label itself: choose another name",
            ),
            (
                "instance",
                "Prometheus sets this label itself: choose another name",
            ),
            (
                "__name__",
                "Prometheus removes labels that begin with __: choose another name",
            ),
            ("团队", syntax),
            ("team-name", syntax),
            ("a:b", syntax),
            ("1st", syntax),
        ] {
            assert_app_problems(&[(
                &format!("secret_env: A\n    labels:\n      team: a\n      {name}: b"),
                &format!("6: apps[0].labels.{name}: {problem}"),
            )]);
        }
        assert_app_problems(&[
            (
                "secret_env: A\n    labels: {'': a}",
                &format!("4: apps[0].labels.: {syntax}"),
            ),
            (
                "secret_env: A\n    labels: {team: a, team: b}",
                "4: apps[0].labels: duplicate key `team`: remove one",
            ),
        ]);
    }

    #[test]
    fn values_are_short_texts_of_one_line() {
        let long = "零".repeat(MOST_CHARACTERS);
        assert_eq!(labels(&format!("{{team: {long}}}"))["team"], long);
        let too_long = "apps[0].labels.team: is too long: expected at most 64 characters in the name and in the value";
        assert_app_problems(&[
            (
                &format!("secret_env: A\n    labels: {{team: {long}售}}"),
                &format!("4: {too_long}"),
            ),
            (
                "secret_env: A\n    labels: {team: ' '}",
                "4: apps[0].labels.team: is blank: leave the label out",
            ),
            (
                "secret_env: A\n    labels: {team: \"a\\nb\"}",
                "4: apps[0].labels.team: has line breaks or control characters in it: expected one line",
            ),
            (
                "secret_env: A\n    labels: {team: }",
                "4: apps[0].labels.team: the value is missing",
            ),
            (
                "secret_env: A\n    labels: {team: [a]}",
                "4: apps[0].labels.team: expected a single value",
            ),
            (
                "secret_env: A\n    labels: [team]",
                "4: apps[0].labels: expected keys and values: `key: value`",
            ),
        ]);
    }

    #[test]
    fn an_app_has_a_bounded_number_of_labels() {
        let many = |number: usize| {
            (0..number).fold(String::new(), |mut text, number| {
                let _ = write!(text, "l{number}: a, ");
                text
            })
        };
        assert_eq!(labels(&format!("{{{}}}", many(16))).len(), 16);
        assert_app_problems(&[(
            &format!("secret_env: A\n    labels: {{{}}}", many(17)),
            "4: apps[0].labels: has 17 labels: expected at most 16",
        )]);
    }

    #[test]
    fn labels_in_files_of_apps_are_reported_there() {
        let directory = Directory::new(&[
            (MAIN, "apps_files: [b.yml]"),
            (
                "b.yml",
                "- appid: wx0123456789abcdef\n  secret_env: A\n  labels:\n    job: a\n",
            ),
        ]);
        assert_eq!(
            directory.problems(),
            "b.yml:4: [0].labels.job: Prometheus sets this label itself: choose another name"
        );
    }
}
