//! The domain types: users of an app, over which days, by which dimension.
//!
//! A portrait is a plain value. It does not depend on where it came from (`wechat`), when it is
//! requested (`poll`), or how it is stored or shown (`archive`, `exposition`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Index, IndexMut};
use std::str::FromStr;
use std::sync::Arc;

use chrono::NaiveDate;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use twox_hash::XxHash3_64;

/// The name of users for whom WeChat has no name in a dimension; also of blank names.
pub const UNKNOWN_NAME: &str = "未知";

/// The name under which [`Breakdown::fold`] adds up the rest.
pub const OTHER_NAME: &str = "(other)";

/// The identifier of a mini program: a non-empty word of ASCII letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AppId(Arc<str>);

impl AppId {
    /// Returns the identifier as it is written in labels, logs and requests.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this looks like an appid of WeChat: `wx` and 16 hex digits.
    #[must_use]
    pub fn is_wechat(&self) -> bool {
        self.0.strip_prefix("wx").is_some_and(|digits| {
            digits.len() == 16
                && digits
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    }
}

impl<'de> Deserialize<'de> for AppId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The text is not a word of letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an appid: expected `wx` and 16 hex digits, such as wx0123456789abcdef")]
pub struct ParseAppIdError;

impl FromStr for AppId {
    type Err = ParseAppIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if text.is_empty() || !text.bytes().all(is_word) {
            return Err(ParseAppIdError);
        }
        Ok(Self(text.into()))
    }
}

/// Defines an enum whose variants have one spelling each, for labels, keys and messages.
macro_rules! string_enum {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every variant, in the order of the page.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// Returns the spelling used in labels and configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            /// Fails with a sentence that lists the valid spellings.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.into_iter().find(|value| value.as_str() == text).ok_or_else(|| {
                    format!("unknown {} `{}`: expected one of {}", $what, text, [$($text),+].join(", "))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::portrait::parsed(deserializer)
            }
        }
    };
}

pub(crate) use string_enum;

/// Reads what is written as one word.
pub(crate) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    let text = Cow::<str>::deserialize(deserializer)?;
    text.parse().map_err(D::Error::custom)
}

string_enum! {
    /// How many Beijing days a portrait covers.
    Window, "window" {
        /// One day.
        OneDay = "1d",
        /// Seven days; people are counted once, so this is not a sum of days.
        SevenDays = "7d",
        /// Thirty days; people are counted once, so this is not a sum of days.
        ThirtyDays = "30d",
    }
}

string_enum! {
    /// Which users are counted.
    Cohort, "cohort" {
        /// Users who came for the first time; part of the active ones.
        New = "new",
        /// Users who opened the mini program.
        Active = "active",
    }
}

string_enum! {
    /// What the users of a cohort are divided by.
    Dimension, "dimension" {
        /// Province of China, or country.
        Province = "province",
        /// City.
        City = "city",
        /// Gender as stated in WeChat.
        Gender = "gender",
        /// iPhone, Android, and others.
        Platform = "platform",
        /// The 20 most frequent models.
        Device = "device",
        /// Age group.
        Age = "age",
    }
}

string_enum! {
    /// What had to be repaired before an answer could be shown.
    Repair, "repair" {
        /// A name occurred twice in a dimension; its users were added up.
        DuplicateName = "duplicate_name",
        /// A name was blank or missing and became `未知`.
        BlankName = "blank_name",
        /// A row had no readable number and was dropped.
        UnreadableValue = "unreadable_value",
        /// A name went into `(other)`, as `top_names` requires.
        FoldedName = "folded_name",
    }
}

impl Dimension {
    /// Returns whether WeChat lists every name that has users: where it lists any at all, a name that
    /// is not among them has none.
    #[must_use]
    pub fn lists_every_name(self) -> bool {
        matches!(self, Self::Gender | Self::Platform | Self::Age)
    }
}

/// How often each repair was needed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repairs([u64; Repair::ALL.len()]);

impl Repairs {
    /// Adds the counts of another value.
    pub fn add(&mut self, other: &Self) {
        for repair in Repair::ALL {
            self[repair] += other[repair];
        }
    }
}

impl Index<Repair> for Repairs {
    type Output = u64;

    fn index(&self, repair: Repair) -> &u64 {
        &self.0[repair as usize]
    }
}

impl IndexMut<Repair> for Repairs {
    fn index_mut(&mut self, repair: Repair) -> &mut u64 {
        &mut self.0[repair as usize]
    }
}

impl Window {
    /// Returns how many days it covers.
    #[must_use]
    pub fn days(self) -> u64 {
        match self {
            Self::OneDay => 1,
            Self::SevenDays => 7,
            Self::ThirtyDays => 30,
        }
    }
}

