//! Reads what WeChat, a cloud function or a mock answers.
//!
//! Tolerant where answers are known to differ (spelling, order, numbers as text), strict where a
//! wrong guess would put false figures on the page (days, shapes). Pure: bytes in, values out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use chrono::NaiveDate;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::error::{DecodeError, Refusal};
use super::requests::{Endpoint, compact};
use crate::calendar;
use crate::portrait::{
    Cohort, Dimension, Division, Portrait, Repair, Repairs, UNKNOWN_NAME, Window,
};

/// A portrait, the text it was read from, and what had to be repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it says.
    pub portrait: Portrait,
    /// The answer as it came: JSON, with raw control characters escaped.
    pub text: String,
    /// What had to be repaired.
    pub repairs: Repairs,
}

/// Reads the portrait that was asked for, also where a cloud function or a program in between has
/// put something around it.
///
/// # Errors
///
/// [`DecodeError::Refused`] and [`DecodeError::Empty`] are WeChat's own words; [`DecodeError::Unreadable`] is all that
/// is no portrait of these days.
pub fn portrait(
    body: &[u8],
    window: Window,
    reference_date: NaiveDate,
) -> Result<Answer, DecodeError> {
    unpacked(object(body, Endpoint::Portrait)?)
        .and_then(|(text, answer)| read_portrait(text, &answer, window, reference_date))
}

/// Reads what WeChat answers that called a cloud function.
///
/// # Errors
///
/// Those of [`portrait()`], and WeChat's own about the call.
pub(super) fn of_function(
    body: &[u8],
    window: Window,
    reference_date: NaiveDate,
) -> Result<Answer, DecodeError> {
    unpacked(object(body, Endpoint::Function)?)
        .and_then(|(text, answer)| read_portrait(text, &answer, window, reference_date))
}

fn read_portrait(
    text: Cow<'_, str>,
    answer: &Map<String, Value>,
    window: Window,
    reference_date: NaiveDate,
) -> Result<Answer, DecodeError> {
    let told = field(answer, REF_DATE);
    let mut portrait = Portrait::new(window, reference_date);
    let mut repairs = Repairs::default();
    let mut has_halves = false;
    for (cohort, names) in HALVES {
        let half = match field(answer, names) {
            None => continue,
            Some(Value::Object(half)) => half,
            Some(Value::Array(_)) => {
                let problem = format!(
                    "{} is a list, as in an answer of getweanalysisappiddailyretaininfo",
                    names[0]
                );
                return Err(DecodeError::Unreadable(Endpoint::Portrait, problem));
            }
            Some(_) => {
                return Err(DecodeError::Unreadable(
                    Endpoint::Portrait,
                    format!("{} is no object", names[0]),
                ));
            }
        };
        has_halves = true;
        for dimension in Dimension::ALL {
            let names = field_names(dimension);
            match field(half, names) {
                None => {}
                Some(Value::Array(rows)) => {
                    read_rows(rows, portrait.division_mut(cohort, dimension), &mut repairs);
                }
                Some(_) => {
                    return Err(DecodeError::Unreadable(
                        Endpoint::Portrait,
                        format!("{} is no list", names[0]),
                    ));
                }
            }
        }
    }
    if portrait.is_empty() {
        return Err(match repairs[Repair::UnreadableValue] {
            0 if has_halves || told.is_some() || code(answer).is_some() || answer.is_empty() => {
                DecodeError::Empty
            }
            0 => {
                let thrown = answer.get("errorMessage").and_then(Value::as_str);
                let problem = match thrown {
                    Some(thrown) => format!("an error was thrown, {}", redact(thrown)),
                    None => "neither ref_date nor visit_uv is in it".to_owned(),
                };
                DecodeError::Unreadable(Endpoint::Portrait, problem)
            }
            _ => DecodeError::Unreadable(
                Endpoint::Portrait,
                "not one of its rows has a name and a number".to_owned(),
            ),
        });
    }
    let Some(told) = told else {
        let problem = "it does not tell its day: ref_date is missing";
        return Err(DecodeError::Unreadable(
            Endpoint::Portrait,
            problem.to_owned(),
        ));
    };
    check_reference_date(told, window, reference_date)?;
    Ok(Answer {
        portrait,
        text: text.into_owned(),
        repairs,
    })
}

