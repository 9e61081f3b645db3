//! How soon events are detected, how often their alerts repeat, and what is detected after them.

use chrono::NaiveDate;
use wxapp_portrait_exporter::calendar::Holidays;
use wxapp_portrait_exporter::expectation::HISTORY_DAYS;

use crate::replay::{Days, RULES, Rule, is_swing};
use crate::simulation::{App, DOUBLE, HALF, Profile};
use crate::tally::{Table, Tally, percent, tally};

/// By what the users of a day are multiplied, from the number of the day after the beginning and from the
/// part of that first day that the event lasts.
type Factor = fn(usize, f64) -> f64;

struct Event {
    name: &'static str,
    factor: Factor,
    /// The first alert counts within this many days.
    within: usize,
    /// How many days it lasts.
    lasts: usize,
}

const FOR_GOOD: usize = usize::MAX;

const EVENTS: [Event; 9] = [
    Event::new("halved for good", |_, _| 0.5, 1, FOR_GOOD),
    Event::new(
        "halved for good, from a random hour on",
        |day, part| if day == 0 { 1.0 - 0.5 * part } else { 0.5 },
        3,
        FOR_GOOD,
    ),
    Event::new("-30% for good", |_, _| 0.7, 7, FOR_GOOD),
    Event::new(
        "decline 3% a day",
        |day, _| declined(0.97, day),
        21,
        FOR_GOOD,
    ),
    Event::new(
        "decline 5% a day",
        |day, _| declined(0.95, day),
        21,
        FOR_GOOD,
    ),
    Event::new("x0.2 for a day", |_, _| 0.2, 1, 1),
    Event::new("x3 for a day", |_, _| 3.0, 1, 1),
    Event::new("x3 for seven days", |_, _| 3.0, 1, 7),
    Event::new("x0.3 for eight days", |_, _| 0.3, 1, 8),
];

/// How many days are replayed from the beginning of an event.
const REPLAYED: usize = 49;

/// How many days after an event others are tried.
const TRIED: usize = 28;

const YEAR: usize = 365;

/// An event begins after this many days, two of them a month.
const STEP: usize = 15;

impl Event {
    const fn new(name: &'static str, factor: Factor, within: usize, lasts: usize) -> Self {
        Self {
            name,
            factor,
            within,
            lasts,
        }
    }
}

fn declined(factor: f64, day: usize) -> f64 {
    factor.powf(1.0 + day as f64)
}

pub(crate) fn print(apps: u64) {
    let mut table = Table::new(
        &format!(
            "Events: {apps} apps with 1000 users a day, 24 beginnings each, every event alone. Detected is \
             the share of events with a swing of all users on the first day, and with a swing or the \
             beginning of a drift within so many days. Further swings, beginnings of drifts, and days on \
             which an alert has the same kind as one of the day before are counted for each event in 49 \
             days from its beginning. Then halving or doubling is tried on 28 days after the event."
        ),
        &["event", "noise", "rule", "days"],
    );
    let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
    let days = Days::new(first, HISTORY_DAYS + YEAR + REPLAYED, Holidays::none());
    for event in &EVENTS {
        for noise in [0.1, 0.2] {
            for (name, rule) in RULES {
                let counts = tally(apps, |seed, tally| {
                    for onset in days.trials().step_by(STEP).take(YEAR / STEP) {
                        let mut app = App::new(&days, Profile::steady(1_000.0, noise), seed);
                        replay(event, &mut app, onset, rule, tally);
                    }
                });
                let labels = [event.name.to_owned(), percent(noise), name.to_owned()];
                let within = event.within.to_string();
                table.row(&[&labels[..], &[within]].concat(), &counts);
            }
        }
    }
}

fn replay(event: &Event, app: &mut App<'_>, onset: usize, rule: Rule, tally: &mut Tally) {
    let part = onset as f64 * 0.618 % 1.0;
    let mut first = None;
    let (mut at_once, mut soon, mut later, mut drifts, mut repeats) = (false, 0, 0, 0, 0);
    let (mut previous, _) = app.history.judge(onset - 1, rule);
    let mut afterwards = Vec::new();
    for number in 0..REPLAYED {
        let day = onset + number;
        if number < event.lasts {
            let users = app.count(day, [(event.factor)(number, part); 3]);
            app.history.set(day, Some(users));
        }
        let (found, expectation) = app.history.judge(day, rule);
        let drift_begins = found.drift_begins(&previous);
        drifts += u32::from(drift_begins);
        repeats += u32::from(found.repeats(&previous));
        previous = found;
        at_once |= found.swing && number == 0;
        if first.is_none() && (found.swing || drift_begins) {
            first = Some(number);
        } else if found.swing {
            *(if number < 7 { &mut soon } else { &mut later }) += 1;
        }
        if number >= event.lasts && number - event.lasts < TRIED {
            afterwards
                .push([HALF, DOUBLE].map(|change| is_swing(&expectation, &app.count(day, change))));
        }
    }
    tally.trial("detected on the first day", Some(at_once));
    let is_in_time = first.is_some_and(|number| number < event.within);
    tally.trial("within these days", Some(is_in_time));
    tally.mean("further swings in days 1 to 6", soon);
    tally.mean("in days 7 to 48", later);
    tally.mean("drifts", drifts);
    tally.mean("days on which an alert repeats", repeats);
    tally.trial("halving detected afterwards", None);
    tally.trial("doubling", None);
    for [halving, doubling] in afterwards {
        tally.trial("halving detected afterwards", Some(halving));
        tally.trial("doubling", Some(doubling));
    }
}
