//! Lays a portrait beside the days before it, so that the same names can be compared.
//!
//! Pure: knows neither where past days are kept nor how they are shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::config::PAST_DAYS;
use crate::portrait::{Cohort, Dimension, Portrait};

/// Folds the largest names of a portrait as `top_names` asks; answers how many names were folded.
pub fn fold(portrait: &mut Portrait, top_names: &BTreeMap<Dimension, usize>) -> u64 {
    let mut folded = 0;
    for (dimension, limit) in top_names {
        for cohort in Cohort::ALL {
            folded += portrait.division_mut(cohort, *dimension).fold(*limit) as u64;
        }
    }
    folded
}

/// Gives the portrait that is shown and the days before it the same names, as far as that is known.
///
/// What is folded that day is folded in the past. Where WeChat lists every name, one that is on
/// another of these days has 0 users on a day whose dimension is filled; in an empty one, and in one that
/// could not be read completely, it stays unknown.
pub fn align(shown: &mut Portrait, past: &mut [Portrait], top_names: &BTreeMap<Dimension, usize>) {
    for cohort in Cohort::ALL {
        for (dimension, limit) in top_names {
            let division = shown.division_mut(cohort, *dimension);
            if division.fold(*limit) > 0 {
                for day in &mut *past {
                    day.division_mut(cohort, *dimension).fold_like(division);
                }
            }
        }
        for dimension in Dimension::ALL
            .into_iter()
            .filter(|dimension| dimension.is_complete())
        {
            let days = || past.iter().chain([&*shown]);
            let names: BTreeSet<String> = days()
                .flat_map(|day| day.division(cohort, dimension).iter())
                .map(|(name, _)| name.to_owned())
                .collect();
            for day in past.iter_mut().chain([&mut *shown]) {
                day.division_mut(cohort, dimension).add_zeros(&names);
            }
        }
    }
}

/// The names of the last archived days of one app and window, where WeChat lists every name: the
/// next day has 0 users under those that it lacks.
#[derive(Debug, Default)]
pub struct RecentNames(VecDeque<BTreeMap<(Cohort, Dimension), BTreeSet<String>>>);

