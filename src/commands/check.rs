//! `check`: requests a portrait of every configured app once, and reports the results.
//!
//! Does not open the archive, so that no stored data changes.

use std::fmt::Write as _;
use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::{StreamExt as _, stream};
use serde::Serialize;

use super::{Error, ProcessContext, log_warnings, print_stdout, progress, without_blocking};
use crate::calendar;
use crate::cli::{self, CheckFormat};
use crate::config::access::AccessMethod;
use crate::config::{self, App};
use crate::portrait::{Cohort, Dimension, Portrait};
use crate::wechat::errcodes::Reason;
use crate::wechat::{self, Access, Client, Diagnosis, Endpoint, Settings};

/// Checks the apps and reports each, in the order of the configuration, until `shutdown`.
///
/// # Errors
///
/// The configuration is wrong, or an app failed.
pub(super) async fn run(flags: &cli::Check, context: ProcessContext) -> Result<(), Error> {
    let mut shutdown = pin!(context.shutdown);
    let load = without_blocking({
        let (path, environment) = (flags.config.path.clone(), context.environment);
        move || config::load(&path, environment)
    });
    let config = tokio::select! {
        config = load => config?,
        () = &mut shutdown => return Err(Error::Interrupted),
    };
    log_warnings(&config);
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

    let report = Report::new(flags.format, &apps);
    report.write(&report.head())?;
    let all = apps.len();
    let (client, now) = (&client, (context.clock)());
    let findings = stream::iter(&apps).map(|app| Finding::of(client, app, now));
    let mut findings = pin!(findings.buffered(config.poll.concurrency));
    let mut failed = 0;
    for index in 0..all {
        let finding = tokio::select! {
            finding = findings.next() => finding,
            () = &mut shutdown => {
                report.progress.finish_and_clear();
                return Err(Error::Interrupted);
            }
        };
        let Some(finding) = finding else { break };
        failed += usize::from(!finding.ok);
        report.write(&report.row(&finding, index + 1 == all))?;
        report.progress.inc(1);
    }
    report.progress.finish_and_clear();
    report.write(&report.foot(all, failed))?;
    if failed > 0 {
        return Err(Error::Check { failed, all });
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
    reference_date: Option<NaiveDate>,
    users: Option<Users>,
    /// What to do, and where.
    problem: Option<String>,
}

/// Users by platform, which is the best substitute for a total.
#[derive(Serialize)]
struct Users {
    new: u64,
    active: u64,
}

impl Users {
    fn of(portrait: &Portrait) -> Self {
        let users = |cohort| {
            let platforms = portrait.breakdown(cohort, Dimension::Platform).iter();
            platforms.fold(0_u64, |sum, (_, users)| sum.saturating_add(users))
        };
        Self {
            new: users(Cohort::New),
            active: users(Cohort::Active),
        }
    }
}

impl<'a> Finding<'a> {
    /// Requests yesterday, or the day before while yesterday is not computed.
    async fn of(client: &Client, app: &'a App, now: DateTime<Utc>) -> Self {
        let mut access = Access::new(app);
        let window = app.windows[0];
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
            reference_date: portrait.map(|portrait| portrait.reference_date),
            users: portrait.map(Users::of),
            problem: error.map(|error| error.message.clone()),
        }
    }
}

/// The output.
struct Report {
    format: CheckFormat,
    /// The widths of the columns APPID and ACCESS.
    widths: (usize, usize),
    progress: indicatif::ProgressBar,
}

impl Report {
    fn new(format: CheckFormat, apps: &[App]) -> Self {
        let widest =
            |head: &str, cells: &mut dyn Iterator<Item = usize>| cells.fold(head.len(), usize::max);
        Self {
            format,
            widths: (
                widest(
                    "APPID",
                    &mut apps.iter().map(|app| app.appid.as_str().len()),
                ),
                widest(
                    "ACCESS",
                    &mut apps.iter().map(|app| app.access.to_string().len()),
                ),
            ),
            progress: progress(apps.len() as u64, "apps"),
        }
    }

    fn head(&self) -> String {
        match self.format {
            CheckFormat::Json => "[\n".to_owned(),
            CheckFormat::Table => self.line([
                "APPID", "ACCESS", "TOKEN", "ANSWER", "REASON", "DAY", "NEW", "ACTIVE", "APP",
            ]),
        }
    }

    fn row(&self, finding: &Finding<'_>, is_last: bool) -> String {
        if self.format == CheckFormat::Json {
            let json = serde_json::to_string(finding).unwrap_or_default();
            return format!("  {json}{}\n", if is_last { "" } else { "," });
        }
        let number = |of: fn(&Users) -> u64| {
            let users = finding.users.as_ref();
            users.map_or("-".to_owned(), |users| of(users).to_string())
        };
        let day = finding.reference_date.map(|day| day.to_string());
        let mut row = self.line([
            finding.appid,
            &finding.access,
            finding.token.unwrap_or("-"),
            finding.answer.unwrap_or("-"),
            finding.reason.map_or("-", Reason::as_str),
            day.as_deref().unwrap_or("-"),
            &number(|users| users.new),
            &number(|users| users.active),
            finding.app,
        ]);
        if let Some(problem) = &finding.problem {
            let _ = writeln!(row, "  {problem}");
        }
        row
    }

    fn foot(&self, all: usize, failed: usize) -> String {
        match self.format {
            CheckFormat::Json => "]\n".to_owned(),
            CheckFormat::Table => format!("apps: {all}, failed: {failed}\n"),
        }
    }

    /// Writes a line of the table; the name of the app is last, as its width on a terminal is unknown.
    fn line(&self, cells: [&str; 9]) -> String {
        let [appid, access, token, answer, reason, day, new, active, app] = cells;
        let (first, second) = self.widths;
        format!(
            "{appid:first$}  {access:second$}  {token:6}  {answer:8}  {reason:14}  {day:10}  {new:>9}  {active:>9}  {app}\n"
        )
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        self.progress.suspend(|| print_stdout(text))
    }
}
