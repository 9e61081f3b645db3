//! The example configurations of Alertmanager and the texts of notifications, as read by the oldest and
//! the newest Alertmanager, and what each service receives.
//!
//! Does not depend on rules: alerts are sent to Alertmanager as by Prometheus.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{Method, Uri};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use crate::documents::markdown::Document;
use crate::harness::{APP, OTHER, Running, client, eventually, newer, now, root, serve};
use crate::rules;

/// One of the two Alertmanagers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Version {
    /// The one of Debian 12.
    Old,
    /// The one that `tests/newer` fetched.
    New,
}

use Version::{New, Old};

impl Version {
    fn amtool(self) -> Command {
        Command::new(match self {
            Old => PathBuf::from("amtool"),
            New => newer("amtool"),
        })
    }

    fn alertmanager(self) -> Command {
        Command::new(match self {
            Old => PathBuf::from("prometheus-alertmanager"),
            New => newer("alertmanager"),
        })
    }
}

/// An Alertmanager with one of the example files.
pub(crate) struct Alertmanager {
    pub(crate) running: Running,
    pub(crate) url: String,
    _directory: TempDir,
}

impl Alertmanager {
    /// Starts one with an example that waits for a fraction of a second instead of minutes, and is
    /// otherwise completed by the test.
    pub(crate) async fn start(
        version: Version,
        example: &str,
        fill_in: impl FnOnce(&mut Value),
    ) -> Self {
        let mut config = read(example);
        hurry(&mut config["route"]);
        fill_in(&mut config);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("alertmanager.yml");
        // JSON is YAML.
        std::fs::write(&file, config.to_string()).unwrap();
        for language in ["zh", "en"] {
            let name = template(language);
            std::fs::copy(examples().join(&name), directory.path().join(&name)).unwrap();
        }
        let mut command = version.alertmanager();
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.path={}",
                directory.path().join("data").display()
            ))
            .args([
                "--web.listen-address=127.0.0.1:0",
                "--cluster.listen-address=",
                "--log.level=debug",
            ]);
        let mut running = Running::start(command);
        let address = running.said("\"Listening on\" address=").await;
        Self {
            running,
            url: format!("http://{address}"),
            _directory: directory,
        }
    }

    /// Sends alerts to it, as Prometheus does.
    pub(crate) async fn send(&self, alerts: &[Value]) {
        let request = client().post(format!("{}/api/v2/alerts", self.url));
        let request = request.header("content-type", "application/json");
        let answer = request
            .body(json!(alerts).to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// Reports alerts as resolved.
    pub(crate) async fn resolve(&self, alerts: &[Value]) {
        let over = |alert: &Value| {
            let mut alert = alert.clone();
            alert["endsAt"] = json!(now());
            alert
        };
        self.send(&alerts.iter().map(over).collect::<Vec<_>>())
            .await;
    }
}

/// Shortens the waits of a route and those below it for a test.
fn hurry(route: &mut Value) {
    for key in ["group_wait", "group_interval"] {
        if let Some(wait) = route.get_mut(key) {
            *wait = json!("500ms");
        }
    }
    for below in route["routes"].as_array_mut().into_iter().flatten() {
        hurry(below);
    }
}

/// A service that delivers messages; remembers its requests.
pub(crate) struct Service {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    _stop: DropGuard,
}

impl Service {
    /// Starts one that issues tokens and accepts every message.
    pub(crate) async fn start() -> Self {
        Self::answering(json!({"errcode": 0, "errmsg": "ok", "access_token": "TOKEN"})).await
    }

    async fn answering(answer: Value) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let remember = Arc::clone(&requests);
        let app = Router::new().fallback(async move |method: Method, uri: Uri, body: String| {
            let body = if body.is_empty() {
                Value::Null
            } else {
                serde_json::from_str(&body).unwrap()
            };
            remember
                .lock()
                .unwrap()
                .push((format!("{method} {uri}"), body));
            answer.to_string()
        });
        let (address, stop) = serve(app).await;
        Self {
            url: format!("http://{address}"),
            requests,
            _stop: stop,
        }
    }

    /// Returns all requests so far, as method and path, and body.
    pub(crate) fn requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until there have been this many requests; more are too many.
    pub(crate) async fn got(&self, count: usize) -> Vec<(String, Value)> {
        let requests = eventually("requests", async || {
            Some(self.requests()).filter(|requests| requests.len() >= count)
        })
        .await;
        assert_eq!(requests.len(), count, "{requests:#?}");
        requests
    }
}

