//! Whether the exporter and the bundled rules decide alike what a swing is: random days of a thousand apps,
//! decided by the exporter's code, and by promtool from what the exporter publishes about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use chrono::NaiveDate;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar::{self, DayKind, Holidays};
use wxapp_portrait_exporter::config::Swing;
use wxapp_portrait_exporter::exposition::page::{self, Page, WindowLines};
use wxapp_portrait_exporter::past::PastDays;
use wxapp_portrait_exporter::portrait::{Cohort, Dimension, Portrait, Window};
use wxapp_portrait_exporter::state::{AppSnapshot, Comparison, Summary, WindowSnapshot};

use crate::harness::{appid, newer, root};

/// promtool evaluates queries of ten thousand samples at most.
const APPS_OF_PAGE: usize = 50;
const PAGES: usize = 20;

const PLATFORMS: [&str; 4] = ["Android", "Harmony OS", "iPhone", "其他"];

/// An alert: the app, the cohort, its name without the prefix, and the platform.
type Found = (String, String, String, String);

#[test]
fn the_rules_and_the_exporter_decide_alike() {
    let mut random = StdRng::seed_from_u64(1);
    let mut decided = BTreeSet::new();
    let mut pages = Vec::new();
    for page in 0..PAGES {
        let apps = Page::default();
        for number in 0..APPS_OF_PAGE {
            let app = App::draw(page * APPS_OF_PAGE + number, &mut random);
            apps.publish(&app.snapshot, &[Some(app.lines)]);
            decided.extend(app.decided);
        }
        let page: Vec<_> = apps.all().plain().flatten().collect();
        pages.push(String::from_utf8(page).unwrap());
    }
    for kind in [
        "NewUsersSwing",
        "ActiveUsersSwing",
        "PlatformUsersSwing",
        "PlatformShareShift",
        "PlatformVanished",
        "PlatformAppeared",
        "UsersDrift",
    ] {
        let count = decided.iter().filter(|found| found.2 == kind).count();
        assert!(count >= 10, "{kind} is decided only {count} times");
    }
    for promtool in [Path::new("promtool"), &newer("promtool")] {
        let found = pages.iter().flat_map(|page| found_by(promtool, page));
        let found: BTreeSet<_> = found.collect();
        let missing: Vec<_> = decided.difference(&found).collect();
        let surplus: Vec<_> = found.difference(&decided).collect();
        assert!(missing.is_empty(), "only in Rust: {missing:?}");
        assert!(surplus.is_empty(), "only in PromQL: {surplus:?}");
    }
}

/// An app on a random day after a random history.
struct App {
    snapshot: AppSnapshot,
    lines: WindowLines,
    decided: Vec<Found>,
}

impl App {
    fn draw(number: usize, random: &mut StdRng) -> Self {
        let appid = appid(&format!("wx{number}"));
        let day = NaiveDate::from_ymd_opt(2024, 6, 1).unwrap();
        let day = calendar::days_before(day, random.random_range(0..400));
        let swing = Swing {
            threshold_ratio: [0.2, 0.35, 0.5][random.random_range(0..3)],
            min_users: [10, 50, 500][random.random_range(0..3)],
        };
        let holidays = [Holidays::china(), Holidays::none()][random.random_range(0..2)].clone();
        let comparison = Comparison { swing, holidays };
        let mut past = PastDays::new(Window::OneDay, &[]);
        let mut shown = history(&mut past, day, random);
        past.align(&mut shown, &BTreeMap::new(), []);
        let summary = Summary::new(&shown, &past, &comparison, &[Dimension::Platform]);
        let settled = random.random_bool(0.9);
        let mut decided = Vec::new();
        for (cohort, of_cohort) in summary.cohorts() {
            for alert in of_cohort.expected.alerts(&of_cohort.platforms) {
                let name = alert.name(cohort).strip_prefix("WxappPortrait").unwrap();
                let platform = alert.platform().unwrap_or_default();
                let found = [appid.as_str(), cohort.as_str(), name, platform];
                let [appid, cohort, alert, platform] = found.map(str::to_owned);
                decided.extend(settled.then_some((appid, cohort, alert, platform)));
            }
        }
        let lines = WindowLines {
            users: Some(page::users(&appid, &shown, &[Dimension::Platform])),
            summary: page::summary(&appid, Window::OneDay, &summary),
            ..WindowLines::default()
        };
        let window = WindowSnapshot {
            reference_date: Some(day),
            is_shown: true,
            summary: Some(Arc::new(summary)),
            settled,
            ..WindowSnapshot::new(Window::OneDay)
        };
        Self {
            lines,
            snapshot: AppSnapshot {
                comparison,
                next_poll_at: Some(calendar::midnight(day)),
                ..AppSnapshot::new(appid, vec![window])
            },
            decided,
        }
    }
}

