//! `/apps/APPID`: one app, with its history and its dimensions.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::NaiveDate;

use super::facts::{self, Arrival, Facts, Figure, float};
use super::frame::{self, Choice, Frame, parameter, query};
use super::sentences::{self, Trouble};
use crate::calendar::{self, DayKind};
use crate::chart::{self, Axes, Bar, DayChart, DayShares, Expected, Shade, ShareChart, Swing};
use crate::history::{self, History};
use crate::language::{self, Language};
use crate::portrait::{Breakdown, Cohort, Dimension, Portrait, Window};
use crate::state::{AppSnapshot, WindowSnapshot};
use crate::web::histories::AppHistory;
use crate::web::state::AppState;

/// The lengths of history to choose from, in days.
const RANGES: [u64; 3] = [30, 90, 400];

/// The range that is shown unless another is chosen.
const DEFAULT_RANGE: u64 = RANGES[1];

/// How many names of a dimension are shown at once.
const FIRST_NAMES: usize = 10;

/// How many platforms the chart of shares has, the last of which is the rest.
const MOST_SERIES: usize = 8;

#[derive(Debug, Template)]
#[template(path = "app.html")]
struct AppPage {
    frame: Frame,
    appid: String,
    name: String,
    shown: ShownWindow,
    arrival: &'static str,
    arrival_class: &'static str,
    next_poll: String,
    alerts: Vec<String>,
    trouble: Option<Trouble>,
    windows: Vec<WindowRow>,
    archive: Result<Charts, String>,
    stock: Stock,
    queries: Vec<(&'static str, String)>,
}

/// The window that is shown.
#[derive(Debug)]
struct ShownWindow {
    window: Window,
    days: u64,
    day: String,
    kind: String,
    headlines: Vec<Headline>,
}

/// A cohort in words.
#[derive(Debug)]
struct Headline {
    cohort: Cohort,
    label: &'static str,
    users: String,
    change: String,
    swing: Option<Swing>,
    /// What it is compared with, or why with nothing.
    notes: Vec<String>,
}

#[derive(Debug)]
struct WindowRow {
    choice: Choice,
    day: String,
    users: [String; Cohort::ALL.len()],
    arrival: &'static str,
}

/// What comes from the archive.
#[derive(Debug)]
struct Charts {
    days: Vec<CohortDays>,
    shares: Option<Shares>,
    dimensions: Vec<DimensionTable>,
    revised: Vec<(String, u32, String)>,
}

/// The days of a cohort as a chart, and as a table.
#[derive(Debug)]
struct CohortDays {
    label: &'static str,
    chart: String,
    /// The newest first.
    rows: Vec<DayRow>,
}

#[derive(Debug)]
struct DayRow {
    day: String,
    kind: String,
    users: String,
    usual: String,
    swing: &'static str,
}

/// The shares of platforms by day.
#[derive(Debug)]
struct Shares {
    names: Vec<String>,
    chart: String,
    /// The newest first: the day, and the share of every name.
    rows: Vec<(String, Vec<String>)>,
}

#[derive(Debug)]
struct DimensionTable {
    dimension: Dimension,
    label: &'static str,
    first: Vec<NameRow>,
    more: Vec<NameRow>,
    note: &'static str,
}

/// The users under a name of a dimension.
#[derive(Debug)]
struct NameRow {
    name: String,
    bar: String,
    active: String,
    active_share: String,
    /// The change of active users in a week.
    change: String,
    new: String,
    new_share: String,
}

/// What is archived.
#[derive(Debug)]
struct Stock {
    days: u64,
    range: String,
    gaps: Vec<String>,
    more_gaps: usize,
    revisions: u64,
    unstored: usize,
    polls: Vec<PollRow>,
}

#[derive(Debug)]
struct PollRow {
    at: String,
    day: String,
    outcome: String,
}

/// How many gaps are listed.
const MOST_GAPS: usize = 10;

/// Returns the page of an app.
pub(in crate::web) async fn app(
    state: &AppState,
    app: Arc<AppSnapshot>,
    parameters: &[(String, String)],
    headers: HeaderMap,
) -> Response {
    let frame = Frame::new(state, parameters, &headers, "../");
    let windows = || app.windows.iter();
    let wanted = parameter(parameters, "window").and_then(|window| window.parse().ok());
    let place = windows().position(|window| Some(window.window) == wanted);
    let daily = || windows().position(|window| window.window == Window::OneDay);
    let place = place.or_else(daily).unwrap_or_default();
    let days = parameter(parameters, "days").and_then(|days| days.parse().ok());
    let days = days
        .filter(|days| RANGES.contains(days))
        .unwrap_or(DEFAULT_RANGE);
    // Every app has a window.
    let window = &app.windows[place];
    let histories = &state.histories;
    let archived = histories.get(&state.archive, &app, window, days).await;
    let archived = archived.map_err(|error| error.to_string());
    let language = frame.language;
    frame::respond(language, headers, move || {
        AppPage::new(frame, &app, place, days, archived)
    })
    .await
}

impl AppPage {
    fn new(
        frame: Frame,
        app: &AppSnapshot,
        place: usize,
        days: u64,
        archived: Result<Arc<AppHistory>, String>,
    ) -> Self {
        let language = frame.language;
        let facts = Facts::new(app, frame.now);
        let window = &app.windows[place];
        let known = archived.as_ref().ok().map(|archived| &archived.history);
        let shown = ShownWindow {
            window: window.window,
            days,
            day: window
                .reference_date
                .map_or_else(String::new, |day| language.day(day)),
            kind: window.summary.as_ref().map_or_else(String::new, |summary| {
                sentences::day_kind(language, summary.day_kind, &summary.holiday)
            }),
            headlines: Cohort::ALL
                .map(|cohort| Headline::new(language, window, known, cohort))
                .into(),
        };
        let arrival = Arrival::of(window, frame.now);
        let alerts = facts.alerts.iter();
        let link = |window: Window| link(window, days, frame.chosen);
        let rows = app.windows.iter().map(|row| WindowRow {
            choice: Choice {
                link: link(row.window),
                label: sentences::window(language, row.window),
                is_current: row.window == window.window,
            },
            day: row
                .reference_date
                .map_or_else(String::new, |day| language.day(day)),
            users: Cohort::ALL.map(|cohort| {
                let summary = row.summary.as_ref();
                or_dash(summary.and_then(|summary| summary.cohorts[cohort as usize].users))
            }),
            arrival: sentences::arrival(language, Arrival::of(row, frame.now)),
        });
        Self {
            appid: app.appid.to_string(),
            name: app.name.clone(),
            arrival: sentences::arrival(language, arrival),
            arrival_class: arrival.class(),
            next_poll: if app.next_poll_at <= frame.now {
                language.pick("即将进行", "now").to_owned()
            } else {
                frame.time(app.next_poll_at)
            },
            alerts: alerts
                .map(|alert| sentences::alert(language, &facts, *alert))
                .collect(),
            trouble: Trouble::of(&facts, language),
            windows: rows.collect(),
            archive: archived.map(|archived| Charts::new(&frame, &archived)),
            stock: Stock::new(&frame, app, window),
            queries: queries(language, app, window.window),
            shown,
            frame,
        }
    }

