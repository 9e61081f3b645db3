//! What `export` writes and `import` reads, on the command line.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use rusqlite::Connection;
use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{
    APP, Home, OTHER, Prometheus, WeChat, backfill, eventually, on_one_day, quoted, root, yesterday,
};
use crate::rules;

/// What the bundled rules record for the charts of all apps.
const RECORDED: &str = "appid_cohort_weekday:wxapp_portrait_cohort_users:max";

fn export(home: &Home, arguments: &[&str]) -> Output {
    home.command_of("export").args(arguments).output().unwrap()
}

/// Returns the output of a successful export.
fn exported(home: &Home, arguments: &[&str]) -> String {
    let output = export(home, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn import(home: &Home, arguments: &[&str], path: &Path) -> Output {
    let mut command = home.command_of("import");
    command.args(arguments).arg(path).output().unwrap()
}

/// Returns the message of a command that must fail with this exit code.
#[track_caller]
fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn days_ago(days: u64) -> String {
    calendar::days_before(yesterday(), days).to_string()
}

/// Returns the series of a query over ten days, without their names.
async fn hourly(prometheus: &Prometheus, query: &str) -> Vec<Value> {
    let [start, end] = [10, 0].map(|days| {
        let day = calendar::days_before(yesterday(), days);
        calendar::midnight(day).timestamp().to_string()
    });
    let time = [("start", &*start), ("end", &end), ("step", "1h")];
    let parameters = [&[("query", query)], &time[..]].concat();
    let mut answer = prometheus.ask("query_range", &parameters).await;
    let Value::Array(mut series) = answer["data"]["result"].take() else {
        panic!("{answer}")
    };
    for series in &mut series {
        series["metric"].as_object_mut().unwrap().remove("__name__");
    }
    series
}

#[tokio::test]
async fn an_imported_export_is_exported_as_the_same_bytes() {
    on_one_day(async || {
        let wechat = WeChat::of(&["wx0123456789abcdef=60", "wx1123456789abcdef=300"]).await;
        let home = Home::of(&wechat, &[]);
        home.archive(&wechat, &[APP, OTHER], 12);
        let lines = exported(&home, &["--format", "jsonl"]);
        let other = Home::of(&wechat, &[]);
        let file = other.path("history.jsonl");
        fs::write(&file, &lines).unwrap();
        let output = import(&other, &[], &file);
        let message = String::from_utf8(output.stdout).unwrap();
        assert!(
            message.starts_with("Imported 72 of 72 days of 2 apps in 1 file into "),
            "{message}"
        );
        assert!(exported(&other, &["--format", "jsonl"]) == lines);
        // Samples end now, unless the last day is over.
        let to = days_ago(6);
        for format in ["csv", "openmetrics"] {
            let arguments = ["--format", format, "--to", &to];
            assert!(
                exported(&home, &arguments) == exported(&other, &arguments),
                "{format}"
            );
        }

        let output = import(&other, &[], &file);
        let message = String::from_utf8(output.stdout).unwrap();
        assert!(message.starts_with("Imported 0 of 72 days"), "{message}");
        assert!(message.contains("already has the others"), "{message}");
        assert!(exported(&other, &["--format", "jsonl"]) == lines);
    })
    .await;
}

#[tokio::test]
async fn an_export_has_what_the_rules_would_have_recorded() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let home = Home::of(&wechat, &[]);
        home.archive(&wechat, &[APP, OTHER], 15);
        let (samples, blocks) = (home.path("samples"), tempfile::tempdir().unwrap());
        let format = ["--format", "openmetrics", "--dimension", "platform"];
        let mut text = exported(&home, &format);
        fs::write(&samples, &text).unwrap();
        backfill(&samples, blocks.path());
        let prometheus = Prometheus::over(blocks, &json!({}));
        let recorded = hourly(&prometheus, RECORDED).await;
        assert_eq!(recorded.len(), 2 * 2 * 7, "apps, cohorts and weekdays");
        let mut rules = rules::all_rules().into_iter().map(|(_, rule)| rule);
        let rule = rules.find(|rule| rule["record"] == RECORDED).unwrap();
        let rule = rule["expr"].as_str().unwrap();
        assert_eq!(hourly(&prometheus, rule).await, recorded);

        // One of another window has none.
        text = exported(&home, &["--format", "openmetrics", "--window", "7d"]);
        assert!(!text.contains(&format!("{RECORDED}{{")), "{text}");
    })
    .await;
}

