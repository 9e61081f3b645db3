//! How the program starts, ends, and demonstrates itself.

use std::process::Command;
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};
use wxapp_portrait_exporter::language;
use wxapp_portrait_exporter::simulator::secret_of;

use crate::harness::{
    APP, Exporter, Home, OTHER, Running, WeChat, appid, asked_days, client, eventually,
    fake_wechat, on_one_day, program, serve, yesterday,
};

/// Lets a program run to its end; returns its exit code and all its output.
async fn end_of(command: Command) -> (Option<i32>, String) {
    let mut running = Running::start(command);
    let (end, _) = running.ended().await;
    let said = running.output();
    assert!(!said.contains(&secret_of(&appid(APP))), "{said}");
    (end.code(), said)
}

/// Ends an exporter by a signal, which must not take long.
async fn end_by(exporter: &mut Exporter, signal: &str) {
    exporter.running.signal(signal);
    let (end, duration) = exporter.running.ended().await;
    assert_eq!(end.code(), Some(0), "{}", exporter.running.output());
    assert!(duration < Duration::from_secs(5), "{signal}: {duration:?}");
}

#[tokio::test]
async fn sigterm_and_sigint_end_it_at_once() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    for signal in ["TERM", "INT"] {
        let mut exporter = home.start().await;
        exporter.ready().await;
        end_by(&mut exporter, signal).await;
        assert!(
            exporter
                .running
                .output()
                .contains("message=\"shutting down\"")
        );
    }
}

#[tokio::test]
async fn it_ends_while_wechat_hangs() {
    let wechat = WeChat::of(&[APP]).await;
    wechat.set_fault(APP, "delay=1h");
    let mut exporter = Home::of(&wechat, &[APP]).start().await;
    eventually("the request", async || {
        let requests = wechat.simulator.requests();
        (requests.get(APP)?.portrait > 0).then_some(())
    })
    .await;
    end_by(&mut exporter, "TERM").await;
}

#[tokio::test]
async fn it_ends_while_a_client_does_not_read() {
    on_one_day(async || {
        // A page larger than all buffers on the way.
        let row = |number| json!({"name": format!("{number:0256}"), "value": number});
        let rows: Vec<Value> = (0..2_000).map(row).collect();
        let half = json!({
            "province": rows, "city": rows, "genders": rows,
            "platforms": rows, "devices": rows, "ages": rows,
        });
        let answer = json!({
            "ref_date": yesterday().format("%Y%m%d").to_string(),
            "visit_uv_new": half,
            "visit_uv": half,
        });
        let (base_url, _stop) = fake_wechat(yesterday(), answer.to_string()).await;
        let mut exporter = Home::new(&base_url, &[APP]).start().await;
        eventually("the portrait on the page", async || {
            let (_, page) = exporter.get("/metrics").await;
            page.contains("wxapp_portrait_users{").then_some(())
        })
        .await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let address = exporter.url.strip_prefix("http://").unwrap();
        let mut idle = socket.connect(address.parse().unwrap()).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n";
        idle.write_all(request).await.unwrap();
        idle.readable().await.unwrap();
        end_by(&mut exporter, "TERM").await;
        let said = exporter.running.output();
        assert!(said.contains("requests under way were cut off"), "{said}");
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new("http://127.0.0.1:1", &[APP]);
    let mut command = home.command();
    command.args(["--web.listen-address", &address]);
    let (code, said) = end_of(command).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "cannot listen on {address}, choose another --web.listen-address: Address already in use"
        )),
        "{said}"
    );
}

