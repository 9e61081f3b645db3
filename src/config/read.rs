//! Reads values of the expected shape from the tree of a file, and reports everything of another shape.
//!
//! A problem is reported without the value, which may be a secret in the wrong place. Reading continues
//! after it, to find others, too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::tree::{Content, Node};

/// Each with its line; the text begins with the key.
pub(super) type Problems = Vec<(u64, String)>;

/// A value, and its line.
pub(super) struct Located<T> {
    pub(super) line: u64,
    pub(super) value: T,
}

/// A text of the file.
pub(super) type Text = Located<String>;

/// A list of the file.
pub(super) type Texts = Located<Vec<Text>>;

/// A value of which parts, or all, may have been left out because of problems.
pub(super) struct Partial<T> {
    pub(super) value: Option<T>,
    pub(super) is_complete: bool,
}

/// What can be read from a tree.
pub(super) trait Read: Sized {
    /// Returns the value, or reports why there is none; `key` is its path.
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self>;

    /// Returns the value where the key is absent, unless it is required.
    fn absent() -> Option<Self> {
        None
    }
}

fn report(line: u64, key: &str, problem: &str, problems: &mut Problems) {
    let separator = if key.is_empty() { "" } else { ": " };
    problems.push((line, format!("{key}{separator}{problem}")));
}

/// Reports a value of another shape than `expected`.
pub(super) fn report_shape(node: &Node, expected: &str, key: &str, problems: &mut Problems) {
    let problem = match node.content {
        Content::Null => "the value is missing",
        _ => expected,
    };
    report(node.line, key, problem, problems);
}

impl Read for String {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        if let Content::Text { value, .. } = node.content {
            return Some(value);
        }
        report_shape(&node, "expected a single value", key, problems);
        None
    }
}

impl<T: Read> Read for Located<T> {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        let line = node.line;
        let value = T::read(node, key, problems)?;
        Some(Self { line, value })
    }
}

impl<T: Read> Read for Partial<T> {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        let before = problems.len();
        let value = T::read(node, key, problems);
        let is_complete = problems.len() == before;
        Some(Self { value, is_complete })
    }
}

impl<T: Read> Read for Option<T> {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        Some(match node.content {
            // A key left empty is as if it were absent.
            Content::Null => None,
            _ => T::read(node, key, problems),
        })
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Read> Read for Vec<T> {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        let Content::List(nodes) = node.content else {
            let expected = "expected a list: one line with `- ` for each, or [a, b]";
            report_shape(&node, expected, key, problems);
            return None;
        };
        let is_empty = nodes.is_empty();
        let values = nodes.into_iter().enumerate();
        let values = values
            .filter_map(|(index, node)| T::read(node, &format!("{key}[{index}]"), problems))
            .collect::<Vec<_>>();
        // A list without a valid value is not an empty one.
        (is_empty || !values.is_empty()).then_some(values)
    }
}

impl<T: Read> Read for BTreeMap<String, T> {
    fn read(node: Node, key: &str, problems: &mut Problems) -> Option<Self> {
        let mapping = node.mapping(key, problems)?;
        let values = mapping.into_iter().filter_map(|(name, node)| {
            let value = T::read(node, &path(key, &name), problems)?;
            Some((name, value))
        });
        Some(values.collect())
    }
}

/// The values of a mapping with known keys.
pub(super) struct Values<'a> {
    line: u64,
    key: &'a str,
    nodes: BTreeMap<String, Node>,
}

impl Values<'_> {
    /// Reads the value of a key.
    pub(super) fn read<T: Read>(&mut self, name: &str, problems: &mut Problems) -> Option<T> {
        if let Some(node) = self.nodes.remove(name) {
            return T::read(node, &path(self.key, name), problems);
        }
        let absent = T::absent();
        if absent.is_none() {
            let problem = format!("the key `{name}` is missing");
            report(self.line, self.key, &problem, problems);
        }
        absent
    }
}

