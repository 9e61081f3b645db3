//! The figures that the main panels must show, computed from the answers of WeChat alone.
//!
//! Panels are found by their titles, or the beginnings of these, and queried with their own expressions.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::rc::Rc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::Value;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use super::grafana::{Answer, Choice, Choices, Dashboard, Viewer, text, values};
use super::{APPS, ARCHIVED, World, close};
use crate::harness::{WeChat, now};

const OVERVIEW: &str = "wxapp-portrait-overview";
const OF_APP: &str = "wxapp-portrait-app";

/// Figures by their subject, such as `iPhone 2026-11-21`.
type Figures = BTreeMap<String, f64>;

/// The figures of an answer, by cohort and dimension and then by name.
type Named = HashMap<[String; 2], Figures>;

/// Answers, by app, window and days before yesterday.
type Answers = HashMap<(&'static str, Window, u64), Rc<Named>>;

/// The figures of WeChat, computed without Prometheus.
struct Truth<'a> {
    wechat: &'a WeChat,
    /// The newest day that was requested.
    yesterday: NaiveDate,
    /// How many days are between it and today's day before: one in the first minutes of a day, when that
    /// is not requested yet.
    late: u64,
    /// An answer takes some time, and each is needed repeatedly.
    answers: RefCell<Answers>,
}

impl Truth<'_> {
    /// Returns the days of the range of the dashboards, in days before the newest.
    fn shown(&self) -> RangeInclusive<u64> {
        0..=29 - self.late
    }

    /// Returns the users with a name, by cohort and dimension.
    fn named(&self, app: &'static str, window: Window, days_ago: u64) -> Rc<Named> {
        let mut answers = self.answers.borrow_mut();
        let answer = answers.entry((app, window, days_ago)).or_insert_with(|| {
            let day = calendar::days_before(self.yesterday, days_ago);
            let mut named = Named::new();
            for (mut labels, users) in self.wechat.users(app, window, day) {
                let [cohort, dimension, name] =
                    ["cohort", "dimension", "name"].map(|label| labels.remove(label).unwrap());
                named
                    .entry([cohort, dimension])
                    .or_default()
                    .insert(name, users);
            }
            Rc::new(named)
        });
        Rc::clone(answer)
    }

    /// Returns the users of a dimension, by name.
    fn people(&self, of: &Of, days_ago: u64) -> Figures {
        let key = [of.cohort, of.dimension].map(str::to_owned);
        let mut people = self.named(of.app, of.window, days_ago)[&key].clone();
        if ["platform", "gender", "age"].contains(&of.dimension) {
            // Names of the four weeks before are known to have no users.
            for days_ago in days_ago + 1..ARCHIVED.min(days_ago + 29) {
                for name in self.named(of.app, of.window, days_ago)[&key].keys() {
                    if !people.contains_key(name) {
                        people.insert(name.clone(), 0.0);
                    }
                }
            }
        }
        people
    }

    fn total(&self, of: &Of, days_ago: u64) -> f64 {
        self.people(of, days_ago).values().sum()
    }

    /// Returns a figure for many days, each on the day that it counts.
    fn days(
        &self,
        name: &str,
        days_ago: RangeInclusive<u64>,
        figure: impl Fn(u64) -> f64,
    ) -> Figures {
        let day = |days_ago| calendar::days_before(self.yesterday, days_ago);
        let key = |days_ago| format!("{name} {}", day(days_ago)).trim().to_owned();
        days_ago
            .map(|days_ago| (key(days_ago), figure(days_ago)))
            .collect()
    }
}

/// Returns the median of the same weekdays of four weeks.
fn usual_of(figure: impl Fn(u64) -> f64) -> f64 {
    let mut figures = [7, 14, 21, 28].map(figure);
    figures.sort_by(f64::total_cmp);
    f64::midpoint(figures[1], figures[2])
}

/// The app.
#[derive(Clone)]
struct Of {
    app: &'static str,
    window: Window,
    cohort: &'static str,
    dimension: &'static str,
}

