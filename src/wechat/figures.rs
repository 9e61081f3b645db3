//! Decodes the figures of an answer: the lists of names and users of one cohort.
//!
//! Streams into the portrait, so that memory depends on the content of an answer and not on its size: a
//! list is limited to a number of names and bytes. Tolerates invalid rows.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::portrait::{Breakdown, Cohort, Dimension, OTHER_NAME, Repair, Repairs, UNKNOWN_NAME};

/// How many names of a list are kept, in the order of the answer; all others are added up under
/// [`OTHER_NAME`]. WeChat has some 370 cities.
const MAX_NAMES: usize = 2_000;

/// How many bytes of a name are kept.
const MAX_NAME_BYTES: usize = 256;

/// The spellings of the cohorts, the documented one first.
pub(super) const COHORT_KEYS: [(Cohort, &[&str]); 2] = [
    (Cohort::New, &["visit_uv_new", "visitUvNew"]),
    (Cohort::Active, &["visit_uv", "visitUv"]),
];

/// The spellings of the number in a row, the documented one first.
const VALUE_KEYS: &[&str] = &["value", "access_source_visit_uv", "accessSourceVisitUv"];

/// Returns the spellings of a dimension, the documented one first.
pub(super) fn dimension_keys(dimension: Dimension) -> &'static [&'static str] {
    match dimension {
        Dimension::Province => &["province"],
        Dimension::City => &["city"],
        Dimension::Gender => &["genders"],
        Dimension::Platform => &["platforms", "platfomrs"],
        Dimension::Device => &["devices"],
        Dimension::Age => &["ages"],
    }
}

/// The value under the best of several spellings of a key; the last one if a key is there twice.
#[derive(Debug)]
pub(super) struct Best<T>(Option<(usize, T)>);

impl<T> Default for Best<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Best<T> {
    /// Returns `true` if a value with this spelling would be used.
    pub(super) fn is_beaten_by(&self, spelling: usize) -> bool {
        self.0.as_ref().is_none_or(|(best, _)| spelling <= *best)
    }

    pub(super) fn offer(&mut self, spelling: usize, value: T) {
        if self.is_beaten_by(spelling) {
            self.0 = Some((spelling, value));
        }
    }

    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|(_, value)| value)
    }

    pub(super) fn into_inner(self) -> Option<T> {
        self.0.map(|(_, value)| value)
    }
}

impl<'a> Best<&'a RawValue> {
    /// Accepts the next value of an object, unless it is null.
    pub(super) fn read<A: MapAccess<'a>>(
        &mut self,
        spelling: usize,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let value: &RawValue = map.next_value()?;
        if value.get() != "null" {
            self.offer(spelling, value);
        }
        Ok(())
    }
}

/// The value under the key of a cohort.
#[derive(Debug)]
pub(super) enum Half {
    /// Lists of figures.
    Figures(Box<Figures>),
    /// A list, as in the answers of another API.
    List,
    /// Anything else.
    Other,
}

/// The lists of one cohort.
#[derive(Debug, Default)]
pub(super) struct Figures {
    lists: [Best<List>; Dimension::ALL.len()],
}

/// The value under the key of a dimension.
#[derive(Debug)]
enum List {
    Rows(Column),
    Other,
}

/// The figures of one list.
#[derive(Debug, Default)]
struct Column {
    breakdown: Breakdown,
    repairs: Repairs,
    /// Names in `breakdown` other than [`OTHER_NAME`].
    names: usize,
    /// Whether there was more than was kept.
    is_capped: bool,
}

impl Figures {
    /// Returns the breakdown of a dimension.
    ///
    /// # Errors
    ///
    /// It is not a list; the error is its documented key.
    pub(super) fn take(
        &mut self,
        dimension: Dimension,
        repairs: &mut Repairs,
        is_capped: &mut bool,
    ) -> Result<Breakdown, &'static str> {
        match std::mem::take(&mut self.lists[dimension as usize]).into_inner() {
            None => Ok(Breakdown::default()),
            Some(List::Rows(column)) => {
                repairs.add(&column.repairs);
                *is_capped |= column.is_capped;
                Ok(column.breakdown)
            }
            Some(List::Other) => Err(dimension_keys(dimension)[0]),
        }
    }
}

