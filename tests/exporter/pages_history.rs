//! The history of an app, for its page and as a file: every figure is that of the archive.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Instant;

use chrono::NaiveDate;
use flate2::read::GzDecoder;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wxapp_portrait_exporter::archive::{Archive, Error, Row, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window::{OneDay, SevenDays};
use wxapp_portrait_exporter::portrait::{Cohort, Dimension, Portrait, Window};
use wxapp_portrait_exporter::state::AppSnapshot;
use wxapp_portrait_exporter::web::{AppHistory, Histories};

use crate::harness::{
    APP, Exporter, Hand, Home, Inside, OTHER, WeChat, appid, apps_of, eventually, program, step,
};

/// In Beijing it is the evening of a Sunday, so that the newest day is a Saturday, the 21st.
const EVENING: &str = "2026-11-22T10:00:00Z";

/// An exporter of one app with some archived days, and a WeChat that has them.
struct Archived {
    hand: Hand,
    wechat: WeChat,
    inside: Inside,
    histories: Histories,
}

impl Archived {
    /// Archives those of the days before now that are `kept`; polls nothing.
    async fn days(days: u64, kept: impl Fn(u64) -> bool) -> Self {
        let hand = Hand::at(EVENING);
        let wechat = WeChat::start(apps_of(&["wx0123456789abcdef=2000"]), hand.clock()).await;
        let inside = Inside::start(&wechat.base_url(), &[APP], &hand).await;
        let archived = Self {
            hand,
            wechat,
            inside,
            histories: Histories::default(),
        };
        let version = || archived.inside.context().archive.version();
        let before = version();
        archived.add(days, kept);
        // Or the history would change when they are detected.
        eventually("the days to be detected", async || {
            (days == 0 || version() != before).then_some(())
        })
        .await;
        archived.restore().await;
        archived
    }

    /// Adds days to the archive, as an import does.
    fn add(&self, days: u64, kept: impl Fn(u64) -> bool) {
        let now = self.hand.now();
        let records = [OneDay, SevenDays].map(|window| self.wechat.records(APP, window, days, now));
        let mut records = records.concat();
        records.retain(|record| {
            let ago = calendar::newest_queryable(now) - record.key.reference_date;
            kept(ago.num_days().unsigned_abs())
        });
        let rows: Vec<Row> = records.iter().map(Row::from).collect();
        self.inside.store().upsert(&rows).unwrap();
    }

    async fn restore(&self) {
        self.inside.restore(APP, &[OneDay, SevenDays]).await;
    }

    fn snapshot(&self) -> Arc<AppSnapshot> {
        self.inside.context().registry.get(&appid(APP)).unwrap()
    }

    async fn try_get(&self, window: Window, days: u64) -> Result<Arc<AppHistory>, Error> {
        let app = self.snapshot();
        let of_window = app.windows.iter().find(|of| of.window == window).unwrap();
        let archive = &self.inside.context().archive;
        self.histories.get(archive, &app, of_window, days).await
    }

    async fn get(&self, window: Window, days: u64) -> Arc<AppHistory> {
        self.try_get(window, days).await.unwrap()
    }

    /// Returns all archived figures of a window as `export` writes them, by day, cohort, dimension and name.
    fn exported(&self, window: Window) -> BTreeMap<[String; 4], u64> {
        let mut command = program();
        let archive = self.inside.store();
        command.args(["export", "--format", "csv", "--storage.path"]);
        command.arg(archive.file().unwrap().parent().unwrap());
        let output = command.args(["--window", window.as_str()]).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut reader = csv::Reader::from_reader(&*output.stdout);
        let rows = reader.records().map(|row| {
            let row = row.unwrap();
            let key = [3, 4, 5, 6].map(|column| row[column].to_owned());
            (key, row[7].parse().unwrap())
        });
        rows.collect()
    }
}

/// Returns the figures of a portrait by day, cohort, dimension and name.
fn figures(portrait: &Portrait) -> BTreeMap<[String; 4], u64> {
    let rows = portrait.rows(&Dimension::ALL);
    let rows = rows.map(|(cohort, dimension, name, users)| {
        let day = portrait.reference_date.to_string();
        let [cohort, dimension] = [cohort.as_str(), dimension.as_str()].map(str::to_owned);
        ([day, cohort, dimension, name.to_owned()], users)
    });
    rows.collect()
}

#[tokio::test]
async fn every_figure_of_a_history_is_that_of_an_export() {
    let archived = Archived::days(150, |ago| ![3, 4, 20, 140].contains(&ago)).await;
    for (window, days) in [(OneDay, 30), (OneDay, 90), (SevenDays, 90)] {
        let exported = archived.exported(window);
        let shown = archived.get(window, days).await;
        let newest: NaiveDate = "2026-11-21".parse().unwrap();
        let first = calendar::days_before(newest, days - 1);
        let range: Vec<_> = first.iter_days().take_while(|day| *day <= newest).collect();
        let found = shown.history.days.iter().map(|day| day.reference_date);
        assert_eq!(found.collect::<Vec<_>>(), range);
        let mut platforms = BTreeMap::new();
        for day in &shown.history.days {
            let ago = (newest - day.reference_date).num_days();
            assert_eq!(day.state.is_none(), [3, 4, 20].contains(&ago), "{ago}");
            for (cohort, of_day) in Cohort::ALL.into_iter().zip(&day.cohorts) {
                let mut sum = 0;
                for (name, users) in of_day.platforms.iter() {
                    let date = day.reference_date.to_string();
                    let [cohort, dimension] = [cohort.as_str(), "platform"].map(str::to_owned);
                    platforms.insert([date, cohort, dimension, name.to_owned()], users);
                    sum += users;
                }
                assert_eq!(of_day.users, day.state.map(|_| sum));
            }
        }
        let mut expected = exported.clone();
        let first = first.to_string();
        expected.retain(|[day, _, dimension, _], _| *day >= first && dimension == "platform");
        assert_eq!(platforms, expected);

        for (portrait, day) in [
            (&shown.newest, "2026-11-21"),
            (&shown.week_before, "2026-11-14"),
        ] {
            let mut expected = exported.clone();
            expected.retain(|[date, ..], _| date == day);
            assert_eq!(figures(portrait.as_ref().unwrap()), expected);
        }
        // As the harness archives them.
        let revised = shown.history.revised().map(|(day, state)| {
            let ago = (newest - day).num_days();
            assert_eq!(i64::from(state.revisions), ago % 3);
            ago
        });
        let days = i64::try_from(days).unwrap();
        let expected = (0..days)
            .rev()
            .filter(|ago| ago % 3 > 0 && ![4, 20].contains(ago));
        assert!(revised.eq(expected));
    }
}

#[tokio::test]
async fn the_newest_day_is_expected_to_be_as_it_is_on_the_page_for_prometheus() {
    let archived = Archived::days(130, |ago| ago != 9).await;
    let shown = archived.get(OneDay, 30).await;
    let app = archived.snapshot();
    let summary = app.windows[0].summary.clone().unwrap();
    let newest = shown.history.days.last().unwrap();
    assert_eq!(
        (newest.kind, &newest.holiday),
        (summary.day_kind, &summary.holiday)
    );
    for (found, (cohort, expected)) in newest.cohorts.iter().zip(summary.cohorts()) {
        assert!(found.expected.is_some());
        assert_eq!(found.expected, expected.expected.users, "{cohort}");
        assert_eq!(found.users, expected.users, "{cohort}");
        let recent = shown.history.days.iter().rev();
        let recent = recent.map(|day| day.cohorts[cohort as usize].users);
        assert!(recent.eq(expected.recent.iter().copied()), "{cohort}");
    }
}

#[tokio::test]
async fn a_history_is_computed_again_only_when_something_has_changed() {
    let archived = Archived::days(20, |ago| ago != 5).await;
    let first = archived.get(OneDay, 30).await;
    let again = || archived.get(OneDay, 30);
    assert!(Arc::ptr_eq(&first, &again().await));
    let is_archived = |shown: &AppHistory, ago: usize| {
        let mut days = shown.history.days.iter().rev();
        days.nth(ago).unwrap().state.is_some()
    };
    assert!(is_archived(&first, 4) && !is_archived(&first, 5));
    assert!(!Arc::ptr_eq(&first, &archived.get(OneDay, 90).await));
    assert!(!Arc::ptr_eq(&first, &archived.get(SevenDays, 30).await));
    archived.restore().await;
    assert!(Arc::ptr_eq(&first, &again().await), "nothing has changed");

    // The app itself has not noticed the import yet.
    archived.add(40, |ago| ago == 5 || ago >= 20);
    let imported = eventually("the import to be shown", async || {
        let shown = again().await;
        (!Arc::ptr_eq(&first, &shown)).then_some(shown)
    });
    let imported = imported.await;
    assert!(imported.history.days.iter().all(|day| day.state.is_some()));

    let mut app = archived.inside.restore(APP, &[OneDay]).await;
    step(&mut app).await;
    let polled = again().await;
    assert!(!Arc::ptr_eq(&imported, &polled));
    let state = polled.history.days.last().unwrap().state.unwrap();
    assert_eq!(state.answered_at, archived.hand.now());
}

#[tokio::test]
async fn a_new_day_is_shown_once_it_is_archived() {
    let archived = Archived::days(10, |_| true).await;
    let before = archived.get(OneDay, 30).await;
    archived.hand.forward(chrono::TimeDelta::days(1));
    let lock = Connection::open(archived.inside.store().file().unwrap()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut app = archived.inside.restore(APP, &[OneDay]).await;
    step(&mut app).await;
    let snapshot = archived.snapshot();
    assert!(snapshot.unstored > 0);
    let status = archived.inside.get("/api/v1/status").await.1;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["apps"][0]["unstored"], snapshot.unstored);
    let gaps = async || archived.inside.window_status(APP).await["archived"]["gaps"].clone();
    assert_eq!(gaps().await, Value::Null, "they may not be lost");
    let last = |shown: &AppHistory| {
        let last = shown.history.days.last().unwrap().reference_date;
        assert_eq!(shown.newest.as_ref().unwrap().reference_date, last);
        last.to_string()
    };
    let waiting = archived.get(OneDay, 30).await;
    assert_eq!(
        (last(&before), last(&waiting)),
        ("2026-11-21".into(), "2026-11-21".into())
    );
    lock.execute_batch("ROLLBACK").unwrap();
    step(&mut app).await;
    assert_eq!(gaps().await, json!([]));
    assert_eq!(last(&*archived.get(OneDay, 30).await), "2026-11-22");
}

#[tokio::test]
async fn requests_for_one_history_compute_it_once_and_few_are_kept() {
    let archived = Archived::days(9, |_| true).await;
    let requests = (0..50).map(|_| archived.get(OneDay, 30));
    let shown = futures_util::future::join_all(requests).await;
    assert!(shown.iter().all(|one| Arc::ptr_eq(one, &shown[0])));
    // The one that is in use stays, and the one that was not for longest goes.
    let unused = archived.get(OneDay, 29).await;
    for days in 2_001..=2_008 {
        archived.get(OneDay, days).await;
        assert!(Arc::ptr_eq(&shown[0], &archived.get(OneDay, 30).await));
    }
    assert_eq!(Arc::strong_count(&unused), 1);
    assert!(!Arc::ptr_eq(&unused, &archived.get(OneDay, 29).await));
}

#[tokio::test]
async fn an_archive_that_fails_is_reported_and_read_again_later() {
    let archived = Archived::days(9, |_| true).await;
    let file = archived.inside.store().file().unwrap().to_owned();
    let broken = Connection::open(&file).unwrap();
    broken
        .execute_batch("ALTER TABLE portraits RENAME TO hidden")
        .unwrap();
    let error = archived.try_get(OneDay, 30).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot read the archive"),
        "{error}"
    );
    broken
        .execute_batch("ALTER TABLE hidden RENAME TO portraits")
        .unwrap();
    let shown = archived.get(OneDay, 30).await;
    assert!(shown.newest.is_some());
}

