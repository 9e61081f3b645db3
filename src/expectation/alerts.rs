//! Which alerts the bundled rules raise about a cohort.
//!
//! The rules only compare what is published; this is the same decision in Rust, for programs that have
//! no Prometheus at hand. A test holds both together.

use super::bounds::Bounds;
use super::comparison::{CohortExpectation, PlatformExpectation};
use super::statistics::float;
use crate::portrait::{Breakdown, Cohort};

/// An alert about the users of a cohort, without the names of the app and the cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert<'a> {
    /// All users together are far from usual.
    UsersSwing,
    /// The users on this platform are, and those of the whole cohort are not.
    PlatformUsersSwing(&'a str),
    /// The share of this platform is.
    PlatformShareShift(&'a str),
    /// This platform has no users any more.
    PlatformVanished(&'a str),
    /// This platform has users, and had none on comparable days.
    PlatformAppeared(&'a str),
    /// Users decline slowly.
    UsersDrift,
}

impl<'a> Alert<'a> {
    /// Returns its name in the bundled rules, if it is about this cohort.
    #[must_use]
    pub fn name(self, cohort: Cohort) -> &'static str {
        match (self, cohort) {
            (Self::UsersSwing, Cohort::New) => "WxappPortraitNewUsersSwing",
            (Self::UsersSwing, Cohort::Active) => "WxappPortraitActiveUsersSwing",
            (Self::PlatformUsersSwing(_), _) => "WxappPortraitPlatformUsersSwing",
            (Self::PlatformShareShift(_), _) => "WxappPortraitPlatformShareShift",
            (Self::PlatformVanished(_), _) => "WxappPortraitPlatformVanished",
            (Self::PlatformAppeared(_), _) => "WxappPortraitPlatformAppeared",
            (Self::UsersDrift, _) => "WxappPortraitUsersDrift",
        }
    }

    /// Returns the platform that it is about, unless it is about the whole cohort.
    #[must_use]
    pub fn platform(self) -> Option<&'a str> {
        match self {
            Self::PlatformUsersSwing(name)
            | Self::PlatformShareShift(name)
            | Self::PlatformVanished(name)
            | Self::PlatformAppeared(name) => Some(name),
            Self::UsersSwing | Self::UsersDrift => None,
        }
    }
}

/// The figures that an alert is about: of its platform, or of the whole cohort. `None` for what is not known, and for
/// shares unless it is about them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AlertFigures {
    /// The users of the reference date.
    pub users: Option<u64>,
    /// Those that were to be expected.
    pub usual: Option<f64>,
    /// The share of the platform in the cohort.
    pub share: Option<f64>,
    /// The share that was to be expected.
    pub usual_share: Option<f64>,
}

impl CohortExpectation {
    /// Returns the alerts about the users of the reference date by platform.
    #[must_use]
    pub fn alerts(&self, platforms: &Breakdown) -> Vec<Alert<'_>> {
        let total = platforms.total();
        let swings = self.users.zip(total);
        let swings = swings.is_some_and(|(bounds, total)| !bounds.contain(float(total)));
        let mut alerts = Vec::new();
        if swings {
            alerts.push(Alert::UsersSwing);
        }
        let was_empty = self.users.is_some_and(|bounds| bounds.usual == 0.0);
        let of_platforms = self.platforms.iter().filter_map(|platform| {
            let users = platforms.users_of(&platform.name)?;
            platform_alert(platform, platform.users?, users)
        });
        let of_platforms: Vec<_> = of_platforms.collect();
        let explain_shares = !swings && !of_platforms.is_empty();
        alerts.extend(of_platforms.into_iter().filter(|alert| match alert {
            Alert::PlatformUsersSwing(_) => !swings,
            Alert::PlatformAppeared(_) => !was_empty,
            Alert::PlatformVanished(_) => total.is_some_and(|total| total > 0),
            _ => true,
        }));
        let total = total.filter(|_| !explain_shares);
        for platform in &self.platforms {
            let share = share(platforms.users_of(&platform.name), total);
            let shifts = platform.share.zip(share);
            if shifts.is_some_and(|(bounds, share)| !bounds.contain(share)) {
                alerts.push(Alert::PlatformShareShift(&platform.name));
            }
        }
        if self
            .drift
            .is_some_and(|drift| drift.ratio < drift.limit_ratio)
        {
            alerts.push(Alert::UsersDrift);
        }
        alerts
    }

    /// Returns the figures behind one of these alerts.
    #[must_use]
    pub fn figures(&self, platforms: &Breakdown, alert: Alert<'_>) -> AlertFigures {
        let total = platforms.total();
        let usual = |bounds: Option<Bounds>| bounds.map(|bounds| bounds.usual);
        let Some(name) = alert.platform() else {
            return AlertFigures {
                users: total,
                usual: usual(self.users),
                ..AlertFigures::default()
            };
        };
        let mut known = self.platforms.iter();
        let platform = known.find(|platform| platform.name == name);
        let users = platforms.users_of(name);
        let mut figures = AlertFigures {
            users,
            usual: usual(platform.and_then(|platform| platform.users)),
            ..AlertFigures::default()
        };
        if let Alert::PlatformShareShift(_) = alert {
            figures.share = share(users, total);
            figures.usual_share = usual(platform.and_then(|platform| platform.share));
        }
        figures
    }
}

fn share(users: Option<u64>, total: Option<u64>) -> Option<f64> {
    let total = total.filter(|total| *total > 0)?;
    Some(float(users?) / float(total))
}

/// Returns the alert about the users on a platform, whatever the whole cohort does.
fn platform_alert(platform: &PlatformExpectation, bounds: Bounds, users: u64) -> Option<Alert<'_>> {
    let name = &*platform.name;
    if bounds.contain(float(users)) {
        None
    } else if users == 0 {
        Some(Alert::PlatformVanished(name))
    } else if bounds.usual == 0.0 {
        Some(Alert::PlatformAppeared(name))
    } else {
        Some(Alert::PlatformUsersSwing(name))
    }
}
