//! The configuration: YAML files in, checked settings out.
//!
//! The raw shape of the files stays private, so that nothing unchecked leaves this room. Every
//! problem names the file, the line, the key, and what would be right. All of them are told at
//! once, except that a file of the wrong shape is not read beyond its first problem. Opens no
//! archive and asks nobody; the environment is a function that it is given.

pub mod access;

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_path_to_error::{Segment, Track};
use serde_saphyr::{Error as Yaml, Spanned};
use url::{Host, Url};

use crate::past::PAST_DAYS;
use crate::portrait::{AppId, Dimension, Window};
use access::{AccessMethod, PrivateUrl};

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
#[derive(Debug, Clone, PartialEq)]
pub struct WeChat {
    /// Scheme and host, perhaps a path; each ends with a slash. The first that can be reached is
    /// asked; never empty.
    pub base_urls: Vec<Url>,
    /// For one request, from the connection to the last byte.
    pub timeout: Duration,
    /// Requests to WeChat go through it, whatever the environment says.
    pub proxy_url: Option<PrivateUrl>,
    /// Certificates in PEM that are trusted beside those of the system.
    pub ca: Option<Vec<u8>>,
}

impl Default for WeChat {
    fn default() -> Self {
        let base_url = Url::parse("https://api.weixin.qq.com/")
            .unwrap_or_else(|_| unreachable!("a constant URL"));
        Self {
            base_urls: vec![base_url],
            timeout: Duration::from_secs(10),
            proxy_url: None,
            ca: None,
        }
    }
}

/// When WeChat is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// Between two polls of an app of which a day is due.
    pub interval: Duration,
    /// How many requests may be under way at once to WeChat, and to each other host.
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
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its identifier at WeChat.
    pub appid: AppId,
    /// What people call it; the appid unless configured.
    pub name: String,
    /// How it gets at its portraits.
    pub access: AccessMethod,
    /// Which windows are asked for; never empty.
    pub windows: Vec<Window>,
    /// Which dimensions are on the page; never empty.
    pub dimensions: Vec<Dimension>,
    /// How many names a dimension shows before the rest is added up; no entry, no limit.
    pub top_names: BTreeMap<Dimension, usize>,
    /// Which past days are on the page beside the newest.
    pub past: Past,
    /// From when on alerts call a change a swing.
    pub swing: Swing,
}

/// Which past days are on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// In these dimensions, as far as the app shows them.
    pub dimensions: Vec<Dimension>,
    /// So many days before the reference date, from 1 to [`PAST_DAYS`]; may be empty.
    pub days_ago: Vec<u32>,
}

impl Default for Past {
    fn default() -> Self {
        Self {
            dimensions: vec![Dimension::Platform, Dimension::Gender, Dimension::Age],
            days_ago: vec![1, 7, 14, 21, 28],
        }
    }
}

/// From when on alerts call a change against the usual figure a swing.
///
/// The exporter only publishes them; the defaults are those with which the bundled rules were
/// measured to be quiet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swing {
    /// The share by which users must fall, from 0.01 to 0.99; or rise, so that such a fall would undo it.
    pub threshold_ratio: f64,
    /// How many users there must be, usually or on the day.
    pub min_users: u64,
}