#[tokio::test]
async fn pages_do_not_wait_long_for_a_slow_archive() {
    let archived = Archived::days(9, |_| true).await;
    let app = archived.snapshot();
    let directory = tempfile::tempdir().unwrap();
    // Its thread stops at the first failure until the test lets it continue.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let clock = Arc::new(archived.hand.clock());
    let observe = move |_| _ = stopped.recv();
    let store = Store::of_owner(directory.path(), clock);
    let file = store.file().unwrap().to_owned();
    let archive = Archive::open(store, observe).unwrap();
    let broken = Connection::open(file).unwrap();
    let rename = |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        broken.execute_batch(&sql).unwrap();
    };
    rename("portraits", "hidden");
    let histories = Histories::default();
    let get = |days| histories.get(&archive, &app, &app.windows[0], days);

    let start = Instant::now();
    let requests = (0..80).map(|number| get(30 + number % 8));
    for shown in futures_util::future::join_all(requests).await {
        let error = shown.unwrap_err().to_string();
        assert!(error.contains("it takes too long"), "{error}");
    }
    // The eight histories would take 24 seconds one after the other, and the ten requests for each 30.
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    drop(stop);
    rename("hidden", "portraits");
    assert!(get(30).await.is_ok());
}

#[tokio::test]
async fn an_app_without_archived_days_has_an_empty_history() {
    let archived = Archived::days(0, |_| true).await;
    let shown = archived.get(OneDay, 400).await;
    assert_eq!(shown.history.days, []);
    assert!(shown.newest.is_none() && shown.week_before.is_none());
}

