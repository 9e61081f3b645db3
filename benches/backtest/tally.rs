//! Named counters, and the Markdown tables of their means.
//!
//! A counter has a trial for every day, app or event that it is about. Its name is the heading of its
//! column, and columns are in the order in which counters are first used.

/// The days of a year.
const YEAR: f64 = 365.0;

/// What a column shows of a counter.
#[derive(Debug, Clone, Copy)]
enum Shows {
    /// Hits a year, where a trial is a day.
    AYear,
    /// The share of trials that are hits.
    Share,
    /// Hits for each trial.
    Mean,
    /// Trials in years, where a trial is a day.
    Years,
}

#[derive(Debug, Clone)]
struct Counter {
    name: &'static str,
    shows: Shows,
    hits: f64,
    trials: f64,
}

/// Counters of hits and trials.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally(Vec<Counter>);

impl Tally {
    /// Counts hits of a day, to be shown as hits a year.
    pub(crate) fn day(&mut self, name: &'static str, hits: impl Into<f64>) {
        self.add(name, Shows::AYear, hits.into(), 1.0);
    }

    /// Counts a day, to be shown as a part of years.
    pub(crate) fn years(&mut self, name: &'static str) {
        self.add(name, Shows::Years, 0.0, 1.0);
    }

    /// Counts hits of a trial, to be shown as their mean.
    pub(crate) fn mean(&mut self, name: &'static str, hits: impl Into<f64>) {
        self.add(name, Shows::Mean, hits.into(), 1.0);
    }

    /// Counts a trial, to be shown as the share of hits; `None` if there was none.
    pub(crate) fn trial(&mut self, name: &'static str, is_hit: Option<bool>) {
        let hits = f64::from(u8::from(is_hit.unwrap_or_default()));
        let trials = f64::from(u8::from(is_hit.is_some()));
        self.add(name, Shows::Share, hits, trials);
    }

    fn add(&mut self, name: &'static str, shows: Shows, hits: f64, trials: f64) {
        let place = self.0.iter().position(|counter| counter.name == name);
        let place = place.unwrap_or_else(|| {
            self.0.push(Counter {
                name,
                shows,
                hits: 0.0,
                trials: 0.0,
            });
            self.0.len() - 1
        });
        self.0[place].hits += hits;
        self.0[place].trials += trials;
    }

    fn merge(mut self, other: Self) -> Self {
        for Counter {
            name,
            shows,
            hits,
            trials,
        } in other.0
        {
            self.add(name, shows, hits, trials);
        }
        self
    }
}

impl Counter {
    fn cell(&self) -> String {
        let mean = self.hits / self.trials;
        match self.shows {
            _ if mean.is_nan() => "–".to_owned(),
            Shows::AYear => format!("{:.1}", YEAR * mean),
            Shows::Share => format!("{:.0}%", 100.0 * mean),
            Shows::Mean => format!("{mean:.2}"),
            Shows::Years => format!("{:.1}", self.trials / YEAR),
        }
    }
}

/// Counts every one of so many apps or series on all processors, and adds up the counters.
pub(crate) fn tally(items: u64, count: impl Fn(u64, &mut Tally) + Sync) -> Tally {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let count = &count;
        let threads: Vec<_> = (0..threads as u64)
            .map(|thread| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    for item in (thread..items).step_by(threads) {
                        count(item, &mut tally);
                    }
                    tally
                })
            })
            .collect();
        let tallies = threads.into_iter().map(|thread| thread.join().unwrap());
        tallies.fold(Tally::default(), Tally::merge)
    })
}

/// A Markdown table, printed row by row.
pub(crate) struct Table {
    labels: &'static [&'static str],
    has_header: bool,
}

impl Table {
    /// Prints what the table is about; these are the headings of the labels of its rows.
    pub(crate) fn new(about: &str, labels: &'static [&'static str]) -> Self {
        println!("{about}\n");
        Self {
            labels,
            has_header: false,
        }
    }

    pub(crate) fn row(&mut self, labels: &[String], tally: &Tally) {
        let counters = &tally.0;
        if !self.has_header {
            let names = counters.iter().map(|counter| counter.name);
            print_row(self.labels.iter().copied().chain(names));
            print_row(vec!["---"; self.labels.len() + counters.len()]);
            self.has_header = true;
        }
        let cells = counters.iter().map(Counter::cell);
        print_row(labels.iter().cloned().chain(cells));
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        println!();
    }
}

fn print_row(cells: impl IntoIterator<Item = impl Into<String>>) {
    let cells: Vec<String> = cells.into_iter().map(Into::into).collect();
    println!("| {} |", cells.join(" | "));
}

/// Formats a share for a label.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}
