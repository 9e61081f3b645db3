//! The configuration: YAML files in, checked settings out.
//!
//! The raw shape of the files stays private, so that nothing unchecked leaves this room. Every
//! problem names the file, the line, the key, and what would be right. All of them are told at
//! once, except that a file of the wrong shape is not read beyond its first problem. Opens no
//! archive and asks nobody; the environment is a function that it is given.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_path_to_error::{Segment, Track};
use serde_saphyr::{Error as Yaml, Spanned};
use url::{Host, Url};

use crate::portrait::{AppId, Dimension, Window};

/// Checked settings, with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where and how WeChat is asked.
    pub wechat: WeChat,
    /// When it is asked.
    pub poll: Poll,
    /// For how long archived days are kept.
    pub retention: Duration,
    /// How far the newest portrait may lie behind yesterday before its users series go.
    pub stale_after: Duration,
    /// Every app, in the order of the files; never empty, appids are unique.
    pub apps: Vec<App>,
    /// Sentences about what is allowed but looks like a mistake.
    pub warnings: Vec<String>,
}

/// Where and how WeChat is asked.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Scheme and host, perhaps a path; ends with a slash.
    pub base_url: Url,
    /// For one request, from the connection to the last byte.
    pub timeout: Duration,
}

impl Default for WeChat {
    fn default() -> Self {
        let base_url = Url::parse("https://api.weixin.qq.com/")
            .unwrap_or_else(|_| unreachable!("a constant URL"));
        Self {
            base_url,
            timeout: Duration::from_secs(10),
        }
    }
}

/// When WeChat is asked.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// Between two polls of an app of which a day is due.
    pub interval: Duration,
    /// How many requests may be under way at once.
    pub concurrency: usize,
}

impl Default for Poll {
    fn default() -> Self {
        Self {
            interval: Duration::from_mins(30),
            concurrency: 8,
        }
    }
}

/// The default of [`Config::retention`].
pub const RETENTION: Duration = Duration::from_hours(400 * 24);

/// The default of [`Config::stale_after`].
pub const STALE_AFTER: Duration = Duration::from_hours(3 * 24);

/// One mini program.
#[derive(Debug, Clone)]
pub struct App {
    /// Its identifier at WeChat.
    pub appid: AppId,
    /// What people call it; the appid unless configured.
    pub name: String,
    /// Its AppSecret.
    pub secret: SecretString,
    /// Which windows are asked for; never empty.
    pub windows: Vec<Window>,
    /// Which dimensions are on the page; never empty.
    pub dimensions: Vec<Dimension>,
    /// How many names a dimension shows before the rest is added up; no entry, no limit.
    pub top_names: BTreeMap<Dimension, usize>,
}

/// Why the configuration can't be used: every problem that was found, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Error(Vec<String>);

