//! What a new configuration changes while the exporter runs, and what it does not.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::ops::Range;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{Requests, secret_of};

use crate::harness::{
    APP, Exporter, Hand, Home, Inside, Labels, OTHER, Page, Prometheus, Series, WeChat, appid,
    client, eventually, labels, logged, now, on_one_day, program, yesterday,
};
use crate::web::inflate;

const THIRD: &str = "wx2123456789abcdef";

const LAST_SUCCESSFUL: &str = "wxapp_portrait_config_last_reload_successful";
const LAST_SUCCESS_AT: &str = "wxapp_portrait_config_last_reload_success_timestamp_seconds";

/// Writes an app as [`Home`] does, with additional keys.
fn entry(app: &str, keys: Value) -> Value {
    let mut entry = json!({"appid": app, "secret_file": app});
    let Value::Object(keys) = keys else { panic!() };
    entry.as_object_mut().unwrap().extend(keys);
    entry
}

fn entries(apps: &[&str]) -> Value {
    apps.iter().map(|app| entry(app, json!({}))).collect()
}

/// A home whose apps are polled once, and then not for hours.
fn calm_home(wechat: &WeChat, apps: &[&str]) -> Home {
    let mut home = Home::of(wechat, apps);
    home.config["poll"]["interval"] = json!("12h");
    home
}

/// Requests a reload; returns status and text.
async fn post(exporter: &Exporter) -> (u16, String) {
    let answer = exporter.ask("POST", "/-/reload", "identity").await;
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    exporter.saw(&text);
    (status, text)
}

/// Writes the configuration and reloads it.
async fn reload(home: &Home, exporter: &Exporter) {
    home.configure();
    assert_eq!(post(exporter).await, (200, "reloaded\n".to_owned()));
}

/// Waits until no app is due before the next interval; returns the page.
pub(crate) async fn calm(exporter: &Exporter) -> Page {
    exporter
        .metrics_with("the end of all polls", |page| {
            let next = page.series("wxapp_portrait_next_poll_timestamp_seconds");
            let now = f64::from(u32::try_from(now().timestamp()).unwrap());
            let is_calm = next.values().all(|next| *next > now);
            is_calm.then(|| Page(page.0.clone()))
        })
        .await
}

/// Waits until an app that failed has been polled again; returns the page.
async fn recovered(exporter: &Exporter, app: &str) -> Page {
    let has_users = |page: &Page| {
        let has_users = !page.users(Some(app)).is_empty();
        has_users.then_some(())
    };
    exporter.metrics_with("another poll", has_users).await;
    calm(exporter).await
}

/// Returns all lines about an app.
fn of_app<'a>(page: &'a Page, app: &str) -> Vec<&'a str> {
    let label = format!("appid=\"{app}\"");
    let lines = page.0.lines();
    lines.filter(|line| line.contains(&label)).collect()
}

fn polls(page: &Page, app: &str, window: &str) -> f64 {
    let labels = [("appid", app), ("window", window)];
    page.value("wxapp_portrait_polls_total", &labels).unwrap()
}

fn requests(wechat: &WeChat, app: &str) -> Requests {
    let requests = wechat.simulator.requests();
    requests.get(app).copied().unwrap_or_default()
}

/// Waits until a portrait of an app was requested.
async fn asked(wechat: &WeChat, app: &str) {
    eventually("a request", async || {
        (requests(wechat, app).portrait > 0).then_some(())
    })
    .await;
}

/// Returns the users of yesterday that a page must show.
fn expected(wechat: &WeChat, apps: &[&str], windows: &[Window]) -> Series {
    let of = |app| {
        let windows = windows.iter();
        windows.flat_map(move |window| wechat.users(app, *window, yesterday()))
    };
    apps.iter().flat_map(|app| of(app)).collect()
}

