//! `check`: requests a portrait of every configured app once, and reports the results: as JSON, or as a
//! table in Chinese or English.
//!
//! Does not open the archive, so that no stored data changes.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{Error, ProcessContext, log_warnings, print_stdout, progress, without_blocking};
use crate::calendar;
use crate::cli::{self, CheckFormat};
use crate::config::access::AccessMethod;
use crate::config::{self, App, MissingHolidays};
use crate::language::{self, Language};
use crate::portrait::{Cohort, Dimension, Portrait, Window};
use crate::wechat::chinese;
use crate::wechat::errcodes::Reason;
use crate::wechat::{self, Access, Client, Diagnosis, Endpoint, Settings};

/// Checks the apps and reports each, in the order of the configuration, until `shutdown`.
///
/// # Errors
///
/// The configuration is wrong, or an app failed.
pub(super) async fn run(flags: &cli::Check, context: ProcessContext) -> Result<(), Error> {
    let mut shutdown = pin!(context.shutdown);
    let language = Language::of_terminal(&context.environment);
    let load = without_blocking({
        let (path, environment) = (flags.config.path.clone(), context.environment);
        move || config::load(&path, environment)
    });
    let config = tokio::select! {
        config = load => config?,
        () = &mut shutdown => return Err(Error::Interrupted),
    };
    log_warnings(&config);
    let now = (context.clock)();
    if let Some(missing) = MissingHolidays::of(&config.apps, calendar::today(now)) {
        missing.log();
    }
    for appid in &flags.appid {
        if !config.apps.iter().any(|app| app.appid == *appid) {
            let problem = format!(
                "--appid {appid}: no such app in {}",
                flags.config.path.display()
            );
            return Err(Error::Usage(problem));
        }
    }
    let mut apps = config.apps;
    apps.retain(|app| flags.appid.is_empty() || flags.appid.contains(&app.appid));
    let settings = Settings {
        wechat: config.wechat,
        concurrency: config.poll.concurrency,
        backoff: wechat::BACKOFF,
        secret_variables: config.secret_variables,
    };
    let client = Client::new(settings, Arc::clone(&context.clock), |_| {})?;

    let report = Report::new(flags.format, language, &apps);
    report.write(&report.head())?;
    let all = apps.len();
    let client = &client;
    let findings = stream::iter(&apps).map(|app| Finding::of(client, app, now));
    let mut findings = pin!(findings.buffered(config.poll.concurrency));
    let mut totals = Totals::default();
    for index in 0..all {
        let finding = tokio::select! {
            finding = findings.next() => finding,
            () = &mut shutdown => {
                report.progress.finish_and_clear();
                return Err(Error::Interrupted);
            }
        };
        let Some(finding) = finding else { break };
        totals.add(&finding, now);
        report.write(&report.row(&finding, index + 1 == all))?;
        report.progress.inc(1);
    }
    report.progress.finish_and_clear();
    report.write(&report.foot(&totals, now))?;
    if totals.failed > 0 {
        return Err(Error::Check);
    }
    Ok(())
}

/// The result for one app.
#[derive(Serialize)]
struct Finding<'a> {
    appid: &'a str,
    app: &'a str,
    ok: bool,
    access: String,
    /// `got` or `failed`; `None` where cloud hosting adds the token, or none is needed.
    token: Option<&'static str>,
    /// `portrait`, `none yet` or `failed`; `None` if there was no token.
    answer: Option<&'static str>,
    /// Why there is no portrait.
    reason: Option<Reason>,
    /// WeChat's error code for it.
    errcode: Option<i64>,
    /// The window that was requested.
    window: Window,
    reference_date: Option<NaiveDate>,
    users: Option<Users>,
    /// What to do, and where.
    problem: Option<String>,
}

/// Users by platform, which is the best substitute for a total.
#[derive(Serialize)]
struct Users {
    new: Option<u64>,
    active: Option<u64>,
}

