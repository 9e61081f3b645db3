//! The contents of the archive and the page as days pass: no day is lost that WeChat still returns, and
//! the past days are shown as WeChat reported them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use fastrand::Rng;
use serde_json::{Value, json};
use wxapp_portrait_exporter::archive::{Record, Selection, Sharing};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::poll::due::QUIET_INTERVAL;
use wxapp_portrait_exporter::poll::{AppPoller, Leases};
use wxapp_portrait_exporter::portrait::Window::OneDay;
use wxapp_portrait_exporter::simulator::Settings;

use crate::harness::{
    Hand, Inside, Labels, SHORT_TIMEOUT, Series, Storage, WeChat, appid, apps_of, logged, step,
    users,
};
use crate::postgres_server::Postgres;

const USERS: &str = "wxapp_portrait_users";
const PAST_USERS: &str = "wxapp_portrait_past_users";

/// In Beijing it is the second of March: in the morning WeChat can still change the figures of the
/// first, in the evening it can't.
const MORNING: &str = "2026-03-02T03:00:00Z";
const EVENING: &str = "2026-03-02T10:00:00Z";

/// From 10:00 on WeChat has yesterday's figures, and from 15:00 on the final ones.
const READY_AT: NaiveTime = NaiveTime::from_hms_opt(10, 0, 0).unwrap();
const FINAL_AT: NaiveTime = NaiveTime::from_hms_opt(15, 0, 0).unwrap();

/// How long after the beginning of a day they arrived.
const FINAL_AFTER: TimeDelta = TimeDelta::hours(24 + 15);

/// The number of past days whose names are known.
const PAST_DAYS: u32 = 28;

/// The past days that are shown.
const DAYS_AGO: [u64; 5] = [1, 7, 14, 21, 28];

/// In these dimensions WeChat lists every name.
const COMPLETE: [&str; 3] = ["gender", "platform", "age"];

/// These faults last for some hours, and delay requests for another hour.
const PASSING: &[&str] = &[
    "http=502",
    "http=403",
    "http=429",
    "cut",
    "reset",
    "garbage",
    "empty",
    "halves",
    "wrong-date",
    "retain",
    "camel",
    "leaky",
    "errcode=-1",
    "errcode=61503",
    "errcode=61500",
    "errcode=40001",
    "errcode=42001",
    "errcode=41001",
    "errcode=40164",
    "errcode=45011",
    "errcode=12345",
    "token:http=502",
    "token:cut",
    "token:reset",
    "token:garbage",
    "token:errcode=-1",
    "token:errcode=40001",
    "token:errcode=40125",
    "token:errcode=40164",
];

/// These delay requests until the day changes in Beijing.
const OF_THE_DAY: &[&str] = &["errcode=45009", "errcode=61501", "token:errcode=45009"];

/// These delay requests for a day, and once more after a restart.
const FOR_A_DAY: &[&str] = &["errcode=48001*1", "errcode=61502*1", "errcode=89506*1"];

/// An exporter that polls one app every hour, driven by its test from one step to the next.
struct Life {
    app: &'static str,
    hand: Hand,
    wechat: WeChat,
    inside: Inside,
    /// None while the exporter is down.
    followed: Option<AppPoller>,
    /// When the next step is due.
    next_at: DateTime<Utc>,
    /// Whether WeChat has a fault.
    is_faulty: bool,
    /// What has happened.
    steps: Vec<Step>,
    /// When the exporter started.
    starts: Vec<DateTime<Utc>>,
    /// The days that were archived at the last check.
    reported: BTreeMap<NaiveDate, Reported>,
}

/// What WeChat reported about a day.
struct Reported {
    is_final: bool,
    /// In the dimensions of which it lists every name.
    complete: Series,
    others: Series,
}

/// The requests of one poll.
struct Step {
    at: DateTime<Utc>,
    portraits: u64,
    is_faulty: bool,
}

impl Life {
    /// Starts with an app so small that its names vary.
    async fn start(app: &'static str, time: &str) -> Self {
        Self::on(Storage::file(), app, time).await
    }

