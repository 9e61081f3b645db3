//! What is expected of a cohort and its platforms.

use super::bounds::{Bounds, Thresholds, bounds};
use super::days::Kinds;
use super::deviations::{Deviations, Unit};
use super::drift::{self, Drift};
use super::statistics::{float, median};
use crate::config::Swing;
use crate::portrait::Breakdown;

/// What is expected of a cohort on the reference date.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CohortExpectation {
    /// Of all users; `None` if there is nothing to compare with, and on holidays.
    pub users: Option<Bounds>,
    /// Of every platform of that date, those without users included, sorted by name.
    pub platforms: Vec<PlatformExpectation>,
    /// Whether the users decline slowly; `None` as long as too few days are known.
    pub drift: Option<Drift>,
}

/// What is expected of the users on a platform.
#[derive(Debug, Clone, PartialEq)]
pub struct PlatformExpectation {
    /// The platform, as WeChat writes it.
    pub name: String,
    /// Of its users; `None` if there is nothing to compare with, and on holidays.
    pub users: Option<Bounds>,
    /// Of its share of the cohort, from 0 to 1; `None` if there is nothing to compare with.
    pub share: Option<Bounds>,
}

/// A fall to less than this share is a swing however noisy the app is.
const LARGEST_FALL: f64 = 0.35;

/// By how much a platform's share must change at least.
const LEAST_SHARE: f64 = 0.1;

/// Chance rarely makes the square roots of two figures differ by more.
const CHANCE: f64 = 2.2;

/// A platform vanishes or appears with this part of `min_users`.
const PART_OF_MIN_USERS: u64 = 5;

/// Returns what is expected of a cohort on the reference date.
///
/// `days` are the users by platform on the reference date and on the days before it, the newest first;
/// `None` for a day that is not archived. Of [`super::HISTORY_DAYS`] days before it all are used.
#[must_use]
pub fn expect(days: &[Option<Breakdown>], kinds: &Kinds, swing: Swing) -> CohortExpectation {
    let days: Vec<Option<&Breakdown>> = days.iter().map(Option::as_ref).collect();
    let totals: Vec<Option<u64>> = days
        .iter()
        .map(|day| day.and_then(Breakdown::total))
        .collect();
    let total = Counts::new(&totals, kinds, swing);
    let newest = days.first().copied().flatten().into_iter();
    let names = newest.flat_map(|day| day.iter().map(|(name, _)| name));
    let platforms = names.map(|name| {
        let users: Vec<_> = days
            .iter()
            .map(|day| day.and_then(|day| day.users_of(name)))
            .collect();
        PlatformExpectation {
            name: name.to_owned(),
            users: Counts::new(&users, kinds, swing).platform_bounds(),
            share: share_bounds(&users, &totals, kinds, swing),
        }
    });
    CohortExpectation {
        platforms: platforms.collect(),
        users: total.total_bounds(),
        drift: total.drift(),
    }
}

/// A series of users.
struct Counts<'a> {
    kinds: &'a Kinds,
    min_users: u64,
    thresholds: Thresholds,
    values: Vec<Option<f64>>,
    deviations: Deviations,
}

impl<'a> Counts<'a> {
    fn new(users: &[Option<u64>], kinds: &'a Kinds, swing: Swing) -> Self {
        let values: Vec<_> = users.iter().map(|users| users.map(logarithm)).collect();
        Self {
            deviations: Deviations::new(&values, kinds, Unit::Users),
            thresholds: Thresholds {
                least: -(1.0 - swing.threshold_ratio).ln(),
                most: -LARGEST_FALL.ln(),
                ignores_one_day: true,
            },
            kinds,
            min_users: swing.min_users,
            values,
        }
    }

