//! Validates raw values: turns them into settings, or reports their problems.
//!
//! Every problem names the file, the line, the key, and the valid values. All of them are reported
//! at once, except that a file that is not YAML is not read beyond its first problem. The keys of an
//! app's access are checked in `access`, those of its calendar in `holidays`, its labels in `labels`, the database in
//! `database`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::{Host, Url};

use super::holidays::Calendars;
use super::raw::{OneOrMore, RawApp, RawFile, RawPast, RawSwing};
use super::read::{Located, Partial, Read, Text, Texts};
use super::settings::{App, Archive, Config, Past, Poll, RETENTION, STALE_AFTER, Swing, WeChat};
use super::{access, document, files};
use crate::calendar::Holidays;
use crate::past::PAST_DAYS;
use crate::portrait::{AppId, Dimension, Window};

/// Why the configuration can't be used: every problem that was found, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Error(pub(super) Vec<String>);

impl Error {
    /// Adds the problems of another file.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// How many files and directories are searched for those of a pattern.
const MOST_ENTRIES: usize = 100_000;

/// What `wechat.timeout` may be.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(5);

/// What `poll.interval` may be.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(12);

/// What `archive.retention` may be: at least what WeChat still has, and at most a hundred years.
const RETENTIONS: RangeInclusive<Duration> = days(2)..=days(36_525);

/// What `stale_after` may be.
const STALE_AFTERS: RangeInclusive<Duration> = days(1)..=days(400);

/// The largest value of `poll.concurrency`.
const CONCURRENCY: usize = 256;

/// The largest value of `top_names`.
const TOP_NAMES: usize = 1_000_000;

/// The largest value of `swing.min_users`.
const MIN_USERS: u64 = 1_000_000_000;

/// What `swing.threshold_ratio` may be.
const THRESHOLD_RATIOS: RangeInclusive<f64> = 0.01..=0.99;

const fn days(days: u64) -> Duration {
    Duration::from_hours(24 * days)
}

/// Reads and checks the file at `path` and all that it names; see [`super::load`].
pub(super) fn load(
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Error> {
    let mut check = Check {
        environment,
        file: path.to_owned(),
        first_places: HashMap::new(),
        cloud_hosting: None,
        first_sources: HashMap::new(),
        known_holidays: HashMap::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
        app_problems: Vec::new(),
        secret_variables: BTreeSet::new(),
        world_readable: BTreeSet::new(),
    };
    let file = check.read::<Option<RawFile>>();
    let config = check.config(file.flatten().unwrap_or_default());
    check.warn_of_world_readable();
    let sentences = |mut problems: Vec<Problem>| {
        // The main file is first; the others are in the order of their names.
        problems.sort_by(|one, other| one.place(path).cmp(&other.place(path)));
        let sentences = problems.iter().map(Problem::to_string);
        sentences.collect::<Vec<_>>()
    };
    if check.problems.is_empty() {
        return Ok(Config {
            warnings: sentences(check.warnings),
            app_problems: sentences(check.app_problems),
            secret_variables: check.secret_variables.into_iter().collect(),
            ..config
        });
    }
    check.problems.extend(check.app_problems);
    Err(Error(sentences(check.problems)))
}

/// What is wrong, or looks so, and where.
pub(super) struct Problem {
    pub(super) file: PathBuf,
    pub(super) line: Option<u64>,
    /// Begins with the key.
    pub(super) text: String,
}

impl Problem {
    fn place(&self, main_file: &Path) -> (bool, &Path, Option<u64>) {
        (self.file != main_file, &self.file, self.line)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.line {
            Some(line) => write!(formatter, "{file}:{line}: {}", self.text),
            None => write!(formatter, "{file}: {}", self.text),
        }
    }
}

/// What an app inherits from the top of the file.
struct Inherited {
    windows: Vec<Window>,
    dimensions: Vec<Dimension>,
    top_names: BTreeMap<Dimension, usize>,
    past: Past,
    swing: Swing,
    calendars: Calendars,
}

/// Collects problems and warnings while raw values become settings.
///
/// After a problem the check continues with a default, to find others, too.
pub(super) struct Check<'a> {
    pub(super) environment: &'a dyn Fn(&str) -> Option<String>,
    /// The file that is being checked.
    pub(super) file: PathBuf,
    /// File and line of every appid.
    first_places: HashMap<AppId, String>,
    /// File and line of the app with cloud hosting.
    pub(super) cloud_hosting: Option<String>,
    /// File and line of the app that first uses a source of tokens or portraits.
    pub(super) first_sources: HashMap<String, String>,
    /// The calendar of China with the years of a list of files, which all apps with that list share.
    pub(super) known_holidays: HashMap<Vec<PathBuf>, Holidays>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    app_problems: Vec<Problem>,
    pub(super) secret_variables: BTreeSet<String>,
    /// Files with secrets that every user of the host can read.
    pub(super) world_readable: BTreeSet<PathBuf>,
}

impl Check<'_> {
    /// Reads the file as far as it has the expected shape.
    fn read<T: Read>(&mut self) -> Option<T> {
        let (value, problems) = document::read(&self.file, "--config.file");
        for (line, problem) in problems {
            self.problem_of_file(line, problem);
        }
        value
    }

