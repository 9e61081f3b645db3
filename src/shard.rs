//! Which exporter of several is responsible for an app.
//!
//! The appid's FNV-1a hash of 64 bits is mapped by jump consistent hash (Lamping and Veach, 2014,
//! arXiv:1406.2294): the shards are even, and one more takes its apps from all others and moves nothing between
//! these. Test vectors fix both, as apps must not move when the exporter is updated. Knows nothing of how many
//! exporters run.

use std::hash::Hasher as _;

use fnv::FnvHasher;

use crate::portrait::AppId;

/// One of the parts into which the apps are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    ordinal: u32,
    total: u32,
}

impl Default for Shard {
    /// Returns the only one, which has every app.
    fn default() -> Self {
        Self {
            ordinal: 0,
            total: 1,
        }
    }
}

impl Shard {
    /// Returns a shard by its ordinal, from 0; `None` unless the ordinal is smaller than the total.
    #[must_use]
    pub fn new(ordinal: u32, total: u32) -> Option<Self> {
        (ordinal < total).then_some(Self { ordinal, total })
    }

    /// Returns its number, from 0.
    #[must_use]
    pub fn ordinal(self) -> u32 {
        self.ordinal
    }

    /// Returns how many there are.
    #[must_use]
    pub fn total(self) -> u32 {
        self.total
    }

    /// Returns whether an app belongs to it.
    #[must_use]
    pub fn owns(self, appid: &AppId) -> bool {
        self.other_owner(appid).is_none()
    }

    /// Returns the ordinal of the shard to which an app belongs, if that is another one.
    #[must_use]
    pub fn other_owner(self, appid: &AppId) -> Option<u32> {
        let mut hasher = FnvHasher::default();
        hasher.write(appid.as_str().as_bytes());
        let owner = jump(hasher.finish(), self.total);
        (owner != self.ordinal).then_some(owner)
    }
}

/// Returns the bucket of a key, from 0. The paper's code in floating point, in integers: the quotient of the next
/// random number is rounded down either way, and stays exact.
fn jump(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0, 0);
    while next < u64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        next = ((bucket + 1) << 31) / ((key >> 33) + 1);
    }
    u32::try_from(bucket).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn appid(text: &str) -> AppId {
        text.parse().unwrap()
    }

    fn shard_of(appid: &AppId, total: u32) -> u32 {
        let mut owners = (0..total).filter(|n| Shard::new(*n, total).unwrap().owns(appid));
        let owner = owners.next().unwrap();
        assert_eq!(owners.next(), None);
        owner
    }

    fn apps(number: u64) -> Vec<AppId> {
        (0..number).map(|n| appid(&format!("wx{n:016x}"))).collect()
    }

    #[test]
    fn an_ordinal_is_smaller_than_the_total() {
        assert!(Shard::new(2, 3).is_some());
        for (ordinal, total) in [(3, 3), (0, 0), (u32::MAX, 1)] {
            assert_eq!(Shard::new(ordinal, total), None);
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // draft-eastlake-fnv, section "A Few Test Vectors".
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut hasher = FnvHasher::default();
            hasher.write(text.as_bytes());
            assert_eq!(hasher.finish(), hash, "{text}");
        }
    }

    #[test]
    fn buckets_are_those_of_the_paper() {
        // Computed with the paper's code, in floating point.
        let totals = [1, 2, 3, 10, 57, 666, 1024];
        for (key, buckets) in [
            (0, [0, 0, 0, 0, 0, 0, 0]),
            (1, [0, 0, 0, 6, 55, 549, 549]),
            (42, [0, 1, 2, 2, 43, 571, 571]),
            (256, [0, 1, 2, 3, 16, 520, 520]),
            (0xDEAD_10CC, [0, 1, 1, 5, 13, 361, 361]),
            (0xDEAD_BEEF, [0, 1, 2, 5, 16, 285, 285]),
            (u64::MAX, [0, 1, 2, 9, 10, 313, 313]),
        ] {
            assert_eq!(totals.map(|total| jump(key, total)), buckets, "{key}");
        }
    }

    #[test]
    fn apps_stay_where_they_are_in_every_version() {
        let totals = [1, 2, 3, 4, 8, 64];
        for (app, shards) in [
            ("wx0123456789abcdef", [0, 0, 0, 0, 4, 28]),
            ("wx1123456789abcdef", [0, 0, 0, 3, 3, 60]),
            ("wx2123456789abcdef", [0, 1, 1, 1, 1, 1]),
            ("wx3123456789abcdef", [0, 0, 2, 2, 2, 9]),
            ("wxdecade0000000001", [0, 1, 1, 1, 1, 54]),
        ] {
            let found = totals.map(|total| shard_of(&appid(app), total));
            assert_eq!(found, shards, "{app}");
        }
    }

    #[test]
    fn shards_are_even() {
        let apps = apps(10_000);
        for total in [2, 3, 4, 8] {
            let mut sizes = vec![0; total];
            for app in &apps {
                sizes[shard_of(app, u32::try_from(total).unwrap()) as usize] += 1;
            }
            let even = apps.len() / total;
            let differs = |size: &usize| size.abs_diff(even) * 10 > even;
            assert!(!sizes.iter().any(differs), "{sizes:?}");
        }
    }

    #[test]
    fn a_fourth_shard_moves_a_quarter_of_the_apps() {
        for number in [1000, 10_000] {
            let apps = apps(number);
            let moved = apps
                .iter()
                .filter(|app| shard_of(app, 3) != shard_of(app, 4));
            assert!(moved.count() * 100 <= apps.len() * 35);
        }
    }

    proptest! {
        #[test]
        fn one_more_shard_takes_apps_and_moves_none_between_others(
            app in "wx[0-9a-f]{16}",
            total in 1..200_u32,
        ) {
            let app = appid(&app);
            let (before, after) = (shard_of(&app, total), shard_of(&app, total + 1));
            prop_assert!(after == before || after == total);
        }
    }
}