#[tokio::test]
async fn the_health_check_distinguishes_a_live_exporter_from_everything_else() {
    let health = async |address: &str| {
        let mut command = program();
        command.args(["healthcheck", "--web.listen-address", address]);
        let (code, said) = end_of(command).await;
        (code.unwrap(), said)
    };
    // WeChat can't be reached: not ready, but alive.
    let home = Home::new("http://127.0.0.1:1", &[APP]);
    let exporter = home.start().await;
    let address = exporter.url.strip_prefix("http://").unwrap();
    assert_eq!(health(address).await, (0, String::new()));
    let (_, port) = address.split_once(':').unwrap();
    assert_eq!(health(&format!(":{port}")).await, (0, String::new()));
    drop(exporter);

    let (code, said) = health("127.0.0.1:1").await;
    assert_eq!(code, 1);
    let words = "on 127.0.0.1:1, start it or name its --web.listen-address: Connection refused";
    assert!(said.contains(words), "{said}");

    let (other, _stop) = serve(Router::new()).await;
    let (code, said) = health(&other).await;
    assert_eq!(code, 1);
    assert!(
        said.contains("responded with `HTTP/1.0 404 Not Found`"),
        "{said}"
    );

    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (code, said) = health(&mute.local_addr().unwrap().to_string()).await;
    assert_eq!(code, 1);
    assert!(said.contains("no response within 3s"), "{said}");
}

#[tokio::test]
async fn a_configuration_is_checked() {
    let mut home = Home::new("http://127.0.0.1:1", &[APP]);
    let check = |home: &Home| {
        let mut command = home.command();
        command.arg("--config.check");
        end_of(command)
    };
    let (code, said) = check(&home).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("wxapp-portrait.yml: valid, apps: 1"),
        "{said}"
    );
    assert!(!home.path("data").exists());

    home.config["poll"]["interval"] = json!("soon");
    home.config["apps"][0]["secret_file"] = json!("missing");
    let (code, said) = check(&home).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`soon` is not a duration"), "{said}");
    assert!(said.contains("missing: No such file"), "{said}");
    let (code, again) = end_of(home.command()).await;
    assert_eq!(code, Some(2));
    assert!(again.contains("`soon` is not a duration"), "{again}");

    let mut command = program();
    command.arg("--no.such.flag");
    assert_eq!(end_of(command).await.0, Some(2));
}

#[tokio::test]
async fn the_demo_needs_nothing_and_leaves_nothing() {
    on_one_day(async || {
        let temporary = tempfile::tempdir().unwrap();
        let mut command = program();
        command
            .arg("demo")
            .args([
                "--web.listen-address",
                "127.0.0.1:0",
                "--log.level",
                "debug",
            ])
            .env("TMPDIR", temporary.path())
            // No proxy is used for this host.
            .env_remove("NO_PROXY")
            .env("http_proxy", "http://127.0.0.1:1")
            .current_dir(temporary.path());
        let apps = [
            "wxdecade0000000001",
            "wxdecade0000000002",
            "wxdecade0000000003",
        ];
        let known = apps.map(appid).to_vec();
        let mut exporter = Exporter::start(command, known, None).await;
        let page = exporter.ready().await;
        for app in apps {
            assert!(page.users(Some(app)).len() > 100);
            for window in ["1d", "7d", "30d"] {
                let labels = [("appid", app), ("window", window)];
                let days = page.value("wxapp_portrait_archived_portraits", &labels);
                assert_eq!(days, Some(60.0), "{app} {window}");
            }
        }
        let iphones = |name, labels: [(&str, &str); 2]| {
            let iphones = [("appid", apps[1]), ("cohort", "active"), ("name", "iPhone")];
            page.value(name, &[&iphones[..], &labels].concat()).unwrap()
        };
        let of_window = [("window", "1d"), ("dimension", "platform")];
        let users = iphones("wxapp_portrait_users", of_window);
        let lower = [("bound", "lower"), ("appid", apps[1])];
        let lower = iphones("wxapp_portrait_expected_platform_users", lower);
        assert!(users < lower, "a swing yesterday: {users}, {lower}");
        // In the first minutes of a day nothing is due, as the day before is not requested yet.
        if asked_days() == 2 {
            exporter
                .metrics_with("the first polls", |page| {
                    let polls = page.series("wxapp_portrait_last_poll_success");
                    (polls.len() == 9 && polls.values().all(|success| *success > 0.0)).then_some(())
                })
                .await;
        }
        assert_eq!(exporter.get("/").await.0, 200);
        let said = exporter.running.output();
        for path in ["/", "/apps/wxdecade0000000002"] {
            let page = format!("  {}{path}\n", exporter.url);
            assert!(said.contains(&page), "{page}: {said}");
        }
        let after = format!("{} were active, ", language::rounded(users));
        assert!(said.contains(&after), "{after}: {said}");
        let lines = said.lines();
        let commands = lines.filter_map(|line| Some(line.split_once("  curl ")?.1));
        let mut found = Vec::new();
        for command in commands {
            let command = format!("curl --noproxy '*' {command}");
            let shell = std::process::Command::new("sh")
                .args(["-c", &command])
                .output();
            found.push(String::from_utf8(shell.unwrap().stdout).unwrap());
        }
        let [status, iphones] = &found[..] else {
            panic!("two commands: {said}");
        };
        assert!(
            status.contains("WxappPortraitPlatformUsersSwing"),
            "{status}"
        );
        assert!(
            iphones.contains(&format!("name=\"iPhone\"}} {users}\n")),
            "{iphones}"
        );
        assert!(iphones.contains("bound=\"lower\""), "{iphones}");
        assert!(!said.contains("85_"), "no token: {said}");
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 1);
        end_by(&mut exporter, "TERM").await;
        assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0);
    })
    .await;
}

