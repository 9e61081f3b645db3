//! The system under the exporter: clocks that jump, time zones, limits of the process, signals, closed files.

use std::fs::{self, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use rustix::process::{Signal, geteuid, kill_process};
use serde_json::{Value, json};
use wxapp_portrait_exporter::archive::{Key, Record, Selection, Store};
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{
    APP, Exporter, Hand, Home, Inside, OTHER, Page, Running, Storage, WeChat, appid, apps_of,
    client, eventually, free_port, logged, on_one_day, quoted, step, yesterday,
};
use crate::prometheus;
use crate::reload::calm;

/// A morning in Beijing: yesterday is available, and is requested repeatedly.
const MORNING: &str = "2026-11-22T02:00:00Z";

/// Returns every archived day with its answer.
fn answers(archive: &mut Store) -> Vec<(Key, String)> {
    let mut answers = Vec::new();
    let end = archive.read(&Selection::default(), |Record { key, answer, .. }| {
        answers.push((key, answer));
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    answers
}

#[tokio::test]
async fn a_clock_that_jumps_changes_no_archived_day_and_the_page_is_right_again_afterwards() {
    let app_name = "wxc10c4c10c4c10c40";
    let of_wechat = Hand::at(MORNING);
    let wechat = WeChat::start(apps_of(&[app_name]), of_wechat.clock()).await;
    for days in [1, 2, -2, -20, 731, -3_653, 36_525] {
        let hand = Hand::at(MORNING);
        let intervals = [Duration::from_millis(50), Duration::ZERO];
        let (url, clock) = (wechat.base_url(), Arc::new(hand.clock()));
        let (storage, timeout) = (Storage::file(), Duration::from_secs(30));
        let mut inside = Inside::on(storage, intervals, timeout, &url, &[app_name], clock).await;
        inside.scan_for(&wechat);
        let mut app = inside.restore(app_name, &[Window::OneDay]).await;
        step(&mut app).await;
        let right = inside.metrics().await;
        assert!(!right.users(None).is_empty());
        let date = |page: &Page| page.value("wxapp_portrait_reference_date_timestamp_seconds", &[]);
        let archived = inside.access(answers);
        for is_restarted in [false, true] {
            hand.forward(TimeDelta::days(days));
            if is_restarted {
                app = inside.restore(app_name, &[Window::OneDay]).await;
            }
            step(&mut app).await;
            prometheus::check(&inside.metrics().await.0);
            assert!(inside.access(answers) == archived, "{days} days");
            let problem = inside.window_status(app_name).await["problem"].to_string();
            assert!(
                problem.contains("check the clock"),
                "{days} days: {problem}"
            );

            hand.forward(TimeDelta::days(-days));
            for _ in 0..2 {
                step(&mut app).await;
            }
            let page = inside.metrics().await;
            assert_eq!(page.users(None), right.users(None), "{days} days");
            assert_eq!(date(&page), date(&right), "{days} days");
            let problem = &inside.window_status(app_name).await["problem"];
            assert_eq!(*problem, Value::Null, "{days} days");
        }
    }
    assert_eq!(logged(&[app_name, "days are lost for good"]), [""; 0]);
}

#[tokio::test]
async fn every_time_zone_has_the_same_days() {
    on_one_day(async || {
        let wechat = WeChat::of(&[&format!("{APP}=300")]).await;
        let zones = [
            "UTC",
            "CST-8",
            "LINT-14",
            "SST11",
            "NPT-5:45",
            "PST8PDT,M3.2.0,M11.1.0",
            "No/Such_Zone",
            ":/dev/null",
            "",
        ];
        let pages = zones.map(async |zone| {
            let home = Home::of(&wechat, &[APP]);
            let mut command = home.command();
            command.env("TZ", zone);
            let apps = vec![appid(APP)];
            let mut exporter = Exporter::start(command, apps, Some(&wechat.simulator)).await;
            exporter.keep(&home);
            let page = exporter.ready().await;
            let days = "wxapp_portrait_reference_date_timestamp_seconds";
            (page.series("wxapp_portrait_users"), page.series(days))
        });
        let pages = join_all(pages).await;
        let expected = wechat.users(APP, Window::OneDay, yesterday());
        for (zone, (users, days)) in zones.iter().zip(&pages) {
            assert_eq!(*users, expected, "{zone}");
            assert_eq!(*days, pages[0].1, "{zone}");
        }
    })
    .await;
}

/// Returns a command that runs after these commands of a shell.
fn after(setup: &str, command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{setup}; exec {}", quoted(command))]);
    shell.env("NO_PROXY", "127.0.0.1").env_remove("http_proxy");
    shell
}

#[tokio::test]
async fn little_address_space_is_enough() {
    let apps: Vec<String> = (0..20)
        .map(|index| format!("wx5bace{index:011x}"))
        .collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    let wechat = WeChat::of(&apps).await;
    let home = Home::of(&wechat, &apps);
    // 800 MiB, of which the program without any app has reserved more than half.
    let command = after("ulimit -v 819200", &home.command());
    let exporter = Exporter::start(command, Vec::new(), Some(&wechat.simulator)).await;
    let page = exporter.ready().await;
    for app in apps {
        assert!(page.users(Some(app)).len() > 100, "{app}");
    }
}

/// Returns a command that runs a copy of the program as the user nobody.
fn as_nobody(command: &Command, directory: &Path) -> Command {
    let program = directory.join("exporter");
    fs::copy(command.get_program(), &program).unwrap();
    for path in [directory, &program] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    nobody.arg(program).args(command.get_args());
    nobody
}

#[tokio::test]
async fn without_threads_it_ends_at_once_and_names_the_reason() {
    let home = Home::new("http://127.0.0.1:1", &[APP]);
    let mut command = home.command();
    let directory = tempfile::tempdir().unwrap();
    if geteuid().is_root() {
        // To whom the limit does not apply.
        command = as_nobody(&command, directory.path());
    }
    let mut running = Running::start(after("ulimit -u 1", &command));
    let (end, _) = running.ended().await;
    assert!(!end.success());
    let said = running.output();
    assert!(said.contains("Resource temporarily unavailable"), "{said}");
}

#[tokio::test]
async fn hundreds_of_apps_in_all_windows_cost_little_memory_and_few_threads() {
    let apps: Vec<String> = (0..150)
        .map(|index| format!("wx3e3079{index:010x}"))
        .collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    let some = &apps[..20];
    let wechat = WeChat::of(some).await;
    for (url, apps) in [
        ("http://127.0.0.1:1".to_owned(), &apps[..]),
        (wechat.base_url(), some),
    ] {
        let mut home = Home::new(&url, apps);
        home.config["windows"] = json!(["1d", "7d", "30d"]);
        home.config["poll"] = json!({"interval": "1h"});
        let exporter = home.start().await;
        exporter.ready().await;
        let memory = exporter.running.peak_memory();
        assert!(memory < 96, "{} apps: {memory} MiB", apps.len());
        let threads = exporter.running.threads();
        assert!(threads < 32, "{} apps: {threads} threads", apps.len());
    }
}

#[tokio::test]
async fn a_storm_of_hangups_disturbs_no_scrape_and_sends_no_request() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    home.config["poll"]["interval"] = json!("12h");
    let mut exporter = home.start().await;
    let before = calm(&exporter).await;
    let requests = wechat.simulator.requests();
    let storm = async {
        for _ in 0..1_000 {
            kill_process(exporter.running.id(), Signal::HUP).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let scrapes = async {
        loop {
            let page = exporter.metrics().await;
            assert_eq!(page.users(None), before.users(None));
        }
    };
    tokio::select! {
        () = storm => {}
        () = scrapes => {}
    }
    exporter.running.said("configuration reloaded").await;
    let page = calm(&exporter).await;
    assert_eq!(page.users(None), before.users(None));
    let successful = "wxapp_portrait_config_last_reload_successful";
    assert_eq!(page.value(successful, &[]), Some(1.0));
    assert_eq!(wechat.simulator.requests(), requests);
}

#[tokio::test]
async fn it_serves_with_its_standard_files_closed_or_full() {
    let wechat = WeChat::of(&[APP]).await;
    for files in ["<&- >&- 2>&-", "</dev/null >/dev/full 2>&1"] {
        let home = Home::of(&wechat, &[APP]);
        let mut command = home.command();
        let port = free_port();
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let mut running = Running::start(after(&format!("exec {files}"), &command));
        let url = format!("http://127.0.0.1:{port}/-/ready");
        eventually(files, async || {
            let answer = client().get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        running.signal("TERM");
        assert!(running.ended().await.0.success(), "{files}");
    }
}
