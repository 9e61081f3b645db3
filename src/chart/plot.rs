//! The axes and the area of a chart over days, at any width.
//!
//! Texts keep their size because their positions are percents of an SVG that has no `viewBox`; what is
//! drawn inside is stretched, its lines excepted. Knows nothing of what the values are.

use std::fmt::{self, Formatter};

use chrono::NaiveDate;

use super::svg::{Percent, Point, Text, below_top};
use super::ticks::{Timeline, label_width};

/// How wide a day and how high a plot is, in units of the stretched drawing.
pub(super) const SLOT: i32 = 10;
pub(super) const HEIGHT: i32 = 400;

/// The words of a chart over days.
pub struct Axes<'a> {
    /// The accessible name: what a screen reader says instead of the chart.
    pub name: &'a str,
    /// Formats a value of the vertical axis.
    pub value: &'a dyn Fn(f64) -> String,
    /// Formats a day of the horizontal axis: up to 100 days any of them, of more the first of a
    /// month.
    pub date: &'a dyn Fn(NaiveDate) -> String,
}

/// The area in which a chart is drawn.
pub(super) struct Plot<'a> {
    pub(super) axes: &'a Axes<'a>,
    pub(super) timeline: Timeline,
    /// The value at the top; 0 is at the bottom.
    pub(super) top: f64,
    /// The labelled values.
    pub(super) ticks: Vec<f64>,
}

impl Plot<'_> {
    /// Writes the labels of values and the beginning of the area.
    pub(super) fn open(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let labels = self.ticks.iter().map(|tick| (self.axes.value)(*tick));
        let labels: Vec<_> = labels.collect();
        let widths = labels.iter().map(|label| label_width(label));
        let width = widths.fold(0.0, f64::max) + 8.0;
        write!(
            f,
            r#"<div class="chart"><svg class="chart-axis" width="{width}" aria-hidden="true">"#
        )?;
        for (tick, label) in self.ticks.iter().zip(&labels) {
            let (y, label) = (self.height(*tick), Text(label));
            write!(
                f,
                r#"<text x="100%" dx="-8" y="{y}" dy=".35em" text-anchor="end">{label}</text>"#
            )?;
        }
        let name = Text(self.axes.name);
        write!(
            f,
            r#"</svg><svg class="chart-plot" role="img" aria-label="{name}">"#
        )
    }

    /// Writes a line at every labelled value above 0.
    pub(super) fn grid(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for tick in self.ticks.iter().filter(|tick| **tick > 0.0) {
            let y = self.height(*tick);
            write!(
                f,
                r#"<line class="chart-grid" x2="100%" y1="{y}" y2="{y}"/>"#
            )?;
        }
        Ok(())
    }

    /// Writes what `draw` does in coordinates of [`SLOT`] and [`HEIGHT`], stretched to the area.
    pub(super) fn stretched(
        &self,
        f: &mut Formatter<'_>,
        draw: impl FnOnce(&mut Formatter<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let width = self.timeline.slots.saturating_mul(SLOT);
        write!(
            f,
            r#"<svg viewBox="0 0 {width} {HEIGHT}" preserveAspectRatio="none">"#
        )?;
        draw(f)?;
        f.write_str("</svg>")
    }

    /// Writes the axis of days, the tooltips over their whole height, and the end.
    pub(super) fn close<'t>(
        &self,
        f: &mut Formatter<'_>,
        tooltips: impl Iterator<Item = (NaiveDate, &'t str)>,
    ) -> fmt::Result {
        f.write_str(
            r#"<line class="chart-base" x2="100%" y1="100%" y2="100%"/><g class="chart-dates">"#,
        )?;
        for label in self.timeline.labels(self.axes.date) {
            let (classes, text) = (label.classes.trim_end(), Text(&label.text));
            if self.timeline.ends_with_label(label.slot) {
                write!(
                    f,
                    r#"<text class="{classes}" x="100%" y="100%" dy="18" text-anchor="end">{text}</text>"#
                )?;
            } else {
                let x = Percent(self.timeline.middle(label.slot));
                write!(
                    f,
                    r#"<text class="{classes}" x="{x}" y="100%" dy="18" text-anchor="middle">{text}</text>"#
                )?;
            }
        }
        let slots = self.timeline.slots;
        write!(
            f,
            r#"</g><svg class="chart-hits" viewBox="0 0 {slots} 1" preserveAspectRatio="none">"#
        )?;
        for (date, tooltip) in tooltips {
            let (slot, tooltip) = (self.timeline.slot(date), Text(tooltip));
            write!(
                f,
                r#"<path d="M{slot} 0v1h1V0"><title>{tooltip}</title></path>"#
            )?;
        }
        f.write_str("</svg></svg></div>")
    }

    /// Returns how far a value is from the top.
    pub(super) fn height(&self, value: f64) -> Percent {
        Percent(f64::from(self.y(value)) / f64::from(HEIGHT))
    }

    /// Returns how far a value is from the top, in units of the stretched drawing.
    pub(super) fn y(&self, value: f64) -> i32 {
        below_top(value, self.top, HEIGHT)
    }

    /// Returns the line through the heights of a run of days: level in each of them if there are
    /// bars, else from middle to middle and level only in the outer half of the first and the last.
    pub(super) fn line(&self, run: &[Point]) -> Vec<Point> {
        if self.timeline.has_bars() {
            let edges = run
                .iter()
                .flat_map(|&(slot, y)| [(slot * SLOT, y), ((slot + 1) * SLOT, y)]);
            edges.collect()
        } else {
            slope(run)
        }
    }
}

/// Returns the line from middle to middle of a run of days, up to the edges of the first and the last.
pub(super) fn slope(run: &[Point]) -> Vec<Point> {
    let (Some((first, start)), Some((last, end))) = (run.first(), run.last()) else {
        return Vec::new();
    };
    let left = [(first * SLOT, *start)].into_iter();
    let middles = run.iter().map(|(slot, y)| (slot * SLOT + SLOT / 2, *y));
    left.chain(middles)
        .chain([((last + 1) * SLOT, *end)])
        .collect()
}

/// Divides what slots have into runs without a gap.
pub(super) fn runs<T>(slots: impl Iterator<Item = (i32, T)>) -> Vec<Vec<(i32, T)>> {
    let mut runs: Vec<Vec<(i32, T)>> = Vec::new();
    for (slot, value) in slots {
        match runs.last_mut() {
            Some(run) if run.last().is_some_and(|(last, _)| last + 1 == slot) => {
                run.push((slot, value));
            }
            _ => runs.push(vec![(slot, value)]),
        }
    }
    runs
}