/// Returns the window that an answer says it covers and its last day, if it tells.
///
/// # Errors
///
/// It is no answer, or covers days that are no window.
pub fn covered(body: &[u8]) -> Result<Option<(Window, NaiveDate)>, DecodeError> {
    let (_, answer) = unpacked(object(body, Endpoint::Portrait)?)?;
    let Some(told) = field(&answer, REF_DATE) else {
        return Ok(None);
    };
    let digits = digits_of_date(told).unwrap_or_default();
    let last = digits
        .get(digits.len().saturating_sub(8)..)
        .unwrap_or_default();
    if let Ok(last) = NaiveDate::parse_from_str(last, "%Y%m%d") {
        let is_told = |window: &Window| without_dashes(&ref_date(*window, last)) == digits;
        if let Some(window) = Window::ALL.into_iter().find(is_told) {
            return Ok(Some((window, last)));
        }
    }
    let problem = "its ref_date is neither a day, nor 7 days, nor 30 days";
    Err(DecodeError::Unreadable(
        Endpoint::Portrait,
        problem.to_owned(),
    ))
}

/// Writes figures as WeChat would have sent them.
#[must_use]
pub fn written(portrait: &Portrait) -> String {
    let half = |cohort| -> Map<String, Value> {
        let list = |dimension: Dimension| {
            let rows = portrait.division(cohort, dimension).iter();
            let rows = rows.map(|(name, users)| json!({"name": name, "value": users}));
            let name = field_names(dimension)[0].to_owned();
            (name, rows.collect())
        };
        Dimension::ALL.into_iter().map(list).collect()
    };
    json!({
        "ref_date": ref_date(portrait.window, portrait.reference_date),
        "visit_uv_new": half(Cohort::New),
        "visit_uv": half(Cohort::Active),
    })
    .to_string()
}

/// Reads some dimensions of an answer that [`portrait`] has read before, and mostly passes over the
/// rest of it, which takes most of the time.
///
/// # Errors
///
/// It is no such answer.
pub fn archived(
    text: &str,
    window: Window,
    reference_date: NaiveDate,
    dimensions: &[Dimension],
) -> Result<Portrait, DecodeError> {
    listed(text, window, reference_date, dimensions).or_else(|_| {
        let answer = portrait(text.as_bytes(), window, reference_date)?;
        Ok(answer.portrait)
    })
}

fn listed(
    text: &str,
    window: Window,
    reference_date: NaiveDate,
    dimensions: &[Dimension],
) -> serde_json::Result<Portrait> {
    let answer: Archived<'_> = serde_json::from_str(text)?;
    let new = answer.visit_uv_new.or(answer.new_in_camel_case);
    let active = answer.visit_uv.or(answer.active_in_camel_case);
    if new.is_none() && active.is_none() {
        return Err(serde::de::Error::custom("no users are in it"));
    }
    let mut portrait = Portrait::new(window, reference_date);
    for (cohort, half) in [(Cohort::New, new), (Cohort::Active, active)] {
        let half = half.unwrap_or_default();
        for dimension in dimensions {
            let names = field_names(*dimension).iter();
            let mut lists = names.filter_map(|name| half.get(*name));
            if let Some(rows) = lists.find(|list| list.get() != "null") {
                let rows: Vec<Value> = serde_json::from_str(rows.get())?;
                let division = portrait.division_mut(cohort, *dimension);
                read_rows(&rows, division, &mut Repairs::default());
            }
        }
    }
    Ok(portrait)
}

/// An answer whose lists are not read yet.
#[derive(Deserialize)]
struct Archived<'a> {
    #[serde(borrow)]
    visit_uv_new: Option<Half<'a>>,
    #[serde(borrow, rename = "visitUvNew")]
    new_in_camel_case: Option<Half<'a>>,
    #[serde(borrow)]
    visit_uv: Option<Half<'a>>,
    #[serde(borrow, rename = "visitUv")]
    active_in_camel_case: Option<Half<'a>>,
}

type Half<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// An object, and the text that it was read from.
pub(super) type Object<'a> = (Cow<'a, str>, Map<String, Value>);

