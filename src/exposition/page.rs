//! The page: what is published about every app, ready to be sent.
//!
//! A portrait changes once a day and is scraped thousands of times, so all work happens when
//! something changes: the lines of one app and family are rendered and compressed once, and
//! replaced as a whole. A scrape only joins them, and only those that have changed since the last one.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use super::blocks::{App, Blocks};
use super::gzip::{Member, Piece};
use super::summary::GAUGES;
use crate::calendar;
use crate::portrait::{AppId, Cohort, Dimension, Portrait, Repair, Window};
use crate::state::{AppSnapshot, Summary, WindowSnapshot};
use crate::wechat::errcodes::Reason;

/// The lines of one window of an app: rendered when a portrait arrives, `None` while there is none to
/// show.
#[derive(Debug, Clone, Default)]
pub struct WindowLines {
    /// Those of the newest portrait.
    pub users: Option<Piece>,
    /// Those of the days before it.
    pub past_users: Option<Piece>,
    /// Those of what it amounts to, for each of [`GAUGES`].
    pub summary: Vec<Piece>,
}

/// One metric and its rendering.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    content: Content,
}

/// When the lines of a family are rendered.
enum Content {
    /// When a portrait arrives.
    Precomputed(fn(&WindowLines) -> Option<&Piece>),
    /// Whenever the app is published.
    Rendered(fn(&AppSnapshot, &mut Lines)),
}

use Content::{Precomputed, Rendered};

/// Returns the family of one of [`GAUGES`].
macro_rules! of_summary {
    ($gauge:literal) => {
        Family {
            name: GAUGES[$gauge].name,
            kind: "gauge",
            help: GAUGES[$gauge].help,
            content: Precomputed(|window| window.summary.get($gauge)),
        }
    };
}

/// A gauge that is exported as well.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// The name of the metric.
    pub name: &'static str,
    /// Its help text.
    pub help: &'static str,
}

impl Series {
    /// The users of the newest portrait.
    pub const USERS: Self = Self {
        name: "wxapp_portrait_users",
        help: "Users as WeChat counted them up to the reference date (Beijing days); cached, refreshed once a day. \
               Every dimension divides the same people, and new users are part of the active ones: \
               a sum must fix cohort, window and dimension.",
    };

    /// The day of the newest portrait.
    pub const REFERENCE_DATE: Self = Self {
        name: "wxapp_portrait_reference_date_timestamp_seconds",
        help: "Midnight in Beijing at which the last day covered by the portrait began.",
    };

    /// The name and the labels of an app.
    pub const APP_INFO: Self = Self {
        name: "wxapp_portrait_app_info",
        help: "The configured name of the app and its labels, such as team, always 1.",
    };
}

const PAST_USERS: &str = "wxapp_portrait_past_users";

