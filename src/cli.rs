//! The command line: which flags there are and what they accept. Does not depend on what is done with
//! them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{Datelike as _, NaiveDate, NaiveTime};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

use crate::portrait::{AppId, Dimension, Window};
use crate::shard::Shard;
use crate::simulator::{App, Event, Fault};
use crate::web::{self, Paths};

/// Where the configuration is unless a flag names another path.
pub const DEFAULT_CONFIG: &str = "wxapp-portrait.yml";

const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("BUILD_REVISION"),
    ", rustc ",
    env!("BUILD_RUSTVERSION"),
    ")"
);

/// Prometheus exporter for the user portraits of WeChat mini programs.
///
/// Without a command it runs `serve`. To try it without a configuration, run
/// `wxapp-portrait-exporter demo`.
#[derive(Debug, Parser)]
#[command(version = LONG_VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command; `serve` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `serve`.
    #[command(flatten)]
    pub serve: Serve,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Polls WeChat for the configured apps and serves their portraits (the default).
    Serve(Serve),
    /// Serves three simulated apps with 60 days of history: no file, no network, no secret.
    Demo(Demo),
    /// Runs the simulated WeChat alone, for tests, load, and trying out alert rules.
    ///
    /// At its one address are WeChat's own endpoints, which take cloud hosting's tokens, too;
    /// `GET /simulator/cloudbase-token/APPID` returns a new one. A cloud function `portrait` of the environment
    /// `sim-1a2b` is run by `POST /tcb/invokecloudfunction`, and by `POST /function/APPID` with
    /// `?wrap=data`, `result` or `resp_data`, and `?case=snake`. `GET /simulator/tokens/APPID` is a token
    /// server, with `?format=json` and, for a careless one, `?force_refresh=true`.
    Simulate(Simulate),
    /// Requests a portrait of every configured app once, and reports the result or what to do about it.
    Check(Check),
    /// Exports archived days, also while the exporter runs.
    Export(Export),
    /// Imports history into the archive, also while the exporter runs.
    Import(Import),
    /// Checks that a running exporter is healthy; for containers without curl.
    Healthcheck(Healthcheck),
}

/// Parses the arguments of the program, its name first.
///
/// # Errors
///
/// What is printed instead: the help, the version, or what is wrong with the arguments.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(arguments).map_err(|mut error| {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let (given, suggested) = (
            text(ContextKind::InvalidArg),
            text(ContextKind::SuggestedArg),
        );
        if let Some((given, suggested)) = given.zip(suggested)
            && !suggested.starts_with(&given)
            && strsim::osa_distance(&given, &suggested) > MOST_TYPOS
        {
            // It is another flag, such as one of Prometheus.
            error.remove(ContextKind::SuggestedArg);
            error.remove(ContextKind::Usage);
        }
        error
    })
}

/// A flag that differs by more is not taken for a misspelling.
const MOST_TYPOS: usize = 2;

impl Command {
    /// Returns the flags of the log.
    #[must_use]
    pub fn log(&self) -> Log {
        match self {
            Self::Serve(flags) => flags.log,
            Self::Demo(flags) => flags.log,
            Self::Simulate(flags) => flags.log,
            Self::Check(flags) => flags.log,
            Self::Export(flags) => flags.log,
            Self::Import(flags) => flags.log,
            Self::Healthcheck(flags) => flags.log,
        }
    }
}

/// Flags of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Checks the configuration and the files that it names, and exits; sends no requests.
    #[arg(long = "config.check")]
    pub config_check: bool,
    /// Archive directory, relative to the working directory; created if missing. Ignored if the configuration
    /// names a PostgreSQL database.
    #[arg(
        long = "storage.path",
        value_name = "DIRECTORY",
        default_value = "data"
    )]
    pub storage_path: PathBuf,
    /// Which apps are this exporter's.
    #[command(flatten)]
    pub shards: Shards,
    /// The web server.
    #[command(flatten)]
    pub web: Web,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// Flags of `demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// Directory for an archive of the three simulated apps, which is kept; a temporary one by default.
    #[arg(long = "storage.path", value_name = "DIRECTORY")]
    pub storage_path: Option<PathBuf>,
    /// Which apps are this exporter's.
    #[command(flatten)]
    pub shards: Shards,
    /// The web server.
    #[command(flatten)]
    pub web: Web,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// Flags of `simulate`.
