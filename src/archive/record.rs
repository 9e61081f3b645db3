//! The contents of the archive, as values: one answer, its state, and which days there are.
//!
//! Does not depend on SQL or files.

use std::io::Read as _;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use flate2::bufread::ZlibDecoder;

use super::figures;
use crate::deflate;
use crate::portrait::{AppId, Portrait, Window};
use crate::wechat::decode;

/// The key of a row: the app, the window, and the reference date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The app.
    pub appid: AppId,
    /// The window.
    pub window: Window,
    /// The last Beijing day covered.
    pub reference_date: NaiveDate,
}

/// What is known about the answers for one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayState {
    /// When the day became known.
    pub first_answered_at: DateTime<Utc>,
    /// When these figures last arrived.
    pub answered_at: DateTime<Utc>,
    /// Whether the last two answers agree.
    pub settled: bool,
    /// How often the figures changed.
    pub revisions: u32,
}

/// One answer and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The app, window and day.
    pub key: Key,
    /// What is known about it.
    pub state: DayState,
    /// JSON as WeChat sent it.
    pub answer: String,
}

/// One row, ready to be written: everything slow is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The app, window and day.
    pub key: Key,
    /// What is known about it.
    pub state: DayState,
    /// See [`Portrait::digest`]; none for an answer that can't be read.
    pub(super) digest: Option<u64>,
    /// What later days are compared with, see [`figures`].
    pub(super) figures: Option<String>,
    /// The length of the answer in bytes.
    pub(super) size: usize,
    /// The answer in zlib format, or as it is where that is not longer.
    pub(super) answer: Arc<[u8]>,
}

impl Row {
    /// Returns roughly how much memory it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        size_of::<Self>() + self.answer.len() + self.figures.as_ref().map_or(0, String::len)
    }

    /// Returns the answer, if it can be read.
    #[must_use]
    pub fn answer(&self) -> Option<String> {
        let answer = uncompress(&self.answer, self.size)?;
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Returns the row with another state.
    #[must_use]
    pub fn with_state(&self, state: DayState) -> Self {
        Self {
            state,
            ..self.clone()
        }
    }

    /// Prepares a record to be written; `portrait` is what its answer reads as, if it can be read.
    #[must_use]
    pub fn new(key: Key, state: DayState, answer: &str, portrait: Option<&Portrait>) -> Self {
        Self {
            key,
            state,
            digest: portrait.map(Portrait::digest),
            figures: portrait.map(figures::encode),
            size: answer.len(),
            answer: compress(answer.as_bytes()).into(),
        }
    }
}

impl From<&Record> for Row {
    /// Prepares a record to be written; reads its answer to do so.
    fn from(record: &Record) -> Self {
        let Record { key, state, answer } = record;
        let portrait = decode::archived(answer, key.window, key.reference_date).ok();
        Self::new(key.clone(), *state, answer, portrait.as_ref())
    }
}

/// Compresses an answer so that the `sqlar_uncompress` of SQLite's shell can read it.
fn compress(answer: &[u8]) -> Box<[u8]> {
    let compressed = deflate::zlib(answer);
    // A blob as long as the answer is taken for the answer itself.
    if compressed.len() < answer.len() {
        compressed
    } else {
        answer.into()
    }
}

/// Returns an answer that was compressed, or none if it is damaged.
pub(super) fn uncompress(blob: &[u8], size: usize) -> Option<Vec<u8>> {
    if blob.len() == size {
        return Some(blob.to_vec());
    }
    let mut answer = Vec::new();
    // The size may be damaged as well.
    ZlibDecoder::new(blob)
        .take(LARGEST_ANSWER)
        .read_to_end(&mut answer)
        .ok()?;
    (answer.len() == size).then_some(answer)
}

/// No answer is larger: 8 MiB are read from WeChat, and control characters are escaped.
const LARGEST_ANSWER: u64 = 64 << 20;

/// The archived days of an app and window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// First and last day of every stretch of days without a gap, the oldest first.
    stretches: Vec<(NaiveDate, NaiveDate)>,
    /// How often figures of these days changed.
    pub revisions: u64,
}

impl Coverage {
    /// Returns how many days are held.
    #[must_use]
    pub fn days(&self) -> u64 {
        let days = |(first, last): &(NaiveDate, NaiveDate)| (*last - *first).num_days() + 1;
        self.stretches.iter().map(days).sum::<i64>().unsigned_abs()
    }

    /// Returns the first and the last day, if there is any.
    #[must_use]
    pub fn bounds(&self) -> Option<(NaiveDate, NaiveDate)> {
        Some((self.stretches.first()?.0, self.stretches.last()?.1))
    }

