//! Events: changes of the users of an app on single days, for alert rules to detect.
//!
//! Only what an event is and how it is written; its effect on the figures is up to
//! `profile`.

use std::str::FromStr;

use chrono::NaiveDate;

use super::catalog::CATALOG;
use crate::portrait::{AppId, Cohort, Dimension};

/// A swing on one Beijing day: of a name, of a cohort or of all users, for one app or all.
///
/// Written `[APPID@]DAY:SELECTOR:FACTOR`, such as `2026-11-20:platform=iPhone:0.4`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub(super) app: Option<AppId>,
    pub(super) day: NaiveDate,
    pub(super) selector: Selector,
    pub(super) factor: f64,
}

/// Which users an event changes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Selector {
    All,
    Cohort(Cohort),
    Name(Dimension, String),
}

impl Event {
    /// Returns the app that it is limited to.
    #[must_use]
    pub fn app(&self) -> Option<&AppId> {
        self.app.as_ref()
    }
}

impl FromStr for Event {
    type Err = String;

    /// Fails with a sentence that describes the valid form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (app, rest) = match text.split_once('@') {
            Some((app, rest)) => {
                let app = app.parse().map_err(|error| format!("`{app}` is {error}"))?;
                (Some(app), rest)
            }
            None => (None, text),
        };
        let mut parts = rest.splitn(3, ':');
        let (Some(day), Some(selector), Some(factor)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(format!(
                "`{text}` is not an event: expected [APPID@]DAY:SELECTOR:FACTOR, such as 2026-11-20:platform=iPhone:0.4"
            ));
        };
        Ok(Self {
            app,
            day: day
                .parse()
                .map_err(|_| format!("`{day}` is not a day: expected one such as 2026-11-20"))?,
            selector: selector.parse()?,
            factor: factor
                .parse()
                .ok()
                .filter(|factor: &f64| factor.is_finite() && *factor >= 0.0)
                .ok_or_else(|| {
                    format!("`{factor}` is not a factor: expected a number from 0 on, such as 0.4")
                })?,
        })
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => return Ok(Self::All),
            "new" => return Ok(Self::Cohort(Cohort::New)),
            "active" => return Ok(Self::Cohort(Cohort::Active)),
            _ => {}
        }
        let (dimension, name) = text.split_once('=').ok_or_else(|| {
            format!("`{text}` selects no users: expected all, new, active, or a name such as platform=iPhone")
        })?;
        let dimension: Dimension = dimension.parse()?;
        let known = CATALOG.entries(dimension);
        if known.iter().any(|entry| entry.name == name) {
            return Ok(Self::Name(dimension, name.to_owned()));
        }
        let examples: Vec<&str> = known.iter().take(7).map(|entry| entry.name).collect();
        Err(format!(
            "there is no {dimension} `{name}`: names are spelled as in {}",
            examples.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read() {
        let event: Event = "wx1@2026-11-20:platform=iPhone:0.4".parse().unwrap();
        assert_eq!(event.app.unwrap().as_str(), "wx1");
        assert_eq!(event.day.to_string(), "2026-11-20");
        assert_eq!(
            event.selector,
            Selector::Name(Dimension::Platform, "iPhone".to_owned())
        );
        let event: Event = "2026-11-20:new:3".parse().unwrap();
        assert_eq!(event.selector, Selector::Cohort(Cohort::New));
        assert_eq!(event.app, None);
    }

    #[test]
    fn an_invalid_event_is_reported_with_the_valid_form() {
        for (text, says) in [
            ("2026-11-20", "expected [APPID@]DAY:SELECTOR:FACTOR"),
            ("a b@2026-11-20:all:2", "`a b` is not an appid"),
            ("20.11.:all:2", "such as 2026-11-20"),
            ("2026-11-20:some:2", "expected all, new, active"),
            ("2026-11-20:town=广州:2", "expected one of province, city"),
            ("2026-11-20:platform=ios:2", "iPhone, Android, 其他"),
            ("2026-11-20:all:-1", "a number from 0 on"),
            ("2026-11-20:all:inf", "a number from 0 on"),
        ] {
            let error = text.parse::<Event>().unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
