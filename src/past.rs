//! The days before the newest one, as far as the page of an app needs them: compact, and in memory.
//!
//! A new answer is compared with these figures and shown with them without reading the
//! archive again. Platforms are kept for longer than the rest, for what they let expect. Pure: does not
//! depend on where days are stored or how they are shown.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::NaiveDate;

use crate::calendar;
use crate::expectation::HISTORY_DAYS;
use crate::portrait::{Breakdown, Cohort, Dimension, OTHER_NAME, Portrait, Window};

/// How many archived days before the newest one affect which names are shown.
pub const PAST_DAYS: u32 = 28;

/// The place of a figure: its cohort, dimension and name.
type Place = (Cohort, Dimension, Box<str>);

/// The figures of the newest days of one app and window, in the dimensions that later days are
/// compared in.
#[derive(Debug)]
pub struct PastDays {
    window: Window,
    dimensions: Vec<Dimension>,
    /// Every name that a day has, so that days need not repeat them.
    places: Vec<Place>,
    /// The oldest first.
    days: VecDeque<Day>,
    /// With more places than this, those that no day uses any more are dropped.
    most_places: usize,
}

/// How many places there may be in addition to twice those in use.
const SPARE_PLACES: usize = 64;

/// How many archived days are kept in all dimensions, the newest one included.
pub const FULL_DAYS: usize = PAST_DAYS as usize + 1;

#[derive(Debug)]
struct Day {
    reference_date: NaiveDate,
    /// Breakdowns of which a row could not be read, a bit for each cohort and dimension.
    partial: u16,
    /// Whether only platforms are left.
    is_reduced: bool,
    /// For every figure the index of its place and its users, both as variable-length integers.
    figures: Box<[u8]>,
}

impl PastDays {
    /// Starts without days. Figures are kept in dimensions of which WeChat lists every name, and
    /// in these.
    #[must_use]
    pub fn new(window: Window, dimensions: &[Dimension]) -> Self {
        let mut kept = Dimension::ALL.to_vec();
        kept.retain(|dimension| dimension.lists_every_name() || dimensions.contains(dimension));
        Self {
            window,
            dimensions: kept,
            places: Vec::new(),
            days: VecDeque::new(),
            most_places: SPARE_PLACES,
        }
    }

    /// Returns `true` if figures are kept in all of these dimensions.
    #[must_use]
    pub fn has_dimensions(&self, dimensions: &[Dimension]) -> bool {
        dimensions
            .iter()
            .all(|dimension| self.dimensions.contains(dimension))
    }

    /// Returns `true` if figures are kept in no other dimensions than those in which WeChat lists every
    /// name.
    #[must_use]
    pub fn has_fully_listed_dimensions_only(&self) -> bool {
        self.dimensions
            .iter()
            .all(|dimension| dimension.lists_every_name())
    }

    /// Returns how many archived days are kept, the newest one included.
    #[must_use]
    pub fn capacity(window: Window) -> usize {
        match window {
            Window::OneDay => HISTORY_DAYS + 1,
            Window::SevenDays | Window::ThirtyDays => FULL_DAYS,
        }
    }

    /// Adds a day, or replaces it. Of the window 1d the platforms of more days are kept than the rest.
    pub fn insert(&mut self, portrait: &Portrait) {
        let mut figures = Vec::new();
        let mut partial = 0;
        for cohort in Cohort::ALL {
            for dimension in &self.dimensions {
                let breakdown = portrait.breakdown(cohort, *dimension);
                if breakdown.is_partial() {
                    partial |= bit(cohort, *dimension);
                }
                for (name, users) in breakdown.iter() {
                    let index = index_of(&mut self.places, cohort, *dimension, name);
                    write_integer(&mut figures, index);
                    write_integer(&mut figures, users);
                }
            }
        }
        let day = Day {
            reference_date: portrait.reference_date,
            partial,
            is_reduced: false,
            figures: figures.into(),
        };
        let place = self
            .days
            .partition_point(|other| other.reference_date < day.reference_date);
        if self
            .days
            .get(place)
            .is_some_and(|other| other.reference_date == day.reference_date)
        {
            self.days[place] = day;
        } else {
            self.days.insert(place, day);
        }
        if self.days.len() > Self::capacity(self.window) {
            self.days.pop_front();
        }
        let reduced = self.days.len().saturating_sub(FULL_DAYS);
        for day in self.days.iter_mut().take(reduced) {
            day.reduce(&self.places);
        }
        if self.places.len() > self.most_places {
            self.drop_unused_places();
        }
    }

