//! Runs a program that gives a token.
//!
//! Without a shell, for a limited time, and with all that it started. What it says on standard error
//! goes to the log, without the token. Knows neither what the output means nor when to ask.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::wire;
use crate::portrait::AppId;

/// A program that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(10);

/// No token is as long, and no message that anybody would read.
const LONGEST_OUTPUT: u64 = 64 << 10;

/// Runs a program and returns what it wrote to its standard output.
///
/// # Errors
///
/// A sentence that names the program: it can't be run, takes too long, or ends with a failure.
pub(super) async fn run(appid: &AppId, words: &[String]) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = words else {
        return Err("token_command is empty".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map(Group)
        .map_err(|error| format!("cannot run token_command {program}: {error}"))?;
    let (stdout, stderr) = (child.0.stdout.take(), child.0.stderr.take());
    let work = async {
        let (stdout, stderr) = tokio::join!(output(stdout), output(stderr));
        (child.0.wait().await, stdout, stderr)
    };
    let Ok((status, stdout, stderr)) = tokio::time::timeout(LIMIT, work).await else {
        return Err(format!(
            "token_command {program} took longer than {} s and was ended",
            LIMIT.as_secs()
        ));
    };
    let status = status.map_err(|error| format!("cannot run token_command {program}: {error}"))?;
    let token = wire::given_token(&stdout).ok().map(|token| token.value);
    let stderr = String::from_utf8_lossy(&stderr);
    for line in stderr.lines().filter(|line| !line.trim().is_empty()) {
        let line = match &token {
            Some(token) => line.replace(token.as_str(), "[redacted]"),
            None => line.to_owned(),
        };
        tracing::warn!(%appid, program, line = wire::redact(&line), "token_command wrote to standard error");
    }
    if status.success() {
        Ok(stdout)
    } else {
        Err(format!(
            "token_command {program} failed ({status}); what it wrote to standard error is in the log"
        ))
    }
}

async fn output(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        // What was read before it broke is all there is.
        let _ = pipe.take(LONGEST_OUTPUT).read_to_end(&mut read).await;
    }
    read
}

/// A program and all that it started, ended when nobody waits for it any more.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it has ended and was waited for.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
