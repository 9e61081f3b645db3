//! The simulated WeChat, for `demo`, `simulate` and the tests.
//!
//! Answers as the real one does, its bad manners included, with figures drawn from hashes: the
//! same app has the same users on the same day, whoever asks. Imports none of the rooms that it
//! is there to try.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::calendar;
use crate::portrait::{AppId, Window};

mod audience;
mod dice;
mod event;
mod fault;
mod function;
mod market;
mod refusal;
mod routes;
mod tokens;

pub use event::Event;
pub use fault::Fault;
pub use function::{FUNCTION_ENV, FUNCTION_NAME};
pub use routes::{create_app, run};

use audience::Answer;
use tokens::{Parameter, Tokens};

/// Stands in the counts for requests that cannot be told to belong to an app.
pub const UNKNOWN_APP: &str = "(unknown)";

/// Whom and what to simulate.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The apps that exist.
    pub apps: Vec<App>,
    /// Days out of the ordinary.
    pub events: Vec<Event>,
    /// What goes wrong from the start.
    pub faults: Vec<(AppId, Fault)>,
    /// From this Beijing time on yesterday's figures are there.
    pub ready_at: NaiveTime,
    /// From this Beijing time on they no longer change.
    pub final_at: NaiveTime,
    /// How long a new token works.
    pub token_life: Duration,
    /// The app in whose cloud hosting the requests for portraits are made that carry no token.
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

    /// Fails with a sentence that says what would be right.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (appid, users) = text.split_once('=').unwrap_or((text, "10000"));
        Ok(Self {
            appid: appid
                .parse()
                .map_err(|error| format!("`{appid}` is {error}"))?,
            users: users.parse().map_err(|_| {
                format!("`{users}` is no number of users: expected one such as {appid}=10000")
            })?,
        })
    }
}

/// The endpoints that can be made to fail, and whose requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Endpoint {
    Token,
    Portrait,
    Function,
}

/// How often an app was asked for, refused requests included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// At the endpoints that give tokens.
    pub token: u64,
    /// For portraits, those by cloud functions included.
    pub portrait: u64,
    /// For running a cloud function.
    pub function: u64,
}

/// The simulated WeChat: its apps, the tokens it gave out, and what it is to do wrong.
pub struct Simulator {
    apps: HashMap<AppId, App>,
    settings: Settings,
    now: Box<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tokens: Tokens,
    faults: HashMap<(AppId, Endpoint), Fault>,
    requests: BTreeMap<String, Requests>,
    ids: u64,
}

impl Simulator {
    /// Starts a WeChat whose clock is `now`.
    pub fn new(
        settings: Settings,
        now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let simulator = Self {
            apps: settings
                .apps
                .iter()
                .map(|app| (app.appid.clone(), app.clone()))
                .collect(),
            settings,
            now: Box::new(now),
            state: Mutex::default(),
        };
        for (appid, fault) in &simulator.settings.faults {
            simulator.set_fault(appid, fault.clone());
        }
        Arc::new(simulator)
    }

    /// Answers the figures of the window that ends on `reference_date` as the portrait endpoint
    /// does once they are final, or nothing for an app that does not exist.
    #[must_use]
    pub fn answer(
        &self,
        appid: &AppId,
        window: Window,
        reference_date: NaiveDate,
    ) -> Option<Value> {
        let app = self.apps.get(appid)?;
        Some(json!(self.figures(app, window, reference_date)))
    }

    /// Makes an endpoint of the app misbehave, instead of the way it did before.
    pub fn set_fault(&self, appid: &AppId, fault: Fault) {
        let key = (appid.clone(), fault.endpoint);
        self.state().faults.insert(key, fault);
    }

    /// Makes all endpoints of the app behave again.
    pub fn clear_faults(&self, appid: &AppId) {
        self.state().faults.retain(|(app, _), _| app != appid);
    }

    /// Gives out another token of cloud hosting, as stands in the token file of a container.
    #[must_use]
    pub fn cloudbase_token(&self, appid: &AppId) -> String {
        let now = (self.now)();
        self.state().tokens.cloudbase(appid, now)
    }

