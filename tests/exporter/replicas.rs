//! Several exporters on one archive in PostgreSQL: who polls, what each of them shows, and what is archived
//! when one of them or the database ends.
//!
//! An exporter that shares its archive with nobody is what they are compared with.

#![expect(
    clippy::print_stdout,
    reason = "the tests that take minutes show what they counted"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;
use wxapp_portrait_exporter::archive::{
    Database, DayState, Key, Record, Row, Selection, Sharing, Store,
};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::config::App;
use wxapp_portrait_exporter::poll::due::QUIET_INTERVAL;
use wxapp_portrait_exporter::portrait::Dimension;
use wxapp_portrait_exporter::portrait::Window::{self, OneDay, SevenDays};
use wxapp_portrait_exporter::simulator::{Settings, Simulator, create_app};

use crate::harness::{
    APP, DEADLINE, Hand, Home, Inside, OTHER, Page, Polling, Running, Storage, WeChat, appid,
    apps_of, configured, eventually, logged, now, on_one_day, serve,
};
use crate::kill;
use crate::postgres_server::{PASSWORD, PgBouncer, Postgres, USER};

const APPS: [&str; 3] = [APP, OTHER, "wx2123456789abcdef"];

const WINDOWS: [Window; 2] = [OneDay, SevenDays];

/// Ten in the morning in Beijing: the figures of the 21st are there, and change until 15:00.
const MORNING: &str = "2026-11-22T02:00:00Z";

/// Time that passes, in minutes: until the figures settle, change, settle again, and a day later.
const STEPS: [i64; 5] = [30, 330, 60, 16 * 60, 120];

/// The clock is looked at as often; the time itself is that of the test.
const INTERVALS: [Duration; 2] = [Duration::from_millis(50), QUIET_INTERVAL];

/// A lease that does not expire during a test.
const LASTING: Sharing = Sharing {
    lease: Duration::from_mins(30),
    round: Duration::from_millis(100),
};

const SHORT: Sharing = Sharing {
    lease: Duration::from_secs(2),
    ..LASTING
};

/// What shows that an exporter polls an app.
const POLLS: [&str; 3] = [
    "wxapp_portrait_last_poll_success",
    "wxapp_portrait_next_poll_timestamp_seconds",
    "wxapp_portrait_last_poll_failure_info",
];

/// What every exporter on an archive shows alike.
const SHARED: [&str; 12] = [
    "wxapp_portrait_users",
    "wxapp_portrait_past_users",
    "wxapp_portrait_cohort_users",
    "wxapp_portrait_expected_cohort_users",
    "wxapp_portrait_expected_platform_users",
    "wxapp_portrait_expected_platform_share_ratio",
    "wxapp_portrait_drift_ratio",
    "wxapp_portrait_reference_day_info",
    "wxapp_portrait_reference_date_timestamp_seconds",
    "wxapp_portrait_last_success_timestamp_seconds",
    "wxapp_portrait_settled",
    "wxapp_portrait_archived_portraits",
];

/// A WeChat, and an archive with some weeks of its apps.
struct Place {
    hand: Hand,
    wechat: WeChat,
}

/// An exporter of a place.
struct Exporter {
    inside: Inside,
    polling: Polling,
}

impl Place {
    async fn new(hand: &Hand) -> Self {
        let settings = Settings {
            final_at: "15:00:00".parse().unwrap(),
            ..apps_of(
                &APPS
                    .map(|app| format!("{app}=300"))
                    .each_ref()
                    .map(String::as_str),
            )
        };
        Self {
            hand: hand.clone(),
            wechat: WeChat::start(settings, hand.clock()).await,
        }
    }

    /// Returns an archive that has the days before the newest one.
    fn filled(&self, storage: Storage) -> Storage {
        storage.access(Arc::new(self.hand.clock()), |archive| {
            for app in APPS {
                for (window, days) in [(OneDay, 36), (SevenDays, 3)] {
                    let records = self.wechat.records(app, window, days, self.hand.now());
                    let rows: Vec<Row> = records[1..].iter().map(Row::from).collect();
                    archive.upsert(&rows).unwrap();
                }
            }
        });
        storage
    }

