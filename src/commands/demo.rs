//! `demo`: the exporter against the built-in simulated WeChat, with 60 days in the archive.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::serve::Exporter;
use super::{Error, ProcessContext, listen, local_url, print_stdout};
use crate::archive::{DayState, Key, Row, Store};
use crate::calendar::{self, Clock, Holidays};
use crate::config::access::AccessMethod;
use crate::language::{self, Language};
use crate::portrait::{Cohort, Dimension, Window};
use crate::simulator::{self, App, Settings, Simulator};
use crate::wechat::decode;
use crate::{cli, config};

/// Appid, name, team, and mean active users a day.
const APPS: [(&str, &str, &str, u64); 3] = [
    ("wxdecade0000000001", "商城", "零售", 120_000),
    ("wxdecade0000000002", "点餐", "餐饮", 8_000),
    ("wxdecade0000000003", "会员", "零售", 400),
];

/// The app that lost most of its iPhone users yesterday.
const SWINGING: &str = APPS[1].0;

/// How many days are in the archive when the exporter starts.
const DAYS: u64 = 60;

/// Serves the simulated apps until `shutdown`.
///
/// # Errors
///
/// Whatever prevents it from serving.
pub async fn run(flags: &cli::Demo, context: ProcessContext) -> Result<(), Error> {
    let ProcessContext {
        clock,
        environment,
        shutdown,
        hangup,
    } = context;
    let language = Language::of_terminal(&environment);
    let yesterday = calendar::yesterday(clock());
    let simulator = simulate(&clock, yesterday);
    let wechat = listen("127.0.0.1:0").await?;
    let base_url = format!("{}/", local_url(&wechat));

    // Removed when this function returns.
    let temporary;
    let storage_path = if let Some(path) = &flags.storage_path {
        path
    } else {
        temporary = tempfile::tempdir().map_err(Error::TemporaryDirectory)?;
        temporary.path()
    };
    let history = history(&simulator, yesterday, clock());
    Store::of_guest(storage_path, Arc::clone(&clock)).upsert(&history)?;
    let swing =
        [calendar::days_before(yesterday, 7), yesterday].map(|day| iphones(&simulator, day));

    let ending = CancellationToken::new();
    tokio::spawn(simulator::run(
        wechat,
        simulator,
        ending.clone().cancelled_owned(),
    ));
    let config = config(&base_url);
    let mut shutdown = pin!(shutdown);
    let exporter = tokio::select! {
        exporter = Exporter::start(config.clone(), storage_path, &flags.web, clock) => exporter?,
        () = &mut shutdown => return Ok(()),
    };
    if let Some(listener) = exporter.listeners.first() {
        let paths = flags.web.paths();
        let url = local_url(listener) + &paths.prefix;
        print_stdout(&welcome(language, &url, &paths.telemetry, swing))?;
    }
    let load = Arc::new(move || Ok(config.clone()));
    let result = exporter.run(load, hangup, shutdown).await;
    ending.cancel();
    result
}

/// Returns what a newcomer is shown; `swing` is how many people used the swinging app on an iPhone a week
/// before yesterday, and yesterday.
fn welcome(language: Language, url: &str, telemetry: &str, swing: [u64; 2]) -> String {
    let (_, app, ..) = APPS[1];
    let [before, after] = swing.map(language::number);
    let swing = language.pick(
        format!("昨日“{app}”的 iPhone 活跃用户大幅减少：{after} 人，上周同日 {before} 人。"),
        format!(
            "Yesterday {app} lost most of its iPhone users: {after} were active, {before} a week before."
        ),
    );
    let [title, commands, end] = language.pick(
        [
            "三个模拟小程序的页面：",
            "没有浏览器时：",
            "按 Ctrl-C 结束演示。",
        ],
        [
            "Pages of the three simulated apps:",
            "Without a browser:",
            "Ctrl-C ends the demo.",
        ],
    );
    format!(
        "{title}
  {url}/
  {url}/apps/{SWINGING}
{swing}
{commands}
  curl -s '{url}/api/v1/status'
  curl -s '{url}{telemetry}' | grep '{SWINGING}.*active.*name=\"iPhone\"'
{end}
"
    )
}

