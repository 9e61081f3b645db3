//! Which values and days the axes label.
//!
//! A page is as wide as its reader's screen, which only the browser knows. So the labels are chosen for three
//! widths, and style sheets show those of one.

use chrono::{Datelike as _, Days, NaiveDate};

/// Up to this many days are drawn as bars; of more, only months are labelled.
pub(super) const MOST_BARS: i32 = 100;

/// The classes of the labels that are shown in a narrow, a medium and a wide chart, and the
/// least width in CSS pixels that the plot then has; `chart.css` has the same limits.
const LAYOUTS: [(&str, f64); 3] = [
    ("chart-narrow", 210.0),
    ("chart-medium", 400.0),
    ("chart-wide", 780.0),
];

/// The pixels that are free between two labels.
const GAP: f64 = 8.0;

/// Fewer days get as much room as this many, or their bars would be blocks.
const LEAST_SLOTS: u64 = 14;

/// Returns 3 to 5 whole numbers from 0 to at most `max`, which is 2 or more, in steps of 1, 2 or 5 times a
/// power of ten.
pub(super) fn value_ticks(max: f64) -> Vec<f64> {
    let ticks = |step: f64| (0..).map(move |tick| f64::from(tick) * step);
    let power = 10_f64.powf((max / 10.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0].map(|factor| factor * power);
    let step = steps
        .into_iter()
        .find(|step| *step >= 1.0 && max / step < 5.0);
    let ticks = ticks(step.unwrap_or(max)).take_while(|tick| *tick <= max);
    ticks.collect()
}

/// Returns about how wide a text is, in CSS pixels, in the font of labels.
pub(super) fn label_width(text: &str) -> f64 {
    let widths = text
        .chars()
        .map(|char| if char.is_ascii() { 7.0 } else { 12.0 });
    widths.sum()
}

/// Days in a row, each with a slot of the same width.
pub(super) struct Timeline {
    first: NaiveDate,
    /// How many days there are.
    pub(super) slots: i32,
}

/// A label of the axis of days.
pub(super) struct DateLabel {
    pub(super) slot: i32,
    pub(super) text: String,
    /// In which layouts it is shown, each with a space after it.
    pub(super) classes: String,
}

impl Timeline {
    /// Returns the one that has all these dates, and days before them if they are few.
    pub(super) fn of(dates: impl Iterator<Item = NaiveDate> + Clone) -> Self {
        let (Some(first), Some(last)) = (dates.clone().min(), dates.max()) else {
            let first = NaiveDate::default();
            return Self { first, slots: 0 };
        };
        let first = last
            .checked_sub_days(Days::new(LEAST_SLOTS - 1))
            .map_or(first, |day| day.min(first));
        let mut timeline = Self { first, slots: 0 };
        timeline.slots = timeline.slot(last).saturating_add(1);
        timeline
    }

    /// Returns the slot of a date, from 0.
    pub(super) fn slot(&self, date: NaiveDate) -> i32 {
        let days = date.signed_duration_since(self.first).num_days();
        i32::try_from(days).unwrap_or(i32::MAX)
    }

    /// Returns where the middle of a slot is, from 0 to 1.
    pub(super) fn middle(&self, slot: i32) -> f64 {
        (f64::from(slot) + 0.5) / f64::from(self.slots)
    }

    /// Returns whether the days are few enough for a bar each.
    pub(super) fn has_bars(&self) -> bool {
        self.slots <= MOST_BARS
    }

    /// Returns whether the label of the last day ends where the plot does, instead of being centered.
    pub(super) fn ends_with_label(&self, slot: i32) -> bool {
        self.has_bars() && slot == self.slots - 1
    }

    /// Returns labels that never overlap: of bars the last day and some before it, else of firsts of
    /// months.
    pub(super) fn labels(&self, label: &dyn Fn(NaiveDate) -> String) -> Vec<DateLabel> {
        let labels = (0..self.slots).filter_map(|slot| {
            let date = self.date(slot)?;
            let is_candidate = self.has_bars() || date.day() == 1;
            let month = date.year() * 12 + date.month0().cast_signed();
            let position = if self.has_bars() { slot } else { month };
            let text = is_candidate.then(|| label(date))?;
            let classes = String::new();
            Some((
                position,
                DateLabel {
                    slot,
                    text,
                    classes,
                },
            ))
        });
        let mut labels: Vec<_> = labels.collect();
        let widths = labels.iter().map(|(_, label)| label_width(&label.text));
        let width = widths.fold(0.0, f64::max);
        for (class, plot) in LAYOUTS {
            let step = self.step(plot, width);
            let fitting = labels
                .iter_mut()
                .filter(|(_, label)| self.fits(label.slot, plot, width));
            let mut newest = None;
            for (position, label) in fitting.rev() {
                if (*newest.get_or_insert(*position) - *position) % step == 0 {
                    label.classes.push_str(class);
                    label.classes.push(' ');
                }
            }
        }
        let labels = labels.into_iter().map(|(_, label)| label);
        labels.filter(|label| !label.classes.is_empty()).collect()
    }

    fn date(&self, slot: i32) -> Option<NaiveDate> {
        let days = u64::try_from(slot).ok()?;
        self.first.checked_add_days(Days::new(days))
    }

    /// Returns the least number of days, or of months, from one label to the next.
    fn step(&self, plot: f64, label: f64) -> i32 {
        let slot = plot / f64::from(self.slots);
        let (steps, days, distance) = if self.has_bars() {
            // The last label is moved to the left by up to half of its width.
            ([1, 2, 7, 14, 28, 56].as_slice(), 1, 1.5 * label + GAP)
        } else {
            ([1, 2, 3, 4, 6, 12, 24, 60].as_slice(), 28, label + GAP)
        };
        let is_far = |step: &&i32| f64::from(**step * days) * slot >= distance;
        steps.iter().find(is_far).copied().unwrap_or(i32::MAX)
    }

    /// Returns whether a label is inside the plot, or to its left by no more than the labels of values
    /// are wide.
    fn fits(&self, slot: i32, plot: f64, label: f64) -> bool {
        let middle = self.middle(slot) * plot;
        let is_inside = middle + label / 2.0 <= plot || self.ends_with_label(slot);
        is_inside && middle + 20.0 >= label / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(days: u64) -> Timeline {
        let last = NaiveDate::from_ymd_opt(2026, 11, 28).unwrap();
        Timeline::of([last - Days::new(days - 1), last].into_iter())
    }

    #[test]
    fn labelled_values_are_three_to_five_in_whole_steps_of_1_2_or_5() {
        assert_eq!(value_ticks(2.0), [0.0, 1.0, 2.0]);
        assert_eq!(value_ticks(4.9), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(value_ticks(5.0), [0.0, 2.0, 4.0]);
        assert_eq!(value_ticks(126_546.0), [0.0, 50e3, 100e3]);
        for exponent in 3..185 {
            let max = 1.27_f64.powi(exponent);
            let ticks = value_ticks(max);
            assert!((3..=5).contains(&ticks.len()), "{max}: {ticks:?}");
            assert!(ticks[ticks.len() - 1] > max - ticks[1], "{max}: {ticks:?}");
            let digits = format!("{:e}", ticks[1]);
            let first = digits.split('e').next().unwrap();
            assert!(["1", "2", "5"].contains(&first), "{max}: {ticks:?}");
        }
    }

    #[test]
    fn labels_of_days_never_overlap_and_every_layout_has_one() {
        let formats = ["%d", "%m-%d", "%Y-%m", "%a %Y-%m-%d", "%Y年%m月%d日"];
        for days in [
            1, 2, 3, 4, 7, 14, 30, 31, 60, 90, 100, 101, 110, 180, 365, 400, 4000,
        ] {
            for format in formats {
                let timeline = timeline(days);
                let labels = timeline.labels(&|date| date.format(format).to_string());
                for (class, plot) in LAYOUTS {
                    let shown = labels.iter().filter(|label| label.classes.contains(class));
                    let extents: Vec<_> = shown
                        .map(|label| {
                            let width = label_width(&label.text);
                            let middle = timeline.middle(label.slot) * plot;
                            let is_last = timeline.ends_with_label(label.slot);
                            let right = if is_last { plot } else { middle + width / 2.0 };
                            (right - width, right)
                        })
                        .collect();
                    assert!(!extents.is_empty(), "{days} {format} {class}");
                    for pair in extents.windows(2) {
                        assert!(
                            pair[0].1 + GAP <= pair[1].0 + 0.1,
                            "{days} {format} {class}: {extents:?}"
                        );
                    }
                    assert!(
                        extents[extents.len() - 1].1 <= plot + 0.1,
                        "{days} {format} {class}"
                    );
                    assert!(extents[0].0 >= -20.1, "{days} {format} {class}");
                }
            }
        }
    }

    #[test]
    fn the_last_day_is_labelled_and_days_before_it_in_weeks() {
        let labels = timeline(30).labels(&|date| date.format("%m-%d").to_string());
        let wide = labels.iter().filter(|label| label.classes.contains("wide"));
        let texts: Vec<_> = wide.map(|label| label.text.as_str()).collect();
        assert_eq!(texts, ["10-31", "11-07", "11-14", "11-21", "11-28"]);
    }
}
