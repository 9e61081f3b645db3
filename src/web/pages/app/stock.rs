//! What is archived of an app, and its last polls.

use chrono::NaiveDate;

use crate::state::{AppSnapshot, PolledBy, WindowSnapshot};
use crate::web::pages::frame::Frame;
use crate::web::pages::sentences;

/// How many gaps are listed.
const MOST_GAPS: usize = 10;

/// What is archived.
#[derive(Debug)]
pub(super) struct Stock {
    pub(super) days: u64,
    pub(super) range: String,
    /// `None` while they are not known.
    pub(super) gaps: Option<Vec<String>>,
    pub(super) more_gaps: usize,
    pub(super) revisions: u64,
    pub(super) unstored: usize,
    pub(super) polls: Vec<PollRow>,
    /// What is said if there are none.
    pub(super) no_polls: &'static str,
}

#[derive(Debug)]
pub(super) struct PollRow {
    pub(super) at: String,
    pub(super) day: String,
    pub(super) outcome: String,
}

impl Stock {
    pub(super) fn new(frame: &Frame, app: &AppSnapshot, window: &WindowSnapshot) -> Self {
        let language = frame.language;
        let coverage = &window.coverage;
        let range = |(first, last): (NaiveDate, NaiveDate)| {
            if first == last {
                first.to_string()
            } else {
                language.pick(format!("{first} 至 {last}"), format!("{first} to {last}"))
            }
        };
        // Days that wait for the archive are not lost.
        let gaps = app.gaps(window, frame.now);
        let more_gaps = gaps.as_ref().map_or(0, Vec::len).saturating_sub(MOST_GAPS);
        let gaps = gaps.map(|gaps| gaps.into_iter().rev().take(MOST_GAPS).map(range).collect());
        let polls = window.recent_polls.iter().map(|poll| PollRow {
            at: frame.time(poll.at),
            day: language.day(poll.day),
            outcome: sentences::outcome(language, poll.outcome),
        });
        Self {
            days: coverage.days(),
            range: coverage.bounds().map_or_else(String::new, range),
            gaps,
            more_gaps,
            revisions: coverage.revisions,
            unstored: app.unstored,
            polls: polls.collect(),
            no_polls: if app.polled_by == PolledBy::This {
                language.pick("启动以来尚未拉取。", "None since the exporter started.")
            } else {
                language.pick(
                    "启动以来未由本 exporter 拉取。",
                    "None by this exporter since it started.",
                )
            },
        }
    }
}