    fn t(&self, chinese: &'static str, english: &'static str) -> &'static str {
        self.frame.language.pick(chinese, english)
    }

    fn languages(&self) -> [Choice; Language::ALL.len()] {
        let ShownWindow { window, days, .. } = self.shown;
        frame::languages(&self.frame, |language| link(window, days, Some(language)))
    }

    fn ranges(&self) -> impl Iterator<Item = (String, u64, bool)> {
        let ShownWindow { window, days, .. } = self.shown;
        RANGES
            .into_iter()
            .map(move |range| (link(window, range, self.frame.chosen), range, range == days))
    }

    fn link_to_csv(&self) -> String {
        format!("{}.csv?window={}", self.appid, self.shown.window)
    }

    fn link_to_overview(&self) -> String {
        match self.frame.keep_language().as_str() {
            "" => self.frame.root.to_owned(),
            language => format!("{}?{language}", self.frame.root),
        }
    }
}

/// Returns a link to the same app.
fn link(window: Window, days: u64, language: Option<Language>) -> String {
    let days = if days == DEFAULT_RANGE {
        String::new()
    } else {
        days.to_string()
    };
    let query = query([
        ("window", window.as_str()),
        ("days", &days),
        ("lang", language.map_or("", Language::as_str)),
    ]);
    format!("?{query}")
}