/// Takes off what cloud functions and programs in between put around an answer, layer by layer.
fn unpacked(object: Object<'_>) -> Result<Object<'_>, DecodeError> {
    let (mut text, mut answer) = object;
    for _ in 0..DEEPEST {
        let is_answer = field(&answer, REF_DATE).is_some()
            || HALVES
                .iter()
                .any(|(_, names)| field(&answer, names).is_some());
        let inner = match field(&answer, PACKAGES) {
            Some(Value::String(inner)) if !is_answer => inner.clone(),
            Some(Value::Object(inner)) if !is_answer && !inner.is_empty() => {
                json!(inner).to_string()
            }
            _ => break,
        };
        if inner.is_empty() {
            let problem = "the cloud function returned nothing".to_owned();
            return Err(DecodeError::Unreadable(Endpoint::Portrait, problem));
        }
        let (inner, object) = self::object(inner.as_bytes(), Endpoint::Portrait)?;
        (text, answer) = (Cow::Owned(inner.into_owned()), object);
    }
    Ok((text, answer))
}

/// What is put around answers, and how often at most.
const PACKAGES: &[&str] = &["resp_data", "respData", "data", "result"];
const DEEPEST: usize = 4;

const REF_DATE: &[&str] = &["ref_date", "refDate"];

/// The spellings of the cohorts, the documented one first.
const HALVES: [(Cohort, &[&str]); 2] = [
    (Cohort::New, &["visit_uv_new", "visitUvNew"]),
    (Cohort::Active, &["visit_uv", "visitUv"]),
];

/// Reads an object that is no refusal, and the text that it was read from.
pub(super) fn object(body: &[u8], endpoint: Endpoint) -> Result<Object<'_>, DecodeError> {
    let (text, value) = json(body, endpoint)?;
    let Value::Object(object) = value else {
        return Err(DecodeError::Unreadable(
            endpoint,
            "it is JSON, but no object".to_owned(),
        ));
    };
    match code(&object) {
        None | Some(Ok(0)) => Ok((text, object)),
        Some(Ok(errcode)) => {
            let errmsg = field(&object, &["errmsg", "errMsg"])
                .and_then(Value::as_str)
                .unwrap_or_default();
            Err(DecodeError::Refused(Refusal {
                endpoint,
                errcode,
                errmsg: redact(errmsg),
            }))
        }
        Some(Err(())) => Err(DecodeError::Unreadable(
            endpoint,
            "errcode is no whole number".to_owned(),
        )),
    }
}

/// Reads JSON, also where it has raw control characters inside strings or broken UTF-8.
fn json(body: &[u8], endpoint: Endpoint) -> Result<(Cow<'_, str>, Value), DecodeError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok((text, value));
    }
    let text = escape_control_characters(&text);
    match serde_json::from_str(&text) {
        Ok(value) => Ok((Cow::Owned(text), value)),
        // The text itself is not repeated: nobody knows what is in it.
        Err(error) => Err(DecodeError::Unreadable(
            endpoint,
            format!(
                "{} bytes that are no JSON, from line {} column {}",
                body.len(),
                error.line(),
                error.column()
            ),
        )),
    }
}

fn escape_control_characters(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut in_string = false;
    let mut after_backslash = false;
    for character in text.chars() {
        if in_string && character < ' ' {
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
        if character == '"' && !after_backslash {
            in_string = !in_string;
        }
        after_backslash = character == '\\' && !after_backslash;
    }
    escaped
}

/// Returns the error code of an answer, if it has one; `Err` if it is unreadable.
fn code(answer: &Map<String, Value>) -> Option<Result<i64, ()>> {
    let code = field(answer, &["errcode", "errCode"])?;
    let number = match code {
        Value::String(text) => text.trim().parse().ok(),
        code => code.as_i64(),
    };
    Some(number.ok_or(()))
}

/// Returns the first of several spellings that is there and not null.
pub(super) fn field<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    names
        .iter()
        .find_map(|name| object.get(*name).filter(|value| !value.is_null()))
}

/// Returns the spellings of a dimension, the documented one first.
fn field_names(dimension: Dimension) -> &'static [&'static str] {
    match dimension {
        Dimension::Province => &["province"],
        Dimension::City => &["city"],
        Dimension::Gender => &["genders"],
        Dimension::Platform => &["platforms", "platfomrs"],
        Dimension::Device => &["devices"],
        Dimension::Age => &["ages"],
    }
}

fn read_rows(rows: &[Value], division: &mut Division, repairs: &mut Repairs) {
    for row in rows {
        let Some((name, users)) = read_row(row) else {
            repairs[Repair::UnreadableValue] += 1;
            division.set_partial();
            continue;
        };
        let name = if name.trim().is_empty() {
            repairs[Repair::BlankName] += 1;
            UNKNOWN_NAME
        } else {
            &name
        };
        if division.add(name.to_owned(), users) {
            repairs[Repair::DuplicateName] += 1;
        }
    }
}

/// Reads one row; a missing name is blank.
fn read_row(row: &Value) -> Option<(Cow<'_, str>, u64)> {
    let row = row.as_object()?;
    let name = match row.get("name") {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(name)) => Cow::Borrowed(name.as_str()),
        Some(Value::Number(name)) => Cow::Owned(name.to_string()),
        Some(_) => return None,
    };
    let value = field(
        row,
        &["value", "access_source_visit_uv", "accessSourceVisitUv"],
    )?;
    Some((name, whole_number(value)?))
}

