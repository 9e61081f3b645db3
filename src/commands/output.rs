//! What commands write for people: results, warnings, progress.

use std::io::{self, Write as _};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use super::Error;
use crate::config;

/// Logs what is allowed in a configuration but looks like a mistake.
pub(super) fn log_warnings(config: &config::Config) {
    for warning in &config.warnings {
        tracing::warn!(problem = warning, "questionable configuration");
    }
}

/// Writes lines to standard error, where the log would not do.
pub(super) fn print_stderr(text: &str) {
    if !text.is_empty() {
        // There is no other place to report that.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

/// Writes text to standard output; a closed pipe is not a failure.
pub(super) fn print_stdout(text: &str) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    let said = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
    match said {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Output(PathBuf::from("standard output"), error))
        }
        _ => Ok(()),
    }
}

/// Returns `true` if the program was started with standard output closed.
///
/// Writing to it succeeds even so, as Rust's runtime opens `/dev/null` in its place before `main`, so
/// that no other file takes its number. It opens it for reading and writing, whereas the redirection
/// `> /dev/null` of a shell, systemd and containers open it for writing only. Some programs do not: a
/// parent that passes on its own `/dev/null` for both directions, as Python's `DEVNULL` is, looks the
/// same. So this is for output that is the whole purpose of a command, and is lost in both cases.
pub(super) fn is_stdout_closed() -> bool {
    let output = io::stdout();
    let (Ok(mode), Ok(found), Ok(null)) = (
        rustix::fs::fcntl_getfl(&output),
        rustix::fs::fstat(&output),
        rustix::fs::stat("/dev/null"),
    ) else {
        return false;
    };
    let is_null =
        (found.st_dev, found.st_ino, found.st_rdev) == (null.st_dev, null.st_ino, null.st_rdev);
    is_null && mode & rustix::fs::OFlags::ACCMODE == rustix::fs::OFlags::RDWR
}

/// Shows progress, if standard error is a terminal.
pub(super) fn progress(total: u64, what: &str) -> ProgressBar {
    let template = format!("{{wide_bar}} {{human_pos}}/{{human_len}} {what}, {{eta}} left");
    let style = ProgressStyle::with_template(&template);
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Shows how much was done, if standard error is a terminal and the end is unknown.
pub(super) fn progress_without_end(what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {what}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}
