//! The archive after a power loss, which is a copy of its files in which some sectors are older than others,
//! and after damage.
//!
//! A process of its own writes; it is stopped to copy what it has written so far. SQLite syncs its log at the end of every
//! transaction and before it copies the log into the file, and the file before it begins to overwrite the log. In
//! between, any of the sectors that have changed since an earlier copy may be missing.

#![expect(
    clippy::print_stdout,
    reason = "what was stored is printed for another process, and what the tests that take minutes counted"
)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use fastrand::Rng;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use wxapp_portrait_exporter::archive::{Archive, DayState, Key, Record, Row, Selection, Store};
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::portrait::Window;

use crate::harness::{APP, OTHER, Running, appid, eventually, now};

const APPS: [&str; 3] = [APP, OTHER, "wx2123456789abcdef"];

/// How many days the writer has; it begins again after the last one.
const DAYS: u64 = 61;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// The sizes of a page, of its header in the log, and of the header of the log
/// (<https://www.sqlite.org/fileformat2.html>).
const PAGE: usize = 1024;
const HEADER_OF_PAGE: usize = 24;
const HEADER: usize = 32;

/// With so many pages in its log SQLite begins to copy them into the file.
const COPIED_PAGES: usize = 1_000;

/// How long the writer runs at most before it is stopped again.
const RUN: Duration = Duration::from_millis(40);

/// How many of the last copies a power loss may lead back to.
const COPIES: usize = 4;

/// The last transaction of the writer, so that it ends if nobody stops it.
const LAST: u64 = 1_000_000;

/// The number of the last transaction that wrote an app and day, by both.
type Contents = BTreeMap<(String, NaiveDate), u64>;

#[tokio::test]
async fn twenty_power_losses_lose_no_stored_day() {
    lose_power(20).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn a_thousand_power_losses_lose_no_stored_day() {
    lose_power(1_000).await;
}

#[tokio::test]
async fn what_is_read_of_ten_damaged_archives_was_written() {
    damage(10).await;
}

#[tokio::test]
#[ignore = "takes minutes; tests/run --long runs it"]
async fn what_is_read_of_a_hundred_damaged_archives_was_written() {
    damage(100).await;
}

/// Writes until it is killed, and prints the number of every transaction that is stored.
#[test]
#[ignore = "another test runs it"]
#[expect(
    clippy::disallowed_methods,
    reason = "the other test sets this variable"
)]
fn write_as_a_child() {
    let Some(directory) = std::env::var_os("POWER_LOSS") else {
        return;
    };
    let mut archive = Store::of_owner(Path::new(&directory), Arc::new(now));
    for number in 0..LAST {
        let rows: Vec<_> = records(number).iter().map(Row::from).collect();
        archive.upsert(&rows).unwrap();
        println!("stored {number}");
    }
}

/// Returns what a transaction stores: a day of one to three apps, so that one can be stored in part.
fn records(number: u64) -> Vec<Record> {
    let day = calendar::days_before(
        NaiveDate::from_ymd_opt(2026, 11, 21).unwrap(),
        number % DAYS,
    );
    let apps = usize::try_from(number % 3).unwrap() + 1;
    let record = |app: &&str| {
        let answered_at = calendar::expected_available_at(day);
        Record {
            key: Key {
                appid: appid(app),
                window: Window::OneDay,
                reference_date: day,
            },
            state: DayState {
                first_answered_at: answered_at,
                answered_at,
                settled: false,
                revisions: 0,
            },
            answer: answer(day, number).to_string(),
        }
    };
    APPS[..apps].iter().map(record).collect()
}

/// Returns an answer with the number of its transaction, of several pages that can't be compressed.
fn answer(day: NaiveDate, number: u64) -> Value {
    let mut dice = Rng::with_seed(number);
    let mut name = || -> String {
        std::iter::repeat_with(|| dice.alphanumeric())
            .take(24)
            .collect()
    };
    let devices: Vec<_> = (0..80)
        .map(|_| json!({"name": name(), "value": 1}))
        .collect();
    json!({
        "ref_date": day.format("%Y%m%d").to_string(),
        "visit_uv": {"platforms": [{"name": "iPhone", "value": number}], "devices": devices},
    })
}

/// Returns what is stored after so many transactions.
fn stored(transactions: u64) -> Contents {
    let mut contents = Contents::new();
    // The others were overwritten.
    for number in transactions.saturating_sub(3 * DAYS)..transactions {
        for record in records(number) {
            let key = (record.key.appid.to_string(), record.key.reference_date);
            contents.insert(key, number);
        }
    }
    contents
}

/// A process that writes.
struct Writer {
    running: Running,
    directory: TempDir,
}

/// The files of the archive at one moment.
#[derive(Clone)]
struct Copy {
    file: Vec<u8>,
    /// The write-ahead log, and the index of it, which is not kept on purpose.
    log: Vec<u8>,
    index: Vec<u8>,
    /// How many transactions were known to be stored by then.
    stored: u64,
}

