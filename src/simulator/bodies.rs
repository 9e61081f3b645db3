//! The bodies of requests and responses.
//!
//! Knows which errcode WeChat has for an unreadable body, and not whose request it is.

use chrono::NaiveDate;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::calendar;
use crate::portrait::Window;

/// Returns the response to a request for a token.
pub(super) fn token_response((token, seconds): (String, i64)) -> String {
    to_json(&json!({"access_token": token, "expires_in": seconds}))
}

/// Serializes what cannot fail, as all keys are strings.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Reads a JSON object as WeChat does: an empty body and a broken one have their own errcodes.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, i64> {
    if body.is_empty() {
        return Err(44002);
    }
    serde_json::from_slice(body).map_err(|_| 47001)
}

/// Returns the window that a request for a portrait names.
pub(super) fn requested_window(body: &[u8]) -> Result<(Window, NaiveDate), i64> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_spans_in_one_format_are_understood() {
        let requested = |begin: &str, end: &str| {
            requested_window(
                json!({"begin_date": begin, "end_date": end})
                    .to_string()
                    .as_bytes(),
            )
        };
        let end: NaiveDate = "2026-11-20".parse().unwrap();
        assert_eq!(requested("20261120", "20261120"), Ok((Window::OneDay, end)));
        assert_eq!(
            requested("20261114", "20261120"),
            Ok((Window::SevenDays, end))
        );
        assert_eq!(
            requested("20261022", "20261120"),
            Ok((Window::ThirtyDays, end))
        );
        for (begin, end) in [
            ("20261119", "20261120"),
            ("20261121", "20261120"),
            ("2026-11-20", "2026-11-20"),
            ("2026111", "2026111"),
            ("", ""),
        ] {
            assert_eq!(requested(begin, end), Err(61500));
        }
        for (body, errcode) in [
            ("", 44002),
            ("{", 47001),
            ("[]", 47001),
            ("{}", 61500),
            (r#"{"begin_date":20261120,"end_date":20261120}"#, 61500),
            ("begin_date=20261120&end_date=20261120", 61500),
        ] {
            assert_eq!(requested_window(body.as_bytes()), Err(errcode), "{body}");
        }
    }
}
