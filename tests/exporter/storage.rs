//! The disk under the archive: full or read-only, and a file that is deleted, replaced, truncated or damaged while
//! the program uses it.
//!
//! A full disk is a small tmpfs where the tests may mount one, and a limit on the size of files in any case.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use chrono::TimeDelta;
use futures_util::future::join_all;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, prlimit};
use serde_json::{Value, json};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{
    APP, Exporter, Home, Page, WeChat, appid, asked_days, eventually, now, on_one_day, quoted,
    yesterday,
};

/// How writing to the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By a limit on the size of every file that the program writes.
    Limit,
    /// By a file system of its own.
    Tmpfs,
    /// By the permissions of the directory, which do not apply to root.
    Permissions,
}

/// What is left of the disk.
#[derive(Debug, Clone, Copy)]
enum Room {
    /// So many KiB.
    Some(u32),
    /// Nothing at all.
    Nothing,
    /// It is read-only.
    ReadOnly,
}

/// A disk under the archive of a home; unmounted in the end.
struct Disk {
    kind: Kind,
    room: Room,
    data: std::path::PathBuf,
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    let mut mount = Command::new("mount");
    let mount = mount.args(arguments).arg(at).output();
    mount.is_ok_and(|output| output.status.success())
}

impl Disk {
    /// Returns every kind that is possible here, under homes with the archive of an app.
    fn kinds(room: Room) -> Vec<Kind> {
        let directory = tempfile::tempdir().unwrap();
        let mut kinds = vec![Kind::Limit];
        if mount(&["-t", "tmpfs", "tmpfs"], directory.path()) {
            unmount(directory.path());
            kinds.push(Kind::Tmpfs);
        }
        if matches!(room, Room::ReadOnly) && !geteuid().is_root() {
            kinds.push(Kind::Permissions);
        }
        kinds
    }

    /// Puts a disk under a home; `fill` archives what is there before there is no room.
    fn under(home: &Home, kind: Kind, room: Room, fill: impl FnOnce()) -> Self {
        let data = home.path("data");
        fs::create_dir(&data).unwrap();
        if kind == Kind::Tmpfs {
            let size = match room {
                Room::Some(kibibytes) => format!("size={kibibytes}k"),
                _ => "size=8m".to_owned(),
            };
            assert!(mount(&["-t", "tmpfs", "-o", &size, "tmpfs"], &data));
        }
        let disk = Self { kind, room, data };
        fill();
        match (kind, room) {
            (Kind::Tmpfs, Room::Nothing) => {
                let mut ballast = File::create(disk.data.join("ballast")).unwrap();
                // Until it is full.
                let _ = std::io::copy(&mut File::open("/dev/zero").unwrap(), &mut ballast);
            }
            (Kind::Tmpfs, Room::ReadOnly) => {
                assert!(mount(&["-o", "remount,ro"], &disk.data));
            }
            (Kind::Permissions, _) => set_mode(&disk.data, "a-w"),
            _ => {}
        }
        disk
    }

    /// Starts the program on it.
    async fn start(&self, home: &Home, wechat: &WeChat, apps: &[&str]) -> Exporter {
        let mut command = home.command();
        if self.kind == Kind::Limit {
            let kibibytes = match self.room {
                Room::Some(kibibytes) => kibibytes,
                _ => 0,
            };
            // Its log is not limited, nor is it killed by the signal.
            let script = format!(
                "exec > >(exec cat) 2>&1; trap '' XFSZ; ulimit -S -f {kibibytes}; exec {}",
                quoted(&command)
            );
            command = Command::new("bash");
            command.args(["-c", &script]);
            command
                .env("NO_PROXY", "127.0.0.1")
                .env_remove("http_proxy");
        }
        let apps = apps.iter().map(|app| appid(app)).collect();
        let mut exporter = Exporter::start(command, apps, Some(&wechat.simulator)).await;
        exporter.keep(home);
        exporter
    }