impl Writer {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([
                "--exact",
                "power_loss::write_as_a_child",
                "--ignored",
                "--nocapture",
            ])
            .env("POWER_LOSS", directory.path());
        let running = Running::start(command);
        // With several rounds of the log.
        eventually("some hundred transactions", async || {
            running.output().contains("stored 300\n").then_some(())
        })
        .await;
        let writer = Self { running, directory };
        writer.stop().await;
        writer
    }

    async fn stop(&self) {
        self.running.signal("STOP");
        let status = format!("/proc/{}/status", self.running.id().as_raw_nonzero());
        eventually("the writer to stop", async || {
            let status = fs::read_to_string(&status).unwrap();
            status.contains("State:\tT").then_some(())
        })
        .await;
    }

    /// Lets it run for a moment, and copies its files.
    async fn copy(&self, dice: &mut Rng) -> Copy {
        self.running.signal("CONT");
        tokio::time::sleep(RUN.mul_f64(dice.f64())).await;
        self.stop().await;
        let read = |name: &str| fs::read(self.directory.path().join(name)).unwrap();
        let output = self.running.output();
        let (lines, _) = output.rsplit_once('\n').unwrap();
        let (_, last) = lines.rsplit_once("stored ").unwrap();
        Copy {
            file: read("portraits.db"),
            log: read("portraits.db-wal"),
            index: read("portraits.db-shm"),
            stored: last.parse::<u64>().unwrap() + 1,
        }
    }
}

impl Copy {
    /// Returns which round of the log this is: another one after the log was overwritten from its beginning.
    fn round(&self) -> &[u8] {
        self.log.get(16..24).unwrap_or_default()
    }

    /// Returns how many pages the log has of its round.
    fn pages(&self) -> usize {
        let pages = self.log.get(HEADER..).unwrap_or_default();
        let pages = pages.chunks_exact(HEADER_OF_PAGE + PAGE);
        pages
            .take_while(|page| page[8..16] == *self.round())
            .count()
    }

    /// Returns files in which any of the sectors that have changed since `before` did not reach the disk.
    fn torn(&self, before: &Self, dice: &mut Rng) -> Self {
        let mut torn = self.clone();
        let share = *dice.choice(&[0.0, 0.1, 0.5, 0.9, 1.0]).unwrap();
        let is_same_round = self.round() == before.round();
        // The log was synced before the first of its pages was copied into the file.
        let may_be_copied = self.pages() >= COPIED_PAGES;
        if may_be_copied && is_same_round && dice.bool() {
            torn.file = tear(&before.file, &self.file, 0, share, dice);
        } else if is_same_round {
            torn.file.clone_from(&before.file);
            torn.log = tear(&before.log, &self.log, 0, share, dice);
        } else if !may_be_copied {
            // The file was synced before the log began again, and the header of the log after it.
            torn.log = tear(&before.log, &self.log, SECTOR, share, dice);
        }
        torn.stored = before.stored;
        torn
    }

    /// Writes the files into a new directory.
    fn write(&self, dice: &mut Rng) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        write("portraits.db", &self.file);
        write("portraits.db-wal", &self.log);
        if dice.bool() {
            write("portraits.db-shm", &self.index);
        }
        directory
    }
}

/// Mixes the sectors of two versions of a file; those before `from` are of the new one.
fn tear(old: &[u8], new: &[u8], from: usize, share: f64, dice: &mut Rng) -> Vec<u8> {
    let mut torn = new.to_vec();
    for at in (from..new.len()).step_by(SECTOR) {
        let end = (at + SECTOR).min(new.len());
        let before = old.get(at..end);
        if before == Some(&new[at..end]) || dice.f64() >= share {
            continue;
        }
        // Beyond the end of the old one there are zeros, or whatever was there before.
        let noise = dice.bool();
        for (offset, byte) in torn[at..end].iter_mut().enumerate() {
            *byte = match old.get(at + offset) {
                Some(byte) => *byte,
                None if noise => dice.u8(..),
                None => 0,
            };
        }
    }
    if dice.bool() && old.len() < new.len() {
        torn.truncate(dice.usize(old.len()..=new.len()));
    }
    torn
}

/// Takes copies of what a writer writes, tears them, and opens them as after a power loss.
async fn lose_power(rounds: u64) {
    let writer = Writer::start().await;
    let mut dice = Rng::with_seed(rounds);
    let mut copies = vec![writer.copy(&mut dice).await];
    let (mut transactions, mut kept) = (0, 0);
    for round in 0..rounds {
        let copy = writer.copy(&mut dice).await;
        let before = dice.choice(&copies).unwrap();
        let torn = copy.torn(before, &mut dice);
        let place = format!("round {round}, {} to {} stored", before.stored, copy.stored);
        let directory = torn.write(&mut dice);
        let (least, most) = (before.stored, copy.stored + 1);
        let check = move || after_power_loss(directory.path(), least, most, &place);
        kept += tokio::task::spawn_blocking(check).await.unwrap() - least;
        transactions += most - least;
        if copies.len() == COPIES {
            copies.remove(0);
        }
        copies.push(copy);
    }
    println!(
        "{rounds} power losses: every transaction that was stored is there, and {kept} of {transactions} of which that was not known yet"
    );
}