    /// The same with its archive there.
    async fn on(storage: Storage, app: &'static str, time: &str) -> Self {
        let hand = Hand::at(time);
        let settings = Settings {
            ready_at: READY_AT,
            final_at: FINAL_AT,
            ..apps_of(&[&format!("{app}=40")])
        };
        let wechat = WeChat::start(settings, hand.clock()).await;
        let intervals = [Duration::from_hours(1), QUIET_INTERVAL];
        let (url, clock) = (wechat.base_url(), Arc::new(hand.clock()));
        let mut inside = Inside::on(storage, intervals, SHORT_TIMEOUT, &url, &[app], clock).await;
        // It has the archive for itself.
        inside.share(&Arc::new(Leases::new(None)));
        let mut life = Self {
            app,
            inside,
            wechat,
            followed: None,
            next_at: hand.now(),
            hand,
            is_faulty: false,
            steps: Vec::new(),
            starts: Vec::new(),
            reported: BTreeMap::new(),
        };
        life.restart().await;
        life
    }

    /// Forgets everything but the archive, as if killed.
    async fn restart(&mut self) {
        self.followed = Some(self.inside.restore(self.app, &[OneDay]).await);
        self.next_at = self.hand.now();
        self.starts.push(self.next_at);
    }

    fn set_fault(&mut self, fault: &str) {
        self.wechat.set_fault(self.app, fault);
        self.is_faulty = true;
    }

    fn clear_faults(&mut self) {
        self.wechat.simulator.clear_faults(&appid(self.app));
        self.is_faulty = false;
    }

    async fn stay_down(&mut self, time: TimeDelta) {
        self.followed = None;
        self.hand.forward(time);
        self.restart().await;
    }

    /// Moves the clock to the next step, and runs it.
    async fn step(&mut self) {
        let asked = || {
            let requests = self.wechat.simulator.requests();
            requests
                .get(self.app)
                .map_or(0, |requests| requests.portrait)
        };
        self.hand.move_to(self.next_at);
        let before = asked();
        let next_at = step(self.followed.as_mut().unwrap()).await;
        self.steps.push(Step {
            at: self.next_at,
            portraits: asked() - before,
            is_faulty: self.is_faulty,
        });
        self.next_at = next_at;
    }

    /// Runs all steps for some time.
    async fn pass(&mut self, time: TimeDelta) {
        let end = self.hand.now() + time;
        while self.next_at < end {
            self.step().await;
        }
        self.hand.move_to(end);
    }

    async fn series(&self) -> [Series; 2] {
        let page = self.inside.metrics().await;
        [USERS, PAST_USERS].map(|name| page.series(name))
    }

    async fn archived(&self) -> Value {
        self.inside.window_status(self.app).await["archived"].clone()
    }

    fn lost_days(&self) -> Vec<String> {
        logged(&[self.app, "days are lost for good"])
    }

    /// Returns the users and the past users that the page must show for the archived days.
    fn expected(&mut self) -> [Series; 2] {
        let mut days = Vec::new();
        let limit = PAST_DAYS as usize + 1;
        let restored = self.inside.access(|archive| {
            let newest = calendar::yesterday(self.hand.now());
            archive.restore(&appid(self.app), OneDay, limit, newest)
        });
        for restored in restored.unwrap().days {
            let day = restored.reference_date;
            // The day before may still have figures of its morning after a downtime.
            let is_final = restored.state.answered_at >= calendar::midnight(day) + FINAL_AFTER;
            let reported = self.reported.get(&day);
            if reported.is_none_or(|reported| reported.is_final != is_final) {
                let figures = self.wechat.users(self.app, OneDay, day);
                self.reported.insert(day, Reported::new(figures, is_final));
            }
            days.push(day);
        }
        let Some(shown) = days.first() else {
            return Default::default();
        };
        let names: BTreeSet<&Labels> = days
            .iter()
            .flat_map(|day| self.reported[day].complete.keys())
            .collect();
        let with_zeros = |day: &NaiveDate| {
            let mut figures = self.reported[day].complete.clone();
            let filled: BTreeSet<_> = figures.keys().map(breakdown).collect();
            for labels in &names {
                if filled.contains(&breakdown(labels)) {
                    figures.entry((*labels).clone()).or_default();
                }
            }
            figures
        };
        let mut users = self.reported[shown].others.clone();
        users.extend(with_zeros(shown));
        let mut past = Series::new();
        for days_ago in DAYS_AGO {
            let day = calendar::days_before(*shown, days_ago);
            if !days.contains(&day) {
                continue;
            }
            for (mut labels, users) in with_zeros(&day) {
                labels.remove("window");
                labels.insert("days_ago".to_owned(), days_ago.to_string());
                past.insert(labels, users);
            }
        }
        [users, past]
    }
}

