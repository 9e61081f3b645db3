//! The contents of the archive survive the process, and its failures do not stop the exporter.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use rusqlite::Connection;
use serde_json::{Value, json};
use wxapp_portrait_exporter::archive::Key;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{
    APP, Hand, Home, Inside, OTHER, Page, Running, WeChat, appid, apps_of, asked_days, eventually,
    on_one_day, step, yesterday,
};

/// Returns how often an operation of the archive failed.
fn failures(page: &Page, operation: &str) -> f64 {
    let labels = [("operation", operation)];
    let failures = page.value("wxapp_portrait_archive_failures_total", &labels);
    failures.unwrap()
}

fn days(page: &Page) -> Option<f64> {
    page.value("wxapp_portrait_archived_portraits", &[("appid", APP)])
}

#[tokio::test]
async fn a_killed_exporter_shows_the_same_users_without_wechat() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["windows"] = json!(["1d", "7d", "30d"]);
        let mut exporter = home.start().await;
        let before = exporter.ready().await;
        // There is no listener.
        home.config["wechat"]["base_url"] = json!("http://127.0.0.1:1");

        // A busy machine may need more than one attempt.
        let mut fastest = Duration::MAX;
        for _ in 0..5 {
            exporter.running.signal("KILL");
            let (end, _) = exporter.running.ended().await;
            assert_eq!(end.signal(), Some(9));
            let start = Instant::now();
            exporter = home.start().await;
            let after = exporter.metrics().await;
            fastest = fastest.min(start.elapsed());
            assert_eq!(after.users(None), before.users(None));
            if fastest < Duration::from_secs(1) {
                break;
            }
        }
        assert!(fastest < Duration::from_secs(1), "{fastest:?}");
        let after = exporter.metrics().await;
        assert_eq!(exporter.get("/-/ready").await.0, 200);
        for metric in [
            "wxapp_portrait_last_success_timestamp_seconds",
            "wxapp_portrait_reference_date_timestamp_seconds",
            "wxapp_portrait_archived_portraits",
        ] {
            assert_eq!(after.series(metric), before.series(metric));
        }
    })
    .await;
}

#[tokio::test]
async fn without_an_archive_it_serves_from_memory_and_says_so() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    std::fs::write(home.path("data"), "a file where a directory should be").unwrap();
    let output = home.command().output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("it is a file, name a directory"), "{said}");

    // As one that is not mounted yet.
    std::fs::remove_file(home.path("data")).unwrap();
    std::os::unix::fs::symlink(home.path("later/data"), home.path("data")).unwrap();
    let exporter = home.start().await;
    let page = exporter.ready().await;
    assert!(!page.users(Some(APP)).is_empty());
    assert!(failures(&page, "open") >= 1.0);
    let log = exporter.running.output();
    assert!(log.contains("cannot open the archive"), "{log}");
    let (_, status) = exporter.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let problem = status["archive"]["problem"].as_str().unwrap();
    assert!(problem.contains("data/portraits.db"), "{problem}");
    let (_, html) = exporter.get("/").await;
    assert!(html.contains("the archive"), "{html}");
    let log = exporter.running.output();
    assert!(!log.contains("works again"), "{log}");
    assert_eq!(log.matches("archive failed").count(), 1, "{log}");
}

#[tokio::test]
async fn a_damaged_archive_is_set_aside_and_not_deleted() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[APP]);
        let garbage = "no database\n".repeat(1000);
        std::fs::create_dir(home.path("data")).unwrap();
        std::fs::write(home.archive_file(), &garbage).unwrap();
        let exporter = home.start().await;
        let page = exporter.ready().await;
        assert!(!page.users(Some(APP)).is_empty());
        assert_eq!(days(&page), Some(asked_days().into()));
        assert!(failures(&page, "open") >= 1.0);
        let log = exporter.running.output();
        assert!(log.contains("was damaged; it is kept as"), "{log}");
        let kept: Vec<_> = std::fs::read_dir(home.path("data"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|file| file.to_string_lossy().contains(".damaged-"))
            .collect();
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), garbage);
    })
    .await;
}

#[tokio::test]
async fn answers_are_shown_while_the_archive_is_locked_and_stored_later() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        wechat.set_fault(APP, "garbage");
        let home = Home::of(&wechat, &[APP]);
        let exporter = home.start().await;
        assert_eq!(days(&exporter.ready().await), Some(0.0));

        let lock = Connection::open(home.archive_file()).unwrap();
        lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
        wechat.simulator.clear_faults(&APP.parse().unwrap());
        let page = exporter
            .metrics_with("users in spite of the lock", |page| {
                (!page.users(Some(APP)).is_empty()).then(|| Page(page.0.clone()))
            })
            .await;
        assert!(failures(&page, "write") >= 1.0);
        assert_eq!(days(&page), Some(0.0));
        let log = exporter.running.output();
        assert!(log.contains("another program holds it locked"), "{log}");

        drop(lock);
        exporter
            .metrics_with("both days in the archive", |page| {
                (days(page) == Some(asked_days().into())).then_some(())
            })
            .await;
        let (_, status) = exporter.get("/api/v1/status").await;
        assert!(status.contains("\"problem\":null},\"apps\""), "{status}");
    })
    .await;
}