#[tokio::test]
async fn prometheus_finds_the_name_and_the_labels_of_a_configured_app_wherever_an_export_has_its_days()
 {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        let mut home = Home::of(&wechat, &[APP]);
        home.archive(&wechat, &[APP, OTHER], 5);
        home.config["apps"][0]["name"] = json!("商城 \"A\\B\"");
        home.config["apps"][0]["labels"] = json!({"team": "零售", "city": "广州"});
        let config = home.configure();
        let (samples, blocks) = (home.path("samples"), tempfile::tempdir().unwrap());
        let mut arguments = vec!["--format", "openmetrics", "--dimension", "platform"];
        let without = exported(&home, &arguments);
        assert!(!without.contains("wxapp_portrait_app_info"));
        arguments.extend(["--config.file", config.to_str().unwrap()]);
        fs::write(&samples, exported(&home, &arguments)).unwrap();
        backfill(&samples, blocks.path());
        let prometheus = Prometheus::over(blocks, &json!({}));

        let infos = hourly(&prometheus, "wxapp_portrait_app_info").await;
        let dates = "max by (appid) (wxapp_portrait_reference_date_timestamp_seconds) ^ 0";
        let dates = hourly(&prometheus, dates).await;
        let date = dates.iter().find(|date| date["metric"]["appid"] == APP);
        let labels = json!({"appid": APP, "app": "商城 \"A\\B\"", "team": "零售", "city": "广州"});
        let expected = json!({"metric": labels, "values": date.unwrap()["values"]});
        assert_eq!(infos, [expected]);
    })
    .await;
}

#[tokio::test]
async fn rows_are_imported_from_standard_input() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 3);
    let lines = exported(&home, &["--format", "jsonl"]);
    let other = Home::of(&wechat, &[]);
    let import = |lines: &str| {
        let file = other.path("piped");
        fs::write(&file, lines).unwrap();
        let mut command = other.command_of("import");
        command.arg("-").stdin(fs::File::open(&file).unwrap());
        command.output().unwrap()
    };
    let message = failed(&import(&lines.replacen("new", "old", 1)), 1);
    assert!(
        message.contains("file=- line=1 problem=\"not a row of an export"),
        "{message}"
    );
    assert!(import(&lines).status.success());
    assert!(exported(&other, &["--format", "jsonl"]) == lines);
}

#[tokio::test]
async fn an_export_has_exactly_what_was_selected() {
    on_one_day(async || {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP, OTHER], 10);
    let (from, to) = (days_ago(7), days_ago(5));
    let csv = exported(
        &home,
        &[
            "--format",
            "csv",
            "--appid",
            OTHER,
            "--window",
            "7d",
            "--from",
            &from,
            "--to",
            &to,
            "--dimension",
            "age",
            "--dimension",
            "gender",
        ],
    );
    let mut lines = csv.lines();
    assert_eq!(
        lines.next(),
        Some(
            "appid,app,window,reference_date,cohort,dimension,name,users,first_answered_at,answered_at,settled,revisions"
        )
    );
    let mut expected = Vec::new();
    for days in [7, 6, 5] {
        let day = calendar::days_before(yesterday(), days);
        for (labels, users) in wechat.users(OTHER, Window::SevenDays, day) {
            if ["age", "gender"].contains(&labels["dimension"].as_str()) {
                let [cohort, dimension, name] =
                    ["cohort", "dimension", "name"].map(|label| &labels[label]);
                expected.push(format!(
                    "{OTHER},{OTHER},7d,{day},{cohort},{dimension},{name},{users},"
                ));
            }
        }
    }
    let mut found: Vec<String> = lines.map(str::to_owned).collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected), "{found} {expected}");
    }
    let to_the_end = exported(&home, &["--format", "openmetrics", "--to", "9999-12-31"]);
    assert!(to_the_end.contains(OTHER), "all days are before that one");
    })
    .await;
}