const EXAMPLES: [&str; 5] = [
    "wecom.yml",
    "robots.yml",
    "email.yml",
    "webhook.yml",
    "nobody.yml",
];

fn examples() -> PathBuf {
    root().join("alerts/alertmanager")
}

fn template(language: &str) -> String {
    format!("wxapp-portrait.{language}.tmpl")
}

fn read(example: &str) -> Value {
    let text = std::fs::read_to_string(examples().join(example)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Returns the output of a command if it succeeded, else its error.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if status.success() {
        Ok(text(stdout))
    } else {
        Err(format!("{}{}", text(stdout), text(stderr)))
    }
}

pub(crate) fn check(version: Version, file: &Path) -> Result<String, String> {
    run(version.amtool().arg("check-config").arg(file))
}

#[test]
fn the_newest_alertmanager_accepts_every_example() {
    for example in EXAMPLES {
        let said = check(New, &examples().join(example)).unwrap();
        let templates = u8::from(!["webhook.yml", "nobody.yml"].contains(&example));
        assert!(said.contains(&format!("{templates} templates")), "{said}");
        assert!(said.contains("2 receivers"), "{said}");
    }
}

#[test]
fn alertmanager_0_25_accepts_the_examples_that_are_for_it() {
    for example in ["email.yml", "webhook.yml", "nobody.yml"] {
        check(Old, &examples().join(example)).unwrap();
    }
    let refusal = check(Old, &examples().join("robots.yml")).unwrap_err();
    assert!(refusal.contains("field payload not found"), "{refusal}");

    let wecom = examples().join("wecom.yml");
    let refusal = check(Old, &wecom).unwrap_err();
    assert!(
        refusal.contains("field api_secret_file not found"),
        "{refusal}"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("alertmanager.yml");
    let text = std::fs::read_to_string(wecom).unwrap();
    assert!(text.contains("takes \"api_secret: THE_SECRET\" instead of api_secret_file"));
    let text = text.replace(
        "api_secret_file: /etc/alertmanager/secrets/wecom",
        "api_secret: THE_SECRET",
    );
    std::fs::write(&file, text).unwrap();
    check(Old, &file).unwrap();
}

#[test]
fn routes_and_inhibitions_are_the_same_in_all_examples() {
    for example in EXAMPLES {
        let (one, other) = (read(example), read("webhook.yml"));
        for key in ["route", "inhibit_rules"] {
            assert!(!one[key].is_null());
            assert_eq!(one[key], other[key], "{key} of {example}");
        }
    }
}

#[test]
fn every_alert_is_routed_to_its_receivers() {
    let alerts = rules::alerts();
    let alerts: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let receiver = match alert.group.as_str() {
                rules::SWINGS => "product",
                _ => "operators",
            };
            // Of the labels of the alerts only these may matter.
            let labels = [
                format!("alertname={}", alert.name),
                format!("severity={}", alert.severity),
                format!("appid={APP}"),
            ];
            (receiver, labels)
        })
        .collect();
    for example in EXAMPLES {
        for version in [Old, New] {
            if version == Old && ["robots.yml", "wecom.yml"].contains(&example) {
                continue;
            }
            for (receiver, labels) in &alerts {
                let mut amtool = version.amtool();
                amtool.args(["config", "routes", "test"]);
                amtool.arg(format!("--verify.receivers={receiver}"));
                amtool
                    .arg("--config.file")
                    .arg(examples().join(example))
                    .args(labels);
                let said = run(&mut amtool).unwrap();
                assert_eq!(said.trim(), *receiver, "{labels:?} {example}");
            }
        }
    }
}