/// Converts an answer to figures, by the values of labels, and by days if it has many. A table has a
/// column for every label, and so must have no others.
fn figures(answer: &Answer, target: &Value, wanted: &[&str]) -> Result<Figures, String> {
    let (table, days) = (target["format"] == "table", target["range"] == true);
    let mut figures = Figures::new();
    for (labels, points) in answer {
        let mut columns: Vec<&str> = wanted.to_vec();
        columns.sort_unstable();
        if table && labels.keys().ne(columns) {
            return Err(format!(
                "it has the columns {labels:?} instead of {wanted:?}"
            ));
        }
        let named = wanted
            .iter()
            .map(|label| labels.get(*label).map(String::as_str));
        let named: Option<Vec<_>> = named.collect();
        let named = named.ok_or_else(|| format!("{labels:?} lack one of {wanted:?}"))?;
        for (time, value) in points {
            let time = DateTime::from_timestamp(*time, 0).unwrap();
            let day = calendar::today(time);
            if days && calendar::midnight(day) != time {
                return Err(format!("a point at {time} is at no midnight in Beijing"));
            }
            let mut key = named.join(" ");
            if days {
                write!(key, " {day}").unwrap();
            }
            let key = key.trim().to_owned();
            if figures.insert(key.clone(), *value).is_some() {
                return Err(format!("{key:?} is there twice"));
            }
        }
    }
    Ok(figures)
}

/// A query of a panel, and what it must show.
struct Case {
    dashboard: &'static str,
    panel: &'static str,
    query: &'static str,
    labels: &'static [&'static str],
    expected: Figures,
    /// Names for a truncated list, of which only some may be on it.
    optional: BTreeSet<String>,
    /// The length of a truncated list.
    length: Option<usize>,
}

impl World {
    /// Compares what the main panels show with the figures of WeChat; returns the differences.
    pub(super) async fn wrong_figures(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let today = calendar::today(now());
        let late = (calendar::days_before(today, 1) - self.yesterday).num_days();
        let truth = Truth {
            wechat: &self.wechat,
            yesterday: self.yesterday,
            late: late.try_into().unwrap(),
            answers: RefCell::default(),
        };
        let none = Choices::new();
        let cases = of_all_apps(&truth);
        let mut faults = self.compare(now(), dashboards, &none, cases).await;
        // A range of the past must be shown completely, at any hour.
        for hour in [9, 23] {
            let day = calendar::midnight(calendar::days_before(today, 3));
            let mut cases = days_of_all_apps(&truth, &(2 - truth.late..=32 - truth.late));
            // The archive of these tests has a day from 10:20 of the next one on.
            let arrived = if hour < 10 { 0.0 } else { 1.0 };
            cases.push(overview("昨日已到", "A", &[], one(arrived)));
            let at = day + TimeDelta::hours(hour);
            faults.extend(self.compare(at, dashboards, &none, cases).await);
        }
        for (app, cohort, window) in [
            (APPS[0].0, "new", Window::OneDay),
            (APPS[0].0, "active", Window::SevenDays),
            (APPS[1].0, "active", Window::OneDay),
            (APPS[1].0, "new", Window::ThirtyDays),
        ] {
            let choices = [
                ("appid", app),
                ("cohort", cohort),
                ("window", window.as_str()),
            ]
            .map(|(name, value)| (name.to_owned(), Choice::One(value.to_owned())));
            let cases = of_one_app(&truth, app, cohort, window);
            faults.extend(
                self.compare(now(), dashboards, &choices.into(), cases)
                    .await,
            );
        }
        faults.extend(self.movers(dashboards).await);
        faults
    }

    /// The event of these tests must be the first of the largest changes, and the lists be full.
    async fn movers(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let [_, viewer] = self.viewers();
        let dashboard = dashboards
            .iter()
            .find(|dashboard| dashboard.name == OVERVIEW)
            .unwrap();
        let options = viewer
            .options(dashboard, &Choices::new())
            .await
            .unwrap_or_default();
        let choices = options
            .into_iter()
            .map(|(name, options)| (name, options[0].clone()))
            .collect();
        let mut faults = Vec::new();
        for (title, length, name) in [
            ("变化最大的应用", 6, None),
            ("变化最大的平台", 10, Some("iPhone")),
        ] {
            let Some(panel) = dashboard.panel(title) else {
                continue;
            };
            let shown = viewer
                .ask(dashboard, panel, &panel["targets"][0], &choices)
                .await;
            let weights = shown
                .unwrap_or_default()
                .into_iter()
                .map(|(labels, points)| {
                    let weight = points.into_values().next().unwrap_or_default();
                    (weight, labels)
                });
            let mut weights: Vec<_> = weights.collect();
            weights.sort_by(|(one, _), (other, _)| other.total_cmp(one));
            let first = weights.first().is_some_and(|(_, labels)| {
                labels["appid"] == APPS[1].0 && labels.get("name").map(String::as_str) == name
            });
            if !first || weights.len() != length {
                faults.push(format!("{OVERVIEW}: panel `{title}` lists {weights:?}"));
            }
        }
        faults
    }

