//! What an exporter shows of an app that another one polls, and how it takes the app over and gives it up.
//!
//! The other exporter is the test: it archives days, and says who holds which lease.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use chrono::{NaiveDate, TimeDelta};
use serde_json::{Value, json};
use tokio::time::Instant;
use wxapp_portrait_exporter::archive::{
    ChangedDay, DayState, Key, Lease, Record, Round, Row, Sharing,
};
use wxapp_portrait_exporter::poll::Leases;
use wxapp_portrait_exporter::poll::due::QUIET_INTERVAL;
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::portrait::Window::OneDay;
use wxapp_portrait_exporter::simulator::{self, Simulator};
use wxapp_portrait_exporter::wechat::decode;

use crate::harness::{APP, Hand, Inside, Page, WeChat, appid, apps_of, logged, step, users};

/// Ten in the morning in Beijing: the figures of the 21st are there, and can still change.
const MORNING: &str = "2026-11-22T02:00:00Z";

const INTERVAL: Duration = Duration::from_mins(30);

/// An exporter that may poll only by leases.
async fn shared(hand: &Hand, wechat: &WeChat) -> (Inside, Arc<Leases>) {
    let intervals = [INTERVAL, QUIET_INTERVAL];
    let mut inside = Inside::with_intervals(intervals, &wechat.base_url(), &[APP], hand).await;
    inside.scan_for(wechat);
    let leases = Arc::new(Leases::new(Some(Sharing::default())));
    inside.share(&leases);
    (inside, leases)
}

/// Says who polls the app, and what the other exporter has archived.
fn round(leases: &Leases, is_held: bool, changed: Vec<ChangedDay>) {
    let lease = Lease {
        is_held,
        is_polled: true,
    };
    let round = Round {
        leases: [(appid(APP), lease)].into(),
        changed: Some(changed),
    };
    leases.succeeded(round, Instant::now());
}

