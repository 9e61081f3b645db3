//! Decodes the answers of WeChat, a cloud function or a program in between.
//!
//! Tolerant where answers are known to vary (spelling, order, numbers as text), strict where a
//! wrong guess would put false figures on the page (days, shapes). Pure: bytes in, values out, in
//! memory that is bounded for any input.

use std::borrow::Cow;

use chrono::NaiveDate;
use serde_json::value::RawValue;

use super::encode::encode;
use super::envelope::Layer;
use super::error::DecodeError;
use super::figures::{COHORT_KEYS, Half, text};
use super::redact::Redactor;
use super::requests::{Endpoint, Wanted, compact};
use super::sanitise::{TooLong, sanitise, text_of};
use crate::calendar;
use crate::portrait::{Dimension, Portrait, Repair, Repairs, Window};

/// How many envelopes an answer may have.
const MAX_ENVELOPES: usize = 4;

/// The longest answer that is archived unchanged: the largest portraits seen have some 50 KB.
const MAX_ARCHIVED_BYTES: usize = 1 << 20;

/// A portrait, its text for the archive, and what had to be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The portrait.
    pub portrait: Portrait,
    /// The answer as received, without envelopes and as valid JSON. One with more names, longer names
    /// or more bytes than a portrait can have is rewritten from `portrait`.
    pub text: String,
    /// What had to be repaired.
    pub repairs: Repairs,
}

/// Decodes the portrait of the window that ends on `reference_date`, also where a cloud function or a
/// program in between has put it into an envelope.
///
/// At most 2,000 names of a list are kept, the first in the answer, and 256 bytes of each; all others
/// are added up under [`OTHER_NAME`](crate::portrait::OTHER_NAME).
///
/// # Errors
///
/// [`DecodeError::Refused`] and [`DecodeError::Empty`] come from WeChat itself;
/// [`DecodeError::Unreadable`] is anything that is not a portrait of these days.
pub fn portrait(
    body: &[u8],
    window: Window,
    reference_date: NaiveDate,
) -> Result<Answer, DecodeError> {
    let wanted = Wanted {
        window,
        day: reference_date,
    };
    response(body, Endpoint::Portrait, wanted, &Redactor::default())
}

/// Decodes the response of an endpoint; errors do not repeat the secrets of the redactor.
///
/// # Errors
///
/// Those of [`portrait`].
pub(super) fn response(
    body: &[u8],
    endpoint: Endpoint,
    wanted: Wanted,
    redactor: &Redactor,
) -> Result<Answer, DecodeError> {
    let Wanted { window, day } = wanted;
    let mut decoded = Decoded::new(window, day);
    let text = decoded.read(body, endpoint, redactor)?;
    let Some(date) = &decoded.ref_date else {
        let problem = "it does not state its day: ref_date is missing";
        return Err(unreadable(problem));
    };
    check_reference_date(date, wanted, redactor)?;
    let Decoded {
        portrait,
        repairs,
        is_capped,
        ..
    } = decoded;
    let text = if is_capped || text.len() > MAX_ARCHIVED_BYTES {
        drop(text);
        encode(&portrait)
    } else {
        text.into_owned()
    };
    Ok(Answer {
        portrait,
        text,
        repairs,
    })
}

/// Decodes an archived answer, which [`portrait`] has decoded before.
///
/// # Errors
///
/// It can't be decoded.
pub fn archived(
    text: &str,
    window: Window,
    reference_date: NaiveDate,
) -> Result<Portrait, DecodeError> {
    let mut decoded = Decoded::new(window, reference_date);
    decoded.read(text.as_bytes(), Endpoint::Portrait, &Redactor::default())?;
    Ok(decoded.portrait)
}

/// Returns the window of an answer and its last day, if it states them.
///
/// # Errors
///
/// It is not an answer, or covers days that are not a window.
pub fn covered(body: &[u8]) -> Result<Option<(Window, NaiveDate)>, DecodeError> {
    let mut date = None;
    innermost(body, Endpoint::Portrait, &Redactor::default(), |layer| {
        date = layer.ref_date.get().map(|date| date_of(date));
        Ok(())
    })?;
    let Some(date) = date else {
        return Ok(None);
    };
    let digits = digits_of(&date).unwrap_or_default();
    let last = digits
        .get(digits.len().saturating_sub(8)..)
        .unwrap_or_default();
    if let Ok(last) = NaiveDate::parse_from_str(last, "%Y%m%d") {
        let is_covered = |window: &Window| without_dashes(&ref_date(*window, last)) == digits;
        if let Some(window) = Window::ALL.into_iter().find(is_covered) {
            return Ok(Some((window, last)));
        }
    }
    let problem = "its ref_date is neither a day, nor 7 days, nor 30 days";
    Err(unreadable(problem))
}

