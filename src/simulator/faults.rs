//! Faults on demand: what they are, how they are written, and how they corrupt a response.
//!
//! How a response is delayed, truncated or never sent is up to `routes`.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use chrono::NaiveDate;
use serde_json::{Value, json};

use super::bodies::to_json;
use super::figures::{Figures, ref_date};
use crate::calendar;
use crate::portrait::Window;

/// Every kind, for the message about an unknown one.
const KINDS: &str = "errcode=N, http=502, delay=5s, cut, reset, garbage, empty, halves, huge, \
                     wrong-date, retain, camel, rows, scaled=0.9, leaky, unrelayed";

/// The endpoints that can be made to fail, and whose requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Endpoint {
    Token,
    Portrait,
    Function,
}

/// One way in which an endpoint misbehaves, always or a number of times.
///
/// Written `[token:|portrait:|function:]KIND[*TIMES]`, such as `errcode=40164*3` or `token:delay=5s`;
/// without an endpoint it is the portrait's.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub(super) endpoint: Endpoint,
    pub(super) kind: Kind,
    pub(super) times: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// An errcode, with WeChat's text if it is a known one.
    Errcode(i64),
    /// A gateway's error page.
    Http(StatusCode),
    /// The correct response, late.
    Delay(Duration),
    /// Half of the correct response, then the connection ends.
    Cut,
    /// The connection ends without a response.
    Reset,
    /// Neither JSON nor UTF-8.
    Garbage,
    /// All arrays empty.
    Empty,
    /// Both cohorts missing.
    Halves,
    /// More than 8 MiB that begin like a correct response.
    Huge,
    /// The figures of another week.
    WrongDate,
    /// The shape of `getweanalysisappiddailyretaininfo`.
    Retain,
    /// The spelling of a cloud function.
    Camel,
    /// Invalid rows among valid ones.
    Rows,
    /// A revision: every figure times a factor.
    Scaled(f64),
    /// An error whose text contains the token and the secret.
    Leaky,
    /// Cloud hosting lets a request pass without a token, as for a path that is not allowed.
    Unrelayed,
}

impl FromStr for Fault {
    type Err = String;

    /// Fails with a sentence that describes the valid form.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (endpoint, rest) = match text.split_once(':') {
            Some(("token", rest)) => (Endpoint::Token, rest),
            Some(("portrait", rest)) => (Endpoint::Portrait, rest),
            Some(("function", rest)) => (Endpoint::Function, rest),
            Some((other, _)) => {
                return Err(format!(
                    "unknown endpoint `{other}`: expected token:, portrait: or function:, such as token:errcode=40164"
                ));
            }
            None => (Endpoint::Portrait, text),
        };
        let (kind, times) = match rest.split_once('*') {
            Some((kind, times)) => {
                let count = times.parse().ok().filter(|count| *count > 0);
                (
                    kind,
                    Some(count.ok_or_else(|| {
                        format!(
                            "`{times}` is not a number of times: expected one from 1 on, such as cut*3"
                        )
                    })?),
                )
            }
            None => (rest, None),
        };
        let kind: Kind = kind.parse()?;
        if endpoint != Endpoint::Portrait && kind.is_of_portraits() {
            return Err(format!(
                "`{text}` can only happen to a portrait: expected it there, such as portrait:{rest}"
            ));
        }
        Ok(Self {
            endpoint,
            kind,
            times,
        })
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (word, value) = match text.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (text, None),
        };
        let wrong = |example: &str| {
            let what = value.map_or("nothing".to_owned(), |value| format!("`{value}`"));
            format!("{word} cannot be {what}: expected a value such as {word}={example}")
        };
        let value = value.unwrap_or_default();
        match word {
            "errcode" => value.parse().map(Self::Errcode).map_err(|_| wrong("40164")),
            "http" => value
                .parse()
                .ok()
                .filter(|status: &StatusCode| status.is_client_error() || status.is_server_error())
                .map(Self::Http)
                .ok_or_else(|| wrong("502")),
            "delay" => humantime::parse_duration(value)
                .map(Self::Delay)
                .map_err(|_| wrong("5s")),
            "scaled" => value
                .parse()
                .ok()
                .filter(|factor: &f64| factor.is_finite() && *factor >= 0.0)
                .map(Self::Scaled)
                .ok_or_else(|| wrong("0.9")),
            _ => match text {
                "cut" => Ok(Self::Cut),
                "reset" => Ok(Self::Reset),
                "garbage" => Ok(Self::Garbage),
                "empty" => Ok(Self::Empty),
                "halves" => Ok(Self::Halves),
                "huge" => Ok(Self::Huge),
                "wrong-date" => Ok(Self::WrongDate),
                "retain" => Ok(Self::Retain),
                "camel" => Ok(Self::Camel),
                "rows" => Ok(Self::Rows),
                "leaky" => Ok(Self::Leaky),
                "unrelayed" => Ok(Self::Unrelayed),
                _ => Err(format!("unknown fault `{text}`: expected one of {KINDS}")),
            },
        }
    }
}