    /// Makes room while the program runs.
    fn extend(&self, exporter: &Exporter) {
        match (self.kind, self.room) {
            (Kind::Limit, _) => {
                let limit = Rlimit {
                    current: getrlimit(Resource::Fsize).maximum,
                    maximum: getrlimit(Resource::Fsize).maximum,
                };
                prlimit(Some(exporter.running.id()), Resource::Fsize, limit).unwrap();
            }
            (Kind::Tmpfs, Room::Nothing) => fs::remove_file(self.data.join("ballast")).unwrap(),
            (Kind::Tmpfs, Room::ReadOnly) => assert!(mount(&["-o", "remount,rw"], &self.data)),
            (Kind::Tmpfs, Room::Some(_)) => {
                assert!(mount(&["-o", "remount,size=64m"], &self.data));
            }
            (Kind::Permissions, _) => set_mode(&self.data, "u+w"),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        match self.kind {
            Kind::Limit => {}
            Kind::Tmpfs => unmount(&self.data),
            Kind::Permissions => set_mode(&self.data, "u+w"),
        }
    }
}

fn unmount(directory: &Path) {
    // What still uses it keeps it until its end.
    let done = Command::new("umount").arg("-l").arg(directory).status();
    assert!(done.unwrap().success());
}

fn set_mode(directory: &Path, mode: &str) {
    let mut chmod = Command::new("chmod");
    let done = chmod.arg("-R").arg(mode).arg(directory).status();
    assert!(done.unwrap().success());
}

async fn archive_status(exporter: &Exporter) -> Value {
    let (_, status) = exporter.get("/api/v1/status").await;
    let mut status: Value = serde_json::from_str(&status).unwrap();
    status["archive"].take()
}

/// Returns how many days of an app are archived.
fn archived(page: &Page, app: &str) -> Option<f64> {
    page.value("wxapp_portrait_archived_portraits", &[("appid", app)])
}

fn failures(page: &Page) -> f64 {
    let failures = page.series("wxapp_portrait_archive_failures_total");
    failures.values().sum()
}

/// Returns how many rows of yesterday a file has, if it is whole.
fn rows_of_yesterday(path: &Path) -> Option<u32> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    let check = file.query_one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    if check.ok()? != "ok" {
        return None;
    }
    let count = "SELECT count(*) FROM portraits WHERE reference_date = ?1";
    let day = yesterday().to_string();
    file.query_one(count, [day], |row| row.get(0)).ok()
}

/// Starts on a disk without enough room, with the days before yesterday archived; makes room later.
async fn is_overcome(kind: Kind, room: Room) {
    let apps: Vec<String> = (0..12).map(|index| format!("wxd15c{index:012x}")).collect();
    let apps: Vec<&str> = apps.iter().map(String::as_str).collect();
    let wechat = WeChat::of(&apps).await;
    let home = Home::of(&wechat, &apps);
    let before = now() - TimeDelta::days(1);
    let fill = || {
        if matches!(room, Room::ReadOnly) {
            home.archive_at(before, &[Window::OneDay], &wechat, &apps, 3);
        }
    };
    let disk = Disk::under(&home, kind, room, fill);
    let mut exporter = disk.start(&home, &wechat, &apps).await;
    let page = exporter.ready().await;
    for app in &apps {
        assert!(!page.users(Some(app)).is_empty(), "{kind:?} {room:?} {app}");
    }
    exporter
        .metrics_with("a failure", |page| (failures(page) > 0.0).then_some(()))
        .await;
    let problem = eventually("the problem", async || {
        archive_status(&exporter).await["problem"]
            .as_str()
            .map(str::to_owned)
    })
    .await;
    let words: &[&str] = match (kind, room) {
        (Kind::Limit, _) => &["disk I/O error", "the disk is full"],
        (_, Room::ReadOnly) => &["it is read-only", "exists and is writable"],
        _ => &["the disk is full"],
    };
    let is_explained = words.iter().any(|words| problem.contains(words));
    assert!(is_explained, "{kind:?} {room:?}: {problem}");
    let shown = exporter.metrics().await;

    disk.extend(&exporter);
    let days = f64::from(asked_days())
        + if matches!(room, Room::ReadOnly) {
            2.0
        } else {
            0.0
        };
    let stored = |page: &Page| {
        let mut apps = apps.iter();
        apps.all(|app| archived(page, app) >= Some(days))
            .then_some(())
    };
    exporter
        .metrics_with("all days in the archive", stored)
        .await;
    eventually("the end of the problem", async || {
        archive_status(&exporter).await["problem"]
            .is_null()
            .then_some(())
    })
    .await;
    let page = exporter.metrics().await;
    assert_eq!(page.users(None), shown.users(None), "{kind:?} {room:?}");
    exporter.running.signal("KILL");
    exporter.running.ended().await;
    let rows = rows_of_yesterday(&home.archive_file());
    assert_eq!(rows, Some(12), "{kind:?} {room:?}");
}

