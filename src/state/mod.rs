//! What is known about every configured app: `registry` lists them, `snapshot` is what is known of one,
//! `summary` what one of its portraits amounts to.
//!
//! A snapshot is immutable and replaced as a whole by the task that polls its app. The page, the status, and
//! readiness are functions of it.

mod registry;
mod snapshot;
mod summary;

pub use registry::{Progress, Registry};
pub use snapshot::{
    AppSnapshot, Arrival, Failure, Failures, PollOutcome, PolledBy, RecentPoll, RecentPolls,
    WindowSnapshot,
};
pub use summary::{CohortSummary, Comparison, RECENT_DAYS, Summary};
