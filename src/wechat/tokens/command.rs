//! Runs a program that prints a token.
//!
//! Without a shell and for a limited time. What it writes to standard error goes to the log, without
//! the token. Does not interpret the output or decide when a token is due.

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::read;
use crate::wechat::access::Caller;
use crate::wechat::redact::Redactor;

/// How long a program may take before it is killed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long to continue reading outputs that are still open when a program has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How many bytes of an output are kept; every token is shorter.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// How many lines of standard error are logged, the last ones.
const MAX_LOGGED_LINES: usize = 20;

/// Runs a program without the hidden variables of the environment, and returns what it wrote to its standard
/// output.
///
/// What it wrote to standard error when it failed goes to the log, unless that equals `last_stderr`.
///
/// # Errors
///
/// A sentence that names the program: it can't be run, takes too long, or fails.
pub(super) async fn run(
    caller: &Caller,
    words: &[String],
    hidden_variables: &[String],
    last_stderr: &mut String,
) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = words else {
        return Err("token_command is empty".to_owned());
    };
    let failed = |error| format!("cannot run token_command {program}: {error}");
    let mut command = Command::new(program);
    for variable in hidden_variables {
        command.env_remove(variable);
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let group = ProcessGroup::of(&child);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let pipes = (child.stdout.take(), child.stderr.take());
    let work = async {
        let outputs = async {
            tokio::join!(
                drain(pipes.0, &mut stdout, Kept::Beginning),
                drain(pipes.1, &mut stderr, Kept::End)
            )
        };
        let mut outputs = pin!(outputs);
        tokio::select! {
            _ = &mut outputs => child.wait().await,
            ended = child.wait() => {
                // Its child processes may hold its outputs open.
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, outputs).await;
                ended
            }
        }
    };
    let ended = tokio::time::timeout(TIMEOUT, work).await;
    drop(group);
    let succeeded = matches!(&ended, Ok(Ok(status)) if status.success());
    let stderr = logged(&stdout, &stderr);
    if succeeded || stderr != *last_stderr {
        log(caller, program, &stderr, succeeded);
    }
    *last_stderr = if succeeded { String::new() } else { stderr };
    match ended {
        Err(_) => Err(format!(
            "token_command {program} took longer than {} seconds and was ended; what it wrote to standard error is in the log",
            TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(status)) if status.success() => Ok(stdout),
        Ok(Ok(status)) => Err(format!(
            "token_command {program} failed ({status}); what it wrote to standard error is in the log"
        )),
    }
}

/// Which part of an output is kept if it is long.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Beginning,
    End,
}

/// Reads to the end, so that the program can continue writing, and keeps a part.
async fn drain(pipe: Option<impl AsyncRead + Unpin>, output: &mut Vec<u8>, kept: Kept) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 << 10];
    // Only what was read before the failure is available.
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        output.extend_from_slice(&buffer[..length]);
        let excess = output.len().saturating_sub(MAX_OUTPUT_BYTES);
        match kept {
            Kept::Beginning => output.truncate(MAX_OUTPUT_BYTES),
            Kept::End => drop(output.drain(..excess)),
        }
    }
}

/// Returns the last lines of standard error, without the token.
fn logged(stdout: &[u8], stderr: &[u8]) -> String {
    let mut redactor = Redactor::default();
    if let Ok(token) = read::given(stdout, &redactor) {
        redactor.add(&token.value);
    }
    let stderr = String::from_utf8_lossy(stderr);
    let lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<String> = lines.map(|line| redactor.redact(line)).collect();
    lines[lines.len().saturating_sub(MAX_LOGGED_LINES)..].join("\n")
}

fn log(caller: &Caller, program: &str, stderr: &str, succeeded: bool) {
    const MESSAGE: &str = "token_command wrote to standard error";
    let Caller { appid, name, .. } = caller;
    for line in stderr.lines() {
        if succeeded {
            tracing::debug!(%appid, app = name, program, line, "{MESSAGE}");
        } else {
            tracing::warn!(%appid, app = name, program, line, "{MESSAGE}");
        }
    }
}

/// The process group of a program, which is killed when the program is no longer waited for: what it
/// has started must not outlive it, or every poll would add to that.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails if none of it is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::access::AccessMethod;

    async fn output_of(script: &str) -> Result<Vec<u8>, String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let caller = Caller {
            appid: "wx0123456789abcdef".parse().unwrap(),
            name: "商城".to_owned(),
            method: AccessMethod::CloudHosting,
        };
        run(&caller, &words, &["HOME".to_owned()], &mut String::new()).await
    }

    #[tokio::test]
    async fn hidden_variables_are_not_inherited() {
        let output = output_of("echo ${HOME-hidden} ${PATH:+visible}").await;
        assert_eq!(output.unwrap(), b"hidden visible\n");
    }

    #[tokio::test]
    async fn child_processes_are_not_waited_for() {
        let start = Instant::now();
        assert_eq!(
            output_of("sleep 30 & echo token").await.unwrap(),
            b"token\n"
        );
        assert!(start.elapsed() < TIMEOUT);
    }

    #[tokio::test]
    async fn child_processes_are_killed() {
        let output = output_of("sleep 600 >&- 2>&- & echo $!; (sleep 600 & echo $!) 2>&-")
            .await
            .unwrap();
        let ids = String::from_utf8(output).unwrap();
        assert_eq!(ids.lines().count(), 2);
        let start = Instant::now();
        for id in ids.lines() {
            loop {
                let state = std::fs::read_to_string(format!("/proc/{id}/stat"));
                // Dead, even if it was not reaped.
                if state.is_ok_and(|state| !state.contains(") Z ")) {
                    assert!(start.elapsed() < TIMEOUT, "{id} still runs");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                } else {
                    break;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_program_may_write_as_much_as_it_likes() {
        let script = "seq 200000 >&2; echo token; seq 200000";
        let output = output_of(script).await.unwrap();
        assert_eq!(output.len(), MAX_OUTPUT_BYTES);
        assert!(output.starts_with(b"token\n1\n"));
    }
}
