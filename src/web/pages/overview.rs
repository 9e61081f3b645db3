//! `/`: every app with yesterday's users, what is unusual first.
#![expect(unreachable_pub, reason = "the macro makes public enums")]

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::NaiveDate;

use super::facts::{self, Facts, Figure};
use super::frame::{self, Choice, Frame, parameter, query};
use super::sentences::{self, Trouble};
use super::totals::Totals;
use crate::calendar;
use crate::chart::Sparkline;
use crate::expectation::float;
use crate::language::{self, Language};
use crate::portrait::{Cohort, Window, string_enum};
use crate::shard::Shard;
use crate::state::{AppSnapshot, Arrival, PolledBy};
use crate::web::state::AppState;

/// How many apps are on a page.
const PAGE_SIZE: usize = 50;

/// How many characters of what is searched for are used.
const LONGEST_SEARCH: usize = 100;

/// How many unusual figures of an app are shown.
const MOST_ALERTS: usize = 2;

string_enum! {
    /// Which apps are listed.
    Filter, "filter" {
        All = "all",
        /// Those with unusual figures.
        Swings = "swings",
        /// Those whose polls fail.
        Failures = "failures",
        /// Those of which yesterday has not arrived.
        Missing = "missing",
    }
}

string_enum! {
    /// How apps are sorted.
    Order, "order" {
        Importance = "importance",
        Name = "name",
        New = "new",
        Active = "active",
        NewChange = "new_change",
        ActiveChange = "active_change",
    }
}

/// What the visitor has selected.
#[derive(Debug, Clone)]
struct Selection {
    search: String,
    filter: Filter,
    order: Order,
    /// From 1.
    page: usize,
}

#[derive(Debug, Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    selection: Selection,
    totals: Totals,
    /// How many apps each filter finds.
    counts: [usize; Filter::ALL.len()],
    /// Whether the archive is still being read, or an app has not been polled yet.
    is_starting: bool,
    shard: Shard,
    /// How many apps another exporter polls.
    polled_elsewhere: usize,
    found: usize,
    pages: usize,
    rows: Vec<Row>,
}

/// An app.
#[derive(Debug)]
struct Row {
    appid: String,
    name: String,
    cells: [Cell; Cohort::ALL.len()],
    /// What is unusual, or the largest change.
    changes: Vec<String>,
    more_changes: usize,
    has_alerts: bool,
    arrival: &'static str,
    arrival_class: &'static str,
    /// The window, if it is not 1d.
    window: Option<&'static str>,
    /// When the newest answer arrived, or the day that is shown if that is not yesterday.
    arrived: String,
    /// Whether WeChat returns portraits without users.
    has_no_users: bool,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Cell {
    figure: Figure,
    sparkline: String,
}

pub(in crate::web) async fn overview(
    State(state): State<Arc<AppState>>,
    Query(parameters): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let frame = Frame::new(&state, &parameters, &headers, "");
    let selection = Selection::of(&parameters);
    let language = frame.language;
    let rendering = state.rendering.clone();
    frame::respond(&rendering, language, headers, move || {
        Overview::new(&state, frame, selection)
    })
    .await
}

impl Selection {
    /// Takes what is valid, and the default for everything else.
    fn of(parameters: &[(String, String)]) -> Self {
        let parameter = |name| parameter(parameters, name).unwrap_or_default();
        Self {
            search: parameter("q").trim().chars().take(LONGEST_SEARCH).collect(),
            filter: parameter("show").parse().unwrap_or(Filter::All),
            order: parameter("sort").parse().unwrap_or(Order::Importance),
            page: parameter("page").parse().unwrap_or(1).max(1),
        }
    }

    /// Keeps the apps whose name, appid or value of a label contains what is searched for.
    fn search(&self, apps: &mut Vec<Facts<'_>>) {
        let search = self.search.to_lowercase();
        let is_in = |text: &str| text.to_lowercase().contains(&search);
        if !search.is_empty() {
            apps.retain(|facts| {
                let AppSnapshot {
                    appid,
                    name,
                    labels,
                    ..
                } = facts.app;
                is_in(name) || is_in(appid.as_str()) || labels.values().any(|value| is_in(value))
            });
        }
    }
}

impl Filter {
    fn keeps(self, facts: &Facts<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Swings => !facts.alerts.is_empty(),
            Self::Failures => !facts.failures.is_empty(),
            Self::Missing => !facts.has_yesterday(),
        }
    }
}