/// The names of apps and users' strings are foreign text.
const NAMES: [&str; 4] = [
    "商城",
    "=1+1,\"a\"\u{202e}b",
    "<script>",
    " \u{1f468}\u{200d}\u{1f469} ",
];

/// Starts an exporter whose archive does not change, with both windows of two apps.
async fn unchanging(wechat: &WeChat, days: u64, name: &str) -> (Home, Exporter) {
    let mut home = Home::of(wechat, &[APP, OTHER]);
    home.archive(wechat, &[APP, OTHER], days);
    home.config["windows"] = json!(["7d", "1d"]);
    home.config["apps"][0]["name"] = json!(name);
    for app in [APP, OTHER] {
        wechat.set_fault(app, "errcode=40164");
    }
    let exporter = home.start().await;
    (home, exporter)
}

/// Returns the newest archived day.
fn newest_day(home: &Home) -> NaiveDate {
    let archive = Connection::open(home.archive_file()).unwrap();
    let query = "SELECT max(reference_date) FROM portraits";
    let newest: String = archive.query_one(query, [], |row| row.get(0)).unwrap();
    newest.parse().unwrap()
}

/// Returns what `export` writes of the app.
fn export(home: &Home, window: &str, from: Option<NaiveDate>) -> Vec<u8> {
    let mut command = home.command_of("export");
    command.args([
        "--format", "csv", "--bom", "--appid", APP, "--window", window,
    ]);
    command.arg("--config.file").arg(home.configure());
    if let Some(from) = from {
        command.args(["--from", &from.to_string()]);
    }
    let output = command.output().unwrap();
    assert!(
        output.stdout.starts_with("\u{feff}appid,app,".as_bytes()),
        "{output:?}"
    );
    output.stdout
}