impl Node {
    /// Returns the values of a mapping with known keys, and reports all others.
    pub(super) fn values_of<'a>(
        self,
        expected: &[&str],
        key: &'a str,
        problems: &mut Problems,
    ) -> Option<Values<'a>> {
        let line = self.line;
        if let Content::Mapping(entries) = &self.content {
            for (name, _) in entries {
                if !expected.contains(&name.value.as_str()) {
                    let hint = suggestion(&name.value, expected);
                    let hint = hint.map_or(String::new(), |key| format!(", did you mean `{key}`"));
                    let expected = expected.join(", ");
                    let problem = format!("unknown key{hint}: expected one of {expected}");
                    report(name.line, &path(key, &name.value), &problem, problems);
                }
            }
        }
        let nodes = self.mapping(key, problems)?;
        Some(Values { line, key, nodes })
    }

    /// Returns the entries of a mapping, and reports duplicates.
    fn mapping(self, key: &str, problems: &mut Problems) -> Option<BTreeMap<String, Node>> {
        let Content::Mapping(entries) = self.content else {
            let expected = "expected keys and values: `key: value`";
            report_shape(&self, expected, key, problems);
            return None;
        };
        let mut mapping = BTreeMap::new();
        for (name, node) in entries {
            match mapping.entry(name.value) {
                Entry::Vacant(entry) => _ = entry.insert(node),
                Entry::Occupied(entry) => {
                    let problem = format!("duplicate key `{}`: remove one", shown(entry.key()));
                    report(name.line, key, &problem, problems);
                }
            }
        }
        Some(mapping)
    }
}

/// From this similarity on a key is taken for a misspelling of another.
const ALIKE: f64 = 0.85;

/// What people write instead of `secret_file`: the secret has no place in the configuration.
const SECRETS: [&str; 3] = ["secret", "app_secret", "appsecret"];

/// Returns the key that is probably meant.
fn suggestion<'a>(name: &str, expected: &[&'a str]) -> Option<&'a str> {
    let name = name.to_ascii_lowercase();
    let alike = |key: &str| strsim::jaro_winkler(&name, key);
    let keys = expected.iter().map(|key| (*key, alike(key)));
    let secret_file = expected.iter().filter(|key| **key == "secret_file");
    let secrets = secret_file.flat_map(|key| SECRETS.map(|secret| (*key, alike(secret))));
    let nearest = keys
        .chain(secrets)
        .max_by(|one, other| one.1.total_cmp(&other.1));
    nearest
        .filter(|(_, similarity)| *similarity >= ALIKE)
        .map(|(key, _)| key)
}

/// Returns the path of a key under another.
pub(super) fn path(key: &str, name: &str) -> String {
    let separator = if key.is_empty() { "" } else { "." };
    format!("{key}{separator}{}", shown(name))
}

