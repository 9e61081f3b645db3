//! A directory with a configuration, secrets, and an archive of some weeks.
//!
//! The archive is filled by the program's own `import`, so this does not depend on its format; one of hundreds of
//! days, which would take that an hour, by the library.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, NaiveDate, Utc};
use tempfile::TempDir;
use wxapp_portrait_exporter::archive::{DayState, Key, Record, Row, Store};
use wxapp_portrait_exporter::calendar::{self, Clock};
use wxapp_portrait_exporter::portrait::Window;
use wxapp_portrait_exporter::simulator::{App, Settings, Simulator, secret_of};

use super::program;

/// How many days of every app and window are archived.
pub(crate) const DAYS: usize = 35;

/// How many apps have a history of their own. The others repeat these: generating an answer takes
/// longer than archiving it.
const HISTORIES: usize = 20;

/// The directory of an exporter; removed at the end.
pub(crate) struct Home {
    directory: TempDir,
    pub(crate) apps: Vec<App>,
    windows: &'static [Window],
    /// As `poll.interval` in the configuration.
    pub(crate) poll_interval: &'static str,
    /// The other keys of the configuration.
    more: String,
}

impl Home {
    /// Creates the secrets of the apps. The configuration needs WeChat's address first.
    pub(crate) fn new(apps: usize, windows: &'static [Window]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secrets = directory.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        let apps = make_apps(apps);
        for App { appid, .. } in &apps {
            fs::write(secrets.join(appid.as_str()), secret_of(appid)).unwrap();
        }
        Self {
            directory,
            apps,
            windows,
            poll_interval: "30m",
            more: String::new(),
        }
    }

    /// Lets the exporters store what they poll in a database instead of a file.
    pub(crate) fn store_in_postgres(&mut self, url: &str) {
        let file = self.directory.path().join("postgres-url");
        fs::write(&file, url).unwrap();
        self.more = String::from("archive: {postgres_url_file: postgres-url}\n");
    }

    /// Leaves the dimension out that has most of the names.
    pub(crate) fn leave_out_cities(&mut self) {
        self.more = String::from("dimensions: [province, gender, platform, device, age]\n");
    }

    /// Writes the configuration for a WeChat on this port of this host, and returns its path.
    pub(crate) fn write_config(&self, wechat: u16) -> PathBuf {
        let windows: Vec<&str> = self.windows.iter().map(|window| window.as_str()).collect();
        let mut text = format!(
            "wechat: {{base_url: \"http://127.0.0.1:{wechat}\"}}\npoll: {{interval: {}}}\nwindows: [{}]\n{}apps:\n",
            self.poll_interval,
            windows.join(", "),
            self.more
        );
        for App { appid, .. } in &self.apps {
            writeln!(text, "  - {{appid: {appid}, secret_file: secrets/{appid}}}").unwrap();
        }
        let path = self.directory.path().join("wxapp-portrait.yml");
        // Another exporter may be reading it.
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    pub(crate) fn storage_path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    pub(crate) fn archive_path(&self) -> PathBuf {
        self.storage_path().join("portraits.db")
    }

    /// Fills the archive with this many days of the first window of every app, up to the day before yesterday, in
    /// the order in which they would have arrived: the days of an app are all over the file.
    pub(crate) fn fill(&self, days: usize) {
        let now = now();
        let clock: Clock = Arc::new(move || now);
        let mut archive = Store::of_guest(&self.storage_path(), clock);
        let window = self.windows[0];
        let histories = &self.apps[..HISTORIES.min(self.apps.len())];
        let settings = Settings {
            apps: histories.to_vec(),
            ..Settings::default()
        };
        let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
        let state = DayState {
            first_answered_at: now,
            answered_at: now,
            settled: true,
            revisions: 0,
        };
        for day in (2..days as u64 + 2).rev() {
            let reference_date = calendar::days_before(calendar::today(now), day);
            let row = |app: &App| {
                let answer = simulator.answer(&app.appid, window, reference_date);
                Row::from(&Record {
                    key: Key {
                        appid: app.appid.clone(),
                        window,
                        reference_date,
                    },
                    state,
                    answer: answer.unwrap().to_string(),
                })
            };
            let rows: Vec<_> = histories.iter().map(row).collect();
            let apps = self.apps.iter().zip(rows.iter().cycle());
            let rows: Vec<_> = apps
                .map(|(app, row)| {
                    let mut row = row.clone();
                    row.key.appid = app.appid.clone();
                    row
                })
                .collect();
            archive.upsert(&rows).unwrap();
        }
    }

    /// Returns the size of all files of the archive.
    pub(crate) fn archive_bytes(&self) -> u64 {
        let files = fs::read_dir(self.storage_path()).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    }
}

/// Answers of the past, generated once for all rows of the table.
pub(crate) struct History {
    /// By app and window: a line for each day.
    lines: Vec<[String; Window::ALL.len()]>,
}

impl History {
    /// Generates the answers of the days up to the day before yesterday, so that there is a day left
    /// that must be requested from WeChat.
    pub(crate) fn new() -> Self {
        let settings = Settings {
            apps: make_apps(HISTORIES),
            ..Settings::default()
        };
        let apps = settings.apps.clone();
        let simulator = Simulator::new(settings, || DateTime::UNIX_EPOCH);
        let newest = yesterday().pred_opt().unwrap();
        let lines = |app: &App, window| {
            let days = newest.iter_days().rev().take(DAYS);
            let answers = days.map(|day| simulator.answer(&app.appid, window, day).unwrap());
            answers.fold(String::new(), |lines, answer| {
                lines + &format!("{answer}\n")
            })
        };
        Self {
            lines: apps
                .iter()
                .map(|app| Window::ALL.map(|window| lines(app, window)))
                .collect(),
        }
    }

    /// Fills the archive, with as many imports at a time as there are cores.
    pub(crate) fn import(&self, home: &Home) {
        fs::create_dir(home.storage_path()).unwrap();
        let next = Mutex::new(home.apps.iter().zip(self.lines.iter().cycle()));
        let import_next = || {
            let app = next.lock().unwrap().next();
            app.is_some_and(|(app, history)| {
                import(home, app, &history[..home.windows.len()]);
                true
            })
        };
        // Creates the archive, which two at a time might both try.
        import_next();
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().unwrap().get() {
                scope.spawn(|| while import_next() {});
            }
        });
    }
}

fn import(home: &Home, app: &App, history: &[String]) {
    let mut import = Command::new(program::binary())
        .args(["import", "--log.level=warn", "--storage.path"])
        .arg(home.storage_path())
        .args(["--appid", app.appid.as_str(), "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = import.stdin.take().unwrap();
    for lines in history {
        input.write_all(lines.as_bytes()).unwrap();
    }
    drop(input);
    assert!(import.wait().unwrap().success(), "the import failed");
}

fn make_apps(number: usize) -> Vec<App> {
    (0..number)
        .map(|number| format!("wx{number:016x}=100000").parse().unwrap())
        .collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program that is measured reads the real clock"
)]
fn now() -> DateTime<Utc> {
    Utc::now()
}

pub(crate) fn yesterday() -> NaiveDate {
    calendar::yesterday(now())
}
