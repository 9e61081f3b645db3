//! Any names and figures on the page for Prometheus, and the compressed parts that it is joined from.

use std::collections::BTreeMap;
use std::io::Read as _;

use chrono::NaiveDate;
use flate2::read::GzDecoder;
use wxapp_portrait_exporter::calendar;
use wxapp_portrait_exporter::exposition::gzip::Member;
use wxapp_portrait_exporter::exposition::page::{self, Page, WindowLines};
use wxapp_portrait_exporter::past::PastDays;
use wxapp_portrait_exporter::portrait::{AppId, Cohort, Dimension, Portrait, UNKNOWN_NAME, Window};
use wxapp_portrait_exporter::state::{AppSnapshot, Comparison, Summary, WindowSnapshot};

use super::exposition::{self, Labels};

/// Ends a field; part of no UTF-8.
const END: u8 = 0xff;

/// An app and its days, the newest first.
struct App {
    snapshot: AppSnapshot,
    days: Vec<Portrait>,
}

/// Fields that each end with a byte that is not UTF-8. The first byte of a field says what it is: `a` an app with
/// this name, `l` a label of it, `d` that the following figures are of the day before, and any other
/// what eight further bytes count and the name that they count for.
///
/// The joined parts inflate to the plain page, which is valid and has every figure once.
pub fn page(data: &[u8]) {
    let apps = apps(data);
    let page = Page::default();
    let mut expected = BTreeMap::new();
    for app in &apps {
        publish(&page, app, &mut expected);
    }
    let all = checked(&page.all());
    let mut of_apps = BTreeMap::new();
    for app in &apps {
        of_apps.extend(checked(&page.of(&app.snapshot.appid).unwrap()));
    }
    assert_eq!(all, of_apps);
    let figures: BTreeMap<_, _> = all
        .into_iter()
        .filter(|((name, _), _)| name == "wxapp_portrait_users")
        .map(|((_, labels), users)| (labels, users))
        .collect();
    assert_eq!(figures, expected);
}

/// Publishes an app, and adds the series that the page must have of it.
fn publish(page: &Page, app: &App, expected: &mut BTreeMap<Labels, String>) {
    let App { snapshot, days } = app;
    let newest = &days[0];
    let mut past = PastDays::new(newest.window, &Dimension::ALL);
    for day in days {
        past.insert(day);
    }
    let of_past: Vec<_> = (1..).zip(&days[1..]).collect();
    let summary = Summary::new(newest, &past, &Comparison::default(), &Dimension::ALL);
    let appid = &snapshot.appid;
    let lines = WindowLines {
        users: Some(page::users(appid, newest, &Dimension::ALL)),
        past_users: Some(page::past_users(appid, &of_past, &Dimension::ALL)),
        summary: page::summary(appid, newest.window, &summary),
    };
    page.publish(snapshot, &[Some(lines)]);
    for (cohort, dimension, name, users) in newest.rows(&Dimension::ALL) {
        let labels = [
            ("appid", appid.as_str()),
            ("window", newest.window.as_str()),
            ("cohort", cohort.as_str()),
            ("dimension", dimension.as_str()),
            ("name", name),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        expected.insert(labels.into(), users.to_string());
    }
}

/// Returns the series of joined parts, whose compressed form must be the plain one.
fn checked(member: &Member) -> BTreeMap<(String, Labels), String> {
    let plain: Vec<u8> = member.clone().plain().flatten().collect();
    let gzip: Vec<u8> = member.clone().gzip().flatten().collect();
    assert_eq!((plain.len(), gzip.len()), (member.len(), member.gzip_len()));
    let mut inflated = Vec::new();
    let mut decoder = GzDecoder::new(&*gzip);
    decoder.read_to_end(&mut inflated).unwrap();
    assert!(decoder.into_inner().is_empty(), "more than one member");
    assert!(inflated == plain, "the parts are not the page");
    exposition::parse(&String::from_utf8(plain).unwrap())
}

fn apps(data: &[u8]) -> Vec<App> {
    let mut apps: Vec<App> = Vec::new();
    for field in data.split(|byte| *byte == END) {
        let Some((kind, rest)) = field.split_first() else {
            continue;
        };
        let number = apps.len();
        match (kind, apps.last_mut()) {
            (b'a', _) | (_, None) => apps.push(App::new(number, rest)),
            (b'l', Some(app)) => {
                let label = format!("label_{}", app.snapshot.labels.len());
                let value = String::from_utf8_lossy(rest).into_owned();
                app.snapshot.labels.insert(label, value);
            }
            (b'd', Some(app)) => app.add_day(),
            (kind, Some(app)) => app.add_users(*kind, rest),
        }
    }
    apps
}

impl App {
    fn new(number: usize, name: &[u8]) -> Self {
        let window = Window::ALL[number % Window::ALL.len()];
        let appid: AppId = format!("wx{number}").parse().unwrap();
        let mut app = Self {
            snapshot: AppSnapshot {
                name: String::from_utf8_lossy(name).into_owned(),
                is_polled: true,
                ..AppSnapshot::new(appid, vec![WindowSnapshot::new(window)])
            },
            days: Vec::new(),
        };
        let today = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        app.days.push(Portrait::new(window, today));
        app
    }

    fn add_day(&mut self) {
        let last = &self.days[self.days.len() - 1];
        let before = calendar::days_before(last.reference_date, 1);
        let day = Portrait::new(last.window, before);
        self.days.push(day);
    }

    fn add_users(&mut self, kind: u8, field: &[u8]) {
        let (users, name) = field.split_at(field.len().min(8));
        let users = users
            .iter()
            .fold(0, |users, byte| users << 8 | u64::from(*byte));
        let name = String::from_utf8_lossy(name);
        let is_blank = name.trim().is_empty();
        let name = if is_blank { UNKNOWN_NAME } else { &name }.to_owned();
        let choice = usize::from(kind);
        let cohort = Cohort::ALL[choice % Cohort::ALL.len()];
        let dimension = Dimension::ALL[choice / Cohort::ALL.len() % Dimension::ALL.len()];
        let day = self.days.len() - 1;
        self.days[day]
            .breakdown_mut(cohort, dimension)
            .add(name, users);
    }
}