#[tokio::test]
async fn waiting_answers_are_stored_although_nothing_is_due() {
    // In the evening in Beijing two answers are enough.
    let hand = Hand::at("2026-11-22T12:00:00Z");
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let mut inside = Inside::start(&wechat.base_url(), &[APP], &hand).await;
    inside.scan_for(&wechat);
    let mut app = inside.restore(APP, &[Window::OneDay]).await;
    step(&mut app).await;

    let lock = Connection::open(inside.store().file().unwrap()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    hand.forward(TimeDelta::minutes(30));
    let next_step_at = step(&mut app).await;
    assert!(failures(&inside.metrics().await, "write") >= 2.0);
    let asked = wechat.simulator.requests()[APP].portrait;
    assert_eq!(asked, 4);
    let settled = || {
        let query = "SELECT total(settled) FROM portraits";
        lock.query_one(query, [], |row| row.get::<_, f64>(0))
            .unwrap()
    };
    assert!(settled() < 0.5);
    lock.execute_batch("ROLLBACK").unwrap();
    // Long before a day is due.
    assert!(next_step_at < hand.now() + TimeDelta::minutes(1));
    hand.move_to(next_step_at);
    step(&mut app).await;
    assert!(settled() > 1.5);
    assert_eq!(wechat.simulator.requests()[APP].portrait, asked);
}

#[tokio::test]
async fn a_copy_made_while_the_exporter_runs_is_complete() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[APP]);
        let exporter = home.start().await;
        let before = exporter.ready().await;
        for file in std::fs::read_dir(home.path("data")).unwrap() {
            let file = file.unwrap();
            let mode = file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.path());
        }
        let mut restored = Home::of(&wechat, &[APP]);
        restored.config["wechat"]["base_url"] = json!("http://127.0.0.1:1");
        std::fs::create_dir(restored.path("data")).unwrap();
        let mut sqlite = Command::new("sqlite3");
        sqlite
            .arg(home.archive_file())
            .arg(format!(".backup '{}'", restored.archive_file().display()));
        let output = sqlite.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let after = restored.start().await.metrics().await;
        assert_eq!(after.users(None), before.users(None));
    })
    .await;
}

#[tokio::test]
async fn a_damaged_answer_does_not_hide_the_others() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[APP]);
        home.archive(&wechat, &[APP], 30);
        let archive = Connection::open(home.archive_file()).unwrap();
        let damage =
            "UPDATE portraits SET answer = x'7bff7d', figures = 'none' WHERE reference_date = ?1";
        let day = calendar::days_before(yesterday(), 14).to_string();
        archive.execute(damage, [day]).unwrap();
        let exporter = home.start().await;
        let page = exporter.ready().await;
        assert!(!page.users(Some(APP)).is_empty());
        let past = page.series("wxapp_portrait_past_users");
        let mut days: Vec<&str> = past
            .keys()
            .map(|labels| labels["days_ago"].as_str())
            .collect();
        days.sort_unstable();
        days.dedup();
        assert_eq!(days, ["1", "21", "28", "7"]);
        let log = exporter.running.output();
        assert!(log.contains("cannot read an archived response"), "{log}");
    })
    .await;
}

#[tokio::test]
async fn a_damaged_answer_whose_figures_are_known_is_requested_again() {
    let hand = Hand::at("2026-11-22T11:00:00+08:00");
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let inside = Inside::start(&wechat.base_url(), &[APP], &hand).await;
    let mut app = inside.restore(APP, &[Window::OneDay]).await;
    step(&mut app).await;
    let archive = Connection::open(inside.store().file().unwrap()).unwrap();
    let damage = "UPDATE portraits SET answer = x'7bff7d' WHERE reference_date = '2026-11-21'";
    assert_eq!(archive.execute(damage, []).unwrap(), 1);

    let mut app = inside.restore(APP, &[Window::OneDay]).await;
    step(&mut app).await;
    let key = Key {
        appid: appid(APP),
        window: Window::OneDay,
        reference_date: "2026-11-21".parse().unwrap(),
    };
    let answer = inside.store().answer(&key).unwrap().unwrap();
    assert!(answer.contains("visit_uv"), "{answer}");
}

#[tokio::test]
async fn days_beyond_the_retention_are_deleted_from_the_start() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let mut home = Home::of(&wechat, &[APP]);
        home.archive(&wechat, &[APP], 60);
        home.config["archive"] = json!({"retention": "30d"});
        let exporter = home.start().await;
        exporter
            .metrics_with("the days that are left", |page| {
                (days(page) == Some(30.0)).then_some(())
            })
            .await;
        let log = exporter.running.output();
        assert!(log.contains("deleted days beyond the retention"), "{log}");
        // Two windows of this app are not configured; their days are deleted nevertheless.
        let archive = Connection::open(home.archive_file()).unwrap();
        let count = |query| {
            archive
                .query_one(query, [], |row| row.get::<_, u32>(0))
                .unwrap()
        };
        assert_eq!(count("SELECT count(*) FROM portraits"), 90);
        eventually("the space to be given back", async || {
            (count("PRAGMA freelist_count") == 0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_archive_of_a_newer_version_is_left_to_the_operator() {
    let home = Home::new("http://127.0.0.1:1", &[APP]);
    std::fs::create_dir(home.path("data")).unwrap();
    let newer = Connection::open(home.archive_file()).unwrap();
    newer
        .pragma_update(None, "application_id", 0x7778_7074)
        .unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    drop(newer);
    let before = std::fs::read(home.archive_file()).unwrap();
    let mut running = Running::start(home.command());
    let (end, _) = running.ended().await;
    assert_eq!(end.code(), Some(1));
    let log = running.output();
    let words = "written by a newer version of this program (schema 7, this one knows 2)";
    assert!(log.contains(words), "{log}");
    assert_eq!(std::fs::read(home.archive_file()).unwrap(), before);
}
