//! The bounds beyond which a figure is a swing.

use std::ops::Index;

use super::days::Kinds;
use super::deviations::{Deviations, LAST_DAYS, spread};
use super::statistics::{float, median, quantile};
use crate::portrait::string_enum;

string_enum! {
    /// What a published figure of an expectation is.
    Bound, "bound" {
        /// A figure below it is a swing.
        Lower = "lower",
        /// The usual figure.
        Usual = "usual",
        /// A figure above it is a swing.
        Upper = "upper",
    }
}

/// What is usual, and between which bounds a figure is not a swing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The usual figure.
    pub usual: f64,
    /// A figure below it is a swing.
    pub lower: f64,
    /// A figure above it is a swing.
    pub upper: f64,
}

/// How large a deviation must be, in the unit of the values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    /// What is large enough to be of interest.
    pub(super) least: f64,
    /// What is large however much the figures of the app vary.
    pub(super) most: f64,
    /// Whether a single compared day may be exceptional once the spread is known.
    pub(super) ignores_one_day: bool,
}

/// How many standard deviations of the app's own deviations are more than noise.
const DEVIATIONS: f64 = 3.0;

impl Index<Bound> for Bounds {
    type Output = f64;

    fn index(&self, bound: Bound) -> &f64 {
        match bound {
            Bound::Lower => &self.lower,
            Bound::Usual => &self.usual,
            Bound::Upper => &self.upper,
        }
    }
}

impl Bounds {
    /// Returns how far users are from what is usual: -0.2 is 20% below. `None` where none are usual.
    #[must_use]
    pub fn change_ratio(&self, users: u64) -> Option<f64> {
        (self.usual > 0.0).then(|| float(users) / self.usual - 1.0)
    }

    /// Returns `true` if a figure is not a swing.
    #[must_use]
    pub fn contain(&self, figure: f64) -> bool {
        (self.lower..=self.upper).contains(&figure)
    }

    /// Returns the bound that these users are beyond, if they are a swing.
    #[must_use]
    pub fn crossed_by(&self, users: u64) -> Option<Bound> {
        let users = float(users);
        match users {
            _ if self.contain(users) => None,
            _ if users < self.lower => Some(Bound::Lower),
            _ => Some(Bound::Upper),
        }
    }

    /// Applies a function to all three.
    pub(super) fn map(self, function: impl Fn(f64) -> f64) -> Self {
        Self {
            usual: function(self.usual),
            lower: function(self.lower),
            upper: function(self.upper),
        }
    }
}

impl Thresholds {
    /// Returns the threshold after these own deviations.
    pub(super) fn threshold(&self, own: &[f64]) -> f64 {
        let noise = DEVIATIONS * spread(own).unwrap_or(0.0);
        noise.min(self.most).max(self.least)
    }
}

/// Returns the bounds of the value of the reference date, and the values that it is compared with.
///
/// With too few of these it is compared with the day before, if that is a day of work or a day off as well
/// and the app is not known for longer.
pub(super) fn bounds(
    values: &[Option<f64>],
    kinds: &Kinds,
    deviations: &Deviations,
    thresholds: Thresholds,
) -> Option<(Bounds, Vec<f64>)> {
    let is_new = deviations.own.is_empty();
    let day_before = values.get(1).copied().flatten();
    let day_before = day_before.filter(|_| is_new && kinds.are_alike(0, 1));
    let (usual, threshold, compared) = match deviations.comparable(values, kinds, 0) {
        Some(compared) => {
            let usual = median(compared.iter().copied())?;
            (usual, thresholds.threshold(&deviations.own), compared)
        }
        None if kinds.is_holiday(0) => return None,
        None => {
            let compared = deviations.compared(values, kinds, 0);
            let compared = compared.iter().map(|day| day.value).collect();
            (day_before?, 2.0 * thresholds.least, compared)
        }
    };
    let ignores_one_day = thresholds.ignores_one_day && spread(&deviations.own).is_some();
    let rank = if ignores_one_day { 2.0 / 3.0 } else { 1.0 };
    let highest = |sign: f64| {
        let single_days = compared.iter().chain(&day_before).map(|day| sign * day);
        let single_day = quantile(single_days, rank).map(|day| day + threshold / 2.0);
        let last = deviations.last.iter();
        let last = last.map(|last| sign * usual + beyond(sign * last, threshold));
        let highest = single_day.into_iter().chain(last);
        sign * highest.fold(sign * usual + threshold, f64::max)
    };
    let bounds = Bounds {
        usual,
        lower: highest(-1.0),
        upper: highest(1.0),
    };
    Some((bounds, compared))
}

/// Returns what a deviation must exceed after this one to be another swing.
fn beyond(own: f64, threshold: f64) -> f64 {
    // What goes on was a swing already.
    let further = if own > threshold { 1.0 } else { 0.5 };
    own + further * threshold
}

/// Returns `true` if the first of these own deviations, the newest first, was a swing downwards.
pub(super) fn is_fall(own: &[f64], thresholds: Thresholds) -> bool {
    let Some((newest, before)) = own.split_first() else {
        return false;
    };
    let threshold = thresholds.threshold(before);
    let mut last = before.iter().take(LAST_DAYS);
    -newest > threshold && last.all(|last| -newest > beyond(-last, threshold))
}
