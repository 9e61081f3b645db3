//! How Prometheus discovers the apps, and how several exporters divide them.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{APP, Exporter, Home, OTHER, Prometheus, Reader, WeChat, eventually};

/// Of the first of two shards are the first three, of the second the last.
const APPS: [&str; 4] = [APP, OTHER, "wx3123456789abcdef", "wx2123456789abcdef"];

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

async fn start(home: &Home, flags: &[&str]) -> Exporter {
    let mut command = home.command();
    command.args(flags);
    let mut exporter = Exporter::start(command, Vec::new(), None).await;
    exporter.keep(home);
    exporter
}

fn address(exporter: &Exporter) -> &str {
    exporter.url.strip_prefix("http://").unwrap()
}

async fn targets(exporter: &Reader, path: &str) -> Vec<Value> {
    let (status, text) = exporter.get(path).await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Returns the appids of targets.
fn apps_of(targets: &[Value]) -> Vec<&str> {
    let apps = targets.iter();
    let apps = apps.map(|target| target["labels"]["__param_target"].as_str().unwrap());
    apps.collect()
}

/// Sends a request as it is; returns what is received.
async fn send(exporter: &Exporter, request: &str) -> String {
    let mut stream = TcpStream::connect(address(exporter)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn prometheus_scrapes_each_of_a_thousand_apps_from_one_of_three_shards() {
    let apps: Vec<String> = (0..1000).map(|n| format!("wx{n:016x}")).collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    let mut exporters = Vec::new();
    for shard in ["portraits-0", "portraits-1", "2"] {
        let mut home = Home::new(NOWHERE, &apps);
        home.config["poll"]["interval"] = json!("1h");
        home.config["apps"][7]["name"] = json!("商城");
        home.config["apps"][7]["labels"] = json!({"team": "零售", "_tier": "01"});
        let flags = ["--shard", shard, "--total-shards", "3"];
        exporters.push(start(&home, &flags).await);
    }
    let discoveries = exporters
        .iter()
        .map(|exporter| json!({"url": format!("{}/sd", exporter.url)}));
    let own = exporters.iter().map(address);
    let prometheus = Prometheus::over(
        tempfile::tempdir().unwrap(),
        &json!({
            "global": {"scrape_interval": "5s", "scrape_timeout": "5s"},
            "scrape_configs": [{
                "job_name": "wxapp",
                "params": {"collect[]": ["exporter"]},
                "http_sd_configs": discoveries.collect::<Vec<_>>(),
                "static_configs": [{"targets": own.collect::<Vec<_>>()}],
                "relabel_configs": [
                    {"source_labels": ["__meta_wxapp_app"], "target_label": "name"},
                    {"regex": "__meta_wxapp_label_(.+)", "replacement": "of_$1", "action": "labelmap"},
                ],
            }],
        }),
    );
    prometheus.query("count(up == 1) == 1003").await;
    prometheus
        .query("count(wxapp_portrait_app_info) == 1000")
        .await;
    let sizes = prometheus
        .query("count by (exporter) (label_replace(wxapp_portrait_app_info, 'exporter', '$1', 'instance', '(.+)/.+'))")
        .await;
    let mut sizes: Vec<f64> = sizes.into_values().collect();
    sizes.sort_by(f64::total_cmp);
    assert_eq!(sizes, [329.0, 333.0, 338.0]);
    prometheus
        .query("sum(wxapp_portrait_shard_ordinal < on (job, instance) wxapp_portrait_total_shards) == 3")
        .await;

    let found = targets_of(&prometheus).await;
    assert_eq!(found.len(), 1003);
    let exporter = exporters
        .iter()
        .find(|exporter| found.contains_key(&format!("{}/{}", address(exporter), apps[7])));
    let address = address(exporter.unwrap());
    let target = &found[&format!("{address}/{}", apps[7])];
    let url = format!(
        "http://{address}/probe?collect%5B%5D=exporter&target={}",
        apps[7]
    );
    assert_eq!(target["scrapeUrl"], url);
    assert_eq!(
        target["labels"],
        json!({
            "job": "wxapp",
            "instance": format!("{address}/{}", apps[7]),
            "name": "商城",
            "of_team": "零售",
            "of__tier": "01",
        })
    );
    // No label of a page was renamed.
    for label in ["instance", "app", "team"] {
        let renamed = format!("{{exported_{label}!=''}}");
        let renamed = prometheus.ask("query", &[("query", &renamed)]).await;
        assert_eq!(renamed["data"]["result"], json!([]), "{label}");
    }
}

/// Returns the targets of a Prometheus by their instances.
async fn targets_of(prometheus: &Prometheus) -> BTreeMap<String, Value> {
    let url = format!("{}/api/v1/targets?state=active", prometheus.url);
    let answer = crate::harness::client().get(url).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let targets = answer["data"]["activeTargets"].as_array().unwrap().iter();
    let by_instance = targets.map(|target| {
        let instance = target["labels"]["instance"].as_str().unwrap();
        (instance.to_owned(), target.clone())
    });
    by_instance.collect()
}

#[tokio::test]
async fn a_target_says_how_its_app_is_scraped() {
    let mut home = Home::new(NOWHERE, &[OTHER, APP]);
    home.config["apps"][0]["name"] = json!("商城 \"1\"");
    home.config["apps"][0]["labels"] = json!({"team": "零售"});
    let exporter = start(&home, &[]).await;
    let address = address(&exporter);
    let target = |app: &str, name: &str, host: &str| {
        json!({
            "targets": [host],
            "labels": {
                "__scheme__": "http",
                "__metrics_path__": "/probe",
                "__param_target": app,
                "__meta_wxapp_app": name,
                "instance": format!("{host}/{app}"),
            },
        })
    };
    let expected = |host: &str| {
        let mut all = [target(APP, APP, host), target(OTHER, "商城 \"1\"", host)];
        all[1]["labels"]["__meta_wxapp_label_team"] = json!("零售");
        json!(all)
    };
    for encoding in ["identity", "gzip"] {
        let response = exporter.ask("GET", "/sd", encoding).await;
        assert_eq!(response.status(), 200);
        let headers = response.headers().clone();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers.get_all("content-type").iter().count(), 1);
        assert_eq!(headers["vary"], "accept-encoding");
        assert_eq!(headers.contains_key("content-encoding"), encoding == "gzip");
        if encoding == "identity" {
            let text = response.text().await.unwrap();
            let found: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(found, expected(address));
        }
    }
    let head = exporter.ask("HEAD", "/sd?x=y", "identity").await;
    assert_eq!(
        (head.status(), head.text().await.unwrap()),
        (200.try_into().unwrap(), String::new())
    );
    assert_eq!(exporter.ask("POST", "/sd", "identity").await.status(), 405);

    let get = "GET /sd HTTP/1.1\r\nConnection: close\r\n";
    // What a proxy or anybody else adds changes nothing.
    let forwarded = "X-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nForwarded: host=evil;proto=https\r\n";
    let text = send(
        &exporter,
        &format!("{get}{forwarded}Host: portraits\r\n\r\n"),
    )
    .await;
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    let found: Value = serde_json::from_str(body).unwrap();
    assert_eq!(found, expected("portraits:80"));
    for bad in [
        "GET /sd HTTP/1.0\r\n\r\n".to_owned(),
        format!("{get}\r\n"),
        format!("{get}Host: a/<script>\r\n\r\n"),
        format!("{get}Host: evil@a\r\n\r\n"),
        format!("{get}Host: a\r\nHost: b\r\n\r\n"),
    ] {
        let text = send(&exporter, &bad).await;
        assert!(
            text.starts_with("HTTP/1.1 400") || text.starts_with("HTTP/1.0 400"),
            "{bad}{text}"
        );
        assert!(!text.contains("script") && !text.contains("evil"), "{text}");
    }
    let text = send(&exporter, "GET /sd HTTP/1.0\r\n\r\n").await;
    assert!(
        text.ends_with("start the exporter with --web.external-url\n"),
        "{text}"
    );
}

#[tokio::test]
async fn targets_are_below_the_prefix_and_at_the_external_url() {
    let home = Home::new(NOWHERE, &[APP]);
    for (flags, path, expected) in [
        (
            &["--web.route-prefix=/a"][..],
            "/a/sd",
            "http HERE /a/probe",
        ),
        (
            &["--web.external-url=https://portraits.example.com/wx/"],
            "/wx/sd",
            "https portraits.example.com:443 /wx/probe",
        ),
        (
            &[
                "--web.external-url=http://portraits.example.com:8080/wx",
                "--web.route-prefix=/",
            ],
            "/sd",
            "http portraits.example.com:8080 /wx/probe",
        ),
    ] {
        let mut command = home.command();
        command.args(flags);
        let mut running = crate::harness::Running::start(command);
        let address = running.said("message=listening address=").await;
        let exporter = Reader::new(format!("http://{address}"), Vec::new(), None);
        let found = targets(&exporter, path).await;
        let labels = &found[0]["labels"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found_at = [
            text(&labels["__scheme__"]),
            text(&found[0]["targets"][0]),
            text(&labels["__metrics_path__"]),
        ];
        assert_eq!(found_at.join(" "), expected.replace("HERE", &address));
        let instance = format!("{}/{APP}", found_at[1]);
        assert_eq!(labels["instance"], instance);
    }
}

#[tokio::test]
async fn an_exporter_polls_and_serves_the_apps_of_its_shard_also_after_a_reload() {
    let wechat = WeChat::of(&APPS).await;
    let mut home = Home::of(&wechat, &APPS[..3]);
    let mut exporters = Vec::new();
    let mut second = Home::of(&wechat, &APPS);
    for (home, shard) in [(&home, "0"), (&second, "portraits-1")] {
        let exporter = start(home, &["--shard", shard, "--total-shards", "2"]).await;
        exporter.ready().await;
        exporters.push(exporter);
    }
    let log = exporters[0].running.output();
    assert!(log.contains("apps=3 shard=0 total_shards=2"), "{log}");
    let log = exporters[1].running.output();
    assert!(log.contains("apps=1 shard=1 total_shards=2"), "{log}");
    let page = exporters[1].metrics().await;
    assert_eq!(page.value("wxapp_portrait_shard_ordinal", &[]), Some(1.0));
    assert_eq!(page.value("wxapp_portrait_total_shards", &[]), Some(2.0));
    assert_eq!(page.series("wxapp_portrait_app_info").len(), 1);
    let (_, config) = exporters[1].get("/config").await;
    for app in APPS {
        // It is the configuration, whatever shard an app belongs to.
        assert!(config.contains(app), "{config}");
        let is_second = app == APPS[3];
        for path in [
            format!("/probe?target={app}"),
            format!("/apps/{app}?lang=en"),
        ] {
            let (status, text) = exporters[1].get(&path).await;
            assert_eq!(status, if is_second { 200 } else { 404 }, "{path}");
            let is_explained = text.contains("is an app of shard 0 of 2");
            assert_eq!(is_explained, !is_second, "{path}: {text}");
        }
    }
    let (_, overview) = exporters[1].get("/?lang=en").await;
    assert!(overview.contains("This is shard 1 of 2;"), "{overview}");
    assert_eq!(apps_of(&targets(&exporters[0], "/sd").await), APPS[..3]);
    assert_eq!(apps_of(&targets(&exporters[1], "/sd").await), APPS[3..]);

    // The first is given the app of the second, and the second is left without.
    let apps = second.config["apps"].as_array_mut().unwrap();
    home.config["apps"][2] = apps.pop().unwrap();
    for (home, exporter, expected) in [
        (&home, &exporters[0], &APPS[..2]),
        (&second, &exporters[1], &[]),
    ] {
        home.configure();
        let response = exporter.ask("POST", "/-/reload", "identity").await;
        assert_eq!(response.status(), 200);
        assert_eq!(apps_of(&targets(exporter, "/sd").await), expected);
    }
    exporters[1].ready().await;
}

#[tokio::test]
async fn a_shard_without_apps_serves_and_says_so() {
    let home = Home::new(NOWHERE, &[APP]);
    let exporter = start(&home, &["--shard=1", "--total-shards=2"]).await;
    assert_eq!(exporter.get("/-/ready").await.0, 200);
    assert_eq!(exporter.get("/sd").await, (200, "[]".to_owned()));
    assert_eq!(exporter.get("/").await.0, 200);
    let log = exporter.running.output();
    let line = "message=\"none of the configured apps belongs to this shard\" configured=1";
    assert!(log.contains(line), "{log}");
}

#[test]
fn a_shard_that_does_not_exist_is_a_wrong_usage() {
    let home = Home::new(NOWHERE, &APPS);
    for (flags, problem) in [
        (&["--shard=1"][..], "--shard 1 needs --total-shards"),
        (
            &["--shard=portraits-3", "--total-shards=3"],
            "--shard 3: --total-shards 3 has the ordinals 0 to 2",
        ),
        (&["--total-shards=0"], "--total-shards <NUMBER>"),
        (&["--shard=one"], "--shard <[NAME-]ORDINAL>"),
    ] {
        let output = run(home.command().args(flags));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(problem), "{text}");
    }
    let check = |flags: &[&str]| {
        let mut command = home.command();
        let output = run(command.arg("--config.check").args(flags));
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(check(&["--shard=a-0"]).ends_with(": valid, apps: 4\n"));
    let of_one = check(&["--shard=0", "--total-shards=2"]);
    assert!(
        of_one.ends_with(": valid, apps: 4, of which 3 are of shard 0 of 2\n"),
        "{of_one}"
    );
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

#[tokio::test]
async fn the_demo_has_shards_too() {
    let mut command = crate::harness::program();
    command.args(["demo", "--web.listen-address=127.0.0.1:0"]);
    command.args(["--shard=1", "--total-shards=3"]);
    let mut running = crate::harness::Running::start(command);
    let address = running.said("message=listening address=").await;
    let exporter = Reader::new(format!("http://{address}"), Vec::new(), None);
    let found = eventually("targets", async || Some(targets(&exporter, "/sd").await)).await;
    assert_eq!(apps_of(&found), ["wxdecade0000000001"]);
}