#[tokio::test]
async fn an_added_app_is_shown_and_a_removed_one_is_gone_with_the_next_scrape() {
    on_one_day(async || {
        let apps = [APP, OTHER, THIRD];
        let wechat = WeChat::of(&apps).await;
        let mut home = calm_home(&wechat, &apps);
        home.config["apps"] = entries(&[APP, OTHER]);
        let exporter = home.start().await;
        let before = calm(&exporter).await;
        let asked_before = [APP, OTHER].map(|app| requests(&wechat, app));

        home.config["apps"] = entries(&[THIRD, APP]);
        reload(&home, &exporter).await;
        let page = exporter.metrics().await;
        assert_eq!(of_app(&page, OTHER), [""; 0]);
        assert_eq!(of_app(&page, APP), of_app(&before, APP));
        assert!(!of_app(&page, THIRD).is_empty());
        let target = format!("/probe?target={OTHER}");
        assert_eq!(exporter.get(&target).await.0, 404);
        for path in ["/", "/api/v1/status"] {
            let (_, text) = exporter.get(path).await;
            assert!(!text.contains(OTHER) && text.contains(THIRD), "{path}");
        }

        let page = calm(&exporter).await;
        assert_eq!(of_app(&page, APP), of_app(&before, APP));
        assert_eq!(
            page.series("wxapp_portrait_users"),
            expected(&wechat, &[APP, THIRD], &[Window::OneDay])
        );
        assert_eq!([APP, OTHER].map(|app| requests(&wechat, app)), asked_before);
        assert_eq!(requests(&wechat, THIRD).token, 1);

        // Archived days are shown at once when the app is added again.
        home.config["apps"] = entries(&[OTHER, APP]);
        reload(&home, &exporter).await;
        let page = exporter.metrics().await;
        assert_eq!(page.users(Some(OTHER)), before.users(Some(OTHER)));
        assert_eq!(of_app(&page, THIRD), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn counters_continue_and_a_removed_app_is_no_longer_polled() {
    let apps = [APP, OTHER, THIRD];
    let wechat = WeChat::of(&apps).await;
    let mut home = Home::of(&wechat, &apps);
    for app in apps {
        // So that there is something to request at any hour.
        wechat.set_fault(app, "garbage");
    }
    let exporter = home.start().await;
    let last = Cell::new([0.0; 2]);
    let stayed = [APP, THIRD];
    let until = async |least: f64| {
        exporter
            .metrics_with("polls", |page| {
                let counted = stayed.map(|app| polls(page, app, "1d"));
                let fell = counted
                    .iter()
                    .zip(last.get())
                    .find(|(now, then)| **now < *then);
                assert_eq!(fell, None, "a counter fell");
                last.set(counted);
                counted.iter().all(|polls| *polls >= least).then_some(())
            })
            .await;
    };
    until(4.0).await;
    home.config["apps"] = json!([entry(APP, json!({})), entry(THIRD, json!({"name": "会员"}))]);
    reload(&home, &exporter).await;
    until(0.0).await;
    let of_removed = requests(&wechat, OTHER);
    until(last.get().into_iter().fold(0.0, f64::max) + 4.0).await;
    assert_eq!(requests(&wechat, OTHER), of_removed);
    for app in stayed {
        assert_eq!(requests(&wechat, app).token, 1);
    }
}

/// Returns the values that a label has.
fn values(series: &Series, label: &str) -> BTreeSet<String> {
    series.keys().map(|labels| labels[label].clone()).collect()
}

#[tokio::test]
async fn a_changed_app_keeps_its_counters_and_its_token() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let mut home = calm_home(&wechat, &[APP, OTHER]);
        home.archive(&wechat, &[APP], 10);
        home.config["windows"] = json!(["1d", "7d"]);
        wechat.set_fault(APP, "errcode=61503*1");
        let exporter = home.start().await;
        let before = calm(&exporter).await;
        let not_ready = |page: &Page| {
            let labels = [("appid", APP), ("window", "1d"), ("reason", "not_ready")];
            page.value("wxapp_portrait_poll_failures_total", &labels)
        };
        assert_eq!(not_ready(&before), Some(1.0));
        let of_other = requests(&wechat, OTHER);

        let changed = json!({
            "name": "商城",
            "windows": ["30d", "1d"],
            "dimensions": ["platform", "age"],
            "top_names": {"age": 2},
            "past": {"days_ago": [2]},
            "swing": {"min_users": 20},
        });
        home.config["apps"][0] = entry(APP, changed);
        reload(&home, &exporter).await;
        let check = |page: &Page| {
            let named = [("appid", APP), ("app", "商城")];
            assert_eq!(page.value("wxapp_portrait_app_info", &named), Some(1.0));
            for (threshold, value) in [("threshold_ratio", 0.35), ("min_users", 20.0)] {
                let name = format!("wxapp_portrait_swing_{threshold}");
                assert_eq!(page.value(&name, &[("appid", APP)]), Some(value));
            }
            let of_app = |name| {
                let mut series = page.series(name);
                series.retain(|labels, _| labels["appid"] == APP);
                series
            };
            let mut users = of_app("wxapp_portrait_users");
            let of_age = |labels: &Labels| labels["dimension"] == "age";
            let ages: Series = users.extract_if(.., |labels, _| of_age(labels)).collect();
            assert!(values(&ages, "name").contains("(other)"), "{ages:?}");
            let mut platforms = expected(&wechat, &[APP], &[Window::OneDay, Window::ThirtyDays]);
            platforms.retain(|labels, _| labels["dimension"] == "platform");
            assert_eq!(users, platforms);
            let past = of_app("wxapp_portrait_past_users");
            assert_eq!(values(&past, "days_ago"), ["2".to_owned()].into());
            let counted = of_app("wxapp_portrait_polls_total");
            assert_eq!(
                values(&counted, "window"),
                ["1d", "30d"].map(str::to_owned).into()
            );
            assert_eq!(not_ready(page), Some(1.0));
            assert!(polls(page, APP, "1d") >= polls(&before, APP, "1d"));
        };
        // From the archive, before WeChat has answered.
        check(&exporter.metrics().await);
        let after = calm(&exporter).await;
        check(&after);
        assert!(polls(&after, APP, "30d") > 0.0, "asked at once");
        assert_eq!(of_app(&after, OTHER), of_app(&before, OTHER));

        home.config["apps"][0] = entry(APP, json!({}));
        reload(&home, &exporter).await;
        let page = calm(&exporter).await;
        assert_eq!(page.users(Some(APP)), before.users(Some(APP)));
        assert_eq!(not_ready(&page), Some(1.0));
        assert_eq!(requests(&wechat, APP).token, 1);
        assert_eq!(requests(&wechat, OTHER), of_other);
    })
    .await;
}

#[tokio::test]
async fn a_changed_access_is_applied_at_once() {
    on_one_day(async || {
        for (key, value, tokens, is_asked) in [
            ("token_url", "{wechat}/simulator/tokens/{app}", 2, true),
            ("portrait_url", "{wechat}/function/{app}", 1, true),
            ("secret_file", "another", 2, true),
            ("secret_file", "{app}", 1, false),
        ] {
            let wechat = WeChat::of(&[APP]).await;
            let mut home = calm_home(&wechat, &[APP]);
            fs::write(home.path("another"), secret_of(&appid(APP))).unwrap();
            let exporter = home.start().await;
            let before = calm(&exporter).await;
            let asked_before = requests(&wechat, APP);
            assert_eq!(asked_before.token, 1);

            let value = value
                .replace("{wechat}", &wechat.base_url())
                .replace("{app}", APP);
            let mut changed = json!({"appid": APP, "name": "商城"});
            changed[key] = json!(value);
            home.config["apps"] = json!([changed]);
            reload(&home, &exporter).await;
            let after = calm(&exporter).await;
            let asked = requests(&wechat, APP);
            assert_eq!(asked.portrait > asked_before.portrait, is_asked, "{value}");
            assert_eq!(asked.token, tokens, "{value}");
            assert_eq!(after.users(None), before.users(None));
            let polled = polls(&after, APP, "1d") > polls(&before, APP, "1d");
            assert_eq!(polled, is_asked, "{value}");
        }
    })
    .await;
}

#[tokio::test]
async fn changed_settings_of_polling_are_applied_without_a_new_token() {
    let hanging = [OTHER, THIRD, "wx3123456789abcdef"];
    let apps = [APP, hanging[0], hanging[1], hanging[2]];
    let wechat = WeChat::of(&apps).await;
    wechat.set_fault(APP, "garbage");
    for app in hanging {
        wechat.set_fault(app, "delay=1h");
    }
    let mut home = calm_home(&wechat, &apps);
    home.config["poll"]["concurrency"] = json!(1);
    home.config["wechat"]["timeout"] = json!("5m");
    home.config["apps"] = entries(&[APP]);
    let exporter = home.start().await;
    let counted = Cell::new(polls(&calm(&exporter).await, APP, "1d"));
    let continues = async || {
        exporter
            .metrics_with("more polls", |page| {
                let polls = polls(page, APP, "1d");
                assert!(polls >= counted.get(), "a counter fell");
                (polls > counted.get() + 4.0).then(|| counted.set(polls))
            })
            .await;
    };
    home.config["poll"]["interval"] = json!("1s");
    reload(&home, &exporter).await;
    continues().await;

    home.config["poll"]["concurrency"] = json!(4);
    home.config["apps"] = entries(&apps);
    reload(&home, &exporter).await;
    for app in hanging {
        asked(&wechat, app).await;
    }
    continues().await;

    home.config["wechat"]["timeout"] = json!("100ms");
    reload(&home, &exporter).await;
    exporter
        .metrics_with("the end of the time", |page| {
            let labels = [("endpoint", "portrait"), ("errcode", "timeout")];
            page.value("wxapp_portrait_api_request_failures_total", &labels)
        })
        .await;
    continues().await;
    assert_eq!(apps.map(|app| requests(&wechat, app).token), [1; 4]);
}

#[tokio::test]
async fn another_archive_is_used_after_a_restart_and_the_rest_at_once() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    let apps = home.config["apps"].take();
    home.config["apps"] = json!([apps[0]]);
    let exporter = home.start().await;
    let url = "postgres://u:a-secret@database.example/portraits";
    std::fs::write(home.path("postgres-url"), url).unwrap();
    home.config["archive"] = json!({"postgres_url_file": "postgres-url"});
    home.config["apps"] = apps;
    home.configure();
    let response = exporter.ask("POST", "/-/reload", "identity").await;
    assert_eq!(response.status(), 200);
    // It may be logged a moment after the response.
    let log = eventually("the reload to be logged", async || {
        let log = exporter.running.output();
        log.contains("added=1").then_some(log)
    })
    .await;
    let warning = "archive.postgres_url_file changed: restart the exporter to use it";
    assert_eq!(log.matches(warning).count(), 1, "{log}");
    assert!(!log.contains("a-secret"), "{log}");
    let (_, shown) = exporter.get("/config").await;
    assert!(shown.contains("postgres_url_file: postgres-url"), "{shown}");
    assert!(!shown.contains("a-secret"), "{shown}");
}

