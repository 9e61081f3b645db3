//! The file under everything that may happen to it.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::thread;

use chrono::{DateTime, NaiveDate, Utc};
use rusqlite::Connection;

use super::Store;
use super::identity::{Identity, Loss};
use crate::archive::error::{Error, Operation};
use crate::archive::record::{DayState, Key, Record, Row, Selection};
use crate::archive::sqlite::schema;
use crate::portrait::{AppId, Portrait, Window};
use crate::wechat::decode;

fn now() -> DateTime<Utc> {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

fn appid() -> AppId {
    "wx0123456789abcdef".parse().unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn store(directory: &Path) -> Store {
    Store::of_owner(directory, Arc::new(now))
}

fn file(directory: &Path) -> PathBuf {
    directory.join("portraits.db")
}

fn record(reference_date: &str) -> Record {
    let compact = reference_date.replace('-', "");
    Record {
        key: Key {
            appid: appid(),
            window: Window::OneDay,
            reference_date: day(reference_date),
        },
        state: DayState {
            first_answered_at: now(),
            answered_at: now(),
            settled: false,
            revisions: 0,
        },
        answer: format!(
            r#"{{"ref_date":"{compact}","visit_uv":{{"platforms":[{{"name":"iPhone","value":7}}]}}}}"#
        ),
    }
}

/// A record whose answer hardly compresses.
fn large(reference_date: &str, bytes: usize) -> Record {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: String = std::iter::repeat_with(|| random.alphanumeric())
        .take(bytes)
        .collect();
    let record = record(reference_date);
    Record {
        answer: record
            .answer
            .replacen('{', &format!("{{\"x\":\"{noise}\","), 1),
        ..record
    }
}

fn upsert(store: &mut Store, records: &[Record]) -> Result<(), Error> {
    let rows: Vec<Row> = records.iter().map(Row::from).collect();
    store.upsert(&rows).map(drop)
}

fn all(store: &mut Store) -> Vec<Record> {
    select(store, &Selection::default())
}

fn select(store: &mut Store, selection: &Selection) -> Vec<Record> {
    let mut found = Vec::new();
    let end = store.read(selection, |record| {
        found.push(record);
        ControlFlow::<()>::Continue(())
    });
    assert_eq!(end.unwrap(), ControlFlow::Continue(()));
    assert_eq!(store.count(selection).unwrap(), found.len() as u64);
    found
}

/// Does all the work in slices; returns their number.
fn finish(store: &mut Store) -> usize {
    let mut slices = 0;
    while store.has_work() {
        store.work().unwrap();
        slices += 1;
        assert!(slices < 10_000, "work without end");
    }
    slices
}

#[test]
fn a_row_has_the_answer_and_the_file_a_size() {
    let directory = tempfile::tempdir().unwrap();
    let records = [record("2026-11-20"), record("2026-11-21")];
    upsert(&mut store(directory.path()), &records).unwrap();
    let mut store = store(directory.path());
    assert_eq!(all(&mut store), records);
    assert!(store.size() > 0);
    assert_eq!(Row::from(&records[0]).answer().unwrap(), records[0].answer);
}

#[test]
fn days_beyond_the_retention_are_deleted_in_slices_and_their_space_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let days = day("2026-10-01").iter_days().take(52);
    let mut records: Vec<_> = days.map(|day| large(&day.to_string(), 20_000)).collect();
    for number in 0..60 {
        let mut other = record("2026-11-21");
        other.key.appid = format!("other-{number}").parse().unwrap();
        records.push(other);
    }
    upsert(&mut store, &records).unwrap();
    let before = store.version();
    store.plan_pruning(1, day("2026-11-22"));
    assert!(finish(&mut store) > 3, "in slices");
    assert_ne!(store.version(), before, "everybody is to look again");
    let left = store.coverage(&appid(), Window::OneDay).unwrap();
    assert_eq!(left.last_days(5), [day("2026-11-21")]);
    store.plan_pruning(1, day("2030-01-01"));
    finish(&mut store);
    assert_eq!(all(&mut store).len(), 61, "a wrong clock empties nothing");
    // The file shrinks when the log is written into it.
    drop(store);
    let size = self::store(directory.path()).size();
    assert!(size < 200_000, "{size}");
}

#[test]
fn giving_space_back_ends_where_a_file_cannot_do_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut archive = store(directory.path());
    upsert(
        &mut archive,
        &[large("2026-11-01", 100_000), record("2026-11-21")],
    )
    .unwrap();
    drop(archive);
    Connection::open(file(directory.path()))
        .unwrap()
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA auto_vacuum = NONE; VACUUM; PRAGMA journal_mode = WAL")
        .unwrap();
    let mut store = store(directory.path());
    store.plan_pruning(1, day("2026-11-22"));
    finish(&mut store);
    assert_eq!(all(&mut store), [record("2026-11-21")]);
}

