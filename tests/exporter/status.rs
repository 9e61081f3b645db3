//! What programs read about the apps and the configuration: `/api/v1/status`, its schema, and `/config`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use chrono::{TimeDelta, Timelike as _};
use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar::DayKind;
use wxapp_portrait_exporter::portrait::{Cohort, Window};
use wxapp_portrait_exporter::simulator::Settings;
use wxapp_portrait_exporter::state::RecentPolls;
use wxapp_portrait_exporter::wechat::errcodes::Reason;

use crate::harness::{
    APP, Exporter, Hand, Home, Inside, OTHER, Page, Reader, WeChat, apps_of, now, on_one_day, root,
    step, yesterday,
};
use crate::reload::calm;
use crate::web::inflate;

const SCHEMA: &str = "docs/status.schema.json";

/// Reads a schema and values from standard input, and writes a line for every fault of a value.
const VALIDATE: &str = r"
import json, sys
from jsonschema import Draft202012Validator as Validator
schema, values = json.load(sys.stdin)
Validator.check_schema(schema)
validator = Validator(schema, format_checker=Validator.FORMAT_CHECKER)
for number, value in enumerate(values):
    for fault in validator.iter_errors(value):
        print(number, fault.json_path, fault.message[:300])
";

/// Returns the schema, which allows nothing that it does not describe.
fn schema() -> Value {
    fn close(value: &mut Value) {
        match value {
            Value::Object(keys) => {
                keys.values_mut().for_each(close);
                if keys.get("properties").is_some_and(Value::is_object) && keys.contains_key("type")
                {
                    keys.insert("additionalProperties".to_owned(), json!(false));
                }
            }
            Value::Array(values) => values.iter_mut().for_each(close),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(root().join(SCHEMA)).unwrap();
    let mut schema = serde_json::from_str(&text).unwrap();
    close(&mut schema);
    schema
}

/// Returns the faults of values, a line each that begins with the number of the value.
fn faults(values: &[Value]) -> Vec<String> {
    let python = root().join("target/tools/python/bin/python");
    let mut validate = Command::new(&python)
        .args(["-c", VALIDATE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}: run tests/run", python.display()));
    let mut input = validate.stdin.take().unwrap();
    let schema_and_values = json!([schema(), values]).to_string();
    input.write_all(schema_and_values.as_bytes()).unwrap();
    drop(input);
    let output = validate.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(str::to_owned).collect()
}

async fn status(reader: &Reader) -> Value {
    let (code, text) = reader.get("/api/v1/status").await;
    assert_eq!(code, 200);
    serde_json::from_str(&text).unwrap()
}

/// Returns the simulated WeChat of an app that lost nearly all of its iPhone users yesterday.
async fn swinging() -> WeChat {
    let event = format!("{APP}@{}:platform=iPhone:0.05", yesterday());
    let settings = Settings {
        events: vec![event.parse().unwrap()],
        ..apps_of(&[APP, OTHER])
    };
    WeChat::start(settings, now).await
}

/// Starts an exporter with 60 days in its archive and all windows.
async fn with_history(wechat: &WeChat) -> (Home, Exporter) {
    let mut home = Home::of(wechat, &[APP, OTHER]);
    home.config["windows"] = json!(["1d", "7d", "30d"]);
    home.config["poll"]["interval"] = json!("1h");
    home.config["holidays"] = json!({"calendar": "none"});
    home.archive(wechat, &[APP], 60);
    let exporter = home.start().await;
    calm(&exporter).await;
    (home, exporter)
}

#[tokio::test]
async fn the_status_fits_its_schema_whatever_the_state() {
    on_one_day(async || {
        let wechat = swinging().await;
        wechat.set_fault(OTHER, "errcode=40164");
        let (mut home, exporter) = with_history(&wechat).await;
        home.config["poll"]["interval"] = json!("soon");
        home.configure();
        let bad = exporter.ask("POST", "/-/reload", "identity").await;
        assert_eq!(bad.status().as_u16(), 500);
        let real = status(&exporter).await;
        assert!(real["config"]["problem"].is_string());

        let document = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
        let (_, example) = document.split_once("```json\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let example: Value = serde_json::from_str(example).unwrap();
        assert_eq!(faults(&[real.clone(), example]), [""; 0]);

        // The schema refuses what is missing, unknown, or of another kind.
        let wrong = |change: &dyn Fn(&mut Value)| {
            let mut status = real.clone();
            change(&mut status["apps"][0]["windows"][0]);
            status
        };
        let found = faults(&[
            wrong(&|window| _ = window.as_object_mut().unwrap().remove("users")),
            wrong(&|window| window["users"]["old"] = json!(1)),
            wrong(&|window| window["users"]["new"] = json!("1")),
            wrong(&|window| window["recent_polls"][0]["outcome"] = json!("good")),
            wrong(&|window| window["reference_date"] = json!("yesterday")),
        ]);
        let numbers: Vec<_> = found.iter().map(|fault| &fault[..2]).collect();
        assert_eq!(numbers, ["0 ", "1 ", "2 ", "3 ", "4 "], "{found:?}");
    })
    .await;
}

#[test]
fn the_schema_lists_every_outcome_and_every_kind_of_day() {
    let schema = schema();
    let window =
        &schema["properties"]["apps"]["items"]["properties"]["windows"]["items"]["properties"];
    let polls = &window["recent_polls"];
    assert_eq!(polls["maxItems"], RecentPolls::CAPACITY);
    let outcomes = ["new", "revised", "confirmed"].into_iter();
    let outcomes: Vec<_> = outcomes.chain(Reason::ALL.map(Reason::as_str)).collect();
    assert_eq!(
        polls["items"]["properties"]["outcome"]["enum"],
        json!(outcomes)
    );
    let kinds = &window["reference_day"]["oneOf"][1]["properties"]["kind"]["enum"];
    assert_eq!(*kinds, json!(DayKind::ALL));
    assert_eq!(window["window"]["enum"], json!(Window::ALL));
    let reasons = Reason::ALL.map(|reason| json!(reason.as_str()));
    let reasons: Vec<_> = reasons.into_iter().chain([Value::Null]).collect();
    assert_eq!(window["reason"]["enum"], json!(reasons));
}

#[tokio::test]
async fn the_figures_are_those_of_the_page_for_prometheus() {
    on_one_day(async || {
        let wechat = swinging().await;
        let (_home, exporter) = with_history(&wechat).await;
        let page = exporter.metrics().await;
        let status = status(&exporter).await;
        for (app, has_history) in status["apps"].as_array().unwrap().iter().zip([true, false]) {
            let appid = app["appid"].as_str().unwrap();
            for window in app["windows"].as_array().unwrap() {
                let name = window["window"].as_str().unwrap();
                let is_daily = name == "1d";
                for cohort in Cohort::ALL {
                    let labels = [("appid", appid), ("cohort", cohort.as_str())];
                    let users = [&labels[..], &[("window", name)]].concat();
                    let users = page.value("wxapp_portrait_cohort_users", &users).unwrap();
                    let cohort = cohort.as_str();
                    assert_eq!(window["users"][cohort].as_f64(), Some(users));
                    let bounds = &window["expected"][cohort];
                    if !is_daily || has_history {
                        assert_eq!(bounds.is_object(), is_daily, "{window}");
                    }
                    for bound in ["lower", "usual", "upper"] {
                        let labels = [&labels[..], &[("bound", bound)]].concat();
                        let expected = page.value("wxapp_portrait_expected_cohort_users", &labels);
                        let expected = expected.filter(|_| is_daily);
                        assert_eq!(bounds[bound].as_f64(), expected, "{bound} {window}");
                    }
                    for (key, name) in [
                        ("ratio", "wxapp_portrait_drift_ratio"),
                        ("limit_ratio", "wxapp_portrait_drift_limit_ratio"),
                    ] {
                        let drift = page.value(name, &labels).filter(|_| is_daily);
                        assert_eq!(window["drift"][cohort][key].as_f64(), drift);
                        assert_eq!(drift.is_some(), is_daily && has_history);
                    }
                    let change = window["change_ratio"][cohort].as_f64();
                    assert_eq!(change.is_some(), bounds.is_object());
                    if let (Some(change), Some(usual)) = (change, bounds["usual"].as_f64()) {
                        assert!((users / usual - 1.0 - change).abs() < 0.0001, "{window}");
                    }
                }
                let kind = window["reference_day"]["kind"].as_str();
                assert_eq!(kind.is_some(), is_daily);
                if let Some(kind) = kind {
                    let labels = [("appid", appid), ("kind", kind), ("holiday", "")];
                    assert_eq!(
                        page.value("wxapp_portrait_reference_day_info", &labels),
                        Some(1.0)
                    );
                    assert_eq!(window["reference_day"]["holiday"], Value::Null);
                }
                assert!(is_daily || window["alerts"] == json!([]), "{window}");
            }
        }
        let alerts = status["apps"][0]["windows"][0]["alerts"]
            .as_array()
            .unwrap();
        let is_known = |name: &str| alerts.iter().any(|alert| alert["alert"] == name);
        assert!(
            is_known("WxappPortraitActiveUsersSwing")
                || is_known("WxappPortraitPlatformUsersSwing"),
            "{alerts:?}"
        );
        let of_platforms = alerts.iter().filter(|alert| {
            let name = alert["alert"].as_str().unwrap();
            name.starts_with("WxappPortraitPlatform")
        });
        for alert in of_platforms {
            assert!(alert["platform"].is_string(), "{alert}");
        }
        for alert in alerts {
            let label = |name: &str| alert[name].as_str().unwrap();
            let mut labels = vec![("appid", APP), ("cohort", label("cohort"))];
            let (users, usual) = match alert["platform"].as_str() {
                Some(name) => {
                    labels.push(("name", name));
                    (
                        "wxapp_portrait_users",
                        "wxapp_portrait_expected_platform_users",
                    )
                }
                None => (
                    "wxapp_portrait_cohort_users",
                    "wxapp_portrait_expected_cohort_users",
                ),
            };
            let usual = page.value(usual, &[&labels[..], &[("bound", "usual")]].concat());
            assert_eq!(alert["usual"].as_f64(), usual, "{alert}");
            labels.push(("window", "1d"));
            if users == "wxapp_portrait_users" {
                labels.push(("dimension", "platform"));
            }
            assert_eq!(alert["users"].as_f64(), page.value(users, &labels));
            let is_of_share = alert["alert"] == "WxappPortraitPlatformShareShift";
            assert_eq!(alert["share"].is_number(), is_of_share, "{alert}");
            assert_eq!(alert["usual_share"].is_number(), is_of_share, "{alert}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_ten_polls_are_shown_with_their_outcome() {
    // In Beijing it is 08:00.
    let hand = Hand::at("2026-03-02T00:00:00Z");
    let wechat = WeChat::start(apps_of(&[APP]), hand.clock()).await;
    let inside = Inside::start(&wechat.base_url(), &[APP], &hand).await;
    let mut app = inside.restore(APP, &[Window::OneDay]).await;
    assert_eq!(inside.window_status(APP).await["recent_polls"], json!([]));
    let mut expected: Vec<Value> = Vec::new();
    let mut poll = async |fault: &str, outcomes: [&str; 2]| {
        wechat.simulator.clear_faults(&crate::harness::appid(APP));
        if !fault.is_empty() {
            wechat.set_fault(APP, fault);
        }
        let at = hand.now();
        step(&mut app).await;
        // The day before is not final yet, and first.
        for (day, outcome) in [("2026-02-28", outcomes[0]), ("2026-03-01", outcomes[1])] {
            if !outcome.is_empty() {
                let at = at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                expected.insert(0, json!({"at": at, "day": day, "outcome": outcome}));
            }
        }
        expected.truncate(10);
        let found = inside.window_status(APP).await["recent_polls"].clone();
        assert_eq!(found, json!(expected), "{fault}");
        assert_eq!(hand.now().nanosecond(), 0);
        hand.forward(TimeDelta::hours(3));
    };
    poll("errcode=61503", ["not_ready", "not_ready"]).await;
    poll("http=502", ["transport", "transport"]).await;
    poll("", ["new", "new"]).await;
    poll("scaled=1.5", ["revised", "revised"]).await;
    poll("", ["revised", "revised"]).await;
    poll("", ["confirmed", "confirmed"]).await;
    assert_eq!(expected.len(), RecentPolls::CAPACITY);
}

#[tokio::test]
async fn the_status_is_compressed_and_never_stale() {
    let wechat = WeChat::of(&[APP]).await;
    let exporter = Home::of(&wechat, &[APP]).start().await;
    exporter.ready().await;
    for (path, content_type) in [
        ("/api/v1/status", "application/json"),
        ("/config", "text/yaml; charset=utf-8"),
    ] {
        for encoding in ["gzip", "identity"] {
            let answer = exporter.ask("GET", path, encoding).await;
            let headers = answer.headers().clone();
            assert_eq!(headers["content-type"], content_type);
            assert_eq!(headers["cache-control"], "no-cache");
            assert_eq!(headers["vary"], "accept-encoding");
            let compressed = headers.get("content-encoding").is_some();
            assert_eq!(compressed, encoding == "gzip", "{path}");
            let bytes = answer.bytes().await.unwrap();
            let text = match encoding {
                "gzip" => inflate(&bytes),
                _ => String::from_utf8(bytes.to_vec()).unwrap(),
            };
            exporter.saw(&text);
            assert!(text.contains(APP), "{path}: {text}");
        }
    }
}

#[tokio::test]
async fn the_configuration_in_use_is_shown_without_secrets() {
    const PLANTED: &str = "planted-secret";
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    let url = format!("http://{PLANTED}:x@{}/t?key={PLANTED}", wechat.address);
    home.config["apps"][1] = json!({"appid": OTHER, "token_url": url, "name": "点餐: \"1\""});
    let exporter = home.start().await;
    let (status, first) = exporter.get("/config").await;
    assert_eq!(status, 200);
    let interval = |interval: &str| format!("interval: {interval},");
    for part in [
        &interval("1s"),
        &format!("secret_file: {APP}\n"),
        &format!("token_url: http://{}/t\n", wechat.address),
        "点餐",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(!first.contains(PLANTED), "{first}");

    home.config["poll"]["interval"] = json!("soon");
    home.configure();
    let bad = exporter.ask("POST", "/-/reload", "identity").await;
    assert_eq!(bad.status().as_u16(), 500);
    assert_eq!(exporter.get("/config").await, (200, first));

    home.config["poll"]["interval"] = json!("2h");
    home.configure();
    let good = exporter.ask("POST", "/-/reload", "identity").await;
    assert_eq!(good.status().as_u16(), 200);
    let (_, second) = exporter.get("/config").await;
    assert!(second.contains(&interval("2h")), "{second}");
    let Page(metrics) = exporter.metrics().await;
    assert!(!metrics.contains(PLANTED));
}
