//! A chart of one value per day, with what was expected.
//!
//! Up to 100 days are bars, more are a line. Every color has a second sign: the shape of a triangle, a
//! hatch, an open circle.

use std::fmt::{self, Display, Formatter};

use askama::filters::HtmlSafe;
use chrono::NaiveDate;

use super::plot::{Axes, HEIGHT, Plot, SLOT, runs, slope};
use super::svg::{Path, Percent, Point, Swing, Text, drawable};
use super::ticks::{Timeline, value_ticks};

/// A day of a [`DayChart`].
#[derive(Debug, Clone)]
pub struct Day {
    /// Which day it is.
    pub date: NaiveDate,
    /// Its value; a gap if there is none, and if it is negative or not finite.
    pub value: Option<f64>,
    /// What was expected of it.
    pub expected: Option<Expected>,
    /// The background.
    pub shade: Shade,
    /// Whether the value is marked as outside of what was expected.
    pub swing: Option<Swing>,
    /// Whether the value may still change.
    pub provisional: bool,
    /// What is shown when the pointer rests on the day.
    pub tooltip: String,
}

/// What was expected of a day.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// The lower bound.
    pub lower: f64,
    /// What is usual.
    pub usual: f64,
    /// The upper bound.
    pub upper: f64,
}

/// The background of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shade {
    /// As the page.
    None,
    /// Shaded.
    Weekend,
    /// Shaded and hatched.
    Holiday,
}

/// A chart of one value per day: its `Display` is HTML.
pub struct DayChart<'a> {
    /// Begins the ids of its elements, so it must be unique in the page, and valid as an id.
    pub id: &'a str,
    /// The words.
    pub axes: Axes<'a>,
    /// The oldest first. A day that is left out is a gap.
    pub days: &'a [Day],
}

impl HtmlSafe for DayChart<'_> {}

impl Display for DayChart<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let values = self.days.iter().filter_map(|day| drawable(day.value?));
        let bounds = self.expected().map(|(_, expected)| expected.upper);
        // Values are counts: with less at the top, labels would not be whole numbers.
        let top = values.chain(bounds).fold(2.0, f64::max);
        let plot = Plot {
            axes: &self.axes,
            timeline: Timeline::of(self.days.iter().map(|day| day.date)),
            top,
            ticks: value_ticks(top),
        };
        plot.open(f)?;
        self.hatches(f)?;
        self.shades(f, &plot)?;
        plot.grid(f)?;
        plot.stretched(f, |f| {
            if plot.timeline.has_bars() {
                self.band(f, &plot)?;
                self.bars(f, &plot)?;
                return self.usual(f, &plot);
            }
            let (line, area) = self.line(&plot);
            area.draw(f, "chart-area")?;
            self.band(f, &plot)?;
            self.usual(f, &plot)?;
            line.draw(f, "chart-line")
        })?;
        self.marks(f, &plot)?;
        let tooltips = self.days.iter().map(|day| (day.date, day.tooltip.as_str()));
        plot.close(f, tooltips)
    }
}