#[tokio::test]
async fn an_export_has_the_names_of_apps_and_is_read_by_excel() {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    home.archive(&wechat, &[APP], 2);
    home.config["apps"][0]["name"] = json!("商城");
    let config = home.configure();
    let config = config.to_str().unwrap();
    let csv = exported(
        &home,
        &["--format", "csv", "--bom", "--config.file", config],
    );
    let lines = csv.strip_prefix('\u{feff}').unwrap();
    assert!(lines.starts_with("appid,app,window,"), "{lines}");
    let start = format!("{APP},商城,");
    assert!(lines.lines().skip(1).all(|line| line.starts_with(&start)));
    let output = export(&home, &["--format", "jsonl", "--bom"]);
    let message = failed(&output, 2);
    assert!(
        message.contains("--bom is for --format csv only"),
        "{message}"
    );
    let output = export(&home, &["--format", "csv", "--appid", OTHER]);
    let message = failed(&output, 1);
    let words = format!("the archive has no day of {OTHER}: check the appid");
    assert!(message.contains(&words), "{message}");
}

#[tokio::test]
async fn a_compressed_export_is_imported() {
    let wechat = WeChat::of(&[APP]).await;
    let (home, other) = (Home::of(&wechat, &[]), Home::of(&wechat, &[]));
    home.archive(&wechat, &[APP], 3);
    fs::create_dir(other.path("data")).unwrap();
    let lines = exported(&home, &["--format", "jsonl"]);
    let directory = home.path("compressed");
    fs::create_dir(&directory).unwrap();
    let file = directory.join("days.jsonl.gz");
    exported(&home, &["--format", "jsonl", "-o", file.to_str().unwrap()]);
    assert!(fs::read(&file).unwrap().starts_with(b"\x1f\x8b"));
    let output = import(&other, &[], &directory);
    assert!(output.status.success(), "{output:?}");
    assert!(exported(&other, &["--format", "jsonl"]) == lines);

    let output = export(&home, &["--format", "jsonl", "--gzip"]);
    let mut text = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&*output.stdout);
    std::io::Read::read_to_string(&mut decoder, &mut text).unwrap();
    assert!(text == lines);
}

#[tokio::test]
async fn a_line_that_is_too_long_is_not_read() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    for (name, end) in [("long.jsonl", "\"}"), ("long.json", "")] {
        let file = home.path(name);
        fs::write(&file, format!("{{\"a\":\"{}{end}", "x".repeat(9 << 20))).unwrap();
        let message = failed(&import(&home, &["--appid", APP], &file), 1);
        assert!(message.contains("longer than 8 MiB"), "{message}");
    }
}

#[tokio::test]
async fn both_work_while_the_exporter_runs() {
    on_one_day(async || {
        let wechat = WeChat::of(&["wx0123456789abcdef=200"]).await;
        let source = Home::of(&wechat, &[]);
        source.archive(&wechat, &[APP], 30);
        let mut home = Home::of(&wechat, &[APP]);
        // The window of past users is not the first that is maintained.
        home.config["windows"] = json!(["7d", "1d"]);
        let exporter = home.start().await;
        let page = exporter.ready().await;
        assert_eq!(
            page.value(
                "wxapp_portrait_past_users",
                &[("days_ago", "7"), ("cohort", "new"), ("name", "iPhone")]
            ),
            None
        );

        let lines = exported(&home, &["--format", "jsonl", "--from", &days_ago(0)]);
        let found = lines.lines().map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["users"].as_f64().unwrap()
        });
        let mut shown = wechat.users(APP, Window::OneDay, yesterday());
        shown.extend(wechat.users(APP, Window::SevenDays, yesterday()));
        // Whole numbers, so the order does not matter.
        let sums = [found.sum::<f64>(), shown.values().sum()];
        assert_eq!(sums[0].to_string(), sums[1].to_string());

        let file = home.path("history.jsonl");
        fs::write(&file, exported(&source, &["--format", "jsonl"])).unwrap();
        let output = import(&home, &[], &file);
        assert!(output.status.success(), "{output:?}");
        let week_ago = calendar::days_before(yesterday(), 7);
        let mut expected = wechat.users(APP, Window::OneDay, week_ago);
        expected.retain(|labels, _| {
            labels["dimension"] == "platform"
                && labels["name"] == "iPhone"
                && labels["cohort"] == "new"
        });
        let users = expected.into_values().next().unwrap();
        exporter
            .metrics_with("the imported days", |page| {
                let labels = [("days_ago", "7"), ("cohort", "new"), ("name", "iPhone")];
                let past = page.value("wxapp_portrait_past_users", &labels)?;
                (past.to_string() == users.to_string()).then_some(())
            })
            .await;
        // The window of the status may have been read in the middle of the import.
        let status = eventually("all days in the status", async || {
            let status = exporter.window_status(APP).await;
            (status["archived"]["days"] == 30).then_some(status)
        })
        .await;
        assert_eq!(status["archived"]["first_day"], days_ago(29));
        assert_eq!(status["archived"]["last_day"], days_ago(0));
        assert_eq!(status["archived"]["gaps"], json!([]));
    })
    .await;
}