impl Order {
    /// Sorts apps; by a figure with the largest first, and those without it last.
    fn sort(self, apps: &mut [Facts<'_>]) {
        // Users of other windows are not comparable.
        let figure = |facts: &Facts<'_>, cohort| {
            let figure = facts.figure(cohort);
            if facts.is_daily() {
                figure
            } else {
                Figure::default()
            }
        };
        let users = |cohort| move |facts: &Facts<'_>| figure(facts, cohort).users.map(float);
        let change = |cohort| move |facts: &Facts<'_>| figure(facts, cohort).change().map(f64::abs);
        match self {
            Self::Importance => apps.sort_by_cached_key(Facts::importance),
            Self::Name => apps.sort_by_cached_key(|facts| facts.app.name.to_lowercase()),
            Self::New => sort_by(apps, users(Cohort::New)),
            Self::Active => sort_by(apps, users(Cohort::Active)),
            Self::NewChange => sort_by(apps, change(Cohort::New)),
            Self::ActiveChange => sort_by(apps, change(Cohort::Active)),
        }
    }

    fn label(self, language: Language) -> &'static str {
        match self {
            Self::Importance => language.pick("异常与故障优先", "unusual and failing first"),
            Self::Name => language.pick("名称", "name"),
            Self::New => language.pick("新增用户", "new users"),
            Self::Active => language.pick("活跃用户", "active users"),
            Self::NewChange => language.pick("新增变化幅度", "change of new users"),
            Self::ActiveChange => language.pick("活跃变化幅度", "change of active users"),
        }
    }
}

fn sort_by(apps: &mut [Facts<'_>], value: impl Fn(&Facts<'_>) -> Option<f64>) {
    let value = |facts: &Facts<'_>| value(facts).unwrap_or(f64::NEG_INFINITY);
    apps.sort_by(|one, other| value(other).total_cmp(&value(one)));
}

impl Overview {
    fn new(state: &AppState, frame: Frame, mut selection: Selection) -> Self {
        let apps = state.registry.all();
        let polled_elsewhere = apps.iter().filter(|app| app.polled_by == PolledBy::Other);
        let mut found: Vec<_> = apps.iter().map(|app| Facts::new(app, frame.now)).collect();
        let totals = Totals::new(&found, frame.language);
        selection.search(&mut found);
        let counts = Filter::ALL.map(|filter| found.iter().filter(|app| filter.keeps(app)).count());
        found.retain(|facts| selection.filter.keeps(facts));
        selection.order.sort(&mut found);
        let pages = found.len().div_ceil(PAGE_SIZE).max(1);
        selection.page = selection.page.min(pages);
        let first = PAGE_SIZE * (selection.page - 1);
        let rows = found.iter().skip(first).take(PAGE_SIZE);
        Self {
            counts,
            totals,
            is_starting: !state.registry.is_ready(),
            shard: state.shard,
            polled_elsewhere: polled_elsewhere.count(),
            found: found.len(),
            pages,
            rows: rows.map(|facts| Row::new(facts, &frame)).collect(),
            frame,
            selection,
        }
    }

    fn t(&self, chinese: &'static str, english: &'static str) -> &'static str {
        self.frame.language.pick(chinese, english)
    }

    /// Returns a link to the same list with some of the selection replaced.
    fn link(&self, filter: Filter, page: usize, language: Option<Language>) -> String {
        let Selection { search, order, .. } = &self.selection;
        let page = page.to_string();
        let language = language.or(self.frame.chosen);
        let link = query([
            ("q", search.as_str()),
            (
                "show",
                unless_default(filter.as_str(), Filter::All.as_str()),
            ),
            (
                "sort",
                unless_default(order.as_str(), Order::Importance.as_str()),
            ),
            ("page", unless_default(&page, "1")),
            ("lang", language.map_or("", Language::as_str)),
        ]);
        // An empty link would keep the parameters of the address.
        format!("?{link}")
    }

    fn languages(&self) -> [Choice; Language::ALL.len()] {
        let Selection { filter, page, .. } = self.selection;
        frame::languages(&self.frame, |language| {
            self.link(filter, page, Some(language))
        })
    }

    fn link_to_page(&self, step: isize) -> String {
        let page = self.selection.page.saturating_add_signed(step);
        self.link(self.selection.filter, page, None)
    }

    fn orders(&self) -> impl Iterator<Item = (Order, &'static str, bool)> {
        let orders = Order::ALL.into_iter();
        orders.map(|order| {
            let label = order.label(self.frame.language);
            (order, label, order == self.selection.order)
        })
    }

    /// Returns `true` if not all apps are listed.
    fn is_selection(&self) -> bool {
        let Selection { search, filter, .. } = &self.selection;
        !search.is_empty() || *filter != Filter::All
    }

    /// Returns the newest day of which there may be figures.
    fn expected_day(&self) -> NaiveDate {
        calendar::newest_queryable(self.frame.now)
    }

    fn day(&self) -> String {
        let day = self.totals.day;
        day.map_or_else(String::new, |day| self.frame.language.day(day))
    }

    fn number(number: usize) -> String {
        language::number(u64::try_from(number).unwrap_or(u64::MAX))
    }

    fn filters(&self) -> impl Iterator<Item = (Choice, usize)> {
        let labels = [
            self.t("全部", "All"),
            self.t("异常", "Unusual"),
            self.t("故障", "Failing"),
            self.t("数据未到", "Not arrived"),
        ];
        let filters = Filter::ALL.into_iter().zip(labels).zip(self.counts);
        filters.map(|((filter, label), count)| {
            let choice = Choice {
                link: self.link(filter, 1, None),
                label,
                is_current: filter == self.selection.filter,
            };
            (choice, count)
        })
    }

    fn totals(&self) -> impl Iterator<Item = (&'static str, String, String)> {
        let of_cohorts = Cohort::ALL.into_iter().zip(self.totals.figures);
        of_cohorts.map(|(cohort, total)| {
            let change = total.change().map(language::change);
            (
                sentences::cohort_title(self.frame.language, cohort),
                sentences::users(total.users),
                change.unwrap_or_default(),
            )
        })
    }
}