    async fn start(&self, storage: &Storage) -> Exporter {
        let (url, clock) = (self.wechat.base_url(), Arc::new(self.hand.clock()));
        let mut inside = Inside::on(storage.clone(), INTERVALS, DEADLINE, &url, &APPS, clock).await;
        inside.scan_for(&self.wechat);
        let apps = APPS.map(short);
        let polling = inside.poll_all(apps.to_vec()).await;
        Exporter { inside, polling }
    }

    /// Returns how often each app was requested.
    fn requests(&self) -> BTreeMap<String, u64> {
        let requests = self.wechat.simulator.requests().into_iter();
        requests
            .map(|(app, requests)| (app, requests.portrait))
            .collect()
    }

    /// Waits until everything that is due was polled, by one exporter, and all of them show the same;
    /// returns their pages.
    async fn settled<const N: usize>(&self, exporters: [&Inside; N]) -> [Page; N] {
        let now = self.hand.now().timestamp();
        eventually("exporters that show the same", async || {
            let mut pages = Vec::new();
            for exporter in exporters {
                pages.push(exporter.metrics().await);
            }
            let is_polled = |app| {
                let polling = pages.iter().filter(|page| polls(page, app) > 0);
                let polling: Vec<&Page> = polling.collect();
                let [page] = polling[..] else { return false };
                let polled = page.series(POLLS[0]).into_keys();
                let polled = polled.filter(|labels| labels["appid"] == app).count();
                let next = page.value(POLLS[1], &[("appid", app)]);
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
                let is_due = next.is_none_or(|next| next < now as f64);
                polled == WINDOWS.len() && !is_due
            };
            let is_polled = APPS.into_iter().all(is_polled);
            let differ = |pages: &[Page]| !differences(&pages[0], &pages[1]).is_empty();
            let are_alike = !pages.windows(2).any(differ);
            (is_polled && are_alike).then(|| pages.try_into().unwrap())
        })
        .await
    }
}

impl Exporter {
    /// Ends its tasks; it serves what it had.
    fn die(self) -> Inside {
        self.inside
    }

    async fn shut_down(self) {
        self.polling.end().await;
        self.inside.context().archive.close().await;
    }
}

/// Exporters that share an archive, and one alone that has the same to do.
struct Comparison {
    hand: Hand,
    place: Place,
    storage: Storage,
    place_of_one: Place,
    alone: Exporter,
}

impl Comparison {
    async fn start(storage: Storage) -> Self {
        let hand = Hand::at(MORNING);
        let (place, place_of_one) = (Place::new(&hand).await, Place::new(&hand).await);
        let alone = place_of_one.filled(Storage::file());
        Self {
            storage: place.filled(storage),
            alone: place_of_one.start(&alone).await,
            hand,
            place,
            place_of_one,
        }
    }

    async fn exporter(&self) -> Exporter {
        self.place.start(&self.storage).await
    }

    /// Waits until everything that is due was polled; these exporters must have sent as many requests as the
    /// one alone, and show the same. Returns their pages, and its page.
    async fn look<const N: usize>(&self, exporters: [&Inside; N]) -> ([Page; N], Page) {
        let pages = self.place.settled(exporters).await;
        let [page] = self.place_of_one.settled([&self.alone.inside]).await;
        let at = self.hand.now();
        assert_eq!(differences(&pages[0], &page), [""; 0], "{at}");
        assert_eq!(self.place.requests(), self.place_of_one.requests(), "{at}");
        (pages, page)
    }

    /// Lets time pass, and looks.
    async fn pass<const N: usize>(
        &self,
        minutes: i64,
        exporters: [&Inside; N],
    ) -> ([Page; N], Page) {
        self.hand.forward(TimeDelta::minutes(minutes));
        self.look(exporters).await
    }

