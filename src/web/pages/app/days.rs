//! The days of an app as charts, and the tables behind them.

use std::cmp::Reverse;

use chrono::NaiveDate;

use crate::calendar::DayKind;
use crate::chart::{self, Axes, DayChart, DayShares, Expected, Shade, ShareChart, Swing};
use crate::expectation::float;
use crate::history::{self, History};
use crate::language::{self, Language};
use crate::portrait::{Breakdown, Cohort, Window};
use crate::web::pages::facts;
use crate::web::pages::sentences;

/// How many platforms the chart of shares has, the last of which is the rest.
const MOST_SERIES: usize = 8;

/// The days of a cohort as a chart, and as a table.
#[derive(Debug)]
pub(super) struct CohortDays {
    pub(super) title: String,
    pub(super) chart: String,
    /// The newest first.
    pub(super) rows: Vec<DayRow>,
}

#[derive(Debug)]
pub(super) struct DayRow {
    pub(super) day: String,
    pub(super) kind: String,
    pub(super) users: String,
    pub(super) usual: String,
    pub(super) swing: &'static str,
}

/// The shares of platforms by day.
#[derive(Debug)]
pub(super) struct Shares {
    pub(super) names: Vec<String>,
    pub(super) chart: String,
    /// The newest first: the day, and the share of every name.
    pub(super) rows: Vec<(String, Vec<String>)>,
}

impl CohortDays {
    pub(super) fn new(
        language: Language,
        window: Window,
        history: &History,
        cohort: Cohort,
    ) -> Self {
        let shown = since_first(history);
        let newest = shown.last().map(|day| day.reference_date);
        // The first days of an app have such wide bounds that its figures would be hard to see.
        let users = shown
            .iter()
            .filter_map(|day| day.cohorts[cohort as usize].users);
        let highest = 1.5 * float(users.max().unwrap_or_default());
        let mut rows = Vec::new();
        let days = shown.iter().map(|day| {
            let of_cohort = &day.cohorts[cohort as usize];
            let swing = of_cohort.swing().and_then(facts::direction);
            let row = DayRow::new(language, day, of_cohort);
            let tooltip = row.tooltip(language);
            rows.push(row);
            chart::Day {
                date: day.reference_date,
                value: of_cohort.users.map(float),
                expected: of_cohort.expected.map(|bounds| Expected {
                    lower: bounds.lower,
                    usual: bounds.usual,
                    upper: bounds.upper.min(highest.max(bounds.usual)),
                }),
                shade: match day.kind {
                    DayKind::Weekend => Shade::Weekend,
                    DayKind::Holiday => Shade::Holiday,
                    DayKind::Workday | DayKind::MakeupWorkday | DayKind::Unknown => Shade::None,
                },
                swing,
                provisional: Some(day.reference_date) == newest
                    && day.state.is_some_and(|state| !state.settled),
                tooltip,
            }
        });
        let days: Vec<_> = days.collect();
        let users = sentences::cohort_title(language, cohort);
        let title = match window {
            Window::OneDay => language.pick(format!("每日{users}"), format!("{users} by day")),
            Window::SevenDays | Window::ThirtyDays => {
                let days = window.days();
                language.pick(
                    format!("近 {days} 天{users}，按截止日期"),
                    format!("{users} in {days} days, by the last day"),
                )
            }
        };
        let chart = DayChart {
            id: cohort.as_str(),
            axes: Axes {
                name: &title,
                value: &|value| language.compact(value),
                date: &|day| date_label(day, days.len()),
            },
            days: &days,
        };
        let chart = chart.to_string();
        rows.reverse();
        Self { title, chart, rows }
    }
}

/// Returns the active users of a day by platform.
fn platforms(day: &history::Day) -> &Breakdown {
    &day.cohorts[Cohort::Active as usize].platforms
}

/// Returns the days from the first archived one on.
fn since_first(history: &History) -> &[history::Day] {
    let first = history.days.iter().position(|day| day.state.is_some());
    first.map_or(&[], |first| &history.days[first..])
}

