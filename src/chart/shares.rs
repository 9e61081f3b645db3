//! A chart of how a whole was divided, day by day.
//!
//! Names are written into the areas that are high enough, so that color is not the only sign; the legend
//! of all of them is the caller's.

use std::fmt::{self, Display, Formatter};

use askama::filters::HtmlSafe;
use chrono::NaiveDate;

use super::plot::{Axes, HEIGHT, Plot, runs, slope};
use super::svg::{Path, Percent, Point, Text, below_top, drawable};
use super::ticks::Timeline;

/// The series that have a color of their own.
const COLORS: usize = 8;

/// A name is cut after this many characters.
const LONGEST_NAME: usize = 16;

/// A day of a [`ShareChart`].
#[derive(Debug, Clone)]
pub struct DayShares {
    /// Which day it is.
    pub date: NaiveDate,
    /// The value of each series, in any unit; negative ones and those not finite are 0. A day without
    /// any value above 0 is a gap.
    pub values: Vec<f64>,
    /// What is shown when the pointer rests on the day.
    pub tooltip: String,
}

/// A stacked chart of shares that make up 100%: its `Display` is HTML.
pub struct ShareChart<'a> {
    /// The words; values are shares from 0 to 1.
    pub axes: Axes<'a>,
    /// The names of up to eight series, the lowest first, with the classes `series-0` to `series-7`.
    pub series: &'a [&'a str],
    /// The oldest first. A day that is left out is a gap.
    pub days: &'a [DayShares],
}

impl HtmlSafe for ShareChart<'_> {}

impl Display for ShareChart<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plot = Plot {
            axes: &self.axes,
            timeline: Timeline::of(self.days.iter().map(|day| day.date)),
            top: 1.0,
            ticks: vec![0.0, 0.25, 0.5, 0.75, 1.0],
        };
        let stacks = self.days.iter().filter_map(|day| {
            let stack = self.stack(&day.values)?;
            Some((plot.timeline.slot(day.date), stack))
        });
        let runs = runs(stacks);
        plot.open(f)?;
        plot.grid(f)?;
        plot.stretched(f, |f| {
            for series in 0..self.series.len() {
                let mut area = Path::default();
                for run in &runs {
                    area.area(border(run, series + 1), border(run, series));
                }
                let color = series.min(COLORS - 1);
                area.draw(f, &format!("chart-share series-{color}"))?;
            }
            Ok(())
        })?;
        if let Some((_, newest)) = runs.last().and_then(|run| run.last()) {
            self.names(f, newest)?;
        }
        let tooltips = self.days.iter().map(|day| (day.date, day.tooltip.as_str()));
        plot.close(f, tooltips)
    }
}

impl ShareChart<'_> {
    /// Returns the heights at which the series of a day begin, and where the last ends.
    fn stack(&self, values: &[f64]) -> Option<Vec<i32>> {
        let value = |series| {
            values
                .get(series)
                .copied()
                .and_then(drawable)
                .unwrap_or(0.0)
        };
        let values = (0..self.series.len()).map(value);
        let total: f64 = values.clone().sum();
        if total <= 0.0 || !total.is_finite() {
            return None;
        }
        let sums = values.scan(0.0, |sum, value| {
            *sum += value;
            Some(below_top(*sum, total, HEIGHT))
        });
        Some([HEIGHT].into_iter().chain(sums).collect())
    }

    /// Writes the names at the right, where the newest day is high enough for one.
    fn names(&self, f: &mut Formatter<'_>, newest: &[i32]) -> fmt::Result {
        f.write_str(r#"<g class="chart-names">"#)?;
        for (name, borders) in self.series.iter().zip(newest.windows(2)) {
            let (bottom, top) = (borders[0], borders[1]);
            if bottom - top < HEIGHT / 10 {
                continue;
            }
            let y = Percent(f64::from(bottom + top) / 2.0 / f64::from(HEIGHT));
            write!(
                f,
                r#"<text x="100%" dx="-8" y="{y}" dy=".35em" text-anchor="end">"#
            )?;
            let short: String = name.chars().take(LONGEST_NAME).collect();
            let ellipsis = if short.len() < name.len() { "…" } else { "" };
            write!(f, "{}{ellipsis}</text>", Text(&short))?;
        }
        f.write_str("</g>")
    }
}

/// Returns the line at which a series begins.
fn border(run: &[(i32, Vec<i32>)], series: usize) -> Vec<Point> {
    let points = run
        .iter()
        .filter_map(|(slot, stack)| Some((*slot, *stack.get(series)?)));
    slope(&points.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use chrono::Days;

    use super::super::svg::tests::{attributes, drawn};
    use super::*;

    fn chart(series: &[&str], days: &[Vec<f64>]) -> String {
        let first = NaiveDate::from_ymd_opt(2026, 1, 1).unwrap();
        let days = days.iter().zip(0..).map(|(values, day)| DayShares {
            date: first + Days::new(day),
            values: values.clone(),
            tooltip: "<b>".to_owned(),
        });
        let axes = Axes {
            name: "Platforms",
            value: &|share| format!("{}%", share * 100.0),
            date: &|date| date.format("%m-%d").to_string(),
        };
        drawn(&ShareChart {
            axes,
            series,
            days: &days.collect::<Vec<_>>(),
        })
    }

    #[test]
    fn series_are_stacked_to_the_top() {
        let text = chart(&["iPhone", "Android"], &vec![vec![3.0, 1.0]; 14]);
        let lowest = attributes(&text, "series-0", "d");
        assert!(
            lowest[0].starts_with("M0 100h5h10") && lowest[0].contains("v300"),
            "{lowest:?}"
        );
        let highest = attributes(&text, "series-1", "d");
        assert!(
            highest[0].starts_with("M0 0h5h10") && highest[0].contains("v100"),
            "{highest:?}"
        );
    }

    #[test]
    fn a_day_without_users_is_a_gap() {
        let mut days = vec![vec![1.0]; 14];
        for gap in [vec![], vec![0.0], vec![f64::NAN], vec![-1.0]] {
            days[7] = gap;
            let area = attributes(&chart(&["iPhone"], &days), "series-0", "d");
            assert_eq!(area[0].matches('M').count(), 2, "{area:?}");
            assert!(area[0].contains("M80 0"), "{area:?}");
        }
    }

    #[test]
    fn names_are_written_where_there_is_room_for_them() {
        let name = "<i>\u{1f600}é".repeat(9);
        let text = chart(&[&name, "Mac"], &[vec![99.0, 1.0]]);
        assert!(
            text.contains("&#60;i&#62;\u{1f600}é") && text.contains("…</text>"),
            "{text}"
        );
        assert!(!text.contains("Mac"), "{text}");
    }

    #[test]
    fn odd_input_is_drawn() {
        chart(&[], &[]);
        chart(&["iPhone"], &[]);
        chart(&[], &[vec![1.0]]);
        chart(
            &["iPhone", "Android"],
            &[vec![f64::MAX, f64::MAX], vec![1e19, f64::INFINITY]],
        );
        let text = chart(&["name"; 9], &[vec![1.0; 9]]);
        assert_eq!(attributes(&text, "series-7", "d").len(), 2);
    }
}