/// Reads a whole number, exactly up to the largest `u64`, also from text.
pub(super) fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Accepts the whole range that was asked for, or its first or last day alone; a careless day is
/// in WeChat's own sample of a week.
fn check_reference_date(
    told: &Value,
    window: Window,
    reference_date: NaiveDate,
) -> Result<(), DecodeError> {
    let asked = ref_date(window, reference_date);
    let (begin, end) = calendar::range(window, reference_date);
    let digits = digits_of_date(told);
    let accepted = [without_dashes(&asked), compact(begin), compact(end)];
    if digits
        .as_ref()
        .is_some_and(|digits| accepted.contains(digits))
    {
        return Ok(());
    }
    let told: String = text_of_date(told)
        .chars()
        .filter(|character| digits.is_some() || character.is_ascii_alphanumeric())
        .take(40)
        .collect();
    Err(DecodeError::Unreadable(
        Endpoint::Portrait,
        format!("asked for {asked}, its ref_date is {told}"),
    ))
}

/// Returns `ref_date` as WeChat writes it.
fn ref_date(window: Window, reference_date: NaiveDate) -> String {
    let (begin, end) = calendar::range(window, reference_date);
    if begin == end {
        compact(end)
    } else {
        format!("{}-{}", compact(begin), compact(end))
    }
}

fn text_of_date(told: &Value) -> String {
    told.as_str()
        .map_or_else(|| told.to_string(), str::to_owned)
}

/// Returns the digits of a `ref_date` that has nothing else but dashes in it.
fn digits_of_date(told: &Value) -> Option<String> {
    let digits = without_dashes(&text_of_date(told));
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(digits)
}

fn without_dashes(text: &str) -> String {
    text.replace('-', "")
}