#[tokio::test]
async fn an_export_that_fails_does_not_change_the_file_of_the_last_one() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[]);
        let output = export(&home, &["--format", "csv"]);
        assert!(
            failed(&output, 1).contains("there is no archive"),
            "{output:?}"
        );
        assert!(!home.path("data").exists());

        home.archive(&wechat, &[APP], 3);
        let file = home.path("users.csv");
        let name = file.to_str().unwrap().to_owned();
        exported(
            &home,
            &["--format", "csv", "--window", "1d", "--output", &name],
        );
        let whole = fs::read_to_string(&file).unwrap();
        assert!(whole.lines().count() > 100);

        let output = export(
            &home,
            &[
                "--format",
                "csv",
                "--output",
                home.archive_file().to_str().unwrap(),
            ],
        );
        assert!(
            failed(&output, 1).contains("it is the archive"),
            "{output:?}"
        );
        // One answer that can't be read does not prevent the export of others.
        let archive = Connection::open(home.archive_file()).unwrap();
        let day = days_ago(1);
        archive
        .execute(
            "UPDATE portraits SET answer = x'7bff7d' WHERE reference_date = ?1 AND window = '1d'",
            [&day],
        )
        .unwrap();
        let output = export(
            &home,
            &["--format", "csv", "--window", "1d", "--output", &name],
        );
        let message = failed(&output, 1);
        assert!(
            message.contains("1 archived responses cannot be read") && message.contains(&day),
            "{message}"
        );
        let rest: String = whole
            .lines()
            .filter(|line| !line.contains(&format!(",{day},")))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert!(fs::read_to_string(&file).unwrap() == rest);

        drop(archive);
        fs::write(home.archive_file(), "no database\n".repeat(1000)).unwrap();
        let output = export(&home, &["--format", "csv", "--output", &name]);
        assert!(failed(&output, 1).contains("it is damaged"), "{output:?}");
        assert!(fs::read_to_string(&file).unwrap() == rest);
        assert!(
            home.archive_file().is_file(),
            "it is the exporter that sets it aside"
        );
        let files = fs::read_dir(home.path("")).unwrap().count();
        assert_eq!(files, 2, "nothing but the archive and the last export");
    })
    .await;
}

#[tokio::test]
async fn invalid_flags_and_outputs_are_reported() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 3);
    for (arguments, code, expected) in [
        (
            &["--format", "csv", "--step", "5m"][..],
            2,
            "--step is for --format openmetrics only",
        ),
        (
            &["--format", "openmetrics", "--to", "+262142-12-31"],
            2,
            "expected a day such as 2026-11-01",
        ),
        (
            &["--format", "openmetrics", "--step", "1s"],
            2,
            "expected whole seconds from 1m to 1d",
        ),
        (
            &[
                "--format",
                "csv",
                "--from",
                "2026-02-02",
                "--to",
                "2026-02-01",
            ],
            2,
            "--from 2026-02-02 is later than --to 2026-02-01",
        ),
        (
            &["--format", "csv", "--window", "2d"],
            2,
            "unknown window `2d`: expected one of 1d, 7d, 30d",
        ),
        (
            &["--format", "csv", "--output", "/dev/null"],
            1,
            "cannot write /dev/null: not a regular file",
        ),
        (
            &["--format", "csv", "--output", "no/such/directory"],
            1,
            "cannot write no/such/directory: no such directory: no/such",
        ),
    ] {
        let message = failed(&export(&home, arguments), code);
        assert!(message.contains(expected), "{message}");
    }
    let output = export(&home, &["--format", "csv", "--to", "2017-02-01"]);
    assert_eq!(output.status.code(), Some(0));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("no archived days match these apps"),
        "{message}"
    );
}