/// Returns the label of a day on an axis of so many days.
fn date_label(day: NaiveDate, days: usize) -> String {
    let format = if days <= 100 { "%m-%d" } else { "%Y-%m" };
    day.format(format).to_string()
}

impl DayRow {
    fn new(language: Language, day: &history::Day, cohort: &history::CohortDay) -> Self {
        let usual = cohort.expected.map(|bounds| {
            let [usual, lower, upper] =
                [bounds.usual, bounds.lower, bounds.upper].map(language::rounded);
            language.pick(
                format!("{usual}（{lower}–{upper}）"),
                format!("{usual} ({lower}–{upper})"),
            )
        });
        Self {
            day: language.day(day.reference_date),
            kind: sentences::day_kind(language, day.kind, &day.holiday),
            users: sentences::users(cohort.users),
            usual: usual.unwrap_or_default(),
            swing: match cohort.swing().and_then(facts::direction) {
                Some(Swing::Up) => language.pick("▲ 偏高", "▲ high"),
                Some(Swing::Down) => language.pick("▼ 偏低", "▼ low"),
                None => "",
            },
        }
    }

    fn tooltip(&self, language: Language) -> String {
        let Self {
            day,
            kind,
            users,
            usual,
            swing,
        } = self;
        let mut text = format!("{day} {kind}{}{users}", language.pick("：", ": "));
        if !usual.is_empty() {
            text += language.pick("，往常 ", ", usually ");
            text += usual;
        }
        if !swing.is_empty() {
            text += " ";
            text += swing;
        }
        text
    }
}

impl Shares {
    /// Returns `None` if no day has platforms.
    pub(super) fn new(language: Language, history: &History) -> Option<Self> {
        let mut all = Breakdown::default();
        for day in &history.days {
            for (name, users) in platforms(day).iter() {
                all.add(name.to_owned(), users);
            }
        }
        let mut kept: Vec<(&str, u64)> = all.iter().filter(|(_, users)| *users > 0).collect();
        kept.sort_by_key(|(_, users)| Reverse(*users));
        let has_rest = kept.len() > MOST_SERIES;
        if has_rest {
            kept.truncate(MOST_SERIES - 1);
        }
        let kept: Vec<&str> = kept.into_iter().map(|(name, _)| name).collect();
        let mut names: Vec<_> = kept
            .iter()
            .map(|name| sentences::name(language, name).to_owned())
            .collect();
        names.extend(has_rest.then(|| language.pick("其余", "others").to_owned()));
        if names.is_empty() {
            return None;
        }
        let mut rows = Vec::new();
        let days = since_first(history).iter().map(|day| {
            let platforms = platforms(day);
            let mut values: Vec<f64> = kept
                .iter()
                .map(|name| float(platforms.users_of(name).unwrap_or_default()))
                .collect();
            let total = platforms.total().map_or(0.0, float);
            if has_rest {
                values.push((total - values.iter().sum::<f64>()).max(0.0));
            }
            if total == 0.0 {
                values.clear();
            }
            let shares: Vec<_> = values
                .iter()
                .map(|value| language::share(value / total))
                .collect();
            let date = language.day(day.reference_date);
            let mut tooltip = date.clone();
            for (name, share) in names.iter().zip(&shares) {
                tooltip.extend(["\n", name, " ", share]);
            }
            rows.push((date, shares));
            DayShares {
                date: day.reference_date,
                values,
                tooltip,
            }
        });
        let days: Vec<_> = days.collect();
        let series: Vec<&str> = names.iter().map(String::as_str).collect();
        let chart = ShareChart {
            axes: Axes {
                name: language.pick("活跃用户的平台占比", "Share of platforms in active users"),
                value: &|share| format!("{:.0}%", 100.0 * share),
                date: &|day| date_label(day, days.len()),
            },
            series: &series,
            days: &days,
        };
        let chart = chart.to_string();
        rows.reverse();
        rows.retain(|(_, shares)| !shares.is_empty());
        Some(Self { names, chart, rows })
    }
}