#[tokio::test]
async fn changed_limits_of_staleness_and_retention_are_applied() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        wechat.set_fault(APP, "errcode=61503");
        let mut home = Home::of(&wechat, &[APP]);
        home.archive(&wechat, &[APP], 10);
        let newest = calendar::days_before(calendar::yesterday(now()), 4);
        let archive = rusqlite::Connection::open(home.archive_file()).unwrap();
        let newer = "DELETE FROM portraits WHERE reference_date > ?1";
        archive.execute(newer, [newest.to_string()]).unwrap();
        let count = "SELECT count(*) FROM portraits WHERE window = '1d'";
        let held: u32 = archive.query_one(count, [], |row| row.get(0)).unwrap();
        let exporter = home.start().await;
        exporter.ready().await;
        let users = wechat.users(APP, Window::OneDay, newest);
        for (stale_after, expected) in [("3d", None), ("4d", Some(&users)), ("1d", None)] {
            home.config["stale_after"] = json!(stale_after);
            reload(&home, &exporter).await;
            let page = exporter.metrics().await;
            let shown = page.series("wxapp_portrait_users");
            assert_eq!(
                shown,
                expected.cloned().unwrap_or_default(),
                "{stale_after}"
            );
            let day = page.value("wxapp_portrait_reference_date_timestamp_seconds", &[]);
            assert!(day.is_some(), "{stale_after}");
        }
        let days = |days: u32| {
            move |page: &Page| {
                let held = page.value("wxapp_portrait_archived_portraits", &[])?;
                (held.to_string() == days.to_string()).then_some(())
            }
        };
        exporter.metrics_with("all days", days(held)).await;
        home.config["archive"] = json!({"retention": "3d"});
        reload(&home, &exporter).await;
        exporter.metrics_with("the rest", days(3)).await;
        assert_eq!(requests(&wechat, APP).token, 1);
    })
    .await;
}