/// The number of users of each name of one dimension.
///
/// Names are unique, never blank, and sorted, so equal breakdowns are equal values whatever order
/// WeChat chose. A name that is absent is unknown, not zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Breakdown {
    users: BTreeMap<String, u64>,
    /// Whether a row could not be read, so that a name with users may be missing.
    is_partial: bool,
}

impl Breakdown {
    /// Adds users under a name; returns whether the name was there already.
    ///
    /// A sum beyond `u64` saturates.
    pub fn add(&mut self, name: String, users: u64) -> bool {
        use std::collections::btree_map::Entry;
        match self.users.entry(name) {
            Entry::Occupied(mut held) => {
                *held.get_mut() = held.get().saturating_add(users);
                true
            }
            Entry::Vacant(place) => {
                place.insert(users);
                false
            }
        }
    }

    /// Iterates over names and users, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.users
            .iter()
            .map(|(name, users)| (name.as_str(), *users))
    }

    /// Remembers that a row could not be read.
    pub fn set_partial(&mut self) {
        self.is_partial = true;
    }

    /// Returns `true` if there are users under a name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Returns `true` if a row could not be read.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Returns the users under a name, where that is known: in a breakdown that lists every name, one
    /// that is not there has none.
    #[must_use]
    pub fn users_of(&self, name: &str) -> Option<u64> {
        let is_complete = !self.is_empty() && !self.is_partial;
        let users = self.users.get(name).copied();
        users.or(is_complete.then_some(0))
    }

    /// Returns the users under a name that is listed.
    #[must_use]
    pub fn listed(&self, name: &str) -> Option<u64> {
        self.users.get(name).copied()
    }

    /// Returns the sum, unless it is unknown: there is no name, or a row could not be read.
    ///
    /// A sum beyond `u64` saturates.
    #[must_use]
    pub fn total(&self) -> Option<u64> {
        let is_complete = !self.is_empty() && !self.is_partial;
        let users = self.users.values();
        is_complete.then(|| users.fold(0, |sum: u64, users| sum.saturating_add(*users)))
    }

    /// Adds names without users if there are others and no row is missing.
    pub fn add_zeros(&mut self, names: &BTreeSet<String>) {
        if !self.is_empty() && !self.is_partial {
            for name in names {
                self.add(name.clone(), 0);
            }
        }
    }

    /// Returns how many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Returns whether there is no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Keeps the `limit` largest names and adds the rest up under [`OTHER_NAME`].
    ///
    /// Returns how many names were folded. Of equally large names the first in order stay, so
    /// that the same figures always keep the same names.
    pub fn fold(&mut self, limit: usize) -> usize {
        if self.users.len() <= limit {
            return 0;
        }
        let mut by_size: Vec<(String, u64)> = std::mem::take(&mut self.users).into_iter().collect();
        by_size.sort_by_key(|(_, users)| std::cmp::Reverse(*users));
        let rest = by_size.split_off(limit);
        self.users = by_size.into_iter().collect();
        let folded = rest.len();
        let users = rest
            .iter()
            .fold(0_u64, |sum, (_, users)| sum.saturating_add(*users));
        self.add(OTHER_NAME.to_owned(), users);
        folded
    }

    /// Keeps the names of `other`, which is folded, and adds the rest up as it does.
    pub fn fold_like(&mut self, other: &Self) {
        for (name, users) in std::mem::take(&mut self.users) {
            let is_kept = other.users.contains_key(&name);
            self.add(if is_kept { name } else { OTHER_NAME.to_owned() }, users);
        }
    }
}

/// Who used one mini program in one window, as WeChat reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portrait {
    /// How many days it covers.
    pub window: Window,
    /// The last Beijing day it covers.
    pub reference_date: NaiveDate,
    breakdowns: [[Breakdown; Dimension::ALL.len()]; Cohort::ALL.len()],
}

impl Portrait {
    /// Starts a portrait without any figures.
    #[must_use]
    pub fn new(window: Window, reference_date: NaiveDate) -> Self {
        Self {
            window,
            reference_date,
            breakdowns: Default::default(),
        }
    }

    /// Returns the breakdown of a cohort by a dimension.
    #[must_use]
    pub fn breakdown(&self, cohort: Cohort, dimension: Dimension) -> &Breakdown {
        &self.breakdowns[cohort as usize][dimension as usize]
    }

    /// Returns the breakdown to fill or fold it.
    pub fn breakdown_mut(&mut self, cohort: Cohort, dimension: Dimension) -> &mut Breakdown {
        &mut self.breakdowns[cohort as usize][dimension as usize]
    }

    /// Iterates over all figures in these dimensions, in the order of the page.
    pub fn rows(
        &self,
        dimensions: &[Dimension],
    ) -> impl Iterator<Item = (Cohort, Dimension, &str, u64)> {
        Cohort::ALL.into_iter().flat_map(move |cohort| {
            dimensions.iter().flat_map(move |dimension| {
                let rows = self.breakdown(cohort, *dimension).iter();
                rows.map(move |(name, users)| (cohort, *dimension, name, users))
            })
        })
    }