impl Reported {
    fn new(mut figures: Series, is_final: bool) -> Self {
        if !is_final {
            scale(&mut figures, 0.97);
            figures.retain(|_, users| *users > 0.0);
        }
        let lists_every_name =
            |labels: &Labels, _: &mut f64| COMPLETE.contains(&labels["dimension"].as_str());
        Self {
            is_final,
            complete: figures.extract_if(.., lists_every_name).collect(),
            others: figures,
        }
    }
}

/// Returns the users by name.
fn breakdown(labels: &Labels) -> [String; 2] {
    ["cohort", "dimension"].map(|label| labels[label].clone())
}

fn scale(figures: &mut Series, factor: f64) {
    for users in figures.values_mut() {
        *users = (*users * factor).round();
    }
}

/// Returns how many days ago the past days on a page were.
fn days_ago(past: &Series) -> BTreeSet<&str> {
    past.keys()
        .map(|labels| labels["days_ago"].as_str())
        .collect()
}

/// A life with failures, all drawn from a seed.
struct Year {
    life: Life,
    dice: Rng,
    /// Part of every message.
    seed: u64,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    look_at: DateTime<Utc>,
    /// Beijing days with a failure or its consequences.
    troubled: BTreeSet<NaiveDate>,
}

impl Year {
    async fn begin(seed: u64, storage: Storage) -> Self {
        let life = Life::on(storage, "wx-year", EVENING).await;
        let start = life.hand.now();
        Self {
            life,
            dice: Rng::with_seed(seed),
            seed,
            start,
            end: start + TimeDelta::days(365),
            look_at: start,
            troubled: BTreeSet::new(),
        }
    }

    async fn live(&mut self) {
        // After midnight the first day is no longer available.
        self.pass(TimeDelta::hours(3)).await;
        while self.life.hand.now() < self.end - TimeDelta::days(7) {
            self.disturb().await;
        }
        self.pass(self.end - self.life.hand.now()).await;
        self.look().await;
    }

    /// Lets time pass, with a restart now and then, and checks the page at least once a day.
    async fn pass(&mut self, time: TimeDelta) {
        let end = self.life.hand.now() + time;
        while self.life.hand.now() < end {
            let rest = end - self.life.hand.now();
            let some_time = TimeDelta::minutes(self.dice.i64(10..110));
            self.life.pass(some_time.min(rest)).await;
            if self.dice.u8(..50) == 0 {
                self.life.restart().await;
            }
            if self.life.hand.now() >= self.look_at {
                self.look().await;
                let some_time = TimeDelta::minutes(self.dice.i64(60..22 * 60));
                self.look_at = self.life.hand.now() + some_time;
            }
        }
    }

    /// Compares what is served with what WeChat reported.
    async fn look(&mut self) {
        let (seed, at) = (self.seed, self.life.hand.now());
        let expected = self.life.expected();
        assert_eq!(self.life.series().await, expected, "seed {seed}, {at}");
        let archived = self.life.archived().await;
        // Unknown while answers wait for the archive.
        let gaps = &archived["gaps"];
        assert!(
            gaps.is_null() || *gaps == json!([]),
            "seed {seed}, {at}: {gaps}"
        );
    }

    /// Causes a failure, and lets it pass.
    ///
    /// WeChat returns the final figures of a day for 33 hours, from 15:00 of the next day on, and two polls
    /// in that time are enough. No failure prevents requests for more than 27 hours: a day of
    /// downtime and faults or of delay, an hour of delay after the end of a fault, and up
    /// to an hour from the last poll and to the next. At least six quiet hours follow, so any 33 hours have
    /// six of them.
    async fn disturb(&mut self) {
        let start = self.life.hand.now();
        let hours = TimeDelta::minutes(self.dice.i64(60..8 * 60));
        let rest_of_day = calendar::next_midnight(start) - start;
        match self.dice.u8(..6) {
            0 => {
                let time = TimeDelta::minutes(self.dice.i64(1..24 * 60));
                self.life.stay_down(time).await;
                let rest = TimeDelta::days(1) - time;
                self.suffer(PASSING, hours.min(rest), 2).await;
            }
            1 => self.suffer(OF_THE_DAY, hours.min(rest_of_day), 25).await,
            2 => self.suffer(FOR_A_DAY, hours, 25).await,
            _ => self.suffer(PASSING, hours, 2).await,
        }
        let days = calendar::today(start).iter_days();
        let last = calendar::today(self.life.hand.now());
        self.troubled.extend(days.take_while(|day| *day <= last));
        let quiet = TimeDelta::hours(self.dice.i64(6..80));
        self.pass(quiet).await;
    }

