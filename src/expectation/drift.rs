//! Whether users decline slowly, so that no single day shows it.

use super::bounds::{Thresholds, is_fall};
use super::deviations::spread;
use super::statistics::{median, trimmed_mean};

/// How the last days together compare with what was usual for them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// −0.31 is 31% below the usual.
    pub ratio: f64,
    /// A ratio below it is a slow decline.
    pub limit_ratio: f64,
}

/// How many days together show a decline.
const WEEK: usize = 7;

/// How far back a decline may have begun: after four weeks its days are the usual ones.
const LONGEST: usize = 28;

/// A decline is of interest from this part of the least threshold on.
const PART: f64 = 0.6;

/// How many standard deviations of single own deviations all these days together must be below: four of
/// their mean.
const DEVIATIONS: f64 = 1.5;

/// Returns the drift after these own deviations, the newest first, in the logarithm.
pub(super) fn drift(own: &[f64], thresholds: Thresholds) -> Option<Drift> {
    let begin = (PART * thresholds.least).max(DEVIATIONS * spread(own)?);
    // Once it has begun it lasts until half of it is left, or it would end and begin again.
    let mut limit = -begin;
    for day in (1..=LONGEST).rev() {
        let days = own.get(day..).unwrap_or_default();
        let declines = together(days)
            .is_some_and(|ratio| ratio < limit && ratio < limit + lasting_fall(days, thresholds));
        limit = if declines { -begin / 2.0 } else { -begin };
    }
    Some(Drift {
        ratio: together(own)?.exp_m1(),
        limit_ratio: (limit + lasting_fall(own, thresholds)).exp_m1(),
    })
}

/// Returns the mean of the values of the newest days together.
pub(super) fn together(values: &[f64]) -> Option<f64> {
    trimmed_mean(values.get(..WEEK)?)
}

/// Returns the deviation to which figures fell with a swing and from which they have not recovered for a
/// week, or 0.
fn lasting_fall(own: &[f64], thresholds: Thresholds) -> f64 {
    let mut lasts_until = 0;
    for (day, deviation) in own.iter().enumerate() {
        if *deviation >= 0.0 {
            lasts_until = day + 1;
        }
        if lasts_until >= WEEK {
            break;
        }
        if is_fall(&own[day..], thresholds) {
            // What is usual follows later, so later deviations are smaller.
            let first_week = own[..=day].iter().rev().take(WEEK).copied();
            return median(first_week).unwrap_or_default().min(0.0);
        }
    }
    0.0
}