/// Returns the name of a key, unless it is long enough to be a secret.
fn shown(name: &str) -> &str {
    if name.len() < 30 { name } else { "[redacted]" }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MAIN, assert_app_problems, assert_problems};

    /// The keys of the file, and of an app.
    const FILE: &str = "wechat, poll, windows, dimensions, top_names, past, swing, holidays, archive, stale_after, apps_files, apps";
    const APP: &str = "appid, name, labels, secret_file, secret_env, windows, dimensions, top_names, past, swing, holidays, token_file, \
         token_parameter, token_url, token_url_headers_file, token_command, access, cloud_function, \
         portrait_url, portrait_url_headers_file, token_endpoint";

    #[test]
    fn an_unknown_key_is_reported_with_the_valid_ones() {
        assert_problems(&[
            (
                "Apps: []",
                &format!("1: Apps: unknown key, did you mean `apps`: expected one of {FILE}"),
            ),
            (
                "\n\ntimeout: 10s",
                &format!("3: timeout: unknown key: expected one of {FILE}"),
            ),
            (
                "poll:\n  intervall: 3",
                "2: poll.intervall: unknown key, did you mean `interval`: expected one of interval, concurrency",
            ),
            (
                "wechat: {base: x}",
                "1: wechat.base: unknown key, did you mean `base_url`: expected one of base_url, timeout, proxy_url, ca_file",
            ),
            (
                "archive: {days: 3}",
                "1: archive.days: unknown key: expected one of retention, postgres_url_file, postgres_url_env",
            ),
            (
                "apps:\n- {appid: a, secret_env: A}\n- {appid: b, scret: x}",
                &format!(
                    "3: apps[1].scret: unknown key, did you mean `secret_file`: expected one of {APP}"
                ),
            ),
        ]);
        assert_app_problems(&[(
            "wondows: [1d]",
            &format!(
                "3: apps[0].wondows: unknown key, did you mean `windows`: expected one of {APP}"
            ),
        )]);
        for key in ["secret", "AppSecret", "app_secret"] {
            let expected = format!(
                "3: apps[0].{key}: unknown key, did you mean `secret_file`: expected one of {APP}"
            );
            assert_app_problems(&[(&format!("{key}: x"), &expected)]);
        }
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_reported_with_the_right_one() {
        const LIST: &str = "expected a list: one line with `- ` for each, or [a, b]";
        const MAP: &str = "expected keys and values: `key: value`";
        assert_problems(&[
            ("- a", &format!("1: {MAP}")),
            ("hello", &format!("1: {MAP}")),
            ("wechat: 5", &format!("1: wechat: {MAP}")),
            ("poll: [1h]", &format!("1: poll: {MAP}")),
            ("apps: {}", &format!("1: apps: {LIST}")),
            ("apps:\n  wx1: {secret_env: A}", &format!("2: apps: {LIST}")),
            ("apps:\n  - wx1", &format!("2: apps[0]: {MAP}")),
            ("windows: 1d", &format!("1: windows: {LIST}")),
            ("windows: [[1d]]", "1: windows[0]: expected a single value"),
            ("windows: [1d, null]", "1: windows[1]: the value is missing"),
            ("top_names: [city]", &format!("1: top_names: {MAP}")),
            (
                "top_names: {city: }",
                "1: top_names.city: the value is missing",
            ),
            (
                "poll:\n  concurrency: {a: 1}",
                "2: poll.concurrency: expected a single value",
            ),
            (
                "apps_files: apps.d/*.yml",
                &format!("1: apps_files: {LIST}"),
            ),
            (
                "apps:\n  - name: x",
                "2: apps[0]: the key `appid` is missing",
            ),
            (
                "apps:\n  - appid:",
                "2: apps[0].appid: the value is missing",
            ),
        ]);
        assert_app_problems(&[
            ("name: {a: b}", "3: apps[0].name: expected a single value"),
            ("windows: 7d", &format!("3: apps[0].windows: {LIST}")),
        ]);
    }

    #[test]
    fn everything_of_another_shape_is_reported_at_once() {
        let text = "
poll: [1h]
wondows: [1d]
stale_after: {days: 3}
swing: {min_users: few, ratio: 1, ratio: 2}
apps:
  - {appid: wx0123456789abcdef, secret: x, windows: 1d, name: ' ', top_names: {city: [1]}}
  - wx1
  - {appid: wx1123456789abcdef, secret_file: [a], past: {days: 3}, dimensions: [town, [age]]}
  - {appid: wx2123456789abcdef, secret_env: UNSET}
poll: {}
";
        assert_problems(&[(
            text,
            &format!(
                "2: poll: expected keys and values: `key: value`
MAIN:3: wondows: unknown key, did you mean `windows`: expected one of {FILE}
MAIN:4: stale_after: expected a single value
MAIN:5: swing.ratio: unknown key: expected one of threshold_ratio, min_users
MAIN:5: swing.ratio: unknown key: expected one of threshold_ratio, min_users
MAIN:5: swing: duplicate key `ratio`: remove one
MAIN:5: swing.min_users: `few` is not a whole number from 1 to 1000000000
MAIN:7: apps[0].secret: unknown key, did you mean `secret_file`: expected one of {APP}
MAIN:7: apps[0].windows: expected a list: one line with `- ` for each, or [a, b]
MAIN:7: apps[0].top_names.city: expected a single value
MAIN:7: apps[0].name: is blank: leave the key out to show the appid
MAIN:8: apps[1]: expected keys and values: `key: value`
MAIN:9: apps[2].secret_file: expected a single value
MAIN:9: apps[2].dimensions[1]: expected a single value
MAIN:9: apps[2].past.days: unknown key, did you mean `days_ago`: expected one of dimensions, days_ago
MAIN:9: apps[2].dimensions: unknown dimension `town`: expected one of province, city, gender, platform, device, age
MAIN:10: apps[3].secret_env: the environment has no variable UNSET
MAIN:11: duplicate key `poll`: remove one"
            )
            .replace("MAIN", MAIN),
        )]);
    }
}
