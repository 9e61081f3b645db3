//! The simulated WeChat itself: who may have a token or a portrait, and with which errcode the
//! others are refused.
//!
//! Does not depend on HTTP: requests are parsed parameters and bodies.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bodies::{requested_window, token_response};
use super::faults::{self, Endpoint, Fault};
use super::figures::Figures;
use super::settings::{App, Settings, secret_of};
use super::tokens::{Parameter, Tokens};
use super::{profile, random, refusal};
use crate::calendar;
use crate::portrait::{AppId, Window};

/// The name in [`Simulator::requests`] for requests that do not belong to an app.
pub const UNKNOWN_APP: &str = "(unknown)";

/// The number of requests for an app, refused ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// For tokens.
    pub token: u64,
    /// For portraits, those by cloud functions included.
    pub portrait: u64,
    /// For running a cloud function.
    pub function: u64,
}

/// The simulated WeChat: its apps, the tokens that it has issued, and its faults.
pub struct Simulator {
    pub(super) apps: HashMap<AppId, App>,
    pub(super) settings: Settings,
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
    /// Returns a WeChat whose clock is `now`.
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

    /// Returns the figures of the window that ends on `reference_date` as the portrait endpoint
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

    /// Sets the fault of an endpoint of the app, instead of the one before.
    pub fn set_fault(&self, appid: &AppId, fault: Fault) {
        let key = (appid.clone(), fault.endpoint);
        self.state().faults.insert(key, fault);
    }

    /// Clears the faults of all endpoints of the app.
    pub fn clear_faults(&self, appid: &AppId) {
        self.state().faults.retain(|(app, _), _| app != appid);
    }

    /// Issues another token of cloud hosting, as in the token file of a container.
    #[must_use]
    pub fn cloudbase_token(&self, appid: &AppId) -> String {
        let now = (self.now)();
        self.state().tokens.cloudbase(appid, now)
    }

    /// Returns every token ever issued, in no particular order: none may be found in a log or on a page.
    #[must_use]
    pub fn issued_tokens(&self) -> Vec<String> {
        self.state().tokens.all()
    }

    /// Returns the number of requests by app; those without one are under [`UNKNOWN_APP`].
    #[must_use]
    pub fn requests(&self) -> BTreeMap<String, Requests> {
        self.state().requests.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn figures(&self, app: &App, window: Window, reference_date: NaiveDate) -> Figures {
        profile::figures(app, &self.settings.events, window, reference_date)
    }

    fn token_life(&self) -> TimeDelta {
        TimeDelta::from_std(self.settings.token_life).unwrap_or(TimeDelta::days(365))
    }

    /// Counts a request, and returns the fault that applies to it.
    pub(super) fn take_fault(
        &self,
        appid: Option<&AppId>,
        endpoint: Endpoint,
    ) -> Option<faults::Kind> {
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

    /// Returns an id that no other request has.
    pub(super) fn request_id(&self) -> String {
        let mut state = self.state();
        state.ids += 1;
        refusal::request_id((self.now)(), state.ids)
    }

    /// Returns whose credentials a request for a token has.
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

    /// Returns the response to a request for the stable token.
    pub(super) fn stable_token(&self, request: &Map<String, Value>) -> Result<String, i64> {
        let text = |key| request.get(key).and_then(Value::as_str).unwrap_or_default();
        let appid = self.authenticate(text("grant_type"), text("appid"), text("secret"))?;
        let refresh = request.get("force_refresh").and_then(Value::as_bool);
        Ok(token_response(
            self.stable(&appid, refresh.unwrap_or(false)),
        ))
    }

    /// Returns the app's stable token and the seconds until it expires.
    pub(super) fn stable(&self, appid: &AppId, refresh: bool) -> (String, i64) {
        let (now, life) = ((self.now)(), self.token_life());
        self.state().tokens.stable(appid, now, life, refresh)
    }

    /// Returns the response of `cgi-bin/token`.
    pub(super) fn legacy_token(&self, request: &HashMap<String, String>) -> Result<String, i64> {
        let text = |key| request.get(key).map(String::as_str).unwrap_or_default();
        let appid = self.authenticate(text("grant_type"), text("appid"), text("secret"))?;
        let now = (self.now)();
        Ok(token_response(self.state().tokens.legacy(
            &appid,
            now,
            self.token_life(),
        )))
    }

    /// Returns whose token it is or was.
    pub(super) fn token_owner(&self, token: &str) -> Option<AppId> {
        self.state().tokens.owner(token).cloned()
    }

    /// Returns whose valid token a request has.
    pub(super) fn authorize(&self, token: Option<(Parameter, &str)>) -> Result<AppId, i64> {
        let token = token.filter(|(_, token)| !token.is_empty()).ok_or(41001)?;
        let now = (self.now)();
        self.state().tokens.check(token, now)
    }

    /// Returns the figures that an app requests, and their window and its last day.
    pub(super) fn portrait(
        &self,
        appid: &AppId,
        body: &[u8],
    ) -> Result<(Figures, Window, NaiveDate), i64> {
        let now = (self.now)();
        let (window, end) = requested_window(body)?;
        let yesterday = calendar::yesterday(now);
        if !(calendar::oldest_queryable(now)..=yesterday).contains(&end) {
            return Err(61501);
        }
        let app = self.apps.get(appid).ok_or(40013)?;
        let time = calendar::in_beijing(now).time();
        let is_early = |from: NaiveTime| end == yesterday && time < from;
        let figures = if is_early(self.settings.ready_at) {
            if random::hash("early", appid.as_str()).is_multiple_of(2) {
                return Err(61503);
            }
            Figures::empty(window, end)
        } else {
            let mut figures = self.figures(app, window, end);
            if is_early(self.settings.final_at) {
                figures.scale(0.97);
            }
            figures
        };
        Ok((figures, window, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
