//! What is expected of a cohort and its platforms.

use super::bounds::{Bounds, Thresholds, bounds, lasting_fall};
use super::days::Kinds;
use super::deviations::{Deviations, FEWEST_COMPARED};
use super::statistics::{median, trimmed_mean};
use crate::config::Swing;
use crate::portrait::Breakdown;

/// What is expected of a cohort on the reference date.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CohortExpectation {
    /// Of all users; `None` if there is nothing to compare with, and on holidays.
    pub users: Option<Bounds>,
    /// Of every platform of that date, those without users included, sorted by name.
    pub platforms: Vec<PlatformExpectation>,
    /// Whether the users decline slowly; `None` as long as too few days are known.
    pub drift: Option<Drift>,
}

/// What is expected of the users on a platform.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformExpectation {
    /// The platform, as WeChat writes it.
    pub name: String,
    /// Of its users; `None` if there is nothing to compare with, and on holidays.
    pub users: Option<Bounds>,
    /// Of its share of the cohort, from 0 to 1; `None` if there is nothing to compare with.
    pub share: Option<Bounds>,
}

/// How the last days together compare with what was usual for them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drift {
    /// −0.31 is 31% below the usual.
    pub ratio: f64,
    /// A ratio below it is a slow decline.
    pub limit_ratio: f64,
}

/// A fall to less than this share is a swing however noisy the app is.
const LARGEST_FALL: f64 = 0.35;

/// The shares by which a platform's share must change at least.
const LEAST_SHARE: f64 = 0.1;

/// Chance rarely makes the square roots of two figures differ by more.
const CHANCE: f64 = 2.2;

/// A platform vanishes or appears with this part of `min_users`.
const PART_OF_MIN_USERS: u64 = 5;

/// How many days together show a decline.
const DRIFT_DAYS: usize = 7;

/// A decline is of interest from this part of the least threshold on.
const DRIFT_PART: f64 = 0.6;

/// How many standard deviations of single own deviations all these days together must be below: four of
/// their mean.
const DRIFT_DEVIATIONS: f64 = 1.5;

/// Returns what is expected of a cohort on the reference date.
///
/// `days` are the users by platform on the reference date and on the days before it, the newest first;
/// `None` for a day that is not archived. Of [`super::HISTORY_DAYS`] days before it all are used.
#[must_use]
pub fn expect(days: &[Option<Breakdown>], kinds: &Kinds, swing: Swing) -> CohortExpectation {
    let days: Vec<Option<&Breakdown>> = days.iter().map(Option::as_ref).collect();
    let totals: Vec<Option<u64>> = days
        .iter()
        .map(|day| day.and_then(Breakdown::total))
        .collect();
    let total = Counts::new(&totals, kinds, swing);
    let newest = days.first().copied().flatten().into_iter();
    let names = newest.flat_map(|day| day.iter().map(|(name, _)| name));
    let platforms = names.map(|name| {
        let users: Vec<_> = days
            .iter()
            .map(|day| day.and_then(|day| day.users_of(name)))
            .collect();
        PlatformExpectation {
            name: name.to_owned(),
            users: Counts::new(&users, kinds, swing).platform_bounds(),
            share: share_bounds(&users, &totals, kinds, swing),
        }
    });
    CohortExpectation {
        platforms: platforms.collect(),
        users: total.total_bounds(),
        drift: total.drift(),
    }
}

/// A series of users.
struct Counts<'a> {
    kinds: &'a Kinds,
    min_users: u64,
    thresholds: Thresholds,
    values: Vec<Option<f64>>,
    compared: Vec<f64>,
    deviations: Deviations,
}

impl<'a> Counts<'a> {
    fn new(users: &[Option<u64>], kinds: &'a Kinds, swing: Swing) -> Self {
        let values: Vec<_> = users.iter().map(|users| users.map(logarithm)).collect();
        let deviations = Deviations::new(&values, kinds, true);
        Self {
            compared: deviations.moved(&kinds.compared(&values, 0)),
            thresholds: Thresholds {
                least: -(1.0 - swing.threshold_ratio).ln(),
                most: -LARGEST_FALL.ln(),
                ignores_one_day: true,
            },
            kinds,
            min_users: swing.min_users,
            values,
            deviations,
        }
    }

    /// Returns bounds that are beyond what chance explains.
    fn bounds(&self) -> Option<Bounds> {
        if self.kinds.is_holiday(0) {
            return None;
        }
        let Self {
            values,
            kinds,
            compared,
            deviations,
            thresholds,
            ..
        } = self;
        let bounds = bounds(values, kinds, compared, deviations, *thresholds)?.map(users);
        let root = bounds.usual.sqrt();
        Some(Bounds {
            usual: bounds.usual,
            lower: bounds.lower.min((root - CHANCE).max(0.0).powi(2)),
            upper: bounds.upper.max((root + CHANCE).powi(2)),
        })
    }

