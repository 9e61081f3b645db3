//! The user's cloud function: what it is called with, and what it returns.
//!
//! Simulates the function of the documentation, which requests a portrait and returns the response, or
//! the error that it caught. Knows neither who calls it nor which fault applies.

use serde::Deserialize;

use super::bodies::to_json;
use super::refusal::Refusal;

/// Names the environment in which the simulated cloud function runs.
pub const FUNCTION_ENV: &str = "sim-1a2b";

/// Names the simulated cloud function.
pub const FUNCTION_NAME: &str = "portrait";

/// What WeChat reports about a function that did not catch an error.
pub(super) const THROWN: &str = r#"{"errorCode":1,"errorMessage":"user code exception caught"}"#;

/// How a function spells the keys of a portrait.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Spelling {
    #[default]
    Camel,
    Snake,
}

impl Spelling {
    /// Changes the spelling of a response of the portrait endpoint, and adds an errcode of 0.
    pub(super) fn respell(self, response: &str) -> String {
        let open = response.strip_suffix('}').unwrap_or(response);
        let (open, errcode, errmsg) = match self {
            Self::Camel => {
                let open = open
                    .replace(r#""ref_date":"#, r#""refDate":"#)
                    .replace(r#""visit_uv_new":"#, r#""visitUvNew":"#)
                    .replace(r#""visit_uv":"#, r#""visitUv":"#);
                (open, "errCode", "errMsg")
            }
            Self::Snake => (open.to_owned(), "errcode", "errmsg"),
        };
        format!(r#"{open},"{errmsg}":"openapi.analysis.getUserPortrait:ok","{errcode}":0}}"#)
    }
}

/// The envelopes that users put around the result of their function.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Wrap {
    #[default]
    Nothing,
    Data,
    Result,
    RespData,
}

impl Wrap {
    /// Wraps what the function returned.
    pub(super) fn wrap(self, returned: String) -> String {
        match self {
            Self::Nothing => returned,
            Self::Data => format!(r#"{{"code":200,"data":{returned}}}"#),
            Self::Result => format!(r#"{{"result":{returned}}}"#),
            Self::RespData => format!(r#"{{"resp_data":{}}}"#, to_json(&returned)),
        }
    }
}

/// Returns the body of the request to the portrait endpoint for an event, whose dates may be
/// spelled either way.
pub(super) fn request_body(event: &[u8]) -> String {
    String::from_utf8_lossy(event)
        .replace(r#""beginDate""#, r#""begin_date""#)
        .replace(r#""endDate""#, r#""end_date""#)
}

/// Returns what the function returns when it caught a refusal.
pub(super) fn error_body(refusal: &Refusal, id: &str) -> String {
    let Refusal { errcode, errmsg } = refusal;
    let errmsg = format!("openapi.analysis.getUserPortrait:fail {errmsg} rid: {id}");
    to_json(&serde_json::json!({"errCode": errcode, "errMsg": errmsg}))
}
