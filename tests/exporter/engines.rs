//! The archive in either engine: every test is run once per engine, against a real file and a real server.
//!
//! What only one of them has, damaged files or two writers, is tested beside it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use tempfile::TempDir;
use wxapp_portrait_exporter::archive::{
    Database, DayState, Error, Key, Record, Row, Selection, Sharing, Store,
};
use wxapp_portrait_exporter::portrait::{AppId, Portrait, Window};
use wxapp_portrait_exporter::wechat::decode;

use crate::postgres_server::Postgres;

/// An archive that is empty at first.
enum Engine {
    Sqlite(TempDir),
    /// The name of a database of the shared server.
    Postgres(String),
}

impl Engine {
    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    fn postgres() -> Self {
        Self::Postgres(Postgres::shared().database())
    }

    /// Opens it, as another exporter or the same one after a restart.
    fn open(&self) -> Store {
        match self {
            Self::Sqlite(directory) => Store::of_owner(directory.path(), Arc::new(now)),
            Self::Postgres(name) => {
                let url = Postgres::shared().url(name).into();
                let database = Database::parse(&url, Path::new(".")).unwrap();
                Store::of_database(database, Sharing::default()).unwrap()
            }
        }
    }

    /// Runs SQL on the table of the portraits.
    fn sql(&self, sql: &str) {
        match self {
            Self::Sqlite(directory) => {
                let file = directory.path().join("portraits.db");
                let file = rusqlite::Connection::open(file).unwrap();
                assert_eq!(file.execute(sql, []).unwrap(), 1, "{sql}");
            }
            Self::Postgres(name) => drop(Postgres::shared().sql(name, sql)),
        }
    }
}