impl Headline {
    fn new(
        language: Language,
        window: &WindowSnapshot,
        history: Option<&History>,
        cohort: Cohort,
    ) -> Self {
        let summary = window.summary.as_ref();
        let figure = summary.map_or_else(Figure::default, |summary| {
            Figure::of(&summary.cohorts[cohort as usize])
        });
        let is_holiday = summary.is_some_and(|summary| summary.day_kind == DayKind::Holiday);
        let mut notes = Vec::new();
        if window.window == Window::OneDay && figure.users.is_some() {
            notes.push(match figure.bounds {
                Some(bounds) => {
                    let [usual, lower, upper] =
                        [bounds.usual, bounds.lower, bounds.upper].map(language::rounded);
                    language.pick(
                        format!("往常 {usual}，正常区间 {lower}–{upper}"),
                        format!("usually {usual}, ordinary from {lower} to {upper}"),
                    )
                }
                None if is_holiday => language
                    .pick("节假日不与往常比较", "holidays are not compared")
                    .to_owned(),
                None => language
                    .pick(
                        "历史天数不足，暂无往常值",
                        "too few days to know what is usual",
                    )
                    .to_owned(),
            });
        }
        let week_ago = || {
            let day = calendar::days_before(window.reference_date?, 7);
            let day = history?
                .days
                .iter()
                .find(|other| other.reference_date == day)?;
            day.cohorts[cohort as usize].users
        };
        if let (Some(users), Some(before)) = (figure.users, week_ago()) {
            let change = change(users, before);
            let before = language::number(before);
            notes.push(language.pick(
                format!("一周前 {before}（{change}）"),
                format!("a week ago {before} ({change})"),
            ));
        }
        Self {
            cohort,
            label: sentences::cohort(language, cohort),
            users: or_dash(figure.users),
            change: figure.change().map_or_else(String::new, language::change),
            swing: figure.swing(),
            notes,
        }
    }

    fn arrow(&self) -> &'static str {
        facts::arrow(self.swing)
    }

    fn class(&self) -> &'static str {
        facts::class(self.swing)
    }
}

impl Charts {
    fn new(frame: &Frame, archived: &AppHistory) -> Self {
        let language = frame.language;
        let history = &archived.history;
        let dimensions = archived.newest.iter().flat_map(|newest| {
            Dimension::ALL.map(|dimension| {
                DimensionTable::new(language, dimension, newest, archived.week_before.as_ref())
            })
        });
        let revised = history.revised().map(|(day, state)| {
            (
                language.day(day),
                state.revisions,
                frame.time(state.answered_at),
            )
        });
        let mut revised: Vec<_> = revised.collect();
        revised.reverse();
        Self {
            days: Cohort::ALL
                .map(|cohort| CohortDays::new(language, history, cohort))
                .into(),
            shares: Shares::new(language, history),
            dimensions: dimensions.collect(),
            revised,
        }
    }
}

