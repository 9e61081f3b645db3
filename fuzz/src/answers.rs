//! What WeChat and programs in between answer: portraits, envelopes around them, tokens, messages of errors.

use chrono::{DateTime, NaiveDate};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use wxapp_portrait_exporter::archive::{DayState, Key, Record, Row};
use wxapp_portrait_exporter::portrait::{Cohort, Dimension, Portrait, Window};
use wxapp_portrait_exporter::wechat::{Answer, DecodeError, Redactor, decode, encode, tokens};

/// The keys under which answers are put into others.
const ENVELOPES: [&str; 4] = ["data", "resp_data", "respData", "result"];

/// How many envelopes an answer may have.
const MOST_ENVELOPES: usize = 4;

/// A known secret, which looks like no secret.
const KNOWN: &str = "correct:horse";

/// A word of the exporter's own sentences that is as long as a secret.
const OTHER_API: &str = "getweanalysisappiddailyretaininfo";

/// What replaces a secret.
const REDACTED: &str = "[redacted]";

/// A word as long as this could be a secret.
const SUSPICIOUS: usize = 30;

fn default_day() -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()
}

/// Decodes the bytes as an answer of the days that it states.
fn decoded(body: &[u8]) -> Result<Answer, DecodeError> {
    let covered = decode::covered(body).ok().flatten();
    let (window, day) = covered.unwrap_or((Window::OneDay, default_day()));
    decode::portrait(body, window, day)
}

/// An answer to a request for a portrait: what is accepted is bounded, and is the same when it is read from
/// the archive; what is refused is refused in a sentence fit for a log.
pub fn portrait(body: &[u8]) {
    if let Err(error) = decode::covered(body) {
        assert_fit_for_a_log(&sentence(&error));
    }
    let Answer { portrait, text, .. } = match decoded(body) {
        Ok(answer) => answer,
        Err(error) => return assert_fit_for_a_log(&sentence(&error)),
    };
    for cohort in Cohort::ALL {
        for dimension in Dimension::ALL {
            let breakdown = portrait.breakdown(cohort, dimension);
            assert!(breakdown.len() <= 2_001, "{} names", breakdown.len());
            for (name, users) in breakdown.iter() {
                assert!(name.len() <= 256 && !name.trim().is_empty(), "{name:?}");
                assert!(breakdown.total().is_none_or(|total| total >= users));
            }
        }
    }
    serde_json::from_str::<IgnoredAny>(&text).unwrap();
    let (window, day) = (portrait.window, portrait.reference_date);
    let again = decode::portrait(text.as_bytes(), window, day).unwrap();
    assert_eq!((&again.portrait, &again.text), (&portrait, &text));
    for text in [&text, &encode(&portrait)] {
        assert_eq!(decode::archived(text, window, day).unwrap(), portrait);
    }
    let row = Row::from(&Record {
        key: Key {
            appid: "wx0123456789abcdef".parse().unwrap(),
            window,
            reference_date: day,
        },
        state: DayState {
            first_answered_at: DateTime::UNIX_EPOCH,
            answered_at: DateTime::UNIX_EPOCH,
            settled: false,
            revisions: 0,
        },
        answer: text.clone(),
    });
    assert_eq!(row.answer(), Some(text));
}

/// An answer in envelopes: none of them changes it, and there are not too many.
pub fn envelope(body: &[u8]) {
    let bare = decoded(body);
    let same = |wrapped: Result<Answer, DecodeError>, bare: &Portrait| {
        let wrapped = wrapped.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(wrapped.portrait, *bare);
    };
    match &bare {
        Ok(bare) => {
            let (window, day) = (bare.portrait.window, bare.portrait.reference_date);
            let mut text = bare.text.clone();
            for depth in 1..=MOST_ENVELOPES {
                text = wrapped(&text, body.len() + depth);
                let covered = decode::covered(text.as_bytes()).unwrap();
                assert!(covered.is_none_or(|covered| covered == (window, day)));
                same(
                    decode::portrait(text.as_bytes(), window, day),
                    &bare.portrait,
                );
            }
            text = wrapped(&text, body.len());
            assert!(decode::portrait(text.as_bytes(), window, day).is_err());
        }
        Err(error) => {
            // Only what is JSON stays the same as a part of other JSON.
            let text = String::from_utf8_lossy(body);
            if serde_json::from_str::<Map<String, Value>>(&text).is_ok() {
                let answer = decoded(wrapped(&text, body.len()).as_bytes());
                match (error, answer) {
                    (_, Ok(answer)) => panic!("{:?} in an envelope only", answer.portrait),
                    (DecodeError::Refused(refusal), Err(DecodeError::Refused(wrapped))) => {
                        assert_eq!(
                            (wrapped.errcode, &wrapped.errmsg),
                            (refusal.errcode, &refusal.errmsg)
                        );
                    }
                    (DecodeError::Refused(_), Err(other)) => panic!("{error} became {other}"),
                    (_, Err(error)) => assert_fit_for_a_log(&sentence(&error)),
                }
            }
        }
    }
}

