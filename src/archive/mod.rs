//! The archive: a row per app, window and reference date.
//!
//! WeChat forgets a day after two; what is written here is the only record that remains. Answers
//! are kept as WeChat sent them, compressed, so that `sqlite3` can query them and a later version can
//! read them better. `handle` is the thread that keeps the file, `sqlite` the file, `record` what is in
//! it, `figures` what past days need of an answer, `health` what is wrong. When to ask, and whether a
//! day has changed, is for `poll`.

mod error;
mod figures;
mod handle;
mod health;
mod record;
mod sqlite;

pub use error::{Error, Operation};
pub use handle::Archive;
pub use record::{Coverage, DayState, Key, Record, Restored, RestoredDay, Row, Selection};
pub use sqlite::Store;
