//! The figures of a portrait in the shape of WeChat's JSON.
//!
//! Knows the keys and their order, how a window is spelled, and how all figures are scaled. Figures
//! come from `profile`.

use chrono::NaiveDate;
use serde::Serialize;

use super::random::{as_float, rounded};
use crate::calendar;
use crate::portrait::{Dimension, Window};

/// The body of a successful response, its keys in the order of the documentation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) ref_date: String,
    pub(super) visit_uv_new: CohortFigures,
    pub(super) visit_uv: CohortFigures,
}

/// The six dimensions of one cohort.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct CohortFigures {
    pub(super) province: Vec<Row>,
    pub(super) city: Vec<Row>,
    pub(super) genders: Vec<Row>,
    pub(super) platforms: Vec<Row>,
    pub(super) devices: Vec<Row>,
    pub(super) ages: Vec<Row>,
}

/// One name and its users.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<u32>,
    pub(super) name: &'static str,
    pub(super) value: u64,
}

impl CohortFigures {
    pub(super) fn rows_mut(&mut self, dimension: Dimension) -> &mut Vec<Row> {
        match dimension {
            Dimension::Province => &mut self.province,
            Dimension::City => &mut self.city,
            Dimension::Gender => &mut self.genders,
            Dimension::Platform => &mut self.platforms,
            Dimension::Device => &mut self.devices,
            Dimension::Age => &mut self.ages,
        }
    }
}

impl Figures {
    /// Returns what WeChat sends while it has not computed the figures yet.
    pub(super) fn empty(window: Window, reference_date: NaiveDate) -> Self {
        Self {
            ref_date: ref_date(window, reference_date),
            visit_uv_new: CohortFigures::default(),
            visit_uv: CohortFigures::default(),
        }
    }

    /// Multiplies every figure, and removes the names that have no users left.
    pub(super) fn scale(&mut self, factor: f64) {
        for half in [&mut self.visit_uv_new, &mut self.visit_uv] {
            for dimension in Dimension::ALL {
                half.rows_mut(dimension).retain_mut(|row| {
                    row.value = rounded(as_float(row.value) * factor);
                    row.value > 0
                });
            }
        }
    }
}

/// Spells a window as WeChat does.
pub(super) fn ref_date(window: Window, reference_date: NaiveDate) -> String {
    let (first, last) = calendar::range(window, reference_date);
    let last = last.format("%Y%m%d");
    match window {
        Window::OneDay => last.to_string(),
        Window::SevenDays | Window::ThirtyDays => format!("{}-{last}", first.format("%Y%m%d")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_spelled_as_wechat_does() {
        let end = "2026-11-20".parse().unwrap();
        assert_eq!(ref_date(Window::OneDay, end), "20261120");
        assert_eq!(ref_date(Window::SevenDays, end), "20261114-20261120");
    }
}
