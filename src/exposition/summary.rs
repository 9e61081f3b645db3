//! The gauges that show what a portrait amounts to: cohorts, what is expected of them, and the kind of
//! day. Used by the page and by the export of past days.

use crate::expectation::{Bound, Bounds, CohortExpectation, Drift, PlatformExpectation, float};
use crate::portrait::{Cohort, Window};
use crate::state::Summary;

/// Receives the labels after the appid, and the value, of every series of a gauge.
pub type Sink<'a> = &'a mut dyn FnMut(&[(&str, &str)], f64);

/// A gauge of a summary.
#[derive(Debug, Clone, Copy)]
pub struct SummaryGauge {
    /// Its name.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
    /// Passes on its series.
    pub series: fn(Window, &Summary, Sink<'_>),
}

/// All of them, in the order of the page.
pub const GAUGES: [SummaryGauge; 7] = [
    COHORT_USERS,
    EXPECTED_COHORT_USERS,
    EXPECTED_PLATFORM_USERS,
    EXPECTED_PLATFORM_SHARE,
    DRIFT,
    DRIFT_LIMIT,
    REFERENCE_DAY,
];

/// All users of a cohort.
const COHORT_USERS: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_cohort_users",
    help: "Users of a whole cohort: the sum over platforms, the best substitute for a total that a portrait has; \
           absent where a platform is unknown.",
    series: |window, summary, sink| {
        for (cohort, of_cohort) in summary.cohorts() {
            let labels = [("window", window.as_str()), ("cohort", cohort.as_str())];
            if let Some(users) = of_cohort.users {
                sink(&labels, float(users));
            }
        }
    },
};

/// What is expected of all users of a cohort.
const EXPECTED_COHORT_USERS: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_expected_cohort_users",
    help: "The value of wxapp_portrait_cohort_users to expect from comparable days in the archive (window 1d): the usual figure, \
           and the bounds beyond which a figure is a swing; absent while there is nothing to compare with, and on public holidays.",
    series: |_, summary, sink| {
        for (cohort, expected) in expectations(summary) {
            add_bounds(&[("cohort", cohort.as_str())], expected.users, sink);
        }
    },
};

/// What is expected of the users on every platform.
const EXPECTED_PLATFORM_USERS: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_expected_platform_users",
    help: "The users of each platform to expect from comparable days (window 1d), as for cohorts; \
           usual is 0 for a platform that comparable days lack.",
    series: |_, summary, sink| add_platforms(summary, |platform| platform.users, sink),
};

/// What is expected of the share of every platform.
const EXPECTED_PLATFORM_SHARE: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_expected_platform_share_ratio",
    help: "The share of each platform in the users of its cohort to expect from comparable days (window 1d), from 0 to 1.",
    series: |_, summary, sink| add_platforms(summary, |platform| platform.share, sink),
};

/// How the last days together compare with what was usual for them.
const DRIFT: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_drift_ratio",
    help: "How far the last seven comparable days together (window 1d) were from what was usual for them: -0.31 is 31% below.",
    series: |_, summary, sink| add_drifts(summary, |drift| drift.ratio, sink),
};

/// Below which drift is a slow decline.
const DRIFT_LIMIT: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_drift_limit_ratio",
    help: "The wxapp_portrait_drift_ratio below which users decline slowly; negative.",
    series: |_, summary, sink| add_drifts(summary, |drift| drift.limit_ratio, sink),
};

/// What kind of day the reference date is.
const REFERENCE_DAY: SummaryGauge = SummaryGauge {
    name: "wxapp_portrait_reference_day_info",
    help: "The kind of day that the reference date (window 1d) is, and the name of the public holiday or of the one \
           that a workday makes up for, always 1.",
    series: |window, summary, sink| {
        if window == Window::OneDay {
            let kind = ("kind", summary.day_kind.as_str());
            sink(&[kind, ("holiday", &summary.holiday)], 1.0);
        }
    },
};

fn expectations(summary: &Summary) -> impl Iterator<Item = (Cohort, &CohortExpectation)> {
    let cohorts = summary.cohorts();
    cohorts.map(|(cohort, of_cohort)| (cohort, &of_cohort.expected))
}

fn add_drifts(summary: &Summary, ratio: impl Fn(Drift) -> f64, sink: Sink<'_>) {
    for (cohort, expected) in expectations(summary) {
        if let Some(drift) = expected.drift {
            sink(&[("cohort", cohort.as_str())], ratio(drift));
        }
    }
}

fn add_platforms(
    summary: &Summary,
    bounds: impl Fn(&PlatformExpectation) -> Option<Bounds>,
    sink: Sink<'_>,
) {
    for (cohort, expected) in expectations(summary) {
        for platform in &expected.platforms {
            let labels = [("cohort", cohort.as_str()), ("name", &platform.name)];
            add_bounds(&labels, bounds(platform), sink);
        }
    }
}

fn add_bounds(labels: &[(&str, &str)], bounds: Option<Bounds>, sink: Sink<'_>) {
    let Some(bounds) = bounds else { return };
    for bound in Bound::ALL {
        let mut labels = labels.to_vec();
        labels.push(("bound", bound.as_str()));
        sink(&labels, bounds[bound]);
    }
}