/// Every family that has an appid, in the order of the page.
const FAMILIES: &[Family] = &[
    Family {
        name: Series::USERS.name,
        kind: "gauge",
        help: Series::USERS.help,
        content: Precomputed(|window| window.users.as_ref()),
    },
    Family {
        name: PAST_USERS,
        kind: "gauge",
        help: "Users of the window 1d that many days before the reference date, from the archive; \
               absent for days that are not archived.",
        content: Precomputed(|window| window.past_users.as_ref()),
    },
    of_summary!(0),
    of_summary!(1),
    of_summary!(2),
    of_summary!(3),
    of_summary!(4),
    of_summary!(5),
    of_summary!(6),
    Family {
        name: Series::REFERENCE_DATE.name,
        kind: "gauge",
        help: Series::REFERENCE_DATE.help,
        content: Rendered(|app, lines| {
            lines.of_windows(app, |window| {
                window
                    .reference_date
                    .map(|day| calendar::midnight(day).timestamp())
            });
        }),
    },
    Family {
        name: "wxapp_portrait_last_success_timestamp_seconds",
        kind: "gauge",
        help: "When a valid portrait last arrived.",
        content: Rendered(|app, lines| {
            lines.of_windows(app, |window| {
                window.last_success_at.map(|at| at.timestamp())
            });
        }),
    },
    Family {
        name: "wxapp_portrait_last_poll_success",
        kind: "gauge",
        help: "Whether the last poll brought a portrait, or WeChat has not computed the day yet; \
               only from the exporter that polls the app.",
        content: Rendered(|app, lines| {
            lines.of_windows(app, |window| window.last_poll_success.map(u8::from));
        }),
    },
    Family {
        name: "wxapp_portrait_settled",
        kind: "gauge",
        help: "Whether the last two responses for the reference date agree; until then figures can still change.",
        content: Rendered(|app, lines| {
            lines.of_windows(app, |window| {
                window.reference_date.map(|_| u8::from(window.settled))
            });
        }),
    },
    Family {
        name: "wxapp_portrait_next_poll_timestamp_seconds",
        kind: "gauge",
        help: "When the next poll is due; only from the exporter that polls the app.",
        content: Rendered(|app, lines| {
            if let Some(at) = app.next_poll_at {
                lines.add(&[], at.timestamp());
            }
        }),
    },
    Family {
        name: Series::APP_INFO.name,
        kind: "gauge",
        help: Series::APP_INFO.help,
        content: Rendered(|app, lines| lines.add(&labels_of_app(&app.name, &app.labels), 1)),
    },
    Family {
        name: "wxapp_portrait_swing_threshold_ratio",
        kind: "gauge",
        help: "The smallest fall of users that can be a swing, as a share; for a rise, the fall that would reverse it.",
        content: Rendered(|app, lines| lines.add(&[], app.comparison.swing.threshold_ratio)),
    },
    Family {
        name: "wxapp_portrait_swing_min_users",
        kind: "gauge",
        help: "How many users there must be, usually or on the day, for a change to be a swing.",
        content: Rendered(|app, lines| lines.add(&[], app.comparison.swing.min_users)),
    },
    Family {
        name: "wxapp_portrait_polls_total",
        kind: "counter",
        help: "Requested portraits.",
        content: Rendered(|app, lines| lines.of_windows(app, |window| Some(window.polls))),
    },
    Family {
        name: "wxapp_portrait_poll_failures_total",
        kind: "counter",
        help: "Requested portraits that did not arrive, by reason; not_ready and empty are normal in the morning.",
        content: Rendered(|app, lines| {
            for window in &app.windows {
                for reason in Reason::ALL {
                    let labels = [
                        ("window", window.window.as_str()),
                        ("reason", reason.as_str()),
                    ];
                    lines.add(&labels, window.failures[reason]);
                }
            }
        }),
    },
    Family {
        name: "wxapp_portrait_revisions_total",
        kind: "counter",
        help: "Portraits that came with other figures than the same day had before.",
        content: Rendered(|app, lines| lines.of_windows(app, |window| Some(window.revisions))),
    },
    Family {
        name: "wxapp_portrait_repairs_total",
        kind: "counter",
        help: "What had to be repaired in responses that brought new figures.",
        content: Rendered(|app, lines| {
            for repair in Repair::ALL {
                lines.add(&[("repair", repair.as_str())], app.repairs[repair]);
            }
        }),
    },
    Family {
        name: "wxapp_portrait_last_poll_failure_info",
        kind: "gauge",
        help: "Why the last poll brought no portrait, always 1; absent when it did; only from the exporter that polls the app.",
        content: Rendered(|app, lines| {
            for window in &app.windows {
                if let Some(failure) = &window.last_failure {
                    let labels = [
                        ("window", window.window.as_str()),
                        ("reason", failure.reason.as_str()),
                    ];
                    lines.add(&labels, 1);
                }
            }
        }),
    },
    Family {
        name: "wxapp_portrait_archived_portraits",
        kind: "gauge",
        help: "Days of which the archive holds the portrait.",
        content: Rendered(|app, lines| {
            lines.of_windows(app, |window| Some(window.coverage.days()));
        }),
    },
];