    /// Returns bounds that are beyond what chance explains.
    fn bounds(&self) -> Option<Bounds> {
        let (bounds, compared) =
            bounds(&self.values, self.kinds, &self.deviations, self.thresholds)?;
        let mut bounds = bounds.map(users);
        if bounds.usual == 0.0 {
            // Users that come and go do not appear.
            let highest = compared.into_iter().fold(f64::NEG_INFINITY, f64::max);
            let highest = users(highest + self.thresholds.least / 2.0);
            bounds.upper = bounds.upper.max(highest);
        }
        let root = bounds.usual.sqrt();
        bounds.lower = bounds.lower.min((root - CHANCE).max(0.0).powi(2));
        bounds.upper = bounds.upper.max((root + CHANCE).powi(2));
        Some(bounds.map(rounded))
    }

    fn total_bounds(&self) -> Option<Bounds> {
        let mut bounds = self.bounds()?;
        let min_users = float(self.min_users);
        if bounds.usual < min_users {
            bounds.lower = 0.0;
            bounds.upper = bounds.upper.max(min_users - 1.0);
        }
        Some(bounds)
    }

    /// Returns bounds that are crossed as well when a platform vanishes or appears.
    fn platform_bounds(&self) -> Option<Bounds> {
        let mut bounds = self.bounds()?;
        let min_users = float(self.min_users);
        let part = float(self.min_users.div_ceil(PART_OF_MIN_USERS));
        if bounds.usual < min_users {
            let is_of_interest = bounds.usual >= part;
            bounds.lower = if is_of_interest {
                bounds.lower.min(1.0)
            } else {
                0.0
            };
            let least = if bounds.usual > 0.0 { min_users } else { part };
            bounds.upper = bounds.upper.max(least - 1.0);
        }
        Some(bounds)
    }

    fn drift(&self) -> Option<Drift> {
        let deviations = &self.deviations;
        // Make-up workdays and holidays are not regular days.
        let newest = self.values.first().copied().flatten();
        let newest = newest.filter(|_| self.kinds.is_regular(0));
        let newest = newest.and_then(|value| {
            let usual = median(deviations.comparable(&self.values, self.kinds, 0)?)?;
            Some((value, value - usual))
        });
        let (newest, newest_deviation) = newest.unzip();
        let with = |newest: Option<f64>, own: &[f64]| -> Vec<f64> {
            newest.into_iter().chain(own.iter().copied()).collect()
        };
        let own = with(newest_deviation, &deviations.own);
        let values = with(newest, &deviations.own_values);
        let drift = drift::drift(&own, self.thresholds)?;
        let usual = users(drift::together(&values)? - drift::together(&own)?);
        (rounded(usual) >= float(self.min_users)).then(|| Drift {
            ratio: rounded_share(drift.ratio),
            limit_ratio: rounded_share(drift.limit_ratio),
        })
    }
}

fn share_bounds(
    users: &[Option<u64>],
    totals: &[Option<u64>],
    kinds: &Kinds,
    swing: Swing,
) -> Option<Bounds> {
    let totals: Vec<_> = totals
        .iter()
        .map(|total| total.filter(|total| *total > 0).map(float))
        .collect();
    let shares: Vec<_> = users
        .iter()
        .zip(&totals)
        .map(|(users, total)| Some(float((*users)?) / (*total)?))
        .collect();
    let deviations = Deviations::new(&shares, kinds, Unit::Share);
    let thresholds = Thresholds {
        least: LEAST_SHARE,
        most: f64::INFINITY,
        ignores_one_day: false,
    };
    let (mut bounds, compared) = bounds(&shares, kinds, &deviations, thresholds)?;
    let total = (*totals.first()?)?;
    if total < float(swing.min_users) {
        bounds.lower = 0.0;
        bounds.upper = 1.0;
        return Some(bounds.map(rounded_share));
    }
    let others: f64 = if compared.len() > 1 {
        let compared = deviations.compared(&totals, kinds, 0);
        compared.iter().map(|day| day.value).sum()
    } else {
        totals[1]?
    };
    let chance = 2.0 * (1.0 / total + 1.0 / others).sqrt();
    bounds.lower = bounds.lower.min(bounds.usual - chance).max(0.0);
    bounds.upper = bounds.upper.max(bounds.usual + chance).min(1.0);
    Some(bounds.map(rounded_share))
}

