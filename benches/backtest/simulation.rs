//! Simulated users of an app: a pattern of the week and of holidays, daily noise that all platforms
//! share, a little noise of each platform, and chance.
//!
//! Does not depend on what is expected of them.

use chrono::Datelike as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Poisson, StandardNormal, Uniform};
use wxapp_portrait_exporter::calendar::DayKind;
use wxapp_portrait_exporter::expectation::HISTORY_DAYS;
use wxapp_portrait_exporter::portrait::Breakdown;

use crate::replay::{Days, History};

const PLATFORMS: [(&str, f64); 3] = [("iPhone", 0.5), ("Android", 0.45), ("其他", 0.05)];

/// The noise of a platform in addition to that of the day.
const OF_PLATFORM: f64 = 0.04;

/// By what the users of a day are multiplied, for each platform.
pub(crate) type Factors = [f64; PLATFORMS.len()];

pub(crate) const HALF: Factors = [0.5; 3];
pub(crate) const LESS_30: Factors = [0.7; 3];
pub(crate) const DOUBLE: Factors = [2.0; 3];

/// On which days an app is used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Habit {
    pub(crate) name: &'static str,
    /// From Monday on.
    week: [f64; 7],
    /// On holidays, between these.
    holiday: (f64, f64),
}

pub(crate) const OFFICE: Habit = Habit {
    name: "office",
    week: [1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3],
    holiday: (0.22, 0.32),
};
pub(crate) const FOOD: Habit = Habit {
    name: "food",
    week: [0.93, 0.89, 0.89, 0.93, 1.03, 1.21, 1.12],
    holiday: (1.6, 2.3),
};
pub(crate) const TRAVEL: Habit = Habit {
    name: "travel",
    week: [0.85, 0.85, 0.85, 0.9, 1.1, 1.3, 1.15],
    holiday: (2.2, 2.5),
};
pub(crate) const EVEN: Habit = Habit {
    name: "even",
    week: [1.0; 7],
    holiday: (0.75, 1.05),
};

/// How the users of an app vary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) habit: Habit,
    /// Users of an average day.
    pub(crate) mean: f64,
    /// The standard deviation from day to day, as a share.
    pub(crate) noise: f64,
    /// The correlation of the noise with that of the day before.
    pub(crate) correlation: f64,
    /// Growth a week, as a share.
    pub(crate) growth: f64,
}

impl Profile {
    pub(crate) fn steady(mean: f64, noise: f64) -> Self {
        Self {
            habit: FOOD,
            mean,
            noise,
            correlation: 0.0,
            growth: 0.0,
        }
    }
}

/// The simulated users of one cohort of an app.
pub(crate) struct App<'a> {
    pub(crate) history: History<'a>,
    expected: Vec<Factors>,
    random: StdRng,
}

impl<'a> App<'a> {
    pub(crate) fn new(days: &'a Days, profile: Profile, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let Profile {
            habit,
            mean,
            noise,
            correlation,
            growth,
        } = profile;
        let (low, high) = habit.holiday;
        let holiday = Uniform::new(low, high).unwrap();
        let mut normal: f64 = StandardNormal.sample(&mut random);
        let expected = days.all().map(|day| {
            let of_kind = match days.kind(day) {
                DayKind::Holiday => holiday.sample(&mut random),
                DayKind::MakeupWorkday => habit.week[0],
                _ => habit.week[days.date(day).weekday().num_days_from_monday() as usize],
            };
            let of_trend = (1.0 + growth).powf((day as f64 - HISTORY_DAYS as f64) / 7.0);
            let innovation: f64 = StandardNormal.sample(&mut random);
            normal = correlation * normal + (1.0 - correlation.powi(2)).sqrt() * innovation;
            let of_day = mean * of_kind * of_trend * factor(noise, normal);
            PLATFORMS.map(|(_, share)| {
                of_day * share * factor(OF_PLATFORM, StandardNormal.sample(&mut random))
            })
        });
        let mut app = Self {
            history: History::new(days),
            expected: expected.collect(),
            random,
        };
        for day in days.all() {
            let counted = app.count(day, [1.0; 3]);
            app.history.set(day, Some(counted));
        }
        app
    }

    /// Draws the users of a day that is multiplied by these.
    pub(crate) fn count(&mut self, day: usize, factors: Factors) -> Breakdown {
        let mut breakdown = Breakdown::default();
        for (platform, (name, _)) in PLATFORMS.iter().enumerate() {
            let mean = self.expected[day][platform] * factors[platform];
            let users: f64 = Poisson::new(mean).unwrap().sample(&mut self.random);
            breakdown.add((*name).to_owned(), users as u64);
        }
        breakdown
    }
}

/// Returns a factor of the mean 1 with this standard deviation from a normally distributed value.
fn factor(deviation: f64, normal: f64) -> f64 {
    let sigma = deviation.powi(2).ln_1p().sqrt();
    (sigma * normal - sigma.powi(2) / 2.0).exp()
}
