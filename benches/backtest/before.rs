//! The rule of swings that was bundled before: revision ba4f3b2, for all users of a cohort.
//!
//! It compares with the same weekdays of four weeks and with the day before, with one threshold for all
//! apps. It has no calendar, no drift, and for this comparison no platforms.

use wxapp_portrait_exporter::config::Swing;
use wxapp_portrait_exporter::expectation::{Bounds, CohortExpectation, Kinds};
use wxapp_portrait_exporter::portrait::Breakdown;

/// Returns what is expected of the first of these days after the others.
pub(crate) fn expect(days: &[Option<Breakdown>], _: &Kinds, swing: Swing) -> CohortExpectation {
    CohortExpectation {
        users: bounds(days, swing),
        ..CohortExpectation::default()
    }
}

fn bounds(days: &[Option<Breakdown>], swing: Swing) -> Option<Bounds> {
    let ago = |ago: &usize| Some(days.get(*ago)?.as_ref()?.total()? as f64);
    let mut weekdays: Vec<f64> = [7, 14, 21, 28].iter().filter_map(ago).collect();
    weekdays.sort_by(f64::total_cmp);
    let threshold = -(1.0 - swing.threshold_ratio).ln();
    let (usual, threshold) = if weekdays.len() >= 2 {
        let middle = [(weekdays.len() - 1) / 2, weekdays.len() / 2];
        let usual = middle.iter().map(|place| weekdays[*place]).sum::<f64>() / 2.0;
        (usual, threshold)
    } else {
        (ago(&1)?, 2.0 * threshold)
    };
    let single_days = || weekdays.iter().copied().chain(ago(&1));
    let lowest = single_days().fold(f64::INFINITY, f64::min);
    let highest = single_days().fold(0.0, f64::max);
    let root = usual.sqrt();
    let lower = (usual * (-threshold).exp())
        .min(lowest * (-threshold / 2.0).exp())
        .min((root - 2.2).max(0.0).powi(2));
    let upper = (usual * threshold.exp())
        .max(highest * (threshold / 2.0).exp())
        .max((root + 2.2).powi(2));
    let min_users = swing.min_users as f64;
    Some(if usual < min_users {
        Bounds {
            usual,
            lower: 0.0,
            upper: upper.max(min_users - 1.0),
        }
    } else {
        Bounds {
            usual,
            lower,
            upper,
        }
    })
}