#[tokio::test]
async fn a_file_has_the_bytes_of_an_export() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    for (days, name) in [17, 16, 3, 1].into_iter().zip(NAMES) {
        let (home, exporter) = unchanging(&wechat, days, name).await;
        let newest = newest_day(&home);
        let from = |days: u64| Some(calendar::days_before(newest, days - 1));
        for (query, window, from) in [
            ("", "7d", None),
            ("?window=1d", "1d", None),
            ("?window=7d&days=10000", "7d", None),
            ("?window=1d&days=1", "1d", from(1)),
            ("?days=9&lang=zh", "7d", from(9)),
        ] {
            let path = format!("/apps/{APP}.csv{query}");
            let expected = export(&home, window, from);
            let answer = exporter.ask("GET", &path, "identity").await;
            assert_eq!(answer.status(), 200, "{path}");
            let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("content-type"), "text/csv; charset=utf-8");
            let disposition = format!("attachment; filename=\"{APP}-{window}.csv\"");
            assert_eq!(header("content-disposition"), disposition);
            assert_eq!(
                (header("cache-control"), header("vary")),
                ("no-cache".into(), "accept-encoding".into())
            );
            assert!(!answer.headers().contains_key("content-encoding"));
            let plain = answer.bytes().await.unwrap();
            exporter.saw(&String::from_utf8_lossy(&plain));
            assert!(plain == expected, "{path}");

            let answer = exporter.ask("GET", &path, "gzip").await;
            assert_eq!(answer.headers()["content-encoding"], "gzip");
            let compressed = answer.bytes().await.unwrap();
            let mut inflated = Vec::new();
            GzDecoder::new(&*compressed)
                .read_to_end(&mut inflated)
                .unwrap();
            assert!(inflated == expected, "{path}");
        }
    }
}