/// What the findings amount to.
#[derive(Default)]
struct Totals {
    all: usize,
    failed: usize,
    /// How many apps have users of yesterday.
    with_users: usize,
    new: u64,
    active: u64,
}

impl Totals {
    /// Adds a finding; its users only if they are those of yesterday.
    fn add(&mut self, finding: &Finding<'_>, now: DateTime<Utc>) {
        self.all += 1;
        self.failed += usize::from(!finding.ok);
        if let Some(Users {
            new: Some(new),
            active: Some(active),
        }) = finding.users
            && finding.window == Window::OneDay
            && finding.reference_date == Some(calendar::yesterday(now))
        {
            self.with_users += 1;
            self.new = self.new.saturating_add(new);
            self.active = self.active.saturating_add(active);
        }
    }
}

impl Users {
    fn of(portrait: &Portrait) -> Self {
        let users = |cohort| portrait.breakdown(cohort, Dimension::Platform).total();
        Self {
            new: users(Cohort::New),
            active: users(Cohort::Active),
        }
    }
}

/// Returns the window that is requested of an app: 1d, as people read users of a day, or the first of others.
fn requested(app: &App) -> Window {
    let has_days = app.windows.contains(&Window::OneDay);
    if has_days {
        Window::OneDay
    } else {
        app.windows[0]
    }
}

impl<'a> Finding<'a> {
    /// Requests yesterday, or the day before while yesterday is not computed.
    async fn of(client: &Client, app: &'a App, now: DateTime<Utc>) -> Self {
        let mut access = Access::new(app);
        let window = requested(app);
        let day = calendar::yesterday(now);
        let mut result = client.portrait(&mut access, window, day).await;
        if result.as_ref().is_err_and(Diagnosis::is_not_ready) {
            let before = calendar::days_before(day, 1);
            result = client.portrait(&mut access, window, before).await;
        }
        let error = result.as_ref().err();
        let is_of_token = error.is_some_and(|error| error.endpoint == Endpoint::Token);
        let portrait = result.as_ref().ok().map(|answer| &answer.portrait);
        Self {
            appid: app.appid.as_str(),
            app: &app.name,
            ok: error.is_none_or(Diagnosis::is_not_ready),
            access: app.access.to_string(),
            token: matches!(app.access, AccessMethod::Token(_)).then_some(if is_of_token {
                "failed"
            } else {
                "got"
            }),
            answer: match error {
                None => Some("portrait"),
                Some(_) if is_of_token => None,
                Some(error) if error.is_not_ready() => Some("none yet"),
                Some(_) => Some("failed"),
            },
            reason: error.map(|error| error.reason),
            errcode: error.and_then(|error| error.errcode),
            window,
            reference_date: portrait.map(|portrait| portrait.reference_date),
            users: portrait.map(Users::of),
            problem: error.map(|error| error.message.clone()),
        }
    }
}

/// The output.
struct Report {
    format: CheckFormat,
    language: Language,
    /// The widths of the columns of the appid and the access.
    widths: (usize, usize),
    progress: indicatif::ProgressBar,
}

impl Report {
    fn new(format: CheckFormat, language: Language, apps: &[App]) -> Self {
        let [appid, access, ..] = heads(language);
        let widest = |head: &str, cells: &mut dyn Iterator<Item = usize>| {
            cells.fold(head.width(), usize::max)
        };
        let appids = &mut apps.iter().map(|app| app.appid.as_str().len());
        let accesses = &mut apps.iter().map(|app| app.access.to_string().len());
        Self {
            format,
            language,
            widths: (widest(appid, appids), widest(access, accesses)),
            progress: progress(apps.len() as u64, "apps"),
        }
    }

    fn head(&self) -> String {
        match self.format {
            CheckFormat::Json => "[\n".to_owned(),
            CheckFormat::Table => self.line(heads(self.language)),
        }
    }