#[tokio::test]
async fn an_export_ends_with_its_reader_or_on_a_signal() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 20);
    for format in ["csv", "jsonl", "openmetrics"] {
        let mut command = home.command_of("export");
        let mut child = command
            .args(["--format", format])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{format} {line}");
    }

    // Its reader reads one line, and no more.
    let mut command = home.command_of("export");
    command
        .args(["--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    let mut kill = Command::new("kill");
    assert!(kill.arg(child.id().to_string()).status().unwrap().success());
    let message = failed(&child.wait_with_output().unwrap(), 1);
    assert!(
        message.contains("interrupted before it was done"),
        "{message}"
    );
}

#[tokio::test]
async fn progress_is_shown_on_a_terminal() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 3);
    let file = home.path("users.jsonl");
    let on_terminal = |command: &Command| {
        let mut script = Command::new("script");
        script.args([
            "--quiet",
            "--return",
            "--command",
            &quoted(command),
            "/dev/null",
        ]);
        let output = script.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let mut command = home.command_of("export");
    command.args(["--format", "jsonl", "--output"]).arg(&file);
    let message = on_terminal(&command);
    assert!(message.contains("/9 days"), "{message}");
    let other = Home::of(&wechat, &[]);
    let mut command = other.command_of("import");
    command.arg(&file);
    let message = on_terminal(&command);
    assert!(message.contains(" bytes"), "{message}");
    assert!(message.contains("Imported 9 of 9 days"), "{message}");
}

#[tokio::test]
async fn answers_saved_by_scripts_become_history() {
    on_one_day(async || {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    let directory = home.path("saved");
    let answer = |days| {
        let day = calendar::days_before(yesterday(), days);
        wechat
            .simulator
            .answer(&APP.parse().unwrap(), Window::OneDay, day)
            .unwrap()
    };
    let write = |name: &str, text: String| {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    // Figures of the morning, then final ones.
    let mut morning = answer(3);
    morning["visit_uv"]["platforms"][0]["value"] = json!(1);
    write("2026/a-10.json", morning.to_string());
    write(
        "2026/a-16.json",
        serde_json::to_string_pretty(&answer(3)).unwrap(),
    );
    write("lines.jsonl", format!("{}\n{}\n", answer(5), answer(4)));
    write(
        "empty.json",
        json!({"errcode": 61503, "errmsg": "not ready"}).to_string(),
    );
    write("notes.txt", "not read".to_owned());

    let output = import(&home, &[], &directory);
    let message = failed(&output, 1);
    assert!(
        message.contains(
            "a-10.json line=1 problem=\"this is a response of WeChat, which does not contain its appid: add --appid"
        ),
        "{message}"
    );
    assert!(message.contains("nothing was imported"), "{message}");
    assert!(!home.archive_file().exists());

    let output = import(&home, &["--appid", APP], &directory);
    let message = String::from_utf8(output.stdout).unwrap();
    assert!(
        message.starts_with("Imported 3 of 3 days of 1 app in 4 files into "),
        "{message}"
    );
    assert!(message.contains("1 response had no portrait"), "{message}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        log.contains("empty.json line=1 problem=\"WeChat returned errcode 61503"),
        "{log}"
    );
    assert!(log.contains("skipped=1"), "{log}");
    let csv = exported(&home, &["--format", "csv"]);
    let mut expected = wechat.users(APP, Window::OneDay, calendar::days_before(yesterday(), 3));
    expected.retain(|labels, _| labels["dimension"] == "platform" && labels["cohort"] == "active");
    for (labels, users) in expected {
        let row = format!(
            "{APP},1d,{},active,platform,{},{users},",
            days_ago(3),
            labels["name"]
        );
        assert!(csv.contains(&row), "{row}");
    }
    })
    .await;
}