fn unless_default<'a>(value: &'a str, default: &str) -> &'a str {
    if value == default { "" } else { value }
}

impl Row {
    fn new(facts: &Facts<'_>, frame: &Frame) -> Self {
        let language = frame.language;
        let cells = Cohort::ALL.map(|cohort| Cell::new(facts, cohort));
        let alerts = facts.alerts.iter().take(MOST_ALERTS);
        let mut changes: Vec<_> = alerts
            .map(|alert| sentences::alert(language, facts, *alert))
            .collect();
        let has_alerts = !changes.is_empty();
        let is_unpolled = facts.arrival == Arrival::Never && facts.is_unpolled();
        if let Some((cohort, name, users, usual)) = facts.largest_change().filter(|_| !has_alerts) {
            let what = format!(
                "{} {}",
                sentences::name(language, name),
                sentences::cohort(language, cohort)
            );
            changes.push(sentences::against_usual(language, &what, users, usual));
        }
        let arrived = match (facts.arrival, facts.window) {
            (Arrival::Never, _) | (_, None) => None,
            (Arrival::Stale | Arrival::Awaited, Some(window)) => {
                window.reference_date.map(|day| language.day(day))
            }
            (_, Some(window)) => window.last_success_at.map(|time| frame.time(time)),
        };
        Self {
            appid: facts.app.appid.to_string(),
            name: facts.app.name.clone(),
            cells,
            changes,
            more_changes: facts.alerts.len().saturating_sub(MOST_ALERTS),
            has_alerts,
            arrival: if is_unpolled {
                language.pick("尚未拉取", "not polled yet")
            } else {
                sentences::arrival(language, facts.arrival)
            },
            arrival_class: if is_unpolled {
                "quiet"
            } else {
                facts::arrival_class(facts.arrival)
            },
            window: facts
                .window
                .map(|window| window.window)
                .filter(|window| *window != Window::OneDay)
                .map(|window| sentences::window(language, window)),
            has_no_users: facts.has_no_users(),
            arrived: arrived.unwrap_or_default(),
            trouble: Trouble::of(facts, language),
        }
    }
}

impl Cell {
    fn new(facts: &Facts<'_>, cohort: Cohort) -> Self {
        let figure = facts.figure(cohort);
        let recent = facts
            .summary()
            .map(|summary| &summary.cohorts[cohort as usize].recent);
        let recent = recent.into_iter().flatten().rev();
        let values: Vec<_> = recent.map(|users| users.map(float)).collect();
        Self {
            sparkline: Sparkline {
                values: &values,
                expected: figure.bounds.map(|bounds| (bounds.lower, bounds.upper)),
                swing: figure.swing(),
            }
            .to_string(),
            figure,
        }
    }

    fn users(&self) -> String {
        sentences::users(self.figure.users)
    }

    fn change(&self) -> String {
        let change = self.figure.change();
        change.map_or_else(String::new, language::change)
    }

    fn arrow(&self) -> &'static str {
        facts::arrow(self.figure.swing())
    }

    fn class(&self) -> &'static str {
        facts::class(self.figure.swing())
    }
}
