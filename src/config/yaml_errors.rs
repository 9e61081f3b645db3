//! Describes the errors of the YAML reader in the wording and form of all other problems.
//!
//! Depends on the reader's errors, and not on the keys.

use std::fmt::Write as _;
use std::path::Path;

use serde_path_to_error::Segment;
use serde_saphyr::Error as Yaml;

/// Returns the line for an error of the YAML reader.
///
/// No value of the file is repeated: it may be a secret in the wrong place.
pub(super) fn describe(file: &Path, key: &serde_path_to_error::Path, error: &Yaml) -> String {
    let mut cause = error.without_snippet();
    while let Yaml::AliasError { error, .. } = cause {
        cause = error;
    }
    let problem = match cause {
        Yaml::SerdeUnknownField {
            field, expected, ..
        } => {
            let hint = suggestion(field, expected);
            let hint = hint.map_or(String::new(), |key| format!(", did you mean `{key}`"));
            format!("unknown key{hint}: expected one of {}", expected.join(", "))
        }
        Yaml::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Yaml::DuplicateMappingKey { key: Some(key), .. } if is_short(key) => {
            format!("duplicate key `{key}`: remove one")
        }
        Yaml::DuplicateMappingKey { .. } => "duplicate key: remove one".to_owned(),
        Yaml::NullIntoString { .. } => "the value is missing".to_owned(),
        Yaml::Unexpected { expected, .. } => match *expected {
            "string scalar" => "expected a single value".to_owned(),
            "sequence start" => {
                "expected a list: one line with `- ` for each, or [a, b]".to_owned()
            }
            "mapping start" => "expected keys and values: `key: value`".to_owned(),
            expected => format!("expected {expected}"),
        },
        Yaml::MultipleDocuments { .. } => {
            "a second document begins: expected one, so remove the line `---`".to_owned()
        }
        cause => {
            let text = cause.to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            let column = cause.location().map_or(0, |location| location.column());
            format!("invalid YAML at column {column}: {text}")
        }
    };
    let mut place = file.display().to_string();
    if let Some(location) = error.location() {
        let _ = write!(place, ":{}", location.line());
    }
    let key = key_path(key);
    let separator = if key.is_empty() { "" } else { ": " };
    format!("{place}: {key}{separator}{problem}")
}

/// From this similarity on a key is taken for a misspelling of another.
const ALIKE: f64 = 0.85;

/// What people write instead of `secret_file`: the secret has no place in the configuration.
const SECRETS: [&str; 3] = ["secret", "app_secret", "appsecret"];

/// Returns the key that is probably meant.
fn suggestion<'a>(field: &str, expected: &[&'a str]) -> Option<&'a str> {
    let field = field.to_ascii_lowercase();
    let alike = |key: &str| strsim::jaro_winkler(&field, key);
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

/// Returns the path of a key in the form of all other problems.
fn key_path(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                let _ = write!(key, "[{index}]");
            }
            // Not a key of the file: the envelope that `Spanned` puts around every value.
            Segment::Map { key: name } if name == "value" => {}
            Segment::Map { key: name } => {
                let separator = if key.is_empty() { "" } else { "." };
                let name = if is_short(name) { name } else { "[redacted]" };
                let _ = write!(key, "{separator}{name}");
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    key
}

/// Returns `true` if the text of a key is too short to be a secret.
fn is_short(text: &str) -> bool {
    text.len() < 30
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, assert_app_problems, assert_problems, load_text, secret_of};

    #[test]
    fn an_unknown_key_is_reported_with_the_valid_ones() {
        const FILE: &str = "wechat, poll, windows, dimensions, top_names, past, swing, archive, stale_after, apps_files, apps";
        const APP: &str = "appid, name, secret_file, secret_env, windows, dimensions, top_names, past, swing, token_file, \
             token_parameter, token_url, token_url_headers_file, token_command, access, cloud_function, \
             portrait_url, portrait_url_headers_file, token_endpoint";
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
                "1: archive.days: unknown key: expected one of retention",
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
    fn text_that_is_not_yaml_is_reported_with_its_line() {
        assert_problems(&[
            (
                "poll:\n\tinterval: 1h",
                "2: invalid YAML at column 2: tabs disallowed within this context (block indentation)",
            ),
            (
                "windows: [1d",
                "1: windows: invalid YAML at column 10: unclosed bracket '['",
            ),
            (
                "poll: {interval: 1h\napps: []",
                "2: poll: invalid YAML at column 5: while parsing a flow mapping, did not find expected ',' or '}'",
            ),
            (
                "poll: {}\n---\npoll: {}",
                "3: a second document begins: expected one, so remove the line `---`",
            ),
            (
                "poll: {}\nwindows: [1d]\npoll: {}",
                "3: duplicate key `poll`: remove one",
            ),
            (
                "top_names: {city: 1, city: 2}",
                "1: top_names: duplicate key `city`: remove one",
            ),
        ]);
        assert_app_problems(&[
            (
                "secret_env: A\n     name: x",
                "4: apps[0]: invalid YAML at column 10: mapping values are not allowed in this context",
            ),
            (
                "appid: wx1",
                "3: apps[0]: duplicate key `appid`: remove one",
            ),
            (
                "secret_env: *unknown",
                "3: apps[0]: invalid YAML at column 17: alias references unknown anchor",
            ),
        ]);
    }

    #[test]
    fn a_byte_order_mark_carriage_returns_anchors_and_merges_are_read() {
        let text = "\u{feff}apps:\r\n- &a\r\n  appid: wx0123456789abcdef\r\n  secret_env: A\r\n- <<: *a\r\n  appid: wx1123456789abcdef\r\n";
        let config = load_text(text).unwrap();
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(secret_of(&config.apps[1]), SECRET);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
        for text in [
            format!("past: {open}{close}"),
            format!("poll: {open}"),
            format!("past:{}", " -".repeat(10_000)),
        ] {
            let problem = load_text(&text).unwrap_err().to_string();
            assert!(problem.contains(":1: "), "{problem}");
        }
    }
}
