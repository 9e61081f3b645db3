//! Replays simulated daily figures through the bundled rules, evaluated by promtool, and prints how
//! often they raise false alarms and what they detect. The bundled thresholds are chosen from this.
//!
//! An app has a weekly pattern, daily noise that all platforms share, a little noise of each platform,
//! and chance (Poisson). Each app has several variants: as it is, and with an event on every day,
//! which is not part of the past of the next day. So every day is a trial.
//!
//! `cargo bench --bench backtest -- [apps of each size] [daily noise]`
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, stops on errors, and its figures are small"
)]

use std::fmt::Write as _;
use std::process::Command;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, LogNormal, Poisson};
use serde_json::{Value, json};
use wxapp_portrait_exporter::config::Swing;

const RATIOS: [f64; 3] = [0.3, 0.35, 0.4];
const MEANS: [f64; 5] = [30.0, 100.0, 300.0, 1_000.0, 10_000.0];
const WEEK: [f64; 7] = [0.93, 0.89, 0.89, 0.93, 1.03, 1.21, 1.12];
const PLATFORMS: [(&str, f64); 3] = [("iPhone", 0.5), ("Android", 0.45), ("其他", 0.05)];
const OF_PLATFORM: f64 = 0.04;
const DAYS_AGO: [usize; 5] = [1, 7, 14, 21, 28];
const HISTORY: usize = 28;
const FIRING: &str = "ALERTS{alertstate=\"firing\", cohort=\"new\"}";
const DAYS: usize = 365;

const QUIET: &str = "quiet";

/// The factors of an app's figures on the day under test.
const VARIANTS: [(&str, [f64; 3]); 5] = [
    (QUIET, [1.0, 1.0, 1.0]),
    ("halved", [0.5, 0.5, 0.5]),
    ("doubled", [2.0, 2.0, 2.0]),
    ("without half of the iPhones", [0.5, 1.0, 1.0]),
    ("with Android for 15 of 50% iPhone", [0.7, 4.0 / 3.0, 1.0]),
];

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse::<f64>().ok());
    let apps = numbers.next().unwrap_or(2.0).round();
    let noise = numbers.next().unwrap_or(0.1);
    assert!(
        (1.0..=20.0).contains(&apps),
        "promtool takes 1 to 20 apps of each size"
    );
    println!(
        "{apps} apps of each size for {DAYS} days, min_users {}; {:.0}% noise from day to day, {:.0}% more for each platform, and chance\n",
        Swing::default().min_users,
        noise * 100.0,
        OF_PLATFORM * 100.0,
    );
    println!(
        "| threshold_ratio | new users a day | false alarms a year: swing | of a platform | share | vanished, appeared \
         | caught: halving | doubling | half of the iPhones gone | share of 50% falls to 35% |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let columns = std::thread::scope(|scope| {
        let threads = MEANS.map(|mean| scope.spawn(move || rows(mean, apps, noise)));
        threads.map(|thread| thread.join().unwrap())
    });
    for ratio in 0..RATIOS.len() {
        for rows in &columns {
            println!("{}", rows[ratio]);
        }
    }
}

/// Returns a row for each threshold, of apps with this many users a day.
fn rows(mean: f64, apps: f64, noise: f64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(1);
    let mut series = String::new();
    let mut app = 0.0;
    while app < apps {
        write_app(&mut series, &format!("{app}"), mean, noise, &mut random);
        app += 1.0;
    }
    let fired = fired(&series);
    let row = |ratio: &f64| {
        let days = |alerts: &[&str], variant: &str| -> f64 {
            let appids = format!("{ratio} {variant} ");
            let fired = fired.iter().filter(|(alert, appid, _)| {
                alerts.contains(&alert.as_str()) && appid.starts_with(&appids)
            });
            fired.fold(0.0, |sum, (_, _, days)| sum + days) / apps / DAYS as f64
        };
        let a_year = |alerts: &[&str]| format!("{:.1}", days(alerts, QUIET) * 365.0);
        let caught = |alert, (variant, _)| format!("{:.0}%", days(&[alert], variant) * 100.0);
        let [_, halved, doubled, platform, shift] = VARIANTS;
        let cells = [
            ratio.to_string(),
            mean.to_string(),
            a_year(&["NewUsersSwing"]),
            a_year(&["PlatformUsersSwing"]),
            a_year(&["PlatformShareShift"]),
            a_year(&["PlatformVanished", "PlatformAppeared"]),
            caught("NewUsersSwing", halved),
            caught("NewUsersSwing", doubled),
            caught("Any", platform),
            caught("Any", shift),
        ];
        format!("| {} |", cells.join(" | "))
    };
    RATIOS.iter().map(row).collect()
}