#[tokio::test]
async fn invalid_files_change_nothing() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP]).await;
        let home = Home::of(&wechat, &[]);
        home.archive(&wechat, &[APP], 3);
        let before = exported(&home, &["--format", "jsonl"]);
        let directory = home.path("saved");
        fs::create_dir(&directory).unwrap();
        let good = wechat.simulator.answer(
            &APP.parse().unwrap(),
            Window::OneDay,
            calendar::days_before(yesterday(), 9),
        );
        fs::write(directory.join("1.json"), good.unwrap().to_string()).unwrap();
        let retain = json!({"ref_date": "20260101", "visit_uv": [{"key": 0, "value": 3}]});
        fs::write(directory.join("2.json"), retain.to_string()).unwrap();
        fs::write(directory.join("3.json"), "<html>Bad Gateway</html>").unwrap();
        let lines = format!(
            "{}{{\"appid\":\"{APP}\",\"cohort\":\"new\"}}\n",
            &before[..=before.find('\n').unwrap()]
        );
        fs::write(directory.join("4.jsonl"), lines).unwrap();

        let message = failed(&import(&home, &["--appid", APP], &directory), 1);
        for expected in [
            "2.json line=1 problem=\"unreadable response: visit_uv is a list",
            "3.json line=1 problem=\"unreadable response: 24 bytes that are not JSON",
            "4.jsonl line=2 problem=\"not a row of an export: missing field `window`",
            "nothing was imported: fix these files, or leave them out",
        ] {
            assert!(message.contains(expected), "{expected}: {message}");
        }
        assert!(exported(&home, &["--format", "jsonl"]) == before);
        let message = failed(&import(&home, &[], &home.path("none.json")), 1);
        assert!(message.contains("none.json: No such file"), "{message}");
        let many = home.path("many.jsonl");
        fs::write(&many, "{}\n{\"cohort\":1}\n".repeat(50)).unwrap();
        let message = failed(&import(&home, &[], &many), 1);
        assert_eq!(message.matches("not a row of an export").count(), 20);
        assert!(
            message.contains("message=\"further problems\" problems=30"),
            "{message}"
        );
        let given = [
            "--appid",
            APP,
            "--window",
            "7d",
            "--reference-date",
            "2026-01-01",
        ];
        let message = failed(&import(&home, &given, &directory), 2);
        assert!(message.contains("are for a single file"), "{message}");
    })
    .await;
}

#[tokio::test]
async fn hostile_lines_are_refused_and_nothing_is_imported() {
    let wechat = WeChat::of(&[&format!("{APP}=50")]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 3);
    let before = exported(&home, &["--format", "jsonl"]);
    let good: Value = serde_json::from_str(before.lines().next().unwrap()).unwrap();
    let with = |key: &str, value: Value| {
        let mut row = good.clone();
        row[key] = value;
        row.to_string().into_bytes()
    };
    let text = |key: &str, value: &str| {
        let row = with(key, json!("<value>"));
        String::from_utf8(row)
            .unwrap()
            .replace("\"<value>\"", value)
            .into_bytes()
    };
    let keys: Vec<&str> = good
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..4096 {
        bomb.write_all(&[b'['; 16 << 10]).unwrap();
    }
    let mut lines = vec![
        b"\0".repeat(1_000),
        b"\xff\xfe{\0}\0".to_vec(),
        b"[".repeat(1 << 20),
        b"{\"a\":".repeat(1 << 16),
        b"null".to_vec(),
        b"[]".to_vec(),
        bomb.finish().unwrap(),
        text("users", "-1"),
        text("users", "0.5"),
        text("users", "1e400"),
        text("users", "18446744073709551616"),
        with("users", json!("many")),
        with("window", json!("2d")),
        with("cohort", json!("all")),
        with("dimension", json!("../..")),
        with("reference_date", json!("0000-00-00")),
        with("reference_date", json!("2026-02-30")),
        with("reference_date", json!("99999999999-01-01")),
        with("appid", json!("../../etc/passwd")),
        with("appid", json!("a\0b")),
        with("appid", json!("'; DROP TABLE portraits; --")),
    ];
    lines.extend(keys.iter().map(|key| with(key, json!({"a": [{}]}))));
    for (index, line) in lines.into_iter().enumerate() {
        // After a good one, of which nothing must be left.
        let file = home.path(&format!("{index}.jsonl"));
        let is_packed = line.starts_with(&[0x1f, 0x8b]);
        let start = if is_packed {
            Vec::new()
        } else {
            format!("{good}\n").into_bytes()
        };
        fs::write(&file, [start, line.clone()].concat()).unwrap();
        let output = import(&home, &[], &file);
        let line = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(
            message.contains("nothing was imported"),
            "{line}: {message}"
        );
        assert!(message.len() < 4_000, "{line}: {message}");
        assert!(exported(&home, &["--format", "jsonl"]) == before, "{line}");
    }
}