/// Returns the part of the page that is about apps.
async fn portraits(exporter: &Exporter) -> String {
    exporter.get("/metrics?collect[]=portrait").await.1
}

/// Returns whether the last reload succeeded, and when the last successful one was.
async fn last_reload(exporter: &Exporter) -> [f64; 2] {
    let page = exporter.metrics().await;
    [LAST_SUCCESSFUL, LAST_SUCCESS_AT].map(|name| page.value(name, &[]).unwrap())
}

/// Returns why the last configuration is not applied, from the status.
async fn config_problem(exporter: &Exporter) -> Option<String> {
    let (_, text) = exporter.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&text).unwrap();
    status["config"]["problem"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn an_app_whose_secret_is_missing_fails_alone_until_it_is_there() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    home.config["poll"]["interval"] = json!("1s");
    home.configure();
    fs::remove_file(home.path(OTHER)).unwrap();
    let mut check = home.command();
    let output = check.arg("--config.check").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("apps[1].secret_file: cannot read "), "{said}");

    let exporter = home.start().await;
    let page = exporter.ready().await;
    assert!(!page.users(Some(APP)).is_empty());
    assert!(page.users(Some(OTHER)).is_empty());
    let failures = |page: &Page| {
        let labels = [
            ("appid", OTHER),
            ("reason", "configuration"),
            ("window", "1d"),
        ];
        page.value("wxapp_portrait_poll_failures_total", &labels)
    };
    assert!(failures(&page) >= Some(1.0));
    let (status, text) = post(&exporter).await;
    assert_eq!(status, 200, "{text}");
    let problem = exporter.window_status(OTHER).await["problem"].to_string();
    assert!(problem.contains("cannot read "), "{problem}");
    let said = exporter.running.output();
    assert_eq!(said.matches("reason=configuration").count(), 1, "{said}");

    fs::write(home.path(OTHER), secret_of(&appid(OTHER))).unwrap();
    exporter
        .metrics_with("the app with its secret", |page| {
            (!page.users(Some(OTHER)).is_empty()).then_some(())
        })
        .await;
}

