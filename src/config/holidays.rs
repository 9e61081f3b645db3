//! The calendar of an app: the keys of `holidays`, validated, and the files of years that they name.
//!
//! What such a file contains is read in `calendar`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

use super::access;
use super::raw::RawHolidays;
use super::read::Text;
use super::validate::{Check, beside};
use crate::calendar::{HolidayYear, Holidays};

/// What the keys of `holidays` amount to, key by key, as an app may set only one of them.
#[derive(Clone)]
pub(super) struct Calendars {
    /// Whether `calendar` is `none`.
    is_off: bool,
    /// The calendar of China with the years of `files`.
    china: Holidays,
    /// The patterns of these files.
    pub(super) files: Vec<PathBuf>,
}

impl Default for Calendars {
    fn default() -> Self {
        Self {
            is_off: false,
            china: Holidays::china(),
            files: Vec::new(),
        }
    }
}

impl Calendars {
    /// Returns the calendar that applies.
    pub(super) fn chosen(self) -> Holidays {
        if self.is_off {
            Holidays::none()
        } else {
            self.china
        }
    }
}

impl Check<'_> {
    /// Reads the keys of `holidays`; those that are not set are as in `defaults`.
    pub(super) fn calendars(
        &mut self,
        key: &str,
        raw: Option<RawHolidays>,
        defaults: &Calendars,
    ) -> Calendars {
        let raw = raw.unwrap_or_default();
        let is_off = raw
            .calendar
            .and_then(|name| self.is_off(&format!("{key}.calendar"), &name));
        let is_off = is_off.unwrap_or(defaults.is_off);
        let Some(patterns) = raw.files else {
            return Calendars {
                is_off,
                ..defaults.clone()
            };
        };
        let files = patterns.iter();
        Calendars {
            is_off,
            files: files.map(|file| beside(&self.file, &file.value)).collect(),
            china: self.china_with(&format!("{key}.files"), &patterns),
        }
    }

    fn is_off(&mut self, key: &str, name: &Text) -> Option<bool> {
        match name.value.as_str() {
            "cn" => Some(false),
            "none" => Some(true),
            other => {
                let problem = format!("unknown calendar `{other}`: expected one of cn, none");
                self.problem(name.line, key, problem);
                None
            }
        }
    }

    /// Returns the calendar of China with the years of these files, which are read once for each list.
    fn china_with(&mut self, key: &str, patterns: &[Text]) -> Holidays {
        let mut files = Vec::new();
        for pattern in patterns {
            let found = self.matching(key, pattern).into_iter();
            files.extend(found.map(|path| (pattern.line, path)));
        }
        let paths: Vec<PathBuf> = files.iter().map(|(_, path)| path.clone()).collect();
        if let Some(known) = self.known_holidays.get(&paths) {
            return known.clone();
        }
        let mut years = BTreeMap::new();
        for (line, path) in files {
            let read = access::read_text(&path).and_then(|text| {
                let year = text.parse::<HolidayYear>();
                year.map_err(|problem| format!("{}: {problem}", path.display()))
            });
            let problem = match read {
                Ok(year) => match years.entry(year.year()) {
                    Entry::Vacant(entry) => {
                        entry.insert((path, year));
                        continue;
                    }
                    Entry::Occupied(entry) => {
                        let (year, (first, _)) = (entry.key(), entry.get());
                        let (first, second) = (first.display(), path.display());
                        format!("{first} and {second} are both of {year}: remove one")
                    }
                },
                Err(problem) => problem,
            };
            self.problem(line, key, problem);
        }
        let known = Holidays::china_with(years.into_values().map(|(_, year)| year));
        self.known_holidays.insert(paths, known.clone());
        known
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Directory, MAIN, app, assert_app_problems, assert_problems};
    use super::*;
    use crate::calendar::DayKind;

    /// A file of a year whose first day is a holiday.
    fn file(year: i32) -> String {
        let day = format!(r#"{{"name": "元旦", "date": "{year}-01-01", "isOffDay": true}}"#);
        format!(r#"{{"year": {year}, "papers": [], "days": [{day}]}}"#)
    }

    /// Returns the calendars of the apps.
    fn calendars(directory: &Directory) -> Vec<Holidays> {
        let apps = directory.load().unwrap().apps.into_iter();
        apps.map(|app| app.holidays).collect()
    }

    fn kind(holidays: &Holidays, day: &str) -> DayKind {
        holidays.kind(day.parse().unwrap())
    }

    #[test]
    fn the_holidays_of_china_are_built_in_and_can_be_turned_off() {
        for (keys, expected) in [
            ("", Holidays::china()),
            ("holidays: {calendar: cn, files: []}", Holidays::china()),
            ("holidays: {calendar: none}", Holidays::none()),
        ] {
            let text = app(&format!("secret_env: A\n    {keys}"));
            let directory = Directory::new(&[(MAIN, &text)]);
            assert_eq!(calendars(&directory), [expected], "{keys}");
        }
    }

    #[test]
    fn an_app_takes_over_the_keys_of_its_calendar_that_it_does_not_set() {
        let text = "holidays: {files: ['holidays/*.json']}
apps_files: [apps.d/x.yml]
apps:
- {appid: wx0000000000000000, secret_env: A}
- {appid: wx1111111111111111, secret_env: A, holidays: {calendar: none}}
- {appid: wx2222222222222222, secret_env: A, holidays: {files: [own.json]}}
- {appid: wx3333333333333333, secret_env: A, holidays: {files: []}}
";
        let others = "- {appid: wx4444444444444444, secret_env: A, holidays: {calendar: cn}}
- {appid: wx5555555555555555, secret_env: A, holidays: {files: [own.json]}}
";
        let directory = Directory::new(&[
            (MAIN, text),
            ("holidays/2098.json", &file(2098)),
            ("holidays/2099.json", &file(2099)),
            ("own.json", &file(2097)),
            ("apps.d/x.yml", others),
            ("apps.d/own.json", &file(2096)),
        ]);
        let calendars = calendars(&directory);
        let known = |calendar: &Holidays| {
            let years = (2096..2100).filter(|year| {
                let day = format!("{year}-01-01");
                kind(calendar, &day) == DayKind::Holiday
            });
            years.collect::<Vec<_>>()
        };
        let found: Vec<_> = calendars.iter().map(known).collect();
        let inherited = vec![2098, 2099];
        let expected = [
            inherited.clone(),
            vec![],
            vec![2097],
            vec![],
            inherited,
            vec![2096],
        ];
        assert_eq!(found, expected);
        assert_eq!(calendars[1], Holidays::none());
        assert_eq!(calendars[3], Holidays::china());
        assert!(
            kind(&calendars[2], "2026-10-01") == DayKind::Holiday,
            "what is built in stays"
        );
    }

    #[test]
    fn a_file_is_read_again_with_the_configuration() {
        let text = format!("holidays: {{files: [x.json]}}\n{}", app("secret_env: A"));
        let directory = Directory::new(&[(MAIN, &text), ("x.json", &file(2098))]);
        let before = calendars(&directory);
        assert_eq!(before, calendars(&directory));
        directory.write("x.json", file(2099));
        assert_ne!(before, calendars(&directory));
    }

    #[test]
    fn wrong_calendars_and_files_are_reported_with_file_line_and_key() {
        assert_problems(&[
            (
                "holidays: {calendar: us}",
                "1: holidays.calendar: unknown calendar `us`: expected one of cn, none",
            ),
            (
                "holidays:\n  files: [holidays/2027.json]",
                "2: holidays.files: no such file: holidays/2027.json",
            ),
            (
                "holidays: {file: x}",
                "1: holidays.file: unknown key, did you mean `files`: expected one of calendar, files",
            ),
        ]);
        assert_app_problems(&[(
            "secret_env: A\n    holidays: {files: [gone.json]}",
            "4: apps[0].holidays.files: no such file: gone.json",
        )]);

        let text = format!(
            "holidays:\n  files:\n  - holidays/*.json\n  - x.json\n{}",
            app("secret_env: A")
        );
        let directory = Directory::new(&[
            (MAIN, &text),
            ("holidays/2098.json", "{}"),
            ("holidays/2099.json", &file(2099)),
            ("x.json", &file(2099)),
        ]);
        assert_eq!(
            directory.problems(),
            "wxapp-portrait.yml:3: holidays.files: holidays/2098.json: not a list of holidays: missing field `year` at line 1 column 2
wxapp-portrait.yml:4: holidays.files: holidays/2099.json and x.json are both of 2099: remove one"
        );
    }

    #[test]
    fn a_pattern_that_matches_no_file_yet_is_a_warning() {
        let text = format!(
            "holidays: {{files: ['holidays/*.json']}}\n{}",
            app("secret_env: A")
        );
        assert_eq!(
            Directory::new(&[(MAIN, &text)]).warnings(),
            "wxapp-portrait.yml:1: holidays.files: no file matches holidays/*.json"
        );
    }

    #[test]
    fn the_same_list_is_reported_once_for_all_apps() {
        let text = "apps:
- {appid: wx0000000000000000, secret_env: A, holidays: {files: [x.json]}}
- {appid: wx1111111111111111, secret_env: A, holidays: {files: [x.json]}}
";
        let directory = Directory::new(&[(MAIN, text), ("x.json", "[]")]);
        let problems = directory.problems();
        assert!(problems.starts_with("wxapp-portrait.yml:2: apps[0].holidays.files: x.json: "));
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}