/// Overwrites pages of the file.
fn damage(path: &Path, pages: impl IntoIterator<Item = usize>) {
    let mut bytes = fs::read(path).unwrap();
    for page in pages {
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_bad_page_costs_only_what_is_on_it() {
    for page in [20, 100, 300] {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path());
        let days = day("2025-03-01").iter_days().take(600);
        let records: Vec<_> = days.map(|day| large(&day.to_string(), 3_000)).collect();
        upsert(&mut store(directory.path()), &records).unwrap();
        damage(&path, [page]);
        let mut store = store(directory.path());
        store.open().unwrap();
        let error = store
            .checked(super::inode(&path), schema::check(&path))
            .unwrap_err();
        let Error::Damaged { moved_to, .. } = &error else {
            panic!("{error}")
        };
        assert!(moved_to.is_file(), "nothing is lost");
        // New days are stored while the old ones are copied.
        upsert(&mut store, &[record("2026-11-21")]).unwrap();
        finish(&mut store);
        let saved = all(&mut store).len();
        assert!(saved > 600 - 10, "page {page}: {saved} of 600");
        let notice = store.notice().unwrap();
        assert!(notice.contains("was damaged"), "{notice}");
        assert!(notice.contains("days were copied"), "{notice}");
        schema::check(&path).unwrap();
    }
}

#[test]
fn a_file_that_is_not_a_database_is_set_aside_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    let garbage = "these are not the bytes you are looking for";
    fs::write(&path, garbage).unwrap();
    let mut store = store(directory.path());
    let Err(Error::Damaged { moved_to, .. }) = store.open() else {
        panic!("damage unnoticed")
    };
    assert_eq!(fs::read_to_string(moved_to).unwrap(), garbage);
    store.open().unwrap();
    finish(&mut store);
    upsert(&mut store, &[record("2026-11-21")]).unwrap();
}

#[test]
fn another_program_does_not_set_a_damaged_file_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    fs::write(&path, "no database\n".repeat(1000)).unwrap();
    let mut store = Store::of_guest(directory.path(), Arc::new(now));
    let message = store.open().unwrap_err().to_string();
    assert!(message.contains("it is damaged"), "{message}");
    assert!(path.is_file());
}