#[tokio::test]
async fn a_file_of_no_days_has_a_header() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let (home, exporter) = unchanging(&wechat, 0, "商城").await;
    for query in ["", "?days=30"] {
        let (status, text) = exporter.get(&format!("/apps/{APP}.csv{query}")).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.starts_with("\u{feff}appid,app,"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    drop(home);
}

#[tokio::test]
async fn days_that_cannot_be_read_are_left_out_of_a_file_and_logged() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let (home, exporter) = unchanging(&wechat, 12, "商城").await;
    let archive = Connection::open(home.archive_file()).unwrap();
    let newest = newest_day(&home);
    for (damage, ago) in [("answer = x'7bff7d'", 3), ("revisions = -1", 7)] {
        let day = calendar::days_before(newest, ago).to_string();
        let sql = format!("UPDATE portraits SET {damage} WHERE reference_date = ?1");
        archive.execute(&sql, [day]).unwrap();
    }
    let (status, text) = exporter.get(&format!("/apps/{APP}.csv?window=1d")).await;
    assert_eq!(status, 200);
    assert!(text.as_bytes() == export(&home, "1d", None));
    let mut days: HashMap<&str, u32> = HashMap::new();
    for line in text.lines().skip(1) {
        *days.entry(line.split(',').nth(3).unwrap()).or_default() += 1;
    }
    assert_eq!(days.len(), 10);
    let log = exporter.running.output();
    assert!(log.contains("skipped an archived response"), "{log}");
}

#[tokio::test]
async fn requests_for_other_files_get_a_text() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let (_home, exporter) = unchanging(&wechat, 2, "商城").await;
    let unknown = "no app with this appid is configured";
    for (path, status, words) in [
        ("wx2123456789abcdef.csv", 404, unknown),
        (".csv", 404, unknown),
        ("%22%0a.csv", 404, unknown),
        ("%ff.csv", 400, ""),
        ("wx0123456789abcdef.csv/", 404, "see / for the endpoints"),
        (
            "wx0123456789abcdef.csv?days=0",
            400,
            "days is a number from 1 to 10000",
        ),
        (
            "wx0123456789abcdef.csv?days=10001",
            400,
            "days is a number from 1 to 10000",
        ),
        (
            "wx0123456789abcdef.csv?days=",
            400,
            "days is a number from 1 to 10000",
        ),
        (
            "wx0123456789abcdef.csv?days=%3Cb%3E",
            400,
            "days is a number from 1 to 10000",
        ),
        (
            "wx0123456789abcdef.csv?window=30d",
            400,
            "window is one of this app's: 7d, 1d",
        ),
        (
            "wx0123456789abcdef.csv?window=",
            400,
            "window is one of this app's: 7d, 1d",
        ),
    ] {
        let (found, text) = exporter.get(&format!("/apps/{path}")).await;
        assert_eq!(found, status, "{path}: {text}");
        assert!(
            text.contains(words) && !text.contains('<'),
            "{path}: {text}"
        );
    }
    let answer = exporter
        .ask("HEAD", &format!("/apps/{APP}.csv"), "identity")
        .await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
    let answer = exporter
        .ask("POST", &format!("/apps/{APP}.csv"), "identity")
        .await;
    assert_eq!(answer.status(), 405);
}

#[tokio::test]
async fn clients_that_do_not_read_leave_room_when_they_disconnect() {
    let wechat = WeChat::of(&["wx0123456789abcdef=100000", OTHER]).await;
    let (home, exporter) = unchanging(&wechat, 90, "商城").await;
    let path = format!("/apps/{APP}.csv?window=1d");
    let address = exporter.url.strip_prefix("http://").unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // It has its turn; its file is longer than what waits in sockets.
        let mut head = [0; 15];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        silent.push(stream);
    }
    let answer = exporter.ask("GET", &path, "identity").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "10");
    let text = answer.text().await.unwrap();
    assert!(text.contains("other downloads are running"), "{text}");
    // Scrapes and pages do not wait for them.
    assert!(exporter.metrics().await.0.contains(APP));

    silent.pop();
    let answer = exporter.ask("GET", &path, "identity").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.bytes().await.unwrap() == export(&home, "1d", None));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_does_not_look_complete() {
    let wechat = WeChat::of(&["wx0123456789abcdef=100000", OTHER]).await;
    let (home, exporter) = unchanging(&wechat, 90, "商城").await;
    let path = format!("/apps/{APP}.csv?window=1d");
    // Its file is longer than what waits in sockets.
    let answer = exporter.ask("GET", &path, "identity").await;
    assert_eq!(answer.status(), 200);
    let broken = Connection::open(home.archive_file()).unwrap();
    let hide = "DROP VIEW answers; ALTER TABLE portraits RENAME TO hidden";
    broken.execute_batch(hide).unwrap();
    assert!(answer.bytes().await.is_err());
    let (status, text) = exporter.get(&path).await;
    assert_eq!(status, 503);
    assert!(text.contains("cannot read the archive"), "{text}");
}