impl Kind {
    fn is_of_portraits(&self) -> bool {
        matches!(
            self,
            Self::Empty
                | Self::Halves
                | Self::WrongDate
                | Self::Retain
                | Self::Camel
                | Self::Rows
                | Self::Scaled(_)
                | Self::Unrelayed
        )
    }

    /// Returns the response of the portrait endpoint, corrupted if the kind is one that corrupts
    /// figures.
    pub(super) fn corrupt(
        &self,
        mut figures: Figures,
        window: Window,
        reference_date: NaiveDate,
    ) -> String {
        match self {
            Self::Empty => to_json(&Figures::empty(window, reference_date)),
            Self::Halves => to_json(&json!({"ref_date": figures.ref_date})),
            Self::WrongDate => {
                figures.ref_date = ref_date(window, calendar::days_before(reference_date, 7));
                to_json(&figures)
            }
            Self::Retain => to_json(&json!({
                "ref_date": figures.ref_date,
                "visit_uv_new": [{"key": 0, "value": 5464}],
                "visit_uv": [{"key": 0, "value": 55500}],
            })),
            Self::Rows => with_invalid_rows(&figures),
            Self::Scaled(factor) => {
                figures.scale(*factor);
                to_json(&figures)
            }
            _ => to_json(&figures),
        }
    }
}

/// Adds every kind of row that WeChat or a relay has sent, and worse, to the provinces of
/// the active users.
fn with_invalid_rows(figures: &Figures) -> String {
    let mut response = json!(figures);
    let invalid = [
        json!({"id": 901, "name": "负数", "value": -5}),
        json!({"id": 902, "name": "小数", "value": 12.5}),
        json!({"id": 903, "name": "空值", "value": null}),
        json!({"id": 904, "name": "文字", "value": "很多"}),
        json!({"id": 905, "name": "字符串", "value": "123"}),
        json!({"id": "906", "name": "控\u{1}制", "value": 6}),
        json!({"id": 907, "name": "", "value": 7}),
        json!({"id": 908, "name": "  ", "value": 8}),
        json!({"id": 909, "value": 9}),
        json!({"id": 11, "name": "上海", "value": 10}),
        json!({"id": 31, "name": "广东省", "value": 11}),
    ];
    if let Some(Value::Array(rows)) = response.pointer_mut("/visit_uv/province") {
        for (place, row) in invalid.into_iter().enumerate() {
            rows.insert(rows.len().min(2 * place), row);
        }
    }
    to_json(&response).replace("\\u0001", "\u{1}")
}

/// Returns the pieces of a response that is too large: 9 MiB of good rows and a proper end.
pub(super) fn oversized() -> impl Iterator<Item = String> + Send + 'static {
    let head = r#"{"ref_date":"20261120","visit_uv_new":{},"visit_uv":{"city":[{"id":0,"name":"0","value":1}"#;
    let piece = |number: u32| {
        let mut rows = String::new();
        for id in number * 1000..(number + 1) * 1000 {
            // Writing to a String never fails.
            let _ = write!(rows, r#",{{"id":{id},"name":"城市{id:030}","value":{id}}}"#);
        }
        rows
    };
    std::iter::once(head.to_owned())
        .chain((0..140).map(piece))
        .chain(["]}}".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read() {
        let fault: Fault = "errcode=40164*3".parse().unwrap();
        assert_eq!(fault.endpoint, Endpoint::Portrait);
        assert_eq!(fault.kind, Kind::Errcode(40164));
        assert_eq!(fault.times, Some(3));
        let fault: Fault = "token:delay=1m 5s\n".parse().unwrap();
        assert_eq!(fault.endpoint, Endpoint::Token);
        assert_eq!(fault.kind, Kind::Delay(Duration::from_secs(65)));
        assert_eq!(fault.times, None);
        let fault: Fault = "function:cut".parse().unwrap();
        assert_eq!(fault.endpoint, Endpoint::Function);
        let fault: Fault = "portrait:errcode=-1".parse().unwrap();
        assert_eq!(fault.kind, Kind::Errcode(-1));
    }

    #[test]
    fn every_listed_kind_is_read() {
        for kind in KINDS.replace("=N", "=7").split(", ") {
            assert!(kind.parse::<Kind>().is_ok(), "{kind}");
        }
    }

    #[test]
    fn an_invalid_fault_is_reported_with_the_valid_form() {
        for (text, says) in [
            ("", "unknown fault ``: expected one of errcode=N, http=502"),
            ("empty=1", "expected one of"),
            (
                "errcode",
                "errcode cannot be nothing: expected a value such as errcode=40164",
            ),
            (
                "http=200",
                "http cannot be `200`: expected a value such as http=502",
            ),
            ("delay=soon", "such as delay=5s"),
            ("scaled=-1", "such as scaled=0.9"),
            ("cut*0", "expected one from 1 on, such as cut*3"),
            ("sd:cut", "expected token:, portrait: or function:"),
            ("token:empty", "such as portrait:empty"),
            ("function:unrelayed", "such as portrait:unrelayed"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_huge_answer_is_valid_and_over_eight_mebibytes() {
        let body: String = oversized().collect();
        assert!(body.len() > 8 << 20);
        assert!(serde_json::from_str::<serde_json::Map<String, Value>>(&body).is_ok());
    }
}