#[derive(Debug, Clone, Args)]
pub struct Simulate {
    /// Address to listen on.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:10691", value_parser = parse_address
    )]
    pub listen_address: String,
    /// A simulated app and its mean active users a day (10000 by default); repeatable.
    ///
    /// `GET /simulator/apps` returns its AppSecret.
    #[arg(long, value_name = "APPID[=USERS]", required = true)]
    pub app: Vec<App>,
    /// A swing of one day, such as 2026-11-20:platform=iPhone:0.4; repeatable.
    ///
    /// The middle is a dimension and a name, or `new`, `active`, `all`; the last is the factor. WeChat
    /// has figures of yesterday and the day before only, in Beijing time.
    #[arg(long, value_name = "[APPID@]DAY:SELECTOR:FACTOR")]
    pub event: Vec<Event>,
    /// A fault of one app, such as wx0123456789abcdef=errcode=40164; repeatable.
    ///
    /// Faults: errcode=N, http=STATUS, delay=TIME, cut (truncated), reset (no response), garbage (not
    /// JSON), empty (no rows), halves (no users at all), huge (over 8 MiB), wrong-date, retain (the
    /// response of another API), camel (spelled as by cloud functions), rows (invalid ones among valid
    /// ones), scaled=FACTOR (a revision), leaky (an error that repeats token and secret), unrelayed
    /// (cloud hosting adds no token). The prefix `token:` makes it a fault of the token endpoint,
    /// `function:` of invokecloudfunction; the suffix `*TIMES` limits it; an app has one of each. While running: `curl -X PUT -d cut ADDRESS/simulator/faults/APPID`, and DELETE.
    #[arg(long, value_name = "APPID=FAULT", value_parser = parse_fault)]
    pub fault: Vec<(AppId, Fault)>,
    /// Beijing time from which on yesterday's figures are available.
    #[arg(long, value_name = "HH:MM", default_value = "00:00", value_parser = parse_time)]
    pub ready_at: NaiveTime,
    /// Beijing time until which yesterday's figures are preliminary.
    #[arg(long, value_name = "HH:MM", default_value = "00:00", value_parser = parse_time)]
    pub final_at: NaiveTime,
    /// How long a token is valid.
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
    pub token_life: Duration,
    /// Treats requests for portraits without a token as those from this app's cloud hosting.
    #[arg(long, value_name = "APPID")]
    pub cloud_hosting: Option<AppId>,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// Flags of `check`.
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Only these of the configured apps; repeatable; all by default.
    #[arg(long)]
    pub appid: Vec<AppId>,
    /// Output format.
    // The log has a format, too, by another name on the command line.
    #[arg(
        id = "check_format",
        long = "format",
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub format: CheckFormat,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// The output formats of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// A line for each app, with its problem below it.
    Table,
    /// A JSON array with an object for each app.
    Json,
}

/// Flags of `export`.
#[derive(Debug, Clone, Args)]
pub struct Export {
    /// Output format.
    // The log has a format, too, by another name on the command line.
    #[arg(id = "export_format", long = "format", value_name = "FORMAT")]
    pub format: ExportFormat,
    /// The first reference date, such as 2026-11-01; the oldest day by default.
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub from: Option<NaiveDate>,
    /// The last reference date; the newest day by default.
    #[arg(long, value_name = "DAY", value_parser = parse_day)]
    pub to: Option<NaiveDate>,
    /// Only these apps; repeatable; all in the archive by default.
    #[arg(long)]
    pub appid: Vec<AppId>,
    /// Only these windows: 1d, 7d, 30d; repeatable; all by default.
    #[arg(long)]
    pub window: Vec<Window>,
    /// Only these dimensions: province, city, gender, platform, device, age; repeatable; all by default. An
    /// export that is to be imported again should have all.
    #[arg(long)]
    pub dimension: Vec<Dimension>,
    /// Time between two samples of openmetrics, from 1m to 1d [default: 1h]. A day that was the newest
    /// for less than that may have none.
    #[arg(long, value_name = "TIME", value_parser = parse_step)]
    pub step: Option<Duration>,
    /// Output file, written as a whole or not at all; standard output, which must not be closed, by default
    /// and for `-`.
    ///
    /// With all windows and dimensions an app and day takes about 280 KB as csv, 560 KB as jsonl and
    /// 6500 KB as openmetrics with hourly samples; compressed about 18 KB, 20 KB and 250 KB.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Compress the output with gzip; also done for an output file that ends in .gz.
    #[arg(long)]
    pub gzip: bool,
    /// Begin csv with a byte order mark, so that Excel reads it as UTF-8.
    #[arg(long)]
    pub bom: bool,
    /// Configuration: csv has the names of its apps, openmetrics their labels, too, and follows their
    /// thresholds and holidays and `stale_after`; without it there are appids, and the defaults. Required for an archive
    /// in PostgreSQL.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Archive directory. Ignored if the configuration names a PostgreSQL database.
    #[arg(
        long = "storage.path",
        value_name = "DIRECTORY",
        default_value = "data"
    )]
    pub storage_path: PathBuf,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// The output formats of `export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Samples for `promtool tsdb create-blocks-from openmetrics`.
    #[value(name = "openmetrics")]
    OpenMetrics,
    /// A row per series and day.
    Csv,
    /// A line per series and day, which `import` reads.
    #[value(name = "jsonl")]
    JsonLines,
}