    fn row(&self, finding: &Finding<'_>, is_last: bool) -> String {
        if self.format == CheckFormat::Json {
            let json = serde_json::to_string(finding).unwrap_or_default();
            return format!("  {json}{}\n", if is_last { "" } else { "," });
        }
        let number = |of: fn(&Users) -> Option<u64>| {
            let users = finding.users.as_ref().and_then(of);
            users.map_or("-".to_owned(), language::number)
        };
        let word = |word: Option<&'static str>| match word {
            None => "-",
            Some("got") => self.language.pick("已获取", "got"),
            Some("portrait") => self.language.pick("有数据", "portrait"),
            Some("none yet") => self.language.pick("暂无数据", "none yet"),
            Some(failed) => self.language.pick("失败", failed),
        };
        let day = finding.reference_date.map(|day| match finding.window {
            Window::OneDay => day.to_string(),
            window => format!("{day} {window}"),
        });
        let mut row = self.line([
            finding.appid,
            &finding.access,
            word(finding.token),
            word(finding.answer),
            finding.reason.map_or("-", Reason::as_str),
            day.as_deref().unwrap_or("-"),
            &number(|users| users.new),
            &number(|users| users.active),
            finding.app,
        ]);
        if let Some(problem) = &finding.problem {
            let chinese = finding
                .reason
                .map(|reason| chinese::advice(reason, finding.errcode, problem));
            match chinese.filter(|_| self.language == Language::Chinese) {
                Some(chinese) => {
                    let _ = writeln!(row, "  {chinese}\n  {problem}");
                }
                None => {
                    let _ = writeln!(row, "  {problem}");
                }
            }
        }
        row
    }

    fn foot(&self, totals: &Totals, now: DateTime<Utc>) -> String {
        if self.format == CheckFormat::Json {
            return "]\n".to_owned();
        }
        let Totals {
            all,
            failed,
            with_users,
            ..
        } = totals;
        let day = self.language.day(calendar::yesterday(now));
        let [new, active] = [totals.new, totals.active].map(language::number);
        // No sum of nothing: it would be a false zero.
        let users = match with_users {
            0 => self
                .language
                .pick("暂无数据".to_owned(), "no figures yet".to_owned()),
            _ => self.language.pick(
                format!("新增用户 {new}，活跃用户 {active}（{with_users} 个小程序合计）"),
                format!("{new} new users, {active} active users (sum of apps: {with_users})"),
            ),
        };
        self.language.pick(
            format!("小程序 {all} 个，失败 {failed} 个\n昨日（{day}）：{users}。\n"),
            format!("apps: {all}, failed: {failed}\nYesterday ({day}): {users}.\n"),
        )
    }

    /// Writes a line of the table.
    fn line(&self, cells: [&str; 9]) -> String {
        let [appid, access, token, answer, reason, day, new, active, app] = cells;
        let (first, second) = self.widths;
        let left = [
            (appid, first),
            (access, second),
            (token, 6),
            (answer, 8),
            (reason, 14),
            (day, 14),
        ];
        let mut line = String::new();
        for (cell, width) in left {
            let _ = write!(line, "{cell}{}  ", padding(cell, width));
        }
        for cell in [new, active] {
            let _ = write!(line, "{}{cell}  ", padding(cell, 11));
        }
        line + app + "\n"
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        self.progress.suspend(|| print_stdout(text))
    }
}

fn heads(language: Language) -> [&'static str; 9] {
    language.pick(
        [
            "APPID",
            "认证方式",
            "令牌",
            "结果",
            "原因",
            "数据日期",
            "新增用户",
            "活跃用户",
            "小程序",
        ],
        [
            "APPID", "ACCESS", "TOKEN", "RESULT", "REASON", "DAY", "NEW", "ACTIVE", "APP",
        ],
    )
}

/// Returns the blanks that fill a cell up; a Chinese character is as wide as two of them.
fn padding(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.width()))
}
