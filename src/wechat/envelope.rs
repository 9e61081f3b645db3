//! Decodes one object of an answer: WeChat's error code, the portrait, and their envelopes.
//!
//! Cloud functions and programs in between put answers into others, as text or as objects. Keys that
//! have no meaning here are skipped. Does not depend on days.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{DecodeError, Refusal};
use super::figures::{Best, COHORT_KEYS, Half, HalfSeed, Key, skip, spelling, text};
use super::redact::Redactor;
use super::requests::Endpoint;

/// The keys of envelopes around answers.
const ENVELOPE_KEYS: &[&str] = &["resp_data", "respData", "data", "result"];

const ERRCODE_KEYS: &[&str] = &["errcode", "errCode"];
const ERRMSG_KEYS: &[&str] = &["errmsg", "errMsg"];
const REF_DATE_KEYS: &[&str] = &["ref_date", "refDate"];

/// One object of an answer.
#[derive(Debug, Default)]
pub(super) struct Layer<'a> {
    pub(super) ref_date: Best<&'a RawValue>,
    pub(super) halves: [Best<Half>; COHORT_KEYS.len()],
    pub(super) access_token: Best<&'a RawValue>,
    pub(super) expires_in: Best<&'a RawValue>,
    /// The sentence of an error that a function threw.
    thrown: Best<&'a RawValue>,
    errcode: Best<&'a RawValue>,
    errmsg: Best<&'a RawValue>,
    inner: Best<&'a RawValue>,
    has_keys: bool,
}

impl<'a> Layer<'a> {
    /// Decodes a text that is JSON; `None` if it is not an object.
    pub(super) fn read(text: &'a str) -> serde_json::Result<Option<Self>> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let layer = LayerSeed.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(layer.map(|layer| *layer))
    }

    /// Returns the error code, if there is one; `Err` if it is unreadable.
    pub(super) fn errcode_of(&self) -> Option<Result<i64, ()>> {
        let value = self.errcode.get()?;
        let number = match text(value) {
            Some(text) => text.trim().parse().ok(),
            None => value.get().parse().ok(),
        };
        Some(number.ok_or(()))
    }

    /// Returns an error if this is a refusal, or could be one.
    pub(super) fn check(&self, endpoint: Endpoint, redactor: &Redactor) -> Result<(), DecodeError> {
        match self.errcode_of() {
            None | Some(Ok(0)) => Ok(()),
            Some(Ok(errcode)) => {
                let errmsg = self.errmsg.get().and_then(|errmsg| text(errmsg));
                Err(DecodeError::Refused(Refusal {
                    endpoint,
                    errcode,
                    errmsg: redactor.redact(&errmsg.unwrap_or_default()),
                }))
            }
            Some(Err(())) => Err(DecodeError::Unreadable(
                endpoint,
                "errcode is not a whole number".to_owned(),
            )),
        }
    }

    /// Returns the text of the answer in this one, if it is only an envelope.
    pub(super) fn unwrap_envelope(&self) -> Result<Option<String>, DecodeError> {
        let is_answer =
            self.ref_date.get().is_some() || self.halves.iter().any(|half| half.get().is_some());
        let Some(inner) = self.inner.get().filter(|_| !is_answer) else {
            return Ok(None);
        };
        let raw = inner.get();
        let is_object = || raw.starts_with('{') && raw[1..].trim_start() != "}";
        match text(inner) {
            Some(text) if text.is_empty() => Err(DecodeError::Unreadable(
                Endpoint::Portrait,
                "the cloud function returned nothing".to_owned(),
            )),
            Some(text) => Ok(Some(text.into_owned())),
            None if is_object() => Ok(Some(raw.to_owned())),
            None => Ok(None),
        }
    }

    /// Returns why it contains no portrait.
    pub(super) fn without_figures(&self, redactor: &Redactor) -> DecodeError {
        let has_figures = |half: &Best<Half>| matches!(half.get(), Some(Half::Figures(_)));
        if !self.has_keys
            || self.ref_date.get().is_some()
            || self.errcode.get().is_some()
            || self.halves.iter().any(has_figures)
        {
            return DecodeError::Empty;
        }
        let thrown = self.thrown.get().and_then(|thrown| text(thrown));
        let problem = match thrown {
            Some(thrown) => format!("an error was thrown, {}", redactor.redact(&thrown)),
            None => "neither ref_date nor visit_uv is in it".to_owned(),
        };
        DecodeError::Unreadable(Endpoint::Portrait, problem)
    }
}

/// Deserializes an object; `None` for anything else.
struct LayerSeed;

impl<'de> DeserializeSeed<'de> for LayerSeed {
    type Value = Option<Box<Layer<'de>>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for LayerSeed {
    type Value = Option<Box<Layer<'de>>>;

    skip!('de, None, unit bool numbers text list);

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut layer = Box::<Layer<'de>>::default();
        while let Some(key) = map.next_key_seed(Key(Known::of))? {
            layer.has_keys = true;
            match key {
                Known::Half(index, spelling) if layer.halves[index].is_beaten_by(spelling) => {
                    if let Some(half) = map.next_value_seed(HalfSeed)? {
                        layer.halves[index].offer(spelling, half);
                    }
                }
                Known::RefDate(spelling) => layer.ref_date.read(spelling, &mut map)?,
                Known::Errcode(spelling) => layer.errcode.read(spelling, &mut map)?,
                Known::Errmsg(spelling) => layer.errmsg.read(spelling, &mut map)?,
                Known::Envelope(spelling) => layer.inner.read(spelling, &mut map)?,
                Known::Thrown => layer.thrown.read(0, &mut map)?,
                Known::AccessToken => layer.access_token.read(0, &mut map)?,
                Known::ExpiresIn => layer.expires_in.read(0, &mut map)?,
                Known::Half(..) | Known::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(layer))
    }
}

/// The keys that have a meaning, each with the spelling that was used.
enum Known {
    Half(usize, usize),
    RefDate(usize),
    Errcode(usize),
    Errmsg(usize),
    Envelope(usize),
    Thrown,
    AccessToken,
    ExpiresIn,
    Other,
}

impl Known {
    fn of(key: &str) -> Self {
        match key {
            "errorMessage" => return Self::Thrown,
            "access_token" => return Self::AccessToken,
            "expires_in" => return Self::ExpiresIn,
            _ => {}
        }
        let half = COHORT_KEYS
            .iter()
            .enumerate()
            .find_map(|(index, (_, keys))| {
                let spelling = spelling(keys, key)?;
                Some(Self::Half(index, spelling))
            });
        let of = |keys, known: fn(usize) -> Self| spelling(keys, key).map(known);
        half.or_else(|| of(REF_DATE_KEYS, Self::RefDate))
            .or_else(|| of(ERRCODE_KEYS, Self::Errcode))
            .or_else(|| of(ERRMSG_KEYS, Self::Errmsg))
            .or_else(|| of(ENVELOPE_KEYS, Self::Envelope))
            .unwrap_or(Self::Other)
    }
}
