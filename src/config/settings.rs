//! Checked settings, and their defaults.
//!
//! Values only: does not depend on the files that they come from or on their users.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use url::Url;

use super::access::{AccessMethod, PrivateUrl};
use crate::archive::Database;
use crate::calendar::Holidays;
use crate::portrait::{AppId, Dimension, Window};

/// Checked settings, with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory of the main file, which the paths in it are relative to.
    pub directory: PathBuf,
    /// How WeChat is reached.
    pub wechat: WeChat,
    /// When it is polled.
    pub poll: Poll,
    /// Where days are archived, and for how long.
    pub archive: Archive,
    /// How far the newest portrait may lie behind yesterday before its users series are removed.
    pub stale_after: Duration,
    /// Every app, in the order of the files; never empty, appids are unique.
    pub apps: Vec<App>,
    /// Sentences about what is allowed but looks like a mistake.
    pub warnings: Vec<String>,
    /// Sentences about secrets, files and programs that can't be used now: their apps fail, the others
    /// are served.
    pub app_problems: Vec<String>,
    /// The variables of the environment that `secret_env` and `postgres_url_env` name.
    pub secret_variables: Vec<String>,
}

/// How WeChat is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct WeChat {
    /// Scheme and host, optionally a path; each ends with a slash. The first that can be reached is
    /// used; never empty.
    pub base_urls: Vec<Url>,
    /// Of one request, from the connection to the last byte.
    pub timeout: Duration,
    /// The proxy for requests to WeChat, instead of those of the environment.
    pub proxy_url: Option<PrivateUrl>,
    /// Certificates in PEM that are trusted in addition to those of the system.
    pub ca: Option<Vec<u8>>,
    /// The file that they were read from.
    pub ca_file: Option<PathBuf>,
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
            ca_file: None,
        }
    }
}

/// When WeChat is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poll {
    /// The time between two polls of an app with a day that is due.
    pub interval: Duration,
    /// How many requests may be in flight at once to WeChat, and to each other host.
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

/// Where days are archived, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Archive {
    /// How long archived days are kept.
    pub retention: Duration,
    /// The database that they are in, if it is one of PostgreSQL.
    pub postgres: Option<Postgres>,
}

/// A PostgreSQL database, and where its URL comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Postgres {
    /// The source of the URL.
    pub source: UrlSource,
    /// The database.
    pub database: Database,
}

/// Where a URL with a password in it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlSource {
    /// A file that contains it.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl UrlSource {
    /// Returns the key of the configuration that names it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "archive.postgres_url_file",
            Self::Variable(_) => "archive.postgres_url_env",
        }
    }
}

/// The default of [`Archive::retention`].
pub const RETENTION: Duration = Duration::from_hours(400 * 24);

/// The default of [`Config::stale_after`].
pub const STALE_AFTER: Duration = Duration::from_hours(3 * 24);

/// One mini program.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Its identifier at WeChat.
    pub appid: AppId,
    /// Its name for people; the appid unless configured.
    pub name: String,
    /// Labels of its `wxapp_portrait_app_info` besides the appid and the name.
    pub labels: BTreeMap<String, String>,
    /// How its portraits are accessed.
    pub access: AccessMethod,
    /// Which windows are polled; never empty.
    pub windows: Vec<Window>,
    /// Which dimensions are on the page; never empty.
    pub dimensions: Vec<Dimension>,
    /// How many names of a dimension are shown, and the rest added up; no entry, no limit.
    pub top_names: BTreeMap<Dimension, usize>,
    /// Which past days are on the page besides the newest.
    pub past: Past,
    /// Which changes are a swing.
    pub swing: Swing,
    /// Which of its days are holidays.
    pub holidays: Holidays,
    /// The files of years that they were read from, as patterns.
    pub holiday_files: Vec<PathBuf>,
}

impl App {
    /// Returns an app with the defaults of everything else.
    #[must_use]
    pub fn new(appid: AppId, access: AccessMethod) -> Self {
        Self {
            name: appid.to_string(),
            appid,
            labels: BTreeMap::new(),
            access,
            windows: vec![Window::OneDay],
            dimensions: Dimension::ALL.to_vec(),
            top_names: BTreeMap::new(),
            past: Past::default(),
            swing: Swing::default(),
            holidays: Holidays::china(),
            holiday_files: Vec::new(),
        }
    }
}

/// A year whose holidays are not known, although it has begun or will within a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingHolidays {
    /// The first such year.
    pub year: i32,
    /// How many apps it affects.
    pub apps: usize,
}

impl MissingHolidays {
    /// What an operator can do about it.
    const HINT: &str =
        "add the file of that year to `holidays.files` once the State Council has announced it";

    /// Returns the first year that any of these apps lacks on `today`.
    pub fn of<'a>(apps: impl IntoIterator<Item = &'a App>, today: NaiveDate) -> Option<Self> {
        let mut years = BTreeMap::new();
        for app in apps {
            if let Some(year) = app.holidays.missing_year(today) {
                *years.entry(year).or_default() += 1;
            }
        }
        let (year, apps) = years.pop_first()?;
        Some(Self { year, apps })
    }

    /// Logs it.
    pub fn log(self) {
        let Self { year, apps } = self;
        let hint = Self::HINT;
        tracing::warn!(year, apps, hint, "holidays are not known");
    }
}

impl fmt::Display for MissingHolidays {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, apps } = self;
        let hint = Self::HINT;
        write!(
            formatter,
            "holidays of {year} are not known (apps: {apps}): {hint}"
        )
    }
}

/// Which past days are on the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// In these dimensions, as far as the app shows them.
    pub dimensions: Vec<Dimension>,
    /// How many days before the reference date, from 1 to [`crate::past::PAST_DAYS`]; may be empty.
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

/// Which changes are a swing, see [`crate::expectation`].
///
/// With the defaults false alarms were measured to be rare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swing {
    /// The smallest fall that can be a swing, as a share of the users, from 0.01 to 0.99; for a rise, the
    /// fall that would reverse it.
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

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn the_first_year_that_is_missing_is_reported_with_its_apps() {
        let app = |number: usize, holidays: Holidays| App {
            holidays,
            ..App::new(
                format!("wx{number:016x}").parse().unwrap(),
                AccessMethod::of_secret(SecretString::from("secret")),
            )
        };
        let later =
            r#"{"year": 2099, "days": [{"name": "元旦", "date": "2099-01-01", "isOffDay": true}]}"#;
        let later = Holidays::china_with([later.parse().unwrap()]);
        let apps = [
            app(0, Holidays::none()),
            app(1, later),
            app(2, Holidays::china()),
            app(3, Holidays::china()),
        ];
        let missing = |apps: &[App], day: &str| MissingHolidays::of(apps, day.parse().unwrap());
        assert_eq!(missing(&apps, "2026-11-30"), None);
        assert_eq!(missing(&apps[..1], "2099-12-31"), None);
        let found = missing(&apps, "2099-12-01").unwrap();
        assert_eq!((found.year, found.apps), (2099, 2));
        assert_eq!(
            found.to_string(),
            "holidays of 2099 are not known (apps: 2): add the file of that year to \
             `holidays.files` once the State Council has announced it"
        );
        let found = missing(&apps[..2], "2099-12-01").unwrap();
        assert_eq!((found.year, found.apps), (2100, 1));
    }
}
