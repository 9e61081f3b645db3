//! Describes the errors of the YAML reader in the wording of all other problems.

use serde_saphyr::Error;

/// Returns the line of an error, and what is wrong there.
///
/// No value of the file is repeated: it may be a secret in the wrong place.
pub(super) fn describe(error: &Error) -> (Option<u64>, String) {
    let line = error.location().map(|location| location.line());
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error;
    }
    let problem = if let Error::MultipleDocuments { .. } = cause {
        "a second document begins: expected one, so remove the line `---`".to_owned()
    } else {
        let text = cause.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        let column = cause.location().map_or(0, |location| location.column());
        format!("invalid YAML at column {column}: {text}")
    };
    (line, problem)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{SECRET, assert_app_problems, assert_problems, load_text, secret_of};

    #[test]
    fn text_that_is_not_yaml_is_reported_with_its_line() {
        assert_problems(&[
            (
                "poll:\n\tinterval: 1h",
                "2: invalid YAML at column 2: tabs disallowed within this context (block indentation)",
            ),
            (
                "windows: [1d",
                "1: invalid YAML at column 10: unclosed bracket '['",
            ),
            (
                "poll: {interval: 1h\napps: []",
                "2: invalid YAML at column 5: while parsing a flow mapping, did not find expected ',' or '}'",
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
                "4: invalid YAML at column 10: mapping values are not allowed in this context",
            ),
            (
                "appid: wx1",
                "3: apps[0]: duplicate key `appid`: remove one",
            ),
            (
                "secret_env: *unknown",
                "3: invalid YAML at column 17: alias references unknown anchor",
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
