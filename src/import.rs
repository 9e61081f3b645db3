//! Reads history from elsewhere: JSON lines of `export`, and unchanged responses of WeChat.
//!
//! Does not depend on flags, files or the archive: lines in, entries or problems out, each with the number of
//! its line.

use std::collections::HashMap;
use std::io::{self, BufRead, Read as _};
use std::ops::ControlFlow;

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::archive::{Coverage, DayState, Key, Record};
use crate::calendar;
use crate::export::Row;
use crate::portrait::{AppId, Cohort, Dimension, Portrait, Window};
use crate::wechat::{DecodeError, decode, encode};

/// On this day WeChat opened the first mini programs.
const FIRST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(2017, 1, 9) {
    Some(day) => day,
    None => NaiveDate::MAX,
};

/// No line and no response is longer; one of WeChat has some 40 KB.
const MAX_BYTES: u64 = 8 << 20;

fn too_long() -> String {
    format!(
        "longer than {} MiB, which no response of WeChat is",
        MAX_BYTES >> 20
    )
}

/// What a response of WeChat does not contain.
#[derive(Debug, Clone, Default)]
pub struct ImportDefaults {
    /// Its app.
    pub appid: Option<AppId>,
    /// The days that it covers: the window and the last day. By default they follow from its
    /// `ref_date`.
    pub covers: Option<(Window, NaiveDate)>,
}

/// What a file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A day.
    Day(Record),
    /// A response without users, and its error.
    NoPortrait(String),
}

/// Reads a file, and passes its items with their line numbers to `each`, until that returns a break.
///
/// A file contains one response, or lines, each of them a row of `export` or a response. The rows of a
/// day follow each other. Days that are not over at `now` are refused. Problems are sentences for the
/// operator.
///
/// # Errors
///
/// The file can't be read to its end.
pub fn read(
    mut file: impl BufRead,
    given: &ImportDefaults,
    now: DateTime<Utc>,
    each: impl FnMut(usize, Result<Item, String>) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut reading = Reading {
        given,
        now,
        each,
        flow: ControlFlow::Continue(()),
        rows: None,
        finished: HashMap::new(),
    };
    let mut line = Vec::new();
    let mut number = 0;
    let mut is_first = true;
    while reading.flow.is_continue() {
        line.clear();
        number += 1;
        let mut limited = (&mut file).take(MAX_BYTES + 1);
        if limited.read_until(b'\n', &mut line)? == 0 {
            if is_first {
                reading.pass_on(number, Err("file is empty".to_owned()));
            }
            reading.finish_rows();
            break;
        }
        if line.len() as u64 > MAX_BYTES {
            reading.pass_on(number, Err(too_long()));
            break;
        }
        let text = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line);
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if is_first && serde_json::from_slice::<IgnoredAny>(text).is_err() {
            let rest = (MAX_BYTES + 1).saturating_sub(line.len() as u64);
            (&mut file).take(rest).read_to_end(&mut line)?;
            let item = if line.len() as u64 > MAX_BYTES {
                Err(too_long())
            } else {
                reading.answer(&line)
            };
            reading.pass_on(number, item);
            break;
        }
        is_first = false;
        reading.line(number, text);
    }
    Ok(())
}

/// A file that is being read.
struct Reading<'a, F> {
    given: &'a ImportDefaults,
    now: DateTime<Utc>,
    each: F,
    flow: ControlFlow<()>,
    /// The day whose rows are being read.
    rows: Option<Rows>,
    /// Days whose rows are complete; stretches of days, as a file may have any number.
    finished: HashMap<(AppId, Window), Coverage>,
}

struct Rows {
    line: usize,
    key: Key,
    state: DayState,
    portrait: Portrait,
}

/// Distinguishes a row from a response.
#[derive(Deserialize)]
struct Kind {
    cohort: Option<IgnoredAny>,
}