/// Puts an answer into an envelope, as text or as an object.
fn wrapped(text: &str, choice: usize) -> String {
    let key = ENVELOPES[choice % ENVELOPES.len()];
    if (choice / ENVELOPES.len()).is_multiple_of(2) {
        format!(r#"{{"errcode":0,"errmsg":"ok","{key}":{text}}}"#)
    } else {
        format!(r#"{{"errcode":0,"{key}":{}}}"#, Value::from(text))
    }
}

/// The output of a source of tokens: a token can be sent, and an error repeats neither a known secret
/// nor anything that looks like one.
pub fn token(output: &[u8]) {
    let mut redactor = Redactor::default();
    redactor.add(KNOWN);
    let issued = tokens::issued(output, &redactor);
    let given = tokens::given(output, &redactor);
    for result in [&issued, &given] {
        match result {
            Ok(token) => {
                let is_word = token.value.bytes().all(|byte| byte.is_ascii_graphic());
                assert!(is_word && (1..=16 << 10).contains(&token.value.len()));
            }
            Err(error) => {
                let sentence = sentence(error);
                assert!(!sentence.contains(KNOWN), "{sentence}");
                assert_fit_for_a_log(&sentence);
            }
        }
    }
    if let (Ok(issued), Ok(given)) = (&issued, &given) {
        assert_eq!(issued.value, given.value);
        assert!(issued.expires_in.is_some() && issued.expires_in == given.expires_in);
    }
}

/// A secret in the first line, and a foreign text below it, in which `$` stands for the secret, `&` for the secret
/// as it is in a URL, and `@` for a word of a thousand letters: no part of the secret is left of that.
pub fn errmsg(data: &[u8]) {
    let data = String::from_utf8_lossy(data);
    let (secret, text) = data.split_once('\n').unwrap_or((&data, "$"));
    let secret: String = secret.chars().filter(char::is_ascii_graphic).collect();
    let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let foreign = text
        .replace('$', &secret)
        .replace('&', &encoded)
        .replace('@', &"x".repeat(1000));
    let mut redactor = Redactor::default();
    redactor.add(&secret);
    let redacted = redactor.redact(&foreign);
    assert!(redacted.chars().count() <= 300, "{redacted}");
    assert_fit_for_a_log(&redacted);
    // What replaces secrets may have letters of a short one, and may be cut off itself.
    let mut rest = redacted.replace(REDACTED, "\u{0}");
    if let Some(last) = rest
        .rfind('[')
        .filter(|last| REDACTED.starts_with(&rest[*last..]))
    {
        rest.truncate(last);
    }
    if !secret.is_empty() {
        assert!(!rest.contains(&secret), "{rest}");
    }
    // Where its beginning occurs as well, that is not known to be secret.
    let beginning = &secret[..secret.len().min(12)];
    let has_beginning = text.replace(['$', '&', '@'], "\u{0}").contains(beginning);
    if secret.len() > 12 && secret == encoded && !has_beginning {
        assert!(!rest.contains(beginning), "{rest}");
    }
}

/// Returns an error with everything that is logged of it.
fn sentence(error: &DecodeError) -> String {
    match error {
        DecodeError::Refused(refusal) => format!("{error} {}", refusal.errmsg),
        DecodeError::Empty | DecodeError::Unreadable(..) => error.to_string(),
    }
}

/// A line in a log is short, and has no word that could be a secret: only names of APIs are as long.
fn assert_fit_for_a_log(text: &str) {
    assert!(text.chars().count() <= 400, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    let is_of_word =
        |character: char| character.is_ascii_alphanumeric() || "_-+/=.~%".contains(character);
    let text = text.replace(OTHER_API, "");
    for word in text.split(|character| !is_of_word(character)) {
        let is_name = word.contains(['.', '/'])
            && word
                .split(['.', '/'])
                .all(|part| part.len() < 32 && part.bytes().all(|byte| byte.is_ascii_alphabetic()));
        assert!(word.len() < SUSPICIOUS || is_name, "{text}");
    }
}
