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
use super::{APPS, ARCHIVED, App, EIGHTEEN, State, World, close};
use crate::harness::{Labels, Page, WeChat, now};

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
    apps: &'a [App],
    /// What the exporter shows.
    page: Page,
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

    /// Returns the days a week before those and today.
    fn week_before(&self) -> RangeInclusive<u64> {
        6 - self.late..=36 - self.late
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

    /// Returns what the exporter expects of a cohort.
    fn usual(&self, app: &str, cohort: &str) -> f64 {
        let labels = [("appid", app), ("cohort", cohort), ("bound", "usual")];
        self.page
            .value("wxapp_portrait_expected_cohort_users", &labels)
            .unwrap()
    }

    /// Returns what the exporter expects of the share of a platform.
    fn usual_share(&self, app: &str, cohort: &str, name: &str) -> f64 {
        let labels = [
            ("appid", app),
            ("cohort", cohort),
            ("name", name),
            ("bound", "usual"),
        ];
        let metric = "wxapp_portrait_expected_platform_share_ratio";
        self.page.value(metric, &labels).unwrap()
    }

    fn total(&self, of: &Of, days_ago: u64) -> f64 {
        self.people(of, days_ago).values().sum()
    }

    /// Returns all users of a cohort.
    fn whole(&self, app: &'static str, cohort: &'static str, window: Window, days_ago: u64) -> f64 {
        let of = Of {
            window,
            ..of_platforms(app, cohort)
        };
        self.total(&of, days_ago)
    }

    /// Returns all users of a cohort on the newest day.
    fn newest(&self, app: &'static str, cohort: &'static str) -> f64 {
        self.whole(app, cohort, Window::OneDay, 0)
    }

    /// Returns the change from what is usual.
    fn change(&self, app: &'static str, cohort: &'static str) -> f64 {
        self.newest(app, cohort) / self.usual(app, cohort) - 1.0
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

    /// Returns the figures of days, each a week later.
    fn days_after_a_week(
        &self,
        days_ago: RangeInclusive<u64>,
        figure: impl Fn(u64) -> f64,
    ) -> Figures {
        let later = |days_ago: u64| {
            let day = calendar::days_before(self.yesterday, days_ago) + TimeDelta::days(7);
            day.to_string()
        };
        days_ago
            .map(|days_ago| (later(days_ago), figure(days_ago)))
            .collect()
    }
}

/// Returns the median of the same weekdays of four weeks, of those that have a figure.
fn usual_of(figure: impl Fn(u64) -> Option<f64>) -> f64 {
    let mut figures: Vec<f64> = [7, 14, 21, 28].into_iter().filter_map(figure).collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    f64::midpoint(figures[last / 2], figures[last.div_ceil(2)])
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

/// The query that decides which rows a table has.
const RANK: &str = "A";

/// A query of a panel, and what it must show.
struct Case {
    dashboard: &'static str,
    panel: &'static str,
    /// Its letter, or how the title of its column begins.
    query: &'static str,
    labels: &'static [&'static str],
    /// Whether the panel is a chart: a figure may have the same title.
    is_chart: bool,
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
            apps: &self.setup.apps,
            page: self.exporters[0].metrics().await,
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
            let days = |before: u64| 2 + before - truth.late..=32 + before - truth.late;
            let mut cases = days_of_all_apps(&truth, &days(0), &days(7));
            // The archive of these tests has a day from 10:00 of the next one on.
            let arrived = if hour < 10 { 0.0 } else { 1.0 };
            cases.push(overview("昨日数据到达率", "A", &[], one(arrived)));
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

    /// Compares the counts and sums over many apps, all together, by team and by name; and what is said about
    /// the state of an app.
    pub(super) async fn wrong_counts(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let mut faults = self.wrong_sums(dashboards).await;
        faults.extend(self.wrong_incomplete_day(dashboards).await);
        faults.extend(self.wrong_states(dashboards).await);
        faults
    }

    /// Returns how many days an app is behind; if it never had a portrait, more than all days.
    fn age(&self, app: &App) -> i64 {
        let newest = calendar::days_before(self.yesterday, app.days_late().unwrap_or(999));
        (calendar::yesterday(now()) - newest).num_days()
    }

    /// Returns the users of an app, as WeChat answers.
    fn users(&self, app: &App, cohort: &str, day: NaiveDate) -> f64 {
        let series = self.wechat.users(&app.appid, Window::OneDay, day);
        let of = |labels: &Labels| labels["cohort"] == cohort && labels["dimension"] == "platform";
        let counted = series.into_iter().filter(|(labels, _)| of(labels));
        counted.map(|(_, users)| users).sum()
    }

    async fn wrong_sums(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let now = now();
        let apps = &self.setup.apps;
        let age = |app: &App| self.age(app);
        let team = |team: &str| {
            let team = Choice::Several(vec![team.to_owned()]);
            Choices::from([("team".to_owned(), team)])
        };
        let filter = |part: &str| {
            let part = Choice::One(part.to_owned());
            Choices::from([("filter".to_owned(), part)])
        };
        let every = Choices::new();
        let mut faults = Vec::new();
        for (choices, is_chosen) in [
            (every, &(|_: &App| true) as &dyn Fn(&App) -> bool),
            (team("零售"), &|app: &App| app.team == "零售"),
            (team(EIGHTEEN), &|app: &App| app.team == EIGHTEEN),
            (team(apps[2].team), &|app: &App| app.team == apps[2].team),
            (filter("COMMA"), &|app: &App| app.name.contains("comma")),
            (filter(r"(.*)[A"), &|app: &App| app.name.contains(r"(.*)[a")),
        ] {
            let chosen: Vec<&App> = apps.iter().filter(|app| is_chosen(app)).collect();
            #[expect(clippy::cast_precision_loss, reason = "there are 200 apps at most")]
            let count =
                |is: &dyn Fn(&App) -> bool| chosen.iter().filter(|app| is(app)).count() as f64;
            // The newest day of all but two in a hundred, without those that are late by more than a day.
            let mut ages: Vec<i64> = chosen.iter().map(|app| age(app)).collect();
            ages.retain(|age| *age <= 1);
            ages.sort_by_key(|age| std::cmp::Reverse(*age));
            let common = ages[(ages.len() - 1) / 50];
            let day = calendar::yesterday(now) - TimeDelta::days(common);
            let sum = |cohort| -> f64 {
                let known = chosen.iter().filter(|app| age(app) <= common);
                known.map(|app| self.users(app, cohort, day)).sum()
            };
            let all = count(&|_| true);
            let cases = [
                ("小程序 ", all),
                ("昨日数据到达率", count(&|app| age(app) == 0) / all),
                ("数据日期", day_of(day)),
                ("新增用户 ", sum("new")),
                ("活跃用户 ", sum("active")),
                ("拉取失败 Failing", count(&|app| app.state != State::Fresh)),
                ("数据滞后 Behind", count(&|app| age(app) > 1)),
            ]
            .map(|(panel, figure)| overview(panel, "A", &[], one(figure)));
            faults.extend(self.compare(now, dashboards, &choices, cases.into()).await);
        }
        faults
    }

    /// The newest day lacks the apps that are late, which the charts must say instead of showing a fall.
    async fn wrong_incomplete_day(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let apps = &self.setup.apps;
        let mut faults = Vec::new();
        let fresh = apps.iter().filter(|app| app.state == State::Fresh);
        let known = apps
            .iter()
            .filter(|app| [State::Fresh, State::Late].contains(&app.state));
        let (have, all) = (fresh.clone().count(), known.count());
        let key = format!("未到齐 incomplete {have}/{all} {}", self.yesterday);
        for (panel, cohort) in [("新增用户合计", "new"), ("活跃用户合计", "active")] {
            let sum: f64 = fresh
                .clone()
                .map(|app| self.users(app, cohort, self.yesterday))
                .sum();
            let case = chart(overview(panel, "A", &["note"], Figures::new()));
            let every = Choices::new();
            let mut shown = self.shown(now(), dashboards, &every, &case).await.unwrap();
            let incomplete = shown.remove(&key);
            let complete = |key: &String| {
                key.starts_with(series_of(cohort)) && !key.ends_with(&self.yesterday.to_string())
            };
            if !incomplete.is_some_and(|shown| close(shown, sum))
                || shown.len() < 3
                || !shown.keys().all(complete)
            {
                faults.push(format!(
                    "panel `{panel}` shows {incomplete:?} instead of {sum} as {key}, and {shown:?}"
                ));
            }
        }
        faults
    }

    async fn wrong_states(&self, dashboards: &[Dashboard]) -> Vec<String> {
        let mut faults = Vec::new();
        for state in [State::Fresh, State::Late, State::Stale, State::Never] {
            let mut apps = self.setup.apps.iter();
            let app = apps.find(|app| app.state == state).unwrap();
            let choice = Choice::One(app.appid.clone());
            let code = match (state, self.age(app)) {
                (State::Never, _) => 5.0,
                (_, 0) => 1.0,
                (_, 1) => 3.0,
                _ => 4.0,
            };
            let expected = Figures::from([("1d".to_owned(), code)]);
            let case = on_app("数据状态", "状态", &["window"], expected);
            let choices = Choices::from([("appid".to_owned(), choice)]);
            faults.extend(self.compare(now(), dashboards, &choices, vec![case]).await);
        }
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
            ("波动最大的小程序", 6, None),
            ("占比变化最大的平台", 10, Some("iPhone")),
        ] {
            let Some(panel) = dashboard.panel(title, false) else {
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
        let mut faults = Vec::new();
        for case in cases {
            let problem = match self.shown(now, dashboards, chosen, &case).await {
                Ok(shown) => difference(&shown, &case),
                Err(problem) => Some(problem),
            };
            if let Some(problem) = problem {
                faults.push(format!(
                    "{}: panel `{}`, query {}: {problem}, with {chosen:?}",
                    case.dashboard, case.panel, case.query
                ));
            }
        }
        faults
    }

    /// Returns what a query of a panel shows.
    async fn shown(
        &self,
        now: DateTime<Utc>,
        dashboards: &[Dashboard],
        chosen: &Choices,
        case: &Case,
    ) -> Result<Figures, String> {
        let viewer = Viewer::new(&self.both, now);
        let dashboard = dashboards
            .iter()
            .find(|dashboard| dashboard.name == case.dashboard)
            .unwrap_or_else(|| panic!("there is no {}", case.dashboard));
        let panel = dashboard
            .panel(case.panel, case.is_chart)
            .ok_or("there is no panel whose title alone starts like this")?;
        // Problems with the options are reported where all choices are tried.
        let options = viewer.options(dashboard, chosen).await.unwrap_or_default();
        let choices = options.into_iter().map(|(name, options)| {
            let choice = chosen.get(&name).unwrap_or(&options[0]).clone();
            (name, choice)
        });
        let choices = choices.collect();
        let mut shown: Option<Figures> = None;
        for query in queries_of(panel, case.query) {
            let mut targets = values(&panel["targets"]).iter();
            let target = targets
                .find(|target| target["refId"] == query)
                .ok_or("there is no such query")?;
            let answer = viewer.ask(dashboard, panel, target, &choices).await?;
            let figures = figures(&answer, target, case.labels)?;
            shown = Some(match shown {
                None => figures,
                Some(left) => {
                    let both = left.into_iter();
                    let both =
                        both.filter_map(|(key, left)| Some((left - figures.get(&key)?, key)));
                    both.map(|(difference, key)| (key, difference)).collect()
                }
            });
        }
        shown.ok_or_else(|| "there is no such query".to_owned())
    }
}

/// Returns the letters of a query, or of a column whose title begins like this: of two if it shows their difference.
fn queries_of<'a>(panel: &'a Value, query: &'a str) -> Vec<&'a str> {
    let transformations = || values(&panel["transformations"]).iter();
    let letter = |field: &'a Value| text(field).strip_prefix("Value #");
    let fields = transformations().filter_map(|step| step["options"]["renameByName"].as_object());
    let mut fields = fields.flatten();
    let mut letters = values(&panel["targets"]).iter();
    if letters.any(|target| target["refId"] == query) {
        return vec![query];
    }
    let Some((field, _)) = fields.find(|(_, title)| text(title).starts_with(query)) else {
        return Vec::new();
    };
    let mut differences = transformations().filter(|step| step["id"] == "calculateField");
    match differences.find(|step| step["options"]["alias"] == field.as_str()) {
        Some(step) => {
            let sides = ["left", "right"].map(|side| &step["options"]["binary"][side]);
            sides.into_iter().filter_map(letter).collect()
        }
        None => field.strip_prefix("Value #").into_iter().collect(),
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
fn days_of_all_apps(
    truth: &Truth<'_>,
    days: &RangeInclusive<u64>,
    week_before: &RangeInclusive<u64>,
) -> Vec<Case> {
    let mut cases = Vec::new();
    let total = |app, cohort, days_ago| truth.total(&of_platforms(app, cohort), days_ago);
    let together = |cohort, days_ago| {
        APPS.iter()
            .map(|(app, ..)| total(app, cohort, days_ago))
            .sum()
    };
    for (all, each, cohort) in [
        ("新增用户合计", "新增最多的小程序", "new"),
        ("活跃用户合计", "活跃最多的小程序", "active"),
    ] {
        let name = series_of(cohort);
        let sums = truth.days(name, days.clone(), |days_ago| together(cohort, days_ago));
        cases.push(chart(overview(all, "A", &["note"], sums)));
        let before =
            truth.days_after_a_week(week_before.clone(), |days_ago| together(cohort, days_ago));
        cases.push(chart(overview(all, "B", &[], before)));
        let apart = APPS.iter().flat_map(|(app, name, _)| {
            truth.days(name, days.clone(), |days_ago| total(app, cohort, days_ago))
        });
        cases.push(chart(overview(each, "A", &["app"], apart.collect())));
    }
    let share: &dyn Fn(u64) -> f64 = &|days_ago| {
        let sum: f64 = together("new", days_ago);
        sum / together("active", days_ago)
    };
    let shares = truth.days("", days.clone(), share);
    cases.push(chart(overview("新增占比", "A", &[], shares)));
    cases
}

/// Returns how charts call the users of a cohort.
fn series_of(cohort: &str) -> &'static str {
    if cohort == "new" {
        "新增 new"
    } else {
        "活跃 active"
    }
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
        is_chart: false,
        expected,
        optional: BTreeSet::new(),
        length: None,
    }
}

fn chart(case: Case) -> Case {
    Case {
        is_chart: true,
        ..case
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
    let over_apps = |figure: &dyn Fn(&'static str) -> f64| -> f64 {
        APPS.iter().map(|(app, ..)| figure(app)).sum()
    };
    let all = |cohort, window| over_apps(&|app| truth.whole(app, cohort, window, 0));
    let all_usual = |cohort| over_apps(&|app| truth.usual(app, cohort));
    let changed = |cohort| all(cohort, Window::OneDay) / all_usual(cohort) - 1.0;
    let [new, active] = ["new", "active"].map(|cohort| all(cohort, Window::OneDay));
    let [week, month] = [Window::SevenDays, Window::ThirtyDays].map(|window| all("active", window));
    let mut cases: Vec<Case> = [
        ("小程序 ", 3.0),
        ("数据日期", day_of(truth.yesterday)),
        ("昨日数据到达率", if truth.late == 0 { 1.0 } else { 0.0 }),
        ("新增用户 ", new),
        ("新增较往常", changed("new")),
        ("活跃用户 ", active),
        ("活跃较往常", changed("active")),
        ("7 日活跃", week),
        ("30 日活跃", month),
        ("用户粘性", active / month),
        ("新增占比 ", new / active),
        ("拉取失败 Failing", 0.0),
        ("数据滞后 Behind", 0.0),
    ]
    .map(|(panel, figure)| overview(panel, "A", &[], one(figure)))
    .into();
    let (days, week_before) = (truth.shown(), truth.week_before());
    cases.extend(days_of_all_apps(truth, &days, &week_before));
    cases.extend(lists_of_apps(truth));
    cases.extend(largest_changes(truth));
    cases
}

/// Returns what the lists of all apps must show, by users and by age.
fn lists_of_apps(truth: &Truth<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    let by_app = |figure: &dyn Fn(&'static str) -> f64| -> Figures {
        APPS.iter()
            .map(|(app, ..)| ((*app).to_owned(), figure(app)))
            .collect()
    };
    let active = |app, window| truth.whole(app, "active", window, 0);
    let day = day_of(truth.yesterday);
    let named = truth.apps.iter().zip(APPS).map(|(app, (appid, name, _))| {
        (
            format!("{name} {appid} {}", app.team),
            truth.newest(appid, "active"),
        )
    });
    let list = "所有小程序";
    let labels = &["app", "appid", "team"];
    cases.push(overview(list, RANK, labels, named.collect()));
    let columns: [(&str, &dyn Fn(&'static str) -> f64); 11] = [
        ("活跃 ", &|app| truth.newest(app, "active")),
        ("往常活跃", &|app| truth.usual(app, "active")),
        ("较往常", &|app| truth.change(app, "active")),
        ("新增 ", &|app| truth.newest(app, "new")),
        ("往常新增", &|app| truth.usual(app, "new")),
        ("新增较往常", &|app| truth.change(app, "new")),
        ("7 日活跃", &|app| active(app, Window::SevenDays)),
        ("30 日活跃", &|app| active(app, Window::ThirtyDays)),
        ("粘性", &|app| {
            active(app, Window::OneDay) / active(app, Window::ThirtyDays)
        }),
        ("数据日期", &|_| day),
        ("数据状态", &|_| 1.0),
    ];
    for (query, figure) in columns {
        cases.push(overview(list, query, &["appid"], by_app(figure)));
    }
    let by_window = |figure: f64| -> Figures {
        let apps = APPS
            .iter()
            .flat_map(|(app, ..)| Window::ALL.map(|window| (format!("{app} {window}"), figure)));
        apps.collect()
    };
    let oldest = "数据最滞后的小程序";
    for (query, figure) in [("数据日期", day), ("是否确认", 1.0), ("最近一次拉取", 1.0)]
    {
        let labels = &["appid", "window"];
        cases.push(overview(oldest, query, labels, by_window(figure)));
    }
    cases
}

/// Returns the largest changes: of all apps, as they fit into the list, and of ten platforms.
fn largest_changes(truth: &Truth<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut apps = [const { Figures::new() }; 3];
    let mut shares = [const { Figures::new() }; 3];
    for (app, ..) in APPS {
        for cohort in ["new", "active"] {
            let key = format!("{app} {cohort}");
            let total = truth.newest(app, cohort);
            let figures = [total, truth.usual(app, cohort), truth.change(app, cohort)];
            for (apps, figure) in apps.iter_mut().zip(figures) {
                apps.insert(key.clone(), figure);
            }
            for (platform, users) in truth.people(&of_platforms(app, cohort), 0) {
                let usual = truth.usual_share(app, cohort, &platform);
                let share = users / total;
                for (shares, figure) in shares.iter_mut().zip([share, usual, share - usual]) {
                    shares.insert(format!("{key} {platform}"), figure);
                }
            }
        }
    }
    for (column, figures) in ["当日", "往常", "较往常"].into_iter().zip(apps) {
        let labels = &["appid", "cohort"];
        cases.push(overview("波动最大的小程序", column, labels, figures));
    }
    for (column, figures) in ["占比", "往常占比", "变化"].into_iter().zip(shares) {
        let labels = &["appid", "cohort", "name"];
        cases.push(Case {
            // How to weigh small against large is up to the dashboard.
            optional: figures.keys().cloned().collect(),
            length: Some(10),
            ..overview("占比变化最大的平台", column, labels, figures)
        });
    }
    cases
}

/// Returns a day as dashboards show it: a time that has this date in nearly every time zone, in milliseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "times of our days are far below 2^53"
)]
fn day_of(day: NaiveDate) -> f64 {
    1000.0 * (calendar::midnight(day).timestamp() + 64800) as f64
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
    let total = |cohort, window, days_ago| truth.whole(app, cohort, window, days_ago);
    let on_day = |cohort, days_ago| total(cohort, Window::OneDay, days_ago);
    let stickiness =
        |days_ago| on_day("active", days_ago) / total("active", Window::ThirtyDays, days_ago);
    let new_share = |days_ago| on_day("new", days_ago) / on_day("active", days_ago);
    let day = day_of(truth.yesterday);
    let people = |cohort, dimension| truth.people(&of(cohort, dimension, window), 0);
    let shares = |cohort, dimension| shares_of(people(cohort, dimension));
    let mut cases: Vec<Case> = [
        ("数据日期", day),
        ("新增用户 ", truth.newest(app, "new")),
        ("新增较往常", truth.change(app, "new")),
        ("活跃用户 ", truth.newest(app, "active")),
        ("活跃较往常", truth.change(app, "active")),
        ("新增占比 ", new_share(0)),
        ("用户粘性", stickiness(0)),
    ]
    .map(|(panel, figure)| on_app(panel, "A", &[], one(figure)))
    .into();
    let by_window = |figure| -> Figures {
        let windows = Window::ALL.iter();
        windows.map(|window| (window.to_string(), figure)).collect()
    };
    for (query, figure) in [("状态", 1.0), ("数据日期", day)] {
        cases.push(on_app("数据状态", query, &["window"], by_window(figure)));
    }
    for (panel, cohort) in [
        ("新增用户 New users · ", "new"),
        ("活跃用户 Active users · ", "active"),
    ] {
        let users = |days_ago| total(cohort, window, days_ago);
        let days = truth.days("", truth.shown(), users);
        cases.push(chart(on_app(panel, "A", &[], days)));
        let before = truth.days_after_a_week(truth.week_before(), users);
        cases.push(chart(on_app(panel, "E", &[], before)));
    }
    let days = |figure: &dyn Fn(u64) -> f64| truth.days("", truth.shown(), figure);
    cases.extend([
        chart(on_app("新增占比与粘性", "A", &[], days(&new_share))),
        chart(on_app("新增占比与粘性", "B", &[], days(&stickiness))),
        on_app("性别 ", "A", &["name"], people(cohort, "gender")),
        on_app("机型 ", "A", &["name"], people(cohort, "device")),
        on_app("年龄 ", "A", &["name"], shares("new", "age")),
        on_app("年龄 ", "B", &["name"], shares("active", "age")),
    ]);
    let platforms = of(cohort, "platform", window);
    let mut users = Figures::new();
    let mut parts = Figures::new();
    for name in truth.people(&platforms, 0).into_keys() {
        let on = |days_ago: u64| truth.people(&platforms, days_ago)[&name];
        users.extend(truth.days(&name, truth.shown(), on));
        let part = |days_ago| on(days_ago) / truth.total(&platforms, days_ago);
        parts.extend(truth.days(&name, truth.shown(), part));
    }
    cases.push(chart(on_app("平台用户数", "A", &["name"], users)));
    cases.push(chart(on_app("平台占比", "A", &["name"], parts)));

    for (panel, dimension, limit) in [("省份 ", "province", 100), ("城市 ", "city", 50)] {
        let new = people("new", dimension);
        let active = people("active", dimension).into_iter();
        // Some have no new users.
        let new_of_active =
            active.filter_map(|(name, users)| Some((name.clone(), new.get(&name)? / users)));
        let (of, new_of_active) = (people(cohort, dimension), new_of_active.collect());
        cases.extend(list_of_places(panel, &of, new_of_active, limit));
    }
    cases.extend(against_the_past(truth, app, cohort));
    cases
}

/// Returns what the list of a dimension must show: users, shares, and how many of the active ones are new.
fn list_of_places(
    panel: &'static str,
    people: &Figures,
    new_of_active: Figures,
    limit: usize,
) -> [Case; 4] {
    let mut order: Vec<f64> = people.values().copied().collect();
    order.sort_by(|one, other| other.total_cmp(one));
    let least = order.get(limit - 1).copied().unwrap_or_default();
    let ties = people.iter().filter(|(_, users)| **users <= least);
    let ties: BTreeSet<_> = ties.map(|(name, _)| name.clone()).collect();
    let length = (limit < people.len()).then_some(limit);
    [
        (RANK, length, people.clone()),
        ("用户数", length, people.clone()),
        ("占比", length, shares_of(people.clone())),
        ("新增占比", None, new_of_active),
    ]
    .map(|(query, length, mut figures)| {
        figures.retain(|name, _| people.get(name).is_some_and(|users| *users >= least));
        Case {
            optional: ties.clone(),
            length,
            ..on_app(panel, query, &["name"], figures)
        }
    })
}

fn shares_of(people: Figures) -> Figures {
    let all: f64 = people.values().sum();
    let people = people.into_iter();
    people.map(|(name, users)| (name, users / all)).collect()
}

/// Returns what the tables must show that compare the newest day with a week ago and four weeks.
fn against_the_past(truth: &Truth<'_>, app: &'static str, cohort: &'static str) -> Vec<Case> {
    let mut users = [const { Figures::new() }; 5];
    let mut shares = [const { Figures::new() }; 4];
    for dimension in ["platform", "gender", "age"] {
        let of = Of {
            dimension,
            ..of_platforms(app, cohort)
        };
        let ago = |name: &str, days_ago| truth.people(&of, days_ago).get(name).copied();
        let share_ago =
            |name: &str, days_ago| Some(ago(name, days_ago)? / truth.total(&of, days_ago));
        for (name, today) in truth.people(&of, 0) {
            let key = format!("{dimension} {name}");
            let week = ago(&name, 7).unwrap_or_default();
            let usual = usual_of(|days_ago| Some(ago(&name, days_ago).unwrap_or_default()));
            let figures = [today, week, today / week - 1.0, usual, today / usual - 1.0];
            for (users, figure) in users.iter_mut().zip(figures) {
                users.insert(key.clone(), figure);
            }
            let share = today / truth.total(&of, 0);
            let usual = usual_of(|days_ago| share_ago(&name, days_ago));
            for (shares, figure) in shares.iter_mut().zip([share, usual, share - usual, today]) {
                shares.insert(key.clone(), figure);
            }
        }
    }
    let users = ["当日", "上周同日", "较上周", "前四周同期", "较同期"]
        .into_iter()
        .zip(users)
        .map(|(column, figures)| ("对比上周同日与同期", column, figures));
    let shares = ["当日占比", "同期占比", "变化", "用户数"]
        .into_iter()
        .zip(shares)
        .map(|(column, figures)| ("占比变化最大", column, figures));
    let all = users.chain(shares);
    all.map(|(panel, column, figures)| on_app(panel, column, &["dimension", "name"], figures))
        .collect()
}
