//! How far figures of the past days were from what was usual for them.

use super::days::{Compared, DEVIATION_DAYS, Kinds};
use super::statistics::{median, robust_deviation};

/// With fewer own deviations, their spread is not known.
const FEWEST_DEVIATIONS: usize = 21;

/// Fewer days of the same kind are not compared.
pub(super) const FEWEST_COMPARED: usize = 2;

/// What the past days of a series say about its days.
#[derive(Debug)]
pub(super) struct Deviations {
    /// The change a day.
    trend: f64,
    /// Those of the days before the reference date, the newest first.
    pub(super) own: Vec<f64>,
}

impl Deviations {
    /// Measures the days before the reference date; `has_trend` if the figures may grow steadily.
    pub(super) fn new(values: &[Option<f64>], kinds: &Kinds, has_trend: bool) -> Self {
        let days = 1..values.len().min(DEVIATION_DAYS + 1);
        let days: Vec<_> = days
            .filter(|ago| kinds.is_regular(*ago))
            .filter_map(|ago| Some((values[ago]?, kinds.compared(values, ago))))
            .filter(|(_, compared)| compared.len() >= FEWEST_COMPARED)
            .collect();
        let trend = if has_trend && days.len() >= FEWEST_DEVIATIONS {
            median(days.iter().filter_map(|(value, compared)| {
                let usual = median(compared.iter().map(|day| day.value))?;
                Some((value - usual) / mean_age(compared))
            }))
        } else {
            None
        };
        let trend = trend.unwrap_or(0.0);
        let own = days.iter();
        let own = own.filter_map(|(value, compared)| Some(value - median(moved(compared, trend))?));
        Self {
            trend,
            own: own.collect(),
        }
    }

    /// Returns the values of compared days as they would be on the day that they are compared with.
    pub(super) fn moved(&self, compared: &[Compared]) -> Vec<f64> {
        moved(compared, self.trend).collect()
    }
}

/// Returns the standard deviation of own deviations, if there are enough.
pub(super) fn spread(own: &[f64]) -> Option<f64> {
    let is_known = own.len() >= FEWEST_DEVIATIONS;
    is_known.then(|| robust_deviation(own)).flatten()
}

fn moved(compared: &[Compared], trend: f64) -> impl Iterator<Item = f64> {
    compared.iter().map(move |day| day.value + trend * day.age)
}

fn mean_age(compared: &[Compared]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "at most four days are compared")]
    let days = compared.len() as f64;
    compared.iter().map(|day| day.age).sum::<f64>() / days
}
