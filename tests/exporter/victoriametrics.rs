//! VictoriaMetrics in place of Prometheus, in the version of Debian 12 and in a newer one: vmagent discovers and scrapes
//! apps, vmalert evaluates the rules and notifies Alertmanager.
//!
//! What Prometheus shows of the same exporter, or of the same samples, is the reference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::alertmanager::Version::{self, New, Old};
use crate::alertmanager::{Alertmanager, Service, webhook};
use crate::harness::{
    APP, DEADLINE, Home, Prometheus, Running, Series, WeChat, apps_of, client, eventually,
    free_port, newer, now, on_one_day, root, yesterday,
};

/// Appid, users a day, name, and what happens to it yesterday.
const APPS: [(&str, u32, &str, &str); 6] = [
    ("wx0123456789abcdef", 8_000, "商城", "new:0.2"),
    ("wx1123456789abcdef", 30_000, "消消乐", "platform=其他:0"),
    ("wx2123456789abcdef", 120_000, "资讯 \"VIP\"", "all:0.2"),
    ("wx3123456789abcdef", 60_000, "书店", "platform=iPhone:0.2"),
    ("wx4123456789abcdef", 20_000, "打车", "all:30"),
    ("wx5123456789abcdef", 400, "小店", "all:1"),
];

/// The app that WeChat rejects.
const REJECTED: &str = APPS[5].0;

/// How many alerts fire at least: one for new users, two for both cohorts of the others that swing, and one of the app that is
/// rejected.
const ALERTS: usize = 10;

/// The file of rules as installed.
fn rules_file() -> PathBuf {
    root().join("alerts/wxapp-portrait.rules.yml")
}

/// Returns the command that runs a program of this version.
fn program(version: Version, name: &str) -> Command {
    Command::new(match version {
        Old => PathBuf::from(name),
        New => newer(name),
    })
}

/// Starts a database without samples, as docs/neighbours.md says, in which all samples are visible at once.
fn database(version: Version) -> Prometheus {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = program(version, "victoria-metrics");
    command.args([
        format!("-httpListenAddr={address}"),
        format!("-storageDataPath={}", directory.path().display()),
        "-retentionPeriod=100y".to_owned(),
        "-search.maxStalenessInterval=5m".to_owned(),
        "-search.minStalenessInterval=5m".to_owned(),
        "-search.latencyOffset=0s".to_owned(),
    ]);
    Prometheus::serving(&address, command, directory)
}