#[tokio::test]
async fn an_invalid_configuration_is_refused_with_its_reason_and_changes_nothing() {
    on_one_day(async || {
    let start = f64::from(u32::try_from(now().timestamp()).unwrap());
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let home = calm_home(&wechat, &[APP, OTHER]);
    let mut exporter = home.start().await;
    calm(&exporter).await;
    let before = portraits(&exporter).await;
    let asked_before = wechat.simulator.requests();
    let [successful, at] = last_reload(&exporter).await;
    assert_eq!(successful.to_string(), "1");
    assert!((start..start + 60.0).contains(&at), "{at}");

    let file = home.configure();
    let place = file.display();
    let good = fs::read_to_string(&file).unwrap();
    for (bad, problem) in [
        (
            "poll:\n  interval: soon\n".to_owned(),
            format!(
                "{place}:2: poll.interval: `soon` is not a duration: expected a number and a unit, such as 10s, 30m or 400d\n"
            ),
        ),
        (
            "apps: [".to_owned(),
            format!("{place}:1: invalid YAML at column 7: "),
        ),
        (
            good.replace("\"poll\"", "\"pull\""),
            format!("{place}:1: pull: unknown key, did you mean `poll`: expected one of "),
        ),
        (
            good.replace(OTHER, APP),
            format!("{place}:1: apps[1].appid: {APP} is configured twice: first at {place}:1"),
        ),
        (
            good.replacen('{', r#"{"holidays": {"files": ["gone.json"]}, "#, 1),
            format!("{place}:1: holidays.files: no such file: "),
        ),
    ] {
        fs::write(&file, bad).unwrap();
        let (status, text) = post(&exporter).await;
        assert_eq!(status, 500, "{text}");
        assert!(text.starts_with(&problem), "{text}");
        assert_eq!(portraits(&exporter).await, before);
        assert_eq!(
            config_problem(&exporter).await.as_deref(),
            Some(text.trim_end())
        );
        let (_, html) = exporter.get("/").await;
        assert!(html.contains("Reload failed"), "{html}");
        assert_eq!(
            last_reload(&exporter).await.map(|value| value.to_string()),
            ["0".to_owned(), at.to_string()]
        );
    }
    fs::remove_file(&file).unwrap();
    exporter.running.signal("HUP");
    let reason = format!("{place}: cannot read it: No such file or directory");
    exporter.running.said(&reason).await;
    for method in ["GET", "PUT"] {
        let answer = exporter.ask(method, "/-/reload", "identity").await;
        assert_eq!(answer.status().as_u16(), 405, "{method}");
        assert_eq!(answer.headers()["allow"], "POST", "{method}");
    }
    assert_eq!(portraits(&exporter).await, before);

    // An idle exporter sends no requests because of a reload, either.
    eventually("a later second", async || {
        reload(&home, &exporter).await;
        let [successful, later] = last_reload(&exporter).await;
        assert_eq!(successful.to_string(), "1");
        (later > at).then_some(())
    })
    .await;
    assert_eq!(config_problem(&exporter).await, None);
    assert_eq!(portraits(&exporter).await, before);
    assert_eq!(wechat.simulator.requests(), asked_before);
    })
    .await;
}

#[tokio::test]
async fn a_file_of_holidays_is_read_by_a_reload() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = calm_home(&wechat, &[APP, OTHER]);
    home.config["holidays"] = json!({"files": ["holidays/*.json"]});
    home.config["apps"][1]["holidays"] = json!({"calendar": "none"});
    let mut exporter = home.start().await;
    calm(&exporter).await;

    let day = json!({"name": "元旦", "date": "2099-01-01", "isOffDay": true});
    let year = json!({"year": 2099, "days": [day]});
    fs::create_dir(home.path("holidays")).unwrap();
    fs::write(home.path("holidays/2099.json"), year.to_string()).unwrap();
    reload(&home, &exporter).await;
    let outcome = |changed| format!("added=0 removed=0 changed={changed} retried=0");
    exporter.running.said(&outcome(1)).await;
    reload(&home, &exporter).await;
    exporter.running.said(&outcome(0)).await;
}

#[tokio::test]
async fn holidays_of_a_year_that_are_missing_are_logged_at_the_start() {
    let hand = Hand::at("2999-11-30T23:00:00+08:00");
    let inside = Inside::start("http://127.0.0.1:1", &[APP], &hand).await;
    let polling = inside.poll(APP, Window::OneDay).await;
    let words = ["WARN", "holidays are not known", "year=2999 apps=1 hint="];
    assert_eq!(logged(&words).len(), 1);
    polling.end().await;
}

#[tokio::test]
async fn an_app_that_failed_is_polled_again_soon() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "garbage");
        let home = calm_home(&wechat, &[APP, OTHER]);
        let exporter = home.start().await;
        let before = calm(&exporter).await;
        let asked_before = requests(&wechat, APP);
        assert!(before.users(Some(OTHER)).is_empty());

        wechat.simulator.clear_faults(&appid(OTHER));
        let failed = requests(&wechat, OTHER).portrait;
        for _ in 0..10 {
            reload(&home, &exporter).await;
        }
        let after = recovered(&exporter, OTHER).await;
        assert!(
            requests(&wechat, OTHER).portrait <= failed + 2,
            "asked again and again"
        );
        assert_eq!(
            after.series("wxapp_portrait_users"),
            expected(&wechat, &[APP, OTHER], &[Window::OneDay])
        );
        assert_eq!(of_app(&after, APP), of_app(&before, APP));
        assert_eq!(requests(&wechat, APP), asked_before);
        assert_eq!(requests(&wechat, OTHER).token, 1);
    })
    .await;
}

