//! What the program can do: a file for each command, wiring only.
//!
//! `run` chooses the command; `archive` is which archive they use, `context` what they take from the
//! process, `output` what they write for people, `listen` where they listen, `error` why they fail.

mod archive;
mod check;
mod context;
pub mod demo;
mod error;
mod export;
mod healthcheck;
mod import;
mod listen;
mod output;
mod run;
pub mod serve;
pub mod simulate;

pub use context::{Environment, Hangup, ProcessContext};
pub use error::Error;
use listen::{listen, local_url};
use output::{
    is_stdout_closed, log_warnings, print_stderr, print_stdout, progress, progress_without_end,
};
use run::GRACE;
pub use run::run;
use run::without_blocking;