/// Fills the past with random days up to this one, and returns its portrait.
fn history(past: &mut PastDays, day: NaiveDate, random: &mut StdRng) -> Portrait {
    let known = [1, 2, 8, 15, 20, 40, 113, 113, 113][random.random_range(0..9)];
    let gaps = [0.0, 0.0, 0.1, 0.4][random.random_range(0..4)];
    let noise = [0.02, 0.1, 0.2, 0.4][random.random_range(0..4)];
    let decline: f64 = [1.0, 1.0, 0.97, 0.95, 1.02][random.random_range(0..5)];
    let declining: u64 = random.random_range(0..40);
    let means = Cohort::ALL.map(|_| PLATFORMS.map(|_| 10_f64.powf(random.random_range(-0.5..4.0))));
    // What is left of each platform since some days.
    let lasting = [1, 1, 1, 2, 5, 10][random.random_range(0..6)];
    let factors = [0.0, 0.3, 0.5, 0.7, 1.0, 1.0, 1.0, 1.4, 2.0, 5.0];
    let mut draw = |_| factors[random.random_range(0..factors.len())];
    let left = if lasting == 1 {
        Cohort::ALL.map(|_| PLATFORMS.map(&mut draw))
    } else {
        Cohort::ALL.map(|_| [draw(""); PLATFORMS.len()])
    };
    let appears = random.random_bool(0.2);
    // Fewer people on days off, and other platforms.
    let off = [[1.0; PLATFORMS.len()], [0.1, 0.4, 0.4, 0.4]][random.random_range(0..2)];
    let china = Holidays::china();
    let mut shown = Portrait::new(Window::OneDay, day);
    for ago in (0..known).rev() {
        let date = calendar::days_before(day, ago);
        let mut portrait = Portrait::new(Window::OneDay, date);
        for cohort in Cohort::ALL {
            let of_day = random.random_range(-1.0..1.0_f64) * noise * 1.7;
            let days = f64::from(u32::try_from(declining.saturating_sub(ago)).unwrap());
            let breakdown = portrait.breakdown_mut(cohort, Dimension::Platform);
            for (index, name) in PLATFORMS.into_iter().enumerate() {
                let mut users = means[cohort as usize][index] * of_day.exp() * decline.powf(days);
                if ago < lasting {
                    users *= left[cohort as usize][index];
                }
                if matches!(china.kind(date), DayKind::Weekend | DayKind::Holiday) {
                    users *= off[index];
                }
                if appears && index == 1 && ago > 0 {
                    users = 0.0;
                }
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "users"
                )]
                let users = users.round() as u64;
                // WeChat does not list a name without users.
                if users > 0 {
                    breakdown.add(name.to_owned(), users);
                }
            }
            if random.random_bool(0.01) {
                breakdown.set_partial();
            }
        }
        if ago == 0 {
            shown = portrait.clone();
        }
        if ago == 0 || !random.random_bool(gaps) {
            past.insert(&portrait);
        }
    }
    shown
}

/// Returns the alerts of the bundled rules on a page.
fn found_by(promtool: &Path, page: &str) -> BTreeSet<Found> {
    let directory = tempfile::tempdir().unwrap();
    let (file, rules) = (
        directory.path().join("test.yml"),
        directory.path().join("rules.yml"),
    );
    std::fs::write(&rules, rules_without_templates().to_string()).unwrap();
    let mut series = String::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (labels, value) = line.rsplit_once(' ').unwrap();
        let labels = labels.replacen('{', "{job=\"wxapp\",instance=\"a\",", 1);
        let _ = writeln!(series, "      - {{series: '{labels}', values: '{value}'}}");
    }
    // The expectation is wrong, so that promtool reports what there is.
    let tests = format!(
        "rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
{series}
    promql_expr_test:
      - expr: 'ALERTS{{alertstate=\"firing\", cohort!=\"\"}}'
        eval_time: 0m
        exp_samples: []
"
    );
    std::fs::write(&file, tests).unwrap();
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    let answer = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let (_, got) = answer
        .split_once("got:")
        .unwrap_or_else(|| panic!("promtool reports {answer}"));
    let label = |labels: &str, name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let alerts = got.split("ALERTS").skip(1).map(|labels| {
        let (labels, _) = labels.split_once('}').unwrap();
        let alert = label(labels, "alertname").unwrap();
        (
            label(labels, "appid").unwrap(),
            label(labels, "cohort").unwrap(),
            alert.strip_prefix("WxappPortrait").unwrap().to_owned(),
            label(labels, " name").unwrap_or_default(),
        )
    });
    alerts.collect()
}

/// The rules of swings without templates, which are slow for thousands of alerts.
fn rules_without_templates() -> Value {
    let file = root().join("alerts/wxapp-portrait.rules.yml");
    let rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut swings = rules["groups"][0].clone();
    for rule in swings["rules"].as_array_mut().unwrap() {
        let rule = rule.as_object_mut().unwrap();
        rule.remove("annotations");
        rule.remove("labels");
    }
    json!({"groups": [swings]})
}