#[test]
fn the_documented_route_of_a_team_gets_the_swings_of_its_apps() {
    let path = "docs/alerting.md";
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    let mut blocks = Document::read(path, &text).blocks.into_iter();
    let block = blocks.find(|block| block.text.contains("team = "));
    let part: Value = serde_saphyr::from_str(&block.unwrap().text).unwrap();
    let mut config = read("webhook.yml");
    config["route"] = part["route"].clone();
    let receivers = config["receivers"].as_array_mut().unwrap();
    receivers.extend(part["receivers"].as_array().unwrap().clone());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("alertmanager.yml");
    // JSON is YAML.
    std::fs::write(&file, config.to_string()).unwrap();
    for version in [Old, New] {
        for (alert, team, receiver) in [
            ("NewUsersSwing", Some("零售"), "retail"),
            ("NewUsersSwing", Some("会员"), "product"),
            ("NewUsersSwing", None, "product"),
            ("PollFailing", Some("零售"), "operators"),
        ] {
            let mut amtool = version.amtool();
            amtool.args(["config", "routes", "test", "--config.file"]);
            amtool.arg(&file);
            amtool.arg(format!("alertname=WxappPortrait{alert}"));
            amtool.args(team.map(|team| format!("team={team}")));
            let said = run(&mut amtool).unwrap();
            assert_eq!(said.trim(), receiver, "{alert} {team:?}");
        }
    }
}

/// Renders a message with both Alertmanagers; the results must be equal.
fn render(name: &str, language: &str, data: &Value) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data.json");
    std::fs::write(&file, data.to_string()).unwrap();
    let by = |version: Version| {
        let mut amtool = version.amtool();
        amtool
            .args(["template", "render"])
            .arg(format!(
                "--template.glob={}",
                examples().join(template(language)).display()
            ))
            .arg(format!("--template.text={{{{ template \"{name}\" . }}}}"))
            .arg(format!("--template.data={}", file.display()));
        if name == "wxapp_portrait.html" {
            amtool.arg("--template.type=html");
        }
        let text = run(&mut amtool).unwrap();
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    };
    let text = by(New);
    assert_eq!(by(Old), text);
    text
}

fn markdown(language: &str, data: &Value) -> String {
    render("wxapp_portrait.markdown", language, data)
}

/// What Alertmanager passes to templates for these alerts.
fn data(alerts: &[Value]) -> Value {
    let common = |key: &str| {
        let mut common = alerts[0][key].as_object().unwrap().clone();
        common.retain(|name, value| alerts.iter().all(|alert| alert[key][name] == *value));
        common
    };
    let firing = alerts.iter().any(|alert| alert["status"] == "firing");
    json!({
        "receiver": "product",
        "status": if firing { "firing" } else { "resolved" },
        "alerts": alerts,
        "groupLabels": {},
        "commonLabels": common("labels"),
        "commonAnnotations": common("annotations"),
        "externalURL": "http://alertmanager",
    })
}

/// An alert about the users of an app.
fn swing(app: &str, name: &str, severity: &str, words: &str, words_zh: &str) -> Value {
    json!({
        "status": "firing",
        "labels": {
            "alertname": format!("WxappPortrait{name}"),
            "severity": severity,
            "appid": app,
            "cohort": "new",
        },
        "annotations": {
            "app": "商城",
            "summary": format!("{name} is unusual."),
            "summary_zh": format!("{name} 异常"),
            "description": words,
            "description_zh": words_zh,
            "dashboard_url": format!("http://grafana/d/wxapp-portrait-app?var-appid={app}&var-cohort=new"),
            "page_url": format!("http://exporter/apps/{app}#{name}"),
            "runbook_url": format!("https://git.internal/wxapp-portrait-exporter/docs/runbook.md#wxappportrait{}", name.to_lowercase()),
            "runbook_url_zh": format!("https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md#wxappportrait{}", name.to_lowercase()),
        },
    })
}

fn resolved(mut alert: Value) -> Value {
    alert["status"] = json!("resolved");
    alert
}

