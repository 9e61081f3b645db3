//! What a snapshot amounts to for people: yesterday's figures, what is unusual about them, whether they have
//! arrived, and what an operator has to do. Knows no language.

use std::cmp::Reverse;

use chrono::{DateTime, NaiveDate, Utc};

use crate::chart::Swing;
use crate::expectation::{Alert, Bound, Bounds, float};
use crate::portrait::{Cohort, Window};
use crate::state::{AppSnapshot, Arrival, CohortSummary, Failure, Summary, WindowSnapshot};
use crate::wechat::errcodes::Reason;

/// An app as its row and its page show it.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) app: &'a AppSnapshot,
    /// The window 1d, or the first one of an app without it.
    pub(super) window: Option<&'a WindowSnapshot>,
    pub(super) arrival: Arrival,
    /// What the bundled rules report about the newest day, the most important first.
    pub(super) alerts: Vec<(Cohort, Alert<'a>)>,
    /// Why polls fail, each once, of whatever windows.
    pub(super) failures: Vec<&'a Failure>,
}

/// The users of a cohort, and what is usual.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figure {
    pub(super) users: Option<u64>,
    pub(super) bounds: Option<Bounds>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(app: &'a AppSnapshot, now: DateTime<Utc>) -> Self {
        let mut windows = app.windows.iter();
        let window = windows.find(|window| window.window == Window::OneDay);
        let window = window.or(app.windows.first());
        let mut facts = Self {
            app,
            window,
            arrival: window.map_or(Arrival::Never, |window| window.arrival(now)),
            alerts: Vec::new(),
            failures: Vec::new(),
        };
        if let Some(summary) = facts.summary() {
            let of_cohorts = summary.cohorts().flat_map(|(cohort, of_cohort)| {
                let alerts = of_cohort.expected.alerts(&of_cohort.platforms);
                alerts.into_iter().map(move |alert| (cohort, alert))
            });
            facts.alerts = of_cohorts.collect();
            facts.alerts.sort_by_key(|(_, alert)| rank(alert));
        }
        for window in &app.windows {
            let failure = window.last_failure.as_ref();
            let failure = failure.filter(|_| window.last_poll_success == Some(false));
            if let Some(failure) = failure.filter(|failure| !facts.failures.contains(failure)) {
                facts.failures.push(failure);
            }
        }
        facts
    }

    /// Returns what the newest portrait amounts to, while it is shown.
    pub(super) fn summary(&self) -> Option<&'a Summary> {
        self.window?.summary.as_deref()
    }

    /// Returns the last day that the newest portrait covers.
    pub(super) fn reference_date(&self) -> Option<NaiveDate> {
        self.window?.reference_date
    }

    pub(super) fn figure(&self, cohort: Cohort) -> Figure {
        self.summary().map_or_else(Figure::default, |summary| {
            Figure::of(&summary.cohorts[cohort as usize])
        })
    }

    /// Returns `true` if the figures are those of single days.
    pub(super) fn is_daily(&self) -> bool {
        self.window
            .is_some_and(|window| window.window == Window::OneDay)
    }

    /// Returns `true` if the users of platforms are unusual, and those of the whole app are not.
    pub(super) fn is_of_platforms(&self) -> bool {
        let mut alerts = self.alerts.iter();
        let is_of_all = |alert| matches!(alert, Alert::UsersSwing | Alert::UsersDrift);
        !self.alerts.is_empty() && !alerts.any(|(_, alert)| is_of_all(*alert))
    }

    /// Returns `true` if no window was polled yet, by no exporter.
    pub(super) fn is_unpolled(&self) -> bool {
        let mut windows = self.app.windows.iter();
        !self.app.is_polled && windows.all(|window| window.last_poll_success.is_none())
    }

    /// Returns `true` if there are no figures since WeChat returns empty portraits.
    pub(super) fn has_no_users(&self) -> bool {
        let failure = self.window.and_then(|window| window.last_failure.as_ref());
        let is_empty = failure.is_some_and(|failure| failure.reason == Reason::Empty);
        is_empty && matches!(self.arrival, Arrival::Never | Arrival::Stale)
    }

    /// Returns `true` if the figures of yesterday have arrived.
    pub(super) fn has_yesterday(&self) -> bool {
        matches!(self.arrival, Arrival::Provisional | Arrival::Confirmed)
    }

    /// Returns the platform whose users differ most from the usual ones, as (name, users, usual).
    pub(super) fn largest_change(&self) -> Option<(Cohort, &'a str, u64, f64)> {
        let cohorts = self.summary()?.cohorts();
        let changes = cohorts.flat_map(|(cohort, of_cohort)| {
            let platforms = of_cohort.expected.platforms.iter();
            platforms.filter_map(move |platform| {
                let users = of_cohort.platforms.users_of(&platform.name)?;
                Some((cohort, &*platform.name, users, platform.users?.usual))
            })
        });
        // The difference that chance explains least, so that small platforms do not lead.
        let distance = |users: u64, usual: f64| (float(users).sqrt() - usual.sqrt()).abs();
        changes.max_by(|one, other| distance(one.2, one.3).total_cmp(&distance(other.2, other.3)))
    }

    /// Returns where an app is on the overview: what needs attention first, then large apps.
    pub(super) fn importance(&self) -> impl Ord + use<> {
        let alerts = self.alerts.iter();
        let first = alerts.map(|(_, alert)| rank(alert)).min();
        let mut failures = self.failures.iter();
        let needs_operator = failures.any(|failure| !passes_by_itself(failure.reason));
        let missing = match self.arrival {
            Arrival::Never | Arrival::Stale => 0_u8,
            Arrival::Awaited => 1,
            Arrival::Provisional | Arrival::Confirmed => 2,
        };
        (
            !needs_operator,
            first.unwrap_or(u8::MAX),
            missing,
            self.failures.is_empty(),
            Reverse(self.figure(Cohort::Active).users),
        )
    }
}