    fn problem_of_file(&mut self, line: Option<u64>, text: String) {
        let file = self.file.clone();
        self.problems.push(Problem { file, line, text });
    }

    fn at(&self, line: u64, key: impl fmt::Display, text: impl fmt::Display) -> Problem {
        Problem {
            file: self.file.clone(),
            line: Some(line),
            text: format!("{key}: {text}"),
        }
    }

    pub(super) fn problem(
        &mut self,
        line: u64,
        key: impl fmt::Display,
        problem: impl fmt::Display,
    ) {
        self.problems.push(self.at(line, key, problem));
    }

    pub(super) fn warn(&mut self, line: u64, key: impl fmt::Display, warning: impl fmt::Display) {
        self.warnings.push(self.at(line, key, warning));
    }

    /// Notes what only makes one app fail, and may be right later.
    pub(super) fn app_problem(
        &mut self,
        line: u64,
        key: impl fmt::Display,
        problem: impl fmt::Display,
    ) {
        self.app_problems.push(self.at(line, key, problem));
    }

    fn warn_of_world_readable(&mut self) {
        if let Some(first) = self.world_readable.first() {
            let text = format!(
                "every user of this host can read {} with secrets, such as {}: `chmod o-r` takes that away",
                match self.world_readable.len() {
                    1 => "a file".to_owned(),
                    number => format!("{number} files"),
                },
                first.display()
            );
            let file = self.file.clone();
            self.warnings.push(Problem {
                file,
                line: None,
                text,
            });
        }
    }

    fn config(&mut self, file: RawFile) -> Config {
        let wechat = file.wechat.unwrap_or_default();
        let poll = file.poll.unwrap_or_default();
        let archive = file.archive.unwrap_or_default();
        let apps_files = file.apps_files.unwrap_or_default();
        let inherited = Inherited {
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
            calendars: self.calendars("holidays", file.holidays, &Calendars::default()),
        };
        let ca_file = wechat.ca_file.as_ref();
        Config {
            directory: beside(&self.file, ""),
            wechat: WeChat {
                base_urls: self
                    .base_urls(wechat.base_url)
                    .unwrap_or(WeChat::default().base_urls),
                timeout: self
                    .duration("wechat.timeout", wechat.timeout, &TIMEOUTS)
                    .unwrap_or(WeChat::default().timeout),
                proxy_url: wechat.proxy_url.and_then(|url| {
                    self.private_url(
                        "wechat.proxy_url",
                        &url,
                        &["http", "https", "socks5", "socks5h"],
                    )
                }),
                ca: ca_file.and_then(|file| self.ca(file)),
                ca_file: ca_file.map(|file| beside(&self.file, &file.value)),
            },
            poll: Poll {
                interval: self
                    .interval(poll.interval)
                    .unwrap_or(Poll::default().interval),
                concurrency: self
                    .number("poll.concurrency", poll.concurrency, CONCURRENCY)
                    .unwrap_or(Poll::default().concurrency),
            },
            archive: Archive {
                retention: self
                    .duration("archive.retention", archive.retention, &RETENTIONS)
                    .unwrap_or(RETENTION),
                postgres: self.postgres(
                    archive.postgres_url_file.as_ref(),
                    archive.postgres_url_env.as_ref(),
                ),
            },
            stale_after: self
                .duration("stale_after", file.stale_after, &STALE_AFTERS)
                .unwrap_or(STALE_AFTER),
            apps: self.apps(file.apps.unwrap_or_default(), &apps_files, &inherited),
            warnings: Vec::new(),
            app_problems: Vec::new(),
            secret_variables: Vec::new(),
        }
    }