#[tokio::test]
async fn what_an_operator_must_resolve_is_not_polled_again_by_reloads_but_with_another_access() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "errcode=48001");
        let mut home = calm_home(&wechat, &[APP, OTHER]);
        let exporter = home.start().await;
        calm(&exporter).await;
        let status = exporter.window_status(OTHER).await;
        let problem = status["problem"].as_str().unwrap();
        assert!(problem.contains("; no retry before "), "{problem}");
        let before = requests(&wechat, OTHER);
        wechat.simulator.clear_faults(&appid(OTHER));
        for interval in ["12h", "11h", "12h"] {
            home.config["poll"]["interval"] = json!(interval);
            reload(&home, &exporter).await;
        }
        for _ in 0..10 {
            reload(&home, &exporter).await;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(requests(&wechat, OTHER), before);

        // The same secret from another source.
        let moved = home.path("moved");
        fs::copy(home.path(OTHER), &moved).unwrap();
        home.config["apps"][1] = json!({"appid": OTHER, "secret_file": "moved"});
        reload(&home, &exporter).await;
        recovered(&exporter, OTHER).await;
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_is_used() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = calm_home(&wechat, &[APP]);
        let secret = secret_of(&appid(APP));
        let wrong = secret.chars().rev().collect::<String>();
        fs::write(home.path(APP), &wrong).unwrap();
        let exporter = home.start().await;
        assert!(calm(&exporter).await.users(None).is_empty());
        let status = exporter.window_status(APP).await;
        assert!(
            status["problem"]
                .as_str()
                .unwrap()
                .contains("AppSecret is wrong")
        );

        let start = Instant::now();
        fs::write(home.path(APP), format!("{secret}\n")).unwrap();
        reload(&home, &exporter).await;
        let page = recovered(&exporter, APP).await;
        // Without a reload the file is checked every minute.
        assert!(start.elapsed() < Duration::from_secs(30));

        // A valid token is not dropped for another secret.
        let before = requests(&wechat, APP);
        fs::write(home.path(APP), &wrong).unwrap();
        reload(&home, &exporter).await;
        assert_eq!(calm(&exporter).await.users(None), page.users(None));
        assert_eq!(requests(&wechat, APP), before);
    })
    .await;
}

