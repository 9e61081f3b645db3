//! The state of every app as JSON, for programs. Times are UTC, days are those of Beijing.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::state::AppState;
use crate::calendar::DayKind;
use crate::expectation::{Alert, AlertFigures, Bounds, Drift};
use crate::portrait::{Cohort, Window};
use crate::state::{
    AppSnapshot, Arrival, CohortSummary, PolledBy, RecentPoll, Summary, WindowSnapshot,
};
use crate::wechat::errcodes::Reason;

/// The state of everything.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    revision: &'static str,
    #[serde(serialize_with = "rfc3339")]
    now: DateTime<Utc>,
    ready: bool,
    config: ConfigStatus,
    archive: ArchiveStatus,
    apps: Vec<AppStatus>,
}

#[derive(Debug, Serialize)]
struct ConfigStatus {
    /// Why the one that was read last is not applied; a line for each problem.
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct ArchiveStatus {
    path: String,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct AppStatus {
    appid: String,
    app: String,
    labels: BTreeMap<String, String>,
    /// Whether this exporter polls it, and not another one that shares the archive.
    polled_here: bool,
    #[serde(serialize_with = "rfc3339_or_null")]
    next_poll: Option<DateTime<Utc>>,
    /// How many responses wait for the archive.
    unstored: usize,
    windows: Vec<WindowStatus>,
}

#[derive(Debug, Serialize)]
struct WindowStatus {
    window: Window,
    /// The last Beijing day of the newest portrait.
    reference_date: Option<NaiveDate>,
    freshness: &'static str,
    settled: bool,
    #[serde(flatten)]
    polls: Polling,
    archived: Archived,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Polling {
    #[serde(serialize_with = "rfc3339_or_null")]
    last_success: Option<DateTime<Utc>>,
    last_poll_success: Option<bool>,
    /// Why the last one brought no portrait, as it is counted, and for people.
    reason: Option<&'static str>,
    problem: Option<String>,
    recent_polls: Vec<PollStatus>,
}

/// A poll of one day, see [`RecentPoll`].
#[derive(Debug, Serialize)]
struct PollStatus {
    #[serde(serialize_with = "rfc3339")]
    at: DateTime<Utc>,
    day: NaiveDate,
    outcome: &'static str,
}

/// The users of the newest portrait, while it is not stale, and how they compare with other days.
#[derive(Debug, Serialize)]
struct Figures {
    /// Of the window 1d, as are all but the users.
    reference_day: Option<ReferenceDay>,
    users: ByCohort<Option<u64>>,
    expected: ByCohort<Option<Expected>>,
    /// How far the users are from the usual figure: -0.2 is 20% below.
    change_ratio: ByCohort<Option<f64>>,
    drift: ByCohort<Option<DriftStatus>>,
    /// Those that the bundled rules raise, once the figures are settled.
    alerts: Vec<AlertStatus>,
}

#[derive(Debug, Serialize)]
struct ReferenceDay {
    kind: DayKind,
    /// The public holiday, or the one that the day makes up for.
    holiday: Option<String>,
}

#[derive(Debug, Serialize)]
struct ByCohort<T> {
    new: T,
    active: T,
}

/// See [`Bounds`].
#[derive(Debug, Serialize)]
struct Expected {
    lower: f64,
    usual: f64,
    upper: f64,
}

/// See [`Drift`].
#[derive(Debug, Serialize)]
struct DriftStatus {
    ratio: f64,
    limit_ratio: f64,
}

/// An alert, with what a sentence about it needs.
#[derive(Debug, Serialize)]
struct AlertStatus {
    alert: &'static str,
    cohort: Cohort,
    platform: Option<String>,
    /// Of the platform, or of the whole cohort.
    users: Option<u64>,
    usual: Option<f64>,
    /// Of the platform in the cohort, if the alert is about that.
    share: Option<f64>,
    usual_share: Option<f64>,
}

/// The archived days, all as reference dates.
#[derive(Debug, Serialize)]
struct Archived {
    days: u64,
    first_day: Option<NaiveDate>,
    last_day: Option<NaiveDate>,
    /// Days that are lost, the newest first; `None` while that is not known.
    gaps: Option<Vec<Gap>>,
    /// How often figures of these days changed.
    revisions: u64,
}

/// A stretch of days.
#[derive(Debug, Serialize)]
struct Gap {
    first_day: NaiveDate,
    last_day: NaiveDate,
}

impl Status {
    pub(super) fn new(state: &AppState) -> Self {
        let now = (state.clock)();
        let apps = state.registry.all();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("BUILD_REVISION"),
            now,
            ready: state.registry.is_ready(),
            config: ConfigStatus {
                problem: state.config_problem(),
            },
            archive: ArchiveStatus {
                path: state.archive.place().to_string(),
                problem: state.archive.problem(),
            },
            apps: apps.iter().map(|app| AppStatus::new(app, now)).collect(),
        }
    }
}

impl AppStatus {
    fn new(app: &AppSnapshot, now: DateTime<Utc>) -> Self {
        Self {
            appid: app.appid.to_string(),
            app: app.name.clone(),
            labels: app.labels.clone(),
            polled_here: app.polled_by == PolledBy::This,
            next_poll: app.next_poll_at,
            unstored: app.unstored,
            windows: app
                .windows
                .iter()
                .map(|window| WindowStatus::new(app, window, now))
                .collect(),
        }
    }
}

impl WindowStatus {
    fn new(app: &AppSnapshot, window: &WindowSnapshot, now: DateTime<Utc>) -> Self {
        Self {
            window: window.window,
            reference_date: window.reference_date,
            freshness: match window.arrival(now) {
                Arrival::Never => "none yet",
                Arrival::Stale => "stale",
                Arrival::Awaited => "waiting",
                Arrival::Provisional | Arrival::Confirmed => "fresh",
            },
            settled: window.settled,
            polls: Polling::from(window),
            archived: Archived::new(app, window, now),
            figures: Figures::new(window),
        }
    }
}

impl From<&WindowSnapshot> for Polling {
    fn from(window: &WindowSnapshot) -> Self {
        let failure = window.last_failure.as_ref();
        Self {
            last_success: window.last_success_at,
            last_poll_success: window.last_poll_success,
            reason: failure.map(|failure| Reason::as_str(failure.reason)),
            problem: failure.map(|failure| failure.problem.clone()),
            recent_polls: window.recent_polls.iter().map(PollStatus::from).collect(),
        }
    }
}

impl Archived {
    fn new(app: &AppSnapshot, window: &WindowSnapshot, now: DateTime<Utc>) -> Self {
        let bounds = window.coverage.bounds();
        let gap = |(first_day, last_day)| Gap {
            first_day,
            last_day,
        };
        let gaps = app.gaps(window, now);
        Self {
            days: window.coverage.days(),
            first_day: bounds.map(|(first, _)| first),
            last_day: bounds.map(|(_, last)| last),
            gaps: gaps.map(|gaps| gaps.into_iter().rev().map(gap).collect()),
            revisions: window.coverage.revisions,
        }
    }
}

impl From<&RecentPoll> for PollStatus {
    fn from(poll: &RecentPoll) -> Self {
        Self {
            at: poll.at,
            day: poll.day,
            outcome: poll.outcome.as_str(),
        }
    }
}

impl Figures {
    fn new(window: &WindowSnapshot) -> Self {
        let summary = window.summary.as_deref();
        let daily = summary.filter(|_| window.window == Window::OneDay);
        let cohorts = daily.into_iter().flat_map(Summary::cohorts);
        let alerts = cohorts.flat_map(|(cohort, of_cohort)| {
            let alerts = of_cohort.expected.alerts(&of_cohort.platforms);
            let alerts = alerts.into_iter();
            alerts.map(move |alert| AlertStatus::new(cohort, of_cohort, alert))
        });
        let of = |cohort| summary.map(|summary| &summary.cohorts[cohort as usize]);
        let users = |cohort| of(cohort)?.users;
        let bounds = |cohort| of(cohort)?.expected.users;
        Self {
            reference_day: daily.map(|summary| ReferenceDay {
                kind: summary.day_kind,
                holiday: Some(summary.holiday.clone()).filter(|name| !name.is_empty()),
            }),
            users: ByCohort::new(users),
            expected: ByCohort::new(|cohort| bounds(cohort).map(Expected::from)),
            change_ratio: ByCohort::new(|cohort| {
                let ratio = bounds(cohort)?.change_ratio(users(cohort)?)?;
                Some(four_decimals(ratio))
            }),
            drift: ByCohort::new(|cohort| of(cohort)?.expected.drift.map(DriftStatus::from)),
            alerts: alerts.collect(),
        }
    }
}

impl AlertStatus {
    fn new(cohort: Cohort, of_cohort: &CohortSummary, alert: Alert<'_>) -> Self {
        let AlertFigures {
            users,
            usual,
            share,
            usual_share,
        } = of_cohort.expected.figures(&of_cohort.platforms, alert);
        Self {
            alert: alert.name(cohort),
            cohort,
            platform: alert.platform().map(str::to_owned),
            users,
            usual,
            share: share.map(four_decimals),
            usual_share: usual_share.map(four_decimals),
        }
    }
}

fn four_decimals(ratio: f64) -> f64 {
    (ratio * 10_000.0).round() / 10_000.0
}

impl From<Drift> for DriftStatus {
    fn from(drift: Drift) -> Self {
        let Drift { ratio, limit_ratio } = drift;
        Self { ratio, limit_ratio }
    }
}

impl<T> ByCohort<T> {
    fn new(of: impl Fn(Cohort) -> T) -> Self {
        Self {
            new: of(Cohort::New),
            active: of(Cohort::Active),
        }
    }
}

impl From<Bounds> for Expected {
    fn from(bounds: Bounds) -> Self {
        let Bounds {
            usual,
            lower,
            upper,
        } = bounds;
        Self {
            lower,
            usual,
            upper,
        }
    }
}

fn rfc3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn rfc3339_or_null<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
