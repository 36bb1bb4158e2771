//! Runs one command to its end in its own process group, so that it never outlives gem-setup.

use std::collections::VecDeque;
use std::io;
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};

use gem_platform::process::{Guard, Program, Supervised};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::super::Error;
use super::super::command::describe;

const TAIL_LINES: usize = 15;

/// Why a command did not end well.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was never begun, or lost.
    Lost(io::Error),
    /// It failed.
    Badly {
        /// How.
        status: ExitStatus,
        /// The last lines of its output, nothing secret in them.
        tail: String,
    },
}

impl Ended {
    /// The same as an error of the runtime that `command` is.
    pub(super) fn into_runtime_error(self, command: &Program) -> Error {
        match self {
            Self::Lost(source) => Error::Start {
                program: command.path.clone(),
                source,
            },
            Self::Badly { status, tail } => Error::Failed {
                command: describe(command),
                outcome: status.to_string(),
                tail,
            },
        }
    }
}

/// Runs `command`; `each_line` receives each printed line, without `secrets` and without passwords in URLs.
pub(super) async fn run(
    command: &Program,
    guard: &Guard,
    secrets: &[&str],
    each_line: impl Fn(&str),
) -> Result<(), Ended> {
    let mut child = Supervised::spawn(command, guard).map_err(Ended::Lost)?;
    let (stdout, stderr) = child.take_output();
    let tail = Mutex::new(VecDeque::new());
    let say = |line: &str| {
        let line = without_secrets(line, secrets);
        each_line(&line);
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.push_back(line);
        if tail.len() > TAIL_LINES {
            tail.pop_front();
        }
    };
    tokio::join!(read(stdout, &say), read(stderr, &say));
    let ended = child.wait().await;
    child.kill_group(guard);
    let status = ended.map_err(Ended::Lost)?;
    if status.success() {
        return Ok(());
    }
    let tail = tail.into_inner().unwrap_or_else(PoisonError::into_inner);
    Err(Ended::Badly {
        status,
        tail: Vec::from(tail).join("\n"),
    })
}

async fn read(stream: Option<impl AsyncRead + Unpin>, say: &impl Fn(&str)) {
    let Some(stream) = stream else { return };
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
        let text = String::from_utf8_lossy(&line);
        let last_state = text.trim_end().rsplit('\r').next().unwrap_or_default().trim_end();
        if !last_state.is_empty() {
            say(last_state);
        }
        line.clear();
    }
}

/// `line` without the `secrets` and without the user part of URLs, where indexes with a password have it.
fn without_secrets(line: &str, secrets: &[&str]) -> String {
    let mut line = secrets
        .iter()
        .fold(line.to_owned(), |line, secret| line.replace(secret, "[hidden]"));
    let mut from = 0;
    while let Some(start) = line[from..].find("://").map(|found| from + found + 3) {
        let end = line[start..]
            .find(|c: char| c == '/' || c.is_whitespace())
            .map_or(line.len(), |length| start + length);
        if let Some(at) = line[start..end].rfind('@') {
            line.replace_range(start..start + at, "[hidden]");
        }
        from = start;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_tokens_nor_passwords_in_urls_are_shown() {
        assert_eq!(
            without_secrets(
                "ERROR: hf_x at https://me:pw@host/simple and https://host/a@b",
                &["hf_x"]
            ),
            "ERROR: [hidden] at https://[hidden]@host/simple and https://host/a@b"
        );
    }
}