/// Changes an archive in use that holds two days; returns it once the change was detected.
fn after(act: impl FnOnce(&Path)) -> (tempfile::TempDir, Store, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    upsert(
        &mut store,
        &[large("2026-11-19", 40_000), record("2026-11-20")],
    )
    .unwrap();
    act(&file(directory.path()));
    let error = store.look_around().unwrap_err();
    (directory, store, error.to_string())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A change of a file in use, and a part of what is then reported.
type Act<'a> = (&'a dyn Fn(&Path), &'a str);

#[test]
fn a_file_that_is_deleted_while_it_is_in_use_is_written_again() {
    let deleted = |path: &Path| fs::remove_file(path).unwrap();
    let directory_emptied = |path: &Path| {
        for suffix in ["", "-wal", "-shm"] {
            fs::remove_file(with_suffix(path, suffix)).unwrap();
        }
    };
    let moved = |path: &Path| {
        let away = path.parent().unwrap().join("away");
        fs::create_dir(&away).unwrap();
        for suffix in ["", "-wal", "-shm"] {
            let from = with_suffix(path, suffix);
            fs::rename(&from, away.join(from.file_name().unwrap())).unwrap();
        }
    };
    let log_deleted = |path: &Path| fs::remove_file(with_suffix(path, "-wal")).unwrap();
    let acts: [Act<'_>; 4] = [
        (&deleted, "was deleted"),
        (&directory_emptied, "was deleted"),
        (&moved, "was deleted"),
        (&log_deleted, "was separated from its write-ahead log"),
    ];
    for (act, words) in acts {
        let (directory, mut store, error) = after(act);
        assert!(error.contains(words), "{error}");
        upsert(&mut store, &[record("2026-11-21")]).unwrap();
        finish(&mut store);
        drop(store);
        let mut again = self::store(directory.path());
        let days: Vec<_> = all(&mut again)
            .iter()
            .map(|record| record.key.reference_date)
            .collect();
        let expected = ["2026-11-19", "2026-11-20", "2026-11-21"].map(day);
        assert_eq!(days, expected, "{words}");
        schema::check(&file(directory.path())).unwrap();
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_in_use_is_used_and_gets_the_days_it_lacks() {
    let backup = tempfile::tempdir().unwrap();
    let mut other = record("2026-11-20");
    other.answer = other.answer.replace(":7", ":9");
    upsert(
        &mut store(backup.path()),
        &[other.clone(), record("2026-11-01")],
    )
    .unwrap();
    let copy = file(backup.path());
    let (directory, mut store, error) = after(|path| {
        fs::copy(&copy, with_suffix(path, ".new")).unwrap();
        fs::rename(with_suffix(path, ".new"), path).unwrap();
    });
    assert!(error.contains("replaced by another file"), "{error}");
    finish(&mut store);
    let expected = [record("2026-11-01"), large("2026-11-19", 40_000), other];
    assert_eq!(all(&mut store), expected);
    drop(store);
    assert_eq!(all(&mut self::store(directory.path())), expected);
}

#[test]
fn a_file_that_replaced_the_one_in_use_is_not_damaged_because_the_log_belongs_to_that() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    upsert(&mut store, &[record("2026-11-20")]).unwrap();
    let path = file(directory.path());
    fs::copy(&path, with_suffix(&path, ".new")).unwrap();
    fs::rename(with_suffix(&path, ".new"), &path).unwrap();
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    let found = Err(rusqlite::Error::SqliteFailure(corrupt, None));
    let error = store.checked(super::inode(&path), found).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("replaced by another file"), "{error}");
}

#[test]
fn a_file_that_is_truncated_while_it_is_in_use_is_started_again() {
    for length in [0, 8192] {
        let directory = tempfile::tempdir().unwrap();
        // Everything is in the file, and nothing in the log.
        upsert(
            &mut store(directory.path()),
            &[large("2026-11-19", 40_000), record("2026-11-20")],
        )
        .unwrap();
        let mut store = store(directory.path());
        store.open().unwrap();
        let path = file(directory.path());
        let open = fs::File::options().write(true).open(&path).unwrap();
        open.set_len(length).unwrap();
        // Not at once: the header runs ahead while another program writes its log into the file.
        assert!(store.look_around().is_ok());
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let error = store.look_around().unwrap_err().to_string();
        assert!(error.contains("was truncated"), "{error}");
        upsert(&mut store, &[record("2026-11-21")]).unwrap();
        finish(&mut store);
        drop(store);
        let records = all(&mut self::store(directory.path()));
        assert!(records.contains(&record("2026-11-21")), "{length}");
        schema::check(&path).unwrap();
    }
}

#[test]
fn a_file_is_truncated_only_if_it_was_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    // As after a checkpoint without room on the disk: a header of ten pages, of which one was written.
    let mut page = vec![0; 4096];
    page[16..18].copy_from_slice(&4096_u16.to_be_bytes());
    page[28..32].copy_from_slice(&10_u32.to_be_bytes());
    fs::write(&path, &page).unwrap();
    let [log, index] = ["-wal", "-shm"].map(|suffix| with_suffix(&path, suffix));
    let mut identity = Identity::of(&path, log, index);
    let mut after = |length| {
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(length).unwrap();
        assert_eq!(identity.loss(), None);
        std::thread::sleep(std::time::Duration::from_millis(1100));
        identity.loss()
    };
    assert_eq!(after(4096), None);
    assert_eq!(after(8192), None);
    assert_eq!(after(4096), Some(Loss::Truncated));
}

