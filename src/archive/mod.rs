//! The archive: a row per app, window and reference date.
//!
//! WeChat deletes a day after two days; what is written here is the only record that remains. Answers
//! are stored as WeChat sent them, compressed, so that `sqlite3` can query them and a later version can
//! decode them better. `handle` is the thread that owns the file, `sqlite` the file, `record` its
//! contents, `figures` what past days need of an answer, `health` its current problem, `lock` keeps other
//! exporters away, `sharing` is how several use one archive, `space` is what is left on the disk. When to request a day, and whether it has changed,
//! is decided in `poll`.

mod error;
mod figures;
mod handle;
mod health;
mod lock;
mod postgres;
mod record;
mod sharing;
pub mod space;
mod sqlite;
mod store;

pub use error::{Error, Operation, Place};
pub use handle::Archive;
pub use postgres::Database;
pub use record::{
    Coverage, DayState, Key, Record, Restored, RestoredDay, Row, Selection, UnreadDay,
};
pub use sharing::{ChangedDay, Lease, Round, Sharing};
pub use sqlite::Staging;
pub use store::Store;