/// Removes all envelopes, passes on the object that is left, and returns its text.
pub(super) fn innermost<'a>(
    body: &'a [u8],
    endpoint: Endpoint,
    redactor: &Redactor,
    read: impl FnOnce(Layer<'_>) -> Result<(), DecodeError>,
) -> Result<Cow<'a, str>, DecodeError> {
    let mut endpoint = endpoint;
    let too_long = |endpoint, _: TooLong| {
        DecodeError::Unreadable(endpoint, "it is larger than 8 MiB".to_owned())
    };
    let mut text = text_of(body).map_err(|error| too_long(endpoint, error))?;
    let mut length = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).len();
    let mut envelopes = 0;
    loop {
        let layer = if let Ok(layer) = Layer::read(&text) {
            layer
        } else {
            let sanitised = sanitise(&text).map_err(|error| too_long(endpoint, error))?;
            text = Cow::Owned(sanitised);
            Layer::read(&text).map_err(|error| {
                // The text itself is not repeated: it may contain anything.
                let (line, column) = (error.line(), error.column());
                DecodeError::Unreadable(
                    endpoint,
                    format!("{length} bytes that are not JSON, from line {line} column {column}"),
                )
            })?
        };
        let Some(layer) = layer else {
            let problem = "it is JSON, but not an object".to_owned();
            return Err(DecodeError::Unreadable(endpoint, problem));
        };
        layer.check(endpoint, redactor)?;
        let inner = if envelopes < MAX_ENVELOPES && endpoint != Endpoint::Token {
            layer.unwrap_envelope()?
        } else {
            None
        };
        let Some(inner) = inner else {
            read(layer)?;
            return Ok(text);
        };
        drop(layer);
        envelopes += 1;
        length = inner.len();
        endpoint = Endpoint::Portrait;
        text = Cow::Owned(inner);
    }
}

/// A portrait that is being decoded.
struct Decoded {
    portrait: Portrait,
    repairs: Repairs,
    /// Whether the answer had more than was kept.
    is_capped: bool,
    /// The days that the answer states.
    ref_date: Option<String>,
}

impl Decoded {
    fn new(window: Window, reference_date: NaiveDate) -> Self {
        Self {
            portrait: Portrait::new(window, reference_date),
            repairs: Repairs::default(),
            is_capped: false,
            ref_date: None,
        }
    }

    fn read<'a>(
        &mut self,
        body: &'a [u8],
        endpoint: Endpoint,
        redactor: &Redactor,
    ) -> Result<Cow<'a, str>, DecodeError> {
        innermost(body, endpoint, redactor, |layer| self.fill(layer, redactor))
    }

    fn fill(&mut self, mut layer: Layer<'_>, redactor: &Redactor) -> Result<(), DecodeError> {
        self.ref_date = layer.ref_date.get().map(|date| date_of(date));
        let without_figures = layer.without_figures(redactor);
        for (half, (cohort, keys)) in layer.halves.iter_mut().zip(COHORT_KEYS) {
            let key = keys[0];
            let mut figures = match std::mem::take(half).into_inner() {
                None => continue,
                Some(Half::Figures(figures)) => figures,
                Some(Half::List) => {
                    return Err(unreadable(&format!(
                        "{key} is a list, as in a response of getweanalysisappiddailyretaininfo"
                    )));
                }
                Some(Half::Other) => return Err(unreadable(&format!("{key} is not an object"))),
            };
            for dimension in Dimension::ALL {
                let found = figures.take(dimension, &mut self.repairs, &mut self.is_capped);
                let breakdown = found.map_err(|key| unreadable(&format!("{key} is not a list")))?;
                *self.portrait.breakdown_mut(cohort, dimension) = breakdown;
            }
        }
        if !self.portrait.is_empty() {
            Ok(())
        } else if self.repairs[Repair::UnreadableValue] > 0 {
            Err(unreadable("not one of its rows has a name and a number"))
        } else {
            Err(without_figures)
        }
    }
}

fn unreadable(problem: &str) -> DecodeError {
    DecodeError::Unreadable(Endpoint::Portrait, problem.to_owned())
}

/// Accepts the whole range that was requested, or its first or last day alone; an inaccurate day is
/// in WeChat's own sample of a week.
fn check_reference_date(
    date: &str,
    wanted: Wanted,
    redactor: &Redactor,
) -> Result<(), DecodeError> {
    let requested = ref_date(wanted.window, wanted.day);
    let (begin, end) = calendar::range(wanted.window, wanted.day);
    let digits = digits_of(date);
    let accepted = [without_dashes(&requested), compact(begin), compact(end)];
    if digits
        .as_ref()
        .is_some_and(|digits| accepted.contains(digits))
    {
        return Ok(());
    }
    let date: String = redactor
        .redact(date)
        .chars()
        .filter(|character| digits.is_some() || character.is_ascii_alphanumeric())
        .take(40)
        .collect();
    // Without what was between them, two words may be a secret.
    let date = redactor.redact(&date);
    Err(unreadable(&format!(
        "requested {requested}, its ref_date is {date}"
    )))
}