#[tokio::test]
async fn a_full_disk_costs_no_portrait_and_is_reported_until_there_is_room() {
    on_one_day(async || {
        for room in [Room::Some(80), Room::Nothing] {
            for kind in Disk::kinds(room) {
                is_overcome(kind, room).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_read_only_disk_costs_no_portrait_and_is_reported_until_it_is_writable() {
    on_one_day(async || {
        for kind in Disk::kinds(Room::ReadOnly) {
            is_overcome(kind, Room::ReadOnly).await;
        }
    })
    .await;
}

/// Something that happens to the file while the program uses it, and what may be logged about it.
type Act = (fn(&Path), &'static [&'static str]);

/// A file that has become too short is noticed by its length a second later, or by what is used of it before.
const TRUNCATED: &[&str] = &[
    "was truncated",
    "was damaged",
    "was separated from its write-ahead log",
];

/// The file and its companions.
fn files(path: &Path) -> [std::path::PathBuf; 3] {
    ["portraits.db", "portraits.db-wal", "portraits.db-shm"].map(|name| path.with_file_name(name))
}

fn truncate(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// Deletes, replaces, truncates: with a message that contains some of these words.
const ACTS: [Act; 6] = [
    (|path| fs::remove_file(path).unwrap(), &["was deleted"]),
    (
        |path| {
            for file in files(path) {
                fs::remove_file(file).unwrap();
            }
        },
        &["was deleted"],
    ),
    (
        |path| {
            let copy = path.with_extension("copy");
            Connection::open(path)
                .unwrap()
                .execute("VACUUM INTO ?1", [copy.to_str().unwrap()])
                .unwrap();
            fs::rename(copy, path).unwrap();
        },
        &["replaced by another file"],
    ),
    (|path| truncate(path, 0), TRUNCATED),
    (|path| truncate(path, 8192), TRUNCATED),
    (
        |path| fs::remove_file(&files(path)[1]).unwrap(),
        &["was separated from its write-ahead log"],
    ),
];

/// Starts an exporter with forty archived days.
async fn with_history() -> (WeChat, Home, Exporter, Vec<String>) {
    let wechat = WeChat::of(&[APP]).await;
    let home = Home::of(&wechat, &[APP]);
    home.archive_at(
        now() - TimeDelta::days(1),
        &[Window::OneDay],
        &wechat,
        &[APP],
        40,
    );
    let exporter = home.start().await;
    let users = wechat.users(APP, Window::OneDay, yesterday());
    let page = exporter
        .metrics_with("yesterday in the archive", |page| {
            let mut shown = page.series("wxapp_portrait_users");
            shown.retain(|_, users| *users > 0.0);
            let is_stored = archived(page, APP) == Some(41.0);
            (shown == users && is_stored).then(|| Page(page.0.clone()))
        })
        .await;
    let users = page.users(None).into_iter().map(str::to_owned).collect();
    (wechat, home, exporter, users)
}

/// Kills an exporter, and returns the page of the next one, which cannot reach WeChat.
async fn restarted(home: &mut Home, mut exporter: Exporter) -> Page {
    exporter.running.signal("KILL");
    exporter.running.ended().await;
    home.config["wechat"]["base_url"] = json!("http://127.0.0.1:1");
    home.start().await.metrics().await
}

async fn survives((act, words): Act) {
    let (_wechat, mut home, exporter, users) = with_history().await;
    let file = home.archive_file();
    act(&file);
    let words = eventually("a message about the file", async || {
        let output = exporter.running.output();
        words.iter().find(|words| output.contains(**words))
    })
    .await;
    let page = exporter.metrics().await;
    assert_eq!(page.users(None), users, "{words}");
    assert!(failures(&page) >= 1.0, "{words}");
    eventually("yesterday in the new file", async || {
        (rows_of_yesterday(&file)? == 1).then_some(())
    })
    .await;
    let status = archive_status(&exporter).await;
    let notice = status["problem"].as_str().unwrap_or_default();
    assert!(notice.contains(*words), "{words}: {notice}");
    let page = restarted(&mut home, exporter).await;
    assert_eq!(page.users(None), users, "{words}");
}

#[tokio::test]
async fn the_page_and_the_newest_day_survive_whatever_happens_to_the_file() {
    on_one_day(async || {
        join_all(ACTS.map(survives)).await;
    })
    .await;
}

#[tokio::test]
async fn a_truncated_index_of_the_log_ends_the_program_and_costs_no_day() {
    on_one_day(async || {
        let (_wechat, mut home, mut exporter, users) = with_history().await;
        truncate(&files(&home.archive_file())[2], 0);
        // SQLite has it in its memory; nothing can be done about that here.
        let (end, _) = exporter.running.ended().await;
        assert_eq!(end.signal(), Some(7), "SIGBUS");
        home.config["wechat"]["base_url"] = json!("http://127.0.0.1:1");
        let page = home.start().await.metrics().await;
        assert_eq!(page.users(None), users);
        assert_eq!(archived(&page, APP), Some(41.0));
    })
    .await;
}

#[tokio::test]
async fn days_that_are_lost_with_a_part_of_the_file_are_shown_as_gaps_after_every_restart() {
    on_one_day(async || {
        let (_wechat, mut home, mut exporter, users) = with_history().await;
        exporter.running.signal("TERM");
        exporter.running.ended().await;
        drop(exporter);
        let file = home.archive_file();
        let mut bytes = fs::read(&file).unwrap();
        let pages = bytes.len() / 4096;
        // The days in the middle: beyond the schema, and before the newest.
        bytes[pages / 3 * 4096..pages / 2 * 4096].fill(0xa5);
        fs::write(&file, bytes).unwrap();
        let mut exporter = home.start().await;
        exporter.running.said("was damaged; it is kept as").await;
        eventually("the copy", async || {
            let status = archive_status(&exporter).await;
            status["problem"]
                .as_str()?
                .contains("days were copied")
                .then_some(())
        })
        .await;
        let gaps = async |exporter: &Exporter| {
            let status = exporter.window_status(APP).await;
            status["archived"]["gaps"].clone()
        };
        let found = eventually("the gaps", async || {
            let gaps = gaps(&exporter).await;
            (!gaps.as_array()?.is_empty()).then_some(gaps)
        })
        .await;
        let page = exporter.metrics().await;
        assert_eq!(page.users(None), users);
        let days = archived(&page, APP).unwrap();
        assert!((10.0..41.0).contains(&days), "{days} of 41 days, {found}");
        exporter.running.signal("KILL");
        exporter.running.ended().await;
        home.config["wechat"]["base_url"] = json!("http://127.0.0.1:1");
        for _ in 0..2 {
            let exporter = home.start().await;
            assert_eq!(gaps(&exporter).await, found);
            let page = exporter.metrics().await;
            assert_eq!(page.users(None), users);
        }
        let first = calendar::days_before(yesterday(), 40).to_string();
        assert!(
            found[0]["first_day"].as_str() >= Some(first.as_str()),
            "{found}"
        );
    })
    .await;
}