/// Flags of `import`.
#[derive(Debug, Clone, Args)]
pub struct Import {
    /// JSON lines of `export`, responses of WeChat (one in a file, or one in a line), or directories of
    /// such files, whose names end in .json or .jsonl; `-` is standard input. Pipes are read as well.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The app of responses; lines of `export` contain it.
    #[arg(long)]
    pub appid: Option<AppId>,
    /// The window of a response whose `ref_date` does not contain it: 1d, 7d, 30d; with --reference-date.
    #[arg(long, requires = "reference_date")]
    pub window: Option<Window>,
    /// The last day of that response; with --window, for a single file.
    #[arg(long, value_name = "DAY", requires = "window", value_parser = parse_day)]
    pub reference_date: Option<NaiveDate>,
    /// Configuration with `archive.retention`: days beyond it are imported with a warning, as the exporter
    /// deletes them; without it the default counts. Required for an
    /// archive in PostgreSQL.
    #[arg(long = "config.file", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Archive directory; created if missing. Ignored if the configuration names a PostgreSQL database.
    #[arg(
        long = "storage.path",
        value_name = "DIRECTORY",
        default_value = "data"
    )]
    pub storage_path: PathBuf,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// Flags of `healthcheck`.
#[derive(Debug, Clone, Args)]
pub struct Healthcheck {
    /// An address that the exporter listens on.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10690", value_parser = parse_address
    )]
    pub listen_address: String,
    /// Its --web.config.file, read only for whether TLS is on.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Its --web.route-prefix.
    #[arg(long = "web.route-prefix", value_name = "PATH", value_parser = parse_prefix, default_value = "/")]
    pub route_prefix: String,
    /// The log.
    #[command(flatten)]
    pub log: Log,
}

/// The flag of the configuration.
#[derive(Debug, Clone, Args)]
pub struct ConfigFile {
    /// Path of the configuration.
    #[arg(
        id = "config_file",
        long = "config.file",
        value_name = "FILE",
        default_value = DEFAULT_CONFIG
    )]
    pub path: PathBuf,
}

/// The flags of shards.
#[derive(Debug, Clone, Args)]
pub struct Shards {
    /// Which shard this exporter is: its ordinal, from 0, or a name that ends in it, such as that of
    /// the pod portraits-0. It polls and serves the apps of its shard only.
    #[arg(long = "shard", value_name = "[NAME-]ORDINAL", default_value = "0", value_parser = parse_ordinal)]
    pub ordinal: u32,
    /// Into how many shards the apps are divided, each for an exporter with the same configuration.
    #[arg(long = "total-shards", value_name = "NUMBER", requires = "ordinal", default_value_t = 1, value_parser = parse_total)]
    pub total: u32,
}

impl Shards {
    /// Returns the shard.
    ///
    /// # Errors
    ///
    /// There is no such shard, in a sentence.
    pub fn shard(&self) -> Result<Shard, String> {
        let Self { ordinal, total } = *self;
        Shard::new(ordinal, total).ok_or_else(|| match total {
            1 => format!("--shard {ordinal} needs --total-shards, the number of all shards"),
            _ => format!(
                "--shard {ordinal}: --total-shards {total} has the ordinals 0 to {}",
                total - 1
            ),
        })
    }
}