    /// Lets days pass; the archives must then be the same.
    async fn pass_days<const N: usize>(&self, exporters: [&Inside; N]) {
        for minutes in STEPS {
            self.pass(minutes, exporters).await;
        }
        let archives = [exporters[0], &self.alone.inside].map(|inside| inside.access(records));
        assert!(archives[0] == archives[1], "{archives:?}");
        assert!(archives[0].iter().any(|record| record.state.revisions > 0));
    }
}

/// Returns everything that is archived.
fn records(archive: &mut Store) -> Vec<Record> {
    let mut records = Vec::new();
    let end = archive.read(&Selection::default(), |record| {
        records.push(record);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    records
}

/// Returns which metrics differ that exporters on an archive show alike.
fn differences(one: &Page, other: &Page) -> Vec<&'static str> {
    let mut metrics = SHARED.to_vec();
    metrics.retain(|name| one.series(name) != other.series(name));
    metrics
}

/// Configures an app whose page is read fast.
fn short(app: &str) -> App {
    let mut app = configured(app, &WINDOWS);
    app.dimensions = vec![Dimension::Platform, Dimension::Province];
    app
}

/// Returns the windows for which an exporter shows what belongs to polls.
fn polls(page: &Page, app: &str) -> usize {
    let labels = POLLS
        .into_iter()
        .flat_map(|name| page.series(name).into_keys());
    labels.filter(|labels| labels["appid"] == app).count()
}

async fn status(inside: &Inside) -> Value {
    let (_, status) = inside.get("/api/v1/status").await;
    serde_json::from_str(&status).unwrap()
}

/// Returns a new database of a server, whose confirmations survive that the server is killed.
fn database(server: &Postgres) -> String {
    let name = server.database();
    server.sql(
        "postgres",
        &format!("ALTER DATABASE {name} SET synchronous_commit = on"),
    );
    name
}

fn storage(server: &Postgres, sharing: Sharing) -> Storage {
    Storage::Database(server.url(&database(server)), sharing)
}

#[tokio::test]
async fn each_app_is_polled_by_one_of_two_exporters_and_both_show_the_same_as_one_alone() {
    let it = Comparison::start(storage(Postgres::shared(), LASTING)).await;
    let (one, two) = tokio::join!(it.exporter(), it.exporter());
    let exporters = [&one.inside, &two.inside];
    for minutes in [0].into_iter().chain(STEPS) {
        let (pages, page) = it.pass(minutes, exporters).await;
        for app in APPS {
            let polls = pages.each_ref().map(|page| polls(page, app));
            assert!(polls.contains(&0), "{app}: {polls:?}");
            assert_eq!(polls.iter().sum::<usize>(), self::polls(&page, app));
        }
        let revisions =
            |page: &Page| -> f64 { page.series("wxapp_portrait_revisions_total").values().sum() };
        let of_both: f64 = pages.iter().map(revisions).sum();
        assert!((of_both - revisions(&page)).abs() < 0.5, "{of_both}");
        let expected = page.series("wxapp_portrait_expected_cohort_users");
        assert!(!expected.is_empty());
    }
    let statuses = [status(&one.inside).await, status(&two.inside).await];
    for (index, app) in APPS.iter().enumerate() {
        let apps = statuses.each_ref().map(|status| &status["apps"][index]);
        assert_eq!(apps.map(|app| app["appid"].as_str()), [Some(*app); 2]);
        let polled_here = apps.map(|app| app["polled_here"].as_bool().unwrap());
        assert_ne!(polled_here[0], polled_here[1], "{app}");
    }
    for exporter in exporters {
        assert_eq!(exporter.get("/-/ready").await, (200, "ready\n".to_owned()));
    }
}

#[tokio::test]
async fn an_exporter_that_dies_is_replaced_after_its_lease_and_comes_back_as_a_standby() {
    let it = Comparison::start(storage(Postgres::shared(), SHORT)).await;
    let first = it.exporter().await;
    it.look([&first.inside]).await;
    let second = it.exporter().await;
    let (pages, _) = it.pass(STEPS[0], [&first.inside, &second.inside]).await;
    assert!(APPS.iter().all(|app| polls(&pages[1], app) == 0));

    let first = first.die();
    let died_at = Instant::now();
    it.pass(STEPS[1], [&second.inside]).await;
    assert!(
        died_at.elapsed() > SHORT.lease / 2,
        "before its lease was over"
    );
    let third = it.exporter().await;
    let (pages, _) = it.pass(STEPS[2], [&second.inside, &third.inside]).await;
    assert!(APPS.iter().all(|app| polls(&pages[1], app) == 0));
    it.pass_days([&second.inside, &third.inside]).await;
    assert!(
        !first.metrics().await.users(None).is_empty(),
        "it still serves"
    );
}

#[test]
fn after_an_outage_of_the_database_every_exporter_keeps_its_apps() {
    let server = Postgres::start();
    let url = server.url(&database(&server));
    let sharing = Sharing {
        lease: Duration::from_secs(1),
        ..Sharing::default()
    };
    let open = || {
        let database = Database::parse(&SecretString::from(url.as_str()), Path::new("/")).unwrap();
        Store::of_database(database, sharing).unwrap()
    };
    let apps = APPS.map(appid).into_iter().collect();
    let mut exporters = [open(), open()];
    let held = |exporter: &mut Store| {
        let round = exporter.share(&apps, &[]).ok()?;
        Some(round.leases.values().filter(|lease| lease.is_held).count())
    };
    let both = |exporters: &mut [Store; 2]| exporters.each_mut().map(held);
    assert_eq!(both(&mut exporters), [Some(3), Some(0)]);
    server.stop();
    assert_eq!(both(&mut exporters), [None, None]);
    // Longer than a lease, in which nobody can be seen.
    std::thread::sleep(sharing.lease);
    server.start_again();
    // The one that holds nothing comes back first.
    exporters.reverse();
    let start = Instant::now();
    let mut found = [None, None];
    while found.contains(&None) {
        assert!(
            start.elapsed() < DEADLINE,
            "they do not come back: {found:?}"
        );
        for (exporter, found) in exporters.iter_mut().zip(&mut found) {
            *found = found.or_else(|| held(exporter));
        }
    }
    assert_eq!(found, [Some(0), Some(3)]);
}

#[tokio::test]
async fn an_exporter_that_shuts_down_is_replaced_at_once_and_all_of_it_works_through_a_pooler() {
    let server = Postgres::shared();
    let pooler = PgBouncer::start(server);
    let url = pooler.url(&database(server));
    let it = Comparison::start(Storage::Database(url, LASTING)).await;
    let first = it.exporter().await;
    it.look([&first.inside]).await;
    let second = it.exporter().await;
    it.pass(STEPS[0], [&first.inside, &second.inside]).await;
    // Its lease would last longer than this test waits.
    first.shut_down().await;
    it.pass(STEPS[1], [&second.inside]).await;
    let first = it.exporter().await;
    let (pages, _) = it.pass(STEPS[2], [&first.inside, &second.inside]).await;
    assert!(APPS.iter().all(|app| polls(&pages[0], app) == 0));
    it.pass_days([&second.inside, &first.inside]).await;
}

#[tokio::test]
async fn while_the_database_is_away_the_page_stays_and_answers_wait() {
    let server = Postgres::start();
    let it = Comparison::start(storage(&server, LASTING)).await;
    let first = it.exporter().await;
    it.look([&first.inside]).await;
    let second = it.exporter().await;
    let ([_, before], _) = it.look([&first.inside, &second.inside]).await;

    server.kill();
    for minutes in &STEPS[..2] {
        // The figures are confirmed, and revised.
        it.pass(*minutes, [&first.inside]).await;
    }
    let third = it.exporter().await;
    let (code, waiting) = third.inside.get("/-/ready").await;
    assert_eq!(code, 503);
    assert!(waiting.contains("nothing listens there"), "{waiting}");
    let page = second.inside.metrics().await;
    assert_eq!(differences(&page, &before), [""; 0]);
    for exporter in [&second, &third] {
        let page = exporter.inside.metrics().await;
        assert!(APPS.iter().all(|app| polls(&page, app) == 0));
    }
    for exporter in [&first, &second, &third] {
        let (_, status) = exporter.inside.get("/api/v1/status").await;
        assert!(
            !status.contains(PASSWORD) && !status.contains(USER),
            "{status}"
        );
        let status: Value = serde_json::from_str(&status).unwrap();
        assert!(status["archive"]["problem"].is_string(), "{status}");
        let unstored = &status["apps"][0]["unstored"];
        let is_first = exporter.inside.url == first.inside.url;
        assert_eq!(*unstored != json!(0), is_first, "{unstored}");
    }

    server.start_again();
    let exporters = [&first.inside, &second.inside, &third.inside];
    it.look(exporters).await;
    it.pass_days(exporters).await;
    for exporter in exporters {
        assert_eq!(status(exporter).await["archive"]["problem"], Value::Null);
        assert_eq!(exporter.get("/-/ready").await.0, 200);
    }
    assert_eq!(logged(&[PASSWORD]), [""; 0]);
}

/// Two exporters at one database, which write what a test says.
struct Writers([Store; 2]);

impl Writers {
    fn new() -> Self {
        let storage = storage(Postgres::shared(), LASTING);
        Self([(); 2].map(|()| storage.store(Arc::new(now))))
    }

    /// Writes an answer as one of them has it; returns the state as it is archived, with the minute of the
    /// first and last answer.
    fn write(
        &mut self,
        writer: usize,
        users: u32,
        minute: i64,
        revisions: u32,
    ) -> (i64, i64, bool, u32) {
        let row = Row::from(&answer(users, minute, revisions));
        let state = self.0[writer].upsert(&[row]).unwrap()[0];
        let minute = |at: DateTime<Utc>| (at - start()).num_minutes();
        let DayState {
            settled, revisions, ..
        } = state;
        let shown = (
            minute(state.first_answered_at),
            minute(state.answered_at),
            settled,
            revisions,
        );
        let archived = records(&mut self.0[1 - writer]);
        assert_eq!(
            archived
                .iter()
                .map(|record| record.state)
                .collect::<Vec<_>>(),
            [state]
        );
        shown
    }

    /// Returns the users that are archived.
    fn users(&mut self) -> String {
        records(&mut self.0[0]).remove(0).answer
    }
}

fn start() -> DateTime<Utc> {
    MORNING.parse().unwrap()
}

fn answer(users: u32, minute: i64, revisions: u32) -> Record {
    // A clock is more precise than a database.
    let at = start() + TimeDelta::minutes(minute) + TimeDelta::nanoseconds(123_456_789);
    Record {
        key: Key {
            appid: appid(APP),
            window: OneDay,
            reference_date: "2026-11-21".parse().unwrap(),
        },
        state: DayState {
            first_answered_at: at,
            answered_at: at,
            settled: false,
            revisions,
        },
        answer: format!(
            r#"{{"ref_date":"20261121","visit_uv":{{"platforms":[{{"name":"iPhone","value":{users}}}]}}}}"#
        ),
    }
}

#[test]
fn an_older_answer_does_not_replace_a_newer_one_of_another_exporter() {
    let mut writers = Writers::new();
    assert_eq!(writers.write(0, 7, 10, 0), (10, 10, false, 0));
    assert_eq!(writers.write(1, 8, 30, 1), (10, 30, false, 1));
    // It waited while the database was away.
    assert_eq!(writers.write(0, 9, 5, 1), (5, 30, false, 1));
    assert_eq!(writers.users(), answer(8, 0, 0).answer);
    // Older figures that agree confirm nothing.
    assert_eq!(writers.write(0, 8, 20, 0), (5, 30, false, 1));
    assert_eq!(writers.write(0, 8, 40, 1), (5, 40, true, 1));
}

#[tokio::test]
async fn an_exporter_learns_that_the_answer_of_another_one_was_newer() {
    let storage = storage(Postgres::shared(), LASTING);
    let no_wechat = "http://127.0.0.1:1";
    let inside = Inside::on(
        storage.clone(),
        INTERVALS,
        DEADLINE,
        no_wechat,
        &[],
        Arc::new(now),
    )
    .await;
    let newer = Row::from(&answer(8, 30, 2));
    let states = storage.access(Arc::new(now), |archive| archive.upsert(&[newer]).unwrap());
    let older = Arc::new(Row::from(&answer(9, 5, 0)));
    let learned = inside.context().archive.upsert(vec![older]).await.unwrap();
    assert_eq!(learned[0].answered_at, states[0].answered_at);
    assert_eq!(learned[0].revisions, 2);
}

#[test]
fn an_answer_that_is_written_twice_confirms_nothing() {
    let mut writers = Writers::new();
    for _ in 0..2 {
        assert_eq!(writers.write(0, 7, 10, 0), (10, 10, false, 0));
    }
    assert_eq!(writers.write(1, 7, 20, 0), (10, 20, true, 0));
    for _ in 0..2 {
        assert_eq!(writers.write(0, 8, 30, 1), (10, 30, false, 1));
    }
}

#[test]
fn different_figures_of_two_exporters_are_one_revision() {
    let mut writers = Writers::new();
    assert_eq!(writers.write(0, 7, 10, 0), (10, 10, false, 0));
    // It did not know the first figures.
    assert_eq!(writers.write(1, 8, 20, 0), (10, 20, false, 1));
    // Nor this one those.
    assert_eq!(writers.write(0, 8, 30, 1), (10, 30, true, 1));
    // Two revisions waited while the database was away.
    assert_eq!(writers.write(0, 9, 50, 3), (10, 50, false, 3));
}

#[tokio::test]
async fn a_file_that_goes_through_a_database_is_exported_as_the_same_bytes() {
    let apps = ["wx0123456789abcdef=60", "wx1123456789abcdef=60"];
    on_one_day(async || transfer(&apps, &Window::ALL, 5).await).await;
}

/// Takes days from a file into a database and from there into another file.
async fn transfer(apps: &[&str], windows: &[Window], days: u64) {
    let wechat = WeChat::of(apps).await;
    let names: Vec<&str> = apps
        .iter()
        .map(|app| app.split_once('=').unwrap().0)
        .collect();
    let [first, mut middle, last] = [(); 3].map(|()| Home::of(&wechat, &names));
    first.archive_at(now(), windows, &wechat, &names, days);
    fs::write(
        middle.path("url"),
        Postgres::shared().url(&database(Postgres::shared())),
    )
    .unwrap();
    middle.config["archive"] = json!({"postgres_url_file": "url"});
    let run = |home: &Home, name: &str, arguments: &[&OsStr]| {
        let start = Instant::now();
        let mut command = home.command_of(name);
        command.arg("--config.file").arg(home.configure());
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        println!("{name} took {:?}", start.elapsed());
        String::from_utf8(output.stdout).unwrap()
    };
    let export = |home: &Home, format: &str| {
        let file = home.path(format);
        run(
            home,
            "export",
            &[
                "--format".as_ref(),
                format.as_ref(),
                "-o".as_ref(),
                file.as_ref(),
            ],
        );
        file
    };
    let import = |home: &Home, file: &Path| run(home, "import", &[file.as_ref()]);
    let of_first = export(&first, "jsonl");
    let all = names.len() * windows.len() * usize::try_from(days).unwrap();
    let message = import(&middle, &of_first);
    assert!(
        message.starts_with(&format!("Imported {all} of {all} days")),
        "{message}"
    );
    let of_middle = export(&middle, "jsonl");
    let message = import(&middle, &of_first);
    assert!(
        message.starts_with(&format!("Imported 0 of {all} days")),
        "{message}"
    );
    import(&last, &of_middle);
    let bytes = fs::read(&of_first).unwrap();
    for home in [&middle, &last] {
        assert!(bytes == fs::read(export(home, "jsonl")).unwrap());
    }
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn three_hundred_apps_go_through_a_database_and_are_exported_as_the_same_bytes() {
    let apps: Vec<String> = (0..300).map(|app| format!("wx{app:016x}=40")).collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    on_one_day(async || transfer(&apps, &[OneDay], 60).await).await;
}

/// Returns a clock that moves half an hour four times a second, and stands in between.
fn fast(zero: DateTime<Utc>) -> impl Fn() -> DateTime<Utc> + Send + Sync + Clone {
    move || {
        let moves = (now() - zero).num_milliseconds() / 250;
        start() + TimeDelta::minutes(30 * moves)
    }
}

/// An exporter in a process of its own, which another test starts and kills.
#[tokio::test]
#[ignore = "another test runs it"]
#[expect(
    clippy::disallowed_methods,
    reason = "the other test sets this variable"
)]
async fn run_as_a_child() {
    let Ok(settings) = std::env::var("REPLICA") else {
        return;
    };
    let (url, wechat, zero): (String, String, DateTime<Utc>) =
        serde_json::from_str(&settings).unwrap();
    let storage = Storage::Database(url, SHORT);
    let clock = Arc::new(fast(zero));
    let inside = Inside::on(storage, INTERVALS, DEADLINE, &wechat, &[APP], clock).await;
    let _polling = inside.poll_all(vec![short(APP)]).await;
    println!("serving at {}", inside.url);
    tokio::time::sleep(DEADLINE * 10).await;
}