#[test]
fn a_program_that_reads_at_the_same_time_does_not_remove_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let path = file(directory.path());
    upsert(&mut store, &[record("2026-11-20")]).unwrap();
    for day in ["2026-11-21", "2026-11-22"] {
        store.look_around().unwrap();
        // The last program that uses a file writes its log into it and deletes that.
        let output = std::process::Command::new("sqlite3")
            .arg(&path)
            .arg("SELECT count(*) FROM portraits")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(with_suffix(&path, "-wal").exists(), "it is not the last");
        store.look_around().unwrap();
        upsert(&mut store, &[record(day)]).unwrap();
    }
    assert_eq!(all(&mut store).len(), 3);
}

#[test]
fn an_interrupted_copy_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    let days = day("2026-01-01").iter_days().take(300);
    let records: Vec<_> = days.map(|day| large(&day.to_string(), 3_000)).collect();
    upsert(&mut store(directory.path()), &records).unwrap();
    damage(&path, [50]);
    let mut archive = store(directory.path());
    archive.open().unwrap();
    let checked = (super::inode(&path), schema::check(&path));
    archive.checked(checked.0, checked.1).unwrap_err();
    archive.work().unwrap();
    // The check of one file says nothing about the one that replaced it.
    let other = (
        checked.0,
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT),
            None,
        )),
    );
    archive.checked(other.0, other.1).unwrap();
    drop(archive);

    let mut again = store(directory.path());
    again.open().unwrap();
    assert!(again.has_rescue());
    finish(&mut again);
    assert!(all(&mut again).len() > 290);
    drop(again);
    let mut third = store(directory.path());
    third.open().unwrap();
    assert!(!third.has_rescue(), "once and no more");
}

#[test]
fn a_row_that_cannot_be_converted_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    old_archive(&path, &old_records()[..3]);
    Connection::open(&path)
        .unwrap()
        .execute_batch("UPDATE answers SET revisions = -1 WHERE reference_date = '2026-06-02'")
        .unwrap();
    let mut store = store(directory.path());
    store.open().unwrap();
    finish(&mut store);
    assert_eq!(all(&mut store).len(), 2);
    let kept = "SELECT answer FROM unreadable_1";
    let kept = Connection::open(&path)
        .unwrap()
        .query_one(kept, [], |row| row.get::<_, String>(0));
    assert_eq!(kept, Ok(old_records()[1].answer.clone()));
}

#[test]
fn days_are_imported_before_the_exporter_has_seen_an_older_archive() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = old_records();
    old_archive(&file(directory.path()), &records);
    let mut guest = Store::of_guest(directory.path(), Arc::new(now));
    let rows = [Row::from(&records[3]), Row::from(&record("2026-11-18"))];
    assert_eq!(guest.insert_missing(&rows).unwrap(), 1);
    drop(guest);
    records.push(record("2026-11-18"));
    let mut store = store(directory.path());
    store.open().unwrap();
    finish(&mut store);
    assert_eq!(all(&mut store), records);
}

#[test]
fn several_programs_may_create_the_archive_at_the_same_time() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        let days = ["2026-11-17", "2026-11-18", "2026-11-19", "2026-11-20"];
        let start = Barrier::new(days.len());
        thread::scope(|scope| {
            for (index, day) in days.into_iter().enumerate() {
                let (start, directory) = (&start, directory.path());
                scope.spawn(move || {
                    let mut archive = match index {
                        0 => store(directory),
                        _ => Store::of_guest(directory, Arc::new(now)),
                    };
                    let record = record(day);
                    start.wait();
                    assert_eq!(archive.insert_missing(&[Row::from(&record)]).unwrap(), 1);
                });
            }
        });
        assert_eq!(all(&mut store(directory.path())), days.map(record));
    }
}