    fn drop_unused_places(&mut self) {
        let mut fresh = Self::new(self.window, &self.dimensions);
        fresh.most_places = usize::MAX;
        for day in &self.days {
            if let Some(portrait) = self.portrait(day.reference_date) {
                fresh.insert(&portrait);
            }
        }
        fresh.most_places = SPARE_PLACES + 2 * fresh.places.len();
        *self = fresh;
    }

    /// Returns the figures of a day, if it is kept.
    #[must_use]
    pub fn portrait(&self, reference_date: NaiveDate) -> Option<Portrait> {
        let day = self
            .days
            .iter()
            .find(|day| day.reference_date == reference_date)?;
        let mut portrait = Portrait::new(self.window, reference_date);
        for (index, users) in day.figures() {
            if let Some((cohort, dimension, name)) = self.places.get(index) {
                let breakdown = portrait.breakdown_mut(*cohort, *dimension);
                breakdown.add(name.to_string(), users);
            }
        }
        for cohort in Cohort::ALL {
            for dimension in &self.dimensions {
                if day.partial & bit(cohort, *dimension) != 0 {
                    portrait.breakdown_mut(cohort, *dimension).set_partial();
                }
            }
        }
        Some(portrait)
    }

    /// Returns the users of a cohort by platform on a day and on the days before it, the newest first, as
    /// [`crate::expectation::expect`] compares them; `None` for days that are not kept.
    #[must_use]
    pub fn platforms(&self, reference_date: NaiveDate, cohort: Cohort) -> Vec<Option<Breakdown>> {
        let mut platforms = vec![None; HISTORY_DAYS + 1];
        for (ago, platforms) in (0..).zip(&mut platforms) {
            let day = calendar::days_before(reference_date, ago);
            let place = self
                .days
                .binary_search_by_key(&day, |day| day.reference_date);
            if let Some(day) = place.ok().map(|place| &self.days[place]) {
                let mut breakdown = Breakdown::default();
                for (index, users) in day.figures() {
                    if let Some((of_cohort, Dimension::Platform, name)) = self.places.get(index)
                        && *of_cohort == cohort
                    {
                        breakdown.add(name.to_string(), users);
                    }
                }
                if day.partial & bit(cohort, Dimension::Platform) != 0 {
                    breakdown.set_partial();
                }
                *platforms = Some(breakdown);
            }
        }
        platforms
    }

    /// Returns the portraits of those of these days that are kept, and gives them and the shown portrait
    /// the same names, as far as they are known.
    ///
    /// What is folded in the shown portrait is folded in the past. Where WeChat lists every name, a name
    /// that another kept day or the shown one has, has 0 users on a day whose dimension is filled; in an
    /// empty dimension, and in one that could not be read completely, it stays unknown.
    pub fn align(
        &self,
        shown: &mut Portrait,
        top_names: &BTreeMap<Dimension, usize>,
        days: impl IntoIterator<Item = NaiveDate>,
    ) -> Vec<Portrait> {
        let days = days.into_iter();
        let mut past: Vec<Portrait> = days.filter_map(|day| self.portrait(day)).collect();
        let folded: Vec<_> = Cohort::ALL
            .into_iter()
            .flat_map(|cohort| {
                top_names
                    .iter()
                    .map(move |(name, limit)| (cohort, *name, *limit))
            })
            .filter(|(cohort, dimension, limit)| {
                shown.breakdown_mut(*cohort, *dimension).fold(*limit) > 0
            })
            .map(|(cohort, dimension, _)| (cohort, dimension))
            .collect();
        for (cohort, dimension) in &folded {
            for day in &mut past {
                let breakdown = day.breakdown_mut(*cohort, *dimension);
                breakdown.fold_like(shown.breakdown(*cohort, *dimension));
            }
        }
        for (cohort, dimension) in complete_breakdowns() {
            let breakdown = shown.breakdown(cohort, dimension);
            let mut names: BTreeSet<String> = self
                .names_before(shown.reference_date, cohort, dimension)
                .map(|name| {
                    let is_kept =
                        !folded.contains(&(cohort, dimension)) || breakdown.contains(name);
                    if is_kept { name } else { OTHER_NAME }.to_owned()
                })
                .collect();
            names.extend(breakdown.iter().map(|(name, _)| name.to_owned()));
            for day in past.iter_mut().chain([&mut *shown]) {
                day.breakdown_mut(cohort, dimension).add_zeros(&names);
            }
        }
        past
    }

