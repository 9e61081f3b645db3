//! The page: what is published about every app, ready to be sent.
//!
//! A portrait changes once a day and is scraped thousands of times, so all work happens when
//! something changes: the lines of one app and family are rendered and compressed once, and
//! swapped in whole. A scrape only joins them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use chrono::{DateTime, NaiveDate, Utc};

use super::deflate::{Member, Piece};
use crate::calendar;
use crate::portrait::{AppId, Cohort, Dimension, Portrait, Repair, Repairs, Window};
use crate::wechat::errcode::Reason;

/// What is published about one app.
#[derive(Debug, Clone)]
pub struct AppRecord {
    /// Whose it is.
    pub appid: AppId,
    /// What people call it.
    pub name: String,
    /// Every configured window, in the order of the configuration.
    pub windows: Vec<WindowRecord>,
    /// What had to be mended in answers that brought new figures.
    pub repairs: Repairs,
    /// When it will be asked again.
    pub next_poll_at: DateTime<Utc>,
}

/// What is published about one window of an app.
#[derive(Debug, Clone)]
pub struct WindowRecord {
    /// Which window.
    pub window: Window,
    /// The last Beijing day of the newest portrait.
    pub reference_date: Option<NaiveDate>,
    /// The lines of that portrait, unless it is stale.
    pub users: Option<Piece>,
    /// Whether the last two answers for the reference date agree.
    pub settled: bool,
    /// When a valid portrait last arrived.
    pub last_success_at: Option<DateTime<Utc>>,
    /// Whether the last poll went as it should; none before the first.
    pub last_poll_success: Option<bool>,
    /// Why the last poll brought no portrait, for people.
    pub last_problem: Option<String>,
    /// How often it was asked for.
    pub polls: u64,
    /// How often that brought no portrait, by reason.
    pub failures: [u64; Reason::ALL.len()],
    /// How often a day already held came back with other figures.
    pub revisions: u64,
    /// How many days the archive holds.
    pub archive_days: u32,
}

impl AppRecord {
    /// Starts a record of an app of which nothing is known.
    #[must_use]
    pub fn new(
        appid: AppId,
        name: String,
        windows: &[Window],
        next_poll_at: DateTime<Utc>,
    ) -> Self {
        let windows = windows
            .iter()
            .map(|window| WindowRecord::new(*window))
            .collect();
        Self {
            appid,
            name,
            windows,
            repairs: Repairs::default(),
            next_poll_at,
        }
    }

    /// Tells whether every window has a portrait, or was asked for one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.windows
            .iter()
            .all(|window| window.reference_date.is_some() || window.last_poll_success.is_some())
    }
}

impl WindowRecord {
    fn new(window: Window) -> Self {
        Self {
            window,
            reference_date: None,
            users: None,
            settled: false,
            last_success_at: None,
            last_poll_success: None,
            last_problem: None,
            polls: 0,
            failures: [0; Reason::ALL.len()],
            revisions: 0,
            archive_days: 0,
        }
    }
}

/// One metric: everything that the page has to say about it.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    lines: fn(&AppRecord, &mut Lines),
}

const USERS: &str = "wxapp_portrait_users";

/// Every family that has an appid, in the order of the page.
const FAMILIES: &[Family] = &[
    Family {
        name: USERS,
        kind: "gauge",
        help: "Users as WeChat counted them up to the reference date (Beijing days); cached, refreshed once a day. \
               Every dimension divides the same people, and new users are part of the active ones: \
               a sum must fix cohort, window and dimension.",
        // Rendered when a portrait arrives, see `users`.
        lines: |_, _| {},
    },
    Family {
        name: "wxapp_portrait_reference_date_timestamp_seconds",
        kind: "gauge",
        help: "Midnight in Beijing at which the last day covered by the portrait began.",
        lines: |app, lines| {
            lines.of_windows(app, |window| {
                window
                    .reference_date
                    .map(|day| calendar::midnight(day).timestamp())
            });
        },
    },
    Family {
        name: "wxapp_portrait_last_success_timestamp_seconds",
        kind: "gauge",
        help: "When a valid portrait last arrived.",
        lines: |app, lines| {
            lines.of_windows(app, |window| {
                window.last_success_at.map(|at| at.timestamp())
            });
        },
    },
    Family {
        name: "wxapp_portrait_last_poll_success",
        kind: "gauge",
        help: "Whether the last poll went as it should: it brought a portrait, or WeChat has not computed the day yet.",
        lines: |app, lines| lines.of_windows(app, |window| window.last_poll_success.map(u8::from)),
    },
    Family {
        name: "wxapp_portrait_settled",
        kind: "gauge",
        help: "Whether the last two answers for the reference date agree; until then figures can still change.",
        lines: |app, lines| {
            lines.of_windows(app, |window| {
                window.reference_date.map(|_| u8::from(window.settled))
            });
        },
    },
    Family {
        name: "wxapp_portrait_next_poll_timestamp_seconds",
        kind: "gauge",
        help: "When WeChat will be asked again.",
        lines: |app, lines| {
            lines.add(
                &[("appid", app.appid.as_str())],
                app.next_poll_at.timestamp(),
            );
        },
    },
    Family {
        name: "wxapp_portrait_app_info",
        kind: "gauge",
        help: "The configured name of the app, always 1.",
        lines: |app, lines| lines.add(&[("appid", app.appid.as_str()), ("app", &app.name)], 1),
    },
    Family {
        name: "wxapp_portrait_polls_total",
        kind: "counter",
        help: "Portraits asked for.",
        lines: |app, lines| lines.of_windows(app, |window| Some(window.polls)),
    },
    Family {
        name: "wxapp_portrait_poll_failures_total",
        kind: "counter",
        help: "Portraits asked for that did not come, by reason; not_ready and empty are normal in the morning.",
        lines: |app, lines| {
            for window in &app.windows {
                for reason in Reason::ALL {
                    let labels = [
                        ("appid", app.appid.as_str()),
                        ("window", window.window.as_str()),
                        ("reason", reason.as_str()),
                    ];
                    lines.add(&labels, window.failures[reason as usize]);
                }
            }
        },
    },
    Family {
        name: "wxapp_portrait_revisions_total",
        kind: "counter",
        help: "Portraits that came with other figures than the same day had before.",
        lines: |app, lines| lines.of_windows(app, |window| Some(window.revisions)),
    },
    Family {
        name: "wxapp_portrait_repairs_total",
        kind: "counter",
        help: "What had to be mended in answers that brought new figures.",
        lines: |app, lines| {
            for repair in Repair::ALL {
                lines.add(
                    &[("appid", app.appid.as_str()), ("repair", repair.as_str())],
                    app.repairs[repair],
                );
            }
        },
    },
    Family {
        name: "wxapp_portrait_archive_days",
        kind: "gauge",
        help: "Days that the archive holds.",
        lines: |app, lines| lines.of_windows(app, |window| Some(window.archive_days)),
    },
];