impl Column {
    fn add(&mut self, row: Option<&(Name<'_>, u64)>) {
        let (name, users) = match row {
            Some((Name::Blank, users)) => ("", *users),
            Some((Name::Text(name), users)) => (&**name, *users),
            Some((Name::Unreadable, _)) | None => {
                self.repairs[Repair::UnreadableValue] += 1;
                self.breakdown.set_partial();
                return;
            }
        };
        let mut kept = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
        self.is_capped |= kept.len() < name.len();
        if kept.trim().is_empty() {
            self.repairs[Repair::BlankName] += 1;
            kept = UNKNOWN_NAME;
        }
        if self.names >= MAX_NAMES && kept != OTHER_NAME && !self.breakdown.contains(kept) {
            self.is_capped = true;
            self.repairs[Repair::FoldedName] += 1;
            self.breakdown.add(OTHER_NAME.to_owned(), users);
        } else if self.breakdown.add(kept.to_owned(), users) {
            self.repairs[Repair::DuplicateName] += 1;
        } else if kept != OTHER_NAME {
            self.names += 1;
        }
    }
}

/// The name in a row.
enum Name<'a> {
    /// Missing, or null.
    Blank,
    Text(Cow<'a, str>),
    /// Neither text nor a number.
    Unreadable,
}

/// Reads a whole number, exactly up to the largest `u64`, also from text, and with zeros after the
/// decimal point.
pub(super) fn whole_number(value: &RawValue) -> Option<u64> {
    if let Some(text) = text(value) {
        return text.trim().parse().ok();
    }
    let number = value.get();
    match number.split_once('.') {
        None => number.parse().ok(),
        Some((whole, fraction)) if fraction.bytes().all(|digit| digit == b'0') => {
            whole.parse().ok()
        }
        Some(_) => None,
    }
}

/// Returns the text of a value that is a string.
pub(super) fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    let plain = raw.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(plain))
    }
}

/// Returns which of several spellings a key has.
pub(super) fn spelling(keys: &[&str], key: &str) -> Option<usize> {
    keys.iter().position(|spelling| *spelling == key)
}

/// Deserializes a key by looking it up, so that it is not copied.
pub(super) struct Key<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Key<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Key<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<T, E> {
        Ok((self.0)(key))
    }
}

