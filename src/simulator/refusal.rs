//! How WeChat refuses a request: HTTP 200, an errcode, and a text with the id of the request.
//!
//! Knows the wording of each errcode, and not when it applies.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::bodies::to_json;
use super::random;

/// Why WeChat refuses: an errcode and its text.
pub(super) struct Refusal {
    pub(super) errcode: i64,
    pub(super) errmsg: String,
}

impl From<i64> for Refusal {
    fn from(errcode: i64) -> Self {
        Self {
            errcode,
            errmsg: errmsg(errcode).to_owned(),
        }
    }
}

impl Refusal {
    /// Returns the body of the response.
    pub(super) fn body(&self, id: &str) -> String {
        let errmsg = format!("{} rid: {id}", self.errmsg);
        to_json(&json!({"errcode": self.errcode, "errmsg": errmsg}))
    }
}

/// Returns the id of a request; `number` makes it unique.
pub(super) fn request_id(now: DateTime<Utc>, number: u64) -> String {
    let (time, draw) = (now.timestamp(), random::mix(number));
    format!("{time:08x}-{:08x}-{:08x}", draw >> 32, draw & 0xffff_ffff)
}

/// Returns an errcode's text as WeChat words it, without its `rid`.
fn errmsg(errcode: i64) -> &'static str {
    match errcode {
        -604_101 => "function has no permission to call this API",
        -604_102 => "function timed out",
        -1000 | -1 => "system error",
        0 => "ok",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40125 => "invalid appsecret",
        40101 => "missing parameter",
        40164 => "invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist",
        40234 => "invalid signature, api encryption is required",
        40243 => "AppSecret has been frozen, please unfreeze it in the console",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        44002 => "empty post data",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        48001 => "api unauthorized",
        48004 => "api forbidden for blocked user",
        50001 => "user unauthorized",
        50002 => "user limited",
        61003 => "component is not authorized by this account",
        61004 => "access clientip is not registered, not in ip whitelist",
        61007 => "api is unauthorized to component",
        61500 => "date format error",
        61501 => "date range error",
        61502 => "this game app does not support this api",
        61503 => "data not ready, please try later",
        61504 => "system error, please try later",
        85088 => "no qbase privilege",
        89501 => "waiting for the administrator to confirm this ip",
        89503 => "this ip needs confirmation of the administrator",
        89506 => "this ip was refused by the administrator twice within 24 hours",
        89507 => "this ip was refused by the administrator within 1 hour",
        _ => "unknown error",
    }
}