    /// Returns whether no cohort has a figure in any dimension: not computed yet, never "no users".
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.breakdowns.iter().flatten().all(Breakdown::is_empty)
    }

    /// Returns a digest that is equal for equal figures, whatever order WeChat chose: XXH3 of names
    /// and figures in the order of the page. It is archived, so it must never change.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut bytes = Vec::with_capacity(32 << 10);
        for (cohort, dimension, name, users) in self.rows(&Dimension::ALL) {
            bytes.extend_from_slice(&[cohort as u8, dimension as u8]);
            bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(&users.to_le_bytes());
        }
        for (cohort, dimension) in self.partial_breakdowns() {
            bytes.extend_from_slice(&[cohort as u8, dimension as u8, u8::MAX]);
        }
        XxHash3_64::oneshot(&bytes)
    }

    /// Iterates over the breakdowns with an unreadable row.
    pub fn partial_breakdowns(&self) -> impl Iterator<Item = (Cohort, Dimension)> {
        Cohort::ALL.into_iter().flat_map(move |cohort| {
            let dimensions = Dimension::ALL.into_iter();
            dimensions
                .filter(move |dimension| self.breakdown(cohort, *dimension).is_partial)
                .map(move |dimension| (cohort, dimension))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakdown(rows: &[(&str, u64)]) -> Breakdown {
        let mut breakdown = Breakdown::default();
        for (name, users) in rows {
            breakdown.add((*name).to_owned(), *users);
        }
        breakdown
    }

    #[test]
    fn an_appid_is_a_word() {
        assert!("wx0123456789abcdef".parse::<AppId>().unwrap().is_wechat());
        assert!(!"wx0123456789ABCDEF".parse::<AppId>().unwrap().is_wechat());
        assert!(!"shop_1".parse::<AppId>().unwrap().is_wechat());
        for bad in ["", " wx1", "wx 1", "商城", "a\"b", "a/b"] {
            assert!(bad.parse::<AppId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn spellings_are_read_back() {
        for window in Window::ALL {
            assert_eq!(window.as_str().parse(), Ok(window));
        }
        assert_eq!(
            "town".parse::<Dimension>().unwrap_err(),
            "unknown dimension `town`: expected one of province, city, gender, platform, device, age"
        );
    }

    #[test]
    fn folding_keeps_the_largest_and_the_sum() {
        let mut cities = breakdown(&[("a", 1), ("b", 5), ("c", 3), ("d", 1)]);
        assert_eq!(cities.fold(2), 2);
        assert_eq!(cities, breakdown(&[("(other)", 2), ("b", 5), ("c", 3)]));
    }

    #[test]
    fn a_real_name_equal_to_the_rest_is_added_up() {
        let mut cities = breakdown(&[("(other)", 10), ("b", 5), ("c", 3)]);
        assert_eq!(cities.fold(2), 1);
        assert_eq!(cities, breakdown(&[("(other)", 13), ("b", 5)]));
    }

    #[test]
    fn another_day_is_folded_to_the_same_names() {
        let shown = breakdown(&[("(other)", 2), ("b", 5)]);
        let mut past = breakdown(&[("a", 1), ("b", 4), ("c", 3)]);
        past.fold_like(&shown);
        assert_eq!(past, breakdown(&[("(other)", 4), ("b", 4)]));
    }

    #[test]
    fn a_short_breakdown_is_not_folded() {
        let mut cities = breakdown(&[("a", 1), ("b", 5)]);
        assert_eq!(cities.fold(2), 0);
        assert_eq!(cities, breakdown(&[("a", 1), ("b", 5)]));
    }

    #[test]
    fn equal_figures_have_one_digest_whatever_their_order() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        let portrait = |rows: &[(&str, u64)]| {
            let mut portrait = Portrait::new(Window::OneDay, day);
            *portrait.breakdown_mut(Cohort::New, Dimension::Age) = breakdown(rows);
            portrait
        };
        let one = portrait(&[("a", 1), ("b", 2)]);
        assert_eq!(one.digest(), portrait(&[("b", 2), ("a", 1)]).digest());
        assert_ne!(one.digest(), portrait(&[("a", 2), ("b", 1)]).digest());
        let mut partial = one.clone();
        let ages = partial.breakdown_mut(Cohort::New, Dimension::Age);
        ages.set_partial();
        assert_ne!(one.digest(), partial.digest());
        assert_eq!(
            [one.digest(), partial.digest()],
            [3_914_793_134_768_074_286, 6_651_465_936_118_565_592],
            "as another implementation of XXH3 has it; archives hold digests of every version"
        );
    }
}
