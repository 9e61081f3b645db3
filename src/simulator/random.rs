//! Random numbers without a state: every number follows from a hash of its purpose, so it
//! is the same for every request, in whatever order these arrive. Does not depend on what is drawn.

/// Mixes the bits of `value` (the finaliser of splitmix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hashes a text; a different `purpose` gives a different number.
pub(super) fn hash(purpose: &str, text: &str) -> u64 {
    let bytes = purpose.bytes().chain([0]).chain(text.bytes());
    bytes.fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// Turns a hash into a number between 0 and 1, uniformly distributed.
pub(super) fn unit(hash: u64) -> f64 {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / 4_294_967_296.0
}

/// Turns a hash into a number around 0 with a deviation of 1, never beyond 3.5: almost normal.
pub(super) fn normal(hash: u64) -> f64 {
    let bytes = hash.to_le_bytes();
    let (pairs, _) = bytes.as_chunks();
    let sum: f64 = pairs
        .iter()
        .map(|pair| f64::from(u16::from_le_bytes(*pair)) / 65_536.0)
        .sum();
    (sum - 2.0) * 3.0_f64.sqrt()
}

/// Draws a count around `mean`: Poisson, with a little more spread where it is large.
pub(super) fn count_around(mean: f64, hash: u64) -> u64 {
    if mean >= 12.0 {
        let deviation = (mean + (0.02 * mean).powi(2)).sqrt();
        return rounded(mean + deviation * normal(hash));
    }
    let mut chance = (-mean).exp();
    let mut left = unit(hash) - chance;
    let mut count = 0_u32;
    while left >= 0.0 && count < 60 {
        count += 1;
        chance *= mean / f64::from(count);
        left -= chance;
    }
    u64::from(count)
}

/// Rounds to a whole number, at least 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and the cast stays at the limits"
)]
pub(super) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// Converts a number of users for calculation.
#[expect(
    clippy::cast_precision_loss,
    reason = "no app has enough users for it to matter"
)]
pub(super) fn as_float(users: u64) -> f64 {
    users as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_counts_lie_around_their_mean() {
        for mean in [0.2, 3.0, 11.9, 12.1, 400.0] {
            let sum: u64 = (0..4000).map(|seed| count_around(mean, mix(seed))).sum();
            let average = as_float(sum) / 4000.0;
            assert!((average / mean - 1.0).abs() < 0.08, "{mean}: {average}");
        }
        assert_eq!(count_around(0.0, mix(7)), 0);
    }
}
