//! What is simulated: the apps that exist, and how the simulated WeChat behaves.
//!
//! Values only; events and faults have files of their own.

use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveTime;

use super::events::Event;
use super::faults::Fault;
use super::random;
use crate::portrait::AppId;

/// Which apps are simulated, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The apps that exist.
    pub apps: Vec<App>,
    /// Changes of single days.
    pub events: Vec<Event>,
    /// The faults from the start.
    pub faults: Vec<(AppId, Fault)>,
    /// From this Beijing time on WeChat has yesterday's figures.
    pub ready_at: NaiveTime,
    /// From this Beijing time on they no longer change.
    pub final_at: NaiveTime,
    /// How long a new token works.
    pub token_life: Duration,
    /// The app whose cloud hosting sends the requests for portraits without a token.
    pub cloud_hosting: Option<AppId>,
    /// How long a cloud function may run.
    pub function_limit: Duration,
}

impl Default for Settings {
    /// No apps, figures ready and final from midnight on, tokens of two hours, no cloud hosting,
    /// functions that may run five seconds.
    fn default() -> Self {
        Self {
            apps: Vec::new(),
            events: Vec::new(),
            faults: Vec::new(),
            ready_at: NaiveTime::MIN,
            final_at: NaiveTime::MIN,
            token_life: Duration::from_hours(2),
            cloud_hosting: None,
            function_limit: Duration::from_secs(5),
        }
    }
}

/// A mini program that exists in the simulation.
///
/// Written `APPID` or `APPID=USERS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Its identifier.
    pub appid: AppId,
    /// Its active users on an average day.
    pub users: u64,
}

impl FromStr for App {
    type Err = String;

    /// Fails with a sentence that describes the valid form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (appid, users) = text.split_once('=').unwrap_or((text, "10000"));
        Ok(Self {
            appid: appid
                .parse()
                .map_err(|error| format!("`{appid}` is {error}"))?,
            users: users.parse().map_err(|_| {
                format!("`{users}` is not a number of users: expected one such as {appid}=10000")
            })?,
        })
    }
}

/// Returns the AppSecret of a simulated app: 32 hex digits that follow from the appid, so that it
/// need not be stored. It protects nothing.
#[must_use]
pub fn secret_of(appid: &AppId) -> String {
    let half = |purpose| random::hash(purpose, appid.as_str());
    format!("{:016x}{:016x}", half("secret"), half("more secret"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_is_read() {
        let app: App = "wx1".parse().unwrap();
        assert_eq!((app.appid.as_str(), app.users), ("wx1", 10_000));
        assert_eq!("wx1=25".parse::<App>().unwrap().users, 25);
        let error = "wx1=many".parse::<App>().unwrap_err();
        assert!(error.contains("such as wx1=10000"), "{error}");
        let error = "w x".parse::<App>().unwrap_err();
        assert!(error.contains("such as wx0123456789abcdef"), "{error}");
    }

    #[test]
    fn a_secret_looks_like_one_and_is_unique_to_its_app() {
        let secret = |appid: &str| secret_of(&appid.parse().unwrap());
        assert_eq!(secret("wx1"), secret("wx1"));
        assert_ne!(secret("wx1"), secret("wx2"));
        assert_eq!(secret("wx1").len(), 32);
        assert!(
            secret("wx1")
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        );
    }
}