    /// Iterates over the names of the [`PAST_DAYS`] kept days before one, some of them more than once.
    fn names_before(
        &self,
        end: NaiveDate,
        cohort: Cohort,
        dimension: Dimension,
    ) -> impl Iterator<Item = &str> {
        let days = self.days.iter().rev();
        let days = days.filter(move |day| day.reference_date < end);
        days.take(PAST_DAYS as usize)
            .flat_map(Day::figures)
            .filter_map(move |(index, _)| {
                let (of_cohort, of_dimension, name) = self.places.get(index)?;
                (*of_cohort == cohort && *of_dimension == dimension).then_some(&**name)
            })
    }
}

impl Day {
    /// Drops all figures but those of platforms.
    fn reduce(&mut self, places: &[Place]) {
        if self.is_reduced {
            return;
        }
        let mut platforms = Vec::new();
        for (index, users) in self.figures() {
            if let Some((_, Dimension::Platform, _)) = places.get(index) {
                write_integer(&mut platforms, index as u64);
                write_integer(&mut platforms, users);
            }
        }
        self.figures = platforms.into();
        self.is_reduced = true;
    }

    /// Iterates over the index of each figure's place and its users.
    fn figures(&self) -> impl Iterator<Item = (usize, u64)> {
        let mut rest = &*self.figures;
        std::iter::from_fn(move || {
            let index = read_integer(&mut rest)?;
            Some((usize::try_from(index).ok()?, read_integer(&mut rest)?))
        })
    }
}

/// Folds all but the largest names of a portrait, as `top_names` requires; returns how many names were folded.
pub fn fold(portrait: &mut Portrait, top_names: &BTreeMap<Dimension, usize>) -> u64 {
    let mut folded = 0;
    for (dimension, limit) in top_names {
        for cohort in Cohort::ALL {
            folded += portrait.breakdown_mut(cohort, *dimension).fold(*limit) as u64;
        }
    }
    folded
}

/// Iterates over cohorts and the dimensions of which WeChat lists every name.
fn complete_breakdowns() -> impl Iterator<Item = (Cohort, Dimension)> {
    Cohort::ALL.into_iter().flat_map(|cohort| {
        let dimensions = Dimension::ALL.into_iter();
        dimensions
            .filter(|dimension| dimension.lists_every_name())
            .map(move |dimension| (cohort, dimension))
    })
}

fn bit(cohort: Cohort, dimension: Dimension) -> u16 {
    1 << (cohort as usize * Dimension::ALL.len() + dimension as usize)
}

/// Returns the index of a place, and adds it if it is new.
fn index_of(places: &mut Vec<Place>, cohort: Cohort, dimension: Dimension, name: &str) -> u64 {
    let is_it = |(of_cohort, of_dimension, of_name): &Place| {
        *of_cohort == cohort && *of_dimension == dimension && **of_name == *name
    };
    let index = places.iter().position(is_it).unwrap_or_else(|| {
        places.push((cohort, dimension, name.into()));
        places.len() - 1
    });
    index as u64
}

