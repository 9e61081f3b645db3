//! `/apps/APPID`: one app, with its history and its dimensions.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::http::HeaderMap;
use axum::response::Response;

use super::days::{CohortDays, Shares};
use super::dimensions::DimensionTable;
use super::queries::queries;
use super::stock::Stock;
use crate::calendar::{self, DayKind};
use crate::chart::Swing;
use crate::history::History;
use crate::language::{self, Language};
use crate::portrait::{Cohort, Dimension, Window};
use crate::state::{AppSnapshot, WindowSnapshot};
use crate::web::histories::AppHistory;
use crate::web::pages::facts::{self, Facts, Figure};
use crate::web::pages::frame::{self, Choice, Frame, parameter, query};
use crate::web::pages::sentences::{self, Trouble};
use crate::web::state::AppState;

/// The lengths of history to choose from, in days.
const RANGES: [u64; 3] = [30, 90, 400];

/// The range that is shown unless another is chosen.
const DEFAULT_RANGE: u64 = RANGES[1];

#[derive(Debug, Template)]
#[template(path = "app.html")]
struct AppPage {
    frame: Frame,
    appid: String,
    name: String,
    labels: BTreeMap<String, String>,
    shown: ShownWindow,
    arrival: &'static str,
    arrival_class: &'static str,
    next_poll: String,
    alerts: Vec<String>,
    /// Whether they are about platforms and not about all users.
    is_of_platforms: bool,
    trouble: Option<Trouble>,
    /// Whether WeChat returns portraits without users.
    has_no_users: bool,
    is_restored: bool,
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
    label: String,
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
    /// The day of the dimensions.
    day: String,
    dimensions: Vec<DimensionTable>,
    revised: Vec<(String, u32, String)>,
}

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
    frame::respond(&state.rendering, language, headers, move || {
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
        let arrival = window.arrival(frame.now);
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
                sentences::users(summary.and_then(|summary| summary.cohorts[cohort as usize].users))
            }),
            arrival: sentences::arrival(language, row.arrival(frame.now)),
        });
        Self {
            appid: app.appid.to_string(),
            name: app.name.clone(),
            labels: app.labels.clone(),
            arrival: sentences::arrival(language, arrival),
            arrival_class: facts::arrival_class(arrival),
            next_poll: match app.next_poll_at {
                None => sentences::polled_by(language, app.polled_by).to_owned(),
                Some(at) if at <= frame.now => language.pick("即将开始", "due now").to_owned(),
                Some(at) => frame.time(at),
            },
            alerts: alerts
                .map(|alert| sentences::alert(language, &facts, *alert))
                .collect(),
            is_of_platforms: facts.is_of_platforms(),
            trouble: Trouble::of(&facts, language),
            has_no_users: facts.has_no_users(),
            is_restored: app.is_restored,
            windows: rows.collect(),
            archive: archived.map(|archived| Charts::new(&frame, window.window, &archived)),
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

    fn is_daily(&self) -> bool {
        self.shown.window == Window::OneDay
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
                        format!("usually {usual}, normal range {lower}–{upper}"),
                    )
                }
                None if is_holiday => language
                    .pick("节假日不与往常比较", "holidays are not compared")
                    .to_owned(),
                None => language
                    .pick("历史天数不足，暂无往常值", "not enough history yet")
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
            let change = sentences::change(users, before);
            let before = language::number(before);
            notes.push(language.pick(
                format!("一周前 {before}（{change}）"),
                format!("a week ago {before} ({change})"),
            ));
        }
        Self {
            cohort,
            label: match window.window {
                Window::OneDay => sentences::cohort_title(language, cohort).to_owned(),
                longer => format!(
                    "{}{}{}",
                    sentences::cohort_title(language, cohort),
                    language.pick(" · ", ", "),
                    sentences::window(language, longer)
                ),
            },
            users: sentences::users(figure.users),
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
    fn new(frame: &Frame, window: Window, archived: &AppHistory) -> Self {
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
                .map(|cohort| CohortDays::new(language, window, history, cohort))
                .into(),
            shares: Shares::new(language, history),
            day: archived
                .newest
                .as_ref()
                .map_or_else(String::new, |newest| language.day(newest.reference_date)),
            dimensions: dimensions.collect(),
            revised,
        }
    }
}
