//! The figures of a day that later days are compared with, as the archive stores them with the
//! answer: a small JSON text that `sqlite3` can query as well.
//!
//! `{"new":{"platform":{"iPhone":60}},"active":{…}}`, in the dimensions of which WeChat lists every
//! name; `"partial":["new platform"]` where a row could not be read.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};

use crate::portrait::{Cohort, Dimension, Portrait, Window};

#[derive(Serialize, Deserialize)]
struct Figures<'a> {
    #[serde(borrow, default)]
    new: Half<'a>,
    #[serde(borrow, default)]
    active: Half<'a>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partial: Vec<String>,
}

type Half<'a> = BTreeMap<Dimension, BTreeMap<Cow<'a, str>, u64>>;

/// Writes the figures of a portrait.
pub(super) fn encode(portrait: &Portrait) -> String {
    let half = |cohort| {
        let dimensions = Dimension::ALL.into_iter();
        let dimensions = dimensions.filter(|dimension| dimension.lists_every_name());
        dimensions
            .map(|dimension| {
                let rows = portrait.breakdown(cohort, dimension).iter();
                let rows = rows.map(|(name, users)| (Cow::Borrowed(name), users));
                (dimension, rows.collect())
            })
            .collect()
    };
    let partial = portrait.partial_breakdowns();
    let partial = partial.filter(|(_, dimension)| dimension.lists_every_name());
    let figures = Figures {
        new: half(Cohort::New),
        active: half(Cohort::Active),
        partial: partial
            .map(|(cohort, dimension)| format!("{cohort} {dimension}"))
            .collect(),
    };
    serde_json::to_string(&figures).unwrap_or_default()
}

/// Reads figures back; `None` if that is impossible.
pub(super) fn decode(text: &str, window: Window, reference_date: NaiveDate) -> Option<Portrait> {
    let figures: Figures<'_> = serde_json::from_str(text).ok()?;
    let mut portrait = Portrait::new(window, reference_date);
    for (cohort, half) in [(Cohort::New, figures.new), (Cohort::Active, figures.active)] {
        for (dimension, rows) in half {
            let breakdown = portrait.breakdown_mut(cohort, dimension);
            for (name, users) in rows {
                breakdown.add(name.into_owned(), users);
            }
        }
    }
    for place in figures.partial {
        let (cohort, dimension) = place.split_once(' ')?;
        portrait
            .breakdown_mut(cohort.parse().ok()?, dimension.parse().ok()?)
            .set_partial();
    }
    Some(portrait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_back_in_the_dimensions_that_list_every_name() {
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        let mut portrait = Portrait::new(Window::OneDay, day);
        for (dimension, name) in [
            (Dimension::Platform, "i\"Phone\n"),
            (Dimension::Age, "未知"),
        ] {
            let breakdown = portrait.breakdown_mut(Cohort::New, dimension);
            breakdown.add(name.to_owned(), u64::MAX);
        }
        portrait
            .breakdown_mut(Cohort::Active, Dimension::Gender)
            .set_partial();
        let text = encode(&portrait);
        assert_eq!(decode(&text, Window::OneDay, day), Some(portrait.clone()));

        let cities = portrait.breakdown_mut(Cohort::New, Dimension::City);
        cities.add("上海".to_owned(), 1);
        assert_eq!(encode(&portrait), text);
        for damaged in ["", "{\"new\":{\"town\":{}}}", "{\"partial\":[\"new\"]}"] {
            assert_eq!(decode(damaged, Window::OneDay, day), None, "{damaged}");
        }
    }
}