impl DayChart<'_> {
    fn expected(&self) -> impl Iterator<Item = (NaiveDate, Expected)> {
        self.days.iter().filter_map(|day| {
            let expected = day.expected?;
            drawable(expected.usual)?;
            let lower = drawable(expected.lower)?;
            let is_drawable = drawable(expected.upper)? >= lower;
            is_drawable.then_some((day.date, expected))
        })
    }

    /// Returns the days with a value that can be shown.
    fn valued(&self, plot: &Plot<'_>) -> impl Iterator<Item = (&Day, i32, f64)> {
        self.days.iter().filter_map(|day| {
            let value = drawable(day.value?)?;
            Some((day, plot.timeline.slot(day.date), value))
        })
    }

    /// Writes the patterns that holidays and provisional bars are filled with.
    fn hatches(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let id = Text(self.id);
        for (name, rotation) in [("holiday", 45), ("provisional", -45)] {
            write!(
                f,
                "<pattern id=\"{id}-{name}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
                 patternTransform=\"rotate({rotation})\"><path class=\"chart-{name}-hatch\" d=\"M0 3h6\"/></pattern>"
            )?;
        }
        Ok(())
    }

    fn shades(&self, f: &mut Formatter<'_>, plot: &Plot<'_>) -> fmt::Result {
        let shaded = |shade| {
            let days = self.days.iter().filter(move |day| day.shade == shade);
            runs(days.map(|day| (plot.timeline.slot(day.date), ())))
        };
        let mut weekends = Path::default();
        for run in shaded(Shade::Weekend) {
            let (left, right) = edges(&run);
            weekends.rectangle((left * SLOT, 0), (right * SLOT, HEIGHT));
        }
        plot.stretched(f, |f| weekends.draw(f, "chart-weekend"))?;
        for run in shaded(Shade::Holiday) {
            let (left, right) = edges(&run);
            let slots = f64::from(plot.timeline.slots);
            let x = Percent(f64::from(left) / slots);
            let width = Percent(f64::from(right - left) / slots);
            for fill in [
                r#"class="chart-holiday""#,
                &format!("fill=\"url(#{}-holiday)\"", Text(self.id)),
            ] {
                write!(f, r#"<rect {fill} x="{x}" width="{width}" height="100%"/>"#)?;
            }
        }
        Ok(())
    }

    /// Writes the area between the expected bounds.
    fn band(&self, f: &mut Formatter<'_>, plot: &Plot<'_>) -> fmt::Result {
        let mut band = Path::default();
        for run in self.expected_runs(plot) {
            let line = |bound: fn(&Expected) -> f64| plot.line(&heights(&run, plot, bound));
            band.area(
                line(|expected| expected.upper),
                line(|expected| expected.lower),
            );
        }
        band.draw(f, "chart-band")
    }

    fn usual(&self, f: &mut Formatter<'_>, plot: &Plot<'_>) -> fmt::Result {
        let mut usual = Path::default();
        for run in self.expected_runs(plot) {
            usual.line(plot.line(&heights(&run, plot, |expected| expected.usual)));
        }
        usual.draw(f, "chart-usual")
    }

    fn expected_runs(&self, plot: &Plot<'_>) -> Vec<Vec<(i32, Expected)>> {
        runs(
            self.expected()
                .map(|(date, expected)| (plot.timeline.slot(date), expected)),
        )
    }

    /// Writes the bars of final values; those of provisional ones are not stretched, as their hatch
    /// must not be.
    fn bars(&self, f: &mut Formatter<'_>, plot: &Plot<'_>) -> fmt::Result {
        let margin = bar_margin(plot);
        for (swing, class) in [
            (None, "chart-bars"),
            (Some(Swing::Up), "chart-bars chart-up"),
            (Some(Swing::Down), "chart-bars chart-down"),
        ] {
            let mut bars = Path::default();
            for (day, slot, value) in self.valued(plot) {
                if day.swing == swing && !day.provisional {
                    let (left, right) = (slot * SLOT + margin, (slot + 1) * SLOT - margin);
                    bars.rectangle((left, plot.y(value)), (right, HEIGHT));
                }
            }
            bars.draw(f, class)?;
        }
        Ok(())
    }

    /// Returns the line of the values, and the area below it.
    fn line(&self, plot: &Plot<'_>) -> (Path, Path) {
        let (mut line, mut area) = (Path::default(), Path::default());
        let heights = self
            .valued(plot)
            .map(|(_, slot, value)| (slot, plot.y(value)));
        for run in runs(heights) {
            let points = slope(&run);
            area.down_to(HEIGHT, points.clone());
            line.line(points);
        }
        (line, area)
    }

    /// Writes what must keep its shape at any width: provisional values and the triangles of swings.
    fn marks(&self, f: &mut Formatter<'_>, plot: &Plot<'_>) -> fmt::Result {
        for (day, slot, value) in self.valued(plot) {
            let x = Percent(plot.timeline.middle(slot));
            let y = plot.height(value);
            if day.provisional && plot.timeline.has_bars() {
                self.provisional_bar(f, plot, slot, value)?;
            } else if day.provisional {
                write!(
                    f,
                    r#"<circle class="chart-provisional" cx="{x}" cy="{y}" r="3.5"/>"#
                )?;
            }
            if let Some(swing) = day.swing {
                let class = swing.class();
                let shape = match swing {
                    Swing::Up => "M-5-5h10l-5-8z",
                    Swing::Down => "M-5-13h10l-5 8z",
                };
                write!(
                    f,
                    r#"<svg x="{x}" y="{y}"><path class="chart-swing {class}" d="{shape}"/></svg>"#
                )?;
            }
        }
        Ok(())
    }

    fn provisional_bar(
        &self,
        f: &mut Formatter<'_>,
        plot: &Plot<'_>,
        slot: i32,
        value: f64,
    ) -> fmt::Result {
        let (id, slots) = (Text(self.id), f64::from(plot.timeline.slots));
        let margin = f64::from(bar_margin(plot)) / f64::from(SLOT);
        let x = Percent((f64::from(slot) + margin) / slots);
        let width = Percent((1.0 - 2.0 * margin) / slots);
        let y = plot.height(value);
        let height = Percent(1.0 - y.0);
        write!(
            f,
            "<rect class=\"chart-provisional\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>\
             <rect fill=\"url(#{id}-provisional)\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        )
    }
}

/// Returns what is free at each side of a bar, in units of the stretched drawing: the band shows there,
/// but many bars would become hairlines on a telephone.
fn bar_margin(plot: &Plot<'_>) -> i32 {
    if plot.timeline.slots > 45 { 1 } else { 2 }
}

/// Returns the first slot of a run, and the one after its last.
fn edges(run: &[(i32, ())]) -> (i32, i32) {
    let slots = |slot: Option<&(i32, ())>| slot.map_or(0, |(slot, ())| *slot);
    (slots(run.first()), slots(run.last()) + 1)
}

fn heights(run: &[(i32, Expected)], plot: &Plot<'_>, bound: fn(&Expected) -> f64) -> Vec<Point> {
    run.iter()
        .map(|(slot, expected)| (*slot, plot.y(bound(expected))))
        .collect()
}

#[cfg(test)]
mod tests {
    use chrono::Days;

    use super::super::svg::tests::{attributes, drawn};
    use super::*;

    fn days(values: &[Option<f64>]) -> Vec<Day> {
        let last = NaiveDate::from_ymd_opt(2026, 11, 28).unwrap();
        let days = values.iter().rev().zip(0..).map(|(value, ago)| Day {
            date: last - Days::new(ago),
            value: *value,
            expected: None,
            shade: Shade::None,
            swing: None,
            provisional: false,
            tooltip: String::new(),
        });
        let mut days: Vec<_> = days.collect();
        days.reverse();
        days
    }

    fn chart(days: &[Day]) -> String {
        let axes = Axes {
            name: "Active users",
            value: &|value| format!("{value}"),
            date: &|date| date.format("%Y-%m-%d").to_string(),
        };
        drawn(&DayChart {
            id: "active",
            axes,
            days,
        })
    }

    /// Returns days with everything that a chart can show.
    fn full(count: u32) -> Vec<Day> {
        let values =
            (0..count).map(|day| (day % 41 != 17).then(|| f64::from(4000 + day * 7919 % 997)));
        let mut days = days(&values.collect::<Vec<_>>());
        for (day, index) in days.iter_mut().zip(0_u32..) {
            day.shade = match index % 7 {
                5 | 6 if index % 90 < 7 => Shade::Holiday,
                5 | 6 => Shade::Weekend,
                _ => Shade::None,
            };
            day.expected = Some(Expected {
                lower: 4100.0,
                usual: f64::from(4500 + index % 89),
                upper: 4900.0,
            });
            day.swing = [Some(Swing::Up), Some(Swing::Down)]
                .get(index as usize % 40)
                .copied()
                .flatten();
            day.provisional = index + 1 == count;
            day.tooltip = format!("{} 周六：4,807 人，往常 5,000（4,201–5,999）", day.date);
        }
        days
    }

    #[test]
    fn odd_values_are_drawn_as_gaps_or_at_their_height() {
        chart(&[]);
        let huge = 18_446_744_073_709_551_615.0;
        for values in [
            vec![Some(1.0)],
            vec![None; 30],
            vec![Some(0.0); 30],
            vec![Some(huge), Some(1.0)],
            vec![Some(f64::NAN), Some(f64::INFINITY), Some(-1.0)],
            vec![None; 400],
            vec![Some(f64::NAN); 101],
        ] {
            let mut days = days(&values);
            chart(&days);
            for day in &mut days {
                day.expected = Some(Expected {
                    lower: f64::NAN,
                    usual: -1.0,
                    upper: f64::INFINITY,
                });
            }
            let text = chart(&days);
            assert!(attributes(&text, "chart-band", "d").is_empty(), "{text}");
        }
        let bars = attributes(
            &chart(&days(&[Some(huge), Some(f64::NAN)])),
            "chart-bars",
            "d",
        );
        assert_eq!(bars, ["M122 0h6v400h-6z"]);
    }

    #[test]
    fn a_missing_day_is_a_gap_among_bars_and_in_a_line() {
        let few = chart(&days(&[Some(4.0), None, Some(2.0)]));
        assert_eq!(
            attributes(&few, "chart-bars", "d"),
            ["M112 0h6v400h-6zM132 200h6v200h-6z"]
        );
        let mut values = vec![Some(4.0); 101];
        values[50] = None;
        let mut many = days(&values);
        let line = attributes(&chart(&many), "chart-line", "d");
        let parts: Vec<_> = line[0].split_inclusive("h5M").collect();
        assert_eq!(parts.len(), 2, "{line:?}");
        assert!(
            parts[0].starts_with("M0 0h5h10") && parts[1].starts_with("510 0h5h10"),
            "{line:?}"
        );
        many.remove(50);
        assert_eq!(attributes(&chart(&many), "chart-line", "d"), line);
    }

    #[test]
    fn swings_and_provisional_days_have_shapes_of_their_own() {
        let mut few = days(&[Some(4.0), Some(3.0), Some(2.0)]);
        few[0].swing = Some(Swing::Up);
        few[1].swing = Some(Swing::Down);
        few[2].provisional = true;
        let text = chart(&few);
        assert_eq!(
            attributes(&text, "chart-swing", "d"),
            ["M-5-5h10l-5-8z", "M-5-13h10l-5 8z"]
        );
        assert_eq!(attributes(&text, "chart-provisional", "height"), ["50%"]);
        assert!(
            text.contains(r#"fill="url(#active-provisional)""#),
            "{text}"
        );
    }

    #[test]
    fn holidays_are_hatched_and_weekends_are_not() {
        let mut week = days(&[Some(1.0); 14]);
        week[1].shade = Shade::Weekend;
        week[2].shade = Shade::Weekend;
        week[7].shade = Shade::Holiday;
        let text = chart(&week);
        assert_eq!(
            attributes(&text, "chart-weekend", "d"),
            ["M10 0h20v400h-20z"]
        );
        assert_eq!(attributes(&text, "chart-holiday", "x"), ["50%"]);
        assert_eq!(text.matches("url(#active-holiday)").count(), 1);
    }

    #[test]
    fn texts_of_the_caller_are_escaped() {
        let markup = "</title></svg><script>\"&'\u{202e}";
        let mut day = days(&[Some(1.0)]);
        markup.clone_into(&mut day[0].tooltip);
        let axes = Axes {
            name: markup,
            value: &|_| markup.to_owned(),
            date: &|_| markup.to_owned(),
        };
        let text = drawn(&DayChart {
            id: "\"<",
            axes,
            days: &day,
        });
        assert_eq!(attributes(&text, "chart-plot", "aria-label"), [markup]);
    }

    #[test]
    fn a_chart_is_small() {
        for (count, kilobytes) in [(90, 17), (400, 60)] {
            let size = chart(&full(count)).len();
            assert!(size < kilobytes * 1000, "{count} days: {size} bytes");
        }
    }
}