#[test]
fn commits_by_other_programs_are_detected() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    upsert(&mut store, &[record("2026-11-20")]).unwrap();
    assert!(!store.look_around().unwrap());
    let mut guest = Store::of_guest(directory.path(), Arc::new(now));
    let rows = [Row::from(&record("2026-11-19"))];
    guest.insert_missing(&rows).unwrap();
    assert!(store.look_around().unwrap());
    assert!(!store.look_around().unwrap());
}

/// The archive of the first version of the program, with these days.
fn old_archive(path: &Path, records: &[Record]) {
    let connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;
             CREATE TABLE answers (
                 appid TEXT NOT NULL, window TEXT NOT NULL, reference_date TEXT NOT NULL,
                 first_answered_at INTEGER NOT NULL, answered_at INTEGER NOT NULL,
                 settled INTEGER NOT NULL, revisions INTEGER NOT NULL, answer TEXT NOT NULL,
                 PRIMARY KEY (appid, window, reference_date)) STRICT;
             PRAGMA application_id = 2004381812; PRAGMA user_version = 1;",
        )
        .unwrap();
    for Record { key, state, answer } in records {
        connection
            .execute(
                "INSERT INTO answers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                (
                    key.appid.as_str(),
                    key.window.as_str(),
                    key.reference_date.to_string(),
                    state.first_answered_at.timestamp(),
                    state.answered_at.timestamp(),
                    state.settled,
                    state.revisions,
                    answer,
                ),
            )
            .unwrap();
    }
}

fn old_records() -> Vec<Record> {
    let days = day("2026-06-01").iter_days().take(170);
    let mut records: Vec<_> = days.map(|day| large(&day.to_string(), 1_000)).collect();
    records[7].answer = "{damaged".to_owned();
    records
}

/// A day of a history.
type Day = (NaiveDate, DayState, Option<u64>, Option<Portrait>);

/// Returns the day of a history that a record is.
fn read(record: &Record) -> Day {
    let Record { key, state, answer } = record;
    let portrait = decode::archived(answer, key.window, key.reference_date).ok();
    let digest = portrait.as_ref().map(Portrait::digest);
    (key.reference_date, *state, digest, portrait)
}

/// Returns a history that is read in slices of so many days.
fn histories(store: &mut Store, from: &str, limit: usize) -> Vec<Day> {
    let mut days: Vec<Day> = Vec::new();
    let mut from = day(from);
    loop {
        let slice = store.history(&appid(), Window::OneDay, from, limit);
        let slice = slice.unwrap().into_iter().map(|day| {
            let day = day.read(Window::OneDay);
            (day.reference_date, day.state, day.digest, day.figures)
        });
        days.extend(slice);
        match days.last().and_then(|day| day.0.succ_opt()) {
            Some(next) if next > from => from = next,
            _ => return days,
        }
    }
}

#[test]
fn a_history_has_the_days_from_one_on_and_those_that_are_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let records = ["2026-11-17", "2026-11-18", "2026-11-20", "2026-11-21"].map(record);
    let mut other = record("2026-11-19");
    other.key.window = Window::SevenDays;
    upsert(&mut store, &records).unwrap();
    upsert(&mut store, &[other]).unwrap();
    let mut expected: Vec<_> = records.iter().skip(1).map(read).collect();
    for limit in [1, 2, 3, 9] {
        assert_eq!(histories(&mut store, "2026-11-18", limit), expected);
    }
    let file = Connection::open(store.path()).unwrap();
    // Its figures are all that a history needs of an answer.
    for (damage, day) in [
        ("answer = x'7bff7d'", "2026-11-18"),
        ("figures = 'none'", "2026-11-20"),
        ("revisions = -1", "2026-11-21"),
    ] {
        let sql = format!("UPDATE portraits SET {damage} WHERE reference_date = '{day}'");
        assert_eq!(file.execute(&sql, []).unwrap(), 1);
    }
    expected[1].3 = None;
    expected.pop();
    assert_eq!(histories(&mut store, "2026-11-18", 9), expected);
    assert_eq!(histories(&mut store, "2026-11-22", 9), []);
}

