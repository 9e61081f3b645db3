//! Writes figures as WeChat would have sent them.
//!
//! For figures that have no answer of their own, such as those of `import`, and for answers that
//! contain more than a portrait may. `decode` reads them back.

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::decode::ref_date;
use super::figures::{COHORT_KEYS, dimension_keys};
use crate::portrait::{Breakdown, Dimension, Portrait};

/// Returns a portrait as an answer of WeChat; equal portraits give equal texts.
#[must_use]
pub fn encode(portrait: &Portrait) -> String {
    // Writing plain texts and numbers to memory can't fail.
    serde_json::to_string(&Answer(portrait)).unwrap_or_default()
}

struct Answer<'a>(&'a Portrait);

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let portrait = self.0;
        let mut answer = serializer.serialize_map(None)?;
        let ref_date = ref_date(portrait.window, portrait.reference_date);
        answer.serialize_entry("ref_date", &ref_date)?;
        for (cohort, keys) in COHORT_KEYS {
            let lists = |dimension| portrait.breakdown(cohort, dimension);
            answer.serialize_entry(keys[0], &Half(lists))?;
        }
        answer.end()
    }
}

struct Half<F>(F);

impl<'a, F: Fn(Dimension) -> &'a Breakdown> Serialize for Half<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = |dimension| (dimension_keys(dimension)[0], Rows((self.0)(dimension)));
        serializer.collect_map(Dimension::ALL.into_iter().map(list))
    }
}

struct Rows<'a>(&'a Breakdown);

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    value: u64,
}

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.0.iter();
        let rows = rows.map(|(name, value)| Some(Row { name, value }));
        // A row that can't be read, so that the list is known to be incomplete.
        let missing = self.0.is_partial().then_some(None);
        serializer.collect_seq(rows.chain(missing))
    }
}
