//! Reads a token: from the answer of a token endpoint, a token server, a file or a program.
//!
//! Pure: bytes in, a token out. Does not depend on their source or on how long a token is used.

use crate::wechat::decode::innermost;
use crate::wechat::error::DecodeError;
use crate::wechat::figures::{text, whole_number};
use crate::wechat::redact::Redactor;
use crate::wechat::requests::Endpoint;

/// The longest token that is sent: WeChat's have some 500 bytes, and a URL must not be longer than 64 KiB.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A token as WeChat issues it, or another source in its place.
pub struct Token {
    /// What is sent with requests: letters, digits and other visible characters of ASCII.
    pub value: String,
    /// Seconds, if they are known.
    pub expires_in: Option<u64>,
}

/// Reads the output of a source of tokens: the answer of a token endpoint, perhaps without a lifetime, or
/// nothing but the token. Errors do not repeat the secrets of the redactor.
///
/// # Errors
///
/// It is an error of WeChat, or has no token that can be sent.
pub fn given(output: &[u8], redactor: &Redactor) -> Result<Token, DecodeError> {
    let body = output.trim_ascii();
    if body.starts_with(b"{") {
        return object(body, redactor);
    }
    let text = String::from_utf8_lossy(body);
    let is_word = text.bytes().all(|byte| byte.is_ascii_graphic());
    if text.is_empty() {
        Err(unreadable("it is empty"))
    } else if !is_word || text.starts_with(['<', '[', '"']) {
        Err(unreadable(
            "it is neither one word nor {\"access_token\": …}",
        ))
    } else {
        token(&text, None)
    }
}

/// Reads the answer of a token endpoint of WeChat, which has a lifetime. Errors do not repeat the secrets of the redactor.
///
/// # Errors
///
/// It is an error of WeChat, or has no token that can be sent.
pub fn issued(body: &[u8], redactor: &Redactor) -> Result<Token, DecodeError> {
    let token = object(body, redactor)?;
    if token.expires_in.is_none() {
        return Err(unreadable("expires_in is missing"));
    }
    Ok(token)
}

fn object(body: &[u8], redactor: &Redactor) -> Result<Token, DecodeError> {
    let mut found = None;
    innermost(body, Endpoint::Token, redactor, |answer| {
        let value = answer.access_token.get().and_then(|value| text(value));
        let value = value.filter(|token| !token.is_empty());
        let value = value.ok_or_else(|| unreadable("access_token is missing"))?;
        let expires_in = answer.expires_in.get().map(|seconds| {
            whole_number(seconds).ok_or_else(|| unreadable("expires_in is not a number"))
        });
        found = Some(token(&value, expires_in.transpose()?)?);
        Ok(())
    })?;
    found.ok_or_else(|| unreadable("access_token is missing"))
}

/// Accepts a token that can be sent.
fn token(value: &str, expires_in: Option<u64>) -> Result<Token, DecodeError> {
    if value.len() > MAX_TOKEN_BYTES {
        let length = value.len();
        return Err(unreadable(&format!(
            "the token has {length} bytes, and at most {MAX_TOKEN_BYTES} can be sent"
        )));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unreadable(
            "the token has blanks, control characters or others that no token has",
        ));
    }
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

    fn given(output: &[u8]) -> Result<Token, DecodeError> {
        super::given(output, &Redactor::default())
    }

    fn issued(body: &[u8]) -> Result<Token, DecodeError> {
        super::issued(body, &Redactor::default())
    }

    #[test]
    fn a_token_has_a_text_and_a_lifetime() {
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
                "expires_in is not a number",
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
    fn a_given_token_is_a_word_or_an_object() {
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
            ("", "unreadable response: it is empty"),
            (" \n", "unreadable response: it is empty"),
            (
                "a b",
                "unreadable response: it is neither one word nor {\"access_token\": …}",
            ),
            (
                "<html></html>",
                "unreadable response: it is neither one word nor {\"access_token\": …}",
            ),
            ("{}", "unreadable response: access_token is missing"),
            (
                r#"{"errcode":40164,"errmsg":"x"}"#,
                "WeChat returned errcode 40164",
            ),
        ] {
            assert_eq!(given(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_with_a_reason() {
        let long = "x".repeat(100_000);
        let too_long = "the token has 100000 bytes, and at most 16384 can be sent";
        let illegal = "the token has blanks, control characters or others that no token has";
        for (body, expected) in [
            (long.clone(), too_long),
            (format!(r#"{{"access_token":"{long}"}}"#), too_long),
            (r#"{"access_token":"a b"}"#.to_owned(), illegal),
            (r#"{"access_token":"a\r\nb"}"#.to_owned(), illegal),
            (r#"{"access_token":"令牌"}"#.to_owned(), illegal),
        ] {
            let error = given(body.as_bytes()).err().unwrap().to_string();
            assert_eq!(error, format!("unreadable response: {expected}"));
        }
    }
}