#[test]
fn records_of_one_app_and_window_are_read_in_slices() {
    let directory = tempfile::tempdir().unwrap();
    let old = old_records();
    old_archive(&file(directory.path()), &old);
    let mut store = store(directory.path());
    store.open().unwrap();
    let mut others = [record("2026-06-04"), record("2026-06-05")];
    others[0].key.window = Window::SevenDays;
    others[1].key.appid = "wx1123456789abcdef".parse().unwrap();
    upsert(&mut store, &others).unwrap();
    while store.has_work() {
        let mut from = NaiveDate::MIN;
        for expected in old.chunks(64) {
            let slice = store.records(&appid(), Window::OneDay, from, 64).unwrap();
            assert_eq!(slice, expected);
            from = slice[slice.len() - 1]
                .key
                .reference_date
                .succ_opt()
                .unwrap();
        }
        let rest = store.records(&appid(), Window::OneDay, from, 64);
        assert_eq!(rest.unwrap(), []);
        store.work().unwrap();
    }
}

#[test]
fn an_archive_of_the_first_version_is_converted_in_slices_and_complete_at_any_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    let records = old_records();
    old_archive(&path, &records);
    let mut guest = Store::of_guest(directory.path(), Arc::new(now));
    assert_eq!(all(&mut guest), records, "read as it is");
    drop(guest);
    let expected: Vec<_> = records.iter().map(read).collect();
    assert_eq!(expected.iter().filter(|day| day.3.is_none()).count(), 1);

    for slices in 1.. {
        // Killed in between, again and again.
        let mut store = store(directory.path());
        store.open().unwrap();
        assert_eq!(all(&mut store), records);
        let restored = store
            .restore(&appid(), Window::OneDay, 29, day("2026-11-21"))
            .unwrap();
        assert_eq!(restored.coverage.days(), 170);
        assert_eq!(restored.days.len(), 29);
        assert!(restored.days.iter().all(|day| day.figures.is_some()));
        assert_eq!(restored.newest.unwrap().1, records[169].answer);
        assert_eq!(histories(&mut store, "2026-06-01", 64), expected);
        let key = &records[100].key;
        assert_eq!(
            store.answer(key).unwrap(),
            Some(records[100].answer.clone())
        );
        for _ in 0..slices {
            store.work().unwrap();
        }
        if !store.has_work() {
            break;
        }
    }
    let store_twice = |store: &mut Store| {
        assert_eq!(all(store), records);
        assert!(!store.has_work());
    };
    store_twice(&mut store(directory.path()));
    schema::check(&path).unwrap();
    let old = Connection::open(&path).unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'answers_1'";
    assert_eq!(old.query_one(tables, [], |row| row.get::<_, i64>(0)), Ok(0));
}

#[test]
fn days_are_stored_while_an_older_archive_is_converted() {
    let directory = tempfile::tempdir().unwrap();
    let mut records = old_records();
    old_archive(&file(directory.path()), &records);
    let mut store = store(directory.path());
    store.open().unwrap();
    // One that is not converted yet comes with other figures, one is new.
    records[160].answer = record("2026-11-08").answer;
    records[160].state.revisions = 1;
    records.push(record("2026-11-18"));
    upsert(&mut store, &[records[160].clone(), records[170].clone()]).unwrap();
    // What is not converted has no digest yet, and is written again when it is confirmed.
    let Record { key, state, .. } = &records[161];
    assert!(!store.update_state(key, 1, state).unwrap());
    let twice = [Row::from(&records[162])];
    assert_eq!(store.insert_missing(&twice).unwrap(), 0);
    assert_eq!(all(&mut store), records);
    finish(&mut store);
    assert_eq!(all(&mut store), records);
}