/// Checks that exactly the first transactions are in an archive, at least and at most so many; returns how many.
fn after_power_loss(directory: &Path, least: u64, most: u64, place: &str) -> u64 {
    let mut archive = Store::of_owner(directory, Arc::new(now));
    archive
        .open()
        .unwrap_or_else(|error| panic!("{error}; {place}"));
    let check = Connection::open(archive.file().unwrap()).and_then(|archive| {
        archive.query_one("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    assert_eq!(check.as_deref(), Ok("ok"), "{place}");
    let mut contents = Contents::new();
    let read = archive.read(&Selection::default(), |record| {
        let number = written(&record).unwrap_or_else(|| panic!("{:?}; {place}", record.key));
        let key = (record.key.appid.to_string(), record.key.reference_date);
        contents.insert(key, number);
        ControlFlow::<()>::Continue(())
    });
    assert!(read.is_ok(), "{read:?}; {place}");
    let transactions = contents.values().max().map_or(0, |last| last + 1);
    assert!(
        (least..=most).contains(&transactions),
        "{transactions}; {place}"
    );
    assert!(
        contents == stored(transactions),
        "not whole transactions; {place}"
    );
    assert_eq!(set_aside(directory), [""; 0], "{place}");
    // It is written again.
    let rows: Vec<_> = records(transactions).iter().map(Row::from).collect();
    archive.upsert(&rows).unwrap();
    transactions
}

/// Returns the number of the transaction that wrote a record; `None` if none has written it like this.
fn written(record: &Record) -> Option<u64> {
    let found: Value = serde_json::from_str(&record.answer).ok()?;
    let number = found["visit_uv"]["platforms"][0]["value"].as_u64()?;
    (found == answer(record.key.reference_date, number)).then_some(number)
}

/// Returns the names of the files that were set aside.
fn set_aside(directory: &Path) -> Vec<String> {
    let files = fs::read_dir(directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    let is_aside = |name: &String| {
        name.contains(".damaged-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    };
    names.filter(is_aside).collect()
}

/// Overwrites or cuts off any part of the files of a writer, and opens them.
async fn damage(rounds: u64) {
    let writer = Writer::start().await;
    let mut dice = Rng::with_seed(rounds);
    let (mut days, mut kept, mut aside) = (0, 0, 0);
    for round in 0..rounds {
        let mut copy = writer.copy(&mut dice).await;
        let in_file = dice.bool();
        let bytes = if in_file {
            &mut copy.file
        } else {
            &mut copy.log
        };
        let at = dice.usize(..bytes.len());
        if dice.bool() {
            bytes.truncate(at);
        } else {
            for _ in 0..dice.usize(1..=4) {
                let at = dice.usize(..bytes.len() / SECTOR) * SECTOR;
                bytes[at..at + SECTOR].fill(0);
            }
        }
        let directory = copy.write(&mut dice);
        let place = format!("round {round}, file: {in_file}");
        let found = after_damage(directory.path(), copy.stored, &place).await;
        days += stored(copy.stored).len();
        kept += found;
        aside += set_aside(directory.path()).len();
    }
    println!(
        "{rounds} damaged archives: {kept} of {days} days were read, and {aside} files were set aside"
    );
}

/// Opens an archive as the exporter does, and checks every day that is read; returns how many.
async fn after_damage(directory: &Path, stored: u64, place: &str) -> usize {
    let path: PathBuf = directory.to_owned();
    let open = move || Archive::open(Store::of_owner(&path, Arc::new(now)), |_| {});
    let archive = tokio::task::spawn_blocking(open).await.unwrap();
    let archive = archive.unwrap_or_else(|error| panic!("{error}; {place}"));
    archive.check().await;
    let found = eventually("what can be read of the archive", async || {
        let mut found = Vec::new();
        for app in APPS {
            let first = NaiveDate::MIN;
            let records = archive.records(appid(app), Window::OneDay, first, 1_000);
            found.extend(records.await.ok()?);
        }
        let mut aside = set_aside(directory).into_iter();
        aside.all(|name| name.ends_with(".copied")).then_some(found)
    })
    .await;
    // A day whose answer is damaged is empty, and is requested again while WeChat has it.
    let readable = found.iter().filter(|record| !record.answer.is_empty());
    let numbers = readable.map(|record| {
        let number = written(record);
        assert!(
            number.is_some_and(|number| number <= stored),
            "{record:?}; {place}"
        );
    });
    let number = numbers.count();
    let next = records(stored + 1)
        .iter()
        .map(Row::from)
        .map(Arc::new)
        .collect();
    let again = archive.upsert(next).await;
    assert!(again.is_ok(), "{again:?}; {place}");
    archive.close().await;
    number
}