/// Reads and checks the file at `path` and all that it names.
///
/// Relative paths are seen from the folder of the file that holds them; `environment` looks up
/// the variable named by a `secret_env`.
///
/// # Errors
///
/// Tells every problem with its file and line.
pub fn load(path: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<Config, Error> {
    let mut check = Check {
        environment: &environment,
        file: path.to_owned(),
        first_places: HashMap::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let Some(file) = check.read::<RawFile>() else {
        return Err(Error(check.problems));
    };
    let config = check.config(file);
    if check.problems.is_empty() {
        Ok(Config {
            warnings: check.warnings,
            ..config
        })
    } else {
        Err(Error(check.problems))
    }
}

type Text = Spanned<String>;

type Texts = Spanned<Vec<Text>>;

/// A key that contract and documentation name, but whose work this version does not do.
type Later = Option<Spanned<IgnoredAny>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    wechat: Option<RawWeChat>,
    poll: Option<RawPoll>,
    windows: Option<Texts>,
    dimensions: Option<Texts>,
    top_names: Option<BTreeMap<String, Text>>,
    past: Later,
    swing: Later,
    archive: Option<RawArchive>,
    stale_after: Option<Text>,
    apps_files: Option<Vec<Text>>,
    apps: Option<Vec<RawApp>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWeChat {
    base_url: Option<Text>,
    timeout: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawPoll {
    interval: Option<Text>,
    concurrency: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawArchive {
    retention: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    appid: Text,
    name: Option<Text>,
    secret_file: Option<Text>,
    secret_env: Option<Text>,
    windows: Option<Texts>,
    dimensions: Option<Texts>,
    top_names: Option<BTreeMap<String, Text>>,
    past: Later,
    swing: Later,
    token_file: Later,
    token_parameter: Later,
    token_url: Later,
    token_url_headers_file: Later,
    token_command: Later,
    access: Later,
    cloud_function: Later,
    portrait_url: Later,
    token_endpoint: Later,
}

/// What an app takes over from the top of the file unless it says otherwise.
struct Defaults {
    windows: Vec<Window>,
    dimensions: Vec<Dimension>,
    top_names: BTreeMap<Dimension, usize>,
}

/// Collects problems and warnings while raw values become settings.
///
/// After a problem the check goes on with a default, to find the others, too.
struct Check<'a> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    /// The one that is being checked.
    file: PathBuf,
    /// File and line of every appid.
    first_places: HashMap<AppId, String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn read<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let bytes = match std::fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.problems
                    .push(format!("{}: cannot read it: {error}", self.file.display()));
                return None;
            }
        };
        let text = match std::str::from_utf8(&bytes) {
            Ok(text) => text,
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                let line = before.split(|byte| *byte == b'\n').count();
                self.problems.push(format!(
                    "{}:{line}: is no UTF-8 text: save the file as UTF-8",
                    self.file.display()
                ));
                return None;
            }
        };
        // The default limits on the size of a document are below a list of thousands of apps.
        let options = serde_saphyr::options! {
            budget: serde_saphyr::budget! { max_events: usize::MAX, max_nodes: usize::MAX },
        };
        let mut track = Track::new();
        let value = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
            T::deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
        });
        match value {
            Ok(value) => Some(value),
            Err(error) => {
                let problem = yaml_problem(&self.file, &track.path(), &error);
                self.problems.push(problem);
                None
            }
        }
    }

    fn problem(&mut self, line: u64, key: impl fmt::Display, problem: impl fmt::Display) {
        self.problems
            .push(format!("{}:{line}: {key}: {problem}", self.file.display()));
    }

    fn warn(&mut self, line: u64, key: impl fmt::Display, warning: impl fmt::Display) {
        self.warnings
            .push(format!("{}:{line}: {key}: {warning}", self.file.display()));
    }

    fn config(&mut self, file: RawFile) -> Config {
        self.later("", &[("past", file.past), ("swing", file.swing)]);
        let wechat = file.wechat.unwrap_or_default();
        let poll = file.poll.unwrap_or_default();
        let archive = file.archive.unwrap_or_default();
        let apps_files = file.apps_files.unwrap_or_default();
        let defaults = Defaults {
            windows: self
                .names("windows", file.windows)
                .unwrap_or_else(|| vec![Window::OneDay]),
            dimensions: self
                .names("dimensions", file.dimensions)
                .unwrap_or_else(|| Dimension::ALL.to_vec()),
            top_names: self
                .top_names("top_names", file.top_names)
                .unwrap_or_default(),
        };
        Config {
            wechat: WeChat {
                base_url: self
                    .base_url(wechat.base_url)
                    .unwrap_or(WeChat::default().base_url),
                timeout: self
                    .duration("wechat.timeout", wechat.timeout, "100ms", "5m")
                    .unwrap_or(WeChat::default().timeout),
            },
            poll: Poll {
                interval: self
                    .interval(poll.interval)
                    .unwrap_or(Poll::default().interval),
                concurrency: self
                    .number("poll.concurrency", poll.concurrency, 256)
                    .unwrap_or(Poll::default().concurrency),
            },
            retention: self
                .duration("archive.retention", archive.retention, "2d", "100years")
                .unwrap_or(RETENTION),
            stale_after: self
                .duration("stale_after", file.stale_after, "1d", "400d")
                .unwrap_or(STALE_AFTER),
            apps: self.apps(file.apps.unwrap_or_default(), &apps_files, &defaults),
            warnings: Vec::new(),
        }
    }

    /// Refuses keys that would otherwise be ignored without a word; answers whether there are any.
    fn later(&mut self, prefix: &str, keys: &[(&str, Later)]) -> bool {
        for (key, value) in keys {
            if let Some(value) = value {
                self.problem(
                    value.referenced.line(),
                    format!("{prefix}{key}"),
                    "not supported yet: remove it",
                );
            }
        }
        keys.iter().any(|(_, value)| value.is_some())
    }

    fn base_url(&mut self, text: Option<Text>) -> Option<Url> {
        let text = text?;
        let line = text.referenced.line();
        let key = "wechat.base_url";
        let example = "expected one like https://api.weixin.qq.com";
        // The text is not repeated: a password in it would end up in a log.
        let Ok(mut url) = Url::parse(&text.value) else {
            self.problem(line, key, format!("not a URL: {example}"));
            return None;
        };
        let surplus = if !matches!(url.scheme(), "http" | "https") {
            Some("the scheme is neither http nor https")
        } else if !url.username().is_empty() || url.password().is_some() {
            Some("has a user or a password, which WeChat does not ask for")
        } else if url.query().is_some() || url.fragment().is_some() {
            Some("has a query or a fragment, but every request brings its own")
        } else {
            None
        };
        if let Some(surplus) = surplus {
            self.problem(line, key, format!("{surplus}: {example}"));
            return None;
        }
        let is_local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if url.scheme() == "http" && !is_local {
            self.warn(
                line,
                key,
                "AppSecrets and tokens cross the network unencrypted; use https",
            );
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Some(url)
    }

    fn interval(&mut self, text: Option<Text>) -> Option<Duration> {
        let line = text.as_ref().map_or(0, |text| text.referenced.line());
        let interval = self.duration("poll.interval", text, "1s", "12h")?;
        if interval < Duration::from_mins(1) {
            let warning = "less than a minute uses up WeChat's daily quota for figures that change once a day";
            self.warn(line, "poll.interval", warning);
        }
        Some(interval)
    }

    /// Reads a duration; the bounds are written as in the files, for the message.
    fn duration(
        &mut self,
        key: &str,
        text: Option<Text>,
        least: &str,
        most: &str,
    ) -> Option<Duration> {
        let text = text?;
        let bound = |text| humantime::parse_duration(text).unwrap_or_default();
        match humantime::parse_duration(&text.value) {
            Ok(duration) if (bound(least)..=bound(most)).contains(&duration) => {
                return Some(duration);
            }
            Ok(_) => self.problem(
                text.referenced.line(),
                key,
                format!(
                    "`{}` is out of range: expected {least} to {most}",
                    text.value
                ),
            ),
            Err(_) => self.problem(
                text.referenced.line(),
                key,
                format!(
                    "`{}` is no duration: expected a number and a unit, such as 10s, 30m or 400d",
                    text.value
                ),
            ),
        }
        None
    }

    fn number(&mut self, key: &str, text: Option<Text>, most: usize) -> Option<usize> {
        let text = text?;
        if let Some(number) = text
            .value
            .parse()
            .ok()
            .filter(|number| (1..=most).contains(number))
        {
            return Some(number);
        }
        let problem = format!("`{}` is not a whole number from 1 to {most}", text.value);
        self.problem(text.referenced.line(), key, problem);
        None
    }

    /// Reads a list of windows or dimensions: at least one, none twice.
    fn names<T>(&mut self, key: &str, texts: Option<Texts>) -> Option<Vec<T>>
    where
        T: FromStr<Err = String> + PartialEq + Copy,
    {
        let texts = texts?;
        let mut names = Vec::new();
        for text in &texts.value {
            match text.value.parse() {
                Ok(name) if names.contains(&name) => {
                    self.problem(
                        text.referenced.line(),
                        key,
                        format!("`{}` stands there twice: remove one", text.value),
                    );
                }
                Ok(name) => names.push(name),
                Err(problem) => self.problem(text.referenced.line(), key, problem),
            }
        }
        if texts.value.is_empty() {
            let problem = "the list is empty: leave the key out for the default";
            self.problem(texts.referenced.line(), key, problem);
        }
        Some(names)
    }

    fn top_names(
        &mut self,
        key: &str,
        limits: Option<BTreeMap<String, Text>>,
    ) -> Option<BTreeMap<Dimension, usize>> {
        let mut top_names = BTreeMap::new();
        for (name, limit) in limits? {
            let line = limit.referenced.line();
            match name.parse::<Dimension>() {
                Ok(dimension) => {
                    let limit = self.number(&format!("{key}.{name}"), Some(limit), 1_000_000);
                    top_names.extend(limit.map(|limit| (dimension, limit)));
                }
                Err(problem) => self.problem(line, key, problem),
            }
        }
        Some(top_names)
    }

    fn apps(&mut self, apps: Vec<RawApp>, patterns: &[Text], defaults: &Defaults) -> Vec<App> {
        let files: Vec<PathBuf> = patterns
            .iter()
            .flat_map(|pattern| self.matching(pattern))
            .collect();
        let mut checked = self.app_list("apps", apps, defaults);
        let main_file = self.file.clone();
        for file in files {
            self.file = file;
            // A file without a list in it, perhaps with comments only, is one without apps.
            if let Some(apps) = self.read::<Option<Vec<RawApp>>>() {
                checked.extend(self.app_list("", apps.unwrap_or_default(), defaults));
            }
        }
        self.file = main_file;
        if checked.is_empty() && self.problems.is_empty() {
            let problem = "apps: none is configured: add one with its `appid` and `secret_file`";
            self.problems
                .push(format!("{}: {problem}", self.file.display()));
        }
        checked
    }

    fn app_list(&mut self, prefix: &str, apps: Vec<RawApp>, defaults: &Defaults) -> Vec<App> {
        let mut checked = Vec::with_capacity(apps.len());
        for (index, raw) in apps.into_iter().enumerate() {
            checked.extend(self.app(&format!("{prefix}[{index}]"), raw, defaults));
        }
        checked
    }

    /// Returns the files that a pattern of `apps_files` stands for, sorted.
    fn matching(&mut self, pattern: &Text) -> Vec<PathBuf> {
        let line = pattern.referenced.line();
        let whole = beside(&self.file, &pattern.value);
        let folder = self.file.parent().unwrap_or(Path::new(""));
        let folder = glob::Pattern::escape(&folder.to_string_lossy());
        let files = match glob::glob(&Path::new(&folder).join(&pattern.value).to_string_lossy()) {
            Ok(files) => files.filter_map(Result::ok).collect::<Vec<_>>(),
            Err(error) => {
                self.problem(
                    line,
                    "apps_files",
                    format!("`{}` is no pattern: {}", pattern.value, error.msg),
                );
                return Vec::new();
            }
        };
        if files.is_empty() {
            if pattern.value.contains(['*', '?', '[']) {
                self.warn(
                    line,
                    "apps_files",
                    format!("no file matches {}", whole.display()),
                );
            } else {
                self.problem(
                    line,
                    "apps_files",
                    format!("there is no file {}", whole.display()),
                );
            }
        }
        files
    }

    fn app(&mut self, key: &str, raw: RawApp, defaults: &Defaults) -> Option<App> {
        let of = |name: &str| format!("{key}.{name}");
        let has_later = self.later(
            &of(""),
            &[
                ("past", raw.past),
                ("swing", raw.swing),
                ("token_file", raw.token_file),
                ("token_parameter", raw.token_parameter),
                ("token_url", raw.token_url),
                ("token_url_headers_file", raw.token_url_headers_file),
                ("token_command", raw.token_command),
                ("access", raw.access),
                ("cloud_function", raw.cloud_function),
                ("portrait_url", raw.portrait_url),
                ("token_endpoint", raw.token_endpoint),
            ],
        );
        let line = raw.appid.referenced.line();
        let appid = self.appid(&of("appid"), &raw.appid);
        if let Some(name) = raw
            .name
            .as_ref()
            .filter(|name| name.value.trim().is_empty())
        {
            let problem = "is blank: leave the key out to show the appid";
            self.problem(name.referenced.line(), of("name"), problem);
        }
        let secret = if has_later && raw.secret_file.is_none() && raw.secret_env.is_none() {
            // One of the refused keys may have been meant in place of the secret.
            None
        } else {
            self.secret(line, key, raw.secret_file, raw.secret_env)
        };
        let windows = self.names(&of("windows"), raw.windows);
        let dimensions = self.names(&of("dimensions"), raw.dimensions);
        let top_names = self.top_names(&of("top_names"), raw.top_names);
        let appid = appid?;
        Some(App {
            name: raw
                .name
                .map_or_else(|| appid.to_string(), |name| name.value),
            appid,
            secret: secret?,
            windows: windows.unwrap_or_else(|| defaults.windows.clone()),
            dimensions: dimensions.unwrap_or_else(|| defaults.dimensions.clone()),
            top_names: top_names.unwrap_or_else(|| defaults.top_names.clone()),
        })
    }

    fn appid(&mut self, key: &str, text: &Text) -> Option<AppId> {
        let line = text.referenced.line();
        if is_secret(&text.value) {
            let problem = "this is no appid, but looks like an AppSecret: \
                           write it into a file of its own and name that as `secret_file`";
            self.problem(line, key, problem);
            return None;
        }
        let appid = match text.value.parse::<AppId>() {
            Ok(appid) => appid,
            Err(error) => {
                self.problem(line, key, format!("{:?} is {error}", text.value));
                return None;
            }
        };
        if let Some(first) = self.first_places.get(&appid) {
            let problem = format!("{appid} is configured twice: first at {first}");
            self.problem(line, key, problem);
            return None;
        }
        let place = format!("{}:{line}", self.file.display());
        self.first_places.insert(appid.clone(), place);
        if !appid.is_wechat() {
            let warning = format!(
                "{appid} does not look like an appid of WeChat (`wx` and 16 hex digits in lower case)"
            );
            self.warn(line, key, warning);
        }
        Some(appid)
    }

    fn secret(
        &mut self,
        line: u64,
        key: &str,
        file: Option<Text>,
        variable: Option<Text>,
    ) -> Option<SecretString> {
        let (source, name) = match (file, variable) {
            (Some(file), None) => (file, "secret_file"),
            (None, Some(variable)) => (variable, "secret_env"),
            (None, None) => {
                let problem = "needs its AppSecret: add `secret_file` or `secret_env`";
                self.problem(line, key, problem);
                return None;
            }
            (Some(_), Some(variable)) => {
                let problem = "has both `secret_file` and `secret_env`: remove one";
                self.problem(variable.referenced.line(), key, problem);
                return None;
            }
        };
        let found = if is_secret(&source.value) {
            let right = match name {
                "secret_file" => "write it into a file and name that file here",
                _ => "put it into the environment and name the variable here",
            };
            Err(format!("this looks like the AppSecret itself: {right}"))
        } else if name == "secret_file" {
            let path = beside(&self.file, &source.value);
            std::fs::read_to_string(&path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))
        } else {
            (self.environment)(&source.value)
                .ok_or_else(|| format!("the environment has no variable {}", source.value))
        };
        match found.and_then(|text| trim_secret(&text)) {
            Ok(secret) => Some(secret),
            Err(problem) => {
                self.problem(source.referenced.line(), format!("{key}.{name}"), problem);
                None
            }
        }
    }
}