impl RecentNames {
    /// Gives a portrait the zeros that the page shows for its day, then remembers its names. To be
    /// called for every archived day, the oldest first.
    pub fn complete(&mut self, portrait: &mut Portrait) {
        let mut of_day = BTreeMap::new();
        for cohort in Cohort::ALL {
            for dimension in Dimension::ALL.into_iter().filter(|it| it.is_complete()) {
                let division = portrait.division_mut(cohort, dimension);
                let names = division.iter().map(|(name, _)| name.to_owned());
                of_day.insert((cohort, dimension), names.collect());
                for day in &self.0 {
                    division.add_zeros(&day[&(cohort, dimension)]);
                }
            }
        }
        self.0.push_back(of_day);
        if self.0.len() > PAST_DAYS as usize {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::NaiveDate;

    use super::*;
    use crate::portrait::Window;

    type Rows<'a> = &'a [(&'a str, u64)];

    /// A portrait whose new users divide like this.
    fn portrait(platforms: Rows<'_>, cities: Rows<'_>) -> Portrait {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        let mut portrait = Portrait::new(Window::OneDay, day);
        for (dimension, rows) in [(Dimension::Platform, platforms), (Dimension::City, cities)] {
            let division = portrait.division_mut(Cohort::New, dimension);
            for (name, users) in rows {
                division.add((*name).to_owned(), *users);
            }
        }
        portrait
    }

    fn rows(portrait: &Portrait, dimension: Dimension) -> Vec<(&str, u64)> {
        portrait.division(Cohort::New, dimension).iter().collect()
    }

    #[test]
    fn a_name_that_vanished_has_no_users_and_so_has_one_that_was_not_there_yet() {
        let mut shown = portrait(&[("Harmony", 3), ("iPhone", 5)], &[]);
        let mut past = [
            portrait(&[("Android", 7)], &[]),
            portrait(&[("iPhone", 4)], &[]),
        ];
        align(&mut shown, &mut past, &BTreeMap::new());
        let platforms = |portrait| rows(portrait, Dimension::Platform);
        assert_eq!(
            platforms(&shown),
            [("Android", 0), ("Harmony", 3), ("iPhone", 5)]
        );
        assert_eq!(
            platforms(&past[0]),
            [("Android", 7), ("Harmony", 0), ("iPhone", 0)]
        );
        assert_eq!(
            platforms(&past[1]),
            [("Android", 0), ("Harmony", 0), ("iPhone", 4)]
        );
    }

    #[test]
    fn an_empty_dimension_stays_unknown() {
        let mut shown = portrait(&[], &[]);
        let mut past = [portrait(&[("iPhone", 4)], &[]), portrait(&[], &[])];
        align(&mut shown, &mut past, &BTreeMap::new());
        assert_eq!(rows(&shown, Dimension::Platform), []);
        assert_eq!(rows(&past[0], Dimension::Platform), [("iPhone", 4)]);
        assert_eq!(rows(&past[1], Dimension::Platform), []);
    }

    #[test]
    fn where_a_row_could_not_be_read_there_are_no_zeros() {
        let mut shown = portrait(&[("Android", 3)], &[]);
        let platforms = shown.division_mut(Cohort::New, Dimension::Platform);
        platforms.set_partial();
        let mut past = [portrait(&[("iPhone", 4)], &[])];
        align(&mut shown, &mut past, &BTreeMap::new());
        assert_eq!(rows(&shown, Dimension::Platform), [("Android", 3)]);
        let expected = [("Android", 0), ("iPhone", 4)];
        assert_eq!(rows(&past[0], Dimension::Platform), expected);
    }

    #[test]
    fn where_wechat_does_not_list_every_name_there_are_no_zeros() {
        let mut shown = portrait(&[], &[("a", 1)]);
        let mut past = [portrait(&[], &[("b", 1)])];
        align(&mut shown, &mut past, &BTreeMap::new());
        assert_eq!(rows(&shown, Dimension::City), [("a", 1)]);
        assert_eq!(rows(&past[0], Dimension::City), [("b", 1)]);
    }

    #[test]
    fn what_is_folded_is_folded_on_all_days() {
        let top_names = BTreeMap::from([(Dimension::City, 1), (Dimension::Platform, 1)]);
        let mut shown = portrait(&[("a", 5), ("b", 2), ("c", 1)], &[("x", 9), ("y", 8)]);
        let mut past = [portrait(&[("b", 7), ("d", 3)], &[("y", 7), ("z", 3)])];
        align(&mut shown, &mut past, &top_names);
        assert_eq!(
            rows(&shown, Dimension::Platform),
            [("(other)", 3), ("a", 5)]
        );
        assert_eq!(
            rows(&past[0], Dimension::Platform),
            [("(other)", 10), ("a", 0)]
        );
        assert_eq!(rows(&shown, Dimension::City), [("(other)", 8), ("x", 9)]);
        assert_eq!(rows(&past[0], Dimension::City), [("(other)", 10)]);
    }

    #[test]
    fn a_name_of_the_last_archived_days_has_no_users_on_a_day_that_lacks_it() {
        let mut names = RecentNames::default();
        let mut complete = |platforms: Rows<'_>| {
            let mut portrait = portrait(platforms, &[("x", 1)]);
            names.complete(&mut portrait);
            let rows = rows(&portrait, Dimension::Platform).into_iter();
            rows.map(|(name, users)| format!("{name} {users}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(complete(&[("iPhone", 5)]), ["iPhone 5"]);
        assert_eq!(complete(&[]), [""; 0], "an empty dimension stays unknown");
        for _ in 2..=PAST_DAYS {
            assert_eq!(complete(&[("Android", 1)]), ["Android 1", "iPhone 0"]);
        }
        assert_eq!(
            complete(&[("Android", 1)]),
            ["Android 1"],
            "zeros are no names"
        );
    }
}