    async fn compare(
        &self,
        now: DateTime<Utc>,
        dashboards: &[Dashboard],
        chosen: &Choices,
        cases: Vec<Case>,
    ) -> Vec<String> {
        let viewer = Viewer::new(&self.both, now);
        let mut faults = Vec::new();
        for case in cases {
            let dashboard = dashboards
                .iter()
                .find(|dashboard| dashboard.name == case.dashboard);
            let dashboard = dashboard.unwrap_or_else(|| panic!("there is no {}", case.dashboard));
            let Some(panel) = dashboard.panel(case.panel) else {
                faults.push(format!(
                    "{} has no panel whose title alone starts with `{}`",
                    case.dashboard, case.panel
                ));
                continue;
            };
            let target = values(&panel["targets"])
                .iter()
                .find(|target| target["refId"] == case.query)
                .unwrap_or_else(|| panic!("{} has no query {}", case.panel, case.query));
            // Problems with the options are reported where all choices are tried.
            let options = viewer.options(dashboard, chosen).await.unwrap_or_default();
            let choices = options.into_iter().map(|(name, options)| {
                let choice = chosen.get(&name).unwrap_or(&options[0]).clone();
                (name, choice)
            });
            let choices = choices.collect();
            let shown = viewer.ask(dashboard, panel, target, &choices).await;
            let shown = shown.and_then(|answer| figures(&answer, target, case.labels));
            let problem = match shown {
                Ok(shown) => difference(&shown, &case),
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                faults.push(format!(
                    "{}: panel `{}`, query {}: {problem}, with {chosen:?}",
                    case.dashboard,
                    text(&panel["title"]),
                    case.query
                ));
            }
        }
        faults
    }
}

/// Returns the differences of figures, if there are any.
fn difference(shown: &Figures, case: &Case) -> Option<String> {
    let expected = &case.expected;
    let keys: BTreeSet<_> = shown.keys().chain(expected.keys()).collect();
    let mut problems = Vec::new();
    for key in keys {
        let [shown, expected] = [shown, expected].map(|figures| figures.get(key));
        let right = match (shown, expected) {
            (Some(shown), Some(expected)) => close(*shown, *expected),
            (None, _) => case.optional.contains(key),
            (Some(_), None) => false,
        };
        if !right {
            problems.push(format!("{key:?} is {shown:?} instead of {expected:?}"));
        }
    }
    if let Some(length) = case.length
        && shown.len() != length
    {
        problems.push(format!("it lists {} instead of {length}", shown.len()));
    }
    let first: Vec<_> = problems.iter().take(3).map(String::as_str).collect();
    (!problems.is_empty())
        .then(|| format!("{} figures are wrong: {}", problems.len(), first.join(", ")))
}

fn one(figure: f64) -> Figures {
    Figures::from([(String::new(), figure)])
}

/// Returns what the charts of the overview must show.
fn days_of_all_apps(truth: &Truth<'_>, days: &RangeInclusive<u64>) -> Vec<Case> {
    let mut cases = Vec::new();
    for (all, each, cohort) in [
        ("新增用户 New users", "最大的应用：新增", "new"),
        ("活跃用户 Active users", "最大的应用：活跃", "active"),
    ] {
        let total = |app, days_ago| truth.total(&of_platforms(app, cohort), days_ago);
        let together = truth.days("", days.clone(), |days_ago| {
            APPS.iter().map(|(app, ..)| total(app, days_ago)).sum()
        });
        cases.push(overview(all, "A", &[], together));
        let apart = APPS.iter().flat_map(|(app, name, _)| {
            truth.days(name, days.clone(), |days_ago| total(app, days_ago))
        });
        cases.push(overview(each, "A", &["app"], apart.collect()));
    }
    cases
}

fn of_platforms(app: &'static str, cohort: &'static str) -> Of {
    Of {
        app,
        window: Window::OneDay,
        cohort,
        dimension: "platform",
    }
}

fn overview(
    panel: &'static str,
    query: &'static str,
    labels: &'static [&'static str],
    expected: Figures,
) -> Case {
    Case {
        dashboard: OVERVIEW,
        panel,
        query,
        labels,
        expected,
        optional: BTreeSet::new(),
        length: None,
    }
}

fn on_app(
    panel: &'static str,
    query: &'static str,
    labels: &'static [&'static str],
    expected: Figures,
) -> Case {
    Case {
        dashboard: OF_APP,
        ..overview(panel, query, labels, expected)
    }
}