    /// Answers every token ever given out, in no order: none may be found in a log or on a page.
    #[must_use]
    pub fn issued_tokens(&self) -> Vec<String> {
        self.state().tokens.all()
    }

    /// Answers how often each app was asked for; [`UNKNOWN_APP`] holds the rest.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, Requests> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self, app: &App, window: Window, reference_date: NaiveDate) -> Answer {
        audience::answer(app, &self.settings.events, window, reference_date)
    }

    fn token_life(&self) -> TimeDelta {
        TimeDelta::from_std(self.settings.token_life).unwrap_or(TimeDelta::days(365))
    }

    /// Counts a request, and answers what is to go wrong with it.
    fn strike(&self, appid: Option<&AppId>, endpoint: Endpoint) -> Option<fault::Kind> {
        let appid = appid.filter(|appid| self.apps.contains_key(appid));
        let mut state = self.state();
        let name = appid.map_or(UNKNOWN_APP, AppId::as_str).to_owned();
        let requests = state.requests.entry(name).or_default();
        match endpoint {
            Endpoint::Token => requests.token += 1,
            Endpoint::Portrait => requests.portrait += 1,
            Endpoint::Function => requests.function += 1,
        }
        let key = (appid?.clone(), endpoint);
        let fault = state.faults.get_mut(&key)?;
        let kind = fault.kind.clone();
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                state.faults.remove(&key);
            }
        }
        Some(kind)
    }

    /// Answers an id that no other request has.
    fn request_id(&self) -> String {
        let mut state = self.state();
        state.ids += 1;
        refusal::request_id((self.now)(), state.ids)
    }

    /// Checks who asks for a token.
    fn authenticate(&self, grant_type: &str, appid: &str, secret: &str) -> Result<AppId, i64> {
        if grant_type != "client_credential" {
            return Err(40002);
        }
        if appid.is_empty() {
            return Err(41002);
        }
        if secret.is_empty() {
            return Err(41004);
        }
        let appid: AppId = appid.parse().map_err(|_| 40013)?;
        if !self.apps.contains_key(&appid) {
            return Err(40013);
        }
        if secret != secret_of(&appid) {
            return Err(40125);
        }
        Ok(appid)
    }

    /// Answers a request for the stable token.
    fn stable_token(&self, request: &Map<String, Value>) -> Result<String, i64> {
        let text = |key| request.get(key).and_then(Value::as_str).unwrap_or_default();
        let appid = self.authenticate(text("grant_type"), text("appid"), text("secret"))?;
        let refresh = request.get("force_refresh").and_then(Value::as_bool);
        Ok(token_answer(self.stable(&appid, refresh.unwrap_or(false))))
    }

    /// Answers the app's stable token and the seconds it lives.
    fn stable(&self, appid: &AppId, refresh: bool) -> (String, i64) {
        let (now, life) = ((self.now)(), self.token_life());
        self.state().tokens.stable(appid, now, life, refresh)
    }

    /// Answers a request for a token of the old way.
    fn old_token(&self, request: &HashMap<String, String>) -> Result<String, i64> {
        let text = |key| request.get(key).map(String::as_str).unwrap_or_default();
        let appid = self.authenticate(text("grant_type"), text("appid"), text("secret"))?;
        let now = (self.now)();
        Ok(token_answer(self.state().tokens.old(
            &appid,
            now,
            self.token_life(),
        )))
    }

    /// Answers whose token a request carries.
    fn asker(&self, token: Option<(Parameter, &str)>) -> Result<AppId, i64> {
        let token = token.filter(|(_, token)| !token.is_empty()).ok_or(41001)?;
        let now = (self.now)();
        self.state().tokens.check(token, now)
    }

    /// Answers an app's request for a portrait: the figures, and what they were asked for.
    fn portrait(&self, appid: &AppId, body: &[u8]) -> Result<(Answer, Window, NaiveDate), i64> {
        let now = (self.now)();
        let (window, end) = asked_window(body)?;
        let yesterday = calendar::yesterday(now);
        if end != yesterday && end != calendar::before(yesterday, 1) {
            return Err(61501);
        }
        let app = self.apps.get(appid).ok_or(40013)?;
        let time = calendar::in_beijing(now).time();
        let is_early = |from: NaiveTime| end == yesterday && time < from;
        let answer = if is_early(self.settings.ready_at) {
            if dice::hash("early", appid.as_str()).is_multiple_of(2) {
                return Err(61503);
            }
            Answer::empty(window, end)
        } else {
            let mut answer = self.figures(app, window, end);
            if is_early(self.settings.final_at) {
                answer.scale(0.97);
            }
            answer
        };
        Ok((answer, window, end))
    }
}

