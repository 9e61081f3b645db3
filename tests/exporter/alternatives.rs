//! What README.md says of this exporter and of a script with cron: how many requests each sends, and what becomes of the
//! figures of days that are late, revised or missed.
//!
//! All live through the same days of the simulated WeChat.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use tokio::process::Command;
use wxapp_portrait_exporter::archive::{Record, Selection};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::config::Poll;
use wxapp_portrait_exporter::poll::AppPoller;
use wxapp_portrait_exporter::poll::due::QUIET_INTERVAL;
use wxapp_portrait_exporter::portrait::Window::OneDay;
use wxapp_portrait_exporter::simulator::{Settings, secret_of};

use crate::harness::{
    APP, Hand, Inside, Page, SHORT_TIMEOUT, Series, Storage, WeChat, appid, apps_of, root, step,
    users,
};

/// When WeChat usually has yesterday's figures, which are final then.
const READY_AT: NaiveTime = NaiveTime::from_hms_opt(10, 0, 0).unwrap();

/// How long WeChat is late, or has other figures, on a bad day.
const BAD: TimeDelta = TimeDelta::hours(15);

/// What is known of a day in the end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Final,
    Preliminary,
    Nothing,
}

use Known::{Final, Nothing, Preliminary};

/// What a program does.
#[derive(Debug, PartialEq)]
struct Measured {
    /// On a day on which nothing is special: for tokens, and for portraits.
    requests: [u64; 2],
    /// Of a day whose figures come only in the afternoon.
    late: Known,
    /// Of a day whose figures are revised in the afternoon.
    revised: Known,
    /// Of a day in the whole of which the program does not run.
    missed: Known,
}

/// A program that is measured.
enum Program {
    Exporter {
        inside: Box<Inside>,
        app: Option<Box<AppPoller>>,
        next: DateTime<Utc>,
    },
    /// `tests/alternatives/cron.sh`.
    Cron {
        directory: tempfile::TempDir,
        next: DateTime<Utc>,
        every: TimeDelta,
        /// The users that its file had, by day.
        known: BTreeMap<NaiveDate, Series>,
    },
}

struct World {
    hand: Hand,
    wechat: WeChat,
    program: Program,
}

impl World {
    /// Starts at midnight in Beijing, with a script that runs once after this time and then every so often, or with
    /// the exporter.
    async fn start(schedule: Option<[TimeDelta; 2]>) -> Self {
        let hand = Hand::at("2026-03-01T00:00:00+08:00");
        let settings = Settings {
            ready_at: READY_AT,
            final_at: READY_AT,
            ..apps_of(&[APP])
        };
        let wechat = WeChat::start(settings, hand.clock()).await;
        let program = if let Some([first, every]) = schedule {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("secret"), secret_of(&appid(APP))).unwrap();
            Program::Cron {
                directory,
                next: hand.now() + first,
                every,
                known: BTreeMap::new(),
            }
        } else {
            let intervals = [Poll::default().interval, QUIET_INTERVAL];
            let (url, clock) = (wechat.base_url(), Arc::new(hand.clock()));
            let storage = Storage::file();
            let inside = Inside::on(storage, intervals, SHORT_TIMEOUT, &url, &[APP], clock);
            Program::Exporter {
                inside: Box::new(inside.await),
                app: None,
                next: hand.now(),
            }
        };
        Self {
            hand,
            wechat,
            program,
        }
    }

    /// Lets the program run for some time.
    async fn run(&mut self, time: TimeDelta) {
        let end = self.hand.now() + time;
        match &mut self.program {
            Program::Exporter { inside, app, next } => {
                if app.is_none() {
                    *app = Some(Box::new(inside.restore(APP, &[OneDay]).await));
                    *next = self.hand.now();
                }
                while *next < end {
                    self.hand.move_to(*next);
                    *next = step(app.as_mut().unwrap()).await;
                }
            }
            Program::Cron {
                directory,
                next,
                every,
                known,
            } => {
                while *next < end {
                    self.hand.move_to(*next);
                    *next += *every;
                    let day = calendar::yesterday(self.hand.now());
                    let mut cron = Command::new(root().join("tests/alternatives/cron.sh"));
                    cron.args([APP, "secret", ".", &day.format("%Y%m%d").to_string()])
                        .current_dir(&directory)
                        .env("WECHAT_API", self.wechat.base_url())
                        .env("NO_PROXY", "127.0.0.1");
                    let output = cron.output().await.unwrap();
                    if output.status.success() {
                        let file = directory.path().join("wxapp_portrait.prom");
                        let page = Page(std::fs::read_to_string(file).unwrap());
                        known.insert(day, page.series("wxapp_users"));
                    } else {
                        let said = String::from_utf8(output.stderr).unwrap();
                        assert!(said.contains(" portrait"), "{said}");
                    }
                }
            }
        }
        self.hand.move_to(end);
    }

    /// Lets time pass without the program.
    fn stop(&mut self, time: TimeDelta) {
        self.hand.forward(time);
        match &mut self.program {
            Program::Exporter { app, .. } => *app = None,
            Program::Cron { next, every, .. } => {
                while *next < self.hand.now() {
                    *next += *every;
                }
            }
        }
    }

    /// Returns how many tokens and portraits were requested so far.
    fn requests(&self) -> [u64; 2] {
        let requests = self.wechat.simulator.requests();
        let requests = requests.get(APP).copied().unwrap_or_default();
        [requests.token, requests.portrait]
    }

    /// Returns the users by platform that the program knows of each day.
    fn known(&self) -> BTreeMap<NaiveDate, Series> {
        match &self.program {
            Program::Cron { known, .. } => known.clone(),
            Program::Exporter { inside, .. } => {
                let mut known = BTreeMap::new();
                let read = |record: Record| {
                    let figures = users(APP, OneDay, &record.answer.parse().unwrap());
                    known.insert(record.key.reference_date, figures);
                    ControlFlow::<()>::Continue(())
                };
                let everything = Selection::default();
                let read = inside.access(|archive| archive.read(&everything, read));
                assert!(read.unwrap().is_continue());
                known
            }
        }
    }

    /// Returns what the program knows of a day in the end.
    fn known_of(&self, day: &str) -> Known {
        let day = day.parse().unwrap();
        let platforms = |series: &Series| -> BTreeMap<[String; 2], u64> {
            let platforms = series.iter().filter(|(labels, _)| {
                // The script has only platforms.
                labels
                    .get("dimension")
                    .is_none_or(|name| name == "platform")
            });
            let keys = platforms.map(|(labels, users)| {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "they are whole and not negative"
                )]
                let users = *users as u64;
                (["cohort", "name"].map(|name| labels[name].clone()), users)
            });
            keys.collect()
        };
        let known = self.known();
        let Some(known) = known.get(&day) else {
            return Nothing;
        };
        if platforms(known) == platforms(&self.wechat.users(APP, OneDay, day)) {
            Final
        } else {
            Preliminary
        }
    }
}