#[tokio::test]
async fn pipes_are_read_once_and_nothing_is_copied() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 6);
    let lines = exported(&home, &["--format", "jsonl"]);
    let file = home.path("days.jsonl");
    fs::write(&file, &lines).unwrap();
    let pipe = home.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let file = file.to_str().unwrap();
    for (start, path) in [
        (format!("cat '{file}' |"), "-".to_owned()),
        (format!("gzip < '{file}' |"), "/dev/stdin".to_owned()),
        (
            format!("cat '{file}' > '{0}' &", pipe.display()),
            pipe.display().to_string(),
        ),
    ] {
        let other = Home::of(&wechat, &[]);
        let mut command = other.command_of("import");
        command.arg(path);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{start} {}", quoted(&command))]);
        let output = shell.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{start} {output:?}");
        assert!(exported(&other, &["--format", "jsonl"]) == lines, "{start}");
    }
    let mut command = home.command_of("import");
    command.args(["-", "-"]).stdin(Stdio::null());
    let message = failed(&command.output().unwrap(), 2);
    assert!(message.contains("`-` can be given once"), "{message}");
    let mut command = home.command_of("import");
    let message = failed(&command.arg("/dev/null").output().unwrap(), 1);
    assert!(message.contains("file is empty"), "{message}");
}

#[tokio::test]
async fn an_import_that_is_interrupted_leaves_nothing() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 9);
    let lines = exported(&home, &["--format", "jsonl"]);
    assert!(lines.len() > 200_000, "more than a pipe holds");
    let other = Home::of(&wechat, &[]);
    fs::create_dir(other.path("data")).unwrap();
    let mut command = other.command_of("import");
    command.arg("-").stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    let files = || fs::read_dir(other.path("data")).unwrap().count();
    assert_eq!(
        files(),
        0,
        "it is being read, without a copy that has a name"
    );
    let mut kill = Command::new("kill");
    assert!(kill.arg(child.id().to_string()).status().unwrap().success());
    let message = failed(&child.wait_with_output().unwrap(), 1);
    assert!(
        message.contains("interrupted before it was done"),
        "{message}"
    );
    assert_eq!(files(), 0);
    drop(input);
}

#[tokio::test]
async fn an_import_of_days_beyond_the_retention_warns() {
    let wechat = WeChat::of(&[APP]).await;
    let mut home = Home::of(&wechat, &[APP]);
    let answer = |days| {
        let day = calendar::days_before(yesterday(), days);
        let answer = wechat
            .simulator
            .answer(&APP.parse().unwrap(), Window::OneDay, day);
        answer.unwrap().to_string()
    };
    let file = home.path("saved.jsonl");
    fs::write(&file, [3, 450, 500].map(answer).join("\n")).unwrap();
    let config = home.configure();
    let config = config.to_str().unwrap().to_owned();
    let warning = "message=\"days beyond archive.retention will be deleted by the exporter\"";
    for (retention, arguments, expected) in [
        (
            None,
            &["--appid", APP][..],
            Some(
                "of=3 retention_days=400 hint=\"raise archive.retention first, or name the configuration with --config.file",
            ),
        ),
        (
            Some("475d"),
            &["--appid", APP, "--config.file", &config],
            Some("of=3 retention_days=475 hint=\"raise archive.retention first\""),
        ),
        (
            Some("600d"),
            &["--appid", APP, "--config.file", &config],
            None,
        ),
    ] {
        if let Some(retention) = retention {
            home.config["archive"] = json!({"retention": retention});
        }
        home.configure();
        let output = import(&home, arguments, &file);
        assert!(output.status.success(), "{output:?}");
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            log.matches(warning).count(),
            usize::from(expected.is_some()),
            "{log}"
        );
        assert!(log.contains(expected.unwrap_or_default()), "{log}");
    }
    let output = import(&home, &["--config.file", "none.yml"], &file);
    let message = failed(&output, 2);
    assert!(message.contains("none.yml"), "{message}");
}