/// The flags of the web server.
#[derive(Debug, Clone, Args)]
pub struct Web {
    /// Address to listen on, `HOST:PORT` or `:PORT` for all; repeatable.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS",
        default_value = ":10690", value_parser = parse_address
    )]
    pub listen_address: Vec<String>,
    /// File with TLS, users and passwords, in the form of Prometheus' exporters.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,
    /// Maximum number of simultaneous connections; when there are more, the one that has been idle for longest
    /// is closed. Lowered if the limit on open files is too low.
    #[arg(
        long = "web.max-connections",
        value_name = "NUMBER",
        default_value_t = 512, value_parser = parse_connections
    )]
    pub max_connections: usize,
    /// URL under which browsers and Prometheus reach the exporter, if a proxy is in between; its path is
    /// the default of --web.route-prefix.
    #[arg(long = "web.external-url", value_name = "URL", value_parser = parse_external_url)]
    pub external_url: Option<Url>,
    /// Prefix of all paths, such as /wx; by default the path of --web.external-url. `/` for none, where the
    /// proxy removes it.
    #[arg(long = "web.route-prefix", value_name = "PATH", value_parser = parse_prefix)]
    pub route_prefix: Option<String>,
    /// Path under which metrics are exposed.
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = parse_telemetry_path)]
    pub telemetry_path: String,
}

impl Web {
    /// Returns where everything is.
    #[must_use]
    pub fn paths(&self) -> Paths {
        let of_url = || {
            let path = self.external_url.as_ref().map_or("", Url::path);
            path.trim_end_matches('/').to_owned()
        };
        Paths {
            prefix: self.route_prefix.clone().unwrap_or_else(of_url),
            telemetry: self.telemetry_path.clone(),
            external_url: self.external_url.clone(),
        }
    }
}

/// The flags of the log.
#[derive(Debug, Clone, Copy, Args)]
pub struct Log {
    /// Only log messages with this severity or above.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info")]
    pub level: LogLevel,
    /// Format of the log.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt")]
    pub format: LogFormat,
}

/// The severities of log messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens, such as an arriving portrait.
    Info,
    /// Problems that may resolve themselves.
    Warn,
    /// Problems that do not resolve themselves.
    Error,
}

/// The formats of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Keys and values on a line.
    Logfmt,
    /// A JSON object on a line.
    Json,
}

fn is_path(text: &str) -> bool {
    let is_of_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let is_segment = |segment: &str| segment != "." && segment != "..";
    text.starts_with('/')
        && text.bytes().all(is_of_path)
        && !text.contains("//")
        && text.split('/').all(is_segment)
}

fn parse_external_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && is_path(url.path())
    });
    url.ok_or_else(|| "expected a URL such as https://metrics.example.com/wx/".to_owned())
}

/// Returns the prefix without a slash at its end.
fn parse_prefix(text: &str) -> Result<String, String> {
    let text = format!("/{}", text.trim_matches('/'));
    if is_path(&text) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("expected a path such as /wx".to_owned())
    }
}

