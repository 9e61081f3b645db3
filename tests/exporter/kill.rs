//! What was on the page when the program was killed is in the archive.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use fastrand::Rng;
use futures_util::future::join_all;
use rusqlite::Connection;
use serde_json::{Value, json};
use wxapp_portrait_exporter::archive::{Selection, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::simulator::{Simulator, create_app};

use crate::harness::{
    APP, DEADLINE, Home, OTHER, Page, Reader, Running, WeChat, appid, apps_of, now,
};

pub(crate) const APPS: [&str; 3] = [APP, OTHER, "wx2123456789abcdef"];

/// How many archives there are at a time, and how often the program is killed at each.
const ARCHIVES: u64 = 4;
const KILLS: u64 = 100;

/// How many programs use an archive one after the other before a new one is started.
const PROGRAMS: u64 = 10;

/// Longer than it takes to create a new archive.
const TO_ARCHIVE: Duration = Duration::from_millis(20);

/// How long a program is read at most after it has shown new figures.
const READING: Duration = Duration::from_millis(150);

/// Active users of an app on a day, which is identified by the Unix seconds at which it began.
pub(crate) type Users = BTreeMap<(String, String), f64>;

/// How many programs were killed, and how many of them had shown new figures; how
/// often figures changed in the archives.
#[derive(Debug, Default)]
struct Tally {
    kills: u64,
    news: u64,
    revisions: u64,
}

#[tokio::test]
async fn four_hundred_kills_lose_no_answer_that_was_on_the_page() {
    kill_four_hundred(0).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn ten_thousand_kills_lose_no_answer_that_was_on_the_page() {
    for round in 1..=25 {
        kill_four_hundred(round * ARCHIVES).await;
    }
}

/// Kills programs at moments that follow from seeds, the first of which is given; messages name the
/// seed.
async fn kill_four_hundred(seed: u64) {
    let archives = (seed..seed + ARCHIVES).map(Trial::run);
    let tallies = join_all(archives).await;
    let sum = |number: fn(&Tally) -> u64| tallies.iter().map(number).sum::<u64>();
    assert_eq!(sum(|tally| tally.kills), ARCHIVES * KILLS);
    assert!(sum(|tally| tally.news) > 140, "{tallies:?}");
    assert!(sum(|tally| tally.revisions) > 200, "{tallies:?}");
}

/// One home, the WeChat that it polls, and everything that was seen of it.
struct Trial {
    dice: Rng,
    simulator: Arc<Simulator>,
    home: Home,
    reader: Reader,
    /// The most that was on the page since the archive was started.
    seen: Users,
    /// How often figures changed in it.
    revisions: u64,
    /// How long the last program took to show new figures.
    to_news: Duration,
    tally: Tally,
}

impl Trial {
    async fn run(seed: u64) -> Tally {
        let apps = APPS.map(|app| format!("{app}=100"));
        let simulator = Simulator::new(apps_of(&apps.each_ref().map(String::as_str)), now);
        let wechat = WeChat::behind(Arc::clone(&simulator), growing(&simulator)).await;
        let mut home = Home::of(&wechat, &APPS);
        // A short page is read more often.
        home.config["dimensions"] = json!(["platform"]);
        let mut trial = Self {
            dice: Rng::with_seed(seed),
            reader: Reader::new(String::new(), APPS.map(appid).to_vec(), Some(&simulator)),
            simulator,
            home,
            seen: Users::new(),
            revisions: 0,
            to_news: READING,
            tally: Tally::default(),
        };
        for kill in 0..KILLS {
            let is_new = kill % PROGRAMS == 0;
            if is_new && kill > 0 {
                fs::remove_dir_all(trial.home.path("data")).unwrap();
                trial.seen.clear();
                trial.revisions = 0;
            }
            let log = trial.start_and_kill(is_new).await;
            let place = format!("seed {seed}, kill {kill}: {log}");
            assert!(!log.contains("level=error"), "{place}");
            trial.compare(place).await;
        }
        trial.tally
    }

    /// Kills a program while its archive is created, or before it shows new figures, or after; returns its
    /// log.
    async fn start_and_kill(&mut self, is_new: bool) -> String {
        let (is_early, part) = (self.dice.bool(), self.dice.f64());
        let start = Instant::now();
        let mut running = Running::start(self.home.command());
        let mut news_at: Option<Instant> = None;
        let reading = async {
            let address = running.said("message=listening address=").await;
            self.reader.url = format!("http://{address}");
            while news_at.is_none_or(|at| at.elapsed() < READING.mul_f64(part)) {
                for (key, users) in shown(&self.reader.metrics().await) {
                    let most = self.seen.entry(key).or_default();
                    if users > *most {
                        *most = users;
                        news_at.get_or_insert_with(Instant::now);
                    }
                }
                assert!(start.elapsed() < DEADLINE, "waited too long for news");
            }
        };
        let moment = async {
            if is_new {
                while !self.home.path("data").exists() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                tokio::time::sleep(TO_ARCHIVE.mul_f64(part)).await;
            } else if is_early {
                tokio::time::sleep(self.to_news.mul_f64(part)).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = reading => {}
            () = moment => {}
        }
        let end = running.stop();
        if let Some(at) = news_at {
            self.to_news = at - start;
        }
        self.tally.kills += u64::from(end.signal() == Some(9));
        self.tally.news += u64::from(news_at.is_some());
        let log = running.output();
        self.reader.saw(&log);
        log
    }

    /// Compares the archive with what was seen.
    async fn compare(&mut self, place: String) {
        let (data, simulator) = (self.home.path("data"), Arc::clone(&self.simulator));
        let read = move || (archived(&data, &simulator, &place), place);
        let ((archived, revisions), place) = tokio::task::spawn_blocking(read).await.unwrap();
        for (key, users) in &self.seen {
            let held = archived.get(key).copied().unwrap_or_default();
            assert!(
                held >= *users,
                "{users} users were shown and {held} are archived of {key:?}; {place}"
            );
        }
        self.tally.revisions += revisions - self.revisions;
        self.revisions = revisions;
    }
}

/// Returns routes of a WeChat that multiplies an app's users by how often they were requested.
pub(crate) fn growing(simulator: &Arc<Simulator>) -> Router {
    // No request may count while another sets factors.
    let turn = Arc::new(Mutex::new(Arc::clone(simulator)));
    let grow = move |request: Request, next: Next| {
        let simulator = turn.lock().unwrap();
        for app in APPS.map(appid) {
            let fault = format!("scaled={}", asked(&simulator, app.as_str()) + 1);
            simulator.set_fault(&app, fault.parse().unwrap());
        }
        next.run(request)
    };
    create_app(Arc::clone(simulator)).layer(from_fn(grow))
}

/// Returns how often an app's users were requested.
pub(crate) fn asked(simulator: &Simulator, app: &str) -> u32 {
    let requests = simulator.requests();
    let asked = requests.get(app).map_or(0, |requests| requests.portrait);
    asked.try_into().unwrap()
}

/// Returns the contents of the page.
pub(crate) fn shown(page: &Page) -> Users {
    let newest = page.series("wxapp_portrait_reference_date_timestamp_seconds");
    let newest: BTreeMap<_, _> = newest
        .iter()
        .map(|(labels, day)| (&labels["appid"], day))
        .collect();
    let mut users = Users::new();
    for metric in ["wxapp_portrait_users", "wxapp_portrait_past_users"] {
        for (labels, value) in page.series(metric) {
            if labels["cohort"] == "active" {
                let days_ago = labels
                    .get("days_ago")
                    .map_or(0.0, |days| days.parse().unwrap());
                let day = newest[&labels["appid"]] - days_ago * 24.0 * 3600.0;
                let key = (labels["appid"].clone(), day.to_string());
                *users.entry(key).or_default() += value;
            }
        }
    }
    users
}

/// Returns the contents of the archive, and how often figures changed in it. Opens a copy, as the next
/// program must find the archive as the kill left it.
fn archived(data: &Path, simulator: &Simulator, place: &str) -> (Users, u64) {
    let copy = tempfile::tempdir().unwrap();
    for file in fs::read_dir(data).into_iter().flatten() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let mut archive = Store::of_guest(copy.path(), Arc::new(now));
    let (mut users, mut revisions) = (Users::new(), 0);
    archive
        .open()
        .unwrap_or_else(|error| panic!("{error}; {place}"));
    let check = Connection::open(archive.file().unwrap()).and_then(|archive| {
        archive.query_one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    assert_eq!(check.as_deref(), Ok("ok"), "{place}");
    let read = {
        archive.read(&Selection::default(), |record| {
            let (app, day) = (&record.key.appid, record.key.reference_date);
            let active = active(&serde_json::from_str(&record.answer).unwrap());
            let first = simulator.answer(app, record.key.window, day).unwrap();
            let last = f64::from(asked(simulator, app.as_str())) * self::active(&first);
            assert!(
                active <= last,
                "{active} users of {app} on {day} were never answered; {place}"
            );
            let day = calendar::midnight(day).timestamp().to_string();
            users.insert((app.to_string(), day), active);
            revisions += u64::from(record.state.revisions);
            ControlFlow::<()>::Continue(())
        })
    };
    assert!(read.is_ok(), "{read:?}; {place}");
    (users, revisions)
}

/// Returns how many active users an answer has.
pub(crate) fn active(answer: &Value) -> f64 {
    let platforms = answer["visit_uv"]["platforms"].as_array().unwrap();
    let users = platforms.iter().map(|row| row["value"].as_f64().unwrap());
    users.sum()
}