/// Tells whether a text looks like an AppSecret, which no message may repeat.
fn is_secret(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Takes one line break from the end of a secret, and refuses what can't be one.
fn trim_secret(text: &str) -> Result<SecretString, String> {
    let secret = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    if secret.is_empty() {
        Err("the AppSecret is empty".to_owned())
    } else if secret.contains(|character: char| character.is_whitespace() || character.is_control())
    {
        Err("the AppSecret has blanks or line breaks in it: expected one word".to_owned())
    } else {
        Ok(SecretString::from(secret))
    }
}

/// Returns a path that a file names, as seen from the folder of that file.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

/// Keys that are read only to be refused, so that nobody is told to use them.
const LATER: &[&str] = &[
    "past",
    "swing",
    "token_file",
    "token_parameter",
    "token_url",
    "token_url_headers_file",
    "token_command",
    "access",
    "cloud_function",
    "portrait_url",
    "token_endpoint",
];

/// Says what the YAML reader found, in the form of all other problems.
///
/// No value of the file is repeated: nobody knows what secret stands there by mistake.
fn yaml_problem(path: &Path, key: &serde_path_to_error::Path, error: &Yaml) -> String {
    let mut cause = error.without_snippet();
    while let Yaml::AliasError { error, .. } = cause {
        cause = error;
    }
    let problem = match cause {
        Yaml::SerdeUnknownField { expected, .. } => {
            let expected = expected.iter().filter(|key| !LATER.contains(key));
            let expected: Vec<&str> = expected.copied().collect();
            format!("unknown key: expected one of {}", expected.join(", "))
        }
        Yaml::SerdeMissingField { field, .. } => format!("the key `{field}` is missing"),
        Yaml::DuplicateMappingKey { key: Some(key), .. } if is_short(key) => {
            format!("the key `{key}` stands there twice: remove one")
        }
        Yaml::DuplicateMappingKey { .. } => "a key stands there twice: remove one".to_owned(),
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
            format!("no valid YAML at column {column}: {text}")
        }
    };
    let mut place = path.display().to_string();
    if let Some(location) = error.location() {
        let _ = write!(place, ":{}", location.line());
    }
    let key = key_of(key);
    let separator = if key.is_empty() { "" } else { ": " };
    format!("{place}: {key}{separator}{problem}")
}

/// Writes the way to a key as all other problems do.
fn key_of(path: &serde_path_to_error::Path) -> String {
    let mut key = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                let _ = write!(key, "[{index}]");
            }
            // Not a key of the file: what `Spanned` puts around every value.
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

/// Tells whether a text that stands for a key is too short to be a secret.
fn is_short(text: &str) -> bool {
    text.len() < 30
}
