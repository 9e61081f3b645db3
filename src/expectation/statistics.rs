//! Medians and the like.

use smallvec::SmallVec;

/// Returns the quantile of values with linear interpolation, as Prometheus does; `None` if there are no
/// values.
pub(super) fn quantile(values: impl IntoIterator<Item = f64>, quantile: f64) -> Option<f64> {
    // Mostly of the four days that a day is compared with.
    let mut values: SmallVec<[f64; 4]> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "there are some dozen values"
    )]
    let (place, below) = {
        let place = quantile * last as f64;
        (place.fract(), place as usize)
    };
    let above = values[last.min(below + 1)];
    Some(values[below] + place * (above - values[below]))
}

/// Returns the median, the mean of the two in the middle of an even number.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// Returns the standard deviation of normally distributed values, estimated from the median absolute
/// deviation from the median, so that exceptional ones do not matter.
pub(super) fn robust_deviation(values: &[f64]) -> Option<f64> {
    let center = median(values.iter().copied())?;
    let spread = median(values.iter().map(|value| (value - center).abs()))?;
    Some(1.4826 * spread)
}

/// Returns the mean without the highest and the lowest value; `None` for fewer than three.
pub(super) fn trimmed_mean(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rest = values.get(1..values.len().checked_sub(1)?)?;
    #[expect(clippy::cast_precision_loss, reason = "there are some dozen values")]
    let count = rest.len() as f64;
    (!rest.is_empty()).then(|| rest.iter().sum::<f64>() / count)
}

/// Returns users as a number that can be compared with what is expected, or divided.
#[expect(
    clippy::cast_precision_loss,
    reason = "there are fewer than 2^53 users"
)]
#[must_use]
pub fn float(users: u64) -> f64 {
    users as f64
}