    fn total_bounds(&self) -> Option<Bounds> {
        let mut bounds = self.bounds()?;
        let min_users = float(self.min_users);
        if bounds.usual < min_users {
            bounds.lower = 0.0;
            bounds.upper = bounds.upper.max(min_users - 1.0);
        }
        Some(bounds.map(rounded))
    }

    /// Returns bounds that are crossed as well when a platform vanishes or appears.
    fn platform_bounds(&self) -> Option<Bounds> {
        let mut bounds = self.bounds()?;
        let min_users = float(self.min_users);
        let part = float(self.min_users.div_ceil(PART_OF_MIN_USERS));
        if bounds.usual < min_users {
            let is_of_interest = bounds.usual >= part;
            bounds.lower = if is_of_interest {
                bounds.lower.min(1.0)
            } else {
                0.0
            };
            let least = if bounds.usual > 0.0 { min_users } else { part };
            bounds.upper = bounds.upper.max(least - 1.0);
        }
        Some(bounds.map(rounded))
    }

    fn drift(&self) -> Option<Drift> {
        let spread = self.deviations.spread()?;
        let usual = median(self.compared.iter().copied());
        // A holiday is not compared, and a make-up workday is no regular day.
        let newest = usual.filter(|_| self.kinds.is_regular(0));
        let newest = newest.and_then(|usual| Some(self.values.first().copied()?? - usual));
        let own: Vec<f64> = newest
            .into_iter()
            .chain(self.deviations.own.iter().copied())
            .collect();
        let ratio = trimmed_mean(own.get(..DRIFT_DAYS)?)?;
        let known = self.values.iter().flatten().take(DRIFT_DAYS);
        let usual = users(median(known.copied())? - ratio);
        let least = DRIFT_PART * self.thresholds.least;
        let limit = lasting_fall(&own, self.thresholds.threshold(&self.deviations))
            - least.max(DRIFT_DEVIATIONS * spread);
        (usual >= float(self.min_users)).then(|| Drift {
            ratio: rounded_share(ratio.exp_m1()),
            limit_ratio: rounded_share(limit.exp_m1()),
        })
    }
}

fn share_bounds(
    users: &[Option<u64>],
    totals: &[Option<u64>],
    kinds: &Kinds,
    swing: Swing,
) -> Option<Bounds> {
    let shares: Vec<_> = users
        .iter()
        .zip(totals)
        .map(|(users, total)| {
            let total = total.filter(|total| *total > 0)?;
            Some(float((*users)?) / float(total))
        })
        .collect();
    let deviations = Deviations::new(&shares, kinds, false);
    let compare = |values: &[Option<f64>]| {
        if kinds.is_holiday(0) {
            kinds.last_regular(values, 0)
        } else {
            kinds.compared(values, 0)
        }
    };
    let thresholds = Thresholds {
        least: LEAST_SHARE,
        most: f64::INFINITY,
        ignores_one_day: false,
    };
    let compared = deviations.moved(&compare(&shares));
    let bounds = bounds(&shares, kinds, &compared, &deviations, thresholds)?;
    let total = (*totals.first()?)?;
    if total < swing.min_users {
        return Some(
            Bounds {
                lower: 0.0,
                upper: 1.0,
                ..bounds
            }
            .map(rounded_share),
        );
    }
    let totals: Vec<_> = totals.iter().map(|total| total.map(float)).collect();
    let others: f64 = if compared.len() >= FEWEST_COMPARED {
        compare(&totals).iter().map(|day| day.value).sum()
    } else {
        totals[1]?
    };
    let chance = 2.0 * (1.0 / float(total) + 1.0 / others).sqrt();
    let bounds = Bounds {
        usual: bounds.usual,
        lower: bounds.lower.min(bounds.usual - chance).max(0.0),
        upper: bounds.upper.max(bounds.usual + chance).min(1.0),
    };
    Some(bounds.map(rounded_share))
}

/// Returns the logarithm of a figure; of 0 it is that of a half.
fn logarithm(users: u64) -> f64 {
    float(users).max(0.5).ln()
}

/// Returns the figure of a logarithm.
fn users(logarithm: f64) -> f64 {
    if logarithm > 0.5_f64.ln() {
        logarithm.exp()
    } else {
        0.0
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 users")]
fn float(users: u64) -> f64 {
    users as f64
}

fn rounded(users: f64) -> f64 {
    (100.0 * users).round() / 100.0
}

fn rounded_share(share: f64) -> f64 {
    (10_000.0 * share).round() / 10_000.0
}
