//! How far figures of the past days were from what was usual for them.

use super::days::{Compared, ComparedDays, DEVIATION_DAYS, Kinds};
use super::statistics::{median, robust_deviation};

/// With fewer own deviations, their spread is not known.
const FEWEST_DEVIATIONS: usize = 21;

/// Fewer days are not compared.
const FEWEST_COMPARED: usize = 2;

/// How many of the last days a swing is compared with.
pub(super) const LAST_DAYS: usize = 3;

/// Whether a series is of users or of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// The logarithm of users, which may grow steadily.
    Users,
    /// A share, which is compared on holidays as well.
    Share,
}

/// What the past days of a series say about its days.
#[derive(Debug)]
pub(super) struct Deviations {
    unit: Unit,
    /// The change a day.
    trend: f64,
    /// Those of regular days before the reference date, the newest first.
    pub(super) own: Vec<f64>,
    /// The values of these days.
    pub(super) own_values: Vec<f64>,
    /// Those of the last days before the reference date, of whatever kind.
    pub(super) last: Vec<f64>,
}

impl Deviations {
    /// Measures the days before the reference date.
    pub(super) fn new(values: &[Option<f64>], kinds: &Kinds, unit: Unit) -> Self {
        let mut deviations = Self {
            unit,
            trend: 0.0,
            own: Vec::new(),
            own_values: Vec::new(),
            last: Vec::new(),
        };
        let days = 1..values.len().min(DEVIATION_DAYS + 1);
        let days: Vec<_> = days
            .filter_map(|ago| {
                let compared = deviations.compared(values, kinds, ago);
                (compared.len() >= FEWEST_COMPARED).then_some((ago, values[ago]?, compared))
            })
            .collect();
        let regular = days.iter().filter(|(ago, ..)| kinds.is_regular(*ago));
        if unit == Unit::Users && regular.clone().count() >= FEWEST_DEVIATIONS {
            let trend = median(regular.filter_map(|(_, value, compared)| {
                let usual = median(compared.iter().map(|day| day.value))?;
                Some((value - usual) / mean_age(compared))
            }));
            deviations.trend = trend.unwrap_or_default();
        }
        for (ago, value, compared) in days {
            let Some(usual) = median(deviations.moved(&compared)) else {
                continue;
            };
            if kinds.is_regular(ago) {
                deviations.own.push(value - usual);
                deviations.own_values.push(value);
            }
            if deviations.last.len() < LAST_DAYS {
                deviations.last.push(value - usual);
            }
        }
        deviations
    }

    /// Returns the values with which a day is compared as they would be on that day, if there are enough.
    pub(super) fn comparable(
        &self,
        values: &[Option<f64>],
        kinds: &Kinds,
        ago: usize,
    ) -> Option<Vec<f64>> {
        let compared = self.compared(values, kinds, ago);
        (compared.len() >= FEWEST_COMPARED).then(|| self.moved(&compared).collect())
    }

    /// Returns the values with which a day is compared.
    pub(super) fn compared(
        &self,
        values: &[Option<f64>],
        kinds: &Kinds,
        ago: usize,
    ) -> ComparedDays {
        kinds.compared(values, ago, self.unit == Unit::Share)
    }

    fn moved(&self, compared: &[Compared]) -> impl Iterator<Item = f64> {
        let trend = self.trend;
        compared.iter().map(move |day| day.value + trend * day.age)
    }
}

/// Returns the standard deviation of own deviations, if there are enough.
pub(super) fn spread(own: &[f64]) -> Option<f64> {
    let is_known = own.len() >= FEWEST_DEVIATIONS;
    is_known.then(|| robust_deviation(own)).flatten()
}

fn mean_age(compared: &[Compared]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most four days are compared")]
    let days = compared.len() as f64;
    compared.iter().map(|day| day.age).sum::<f64>() / days
}