#[test]
fn the_shell_of_sqlite_reads_answers_as_the_documentation_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path());
    old_archive(&path, &old_records());
    let mut store = store(directory.path());
    store.open().unwrap();
    for is_converted in [false, true] {
        if is_converted {
            finish(&mut store);
        }
        let query = "SELECT answer -> '$.visit_uv.platforms[0].value' FROM answers
                     WHERE appid = 'wx0123456789abcdef' AND window = '1d' AND reference_date = '2026-06-02'";
        let output = std::process::Command::new("sqlite3")
            .arg(&path)
            .arg(query)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n", "{output:?}");
    }
}

#[test]
fn a_row_with_values_out_of_range_does_not_hide_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    let records = ["2026-11-18", "2026-11-19", "2026-11-20", "2026-11-21"].map(record);
    upsert(&mut store, &records).unwrap();
    let other = Connection::open(store.path()).unwrap();
    for (column, value, day) in [
        ("reference_date", "'yesterday'", "2026-11-18"),
        ("revisions", "-1", "2026-11-19"),
        ("answered_at", "9223372036854775807", "2026-11-20"),
    ] {
        let sql = format!("UPDATE portraits SET {column} = {value} WHERE reference_date = '{day}'");
        assert_eq!(other.execute(&sql, []).unwrap(), 1);
    }
    let restored = store
        .restore(&appid(), Window::OneDay, 10, day("2026-11-21"))
        .unwrap();
    assert_eq!(restored.coverage.last_days(9), [day("2026-11-21")]);
    assert_eq!(restored.newest.unwrap().0, day("2026-11-21"));
    let mut read = Vec::new();
    let end = store.read(&Selection::default(), |record| {
        read.push(record);
        ControlFlow::<()>::Continue(())
    });
    assert!(end.unwrap().is_continue());
    assert_eq!(read, records[3..]);
}

#[test]
fn an_unknown_schema_is_refused_with_its_number() {
    for (version, words) in [
        (
            7,
            "written by a newer version of this program (schema 7, this one knows 2)",
        ),
        (-3, "the schema -3, which no version of this program writes"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = file(directory.path());
        let other = Connection::open(&path).unwrap();
        other
            .pragma_update(None, "application_id", 0x7778_7074)
            .unwrap();
        other.pragma_update(None, "user_version", version).unwrap();
        drop(other);
        let before = fs::read(&path).unwrap();
        let error = store(directory.path()).open().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.prevents_start());
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn a_locked_file_is_reported_and_used_again_when_free() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    upsert(&mut store, &[record("2026-11-20")]).unwrap();
    let other = Connection::open(store.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = upsert(&mut store, &[record("2026-11-21")]).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("another program holds it locked"),
        "{message}"
    );
    assert_eq!(error.operation(), Operation::Write);
    assert_eq!(all(&mut store), [record("2026-11-20")], "readers continue");
    other.execute_batch("ROLLBACK").unwrap();
    upsert(&mut store, &[record("2026-11-21")]).unwrap();
}

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = store(directory.path());
    upsert(&mut store, &[record("2026-11-20")]).unwrap();
    store
        .with(Operation::Open, |open| {
            open.connection.execute_batch("PRAGMA max_page_count = 1")
        })
        .unwrap();
    let records = [record("2026-11-22"), large("2026-11-21", 100_000)];
    let error = upsert(&mut store, &records).unwrap_err();
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert_eq!(all(&mut store), [record("2026-11-20")], "all or none");
}

#[test]
fn a_read_only_file_can_still_be_read() {
    let directory = tempfile::tempdir().unwrap();
    upsert(&mut store(directory.path()), &[record("2026-11-20")]).unwrap();
    let store = store(directory.path());
    let connection = store.connect_read_only().unwrap();
    let days = "SELECT count(*) FROM answers WHERE answer <> ''";
    assert_eq!(
        connection.query_one(days, [], |row| row.get::<_, i64>(0)),
        Ok(1)
    );
}

#[test]
fn a_directory_that_cannot_be_created_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = store(&blocked.join("archive")).open().unwrap_err();
    assert!(
        error.to_string().contains("cannot open the archive"),
        "{error}"
    );
}
