//! Simulated users of an app: a pattern of the week and of holidays, daily noise that all platforms
//! share, a little noise of each platform, and chance.

use chrono::{Datelike as _, NaiveDate};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, LogNormal, Poisson, Uniform};
use wxapp_portrait_exporter::calendar::{DayKind, Holidays};
use wxapp_portrait_exporter::config::Swing;
use wxapp_portrait_exporter::expectation::{self, CohortExpectation, HISTORY_DAYS, Kinds};
use wxapp_portrait_exporter::portrait::Breakdown;

pub(crate) const PLATFORMS: [(&str, f64); 3] = [("iPhone", 0.5), ("Android", 0.45), ("其他", 0.05)];

/// The noise of a platform in addition to that of the day.
const OF_PLATFORM: f64 = 0.04;

/// By what the users of a day are multiplied, for each platform.
pub(crate) type Factors = [f64; PLATFORMS.len()];

/// Who uses an app when.
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

/// What an app is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    pub(crate) habit: Habit,
    /// Users of an average day.
    pub(crate) mean: f64,
    /// The standard deviation from day to day, as a share.
    pub(crate) noise: f64,
    /// Growth a week, as a share.
    pub(crate) growth: f64,
}

impl Profile {
    pub(crate) fn steady(mean: f64, noise: f64) -> Self {
        Self {
            habit: FOOD,
            mean,
            noise,
            growth: 0.0,
        }
    }
}

/// The days of a simulation, and what kinds of days precede each of them.
pub(crate) struct Days {
    pub(crate) holidays: Holidays,
    pub(crate) first: NaiveDate,
    kinds: Vec<Kinds>,
}

impl Days {
    pub(crate) fn new(first: NaiveDate, count: usize, holidays: Holidays) -> Self {
        let days = first.iter_days().take(HISTORY_DAYS + count);
        let kinds = days.map(|day| Kinds::new(day, &holidays)).collect();
        Self {
            holidays,
            first,
            kinds,
        }
    }

    /// Returns the days that have a whole history before them.
    pub(crate) fn trials(&self) -> std::ops::Range<usize> {
        HISTORY_DAYS..self.kinds.len()
    }

    pub(crate) fn date(&self, day: usize) -> NaiveDate {
        self.first + chrono::Days::new(day as u64)
    }

    pub(crate) fn kind(&self, day: usize) -> DayKind {
        self.holidays.kind(self.date(day))
    }
}

/// The simulated users of one cohort of an app.
pub(crate) struct Series<'a> {
    pub(crate) days: &'a Days,
    expected: Vec<Factors>,
    /// The newest first, as they are compared.
    counted: Vec<Option<Breakdown>>,
    random: StdRng,
}

impl<'a> Series<'a> {
    pub(crate) fn new(days: &'a Days, profile: Profile, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let Profile {
            habit,
            mean,
            noise,
            growth,
        } = profile;
        let (low, high) = habit.holiday;
        let holiday = Uniform::new(low, high).unwrap();
        let expected: Vec<Factors> = (0..days.kinds.len())
            .map(|day| {
                let of_kind = match days.kind(day) {
                    DayKind::Holiday => holiday.sample(&mut random),
                    DayKind::MakeupWorkday => habit.week[0],
                    _ => habit.week[days.date(day).weekday().num_days_from_monday() as usize],
                };
                let grown = (1.0 + growth).powf((day as f64 - HISTORY_DAYS as f64) / 7.0);
                let of_day = mean * of_kind * grown * draw(noise, &mut random);
                PLATFORMS.map(|(_, share)| of_day * share * draw(OF_PLATFORM, &mut random))
            })
            .collect();
        let mut series = Self {
            days,
            expected,
            counted: Vec::new(),
            random,
        };
        let counted = (0..days.kinds.len()).rev();
        series.counted = counted
            .map(|day| Some(series.count(day, [1.0; 3])))
            .collect();
        series
    }

    /// Draws the users of a day that is multiplied by these.
    pub(crate) fn count(&mut self, day: usize, factors: Factors) -> Breakdown {
        let mut breakdown = Breakdown::default();
        for (platform, (name, _)) in PLATFORMS.iter().enumerate() {
            let mean = self.expected[day][platform] * factors[platform];
            let users = if mean > 0.0 {
                Poisson::new(mean).unwrap().sample(&mut self.random)
            } else {
                0.0
            };
            breakdown.add((*name).to_owned(), users as u64);
        }
        breakdown
    }

    /// Returns the users of a day as they were counted.
    pub(crate) fn counted(&self, day: usize) -> &Breakdown {
        self.counted[self.place(day)].as_ref().unwrap()
    }

    /// Counts a day again and keeps that; returns what it was before.
    pub(crate) fn replace(&mut self, day: usize, counted: Breakdown) -> Breakdown {
        let place = self.place(day);
        self.counted[place].replace(counted).unwrap()
    }

    /// Returns what is expected of a day after the days before it.
    pub(crate) fn expect(&self, day: usize) -> CohortExpectation {
        let days = &self.counted[self.place(day)..];
        expectation::expect(days, &self.days.kinds[day], Swing::default())
    }

    fn place(&self, day: usize) -> usize {
        self.counted.len() - 1 - day
    }
}

/// Draws a factor with the mean 1.
fn draw(deviation: f64, random: &mut StdRng) -> f64 {
    if deviation == 0.0 {
        return 1.0;
    }
    // Of a distribution with this coefficient of variation.
    let sigma = deviation.powi(2).ln_1p().sqrt();
    LogNormal::new(-sigma * sigma / 2.0, sigma)
        .unwrap()
        .sample(random)
}