/// A process and the address at which it finds WeChat, so that its requests are known.
struct Child {
    running: Running,
    requests: Arc<Mutex<Vec<Instant>>>,
    died_at: Option<Instant>,
    _stop: DropGuard,
}

impl Child {
    async fn start(simulator: &Arc<Simulator>, url: &str, zero: DateTime<Utc>) -> Self {
        let requests: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let list = Arc::clone(&requests);
        let note = from_fn(move |request: Request, next: Next| {
            if request.uri().path().contains("userportrait") {
                list.lock().unwrap().push(Instant::now());
            }
            next.run(request)
        });
        let (wechat, stop) = serve(create_app(Arc::clone(simulator)).layer(note)).await;
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "replicas::run_as_a_child",
                "--ignored",
                "--nocapture",
            ])
            .env(
                "REPLICA",
                json!([url, format!("http://{wechat}"), zero]).to_string(),
            );
        let mut running = Running::start(command);
        running.said("serving at").await;
        Self {
            running,
            requests,
            died_at: None,
            _stop: stop,
        }
    }
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn a_hundred_kills_of_one_of_two_exporters_lose_no_day() {
    let zero = now();
    let clock = fast(zero);
    let simulator = Simulator::new(apps_of(&[&format!("{APP}=300")]), clock.clone());
    let storage = storage(Postgres::shared(), SHORT);
    let Storage::Database(url, _) = &storage else {
        unreachable!()
    };
    let mut dice = Rng::with_seed(0);
    let mut dead = Vec::new();
    let mut alive = Vec::new();
    for _ in 0..2 {
        alive.push(Child::start(&simulator, url, zero).await);
    }
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(dice.u64(..2_500))).await;
        let mut child = alive.remove(dice.usize(..2));
        child.running.stop();
        child.died_at = Some(Instant::now());
        dead.push(child);
        alive.push(Child::start(&simulator, url, zero).await);
    }
    // Whoever is left requests what is there.
    tokio::time::sleep(SHORT.lease * 4).await;
    let end = clock();
    for mut child in alive {
        child.running.stop();
        dead.push(child);
    }
    let archived = storage.access(Arc::new(now), records);
    for window in WINDOWS {
        let days = calendar::oldest_queryable(start()).iter_days();
        let days = days.take_while(|day| *day < calendar::yesterday(end));
        let mut count = 0;
        for day in days {
            let found = archived
                .iter()
                .find(|record| record.key.window == window && record.key.reference_date == day);
            let record = found.unwrap_or_else(|| panic!("{window} {day} is lost"));
            let answer: Value = serde_json::from_str(&record.answer).unwrap();
            assert_eq!(answer, simulator.answer(&appid(APP), window, day).unwrap());
            assert_eq!(record.state.revisions, 0, "{window} {day}");
            count += 1;
        }
        println!("{count} days of {window}");
        assert!(count > 5);
    }
    // Of any two that polled in turn, the second began when the lease of the first was over.
    let mut overlap = Duration::ZERO;
    let requests = dead
        .iter()
        .map(|child| (child.requests.lock().unwrap().clone(), child.died_at));
    let requests: Vec<_> = requests
        .filter(|(requests, _)| !requests.is_empty())
        .collect();
    for (first, _) in &requests {
        for (second, died_at) in &requests {
            let last = first[first.len() - 1];
            let until = died_at.map_or(last, |died_at| died_at.min(last));
            if first[0] < second[0] {
                overlap = overlap.max(until.saturating_duration_since(second[0]));
            }
        }
    }
    println!(
        "{} exporters polled; two at the same time for {overlap:?}",
        requests.len()
    );
    assert!(requests.len() > 20);
    assert!(overlap < SHORT.lease, "{overlap:?}");
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn twenty_kills_of_the_database_lose_nothing_that_was_shown() {
    let apps = kill::APPS.map(|app| format!("{app}=100"));
    let simulator = Simulator::new(apps_of(&apps.each_ref().map(String::as_str)), now);
    let wechat = WeChat::behind(Arc::clone(&simulator), kill::growing(&simulator)).await;
    let server = Postgres::start();
    let storage = storage(&server, SHORT);
    let mut exporters = Vec::new();
    for _ in 0..2 {
        let intervals = [Duration::from_millis(50), Duration::ZERO];
        let (url, clock) = (wechat.base_url(), Arc::new(now));
        let inside = Inside::on(
            storage.clone(),
            intervals,
            DEADLINE,
            &url,
            &kill::APPS,
            clock,
        )
        .await;
        let apps = kill::APPS.map(|app| App {
            windows: vec![OneDay],
            dimensions: vec![Dimension::Platform],
            ..short(app)
        });
        let polling = inside.poll_all(apps.to_vec()).await;
        exporters.push(Exporter { inside, polling });
    }
    let mut dice = Rng::with_seed(0);
    let mut seen = kill::Users::new();
    let mut look = async |time: Duration| {
        let start = Instant::now();
        while start.elapsed() < time {
            for exporter in &exporters {
                for (key, users) in kill::shown(&exporter.inside.metrics().await) {
                    let most = seen.entry(key).or_default();
                    *most = most.max(users);
                }
            }
        }
    };
    for _ in 0..20 {
        look(Duration::from_millis(dice.u64(..3_000))).await;
        server.kill();
        look(Duration::from_millis(dice.u64(..4_000))).await;
        server.start_again();
    }
    look(SHORT.lease * 2).await;
    for exporter in &exporters {
        eventually("all answers to be stored", async || {
            let status = status(&exporter.inside).await;
            let apps = status["apps"].as_array().unwrap();
            apps.iter()
                .all(|app| app["unstored"] == json!(0))
                .then_some(())
        })
        .await;
    }
    let mut archived = kill::Users::new();
    for record in exporters[0].inside.access(records) {
        let users = kill::active(&serde_json::from_str(&record.answer).unwrap());
        let day = calendar::midnight(record.key.reference_date).timestamp();
        archived.insert((record.key.appid.to_string(), day.to_string()), users);
    }
    assert!(!seen.is_empty());
    for (key, users) in &seen {
        let held = archived.get(key).copied().unwrap_or_default();
        assert!(
            held >= *users,
            "{users} users were shown and {held} are archived of {key:?}"
        );
    }
    let asked = kill::APPS.map(|app| kill::asked(&simulator, app));
    println!("{} days, requests: {asked:?}", seen.len());
    for exporter in exporters {
        exporter.shut_down().await;
    }
}
