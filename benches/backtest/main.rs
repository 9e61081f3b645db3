//! How often the bundled rules raise false alarms, and what they detect, as Markdown tables.
//!
//! Simulated years of daily users are replayed through the code of the exporter that decides what is
//! expected of a day and which alerts follow; a test holds it and the rules together. Some tables compare
//! it with the rule of an earlier version.
//!
//! `cargo bench --bench backtest -- [apps of each kind] [noise | calendar | trend | events | public]…`
//!
//! Without names it prints all tables except `public`, which downloads public series.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark prints, stops on errors, and its figures are small"
)]

mod before;
mod calendar;
mod events;
mod noise;
mod public;
mod replay;
mod simulation;
mod tally;
mod trend;

type PrintTable = fn(u64);

const TABLES: [(&str, PrintTable); 5] = [
    ("noise", noise::print),
    ("calendar", calendar::print),
    ("trend", trend::print),
    ("events", events::print),
    ("public", |_| public::print()),
];

fn main() {
    let mut apps = 20;
    let mut wanted = Vec::new();
    for argument in std::env::args().skip(1) {
        if let Ok(number) = argument.parse() {
            apps = number;
        } else if !argument.starts_with("--") {
            wanted.push(argument);
        }
    }
    let unknown = wanted
        .iter()
        .find(|name| !TABLES.iter().any(|(table, _)| table == name));
    assert_eq!(unknown, None, "not a table");
    for (name, print) in TABLES {
        let is_wanted = if wanted.is_empty() {
            name != "public"
        } else {
            wanted.iter().any(|wanted| wanted == name)
        };
        if is_wanted {
            print(apps);
        }
    }
}