    /// Lets some faults last for a time, and then the hours pass for which they may delay requests.
    async fn suffer(&mut self, faults: &[&str], time: TimeDelta, hold_hours: i64) {
        for _ in 0..2 {
            let fault = *self.dice.choice(faults).unwrap();
            let times = self.dice.u8(1..20);
            if self.dice.bool() && !fault.contains('*') {
                self.life.set_fault(&format!("{fault}*{times}"));
            } else {
                self.life.set_fault(fault);
            }
        }
        self.pass(time).await;
        self.life.clear_faults();
        self.pass(TimeDelta::hours(hold_hours)).await;
    }

    /// Compares the archive with the final figures of every day.
    fn compare_archive(&self) {
        let Self { life, seed, .. } = self;
        let first = calendar::oldest_queryable(self.start);
        let days = first.iter_days();
        let mut days = days.take_while(|day| *day <= calendar::yesterday(self.end));
        let of_app = Selection {
            appids: vec![appid(life.app)],
            ..Selection::default()
        };
        let compare = |record: Record| {
            let day = record.key.reference_date;
            assert_eq!(Some(day), days.next(), "seed {seed}");
            // The fault `camel` spells it differently.
            let answer = record.answer.replace("visitUvNew", "visit_uv_new");
            let answer = answer.replace("visitUv", "visit_uv").parse().unwrap();
            let figures = life.wechat.users(life.app, OneDay, day);
            assert_eq!(
                users(life.app, OneDay, &answer),
                figures,
                "seed {seed}, {day}"
            );
            assert!(record.state.settled, "seed {seed}, {day}");
            ControlFlow::<()>::Continue(())
        };
        let read = life.inside.access(|archive| archive.read(&of_app, compare));
        assert!(read.unwrap().is_continue());
        assert_eq!(days.next(), None, "seed {seed}");
    }

    /// Checks that WeChat was not requested more often than the rules allow.
    fn count_calls(&self) {
        let Self { life, seed, .. } = self;
        let mut calls: BTreeMap<NaiveDate, (usize, u64)> = BTreeMap::new();
        for step in &life.steps {
            let at = step.at;
            // Two days, and up to three repetitions of requests that broke off or met a busy WeChat.
            let most = if step.is_faulty { 2 * (1 + 3) } else { 2 };
            assert!(
                step.portraits <= most,
                "seed {seed}, {at}: {} portraits",
                step.portraits
            );
            let (steps, portraits) = calls.entry(calendar::today(at)).or_default();
            // The others check the archive for changes.
            *steps += usize::from(step.portraits > 0);
            *portraits += step.portraits;
        }
        let starts: Vec<NaiveDate> = life.starts.iter().map(|at| calendar::today(*at)).collect();
        let mut quiet_days = 0;
        for (day, (steps, portraits)) in calls {
            let starts = starts.iter().filter(|start| **start == day).count();
            // So no day has more than 8 * 24 calls and 8 for every start.
            assert!(steps <= 24 + starts, "seed {seed}, {day}: {steps} polls");
            let mut days = [day, calendar::days_before(day, 1)].into_iter();
            let is_whole = day > calendar::today(self.start) && day < calendar::today(self.end);
            if is_whole && starts == 0 && days.all(|day| !self.troubled.contains(&day)) {
                // Until 8:00 four, then one every hour until the figures of the morning have settled, one
                // two hours later, and from 15:30 on two or three until those of the afternoon have.
                assert!(
                    (10..=13).contains(&portraits),
                    "seed {seed}, {day}: {portraits} portraits"
                );
                quiet_days += 1;
            }
        }
        assert!(quiet_days > 0, "seed {seed}");
    }
}