#[tokio::test]
async fn every_outcome_is_a_line_of_the_log_in_logfmt_or_json() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "errcode=48001");
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["poll"]["interval"] = json!("1h");
        let day = yesterday().to_string();

        let mut exporter = home.start().await;
        exporter.ready().await;
        let arrived = format!(
            "message=\"portrait arrived\" appid={APP} app={APP} window=1d day={day} settled=false"
        );
        // The log is written by a thread of its own.
        exporter.running.said(&arrived).await;
        exporter.running.said("reason=permission").await;
        let said = exporter.running.output();
        assert_eq!(said.matches(&arrived).count(), 1, "{said}");
        let failed = said.lines().find(|line| line.contains("reason=permission"));
        let failed = failed.unwrap();
        assert!(
            failed.contains(" level=warn ")
                && failed.contains(&format!(
                    "message=\"poll failed\" appid={OTHER} app={OTHER} window=1d day="
                ))
        );
        drop(exporter);

        let mut command = home.command();
        command.args(["--log.format", "json"]);
        let mut running = Running::start(command);
        running.said("\"message\":\"listening\"").await;
        running.said("\"reason\":\"permission\"").await;
        let said = running.output();
        let lines: Vec<Value> = said
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let failed = lines
            .iter()
            .find(|line| line["reason"] == "permission")
            .unwrap();
        assert_eq!(failed["level"], "warn");
        assert_eq!(failed["message"], "poll failed");
        assert_eq!(failed["errcode"], 48001);
        let keys: Vec<&String> = failed.as_object().unwrap().keys().collect();
        for key in ["ts", "appid", "app", "window", "day", "rid", "hint"] {
            assert!(keys.contains(&&key.to_owned()), "{key}: {failed}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_failure_that_lasts_is_logged_when_it_begins_and_when_it_ends() {
    let wechat = WeChat::of(&[APP]).await;
    wechat.set_fault(APP, "errcode=61504");
    let mut home = Home::of(&wechat, &[APP]);
    home.config["poll"]["interval"] = json!("1s");
    let mut exporter = home.start().await;
    exporter
        .metrics_with("more polls", |page| {
            let polls = page.value("wxapp_portrait_polls_total", &[])?;
            (polls >= 4.0).then_some(())
        })
        .await;
    wechat.simulator.clear_faults(&appid(APP));
    // How many polls follow depends on the hour.
    exporter.running.said("polls succeed again").await;
    exporter.running.said("polls since the last summary").await;
    let said = exporter.running.output();
    let lines = |message: &str| said.matches(&format!("message=\"{message}\"")).count();
    assert_eq!(lines("poll failed"), 1, "{said}");
    assert_eq!(lines("polls succeed again"), 1, "{said}");
}

#[tokio::test]
async fn a_reader_of_the_log_that_stops_reading_stops_nothing_else() {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    home.config["poll"]["interval"] = json!("1s");
    let mut command = home.command();
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    // Nobody reads the pipe, which is full before the first line.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    let full = writer.try_clone().unwrap();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let _ = writer.write_all(&vec![b'\n'; 1 << 20]);
    });
    command.stderr(full);
    let mut exporter = command.spawn().unwrap();
    eventually("readiness", async || {
        let url = format!("http://127.0.0.1:{port}/-/ready");
        let response = client().get(url).send().await.ok()?;
        response.status().is_success().then_some(())
    })
    .await;
    exporter.kill().unwrap();
    exporter.wait().unwrap();
}