impl Default for Swing {
    fn default() -> Self {
        Self {
            threshold_ratio: 0.35,
            min_users: 50,
        }
    }
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
        cloud_hosting: None,
        first_sources: HashMap::new(),
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

// A test reads the raw structs for the tables of docs/configuration.md: the comments of their fields
// are for operators, and the keys of an app that stand at the top as well are told there.

/// The main file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    wechat: Option<RawWeChat>,
    poll: Option<RawPoll>,
    /// How many days a portrait covers.
    windows: Option<Texts>,
    /// What users are divided by on the page; the archive keeps all of it.
    dimensions: Option<Texts>,
    /// How many names a dimension shows, such as `{city: 100}`; the rest is added up under the name
    /// `(other)`. No limit unless set.
    top_names: Option<BTreeMap<String, Text>>,
    past: Option<RawPast>,
    swing: Option<RawSwing>,
    archive: Option<RawArchive>,
    /// How far the newest portrait may lie behind yesterday before `wxapp_portrait_users` of it
    /// disappears; its timestamps stay.
    stale_after: Option<Text>,
    /// Files with further apps, each a list as under `apps`; `*`, `?` and `[a-z]` stand for parts
    /// of a name, `**` for any folders.
    apps_files: Option<Vec<Text>>,
    apps: Option<Vec<RawApp>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWeChat {
    /// Where WeChat is; of a list, the next where one cannot be reached.
    base_url: Option<Spanned<OneOrMore>>,
    /// For one request, from the connection to the last byte.
    timeout: Option<Text>,
    /// A proxy for requests to WeChat, instead of those of the environment.
    proxy_url: Option<Text>,
    /// A file of certificates (PEM) that are trusted beside those of the system.
    ca_file: Option<Text>,
}

/// A text, or a list of them.
enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = OneOrMore;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a single value or a list")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<OneOrMore, A::Error> {
                let list = serde::de::value::SeqAccessDeserializer::new(list);
                Vec::deserialize(list).map(OneOrMore::More)
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawPoll {
    /// Between two polls of an app while a day is missing or not final; less than a minute is warned of.
    interval: Option<Text>,
    /// How many requests may be under way at once to WeChat, and to each other host.
    concurrency: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawArchive {
    /// Days further back are deleted: at the start, after midnight in Beijing, and when this
    /// changes.
    retention: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawPast {
    /// In which dimensions `wxapp_portrait_past_users` has past days, as far as they are on the
    /// page.
    dimensions: Option<Texts>,
    /// So many days before the reference date; `[]` for none.
    days_ago: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawSwing {
    /// From when on alerts call a change a swing: the share by which users fall, or rise so that
    /// such a fall would undo it.
    threshold_ratio: Option<Text>,
    /// How many users there must be, usually or on the day, in the app or platform in question.
    min_users: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApp {
    /// What WeChat calls the mini program; it may stand once in all files.
    appid: Text,
    /// What you call it, one line; the label `app` of `wxapp_portrait_app_info`.
    name: Option<Text>,
    /// A file with the AppSecret and nothing else; it is read again when a token is due.
    secret_file: Option<Text>,
    /// A variable of the environment with the AppSecret.
    secret_env: Option<Text>,
    windows: Option<Texts>,
    dimensions: Option<Texts>,
    top_names: Option<BTreeMap<String, Text>>,
    past: Option<RawPast>,
    swing: Option<RawSwing>,
    /// A file with an access token, which somebody else keeps fresh.
    token_file: Option<Text>,
    /// The query parameter that carries the token.
    token_parameter: Option<Text>,
    /// An address that answers GET with an access token.
    token_url: Option<Text>,
    /// A file of headers for that address, a line `Name: value` for each.
    token_url_headers_file: Option<Text>,
    /// A program and its arguments; it writes an access token to its standard output.
    token_command: Option<Texts>,
    /// Somebody else adds the token: the sidecar of WeChat's cloud hosting.
    access: Option<Text>,
    cloud_function: Option<Spanned<RawCloudFunction>>,
    /// An address that answers portraits by POST.
    portrait_url: Option<Text>,
    /// A file of headers for that address, a line `Name: value` for each.
    portrait_url_headers_file: Option<Text>,
    /// Which endpoint of WeChat gives tokens for the AppSecret; `token` takes the tokens of others
    /// away.
    token_endpoint: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCloudFunction {
    /// The environment of a cloud function that asks for the portrait.
    env: Text,
    /// What that function is called.
    name: Text,
}

/// What an app takes over from the top of the file unless it says otherwise.
struct Defaults {
    windows: Vec<Window>,
    dimensions: Vec<Dimension>,
    top_names: BTreeMap<Dimension, usize>,
    past: Past,
    swing: Swing,
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
    /// File and line of the app that cloud hosting belongs to.
    cloud_hosting: Option<String>,
    /// File and line of the app that first has a source of tokens or portraits.
    first_sources: HashMap<String, String>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn read<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        let bytes = match std::fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let hint = match error.kind() {
                    ErrorKind::NotFound => "; write it, or name another with --config.file",
                    _ => "",
                };
                self.problems.push(format!(
                    "{}: cannot read it: {error}{hint}",
                    self.file.display()
                ));
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
            past: self.past("past", file.past, Past::default()),
            swing: self.swing("swing", file.swing, Swing::default()),
        };
        Config {
            wechat: WeChat {
                base_urls: self
                    .base_urls(wechat.base_url)
                    .unwrap_or(WeChat::default().base_urls),
                timeout: self
                    .duration("wechat.timeout", wechat.timeout, "100ms", "5m")
                    .unwrap_or(WeChat::default().timeout),
                proxy_url: wechat.proxy_url.and_then(|url| {
                    self.private_url(
                        "wechat.proxy_url",
                        &url,
                        &["http", "https", "socks5", "socks5h"],
                    )
                }),
                ca: wechat.ca_file.and_then(|file| self.ca(&file)),
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

    fn base_urls(&mut self, texts: Option<Spanned<OneOrMore>>) -> Option<Vec<Url>> {
        let Spanned {
            value, referenced, ..
        } = texts?;
        let urls: Vec<Url> = match value {
            OneOrMore::One(text) => self
                .base_url(referenced.line(), &text)
                .into_iter()
                .collect(),
            OneOrMore::More(texts) => texts
                .iter()
                .filter_map(|text| self.base_url(text.referenced.line(), &text.value))
                .collect(),
        };
        if urls.is_empty() && self.problems.is_empty() {
            let problem = "the list is empty: leave the key out for the default";
            self.problem(referenced.line(), "wechat.base_url", problem);
        }
        (!urls.is_empty()).then_some(urls)
    }

    /// Reads certificates, and tells what is wrong with them before a connection fails.
    fn ca(&mut self, file: &Text) -> Option<Vec<u8>> {
        let path = beside(&self.file, &file.value);
        let found = access::read_text(&path).and_then(|text| {
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
            let mut store = RootCertStore::empty();
            for certificate in certificates {
                let added = certificate.map(|certificate| store.add(certificate));
                if !matches!(added, Ok(Ok(()))) {
                    return Err(format!(
                        "{}: certificate {} cannot be read",
                        path.display(),
                        store.len() + 1
                    ));
                }
            }
            if store.is_empty() {
                return Err(format!(
                    "{} holds no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
                    path.display()
                ));
            }
            Ok(text.into_bytes())
        });
        found
            .map_err(|problem| self.problem(file.referenced.line(), "wechat.ca_file", problem))
            .ok()
    }

    fn base_url(&mut self, line: u64, text: &str) -> Option<Url> {
        let key = "wechat.base_url";
        let example = "expected one like https://api.weixin.qq.com";
        // The text is not repeated: a password in it would end up in a log.
        let Ok(mut url) = Url::parse(text) else {
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
        if url.scheme() == "http" && !is_loopback(&url) {
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
            let warning = "less than a minute uses up the daily quota of WeChat for figures that change once a day";
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

    fn number<N>(&mut self, key: &str, text: Option<Text>, most: N) -> Option<N>
    where
        N: FromStr + Copy + PartialOrd + From<u8> + fmt::Display,
    {
        let text = text?;
        let number = text.value.parse().ok();
        if let Some(number) = number.filter(|number| (N::from(1)..=most).contains(number)) {
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

    fn past(&mut self, key: &str, raw: Option<RawPast>, defaults: Past) -> Past {
        let raw = raw.unwrap_or_default();
        let key_of_days = format!("{key}.days_ago");
        let days_ago = raw.days_ago.map(|texts| {
            let mut days_ago = Vec::new();
            for text in texts {
                let line = text.referenced.line();
                match self.number(&key_of_days, Some(text), PAST_DAYS) {
                    Some(days) if days_ago.contains(&days) => {
                        let problem = format!("`{days}` stands there twice: remove one");
                        self.problem(line, &key_of_days, problem);
                    }
                    days => days_ago.extend(days),
                }
            }
            days_ago
        });
        Past {
            dimensions: self
                .names(&format!("{key}.dimensions"), raw.dimensions)
                .unwrap_or(defaults.dimensions),
            days_ago: days_ago.unwrap_or(defaults.days_ago),
        }
    }

    fn swing(&mut self, key: &str, raw: Option<RawSwing>, defaults: Swing) -> Swing {
        let raw = raw.unwrap_or_default();
        let threshold_ratio = raw.threshold_ratio.and_then(|text| {
            let ratio = text.value.parse().ok();
            let ratio = ratio.filter(|ratio| (0.01..=0.99).contains(ratio));
            if ratio.is_none() {
                let problem = format!(
                    "`{}` is not a share from 0.01 to 0.99, such as 0.35 for a fall by 35%",
                    text.value
                );
                let line = text.referenced.line();
                self.problem(line, format!("{key}.threshold_ratio"), problem);
            }
            ratio
        });
        let key_of_users = format!("{key}.min_users");
        Swing {
            threshold_ratio: threshold_ratio.unwrap_or(defaults.threshold_ratio),
            min_users: self
                .number(&key_of_users, raw.min_users, 1_000_000_000)
                .unwrap_or(defaults.min_users),
        }
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
        let line = raw.appid.referenced.line();
        let appid = self.appid(&of("appid"), &raw.appid);
        if let Some(name) = &raw.name {
            let line = name.referenced.line();
            if name.value.trim().is_empty() {
                let problem = "is blank: leave the key out to show the appid";
                self.problem(line, of("name"), problem);
            } else if name.value.contains(char::is_control) {
                let problem = "has line breaks or control characters in it: expected one line";
                self.problem(line, of("name"), problem);
            }
        }
        let access = self.access(line, key, &raw);
        let windows = self.names(&of("windows"), raw.windows);
        let dimensions = self.names(&of("dimensions"), raw.dimensions);
        let top_names = self.top_names(&of("top_names"), raw.top_names);
        let past = self.past(&of("past"), raw.past, defaults.past.clone());
        let swing = self.swing(&of("swing"), raw.swing, defaults.swing);
        let appid = appid?;
        Some(App {
            name: raw
                .name
                .map_or_else(|| appid.to_string(), |name| name.value),
            appid,
            access: access?,
            windows: windows.unwrap_or_else(|| defaults.windows.clone()),
            dimensions: dimensions.unwrap_or_else(|| defaults.dimensions.clone()),
            top_names: top_names.unwrap_or_else(|| defaults.top_names.clone()),
            past,
            swing,
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
}

/// Tells whether an address is on this host.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Tells whether a text looks like an AppSecret or a token, which no message may repeat.
fn is_secret(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        || text.len() >= 64 && text.bytes().all(is_of_token)
}

/// Returns a path that a file names, as seen from the folder of that file.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

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

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret, SecretString};
    use tempfile::TempDir;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const MAIN: &str = "wxapp-portrait.yml";

    /// A folder of configuration files.
    struct Folder(TempDir);

    impl Folder {
        fn new(files: &[(&str, &str)]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                folder.write(name, text);
            }
            folder
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            let path = self.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Loads the main file; the variables `A` and `EMPTY` are set.
        fn load(&self) -> Result<Config, Error> {
            load(&self.0.path().join(MAIN), |name| match name {
                "A" => Some(SECRET.to_owned()),
                "EMPTY" => Some(String::new()),
                _ => None,
            })
        }

        /// Loads the main file and returns its problems, with the folder left out.
        fn problems(&self) -> String {
            let problems = self.load().map(drop).unwrap_err().to_string();
            self.without_folder(&problems)
        }

        fn warnings(&self) -> String {
            self.without_folder(&self.load().unwrap().warnings.join("\n"))
        }

        fn without_folder(&self, text: &str) -> String {
            text.replace(&format!("{}/", self.0.path().display()), "")
        }
    }

    fn secret_of(app: &App) -> String {
        let AccessMethod::Token(access::TokenAccess {
            source: access::TokenSource::Secret(secret, _),
            ..
        }) = &app.access
        else {
            panic!("{:?}", app.access)
        };
        secret.value.expose_secret().to_owned()
    }

    fn base_urls(config: &Config) -> Vec<&str> {
        config.wechat.base_urls.iter().map(Url::as_str).collect()
    }

    fn load_text(text: &str) -> Result<Config, Error> {
        Folder::new(&[(MAIN, text)]).load()
    }

    /// Checks that each text has exactly this problem, told without the name of the file.
    #[track_caller]
    fn assert_problems(cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let problems = Folder::new(&[(MAIN, text)]).problems();
            assert_eq!(problems, format!("{MAIN}:{expected}"), "{text:?}");
        }
    }

    /// A file with one app, whose keys are given.
    fn app(keys: &str) -> String {
        format!("apps:\n  - appid: wx0123456789abcdef\n    {keys}\n")
    }

    /// Checks that an app with each of these keys has exactly this problem.
    #[track_caller]
    fn assert_app_problems(cases: &[(&str, &str)]) {
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
        assert_eq!(config.retention, Duration::from_hours(400 * 24));
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
        assert_eq!(config.retention.as_secs() / 86_400, 730);
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
        ];
        let empty = keys.map(|key| format!("{key}:\n")).concat();
        let config = load_text(&(empty + &app("secret_env: A\n    name:\n    windows:"))).unwrap();
        assert_eq!(config.poll.concurrency, 8);
        assert_eq!(config.apps[0].windows, [Window::OneDay]);
    }

    #[test]
    fn past_days_are_counted_from_1_to_28() {
        assert_problems(&[
            (
                "past: {days_ago: [7, 0, 29, 7]}",
                "1: past.days_ago: `0` is not a whole number from 1 to 28\n\
                 wxapp-portrait.yml:1: past.days_ago: `29` is not a whole number from 1 to 28\n\
                 wxapp-portrait.yml:1: past.days_ago: `7` stands there twice: remove one",
            ),
            (
                "past: {dimensions: [town]}",
                "1: past.dimensions: unknown dimension `town`: expected one of province, city, gender, platform, device, age",
            ),
        ]);
    }

    #[test]
    fn thresholds_of_swings_are_shares_and_people() {
        const EXPECTED: &str = "is not a share from 0.01 to 0.99, such as 0.35 for a fall by 35%";
        let ratio = |text: &str| format!("1: swing.threshold_ratio: `{text}` {EXPECTED}");
        for text in ["0", "1", "35", "35%", "-0.3", "nan", "inf"] {
            let yaml = format!("swing: {{threshold_ratio: {text}}}");
            assert_problems(&[(&yaml, &ratio(text))]);
        }
        assert_problems(&[(
            "swing: {min_users: 0}",
            "1: swing.min_users: `0` is not a whole number from 1 to 1000000000",
        )]);
        assert_app_problems(&[(
            "secret_env: A\n    swing: {ratio: 0.3}",
            "4: apps[0].swing.ratio: unknown key: expected one of threshold_ratio, min_users",
        )]);
    }

    #[test]
    fn an_app_takes_over_the_thresholds_that_it_does_not_set() {
        let text = "swing: {threshold_ratio: 0.5}\napps:\n\
             - {appid: wx0123456789abcdef, secret_env: A, swing: {min_users: 20}}\n\
             - {appid: wx1123456789abcdef, secret_env: A, swing: {threshold_ratio: 0.2}}\n";
        let swings = load_text(text)
            .unwrap()
            .apps
            .into_iter()
            .map(|app| app.swing);
        let expected = [(0.5, 20), (0.2, Swing::default().min_users)];
        let expected = expected.map(|(threshold_ratio, min_users)| Swing {
            threshold_ratio,
            min_users,
        });
        assert_eq!(swings.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_unknown_key_is_told_with_the_right_ones() {
        const FILE: &str = "wechat, poll, windows, dimensions, top_names, past, swing, archive, stale_after, apps_files, apps";
        const APP: &str = "appid, name, secret_file, secret_env, windows, dimensions, top_names, past, swing, token_file, \
             token_parameter, token_url, token_url_headers_file, token_command, access, cloud_function, \
             portrait_url, portrait_url_headers_file, token_endpoint";
        assert_problems(&[
            (
                "Apps: []",
                &format!("1: Apps: unknown key: expected one of {FILE}"),
            ),
            (
                "\n\ntimeout: 10s",
                &format!("3: timeout: unknown key: expected one of {FILE}"),
            ),
            (
                "poll:\n  intervall: 3",
                "2: poll.intervall: unknown key: expected one of interval, concurrency",
            ),
            (
                "wechat: {base: x}",
                "1: wechat.base: unknown key: expected one of base_url, timeout, proxy_url, ca_file",
            ),
            (
                "archive: {days: 3}",
                "1: archive.days: unknown key: expected one of retention",
            ),
            (
                "apps:\n- {appid: a, secret_env: A}\n- {appid: b, scret: x}",
                &format!("3: apps[1].scret: unknown key: expected one of {APP}"),
            ),
        ]);
        assert_app_problems(&[(
            "wondows: [1d]",
            &format!("3: apps[0].wondows: unknown key: expected one of {APP}"),
        )]);
    }

    #[test]
    fn a_value_of_the_wrong_shape_is_told_with_the_right_one() {
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
    fn text_that_is_no_yaml_is_told_with_its_place() {
        assert_problems(&[
            (
                "poll:\n\tinterval: 1h",
                "2: no valid YAML at column 2: tabs disallowed within this context (block indentation)",
            ),
            (
                "windows: [1d",
                "1: windows: no valid YAML at column 10: unclosed bracket '['",
            ),
            (
                "poll: {interval: 1h\napps: []",
                "2: poll: no valid YAML at column 5: while parsing a flow mapping, did not find expected ',' or '}'",
            ),
            (
                "poll: {}\n---\npoll: {}",
                "3: a second document begins: expected one, so remove the line `---`",
            ),
            (
                "poll: {}\nwindows: [1d]\npoll: {}",
                "3: the key `poll` stands there twice: remove one",
            ),
            (
                "top_names: {city: 1, city: 2}",
                "1: top_names: the key `city` stands there twice: remove one",
            ),
        ]);
        assert_app_problems(&[
            (
                "secret_env: A\n     name: x",
                "4: apps[0]: no valid YAML at column 10: mapping values are not allowed in this context",
            ),
            (
                "appid: wx1",
                "3: apps[0]: the key `appid` stands there twice: remove one",
            ),
            (
                "secret_env: *unknown",
                "3: apps[0]: no valid YAML at column 17: alias references unknown anchor",
            ),
        ]);
    }

    #[test]
    fn a_file_in_another_encoding_is_told_with_its_line() {
        let folder = Folder::new(&[]);
        // 商城 as Windows in China writes it.
        folder.write(MAIN, b"apps:\n  - appid: wx1\n    name: \xc9\xcc\xb3\xc7\n");
        assert_eq!(
            folder.problems(),
            format!("{MAIN}:3: is no UTF-8 text: save the file as UTF-8")
        );
    }

    #[test]
    fn a_byte_order_mark_carriage_returns_anchors_and_merges_are_read() {
        let text = "\u{feff}apps:\r\n- &a\r\n  appid: wx0123456789abcdef\r\n  secret_env: A\r\n- <<: *a\r\n  appid: wx1123456789abcdef\r\n";
        let config = load_text(text).unwrap();
        assert_eq!(config.warnings, [""; 0]);
        assert_eq!(secret_of(&config.apps[1]), SECRET);
    }

    #[test]
    fn a_file_that_is_not_there_is_told() {
        assert_eq!(
            Folder::new(&[]).problems(),
            format!(
                "{MAIN}: cannot read it: No such file or directory (os error 2); write it, or name another with --config.file"
            )
        );
    }

    #[test]
    fn a_configuration_without_apps_is_told() {
        for text in [
            "",
            "# nothing\n",
            "apps:",
            "apps: []",
            "apps_files: [apps.yml]",
        ] {
            let folder = Folder::new(&[(MAIN, text), ("apps.yml", "# none left\n")]);
            let expected = format!(
                "{MAIN}: apps: none is configured: add one with its `appid` and `secret_file`"
            );
            assert_eq!(folder.problems(), expected, "{text:?}");
        }
    }

    #[test]
    fn durations_and_numbers_out_of_reason_are_told_with_their_range() {
        let no_duration = "is no duration: expected a number and a unit, such as 10s, 30m or 400d";
        let no_number = "is not a whole number from 1 to 256";
        assert_problems(&[
            (
                "poll: {interval: 30}",
                &format!("1: poll.interval: `30` {no_duration}"),
            ),
            (
                "poll: {interval: -5m}",
                &format!("1: poll.interval: `-5m` {no_duration}"),
            ),
            (
                "poll: {interval: 99999999999999999999d}",
                &format!("1: poll.interval: `99999999999999999999d` {no_duration}"),
            ),
            (
                "poll: {interval: 0s}",
                "1: poll.interval: `0s` is out of range: expected 1s to 12h",
            ),
            (
                "poll: {interval: 13h}",
                "1: poll.interval: `13h` is out of range: expected 1s to 12h",
            ),
            (
                "wechat: {timeout: 1ms}",
                "1: wechat.timeout: `1ms` is out of range: expected 100ms to 5m",
            ),
            (
                "archive: {retention: 1d}",
                "1: archive.retention: `1d` is out of range: expected 2d to 100years",
            ),
            (
                "archive: {retention: forever}",
                &format!("1: archive.retention: `forever` {no_duration}"),
            ),
            (
                "stale_after: 1h",
                "1: stale_after: `1h` is out of range: expected 1d to 400d",
            ),
            (
                "poll: {concurrency: 0}",
                &format!("1: poll.concurrency: `0` {no_number}"),
            ),
            (
                "poll: {concurrency: 257}",
                &format!("1: poll.concurrency: `257` {no_number}"),
            ),
            (
                "poll: {concurrency: 8.5}",
                &format!("1: poll.concurrency: `8.5` {no_number}"),
            ),
            (
                "poll: {concurrency: -1}",
                &format!("1: poll.concurrency: `-1` {no_number}"),
            ),
            (
                "top_names: {city: 0}",
                "1: top_names.city: `0` is not a whole number from 1 to 1000000",
            ),
        ]);
    }

    #[test]
    fn windows_dimensions_and_limits_are_told_with_the_names_that_exist() {
        const DIMENSIONS: &str = "expected one of province, city, gender, platform, device, age";
        assert_problems(&[
            (
                "windows:\n  - 1d\n  - 2d",
                "3: windows: unknown window `2d`: expected one of 1d, 7d, 30d",
            ),
            (
                "windows: [1d, 1d]",
                "1: windows: `1d` stands there twice: remove one",
            ),
            (
                "windows: []",
                "1: windows: the list is empty: leave the key out for the default",
            ),
            (
                "dimensions: [town]",
                &format!("1: dimensions: unknown dimension `town`: {DIMENSIONS}"),
            ),
            (
                "top_names: {town: 5}",
                &format!("1: top_names: unknown dimension `town`: {DIMENSIONS}"),
            ),
        ]);
        assert_app_problems(&[
            (
                "secret_env: A\n    windows: []",
                "4: apps[0].windows: the list is empty: leave the key out for the default",
            ),
            (
                "secret_env: A\n    top_names: {city: many}",
                "4: apps[0].top_names.city: `many` is not a whole number from 1 to 1000000",
            ),
        ]);
    }

    #[test]
    fn a_base_url_is_scheme_host_and_path_and_is_not_repeated() {
        let example = "expected one like https://api.weixin.qq.com";
        let cases = [
            (
                "http://user:hunter2@example.com",
                "has a user or a password, which WeChat does not ask for",
            ),
            (
                "https://example.com/?key=hunter2",
                "has a query or a fragment, but every request brings its own",
            ),
            (
                "https://example.com/#hunter2",
                "has a query or a fragment, but every request brings its own",
            ),
            ("ftp://example.com", "the scheme is neither http nor https"),
            ("localhost:8080", "the scheme is neither http nor https"),
            ("api.weixin.qq.com", "not a URL"),
            ("https://", "not a URL"),
            ("https://hunter2@", "not a URL"),
        ];
        for (url, problem) in cases {
            let text = format!("wechat:\n  base_url: '{url}'");
            assert_problems(&[(&text, &format!("2: wechat.base_url: {problem}: {example}"))]);
        }
    }

    #[test]
    fn what_is_allowed_but_looks_like_a_mistake_is_a_warning() {
        let text = "
wechat: {base_url: 'http://api.weixin.qq.com'}
poll: {interval: 10s}
apps_files: [apps.d/*.yml]
apps: [{appid: wx0123456789ABCDEF, secret_env: A}]
";
        assert_eq!(
            Folder::new(&[(MAIN, text)]).warnings(),
            "\
wxapp-portrait.yml:2: wechat.base_url: AppSecrets and tokens cross the network unencrypted; use https
wxapp-portrait.yml:3: poll.interval: less than a minute uses up the daily quota of WeChat for figures that change once a day
wxapp-portrait.yml:4: apps_files: no file matches apps.d/*.yml
wxapp-portrait.yml:5: apps[0].appid: wx0123456789ABCDEF does not look like an appid of WeChat (`wx` and 16 hex digits in lower case)"
        );
        for url in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost"] {
            let text = format!("wechat: {{base_url: '{url}'}}\n{}", app("secret_env: A"));
            assert_eq!(load_text(&text).unwrap().warnings, [""; 0], "{url}");
        }
    }

    #[test]
    fn an_appid_is_a_word() {
        let expected =
            "is not an appid: expected `wx` and 16 hex digits, such as wx0123456789abcdef";
        for (appid, shown) in [
            ("''", "\"\""),
            ("'wx1 '", "\"wx1 \""),
            ("商城", "\"商城\""),
            ("'a\"b'", "\"a\\\"b\""),
        ] {
            let text = format!("apps:\n- appid: {appid}\n  secret_env: A");
            assert_problems(&[(&text, &format!("2: apps[0].appid: {shown} {expected}"))]);
        }
        // A word that YAML may take for a number stays as it is written.
        let config = load_text("apps: [{appid: 012e3, secret_env: A}]").unwrap();
        assert_eq!(config.apps[0].appid.as_str(), "012e3");
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
                "3: apps[0].secret_file: cannot read .: it is no plain file",
            ),
        ]);
    }

    #[test]
    fn the_name_of_an_app_is_one_line() {
        assert_app_problems(&[
            (
                "secret_env: A\n    name: ' '",
                "4: apps[0].name: is blank: leave the key out to show the appid",
            ),
            (
                "secret_env: A\n    name: \"a\\0\"",
                "4: apps[0].name: has line breaks or control characters in it: expected one line",
            ),
        ]);
    }

    #[test]
    fn one_line_break_is_taken_from_the_end_of_a_secret() {
        let text = app("secret_file: secrets/shop");
        let folder = Folder::new(&[(MAIN, &text)]);
        for end in ["", "\n", "\r\n"] {
            folder.write("secrets/shop", format!("{SECRET}{end}"));
            let config = folder.load().unwrap();
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
            folder.write("secrets/shop", content);
            let expected = format!("{MAIN}:3: apps[0].secret_file: secrets/shop: {problem}");
            assert_eq!(folder.problems(), expected, "{content:?}");
        }
    }

    #[test]
    fn no_message_repeats_a_secret_that_stands_in_the_file_by_mistake() {
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
    fn a_secret_in_the_place_of_its_file_or_variable_is_told_as_such() {
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
        let folder = Folder::new(&[("headers", "# for the token server\n\nX-Key: a: b\n")]);
        let access = |keys: &str| {
            folder.write(MAIN, app(keys));
            folder.load().unwrap().apps.remove(0).access
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
            access::TokenSource::File(folder.0.path().join("headers"))
        );
        let keys =
            "token_url: https://u:p@tokens.internal/?key=1\n    token_url_headers_file: headers";
        let AccessMethod::Token(token) = access(keys) else {
            panic!("a token")
        };
        assert!(format!("{token:?}").contains("tokens.internal"));
        assert!(!format!("{token:?}").contains("key="), "{token:?}");
        let headers = access::headers(&folder.0.path().join("headers")).unwrap();
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
    fn a_wrong_access_is_told_with_the_right_one() {
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
                "token_file: a\n    token_parameter: a&b",
                "4: apps[0].token_parameter: is no query parameter: expected one such as cloudbase_access_token",
            ),
        ]);
        let folder = Folder::new(&[
            (
                MAIN,
                &app("portrait_url: http://a\n    portrait_url_headers_file: h"),
            ),
            ("h", "Authorization: Bearer x\nsecret\n"),
        ]);
        assert_eq!(
            folder.problems(),
            "wxapp-portrait.yml:4: apps[0].portrait_url_headers_file: h:2: no header: expected `Name: value`"
        );
    }

    #[test]
    fn cloud_hosting_speaks_for_one_app() {
        let text =
            "apps:\n- {appid: a, access: cloud_hosting}\n- {appid: b, access: cloud_hosting}";
        assert_problems(&[(
            text,
            "3: apps[1].access: cloud hosting speaks for the one app that it belongs to, and wxapp-portrait.yml:2 has it already",
        )]);
    }

    #[test]
    fn what_an_access_may_do_to_others_is_warned_of() {
        let warnings = Folder::new(&[(MAIN, &app("secret_env: A\n    token_endpoint: token"))]);
        let warnings = warnings.warnings();
        assert!(
            warnings.contains("wxapp-portrait.yml:4: apps[0].token_endpoint: every token that is fetched takes away, five minutes later, the token that any other program"),
            "{warnings}"
        );
        let text =
            "apps:\n- {appid: a, token_url: http://a/?b}\n- {appid: b, token_url: http://a/?b}";
        let warnings = Folder::new(&[(MAIN, text)]).warnings();
        assert!(
            warnings.contains("wxapp-portrait.yml:3: apps[1].token_url: is the same as that of the app at wxapp-portrait.yml:2: what comes from it belongs to one app only"),
            "{warnings}"
        );
        let folder = Folder::new(&[(MAIN, &app("token_file: later"))]);
        let warnings = folder.warnings();
        assert!(
            warnings.contains("apps[0].token_file: later: No such file"),
            "{warnings}"
        );
    }

    #[test]
    fn several_base_urls_a_proxy_and_a_ca_are_read() {
        let ca = rcgen::generate_simple_self_signed(["wechat.example".to_owned()]).unwrap();
        let text = "wechat:\n  base_url:\n  - https://api.weixin.qq.com\n  - https://api2.weixin.qq.com/x\n  proxy_url: http://u:p@proxy:3128\n  ca_file: ca.pem\n".to_owned() + &app("secret_env: A");
        let folder = Folder::new(&[(MAIN, &text), ("ca.pem", &ca.cert.pem())]);
        let config = folder.load().unwrap();
        assert_eq!(
            base_urls(&config),
            [
                "https://api.weixin.qq.com/",
                "https://api2.weixin.qq.com/x/"
            ]
        );
        let proxy = config.wechat.proxy_url.unwrap();
        assert_eq!(format!("{proxy:?}"), "proxy");
        assert_eq!(proxy.expose().as_str(), "http://u:p@proxy:3128/");
        assert_eq!(config.wechat.ca.unwrap(), ca.cert.pem().into_bytes());

        for (content, problem) in [
            (
                "",
                "ca.pem holds no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "ca.pem: certificate 1 cannot be read",
            ),
        ] {
            folder.write("ca.pem", content);
            let expected = format!("wxapp-portrait.yml:6: wechat.ca_file: {problem}");
            assert_eq!(folder.problems(), expected);
        }
        assert_problems(&[
            (
                "wechat: {base_url: []}",
                "1: wechat.base_url: the list is empty: leave the key out for the default",
            ),
            (
                "wechat: {base_url: [http://localhost, x]}",
                "1: wechat.base_url: not a URL: expected one like https://api.weixin.qq.com",
            ),
            (
                "wechat: {base_url: {a: b}}",
                "1: wechat.base_url: no valid YAML at column 20: invalid type: map, expected a single value or a list",
            ),
            (
                "wechat: {proxy_url: 'ftp://secret@x'}",
                "1: wechat.proxy_url: not a URL: expected one that begins with http or https or socks5 or socks5h",
            ),
        ]);
    }

    #[test]
    fn all_problems_of_all_files_are_told_at_once() {
        let text = "
swing: {min_users: few}
poll: {interval: never, concurrency: 0}
apps_files: [gone.yml, 'a[', b.yml, c.yml]
apps:
  - {appid: wx0123456789abcdef, access: cloud_host, windows: [2d], name: ''}
  - {appid: 'w x', dimensions: []}
";
        let b = "- appid: wx0123456789abcdef\n  secret_env: UNSET\n";
        let folder = Folder::new(&[(MAIN, text), ("b.yml", b), ("c.yml", "apps: []")]);
        assert_eq!(
            folder.problems(),
            "\
wxapp-portrait.yml:2: swing.min_users: `few` is not a whole number from 1 to 1000000000
wxapp-portrait.yml:3: poll.interval: `never` is no duration: expected a number and a unit, such as 10s, 30m or 400d
wxapp-portrait.yml:3: poll.concurrency: `0` is not a whole number from 1 to 256
wxapp-portrait.yml:4: apps_files: there is no file gone.yml
wxapp-portrait.yml:4: apps_files: `a[` is no pattern: invalid range pattern
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
    fn an_appid_stands_once_in_all_files() {
        let twice = "- {appid: a, secret_env: A}\n- {appid: a, secret_env: A}\n";
        let folder = Folder::new(&[(MAIN, "apps_files: [apps.yml]"), ("apps.yml", twice)]);
        assert_eq!(
            folder.problems(),
            "apps.yml:2: [1].appid: a is configured twice: first at apps.yml:1"
        );
    }

    #[test]
    fn files_of_apps_are_read_in_order_and_see_their_secrets_from_their_folder() {
        let text = "apps_files: ['apps.d/*.yml', more/apps.yml]\nwindows: [7d]\napps: [{appid: a, secret_env: A}]";
        let folder = Folder::new(&[
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
        let apps = folder.load().unwrap().apps;
        let appids: Vec<&str> = apps.iter().map(|app| app.appid.as_str()).collect();
        assert_eq!(appids, ["a", "b", "c", "d"]);
        assert_eq!(secret_of(&apps[1]), "bee");
        assert_eq!(secret_of(&apps[2]), "sea");
        assert_eq!(apps[3].windows, [Window::SevenDays]);
    }

    #[test]
    fn a_folder_whose_name_looks_like_a_pattern_is_only_a_name() {
        let folder = Folder::new(&[
            ("[prod]*/main.yml", "apps_files: ['*.d/*.yml']"),
            ("[prod]*/apps.d/a.yml", "- {appid: a, secret_env: A}"),
        ]);
        let path = folder.0.path().join("[prod]*/main.yml");
        assert_eq!(load(&path, |_| Some("a".to_owned())).unwrap().apps.len(), 1);
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
        // More nodes than the YAML reader allows unless told otherwise.
        assert_eq!(load_text(&text).unwrap().apps.len(), 8_000);
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
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