/// Implements the methods of a visitor for values of these kinds, which are skipped and all give the
/// same result.
macro_rules! skip {
    ($de:lifetime, $value:expr, $($kind:ident)+) => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("JSON")
        }

        $(skip!(@ $kind $de $value);)+
    };
    (@ unit $de:lifetime $value:expr) => {
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ bool $de:lifetime $value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ numbers $de:lifetime $value:expr) => {
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ text $de:lifetime $value:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
    (@ list $de:lifetime $value:expr) => {
        fn visit_seq<A: SeqAccess<$de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
    (@ object $de:lifetime $value:expr) => {
        fn visit_map<A: MapAccess<$de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

pub(super) use skip;

/// Deserializes the value under the key of a cohort; `None` for null.
pub(super) struct HalfSeed;

impl<'de> DeserializeSeed<'de> for HalfSeed {
    type Value = Option<Half>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for HalfSeed {
    type Value = Option<Half>;

    skip!('de, Some(Half::Other), bool numbers text);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Some(Half::List))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut figures = Box::<Figures>::default();
        let known = |key: &str| {
            Dimension::ALL.into_iter().find_map(|dimension| {
                let spelling = spelling(dimension_keys(dimension), key)?;
                Some((dimension, spelling))
            })
        };
        while let Some(known) = map.next_key_seed(Key(known))? {
            let list = known
                .map(|(dimension, spelling)| (&mut figures.lists[dimension as usize], spelling));
            match list.filter(|(list, spelling)| list.is_beaten_by(*spelling)) {
                Some((best, spelling)) => {
                    if let Some(list) = map.next_value_seed(ListSeed)? {
                        best.offer(spelling, list);
                    }
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Some(Half::Figures(figures)))
    }
}

/// Deserializes the value under the key of a dimension; `None` for null.
struct ListSeed;

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = Option<List>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = Option<List>;

    skip!('de, Some(List::Other), bool numbers text object);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut column = Column::default();
        while let Some(row) = rows.next_element_seed(RowSeed)? {
            column.add(row.as_ref());
        }
        Ok(Some(List::Rows(column)))
    }
}

/// Deserializes a row; `None` if it has no readable number.
struct RowSeed;

impl<'de> DeserializeSeed<'de> for RowSeed {
    type Value = Option<(Name<'de>, u64)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed {
    type Value = Option<(Name<'de>, u64)>;

    skip!('de, None, unit bool numbers text list);

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<Self::Value, A::Error> {
        enum Column {
            Name,
            Value(usize),
            Other,
        }
        let known = |key: &str| match key {
            "name" => Column::Name,
            key => spelling(VALUE_KEYS, key).map_or(Column::Other, Column::Value),
        };
        let mut name = Name::Blank;
        let mut value = Best::<&RawValue>::default();
        while let Some(column) = row.next_key_seed(Key(known))? {
            match column {
                Column::Name => name = row.next_value_seed(NameSeed)?,
                Column::Value(spelling) => value.read(spelling, &mut row)?,
                Column::Other => {
                    row.next_value::<IgnoredAny>()?;
                }
            }
        }
        let users = value.get().and_then(|value| whole_number(value));
        Ok(users.map(|users| (name, users)))
    }
}

/// Deserializes the name in a row.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Name<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Name<'de>;

    skip!('de, Name::Unreadable, bool list object);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Name::Blank)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Name::Text(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Name::Text(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Name::Text(Cow::Owned(number.to_string())))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name::Text(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        // One byte more than the limit shows that it was longer.
        let end = name.ceil_char_boundary(MAX_NAME_BYTES + 1);
        Ok(Name::Text(Cow::Owned(name[..end].to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(rows: &str) -> Column {
        let mut deserializer = serde_json::Deserializer::from_str(rows);
        match ListSeed.deserialize(&mut deserializer).unwrap() {
            Some(List::Rows(column)) => column,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_beyond_the_limit_are_added_up() {
        let rows = |names: std::ops::Range<u32>| {
            let rows = names.map(|name| format!(r#"{{"name":"{name}","value":2}}"#));
            rows.collect::<Vec<_>>().join(",")
        };
        let whole = column(&format!("[{}]", rows(0..2_000)));
        assert_eq!((whole.breakdown.len(), whole.is_capped), (2_000, false));
        let capped = column(&format!("[{},{}]", rows(0..2_010), rows(1..2)));
        assert!(capped.is_capped);
        assert_eq!(capped.breakdown.len(), 2_001);
        assert_eq!(capped.repairs[Repair::FoldedName], 10);
        assert_eq!(capped.repairs[Repair::DuplicateName], 1);
        let users = |name| capped.breakdown.iter().find(|(other, _)| *other == name);
        assert_eq!(users(OTHER_NAME), Some((OTHER_NAME, 20)));
        assert_eq!(users("1"), Some(("1", 4)));
        assert_eq!(users("2000"), None);
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        for (name, bytes) in [
            ("市".repeat(100), 255),
            ("x".repeat(300), 256),
            ("\\u5e02".repeat(100), 255),
        ] {
            let column = column(&format!(r#"[{{"name":"{name}","value":1}}]"#));
            let names: Vec<_> = column.breakdown.iter().collect();
            assert_eq!((names.len(), names[0].0.len()), (1, bytes), "{name}");
            assert!(column.is_capped);
        }
        let blank = column(&format!(r#"[{{"name":"{}x","value":1}}]"#, " ".repeat(300)));
        assert!(blank.breakdown.contains(UNKNOWN_NAME));
    }
}