#[test]
fn a_message_lists_the_swings_of_an_app() {
    let alerts = [
        swing(
            APP,
            "PlatformAppeared",
            "info",
            "商城 has 9 users on 鸿蒙.",
            "商城 在鸿蒙上有了 9 个用户。",
        ),
        swing(
            APP,
            "NewUsersSwing",
            "warning",
            "商城 had 420 new users.",
            "商城 新增用户 420。",
        ),
        resolved(swing(
            APP,
            "PlatformVanished",
            "warning",
            "商城 had none on iPad.",
            "商城 在 iPad 上没有用户。",
        )),
    ];
    assert_eq!(
        markdown("zh", &data(&alerts)),
        "**告警 · 商城**

**告警中（2）**
- 商城 新增用户 420。
- 商城 在鸿蒙上有了 9 个用户。

**本次波动告警结束（1）**
- 商城 在 iPad 上没有用户。

[看板](http://grafana/d/wxapp-portrait-app?var-appid=wx0123456789abcdef&var-cohort=new) \
/ [详情](http://exporter/apps/wx0123456789abcdef) \
/ [处理方法](https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md)"
    );
    assert_eq!(
        markdown("en", &data(&alerts)),
        "**Alert · 商城**

**Firing (2)**
- 商城 had 420 new users.
- 商城 has 9 users on 鸿蒙.

**Alert ended (1)**
- 商城 had none on iPad.

[dashboard](http://grafana/d/wxapp-portrait-app?var-appid=wx0123456789abcdef&var-cohort=new) \
/ [details](http://exporter/apps/wx0123456789abcdef) \
/ [runbook](https://git.internal/wxapp-portrait-exporter/docs/runbook.md)"
    );
    assert_eq!(
        render("wxapp_portrait.html", "zh", &data(&alerts[1..])),
        "<!DOCTYPE html>
<html lang=\"zh-CN\">
<body>
<h3>告警 · 商城</h3>
<p><b>告警中（1）</b></p>
<ul>
<li>商城 新增用户 420。 <a href=\"http://grafana/d/wxapp-portrait-app?var-appid=wx0123456789abcdef&amp;var-cohort=new\">看板</a> \
<a href=\"http://exporter/apps/wx0123456789abcdef#NewUsersSwing\">详情</a> \
<a href=\"https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md#wxappportraitnewusersswing\">处理方法</a></li>
</ul>
<p><b>本次波动告警结束（1）</b></p>
<ul>
<li>商城 在 iPad 上没有用户。 <a href=\"http://grafana/d/wxapp-portrait-app?var-appid=wx0123456789abcdef&amp;var-cohort=new\">看板</a> \
<a href=\"http://exporter/apps/wx0123456789abcdef#PlatformVanished\">详情</a> \
<a href=\"https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md#wxappportraitplatformvanished\">处理方法</a></li>
</ul>
</body>
</html>"
    );
}

#[test]
fn the_end_of_a_swing_is_no_recovery() {
    let ended = [resolved(swing(
        APP,
        "NewUsersSwing",
        "warning",
        "Fewer.",
        "下降。",
    ))];
    let first_line = |name: &str, language: &str| {
        let text = render(name, language, &data(&ended));
        text.lines()
            .find(|line| line.contains("商城"))
            .unwrap()
            .to_owned()
    };
    let zh = "本次波动告警结束 · 商城 · NewUsersSwing 异常";
    assert_eq!(
        first_line("wxapp_portrait.markdown", "zh"),
        format!("**{zh}**")
    );
    assert_eq!(
        first_line("wxapp_portrait.html", "zh"),
        format!("<h3>{zh}</h3>")
    );
    let en = "Alert ended · 商城 · NewUsersSwing is unusual.";
    assert_eq!(
        first_line("wxapp_portrait.markdown", "en"),
        format!("**{en}**")
    );
    assert_eq!(
        first_line("wxapp_portrait.html", "en"),
        format!("<h3>{en}</h3>")
    );
}

#[test]
fn a_message_lists_one_alert_of_several_apps() {
    let mut alerts = [
        swing(
            APP,
            "Stale",
            "critical",
            "商城 has nothing since 2026-11-18.",
            "商城 自 2026-11-18 起没有画像。",
        ),
        swing(
            OTHER,
            "Stale",
            "critical",
            "书店 has nothing since 2026-11-18.",
            "书店 自 2026-11-18 起没有画像。",
        ),
    ];
    alerts[1]["annotations"]["app"] = json!("书店");
    for alert in &mut alerts {
        alert["annotations"]["dashboard_url"] = json!("http://grafana/d/wxapp-portrait-exporter");
    }
    assert_eq!(
        markdown("zh", &data(&alerts)),
        "**严重告警 · Stale 异常**

**告警中（2）**
- 商城 自 2026-11-18 起没有画像。 [详情](http://exporter/apps/wx0123456789abcdef#Stale)
- 书店 自 2026-11-18 起没有画像。 [详情](http://exporter/apps/wx1123456789abcdef#Stale)

[看板](http://grafana/d/wxapp-portrait-exporter) / [处理方法](https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md#wxappportraitstale)"
    );
    assert_eq!(
        markdown("en", &data(&alerts.map(resolved))),
        "**Resolved · Stale is unusual.**

**Resolved (2)**
- 商城 has nothing since 2026-11-18. [details](http://exporter/apps/wx0123456789abcdef#Stale)
- 书店 has nothing since 2026-11-18. [details](http://exporter/apps/wx1123456789abcdef#Stale)

[dashboard](http://grafana/d/wxapp-portrait-exporter) / [runbook](https://git.internal/wxapp-portrait-exporter/docs/runbook.md#wxappportraitstale)"
    );
}

#[test]
fn an_alert_without_annotations_is_shown_by_its_name() {
    let alert = json!({"status": "firing", "labels": {"alertname": "Watchdog"}, "annotations": {}});
    assert_eq!(
        markdown("zh", &data(std::slice::from_ref(&alert))),
        "**告警**\n\n**告警中（1）**\n- Watchdog"
    );
    assert_eq!(
        markdown("en", &data(&[alert])),
        "**Alert**\n\n**Firing (1)**\n- Watchdog"
    );
}

#[test]
fn a_message_has_at_most_2048_bytes_and_shows_how_many_more_alerts_there_are() {
    for (count, length) in [
        (1, 5000),
        (6, 40),
        (7, 200),
        (20, 90),
        (300, 30),
        (300, 400),
    ] {
        for language in ["zh", "en"] {
            for character in ["a", "字", "📱"] {
                let words = character.repeat(length);
                let alerts: Vec<Value> = (0..count)
                    .map(|number| {
                        let mut alert = swing(APP, "NewUsersSwing", "warning", &words, &words);
                        alert["annotations"]["app"] = json!(words);
                        alert["annotations"]["summary"] = json!(words);
                        alert["annotations"]["summary_zh"] = json!(words);
                        for key in ["runbook_url", "runbook_url_zh"] {
                            alert["annotations"][key] = json!(format!("http://docs/{number}"));
                        }
                        if number % 3 == 2 {
                            resolved(alert)
                        } else {
                            alert
                        }
                    })
                    .collect();
                let text = markdown(language, &data(&alerts));
                assert!(text.len() <= 2048, "{} bytes: {text}", text.len());
                let (_, list) = text.split_once("\n\n").unwrap();
                assert!(list.len() <= 1600 && list.starts_with("**"), "{list}");
                let listed = text.matches("](http://docs/").count();
                let more = if language == "zh" {
                    format!("\n- ……还有 {} 条\n", count - listed)
                } else {
                    format!("\n- … and {} more\n", count - listed)
                };
                assert_eq!(text.contains(&more), listed < count, "{text}");
                // As many as an app has swings, if they have the usual length.
                assert!(listed >= count.min(6) || length > 40, "{text}");
                assert!(listed > 0, "{text}");
            }
        }
    }
}

/// What could break a line, Markdown, JSON, YAML or a template.
const ODD: &str = "a: \"b\" \\n\n- <c> & 'd'\t{{ .Status }} #e";

/// Completes the example for robots, each with a path of its own.
pub(crate) fn robots(config: &mut Value, service: &Service, directory: &Path) {
    for receiver in config["receivers"].as_array_mut().unwrap() {
        for robot in receiver["webhook_configs"].as_array_mut().unwrap() {
            let file = robot["url_file"].as_str().unwrap();
            let name = file
                .strip_prefix("/etc/alertmanager/secrets/")
                .unwrap()
                .to_owned();
            let path = directory.join(&name);
            std::fs::write(&path, format!("{}/{name}\n", service.url)).unwrap();
            robot["url_file"] = json!(path);
        }
    }
}

#[tokio::test]
async fn robots_get_messages_in_the_form_of_each() {
    let (service, directory) = (Service::start().await, tempfile::tempdir().unwrap());
    let alertmanager = Alertmanager::start(New, "robots.yml", |config| {
        robots(config, &service, directory.path());
    })
    .await;
    let mut alert = swing(APP, "NewUsersSwing", "warning", ODD, ODD);
    alert["annotations"]["app"] = json!(ODD);
    alertmanager.send(std::slice::from_ref(&alert)).await;

    let operation = swing(APP, "PollFailing", "warning", "", "拉取失败。");
    let expect = |receiver: &str,
                  title: &str,
                  section: &str,
                  line: &str,
                  alert: &Value,
                  colour: &str| {
        let link = |name: &str, key: &str| {
            format!("[{name}]({})", alert["annotations"][key].as_str().unwrap())
        };
        let links = [
            link("看板", "dashboard_url"),
            link("详情", "page_url"),
            link("处理方法", "runbook_url_zh"),
        ];
        let list = format!("**{section}（1）**\n- {line}\n\n{}", links.join(" / "));
        let text = format!("**{title}**\n\n{list}");
        [
            (
                format!("POST /{receiver}-dingtalk"),
                json!({
                    "msgtype": "markdown",
                    "markdown": {"title": title, "text": text},
                }),
            ),
            (
                format!("POST /{receiver}-feishu"),
                json!({
                    "msg_type": "interactive",
                    "card": {
                        "header": {"template": colour, "title": {"tag": "plain_text", "content": title}},
                        "elements": [{"tag": "markdown", "content": list}],
                    },
                }),
            ),
            (
                format!("POST /{receiver}-wecom"),
                json!({
                    "msgtype": "markdown",
                    "markdown": {"content": text},
                }),
            ),
        ]
    };
    let sorted = |requests: &[(String, Value)]| {
        let mut requests = requests.to_vec();
        requests.sort_by(|one, other| one.0.cmp(&other.0));
        requests
    };
    let title = "告警 · a： \"b\" \\n - <c> & 'd' {{ .Stat · NewUsersSwing 异常";
    let line = "a: \"b\" \\n - <c> & 'd' {{ .Status }} #e";
    assert_eq!(
        sorted(&service.got(3).await),
        expect("product", title, "告警中", line, &alert, "orange")
    );
    // The end of a swing is no message; that of another alert is one.
    alertmanager.resolve(&[alert]).await;
    alertmanager.send(std::slice::from_ref(&operation)).await;
    let (title, line) = ("商城 · PollFailing 异常", "拉取失败。");
    assert_eq!(
        sorted(&service.got(6).await[3..]),
        expect(
            "operators",
            &format!("告警 · {title}"),
            "告警中",
            line,
            &operation,
            "orange"
        )
    );
    alertmanager.resolve(std::slice::from_ref(&operation)).await;
    assert_eq!(
        sorted(&service.got(9).await[6..]),
        expect(
            "operators",
            &format!("已解除 · {title}"),
            "已解除",
            line,
            &operation,
            "green"
        )
    );
}

#[tokio::test]
async fn a_wecom_application_gets_all_swings_of_an_app_once() {
    for version in [Old, New] {
        let (service, directory) = (Service::start().await, tempfile::tempdir().unwrap());
        let alertmanager = Alertmanager::start(version, "wecom.yml", |config| {
            wecom(version, config, &service, directory.path());
        })
        .await;
        let alerts: Vec<Value> = [
            "ActiveUsersSwing",
            "NewUsersSwing",
            "PlatformAppeared",
            "PlatformShareShift",
            "PlatformUsersSwing",
            "PlatformVanished",
        ]
        .into_iter()
        .map(|name| {
            swing(
                APP,
                name,
                "warning",
                name,
                &format!("商城 2026-11-21 {name} 平台新增用户 420，往常 1050，减少 60%。"),
            )
        })
        .collect();
        alertmanager.send(&alerts).await;
        let line = |alert: &Value| {
            let words = alert["annotations"]["description_zh"].as_str().unwrap();
            format!("- {words}\n")
        };
        let list: String = alerts.iter().map(line).collect();
        let content = format!(
            "**告警 · 商城**\n\n**告警中（6）**\n{list}\n\
             [看板](http://grafana/d/wxapp-portrait-app?var-appid={APP}&var-cohort=new) / \
             [详情](http://exporter/apps/{APP}) / \
             [处理方法](https://git.internal/wxapp-portrait-exporter/docs/zh-CN/runbook.md)"
        );
        let message = |receiver: &str, content: &str| {
            (
                "POST /cgi-bin/message/send?access_token=TOKEN".to_owned(),
                json!({
                    "touser": receiver,
                    "agentid": "AGENT_ID",
                    "safe": "0",
                    "msgtype": "markdown",
                    "markdown": {"content": content},
                    "text": {"content": ""},
                }),
            )
        };
        let token = (
            "GET /cgi-bin/gettoken?corpid=CORP_ID&corpsecret=SECRET".to_owned(),
            Value::Null,
        );
        let swings = message("PRODUCT_MEMBERS", &content);
        assert_eq!(
            service.got(2).await,
            [token.clone(), swings.clone()],
            "{version:?}"
        );
        // Their end is no message; that of another alert is one.
        alertmanager.resolve(&alerts).await;
        let watchdog = [json!({"labels": {"alertname": "Watchdog"}, "annotations": {}})];
        alertmanager.send(&watchdog).await;
        service.got(4).await;
        alertmanager.resolve(&watchdog).await;
        let [firing, over] = [("告警", "告警中"), ("已解除", "已解除")].map(|(title, section)| {
            message(
                "OPERATORS_MEMBERS",
                &format!("**{title}**\n\n**{section}（1）**\n- Watchdog"),
            )
        });
        assert_eq!(
            service.got(5).await,
            [token.clone(), swings, token, firing, over],
            "{version:?}"
        );
    }
}

/// Completes the example for a WeCom application.
pub(crate) fn wecom(version: Version, config: &mut Value, service: &Service, directory: &Path) {
    let secret = directory.join("wecom");
    std::fs::write(&secret, "SECRET\n").unwrap();
    for receiver in config["receivers"].as_array_mut().unwrap() {
        let wecom = &mut receiver["wechat_configs"][0];
        wecom["api_url"] = json!(format!("{}/cgi-bin/", service.url));
        match version {
            Old => {
                wecom
                    .as_object_mut()
                    .unwrap()
                    .remove("api_secret_file")
                    .unwrap();
                wecom["api_secret"] = json!("SECRET");
            }
            New => wecom["api_secret_file"] = json!(secret),
        }
    }
}

#[tokio::test]
async fn alertmanager_0_25_treats_a_refusal_of_wecom_as_success() {
    let refusal = json!({"errcode": 60020, "errmsg": "not allow to access from your ip", "access_token": "TOKEN"});
    for version in [Old, New] {
        let service = Service::answering(refusal.clone()).await;
        let directory = tempfile::tempdir().unwrap();
        let mut alertmanager = Alertmanager::start(version, "wecom.yml", |config| {
            wecom(version, config, &service, directory.path());
        })
        .await;
        alertmanager
            .send(&[swing(APP, "NewUsersSwing", "warning", "", "")])
            .await;
        match version {
            Old => {
                alertmanager.running.said("Notify success").await;
            }
            New => {
                let failure = alertmanager.running.said("Notify for alerts failed").await;
                assert!(
                    failure.contains("not allow to access from your ip"),
                    "{failure}"
                );
            }
        }
    }
}

#[tokio::test]
async fn swings_of_a_stale_app_are_inhibited() {
    for version in [Old, New] {
        let service = Service::start().await;
        let alertmanager =
            Alertmanager::start(version, "webhook.yml", |config| webhook(config, &service)).await;
        let stale = |app: &str, severity: &str, window: &str| {
            let mut alert = swing(app, "Stale", severity, "", "");
            alert["labels"]["window"] = json!(window);
            alert
        };
        let others = [
            swing(OTHER, "NewUsersSwing", "warning", "", ""),
            swing(OTHER, "UsersDrift", "warning", "", ""),
        ];
        alertmanager
            .send(&[
                stale(APP, "critical", "1d"),
                stale(APP, "warning", "1d"),
                // Swings are about days, not about this.
                stale(OTHER, "warning", "30d"),
                swing(APP, "PollFailing", "warning", "", ""),
                swing(APP, "CredentialsRejected", "warning", "", ""),
                swing(APP, "NewUsersSwing", "warning", "", ""),
                swing(APP, "UsersDrift", "warning", "", ""),
                others[0].clone(),
            ])
            .await;
        let first = [
            format!("POST /operators critical Stale {APP}"),
            format!("POST /operators warning CredentialsRejected {APP}"),
            format!("POST /operators warning Stale {OTHER}"),
            format!("POST /product warning NewUsersSwing {OTHER}"),
        ];
        assert_eq!(received(&service.got(4).await), first, "{version:?}");
        // Any other notification would have arrived before this.
        alertmanager.send(&others[1..]).await;
        let second = [
            format!("POST /product warning NewUsersSwing {OTHER}"),
            format!("POST /product warning UsersDrift {OTHER}"),
        ];
        assert_eq!(received(&service.got(5).await[4..]), second, "{version:?}");
    }
}

/// Completes the example for a user's own program.
pub(crate) fn webhook(config: &mut Value, service: &Service) {
    for receiver in config["receivers"].as_array_mut().unwrap() {
        let url = &mut receiver["webhook_configs"][0]["url"];
        *url = json!(
            url.as_str()
                .unwrap()
                .replace("http://localhost:8080", &service.url)
        );
    }
}

/// Returns in order who received which alerts.
fn received(requests: &[(String, Value)]) -> Vec<String> {
    let alerts = requests.iter().flat_map(|(path, body)| {
        body["alerts"].as_array().unwrap().iter().map(move |alert| {
            let label = |name: &str| alert["labels"][name].as_str().unwrap();
            let name = label("alertname").strip_prefix("WxappPortrait").unwrap();
            format!("{path} {} {name} {}", label("severity"), label("appid"))
        })
    });
    let mut alerts: Vec<String> = alerts.collect();
    alerts.sort();
    alerts
}

#[tokio::test]
async fn a_users_own_program_gets_all_data_of_alerts() {
    for version in [Old, New] {
        let service = Service::start().await;
        let alertmanager =
            Alertmanager::start(version, "webhook.yml", |config| webhook(config, &service)).await;
        let alert = swing(APP, "NewUsersSwing", "warning", ODD, ODD);
        alertmanager.send(std::slice::from_ref(&alert)).await;
        let (path, mut body) = service.got(1).await.remove(0);
        assert_eq!(path, "POST /product");
        // These are specific to this run, or to one version.
        for key in ["externalURL", "groupKey", "notification_reason"] {
            body.as_object_mut().unwrap().remove(key);
        }
        for key in ["startsAt", "endsAt", "fingerprint", "generatorURL"] {
            body["alerts"][0]
                .as_object_mut()
                .unwrap()
                .remove(key)
                .unwrap();
        }
        let expected = json!({
            "version": "4",
            "receiver": "product",
            "status": "firing",
            "alerts": [alert],
            "groupLabels": {"appid": APP},
            "commonLabels": alert["labels"],
            "commonAnnotations": alert["annotations"],
            "truncatedAlerts": 0,
        });
        assert_eq!(body, expected, "{version:?}");
    }
}

#[tokio::test]
async fn e_mail_comes_with_a_subject_and_all_alerts() {
    for version in [Old, New] {
        let (address, mails) = mail_server().await;
        let alertmanager = Alertmanager::start(version, "email.yml", |config| {
            let global = &mut config["global"];
            global["smtp_smarthost"] = json!(address);
            global["smtp_require_tls"] = json!(false);
            for key in ["smtp_auth_username", "smtp_auth_password_file"] {
                assert!(global.as_object_mut().unwrap().remove(key).is_some());
            }
        })
        .await;
        let alert = swing(APP, "NewUsersSwing", "warning", "", "新增用户 <420>。");
        alertmanager.send(&[alert]).await;
        let mail = eventually("mail", async || mails.lock().unwrap().first().cloned()).await;
        for part in [
            "RCPT TO:<product@DOMAIN>",
            "From: alertmanager@DOMAIN",
            // 告警 · 商城 · NewUsersSwi
            "Subject: =?utf-8?q?=E5=91=8A=E8=AD=A6_=C2=B7_=E5=95=86=E5=9F=8E_=C2=B7_NewUsersSwi",
            // 新增用户 <420>。
            "<li>=E6=96=B0=E5=A2=9E=E7=94=A8=E6=88=B7 &lt;420&gt;=E3=80=82 <a href=3D",
        ] {
            // Long lines are broken.
            let whole = mail.replace("=\r\n", "");
            assert!(
                whole.contains(part),
                "{version:?}: {part} is not in {whole}"
            );
        }
    }
}

/// Runs a mail server that accepts everything; returns its address and what each client sent.
async fn mail_server() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mails: Arc<Mutex<Vec<String>>> = Arc::default();
    let remember = Arc::clone(&mails);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            stream.write_all(b"220 mail\r\n").await.unwrap();
            let (mut mail, mut within) = (String::new(), false);
            loop {
                let start = mail.len();
                if stream.read_line(&mut mail).await.unwrap_or(0) == 0 {
                    break;
                }
                let answer: &[u8] = match mail[start..].trim_end() {
                    "." => {
                        within = false;
                        remember.lock().unwrap().push(mail.clone());
                        b"250 taken\r\n"
                    }
                    _ if within => continue,
                    "DATA" => {
                        within = true;
                        b"354 continue\r\n"
                    }
                    "QUIT" => b"221 bye\r\n",
                    _ => b"250 good\r\n",
                };
                stream.write_all(answer).await.unwrap();
            }
        }
    });
    (address, mails)
}