#[tokio::test]
async fn an_app_that_hangs_is_removed_at_once_and_does_not_delay_others_when_it_is_added() {
    on_one_day(async || {
        for fault in ["http=502", "delay=1h", "token:delay=1h"] {
            let wechat = WeChat::of(&[APP, OTHER]).await;
            wechat.set_fault(OTHER, fault);
            let mut home = calm_home(&wechat, &[APP, OTHER]);
            home.config["wechat"]["timeout"] = json!("5m");
            let exporter = home.start().await;
            eventually("a request", async || {
                let Requests {
                    token, portrait, ..
                } = requests(&wechat, OTHER);
                (portrait > 0 || fault.starts_with("token") && token > 0).then_some(())
            })
            .await;
            let start = Instant::now();
            home.config["apps"] = entries(&[APP]);
            reload(&home, &exporter).await;
            let page = exporter.metrics().await;
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{fault}: it waited"
            );
            assert_eq!(of_app(&page, OTHER), [""; 0]);
            // Ready, although no client has requested that.
            calm(&exporter).await;

            home.config["apps"] = entries(&[APP, OTHER]);
            reload(&home, &exporter).await;
            assert_eq!(exporter.get("/-/ready").await.0, 200, "{fault}");
            let page = exporter.metrics().await;
            assert!(!of_app(&page, OTHER).is_empty() && page.users(Some(OTHER)).is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn reloads_that_come_all_at_once_are_all_answered() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let home = calm_home(&wechat, &[APP, OTHER]);
    let exporter = home.start().await;
    let before = calm(&exporter).await;
    let posts = join_all((0..20).map(|_| post(&exporter)));
    let hangups = async {
        for _ in 0..5 {
            exporter.running.signal("HUP");
        }
    };
    let (answers, ()) = tokio::join!(posts, hangups);
    assert_eq!(answers, vec![(200, "reloaded\n".to_owned()); 20]);
    fs::write(home.configure(), "").unwrap();
    let answers = join_all((0..20).map(|_| post(&exporter))).await;
    assert!(
        answers.iter().all(|(status, _)| *status == 500),
        "{answers:?}"
    );
    let after = exporter.metrics().await;
    for app in [APP, OTHER] {
        assert_eq!(of_app(&after, app), of_app(&before, app));
    }
}

#[tokio::test]
async fn labels_are_on_the_info_of_their_app_only_and_shown_at_once() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = calm_home(&wechat, &[APP, OTHER]);
    let exporter = home.start().await;
    let without_labels = calm(&exporter).await;
    let prometheus = Prometheus::start(&exporter);
    let asked = requests(&wechat, APP);
    for team in ["零售", r#"a "b" \c\n"#] {
        let configured = json!({"team": team, "tier": "01"});
        home.config["apps"][0] = entry(APP, json!({"labels": configured}));
        reload(&home, &exporter).await;
        let page = exporter.metrics().await;
        let infos = page.series("wxapp_portrait_app_info");
        let own = [("appid", APP), ("app", APP), ("team", team), ("tier", "01")];
        let without = [("appid", OTHER), ("app", OTHER)];
        assert_eq!(infos, [(labels(&own), 1.0), (labels(&without), 1.0)].into());
        eventually("a scrape of the new labels", async || {
            let found = prometheus.query("wxapp_portrait_app_info").await;
            (found == infos).then_some(())
        })
        .await;
        assert_eq!(page.users(None), without_labels.users(None));

        let status: Value = serde_json::from_str(&exporter.get("/api/v1/status").await.1).unwrap();
        assert_eq!(status["apps"][0]["labels"], configured);
        assert_eq!(status["apps"][1]["labels"], json!({}));
        let shown: Value = serde_saphyr::from_str(&exporter.get("/config").await.1).unwrap();
        assert_eq!(shown["apps"][0]["labels"], configured);
        let searched = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("q", team)
            .finish();
        let (_, found) = exporter.get(&format!("/?{searched}")).await;
        assert!(found.contains(&format!("id=\"{APP}\"")), "{found}");
        assert!(!found.contains(&format!("id=\"{OTHER}\"")), "{found}");
    }
    home.config["apps"][0] = entry(APP, json!({"labels": {"team": "<b>"}}));
    reload(&home, &exporter).await;
    let (_, page) = exporter.get(&format!("/apps/{APP}")).await;
    assert!(
        page.contains(r#"title="team"><bdi>&#60;b&#62;</bdi>"#),
        "{page}"
    );
    assert_eq!(requests(&wechat, APP), asked, "nothing is asked for labels");
}

#[tokio::test]
async fn a_reload_of_a_demo_changes_nothing() {
    let mut command = program();
    command.args(["demo", "--web.listen-address", "127.0.0.1:0"]);
    let exporter = Exporter::start(command, Vec::new(), None).await;
    let shown = |page: &Page| {
        [
            "wxapp_portrait_users",
            "wxapp_portrait_past_users",
            "wxapp_portrait_app_info",
        ]
        .map(|name| page.series(name))
    };
    let before = calm(&exporter).await;
    assert_eq!(post(&exporter).await, (200, "reloaded\n".to_owned()));
    let after = exporter.metrics().await;
    assert_eq!(shown(&after), shown(&before));
    let counted = after.series("wxapp_portrait_polls_total");
    for (labels, polls) in before.series("wxapp_portrait_polls_total") {
        assert!(counted[&labels] >= polls, "{labels:?}");
    }
}

/// Ends an exporter during a reload; it must not wait for anything.
async fn end(exporter: &mut Exporter) {
    exporter.running.signal("TERM");
    let (end, duration) = exporter.running.ended().await;
    let said = exporter.running.output();
    assert_eq!(end.code(), Some(0), "{said}");
    assert!(duration < Duration::from_secs(5), "{duration:?}");
    assert!(!said.contains("cut off"), "{said}");
}

#[tokio::test]
async fn it_ends_while_it_is_reloaded_repeatedly() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let home = Home::of(&wechat, &[APP, OTHER]);
    for _ in 0..3 {
        let mut exporter = home.start().await;
        let url = format!("{}/-/reload", exporter.url);
        let posts = join_all((0..4).map(|_| {
            let (client, url) = (client(), url.clone());
            tokio::spawn(async move {
                while client
                    .post(&url)
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status() == 200)
                {}
            })
        }));
        exporter.running.said("configuration reloaded").await;
        end(&mut exporter).await;
        posts.await;
    }
}

#[tokio::test]
async fn a_reload_does_not_wait_for_a_named_pipe() {
    let wechat = WeChat::of(&[APP]).await;
    let home = calm_home(&wechat, &[APP]);
    let mut exporter = home.start().await;
    let before = calm(&exporter).await;
    let pipe = home.configure();
    fs::remove_file(&pipe).unwrap();
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let post = client().post(format!("{}/-/reload", exporter.url)).send();
    let answer = post.await.unwrap();
    assert_eq!(answer.status().as_u16(), 500);
    let text = answer.text().await.unwrap();
    assert!(text.contains("not a regular file"), "{text}");
    let page = exporter.metrics().await;
    assert_eq!(of_app(&page, APP), of_app(&before, APP));
    end(&mut exporter).await;
}

/// How often the configuration is changed under load.
const ROUNDS: usize = 24;

/// Apps that are never changed, apps that are changed, and apps that are added and removed.
const STILL: Range<usize> = 0..10;
const CHANGED: Range<usize> = 10..18;
const COMING: Range<usize> = 18..32;

/// The last of these that fail, and their faults.
const FAILING: [(usize, &str); 6] = [
    (26, "http=502"),
    (27, "http=502"),
    (28, "delay=1h"),
    (29, "token:delay=1h"),
    (30, "errcode=48001"),
    (31, "errcode=61503"),
];

/// Returns the configuration of a round.
fn configuration(base: &Value, apps: &[&str], round: usize) -> Value {
    let mut config = base.clone();
    let either = |of: [&str; 2], every: usize| json!(of[round / every % 2]);
    config["wechat"]["timeout"] = either(["500ms", "700ms"], 3);
    config["poll"]["interval"] = either(["1s", "2s"], 4);
    config["archive"]["retention"] = either(["400d", "300d"], 5);
    config["stale_after"] = either(["3d", "5d"], 7);
    let changed = CHANGED.map(|index| {
        let windows = &["1d", "7d", "30d"][..=(round + index) % 3];
        let keys = json!({"name": format!("{round}"), "windows": windows});
        entry(apps[index], keys)
    });
    let coming = COMING.filter(|index| (round * 7 + index * 5) % 11 < 6);
    let same = STILL.chain(coming);
    let same = same.map(|index| entry(apps[index], json!({})));
    config["apps"] = same.chain(changed).collect();
    config
}

/// Scrapes a page, which must be complete.
async fn scrape(exporter: &Exporter, path: &str, encoding: &str) -> Page {
    let answer = exporter.ask("GET", path, encoding).await;
    assert_eq!(answer.status().as_u16(), 200);
    let announced = answer.headers()["content-length"].clone();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len().to_string(), announced.to_str().unwrap());
    let text = match encoding {
        "gzip" => inflate(&body),
        _ => String::from_utf8(body.to_vec()).unwrap(),
    };
    assert!(text.ends_with('\n'));
    let mut series = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(name), "it is there twice: {line}");
    }
    Page(text)
}

