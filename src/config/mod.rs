//! The configuration: YAML files in, validated settings out.
//!
//! A `document` is read by `files`, becomes a `tree`, is `read` into the `raw` values of the keys, and
//! `validate` turns these into `settings`; [`access`] does so for the keys of an app's access, `holidays`
//! for those of its calendar, `labels` for its labels; `redacted` shows the settings without secrets, [`web`] is for the file of TLS and authentication, and `yaml_errors` describes
//! the errors of the YAML reader. Raw values stay private, so that nothing unchecked leaves this module. Opens no archive and sends no
//! requests; the environment is a function that is passed in.

pub mod access;
mod database;
mod document;
mod files;
mod holidays;
mod labels;
mod raw;
mod read;
mod redacted;
mod settings;
mod tree;
mod validate;
pub mod web;
mod yaml_errors;

use std::path::Path;

pub use settings::{
    App, Archive, Config, MissingHolidays, Past, Poll, Postgres, RETENTION, STALE_AFTER, Swing,
    UrlSource, WeChat,
};
pub use validate::Error;
pub(crate) use validate::is_loopback;

/// Reads and checks the file at `path` and all that it names.
///
/// Paths are relative to the file that contains them; `environment` looks up the variable named by a
/// `secret_env` or `postgres_url_env`.
///
/// # Errors
///
/// Every problem, with its file and line.
pub fn load(path: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<Config, Error> {
    validate::load(path, &environment)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;
    use std::time::Duration;

    use secrecy::{ExposeSecret, SecretString};
    use tempfile::TempDir;
    use url::Url;

    use super::access::AccessMethod;
    use super::*;
    use crate::portrait::{Dimension, Window};

    pub(super) const SECRET: &str = "0123456789abcdef0123456789abcdef";
    pub(super) const MAIN: &str = "wxapp-portrait.yml";

    /// A directory of configuration files.
    pub(super) struct Directory(pub(super) TempDir);

    impl Directory {
        pub(super) fn new(files: &[(&str, &str)]) -> Self {
            let directory = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                directory.write(name, text);
            }
            directory
        }

        pub(super) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Loads the main file; the variables `A`, `URL` and `EMPTY` are set.
        pub(super) fn load(&self) -> Result<Config, Error> {
            load(&self.0.path().join(MAIN), |name| match name {
                "A" => Some(SECRET.to_owned()),
                "URL" => Some("postgres://user:hunter2@database.example/portraits".to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            })
        }

        /// Loads the main file and returns its problems, without the directory.
        pub(super) fn problems(&self) -> String {
            let problems = match self.load() {
                Ok(config) => config.app_problems.join("\n"),
                Err(error) => error.to_string(),
            };
            assert_ne!(problems, "");
            self.without_directory(&problems)
        }

        pub(super) fn warnings(&self) -> String {
            self.without_directory(&self.load().unwrap().warnings.join("\n"))
        }

        pub(super) fn without_directory(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    pub(super) fn secret_of(app: &App) -> String {
        let AccessMethod::Token(access::TokenAccess {
            source: access::TokenSource::Secret(secret, _),
            ..
        }) = &app.access
        else {
            panic!("{:?}", app.access)
        };
        secret.value.as_ref().unwrap().expose_secret().to_owned()
    }

    pub(super) fn base_urls(config: &Config) -> Vec<&str> {
        config.wechat.base_urls.iter().map(Url::as_str).collect()
    }

    pub(super) fn load_text(text: &str) -> Result<Config, Error> {
        Directory::new(&[(MAIN, text)]).load()
    }

    /// Checks that each text has exactly this problem, without the name of the file.
    #[track_caller]
    pub(super) fn assert_problems(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let problems = Directory::new(&[(MAIN, text)]).problems();
            assert_eq!(problems, format!("{MAIN}:{expected}"), "{text:?}");
        }
    }

    /// A file with one app, whose keys are given.
    pub(super) fn app(keys: &str) -> String {
        format!("apps:\n  - appid: wx0123456789abcdef\n    {keys}\n")
    }

    /// Checks that an app with each of these keys has exactly this problem.
    #[track_caller]
    pub(super) fn assert_app_problems(cases: &[(&str, &str)]) {
        for (keys, expected) in cases {
            assert_problems(&[(&app(keys), expected)]);
        }
    }

    #[test]
    fn everything_has_a_default_except_the_app_and_its_secret() {
        let config = load_text(&app("secret_env: A")).unwrap();
        assert_eq!(base_urls(&config), ["https://api.weixin.qq.com/"]);
        assert_eq!(config.wechat.timeout, Duration::from_secs(10));
        assert_eq!((config.wechat.proxy_url, config.wechat.ca), (None, None));
        assert_eq!(config.poll.interval, Duration::from_mins(30));
        assert_eq!(config.poll.concurrency, 8);
        assert_eq!(config.archive.retention, Duration::from_hours(400 * 24));
        assert_eq!(config.stale_after, Duration::from_hours(3 * 24));
        assert_eq!(config.warnings, [""; 0]);
        let [app] = &config.apps[..] else {
            panic!("one app")
        };
        assert_eq!(app.name, "wx0123456789abcdef");
        assert_eq!(
            app.access,
            AccessMethod::of_secret(SecretString::from(SECRET))
        );
        assert_eq!(app.windows, [Window::OneDay]);
        assert_eq!(app.dimensions, Dimension::ALL);
        assert_eq!(app.top_names, BTreeMap::new());
        let dimensions = [Dimension::Platform, Dimension::Gender, Dimension::Age];
        assert_eq!(app.past.dimensions, dimensions);
        assert_eq!(app.past.days_ago, [1, 7, 14, 21, 28]);
    }

    #[test]
    fn every_key_is_read_and_an_app_may_differ() {
        let config = load_text(
            "
wechat: {base_url: 'http://localhost:8080/wechat', timeout: 2500ms}
poll: {interval: 1h 30m, concurrency: 256}
windows: [7d, 1d]
dimensions: [platform, city]
top_names: {city: 100}
past: {dimensions: [city], days_ago: [7]}
archive: {retention: 2years}
stale_after: 5d
apps:
  - {appid: wx0123456789abcdef, secret_env: A}
  - appid: wx1123456789abcdef
    name: 商城
    secret_env: A
    windows: [30d]
    dimensions: [age]
    top_names: {city: 1, device: 5}
    past: {days_ago: []}
",
        )
        .unwrap();
        assert_eq!(base_urls(&config), ["http://localhost:8080/wechat/"]);
        assert_eq!(config.wechat.timeout, Duration::from_millis(2500));
        assert_eq!(config.poll.interval, Duration::from_mins(90));
        assert_eq!(config.poll.concurrency, 256);
        assert_eq!(config.archive.retention.as_secs() / 86_400, 730);
        assert_eq!(config.stale_after, Duration::from_hours(5 * 24));
        assert_eq!(config.warnings, [""; 0]);
        let [first, second] = &config.apps[..] else {
            panic!("two apps")
        };
        assert_eq!(first.windows, [Window::SevenDays, Window::OneDay]);
        assert_eq!(first.dimensions, [Dimension::Platform, Dimension::City]);
        assert_eq!(first.top_names, BTreeMap::from([(Dimension::City, 100)]));
        assert_eq!(second.name, "商城");
        assert_eq!(second.windows, [Window::ThirtyDays]);
        assert_eq!(second.dimensions, [Dimension::Age]);
        let limits = [(Dimension::City, 1), (Dimension::Device, 5)];
        assert_eq!(second.top_names, BTreeMap::from(limits));
        let past = |days_ago: &[u32]| Past {
            dimensions: vec![Dimension::City],
            days_ago: days_ago.to_vec(),
        };
        assert_eq!((&first.past, &second.past), (&past(&[7]), &past(&[])));
    }

    #[test]
    fn a_key_left_empty_is_as_if_it_were_absent() {
        let keys = [
            "wechat",
            "poll",
            "windows",
            "dimensions",
            "top_names",
            "archive",
            "stale_after",
            "apps_files",
            "past",
            "swing",
            "holidays",
        ];
        let empty = keys.map(|key| format!("{key}:\n")).concat();
        let config = load_text(&(empty + &app("secret_env: A\n    name:\n    windows:"))).unwrap();
        assert_eq!(config.poll.concurrency, 8);
        assert_eq!(config.apps[0].windows, [Window::OneDay]);
    }

    #[test]
    fn an_app_needs_exactly_one_secret() {
        assert_app_problems(&[
            (
                "name: x",
                "2: apps[0]: needs a way to its portraits: add one of secret_file, secret_env, token_file, token_url, token_command, access: cloud_hosting, portrait_url",
            ),
            (
                "secret_file:",
                "2: apps[0]: needs a way to its portraits: add one of secret_file, secret_env, token_file, token_url, token_command, access: cloud_hosting, portrait_url",
            ),
            (
                "secret_file: a\n    secret_env: A",
                "4: apps[0]: has both `secret_file` and `secret_env`: remove one",
            ),
            (
                "secret_env: UNSET",
                "3: apps[0].secret_env: the environment has no variable UNSET",
            ),
            (
                "secret_env: EMPTY",
                "3: apps[0].secret_env: the AppSecret is empty",
            ),
            (
                "secret_file: a/b",
                "3: apps[0].secret_file: cannot read a/b: No such file or directory (os error 2)",
            ),
            (
                "secret_file: .",
                "3: apps[0].secret_file: cannot read .: not a regular file",
            ),
        ]);
    }

    #[test]
    fn one_line_break_is_taken_from_the_end_of_a_secret() {
        let text = app("secret_file: secrets/shop");
        let directory = Directory::new(&[(MAIN, &text)]);
        for end in ["", "\n", "\r\n"] {
            directory.write("secrets/shop", format!("{SECRET}{end}"));
            let config = directory.load().unwrap();
            assert_eq!(secret_of(&config.apps[0]), SECRET, "{end:?}");
        }
        let empty = "the AppSecret is empty";
        let not_one = "the AppSecret has blanks or line breaks in it: expected one word";
        let cases = [
            ("", empty),
            ("\n", empty),
            ("a\n\n", not_one),
            ("a b\n", not_one),
            ("a\r", not_one),
            ("a\0", not_one),
        ];
        for (content, problem) in cases {
            directory.write("secrets/shop", content);
            let expected = format!("{MAIN}:3: apps[0].secret_file: secrets/shop: {problem}");
            assert_eq!(directory.problems(), expected, "{content:?}");
        }
    }

    #[test]
    fn no_message_repeats_a_secret_that_is_in_the_file_by_mistake() {
        let texts = [
            "apps: [{appid: wx1, secret: SECRET}]",
            "apps: [{appid: wx1, secret_file: SECRET}]",
            "apps: [{appid: wx1, secret_env: SECRET}]",
            "apps: [{appid: wx1, secret_file: [SECRET]}]",
            "apps: [{appid: wx1, secret_file: {SECRET: x}}]",
            "apps: [{appid: wx1, secret_file: !!int SECRET}]",
            "apps: [{appid: wx1, token_url: SECRET}]",
            "apps: [{appid: wx1, token_file: SECRET}]",
            "apps: [{appid: wx1, token_file: a, token_parameter: 'SECRET!'}]",
            "apps: [{appid: wx1, secret_env: A, token_endpoint: SECRET}]",
            "apps: [{appid: wx1, access: SECRET}]",
            "apps: [{appid: wx1, portrait_url: 'SECRET://x'}]",
            "apps: [{appid: wx1, portrait_url: 'http://a', portrait_url_headers_file: SECRET}]",
            "apps: [{appid: wx1, SECRET: x}]",
            "apps: [{appid: wx1, SECRET: x, SECRET: y}]",
            "apps: [{appid: wx1, top_names: SECRET}]",
            "apps: [{appid: SECRET, secret_env: A}]",
            "apps: [SECRET]",
            "apps:\n- appid: wx1\n  SECRET",
            "apps:\n- appid: wx1\n  secret:SECRET",
            "apps:\n- appid: wx1\n  secret: *SECRET",
            "apps:\n- appid: wx1\n  secret: \"SECRET",
            "apps:\n- appid: wx1\n  secret: 'SECRET\nother: x",
            "apps:\n- appid: wx1\n  secret: \"\\SECRET\"",
            "apps:\n- appid: wx1\n  secret: |\n    a\n   SECRET: x",
            "apps:\n- appid: wx1\n  secret_file: a: SECRET",
            "SECRET: SECRET",
            "SECRET",
        ];
        let token = format!("85_{}", "aZ9_-".repeat(100));
        for text in texts {
            for secret in [SECRET, &token] {
                let error = load_text(&text.replace("SECRET", secret)).unwrap_err();
                assert!(!format!("{error} {error:?}").contains(secret), "{error}");
            }
        }
        let config = load_text(&app("secret_env: A")).unwrap();
        assert!(!format!("{config:?}").contains(SECRET));
    }

    #[test]
    fn a_secret_in_place_of_its_file_or_variable_is_reported_as_such() {
        assert_app_problems(&[
            (
                &format!("secret_file: {SECRET}"),
                "3: apps[0].secret_file: this looks like the secret itself: write it into a file and name that file here",
            ),
            (
                &format!("secret_env: {SECRET}"),
                "3: apps[0].secret_env: this looks like the AppSecret itself: put it into the environment and name the variable here",
            ),
        ]);
    }

    #[test]
    fn every_access_is_read() {
        let directory = Directory::new(&[("headers", "# for the token server\n\nX-Key: a: b\n")]);
        let access = |keys: &str| {
            directory.write(MAIN, app(keys));
            directory.load().unwrap().apps.remove(0).access
        };
        let described = |keys: &str| access(keys).to_string();
        assert_eq!(described("secret_env: A"), "stable_token");
        for (keys, expected) in [
            ("secret_env: A\n    token_endpoint: token", "cgi-bin/token"),
            ("token_file: headers", "token_file"),
            ("token_url: http://tokens.internal/wx?key=1", "token_url"),
            ("token_command: [sh, -c, 'echo a b']", "token_command"),
            ("access: cloud_hosting", "cloud_hosting"),
            ("portrait_url: https://example.com/portrait", "portrait_url"),
            (
                "secret_env: A\n    cloud_function: {env: prod-1a2b, name: portrait}",
                "stable_token, cloud_function",
            ),
        ] {
            assert_eq!(described(keys), expected, "{keys}");
        }

        let keys = "token_file: headers\n    token_parameter: cloudbase_access_token";
        let AccessMethod::Token(token) = access(keys) else {
            panic!("a token")
        };
        assert_eq!(token.parameter, "cloudbase_access_token");
        assert_eq!(
            token.source,
            access::TokenSource::File(directory.0.path().join("headers"))
        );
        let keys =
            "token_url: https://u:p@tokens.internal/?key=1\n    token_url_headers_file: headers";
        let AccessMethod::Token(token) = access(keys) else {
            panic!("a token")
        };
        assert!(format!("{token:?}").contains("tokens.internal"));
        assert!(!format!("{token:?}").contains("key="), "{token:?}");
        let headers = access::headers(&directory.0.path().join("headers")).unwrap();
        let [(name, value)] = &headers[..] else {
            panic!("one header")
        };
        assert_eq!((name.as_str(), value.expose_secret()), ("X-Key", "a: b"));
    }

    #[test]
    fn an_app_has_one_access_and_only_the_keys_that_go_with_it() {
        assert_app_problems(&[
            (
                "token_file: a\n    token_url: http://a",
                "4: apps[0]: has both `token_file` and `token_url`: remove one",
            ),
            (
                "secret_env: A\n    portrait_url: http://a",
                "4: apps[0]: has both `secret_env` and `portrait_url`: remove one",
            ),
            (
                "secret_env: A\n    token_parameter: b",
                "4: apps[0].token_parameter: goes with token_file, token_url, token_command only: remove it",
            ),
            (
                "access: cloud_hosting\n    cloud_function: {env: a, name: b}",
                "4: apps[0].cloud_function: goes with secret_file, secret_env, token_file, token_url, token_command only: remove it",
            ),
            (
                "token_command: [sh]\n    token_endpoint: token",
                "4: apps[0].token_endpoint: goes with secret_file, secret_env only: remove it",
            ),
            (
                "cloud_function: {env: a, name: b}",
                "2: apps[0]: `cloud_function` needs a token: add one of secret_file, secret_env, token_file, token_url, token_command",
            ),
            (
                "secret_env: A\n    token_url_headers_file: b",
                "4: apps[0].token_url_headers_file: goes with token_url only: remove it",
            ),
        ]);
    }

    #[test]
    fn an_invalid_access_is_reported_with_the_valid_one() {
        assert_app_problems(&[
            (
                "access: cloud",
                "3: apps[0].access: no such access: expected cloud_hosting",
            ),
            (
                "secret_env: A\n    token_endpoint: old",
                "4: apps[0].token_endpoint: no such endpoint: expected stable_token or token",
            ),
            (
                "secret_env: A\n    cloud_function: {env: ' ', name: b}",
                "4: apps[0].cloud_function.env: is blank",
            ),
            (
                "secret_env: A\n    cloud_function: {env: a}",
                "4: apps[0].cloud_function: the key `name` is missing",
            ),
            (
                "token_url: tokens.internal/key",
                "3: apps[0].token_url: not a URL: expected one that begins with http or https",
            ),
            (
                "token_url: http://a\n    token_url_headers_file: gone",
                "4: apps[0].token_url_headers_file: cannot read gone: No such file or directory (os error 2)",
            ),
            (
                "token_command: []",
                "3: apps[0].token_command: is empty: expected [PROGRAM, ARGUMENT, ...]",
            ),
            (
                "token_command: [./wxapp-portrait.yml]",
                "3: apps[0].token_command: cannot run ./wxapp-portrait.yml: it is not executable",
            ),
            (
                "token_url: http://a\n    token_parameter: a&b",
                "4: apps[0].token_parameter: is not a query parameter: expected one such as cloudbase_access_token",
            ),
        ]);
        let directory = Directory::new(&[
            (
                MAIN,
                &app("portrait_url: http://a\n    portrait_url_headers_file: h"),
            ),
            ("h", "Authorization: Bearer x\nsecret\n"),
        ]);
        assert_eq!(
            directory.problems(),
            "wxapp-portrait.yml:4: apps[0].portrait_url_headers_file: h:2: no header: expected `Name: value`"
        );
    }

    #[test]
    fn cloud_hosting_belongs_to_one_app() {
        let text =
            "apps:\n- {appid: a, access: cloud_hosting}\n- {appid: b, access: cloud_hosting}";
        assert_problems(&[(
            text,
            "3: apps[1].access: cloud hosting speaks for the one app that it belongs to, and wxapp-portrait.yml:2 has it already",
        )]);
    }

    #[test]
    fn an_access_that_may_affect_others_causes_a_warning() {
        let warnings = Directory::new(&[(MAIN, &app("secret_env: A\n    token_endpoint: token"))]);
        let warnings = warnings.warnings();
        assert!(
            warnings.contains("wxapp-portrait.yml:4: apps[0].token_endpoint: every token that is fetched takes away, five minutes later, the token that any other program"),
            "{warnings}"
        );
        let text =
            "apps:\n- {appid: a, token_url: http://a/?b}\n- {appid: b, token_url: http://a/?b}";
        let warnings = Directory::new(&[(MAIN, text)]).warnings();
        assert!(
            warnings.contains("wxapp-portrait.yml:3: apps[1].token_url: is the same as that of the app at wxapp-portrait.yml:2: what comes from it belongs to one app only"),
            "{warnings}"
        );
    }

    #[test]
    fn what_makes_one_app_fail_is_reported_without_affecting_others() {
        let text = "apps:
- {appid: wx0123456789abcdef, secret_file: gone}
- {appid: wx1123456789abcdef, token_file: later}
- {appid: wx2123456789abcdef, token_file: .}
- {appid: wx3123456789abcdef, token_command: [gone]}
- {appid: wx4123456789abcdef, token_command: [sh]}
- {appid: wx5123456789abcdef, token_url: 'http://a', token_url_headers_file: gone}
";
        let directory = Directory::new(&[(MAIN, text)]);
        let config = load(&directory.0.path().join(MAIN), |name| {
            (name == "PATH").then(|| "/usr/bin:/bin".to_owned())
        });
        let config = config.unwrap();
        assert_eq!(config.apps.len(), 6);
        assert_eq!(
            directory.without_directory(&config.app_problems.join("\n")),
            "\
wxapp-portrait.yml:2: apps[0].secret_file: cannot read gone: No such file or directory (os error 2)
wxapp-portrait.yml:3: apps[1].token_file: cannot read later: No such file or directory (os error 2); start the program that writes it, or correct the path
wxapp-portrait.yml:4: apps[2].token_file: cannot read .: not a regular file; start the program that writes it, or correct the path
wxapp-portrait.yml:5: apps[3].token_command: cannot run gone: no such program in PATH
wxapp-portrait.yml:7: apps[5].token_url_headers_file: cannot read gone: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn secrets_that_every_user_can_read_cause_one_warning() {
        let text = "apps:
- {appid: wx0123456789abcdef, secret_file: one}
- {appid: wx1123456789abcdef, secret_file: two}
- {appid: wx2123456789abcdef, secret_file: private}
";
        let directory = Directory::new(&[(MAIN, text)]);
        let open = |name: &str, mode| {
            let path = directory.0.path().join(name);
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (name, mode) in [("one", 0o644), ("two", 0o444), ("private", 0o640)] {
            directory.write(name, SECRET);
            open(name, mode);
        }
        // Nobody else can reach them.
        open("", 0o700);
        assert_eq!(directory.load().unwrap().warnings, [""; 0]);
        open("", 0o755);
        assert_eq!(
            directory.warnings(),
            "wxapp-portrait.yml: every user of this host can read 2 files with secrets, such as one: `chmod o-r` takes that away"
        );
    }

    #[test]
    fn all_problems_of_all_files_are_reported_at_once() {
        let text = "
swing: {min_users: few}
poll: {interval: never, concurrency: 0}
apps_files: [gone.yml, 'a[', b.yml, c.yml]
apps:
  - {appid: wx0123456789abcdef, access: cloud_host, windows: [2d], name: ''}
  - {appid: 'w x', dimensions: []}
";
        let b = "- appid: wx0123456789abcdef\n  secret_env: UNSET\n";
        let directory = Directory::new(&[(MAIN, text), ("b.yml", b), ("c.yml", "apps: []")]);
        assert_eq!(
            directory.problems(),
            "\
wxapp-portrait.yml:2: swing.min_users: `few` is not a whole number from 1 to 1000000000
wxapp-portrait.yml:3: poll.interval: `never` is not a duration: expected a number and a unit, such as 10s, 30m or 400d
wxapp-portrait.yml:3: poll.concurrency: `0` is not a whole number from 1 to 256
wxapp-portrait.yml:4: apps_files: no such file: gone.yml
wxapp-portrait.yml:4: apps_files: `a[` is not a pattern: invalid range pattern
wxapp-portrait.yml:6: apps[0].name: is blank: leave the key out to show the appid
wxapp-portrait.yml:6: apps[0].access: no such access: expected cloud_hosting
wxapp-portrait.yml:6: apps[0].windows: unknown window `2d`: expected one of 1d, 7d, 30d
wxapp-portrait.yml:7: apps[1].appid: \"w x\" is not an appid: expected `wx` and 16 hex digits, such as wx0123456789abcdef
wxapp-portrait.yml:7: apps[1]: needs a way to its portraits: add one of secret_file, secret_env, token_file, token_url, token_command, access: cloud_hosting, portrait_url
wxapp-portrait.yml:7: apps[1].dimensions: the list is empty: leave the key out for the default
b.yml:1: [0].appid: wx0123456789abcdef is configured twice: first at wxapp-portrait.yml:6
b.yml:2: [0].secret_env: the environment has no variable UNSET
c.yml:1: expected a list: one line with `- ` for each, or [a, b]"
        );
    }

    #[test]
    fn files_of_apps_are_read_in_order_with_secrets_relative_to_their_directory() {
        let text = "apps_files: ['apps.d/*.yml', more/apps.yml]\nwindows: [7d]\napps: [{appid: a, secret_env: A}]";
        let directory = Directory::new(&[
            (MAIN, text),
            ("apps.d/2.yml", "- {appid: d, secret_env: A}"),
            (
                "apps.d/1.yml",
                "- {appid: b, secret_file: b}\n- {appid: c, secret_file: ../c}",
            ),
            ("apps.d/3.yml", ""),
            ("apps.d/b", "bee"),
            ("c", "sea"),
            ("more/apps.yml", "[]"),
        ]);
        let apps = directory.load().unwrap().apps;
        let appids: Vec<&str> = apps.iter().map(|app| app.appid.as_str()).collect();
        assert_eq!(appids, ["a", "b", "c", "d"]);
        assert_eq!(secret_of(&apps[1]), "bee");
        assert_eq!(secret_of(&apps[2]), "sea");
        assert_eq!(apps[3].windows, [Window::SevenDays]);
    }

    #[test]
    fn thousands_of_apps_are_read() {
        let mut text = "apps:\n".to_owned();
        for number in 0..8_000 {
            let _ = write!(
                text,
                "
- appid: wx{number:016x}
  name: 商城 {number}
  secret_env: A
  windows: [1d, 7d, 30d]
  dimensions: [province, city, gender, platform, device, age]
  top_names: {{province: 1, city: 2, gender: 3, platform: 4, device: 5, age: 6}}
"
            );
        }
        // More nodes than the YAML reader allows by default.
        assert_eq!(load_text(&text).unwrap().apps.len(), 8_000);
    }

    #[test]
    fn a_configuration_that_is_not_a_file_is_refused_at_once() {
        let directory = Directory::new(&[]);
        let mut mkfifo = Command::new("mkfifo");
        let made = mkfifo.arg(directory.0.path().join(MAIN)).status();
        assert!(made.unwrap().success());
        assert_eq!(
            directory.problems(),
            format!("{MAIN}: cannot read it: not a regular file")
        );
        let directory =
            Directory::new(&[(MAIN, "apps_files: [apps.d/*.yml]"), ("apps.d/a.yml/x", "")]);
        assert_eq!(
            directory.problems(),
            "apps.d/a.yml: cannot read it: not a regular file"
        );
    }
}