async fn measure(schedule: Option<[TimeDelta; 2]>) -> Measured {
    let day = TimeDelta::days(1);
    let mut world = World::start(schedule).await;
    world.run(day).await;
    let before = world.requests();
    world.run(day).await;
    let after = world.requests();
    for fault in ["errcode=61503", "scaled=0.9"] {
        world.wechat.set_fault(APP, fault);
        world.run(BAD).await;
        world.wechat.simulator.clear_faults(&appid(APP));
        world.run(day - BAD).await;
    }
    world.stop(day);
    world.run(day).await;
    Measured {
        requests: [0, 1].map(|at| after[at] - before[at]),
        late: world.known_of("2026-03-02"),
        revised: world.known_of("2026-03-03"),
        missed: world.known_of("2026-03-04"),
    }
}

impl Measured {
    /// Returns cells of the table in the README.
    fn cells(&self) -> String {
        let [tokens, portraits] = self.requests;
        let gets = [self.late, self.revised, self.missed].map(|known| match known {
            Final => "yes",
            Preliminary | Nothing => "no",
        });
        format!(
            "| {portraits}, and {tokens} for tokens | {} |",
            gets.join(" | ")
        )
    }
}

#[tokio::test]
async fn the_readme_compares_what_was_measured() {
    let exporter = measure(None).await;
    assert_eq!(
        [exporter.late, exporter.revised, exporter.missed],
        [Final; 3]
    );
    let every_hour = measure(Some([TimeDelta::minutes(5), TimeDelta::hours(1)])).await;
    let at_noon = measure(Some([TimeDelta::hours(12), TimeDelta::days(1)])).await;
    assert_eq!(
        [at_noon.late, at_noon.revised, at_noon.missed],
        [Nothing, Preliminary, Nothing]
    );
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for (name, measured) in [
        ("this exporter", exporter),
        ("every hour", every_hour),
        ("at noon", at_noon),
    ] {
        let cells = measured.cells();
        let row = format!("{name} {cells}");
        assert!(readme.contains(&row), "README.md has other figures: {row}");
    }
    let script = std::fs::read_to_string(root().join("tests/alternatives/cron.sh")).unwrap();
    let lines = script.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let size = format!("{} lines of curl and jq", lines.count());
    assert!(readme.contains(&size), "README.md has another size: {size}");
}