/// HELP and TYPE of every family, as they stand before its lines.
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

/// The lines of one family, while they are written.
struct Lines {
    name: &'static str,
    text: String,
}

impl Lines {
    fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text += self.name;
        for (index, (label, value)) in labels.iter().enumerate() {
            let separator = if index == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{separator}{label}=\"{}\"", escape(value));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    /// Adds a line for each window that has a value.
    fn of_windows<T: std::fmt::Display>(
        &mut self,
        app: &AppRecord,
        value: impl Fn(&WindowRecord) -> Option<T>,
    ) {
        for window in &app.windows {
            if let Some(value) = value(window) {
                self.add(
                    &[
                        ("appid", app.appid.as_str()),
                        ("window", window.window.as_str()),
                    ],
                    value,
                );
            }
        }
    }
}

/// Escapes a label value as the text format wants it.
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
    let mut lines = Lines {
        name: USERS,
        text: String::new(),
    };
    for cohort in Cohort::ALL {
        for dimension in dimensions {
            for (name, users) in portrait.division(cohort, *dimension).iter() {
                let labels = [
                    ("appid", appid.as_str()),
                    ("window", portrait.window.as_str()),
                    ("cohort", cohort.as_str()),
                    ("dimension", dimension.as_str()),
                    ("name", name),
                ];
                lines.add(&labels, users);
            }
        }
    }
    Piece::new(&lines.text)
}

/// One app on the page: what is said about it, and the pieces that say it, by family.
#[derive(Debug)]
struct Sheet {
    record: Arc<AppRecord>,
    pieces: Vec<Vec<Piece>>,
}

impl Sheet {
    fn new(record: AppRecord) -> Self {
        let pieces = FAMILIES.iter().map(|family| {
            if family.name == USERS {
                return record
                    .windows
                    .iter()
                    .filter_map(|window| window.users.clone())
                    .collect();
            }
            let mut lines = Lines {
                name: family.name,
                text: String::new(),
            };
            (family.lines)(&record, &mut lines);
            vec![Piece::new(&lines.text)]
        });
        Self {
            pieces: pieces.collect(),
            record: Arc::new(record),
        }
    }
}

/// Everything that is published, shared by those who poll and those who serve.
#[derive(Debug, Default)]
pub struct Page {
    sheets: RwLock<BTreeMap<AppId, Arc<Sheet>>>,
}

impl Page {
    /// Puts an app on the page, in the place of what was said about it before.
    pub fn publish(&self, record: AppRecord) {
        let sheet = Sheet::new(record);
        let mut sheets = self.sheets.write().unwrap_or_else(PoisonError::into_inner);
        sheets.insert(sheet.record.appid.clone(), Arc::new(sheet));
    }

    /// Returns what is said about every app, sorted by appid.
    #[must_use]
    pub fn records(&self) -> Vec<Arc<AppRecord>> {
        let sheets = self.sheets.read().unwrap_or_else(PoisonError::into_inner);
        sheets
            .values()
            .map(|sheet| Arc::clone(&sheet.record))
            .collect()
    }

    /// Returns the lines of all apps.
    #[must_use]
    pub fn all(&self) -> Member {
        join(
            &self
                .sheets
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .cloned()
                .collect::<Vec<_>>(),
        )
    }

    /// Returns the lines of one app, if it is on the page.
    #[must_use]
    pub fn of(&self, appid: &AppId) -> Option<Member> {
        let sheet = self
            .sheets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(appid)
            .cloned();
        sheet.map(|sheet| join(&[sheet]))
    }
}

fn join(sheets: &[Arc<Sheet>]) -> Member {
    let mut member = Member::default();
    for (family, header) in HEADERS.iter().enumerate() {
        let mut pieces = sheets
            .iter()
            .flat_map(|sheet| &sheet.pieces[family])
            .filter(|piece| !piece.is_empty())
            .peekable();
        if pieces.peek().is_some() {
            member.push(header.clone());
        }
        for piece in pieces {
            member.push(piece.clone());
        }
    }
    member
}
