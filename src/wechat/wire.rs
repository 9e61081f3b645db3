//! Reads what WeChat, a cloud function or a mock answers.
//!
//! Tolerant where answers are known to differ (spelling, order, numbers as text), strict where a
//! wrong guess would put false figures on the page (days, shapes). Pure: bytes in, values out.

use std::borrow::Cow;
use std::fmt::Write as _;

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::{Endpoint, Error, Refusal};
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

/// A token as WeChat gives it out.
pub(super) struct Token {
    pub(super) value: String,
    /// Seconds.
    pub(super) expires_in: u64,
}

/// Returns the body of a request for the portrait of the window that ends on `reference_date`.
pub(super) fn portrait_request(window: Window, reference_date: NaiveDate) -> Value {
    let (begin, end) = calendar::range(window, reference_date);
    serde_json::json!({ "begin_date": compact(begin), "end_date": compact(end) })
}

/// Reads the portrait that was asked for.
///
/// # Errors
///
/// [`Error::Refused`] and [`Error::Empty`] are WeChat's own words; [`Error::Decode`] is all that
/// is no portrait of these days.
pub fn portrait(body: &[u8], window: Window, reference_date: NaiveDate) -> Result<Answer, Error> {
    let (text, answer) = object(body, Endpoint::Portrait)?;
    if let Some(told) = field(&answer, &["ref_date", "refDate"]) {
        check_reference_date(told, window, reference_date)?;
    }
    let mut portrait = Portrait::new(window, reference_date);
    let mut repairs = Repairs::default();
    let mut has_halves = false;
    let halves = [
        (Cohort::New, ["visit_uv_new", "visitUvNew"]),
        (Cohort::Active, ["visit_uv", "visitUv"]),
    ];
    for (cohort, names) in halves {
        let half = match field(&answer, &names) {
            None => continue,
            Some(Value::Object(half)) => half,
            Some(Value::Array(_)) => {
                let problem = format!(
                    "{} is a list, as in an answer of getweanalysisappiddailyretaininfo",
                    names[0]
                );
                return Err(Error::Decode(problem));
            }
            Some(_) => return Err(Error::Decode(format!("{} is no object", names[0]))),
        };
        has_halves = true;
        for dimension in Dimension::ALL {
            let names = field_names(dimension);
            match field(half, names) {
                None => {}
                Some(Value::Array(rows)) => {
                    read_rows(rows, portrait.division_mut(cohort, dimension), &mut repairs);
                }
                Some(_) => return Err(Error::Decode(format!("{} is no list", names[0]))),
            }
        }
    }
    if portrait.is_empty() {
        return Err(match repairs[Repair::UnreadableValue] {
            0 if has_halves
                || answer.is_empty()
                || answer.contains_key("ref_date")
                || code(&answer).is_some() =>
            {
                Error::Empty
            }
            0 => Error::Decode("neither ref_date nor visit_uv is in it".to_owned()),
            _ => Error::Decode("not one of its rows has a name and a number".to_owned()),
        });
    }
    if field(&answer, &["ref_date", "refDate"]).is_none() {
        return Err(Error::Decode(
            "it does not tell its day: ref_date is missing".to_owned(),
        ));
    }
    Ok(Answer {
        portrait,
        text: text.into_owned(),
        repairs,
    })
}

/// Reads the answer of a token endpoint.
pub(super) fn token(body: &[u8]) -> Result<Token, Error> {
    let (_, answer) = object(body, Endpoint::Token)?;
    let value = field(&answer, &["access_token"])
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty());
    let expires_in = field(&answer, &["expires_in"]).and_then(whole_number);
    match (value, expires_in) {
        (Some(value), Some(expires_in)) => Ok(Token {
            value: value.to_owned(),
            expires_in,
        }),
        _ => Err(Error::Decode(
            "access_token or expires_in is missing".to_owned(),
        )),
    }
}

/// Reads an object that is no refusal, and the text that it was read from.
fn object(body: &[u8], endpoint: Endpoint) -> Result<(Cow<'_, str>, Map<String, Value>), Error> {
    let (text, value) = json(body)?;
    let Value::Object(object) = value else {
        return Err(Error::Decode("it is JSON, but no object".to_owned()));
    };
    match code(&object) {
        None | Some(Ok(0)) => Ok((text, object)),
        Some(Ok(errcode)) => {
            let errmsg = field(&object, &["errmsg", "errMsg"])
                .and_then(Value::as_str)
                .unwrap_or_default();
            Err(Error::Refused(Refusal {
                endpoint,
                errcode,
                errmsg: redact(errmsg),
            }))
        }
        Some(Err(())) => Err(Error::Decode("errcode is no whole number".to_owned())),
    }
}

/// Reads JSON, also where it has raw control characters inside strings or broken UTF-8.
fn json(body: &[u8]) -> Result<(Cow<'_, str>, Value), Error> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok((text, value));
    }
    let text = escape_control_characters(&text);
    match serde_json::from_str(&text) {
        Ok(value) => Ok((Cow::Owned(text), value)),
        // The text itself is not repeated: nobody knows what is in it.
        Err(error) => Err(Error::Decode(format!(
            "{} bytes that are no JSON, from line {} column {}",
            body.len(),
            error.line(),
            error.column()
        ))),
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
fn field<'a>(object: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
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
fn whole_number(value: &Value) -> Option<u64> {
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
) -> Result<(), Error> {
    let (begin, end) = calendar::range(window, reference_date);
    let asked = if begin == end {
        compact(end)
    } else {
        format!("{}-{}", compact(begin), compact(end))
    };
    let told = match told {
        Value::String(told) => told.clone(),
        told => told.to_string(),
    };
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let is_date = told
        .chars()
        .all(|character| character.is_ascii_digit() || character == '-');
    if is_date && [digits(&asked), compact(begin), compact(end)].contains(&digits(&told)) {
        return Ok(());
    }
    let told: String = told
        .chars()
        .filter(|character| is_date || character.is_ascii_alphanumeric())
        .take(40)
        .collect();
    Err(Error::Decode(format!(
        "asked for {asked}, its ref_date is {told}"
    )))
}

fn compact(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

/// Returns a sentence of WeChat fit for a log: short, on one line, and without words so long that
/// they could be a secret (32 characters) or a token (more).
fn redact(errmsg: &str) -> String {
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
