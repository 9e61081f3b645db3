//! Reads a token: from the answer of a token endpoint, a token server, a file or a program.
//!
//! Pure: bytes in, a token out. Knows neither where they came from nor how long to use it.

use serde_json::{Map, Value};

use crate::wechat::error::DecodeError;
use crate::wechat::requests::Endpoint;
use crate::wechat::wire::{field, object, whole_number};

/// A token as WeChat issues it, or somebody in its place.
pub(in crate::wechat) struct Token {
    pub(in crate::wechat) value: String,
    /// Seconds, if they are known.
    pub(in crate::wechat) expires_in: Option<u64>,
}

/// Reads what a source of tokens gives: the answer of a token endpoint, perhaps without a life, or
/// nothing but the token.
pub(in crate::wechat) fn given(output: &[u8]) -> Result<Token, DecodeError> {
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    if text.starts_with('{') {
        let (_, answer) = object(text.as_bytes(), Endpoint::Token)?;
        return read_token(&answer);
    }
    let is_word = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() {
        Err(unreadable("it is empty"))
    } else if !is_word || text.starts_with(['<', '[', '"']) {
        Err(unreadable(
            "it is neither one word nor {\"access_token\": …}",
        ))
    } else {
        Ok(Token {
            value: text.to_owned(),
            expires_in: None,
        })
    }
}

/// Reads the answer of a token endpoint of WeChat.
pub(super) fn issued(body: &[u8]) -> Result<Token, DecodeError> {
    let (_, answer) = object(body, Endpoint::Token)?;
    let token = read_token(&answer)?;
    if token.expires_in.is_none() {
        return Err(unreadable("expires_in is missing"));
    }
    Ok(token)
}

fn read_token(answer: &Map<String, Value>) -> Result<Token, DecodeError> {
    let value = field(answer, &["access_token"])
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| unreadable("access_token is missing"))?;
    let expires_in = field(answer, &["expires_in"])
        .map(|seconds| whole_number(seconds).ok_or_else(|| unreadable("expires_in is no number")))
        .transpose()?;
    Ok(Token {
        value: value.to_owned(),
        expires_in,
    })
}

fn unreadable(problem: &str) -> DecodeError {
    DecodeError::Unreadable(Endpoint::Token, problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_a_text_and_a_life() {
        for body in [
            r#"{"access_token":"T","expires_in":7200}"#,
            r#"{"access_token":"T","expires_in":"7200","errcode":0}"#,
        ] {
            let token = issued(body.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((token.value.as_str(), token.expires_in), ("T", Some(7200)));
        }
        for (body, expected) in [
            (
                r#"{"access_token":"","expires_in":7200}"#,
                "access_token is missing",
            ),
            (r#"{"access_token":"secret"}"#, "expires_in is missing"),
            (
                r#"{"access_token":"secret","expires_in":-1}"#,
                "expires_in is no number",
            ),
            (
                r#"{"access_token":5,"expires_in":7200}"#,
                "access_token is missing",
            ),
            ("{}", "access_token is missing"),
        ] {
            let Err(DecodeError::Unreadable(Endpoint::Token, problem)) = issued(body.as_bytes())
            else {
                panic!("{body}");
            };
            assert_eq!(problem, expected, "{body}");
        }
        let refused = issued(br#"{"errcode":40125,"errmsg":"invalid appsecret"}"#);
        let Err(DecodeError::Refused(refusal)) = refused else {
            panic!("refused");
        };
        assert_eq!(
            (refusal.endpoint, refusal.errcode),
            (Endpoint::Token, 40125)
        );
    }

    #[test]
    fn a_given_is_a_word_or_an_object() {
        let given =
            |text: &str| given(text.as_bytes()).map(|token| (token.value, token.expires_in));
        for (text, expires_in) in [
            ("T_-1\n", None),
            ("  T_-1", None),
            (r#"{"access_token":"T_-1"}"#, None),
            (r#"{"access_token":"T_-1","expires_in":"60"}"#, Some(60)),
        ] {
            assert_eq!(given(text).unwrap(), ("T_-1".to_owned(), expires_in));
        }
        for (text, expected) in [
            ("", "unreadable answer: it is empty"),
            (" \n", "unreadable answer: it is empty"),
            (
                "a b",
                "unreadable answer: it is neither one word nor {\"access_token\": …}",
            ),
            (
                "<html></html>",
                "unreadable answer: it is neither one word nor {\"access_token\": …}",
            ),
            ("{}", "unreadable answer: access_token is missing"),
            (
                r#"{"errcode":40164,"errmsg":"x"}"#,
                "WeChat answered errcode 40164",
            ),
        ] {
            assert_eq!(given(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