#[tokio::test]
async fn a_second_exporter_on_the_same_archive_is_refused() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    let exporter = home.start().await;
    exporter.ready().await;
    let data = home.path("data");
    let words = format!(
        "another exporter uses the archive in {}: stop it, or use another --storage.path",
        data.display()
    );
    let mut demo = program();
    demo.arg("demo").arg("--storage.path").arg(&data);
    demo.args(["--web.listen-address", "127.0.0.1:0"]);
    for command in [home.command(), demo] {
        let (code, said) = end_of(command).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&words), "{said}");
    }
    let mut export = home.command_of("export");
    export.args(["--format", "csv"]);
    let (code, said) = end_of(export).await;
    assert_eq!(code, Some(0), "{said}");

    // Whoever empties the directory takes the lock away, too.
    for file in std::fs::read_dir(&data).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    eventually("another lock", async || {
        data.join("portraits.db.lock").is_file().then_some(())
    })
    .await;
    let (code, said) = end_of(home.command()).await;
    assert_eq!(code, Some(1), "{said}");
}

#[tokio::test]
async fn a_hangup_reads_the_configuration_again_and_does_not_end_the_program() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    let mut exporter = home.start().await;
    exporter.running.signal("HUP");
    exporter.running.said("configuration reloaded").await;
    exporter.ready().await;
}

#[tokio::test]
async fn the_simulator_knows_its_apps_and_ends_while_it_delays_an_answer() {
    let simulate = |flags: &[&str]| {
        let mut command = program();
        command.arg("simulate").args(["--app", APP]).args(flags);
        command.args(["--web.listen-address", "127.0.0.1:0"]);
        command
    };
    let fault = format!("{OTHER}=cut");
    let (code, said) = end_of(simulate(&["--fault", &fault])).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains(&format!("{OTHER} is not simulated: add --app {OTHER}")));

    let fault = format!("{APP}=token:delay=1h");
    let mut running = Running::start(simulate(&["--fault", &fault]));
    let address = running
        .said("message=\"listening as WeChat\" address=")
        .await;
    let address = address.split(' ').next().unwrap().to_owned();
    let url = format!("http://{address}");
    let exporter = Home::new(&url, &[APP]).start().await;
    let asked = async || {
        let counts = client().get(format!("{url}/simulator/requests"));
        let counts = counts.send().await.unwrap().text().await.unwrap();
        let counts: Value = serde_json::from_str(&counts).unwrap();
        (counts[APP]["token"].as_u64()? > 0).then_some(())
    };
    eventually("a request", asked).await;
    running.signal("TERM");
    let (end, duration) = running.ended().await;
    assert_eq!(end.code(), Some(0));
    assert!(duration < Duration::from_secs(5), "{duration:?}");
    drop(exporter);
}