fn token_answer((token, seconds): (String, i64)) -> String {
    written(&json!({"access_token": token, "expires_in": seconds}))
}

/// Writes down what cannot fail to be written: only texts are keys.
fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Reads a JSON object as WeChat does: an empty body and a broken one have their own errcodes.
fn object(body: &[u8]) -> Result<Map<String, Value>, i64> {
    if body.is_empty() {
        return Err(44002);
    }
    serde_json::from_slice(body).map_err(|_| 47001)
}

/// Reads which window is asked for.
fn asked_window(body: &[u8]) -> Result<(Window, NaiveDate), i64> {
    if body.starts_with(b"begin_date=") || body.starts_with(b"end_date=") {
        return Err(61500);
    }
    let request = object(body)?;
    let date = |key| {
        let text = request.get(key).and_then(Value::as_str);
        // `%m` would take a single digit too.
        let text = text.filter(|text| text.len() == 8);
        text.and_then(|text| NaiveDate::parse_from_str(text, "%Y%m%d").ok())
            .ok_or(61500)
    };
    let (begin, end) = (date("begin_date")?, date("end_date")?);
    Window::ALL
        .into_iter()
        .find(|window| calendar::range(*window, end) == (begin, end))
        .map(|window| (window, end))
        .ok_or(61500)
}

/// Answers the AppSecret of a simulated app: 32 hex digits that follow from the appid, so that
/// nobody has to be told. It guards nothing.
#[must_use]
pub fn secret_of(appid: &AppId) -> String {
    let half = |purpose| dice::hash(purpose, appid.as_str());
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
    fn a_secret_looks_like_one_and_is_the_app_s_own() {
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

    #[test]
    fn an_unknown_app_has_no_figures() {
        let settings = Settings {
            apps: vec!["wx1".parse().unwrap()],
            ..Settings::default()
        };
        let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
        let day = "2026-11-20".parse().unwrap();
        let answer = |appid: &str| simulator.answer(&appid.parse().unwrap(), Window::OneDay, day);
        assert_eq!(answer("wx1").unwrap()["ref_date"], "20261120");
        assert_eq!(answer("wx2"), None);
    }

    #[test]
    fn only_three_spans_in_one_format_are_understood() {
        let asked = |begin: &str, end: &str| {
            asked_window(
                json!({"begin_date": begin, "end_date": end})
                    .to_string()
                    .as_bytes(),
            )
        };
        let end: NaiveDate = "2026-11-20".parse().unwrap();
        assert_eq!(asked("20261120", "20261120"), Ok((Window::OneDay, end)));
        assert_eq!(asked("20261114", "20261120"), Ok((Window::SevenDays, end)));
        assert_eq!(asked("20261022", "20261120"), Ok((Window::ThirtyDays, end)));
        for (begin, end) in [
            ("20261119", "20261120"),
            ("20261121", "20261120"),
            ("2026-11-20", "2026-11-20"),
            ("2026111", "2026111"),
            ("", ""),
        ] {
            assert_eq!(asked(begin, end), Err(61500));
        }
        for (body, errcode) in [
            ("", 44002),
            ("{", 47001),
            ("[]", 47001),
            ("{}", 61500),
            (r#"{"begin_date":20261120,"end_date":20261120}"#, 61500),
            ("begin_date=20261120&end_date=20261120", 61500),
        ] {
            assert_eq!(asked_window(body.as_bytes()), Err(errcode), "{body}");
        }
    }
}
