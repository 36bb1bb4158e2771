//! Runs a command to its end and keeps the last lines of its output.

use std::collections::VecDeque;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gem_platform::process::{Guard, Program, Supervised, null_input};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Error;
use super::command::describe;
use crate::net::TOKEN_VARIABLES;

const TAIL_LINES: usize = 15;
/// The maximum length of a command's output on a stream that is kept, in bytes.
const MOST_OUTPUT: u64 = 4 << 20;
/// How long the output of a command that has ended may stay open.
const LEFT_BEHIND: Duration = Duration::from_millis(200);
/// A command that prints nothing for this long is considered hung.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(600);

/// Why a command did not succeed.
#[derive(Debug)]
pub(super) enum Ended {
    /// The command could not be started or waited for.
    Lost(io::Error),
    /// The command failed.
    Badly {
        /// The exit status or signal.
        outcome: String,
        /// The last lines of its output, without secrets.
        tail: String,
    },
    /// The command printed nothing, or did not end, within a time limit.
    Silent {
        /// The time limit.
        limit: Duration,
        /// The last lines of its output, without secrets.
        tail: String,
    },
}

impl Ended {
    /// The same failure as an error of the runtime's program `command`.
    pub(super) fn into_error(self, command: &Program) -> Error {
        match self {
            Self::Lost(source) => Error::Start {
                program: command.path.clone(),
                source,
            },
            Self::Badly { outcome, tail } => Error::Failed {
                command: describe(command),
                outcome,
                tail,
            },
            Self::Silent { limit, tail } => Error::TimedOut {
                command: describe(command),
                seconds: limit.as_secs(),
                tail,
            },
        }
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// The last lines of a command's output.
#[derive(Debug, Default)]
pub(super) struct Tail(VecDeque<String>);

impl Tail {
    pub(super) fn push(&mut self, line: String) {
        self.0.push_back(line);
        if self.0.len() > TAIL_LINES {
            self.0.pop_front();
        }
    }

    /// All lines as one text.
    pub(super) fn text(&mut self) -> String {
        self.0.make_contiguous().join("\n")
    }
}

/// Runs `command` to its end, which must come within `limit` and before it has printed too much, and returns its standard output.
pub(crate) async fn output_of(command: &Program, limit: Duration) -> Result<String, Error> {
    let ended = match timeout(limit, finish(command)).await {
        Ok(Ok((status, stdout, _))) if status.success() => return Ok(stdout),
        Ok(Ok((status, _, stderr))) => Ended::Badly {
            outcome: status.to_string(),
            tail: without_secrets(stderr.trim(), &command.inherited(&TOKEN_VARIABLES)),
        },
        Ok(Err(error)) => Ended::Lost(error),
        Err(_) => {
            let tail = String::new();
            Ended::Silent { limit, tail }
        }
    };
    Err(ended.into_error(command))
}

/// Runs `command` to its end: how it ended, and what it printed on either stream.
async fn finish(command: &Program) -> io::Result<(ExitStatus, String, String)> {
    let mut child = tokio::process::Command::from(command.command())
        .stdin(null_input()?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let streams = (child.stdout.take(), child.stderr.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = {
        let reading =
            async { tokio::try_join!(read_whole(streams.0, &mut stdout), read_whole(streams.1, &mut stderr)) };
        let mut reading = std::pin::pin!(reading);
        tokio::select! {
            biased;
            read = &mut reading => {
                read?;
                child.wait().await?
            }
            status = child.wait() => {
                // A process that it left behind may keep its output open.
                timeout(LEFT_BEHIND, reading).await.unwrap_or(Ok(((), ())))?;
                status?
            }
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status, text(stdout), text(stderr)))
}

async fn read_whole(stream: Option<impl AsyncRead + Unpin>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let Some(stream) = stream else {
        return Ok(());
    };
    stream.take(MOST_OUTPUT + 1).read_to_end(bytes).await?;
    if bytes.len() as u64 > MOST_OUTPUT {
        return Err(io::Error::other(format!("it prints more than {MOST_OUTPUT} bytes")));
    }
    Ok(())
}

/// Runs `command` to its end in its own process group, so that it never outlives gem-setup. Ends it if it prints
/// nothing for too long. `each_line` receives each printed line, without passwords in URLs.
pub(super) async fn run(command: &Program, guard: &Guard, each_line: impl Fn(&str)) -> Result<(), Ended> {
    let mut child = Supervised::spawn(command, guard)?;
    let secrets = command.inherited(&TOKEN_VARIABLES);
    let (stdout, stderr) = child.take_output();
    let tail = Mutex::new(Tail::default());
    let (heard, mut last) = watch::channel(());
    let say = |line: &str| {
        heard.send_replace(());
        let line = without_secrets(line, &secrets);
        each_line(&line);
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    };
    let ended = async {
        tokio::join!(read(stdout, &say), read(stderr, &say));
        child.wait().await
    };
    let ended = tokio::select! {
        ended = ended => Some(ended),
        () = silence(&mut last) => None,
    };
    child.kill_group(guard);
    let tail = || tail.lock().unwrap_or_else(PoisonError::into_inner).text();
    let Some(ended) = ended else {
        let (limit, tail) = (SILENCE_LIMIT, tail());
        return Err(Ended::Silent { limit, tail });
    };
    let status = ended?;
    if status.success() {
        return Ok(());
    }
    Err(Ended::Badly {
        outcome: status.to_string(),
        tail: tail(),
    })
}

/// Resolves when nothing was printed for [`SILENCE_LIMIT`].
async fn silence(last: &mut watch::Receiver<()>) {
    while let Ok(Ok(())) = timeout(SILENCE_LIMIT, last.changed()).await {}
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

/// `line` without the `secrets`, and without the user part of URLs, where package indexes have their password.
pub(super) fn without_secrets(line: &str, secrets: &[String]) -> String {
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

    #[tokio::test]
    #[cfg_attr(windows, ignore = "needs a shell")]
    async fn a_process_left_behind_does_not_hold_its_starter() {
        let command = Program {
            path: "/bin/sh".into(),
            args: ["-c", "echo 1.2; sleep 5 & exit"].map(Into::into).into(),
            ..Program::default()
        };
        let said = output_of(&command, Duration::from_secs(4)).await;
        assert_eq!(said.unwrap(), "1.2\n");
    }

    #[test]
    fn neither_tokens_nor_passwords_in_urls_are_shown() {
        assert_eq!(
            without_secrets(
                "ERROR: hf_x at https://me:pw@host/simple and https://host/a@b",
                &["hf_x".to_owned()]
            ),
            "ERROR: [hidden] at https://[hidden]@host/simple and https://host/a@b"
        );
    }
}