/// Returns the users on a page by what must not be mixed: app, window and reference date.
fn portraits_on(page: &Page) -> BTreeMap<(String, String, String), String> {
    let days = page.series("wxapp_portrait_reference_date_timestamp_seconds");
    let mut portraits: BTreeMap<_, String> = BTreeMap::new();
    for line in page.users(None) {
        let mut values = line.split('"').skip(1).step_by(2).take(2);
        let (app, window) = (values.next().unwrap(), values.next().unwrap());
        let day = days[&labels(&[("appid", app), ("window", window)])];
        let key = (app.to_owned(), window.to_owned(), day.to_string());
        *portraits.entry(key).or_default() += line;
    }
    portraits
}

#[tokio::test]
async fn every_scrape_is_complete_while_apps_and_settings_change_dozens_of_times() {
    on_one_day(async || {
        let apps = COMING.end;
        let apps: Vec<String> = (0..apps)
            .map(|index| format!("wx10ad{index:012x}=100"))
            .collect();
        let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
        let wechat = WeChat::of(&apps).await;
        let apps: Vec<&str> = apps.iter().map(|app| &app[..18]).collect();
        let steady = &apps[..CHANGED.end];
        for (index, fault) in FAILING {
            wechat.set_fault(apps[index], fault);
        }
        let mut home = Home::of(&wechat, &apps);
        home.config["dimensions"] = json!(["province", "platform", "gender", "age"]);
        let base = home.config.clone();
        let exporter = home.start().await;
        let known = exporter.metrics_with("all that answer", |page| {
            let portraits = portraits_on(page);
            let is_there = |app: &&str| portraits.keys().any(|(shown, ..)| shown == app);
            steady.iter().all(is_there).then_some(portraits)
        });
        let known = RefCell::new(known.await);

        // The configured apps in turn; two at a time while either may be in effect.
        let all: BTreeSet<String> = apps.iter().map(|app| (*app).to_owned()).collect();
        let configured = RefCell::new(vec![[all.clone(), all]]);
        let scrapes = [const { Cell::new(0) }; 3];
        let watch = async |encoding: &str, path: &str, scrapes: &Cell<usize>| {
            let mut counted = Series::new();
            loop {
                let first = configured.borrow().len() - 1;
                let page = scrape(&exporter, path, encoding).await;
                let configured = configured.borrow();
                let possible = configured[first..].iter().flatten();
                let shown = values(&page.series("wxapp_portrait_app_info"), "appid");
                for app in &apps {
                    let app = *app;
                    let is_shown = shown.contains(app);
                    let is_right = possible.clone().any(|apps| apps.contains(app) == is_shown);
                    assert!(is_right, "{app} is shown: {is_shown}");
                }
                let portraits = portraits_on(&page);
                let is_whole = |app: &&str| {
                    portraits
                        .keys()
                        .any(|(shown, window, _)| shown == app && window == "1d")
                };
                assert!(steady.iter().all(is_whole));
                for (key, portrait) in portraits {
                    let mut known = known.borrow_mut();
                    let known = known.entry(key).or_insert_with(|| portrait.clone());
                    assert!(portrait == *known, "{portrait} {known}");
                }
                for (labels, polls) in page.series("wxapp_portrait_polls_total") {
                    let stays = steady.contains(&&*labels["appid"]) && labels["window"] == "1d";
                    let before = counted.insert(labels, polls).unwrap_or_default();
                    assert!(!stays || polls >= before, "a counter fell");
                }
                scrapes.set(scrapes.get() + 1);
            }
        };
        let reloads = async {
            for round in 0..ROUNDS {
                home.config = configuration(&base, &apps, round);
                let wanted = home.config["apps"].as_array().unwrap().iter();
                let wanted: BTreeSet<String> = wanted
                    .map(|app| app["appid"].as_str().unwrap().to_owned())
                    .collect();
                let [_, before] = configured.borrow().last().unwrap().clone();
                configured.borrow_mut().push([before, wanted.clone()]);
                reload(&home, &exporter).await;
                configured.borrow_mut().push([wanted.clone(), wanted]);
                // One that began before, and one that did not.
                let before = scrapes.each_ref().map(Cell::get);
                eventually("scrapes in between", async || {
                    let mut since = scrapes.iter().zip(before);
                    since.all(|(now, then)| now.get() > then + 1).then_some(())
                })
                .await;
            }
        };
        tokio::select! {
            () = reloads => {}
            () = watch("identity", "/metrics", &scrapes[0]) => {}
            () = watch("gzip", "/metrics", &scrapes[1]) => {}
            () = watch("gzip", "/metrics?collect[]=portrait", &scrapes[2]) => {}
        }
        for app in steady {
            assert_eq!(requests(&wechat, app).token, 1, "{app}");
        }
    })
    .await;
}