/// Returns `ref_date` as WeChat writes it.
pub(super) fn ref_date(window: Window, reference_date: NaiveDate) -> String {
    let (begin, end) = calendar::range(window, reference_date);
    if begin == end {
        compact(end)
    } else {
        format!("{}-{}", compact(begin), compact(end))
    }
}

/// Returns a `ref_date` of any type as text, truncated for an error message.
fn date_of(date: &RawValue) -> String {
    let text = text(date).unwrap_or(Cow::Borrowed(date.get()));
    text[..text.floor_char_boundary(300)].to_owned()
}

/// Returns the digits of a `ref_date` that consists of digits and dashes only.
fn digits_of(date: &str) -> Option<String> {
    let digits = without_dashes(date);
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(digits)
}

fn without_dashes(text: &str) -> String {
    text.replace('-', "")
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::portrait::{Cohort, OTHER_NAME};
    use crate::wechat::figures::dimension_keys;

    fn of_function(body: &[u8], window: Window, day: NaiveDate) -> Result<Answer, DecodeError> {
        let wanted = Wanted { window, day };
        response(body, Endpoint::Function, wanted, &Redactor::default())
    }

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()
    }

    /// Decodes an answer for the day, and decodes it again as an archived one.
    fn read(body: impl AsRef<[u8]>) -> Result<Answer, DecodeError> {
        let answer = portrait(body.as_ref(), Window::OneDay, day())?;
        let archived = archived(&answer.text, Window::OneDay, day());
        assert_eq!(archived.unwrap(), answer.portrait, "{}", answer.text);
        Ok(answer)
    }

    /// An answer for the day whose active users have these dimensions.
    fn active(dimensions: &str) -> String {
        format!(
            r#"{{"ref_date":"20261121","visit_uv_new":{{"province":[]}},"visit_uv":{{{dimensions}}}}}"#
        )
    }

    /// An answer for the day with these rows of cities.
    fn cities(rows: &str) -> String {
        active(&format!(r#""city":[{rows}]"#))
    }

    fn rows(answer: &Answer, cohort: Cohort, dimension: Dimension) -> Vec<(&str, u64)> {
        answer
            .portrait
            .breakdown(cohort, dimension)
            .iter()
            .collect()
    }

    /// Checks the names and values that are read from rows of cities, and how often each of
    /// `duplicate_name`, `blank_name` and `unreadable_value` was repaired.
    #[track_caller]
    fn assert_cities(text: &str, expected: &[(&str, u64)], repairs: [u64; 3]) {
        let answer = read(cities(text)).unwrap();
        let city = rows(&answer, Cohort::Active, Dimension::City);
        assert_eq!(city, expected, "{text}");
        let counted = [
            Repair::DuplicateName,
            Repair::BlankName,
            Repair::UnreadableValue,
        ];
        let counted = counted.map(|repair| answer.repairs[repair]);
        assert_eq!(counted, repairs, "{text}");
    }

    fn message(result: Result<Answer, DecodeError>) -> String {
        result.map_or_else(
            |error| error.to_string(),
            |answer| format!("{:?}", answer.portrait),
        )
    }

    #[track_caller]
    fn assert_errors(cases: &[(&str, &str)]) {
        for (body, expected) in cases {
            assert_eq!(message(read(body)), *expected, "{body}");
        }
    }

    const EMPTY: &str = "WeChat returned an empty portrait";
    const RETAIN_INFO: &str = "unreadable response: visit_uv_new is a list, as in a response of getweanalysisappiddailyretaininfo";

    #[test]
    fn every_dimension_of_both_cohorts_is_read() {
        let half = |value: u64| {
            let row =
                |name: &str, value| format!(r#"[{{"id":11,"name":"{name}","value":{value}}}]"#);
            let lists = [
                "province",
                "city",
                "genders",
                "platforms",
                "devices",
                "ages",
            ];
            let lists = lists.map(|list| format!(r#""{list}":{}"#, row(list, value)));
            format!("{{\"index\":0,{}}}", lists.join(","))
        };
        let body = format!(
            r#"{{"ref_date":"20261121","visit_uv_new":{},"visit_uv":{}}}"#,
            half(1),
            half(2)
        );
        let answer = read(&body).unwrap();
        for (cohort, value) in [(Cohort::New, 1), (Cohort::Active, 2)] {
            for dimension in Dimension::ALL {
                let name = dimension_keys(dimension)[0];
                assert_eq!(rows(&answer, cohort, dimension), [(name, value)]);
            }
        }
        assert_eq!(answer.repairs, Repairs::default());
        assert_eq!(answer.text, body);
    }

    #[test]
    fn every_spelling_is_read() {
        for (row, platforms) in [
            ("value", "platforms"),
            ("access_source_visit_uv", "platfomrs"),
            ("accessSourceVisitUv", "platfomrs"),
        ] {
            for (ref_date, new, active) in [
                ("ref_date", "visit_uv_new", "visit_uv"),
                ("refDate", "visitUvNew", "visitUv"),
            ] {
                let half = format!(r#"{{"{platforms}":[{{"name":"iPhone","{row}":7}}]}}"#);
                let body =
                    format!(r#"{{"{ref_date}":"20261121","{new}":{half},"{active}":{half}}}"#);
                let answer = read(&body).unwrap();
                for cohort in Cohort::ALL {
                    let platforms = rows(&answer, cohort, Dimension::Platform);
                    assert_eq!(platforms, [("iPhone", 7)], "{body}");
                }
            }
        }
    }

    #[test]
    fn numbers_may_be_text() {
        assert_cities(
            r#"{"name":"a","value":"12"},{"name":"b","value":" 3 "},{"name":5,"value":1}"#,
            &[("5", 1), ("a", 12), ("b", 3)],
            [0, 0, 0],
        );
    }

    #[test]
    fn ids_mean_nothing() {
        assert_cities(
            r#"{"id":1,"name":"a","value":1},{"id":1,"name":"b","value":2},{"name":"c","value":3},{"id":"x","name":"d","value":4}"#,
            &[("a", 1), ("b", 2), ("c", 3), ("d", 4)],
            [0, 0, 0],
        );
    }

    #[test]
    fn equal_names_are_added_up() {
        assert_cities(
            r#"{"id":1,"name":"吉林","value":3},{"id":2,"name":"吉林","value":4},{"name":"a","value":1}"#,
            &[("a", 1), ("吉林", 7)],
            [1, 0, 0],
        );
        let largest = format!(
            r#"{{"name":"a","value":{}}},{{"name":"a","value":2}}"#,
            u64::MAX
        );
        assert_cities(&largest, &[("a", u64::MAX)], [1, 0, 0]);
    }

    #[test]
    fn blank_and_missing_names_are_unknown() {
        assert_cities(
            r#"{"name":"","value":1},{"name":"  ","value":2},{"value":3},{"name":null,"value":4},{"name":"未知","value":5}"#,
            &[("未知", 15)],
            [4, 4, 0],
        );
    }

    #[test]
    fn a_row_without_a_readable_value_is_dropped_and_its_neighbours_are_kept() {
        let bad = [
            r#"{"name":"a","value":-1}"#,
            r#"{"name":"a","value":1.5}"#,
            r#"{"name":"a","value":1e3}"#,
            r#"{"name":"a","value":null}"#,
            r#"{"name":"a","value":"many"}"#,
            r#"{"name":"a","value":""}"#,
            r#"{"name":"a","value":true}"#,
            r#"{"name":"a","value":[1]}"#,
            r#"{"name":"a","value":18446744073709551616}"#,
            r#"{"name":"a"}"#,
            r#"{"name":["a"],"value":1}"#,
            "null",
            "7",
            "[]",
        ];
        for bad in bad {
            let text = format!(r#"{{"name":"x","value":1}},{bad},{{"name":"y","value":2}}"#);
            assert_cities(&text, &[("x", 1), ("y", 2)], [0, 0, 1]);
            assert_eq!(
                message(read(cities(bad))),
                "unreadable response: not one of its rows has a name and a number"
            );
        }
    }

    #[test]
    fn the_largest_number_and_zero_are_exact() {
        let text = format!(
            r#"{{"name":"a","value":{}}},{{"name":"b","value":0}}"#,
            u64::MAX
        );
        assert_cities(&text, &[("a", u64::MAX), ("b", 0)], [0, 0, 0]);
    }

    #[test]
    fn a_name_is_kept_as_it_is_written() {
        assert_cities(
            r#"{"name":" 17岁以下","value":1},{"name":"a\"\\\n\u0000","value":2}"#,
            &[(" 17岁以下", 1), ("a\"\\\n\0", 2)],
            [0, 0, 0],
        );
    }

    #[test]
    fn success_may_be_stated() {
        for success in [
            r#""errcode":0,"errmsg":"ok""#,
            r#""errcode":"0""#,
            r#""errCode":0,"errMsg":"openapi.analysis.getUserPortrait:ok""#,
            r#""errcode":null,"code":1,"x":{"y":[1]}"#,
        ] {
            let body =
                cities(r#"{"name":"a","value":1}"#).replacen('{', &format!("{{{success},"), 1);
            assert!(read(&body).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_reported_with_its_code_and_message() {
        for (body, errcode, errmsg) in [
            (r#"{"errcode":40001,"errmsg":"invalid"}"#, 40001, "invalid"),
            (
                r#"{"errcode":"40001","errmsg":"invalid"}"#,
                40001,
                "invalid",
            ),
            (r#"{"errCode":-604101,"errMsg":"fail"}"#, -604_101, "fail"),
            (r#"{"errcode":-1}"#, -1, ""),
            (r#"{"errcode":45009,"errmsg":7,"visit_uv":{}}"#, 45009, ""),
        ] {
            let Err(DecodeError::Refused(refusal)) = read(body) else {
                panic!("{body}");
            };
            assert_eq!(refusal.errcode, errcode);
            assert_eq!(refusal.errmsg, errmsg);
            assert_eq!(refusal.endpoint, Endpoint::Portrait);
        }
        assert_errors(&[(
            r#"{"errcode":"x"}"#,
            "unreadable response: errcode is not a whole number",
        )]);
    }

    #[test]
    fn raw_control_characters_are_read_and_kept_escaped() {
        let body = cities("{\"name\":\"a\tb\n\\\"c\u{1}\",\r\n\t\"value\":1}");
        let answer = read(&body).unwrap();
        let city = rows(&answer, Cohort::Active, Dimension::City);
        assert_eq!(city, [("a\tb\n\"c\u{1}", 1)]);
        assert!(serde_json::from_str::<Value>(&answer.text).is_ok());
        assert_eq!(
            read(&answer.text).unwrap(),
            answer,
            "read again from the archive"
        );
    }

    #[test]
    fn a_byte_order_mark_and_broken_utf_8_are_tolerated() {
        let mut body = b"\xef\xbb\xbf".to_vec();
        body.extend(cities(r#"{"name":"?","value":1}"#).bytes());
        let name = body.iter().position(|byte| *byte == b'?').unwrap();
        body[name] = 0xff;
        let answer = read(&body).unwrap();
        let city = rows(&answer, Cohort::Active, Dimension::City);
        assert_eq!(city, [("\u{fffd}", 1)]);
        assert!(answer.text.starts_with('{'));
    }

    #[test]
    fn nothing_in_both_halves_is_empty_and_never_zero() {
        let half =
            r#"{"province":[],"city":[],"genders":[],"platforms":[],"devices":[],"ages":[]}"#;
        assert_errors(&[
            (
                &format!(r#"{{"ref_date":"20261121","visit_uv_new":{half},"visit_uv":{half}}}"#),
                EMPTY,
            ),
            (
                &format!(r#"{{"visit_uv_new":{half},"visit_uv":{half}}}"#),
                EMPTY,
            ),
            (
                r#"{"ref_date":"20261121","visit_uv_new":{},"visit_uv":{}}"#,
                EMPTY,
            ),
            (
                r#"{"ref_date":"20261121","visit_uv_new":null,"visit_uv":null}"#,
                EMPTY,
            ),
            (r#"{"ref_date":"20261121"}"#, EMPTY),
            (r#"{"errcode":0,"errmsg":"ok"}"#, EMPTY),
            ("{}", EMPTY),
        ]);
    }

    #[test]
    fn one_empty_half_is_real() {
        for new in [
            r#""visit_uv_new":{"city":[]},"#,
            r#""visit_uv_new":{},"#,
            "",
        ] {
            let body = format!(
                r#"{{"ref_date":"20261121",{new}"visit_uv":{{"city":[{{"name":"a","value":1}}]}}}}"#
            );
            let answer = read(&body).unwrap();
            assert_eq!(rows(&answer, Cohort::New, Dimension::City), []);
            assert_eq!(rows(&answer, Cohort::Active, Dimension::City), [("a", 1)]);
        }
    }

    #[test]
    fn an_answer_of_another_api_is_not_a_portrait() {
        assert_errors(&[
            (
                r#"{"ref_date":"20261121","visit_uv_new":[{"key":0,"value":5464}],"visit_uv":[{"key":0,"value":55500}]}"#,
                RETAIN_INFO,
            ),
            (
                r#"{"ref_date":"20261121","visit_uv_new":[],"visit_uv":[]}"#,
                RETAIN_INFO,
            ),
            (
                r#"{"ref_date":"20261121","visit_uv":5}"#,
                "unreadable response: visit_uv is not an object",
            ),
            (
                r#"{"ref_date":"20261121","visit_uv":{"ages":{}}}"#,
                "unreadable response: ages is not a list",
            ),
            (
                r#"{"list":[]}"#,
                "unreadable response: neither ref_date nor visit_uv is in it",
            ),
            (
                r#"{"code":200,"data":{}}"#,
                "unreadable response: neither ref_date nor visit_uv is in it",
            ),
        ]);
    }

    #[test]
    fn an_answer_that_is_not_an_object_is_reported_without_its_text() {
        assert_errors(&[
            (
                "",
                "unreadable response: 0 bytes that are not JSON, from line 1 column 0",
            ),
            (
                "<html>secret</html>",
                "unreadable response: 19 bytes that are not JSON, from line 1 column 1",
            ),
            (
                r#"{"ref_date":"#,
                "unreadable response: 12 bytes that are not JSON, from line 1 column 12",
            ),
            ("[]", "unreadable response: it is JSON, but not an object"),
            (
                "\"secret\"",
                "unreadable response: it is JSON, but not an object",
            ),
            ("null", "unreadable response: it is JSON, but not an object"),
        ]);
        for open in ["[", "{\"a\":"] {
            let deep = message(read(open.repeat(100_000)));
            assert!(deep.contains("bytes that are not JSON"), "{deep}");
        }
    }

    #[test]
    fn the_reference_date_must_be_the_one_asked_for() {
        let text =
            |ref_date: &str| cities(r#"{"name":"a","value":1}"#).replace("\"20261121\"", ref_date);
        let cases = [
            (Window::OneDay, &["20261121", "2026-11-21"][..], "20261121"),
            (
                Window::SevenDays,
                &[
                    "20261115-20261121",
                    "2026-11-15-2026-11-21",
                    "20261115",
                    "20261121",
                    "2026-11-15",
                ],
                "20261115-20261121",
            ),
            (
                Window::ThirtyDays,
                &["20261023-20261121", "20261023", "20261121", "2026-11-21"],
                "20261023-20261121",
            ),
        ];
        for (window, good, asked) in cases {
            for ref_date in good {
                let body = text(&format!("\"{ref_date}\""));
                assert!(
                    portrait(body.as_bytes(), window, day()).is_ok(),
                    "{ref_date}"
                );
            }
            for (ref_date, shown) in [
                ("\"20261120\"", "20261120"),
                ("\"20261122\"", "20261122"),
                ("\"20261114-20261120\"", "20261114-20261120"),
                ("\"20261116\"", "20261116"),
                ("\"2026/11/21\"", "20261121"),
                ("\"\"", ""),
                ("{\"a\":\"\\n\"}", "an"),
            ] {
                assert_eq!(
                    message(portrait(text(ref_date).as_bytes(), window, day())),
                    format!("unreadable response: requested {asked}, its ref_date is {shown}")
                );
            }
        }
        assert!(read(text("20261121")).is_ok(), "a number");
        assert_errors(&[(
            &text("null"),
            "unreadable response: it does not state its day: ref_date is missing",
        )]);
        let week = text("\"20261115-20261121\"");
        assert!(read(&week).is_err(), "a week is not a day");
    }

    #[test]
    fn an_archived_answer_without_users_is_unreadable() {
        for text in [
            "{}",
            r#"{"errcode":61503}"#,
            r#"{"ref_date":"20261121"}"#,
            "x",
        ] {
            let read = archived(text, Window::OneDay, day());
            assert!(read.is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_states_which_days_it_covers() {
        let covered = |ref_date: &str| {
            let covered = covered(json!({ "ref_date": ref_date }).to_string().as_bytes());
            covered
                .ok()
                .flatten()
                .map(|(window, day)| format!("{window} {day}"))
        };
        for (ref_date, expected) in [
            ("20261121", "1d 2026-11-21"),
            ("2026-11-21", "1d 2026-11-21"),
            ("20261115-20261121", "7d 2026-11-21"),
            ("20261023-20261121", "30d 2026-11-21"),
        ] {
            assert_eq!(covered(ref_date).as_deref(), Some(expected));
        }
        for bad in [
            "20261114-20261121",
            "20261131",
            "20261121-20261121",
            "1",
            "商城",
        ] {
            assert_eq!(covered(bad), None, "{bad}");
        }
    }

    #[test]
    fn figures_that_are_written_are_read_back() {
        for window in Window::ALL {
            let mut portrait = Portrait::new(window, day());
            let ages = portrait.breakdown_mut(Cohort::New, Dimension::Age);
            ages.add("\"17岁\\\n".to_owned(), u64::MAX);
            ages.add("b".to_owned(), 0);
            let platforms = portrait.breakdown_mut(Cohort::Active, Dimension::Platform);
            platforms.add("iPhone".to_owned(), 3);
            let text = encode(&portrait);
            let read = super::portrait(text.as_bytes(), window, day()).unwrap();
            assert_eq!(read.portrait, portrait, "{text}");
        }
    }

    #[test]
    fn envelopes_around_an_answer_are_removed() {
        let answer = active(r#""platforms":[{"name":"iPhone","value":2}]"#);
        let bare = read(&answer).unwrap();
        let text = Value::String(answer.clone()).to_string();
        for body in [
            format!(r#"{{"errcode":0,"errmsg":"ok","resp_data":{text}}}"#),
            format!(r#"{{"code":200,"data":{answer}}}"#),
            format!(r#"{{"result":{answer},"errMsg":"x:ok"}}"#),
            format!(r#"{{"result":{{"data":{text}}}}}"#),
        ] {
            let unpacked = read(&body).unwrap();
            assert_eq!(unpacked.portrait, bare.portrait, "{body}");
            let object = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(object(&unpacked.text), object(&answer), "what is archived");
            let covered = covered(body.as_bytes()).unwrap();
            assert_eq!(covered, Some((Window::OneDay, day())));
        }
        let failed = r#"{"errCode":61501,"errMsg":"openapi.analysis.getUserPortrait:fail date"}"#;
        let text = Value::String(failed.to_owned()).to_string();
        for body in [
            format!(r#"{{"errcode":0,"resp_data":{text}}}"#),
            format!(r#"{{"data":{failed}}}"#),
        ] {
            let error = of_function(body.as_bytes(), Window::OneDay, day()).unwrap_err();
            assert!(
                matches!(&error, DecodeError::Refused(refusal) if refusal.errcode == 61501 && refusal.endpoint == Endpoint::Portrait),
                "{error}"
            );
        }
        let refused = br#"{"errcode":85088,"errmsg":"no env"}"#;
        let error = of_function(refused, Window::OneDay, day()).unwrap_err();
        assert!(
            matches!(&error, DecodeError::Refused(refusal) if refusal.endpoint == Endpoint::Function)
        );
        assert_errors(&[
            (
                r#"{"errcode":0,"resp_data":""}"#,
                "unreadable response: the cloud function returned nothing",
            ),
            (
                r#"{"resp_data":"{\"errorCode\":1,\"errorMessage\":\"caught\"}"}"#,
                "unreadable response: an error was thrown, caught",
            ),
        ]);
    }

    #[test]
    fn whole_numbers_may_have_a_decimal_point() {
        assert_cities(
            r#"{"name":"a","value":12.0},{"name":"b","value":3.00},{"name":"c","value":12.5},{"name":"d","value":18446744073709551616.0},{"name":"e","value":1e400},{"name":"f","value":-0.0}"#,
            &[("a", 12), ("b", 3)],
            [0, 0, 4],
        );
    }

    #[test]
    fn half_a_surrogate_pair_and_a_number_beyond_any_type_lose_at_most_their_row() {
        let answer = cities(
            r#"{"name":"OPPO \ud83d","value":1},{"name":1e400,"value":2},{"name":"x","value":3}"#,
        );
        let answer = read(answer).unwrap();
        let city = rows(&answer, Cohort::Active, Dimension::City);
        assert_eq!(city, [("OPPO \u{fffd}", 1), ("x", 3)]);
        assert_eq!(answer.repairs[Repair::UnreadableValue], 1);
        assert!(serde_json::from_str::<Value>(&answer.text).is_ok());
        let elsewhere = r#"{"name":"x","value":3,"id":1e400,"note":"\udead"}"#;
        assert_cities(elsewhere, &[("x", 3)], [0, 0, 0]);
    }

    #[test]
    fn the_documented_spelling_and_the_last_of_equal_keys_count() {
        for (body, users) in [
            (
                r#""city":[{"name":"a","value":1}],"city":[{"name":"a","value":2}]"#,
                2,
            ),
            (
                r#""city":[{"name":"a","value":1,"value":3,"accessSourceVisitUv":9}]"#,
                3,
            ),
            (
                r#""city":[{"name":"b","name":"a","value":null,"access_source_visit_uv":4}]"#,
                4,
            ),
            (r#""city":[{"name":"a","value":5}],"city":null"#, 5),
        ] {
            let answer = read(active(body)).unwrap();
            let city = rows(&answer, Cohort::Active, Dimension::City);
            assert_eq!(city, [("a", users)], "{body}");
            assert_eq!(answer.repairs, Repairs::default(), "{body}");
        }
        let half = |users| format!(r#"{{"platforms":[{{"name":"a","value":{users}}}]}}"#);
        let body = format!(
            r#"{{"refDate":"x","visit_uv":{},"ref_date":"20261121","visitUv":{}}}"#,
            half(1),
            half(2)
        );
        let answer = read(body).unwrap();
        assert_eq!(
            rows(&answer, Cohort::Active, Dimension::Platform),
            [("a", 1)]
        );
    }

    /// Rows of this many names, none of which is too long.
    fn names(count: u32) -> String {
        let rows = (0..count).map(|number| format!(r#"{{"name":"{number}","value":1}}"#));
        rows.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn an_oversized_answer_is_archived_as_what_is_kept_of_it() {
        let unreadable = r#"{"name":"y"}"#;
        for (rows, folded) in [
            (names(2_500), 500),
            (
                format!(r#"{{"name":"{}","value":1}}"#, "x".repeat(1_000)),
                0,
            ),
            (
                format!(r#"{{"name":"x","value":1,"y":"{}"}}"#, "z".repeat(1 << 20)),
                0,
            ),
        ] {
            let rows = format!("{rows},{unreadable}");
            let answer = portrait(cities(&rows).as_bytes(), Window::OneDay, day()).unwrap();
            let cities = answer.portrait.breakdown(Cohort::Active, Dimension::City);
            assert!(cities.len() <= 2_001 && cities.is_partial());
            assert_eq!(cities.contains(OTHER_NAME), folded > 0);
            assert_eq!(answer.repairs[Repair::FoldedName], folded);
            assert_eq!(answer.text, encode(&answer.portrait));
            let again = read(&answer.text).unwrap();
            assert_eq!(
                (&again.portrait, &again.text),
                (&answer.portrait, &answer.text)
            );
        }
        let whole = cities(&names(2_000));
        assert_eq!(read(&whole).unwrap().text, whole);
    }

    #[test]
    fn deeply_nested_values_are_skipped() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        let row = format!(r#"{{"name":"a","value":1,"x":{deep}}},{deep}"#);
        let body = cities(&row).replacen('{', &format!(r#"{{"y":{deep},"#), 1);
        let answer = portrait(body.as_bytes(), Window::OneDay, day()).unwrap();
        assert_eq!(answer.repairs[Repair::UnreadableValue], 1);
    }

    #[test]
    fn errors_repeat_no_secrets() {
        let mut redactor = Redactor::default();
        redactor.add("s3cr3t");
        let wanted = Wanted {
            window: Window::OneDay,
            day: day(),
        };
        let long = "0123456789abcdef0123456789abcdef";
        for secret in ["s3cr3t", long] {
            for body in [
                format!(r#"{{"errcode":1,"errmsg":"no {secret}"}}"#),
                format!(r#"{{"errorMessage":"no {secret}"}}"#),
                cities(r#"{"name":"a","value":1}"#).replace("20261121", secret),
            ] {
                let error = response(body.as_bytes(), Endpoint::Portrait, wanted, &redactor);
                let error = format!("{:?}", error.unwrap_err());
                assert!(
                    error.contains("redacted") && !error.contains(secret),
                    "{error}"
                );
            }
        }
        let divided = format!("{}\u{fffd}{}", &long[..20], &long[20..]);
        let body = cities(r#"{"name":"a","value":1}"#).replace("20261121", &divided);
        let error = response(body.as_bytes(), Endpoint::Portrait, wanted, &redactor);
        assert!(!error.unwrap_err().to_string().contains(long));
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_decoder(body in any::<Vec<u8>>()) {
            let _ = portrait(&body, Window::OneDay, day());
            let _ = covered(&body);
        }

        /// Text that is nearly JSON with the relevant keys.
        #[test]
        fn no_text_breaks_the_decoder(parts in vec(proptest::sample::select(PARTS.to_vec()), 0..40)) {
            let text = parts.concat();
            if let Ok(answer) = portrait(text.as_bytes(), Window::OneDay, day()) {
                let again = portrait(answer.text.as_bytes(), Window::OneDay, day());
                prop_assert_eq!(&again.unwrap(), &answer);
            }
            for wrapped in [format!(r#"{{"data":{text}}}"#), Value::from(text.clone()).to_string()] {
                let _ = portrait(wrapped.as_bytes(), Window::OneDay, day());
            }
        }

        #[test]
        fn a_portrait_is_no_larger_than_a_portrait_can_be(
            names in vec("[a-z市\\PC]{0,400}", 0..50),
            count in 0_u32..5_000,
        ) {
            let named = names.iter().map(|name| json!({"name": name, "value": 1}).to_string());
            let numbered = (0..count).map(|number| format!(r#"{{"name":"{number}","value":1}}"#));
            let rows: Vec<_> = named.chain(numbered).collect();
            if let Ok(answer) = portrait(cities(&rows.join(",")).as_bytes(), Window::OneDay, day()) {
                let cities = answer.portrait.breakdown(Cohort::Active, Dimension::City);
                prop_assert!(cities.len() <= 2_001);
                prop_assert!(cities.iter().all(|(name, _)| name.len() <= 256));
                let users = cities.iter().map(|(_, users)| users).sum::<u64>();
                prop_assert_eq!(users, rows.len() as u64);
                let archived = archived(&answer.text, Window::OneDay, day()).unwrap();
                prop_assert_eq!(&archived, &answer.portrait);
            }
        }
    }

    const PARTS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "1",
        "12.0",
        "1e400",
        "-",
        "null",
        "true",
        " ",
        "\n",
        "\u{1}",
        "市",
        "\"name\":",
        "\"value\":",
        "\"ref_date\":\"20261121\",",
        "\"visit_uv\":{",
        "\"visit_uv_new\":",
        "\"city\":[",
        "\"ages\":",
        "{\"name\":\"a\",\"value\":1}",
        "\"errcode\":",
        "\"data\":",
        "\"resp_data\":",
    ];
}
