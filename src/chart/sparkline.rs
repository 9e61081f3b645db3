//! A line of the last weeks, as high as a line of text.
//!
//! It is decorative: the figures are beside it.

use std::fmt::{self, Display, Formatter};

use askama::filters::HtmlSafe;

use super::svg::{Path, Swing, below_top, drawable};

/// The size in CSS pixels; a unit of the drawing is half of one.
const WIDTH: i32 = 120;
const HEIGHT: i32 = 28;

/// How far the ends of the line are from the edges, in units of the drawing.
const MARGIN: i32 = 8;

/// A small line without axes: its `Display` is HTML.
#[derive(Debug, Clone, Copy)]
pub struct Sparkline<'a> {
    /// The oldest first. A gap where there is none, and where it is negative or not finite.
    pub values: &'a [Option<f64>],
    /// The lower and the upper bound of what was expected of the last.
    pub expected: Option<(f64, f64)>,
    /// Whether the last is outside of them.
    pub swing: Option<Swing>,
}

impl HtmlSafe for Sparkline<'_> {}

impl Display for Sparkline<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (width, height) = (2 * WIDTH, 2 * HEIGHT);
        write!(
            f,
            r#"<svg class="chart-spark" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {width} {height}" aria-hidden="true">"#
        )?;
        let values = self.values.iter().map(|value| value.and_then(drawable));
        let expected = self
            .expected
            .and_then(|(lower, upper)| Some((drawable(lower)?, drawable(upper)?)));
        let scale = Scale::of(
            values
                .clone()
                .flatten()
                .chain(expected.into_iter().flat_map(<[f64; 2]>::from)),
        );
        let right = width - MARGIN;
        if let Some((lower, upper)) = expected {
            let (x, y) = (right - MARGIN, scale.y(upper));
            let (width, height) = (2 * MARGIN, (scale.y(lower) - y).max(2));
            write!(
                f,
                r#"<rect class="chart-band" x="{x}" y="{y}" width="{width}" height="{height}"/>"#
            )?;
        }
        let count = i32::try_from(self.values.len()).unwrap_or(i32::MAX);
        let points = (0..count).zip(values).map(|(index, value)| {
            let back = (count - 1 - index) * (right - MARGIN) / (count - 1).max(1);
            Some((right - back, scale.y(value?)))
        });
        let points: Vec<_> = points.collect();
        let mut line = Path::default();
        for run in points.split(Option::is_none) {
            let mut run: Vec<_> = run.iter().copied().flatten().collect();
            if let [(x, y)] = run[..] {
                run.push((x + 1, y));
            }
            line.line(run);
        }
        line.draw(f, "chart-line")?;
        if let Some(Some((x, y))) = points.last() {
            let (class, radius) = self
                .swing
                .map_or(("chart-dot", 4), |swing| (swing.class(), 6));
            write!(
                f,
                r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}"/>"#
            )?;
        }
        f.write_str("</svg>")
    }
}

/// From which value to which a line goes.
struct Scale {
    floor: f64,
    ceiling: f64,
}

impl Scale {
    /// Starts at no more than half of the highest, or else noise would look like a swing.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let ceiling = values.clone().fold(0.0, f64::max);
        let floor = values.fold(ceiling / 2.0, f64::min);
        Self { floor, ceiling }
    }

    fn y(&self, value: f64) -> i32 {
        let height = 2 * (HEIGHT - MARGIN);
        MARGIN + below_top(value - self.floor, self.ceiling - self.floor, height)
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::{attributes, drawn};
    use super::*;

    fn line(values: &[Option<f64>]) -> Vec<String> {
        let text = drawn(&Sparkline {
            values,
            expected: None,
            swing: None,
        });
        attributes(&text, "chart-line", "d")
    }

    #[test]
    fn a_missing_day_is_a_gap_and_a_lone_one_a_dot() {
        let values = [Some(2.0), None, Some(2.0), Some(1.0), None];
        assert_eq!(line(&values), ["M8 8h1M120 8l56 40"]);
    }

    #[test]
    fn noise_does_not_look_like_a_swing() {
        assert_eq!(line(&[Some(100.0), Some(95.0)]), ["M8 8l224 4"]);
        assert_eq!(line(&[Some(100.0), Some(10.0)]), ["M8 8l224 40"]);
    }

    #[test]
    fn odd_values_are_gaps() {
        for values in [
            &[][..],
            &[None; 3],
            &[Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)],
        ] {
            assert!(line(values).is_empty(), "{values:?}");
        }
        assert_eq!(line(&[Some(0.0), Some(0.0)]), ["M8 48h224"]);
        assert_eq!(line(&[Some(18_446_744_073_709_551_615.0)]), ["M232 8h1"]);
        let expected = Some((f64::NAN, 1.0));
        drawn(&Sparkline {
            values: &[],
            expected,
            swing: None,
        });
    }

    #[test]
    fn a_swing_colors_the_last_day() {
        let sparkline = Sparkline {
            values: &[Some(1.0), Some(9.0)],
            expected: Some((2.0, 3.0)),
            swing: Some(Swing::Up),
        };
        let text = drawn(&sparkline);
        assert_eq!(attributes(&text, "chart-up", "cx"), ["232"]);
        assert_eq!(attributes(&text, "chart-band", "height"), ["5"]);
    }

    #[test]
    fn an_overview_can_have_a_hundred() {
        let values: Vec<_> = (0..30_u32)
            .map(|day| Some(f64::from(day * 7919 % 9973)))
            .collect();
        let text = drawn(&Sparkline {
            values: &values,
            expected: Some((100.0, 9000.0)),
            swing: Some(Swing::Down),
        });
        assert!(text.len() < 600, "{} bytes: {text}", text.len());
    }
}
