//! Failures of WeChat or on the way: each is counted under the right reason, reported in plain words,
//! and affects only its own app.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, Uri};
use chrono::TimeDelta;
use serde_json::{Value, json};
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::Settings;
use wxapp_portrait_exporter::wechat::errcodes::{APP_SECRET_REFUSED, RULES};

use crate::harness::{
    APP, Hand, Home, Inside, OTHER, Page, Reader, Series, Storage, WeChat, appid, apps_of,
    configured, eventually, on_one_day, serve, step, yesterday,
};

/// A morning in Beijing: yesterday is available, and is requested repeatedly.
const MORNING: &str = "2026-11-22T02:00:00Z";

/// A fault as the simulator reads it, the reason it is counted under, and words of the message.
type Case = (&'static str, &'static str, &'static str);

/// WeChat's errcodes, row by row of the table.
const ERRCODES: &[(&[i64], &str, &str)] = &[
    (&[-1, 61504], "busy", "WeChat is busy"),
    (
        &[61503],
        "not_ready",
        "not computed yet: the portrait of yesterday is computed by 10:00, sometimes 15:00 Beijing time",
    ),
    (
        &[61501],
        "date_range",
        "yesterday and the day before; check the clock",
    ),
    (
        &[61500, 43002, 44002, 47001, 40002],
        "other",
        "a bug in this exporter, or a proxy changes requests",
    ),
    (&[61502], "permission", "refuses mini games"),
    (
        &[40001, 40014, 42001],
        "token",
        "another program fetches tokens with cgi-bin/token",
    ),
    (&[41001], "token", "no token reached WeChat"),
    (
        &[40013],
        "configuration",
        "upper and lower case and for blanks",
    ),
    (
        &[40125],
        "credentials",
        "AppSecret is wrong or was reset: set the new one",
    ),
    (&[40243], "credentials", "unfreeze it"),
    (&[41002, 41004], "configuration", "check the configuration"),
    (
        &[40164],
        "ip_not_allowed",
        "add 61.183.89.14 to the IP allow-list of the app",
    ),
    (
        &[61004],
        "ip_not_allowed",
        "add the address of this exporter to",
    ),
    (
        &[89501, 89503],
        "ip_not_allowed",
        "must confirm the address of this exporter",
    ),
    (&[89506], "ip_not_allowed", "retries in 24 hours"),
    (&[89507], "ip_not_allowed", "retries in an hour"),
    (&[45009], "quota", "find out who else polls this app"),
    (&[45011], "rate_limited", "raise poll.interval"),
    (
        &[48001, 48004, 50001, 50002, 50004, 61003, 61007],
        "permission",
        "permission set 18",
    ),
    (
        &[40234, 40235],
        "configuration",
        "API encryption switched on: switch it off",
    ),
    (
        &[85088, 40101, -1000],
        "configuration",
        "environment and name",
    ),
    (&[-604_101], "permission", "config.json"),
    (&[-604_102, -604_103], "busy", "ran out of time or is busy"),
    (
        &[-604_100, -604_104],
        "configuration",
        "failed inside: read its log",
    ),
    (
        &[12345, 9_007_199_254_740_993],
        "other",
        "for a reason that this exporter does not know",
    ),
];

/// Other failures.
const OTHERS: &[Case] = &[
    (
        "leaky",
        "other",
        "invalid credential, [redacted] [redacted] rid: ",
    ),
    (
        "http=502",
        "transport",
        "HTTP status 502, which WeChat itself never sends",
    ),
    ("http=403", "transport", "HTTP status 403"),
    ("http=429", "rate_limited", "raise poll.interval"),
    ("delay=1h", "transport", "did not respond in time"),
    ("cut", "transport", "the response ended early"),
    ("reset", "transport", "no valid HTTP response from WeChat"),
    ("garbage", "decode", "bytes that are not JSON"),
    ("huge", "decode", "larger than 8 MiB"),
    ("wrong-date", "decode", "its ref_date is "),
    ("retain", "decode", "getweanalysisappiddailyretaininfo"),
    ("empty", "empty", "not computed yet"),
    ("halves", "empty", "not computed yet"),
    (
        "token:errcode=40164",
        "ip_not_allowed",
        "add 61.183.89.14 to the IP allow-list of the app",
    ),
    ("token:errcode=40125", "credentials", "set the new one"),
    (
        "token:errcode=40001",
        "credentials",
        "set the one shown in its console",
    ),
    ("token:errcode=40243", "credentials", "unfreeze it"),
    (
        "token:errcode=40013",
        "configuration",
        "upper and lower case",
    ),
    (
        "token:errcode=45009",
        "quota",
        "find out who else polls this app",
    ),
    (
        "token:leaky",
        "other",
        "invalid credential, access_token= [redacted] rid: ",
    ),
    ("token:http=502", "transport", "HTTP status 502"),
    ("token:delay=1h", "transport", "did not respond in time"),
    ("token:garbage", "decode", "bytes that are not JSON"),
    ("token:cut", "transport", "the response ended early"),
    (
        "token:reset",
        "transport",
        "no valid HTTP response from WeChat",
    ),
];

fn cases() -> Vec<(String, &'static str, &'static str)> {
    let errcodes = ERRCODES.iter().flat_map(|(errcodes, reason, words)| {
        let case = move |errcode: &i64| (format!("errcode={errcode}"), *reason, *words);
        errcodes.iter().map(case)
    });
    let others = OTHERS
        .iter()
        .map(|(fault, reason, words)| ((*fault).to_owned(), *reason, *words));
    errcodes.chain(others).collect()
}

/// Returns the reasons under which failures of an app were counted.
fn reasons(page: &Page, app: &str) -> Vec<String> {
    let series = page.series("wxapp_portrait_poll_failures_total");
    let of_app = series
        .into_iter()
        .filter(|(labels, value)| labels["appid"] == app && *value > 0.0);
    of_app.map(|(labels, _)| labels["reason"].clone()).collect()
}

/// Waits until the reason and the message are reported, and checks everything that is reported with them.
async fn assert_reported(
    reader: &Reader,
    app: &str,
    (fault, reason, words): &(String, &str, &str),
) {
    let page = eventually(fault, async || {
        let page = reader.metrics().await;
        (!reasons(&page, app).is_empty()).then_some(page)
    })
    .await;
    assert_eq!(reasons(&page, app), [*reason], "{fault}");
    let as_it_should = f64::from(matches!(*reason, "not_ready" | "empty"));
    let labels = [("appid", app), ("window", "1d")];
    let success = page.value("wxapp_portrait_last_poll_success", &labels);
    assert_eq!(success, Some(as_it_should), "{fault}");
    let problem = reader.window_status(app).await["problem"].clone();
    let problem = problem
        .as_str()
        .unwrap_or_else(|| panic!("{fault}: no problem"));
    assert!(problem.contains(words), "{fault}: {problem}");
    assert!(
        !problem.contains("::ffff") && !problem.contains('\n'),
        "{problem}"
    );
}

#[test]
fn every_errcode_with_a_rule_is_tested() {
    let tried: Vec<i64> = ERRCODES
        .iter()
        .flat_map(|(errcodes, ..)| *errcodes)
        .copied()
        .collect();
    for rule in RULES {
        assert!(
            rule.errcodes.iter().all(|errcode| tried.contains(errcode)),
            "{rule:?}"
        );
    }
}

#[tokio::test]
async fn apps_with_every_fault_at_once_do_not_affect_the_others() {
    on_one_day(async || {
        let cases = cases();
        let name = |index| format!("wxfa{index:014x}");
        let faulty: Vec<String> = (0..cases.len()).map(name).collect();
        let mut apps = vec![APP, OTHER];
        apps.extend(faulty.iter().map(String::as_str));
        let wechat = WeChat::of(&apps).await;
        for (app, (fault, ..)) in faulty.iter().zip(&cases) {
            wechat.set_fault(app, fault);
        }
        let mut home = Home::of(&wechat, &apps);
        home.config["wechat"]["timeout"] = "700ms".into();
        home.config["poll"]["interval"] = "12h".into();
        let exporter = home.start().await;

        let healthy = exporter
            .metrics_with("the healthy apps", |page| {
                let users = [APP, OTHER].map(|app| page.users(Some(app)).join("\n"));
                users.iter().all(|users| !users.is_empty()).then_some(users)
            })
            .await;
        let watch = async {
            loop {
                let page = exporter.metrics().await;
                let users = [APP, OTHER].map(|app| page.users(Some(app)).join("\n"));
                assert_eq!(users, healthy);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let check = async {
            exporter.ready().await;
            for (app, case) in faulty.iter().zip(&cases) {
                assert_reported(&exporter, app, case).await;
            }
        };
        tokio::select! {
            () = check => {}
            () = watch => {}
        }
        let page = exporter.metrics().await;
        let mut expected = wechat.users(APP, Window::OneDay, yesterday());
        expected.extend(wechat.users(OTHER, Window::OneDay, yesterday()));
        assert_eq!(
            page.series("wxapp_portrait_users"),
            expected,
            "of no faulty app"
        );
        for (endpoint, errcode) in [
            ("portrait", "40164"),
            ("token", "40164"),
            ("portrait", "http_502"),
            ("portrait", "timeout"),
            ("portrait", "connect"),
            ("portrait", "body"),
        ] {
            let labels = [("endpoint", endpoint), ("errcode", errcode)];
            let failures = page.value("wxapp_portrait_api_request_failures_total", &labels);
            assert!(failures >= Some(1.0), "{endpoint} {errcode}");
        }
    })
    .await;
}

#[tokio::test]
async fn one_app_with_every_fault_in_turn_keeps_its_portrait_and_does_not_affect_the_others() {
    let hand = Hand::at(MORNING);
    let apps = [APP, OTHER, "wx2123456789abcdef"];
    let wechat = WeChat::start(apps_of(&apps), hand.clock()).await;
    let intervals = [Duration::from_millis(50), Duration::ZERO];
    // Long enough for 8 MiB on a busy machine.
    let timeout = Duration::from_secs(2);
    let (url, clock) = (wechat.base_url(), Arc::new(hand.clock()));
    let mut inside = Inside::on(Storage::file(), intervals, timeout, &url, &apps, clock).await;
    inside.scan_for(&wechat);
    let _others = [
        inside.poll(OTHER, Window::OneDay).await,
        inside.poll(apps[2], Window::SevenDays).await,
    ];
    let polling = inside.poll(APP, Window::OneDay).await;
    let before = inside.ready().await.users(None).join("\n");
    polling.end().await;

    for case in cases() {
        wechat.simulator.clear_faults(&APP.parse().unwrap());
        wechat.set_fault(APP, &case.0);
        // As after a restart, so that no token and no pause is left from the previous fault.
        let polling = inside.poll(APP, Window::OneDay).await;
        assert_reported(&inside, APP, &case).await;
        let page = inside.metrics().await;
        assert_eq!(page.users(None).join("\n"), before, "{}", case.0);
        polling.end().await;
    }
}

#[tokio::test]
async fn every_app_recovers_from_its_errcode_without_a_restart() {
    let hand = Hand::at(MORNING);
    let refused = APP_SECRET_REFUSED.errcodes.iter();
    let of_secret = refused.map(|errcode| (format!("token:errcode={errcode}"), "credentials"));
    let rules = RULES.iter().flat_map(|rule| {
        let errcodes = rule.errcodes.iter();
        errcodes.map(|errcode| (format!("errcode={errcode}"), rule.reason.as_str()))
    });
    let faults: Vec<_> = rules.chain(of_secret).collect();
    let name = |index| format!("wxfa{index:014x}");
    let apps: Vec<String> = (0..faults.len()).map(name).collect();
    let small: Vec<String> = apps.iter().map(|app| format!("{app}=300")).collect();
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let names: Vec<&str> = apps.iter().map(String::as_str).collect();
    let wechat = WeChat::start(apps_of(&small), hand.clock()).await;
    let intervals = [Duration::from_millis(50), Duration::ZERO];
    // Nothing is slow here but a busy machine.
    let timeout = Duration::from_secs(30);
    let (url, clock) = (wechat.base_url(), Arc::new(hand.clock()));
    let mut inside = Inside::on(Storage::file(), intervals, timeout, &url, &names, clock).await;
    inside.scan_for(&wechat);
    let configured = names.iter().map(|app| configured(app, &[Window::OneDay]));
    let _polling = inside.poll_all(configured.collect()).await;
    let before = inside.ready().await;
    for (app, (fault, _)) in apps.iter().zip(&faults) {
        assert!(!before.users(Some(app)).is_empty(), "{fault}");
        wechat.set_fault(app, fault);
    }
    // New tokens are requested then.
    hand.forward(TimeDelta::minutes(121));
    let page = inside
        .metrics_with("all failures", |page| {
            let mut cases = apps.iter().zip(&faults);
            let are_counted = cases.all(|(app, (_, reason))| reasons(page, app) == [*reason]);
            are_counted.then(|| Page(page.0.clone()))
        })
        .await;
    assert_eq!(page.users(None), before.users(None));

    for app in &apps {
        wechat.simulator.clear_faults(&appid(app));
    }
    // Longer than any pause.
    hand.forward(TimeDelta::hours(25));
    let day = "2026-11-22".parse().unwrap();
    let mut expected = Series::new();
    for app in &apps {
        expected.extend(wechat.users(app, Window::OneDay, day));
    }
    inside
        .metrics_with("the next day of all apps", |page| {
            let mut users = page.series("wxapp_portrait_users");
            users.retain(|_, users| *users > 0.0);
            (users == expected).then_some(())
        })
        .await;
    for app in &apps {
        assert_eq!(inside.window_status(app).await["problem"], Value::Null);
    }
}

/// Starts one app that is polled whenever the clock is moved.
async fn one_app(settings: Settings) -> (Hand, WeChat, Inside) {
    let hand = Hand::at(MORNING);
    let wechat = WeChat::start(settings, hand.clock()).await;
    let mut inside = Inside::start(&wechat.base_url(), &[APP], &hand).await;
    inside.scan_for(&wechat);
    (hand, wechat, inside)
}

/// Moves the clock and waits until the app was polled; returns the page.
async fn next_poll(hand: &Hand, inside: &Inside, time: TimeDelta) -> Page {
    let polls = |page: &Page| page.value("wxapp_portrait_polls_total", &[("appid", APP)]);
    let before = polls(&inside.metrics().await).unwrap();
    hand.forward(time);
    inside
        .metrics_with("the next poll", |page| {
            (polls(page)? > before).then(|| Page(page.0.clone()))
        })
        .await
}

#[tokio::test]
async fn a_failed_poll_keeps_the_last_portrait_until_the_next_good_one() {
    let (hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    let _polling = inside.poll(APP, Window::OneDay).await;
    let first = inside.ready().await;
    let arrived = first.value("wxapp_portrait_last_success_timestamp_seconds", &[]);

    wechat.set_fault(APP, "garbage");
    let failed = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(failed.users(None), first.users(None));
    assert_eq!(
        failed.value("wxapp_portrait_last_poll_success", &[]),
        Some(0.0)
    );
    let since = failed.value("wxapp_portrait_last_success_timestamp_seconds", &[]);
    assert_eq!(since, arrived);

    wechat.set_fault(APP, "scaled=0.9");
    let revised = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(
        revised.value("wxapp_portrait_last_poll_success", &[]),
        Some(1.0)
    );
    assert_eq!(revised.value("wxapp_portrait_settled", &[]), Some(0.0));
    assert_ne!(revised.users(None), first.users(None));
    assert_eq!(
        inside.window_status(APP).await["problem"],
        serde_json::Value::Null
    );
}

#[tokio::test]
async fn figures_settle_when_they_arrive_twice_and_are_revised() {
    let (hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    let _polling = inside.poll(APP, Window::OneDay).await;
    let first = inside.ready().await;
    let states = |page: &Page| {
        ["wxapp_portrait_settled", "wxapp_portrait_revisions_total"]
            .map(|name| page.value(name, &[]))
    };
    assert_eq!(states(&first), [Some(0.0), Some(0.0)]);
    let second = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(states(&second), [Some(1.0), Some(0.0)]);

    wechat.set_fault(APP, "scaled=0.5");
    let revised = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(states(&revised), [Some(0.0), Some(1.0)]);
    let day = "2026-11-21".parse().unwrap();
    let mut expected = wechat.users(APP, Window::OneDay, day);
    for users in expected.values_mut() {
        *users = (*users * 0.5).round();
    }
    assert_eq!(revised.series("wxapp_portrait_users"), expected);
    let again = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(states(&again), [Some(1.0), Some(1.0)]);
}

#[tokio::test]
async fn a_day_requested_by_a_wrong_clock_is_hidden_when_the_clock_is_corrected() {
    let (hand, _wechat, inside) = one_app(apps_of(&[APP])).await;
    let mut app = inside.restore(APP, &[Window::OneDay]).await;
    step(&mut app).await;
    let days = |page: &Page| page.value("wxapp_portrait_reference_date_timestamp_seconds", &[]);
    let right = inside.metrics().await;

    // WeChat's clock is wrong as well, as that of a user's own service on the same host may be.
    hand.forward(TimeDelta::days(3));
    step(&mut app).await;
    let wrong = inside.metrics().await;
    assert_eq!(days(&wrong), days(&right).map(|day| day + 3.0 * 86_400.0));

    hand.forward(TimeDelta::days(-3));
    for _ in 0..2 {
        step(&mut app).await;
    }
    let page = inside.metrics().await;
    assert_eq!(days(&page), days(&right));
    assert_eq!(page.users(None), right.users(None));
}

#[tokio::test]
async fn a_window_with_nothing_due_is_not_blamed_for_another() {
    let (hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    // In the evening two answers that agree are final.
    hand.forward(TimeDelta::hours(7));
    wechat.set_fault(APP, "garbage*2");
    let _polling = inside
        .poll_windows(APP, &[Window::OneDay, Window::SevenDays])
        .await;
    let turn = async |polls: f64, successes: [f64; 2]| {
        let look = |page: &Page| {
            let of = |name, window| page.value(name, &[("appid", APP), ("window", window)]);
            let polled = ["1d", "7d"].map(|window| of("wxapp_portrait_polls_total", window));
            (polled.into_iter().flatten().sum::<f64>() >= polls)
                .then(|| ["1d", "7d"].map(|window| of("wxapp_portrait_last_poll_success", window)))
        };
        let found = inside.metrics_with("the polls", look).await;
        assert_eq!(found, successes.map(Some));
    };
    turn(4.0, [0.0, 1.0]).await;
    hand.forward(TimeDelta::minutes(30));
    turn(8.0, [1.0, 1.0]).await;
    wechat.set_fault(APP, "errcode=40164");
    hand.forward(TimeDelta::minutes(30));
    turn(9.0, [0.0, 1.0]).await;
}

#[tokio::test]
async fn a_token_that_is_refused_once_is_replaced_once() {
    let (hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    wechat.set_fault(APP, "errcode=40001*1");
    let _polling = inside.poll(APP, Window::OneDay).await;
    let page = inside.ready().await;
    assert_eq!(reasons(&page, APP), [""; 0]);
    let requests = || wechat.simulator.requests()[APP];
    assert_eq!((requests().token, requests().portrait), (2, 3), "two days");

    wechat.set_fault(APP, "errcode=42001");
    let page = next_poll(&hand, &inside, TimeDelta::minutes(30)).await;
    assert_eq!(reasons(&page, APP), ["token"]);
    assert_eq!(
        (requests().token, requests().portrait),
        (3, 5),
        "once and no more, whatever else is due"
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (hand, wechat, inside) = one_app(Settings {
        token_life: Duration::from_mins(20),
        ..apps_of(&[APP])
    })
    .await;
    let _polling = inside.poll(APP, Window::OneDay).await;
    inside.ready().await;
    let requests = || wechat.simulator.requests()[APP].token;
    next_poll(&hand, &inside, TimeDelta::minutes(14)).await;
    assert_eq!(requests(), 1);
    for minutes in [3, 60] {
        let before = requests();
        let page = next_poll(&hand, &inside, TimeDelta::minutes(minutes)).await;
        assert_eq!(reasons(&page, APP), [""; 0]);
        assert_eq!(requests(), before + 1);
    }
    assert_eq!(wechat.simulator.issued_tokens().len(), 3);
}

#[tokio::test]
async fn a_request_to_a_busy_wechat_is_repeated_within_the_poll() {
    let (_hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    for fault in ["errcode=-1*2", "token:http=503*3"] {
        wechat.set_fault(APP, fault);
    }
    let _polling = inside.poll(APP, Window::OneDay).await;
    let page = inside.ready().await;
    assert_eq!(reasons(&page, APP), [""; 0]);
    let day = "2026-11-21".parse().unwrap();
    let expected = wechat.users(APP, Window::OneDay, day);
    assert_eq!(page.series("wxapp_portrait_users"), expected);
}

#[tokio::test]
async fn invalid_rows_are_counted_and_the_valid_ones_shown() {
    let (_hand, wechat, inside) = one_app(apps_of(&[APP])).await;
    wechat.set_fault(APP, "rows");
    let _polling = inside.poll(APP, Window::OneDay).await;
    let page = inside.ready().await;
    // Both days brought the same rows.
    for (repair, times) in [
        ("unreadable_value", 8.0),
        ("blank_name", 6.0),
        ("folded_name", 0.0),
    ] {
        let found = page.value("wxapp_portrait_repairs_total", &[("repair", repair)]);
        assert_eq!(found, Some(times), "{repair}");
    }
    let province = |name| {
        let labels = [
            ("cohort", "active"),
            ("dimension", "province"),
            ("name", name),
        ];
        page.value("wxapp_portrait_users", &labels)
    };
    assert_eq!(province("负数"), None);
    assert_eq!(province("小数"), None);
    assert_eq!(province("字符串"), Some(123.0));
    assert_eq!(province("控\u{1}制"), Some(6.0));
    let expected = wechat.users(APP, Window::OneDay, "2026-11-21".parse().unwrap());
    let good = |name: &str| {
        let mut rows = expected.iter().filter(|(labels, _)| {
            labels["cohort"] == "active"
                && labels["dimension"] == "province"
                && labels["name"] == name
        });
        rows.next().map_or(0.0, |(_, users)| *users)
    };
    assert_eq!(province("上海"), Some(good("上海") + 10.0));
    assert_eq!(province("广东省"), Some(good("广东省") + 11.0));
    assert_eq!(province("未知"), Some(good("未知") + 7.0 + 8.0 + 9.0));
}

#[tokio::test]
async fn a_stalled_app_does_not_delay_the_others() {
    let apps = [APP, OTHER, "wx2123456789abcdef", "wx3123456789abcdef"];
    let wechat = WeChat::of(&apps).await;
    for app in &apps[..2] {
        wechat.set_fault(app, "token:delay=1h");
    }
    let mut home = Home::of(&wechat, &apps);
    home.config["poll"]["concurrency"] = 3.into();
    let exporter = home.start().await;
    for app in &apps[2..] {
        let users = exporter
            .metrics_with(app, |page| {
                let users = page.users(Some(app)).len();
                (users > 0).then_some(users)
            })
            .await;
        assert!(users > 100);
    }
    let page = exporter.metrics().await;
    for app in &apps[..2] {
        assert!(page.users(Some(app)).is_empty());
        let polls = page.value("wxapp_portrait_polls_total", &[("appid", app)]);
        assert_eq!(polls, Some(0.0), "the first poll is not over");
    }
}

/// Accepts connections and never responds; returns the address.
fn silence() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let connections: Vec<_> = listener.incoming().collect();
        drop(connections);
    });
    address
}

/// Waits for the portrait of one app while forty others wait for another host, none of which may
/// have failed before.
async fn is_not_delayed_by(others: impl Fn(usize) -> Value) {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    home.config["wechat"]["timeout"] = "9s".into();
    home.config["poll"]["concurrency"] = 8.into();
    let apps = home.config["apps"].as_array_mut().unwrap();
    for index in 0..40 {
        let mut app = others(index);
        app["appid"] = format!("wxfa{index:014x}").into();
        apps.insert(index, app);
    }
    let exporter = home.start().await;
    let page = exporter
        .metrics_with("the healthy app", |page| {
            let users = page.users(Some(APP)).len();
            (users > 100).then(|| Page(page.0.clone()))
        })
        .await;
    for (labels, failures) in page.series("wxapp_portrait_poll_failures_total") {
        let is_other = labels["appid"] != APP;
        assert!(!is_other || failures < 1.0, "{labels:?} was waited for");
    }
    let mut failures = page.series("wxapp_portrait_api_request_failures_total");
    failures.retain(|labels, _| labels["errcode"] == "timeout");
    assert_eq!(failures, Series::new());
}

#[tokio::test]
async fn portrait_urls_that_never_answer_do_not_delay_other_apps() {
    let address = silence();
    is_not_delayed_by(|index| json!({"portrait_url": format!("http://{address}/{index}")})).await;
}

#[tokio::test]
async fn token_servers_that_never_answer_do_not_delay_other_apps() {
    let address = silence();
    is_not_delayed_by(|index| json!({"token_url": format!("http://{address}/{index}")})).await;
}

#[tokio::test]
async fn token_commands_that_never_end_do_not_delay_other_apps() {
    is_not_delayed_by(|_| json!({"token_command": ["sleep", "600"]})).await;
}

/// Answers of 8 MiB whose contents would take many times as much as a tree of values, or on a page.
fn large_answers() -> Vec<String> {
    const SIZE: usize = (8 << 20) - 300;
    let day = yesterday().format("%Y%m%d");
    let active = |lists: String| {
        format!(
            r#"{{"ref_date":"{day}","visit_uv":{{"platforms":[{{"name":"a","value":1}}],{lists}}}}}"#
        )
    };
    let tiny = r#"{"":0},"#;
    let tiny = format!("{}null", tiny.repeat(SIZE / tiny.len() - 1));
    let names = (0..290_000).map(|index| format!(r#"{{"name":"{index:x}","value":1}}"#));
    let names = names.collect::<Vec<_>>().join(",");
    let wrapped = active(format!(r#""x":"{}""#, r"\\".repeat(SIZE / 16)));
    vec![
        format!(r#"{{"x":[{tiny}]}}"#),
        active(format!(r#""city":[{tiny}]"#)),
        active(format!(r#""city":[{names}]"#)),
        active(format!(
            r#""x":{}{}"#,
            "[".repeat(SIZE / 2),
            "]".repeat(SIZE / 2)
        )),
        active(format!(
            r#""city":[{{"name":"{}","value":1}}]"#,
            "x".repeat(SIZE)
        )),
        json!({"data": json!({"data": wrapped}).to_string()}).to_string(),
    ]
}

#[tokio::test]
async fn a_large_answer_costs_a_few_times_its_size() {
    let answers = large_answers();
    let count = answers.len();
    for answer in &answers {
        assert!(answer.len() <= 8 << 20, "{}", answer.len());
    }
    let app = Router::new().fallback(async move |uri: Uri| {
        let index: usize = uri.path()[1..].parse().unwrap();
        answers[index].clone()
    });
    let (address, _stop) = serve(app).await;
    let name = |index: usize| format!("wxfa{index:014x}");
    let names: Vec<String> = (0..count).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut home = Home::new(&format!("http://{address}"), &names);
    home.config["wechat"]["timeout"] = "1m".into();
    home.config["poll"] = json!({"interval": "12h", "concurrency": 1});
    for (index, app) in home.config["apps"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        *app = json!({"appid": names[index], "portrait_url": format!("http://{address}/{index}")});
    }
    let exporter = home.start().await;
    let before = exporter.running.peak_memory();
    exporter.ready().await;
    let peak = exporter.running.peak_memory();
    assert!(peak - before <= 96, "{before} MiB, then {peak} MiB");
    let page = exporter.metrics().await;
    for (index, users) in [(1, 1), (2, 2_002), (3, 1), (4, 2), (5, 1)] {
        assert_eq!(page.users(Some(names[index])).len(), users, "{index}");
    }
}

#[tokio::test]
async fn a_task_that_panics_is_restarted_and_counted() {
    let (hand, _wechat, mut inside) = one_app(apps_of(&[APP])).await;
    let broken = Arc::default();
    inside.set_clock(hand.fragile_clock(&broken));
    let mut polling = inside.poll(APP, Window::OneDay).await;
    let before = inside.ready().await;
    let users = before.users(None).join("\n");
    let panics = |page: &Page| page.value("wxapp_portrait_task_panics_total", &[]);
    assert_eq!(panics(&before), Some(0.0));

    broken.store(true, Ordering::Relaxed);
    let restarted = inside.metrics_with("another poll after a panic", |page| {
        let polls = page.value("wxapp_portrait_polls_total", &[("appid", APP)])?;
        // Counted from the start of the task on.
        (panics(page) == Some(1.0) && polls > 0.0 && polls < 4.0)
            .then(|| page.users(None).join("\n"))
    });
    let users_after = tokio::select! {
        users = restarted => users,
        () = polling.watch() => unreachable!("it watches without end"),
    };
    assert_eq!(users_after, users);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_does_not_leak_the_token() {
    let carried = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&carried);
    let app = Router::new().fallback(async move |uri: Uri| {
        asked.fetch_or(uri.path() == "/elsewhere", Ordering::Relaxed);
        (StatusCode::FOUND, [("location", "/elsewhere")], "moved")
    });
    let (address, _stop) = serve(app).await;
    let exporter = Home::new(&format!("http://{address}"), &[APP])
        .start()
        .await;
    let case = ("a redirect".to_owned(), "transport", "HTTP status 302");
    exporter.ready().await;
    assert_reported(&exporter, APP, &case).await;
    assert!(!carried.load(Ordering::Relaxed));
}