/// Returns the logarithm of a figure; of 0 it is that of a half.
fn logarithm(users: u64) -> f64 {
    float(users).max(0.5).ln()
}

/// Returns the figure of a logarithm.
fn users(logarithm: f64) -> f64 {
    if logarithm > 0.5_f64.ln() {
        logarithm.exp()
    } else {
        0.0
    }
}

fn rounded(users: f64) -> f64 {
    (100.0 * users).round() / 100.0
}

fn rounded_share(share: f64) -> f64 {
    (10_000.0 * share).round() / 10_000.0
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "days are few")]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::calendar::{self, DayKind, Holidays};
    use crate::expectation::{Alert, HISTORY_DAYS};

    /// A Saturday without holidays near it.
    const SATURDAY: &str = "2026-11-21";

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn platforms(rows: &[(&str, u64)]) -> Breakdown {
        let mut breakdown = Breakdown::default();
        for (name, users) in rows {
            breakdown.add((*name).to_owned(), *users);
        }
        breakdown
    }

    /// Users of every day from the number of days before the reference date, all on one platform.
    fn users(days: usize, users: impl Fn(usize) -> u64) -> Vec<Option<Breakdown>> {
        let days = (0..days).map(|ago| Some(platforms(&[("iPhone", users(ago))])));
        days.collect()
    }

    /// Returns what is expected after these days.
    fn expected(days: &[Option<Breakdown>], date: &str, holidays: &Holidays) -> CohortExpectation {
        expect(days, &Kinds::new(day(date), holidays), Swing::default())
    }

    /// Returns the bounds of all users after these days, without holidays.
    fn bounds(days: &[Option<Breakdown>]) -> (f64, f64, f64) {
        bounds_on(SATURDAY, days)
    }

    fn bounds_on(date: &str, days: &[Option<Breakdown>]) -> (f64, f64, f64) {
        let expected = expected(days, date, &Holidays::none());
        let Bounds {
            usual,
            lower,
            upper,
        } = expected.users.unwrap();
        (usual, lower, upper)
    }

    fn alerts(days: &[Option<Breakdown>]) -> Vec<String> {
        let expected = expected(days, SATURDAY, &Holidays::none());
        let alerts = expected.alerts(days[0].as_ref().unwrap());
        alerts.iter().map(|alert| format!("{alert:?}")).collect()
    }

    /// Deviations of a few percent, of which the median absolute one is 2%.
    fn calm(ago: usize) -> f64 {
        [1.0, 1.02, 0.98, 1.03, 0.97][ago % 5]
    }

    /// Returns users near this mean.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some thousands"
    )]
    fn near(mean: f64, ago: usize) -> u64 {
        (mean * calm(ago)).round() as u64
    }

    #[test]
    fn a_fall_by_the_threshold_or_the_rise_that_undoes_it_is_no_swing() {
        let days = users(57, |_| 1_000);
        assert_eq!(bounds(&days), (1_000.0, 650.0, 1_538.46));
        for (today, swings) in [(650, false), (649, true), (1_538, false), (1_539, true)] {
            let mut days = days.clone();
            days[0] = Some(platforms(&[("iPhone", today)]));
            assert_eq!(alerts(&days) == ["UsersSwing"], swings, "{today}");
        }
    }

    #[test]
    fn only_the_same_weekdays_are_compared() {
        let of_weekday = |ago: usize| 1_000 + 500 * (ago as u64 % 7);
        assert_eq!(bounds(&users(113, of_weekday)), (1_000.0, 650.0, 1_538.46));
    }

    #[test]
    fn an_exceptional_day_is_not_usual_nor_is_the_day_after_it_a_swing() {
        for ago in [1, 2, 3, 7, 14, 21, 28] {
            for exceptional in [50, 20_000] {
                let days = users(113, |day| if day == ago { exceptional } else { 1_000 });
                assert!(
                    alerts(&days).is_empty(),
                    "{exceptional} users {ago} days ago"
                );
                let (usual, ..) = bounds(&days);
                assert!((usual - 1_000.0).abs() < 0.01, "{usual}");
            }
        }
    }

    #[test]
    fn noise_of_the_app_itself_widens_the_bounds_up_to_a_limit() {
        let noisy = |spread: f64| {
            users(113, |ago| {
                let sign = [0.0, 1.0, -1.0, 0.5, -0.5, 0.8, -0.9, 0.2, -0.2, 0.6, -0.4];
                near(1_000.0 * (sign[ago * 7 % 11] * spread).exp(), 0)
            })
        };
        let widths = [0.0, 0.3, 0.5, 3.0].map(|spread| {
            let (usual, lower, _) = bounds(&noisy(spread));
            lower / usual
        });
        assert!((widths[0] - 0.65).abs() < 0.001, "{widths:?}");
        assert!(widths[1] < 0.5, "{widths:?}");
        assert!(widths[2] < widths[1], "{widths:?}");
        // Single days of it are farther than that from the usual.
        assert!(widths[3] < 0.35, "{widths:?}");
    }

    #[test]
    fn steady_growth_is_usual() {
        let grown = |ago: usize| near(3_000.0 / 1.026_f64.powf(ago as f64), 0);
        let (usual, ..) = bounds(&users(113, grown));
        assert!((usual - 3_000.0).abs() < 10.0, "{usual}");
        // Too few days for a trend.
        let (usual, ..) = bounds(&users(30, grown));
        assert!(usual < 2_100.0, "{usual}");
    }

    #[test]
    fn a_change_that_lasts_is_a_swing_on_its_first_day_only() {
        for factor in [0.5, 2.0, 3.0] {
            let mut reported = Vec::new();
            for lasting in 0..49 {
                let days = users(113, |ago| {
                    near(
                        if ago <= lasting {
                            1_000.0 * factor
                        } else {
                            1_000.0
                        },
                        ago,
                    )
                });
                if !alerts(&days).is_empty() {
                    reported.push((lasting, alerts(&days)));
                }
            }
            assert_eq!(reported, [(0, vec!["UsersSwing".to_owned()])], "{factor}");
        }
        // Another fall is another swing.
        let days = users(113, |ago| {
            [400, 1_000, 1_000, 1_000]
                .get(ago)
                .map_or(2_200, |users| *users)
        });
        assert_eq!(alerts(&days), ["UsersSwing"]);
    }

    #[test]
    fn a_slow_decline_is_a_drift_as_long_as_it_lasts() {
        let after = |declining: usize| {
            let days = users(113, |ago| {
                let left = 0.97_f64.powf(declining.saturating_sub(ago) as f64);
                near(1_000.0 * left, ago)
            });
            alerts(&days)
        };
        assert!((0..12).all(|days| after(days).is_empty()));
        assert!(
            (18..30).all(|days| after(days) == ["UsersDrift"]),
            "{:?}",
            after(18)
        );
        let growing = users(113, |ago| {
            near(
                1_000.0 / 0.97_f64.powf(20_usize.saturating_sub(ago) as f64),
                ago,
            )
        });
        assert!(alerts(&growing).is_empty(), "only falls");
    }

    #[test]
    fn small_figures_vary_by_chance() {
        // Square roots 2.2 away from 10.
        assert_eq!(bounds(&users(57, |_| 100)), (100.0, 60.84, 153.85));
        assert_eq!(bounds(&users(57, |_| 60)), (60.0, 30.76, 98.92));
        // Fewer than 50 do not matter, neither usually nor on the day.
        assert_eq!(bounds(&users(57, |_| 20)), (20.0, 0.0, 49.0));
        assert_eq!(bounds(&users(57, |_| 0)), (0.0, 0.0, 49.0));
    }

    #[test]
    fn with_fewer_than_two_comparable_days_the_day_before_counts_with_double_margin() {
        const FRIDAY: &str = "2026-11-20";
        let double = (1_000.0, 422.5, 2_366.86);
        assert_eq!(bounds_on(FRIDAY, &users(2, |_| 1_000)), double);
        // The same weekday must agree.
        let days = users(8, |ago| if ago == 7 { 616 } else { 1_000 });
        let (_, lower, _) = bounds_on(FRIDAY, &days);
        assert!((lower - 616.0 * 0.65).abs() < 0.01, "{lower}");
        let two_weeks = users(15, |_| 1_000);
        assert_eq!(bounds_on(FRIDAY, &two_weeks), (1_000.0, 650.0, 1_538.46));
        let expected = |days: &[_], date| expected(days, date, &Holidays::none());
        let alone = expected(&users(1, |_| 1_000), FRIDAY);
        assert_eq!((alone.users, alone.drift), (None, None));
        assert_eq!(alone.platforms[0].users, None);
        // A Saturday is not compared with a Friday, nor is a day of an app that is known for long.
        assert_eq!(expected(&users(2, |_| 1_000), SATURDAY).users, None);
        let mut known = users(113, |_| 1_000);
        for week in 1..=16 {
            known[7 * week] = None;
        }
        assert_eq!(expected(&known, FRIDAY).users, None);
    }

    #[test]
    fn the_fewest_users_that_are_of_interest_are_exact() {
        for least in 1..=1_000 {
            let swing = Swing {
                min_users: least,
                ..Swing::default()
            };
            let kinds = Kinds::new(day(SATURDAY), &Holidays::none());
            for (usual, is_of_interest) in [(least, true), (least - 1, false)] {
                let mut days = users(57, |_| usual);
                days[0] = Some(platforms(&[("iPhone", 0)]));
                let bounds = expect(&days, &kinds, swing).users.unwrap();
                // Fewer than six vanish by chance.
                let is_swing = is_of_interest && least > 5;
                assert_eq!(bounds.lower > 0.0, is_swing, "{usual} of {least}");
            }
        }
    }

    #[test]
    fn days_that_are_not_archived_are_skipped() {
        let mut days = users(113, |ago| if ago == 14 { 9_000 } else { 1_000 });
        days[14] = None;
        days[21] = Some(Breakdown::default());
        assert_eq!(bounds(&days), (1_000.0, 650.0, 1_538.46));
    }

    #[test]
    fn a_row_that_cannot_be_read_makes_the_total_unknown() {
        let mut days = users(57, |_| 1_000);
        for ago in [7, 14, 21, 28, 35, 42, 49, 56, 1] {
            days[ago].as_mut().unwrap().set_partial();
        }
        let expected = expected(&days, SATURDAY, &Holidays::none());
        assert_eq!(expected.users, None);
        assert!(expected.platforms[0].users.is_some());
        assert_eq!(expected.platforms[0].share, None);
    }

    #[test]
    fn holidays_are_not_compared_and_make_up_workdays_with_workdays() {
        let china = Holidays::china();
        // Weekends and holidays have a third of the users.
        let office = |date: &str| {
            let days = (0..).take(HISTORY_DAYS + 1).map(|ago| {
                let kind = china.kind(calendar::days_before(day(date), ago));
                let is_off = matches!(kind, DayKind::Weekend | DayKind::Holiday);
                Some(platforms(&[("iPhone", if is_off { 300 } else { 1_000 })]))
            });
            days.collect::<Vec<_>>()
        };
        for (date, usual) in [
            ("2026-09-19", 300.0),
            // A Sunday on which people work.
            ("2026-09-20", 1_000.0),
            ("2026-09-30", 1_000.0),
            // The first workday after the holiday, and some of the weeks after it.
            ("2026-10-08", 1_000.0),
            ("2026-10-15", 1_000.0),
            ("2026-10-29", 1_000.0),
            ("2026-10-31", 300.0),
        ] {
            let days = office(date);
            let expected = expected(&days, date, &china);
            let bounds = expected.users.unwrap();
            assert_eq!(bounds.usual.to_string(), usual.to_string(), "{date}");
            assert!(
                expected.alerts(days[0].as_ref().unwrap()).is_empty(),
                "{date}"
            );
        }
        let holiday = expected(&office("2026-10-01"), "2026-10-01", &china);
        assert_eq!(holiday.users, None);
        assert_eq!(holiday.platforms[0].users, None);
        assert!(holiday.platforms[0].share.is_some(), "shares are compared");
        let drift = holiday.drift.unwrap();
        assert!(
            drift.ratio.abs() < 0.001,
            "as of the last comparable day: {drift:?}"
        );
        let unaware = expected(&office("2026-10-01"), "2026-10-01", &Holidays::none());
        assert!(
            unaware
                .alerts(office("2026-10-01")[0].as_ref().unwrap())
                .contains(&Alert::UsersSwing)
        );
    }

    #[test]
    fn a_change_that_begins_on_a_make_up_workday_is_a_swing_once() {
        let china = Holidays::china();
        let begin = day("2026-10-10");
        for (date, alerts) in [("2026-10-10", 1), ("2026-10-11", 0), ("2026-10-12", 0)] {
            let days: Vec<_> = (0..)
                .take(HISTORY_DAYS + 1)
                .map(|ago| {
                    let is_later = calendar::days_before(day(date), ago) >= begin;
                    Some(platforms(&[("iPhone", if is_later { 400 } else { 1_000 })]))
                })
                .collect();
            let expected = expected(&days, date, &china);
            let found = expected.alerts(days[0].as_ref().unwrap());
            assert_eq!(found.len(), alerts, "{date}: {found:?}");
        }
    }

    #[test]
    fn shares_of_a_holiday_are_reported_on_its_first_day_only() {
        let china = Holidays::china();
        let of = |date: NaiveDate| {
            let is_off = matches!(china.kind(date), DayKind::Weekend | DayKind::Holiday);
            let (windows, iphone) = if is_off { (20, 280) } else { (400, 600) };
            Some(platforms(&[("Windows", windows), ("iPhone", iphone)]))
        };
        for day_of_month in 1..=8 {
            let date = format!("2026-10-0{day_of_month}");
            let days = (0..)
                .take(HISTORY_DAYS + 1)
                .map(|ago| of(calendar::days_before(day(&date), ago)));
            let days: Vec<_> = days.collect();
            let expected = expected(&days, &date, &china);
            let found = expected.alerts(days[0].as_ref().unwrap());
            assert_eq!(found.is_empty(), day_of_month > 1, "{date}: {found:?}");
        }
    }

    #[test]
    fn a_decline_goes_on_through_a_holiday() {
        let china = Holidays::china();
        let of = |date: NaiveDate| {
            let declining = (date - day("2026-09-10")).num_days().clamp(0, 28);
            let left = 0.97_f64.powf(declining as f64);
            let part = if china.kind(date) == DayKind::Holiday {
                0.2
            } else {
                1.0
            };
            Some(platforms(&[("iPhone", near(300.0 * left * part, 0))]))
        };
        for date in ["2026-09-30", "2026-10-01", "2026-10-05", "2026-10-07"] {
            let days = (0..)
                .take(HISTORY_DAYS + 1)
                .map(|ago| of(calendar::days_before(day(date), ago)));
            let days: Vec<_> = days.collect();
            let expected = expected(&days, date, &china);
            assert_eq!(
                expected.alerts(days[0].as_ref().unwrap()),
                [Alert::UsersDrift],
                "{date}"
            );
        }
    }

    #[test]
    fn the_limit_of_a_decline_is_negative() {
        for factor in [1.2, 1.6, 2.0] {
            let days = users(113, |ago| match ago {
                0..=5 => near(1_000.0 * factor, ago),
                6 => 300,
                _ => near(1_000.0, ago),
            });
            let drift = expected(&days, SATURDAY, &Holidays::none()).drift.unwrap();
            assert!(drift.limit_ratio < 0.0, "{factor}: {drift:?}");
        }
    }

    #[test]
    fn a_platform_that_comes_and_goes_does_not_appear() {
        let alerts = alerts_of(113, |ago| {
            let harmony = if ago % 28 == 0 { 15 } else { 0 };
            vec![("iPhone", 1_000), ("Harmony", harmony)]
        });
        assert!(alerts.is_empty(), "{alerts:?}");
    }

    /// Returns the alerts about platforms that change on the last day, or had changed before.
    fn alerts_of(
        days: usize,
        platforms_of: impl Fn(usize) -> Vec<(&'static str, u64)>,
    ) -> Vec<String> {
        let days: Vec<_> = (0..days)
            .map(|ago| Some(platforms(&platforms_of(ago))))
            .collect();
        alerts(&days)
    }

    #[test]
    fn a_platform_vanishes_or_appears_once() {
        for lasting in [0, 1, 2, 6, 7, 10, 14, 20, 30] {
            let gone = alerts_of(113, |ago| {
                let harmony = if ago <= lasting { 0 } else { 30 };
                vec![("iPhone", 1_000), ("Harmony", harmony)]
            });
            let come = alerts_of(113, |ago| {
                let harmony = if ago <= lasting { 30 } else { 0 };
                vec![("iPhone", 1_000), ("Harmony", harmony)]
            });
            if lasting == 0 {
                assert_eq!(gone, ["PlatformVanished(\"Harmony\")"]);
                assert_eq!(come, ["PlatformAppeared(\"Harmony\")"]);
            } else {
                assert!(
                    gone.is_empty() && come.is_empty(),
                    "{lasting}: {gone:?} {come:?}"
                );
            }
        }
        // Ten people are of interest, nine are not.
        for (users, alerts) in [(9, 0), (10, 1)] {
            let come = alerts_of(113, |ago| {
                vec![
                    ("iPhone", 1_000),
                    ("Harmony", if ago == 0 { users } else { 0 }),
                ]
            });
            let gone = alerts_of(113, |ago| {
                vec![
                    ("iPhone", 1_000),
                    ("Harmony", if ago == 0 { 0 } else { users }),
                ]
            });
            assert_eq!((come.len(), gone.len()), (alerts, alerts));
        }
    }

    #[test]
    fn users_where_there_were_none_are_one_alert() {
        let alerts = alerts_of(113, |ago| {
            let users = if ago == 0 { 500 } else { 0 };
            vec![("iPhone", users), ("Android", users)]
        });
        assert_eq!(alerts, ["UsersSwing"]);
    }

    #[test]
    fn platforms_are_silent_where_the_whole_app_swings() {
        let half = alerts_of(113, |ago| {
            vec![
                ("iPhone", if ago == 0 { 250 } else { 500 }),
                ("Android", 500),
            ]
        });
        assert_eq!(half, ["PlatformUsersSwing(\"iPhone\")"]);
        let most = alerts_of(113, |ago| {
            vec![
                ("iPhone", if ago == 0 { 100 } else { 800 }),
                ("Android", 200),
            ]
        });
        assert_eq!(
            most,
            [
                "UsersSwing",
                "PlatformShareShift(\"Android\")",
                "PlatformShareShift(\"iPhone\")"
            ]
        );
    }

    #[test]
    fn a_share_shifts_by_ten_percentage_points_and_more_than_chance() {
        let shift = |users: u64, points: u64| {
            alerts_of(113, |ago| {
                let iphone = if ago == 0 { 50 - points } else { 50 };
                vec![
                    ("Android", users * (100 - iphone) / 100),
                    ("iPhone", users * iphone / 100),
                ]
            })
        };
        let both = [
            "PlatformShareShift(\"Android\")",
            "PlatformShareShift(\"iPhone\")",
        ];
        assert!(shift(10_000, 10).is_empty());
        assert_eq!(shift(10_000, 11), both);
        // Two of the square root of 1/200 + 1/800 are 16 points.
        assert!(shift(200, 15).is_empty());
        assert_eq!(shift(200, 17), both);
        assert!(shift(40, 17).is_empty(), "too few people");
    }
}
