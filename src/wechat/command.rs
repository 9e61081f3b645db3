//! Runs a program that gives a token.
//!
//! Without a shell and for a limited time. What it says on standard error goes to the log, without
//! the token. Knows neither what the output means nor when to ask.

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::wire;
use crate::portrait::AppId;

/// A program that takes longer is ended.
const LIMIT: Duration = Duration::from_secs(10);

/// So long is read from outputs that are still open when a program has ended.
const REST: Duration = Duration::from_secs(1);

/// So many bytes of an output are looked at; no token is as long.
const LONGEST_OUTPUT: usize = 64 << 10;

/// So many lines of standard error are logged, the last ones.
const LOGGED: usize = 20;

/// Runs a program and returns what it wrote to its standard output.
///
/// # Errors
///
/// A sentence that names the program: it can't be run, takes too long, or ends with a failure.
pub(super) async fn run(appid: &AppId, words: &[String]) -> Result<Vec<u8>, String> {
    let [program, arguments @ ..] = words else {
        return Err("token_command is empty".to_owned());
    };
    let failed = |error| format!("cannot run token_command {program}: {error}");
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map(Group)
        .map_err(failed)?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let pipes = (child.0.stdout.take(), child.0.stderr.take());
    let work = async {
        let outputs = async {
            tokio::join!(
                read(pipes.0, &mut stdout, Kept::Beginning),
                read(pipes.1, &mut stderr, Kept::End)
            )
        };
        let mut outputs = pin!(outputs);
        tokio::select! {
            _ = &mut outputs => child.0.wait().await,
            ended = child.0.wait() => {
                // What it left running may hold its outputs open.
                let _ = tokio::time::timeout(REST, outputs).await;
                ended
            }
        }
    };
    let ended = tokio::time::timeout(LIMIT, work).await;
    log(appid, program, &stdout, &stderr);
    match ended {
        Err(_) => Err(format!(
            "token_command {program} took longer than {} seconds and was ended; what it wrote to standard error is in the log",
            LIMIT.as_secs()
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

/// Reads to the end, so that the program can go on writing, and keeps a part.
async fn read(pipe: Option<impl AsyncRead + Unpin>, output: &mut Vec<u8>, kept: Kept) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; 8 << 10];
    // What was read before it broke is all there is.
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        output.extend_from_slice(&buffer[..length]);
        let excess = output.len().saturating_sub(LONGEST_OUTPUT);
        match kept {
            Kept::Beginning => output.truncate(LONGEST_OUTPUT),
            Kept::End => drop(output.drain(..excess)),
        }
    }
}

fn log(appid: &AppId, program: &str, stdout: &[u8], stderr: &[u8]) {
    let token = wire::given_token(stdout).ok().map(|token| token.value);
    let stderr = String::from_utf8_lossy(stderr);
    let lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let lines: Vec<&str> = lines.collect();
    for line in &lines[lines.len().saturating_sub(LOGGED)..] {
        let line = match &token {
            Some(token) => line.replace(token.as_str(), "[redacted]"),
            None => (*line).to_owned(),
        };
        tracing::warn!(%appid, program, line = wire::redact(&line), "token_command wrote to standard error");
    }
}

/// A program that is ended, with all that it started, when nobody waits for it any more.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // None once it has ended by itself and was waited for.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = id.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn output_of(script: &str) -> Result<Vec<u8>, String> {
        let words = ["sh", "-c", script].map(str::to_owned);
        run(&"wx0123456789abcdef".parse().unwrap(), &words).await
    }

    #[tokio::test]
    async fn what_a_program_leaves_running_is_not_waited_for() {
        let start = Instant::now();
        assert_eq!(
            output_of("sleep 30 & echo token").await.unwrap(),
            b"token\n"
        );
        assert!(start.elapsed() < LIMIT);
    }

    #[tokio::test]
    async fn a_program_may_say_as_much_as_it_likes() {
        let script = "seq 200000 >&2; echo token; seq 200000";
        let output = output_of(script).await.unwrap();
        assert_eq!(output.len(), LONGEST_OUTPUT);
        assert!(output.starts_with(b"token\n1\n"));
    }
}