/// Writes seven bits a byte, the lowest first; a byte with the high bit is followed by another.
fn write_integer(bytes: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push((value & 0x7f) as u8);
}

fn read_integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::calendar;

    type Rows<'a> = &'a [(&'a str, u64)];

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()
    }

    /// A portrait of the day before others with these new users.
    fn portrait(days_ago: u64, platforms: Rows<'_>, cities: Rows<'_>) -> Portrait {
        let mut portrait = Portrait::new(Window::OneDay, calendar::days_before(day(), days_ago));
        for (dimension, rows) in [(Dimension::Platform, platforms), (Dimension::City, cities)] {
            let breakdown = portrait.breakdown_mut(Cohort::New, dimension);
            for (name, users) in rows {
                breakdown.add((*name).to_owned(), *users);
            }
        }
        portrait
    }

    fn rows(portrait: &Portrait, dimension: Dimension) -> Vec<(&str, u64)> {
        portrait.breakdown(Cohort::New, dimension).iter().collect()
    }

    /// Aligns a portrait with days before it, the newest first.
    fn align<const DAYS: usize>(
        shown: &mut Portrait,
        past: [Portrait; DAYS],
        top_names: &BTreeMap<Dimension, usize>,
    ) -> [Portrait; DAYS] {
        let mut days = PastDays::new(Window::OneDay, &[Dimension::City]);
        for portrait in &past {
            days.insert(portrait);
        }
        days.insert(shown);
        let dates = past.map(|portrait| portrait.reference_date);
        days.align(shown, top_names, dates).try_into().unwrap()
    }

    #[test]
    fn a_name_that_vanished_has_no_users_nor_has_one_that_did_not_exist_yet() {
        let mut shown = portrait(0, &[("Harmony", 3), ("iPhone", 5)], &[]);
        let past = [
            portrait(1, &[("Android", 7)], &[]),
            portrait(2, &[("iPhone", 4)], &[]),
        ];
        let past = align(&mut shown, past, &BTreeMap::new());
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
        let mut shown = portrait(0, &[], &[]);
        let past = [portrait(1, &[("iPhone", 4)], &[]), portrait(2, &[], &[])];
        let past = align(&mut shown, past, &BTreeMap::new());
        assert_eq!(rows(&shown, Dimension::Platform), []);
        assert_eq!(rows(&past[0], Dimension::Platform), [("iPhone", 4)]);
        assert_eq!(rows(&past[1], Dimension::Platform), []);
    }

    #[test]
    fn where_a_row_could_not_be_read_there_are_no_zeros() {
        let mut shown = portrait(0, &[("Android", 3)], &[]);
        let platforms = shown.breakdown_mut(Cohort::New, Dimension::Platform);
        platforms.set_partial();
        let past = [portrait(1, &[("iPhone", 4)], &[])];
        let past = align(&mut shown, past, &BTreeMap::new());
        assert_eq!(rows(&shown, Dimension::Platform), [("Android", 3)]);
        let expected = [("Android", 0), ("iPhone", 4)];
        assert_eq!(rows(&past[0], Dimension::Platform), expected);
    }

    #[test]
    fn where_wechat_does_not_list_every_name_there_are_no_zeros() {
        let mut shown = portrait(0, &[], &[("a", 1)]);
        let past = align(
            &mut shown,
            [portrait(1, &[], &[("b", 1)])],
            &BTreeMap::new(),
        );
        assert_eq!(rows(&shown, Dimension::City), [("a", 1)]);
        assert_eq!(rows(&past[0], Dimension::City), [("b", 1)]);
    }

    #[test]
    fn what_is_folded_is_folded_on_all_days() {
        let top_names = BTreeMap::from([(Dimension::City, 1), (Dimension::Platform, 1)]);
        let mut shown = portrait(0, &[("a", 5), ("b", 2), ("c", 1)], &[("x", 9), ("y", 8)]);
        let past = [portrait(1, &[("b", 7), ("d", 3)], &[("y", 7), ("z", 3)])];
        let past = align(&mut shown, past, &top_names);
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
    fn only_the_newest_days_are_kept_and_of_most_of_them_only_platforms() {
        for (window, oldest_kept) in [(Window::OneDay, 112), (Window::SevenDays, 28)] {
            let mut days = PastDays::new(window, &[Dimension::City]);
            for days_ago in (0..150).rev() {
                days.insert(&portrait(days_ago, &[("iPhone", days_ago)], &[("a", 1)]));
            }
            let of = |days: &PastDays, ago| days.portrait(calendar::days_before(day(), ago));
            assert_eq!(of(&days, oldest_kept + 1), None);
            let oldest = of(&days, oldest_kept).unwrap();
            assert_eq!(
                rows(&oldest, Dimension::Platform),
                [("iPhone", oldest_kept)]
            );
            assert_eq!(rows(&of(&days, 28).unwrap(), Dimension::City), [("a", 1)]);
            if window == Window::OneDay {
                assert_eq!(rows(&of(&days, 29).unwrap(), Dimension::City), []);
            }
            days.insert(&portrait(28, &[("iPhone", 5)], &[]));
            let revised = of(&days, 28).unwrap();
            assert_eq!(rows(&revised, Dimension::Platform), [("iPhone", 5)]);
        }
    }

    #[test]
    fn platforms_are_those_of_the_days_before_a_date() {
        let mut days = PastDays::new(Window::OneDay, &[]);
        days.insert(&portrait(0, &[("iPhone", 7)], &[]));
        let mut partial = portrait(2, &[("Android", 5)], &[]);
        let platforms = partial.breakdown_mut(Cohort::New, Dimension::Platform);
        platforms.set_partial();
        days.insert(&partial);
        days.insert(&portrait(112, &[("iPhone", 1)], &[]));
        let new = days.platforms(day(), Cohort::New);
        assert_eq!(new.len(), 113);
        assert_eq!(new.iter().flatten().count(), 3);
        assert_eq!(new[0].as_ref().unwrap().total(), Some(7));
        assert_eq!(new[2].as_ref().unwrap().total(), None);
        assert_eq!(new[112].as_ref().unwrap().total(), Some(1));
        let active = days.platforms(day(), Cohort::Active);
        assert!(active[0].as_ref().unwrap().is_empty());
        let before = days.platforms(calendar::days_before(day(), 2), Cohort::New);
        assert_eq!(before[0], new[2]);
    }

    #[test]
    fn names_that_no_day_has_any_more_are_forgotten() {
        let mut days = PastDays::new(Window::OneDay, &[]);
        for days_ago in (0..400).rev() {
            let name = days_ago.to_string();
            days.insert(&portrait(days_ago, &[(&name, 1)], &[]));
            assert!(days.places.len() <= 2 * 113 + SPARE_PLACES);
        }
        let oldest = days.portrait(calendar::days_before(day(), 28)).unwrap();
        assert_eq!(rows(&oldest, Dimension::Platform), [("28", 1)]);
    }

    #[test]
    fn a_name_of_the_last_archived_days_has_no_users_on_a_day_that_lacks_it() {
        let mut past = PastDays::new(Window::OneDay, &[]);
        let mut days_ago = 100;
        let mut complete = |platforms: Rows<'_>| {
            days_ago -= 1;
            let mut portrait = portrait(days_ago, platforms, &[("x", 1)]);
            past.insert(&portrait);
            past.align(&mut portrait, &BTreeMap::new(), []);
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
            "zeros are not names"
        );
    }

    proptest! {
        #[test]
        fn integers_of_any_size_are_read_back(values in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut bytes = Vec::new();
            for value in &values {
                write_integer(&mut bytes, *value);
            }
            let mut rest = &bytes[..];
            let read: Vec<u64> = std::iter::from_fn(|| read_integer(&mut rest)).collect();
            prop_assert_eq!(read, values);
        }
    }
}
