//! Access tokens: where each app gets its own.
//!
//! `source` requests one as configured, `command` runs programs, `read` decodes the result
//! or reports why it is not a token. How long a token is used is decided by `access`.

mod command;
mod read;
mod source;

pub(super) use read::Token;
#[cfg(test)]
pub(super) use {read::given, source::by_command, source::given_by, source::missing_file};
