//! Rows that the archive did not accept yet, within limits.
//!
//! While the archive can't be written, answers wait in memory; WeChat deletes them after two days. The
//! memory of all apps together is limited.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::NaiveDate;

use crate::archive::{Key, Row};
use crate::portrait::Window;

/// How many bytes may wait, of all apps together: about ten thousand answers.
const MOST_BYTES: usize = 64 << 20;

/// How much memory all backlogs use.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// The rows of one app that wait, in the order of arrival.
#[derive(Debug)]
pub(super) struct Backlog {
    rows: Vec<Arc<Row>>,
    /// The days whose rows had to go since the archive took rows last.
    dropped: BTreeSet<Key>,
    budget: Budget,
}

impl Backlog {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            rows: Vec::new(),
            dropped: BTreeSet::new(),
            budget,
        }
    }

    /// Adds a row, replacing an older one of its day; returns the days whose rows were dropped for the
    /// first time since the archive took rows last, as there is no room for them.
    pub(super) fn push(&mut self, row: Arc<Row>) -> Vec<Key> {
        self.remove(&row.key);
        self.budget.0.fetch_add(row.memory(), Ordering::Relaxed);
        self.rows.push(row);
        let mut dropped = Vec::new();
        while self.budget.0.load(Ordering::Relaxed) > MOST_BYTES && self.rows.len() > 1 {
            let oldest = self.rows.remove(0);
            self.release(&oldest);
            if self.dropped.insert(oldest.key.clone()) {
                dropped.push(oldest.key.clone());
            }
        }
        dropped
    }

    /// Returns `true`, once, if rows were dropped.
    pub(super) fn take_dropped(&mut self) -> bool {
        !std::mem::take(&mut self.dropped).is_empty()
    }

    /// Removes the row of a day, if it waits.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Arc<Row>> {
        let index = self.rows.iter().position(|row| row.key == *key)?;
        let row = self.rows.remove(index);
        self.release(&row);
        Some(row)
    }

    /// Returns the row of a day, if it waits.
    pub(super) fn get(&self, window: Window, day: NaiveDate) -> Option<&Arc<Row>> {
        let is_it = |row: &&Arc<Row>| row.key.window == window && row.key.reference_date == day;
        self.rows.iter().find(is_it)
    }

    /// Returns all rows; cheap.
    pub(super) fn rows(&self) -> Vec<Arc<Row>> {
        self.rows.clone()
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn clear(&mut self) {
        for row in std::mem::take(&mut self.rows) {
            self.release(&row);
        }
    }

    fn release(&self, row: &Row) {
        self.budget.0.fetch_sub(row.memory(), Ordering::Relaxed);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.clear();
    }
}
