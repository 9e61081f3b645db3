//! What `check` reports about every app, to people and to programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use clap::Parser as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::cli::Cli;
use wxapp_portrait_exporter::commands::{self, ProcessContext};
use wxapp_portrait_exporter::language::{Language, rounded};
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{FUNCTION_ENV, FUNCTION_NAME, Settings};

use crate::harness::{
    APP, Hand, Home, Labels, OTHER, Running, WeChat, appid, apps_of, client, logged, now,
    on_one_day, program, quoted, remember_log,
};

/// One app: what is configured for it, the fault of WeChat, and the expected result.
struct Case {
    keys: Value,
    fault: &'static str,
    access: &'static str,
    token: Option<&'static str>,
    answer: Option<&'static str>,
    reason: Option<&'static str>,
    errcode: Option<i64>,
    /// Which portrait is shown, and how many days before yesterday.
    shown: Option<(Window, u64)>,
    /// The advice.
    words: &'static str,
}

impl Case {
    fn new(keys: Value, access: &'static str) -> Self {
        Self {
            keys,
            fault: "",
            access,
            token: Some("got"),
            answer: Some("portrait"),
            reason: None,
            errcode: None,
            shown: Some((Window::OneDay, 0)),
            words: "",
        }
    }

    /// Returns the case of an app with an AppSecret that gets no portrait, or no token if it has no answer.
    fn failing(
        fault: &'static str,
        answer: Option<&'static str>,
        (reason, errcode): (&'static str, Option<i64>),
        words: &'static str,
    ) -> Self {
        Self {
            fault,
            token: Some(answer.map_or("failed", |_| "got")),
            answer,
            reason: Some(reason),
            errcode,
            shown: None,
            words,
            ..Self::new(json!({}), "stable_token")
        }
    }

    fn is_good(&self) -> bool {
        self.shown.is_some() || self.answer == Some("none yet")
    }
}

/// Where an AppSecret and addresses are set.
const SETTINGS: &str = "; see mp.weixin.qq.com › 开发管理 › 开发设置 (errcode ";

/// Returns every access with a portrait, and some without; `{app}` and `{wechat}` are placeholders.
fn cases() -> Vec<Case> {
    let function = json!({"cloud_function": {"env": FUNCTION_ENV, "name": FUNCTION_NAME}});
    let token_file =
        json!({"token_file": "cloudbase", "token_parameter": "cloudbase_access_token"});
    let ip_not_allowed = "add 61.183.89.14 to the IP allow-list of the app; see";
    vec![
        Case::new(json!({"name": "商城 <1>"}), "stable_token"),
        Case {
            keys: json!({"secret_file": "wrong"}),
            ..Case::failing(
                "",
                None,
                ("credentials", Some(40125)),
                "the AppSecret is wrong or was reset",
            )
        },
        Case::new(
            json!({"token_url": "{wechat}/simulator/tokens/{app}"}),
            "token_url",
        ),
        Case {
            token: None,
            ..Case::new(json!({"access": "cloud_hosting"}), "cloud_hosting")
        },
        Case {
            token: None,
            ..Case::new(
                json!({"portrait_url": "{wechat}/function/{app}"}),
                "portrait_url",
            )
        },
        Case::new(function, "stable_token, cloud_function"),
        Case::new(token_file, "token_file"),
        Case::new(
            json!({"token_command": ["echo", "{token}"]}),
            "token_command",
        ),
        Case::new(json!({"token_endpoint": "token"}), "cgi-bin/token"),
        Case {
            shown: Some((Window::SevenDays, 0)),
            ..Case::new(json!({"windows": ["7d", "30d"]}), "stable_token")
        },
        Case::new(json!({"windows": ["7d", "1d"]}), "stable_token"),
        Case {
            fault: "empty*1",
            shown: Some((Window::OneDay, 1)),
            ..Case::new(json!({}), "stable_token")
        },
        Case::failing(
            "errcode=61503",
            Some("none yet"),
            ("not_ready", Some(61503)),
            "is computed by 10:00",
        ),
        Case::failing(
            "errcode=40164",
            Some("failed"),
            ("ip_not_allowed", Some(40164)),
            ip_not_allowed,
        ),
        Case::failing(
            "token:errcode=40164",
            None,
            ("ip_not_allowed", Some(40164)),
            ip_not_allowed,
        ),
        Case::failing(
            "leaky",
            Some("failed"),
            ("other", Some(99999)),
            "it says: invalid credential",
        ),
        Case::failing(
            "token:leaky",
            None,
            ("other", Some(99999)),
            "it says: invalid credential",
        ),
        Case::failing(
            "http=403",
            Some("failed"),
            ("transport", None),
            "HTTP status 403",
        ),
    ]
}

fn name(index: usize) -> String {
    format!("wxc4ec{index:012x}")
}

/// Configures the apps of all cases.
async fn home_of(cases: &[Case]) -> (WeChat, Home) {
    let names: Vec<String> = (0..cases.len()).map(name).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let is_hosted = |case: &Case| case.access == "cloud_hosting";
    let hosted = cases.iter().position(is_hosted);
    let settings = Settings {
        cloud_hosting: hosted.map(|index| appid(names[index])),
        ..apps_of(&names)
    };
    let wechat = WeChat::start(settings, now).await;
    let mut home = Home::of(&wechat, &names);
    fs::write(home.path("wrong"), "0123456789abcdef0123456789abcdef").unwrap();
    for (index, (case, app)) in cases.iter().zip(&names).enumerate() {
        let mut text = case.keys.to_string().replace("{app}", app);
        text = text.replace("{wechat}", &wechat.base_url());
        if case.access == "token_command" {
            let url = format!("{}/simulator/tokens/{app}", wechat.base_url());
            let token = client()
                .get(url)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap();
            text = text.replace("{token}", token.trim());
        }
        if case.access == "token_file" {
            let token = wechat.simulator.cloudbase_token(&appid(app));
            fs::write(home.path("cloudbase"), token).unwrap();
        }
        let Value::Object(keys) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        let entry = home.config["apps"][index].as_object_mut().unwrap();
        if !case.access.starts_with("stable_token") && case.access != "cgi-bin/token" {
            entry.remove("secret_file");
        }
        entry.extend(keys);
        if !case.fault.is_empty() {
            wechat.set_fault(app, case.fault);
        }
    }
    (wechat, home)
}

/// Returns the command that checks the apps of a home, with that as working directory.
fn check(home: &Home, arguments: &[&str]) -> Command {
    let mut command = program();
    command
        .arg("check")
        .arg("--config.file")
        .arg(home.configure());
    command.args(arguments);
    command.current_dir(home.path(""));
    command
}

/// The output, and the exit code.
struct Outcome {
    output: String,
    log: String,
    code: Option<i32>,
}

/// Checks the apps of a home; no output may contain a secret.
async fn checked(home: &Home, arguments: &[&str]) -> Outcome {
    let mut command = check(home, arguments);
    command.args(["--log.level", "debug"]);
    run(home, command).await
}

async fn run(home: &Home, command: Command) -> Outcome {
    let output = tokio::process::Command::from(command)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let outcome = Outcome {
        output: text(output.stdout),
        log: text(output.stderr),
        code: output.status.code(),
    };
    home.scan(&outcome.output);
    home.scan(&outcome.log);
    assert!(!outcome.log.contains("panicked"), "{}", outcome.log);
    outcome
}

/// Returns new and active users of a portrait, by platform.
fn sums(wechat: &WeChat, app: &str, (window, days): (Window, u64)) -> (NaiveDate, [f64; 2]) {
    let day = calendar::days_before(calendar::yesterday(now()), days);
    let users = wechat.users(app, window, day);
    let sum = |cohort| {
        let of = |labels: &Labels| labels["dimension"] == "platform" && labels["cohort"] == cohort;
        let users = users.iter().filter(|(labels, _)| of(labels));
        users.map(|(_, users)| users).sum()
    };
    (day, ["new", "active"].map(sum))
}

#[tokio::test]
async fn a_table_shows_the_result_and_the_advice_for_every_app() {
    on_one_day(async || {
        let cases = cases();
        let (wechat, home) = home_of(&cases).await;
        let outcome = checked(&home, &[]).await;
        let failed = cases.iter().filter(|case| !case.is_good()).count();
        let all = cases.len();
        assert_eq!(outcome.code, Some(1));
        assert!(!outcome.log.contains("level=error"), "{}", outcome.log);
        assert!(
            outcome
                .log
                .contains("token_endpoint: every token that is fetched takes away")
        );
        assert!(
            !outcome.log.contains('\u{1b}'),
            "a bar is for terminals: {}",
            outcome.log
        );

        let mut lines = outcome.output.lines();
        let head = lines.next().unwrap();
        let columns = ["APPID", "ACCESS", "TOKEN", "RESULT", "REASON", "DAY"]
            .map(|word| head.find(word).unwrap());
        assert_eq!(
            head.split_whitespace().collect::<Vec<_>>()[6..],
            ["NEW", "ACTIVE", "APP"]
        );
        for (index, case) in cases.iter().enumerate() {
            let app = name(index);
            let portrait = case.shown.map(|portrait| sums(&wechat, &app, portrait));
            let row = lines.next().unwrap();
            let day = portrait.map_or("-".to_owned(), |(day, _)| match case.shown {
                Some((window, _)) if window != Window::OneDay => format!("{day} {window}"),
                _ => day.to_string(),
            });
            let left = [
                &app,
                case.access,
                case.token.unwrap_or("-"),
                case.answer.unwrap_or("-"),
                case.reason.unwrap_or("-"),
                &day,
            ];
            for (column, cell) in columns.into_iter().zip(left) {
                assert!(
                    row[column..].starts_with(&format!("{cell} ")),
                    "{cell}: {row}"
                );
            }
            let [new, active] =
                portrait.map_or(["-", "-"].map(str::to_owned), |(_, sums)| sums.map(rounded));
            let app_name = case.keys["name"].as_str().unwrap_or(&app);
            let right = format!("{new:>11}  {active:>11}  {app_name}");
            assert!(row.ends_with(&right), "{right}: {row}");
            if !case.words.is_empty() {
                let problem = lines.next().unwrap();
                assert!(problem.starts_with("  "), "{problem}");
                assert!(problem.contains(case.words), "{problem}");
                let is_of_settings = ["AppSecret", "allow-list"]
                    .iter()
                    .any(|word| problem.contains(word));
                assert_eq!(problem.contains(SETTINGS), is_of_settings, "{problem}");
            }
        }
        assert_eq!(
            lines.next(),
            Some(&*format!("apps: {all}, failed: {failed}"))
        );
        let of_yesterday = cases.iter().enumerate().filter_map(|(index, case)| {
            let is_of_yesterday = case.shown == Some((Window::OneDay, 0));
            is_of_yesterday.then(|| sums(&wechat, &name(index), (Window::OneDay, 0)).1)
        });
        let of_yesterday: Vec<_> = of_yesterday.collect();
        let sum = |cohort: usize| rounded(of_yesterday.iter().map(|users| users[cohort]).sum());
        let day = Language::English.day(calendar::yesterday(now()));
        let (new, active, apps) = (sum(0), sum(1), of_yesterday.len());
        assert_eq!(
            lines.next(),
            Some(&*format!(
                "Yesterday ({day}): {new} new users, {active} active users (sum of apps: {apps})."
            ))
        );
        assert_eq!(lines.next(), None);
    })
    .await;
}

#[tokio::test]
async fn a_chinese_terminal_gets_a_chinese_table_in_columns_and_english_json() {
    on_one_day(async || {
        let wechat = WeChat::of(&[APP, OTHER]).await;
        wechat.set_fault(OTHER, "errcode=61503");
        let mut home = Home::of(&wechat, &[APP, OTHER]);
        home.config["apps"][0]["name"] = json!("商城");
        let checked = async |arguments: &[&str]| {
            let mut command = check(&home, arguments);
            command.env("LC_ALL", "zh_CN.UTF-8");
            run(&home, command).await.output
        };
        let output = checked(&[]).await;
        let lines: Vec<&str> = output.lines().collect();
        // Where a word ends, in columns of a terminal.
        let end = |line: &str, word: &str| {
            let (before, _) = line
                .split_once(word)
                .unwrap_or_else(|| panic!("{word}: {line}"));
            UnicodeWidthStr::width(before) + UnicodeWidthStr::width(word)
        };
        let begin = |line: &str, word: &str| end(line, word) - UnicodeWidthStr::width(word);
        let (day, users) = sums(&wechat, APP, (Window::OneDay, 0));
        let [new, active] = users.map(rounded);
        let (head, row) = (lines[0], lines[1]);
        for (title, cell) in [
            ("APPID", APP),
            ("认证方式", "stable_token"),
            ("令牌", "已获取"),
            ("结果", "有数据"),
            ("数据日期", &day.to_string()),
            ("小程序", "商城"),
        ] {
            assert_eq!(begin(head, title), begin(row, cell), "{title}: {output}");
        }
        for (title, cell) in [("新增用户", &new), ("活跃用户", &active)] {
            let cell = format!(" {cell} ");
            assert_eq!(end(head, title) + 1, end(row, &cell), "{title}: {output}");
        }
        assert_eq!(begin(head, "结果"), begin(lines[2], "暂无数据"), "{output}");
        let day = Language::Chinese.day(day);
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "小程序 2 个，失败 0 个",
                &format!("昨日（{day}）：新增用户 {new}，活跃用户 {active}（1 个小程序合计）。")
            ]
        );
        let json = checked(&["--format", "json"]).await;
        assert!(json.contains("\"answer\":\"portrait\""), "{json}");
        let output = checked(&["--appid", OTHER]).await;
        assert!(
            output.ends_with(&format!("昨日（{day}）：暂无数据。\n")),
            "{output}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_json_output_is_a_list_with_all_fields() {
    on_one_day(async || {
        let cases = cases();
        let (wechat, home) = home_of(&cases).await;
        let outcome = checked(&home, &["--format", "json"]).await;
        assert_eq!(outcome.code, Some(1));
        let list: Vec<Value> = serde_json::from_str(&outcome.output).unwrap();
        assert_eq!(list.len(), cases.len());
        for (index, (case, mut found)) in cases.iter().zip(list).enumerate() {
            let app = name(index);
            let problem = found["problem"].take();
            assert_eq!(problem.is_null(), case.words.is_empty(), "{problem}");
            assert!(
                problem.as_str().unwrap_or_default().contains(case.words),
                "{problem}"
            );
            let portrait = case.shown.map(|portrait| sums(&wechat, &app, portrait));
            // Whole numbers in the answer.
            let users =
                portrait.map(|(_, sums)| sums.map(|sum| sum.to_string().parse::<u64>().unwrap()));
            let expected = json!({
                "appid": app,
                "app": case.keys["name"].as_str().unwrap_or(&app),
                "ok": case.is_good(),
                "access": case.access,
                "token": case.token,
                "answer": case.answer,
                "reason": case.reason,
                "errcode": case.errcode,
                "window": found["window"],
                "reference_date": portrait.map(|(day, _)| day.to_string()),
                "users": users.map(|[new, active]| json!({"new": new, "active": active})),
                "problem": null,
            });
            assert_eq!(found, expected);
            let window = case.shown.map(|(window, _)| window);
            assert_eq!(found["window"], json!(window.unwrap_or(Window::OneDay)));
        }
    })
    .await;
}

#[tokio::test]
async fn apps_are_selected_and_invalid_usage_is_distinguished_from_failure() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    wechat.set_fault(OTHER, "errcode=48001");
    let mut home = Home::of(&wechat, &[APP, OTHER]);
    let unknown = "wx9999999999999999";
    let not_configured = format!("--appid {unknown}: no such app in ");
    for (arguments, code, words) in [
        (&["--appid", APP][..], 0, "apps: 1, failed: 0\n"),
        (
            &["--appid", OTHER, "--appid", APP],
            1,
            "apps: 2, failed: 1\n",
        ),
        (&["--appid", OTHER], 1, "apps: 1, failed: 1\n"),
        (&["--appid", APP, "--appid", unknown], 2, &not_configured),
        (&["--appid", "a b"], 2, "such as wx0123456789abcdef"),
        (&["--format", "xml"], 2, "[possible values: table, json]"),
    ] {
        let asked = wechat.simulator.requests();
        let Outcome {
            output,
            log,
            code: found,
        } = checked(&home, arguments).await;
        assert_eq!(found, Some(code), "{output}{log}");
        assert!(
            output.contains(words) || log.contains(words),
            "{words}: {output}{log}"
        );
        let rows = [APP, OTHER].map(|app| output.lines().any(|line| line.starts_with(app)));
        assert_eq!(
            rows,
            [APP, OTHER].map(|app| code < 2 && arguments.contains(&app))
        );
        if code == 2 {
            assert_eq!(wechat.simulator.requests(), asked, "{arguments:?}");
        }
    }
    home.config["poll"]["interval"] = json!("soon");
    let outcome = checked(&home, &[]).await;
    assert_eq!((outcome.code, &*outcome.output), (Some(2), ""));
    assert!(
        outcome
            .log
            .contains("poll.interval: `soon` is not a duration"),
        "{}",
        outcome.log
    );
}

#[tokio::test]
async fn holidays_of_a_year_that_are_missing_cause_a_warning() {
    remember_log();
    let home = Home::new("http://127.0.0.1:1", &[APP]);
    let config = home.configure();
    // Ends before the first request.
    let arguments = ["check", "--appid", OTHER, "--config.file"];
    let program = [OsStr::new("wxapp-portrait-exporter")];
    let arguments = program.into_iter().chain(arguments.map(OsStr::new));
    let cli = Cli::parse_from(arguments.chain([config.as_os_str()]));
    let context = ProcessContext {
        clock: Arc::new(Hand::at("2998-12-01T00:00:00+08:00").clock()),
        environment: Box::new(|_| None),
        shutdown: Box::pin(std::future::pending()),
        hangup: mpsc::unbounded_channel().1,
    };
    let result = commands::run(cli, context).await;
    assert!(result.unwrap_err().to_string().contains("no such app"));
    let warning = ["WARN", "holidays are not known", "year=2998", "apps=1"];
    assert_eq!(logged(&warning).len(), 1);
}

/// Returns every file below a directory, and its contents.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
            files.insert(path, Vec::new());
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn nothing_is_archived_and_no_archive_is_opened() {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    home.configure();
    let none = files(&home.path(""));
    home.archive(&wechat, &[APP], 3);
    let good = files(&home.path(""));
    fs::write(home.archive_file(), "no database\n".repeat(1000)).unwrap();
    let damaged = files(&home.path(""));
    for before in [none, good, damaged] {
        let _ = fs::remove_dir_all(home.path("data"));
        for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with("data")) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let outcome = checked(&home, &[]).await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.log);
        assert!(files(&home.path("")) == before);
    }
}