fn of_all_apps(truth: &Truth<'_>) -> Vec<Case> {
    let total = |app, cohort, days_ago| truth.total(&of_platforms(app, cohort), days_ago);
    let usual = |app, cohort| usual_of(|days_ago| total(app, cohort, days_ago));
    let change = |app, cohort| total(app, cohort, 0) / usual(app, cohort) - 1.0;
    let over_apps = |figure: &dyn Fn(&'static str) -> f64| -> f64 {
        APPS.iter().map(|(app, ..)| figure(app)).sum()
    };
    let all = |cohort| over_apps(&|app| total(app, cohort, 0));
    let all_usual = |cohort| over_apps(&|app| usual(app, cohort));
    let day = day_of(truth.yesterday);
    let mut cases = vec![
        overview("应用 Apps", "A", &[], one(3.0)),
        overview("数据日期", "A", &[], one(day)),
        overview(
            "昨日已到",
            "A",
            &[],
            one(if truth.late == 0 { 1.0 } else { 0.0 }),
        ),
        overview("新增用户 New", "A", &[], one(all("new"))),
        overview(
            "新增变化",
            "A",
            &[],
            one(all("new") / all_usual("new") - 1.0),
        ),
        overview("活跃用户 Active", "A", &[], one(all("active"))),
        overview(
            "活跃变化",
            "A",
            &[],
            one(all("active") / all_usual("active") - 1.0),
        ),
    ];
    cases.extend(days_of_all_apps(truth, &truth.shown()));

    let by_app = |figure: &dyn Fn(&'static str) -> f64| -> Figures {
        APPS.iter()
            .map(|(app, ..)| ((*app).to_owned(), figure(app)))
            .collect()
    };
    let named = APPS
        .iter()
        .map(|(app, name, _)| (format!("{name} {app}"), total(app, "active", 0)));
    let list = "所有应用 All apps";
    cases.extend([
        overview(list, "A", &["app", "appid"], named.collect()),
        overview(list, "B", &["appid"], by_app(&|app| usual(app, "active"))),
        overview(list, "C", &["appid"], by_app(&|app| change(app, "active"))),
        overview(list, "D", &["appid"], by_app(&|app| total(app, "new", 0))),
        overview(list, "E", &["appid"], by_app(&|app| usual(app, "new"))),
        overview(list, "F", &["appid"], by_app(&|app| change(app, "new"))),
        overview(list, "G", &["appid"], by_app(&|_| day)),
        overview(list, "H", &["appid"], by_app(&|_| 1.0)),
    ]);

    // The largest changes: all apps, as they fit into the list, and ten platforms.
    let mut apps = [const { Figures::new() }; 3];
    let mut platforms: Vec<[(String, f64); 3]> = Vec::new();
    for (app, ..) in APPS {
        for cohort in ["new", "active"] {
            let key = format!("{app} {cohort}");
            let figures = [
                total(app, cohort, 0),
                usual(app, cohort),
                change(app, cohort),
            ];
            for (apps, figure) in apps.iter_mut().zip(figures) {
                apps.insert(key.clone(), figure);
            }
            let people = |days_ago| truth.people(&of_platforms(app, cohort), days_ago);
            for (platform, figure) in people(0) {
                let past = |days_ago| people(days_ago).get(&platform).copied().unwrap_or_default();
                let usual = usual_of(past);
                let figures = [figure, usual, figure / usual - 1.0];
                platforms.push(figures.map(|figure| (format!("{key} {platform}"), figure)));
            }
        }
    }
    for (query, at) in [("B", 0), ("C", 1), ("D", 2)] {
        let labels = &["appid", "cohort"];
        cases.push(overview("变化最大的应用", query, labels, apps[at].clone()));
        let labels = &["appid", "cohort", "name"];
        let figures: Figures = platforms
            .iter()
            .map(|figures| figures[at].clone())
            .collect();
        cases.push(Case {
            // How to weigh small against large is up to the dashboard.
            optional: figures.keys().cloned().collect(),
            length: Some(10),
            ..overview("变化最大的平台", query, labels, figures)
        });
    }
    cases
}

/// Returns a day as Grafana expects it, in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "times of our days are far below 2^53"
)]
fn day_of(day: NaiveDate) -> f64 {
    1000.0 * calendar::midnight(day).timestamp() as f64
}