/// Returns a sentence of WeChat fit for a log: short, on one line, and without words so long that
/// they could be a secret (32 characters) or a token (more).
pub(super) fn redact(errmsg: &str) -> String {
    let is_word =
        |character: char| character.is_ascii_alphanumeric() || "_-+/=.~%".contains(character);
    let mut redacted = String::new();
    let mut word = String::new();
    for character in errmsg.chars().chain([' ']) {
        if is_word(character) {
            word.push(character);
            continue;
        }
        if word.len() >= 30 {
            "[redacted]".clone_into(&mut word);
        }
        redacted += &word;
        word.clear();
        redacted.push(if character.is_control() {
            ' '
        } else {
            character
        });
    }
    redacted.trim().chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()
    }

    /// Reads an answer of the day, and from the archive again.
    fn read(body: impl AsRef<[u8]>) -> Result<Answer, DecodeError> {
        let answer = portrait(body.as_ref(), Window::OneDay, day())?;
        let archived = archived(&answer.text, Window::OneDay, day(), &Dimension::ALL);
        assert_eq!(archived.unwrap(), answer.portrait, "{}", answer.text);
        Ok(answer)
    }

    /// An answer of the day whose active users have these dimensions.
    fn active(dimensions: &str) -> String {
        format!(
            r#"{{"ref_date":"20261121","visit_uv_new":{{"province":[]}},"visit_uv":{{{dimensions}}}}}"#
        )
    }

    /// An answer of the day with these rows of cities.
    fn cities(rows: &str) -> String {
        active(&format!(r#""city":[{rows}]"#))
    }

    fn rows(answer: &Answer, cohort: Cohort, dimension: Dimension) -> Vec<(&str, u64)> {
        answer.portrait.division(cohort, dimension).iter().collect()
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

    const EMPTY: &str = "WeChat answered an empty portrait";
    const RETAIN_INFO: &str = "unreadable answer: visit_uv_new is a list, as in an answer of getweanalysisappiddailyretaininfo";

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
                let name = field_names(dimension)[0];
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
    fn a_row_without_a_readable_value_is_dropped_and_its_neighbours_stay() {
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
                "unreadable answer: not one of its rows has a name and a number"
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
    fn success_may_be_told() {
        for told in [
            r#""errcode":0,"errmsg":"ok""#,
            r#""errcode":"0""#,
            r#""errCode":0,"errMsg":"openapi.analysis.getUserPortrait:ok""#,
            r#""errcode":null,"code":1,"x":{"y":[1]}"#,
        ] {
            let body = cities(r#"{"name":"a","value":1}"#).replacen('{', &format!("{{{told},"), 1);
            assert!(read(&body).is_ok(), "{body}");
        }
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_sentence() {
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
            "unreadable answer: errcode is no whole number",
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
    fn a_byte_order_mark_and_broken_utf_8_do_no_harm() {
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
    fn an_answer_of_another_api_is_no_portrait() {
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
                "unreadable answer: visit_uv is no object",
            ),
            (
                r#"{"ref_date":"20261121","visit_uv":{"ages":{}}}"#,
                "unreadable answer: ages is no list",
            ),
            (
                r#"{"list":[]}"#,
                "unreadable answer: neither ref_date nor visit_uv is in it",
            ),
            (
                r#"{"code":200,"data":{}}"#,
                "unreadable answer: neither ref_date nor visit_uv is in it",
            ),
        ]);
    }

    #[test]
    fn what_is_no_object_is_told_without_its_text() {
        assert_errors(&[
            (
                "",
                "unreadable answer: 0 bytes that are no JSON, from line 1 column 0",
            ),
            (
                "<html>secret</html>",
                "unreadable answer: 19 bytes that are no JSON, from line 1 column 1",
            ),
            (
                r#"{"ref_date":"#,
                "unreadable answer: 12 bytes that are no JSON, from line 1 column 12",
            ),
            ("[]", "unreadable answer: it is JSON, but no object"),
            ("\"secret\"", "unreadable answer: it is JSON, but no object"),
            ("null", "unreadable answer: it is JSON, but no object"),
        ]);
        for open in ["[", "{\"a\":"] {
            let deep = message(read(open.repeat(100_000)));
            assert!(deep.contains("bytes that are no JSON"), "{deep}");
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
            for (ref_date, told) in [
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
                    format!("unreadable answer: asked for {asked}, its ref_date is {told}")
                );
            }
        }
        assert!(read(text("20261121")).is_ok(), "a number");
        assert_errors(&[(
            &text("null"),
            "unreadable answer: it does not tell its day: ref_date is missing",
        )]);
        let week = text("\"20261115-20261121\"");
        assert!(read(&week).is_err(), "a week is no day");
    }

    #[test]
    fn an_archived_answer_without_users_is_unreadable() {
        for text in [
            "{}",
            r#"{"errcode":61503}"#,
            r#"{"ref_date":"20261121"}"#,
            "x",
        ] {
            let read = archived(text, Window::OneDay, day(), &[Dimension::Age]);
            assert!(read.is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_tells_which_days_it_covers() {
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
            let ages = portrait.division_mut(Cohort::New, Dimension::Age);
            ages.add("\"17岁\\\n".to_owned(), u64::MAX);
            ages.add("b".to_owned(), 0);
            let platforms = portrait.division_mut(Cohort::Active, Dimension::Platform);
            platforms.add("iPhone".to_owned(), 3);
            let text = written(&portrait);
            let read = super::portrait(text.as_bytes(), window, day()).unwrap();
            assert_eq!(read.portrait, portrait, "{text}");
        }
    }

    #[test]
    fn what_stands_around_an_answer_is_taken_off() {
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
                "unreadable answer: the cloud function returned nothing",
            ),
            (
                r#"{"resp_data":"{\"errorCode\":1,\"errorMessage\":\"caught\"}"}"#,
                "unreadable answer: an error was thrown, caught",
            ),
        ]);
    }

    #[test]
    fn a_sentence_of_wechat_is_kept_without_secrets_and_on_one_line() {
        let secret = "0123456789abcdef0123456789abcdef";
        let token = format!("80_{}-_=", "aZ9_".repeat(128));
        let ip = "invalid ip 61.183.89.14 ipv6 ::ffff:61.183.89.14, not in whitelist rid: 61b7f9e0-66c14e21-3f647b7e";
        let chinese = "无效的凭证请开发者认真比对令牌的有效性或查看是否正在为恰当的小程序调用接口";
        for (errmsg, expected) in [
            (
                format!("invalid appsecret {secret} rid: 1-2-3"),
                "invalid appsecret [redacted] rid: 1-2-3",
            ),
            (format!("secret={secret}&x=1"), "[redacted]&x=1"),
            (format!("[{token}]"), "[[redacted]]"),
            (format!("凭证{secret}无效"), "凭证[redacted]无效"),
            (ip.to_owned(), ip),
            (chinese.to_owned(), chinese),
            (
                "a\nlevel=error\r\t\u{1b}[31mb\0".to_owned(),
                "a level=error   [31mb",
            ),
        ] {
            assert_eq!(redact(&errmsg), expected);
        }
        assert_eq!(redact(&"ab ".repeat(1000)).len(), 300);
    }
}