/// HELP and TYPE of every family, as they precede its lines.
static HEADERS: LazyLock<Vec<Piece>> = LazyLock::new(|| {
    FAMILIES
        .iter()
        .map(
            |Family {
                 name, kind, help, ..
             }| Piece::new(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")),
        )
        .collect()
});

/// The lines of one family and app, while they are written.
struct Lines {
    /// The beginning of every line: the name and the appid.
    start: String,
    text: String,
}

impl Lines {
    fn new(name: &str, appid: &AppId) -> Self {
        Self {
            start: format!("{name}{{appid=\"{appid}\""),
            text: String::new(),
        }
    }

    /// Adds a line with these labels after the appid.
    fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.add_series(labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// Adds everything that precedes the value.
    fn add_series(&mut self, labels: &[(&str, &str)]) {
        // Without the formatting machinery, as there are hundreds of lines for an app.
        self.text += &self.start;
        for (label, value) in labels {
            for part in [",", label, "=\"", &escape(value), "\""] {
                self.text += part;
            }
        }
        self.text.push('}');
    }

    /// Adds a line for each window that has a value.
    fn of_windows<T: std::fmt::Display>(
        &mut self,
        app: &AppSnapshot,
        value: impl Fn(&WindowSnapshot) -> Option<T>,
    ) {
        for window in &app.windows {
            if let Some(value) = value(window) {
                self.add(&[("window", window.window.as_str())], value);
            }
        }
    }
}

/// Escapes a label value as the text format requires.
fn escape(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        Cow::Owned(
            value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n"),
        )
    } else {
        Cow::Borrowed(value)
    }
}

/// Renders the users of a portrait in the dimensions that are shown.
#[must_use]
pub fn users(appid: &AppId, portrait: &Portrait, dimensions: &[Dimension]) -> Piece {
    let mut lines = Lines::new(Series::USERS.name, appid);
    for (cohort, dimension, name, users) in portrait.rows(dimensions) {
        lines.add(
            &labels_of_users(portrait.window, cohort, dimension, name),
            users,
        );
    }
    Piece::new(&lines.text)
}

/// Writes the series of users as they are on the page, without a value.
#[must_use]
pub fn series_of_users(
    appid: &AppId,
    window: Window,
    cohort: Cohort,
    dimension: Dimension,
    name: &str,
) -> String {
    let labels = labels_of_users(window, cohort, dimension, name);
    series(Series::USERS.name, appid, &labels)
}

/// Writes the series of the name and the labels of an app as it is on the page, without a value.
#[must_use]
pub fn series_of_app(appid: &AppId, name: &str, labels: &BTreeMap<String, String>) -> String {
    let labels = labels_of_app(name, labels);
    series(Series::APP_INFO.name, appid, &labels)
}

/// Writes a series as it is on the page, without a value.
#[must_use]
pub fn series(name: &str, appid: &AppId, labels: &[(&str, &str)]) -> String {
    let mut lines = Lines::new(name, appid);
    lines.add_series(labels);
    lines.text
}

fn labels_of_users(
    window: Window,
    cohort: Cohort,
    dimension: Dimension,
    name: &str,
) -> [(&'static str, &str); 4] {
    [
        ("window", window.as_str()),
        ("cohort", cohort.as_str()),
        ("dimension", dimension.as_str()),
        ("name", name),
    ]
}

fn labels_of_app<'a>(
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![("app", name)];
    all.extend(labels.iter().map(|(name, value)| (&**name, &**value)));
    all
}

/// Renders the users of days before the one that is shown, each with its number of days before.
#[must_use]
pub fn past_users(appid: &AppId, past: &[(u32, &Portrait)], dimensions: &[Dimension]) -> Piece {
    let mut lines = Lines::new(PAST_USERS, appid);
    for (days_ago, portrait) in past {
        let days_ago = days_ago.to_string();
        for (cohort, dimension, name, users) in portrait.rows(dimensions) {
            let labels = [
                ("cohort", cohort.as_str()),
                ("dimension", dimension.as_str()),
                ("name", name),
                ("days_ago", &days_ago),
            ];
            lines.add(&labels, users);
        }
    }
    Piece::new(&lines.text)
}

/// Renders what a portrait amounts to, for each of [`GAUGES`].
#[must_use]
pub fn summary(appid: &AppId, window: Window, summary: &Summary) -> Vec<Piece> {
    let texts = GAUGES.map(|gauge| {
        let mut lines = Lines::new(gauge.name, appid);
        (gauge.series)(window, summary, &mut |labels, value| {
            lines.add(labels, value);
        });
        lines.text
    });
    Piece::of_all(&texts)
}

/// Everything that is published, shared by the pollers and the web server.
#[derive(Debug, Default)]
pub struct Page {
    apps: Mutex<Blocks>,
}

impl Page {
    /// Puts an app on the page, replacing what was published about it before. `lines` are those of its
    /// windows; of a window without them, those published before stay. For an app whose archive was not read
    /// yet nothing is published about windows, and `lines` are ignored: without their reference dates alerts would
    /// consider it an app that never had a portrait.
    pub fn publish(&self, app: &AppSnapshot, lines: &[Option<WindowLines>]) {
        if app.is_restored {
            self.publish_windows(app, lines);
        } else {
            let windows = Vec::new();
            let app = AppSnapshot {
                windows,
                ..app.clone()
            };
            self.publish_windows(&app, &[]);
        }
    }

    fn publish_windows(&self, app: &AppSnapshot, lines: &[Option<WindowLines>]) {
        let rendered = render(app);
        let mut apps = self.apps();
        let before = apps.get(&app.appid);
        let families = FAMILIES.iter().zip(rendered).enumerate();
        let families = families.map(|(family, (Family { content, .. }, rendered))| {
            let Precomputed(piece) = content else {
                return vec![rendered];
            };
            let of_window = |(place, window): (usize, &WindowSnapshot)| {
                let of_lines = |lines: &WindowLines| piece(lines).cloned();
                match lines.get(place) {
                    Some(Some(lines)) => of_lines(lines).unwrap_or_default(),
                    _ => kept(before, family, window.window),
                }
            };
            app.windows.iter().enumerate().map(of_window).collect()
        });
        let lines = App {
            families: families.collect(),
            windows: app.windows.iter().map(|window| window.window).collect(),
        };
        apps.set(app.appid.clone(), lines);
    }

    /// Removes an app from the page.
    pub fn remove(&self, appid: &AppId) {
        self.apps().remove(appid);
    }

    /// Returns the lines of all apps.
    #[must_use]
    pub fn all(&self) -> Member {
        let mut apps = self.apps();
        let mut member = Member::default();
        for (family, header) in HEADERS.iter().enumerate() {
            add(&mut member, header, apps.join(family));
        }
        member
    }

    /// Returns the lines of one app, if it is on the page.
    #[must_use]
    pub fn of(&self, appid: &AppId) -> Option<Member> {
        let apps = self.apps();
        let app = apps.get(appid)?;
        let mut member = Member::default();
        for (header, pieces) in HEADERS.iter().zip(&app.families) {
            add(&mut member, header, pieces.iter().cloned());
        }
        Some(member)
    }

    fn apps(&self) -> MutexGuard<'_, Blocks> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renders the lines of an app that do not depend on a portrait, by family; the others are empty.
fn render(app: &AppSnapshot) -> Vec<Piece> {
    let texts = FAMILIES.iter().map(|family| {
        let mut lines = Lines::new(family.name, &app.appid);
        if let Rendered(render) = family.content {
            render(app, &mut lines);
        }
        lines.text
    });
    // They share one allocation.
    Piece::of_all(&texts.collect::<Vec<_>>())
}

/// Returns the lines of a family and window of an app as they were published before, if they were.
fn kept(before: Option<&App>, family: usize, window: Window) -> Piece {
    let kept = before.and_then(|app| {
        let mut windows = app.windows.iter();
        let place = windows.position(|other| *other == window)?;
        app.families.get(family)?.get(place)
    });
    kept.cloned().unwrap_or_default()
}

/// Adds the lines of a family, if there are any.
fn add(member: &mut Member, header: &Piece, pieces: impl Iterator<Item = Piece>) {
    let mut pieces = pieces.filter(|piece| !piece.is_empty()).peekable();
    if pieces.peek().is_some() {
        member.push(header.clone());
    }
    pieces.for_each(|piece| member.push(piece));
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use chrono::{DateTime, NaiveDate, Utc};

    use super::*;
    use crate::calendar::DayKind;
    use crate::expectation::{Bounds, CohortExpectation, Drift, PlatformExpectation};
    use crate::state::{CohortSummary, Failure};
    use crate::wechat::{DecodeError, decode};

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 11, 21).unwrap()
    }

    fn at(hour: u32) -> DateTime<Utc> {
        day().and_hms_opt(hour, 0, 0).unwrap().and_utc()
    }

    fn appid(text: &str) -> AppId {
        text.parse().unwrap()
    }

    fn snapshot(windows: &[Window]) -> AppSnapshot {
        let windows = windows.iter().copied().map(WindowSnapshot::new);
        AppSnapshot {
            name: "商城".to_owned(),
            next_poll_at: Some(at(8)),
            ..AppSnapshot::new(appid("wx0123456789abcdef"), windows.collect())
        }
    }

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let labels = labels.iter();
        labels
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn text_of(member: Member) -> String {
        String::from_utf8(member.plain().flatten().collect()).unwrap()
    }

    fn portrait(answer: &Value, window: Window) -> Portrait {
        decode::portrait(answer.to_string().as_bytes(), window, day())
            .unwrap()
            .portrait
    }

    type Labels = Vec<(String, String)>;

    /// Parses a page as strictly as Prometheus does, without any code of the page; returns the value of
    /// every series, by name and labels.
    fn parse(text: &str) -> BTreeMap<(String, Labels), String> {
        let mut series = BTreeMap::new();
        let mut families = Vec::new();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.split_terminator('\n') {
            if let Some(header) = line.strip_prefix("# TYPE ") {
                let (family, _) = header.split_once(' ').unwrap();
                assert!(!families.contains(&family), "{family} is there twice");
                families.push(family);
                continue;
            }
            if line.starts_with("# HELP ") {
                continue;
            }
            let (name, rest) = line.split_once('{').unwrap();
            assert_eq!(families.last(), Some(&name), "a line outside of its family");
            let (labels, value) = parse_labels(rest);
            assert!(value.parse::<f64>().is_ok(), "{line:?}");
            let held = series.insert((name.to_owned(), labels), value.to_owned());
            assert_eq!(held, None, "a series is there twice: {line:?}");
        }
        series
    }

    /// Parses the text after the opening brace: labels, and the value.
    fn parse_labels(text: &str) -> (Labels, &str) {
        let mut labels = Vec::new();
        let mut rest = text;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut characters = after.chars();
            loop {
                match characters.next().unwrap() {
                    '"' => break,
                    '\\' => value.push(match characters.next().unwrap() {
                        'n' => '\n',
                        character @ ('\\' | '"') => character,
                        character => panic!("\\{character} is not an escape"),
                    }),
                    character => value.push(character),
                }
            }
            labels.push((label.to_owned(), value));
            rest = characters.as_str();
            if let Some(value) = rest.strip_prefix("} ") {
                return (labels, value);
            }
            rest = rest.strip_prefix(',').unwrap();
        }
    }

    /// Checks that the page of a portrait, parsed again, has the figures of the portrait.
    fn assert_shown(portrait: &Portrait) {
        let app = snapshot(&[portrait.window]);
        let lines = WindowLines {
            users: Some(users(&app.appid, portrait, &Dimension::ALL)),
            ..WindowLines::default()
        };
        let page = Page::default();
        page.publish(&app, &[Some(lines)]);
        let shown: BTreeMap<Vec<String>, String> = parse(&text_of(page.all()))
            .into_iter()
            .filter(|((family, _), _)| family == Series::USERS.name)
            .map(|((_, labels), users)| {
                let (labels, values): (Vec<_>, Vec<_>) = labels.into_iter().unzip();
                assert_eq!(labels, ["appid", "window", "cohort", "dimension", "name"]);
                (values, users)
            })
            .collect();
        let mut expected = BTreeMap::new();
        for cohort in Cohort::ALL {
            for dimension in Dimension::ALL {
                for (name, users) in portrait.breakdown(cohort, dimension).iter() {
                    let labels = [
                        "wx0123456789abcdef",
                        portrait.window.as_str(),
                        cohort.as_str(),
                        dimension.as_str(),
                        name,
                    ];
                    expected.insert(labels.map(str::to_owned).to_vec(), users.to_string());
                }
            }
        }
        assert_eq!(shown, expected);
    }

    /// Any JSON, including the keys and values that have a meaning.
    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof![
            proptest::sample::select(vec![
                "visit_uv",
                "visitUvNew",
                "province",
                "city",
                "genders",
                "platfomrs",
                "devices",
                "ages",
                "name",
                "value",
                "errcode",
                "access_source_visit_uv",
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ];
        any_leaf().prop_recursive(6, 64, 6, move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..6).prop_map(Value::from),
                vec((key.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn any_leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<u32>().prop_map(|number| Value::from(number.to_string())),
            any_name().prop_map(Value::from),
        ]
    }

    /// Any text, and texts of few characters, so that some are equal.
    fn any_name() -> impl Strategy<Value = String> {
        let awkward = [
            "\"", "\\", "\n", "\r", "\0", "\u{fffd}", " ", "\u{202e}", "😀", "ا", "n", "未知",
        ];
        prop_oneof![
            any::<String>(),
            vec(proptest::sample::select(awkward.to_vec()), 0..4).prop_map(|parts| parts.concat()),
        ]
    }

    /// What looks like a portrait, with any names and mostly readable values.
    fn any_portrait() -> impl Strategy<Value = Value> {
        let value = prop_oneof![4 => any::<u64>().prop_map(Value::from), 1 => any_leaf()];
        let row =
            (any_name(), value).prop_map(|(name, value)| json!({"name": name, "value": value}));
        let list = vec(prop_oneof![9 => row, 1 => any_leaf()], 0..5);
        let half = vec(list, Dimension::ALL.len()).prop_map(|lists| {
            let names = [
                "province",
                "city",
                "genders",
                "platforms",
                "devices",
                "ages",
            ];
            let lists = lists.into_iter().map(Value::from);
            Value::Object(
                names
                    .map(str::to_owned)
                    .into_iter()
                    .zip(lists)
                    .collect::<Map<_, _>>(),
            )
        });
        (half.clone(), half).prop_map(|(new, active)| {
            json!({"ref_date": "20261121", "visit_uv_new": new, "visit_uv": active})
        })
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_page(body in vec(any::<u8>(), 0..200)) {
            if let Ok(answer) = decode::portrait(&body, Window::OneDay, day()) {
                assert_shown(&answer.portrait);
            }
        }

        #[test]
        fn no_json_breaks_the_page(new in any_json(), active in any_json()) {
            let body = json!({"ref_date": "20261121", "visit_uv_new": new, "visit_uv": active});
            for body in [body.to_string(), active.to_string()] {
                if let Ok(answer) = decode::portrait(body.as_bytes(), Window::OneDay, day()) {
                    assert_shown(&answer.portrait);
                }
            }
        }

        #[test]
        fn no_names_and_values_break_the_page(body in any_portrait(), limit in 1_usize..5) {
            let body = body.to_string();
            match decode::portrait(body.as_bytes(), Window::OneDay, day()) {
                Ok(answer) => {
                    assert_shown(&answer.portrait);
                    let again = decode::portrait(answer.text.as_bytes(), Window::OneDay, day());
                    prop_assert_eq!(&again.unwrap(), &answer, "read again");
                    let archived = decode::archived(&answer.text, Window::OneDay, day());
                    prop_assert_eq!(&archived.unwrap(), &answer.portrait, "read from the archive");
                    let mut folded = answer.portrait;
                    for dimension in Dimension::ALL {
                        folded.breakdown_mut(Cohort::Active, dimension).fold(limit);
                    }
                    assert_shown(&folded);
                }
                // Every list of a half may be empty or unreadable.
                Err(error) => prop_assert!(
                    matches!(error, DecodeError::Empty | DecodeError::Unreadable(..)),
                    "{}", error
                ),
            }
        }

        #[test]
        fn the_name_and_labels_of_an_app_do_not_break_the_page(name in any::<String>(), team in any::<String>()) {
            let page = Page::default();
            let labels = labels(&[("team", &team)]);
            page.publish(&AppSnapshot { name: name.clone(), labels, ..snapshot(&[Window::OneDay]) }, &[]);
            let labels = [("appid", "wx0123456789abcdef"), ("app", &name), ("team", &team)];
            let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned())).to_vec();
            let info = ("wxapp_portrait_app_info".to_owned(), labels);
            prop_assert_eq!(parse(&text_of(page.all())).remove(&info), Some("1".to_owned()));
        }
    }

    /// What a portrait amounts to, with a figure for every gauge.
    fn filled_summary() -> Summary {
        let bounds = |usual: f64| Bounds {
            usual,
            lower: usual / 2.0,
            upper: usual * 2.0,
        };
        let new = CohortSummary {
            users: Some(9),
            expected: CohortExpectation {
                users: Some(bounds(10.0)),
                platforms: vec![PlatformExpectation {
                    name: "iPhone".to_owned(),
                    users: None,
                    share: Some(bounds(0.4)),
                }],
                drift: Some(Drift {
                    ratio: -0.31,
                    limit_ratio: -0.2279,
                }),
            },
            ..CohortSummary::default()
        };
        let mut active = new.clone();
        active.users = None;
        active.expected.platforms[0].users = Some(bounds(40.5));
        active.expected.drift = None;
        Summary {
            day_kind: DayKind::MakeupWorkday,
            holiday: "国庆节".to_owned(),
            cohorts: [new, active],
        }
    }

    #[test]
    fn the_page_of_one_app() {
        let mut app = snapshot(&[Window::OneDay, Window::SevenDays]);
        app.labels = labels(&[("team", "零售"), ("city", "a\\b \"c\"")]);
        let half = |users: u64| {
            json!({
                "province": [{"name": "广东省", "value": users * 2}, {"name": "", "value": users}],
                "genders": [{"name": "男", "value": users}, {"name": "女", "value": users * 2}],
                "platforms": [{"name": "iPhone", "value": users}, {"name": "Android", "value": users * 2}],
                "devices": [{"name": "苹果 \"XS\\MAX\"\n", "value": users}],
            })
        };
        let answer = json!({"ref_date": "20261121", "visit_uv_new": half(3), "visit_uv": half(40)});
        let shown = [Dimension::Platform, Dimension::Province, Dimension::Device];
        let lines = users(&app.appid, &portrait(&answer, Window::OneDay), &shown);
        let past = portrait(&answer, Window::OneDay);
        let past_lines = past_users(
            &app.appid,
            &[(1, &past), (28, &past)],
            &[Dimension::Platform],
        );
        app.repairs[Repair::BlankName] = 2;
        let [day_record, week] = &mut app.windows[..] else {
            panic!("two windows")
        };
        day_record.reference_date = Some(day());
        day_record.settled = true;
        day_record.last_success_at = Some(at(8));
        day_record.last_poll_success = Some(true);
        day_record.polls = 5;
        day_record.failures[Reason::NotReady] = 3;
        day_record.revisions = 1;
        week.last_poll_success = Some(false);
        week.last_failure = Some(Failure {
            reason: Reason::IpNotAllowed,
            errcode: Some(40164),
            problem: "never on the page".to_owned(),
        });
        week.polls = 1;
        week.failures[Reason::IpNotAllowed] = 1;
        let page = Page::default();
        let lines = WindowLines {
            users: Some(lines),
            past_users: Some(past_lines),
            summary: super::summary(&app.appid, Window::OneDay, &filled_summary()),
        };
        page.publish(&app, &[Some(lines), None]);
        let text = text_of(page.all());
        parse(&text);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn every_gauge_of_a_summary_is_on_the_page() {
        for gauge in GAUGES {
            assert!(
                FAMILIES.iter().any(|family| family.name == gauge.name),
                "{}",
                gauge.name
            );
        }
    }

    #[test]
    fn apps_share_their_families_and_are_sorted() {
        let page = Page::default();
        for name in ["b", "a", "c"] {
            let app = AppSnapshot {
                appid: appid(name),
                ..snapshot(&[Window::OneDay])
            };
            page.publish(&app, &[]);
        }
        let text = text_of(page.all());
        assert_eq!(
            text.matches("# TYPE wxapp_portrait_app_info gauge").count(),
            1
        );
        let apps: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("wxapp_portrait_app_info{appid=\""))
            .map(|rest| &rest[..1])
            .collect();
        assert_eq!(apps, ["a", "b", "c"]);
        let all = parse(&text);
        let mut of_apps = BTreeMap::new();
        for name in ["a", "b", "c"] {
            of_apps.extend(parse(&text_of(page.of(&appid(name)).unwrap())));
        }
        assert_eq!(all, of_apps);
        assert!(page.of(&appid("d")).is_none());
    }

    #[test]
    fn what_was_published_before_is_replaced() {
        let page = Page::default();
        for polls in [1, 2] {
            let mut app = snapshot(&[Window::OneDay]);
            app.windows[0].polls = polls;
            page.publish(&app, &[]);
        }
        let text = text_of(page.all());
        let polls: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("wxapp_portrait_polls_total"))
            .collect();
        assert_eq!(
            polls,
            [r#"wxapp_portrait_polls_total{appid="wx0123456789abcdef",window="1d"} 2"#]
        );
    }

    #[test]
    fn the_lines_of_a_window_stay_until_there_are_others() {
        let page = Page::default();
        let lines = |text: &str| {
            Some(WindowLines {
                users: Some(Piece::new(text)),
                ..WindowLines::default()
            })
        };
        let shown = || {
            let text = text_of(page.all());
            let lines = text.lines().filter(|line| line.len() == 1);
            lines.collect::<String>()
        };
        let (day, week) = (Window::OneDay, Window::SevenDays);
        for (windows, lines, expected) in [
            (&[day, week][..], &[lines("d\n"), lines("w\n")][..], "dw"),
            (&[day, week], &[None, lines("x\n")], "dx"),
            (&[week, day], &[None, None], "xd"),
            (&[day], &[None], "d"),
            (&[day, week], &[None, None], "d"),
            (&[day], &[Some(WindowLines::default())], ""),
        ] {
            page.publish(&snapshot(windows), lines);
            assert_eq!(shown(), expected);
        }
    }

    #[test]
    fn before_the_archive_was_read_nothing_is_published_about_windows() {
        let page = Page::default();
        let mut app = snapshot(&[Window::OneDay]);
        app.is_restored = false;
        page.publish(&app, &[Some(WindowLines::default())]);
        let text = text_of(page.all());
        assert!(text.contains("wxapp_portrait_app_info{"), "{text}");
        assert!(!text.contains("window="), "{text}");
    }

    #[test]
    fn an_empty_page_is_empty() {
        assert_eq!(text_of(Page::default().all()), "");
    }
}