/// Returns a database with all samples that a Prometheus has.
pub(crate) async fn copy(version: Version, prometheus: &Prometheus) -> Prometheus {
    let database = database(version);
    let everything = [("query", r#"{__name__!=""}[100d]"#)];
    let answer = prometheus.ask("query", &everything).await;
    let mut samples = String::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let mut labels = String::new();
        for (name, value) in series["metric"].as_object().unwrap() {
            if name != "__name__" {
                // A string of JSON is one of this format, too.
                write!(labels, "{name}={value},").unwrap();
            }
        }
        let name = series["metric"]["__name__"].as_str().unwrap();
        for sample in series["values"].as_array().unwrap() {
            let (value, time) = (sample[1].as_str().unwrap(), sample[0].as_f64().unwrap());
            writeln!(samples, "{name}{{{labels}}} {value} {:.0}", time * 1000.0).unwrap();
        }
    }
    import(&database, &samples).await;
    database
}

/// Imports samples in the text format, with times in milliseconds.
async fn import(database: &Prometheus, samples: &str) {
    let url = format!("{}/api/v1/import/prometheus", database.url);
    eventually("the import", async || {
        let answer = client().post(&url).body(samples.to_owned()).send().await;
        let answer = answer.ok()?;
        assert!(answer.status().is_success(), "{answer:?}");
        Some(())
    })
    .await;
    let flush = client().get(format!("{}/internal/force_flush", database.url));
    assert!(flush.send().await.unwrap().status().is_success());
}

/// Lets vmalert check rules; returns what is wrong.
fn check(version: Version, rules: &Path) -> Result<(), String> {
    let mut vmalert = program(version, "vmalert");
    let rules = format!("-rule={}", rules.display());
    let Output { status, stderr, .. } = vmalert.args(["-dryRun", &rules]).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    if status.success() { Ok(()) } else { Err(said) }
}

/// Returns the firing alerts of Prometheus or vmalert: labels and annotations.
async fn firing(url: &str) -> BTreeSet<(String, String)> {
    let answer: Value = eventually("alerts", async || {
        let answer = client().get(format!("{url}/api/v1/alerts")).send().await;
        // Plain text while it starts.
        serde_json::from_slice(&answer.ok()?.bytes().await.ok()?).ok()
    })
    .await;
    let alerts = answer["data"]["alerts"].as_array().into_iter().flatten();
    let firing = alerts.filter(|alert| alert["state"] == "firing");
    firing.map(parts).collect()
}

/// Returns the labels and annotations of an alert, but for the label that only vmalert adds.
fn parts(alert: &Value) -> (String, String) {
    let mut labels = alert["labels"].clone();
    labels.as_object_mut().unwrap().remove("alertgroup");
    (labels.to_string(), alert["annotations"].to_string())
}

#[tokio::test]
async fn vmalert_1_79_fires_the_alerts_of_prometheus() {
    assert_same_alerts(Old).await;
}

#[tokio::test]
async fn the_newest_vmalert_fires_the_alerts_of_prometheus() {
    assert_same_alerts(New).await;
}

async fn assert_same_alerts(version: Version) {
    on_one_day(async || {
        let day = yesterday();
        let apps = APPS.map(|(appid, users, ..)| format!("{appid}={users}"));
        let mut settings = apps_of(&apps.each_ref().map(String::as_str));
        let events = APPS.map(|(appid, .., event)| format!("{appid}@{day}:{event}"));
        settings.events = events.map(|event| event.parse().unwrap()).into();
        let wechat = WeChat::start(settings, now).await;
        let appids = APPS.map(|(appid, ..)| appid);
        wechat.set_fault(REJECTED, "errcode=40164");
        let mut home = Home::of(&wechat, &appids);
        // On a holiday nothing is expected of users.
        home.config["holidays"] = json!({"calendar": "none"});
        for (at, (.., name, _)) in APPS.iter().enumerate() {
            home.config["apps"][at]["name"] = json!(name);
            home.config["apps"][at]["labels"] = json!({"team": "零售"});
        }
        home.archive(&wechat, &appids, 60);
        let exporter = home.start().await;
        exporter.ready().await;

        let address = exporter.url.strip_prefix("http://").unwrap();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{
                "job_name": "wxapp",
                "params": {"collect[]": ["exporter"]},
                "http_sd_configs": [{"url": format!("{}/sd", exporter.url)}],
                "static_configs": [{"targets": [address]}],
            }],
        });
        let service = Service::start().await;
        let alertmanager =
            Alertmanager::start(Old, "webhook.yml", |config| webhook(config, &service)).await;
        let database = database(version);
        let files = tempfile::tempdir().unwrap();
        let rules = rules(version, files.path());
        let scrape = files.path().join("scrape.yml");
        std::fs::write(&scrape, config.to_string()).unwrap();
        let agent = format!("127.0.0.1:{}", free_port());
        let mut vmagent = program(version, "vmagent");
        vmagent.args([
            format!("-httpListenAddr={agent}"),
            format!("-promscrape.config={}", scrape.display()),
            format!("-remoteWrite.url={}/api/v1/write", database.url),
            format!(
                "-remoteWrite.tmpDataPath={}",
                files.path().join("agent").display()
            ),
            "-remoteWrite.flushInterval=100ms".to_owned(),
        ]);
        let vmagent = Running::start(vmagent);
        let all = APPS.len() + 1;
        database.query(&format!("count(up == 1) == {all}")).await;

        let alert = format!("127.0.0.1:{}", free_port());
        let mut vmalert = program(version, "vmalert");
        vmalert.args([
            format!("-httpListenAddr={alert}"),
            format!("-rule={}", rules.display()),
            format!("-datasource.url={}", database.url),
            format!("-remoteWrite.url={}", database.url),
            format!("-remoteRead.url={}", database.url),
            format!("-notifier.url={}", alertmanager.url),
            "-evaluationInterval=1s".to_owned(),
            "-remoteWrite.flushInterval=100ms".to_owned(),
        ]);
        if version == New {
            vmalert.arg("-rule.evalDelay=0s");
        }
        let vmalert = Running::start(vmalert);
        let mut config = config;
        config["global"]["evaluation_interval"] = json!("1s");
        config["rule_files"] = json!([rules_file()]);
        let prometheus = Prometheus::over(tempfile::tempdir().unwrap(), &config);
        let start = Instant::now();
        let fired = loop {
            let expected = firing(&prometheus.url).await;
            let found = firing(&format!("http://{alert}")).await;
            if expected.len() >= ALERTS && found == expected {
                break found;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "Prometheus: {expected:#?}\nvmalert: {found:#?}\n{}\n{}",
                vmagent.output(),
                vmalert.output()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        // Alertmanager has them all, with the same texts.
        eventually("messages", async || {
            let messages = service.requests().into_iter();
            let alerts = messages.flat_map(|(_, body)| body["alerts"].as_array().unwrap().clone());
            let received: BTreeSet<_> = alerts.map(|alert| parts(&alert)).collect();
            received.is_superset(&fired).then_some(())
        })
        .await;
    })
    .await;
}

/// Writes the rules that a user of this version has; returns the path.
fn rules(version: Version, directory: &Path) -> PathBuf {
    let file = directory.join("rules.yml");
    let mut text = std::fs::read_to_string(rules_file()).unwrap();
    if version == Old {
        let lines = text.split_inclusive('\n');
        text = lines
            .filter(|line| !line.contains("keep_firing_for"))
            .collect();
    }
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn vmalert_accepts_the_rules_from_the_version_with_keep_firing_for_on() {
    check(New, &rules_file()).unwrap();
    let refusal = check(Old, &rules_file()).unwrap_err();
    assert!(
        refusal.contains("unknown fields in rule: keep_firing_for"),
        "{refusal}"
    );
    let directory = tempfile::tempdir().unwrap();
    check(Old, &rules(Old, directory.path())).unwrap();
}

#[tokio::test]
async fn an_export_is_imported_with_the_exact_figures() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[]);
        home.archive(&wechat, &[APP], 30);
        let mut export = home.command_of("export");
        export.args(["--format", "openmetrics"]);
        let output = export.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // As docs/neighbours.md says.
        let lines = String::from_utf8(output.stdout).unwrap();
        let lines = lines.lines().filter(|line| !line.starts_with('#'));
        let mut samples = String::new();
        for line in lines {
            writeln!(samples, "{line}000").unwrap();
        }
        let day = calendar::days_before(yesterday(), 20);
        // Noon of the next day in Beijing.
        let time = calendar::midnight(day).timestamp() + 36 * 3600;
        let mut expected = Series::new();
        for window in Window::ALL {
            expected.extend(wechat.users(APP, window, day));
        }
        for version in [Old, New] {
            let database = database(version);
            import(&database, &samples).await;
            let query = format!("wxapp_portrait_users @ {time} > 0");
            assert_eq!(database.query(&query).await, expected, "{version:?}");
        }
    })
    .await;
}