impl Figure {
    pub(super) fn of(cohort: &CohortSummary) -> Self {
        Self {
            users: cohort.users,
            bounds: cohort.expected.users,
        }
    }

    pub(super) fn usual(&self) -> Option<f64> {
        Some(self.bounds?.usual)
    }

    /// Returns the change against the usual figure; `None` where that is 0.
    pub(super) fn change(&self) -> Option<f64> {
        self.bounds?.change_ratio(self.users?)
    }

    pub(super) fn swing(&self) -> Option<Swing> {
        self.bounds?.crossed_by(self.users?).and_then(direction)
    }
}

/// Returns `true` for failures that usually end without anybody doing something.
fn passes_by_itself(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Busy | Reason::RateLimited | Reason::Quota | Reason::Transport
    )
}

/// Returns the direction of a figure beyond a bound.
pub(super) fn direction(crossed: Bound) -> Option<Swing> {
    match crossed {
        Bound::Lower => Some(Swing::Down),
        Bound::Usual => None,
        Bound::Upper => Some(Swing::Up),
    }
}

/// Returns the sign of a swing.
pub(super) fn arrow(swing: Option<Swing>) -> &'static str {
    match swing {
        Some(Swing::Up) => "▲",
        Some(Swing::Down) => "▼",
        None => "",
    }
}

/// Returns the class of an arrival in the style sheet.
pub(super) fn arrival_class(arrival: Arrival) -> &'static str {
    match arrival {
        Arrival::Never => "never",
        Arrival::Stale => "stale",
        Arrival::Awaited => "awaited",
        Arrival::Provisional => "provisional",
        Arrival::Confirmed => "confirmed",
    }
}

/// Returns the class of a swing in the style sheet.
pub(super) fn class(swing: Option<Swing>) -> &'static str {
    match swing {
        Some(Swing::Up) => "up",
        Some(Swing::Down) => "down",
        None => "",
    }
}

/// The order of alerts: what concerns the whole app first.
fn rank(alert: &Alert<'_>) -> u8 {
    match alert {
        Alert::UsersSwing => 0,
        Alert::PlatformVanished(_) => 1,
        Alert::PlatformAppeared(_) => 2,
        Alert::PlatformUsersSwing(_) => 3,
        Alert::PlatformShareShift(_) => 4,
        Alert::UsersDrift => 5,
    }
}