impl<F: FnMut(usize, Result<Item, String>) -> ControlFlow<()>> Reading<'_, F> {
    fn pass_on(&mut self, number: usize, item: Result<Item, String>) {
        if self.flow.is_continue() {
            self.flow = (self.each)(number, item);
        }
    }

    fn line(&mut self, number: usize, text: &[u8]) {
        if let Ok(Kind { cohort: Some(_) }) = serde_json::from_slice(text) {
            if let Err(problem) = self.row(number, text) {
                self.pass_on(number, Err(problem));
            }
        } else {
            let item = self.answer(text);
            self.pass_on(number, item);
        }
    }

    /// Reads a response of WeChat.
    fn answer(&self, text: &[u8]) -> Result<Item, String> {
        let read = || {
            let (window, reference_date) = match self.given.covers {
                Some(covers) => covers,
                // A response without a day is not a portrait, or can't be decoded.
                None => decode::covered(text)?.unwrap_or((Window::OneDay, NaiveDate::MIN)),
            };
            decode::portrait(text, window, reference_date)
        };
        let answer = match read() {
            Ok(answer) => answer,
            Err(error @ (DecodeError::Empty | DecodeError::Refused(_))) => {
                return Ok(Item::NoPortrait(error.to_string()));
            }
            Err(error) => return Err(error.to_string()),
        };
        let Some(appid) = self.given.appid.clone() else {
            return Err(
                "this is a response of WeChat, which does not contain its appid: add --appid"
                    .to_owned(),
            );
        };
        let Portrait {
            window,
            reference_date,
            ..
        } = answer.portrait;
        self.check_day(reference_date)?;
        let answered_at = calendar::expected_available_at(reference_date).min(self.now);
        Ok(Item::Day(Record {
            key: Key {
                appid,
                window,
                reference_date,
            },
            state: DayState {
                first_answered_at: answered_at,
                answered_at,
                settled: false,
                revisions: 0,
            },
            answer: answer.text,
        }))
    }

    /// Reads a row of an export.
    fn row(&mut self, number: usize, text: &[u8]) -> Result<(), String> {
        let row: Row<'_> = serde_json::from_slice(text)
            .map_err(|error| format!("not a row of an export: {error}"))?;
        if row.name.trim().is_empty() {
            return Err("the name is blank".to_owned());
        }
        if self.given.covers.is_some() {
            return Err(
                "rows of an export contain their days: leave out --window and --reference-date"
                    .to_owned(),
            );
        }
        if let Some(given) = self
            .given
            .appid
            .as_ref()
            .filter(|given| **given != row.appid)
        {
            return Err(format!(
                "of {}, not of the given {given}: leave out --appid, or export with it",
                row.appid
            ));
        }
        self.check_day(row.reference_date)?;
        let key = Key {
            appid: row.appid.clone(),
            window: row.window,
            reference_date: row.reference_date,
        };
        if self.rows.as_ref().is_none_or(|rows| rows.key != key) {
            self.finish_rows();
            let finished = self.finished.get(&(key.appid.clone(), key.window));
            if finished.is_some_and(|days| days.has(key.reference_date)) {
                return Err(format!(
                    "further rows of {} {} {}: keep the rows of a day together",
                    row.appid, row.window, row.reference_date
                ));
            }
            let usually = calendar::expected_available_at(row.reference_date).min(self.now);
            let first_answered_at = row.first_answered_at.unwrap_or(usually);
            let answered_at = row.answered_at.unwrap_or(first_answered_at);
            let end_of_day = calendar::end_of_day(row.reference_date);
            if first_answered_at < end_of_day
                || answered_at < first_answered_at
                || answered_at > self.now
            {
                return Err(format!(
                    "first_answered_at and answered_at must lie between the end of {} and now, in this order",
                    row.reference_date
                ));
            }
            self.rows = Some(Rows {
                line: number,
                key,
                state: DayState {
                    first_answered_at,
                    answered_at,
                    settled: row.settled,
                    revisions: row.revisions,
                },
                portrait: Portrait::new(row.window, row.reference_date),
            });
        }
        let is_duplicate = self.rows.as_mut().is_some_and(|rows| {
            let breakdown = rows.portrait.breakdown_mut(row.cohort, row.dimension);
            breakdown.add(row.name.clone().into_owned(), row.users)
        });
        if is_duplicate {
            return Err(format!("duplicate `{}` for that day", row.name));
        }
        Ok(())
    }

    /// Passes on the day whose rows are complete.
    fn finish_rows(&mut self) {
        if let Some(rows) = self.rows.take() {
            let of_window = (rows.key.appid.clone(), rows.key.window);
            let finished = self.finished.entry(of_window).or_default();
            finished.add(rows.key.reference_date, 0);
            let is_whole = |dimension: &Dimension| {
                let of_cohort =
                    |cohort: &Cohort| !rows.portrait.breakdown(*cohort, *dimension).is_empty();
                Cohort::ALL.iter().any(of_cohort)
            };
            // A day that WeChat can still complete has to be polled.
            let is_final = rows.key.reference_date < calendar::oldest_queryable(self.now)
                || Dimension::ALL.iter().all(is_whole);
            let record = Record {
                answer: encode(&rows.portrait),
                state: DayState {
                    settled: rows.state.settled && is_final,
                    ..rows.state
                },
                key: rows.key,
            };
            self.pass_on(rows.line, Ok(Item::Day(record)));
        }
    }

    fn check_day(&self, day: NaiveDate) -> Result<(), String> {
        if day > calendar::yesterday(self.now) {
            Err(format!("{day} is not over yet in Beijing"))
        } else if day < FIRST_DAY {
            Err(format!("{day} is before the first mini programs"))
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use serde_json::{Value, json};

    use super::*;
    const APP: &str = "wx0123456789abcdef";

    fn now() -> DateTime<Utc> {
        "2026-11-22T01:00:00Z".parse().unwrap()
    }

    fn defaults() -> ImportDefaults {
        ImportDefaults {
            appid: Some(APP.parse().unwrap()),
            covers: None,
        }
    }

    fn items(text: impl AsRef<[u8]>, given: &ImportDefaults) -> Vec<(usize, Result<Item, String>)> {
        let mut items = Vec::new();
        let each = |line, item| {
            items.push((line, item));
            ControlFlow::Continue(())
        };
        read(text.as_ref(), given, now(), each).unwrap();
        items
    }

    /// Returns the days that a text has, as line, window and reference date.
    fn days(text: impl AsRef<[u8]>, given: &ImportDefaults) -> Vec<(usize, String)> {
        let day = |(line, item)| match item {
            Ok(Item::Day(record)) => (
                line,
                format!("{} {}", record.key.window, record.key.reference_date),
            ),
            other => panic!("{line}: {other:?}"),
        };
        items(text, given).into_iter().map(day).collect()
    }

    /// Returns the line and the text of the only problem.
    #[track_caller]
    fn problem(text: impl AsRef<[u8]>, given: &ImportDefaults) -> (usize, String) {
        let items = items(text, given).into_iter();
        let mut problems = items.filter_map(|(line, item)| Some((line, item.err()?)));
        let problem = problems.next().unwrap();
        assert_eq!(problems.next(), None);
        problem
    }

    fn answer(ref_date: &str) -> Value {
        json!({"ref_date": ref_date, "visit_uv": {"ages": [{"name": "18-24岁", "value": 3}]}})
    }

    fn row(day: &str, name: &str) -> Value {
        json!({
            "appid": APP, "window": "1d", "reference_date": day,
            "cohort": "new", "dimension": "platform", "name": name, "users": 5,
        })
    }

    fn lines(values: &[Value]) -> String {
        let lines: Vec<String> = values.iter().map(Value::to_string).collect();
        lines.join("\n")
    }

    #[test]
    fn a_response_may_be_a_file_or_a_line() {
        let pretty = serde_json::to_string_pretty(&answer("20261120")).unwrap();
        for text in [
            pretty.clone(),
            format!("\u{feff}\n{pretty}"),
            answer("2026-11-20").to_string(),
        ] {
            assert_eq!(
                days(&text, &defaults()).last().unwrap().1,
                "1d 2026-11-20",
                "{text}"
            );
        }
        let text = lines(&[answer("20261120"), answer("20261115-20261121")]);
        let expected = [
            (1, "1d 2026-11-20".to_owned()),
            (2, "7d 2026-11-21".to_owned()),
        ];
        assert_eq!(days(text, &defaults()), expected);
    }

    #[test]
    fn an_answer_is_kept_as_it_came_with_the_usual_time() {
        let text = answer("20261119").to_string();
        let [(1, Ok(Item::Day(record)))] = &items(&text, &defaults())[..] else {
            panic!("one day")
        };
        let known_at: DateTime<Utc> = "2026-11-20T02:00:00Z".parse().unwrap();
        assert_eq!(record.answer, text);
        assert_eq!(
            (record.state.first_answered_at, record.state.answered_at),
            (known_at, known_at)
        );
        assert!(!record.state.settled);
        let [(1, Ok(Item::Day(record)))] = &items(answer("20261121").to_string(), &defaults())[..]
        else {
            panic!("one day")
        };
        assert_eq!(
            record.state.first_answered_at,
            now(),
            "ten o'clock is still to come"
        );
    }

    #[test]
    fn the_days_of_a_carelessly_dated_answer_can_be_given() {
        let day = "2026-11-21".parse().unwrap();
        let given = ImportDefaults {
            covers: Some((Window::SevenDays, day)),
            ..defaults()
        };
        let text = answer("20261115").to_string();
        assert_eq!(days(text, &given), [(1, "7d 2026-11-21".to_owned())]);
        let (_, other) = problem(answer("20261101").to_string(), &given);
        assert_eq!(
            other,
            "unreadable response: requested 20261115-20261121, its ref_date is 20261101"
        );
    }

    #[test]
    fn answers_without_users_are_not_days_and_not_problems() {
        let refused = json!({"errcode": 61503, "errmsg": "not ready"});
        let empty = json!({"ref_date": "20261120", "visit_uv": {}, "visit_uv_new": {}});
        let items = items(lines(&[refused, empty, json!({})]), &defaults());
        let sentences: Vec<_> = items.into_iter().map(|(_, item)| item.unwrap()).collect();
        let none = |sentence: &str| Item::NoPortrait(sentence.to_owned());
        assert_eq!(
            sentences,
            [
                none("WeChat returned errcode 61503"),
                none("WeChat returned an empty portrait"),
                none("WeChat returned an empty portrait"),
            ]
        );
    }

    #[test]
    fn rows_of_a_day_become_one_answer() {
        let mut second = row("2026-11-20", "iPhone");
        second["cohort"] = json!("active");
        let text = lines(&[
            row("2026-11-20", "Android"),
            second,
            row("2026-11-21", "iPhone"),
        ]);
        let items = items(text, &ImportDefaults::default());
        let [(1, Ok(Item::Day(first))), (3, Ok(Item::Day(second)))] = &items[..] else {
            panic!("{items:?}")
        };
        assert_eq!(second.key.reference_date, "2026-11-21".parse().unwrap());
        let read = decode::portrait(
            first.answer.as_bytes(),
            first.key.window,
            first.key.reference_date,
        );
        let portrait = read.unwrap().portrait;
        let rows = |cohort| {
            portrait
                .breakdown(cohort, Dimension::Platform)
                .iter()
                .collect::<Vec<_>>()
        };
        assert_eq!(rows(Cohort::New), [("Android", 5)]);
        assert_eq!(rows(Cohort::Active), [("iPhone", 5)]);
    }

    #[test]
    fn a_part_of_a_day_that_wechat_still_has_is_not_settled() {
        let rows = |day: &str, dimensions: &[Dimension]| {
            let row = |dimension: &Dimension| {
                let mut row = row(day, "a");
                row["dimension"] = json!(dimension);
                row["settled"] = json!(true);
                row
            };
            let rows: Vec<Value> = dimensions.iter().map(row).collect();
            match items(lines(&rows), &defaults()).remove(0).1 {
                Ok(Item::Day(record)) => record.state.settled,
                other => panic!("{other:?}"),
            }
        };
        assert!(rows("2026-11-20", &Dimension::ALL));
        assert!(!rows("2026-11-20", &[Dimension::Platform]));
        assert!(rows("2026-11-19", &[Dimension::Platform]));
    }

    #[test]
    fn a_problem_is_reported_with_its_line() {
        let with = |key: &str, value: Value| {
            let mut row = row("2026-11-20", "iPhone");
            row[key] = value;
            row.to_string()
        };
        let good = row("2026-11-20", "iPhone");
        let cases = [
            (String::new(), 1, "file is empty"),
            ("not JSON".to_owned(), 1, "8 bytes that are not JSON"),
            (format!("{good}\n{{\"ref"), 2, "bytes that are not JSON"),
            (
                lines(&[good.clone(), good.clone()]),
                2,
                "duplicate `iPhone` for that day",
            ),
            (
                lines(&[
                    good.clone(),
                    row("2026-11-21", "iPhone"),
                    row("2026-11-20", "Android"),
                ]),
                3,
                "further rows of wx0123456789abcdef 1d 2026-11-20: keep the rows of a day together",
            ),
            (
                with("users", json!(-1)),
                1,
                "not a row of an export: invalid value: integer `-1`",
            ),
            (
                with("window", json!("2d")),
                1,
                "unknown window `2d`: expected one of 1d, 7d, 30d",
            ),
            (with("appid", json!("a b")), 1, "not an appid"),
            (with("name", json!(" ")), 1, "the name is blank"),
            (
                with("reference_date", json!("1926-11-20")),
                1,
                "1926-11-20 is before the first mini programs",
            ),
            (
                with("answered_at", json!("2026-11-22T01:00:01Z")),
                1,
                "must lie between the end of 2026-11-20 and now",
            ),
            (
                with("first_answered_at", json!("2026-11-20T15:00:00Z")),
                1,
                "must lie between",
            ),
            (
                with("reference_date", json!("2026-11-22")),
                1,
                "2026-11-22 is not over yet in Beijing",
            ),
            (
                with("appid", json!("wx1")),
                1,
                "of wx1, not of the given wx0123456789abcdef",
            ),
            (
                answer("20261122").to_string(),
                1,
                "2026-11-22 is not over yet in Beijing",
            ),
            (
                answer("20261101-20261103").to_string(),
                1,
                "neither a day, nor 7 days, nor 30 days",
            ),
            (
                json!({"visit_uv": {"ages": [{"name": "a", "value": 1}]}}).to_string(),
                1,
                "ref_date is missing",
            ),
            (
                json!({"list": []}).to_string(),
                1,
                "neither ref_date nor visit_uv is in it",
            ),
        ];
        for (text, line, expected) in cases {
            let (found, sentence) = problem(&text, &defaults());
            assert!(sentence.contains(expected), "{text}: {sentence}");
            assert_eq!(found, line, "{text}");
        }
        let (_, sentence) = problem(answer("20261120").to_string(), &ImportDefaults::default());
        assert!(sentence.ends_with("add --appid"), "{sentence}");
    }

    #[test]
    fn reading_ends_when_the_caller_breaks() {
        let text = lines(&[answer("20261119"), answer("20261120"), answer("20261121")]);
        let mut seen = 0;
        let each = |_, _| {
            seen += 1;
            ControlFlow::Break(())
        };
        read(text.as_bytes(), &defaults(), now(), each).unwrap();
        assert_eq!(seen, 1);
    }

    /// Texts that are dates, almost dates, and dates that no calendar has.
    fn dates() -> impl Strategy<Value = String> {
        const AWKWARD: [&str; 24] = [
            "",
            "-",
            "0",
            "00000000",
            "00000101",
            "00010101",
            "20170108",
            "20260229",
            "20261231",
            "99991231",
            "100000101",
            "99999999",
            "00000101-00000107",
            "99991225-99991231",
            "20261032-20261101",
            "0000-01-01",
            "9999-12-31",
            "-0001-12-31",
            "-262143-01-01",
            "+262142-12-31",
            "+262143-01-01",
            "999999999-12-31",
            "２０２６1121",
            "2026年11月21日",
        ];
        prop_oneof![
            select(AWKWARD.map(str::to_owned).to_vec()),
            "[-+]?[0-9]{0,10}(-[0-9]{1,10}){0,3}",
        ]
    }

    fn times() -> impl Strategy<Value = String> {
        (
            dates(),
            "T(00:00|23:59|24:00):[0-9]{2}(Z|[+-](00:00|08:00|23:59|99:99))",
        )
            .prop_map(|(date, time)| date + &time)
    }

    proptest! {
        #[test]
        fn no_date_whatever_panics(
            date in dates(), first in times(), last in times(), at in select(vec![0, 1, 2]),
            covered in (i32::MIN..=i32::MAX).prop_map(NaiveDate::from_num_days_from_ce_opt),
        ) {
            let days = [NaiveDate::MIN, NaiveDate::MAX, covered.unwrap_or_default()];
            let covers = Window::ALL.map(|window| Some((window, days[at])));
            let mut row = row(&date, "iPhone");
            let without_times = row.to_string();
            row["first_answered_at"] = json!(first);
            row["answered_at"] = json!(last);
            let mut with_times = row.clone();
            with_times["reference_date"] = json!("2026-11-20");
            let texts = [answer(&date).to_string(), without_times, row.to_string(), with_times.to_string()];
            for (text, covers) in texts.iter().flat_map(|text| covers.iter().chain([&None]).map(move |covers| (text, covers))) {
                let given = ImportDefaults { covers: *covers, ..defaults() };
                for (_, item) in items(text, &given) {
                    if let Ok(Item::Day(record)) = item {
                        let known = FIRST_DAY..=calendar::yesterday(now());
                        prop_assert!(known.contains(&record.key.reference_date));
                        prop_assert!(record.state.answered_at <= now());
                    }
                }
            }
        }
    }
}