fn of_one_app(
    truth: &Truth<'_>,
    app: &'static str,
    cohort: &'static str,
    window: Window,
) -> Vec<Case> {
    let of = |cohort, dimension, window| Of {
        app,
        window,
        cohort,
        dimension,
    };
    let total = |cohort, window, days_ago| truth.total(&of(cohort, "platform", window), days_ago);
    let today = |cohort| total(cohort, Window::OneDay, 0);
    let change =
        |cohort| today(cohort) / usual_of(|days_ago| total(cohort, Window::OneDay, days_ago)) - 1.0;
    let day = day_of(truth.yesterday);
    let people = |cohort, dimension| truth.people(&of(cohort, dimension, window), 0);
    let shares = |cohort, dimension| -> Figures {
        let people = people(cohort, dimension);
        let all: f64 = people.values().sum();
        people
            .into_iter()
            .map(|(name, users)| (name, users / all))
            .collect()
    };
    // How many of the active users with a name are new.
    let new_of_active = |dimension| -> Figures {
        let new = people("new", dimension);
        let active = people("active", dimension).into_iter();
        active
            .filter_map(|(name, users)| Some((name.clone(), new.get(&name)? / users)))
            .collect()
    };
    let mut cases = vec![
        on_app("日期", "A", &[], one(day)),
        on_app("状态", "A", &[], one(1.0)),
        on_app("新增用户 New", "A", &[], one(today("new"))),
        on_app("新增变化", "A", &[], one(change("new"))),
        on_app("活跃用户 Active", "A", &[], one(today("active"))),
        on_app("活跃变化", "A", &[], one(change("active"))),
        on_app("新增占比", "A", &[], one(today("new") / today("active"))),
        on_app(
            "新增用户 New users",
            "A",
            &[],
            truth.days("", truth.shown(), |days_ago| total("new", window, days_ago)),
        ),
        on_app(
            "活跃用户 Active users",
            "A",
            &[],
            truth.days("", truth.shown(), |days_ago| {
                total("active", window, days_ago)
            }),
        ),
        on_app("性别 ", "A", &["name"], people(cohort, "gender")),
        on_app("机型 ", "A", &["name"], people(cohort, "device")),
        on_app("年龄 ", "A", &["name"], shares("new", "age")),
        on_app("年龄 ", "B", &["name"], shares("active", "age")),
    ];
    let platforms = of(cohort, "platform", window);
    let names = truth.people(&platforms, 0).into_keys();
    let days = names.flat_map(|name| {
        truth.days(&name, truth.shown(), |days_ago| {
            truth.people(&platforms, days_ago)[&name]
        })
    });
    cases.push(on_app("平台 ", "A", &["name"], days.collect()));

    let mut of_named = |panel, dimension, limit: usize| {
        let people = people(cohort, dimension);
        let mut order: Vec<f64> = people.values().copied().collect();
        order.sort_by(|one, other| other.total_cmp(one));
        let least = order.get(limit - 1).copied().unwrap_or_default();
        let listed = |name: &String| people[name] >= least;
        let only = |mut figures: Figures| {
            figures.retain(|name, _| listed(name));
            figures
        };
        let ties = people
            .keys()
            .filter(|name| people[*name] <= least && listed(name));
        let ties: BTreeSet<_> = ties.cloned().collect();
        let length = (limit < people.len()).then_some(limit);
        for (query, length, figures) in [
            ("A", length, people.clone()),
            ("B", length, shares(cohort, dimension)),
            // Some have no new users.
            ("C", None, new_of_active(dimension)),
        ] {
            cases.push(Case {
                optional: ties.clone(),
                length,
                ..on_app(panel, query, &["name"], only(figures))
            });
        }
    };
    of_named("省份 ", "province", 100);
    of_named("城市 ", "city", 50);

    cases.extend(against_the_past(truth, app, cohort));
    cases
}

/// Returns the columns of the table that compares a day with a week ago and the baseline.
fn against_the_past(truth: &Truth<'_>, app: &'static str, cohort: &'static str) -> Vec<Case> {
    let mut table = [const { Figures::new() }; 5];
    for dimension in ["platform", "gender", "age"] {
        let of = Of {
            dimension,
            ..of_platforms(app, cohort)
        };
        let ago = |name: &str, days_ago| truth.people(&of, days_ago).get(name).copied();
        for (name, users) in truth.people(&of, 0) {
            let week = ago(&name, 7).unwrap_or_default();
            let usual = usual_of(|days_ago| ago(&name, days_ago).unwrap_or_default());
            let figures = [users, week, users / week - 1.0, usual, users / usual - 1.0];
            for (table, figure) in table.iter_mut().zip(figures) {
                table.insert(format!("{dimension} {name}"), figure);
            }
        }
    }
    let columns = ["A", "B", "C", "D", "E"].into_iter().zip(table);
    columns
        .map(|(query, figures)| {
            on_app("与一周前和往常相比", query, &["dimension", "name"], figures)
        })
        .collect()
}