fn parse_telemetry_path(text: &str) -> Result<String, String> {
    if !is_path(text) {
        Err("expected a path such as /metrics".to_owned())
    } else if web::is_reserved(text) {
        Err("other pages have this path: choose another, such as /metrics".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn parse_ordinal(text: &str) -> Result<u32, String> {
    let ordinal = match text.rsplit_once('-') {
        Some(("", _)) => None,
        Some((_, ordinal)) => Some(ordinal),
        None => Some(text),
    };
    ordinal
        .filter(|ordinal| ordinal.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|ordinal| ordinal.parse().ok())
        .ok_or_else(|| "expected a whole number from 0, or a name such as portraits-0".to_owned())
}

fn parse_total(text: &str) -> Result<u32, String> {
    let total = text.parse().ok();
    total
        .filter(|total| (1..=1000).contains(total))
        .ok_or_else(|| "expected a whole number from 1 to 1000".to_owned())
}

fn parse_connections(text: &str) -> Result<usize, String> {
    let number = text.parse().ok();
    number
        .filter(|number| (1..=1_000_000).contains(number))
        .ok_or_else(|| "expected a whole number from 1 to 1000000".to_owned())
}

fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && !host.contains('/') => {
            Ok(text.to_owned())
        }
        _ => Err("expected HOST:PORT or :PORT, such as :10690".to_owned()),
    }
}

fn parse_day(text: &str) -> Result<NaiveDate, String> {
    // The archive compares days as text, so that a year must have four digits.
    let day = text.parse().ok();
    day.filter(|day: &NaiveDate| (0..=9999).contains(&day.year()))
        .ok_or_else(|| "expected a day such as 2026-11-01".to_owned())
}

fn parse_step(text: &str) -> Result<Duration, String> {
    let range = Duration::from_mins(1)..=Duration::from_hours(24);
    match humantime::parse_duration(text) {
        Ok(step) if range.contains(&step) && step.subsec_nanos() == 0 => Ok(step),
        _ => Err("expected whole seconds from 1m to 1d, such as 15m".to_owned()),
    }
}

fn parse_fault(text: &str) -> Result<(AppId, Fault), String> {
    let (appid, fault) = text
        .split_once('=')
        .ok_or("expected APPID=FAULT, such as wx0123456789abcdef=errcode=40164")?;
    Ok((
        appid
            .parse()
            .map_err(|error| format!("`{appid}` is {error}"))?,
        fault.parse()?,
    ))
}

fn parse_time(text: &str) -> Result<NaiveTime, String> {
    NaiveTime::parse_from_str(text, "%H:%M")
        .map_err(|_| "expected hours and minutes, such as 10:00".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::simulator;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_command() {
        let cli = Cli::parse_from(["x", "--config.file", "a.yml"]);
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.config.path, PathBuf::from("a.yml"));
        assert_eq!(cli.serve.web.listen_address, [":10690"]);
    }

    #[test]
    fn only_a_misspelled_flag_gets_a_suggestion() {
        let output = |flag: &str| {
            let arguments = ["wxapp-portrait-exporter", flag].map(OsString::from);
            parse(arguments).unwrap_err().to_string()
        };
        for (flag, suggested) in [
            ("--web.listen-adress=:1", "'--web.listen-address'"),
            ("--stroage.path=x", "'--storage.path'"),
            ("--config=x", "'--config.file'"),
        ] {
            assert!(output(flag).contains(suggested), "{flag}");
        }
        for flag in [
            "--storage.tsdb.path=x",
            "--config.reload",
            "--web.enable-lifecycle",
            "--web.read-timeout=5m",
        ] {
            let output = output(flag);
            let name = flag.split('=').next().unwrap();
            let flags = output.split_whitespace().filter(|word| word.contains("--"));
            let flags: Vec<&str> = flags.collect();
            assert_eq!(flags, [&format!("'{name}'"), "'--help'."], "{output}");
        }
    }

    #[test]
    fn a_shard_is_an_ordinal_or_a_name_that_ends_in_it() {
        for (text, ordinal) in [("0", 0), ("2", 2), ("wxapp-portrait-exporter-12", 12)] {
            assert_eq!(parse_ordinal(text), Ok(ordinal), "{text}");
        }
        for bad in [
            "",
            "a",
            "a-",
            "a1",
            "-1",
            "+1",
            "a-+1",
            "1.0",
            "99999999999",
        ] {
            assert!(parse_ordinal(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_number_of_shards_is_not_taken_for_that_of_the_first() {
        let parse = |flags: &[&str]| Cli::try_parse_from(std::iter::once(&"x").chain(flags));
        assert!(parse(&["--total-shards=3"]).is_err());
        assert!(parse(&["--total-shards=3", "--shard=0"]).is_ok());
        assert!(parse(&[]).is_ok());
    }

    #[test]
    fn a_url_is_not_an_address() {
        for bad in ["http://localhost:10690", "10690", "localhost", ":http"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
        assert!(parse_address("[::1]:10690").is_ok());
    }

    #[test]
    fn a_day_has_a_year_of_four_digits() {
        assert!(parse_day("2026-11-01").is_ok());
        assert!(parse_day("9999-12-31").is_ok());
        for bad in ["+262142-12-31", "10000-01-01", "-0001-01-01", "20261101"] {
            assert!(parse_day(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_telemetry_path_is_not_a_reserved_path() {
        for bad in [
            "metrics",
            "/probe",
            "/a b",
            "/{x}",
            "",
            "/apps/wx1",
            "/assets/",
        ] {
            assert!(parse_telemetry_path(bad).is_err(), "{bad}");
        }
        assert!(parse_telemetry_path("/internal/metrics").is_ok());
        assert!(parse_telemetry_path("/apps").is_ok());
    }

    #[test]
    fn the_help_describes_how_the_simulated_cloud_function_is_called() {
        let mut cli = Cli::command();
        let simulate = cli.find_subcommand_mut("simulate").unwrap();
        let help = simulate.render_long_help().to_string();
        for name in [simulator::FUNCTION_ENV, simulator::FUNCTION_NAME] {
            assert!(help.contains(&format!("`{name}`")), "{help}");
        }
    }

    #[test]
    fn a_fault_belongs_to_an_app() {
        assert!(parse_fault("wx0123456789abcdef=token:errcode=40164*2").is_ok());
        assert!(parse_fault("errcode40164").is_err());
    }
}