#[tokio::test]
async fn rows_are_written_as_they_arrive_and_an_interrupt_ends_the_wait() {
    on_one_day(async || {
        for format in ["table", "json"] {
            let wechat = WeChat::of(&[APP, OTHER]).await;
            wechat.set_fault(OTHER, "delay=1h");
            let mut home = Home::of(&wechat, &[APP, OTHER]);
            home.config["wechat"]["timeout"] = json!("5m");
            let mut running = Running::start(check(&home, &["--format", format]));
            running.said(&calendar::yesterday(now()).to_string()).await;
            running.signal("INT");
            let (end, duration) = running.ended().await;
            let said = running.output();
            home.scan(&said);
            assert_eq!(end.code(), Some(1), "{said}");
            assert!(duration < Duration::from_secs(5), "{duration:?}");
            assert!(
                said.contains("problem=\"interrupted before it was done\""),
                "{said}"
            );
            assert!(
                !said.contains("panicked") && !said.contains("failed: "),
                "{said}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_closed_pipe_does_not_cause_a_panic() {
    let wechat = WeChat::of(&[APP, OTHER]).await;
    // The reader is gone before the first row.
    wechat.set_fault(APP, "delay=1s");
    let home = Home::of(&wechat, &[APP, OTHER]);
    let mut shell = Command::new("sh");
    let piped = format!(
        "{{ {}; echo \"ended with $?\" >&2; }} | head -1",
        quoted(&check(&home, &[]))
    );
    shell.args(["-c", &piped]).current_dir(home.path(""));
    let outcome = run(&home, shell).await;
    assert!(outcome.output.starts_with("APPID ") && outcome.output.lines().count() == 1);
    assert!(outcome.log.ends_with("ended with 0\n"), "{}", outcome.log);
}

#[tokio::test]
async fn progress_is_shown_on_a_terminal_next_to_complete_rows() {
    on_one_day(async || {
        let apps: Vec<String> = (0..12).map(name).collect();
        let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
        let wechat = WeChat::of(&apps).await;
        for app in &apps[6..] {
            wechat.set_fault(app, "delay=300ms");
        }
        let home = Home::of(&wechat, &apps);
        let plain = checked(&home, &[]).await;
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command"]);
        script
            .arg(quoted(&check(&home, &["--log.level", "error"])))
            .arg("/dev/null")
            .stdin(Stdio::null());
        let outcome = run(&home, script).await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.output);
        assert!(outcome.output.contains("6/12 apps"), "{}", outcome.output);
        // Rows begin where the bar was removed.
        let shown = outcome
            .output
            .replace("\r\u{1b}[2K", "\n")
            .replace('\r', "");
        let shown: Vec<&str> = shown.lines().collect();
        for row in plain.output.lines() {
            assert!(shown.contains(&row), "{row}: {shown:?}");
        }
        let last = shown.last().copied();
        assert_eq!(last, plain.output.lines().last(), "the bar is gone");
    })
    .await;
}
