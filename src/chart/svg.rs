//! What all charts are drawn with: texts, positions in percent, paths.
//!
//! Coordinates of paths are whole numbers: they are short, and equal in every run. Knows nothing of
//! what a chart shows.

use std::fmt::{self, Display, Formatter};

use askama::filters::{Escaper as _, Html};

/// The direction in which a value left what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swing {
    /// Above the upper bound.
    Up,
    /// Below the lower bound.
    Down,
}

impl Swing {
    /// Returns the class that colors its sign.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Up => "chart-up",
            Self::Down => "chart-down",
        }
    }
}

/// A text of the caller, escaped for text and for attributes in double quotes.
///
/// Control characters are left out: XML has no way to write them.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut pieces = self.0.split(char::is_control);
        pieces.try_for_each(|piece| Html.write_escaped_str(&mut *f, piece))
    }
}

/// A part of a whole, written in percent with at most two decimals.
pub(super) struct Percent(pub(super) f64);

impl Display for Percent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 10_000.0).round() / 100.0)
    }
}

/// Returns `value` if a chart can show it: neither negative, infinite, nor not a number.
pub(super) fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

/// Returns how far `part` of `whole` is from the top of `height`.
pub(super) fn below_top(part: f64, whole: f64, height: i32) -> i32 {
    let share = if whole > 0.0 { part / whole } else { 0.0 };
    let below = ((1.0 - share) * f64::from(height)).round();
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates")]
    let below = below as i32;
    below
}

/// A position: to the right, and down.
pub(super) type Point = (i32, i32);

/// Lines and areas that are drawn alike.
#[derive(Default)]
pub(super) struct Path {
    figures: Vec<(Vec<Point>, &'static str)>,
}

impl Path {
    /// Adds a line through `points`, unless there are none.
    pub(super) fn line(&mut self, points: Vec<Point>) {
        if !points.is_empty() {
            self.figures.push((points, ""));
        }
    }

    /// Adds the area between two lines that both run to the right.
    pub(super) fn area(&mut self, mut upper: Vec<Point>, lower: Vec<Point>) {
        upper.extend(lower.into_iter().rev());
        self.figures.push((upper, "z"));
    }

    /// Adds the area from a line down to the height `y`.
    pub(super) fn down_to(&mut self, y: i32, line: Vec<Point>) {
        let bottom = [line.first(), line.last()].into_iter().flatten();
        let bottom = bottom.map(|(x, _)| (*x, y)).collect();
        self.area(line, bottom);
    }

    /// Adds a rectangle between two corners.
    pub(super) fn rectangle(&mut self, (left, top): Point, (right, bottom): Point) {
        self.down_to(bottom, vec![(left, top), (right, top)]);
    }

    /// Writes the element, unless nothing was added.
    pub(super) fn draw(&self, f: &mut Formatter<'_>, class: &str) -> fmt::Result {
        if self.figures.is_empty() {
            return Ok(());
        }
        write!(f, r#"<path class="{class}" d="{self}"/>"#)
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (points, end) in &self.figures {
            let mut last = None;
            for &(x, y) in points {
                match last.map(|(last_x, last_y)| (x - last_x, y - last_y)) {
                    None => write!(f, "M{x} {y}")?,
                    Some((right, 0)) => write!(f, "h{right}")?,
                    Some((0, down)) => write!(f, "v{down}")?,
                    Some((right, down)) if down < 0 => write!(f, "l{right}{down}")?,
                    Some((right, down)) => write!(f, "l{right} {down}")?,
                }
                last = Some((x, y));
            }
            f.write_str(end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns what is drawn after it was found to be well-formed, and without what the content
    /// security policy forbids.
    pub(in super::super) fn drawn(chart: &impl Display) -> String {
        let text = chart.to_string();
        let whole = format!("<div>{text}</div>");
        let document =
            roxmltree::Document::parse(&whole).unwrap_or_else(|error| panic!("{error}: {text}"));
        for element in document.descendants() {
            assert!(
                !element.has_tag_name("style") && !element.has_tag_name("script"),
                "{text}"
            );
            assert!(!element.has_attribute("style"), "{text}");
        }
        for bad in ["NaN", "inf"] {
            assert!(!text.contains(bad), "{text}");
        }
        assert_eq!(text, chart.to_string());
        text
    }

    /// Returns the attribute `name` of all elements that have `class` among their classes.
    pub(in super::super) fn attributes(text: &str, class: &str, name: &str) -> Vec<String> {
        let whole = format!("<div>{text}</div>");
        let document = roxmltree::Document::parse(&whole).unwrap();
        let with_class = document.descendants().filter(|element| {
            let classes = element.attribute("class").unwrap_or_default();
            classes.split(' ').any(|other| other == class)
        });
        with_class
            .map(|element| element.attribute(name).unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn markup_and_control_characters_of_a_text_are_harmless() {
        let text = Text("<a b=\"c\">&'\u{0}\u{1b}").to_string();
        assert_eq!(text, "&#60;a b=&#34;c&#34;&#62;&#38;&#39;");
    }

    #[test]
    fn a_path_is_short() {
        let mut path = Path::default();
        path.line(vec![(5, 10), (15, 10), (15, 4), (25, 0), (35, 7)]);
        path.rectangle((0, 1), (2, 3));
        assert_eq!(path.to_string(), "M5 10h10v-6l10-4l10 7M0 1h2v2h-2z");
    }

    #[test]
    fn percents_have_at_most_two_decimals() {
        let texts = [0.0, 1.0, 0.5, 1.0 / 3.0].map(|part| Percent(part).to_string());
        assert_eq!(texts, ["0%", "100%", "50%", "33.33%"]);
    }
}
