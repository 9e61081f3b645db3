//! Dice that always fall the same way: numbers from hashes.
//!
//! There is no generator with a state. Every figure is drawn from a hash of what it belongs to,
//! so it is the same whoever asks, in whatever order.

/// Mixes the bits of `value` (the finaliser of splitmix64).
pub(super) const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Hashes a text; `purpose` tells apart what is drawn for the same text.
pub(super) fn hash(purpose: &str, text: &str) -> u64 {
    let bytes = purpose.bytes().chain([0]).chain(text.bytes());
    bytes.fold(0, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// Turns a hash into a number between 0 and 1, evenly.
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

/// Draws how many people come when `mean` are expected: Poisson, and a little more spread for many.
pub(super) fn people(mean: f64, hash: u64) -> u64 {
    if mean >= 12.0 {
        let deviation = (mean + (0.02 * mean).powi(2)).sqrt();
        return whole(mean + deviation * normal(hash));
    }
    let mut chance = (-mean).exp();
    let mut left = unit(hash) - chance;
    let mut people = 0_u32;
    while left >= 0.0 && people < 60 {
        people += 1;
        chance *= mean / f64::from(people);
        left -= chance;
    }
    u64::from(people)
}

/// Rounds to a whole number of people; below 0 there is nobody.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded, and the cast stays at the limits"
)]
pub(super) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// Widens a number of people for calculation.
#[expect(
    clippy::cast_precision_loss,
    reason = "no audience is so large that it matters"
)]
pub(super) fn real(people: u64) -> f64 {
    people as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_counts_lie_around_their_mean() {
        for mean in [0.2, 3.0, 11.9, 12.1, 400.0] {
            let sum: u64 = (0..4000).map(|seed| people(mean, mix(seed))).sum();
            let average = real(sum) / 4000.0;
            assert!((average / mean - 1.0).abs() < 0.08, "{mean}: {average}");
        }
        assert_eq!(people(0.0, mix(7)), 0);
    }
}