#[tokio::test]
async fn an_export_to_a_closed_output_fails() {
    let wechat = WeChat::of(&[APP]).await;
    let (home, empty) = (Home::of(&wechat, &[]), Home::of(&wechat, &[]));
    home.archive(&wechat, &[APP], 1);
    let archive = Connection::open(home.archive_file()).unwrap();
    fs::create_dir_all(empty.path("data")).unwrap();
    archive
        .execute("VACUUM INTO ?1", [empty.archive_file().to_str().unwrap()])
        .unwrap();
    let copy = Connection::open(empty.archive_file()).unwrap();
    copy.execute("DELETE FROM portraits", []).unwrap();
    drop(copy);
    for home in [&home, &empty] {
        for format in ["csv", "jsonl", "openmetrics"] {
            for gzip in [&[][..], &["--gzip"]] {
                let mut command = home.command_of("export");
                command.args(["--format", format]).args(gzip);
                let to = |end: &str| {
                    let mut shell = Command::new("sh");
                    shell.args(["-c", &format!("{} {end}", quoted(&command))]);
                    shell.output().unwrap()
                };
                // The second can't be told from the first, which the runtime of Rust makes it.
                for end in [">&-", "1<>/dev/null"] {
                    let message = failed(&to(end), 1);
                    assert!(
                        message.contains("standard output is closed")
                            && message.contains("--output"),
                        "{format} {message}"
                    );
                }
                for end in [">/dev/null", "</dev/null | cat", "<&- | cat"] {
                    assert!(to(end).status.success(), "{format} {end}");
                }
            }
        }
        let file = home.path("days.csv");
        let mut command = home.command_of("export");
        command.args(["--format", "csv", "--output"]).arg(&file);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{} >&-", quoted(&command))]);
        assert!(shell.status().unwrap().success());
        assert!(file.is_file());
    }
}

#[tokio::test]
async fn no_date_whatever_stops_an_export() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 8);
    let archive = Connection::open(home.archive_file()).unwrap();
    let dates = [
        "",
        "no day",
        "0000-01-01",
        "-0001-12-31",
        "-262143-01-01",
        "+262142-12-31",
        "9999-12-31",
    ];
    for (date, days) in dates.iter().zip(1..) {
        archive
            .execute(
                "UPDATE portraits SET reference_date = ?1, first_answered_at = ?2, answered_at = ?3 WHERE reference_date = ?4",
                (date, i64::MIN / days, 8_210_266_876_799 / days, days_ago(days.unsigned_abs())),
            )
            .unwrap();
    }
    archive
        .execute(
            "UPDATE portraits SET first_answered_at = ?1, answered_at = ?2 WHERE window = '1d'",
            [-8_334_601_228_800_i64, 8_210_266_876_799],
        )
        .unwrap();
    drop(archive);
    for format in ["csv", "jsonl", "openmetrics"] {
        for (from, to) in [
            ("0000-01-01", "0000-01-01"),
            ("0000-01-01", "9999-12-31"),
            ("9999-12-31", "9999-12-31"),
            ("0000-12-31", "0001-01-01"),
        ] {
            let output = export(&home, &["--format", format, "--from", from, "--to", to]);
            let log = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{format} {from} {to}: {log}");
            assert!(!log.contains("panicked"), "{log}");
        }
        let log = String::from_utf8(export(&home, &["--format", format]).stderr).unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[tokio::test]
async fn the_help_says_how_large_an_export_gets() {
    let wechat = WeChat::of(&[&format!("{APP}=10000")]).await;
    let home = Home::of(&wechat, &[]);
    home.archive(&wechat, &[APP], 8);
    let help = String::from_utf8(export(&home, &["--help"]).stdout).unwrap();
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let document = fs::read_to_string(root().join("docs/archive.md")).unwrap();
    // Days whose samples do not end now.
    let to = days_ago(4);
    for (format, plain, compressed) in [
        ("csv", 280, 18),
        ("jsonl", 560, 20),
        ("openmetrics", 6500, 250),
    ] {
        for (kilobytes, gzip) in [(plain, &[][..]), (compressed, &["--gzip"])] {
            let arguments = [&["--format", format, "--to", &to][..], gzip].concat();
            let output = export(&home, &arguments);
            assert!(output.status.success(), "{output:?}");
            let found = output.stdout.len() / 4 / 1000;
            assert!(
                (kilobytes / 2..kilobytes * 2).contains(&found),
                "{format} {gzip:?}: {found} KB, not {kilobytes} KB"
            );
            let words = format!("{kilobytes} KB");
            assert!(help.contains(&words), "{words}: {help}");
            assert!(document.contains(&words), "{words}");
        }
    }
}