macro_rules! in_both_engines {
    ($($(#[$attribute:meta])* fn $test:ident($engine:ident) $body:block)*) => {
        mod cases {
            use super::*;
            $($(#[$attribute])* pub(super) fn $test($engine: &Engine) $body)*
        }
        mod sqlite {
            use super::{Engine, cases};
            $(#[test] fn $test() { cases::$test(&Engine::sqlite()); })*
        }
        mod in_postgres {
            use super::{Engine, cases};
            $(#[test] fn $test() { cases::$test(&Engine::postgres()); })*
        }
    };
}

fn now() -> DateTime<Utc> {
    "2026-11-22T02:00:00Z".parse().unwrap()
}

fn appid() -> AppId {
    "wx0123456789abcdef".parse().unwrap()
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
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
            r#"{{"ref_date":"{compact}","visit_uv":{{"platforms":[{{"name":"iPhone 😀","value":7}}]}}}}"#
        ),
    }
}

fn digest(record: &Record) -> Option<u64> {
    read(record).2
}

fn upsert(store: &mut Store, records: &[Record]) -> Vec<DayState> {
    let rows: Vec<Row> = records.iter().map(Row::from).collect();
    store.upsert(&rows).unwrap()
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

in_both_engines! {
    fn records_come_back_after_a_restart(engine) {
        let records = [record("2026-11-20"), record("2026-11-21")];
        upsert(&mut engine.open(), &records);
        let mut store = engine.open();
        assert_eq!(all(&mut store), records);
        let restored = store
            .restore(&appid(), Window::OneDay, 10, day("2026-11-21"))
            .unwrap();
        let (newest, answer) = restored.newest.unwrap();
        assert_eq!(
            (newest, answer),
            (day("2026-11-21"), records[1].answer.clone())
        );
        let days: Vec<_> = restored.days.iter().map(|day| day.reference_date).collect();
        assert_eq!(days, [day("2026-11-21"), day("2026-11-20")]);
        let portrait = restored.days[0].figures.as_ref().unwrap();
        assert_eq!(Some(portrait.digest()), restored.days[0].digest);
        assert_eq!(store.answer(&records[0].key).unwrap(), Some(records[0].answer.clone()));
        assert_eq!(store.answer(&record("2026-11-01").key).unwrap(), None);
    }

    fn coverage_has_the_days_the_gaps_and_the_revisions(engine) {
        let mut store = engine.open();
        let day = |day: u32| NaiveDate::from_ymd_opt(2026, 11, day).unwrap();
        let held = |day: u32| {
            let mut record = record(&format!("2026-11-{day:02}"));
            record.state.revisions = day;
            record
        };
        upsert(&mut store, &[held(5), held(2), held(3), held(11), held(12)]);
        let coverage = store.coverage(&appid(), Window::OneDay).unwrap();
        assert_eq!(coverage.days(), 5);
        assert_eq!(coverage.bounds(), Some((day(2), day(12))));
        assert_eq!(coverage.revisions, 33);
        assert_eq!(coverage.last_days(3), [day(12), day(11), day(5)]);
        assert!(coverage.has(day(5)) && !coverage.has(day(4)));
        let gaps = [(day(4), day(4)), (day(6), day(10))];
        assert_eq!(coverage.gaps(day(13)), gaps);
        assert_eq!(coverage.gaps(day(8)), [gaps[0], (day(6), day(7))]);
        assert_eq!(coverage.gaps(day(6)), gaps[..1]);
        assert_eq!(coverage.gaps(day(15))[2], (day(13), day(14)));
        let mut added = coverage.clone();
        added.add(day(4), 1);
        added.add(day(4), 1);
        assert_eq!((added.days(), added.revisions), (6, 34));
        assert_eq!(added.gaps(day(13)), gaps[1..]);
        let none = store.coverage(&appid(), Window::SevenDays).unwrap();
        assert_eq!(
            (none.days(), none.bounds(), none.gaps(day(15))),
            (0, None, vec![])
        );
    }

    fn a_selection_is_passed_on_in_order_until_it_is_broken_off(engine) {
        let mut store = engine.open();
        let mut other = record("2026-11-20");
        other.key.appid = "wx1123456789abcdef".parse().unwrap();
        let mut capital = record("2026-11-20");
        // Before the others in the order of bytes, and not in that of a language.
        capital.key.appid = "WX".parse().unwrap();
        let mut week = record("2026-11-20");
        week.key.window = Window::SevenDays;
        let records = [capital, record("2026-11-19"), record("2026-11-20"), week, other];
        let mut shuffled = records.clone();
        shuffled.reverse();
        upsert(&mut store, &shuffled);
        assert_eq!(all(&mut store), records);
        let of_one = Selection {
            appids: vec![appid()],
            windows: vec![Window::OneDay],
            ..Selection::default()
        };
        assert_eq!(select(&mut store, &of_one), records[1..3]);
        let of_day = Selection {
            appids: vec![appid()],
            from: Some(day("2026-11-20")),
            to: Some(day("2026-11-20")),
            ..Selection::default()
        };
        assert_eq!(select(&mut store, &of_day), records[2..4]);
        let and_before = Selection { lead: 1, ..of_day };
        assert_eq!(select(&mut store, &and_before), records[1..4]);
        let first = store.read(&Selection::default(), ControlFlow::Break);
        assert_eq!(first.unwrap(), ControlFlow::Break(records[0].clone()));
        assert_eq!(all(&mut store), records, "it can be read again");
    }

    fn adding_days_does_not_replace_archived_ones(engine) {
        let mut store = engine.open();
        upsert(&mut store, &[record("2026-11-20")]);
        let mut other = record("2026-11-20");
        "{}".clone_into(&mut other.answer);
        let rows = [Row::from(&other), Row::from(&record("2026-11-21"))];
        assert_eq!(store.insert_missing(&rows).unwrap(), 1);
        assert_eq!(
            all(&mut store),
            [record("2026-11-20"), record("2026-11-21")]
        );
        assert_eq!(store.insert_missing(&[]).unwrap(), 0);
        assert_eq!(upsert(&mut store, &[]), []);
    }

    fn a_revision_replaces_the_figures_but_not_when_the_day_became_known(engine) {
        let mut store = engine.open();
        upsert(&mut store, &[record("2026-11-21")]);
        let later = now() + TimeDelta::hours(1);
        let mut revised = record("2026-11-21");
        revised.answer = revised.answer.replace(":7", ":8");
        revised.state = DayState {
            first_answered_at: now(),
            answered_at: later,
            settled: false,
            revisions: 1,
        };
        let state = revised.state;
        revised.state.first_answered_at = now();
        assert_eq!(upsert(&mut store, &[revised.clone()]), [state]);
        assert_eq!(all(&mut store), [revised.clone()]);

        revised.state.settled = true;
        revised.state.answered_at = later + TimeDelta::hours(1);
        let digest = digest(&revised).unwrap();
        let Record { key, state, .. } = &revised;
        assert!(store.update_state(key, digest, state).unwrap());
        assert!(
            !store.update_state(key, digest + 1, state).unwrap(),
            "others"
        );
        assert_eq!(all(&mut store), [revised]);
        let unknown = record("2026-11-01");
        assert!(
            !store
                .update_state(&unknown.key, digest, &unknown.state)
                .unwrap()
        );
    }

    fn days_beyond_the_retention_are_deleted_in_slices(engine) {
        let mut store = engine.open();
        let days = day("2026-10-01").iter_days().take(52);
        let mut records: Vec<_> = days.map(|day| record(&day.to_string())).collect();
        for number in 0..60 {
            let mut other = record("2026-11-21");
            other.key.appid = format!("other-{number}").parse().unwrap();
            records.push(other);
        }
        upsert(&mut store, &records);
        let before = store.version();
        let first = store.first_day_kept(1, day("2026-11-22"), day("2026-11-20"));
        assert_eq!(first.unwrap(), day("2026-11-21"));
        store.plan_pruning(1, day("2026-11-22"));
        assert!(finish(&mut store) > 1, "in slices");
        assert_ne!(store.version(), before, "everybody is to look again");
        let left = store.coverage(&appid(), Window::OneDay).unwrap();
        assert_eq!(left.last_days(5), [day("2026-11-21")]);
        store.plan_pruning(1, day("2030-01-01"));
        finish(&mut store);
        assert_eq!(all(&mut store).len(), 61, "a wrong clock empties nothing");
    }

    fn nothing_is_deleted_from_an_empty_archive(engine) {
        let mut store = engine.open();
        store.plan_pruning(1, day("2026-11-22"));
        finish(&mut store);
        assert_eq!(all(&mut store), []);
    }

    fn a_history_has_the_days_from_one_on_and_those_that_are_damaged(engine) {
        let mut store = engine.open();
        let records = ["2026-11-17", "2026-11-18", "2026-11-20", "2026-11-21"].map(record);
        let mut other = record("2026-11-19");
        other.key.window = Window::SevenDays;
        upsert(&mut store, &records);
        upsert(&mut store, &[other]);
        let mut expected: Vec<_> = records.iter().skip(1).map(read).collect();
        for limit in [1, 2, 3, 9] {
            assert_eq!(histories(&mut store, "2026-11-18", limit), expected);
        }
        // Its figures are all that a history needs of an answer.
        let empty = match engine {
            Engine::Sqlite(_) => "x''",
            Engine::Postgres(_) => "''",
        };
        for (damage, day) in [
            (format!("answer = {empty}"), "2026-11-18"),
            ("figures = 'none'".to_owned(), "2026-11-20"),
        ] {
            engine.sql(&format!(
                "UPDATE portraits SET {damage} WHERE reference_date = '{day}'"
            ));
        }
        expected[1].3 = None;
        assert_eq!(histories(&mut store, "2026-11-18", 9), expected);
        assert_eq!(histories(&mut store, "2026-11-22", 9), []);
    }

    fn records_of_one_app_and_window_are_read_in_slices(engine) {
        let mut store = engine.open();
        let days = day("2026-06-01").iter_days().take(9);
        let records: Vec<_> = days.map(|day| record(&day.to_string())).collect();
        let mut others = [record("2026-06-04"), record("2026-06-05")];
        others[0].key.window = Window::SevenDays;
        others[1].key.appid = "wx1123456789abcdef".parse().unwrap();
        upsert(&mut store, &others);
        upsert(&mut store, &records);
        let mut from = NaiveDate::MIN;
        for expected in records.chunks(4) {
            let slice = store.records(&appid(), Window::OneDay, from, 4).unwrap();
            assert_eq!(slice, expected);
            from = slice[slice.len() - 1].key.reference_date.succ_opt().unwrap();
        }
        let rest = store.records(&appid(), Window::OneDay, from, 4);
        assert_eq!(rest.unwrap(), []);
    }

    fn a_day_that_is_not_over_is_not_the_newest(engine) {
        let mut store = engine.open();
        upsert(&mut store, &[record("2026-11-21"), record("2027-01-01")]);
        let restored = store
            .restore(&appid(), Window::OneDay, 10, day("2026-11-21"))
            .unwrap();
        assert_eq!(restored.newest.unwrap().0, day("2026-11-21"));
        assert_eq!(restored.days.len(), 1);
    }

    fn an_answer_that_cannot_be_read_is_kept_and_does_not_hide_others(engine) {
        let mut store = engine.open();
        let mut damaged = record("2026-11-21");
        "{\"a\": \"\\u0000".clone_into(&mut damaged.answer);
        let records = [record("2026-11-20"), damaged];
        upsert(&mut store, &records);
        assert_eq!(all(&mut store), records);
        let restored = store.restore(&appid(), Window::OneDay, 10, day("2026-11-21")).unwrap();
        assert_eq!(restored.coverage.days(), 2);
        assert!(restored.days[0].figures.is_none() && restored.days[1].figures.is_some());
    }

    fn an_archive_of_a_newer_version_is_not_touched(engine) {
        upsert(&mut engine.open(), &[record("2026-11-21")]);
        match engine {
            Engine::Sqlite(directory) => {
                let file = rusqlite::Connection::open(directory.path().join("portraits.db")).unwrap();
                file.pragma_update(None, "user_version", 77).unwrap();
            }
            Engine::Postgres(_) => engine.sql("UPDATE portrait_schema SET version = 77"),
        }
        let error = engine.open().open().unwrap_err();
        assert!(matches!(error, Error::Newer { found: 77, .. }), "{error}");
        assert!(error.prevents_start());
    }

    fn a_database_of_another_program_is_not_touched(engine) {
        match engine {
            Engine::Sqlite(directory) => {
                let file = rusqlite::Connection::open(directory.path().join("portraits.db")).unwrap();
                file.execute_batch("CREATE TABLE portraits (x); PRAGMA user_version = 1").unwrap();
            }
            Engine::Postgres(_) => engine.sql("CREATE TABLE portraits (x integer)"),
        }
        let error = engine.open().open().unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert!(error.prevents_start());
    }
}