/// Archives what the other exporter would.
fn archive(inside: &Inside, records: &[Record]) -> Vec<ChangedDay> {
    let rows: Vec<Row> = records.iter().map(Row::from).collect();
    inside.store().upsert(&rows).unwrap();
    let changed = records.iter().map(|record| {
        let Key {
            window,
            reference_date,
            ..
        } = record.key;
        let portrait = decode::archived(&record.answer, window, reference_date);
        ChangedDay {
            key: record.key.clone(),
            state: record.state,
            digest: Some(portrait.unwrap().digest()),
        }
    });
    changed.collect()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// Returns what shows that an exporter polls an app.
fn signs_of_polls(page: &Page) -> usize {
    let names = [
        "wxapp_portrait_last_poll_success",
        "wxapp_portrait_last_poll_failure_info",
        "wxapp_portrait_next_poll_timestamp_seconds",
    ];
    names.into_iter().map(|name| page.series(name).len()).sum()
}

#[tokio::test]
async fn what_another_exporter_archives_is_shown_without_polls() {
    let hand = Hand::at(MORNING);
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let (inside, leases) = shared(&hand, &wechat).await;
    let mut records = wechat.records(APP, OneDay, 10, hand.now());
    let newest = records.remove(0);
    let mut app = inside.restore(APP, &[OneDay]).await;
    step(&mut app).await;
    assert_eq!(
        signs_of_polls(&inside.metrics().await),
        0,
        "nobody is known to poll"
    );

    round(&leases, false, archive(&inside, &records));
    step(&mut app).await;
    let page = inside.metrics().await;
    let before = wechat.users(APP, OneDay, day("2026-11-20"));
    assert_eq!(page.series("wxapp_portrait_users"), before);

    // The newest day arrives, agrees, and is revised.
    let arrived = DayState {
        first_answered_at: hand.now(),
        answered_at: hand.now(),
        settled: false,
        revisions: 0,
    };
    let mut answer: Value = serde_json::from_str(&newest.answer).unwrap();
    answer["visit_uv"]["platforms"][0]["value"] = json!(98_765);
    let (first, revised) = (newest.answer.clone(), answer.to_string());
    for (minutes, settled, revisions, answer) in [
        (0, false, 0, &first),
        (30, true, 0, &first),
        (60, false, 1, &revised),
        (90, true, 1, &revised),
    ] {
        let answered_at = hand.now() + TimeDelta::minutes(minutes);
        let state = DayState {
            answered_at,
            settled,
            revisions,
            ..arrived
        };
        let record = Record {
            state,
            answer: answer.clone(),
            ..newest.clone()
        };
        round(&leases, false, archive(&inside, &[record]));
        step(&mut app).await;
        let page = inside.metrics().await;
        let expected = users(APP, OneDay, &serde_json::from_str(answer).unwrap());
        assert_eq!(page.series("wxapp_portrait_users"), expected);
        let value = |name: &str| page.value(&format!("wxapp_portrait_{name}"), &[]);
        assert_eq!(value("settled"), Some(f64::from(u8::from(settled))));
        let at = f64::from(u32::try_from(answered_at.timestamp()).unwrap());
        assert_eq!(value("last_success_timestamp_seconds"), Some(at));
        assert_eq!(value("archived_portraits"), Some(10.0));
        assert_eq!(value("polls_total"), Some(0.0));
        assert_eq!(value("revisions_total"), Some(0.0), "others count them");
        let archived = inside.window_status(APP).await["archived"].clone();
        let of_past: u32 = records.iter().map(|record| record.state.revisions).sum();
        assert_eq!(archived["revisions"], of_past + revisions);
        assert_eq!(signs_of_polls(&page), 0);
    }
    assert!(wechat.simulator.requests().is_empty());
}

#[tokio::test]
async fn an_app_that_is_taken_over_is_polled_for_what_is_due_only() {
    let hand = Hand::at(MORNING);
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let (inside, leases) = shared(&hand, &wechat).await;
    let mut app = inside.restore(APP, &[OneDay]).await;
    step(&mut app).await;
    let mut records = wechat.records(APP, OneDay, 9, hand.now());
    records[0].state.settled = true;
    records[0].state.revisions = 3;
    round(&leases, false, archive(&inside, &records));
    step(&mut app).await;

    round(&leases, true, Vec::new());
    step(&mut app).await;
    let page = inside.metrics().await;
    assert_eq!(
        page.value("wxapp_portrait_polls_total", &[]),
        Some(0.0),
        "nothing is due"
    );
    let next = page.value("wxapp_portrait_next_poll_timestamp_seconds", &[]);
    assert!(next.is_some(), "{page:?}");

    // The 20th is final, and the 21st is confirmed, of which the other exporter has counted the revisions.
    hand.forward(TimeDelta::hours(3));
    step(&mut app).await;
    let page = inside.metrics().await;
    let value = |name: &str| page.value(&format!("wxapp_portrait_{name}"), &[]);
    assert_eq!(value("polls_total"), Some(1.0));
    assert_eq!(value("last_poll_success"), Some(1.0));
    assert_eq!(value("settled"), Some(1.0));
    assert_eq!(value("revisions_total"), Some(0.0));
    let status = inside.window_status(APP).await;
    assert_eq!(status["recent_polls"][0]["day"], "2026-11-21");
    assert_eq!(status["recent_polls"][0]["outcome"], "confirmed");
    let revisions: u32 = records.iter().map(|record| record.state.revisions).sum();
    assert_eq!(status["archived"]["revisions"], revisions);

    // It is given up at once, whatever is due.
    round(&leases, false, Vec::new());
    hand.forward(TimeDelta::hours(3));
    step(&mut app).await;
    let page = inside.metrics().await;
    assert_eq!(signs_of_polls(&page), 0);
    assert_eq!(
        page.value("wxapp_portrait_polls_total", &[]),
        Some(1.0),
        "a counter stays"
    );
    assert!(!page.users(None).is_empty());
}

/// Loses the lease when a portrait is requested.
async fn lose_at_first_request(
    State(leases): State<Arc<Leases>>,
    request: Request,
    next: Next,
) -> Response {
    if request.uri().path().contains("userportrait") {
        round(&leases, false, Vec::new());
    }
    next.run(request).await
}

#[tokio::test]
async fn a_lease_that_is_lost_during_a_poll_ends_it_after_the_request_in_flight() {
    let hand = Hand::at(MORNING);
    let simulator = Simulator::new(apps_of(&[APP]), hand.clock());
    let leases = Arc::new(Leases::new(Some(Sharing::default())));
    let lose = from_fn_with_state(Arc::clone(&leases), lose_at_first_request);
    let routes = simulator::create_app(Arc::clone(&simulator)).layer(lose);
    let wechat = WeChat::behind(simulator, routes).await;
    let intervals = [INTERVAL, QUIET_INTERVAL];
    let mut inside = Inside::with_intervals(intervals, &wechat.base_url(), &[APP], &hand).await;
    inside.scan_for(&wechat);
    inside.share(&leases);
    let mut app = inside.restore(APP, &Window::ALL).await;
    round(&leases, true, Vec::new());
    step(&mut app).await;
    let page = inside.metrics().await;
    let value = |name: &str, window| page.value(name, &[("window", window)]);
    let polls = ["1d", "7d", "30d"].map(|window| value("wxapp_portrait_polls_total", window));
    assert_eq!(polls, [Some(1.0), Some(0.0), Some(0.0)]);
    let archived = value("wxapp_portrait_archived_portraits", "1d");
    assert_eq!(archived, Some(1.0), "the answer is kept");
    assert_eq!(signs_of_polls(&page), 0);
}

#[tokio::test]
async fn a_lease_and_a_day_of_another_exporter_wake_the_poller_of_an_app() {
    let hand = Hand::at(MORNING);
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let (inside, leases) = shared(&hand, &wechat).await;
    let polling = inside.poll(APP, OneDay).await;
    let records = wechat.records(APP, OneDay, 3, hand.now());
    round(&leases, false, archive(&inside, &records[1..]));
    let shown = |page: &Page| (!page.users(None).is_empty()).then_some(());
    inside.metrics_with("the day before", shown).await;
    assert!(wechat.simulator.requests().is_empty());
    round(&leases, true, Vec::new());
    inside
        .metrics_with("the first poll", |page| {
            let success = page.value("wxapp_portrait_last_poll_success", &[]);
            (success == Some(1.0)).then_some(())
        })
        .await;
    polling.end().await;
}

#[tokio::test]
async fn an_exporter_is_ready_once_every_app_was_polled_by_any_of_them() {
    let hand = Hand::at(MORNING);
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let (inside, leases) = shared(&hand, &wechat).await;
    let mut app = inside.restore(APP, &[OneDay]).await;
    step(&mut app).await;
    let waiting = "waiting for the leases of 1 of 1 apps\n".to_owned();
    assert_eq!(inside.get("/-/ready").await, (503, waiting));
    let (_, page) = inside.get(&format!("/apps/{APP}?lang=en")).await;
    assert!(
        page.contains("<dt>Next poll</dt><dd>waiting for the archive</dd>"),
        "{page}"
    );

    let lease = Lease {
        is_held: false,
        is_polled: false,
    };
    let round_of_another = Round {
        leases: [(appid(APP), lease)].into(),
        changed: Some(Vec::new()),
    };
    leases.succeeded(round_of_another, Instant::now());
    step(&mut app).await;
    let waiting = "waiting for the first response to 1 of 1 apps\n".to_owned();
    assert_eq!(inside.get("/-/ready").await, (503, waiting));
    let (_, overview) = inside.get("/?lang=en").await;
    assert!(overview.contains("not polled yet"), "{overview}");

    round(&leases, false, Vec::new());
    step(&mut app).await;
    assert_eq!(inside.get("/-/ready").await, (200, "ready\n".to_owned()));
    let (_, overview) = inside.get("/?lang=en").await;
    assert!(!overview.contains("not polled yet"), "{overview}");
    for (language, sentence) in [
        (
            "en",
            "<dt>Next poll</dt><dd>polled by another exporter</dd>",
        ),
        ("zh", "<dt>下次拉取</dt><dd>由另一个副本拉取</dd>"),
    ] {
        let (_, page) = inside.get(&format!("/apps/{APP}?lang={language}")).await;
        assert!(page.contains(sentence), "{page}");
    }
    let (_, status) = inside.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let app = &status["apps"][0];
    assert_eq!(
        (&app["polled_here"], &app["next_poll"]),
        (&json!(false), &Value::Null)
    );
}

#[tokio::test]
async fn only_the_exporter_that_polls_an_app_reports_its_lost_days() {
    let hand = Hand::at(MORNING);
    let name = "wxlost0123456789";
    let wechat = WeChat::start(apps_of(&[name]), hand.clock()).await;
    let (inside, leases) = shared(&hand, &wechat).await;
    let lease = |is_held| {
        let lease = Lease {
            is_held,
            is_polled: true,
        };
        let leases_of_round = [(appid(name), lease)].into();
        let round = Round {
            leases: leases_of_round,
            changed: Some(Vec::new()),
        };
        leases.succeeded(round, Instant::now());
    };
    let reports = || logged(&["days are lost for good", name]);
    let mut app = inside.restore(name, &[OneDay]).await;
    lease(true);
    step(&mut app).await;
    lease(false);
    step(&mut app).await;
    hand.forward(TimeDelta::days(5));
    step(&mut app).await;
    assert!(
        reports().is_empty(),
        "the other exporter may have them: {:?}",
        reports()
    );
    lease(true);
    step(&mut app).await;
    step(&mut app).await;
    let reports = reports();
    assert_eq!(reports.len(), 1, "{reports:?}");
    assert!(
        reports[0].contains("1d 2026-11-22 to 2026-11-24"),
        "{reports:?}"
    );
}
