//! Turns what is almost JSON into JSON.
//!
//! Answers may have raw control characters inside strings, broken UTF-8, halves of surrogate
//! pairs, and numbers beyond any type. Each invalidates at most its row. Does not depend on
//! the content of answers.

use std::borrow::Cow;

/// The largest answer, repaired or not: the largest portraits seen have some 50 KB.
pub(super) const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// The text is longer than [`MAX_RESPONSE_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Returns a body as text, without a byte order mark and with `U+FFFD` for what is not UTF-8.
pub(super) fn text_of(body: &[u8]) -> Result<Cow<'_, str>, TooLong> {
    if body.len() > MAX_RESPONSE_BYTES {
        return Err(TooLong);
    }
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = std::str::from_utf8(body) {
        return Ok(Cow::Borrowed(text));
    }
    let mut text = Bounded::default();
    for chunk in body.utf8_chunks() {
        text.push(chunk.valid())?;
        if !chunk.invalid().is_empty() {
            text.push("\u{fffd}")?;
        }
    }
    Ok(Cow::Owned(text.0))
}

/// Returns a text with escapes for raw control characters inside strings, `U+FFFD` for halves of
/// surrogate pairs, and `[]` for numbers beyond the largest `f64`.
///
/// Other errors in it are left as they are.
pub(super) fn sanitise(text: &str) -> Result<String, TooLong> {
    let mut sanitised = Bounded(String::with_capacity(text.len()));
    let mut rest = text;
    let mut in_string = false;
    while !rest.is_empty() {
        let is_special = |character: char| {
            if in_string {
                character < ' ' || matches!(character, '"' | '\\')
            } else {
                matches!(character, '"' | '-' | '0'..='9')
            }
        };
        let plain = rest.find(is_special).unwrap_or(rest.len());
        sanitised.push(&rest[..plain])?;
        rest = &rest[plain..];
        let length = match rest.as_bytes() {
            [] => break,
            [b'"', ..] => {
                in_string = !in_string;
                sanitised.push("\"")?;
                1
            }
            [b'\\', b'u', ..] => {
                let (escape, length) = escape(rest);
                sanitised.push(escape)?;
                length
            }
            [b'\\', next, ..] if *next >= b' ' => {
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                sanitised.push(&rest[..length])?;
                length
            }
            [byte, ..] if in_string => {
                if *byte == b'\\' {
                    sanitised.push("\\\\")?;
                } else {
                    sanitised.push(&format!("\\u{byte:04x}"))?;
                }
                1
            }
            _ => {
                let is_of_number =
                    |character: char| character.is_ascii_digit() || "+-.eE".contains(character);
                let length = rest
                    .find(|character| !is_of_number(character))
                    .unwrap_or(rest.len());
                let number = &rest[..length];
                let is_too_large = number.parse().is_ok_and(f64::is_infinite);
                sanitised.push(if is_too_large { "[]" } else { number })?;
                length
            }
        };
        rest = &rest[length..];
    }
    Ok(sanitised.0)
}

/// Returns what to write for the escape `\u…` at the beginning of a text, and how many bytes it takes
/// there.
fn escape(text: &str) -> (&str, usize) {
    const LENGTH: usize = r"\uffff".len();
    let unit_at = |begin: usize| {
        let escape = text.get(begin..begin + LENGTH)?;
        let digits = escape.strip_prefix(r"\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    match (unit_at(0), unit_at(LENGTH)) {
        (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => (&text[..2 * LENGTH], 2 * LENGTH),
        (Some(0xd800..0xe000), _) => (r"\ufffd", LENGTH),
        (Some(_), _) => (&text[..LENGTH], LENGTH),
        // Not an escape, which is left as it is.
        (None, _) => (&text[..2], 2),
    }
}

/// A text that does not grow beyond [`MAX_RESPONSE_BYTES`]: one control character becomes six.
#[derive(Default)]
struct Bounded(String);

impl Bounded {
    fn push(&mut self, text: &str) -> Result<(), TooLong> {
        let length = self.0.len() + text.len();
        if length > MAX_RESPONSE_BYTES {
            return Err(TooLong);
        }
        if length > self.0.capacity() {
            // No more than needed at the end, where doubling would cost most.
            let capacity = (2 * self.0.capacity()).clamp(length, MAX_RESPONSE_BYTES);
            self.0.reserve_exact(capacity - self.0.len());
        }
        self.0 += text;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn sanitised(text: &str) -> String {
        sanitise(text).unwrap()
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (text, expected) in [
            (r#""OPPO \ud83d""#, "OPPO \u{fffd}"),
            (r#""\ude00 x""#, "\u{fffd} x"),
            (r#""\ud83d\ude00""#, "😀"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\uD83D\u0041""#, "\u{fffd}A"),
        ] {
            let value: Value = serde_json::from_str(&sanitised(text)).unwrap();
            assert_eq!(value, expected, "{text}");
        }
    }

    #[test]
    fn control_characters_are_escaped_inside_strings_only() {
        let text = "{\n\t\"a\tb\\\n\": \"\u{1}\\\"\r\"}";
        let value: Value = serde_json::from_str(&sanitised(text)).unwrap();
        assert_eq!(value["a\tb\\\n"], "\u{1}\"\r");
    }

    #[test]
    fn numbers_beyond_any_type_are_replaced() {
        let text = r#"{"a":1e400,"b":-1E+999,"c":1e300,"d":"1e400","e":[12,1e9999]}"#;
        let expected = r#"{"a":[],"b":[],"c":1e300,"d":"1e400","e":[12,[]]}"#;
        assert_eq!(sanitised(text), expected);
    }

    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let text = format!("\"{}\"", "\u{1}".repeat(2 << 20));
        assert_eq!(sanitise(&text), Err(TooLong));
        assert_eq!(text_of(&vec![0xff; 4 << 20]), Err(TooLong));
        assert_eq!(text_of(&vec![b' '; MAX_RESPONSE_BYTES + 1]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn good_json_stays_as_it_is(text in "[\"\\\\a-f0-9u{}:,.é😀 -]{0,40}") {
            let quoted = Value::from(text).to_string();
            prop_assert_eq!(sanitised(&quoted), quoted);
        }

        #[test]
        fn no_text_breaks_it(text in any::<String>(), body in any::<Vec<u8>>()) {
            let _ = sanitised(&text);
            let _ = text_of(&body).unwrap();
        }
    }
}