impl CohortDays {
    fn new(language: Language, history: &History, cohort: Cohort) -> Self {
        let newest = history.days.last().map(|day| day.reference_date);
        let mut rows = Vec::new();
        let days = history.days.iter().map(|day| {
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
                    upper: bounds.upper,
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
        let label = sentences::cohort(language, cohort);
        let name = language.pick(format!("每日{label}用户"), format!("{label} by day"));
        let chart = DayChart {
            id: cohort.as_str(),
            axes: Axes {
                name: &name,
                value: &|value| language.compact(value),
                date: &|day| date_label(day, days.len()),
            },
            days: &days,
        };
        let chart = chart.to_string();
        rows.reverse();
        Self { label, chart, rows }
    }
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
            users: or_dash(cohort.users),
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
    fn new(language: Language, history: &History) -> Option<Self> {
        let platforms = |day: &history::Day| day.cohorts[Cohort::Active as usize].platforms.clone();
        let mut all = Breakdown::default();
        for day in &history.days {
            for (name, users) in platforms(day).iter() {
                all.add(name.to_owned(), users);
            }
        }
        let mut names: Vec<(&str, u64)> = all.iter().filter(|(_, users)| *users > 0).collect();
        names.sort_by_key(|(_, users)| std::cmp::Reverse(*users));
        let kept: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        let has_rest = kept.len() > MOST_SERIES;
        let kept = &kept[..kept.len().min(if has_rest {
            MOST_SERIES - 1
        } else {
            MOST_SERIES
        })];
        let mut names: Vec<_> = kept
            .iter()
            .map(|name| sentences::name(language, name).to_owned())
            .collect();
        names.extend(has_rest.then(|| language.pick("其余", "others").to_owned()));
        if names.is_empty() {
            return None;
        }
        let mut rows = Vec::new();
        let days = history.days.iter().map(|day| {
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
                tooltip += &format!("\n{name} {share}");
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

impl DimensionTable {
    fn new(
        language: Language,
        dimension: Dimension,
        newest: &Portrait,
        week_before: Option<&Portrait>,
    ) -> Self {
        let of = |portrait: &Portrait, cohort| portrait.breakdown(cohort, dimension).clone();
        let [new, active] = Cohort::ALL.map(|cohort| of(newest, cohort));
        let totals = Cohort::ALL.map(|cohort| total(newest, cohort, dimension));
        let before = week_before.map(|portrait| {
            let total = total(portrait, Cohort::Active, dimension);
            (of(portrait, Cohort::Active), total)
        });
        let names: BTreeSet<&str> = new
            .iter()
            .chain(active.iter())
            .map(|(name, _)| name)
            .collect();
        let mut names: Vec<&str> = names.into_iter().collect();
        if dimension != Dimension::Age {
            names
                .sort_by_key(|name| std::cmp::Reverse((active.users_of(name), new.users_of(name))));
        }
        let share = |users: Option<u64>, total: f64| {
            Some(float(users?) / total).filter(|share| share.is_finite())
        };
        // Bars are compared with each other, and cities have small shares.
        let largest = names
            .iter()
            .filter_map(|name| share(active.users_of(name), totals[Cohort::Active as usize]))
            .fold(0.0, f64::max);
        let rows = names.into_iter().map(|name| {
            let [of_new, of_active] = [&new, &active].map(|breakdown| breakdown.users_of(name));
            let active_share = share(of_active, totals[Cohort::Active as usize]);
            let of_before = before.as_ref().and_then(|(before, total)| {
                let users = before.users_of(name)?;
                Some((users, share(Some(users), *total)))
            });
            let bar = Bar {
                share: active_share.unwrap_or_default() / largest,
                compared: of_before.and_then(|(_, share)| Some(share? / largest)),
            };
            let change = of_active
                .zip(of_before)
                .map(|(users, (before, _))| change(users, before));
            let text = |share: Option<f64>| share.map_or_else(String::new, language::share);
            NameRow {
                name: sentences::name(language, name).to_owned(),
                bar: bar.to_string(),
                active: or_dash(of_active),
                active_share: text(active_share),
                change: change.unwrap_or_default(),
                new: or_dash(of_new),
                new_share: text(share(of_new, totals[Cohort::New as usize])),
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

    fn count(&self) -> usize {
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

impl Stock {
    fn new(frame: &Frame, app: &AppSnapshot, window: &WindowSnapshot) -> Self {
        let language = frame.language;
        let coverage = &window.coverage;
        let range = |(first, last): (NaiveDate, NaiveDate)| {
            if first == last {
                first.to_string()
            } else {
                language.pick(format!("{first} 至 {last}"), format!("{first} to {last}"))
            }
        };
        // Days that wait for the archive are not lost.
        let gaps =
            (app.unstored == 0).then(|| coverage.gaps(calendar::oldest_queryable(frame.now)));
        let mut gaps: Vec<_> = gaps
            .unwrap_or_default()
            .into_iter()
            .rev()
            .map(range)
            .collect();
        let more_gaps = gaps.split_off(gaps.len().min(MOST_GAPS)).len();
        let polls = window.recent_polls.iter().map(|poll| PollRow {
            at: frame.time(poll.at),
            day: language.day(poll.day),
            outcome: sentences::outcome(language, poll.outcome),
        });
        Self {
            days: coverage.days(),
            range: coverage.bounds().map_or_else(String::new, range),
            gaps,
            more_gaps,
            revisions: coverage.revisions,
            unstored: app.unstored,
            polls: polls.collect(),
        }
    }
}

/// Returns queries for Prometheus, and what each of them finds.
fn queries(language: Language, app: &AppSnapshot, window: Window) -> Vec<(&'static str, String)> {
    let of_app = format!("appid=\"{}\"", app.appid);
    let selector = format!("{of_app},window=\"{window}\"");
    let mut queries = vec![
        (
            language.pick("新增与活跃用户", "New and active users"),
            format!("wxapp_portrait_cohort_users{{{selector}}}"),
        ),
        (
            language.pick("各平台用户", "Users by platform"),
            format!("wxapp_portrait_users{{{selector},dimension=\"platform\"}}"),
        ),
        (
            language.pick("各平台占比", "Share of platforms"),
            format!(
                "wxapp_portrait_users{{{selector},dimension=\"platform\"}}\n  / on (job, instance, appid, window, cohort) group_left ()\n  wxapp_portrait_cohort_users{{{selector}}}"
            ),
        ),
    ];
    if window == Window::OneDay {
        queries.insert(
            1,
            (
                language.pick("往常值与正常区间", "What is usual, and its bounds"),
                format!("wxapp_portrait_expected_cohort_users{{{of_app}}}"),
            ),
        );
        queries.push((
            language.pick("该小程序的告警", "Alerts about this app"),
            format!("ALERTS{{{of_app}}}"),
        ));
    }
    queries
}

fn or_dash(users: Option<u64>) -> String {
    users.map_or_else(|| "–".to_owned(), language::number)
}

/// Returns how figures changed; a dash if there were none.
fn change(users: u64, before: u64) -> String {
    if before == 0 {
        return "–".to_owned();
    }
    language::change(float(users) / float(before) - 1.0)
}
