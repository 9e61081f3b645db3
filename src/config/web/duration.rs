//! Durations as Go writes them: `1h30m`, `1.5s`, `100ms`; there are no days.

/// The units, in nanoseconds. A longer name precedes one that it begins with.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Returns the nanoseconds of a duration, unless it is not one or is longer than 292 years.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanoseconds: i128 = 0;
    loop {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (name, unit) = UNITS.iter().find(|(name, _)| after.starts_with(name))?;
        // More digits are less than a nanosecond.
        let fraction = &fraction[..fraction.len().min(18)];
        let number = |digits: &str| match digits {
            "" => Some(0),
            digits => digits.parse::<i64>().ok().map(i128::from),
        };
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        nanoseconds += number(whole)? * unit + number(fraction)? * unit / scale;
        rest = &after[name.len()..];
        if rest.is_empty() {
            return i64::try_from(sign * nanoseconds).ok();
        }
    }
}

/// Splits the digits off at the beginning.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|digit: char| !digit.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_those_of_go() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("5ns", 5),
            ("1s", 1_000_000_000),
            ("+1s", 1_000_000_000),
            ("-1s", -1_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("2us3µs4μs", 9_000),
            ("1m1ms", 60_001_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for text in [
            "",
            "-",
            "5",
            "1d",
            "s",
            ".s",
            "1 s",
            "1s ",
            "1e3s",
            "--1s",
            "1S",
            "300000000h",
            "9223372036854775808ns",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