fn apps() -> impl Iterator<Item = App> {
    APPS.into_iter().filter_map(|(appid, _, _, users)| {
        Some(App {
            appid: appid.parse().ok()?,
            users,
        })
    })
}

fn simulate(clock: &Clock, yesterday: NaiveDate) -> Arc<Simulator> {
    let swing = format!("{SWINGING}@{yesterday}:platform=iPhone:0.4").parse();
    let settings = Settings {
        apps: apps().collect(),
        events: swing.into_iter().collect(),
        ..Settings::default()
    };
    let clock = Arc::clone(clock);
    Simulator::new(settings, move || clock())
}

/// Returns how many people used the swinging app on an iPhone.
fn iphones(simulator: &Simulator, day: NaiveDate) -> u64 {
    let portrait = SWINGING.parse().ok().and_then(|appid| {
        let answer = simulator.answer(&appid, Window::OneDay, day)?.to_string();
        decode::portrait(answer.as_bytes(), Window::OneDay, day).ok()
    });
    portrait.map_or(0, |answer| {
        let platforms = answer
            .portrait
            .breakdown(Cohort::Active, Dimension::Platform);
        platforms
            .iter()
            .find(|(name, _)| *name == "iPhone")
            .map_or(0, |(_, users)| users)
    })
}

/// Returns what would have been archived if the exporter had run for the last days.
fn history(simulator: &Simulator, yesterday: NaiveDate, now: DateTime<Utc>) -> Vec<Row> {
    let mut rows = Vec::new();
    for app in apps() {
        for window in Window::ALL {
            for days in 0..DAYS {
                let reference_date = calendar::days_before(yesterday, days);
                let Some(answer) = simulator.answer(&app.appid, window, reference_date) else {
                    continue;
                };
                let known_at = calendar::expected_available_at(reference_date).min(now);
                // Yesterday is yet to be requested, so that there is something to see.
                let settled = days > 0;
                let answered_at = if settled {
                    known_at + TimeDelta::hours(6)
                } else {
                    known_at
                };
                let key = Key {
                    appid: app.appid.clone(),
                    window,
                    reference_date,
                };
                let state = DayState {
                    first_answered_at: known_at,
                    answered_at,
                    settled,
                    revisions: 0,
                };
                let answer = answer.to_string();
                let portrait = decode::portrait(answer.as_bytes(), window, reference_date);
                let portrait = portrait.ok().map(|answer| answer.portrait);
                rows.push(Row::new(key, state, &answer, portrait.as_ref()));
            }
        }
    }
    rows
}

fn config(base_url: &str) -> config::Config {
    let apps = APPS
        .into_iter()
        .zip(apps())
        .map(|((_, name, team, _), app)| {
            let secret = SecretString::from(simulator::secret_of(&app.appid));
            let access = AccessMethod::of_secret(secret);
            config::App {
                name: name.to_owned(),
                labels: [("team".to_owned(), team.to_owned())].into(),
                windows: Window::ALL.to_vec(),
                // The simulated people have none, and on holidays no swing of users is reported.
                holidays: Holidays::none(),
                ..config::App::new(app.appid, access)
            }
        });
    let defaults = config::WeChat::default();
    config::Config {
        directory: PathBuf::new(),
        wechat: config::WeChat {
            base_urls: Url::parse(base_url).map_or(defaults.base_urls, |url| vec![url]),
            ..defaults
        },
        poll: config::Poll::default(),
        archive: config::Archive {
            retention: config::RETENTION,
            postgres: None,
        },
        stale_after: config::STALE_AFTER,
        apps: apps.collect(),
        warnings: Vec::new(),
        app_problems: Vec::new(),
        secret_variables: Vec::new(),
    }
}