    /// Returns the newest day held that is not after `last`.
    #[must_use]
    pub fn newest_until(&self, last: NaiveDate) -> Option<NaiveDate> {
        let mut stretches = self.stretches.iter().rev();
        let (_, end) = stretches.find(|(first, _)| *first <= last)?;
        Some(last.min(*end))
    }

    /// Returns the newest days that are held, the newest first.
    #[must_use]
    pub fn last_days(&self, limit: usize) -> Vec<NaiveDate> {
        let stretches = self.stretches.iter().rev();
        let days = stretches.flat_map(|(first, last)| {
            let days = std::iter::successors(Some(*last), NaiveDate::pred_opt);
            days.take_while(move |day| day >= first)
        });
        days.take(limit).collect()
    }

    /// Returns `true` if the day is held.
    #[must_use]
    pub fn has(&self, day: NaiveDate) -> bool {
        let stretches = self.stretches.iter();
        stretches
            .rev()
            .any(|(first, last)| (*first..=*last).contains(&day))
    }

    /// Returns first and last day of every stretch that is missing after the first day held and
    /// before `end`, the oldest first.
    #[must_use]
    pub fn gaps(&self, end: NaiveDate) -> Vec<(NaiveDate, NaiveDate)> {
        let starts = self.stretches.iter().skip(1).map(|(first, _)| *first);
        self.stretches
            .iter()
            .zip(starts.chain([end]))
            .filter_map(|((_, last), next)| Some((last.succ_opt()?, next.min(end).pred_opt()?)))
            .filter(|(first, last)| first <= last)
            .collect()
    }

    /// Adds a day with its revisions, unless it is held already.
    pub fn add(&mut self, day: NaiveDate, revisions: u32) {
        if self.has(day) {
            return;
        }
        self.revisions += u64::from(revisions);
        let at = self.stretches.partition_point(|(first, _)| *first < day);
        self.stretches.insert(at, (day, day));
        // Joins neighbours that have no gap between them any more.
        self.stretches.dedup_by(|next, stretch| {
            let is_joined = stretch.1.succ_opt() == Some(next.0);
            if is_joined {
                stretch.1 = next.1;
            }
            is_joined
        });
    }
}

/// What the archive returns for an app and window after a restart.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// All days.
    pub coverage: Coverage,
    /// The newest days, the newest first.
    pub days: Vec<RestoredDay>,
    /// The newest of them whose answer can be read, and that answer.
    pub newest: Option<(NaiveDate, String)>,
}

/// A day as the archive holds it.
#[derive(Debug, Clone)]
pub struct RestoredDay {
    /// The day.
    pub reference_date: NaiveDate,
    /// What is known about it.
    pub state: DayState,
    /// See [`Portrait::digest`].
    pub digest: Option<u64>,
    /// Its figures in the dimensions of which WeChat lists every name; none if its answer can't be
    /// read.
    pub figures: Option<Portrait>,
}

/// A day whose figures are yet to be read, which need not be done on the thread of the archive.
#[derive(Debug)]
pub struct UnreadDay {
    pub(super) reference_date: NaiveDate,
    pub(super) state: DayState,
    pub(super) digest: Option<u64>,
    pub(super) text: UnreadText,
}

/// What the figures of a day are read from.
#[derive(Debug)]
pub(super) enum UnreadText {
    /// See [`figures`]; none for an answer that can't be read.
    Figures(Option<String>),
    /// The whole answer, of a row that is not converted yet and has neither figures nor a digest.
    Answer(String),
}

impl UnreadDay {
    /// Reads its figures, which belong to this window.
    #[must_use]
    pub fn read(self, window: Window) -> RestoredDay {
        let day = self.reference_date;
        let (digest, figures) = match self.text {
            UnreadText::Figures(text) => {
                let figures = text.and_then(|text| figures::decode(&text, window, day));
                (self.digest, figures)
            }
            UnreadText::Answer(answer) => {
                let portrait = decode::archived(&answer, window, day).ok();
                (portrait.as_ref().map(Portrait::digest), portrait)
            }
        };
        RestoredDay {
            reference_date: day,
            state: self.state,
            digest,
            figures,
        }
    }
}

/// Selects records; an empty list selects all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// The apps.
    pub appids: Vec<AppId>,
    /// The windows.
    pub windows: Vec<Window>,
    /// The first reference date.
    pub from: Option<NaiveDate>,
    /// The last reference date.
    pub to: Option<NaiveDate>,
    /// How many days that were archived before `from` are selected as well, of each app and window.
    pub lead: usize,
}

impl FromIterator<(NaiveDate, u32)> for Coverage {
    /// Collects days and their revisions, preferably in order.
    fn from_iter<T: IntoIterator<Item = (NaiveDate, u32)>>(days: T) -> Self {
        let mut coverage = Self::default();
        for (day, revisions) in days {
            coverage.add(day, revisions);
        }
        coverage
    }
}
