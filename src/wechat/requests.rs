//! The bodies of requests, to WeChat and to programs that request portraits from it for us.
//!
//! Pure: values in, JSON out. Does not depend on hosts or tokens.

use chrono::NaiveDate;
use serde_json::{Value, json};

use crate::calendar;
use crate::portrait::{AppId, Window, string_enum};

string_enum! {
    /// Which part of WeChat's API a request went to.
    Endpoint, "endpoint" {
        /// The user portrait.
        Portrait = "portrait",
        /// Tokens.
        Token = "token",
        /// A cloud function that requests the portrait.
        Function = "function",
    }
}

/// The portrait that a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) window: Window,
    /// The last Beijing day of the window.
    pub(super) day: NaiveDate,
}

/// Returns the body of a request for the token that all users of `stable_token` share.
pub(super) fn stable_token(appid: &AppId, secret: &str) -> Value {
    json!({
        "grant_type": "client_credential",
        "appid": appid,
        "secret": secret,
        // True would revoke the token of every other program.
        "force_refresh": false,
    })
}

/// Returns the body of a request for a portrait.
pub(super) fn portrait(wanted: Wanted) -> Value {
    let (begin, end) = calendar::range(wanted.window, wanted.day);
    json!({ "begin_date": compact(begin), "end_date": compact(end) })
}

/// Returns the body of a request to a cloud function or a `portrait_url`: both spellings, so that it
/// can pass on either.
pub(super) fn function_event(wanted: Wanted) -> Value {
    let mut event = portrait(wanted);
    event["beginDate"] = event["begin_date"].clone();
    event["endDate"] = event["end_date"].clone();
    event
}

/// Returns a day as WeChat writes it.
pub(super) fn compact(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_names_the_first_and_the_last_day() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        for (window, begin) in [
            (Window::OneDay, "20261121"),
            (Window::SevenDays, "20261115"),
            (Window::ThirtyDays, "20261023"),
        ] {
            assert_eq!(
                portrait(Wanted { window, day }),
                json!({"begin_date": begin, "end_date": "20261121"})
            );
        }
    }
}
