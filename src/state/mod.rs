//! What is known about every configured app: `registry` lists them, `snapshot` is what is known of one.
//!
//! A snapshot is immutable and replaced as a whole by the task that polls its app. The page, the status, and
//! readiness are functions of it.

mod registry;
mod snapshot;

pub use registry::{Progress, Registry};
pub use snapshot::{AppSnapshot, CohortSummary, Failure, Failures, Summary, WindowSnapshot};
