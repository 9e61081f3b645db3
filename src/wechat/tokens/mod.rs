//! Access tokens: where each app gets its own.
//!
//! `source` requests one from whatever is configured, `command` runs programs, `read` takes what came
//! for a token or says why it is none. How long a token is used is for `access` to decide.

mod command;
mod read;
mod source;

pub(super) use read::Token;
#[cfg(test)]
pub(super) use {read::given, source::by_command, source::given_by};