#[tokio::test]
async fn in_a_year_of_faults_and_restarts_every_day_is_archived_with_its_final_figures() {
    live_a_year(0, Storage::file()).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn in_ten_other_years_every_day_is_archived_with_its_final_figures() {
    for seed in 1..=10 {
        live_a_year(seed, Storage::file()).await;
    }
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn in_a_year_every_day_is_archived_with_its_final_figures_in_a_database_as_well() {
    let server = Postgres::shared();
    let url = server.url(&server.database());
    live_a_year(0, Storage::Database(url, Sharing::default())).await;
}

async fn live_a_year(seed: u64, storage: Storage) {
    let mut year = Year::begin(seed, storage).await;
    year.live().await;
    year.compare_archive();
    year.count_calls();
    // On its first day WeChat still had the two days before.
    let days = year.life.archived().await["days"].clone();
    assert_eq!(days, 365 + 2, "seed {seed}");
    assert_eq!(year.life.lost_days(), [""; 0], "seed {seed}");
}

#[tokio::test]
async fn a_failing_poll_sends_no_more_requests_than_may_help() {
    let mut life = Life::start("wx-failing", EVENING).await;
    // Two days are due.
    for (fault, portraits) in [
        // First, as there is a token later.
        ("token:http=502", 0),
        ("http=502", 2 * (1 + 3)),
        // A host that cannot be reached for one day cannot be reached for the other.
        ("reset", 1 + 3),
        ("cut", 2 * (1 + 3)),
        ("errcode=-1", 2 * (1 + 3)),
        ("garbage", 2),
        ("errcode=61503", 2),
        ("errcode=40001", 2),
        ("errcode=45009", 1),
    ] {
        life.clear_faults();
        life.set_fault(fault);
        life.step().await;
        let asked = life.steps.last().map(|step| step.portraits);
        assert_eq!(asked, Some(portraits), "{fault}");
    }
}

#[tokio::test]
async fn a_downtime_of_several_days_is_logged_once_and_shown_as_a_gap() {
    let mut life = Life::start("wx-downtime", EVENING).await;
    life.pass(TimeDelta::hours(3)).await;
    assert_eq!(life.archived().await["gaps"], json!([]));
    life.stay_down(TimeDelta::days(6)).await;
    life.pass(TimeDelta::hours(3)).await;
    let gap = json!([{"first_day": "2026-03-02", "last_day": "2026-03-05"}]);
    assert_eq!(life.archived().await["gaps"], gap);
    let lost = life.lost_days();
    assert!(
        lost.len() == 1 && lost[0].contains("1d 2026-03-02 to 2026-03-05"),
        "{lost:?}"
    );
    life.pass(TimeDelta::days(1)).await;
    life.restart().await;
    life.pass(TimeDelta::days(1)).await;
    assert_eq!(life.archived().await["gaps"], gap);
    assert_eq!(life.lost_days(), lost);
}

#[tokio::test]
async fn past_users_follow_a_late_or_revised_day_at_once() {
    let mut life = Life::start("wx-past", MORNING).await;
    life.set_fault("errcode=61503*1");
    life.step().await;
    let [users, past] = life.series().await;
    assert!(
        !users.is_empty() && past.is_empty(),
        "the day before is late"
    );

    // It is requested again when it may be available.
    life.pass(TimeDelta::hours(3)).await;
    let [users, mut past] = life.series().await;
    assert_eq!([users.clone(), past.clone()], life.expected());
    assert_eq!(days_ago(&past), ["1"].into());

    life.set_fault("scaled=0.5*1");
    life.step().await;
    scale(&mut past, 0.5);
    assert_eq!(life.series().await, [users, past]);
}

#[tokio::test]
async fn stale_users_are_removed_with_the_past_days_and_restored() {
    let mut life = Life::start("wx-stale", EVENING).await;
    life.step().await;
    let fresh = life.series().await;
    let times = async |life: &Life| {
        let page = life.inside.metrics().await;
        ["reference_date", "last_success"]
            .map(|what| page.value(&format!("wxapp_portrait_{what}_timestamp_seconds"), &[]))
    };
    let before = times(&life).await;
    assert!(before.iter().all(Option::is_some), "{before:?}");

    life.set_fault("http=502");
    // The first of March is then four days behind yesterday.
    let stale_at = calendar::midnight("2026-03-06".parse().unwrap());
    life.pass(stale_at - life.hand.now()).await;
    assert_eq!(life.series().await, fresh);
    life.pass(TimeDelta::seconds(1)).await;
    assert_eq!(life.series().await, [Series::new(), Series::new()]);
    assert_eq!(times(&life).await, before);
    life.restart().await;
    assert_eq!(life.series().await, [Series::new(), Series::new()]);
    assert_eq!(times(&life).await, before);

    life.pass(TimeDelta::hours(3 * 24 + 18)).await;
    life.clear_faults();
    life.step().await;
    let back = life.series().await;
    assert_eq!(back, life.expected());
    assert_eq!(days_ago(&back[1]), ["1", "7"].into());
}