/// Writes the series of an app in every variant and with every threshold, for promtool.
fn write_app(series: &mut String, app: &str, mean: f64, noise: f64, random: &mut StdRng) {
    let mut draw = |sigma: f64| {
        let noise = LogNormal::new(-sigma * sigma / 2.0, sigma).unwrap();
        noise.sample(random)
    };
    let expected: Vec<[f64; 3]> = (0..HISTORY + DAYS)
        .map(|day| {
            let of_day = mean * WEEK[day % 7] * draw(noise);
            PLATFORMS.map(|(_, share)| of_day * share * draw(OF_PLATFORM))
        })
        .collect();
    let mut people = |expected: f64| Poisson::new(expected).unwrap().sample(random);
    let counted: Vec<[f64; 3]> = expected.iter().map(|day| day.map(&mut people)).collect();
    for (variant, factors) in VARIANTS {
        let day = |day: usize| {
            if variant == QUIET {
                return counted[day];
            }
            let mut changed = expected[day];
            for (expected, factor) in changed.iter_mut().zip(factors) {
                *expected *= factor;
            }
            changed.map(&mut people)
        };
        let shown: Vec<[f64; 3]> = (HISTORY..HISTORY + DAYS).map(day).collect();
        for ratio in RATIOS {
            let of_app = format!("appid=\"{ratio} {variant} {app}\"");
            for (platform, (name, _)) in PLATFORMS.iter().enumerate() {
                let labels =
                    format!("{of_app},cohort=\"new\",dimension=\"platform\",name=\"{name}\"");
                add(
                    series,
                    &format!("wxapp_portrait_users{{{labels},window=\"1d\"}}"),
                    shown.iter().map(|day| day[platform]),
                );
                for days_ago in DAYS_AGO {
                    add(
                        series,
                        &format!("wxapp_portrait_past_users{{{labels},days_ago=\"{days_ago}\"}}"),
                        counted[HISTORY - days_ago..][..DAYS]
                            .iter()
                            .map(|day| day[platform]),
                    );
                }
            }
            for (name, value) in [
                ("settled{window=\"1d\",", 1.0),
                ("reference_date_timestamp_seconds{window=\"1d\",", 0.0),
                ("swing_threshold_ratio{", ratio),
                ("swing_min_users{", Swing::default().min_users as f64),
            ] {
                let _ = writeln!(
                    series,
                    "      - series: 'wxapp_portrait_{name}{of_app}}}'\n        values: '{value}x{DAYS}'"
                );
            }
        }
    }
}

fn add(series: &mut String, name: &str, values: impl Iterator<Item = f64>) {
    let _ = write!(series, "      - series: '{name}'\n        values: '");
    for value in values {
        let _ = write!(series, "{value} ");
    }
    series.push_str("'\n");
}

/// Returns on how many days each alert fired, by its name without the prefix and the appid; for
/// the alert `Any`, on how many days at least one did.
fn fired(series: &str) -> Vec<(String, String, f64)> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("backtest.yml");
    let rules = directory.path().join("rules.yml");
    std::fs::write(&rules, bare_rules().to_string()).unwrap();
    // A minute represents a day: nothing in the rules of swings depends on it, and promtool is much
    // faster. The expectation is wrong, so that it reports what there is.
    let test = format!(
        "rule_files: [rules.yml]
group_eval_order: [wxapp-portrait.swings, backtest]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
{series}
    promql_expr_test:
      - expr: count_over_time({FIRING}[{DAYS}m]) or count_over_time(backtest:any[{DAYS}m])
        eval_time: {last}m
        exp_samples: []
",
        last = DAYS - 1,
    );
    std::fs::write(&file, test).unwrap();
    let output = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    let answer = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let (_, got) = answer
        .split_once("got: ")
        .unwrap_or_else(|| panic!("promtool reports {answer}"));
    let label = |labels: &str, name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    got.split(", {")
        .filter_map(|sample| {
            let (labels, value) = sample.split_once("} ")?;
            let alert = label(labels, "alertname")?;
            let alert = alert.strip_prefix("WxappPortrait")?.to_owned();
            let days = value.split_whitespace().next()?.parse().unwrap();
            Some((alert, label(labels, "appid")?, days))
        })
        .collect()
}

/// The rules, without their texts, and without keeping an alert for another evaluation; and one that
/// fires if an app has any alert.
fn bare_rules() -> Value {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/alerts/wxapp-portrait.rules.yml"
    );
    let mut rules: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let groups = rules["groups"].as_array_mut().unwrap();
    for group in &mut *groups {
        for rule in group["rules"].as_array_mut().unwrap() {
            let rule = rule.as_object_mut().unwrap();
            rule.retain(|key, _| !["annotations", "keep_firing_for"].contains(&key.as_str()));
        }
    }
    groups.push(json!({"name": "backtest", "rules": [{
        "record": "backtest:any",
        "expr": format!("group by (appid) ({FIRING})"),
        "labels": {"alertname": "WxappPortraitAny"},
    }]}));
    rules
}
