//! Access tokens: where each app gets its own.
//!
//! `source` requests one as configured, `command` runs programs, `read` decodes the result
//! or reports why it is not a token. How long a token is used is decided by `access`.

mod command;
mod read;
mod source;

pub use read::{Token, given, issued};
#[cfg(test)]
pub(super) use source::{by_command, given_by, missing_file};
