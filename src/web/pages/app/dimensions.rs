//! The users of an app by the names of a dimension.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::chart::Bar;
use crate::expectation::float;
use crate::language::{self, Language};
use crate::portrait::{Breakdown, Cohort, Dimension, Portrait};
use crate::web::pages::sentences;

/// How many names of a dimension are shown at once.
const FIRST_NAMES: usize = 10;

#[derive(Debug)]
pub(super) struct DimensionTable {
    pub(super) dimension: Dimension,
    pub(super) label: &'static str,
    pub(super) first: Vec<NameRow>,
    pub(super) more: Vec<NameRow>,
    pub(super) note: &'static str,
}

/// The users under a name of a dimension.
#[derive(Debug)]
pub(super) struct NameRow {
    pub(super) name: String,
    pub(super) bar: String,
    pub(super) active: String,
    pub(super) active_share: String,
    /// The change of active users in a week.
    pub(super) change: String,
    pub(super) new: String,
    pub(super) new_share: String,
}

impl DimensionTable {
    pub(super) fn new(
        language: Language,
        dimension: Dimension,
        newest: &Portrait,
        week_before: Option<&Portrait>,
    ) -> Self {
        let [new, active] = Cohort::ALL.map(|cohort| newest.breakdown(cohort, dimension));
        let before = week_before.map(|portrait| portrait.breakdown(Cohort::Active, dimension));
        // A name that WeChat does not list has no users only where it lists every name.
        let users_of = |breakdown: &Breakdown, name: &str| {
            if dimension.lists_every_name() {
                breakdown.users_of(name)
            } else {
                breakdown.listed(name)
            }
        };
        let [all_new, all_active] = Cohort::ALL.map(|cohort| total(newest, cohort, dimension));
        let all_before = week_before.map(|portrait| total(portrait, Cohort::Active, dimension));
        let names = new.iter().chain(active.iter()).map(|(name, _)| name);
        let names: BTreeSet<&str> = names.collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        if dimension != Dimension::Age {
            names.sort_by_key(|name| Reverse((active.listed(name), new.listed(name))));
        }
        let share = |users: Option<u64>, total: f64| {
            Some(float(users?) / total).filter(|share| share.is_finite())
        };
        // Bars are compared with each other, and cities have small shares.
        let shares = names
            .iter()
            .filter_map(|name| share(active.listed(name), all_active));
        let largest = shares.fold(0.0, f64::max);
        let rows = names.into_iter().map(|name| {
            let [of_new, of_active] = [new, active].map(|breakdown| users_of(breakdown, name));
            let of_before = before.and_then(|breakdown| users_of(breakdown, name));
            let active_share = share(of_active, all_active);
            let bar = Bar {
                share: active_share.unwrap_or_default() / largest,
                compared: share(of_before, all_before.unwrap_or_default())
                    .map(|share| share / largest),
            };
            let change = of_active
                .zip(of_before)
                .map(|(users, before)| sentences::change(users, before));
            let text = |share: Option<f64>| share.map_or_else(String::new, language::share);
            NameRow {
                name: sentences::name(language, name).to_owned(),
                bar: bar.to_string(),
                active: sentences::users(of_active),
                active_share: text(active_share),
                change: change.unwrap_or_default(),
                new: sentences::users(of_new),
                new_share: text(share(of_new, all_new)),
            }
        });
        let mut first: Vec<_> = rows.collect();
        let more = first.split_off(first.len().min(FIRST_NAMES));
        Self {
            dimension,
            label: sentences::dimension(language, dimension),
            first,
            more,
            note: match dimension {
                Dimension::Device => language.pick(
                    "微信仅返回用户数最多的 20 款机型。",
                    "WeChat lists the 20 most frequent models only.",
                ),
                _ => "",
            },
        }
    }

    pub(super) fn count(&self) -> usize {
        self.first.len() + self.more.len()
    }
}

/// Returns the users that shares in a dimension are of: those of the whole cohort, or those of the dimension
/// where they are more or the platforms are not known.
fn total(portrait: &Portrait, cohort: Cohort, dimension: Dimension) -> f64 {
    let of_dimension = portrait.breakdown(cohort, dimension);
    let of_dimension = of_dimension.iter().map(|(_, users)| float(users)).sum();
    if dimension.lists_every_name() {
        return of_dimension;
    }
    let of_cohort = portrait.breakdown(cohort, Dimension::Platform).total();
    of_cohort.map_or(of_dimension, |users| float(users).max(of_dimension))
}