    fn base_urls(&mut self, texts: Option<Located<OneOrMore>>) -> Option<Vec<Url>> {
        let Located { line, value } = texts?;
        let urls: Vec<Url> = match value {
            OneOrMore::One(text) => self.base_url(line, &text).into_iter().collect(),
            OneOrMore::More(texts) => texts
                .iter()
                .filter_map(|text| self.base_url(text.line, &text.value))
                .collect(),
        };
        if urls.is_empty() && self.problems.is_empty() {
            let problem = "the list is empty: leave the key out for the default";
            self.problem(line, "wechat.base_url", problem);
        }
        (!urls.is_empty()).then_some(urls)
    }

    /// Reads certificates, and reports problems with them before a connection fails.
    fn ca(&mut self, file: &Text) -> Option<Vec<u8>> {
        certificates(&beside(&self.file, &file.value))
            .map_err(|problem| self.problem(file.line, "wechat.ca_file", problem))
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
                "AppSecrets and tokens are sent unencrypted; use https",
            );
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Some(url)
    }

    fn interval(&mut self, text: Option<Text>) -> Option<Duration> {
        let line = text.as_ref().map_or(0, |text| text.line);
        let interval = self.duration("poll.interval", text, &INTERVALS)?;
        if interval < Duration::from_mins(1) {
            let warning = "less than a minute uses up the daily quota of WeChat for figures that change once a day";
            self.warn(line, "poll.interval", warning);
        }
        Some(interval)
    }

    fn duration(
        &mut self,
        key: &str,
        text: Option<Text>,
        range: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = text?;
        match humantime::parse_duration(&text.value) {
            Ok(duration) if range.contains(&duration) => {
                return Some(duration);
            }
            Ok(_) => self.problem(
                text.line,
                key,
                format!(
                    "`{}` is out of range: expected {} to {}",
                    text.value,
                    in_one_unit(*range.start()),
                    in_one_unit(*range.end())
                ),
            ),
            Err(_) => self.problem(
                text.line,
                key,
                format!(
                    "`{}` is not a duration: expected a number and a unit, such as 10s, 30m or 400d",
                    text.value
                ),
            ),
        }
        None
    }

    /// Reads a whole number from 1 on.
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
        self.problem(text.line, key, problem);
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
                        text.line,
                        key,
                        format!("duplicate `{}`: remove one", text.value),
                    );
                }
                Ok(name) => names.push(name),
                Err(problem) => self.problem(text.line, key, problem),
            }
        }
        if texts.value.is_empty() {
            let problem = "the list is empty: leave the key out for the default";
            self.problem(texts.line, key, problem);
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
            let line = limit.line;
            match name.parse::<Dimension>() {
                Ok(dimension) => {
                    let limit = self.number(&format!("{key}.{name}"), Some(limit), TOP_NAMES);
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
                let line = text.line;
                match self.number(&key_of_days, Some(text), PAST_DAYS) {
                    Some(days) if days_ago.contains(&days) => {
                        let problem = format!("duplicate `{days}`: remove one");
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
            let ratio = ratio.filter(|ratio| THRESHOLD_RATIOS.contains(ratio));
            if ratio.is_none() {
                let problem = format!(
                    "`{}` is not a share from 0.01 to 0.99, such as 0.35 for a fall by 35%",
                    text.value
                );
                let line = text.line;
                self.problem(line, format!("{key}.threshold_ratio"), problem);
            }
            ratio
        });
        let key_of_users = format!("{key}.min_users");
        Swing {
            threshold_ratio: threshold_ratio.unwrap_or(defaults.threshold_ratio),
            min_users: self
                .number(&key_of_users, raw.min_users, MIN_USERS)
                .unwrap_or(defaults.min_users),
        }
    }

    fn apps(
        &mut self,
        apps: Vec<Partial<RawApp>>,
        patterns: &[Text],
        inherited: &Inherited,
    ) -> Vec<App> {
        let files: Vec<PathBuf> = patterns
            .iter()
            .flat_map(|pattern| self.matching("apps_files", pattern))
            .collect();
        let mut checked = self.app_list("apps", apps, inherited);
        let main_file = self.file.clone();
        for file in files {
            self.file = file;
            // A file without a list in it, perhaps with comments only, is one without apps.
            let apps = self.read::<Option<Vec<_>>>().flatten().unwrap_or_default();
            checked.extend(self.app_list("", apps, inherited));
        }
        self.file = main_file;
        if checked.is_empty() && self.problems.is_empty() {
            let problem = "apps: none is configured: add one with its `appid` and `secret_file`";
            self.problem_of_file(None, problem.to_owned());
            let is_of_files = |warning: &mut Problem| warning.text.starts_with("apps_files: ");
            let unmatched = self.warnings.extract_if(.., is_of_files);
            self.problems.extend(unmatched);
        }
        checked
    }

    fn app_list(
        &mut self,
        prefix: &str,
        apps: Vec<Partial<RawApp>>,
        inherited: &Inherited,
    ) -> Vec<App> {
        let mut checked = Vec::with_capacity(apps.len());
        for (index, app) in apps.into_iter().enumerate() {
            let Partial { value, is_complete } = app;
            if let Some(raw) = value {
                let key = format!("{prefix}[{index}]");
                checked.extend(self.app(&key, raw, is_complete, inherited));
            }
        }
        checked
    }

    /// Returns the files that a pattern matches, sorted.
    pub(super) fn matching(&mut self, key: &str, pattern: &Text) -> Vec<PathBuf> {
        let line = pattern.line;
        let whole = beside(&self.file, &pattern.value);
        let directory = self.file.parent().unwrap_or(Path::new(""));
        let found = files::matching(directory, &pattern.value, MOST_ENTRIES);
        let problem = match found {
            Ok(files) if !files.is_empty() => return files,
            Ok(_) if pattern.value.contains(['*', '?', '[']) => {
                self.warn(line, key, format!("no file matches {}", whole.display()));
                return Vec::new();
            }
            Ok(_) => format!("no such file: {}", whole.display()),
            Err(problem) => format!("`{}` {problem}", pattern.value),
        };
        self.problem(line, key, problem);
        Vec::new()
    }

    /// Validates an app; only if it `is_complete`, its access is checked.
    fn app(
        &mut self,
        key: &str,
        raw: RawApp,
        is_complete: bool,
        inherited: &Inherited,
    ) -> Option<App> {
        let of = |name: &str| format!("{key}.{name}");
        let line = raw.appid.line;
        let appid = self.appid(&of("appid"), &raw.appid);
        if let Some(name) = &raw.name {
            let line = name.line;
            if name.value.trim().is_empty() {
                let problem = "is blank: leave the key out to show the appid";
                self.problem(line, of("name"), problem);
            } else if name.value.contains(char::is_control) {
                let problem = "has line breaks or control characters in it: expected one line";
                self.problem(line, of("name"), problem);
            }
        }
        // What is missing may only be misspelled.
        let access = is_complete.then(|| self.access(line, key, &raw)).flatten();
        let labels = self.labels(&of("labels"), raw.labels);
        let windows = self.names(&of("windows"), raw.windows);
        let dimensions = self.names(&of("dimensions"), raw.dimensions);
        let top_names = self.top_names(&of("top_names"), raw.top_names);
        let past = self.past(&of("past"), raw.past, inherited.past.clone());
        let swing = self.swing(&of("swing"), raw.swing, inherited.swing);
        let calendars = self.calendars(&of("holidays"), raw.holidays, &inherited.calendars);
        let appid = appid?;
        Some(App {
            name: raw
                .name
                .map_or_else(|| appid.to_string(), |name| name.value),
            appid,
            labels,
            access: access?,
            windows: windows.unwrap_or_else(|| inherited.windows.clone()),
            dimensions: dimensions.unwrap_or_else(|| inherited.dimensions.clone()),
            top_names: top_names.unwrap_or_else(|| inherited.top_names.clone()),
            past,
            swing,
            holiday_files: calendars.files.clone(),
            holidays: calendars.chosen(),
        })
    }

    fn appid(&mut self, key: &str, text: &Text) -> Option<AppId> {
        let line = text.line;
        if has_secret(&text.value) {
            let problem = "this is not an appid, but looks like an AppSecret: \
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

/// Reads a file of certificates, and checks each.
pub(super) fn certificates(path: &Path) -> Result<Vec<u8>, String> {
    let text = access::read_text(path)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
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
            "{} contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
            path.display()
        ));
    }
    Ok(text.into_bytes())
}

/// Writes a duration in the largest unit that it is a multiple of.
pub(super) fn in_one_unit(duration: Duration) -> String {
    let nanoseconds = duration.as_nanos();
    let units = [
        ("years", 31_557_600_000_000_000),
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
    ];
    let unit = units
        .iter()
        .find(|(_, unit)| nanoseconds.is_multiple_of(*unit));
    unit.map_or_else(
        || format!("{nanoseconds}ns"),
        |(name, unit)| format!("{}{name}", nanoseconds / unit),
    )
}

/// Returns `true` if the address is on this host.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns `true` if the text looks like an AppSecret or a token, which no message may repeat.
pub(super) fn is_secret(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        || text.len() >= 64 && text.bytes().all(is_of_token)
}

/// Returns `true` if a part of the text looks like that. The name of a file may have such a part.
fn has_secret(text: &str) -> bool {
    let mut parts = text.split(|c: char| !c.is_ascii_alphanumeric());
    is_secret(text) || parts.any(is_secret)
}

/// Returns a path that is relative to the directory of the file that contains it.
pub(super) fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{
        Directory, MAIN, app, assert_app_problems, assert_problems, base_urls, load_text,
    };
    use super::*;

    #[test]
    fn past_days_are_counted_from_1_to_28() {
        assert_problems(&[
            (
                "past: {days_ago: [7, 0, 29, 7]}",
                "1: past.days_ago: `0` is not a whole number from 1 to 28\n\
                 wxapp-portrait.yml:1: past.days_ago: `29` is not a whole number from 1 to 28\n\
                 wxapp-portrait.yml:1: past.days_ago: duplicate `7`: remove one",
            ),
            (
                "past: {dimensions: [town]}",
                "1: past.dimensions: unknown dimension `town`: expected one of province, city, gender, platform, device, age",
            ),
        ]);
    }

    #[test]
    fn thresholds_of_swings_are_shares_and_users() {
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
    fn a_file_in_another_encoding_is_reported_with_its_line() {
        let directory = Directory::new(&[]);
        // 商城 as Windows in China writes it.
        directory.write(MAIN, b"apps:\n  - appid: wx1\n    name: \xc9\xcc\xb3\xc7\n");
        assert_eq!(
            directory.problems(),
            format!("{MAIN}:3: not valid UTF-8: save the file as UTF-8")
        );
    }

    #[test]
    fn a_missing_file_is_reported() {
        assert_eq!(
            Directory::new(&[]).problems(),
            format!(
                "{MAIN}: cannot read it: No such file or directory (os error 2); write it, or name another with --config.file"
            )
        );
    }

    #[test]
    fn a_configuration_without_apps_is_reported() {
        for text in [
            "",
            "# nothing\n",
            "apps:",
            "apps: []",
            "apps_files: [apps.yml]",
        ] {
            let directory = Directory::new(&[(MAIN, text), ("apps.yml", "# none left\n")]);
            let expected = format!(
                "{MAIN}: apps: none is configured: add one with its `appid` and `secret_file`"
            );
            assert_eq!(directory.problems(), expected, "{text:?}");
        }
    }

    #[test]
    fn patterns_without_a_file_are_named_where_no_app_is_configured() {
        assert_problems(&[(
            "apps_files: [apps.d/*.yml]",
            " apps: none is configured: add one with its `appid` and `secret_file`
wxapp-portrait.yml:1: apps_files: no file matches apps.d/*.yml",
        )]);
    }

    #[test]
    fn durations_and_numbers_out_of_range_are_reported_with_their_range() {
        let no_duration =
            "is not a duration: expected a number and a unit, such as 10s, 30m or 400d";
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
    fn unknown_windows_and_dimensions_are_reported_with_the_known_ones() {
        const DIMENSIONS: &str = "expected one of province, city, gender, platform, device, age";
        assert_problems(&[
            (
                "windows:\n  - 1d\n  - 2d",
                "3: windows: unknown window `2d`: expected one of 1d, 7d, 30d",
            ),
            (
                "windows: [1d, 1d]",
                "1: windows: duplicate `1d`: remove one",
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
            Directory::new(&[(MAIN, text)]).warnings(),
            "\
wxapp-portrait.yml:2: wechat.base_url: AppSecrets and tokens are sent unencrypted; use https
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
        let secret = "0123456789abcdef0123456789abcdef";
        for appid in [secret, &format!("AppSecret:{secret}")] {
            let text = format!("apps:\n- appid: {appid}\n  secret_env: A");
            let problem = "2: apps[0].appid: this is not an appid, but looks like an AppSecret: \
                           write it into a file of its own and name that as `secret_file`";
            assert_problems(&[(&text, problem)]);
        }
        // A word that YAML may take for a number stays as it is written.
        let config = load_text("apps: [{appid: 012e3, secret_env: A}]").unwrap();
        assert_eq!(config.apps[0].appid.as_str(), "012e3");
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
    fn several_base_urls_a_proxy_and_a_ca_are_read() {
        let ca = rcgen::generate_simple_self_signed(["wechat.example".to_owned()]).unwrap();
        let text = "wechat:\n  base_url:\n  - https://api.weixin.qq.com\n  - https://api2.weixin.qq.com/x\n  proxy_url: http://u:p@proxy:3128\n  ca_file: ca.pem\n".to_owned() + &app("secret_env: A");
        let directory = Directory::new(&[(MAIN, &text), ("ca.pem", &ca.cert.pem())]);
        let config = directory.load().unwrap();
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
                "ca.pem contains no certificate: expected PEM, from -----BEGIN CERTIFICATE----- on",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "ca.pem: certificate 1 cannot be read",
            ),
        ] {
            directory.write("ca.pem", content);
            let expected = format!("wxapp-portrait.yml:6: wechat.ca_file: {problem}");
            assert_eq!(directory.problems(), expected);
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
                "1: wechat.base_url: expected a single value",
            ),
            (
                "wechat: {proxy_url: 'ftp://secret@x'}",
                "1: wechat.proxy_url: not a URL: expected one that begins with http or https or socks5 or socks5h",
            ),
        ]);
    }

    #[test]
    fn an_appid_is_unique_across_all_files() {
        let twice = "- {appid: a, secret_env: A}\n- {appid: a, secret_env: A}\n";
        let directory = Directory::new(&[(MAIN, "apps_files: [apps.yml]"), ("apps.yml", twice)]);
        assert_eq!(
            directory.problems(),
            "apps.yml:2: [1].appid: a is configured twice: first at apps.yml:1"
        );
    }

    #[test]
    fn a_directory_whose_name_looks_like_a_pattern_is_only_a_name() {
        let directory = Directory::new(&[
            ("[prod]*/main.yml", "apps_files: ['*.d/*.yml']"),
            ("[prod]*/apps.d/a.yml", "- {appid: a, secret_env: A}"),
        ]);
        let path = directory.0.path().join("[prod]*/main.yml");
        let config = load(&path, &|_| Some("a".to_owned())).unwrap();
        assert_eq!(config.apps.len(), 1);
    }
}
