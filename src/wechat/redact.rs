//! Removes secrets from foreign text before it is logged or shown.
//!
//! An answer of WeChat or a relay may repeat the request, and with it a token or an
//! AppSecret. Does not depend on requests or answers.

use secrecy::{ExposeSecret as _, SecretString};

/// What replaces a word that holds a secret.
const REDACTED: &str = "[redacted]";

/// Marks a known secret until its word is redacted; a private-use character.
const MARK: char = '\u{e000}';

/// A word as long as this could be a secret: an AppSecret has 32 characters, a token more than 100.
const SUSPICIOUS_LENGTH: usize = 30;

/// The longest text that is repeated, in characters.
const MAX_LENGTH: usize = 300;

/// How much of a text is processed, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// The secrets that an answer might repeat.
#[derive(Default)]
pub struct Redactor {
    known: Vec<SecretString>,
}

impl Redactor {
    /// Adds a secret, which is also recognized as it would be in a URL.
    pub fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        self.known.push(SecretString::from(secret));
        // As it is in a URL.
        let encoded: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        if encoded != secret {
            self.known.push(SecretString::from(encoded));
        }
        // The longest first, as one may be part of another.
        self.known
            .sort_by_key(|known| std::cmp::Reverse(known.expose_secret().len()));
    }

    /// Returns a text fit for a log: short, on one line, without known secrets, and without
    /// words long enough to be other secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let mut text = self.beginning(text).to_owned();
        for known in &self.known {
            let known = known.expose_secret();
            if text.contains(known) {
                text = text.replace(known, &MARK.to_string());
            }
        }
        let mut redacted = String::new();
        let mut word = String::new();
        for character in text.chars().chain([' ']) {
            if is_of_word(character) {
                word.push(character);
                continue;
            }
            redacted += if is_suspicious(&word) {
                REDACTED
            } else {
                &word
            };
            word.clear();
            redacted.push(if character.is_control() {
                ' '
            } else {
                character
            });
        }
        redacted.trim().chars().take(MAX_LENGTH).collect()
    }

    /// Returns the part of a text that is processed, in whole words and without the beginning of a known
    /// secret at its end: half a secret would not be recognized.
    fn beginning<'a>(&self, text: &'a str) -> &'a str {
        if text.len() <= MAX_BYTES {
            return text;
        }
        let mut kept = &text[..text.floor_char_boundary(MAX_BYTES)];
        for known in &self.known {
            let known = known.expose_secret();
            let mut beginnings = known.char_indices().rev().map(|(end, _)| &known[..end]);
            if let Some(rest) = beginnings.find_map(|beginning| kept.strip_suffix(beginning)) {
                kept = rest;
            }
        }
        let words = kept.trim_end_matches(is_of_word);
        // All of it is one word, which is redacted for its length.
        if words.is_empty() { kept } else { words }
    }
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == MARK || "_-+/=.~%".contains(character)
}

/// Returns `true` if a word contains a known secret, or could be another secret. Names of APIs, such as
/// `openapi.analysis.getUserPortrait`, are as long: they are parts of letters alone, none of which is
/// as long as an AppSecret.
fn is_suspicious(word: &str) -> bool {
    let is_name = |word: &str| {
        word.contains(['.', '/'])
            && word
                .split(['.', '/'])
                .all(|part| part.len() < 32 && part.bytes().all(|byte| byte.is_ascii_alphabetic()))
    };
    word.contains(MARK) || word.len() >= SUSPICIOUS_LENGTH && !is_name(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact(text: &str) -> String {
        Redactor::default().redact(text)
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

    #[test]
    fn a_secret_that_is_cut_off_is_not_shown() {
        let secret = "0123456789abcdef0123456789abcdef";
        let mut redactor = Redactor::default();
        redactor.add("ab:cd:ef");
        // Long words, so that little is left of the text before the secret.
        let words = format!("{},", "x".repeat(1000)).repeat(16);
        for (secret, kept) in [(secret, 20), ("ab:cd:ef", 5)] {
            let filler = "x".repeat(MAX_BYTES - kept - words.len() - 1);
            let redacted = redactor.redact(&format!("{words}{filler},{secret}"));
            assert!(!redacted.contains(&secret[..kept]), "{redacted}");
        }
        let redacted = redactor.redact(&"x".repeat(2 * MAX_BYTES));
        assert_eq!(redacted, REDACTED);
    }

    #[test]
    fn names_of_apis_are_kept() {
        for name in [
            "openapi.analysis.getUserPortrait:fail invalid date",
            "no /datacube/getweanalysisappiduserportrait here",
        ] {
            assert_eq!(redact(name), name);
        }
        for secret in [
            "abcdefabcdefabcdefabcdefabcdefab",
            "x.abcdefabcdefabcdefabcdefabcdefab",
            "openapi.analysis.getUserPortrait2",
        ] {
            assert_eq!(redact(secret), REDACTED);
        }
    }

    #[test]
    fn known_secrets_are_redacted_whatever_their_length() {
        let mut redactor = Redactor::default();
        for secret in ["", "s3cr3t:s3cr3t", "s3cr3t", "a b/c"] {
            redactor.add(secret);
        }
        for (text, expected) in [
            ("it was s3cr3t:s3cr3t!", "it was [redacted]!"),
            ("ends_in_s3cr3t", "[redacted]"),
            ("x=s3cr3t&y", "[redacted]&y"),
            ("?token=a+b%2Fc", "?[redacted]"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(redactor.redact(text), expected);
        }
    }
}
